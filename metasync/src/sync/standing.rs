//! Rule 34: where other means copy the data, which tables' files stand on the target. Nothing is copied or removed here, and
//! nothing is kept: each run lists both sides again.

use super::Setting;
use super::data::{self, Tree, Trust};
use super::planned::of_tree;
use super::survey::Survey;
use crate::roots::Owner;
use distcp::error::Result;
use distcp::plan::Step;
use distcp::run;
use jiff::Timestamp;
use manifest::EntryKind;
use std::collections::BTreeMap;

/// What stands on the target.
#[derive(Default)]
pub(super) struct Standing {
    /// Tables that lack files there: how many, and the first.
    pub lacking: BTreeMap<usize, (u64, String)>,
    /// The oldest moment for which the storage on either side vouches, if it says so.
    pub synced: Option<Timestamp>,
}

impl Standing {
    fn older(&mut self, moment: Option<Timestamp>) {
        self.synced = [self.synced, moment].into_iter().flatten().min();
    }
}

/// Lists the folders of all tables on both sides. A file stands there when it has its size.
pub(super) async fn look(setting: &Setting, survey: &Survey) -> Result<Standing> {
    let mut standing = Standing::default();
    for tree in data::open(setting, survey, survey.roots(&setting.policy.locations), Trust::default())? {
        look_at(&tree, &mut standing).await?;
    }
    Ok(standing)
}

async fn look_at(tree: &Tree, standing: &mut Standing) -> Result<()> {
    // Asked before the listing: what arrives meanwhile is no younger than this.
    for store in [&tree.job.source.store, &tree.job.target.store] {
        standing.older(store.synced().await.map_err(|error| of_tree(tree, error.into()))?);
    }
    let (plan, _) = run::draft(&tree.job).await.map_err(|failure| of_tree(tree, failure))?;
    let root = tree.root.clone();
    let read = move || -> Result<BTreeMap<usize, (u64, String)>> {
        let mut lacking: BTreeMap<usize, (u64, String)> = BTreeMap::new();
        for action in plan.actions()? {
            let action = action?;
            if action.step != Step::Copy || action.kind == EntryKind::Folder {
                continue;
            }
            for owner in root.owners(&action.key) {
                if let Owner::Table(at) = owner {
                    let place = || (0, root.to.below(&action.key.escaped()).to_string());
                    lacking.entry(at).or_insert_with(place).0 += 1;
                }
            }
        }
        Ok(lacking)
    };
    for (at, (count, first)) in tokio::task::spawn_blocking(read).await?? {
        standing.lacking.entry(at).or_insert((0, first)).0 += count;
    }
    Ok(())
}
