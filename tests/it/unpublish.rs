//! Taking versions and packages back, in the steps that npm takes.

use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::tarballs::Tarball;

async fn published() -> (TestApp, Caller) {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0", "2.0.0"]).await;
    alice.publish_tagged(&Tarball::new("@acme/tool", "3.0.0-rc.1"), "rc").await.ok();
    (app, alice)
}

const PATH: &str = "/@acme%2ftool";

/// The document as npm sends it: without the version and the tags that point at it.
fn without(document: &Value, version: &str) -> Value {
    let mut document = document.clone();
    document["versions"].as_object_mut().unwrap().remove(version);
    document["dist-tags"].as_object_mut().unwrap().retain(|_, target| target != version);
    document
}

#[tokio::test]
async fn a_version_goes_in_two_steps() {
    let (app, alice) = published().await;
    let read = alice.get("/@acme%2ftool?write=true").await.ok();
    let document = read.json();
    let first = document["_rev"].as_str().unwrap();
    let mut body = without(&document, "2.0.0");
    body["dist-tags"]["latest"] = json!("1.1.0");
    alice.put(&format!("{PATH}/-rev/{first}"), &body).await.ok();

    let after = alice.get_with("/@acme%2ftool?write=true", &[("if-none-match", read.header("etag"))]).await;
    assert_eq!(after.status, 200, "npm must learn the new revision");
    let after = after.json();
    assert_eq!(after["dist-tags"], json!({ "latest": "1.1.0", "rc": "3.0.0-rc.1" }));
    assert!(after["versions"].get("2.0.0").is_none());
    assert!(after["time"]["2.0.0"].is_string());
    refused(&app.anybody().get("/@acme%2ftool/2.0.0").await, 404);
    refused(&app.anybody().get("/@acme/tool/-/tool-2.0.0.tgz").await, 404);
    assert!(!app.stored().keys().any(|path| path.contains("2.0.0")), "{:?}", app.stored().keys());
    app.anybody().get("/@acme/tool/-/tool-1.1.0.tgz").await.ok();

    let second = after["_rev"].as_str().unwrap();
    assert_ne!(first, second);
    for path in ["/@acme/tool/-/tool-2.0.0.tgz", "/@acme%2ftool/-/tool-2.0.0.tgz"] {
        let answer = alice.delete(&format!("{path}/-rev/{second}")).await.ok();
        assert_eq!(answer.json()["ok"], true);
    }
    // A number is used up, with the same bytes and with others.
    for tarball in [Tarball::new("@acme/tool", "2.0.0"), Tarball::new("@acme/tool", "2.0.0").file("x", "x")] {
        let sentence = refused(&alice.publish(&tarball).await, 403);
        assert!(sentence.contains("previously published versions: 2.0.0"), "{sentence}");
    }
    alice.publish(&Tarball::new("@acme/tool", "2.0.1")).await.ok();
}

#[tokio::test]
async fn latest_moves_to_the_highest_stable_version_that_is_left() {
    let (app, alice) = published().await;
    for (gone, latest) in [("2.0.0", "1.1.0"), ("1.1.0", "1.0.0"), ("1.0.0", "3.0.0-rc.1")] {
        let document = app.anybody().document("@acme/tool").await;
        let revision = document["_rev"].as_str().unwrap();
        alice.put(&format!("{PATH}/-rev/{revision}"), &without(&document, gone)).await.ok();
        assert_eq!(app.anybody().document("@acme/tool").await["dist-tags"]["latest"], latest);
    }
}

