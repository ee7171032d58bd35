//! From the parts of a request to values that are checked once.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::error::{ApiError, BAD_NAME, BAD_REQUEST, PERSONS_ONLY, PLAIN_PASSWORD, TIMED_OUT, TOO_LARGE};
use super::notes::Notes;
use super::origin::Origin;
use crate::app::App;
use crate::auth::{self, Caller, Credentials, OneTimeCode, Presented, Token};
use crate::npm::PackageName;
use crate::registry;

/// A body that comes more slowly than this, on the whole, is sent by somebody who wants to keep a connection busy.
const MIN_BODY_BYTES_PER_SECOND: u64 = 1024;

/// Path segments, decoded once, as texts.
async fn segments(parts: &mut Parts, app: &App) -> Result<Vec<(String, String)>, ApiError> {
    Path::<Vec<(String, String)>>::from_request_parts(parts, app)
        .await
        .map(|Path(segments)| segments)
        .map_err(|_| ApiError::new(&BAD_REQUEST))
}

fn segment<'a>(segments: &'a [(String, String)], name: &str) -> Result<&'a str, ApiError> {
    let found = segments.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    checked(name, found.ok_or_else(|| ApiError::new(&BAD_REQUEST))?)
}

/// A segment as it stands in a path, decoded once.
fn decoded(segment: &str) -> Result<Cow<'_, str>, ApiError> {
    percent_decode_str(segment).decode_utf8().map_err(|_| ApiError::new(&BAD_REQUEST))
}

/// A decoded segment, unless nothing of that kind has its place in a path.
fn checked<'a>(name: &str, value: &'a str) -> Result<&'a str, ApiError> {
    // Control characters have no business in any of our paths.
    if value.contains(char::is_control) {
        return Err(ApiError::new(&BAD_REQUEST));
    }
    // Answers repeat names that are not known, and a build's log has the answers.
    if !matches!(name, "token" | "key") && Token::received(value).is_well_formed() {
        return Err(ApiError::saying(&BAD_REQUEST, "A token stands where a name belongs."));
    }
    Ok(value)
}

/// The package in a path, from the segment called `package`.
pub(super) struct Package(pub(super) PackageName);

impl FromRequestParts<App> for Package {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let segments = segments(parts, app).await?;
        package_name(segment(&segments, "package")?).map(Self)
    }
}

impl Package {
    /// From the segment as it stands in a path.
    pub(super) fn of(segment: &str) -> Result<Self, ApiError> {
        let decoded = decoded(segment)?;
        package_name(checked("package", &decoded)?).map(Self)
    }
}

impl File {
    /// From the segment as it stands in a path.
    pub(super) fn of(segment: &str) -> Result<Self, ApiError> {
        let decoded = decoded(segment)?;
        Ok(Self(checked("file", &decoded)?.to_owned()))
    }
}

/// A package's name, from text that was decoded once.
pub(super) fn package_name(text: &str) -> Result<PackageName, ApiError> {
    PackageName::from_str(text).map_err(|error| ApiError::saying(&BAD_NAME, format!("`{}`: {error}.", shown(text))))
}

/// A text from outside as it may be repeated in an answer.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

macro_rules! text_segment {
    ($(#[$doc:meta] $type:ident = $name:literal;)*) => {
        $(#[$doc]
        pub(super) struct $type(pub(super) String);

        impl FromRequestParts<App> for $type {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
                let segments = segments(parts, app).await?;
                Ok(Self(segment(&segments, $name)?.to_owned()))
            }
        })*
    };
}

text_segment! {
    /// A version, tag or range.
    Wanted = "wanted";
    /// A file name.
    File = "file";
    /// A document's revision.
    Revision = "revision";
    /// A tag.
    Tag = "tag";
    /// A user's name.
    UserName = "user";
    /// A token in clear text.
    TokenText = "token";
    /// `name@version`.
    Spec = "spec";
    /// A token's public name.
    TokenKey = "key";
    /// What something is called by.
    Id = "id";
    /// A period of npm's download counts.
    PeriodText = "period";
    /// A package's name, or several that commas part.
    Names = "package";
    /// An organisation of GitHub.
    Organization = "organization";
    /// A team of one.
    Team = "team";
    /// The code of an invitation.
    InvitationCode = "code";
}

/// Who is calling.
///
/// Credentials that are not known are as good as none: npm sends expired tokens with public reads and even when
/// logging in. Where an account is needed, the answer is a 401 then.
pub(super) struct Identity(pub(super) Caller);

impl FromRequestParts<App> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::of(app, &parts.headers, notes(parts)?).await
    }
}

