//! How a program starts and what it is called: the process made ready, the command line read, wrong usage told, the verb run.
//!
//! What the process needs is done before there is a second thread. Reads the arguments; decides nothing about data.

use std::process::ExitCode as ProcessExit;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::progress::Screen;
use super::{arenas, exit};
use crate::exit::ExitCode;

/// Starts the program whose command line is `C`: `run` does what the command line says and returns how the process ends.
/// To be called once, first, and on the main thread. Help and the version end the process here.
pub fn start<C: Parser>(run: impl FnOnce(C) -> ProcessExit) -> ProcessExit {
    arenas::limit();
    silence_contained_panics();
    match C::try_parse() {
        Ok(line) => run(line),
        // Help and version, asked for or not.
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.exit()
        }
        Err(error) => {
            let command = C::command();
            let verb = exit::verb_of(&command, std::env::args_os());
            let text = exit::wrong_usage(command.get_name(), &verb, &error.render().to_string());
            Screen::stderr().line(&text);
            exit::process(ExitCode::Usage)
        }
    }
}

/// A panic that becomes the error of a damaged file is told as that, and not a second time by the process.
fn silence_contained_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !manifest::contained::is_active() {
            usual(panic);
        }
    }));
}

/// The program's name in messages.
pub(super) fn name<C: CommandFactory>() -> String {
    C::command().get_name().to_owned()
}
