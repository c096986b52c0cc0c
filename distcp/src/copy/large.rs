//! A large object in parts: read in ranges, parallel and out of order, each range hashed, sent and journalled.
//!
//! Before the first part the journal durably holds the upload's id (rule 18); after each part its number, ETag and chaining
//! values. A crash anywhere leaves an upload that the next run continues, if the source is still the same version and the
//! store still has the parts; the object appears on the target in one step at the end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use manifest::state::journal::Record;
use manifest::{ChunkHash, Class, ContentHash, Fingerprint};

use super::resume::Unfinished;
use super::transfer::known_source_hash;
use super::{Copier, Finished};
use crate::event::{Means, count};
use crate::plan::Action;
use crate::scan::{self, RANGES_AT_ONCE, Scanned};
use crate::store::{
    ObjectInfo, PartSpec, Payload, Proof, PutOptions, Result, StoreError, StoreErrorKind, UploadId, UploadedPart,
};

/// How often a part that does not arrive whole is sent.
const PART_ATTEMPTS: u32 = 3;

type PartsDone = BTreeMap<u32, (UploadedPart, Vec<ChunkHash>)>;

/// Copies an object in parts of `part_bytes`.
pub(super) async fn copy(copier: &Copier, action: &Action, source: &Fingerprint, part_bytes: u64) -> Result<Finished> {
    if part_bytes > copier.memory_bytes / 4 {
        let needed = part_bytes * 4;
        return Err(copier.refuse(action, &format!("its parts need --memory {}M", needed.div_ceil(1 << 20))));
    }
    let info = copier.source.head(&action.key).await?;
    if !source.looks_like(&info.fingerprint) {
        return Err(copier.changed(action));
    }
    let options = copier.put_options(action, source, &info);
    let (upload, mut done) = match continue_upload(copier, action, source, part_bytes).await? {
        Some((upload, parts)) => {
            count(&copier.progress.done_bytes, parts.values().map(|(part, _)| part.part.size_bytes).sum());
            (upload, parts)
        }
        None => (begin(copier, action, source, part_bytes, &options).await?, PartsDone::new()),
    };
    let finished = match send_parts(copier, action, source, part_bytes, &upload, &mut done).await {
        Ok(()) => finish(copier, action, source, info, options, &upload, done).await,
        Err(error) => Err(error),
    };
    // The version that the parts belong to is gone from the source, or the target changed: nothing can continue them.
    let useless = |error: &StoreError| error.class() == Class::Conflict || error.kind == StoreErrorKind::NotFound;
    if finished.as_ref().is_err_and(useless) {
        abort(copier, action, &upload).await?;
    }
    finished
}

/// Makes the object of its parts, once they are known to be one version's.
async fn finish(
    copier: &Copier,
    action: &Action,
    source: &Fingerprint,
    info: ObjectInfo,
    options: PutOptions,
    upload: &UploadId,
    done: PartsDone,
) -> Result<Finished> {
    let chunks: Vec<ChunkHash> = done.values().flat_map(|(_, chunks)| chunks.iter().copied()).collect();
    let hash = ContentHash::merge(&chunks, source.size_bytes, copier.chunk_size);
    let hash = hash.ok_or_else(|| copier.damaged(action, "its parts do not make the object"))?;
    if known_source_hash(action).is_some_and(|known| known != hash) {
        abort(copier, action, upload).await?;
        return Err(
            copier.damaged(action, "its content is not what its unchanged fingerprint stood for at the last run")
        );
    }
    // The version is looked at once more: ranges were read over minutes.
    let now = copier.source.head(&action.key).await?;
    if !source.looks_like(&now.fingerprint) {
        return Err(copier.changed(action));
    }
    let parts: Vec<UploadedPart> = done.into_values().map(|(part, _)| part).collect();
    copier.keep_overwritten(action).await?;
    copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
    let written = copier.target.complete_upload(&action.key, upload, &parts, &options).await?;
    let size_bytes = source.size_bytes;
    let scanned = Scanned { hash, chunks, kind: info.kind, attributes: info.attributes, size_bytes };
    if written.fingerprint.size_bytes != size_bytes || !copier.holds(action, &written, &scanned).await? {
        return Err(copier.damaged(action, "what the target holds is not what was sent"));
    }
    copier.record(Record::UploadEnded { upload_id: upload.0.clone(), completed: true }).await?;
    let entry = copier.entry(action, source, &scanned, options.attributes, &written);
    Ok(Finished::Copied { entry, means: Means::Streamed })
}

async fn begin(
    copier: &Copier,
    action: &Action,
    source: &Fingerprint,
    part_bytes: u64,
    options: &PutOptions,
) -> Result<UploadId> {
    copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
    let upload = copier.target.create_upload(&action.key, source.size_bytes, options).await?;
    let begun = Record::UploadBegun {
        key: action.key.clone(),
        upload_id: upload.0.clone(),
        source: source.clone(),
        size_bytes: source.size_bytes,
        part_bytes,
        chunk: copier.chunk_size,
        options: serde_json::Value::Null,
    };
    copier.record_durable(begun).await?;
    Ok(upload)
}

