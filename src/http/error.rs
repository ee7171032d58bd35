//! What a caller is told when something goes wrong. The one table from the registry's errors to status, code and
//! sentence; `docs/errors.md` is made from it.
//!
//! A sentence is for the person at the terminal: what is wrong and what to do. It never holds a key, a path, a
//! credential or a cause; those are in the log under the request id.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use super::request_id::RequestId;
use crate::auth::{self, Action, Refusal};
use crate::hooks;
use crate::npm::packument::EditError;
use crate::policy::{Cause, Withheld, one_line};
use crate::registry::{Challenge, Error, Refused};
use crate::{storage, upstream};

/// What every refusal of the exchange of identity tokens begins with.
const EXCHANGE_WORDS: &str = "OIDC token exchange error - ";

/// A refusal or failure on its way to the caller.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: &'static Kind,
    /// Replaces the kind's sentence where it can be told more exactly.
    sentence: Option<String>,
    retry_after: Option<Duration>,
    /// `WWW-Authenticate`.
    challenge: Option<&'static str>,
    /// A change that a person has to confirm.
    confirmation: Option<Box<Confirmation>>,
    /// The size of the file that a range was asked of.
    file_bytes: Option<u64>,
    /// What the policy withholds.
    refused: Option<Box<Refused>>,
    /// What the answer is, where it is not the usual JSON.
    form: Option<Box<Form>>,
    /// For the log.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What an answer may be beside the usual JSON.
#[derive(Debug)]
enum Form {
    /// A page of the server whose address this is.
    PageOf(Arc<str>),
    /// The usual JSON with the members of this object.
    With(serde_json::Value),
}

/// A change that a person has to confirm, and, once the page is made, where.
#[derive(Debug)]
struct Confirmation {
    challenge: Challenge,
    page: Option<ConfirmationPage>,
}

/// Where a person confirms a change, and where the client asks whether they have.
#[derive(Debug)]
pub(super) struct ConfirmationPage {
    pub(super) page_url: String,
    pub(super) done_url: String,
    /// The client opens pages by itself; others ask for a code, which the page shows.
    pub(super) is_for_web: bool,
}

