//! How a process ends: the code, what it means in words, and the last line on stderr.
//!
//! Decides no code: that is the run's to say (rule 9). Pure but for the conversion to the process's own type.

use std::ffi::OsString;

use super::output::counted;
use crate::event::Outcome;
use crate::exit::ExitCode;
use crate::run::Report;
use crate::summary::Summary;

/// The process's exit code.
pub fn process(code: ExitCode) -> std::process::ExitCode {
    std::process::ExitCode::from(code.code())
}

/// What a code means, for the help of a verb.
pub fn meaning(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Done => "done, everything equal",
        ExitCode::Failed => "failed",
        ExitCode::Usage => "wrong usage or configuration",
        ExitCode::Partial => "done, but some objects failed or are not proven (named)",
        ExitCode::Differs => "a difference was found",
        ExitCode::Refused => "refused by a guard (deletes, overwrites, empty source, a target that moved on)",
        ExitCode::Limited => "a limit ended the run early; the next run resumes",
        ExitCode::Leased => "another run holds the lease",
        ExitCode::Permission => "credentials or permission",
        ExitCode::Temporary => "temporary failure, try again",
        ExitCode::Interrupted => "interrupted; the next run resumes",
        ExitCode::Terminated => "terminated; the next run resumes",
    }
}

/// The end of a verb's `--help`: an example that works when it is pasted, and the codes the verb can return.
pub fn after_help(example: &str, codes: &[ExitCode]) -> String {
    let mut text = String::from("Example:\n");
    for line in example.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("\nExit codes:");
    for code in codes {
        text.push_str(&format!("\n  {:>3}  {}", code.code(), meaning(*code)));
    }
    text
}

/// The last line on stderr of a run that did not end with 0: what happened and, where there is one, the next thing to do.
/// `None` for a run that ended well.
pub fn last_line(program: &str, report: &Report) -> Option<String> {
    let summary = &report.summary;
    if summary.exit_code == ExitCode::Done && report.failure.is_none() {
        return None;
    }
    let (message, hint) = match &report.failure {
        Some(failure) => (failure.message.clone(), failure.hint.clone()),
        None => (what_happened(summary), summary.hint.clone().or_else(|| next(summary))),
    };
    Some(line(program, summary.command, &message, hint.as_deref()))
}

