use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind};

use super::*;
use crate::store::{Precondition, Proof};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing.
    Fine,
    /// Before anything was done.
    Refused(StoreErrorKind),
    /// The work is done, the answer is lost.
    Lost(StoreErrorKind),
    /// The body or listing breaks after so many bytes or keys.
    Breaks(usize),
    /// Somebody else replaces the object, then the body breaks.
    Replaced(usize),
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    script: VecDeque<Fault>,
    calls: Vec<String>,
    /// ETags are opaque, as under SSE-KMS.
    opaque: bool,
    /// ETags of objects that were put together from parts, by their bytes.
    composite: BTreeMap<Bytes, String>,
}

#[derive(Debug, Clone)]
struct Scripted {
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

impl Scripted {
    fn new(script: &[Fault]) -> Self {
        let state = State { script: script.iter().copied().collect(), ..State::default() };
        Self {
            state: Arc::new(Mutex::new(state)),
            capabilities: Capabilities {
                name: "memory",
                ordered_list: true,
                start_after: true,
                levels: false,
                list_goes_on: false,
                folders: false,
                conditional_create: true,
                conditional_replace: true,
                conditional_read: true,
                server_copy: true,
                max_copy_bytes: u64::MAX,
                lists_parts: true,
                etags: true,
                attributes: true,
                delete_batch: 10,
                max_put_bytes: u64::MAX,
                time_step_ns: 1,
            },
        }
    }

    fn with(&self, key: &str, body: &str) {
        self.state.lock().unwrap().objects.insert(key.into(), Bytes::from(body.to_owned()));
    }

    fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    fn object(&self, key: &str) -> Option<Bytes> {
        self.state.lock().unwrap().objects.get(&key.into()).cloned()
    }

    fn enter(&self, call: String) -> Result<Fault> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call);
        match state.script.pop_front().unwrap_or(Fault::Fine) {
            Fault::Refused(kind) => Err(broken(kind)),
            fault => Ok(fault),
        }
    }

    fn print(&self, body: &Bytes) -> Fingerprint {
        if let Some(etag) = self.state.lock().unwrap().composite.get(body) {
            return Fingerprint { size_bytes: body.len() as u64, etag: Some(etag.clone()), ..Fingerprint::default() };
        }
        let mut etag = crate::store::s3::checksum::md5_hex_now(body);
        if self.state.lock().unwrap().opaque {
            etag = format!("kms-{}", &etag[..8]);
        }
        Fingerprint { size_bytes: body.len() as u64, etag: Some(etag), ..Fingerprint::default() }
    }

    fn holds(&self, key: &ObjectKey, options: &PutOptions) -> Result<()> {
        let now = self.object(key.as_str().unwrap()).map(|body| self.print(&body));
        match (&options.precondition, now) {
            (Precondition::Any, _) | (Precondition::Absent, None) => Ok(()),
            (Precondition::Matches(wanted), Some(now)) if wanted.looks_like(&now) => Ok(()),
            _ => Err(broken(StoreErrorKind::Precondition)),
        }
    }

    fn lose<T>(&self, fault: Fault, answer: T) -> Result<T> {
        match fault {
            Fault::Lost(kind) => Err(broken(kind)),
            _ => Ok(answer),
        }
    }
}

fn broken(kind: StoreErrorKind) -> StoreError {
    StoreError::new("do", "memory", kind, "scripted")
}

