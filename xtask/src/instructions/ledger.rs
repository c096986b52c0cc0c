//! The instruction counts that were accepted, and what is said against new ones (pure).
//!
//! `benches/instructions.txt` has a line a benchmark: name, accepted count, and the least count that was ever accepted. A
//! count may be 10% above the accepted one. An accepted count may be 10% above the least one; past that a line of the change
//! log has to say so, with both numbers, so that many small steps up do not go unsaid either.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How far a count may rise, in percent.
pub const MAX_RISE_PERCENT: u64 = 10;

const HEAD: &str = "\
# Instructions of each benchmark in the dev profile, counted by `cargo xtask bench instructions`; `--accept` writes this file.
# Name, accepted count, least count ever accepted.
";

/// What was accepted for one benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// What new counts are compared with.
    pub count: u64,
    /// The least that ever stood here.
    pub least: u64,
}

/// All benchmarks by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ledger(BTreeMap<String, Accepted>);

/// Whether `count` is past what may follow `before` in silence.
fn is_past(count: u64, before: u64) -> bool {
    u128::from(count) * 100 > u128::from(before) * u128::from(100 + MAX_RISE_PERCENT)
}

/// By how much `count` is above (or below) `before`.
fn change(count: u64, before: u64) -> String {
    let percent = (count as f64 / before.max(1) as f64 - 1.0) * 100.0;
    format!("{percent:+.1}%")
}

impl Ledger {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut ledger = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(count), Some(least), None) = (words.next(), words.next(), words.next(), words.next())
            else {
                bail!("`{line}` is not a name and two counts");
            };
            let number = |text: &str| text.parse::<u64>().with_context(|| format!("a count in `{line}`"));
            let accepted = Accepted { count: number(count)?, least: number(least)? };
            ensure!(accepted.least <= accepted.count, "`{line}`: the least count is not the least");
            ensure!(ledger.0.insert(name.to_owned(), accepted).is_none(), "{name} stands there twice");
        }
        Ok(ledger)
    }

    /// The file.
    pub fn to_text(&self) -> String {
        self.0.iter().fold(HEAD.to_owned(), |mut text, (name, accepted)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {} {}", accepted.count, accepted.least);
            text
        })
    }

    /// The ledger once these counts are accepted: those, and no others.
    pub fn accept(&self, counts: &BTreeMap<String, u64>) -> Self {
        let accepted = |name: &String, count: u64| {
            let least = self.0.get(name).map_or(count, |before| before.least.min(count));
            (name.clone(), Accepted { count, least })
        };
        Self(counts.iter().map(|(name, count)| accepted(name, *count)).collect())
    }

    /// What is wrong with these counts: past the limit, or of other benchmarks than those that were accepted.
    pub fn objections(&self, counts: &BTreeMap<String, u64>) -> Vec<String> {
        let mut found = Vec::new();
        for (name, count) in counts {
            match self.0.get(name) {
                Some(accepted) if is_past(*count, accepted.count) => found.push(format!(
                    "{name} takes {count} instructions, {} against the {} accepted (at most +{MAX_RISE_PERCENT}%)",
                    change(*count, accepted.count),
                    accepted.count
                )),
                Some(_) => {}
                None => found.push(format!("{name} takes {count} instructions, and none were accepted yet")),
            }
        }
        let gone = self.0.keys().filter(|name| !counts.contains_key(*name));
        found.extend(gone.map(|name| format!("{name} was accepted and is no benchmark any more")));
        found
    }

    /// A line a benchmark: its count, and how it stands to the accepted one.
    pub fn table(&self, counts: &BTreeMap<String, u64>) -> String {
        counts.iter().fold(String::new(), |mut text, (name, count)| {
            let against = self.0.get(name).map_or("new".to_owned(), |accepted| change(*count, accepted.count));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<20} {count:>14} {against:>8}");
            text
        })
    }

    /// Accepted rises past the limit that no line of the change log tells: what the line has to hold.
    pub fn untold(&self, change_log: &str) -> Vec<String> {
        let risen = self.0.iter().filter(|(_, accepted)| is_past(accepted.count, accepted.least));
        let untold = risen.filter(|(name, accepted)| {
            let (name, numbers) = (format!("`{name}`"), numbers(accepted));
            !change_log.lines().any(|line| line.contains(&name) && line.contains(&numbers))
        });
        let told = |(name, accepted): (&String, &Accepted)| {
            format!("CHANGELOG.md has no line with `{name}` and `{}`: say there why it takes more", numbers(accepted))
        };
        untold.map(told).collect()
    }
}

/// The rise as the change log has it.
fn numbers(accepted: &Accepted) -> String {
    format!("{} -> {}", accepted.least, accepted.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn ledger(text: &str) -> Ledger {
        Ledger::parse(text).unwrap()
    }

    #[test]
    fn a_count_may_rise_by_a_tenth_and_fall_by_any() {
        let ledger = ledger("diff 1000 900\n");
        for (count, fine) in [(1, true), (1000, true), (1100, true), (1101, false), (u64::MAX, false)] {
            let found = ledger.objections(&counts(&[("diff", count)]));
            assert_eq!(found.is_empty(), fine, "{count}: {found:?}");
        }
        let found = ledger.objections(&counts(&[("diff", 1250)]));
        assert!(found[0].contains("diff takes 1250") && found[0].contains("+25.0%"), "{found:?}");
    }

    #[test]
    fn benchmarks_that_came_or_went_are_named() {
        let found = ledger("a 1 1\nb 1 1\n").objections(&counts(&[("b", 1), ("c", 1)]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("c ") && found[1].starts_with("a "), "{found:?}");
    }

    #[test]
    fn the_least_count_is_kept_over_many_small_rises() {
        let mut ledger = Ledger::default();
        let mut count = 1000;
        for _ in 0..2 {
            ledger = ledger.accept(&counts(&[("diff", count)]));
            assert!(ledger.untold("").is_empty());
            count = count * 109 / 100;
        }
        ledger = ledger.accept(&counts(&[("diff", count)]));
        assert_eq!(ledger.0["diff"], Accepted { count: 1188, least: 1000 });
        assert_eq!(ledger.untold("").len(), 1);
    }

    #[test]
    fn an_accepted_rise_needs_a_line_of_the_change_log_with_both_numbers() {
        let ledger = ledger("diff 1200 1000\nhash 1100 1000\n");
        let table = [
            ("", false),
            ("- `diff` does more, 1000 -> 1200 instructions, for a check of each row\n", true),
            ("- `hash` does more, 1000 -> 1200 instructions\n", false),
            ("- `diff` does more, 1000 -> 1150 instructions\n", false),
            ("- `diff` does more:\n- 1000 -> 1200\n", false),
        ];
        for (log, told) in table {
            assert_eq!(ledger.untold(log).is_empty(), told, "{log}");
        }
        assert!(ledger.untold("")[0].contains("`diff` and `1000 -> 1200`"));
    }

    #[test]
    fn the_file_round_trips_and_nonsense_is_refused() {
        let ledger = Ledger::default().accept(&counts(&[("b", 2), ("a", 1)]));
        assert_eq!(Ledger::parse(&ledger.to_text()).unwrap(), ledger);
        for text in ["a 1", "a 1 1 1", "a x 1", "a 1 2", "a 1 1\na 1 1"] {
            assert!(Ledger::parse(text).is_err(), "{text}");
        }
    }
}
