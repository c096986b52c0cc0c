//! What the demos of the programs share: a folder to play in, a story told step by step, and claims that are checked.
//!
//! Every step is a run of the program itself, so that what is shown can be typed. A step that does not come out as told is
//! an error. Writes only below the folder that was chosen; a demo that is killed leaves it.

mod child;
mod files;

pub use child::{Ended, Program};
pub use files::{Amount, damage, measure};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use super::output::{bytes_text, duration_text, grouped};
use super::shell::Shell;
use crate::error::{Failure, Result};
use crate::exit::ExitCode;

/// How a demo can end.
pub const CODES: [ExitCode; 5] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Interrupted, ExitCode::Terminated];

/// Runs a demo of `program` in the folder that was named, which stays, or in a temporary one. A signal ends it.
pub async fn play(
    shell: &Shell,
    program: &'static str,
    folder: Option<&Path>,
    tell: impl AsyncFnOnce(&mut Teller<'_>, &Path) -> Result<()>,
) -> ExitCode {
    let told = async {
        let (_temporary, folder) = stage(shell, program, folder)?;
        let mut teller = Teller { shell, name: program, program: Program::this(&folder)?, step: 0 };
        tokio::select! {
            told = tell(&mut teller, &folder) => told,
            // Children that are running die with their handles.
            () = shell.stop.token.cancelled() => Err(Failure::new(shell.interruption(), "the demo was interrupted")),
        }
    };
    match told.await {
        Ok(()) => shell.done("demo", ExitCode::Done),
        Err(failure) => shell.fail("demo", failure),
    }
}

/// The folder to play in, and what removes it.
fn stage(shell: &Shell, program: &str, folder: Option<&Path>) -> Result<(Option<TempDir>, PathBuf)> {
    let Some(folder) = folder else {
        let prefix = format!("{program}-demo-");
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&shell.process.temporary);
        let made = made.map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("cannot make a folder in {}: {error}", shell.process.temporary.display()),
            )
            .hint(format!("name one: {program} demo DIR"))
        })?;
        let path = made.path().to_owned();
        return Ok((Some(made), path));
    };
    let path = shell.path(folder);
    empty_folder(&path)?;
    Ok((None, path))
}

/// Makes the folder if it is absent, and refuses one that holds anything.
fn empty_folder(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot play in {}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(failed)?;
    match std::fs::read_dir(path).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => {
            Err(Failure::usage(format!("{} is not empty", path.display()))
                .hint("name a folder that is empty or absent"))
        }
    }
}

/// Tells a story: titles, text, commands and what came of them, for people or as JSON.
pub struct Teller<'a> {
    shell: &'a Shell,
    name: &'static str,
    program: Program,
    step: u32,
}

impl Teller<'_> {
    /// Runs a command that must end with `code`.
    pub async fn run(&self, words: &[&str], code: ExitCode) -> Result<Ended> {
        self.show(words);
        let ended = self.program.run(words).await?;
        match ended.code {
            Some(found) if found == i32::from(code.code()) => Ok(ended),
            Some(found) => Err(unexpected("exit code", found, code.code()).hint(ended.last_line)),
            None => Err(Failure::new(ExitCode::Failed, "the command was killed from outside")),
        }
    }

    /// Runs a command and kills it, as `kill -9` does, once `enough` of its lines are there.
    pub async fn run_and_kill(&self, words: &[&str], enough: impl Fn(&[serde_json::Value]) -> bool) -> Result<Ended> {
        self.show(words);
        let killed = self.program.run_until(words, enough).await?;
        match killed.code {
            Some(code) => {
                Err(Failure::new(ExitCode::Failed, format!("the run ended ({code}) before it could be killed"))
                    .hint(killed.last_line))
            }
            None => Ok(killed),
        }
    }

    fn show(&self, words: &[&str]) {
        self.tell("command", format!("{} {}", self.name, words.join(" ")), |text| format!("  $ {text}"));
    }

    /// Begins a step.
    pub fn title(&mut self, text: &str) {
        self.step += 1;
        let step = self.step;
        self.tell("title", text.to_owned(), |text| format!("\n{step}. {text}"));
    }

    /// Says what is going on.
    pub fn say(&self, text: impl Into<String>) {
        self.tell("text", text.into(), wrapped);
    }

    /// Says what came of a command.
    pub fn saw(&self, text: impl Into<String>) {
        self.tell("result", text.into(), |text| wrapped(&format!("=> {text}")));
    }

    /// Shows lines as they are.
    pub fn quote<'l>(&self, lines: impl IntoIterator<Item = &'l str>) {
        for line in lines {
            self.tell("quote", line.to_owned(), |line| format!("      {line}").trim_end().to_owned());
        }
    }

    fn tell(&self, kind: &'static str, text: String, shown: impl Fn(&str) -> String) {
        let output = &self.shell.output;
        match output.is_json() {
            true => output.json(&StepLine { line: kind, step: self.step, text }),
            false => output.data(shown(&text)),
        }
    }
}

