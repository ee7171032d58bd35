//! How an upstream is reached, and what it may cost.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::{breaker, freshness};
use crate::secret::Secret;

/// One upstream registry. Made with [`Settings::new`], then changed field by field.
#[derive(Clone)]
pub struct Settings {
    /// A short name of lower-case letters, digits and `-`, used in keys and logs.
    pub name: String,
    /// The registry's base, with or without a slash at the end.
    pub url: Url,
    /// Sent as `Authorization: Bearer` to the origin of `url`, and nowhere else.
    pub token: Option<Secret>,
    /// Base64 of `user:password` (npm's `_auth`), sent as `Authorization: Basic` likewise. Not together with `token`.
    pub basic: Option<Secret>,
    /// Hosts beside that of `url` that may have private addresses, such as the file store of a company's mirror. They
    /// get no credentials.
    pub trusted_hosts: Vec<String>,
    /// A proxy for all requests. It resolves names itself, so the check of resolved addresses is then its duty; the
    /// environment's proxy variables are not read here.
    pub proxy: Option<Url>,
    /// Certificates (PEM) to trust beside the system's.
    pub extra_certificates: Option<Bytes>,
    /// For the name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the request to the head of the response, connecting included.
    pub header_timeout: Duration,
    /// Between two chunks of a body. There is no limit on the whole: a large file over a slow line takes its time.
    pub idle_timeout: Duration,
    /// Of a packument, after decompression.
    pub max_packument_bytes: u64,
    /// Of a tarball.
    pub max_tarball_bytes: u64,
    /// Of a search result or an audit report, after decompression.
    pub max_report_bytes: u64,
    /// How often a failed request is repeated.
    pub retries: u32,
    /// The pause before the first repetition; it doubles each time, and half of it is random.
    pub retry_pause: Duration,
    /// The longest `Retry-After` that is waited for. With a longer one the call gives up at once.
    pub max_retry_after: Duration,
    /// When to leave the upstream alone.
    pub breaker: breaker::Settings,
    /// How long its answers are used without asking again.
    pub freshness: freshness::Limits,
}

impl Settings {
    /// Defaults for everything but the name and the address.
    pub fn new(name: impl Into<String>, url: Url) -> Self {
        Self {
            name: name.into(),
            url,
            token: None,
            basic: None,
            trusted_hosts: Vec::new(),
            proxy: None,
            extra_certificates: None,
            connect_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            max_packument_bytes: 64 << 20,
            max_tarball_bytes: 512 << 20,
            max_report_bytes: 16 << 20,
            retries: 2,
            retry_pause: Duration::from_millis(250),
            max_retry_after: Duration::from_secs(5),
            breaker: breaker::Settings::default(),
            freshness: freshness::Limits::default(),
        }
    }
}

impl fmt::Debug for Settings {
    /// Leaves out what may hold a password: a URL prints its user information.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("host", &self.url.host_str())
            .field("token", &self.token)
            .field("basic", &self.basic)
            .finish_non_exhaustive()
    }
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The name is used in object keys.
    #[error(
        "an upstream's name may only have lower-case letters, digits and `-`, and must start with a letter or digit"
    )]
    Name,
    /// Not something that package names can be appended to.
    #[error("an upstream's address must be an http or https URL with a host, without query and fragment")]
    Url,
    /// The address would be printed with them.
    #[error("credentials belong into the upstream's token or basic setting, not into its address")]
    CredentialsInUrl,
    /// Only one of them can be sent.
    #[error("an upstream has either a token or basic credentials, not both")]
    TwoCredentials,
    /// Line breaks and the like.
    #[error("the upstream's credentials have characters that cannot be sent")]
    Credentials,
    /// Neither PEM nor usable.
    #[error("the extra certificates cannot be read")]
    Certificates(#[source] reqwest::Error),
    /// Bad proxy address, or no TLS.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}
