//! `metasync plan`: what `run` would do now, without doing it.

use crate::policy::{PolicyArgs, TableArgs};
use crate::run::{AllowedArgs, RUN_CODES};
use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::{Output, bytes_text, counted, grouped};
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use manifest::ObjectKey;
use metasync::location::Location;
use metasync::metastore::Change;
use metasync::rewrites::Why;
use metasync::sync::rewritten::{Line, listed};
use metasync::sync::{self, Allowed, Planned};
use metasync::volatile::{REPLICATION_PARAMETERS, REPLICATION_PREFIXES, VOLATILE_PARAMETERS};
use serde::Serialize;
use std::collections::BTreeSet;

const EXAMPLE: &str = "metasync plan sales.toml
metasync plan --json sales.toml";

/// Show what run would do now, and change nothing
///
/// One line an object that differs. Then one for each value that is not on the replica as it is at the source: `rewrite` for
/// parameters, function resources and texts of views in which [[locations]] or [rename] change something, `convert` for what
/// the target's version cannot hold as it is, `off` for what would let a metastore act on the replica by itself. Many partitions
/// of a table are one line with a count and an example. An object's own location always is the target's, and is not listed.
/// Last, the parameters that are not compared. A plan that a guard would refuse ends with the same code as run.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &RUN_CODES))]
pub struct PlanVerb {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tables: TableArgs,
    #[command(flatten)]
    allowed: AllowedArgs,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &PlanVerb) -> ExitCode {
    match show(shell, verb).await {
        Ok(code) => code,
        Err(failure) => shell.fail("plan", failure),
    }
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    step: &'a str,
    object: String,
    detail: String,
}

/// A value that the replica gets in other words.
#[derive(Serialize)]
struct Rewrite<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

/// Values that are not listed.
#[derive(Serialize)]
struct More {
    #[serde(rename = "type")]
    kind: &'static str,
    more: u64,
}

/// Parameters that are not compared, by key and by the key's beginning.
#[derive(Serialize)]
struct NotCompared<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    keys: &'a [&'a str],
    prefixes: &'a [&'a str],
}

async fn show(shell: &Shell, verb: &PlanVerb) -> Result<ExitCode> {
    let setting = verb.policy.setting(shell)?;
    let allowed = Allowed {
        adopt: verb.allowed.adopt,
        overwrite_drift: verb.allowed.overwrite_drift,
        policy_change: verb.allowed.accept_policy_change,
        selection: verb.tables.selection()?,
        ..Allowed::default()
    };
    let planned = shell.shown_by(setting.progress.clone(), Vec::new(), sync::plan(&setting, &allowed)).await?;
    let output = &shell.output;
    let mut steps = 0;
    lines(&planned, &mut |step, object, detail| {
        steps += 1;
        match output.is_json() {
            true => output.json(&Step { kind: "step", step, object, detail }),
            false if detail.is_empty() => output.data(format!("{step} {object}")),
            false => output.data(format!("{step} {object}: {detail}")),
        }
    });
    if steps > 0 {
        rewritten(output, &planned);
        not_compared(output);
    }
    let quarantined = planned.survey.tables.iter().filter(|table| table.quarantine.is_some()).count();
    output.say(match steps {
        0 => "nothing to do: the replica is in step".to_owned(),
        steps => format!("{}; nothing was changed", counted(steps, "step", "steps")),
    });
    let is_partial = quarantined + planned.survey.damaged.len() > 0;
    let codes = planned.paths.failed.values().map(|(code, _)| *code);
    Ok(shell.done("plan", ExitCode::first(codes.chain(is_partial.then_some(ExitCode::Partial)))))
}

fn rewritten(output: &Output, planned: &Planned) {
    let listed = listed(planned);
    for line in &listed.lines {
        match output.is_json() {
            true => output.json(&Rewrite { kind: "rewrite", line }),
            false => output.data(in_words(line)),
        }
    }
    match (listed.more, output.is_json()) {
        (0, _) => {}
        (more, true) => output.json(&More { kind: "rewrites_not_listed", more }),
        (more, false) => output.data(format!("and {more} more that are rewritten, converted or off")),
    }
}

fn in_words(line: &Line<'_>) -> String {
    let word = match line.why {
        Why::Location | Why::Rename => "rewrite",
        Why::Version => "convert",
        Why::SwitchedOff => "off",
    };
    let plain = |text: &str| ObjectKey::from(text).escaped().into_owned();
    let mut text = format!("{word} {}: {}", line.object, plain(line.key));
    let (times, example) = match line.count {
        1 => (String::new(), ""),
        count => (format!(", {} times", grouped(count)), ", such as"),
    };
    text.push_str(&times);
    if let Some(from) = line.from {
        let to = line.to.map_or_else(|| "none".to_owned(), plain);
        text.push_str(&format!("{example} from {} to {to}", plain(from)));
    }
    text
}

