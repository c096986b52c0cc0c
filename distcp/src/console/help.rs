//! What the help of every verb must hold, checked from the definition of the command line. For the tests of the programs;
//! it touches nothing.

use clap::{Command, Parser};

use super::program;

/// The longest line on what a verb is for, in bytes: lists of verbs show it beside the name.
const LONGEST_PURPOSE: usize = 100;

/// Every verb of `C` with its full name (`manifest create`), in the order of the help.
pub fn verbs<C: Parser>() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    below(&C::command(), "", &mut found);
    found
}

fn below(command: &Command, above: &str, found: &mut Vec<(String, Command)>) {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let name = format!("{above}{}", verb.get_name());
        match verb.has_subcommands() {
            true => below(verb, &format!("{name} "), found),
            false => found.push((name, verb.clone())),
        }
    }
}

/// What is wrong with the help of the verbs of `C`, a line each: every verb says in one short line what it is for, shows
/// examples of which one is of itself and every line parses, and lists its exit codes. Empty: nothing.
pub fn faults<C: Parser>() -> Vec<String> {
    let program = program::name::<C>();
    let mut faults = Vec::new();
    for (name, mut verb) in verbs::<C>() {
        let mut fault = |what: String| faults.push(format!("{program} {name}: {what}"));
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || about.contains('\n') || about.len() >= LONGEST_PURPOSE {
            fault(format!("its purpose is not one short line: {about:?}"));
        }
        let help = verb.render_long_help().to_string();
        if !help.contains("Exit codes:\n    0  ") {
            fault("it does not list its exit codes".into());
        }
        let example = help.split("Example:\n").nth(1).unwrap_or_default();
        let lines = || example.lines().map(str::trim).filter(|line| line.starts_with(&format!("{program} ")));
        if !lines().any(|line| line.starts_with(&format!("{program} {name}"))) {
            fault("it has no example of its own".into());
        }
        for line in lines() {
            if let Err(error) = C::try_parse_from(words(line)) {
                fault(format!("its example does not parse: {line}: {error}"));
            }
        }
    }
    faults
}

/// The words of an example up to what a shell would do with its output.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split(" > ").next().unwrap_or(line);
    let line = line.split(" | ").next().unwrap_or(line);
    line.split_whitespace().map(|word| word.trim_matches('\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "p")]
    struct Line {
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Verb {
        /// Do it well
        #[command(after_help = "Example:\n  p good 'a' > file\n  p good a | more\n\nExit codes:\n    0  done")]
        Good { place: String },
        #[command(after_help = "Example:\n  p bad a\n  p good a\n\nExit codes:\n    1  failed")]
        Bad,
        #[command(subcommand)]
        Over(Under),
    }

    #[derive(Debug, clap::Subcommand)]
    enum Under {
        /// Do it below
        #[command(after_help = "Example:\n  p good a\n\nExit codes:\n    0  done")]
        Other,
    }

    #[test]
    fn what_a_verb_lacks_is_a_fault() {
        let names: Vec<String> = verbs::<Line>().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["good", "bad", "over other"]);
        let faults = faults::<Line>();
        let wanted = [
            "p bad: its purpose is not one short line",
            "p bad: it does not list its exit codes",
            "p bad: its example does not parse: p bad a: ",
            "p over other: it has no example of its own",
        ];
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
        for (fault, wanted) in faults.iter().zip(wanted) {
            assert!(fault.starts_with(wanted), "{fault}");
        }
    }
}
