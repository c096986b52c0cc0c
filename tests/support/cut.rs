//! A connection that breaks: a proxy for any protocol over TCP that lets so many bytes of the client through, then hangs up on
//! both sides, without a word, and refuses whoever comes afterwards.
//!
//! It listens on 127.0.0.1, and ends when it is dropped.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::listening::Listening;

/// The proxy.
pub struct Cut {
    listening: Listening,
    state: Arc<State>,
}

struct State {
    upstream: String,
    left: AtomicU64,
    broken: AtomicBool,
}

impl Cut {
    /// A proxy before `upstream` (`127.0.0.1:PORT`) that breaks after this many bytes of its clients, all taken together.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn after(upstream: &str, bytes: u64) -> Self {
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            left: AtomicU64::new(bytes),
            broken: AtomicBool::new(false),
        });
        let served = Arc::clone(&state);
        Self { listening: Listening::start(move |client| served.serve(client)), state }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.listening.address().to_string()
    }

    /// Whether it has broken.
    pub fn is_broken(&self) -> bool {
        self.state.broken.load(Ordering::SeqCst)
    }
}

/// Passes bytes until one side ends or `allow` allows fewer than came; then both sides are closed.
fn pass(mut from: TcpStream, mut to: TcpStream, allow: impl Fn(usize) -> usize) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let allowed = allow(count);
        if to.write_all(&buffer[..allowed]).is_err() || allowed < count {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl State {
    /// Passes bytes both ways, those of the server in a thread of its own.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Ok(());
        }
        let server = TcpStream::connect(&self.upstream)?;
        let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
        let back = std::thread::spawn(move || pass(server_too, client_too, |bytes| bytes));
        pass(client, server, |bytes| self.spend(bytes));
        drop(back.join());
        Ok(())
    }

    /// How many of these bytes still pass.
    fn spend(&self, bytes: usize) -> usize {
        let take = |left: u64| Some(left.saturating_sub(bytes as u64));
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or_default();
        if left < bytes as u64 {
            self.broken.store(true, Ordering::SeqCst);
        }
        bytes.min(usize::try_from(left).unwrap_or(usize::MAX))
    }
}
