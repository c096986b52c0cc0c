//! Compares two trees and changes nothing: what differs, and what is not proven to be equal (rule 10).
//!
//! The decision for a key is pure; reading is bounded and happens only where no manifest knows the hash, or where
//! everything is to be read. Results come out in key order.

mod lineage;
mod reading;

pub use lineage::{Lineage, Moved};
pub use reading::{Covered, Part, Reading, Slice};

use std::sync::Arc;

use futures::StreamExt as _;
use manifest::diff::join3;
use manifest::{Class, ContentHash, Entry, EntryKind, Evidence, Fingerprint, Listed, ObjectKey};
use reading::Reader;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::commit::committed_manifest;
use crate::copy::budget::Budget;
use crate::error::{Failure, Result, chain};
use crate::exit::ExitCode;
use crate::feed::Feed;
use crate::job::Job;
use crate::list::ours::Ours;
use crate::list::{self, Side};
use crate::options::LinkMode;
use crate::progress::{Phase, count};
use crate::run::{Report, measure};
use crate::scan;
use crate::session;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::summary::{Differences, Summary};

/// Decisions read ahead of the comparisons.
const CHECKS_AHEAD: usize = 1024;

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Keys, sizes and ETags, as the listings show them.
    Listing,
    /// Hashes: from the last manifest where nothing changed since, by reading elsewhere.
    #[default]
    Manifest,
    /// Everything is read, on both sides.
    Content,
}

/// What a line of `verify` says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// `-`: only at the source.
    OnlySource,
    /// `+`: only on the target.
    OnlyTarget,
    /// `*`: they differ.
    Differ,
    /// `!`: it could not be compared.
    Error,
    /// `?`: nothing proves that they are equal.
    Unproven,
    /// `~`: they differ because the source has moved on since the target was brought into step.
    Behind,
    /// `=`: equal.
    Equal,
}

impl Mark {
    /// The character in front of the key.
    pub fn sign(self) -> char {
        match self {
            Mark::OnlySource => '-',
            Mark::OnlyTarget => '+',
            Mark::Differ => '*',
            Mark::Error => '!',
            Mark::Unproven => '?',
            Mark::Behind => '~',
            Mark::Equal => '=',
        }
    }
}

/// The finding for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was found.
    pub mark: Mark,
    /// Where.
    pub key: ObjectKey,
    /// In what they differ, or what went wrong.
    pub detail: Option<String>,
    /// What the last manifest says of both sides.
    pub lineage: Lineage,
}

/// What is to be done to compare one key.
#[derive(Debug, Clone, PartialEq)]
enum Check {
    Found(Mark, Option<String>),
    /// Read what has no known hash, then compare.
    Read {
        source: Wanted,
        target: Wanted,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    Known(ContentHash),
    Read(Fingerprint),
}

/// Compares the two trees of a job. `sink` gets every finding in key order, equal ones included. Takes no lease and
/// writes nothing.
pub async fn verify(job: &Job, level: Level, sink: impl FnMut(Difference) + Send) -> Report {
    verify_part(job, level, Reading::ByLevel, sink).await.0
}

/// As [`verify`], and reads on both sides what `reading` says, too. Returns how far that went.
pub async fn verify_part(
    job: &Job,
    level: Level,
    reading: Reading,
    mut sink: impl FnMut(Difference) + Send,
) -> (Report, Covered) {
    let clock = Instant::now();
    let mut summary = Summary::new("verify", job.name.as_str());
    let mut differences = Differences::default();
    let result = compare(job, level, reading, &mut summary, |difference| {
        differences.add(difference.mark);
        sink(difference);
    })
    .await;
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    summary.counts.equal = differences.equal;
    summary.counts.failed = differences.errors;
    summary.differences = Some(differences);
    measure(job, &mut summary);
    let (covered, failure) = match result {
        Ok(covered) => (covered, None),
        Err(failure) => (Covered::default(), Some(failure)),
    };
    match &failure {
        Some(failure) => {
            summary.end(failure.code);
            summary.errors.push(failure.message.clone());
            summary.hint = failure.hint.clone();
        }
        None => summary.end(differences.code()),
    }
    (Report { summary, failure }, covered)
}

impl Differences {
    /// Counts a finding.
    pub fn add(&mut self, mark: Mark) {
        let counter = match mark {
            Mark::OnlySource => &mut self.only_source,
            Mark::OnlyTarget => &mut self.only_target,
            Mark::Differ => &mut self.differ,
            Mark::Error => &mut self.errors,
            Mark::Unproven => &mut self.unproven,
            Mark::Behind => &mut self.behind,
            Mark::Equal => &mut self.equal,
        };
        *counter += 1;
    }

