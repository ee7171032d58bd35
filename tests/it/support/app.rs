//! The application in this process: the real router over a real store, with a clock that the test holds, and no socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use holdfast::app::App;
use holdfast::auth::Registration;
use holdfast::clock::Clock;
use holdfast::http::{HttpService, Peer};
use holdfast::npm::Timestamp;
use holdfast::operator::Desk;
use holdfast::registry::Redirect;
use holdfast::settings::{Auto, RegistrationSetting, Settings, UpstreamSettings};
use holdfast::storage::{self, FaultPlan, Store};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bucket::location;
use super::http::{Answer, INSTALL_ACCEPT, publish_document};
use super::object_server::ObjectServer;
use super::tarballs::Tarball;
use super::upstream::Upstream;

/// The instant at which every held clock starts; not a whole second, so that rounding shows.
pub(crate) const START: &str = "2026-11-23T12:00:00.750Z";
/// The password of every account that a test makes.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// An application of the test's own.
pub(crate) struct TestApp {
    pub(crate) app: App,
    pub(crate) clock: Clock,
    anybody: Caller,
    /// The store of the application.
    pub(crate) store: Store,
    directory: TempDir,
    settings: Settings,
    /// What the store was asked.
    pub(crate) counts: FaultPlan,
}

/// Somebody who sends requests: with a token or without, from this machine or another.
#[derive(Clone)]
pub(crate) struct Caller {
    service: HttpService,
    peer: SocketAddr,
    headers: Vec<(&'static str, String)>,
}

impl TestApp {
    /// Hosted packages only; open to all, as on loopback.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As [`TestApp::new`], with settings changed.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::at(START.parse().unwrap(), change)
    }

    /// As [`TestApp::with`], with a clock that starts at another instant than the usual one.
    pub(crate) fn at(start: Timestamp, change: impl FnOnce(&mut Settings)) -> Self {
        let (directory, settings) = open_settings(change);
        let store = Store::open(directory.path()).unwrap();
        Self::over(directory, settings, Clock::held_at(start), store)
    }

    /// As [`TestApp::with`], over the bucket of that server, which others may be over too. Not to be restarted: another
    /// one over the same bucket is the same.
    pub(crate) fn over_bucket(server: &ObjectServer, change: impl FnOnce(&mut Settings)) -> Self {
        let (directory, settings) = open_settings(change);
        let store = Store::at(&location(server, &format!("s3://{}/registry", server.bucket()))).unwrap();
        Self::over(directory, settings, Clock::held_at(START.parse().unwrap()), store)
    }

    /// The same, and clients are sent to the bucket for tarballs.
    pub(crate) fn on_bucket(server: &ObjectServer, change: impl FnOnce(&mut Settings)) -> Self {
        Self::over_bucket(server, |settings| {
            settings.redirect = Some(Redirect::Always);
            change(settings);
        })
    }

    fn over(directory: TempDir, settings: Settings, clock: Clock, store: Store) -> Self {
        let counts = FaultPlan::none();
        let app = App::with_store(&settings, clock.clone(), store.clone().with_faults(counts.clone())).unwrap();
        let anybody = Caller {
            service: HttpService::new(app.clone()),
            peer: "127.0.0.1:50000".parse().unwrap(),
            headers: vec![("host", "localhost:4873".to_owned())],
        };
        Self { app, clock, anybody, store, directory, settings, counts }
    }

    /// Another application over the same directory, with the same clock: nothing that was in memory is left. No caller of
    /// the old one may be kept.
    pub(crate) async fn restarted(self) -> Self {
        let (clock, settings) = (self.clock.clone(), self.settings.clone());
        let (directory, store) = self.stopped().await;
        Self::over(directory, settings, clock, store)
    }

