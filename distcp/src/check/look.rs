//! Asks both places and the state, one step after the other, and tells each finding as it comes.
//!
//! Goes on after a failure with whatever may still work: a user mends everything at once. The throwaway objects are removed
//! whatever happened in between, and so are the folders that were made for them; what cannot be removed is named.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use manifest::state::local::LocalState;
use manifest::state::probe;
use manifest::{Attributes, EntryKind, Fingerprint, Listed, ObjectKey};
use tokio_util::sync::CancellationToken;

use super::{Conditions, Finding, Subject, clock, conditions, differences};
use crate::error::Failure;
use crate::job::{Job, Tree};
use crate::scan;
use crate::session;
use crate::store::{
    CopySource, ListOptions, MAX_LISTED_UPLOADS, ObjectInfo, Payload, Precondition, PutOptions, Result, StoreError,
    StoreErrorKind,
};

/// How the names of throwaway objects begin.
pub const PROBE_PREFIX: &str = ".understudy-probe-";
/// Bytes of an object of the source that are read.
const SAMPLE_BYTES: u64 = 64 << 10;
/// The announced size of an upload that is given up at once.
const UPLOAD_BYTES: u64 = 5 << 20;
/// The folder that a probe makes in a state.
const STATE_PROBE_FOLDER: &str = "understudy-probe";
/// User metadata of the throwaway object: whether the store gives it back.
const MARK: &str = "meta:understudy-probe";

/// Looks at everything that `job` needs. `tell` gets each finding once; `stop` ends it between two steps, after what was
/// written has been removed. The job's own stores must not be cancelled by `stop`, or nothing could be removed.
pub async fn look(job: &Job, stop: &CancellationToken, mut tell: impl FnMut(Finding)) {
    let single = source(job, &mut tell).await;
    if stop.is_cancelled() {
        return;
    }
    target(job, single, stop, &mut tell).await;
    if stop.is_cancelled() {
        return;
    }
    abandoned_uploads(job, &mut tell).await;
    state(job, &mut tell).await;
    let (source, target) = (job.source.store.capabilities(), job.target.store.capabilities());
    let by_itself = job.copied_by_service();
    for finding in differences(source, target) {
        tell(match finding.what {
            "route" if by_itself => {
                let text = "the target's service is asked to copy by itself; what it refuses goes through this machine";
                Finding::ok(Subject::Both, "route", text)
            }
            _ => finding,
        });
    }
}

/// Reach, a listing, a read. Whether the source is a single object.
async fn source(job: &Job, tell: &mut impl FnMut(Finding)) -> bool {
    let tree = &job.source;
    let mut single = false;
    let sample = match first_page(tree).await {
        Ok(page) => match page.iter().find(|listed| listed.kind == EntryKind::Object).cloned() {
            None if page.is_empty() => match head_of_root(tree).await {
                Some(root) => {
                    single = true;
                    tell(Finding::ok(Subject::Source, "list", format!("{} is one object", tree.place)));
                    Some(root)
                }
                None => {
                    let text = format!("{} is empty: a copy refuses that (5) without --allow-empty-source", tree.place);
                    tell(Finding::note(Subject::Source, "list", text));
                    None
                }
            },
            sample => {
                // A single file is listed under the empty key.
                single = sample.as_ref().is_some_and(|listed| listed.key.is_empty());
                let what = if single { "is one object" } else { "can be listed" };
                tell(Finding::ok(Subject::Source, "list", format!("{} {what}", tree.place)));
                sample
            }
        },
        Err(error) => {
            let root = match error.kind {
                StoreErrorKind::NotFound | StoreErrorKind::KindConflict => head_of_root(tree).await,
                _ => None,
            };
            single = root.is_some();
            tell(match single {
                true => Finding::ok(Subject::Source, "list", format!("{} is one object", tree.place)),
                false => Finding::failed(Subject::Source, "list", &error),
            });
            root
        }
    };
    if let Some(listed) = sample {
        let end = listed.fingerprint.size_bytes.min(SAMPLE_BYTES);
        let read = scan::read_range(tree.store.as_ref(), &listed.key, &listed.fingerprint, 0..end);
        let read = if end == 0 { Ok(()) } else { read.await.map(drop) };
        tell(match read {
            Ok(()) => Finding::ok(Subject::Source, "read", "its objects can be read"),
            Err(error) => Finding::failed(Subject::Source, "read", &error),
        });
    }
    single
}

