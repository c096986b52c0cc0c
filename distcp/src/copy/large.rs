//! A large object in parts: read in ranges, parallel and out of order, each range hashed, sent and journalled; or copied by
//! the service in ranges, each journalled.
//!
//! Before the first part the journal durably holds the upload's id (rule 18); after each part its number, ETag and (of one
//! that was read) chaining values. A crash anywhere leaves an upload that the next run continues, if the source is still the same version and the
//! store still has the parts; the object appears on the target in one step at the end.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use manifest::state::journal::Record;
use manifest::{ChunkHash, ChunkSize, Class, ContentHash, Fingerprint};

use super::resume::Unfinished;
use super::transfer::known_source_hash;
use super::{Copier, Finished};
use crate::event::Means;
use crate::plan::Action;
use crate::progress::count;
use crate::scan::{self, RANGES_AT_ONCE, Scanned};
use crate::store::{
    CopySource, ObjectInfo, PartSpec, Payload, Proof, PutOptions, Result, StoreError, StoreErrorKind, UploadId,
    UploadedPart, Written,
};

/// How often a part that does not arrive whole is sent.
const PART_ATTEMPTS: u32 = 3;

type PartsDone = BTreeMap<u32, (UploadedPart, Vec<ChunkHash>)>;

/// The largest part that the service copies in one request, where it takes so much: a few at a time are in work.
const COPIED_PART_BYTES: u64 = 256 << 20;
/// Parts of one upload, at most.
const MAX_PARTS: u64 = 10_000;

/// How an upload's parts come about: of which version they are, and how it is cut.
#[derive(Clone, Copy)]
struct Cut<'a> {
    /// The version; on resuming it must be the same.
    version: &'a Fingerprint,
    part_bytes: u64,
    parts: Parts<'a>,
}

#[derive(Clone, Copy)]
enum Parts<'a> {
    /// Read from the source, hashed in chunks, and sent.
    Read,
    /// Copied by the service, unseen.
    Copied(&'a CopySource<'a>),
}

impl Cut<'_> {
    /// The chunks that are hashed, as the journal says it.
    fn chunk(&self, copier: &Copier) -> Option<ChunkSize> {
        match self.parts {
            Parts::Read => Some(copier.chunk_size),
            Parts::Copied(_) => None,
        }
    }
}

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
    let cut = Cut { version: source, part_bytes, parts: Parts::Read };
    let (upload, done) = upload(copier, action, cut, &options).await?;
    let finished = match done {
        Ok(done) => finish(copier, action, source, info, options, &upload, done).await,
        Err(error) => Err(error),
    };
    // The version that the parts belong to is gone from the source, or the target changed: nothing can continue them.
    let useless = |error: &StoreError| error.class() == Class::Conflict || error.kind == StoreErrorKind::NotFound;
    if finished.as_ref().is_err_and(useless) {
        abort(copier, action, &upload).await?;
    }
    finished
}

/// Has the target's service copy an object that is larger than the `most` it takes in one step, in parts that nobody here
/// sees. What is known of the result is for the caller to find out.
pub(super) async fn copy_inside(
    copier: &Copier,
    action: &Action,
    from: &CopySource<'_>,
    most: u64,
    options: &PutOptions,
) -> Result<Written> {
    let size_bytes = from.expect.size_bytes;
    let part_bytes = copied_part_bytes(size_bytes, most);
    let Some(part_bytes) = part_bytes.filter(|_| copier.target.capabilities().lists_parts) else {
        return Err(copier.refuse(action, "it is too large for the service to copy"));
    };
    let cut = Cut { version: from.expect, part_bytes, parts: Parts::Copied(from) };
    let options = &PutOptions { copied_parts: true, ..options.clone() };
    let (upload, done) = upload(copier, action, cut, options).await?;
    let written = match done {
        Ok(done) => {
            let parts: Vec<UploadedPart> = done.into_values().map(|(part, _)| part).collect();
            copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
            copier.target.complete_upload(&action.key, &upload, &parts, options).await
        }
        Err(error) => Err(error),
    };
    match written {
        Ok(written) => {
            copier.record(Record::UploadEnded { upload_id: upload.0.clone(), completed: true }).await?;
            Ok(written)
        }
        // What only the passing of time can mend is gone on with; nothing else is.
        Err(error) => {
            if matches!(error.class(), Class::Conflict | Class::Permanent) {
                abort(copier, action, &upload).await?;
            }
            Err(error)
        }
    }
}

/// The length of the parts in which `size_bytes` are copied where one request copies at most `most`; `None` when that takes
/// too many parts.
fn copied_part_bytes(size_bytes: u64, most: u64) -> Option<u64> {
    let fits = |part: u64| size_bytes.div_ceil(part) <= MAX_PARTS;
    let usual = COPIED_PART_BYTES.min(1 << most.checked_ilog2()?);
    let mut part = usual;
    while !fits(part) && part <= most / 2 {
        part *= 2;
    }
    fits(part).then_some(part)
}

/// Goes on with an upload of an earlier run, or begins one, and brings in the parts that are missing.
async fn upload(
    copier: &Copier,
    action: &Action,
    cut: Cut<'_>,
    options: &PutOptions,
) -> Result<(UploadId, Result<PartsDone>)> {
    let (upload, mut done) = match continue_upload(copier, action, cut).await? {
        Some((upload, parts)) => {
            count(&copier.progress.done_bytes, parts.values().map(|(part, _)| part.part.size_bytes).sum());
            (upload, parts)
        }
        None => (begin(copier, action, cut, options).await?, PartsDone::new()),
    };
    let sent = bring_parts(copier, action, cut, &upload, &mut done).await;
    Ok((upload, sent.map(|()| done)))
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
    Ok(Finished::Copied { entry, means: Means::Streamed, in_parts: true })
}

