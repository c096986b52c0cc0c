//! What a file system keeps of an object's attributes, as text and as numbers: modification time and permission bits.
//!
//! Pure but for the two calls that apply them. Content types and other user metadata have no place in a file system and
//! are not kept; text under our names that is not ours (another tool's `mtime`) is passed over, as any other metadata is.

use std::os::fd::AsFd;

use manifest::Attributes;
use rustix::fs::{Mode, Stat, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens};
use rustix::io::Errno;

/// Attribute: modification time, seconds since 1970 with nine decimals.
pub(in crate::store) const MTIME: &str = "meta:mtime";
/// Attribute: permission bits in octal.
pub(in crate::store) const MODE: &str = "meta:understudy-mode";
/// Attribute: the content is a link's target path.
pub(super) const LINK: &str = "meta:understudy-link";

/// Only these bits travel: set-user-id, set-group-id and sticky bits do not come out of a store.
pub(in crate::store) const PERMISSION_BITS: u32 = 0o777;
const NS_PER_S: i64 = 1_000_000_000;

/// Nanoseconds since 1970, saturating (year 2262).
pub(super) fn mtime_ns(stat: &Stat) -> i64 {
    nanoseconds(stat.st_mtime, stat.st_mtime_nsec as i64)
}

/// Nanoseconds since 1970, saturating (year 2262).
pub(super) fn ctime_ns(stat: &Stat) -> i64 {
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec as i64)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(NS_PER_S).saturating_add(nanoseconds)
}

/// The attributes of a file, folder or (with `link`) a symbolic link.
pub(super) fn of_stat(stat: &Stat, link: bool) -> Attributes {
    let mut attributes = Attributes::from([(MTIME.to_owned(), format_mtime(mtime_ns(stat)))]);
    match link {
        true => attributes.insert(LINK.to_owned(), "true".to_owned()),
        false => attributes.insert(MODE.to_owned(), format!("{:04o}", stat.st_mode & PERMISSION_BITS)),
    };
    attributes
}

/// The permission bits that `attributes` ask for.
pub(in crate::store) fn permission_bits(attributes: &Attributes) -> Option<u32> {
    let bits = u32::from_str_radix(attributes.get(MODE)?, 8).ok()?;
    Some(bits & PERMISSION_BITS)
}

/// The same as a mode.
pub(super) fn mode(attributes: &Attributes) -> Option<Mode> {
    permission_bits(attributes).map(Mode::from_raw_mode)
}

/// The times that `attributes` ask for, as `futimens` takes them.
pub(super) fn times(attributes: &Attributes) -> Option<Timestamps> {
    let ns = parse_mtime(attributes.get(MTIME)?)?;
    Some(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: ns.div_euclid(NS_PER_S), tv_nsec: ns.rem_euclid(NS_PER_S) },
    })
}

/// Gives an open file or folder the mode and time that `attributes` name.
pub(super) fn apply(file: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    if let Some(mode) = mode(attributes) {
        fchmod(&file, mode)?;
    }
    if let Some(times) = times(attributes) {
        futimens(&file, &times)?;
    }
    Ok(())
}

/// `-1.500000000` is one and a half seconds before 1970.
pub(in crate::store) fn format_mtime(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09}", ns / NS_PER_S.unsigned_abs(), ns % NS_PER_S.unsigned_abs())
}

/// Seconds with up to nine decimals (more are cut off), as nanoseconds.
pub(in crate::store) fn parse_mtime(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let ns = whole.parse::<i64>().ok()?.checked_mul(NS_PER_S)?.checked_add(fraction)?;
    Some(if negative { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back_to_the_nanosecond() {
        for ns in [0, 1, -1, 999_999_999, -1_500_000_000, 1_700_000_000_123_456_789, i64::MAX, i64::MIN + 1] {
            assert_eq!(parse_mtime(&format_mtime(ns)), Some(ns), "{ns}");
        }
        assert_eq!(format_mtime(-1_500_000_000), "-1.500000000");
    }

    #[test]
    fn times_of_other_tools_are_read_or_passed_over() {
        let table = [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("1.1234567891", Some(1_123_456_789)),
            ("2024-01-01", None),
            ("1.", None),
            (".5", None),
            ("+1", None),
            ("1.-5", None),
            ("", None),
            ("99999999999999999999", None),
        ];
        for (text, ns) in table {
            assert_eq!(parse_mtime(text), ns, "{text}");
        }
    }

    #[test]
    fn set_id_bits_do_not_come_out_of_a_store() {
        let attributes = Attributes::from([(MODE.to_owned(), "4755".to_owned())]);
        assert_eq!(mode(&attributes), Some(Mode::from_raw_mode(0o755)));
        assert_eq!(mode(&Attributes::from([(MODE.to_owned(), "rwx".to_owned())])), None);
    }
}
