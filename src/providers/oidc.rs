//! Identity tokens of CI systems: JSON Web Tokens that an issuer signs with keys that it publishes.
//!
//! Invariants: an algorithm is one of a fixed list, all of them asymmetric, and the key has to be of its kind, so that
//! neither `none` nor a public key taken for a shared secret gets anybody in; keys come from the issuer's own address and
//! never from the token (`jku`, `x5u` and `jwk` in its header are not looked at); no claim is given out before the
//! signature has been checked; and no error repeats anything of a token.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::client::{Client, Request};
use super::settings::is_loopback;
use super::{BuildError, Error};
use crate::clock::Clock;

/// GitHub's tokens have about two kilobytes.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Of the discovery document, and of the key set.
const MAX_DOCUMENT_BYTES: usize = 256 << 10;

const MAX_KEYS: usize = 100;

/// How long a key set is used without asking again.
const FRESH_FOR: Duration = Duration::from_hours(1);

/// How long it is used when the issuer cannot be asked.
const USABLE_FOR: Duration = Duration::from_hours(24);

/// The shortest time between two fetches for a key that is not in the set: anybody can make up a `kid`.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_mins(1);

/// How long an issuer that failed is left alone, so that those who wait do not wait for it one after the other.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// How far the issuer's clock and ours may be apart.
const LEEWAY_SECONDS: i64 = 60;

const ACCEPT: &str = "application/json";

/// Who signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What people call it.
    pub name: String,
    /// Exactly as in `iss`, such as `https://token.actions.githubusercontent.com`. Plain http is for loopback only.
    pub url: String,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not three parts of JSON and a signature, or too long, or with extensions that have to be understood.
    #[error("the identity token is not a JSON Web Token")]
    Malformed,
    /// Another one than was asked for.
    #[error("the identity token is of another issuer")]
    WrongIssuer,
    /// Made for another service.
    #[error("the identity token was made for another audience")]
    WrongAudience,
    /// Its `exp` is past.
    #[error("the identity token has expired")]
    Expired,
    /// Its `nbf` or `iat` is to come.
    #[error("the identity token is not valid yet; the clocks may differ")]
    NotYetValid,
    /// The issuer has no key of this `kid`; or the token names none, and the issuer has several.
    #[error("the identity token is signed with a key that its issuer does not publish")]
    UnknownKey,
    /// One that is not taken, or that does not go with the key.
    #[error("the identity token is signed in a way that is not accepted")]
    BadAlgorithm,
    /// Not made with the key, or changed since.
    #[error("the identity token's signature is wrong")]
    BadSignature,
    /// A claim that every token must have.
    #[error("the identity token has no `{0}`")]
    MissingClaim(&'static str),
    /// Its keys cannot be had, and none are known that are recent enough.
    #[error("the issuer of the identity token could not be asked for its keys: {0}")]
    IssuerUnavailable(Error),
}

/// The key sets of issuers, remembered. Cheap to clone; clones share what is remembered.
///
/// It remembers one set for each [`Issuer`] that it is asked with: give it issuers from the settings, not from tokens.
#[derive(Clone)]
pub struct KeySets {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    clock: Clock,
    timeout: Duration,
    /// By the issuer's URL.
    issuers: Mutex<HashMap<String, Slot>>,
}

/// Locked while the issuer is asked: who comes meanwhile waits, and finds the answer.
type Slot = Arc<tokio::sync::Mutex<Known>>;

/// What is known of an issuer. Instants are in milliseconds since 1970.
#[derive(Default)]
struct Known {
    set: Option<(i64, Arc<[Key]>)>,
    asked_at: Option<i64>,
    failed: Option<(i64, Error)>,
}