async fn begin(copier: &Copier, action: &Action, cut: Cut<'_>, options: &PutOptions) -> Result<UploadId> {
    copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
    let upload = copier.target.create_upload(&action.key, cut.version.size_bytes, options).await?;
    copier.record_durable(begun(copier, action, cut, &upload)).await?;
    Ok(upload)
}

fn begun(copier: &Copier, action: &Action, cut: Cut<'_>, upload: &UploadId) -> Record {
    Record::UploadBegun {
        key: action.key.clone(),
        upload_id: upload.0.clone(),
        source: cut.version.clone(),
        size_bytes: cut.version.size_bytes,
        part_bytes: cut.part_bytes,
        chunk: cut.chunk(copier),
        options: serde_json::Value::Null,
    }
}

/// Brings in every part that is not in `done` yet. Stops between parts when the run is asked to stop.
async fn bring_parts(
    copier: &Copier,
    action: &Action,
    cut: Cut<'_>,
    upload: &UploadId,
    done: &mut PartsDone,
) -> Result<()> {
    let parts: Vec<PartSpec> = manifest::chunk::ranges(cut.version.size_bytes, cut.part_bytes)
        .zip(1u32..)
        .map(|(range, number)| PartSpec { number, offset: range.start, size_bytes: range.end - range.start })
        .filter(|part| !done.contains_key(&part.number))
        .collect();
    let bring = |part: PartSpec| async move {
        let _held = match cut.parts {
            Parts::Read => Some(copier.budget.take(part.size_bytes).await),
            Parts::Copied(_) => None,
        };
        if let Some(error) = copier.stopped(action) {
            return Err(error);
        }
        let brought = match cut.parts {
            Parts::Read => send_part(copier, action, cut.version, upload, part).await?,
            Parts::Copied(from) => (copy_part(copier, action, from, upload, part).await?, Vec::new()),
        };
        Ok::<_, StoreError>((part.number, brought))
    };
    let mut waiting = parts.into_iter();
    let mut running: FuturesUnordered<_> = waiting.by_ref().take(RANGES_AT_ONCE).map(bring).collect();
    let mut failed = None;
    while let Some(answer) = running.next().await {
        match answer {
            Ok((number, brought)) => {
                done.insert(number, brought);
                if failed.is_none() {
                    running.extend(waiting.next().map(bring));
                }
            }
            // Parts under way go on to their end: what is sent and journalled is not sent again.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn copy_part(
    copier: &Copier,
    action: &Action,
    from: &CopySource<'_>,
    upload: &UploadId,
    part: PartSpec,
) -> Result<UploadedPart> {
    copier.guard.check().map_err(|e| copier.lost_lease(action, &e))?;
    let copied = copier.target.copy_part(from, &action.key, upload, part).await?;
    copier.record(part_done(upload, &copied, Vec::new())).await?;
    count(&copier.progress.done_bytes, part.size_bytes);
    Ok(copied)
}

fn part_done(upload: &UploadId, part: &UploadedPart, chunks: Vec<ChunkHash>) -> Record {
    let PartSpec { number, offset, size_bytes } = part.part;
    let (etag, checksum) = (part.etag.clone(), part.checksum.clone());
    Record::PartDone { upload_id: upload.0.clone(), number, offset, size_bytes, etag, checksum, chunks }
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
        copier.record(part_done(upload, &sent, chunks.clone())).await?;
        count(&copier.progress.done_bytes, part.size_bytes);
        return Ok((sent, chunks));
    }
    Err(copier.damaged(action, "a part does not arrive as it was sent"))
}

/// The upload of an earlier run that fits, with the parts that the store still holds as the journal says.
async fn continue_upload(copier: &Copier, action: &Action, cut: Cut<'_>) -> Result<Option<(UploadId, PartsDone)>> {
    let taken = copier.unfinished.take(&action.key, cut.version, cut.part_bytes, cut.chunk(copier));
    let Some(unfinished) = taken else {
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
    copier.record_durable(begun(copier, action, cut, &upload)).await?;
    for (part, chunks) in done.values() {
        copier.record(part_done(&upload, part, chunks.clone())).await?;
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
            // What was hashed as it was sent is proven by the ETag that it still has; what was copied never was.
            let proof = if chunks.is_empty() { Proof::None } else { Proof::Checksum };
            done.insert(held.part.number, (UploadedPart { proof, ..part }, chunks));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_parts_fit_what_a_service_takes() {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        for (size, most, part) in [
            (6 * GIB, 5 * GIB, Some(256 * MIB)),
            (2500 * GIB, 5 * GIB, Some(256 * MIB)),
            (2501 * GIB, 5 * GIB, Some(512 * MIB)),
            (40_000 * GIB, 5 * GIB, Some(4 * GIB)),
            (50_000 * GIB, 5 * GIB, None),
            (20 * MIB, 8 * MIB, Some(8 * MIB)),
            (20 * MIB, 12 * MIB, Some(8 * MIB)),
            (1, 0, None),
        ] {
            assert_eq!(copied_part_bytes(size, most), part, "{size} {most}");
        }
    }
}
