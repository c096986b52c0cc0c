//! What the demo tells, step by step, and what it checks of each.

use std::path::{Path, PathBuf};

use distcp::console::output::{bytes_text, duration_text, grouped};
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use serde::Serialize;
use serde_json::Value;

use super::child::{Ended, Program};
use super::tree::{self, Amount};

/// The source, below the demo's folder.
const SOURCE: &str = "warehouse";
/// The target.
const TARGET: &str = "backup";
/// Both, and the state, as they are typed.
const PLACES: [&str; 4] = ["warehouse", "backup", "--state", "state"];
/// The rate of the run that is killed, of what it reads and writes: slow enough to be in the middle when it is.
const SLOW: &str = "48M";
/// The run is killed after this many objects arrived.
const KILL_AFTER: u64 = 12;

struct Story<'a> {
    shell: &'a Shell,
    program: Program,
    source: PathBuf,
    target: PathBuf,
    step: u32,
}

/// Tells the whole story in `folder`.
pub async fn tell(shell: &Shell, folder: &Path) -> Result<()> {
    let mut story = Story {
        shell,
        program: Program::this(folder)?,
        source: folder.join(SOURCE),
        target: folder.join(TARGET),
        step: 0,
    };
    story.title("A warehouse");
    let root = story.source.clone();
    let whole = on_disk(move || tree::build(&root)).await?;
    story.say(format!(
        "In {} there is now ./{SOURCE}: {}, three tables of daily partitions and one export of {}.",
        folder.display(),
        amount(whole),
        bytes_text(large(&story.source)?)
    ));
    story.say("Each command below is this program; it also gets --json, from which the numbers are read.");
    story.first_copy(whole).await?;
    story.second_copy(whole).await?;
    let whole = story.mirror(whole).await?;
    let whole = story.interrupt(whole).await?;
    story.emptied_source().await?;
    story.verify(whole).await?;
    story.damage(whole).await?;
    story.title("That was it");
    story.say("Everything came out as told. For what each verb takes: distcp VERB --help.");
    Ok(())
}

