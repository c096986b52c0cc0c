//! A connection that breaks: a proxy for any protocol over TCP that lets so many bytes of the client through, then hangs up on
//! both sides, without a word, and refuses whoever comes afterwards.
//!
//! It listens on 127.0.0.1, and ends when it is dropped.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The proxy.
pub struct Cut {
    address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    upstream: String,
    left: AtomicU64,
    broken: AtomicBool,
    over: AtomicBool,
}

impl Cut {
    /// A proxy before `upstream` (`127.0.0.1:PORT`) that breaks after this many bytes of its clients, all taken together.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn after(upstream: &str, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            left: AtomicU64::new(bytes),
            broken: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let served = Arc::clone(&state);
        let accepting = std::thread::spawn(move || {
            let mut serving = Vec::new();
            while let Ok((client, _)) = listener.accept() {
                if served.over.load(Ordering::SeqCst) {
                    break;
                }
                // Dropped is closed.
                if !served.broken.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(&served.upstream)
                {
                    serving.extend(serve(client, server, &served));
                }
            }
            for thread in serving {
                let _ = thread.join();
            }
        });
        Self { address, state, accepting: Some(accepting) }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whether it has broken.
    pub fn is_broken(&self) -> bool {
        self.state.broken.load(Ordering::SeqCst)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the one that accepts; the connections end with their clients.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Passes bytes both ways, each way in a thread of its own.
fn serve(client: TcpStream, server: TcpStream, state: &Arc<State>) -> Vec<JoinHandle<()>> {
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return Vec::new() };
    let state = Arc::clone(state);
    let there = std::thread::spawn(move || pass(client, server, |bytes| state.spend(bytes)));
    let back = std::thread::spawn(move || pass(server_too, client_too, |bytes| bytes));
    vec![there, back]
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