async fn head_of_root(tree: &Tree) -> Option<Listed> {
    let key = ObjectKey::default();
    let info = tree.store.head(&key).await.ok().filter(|info| info.kind == EntryKind::Object)?;
    Some(Listed { key, kind: info.kind, fingerprint: info.fingerprint })
}

async fn first_page(tree: &Tree) -> Result<Vec<Listed>> {
    let options = ListOptions { without: tree.without.clone(), ..ListOptions::default() };
    tree.store.list(options).next().await.unwrap_or(Ok(Vec::new()))
}

/// Everything that a run does at its target, on throwaway objects.
async fn target(job: &Job, single: bool, stop: &CancellationToken, tell: &mut impl FnMut(Finding)) {
    let tree = &job.target;
    if let Some(path) = &job.target_folder
        && (single || !path.is_dir())
    {
        tell(can_be_made(Subject::Target, path.clone()).await);
        return;
    }
    match first_page(tree).await {
        Ok(_) => tell(Finding::ok(Subject::Target, "list", format!("{} can be listed", tree.place))),
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            tell(Finding::ok(Subject::Target, "list", format!("{} is empty", tree.place)));
        }
        Err(error) => {
            let hopeless = error.kind != StoreErrorKind::Permission;
            tell(Finding::failed(Subject::Target, "list", &error));
            // Without the bucket, the endpoint or the right keys nothing else can be found out.
            if hopeless {
                return;
            }
        }
    }
    // What cannot be counted is not removed either.
    let missing_folders = match &job.swept {
        Some(folders) => folders.missing_folders().await.unwrap_or_default(),
        None => 0,
    };
    let name = format!("{PROBE_PREFIX}{:016x}", rand::random::<u64>());
    let (key, copied) = (ObjectKey::from(name.as_str()), ObjectKey::from(format!("{name}-copy").as_str()));
    let written = throwaway(tree, &key, &copied, stop, tell).await;
    let keys = [copied, key];
    let left = remove(tree, &keys).await;
    match left {
        Ok(()) => tell(Finding::ok(Subject::Target, "delete", "objects can be deleted")),
        Err(error) => {
            tell(Finding::failed(Subject::Target, "delete", &error));
            if written {
                let names = keys.iter().map(|key| key.escaped().into_owned()).collect::<Vec<_>>().join(" and ");
                let text = format!("throwaway objects may be left in {}", tree.place);
                let code = Finding::failed(Subject::Target, "delete", &error).code;
                let fix = format!("remove {names} there");
                tell(Finding { code, ..Finding::mend(Subject::Target, "leftover", text, fix) });
            }
        }
    }
    if let Some(folders) = &job.swept
        && let Err(error) = folders.remove_made_folders(missing_folders).await
    {
        let text = format!("the folder {} was made for this check and is left, empty: {error}", tree.place);
        tell(Finding::note(Subject::Target, "leftover", text));
    }
}

async fn remove(tree: &Tree, keys: &[ObjectKey]) -> Result<()> {
    tree.store.delete(keys).await.into_iter().collect()
}

