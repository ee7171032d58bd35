//! A small registry of the test's own, to stand upstream of the server.
//!
//! Its packages are made in code. It counts what it is asked, and misbehaves on command. It runs on threads of its own,
//! so that stopping it closes its port and cuts every connection, as the end of a real one would.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::package::{FIRST_PUBLISHED, Rendered};
use super::stable_port;
use super::tarballs::{self, Tarball};

pub(crate) use super::package::Package;

/// The type of the abbreviated form.
const INSTALL_TYPE: &str = "application/vnd.npm.install-v1+json";
/// Where attestations are, before `name@version`.
const ATTESTATIONS: &str = "/-/npm/v1/attestations/";

/// How the registry misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Every answer waits.
    Slow(Duration),
    /// Every answer has this status and an error body.
    Status(u16),
    /// Every answer to a path that starts so has this status and an error body.
    StatusAt(&'static str, u16),
    /// 429, with `Retry-After` in seconds.
    TooManyRequests(u32),
    /// Every body ends in the middle, with a `Content-Length` that promised all of it.
    Truncated,
    /// Tarballs are well-formed, but not the ones that the packument describes.
    TamperedTarballs,
    /// Always the full document, labelled so, whatever `Accept` says.
    IgnoresAccept,
    /// Packuments are pages of HTML with status 200, as captive portals send them.
    Html,
}

/// A form of a package's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Full,
    Abbreviated,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Decoded: `/@acme/tool/-/tool-1.0.0.tgz`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) status: StatusCode,
}

#[derive(Debug, Default)]
struct Shared {
    url: String,
    packages: Mutex<BTreeMap<String, Arc<Rendered>>>,
    advisories: Mutex<BTreeMap<String, Value>>,
    /// What the list of signing keys has; without any, there is no list.
    keys: Mutex<Vec<Value>>,
    abbreviates_with_times: AtomicBool,
    fault: Mutex<Fault>,
    seen: Mutex<Vec<Seen>>,
}

/// A running upstream. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    port: u16,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Upstream {
    /// Listens, with these packages.
    pub(crate) fn start(packages: impl IntoIterator<Item = Package>) -> Self {
        let port = stable_port();
        let shared = Arc::new(Shared { url: format!("http://127.0.0.1:{port}"), ..Shared::default() });
        let mut upstream = Self { port, shared, runtime: None };
        for package in packages {
            upstream.put(&package);
        }
        upstream.resume();
        upstream
    }

    /// With the packages that client tests install.
    pub(crate) fn with_fixtures() -> Self {
        Self::start(fixtures())
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        &self.shared.url
    }

    /// Adds or replaces a package.
    pub(crate) fn put(&self, package: &Package) {
        let rendered = Arc::new(package.render(&self.shared.url));
        self.shared.packages.lock().unwrap().insert(package.name().to_owned(), rendered);
    }

    /// Takes a package away.
    pub(crate) fn remove(&self, name: &str) {
        self.shared.packages.lock().unwrap().remove(name);
    }

    /// What the bulk audit says of a package: an array of advisories. Given for every version that is asked for.
    pub(crate) fn advise(&self, name: &str, advisories: Value) {
        self.shared.advisories.lock().unwrap().insert(name.into(), advisories);
    }

    /// The keys that `/-/npm/v1/keys` lists from now on: entries of [`RegistryKey`](super::signing::RegistryKey), or
    /// anything else. Before this, and with none, it answers 404.
    pub(crate) fn set_keys(&self, entries: impl IntoIterator<Item = Value>) {
        *self.shared.keys.lock().unwrap() = entries.into_iter().collect();
    }

    /// Whether abbreviated documents have `time`, as those of some registries do. The public one's have not.
    pub(crate) fn set_abbreviates_with_times(&self, does: bool) {
        self.shared.abbreviates_with_times.store(does, Ordering::Relaxed);
    }

    /// From now on.
    pub(crate) fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Closes the port and cuts every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Listens again on the same port.
    pub(crate) fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        let port = self.port;
        let (ready, wait) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
            ready.send(listener.as_ref().map(|_| ()).map_err(ToString::to_string)).unwrap();
            axum::serve(listener.unwrap(), app).await.unwrap();
        });
        wait.recv().unwrap().unwrap_or_else(|error| panic!("the upstream cannot listen on {port}: {error}"));
        self.runtime = Some(runtime);
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How often a path was asked for, decoded and without its query.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.shared.seen.lock().unwrap().iter().filter(|seen| seen.path == path).count()
    }

    /// Which forms of a package's document were asked for, in order.
    pub(crate) fn forms(&self, name: &str) -> Vec<Form> {
        let path = format!("/{name}");
        self.shared
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.path == path)
            .map(|seen| form_of(&seen.headers))
            .collect()
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A small tree with one of everything: a scope, ranges, several versions, prereleases, a program, an install script,
/// an optional dependency that does not exist, a peer, a bundle of files, a deprecated version.
pub(crate) fn fixtures() -> Vec<Package> {
    vec![
        Package::new("app-base")
            .depends("1.0.0", &[("left", "^1.0.0"), ("@fix/right", "~2.1.0")])
            .depends("1.1.0", &[("left", "^1.0.0"), ("@fix/right", "~2.1.0"), ("command", "*")]),
        Package::new("left")
            .version("1.0.0")
            .version("1.2.0")
            .version("2.0.0-beta.1")
            .tag("next", "2.0.0-beta.1")
            .deprecated("1.0.0", "use 1.2.0"),
        Package::new("@fix/right")
            .version("2.0.0")
            .depends("2.1.0", &[("leaf", "1.x")])
            .depends("2.1.9", &[("leaf", "1.x")])
            .version("2.2.0"),
        Package::new("leaf").version("1.0.0").version("1.0.1").version("2.0.0"),
        Package::new("command")
            .tarball(Tarball::new("command", "3.0.0").bin("fixture-command", "the fixture's command ran")),
        Package::new("scripted").tarball(
            Tarball::new("scripted", "1.0.0")
                .set("scripts", json!({ "postinstall": "node postinstall.js" }))
                .file("postinstall.js", "require('fs').writeFileSync('ran.txt', 'yes')\n"),
        ),
        Package::new("picky").tarball(
            Tarball::new("picky", "1.0.0")
                .set("optionalDependencies", json!({ "absent-from-everywhere": "^1.0.0", "leaf": "^1.0.0" })),
        ),
        Package::new("with-peer")
            .tarball(Tarball::new("with-peer", "1.0.0").set("peerDependencies", json!({ "left": "^1.0.0" }))),
        Package::new("large").tarball(Tarball::new("large", "1.0.0").file("data.bin", noise(2 << 20))),
        Package::new("foreign-root").tarball(Tarball::new("foreign-root", "1.0.0").root("not-package")),
    ]
}

