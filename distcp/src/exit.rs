//! Exit codes: public API of both binaries (design section 8), and the order in which one outranks another (rule 9).

use serde::{Serialize, Serializer};

/// How a run ended. The number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// Everything is equal.
    Done = 0,
    /// The run failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Done, but some objects failed; they are named.
    Partial = 3,
    /// Verification found a difference.
    Differs = 4,
    /// A guard refused: deletes, overwrites, empty source, a target that moved on.
    Refused = 5,
    /// A limit ended the run early; the next run resumes.
    Limited = 10,
    /// Another run holds the lease.
    Leased = 11,
    /// Credentials or permission.
    Permission = 12,
    /// A temporary failure: try again.
    Temporary = 75,
    /// Interrupted (SIGINT); the next run resumes.
    Interrupted = 130,
    /// Terminated (SIGTERM); the next run resumes.
    Terminated = 143,
}

/// Rule 9: the first of these that holds is the run's code.
const PRECEDENCE: [ExitCode; 12] = [
    ExitCode::Interrupted,
    ExitCode::Terminated,
    ExitCode::Leased,
    ExitCode::Usage,
    ExitCode::Permission,
    ExitCode::Refused,
    ExitCode::Failed,
    ExitCode::Temporary,
    ExitCode::Differs,
    ExitCode::Partial,
    ExitCode::Limited,
    ExitCode::Done,
];

impl ExitCode {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The word for it in summaries.
    pub fn word(self) -> &'static str {
        match self {
            ExitCode::Done => "done",
            ExitCode::Failed => "failed",
            ExitCode::Usage => "usage",
            ExitCode::Partial => "partial",
            ExitCode::Differs => "differs",
            ExitCode::Refused => "refused",
            ExitCode::Limited => "limited",
            ExitCode::Leased => "leased",
            ExitCode::Permission => "permission",
            ExitCode::Temporary => "temporary",
            ExitCode::Interrupted => "interrupted",
            ExitCode::Terminated => "terminated",
        }
    }

    /// The code of a run in which all of `reasons` hold: the one that rule 9 puts first; [`ExitCode::Done`] for none.
    pub fn first(reasons: impl IntoIterator<Item = ExitCode>) -> ExitCode {
        let rank = |code: &ExitCode| PRECEDENCE.iter().position(|other| other == code);
        reasons.into_iter().min_by_key(rank).unwrap_or(ExitCode::Done)
    }
}

impl Serialize for ExitCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode::*;
    use super::*;

    #[test]
    fn rule_09_the_first_that_holds_is_the_code() {
        let table: [(&[ExitCode], ExitCode); 7] = [
            (&[], Done),
            (&[Partial, Limited], Partial),
            (&[Limited, Done], Limited),
            (&[Partial, Differs], Differs),
            (&[Failed, Refused, Permission], Permission),
            (&[Temporary, Partial], Temporary),
            (&[Usage, Terminated, Interrupted], Interrupted),
        ];
        for (reasons, code) in table {
            assert_eq!(ExitCode::first(reasons.iter().copied()), code, "{reasons:?}");
        }
    }
}
