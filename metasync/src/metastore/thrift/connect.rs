//! One connection to a metastore: TCP or TLS, with or without frames, one call at a time, each wait bounded.

use super::address::Host;
use super::speaks::{self, Speech};
use hms::message::{Call, Reply, ReplyError, decode_reply, encode_call};
use hms::scan::Scanner;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// How long a host has to take a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may think: Hive's own client waits as long.
pub const READ_TIMEOUT: Duration = Duration::from_secs(600);
/// How many calls run at a time.
pub const CONNECTIONS: usize = 4;
/// The longest reply that is taken in: a thousand partitions of wide tables stay far below.
pub const MAX_REPLY_BYTES: usize = 512 << 20;
/// How many bytes are asked for at a time.
const READ_BYTES: usize = 64 << 10;

/// How to reach a metastore.
#[derive(Clone, Debug)]
pub struct Options {
    /// With frames: `hive.metastore.thrift.framed.transport.enabled` of the server.
    pub framed: bool,
    /// By TLS: `hive.metastore.use.SSL` of the server.
    pub tls: Option<Tls>,
    /// As whom, where the server trusts its callers: files that it makes belong to this user. Its own user if nothing is said.
    pub user: Option<String>,
    /// How many calls run at a time, at least 1.
    pub connections: usize,
    /// How long a host has to take a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the next bytes of a reply.
    pub read_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            framed: false,
            tls: None,
            user: None,
            connections: CONNECTIONS,
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
        }
    }
}

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of authorities as PEM; those of the system if there are none.
    pub authorities: Option<Vec<u8>>,
}

/// What can end a call before an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// No connection came about.
    #[error("{0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// TLS did not come about.
    #[error("{0}")]
    Tls(String),
    /// What came is no Thrift as we speak it.
    #[error("it speaks {}", .0.name())]
    Speaks(Speech),
    /// What came cannot be read.
    #[error("{}", reply_error(.0))]
    Reply(ReplyError),
    /// More than we take in.
    #[error("a reply of more than {} MiB", MAX_REPLY_BYTES >> 20)]
    TooLong,
}

impl Fault {
    /// Whether another connection may do better.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Closed)
    }
}

/// The whole of it in one line.
fn reply_error(error: &ReplyError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What is under a connection.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// A connection, used for one call at a time.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    framed: bool,
    sequence: i32,
    /// Kept for the next reply, so that its memory is not asked for again.
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("framed", &self.framed).finish_non_exhaustive()
    }
}

/// The largest buffer that an idle connection keeps.
const KEPT_BYTES: usize = 4 << 20;

impl Connection {
    /// Connects to this host.
    pub(super) async fn open(
        host: &Host,
        framed: bool,
        tls: Option<&TlsConnector>,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let tcp = timeout(limit, TcpStream::connect((host.name.as_str(), host.port))).await;
        let tcp = tcp.map_err(|_| Fault::Connect(timed_out(limit)))?.map_err(Fault::Connect)?;
        tcp.set_nodelay(true).map_err(Fault::Connect)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(connector) => {
                let name = ServerName::try_from(host.name.clone()).map_err(|error| Fault::Tls(error.to_string()))?;
                let stream = timeout(limit, connector.connect(name, tcp)).await;
                Box::new(stream.map_err(|_| Fault::Connect(timed_out(limit)))?.map_err(tls_fault)?)
            }
        };
        Ok(Self { stream, framed, sequence: 0, buffer: Vec::new() })
    }

    /// Makes a call and waits for its reply. After an error the connection is of no use.
    pub(super) async fn call<C: Call>(&mut self, call: &C, limit: Duration) -> Result<Reply<C::Reply>, Fault> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = encode_call(call, self.sequence);
        let wrote = timeout(limit, self.send(&message)).await;
        wrote.map_err(|_| Fault::Silent(limit))?.map_err(Fault::Broken)?;
        let (start, end) = self.receive(limit).await?;
        let reply = decode_reply::<C>(&self.buffer[start..end], self.sequence).map_err(Fault::Reply)?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        Ok(reply)
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.framed {
            let length = i32::try_from(message.len()).map_err(|_| io::Error::other("a call of more than 2 GiB"))?;
            self.stream.write_all(&length.to_be_bytes()).await?;
        }
        self.stream.write_all(message).await?;
        self.stream.flush().await
    }

    /// Reads until the buffer holds a whole reply; where in the buffer it stands.
    async fn receive(&mut self, limit: Duration) -> Result<(usize, usize), Fault> {
        let start = if self.framed { 4 } else { 0 };
        let mut scanner = Scanner::new();
        loop {
            if let Some(speech) = speaks::recognise(&self.buffer, self.framed) {
                return Err(Fault::Speaks(speech));
            }
            let message = self.buffer.get(start..).unwrap_or_default();
            match scanner.advance(message) {
                Ok(Some(end)) if start + end < self.buffer.len() => return Err(Fault::Speaks(Speech::Other)),
                Ok(Some(end)) => return Ok((start, start + end)),
                Ok(None) => {}
                Err(error) => return Err(Fault::Reply(error.into())),
            }
            if self.buffer.len() > MAX_REPLY_BYTES {
                return Err(Fault::TooLong);
            }
            self.buffer.reserve(READ_BYTES);
            let read = timeout(limit, self.stream.read_buf(&mut self.buffer)).await;
            match read.map_err(|_| Fault::Silent(limit))? {
                Ok(0) => return Err(Fault::Closed),
                Ok(_) => {}
                Err(error) => return Err(Fault::Broken(error)),
            }
        }
    }
}

fn timed_out(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", limit.as_secs()))
}

fn tls_fault(error: io::Error) -> Fault {
    let of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    match error.kind() {
        // A server without TLS hangs up on a greeting that it does not understand.
        io::ErrorKind::UnexpectedEof => Fault::Closed,
        _ if of_tls => Fault::Tls(error.to_string()),
        _ => Fault::Broken(error),
    }
}

/// What makes TLS of a TCP connection. Errors: certificates that cannot be read; then what is wrong.
pub(super) fn tls_connector(tls: &Tls) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| format!("the authorities' certificates: {error}"))?;
                roots.add(certificate).map_err(|error| format!("the authorities' certificates: {error}"))?;
            }
            if roots.is_empty() {
                return Err("the authorities' certificates: there is none".to_owned());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    connector_with(roots)
}

/// One that trusts nobody: enough to see whether the other side speaks TLS.
pub(super) fn tls_prober() -> Result<TlsConnector, String> {
    connector_with(RootCertStore::empty())
}

fn connector_with(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
