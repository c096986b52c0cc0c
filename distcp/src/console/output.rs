//! Everything that is printed: data on stdout, all else on stderr, in the order in which it was said.
//!
//! One thread writes both, fed through a bounded queue, so that a reader that does not keep up holds back the run's work
//! but never the tasks that keep its lease. A stdout whose reader has left is written to no more, quietly. Lines that were
//! not written when the process dies are lost; nothing durable depends on them.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use manifest::ObjectKey;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::args::GlobalArgs;
use super::exit;
use super::progress::Screen;
use crate::event::{Event, Listener, Means, ObjectReport, Outcome};
use crate::exit::ExitCode;
use crate::run::Report;

mod text;

pub use crate::quantity::{counted, grouped};
pub use text::{aligned, bytes_text, duration_text, object_line, summary_block, summary_line};

/// Lines that wait to be written.
const LINES_AHEAD: usize = 4096;

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors.
    Quiet,
    /// Errors, notes, the summary.
    Normal,
    /// Every object, too.
    Verbose,
}

enum Line {
    Out(String),
    Err(String),
    End,
}

/// Where a verb prints. Cheap to clone; all clones feed the same two streams.
#[derive(Clone)]
pub struct Output(Arc<Shared>);

struct Shared {
    program: &'static str,
    json: bool,
    verbosity: Verbosity,
    lines: SyncSender<Line>,
    gone: CancellationToken,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Output {
    /// Prints to the process's stdout and to `screen`, as the options ask.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(program: &'static str, args: &GlobalArgs, screen: Screen) -> io::Result<Self> {
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, _) => Verbosity::Verbose,
        };
        Self::over(program, args.json, verbosity, io::stdout(), move |text| screen.line(text))
    }

    /// Prints to any two streams.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn over(
        program: &'static str,
        json: bool,
        verbosity: Verbosity,
        out: impl Write + Send + 'static,
        err: impl FnMut(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, queue) = sync_channel(LINES_AHEAD);
        let gone = CancellationToken::new();
        let token = gone.clone();
        let writer = std::thread::Builder::new()
            .name("output".into())
            .spawn(move || write_lines(&queue, io::BufWriter::new(out), err, &token))?;
        Ok(Self(Arc::new(Shared { program, json, verbosity, lines, gone, writer: Mutex::new(Some(writer)) })))
    }

    /// Whether stdout is JSON lines.
    pub fn is_json(&self) -> bool {
        self.0.json
    }

    /// How much is said on stderr.
    pub fn verbosity(&self) -> Verbosity {
        self.0.verbosity
    }

    /// Cancelled when nobody reads stdout any more: verbs whose output is all they are for stop then.
    pub fn reader_gone(&self) -> &CancellationToken {
        &self.0.gone
    }

    /// A line of data on stdout.
    pub fn data(&self, line: impl Into<String>) {
        self.send(Line::Out(line.into()));
    }

    /// A JSON object as a line on stdout.
    pub fn json(&self, object: &impl Serialize) {
        match serde_json::to_string(object) {
            Ok(line) => self.send(Line::Out(line)),
            Err(error) => self.error(format!("a line of output could not be made: {error}")),
        }
    }

    /// A sentence on stderr, unless only errors are wanted.
    pub fn say(&self, text: impl Into<String>) {
        if self.0.verbosity > Verbosity::Quiet {
            self.send(Line::Err(text.into()));
        }
    }

    /// A sentence on stderr, always.
    pub fn error(&self, text: impl Into<String>) {
        self.send(Line::Err(text.into()));
    }

    /// Prints what a run reports: objects as JSON lines, or on stderr those that failed, all of them with `-v`.
    pub fn listener(&self) -> Listener {
        let output = self.clone();
        Arc::new(move |event| output.event(&event))
    }

    fn event(&self, event: &Event) {
        match event {
            Event::Note(text) => self.say(format!("note: {text}")),
            Event::Object(object) => {
                if self.0.json && object.outcome != Outcome::Equal {
                    self.json(&ObjectLine::new(object));
                }
                // Under --json the failed ones stand on stdout already.
                let named = object.outcome == Outcome::Failed && !self.0.json;
                if named || self.0.verbosity == Verbosity::Verbose {
                    self.error(object_line(object));
                }
            }
        }
    }

    /// The end of a run: its summary on stdout, what it came to on stderr, and the process's exit code. A comparison has
    /// no block of text on stdout: its lines are read by programs.
    pub fn end(&self, report: &Report) -> ExitCode {
        let summary = &report.summary;
        let done = report.failure.is_none();
        if self.0.json {
            self.json(summary);
        } else if done && summary.differences.is_none() && self.0.verbosity > Verbosity::Quiet {
            self.data(summary_block(summary));
        }
        if done {
            self.say(summary_line(summary));
        }
        if let Some(line) = exit::last_line(self.0.program, report) {
            self.error(line);
        }
        summary.exit_code
    }

    /// Writes what is left and ends the thread. Lines said later are dropped.
    pub fn finish(&self) {
        self.send(Line::End);
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that broke has nothing left to write.
            let _ = writer.join();
        }
    }

    fn send(&self, line: Line) {
        let Err(TrySendError::Full(line)) = self.0.lines.try_send(line) else { return };
        let wait = || {
            // The thread ends only after `finish`: what is said then is dropped.
            let _ = self.0.lines.send(line);
        };
        // Waiting for a slow reader must not keep this thread from other tasks, of which one renews the lease.
        match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

/// Writes until the end; flushes whenever there is nothing more to write at once.
fn write_lines(queue: &Receiver<Line>, mut out: impl Write, mut err: impl FnMut(&str), gone: &CancellationToken) {
    loop {
        let line = match queue.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => Line::End,
            Err(TryRecvError::Empty) => {
                check(out.flush(), &mut err, gone);
                queue.recv().unwrap_or(Line::End)
            }
        };
        match line {
            Line::Out(_) if gone.is_cancelled() => {}
            Line::Out(mut text) => {
                text.push('\n');
                check(out.write_all(text.as_bytes()), &mut err, gone);
            }
            Line::Err(text) => {
                check(out.flush(), &mut err, gone);
                err(&text);
            }
            Line::End => {
                check(out.flush(), &mut err, gone);
                return;
            }
        }
    }
}

