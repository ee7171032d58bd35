//! `PUT /{package}` without a tarball: deprecation, and all that it must not change.

use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::tarballs::Tarball;

async fn published() -> (TestApp, Caller) {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let tarball = Tarball::new("@acme/tool", version)
            .set("dependencies", json!({ "left": "^1.0.0" }))
            .set("scripts", json!({ "start": "node index.js" }));
        alice.publish(&tarball).await.ok();
    }
    (app, alice)
}

const PATH: &str = "/@acme%2ftool";

/// What a test does to a version of a document.
type Change = fn(&mut Value);

#[tokio::test]
async fn npm_deprecates_with_the_whole_document() {
    let (app, alice) = published().await;
    let npm6 = alice.with("referer", "deprecate [REDACTED] <message>").with("npm-session", "0123456789abcdef");
    for caller in [alice, npm6] {
        let mut document = caller.get("/@acme%2ftool?write=true").await.ok().json();
        document["versions"]["1.0.0"]["deprecated"] = json!("use 2");
        document["versions"]["1.1.0"]["deprecated"] = json!("use 2");
        let answer = caller.put(PATH, &document).await.ok();
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["ok"], &answer.json()["success"]),
            (200, &json!(true), &json!(true))
        );
        for answer in [app.anybody().get(PATH).await, app.anybody().get_abbreviated(PATH).await] {
            let versions = &answer.ok().json()["versions"];
            assert_eq!(versions["1.0.0"]["deprecated"], "use 2");
            assert_eq!(versions["1.1.0"]["deprecated"], "use 2");
            assert!(versions["2.0.0"].get("deprecated").is_none());
        }
        // An empty message takes it back, and is shown to nobody.
        let mut document = caller.get("/@acme%2ftool?write=true").await.ok().json();
        for version in document["versions"].as_object_mut().unwrap().values_mut() {
            version["deprecated"] = json!("");
        }
        caller.put(PATH, &document).await.ok();
        for answer in [app.anybody().get(PATH).await, app.anybody().get_abbreviated(PATH).await] {
            assert!(!answer.ok().text().contains("deprecated"));
        }
    }
}

#[tokio::test]
async fn a_document_with_some_versions_leaves_the_others_alone() {
    let (app, alice) = published().await;
    let before = app.anybody().document("@acme/tool").await;
    let body = |version: &Value| json!({ "_id": "@acme/tool", "name": "@acme/tool", "versions": { "1.0.0": version } });
    let mut version = before["versions"]["1.0.0"].clone();
    version["deprecated"] = json!("old");
    alice.put(PATH, &body(&version)).await.ok();
    let after = app.anybody().document("@acme/tool").await;
    assert_eq!(after["versions"]["1.0.0"]["deprecated"], "old");
    assert_eq!(after["versions"]["1.1.0"], before["versions"]["1.1.0"]);
    assert_eq!(after["versions"]["2.0.0"], before["versions"]["2.0.0"]);
    assert_eq!(after["dist-tags"], before["dist-tags"]);
    // vlt takes it back by leaving the member out.
    version.as_object_mut().unwrap().remove("deprecated");
    alice.put(PATH, &body(&version)).await.ok();
    assert_eq!(app.anybody().document("@acme/tool").await["versions"], before["versions"]);
}

