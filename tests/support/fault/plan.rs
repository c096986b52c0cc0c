//! What goes wrong, and when: faults, rules that aim them, chances that scatter them. Plain data.

use std::ops::Range;
use std::time::Duration;

use distcp::store::StoreErrorKind;
use manifest::ObjectKey;

/// A method of [`distcp::store::Store`], as counted and as aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// One batch of a listing.
    List,
    /// `head`
    Head,
    /// `get`
    Get,
    /// `put`
    Put,
    /// `create_upload`
    CreateUpload,
    /// `put_part`
    PutPart,
    /// `list_parts`
    ListParts,
    /// `read_part`
    ReadPart,
    /// `complete_upload`
    CompleteUpload,
    /// `abort_upload`
    AbortUpload,
    /// `copy`
    Copy,
    /// `copy_part`
    CopyPart,
    /// `delete`, a batch
    Delete,
}

impl Method {
    /// Whether it changes the store.
    pub fn mutates(self) -> bool {
        !matches!(self, Method::List | Method::Head | Method::Get | Method::ListParts | Method::ReadPart)
    }
}

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It takes this long, then works.
    Delay(Duration),
    /// It fails with this kind before anything is done. Of a `delete` every key fails.
    Fail(StoreErrorKind),
    /// It is done, and the answer is lost (a broken connection). Of a read it is the same as failing.
    LostAnswer,
    /// `get`: the body breaks off with an error half way.
    Truncate,
    /// `get`, `read_part`: one byte of the body is another. `put`, `put_part`: one byte that is written is.
    FlipByte,
    /// `list`: the batch comes twice.
    RepeatBatch,
    /// `list`: the batch comes in reverse order.
    ReverseBatch,
}

/// A fault aimed at one kind of call.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which method.
    pub method: Method,
    /// Only calls on this key (of a `copy` the key written, of a `delete` any in the batch); all without it.
    pub key: Option<ObjectKey>,
    /// How many matching calls pass first.
    pub skip: u64,
    /// How many matching calls it hits then.
    pub times: u64,
    /// Only in this time, counted from the first matching call; always without it.
    pub during: Option<Range<Duration>>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// The first call of `method`.
    pub fn first(method: Method, fault: Fault) -> Self {
        Self { method, key: None, skip: 0, times: 1, during: None, fault }
    }

    /// Every call of `method`.
    pub fn every(method: Method, fault: Fault) -> Self {
        Self { times: u64::MAX, ..Self::first(method, fault) }
    }

    /// Only on this key.
    pub fn on(mut self, key: impl Into<ObjectKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Not before the `n`-th matching call, counted from 1.
    pub fn from_call(mut self, n: u64) -> Self {
        self.skip = n - 1;
        self
    }

    /// Only in this time, counted from the first matching call.
    pub fn during(mut self, time: Range<Duration>) -> Self {
        self.during = Some(time);
        self
    }

    /// At most `n` times.
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }
}

/// Chances from 0 to 1 that a call meets a fault; at most one a call, the first that hits in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// [`Fault::Delay`] of up to [`Chances::max_delay`].
    pub delay: f64,
    /// The longest delay; 1 s when zero.
    pub max_delay: Duration,
    /// [`Fault::Fail`] with a broken connection.
    pub reset: f64,
    /// [`Fault::Fail`] with 503 SlowDown, and the next [`STORM_CALLS`] calls too.
    pub storm: f64,
    /// [`Fault::LostAnswer`], of calls that change something.
    pub lost_answer: f64,
    /// [`Fault::Truncate`].
    pub truncate: f64,
    /// [`Fault::FlipByte`] in what is read.
    pub flip_read: f64,
    /// [`Fault::FlipByte`] in what is written.
    pub flip_write: f64,
    /// [`Fault::RepeatBatch`].
    pub repeat_batch: f64,
    /// [`Fault::ReverseBatch`].
    pub reverse_batch: f64,
}

/// How many calls a storm of 503 lasts.
pub const STORM_CALLS: u64 = 5;

/// What a [`super::FaultStore`] does wrong.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Of all dice.
    pub seed: u64,
    /// Dice, rolled for each call that no rule hits.
    pub chances: Chances,
    /// Aimed faults; the first that hits counts.
    pub rules: Vec<Rule>,
    /// At most this many faults in all, so that bounded retries get through; no limit without it.
    pub max_faults: Option<u64>,
    /// Listings come in batches of at most so many keys, so that small trees have many; as the store cuts them without.
    pub batch_keys: Option<usize>,
}