    /// Its directory and the store in it, once it has ended. No caller of it may be kept.
    pub(crate) async fn stopped(self) -> (TempDir, Store) {
        let Self { app, anybody, store, directory, .. } = self;
        app.stop().await;
        drop((app, anybody, store));
        let deadline = std::time::Instant::now() + super::PATIENCE;
        let store = loop {
            match Store::open(directory.path()) {
                Ok(store) => break store,
                // Blocking work that is still letting go of it.
                Err(storage::Error::Locked) if std::time::Instant::now() < deadline => tokio::task::yield_now().await,
                Err(error) => panic!("the store cannot be opened: {error:?}"),
            }
        };
        (directory, store)
    }

    /// Where an operator's orders are carried out.
    pub(crate) fn desk(&self) -> Desk<'_> {
        let registry = &self.app.registry;
        let (auth, waivers) = (registry.auth(), registry.waivers());
        let (recorder, clock) = (&self.app.recorder, &self.app.clock);
        Desk { auth, waivers, recorder, sinks: &self.app.sinks, clock, registry: Some(registry) }
    }

    /// Changes the settings of the next start, see [`TestApp::restarted`].
    pub(crate) fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
    }

    /// Puts the settings in force as a reload does: for what is nobody's request. The callers go by the old ones; requests by the new
    /// ones are for the application that is returned.
    pub(crate) fn put_in_force(&self, change: impl FnOnce(&mut Settings)) -> App {
        let mut settings = self.settings.clone();
        change(&mut settings);
        self.app.with_settings(&settings, &["access.rules".to_owned()]).unwrap()
    }

    /// In front of a registry of the test's own, with these names claimed.
    pub(crate) fn before(upstream: &Upstream, claims: &[&str]) -> Self {
        Self::with(|settings| behind(settings, upstream, claims))
    }

    /// Readers need an account too.
    pub(crate) fn closed() -> Self {
        Self::with(|settings| settings.access.anonymous_read = Auto::Closed)
    }

    /// Somebody without an account.
    pub(crate) fn anybody(&self) -> Caller {
        self.anybody.clone()
    }

    /// Somebody with an account, made here if there is none.
    pub(crate) async fn user(&self, name: &str) -> Caller {
        let answer = self.anybody.sign_in(name, PASSWORD).await.ok();
        self.anybody.with_token(answer.json()["token"].as_str().unwrap())
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        self.directory.path()
    }

    /// Every file there is, with its content.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.data(), self.data(), &mut files);
        files
    }

    /// Every file of packages and of work in progress, with its content: what a refused request must leave as it was.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files();
        let others = [
            "-/lock",
            "-/catalog/",
            "-/events/",
            "-/downloads/",
            "-/settings/",
            "-/sinks/",
            "-/derived/",
            "-/users/",
            "-/tokens/",
            "-/token-lists/",
            "-/cache/",
            "-/github/",
        ];
        files.retain(|path, _| !others.iter().any(|other| path.starts_with(other)));
        files
    }

    /// Moves the clock on to an instant, which is not behind it.
    pub(crate) fn advance_to(&self, instant: Timestamp) {
        let millis = instant.as_millis() - self.clock.now().as_millis();
        self.clock.advance(Duration::from_millis(millis.try_into().expect("clocks are not moved back")));
    }

    /// Waits until what was changed can be found.
    pub(crate) async fn settle(&self) {
        self.app.registry.index_settled().await;
    }
}

/// Settings that let anybody read and register, with a folder of the test's own.
fn open_settings(change: impl FnOnce(&mut Settings)) -> (TempDir, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    directory.path().clone_into(&mut settings.storage.directory);
    settings.access.anonymous_read = Auto::Open;
    settings.access.registration = RegistrationSetting::Set(Registration::Open);
    change(&mut settings);
    (directory, settings)
}

/// Puts an upstream and claims into settings.
pub(crate) fn behind(settings: &mut Settings, upstream: &Upstream, claims: &[&str]) {
    let mut client = holdfast::upstream::Settings::new("default", upstream.url().parse().unwrap());
    client.retries = 0;
    settings.upstreams = vec![UpstreamSettings { client, packages: vec!["**".parse().unwrap()] }];
    settings.packages.claims = claims.iter().map(|claim| claim.parse().unwrap()).collect();
}

