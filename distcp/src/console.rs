//! What the two binaries share towards people and scripts: options, output, progress, logging, signals, exit codes.
//!
//! The only part of this crate that reads the process environment, prints or ends the process; the library below it never
//! does. It decides nothing about data: a crash here loses lines on a screen.

mod arenas;
pub mod args;
pub mod completions;
pub mod demo;
pub mod environment;
pub mod exit;
pub mod help;
pub mod logging;
pub mod man;
pub mod output;
pub mod program;
pub mod progress;
pub mod shell;
pub mod signals;
