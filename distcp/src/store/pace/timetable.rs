//! A bandwidth limit by the time of day, as `--bwlimit` takes it. Pure: what holds when.

use super::super::Result;

/// Seconds in a day.
const DAY_SECONDS: u32 = 24 * 60 * 60;
/// Entries of a timetable: one for every quarter of an hour is plenty.
const MAX_ENTRIES: usize = 96;

/// A bandwidth limit, or none, by the time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// Start (seconds since midnight) and limit in bytes a second (`None`: no limit), ascending by start, not empty.
    entries: Vec<(u32, Option<u64>)>,
}

/// A bandwidth limit that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadTimetable(String);

impl Timetable {
    /// The same limit all day.
    pub fn constant(bytes_per_second: Option<u64>) -> Self {
        Self { entries: vec![(0, bytes_per_second)] }
    }

    /// Reads `10M`, `off`, or `08:00,10M 19:00,off`: from each time on, that many bytes a second (K, M, G, T are powers of
    /// 1024). The last entry holds until the first one of the next day.
    pub fn parse(text: &str) -> Result<Self, BadTimetable> {
        let bad = |why: String| BadTimetable(format!("the bandwidth limit {text:?} {why}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [one] = words.as_slice()
            && !one.contains(',')
        {
            return Ok(Self::constant(rate(one).ok_or_else(|| bad("is no rate like 10M or off".into()))?));
        }
        let mut entries = Vec::new();
        for word in &words {
            let (time, limit) = word.split_once(',').ok_or_else(|| bad(format!("has {word:?}, not HH:MM,RATE")))?;
            let start = time_of_day(time).ok_or_else(|| bad(format!("has the time {time:?}, not HH:MM")))?;
            let limit = rate(limit).ok_or_else(|| bad(format!("has the rate {limit:?}, not one like 10M or off")))?;
            if entries.last().is_some_and(|(last, _)| start <= *last) {
                return Err(bad(format!("has {time} after a time that is not earlier")));
            }
            entries.push((start, limit));
        }
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            return Err(bad(format!("has {} entries, 1 to {MAX_ENTRIES} are possible", entries.len())));
        }
        Ok(Self { entries })
    }

    /// The limit in bytes a second at a time of day (seconds since midnight); `None` is no limit.
    pub fn rate_at(&self, seconds: u32) -> Option<u64> {
        let seconds = seconds % DAY_SECONDS;
        let current = self.entries.iter().rev().find(|(start, _)| *start <= seconds);
        current.or(self.entries.last()).and_then(|(_, rate)| *rate)
    }

    /// Whether it never limits anything.
    pub fn is_unlimited(&self) -> bool {
        self.entries.iter().all(|(_, rate)| rate.is_none())
    }
}

/// `Some(None)` is no limit, `None` unreadable.
fn rate(text: &str) -> Option<Option<u64>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let (digits, unit) = match text.char_indices().last()? {
        (at, unit) if unit.is_ascii_alphabetic() => (&text[..at], unit.to_ascii_uppercase()),
        _ => (text, ' '),
    };
    let factor: u64 = match unit {
        ' ' | 'B' => 1,
        'K' => 1 << 10,
        'M' => 1 << 20,
        'G' => 1 << 30,
        'T' => 1 << 40,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    // No bytes a second would wait for ever.
    if number == 0 { None } else { Some(Some(number.checked_mul(factor)?)) }
}

fn time_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60 && text.len() <= 5).then_some((hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u32, minutes: u32) -> u32 {
        (hours * 60 + minutes) * 60
    }

    #[test]
    fn timetables_say_what_holds_when() {
        let table = Timetable::parse("08:00,10M 12:30,512K 19:00,off").unwrap();
        for (time, rate) in [
            (at(0, 0), None),
            (at(7, 59), None),
            (at(8, 0), Some(10 << 20)),
            (at(12, 29), Some(10 << 20)),
            (at(12, 30), Some(512 << 10)),
            (at(19, 0), None),
            (at(23, 59), None),
        ] {
            assert_eq!(table.rate_at(time), rate, "{time}");
        }
        assert_eq!(Timetable::parse("10M").unwrap(), Timetable::constant(Some(10 << 20)));
        assert_eq!(Timetable::parse("1000").unwrap().rate_at(5), Some(1000));
        assert!(Timetable::parse("off").unwrap().is_unlimited());
        assert!(!table.is_unlimited());
    }

    #[test]
    fn timetables_that_make_no_sense_are_refused() {
        for bad in
            ["", "0", "10X", "8,10M", "24:00,1M", "08:60,1M", "08:00,1M 08:00,2M", "19:00,off 08:00,1M", "x", "M"]
        {
            assert!(Timetable::parse(bad).is_err(), "{bad}");
        }
    }
}
