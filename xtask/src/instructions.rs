//! Counts the instructions of fixed pieces of work (program `instructions` of the benches) and holds them against the
//! accepted counts: a step of `cargo xtask test`, and `cargo xtask bench instructions`.
//!
//! The counting is valgrind's, with callgrind: it is the same to some thousandths whatever else the machine does. It is
//! done in the dev profile, with which the tests were built anyway. Writes only logs, and the ledger when asked to.

mod ledger;

use crate::command::{Interrupt, cargo, program, run_logged, tail};
use crate::folders::Folders;
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail, ensure};
use ledger::Ledger;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the counting of one case may take.
const CASE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The functions of the program at whose entry callgrind writes down what it counted since the last time.
const BEGIN: &str = "*begin_counting*";
const END: &str = "*end_counting*";

const ACCEPT: &str = "cargo xtask bench instructions --accept";

const NO_VALGRIND: &str = "instructions are counted by valgrind, which is not here: install the package valgrind";

fn ledger_file(folders: &Folders) -> PathBuf {
    folders.root.join("benches/instructions.txt")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Whether valgrind is there.
pub fn can_count() -> bool {
    program("valgrind").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Counts, and fails if something takes more than was accepted, or an accepted rise is not in the change log. The
/// program has to be built.
pub fn check(folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    ensure!(can_count(), "{NO_VALGRIND}");
    let ledger = Ledger::parse(&read(&ledger_file(folders))?).context("benches/instructions.txt")?;
    let counts = count_all(folders, interrupt)?;
    let mut objections = ledger.objections(&counts);
    if !objections.is_empty() {
        objections.push(format!("make it cheaper; or accept it: {ACCEPT}, and say why in CHANGELOG.md"));
    }
    objections.extend(ledger.untold(&read(&folders.root.join("CHANGELOG.md"))?));
    if !objections.is_empty() {
        bail!("{}\n{}", objections.join("\n    "), ledger.table(&counts).trim_end());
    }
    Ok(())
}

/// `cargo xtask bench instructions`: builds, counts, prints; accepts if asked to.
pub fn bench(accept: bool, build: bool, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    ensure!(can_count(), "{NO_VALGRIND}");
    if build {
        let mut build = cargo(folders);
        build.args(["build", "--workspace", "--bins"]);
        err!("building as the tests do");
        run_logged(&mut build, &folders.xtask().join("bench-build.log"), crate::bench::BUILD_LIMIT, interrupt)?;
    }
    let path = ledger_file(folders);
    let ledger = match path.exists() {
        true => Ledger::parse(&read(&path)?).context("benches/instructions.txt")?,
        false => Ledger::default(),
    };
    let counts = count_all(folders, interrupt)?;
    out!("{}", ledger.table(&counts).trim_end());
    if !accept {
        let objections = ledger.objections(&counts);
        objections.iter().for_each(|objection| err!("error: {objection}"));
        return Ok(objections.is_empty());
    }
    let accepted = ledger.accept(&counts);
    std::fs::write(&path, accepted.to_text()).with_context(|| format!("write {}", path.display()))?;
    let untold = accepted.untold(&read(&folders.root.join("CHANGELOG.md"))?);
    untold.iter().for_each(|line| err!("error: {line}"));
    Ok(untold.is_empty())
}

/// The count of every case of the program.
fn count_all(folders: &Folders, interrupt: &Interrupt) -> Result<BTreeMap<String, u64>> {
    let counted = folders.target.join("debug/instructions");
    let out = program(&counted).output().with_context(|| format!("start {}", counted.display()))?;
    ensure!(out.status.success(), "{} does not name its cases", counted.display());
    let folder = folders.xtask().join("callgrind");
    let names = String::from_utf8(out.stdout).context("the names of the cases")?;
    let counts = names.lines().map(|name| Ok((name.to_owned(), count(&counted, name, &folder, interrupt)?)));
    let counts: BTreeMap<_, _> = counts.collect::<Result<_>>()?;
    ensure!(!counts.is_empty(), "there is nothing to count");
    Ok(counts)
}

/// What one case takes. Callgrind writes `NAME.1` when counting begins, `NAME.2` when it ends, each with what was counted
/// since the one before.
fn count(counted: &Path, name: &str, folder: &Path, interrupt: &Interrupt) -> Result<u64> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let file = folder.join(name);
    let [before, during] = ["1", "2"].map(|number| file.with_extension(number));
    for old in [&before, &during] {
        // Of an earlier run it would be taken for this one's.
        let _ = std::fs::remove_file(old);
    }
    let mut valgrind = program("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(format!("--dump-before={BEGIN}")).arg(format!("--dump-before={END}"));
    valgrind.arg(counted).args(["--case", name]);
    let log = folder.join(format!("{name}.log"));
    run_logged(&mut valgrind, &log, CASE_LIMIT, interrupt).with_context(|| format!("count {name}"))?;
    let unread = || format!("what callgrind counted of {name}, see {}\n{}", log.display(), tail(&log));
    let parsed = read(&before).and_then(|text| total(&text, BEGIN)).and_then(|_| total(&read(&during)?, END));
    parsed.with_context(unread)
}

/// The sum of a file of callgrind's that was written at `trigger`.
fn total(text: &str, trigger: &str) -> Result<u64> {
    let line = |head: &str| text.lines().find_map(|line| line.strip_prefix(head)).map(str::trim);
    let why = line("desc: Trigger:").unwrap_or_default();
    ensure!(why.contains(trigger.trim_matches('*')), "it was written at `{why}`, not at {trigger}");
    line("totals:").context("it has no totals")?.parse().context("its totals are no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_only_from_the_right_file() {
        let text = "version: 1\ndesc: Trigger: --dump-before=instructions::end_counting\nsummary: 9\n\nfn=(1)\n1 2\ntotals: 283695502\n";
        assert_eq!(total(text, END).unwrap(), 283_695_502);
        assert!(total(text, BEGIN).is_err());
        for broken in [text.replace("totals", "tot"), text.replace("totals: 2", "totals: x"), String::new()] {
            assert!(total(&broken, END).is_err(), "{broken}");
        }
    }
}
