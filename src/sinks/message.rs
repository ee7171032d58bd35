//! What goes out in one request, and why it did not arrive.

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;

use crate::npm::integrity::hex;
use crate::secret::Secret;

/// What is sent in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The body.
    pub(super) body: Bytes,
    /// Headers beside its type.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It may arrive another time.
    #[error("{why}")]
    Passing {
        /// For operators.
        why: String,
        /// The sink asked to be left alone for so long.
        wait: Option<Duration>,
    },
    /// It will never be taken.
    #[error("{why}")]
    Lasting {
        /// For operators.
        why: String,
    },
    /// We stop.
    #[error("the server stops")]
    Stopped,
}

impl Failure {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), wait: None }
    }
}

/// HMAC-SHA256 in hex, as in `sha256=…`.
pub(super) fn signature(secret: &Secret, text: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    format!("sha256={}", hex(hmac::sign(&key, text).as_ref()))
}
