//! Settings that change while the server runs: all or nothing, and without a restart.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use holdfast::app::App;
use holdfast::http::{HttpService, Peer};
use holdfast::settings::{Auto, Settings as All};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::app::TestApp;
use crate::support::http::{Http, publish_document};
use crate::support::server::{Server, Settings};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Upstream};

const OPEN: &str = "[access]\nanonymous_read = \"open\"\nregistration = \"open\"\n";

/// Waits until something is so.
async fn eventually(what: &str, server: &Server, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} did not come\n{}", server.log().tail(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn health(http: &Http) -> Value {
    http.get("/-/ready").await.ok().json()["settings"].take()
}

#[tokio::test]
async fn a_changed_file_is_in_force_soon_and_one_with_mistakes_never() {
    let server = Settings::alone().config(OPEN).start().await;
    let http = server.http();
    let alice = http.with_token(&http.create_user("alice", "correct horse battery").await);
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    http.get("/tool").await.ok();
    assert_eq!(health(&http).await, json!({ "rejected_since": null, "waiting_for_restart": [] }));

    // A good change beside two mistakes: nothing of it is put in force, and each mistake is told.
    server.rewrite_config("[access]\nanonymous_read = \"closed\"\nregistration = \"perhaps\"\n[sever]\nlisten = 1\n");
    eventually("the mistakes", &server, async || health(&http).await["rejected_since"].is_string()).await;
    http.get("/tool").await.ok();
    for mistake in ["`access.registration`: `perhaps`", "`sever.listen` is not a setting"] {
        assert!(server.log().text().contains(mistake), "{mistake}\n{}", server.log().tail(10));
    }
    let figures = http.get("/-/metrics").await.ok().text();
    assert!(figures.contains("\nholdfast_settings_rejected 1.0\n"), "{figures}");

    server.rewrite_config("[access]\nanonymous_read = \"closed\"\nregistration = \"open\"\n[log]\nlevel = \"debug\"\n");
    eventually("the change", &server, async || http.get("/tool").await.status == StatusCode::UNAUTHORIZED).await;
    assert_eq!(health(&http).await["rejected_since"], Value::Null);
    // What is in memory is there still, and a token is good.
    alice.get("/tool").await.ok();
    assert!(server.log().text().contains("access.anonymous_read, log.level"), "{}", server.log().tail(10));
}

#[tokio::test]
async fn a_signal_has_the_settings_read_again() {
    let server = Settings::alone().config(OPEN).start().await;
    let times = || server.log().text().matches("the settings were read again and are in force").count();
    for wanted in 1..=2 {
        server.hang_up();
        eventually("the settings", &server, async || times() == wanted).await;
    }
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_stays() {
    let server = Settings::alone().config(OPEN).start().await;
    let http = server.http();
    let text = "[server]\nmax_connections = 7\n[cache]\nmemory_bytes = 5\n[access]\nanonymous_read = \"closed\"\n";
    server.rewrite_config(text);
    let waiting = json!(["cache.memory_bytes", "server.max_connections"]);
    eventually("the change", &server, async || health(&http).await["waiting_for_restart"] == waiting).await;
    assert_eq!(http.get("/-/v1/search?text=x").await.status, StatusCode::UNAUTHORIZED, "the rest is in force");
    // A mistake in what needs a restart is one too: the next start would fail.
    server.rewrite_config("[server]\nmax_connections = \"many\"\n[access]\nanonymous_read = \"open\"\n");
    eventually("the mistake", &server, async || health(&http).await["rejected_since"].is_string()).await;
    assert_eq!(http.get("/-/v1/search?text=x").await.status, StatusCode::UNAUTHORIZED);
    // Back again, nothing waits.
    server.rewrite_config(OPEN);
    eventually("the change", &server, async || health(&http).await["waiting_for_restart"] == json!([])).await;
    http.get("/-/v1/search?text=x").await.ok();
}

/// The application by other settings.
fn changed(app: &App, change: impl FnOnce(&mut All), keys: &[&str]) -> App {
    let mut settings = All::default();
    settings.access.anonymous_read = Auto::Open;
    change(&mut settings);
    let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
    app.with_settings(&settings, &keys).unwrap()
}

#[tokio::test]
async fn a_request_under_way_ends_by_the_settings_that_it_began_with() {
    let test = TestApp::new();
    let alice = test.user("alice").await;
    let service = HttpService::new(test.app.clone());
    let token = alice.token().to_owned();
    let put = |name: &str, body: Body| {
        let request = axum::http::Request::builder().method(Method::PUT).uri(format!("/{name}"));
        let request = request.header("host", "localhost:4873").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer("127.0.0.1:50000".parse().unwrap()));
        let service = service.clone();
        async move { service.call(request).await.status() }
    };
    let get = |service: HttpService| async move {
        let request = axum::http::Request::builder().uri("/tool").header("host", "localhost:4873");
        service.call(request.body(Body::empty()).unwrap()).await.status()
    };
    // The name is known not to be here: memory has to learn of what the old application publishes.
    assert_eq!(get(service.clone()).await, StatusCode::NOT_FOUND);

    let document = publish_document(&Tarball::new("tool", "1.0.0"), "latest").to_string();
    let (half, rest) = document.split_at(document.len() / 2);
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    sender.unbounded_send(Ok(Bytes::copy_from_slice(half.as_bytes()))).unwrap();
    let publishing = tokio::spawn(put("tool", Body::from_stream(receiver.map(|piece| piece))));
    while test.app.figures().await.contains("\nholdfast_http_requests_under_way 0\n") {
        tokio::task::yield_now().await;
    }
    service.replace(changed(
        &test.app,
        |settings| settings.limits.body.max_document_bytes = 10,
        &["limits.document_bytes"],
    ));
    sender.unbounded_send(Ok(Bytes::copy_from_slice(rest.as_bytes()))).unwrap();
    drop(sender);
    assert_eq!(publishing.await.unwrap(), StatusCode::CREATED);
    assert_eq!(get(service.clone()).await, StatusCode::OK, "what the old application committed is seen by the new one");
    let other = publish_document(&Tarball::new("other", "1.0.0"), "latest").to_string();
    assert_eq!(put("other", other.into()).await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_the_clients_whose_settings_changed_are_made_anew() {
    let upstream = Upstream::with_fixtures();
    let test = TestApp::before(&upstream, &[]);
    upstream.set(Fault::Status(500));
    for name in ["left", "leaf", "command", "scripted", "picky", "large"] {
        test.anybody().get(&format!("/{name}")).await;
    }
    let left_alone = |app: &App| app.registry.sources().upstreams().next().unwrap().is_left_alone();
    assert!(left_alone(&test.app));
    let behind = |settings: &mut All| crate::support::app::behind(settings, &upstream, &["@acme/*"]);
    let same = changed(&test.app, behind, &["packages.claims"]);
    assert!(left_alone(&same), "what is known of it is kept");
    let other = changed(&test.app, behind, &["upstreams.default.token"]);
    assert!(!left_alone(&other));
}
