//! Merge-joins of sorted streams, and the difference of two manifests.
//!
//! The joins and [`compare`] are pure: they pull from iterators and decide nothing else. [`diff_manifests`] reads parts, but
//! only the runs that one manifest has and the other has not. Nothing here writes, and nothing is taken as equal in silence:
//! what cannot be told is [`Comparison::Unproven`].

use std::collections::HashSet;

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use crate::entry::{Entry, EntryKind, Listed};
use crate::error::{Error, Result};
use crate::format::RunDigest;
use crate::index::PartRef;
use crate::key::ObjectKey;
use crate::reader::{Manifest, PREFETCH_PARTS};
use crate::writer::detached;

/// What a join orders by.
pub trait Keyed {
    /// The key.
    fn key(&self) -> &ObjectKey;
}

impl Keyed for Entry {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Keyed for Listed {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl<T> Keyed for (ObjectKey, T) {
    fn key(&self) -> &ObjectKey {
        &self.0
    }
}

/// One input of a join: its first item that was not given out, and proof that it ascends.
struct Input<T, I> {
    items: I,
    name: &'static str,
    head: Option<T>,
    last: Option<ObjectKey>,
}

impl<T: Keyed, I: Iterator<Item = Result<T>>> Input<T, I> {
    fn new(name: &'static str, items: I) -> Self {
        Self { items, name, head: None, last: None }
    }

    /// Makes the next item the head, if there is none yet and one is left.
    fn fill(&mut self) -> Result<()> {
        if self.head.is_some() {
            return Ok(());
        }
        let Some(next) = self.items.next().transpose()? else {
            return Ok(());
        };
        let key = next.key().clone();
        if let Some(previous) = self.last.take()
            && previous >= key
        {
            return Err(Error::OutOfOrder { what: self.name.into(), key, previous });
        }
        self.last = Some(key);
        self.head = Some(next);
        Ok(())
    }

    fn key(&self) -> Option<&ObjectKey> {
        self.head.as_ref().map(Keyed::key)
    }

    fn take(&mut self, key: &ObjectKey) -> Option<T> {
        self.head.take_if(|head| head.key() == key)
    }
}

/// Turns a step into an iterator that ends after its first error.
fn until_error<T>(mut step: impl FnMut() -> Result<Option<T>>) -> impl Iterator<Item = Result<T>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let item = step().transpose();
        ended = !matches!(item, Some(Ok(_)));
        item
    })
}

/// Joins two streams by key: every distinct key once, in order, with what each stream holds under it. A stream that does
/// not ascend strictly is [`Error::OutOfOrder`], named `the left stream` or `the right stream`. Ends after an error.
pub fn join2<A: Keyed, B: Keyed>(
    left: impl Iterator<Item = Result<A>>,
    right: impl Iterator<Item = Result<B>>,
) -> impl Iterator<Item = Result<(ObjectKey, Option<A>, Option<B>)>> {
    let mut left = Input::new("the left stream", left);
    let mut right = Input::new("the right stream", right);
    until_error(move || {
        left.fill()?;
        right.fill()?;
        let least = [left.key(), right.key()].into_iter().flatten().min();
        let Some(key) = least.cloned() else {
            return Ok(None);
        };
        let (a, b) = (left.take(&key), right.take(&key));
        Ok(Some((key, a, b)))
    })
}

/// A key of [`join3`], with what base, source and target hold under it.
pub type Joined3<A, B, C> = (ObjectKey, Option<A>, Option<B>, Option<C>);

/// Joins three streams by key, as [`join2`]: the last committed state, the source now and the target now. They are named
/// `the base`, `the source` and `the target` when out of order.
pub fn join3<A: Keyed, B: Keyed, C: Keyed>(
    base: impl Iterator<Item = Result<A>>,
    source: impl Iterator<Item = Result<B>>,
    target: impl Iterator<Item = Result<C>>,
) -> impl Iterator<Item = Result<Joined3<A, B, C>>> {
    let mut base = Input::new("the base", base);
    let mut source = Input::new("the source", source);
    let mut target = Input::new("the target", target);
    until_error(move || {
        base.fill()?;
        source.fill()?;
        target.fill()?;
        let least = [base.key(), source.key(), target.key()].into_iter().flatten().min();
        let Some(key) = least.cloned() else {
            return Ok(None);
        };
        let (a, b, c) = (base.take(&key), source.take(&key), target.take(&key));
        Ok(Some((key, a, b, c)))
    })
}

