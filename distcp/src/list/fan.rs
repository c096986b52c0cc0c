//! A long listing by many listers: the key space is split where one page's keys say that the listing will be some pages on.
//!
//! Lanes stand in key order, each from behind a key to its end (inclusive), the last one open. The first lane begins alone;
//! once it needs a second page, the front-most lane whose last page allows a guess ([`super::guess`]) is cut there, and the
//! part behind the cut becomes a lane of its own. What is yielded is lane after lane, so that the order is the store's.
//!
//! With a cover ([`super::cover`]) a lane whose page ended beside it goes on where the cover does, and is cut between the folders
//! that are still to come.
//!
//! Never leaves a key out that is asked for: a lane yields all up to its end, the next one all behind it, and a cut moves the end only ahead of
//! what the lane has seen. Pages that are out of order are passed on untouched, for the merge to find (then the listing is made
//! again by one lister, and sorted). Bounded: [`LANES`] lanes of [`LANE_PAGES`] pages. An error ends the stream at its place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use manifest::{Listed, ObjectKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cover::Next;
use super::guess;
use crate::store::{ListOptions, Result, Store, StoreError, StoreErrorKind};

/// Listers at once.
pub const LANES: usize = 16;
/// Pages that a lane holds ready, and how far ahead a lane is cut.
pub const LANE_PAGES: usize = 8;
/// Folders ahead of which a lane is cut that jumps from folder to folder: each takes two pages and more.
const FOLDERS_AHEAD: usize = LANE_PAGES / 4;
/// A lane that goes on for so many pages after it was cut is cut again: the guess was too far.
const CUT_AGAIN_PAGES: usize = 2 * LANE_PAGES;

enum Message {
    Page(Vec<Listed>),
    Failed(StoreError),
    /// The end is said, not inferred: a task that was aborted must not look like a whole lane.
    End,
}

struct Lane {
    id: u64,
    /// The last key that belongs to the lane.
    end: Option<ObjectKey>,
    /// The last key that was seen.
    last: Option<ObjectKey>,
    /// Where it may be cut: where it will be some pages from now, or half of the folders behind it begin.
    guess: Option<ObjectKey>,
    /// Pages before it may be cut.
    wait_pages: usize,
    running: bool,
    receiver: Option<mpsc::Receiver<Message>>,
}

#[derive(Default)]
struct Lanes {
    lanes: VecDeque<Lane>,
    next_id: u64,
    tasks: JoinSet<()>,
}

struct Fan {
    store: Arc<dyn Store>,
    options: ListOptions,
    lanes: Mutex<Lanes>,
}

/// As [`Store::list`], by up to [`LANES`] listers. For stores that start after a key and list in order.
pub fn list(store: Arc<dyn Store>, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
    let after = options.after.clone();
    let fan = Arc::new(Fan { store, options, lanes: Mutex::default() });
    let reader = Reader { fan, after: Some(after), current: None, failed: false };
    stream::unfold(reader, |mut reader| async move { reader.next().await.map(|page| (page, reader)) }).boxed()
}

impl Fan {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // No panic leaves the lanes half changed.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a lane behind `after`, at `index` of the lanes.
    fn start(
        self: &Arc<Self>,
        lanes: &mut Lanes,
        index: usize,
        after: Option<ObjectKey>,
        end: Option<ObjectKey>,
        wait_pages: usize,
    ) {
        let (sender, receiver) = mpsc::channel(LANE_PAGES);
        let id = lanes.next_id;
        lanes.next_id += 1;
        let lane =
            Lane { id, end, last: after.clone(), guess: None, wait_pages, running: true, receiver: Some(receiver) };
        lanes.lanes.insert(index, lane);
        while lanes.tasks.try_join_next().is_some() {}
        lanes.tasks.spawn(Self::run(self.clone(), id, after, sender));
    }

    /// The work of one lane.
    async fn run(self: Arc<Self>, id: u64, after: Option<ObjectKey>, sender: mpsc::Sender<Message>) {
        // What is left out is told by its last key, too: a lane that is asked for none of it has to see where it is.
        let without = if self.options.cover.is_some() { Vec::new() } else { self.options.without.clone() };
        let list = |after| self.store.list(ListOptions { after, without: without.clone(), ..self.options.clone() });
        let first = self.options.cover.as_ref().map_or(Next::Here, |cover| cover.next(after.as_ref()));
        let (after, mut next) = match first {
            Next::Behind(key) => (Some(key), Next::Here),
            first => (after, first),
        };
        let mut pages = list(after);
        loop {
            match next {
                Next::Here => {}
                Next::Behind(key) => pages = list(Some(key)),
                Next::Nowhere => break,
            }
            let Some(page) = pages.next().await else { break };
            let message = match page {
                Ok(page) => {
                    let (page, then) = self.arrived(id, page);
                    next = then;
                    Message::Page(page)
                }
                Err(error) => {
                    next = Next::Nowhere;
                    Message::Failed(error)
                }
            };
            let failed = matches!(message, Message::Failed(_));
            // The reader may have gone away.
            if sender.send(message).await.is_err() || failed {
                return;
            }
        }
        self.ended(id);
        let _ = sender.send(Message::End).await;
    }