#[tokio::test]
async fn members_in_another_order_and_rewritten_urls_are_no_change() {
    let (app, alice) = published().await;
    let mut document = app.anybody().to_host("127.0.0.1:9").get(PATH).await.ok().json();
    let before = app.stored();
    let reversed: serde_json::Map<String, Value> =
        document["versions"]["1.0.0"].as_object().unwrap().clone().into_iter().rev().collect();
    document["versions"]["1.0.0"] = Value::Object(reversed);
    document["time"] = json!({ "created": "1999-01-01T00:00:00.000Z" });
    document["readme"] = json!("rewritten");
    document["maintainers"] = json!([{ "name": "mallory", "email": "" }]);
    document["dist-tags"] = json!({ "latest": "1.0.0" });
    alice.put(PATH, &document).await.ok();
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn what_is_published_cannot_be_changed() {
    let (app, alice) = published().await;
    let before = app.stored();
    let read = app.anybody().document("@acme/tool").await;
    let table: &[(&str, u16, Change)] = &[
        ("integrity", 403, |version| version["dist"]["integrity"] = json!("sha512-AAAA")),
        ("shasum", 403, |version| version["dist"]["shasum"] = json!("00")),
        ("dependencies", 403, |version| version["dependencies"]["evil"] = json!("*")),
        ("dependencies", 403, |version| version["dependencies"] = json!({})),
        ("optionalDependencies", 403, |version| version["optionalDependencies"] = json!({ "evil": "*" })),
        ("peerDependencies", 403, |version| version["peerDependencies"] = json!({ "evil": "*" })),
        ("scripts", 403, |version| version["scripts"]["postinstall"] = json!("evil")),
        ("bin", 403, |version| version["bin"] = json!({ "evil": "index.js" })),
        ("name", 403, |version| version["name"] = json!("other")),
        ("version", 403, |version| version["version"] = json!("9.9.9")),
        ("must be an object", 400, |version| *version = json!("1.0.0")),
    ];
    for (word, status, change) in table {
        let mut document = read.clone();
        change(&mut document["versions"]["1.0.0"]);
        // A good wish in the same document is not granted either.
        document["versions"]["1.1.0"]["deprecated"] = json!("old");
        for path in [PATH.to_owned(), format!("{PATH}/-rev/{}", read["_rev"].as_str().unwrap())] {
            let sentence = refused(&alice.put(&path, &document).await, *status);
            assert!(sentence.contains(word), "{word}: {sentence}");
        }
    }
    let mut document = read.clone();
    document["versions"]["3.0.0"] = document["versions"]["2.0.0"].clone();
    document["versions"]["3.0.0"]["version"] = json!("3.0.0");
    refused(&alice.put(PATH, &document).await, 404);
    refused(&alice.put(&format!("{PATH}/-rev/{}", read["_rev"].as_str().unwrap()), &document).await, 404);
    for body in [json!([]), json!("x"), json!({ "versions": [] })] {
        refused(&alice.put(PATH, &body).await, 400);
    }
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn a_wish_without_a_tarball_makes_no_package() {
    let (app, alice) = published().await;
    let before = app.stored();
    let mut document = app.anybody().document("@acme/tool").await;
    document.as_object_mut().unwrap().remove("_rev");
    refused(&alice.put("/@acme%2fother", &document).await, 404);
    refused(&alice.put("/@acme%2fother/-rev/1-0", &document).await, 404);
    refused(&alice.put("/@acme%2fother", &json!({})).await, 404);
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn an_old_copy_is_a_conflict() {
    let (app, alice) = published().await;
    let mut old = app.anybody().document("@acme/tool").await;
    alice.publish(&Tarball::new("@acme/tool", "3.0.0")).await.ok();
    old["versions"]["1.0.0"]["deprecated"] = json!("old");
    let before = app.stored();
    refused(&alice.put(PATH, &old).await, 409);
    refused(&alice.put(&format!("{PATH}/-rev/{}", old["_rev"].as_str().unwrap()), &old).await, 409);
    assert_eq!(app.stored(), before);
    // Without a revision the wish stands for itself.
    old.as_object_mut().unwrap().remove("_rev");
    alice.put(PATH, &old).await.ok();
    let after = app.anybody().document("@acme/tool").await;
    assert_eq!(after["versions"]["1.0.0"]["deprecated"], "old");
    assert!(after["versions"]["3.0.0"].is_object());
}

#[tokio::test]
async fn only_owners_deprecate() {
    let (app, alice) = published().await;
    let mut document = app.anybody().document("@acme/tool").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("by mallory");
    let before = app.stored();
    refused(&app.user("mallory").await.put(PATH, &document).await, 403);
    refused(&app.anybody().put(PATH, &document).await, 401);
    assert_eq!(app.stored(), before);
    alice.put(PATH, &document).await.ok();
}

#[tokio::test]
async fn a_change_moves_the_validators() {
    let (app, alice) = published().await;
    let before = (app.anybody().get(PATH).await, app.anybody().get_abbreviated(PATH).await);
    app.clock.advance(std::time::Duration::from_secs(5));
    let mut document = app.anybody().document("@acme/tool").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("old");
    alice.put(PATH, &document).await.ok();
    let after = (app.anybody().get(PATH).await, app.anybody().get_abbreviated(PATH).await);
    assert_ne!(before.0.header("etag"), after.0.header("etag"));
    assert_ne!(before.1.header("etag"), after.1.header("etag"));
    assert_ne!(before.0.header("last-modified"), after.0.header("last-modified"));
    assert_ne!(before.0.json()["_rev"], after.0.json()["_rev"]);
    assert_eq!(after.1.json()["modified"], after.0.json()["time"]["modified"]);
    assert_eq!(before.0.json()["time"]["1.0.0"], after.0.json()["time"]["1.0.0"]);
}