struct Key {
    id: Option<String>,
    /// The only one that the issuer wants it used with, when it says so.
    algorithm: Option<String>,
    kind: Kind,
    public: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The header of a token (RFC 7515, 4.1), as far as it decides anything.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// A token taken apart. Nothing of it has been checked.
struct Parts<'a> {
    header: Header,
    claims: Map<String, Value>,
    /// Header and claims as they were signed.
    signed: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySetAnswer {
    keys: Vec<Value>,
}

/// A published key (RFC 7517 and 7518), as far as it is of a kind that we know.
#[derive(Deserialize)]
struct PublishedKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySets {
    /// Remembers nothing yet. The time limit is for one request to an issuer; the keys of a new one take two.
    pub fn new(clock: Clock, timeout: Duration) -> Result<Self, BuildError> {
        let client = Client::new(timeout).map_err(BuildError::Client)?;
        let inner = Inner { client, clock, timeout, issuers: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The `iss` of a token that nobody has verified yet: to pick the issuer to verify it with, and for nothing else.
    ///
    /// # Errors
    /// [`VerifyError::Malformed`], also for a token of more than 16 KiB, or [`VerifyError::MissingClaim`].
    pub fn unverified_issuer(token: &str) -> Result<String, VerifyError> {
        issuer_of(&Parts::of(token)?.claims).map(str::to_owned)
    }

    /// The instant from which a token with these verified claims is refused for its age, in seconds since 1970.
    pub fn ends(claims: &Map<String, Value>) -> i64 {
        instant(claims, "exp").ok().flatten().unwrap_or(i64::MAX).saturating_add(LEEWAY_SECONDS)
    }

    /// Checks the signature, the issuer, the audience (one of these has to be among the token's) and the lifetime, with
    /// a minute of leeway, and gives the claims.
    ///
    /// # Errors
    /// The first thing that is wrong. [`VerifyError::IssuerUnavailable`] says nothing about the token.
    pub async fn verify(
        &self,
        issuer: &Issuer,
        token: &str,
        audiences: &[String],
    ) -> Result<Map<String, Value>, VerifyError> {
        let parts = Parts::of(token)?;
        let algorithm = accepted(&parts.header.alg)?;
        if issuer_of(&parts.claims)? != issuer.url {
            return Err(VerifyError::WrongIssuer);
        }
        let keys = self.keys(issuer, parts.header.kid.as_deref()).await?;
        let key = pick(&keys, &parts.header, algorithm)?;
        let is_genuine =
            jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &key.public, algorithm.into());
        if !is_genuine.unwrap_or(false) {
            return Err(VerifyError::BadSignature);
        }
        check_audience(&parts.claims, audiences)?;
        check_lifetime(&parts.claims, self.inner.clock.now().as_seconds())?;
        Ok(parts.claims)
    }

    /// The issuer's keys: as known, or asked for when they are old or have not this one.
    async fn keys(&self, issuer: &Issuer, kid: Option<&str>) -> Result<Arc<[Key]>, VerifyError> {
        let slot = {
            // The map is whole after each call on it, so a panic elsewhere leaves nothing half done.
            let mut issuers = self.inner.issuers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(issuers.entry(issuer.url.clone()).or_default())
        };
        // Two requests, and as much again for those of whom we wait for.
        let limit = self.inner.timeout.saturating_mul(4);
        let wait = async {
            let mut known = slot.lock().await;
            self.refresh(&mut known, issuer, kid).await;
            known.answer(self.now(), kid)
        };
        timeout(limit, wait).await.unwrap_or(Err(VerifyError::IssuerUnavailable(Error::Timeout)))
    }

    async fn refresh(&self, known: &mut Known, issuer: &Issuer, kid: Option<&str>) {
        let now = self.now();
        if !known.is_to_be_asked(now, kid) {
            return;
        }
        // Before the wait, so that a caller who leaves counts too.
        known.asked_at = Some(now);
        match self.fetch(issuer).await {
            Ok(keys) => {
                known.set = Some((now, keys));
                known.failed = None;
            }
            Err(error) => {
                tracing::warn!(issuer.name = issuer.name, %error, "an issuer's keys could not be had");
                known.failed = Some((self.now(), error));
            }
        }
    }

    async fn fetch(&self, issuer: &Issuer) -> Result<Arc<[Key]>, Error> {
        let home = issuer_url(&issuer.url)?;
        // A slash at the issuer's end is not doubled (OpenID Connect Discovery 1.0, 4.1).
        let address = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let discovery: Discovery = self.document(web_address(&address, false, &home)?).await?;
        if discovery.issuer != issuer.url {
            return Err(Error::BadAnswer("a discovery document of another issuer"));
        }
        let answer: KeySetAnswer = self.document(web_address(&discovery.jwks_uri, true, &home)?).await?;
        if answer.keys.len() > MAX_KEYS {
            return Err(Error::BadAnswer("more keys than are taken"));
        }
        let keys: Arc<[Key]> = answer.keys.into_iter().filter_map(Key::of).collect();
        if keys.is_empty() { Err(Error::BadAnswer("a key set without a key of use")) } else { Ok(keys) }
    }

    async fn document<T: DeserializeOwned>(&self, url: Url) -> Result<T, Error> {
        let request = Request::new(Method::GET, url, ACCEPT);
        let document = self.inner.client.send(request, MAX_DOCUMENT_BYTES).await?.json();
        // No credentials were sent, so no refusal can be about any.
        document.map_err(|error| {
            if error.is_transient() { error } else { Error::BadAnswer("a refusal in place of a document") }
        })
    }

    fn now(&self) -> i64 {
        self.inner.clock.now().as_millis()
    }
}

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySets").finish_non_exhaustive()
    }
}

