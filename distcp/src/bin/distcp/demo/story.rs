//! What the demo tells, step by step, and what it checks of each.

use std::path::{Path, PathBuf};

use distcp::console::demo::{
    Amount, Ended, Teller, amount_text, check, check_at_most, damage, measure, measured, on_disk, took,
};
use distcp::console::output::{bytes_text, grouped};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use serde_json::Value;

use super::tree;

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

struct Story<'a, 'b> {
    teller: &'a mut Teller<'b>,
    source: PathBuf,
    target: PathBuf,
}

/// Tells the whole story in `folder`.
pub async fn tell(teller: &mut Teller<'_>, folder: &Path) -> Result<()> {
    let mut story = Story { teller, source: folder.join(SOURCE), target: folder.join(TARGET) };
    story.teller.title("A warehouse");
    let root = story.source.clone();
    let whole = on_disk(move || tree::build(&root)).await?;
    story.teller.say(format!(
        "In {} there is now ./{SOURCE}: {}, three tables of daily partitions and one export of {}.",
        folder.display(),
        amount_text(whole),
        bytes_text(large(&story.source)?)
    ));
    story.teller.say("Each command below is this program; it also gets --json, from which the numbers are read.");
    story.first_copy(whole).await?;
    story.second_copy(whole).await?;
    let whole = story.mirror(whole).await?;
    let whole = story.interrupt(whole).await?;
    story.emptied_source().await?;
    story.verify(whole).await?;
    story.damage(whole).await?;
    story.teller.title("That was it");
    story.teller.say("Everything came out as told. For what each verb takes: distcp VERB --help.");
    Ok(())
}

