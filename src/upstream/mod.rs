//! Other registries: asking them for packuments, tarballs, search results and audits.
//!
//! This module owns the manners of a client (time limits, retries, a circuit breaker, redirects, credentials) and the
//! distrust of a proxy (sizes, addresses, content). It keeps nothing: [`freshness`] judges what others keep, and
//! [`single_flight`] makes one request of many. It knows no storage and no policy.
//!
//! Invariant: what it returns was checked to be what was asked for, as far as that can be seen without knowing a
//! tarball's integrity; and no caller's credentials can leave through it, since no method takes any.

mod address;
pub mod breaker;
mod client;
mod error;
pub mod freshness;
mod settings;
pub mod single_flight;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use self::client::{Client, Kind, Request, header_text, is_html};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::npm::integrity::sha256_hex;
use crate::npm::signature::SigningKey;
use crate::npm::{Form, PackageName, RawObject, Timestamp, Version};

pub use self::address::{Resolver as PublicResolver, is_public, is_public_host};
pub use self::error::Error;
pub use self::settings::{BuildError, Settings};
pub use self::single_flight::SingleFlight;

/// What npm, pnpm and yarn send to get the abbreviated form.
const ACCEPT_ABBREVIATED: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

/// Documents over this size are read on a thread where that holds up nobody: about a millisecond of work.
const LARGE_DOCUMENT_BYTES: usize = 512 << 10;

/// An upstream registry. Cheap to clone; clones share connections and the circuit breaker.
#[derive(Clone)]
pub struct Upstream {
    client: Arc<Client>,
    cache_name: Arc<str>,
}

/// What lets an upstream say "not modified". Valid for the form and the upstream that they came with, and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The `ETag`, to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified`, to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// The answer to a request for a packument.
#[derive(Debug, Clone)]
pub enum PackumentAnswer {
    /// What the validators came with is still right.
    NotModified,
    /// The document.
    Found(Fetched),
}

/// A packument as the upstream sent it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Decompressed. A JSON object with versions (or the trace of a package that was unpublished), of the asked name.
    pub body: Bytes,
    /// Which form it has, which need not be the one that was asked for.
    pub form: Form,
    /// For the next request.
    pub validators: Validators,
    /// How long the upstream says that it stays right; `None` when it says nothing.
    pub max_age: Option<Duration>,
    /// When it last changed, as it says itself: see [`modified_of`].
    pub modified: Option<Timestamp>,
}

/// A tarball on its way. Nothing of it has been checked but its size.
pub struct TarballBody {
    /// As announced. The stream fails at its end when it held another number of bytes.
    pub content_length: Option<u64>,
    /// The bytes. After an error it ends.
    pub stream: BoxStream<'static, Result<Bytes, Error>>,
}

/// The generations of npm's audit requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditPath {
    /// Names and versions, since npm 7.
    Bulk,
    /// A dependency tree; what npm 6 sends with each install.
    Quick,
    /// A dependency tree; `npm audit` of npm 6, and yarn classic.
    Full,
}

impl AuditPath {
    /// The path under a registry's base, without a slash in front.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bulk => "-/npm/v1/security/advisories/bulk",
            Self::Quick => "-/npm/v1/security/audits/quick",
            Self::Full => "-/npm/v1/security/audits",
        }
    }
}