/// The code of the error that an answer tells: an extension of the answer, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub(super) &'static str);

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
    ACCOUNT_BLOCKED = "account_blocked", FORBIDDEN, "This account was blocked: ask whoever runs this registry.";
    OTHER_ADDRESS = "other_address", UNAUTHORIZED, "This token may not be used from here: it is bound to other addresses.";
    ONE_TIME_CODE = "one_time_code", UNAUTHORIZED, "This needs a one-time password: type the code of your authenticator app, or confirm in the browser.";
    WRONG_CODE = "wrong_code", BAD_REQUEST, "The one-time code is wrong: type the one that the app shows now.";
    LOCKED = "locked", TOO_MANY_REQUESTS, "Too many wrong tries: wait before the next one.";
    NOT_A_MEMBER = "not_a_member", FORBIDDEN, "This GitHub account is in none of the organisations that may use this registry.";
    GITHUB_TAKES_TOKENS = "github_takes_tokens", UNAUTHORIZED, "GitHub takes no passwords: type a personal access token with the scope `read:org` in place of the password, or run `npm login --auth-type=web`.";
    GITHUB_REFUSED = "github_refused", FORBIDDEN, "GitHub did not let you in: try again.";
    GITHUB_UNAVAILABLE = "github_unavailable", SERVICE_UNAVAILABLE, "GitHub does not answer, so it cannot be known who you are: try again in a moment.";
    NO_GITHUB = "no_github", NOT_FOUND, "This registry does not use GitHub.";
    NO_WEB_LOGIN = "no_web_login", NOT_FOUND, "This registry has no sign-in in the browser: run `npm login --auth-type=legacy`.";
    NAME_IS_TAKEN = "user_name_taken", FORBIDDEN, "Another account here has this name: ask whoever runs this registry.";
    NO_LOGIN = "no_login", NOT_FOUND, "There is no such sign-in, or it has ended: begin again.";
    LOGIN_DENIED = "login_denied", FORBIDDEN, "The sign-in was denied in the browser.";
    NO_INVITATION = "no_invitation", NOT_FOUND, "This invitation is not good: it was used, has ended, or is for another name.";
    NO_PASSWORD_HERE = "no_password_here", FORBIDDEN, "This account is GitHub's: its password and second factor are changed there.";
    PERSONS_ONLY = "persons_only", FORBIDDEN, "This is for accounts, not for CI jobs.";
    IDENTITY_REFUSED = "identity_refused", FORBIDDEN, "The identity token of the CI job was refused.";
    IDENTITY_INVALID = "identity_invalid", UNAUTHORIZED, "The identity token of the CI job is not good.";
    NO_PUBLIC_URL = "no_public_url", FORBIDDEN, "OIDC token exchange error - this registry does not know its own name: whoever runs it has to set `server.public_url`.";
    LIMITED_TOKEN = "limited_token", FORBIDDEN, "This token has limits and cannot manage the account: use one without, or sign in.";
    ISSUER_UNAVAILABLE = "issuer_unavailable", SERVICE_UNAVAILABLE, "The issuer of the identity token does not answer: try again in a moment.";
    TRUSTED_ALREADY = "trusted_already", CONFLICT, "The package trusts this workflow already.";
    NO_TRUST = "no_trust", NOT_FOUND, "The package trusts no workflow under this id.";
    HOOKS_OFF = "hooks_off", FORBIDDEN, "Accounts have no hooks here: whoever runs this registry can set `hooks.enabled = true`, or have places told by sinks (docs/sinks.md).";
    HOOK_NOT_FOUND = "hook_not_found", NOT_FOUND, "You have no hook under this id: `npm hook ls` shows all.";
    BAD_HOOK = "bad_hook", BAD_REQUEST, "The hook cannot be set up so.";
    HOOK_ENDPOINT = "hook_endpoint", FORBIDDEN, "This registry sends nothing to such an address: it has to be https, of the public internet unless `hooks.allow_private` says otherwise, and without a name and a password in it.";
    TOO_MANY_HOOKS = "too_many_hooks", FORBIDDEN, "There are as many hooks as there may be: remove one.";
    MANAGED_ELSEWHERE = "managed_elsewhere", FORBIDDEN, "This cannot be changed from here.";
    NOT_IN_DIRECTORY = "not_in_directory", NOT_FOUND, "GitHub shows you no such organisation or team.";
    NOT_ALLOWED = "not_allowed", FORBIDDEN, "The rules of this registry do not let you do this.";
    ADMINISTRATORS_ONLY = "administrators_only", FORBIDDEN, "This is for administrators: those that `access.admins` names.";
    READ_ONLY_TOKEN = "read_only_token", FORBIDDEN, "This token may only read: use one that may write.";
    OTHER_PACKAGES = "other_packages", FORBIDDEN, "This token is for other packages.";
    NOT_AN_OWNER = "not_an_owner", FORBIDDEN, "Only its owners may change this package: ask one of them to run `npm owner add`.";
    READ_ONLY = "read_only", FORBIDDEN, "Packages cannot be changed here now: whoever runs this registry has set it read-only, or has to set `storage.read_only = false` to take over from codebox.";
    PLAIN_PASSWORD = "plain_password", FORBIDDEN, "A password must not be sent over a plain connection: use https, or declare the proxy in front with `server.trusted_proxies`.";
    VERSION_EXISTS = "version_exists", FORBIDDEN, "You cannot publish over the previously published versions.";
    NAME_TAKEN = "name_taken", FORBIDDEN, "A public package has this name: use a scope, or claim the name with `packages.claims`.";
    NAME_COLLIDES = "name_collides", FORBIDDEN, "The name differs from one in use by case alone: choose another.";
    NOT_HOSTED = "not_hosted", FORBIDDEN, "This package belongs to another registry and cannot be changed here.";
    IMMUTABLE = "immutable", FORBIDDEN, "A published version cannot be changed.";
    PACKAGE_NOT_FOUND = "package_not_found", NOT_FOUND, "There is no such package.";
    VERSION_NOT_FOUND = "version_not_found", NOT_FOUND, "The package has no such version, tag or range.";
    HELD = "held", FORBIDDEN, "The version is too young: this registry holds releases for a while before it offers them.";
    HELD_DEPENDENCY = "held_dependency", FORBIDDEN, "The version newly depends on a package that is held itself.";
    LOOK_ALIKE = "look_alike", FORBIDDEN, "Nobody here has asked for this package before, and its name looks like one in use.";
    MALICIOUS = "malicious", FORBIDDEN, "The version is known to be malicious.";
    VULNERABLE = "vulnerable", FORBIDDEN, "The version is known to be vulnerable.";
    DENIED = "denied", FORBIDDEN, "A rule of this registry withholds the version.";
    NO_UPLOAD_LINKS = "no_upload_links", NOT_FOUND, "This registry takes tarballs in the publish request: publish with `npm publish`, or with `holdfast publish`, which sends them so by itself.";
    NO_UPLOAD = "no_upload", NOT_FOUND, "You have no such upload for this package, or it has ended, or no tarball came by it: begin a new one.";
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
    ANSWER_TOO_LARGE = "answer_too_large", PAYLOAD_TOO_LARGE, "The answer is larger than AWS carries from Lambda (6 MB with what wraps it, 1 MB behind a load balancer), so nothing of it was sent: whoever runs this registry has to let the bucket deliver large files, or run it as a server (docs/lambda.md).";
    RANGE = "range_not_satisfiable", RANGE_NOT_SATISFIABLE, "The file is shorter than the range that was asked for.";
    BUSY = "busy", TOO_MANY_REQUESTS, "Too many sign-ins at once: try again in a moment.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here; the log tells more under this request id.";
    DAMAGED = "damaged", INTERNAL_SERVER_ERROR, "A stored document cannot be read; it was left as it is, and the log tells which.";
    FUNCTION_TIME = "function_time_over", GATEWAY_TIMEOUT, "The time of the function on AWS Lambda was over before the answer was ready: try again; whoever runs this registry may have to give it more (docs/lambda.md).";
    ANSWER_CUT_OFF = "answer_cut_off", BAD_GATEWAY, "The answer broke off before its end, so nothing of it was sent: try again; the log tells why under this request id.";
    DOCUMENT_TOO_LARGE = "document_too_large", INTERNAL_SERVER_ERROR, "A stored document is too large to be served.";
    METRICS_ELSEWHERE = "metrics_elsewhere", FORBIDDEN, "The figures are for this machine only: whoever runs this registry may set `metrics.access`.";
    METRICS_TOKEN = "metrics_token", UNAUTHORIZED, "The figures need the token that is set as `metrics.token`, in `Authorization: Bearer`.";
    UPSTREAM_FAILED = "upstream_failed", BAD_GATEWAY, "The upstream registry failed, and nothing kept here can stand in.";
    UPSTREAM_REFUSED = "upstream_refused", BAD_GATEWAY, "The upstream registry refused the request: check its token in the settings.";
    UPSTREAM_BUSY = "upstream_busy", SERVICE_UNAVAILABLE, "The upstream registry asks to come back later, and nothing kept here can stand in.";
    UPSTREAM_TIMED_OUT = "upstream_timed_out", GATEWAY_TIMEOUT, "The upstream registry did not answer in time.";
    UNRECORDED = "unrecorded", SERVICE_UNAVAILABLE, "The change was made, but the storage failed before it could be written into the record of events, which is done as soon as it answers: look before you try again.";
    UNRECORDED_FULL = "unrecorded_full", INSUFFICIENT_STORAGE, "The change was made, but the storage is full and it could not be written into the record of events, which is done as soon as there is room: look before you try again.";
    STORAGE_UNAVAILABLE = "storage_unavailable", SERVICE_UNAVAILABLE, "The storage does not answer: nothing was changed that was not acknowledged, try again.";
    STORAGE_FULL = "storage_full", INSUFFICIENT_STORAGE, "The storage is full: nothing was changed.";
}

