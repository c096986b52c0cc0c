//! Keeps what stands on the target before it is overwritten or deleted.
//!
//! Conditional on the version that is about to go, and verified, before anything is done to the target; what cannot be kept
//! is not touched, and its key fails. Never writes over what the run has kept already. A crash leaves the object on the
//! target, in the trash, or in both; an upload to the trash is journalled before its first part, and given up by the next run.

use std::sync::atomic::{AtomicU64, Ordering};

use manifest::state::journal::Record;
use manifest::state::layout::{JobName, RunId};
use manifest::{ChunkHash, ContentHash, EntryKind, Fingerprint, ObjectKey};
use tokio::sync::OnceCell;

use super::across::{self, Across};
use super::budget::Budget;
use super::{Copier, transfer};
use crate::job::Job;
use crate::plan::Action;
use crate::scan;
use crate::store::{
    CopySource, ObjectInfo, PartSpec, Payload, Precondition, Proof, PutOptions, Result, Store, StoreError,
    StoreErrorKind, UploadId, UploadedPart,
};
use crate::trash::Trash;

/// How often what arrives damaged is sent.
const DAMAGE_ATTEMPTS: u32 = 3;
/// The share of the memory for content that is on its way into the trash.
const MEMORY_SHARE: u64 = 4;

/// What a run needs to keep things.
pub(super) struct Keeper {
    trash: Trash,
    /// What the trash's service can copy from the target by itself.
    across: Across,
    job: JobName,
    run: RunId,
    target: String,
    marked: OnceCell<()>,
    /// Of its own: whoever keeps something may hold some of the main budget.
    budget: Budget,
    /// Objects that were kept.
    pub(super) kept: AtomicU64,
}

impl Keeper {
    /// A keeper for one run, and the memory that is left for the run itself.
    pub(super) fn new(trash: Trash, job: &Job, run: RunId) -> (Self, u64) {
        let memory_bytes = job.limits.memory_bytes;
        let across = Across::between(job.target.store.as_ref(), trash.tree.store.as_ref());
        let (job, target) = (job.name.clone(), job.target.place.clone());
        let share = memory_bytes / MEMORY_SHARE;
        let budget = Budget::new(share);
        let keeper = Self { trash, across, job, run, target, marked: OnceCell::new(), budget, kept: AtomicU64::new(0) };
        (keeper, memory_bytes - share)
    }

    /// Gives up an upload to the trash that a dead run left.
    pub(super) async fn abort(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.trash.tree.store.abort_upload(key, upload).await
    }

    fn store(&self) -> &dyn Store {
        self.trash.tree.store.as_ref()
    }

    fn error(&self, key: &ObjectKey, kind: StoreErrorKind, detail: &str) -> StoreError {
        StoreError::new("keep in the trash", self.store().place(), kind, detail).on(key)
    }
}

impl Copier {
    /// Keeps what an overwrite is about to replace: exactly the version that the plan saw. Another one is an error of class
    /// conflict, as for the write itself.
    pub(super) async fn keep_overwritten(&self, action: &Action) -> Result<()> {
        match (&self.keeper, &action.target) {
            (Some(keeper), Some(expect)) => self.keep(keeper, &action.key, expect).await,
            _ => Ok(()),
        }
    }

