//! What the stores that speak HTTP share: time limits, headers, dates and ranges read strictly, bodies that are whole or an
//! error.
//!
//! Never puts a secret or a signed URL into an error. Sends nothing; a crash leaves nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use manifest::{Listed, ObjectKey};
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};
use tokio::sync::mpsc;

use super::{Result, StoreError, StoreErrorKind};

/// The longest detail of an error, in characters.
const MAX_DETAIL_CHARS: usize = 300;
/// The longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How long an answer to an empty request may take, and each next piece of a body.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What a slow line is given on top for every byte sent.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// A body that brings fewer in [`ANSWER_TIMEOUT`] of waiting hangs in all but name: another connection may be better.
pub(super) const TRICKLE_BYTES: u64 = 64 << 10;
/// What a service is given to copy, in bytes a second, before its answer counts as lost.
const MIN_COPIED_BYTES_PER_SECOND: u64 = 8 << 20;

/// Pages of a listing that wait for the consumer.
const PAGES_AHEAD: usize = 2;

/// Where the pages of a listing go.
pub(super) type PageSender = mpsc::Sender<Result<Vec<Listed>>>;

/// How long the answer to a request with a body of that length may take, when the service copies as much as that first.
pub(super) fn answer_limit(body_bytes: usize, copied_bytes: u64) -> Duration {
    let sent = Duration::from_secs(body_bytes as u64 / MIN_BYTES_PER_SECOND);
    ANSWER_TIMEOUT + sent + Duration::from_secs(copied_bytes / MIN_COPIED_BYTES_PER_SECOND)
}

/// A service's address in normal form: scheme, host, port and path.
pub(crate) fn normal_service(uri: &http::Uri) -> Option<String> {
    let host = uri.host()?.to_ascii_lowercase();
    // The names of this machine are one service: jobs on both would be one tree under two names.
    let host = if matches!(host.as_str(), "localhost" | "[::1]") { "127.0.0.1".to_owned() } else { host };
    let scheme = uri.scheme_str().unwrap_or("https").to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    Some(format!("{scheme}://{host}:{port}{}", uri.path().trim_end_matches('/')))
}

/// `Retry-After` in seconds, bounded. No store here uses the date form.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// One line of at most [`MAX_DETAIL_CHARS`], without control characters.
pub(super) fn cut(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DETAIL_CHARS).collect();
    if text.chars().nth(MAX_DETAIL_CHARS).is_some() {
        out.push_str("...");
    }
    out
}

/// The kind of a request that got no answer, or only a part of one.
pub(super) fn transport_kind(error: &HttpError) -> StoreErrorKind {
    match error.kind() {
        HttpErrorKind::Timeout => StoreErrorKind::Timeout,
        HttpErrorKind::Decode => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Connection,
    }
}

/// The chain of causes of a transport error as one line; the client strips URLs from it.
pub(super) fn transport_detail(error: &HttpError) -> String {
    let mut text = String::new();
    let mut source: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        source = cause.source();
    }
    cut(&text)
}

/// The whole body of an answer that is not an object's, bounded; or what became of it.
pub(super) async fn collect(body: HttpResponseBody, limit: usize) -> Result<Bytes, (StoreErrorKind, String)> {
    let mut stream = body.bytes_stream();
    let mut all = BytesMut::new();
    loop {
        let next = tokio::time::timeout(ANSWER_TIMEOUT, stream.next())
            .await
            .map_err(|_| (StoreErrorKind::Timeout, "the answer stopped half way".to_owned()))?;
        match next {
            None => return Ok(all.freeze()),
            Some(Ok(piece)) if all.len() + piece.len() > limit => {
                return Err((StoreErrorKind::Protocol, format!("the answer has more than {limit} bytes")));
            }
            Some(Ok(piece)) => all.extend_from_slice(&piece),
            Some(Err(error)) => return Err((transport_kind(&error), transport_detail(&error))),
        }
    }
}

