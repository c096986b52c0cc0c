//! The command line of `distcp`: its verbs, and what runs each of them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use distcp::console::args::GlobalArgs;
use distcp::console::completions::CompletionsVerb;
use distcp::console::man::ManVerb;
use distcp::console::shell::Shell;

use crate::{apply, check, copy, demo, manifest, plan, status, unlock, verify};

/// The program's name in messages.
pub const PROGRAM: &str = "distcp";

/// Copy and mirror object trees between local folders and object stores
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 110, after_help = "\
Places: /path, ./path, file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix,
hdfs://namenode:port/path,
abfss://container@account.dfs.core.windows.net/prefix, and name:path for a store of the configuration.
Sizes take K M G T (powers of 1024), times s m h d. Data goes to stdout, everything else to stderr.
See `distcp VERB --help` for an example and the exit codes of each verb, and `distcp demo` for a tour.")]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Copy(Box<copy::CopyVerb>),
    Plan(Box<plan::PlanVerb>),
    Apply(apply::ApplyVerb),
    Verify(Box<verify::VerifyVerb>),
    Check(Box<check::CheckVerb>),
    Manifest(manifest::ManifestVerb),
    Status(status::StatusVerb),
    Unlock(unlock::UnlockVerb),
    Demo(demo::DemoVerb),
    #[command(after_help = CompletionsVerb::after_help(PROGRAM))]
    Completions(CompletionsVerb),
    #[command(after_help = ManVerb::after_help(PROGRAM))]
    Man(ManVerb),
}

impl Cli {
    /// Does it.
    pub fn run(self) -> ExitCode {
        // These two print what is compiled in: no runtime, no configuration.
        match &self.verb {
            Verb::Completions(verb) => return verb.run::<Self>(),
            Verb::Man(verb) => return verb.run::<Self>(),
            _ => {}
        }
        Shell::run(PROGRAM, self.global, async |shell| match &self.verb {
            Verb::Copy(verb) => copy::run(shell, verb).await,
            Verb::Plan(verb) => plan::run(shell, verb).await,
            Verb::Apply(verb) => apply::run(shell, verb).await,
            Verb::Verify(verb) => verify::run(shell, verb).await,
            Verb::Check(verb) => check::run(shell, verb).await,
            Verb::Manifest(verb) => manifest::run(shell, verb).await,
            Verb::Status(verb) => status::run(shell, verb).await,
            Verb::Unlock(verb) => unlock::run(shell, verb).await,
            Verb::Demo(verb) => demo::run(shell, verb).await,
            Verb::Completions(_) | Verb::Man(_) => distcp::exit::ExitCode::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory as _;
    use distcp::console::help;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_a_purpose_an_example_that_parses_and_its_exit_codes() {
        let names: Vec<String> = help::verbs::<Cli>().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "copy",
                "plan",
                "apply",
                "verify",
                "check",
                "manifest create",
                "manifest show",
                "manifest sums",
                "manifest diff",
                "manifest check",
                "status",
                "unlock",
                "demo",
                "completions",
                "man",
            ]
        );
        assert_eq!(help::faults::<Cli>(), [""; 0]);
    }

    #[test]
    fn wrong_usage_ends_with_2_and_names_the_nearest_option() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&["distcp", "copy", "a", "b", "--delet"], Some("--delete")),
            (&["distcp", "cop", "a", "b"], Some("copy")),
            (&["distcp", "copy", "a"], None),
            (&["distcp", "plan", "a", "b"], None),
            (&["distcp", "copy", "a", "b", "--trash-retention", "7d"], None),
            (&["distcp"], None),
        ];
        for (words, near) in table {
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
            let text = error.to_string();
            assert!(near.is_none_or(|near| text.contains(&format!("'{near}'"))), "{text}");
        }
        for words in [["distcp", "--help"], ["distcp", "--version"]] {
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 0, "{words:?}");
        }
    }

    #[test]
    fn the_verb_of_a_wrong_command_line_is_known() {
        let table = [
            ("distcp copy a b --sse x", "distcp copy"),
            ("distcp --json manifest create a --chunk-size 3", "distcp manifest create"),
            ("distcp --nothing", "distcp"),
            ("distcp", "distcp"),
        ];
        for (line, verb) in table {
            assert_eq!(
                distcp::console::exit::verb_of(&Cli::command(), line.split(' ').map(OsString::from)),
                verb,
                "{line}"
            );
        }
    }

    #[test]
    fn global_options_stand_before_and_behind_the_verb() {
        for words in [["distcp", "--json", "status", "--job", "x"], ["distcp", "status", "--job", "x", "--json"]] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(cli.global.json && cli.global.job.as_deref() == Some("x"), "{words:?}");
        }
    }
}
