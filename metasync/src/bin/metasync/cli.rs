//! The command line of `metasync`: its verbs, and what runs each of them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use distcp::console::args::GlobalArgs;
use distcp::console::completions::CompletionsVerb;
use distcp::console::man::ManVerb;
use distcp::console::shell::Shell;

use crate::{demo, metastore, plan, run, status, unlock, verify};

/// The program's name in messages.
pub const PROGRAM: &str = "metasync";

/// Keep a second Hive Metastore in step with the first, metadata and data
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, max_term_width = 110, after_help = "\
A metastore: thrift://host:9083[,host2:9083], postgres://user@host/database, mysql://user@host/database,
sqlite:///path. Passwords come from the URL, from env:NAME or file:PATH in its place, or from $PGPASSWORD and
~/.pgpass; they are never printed. Data goes to stdout, everything else to stderr.
See `metasync VERB --help` for an example and the exit codes of each verb, and `metasync demo` for a tour.")]
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
    Demo(demo::DemoVerb),
    Metastore(metastore::MetastoreVerb),
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
            Verb::Run(verb) => run::run(shell, verb).await,
            Verb::Plan(verb) => plan::run(shell, verb).await,
            Verb::Status(verb) => status::run(shell, verb).await,
            Verb::Verify(verb) => verify::run(shell, verb).await,
            Verb::Resync(verb) => run::resync(shell, verb).await,
            Verb::Unlock(verb) => unlock::run(shell, verb).await,
            Verb::Demo(verb) => demo::run(shell, verb).await,
            Verb::Metastore(verb) => metastore::run(shell, verb).await,
            Verb::Completions(_) | Verb::Man(_) => distcp::exit::ExitCode::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use distcp::console::help;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let names: Vec<String> = help::verbs::<Cli>().into_iter().map(|(name, _)| name).collect();
        let expected =
            ["run", "plan", "status", "verify", "resync", "unlock", "demo", "metastore dump", "metastore init"];
        assert_eq!(names, [&expected[..], &["completions", "man"]].concat());
    }

    #[test]
    fn every_verb_has_a_purpose_an_example_that_parses_and_its_exit_codes() {
        assert_eq!(help::faults::<Cli>(), [""; 0]);
    }
}