impl Identity {
    /// From the head of a request.
    pub(super) async fn of(app: &App, headers: &HeaderMap, notes: &Notes) -> Result<Self, ApiError> {
        let credentials = credentials(headers)?;
        if let Credentials::None = credentials {
            return Ok(Self(Caller::Anonymous));
        }
        if let Credentials::Basic { .. } = &credentials
            && !notes.origin().is_private_line
        {
            return Err(ApiError::new(&PLAIN_PASSWORD));
        }
        let presented = Presented { address: notes.origin().address, code: one_time_code(headers) };
        match Box::pin(app.registry.auth().authenticate(credentials, presented)).await {
            Ok(caller) => {
                notes.comes_from(&caller);
                Ok(Self(caller))
            }
            Err(auth::Error::UnknownToken | auth::Error::WrongPassword) => Ok(Self(Caller::Anonymous)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is known of the request. It is there wherever the router is asked.
fn notes(parts: &Parts) -> Result<&Notes, ApiError> {
    Notes::of(&parts.extensions).ok_or_else(|| ApiError::new(&BAD_REQUEST))
}

/// `npm-otp`, which npm, pnpm, yarn and bun send after they asked for a code.
pub(super) fn one_time_code(headers: &HeaderMap) -> Option<OneTimeCode> {
    const MAX_CODE_BYTES: usize = 256;
    let text = headers.get("npm-otp")?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= MAX_CODE_BYTES).then(|| OneTimeCode::new(text))
}

/// Somebody who is known: an account or a CI job. Refuses others before their body is read.
pub(super) struct Account(pub(super) Caller);

impl FromRequestParts<App> for Account {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Identity(caller) = Identity::from_request_parts(parts, app).await?;
        if caller.is_known() { Ok(Self(caller)) } else { Err(registry::Error::SignInFirst.into()) }
    }
}

/// An account, and not a CI job: for what belongs to a person.
pub(super) struct Person(pub(super) auth::User);

impl FromRequestParts<App> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Identity(caller) = Identity::from_request_parts(parts, app).await?;
        match caller {
            Caller::User(user) => Ok(Self(user)),
            Caller::Anonymous => Err(registry::Error::SignInFirst.into()),
            Caller::Workflow(_) => Err(ApiError::new(&PERSONS_ONLY)),
        }
    }
}

/// A caller who may read. Refuses others before their body is read.
pub(super) struct Reader(pub(super) Caller);

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Identity(caller) = Identity::from_request_parts(parts, app).await?;
        if app.registry.access().may_use(&caller) { Ok(Self(caller)) } else { Err(registry::Error::SignInFirst.into()) }
    }
}

/// What a request brings to prove who it is. More than one `Authorization` is refused: which one counts would depend on
/// who reads it.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Credentials, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(Credentials::None) };
    let refused = || ApiError::saying(&BAD_REQUEST, "The `Authorization` header cannot be understood.");
    if more.is_some() {
        return Err(refused());
    }
    let (scheme, rest) = value.to_str().map_err(|_| refused())?.split_once(' ').ok_or_else(refused)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credentials::Bearer(Token::received(rest)));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(refused)?;
        let (user, password) = decoded.split_once(':').ok_or_else(refused)?;
        return Ok(Credentials::Basic { user: user.to_owned(), password: password.to_owned() });
    }
    // Another scheme (a CI's own, say) is not for us.
    Ok(Credentials::None)
}

/// The request's own idea of where it came in.
pub(super) struct From(pub(super) Origin);

impl FromRequestParts<App> for From {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        notes(parts).map(|notes| Self(notes.origin().clone()))
    }
}

/// All headers, without a copy: the last argument of a handler.
pub(super) struct Headers(pub(super) HeaderMap);

impl FromRequest<App> for Headers {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &App) -> Result<Self, ApiError> {
        Ok(Self(request.into_parts().0.headers))
    }
}

/// A body that is read whole, up to a limit, decompressed when the client compressed it.
pub(super) struct Bounded<const LIMIT: usize>(pub(super) Bytes);

impl<const LIMIT: usize> FromRequest<App> for Bounded<LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let encoding = request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_gzip = match encoding {
            b"" | b"identity" => false,
            b"gzip" | b"x-gzip" => true,
            _ => return Err(ApiError::saying(&BAD_REQUEST, "A body may be sent as it is or with gzip.")),
        };
        let mut collected = BytesMut::new();
        let mut chunks = Chunks::of(request.into_body(), app.idle);
        while let Some(chunk) = chunks.next().await? {
            if collected.len() + chunk.len() > LIMIT {
                return Err(too_large(LIMIT));
            }
            collected.extend_from_slice(&chunk);
        }
        let collected = collected.freeze();
        if is_gzip { gunzip(collected, LIMIT).await.map(Self) } else { Ok(Self(collected)) }
    }
}

