//! Whether the files of a unit stayed the same at the source while they were copied: only then are they one version.
//!
//! Lists the source before and after, and compares digests that do not depend on the order. Writes nothing.

use crate::roots::Owner;
use crate::sync::data::Tree;
use crate::sync::planned::of_tree;
use distcp::error::Result;
use distcp::list::{self, Side};
use distcp::store::{ListOptions, StoreErrorKind};
use futures::StreamExt as _;
use manifest::{EntryKind, Fingerprint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A digest of the files of each table that is made anew, by the tree.
pub type Whole = BTreeMap<String, BTreeMap<usize, [u64; 4]>>;

/// Lists what these trees make anew.
pub async fn look_at_sources(trees: &[Tree]) -> Result<Whole> {
    let mut whole = Whole::new();
    for tree in trees.iter().filter(|tree| tree.has_fresh()) {
        whole.insert(tree.key(), look_at(tree).await?);
    }
    Ok(whole)
}

/// The tables of a tree whose files are not what they were.
pub async fn moved_since(tree: &Tree, before: &Whole) -> Result<BTreeSet<usize>> {
    let Some(before) = before.get(&tree.key()) else { return Ok(BTreeSet::new()) };
    let now = look_at(tree).await?;
    let tables = before.keys().chain(now.keys());
    Ok(tables.filter(|at| before.get(at) != now.get(at)).copied().collect())
}

async fn look_at(tree: &Tree) -> Result<BTreeMap<usize, [u64; 4]>> {
    let store = &tree.job.source.store;
    let cover = tree.job.within.as_ref().and_then(|within| within.cover(Side::Source)).map(Arc::new);
    let options = ListOptions { without: tree.job.source.without.clone(), cover, ..ListOptions::default() };
    let mut pages = list::pages(store, options, store.capabilities().ordered_list);
    let mut found: BTreeMap<usize, [u64; 4]> = BTreeMap::new();
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            Err(error) if error.kind == StoreErrorKind::NotFound => break,
            Err(error) => return Err(of_tree(tree, error.into())),
        };
        for listed in page {
            let is_meant = listed.kind != EntryKind::Folder && tree.job.options.filter.takes_key(&listed.key);
            if !is_meant || !tree.is_fresh(&listed.key) {
                continue;
            }
            for owner in tree.root.owners(&listed.key) {
                if let Owner::Table(at) = owner {
                    add(found.entry(at).or_default(), listed.key.as_bytes(), &listed.fingerprint);
                }
            }
        }
    }
    Ok(found)
}

/// Adds an object to a digest: a sum, so that the order does not matter.
fn add(sum: &mut [u64; 4], key: &[u8], fingerprint: &Fingerprint) {
    let Fingerprint { size_bytes, mtime_ns, etag, version, file_id, .. } = fingerprint;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key);
    hasher.update(format!("{size_bytes} {mtime_ns:?} {etag:?} {version:?} {file_id:?}").as_bytes());
    for (sum, word) in sum.iter_mut().zip(hasher.finalize().as_bytes().as_chunks::<8>().0) {
        *sum = sum.wrapping_add(u64::from_le_bytes(*word));
    }
}
