//! The index of a manifest: the file that names its parts and makes it exist.
//!
//! An index is written after all its parts and never changed: a manifest without an index is no manifest. It is one JSON
//! object whose last member is the BLAKE3 of every byte before that member, so a cut-off or altered index is recognised. It
//! is checked against itself when read: totals are the sums of its parts, their key ranges ascend.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSize;
use crate::error::{Error, Result};
use crate::format::{FORMAT_VERSION, NEEDS_PROGRAM, PRODUCER, PartDigest, Run};
use crate::hash::ContentHash;
use crate::key::ObjectKey;

const INDEX: &str = "manifest index";
const FORMAT_NAME: &str = "understudy-manifest";
/// What stands between the indexed members and the digest of all bytes before it.
const DIGEST_MEMBER: &[u8] = b",\"digest\":\"";
const HEX_DIGITS: usize = 64;
const END: &[u8] = b"\"}\n";
/// Digits of the content digest in an id: enough to tell manifests of one microsecond apart.
const ID_DIGITS: usize = 12;
/// The longest id, as part of a file name.
const MAX_ID_BYTES: usize = 128;

/// The name of a manifest: `20261121T114204.123456Z-` and the start of its content digest. Ids sort by time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestId(String);

/// Text that cannot be an id: empty, too long, or with other characters than `[A-Za-z0-9._-]`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a manifest id: {0:?}")]
pub struct BadManifestId(String);

impl ManifestId {
    /// The id of a manifest of this content made at this time.
    pub fn new(created: Timestamp, content: &ManifestDigest) -> Self {
        let digest = content.to_string();
        Self(format!("{}-{}", created.strftime("%Y%m%dT%H%M%S.%6fZ"), &digest[..ID_DIGITS]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ManifestId {
    type Err = BadManifestId;
    fn from_str(text: &str) -> Result<Self, BadManifestId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ManifestId {
    type Error = BadManifestId;
    fn try_from(text: String) -> Result<Self, BadManifestId> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        match starts_well && text.len() <= MAX_ID_BYTES && text.bytes().all(fine) {
            true => Ok(Self(text)),
            false => Err(BadManifestId(text)),
        }
    }
}

impl From<ManifestId> for String {
    fn from(id: ManifestId) -> String {
        id.0
    }
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of what a manifest says: BLAKE3 over the digests of its parts. Equal rows give equal digests, whenever and
/// wherever they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestDigest(ContentHash);

impl ManifestDigest {
    /// The digest of a manifest with these parts.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a PartRef>) -> Self {
        let mut hasher = blake3::Hasher::new();
        parts.into_iter().for_each(|part| _ = hasher.update(part.digest.as_bytes()));
        Self(ContentHash::from_bytes(*hasher.finalize().as_bytes()))
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One part as the index names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Name of the file, and digest of the rows.
    pub digest: PartDigest,
    /// Number of rows, at least one.
    pub rows: u64,
    /// Rows with a hash.
    pub hashed: u64,
    /// Sum of the sizes of the objects.
    pub object_bytes: u64,
    /// Length of the Parquet file.
    pub file_size_bytes: u64,
    /// Key of the first row.
    pub first_key: ObjectKey,
    /// Key of the last row.
    pub last_key: ObjectKey,
    /// Its runs in order: who compares two manifests knows from them which rows of a part to read.
    pub runs: Vec<Run>,
}

impl PartRef {
    /// Whether its runs have rows, and together as many as it.
    fn adds_up(&self) -> bool {
        self.runs.iter().all(|run| run.rows > 0)
            && self.runs.iter().map(|run| u64::from(run.rows)).sum::<u64>() == self.rows
    }
}

/// Sums over all parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ManifestTotals {
    /// Number of rows.
    pub entries: u64,
    /// Rows with a hash.
    pub hashed: u64,
    /// Sum of the sizes of the objects.
    pub bytes: u64,
}

impl ManifestTotals {
    /// The sums over `parts`; a sum that does not fit stays at the greatest number.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a PartRef>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            entries: sum.entries.saturating_add(part.rows),
            hashed: sum.hashed.saturating_add(part.hashed),
            bytes: sum.bytes.saturating_add(part.object_bytes),
        })
    }
}

/// What the maker of a manifest says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexMeta {
    /// When it was made (for a listing: when the listing started).
    pub created: Timestamp,
    /// The place that it describes, without secrets.
    pub root: String,
    /// The chunk size of its new rows; a row carries its own.
    pub chunk_size: ChunkSize,
    /// Whether it names everything that was at the place: no error and no limit left anything out.
    pub complete: bool,
    /// Anything else, for the maker.
    pub extra: BTreeMap<String, String>,
}

