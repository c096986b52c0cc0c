//! What a run left when it ended: `receipt.json`, created once, last.
//!
//! Never holds a secret, and never more than [`MAX_ERRORS`] errors. A crash before it leaves a run without a receipt: its
//! journal is what the next run starts with. A power cut in the seconds after it may take it, whole: the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{self, Format, rfc3339, rfc3339_option};
use super::layout::{self, Item, JobName, RunId};
use super::{Lasting, StateStore};
use crate::error::Result;
use crate::key::ObjectKey;

/// How many errors a receipt shows.
pub const MAX_ERRORS: usize = 100;
/// How many receipts are read side by side.
const RECEIPTS_AT_ONCE: usize = 8;

pub(super) const FORMAT: Format = Format { what: "receipt", format: "understudy-receipt", version: 1, needs: "0.1.0" };

/// The receipt of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run_id: RunId,
    /// The verb.
    pub command: String,
    /// The program and its version.
    pub program: String,
    /// When it started, by its wall clock.
    #[serde(with = "rfc3339")]
    pub started: Timestamp,
    /// When it ended, by its wall clock.
    #[serde(with = "rfc3339")]
    pub ended: Timestamp,
    /// The exit code (design section 8).
    pub exit_code: u8,
    /// A word for the exit code.
    pub outcome: String,
    /// The source time that the target shows after it.
    #[serde(with = "rfc3339_option")]
    pub as_of: Option<Timestamp>,
    /// Objects by outcome.
    pub counts: BTreeMap<String, u64>,
    /// Bytes by kind.
    pub bytes: BTreeMap<String, u64>,
    /// Requests by kind.
    pub requests: BTreeMap<String, u64>,
    /// The manifest that it committed.
    pub manifest: Option<String>,
    /// The first errors, up to [`MAX_ERRORS`].
    pub errors: Vec<ErrorSample>,
    /// How many errors there were.
    pub errors_total: u64,
    /// Digest of the plan that was done.
    pub plan_digest: Option<String>,
    /// The run ended early without committing what its journal says: the next run reads the journal.
    pub journal_needed: bool,
    /// What only the tool understands.
    pub summary: Value,
}

/// One error of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorSample {
    /// What failed.
    pub key: ObjectKey,
    /// Why, without secrets.
    pub error: String,
}

impl Receipt {
    /// Counts an error, and keeps it while there are few.
    pub fn add_error(&mut self, key: ObjectKey, error: String) {
        self.errors_total += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(ErrorSample { key, error });
        }
    }
}

/// Writes the receipt; doing so again is fine, another receipt for the same run is not.
///
/// # Errors
/// [`crate::Error::State`] with class conflict when another receipt is there; the store's.
pub async fn write(store: &dyn StateStore, receipt: &Receipt) -> Result<()> {
    let name = layout::receipt(&receipt.job, &receipt.run_id);
    let bytes = document::encode(&FORMAT, &name, bounded(receipt).as_ref())?;
    document::publish_own(store, &name, &bytes, Lasting::Whole, || Ok(())).await
}

/// The receipt with no more than [`MAX_ERRORS`] errors.
pub(super) fn bounded(receipt: &Receipt) -> Cow<'_, Receipt> {
    match receipt.errors.len() > MAX_ERRORS {
        false => Cow::Borrowed(receipt),
        true => {
            let errors = receipt.errors.iter().take(MAX_ERRORS).cloned().collect();
            Cow::Owned(Receipt { errors, ..receipt.clone() })
        }
    }
}

/// Reads a run's receipt; `None` when it has none.
///
/// # Errors
/// [`crate::Error::Damaged`], [`crate::Error::FutureVersion`], or the store's.
pub async fn load(store: &dyn StateStore, job: &JobName, run: &RunId) -> Result<Option<Receipt>> {
    let name = layout::receipt(job, run);
    let Some((bytes, _)) = store.get(&name).await? else { return Ok(None) };
    let receipt: Receipt = document::decode(&FORMAT, &name, &bytes)?;
    match (&receipt.job, &receipt.run_id) == (job, run) {
        true => Ok(Some(receipt)),
        false => {
            let reason = format!("it is of run {} of job {}", receipt.run_id, receipt.job);
            Err(document::damaged(&FORMAT, &name, reason))
        }
    }
}

