//! Folders of the target that tables and their partitions left: the source dropped them, or has them elsewhere. Looks, and
//! writes nothing.
//!
//! What was altered to stand elsewhere leaves its files at the source, and so it does on the target. What was dropped, or dropped
//! and made again, takes them with it, if not at once: then the source has nothing there, whatever events say of it, and nobody
//! else knows of them. A place of which the source shows nothing at all, such as a mount that is not there, says nothing of what
//! stood in it.

use super::emptied::holds_files;
use crate::carry::STAGING;
use crate::location::{Location, LocationMap};
use crate::roots::key;
use crate::sync::Setting;
use crate::sync::state::Intent;
use crate::sync::survey::{Survey, TableWork};
use distcp::assemble;
use distcp::error::Result;
use distcp::filter::Filter;
use distcp::options::LinkMode;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

/// Folders that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

/// Folders on the target into which a run that died may have copied files of tables and partitions that were new there.
#[derive(Default)]
pub struct Orphaned {
    /// The source has dropped the table since.
    pub dropped: Vec<Location>,
    /// The table stands elsewhere: what the source has there says whether they go.
    pub asked: Vec<Location>,
}

/// Finds them. Pure.
pub fn orphaned(survey: &Survey, intent: &Intent, map: &LocationMap) -> Orphaned {
    let place = |table: &TableWork| table.location.as_ref().and_then(|location| map.map(location));
    let known: BTreeMap<(&str, &str), Option<Location>> = survey
        .tables
        .iter()
        .map(|table| ((table.target.database.as_str(), table.target.table.as_str()), place(table)))
        .collect();
    let mut found = Orphaned::default();
    for (folder, (database, table)) in &intent.fresh {
        let Ok(folder) = Location::parse(folder) else { continue };
        match known.get(&(database.as_str(), table.as_str())) {
            None => found.dropped.push(folder),
            Some(Some(now)) if !now.is_same(&folder) => found.asked.push(folder),
            Some(_) => {}
        }
    }
    found
}

/// Whether the source has no files where these folders of the target come from. Those of which nobody can tell are among the
/// others, and are named.
pub async fn are_empty<'a>(
    setting: &Setting,
    folders: impl IntoIterator<Item = &'a Location>,
) -> BTreeMap<&'a Location, bool> {
    let map = &setting.policy.locations;
    // A place outside every pair is nobody's to empty.
    let of_pair = |to: &'a Location| {
        let from = map.unmap(to)?;
        Some((map.pair(&from)?.0.clone(), from, to))
    };
    let all: Vec<(Location, Location, &Location)> = folders.into_iter().filter_map(of_pair).collect();
    let mut shown: BTreeMap<Location, Option<Arc<dyn Store>>> =
        all.iter().map(|(pair, ..)| (pair.clone(), None)).collect();
    for (pair, store) in &mut shown {
        match shows_anything(setting, pair).await {
            Ok(Some(opened)) => *store = Some(opened),
            Ok(None) => setting.note(format!(
                "{pair} shows nothing at all: what may have to go with tables and partitions that stood there stays: is it there?"
            )),
            Err(failure) => setting.note(format!(
                "{pair} cannot be looked at: what may have to go with tables and partitions that stood there stays: {}",
                failure.message
            )),
        }
    }
    let filter = &Filter::excluding(&STAGING);
    let look = |(pair, from, to): (Location, Location, &'a Location)| {
        let store = shown.get(&pair).cloned().flatten();
        async move {
            let Some((store, inside)) = store.zip(pair.relative(&from)) else { return (to, false) };
            let has_files = holds_files(&store, &key(inside), filter).await.unwrap_or_else(|failure| {
                setting.note(format!("what may have to go stays in {to}: {}", failure.message));
                true
            });
            (to, !has_files)
        }
    };
    stream::iter(all).map(look).buffer_unordered(LOOKS_AT_ONCE).collect().await
}

/// A place, if there is any object or folder in it.
async fn shows_anything(setting: &Setting, from: &Location) -> Result<Option<Arc<dyn Store>>> {
    let store = store(setting, from)?;
    let mut pages = store.list(ListOptions::default());
    let mut is_empty = true;
    while is_empty && let Some(page) = pages.next().await {
        match page {
            Ok(page) => is_empty = page.is_empty(),
            Err(error) if error.kind == StoreErrorKind::NotFound => break,
            Err(error) => return Err(error.into()),
        }
    }
    drop(pages);
    Ok(Some(store).filter(|_| !is_empty))
}

fn store(setting: &Setting, from: &Location) -> Result<Arc<dyn Store>> {
    let (place, links, nothing) = (from.place(), LinkMode::default(), BTreeMap::new());
    let opened =
        assemble::place_to_read(OsStr::new(&place), &setting.cwd, &nothing, links, &setting.stop, &setting.opener);
    Ok(opened?.1.store)
}
