//! What an error says together with what caused it.

use std::error::Error;

/// An error with its causes, in one line, for a log or an operator.
pub fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
