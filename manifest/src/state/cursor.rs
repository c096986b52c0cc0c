//! How far a job came with work that takes many runs and changes nothing: `scrub.json`, beside the checkpoint and swapped as
//! it is, but by whoever looks, without a lease.
//!
//! A crash before the swap leaves the older cursor: the same part is done once more. Of two that did the same part one swap
//! is refused, and what the other wrote stands: it is as true. Nothing is ever lost but time.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::document::{self, Format, rfc3339};
use super::layout::{self, JobName, RunId};
use super::{StateStore, Tag};
use crate::error::{Class, Result};

const FORMAT: Format = Format { what: "cursor", format: "understudy-cursor", version: 1, needs: "0.1.0" };

/// The cursor of a job. `S` belongs to the tool that looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor<S> {
    /// The job.
    pub job: JobName,
    /// The run that wrote it.
    pub run_id: RunId,
    /// When it was written, by the writer's wall clock. For people.
    #[serde(with = "rfc3339")]
    pub written: Timestamp,
    /// What only the tool understands.
    pub state: S,
}

/// Reads the job's cursor; `None` before the first one.
///
/// # Errors
/// [`crate::Error::Damaged`], [`crate::Error::FutureVersion`], or the store's.
pub async fn load<S: DeserializeOwned>(store: &dyn StateStore, job: &JobName) -> Result<Option<(Cursor<S>, Tag)>> {
    let name = layout::cursor(job);
    let Some((bytes, tag)) = store.get(&name).await? else { return Ok(None) };
    let cursor: Cursor<S> = document::decode(&FORMAT, &name, &bytes)?;
    match cursor.job == *job {
        true => Ok(Some((cursor, tag))),
        false => Err(document::damaged(&FORMAT, &name, format!("it is of job {}", cursor.job))),
    }
}

/// Replaces the cursor that was loaded as `expected` (`None`: there was none). `false` when another wrote it meanwhile:
/// that one stands.
///
/// # Errors
/// The store's, when nothing shows that the write landed.
pub async fn swap<S: Serialize>(store: &dyn StateStore, new: &Cursor<S>, expected: Option<&Tag>) -> Result<bool> {
    let name = layout::cursor(&new.job);
    let bytes: Bytes = document::encode(&FORMAT, &name, new)?;
    let mut pause = document::WRITE_PAUSE;
    let mut attempt = 1;
    loop {
        let result = match expected {
            Some(tag) => store.swap(&name, bytes.clone(), tag).await,
            None => store.create(&name, bytes.clone()).await,
        };
        let failure = match result {
            Ok(Some(_)) => return Ok(true),
            // Refused by what an attempt before wrote, whose answer was lost, is not refused.
            Ok(None) => return Ok(attempt > 1 && document::landed(store, &name, &bytes).await.is_some()),
            Err(error) if error.class() == Class::Retryable => error,
            Err(error) => return Err(error),
        };
        if attempt == document::WRITE_ATTEMPTS {
            return match document::landed(store, &name, &bytes).await {
                Some(_) => Ok(true),
                None => Err(failure),
            };
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::contract::{Fault, FlakyState, assert_every_corruption_is_found};
    use crate::state::memory::MemoryState;

    fn cursor(state: u32) -> Cursor<u32> {
        Cursor {
            job: JobName::new("job").unwrap(),
            run_id: "20261121T031500Z-0a1b2c3d".parse().unwrap(),
            written: Timestamp::UNIX_EPOCH,
            state,
        }
    }

    async fn stored(store: &dyn StateStore) -> Option<(u32, Tag)> {
        let found = load::<u32>(store, &JobName::new("job").unwrap()).await.unwrap();
        found.map(|(cursor, tag)| (cursor.state, tag))
    }

    #[tokio::test]
    async fn of_two_that_looked_at_the_same_part_one_moves_the_cursor() {
        let store = MemoryState::new();
        assert_eq!(stored(&store).await, None);
        assert!(swap(&store, &cursor(1), None).await.unwrap());
        assert!(!swap(&store, &cursor(9), None).await.unwrap(), "there is one by now");
        let (state, tag) = stored(&store).await.unwrap();
        assert_eq!(state, 1);
        assert!(swap(&store, &cursor(2), Some(&tag)).await.unwrap());
        assert!(!swap(&store, &cursor(9), Some(&tag)).await.unwrap());
        assert_eq!(stored(&store).await.unwrap().0, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn case_48_a_lost_answer_is_no_other_writer() {
        for operation in ["create", "swap"] {
            let store = Arc::new(MemoryState::new());
            let flaky = FlakyState::new(store.clone(), move |asked, _, call| match (asked == operation, call) {
                (true, 0) => Fault::LoseAnswer,
                _ => Fault::None,
            });
            let tag = match operation {
                "swap" => {
                    swap(&*store, &cursor(1), None).await.unwrap();
                    Some(stored(&*store).await.unwrap().1)
                }
                _ => None,
            };
            assert!(swap(&flaky, &cursor(2), tag.as_ref()).await.unwrap(), "{operation}");
            assert_eq!(stored(&*store).await.unwrap().0, 2);
        }
    }

    #[test]
    fn corruption_is_found() {
        let bytes = document::encode(&FORMAT, "c", &cursor(7)).unwrap();
        assert_every_corruption_is_found(&bytes, |bad| document::decode::<Cursor<u32>>(&FORMAT, "c", bad).is_err());
    }
}
