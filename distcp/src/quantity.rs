//! Sizes and lengths of time as people write them, on a command line and in a file. Pure.

use std::time::Duration;

/// A size in bytes: a number, with `K`, `M`, `G` or `T` in powers of 1024, or `KiB`, `MiB`, `GiB` or `TiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("expected a size such as 1048576, 64M or 2G, not {text:?}");
    let unit = text.strip_suffix("iB").filter(|short| short.ends_with(['K', 'M', 'G', 'T'])).unwrap_or(text);
    let (number, shift) = match unit.chars().last() {
        Some('K' | 'k') => (&unit[..unit.len() - 1], 10),
        Some('M' | 'm') => (&unit[..unit.len() - 1], 20),
        Some('G' | 'g') => (&unit[..unit.len() - 1], 30),
        Some('T' | 't') => (&unit[..unit.len() - 1], 40),
        _ => (unit, 0),
    };
    let number = digits(number).ok_or_else(bad)?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is more than 64 bits hold"))
}

/// A length of time: a number of seconds, or one with `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("expected a time such as 90, 90s, 30m, 12h or 7d, not {text:?}");
    let (number, seconds) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 60),
        Some('h') => (&text[..text.len() - 1], 3600),
        Some('d') => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    let number = digits(number).ok_or_else(bad)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| format!("{text:?} is more than 64 bits hold"))
}

/// A number of decimal digits only: `+5`, ` 5` and an empty text are none.
pub(crate) fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
/// A number with commas between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 object`, `1,200 objects`.
pub fn counted(count: u64, one: &str, more: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{} {more}", grouped(count)),
    }
}
