//! Adding up what the test programs report (pure).

use std::collections::BTreeSet;

/// The sums over all test programs of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tests that passed, those that skipped themselves not counted.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that could not be done here, with what they need.
    pub skipped: BTreeSet<String>,
}

impl Totals {
    /// Takes one line of output: `test result: ok. 3 passed; 1 failed; 0 ignored; ...`.
    pub fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse::<usize>().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse::<usize>().unwrap_or(0),
                _ => (),
            }
        }
    }

    /// How many tests there were.
    pub fn ran(&self) -> usize {
        self.passed + self.failed + self.skipped.len()
    }

    /// Takes the file in which tests named themselves as skipped. The test program counts them as passed; we do not.
    pub fn take_skipped(&mut self, text: &str) {
        self.skipped = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        self.passed = self.passed.saturating_sub(self.skipped.len());
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_programs_and_takes_skipped_ones_out_of_passed() {
        let mut totals = Totals::default();
        totals.read("test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.02s");
        totals.read("test a::b ... ok");
        totals
            .read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        totals.take_skipped("case_1 needs versitygw\ncase_2 needs versitygw\ncase_1 needs versitygw\n");
        assert_eq!(totals.to_string(), "21 passed, 2 failed, 2 skipped");
    }
}
