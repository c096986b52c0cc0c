//! Event logs that real Hive servers wrote, as the tests read them. What they are: `tests/data/captured/README.md`.

mod describer;
mod replica;

pub use describer::Describer;
pub use replica::{Saved, forget};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use metasync::event::GZIP_FORMAT;
use metasync::metastore::EventRow;
use serde_json::Value;
use std::io::{Read as _, Write as _};

/// A log from its first event to its last, without a hole.
pub struct Log {
    /// The server's version and what it was made for.
    pub name: &'static str,
    /// Where the server's warehouse stood.
    pub warehouse: &'static str,
    /// The rows of NOTIFICATION_LOG, by event id; messages are JSON, whatever their format says.
    plain: Vec<EventRow>,
}

type Kept = (&'static str, &'static str, &'static [u8]);

/// The logs: their names, their warehouses, their files.
const LOGS: [Kept; 4] = [
    ("4.2-gzip", "file:/lake", include_bytes!("../data/captured/4.2-gzip.jsonl.gz")),
    ("4.0-json", "pfile://h2/lake", include_bytes!("../data/captured/4.0-json.jsonl.gz")),
    ("4.0-gzip", "file:/lake", include_bytes!("../data/captured/4.0-gzip.jsonl.gz")),
    ("4.2-acid", "pfile://local/lake", include_bytes!("../data/captured/4.2-acid.jsonl.gz")),
];

impl Log {
    /// The log of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn named(name: &str) -> Self {
        let (name, warehouse, packed) = *LOGS.iter().find(|(found, ..)| *found == name).expect("a log of this name");
        let mut lines = String::new();
        GzDecoder::new(packed).read_to_string(&mut lines).expect("gzip");
        let objects = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        // The others are of a table that no version of the metastore's API shows.
        let logged = objects.filter(|object| object["_table"] == "NOTIFICATION_LOG");
        let mut plain: Vec<EventRow> = logged.map(|object| row(&object)).collect();
        plain.sort_by_key(|row| row.event_id);
        Self { name, warehouse, plain }
    }

    /// All of them.
    pub fn all() -> Vec<Self> {
        LOGS.iter().map(|(name, ..)| Self::named(name)).collect()
    }

    /// The rows as they stand in a metastore, by event id.
    pub fn rows(&self) -> Vec<EventRow> {
        self.plain.iter().map(packed).collect()
    }

    /// The same where the warehouse stands elsewhere, the JSON of each message as `retold` has it.
    pub fn rows_at(&self, place: &str, retold: impl Fn(&str) -> String) -> Vec<EventRow> {
        let moved = |row: &EventRow| {
            let message = row.message.replace(&format!("{}/", self.warehouse), &format!("{place}/"));
            // Where functions have their files.
            let message = message.replace("file:///lake/", &format!("{place}/"));
            packed(&EventRow { message: retold(&message), ..row.clone() })
        };
        self.plain.iter().map(moved).collect()
    }
}

fn row(object: &Value) -> EventRow {
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    EventRow {
        event_id: object["EVENT_ID"].as_i64().expect("EVENT_ID"),
        event_time: object["EVENT_TIME"].as_i64().expect("EVENT_TIME"),
        event_type: text("EVENT_TYPE").expect("EVENT_TYPE"),
        catalog: text("CAT_NAME"),
        database: text("DB_NAME"),
        table: text("TBL_NAME"),
        message: text("MESSAGE").expect("MESSAGE"),
        message_format: text("MESSAGE_FORMAT"),
    }
}

/// The row with its message in its format.
fn packed(row: &EventRow) -> EventRow {
    let mut row = row.clone();
    if row.message_format.as_deref() == Some(GZIP_FORMAT) {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(row.message.as_bytes()).expect("memory");
        row.message = STANDARD.encode(packer.finish().expect("memory"));
    }
    row
}

/// What the metastore of `4.2-acid` held at the end: the lines of a dump.
///
/// # Panics
/// Never: the file is part of this crate.
pub fn end_of_acid() -> Vec<Value> {
    let mut lines = String::new();
    let packed: &[u8] = include_bytes!("../data/captured/4.2-acid.end.jsonl.gz");
    GzDecoder::new(packed).read_to_string(&mut lines).expect("gzip");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
