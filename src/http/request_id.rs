//! The id under which a request is found in the log.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::random;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Made here for each request; never taken from a client, who could make two requests look like one.
#[derive(Debug, Clone)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    pub(super) fn generate() -> Self {
        Self(random::id()[..16].into())
    }

    /// Tells the client.
    pub(super) fn write_into(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.insert(HEADER, value);
        }
    }

    /// The id that an answer of ours tells.
    pub(super) fn written_in(headers: &HeaderMap) -> Option<Self> {
        Some(Self(headers.get(HEADER)?.to_str().ok()?.into()))
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
