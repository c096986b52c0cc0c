//! A tree as a sorted stream of what it holds.
//!
//! A listing that failed is an error at its place in the stream, and whoever reads on has nothing to act on: no partial
//! listing is ever taken for a whole one (design invariant 5). A store that promises order is checked while it lists;
//! others are sorted on disk first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, stream};
use manifest::sort::{Sorted, Sorter};
use manifest::{Listed, ObjectKey, Result};

use crate::feed::Feed;
use crate::job::Tree;
use crate::progress::{Progress, count};
use crate::store::{self, ListOptions, Store, StoreErrorKind};
use within::Within;

pub mod cover;
pub mod fan;
pub mod guess;
pub mod levels;
pub mod ours;
pub mod within;

/// Memory of the sort of an unordered listing before it spills.
const SORT_MEMORY_BYTES: usize = 32 << 20;

/// Which side of a job a listing is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What is read: its root must exist.
    Source,
    /// What is written: a root that does not exist yet is empty.
    Target,
}

/// Lists a whole tree; the result is sorted by key and runs on a blocking thread. `sort` forces the external sort, for a
/// store that was caught out of order. With `within` only what lies there is sure to be listed.
pub fn list(
    tree: &Tree,
    side: Side,
    within: Option<&Within>,
    folders: bool,
    sort: bool,
    progress: &Arc<Progress>,
) -> Listing {
    let cover = within.and_then(|within| within.cover(side)).map(Arc::new);
    if cover.as_ref().is_some_and(|cover| cover.is_empty()) {
        // The tree may not even be there any more.
        return Listing::Ordered(Feed::start(stream::empty::<store::Result<Vec<Listed>>>()));
    }
    let options = ListOptions { folders, without: tree.without.clone(), cover, ..ListOptions::default() };
    let progress = progress.clone();
    let counter = move |progress: &Progress, n: usize| {
        let counter: &AtomicU64 = match side {
            Side::Source => &progress.listed_source,
            Side::Target => &progress.listed_target,
        };
        count(counter, n as u64);
    };
    let may_be_missing = tree.may_be_missing || side == Side::Target;
    let capabilities = tree.store.capabilities();
    let ordered = capabilities.ordered_list && !sort;
    let pages = pages(&tree.store, options, ordered).filter_map(move |batch| {
        let batch = match batch {
            Ok(batch) => {
                counter(&progress, batch.len());
                Some(Ok(batch))
            }
            Err(error) if may_be_missing && error.kind == StoreErrorKind::NotFound => None,
            Err(error) => Some(Err(error)),
        };
        std::future::ready(batch)
    });
    if tree.single {
        return Listing::Ordered(Feed::start(single(tree.store.clone(), side)));
    }
    let feed = Feed::start(pages);
    match ordered {
        true => Listing::Ordered(feed),
        false => Listing::Unsorted(feed),
    }
}

/// The pages of a listing by as many listers as the store's ways allow. `ordered`: its order is relied on; by levels there is none.
pub fn pages(
    store: &Arc<dyn Store>,
    options: ListOptions,
    ordered: bool,
) -> BoxStream<'static, store::Result<Vec<Listed>>> {
    let capabilities = store.capabilities();
    match (ordered && capabilities.start_after, capabilities.levels) {
        (true, _) => fan::list(store.clone(), options),
        (false, true) => levels::list(store.clone(), options),
        (false, false) => store.list(options),
    }
}

/// The listing of a root that is one object: it, under the empty key.
fn single(store: Arc<dyn Store>, side: Side) -> impl Stream<Item = store::Result<Vec<Listed>>> {
    stream::once(async move {
        let key = ObjectKey::default();
        match store.head(&key).await {
            Ok(info) => Ok(vec![Listed { key, kind: info.kind, fingerprint: info.fingerprint }]),
            Err(error) if side == Side::Target && error.kind == StoreErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    })
}

/// A listing in key order.
pub enum Listing {
    /// As the store gives it; the merge checks the order.
    Ordered(Feed<Listed>),
    /// To be sorted at the first pull.
    Unsorted(Feed<Listed>),
    /// Sorted.
    Sorted(Sorted<Listed>),
}

impl Listing {
    /// Sorts what needs it, spilling into `spool`. Blocks until the listing is whole.
    pub fn in_order(self, spool: &Path) -> Result<Self> {
        let Listing::Unsorted(feed) = self else { return Ok(self) };
        let mut sorter = Sorter::new(spool, SORT_MEMORY_BYTES);
        for listed in feed {
            sorter.push(listed?)?;
        }
        Ok(Listing::Sorted(sorter.finish()?))
    }
}

impl Iterator for Listing {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Listing::Ordered(feed) => feed.next(),
            Listing::Sorted(sorted) => sorted.next(),
            Listing::Unsorted(feed) => feed.next(),
        }
    }
}