/// A stdout that fails once is given up: quietly when its reader has left, with a line when it is something else.
fn check(result: io::Result<()>, err: &mut impl FnMut(&str), gone: &CancellationToken) {
    let Err(error) = result else { return };
    if !gone.is_cancelled() && error.kind() != io::ErrorKind::BrokenPipe {
        err(&format!("cannot write to stdout: {error}"));
    }
    gone.cancel();
}

/// An object's line under `--json`.
#[derive(Serialize)]
struct ObjectLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    key: KeyFields<'a>,
    outcome: Outcome,
    means: Means,
    size_bytes: u64,
    blake3: Option<String>,
    reason: &'a str,
    error: Option<&'a str>,
}

impl<'a> ObjectLine<'a> {
    fn new(object: &'a ObjectReport) -> Self {
        Self {
            kind: "object",
            key: KeyFields::new(&object.key),
            outcome: object.outcome,
            means: object.means,
            size_bytes: object.size_bytes,
            blake3: object.hash.as_ref().map(ToString::to_string),
            reason: &object.reason,
            error: object.error.as_deref(),
        }
    }
}

/// A key in a JSON line, to be flattened: `key` when it is plain text, else `key_base64`.
#[derive(Debug, Serialize)]
pub struct KeyFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

impl<'a> KeyFields<'a> {
    /// The fields of `key`.
    pub fn new(key: &'a ObjectKey) -> Self {
        match key.as_str().filter(|_| key.is_plain_text()) {
            Some(text) => Self { key: Some(text), key_base64: None },
            None => Self { key: None, key_base64: Some(key.to_base64()) },
        }
    }
}

#[cfg(test)]
mod tests;
