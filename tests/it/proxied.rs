//! Packages of an upstream, as a client sees them here.

use serde_json::{Value, json};

use crate::support::app::{TestApp, refused};
use crate::support::http::INSTALL_ACCEPT;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn no_address_of_the_upstream_is_in_a_document() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    for path in ["/@fix%2fright", "/@fix/right", "/%40fix%2Fright", "/left"] {
        for accept in ["application/json", INSTALL_ACCEPT] {
            let answer = app.anybody().get_with(path, &[("accept", accept)]).await.ok();
            assert!(!answer.text().contains(upstream.url()), "{path}");
            let document = answer.json();
            for (number, version) in document["versions"].as_object().unwrap() {
                let url = version["dist"]["tarball"].as_str().unwrap();
                assert!(url.starts_with("http://localhost:4873/"), "{url}");
                assert!(version["dist"]["integrity"].is_string());
                assert_eq!(version["version"], *number);
            }
            assert!(document["dist-tags"]["latest"].is_string());
        }
    }
    let version = app.anybody().get("/@fix%2fright/latest").await.ok();
    assert!(!version.text().contains(upstream.url()));
}

#[tokio::test]
async fn both_forms_have_validators_of_their_own() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let mut etags = Vec::new();
    for accept in ["application/json", INSTALL_ACCEPT] {
        let first = app.anybody().get_with("/left", &[("accept", accept)]).await.ok();
        let etag = first.header("etag").to_owned();
        let again = app.anybody().get_with("/left", &[("accept", accept), ("if-none-match", &etag)]).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
        assert_eq!(first.header("last-modified"), "Thu, 02 Jan 2020 02:00:00 GMT");
        etags.push(etag);
    }
    assert_ne!(etags[0], etags[1]);
}

#[tokio::test]
async fn a_tarball_is_the_upstreams_first_and_later() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let document = app.anybody().document("@fix/right").await;
    let integrity = &document["versions"]["2.1.0"]["dist"]["integrity"];
    for path in [
        "/@fix/right/-/right-2.1.0.tgz",
        "/@fix%2fright/-/right-2.1.0.tgz",
        "/@fix/right/-/@fix/right-2.1.0.tgz",
        "/@fix/right/-/right-2.1.0+build.tgz",
    ] {
        let answer = app.anybody().get(path).await.ok();
        assert_eq!(*integrity, crate::support::tarballs::integrity(&answer.body), "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert_eq!(answer.header("cache-control"), "public, immutable, max-age=31557600");
    }
    refused(&app.anybody().get("/@fix/right/-/right-9.9.9.tgz").await, 404);
    refused(&app.anybody().get("/@fix/right/-/other-2.1.0.tgz").await, 404);
}

#[tokio::test]
async fn an_upstreams_package_is_not_changed_here() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let alice = app.user("alice").await;
    let mut document: Value = app.anybody().document("left").await;
    let revision = document["_rev"].as_str().unwrap().to_owned();
    document["versions"]["1.0.0"]["deprecated"] = json!("by alice");
    upstream.forget();
    for answer in [
        alice.put("/left", &document).await,
        alice.put(&format!("/left/-rev/{revision}"), &json!({ "maintainers": [{ "name": "alice" }] })).await,
        alice.put("/-/package/left/dist-tags/latest", &json!("1.0.0")).await,
        alice.put("/-/package/left/owners", &json!({ "user": "alice" })).await,
        alice.put("/-/user/v1/star", &json!({ "package": "left" })).await,
    ] {
        let sentence = refused(&answer, 403);
        assert!(sentence.contains("another registry"), "{sentence}");
    }
    for path in [format!("/left/-rev/{revision}"), format!("/left/-/left-1.0.0.tgz/-rev/{revision}")] {
        let status = alice.delete(&path).await.status.as_u16();
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
    assert!(app.stored().is_empty());
    assert!(upstream.seen().iter().all(|seen| seen.method == "GET"), "nothing is written upstream");
}

#[tokio::test]
async fn a_claimed_name_is_never_asked_upstream() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &["@fix/*", "left"]);
    let alice = app.user("alice").await;
    for path in [
        "/@fix%2fright",
        "/@fix/right/latest",
        "/@fix/right/-/right-2.1.0.tgz",
        "/-/package/@fix%2fright/dist-tags",
        "/-/package/left/owners",
        "/-/npm/v1/attestations/left@1.2.0",
        "/left",
    ] {
        refused(&alice.get(path).await, 404);
    }
    refused(&alice.put("/-/package/left/dist-tags/latest", &json!("1.0.0")).await, 404);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}
