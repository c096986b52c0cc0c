//! A stand-in for Google Cloud Storage on 127.0.0.1: the calls that the documentation describes and `distcp` makes, with
//! generations, preconditions and checksums. What it does not know it refuses (501), so that a test cannot pass by accident.
//!
//! It keeps one bucket in memory and every request that it saw. It proves what is sent and understood, not that the service
//! does the same. Ends with its connections when it is dropped.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::percent_decode_str;

use crate::listening::Listening;
use crate::proxy::read_request;

mod bucket;
mod json;
mod xml;

pub use bucket::Bucket;

/// The bucket's name.
pub const BUCKET: &str = "lake";
/// The token that it wants.
pub const TOKEN: &str = "hush-hush-token";

/// A request, decoded.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Segments of the path, each decoded after splitting.
    pub path: Vec<String>,
    /// Names and values, decoded.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    fn parse(head: &str, body: Vec<u8>) -> Option<Self> {
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let path = path.strip_prefix('/')?.split('/').map(decoded).collect::<Option<_>>()?;
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        let query = pairs.collect::<Option<_>>()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect();
        Some(Self { method, path, query, headers, body, target })
    }

    /// A parameter's value.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is not among these, or is there twice.
    fn strange_query(&self, known: &[&str]) -> Option<&str> {
        let twice = |name: &str| self.query.iter().filter(|(found, _)| found == name).count() > 1;
        self.query.iter().map(|(name, _)| name.as_str()).find(|name| !known.contains(name) || twice(name))
    }

    /// A header of the service's that is not among these.
    fn strange_header(&self, known: &[&str]) -> Option<&str> {
        let mut names = self.headers.iter().map(|(name, _)| name.as_str());
        names.find(|name| name.starts_with("x-goog-") && !name.starts_with("x-goog-meta-") && !known.contains(name))
    }
}

/// An answer.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".into(), kind.into())], body: body.into() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

struct Shared {
    bucket: Mutex<Bucket>,
    seen: Mutex<Vec<Request>>,
}

/// The server.
pub struct Gcs {
    listening: Listening,
    shared: Arc<Shared>,
}

impl Gcs {
    /// A server with an empty bucket.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start() -> Self {
        let shared = Arc::new(Shared { bucket: Mutex::default(), seen: Mutex::default() });
        let served = Arc::clone(&shared);
        let listening = Listening::start(move |client| served.serve(client));
        Self { listening, shared }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listening.address())
    }

    /// The bucket, to look into or to change behind the client's back.
    pub fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.shared.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests since the last time this was asked.
    pub fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// Answers the requests of one connection in turn.
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        while let Some((head, body)) = read_request(&mut client)? {
            let Some(request) = Request::parse(&head, body) else {
                return client.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            let answer = self.answer(&request);
            let mut text = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
            let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let close = last.then(|| ("connection".to_owned(), "close".to_owned()));
            for (name, value) in answer.headers.iter().chain(&close) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            client.write_all(&[text.as_bytes(), &answer.body].concat())?;
            if last {
                return client.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return json::failure(401, "authError", "Invalid Credentials");
        }
        let length = request.header("content-length");
        if matches!(request.method.as_str(), "PUT" | "POST") && length != Some(&request.body.len().to_string()) {
            return json::failure(411, "lengthRequired", "Length Required");
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path[..] {
            ["storage", "v1", "b", name, ..] if !bucket.knows(name) => {
                json::failure(404, "notFound", "The specified bucket does not exist.")
            }
            ["storage", "v1", "b", _, "o"] => json::list(&bucket, request),
            ["storage", "v1", "b", _, "o", name] => json::object(&mut bucket, request, name),
            ["storage", "v1", "b", from, "o", source, "rewriteTo", "b", to, "o", target] if bucket.knows(to) => {
                json::rewrite(&mut bucket, request, (from, source), target)
            }
            [name, _] if !bucket.knows(name) => xml::failure(404, "NoSuchBucket"),
            [_, name] => xml::object(&mut bucket, request, name),
            _ => json::failure(501, "notImplemented", "no such call"),
        }
    }
}