/// Writes, reads, replaces and copies; whether anything may have been written.
async fn throwaway(
    tree: &Tree,
    key: &ObjectKey,
    copied: &ObjectKey,
    stop: &CancellationToken,
    tell: &mut impl FnMut(Finding),
) -> bool {
    let store = tree.store.as_ref();
    let body = |text: &'static str| Payload::new(Bytes::from_static(text.as_bytes()));
    let attributes = Attributes::from([(MARK.to_owned(), "kept".to_owned())]);
    let options = |precondition| PutOptions { precondition, attributes: attributes.clone(), ..PutOptions::default() };
    let before_ns = now_ns();
    if let Err(error) = store.put(key, body("first"), &options(Precondition::Absent)).await {
        let nothing = matches!(error.kind, StoreErrorKind::Permission | StoreErrorKind::Credentials);
        tell(Finding::failed(Subject::Target, "write", &error));
        return !nothing;
    }
    let after_ns = now_ns();
    tell(Finding::ok(Subject::Target, "write", "objects can be written"));
    let info = match read_back(tree, key, b"first").await {
        Ok(info) => info,
        Err(error) => {
            tell(Finding::failed(Subject::Target, "read", &error));
            return true;
        }
    };
    tell(Finding::ok(Subject::Target, "read", "what was written can be read back"));
    // Files have times and modes of their own.
    if !store.capabilities().folders && info.attributes.get(MARK).map(String::as_str) != Some("kept") {
        let text = "it drops user metadata: times, modes and links of files are not kept";
        tell(Finding::note(Subject::Target, "metadata", text));
    }
    if let Some(modified_ns) = info.fingerprint.mtime_ns {
        let grain = if info.fingerprint.etag.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        tell(clock(Subject::Target, modified_ns, before_ns, after_ns, grain));
    }
    if stop.is_cancelled() {
        return true;
    }
    match tried_conditions(tree, key, &info, options).await {
        Ok((found, now)) => {
            tell(conditions(found));
            server_copy(tree, key, &now, copied, tell).await;
        }
        Err(error) => tell(Finding::failed(Subject::Target, "replace", &error)),
    }
    if stop.is_cancelled() {
        return true;
    }
    let upload = async {
        let upload = store.create_upload(key, UPLOAD_BYTES, &PutOptions::default()).await?;
        store.abort_upload(key, &upload).await
    };
    tell(match upload.await {
        Ok(()) => Finding::ok(Subject::Target, "upload", "large objects can be sent in parts"),
        Err(error) => Finding::failed(Subject::Target, "upload", &error),
    });
    true
}

/// Uploads that nobody finished and that no journal of the job names: they are paid for, and never removed by us (rule 18).
async fn abandoned_uploads(job: &Job, tell: &mut impl FnMut(Finding)) {
    // Not every store tells, nor may everybody ask: neither hinders a run.
    let Ok(Some(open)) = job.target.store.list_uploads().await else { return };
    let Ok(ours) = session::journalled_uploads(job).await else { return };
    let others = open.iter().filter(|upload| !ours.contains(upload)).count();
    if others > 0 {
        let count = if open.len() == MAX_LISTED_UPLOADS { format!("at least {others}") } else { others.to_string() };
        let text = format!(
            "{count} unfinished uploads below {} are not this job's: a lifecycle rule of the bucket can remove such",
            job.target.place
        );
        tell(Finding::note(Subject::Target, "uploads", text));
    }
}

async fn read_back(tree: &Tree, key: &ObjectKey, wanted: &[u8]) -> Result<ObjectInfo> {
    let info = tree.store.head(key).await?;
    let (_, bytes) = scan::read_whole(tree.store.as_ref(), key, &info.fingerprint).await?;
    match bytes == wanted {
        true => Ok(info),
        false => {
            let detail = "it does not give back what was written";
            Err(StoreError::new("read", tree.store.place(), StoreErrorKind::Protocol, detail).on(key))
        }
    }
}