/// The receipts of the last `count` runs that have one, newest first.
///
/// # Errors
/// As [`load`].
pub async fn latest(store: &dyn StateStore, job: &JobName, count: usize) -> Result<Vec<Receipt>> {
    let mut runs: Vec<RunId> = store
        .list(&layout::runs(job))
        .await?
        .iter()
        .filter_map(|item| match layout::classify(job, &item.name) {
            Item::Receipt(run) => Some(run),
            _ => None,
        })
        .collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    runs.truncate(count);
    let found: Vec<Option<Receipt>> = stream::iter(runs)
        .map(|run| async move { load(store, job, &run).await })
        .buffered(RECEIPTS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::{Class, Error};
    use crate::state::contract::{Fault, FlakyState, assert_every_corruption_is_found};
    use crate::state::memory::MemoryState;

    /// A receipt of a run that ended well.
    pub fn sample(job: &JobName, run: &RunId) -> Receipt {
        Receipt {
            job: job.clone(),
            run_id: run.clone(),
            command: "copy".into(),
            program: "distcp 0.1.0".into(),
            started: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
            exit_code: 0,
            outcome: "done".into(),
            as_of: Some(Timestamp::UNIX_EPOCH),
            counts: [("copied".to_owned(), 3)].into(),
            bytes: [("written".to_owned(), 7)].into(),
            requests: BTreeMap::new(),
            manifest: None,
            errors: Vec::new(),
            errors_total: 0,
            plan_digest: None,
            journal_needed: false,
            summary: serde_json::json!({"mode": "incremental"}),
        }
    }

    fn names() -> (JobName, RunId) {
        (JobName::new("job").unwrap(), "20261121T031500Z-0a1b2c3d".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn case_48_a_lost_answer_leaves_one_receipt() {
        let (job, run) = names();
        let receipt = sample(&job, &run);
        let state = Arc::new(MemoryState::new());
        let flaky = FlakyState::new(state.clone(), |operation, _, call| match (operation, call) {
            ("create", 0) => Fault::LoseAnswer,
            _ => Fault::None,
        });
        write(&flaky, &receipt).await.unwrap();
        assert_eq!(load(&*state, &job, &run).await.unwrap().as_ref(), Some(&receipt));
        write(&*state, &receipt).await.unwrap();
        let other = Receipt { exit_code: 1, ..receipt };
        let error = write(&*state, &other).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
    }

    #[tokio::test]
    async fn errors_are_bounded_and_counted() {
        let (job, run) = names();
        let mut receipt = sample(&job, &run);
        for i in 0..MAX_ERRORS + 5 {
            receipt.add_error(format!("key-{i}").into(), "denied".into());
        }
        assert_eq!((receipt.errors.len(), receipt.errors_total), (MAX_ERRORS, MAX_ERRORS as u64 + 5));
    }

    #[tokio::test]
    async fn the_latest_receipts_come_newest_first() {
        let (job, _) = names();
        let state = MemoryState::new();
        for second in [3, 1, 2] {
            let run = format!("20261121T03150{second}Z-00000000").parse().unwrap();
            write(&state, &sample(&job, &run)).await.unwrap();
        }
        let found: Vec<_> = latest(&state, &job, 2).await.unwrap().into_iter().map(|r| r.run_id.to_string()).collect();
        assert_eq!(found, ["20261121T031503Z-00000000", "20261121T031502Z-00000000"]);
    }

    #[test]
    fn corruption_is_found() {
        let (job, run) = names();
        let bytes = document::encode(&FORMAT, "r", &sample(&job, &run)).unwrap();
        assert_every_corruption_is_found(&bytes, |bad| document::decode::<Receipt>(&FORMAT, "r", bad).is_err());
    }

    #[tokio::test]
    async fn case_49_a_receipt_from_the_future_is_refused_by_name() {
        let (job, run) = names();
        let state = MemoryState::new();
        let future = br#"{"format":"understudy-receipt","version":2,"minimum_program":"9.9.0","anything":[1]}"#;
        state.create(&layout::receipt(&job, &run), future.as_slice().into()).await.unwrap();
        let error = load(&state, &job, &run).await.unwrap_err();
        assert!(
            matches!(&error, Error::FutureVersion { found: 2, known: 1, needs, .. } if needs == "9.9.0"),
            "{error}"
        );
    }

    /// What version 1 looks like in a file; must be read for ever.
    #[test]
    fn version_1_is_read_and_written_as_ever() {
        let golden = include_bytes!("../../testdata/state-v1/receipt.json");
        let (job, run) = names();
        let mut receipt = sample(&job, &run);
        receipt.add_error(ObjectKey::from(b"k\xff".to_vec()), "denied".into());
        assert_eq!(document::decode::<Receipt>(&FORMAT, "r", golden).unwrap(), receipt);
        assert_eq!(document::encode(&FORMAT, "r", &receipt).unwrap().as_ref(), golden);
    }
}
