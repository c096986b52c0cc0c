//! The border between asynchronous sources (listings, manifests) and the pure, blocking merge: batches over a bounded
//! channel. An error ends the iterator and is never lost: a stream that ended without one is whole.

use futures::{Stream, StreamExt as _};
use manifest::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches that wait between the two sides.
const BATCHES_AHEAD: usize = 4;

enum Message<T> {
    Batch(Vec<T>),
    Failed(Error),
    /// The end is said, not inferred: a task that was aborted must not look like a whole stream.
    End,
}

/// A blocking iterator over an asynchronous stream of batches; runs on a blocking thread. The task behind it is aborted
/// when the iterator is dropped.
pub struct Feed<T> {
    receiver: mpsc::Receiver<Message<T>>,
    batch: std::vec::IntoIter<T>,
    ended: bool,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Feed<T> {
    /// Starts to pull `stream` in a task of its own; needs a runtime.
    pub fn start<E>(stream: impl Stream<Item = std::result::Result<Vec<T>, E>> + Send + 'static) -> Self
    where
        E: IntoStreamError + Send,
    {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(batch) = stream.next().await {
                let message = match batch {
                    Ok(batch) => Message::Batch(batch),
                    Err(error) => Message::Failed(error.into_stream_error()),
                };
                let failed = matches!(message, Message::Failed(_));
                if sender.send(message).await.is_err() || failed {
                    return;
                }
            }
            let _ = sender.send(Message::End).await;
        });
        Self { receiver, batch: Vec::new().into_iter(), ended: false, task }
    }
}

impl<T> Iterator for Feed<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(Ok(item));
            }
            if self.ended {
                return None;
            }
            match self.receiver.blocking_recv() {
                Some(Message::Batch(batch)) => self.batch = batch.into_iter(),
                Some(Message::End) => self.ended = true,
                Some(Message::Failed(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    return Some(Err(Error::Upstream("a stream broke off before its end".into())));
                }
            }
        }
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Errors that can travel through a sorted stream.
pub trait IntoStreamError {
    /// The error as the merge sees it.
    fn into_stream_error(self) -> Error;
}

impl IntoStreamError for Error {
    fn into_stream_error(self) -> Error {
        self
    }
}

impl IntoStreamError for crate::store::StoreError {
    fn into_stream_error(self) -> Error {
        Error::Upstream(Box::new(self))
    }
}
