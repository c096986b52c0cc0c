//! Log lines on stderr, as text or JSON, by `-v` and `-q`.
//!
//! Only our own crates are heard below warnings: what HTTP libraries say in detail holds headers, and headers hold
//! credentials. Never reads a filter from the environment for the same reason.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, registry};

use super::args::{GlobalArgs, LogFormat};
use super::progress::Screen;

/// The crates whose details may be logged.
const OURS: [&str; 3] = ["manifest", "distcp", "metasync"];

/// Starts logging. A second call changes nothing.
pub fn start(args: &GlobalArgs, screen: &Screen) {
    let writer = LogWriter(screen.clone());
    let layer = match args.log_format {
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(writer).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    // An embedding test that has set a subscriber of its own keeps it.
    let _ = registry().with(layer.with_filter(filter(args.verbose, args.quiet))).try_init();
}

/// What is logged: our own crates by level, others from warnings on.
fn filter(verbose: u8, quiet: bool) -> Targets {
    let (ours, others) = match (quiet, verbose) {
        (true, _) => (LevelFilter::ERROR, LevelFilter::ERROR),
        (false, 0 | 1) => (LevelFilter::WARN, LevelFilter::ERROR),
        (false, 2) => (LevelFilter::INFO, LevelFilter::WARN),
        (false, 3) => (LevelFilter::DEBUG, LevelFilter::WARN),
        (false, _) => (LevelFilter::TRACE, LevelFilter::WARN),
    };
    Targets::new().with_default(others).with_targets(OURS.map(|target| (target, ours)))
}

/// Writes whole log lines to the screen, beside whatever bars it shows.
#[derive(Clone)]
struct LogWriter(Screen);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.line(String::from_utf8_lossy(bytes).trim_end_matches('\n'));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_follow_the_options_and_others_are_never_heard_in_detail() {
        let table = [
            (0, true, "distcp", Level::WARN, false),
            (0, true, "distcp", Level::ERROR, true),
            (0, false, "distcp::store", Level::WARN, true),
            (0, false, "distcp", Level::INFO, false),
            (2, false, "distcp", Level::INFO, true),
            (3, false, "manifest::state", Level::DEBUG, true),
            (9, false, "distcp", Level::TRACE, true),
            (9, false, "hyper", Level::DEBUG, false),
            (9, false, "object_store", Level::WARN, true),
        ];
        for (verbose, quiet, target, level, heard) in table {
            assert_eq!(filter(verbose, quiet).would_enable(target, &level), heard, "-v x{verbose} {target} {level}");
        }
    }
}
