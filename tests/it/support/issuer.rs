//! An issuer of identity tokens of the test's own, on loopback, as CI services have one: a discovery document, keys that
//! rotate, and tokens for whatever claims a test wants, right or forged.
//!
//! The tokens are put together here, byte by byte, so that they can be wrong in ways that no library would write.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::loopback::Loopback;

/// How long a token is good for.
const LIFETIME: u64 = 600;

/// How it behaves. Holds for the discovery document and the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    #[default]
    Well,
    /// The connection is closed without an answer.
    Down,
    /// Every answer has this status.
    Error(u16),
    /// Every answer waits, and is right then.
    Slow(Duration),
    /// 200, and the body ends in the middle.
    BrokenJson,
    /// The discovery document names another issuer.
    WrongIssuer,
    /// The discovery document says that the keys are with another host than the issuer.
    KeysElsewhere,
    /// There are no keys.
    NoKeys,
}

/// How a token is signed, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signing {
    Rs256,
    Es256,
    /// `alg` is `none`, and there is no signature.
    None,
    /// `alg` is `HS256`, with the public key, which everybody has, for a secret.
    Hs256WithPublicKey,
    /// Another payload than the one that was signed: with these members changed.
    Tampered(Value),
    /// A right signature with one bit turned.
    BrokenSignature,
    /// By a key that the issuer does not have, under the name of one that it has.
    ByAnotherKey,
    /// By a key that the issuer does not have, under a name of its own.
    UnknownKid,
    /// As [`Signing::Rs256`], and the header does not name the key.
    NoKid,
    /// By the key for RS256, with a header that says ES256.
    WrongAlg,
    /// As [`Signing::Rs256`], with these further members in the header, such as `crit`, `jwk` or `jku`.
    WithHeader(Value),
}

/// How often it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) discovery: usize,
    pub(crate) keys: usize,
    /// For anything else, which nobody should.
    pub(crate) others: usize,
}

struct Keys {
    rsa: RsaKeyPair,
    rsa_kid: String,
    ec: EcdsaKeyPair,
    ec_kid: String,
}

impl Keys {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            rsa_kid: random_hex(16),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ec_kid: random_hex(16),
        }
    }

    fn sign_rsa(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    /// The public keys, as a JWK set.
    fn set(&self) -> Value {
        let (modulus, exponent) = numbers_of(self.rsa.public_key().as_ref());
        // A point on the curve without compression: a byte that says so, and two numbers of 32 bytes.
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            {
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.rsa_kid,
                "n": encode(&modulus), "e": encode(&exponent),
            },
            {
                "kty": "EC", "use": "sig", "alg": "ES256", "kid": self.ec_kid, "crv": "P-256",
                "x": encode(&point[1..33]), "y": encode(&point[33..65]),
            },
        ]})
    }
}

struct State {
    url: String,
    keys: Keys,
    mode: Mode,
    now: Option<u64>,
    seen: Seen,
}

/// A running issuer. Cheap to clone; ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Issuer {
    state: Arc<Mutex<State>>,
    _server: Arc<Loopback>,
}