pub(crate) fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(content) = std::fs::read(&path) {
            files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), content);
        }
    }
}

impl Caller {
    pub(crate) fn with_token(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// Sends one more header with each request; sent twice when it was there already.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut caller = self.clone();
        caller.headers.push((name, value.to_owned()));
        caller
    }

    /// Sends another `Host`.
    pub(crate) fn to_host(&self, host: &str) -> Self {
        let mut caller = self.clone();
        caller.headers.retain(|(name, _)| *name != "host");
        caller.with("host", host)
    }

    /// Comes from another address.
    pub(crate) fn at_peer(&self, peer: &str) -> Self {
        Self { peer: peer.parse().unwrap(), ..self.clone() }
    }

    /// The token that is sent.
    pub(crate) fn token(&self) -> &str {
        let header = self.headers.iter().find(|(name, _)| *name == "authorization");
        header.unwrap().1.strip_prefix("Bearer ").unwrap()
    }

    /// Sends a request. The path is sent as it is.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap_or_else(|error| panic!("{path}: {error}"));
        request.extensions_mut().insert(Peer(self.peer));
        // On the heap: a test that sends many requests has the futures of all in its frame.
        let (head, body) = Box::pin(self.service.clone().call(request)).await.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("the body of an answer");
        Answer { status: head.status, headers: head.headers, body: body.to_vec() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    /// With headers.
    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, Body::empty()).await
    }

    /// As an install asks.
    pub(crate) async fn get_abbreviated(&self, path: &str) -> Answer {
        self.get_with(path, &[("accept", INSTALL_ACCEPT)]).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send_json(Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_json(Method::POST, path, body).await
    }

    pub(crate) async fn send_json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }

    /// Couch login.
    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.put(&format!("/-/user/org.couchdb.user:{name}"), &sign_in_document(name, password)).await
    }

    /// Publishes with the tag `latest`, as npm 11 does.
    pub(crate) async fn publish(&self, tarball: &Tarball) -> Answer {
        self.publish_tagged(tarball, "latest").await
    }

    pub(crate) async fn publish_tagged(&self, tarball: &Tarball, tag: &str) -> Answer {
        let document = publish_document(tarball, tag);
        self.put(&path_of(document["name"].as_str().unwrap()), &document).await
    }

    /// Publishes versions with nothing special, the last one as `latest`.
    pub(crate) async fn publish_versions(&self, name: &str, versions: &[&str]) {
        for version in versions {
            self.publish(&Tarball::new(name, version)).await.ok();
        }
    }

    /// The full document, as it is now.
    pub(crate) async fn document(&self, name: &str) -> Value {
        self.get(&path_of(name)).await.ok().json()
    }

    /// The current revision.
    pub(crate) async fn revision(&self, name: &str) -> String {
        self.document(name).await["_rev"].as_str().unwrap().to_owned()
    }
}

/// A package's path in npm's spelling.
pub(crate) fn path_of(name: &str) -> String {
    format!("/{}", name.replacen('/', "%2f", 1))
}

/// What npm sends to sign in.
pub(crate) fn sign_in_document(name: &str, password: &str) -> Value {
    json!({
        "_id": format!("org.couchdb.user:{name}"), "name": name, "password": password,
        "email": format!("{name}@example.test"), "type": "user", "roles": [], "date": "2026-01-01T00:00:00.000Z",
    })
}

/// Checks a refusal: its status, and a JSON body that every client can show.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, StatusCode::from_u16(status).unwrap(), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    let sentence = body["error"].as_str().unwrap_or_else(|| panic!("no sentence in {body}"));
    assert!(!sentence.is_empty());
    assert_eq!(body["message"], sentence);
    assert!(body["code"].is_string(), "{body}");
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    sentence.to_owned()
}
