//! The application without a process and without a socket: for tests that hold the clock, or break the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt as _;
use holdfast::app::App;
use holdfast::clock::Clock;
use holdfast::http::HttpService;
use holdfast::settings::{Flags, Settings};
use holdfast::storage::{self, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{INSTALL_ACCEPT, publish_document};
use super::tarballs::Tarball;

/// The instant at which held clocks stand.
const HELD_AT: &str = "2026-01-01T00:00:00.000Z";

/// How an application is put together. Cheap to clone; clones share the directory and the clock.
#[derive(Clone)]
pub(crate) struct Plan {
    folder: Arc<TempDir>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
}

/// A running application, called without a socket.
#[derive(Clone)]
pub(crate) struct InProcess {
    pub(crate) app: App,
    token: Option<String>,
}

/// An answer, with a body that may have ended early.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The body came to its proper end.
    pub(crate) is_whole: bool,
}

impl Plan {
    /// On a new directory, with a held clock and without an upstream.
    pub(crate) fn alone() -> Self {
        Self::with(&[("packages.proxy", "false")])
    }

    /// The same with an upstream. Its limits are short where a test would wait for them, and it is asked once.
    pub(crate) fn upstream(url: &str) -> Self {
        let mut plan = Self::with(&[("upstreams.default.url", url)]);
        let client = &mut plan.settings.upstreams[0].client;
        client.retries = 0;
        client.retry_pause = Duration::from_millis(1);
        client.breaker.failures = 0;
        plan
    }

    /// With these settings over the defaults.
    pub(crate) fn with(values: &[(&'static str, &str)]) -> Self {
        let folder = Arc::new(tempfile::Builder::new().prefix("holdfast-in-process-").tempdir().unwrap());
        let mut values: Vec<(&'static str, String)> =
            values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        values.push(("storage.directory", folder.path().join("data").display().to_string()));
        let settings = Settings::load_with(&Flags { file: None, values }, Vec::new()).unwrap().settings;
        Self { folder, settings, clock: Clock::held_at(HELD_AT.parse().unwrap()) }
    }

    /// The same settings and clock on a copy of the directory as it is now.
    pub(crate) fn copied(&self) -> Self {
        let folder = Arc::new(tempfile::Builder::new().prefix("holdfast-in-process-").tempdir().unwrap());
        copy_tree(self.data(), &folder.path().join("data"));
        let mut settings = self.settings.clone();
        settings.storage.directory = folder.path().join("data");
        Self { folder, settings, clock: self.clock.clone() }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        debug_assert!(self.folder.path().is_dir());
        &self.settings.storage.directory
    }

    /// Opens the directory, waiting for an application that is still letting go of it.
    pub(crate) async fn store(&self) -> Store {
        reopened(self.data()).await
    }

    pub(crate) async fn start(&self) -> InProcess {
        let store = self.store().await;
        self.start_on(store)
    }

    pub(crate) fn start_on(&self, store: Store) -> InProcess {
        let app = App::with_store(&self.settings, self.clock.clone(), store).unwrap();
        InProcess { app, token: None }
    }

    /// What lies in the staging directory.
    pub(crate) fn staged(&self) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(self.data().join("-/staging")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    /// What is kept of upstreams' packages, such as `left/full.json`; not that there is none.
    pub(crate) fn cached(&self) -> Vec<String> {
        let root = self.data().join("-/cache");
        let mut found = Vec::new();
        files_below(&root, &mut |path| {
            // Each upstream has a folder of its own.
            let relative = path.strip_prefix(&root).unwrap().display().to_string();
            found.push(relative.split_once('/').unwrap().1.to_owned());
        });
        found.retain(|file| !file.ends_with("/absent.json"));
        found.sort();
        found
    }

    /// Where a file of the cache lies, by what [`Plan::cached`] calls it.
    pub(crate) fn cached_file(&self, name: &str) -> PathBuf {
        let mut found = None;
        files_below(&self.data().join("-/cache"), &mut |path| {
            if path.ends_with(name) {
                found = Some(path.to_owned());
            }
        });
        found.unwrap()
    }
}

impl InProcess {
    /// The same application, as somebody.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.app.stop().await;
    }

    /// The head of an answer, and its body as it comes.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (StatusCode, HeaderMap, BodyDataStream) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = Box::pin(HttpService::new(self.app.clone()).call(request.body(body).unwrap())).await;
        let (head, body) = response.into_parts();
        (head.status, head.headers, body.into_data_stream())
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let (status, headers, mut stream) = self.open(method, path, headers, body.into()).await;
        let mut body = Vec::new();
        let mut is_whole = true;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(bytes) => body.extend_from_slice(&bytes),
                Err(_) => is_whole = false,
            }
        }
        // What a server on a socket makes sure of: fewer bytes than announced are no whole body.
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        is_whole &= announced.is_none_or(|announced: usize| announced == body.len());
        Reply { status, headers, body, is_whole }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    /// As an install asks.
    pub(crate) async fn get_abbreviated(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[("accept", INSTALL_ACCEPT)], Body::empty()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PUT, path, &[], serde_json::to_vec(body).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }

    /// Legacy login, which makes the account where there is none.
    pub(crate) async fn sign_in(&self, name: &str) -> Reply {
        let id = format!("org.couchdb.user:{name}");
        let body = json!({
            "_id": id, "name": name, "password": "correct horse battery", "email": format!("{name}@example.test"),
            "type": "user", "roles": [],
        });
        self.put(&format!("/-/user/{id}"), &body).await
    }

    /// The same application as a new account.
    pub(crate) async fn signed_in(&self, name: &str) -> Self {
        let token = self.sign_in(name).await.ok().json()["token"].as_str().unwrap().to_owned();
        self.with_token(&token)
    }

    /// The caller's token.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub(crate) async fn publish(&self, tarball: &Tarball, tag: &str) -> Reply {
        let document = publish_document(tarball, tag);
        let name = document["name"].as_str().unwrap().replacen('/', "%2f", 1);
        self.put(&format!("/{name}"), &document).await
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success() && self.is_whole, "{}: {}", self.status, self.text());
        self
    }

    /// Fails the test for another status, or for a refusal that is not JSON with an `error`.
    #[track_caller]
    pub(crate) fn refused(self, statuses: &[u16]) -> Self {
        assert!(statuses.contains(&self.status.as_u16()), "{}: {}", self.status, self.text());
        assert!(self.json()["error"].is_string(), "{}: {}", self.status, self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.status, self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Opens a directory, as soon as whoever is still letting go of it has done so.
pub(crate) async fn reopened(directory: &Path) -> Store {
    let deadline = std::time::Instant::now() + super::PATIENCE;
    loop {
        match Store::open(directory) {
            Ok(store) => return store,
            Err(storage::Error::Locked) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("the store cannot be opened: {error:?}"),
        }
    }
}

/// A body that sends these pieces, and then breaks off.
pub(crate) fn cut_body(pieces: Vec<Bytes>) -> Body {
    let pieces = pieces.into_iter().map(Ok).chain([Err(std::io::Error::other("cut by the test"))]);
    Body::from_stream(futures::stream::iter(pieces))
}

/// Calls `found` with every file below a directory, which may be absent.
pub(crate) fn files_below(directory: &Path, found: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found(&path) }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
