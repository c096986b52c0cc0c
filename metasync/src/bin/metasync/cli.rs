//! The command line of `metasync`: its verbs, and what runs each of them.

use crate::{completions, man, metastore, plan, run, status, unlock, verify};
use clap::{Parser, Subcommand};
use distcp::console::args::GlobalArgs;
use distcp::console::shell::Shell;
use std::process::ExitCode;

/// The program's name in messages.
pub const PROGRAM: &str = "metasync";

/// Keep a second Hive Metastore in step with the first, metadata and data
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 110, after_help = "\
A metastore: thrift://host:9083[,host2:9083], postgres://user@host/database, mysql://user@host/database,
sqlite:///path. Passwords come from the URL, from env:NAME or file:PATH in its place, or from $PGPASSWORD and
~/.pgpass; they are never printed. Data goes to stdout, everything else to stderr.
See `metasync VERB --help` for an example and the exit codes of each verb.")]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(run::RunVerb),
    Plan(plan::PlanVerb),
    Status(status::StatusVerb),
    Verify(verify::VerifyVerb),
    Resync(run::ResyncVerb),
    Unlock(unlock::UnlockVerb),
    Metastore(metastore::MetastoreVerb),
    Completions(completions::CompletionsVerb),
    Man(man::ManVerb),
}

impl Cli {
    /// Does it.
    pub fn run(self) -> ExitCode {
        // These two print what is compiled in: no runtime, no configuration.
        match &self.verb {
            Verb::Completions(verb) => return completions::run(verb),
            Verb::Man(verb) => return man::run(verb),
            _ => {}
        }
        Shell::run(PROGRAM, self.global, async |shell| match &self.verb {
            Verb::Run(verb) => run::run(shell, verb).await,
            Verb::Plan(verb) => plan::run(shell, verb).await,
            Verb::Status(verb) => status::run(shell, verb).await,
            Verb::Verify(verb) => verify::run(shell, verb).await,
            Verb::Resync(verb) => run::resync(shell, verb).await,
            Verb::Unlock(verb) => unlock::run(shell, verb).await,
            Verb::Metastore(verb) => metastore::run(shell, verb).await,
            Verb::Completions(_) | Verb::Man(_) => distcp::exit::ExitCode::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Every verb with its full name, also those below `metastore`.
    fn verbs(command: &clap::Command, above: &str) -> Vec<(String, clap::Command)> {
        let mut found = Vec::new();
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let name = format!("{above}{}", verb.get_name());
            match verb.has_subcommands() {
                true => found.extend(verbs(verb, &format!("{name} "))),
                false => found.push((name, verb.clone())),
            }
        }
        found
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let names: Vec<String> = verbs(&Cli::command(), "").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["run", "plan", "status", "verify", "resync", "unlock", "metastore dump", "metastore init", "completions", "man"]);
    }

    #[test]
    fn every_verb_has_a_purpose_an_example_that_parses_and_its_exit_codes() {
        for (name, mut verb) in verbs(&Cli::command(), "") {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.contains('\n') && about.len() < 100, "{name}: {about:?}");
            let help = verb.render_long_help().to_string();
            assert!(help.contains("Exit codes:\n    0  "), "{name} does not list its exit codes");
            let example = help.split("Example:\n").nth(1).unwrap_or_else(|| panic!("{name} has no example"));
            let lines: Vec<&str> =
                example.lines().map(str::trim).filter(|line| line.starts_with("metasync ")).collect();
            assert!(lines.iter().any(|line| line.starts_with(&format!("metasync {name}"))), "{name}: {example}");
            for line in lines {
                let line = line.split(" > ").next().unwrap_or(line);
                let parsed = Cli::try_parse_from(line.split_whitespace().map(|word| word.trim_matches('\'')));
                assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            }
        }
    }
}
