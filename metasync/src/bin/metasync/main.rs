//! The `metasync` binary. In this version it answers `--help` and `--version` and does nothing else: it opens no
//! metastore and no store, and any other use ends with exit code 2.

use clap::Parser;
use std::process::ExitCode;

/// Keeps a second Hive Metastore in step with the first.
///
/// This version of metasync does nothing yet: it answers --help and --version only. Its work comes in a later version;
/// until then, distcp copies and mirrors the files of a data lake, without their tables.
#[derive(Parser)]
#[command(
    name = "metasync",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 after --help and --version, else 2."
)]
struct Cli {}

fn main() -> ExitCode {
    // Ends the program for --help, --version and, with 2, for everything else.
    let Cli {} = Cli::parse();
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn only_help_and_version_are_answered() {
        let cases: [(&[&str], ErrorKind, i32); 4] = [
            (&["metasync", "--help"], ErrorKind::DisplayHelp, 0),
            (&["metasync", "--version"], ErrorKind::DisplayVersion, 0),
            (&["metasync"], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, 2),
            (&["metasync", "run", "policy.toml"], ErrorKind::UnknownArgument, 2),
        ];
        for (line, kind, code) in cases {
            let error = Cli::command().try_get_matches_from(line).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, code), "{line:?}");
        }
    }

    #[test]
    fn the_help_says_that_nothing_is_done() {
        assert!(Cli::command().render_long_help().to_string().contains("does nothing yet"));
    }
}
