//! Logs: one line a request and what went wrong, to stderr, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Log;

/// Changes what is logged while the program runs.
pub struct LogLevel(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl LogLevel {
    /// Logs what these settings say from now on. Whether as JSON stays.
    pub fn set(&self, log: &Log) {
        (self.0)(filter(log));
    }
}

/// Starts logging. Does nothing when it was started before.
pub fn start(log: &Log) -> LogLevel {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
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

fn filter(log: &Log) -> EnvFilter {
    // Each repetition of a request to a bucket would be a line; what matters is whether it failed in the end.
    let level =
        if log.level.contains("object_store") { log.level.clone() } else { format!("object_store=warn,{}", log.level) };
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}