/// Runs `pages`, which sends what it lists, while its result is consumed: [`PAGES_AHEAD`] pages wait at most. An error
/// that it returns is the last item.
pub(super) fn pages_ahead<F>(pages: impl FnOnce(PageSender) -> F) -> BoxStream<'static, Result<Vec<Listed>>>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    let running = pages(sender.clone());
    let task = async move {
        if let Err(error) = running.await {
            // The consumer may have gone away; then nobody wants the error.
            sender.send(Err(error)).await.ok();
        }
    };
    // The producer runs only once the stream is polled, on its own task; it ends with its consumer, because a send to a
    // dropped receiver fails.
    let state = (receiver, None, Some(task));
    futures::stream::unfold(state, |(mut receiver, mut running, task)| async move {
        if let Some(task) = task {
            running = Some(AbortOnDrop(tokio::spawn(task)));
        }
        receiver.recv().await.map(|page| (page, (receiver, running, None)))
    })
    .boxed()
}

/// A task that does not outlive the listing that it feeds.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A header value of visible ASCII; `None` for anything else.
pub(super) fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// Sets a header that is known to be valid text; what is not is left out (callers check what users give).
pub(super) fn set(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Some(value) = header_value(text) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The text of a header.
pub(super) fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

/// An ETag without quotes.
pub(super) fn unquoted(etag: &str) -> &str {
    let etag = etag.trim();
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(etag)
}

/// A range that reaches past the end is another version's: nobody asks for bytes that were not listed.
pub(super) fn past_end(range: &Range<u64>, size_bytes: u64) -> String {
    format!("bytes {} to {} were asked for, the object has {size_bytes}", range.start, range.end)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in nanoseconds since 1970; `None` for anything else.
pub(super) fn http_date_ns(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    time.timestamp().as_second().checked_mul(1_000_000_000)
}

/// `bytes 2-5/10` as the range and the length of the whole.
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first..last + 1, total))
}

/// How many bytes the answer to a GET brings, and how many the whole object has; or what is wrong with the answer.
pub(super) fn announced(
    range: Option<&Range<u64>>,
    status: u16,
    headers: &HeaderMap,
) -> Result<(u64, u64), (StoreErrorKind, String)> {
    let protocol = |detail: String| Err((StoreErrorKind::Protocol, detail));
    let length: Option<u64> = text_of(headers, "content-length").and_then(|text| text.parse().ok());
    let (expected, size_bytes) = match (range, status) {
        (None, 200) => match length {
            Some(length) => (length, length),
            None => return protocol("the answer names no length".into()),
        },
        (Some(range), 206) => {
            let text = text_of(headers, "content-range").unwrap_or_default();
            let Some((got, total)) = content_range(text) else {
                return protocol(format!("the answered range is {text:?}"));
            };
            if total < range.end {
                return Err((StoreErrorKind::Precondition, past_end(range, total)));
            }
            if got != *range {
                return protocol(format!("bytes {range:?} were asked for, {got:?} of {total} came"));
            }
            (got.end - got.start, total)
        }
        // A range that is everything may be answered with everything.
        (Some(range), 200) if range.start == 0 && length == Some(range.end) => (range.end, range.end),
        (Some(_), _) => return protocol("the server ignores ranges".into()),
        (None, _) => return protocol("a part came although the whole was asked for".into()),
    };
    if length.is_some_and(|length| length != expected) {
        return protocol(format!("{expected} bytes should come, the answer announces {length:?}"));
    }
    Ok((expected, size_bytes))
}

/// The body as a stream that ends without an error only after exactly `expected` bytes.
pub(super) fn exact_body(
    place: Arc<str>,
    key: ObjectKey,
    body: HttpResponseBody,
    expected: u64,
) -> BoxStream<'static, Result<Bytes>> {
    exact(place, key, body.bytes_stream(), expected)
}