impl Known {
    fn is_to_be_asked(&self, now: i64, kid: Option<&str>) -> bool {
        let is_within = |instant: i64, span| elapsed(instant, now) < span;
        if self.failed.as_ref().is_some_and(|(at, _)| is_within(*at, FAILURE_PAUSE)) {
            return false;
        }
        match &self.set {
            None => true,
            Some((at, _)) if !is_within(*at, FRESH_FOR) => true,
            // Without a `kid` there is nothing that could be missing.
            Some((_, keys)) if kid.is_none_or(|kid| has(keys, kid)) => false,
            Some(_) => self.asked_at.is_none_or(|at| !is_within(at, UNKNOWN_KEY_PAUSE)),
        }
    }

    /// The keys, when they are recent enough, and have this one or are sure not to have it.
    fn answer(&self, now: i64, kid: Option<&str>) -> Result<Arc<[Key]>, VerifyError> {
        let usable = self.set.as_ref().filter(|(at, _)| elapsed(*at, now) < USABLE_FOR).map(|(_, keys)| keys);
        match (usable, &self.failed) {
            (Some(keys), Some((_, error))) if kid.is_some_and(|kid| !has(keys, kid)) => {
                Err(VerifyError::IssuerUnavailable(error.clone()))
            }
            (Some(keys), _) => Ok(Arc::clone(keys)),
            (None, Some((_, error))) => Err(VerifyError::IssuerUnavailable(error.clone())),
            (None, None) => Err(VerifyError::IssuerUnavailable(Error::Timeout)),
        }
    }
}

/// From an instant until now, both in milliseconds. Forever when it is to come: the clock was set back, and nothing is
/// known of when that was.
fn elapsed(instant: i64, now: i64) -> Duration {
    u64::try_from(now.saturating_sub(instant)).map_or(Duration::MAX, Duration::from_millis)
}

fn has(keys: &[Key], kid: &str) -> bool {
    keys.iter().any(|key| key.id.as_deref() == Some(kid))
}

impl Key {
    /// The key, when it is one to check signatures with, of a kind that we know, and whole.
    fn of(published: Value) -> Option<Self> {
        let PublishedKey { kty, kid, alg, usage, key_ops, crv, n, e, x, y } = serde_json::from_value(published).ok()?;
        let is_for_signatures = usage.is_none_or(|usage| usage == "sig");
        let may_verify = key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !is_for_signatures || !may_verify {
            return None;
        }
        let (kind, public) = match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) => (Kind::Rsa, DecodingKey::from_rsa_components(&n?, &e?)),
            ("EC", Some("P-256")) => (Kind::P256, DecodingKey::from_ec_components(&x?, &y?)),
            ("EC", Some("P-384")) => (Kind::P384, DecodingKey::from_ec_components(&x?, &y?)),
            ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_components(&x?)),
            _ => return None,
        };
        Some(Self { id: kid, algorithm: alg, kind, public: public.ok()? })
    }

    fn fits(&self, algorithm: Accepted, name: &str) -> bool {
        self.kind == algorithm.kind() && self.algorithm.as_deref().is_none_or(|only| only == name)
    }
}

/// The algorithms that are taken: asymmetric ones, and no others.
#[derive(Clone, Copy)]
struct Accepted(Algorithm);

impl Accepted {
    fn kind(self) -> Kind {
        match self.0 {
            Algorithm::ES256 => Kind::P256,
            Algorithm::ES384 => Kind::P384,
            Algorithm::EdDSA => Kind::Ed25519,
            _ => Kind::Rsa,
        }
    }
}