impl Story<'_, '_> {
    async fn first_copy(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("The first copy");
        self.teller.say("Every file is read once, hashed with BLAKE3 while it passes through, and written; a manifest of the target is kept in the state.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, whole.files)?;
        check("bytes written", run.number("/bytes/written")?, whole.bytes)?;
        self.teller.saw(format!("copied {} in {}.", amount_text(whole), took(&run)?));
        Ok(())
    }

    async fn second_copy(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("The same again");
        self.teller.say("Nothing has changed: both sides are listed, compared with the manifest, and that is all.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, 0)?;
        check("objects equal", run.number("/counts/equal")?, whole.files)?;
        check("bytes read", run.number("/bytes/read")?, 0)?;
        self.teller.saw(format!("{} objects equal, 0 bytes read, in {}.", grouped(whole.files), took(&run)?));
        Ok(())
    }

    async fn mirror(&mut self, whole: Amount) -> Result<Amount> {
        self.teller.title("A day of changes, mirrored");
        let root = self.source.clone();
        let (added, rewritten, removed, renamed) = on_disk(move || {
            let added = tree::add_partition(&root, &tree::partition("sales.db/orders", 50))?;
            let rewritten = tree::rewrite(&root, &tree::partition("web.db/visits", 3))?;
            let removed = tree::remove(&root, &tree::partition("web.db/visits", 0))?;
            let from = root.join("sales.db/payments");
            let renamed = measure(&from)?;
            std::fs::rename(&from, root.join("sales.db/receipts"))?;
            Ok((added, rewritten, removed, renamed))
        })
        .await?;
        self.teller.say(format!(
            "A partition was added ({} files), one rewritten ({}), one removed ({}), and a table renamed ({} files, {}). \
             --delete makes the target a mirror; --dry-run shows first what would happen.",
            added.files, rewritten.files, removed.files, grouped(renamed.files), bytes_text(renamed.bytes)
        ));
        let copies = added.files + rewritten.files + renamed.files;
        let deletes = removed.files + renamed.files;
        let before = measured(&self.target).await?;
        let plan = self.run(&["copy", "--delete", "--dry-run"], ExitCode::Done).await?;
        let planned = plan.number("/planned/copies")? + plan.number("/planned/compares")?;
        check("objects that would be copied or compared", planned, copies)?;
        check("objects that would be deleted", plan.number("/planned/deletes")?, deletes)?;
        check("files on the target after the dry run", measured(&self.target).await?.files, before.files)?;
        self.teller.saw(format!("would copy {}, delete {}; nothing was touched.", grouped(copies), grouped(deletes)));
        let run = self.run(&["copy", "--delete"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, copies)?;
        check("objects deleted", run.number("/counts/deleted")?, deletes)?;
        check("objects copied on the target itself", run.count("means", "server_side"), renamed.files)?;
        let read = run.number("/bytes/read")?;
        check_at_most("bytes read", read, added.bytes + 2 * rewritten.bytes)?;
        self.teller.saw(format!(
            "copied {} and deleted {} in {}; the renamed table was recognised and copied on the target itself: {} were read.",
            grouped(copies), grouped(deletes), took(&run)?, bytes_text(read)
        ));
        Ok(Amount {
            files: whole.files + added.files - removed.files,
            bytes: whole.bytes + added.bytes - removed.bytes,
        })
    }

    async fn interrupt(&mut self, whole: Amount) -> Result<Amount> {
        self.teller.title("Killed in the middle");
        let root = self.source.clone();
        let added = on_disk(move || tree::add_export(&root, "exports/nightly", 40, 3 << 20)).await?;
        self.teller.say(format!(
            "A nightly export of {} arrives. Its copy, slowed down to {SLOW} a second, is killed (kill -9) after {KILL_AFTER} objects.",
            amount_text(added)
        ));
        let words = ["copy", "--bwlimit", SLOW];
        let copied =
            |lines: &[Value]| lines.iter().filter(|line| line["outcome"] == "copied").count() as u64 >= KILL_AFTER;
        let killed = self.teller.run_and_kill(&with_places(&words), copied).await?;
        let arrived = killed.count("outcome", "copied");
        self.teller.saw(format!("killed; {arrived} objects had arrived, none of them half."));
        self.teller.say("The next run sees that the holder of the lease is gone, takes over, and does the rest.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        let (rest, written) = (run.number("/counts/copied")?, run.number("/bytes/written")?);
        check_at_most("objects copied by the second run", rest, added.files - arrived)?;
        let after = Amount { files: whole.files + added.files, bytes: whole.bytes + added.bytes };
        check("objects equal or copied", rest + run.number("/counts/equal")?, after.files)?;
        check("files on the target", measured(&self.target).await?.files, after.files)?;
        self.teller.saw(format!(
            "copied the remaining {rest} objects ({}) in {}; what had arrived was not sent again.",
            bytes_text(written),
            took(&run)?
        ));
        Ok(after)
    }

    async fn emptied_source(&mut self) -> Result<()> {
        self.teller.title("An emptied source");
        self.teller.say("Now the source looks empty: a disk that was not mounted. A mirror that obeyed would empty the target, too.");
        let (source, aside) = (self.source.clone(), self.source.with_extension("aside"));
        let before = measured(&self.target).await?;
        let (from, to) = (source.clone(), aside.clone());
        on_disk(move || std::fs::rename(&from, &to).and_then(|()| std::fs::create_dir(&from))).await?;
        let run = self.run(&["copy", "--delete"], ExitCode::Refused).await?;
        on_disk(move || std::fs::remove_dir(&source).and_then(|()| std::fs::rename(&aside, &source))).await?;
        check("files on the target", measured(&self.target).await?.files, before.files)?;
        self.teller.saw(format!("exit code 5, nothing was done: {}", run.last_line));
        Ok(())
    }

    async fn verify(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("Is it right?");
        self.teller.say("verify compares both sides and changes nothing. What the manifest vouches for and nobody touched is not read again.");
        let run = self.run(&["verify"], ExitCode::Done).await?;
        check("keys equal", run.number("/differences/equal")?, whole.files)?;
        self.teller.saw(format!(
            "{} keys equal, {} read, in {}.",
            grouped(whole.files),
            bytes_text(run.number("/bytes/read")?),
            took(&run)?
        ));
        Ok(())
    }

    async fn damage(&mut self, whole: Amount) -> Result<()> {
        self.teller.title("One flipped bit");
        let path = self.target.join(tree::LARGE);
        on_disk(move || damage(&path)).await?;
        self.teller.say(format!(
            "One bit in the middle of ./{TARGET}/{} was flipped, its size and time left as they were. --level content reads everything, on both sides.",
            tree::LARGE
        ));
        let run = self.run(&["verify", "--level", "content"], ExitCode::Differs).await?;
        check("keys that differ", run.number("/differences/differ")?, 1)?;
        check("keys equal", run.number("/differences/equal")?, whole.files - 1)?;
        let named = run.lines.iter().any(|line| line["mark"] == "differ" && line["key"] == tree::LARGE);
        check("lines that name the damaged file", u64::from(named), 1)?;
        self.teller.saw(format!(
            "exit code 4 after reading {} in {}:  * {}",
            bytes_text(run.number("/bytes/read")?),
            took(&run)?,
            tree::LARGE
        ));
        self.teller.say("A copy mends it: the target is not what the last run left, so its content is compared.");
        let run = self.run(&["copy"], ExitCode::Done).await?;
        check("objects copied", run.number("/counts/copied")?, 1)?;
        self.teller.saw(format!("copied 1 object in {}.", took(&run)?));
        Ok(())
    }

    /// Runs a command, with the places behind its verb, that must end with `code`.
    async fn run(&self, words: &[&str], code: ExitCode) -> Result<Ended> {
        self.teller.run(&with_places(words), code).await
    }
}

fn with_places<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let (verb, options) = words.split_at(words.len().min(1));
    verb.iter().chain(&PLACES).chain(options).copied().collect()
}

fn large(source: &Path) -> Result<u64> {
    std::fs::metadata(source.join(tree::LARGE))
        .map(|metadata| metadata.len())
        .map_err(|error| Failure::new(ExitCode::Failed, format!("the demo's files cannot be measured: {error}")))
}