impl Story<'_> {
    async fn first_copy(&mut self, whole: Amount) -> Result<()> {
        self.title("The first copy");
        self.say("Every file is read once, hashed with BLAKE3 while it passes through, and written; a manifest of the target is kept in the state.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, whole.files)?;
        check("bytes written", run.number("/bytes/written")?, whole.bytes)?;
        self.saw(format!("copied {} in {}.", amount(whole), took(&run)?));
        Ok(())
    }

    async fn second_copy(&mut self, whole: Amount) -> Result<()> {
        self.title("The same again");
        self.say("Nothing has changed: both sides are listed, compared with the manifest, and that is all.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, 0)?;
        check("objects equal", run.number("/counts/equal")?, whole.files)?;
        check("bytes read", run.number("/bytes/read")?, 0)?;
        self.saw(format!("{} objects equal, 0 bytes read, in {}.", grouped(whole.files), took(&run)?));
        Ok(())
    }

    async fn mirror(&mut self, whole: Amount) -> Result<Amount> {
        self.title("A day of changes, mirrored");
        let root = self.source.clone();
        let (added, rewritten, removed, renamed) = on_disk(move || {
            let added = tree::add_partition(&root, &tree::partition("sales.db/orders", 50))?;
            let rewritten = tree::rewrite(&root, &tree::partition("web.db/visits", 3))?;
            let removed = tree::remove(&root, &tree::partition("web.db/visits", 0))?;
            let from = root.join("sales.db/payments");
            let renamed = tree::measure(&from)?;
            std::fs::rename(&from, root.join("sales.db/receipts"))?;
            Ok((added, rewritten, removed, renamed))
        })
        .await?;
        self.say(format!(
            "A partition was added ({} files), one rewritten ({}), one removed ({}), and a table renamed ({} files, {}). \
             --delete makes the target a mirror; --dry-run shows first what would happen.",
            added.files, rewritten.files, removed.files, grouped(renamed.files), bytes_text(renamed.bytes)
        ));
        let copies = added.files + rewritten.files + renamed.files;
        let deletes = removed.files + renamed.files;
        let before = measure(&self.target).await?;
        let plan = self.run(&["copy", "--delete", "--dry-run"], ExitCode::Done).await?;
        let planned = plan.number("/planned/copies")? + plan.number("/planned/compares")?;
        check("objects that would be copied or compared", planned, copies)?;
        check("objects that would be deleted", plan.number("/planned/deletes")?, deletes)?;
        check("files on the target after the dry run", measure(&self.target).await?.files, before.files)?;
        self.saw(format!("would copy {}, delete {}; nothing was touched.", grouped(copies), grouped(deletes)));
        let run = self.run(&["copy", "--delete"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, copies)?;
        check("objects deleted", run.number("/counts/deleted")?, deletes)?;
        check("objects copied on the target itself", run.count("means", "server_side"), renamed.files)?;
        let read = run.number("/bytes/read")?;
        check_at_most("bytes read", read, added.bytes + 2 * rewritten.bytes)?;
        self.saw(format!(
            "copied {} and deleted {} in {}; the renamed table was recognised and copied on the target itself: {} were read.",
            grouped(copies), grouped(deletes), took(&run)?, bytes_text(read)
        ));
        Ok(Amount {
            files: whole.files + added.files - removed.files,
            bytes: whole.bytes + added.bytes - removed.bytes,
        })
    }

    async fn interrupt(&mut self, whole: Amount) -> Result<Amount> {
        self.title("Killed in the middle");
        let root = self.source.clone();
        let added = on_disk(move || tree::add_export(&root, "exports/nightly", 40, 3 << 20)).await?;
        self.say(format!(
            "A nightly export of {} arrives. Its copy, slowed down to {SLOW} a second, is killed (kill -9) after {KILL_AFTER} objects.",
            amount(added)
        ));
        let words = ["copy", "--bwlimit", SLOW];
        self.show(&words);
        let copied =
            |lines: &[Value]| lines.iter().filter(|line| line["outcome"] == "copied").count() as u64 >= KILL_AFTER;
        let killed = self.program.run_until(&self.words(&words), copied).await?;
        if killed.code.is_some() {
            return Err(Failure::new(ExitCode::Failed, "the run ended before it could be killed"));
        }
        let arrived = killed.count("outcome", "copied");
        self.saw(format!("killed; {arrived} objects had arrived, none of them half."));
        self.say("The next run sees that the holder of the lease is gone, takes over, and does the rest.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        let (rest, written) = (run.number("/counts/copied")?, run.number("/bytes/written")?);
        check_at_most("objects copied by the second run", rest, added.files - arrived)?;
        let after = Amount { files: whole.files + added.files, bytes: whole.bytes + added.bytes };
        check("objects equal or copied", rest + run.number("/counts/equal")?, after.files)?;
        check("files on the target", measure(&self.target).await?.files, after.files)?;
        self.saw(format!(
            "copied the remaining {rest} objects ({}) in {}; what had arrived was not sent again.",
            bytes_text(written),
            took(&run)?
        ));
        Ok(after)
    }

    async fn emptied_source(&mut self) -> Result<()> {
        self.title("An emptied source");
        self.say("Now the source looks empty: a disk that was not mounted. A mirror that obeyed would empty the target, too.");
        let (source, aside) = (self.source.clone(), self.source.with_extension("aside"));
        let before = measure(&self.target).await?;
        let (from, to) = (source.clone(), aside.clone());
        on_disk(move || std::fs::rename(&from, &to).and_then(|()| std::fs::create_dir(&from))).await?;
        let run = self.run(&["copy", "--delete"], ExitCode::Refused).await?;
        on_disk(move || std::fs::remove_dir(&source).and_then(|()| std::fs::rename(&aside, &source))).await?;
        check("files on the target", measure(&self.target).await?.files, before.files)?;
        self.saw(format!("exit code 5, nothing was done: {}", run.last_line));
        Ok(())
    }

    async fn verify(&mut self, whole: Amount) -> Result<()> {
        self.title("Is it right?");
        self.say("verify compares both sides and changes nothing. What the manifest vouches for and nobody touched is not read again.");
        let run = self.run(&["verify"], ExitCode::Done).await?;
        check("keys equal", run.number("/differences/equal")?, whole.files)?;
        self.saw(format!(
            "{} keys equal, {} read, in {}.",
            grouped(whole.files),
            bytes_text(run.number("/bytes/read")?),
            took(&run)?
        ));
        Ok(())
    }

    async fn damage(&mut self, whole: Amount) -> Result<()> {
        self.title("One flipped bit");
        let path = self.target.join(tree::LARGE);
        on_disk(move || tree::damage(&path)).await?;
        self.say(format!(
            "One bit in the middle of ./{TARGET}/{} was flipped, its size and time left as they were. --level content reads everything, on both sides.",
            tree::LARGE
        ));
        let run = self.run(&["verify", "--level", "content"], ExitCode::Differs).await?;
        check("keys that differ", run.number("/differences/differ")?, 1)?;
        check("keys equal", run.number("/differences/equal")?, whole.files - 1)?;
        let named = run.lines.iter().any(|line| line["mark"] == "differ" && line["key"] == tree::LARGE);
        check("lines that name the damaged file", u64::from(named), 1)?;
        self.saw(format!(
            "exit code 4 after reading {} in {}:  * {}",
            bytes_text(run.number("/bytes/read")?),
            took(&run)?,
            tree::LARGE
        ));
        self.say("A copy mends it: the target is not what the last run left, so its content is compared.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, 1)?;
        self.saw(format!("copied 1 object in {}.", took(&run)?));
        Ok(())
    }

    fn words<'w>(&self, words: &[&'w str]) -> Vec<&'w str> {
        let (verb, options) = words.split_at(words.len().min(1));
        verb.iter().chain(&PLACES).chain(options).copied().collect()
    }

    fn show(&self, words: &[&str]) {
        self.tell("command", format!("distcp {}", self.words(words).join(" ")), |text| format!("  $ {text}"));
    }

    /// Runs a command that must end with `code`.
    async fn run(&self, words: &[&str], code: ExitCode) -> Result<Ended> {
        self.show(words);
        let ended = self.program.run(&self.words(words)).await?;
        match ended.code {
            Some(found) if found == i32::from(code.code()) => Ok(ended),
            Some(found) => Err(unexpected("exit code", found, code.code()).hint(ended.last_line)),
            None => Err(Failure::new(ExitCode::Failed, "the command was killed from outside")),
        }
    }

    fn title(&mut self, text: &str) {
        self.step += 1;
        let step = self.step;
        self.tell("title", text.to_owned(), |text| format!("\n{step}. {text}"));
    }

    fn say(&self, text: impl Into<String>) {
        self.tell("text", text.into(), wrapped);
    }

    fn saw(&self, text: String) {
        self.tell("result", text, |text| wrapped(&format!("=> {text}")));
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

fn amount(amount: Amount) -> String {
    format!("{} files ({})", grouped(amount.files), bytes_text(amount.bytes))
}

fn took(run: &Ended) -> Result<String> {
    Ok(duration_text(std::time::Duration::from_millis(run.number("/duration_ms")?)))
}

fn large(source: &Path) -> Result<u64> {
    std::fs::metadata(source.join(tree::LARGE)).map(|metadata| metadata.len()).map_err(|error| broken(&error))
}

async fn measure(root: &Path) -> Result<Amount> {
    let root = root.to_owned();
    on_disk(move || tree::measure(&root)).await
}

/// File work on a thread of its own.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?.map_err(|error| broken(&error))
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Failed, format!("the demo's files cannot be prepared: {error}"))
}

fn unexpected(what: &str, found: impl std::fmt::Display, wanted: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Failed, format!("this step did not come out as told: {what}: {found}, not {wanted}"))
}

fn check(what: &str, found: u64, wanted: u64) -> Result<()> {
    if found == wanted { Ok(()) } else { Err(unexpected(what, found, wanted)) }
}

fn check_at_most(what: &str, found: u64, most: u64) -> Result<()> {
    if found <= most { Ok(()) } else { Err(unexpected(what, found, format!("at most {most}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
