//! Writing for people and for scripts. A reader that has gone away (`| head`) is no error.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Writes data to stdout.
pub fn data(text: &str) -> io::Result<()> {
    line(text).map(|_| ())
}

/// Writes a line of data to stdout. False when nobody reads any more.
pub fn line(text: &str) -> io::Result<bool> {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether data goes to a person's terminal.
pub fn is_for_eyes() -> bool {
    io::stdout().is_terminal()
}

/// Writes data to stdout as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(data(&serde_json::to_string_pretty(value)?)?)
}

/// Writes data to stdout as one line of JSON, for what may be many.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(data(&serde_json::to_string(value)?)?)
}

/// Writes a report to stdout, as JSON or for people.
pub fn report(value: &impl Serialize, as_json: bool, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    if as_json { json(value) } else { Ok(data(&text())?) }
}

/// Stdout, for data that is no text.
pub fn stdout() -> Box<dyn io::Write + Send> {
    Box::new(io::stdout())
}

/// Stdin, for data that is no text.
pub fn stdin() -> Box<dyn io::Read + Send> {
    Box::new(io::stdin())
}

/// Writes a message for people to stderr.
pub fn message(text: &str) {
    // Nobody to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// How far long work has got, on stderr: one line that changes on a terminal, else a line now and then.
#[derive(Debug)]
pub struct Progress {
    /// What is counted: `packages`.
    unit: &'static str,
    is_terminal: bool,
    told_at: Option<Instant>,
}

impl Progress {
    /// Nothing is said before the first step.
    pub fn of(unit: &'static str) -> Self {
        Self { unit, is_terminal: io::stderr().is_terminal(), told_at: None }
    }

    /// So many are done, of so many where that is known, and this one is next.
    pub fn step(&mut self, done: u64, of: Option<u64>, next: &dyn fmt::Display) {
        let pause = if self.is_terminal { Duration::from_millis(100) } else { Duration::from_secs(10) };
        if self.told_at.is_some_and(|told_at| told_at.elapsed() < pause) {
            return;
        }
        self.told_at = Some(Instant::now());
        let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
        let unit = self.unit;
        if self.is_terminal {
            // `\u{1b}[K` clears what a longer line left.
            let _ = write!(io::stderr(), "\r{done}{of} {unit}: {next}\u{1b}[K");
        } else {
            message(&format!("holdfast: {done}{of} {unit} are done"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal && self.told_at.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// Tells what stopped a command: the error, its causes, and what to do where that is known.
pub fn failure(error: &anyhow::Error, advice: Option<&str>) {
    message(&format!("holdfast: {error}"));
    for cause in error.chain().skip(1) {
        message(&format!("  because: {cause}"));
    }
    if let Some(advice) = advice {
        message(&format!("  {advice}"));
    }
}

/// A table with columns as wide as they need to be.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}
