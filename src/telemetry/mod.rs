//! Logs: one line a request and what went wrong, to stderr, as text or JSON.

mod output;
mod request_line;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use request_line::{Answered, answered};

use crate::settings::Log;

/// How lines look that are collected; nothing where none are.
static FORM: OnceLock<Form> = OnceLock::new();

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// Text, for a terminal.
    Coloured,
    Json,
}

/// When lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// Each at once.
    AtOnce,
    /// By a thread of its own, a few milliseconds later: for servers. End with [`flush`].
    Collected,
}

/// Changes what is logged while the program runs.
pub struct LogLevel(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl LogLevel {
    /// Logs what these settings say from now on. Whether as JSON stays.
    pub fn set(&self, log: &Log) {
        (self.0)(filter(log));
    }
}

/// Starts logging. Does nothing when it was started before.
pub fn start(log: &Log, lines: Lines) -> LogLevel {
    let is_coloured = std::io::stderr().is_terminal();
    if lines == Lines::Collected {
        FORM.get_or_init(|| match log.json {
            true => Form::Json,
            false if is_coloured => Form::Coloured,
            false => Form::Text,
        });
        output::collect();
    }
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter(log)).with_writer(|| output::Output).with_ansi(is_coloured);
    // An error means that a test or an earlier start has set it; then that one stays.
    if log.json {
        let builder = builder.json().with_filter_reloading();
        let level = builder.reload_handle();
        let _ = builder.finish().try_init();
        LogLevel(Box::new(move |filter| drop(level.reload(filter))))
    } else {
        let builder = builder.with_filter_reloading();
        let level = builder.reload_handle();
        let _ = builder.finish().try_init();
        LogLevel(Box::new(move |filter| drop(level.reload(filter))))
    }
}

/// Waits until every line that was logged is written. For the end of the process.
pub fn flush() {
    output::flush();
}

fn form() -> Option<Form> {
    FORM.get().copied()
}

fn filter(log: &Log) -> EnvFilter {
    // Each repetition of a request to a bucket would be a line; what matters is whether it failed in the end.
    let level =
        if log.level.contains("object_store") { log.level.clone() } else { format!("object_store=warn,{}", log.level) };
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}
