//! Every reader of bytes from outside, for the fuzzer: whatever comes, the answer is a value or an error, never a panic, a hang or
//! memory without bound. Files of ours carry a digest; it is put right here, so that what stands behind it is reached.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use distcp::place::Place;
use distcp::plan::file::Plan;
use distcp::settings::Settings;
use distcp::store::{azure, gcs, s3};
use futures::executor::block_on;
use hms::message::decode_reply;
use hms::scan::Scanner;
use hms::{api, calls, tjson, wire};
use manifest::{ContentHash, PartRef};
use manifest::format::{PartDigest, Run, RunDigest, decode_part};
use manifest::index::Index;
use manifest::state::journal::JournalReader;
use manifest::state::layout::{self, JobName, RunId};
use manifest::state::memory::MemoryState;
use manifest::state::{StateStore, checkpoint, lease, receipt};

/// The index of a manifest: as it came, and with its digest put right.
pub fn index(data: &[u8]) {
    let _ = Index::from_bytes("fuzzed", data);
    let digest = ContentHash::of(data).to_string();
    let sealed = [data, b",\"digest\":\"", digest.as_bytes(), b"\"}\n"].concat();
    if let Ok(index) = Index::from_bytes("fuzzed", &sealed) {
        // What was taken for an index is written as one.
        let written = index.to_bytes().expect("an index is JSON");
        assert_eq!(Index::from_bytes("fuzzed", &written).expect("what we wrote"), index);
    }
}

/// The fuzzer's hook ends the process at any panic; those that become an error of the file are none.
fn contain() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !manifest::contained::is_active() {
                usual(panic);
            }
        }));
    });
}

/// A part of a manifest.
pub fn part(data: &[u8]) {
    contain();
    let runs = vec![Run { digest: RunDigest::of_rows(b""), rows: 1024 }];
    let digest = PartDigest::of_runs(&runs);
    let (first_key, last_key) = Default::default();
    let part = PartRef { digest, rows: 1024, hashed: 0, object_bytes: 0, file_size_bytes: 0, first_key, last_key, runs };
    let _ = decode_part(&part, Bytes::copy_from_slice(data));
}

fn job() -> JobName {
    JobName::new("fuzzed").expect("a good name")
}

fn run() -> RunId {
    "20261121T031500Z-3e712345".parse().expect("a good id")
}

/// A state that holds this file alone.
fn state_with(name: &str, data: &[u8]) -> Arc<dyn StateStore> {
    let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    block_on(state.create(name, Bytes::copy_from_slice(data))).expect("memory takes it");
    state
}

/// The sealed documents of a state, by the first byte: checkpoint, claim, lease, receipt.
pub fn state(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let digest = blake3::hash(data).to_hex();
    let sealed = [data, format!(",\n  \"digest\": \"{digest}\"\n}}\n").as_bytes()].concat();
    let (job, run) = (job(), run());
    for data in [data, &sealed] {
        match which % 4 {
            0 => {
                let state = state_with(&layout::checkpoint(&job), data);
                let _ = block_on(checkpoint::load::<distcp::session::RunState>(state.as_ref(), &job));
                let _ = block_on(checkpoint::load_summary(state.as_ref(), &job));
            }
            1 => {
                let state = state_with(&layout::claim(&job), data);
                let _ = block_on(checkpoint::places(state.as_ref(), &job));
            }
            2 => {
                let state = state_with(&layout::lease(&job), data);
                let _ = block_on(lease::inspect(state.as_ref(), &job));
            }
            _ => {
                let state = state_with(&layout::receipt(&job, &run), data);
                let _ = block_on(receipt::load(state.as_ref(), &job, &run));
            }
        }
    }
}

/// A segment of a journal.
pub fn journal(data: &[u8]) {
    let state = state_with(&layout::journal_segment(&job(), &run(), 1), data);
    let read = async {
        let mut reader = JournalReader::open(state, &job(), &run()).await?;
        while reader.next_batch().await?.is_some() {}
        Ok::<_, manifest::Error>(())
    };
    let _ = block_on(read);
}

/// A plan.
pub fn plan(data: &[u8]) {
    contain();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), data).expect("it can be written");
    if let Ok(plan) = Plan::open(file.path()) {
        for action in plan.actions().expect("it was opened") {
            action.expect("all of it was checked");
        }
    }
}

/// A page of a listing of each cloud.
pub fn listing(data: &[u8]) {
    let _ = s3::read_listing(data);
    let _ = azure::read_listing(data);
    let _ = gcs::read_listing(data);
}

/// A configuration.
pub fn settings(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Settings::parse(text, "fuzzed");
    }
}

/// A place, as it is typed. What is one has an identity that names the same place.
pub fn place(data: &[u8]) {
    let (here, stores) = (Path::new("/here"), [("lake".to_owned(), "s3://lake/a".to_owned())].into());
    if let Ok(place) = Place::parse(OsStr::from_bytes(data), here, &stores) {
        let _ = (place.to_string(), place.identity());
    }
}

/// A reply of a metastore, as several calls understand it; the scan and the decoder agree on where it ends.
pub fn thrift(data: &[u8]) {
    if let Ok(Some(length)) = Scanner::new().advance(data) {
        assert!(length <= data.len(), "a message ends within its bytes");
    }
    let _ = decode_reply::<calls::GetTable>(data, 1);
    let _ = decode_reply::<calls::GetPartitionsByNames>(data, 1);
    let _ = decode_reply::<calls::GetNextNotification>(data, 1);
    if let Ok(table) = wire::from_bytes::<api::Table>(data) {
        // What was understood is written so that it is understood again.
        let written = wire::to_bytes(&table);
        let again = wire::from_bytes::<api::Table>(&written).expect("what we wrote");
        assert_eq!(wire::to_bytes(&again), written);
    }
}

/// An object inside an event's message.
pub fn tjson(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = tjson::decode::<api::Table>(text);
    if let Ok(binary) = tjson::to_binary(text) {
        let written = tjson::to_text(&binary).expect("what was understood");
        assert_eq!(tjson::to_binary(&written).expect("what we wrote"), binary);
    }
}
