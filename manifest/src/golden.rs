//! The stored manifest of version 2: today's reader reads it, today's writer names the same rows by the same digests.
//!
//! `UPDATE_GOLDEN=1 cargo test -p manifest golden` writes the files anew; after a release they never change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::chunk::ChunkSize;
use crate::entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint};
use crate::format::{Cutting, End};
use crate::hash::{ChunkHash, ContentHash};
use crate::index::IndexMeta;
use crate::reader::Manifest;
use crate::test_store::MemoryStore;
use crate::writer::ManifestWriter;

/// Identity of the rows of [`rows`]: a literal, so that files and code cannot change together by accident.
const DIGEST: &str = "ba6881c28377093d2c25be1f59057e4381263c4674386cbcc2ca405bdaef8c97";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/manifest-v2")
}

fn meta() -> IndexMeta {
    IndexMeta {
        created: "2026-11-21T12:00:00.25Z".parse().unwrap(),
        root: "s3://lake-eu/warehouse".into(),
        chunk_size: ChunkSize::DEFAULT,
        complete: true,
        extra: BTreeMap::from([("source".to_owned(), "/data/warehouse".to_owned())]),
    }
}

fn hash(text: &str) -> ContentHash {
    ContentHash::of(text.as_bytes())
}

/// Every kind, every evidence, every optional column present and absent, keys of every sort, two keys after which a
/// part ends, and three after which a run does.
fn rows() -> Vec<Entry> {
    let bare = |key: &[u8]| Entry {
        key: key.to_vec().into(),
        kind: EntryKind::Object,
        hash: None,
        evidence: Evidence::None,
        chunks: None,
        fingerprint: Fingerprint::default(),
        source: None,
        attributes: Attributes::new(),
    };
    let local = Fingerprint {
        size_bytes: 17,
        mtime_ns: Some(1_700_000_000_123_456_789),
        ctime_ns: Some(1_700_000_001_000_000_000),
        file_id: Some(u64::MAX),
        racy: true,
        ..Fingerprint::default()
    };
    let s3 = Fingerprint {
        size_bytes: 17,
        mtime_ns: Some(-1),
        etag: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
        version: Some("3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY".into()),
        ..Fingerprint::default()
    };
    let attributes = Attributes::from([
        ("cache-control".into(), String::new()),
        ("content-type".into(), "text/plain; charset=utf-8".into()),
        ("meta:name".into(), "sn\u{f6}".into()),
    ]);
    let chunk_hashes = (0..3).map(|i| ChunkHash::from_bytes([i; 32])).collect::<Vec<_>>();
    let size = 2 * ChunkSize::DEFAULT.bytes() + 17;
    let whole = ContentHash::merge(&chunk_hashes, size, ChunkSize::DEFAULT);
    let chunked = Entry {
        hash: whole,
        evidence: Evidence::Read,
        chunks: Some(Chunks { size: ChunkSize::DEFAULT, hashes: chunk_hashes }),
        fingerprint: Fingerprint { size_bytes: size, etag: Some("0-2".into()), ..Fingerprint::default() },
        ..bare(b"big/three-chunks")
    };
    let full = Entry {
        hash: Some(hash("full")),
        evidence: Evidence::Inherited,
        fingerprint: s3.clone(),
        source: Some(local.clone()),
        attributes,
        ..bare(b"copied/with everything")
    };
    let mut rows = vec![
        bare(b""),
        bare(b"a//b"),
        chunked,
        full,
        Entry {
            evidence: Evidence::StoreChecksum,
            fingerprint: s3.clone(),
            source: Some(s3),
            ..bare(b"copied/server-side")
        },
        Entry { evidence: Evidence::Etag, ..bare(b"etag only") },
        Entry { kind: EntryKind::Folder, ..bare(b"folder") },
        Entry { kind: EntryKind::Symlink, hash: Some(hash("to")), fingerprint: local, ..bare(b"link") },
        bare(b"new\nline\\ and \x01"),
        Entry { kind: EntryKind::Special, ..bare(b"pipe") },
        bare(b"not UTF-8 \xff\xfe"),
        bare("sn\u{f6}".as_bytes()),
    ];
    let many = |i: u32| Entry {
        hash: Some(hash(&i.to_string())),
        evidence: Evidence::Read,
        fingerprint: Fingerprint { size_bytes: i.into(), mtime_ns: Some(i.into()), ..Fingerprint::default() },
        ..bare(format!("many/{i:05}").as_bytes())
    };
    rows.extend((0..20).map(many));
    let ends = |end| move |row: &Entry| Cutting::V2.end(&row.key, 1, 1) == Some(end);
    rows.extend((20..100_000).map(many).filter(ends(End::Part)).take(2));
    rows.extend((20..100_000).map(many).filter(ends(End::Run)).take(3));
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

async fn write() -> (std::sync::Arc<MemoryStore>, Manifest) {
    let store = MemoryStore::new();
    let mut writer = ManifestWriter::new(store.clone(), "", None);
    for row in rows() {
        writer.push(row).await.unwrap();
    }
    let index = writer.finish(meta()).await.unwrap();
    (store.clone(), Manifest::from_index(store, "", index))
}

/// The stored files as a state store.
fn stored() -> std::sync::Arc<MemoryStore> {
    let store = MemoryStore::new();
    for part in ["manifests", "parts"] {
        for file in std::fs::read_dir(folder().join(part)).unwrap() {
            let file = file.unwrap();
            let name = format!("{part}/{}", file.file_name().to_str().unwrap());
            store.put(&name, Bytes::from(std::fs::read(file.path()).unwrap()));
        }
    }
    store
}

#[tokio::test]
async fn golden_version_2_is_read_and_named_as_ever() {
    let (store, today) = write().await;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for name in store.names() {
            let path = folder().join(&name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, store.bytes(&name)).unwrap();
        }
    }
    let golden = Manifest::find_single(stored(), "").await.unwrap();
    assert_eq!(golden.entries().try_concat().await.unwrap(), rows());
    assert_eq!(crate::check::check(&golden).await.unwrap().problem_count, 0);
    assert_eq!(golden.parts().len(), 3);
    assert!(golden.parts().iter().any(|part| part.runs.len() > 1));

    assert_eq!(golden.index().digest().to_string(), DIGEST);
    assert_eq!(today.index().digest(), golden.index().digest());
    assert_eq!(today.index().id, golden.index().id);
    for (today, golden) in today.parts().iter().zip(golden.parts()) {
        // The length of a file is the encoder's choice and no part of the format.
        let today = crate::PartRef { file_size_bytes: golden.file_size_bytes, ..today.clone() };
        assert_eq!(&today, golden);
    }
    let (created, extra) = (golden.index().created, golden.index().extra.clone());
    assert_eq!((created, golden.index().root.clone(), extra), (meta().created, meta().root, meta().extra));
}
