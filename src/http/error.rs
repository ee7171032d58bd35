//! What a caller is told when something goes wrong. The one table from the registry's errors to status, code and
//! sentence; `docs/errors.md` is made from it.
//!
//! A sentence is for the person at the terminal: what is wrong and what to do. It never holds a key, a path, a
//! credential or a cause; those are in the log under the request id.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::request_id::RequestId;
use crate::auth;
use crate::npm::packument::EditError;
use crate::registry::Error;
use crate::{storage, upstream};

/// A refusal or failure on its way to the caller.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: &'static Kind,
    /// Replaces the kind's sentence where it can be told more exactly.
    sentence: Option<String>,
    retry_after: Option<Duration>,
    challenge: bool,
    /// The size of the file that a range was asked of.
    file_bytes: Option<u64>,
    /// For the log.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// One line of the table.
#[derive(Debug)]
pub struct Kind {
    /// Stable, for scripts.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// What it means and what to do, as `docs/errors.md` and, where nothing more exact is known, the answer say it.
    pub sentence: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:ident, $sentence:literal;)*) => {
        $(pub(super) static $name: Kind = Kind { code: $code, status: StatusCode::$status, sentence: $sentence };)*
        /// Every error there is, in the order of `docs/errors.md`.
        pub static KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    BAD_REQUEST = "bad_request", BAD_REQUEST, "The request cannot be understood.";
    BAD_NAME = "bad_name", BAD_REQUEST, "This is not a valid package name.";
    BAD_TAG = "bad_tag", BAD_REQUEST, "This is not a valid dist-tag.";
    BAD_VERSION = "bad_version", BAD_REQUEST, "This is not a valid version.";
    BAD_DOCUMENT = "bad_document", BAD_REQUEST, "The body is not what this address expects.";
    BAD_TARBALL = "bad_tarball", UNPROCESSABLE_ENTITY, "The tarball is not a valid npm package.";
    MANIFEST_MISMATCH = "manifest_mismatch", UNPROCESSABLE_ENTITY, "The published document does not match the package.json in the tarball.";
    SIGN_IN_FIRST = "sign_in_first", UNAUTHORIZED, "This needs an account, and no valid token was sent: run `npm login` for this registry.";
    WRONG_PASSWORD = "wrong_password", UNAUTHORIZED, "The user name or the password is wrong.";
    NOT_AN_OWNER = "not_an_owner", FORBIDDEN, "Only its owners may change this package: ask one of them to run `npm owner add`.";
    REGISTRATION_CLOSED = "registration_closed", FORBIDDEN, "There is no such account, and this registry takes no new ones: ask whoever runs it.";
    PLAIN_PASSWORD = "plain_password", FORBIDDEN, "A password must not be sent over a plain connection: use https, or declare the proxy in front with `server.trusted_proxies`.";
    VERSION_EXISTS = "version_exists", FORBIDDEN, "You cannot publish over the previously published versions.";
    NAME_TAKEN = "name_taken", FORBIDDEN, "A public package has this name: use a scope, or claim the name with `packages.claims`.";
    NOT_HOSTED = "not_hosted", FORBIDDEN, "This package belongs to another registry and cannot be changed here.";
    IMMUTABLE = "immutable", FORBIDDEN, "A published version cannot be changed.";
    PACKAGE_NOT_FOUND = "package_not_found", NOT_FOUND, "There is no such package.";
    VERSION_NOT_FOUND = "version_not_found", NOT_FOUND, "The package has no such version, tag or range.";
    FILE_NOT_FOUND = "file_not_found", NOT_FOUND, "The package has no such file.";
    NO_ATTESTATIONS = "no_attestations", NOT_FOUND, "No provenance was published with this version.";
    USER_NOT_FOUND = "user_not_found", NOT_FOUND, "There is no such user.";
    TOKEN_NOT_FOUND = "token_not_found", NOT_FOUND, "There is no such token.";
    NO_ROUTE = "no_route", NOT_FOUND, "This registry has nothing at this address.";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "This address does not take this method.";
    MISDIRECTED = "misdirected", MISDIRECTED_REQUEST, "This registry serves this machine only: to open it, set `server.public_url` or `server.trusted_proxies`.";
    TIMED_OUT = "timed_out", REQUEST_TIMEOUT, "The request body stopped arriving: check the connection and try again.";
    CONFLICT = "conflict", CONFLICT, "The package was changed by somebody else meanwhile: read it again and repeat.";
    LAST_OWNER = "last_owner", BAD_REQUEST, "A package needs at least one owner.";
    LATEST_TAG = "latest_tag", BAD_REQUEST, "The tag `latest` cannot be removed, only moved to another version.";
    TOO_LARGE = "too_large", PAYLOAD_TOO_LARGE, "The request is larger than this registry accepts.";
    RANGE = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, "The file is shorter than the range that was asked for.";
    BUSY = "busy", TOO_MANY_REQUESTS, "Too many sign-ins at once: try again in a moment.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here; the log tells more under this request id.";
    DAMAGED = "damaged", INTERNAL_SERVER_ERROR, "A stored document cannot be read; it was left as it is, and the log tells which.";
    UPSTREAM_FAILED = "upstream_failed", BAD_GATEWAY, "The upstream registry failed, and nothing kept here can stand in.";
    UPSTREAM_REFUSED = "upstream_refused", BAD_GATEWAY, "The upstream registry refused the request: check its token in the settings.";
    UPSTREAM_BUSY = "upstream_busy", SERVICE_UNAVAILABLE, "The upstream registry asks to come back later, and nothing kept here can stand in.";
    UPSTREAM_TIMED_OUT = "upstream_timed_out", GATEWAY_TIMEOUT, "The upstream registry did not answer in time.";
    STORAGE_UNAVAILABLE = "storage_unavailable", SERVICE_UNAVAILABLE, "The storage does not answer: nothing was changed that was not acknowledged, try again.";
    STORAGE_FULL = "storage_full", INSUFFICIENT_STORAGE, "The storage is full: nothing was changed.";
}