/// The index of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    format: String,
    version: u32,
    needs: String,
    /// Name of the manifest.
    pub id: ManifestId,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub created: Timestamp,
    /// The program that made it.
    pub producer: String,
    /// The place that it describes.
    pub root: String,
    /// Base-2 logarithm of the chunk size of rows that were new.
    #[serde(rename = "chunk_log2")]
    pub chunk_size: ChunkSize,
    /// Whether it names everything that was at the place.
    pub complete: bool,
    /// Identity of its rows.
    pub content: ManifestDigest,
    /// Sums over its parts.
    pub totals: ManifestTotals,
    /// Key of the first row of all.
    pub first_key: Option<ObjectKey>,
    /// Key of the last row of all.
    pub last_key: Option<ObjectKey>,
    /// Anything else, for the maker.
    pub extra: BTreeMap<String, String>,
    /// Its parts in order of their keys.
    pub parts: Vec<PartRef>,
}

impl Index {
    /// The index of a manifest of these parts.
    pub fn new(meta: IndexMeta, parts: Vec<PartRef>) -> Self {
        let content = ManifestDigest::of_parts(&parts);
        Self {
            format: FORMAT_NAME.into(),
            version: FORMAT_VERSION,
            needs: NEEDS_PROGRAM.into(),
            id: ManifestId::new(meta.created, &content),
            created: meta.created,
            producer: PRODUCER.into(),
            root: meta.root,
            chunk_size: meta.chunk_size,
            complete: meta.complete,
            content,
            totals: ManifestTotals::of_parts(&parts),
            first_key: parts.first().map(|part| part.first_key.clone()),
            last_key: parts.last().map(|part| part.last_key.clone()),
            extra: meta.extra,
            parts,
        }
    }

    /// Identity of the manifest's rows.
    pub fn digest(&self) -> ManifestDigest {
        self.content
    }

    /// The file of this index.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut bytes = serde_json::to_vec(self).map_err(|error| damaged(self.id.as_str(), error.to_string()))?;
        // Without its closing brace the object goes on with the digest of all that stands before.
        bytes.pop();
        let digest = ContentHash::of(&bytes).to_string();
        for piece in [DIGEST_MEMBER, digest.as_bytes(), END] {
            bytes.extend_from_slice(piece);
        }
        Ok(bytes.into())
    }

    /// Reads the file `name`. A version of the future is refused as such; whatever is not the whole index that once was
    /// written is damage.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
            needs: String,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| damaged(name, error.to_string()))?;
        if head.format != FORMAT_NAME {
            return Err(damaged(name, format!("its format is {:?}", head.format)));
        }
        if head.version > FORMAT_VERSION {
            let (found, known, needs) = (head.version, FORMAT_VERSION, head.needs);
            return Err(Error::FutureVersion { what: INDEX, name: name.into(), found, known, needs });
        }
        if head.version < FORMAT_VERSION {
            return Err(damaged(name, format!("its format version {} is not read any more", head.version)));
        }
        let tail = bytes.len().saturating_sub(DIGEST_MEMBER.len() + HEX_DIGITS + END.len());
        let (before, tail) = bytes.split_at(tail);
        let digest = tail.strip_prefix(DIGEST_MEMBER).and_then(|tail| tail.strip_suffix(END));
        if digest != Some(ContentHash::of(before).to_string().as_bytes()) {
            return Err(damaged(name, "its digest is not that of its bytes".into()));
        }
        let index: Index = serde_json::from_slice(bytes).map_err(|error| damaged(name, error.to_string()))?;
        index.inconsistency().map_or(Ok(index), |reason| Err(damaged(name, reason)))
    }

    /// What the index says in one place and denies in another, if anything.
    fn inconsistency(&self) -> Option<String> {
        let parts = &self.parts;
        if self.content != ManifestDigest::of_parts(parts) || self.totals != ManifestTotals::of_parts(parts) {
            return Some("its totals are not those of its parts".into());
        }
        let (first, last) = (parts.first().map(|part| &part.first_key), parts.last().map(|part| &part.last_key));
        if self.first_key.as_ref() != first || self.last_key.as_ref() != last {
            return Some("its key range is not that of its parts".into());
        }
        if let Some(part) = parts.iter().find(|part| part.rows == 0 || part.first_key > part.last_key) {
            return Some(format!("part {} is empty", part.digest));
        }
        if let Some(part) = parts.iter().find(|part| part.digest != PartDigest::of_runs(&part.runs) || !part.adds_up())
        {
            return Some(format!("the runs of part {} are not those of its name", part.digest));
        }
        let pair = parts.windows(2).find(|pair| pair[0].last_key >= pair[1].first_key)?;
        Some(format!("parts {} and {} overlap", pair[0].digest, pair[1].digest))
    }
}