/// One line: `distcp copy: MESSAGE; HINT`.
pub fn line(program: &str, command: &str, message: &str, hint: Option<&str>) -> String {
    let text = match hint {
        Some(hint) => format!("{program} {command}: {message}; {hint}"),
        None => format!("{program} {command}: {message}"),
    };
    // One line, whatever a server or a file system put into its words.
    text.split(['\n', '\r']).map(str::trim).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What clap says of a wrong command line, with the error as its last line: how the verb is used, then what is wrong, what
/// was probably meant, and where to read on. `verb` is the program with the verb that was typed, for what clap says without
/// the usage.
pub fn wrong_usage(program: &str, verb: &str, rendered: &str) -> String {
    let mut usage = None;
    let mut what = Vec::new();
    let mut tips = Vec::new();
    for piece in rendered.lines().map(str::trim).filter(|piece| !piece.is_empty()) {
        match (piece.strip_prefix("Usage: "), piece.strip_prefix("tip: ")) {
            (Some(line), _) => usage = Some(line),
            (None, Some(tip)) => tips.push(tip),
            (None, None) if piece.starts_with("For more information") => {}
            (None, None) => what.push(piece.strip_prefix("error: ").unwrap_or(piece)),
        }
    }
    // The words before the first option or argument: the verb.
    let verb =
        usage.unwrap_or(verb).split(' ').take_while(|word| !word.starts_with(['-', '[', '<'])).collect::<Vec<_>>();
    let mut text = usage.map(|usage| format!("Usage: {usage}\n")).unwrap_or_default();
    text.push_str(&format!("{program}: {}", what.join(" ")));
    for tip in tips {
        text.push_str(&format!("; {tip}"));
    }
    text.push_str(&format!("; see: {} --help", verb.join(" ")));
    text
}

/// The program and the verb that a command line names, as far as it names one: `distcp manifest create`.
pub fn verb_of(command: &clap::Command, words: impl Iterator<Item = OsString>) -> String {
    let (mut command, mut name) = (command, command.get_name().to_owned());
    for word in words.skip(1) {
        if let Some(verb) = command.find_subcommand(&word) {
            name = format!("{name} {}", verb.get_name());
            command = verb;
        }
    }
    name
}

fn what_happened(summary: &Summary) -> String {
    match (summary.exit_code, &summary.differences) {
        (ExitCode::Differs, Some(found)) => {
            let differ = found.only_source + found.only_target + found.differ;
            counted(differ, "key differs", "keys differ")
        }
        (ExitCode::Partial, Some(found)) => {
            let mut parts = Vec::new();
            if found.errors > 0 {
                parts.push(counted(found.errors, "key could not be compared", "keys could not be compared"));
            }
            if found.unproven > 0 {
                parts.push(counted(found.unproven, "key is not proven to be equal", "keys are not proven to be equal"));
            }
            parts.join(", ")
        }
        (ExitCode::Partial, None) => {
            let failed = counted(summary.counts.failed, "object failed", "objects failed");
            match summary.errors.first() {
                Some(first) if summary.counts.failed == 1 => format!("{failed}: {first}"),
                Some(first) => format!("{failed}, the first: {first}"),
                None => failed,
            }
        }
        (code, _) => {
            let meaning = meaning(code);
            meaning.split(';').next().unwrap_or(meaning).to_owned()
        }
    }
}

fn next(summary: &Summary) -> Option<String> {
    let text = match summary.exit_code {
        // Again the same would come out: nothing was tried that could fail.
        ExitCode::Partial
            if summary.differences.as_ref().is_some_and(|found| found.unproven > 0 && found.errors == 0) =>
        {
            "--level content reads them; copy --hash does, and remembers it"
        }
        ExitCode::Partial => {
            "mend what is named, or leave it out with --exclude; run the same command again to try them again"
        }
        ExitCode::Limited | ExitCode::Interrupted | ExitCode::Terminated => "run the same command again: it resumes",
        ExitCode::Temporary => "run the same command again",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The word for an outcome at the start of a line.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Equal => "equal",
        Outcome::Copied => "copied",
        Outcome::Deleted => "deleted",
        Outcome::Skipped => "skipped",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;
    use crate::summary::Differences;

    #[test]
    fn wrong_usage_ends_with_what_is_wrong() {
        let rendered = "error: unexpected argument '--delet' found\n\n  tip: a similar argument exists: '--delete'\n\n\
            Usage: distcp copy --delete <SOURCE> <TARGET>\n\nFor more information, try '--help'.\n";
        let wanted = "Usage: distcp copy --delete <SOURCE> <TARGET>\n\
            distcp: unexpected argument '--delet' found; a similar argument exists: '--delete'; see: distcp copy --help";
        assert_eq!(wrong_usage("distcp", "distcp", rendered), wanted);
        let rendered =
            "error: invalid value 'x' for '--min-size <SIZE>': expected a size\n\nFor more information, try '--help'.";
        let wanted = "distcp: invalid value 'x' for '--min-size <SIZE>': expected a size; see: distcp copy --help";
        assert_eq!(wrong_usage("distcp", "distcp copy", rendered), wanted);
    }

    fn ended(code: ExitCode, change: impl FnOnce(&mut Summary)) -> Report {
        let mut summary = Summary::new("copy", "job");
        summary.end(code);
        change(&mut summary);
        Report { summary, failure: None }
    }

    #[test]
    fn the_last_line_says_what_happened_and_what_to_do() {
        let failed = |count: u64| {
            ended(ExitCode::Partial, move |summary| {
                summary.counts.failed = count;
                summary.errors = vec!["a: cannot read".into()];
            })
        };
        let table = [
            (ended(ExitCode::Done, |_| {}), None),
            (
                failed(1),
                Some(
                    "distcp copy: 1 object failed: a: cannot read; mend what is named, or leave it out with --exclude; run the same command again to try them again",
                ),
            ),
            (
                failed(1200),
                Some(
                    "distcp copy: 1,200 objects failed, the first: a: cannot read; mend what is named, or leave it out with --exclude; run the same command again to try them again",
                ),
            ),
            (
                ended(ExitCode::Limited, |_| {}),
                Some("distcp copy: a limit ended the run early; run the same command again: it resumes"),
            ),
            (
                ended(ExitCode::Interrupted, |_| {}),
                Some("distcp copy: interrupted; run the same command again: it resumes"),
            ),
            (
                ended(ExitCode::Differs, |summary| {
                    summary.differences = Some(Differences { only_source: 1, differ: 2, ..Differences::default() });
                }),
                Some("distcp copy: 3 keys differ"),
            ),
            (
                ended(ExitCode::Partial, |summary| {
                    summary.differences = Some(Differences { unproven: 2, ..Differences::default() });
                }),
                Some(
                    "distcp copy: 2 keys are not proven to be equal; --level content reads them; copy --hash does, and remembers it",
                ),
            ),
            (
                ended(ExitCode::Partial, |summary| {
                    summary.differences = Some(Differences { errors: 1, unproven: 2, ..Differences::default() });
                    summary.hint = Some("add --level content".into());
                }),
                Some(
                    "distcp copy: 1 key could not be compared, 2 keys are not proven to be equal; add --level content",
                ),
            ),
        ];
        for (report, expected) in table {
            assert_eq!(last_line("distcp", &report).as_deref(), expected);
        }
    }

    #[test]
    fn a_failure_is_one_line_with_its_hint() {
        let failure = Failure::new(ExitCode::Refused, "the source\r\nis empty").hint("add --allow-empty-source");
        let report = Report { failure: Some(failure), ..ended(ExitCode::Refused, |_| {}) };
        let expected = "distcp copy: the source is empty; add --allow-empty-source";
        assert_eq!(last_line("distcp", &report).as_deref(), Some(expected));
    }

    #[test]
    fn help_shows_example_and_codes() {
        let text = after_help("distcp copy a b", &[ExitCode::Done, ExitCode::Temporary]);
        assert!(text.starts_with("Example:\n  distcp copy a b\n"), "{text}");
        assert!(text.ends_with("    0  done, everything equal\n   75  temporary failure, try again"), "{text}");
    }
}
