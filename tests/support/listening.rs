//! A server on 127.0.0.1 that runs in the test: it serves each connection in a thread of its own, and ends with all of them
//! when it is dropped.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The server.
pub(crate) struct Listening {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listening {
    /// Gives every connection to `serve`; it is closed when that returns, and `serve` must return when it is closed.
    ///
    /// # Panics
    /// If no port can be had.
    pub(crate) fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (shared, serve) = (Arc::new(Shared::default()), Arc::new(serve));
        let accepted = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            let mut serving = Vec::new();
            while let Ok((client, _)) = listener.accept() {
                if accepted.over.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(ours), Ok(copy)) = (client.try_clone(), client.try_clone()) else { continue };
                accepted.open().push(copy);
                let serve = Arc::clone(&serve);
                serving.push(std::thread::spawn(move || {
                    // A client or server that goes away ends its connection, nothing more.
                    drop(serve(client));
                    drop(ours.shutdown(Shutdown::Both));
                }));
            }
            for thread in serving {
                drop(thread.join());
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for stream in self.shared.open().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.accepting.take() {
            drop(thread.join());
        }
    }
}