impl ApiError {
    /// An error with its kind's own sentence.
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self { kind, sentence: None, retry_after: None, challenge: false, file_bytes: None, cause: None }
    }

    /// An error with a sentence of its own.
    pub(super) fn saying(kind: &'static Kind, sentence: impl Into<String>) -> Self {
        Self { sentence: Some(sentence.into()), ..Self::new(kind) }
    }

    fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    fn retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = Some(after.unwrap_or(Duration::from_secs(5)));
        self
    }

    /// A range that a file of this size does not have.
    pub(super) fn beyond(size_bytes: u64) -> Self {
        Self { file_bytes: Some(size_bytes), ..Self::new(&RANGE) }
    }

    /// npm shows its advice to log in on a 401 with a challenge, and the sentence on one without.
    fn with_challenge(mut self) -> Self {
        self.challenge = true;
        self
    }

    /// The answer, with the id under which the log has the cause.
    pub(super) fn into_response_with(self, id: &RequestId) -> Response {
        let sentence = self.sentence.unwrap_or_else(|| self.kind.sentence.to_owned());
        if let Some(cause) = &self.cause {
            if self.kind.status.is_server_error() {
                tracing::error!(request.id = %id, code = self.kind.code, cause = &**cause as &dyn std::error::Error, "failed");
            } else {
                tracing::debug!(request.id = %id, code = self.kind.code, cause = &**cause as &dyn std::error::Error, "refused");
            }
        }
        // `error` for npm, `message` for yarn, `ok` and `success` for the older system's clients.
        let body = serde_json::json!({
            "error": sentence,
            "message": sentence,
            "code": self.kind.code,
            "request_id": id.as_str(),
            "ok": false,
            "success": false,
        });
        let mut response = (self.kind.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(Ok(range)) = self.file_bytes.map(|size| HeaderValue::try_from(format!("bytes */{size}"))) {
            headers.insert(CONTENT_RANGE, range);
        }
        if self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"holdfast\""));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error for the outermost layer, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.kind.status.into_response();
        response.extensions_mut().insert(Pending(std::sync::Arc::new(std::sync::Mutex::new(Some(self)))));
        response
    }
}

