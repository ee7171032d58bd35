//! Writing for people and for scripts. A reader that has gone away (`| head`) is no error.

use std::io::{self, Write as _};

use serde::Serialize;

/// Writes data to stdout.
pub fn data(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes data to stdout as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(data(&serde_json::to_string_pretty(value)?)?)
}

/// Writes a message for people to stderr.
pub fn message(text: &str) {
    // Nobody to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a line to stderr over the one before, for a terminal. The last one stays.
pub fn progress(text: &str, is_last: bool) {
    // `\u{1b}[K` clears what a longer line left.
    let end = if is_last { "\n" } else { "" };
    let _ = write!(io::stderr(), "\r{text}\u{1b}[K{end}");
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
