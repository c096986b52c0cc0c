//! The file of a `sqlite:` target, kept with a state that is not on this machine (rule 35): a machine that vanishes takes no
//! replica with it.
//!
//! After a run has written, the file is copied as of one moment and stored in parts, named by what is in them, before the
//! checkpoint that names all of them; parts that no checkpoint names go after it. A crash in between leaves parts that the next
//! run that stores the file removes, and the checkpoint before with its own. A run that finds no file takes that of the last checkpoint, which is
//! then what the intent of a run that died says it may not be: what that one wrote is done again. The file appears whole.

use super::state::{KeptFile, SyncState};
use super::{Setting, failure};
use crate::metastore::{Change, Metastore, Result as MetastoreResult, Snapshot, open};
use async_trait::async_trait;
use bytes::Bytes;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use futures::{StreamExt as _, TryStreamExt as _};
use manifest::state::checkpoint::{self, Checkpoint};
use manifest::state::{StateStore, layout};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the file in a part, before it is compressed.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once: each is in memory twice.
const PARTS_AT_ONCE: usize = 4;
/// How hard zstd tries.
const LEVEL: i32 = 1;

/// The target, and whether anything was written to it.
pub(super) struct Watched {
    metastore: Box<dyn Metastore>,
    wrote: AtomicBool,
}

