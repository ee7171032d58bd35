//! Provenance that comes with a publish: kept as it came, and only where it speaks of this very tarball.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{TestApp, behind, path_of, refused};
use crate::support::http::publish_document;
use crate::support::signing::{PREDICATE, provenance};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Package, Upstream};

fn with_bundle(tarball: &Tarball, text: &str) -> Value {
    let mut document = publish_document(tarball, "latest");
    let (name, version) = (document["name"].as_str().unwrap(), tarball.manifest["version"].as_str().unwrap());
    let key = format!("{name}-{version}.sigstore");
    document["_attachments"][key] = json!({
        "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": text, "length": text.len(),
    });
    document
}

#[tokio::test]
async fn a_bundle_is_kept_and_served_where_the_document_says() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for name in ["@acme/tool", "plain"] {
        let tarball = Tarball::new(name, "1.0.0");
        let sent = provenance(name, "1.0.0", &tarball.bytes());
        alice.put(&path_of(name), &with_bundle(&tarball, &sent.to_string())).await.ok();
        for answer in [app.anybody().get(&path_of(name)).await, app.anybody().get_abbreviated(&path_of(name)).await] {
            let attestations = answer.ok().json()["versions"]["1.0.0"]["dist"]["attestations"].clone();
            assert_eq!(attestations["provenance"]["predicateType"], PREDICATE);
            let url = attestations["url"].as_str().unwrap();
            let path = url.strip_prefix("http://localhost:4873").unwrap();
            let found = app.anybody().get(path).await.ok().json();
            assert_eq!(found, json!({ "attestations": [{ "predicateType": PREDICATE, "bundle": sent }] }));
        }
    }
    for path in ["@acme%2ftool@1.0.0", "@acme%2Ftool@1.0.0", "%40acme%2Ftool@1.0.0", "@acme/tool@1.0.0", "plain@1.0.0"]
    {
        app.anybody().get(&format!("/-/npm/v1/attestations/{path}")).await.ok();
    }
}

#[tokio::test]
async fn an_upstream_is_asked_once_in_hours_and_not_missed_when_it_is_gone() {
    let mut upstream = Upstream::start([Package::new("signed").version("1.0.0").provenance("1.0.0")]);
    let app = TestApp::with(|settings| behind(settings, &upstream, &[]));
    let path = |version: &str| format!("/-/npm/v1/attestations/signed@{version}");
    let ask = async |version: &str| app.anybody().get(&path(version)).await;
    for _ in 0..3 {
        assert_eq!(ask("1.0.0").await.ok().json()["attestations"][0]["predicateType"], PREDICATE);
        assert_eq!(ask("2.0.0").await.status, 404);
    }
    assert_eq!((upstream.count(&path("1.0.0")), upstream.count(&path("2.0.0"))), (1, 1));

    // What has none may get some.
    app.clock.advance(Duration::from_hours(2));
    ask("1.0.0").await.ok();
    ask("2.0.0").await;
    assert_eq!((upstream.count(&path("1.0.0")), upstream.count(&path("2.0.0"))), (1, 2));

    app.clock.advance(Duration::from_hours(48));
    upstream.stop();
    assert_eq!(ask("1.0.0").await.ok().json()["attestations"][0]["predicateType"], PREDICATE);
    assert_eq!(ask("2.0.0").await.status, 404);
    assert!(ask("3.0.0").await.status.is_server_error());
}

#[tokio::test]
async fn where_there_is_none_the_answer_says_so() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("plain", &["1.0.0"]).await;
    assert!(app.anybody().document("plain").await["versions"]["1.0.0"]["dist"].get("attestations").is_none());
    for (spec, status) in [
        ("plain@1.0.0", 404),
        ("plain@2.0.0", 404),
        ("nothing@1.0.0", 404),
        ("plain", 400),
        ("plain@latest", 400),
        ("@1.0.0", 400),
        ("..%2fx@1.0.0", 400),
    ] {
        let answer = app.anybody().get(&format!("/-/npm/v1/attestations/{spec}")).await;
        assert_eq!(answer.status.as_u16(), status, "{spec}: {}", answer.text());
        refused(&answer, status);
    }
}

#[tokio::test]
async fn a_bundle_that_speaks_of_something_else_is_refused() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = Tarball::new("@acme/tool", "1.0.0");
    let bytes = tarball.bytes();
    let mut garbled = provenance("@acme/tool", "1.0.0", &bytes);
    garbled["dsseEnvelope"]["payload"] = json!("!!!");
    for (what, text) in [
        ("another package", provenance("@acme/other", "1.0.0", &bytes).to_string()),
        ("another version", provenance("@acme/tool", "1.0.1", &bytes).to_string()),
        ("another tarball", provenance("@acme/tool", "1.0.0", b"other").to_string()),
        ("an unreadable statement", garbled.to_string()),
        ("no statement", json!({}).to_string()),
        ("no JSON", "provenance".to_owned()),
        ("nothing", String::new()),
    ] {
        let answer = alice.put("/@acme%2ftool", &with_bundle(&tarball, &text)).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        refused(&answer, 400);
        assert!(app.stored().is_empty(), "{what} left {:?}", app.stored().keys());
    }
}

#[tokio::test]
async fn a_bundle_goes_with_its_version() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = Tarball::new("plain", "1.0.0");
    let sent = provenance("plain", "1.0.0", &tarball.bytes());
    alice.put("/plain", &with_bundle(&tarball, &sent.to_string())).await.ok();
    let revision = alice.revision("plain").await;
    alice.delete(&format!("/plain/-rev/{revision}")).await.ok();
    refused(&app.anybody().get("/-/npm/v1/attestations/plain@1.0.0").await, 404);
    assert!(!app.stored().keys().any(|path| path.starts_with("-/attestations")));
}