/// What can be said of the contents of two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The same content.
    Equal,
    /// Different content.
    Differ,
    /// Nothing shows either.
    Unproven,
}

/// Compares the contents of two entries: by kind, by size, then by hash. Where neither has a hash, ETags that are an MD5
/// of the content by their form decide (rules 11, 13); a hash on one side only proves nothing (rule 10). Folders have no
/// content: two are equal.
pub fn compare(a: &Entry, b: &Entry) -> Comparison {
    let by = |equal: bool| if equal { Comparison::Equal } else { Comparison::Differ };
    if a.kind != b.kind {
        return Comparison::Differ;
    }
    if a.kind == EntryKind::Folder {
        return Comparison::Equal;
    }
    if a.size_bytes() != b.size_bytes() {
        return Comparison::Differ;
    }
    match (&a.hash, &b.hash) {
        (Some(a), Some(b)) => by(a == b),
        (None, None) => match (a.fingerprint.content_etag(), b.fingerprint.content_etag()) {
            (Some(a), Some(b)) => by(a.eq_ignore_ascii_case(b)),
            _ => Comparison::Unproven,
        },
        _ => Comparison::Unproven,
    }
}

/// In what two manifests differ about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unlike {
    /// Only the left manifest has the key.
    OnlyLeft,
    /// Only the right manifest has the key.
    OnlyRight,
    /// Both have the key, with different contents.
    Differ,
    /// Both have the key, and whether the contents are equal cannot be told.
    Unproven,
}

/// One difference of two manifests. It owns its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: ObjectKey,
    /// What is not the same.
    pub unlike: Unlike,
}

/// What two rows under one key say; `None` if they say the same.
fn unlike(a: &Entry, b: &Entry) -> Option<Unlike> {
    match compare(a, b) {
        Comparison::Equal => None,
        Comparison::Differ => Some(Unlike::Differ),
        // The same row says the same of both: so it is skipped here as it would be in a part that both manifests name.
        Comparison::Unproven => (a != b).then_some(Unlike::Unproven),
    }
}

/// Parts that [`diff_manifests`] reads ahead of each manifest: both together take the memory of one that is read alone.
const PREFETCH_PARTS_OF_A_SIDE: usize = PREFETCH_PARTS / 2;

/// The rows of some runs of a manifest.
struct Rows {
    batches: BoxStream<'static, Result<Vec<Entry>>>,
    batch: Vec<Entry>,
    /// How many of the batch were looked at.
    done: usize,
}

impl Rows {
    /// The rows of the runs that are not in `shared`. A shared run holds every row of its key range in both manifests, so
    /// the other rows of both can be joined without it.
    fn of(manifest: &Manifest, shared: &HashSet<RunDigest>) -> Self {
        let wanted = |part: &PartRef| {
            let runs = part.runs.iter().enumerate();
            runs.filter(|(_, run)| !shared.contains(&run.digest)).map(|(number, _)| number).collect()
        };
        let batches = manifest.entries_of_runs(PREFETCH_PARTS_OF_A_SIDE, wanted);
        Self { batches, batch: Vec::new(), done: 0 }
    }

    /// What is left of the batch, or the next one. Nothing once there is no more.
    async fn fill(&mut self) -> Result<()> {
        while self.done >= self.batch.len() {
            (self.batch, self.done) = (Vec::new(), 0);
            match self.batches.try_next().await? {
                Some(batch) => self.batch = batch,
                None => break,
            }
        }
        Ok(())
    }

