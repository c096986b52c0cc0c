//! How one action ends. What changed meanwhile is planned once more, on what stands on both sides now.
//!
//! A crash leaves what the transfer of an object leaves: the old one, the new one, or an upload that the journal names.

use manifest::Class;

use super::{Copier, Finished, transfer};
use crate::error::chain;
use crate::layout::Stage;
use crate::plan::{Action, Reason, Step, settled};
use crate::store::{Result, StoreError, StoreErrorKind};

/// An action with its end.
pub(super) struct Settled {
    pub action: Action,
    pub end: End,
}

pub(super) enum End {
    Finished(Box<Finished>),
    /// The object is gone from the source.
    Vanished,
    /// Another version of it stands at the source, and nobody knows whether what that names is there.
    Rewritten,
    /// What it follows did not arrive.
    After,
    /// The run stopped in the middle of it.
    Stopped,
    Failed(String, StoreErrorKind),
}

impl End {
    fn of(action: &Action, error: StoreError) -> Self {
        if error.class() == Class::Cancelled {
            return End::Stopped;
        }
        let text = chain(&error);
        let key = action.key.escaped();
        let text = if text.contains(key.as_ref()) { text } else { format!("{key}: {text}") };
        End::Failed(text, error.kind)
    }

    /// Whether the target holds the version that was meant.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, End::Finished(finished) if !matches!(**finished, Finished::Held))
    }
}

impl Copier {
    /// Does one action; under `copy` an object that changed meanwhile is planned once more; where
    /// others rely on what it names, only of the same version.
    pub(super) async fn settle(&self, action: Action, stage: Stage) -> Settled {
        let first = match self.transfer(&action).await {
            Ok(finished) => return Settled { action, end: End::Finished(Box::new(finished)) },
            Err(error) => error,
        };
        let vanished = first.kind == StoreErrorKind::NotFound;
        if !(vanished || first.class() == Class::Conflict) || self.as_planned {
            return Settled { end: End::of(&action, first), action };
        }
        match self.plan_again(&action).await {
            Ok(Some(again)) if stage != Stage::Files && !is_as_harmless(&action, &again) => {
                Settled { action, end: End::Rewritten }
            }
            Ok(Some(again)) => match self.transfer(&again).await {
                Ok(finished) => Settled { action: again, end: End::Finished(Box::new(finished)) },
                Err(error) => Settled { end: End::of(&again, error), action: again },
            },
            Ok(None) if transfer::names_another(&action) => {
                let detail =
                    "the source lists a key that it does not have: the listing does not tell the key's real name";
                let error = StoreError::new("read", self.source.place(), StoreErrorKind::InvalidKey, detail);
                Settled { end: End::of(&action, error.on(&action.key)), action }
            }
            Ok(None) => Settled { action, end: End::Vanished },
            Err(error) => Settled { end: End::of(&action, error), action },
        }
    }

    /// The action for what stands on both sides now; `None` when the source object is gone.
    async fn plan_again(&self, action: &Action) -> Result<Option<Action>> {
        let now = |head: Result<crate::store::ObjectInfo>| match head {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let Some(source) = now(self.source.head(&action.key).await)? else { return Ok(None) };
        let target = now(self.target.head(&action.key).await)?;
        let step = match &target {
            Some(target) if target.fingerprint.size_bytes == source.fingerprint.size_bytes => Step::Compare,
            _ => Step::Copy,
        };
        Ok(Some(Action {
            key: action.key.clone(),
            step,
            reason: Reason::SourceChanged,
            kind: source.kind,
            source: Some(source.fingerprint),
            target: target.map(|info| settled(&info.fingerprint)),
            entry: None,
            donor: None,
        }))
    }
}

/// Whether both are about one version of the source, and none writes where the other one only reads.
fn is_as_harmless(action: &Action, again: &Action) -> bool {
    let versions = action.source.as_ref().zip(again.source.as_ref());
    let is_same = versions.is_some_and(|(planned, now)| planned.looks_like(now));
    is_same && (action.step, again.step) != (Step::Compare, Step::Copy)
}