impl Issuer {
    /// With new keys.
    #[expect(clippy::unused_async, reason = "starting a server is something to wait for, whatever it does inside")]
    pub(crate) async fn start() -> Self {
        let state =
            State { url: String::new(), keys: Keys::generate(), mode: Mode::Well, now: None, seen: Seen::default() };
        let state = Arc::new(Mutex::new(state));
        let server = Loopback::start(|port| {
            state.lock().unwrap().url = format!("http://127.0.0.1:{port}");
            let state = Arc::clone(&state);
            move |head, body| answer(Arc::clone(&state), head, body)
        });
        Self { state, _server: Arc::new(server) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// `http://127.0.0.1:PORT`, which is what `iss` says.
    pub(crate) fn url(&self) -> String {
        self.state().url.clone()
    }

    /// The time for tokens from now on, in seconds since 1970, for those whose clock the test holds.
    pub(crate) fn set_now(&self, seconds: u64) {
        self.state().now = Some(seconds);
    }

    /// A token with these claims, and with `iss`, `iat`, `nbf`, `exp` and `jti` where they are not given. A claim that
    /// is given as null is left out.
    pub(crate) fn token(&self, claims: Value) -> String {
        self.token_with(claims, &Signing::Rs256)
    }

    /// As [`Issuer::token`], signed in another way.
    pub(crate) fn token_with(&self, claims: Value, signing: &Signing) -> String {
        let state = self.state();
        let payload = state.complete(claims);
        let keys = &state.keys;
        let rs256 = || json!({ "alg": "RS256", "typ": "JWT", "kid": keys.rsa_kid });
        let by_rsa = |header: &Value| {
            let message = message(header, &payload);
            let signature = keys.sign_rsa(message.as_bytes());
            format!("{message}.{}", encode(&signature))
        };
        match signing {
            Signing::Rs256 => by_rsa(&rs256()),
            Signing::Es256 => {
                let message = message(&json!({ "alg": "ES256", "typ": "JWT", "kid": keys.ec_kid }), &payload);
                let signature = keys.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
                format!("{message}.{}", encode(signature.as_ref()))
            }
            Signing::None => format!("{}.", message(&json!({ "alg": "none", "typ": "JWT" }), &payload)),
            Signing::Hs256WithPublicKey => {
                let message = message(&json!({ "alg": "HS256", "typ": "JWT", "kid": keys.rsa_kid }), &payload);
                let secret = hmac::Key::new(hmac::HMAC_SHA256, public_pem(&keys.rsa).as_bytes());
                format!("{message}.{}", encode(hmac::sign(&secret, message.as_bytes()).as_ref()))
            }
            Signing::Tampered(changes) => {
                let signed = by_rsa(&rs256());
                let mut other = payload.clone();
                other.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
                let signature = signed.rsplit('.').next().unwrap();
                format!("{}.{signature}", message(&rs256(), &other))
            }
            Signing::BrokenSignature => {
                let message = message(&rs256(), &payload);
                let mut signature = keys.sign_rsa(message.as_bytes());
                signature[100] ^= 1;
                format!("{message}.{}", encode(&signature))
            }
            Signing::ByAnotherKey | Signing::UnknownKid => {
                let others = Keys::generate();
                let kid = if *signing == Signing::UnknownKid { &others.rsa_kid } else { &keys.rsa_kid };
                let message = message(&json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), &payload);
                format!("{message}.{}", encode(&others.sign_rsa(message.as_bytes())))
            }
            Signing::NoKid => by_rsa(&json!({ "alg": "RS256", "typ": "JWT" })),
            Signing::WrongAlg => by_rsa(&json!({ "alg": "ES256", "typ": "JWT", "kid": keys.rsa_kid })),
            Signing::WithHeader(members) => {
                let mut header = rs256();
                header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
                by_rsa(&header)
            }
        }
    }

    /// New keys under new names. The old ones are gone, and tokens that they signed are no good.
    pub(crate) fn rotate(&self) {
        let keys = Keys::generate();
        self.state().keys = keys;
    }

    /// From now on.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// How often it was asked so far.
    pub(crate) fn seen(&self) -> Seen {
        self.state().seen
    }

    /// Forgets how often it was asked.
    pub(crate) fn forget(&self) {
        self.state().seen = Seen::default();
    }
}

impl State {
    fn complete(&self, claims: Value) -> Value {
        let now = self.now.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let mut all = Map::from_iter([
            ("iss".to_owned(), json!(self.url)),
            ("iat".to_owned(), json!(now)),
            ("nbf".to_owned(), json!(now)),
            ("exp".to_owned(), json!(now + LIFETIME)),
            ("jti".to_owned(), json!(random_hex(16))),
        ]);
        all.extend(claims);
        all.retain(|_, claim| !claim.is_null());
        Value::Object(all)
    }

    fn document(&mut self, path: &str) -> Option<Value> {
        match path {
            "/.well-known/openid-configuration" => {
                self.seen.discovery += 1;
                let issuer =
                    if self.mode == Mode::WrongIssuer { "https://issuer.example.test" } else { self.url.as_str() };
                let keys =
                    if self.mode == Mode::KeysElsewhere { "https://keys.example.test" } else { self.url.as_str() };
                Some(json!({
                    "issuer": issuer,
                    "jwks_uri": format!("{keys}/.well-known/jwks"),
                    "subject_types_supported": ["public", "pairwise"],
                    "response_types_supported": ["id_token"],
                    "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf", "repository", "ref"],
                    "id_token_signing_alg_values_supported": ["RS256", "ES256"],
                    "scopes_supported": ["openid"],
                }))
            }
            "/.well-known/jwks" => {
                self.seen.keys += 1;
                Some(if self.mode == Mode::NoKeys { json!({ "keys": [] }) } else { self.keys.set() })
            }
            _ => {
                self.seen.others += 1;
                None
            }
        }
    }
}

async fn answer(state: Arc<Mutex<State>>, head: Parts, _: Bytes) -> Option<Response<Body>> {
    let (mode, document) = {
        let mut state = state.lock().unwrap();
        let document = state.document(head.uri.path());
        (state.mode, document)
    };
    let (mut status, mut body) = match document {
        Some(document) => (200, document.to_string()),
        None => (404, "{}".to_owned()),
    };
    match mode {
        Mode::Down => return None,
        Mode::Slow(time) => tokio::time::sleep(time).await,
        Mode::Error(error) => (status, body) = (error, "{}".to_owned()),
        Mode::BrokenJson => body.truncate(body.len() / 2),
        Mode::Well | Mode::WrongIssuer | Mode::KeysElsewhere | Mode::NoKeys => {}
    }
    let response = Response::builder().status(status).header("content-type", "application/json");
    Some(response.body(Body::from(body)).unwrap())
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    rand::fill(&mut random).unwrap();
    random.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// What is signed of a token.
fn message(header: &Value, payload: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(payload.to_string().as_bytes()))
}