#[async_trait]
impl Store for Scripted {
    fn place(&self) -> &str {
        "memory"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        let after = options.after.as_ref().map(ToString::to_string).unwrap_or_default();
        let fault = match self.enter(format!("list {after}")) {
            Ok(fault) => fault,
            Err(error) => return futures::stream::iter([Err(error)]).boxed(),
        };
        let objects = self.state.lock().unwrap().objects.clone();
        let mut pages: Vec<Result<Vec<Listed>>> = objects
            .into_iter()
            .filter(|(key, _)| options.after.as_ref().is_none_or(|after| key > after))
            .map(|(key, body)| Ok(vec![Listed { key, kind: EntryKind::Object, fingerprint: self.print(&body) }]))
            .collect();
        if let Fault::Breaks(count) = fault {
            pages.truncate(count);
            pages.push(Err(broken(StoreErrorKind::Server)));
        }
        futures::stream::iter(pages).boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.enter(format!("head {key}"))?;
        let body = self.object(key.as_str().unwrap()).ok_or_else(|| broken(StoreErrorKind::NotFound))?;
        Ok(ObjectInfo {
            kind: EntryKind::Object,
            fingerprint: self.print(&body),
            attributes: Attributes::new(),
            checksum: None,
        })
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let range = options.range.clone();
        let fault = self.enter(format!("get {key} {range:?}"))?;
        let body = self.object(key.as_str().unwrap()).ok_or_else(|| broken(StoreErrorKind::NotFound))?;
        let fingerprint = self.print(&body);
        if options.expect.is_some_and(|expect| !expect.looks_like(&fingerprint)) {
            return Err(broken(StoreErrorKind::Precondition));
        }
        let Range { start, end } = range.unwrap_or(0..body.len() as u64);
        let part = body.slice(start as usize..end as usize);
        let mut pieces: Vec<Result<Bytes>> = Vec::new();
        match fault {
            Fault::Breaks(count) | Fault::Replaced(count) => {
                pieces.push(Ok(part.slice(..count)));
                pieces.push(Err(broken(StoreErrorKind::Connection)));
            }
            _ => pieces.push(Ok(part)),
        }
        if let Fault::Replaced(_) = fault {
            self.with(key.as_str().unwrap(), "somebody else's");
        }
        let info = ObjectInfo { kind: EntryKind::Object, fingerprint, attributes: Attributes::new(), checksum: None };
        Ok(GetResult { info, body: futures::stream::iter(pieces).boxed() })
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let fault = self.enter(format!("put {key}"))?;
        self.holds(key, options)?;
        let body = body.bytes().clone();
        let fingerprint = self.print(&body);
        self.state.lock().unwrap().objects.insert(key.clone(), body);
        self.lose(fault, Written { fingerprint, proof: Proof::Checksum })
    }

    async fn create_upload(&self, key: &ObjectKey, _size_bytes: u64, _options: &PutOptions) -> Result<UploadId> {
        let fault = self.enter(format!("create {key}"))?;
        let id = format!("u{}", self.state.lock().unwrap().uploads.len());
        self.state.lock().unwrap().uploads.insert(id.clone(), BTreeMap::new());
        self.lose(fault, UploadId(id))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        let fault = self.enter(format!("part {} of {key}", part.number))?;
        let body = body.bytes().clone();
        let etag = self.print(&body).etag.unwrap();
        let mut state = self.state.lock().unwrap();
        let parts = state.uploads.get_mut(&upload.0).ok_or_else(|| broken(StoreErrorKind::NotFound))?;
        parts.insert(part.number, body);
        drop(state);
        self.lose(fault, UploadedPart { part, etag, checksum: String::new(), proof: Proof::Checksum })
    }

    async fn list_parts(&self, _key: &ObjectKey, _upload: &UploadId) -> Result<Vec<UploadedPart>> {
        Err(broken(StoreErrorKind::Unsupported))
    }

    async fn read_part(&self, _key: &ObjectKey, _upload: &UploadId, _part: PartSpec) -> Result<Bytes> {
        Err(broken(StoreErrorKind::Unsupported))
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let fault = self.enter(format!("complete {key}"))?;
        if !self.state.lock().unwrap().uploads.contains_key(&upload.0) {
            return Err(broken(StoreErrorKind::NotFound));
        }
        self.holds(key, options)?;
        let pieces = self.state.lock().unwrap().uploads.remove(&upload.0).unwrap();
        let body: Bytes = pieces.into_values().collect::<Vec<_>>().concat().into();
        let etag = crate::store::s3::checksum::composite_etag(parts.iter().map(|part| part.etag.as_str()));
        let etag = etag.unwrap_or_else(|| format!("opaque-{}", parts.len()));
        self.state.lock().unwrap().composite.insert(body.clone(), etag);
        let fingerprint = self.print(&body);
        self.state.lock().unwrap().objects.insert(key.clone(), body);
        self.lose(fault, Written { fingerprint, proof: Proof::Checksum })
    }

    async fn abort_upload(&self, key: &ObjectKey, _upload: &UploadId) -> Result<()> {
        let fault = self.enter(format!("abort {key}"))?;
        self.lose(fault, ())
    }

    fn origin(&self) -> Option<Origin> {
        None
    }

