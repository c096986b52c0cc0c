//! Why a run could not do its job, with the exit code and the next thing to type.

use std::error::Error as StdError;
use std::fmt;

use manifest::Class;

use crate::exit::ExitCode;
use crate::plan::guard::Refusal;
use crate::store::{StoreError, StoreErrorKind};

/// A run that ended without doing its job. `Display` is one line: what failed, on what, why.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub code: ExitCode,
    /// What failed, on what, why.
    pub message: String,
    /// What to do next, as a line of its own.
    pub hint: Option<String>,
}

/// A result of a whole stage.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with a code.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

/// An error and its causes on one line; a cause that the line before already says is left out.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// The exit code of a run that a store's failure ended (rule 9).
pub fn store_code(error: &StoreError) -> ExitCode {
    match (error.kind, error.class()) {
        (StoreErrorKind::NoBucket, _) => ExitCode::Usage,
        (StoreErrorKind::NotFound | StoreErrorKind::KindConflict, _)
            if error.key.as_ref().is_none_or(manifest::ObjectKey::is_empty) =>
        {
            ExitCode::Usage
        }
        _ if error.is_permission() => ExitCode::Permission,
        (_, Class::Retryable) => ExitCode::Temporary,
        (_, Class::Cancelled) => ExitCode::Interrupted,
        _ => ExitCode::Failed,
    }
}

/// What the service of a place calls that which holds its objects.
pub(crate) fn bucket_of(place: &str) -> &'static str {
    match scheme(place) {
        "az" | "abfs" | "abfss" | "wasb" | "wasbs" => "container",
        _ => "bucket",
    }
}

/// What to do about a bucket or container that does not exist.
pub(crate) fn no_bucket_fix(place: &str) -> String {
    format!("create the {}, or correct the place", bucket_of(place))
}

/// Where the credentials of a place come from.
pub(crate) fn credentials_of(place: &str) -> &'static str {
    match scheme(place) {
        "az" | "abfs" | "abfss" | "wasb" | "wasbs" => {
            "the credentials: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the options of [stores.NAME] in \
             the configuration"
        }
        "gs" => {
            "the credentials: GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, or the options of [stores.NAME] in \
             the configuration"
        }
        "hdfs" => {
            "the user: HADOOP_USER_NAME, the Kerberos ticket, or the options of [stores.NAME] in the configuration"
        }
        _ => {
            "the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or [stores.NAME] in the \
             configuration"
        }
    }
}

/// Where the endpoint of a place comes from.
pub(crate) fn endpoint_of(place: &str) -> &'static str {
    match scheme(place) {
        "s3" => "the endpoint: AWS_ENDPOINT_URL, [stores.NAME] in the configuration, or a proxy in between",
        _ => "the endpoint: [stores.NAME] in the configuration, or a proxy in between",
    }
}

fn scheme(place: &str) -> &str {
    place.split_once("://").map_or("", |(scheme, _)| scheme)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Failure::new(store_code(&error), chain(&error));
        match error.kind {
            StoreErrorKind::NotFound | StoreErrorKind::KindConflict if failure.code == ExitCode::Usage => failure.hint("check how the place is written"),
            StoreErrorKind::NoBucket => failure.hint(no_bucket_fix(&error.place)),
            StoreErrorKind::Credentials => failure.hint(format!("check {}", credentials_of(&error.place))),
            StoreErrorKind::Permission => failure.hint(
                "check what this user, or the credentials and the endpoint in use, may do there",
            ),
            StoreErrorKind::Protocol if error.detail.contains("out of order") => failure.hint(
                "the server, or a proxy in between, does not list by the bytes of keys, as S3 does: name a folder without such \
                 keys, or use another server",
            ),
            StoreErrorKind::Protocol => failure.hint(format!("check {}", endpoint_of(&error.place))),
            StoreErrorKind::NoSpace => failure.hint("free space, then run the same command again: it resumes"),
            _ if error.class() == Class::Retryable => failure.hint("run the same command again: it resumes"),
            _ => failure,
        }
    }
}

impl From<manifest::Error> for Failure {
    fn from(error: manifest::Error) -> Self {
        use manifest::Error as E;
        let error = match error {
            E::Upstream(source) => match source.downcast::<StoreError>() {
                Ok(store) => return (*store).into(),
                Err(other) => E::Upstream(other),
            },
            other => other,
        };
        let message = chain(&error);
        match &error {
            E::State { permission: true, .. } => Failure::new(ExitCode::Permission, message)
                .hint("the state folder must be readable and writable; name another with --state"),
            E::LeaseHeld { .. } => Failure::new(ExitCode::Leased, message)
                .hint("wait for it, or look at it with: distcp status; a holder that is gone is taken over by itself"),
            E::LeaseLost { .. } | E::CheckpointConflict { .. } => Failure::new(ExitCode::Leased, message),
            E::UnsafeState { .. } => Failure::usage(message).hint(
                "put the state on another store with --state, or run with --no-lease if nothing else runs this job",
            ),
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Failure::new(ExitCode::Permission, message)
            }
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Failure::new(ExitCode::Failed, message).hint("free space, then run the same command again: it resumes")
            }
            E::Missing { .. } => Failure::usage(message).hint("check how the place is written"),
            E::JobConflict { .. } => Failure::usage(message)
                .hint("see the jobs with: distcp status; for something else at that target, a restore, say, name another --state"),
            E::Damaged { what, .. } => Failure::new(ExitCode::Failed, message).hint(after_damage(what)),
            E::State { class: Class::Permanent, .. } => Failure::new(ExitCode::Failed, message).hint(
                "mend the state folder, or name another with --state; then run the same command again: it resumes",
            ),
            _ if error.class() == Class::Retryable => {
                Failure::new(ExitCode::Temporary, message).hint("run the same command again: it resumes")
            }
            _ => Failure::new(ExitCode::Failed, message),
        }
    }
}

/// What to do about a file of ours that is not what it was. Nothing of it is guessed: a checkpoint or a manifest that was
/// half right would take what is not there for copied.
fn after_damage(what: &str) -> &'static str {
    match what {
        "lease" => "if no run is alive, break it with: distcp unlock --job JOB --yes",
        "plan" => "make a new plan with: distcp plan SOURCE TARGET -o PLAN",
        "manifest index" | "manifest part" => {
            "restore it from a copy, or make it anew (for a job: name another --state; what is equal is not copied again)"
        }
        _ => "restore it from a copy, or name another --state: what is equal is not copied again",
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::new(ExitCode::Refused, refusal.message).hint(refusal.hint)
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Failure::new(ExitCode::Failed, format!("a task of the run broke: {error}"))
    }
}