#[derive(Serialize)]
struct StepLine {
    #[serde(rename = "type")]
    line: &'static str,
    step: u32,
    text: String,
}

/// Lines of at most this many characters.
const WIDTH: usize = 100;

/// The text in indented lines.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("  ")];
    for word in text.split_whitespace() {
        let full =
            lines.last().is_some_and(|line| line.len() > 2 && line.chars().count() + word.chars().count() >= WIDTH);
        if full {
            lines.push(String::from("  "));
        }
        if let Some(line) = lines.last_mut() {
            if line.len() > 2 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Files and their bytes in words.
pub fn amount_text(amount: Amount) -> String {
    format!("{} files ({})", grouped(amount.files), bytes_text(amount.bytes))
}

/// How long a run took, by its summary.
pub fn took(run: &Ended) -> Result<String> {
    Ok(duration_text(Duration::from_millis(run.number("/duration_ms")?)))
}

/// What lies below a folder.
pub async fn measured(root: &Path) -> Result<Amount> {
    let root = root.to_owned();
    on_disk(move || measure(&root)).await
}

/// File work on a thread of its own.
pub async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await?
        .map_err(|error| Failure::new(ExitCode::Failed, format!("the demo's files cannot be prepared: {error}")))
}

fn unexpected(what: &str, found: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Failed, format!("this step did not come out as told: {what}: {found}, not {wanted}"))
}

/// A claim: this number is that one. Else the error says what did not come out as told.
pub fn check(what: &str, found: u64, wanted: u64) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(unexpected(what, found, wanted)) }
}

/// A claim: this number is not larger than that one.
pub fn check_at_most(what: &str, found: u64, most: u64) -> Result<()> {
    if found <= most { Ok(()) } else { Err(unexpected(what, found, format!("at most {most}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_or_absent_folder_is_played_in() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        empty_folder(&inner).unwrap();
        empty_folder(&inner).unwrap();
        assert_eq!(empty_folder(folder.path()).unwrap_err().code, ExitCode::Usage);
        std::fs::write(inner.join("file"), "x").unwrap();
        assert_eq!(empty_folder(&inner.join("file")).unwrap_err().code, ExitCode::Usage);
    }

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrapped("a b"), "  a b");
        let long = ["word"; 60].join(" ");
        let lines = wrapped(&long);
        assert!(lines.lines().all(|line| line.len() <= WIDTH && line.starts_with("  word")), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 60);
    }

    #[test]
    fn a_step_that_comes_out_otherwise_fails_the_demo() {
        assert!(check("objects", 2, 2).is_ok() && check_at_most("bytes", 2, 3).is_ok());
        let failure = check("objects copied", 2, 3).unwrap_err();
        assert_eq!(
            (failure.code, failure.message.as_str()),
            (ExitCode::Failed, "this step did not come out as told: objects copied: 2, not 3")
        );
        assert!(check_at_most("bytes", 4, 3).is_err());
    }
}
