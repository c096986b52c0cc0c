//! Rows for tests: arbitrary ones for properties, plain numbered ones for volume.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::chunk::ChunkSize;
use crate::entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint};
use crate::hash::{ChunkHash, ContentHash};
use crate::key::ObjectKey;

pub fn any_key() -> impl Strategy<Value = ObjectKey> {
    prop_oneof![
        4 => "[a-c]{1,3}(/[a-c0-9]{1,4}){0,3}".prop_map(ObjectKey::from),
        1 => vec(any::<u8>(), 0..20).prop_map(ObjectKey::from),
    ]
}

pub fn any_fingerprint() -> impl Strategy<Value = Fingerprint> {
    let times = (option::of(any::<i64>()), option::of(any::<i64>()));
    let texts = (option::of("[0-9a-f]{0,32}(-[0-9]{1,3})?"), option::of(".{0,8}"));
    (any::<u64>(), times, texts, option::of(any::<u64>()), any::<bool>()).prop_map(
        |(size_bytes, (mtime_ns, ctime_ns), (etag, version), file_id, racy)| Fingerprint {
            size_bytes: size_bytes >> (size_bytes % 64),
            mtime_ns,
            ctime_ns,
            etag,
            version,
            file_id,
            racy,
        },
    )
}

pub fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop::sample::select(vec![
        EntryKind::Object,
        EntryKind::Object,
        EntryKind::Symlink,
        EntryKind::Folder,
        EntryKind::Special,
    ]);
    let evidence = prop::sample::select(vec![
        Evidence::Read,
        Evidence::Inherited,
        Evidence::StoreChecksum,
        Evidence::Etag,
        Evidence::None,
    ]);
    let chunks = (20u8..=32, vec(any::<[u8; 32]>(), 0..5)).prop_map(|(log2, hashes)| Chunks {
        size: ChunkSize::try_from(log2).unwrap(),
        hashes: hashes.into_iter().map(ChunkHash::from_bytes).collect(),
    });
    let attributes = btree_map("[a-z:-]{0,10}", ".{0,10}", 0..4);
    (
        (any_key(), kind, evidence, option::of(any::<[u8; 32]>()), option::weighted(0.3, chunks)),
        (any_fingerprint(), option::of(any_fingerprint()), attributes),
    )
        .prop_map(|((key, kind, evidence, hash, chunks), (fingerprint, source, attributes))| Entry {
            key,
            kind,
            hash: hash.map(ContentHash::from_bytes),
            evidence,
            chunks,
            fingerprint,
            source,
            attributes,
        })
}

/// Entries in strictly ascending order of their keys.
pub fn sorted_entries(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(any_entry(), 0..most).prop_map(|mut rows| {
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows.dedup_by(|a, b| a.key == b.key);
        rows
    })
}

/// An ordinary row; `salt` makes its content differ.
pub fn plain(key: impl Into<ObjectKey>, salt: u64) -> Entry {
    let key = key.into();
    let hash = ContentHash::of(&[key.as_bytes(), &salt.to_le_bytes()].concat());
    Entry {
        hash: Some(hash),
        kind: EntryKind::Object,
        evidence: Evidence::Read,
        chunks: None,
        fingerprint: Fingerprint {
            size_bytes: key.len() as u64 + salt,
            mtime_ns: Some(1_700_000_000_000_000_000),
            etag: Some(hash.to_string()[..32].to_owned()),
            ..Fingerprint::default()
        },
        source: None,
        attributes: Attributes::new(),
        key,
    }
}

/// `count` ordinary rows in order: `t/00000000`, `t/00000010`, ... with room for keys between them.
pub fn numbered(count: u64) -> Vec<Entry> {
    (0..count).map(|i| plain(format!("t/{:08}", i * 10), 0)).collect()
}