fn damaged(name: &str, reason: String) -> Error {
    Error::Damaged { what: INDEX, name: name.into(), reason }
}

mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::RunDigest;

    fn part(name: &str, first: &str, last: &str) -> PartRef {
        let runs = ["a", "b"].map(|run| Run { digest: RunDigest::of_rows(format!("{name}{run}").as_bytes()), rows: 1 });
        PartRef {
            digest: PartDigest::of_runs(&runs),
            rows: 2,
            hashed: 1,
            object_bytes: 30,
            file_size_bytes: 1_000,
            first_key: first.into(),
            last_key: last.into(),
            runs: runs.into(),
        }
    }

    fn index() -> Index {
        let meta = IndexMeta {
            created: "2026-11-21T11:42:04.123456Z".parse().unwrap(),
            root: "s3://lake/warehouse".into(),
            chunk_size: ChunkSize::DEFAULT,
            complete: true,
            extra: BTreeMap::from([("job".into(), "a \"quoted\" name".into())]),
        };
        Index::new(meta, vec![part("1", "a", "b"), part("2", "c", "c\u{1}\"")])
    }

    #[test]
    fn an_index_round_trips_and_is_one_json_object() {
        let index = index();
        let bytes = index.to_bytes().unwrap();
        assert_eq!(Index::from_bytes("i", &bytes).unwrap(), index);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["totals"]["entries"], 4);
        assert!(index.id.as_str().starts_with("20261121T114204.123456Z-"), "{}", index.id);
    }

    #[test]
    fn rule_17_no_altered_or_cut_off_index_is_read() {
        let bytes = index().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Index::from_bytes("i", &bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            assert!(Index::from_bytes("i", &altered).is_err(), "altered at {at}");
        }
    }

    #[test]
    fn case_49_an_index_from_the_future_is_refused_by_version() {
        let text = r#"{"format":"understudy-manifest","version":3,"needs":"9.1.0","shape":["unknown"]}"#;
        let error = Index::from_bytes("i", text.as_bytes()).unwrap_err();
        assert!(matches!(&error, Error::FutureVersion { found: 3, needs, .. } if needs == "9.1.0"), "{error}");
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        type Change = fn(&mut Index);
        let table: [(&str, Change); 9] = [
            ("totals", |index| index.totals.entries += 1),
            ("totals", |index| index.content = ManifestDigest::of_parts([])),
            ("range", |index| index.first_key = None),
            ("empty", |index| index.parts[0].last_key = "A".into()),
            ("overlap", |index| index.parts[0].last_key = "c".into()),
            ("version 1", |index| index.version = 1),
            ("runs", |index| index.parts[1].runs.swap(0, 1)),
            ("runs", |index| index.parts[1].runs[0].rows += 1),
            ("runs", |index| index.parts[1].runs[0].rows = 0),
        ];
        for (reason, change) in table {
            let mut index = index();
            change(&mut index);
            let error = Index::from_bytes("i", &index.to_bytes().unwrap()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn an_id_is_a_plain_file_name() {
        for (text, fine) in [("20261121T1-ab", true), ("", false), ("../x", false), ("a/b", false), (".hidden", false)]
        {
            assert_eq!(ManifestId::try_from(text.to_owned()).is_ok(), fine, "{text}");
        }
    }
}
