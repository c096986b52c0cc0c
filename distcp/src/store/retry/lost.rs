//! After a lost answer: is what stands there what we wrote?
//!
//! Reads only. Says yes on evidence (content compared, or ETags that are content), never on size alone where a condition
//! failed; otherwise the failure stands (case 48).

use bytes::Bytes;
use futures::StreamExt as _;
use manifest::{Fingerprint, ObjectKey};

use crate::store::s3::checksum::{composite_etag, md5_hex};
use crate::store::{
    GetOptions, Precondition, Proof, PutOptions, Result, Store, StoreError, StoreErrorKind, UploadedPart, Written,
};

/// What stands under the key, or `None`.
async fn found(store: &dyn Store, key: &ObjectKey) -> Result<Option<Fingerprint>> {
    match store.head(key).await {
        Ok(info) => Ok(Some(info.fingerprint)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object of a put that failed its precondition after a lost answer: ours if its content is the body's.
pub(super) async fn put(store: &dyn Store, key: &ObjectKey, body: &Bytes, failed: StoreError) -> Result<Written> {
    let Some(fingerprint) = found(store, key).await? else { return Err(failed) };
    if fingerprint.size_bytes != body.len() as u64 {
        return Err(failed);
    }
    if let Some(etag) = fingerprint.content_etag()
        && etag.eq_ignore_ascii_case(&md5_hex(body).await)
    {
        return Ok(Written { fingerprint, proof: Proof::Checksum });
    }
    // The ETag tells nothing (encryption): read it back and compare.
    let options = GetOptions { range: None, expect: Some(fingerprint.clone()) };
    let mut left = body.clone();
    let mut stream = store.get(key, options).await?.body;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        if left.len() < piece.len() || left.split_to(piece.len()) != piece {
            return Err(failed);
        }
    }
    if left.is_empty() { Ok(Written { fingerprint, proof: Proof::ReadBack }) } else { Err(failed) }
}

/// The object of a completion whose answer was lost: the upload is gone, or the condition does not hold any more.
pub(super) async fn complete(
    store: &dyn Store,
    key: &ObjectKey,
    parts: &[UploadedPart],
    options: &PutOptions,
    failed: StoreError,
) -> Result<Written> {
    let Some(fingerprint) = found(store, key).await? else { return Err(failed) };
    let size_bytes: u64 = parts.iter().map(|part| part.part.size_bytes).sum();
    if fingerprint.size_bytes != size_bytes {
        return Err(failed);
    }
    let mut sorted: Vec<&UploadedPart> = parts.iter().collect();
    sorted.sort_by_key(|part| part.part.number);
    let expected = composite_etag(sorted.iter().map(|part| part.etag.as_str()));
    match (&fingerprint.etag, expected) {
        (Some(etag), Some(expected)) if etag.eq_ignore_ascii_case(&expected) => {
            let proven = parts.iter().all(|part| part.proof != Proof::None);
            Ok(Written { fingerprint, proof: if proven { Proof::Checksum } else { Proof::None } })
        }
        // The upload is gone and an object of as many bytes and parts stands there, which is not the one from before: the
        // completion worked, as far as can be told. The caller reads it back, because there is no proof.
        (etag, _)
            if failed.kind == StoreErrorKind::NotFound
                && etag.as_deref().is_none_or(|etag| etag.ends_with(&format!("-{}", parts.len())))
                && !matches!(&options.precondition, Precondition::Matches(old) if old.looks_like(&fingerprint)) =>
        {
            Ok(Written { fingerprint, proof: Proof::None })
        }
        _ => Err(failed),
    }
}

/// The object of a copy that failed a precondition after a lost answer: ours if its ETag is the source's content.
pub(super) async fn copy(
    store: &dyn Store,
    expect: &Fingerprint,
    to: &ObjectKey,
    failed: StoreError,
) -> Result<Written> {
    let Some(fingerprint) = found(store, to).await? else { return Err(failed) };
    let same = fingerprint.size_bytes == expect.size_bytes
        && fingerprint.content_etag().is_some()
        && fingerprint.content_etag() == expect.content_etag();
    if same { Ok(Written { fingerprint, proof: Proof::Checksum }) } else { Err(failed) }
}
