//! What can go wrong with a metastore, by what the caller can do about it.

use super::Version;
use manifest::Class;
use std::time::Duration;

/// A result of a metastore.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a metastore. Places are without secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metastore's URL that cannot be understood.
    #[error("{url}: {why}")]
    Url {
        /// As it was given, without its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers, or the connection broke.
    #[error("{operation} at {place}: {why}")]
    Unreachable {
        /// What was asked.
        operation: String,
        /// Of whom.
        place: String,
        /// What the system said.
        why: String,
    },
    /// It did not answer in time: a connection that is half open, a server that hangs.
    #[error("{operation} at {place}: no answer within {} s", limit.as_secs())]
    Silent {
        /// What was asked.
        operation: String,
        /// Of whom.
        place: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The other side speaks something else: framed Thrift, TLS, SASL, HTTP.
    #[error("{place} speaks {speaks}, not {expected}; {hint}")]
    Protocol {
        /// Who.
        place: String,
        /// What it speaks.
        speaks: String,
        /// What we speak.
        expected: String,
        /// Which setting mends it.
        hint: String,
    },
    /// Credentials, or a right that is missing.
    #[error("{operation} at {place} is refused: {why}")]
    Denied {
        /// What was asked.
        operation: String,
        /// Of whom.
        place: String,
        /// What it said, and which setting mends it.
        why: String,
    },
    /// The database has no room for what was to be written. Nothing of that batch was.
    #[error("{operation} at {place}: no space left: {why}")]
    NoSpace {
        /// What was asked.
        operation: String,
        /// Of whom.
        place: String,
        /// What it said.
        why: String,
    },
    /// A version that we do not know.
    #[error("{place} is of version {found}, which is not known here; 2.3 to 4.x are")]
    UnknownVersion {
        /// Who.
        place: String,
        /// What it says of itself.
        found: String,
    },
    /// A database that is no metastore.
    #[error("{place} is no Hive metastore: {why}")]
    NotAMetastore {
        /// Which.
        place: String,
        /// What is missing.
        why: String,
    },
    /// What this version, schema or character set cannot hold. Nothing of it was written.
    #[error("{object} cannot be held by a metastore of version {version}: {why}")]
    CannotHold {
        /// Such as `constraint c1 on sales.orders`.
        object: String,
        /// The metastore's.
        version: Version,
        /// What of it.
        why: String,
    },
    /// An object whose rows in the database do not fit together.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// Which.
        object: String,
        /// With ids.
        why: String,
    },
    /// Somebody else changed what we relied on, or an object that a change needs is not there.
    #[error("{operation} {object}: {why}")]
    Conflict {
        /// What was asked.
        operation: String,
        /// Of which object.
        object: String,
        /// What stands against it.
        why: String,
    },
    /// What a metastore answered that no other variant says.
    #[error("{operation} {object}: {why}")]
    Failed {
        /// What was asked.
        operation: String,
        /// Of which object or place.
        object: String,
        /// What it said.
        why: String,
        /// Whether trying again can help.
        class: Class,
    },
}

impl Error {
    /// Whether trying again later can help.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => Class::Retryable,
            Self::Conflict { .. } => Class::Conflict,
            Self::Failed { class, .. } => *class,
            _ => Class::Permanent,
        }
    }
}