/// Sends every part that is not in `done` yet. Stops between parts when the run is asked to stop.
async fn send_parts(
    copier: &Copier,
    action: &Action,
    source: &Fingerprint,
    part_bytes: u64,
    upload: &UploadId,
    done: &mut PartsDone,
) -> Result<()> {
    let parts: Vec<PartSpec> = manifest::chunk::ranges(source.size_bytes, part_bytes)
        .zip(1u32..)
        .map(|(range, number)| PartSpec { number, offset: range.start, size_bytes: range.end - range.start })
        .filter(|part| !done.contains_key(&part.number))
        .collect();
    let send = |part: PartSpec| async move {
        let _held = copier.budget.take(part.size_bytes).await;
        if let Some(error) = copier.stopped(action) {
            return Err(error);
        }
        let sent = send_part(copier, action, source, upload, part).await?;
        Ok::<_, StoreError>((part.number, sent))
    };
    let mut waiting = parts.into_iter();
    let mut running: FuturesUnordered<_> = waiting.by_ref().take(RANGES_AT_ONCE).map(send).collect();
    let mut failed = None;
    while let Some(answer) = running.next().await {
        match answer {
            Ok((number, sent)) => {
                done.insert(number, sent);
                if failed.is_none() {
                    running.extend(waiting.next().map(send));
                }
            }
            // Parts under way go on to their end: what is sent and journalled is not sent again.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn send_part(
    copier: &Copier,
    action: &Action,
    source: &Fingerprint,
    upload: &UploadId,
    part: PartSpec,
) -> Result<(UploadedPart, Vec<ChunkHash>)> {
    let range = part.offset..part.offset + part.size_bytes;
    let (_, bytes) = scan::read_range(copier.source.as_ref(), &action.key, source, range).await?;
    let chunk_size = copier.chunk_size;
    let (payload, chunks) = scan::offload(bytes.len(), move || {
        let chunks = ChunkHash::of_run(&bytes, part.offset, chunk_size);
        (Payload::new(bytes), chunks)
    })
    .await?;
    for _ in 0..PART_ATTEMPTS {
        copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
        let sent = copier.target.put_part(&action.key, upload, part, payload.clone()).await?;
        // A part that nothing proves is proven with the whole object, which is read back.
        if sent.proof == Proof::None && !copier.target.capabilities().lists_parts {
            continue;
        }
        copier
            .record(Record::PartDone {
                upload_id: upload.0.clone(),
                number: part.number,
                offset: part.offset,
                size_bytes: part.size_bytes,
                etag: sent.etag.clone(),
                checksum: sent.checksum.clone(),
                chunks: chunks.clone(),
            })
            .await?;
        count(&copier.progress.done_bytes, part.size_bytes);
        return Ok((sent, chunks));
    }
    Err(copier.damaged(action, "a part does not arrive as it was sent"))
}

/// The upload of an earlier run that fits, with the parts that the store still holds as the journal says.
async fn continue_upload(
    copier: &Copier,
    action: &Action,
    source: &Fingerprint,
    part_bytes: u64,
) -> Result<Option<(UploadId, PartsDone)>> {
    let Some(unfinished) = copier.unfinished.take(&action.key, source, part_bytes, copier.chunk_size) else {
        return Ok(None);
    };
    let upload = unfinished.upload.clone();
    let held = match copier.target.list_parts(&action.key, &upload).await {
        Ok(held) => held,
        // Completed after all, aborted, or expired: the plan saw the target as it is now, so start anew.
        Err(error) if error.kind == StoreErrorKind::NotFound => {
            copier.record(Record::UploadEnded { upload_id: upload.0, completed: false }).await?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let done = match copier.target.capabilities().lists_parts {
        true => agreed(unfinished, held),
        false => read_back(copier, action, unfinished).await?,
    };
    // The journal of this run has to know the upload and its parts too: the old journal will be pruned.
    let begun = Record::UploadBegun {
        key: action.key.clone(),
        upload_id: upload.0.clone(),
        source: source.clone(),
        size_bytes: source.size_bytes,
        part_bytes,
        chunk: copier.chunk_size,
        options: serde_json::Value::Null,
    };
    copier.record_durable(begun).await?;
    for (part, chunks) in done.values() {
        let part = part.clone();
        let PartSpec { number, offset, size_bytes } = part.part;
        let (upload_id, chunks) = (upload.0.clone(), chunks.clone());
        let (etag, checksum) = (part.etag, part.checksum);
        copier.record(Record::PartDone { upload_id, number, offset, size_bytes, etag, checksum, chunks }).await?;
    }
    Ok(Some((upload, done)))
}

/// The journalled parts that the store lists with the same ETag and size.
fn agreed(unfinished: Unfinished, held: Vec<UploadedPart>) -> PartsDone {
    let mut journalled = unfinished.parts;
    let mut done = PartsDone::new();
    for held in held {
        if let Some((part, chunks)) = journalled.remove(&held.part.number)
            && part.etag == held.etag
            && part.part.size_bytes == held.part.size_bytes
        {
            done.insert(held.part.number, (UploadedPart { proof: Proof::Checksum, ..part }, chunks));
        }
    }
    done
}

/// The journalled parts whose bytes, read back, have the journalled chaining values.
async fn read_back(copier: &Copier, action: &Action, unfinished: Unfinished) -> Result<PartsDone> {
    let mut done = PartsDone::new();
    for (number, (part, chunks)) in unfinished.parts {
        let _held = copier.budget.take(part.part.size_bytes).await;
        let bytes = match copier.target.read_part(&action.key, &unfinished.upload, part.part).await {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Corrupt) => continue,
            Err(error) => return Err(error),
        };
        if scan::hash_run(bytes, part.part.offset, copier.chunk_size).await? == chunks {
            done.insert(number, (UploadedPart { proof: Proof::ReadBack, ..part }, chunks));
        }
    }
    Ok(done)
}

/// Gives an upload of ours up and says so in the journal. Without a lease it stays, and stays in the journals: another run
/// may be sending its parts (rule 17).
pub(super) async fn abort(copier: &Copier, action: &Action, upload: &UploadId) -> Result<()> {
    if !copier.guard.is_held() {
        copier.left_upload.store(true, Ordering::Relaxed);
        return Ok(());
    }
    copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
    copier.target.abort_upload(&action.key, upload).await?;
    copier.record(Record::UploadEnded { upload_id: upload.0.clone(), completed: false }).await
}