    /// 4 if anything differs, 3 if something could not be compared or proven, else 0.
    pub fn code(&self) -> ExitCode {
        let differs = self.only_source + self.only_target + self.differ > 0;
        let partial = self.errors + self.unproven > 0;
        ExitCode::first(differs.then_some(ExitCode::Differs).into_iter().chain(partial.then_some(ExitCode::Partial)))
    }
}

async fn compare(
    job: &Job,
    level: Level,
    reading: Reading,
    summary: &mut Summary,
    mut sink: impl FnMut(Difference) + Send,
) -> Result<Covered> {
    job.progress.enter(Phase::Reading);
    let (manifest, single) = committed_manifest(job).await?;
    let job = &session::shape(job, single).await?;
    summary.manifest = manifest.as_ref().map(|manifest| manifest.index().id.to_string());
    let budget = Budget::new(job.limits.memory_bytes);
    let (mut checks, covered) = stream(job, manifest, level, reading);
    let (source, target) = (job.source.store.clone(), job.target.store.clone());
    let (chunk_size, progress) = (job.limits.chunk_size, job.progress.clone());
    let token = job.stop.token.clone();
    let checks = futures::stream::poll_fn(move |context| checks.poll_recv(context));
    let mut findings = checks
        .map(|check| {
            let (source, target, budget, progress) = (source.clone(), target.clone(), budget.clone(), progress.clone());
            async move {
                let Pulled { key, check, size, source_bytes, mut lineage, copied } = check?;
                let (mark, detail) = match check {
                    Check::Found(mark, detail) => (mark, detail),
                    Check::Read { source: s, target: t } => {
                        let a = hash(source.as_ref(), &key, s, chunk_size, &budget);
                        let b = hash(target.as_ref(), &key, t, chunk_size, &budget);
                        let both = futures::future::join(a, b).await;
                        lineage.moved_meanwhile = both.0.as_ref().is_err_and(has_moved);
                        judge(both, copied)
                    }
                };
                count(&progress.done_objects, 1);
                count(&progress.done_bytes, size);
                Ok::<_, manifest::Error>((Difference { mark, key, detail, lineage }, source_bytes))
            }
        })
        .buffered(job.limits.concurrency.max(1));
    loop {
        let finding = tokio::select! {
            finding = findings.next() => finding,
            () = token.cancelled() => return Err(interrupted(job)),
        };
        // The listing went to its end, and told before it did.
        let Some(finding) = finding else { return Ok(covered.await.unwrap_or_default()) };
        let (finding, source_bytes) = finding?;
        summary.counts.listed += 1;
        summary.bytes.source += source_bytes;
        sink(finding);
    }
}

fn interrupted(job: &Job) -> Failure {
    let terminated = job.stop.terminated.load(std::sync::atomic::Ordering::Relaxed);
    let code = if terminated { ExitCode::Terminated } else { ExitCode::Interrupted };
    Failure::new(code, "interrupted; what was printed is right, but not everything was compared")
}

async fn hash(
    store: &dyn Store,
    key: &ObjectKey,
    wanted: Wanted,
    chunk_size: manifest::ChunkSize,
    budget: &Budget,
) -> Result<ContentHash, StoreError> {
    match wanted {
        Wanted::Known(hash) => Ok(hash),
        Wanted::Read(fingerprint) => Ok(scan::scan(store, key, &fingerprint, chunk_size, budget).await?.hash),
    }
}

type Both = (Result<ContentHash, StoreError>, Result<ContentHash, StoreError>);

/// Somebody else was at work on it between the listing and the reading.
fn has_moved(error: &StoreError) -> bool {
    error.class() == Class::Conflict || error.kind == StoreErrorKind::NotFound
}

/// What both sides hold, `copied` being what they held when one became the other.
fn judge(both: Both, copied: Option<ContentHash>) -> (Mark, Option<String>) {
    let words = |a, b| match copied {
        Some(copied) if copied == a => {
            "content differs: the target's is not what was copied, and its size and time are"
        }
        Some(copied) if copied == b => {
            "content differs: the source's is not what was copied, and its size and time are"
        }
        _ => "content differs",
    };
    match both {
        (Ok(a), Ok(b)) if a == b => (Mark::Equal, None),
        (Ok(a), Ok(b)) => (Mark::Differ, Some(words(a, b).into())),
        (Err(error), _) | (_, Err(error)) if error.class() == Class::Conflict => {
            (Mark::Error, Some(format!("it changed while it was compared: {}", chain(&error))))
        }
        (Err(error), _) | (_, Err(error)) => (Mark::Error, Some(chain(&error))),
    }
}

/// What is to be done for a key, and what is known of it.
struct Pulled {
    key: ObjectKey,
    check: Check,
    size: u64,
    source_bytes: u64,
    lineage: Lineage,
    /// Of the content that both sides shall still hold, by their unchanged fingerprints.
    copied: Option<ContentHash>,
}

/// The decisions, made on a blocking thread from the three sorted streams; and, when they came to their end, how far the
/// reading will have gone.
fn stream(
    job: &Job,
    manifest: Option<Arc<manifest::reader::Manifest>>,
    level: Level,
    reading: Reading,
) -> (mpsc::Receiver<manifest::Result<Pulled>>, oneshot::Receiver<Covered>) {
    let folders = job.source.store.capabilities().folders && job.target.store.capabilities().folders;
    let within = job.within.as_deref();
    let source = list::list(&job.source, Side::Source, within, folders, false, &job.progress);
    let target = list::list(&job.target, Side::Target, within, folders, false, &job.progress);
    let rows = manifest.map(|manifest| Feed::start(manifest.entries()));
    let job = job.clone();
    let (sender, receiver) = mpsc::channel(CHECKS_AHEAD);
    let (tell, covered) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let result = (|| -> manifest::Result<()> {
            let (source, target) = (source.in_order(&job.spool)?, target.in_order(&job.spool)?);
            let mut ours = Ours::default();
            let mut reader = Reader::new(reading);
            for row in join3(rows.into_iter().flatten(), source, target) {
                let (key, row, mut source, target) = row?;
                if job.within.as_ref().is_some_and(|within| within.empties(&key)) {
                    source = None;
                }
                if ours.holds(&key) || job.within.as_ref().is_some_and(|within| !within.holds(&key)) {
                    continue;
                }
                let size = source.as_ref().or(target.as_ref()).map_or(0, |listed| listed.fingerprint.size_bytes);
                let (row, source, target) = (row.as_ref(), source.as_ref(), target.as_ref());
                let Some(mut check) = check(row, source, target, level, &job) else { continue };
                if let (true, Some(source), Some(target)) = (reader.is_asked(), source, target) {
                    let read = pair(row, source, target, Level::Content);
                    if matches!(read, Check::Read { .. }) && reader.reads(&key, size.saturating_mul(2)) {
                        check = read;
                    }
                }
                let lineage = match check {
                    Check::Found(Mark::Equal, _) => Lineage::default(),
                    _ => Lineage::of(row, source, target),
                };
                let source_bytes = source.map_or(0, |listed| listed.fingerprint.size_bytes);
                let unmoved = lineage.source == Moved::Same && lineage.target == Moved::Same;
                let copied = row.and_then(|row| row.hash).filter(|_| unmoved);
                if sender.blocking_send(Ok(Pulled { key, check, size, source_bytes, lineage, copied })).is_err() {
                    return Ok(());
                }
            }
            // Nobody asks when the comparison was given up.
            let _ = tell.send(reader.covered());
            Ok(())
        })();
        if let Err(error) = result {
            let _ = sender.blocking_send(Err(error));
        }
    });
    (receiver, covered)
}