impl ApiError {
    /// An error with its kind's own sentence.
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self {
            kind,
            sentence: None,
            retry_after: None,
            challenge: None,
            confirmation: None,
            file_bytes: None,
            refused: None,
            form: None,
            cause: None,
        }
    }

    /// An error with a sentence of its own.
    pub(super) fn saying(kind: &'static Kind, sentence: impl Into<String>) -> Self {
        Self { sentence: Some(sentence.into()), ..Self::new(kind) }
    }

    /// The same in the words of the exchange of identity tokens: npm shows `message` in its verbose log and nothing else.
    pub(super) fn of_exchange(self) -> Self {
        let (words, sentence) = (EXCHANGE_WORDS, self.sentence());
        let sentence = if sentence.starts_with(words) { sentence.to_owned() } else { format!("{words}{sentence}") };
        Self { sentence: Some(sentence), ..self }
    }

    /// The same where the older system's clients know one status for all that fails in the store.
    pub(super) fn of_store_as_internal(self) -> Self {
        if self.kind.code == STORAGE_UNAVAILABLE.code {
            Self { kind: &INTERNAL, retry_after: None, ..self }
        } else {
            self
        }
    }

    /// The storage takes no writes.
    pub(super) fn not_ready() -> Self {
        Self::new(&STORAGE_UNAVAILABLE).retry_after(None)
    }

    /// The same with further members in its body: those of an object.
    pub(super) fn with_parts(self, parts: serde_json::Value) -> Self {
        Self { form: Some(Box::new(Form::With(parts))), ..self }
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
    pub(super) fn with_challenge(mut self) -> Self {
        self.challenge = Some("Bearer realm=\"holdfast\"");
        self
    }

    /// A change that a person has to confirm. The outermost layer makes the page for it.
    pub(super) fn confirm(challenge: Challenge) -> Self {
        let sentence = if challenge.has_app {
            "This needs a one-time password: type the code that your authenticator app shows."
        } else {
            "This needs your confirmation in the browser, which gives a one-time password."
        };
        let challenged = Self { challenge: Some("OTP"), ..Self::saying(&ONE_TIME_CODE, sentence) };
        Self { confirmation: Some(Box::new(Confirmation { challenge, page: None })), ..challenged }
    }

    /// The change that a page is to be made for.
    pub(super) fn wants_page(&self) -> Option<&Challenge> {
        self.confirmation.as_ref().map(|confirmation| &confirmation.challenge).filter(|challenge| !challenge.has_app)
    }

    /// With the page that was made.
    pub(super) fn with_page(mut self, page: ConfirmationPage) -> Self {
        if let Some(confirmation) = &mut self.confirmation {
            confirmation.page = Some(page);
        }
        self
    }

    /// The same for a person in a browser. The outermost layer makes the page.
    pub(super) fn on_page_of(self, base: &Arc<str>) -> Self {
        Self { form: Some(Box::new(Form::PageOf(Arc::clone(base)))), ..self }
    }

    /// The address of the server whose page tells of it, where a page does.
    pub(super) fn page_of(&self) -> Option<&str> {
        match self.form.as_deref() {
            Some(Form::PageOf(base)) => Some(base),
            _ => None,
        }
    }

    /// Logs the cause.
    pub(super) fn log(&self, id: RequestId) {
        let Some(cause) = &self.cause else { return };
        let cause = &**cause as &dyn std::error::Error;
        if self.kind.status.is_server_error() {
            tracing::error!(request.id = %id, code = self.kind.code, cause, "failed");
        } else {
            tracing::debug!(request.id = %id, code = self.kind.code, cause, "refused");
        }
    }

    /// The code: one of a fixed set.
    pub(super) fn code(&self) -> &'static str {
        self.kind.code
    }

    /// Whether the policy refused.
    pub(super) fn is_of_policy(&self) -> bool {
        self.refused.is_some()
    }

    /// The status, for a page that tells of the error.
    pub(super) fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// The sentence, for a page that tells of the error.
    pub(super) fn sentence(&self) -> &str {
        self.sentence.as_deref().unwrap_or(self.kind.sentence)
    }

    /// The answer, with the id under which the log has the cause.
    pub(super) fn into_response_with(self, id: RequestId) -> Response {
        self.log(id);
        let sentence = self.sentence.unwrap_or_else(|| self.kind.sentence.to_owned());
        // `error` for npm, `message` for yarn, `ok` and `success` for the older system's clients.
        let mut body = serde_json::json!({
            "error": sentence,
            "message": sentence,
            "code": self.kind.code,
            "request_id": id.as_str(),
            "ok": false,
            "success": false,
        });
        if let (Some(Form::With(parts)), Some(members)) = (self.form.as_deref(), body.as_object_mut()) {
            members.extend(parts.as_object().cloned().unwrap_or_default());
        }
        if sentence.starts_with(EXCHANGE_WORDS) {
            // Where pnpm looks for what it tells.
            body["body"] = serde_json::json!({ "message": sentence });
        }
        if let Some(refused) = &self.refused {
            let Withheld { cause: _, rule, reason, available_at, allowed_if } = &refused.withheld;
            body["package"] = refused.name.as_str().into();
            body["version"] = refused.version.as_deref().into();
            body["reason"] = reason.as_str().into();
            body["rule"] = rule.as_str().into();
            body["available_at"] = available_at.map(|at| at.to_string()).into();
            body["allowed_if"] = allowed_if.as_str().into();
        }
        let page = self.confirmation.as_ref().and_then(|confirmation| confirmation.page.as_ref());
        if let Some(page) = page.filter(|page| page.is_for_web) {
            body["authUrl"] = page.page_url.as_str().into();
            body["doneUrl"] = page.done_url.as_str().into();
        }
        let mut response = (self.kind.status, body.to_string()).into_response();
        response.extensions_mut().insert(Code(self.kind.code));
        let headers = response.headers_mut();
        if let Some(page) = page
            && let Ok(notice) =
                HeaderValue::try_from(format!("Open {} to confirm, and to get the one-time password", page.page_url))
        {
            headers.insert("npm-notice", notice);
        }
        // yarn and pnpm show no body of a refused tarball, and npm shows this too.
        if self.refused.is_some()
            && let Ok(notice) = HeaderValue::try_from(one_line(&sentence))
        {
            headers.insert("npm-notice", notice);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        // Whatever ends a sign-in in the browser, npm goes on to ask for a name and a password, and says only this of why.
        if [LOGIN_DENIED.code, NO_LOGIN.code].contains(&self.kind.code)
            && let Ok(notice) = HeaderValue::try_from(&sentence)
        {
            headers.insert("npm-notice", notice);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if let Some(Ok(range)) = self.file_bytes.map(|size| HeaderValue::try_from(format!("bytes */{size}"))) {
            headers.insert(CONTENT_RANGE, range);
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error for the outermost layer, which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.kind.status.into_response();
        response.extensions_mut().insert(Pending(Arc::new(std::sync::Mutex::new(Some(self)))));
        response
    }
}

/// An error that waits for the outermost layer. Extensions must be `Clone`.
#[derive(Clone)]
pub(super) struct Pending(Arc<std::sync::Mutex<Option<ApiError>>>);

impl Pending {
    pub(super) fn take(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// The answer to a known path with an unknown method; keeps the `Allow` that the router made.
pub(super) fn method_not_allowed(allow: Option<&HeaderValue>, id: RequestId) -> Response {
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
            Error::Withheld(refused) => withheld(refused),
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
            Error::NotAllowed { name, action, refusal } => not_allowed(&name, action, refusal),
            Error::OneTimeCode(challenge) => Self::confirm(challenge),
            Error::LimitedToken => Self::new(&LIMITED_TOKEN),
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
            Error::NameCollides { name, other } => Self::saying(
                &NAME_COLLIDES,
                format!("`{name}` differs from `{other}`, which is in use here, by case alone: choose another name."),
            ),
            Error::NotHosted(name) => {
                Self::saying(&NOT_HOSTED, format!("`{name}` belongs to another registry and cannot be changed here."))
            }
            Error::NoUploadLinks => Self::new(&NO_UPLOAD_LINKS),
            Error::UploadNotFound => Self::new(&NO_UPLOAD),
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
            Error::Unrecorded(error) => unrecorded(error),
            Error::Damaged => Self::new(&DAMAGED).because(Error::Damaged),
            Error::DocumentTooLarge(ref name) => Self::saying(
                &DOCUMENT_TOO_LARGE,
                format!("The stored document of `{name}` has too many old tarballs in it to be served: whoever runs this registry has to run `holdfast import codebox`."),
            )
            .because(error),
            Error::HooksOff => Self::new(&HOOKS_OFF),
            Error::Hook(error) => hook(error),
            Error::AdministratorsOnly => Self::new(&ADMINISTRATORS_ONLY),
            Error::ReadOnly => Self::new(&READ_ONLY),
            Error::Search(error) => Self::new(&INTERNAL).because(error),
            Error::Interrupted | Error::Superseded => Self::new(&STORAGE_UNAVAILABLE).retry_after(None).because(error),
        }
    }
}

fn hook(error: hooks::Error) -> ApiError {
    match error {
        hooks::Error::NotFound => ApiError::new(&HOOK_NOT_FOUND),
        hooks::Error::Bad(why) => ApiError::saying(&BAD_HOOK, sentence(&why)),
        hooks::Error::BadEndpoint(why) => ApiError::saying(
            &HOOK_ENDPOINT,
            format!("This registry sends nothing to such an address: the address of a hook {why}."),
        ),
        hooks::Error::TooMany(most) => ApiError::saying(
            &TOO_MANY_HOOKS,
            format!("You have {most} hooks, as many as an account may have: remove one with `npm hook rm`."),
        ),
        hooks::Error::Full(most) => ApiError::saying(
            &TOO_MANY_HOOKS,
            format!(
                "There are {most} hooks, as many as may be: whoever runs this registry can set `hooks.total` higher."
            ),
        ),
        hooks::Error::Store(error) => storage_error(error),
        hooks::Error::Damaged => ApiError::new(&DAMAGED).because(hooks::Error::Damaged),
    }
}

fn withheld(refused: Box<Refused>) -> ApiError {
    let kind = match refused.withheld.cause {
        Cause::Held => &HELD,
        Cause::HeldDependency => &HELD_DEPENDENCY,
        Cause::LookAlike => &LOOK_ALIKE,
        Cause::Malicious => &MALICIOUS,
        Cause::Vulnerable => &VULNERABLE,
        Cause::Denied => &DENIED,
    };
    let Withheld { reason, allowed_if, .. } = &refused.withheld;
    let sentence = match &refused.version {
        Some(version) => format!("{}@{version} is withheld: {reason}. To have it: {allowed_if}.", refused.name),
        None => format!("Every version of {} is withheld: {reason}. To have one: {allowed_if}.", refused.name),
    };
    ApiError { refused: Some(refused), ..ApiError::saying(kind, sentence) }
}

impl From<auth::Error> for ApiError {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::UnknownToken => Self::new(&SIGN_IN_FIRST).with_challenge(),
            // Without a challenge npm prints the sentence.
            auth::Error::WrongPassword => Self::new(&WRONG_PASSWORD),
            auth::Error::Blocked => Self::new(&ACCOUNT_BLOCKED),
            auth::Error::OtherAddress => Self { challenge: Some("ipaddress"), ..Self::new(&OTHER_ADDRESS) },
            auth::Error::OneTimeCode => Self { challenge: Some("OTP"), ..Self::new(&ONE_TIME_CODE) },
            auth::Error::WrongCode => Self::new(&WRONG_CODE),
            auth::Error::NothingPending => {
                Self::saying(&BAD_REQUEST, "No set-up of one-time codes has begun: run `npm profile enable-2fa` again.")
            }
            auth::Error::Locked(wait) => {
                let sentence =
                    format!("Too many wrong tries: wait {} seconds before the next one.", wait.as_secs().max(1));
                Self::saying(&LOCKED, sentence).retry_after(Some(wait))
            }
            auth::Error::Busy => Self::new(&BUSY).retry_after(Some(Duration::from_secs(2))),
            auth::Error::BadName => {
                Self::saying(&BAD_REQUEST, "This user name is not allowed: use letters, digits, `-`, `_` and `.`.")
            }
            auth::Error::NameTaken(name) => Self::saying(
                &NAME_IS_TAKEN,
                format!("Another account here is called `{name}`: ask whoever runs this registry."),
            ),
            auth::Error::BadPassword => Self::saying(&BAD_REQUEST, "The password must have 1 to 1,024 characters."),
            auth::Error::BadProfile => {
                Self::saying(&BAD_REQUEST, "A text in a profile may have 1,024 bytes and no control characters.")
            }
            auth::Error::BadToken(why) | auth::Error::BadTrust(why) => Self::saying(&BAD_REQUEST, sentence(&why)),
            auth::Error::UserNotFound => Self::new(&USER_NOT_FOUND),
            auth::Error::NoPasswordHere => Self::new(&NO_PASSWORD_HERE),
            auth::Error::NoInvitation => Self::new(&NO_INVITATION),
            auth::Error::TrustedAlready => Self::new(&TRUSTED_ALREADY),
            auth::Error::Exchange(error) => exchange(&error),
            auth::Error::Store(error) => storage_error(error),
            auth::Error::Unrecorded(error) => unrecorded(error),
            auth::Error::Damaged => Self::new(&DAMAGED).because(error),
            other => github_or_login(other),
        }
    }
}