    fn copies_from(&self, _: &Origin) -> Option<u64> {
        None
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let from = source.key;
        let fault = self.enter(format!("copy {from} {to}"))?;
        self.holds(to, options)?;
        let body = self.object(from.as_str().unwrap()).unwrap();
        let fingerprint = self.print(&body);
        self.state.lock().unwrap().objects.insert(to.clone(), body);
        self.lose(fault, Written { fingerprint, proof: Proof::None })
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let fault = self.enter(format!("copy-part {} {to} {}", source.key, part.number))?;
        let body = self.object(source.key.as_str().unwrap()).unwrap();
        let body = body.slice(part.offset as usize..(part.offset + part.size_bytes) as usize);
        let etag = crate::store::s3::checksum::md5_hex_now(&body);
        self.state.lock().unwrap().uploads.get_mut(&upload.0).unwrap().insert(part.number, body);
        self.lose(fault, UploadedPart { part, etag, checksum: String::new(), proof: Proof::None })
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let mut answers = Vec::new();
        for key in keys {
            answers.push(self.enter(format!("delete {key}")).and_then(|fault| {
                self.state.lock().unwrap().objects.remove(key);
                self.lose(fault, ())
            }));
        }
        answers
    }
}

fn retried(store: &Scripted) -> (Retried, Arc<Meter>) {
    let meter = Arc::new(Meter::default());
    let retried =
        Retried::new(Arc::new(store.clone()), RetryPolicy::default(), 7, Arc::clone(&meter), CancellationToken::new());
    (retried, meter)
}

fn absent() -> PutOptions {
    PutOptions { precondition: Precondition::Absent, ..PutOptions::default() }
}

const SERVER: StoreErrorKind = StoreErrorKind::Server;