/// The public key in the form in which people paste it.
fn public_pem(key: &RsaKeyPair) -> String {
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap();
    let text = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// Modulus and exponent of an RSA key in its DER form, which is a sequence of the two.
fn numbers_of(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    /// The content of the element at the start, and what comes after it.
    fn element(tag: u8, der: &[u8]) -> (&[u8], &[u8]) {
        assert_eq!(der[0], tag, "not the element that should be here");
        let (length, start) = match der[1] {
            short @ ..0x80 => (usize::from(short), 2),
            long => {
                let bytes = usize::from(long & 0x7f);
                (der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes)
            }
        };
        der[start..].split_at(length)
    }
    let (sequence, _) = element(0x30, der);
    let (modulus, rest) = element(0x02, sequence);
    let (exponent, _) = element(0x02, rest);
    // DER puts a zero before a number whose first bit is set; a JWK does not.
    let plain = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
    (plain(modulus), plain(exponent))
}

/// Numbers for a name: the same for the same name, in other ways without meaning.
fn number_for(name: &str) -> u64 {
    name.bytes().fold(7_000_000, |number, byte| (number * 31 + u64::from(byte)) % 900_000_000) + 10_000
}

/// The claims of a job of GitHub Actions in `owner/name`, started by a push to its main branch, in a workflow of
/// `.github/workflows/`. No `aud`, which the workflow chooses, and no `environment`, which few jobs have.
///
/// As GitHub writes them: ids and numbers are strings, and a reusable workflow differs in `job_workflow_ref` only.
pub(crate) fn github_claims(repo: &str, workflow_file: &str) -> Value {
    const SHA: &str = "1f3d5b7a9c0e2468ace013579bdf02468ace1357";
    let owner = repo.split('/').next().unwrap();
    let workflow = format!("{repo}/.github/workflows/{workflow_file}@refs/heads/main");
    json!({
        "sub": format!("repo:{repo}:ref:refs/heads/main"),
        "ref": "refs/heads/main",
        "sha": SHA,
        "repository": repo,
        "repository_owner": owner,
        "repository_owner_id": number_for(owner).to_string(),
        "run_id": "19284756301",
        "run_number": "42",
        "run_attempt": "1",
        "repository_visibility": "private",
        "repository_id": number_for(repo).to_string(),
        "actor_id": "10203",
        "actor": "octo-dev",
        "workflow": "Release",
        "head_ref": "",
        "base_ref": "",
        "event_name": "push",
        "ref_protected": "true",
        "ref_type": "branch",
        "workflow_ref": workflow,
        "workflow_sha": SHA,
        "job_workflow_ref": workflow,
        "job_workflow_sha": SHA,
        "runner_environment": "github-hosted",
        "check_run_id": "54321098765",
    })
}

/// The same job in a repository that was made or renamed since July 2026, or whose administrator wants it so: `sub` has
/// the ids of owner and repository in it, `repo:owner@1/name@2:…`.
pub(crate) fn with_immutable_subject(mut claims: Value) -> Value {
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    let (repository, owner, sub) = (text("repository"), text("repository_owner"), text("sub"));
    let name = repository.rsplit('/').next().unwrap();
    let rest = sub.strip_prefix(&format!("repo:{repository}")).expect("a subject of the older form");
    let (owner_id, id) = (text("repository_owner_id"), text("repository_id"));
    claims["sub"] = json!(format!("repo:{owner}@{owner_id}/{name}@{id}{rest}"));
    claims
}

/// The claims of a job of GitLab CI in `group/sub/project`, started by a push to its main branch. No `aud`, which the
/// job chooses, and no `environment`, which few jobs have.
///
/// As GitLab writes them: ids are strings but for the runner's, and so is `ref_protected`; `ref` is the short name.
pub(crate) fn gitlab_claims(project_path: &str) -> Value {
    const SHA: &str = "2468ace013579bdf1f3d5b7a9c0e02468ace1357";
    let namespace = project_path.rsplit_once('/').map_or(project_path, |(namespace, _)| namespace);
    json!({
        "namespace_id": number_for(namespace).to_string(),
        "namespace_path": namespace,
        "project_id": number_for(project_path).to_string(),
        "project_path": project_path,
        "user_id": "4711",
        "user_login": "lab-dev",
        "user_email": "lab-dev@example.test",
        "user_access_level": "maintainer",
        "pipeline_id": "908070605",
        "pipeline_source": "push",
        "job_id": "5040302010",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "runner_id": 12_270_859,
        "runner_environment": "gitlab-hosted",
        "sha": SHA,
        "project_visibility": "private",
        "ci_config_ref_uri": format!("gitlab.example.test/{project_path}//.gitlab-ci.yml@refs/heads/main"),
        "ci_config_sha": SHA,
        "sub": format!("project_path:{project_path}:ref_type:branch:ref:main"),
    })
}

/// What a token says, without a look at its signature: header and payload.
pub(crate) fn parts_of(token: &str) -> (Value, Value) {
    let parts: Vec<Value> = token
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    (parts[0].clone(), parts[1].clone())
}