/// Signing in at GitHub and in the browser.
fn github_or_login(error: auth::Error) -> ApiError {
    match error {
        auth::Error::NotAMember(login) => ApiError::saying(
            &NOT_A_MEMBER,
            format!(
                "The GitHub account `{login}` is in none of the organisations that may use this registry, or its token cannot show it: let the organisation approve the app, and sign in again."
            ),
        ),
        auth::Error::OtherName(login) => {
            ApiError::saying(&WRONG_PASSWORD, format!("The token is the one of `{login}`: use that as user name."))
        }
        auth::Error::GitHubTakesTokens => ApiError::new(&GITHUB_TAKES_TOKENS),
        auth::Error::GitHubRefused(code) => ApiError::saying(
            &GITHUB_REFUSED,
            format!(
                "GitHub did not let you in (`{}`): try again.",
                code.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "")
            ),
        ),
        auth::Error::GitHubUnavailable { retry_after } => ApiError::new(&GITHUB_UNAVAILABLE).retry_after(retry_after),
        auth::Error::IssuerUnavailable { retry_after } => ApiError::new(&ISSUER_UNAVAILABLE).retry_after(retry_after),
        auth::Error::NoGitHub => ApiError::new(&NO_GITHUB),
        auth::Error::NotInDirectory => ApiError::new(&NOT_IN_DIRECTORY),
        auth::Error::Denied => ApiError::new(&LOGIN_DENIED),
        auth::Error::ForeignBrowser => ApiError::saying(
            &NO_LOGIN,
            "This answer does not belong to a sign-in in this browser, or cookies are switched off: begin again.",
        ),
        auth::Error::OtherPerson { wanted, found } => ApiError::saying(
            &LOGIN_DENIED,
            format!("You are signed in as `{found}`, and `{wanted}` has to confirm this."),
        ),
        _ => ApiError::new(&NO_LOGIN),
    }
}