#[tokio::test(start_paused = true)]
async fn what_can_pass_is_tried_again_and_the_rest_is_not() {
    let store = Scripted::new(&[Fault::Refused(SERVER), Fault::Refused(StoreErrorKind::Timeout)]);
    store.with("k", "body");
    let (retry, meter) = retried(&store);
    assert_eq!(retry.head(&"k".into()).await.unwrap().fingerprint.size_bytes, 4);
    assert_eq!((store.calls().len(), meter.snapshot().retries), (3, 2));
    for kind in [StoreErrorKind::Permission, StoreErrorKind::Precondition, StoreErrorKind::NotFound] {
        let store = Scripted::new(&[Fault::Refused(kind)]);
        let (retry, meter) = retried(&store);
        assert_eq!(retry.head(&"k".into()).await.unwrap_err().kind, kind);
        assert_eq!((store.calls().len(), meter.snapshot().retries), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_and_time_have_an_end() {
    let store = Scripted::new(&[Fault::Refused(SERVER); 100]);
    let (retry, _) = retried(&store);
    assert_eq!(retry.head(&"k".into()).await.unwrap_err().kind, SERVER);
    assert_eq!(store.calls().len() as u32, RetryPolicy::default().max_attempts);
    let store = Scripted::new(&[Fault::Refused(StoreErrorKind::Throttled); 1000]);
    let (retry, _) = retried(&store);
    let start = Instant::now();
    assert_eq!(retry.head(&"k".into()).await.unwrap_err().kind, StoreErrorKind::Throttled);
    assert!(start.elapsed() <= RetryPolicy::default().deadline);
    let policy = RetryPolicy::default();
    assert_eq!(policy.longest_wait(2), policy.base);
    assert_eq!(policy.longest_wait(4), policy.base * 4);
    assert_eq!(policy.longest_wait(99), policy.cap);
}

#[tokio::test(start_paused = true)]
async fn case_50_slow_down_holds_all_calls_back_and_fails_none() {
    // As many answers as 20 s of a store that asks to slow down can give.
    let store = Scripted::new(&[Fault::Refused(StoreErrorKind::Throttled); 12]);
    store.with("k", "body");
    let (retry, _) = retried(&store);
    assert!(retry.head(&"k".into()).await.is_ok());
    let until = Instant::now() + Duration::from_secs(5);
    *locked(&retry.shared.not_before) = Some(until);
    assert!(retry.head(&"k".into()).await.is_ok());
    assert!(Instant::now() >= until);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_at_once() {
    let store = Scripted::new(&[Fault::Refused(SERVER); 100]);
    let cancel = CancellationToken::new();
    let policy =
        RetryPolicy { base: Duration::from_secs(1000), cap: Duration::from_secs(1000), ..RetryPolicy::default() };
    let policy = RetryPolicy { deadline: Duration::from_secs(100_000), ..policy };
    let retry = Retried::new(Arc::new(store), policy, 1, Arc::default(), cancel.clone());
    let start = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        cancel.cancel();
    };
    let key = "k".into();
    let (answer, ()) = tokio::join!(retry.head(&key), stop);
    assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(retry.head(&key).await.unwrap_err().kind, StoreErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_leaves_can_be_written_for_a_while_after_a_stop() {
    let store = Scripted::new(&[]);
    store.with("k", "left");
    let (cancel, grace) = (CancellationToken::new(), Duration::from_secs(10));
    let policy = RetryPolicy::default();
    let retry = Retried::with_grace(Arc::new(store.clone()), policy, 1, Arc::default(), cancel.clone(), grace);
    let key = "k".into();
    tokio::time::advance(grace * 2).await;
    retry.head(&key).await.unwrap();
    cancel.cancel();
    retry.head(&key).await.unwrap();
    tokio::time::advance(grace - Duration::from_millis(1)).await;
    retry.head(&key).await.unwrap();
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(retry.head(&key).await.unwrap_err().kind, StoreErrorKind::Cancelled);
    // A store that does not answer is left when the time is over.
    let store = Scripted::new(&[Fault::Refused(SERVER); 100]);
    let slow = RetryPolicy { base: Duration::from_secs(1000), cap: Duration::from_secs(1000), ..policy };
    let slow = RetryPolicy { deadline: Duration::from_secs(100_000), ..slow };
    let retry = Retried::with_grace(Arc::new(store), slow, 1, Arc::default(), cancel, grace);
    let start = Instant::now();
    assert_eq!(retry.head(&key).await.unwrap_err().kind, StoreErrorKind::Cancelled);
    assert!(start.elapsed() >= grace && start.elapsed() < grace * 2);
}

#[tokio::test(start_paused = true)]
async fn listings_go_on_after_the_last_key() {
    let store = Scripted::new(&[Fault::Breaks(2), Fault::Refused(SERVER), Fault::Breaks(1)]);
    for key in ["a", "b", "c", "d", "e"] {
        store.with(key, "x");
    }
    let (retry, _) = retried(&store);
    let pages: Vec<Vec<Listed>> = retry.list(ListOptions::default()).try_collect().await.unwrap();
    let keys: Vec<String> = pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect();
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    assert_eq!(store.calls(), ["list ", "list b", "list b", "list c"]);
}

#[tokio::test(start_paused = true)]
async fn case_11_a_listing_that_stays_broken_ends_with_its_error() {
    let store = Scripted::new(&[Fault::Refused(SERVER); 100]);
    let (retry, _) = retried(&store);
    let mut pages = retry.list(ListOptions::default());
    assert_eq!(pages.next().await.unwrap().unwrap_err().class(), Class::Retryable);
    assert!(pages.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn case_24_a_broken_body_goes_on_from_the_byte_it_reached() {
    let store = Scripted::new(&[Fault::Breaks(3), Fault::Refused(SERVER), Fault::Breaks(2)]);
    store.with("k", "0123456789");
    let (retry, _) = retried(&store);
    let options = GetOptions { range: Some(1..9), expect: None };
    let result = retry.get(&"k".into(), options).await.unwrap();
    let body: Vec<Bytes> = result.body.try_collect().await.unwrap();
    assert_eq!(body.concat(), b"12345678");
    assert_eq!(store.calls(), ["get k Some(1..9)", "get k Some(4..9)", "get k Some(4..9)", "get k Some(6..9)"]);
}

#[tokio::test(start_paused = true)]
async fn case_26_a_body_never_goes_on_with_another_version() {
    let store = Scripted::new(&[Fault::Replaced(3)]);
    store.with("k", "0123456789");
    let (retry, _) = retried(&store);
    let body: Result<Vec<Bytes>> =
        retry.get(&"k".into(), GetOptions::default()).await.unwrap().body.try_collect().await;
    assert_eq!(body.unwrap_err().kind, StoreErrorKind::Precondition);
}

#[tokio::test(start_paused = true)]
async fn case_48_a_lost_answer_to_a_put_is_settled_by_what_stands_there() {
    for opaque in [false, true] {
        let store = Scripted::new(&[Fault::Lost(SERVER)]);
        store.state.lock().unwrap().opaque = opaque;
        let (retry, _) = retried(&store);
        let written = retry.put(&"k".into(), Bytes::from_static(b"mine").into(), &absent()).await.unwrap();
        assert_eq!(written.proof, if opaque { Proof::ReadBack } else { Proof::Checksum });
        assert_eq!(store.object("k").unwrap(), "mine");
    }
    // Refused before anything was done, and somebody else was faster: their object is not ours.
    for theirs in ["yours", "thei", "longer than mine"] {
        let store = Scripted::new(&[Fault::Refused(SERVER)]);
        store.with("k", theirs);
        let (retry, _) = retried(&store);
        let error = retry.put(&"k".into(), Bytes::from_static(b"mine").into(), &absent()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Precondition);
        assert_eq!(store.object("k").unwrap(), theirs);
    }
    // Without a lost answer the condition is simply broken, whatever stands there.
    let store = Scripted::new(&[]);
    store.with("k", "mine");
    let (retry, _) = retried(&store);
    let error = retry.put(&"k".into(), Bytes::from_static(b"mine").into(), &absent()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition);
    assert_eq!(store.calls(), ["put k"]);
}

async fn upload(retry: &Retried, options: &PutOptions) -> (UploadId, Vec<UploadedPart>) {
    let key = "k".into();
    let id = retry.create_upload(&key, 6, options).await.unwrap();
    let mut parts = Vec::new();
    for (number, body) in [(1, "abc"), (2, "def")] {
        let part = PartSpec { number, offset: u64::from(number - 1) * 3, size_bytes: 3 };
        parts.push(retry.put_part(&key, &id, part, Bytes::from(body).into()).await.unwrap());
    }
    (id, parts)
}

#[tokio::test(start_paused = true)]
async fn case_48_a_lost_answer_to_a_completion_is_settled_by_what_stands_there() {
    let fine = Fault::Fine;
    // ETags that are content prove it; opaque ones only say that it may be ours, and the caller reads back.
    for (opaque, proof) in [(false, Proof::Checksum), (true, Proof::None)] {
        let store = Scripted::new(&[fine, fine, fine, Fault::Lost(StoreErrorKind::Timeout)]);
        store.state.lock().unwrap().opaque = opaque;
        let (retry, _) = retried(&store);
        let (id, parts) = upload(&retry, &absent()).await;
        let written = retry.complete_upload(&"k".into(), &id, &parts, &absent()).await.unwrap();
        assert_eq!(store.object("k").unwrap(), "abcdef");
        assert_eq!(written.proof, proof);
    }

    // The upload is gone and nothing stands there: it was given up by somebody.
    let store = Scripted::new(&[fine, fine, fine, Fault::Refused(SERVER)]);
    let (retry, _) = retried(&store);
    let (id, parts) = upload(&retry, &absent()).await;
    store.state.lock().unwrap().uploads.clear();
    let answer = retry.complete_upload(&"k".into(), &id, &parts, &absent()).await;
    assert_eq!(answer.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn case_48_lost_answers_to_copies_and_deletes() {
    let store = Scripted::new(&[Fault::Lost(SERVER)]);
    store.with("a", "body");
    let (retry, _) = retried(&store);
    let expect = store.print(&Bytes::from_static(b"body"));
    let written = retry.copy(&CopySource::here(&"a".into(), &expect), &"b".into(), &absent()).await.unwrap();
    assert_eq!(written.proof, Proof::Checksum);
    let store = Scripted::new(&[Fault::Fine, Fault::Lost(SERVER), Fault::Refused(StoreErrorKind::Permission)]);
    for key in ["a", "b", "c"] {
        store.with(key, "x");
    }
    let (retry, meter) = retried(&store);
    let answers = retry.delete(&["a".into(), "b".into(), "c".into()]).await;
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert_eq!(answers[2].as_ref().unwrap_err().kind, StoreErrorKind::Permission);
    assert_eq!(store.calls(), ["delete a", "delete b", "delete c", "delete b"]);
    assert_eq!(meter.snapshot().retries, 1);
}