impl Upstream {
    /// Sets up an upstream. Makes no connection.
    ///
    /// # Errors
    /// When the settings contradict each other or cannot be used.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, BuildError> {
        Self::over(settings, clock, |client| client)
    }

    /// As [`Upstream::new`]; its requests are counted.
    ///
    /// # Errors
    /// As there.
    pub fn measured(settings: Settings, clock: Clock, metrics: Metrics) -> Result<Self, BuildError> {
        Self::over(settings, clock, |client| client.measured_by(metrics))
    }

    fn over(settings: Settings, clock: Clock, change: impl FnOnce(Client) -> Client) -> Result<Self, BuildError> {
        let home = check(&settings)?;
        let cache_name = format!("{}-{}", settings.name, &sha256_hex(home.as_str().as_bytes())[..8]).into();
        Ok(Self { client: Arc::new(change(Client::new(settings, home, clock)?)), cache_name })
    }

    /// Whether it keeps failing and is left alone, but for one request now and then that tries it out.
    pub fn is_left_alone(&self) -> bool {
        self.client.is_left_alone()
    }

    /// The name from the settings.
    pub fn name(&self) -> &str {
        &self.client.settings().name
    }

    /// What this upstream's answers are kept under: its name, with a part that changes with its address. A setting that
    /// is pointed at another registry must not get the old one's packages.
    pub fn cache_name(&self) -> &str {
        &self.cache_name
    }

    /// [`Upstream::cache_name`], to be kept without a copy.
    pub fn shared_cache_name(&self) -> Arc<str> {
        Arc::clone(&self.cache_name)
    }

    /// The registry's base; its path ends with a slash.
    pub fn base(&self) -> &Url {
        self.client.home()
    }

    /// The bounds on the freshness of this upstream's answers, from the settings.
    pub fn freshness(&self) -> freshness::Limits {
        self.client.settings().freshness
    }

    /// Asks for a packument. With validators the answer may be [`PackumentAnswer::NotModified`].
    ///
    /// The form is a wish: some registries have only one. Asking again for the form that did not come is of no use.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such package, [`Error::BadAnswer`] when the answer is not its packument.
    pub async fn packument(
        &self,
        name: &PackageName,
        form: Form,
        validators: Option<&Validators>,
    ) -> Result<PackumentAnswer, Error> {
        let accept = match form {
            Form::Full => Form::Full.media_type(),
            Form::Abbreviated => ACCEPT_ABBREVIATED,
        };
        let mut request = Request::document(Method::GET, self.packument_url(name)?, accept);
        let conditions = validators.map_or(0, |validators| add_conditions(&mut request.headers, validators));
        let answer = self.client.send(&request).await?;
        let headers = answer.response.headers();
        if answer.response.status() == StatusCode::NOT_MODIFIED {
            answer.settle();
            if conditions == 0 {
                return Err(Error::BadAnswer("not modified, though nothing was asked to compare with"));
            }
            return Ok(PackumentAnswer::NotModified);
        }
        if is_html(headers) {
            answer.settle();
            return Err(Error::BadAnswer("a web page in place of a packument"));
        }
        let text = |name: &HeaderName| header_text(headers, name).map(str::to_owned);
        let validators = Validators { etag: text(&header::ETAG), last_modified: text(&header::LAST_MODIFIED) };
        let age_seconds = text(&header::AGE).and_then(|age| age.trim().parse().ok());
        let max_age = text(&header::CACHE_CONTROL).and_then(|control| freshness::max_age(&control, age_seconds));
        let label = text(&header::CONTENT_TYPE).unwrap_or_default();
        let fallback =
            if label.trim_start().starts_with(Form::Abbreviated.media_type()) { Form::Abbreviated } else { form };

        let body = self.client.read(answer, self.client.settings().max_packument_bytes).await?;
        let (found, modified) = if body.len() > LARGE_DOCUMENT_BYTES {
            let (body, name) = (body.clone(), name.clone());
            let inspected = crate::heavy::run(move || inspect(&body, &name)).await;
            inspected.map_err(|_| Error::BadAnswer("a packument that could not be inspected"))??
        } else {
            inspect(&body, name)?
        };
        Ok(PackumentAnswer::Found(Fetched { body, form: found.unwrap_or(fallback), validators, max_age, modified }))
    }

    /// The URL of a tarball from the text that a packument of this upstream has in `dist.tarball`.
    ///
    /// A relative one is taken relative to the packument. One on the upstream's own host that only lacks the `s` of
    /// `https` gets it: registries behind a proxy that ends TLS write such URLs, and npm repairs them likewise.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when the text is not a URL.
    pub fn tarball_url(&self, name: &PackageName, reference: &str) -> Result<Url, Error> {
        let bad = || Error::BadAnswer("a tarball address that is not a URL");
        let mut url = self.packument_url(name)?.join(reference).map_err(|_| bad())?;
        let base = self.base();
        let lacks_tls = url.scheme() == "http" && base.scheme() == "https";
        if lacks_tls && url.host() == base.host() && url.port().is_none() {
            url.set_scheme("https").and_then(|()| url.set_port(base.port())).map_err(|()| bad())?;
        }
        Ok(url)
    }

    /// Starts to fetch a tarball, from whatever host its packument names. Use [`Upstream::tarball_url`] to get the URL.
    ///
    /// # Errors
    /// [`Error::ForbiddenAddress`] when the URL, or a redirect from it, leads into a private network or away from TLS.
    pub async fn tarball(&self, url: &Url) -> Result<TarballBody, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // The integrity is over the file as it is, and its length is to be known.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let request = Request { method: Method::GET, url: url.clone(), headers, body: None, kind: Kind::File };
        let answer = self.client.send(&request).await?;
        if answer.response.status() != StatusCode::OK || is_html(answer.response.headers()) {
            answer.settle();
            return Err(Error::BadAnswer("something else in place of a tarball"));
        }
        // A Content-Encoding in spite of the request is ignored: servers that keep plain files label the compression of
        // the tarball itself so. If it is another one, the integrity will not match.
        let limit = self.client.settings().max_tarball_bytes;
        let content_length = answer.response.content_length();
        if content_length.is_some_and(|length| length > limit) {
            answer.settle();
            return Err(Error::TooLarge { limit });
        }
        Ok(TarballBody { content_length, stream: self.client.stream(answer, limit).boxed() })
    }

    /// Searches. The query is the part after the `?`, passed on as it is; the answer is a JSON object.
    pub async fn search(&self, query: &str) -> Result<Bytes, Error> {
        let mut url = self.url_of("-/v1/search")?;
        url.set_query(Some(query));
        self.service(Request::document(Method::GET, url, "application/json")).await
    }

    /// Asks for known vulnerabilities; the answer is a JSON object. What may leave the house is the caller's to decide:
    /// the body is sent as it is.
    pub async fn audit(&self, path: AuditPath, json_body: Bytes) -> Result<Bytes, Error> {
        let mut request = Request::document(Method::POST, self.url_of(path.as_str())?, "application/json");
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Some(json_body);
        self.service(request).await
    }

    /// The keys that it signs its versions with.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a registry that signs nothing.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, Error> {
        #[derive(serde::Deserialize)]
        struct Answer {
            keys: Vec<SigningKey>,
        }
        let answer =
            self.report(Request::document(Method::GET, self.url_of("-/npm/v1/keys")?, "application/json")).await?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| Error::BadAnswer("keys that cannot be read"))?;
        Ok(answer.keys)
    }

    /// The attestations of a version, a JSON object in npm's wire form.
    pub async fn attestations(&self, name: &PackageName, version: &Version) -> Result<Bytes, Error> {
        let url = self.url_of(&format!("-/npm/v1/attestations/{}@{version}", name.to_path_segment()))?;
        self.report(Request::document(Method::GET, url, "application/json")).await
    }

    /// Finds out whether the upstream answers, and what time it is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it answers but has no ping, which some mirrors have not.
    pub async fn ping(&self) -> Result<Option<Timestamp>, Error> {
        let answer = self.client.send(&Request::document(Method::GET, self.url_of("-/ping")?, "*/*")).await?;
        let date = client::header_text(answer.response.headers(), &header::DATE)
            .and_then(|text| httpdate::parse_http_date(text).ok())
            .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_millis()).ok());
        answer.settle();
        Ok(date.map(Timestamp::from_millis))
    }

    /// What the upstream does as a whole, and not for one package: that it has no such thing is a failure of its.
    async fn service(&self, request: Request) -> Result<Bytes, Error> {
        self.report(request).await.map_err(|error| match error {
            Error::NotFound => Error::BadAnswer("it has no such service"),
            other => other,
        })
    }

    async fn report(&self, request: Request) -> Result<Bytes, Error> {
        let answer = self.client.send(&request).await?;
        if answer.response.status() != StatusCode::OK || is_html(answer.response.headers()) {
            answer.settle();
            return Err(Error::BadAnswer("something else in place of JSON"));
        }
        let body = self.client.read(answer, self.client.settings().max_report_bytes).await?;
        RawObject::parse(&body).map_err(|_| Error::BadAnswer("an answer that is not a JSON object"))?;
        Ok(body)
    }

    fn packument_url(&self, name: &PackageName) -> Result<Url, Error> {
        self.url_of(&name.to_path_segment())
    }

    fn url_of(&self, path: &str) -> Result<Url, Error> {
        self.base().join(path).map_err(|_| Error::BadAnswer("an address that is not a URL"))
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.name()).finish()
    }
}