/// What to do for one key; `None` when it takes no part (filters, links that are left out, or only the manifest has it).
fn check(
    row: Option<&Entry>,
    source: Option<&Listed>,
    target: Option<&Listed>,
    level: Level,
    job: &Job,
) -> Option<Check> {
    let filter = &job.options.filter;
    let skips = |listed: &Listed| {
        let out = filter.leaves_out(listed).is_some();
        let link = listed.kind == EntryKind::Symlink && job.options.links == LinkMode::Skip;
        let folder = listed.kind == EntryKind::Folder && job.options.without_folders;
        out || link || folder || listed.kind == EntryKind::Special
    };
    match (source, target) {
        (None, None) => None,
        (Some(source), _) if skips(source) => None,
        // State or trash of the job stands there on the target, and nothing else can (rule 1).
        (Some(source), _) if job.target.without.iter().any(|folder| source.key.is_within(folder)) => None,
        (Some(source), None) if source.kind == EntryKind::Folder && !job.target.store.capabilities().folders => None,
        (Some(_), None) => Some(Check::Found(Mark::OnlySource, None)),
        (None, Some(target)) if skips(target) => None,
        (None, Some(_)) => Some(Check::Found(Mark::OnlyTarget, None)),
        (Some(source), Some(target)) => Some(pair(row, source, target, level)),
    }
}