    /// Cuts a page to what belongs to its lane, and answers how the lane goes on.
    fn arrived(self: &Arc<Self>, id: u64, mut page: Vec<Listed>) -> (Vec<Listed>, Next) {
        let mut lanes = self.lock();
        let Some(lane) = lanes.lanes.iter_mut().find(|lane| lane.id == id) else { return (page, Next::Here) };
        let keys: Vec<&ObjectKey> = page.iter().map(|listed| &listed.key).collect();
        let Some(last) = keys.last().map(|key| (*key).clone()) else { return (page, Next::Here) };
        if lane.last.as_ref().is_some_and(|last| last >= keys[0]) || !keys.is_sorted_by(|a, b| a < b) {
            lane.guess = None;
            return (page, Next::Here);
        }
        let cover = self.options.cover.as_deref();
        let next = cover.map_or(Next::Here, |cover| cover.next(Some(&last)));
        lane.guess = match (&next, cover) {
            // Of other folders this page tells nothing.
            (Next::Behind(_), Some(cover)) => cover.ahead(&last, lane.end.as_ref(), FOLDERS_AHEAD),
            _ => guess::ahead(&keys, LANE_PAGES as u32),
        };
        lane.wait_pages = lane.wait_pages.saturating_sub(1);
        let is_last = match &lane.end {
            Some(end) if last > *end => {
                let inside = page.partition_point(|listed| listed.key <= *end);
                page.truncate(inside);
                true
            }
            end => end.as_ref().is_some_and(|end| last == *end || matches!(&next, Next::Behind(key) if key >= end)),
        };
        let next = if is_last { Next::Nowhere } else { next };
        if cover.is_some() {
            page.retain(|listed| !self.options.without.iter().any(|folder| listed.key.is_within(folder)));
        }
        lane.last = Some(last);
        lane.running = next != Next::Nowhere;
        self.spread(&mut lanes);
        (page, next)
    }

    fn ended(self: &Arc<Self>, id: u64) {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.lanes.iter_mut().find(|lane| lane.id == id) {
            lane.running = false;
        }
        self.spread(&mut lanes);
    }

    /// Cuts lanes, the front-most first, as long as there are listers to spare.
    fn spread(self: &Arc<Self>, lanes: &mut Lanes) {
        let mut index = 0;
        while index < lanes.lanes.len() && lanes.lanes.len() < LANES {
            if let Some((after, end)) = lanes.lanes[index].cut() {
                self.start(lanes, index + 1, Some(after), end, 1);
            }
            index += 1;
        }
    }
}

impl Lane {
    /// Ends the lane where its last page says that it will be some pages on; what is behind is for another one.
    fn cut(&mut self) -> Option<(ObjectKey, Option<ObjectKey>)> {
        let ready = self.running && self.wait_pages == 0;
        let at = self.guess.take_if(|_| ready)?;
        let inside = self.last.as_ref().is_none_or(|last| *last < at) && self.end.as_ref().is_none_or(|end| at < *end);
        if !inside {
            return None;
        }
        self.wait_pages = CUT_AGAIN_PAGES;
        Some((at.clone(), self.end.replace(at)))
    }
}

/// What reads the lanes, one after the other. Ends all of them when it is dropped.
struct Reader {
    fan: Arc<Fan>,
    /// Where the first lane starts, until it is started.
    after: Option<Option<ObjectKey>>,
    current: Option<mpsc::Receiver<Message>>,
    failed: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Vec<Listed>>> {
        if let Some(after) = self.after.take() {
            let mut lanes = self.fan.lock();
            // A tree of one page needs one request.
            self.fan.start(&mut lanes, 0, after, None, 2);
        }
        while !self.failed {
            if self.current.is_none() {
                self.current = self.fan.lock().lanes.front_mut()?.receiver.take();
            }
            let message = match &mut self.current {
                Some(receiver) => receiver.recv().await,
                None => None,
            };
            match message {
                Some(Message::Page(page)) if page.is_empty() => {}
                Some(Message::Page(page)) => return Some(Ok(page)),
                Some(Message::End) => {
                    self.current = None;
                    let mut lanes = self.fan.lock();
                    lanes.lanes.pop_front();
                    // A place is free.
                    self.fan.spread(&mut lanes);
                }
                Some(Message::Failed(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
                None => {
                    self.failed = true;
                    let place = self.fan.store.place();
                    return Some(Err(StoreError::new("list", place, StoreErrorKind::Other, "a lister ended early")));
                }
            }
        }
        None
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fan.lock().tasks.abort_all();
    }
}