impl fmt::Debug for TarballBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarballBody").field("content_length", &self.content_length).finish_non_exhaustive()
    }
}

/// Checks the settings, and gives the base URL with a slash at its end.
fn check(settings: &Settings) -> Result<Url, BuildError> {
    let name_character = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if settings.name.is_empty() || settings.name.starts_with('-') || !settings.name.chars().all(name_character) {
        return Err(BuildError::Name);
    }
    let mut home = settings.url.clone();
    if !home.username().is_empty() || home.password().is_some() {
        return Err(BuildError::CredentialsInUrl);
    }
    let is_web = matches!(home.scheme(), "http" | "https") && home.has_host();
    if !is_web || home.query().is_some() || home.fragment().is_some() {
        return Err(BuildError::Url);
    }
    if !home.path().ends_with('/') {
        home.set_path(&format!("{}/", home.path()));
    }
    Ok(home)
}

/// Adds what makes a request conditional, and counts it. The date goes only where there is no tag: it is good to a
/// second only, and a server that knows tags would prefer the tag in any case (RFC 9110, 13.2.2).
fn add_conditions(headers: &mut HeaderMap, validators: &Validators) -> usize {
    let mut put = |name: HeaderName, text: &Option<String>| {
        let value = text.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        value.is_some_and(|value| headers.insert(name, value).is_none())
    };
    let added =
        put(header::IF_NONE_MATCH, &validators.etag) || put(header::IF_MODIFIED_SINCE, &validators.last_modified);
    usize::from(added)
}

