//! A long listing by many listers, for stores that cannot start after a key but can tell the folders of one level: what lies
//! below each, or below each beginning that some share, is listed by itself.
//!
//! Begins with one plain listing: a tree of a page costs no more. Once a second page comes, the level is asked for, and its
//! folders are divided into at most `UNITS` beginnings (`logs/2026-0`, `logs/2026-1`, ...); each is listed by one of `LANES`
//! listers, and divided again when listers are idle. With a cover ([`super::cover`]) it begins in the folder that all of it has
//! in common, and what a level shows beside the cover is passed over. What is yielded is in no order; whoever needs one sorts.
//!
//! Never yields a key twice and never leaves one out that is asked for: the objects of a level come from the listing of that level, all deeper
//! ones from the beginnings, which are disjoint and cover all its folders. A level that is too long to be learned is listed
//! plainly. Bounded: `LANES` listers, `LEVEL_PAGES` pages of a level in the hands of each, `PAGES_AHEAD` finished pages. An
//! error ends the stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use manifest::{EntryKind, Listed, ObjectKey};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::cover::Cover;
use super::fan::LANES;
use crate::store::{ListOptions, Result, Store};

/// Beginnings that one level is divided into, at most.
const UNITS: usize = 4 * LANES;
/// Pages of a level that are read before it counts as too long.
const LEVEL_PAGES: usize = 4;
/// Finished pages that wait for the reader.
const PAGES_AHEAD: usize = LANES;

type Page = Vec<Listed>;

/// What is still to be listed: beginnings of keys.
#[derive(Default)]
struct Queue {
    units: VecDeque<String>,
    /// Listers that are at work, and may bring more.
    busy: usize,
    failed: bool,
}

struct Levels {
    store: Arc<dyn Store>,
    options: ListOptions,
    queue: Mutex<Queue>,
    changed: Notify,
    sender: mpsc::Sender<Result<Page>>,
}

/// As [`Store::list`], in no order, by up to [`LANES`] listers. For stores that have
/// [`levels`](crate::store::Capabilities::levels).
pub fn list(store: Arc<dyn Store>, options: ListOptions) -> BoxStream<'static, Result<Page>> {
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let first = options.cover.as_deref().and_then(common).unwrap_or_default();
    let queue = Mutex::new(Queue { units: VecDeque::from([first]), ..Queue::default() });
    let levels = Arc::new(Levels { store, options, queue, changed: Notify::new(), sender });
    // Listers start when the stream is read, and end with it.
    let state = (Some(levels), JoinSet::new(), receiver);
    stream::unfold(state, |(mut levels, mut tasks, mut receiver)| async move {
        if let Some(levels) = levels.take() {
            for _ in 0..LANES {
                tasks.spawn(levels.clone().work());
            }
        }
        loop {
            tokio::select! {
                biased;
                page = receiver.recv() => return page.map(|page| (page, (levels, tasks, receiver))),
                Some(ended) = tasks.join_next() => {
                    // A lister that panicked left keys out: that is no end.
                    if let Err(lost) = ended
                        && lost.is_panic()
                    {
                        std::panic::resume_unwind(lost.into_panic());
                    }
                }
            }
        }
    })
    .boxed()
}

