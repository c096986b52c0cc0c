//! Manifest lists and manifests, by the field ids that the specification gives their fields.

use super::avro::{self, New, ROOT, Value, Visit};
use super::{MAX_FILE_BYTES, Result, mapped};
use crate::location::LocationMap;
use std::collections::BTreeMap;

/// Marks of what is looked at.
const PATH: u8 = 1;
const LENGTH: u8 = 2;
const CONTENT: u8 = 3;
const KEY: u8 = 4;
const STATUS: u8 = 5;
const DATA_FILE: u8 = 6;

/// A file is not part of the table any more: `status` of its entry.
const DELETED: i64 = 2;

/// A manifest that a list names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Where it is, at the source.
    pub path: String,
    /// How long the list says that it is.
    pub length: u64,
}

/// What a list names, and what it is on the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestList {
    /// The bytes of the replica's; without the lengths, they are not.
    pub rewritten: Vec<u8>,
    /// What it names.
    pub manifests: Vec<ManifestFile>,
}

/// Reads and rewrites a manifest list. `lengths` of the rewritten manifests by their paths at the source; `None`: they are not known
/// yet, and what comes out is only read. Errors: what of it cannot be carried.
pub fn manifest_list(file: &[u8], map: &LocationMap, lengths: Option<&BTreeMap<String, u64>>) -> Result<ManifestList> {
    let mut visit = Lists { map, lengths, path: None, is_measured: false, found: Vec::new() };
    let rewritten = avro::rewrite(file, MAX_FILE_BYTES, &mut visit)?;
    Ok(ManifestList { rewritten, manifests: visit.found })
}

struct Lists<'a> {
    map: &'a LocationMap,
    lengths: Option<&'a BTreeMap<String, u64>>,
    path: Option<String>,
    is_measured: bool,
    found: Vec<ManifestFile>,
}

impl Visit for Lists<'_> {
    fn mark(&self, record: u8, id: Option<i64>, name: &str) -> u8 {
        match (record, id, name) {
            (ROOT, Some(500), _) | (ROOT, None, "manifest_path") => PATH,
            (ROOT, Some(501), _) | (ROOT, None, "manifest_length") => LENGTH,
            (ROOT, Some(517), _) | (ROOT, None, "content") => CONTENT,
            (ROOT, Some(519), _) | (ROOT, None, "key_metadata") => KEY,
            _ => 0,
        }
    }

    fn value(&mut self, mark: u8, value: Value<'_>) -> Result<Option<New>> {
        match (mark, value) {
            (PATH, Value::Text(path)) => {
                self.path = Some(path.to_owned());
                Ok(Some(New::Text(mapped(self.map, "the manifest", path)?)))
            }
            (LENGTH, Value::Number(length)) => {
                let path = self.path.clone().ok_or("the length of a manifest comes before its path")?;
                let length = u64::try_from(length).map_err(|_| "the length of a manifest is negative")?;
                self.is_measured = true;
                let new = match self.lengths {
                    Some(lengths) => *lengths.get(&path).ok_or_else(|| format!("the manifest {path} was not read"))?,
                    None => length,
                };
                self.found.push(ManifestFile { path, length });
                Ok(Some(New::Number(i64::try_from(new).map_err(|error| error.to_string())?)))
            }
            (CONTENT, Value::Number(0)) | (KEY, Value::Null) => Ok(None),
            (CONTENT, Value::Number(_)) => Err("it has delete files, which are not carried".to_owned()),
            (KEY, _) => Err("it is encrypted".to_owned()),
            _ => Err("a field of it has another type than it should have".to_owned()),
        }
    }

    fn end(&mut self) -> Result<()> {
        let is_whole = self.path.take().is_some() && std::mem::take(&mut self.is_measured);
        is_whole.then_some(()).ok_or_else(|| "a manifest of it has no path or no length".to_owned())
    }
}

/// What a manifest names, and what it is on the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes of the replica's.
    pub rewritten: Vec<u8>,
    /// Data files that it says are there, by their paths at the source.
    pub files: Vec<String>,
}

/// Reads and rewrites a manifest. Errors: what of it cannot be carried.
pub fn manifest(file: &[u8], map: &LocationMap) -> Result<Manifest> {
    let mut visit = Entries { map, status: None, path: None, found: Vec::new() };
    let rewritten = avro::rewrite(file, MAX_FILE_BYTES, &mut visit)?;
    Ok(Manifest { rewritten, files: visit.found })
}

struct Entries<'a> {
    map: &'a LocationMap,
    status: Option<i64>,
    path: Option<String>,
    found: Vec<String>,
}

impl Visit for Entries<'_> {
    fn mark(&self, record: u8, id: Option<i64>, name: &str) -> u8 {
        match (record, id, name) {
            (ROOT, Some(0), _) | (ROOT, None, "status") => STATUS,
            (ROOT, Some(2), _) | (ROOT, None, "data_file") => DATA_FILE,
            (DATA_FILE, Some(100), _) | (DATA_FILE, None, "file_path") => PATH,
            (DATA_FILE, Some(131), _) | (DATA_FILE, None, "key_metadata") => KEY,
            (DATA_FILE, Some(134), _) | (DATA_FILE, None, "content") => CONTENT,
            // What a delete file is about.
            (DATA_FILE, Some(143), _) | (DATA_FILE, None, "referenced_data_file") => KEY,
            _ => 0,
        }
    }

    fn value(&mut self, mark: u8, value: Value<'_>) -> Result<Option<New>> {
        match (mark, value) {
            (STATUS, Value::Number(status @ 0..=DELETED)) => {
                self.status = Some(status);
                Ok(None)
            }
            (PATH, Value::Text(path)) => {
                self.path = Some(path.to_owned());
                Ok(Some(New::Text(mapped(self.map, "the data file", path)?)))
            }
            (CONTENT, Value::Number(0)) | (KEY, Value::Null) => Ok(None),
            (CONTENT, Value::Number(_)) => Err("it has delete files, which are not carried".to_owned()),
            (KEY, _) => Err("it is encrypted, or names delete files".to_owned()),
            _ => Err("a field of it has another type or value than it should have".to_owned()),
        }
    }

    fn end(&mut self) -> Result<()> {
        let (Some(status), Some(path)) = (self.status.take(), self.path.take()) else {
            return Err("an entry of it has no path or no status".to_owned());
        };
        if status != DELETED {
            self.found.push(path);
        }
        Ok(())
    }
}