impl Watched {
    /// Nothing was written so far.
    pub fn new(metastore: Box<dyn Metastore>) -> Self {
        Self { metastore, wrote: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Metastore for Watched {
    fn place(&self) -> String {
        self.metastore.place()
    }

    fn holder(&self) -> crate::held::Holder {
        self.metastore.holder()
    }

    async fn snapshot(&self) -> MetastoreResult<Box<dyn Snapshot>> {
        self.metastore.snapshot().await
    }

    async fn apply(&self, changes: &[Change]) -> MetastoreResult<()> {
        self.wrote.store(true, Ordering::Relaxed);
        self.metastore.apply(changes).await
    }

    async fn apply_some(&self, parts: &[&[Change]]) -> MetastoreResult<usize> {
        self.wrote.store(true, Ordering::Relaxed);
        self.metastore.apply_some(parts).await
    }
}

/// Stores the target's file, if it is one that has to be, and if it may have changed since `left`. What the checkpoint shall
/// name.
pub(super) async fn keep(
    setting: &Setting,
    state: &dyn StateStore,
    target: &Watched,
    left: Option<&SyncState>,
) -> Result<Option<KeptFile>> {
    let before = left.and_then(|left| left.kept.clone());
    if state.is_this_machine() || open::sqlite_file(&setting.policy.target).map_err(failure)?.is_none() {
        return Ok(None);
    }
    // A run that died may have written and not stored.
    let is_settled = left.is_some_and(|left| left.intent.is_none());
    if !target.wrote.load(Ordering::Relaxed) && is_settled && before.is_some() {
        return Ok(before);
    }
    let folder = tempfile::tempdir_in(&setting.spool).map_err(|error| local("a temporary folder", &error))?;
    let copy = folder.path().join("replica.db");
    open::copy_sqlite(&setting.policy.target, &copy).await.map_err(failure)?;
    let prefix = layout::replica(&setting.job()?);
    let present: Vec<String> = state.list(&prefix).await?.into_iter().map(|item| item.name).collect();
    let mut file = File::open(&copy).map_err(|error| local("the copy of the replica's metastore", &error))?;
    let mut kept = KeptFile::default();
    let mut ended = false;
    while !ended {
        let mut parts = Vec::new();
        while parts.len() < PARTS_AT_ONCE && !ended {
            let (read, part) = tokio::task::spawn_blocking(move || next_part(file)).await?;
            file = read;
            match part.map_err(|error| local("the copy of the replica's metastore", &error))? {
                Some(part) => parts.push(part),
                None => ended = true,
            }
        }
        kept.size_bytes += parts.iter().map(|part| part.size_bytes).sum::<u64>();
        kept.parts.extend(parts.iter().map(|part| part.digest.clone()));
        let put = parts.into_iter().map(|part| (format!("{prefix}{}", part.digest), part.bytes));
        let put = put.filter(|(name, _)| !present.contains(name));
        let sent = futures::stream::iter(put.map(|(name, bytes)| async move { state.create(&name, bytes).await }));
        sent.buffer_unordered(PARTS_AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    }
    Ok(Some(kept))
}

/// Removes parts that this checkpoint does not name. A failure fails nothing: the next run that stores the file tries again.
pub(super) async fn sweep(setting: &Setting, state: &dyn StateStore, kept: &KeptFile) -> Result<()> {
    let prefix = layout::replica(&setting.job()?);
    for item in state.list(&prefix).await? {
        let digest = item.name.strip_prefix(&prefix).unwrap_or_default();
        if !kept.parts.iter().any(|part| part == digest) {
            state.delete(&item.name).await?;
        }
    }
    Ok(())
}

/// Makes the file that a `sqlite:` URL names what the last checkpoint says it was, where a state says so. `into`: a file to
/// make in its place. Whether it did.
pub(super) async fn restore(setting: &Setting, into: Option<&Path>) -> Result<bool> {
    let Some(path) = open::sqlite_file(&setting.policy.target).map_err(failure)? else { return Ok(false) };
    let state = setting.state(false)?;
    if state.is_this_machine() {
        return Ok(false);
    }
    let loaded = checkpoint::load::<SyncState>(state.as_ref(), &setting.job()?).await?;
    let Some(Checkpoint { state: SyncState { kept: Some(kept), .. }, .. }) = loaded.map(|loaded| loaded.checkpoint)
    else {
        return Ok(false);
    };
    let path = into.map_or(path, Path::to_owned);
    let prefix = layout::replica(&setting.job()?);
    let beside = PathBuf::from(format!("{}.understudy-restored", path.display()));
    let named = |error: &std::io::Error| local(&beside.display().to_string(), error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| named(&error))?;
    }
    let mut file = File::create(&beside).map_err(|error| named(&error))?;
    let read = kept.parts.iter().map(|digest| {
        let (name, state) = (format!("{prefix}{digest}"), state.clone());
        async move { Ok::<_, Failure>((name.clone(), state.read(&name).await?)) }
    });
    let mut parts = futures::stream::iter(read).buffered(PARTS_AT_ONCE);
    let (mut digests, mut size_bytes) = (kept.parts.iter(), 0);
    while let Some((name, bytes)) = parts.try_next().await? {
        let expected = digests.next();
        let part = bytes.and_then(|bytes| unpacked(&bytes).ok());
        let part = part.filter(|part| expected.is_some_and(|digest| *digest == digest_of(part)));
        let Some(part) = part else {
            return Err(Failure::new(
                ExitCode::Failed,
                format!(
                    "{name} of the state {}, a part of the replica's metastore, is damaged or missing",
                    state.place()
                ),
            )
            .hint(format!(
                "run again with an empty metastore: remove the job's folder `{}` of the state, then run with --adopt",
                setting.policy.name
            )));
        };
        size_bytes += part.len() as u64;
        file.write_all(&part).map_err(|error| named(&error))?;
    }
    file.sync_all().map_err(|error| named(&error))?;
    // What a file that is gone had not written down yet does not belong to this one.
    for suffix in ["-wal", "-shm"] {
        match std::fs::remove_file(format!("{}{suffix}", path.display())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(named(&error)),
            _ => {}
        }
    }
    std::fs::rename(&beside, &path).map_err(|error| named(&error))?;
    if into.is_none() {
        setting.note(format!("{} was not there: the state has it, {size_bytes} bytes", path.display()));
    }
    Ok(true)
}

struct Part {
    digest: String,
    size_bytes: u64,
    /// Compressed.
    bytes: Bytes,
}

fn next_part(mut file: File) -> (File, std::io::Result<Option<Part>>) {
    let mut read = || {
        let mut bytes = Vec::new();
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let compressed = zstd::encode_all(bytes.as_slice(), LEVEL)?.into();
        Ok(Some(Part { digest: digest_of(&bytes), size_bytes: bytes.len() as u64, bytes: compressed }))
    };
    let part = read();
    (file, part)
}

fn unpacked(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    // One byte more than a part has is seen in its digest.
    zstd::Decoder::new(bytes)?.take(PART_BYTES as u64 + 1).read_to_end(&mut part)?;
    Ok(part)
}

fn digest_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().as_str().to_owned()
}

fn local(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Failed, format!("{what}: {error}"))
}
