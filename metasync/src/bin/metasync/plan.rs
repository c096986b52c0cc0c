//! `metasync plan`: what `run` would do now, without doing it.

use crate::policy::{PolicyArgs, TableArgs};
use crate::run::{AllowedArgs, RUN_CODES};
use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::{bytes_text, counted};
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use metasync::metastore::Change;
use metasync::sync::{self, Allowed, Planned};
use serde::Serialize;

const EXAMPLE: &str = "metasync plan sales.toml
metasync plan --json sales.toml";

/// Show what run would do now, and change nothing
///
/// One line an object that differs. A plan that a guard would refuse ends with the same code as run.
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
    let quarantined = planned.survey.tables.iter().filter(|table| table.quarantine.is_some()).count();
    output.say(match steps {
        0 => "nothing to do: the replica is in step".to_owned(),
        steps => format!("{}; nothing was changed", counted(steps, "step", "steps")),
    });
    let code = if quarantined > 0 { ExitCode::Partial } else { ExitCode::Done };
    Ok(shell.done("plan", code))
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
    for drop in &survey.drops {
        let files = match &drop.folder {
            Some(folder) if planned.removals.contains(&folder.to_string()) => format!("with its files in {folder}"),
            Some(_) => "its files stay, another table has them".to_owned(),
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
            tell(step, format!("table {}", table.target), parts.join(", "));
        }
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
    let paths = planned.paths.iter().map(|(path, draft)| (path.name.clone(), &draft.totals));
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