/// An error that waits for the outermost layer. Extensions must be `Clone`.
#[derive(Clone)]
pub(super) struct Pending(std::sync::Arc<std::sync::Mutex<Option<ApiError>>>);

impl Pending {
    pub(super) fn take(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// The answer to a known path with an unknown method; keeps the `Allow` that the router made.
pub(super) fn method_not_allowed(allow: Option<&HeaderValue>, id: &RequestId) -> Response {
    let mut response = ApiError::new(&METHOD_NOT_ALLOWED).into_response_with(id);
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow.clone());
    }
    response
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::PackageNotFound(name) => {
                Self::saying(&PACKAGE_NOT_FOUND, format!("There is no package `{name}` here."))
            }
            Error::VersionNotFound { name, wanted } => {
                Self::saying(&VERSION_NOT_FOUND, format!("`{name}` has no version, tag or range `{wanted}`."))
            }
            Error::TarballNotFound { name, file } => {
                Self::saying(&FILE_NOT_FOUND, format!("`{name}` has no file `{file}`."))
            }
            Error::NoAttestations { name, version } => {
                Self::saying(&NO_ATTESTATIONS, format!("No provenance was published with `{name}@{version}`."))
            }
            Error::Name(error) => Self::saying(&BAD_NAME, sentence(&error)),
            Error::Tag(error) => Self::saying(&BAD_TAG, sentence(&error)),
            Error::BadVersion(text) => Self::saying(&BAD_VERSION, format!("`{text}` is not a valid semantic version.")),
            Error::SignInFirst => Self::new(&SIGN_IN_FIRST).with_challenge(),
            Error::NotAnOwner(name) => Self::saying(
                &NOT_AN_OWNER,
                format!("Only its owners may change `{name}`: ask one of them to run `npm owner add`."),
            ),
            // npm's own words: scripts look for them.
            Error::VersionExists { version, .. } => Self::saying(
                &VERSION_EXISTS,
                format!("You cannot publish over the previously published versions: {version}."),
            ),
            Error::LostRace { name, version } => Self::saying(
                &CONFLICT,
                format!("`{name}@{version}` was published by somebody else at the same moment."),
            ),
            Error::NameTakenUpstream(name) => Self::saying(
                &NAME_TAKEN,
                format!(
                    "A public package is called `{name}`: publish under a scope, or claim the name with `packages.claims`."
                ),
            ),
            Error::NotHosted(name) => {
                Self::saying(&NOT_HOSTED, format!("`{name}` belongs to another registry and cannot be changed here."))
            }
            Error::Invalid(why) => Self::saying(&BAD_DOCUMENT, sentence(&why)),
            Error::Disagreement { field } => Self::saying(
                &MANIFEST_MISMATCH,
                format!(
                    "The document and the package.json in the tarball have different `{field}`: publish from a clean directory."
                ),
            ),
            Error::Body(error) if error.is_limit() => Self::saying(&TOO_LARGE, sentence(&error)),
            Error::Body(error) => Self::saying(&BAD_DOCUMENT, sentence(&error)),
            Error::Tarball(error) if error.is_limit() => Self::saying(&TOO_LARGE, sentence(&error)),
            Error::Tarball(error) => Self::saying(&BAD_TARBALL, sentence(&error)),
            Error::Edit(error) => edit(error),
            Error::UserNotFound(user) => Self::saying(&USER_NOT_FOUND, format!("There is no user `{user}` here.")),
            Error::Auth(error) => error.into(),
            Error::Upstream(error) => upstream_error(error),
            Error::Storage(error) => storage_error(error),
            Error::Damaged => Self::new(&DAMAGED).because(Error::Damaged),
            Error::Search(error) => Self::new(&INTERNAL).because(error),
            Error::Interrupted | Error::Superseded => Self::new(&STORAGE_UNAVAILABLE).retry_after(None).because(error),
        }
    }
}

