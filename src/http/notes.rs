//! What is found out about a request on its way in, for its line in the log and for the figures.

use std::sync::{Arc, OnceLock};

use crate::auth::Caller;

/// An extension of a request, written by the layers below and read by the outermost one. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Noted>);

#[derive(Default)]
struct Noted {
    /// The line of the route table.
    line: OnceLock<usize>,
    caller: OnceLock<String>,
}

impl Notes {
    /// The first line of the table that was taken is the one.
    pub(super) fn takes_line(&self, line: usize) {
        self.0.line.get_or_init(|| line);
    }

    /// Whom the credentials of the request belong to.
    pub(super) fn comes_from(&self, caller: &Caller) {
        if let Some(name) = caller.name() {
            self.0.caller.get_or_init(|| name);
        }
    }

    pub(super) fn line(&self) -> Option<usize> {
        self.0.line.get().copied()
    }

    /// The caller's name, where the request needed one and brought one that is known.
    pub(super) fn caller(&self) -> Option<&str> {
        self.0.caller.get().map(String::as_str)
    }
}