/// What a CI job is told: npm shows `message` in its verbose log only, so all is in it.
fn exchange(error: &auth::ExchangeError) -> ApiError {
    let kind = match error {
        auth::ExchangeError::UnknownIssuer | auth::ExchangeError::Token(_) | auth::ExchangeError::Replayed => {
            &IDENTITY_INVALID
        }
        auth::ExchangeError::Identity(_)
        | auth::ExchangeError::NothingToRead(_)
        | auth::ExchangeError::NotTrusted(_) => &IDENTITY_REFUSED,
    };
    ApiError::saying(kind, error.to_string()).of_exchange()
}

fn not_allowed(name: &crate::npm::PackageName, action: Action, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NotAnOwner => ApiError::saying(
            &NOT_AN_OWNER,
            format!("Only its owners may change `{name}`: ask one of them to run `npm owner add`."),
        ),
        Refusal::NotInRule => ApiError::saying(
            &NOT_ALLOWED,
            format!("The rules of this registry do not let you {} `{name}`.", action.as_str()),
        ),
        Refusal::ReadOnlyToken => ApiError::new(&READ_ONLY_TOKEN),
        Refusal::OtherPackages => {
            ApiError::saying(&OTHER_PACKAGES, format!("This token is for other packages than `{name}`."))
        }
        Refusal::NotTrusted => {
            ApiError::saying(&NOT_ALLOWED, format!("This job's token does not let it {} `{name}`.", action.as_str()))
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

/// A change that is done and not in the record.
fn unrecorded(error: storage::Error) -> ApiError {
    let kind = if matches!(error, storage::Error::Full(_)) { &UNRECORDED_FULL } else { &UNRECORDED };
    ApiError::new(kind).because(error)
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
