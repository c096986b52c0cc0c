//! A moment in the middle of a conversation: a proxy for any protocol over TCP that does something once, right before a client's
//! first bytes with some word in them go on to the server.
//!
//! It listens on 127.0.0.1, and ends when it is dropped. A word that comes in two pieces is not seen: what asks for little sends
//! it at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::listening::Listening;

/// A word, and what is done before it.
type Act = (&'static str, Box<dyn FnOnce() + Send>);

/// The proxy.
pub struct Between {
    listening: Listening,
    state: Arc<State>,
}

struct State {
    upstream: String,
    left: Mutex<Vec<Act>>,
}

impl Between {
    /// A proxy before `upstream` (`127.0.0.1:PORT`) that does each of these before its word first passes.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn before(upstream: &str, acts: Vec<Act>) -> Self {
        let state = Arc::new(State { upstream: upstream.to_owned(), left: Mutex::new(acts) });
        let served = Arc::clone(&state);
        Self { listening: Listening::start(move |client| served.serve(client)), state }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.listening.address().to_string()
    }

    /// The words that nobody said.
    pub fn unsaid(&self) -> Vec<&'static str> {
        let left = self.state.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.iter().map(|(word, _)| *word).collect()
    }
}

/// Passes bytes until one side ends; then both sides are closed.
fn pass(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        look(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

impl State {
    /// Passes bytes both ways, those of the server in a thread of its own.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.upstream)?;
        let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
        let back = std::thread::spawn(move || pass(server_too, client_too, |_| ()));
        pass(client, server, |bytes| self.look(bytes));
        drop(back.join());
        Ok(())
    }

    fn look(&self, bytes: &[u8]) {
        let has = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        // Held meanwhile: whoever comes by another connection waits, too.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = left.iter().position(|(word, _)| has(word)) {
            let (_, act) = left.remove(at);
            act();
        }
    }
}