/// A package with so many versions that its full document is some megabytes.
pub(crate) fn big(name: &str, versions: usize) -> Package {
    let text = "words ".repeat(60);
    (0..versions).fold(Package::new(name), |package, number| {
        let version = format!("1.{}.{}", number / 100, number % 100);
        package.tarball(Tarball::new(name, &version).set("description", json!(text)))
    })
}

/// Bytes that do not compress. The same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// An answer before the faults: status, content type, and bytes.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    is_tarball: bool,
}

impl Reply {
    fn json(status: StatusCode, body: &Value) -> Self {
        let body = serde_json::to_vec(body).unwrap().into();
        Self { status, content_type: "application/json", body, is_tarball: false }
    }

    fn not_found() -> Self {
        Self::json(StatusCode::NOT_FOUND, &json!({ "error": "Not found" }))
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy().into_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let fault = *shared.fault.lock().unwrap();
    let reply = match fault {
        Fault::Status(status) => {
            Reply::json(StatusCode::from_u16(status).unwrap(), &json!({ "error": "as the test wants" }))
        }
        Fault::StatusAt(start, status) if path.starts_with(start) => {
            Reply::json(StatusCode::from_u16(status).unwrap(), &json!({ "error": "as the test wants" }))
        }
        Fault::TooManyRequests(_) => {
            Reply::json(StatusCode::TOO_MANY_REQUESTS, &json!({ "error": "too many requests" }))
        }
        _ => reply_to(&shared, fault, &head.method, &head.headers, &path, &query, &body),
    };
    if let Fault::Slow(time) = fault {
        tokio::time::sleep(time).await;
    }

    let etag = format!("\"{}\"", &tarballs::shasum(&reply.body)[..16]);
    let unchanged = head.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let status = if unchanged && reply.status == StatusCode::OK { StatusCode::NOT_MODIFIED } else { reply.status };
    let seen = Seen { method: head.method.clone(), path, headers: head.headers.clone(), body: body.to_vec(), status };
    shared.seen.lock().unwrap().push(seen);

    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, reply.content_type)
        .header(header::ETAG, etag)
        .header(header::VARY, "accept, accept-encoding")
        .header(
            header::CACHE_CONTROL,
            if reply.is_tarball { "public, max-age=31557600" } else { "public, max-age=300" },
        );
    if let Fault::TooManyRequests(seconds) = fault {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    if status == StatusCode::NOT_MODIFIED || head.method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    let takes = |coding: &str| {
        let accepted: Option<&str> = head.headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        accepted.is_some_and(|value| value.contains(coding))
    };
    let mut bytes = reply.body;
    // As real upstreams do, for packuments only.
    if !reply.is_tarball && bytes.len() > 1024 && takes("gzip") {
        bytes = tarballs::gzip(&bytes).into();
        response = response.header(header::CONTENT_ENCODING, "gzip");
    }
    response = response.header(header::CONTENT_LENGTH, bytes.len());
    if fault == Fault::Truncated {
        let half = bytes.slice(..bytes.len() / 2);
        let cut = futures::stream::iter([Ok(half), Err(std::io::Error::other("cut by the test"))]);
        return response.body(Body::from_stream(cut)).unwrap();
    }
    response.body(Body::from(bytes)).unwrap()
}

fn reply_to(
    shared: &Shared,
    fault: Fault,
    method: &Method,
    headers: &HeaderMap,
    path: &str,
    query: &str,
    body: &[u8],
) -> Reply {
    match path {
        "/-/ping" => return Reply::json(StatusCode::OK, &json!({})),
        "/-/npm/v1/security/advisories/bulk" => return bulk_audit(shared, headers, body),
        "/-/npm/v1/security/audits/quick" | "/-/npm/v1/security/audits" => {
            return Reply::json(StatusCode::OK, &quick_audit());
        }
        "/-/v1/search" => return search(shared, query),
        "/-/npm/v1/keys" => return keys(shared),
        _ if path.starts_with(ATTESTATIONS) => return attestations(shared, &path[ATTESTATIONS.len()..]),
        _ if path.starts_with("/-/") || !matches!(*method, Method::GET | Method::HEAD) => return Reply::not_found(),
        _ => {}
    }
    let (name, file) = match path[1..].split_once("/-/") {
        Some((name, file)) => (name, Some(file)),
        None => (&path[1..], None),
    };
    let Some(package) = shared.packages.lock().unwrap().get(name).cloned() else { return Reply::not_found() };
    if let Some(file) = file {
        let Some(bytes) = package.tarballs.get(file) else { return Reply::not_found() };
        let bytes = if fault == Fault::TamperedTarballs {
            Tarball::new(name, "0.0.0").file("evil.js", "// not what was published").bytes().into()
        } else {
            bytes.clone()
        };
        return Reply {
            status: StatusCode::OK,
            content_type: "application/octet-stream",
            body: bytes,
            is_tarball: true,
        };
    }
    if fault == Fault::Html {
        let body = Bytes::from_static(b"<!doctype html><title>Welcome to this hotel</title>");
        return Reply { status: StatusCode::OK, content_type: "text/html", body, is_tarball: false };
    }
    let (content_type, body) = match form_of(headers) {
        Form::Full => ("application/json", &package.full),
        Form::Abbreviated if fault == Fault::IgnoresAccept => ("application/json", &package.full),
        Form::Abbreviated if shared.abbreviates_with_times.load(Ordering::Relaxed) => {
            (INSTALL_TYPE, &package.abbreviated_with_times)
        }
        Form::Abbreviated => (INSTALL_TYPE, &package.abbreviated),
    };
    Reply { status: StatusCode::OK, content_type, body: body.clone(), is_tarball: false }
}

/// The form that a request wants.
fn form_of(headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(INSTALL_TYPE) { Form::Abbreviated } else { Form::Full }
}

fn keys(shared: &Shared) -> Reply {
    let keys = shared.keys.lock().unwrap();
    if keys.is_empty() { Reply::not_found() } else { Reply::json(StatusCode::OK, &json!({ "keys": *keys })) }
}

/// Those of `name@version`.
fn attestations(shared: &Shared, spec: &str) -> Reply {
    let packages = shared.packages.lock().unwrap();
    let found = spec.rsplit_once('@').and_then(|(name, version)| packages.get(name)?.attestations.get(version));
    let Some(body) = found else { return Reply::not_found() };
    Reply { status: StatusCode::OK, content_type: "application/json", body: body.clone(), is_tarball: false }
}

fn bulk_audit(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Reply {
    let zipped = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value.as_bytes() == b"gzip");
    let mut plain = Vec::new();
    if zipped {
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut plain).unwrap();
    } else {
        plain.extend_from_slice(body);
    }
    let Ok(asked) = serde_json::from_slice::<Map<String, Value>>(&plain) else {
        return Reply::json(StatusCode::BAD_REQUEST, &json!({ "error": "not JSON" }));
    };
    let known = shared.advisories.lock().unwrap();
    let found: Map<String, Value> =
        asked.keys().filter_map(|name| known.get(name).map(|list| (name.clone(), list.clone()))).collect();
    Reply::json(StatusCode::OK, &Value::Object(found))
}

