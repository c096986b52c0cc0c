//! Calls over a few connections: kept open between calls, opened again when they break, to another host if one is gone.
//!
//! Calls that only read are repeated after a lost connection, and after an answer that may be owed to others who wrote at the
//! same moment, [`REPEATS`] times each. Others are not: whoever makes them looks at what is there first, and does so again.

use super::address::Host;
use super::connect::{Connection, Fault, Options, tls_connector};
use super::speaks::{Speech, probe};
use crate::metastore::{Error, Result};
use hms::ExceptionKind;
use hms::calls::SetUgi;
use hms::message::{Call, Exception, Refusal, Reply};
use manifest::Class;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// How often a call that only reads is made again after its connection was lost, and after it failed in the server.
pub(super) const REPEATS: u32 = 3;

/// What is waited before a call is made again that failed in the server; twice and three times as long after that.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only reads.
    Safe,
    /// It only reads, and that it fails is an answer.
    Probe,
    /// It changes something.
    Never,
}

/// What a server answered.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Result(T),
    Thrown(Exception),
    /// This version does not know the call.
    NoSuchCall,
}

/// A metastore's connections.
#[derive(Debug)]
pub(super) struct Client {
    hosts: Vec<Host>,
    options: Options,
    tls: Option<Connector>,
    /// Which host is tried first: the last one that answered.
    first: AtomicUsize,
    idle: Mutex<Vec<Connection>>,
    calls: Semaphore,
}

struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Client {
    /// Connects to nobody yet.
    pub(super) fn new(hosts: Vec<Host>, options: Options) -> Result<Self> {
        let place = place(&hosts);
        let tls = options.tls.as_ref().map(tls_connector).transpose();
        let tls = tls.map_err(|why| Error::Url { url: place, why })?.map(Connector);
        let calls = Semaphore::new(options.connections.max(1));
        Ok(Self { hosts, options, tls, first: AtomicUsize::new(0), idle: Mutex::new(Vec::new()), calls })
    }

    pub(super) fn place(&self) -> String {
        place(&self.hosts)
    }

    /// How many calls run at a time.
    pub(super) fn parallel(&self) -> usize {
        self.options.connections.max(1)
    }

    /// Makes a call.
    pub(super) async fn call<C: Call + Sync>(&self, call: &C, repeat: Repeat) -> Result<Answer<C::Reply>> {
        let _running = self.calls.acquire().await.map_err(|error| self.failed(C::NAME, error.to_string()))?;
        let (mut lost, mut failed) = (0, 0);
        loop {
            let fault = match self.attempt(call).await {
                Ok(reply) if repeat == Repeat::Safe && failed < REPEATS && may_pass::<C>(&reply) => {
                    failed += 1;
                    tokio::time::sleep(PAUSE * failed).await;
                    continue;
                }
                Ok(Reply::Result(result)) => return Ok(Answer::Result(result)),
                Ok(Reply::Exception(exception)) => return Ok(Answer::Thrown(exception)),
                Ok(Reply::Refused(refusal)) if refusal.is_unknown_method() => return Ok(Answer::NoSuchCall),
                Ok(Reply::Refused(refusal)) => return Err(self.refused(C::NAME, refusal)),
                Err(fault) => fault,
            };
            if fault.is_lost() {
                // What else is idle is as old.
                self.idle().clear();
                self.first.fetch_add(1, Ordering::Relaxed);
                lost += 1;
                if repeat != Repeat::Never && lost <= REPEATS && !matches!(fault, Fault::Connect(_)) {
                    continue;
                }
            }
            return Err(self.error(C::NAME, fault).await);
        }
    }

    async fn attempt<C: Call>(&self, call: &C) -> Result<Reply<C::Reply>, Fault> {
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let reply = connection.call(call, self.options.read_timeout).await?;
        self.idle().push(connection);
        Ok(reply)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries every host once, the last one that answered first.
    async fn connect(&self) -> Result<Connection, Fault> {
        let first = self.first.load(Ordering::Relaxed);
        let mut last = None;
        for at in 0..self.hosts.len() {
            let index = first.wrapping_add(at) % self.hosts.len();
            match self.open(&self.hosts[index]).await {
                Ok(connection) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(fault) if fault.is_lost() => last = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        Err(last.unwrap_or(Fault::Closed))
    }

    async fn open(&self, host: &Host) -> Result<Connection, Fault> {
        let (framed, tls) = (self.options.framed, self.tls.as_ref().map(|Connector(tls)| tls));
        let mut connection = Connection::open(host, framed, tls, self.options.connect_timeout).await?;
        if let Some(user) = &self.options.user {
            let call = SetUgi { user_name: Some(user.clone()), group_names: Some(Vec::new()) };
            connection.call(&call, self.options.read_timeout).await?;
        }
        Ok(connection)
    }

    /// What a fault says to people; looks once more at a server that said nothing.
    async fn error(&self, operation: &str, fault: Fault) -> Error {
        let (operation, place) = (operation.to_owned(), self.place());
        match fault {
            Fault::Silent(_) | Fault::Closed | Fault::Broken(_) | Fault::Tls(_) => {
                let at = self.first.load(Ordering::Relaxed) % self.hosts.len().max(1);
                let mut found = None;
                for host in [self.hosts.get(at), self.hosts.first()].into_iter().flatten() {
                    found = probe(host, &self.options).await;
                    if found.is_some() || self.hosts.len() == 1 {
                        break;
                    }
                }
                match (found, fault) {
                    (Some(speech), _) => self.protocol(speech),
                    (None, Fault::Silent(limit)) => Error::Silent { operation, place, limit },
                    (None, Fault::Tls(why)) => Error::Denied { operation, place, why: format!("TLS: {why}") },
                    (None, fault) => Error::Unreachable { operation, place, why: fault.to_string() },
                }
            }
            Fault::Speaks(speech) => self.protocol(speech),
            Fault::Connect(_) => Error::Unreachable { operation, place, why: fault.to_string() },
            Fault::Reply(_) | Fault::TooLong => self.failed(&operation, fault.to_string()),
        }
    }

    fn protocol(&self, speech: Speech) -> Error {
        let expected = match (self.options.tls.is_some(), self.options.framed) {
            (true, _) => Speech::Tls,
            (false, true) => Speech::Framed,
            (false, false) => Speech::Buffered,
        };
        Error::Protocol {
            place: self.place(),
            speaks: speech.name().to_owned(),
            expected: expected.name().to_owned(),
            hint: speech.hint().to_owned(),
        }
    }

    fn failed(&self, operation: &str, why: String) -> Error {
        Error::Failed {
            operation: operation.to_owned(),
            object: format!("at {}", self.place()),
            why,
            class: Class::Permanent,
        }
    }

    /// A server that could not carry a call out. Those of the notification log say by this that they are not for everybody.
    fn refused(&self, operation: &str, refusal: Refusal) -> Error {
        if NOTIFICATION_CALLS.contains(&operation) {
            return self.denied(operation, &refusal.message);
        }
        self.failed(operation, format!("the server could not do it: {}", refusal.message))
    }

    fn denied(&self, operation: &str, message: &str) -> Error {
        Error::Denied {
            operation: operation.to_owned(),
            place: self.place(),
            why: format!(
                "{message}; the notification log is for proxy users: set hadoop.proxyuser.<user>.hosts at the server for the user \
                 that metasync runs as, or metastore.metastore.event.db.notification.api.auth to false"
            ),
        }
    }

    /// An exception as an error, with the object that it is about.
    pub(super) fn thrown(&self, operation: &str, object: &str, exception: &Exception) -> Error {
        if NOTIFICATION_CALLS.contains(&operation) {
            return self.denied(operation, &exception.message);
        }
        let (operation, object, why) = (operation.to_owned(), object.to_owned(), exception.to_string());
        match exception.kind {
            ExceptionKind::NoSuchObjectException
            | ExceptionKind::UnknownDBException
            | ExceptionKind::AlreadyExistsException => Error::Conflict { operation, object, why },
            _ => {
                let class = if is_passing(exception) { Class::Retryable } else { Class::Permanent };
                Error::Failed { operation, object, why, class }
            }
        }
    }

    /// Makes a call that only reads; `None` when the object is not there.
    pub(super) async fn find<C: Call + Sync>(&self, object: &str, call: &C) -> Result<Option<C::Reply>> {
        match self.call(call, Repeat::Safe).await? {
            Answer::Result(result) => Ok(Some(result)),
            Answer::Thrown(exception) if is_missing(&exception) => Ok(None),
            Answer::Thrown(exception) => Err(self.thrown(C::NAME, object, &exception)),
            Answer::NoSuchCall => Err(self.no_such_call(C::NAME)),
        }
    }

    /// Makes a call that only reads and always has an answer.
    pub(super) async fn get<C: Call + Sync>(&self, object: &str, call: &C) -> Result<C::Reply> {
        match self.call(call, Repeat::Safe).await? {
            Answer::Result(result) => Ok(result),
            Answer::Thrown(exception) => Err(self.thrown(C::NAME, object, &exception)),
            Answer::NoSuchCall => Err(self.no_such_call(C::NAME)),
        }
    }

    /// Makes a call that changes something.
    pub(super) async fn put<C: Call + Sync>(&self, object: &str, call: &C) -> Result<C::Reply> {
        self.put_or(object, call, |_| None).await
    }

    /// Makes a call that changes something; `done` says which exceptions mean that it was done before.
    pub(super) async fn put_or<C: Call + Sync>(
        &self,
        object: &str,
        call: &C,
        done: impl Fn(&Exception) -> Option<C::Reply> + Send + Sync,
    ) -> Result<C::Reply> {
        match self.call(call, Repeat::Never).await? {
            Answer::Result(result) => Ok(result),
            Answer::Thrown(exception) => done(&exception).ok_or_else(|| self.thrown(C::NAME, object, &exception)),
            Answer::NoSuchCall => Err(self.no_such_call(C::NAME)),
        }
    }

    fn no_such_call(&self, operation: &str) -> Error {
        self.failed(operation, "the server does not know this call: is its version what it says?".to_owned())
    }
}

/// Whether an exception says that the object of a call is not there.
pub(super) fn is_missing(exception: &Exception) -> bool {
    match exception.kind {
        ExceptionKind::NoSuchObjectException
        | ExceptionKind::UnknownDBException
        | ExceptionKind::UnknownTableException => true,
        // Partitions of a table that is gone, by name, in Hive 4.
        ExceptionKind::InvalidObjectException => exception.message.ends_with(" table not found"),
        _ => false,
    }
}

/// Calls that only a proxy user may make where the server checks it.
const NOTIFICATION_CALLS: [&str; 4] = [
    "get_next_notification",
    "get_current_notificationEventId",
    "get_notification_events_count",
    "fire_listener_event",
];

/// Whether what failed in the server may be owed to others who wrote at that moment. Of an object that went between its own
/// queries a server says "No such database row", that something is null, or that there was an internal error; asked again, it says
/// that it is not there. Whom it turns away it turns away again.
fn may_pass<C: Call>(reply: &Reply<C::Reply>) -> bool {
    match reply {
        _ if NOTIFICATION_CALLS.contains(&C::NAME) => false,
        Reply::Exception(exception) => exception.kind == ExceptionKind::MetaException || is_passing(exception),
        Reply::Refused(refusal) => !refusal.is_unknown_method(),
        Reply::Result(_) => false,
    }
}

fn is_passing(exception: &Exception) -> bool {
    PASSING.iter().any(|text| exception.message.contains(text))
}

/// What a server says when its database was in the way for the moment.
const PASSING: [&str; 6] = [
    "deadlock",
    "Deadlock",
    "Lock wait timeout",
    "could not serialize",
    "Communications link failure",
    "Connection refused",
];

fn place(hosts: &[Host]) -> String {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    format!("thrift://{}", hosts.join(","))
}