/// Two writes whose condition does not hold, and one whose condition does. What stands there afterwards.
async fn tried_conditions(
    tree: &Tree,
    key: &ObjectKey,
    first: &ObjectInfo,
    options: impl Fn(Precondition) -> PutOptions,
) -> Result<(Conditions, Fingerprint)> {
    let store = tree.store.as_ref();
    let refused = |answer: Result<_>| match answer {
        Ok(_) => Ok(false),
        Err(error) if error.kind == StoreErrorKind::Precondition => Ok(true),
        Err(error) => Err(error),
    };
    let put = |text: &'static str, precondition| {
        let options = options(precondition);
        async move { store.put(key, Payload::new(Bytes::from_static(text.as_bytes())), &options).await }
    };
    let create = refused(put("again", Precondition::Absent).await)?;
    // A server that ignored the condition holds another version now.
    let now = if create { first.clone() } else { store.head(key).await? };
    put("second one", Precondition::Matches(now.fingerprint.clone())).await?;
    let replace = refused(put("third", Precondition::Matches(now.fingerprint)).await)?;
    let now = store.head(key).await?.fingerprint;
    Ok((Conditions { create, replace }, now))
}

async fn server_copy(
    tree: &Tree,
    key: &ObjectKey,
    now: &Fingerprint,
    copied: &ObjectKey,
    tell: &mut impl FnMut(Finding),
) {
    if !tree.store.capabilities().server_copy {
        return;
    }
    let copy = tree.store.copy(&CopySource::here(key, now), copied, &PutOptions::default()).await;
    tell(match copy {
        Ok(_) => {
            Finding::ok(Subject::Target, "copy", "renamed objects are copied inside the store, without being sent")
        }
        Err(error) if error.kind == StoreErrorKind::Unsupported => {
            Finding::note(Subject::Target, "copy", "it cannot copy on its side: a renamed object is sent again")
        }
        Err(error) => Finding::failed(Subject::Target, "copy", &error),
    });
}

/// Whether the state can hold a lease, and whether the job may use it.
async fn state(job: &Job, tell: &mut impl FnMut(Finding)) {
    let place = job.state.place();
    let fine = || Finding::ok(Subject::State, "conditions", format!("{place} can hold a lease"));
    if job.state.is_this_machine() {
        let path = PathBuf::from(&place);
        if !path.exists() {
            tell(can_be_made(Subject::State, path).await);
            return;
        }
        let probed = async {
            let state = LocalState::open(&path, true)?;
            let probed = probe::probe(&state).await;
            // Not empty: another probe is at work.
            drop(tokio::fs::remove_dir(path.join(STATE_PROBE_FOLDER)).await);
            probed
        };
        match probed.await {
            Ok(()) => tell(fine()),
            Err(error) => return tell(Finding::refused(Subject::State, "conditions", error.into())),
        }
    } else {
        match probe::probe(job.state.as_ref()).await {
            Ok(()) => tell(fine()),
            Err(error) => return tell(Finding::refused(Subject::State, "conditions", error.into())),
        }
    }
    if let Err(failure) = session::may_use(job).await {
        tell(Finding::refused(Subject::State, "job", failure));
    }
}

/// A local place that does not stand there yet: whether it can be made, tried with a throwaway folder in the nearest folder
/// above it that exists. For a file, the folder that it stands in.
async fn can_be_made(subject: Subject, path: PathBuf) -> Finding {
    let shown = path.display().to_string();
    let tried = tokio::task::spawn_blocking(move || {
        let above = path.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        match tempfile::Builder::new().prefix(PROBE_PREFIX).tempdir_in(above).and_then(tempfile::TempDir::close) {
            Ok(()) => Ok(path.exists()),
            Err(error) => Err((above.display().to_string(), error)),
        }
    });
    match tried.await {
        Ok(Ok(true)) => Finding::ok(subject, "write", format!("{shown} can be replaced")),
        Ok(Ok(false)) => Finding::ok(subject, "write", format!("{shown} does not exist yet and can be made")),
        Ok(Err((above, error))) => {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => StoreErrorKind::Permission,
                std::io::ErrorKind::StorageFull => StoreErrorKind::NoSpace,
                _ => StoreErrorKind::Other,
            };
            let error = StoreError::new("write to", &above, kind, error.kind().to_string());
            let fix = format!("name a folder that this user may write to, or make {shown} writable");
            Finding { fix: Some(fix), ..Finding::failed(subject, "write", &error) }
        }
        Err(error) => Finding::refused(subject, "write", Failure::from(error)),
    }
}

fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
