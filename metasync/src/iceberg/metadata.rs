//! `metadata.json`: a version of a table, with the versions before it that it keeps.

use super::{MAX_FILE_BYTES, Result, json, mapped};
use crate::location::LocationMap;
use std::io::{Read as _, Write as _};

/// The last format that is understood.
const LAST_FORMAT: u64 = 2;
/// How a file begins that was packed (`write.metadata.compression-codec = gzip`).
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Properties by which writers find their places: on a replica that is promoted none may lead to the source.
const PLACES: [&str; 4] =
    ["write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"];

/// What a `metadata.json` says, and what it is on the replica. Paths are the source's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The bytes of the replica's.
    pub rewritten: Vec<u8>,
    /// Where the table is.
    pub location: String,
    /// Lists of manifests of the snapshots.
    pub lists: Vec<String>,
    /// Manifests that snapshots name themselves, as those of the first format may.
    pub manifests: Vec<String>,
    /// `metadata.json` of versions before; they may be gone.
    pub log: Vec<String>,
    /// Files of statistics, which name no places.
    pub statistics: Vec<String>,
}

/// Reads and rewrites one. Errors: what of it cannot be carried.
pub fn metadata(file: &[u8], map: &LocationMap) -> Result<Metadata> {
    let is_packed = file.starts_with(GZIP);
    let mut bytes = Vec::new();
    let read = match is_packed {
        true => flate2::read::GzDecoder::new(file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes),
        false => file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes),
    };
    read.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("it is larger than what is rewritten".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    let (mut found, mut format) = (Metadata::default(), None);
    let rewritten = json::object(text, &mut |key, raw| match key {
        "format-version" => {
            format = raw.parse::<u64>().ok();
            Ok(None)
        }
        "location" => {
            found.location = json::text(raw)?;
            json::quoted(&mapped(map, "its location", &found.location)?).map(Some)
        }
        "snapshots" => list_or_null(raw, &mut |raw| snapshot(raw, map, &mut found)),
        "metadata-log" => list_or_null(raw, &mut |raw| place(raw, "metadata-file", map, &mut found.log)),
        "statistics" | "partition-statistics" => {
            list_or_null(raw, &mut |raw| place(raw, "statistics-path", map, &mut found.statistics))
        }
        "properties" => json::object(raw, &mut |key, raw| property(key, raw, map)).map(Some),
        "encryption-keys" => Err("it is encrypted".to_owned()),
        _ => Ok(None),
    })?;
    match format {
        Some(1..=LAST_FORMAT) => {}
        Some(other) => return Err(format!("it is of format version {other}, which is not carried")),
        None => return Err("it does not say its format version".to_owned()),
    }
    if found.location.is_empty() {
        return Err("it does not say its location".to_owned());
    }
    found.rewritten = match is_packed {
        true => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let packed = encoder.write_all(rewritten.as_bytes()).and_then(|()| encoder.finish());
            packed.map_err(|error| format!("it cannot be packed: {error}"))?
        }
        false => rewritten.into_bytes(),
    };
    Ok(found)
}

fn list_or_null(raw: &str, exchange: &mut dyn FnMut(&str) -> Result<String>) -> Result<Option<String>> {
    if raw == "null" { Ok(None) } else { json::list(raw, exchange).map(Some) }
}

fn snapshot(raw: &str, map: &LocationMap, found: &mut Metadata) -> Result<String> {
    json::object(raw, &mut |key, raw| match key {
        "manifest-list" => {
            let path = json::text(raw)?;
            let there = mapped(map, "the manifest list", &path)?;
            found.lists.push(path);
            json::quoted(&there).map(Some)
        }
        "manifests" => list_or_null(raw, &mut |raw| {
            let path = json::text(raw)?;
            let there = mapped(map, "the manifest", &path)?;
            found.manifests.push(path);
            json::quoted(&there)
        }),
        "key-id" if raw != "null" => Err("it is encrypted".to_owned()),
        _ => Ok(None),
    })
}

/// An object with one path.
fn place(raw: &str, field: &str, map: &LocationMap, found: &mut Vec<String>) -> Result<String> {
    json::object(raw, &mut |key, raw| {
        if key != field {
            return Ok(None);
        }
        let path = json::text(raw)?;
        let there = mapped(map, "the file", &path)?;
        found.push(path);
        json::quoted(&there).map(Some)
    })
}

/// Every value that is a mapped place; those of writers have to be.
fn property(key: &str, raw: &str, map: &LocationMap) -> Result<Option<String>> {
    let value = json::text(raw)?;
    match map.map_text(&value) {
        Some(there) => json::quoted(&there).map(Some),
        None if PLACES.contains(&key) => mapped(map, key, &value).map(Some),
        None => Ok(None),
    }
}
