//! Small Iceberg tables as their writers leave them, and a reader of them: made and read with `apache-avro`, not with our code.
//!
//! Files are named by numbers and a word of the table, and never written twice.

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Reader, Schema};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What Iceberg's writers put in front of manifest lists; the fields of format 2 are left out of format 1.
pub const LIST: &str = r#"{"type":"record","name":"manifest_file","fields":[
{"name":"manifest_path","type":"string","doc":"Location URI with FS scheme","field-id":500},
{"name":"manifest_length","type":"long","doc":"Total file size in bytes","field-id":501},
{"name":"partition_spec_id","type":"int","field-id":502},
{"name":"content","type":"int","doc":"Contents of the manifest: 0=data, 1=deletes","field-id":517},
{"name":"sequence_number","type":"long","field-id":515},
{"name":"added_snapshot_id","type":"long","field-id":503},
{"name":"partitions","type":["null",{"type":"array","items":{"type":"record","name":"r508","fields":[
{"name":"contains_null","type":"boolean","field-id":509},
{"name":"lower_bound","type":["null","bytes"],"default":null,"field-id":510}]},"element-id":508}],"default":null,"field-id":507},
{"name":"key_metadata","type":["null","bytes"],"default":null,"field-id":519}]}"#;

/// The same of manifests, of a table with a partition field that is called as one of the entry's own.
pub const MANIFEST: &str = r#"{"type":"record","name":"manifest_entry","fields":[
{"name":"status","type":"int","field-id":0},
{"name":"snapshot_id","type":["null","long"],"default":null,"field-id":1},
{"name":"data_file","type":{"type":"record","name":"r2","fields":[
{"name":"content","type":"int","doc":"0=data, 1=position deletes, 2=equality deletes","field-id":134},
{"name":"file_path","type":"string","field-id":100},
{"name":"file_format","type":"string","field-id":101},
{"name":"partition","type":{"type":"record","name":"r102","fields":[{"name":"status","type":["null","string"],"default":null,"field-id":1000},
{"name":"file_path","type":["null",{"type":"fixed","name":"uuid_fixed","size":16}],"default":null,"field-id":1001}]},"field-id":102},
{"name":"record_count","type":"long","field-id":103},
{"name":"file_size_in_bytes","type":"long","field-id":104},
{"name":"lower_bounds","type":["null",{"type":"array","items":{"type":"record","name":"k126_v127","fields":[
{"name":"key","type":"int","field-id":126},{"name":"value","type":"bytes","field-id":127}]},"logicalType":"map"}],"default":null,"field-id":125},
{"name":"key_metadata","type":["null","bytes"],"default":null,"field-id":131},
{"name":"split_offsets","type":["null",{"type":"array","items":"long","element-id":133}],"default":null,"field-id":132}]},"field-id":2}]}"#;

/// How blocks are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Null,
    /// As Iceberg does unless it is told otherwise.
    Deflate,
}

/// A schema without the fields of format 2, in format 1.
pub fn of_format(schema: &str, format: u64) -> String {
    let mut schema: Json = serde_json::from_str(schema).unwrap();
    let drop = |fields: &mut Json| {
        fields.as_array_mut().unwrap().retain(|field| field["name"] != "content" && field["name"] != "sequence_number");
    };
    if format == 1 {
        drop(&mut schema["fields"]);
        let fields = schema["fields"].as_array_mut().unwrap();
        if let Some(file) = fields.iter_mut().find(|field| field["name"] == "data_file") {
            drop(&mut file["type"]["fields"]);
        }
    }
    schema.to_string()
}

/// A container file with the schema as it is written, this user metadata, and records in blocks of at most `in_block`.
pub fn container(schema: &str, user: &[(&str, &str)], records: &[Value], codec: Codec, in_block: usize) -> Vec<u8> {
    let parsed = Schema::parse_str(schema).unwrap();
    let long = |number: i64| datum(&Schema::Long, Value::Long(number));
    let counted = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend(long(bytes.len() as i64));
        out.extend(bytes);
    };
    let mut out = b"Obj\x01".to_vec();
    let name = if codec == Codec::Null { "null" } else { "deflate" };
    let header: Vec<(&str, &str)> =
        [("avro.schema", schema), ("avro.codec", name)].into_iter().chain(user.iter().copied()).collect();
    out.extend(long(header.len() as i64));
    for (key, value) in header {
        counted(&mut out, key.as_bytes());
        counted(&mut out, value.as_bytes());
    }
    out.push(0);
    let marker = blake3::hash(&out).as_bytes()[..16].to_vec();
    out.extend(&marker);
    for block in records.chunks(in_block.max(1)) {
        let rows: Vec<u8> = block.iter().flat_map(|record| datum(&parsed, record.clone())).collect();
        let packed = match codec {
            Codec::Null => rows,
            Codec::Deflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&rows).unwrap();
                encoder.finish().unwrap()
            }
        };
        out.extend(long(block.len() as i64));
        counted(&mut out, &packed);
        out.extend(&marker);
    }
    out
}