impl Levels {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic leaves the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists units until there are none and nobody can bring more.
    async fn work(self: Arc<Self>) {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.changed.notified();
            let next = {
                let mut queue = self.lock();
                let unit = if queue.failed { None } else { queue.units.pop_front() };
                queue.busy += usize::from(unit.is_some());
                match unit {
                    None if queue.busy == 0 || queue.failed => return,
                    unit => unit,
                }
            };
            let Some(unit) = next else {
                changed.await;
                continue;
            };
            if let Err(error) = self.unit(&unit).await {
                self.lock().failed = true;
                // The reader may have gone away.
                let _ = self.sender.send(Err(error)).await;
            }
            self.lock().busy -= 1;
            self.changed.notify_waiters();
        }
    }

    /// Whether a lister has nothing to do.
    fn idle(&self) -> bool {
        let queue = self.lock();
        queue.units.is_empty() && queue.busy < LANES
    }

    /// Lists what begins with `unit`, or divides it.
    async fn unit(&self, unit: &str) -> Result<()> {
        let mut pages = self.store.list(ListOptions { starting: Some(unit.into()), ..self.options.clone() });
        let Some(first) = pages.next().await.transpose()? else { return Ok(()) };
        let Some(second) = pages.next().await.transpose()? else { return self.send(unit, first).await };
        let deeper = |page: &Page| page.iter().any(|listed| is_deeper(&listed.key, unit));
        let cover = self.options.cover.as_deref();
        let holds_more = cover.is_some_and(|cover| !cover.holds_beginning(unit.as_bytes()));
        if (deeper(&first) || deeper(&second))
            && (self.idle() || holds_more)
            && let Some(level) = self.level(unit).await?
        {
            return self.divide(unit, level).await;
        }
        self.send(unit, first).await?;
        self.send(unit, second).await?;
        while let Some(page) = pages.next().await.transpose()? {
            self.send(unit, page).await?;
        }
        Ok(())
    }

    /// The objects and folders of the level that a unit begins in; `None` if it is too long.
    async fn level(&self, unit: &str) -> Result<Option<Page>> {
        let mut pages =
            self.store.list(ListOptions { starting: Some(unit.into()), level: true, ..self.options.clone() });
        let mut level = Page::new();
        for _ in 0..LEVEL_PAGES {
            match pages.next().await.transpose()? {
                Some(page) => level.extend(page),
                None => return Ok(Some(level)),
            }
        }
        Ok(pages.next().await.transpose()?.is_none().then_some(level))
    }

    async fn divide(&self, unit: &str, level: Page) -> Result<()> {
        let (folders, objects): (Page, Page) = level.into_iter().partition(|listed| listed.kind == EntryKind::Folder);
        let names = folders.iter().filter_map(|folder| folder.key.as_str()).map(|name| format!("{name}/"));
        let is_asked_for = |beginning: &String| {
            self.options.cover.as_ref().is_none_or(|cover| cover.reaches_beginning(beginning.as_bytes()))
        };
        self.lock().units.extend(beginnings(names.filter(is_asked_for).collect(), UNITS));
        self.changed.notify_waiters();
        self.send(unit, objects).await
    }

    /// Passes on what no other unit yields.
    async fn send(&self, unit: &str, mut page: Page) -> Result<()> {
        // A unit that ends within a name was made of the folders of its level: its level has passed on the objects.
        if !unit.is_empty() && !unit.ends_with('/') {
            page.retain(|listed| is_deeper(&listed.key, unit));
        }
        if !page.is_empty() {
            // The reader may have gone away: then all of this ends soon.
            let _ = self.sender.send(Ok(page)).await;
        }
        Ok(())
    }
}

/// The folder, with its slash, that all of a cover lies below.
fn common(cover: &Cover) -> Option<String> {
    let (first, last) = (cover.folders().first()?.as_bytes(), cover.folders().last()?.as_bytes());
    // They are sorted: what the outermost two share, all do.
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let slash = first[..shared].iter().rposition(|byte| *byte == b'/')?;
    std::str::from_utf8(&first[..=slash]).ok().map(str::to_owned)
}

/// Whether a key lies below a folder of the level that `unit` begins in.
fn is_deeper(key: &ObjectKey, unit: &str) -> bool {
    let folder = unit.rfind('/').map_or(0, |slash| slash + 1);
    key.as_bytes().get(folder..).is_some_and(|rest| rest.contains(&b'/'))
}

/// Divides names, none of which begins another, into about `most` disjoint beginnings that cover them all: the one that
/// covers most names is divided by the next character until there are enough, or all are whole names.
fn beginnings(names: Vec<String>, most: usize) -> Vec<String> {
    let mut whole = Vec::new();
    let mut groups = vec![(String::new(), names)];
    while whole.len() + groups.len() < most
        && let Some(largest) = (0..groups.len()).max_by_key(|at| groups[*at].1.len())
    {
        let (beginning, names) = groups.swap_remove(largest);
        let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names {
            let next = name[beginning.len()..].chars().next().map_or(0, char::len_utf8);
            parts.entry(name[..beginning.len() + next].to_owned()).or_default().push(name);
        }
        for (beginning, mut names) in parts {
            match names.len() {
                1 => whole.append(&mut names),
                _ => groups.push((beginning, names)),
            }
        }
    }
    groups.into_iter().map(|(beginning, _)| beginning).chain(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn beginnings_are_disjoint_and_cover_all_names(
            names in prop::collection::btree_set("[abé/]{0,4}[0-9]{0,5}", 0..200),
            most in 1_usize..80,
        ) {
            let names: Vec<String> = names.into_iter().map(|name| format!("{}/", name.replace('/', "-"))).collect();
            let units = beginnings(names.clone(), most);
            for name in &names {
                prop_assert_eq!(units.iter().filter(|unit| name.starts_with(unit.as_str())).count(), 1, "{}", name);
            }
            // One division may bring as many as there are characters.
            prop_assert!(units.len() <= most + 13, "{}", units.len());
        }
    }

    #[test]
    fn a_level_of_days_is_divided_where_they_differ() {
        let days: Vec<String> = (1..=9).map(|day| format!("t/dt=2026-01-0{day}/")).collect();
        assert_eq!(beginnings(days.clone(), 4).len(), 9, "{:?}", beginnings(days, 4));
        assert_eq!(beginnings(vec!["only/".into()], 64), ["only/"]);
    }
}
