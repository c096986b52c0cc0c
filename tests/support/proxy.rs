//! An S3 endpoint that misbehaves on purpose: a proxy in front of a real server, told for each request what to do with it.
//!
//! Requests pass unchanged but for `Connection` (signatures cover the others, `Host` among them): one connection carries one
//! request. It listens on 127.0.0.1, and ends with its connections when it is dropped.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::listening::Listening;

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A request, as far as one decides by it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counts from 0, in the order of arrival.
    pub number: usize,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// The whole head, as text.
    pub head: String,
}

impl Request {
    /// Whether it lists a bucket.
    pub fn is_listing(&self) -> bool {
        self.method == "GET" && self.target.contains("list-type=2")
    }

    /// Whether it reads or writes an object whose path ends so.
    pub fn is(&self, method: &str, key_end: &str) -> bool {
        self.method == method && self.target.split('?').next().is_some_and(|path| path.ends_with(key_end))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The server's answer.
    Pass,
    /// The server's answer to a request for this path and query instead; for servers that check no signature.
    Instead(String),
    /// This answer, without asking the server: status line (`503 Slow Down`), content type, body.
    Say(&'static str, &'static str, &'static str),
    /// None at all: the connection stays open until the client gives up.
    Hang,
    /// The connection breaks before an answer.
    Reset,
    /// The server's answer, without its last so many bytes.
    CutBy(usize),
}

impl Answer {
    /// An S3 error; `code` as in the documentation of S3.
    pub fn error(status: &'static str, body: &'static str) -> Self {
        Self::Say(status, "application/xml", body)
    }
}

type Decide = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    upstream: String,
    decide: Box<Decide>,
    number: AtomicUsize,
}

/// The proxy.
pub struct Proxy {
    listening: Listening,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy before the server at `upstream` (`http://127.0.0.1:PORT`).
    ///
    /// # Panics
    /// If no port can be had.
    pub fn before(upstream: &str, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            decide: Box::new(decide),
            number: AtomicUsize::new(0),
        });
        let served = Arc::clone(&shared);
        let listening = Listening::start(move |client| served.serve(client));
        Self { listening, shared }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listening.address())
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.shared.number.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, body)) = read_request(&mut client)? else { return Ok(()) };
        let mut words = head.split(' ');
        let request = Request {
            number: self.number.fetch_add(1, Ordering::SeqCst),
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            head: head.clone(),
        };
        let answer = match (self.decide)(&request) {
            Answer::Pass => self.ask(&head, &body)?,
            Answer::Instead(target) => self.ask(&head.replacen(&request.target, &target, 1), &body)?,
            Answer::CutBy(bytes) => {
                let mut answer = self.ask(&head, &body)?;
                answer.truncate(answer.len().saturating_sub(bytes));
                answer
            }
            Answer::Say(status, kind, text) => format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                text.len(),
                if request.method == "HEAD" { "" } else { text }
            )
            .into_bytes(),
            Answer::Hang => {
                // Ends when the client goes away, or we do.
                client.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Answer::Reset => return client.shutdown(Shutdown::Both),
        };
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)
    }

    fn ask(&self, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.upstream)?;
        let lines = head.trim_end().split("\r\n");
        for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")) {
            server.write_all(line.as_bytes())?;
            server.write_all(b"\r\n")?;
        }
        server.write_all(b"connection: close\r\n\r\n")?;
        server.write_all(body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Head and body of the request; `None` when the client closed without one.
pub(crate) fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut read = Vec::new();
    let end = loop {
        let mut block = [0; 8192];
        let count = client.read(&mut block)?;
        if count == 0 || read.len() > MAX_HEAD_BYTES {
            return Ok(None);
        }
        read.extend_from_slice(&block[..count]);
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let mut body = read.split_off(end);
    let head = String::from_utf8(read).map_err(io::Error::other)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    let have = body.len();
    body.resize(length.unwrap_or(0).max(have), 0);
    client.read_exact(&mut body[have..])?;
    Ok(Some((head, body)))
}
