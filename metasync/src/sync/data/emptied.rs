//! Rule 27: folders of tables that held data and hold none at the source. Lists, and changes nothing.

use super::{Draft, Tree};
use crate::metastore::Snapshot;
use crate::model::PartitionName;
use crate::roots::Owner;
use crate::sync::events::Seen;
use crate::sync::failure;
use crate::sync::survey::Survey;
use distcp::error::Result;
use distcp::filter::Filter;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::StreamExt as _;
use manifest::{EntryKind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Tree {
    /// Rule 27: tables of which a folder held data and now holds none, with the folder.
    pub async fn emptied(
        &self,
        draft: &Draft,
        survey: &Survey,
        seen: &Seen,
        source: &dyn Snapshot,
    ) -> Result<BTreeMap<usize, String>> {
        let mut emptied = BTreeMap::new();
        let mut names: BTreeMap<usize, BTreeSet<PartitionName>> = BTreeMap::new();
        for (at, folder) in &draft.shrunk {
            let Some(table) = survey.tables.get(*at).filter(|_| !emptied.contains_key(at)) else { continue };
            let home =
                self.root.folders.iter().find(|(key, owners)| {
                    owners.contains(&Owner::Table(*at)) && folder.is_within(key) && *key != folder
                });
            let mut partition = None;
            if let (Some((home, _)), true) = (home, table.keys > 0) {
                if !names.contains_key(at) {
                    let live = source.partition_names(&table.source).await.map_err(failure)?;
                    names.insert(*at, live.into_iter().collect());
                }
                let inner = &folder.as_bytes()[if home.is_empty() { 0 } else { home.as_bytes().len() + 1 }..];
                let name = PartitionName(String::from_utf8_lossy(inner).into_owned());
                // A partition that was dropped takes its files with it.
                if !names.get(at).is_some_and(|live| live.contains(&name)) {
                    continue;
                }
                partition = Some(name);
            }
            if !seen.explains(&table.source, partition.as_ref())
                && !holds_files(&self.job.source.store, folder, &self.job.options.filter).await?
            {
                emptied.insert(*at, self.root.from.below(&folder.escaped()).to_string());
            }
        }
        Ok(emptied)
    }
}

/// The folder that a file of a table counts for: that of its partition, or the table's.
pub(super) fn unit(folders: &[(ObjectKey, usize)], key: &ObjectKey) -> Option<ObjectKey> {
    let around = folders.iter().filter(|(folder, _)| key.is_within(folder));
    let (home, keys) = around.max_by_key(|(folder, _)| folder.as_bytes().len())?;
    let skip = if home.is_empty() { 0 } else { home.as_bytes().len() + 1 };
    let inner = key.as_bytes().get(skip..)?;
    let mut end = 0;
    for segment in inner.split(|byte| *byte == b'/').take(*keys) {
        end += segment.len() + 1;
    }
    match (keys, end > inner.len()) {
        (0, _) => Some(home.clone()),
        // A file beside the folders of partitions.
        (_, true) => None,
        (_, false) => Some(ObjectKey::from(key.as_bytes()[..skip + end - 1].to_vec())),
    }
}

/// Whether any file that counts as data lies in this folder.
async fn holds_files(store: &Arc<dyn Store>, folder: &ObjectKey, filter: &Filter) -> Result<bool> {
    let capabilities = store.capabilities();
    let prefix = match folder.is_empty() {
        true => Vec::new(),
        false => [folder.as_bytes(), b"/"].concat(),
    };
    let key = Some(ObjectKey::from(prefix.clone())).filter(|key| !key.is_empty());
    let options = match (capabilities.levels, capabilities.start_after) {
        (true, _) => ListOptions { starting: key, ..ListOptions::default() },
        (false, true) => ListOptions { after: key, ..ListOptions::default() },
        (false, false) => ListOptions::default(),
    };
    let mut pages = store.list(options);
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => {
                for listed in page {
                    let inside = listed.key.as_bytes().starts_with(&prefix);
                    if inside && !matches!(listed.kind, EntryKind::Folder) && filter.takes_key(&listed.key) {
                        return Ok(true);
                    }
                    if capabilities.ordered_list && !inside && listed.key.as_bytes() > prefix.as_slice() {
                        return Ok(false);
                    }
                }
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_for_its_partition_or_its_table() {
        let unit = |folders: &[&str], keys, key: &str| {
            let folders: Vec<_> = folders.iter().map(|folder| (ObjectKey::from(*folder), keys)).collect();
            unit(&folders, &ObjectKey::from(key)).map(|folder| folder.escaped().to_string())
        };
        assert_eq!(unit(&["t"], 0, "t/a/f").as_deref(), Some("t"));
        assert_eq!(unit(&["t"], 2, "t/y=1/m=2/f").as_deref(), Some("t/y=1/m=2"));
        assert_eq!(unit(&["t"], 2, "t/y=1/f"), None);
        assert_eq!(unit(&["t"], 1, "t/_SUCCESS"), None);
        assert_eq!(unit(&[""], 1, "p=1/f").as_deref(), Some("p=1"));
        assert_eq!(unit(&["t"], 1, "u/p=1/f"), None);
    }
}