/// Two objects of one key. Pure.
fn pair(row: Option<&Entry>, source: &Listed, target: &Listed, level: Level) -> Check {
    let (s, t) = (&source.fingerprint, &target.fingerprint);
    let folders = (source.kind == EntryKind::Folder, target.kind == EntryKind::Folder);
    match folders {
        (true, true) => return Check::Found(Mark::Equal, None),
        (false, false) => {}
        _ => return Check::Found(Mark::Differ, Some("a folder on one side".into())),
    }
    if s.size_bytes != t.size_bytes {
        let detail = format!("{} bytes at the source, {} on the target", s.size_bytes, t.size_bytes);
        return Check::Found(Mark::Differ, Some(detail));
    }
    let source_same = row.is_some_and(|row| row.source.as_ref().is_some_and(|before| before.proves_unchanged(s)));
    let target_same = row.is_some_and(|row| row.fingerprint.proves_unchanged(t));
    let hash = row.and_then(|row| row.hash);
    let reads = |source, target| Check::Read { source, target };
    match level {
        Level::Listing => {
            let etags_differ = matches!((s.content_etag(), t.content_etag()), (Some(a), Some(b)) if a != b);
            match etags_differ && !(source_same && target_same) {
                true => Check::Found(Mark::Differ, Some("ETags differ".into())),
                false => Check::Found(Mark::Equal, None),
            }
        }
        Level::Content => reads(Wanted::Read(s.clone()), Wanted::Read(t.clone())),
        Level::Manifest => match (hash, source_same, target_same) {
            (Some(_), true, true) => Check::Found(Mark::Equal, None),
            (None, true, true) => {
                let evidence = row.map_or(Evidence::None, |row| row.evidence);
                Check::Found(Mark::Unproven, Some(format!("only {} says so", words(evidence))))
            }
            (Some(hash), true, false) => reads(Wanted::Known(hash), Wanted::Read(t.clone())),
            (Some(hash), false, true) => reads(Wanted::Read(s.clone()), Wanted::Known(hash)),
            _ => reads(Wanted::Read(s.clone()), Wanted::Read(t.clone())),
        },
    }
}