    /// Keeps what a delete is about to remove, in whatever version it stands there now.
    pub(super) async fn keep_deleted(&self, action: &Action) -> Result<()> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        if let Some(expect) = &action.target {
            match self.keep(keeper, &action.key, expect).await {
                Err(error) if error.kind == StoreErrorKind::Precondition => {}
                kept => return kept,
            }
        }
        match self.target.head(&action.key).await {
            Ok(info) => self.keep(keeper, &action.key, &info.fingerprint).await,
            // Gone already: there is nothing to keep, and nothing to delete.
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn keep(&self, keeper: &Keeper, key: &ObjectKey, expect: &Fingerprint) -> Result<()> {
        self.may_write(keeper, key)?;
        let mark = || keeper.trash.mark(&keeper.job, &keeper.run, &keeper.target);
        keeper.marked.get_or_try_init(mark).await?;
        let to = key.below(&ObjectKey::from(keeper.run.as_str()));
        if !self.keep_inside(keeper, key, expect, &to).await? {
            self.keep_streamed(keeper, key, expect, &to).await?;
        }
        keeper.kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Copies inside the service; false where that cannot be done.
    async fn keep_inside(
        &self,
        keeper: &Keeper,
        key: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
    ) -> Result<bool> {
        let Some((origin, most)) = keeper.across.open() else { return Ok(false) };
        if expect.size_bytes > most || expect.etag.is_none() {
            return Ok(false);
        }
        let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
        let there = self.target.key_at_origin(key);
        let source = CopySource { origin: Some(origin), key: &there, expect, keep_attributes: true };
        match keeper.store().copy(&source, to, &options).await {
            Ok(written) if written.fingerprint.size_bytes == expect.size_bytes => {
                keeper.across.worked();
                Ok(true)
            }
            Ok(_) => Err(keeper.error(key, StoreErrorKind::Corrupt, "the copy has another size")),
            // Gone, another version, kept already, or not possible at all: streaming finds out which.
            Err(error) if error.class() == manifest::Class::Retryable => Err(error),
            Err(error) if error.kind == StoreErrorKind::Cancelled => Err(error),
            Err(error) => {
                if across::is_of_service(&error) {
                    keeper.across.was_refused();
                }
                Ok(false)
            }
        }
    }

    async fn keep_streamed(
        &self,
        keeper: &Keeper,
        key: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
    ) -> Result<()> {
        let changed = |detail: &str| keeper.error(key, StoreErrorKind::Precondition, detail);
        let info = match self.target.head(key).await {
            Ok(info) => info,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Err(changed("it is gone from the target")),
            Err(error) => return Err(error),
        };
        if info.kind == EntryKind::Folder {
            return Ok(());
        }
        if !expect.looks_like(&info.fingerprint) {
            return Err(changed("the target was changed after it was listed"));
        }
        let options = options_of(&info, keeper.store());
        let part_bytes = self.chunk_size.part_bytes(expect.size_bytes);
        let written = if expect.size_bytes <= part_bytes.min(keeper.store().capabilities().max_put_bytes) {
            self.keep_whole(keeper, key, expect, to, &options).await
        } else {
            self.keep_parts(keeper, key, expect, to, &options, part_bytes).await
        };
        match written {
            Err(error) if error.kind == StoreErrorKind::Precondition && error.key.as_ref() == Some(to) => {
                self.is_kept(keeper, key, expect, to).await
            }
            written => written,
        }
    }

    async fn keep_whole(
        &self,
        keeper: &Keeper,
        key: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
        options: &PutOptions,
    ) -> Result<()> {
        let _held = keeper.budget.take(expect.size_bytes).await;
        let (_, bytes) = scan::read_whole(self.target.as_ref(), key, expect).await?;
        let length = bytes.len();
        let (hash, payload) = scan::offload(length, move || (ContentHash::of(&bytes), Payload::new(bytes))).await?;
        self.may_write(keeper, key)?;
        let written = keeper.store().put(to, payload, options).await?;
        if written.proof != Proof::None {
            return Ok(());
        }
        let back = scan::scan(keeper.store(), to, &written.fingerprint, self.chunk_size, &self.no_budget).await?;
        self.proven(keeper, key, back.hash == hash)
    }

    /// A large object: its parts one after the other, each read, hashed and sent.
    async fn keep_parts(
        &self,
        keeper: &Keeper,
        key: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
        options: &PutOptions,
        part_bytes: u64,
    ) -> Result<()> {
        self.may_write(keeper, key)?;
        let upload = keeper.store().create_upload(to, expect.size_bytes, options).await?;
        let begun = Record::TrashUpload { key: to.clone(), upload_id: upload.0.clone() };
        self.record_durable(begun).await?;
        let sent = self.keep_all_parts(keeper, key, expect, to, &upload, part_bytes).await;
        let completed = match sent {
            Ok((parts, hash)) => {
                self.may_write(keeper, key)?;
                keeper.store().complete_upload(to, &upload, &parts, options).await.map(|written| (written, hash))
            }
            Err(error) => Err(error),
        };
        let ended = |completed| Record::UploadEnded { upload_id: upload.0.clone(), completed };
        let (written, hash) = match completed {
            Ok(completed) => completed,
            Err(error) => {
                // Nothing goes on with it. Without a lease it stays, and stays in the journals (rule 17).
                match self.guard.is_held() && keeper.abort(to, &upload).await.is_ok() {
                    true => self.record(ended(false)).await?,
                    false => self.left_upload.store(true, Ordering::Relaxed),
                }
                return Err(error);
            }
        };
        self.record(ended(true)).await?;
        let same_size = written.fingerprint.size_bytes == expect.size_bytes;
        if same_size && written.proof != Proof::None {
            return Ok(());
        }
        let back = scan::scan(keeper.store(), to, &written.fingerprint, self.chunk_size, &self.no_budget).await?;
        self.proven(keeper, key, same_size && back.hash == hash)
    }

    async fn keep_all_parts(
        &self,
        keeper: &Keeper,
        key: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
        upload: &UploadId,
        part_bytes: u64,
    ) -> Result<(Vec<UploadedPart>, ContentHash)> {
        let mut parts = Vec::new();
        let mut chunks: Vec<ChunkHash> = Vec::new();
        for (range, number) in manifest::chunk::ranges(expect.size_bytes, part_bytes).zip(1u32..) {
            if let Some(stopped) = self.why_stop() {
                return Err(keeper.error(key, StoreErrorKind::Cancelled, stopped.reason()));
            }
            let part = PartSpec { number, offset: range.start, size_bytes: range.end - range.start };
            let _held = keeper.budget.take(part.size_bytes).await;
            let (_, bytes) = scan::read_range(self.target.as_ref(), key, expect, range).await?;
            let chunk_size = self.chunk_size;
            let (payload, hashes) = scan::offload(bytes.len(), move || {
                let hashes = ChunkHash::of_run(&bytes, part.offset, chunk_size);
                (Payload::new(bytes), hashes)
            })
            .await?;
            parts.push(self.keep_part(keeper, to, upload, part, payload).await?);
            chunks.extend(hashes);
        }
        let hash = ContentHash::merge(&chunks, expect.size_bytes, self.chunk_size);
        let hash =
            hash.ok_or_else(|| keeper.error(key, StoreErrorKind::Corrupt, "its parts do not make the object"))?;
        Ok((parts, hash))
    }

    async fn keep_part(
        &self,
        keeper: &Keeper,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        payload: Payload,
    ) -> Result<UploadedPart> {
        for _ in 0..DAMAGE_ATTEMPTS {
            self.may_write(keeper, to)?;
            let sent = keeper.store().put_part(to, upload, part, payload.clone()).await?;
            // A part that nothing proves is proven with the whole object, which is read back.
            if sent.proof != Proof::None || keeper.store().capabilities().lists_parts {
                return Ok(sent);
            }
        }
        Err(keeper.error(to, StoreErrorKind::Corrupt, "a part does not arrive as it was sent"))
    }

    /// The run has kept something under this key before: fine if it is the same, else that stays, and the key fails.
    async fn is_kept(&self, keeper: &Keeper, key: &ObjectKey, expect: &Fingerprint, to: &ObjectKey) -> Result<()> {
        let there = keeper.store().head(to).await?;
        if there.fingerprint.size_bytes == expect.size_bytes {
            let chunk_size = self.chunk_size;
            let kept = scan::scan(keeper.store(), to, &there.fingerprint, chunk_size, &self.no_budget).await?;
            let now = scan::scan(self.target.as_ref(), key, expect, chunk_size, &self.no_budget).await?;
            if kept.hash == now.hash {
                return Ok(());
            }
        }
        let detail = "another version of it is kept there by this run already; the next run keeps this one";
        Err(keeper.error(key, StoreErrorKind::Other, detail))
    }

    fn proven(&self, keeper: &Keeper, key: &ObjectKey, holds: bool) -> Result<()> {
        match holds {
            true => Ok(()),
            false => Err(keeper.error(key, StoreErrorKind::Corrupt, "what the trash holds is not what was sent")),
        }
    }

    fn may_write(&self, keeper: &Keeper, key: &ObjectKey) -> Result<()> {
        self.guard.check().map_err(|error| keeper.error(key, StoreErrorKind::Cancelled, &error.to_string()))
    }
}

/// How an object of the target is written into the trash: never over another, with all that is kept with it.
fn options_of(info: &ObjectInfo, trash: &dyn Store) -> PutOptions {
    let mut attributes = info.attributes.clone();
    if !trash.capabilities().etags
        && let Some(mtime_ns) = info.fingerprint.mtime_ns
    {
        attributes.entry("meta:mtime".into()).or_insert_with(|| transfer::seconds(mtime_ns));
    }
    if info.kind == EntryKind::Symlink {
        attributes.insert("meta:understudy-link".into(), "true".into());
    }
    PutOptions { kind: info.kind, precondition: Precondition::Absent, attributes, copied_parts: false }
}