impl From<Accepted> for Algorithm {
    fn from(accepted: Accepted) -> Self {
        accepted.0
    }
}

fn accepted(name: &str) -> Result<Accepted, VerifyError> {
    Ok(Accepted(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return Err(VerifyError::BadAlgorithm),
    }))
}

/// The key of the token's `kid`; without one, the only key that there is.
fn pick<'a>(keys: &'a [Key], header: &Header, algorithm: Accepted) -> Result<&'a Key, VerifyError> {
    let named: Vec<&Key> = match &header.kid {
        Some(kid) => keys.iter().filter(|key| key.id.as_deref() == Some(kid)).collect(),
        None if keys.len() == 1 => keys.iter().collect(),
        None => Vec::new(),
    };
    if named.is_empty() {
        return Err(VerifyError::UnknownKey);
    }
    named.into_iter().find(|key| key.fits(algorithm, &header.alg)).ok_or(VerifyError::BadAlgorithm)
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(VerifyError::Malformed)?;
        let (header, claims): (Header, _) = (part(header)?, part(claims)?);
        // Extensions that a reader has to understand (RFC 7515, 4.1.11), of which we understand none.
        if header.crit.is_some() {
            return Err(VerifyError::Malformed);
        }
        Ok(Self { header, claims, signed, signature })
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Result<T, VerifyError> {
    let decoded = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| VerifyError::Malformed)?;
    serde_json::from_slice(&decoded).map_err(|_| VerifyError::Malformed)
}

fn issuer_of(claims: &Map<String, Value>) -> Result<&str, VerifyError> {
    let issuer = claims.get("iss").ok_or(VerifyError::MissingClaim("iss"))?;
    issuer.as_str().ok_or(VerifyError::Malformed)
}

/// `aud` is a text or a list of texts (RFC 7519, 4.1.3).
fn check_audience(claims: &Map<String, Value>, audiences: &[String]) -> Result<(), VerifyError> {
    let is_ours = |audience: &Value| audience.as_str().is_some_and(|text| audiences.iter().any(|ours| ours == text));
    let found = match claims.get("aud") {
        None | Some(Value::Null) => return Err(VerifyError::MissingClaim("aud")),
        Some(Value::Array(list)) => list.iter().any(is_ours),
        Some(single) => is_ours(single),
    };
    if found { Ok(()) } else { Err(VerifyError::WrongAudience) }
}

/// Now is in seconds since 1970, as the claims are.
fn check_lifetime(claims: &Map<String, Value>, now: i64) -> Result<(), VerifyError> {
    let until = instant(claims, "exp")?.ok_or(VerifyError::MissingClaim("exp"))?;
    if now >= until.saturating_add(LEEWAY_SECONDS) {
        return Err(VerifyError::Expired);
    }
    for claim in ["nbf", "iat"] {
        if instant(claims, claim)?.is_some_and(|from| from > now.saturating_add(LEEWAY_SECONDS)) {
            return Err(VerifyError::NotYetValid);
        }
    }
    Ok(())
}

/// A claim in seconds since 1970, which may have a fraction (RFC 7519, 2).
fn instant(claims: &Map<String, Value>, claim: &str) -> Result<Option<i64>, VerifyError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates, which is what is wanted")]
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    seconds.map(Some).ok_or(VerifyError::Malformed)
}

/// The address of an issuer: https, or http on loopback.
fn issuer_url(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|_| Error::BadAnswer("an issuer that is no URL"))?;
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    if is_safe && url.query().is_none() && url.fragment().is_none() {
        Ok(url)
    } else {
        Err(Error::BadAnswer("an issuer that is not https"))
    }
}

/// An address that an issuer's keys lie at: https; or http on loopback, when the issuer itself is there. A query is for
/// what the issuer names, and not for the issuer.
fn web_address(text: &str, may_have_query: bool, issuer: &Url) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|_| Error::BadAnswer("keys at no address"))?;
    let is_local = |url: &Url| url.scheme() == "http" && is_loopback(url);
    let is_safe = url.scheme() == "https" || (is_local(&url) && is_local(issuer));
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if !is_safe || has_credentials || (url.query().is_some() && !may_have_query) {
        return Err(Error::BadAnswer("keys at an address that is not gone to"));
    }
    Ok(url)
}