#[tokio::test]
async fn a_package_goes_at_once_and_its_numbers_stay_used_up() {
    let (app, alice) = published().await;
    let revision = alice.revision("@acme/tool").await;
    alice.delete(&format!("{PATH}/-rev/{revision}")).await.ok();
    for path in [PATH, "/@acme%2ftool/1.0.0", "/@acme/tool/-/tool-1.0.0.tgz", "/-/package/@acme%2ftool/dist-tags"] {
        refused(&app.anybody().get(path).await, 404);
    }
    refused(&app.anybody().get_abbreviated(PATH).await, 404);
    assert!(!app.stored().keys().any(|path| path.starts_with("-/tarballs/")), "{:?}", app.stored().keys());
    refused(&alice.delete(&format!("{PATH}/-rev/{revision}")).await, 404);
    refused(&alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await, 403);
    alice.publish(&Tarball::new("@acme/tool", "4.0.0")).await.ok();
    let document = app.anybody().document("@acme/tool").await;
    assert_eq!(document["versions"].as_object().unwrap().len(), 1);
    assert_eq!(document["dist-tags"], json!({ "latest": "4.0.0" }));
    assert!(document["time"].get("unpublished").is_none());
    refused(&alice.publish(&Tarball::new("@acme/tool", "3.0.0-rc.1")).await, 403);
}

#[tokio::test]
async fn the_last_version_takes_the_package_with_it() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    let document = app.anybody().document("tool").await;
    let revision = document["_rev"].as_str().unwrap();
    alice.put(&format!("/tool/-rev/{revision}"), &without(&document, "1.0.0")).await.ok();
    refused(&app.anybody().get("/tool").await, 404);
    refused(&alice.publish(&Tarball::new("tool", "1.0.0")).await, 403);
}

#[tokio::test]
async fn an_old_revision_removes_nothing() {
    let (app, alice) = published().await;
    let old = app.anybody().document("@acme/tool").await;
    alice.publish(&Tarball::new("@acme/tool", "2.1.0")).await.ok();
    let before = app.stored();
    let revision = old["_rev"].as_str().unwrap();
    for revision in [revision, "undefined", "0-0", "x"] {
        let status = if revision == "undefined" { 400 } else { 409 };
        refused(&alice.put(&format!("{PATH}/-rev/{revision}"), &without(&old, "1.0.0")).await, status);
        refused(&alice.delete(&format!("{PATH}/-rev/{revision}")).await, 409);
    }
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn a_file_of_a_version_that_is_there_is_not_removed() {
    let (app, alice) = published().await;
    let before = app.stored();
    let revision = alice.revision("@acme/tool").await;
    refused(&alice.delete(&format!("/@acme/tool/-/tool-1.0.0.tgz/-rev/{revision}")).await, 400);
    refused(&alice.delete(&format!("/@acme/tool/-/other.tgz/-rev/{revision}")).await, 404);
    refused(&alice.delete("/nothing/-/nothing-1.0.0.tgz/-rev/1-0").await, 404);
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn only_owners_unpublish() {
    let (app, _) = published().await;
    let document = app.anybody().document("@acme/tool").await;
    let revision = document["_rev"].as_str().unwrap();
    let before = app.stored();
    for (caller, status) in [(app.user("mallory").await, 403), (app.anybody(), 401)] {
        let body = without(&document, "1.0.0");
        refused(&caller.put(&format!("{PATH}/-rev/{revision}"), &body).await, status);
        refused(&caller.delete(&format!("{PATH}/-rev/{revision}")).await, status);
        refused(&caller.delete(&format!("/@acme/tool/-/tool-1.0.0.tgz/-rev/{revision}")).await, status);
    }
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn a_name_that_was_given_up_is_not_free_for_others() {
    let (app, alice) = published().await;
    let document = alice.get("/@acme%2ftool?write=true").await.ok().json();
    alice.delete(&format!("{PATH}/-rev/{}", document["_rev"].as_str().unwrap())).await.ok();
    let next = Tarball::new("@acme/tool", "9.0.0");
    refused(&app.user("mallory").await.publish(&next).await, 403);
    alice.publish(&next).await.ok();
    let owners = app.anybody().document("@acme/tool").await["maintainers"].clone();
    assert_eq!(owners[0]["name"], "alice");
}