/// Whether a body is a packument of this name, which form its content shows, and when it last changed. Reads a large body
/// only once.
fn inspect(body: &[u8], name: &PackageName) -> Result<(Option<Form>, Option<Timestamp>), Error> {
    let document = RawObject::parse(body).map_err(|_| Error::BadAnswer("a packument that is not a JSON object"))?;
    if document.get("name").is_some() && document.text("name").as_deref() != Some(name.as_str()) {
        return Err(Error::BadAnswer("the packument of another package"));
    }
    // What the public registry keeps of a package that is wholly unpublished has no versions.
    let is_unpublished = || document.object("time").is_some_and(|time| time.get("unpublished").is_some());
    // It was read as JSON, so that its first character tells what it is.
    let has_versions = document.get("versions").is_some_and(|versions| versions.get().starts_with('{'));
    if !has_versions && !is_unpublished() {
        return Err(Error::BadAnswer("a document without versions in place of a packument"));
    }
    Ok((Form::of(&document), modified_of(&document)))
}

/// When a packument last changed: `time.modified` of the full form, `modified` of the short one.
pub fn modified_of(document: &RawObject<'_>) -> Option<Timestamp> {
    let text = document.object("time").and_then(|time| time.text("modified")).or_else(|| document.text("modified"));
    text.and_then(|text| text.parse().ok())
}
