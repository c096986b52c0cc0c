//! Rule 27: folders of tables that held data, or that an event says files came into, and that hold none at the source.
//!
//! Lists, and changes nothing. A folder that no event names and that a new table never had is wrong, too, where folders are
//! real; on an object store it is a table that is empty.

use super::units::{Holder, Units};
use super::{Draft, Tree};
use crate::location::Location;
use crate::metastore::Snapshot;
use crate::model::{PartitionName, TableName};
use crate::roots::{Owner, Wave};
use crate::sync::events::Seen;
use crate::sync::failure;
use crate::sync::survey::{Survey, TableWork};
use distcp::error::Result;
use distcp::filter::Filter;
use distcp::list::cover::Cover;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::StreamExt as _;
use manifest::{EntryKind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

impl Tree {
    /// Rule 27: tables of which a folder held data, or got files as an event said, and now holds none; with the folder.
    pub async fn emptied(
        &self,
        draft: &Draft,
        survey: &Survey,
        seen: &Seen,
        source: &dyn Snapshot,
    ) -> Result<BTreeMap<usize, Empty>> {
        let units = Units::of(&self.root, survey);
        let mut live = Live { source, names: BTreeMap::new() };
        let mut emptied = self.lacking(survey).await?;
        for (at, folder) in &draft.shrunk {
            let Some(table) = carried(survey, *at).filter(|_| !emptied.contains_key(at)) else { continue };
            let partitions = match units.holder(*at, folder) {
                Holder::Table => Vec::new(),
                Holder::Partitions(names) => names,
                // A partition that was dropped takes its files with it.
                Holder::Named(name) if live.has(*at, &table.source, &name).await? => vec![name],
                Holder::Named(_) | Holder::Nobody => continue,
            };
            let is_meant = match partitions.is_empty() {
                true => seen.explains(&table.source, None),
                false => partitions.iter().any(|name| seen.explains(&table.source, Some(name))),
            };
            if !is_meant && !self.holds_files(folder).await? {
                emptied.insert(*at, Empty::Held(self.place(folder)));
            }
        }
        for (of, file) in &seen.filled {
            let name = of.partition.clone().map(PartitionName);
            let Some((at, folder)) = self.folder_of(&units, survey, &of.table(), name.as_ref()) else { continue };
            if emptied.contains_key(&at) || draft.fed.contains(&(at, folder.clone())) {
                continue;
            }
            let is_live = match &name {
                Some(name) => live.has(at, &of.table(), name).await?,
                None => true,
            };
            if is_live && !self.holds_files(&folder).await? {
                emptied.insert(at, Empty::Got { folder: self.place(&folder), file: file.clone() });
            }
        }
        Ok(emptied)
    }

    /// Tables that the target does not have, whose own folder is not there at the source. Only where folders are real: there
    /// a metastore makes one with the table.
    async fn lacking(&self, survey: &Survey) -> Result<BTreeMap<usize, Empty>> {
        let mut lacking = BTreeMap::new();
        if !self.job.source.store.capabilities().folders || self.root.wave != Wave::Data {
            return Ok(lacking);
        }
        for (folder, owners) in &self.root.folders {
            for owner in owners {
                let Owner::Table(at) = owner else { continue };
                let is_home = |table: &&TableWork| {
                    let is_same = |home: &Location| home.is_same(&self.root.from.below(&folder.escaped()));
                    let is_asked = table.is_new && table.plain && table.quarantine.is_none();
                    is_asked && table.location.as_ref().is_some_and(is_same)
                };
                if survey.tables.get(*at).filter(is_home).is_none() {
                    continue;
                }
                match self.job.source.store.head(folder).await {
                    Err(error) if error.kind == StoreErrorKind::NotFound => {
                        lacking.insert(*at, Empty::Lacking(self.place(folder)));
                    }
                    other => drop(other?),
                }
            }
        }
        Ok(lacking)
    }

    fn folder_of(
        &self,
        units: &Units,
        survey: &Survey,
        name: &TableName,
        partition: Option<&PartitionName>,
    ) -> Option<(usize, ObjectKey)> {
        let of_tree = self.root.folders.values().flatten();
        let mut tables = of_tree.filter_map(|owner| if let Owner::Table(at) = owner { Some(*at) } else { None });
        let at = tables.find(|at| survey.tables.get(*at).is_some_and(|table| table.source == *name))?;
        let table = carried(survey, at)?;
        // Which partitions a write of many filled is not said.
        let is_told = partition.is_some() || table.keys == 0;
        let folder = units.folder(&self.root, table, at, partition).filter(|_| is_told)?;
        Some((at, folder))
    }

    fn place(&self, folder: &ObjectKey) -> String {
        self.root.from.below(&folder.escaped()).to_string()
    }

    async fn holds_files(&self, folder: &ObjectKey) -> Result<bool> {
        holds_files(&self.job.source.store, folder, &self.job.options.filter).await
    }
}

/// A table that is not left out already.
fn carried(survey: &Survey, at: usize) -> Option<&TableWork> {
    survey.tables.get(at).filter(|table| table.quarantine.is_none())
}

/// Why a table is taken for emptied by mistake.
pub enum Empty {
    /// Its folder, or a partition's, held data.
    Held(String),
    /// Its folder is not there.
    Lacking(String),
    /// An event said that files came into it.
    Got {
        /// The folder.
        folder: String,
        /// The first of the files.
        file: String,
    },
}

impl fmt::Display for Empty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(folder) => write!(f, "{folder} held data and holds none at the source, and no event says why"),
            Self::Lacking(folder) => write!(f, "its folder {folder} is not there at the source"),
            Self::Got { folder, file } => {
                write!(f, "an event says that {file} came, {folder} holds no file at the source, and no event says why")
            }
        }
    }
}

/// The partitions that tables of the source have, asked for once.
struct Live<'a> {
    source: &'a dyn Snapshot,
    names: BTreeMap<usize, BTreeSet<PartitionName>>,
}

impl Live<'_> {
    async fn has(&mut self, at: usize, table: &TableName, name: &PartitionName) -> Result<bool> {
        if !self.names.contains_key(&at) {
            let names = self.source.partition_names(table).await.map_err(failure)?;
            self.names.insert(at, names.into_iter().collect());
        }
        Ok(self.names.get(&at).is_some_and(|names| names.contains(name)))
    }
}

/// Whether any file that counts as data lies in this folder.
pub(super) async fn holds_files(store: &Arc<dyn Store>, folder: &ObjectKey, filter: &Filter) -> Result<bool> {
    let capabilities = store.capabilities();
    let prefix = match folder.is_empty() {
        true => Vec::new(),
        false => [folder.as_bytes(), b"/"].concat(),
    };
    let key = Some(ObjectKey::from(prefix.clone())).filter(|key| !key.is_empty());
    let options = match (capabilities.levels, capabilities.start_after) {
        (true, _) => ListOptions { starting: key, ..ListOptions::default() },
        (false, true) => ListOptions { after: key, ..ListOptions::default() },
        (false, false) => ListOptions { cover: Cover::new([folder.clone()]).map(Arc::new), ..ListOptions::default() },
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