fn exact(
    place: Arc<str>,
    key: ObjectKey,
    stream: BoxStream<'static, Result<Bytes, HttpError>>,
    expected: u64,
) -> BoxStream<'static, Result<Bytes>> {
    struct State {
        place: Arc<str>,
        key: ObjectKey,
        stream: BoxStream<'static, Result<Bytes, HttpError>>,
        left: u64,
        /// Time waited and bytes received since the last look at the speed. What the reader takes its time for is not
        /// counted.
        window: (Duration, u64),
        over: bool,
    }
    let window = (Duration::ZERO, 0);
    let state = State { place, key, stream, left: expected, window, over: false };
    futures::stream::unfold(state, |mut state| async move {
        if state.over {
            return None;
        }
        let asked = tokio::time::Instant::now();
        let next = tokio::time::timeout(ANSWER_TIMEOUT, state.stream.next()).await;
        state.window.0 += asked.elapsed();
        let fail = |kind, detail: String| Err(StoreError::new("read", &state.place, kind, detail).on(&state.key));
        let item = match next {
            Err(_) => fail(StoreErrorKind::Timeout, "the body stopped half way".into()),
            Ok(Some(Ok(piece))) if piece.len() as u64 > state.left => {
                fail(StoreErrorKind::Corrupt, "more bytes came than the object has".into())
            }
            Ok(Some(Ok(piece))) => {
                state.left -= piece.len() as u64;
                state.window.1 += piece.len() as u64;
                match state.window {
                    (waited, received) if waited < ANSWER_TIMEOUT || state.left == 0 || received >= TRICKLE_BYTES => {
                        if waited >= ANSWER_TIMEOUT {
                            state.window = (Duration::ZERO, 0);
                        }
                        return Some((Ok(piece), state));
                    }
                    (waited, received) => {
                        let seconds = waited.as_secs();
                        fail(StoreErrorKind::Timeout, format!("only {received} bytes came in {seconds} s"))
                    }
                }
            }
            Ok(Some(Err(error))) => fail(
                transport_kind(&error),
                format!("{} bytes before the end: {}", state.left, transport_detail(&error)),
            ),
            Ok(None) if state.left > 0 => {
                fail(StoreErrorKind::Corrupt, format!("the body ended {} bytes early", state.left))
            }
            Ok(None) => return None,
        };
        state.over = true;
        Some((item, state))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_dates_are_read_strictly() {
        assert_eq!(content_range("bytes 2-5/10"), Some((2..6, 10)));
        for bad in ["", "bytes */10", "bytes 5-2/10", "bytes 0-10/10", "items 0-1/2", "bytes 0-1/*"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(http_date_ns("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000_000_000));
        assert_eq!(http_date_ns("yesterday"), None);
    }

    /// A body of pieces of 100 bytes, each after some seconds, read to its end or error: bytes, seconds, error.
    async fn read_slowly(seconds: u64, pieces: u64, size: usize) -> (u64, u64, Option<StoreError>) {
        let pieces = futures::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(Bytes::from(vec![7; size]))
        });
        let began = tokio::time::Instant::now();
        let mut body = exact("s3://b".into(), ObjectKey::from("k"), pieces.boxed(), 1 << 20);
        let mut read = 0;
        loop {
            match body.next().await {
                Some(Ok(piece)) => read += piece.len() as u64,
                Some(Err(error)) => return (read, began.elapsed().as_secs(), Some(error)),
                None => return (read, began.elapsed().as_secs(), None),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_hangs_or_trickles_is_given_up() {
        let (read, took, error) = read_slowly(3600, 1, 1 << 20).await;
        assert_eq!((read, took, error.unwrap().kind), (0, 60, StoreErrorKind::Timeout));
        let (read, took, error) = read_slowly(1, 1 << 20, 1).await;
        let error = error.unwrap();
        assert_eq!((read, took, error.kind), (59, 60, StoreErrorKind::Timeout));
        assert!(error.to_string().contains("only 60 bytes came in 60 s"), "{error}");
        // A slow line is none of this.
        let (read, took, error) = read_slowly(10, 64, 1 << 14).await;
        assert_eq!((read, took, error.is_none()), (1 << 20, 640, true));
    }

    #[test]
    fn etags_lose_their_quotes() {
        for (raw, plain) in [("\"a\"", "a"), ("a", "a"), ("W/\"a-2\"", "a-2"), (" \"\" ", "")] {
            assert_eq!(unquoted(raw), plain);
        }
    }

    #[test]
    fn retry_after_is_bounded() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert("retry-after", "999999".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(MAX_RETRY_AFTER));
        headers.insert("retry-after", "soon".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }
}
