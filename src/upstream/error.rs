//! What can go wrong with an upstream, in terms of what the caller can do about it.

use std::time::Duration;

/// Why an upstream did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It says that there is no such thing (404, 410).
    #[error("the upstream has no such package or file")]
    NotFound,
    /// It refused: 401, 403 and every other 4xx.
    #[error("the upstream refused with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// It asks us to slow down (429), or to come back later (503 with `Retry-After`).
    #[error("the upstream asks to come back later")]
    Throttled {
        /// How long it wants to be left alone, when it said so.
        retry_after: Option<Duration>,
    },
    /// It cannot be reached, answered 5xx, or broke off. The text is for the log; it holds no URL.
    #[error("the upstream is not available: {0}")]
    Unavailable(String),
    /// It did not connect, answer or go on sending in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// Its answer is larger than we take.
    #[error("the upstream's answer is larger than {limit} bytes")]
    TooLarge {
        /// In bytes, after decompression.
        limit: u64,
    },
    /// It answered something that cannot be what was asked for.
    #[error("the upstream gave a bad answer: {0}")]
    BadAnswer(&'static str),
    /// It pointed to an address that we do not go to.
    #[error("the upstream pointed to an address that is not allowed")]
    ForbiddenAddress,
    /// It failed so often that it is left alone for a while.
    #[error("the upstream failed repeatedly and is not asked for a while")]
    CircuitOpen {
        /// How long.
        retry_after: Duration,
    },
}

impl Error {
    /// True when this says nothing of the thing that was asked for, so that a stale copy may be served in its place.
    /// False for 4xx: then the upstream decided, and a stale copy would overrule it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound | Self::Refused { .. } => false,
            Self::Throttled { .. }
            | Self::Unavailable(_)
            | Self::Timeout
            | Self::TooLarge { .. }
            | Self::BadAnswer(_)
            // What a captive portal or a hijacked name looks like from here.
            | Self::ForbiddenAddress
            | Self::CircuitOpen { .. } => true,
        }
    }

    /// What came of a request, in a word of a small set.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotFound => "absent",
            Self::Refused { .. } => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
            Self::Timeout => "timeout",
            Self::TooLarge { .. } | Self::BadAnswer(_) | Self::ForbiddenAddress => "bad_answer",
            Self::CircuitOpen { .. } => "left_alone",
        }
    }

    /// True for what opens the circuit breaker: signs that the upstream as a whole is in trouble.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }
}