    fn left(&self) -> &[Entry] {
        self.batch.get(self.done..).unwrap_or_default()
    }
}

/// The differences of two manifests in the order of their keys, some at a time. Of parts that both name nothing is read, of
/// others only the runs that the other manifest does not name: the cost follows the change. A row that is equal in every
/// column is no difference, whether it has a hash or not. Ends after an error.
pub fn diff_manifests(left: &Manifest, right: &Manifest) -> BoxStream<'static, Result<Vec<Difference>>> {
    let runs = |manifest: &Manifest| -> HashSet<RunDigest> {
        manifest.parts().iter().flat_map(|part| part.runs.iter().map(|run| run.digest)).collect()
    };
    let shared: HashSet<_> = runs(left).intersection(&runs(right)).copied().collect();
    let rows = (Rows::of(left, &shared), Rows::of(right, &shared));
    stream::try_unfold(rows, |(mut left, mut right)| async move {
        let differences = next_differences(&mut left, &mut right).await?;
        Ok((!differences.is_empty()).then_some((differences, (left, right))))
    })
    .boxed()
}

/// What the rows in memory differ in; empty at the end of both.
async fn next_differences(left: &mut Rows, right: &mut Rows) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    while found.is_empty() {
        futures::future::try_join(left.fill(), right.fill()).await?;
        let (a, b) = (left.left(), right.left());
        if a.is_empty() && b.is_empty() {
            break;
        }
        let (of_left, of_right) = join_batches(a, b, &mut found);
        left.done += of_left;
        right.done += of_right;
    }
    Ok(found)
}

