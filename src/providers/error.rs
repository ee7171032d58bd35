//! What can go wrong with a provider, in terms of what it says about the caller.

use std::time::Duration;

/// The longest that an OAuth error code is repeated; GitHub's longest has 28 letters.
const MAX_OAUTH_CODE: usize = 64;

/// Why a provider did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The credentials are not (or no longer) good: 401, or 404 where that is how GitHub says "unknown token".
    #[error("the credentials are not good")]
    Rejected,
    /// GitHub wants a one-time code beside the password, or another one than it got.
    #[error("a one-time code is needed")]
    OneTimeCode,
    /// There is no such thing (404, 410), as far as these credentials may see.
    #[error("there is no such thing")]
    NotFound,
    /// 403 that is no rate limit: a missing scope, single sign-on that is not authorised, an organisation that has not
    /// approved the app.
    #[error("the credentials do not suffice")]
    Forbidden,
    /// A rate limit, primary or secondary.
    #[error("the provider asks to come back later")]
    Limited {
        /// How long it wants to be left alone, when it said so; an hour at most.
        retry_after: Option<Duration>,
    },
    /// It did not connect or answer in time.
    #[error("the provider did not answer in time")]
    Timeout,
    /// It cannot be reached, answered 5xx, or broke off. The text is for the log; it holds no URL.
    #[error("the provider is not available: {0}")]
    Unavailable(String),
    /// It answered something that cannot be the answer, or something that only our own settings can be the cause of.
    #[error("the provider gave a bad answer: {0}")]
    BadAnswer(&'static str),
    /// An OAuth error code such as `access_denied`, `expired_token` or `bad_verification_code`: letters, digits and `_`,
    /// 64 at most, whatever was sent.
    #[error("the provider refused with `{0}`")]
    OAuth(String),
}

impl Error {
    /// True when this says nothing about the caller, so that what was known of them before need not be forgotten.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Rejected | Self::OneTimeCode | Self::NotFound | Self::Forbidden | Self::OAuth(_) => false,
            // A broken answer is what a captive portal or a wrong setting looks like from here.
            Self::Limited { .. } | Self::Timeout | Self::Unavailable(_) | Self::BadAnswer(_) => true,
        }
    }

    /// How long the provider wants to be left alone, when it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// An OAuth error with what may be repeated of its code.
    pub(super) fn oauth(code: &str) -> Self {
        let is_safe = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '_';
        let code: String = code.chars().filter(is_safe).take(MAX_OAUTH_CODE).collect();
        Self::OAuth(if code.is_empty() { "unknown".to_owned() } else { code })
    }
}

/// Why a provider cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not something that paths can be appended to.
    #[error("GitHub's address must be an http or https URL with a host, without query and fragment")]
    Url,
    /// Tokens and passwords would cross a network in the open.
    #[error("GitHub's address must be https, except on this machine itself")]
    PlainHttp,
    /// The address would be printed with them.
    #[error("credentials do not belong into GitHub's address")]
    CredentialsInUrl,
    /// It becomes part of paths.
    #[error("the client ID of the GitHub app may only have letters, digits, `.`, `_` and `-`")]
    ClientId,
    /// Line breaks and the like, or nothing at all.
    #[error("the GitHub app's secret or the service token is empty or has characters that cannot be sent")]
    Credentials,
    /// No TLS.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}
