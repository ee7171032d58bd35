//! The id under which a request is found in the log.

use std::fmt;
use std::sync::Arc;

use crate::random;

/// Made here for each request; never taken from a client, who could make two requests look like one.
#[derive(Debug, Clone)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    pub(super) fn generate() -> Self {
        Self(random::id()[..16].into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
