//! Logs: one line a request and what went wrong, to stderr, as text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::Log;

/// Starts logging. Does nothing when it was started before.
pub fn start(log: &Log) {
    // Each repetition of a request to a bucket would be a line; what matters is whether it failed in the end.
    let level =
        if log.level.contains("object_store") { log.level.clone() } else { format!("object_store=warn,{}", log.level) };
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that a test or an earlier start has set it; then that one stays.
    let _ = if log.json { builder.json().finish().try_init() } else { builder.finish().try_init() };
}
