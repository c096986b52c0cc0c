//! `distcp demo`: the whole tool on two local trees, told as it goes. Every step is a run of this program, and every claim
//! is checked: when a step does not come out as told, the demo says so and fails.
//!
//! Writes only below its own folder: a temporary one that is removed at the end, or the one that was named, which must be
//! empty or absent and stays. A demo that is killed leaves its folder.

mod child;
mod story;
mod tree;

use std::path::{Path, PathBuf};

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use tempfile::TempDir;

const CODES: [ExitCode; 5] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Interrupted, ExitCode::Terminated];

/// Copy, change, mirror, interrupt, resume and verify two local trees, explained as it goes
#[derive(Debug, Args)]
#[command(after_help = after_help("distcp demo", &CODES))]
pub struct DemoVerb {
    /// Where to play: a folder that is empty or absent, and stays [default: a temporary folder, removed at the end]
    folder: Option<PathBuf>,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &DemoVerb) -> ExitCode {
    match play(shell, verb.folder.as_deref()).await {
        Ok(()) => shell.done("demo", ExitCode::Done),
        Err(failure) => shell.fail("demo", failure),
    }
}

async fn play(shell: &Shell, folder: Option<&Path>) -> Result<()> {
    let (_temporary, folder) = stage(shell, folder)?;
    tokio::select! {
        told = story::tell(shell, &folder) => told,
        // Children that are running die with their handles.
        () = shell.stop.token.cancelled() => Err(Failure::new(shell.interruption(), "the demo was interrupted")),
    }
}

/// The folder to play in, and what removes it.
fn stage(shell: &Shell, folder: Option<&Path>) -> Result<(Option<TempDir>, PathBuf)> {
    let Some(folder) = folder else {
        let made = tempfile::Builder::new().prefix("distcp-demo-").tempdir_in(&shell.process.temporary);
        let made = made.map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("cannot make a folder in {}: {error}", shell.process.temporary.display()),
            )
            .hint("name one: distcp demo DIR")
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
}
