//! What a server can do: objects of one size read, written, or read and written, by a client that does nothing else.
//!
//! Plain HTTP/1.1 over connections that are kept, signed headers, unsigned bodies, no hash, no checksum, no retry: an
//! answer that is not 200 ends it. The bytes that it writes are zeros unless it reads them somewhere. Files that it writes are
//! on the disk when it ends, by one sync of their file system.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use clap::Parser;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How much is read or written at once.
const BLOCK_BYTES: usize = 256 << 10;
/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;
const REGION: &str = "us-east-1";

/// Requests to an S3 server, and nothing else
#[derive(Parser)]
struct Arguments {
    /// The server: `http://host:port`
    #[arg(long)]
    endpoint: String,
    /// Bytes of each object
    #[arg(long)]
    bytes: u64,
    /// A file with a key a line
    #[arg(long)]
    keys: PathBuf,
    /// Where objects are read: `s3://bucket/prefix`
    #[arg(long)]
    from: Option<String>,
    /// Where objects are written
    #[arg(long)]
    to: Option<String>,
    /// The folder into which what is read is written, as files
    #[arg(long)]
    into: Option<PathBuf>,
    /// Objects at a time
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

/// What signs requests, for one day.
struct Signer {
    host: String,
    access_key: String,
    day: String,
    key: Key,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Signer {
    fn new(host: &str) -> Result<Self> {
        let access_key = std::env::var("AWS_ACCESS_KEY_ID").context("AWS_ACCESS_KEY_ID")?;
        let secret = std::env::var("AWS_SECRET_ACCESS_KEY").context("AWS_SECRET_ACCESS_KEY")?;
        let day = Timestamp::now().strftime("%Y%m%d").to_string();
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [day.as_str(), REGION, "s3", "aws4_request"] {
            key = sign(&Key::new(HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
        }
        Ok(Self { host: host.to_owned(), access_key, day, key: Key::new(HMAC_SHA256, &key) })
    }

    /// The head of a request. <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
    fn head(&self, method: &str, path: &str, length: u64) -> String {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let Self { host, access_key, day, key } = self;
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:{time}\n\n{names}\nUNSIGNED-PAYLOAD"
        );
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let hashed = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let signature = hex(sign(key, format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}").as_bytes()).as_ref());
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nx-amz-date: {time}\r\n\
             x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nAuthorization: AWS4-HMAC-SHA256 Credential={access_key}/{scope}, \
             SignedHeaders={names}, Signature={signature}\r\n\r\n"
        )
    }
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    /// Bytes of the body that came with the head.
    ahead: Vec<u8>,
}

impl Connection {
    async fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Reads the head of an answer; the length of its body.
    async fn answer(&mut self) -> Result<u64> {
        let mut head = std::mem::take(&mut self.ahead);
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            ensure!(head.len() < MAX_HEAD_BYTES, "the head of an answer has no end");
            ensure!(self.stream.read_buf(&mut head).await? > 0, "the server closed the connection");
        };
        self.ahead = head.split_off(end + 4);
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.lines();
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            bail!("the server answers {status}");
        }
        let length =
            lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length.map_or(Ok(0), |(_, value)| value.trim().parse().context("a length"))
    }

    /// The next bytes of a body of which `left` are to come.
    async fn body(&mut self, left: u64, block: &mut Vec<u8>) -> Result<()> {
        block.clear();
        if self.ahead.is_empty() {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            block.resize(most, 0);
            let read = self.stream.read(block).await?;
            ensure!(read > 0, "a body was cut off");
            block.truncate(read);
        } else {
            block.append(&mut self.ahead);
        }
        Ok(())
    }
}

/// An empty file for a key, in folders that are made when they are missing.
fn create(folder: &Path, key: &str) -> Result<File> {
    let path = folder.join(key);
    let made = File::create(&path).or_else(|_| {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        File::create(&path)
    });
    made.with_context(|| format!("create {}", path.display()))
}

/// One worker: the next key, until there is none.
async fn work(
    signer: Arc<Signer>,
    arguments: Arc<Arguments>,
    keys: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
) -> Result<()> {
    let mut source = Connection::open(&signer.host).await?;
    let mut target = Connection::open(&signer.host).await?;
    let path = |place: &str, key: &str| place.replacen("s3:/", "", 1) + "/" + key;
    let zeros = vec![0u8; BLOCK_BYTES];
    let mut block = Vec::new();
    while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut left = arguments.bytes;
        if let Some(from) = &arguments.from {
            source.stream.write_all(signer.head("GET", &path(from, key), 0).as_bytes()).await?;
            left = source.answer().await?;
            ensure!(left == arguments.bytes, "{key} has {left} bytes");
        }
        if let Some(to) = &arguments.to {
            target.stream.write_all(signer.head("PUT", &path(to, key), left).as_bytes()).await?;
        }
        let mut file = arguments.into.as_deref().map(|folder| create(folder, key)).transpose()?;
        while left > 0 {
            let bytes = match &arguments.from {
                Some(_) => {
                    source.body(left, &mut block).await?;
                    block.as_slice()
                }
                None => &zeros[..usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES)],
            };
            if arguments.to.is_some() {
                target.stream.write_all(bytes).await?;
            }
            if let Some(file) = &mut file {
                file.write_all(bytes).context("write a file")?;
            }
            left -= bytes.len() as u64;
        }
        if arguments.to.is_some() {
            target.answer().await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arc::new(Arguments::parse());
    let host = arguments.endpoint.strip_prefix("http://").context("only http:// is spoken")?;
    let signer = Arc::new(Signer::new(host.trim_end_matches('/'))?);
    let keys = std::fs::read_to_string(&arguments.keys).context("read the keys")?;
    let keys = Arc::new(keys.lines().map(str::to_owned).collect::<Vec<_>>());
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..arguments.concurrency.min(keys.len()) {
        workers.spawn(work(signer.clone(), arguments.clone(), keys.clone(), next.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    if let Some(folder) = &arguments.into {
        rustix::fs::syncfs(File::open(folder)?).context("sync what was written")?;
    }
    Ok(())
}
