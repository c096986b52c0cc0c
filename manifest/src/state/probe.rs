//! Can this state store hold a lease? (rule 16)
//!
//! Asked before a job's first write, with a throwaway file: some S3 servers ignore `If-None-Match`, and some refuse every
//! `If-Match`. Never touches a file of a job. A crash leaves one file in the folder `understudy-probe`, which a later probe
//! removes once it is a day old.

use bytes::Bytes;

use super::{StateStore, Tag};
use crate::error::{Error, Result};

/// Where the throwaway files stand.
const FOLDER: &str = "understudy-probe/";
/// Files of earlier probes are removed at this age, in seconds.
const LEFTOVER_AGE_S: u64 = 24 * 3600;

/// Proves that the store creates only what is not there, swaps only what is unchanged (and does swap that), shows its own
/// writes and lists them.
///
/// # Errors
/// [`Error::UnsafeState`] with what the store did wrong; any other error is the store's own.
pub async fn probe(store: &dyn StateStore) -> Result<()> {
    let name = format!("{FOLDER}{:016x}", rand::random::<u64>());
    let result = try_all(store, &name).await;
    let removed = store.delete(&name).await;
    result?;
    removed?;
    match store.get(&name).await? {
        None => Ok(()),
        Some(_) => Err(unsafe_state(store, "it still shows a file that was deleted")),
    }
}

async fn try_all(store: &dyn StateStore, name: &str) -> Result<()> {
    let [first, second, third] = ["first", "second", "third"].map(|text| Bytes::from_static(text.as_bytes()));
    let wrong = |reason: &str| Err(unsafe_state(store, reason));

    let missing = Tag("understudy-no-such-tag".into());
    if store.create(name, first.clone()).await?.is_none() {
        return wrong("it refuses to create a file that does not exist");
    }
    let Some(tag) = shows(store, name, &first).await? else {
        return wrong("it does not show a file that was just created");
    };
    if store.create(name, second.clone()).await?.is_some() || shows(store, name, &first).await?.is_none() {
        return wrong("it creates a file over an existing one (If-None-Match is ignored)");
    }
    if store.swap(name, second.clone(), &tag).await?.is_none() {
        return wrong("it refuses to replace a file that is unchanged (If-Match is always refused)");
    }
    let Some(second_tag) = shows(store, name, &second).await? else {
        return wrong("it does not show a file that was just replaced");
    };
    if second_tag == tag {
        return wrong("it gives two contents of a file the same tag");
    }
    for stale in [&tag, &missing] {
        if store.swap(name, third.clone(), stale).await?.is_some() || shows(store, name, &second).await?.is_none() {
            return wrong("it replaces a file that was changed meanwhile (If-Match is ignored)");
        }
    }
    let listed = store.list(FOLDER).await?;
    if !listed.iter().any(|item| item.name == name) {
        return wrong("it does not list a file that was just created");
    }
    for leftover in listed.iter().filter(|item| item.age_s.is_some_and(|age| age >= LEFTOVER_AGE_S)) {
        store.delete(&leftover.name).await?;
    }
    Ok(())
}

/// The tag under which the store shows these bytes, or `None` when it shows others.
async fn shows(store: &dyn StateStore, name: &str, bytes: &Bytes) -> Result<Option<Tag>> {
    Ok(store.get(name).await?.filter(|(found, _)| found == bytes).map(|(_, tag)| tag))
}

fn unsafe_state(store: &dyn StateStore, reason: &str) -> Error {
    Error::UnsafeState { place: store.place(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::state::StateItem;
    use crate::state::memory::MemoryState;

    /// A memory state that breaks one promise.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Lie {
        None,
        IgnoresIfNoneMatch,
        IgnoresIfMatch,
        RefusesEveryIfMatch,
        ShowsOldContent,
        ListsNothing,
        KeepsDeleted,
    }

    #[derive(Debug)]
    struct Lying {
        lie: Lie,
        state: MemoryState,
    }

    #[async_trait]
    impl StateStore for Lying {
        fn place(&self) -> String {
            "lying:".into()
        }
        async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
            let found = self.state.get(name).await?;
            Ok(match self.lie {
                Lie::ShowsOldContent => found.map(|(_, tag)| (Bytes::from_static(b"first"), tag)),
                _ => found,
            })
        }
        async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
            if self.lie == Lie::IgnoresIfNoneMatch {
                self.state.delete(name).await?;
            }
            self.state.create(name, bytes).await
        }
        async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
            match self.lie {
                Lie::IgnoresIfMatch => {
                    self.state.delete(name).await?;
                    self.state.create(name, bytes).await
                }
                Lie::RefusesEveryIfMatch => Ok(None),
                _ => self.state.swap(name, bytes, expected).await,
            }
        }
        async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
            if self.lie == Lie::ListsNothing { Ok(Vec::new()) } else { self.state.list(prefix).await }
        }
        async fn delete(&self, name: &str) -> Result<()> {
            if self.lie == Lie::KeepsDeleted { Ok(()) } else { self.state.delete(name).await }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_interrupted_probe_left_is_removed_later() {
        let state = MemoryState::new();
        state.create("understudy-probe/00", Bytes::new()).await.unwrap();
        state.create("job/lease.json", Bytes::new()).await.unwrap();
        probe(&state).await.unwrap();
        assert_eq!(state.list(FOLDER).await.unwrap().len(), 1);
        tokio::time::advance(std::time::Duration::from_secs(LEFTOVER_AGE_S)).await;
        probe(&state).await.unwrap();
        let left: Vec<_> = state.list("").await.unwrap().into_iter().map(|item| item.name).collect();
        assert_eq!(left, ["job/lease.json"]);
    }

    #[tokio::test]
    async fn rule_16_stores_that_cannot_hold_a_lease_are_refused() {
        let table = [
            (Lie::None, None),
            (Lie::IgnoresIfNoneMatch, Some("If-None-Match")),
            (Lie::IgnoresIfMatch, Some("changed meanwhile")),
            (Lie::RefusesEveryIfMatch, Some("always refused")),
            (Lie::ShowsOldContent, Some("just replaced")),
            (Lie::ListsNothing, Some("list")),
            (Lie::KeepsDeleted, Some("deleted")),
        ];
        for (lie, reason) in table {
            let store = Lying { lie, state: MemoryState::new() };
            match (probe(&store).await, reason) {
                (Ok(()), None) => {}
                (Err(Error::UnsafeState { reason: found, .. }), Some(reason)) => {
                    assert!(found.contains(reason), "{lie:?}: {found}");
                }
                (result, _) => panic!("{lie:?}: {result:?}"),
            }
            let left = store.state.list("").await.unwrap();
            assert!(left.is_empty() || lie == Lie::KeepsDeleted, "{lie:?} left {left:?}");
        }
    }
}
