//! The file that tells a state from a folder of data: `.understudy-state.json` at its root (rule 1).
//!
//! Written before the state's first other file and never changed or removed: a later job that finds the folder inside one
//! of its trees, and was told of another state, leaves it alone. A crash before it is written leaves nothing else.

use serde::Serialize;

use super::document::{self, Format};
use super::layout::MARKER;
use super::{Lasting, StateStore};
use crate::error::Result;

const FORMAT: Format = Format { what: "state marker", format: "understudy-state", version: 1, needs: "0.1.0" };

/// For people who find it.
#[derive(Serialize)]
struct Body {
    note: &'static str,
}

/// Marks the store as a state. To be called before anything else is written there; once it is marked, it only looks.
///
/// # Errors
/// The store's.
pub async fn mark(store: &dyn StateStore) -> Result<()> {
    // Whatever it says, perhaps in the words of a later version: it is the name that counts.
    if store.get(MARKER).await?.is_some() {
        return Ok(());
    }
    let note = "Jobs of distcp and metasync keep their state in this folder. It is no data: leave it whole.";
    let bytes = document::encode(&FORMAT, MARKER, &Body { note })?;
    // Its name says all, and is durable with the first file that is.
    document::publish(store, MARKER, &bytes, Lasting::Loose, || Ok(())).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryState;

    #[tokio::test]
    async fn rule_01_a_state_is_marked_once() {
        let state = MemoryState::new();
        mark(&state).await.unwrap();
        let first = state.get(MARKER).await.unwrap().unwrap();
        mark(&state).await.unwrap();
        assert_eq!(state.get(MARKER).await.unwrap(), Some(first));
        assert_eq!(state.folders("").await.unwrap(), Vec::<String>::new());
    }
}
