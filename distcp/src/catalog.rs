//! Makes a manifest of one place by reading it: `manifest create`. Writes only the manifest, its index last.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use manifest::state::StateStore;
use manifest::{Attributes, Chunks, Entry, EntryKind, Evidence, Index, IndexMeta, Listed, ManifestWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::copy::budget::Budget;
use crate::error::{Failure, Result};
use crate::exit::ExitCode;
use crate::filter::Filter;
use crate::job::Tree;
use crate::list::ours::Ours;
use crate::list::{self, Side};
use crate::options::{Limits, LinkMode};
use crate::plan::settled;
use crate::progress::{Phase, Progress, count};
use crate::scan;
use crate::store::{Store, StoreError};

/// Listed objects that wait to be read.
const LISTED_AHEAD: usize = 1024;

/// What [`create`] needs.
pub struct Create {
    /// The place to read.
    pub tree: Tree,
    /// Where the manifest goes: a folder of its own.
    pub output: Arc<dyn StateStore>,
    /// Which keys take part.
    pub filter: Filter,
    /// What to do with links.
    pub links: LinkMode,
    /// How much to use.
    pub limits: Limits,
    /// For spill files.
    pub spool: PathBuf,
    /// For progress lines.
    pub progress: Arc<Progress>,
    /// Ends the work early; then there is no manifest.
    pub stop: CancellationToken,
}

/// Hashes a tree and publishes its manifest. An object that cannot be read fails the whole: a manifest names everything.
pub async fn create(work: Create) -> Result<Index> {
    let Create { tree, output, filter, links, limits, spool, progress, stop } = work;
    progress.enter(Phase::Reading);
    let created = Timestamp::now();
    let listing = list::list(&tree, Side::Source, None, tree.store.capabilities().folders, false, &progress);
    let (sender, mut receiver) = mpsc::channel(LISTED_AHEAD);
    tokio::task::spawn_blocking(move || {
        let listing = match listing.in_order(&spool) {
            Ok(listing) => listing,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        let mut ours = Ours::default();
        for listed in listing {
            if listed.as_ref().is_ok_and(|listed| ours.holds(&listed.key)) {
                continue;
            }
            let takes_part = |listed: &Listed| {
                let link = listed.kind == EntryKind::Symlink && links == LinkMode::Skip;
                !link && listed.kind != EntryKind::Special && filter.leaves_out(listed).is_none()
            };
            if listed.as_ref().map_or(true, takes_part) && sender.blocking_send(listed).is_err() {
                return;
            }
        }
    });
    let budget = Budget::new(limits.memory_bytes);
    let mut writer = ManifestWriter::new(output, "", None);
    let store = tree.store.clone();
    let rows = futures::stream::poll_fn(move |context| receiver.poll_recv(context)).map(|listed| {
        let (store, budget, limits) = (store.clone(), budget.clone(), &limits);
        async move {
            let listed = listed?;
            Ok::<_, Failure>(row(store.as_ref(), listed, limits, &budget).await?)
        }
    });
    let mut rows = std::pin::pin!(rows.buffered(limits.concurrency.max(1)));
    while let Some(row) = rows.next().await {
        if stop.is_cancelled() {
            return Err(Failure::new(ExitCode::Interrupted, "interrupted; no manifest was written"));
        }
        let row = row?;
        count(&progress.done_objects, 1);
        count(&progress.done_bytes, row.size_bytes());
        writer.push(row).await?;
    }
    let chunk_size = limits.chunk_size;
    let meta = IndexMeta { created, root: tree.place.clone(), chunk_size, complete: true, extra: BTreeMap::new() };
    Ok(writer.finish(meta).await?)
}

async fn row(store: &dyn Store, listed: Listed, limits: &Limits, budget: &Budget) -> Result<Entry, StoreError> {
    let Listed { key, kind, fingerprint } = listed;
    let fixed = settled(&fingerprint);
    if kind == EntryKind::Folder {
        let attributes = Attributes::new();
        let (hash, chunks, source) = (None, None, None);
        let evidence = Evidence::None;
        return Ok(Entry { key, kind, hash, evidence, chunks, fingerprint: fixed, source, attributes });
    }
    let scanned = scan::scan(store, &key, &fingerprint, limits.chunk_size, budget).await?;
    let chunks = (scanned.chunks.len() > 1).then(|| Chunks { size: limits.chunk_size, hashes: scanned.chunks.clone() });
    Ok(Entry {
        key,
        kind: scanned.kind,
        hash: Some(scanned.hash),
        evidence: Evidence::Read,
        chunks,
        fingerprint: fixed,
        source: None,
        attributes: scanned.attributes,
    })
}