fn quick_audit() -> Value {
    json!({
        "actions": [], "advisories": {}, "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 1, "devDependencies": 0, "optionalDependencies": 0, "totalDependencies": 1,
        },
    })
}

fn search(shared: &Shared, query: &str) -> Reply {
    let text = url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(key, value)| (key == "text").then(|| value.into_owned()))
        .unwrap_or_default();
    let packages = shared.packages.lock().unwrap();
    let objects: Vec<Value> = packages
        .keys()
        .filter(|name| name.contains(&text))
        .map(|name| {
            json!({
                "package": {
                    "name": name, "version": "1.0.0", "description": format!("The fixture {name}"), "keywords": [],
                    "date": FIRST_PUBLISHED, "links": {}, "publisher": { "username": "fixture" },
                    "maintainers": [{ "username": "fixture", "email": "fixture@example.test" }],
                },
                "score": { "final": 1.0, "detail": { "quality": 1, "popularity": 1, "maintenance": 1 } },
                "searchScore": 1.0,
            })
        })
        .collect();
    Reply::json(StatusCode::OK, &json!({ "total": objects.len(), "objects": objects, "time": FIRST_PUBLISHED }))
}

/// A header that a request had, or nothing.
pub(crate) fn header_of<'a>(seen: &'a Seen, name: &HeaderName) -> &'a str {
    seen.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