async fn gunzip(compressed: Bytes, limit: usize) -> Result<Bytes, ApiError> {
    let inflate = move || {
        use std::io::Read as _;
        let mut output = Vec::new();
        let reader = flate2::read::GzDecoder::new(&compressed[..]);
        // One byte over the limit tells "exactly full" from "too much".
        let read = reader.take(limit as u64 + 1).read_to_end(&mut output);
        match read {
            Ok(_) if output.len() > limit => Err(too_large(limit)),
            Ok(_) => Ok(Bytes::from(output)),
            Err(_) => Err(ApiError::saying(&BAD_REQUEST, "The body says it is gzip and is not.")),
        }
    };
    tokio::task::spawn_blocking(inflate).await.unwrap_or_else(|_| Err(ApiError::new(&BAD_REQUEST)))
}

fn too_large(limit: usize) -> ApiError {
    ApiError::saying(&TOO_LARGE, format!("The body is larger than {limit} bytes, which is the limit here."))
}

/// A body piece by piece, given up when it stops arriving, or only drips.
pub(super) struct Chunks {
    stream: axum::body::BodyDataStream,
    idle: Duration,
    started: Instant,
    received: u64,
}

impl Chunks {
    pub(super) fn of(body: Body, idle: Duration) -> Self {
        Self { stream: body.into_data_stream(), idle, started: Instant::now(), received: 0 }
    }

    /// Until when the next piece has to be there. What was received pays for time, so that a large file may come over
    /// a slow line.
    fn deadline(&self) -> Instant {
        let paid = Duration::from_secs(self.received / MIN_BODY_BYTES_PER_SECOND);
        (Instant::now() + self.idle).min(self.started + self.idle * 2 + paid)
    }

    /// The next piece; `None` at the end of the body.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        match tokio::time::timeout_at(self.deadline(), self.stream.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(chunk))) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Ok(Some(Err(_))) => Err(ApiError::saying(&BAD_REQUEST, "The request body was cut off.")),
            Err(_) => Err(ApiError::new(&TIMED_OUT)),
        }
    }

    /// Reads on for a while after a refusal. A client that is still sending would otherwise see its connection break
    /// and never read why.
    pub(super) async fn drain(mut self) {
        const DRAIN_BYTES: usize = 64 * 1024 * 1024;
        const DRAIN_TIME: Duration = Duration::from_secs(10);
        let read_on = async {
            let mut drained = 0;
            while let Ok(Some(chunk)) = self.next().await {
                drained += chunk.len();
                if drained > DRAIN_BYTES {
                    return;
                }
            }
        };
        // Whether it ended or not, there is nothing more to do for this client.
        let _ = tokio::time::timeout(DRAIN_TIME, read_on).await;
    }
}

/// A JSON text such as `"1.0.0"`, or the bare text that old tools send.
pub(super) fn json_or_bare_text(body: &[u8]) -> Result<String, ApiError> {
    if let Ok(text) = serde_json::from_slice::<String>(body) {
        return Ok(text);
    }
    let text = std::str::from_utf8(body).map_err(|_| ApiError::new(&BAD_REQUEST))?;
    Ok(text.trim().to_owned())
}

/// A JSON body of a known shape.
pub(super) fn json<T: for<'de> serde::Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let why = without_values(&error.to_string());
        let sentence = format!("The body is not the JSON that is expected here: {why}.");
        ApiError::saying(&super::error::BAD_DOCUMENT, sentence)
    })
}

/// What is wrong with a body, without what stands in its place: a password may.
fn without_values(why: &str) -> String {
    match why.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => why.to_owned(),
    }
}

/// The fields of a form as a browser posts it.
pub(super) fn form(body: &[u8]) -> std::collections::HashMap<String, String> {
    url::form_urlencoded::parse(body).into_owned().collect()
}

/// The query's value for a key, decoded.
pub(super) fn query_value(uri: &http::Uri, key: &str) -> Option<String> {
    let query = uri.query()?;
    url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

/// `name@version` of an attestation's address.
pub(super) fn name_and_version(spec: &str) -> Result<(PackageName, crate::npm::Version), ApiError> {
    let at = spec.rfind('@').filter(|at| *at > 0).ok_or_else(|| ApiError::new(&BAD_REQUEST))?;
    let version = spec[at + 1..].parse().map_err(|_| ApiError::new(&super::error::BAD_VERSION))?;
    Ok((package_name(&spec[..at])?, version))
}
