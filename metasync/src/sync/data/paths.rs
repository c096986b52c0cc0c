//! The plain trees of a policy (`[[paths]]`): one distcp job each, which are planned before anything is written, as those of
//! tables are. A crash leaves what a job of distcp leaves: objects that a journal names.

use super::drift::{Foreign, is_foreign, is_gone};
use super::{Trust, as_of, base};
use crate::policy::{Clash, PathRule};
use crate::sync::Setting;
use distcp::assemble::{self, JobSpec};
use distcp::error::{Failure, Result};
use distcp::filter::Filter;
use distcp::job::Job;
use distcp::options::CopyOptions;
use distcp::plan::PlanTotals;
use distcp::run;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A plain tree of the policy with the job that copies it.
pub struct PathTree {
    /// Where it comes from and goes, in words.
    pub name: String,
    /// What only the target has goes.
    pub deletes: bool,
    /// Its copy.
    pub job: Job,
}

impl PathTree {
    /// By which doubts and the cycle of a rolling verification know it.
    pub fn key(&self) -> String {
        format!("{} path", self.name)
    }

    /// Plans, and writes nothing. With the guard that refuses it.
    pub async fn draft(&self) -> Result<(PathDraft, Option<Failure>)> {
        let (plan, refusal) = run::draft(&self.job).await?;
        let (totals, has_base) = (plan.header.totals.clone(), plan.header.base.is_some());
        let (is_idle, as_of) = (plan.rows == 0 && has_base, as_of(&plan)?);
        let read = move || -> Result<(Foreign, Foreign)> {
            let (mut foreign, mut gone) = (Foreign::default(), Foreign::default());
            for action in plan.actions()? {
                let action = action?;
                if is_foreign(&action, has_base) {
                    foreign.add(&action.key);
                }
                if is_gone(&action, has_base) {
                    gone.add(&action.key);
                }
            }
            Ok((foreign, gone))
        };
        let (foreign, gone) = tokio::task::spawn_blocking(read).await??;
        Ok((PathDraft { totals, as_of, is_idle, has_base, foreign, gone }, refusal))
    }
}

/// What a plan of a plain tree says.
pub struct PathDraft {
    /// Counts.
    pub totals: PlanTotals,
    /// The moment that the source's listing stands for.
    pub as_of: Timestamp,
    /// There is nothing to do, and a manifest says what stands there.
    pub is_idle: bool,
    /// Whether a manifest was committed before.
    pub has_base: bool,
    /// Objects of the target that the run would delete or overwrite, and that are not as the last run left them.
    pub foreign: Foreign,
    /// Objects that a run left on the target, and that somebody else removed.
    pub gone: Foreign,
}

/// What a path of a policy is called.
fn name(rule: &PathRule) -> String {
    format!("{} to {}", rule.from, rule.to)
}

/// Opens the job of each of the policy's paths, by their names; one whose store cannot be opened is its own trouble. Errors: the
/// policy contradicts itself.
pub fn open_paths(setting: &Setting, trust: Trust<'_>) -> Result<Vec<(String, Result<PathTree>)>> {
    let read = |text: &str| setting.opener.place(text.as_ref(), &setting.cwd, &BTreeMap::new()).ok();
    if let Some(Clash { key, why }) = setting.policy.clash(read) {
        return Err(Failure::usage(format!("the policy's {key} {why}")));
    }
    let open = |rule: &PathRule| {
        let base = base(setting, &rule.from, &rule.to, "path");
        let options =
            CopyOptions { delete: rule.delete, allow_empty_source: false, filter: Filter::default(), ..base.options };
        let job = assemble::job(JobSpec { options, ..base }, &setting.opener)?;
        let path = PathTree { name: name(rule), deletes: rule.delete, job };
        let key = path.key();
        Ok(PathTree { job: trust.bind(path.job, &key), ..path })
    };
    Ok(setting.policy.paths.iter().map(|rule| (name(rule), open(rule))).collect())
}
