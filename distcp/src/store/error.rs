//! What can go wrong with a store, classed where the cause is known.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use manifest::{Class, ObjectKey};

/// The cause of a store's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No such object, upload or root.
    NotFound,
    /// No such bucket, container or file system.
    NoBucket,
    /// A precondition did not hold: the object is there already, is gone, or is another version.
    Precondition,
    /// The credentials are missing, wrong or expired.
    Credentials,
    /// The credentials are known but may not do this; local permissions too.
    Permission,
    /// The store asks to slow down (429, 503 SlowDown).
    Throttled,
    /// No answer in time.
    Timeout,
    /// The connection could not be made, or broke.
    Connection,
    /// The server failed (5xx).
    Server,
    /// The body ended early, or its bytes are not what the store says they are.
    Corrupt,
    /// This store cannot hold this key (or this kind of object).
    InvalidKey,
    /// The disk or quota is full.
    NoSpace,
    /// A folder stands where an object should be, or an object where a folder should be.
    KindConflict,
    /// The store does not do this at all.
    Unsupported,
    /// The object is in an archive tier.
    Archived,
    /// The answer makes no sense (HTML from a proxy, malformed XML).
    Protocol,
    /// The run was asked to stop.
    Cancelled,
    /// Anything else, taken as permanent.
    Other,
}

/// A failed store operation: what was tried, on what, why it failed.
#[derive(Debug)]
pub struct StoreError {
    /// What was tried, as a verb (`list`, `read`, `write`).
    pub operation: &'static str,
    /// The place of the store.
    pub place: String,
    /// On which key; `None` for the root.
    pub key: Option<ObjectKey>,
    /// Why.
    pub kind: StoreErrorKind,
    /// Details: the status code and the store's words, cut to a sane length. Holds no secret.
    pub detail: String,
    /// When the store said to come back.
    pub retry_after: Option<Duration>,
    /// The cause below, where there is one.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// A new error without a cause below.
    pub fn new(operation: &'static str, place: &str, kind: StoreErrorKind, detail: impl Into<String>) -> Self {
        Self {
            operation,
            place: place.to_owned(),
            key: None,
            kind,
            detail: detail.into(),
            retry_after: None,
            source: None,
        }
    }

    /// The same, on a key.
    pub fn on(mut self, key: &ObjectKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// The same, with a cause below.
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What a caller may do about it.
    pub fn class(&self) -> Class {
        match self.kind {
            StoreErrorKind::Throttled
            | StoreErrorKind::Timeout
            | StoreErrorKind::Connection
            | StoreErrorKind::Server
            | StoreErrorKind::Corrupt => Class::Retryable,
            StoreErrorKind::Precondition => Class::Conflict,
            StoreErrorKind::Cancelled => Class::Cancelled,
            _ => Class::Permanent,
        }
    }

    /// Why it failed, without what was tried and on what: for messages that name those themselves.
    pub fn reason(&self) -> String {
        let why = match self.kind {
            StoreErrorKind::NotFound => "it does not exist",
            StoreErrorKind::NoBucket if crate::error::bucket_of(&self.place) == "container" => {
                "the container does not exist"
            }
            StoreErrorKind::NoBucket => "the bucket does not exist",
            StoreErrorKind::Precondition => "it is not the version that was expected",
            StoreErrorKind::Credentials => "credentials are missing or wrong",
            StoreErrorKind::Permission => "permission denied",
            StoreErrorKind::Throttled => "the store asks to slow down",
            StoreErrorKind::Timeout => "no answer in time",
            StoreErrorKind::Connection => "the connection failed",
            StoreErrorKind::Server => "the server failed",
            StoreErrorKind::Corrupt => "the bytes that arrived are not the object's",
            StoreErrorKind::InvalidKey => "this store cannot hold such a key",
            StoreErrorKind::NoSpace => "no space left",
            StoreErrorKind::KindConflict => "a file and a folder have the same name",
            StoreErrorKind::Unsupported => "the store cannot do this",
            StoreErrorKind::Archived => {
                "the object is in an archive tier: restore it there first, or leave it out with --exclude"
            }
            StoreErrorKind::Protocol => "the answer is not that of such a store",
            StoreErrorKind::Cancelled => "the run was asked to stop",
            StoreErrorKind::Other => "it failed",
        };
        match self.detail.is_empty() {
            true => why.to_owned(),
            false => format!("{why} ({})", self.detail),
        }
    }

    /// Whether credentials or permissions are the cause (exit code 12).
    pub fn is_permission(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Credentials | StoreErrorKind::Permission)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} ", self.operation)?;
        match &self.key {
            Some(key) if !key.is_empty() => write!(f, "{key} at {}", self.place)?,
            _ => f.write_str(&self.place)?,
        }
        write!(f, ": {}", self.reason())
    }
}