fn words(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Etag => "an equal ETag",
        Evidence::StoreChecksum => "the stores' checksum",
        Evidence::Read | Evidence::Inherited | Evidence::None => "a server-side copy or the size",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(size_bytes: u64, etag: &str) -> Listed {
        let fingerprint = Fingerprint { size_bytes, etag: Some(etag.into()), ..Fingerprint::default() };
        Listed { key: "k".into(), kind: EntryKind::Object, fingerprint }
    }

    fn row(hash: Option<ContentHash>, source: &Listed, target: &Listed) -> Entry {
        Entry {
            key: "k".into(),
            kind: EntryKind::Object,
            hash,
            evidence: Evidence::Etag,
            chunks: None,
            fingerprint: target.fingerprint.clone(),
            source: Some(source.fingerprint.clone()),
            attributes: Default::default(),
        }
    }

    #[test]
    fn rule_10_what_has_no_hash_is_unproven_never_equal() {
        let (s, t) = (listed(5, "a"), listed(5, "a"));
        let found = pair(Some(&row(None, &s, &t)), &s, &t, Level::Manifest);
        assert!(matches!(found, Check::Found(Mark::Unproven, Some(_))));
        let hash = ContentHash::of(b"x");
        assert_eq!(pair(Some(&row(Some(hash), &s, &t)), &s, &t, Level::Manifest), Check::Found(Mark::Equal, None));
    }

    #[test]
    fn only_the_side_that_changed_is_read() {
        let (s, t, hash) = (listed(5, "a"), listed(5, "b"), ContentHash::of(b"x"));
        let known = row(Some(hash), &s, &t);
        let changed = listed(5, "c");
        let read = |listed: &Listed| Wanted::Read(listed.fingerprint.clone());
        let table = [
            (&changed, &t, Check::Read { source: read(&changed), target: Wanted::Known(hash) }),
            (&s, &changed, Check::Read { source: Wanted::Known(hash), target: read(&changed) }),
            (&changed, &changed, Check::Read { source: read(&changed), target: read(&changed) }),
        ];
        for (source, target, expected) in table {
            assert_eq!(pair(Some(&known), source, target, Level::Manifest), expected);
        }
        let both = Check::Read { source: read(&s), target: read(&t) };
        assert_eq!(pair(Some(&known), &s, &t, Level::Content), both);
        let longer = listed(6, "a");
        assert!(matches!(pair(Some(&known), &s, &longer, Level::Content), Check::Found(Mark::Differ, Some(_))));
    }

    #[test]
    fn whoever_lost_what_was_copied_is_named() {
        let (a, b) = (ContentHash::of(b"a"), ContentHash::of(b"b"));
        let detail = |a, b, copied| judge((Ok(a), Ok(b)), copied).1.unwrap_or_default();
        assert!(detail(a, b, Some(a)).contains("the target's is not what was copied"));
        assert!(detail(a, b, Some(b)).contains("the source's is not what was copied"));
        assert_eq!(detail(a, b, None), "content differs");
        assert_eq!(detail(a, b, Some(ContentHash::of(b"c"))), "content differs");
        assert_eq!(judge((Ok(a), Ok(a)), Some(b)), (Mark::Equal, None));
    }

    #[test]
    fn rule_09_differences_outrank_what_is_unproven() {
        let code = |marks: &[Mark]| {
            let mut differences = Differences::default();
            marks.iter().for_each(|mark| differences.add(*mark));
            differences.code()
        };
        assert_eq!(code(&[Mark::Equal]), ExitCode::Done);
        assert_eq!(code(&[Mark::Equal, Mark::Error]), ExitCode::Partial);
        assert_eq!(code(&[Mark::Behind, Mark::Equal]), ExitCode::Done, "what is only behind is no error");
        assert_eq!(code(&[Mark::Unproven]), ExitCode::Partial);
        assert_eq!(code(&[Mark::Unproven, Mark::OnlyTarget]), ExitCode::Differs);
    }
}
