//! Ways around the policy that somebody may try, or that an upstream's bad day may open. The clock is held.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, TestApp, behind, refused};
use crate::support::http::Answer;
use crate::support::package::Package;
use crate::support::signing::{RegistryKey, Signing};
use crate::support::upstream::{Fault, Upstream};

/// Half a day before the clocks start.
const YOUNG: &str = "2026-11-23T00:00:00.000Z";
const DAY: Duration = Duration::from_hours(24);

/// An old version and a young one.
fn two(name: &str) -> Package {
    Package::new(name).version("1.0.0").version("1.1.0").published("1.1.0", YOUNG)
}

#[track_caller]
fn withheld(answer: &Answer, code: &str) {
    refused(answer, 403);
    assert_eq!(answer.json()["code"], code);
}

async fn latest(caller: &Caller, name: &str) -> String {
    caller.get_abbreviated(&format!("/{name}")).await.ok().json()["dist-tags"]["latest"].as_str().unwrap().to_owned()
}

/// As from a lockfile: nobody has asked for the document before.
#[tokio::test]
async fn a_tarball_asked_for_first_is_withheld_in_every_spelling() {
    for path in [
        "/@fix/two/-/two-1.1.0.tgz",
        "/@fix%2ftwo/-/two-1.1.0.tgz",
        "/%40fix%2Ftwo/-/two-1.1.0.tgz",
        "/@fix/two/-/@fix/two-1.1.0.tgz",
        "/@fix/two/-/two-1.1.0+build.tgz",
    ] {
        for (method, headers) in [
            (Method::GET, &[][..]),
            (Method::GET, &[("range", "bytes=0-99")][..]),
            (Method::GET, &[("if-none-match", "*")][..]),
            (Method::HEAD, &[][..]),
        ] {
            let upstream = Upstream::start([two("@fix/two")]);
            let app = TestApp::before(&upstream, &[]);
            let answer = app.anybody().send(method.clone(), path, headers, axum::body::Body::empty()).await;
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
            assert_eq!(upstream.count("/@fix/two/-/two-1.1.0.tgz"), 0, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_away_neither_opens_nor_keeps_shut() {
    let mut upstream = Upstream::start([two("two")]);
    let app = TestApp::before(&upstream, &[]);
    assert_eq!(latest(&app.anybody(), "two").await, "1.0.0");
    app.anybody().get("/two/-/two-1.0.0.tgz").await.ok();
    upstream.stop();
    app.clock.advance(DAY);
    assert_eq!(latest(&app.anybody(), "two").await, "1.0.0");
    withheld(&app.anybody().get("/two/-/two-1.1.0.tgz").await, "held");
    // Its time comes although nothing new can be heard of it.
    app.clock.advance(2 * DAY);
    assert_eq!(latest(&app.anybody(), "two").await, "1.1.0");
    upstream.resume();
    app.anybody().get("/two/-/two-1.1.0.tgz").await.ok();
}

#[tokio::test]
async fn what_was_withheld_once_is_not_delivered_by_a_faulty_answer() {
    for fault in [Fault::Html, Fault::Truncated, Fault::Status(500), Fault::Status(404)] {
        let upstream = Upstream::start([two("two")]);
        let app = TestApp::before(&upstream, &[]);
        assert_eq!(latest(&app.anybody(), "two").await, "1.0.0");
        upstream.set(fault);
        app.clock.advance(DAY);
        let answer = app.anybody().get_abbreviated("/two").await;
        let is_older = answer.status == 200 && answer.json()["dist-tags"]["latest"] == "1.0.0";
        assert!(is_older || answer.status.is_client_error() || answer.status.is_server_error(), "{fault:?}");
        assert_ne!(app.anybody().get("/two/-/two-1.1.0.tgz").await.status, 200, "{fault:?}");
    }
}

/// The keys are away for a while: a rule that wants signatures lets nothing through by it, and what was
/// decided without them is forgotten when they are back.
#[tokio::test]
async fn keys_that_are_away_open_nothing_and_are_asked_for_again() {
    let key = RegistryKey::generate();
    let package = Package::new("signed").version("1.0.0").version("1.1.0").signed("1.0.0", &key, Signing::Right);
    let upstream = Upstream::start([package]);
    upstream.set_keys([key.entry()]);
    let app = TestApp::with(|settings| behind(settings, &upstream, &[]));
    let rules = "[[rule]]\nid = \"signature\"\naction = \"deny\"\npackages = [\"**\"]\nsignature = \"missing\"\nauthor = \"ann\"\nreason = \"r\"\n";
    app.app.registry.set_rules(holdfast::policy::parse_rules(rules, &["default".to_owned()], &[]).unwrap());
    upstream.set(Fault::StatusAt("/-/npm/v1/keys", 503));
    let away = app.anybody().get_abbreviated("/signed").await;
    assert!(away.status != 200 || away.json()["versions"].get("1.1.0").is_none(), "{}", away.text());
    upstream.set(Fault::None);
    app.clock.advance(3 * DAY);
    let versions = app.anybody().get_abbreviated("/signed").await.ok().json()["versions"].clone();
    assert_eq!(versions.as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0"], "after: {versions}");
    let tags = app.anybody().get_abbreviated("/signed").await.ok().json()["dist-tags"].clone();
    assert_eq!(tags, json!({ "latest": "1.0.0" }));
}

/// A new dependency that the upstream cannot tell of just now is not known to be old.
#[tokio::test]
async fn a_dependency_that_cannot_be_looked_at_opens_nothing() {
    let package = Package::new("app").version("1.0.0").depends("1.1.0", &[("fresh", "^1.0.0")]);
    // Old enough by itself, and young enough to be looked at.
    let package = package.published("1.1.0", "2026-11-18T00:00:00.000Z");
    let fresh = Package::new("fresh").version("1.0.0").published("1.0.0", YOUNG);
    let upstream = Upstream::start([package.clone(), fresh]);
    let app = TestApp::before(&upstream, &[]);
    upstream.set(Fault::StatusAt("/fresh", 503));
    assert_eq!(latest(&app.anybody(), "app").await, "1.0.0");
    withheld(&app.anybody().get("/app/-/app-1.1.0.tgz").await, "held_dependency");
}
