//! What clients get, what is kept, and what the upstream sees, when the upstream or the way to it misbehaves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use holdfast::secret::Secret;
use serde_json::{Value, json};

use crate::support::chaos::{self, Chaos};
use crate::support::in_process::{InProcess, Plan};
use crate::support::tarballs::{self, Tarball};
use crate::support::upstream::{Fault, Package, Upstream, header_of};

const LARGE: &str = "/large/-/large-1.0.0.tgz";

/// Longer than anything is fresh.
const LATER: Duration = Duration::from_hours(1);

/// An upstream that answers each path as a function says.
struct Scripted {
    url: String,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Scripted {
    async fn start(answer: impl Fn(&str, &str) -> Response<Body> + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
        let (noted, own) = (Arc::clone(&seen), url.clone());
        let app = axum::Router::new().fallback(move |request: Request| {
            let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
            noted.lock().unwrap().push((path.clone(), request.headers().clone()));
            let response = answer(&own, &path);
            async move { response }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen, task }
    }

    fn seen(&self) -> Vec<(String, HeaderMap)> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer_json(body: impl Into<Body>) -> Response<Body> {
    Response::builder().header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

/// The document of one version, whose tarball lies at `tarball_url`.
fn document(name: &str, tarball: &Tarball, tarball_url: &str) -> Value {
    let bytes = tarball.bytes();
    let mut manifest = tarball.manifest.clone();
    manifest["dist"] =
        json!({ "integrity": tarballs::integrity(&bytes), "shasum": tarballs::shasum(&bytes), "tarball": tarball_url });
    let version = manifest["version"].as_str().unwrap().to_owned();
    let modified = "2020-01-01T00:00:00.000Z";
    json!({ "name": name, "modified": modified, "dist-tags": { "latest": version }, "versions": { version: manifest } })
}

#[tokio::test]
async fn what_is_kept_is_served_stale_while_the_upstream_is_down() {
    let mut upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    let fresh = server.get_abbreviated("/left").await.ok();
    assert_eq!(fresh.header("warning"), "");
    upstream.stop();
    // Nobody asks while it is fresh.
    assert_eq!(server.get_abbreviated("/left").await.ok().header("warning"), "");
    plan.clock.advance(LATER);
    let stale = server.get_abbreviated("/left").await.ok();
    assert!(stale.header("warning").starts_with("110"), "{}", stale.header("warning"));
    assert_eq!((stale.json(), stale.header("etag")), (fresh.json(), fresh.header("etag")));
    upstream.resume();
    assert_eq!(server.get_abbreviated("/left").await.ok().header("warning"), "");

    for fault in [Fault::Status(500), Fault::Status(503), Fault::TooManyRequests(3600), Fault::Html, Fault::Truncated] {
        plan.clock.advance(LATER);
        upstream.set(fault);
        // A 304 has no body to break.
        upstream.put(&Package::new("left").version("3.0.0"));
        let stale = server.get_abbreviated("/left").await.ok();
        assert!(stale.header("warning").starts_with("110"), "{fault:?}");
        assert_eq!(stale.json(), fresh.json(), "{fault:?}");
    }
    upstream.set(Fault::None);
    assert_eq!(server.get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "3.0.0");
}

#[tokio::test]
async fn what_is_not_kept_is_refused_in_plain_words_while_the_upstream_fails() {
    let mut upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for (fault, status) in [
        (Fault::Status(500), 502),
        (Fault::Status(503), 502),
        (Fault::Status(401), 502),
        (Fault::TooManyRequests(3600), 503),
        (Fault::Html, 502),
        (Fault::Truncated, 502),
    ] {
        upstream.set(fault);
        server.get("/left").await.refused(&[status]);
        server.get(LARGE).await.refused(&[status]);
        assert!(plan.cached().is_empty(), "{fault:?}: {:?}", plan.cached());
    }
    upstream.stop();
    let refused = server.get_abbreviated("/left").await.refused(&[502]);
    assert!(!refused.text().contains("127.0.0.1"), "{}", refused.text());
    upstream.set(Fault::None);
    upstream.resume();
    server.get_abbreviated("/left").await.ok();
}

#[tokio::test]
async fn a_head_that_does_not_come_is_a_504() {
    let upstream = Upstream::with_fixtures();
    let mut plan = Plan::upstream(upstream.url());
    plan.settings.upstreams[0].client.header_timeout = Duration::from_millis(100);
    upstream.set(Fault::Slow(Duration::from_mins(1)));
    let server = plan.start().await;
    server.get("/left").await.refused(&[504]);
    server.get(LARGE).await.refused(&[504]);
    assert!(plan.cached().is_empty());
}

#[tokio::test]
async fn a_package_that_is_gone_is_not_served_stale() {
    let mut upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    server.get_abbreviated("/left").await.ok();
    server.get("/left").await.ok();
    upstream.remove("left");
    plan.clock.advance(LATER);
    server.get("/left").await.refused(&[404]);
    server.get_abbreviated("/left").await.refused(&[404]);
    assert!(plan.cached().is_empty(), "{:?}", plan.cached());
    server.stop().await;
    upstream.stop();
    // Its last word counts, also after a restart.
    let server = plan.start().await;
    server.get_abbreviated("/left").await.refused(&[404]);
    server.get("/left").await.refused(&[404]);
}

#[tokio::test]
async fn that_there_is_no_such_package_is_remembered_for_a_short_time() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for _ in 0..20 {
        server.get_abbreviated("/soon").await.refused(&[404]);
    }
    assert_eq!(upstream.count("/soon"), 1);
    upstream.put(&Package::new("soon").version("1.0.0"));
    plan.clock.advance(Duration::from_mins(2));
    assert_eq!(server.get_abbreviated("/soon").await.ok().json()["dist-tags"]["latest"], "1.0.0");
    assert_eq!(upstream.count("/soon"), 2);
}

#[tokio::test]
async fn answers_that_are_no_packument_of_the_name_are_not_kept() {
    let right = document("thing", &Tarball::new("thing", "1.0.0"), "http://127.0.0.1:1/thing-1.0.0.tgz");
    let cut = right.to_string()[..100].to_owned();
    let deep = "[".repeat(100_000);
    for body in
        [cut, deep, String::new(), "null".into(), "[]".into(), "{}".into(), right.to_string().replace("thing", "other")]
    {
        let sent = body.clone();
        let upstream = Scripted::start(move |_, _| answer_json(sent.clone())).await;
        let plan = Plan::upstream(&upstream.url);
        let server = plan.start().await;
        for path in ["/thing", "/thing/latest", "/thing/-/thing-1.0.0.tgz"] {
            server.get(path).await.refused(&[502]);
        }
        assert!(plan.cached().is_empty(), "{}", &body[..body.len().min(100)]);
    }
}

#[tokio::test]
async fn a_packument_of_60_megabytes_works() {
    let mut full = document("giant", &Tarball::new("giant", "1.0.0"), "http://127.0.0.1:1/giant-1.0.0.tgz");
    let versions = full["versions"].as_object_mut().unwrap();
    for number in 0..600 {
        let mut manifest = versions["1.0.0"].clone();
        manifest["version"] = json!(format!("2.0.{number}"));
        manifest["description"] = json!("x".repeat(100_000));
        versions.insert(format!("2.0.{number}"), manifest);
    }
    let body = Bytes::from(full.to_string());
    assert!(body.len() > 60_000_000);
    let upstream = Scripted::start(move |_, _| answer_json(body.clone())).await;
    let plan = Plan::upstream(&upstream.url);
    let server = plan.start().await;
    let short = server.get_abbreviated("/giant").await.ok();
    assert_eq!(short.json()["versions"].as_object().unwrap().len(), 601);
    assert!(short.body.len() < 2_000_000);
    assert_eq!(server.get("/giant").await.ok().json()["versions"]["2.0.599"]["version"], "2.0.599");
}

#[tokio::test]
async fn endless_answers_are_cut_at_the_limit() {
    let sent = Arc::new(Mutex::new(0_usize));
    let counted = Arc::clone(&sent);
    let tarball = Tarball::new("thing", "1.0.0");
    let upstream = Scripted::start(move |own, path| {
        if path == "/thing" {
            return answer_json(document("thing", &tarball, &format!("{own}/thing/-/thing-1.0.0.tgz")).to_string());
        }
        let counted = Arc::clone(&counted);
        let piece = Bytes::from(vec![b' '; 64 * 1024]);
        answer_json(Body::from_stream(futures::stream::repeat_with(move || {
            *counted.lock().unwrap() += piece.len();
            Ok::<_, std::io::Error>(piece.clone())
        })))
    })
    .await;
    let mut plan = Plan::upstream(&upstream.url);
    plan.settings.upstreams[0].client.max_packument_bytes = 1 << 20;
    plan.settings.upstreams[0].client.max_tarball_bytes = 1 << 20;
    let server = plan.start().await;
    let refused = server.get("/endless").await.refused(&[502]);
    assert!(refused.text().contains("larger than"), "{}", refused.text());
    let reply = server.get("/thing/-/thing-1.0.0.tgz").await;
    assert!(!reply.is_whole && reply.body.len() <= 1 << 20, "{} bytes", reply.body.len());
    assert!(*sent.lock().unwrap() < 32 << 20, "{} bytes were taken", sent.lock().unwrap());
    assert_eq!(plan.cached(), ["thing/abbreviated.json"]);
    settled(&plan).await;
}

#[tokio::test]
async fn a_tarball_that_is_not_the_right_one_is_never_whole_and_never_kept() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for fault in [Fault::TamperedTarballs, Fault::Truncated] {
        upstream.set(Fault::None);
        server.get_abbreviated("/large").await.ok();
        upstream.set(fault);
        upstream.forget();
        for tries in 1..=3 {
            let reply = server.get(LARGE).await;
            assert!(!reply.is_whole, "{fault:?}: {} with {} bytes", reply.status, reply.body.len());
            settled(&plan).await;
            assert_eq!(upstream.count(LARGE), tries, "{fault:?}: the next try asks again");
            assert!(!plan.cached().iter().any(|file| file.contains(".tgz")), "{:?}", plan.cached());
        }
    }
    upstream.set(Fault::None);
    let right = server.get(LARGE).await.ok();
    settled(&plan).await;
    upstream.forget();
    assert_eq!(server.get(LARGE).await.ok().body, right.body);
    assert_eq!(upstream.seen().len(), 0);
}

/// Waits until no transfer is under way.
async fn settled(plan: &Plan) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !plan.staged().is_empty() {
        assert!(std::time::Instant::now() < deadline, "a transfer does not end");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_tarball_without_a_length_is_never_whole_when_it_is_wrong() {
    let tarball = Tarball::new("thing", "1.0.0");
    let wrong = Bytes::from(Tarball::new("thing", "6.6.6").bytes());
    let upstream = Scripted::start(move |own, path| {
        if path == "/thing" {
            return answer_json(document("thing", &tarball, &format!("{own}/t.tgz")).to_string());
        }
        let pieces: Vec<_> =
            wrong.chunks(7).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
        Response::new(Body::from_stream(futures::stream::iter(pieces)))
    })
    .await;
    let plan = Plan::upstream(&upstream.url);
    let server = plan.start().await;
    assert!(!server.get("/thing/-/thing-1.0.0.tgz").await.is_whole);
    settled(&plan).await;
    assert_eq!(plan.cached().len(), 1);
}

#[tokio::test]
async fn a_network_that_cuts_or_stalls_leaves_nothing_wrong() {
    let upstream = Upstream::with_fixtures();
    let right = reqwest::get(format!("{}{LARGE}", upstream.url())).await.unwrap().bytes().await.unwrap();
    let network = Chaos::before(upstream.url()).await;
    // The documents name the upstream itself; the tarball has to come through the network too.
    let mut plan = Plan::upstream(&network.url());
    plan.settings.upstreams[0].client.header_timeout = Duration::from_millis(300);
    plan.settings.upstreams[0].client.idle_timeout = Duration::from_millis(300);
    let server = plan.start().await;
    for (fault, statuses) in [
        (chaos::Fault::Refuse, [502, 502]),
        (chaos::Fault::Hang, [504, 504]),
        (chaos::Fault::CutAfter(20), [502, 502]),
        (chaos::Fault::CutAfter(450), [502, 502]),
        (chaos::Fault::StallAfter(450), [502, 504]),
        (chaos::Fault::CutRequestAfter(20), [502, 504]),
    ] {
        network.set(fault);
        network.cut_all();
        server.get("/large").await.refused(&statuses);
        assert!(plan.cached().is_empty(), "{fault:?}: {:?}", plan.cached());
    }
    network.set(chaos::Fault::None);
    network.cut_all();
    assert_eq!(server.get(LARGE).await.ok().body, right);
}

const THING: &str = "/thing/-/thing-1.0.0.tgz";

#[tokio::test]
async fn a_file_that_a_document_names_in_vain_is_remembered_for_a_short_time() {
    let upstream = Scripted::start(|own, path| {
        if path == "/thing" {
            let tarball = Tarball::new("thing", "1.0.0");
            return answer_json(document("thing", &tarball, &format!("{own}{THING}")).to_string());
        }
        Response::builder().status(404).body(Body::empty()).unwrap()
    })
    .await;
    let plan = Plan::upstream(&upstream.url);
    let server = plan.start().await;
    let asked = || upstream.seen().iter().filter(|(path, _)| path == THING).count();
    for _ in 0..20 {
        server.get(THING).await.refused(&[404]);
    }
    assert_eq!(asked(), 1);
    plan.clock.advance(Duration::from_mins(2));
    server.get(THING).await.refused(&[404]);
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn tarballs_of_a_package_that_there_is_not_are_asked_for_once() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for number in 0..20 {
        server.get(&format!("/soon/-/soon-1.0.{number}.tgz")).await.refused(&[404]);
    }
    assert_eq!(upstream.seen().len(), 1);
}

/// A server in front of an upstream whose every answer waits for a moment, so that requests meet.
async fn slow_upstream() -> (Upstream, Plan, InProcess) {
    let upstream = Upstream::with_fixtures();
    upstream.set(Fault::Slow(Duration::from_millis(100)));
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    (upstream, plan, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_misses_of_one_thing_are_one_request() {
    let (upstream, _plan, server) = slow_upstream().await;
    let asked = join_all((0..50).map(|_| server.get_abbreviated("/large"))).await;
    let documents: Vec<Value> = asked.into_iter().map(|reply| reply.ok().json()).collect();
    assert!(documents.iter().all(|document| *document == documents[0]));
    assert_eq!(upstream.count("/large"), 1);

    let integrity = documents[0]["versions"]["1.0.0"]["dist"]["integrity"].as_str().unwrap();
    for reply in join_all((0..50).map(|_| server.get(LARGE))).await {
        assert_eq!(tarballs::integrity(&reply.ok().body), integrity);
    }
    assert_eq!(upstream.count(LARGE), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misses_that_meet_the_end_of_a_fetch_are_no_second_request() {
    // Without a pause the first fetch ends while later callers are still looking.
    for _ in 0..10 {
        let upstream = Upstream::with_fixtures();
        let plan = Plan::upstream(upstream.url());
        let server = plan.start().await;
        let callers = (0..50).map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.get("/leaf/-/leaf-1.0.0.tgz").await.ok() })
        });
        join_all(callers).await.into_iter().for_each(|reply| drop(reply.unwrap()));
        assert_eq!((upstream.count("/leaf"), upstream.count("/leaf/-/leaf-1.0.0.tgz")), (1, 1));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_stop_the_others() {
    let tarball = Tarball::new("thing", "1.0.0");
    let bytes = Bytes::from(tarball.bytes());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (expected, at_the_gate) = (bytes.clone(), Arc::clone(&gate));
    let upstream = Scripted::start(move |own, path| {
        let whole = match path {
            // The full form, which is what is asked for: a short one in its place would be asked for again by who comes later.
            "/thing" => {
                let mut document = document("thing", &tarball, &format!("{own}/thing.tgz"));
                document["_id"] = "thing".into();
                document.to_string().into()
            }
            _ => bytes.clone(),
        };
        // One half at once, the other when the gate is opened.
        let (first, second) = (whole.slice(..whole.len() / 2), whole.slice(whole.len() / 2..));
        let gate = Arc::clone(&at_the_gate);
        let pieces = futures::stream::iter([first]).chain(futures::stream::once(async move {
            gate.acquire().await.unwrap().forget();
            second
        }));
        answer_json(Body::from_stream(pieces.map(Ok::<_, std::io::Error>)))
    })
    .await;
    let plan = Plan::upstream(&upstream.url);
    let server = plan.start().await;
    let ask = |path: &'static str| {
        let server = server.clone();
        tokio::spawn(async move { server.get(path).await })
    };
    for (path, upstream_path) in [("/thing", "/thing"), ("/thing/-/thing-1.0.0.tgz", "/thing.tgz")] {
        let asked = || upstream.seen().iter().filter(|(path, _)| path == upstream_path).count();
        let first = ask(path);
        while asked() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let second = ask(path);
        first.abort();
        let third = ask(path);
        gate.add_permits(1);
        for reply in [second.await.unwrap(), third.await.unwrap()] {
            assert!(reply.is_whole && reply.status == StatusCode::OK, "{path}: {}", reply.text());
            assert!(path == "/thing" || reply.body == expected);
        }
        assert_eq!(asked(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_copy_that_is_no_longer_fresh_is_asked_for_with_its_etag() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for path in ["/left", "/@fix%2fright"] {
        let first = server.get_abbreviated(path).await.ok();
        upstream.forget();
        plan.clock.advance(LATER);
        let again = server.get_abbreviated(path).await.ok();
        assert_eq!((again.header("etag"), &again.body), (first.header("etag"), &first.body));
        let seen = upstream.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].status, StatusCode::NOT_MODIFIED);
        assert_eq!(header_of(&seen[0], &header::IF_NONE_MATCH).len(), 18);
        // The 304 made it fresh.
        server.get_abbreviated(path).await.ok();
        assert_eq!(upstream.seen().len(), 1);
    }
    // So it is after a restart.
    server.stop().await;
    upstream.forget();
    let server = plan.start().await;
    server.get_abbreviated("/left").await.ok();
    assert_eq!(upstream.seen().iter().map(|seen| seen.status.as_u16()).collect::<Vec<_>>(), [304]);
}

#[tokio::test]
async fn the_short_form_is_asked_for_when_it_is_wanted() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    server.get_abbreviated("/left").await.ok();
    server.get("/leaf").await.ok();
    // What is there in full serves both.
    server.get_abbreviated("/leaf").await.ok();
    let seen = upstream.seen();
    let accepts: Vec<bool> =
        seen.iter().map(|seen| header_of(seen, &header::ACCEPT).contains("npm.install-v1")).collect();
    assert_eq!(accepts, [true, false]);
}

#[tokio::test]
async fn a_mirror_that_knows_only_the_full_form_will_do() {
    let upstream = Upstream::with_fixtures();
    upstream.set(Fault::IgnoresAccept);
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    for _ in 0..3 {
        let short = server.get_abbreviated("/left").await.ok();
        assert_eq!(short.header("content-type"), "application/vnd.npm.install-v1+json");
        assert!(short.json().get("readme").is_none());
    }
    assert_eq!(server.get("/left").await.ok().json()["readme"], "# left\n");
    assert_eq!(upstream.count("/left"), 1);
    assert_eq!(plan.cached(), ["left/full.json"]);
}

#[tokio::test]
async fn nobody_is_led_into_a_private_network() {
    for target in [
        "http://10.1.2.3/x",
        "http://169.254.169.254/latest",
        "http://[::1]/x",
        "http://intranet/x",
        "file:///etc/passwd",
    ] {
        let tarball = Tarball::new("led", "1.0.0");
        let upstream = Scripted::start(move |own, path| match path {
            "/led" => answer_json(document("led", &tarball, &format!("{own}/led.tgz")).to_string()),
            "/named" => answer_json(document("named", &Tarball::new("named", "1.0.0"), target).to_string()),
            _ => Response::builder().status(302).header(header::LOCATION, target).body(Body::empty()).unwrap(),
        })
        .await;
        let plan = Plan::upstream(&upstream.url);
        let server = plan.start().await;
        for path in ["/package", "/led/-/led-1.0.0.tgz", "/named/-/named-1.0.0.tgz"] {
            let refused = server.get(path).await.refused(&[502]);
            assert!(!refused.text().contains("10.1.2.3"), "{}", refused.text());
        }
    }
}

#[tokio::test]
async fn credentials_reach_their_upstream_and_nobody_else() {
    let tarball = Tarball::new("thing", "1.0.0");
    let bytes = Bytes::from(tarball.bytes());
    let files = Scripted::start(move |_, _| Response::new(Body::from(bytes.clone()))).await;
    let file_url = format!("{}/thing-1.0.0.tgz", files.url);
    let upstream = Scripted::start(move |own, path| match path {
        "/thing" => answer_json(document("thing", &tarball, &file_url).to_string()),
        "/away" => answer_json(document("away", &Tarball::new("thing", "1.0.0"), &format!("{own}/moved")).to_string()),
        "/moved" => Response::builder().status(302).header(header::LOCATION, &file_url).body(Body::empty()).unwrap(),
        _ => Response::builder().status(404).body(Body::empty()).unwrap(),
    })
    .await;
    let mut plan = Plan::upstream(&upstream.url);
    plan.settings.upstreams[0].client.token = Some(Secret::new("upstream-secret".to_owned()));
    let server = plan.start().await.signed_in("alice").await;
    for path in ["/thing", "/away", "/nowhere", "/thing/-/thing-1.0.0.tgz", "/away/-/away-1.0.0.tgz"] {
        server.get(path).await;
    }
    let seen = upstream.seen();
    assert!(seen.len() >= 4, "{seen:?}");
    for (path, headers) in &seen {
        assert_eq!(headers[header::AUTHORIZATION], "Bearer upstream-secret", "{path}");
    }
    assert_eq!(files.seen().len(), 2);
    for (_, headers) in seen.iter().chain(&files.seen()) {
        let text = format!("{headers:?}");
        assert!(!text.contains(server.token()), "the caller's token left the house: {text}");
        assert!(!headers.contains_key(header::COOKIE) && !headers.contains_key("x-forwarded-for"), "{text}");
    }
    for (_, headers) in files.seen() {
        assert!(!headers.contains_key(header::AUTHORIZATION));
    }
}

#[tokio::test]
async fn the_callers_credentials_are_never_forwarded() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await.signed_in("alice").await;
    for path in ["/left", "/left/latest", "/left/-/left-1.2.0.tgz", "/-/v1/search?text=left%20is:public", "/nothing"] {
        server.send(Method::GET, path, &[("npm-otp", "123456"), ("cookie", "a=b")], Body::empty()).await;
    }
    server.put("/left", &json!({ "name": "left", "_id": "left" })).await;
    server.send(Method::POST, "/-/npm/v1/security/advisories/bulk", &[], br#"{"left":["1.0.0"]}"#.to_vec()).await;
    let seen = upstream.seen();
    assert!(seen.len() >= 5);
    for seen in seen {
        for name in ["authorization", "cookie", "npm-otp", "npm-session"] {
            assert!(!seen.headers.contains_key(name), "{} was sent {name}", seen.path);
        }
    }
}

#[tokio::test]
async fn names_that_are_ours_are_never_asked_upstream() {
    let upstream = Upstream::with_fixtures();
    let mut plan = Plan::upstream(upstream.url());
    plan.settings.packages.claims = ["@acme/*", "secret-name"].map(|text| text.parse().unwrap()).to_vec();
    let server = plan.start().await.signed_in("alice").await;
    let claimed = ["@acme%2ftool", "secret-name"];
    for name in claimed {
        let base = name.rsplit("%2f").next().unwrap();
        for path in [format!("/{name}"), format!("/{name}/latest"), format!("/{name}/-/{base}-1.0.0.tgz")] {
            server.get(&path).await.refused(&[404]);
            server.get_abbreviated(&path).await.refused(&[404]);
        }
        server.get(&format!("/-/package/{name}/dist-tags")).await.refused(&[404]);
        server.get(&format!("/-/npm/v1/attestations/{name}@1.0.0")).await.refused(&[404]);
        server.put(&format!("/{name}"), &json!({ "_id": name.replace("%2f", "/"), "versions": {} })).await;
        server.send(Method::PUT, "/-/user/v1/star", &[], json!({ "name": name.replace("%2f", "/") }).to_string()).await;
    }
    let audit = json!({ "@acme/tool": ["1.0.0"], "secret-name": ["1.0.0"], "left": ["1.0.0"] });
    server.send(Method::POST, "/-/npm/v1/security/advisories/bulk", &[], audit.to_string()).await;
    for tarball in [Tarball::new("@acme/tool", "1.0.0"), Tarball::new("secret-name", "1.0.0")] {
        server.publish(&tarball, "latest").await.ok();
    }
    for name in claimed {
        server.get(&format!("/{name}")).await.ok();
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    for seen in seen {
        let told = format!("{} {:?} {}", seen.path, seen.headers, String::from_utf8_lossy(&seen.body));
        assert!(!told.contains("acme") && !told.contains("secret-name"), "{told}");
    }
}

#[tokio::test]
async fn a_name_that_was_published_here_is_not_asked_for_any_more() {
    let upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await.signed_in("alice").await;
    server.publish(&Tarball::new("mine", "1.0.0"), "latest").await.ok();
    assert_eq!(upstream.count("/mine"), 1);
    upstream.put(&Package::new("mine").version("9.0.0"));
    plan.clock.advance(LATER);
    assert_eq!(server.get("/mine").await.ok().json()["dist-tags"]["latest"], "1.0.0");
    server.get("/mine/-/mine-9.0.0.tgz").await.refused(&[404]);
    server.publish(&Tarball::new("mine", "1.1.0"), "latest").await.ok();
    let revision = server.get("/mine").await.json()["_rev"].as_str().unwrap().to_owned();
    server.delete(&format!("/mine/-rev/{revision}")).await.ok();
    // Gone, and still ours.
    server.get("/mine").await.refused(&[404]);
    server.get("/mine/-/mine-9.0.0.tgz").await.refused(&[404]);
    assert_eq!(upstream.count("/mine"), 1);
}

#[tokio::test]
async fn a_public_name_cannot_be_taken_nor_one_that_nobody_can_vouch_for() {
    let mut upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await.signed_in("alice").await;
    server.publish(&Tarball::new("left", "9.0.0"), "latest").await.refused(&[403]);
    upstream.set(Fault::Status(500));
    server.publish(&Tarball::new("perhaps", "1.0.0"), "latest").await.refused(&[502]);
    upstream.set(Fault::Status(401));
    server.publish(&Tarball::new("perhaps", "1.0.0"), "latest").await.refused(&[502]);
    // That it was not there some time ago is nobody's word now.
    upstream.set(Fault::None);
    server.get("/perhaps").await.refused(&[404]);
    plan.clock.advance(LATER);
    upstream.stop();
    server.get("/perhaps").await.refused(&[404]);
    server.publish(&Tarball::new("perhaps", "1.0.0"), "latest").await.refused(&[502]);
    let data = plan.data();
    assert!(!data.join("perhaps").exists() && !data.join("left").exists());
    assert!(!data.join("-/tarballs").exists() && plan.staged().is_empty());
    upstream.set(Fault::None);
    upstream.resume();
    server.publish(&Tarball::new("perhaps", "1.0.0"), "latest").await.ok();
    // Once here, it needs nobody's word.
    upstream.stop();
    server.publish(&Tarball::new("perhaps", "1.1.0"), "latest").await.ok();
}

#[tokio::test]
async fn everything_cached_installs_when_the_upstream_is_gone_after_a_restart() {
    let mut upstream = Upstream::with_fixtures();
    let mut plan = Plan::upstream(upstream.url());
    plan.settings.upstreams[0].client.breaker.failures = 5;
    let server = plan.start().await;
    let paths = ["/left", "/@fix%2fright", "/leaf", "/large"];
    let files = ["/left/-/left-1.2.0.tgz", "/@fix/right/-/right-2.1.9.tgz", "/leaf/-/leaf-1.0.1.tgz", LARGE];
    let mut before = Vec::new();
    for path in paths.iter().chain(&files) {
        before.push(server.get_abbreviated(path).await.ok().body);
    }
    server.stop().await;
    upstream.stop();
    let server = plan.start().await;
    for _ in 0..3 {
        for (path, expected) in paths.iter().chain(&files).zip(&before) {
            assert_eq!(server.get_abbreviated(path).await.ok().body, *expected, "{path}");
        }
    }
    server.get_abbreviated("/command").await.refused(&[502, 503]);
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_anew_and_never_served() {
    let mut upstream = Upstream::with_fixtures();
    let plan = Plan::upstream(upstream.url());
    let server = plan.start().await;
    let right = server.get("/left").await.ok();
    server.stop().await;
    let file = plan.cached_file("left/full.json");
    let sound = std::fs::read(&file).unwrap();
    let step = (sound.len() / 40).max(1);
    for at in (0..sound.len()).step_by(step) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x20;
        std::fs::write(&file, &damaged).unwrap();
        let server = plan.start().await;
        let reply = server.get("/left").await.ok();
        assert_eq!(reply.json(), right.json(), "byte {at}");
        server.get("/left/-/left-1.2.0.tgz").await.ok();
        server.stop().await;
        assert_eq!(std::fs::read(&file).unwrap().len(), sound.len(), "byte {at}");
    }
    // Cut short, emptied, or deleted under a running server.
    for bytes in [&sound[..sound.len() - 1], &sound[..10], b""] {
        std::fs::write(&file, bytes).unwrap();
        let server = plan.start().await;
        assert_eq!(server.get("/left").await.ok().json(), right.json());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(server.get("/left/1.2.0").await.ok().json()["version"], "1.2.0");
        server.stop().await;
    }
    // Nothing to fetch it from: then it is refused.
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    upstream.stop();
    let server = plan.start().await;
    server.get("/left").await.refused(&[502]);
}
