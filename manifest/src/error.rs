//! Errors of this crate, and the classes by which callers decide what to do.

use std::io;

use crate::key::ObjectKey;

/// What a caller may do about an error, decided where the cause is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Trying again later can help.
    Retryable,
    /// Trying again does not help.
    Permanent,
    /// Somebody else changed what we relied on.
    Conflict,
    /// We were asked to stop.
    Cancelled,
}

/// What went wrong with a manifest or a state folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried, as a verb (`read`, `create`).
        operation: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A state store operation failed.
    #[error("cannot {operation} {name} in the state at {place}: {reason}")]
    State {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file in the state folder.
        name: String,
        /// The state's place.
        place: String,
        /// Why not, without the key.
        reason: String,
        /// What a caller may do.
        class: Class,
        /// The cause is a missing permission or credential.
        permission: bool,
    },
    /// Bytes that are not what their format says.
    #[error("{what} {name} is damaged: {reason}")]
    Damaged {
        /// `manifest index`, `manifest part`, `journal segment`, `checkpoint`, `lease`, `plan`, `receipt`.
        what: &'static str,
        /// Which one.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A format version that this program does not know.
    #[error(
        "{what} {name} has format version {found}, this program reads up to {known}: use understudy {needs} or newer"
    )]
    FutureVersion {
        /// As in [`Error::Damaged`].
        what: &'static str,
        /// Which one.
        name: String,
        /// The version found.
        found: u32,
        /// The newest known version.
        known: u32,
        /// The program version that the file names as its minimum.
        needs: String,
    },
    /// Something named does not exist.
    #[error("{what} {name} does not exist")]
    Missing {
        /// As in [`Error::Damaged`].
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// Keys came out of order where order was promised.
    #[error("{what} is out of order: {key} came after {previous}")]
    OutOfOrder {
        /// Which stream.
        what: String,
        /// The key that came too late (or twice).
        key: ObjectKey,
        /// The key before it.
        previous: ObjectKey,
    },
    /// Another run holds the lease.
    #[error("another run holds the lease of job {job}: {holder}")]
    LeaseHeld {
        /// The job.
        job: String,
        /// Host, process and start time of the holder.
        holder: String,
    },
    /// Our lease was taken over, or could not be renewed in time: nothing may be written any more.
    #[error("the lease of job {job} was lost: {reason}")]
    LeaseLost {
        /// The job.
        job: String,
        /// How it was noticed.
        reason: String,
    },
    /// The checkpoint changed under us.
    #[error("the checkpoint of job {job} was changed by another run")]
    CheckpointConflict {
        /// The job.
        job: String,
    },
    /// The job's name or target is taken by another job of the same state (rule 3).
    #[error("job {job} cannot use this state: {reason}")]
    JobConflict {
        /// The job that was refused.
        job: String,
        /// Which job is in the way, and where it writes.
        reason: String,
    },
    /// The state store cannot do what leases need (rule 16).
    #[error("the state at {place} cannot hold a lease: {reason}")]
    UnsafeState {
        /// The state's place.
        place: String,
        /// The probe that failed.
        reason: String,
    },
    /// An upstream error that travels through a sorted stream (a listing that failed).
    #[error(transparent)]
    Upstream(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a caller may do about it.
    pub fn class(&self) -> Class {
        match self {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted => Class::Retryable,
            Error::State { class, .. } => *class,
            Error::LeaseHeld { .. } | Error::LeaseLost { .. } | Error::CheckpointConflict { .. } => Class::Conflict,
            _ => Class::Permanent,
        }
    }

    /// Wraps an I/O error with what was tried on what.
    pub fn io(operation: &'static str, path: impl AsRef<std::path::Path>, source: io::Error) -> Self {
        Error::Io { operation, path: path.as_ref().display().to_string(), source }
    }
}