/// Joins what is in memory of both sides, as far as both reach: behind the end of one more may come. A side without rows has
/// ended. How many rows of each are done with.
fn join_batches(left: &[Entry], right: &[Entry], found: &mut Vec<Difference>) -> (usize, usize) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let mut add = |row: &Entry, unlike| found.push(Difference { key: detached(&row.key), unlike });
    let (mut a, mut b) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => x.key.cmp(&y.key),
            (Some(_), None) if right.is_empty() => Less,
            (None, Some(_)) if left.is_empty() => Greater,
            _ => break,
        };
        let x = a.next_if(|_| order != Greater);
        let y = b.next_if(|_| order != Less);
        match (x, y) {
            (Some(x), Some(y)) if order == Equal => unlike(x, y).into_iter().for_each(|unlike| add(x, unlike)),
            (Some(x), _) => add(x, Unlike::OnlyLeft),
            (None, Some(y)) => add(y, Unlike::OnlyRight),
            (None, None) => break,
        }
    }
    (left.len() - a.len(), right.len() - b.len())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::entry::Fingerprint;
    use crate::hash::ContentHash;
    use crate::test_rows;
    use crate::test_store::{MemoryStore, meta, write};
    use crate::writer::ManifestWriter;
    use proptest::prelude::*;

    type Pair = (ObjectKey, u8);

    fn any_side() -> impl Strategy<Value = BTreeMap<ObjectKey, u8>> {
        prop::collection::btree_map("[a-d]{1,2}".prop_map(ObjectKey::from), any::<u8>(), 0..16)
    }

    fn items(side: &BTreeMap<ObjectKey, u8>) -> impl Iterator<Item = Result<Pair>> {
        side.clone().into_iter().map(Ok)
    }

    fn at(side: &BTreeMap<ObjectKey, u8>, key: &ObjectKey) -> Option<Pair> {
        side.get(key).map(|value| (key.clone(), *value))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn joins_give_each_key_once_with_what_every_side_holds(a in any_side(), b in any_side(), c in any_side()) {
            let keys = |sides: &[&BTreeMap<ObjectKey, u8>]| -> BTreeSet<ObjectKey> {
                sides.iter().flat_map(|side| side.keys().cloned()).collect()
            };
            let joined: Vec<_> = join2(items(&a), items(&b)).map(Result::unwrap).collect();
            let expected: Vec<_> = keys(&[&a, &b]).into_iter().map(|k| (k.clone(), at(&a, &k), at(&b, &k))).collect();
            prop_assert_eq!(joined, expected);
            let joined: Vec<_> = join3(items(&a), items(&b), items(&c)).map(Result::unwrap).collect();
            let expected: Vec<_> = keys(&[&a, &b, &c]).into_iter()
                .map(|k| (k.clone(), at(&a, &k), at(&b, &k), at(&c, &k))).collect();
            prop_assert_eq!(joined, expected);
        }

        #[test]
        fn manifests_differ_as_their_rows_do(
            a in test_rows::sorted_entries(60),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, test_rows::any_entry()), 0..12),
        ) {
            let mut b: BTreeMap<_, _> = a.iter().map(|row| (row.key.clone(), row.clone())).collect();
            for (at, what, fresh) in changes {
                let key = a.get(at.index(a.len().max(1))).map(|row| row.key.clone()).unwrap_or_default();
                match what {
                    0 => _ = b.remove(&key),
                    1 => _ = b.insert(key.clone(), Entry { key, ..fresh }),
                    _ => _ = b.insert(fresh.key.clone(), fresh),
                }
            }
            let b: Vec<_> = b.into_values().collect();
            let naive = |rows: &[Entry]| rows.iter().cloned().map(Ok).collect::<Vec<_>>().into_iter();
            let expected: Vec<_> = join2(naive(&a), naive(&b)).filter_map(|joined| {
                let (key, a, b) = joined.unwrap();
                let unlike = match (a, b) {
                    (Some(_), None) => Some(Unlike::OnlyLeft),
                    (None, Some(_)) => Some(Unlike::OnlyRight),
                    (Some(a), Some(b)) if a == b => None,
                    (Some(a), Some(b)) => match compare(&a, &b) {
                        Comparison::Equal => None,
                        Comparison::Differ => Some(Unlike::Differ),
                        Comparison::Unproven => Some(Unlike::Unproven),
                    },
                    (None, None) => None,
                };
                unlike.map(|unlike| Difference { key, unlike })
            }).collect();
            let found: Vec<Difference> = block_on(async {
                let (left, right) = (MemoryStore::new(), MemoryStore::new());
                let (left, right) = (write(&left, "", a, None).await, write(&right, "", b, None).await);
                diff_manifests(&left, &right).try_concat().await.unwrap()
            });
            prop_assert_eq!(found, expected);
        }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn a_stream_that_does_not_ascend_is_named() {
        let good = || ["a", "b", "c"].into_iter().map(|key| Ok((ObjectKey::from(key), 0)));
        let bad = || ["a", "c", "b", "d"].into_iter().map(|key| Ok((ObjectKey::from(key), 0)));
        let twice = || ["a", "a"].into_iter().map(|key| Ok((ObjectKey::from(key), 0)));
        let last = |joined: Vec<Result<()>>| joined.into_iter().next_back().unwrap().unwrap_err().to_string();
        let error = last(join2(good(), bad()).map(|joined| joined.map(drop)).collect());
        assert!(error.contains("the right stream") && error.contains("b came after c"), "{error}");
        let error = last(join3(good(), twice(), bad()).map(|joined| joined.map(drop)).collect());
        assert!(error.contains("the source"), "{error}");
    }

    #[test]
    fn rule_08_a_stream_that_fails_ends_the_join() {
        let failed = || Err(Error::Missing { what: "page", name: "3".into() });
        let listing = [Ok((ObjectKey::from("a"), 0)), failed(), Ok((ObjectKey::from("c"), 0))];
        let other = ["a", "b", "c"].into_iter().map(|key| Ok((ObjectKey::from(key), 0)));
        let joined: Vec<_> = join2(listing.into_iter(), other).collect();
        assert_eq!(joined.len(), 2);
        assert!(joined[0].is_ok() && joined[1].is_err());
    }

    fn entry(size: u64, hash: Option<u8>, etag: Option<&str>) -> Entry {
        let fingerprint = Fingerprint { size_bytes: size, etag: etag.map(str::to_owned), ..Fingerprint::default() };
        Entry { hash: hash.map(|byte| ContentHash::of(&[byte])), fingerprint, ..test_rows::plain("k", 0) }
    }

    #[test]
    fn rule_13_contents_compare_by_size_then_hash_then_content_etag() {
        const A: &str = "0123456789abcdef0123456789abcdef";
        const B: &str = "ffffffffffffffffffffffffffffffff";
        const PARTS: &str = "0123456789abcdef0123456789abcdef-2";
        use Comparison::{Differ, Equal, Unproven};
        let table = [
            (entry(1, Some(1), None), entry(2, Some(1), None), Differ),
            (entry(1, None, None), entry(2, None, None), Differ),
            (entry(1, Some(1), None), entry(1, Some(1), None), Equal),
            (entry(1, Some(1), Some(A)), entry(1, Some(2), Some(A)), Differ),
            (entry(1, None, Some(A)), entry(1, None, Some(A)), Equal),
            (entry(1, None, Some(A)), entry(1, None, Some(B)), Differ),
            (entry(1, None, Some(PARTS)), entry(1, None, Some(PARTS)), Unproven),
            (entry(1, None, Some(A)), entry(1, None, Some(PARTS)), Unproven),
            (entry(1, None, None), entry(1, None, None), Unproven),
            (entry(1, Some(1), Some(A)), entry(1, None, Some(A)), Unproven),
            (Entry { kind: EntryKind::Symlink, ..entry(1, Some(1), None) }, entry(1, Some(1), None), Differ),
            (
                Entry { kind: EntryKind::Folder, ..entry(0, None, None) },
                Entry { kind: EntryKind::Folder, ..entry(4096, None, None) },
                Equal,
            ),
        ];
        for (a, b, expected) in table {
            assert_eq!(compare(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(compare(&b, &a), expected, "{b:?} {a:?}");
        }
    }

    #[tokio::test]
    async fn a_diff_reads_only_the_parts_that_differ() {
        let store = MemoryStore::new();
        let rows = test_rows::numbered(200_000);
        let changed_at = |i: usize| i % 40_000 == 1_234 || i % 50_000 == 49_999;
        let mut changed = rows.clone();
        let mut expected = Vec::new();
        for (i, row) in changed.iter_mut().enumerate().filter(|(i, _)| changed_at(*i)) {
            *row = test_rows::plain(row.key.clone(), 1);
            expected.push(rows[i].key.clone());
        }
        let (left, right) = (write_v2(&store, rows).await, write_v2(&store, changed).await);
        let differences: Vec<Difference> = diff_manifests(&left, &right).try_concat().await.unwrap();
        assert_eq!(differences.into_iter().map(|difference| difference.key).collect::<Vec<_>>(), expected);

        let known: HashSet<_> = left.parts().iter().map(|part| part.digest).collect();
        let unshared = right.parts().iter().filter(|part| !known.contains(&part.digest)).count() as u64;
        assert!(unshared <= expected.len() as u64 && unshared < left.parts().len() as u64, "{unshared}");
        assert_eq!((left.parts_read(), right.parts_read()), (unshared, unshared));
    }

    #[tokio::test]
    async fn equal_manifests_are_compared_without_a_read() {
        let (left, right) = (MemoryStore::new(), MemoryStore::new());
        let rows = test_rows::numbered(500);
        let (left, right) = (write(&left, "", rows.clone(), None).await, write(&right, "", rows, None).await);
        assert_eq!(left.index().digest(), right.index().digest());
        assert_eq!(diff_manifests(&left, &right).count().await, 0);
        assert_eq!(left.parts_read() + right.parts_read(), 0);
    }

    async fn write_v2(store: &std::sync::Arc<MemoryStore>, rows: Vec<Entry>) -> Manifest {
        let mut writer = ManifestWriter::new(store.clone(), "", None);
        for row in rows {
            writer.push(row).await.unwrap();
        }
        Manifest::from_index(store.clone(), "", writer.finish(meta()).await.unwrap())
    }
}