impl From<auth::Error> for ApiError {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::UnknownToken => Self::new(&SIGN_IN_FIRST).with_challenge(),
            // Without a challenge npm prints the sentence.
            auth::Error::WrongPassword => Self::new(&WRONG_PASSWORD),
            auth::Error::RegistrationClosed => Self::new(&REGISTRATION_CLOSED),
            auth::Error::BadName => {
                Self::saying(&BAD_REQUEST, "This user name is not allowed: use letters, digits, `-`, `_` and `.`.")
            }
            auth::Error::BadPassword => Self::saying(&BAD_REQUEST, "The password must have 1 to 1,024 characters."),
            auth::Error::Busy => Self::new(&BUSY).retry_after(Some(Duration::from_secs(2))),
            auth::Error::Store(error) => storage_error(error),
            auth::Error::Damaged => Self::new(&DAMAGED).because(error),
        }
    }
}

fn edit(error: EditError) -> ApiError {
    match error {
        EditError::VersionTaken(version) => ApiError::saying(
            &VERSION_EXISTS,
            format!("You cannot publish over the previously published versions: {version}."),
        ),
        EditError::NoSuchVersion(version) => {
            ApiError::saying(&VERSION_NOT_FOUND, format!("The package has no version `{version}`."))
        }
        EditError::LatestTag => ApiError::new(&LATEST_TAG),
        EditError::NoOwner => ApiError::new(&LAST_OWNER),
        EditError::StaleRevision => ApiError::new(&CONFLICT),
        EditError::NotFound => ApiError::new(&PACKAGE_NOT_FOUND),
        EditError::Immutable { version, field } => ApiError::saying(
            &IMMUTABLE,
            format!("The published version `{version}` cannot get another `{field}`: publish a new version."),
        ),
        EditError::Damaged => ApiError::new(&DAMAGED).because(error),
    }
}

fn upstream_error(error: upstream::Error) -> ApiError {
    use upstream::Error as E;
    let answer = match &error {
        E::NotFound => return ApiError::new(&PACKAGE_NOT_FOUND),
        E::Refused { status } => ApiError::saying(
            &UPSTREAM_REFUSED,
            format!(
                "The upstream registry refused this with status {status}; if it needs a token, check the settings."
            ),
        ),
        E::Timeout => ApiError::new(&UPSTREAM_TIMED_OUT),
        E::Throttled { retry_after } => ApiError::new(&UPSTREAM_BUSY).retry_after(*retry_after),
        E::CircuitOpen { retry_after } => ApiError::saying(
            &UPSTREAM_FAILED,
            "The upstream registry failed repeatedly and is left alone for a moment; nothing kept here can stand in.",
        )
        .retry_after(Some(*retry_after)),
        E::BadAnswer(_) | E::TooLarge { .. } | E::Unavailable(_) | E::ForbiddenAddress => {
            ApiError::saying(&UPSTREAM_FAILED, format!("{}.", capitalised(&public_words(&error))))
        }
    };
    answer.because(error)
}

/// The error in words that give no address away.
fn public_words(error: &upstream::Error) -> String {
    match error {
        upstream::Error::Unavailable(_) => {
            "the upstream registry cannot be reached, and nothing kept here can stand in".to_owned()
        }
        other => other.to_string(),
    }
}

fn storage_error(error: storage::Error) -> ApiError {
    match &error {
        storage::Error::Full(_) => ApiError::new(&STORAGE_FULL),
        _ => ApiError::new(&STORAGE_UNAVAILABLE).retry_after(None),
    }
    .because(error)
}

fn sentence(error: &impl ToString) -> String {
    format!("{}.", capitalised(&error.to_string()))
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