fn datum(schema: &Schema, value: Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn maybe(value: Option<Value>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(value)),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A line of a manifest list.
pub fn list_line(format: u64, path: &str, length: u64, content: i32) -> Value {
    let bounds = record(vec![
        ("contains_null", Value::Boolean(true)),
        ("lower_bound", maybe(Some(Value::Bytes(path.as_bytes().to_vec())))),
    ]);
    let mut fields = vec![
        ("manifest_path", Value::String(path.to_owned())),
        ("manifest_length", Value::Long(length as i64)),
        ("partition_spec_id", Value::Int(0)),
    ];
    if format > 1 {
        fields.extend([("content", Value::Int(content)), ("sequence_number", Value::Long(i64::MAX))]);
    }
    fields.extend([
        ("added_snapshot_id", Value::Long(i64::MIN)),
        ("partitions", maybe(Some(Value::Array(vec![bounds])))),
        ("key_metadata", maybe(None)),
    ]);
    record(fields)
}

/// An entry of a manifest.
pub fn entry(format: u64, status: i32, path: &str, size: u64, content: i32) -> Value {
    let bounds = record(vec![("key", Value::Int(1)), ("value", Value::Bytes(path.as_bytes().to_vec()))]);
    let partition = record(vec![
        ("status", maybe(Some(Value::String(path.to_owned())))),
        ("file_path", maybe(Some(Value::Fixed(16, vec![7; 16])))),
    ]);
    let mut file = if format > 1 { vec![("content", Value::Int(content))] } else { Vec::new() };
    file.extend([
        ("file_path", Value::String(path.to_owned())),
        ("file_format", Value::String("PARQUET".to_owned())),
        ("partition", partition),
        ("record_count", Value::Long(1)),
        ("file_size_in_bytes", Value::Long(size as i64)),
        ("lower_bounds", maybe(Some(Value::Array(vec![bounds])))),
        ("key_metadata", maybe(None)),
        ("split_offsets", maybe(Some(Value::Array(vec![Value::Long(4)])))),
    ]);
    record(vec![
        ("status", Value::Int(status)),
        ("snapshot_id", maybe(Some(Value::Long(9)))),
        ("data_file", record(file)),
    ])
}

/// A value of a record by its name.
pub fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let Value::Record(fields) = value else { panic!("{value:?}") };
    &fields.iter().find(|(field, _)| field == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// A text of a record by its name.
pub fn text(value: &Value, name: &str) -> String {
    let Value::String(text) = field(value, name) else { panic!("{name} of {value:?}") };
    text.clone()
}

/// The records of a container file.
pub fn records(file: &[u8]) -> Vec<Value> {
    Reader::new(file).unwrap().map(|record| record.unwrap()).collect()
}

/// A table that is written to, as a catalog's client does it.
pub struct Table {
    folder: PathBuf,
    url: String,
    format: u64,
    files: u64,
    versions: u64,
    /// The files of each snapshot, with its list and its manifests.
    snapshots: Vec<Snapshot>,
    log: Vec<String>,
    /// More of `metadata.json`.
    pub more: Json,
}

#[derive(Clone)]
struct Snapshot {
    id: u64,
    list: String,
    manifests: Vec<(String, u64, Vec<String>)>,
}

impl Table {
    /// A table without snapshots in this folder, which metadata calls `url`.
    pub fn new(folder: PathBuf, url: &str, format: u64) -> Self {
        std::fs::create_dir_all(folder.join("metadata")).unwrap();
        let (snapshots, log) = (Vec::new(), Vec::new());
        Self { folder, url: url.to_owned(), format, files: 0, versions: 0, snapshots, log, more: json!({}) }
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        std::fs::write(&new, content).unwrap();
        crate::trees::set_mtime(&new, SystemTime::now() - Duration::from_secs(10));
        std::fs::rename(&new, &path).unwrap();
        format!("{}/{name}", self.url)
    }

    /// A data file that no version names yet; its path.
    pub fn data(&mut self, bytes: usize) -> String {
        self.files += 1;
        let content = format!("{:x} ", self.files).repeat(bytes)[..bytes].to_owned();
        self.write(&format!("data/day={}/{:05}.parquet", self.files % 3, self.files), content.as_bytes())
    }

    /// A version with these files more, and with nothing else where `replaces`; returns where its metadata is.
    pub fn commit(&mut self, files: &[String], replaces: bool) -> String {
        self.versions += 1;
        let before = self.snapshots.last().cloned();
        let kept = before.iter().filter(|_| !replaces).flat_map(|before| before.manifests.clone());
        let mut manifests: Vec<(String, u64, Vec<String>)> = kept.collect();
        let gone =
            before.iter().filter(|_| replaces).flat_map(|before| &before.manifests).flat_map(|(_, _, files)| files);
        let mut lines: Vec<Value> = gone.map(|path| entry(self.format, 2, path, 1, 0)).collect();
        lines.extend(files.iter().map(|path| entry(self.format, 1, path, 1, 0)));
        let user = [("schema", "{}"), ("partition-spec", "[]"), ("content", "data")];
        let manifest = container(&of_format(MANIFEST, self.format), &user, &lines, Codec::Deflate, 3);
        let path = self.write(&format!("metadata/m{}.avro", self.versions), &manifest);
        manifests.push((path, manifest.len() as u64, files.to_vec()));
        let lines: Vec<Value> =
            manifests.iter().map(|(path, length, _)| list_line(self.format, path, *length, 0)).collect();
        let user = [("snapshot-id", "9"), ("format-version", "2")];
        let list = container(&of_format(LIST, self.format), &user, &lines, Codec::Deflate, 100);
        let list = self.write(&format!("metadata/snap-{}.avro", self.versions), &list);
        self.snapshots.push(Snapshot { id: self.versions, list, manifests });
        self.publish()
    }

    /// A version with this line in its list: a manifest with delete files.
    pub fn commit_deletes(&mut self) -> String {
        let path = self.commit(&[], false);
        let last = self.snapshots.last().unwrap().clone();
        let lines: Vec<Value> = last.manifests.iter().map(|(path, length, _)| list_line(2, path, *length, 1)).collect();
        let list = container(LIST, &[], &lines, Codec::Deflate, 100);
        std::fs::write(self.folder.join(last.list.strip_prefix(&format!("{}/", self.url)).unwrap()), list).unwrap();
        path
    }

    /// A version that keeps the newest snapshots only; what the others alone name is removed, as Iceberg does it, after that.
    pub fn expire(&mut self, keep: usize) -> (String, Vec<PathBuf>) {
        self.versions += 1;
        let all = self.named();
        let drop = self.snapshots.len().saturating_sub(keep);
        self.snapshots.drain(..drop);
        let path = self.publish();
        let left = self.named();
        let local = |path: &String| Some(self.folder.join(path.strip_prefix(&format!("{}/", self.url))?));
        (path, all.difference(&left).filter_map(local).collect())
    }

    fn named(&self) -> BTreeSet<String> {
        let of = |snapshot: &Snapshot| {
            let manifests = snapshot.manifests.iter().flat_map(|(path, _, files)| std::iter::once(path).chain(files));
            manifests.chain([&snapshot.list]).cloned().collect::<Vec<_>>()
        };
        self.snapshots.iter().flat_map(of).collect()
    }

    fn publish(&mut self) -> String {
        let snapshots: Vec<Json> = self
            .snapshots
            .iter()
            .map(|one| json!({"snapshot-id": one.id, "manifest-list": one.list, "summary": {"operation": "append"}}))
            .collect();
        let log: Vec<Json> = self.log.iter().map(|path| json!({"timestamp-ms": 1, "metadata-file": path})).collect();
        let mut metadata = json!({
            "format-version": self.format, "table-uuid": "u", "location": self.url, "properties": {"owner": "me"},
            "current-snapshot-id": self.snapshots.last().map_or(-1, |one| one.id as i64),
            "snapshots": snapshots, "metadata-log": log, "zzz-unknown": {"b": 1.50, "a": null},
        });
        for (key, value) in self.more.as_object().unwrap() {
            metadata[key] = value.clone();
        }
        let name = format!("metadata/{:05}-u.metadata.json", self.versions);
        let path = self.write(&name, metadata.to_string().as_bytes());
        self.log.push(path.clone());
        path
    }
}

/// Reads the version at this path as a reader does, every snapshot of it; returns the data files of the current one, relative to
/// the table.
///
/// # Panics
/// If anything of it is missing, has another length than it should have, or stands elsewhere than below `url`.
pub fn read(metadata: &Path, url: &str, folder: &Path) -> BTreeSet<String> {
    let local = |path: &str| {
        let inner = path.strip_prefix(&format!("{url}/")).unwrap_or_else(|| panic!("{path} is not below {url}"));
        folder.join(inner)
    };
    let file = |path: &str| {
        let path = local(path);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let metadata: Json = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["location"], *url);
    let mut current = BTreeSet::new();
    for snapshot in metadata["snapshots"].as_array().unwrap() {
        for line in records(&file(snapshot["manifest-list"].as_str().unwrap())) {
            let manifest = file(&text(&line, "manifest_path"));
            assert_eq!(*field(&line, "manifest_length"), Value::Long(manifest.len() as i64));
            for entry in records(&manifest) {
                let path = text(field(&entry, "data_file"), "file_path");
                let found = local(&path);
                if *field(&entry, "status") == Value::Int(2) {
                    continue;
                }
                assert!(found.exists(), "{} is there", found.display());
                if snapshot["snapshot-id"] == metadata["current-snapshot-id"] {
                    current.insert(path[url.len() + 1..].to_owned());
                }
            }
        }
    }
    current
}

/// The one `metadata_location` that a SQLite metastore holds.
///
/// # Panics
/// If it holds none.
pub fn pointer(metastore: &Path) -> String {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, Row as _};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(metastore).read_only(true);
        let mut connection = options.busy_timeout(Duration::from_secs(20)).connect().await.unwrap();
        let query = "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'metadata_location'";
        let row = sqlx::query(query).fetch_one(&mut connection).await.unwrap();
        row.try_get_unchecked::<String, _>(0).unwrap()
    })
}