fn not_compared(output: &Output) {
    let keys = [&VOLATILE_PARAMETERS[..], &REPLICATION_PARAMETERS].concat();
    match output.is_json() {
        true => output.json(&NotCompared { kind: "not_compared", keys: &keys, prefixes: &REPLICATION_PREFIXES }),
        false => output.data(format!(
            "not compared: {}, and what begins with {}",
            keys.join(", "),
            REPLICATION_PREFIXES.join(" or ")
        )),
    }
}

fn lines(planned: &Planned, tell: &mut dyn FnMut(&str, String, String)) {
    let survey = &planned.survey;
    for database in &survey.databases {
        if !database.changes.is_empty() {
            let step = if database.is_new { "create" } else { "alter" };
            tell(step, format!("database {}", database.target), String::new());
        }
        for change in &database.functions {
            match change {
                Change::PutFunction(function) => {
                    tell("put", format!("function {}.{}", database.target, function.name), String::new());
                }
                Change::DropFunction { name, .. } => {
                    tell("drop", format!("function {}.{name}", database.target), String::new());
                }
                _ => {}
            }
        }
    }
    let going = planned.removals.iter().filter_map(|folder| Location::parse(folder).ok());
    let going: BTreeSet<Vec<String>> = going.map(|folder| folder.path()).collect();
    for drop in &survey.drops {
        let goes = |folder: &&Location| going.contains(&folder.path());
        let (own, rest) = match drop.folders.split_first() {
            Some((own, rest)) => (Some(own), rest.iter().filter(goes).count() as u64),
            None => (None, 0),
        };
        let more = match rest {
            0 => String::new(),
            rest => format!(", with those in {} of its partitions", counted(rest, "other folder", "other folders")),
        };
        let files = match own {
            Some(own) if goes(&own) => format!("with its files in {own}{more}"),
            Some(own) if planned.postponed.contains(&own.to_string()) => {
                format!("its files in {own} wait: the target holds what cannot be read")
            }
            Some(_) => format!("its files stay, another table has them{more}"),
            None => "its files stay".to_owned(),
        };
        tell("drop", format!("table {}", drop.target), files);
    }
    for (at, table) in survey.tables.iter().enumerate() {
        if let Some(why) = &table.quarantine {
            tell("quarantine", format!("table {}", table.source), why.clone());
        } else if let Some((count, first)) = planned.waiting.get(&at) {
            let files = counted(*count, "file", "files");
            tell("wait", format!("table {}", table.target), format!("{files} are not on the target yet: {first}"));
        } else if table.differs() {
            let step = if table.is_new { "create" } else { "alter" };
            let mut parts = if table.is_new { Vec::new() } else { table.differing.clone() };
            if !table.put.is_empty() {
                parts.push(format!("{} to put", counted(table.put.len() as u64, "partition", "partitions")));
            }
            if table.drop > 0 {
                parts.push(format!("{} to drop", counted(table.drop, "partition", "partitions")));
            }
            let goes = |(of, folder): &&(usize, Location)| *of == at && going.contains(&folder.path());
            let left = survey.left.iter().filter(goes).count() as u64;
            if left > 0 {
                parts.push(format!("{} to empty that it leaves", counted(left, "folder", "folders")));
            }
            tell(step, format!("table {}", table.target), parts.join(", "));
        }
    }
    for damaged in &survey.damaged {
        tell("quarantine", damaged.object.clone(), damaged.why.clone());
    }
    for (name, (_, why)) in &planned.paths.failed {
        tell("quarantine", format!("path {name}"), why.clone());
    }
    for database in &survey.gone {
        tell("drop", format!("database {database}"), String::new());
    }
    for (folder, to) in &planned.switches {
        tell("switch", folder.clone(), format!("its files are made anew in {to}"));
    }
    for (what, why) in &planned.in_place {
        tell("in-place", what.clone(), format!("its files are replaced where readers are: {why}"));
    }
    for folder in &planned.retiring {
        tell("remove", folder.clone(), "another folder took its place".to_owned());
    }
    let trees = planned.trees.iter().zip(&planned.drafts);
    let trees = trees.map(|(tree, draft)| (format!("{} to {}", tree.root.from, tree.root.to), &draft.totals));
    let paths = planned.paths.planned.iter().map(|(path, draft)| (path.name.clone(), &draft.totals));
    for (name, totals) in trees.chain(paths) {
        let work = [("to copy", totals.copies), ("to compare", totals.compares), ("to delete", totals.deletes)];
        let parts: Vec<String> = work
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{} {what}", counted(*count, "object", "objects")))
            .collect();
        if !parts.is_empty() {
            let bytes = bytes_text(totals.copy_bytes + totals.compare_bytes);
            tell("copy", name, format!("{}, {bytes}", parts.join(", ")));
        }
    }
}
