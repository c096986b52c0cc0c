//! The local store against the model in memory: the same random calls, the same answers, the same keys and bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::store::memory::MemoryStore;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, PutOptions, Result, Store, StoreErrorKind, Written,
};
use manifest::{Fingerprint, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::contract::{list_all, pattern, read};

/// Names in one folder that no other key takes for a folder.
const KEYS: [&str; 8] = ["a", "a-b", "b/x", "b/y/z", "b0", "c/d/e/f", "c/d/e0", "c.d/x"];

/// One store and the last identity of each key in it.
struct Side {
    store: Arc<dyn Store>,
    known: BTreeMap<ObjectKey, Fingerprint>,
}

impl Side {
    fn new(store: impl Store + 'static) -> Self {
        Self { store: Arc::new(store), known: BTreeMap::new() }
    }

    fn note(&mut self, key: &ObjectKey, answer: Result<Written>) -> Result<u64, StoreErrorKind> {
        let written = answer.map_err(|error| error.kind)?;
        let size = written.fingerprint.size_bytes;
        self.known.insert(key.clone(), written.fingerprint);
        Ok(size)
    }

    fn precondition(&self, choice: u32, key: &ObjectKey) -> Precondition {
        match (choice, self.known.get(key)) {
            (0, _) => Precondition::Absent,
            (1, Some(known)) => Precondition::Matches(known.clone()),
            (2, Some(known)) => {
                Precondition::Matches(Fingerprint { size_bytes: known.size_bytes + 1, ..known.clone() })
            }
            _ => Precondition::Any,
        }
    }

    async fn step(&mut self, call: &Call) -> String {
        let store = Arc::clone(&self.store);
        let options = |precondition| PutOptions { precondition, ..PutOptions::default() };
        match call {
            Call::Put(key, body, choice) => {
                let options = options(self.precondition(*choice, key));
                let answer = store.put(key, body.clone().into(), &options).await;
                format!("{:?}", self.note(key, answer))
            }
            Call::Upload(key, body, choice) => {
                let options = options(self.precondition(*choice, key));
                let upload = store.create_upload(key, body.len() as u64, &options).await.unwrap();
                let part = PartSpec { number: 1, offset: 0, size_bytes: body.len() as u64 };
                let sent = store.put_part(key, &upload, part, body.clone().into()).await.unwrap();
                let answer = store.complete_upload(key, &upload, &[sent], &options).await;
                if answer.is_err() {
                    store.abort_upload(key, &upload).await.unwrap();
                }
                format!("{:?}", self.note(key, answer))
            }
            Call::Copy(from, to, choice) => {
                let unknown = Fingerprint { mtime_ns: Some(0), ..Fingerprint::default() };
                let expect = self.known.get(from).cloned().unwrap_or(unknown);
                let answer =
                    store.copy(&CopySource::here(from, &expect), to, &options(self.precondition(*choice, to))).await;
                format!("{:?}", self.note(to, answer))
            }
            Call::Delete(keys) => {
                let answers = store.delete(keys).await;
                keys.iter().for_each(|key| drop(self.known.remove(key)));
                format!("{:?}", answers.into_iter().map(|answer| answer.map_err(|e| e.kind)).collect::<Vec<_>>())
            }
            Call::Get(key) => {
                let expect = self.known.get(key).cloned();
                let got = read(&*store, key, GetOptions { range: None, expect }).await;
                format!("{:?}", got.map_err(|error| error.kind))
            }
            Call::List(after) => {
                let listed = list_all(&*store, ListOptions { after: after.clone(), ..Default::default() }).await;
                format!("{:?}", listed.iter().map(|l| (&l.key, l.fingerprint.size_bytes)).collect::<Vec<_>>())
            }
        }
    }
}

#[derive(Debug)]
enum Call {
    Put(ObjectKey, Bytes, u32),
    Upload(ObjectKey, Bytes, u32),
    Copy(ObjectKey, ObjectKey, u32),
    Delete(Vec<ObjectKey>),
    Get(ObjectKey),
    List(Option<ObjectKey>),
}

fn random_call(dice: &mut StdRng) -> Call {
    let key = |dice: &mut StdRng| ObjectKey::from(KEYS[dice.random_range(0..KEYS.len())]);
    let body = |dice: &mut StdRng| pattern(dice.random_range(0..5000)).slice(..);
    match dice.random_range(0..10) {
        0..3 => Call::Put(key(dice), body(dice), dice.random_range(0..6)),
        3 => Call::Upload(key(dice), body(dice), dice.random_range(0..6)),
        4 => Call::Copy(key(dice), key(dice), dice.random_range(0..6)),
        5 | 6 => Call::Delete((0..dice.random_range(1..4)).map(|_| key(dice)).collect()),
        7 | 8 => Call::Get(key(dice)),
        _ => Call::List(dice.random_bool(0.5).then(|| key(dice))),
    }
}

#[tokio::test]
async fn local_answers_as_the_model_does() {
    for seed in 0..12 {
        let root = tempfile::tempdir().unwrap();
        let options = LocalOptions { sync: SyncMode::Never, ..LocalOptions::default() };
        let mut local = Side::new(LocalStore::open(root.path(), options).unwrap());
        let mut model = Side::new(MemoryStore::new());
        let mut dice = StdRng::seed_from_u64(seed);
        for number in 0..250 {
            let call = random_call(&mut dice);
            let (expected, answer) = (model.step(&call).await, local.step(&call).await);
            assert_eq!(answer, expected, "seed {seed}, call {number}: {call:?}");
        }
    }
}
