//! In the place of codebox-npm: its bucket is read as it is, and what its own tests promise is kept.
//!
//! The second half has a test for each item of that system's own tests, named after it. Where the answer is another one on
//! purpose, the test's comment says so; `docs/moving-from-codebox.md` has all of these.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast::storage::{Fault, FaultPlan};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, path_of, refused};
use crate::support::codebox::{Bucket, Place, everything, without_additions};
use crate::support::github::{GitHub, Mode};
use crate::support::http::publish_document;
use crate::support::in_process::Plan;
use crate::support::server::{Server, Settings};
use crate::support::signed_in::refused_as;
use crate::support::tarballs::{Tarball, base64, integrity, shasum};
use crate::support::upstream::{Fault as UpstreamFault, Upstream};

const WRITABLE: &[(&str, &str)] = &[("storage.read_only", "false")];

async fn place() -> (Bucket, Place) {
    let upstream = Upstream::with_fixtures();
    let bucket = everything(&upstream).await;
    let place = Place::over(&bucket, upstream, WRITABLE).await;
    (bucket, place)
}

/// A place with one bucket of the test's own.
async fn place_of(bucket: &Bucket) -> Place {
    Place::over(bucket, Upstream::with_fixtures(), WRITABLE).await
}

fn one(version: &str) -> Tarball {
    Tarball::new("old-tool", version)
}

/// The upstream was not asked for a name that is ours.
#[track_caller]
fn not_asked(place: &Place, name: &str) {
    let seen = place.upstream.seen();
    assert!(seen.iter().all(|seen| !seen.path.contains(name)), "{seen:?}");
}

// Reading.

#[tokio::test]
async fn a_bucket_is_read_as_it_is_and_not_written_to() {
    let (bucket, place) = place().await;
    let bob = place.with_old_token("bob");
    for name in ["old-tool", "@acme/old"] {
        let document = bob.document(name).await;
        let mut expected = without_additions(&bucket.document(name));
        let mut seen = without_additions(&document);
        for version in seen["versions"].as_object_mut().unwrap().values_mut() {
            let url = version["dist"]["tarball"].take();
            assert!(url.as_str().unwrap().starts_with(&format!("http://localhost:4873/{name}/-/")), "{url}");
        }
        for version in expected["versions"].as_object_mut().unwrap().values_mut() {
            version["dist"]["tarball"].take();
        }
        assert_eq!(seen, expected, "{name}");
        assert!(document.get("_attachments").is_none());
        let short = bob.get_abbreviated(&path_of(name)).await.ok().json();
        for (version, record) in short["versions"].as_object().unwrap() {
            let path = record["dist"]["tarball"].as_str().unwrap().strip_prefix("http://localhost:4873").unwrap();
            let bytes = bob.get(path).await.ok().body;
            assert_eq!(bytes, Tarball::new(name, version).bytes(), "{name}@{version}");
            assert_eq!(record["dist"]["shasum"], shasum(&bytes));
        }
    }
    assert_eq!(without_staged(&place.app), *bucket.objects());
}

#[tokio::test]
async fn both_forms_of_scoped_file_names_are_served_encoded_or_not() {
    let (_, place) = place().await;
    let bob = place.with_old_token("bob");
    let expected = Tarball::new("@acme/old", "1.0.0").bytes();
    for path in [
        "/@acme%2fold/-/%40acme%2Fold-1.0.0.tgz",
        "/@acme%2fold/-/@acme%2fold-1.0.0.tgz",
        "/@acme/old/-/@acme/old-1.0.0.tgz",
        "/@acme%2fold/-/old-1.0.0.tgz",
        "/@acme/old/-/old-1.0.0.tgz",
    ] {
        assert_eq!(bob.get(path).await.ok().body, expected, "{path}");
    }
    // There any object below the package could be named.
    for path in ["/@acme%2fold/-/index.json", "/@acme%2fold/-/old-index.json", "/old-tool/-/old-tool-..%2findex.json"] {
        assert_eq!(bob.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_document_without_a_revision_has_one_that_moves_with_its_bytes() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let before = ada.get("/old-tool").await.ok();
    let revision = before.json()["_rev"].as_str().unwrap().to_owned();
    assert!(revision.starts_with("0-"), "{revision}");
    let unchanged = ada.get_with("/old-tool", &[("if-none-match", before.header("etag"))]).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    ada.put("/-/package/old-tool/dist-tags/next", &json!("1.0.0")).await.ok();
    let after = ada.get_with("/old-tool", &[("if-none-match", before.header("etag"))]).await.ok();
    assert!(after.json()["_rev"].as_str().unwrap().starts_with("1-"));
}

/// The version that a search shows, once the first start has looked at all documents.
async fn indexed_version(caller: &Caller, name: &str) -> Value {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let found = caller.get(&format!("/-/v1/search?text={name}")).await.ok().json();
        if found["total"] != 0 {
            return found["objects"][0]["package"]["version"].clone();
        }
        assert!(std::time::Instant::now() < deadline, "{name} is not found");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn odd_documents_are_read_and_not_lost() {
    let odd = Bucket::new()
        .publish(&one("1.0.0"), "latest")
        .publish(&one("1.1.0"), "latest")
        .tag("old-tool", "lost", "9.9.9")
        .tag("old-tool", "a%2Bb", "1.0.0")
        .change("old-tool", |document| {
            document["dist-tags"].as_object_mut().unwrap().remove("latest");
            document["keywords"] = json!("a, b");
            document["versions"]["1.0.0"]["deprecated"] = json!(false);
            document["versions"]["1.1.0"]["keywords"] = json!("a, b");
            // Nobody looked whether it is one.
            for number in ["1.1", "1.2.0+build.7"] {
                document["versions"][number] = document["versions"]["1.1.0"].clone();
                document["versions"][number]["version"] = json!(number);
            }
        })
        .with_object("old-tool/1.1.tgz", one("1.1.0").bytes())
        .with_object("old-tool/1.2.0+build.7.tgz", one("1.1.0").bytes());
    let place = place_of(&odd).await;
    let ada = place.with_old_token("Ada");
    let tags = json!({ "a%2Bb": "1.0.0", "lost": "9.9.9" });
    assert_eq!(ada.get("/-/package/old-tool/dist-tags").await.ok().json(), tags);
    for number in ["1.1", "1.2.0+build.7"] {
        let bytes = ada.get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok().body;
        assert_eq!(bytes, one("1.1.0").bytes(), "{number}");
    }
    // Without `latest`, the highest stands for it in a list.
    assert_eq!(indexed_version(&ada, "old-tool").await, "1.2.0+build.7");
    ada.publish_tagged(&one("2.0.0"), "next").await.ok();
    let after = place.stored("old-tool");
    let numbers: Vec<&String> = after["versions"].as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["1.0.0", "1.1.0", "1.1", "1.2.0+build.7", "2.0.0"]);
    let tags = json!({ "a%2Bb": "1.0.0", "latest": "1.2.0+build.7", "lost": "9.9.9", "next": "2.0.0" });
    assert_eq!(after["dist-tags"], tags);
    for number in ["1.1", "1.2.0+build.7"] {
        ada.get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok();
    }
    ada.delete("/-/package/old-tool/dist-tags/a%2Bb").await.ok();
    assert!(place.stored("old-tool")["dist-tags"].get("a%2Bb").is_none(), "the tag by the name that npm knows it by");
}

#[tokio::test]
async fn the_tarballs_of_a_frozen_copy_come_from_the_upstream() {
    let (bucket, place) = place().await;
    let ada = place.with_old_token("Ada");
    let document = ada.document("left").await;
    assert_eq!(document["versions"]["1.0.0"]["deprecated"], "we use 1.2.0");
    assert_ne!(
        document["_rev"],
        bucket.document("left")["_rev"],
        "the upstream's revision says nothing of changes here"
    );
    let bytes = ada.get("/left/-/left-1.2.0.tgz").await.ok().body;
    assert_eq!(integrity(&bytes), document["versions"]["1.2.0"]["dist"]["integrity"].as_str().unwrap());
    // Nobody here owns it, whoever owns the original; and no version of ours can come into it.
    refused_as(&place.with_old_token("bob").put("/left", &document).await, 403, "not_allowed");
    refused_as(&ada.publish(&Tarball::new("left", "9.0.0")).await, 403, "name_taken");
    // What only a version of ours could have is not asked for there.
    assert_eq!(ada.get("/old-tool/-/old-tool-7.0.0.tgz").await.status, StatusCode::NOT_FOUND);
    assert_eq!(place.upstream.count("/old-tool/-/old-tool-7.0.0.tgz"), 0);
}

#[tokio::test]
async fn the_tarball_of_a_private_version_that_is_lost_is_not_taken_from_a_public_package() {
    let bucket = Bucket::new().publish(&Tarball::new("left", "1.2.0"), "latest").without_object("left/1.2.0.tgz");
    let place = place_of(&bucket).await;
    let bob = place.with_old_token("bob");
    bob.get("/left").await.ok();
    refused(&bob.get("/left/-/left-1.2.0.tgz").await, 404);
    not_asked(&place, "left");
}

#[tokio::test]
async fn a_document_that_is_too_large_names_the_command_that_helps() {
    let padding = " ".repeat(65 << 20);
    let bucket = Bucket::new().publish(&one("1.0.0"), "latest");
    let large = format!("{}{padding}", bucket.document("old-tool"));
    let place = place_of(&bucket.with_object("old-tool/index.json", large)).await;
    let bob = place.with_old_token("bob");
    for path in ["/old-tool", "/old-tool/-/old-tool-1.0.0.tgz", "/-/package/old-tool/dist-tags"] {
        let sentence = refused_as(&bob.get(path).await, 500, "document_too_large");
        assert!(sentence.contains("holdfast import codebox"), "{sentence}");
    }
}

// Read-only until told otherwise.

/// Each way to change a package.
async fn changes(caller: &Caller) -> Vec<(&'static str, crate::support::http::Answer)> {
    let document = caller.document("old-tool").await;
    let revision = document["_rev"].as_str().unwrap();
    vec![
        ("publish", caller.publish(&one("5.0.0")).await),
        ("create", caller.publish(&Tarball::new("@acme/new", "1.0.0")).await),
        ("deprecate", caller.put("/old-tool", &document).await),
        ("tag", caller.put("/-/package/old-tool/dist-tags/old", &json!("1.0.0")).await),
        ("untag", caller.delete("/-/package/old-tool/dist-tags/next").await),
        ("unpublish", caller.delete(&format!("/old-tool/-rev/{revision}")).await),
        ("file", caller.delete(&format!("/old-tool/-/old-tool-1.0.0.tgz/-rev/{revision}")).await),
        ("revision", caller.put(&format!("/old-tool/-rev/{revision}"), &document).await),
        ("star", caller.put("/-/user/v1/star/old-tool", &json!({})).await),
    ]
}

#[tokio::test]
async fn a_read_only_registry_changes_no_package_and_does_everything_else() {
    let upstream = Upstream::with_fixtures();
    let bucket = everything(&upstream).await;
    let place = Place::over(&bucket, upstream, &[("storage.read_only", "true")]).await;
    let ada = place.with_old_token("Ada");
    for (what, answer) in changes(&ada).await {
        if what == "star" && answer.status == StatusCode::NOT_FOUND {
            continue;
        }
        let sentence = refused_as(&answer, 403, "read_only");
        assert!(sentence.contains("storage.read_only = false"), "{what}: {sentence}");
    }
    // Who may not is told that, and not that nobody may.
    refused(&place.app.anybody().publish(&one("5.0.0")).await, 401);
    assert_eq!(without_staged(&place.app), *bucket.objects());
    let personal = place.github.personal_token("Ada");
    let signed_in = place.app.anybody().sign_in("Ada", &personal).await.ok();
    let caller = place.app.anybody().with_token(signed_in.json()["token"].as_str().unwrap());
    caller.get("/-/npm/v1/tokens").await.ok();
    caller.get("/leaf").await.ok();
    caller.get("/leaf/-/leaf-1.0.0.tgz").await.ok();
}

// The first write.

#[tokio::test]
async fn the_first_write_upgrades_the_document_and_loses_nothing() {
    let before = everything(&Upstream::with_fixtures()).await;
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    ada.publish(&one("3.0.0")).await.ok();
    let mut after = place.stored("old-tool");
    assert!(after.get("_attachments").is_none());
    assert_eq!(after["_rev"].as_str().unwrap().split('-').next(), Some("1"));
    let times = after["time"].as_object().unwrap();
    for number in ["1.0.0", "1.1.0", "2.0.0-rc.1", "3.0.0", "created", "modified"] {
        assert!(times[number].as_str().is_some(), "{number}");
    }
    // Only administrators may change it, as before: nobody owns it.
    assert!(after.get("maintainers").is_none());
    after["versions"].as_object_mut().unwrap().remove("3.0.0");
    after["dist-tags"]["latest"] = json!("1.1.0");
    let (mut expected, mut seen) = (without_additions(&before.document("old-tool")), without_additions(&after));
    // What describes the latest version describes this one now.
    for mirrored in ["description", "readme", "license"] {
        expected.as_object_mut().unwrap().remove(mirrored);
        seen.as_object_mut().unwrap().remove(mirrored);
    }
    assert_eq!(seen, expected);
    for (key, bytes) in before.objects().iter().filter(|(key, _)| !key.ends_with("/index.json")) {
        assert_eq!(&place.app.files()[key], bytes, "{key}");
    }
    for number in ["1.0.0", "1.1.0", "2.0.0-rc.1", "3.0.0"] {
        assert_eq!(ada.get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok().body, one(number).bytes());
    }
    // Other packages are as they were.
    assert_eq!(place.stored("@acme/old"), before.document("@acme/old"));
}

#[tokio::test]
async fn a_tarball_that_only_the_document_has_is_saved_before_the_document_loses_it() {
    let bucket = Bucket::new()
        .keeping_all_attachments()
        .publish(&one("1.0.0"), "latest")
        .publish(&one("1.1.0"), "latest")
        .publish(&one("1.2.0"), "latest")
        .without_object("old-tool/1.0.0.tgz")
        .without_object("old-tool/1.2.0.tgz")
        .change("old-tool", |document| {
            document["_attachments"]["old-tool-1.1.0.tgz"]["data"] = json!("no base64");
            document["_attachments"]["notes.txt"] = json!({ "data": base64(b"kept") });
        });
    let place = place_of(&bucket).await;
    let ada = place.with_old_token("Ada");
    refused(&ada.get("/old-tool/-/old-tool-1.0.0.tgz").await, 404);
    ada.put("/-/package/old-tool/dist-tags/stable", &json!("1.0.0")).await.ok();
    for number in ["1.0.0", "1.1.0", "1.2.0"] {
        assert_eq!(ada.get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok().body, one(number).bytes());
    }
    let kept = &place.stored("old-tool")["_attachments"];
    assert_eq!(
        *kept,
        json!({
            "old-tool-1.1.0.tgz": bucket.document("old-tool")["_attachments"]["old-tool-1.1.0.tgz"],
            "notes.txt": { "data": base64(b"kept") },
        })
    );
}

#[tokio::test]
async fn of_two_tarballs_of_one_number_the_one_that_the_document_describes_is_served_after_the_first_write() {
    // Two publishes of one version at the same moment could both succeed there: the document of one, the file of the other.
    let other = one("1.0.0").file("other.js", "1");
    let bucket = Bucket::new().publish(&one("1.0.0"), "latest").with_object("old-tool/1.0.0.tgz", other.bytes());
    let place = place_of(&bucket).await;
    let ada = place.with_old_token("Ada");
    ada.put("/-/package/old-tool/dist-tags/stable", &json!("1.0.0")).await.ok();
    assert_eq!(ada.get("/old-tool/-/old-tool-1.0.0.tgz").await.ok().body, one("1.0.0").bytes());
    assert_eq!(place.app.files()["old-tool/1.0.0.tgz"], other.bytes());
    assert!(place.stored("old-tool").get("_attachments").is_none());
}

#[tokio::test]
async fn a_first_write_that_is_cut_off_anywhere_loses_nothing() {
    let bucket = Bucket::new()
        .keeping_all_attachments()
        .publish(&one("1.0.0"), "latest")
        .publish(&one("1.1.0"), "latest")
        .without_object("old-tool/1.0.0.tgz");
    let furnished = Plan::with(&[("packages.proxy", "false"), ("access.admins", "user:alice")]);
    bucket.write_to(furnished.data());
    let server = furnished.start().await;
    let token = server.signed_in("alice").await.token().to_owned();
    server.stop().await;
    for fault in [Fault::Before, Fault::After, Fault::Dead, Fault::Full] {
        let mut failures = 0;
        for at in 0.. {
            let plan = furnished.copied();
            let faults = FaultPlan::new(fault, at);
            let server = plan.start_on(plan.store().await.with_faults(faults.clone()));
            let answer = server.with_token(&token).publish(&one("2.0.0"), "latest").await;
            server.stop().await;
            failures += usize::from(!answer.status.is_success());
            let server = plan.start().await;
            let document = server.get("/old-tool").await.ok().json();
            let has_new = document["versions"].get("2.0.0").is_some();
            assert!(has_new || !answer.status.is_success(), "{fault:?} at {at}");
            let stored = std::fs::read(plan.data().join("old-tool/index.json")).unwrap();
            let stored: Value = serde_json::from_slice(&stored).unwrap();
            let is_there = plan.data().join("old-tool/1.0.0.tgz").is_file();
            assert!(is_there || stored == bucket.document("old-tool"), "{fault:?} at {at}: the only copy is gone");
            let again = server.with_token(&token).publish(&one("2.0.0"), "latest").await;
            assert!(again.status.is_success() || has_new, "{fault:?} at {at}: {}", again.text());
            for number in ["1.0.0", "1.1.0", "2.0.0"] {
                let path = format!("/old-tool/-/old-tool-{number}.tgz");
                assert_eq!(server.get(&path).await.ok().body, one(number).bytes(), "{fault:?} at {at}");
            }
            server.stop().await;
            if faults.writes() <= at {
                break;
            }
        }
        assert!(failures > 1, "{fault:?} broke {failures} writes");
    }
}

#[tokio::test]
async fn many_first_writes_at_once_all_count() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let publishes = (0..8).map(|number| {
        let ada = ada.clone();
        async move { ada.publish_tagged(&one(&format!("4.0.{number}")), &format!("t{number}")).await.ok() }
    });
    futures::future::join_all(publishes).await;
    let document = place.stored("old-tool");
    assert_eq!(document["versions"].as_object().unwrap().len(), 3 + 8);
}

#[tokio::test]
async fn a_number_of_the_older_system_stays_used_up_when_it_is_removed() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let mut document = ada.document("old-tool").await;
    document["versions"].as_object_mut().unwrap().remove("1.0.0");
    let revision = document["_rev"].as_str().unwrap().to_owned();
    ada.put(&format!("/old-tool/-rev/{revision}"), &document).await.ok();
    refused_as(&ada.publish(&one("1.0.0").file("new.js", "1")).await, 403, "version_exists");
}

#[tokio::test]
async fn without_the_older_systems_rule_nobody_but_administrators_changes_a_package_without_owners() {
    let plan = Plan::with(&[("packages.proxy", "false"), ("access.admins", "user:alice")]);
    Bucket::new().publish(&one("1.0.0"), "latest").write_to(plan.data());
    let server = plan.start().await;
    let (alice, bob) = (server.signed_in("alice").await, server.signed_in("bob").await);
    let refused = bob.publish(&one("1.1.0"), "latest").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (403, &json!("not_an_owner")));
    alice.publish(&one("1.1.0"), "latest").await.ok();
    assert_eq!(bob.publish(&one("1.2.0"), "latest").await.status.as_u16(), 403);
    server.stop().await;
}

// The seed's own assignment.

#[tokio::test]
async fn dist_tags_read_comes_from_the_store_first() {
    // A public package of the same name has other tags.
    let bucket = Bucket::new().publish(&Tarball::new("left", "0.1.0"), "ours");
    let place = place_of(&bucket).await;
    let tags = place.with_old_token("bob").get("/-/package/left/dist-tags").await.ok().json();
    assert_eq!(tags, json!({ "latest": "0.1.0", "ours": "0.1.0" }));
    not_asked(&place, "left");
}

#[tokio::test]
async fn dist_tags_read_comes_from_the_upstream_when_the_store_has_none() {
    let (_, place) = place().await;
    let bob = place.with_old_token("bob");
    let tags = bob.get("/-/package/@fix%2fright/dist-tags").await.ok().json();
    assert_eq!(tags, json!({ "latest": "2.2.0" }));
    assert!(!place.upstream.forms("@fix/right").is_empty());
}

#[tokio::test]
async fn dist_tags_read_is_404_when_both_miss() {
    let (_, place) = place().await;
    let answer = place.with_old_token("bob").get("/-/package/nowhere/dist-tags").await;
    refused_as(&answer, 404, "package_not_found");
    assert_eq!(answer.json()["ok"], false);
    assert_eq!(place.upstream.count("/nowhere"), 1);
}

/// A file that cannot be read, whoever asks: a link to itself.
fn unreadable(path: &Path) {
    std::fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
}

/// The line in which the log tells of a failed request. It comes by a pipe of its own, and may come after the answer.
async fn logged(server: &Server, id: &str) -> String {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let log = server.log().text();
        if let Some(line) = log.lines().find(|line| line.contains(id) && line.contains("ERROR")) {
            return line.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "{id} is not in the log: {}", server.log().tail(10));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn dist_tags_read_is_500_and_logged_on_any_other_store_failure() {
    let upstream = Upstream::with_fixtures();
    let bucket = Bucket::new().publish(&Tarball::new("left", "0.1.0"), "ours");
    let mut settings = Settings::upstream(upstream.url()).file("leaf/index.json", "this is no document");
    for (key, bytes) in bucket.objects() {
        settings = settings.file(key, bytes.clone());
    }
    let server = settings.start().await;
    unreadable(&server.data().join("left/index.json"));
    for (name, code) in [("left", "internal"), ("leaf", "damaged")] {
        let answer = server.http().get(&format!("/-/package/{name}/dist-tags")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", answer.text());
        assert_eq!((&answer.json()["ok"], &answer.json()["code"]), (&json!(false), &json!(code)));
        let id = answer.json()["request_id"].as_str().unwrap().to_owned();
        let line = logged(&server, &id).await;
        assert!(line.contains("cause"), "{line}");
    }
    assert_eq!(
        upstream.count("/left") + upstream.count("/leaf"),
        0,
        "a store that fails is no store without the package"
    );
}

// The authorizer's tests.

/// The statuses of a read, a change and a removal.
async fn rights(caller: &Caller) -> [u16; 3] {
    let change = caller.put("/-/package/old-tool/dist-tags/old", &json!("1.0.0")).await;
    let removal = caller.delete("/-/package/old-tool/dist-tags/old").await;
    [caller.get("/old-tool").await.status, change.status, removal.status].map(|status| status.as_u16())
}

/// There 403 without a reason; here 401 with one, so that clients say that it is about signing in.
#[tokio::test]
async fn authorizer_a_token_that_github_rejects_may_do_nothing() {
    let (_, place) = place().await;
    let unknown = place.app.anybody().with_token(&"0".repeat(40));
    assert_eq!(rights(&unknown).await, [401, 401, 401]);
    refused_as(&unknown.get("/old-tool").await, 401, "sign_in_first");
}

/// There 403; here 400 with a reason, for a header that no client sends.
#[tokio::test]
async fn authorizer_a_header_without_bearer_may_do_nothing() {
    let (_, place) = place().await;
    let token = place.github.old_oauth_token("Ada");
    assert_eq!(rights(&place.app.anybody().with("authorization", &token)).await, [400, 400, 400]);
}

#[tokio::test]
async fn authorizer_a_member_of_a_restricted_organisation_reads() {
    let (_, place) = place().await;
    assert_eq!(rights(&place.with_old_token("bob")).await, [200, 403, 403]);
    let asked = place.github.seen();
    let memberships = asked.iter().find(|seen| seen.path.ends_with("/user/memberships/orgs")).unwrap();
    assert!(memberships.query.contains("state=active"), "{memberships:?}");
}

#[tokio::test]
async fn authorizer_who_is_in_no_restricted_organisation_may_do_nothing() {
    let (_, place) = place().await;
    let eve = place.with_old_token("eve");
    assert_eq!(rights(&eve).await, [403, 403, 403]);
    refused_as(&eve.get("/old-tool").await, 403, "not_a_member");
}

#[tokio::test]
async fn authorizer_who_is_no_administrator_reads_only_and_the_app_asks_about_the_token() {
    let (_, place) = place().await;
    assert_eq!(rights(&place.with_old_token("bob")).await, [200, 403, 403]);
    let asked = place.github.seen();
    let check = asked.iter().find(|seen| seen.path.contains(GitHub::CLIENT_ID)).unwrap();
    let basic = base64(format!("{}:{}", GitHub::CLIENT_ID, GitHub::CLIENT_SECRET).as_bytes());
    assert_eq!(check.authorization.as_deref(), Some(format!("Basic {basic}").as_str()));
}

#[tokio::test]
async fn authorizer_an_administrator_reads_and_changes() {
    let (_, place) = place().await;
    assert_eq!(rights(&place.with_old_token("Ada")).await, [200, 201, 200]);
}

/// Not among its tests. There an administrator outside of the organisation could change and not read; here neither.
#[tokio::test]
async fn authorizer_an_administrator_outside_of_the_organisation_may_do_nothing() {
    let (_, place) = place().await;
    assert_eq!(rights(&place.with_old_token("carol")).await, [403, 403, 403]);
}

/// Not among its tests. There a failure of GitHub's was a denial that was remembered; here it is told as what it is.
#[tokio::test]
async fn authorizer_a_github_that_is_away_is_told_as_that() {
    let (_, place) = place().await;
    let bob = place.with_old_token("bob");
    place.github.set_mode(Mode::Down);
    refused_as(&bob.get("/old-tool").await, 503, "github_unavailable");
    place.github.set_mode(Mode::Well);
    bob.get("/old-tool").await.ok();
}

// The packument's tests.

#[tokio::test]
async fn packument_a_package_that_the_store_lacks_comes_from_the_upstream() {
    let (_, place) = place().await;
    let document = place.with_old_token("bob").document("leaf").await;
    assert_eq!(document["dist-tags"]["latest"], "2.0.0");
    assert!(place.upstream.count("/leaf") > 0);
}

/// There with an empty `_attachments`; here without, which no client looks for.
#[tokio::test]
async fn packument_a_package_of_the_store_is_answered_without_its_tarballs() {
    let (bucket, place) = place().await;
    let document = place.with_old_token("bob").document("old-tool").await;
    assert!(document.get("_attachments").is_none());
    assert_eq!(document["readme"], bucket.document("old-tool")["readme"]);
    assert_eq!(document["access"], Value::Null);
    not_asked(&place, "old-tool");
}

/// There the upstream's 500 was passed on; here it is 502, and what was kept stands in.
#[tokio::test]
async fn packument_an_upstream_that_fails_is_an_error() {
    let (_, place) = place().await;
    place.upstream.set(UpstreamFault::Status(500));
    refused(&place.with_old_token("bob").get("/leaf").await, 502);
}

/// There 500; here 503 while a retry may help, which clients do by themselves.
#[tokio::test]
async fn packument_a_store_that_fails_is_an_error() {
    let (_, place) = place().await;
    unreadable(&place.app.data().join("old-tool/index.json"));
    let answer = place.with_old_token("bob").get("/old-tool").await;
    refused_as(&answer, 503, "storage_unavailable");
    not_asked(&place, "old-tool");
}

// The tests of publishing.

/// There 200; here 201, with the same member. There at `{name}/{version}.tgz`; here with the digest in the key.
#[tokio::test]
async fn publish_a_new_package_is_stored_and_found_by_all() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let tarball = Tarball::new("@acme/new", "1.0.0");
    let answer = ada.publish_tagged(&tarball, "beta").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!((&answer.json()["success"], &answer.json()["ok"]), (&json!(true), &json!(true)));
    let document = place.with_old_token("bob").document("@acme/new").await;
    assert_eq!(document["dist-tags"], json!({ "beta": "1.0.0", "latest": "1.0.0" }));
    assert_eq!(
        place.with_old_token("bob").get("/@acme%2fnew/-/%40acme%2Fnew-1.0.0.tgz").await.ok().body,
        tarball.bytes()
    );
}

#[tokio::test]
async fn publish_a_version_of_a_package_that_is_there_keeps_the_others() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    ada.publish_tagged(&one("2.0.0-rc.2"), "next").await.ok();
    let document = ada.document("old-tool").await;
    let numbers: Vec<&String> = document["versions"].as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0-rc.2"]);
    assert_eq!(document["dist-tags"]["next"], "2.0.0-rc.2");
    assert_eq!(document["dist-tags"]["latest"], "1.1.0", "only the tag that was given moves");
}

#[tokio::test]
async fn publish_a_name_of_the_upstreams_is_refused() {
    let (_, place) = place().await;
    let answer = place.with_old_token("Ada").publish(&Tarball::new("leaf", "9.0.0")).await;
    refused_as(&answer, 403, "name_taken");
    assert_eq!(answer.json()["success"], false);
}

#[tokio::test]
async fn publish_a_version_that_is_there_is_refused() {
    let (_, place) = place().await;
    let answer = place.with_old_token("Ada").publish(&one("1.0.0").file("other.js", "1")).await;
    let sentence = refused_as(&answer, 403, "version_exists");
    assert!(sentence.starts_with("You cannot publish over the previously published version"), "{sentence}");
    assert_eq!(answer.json()["success"], false);
}

/// There every failure but a 500 of the upstream's counted as "the name is free".
#[tokio::test]
async fn publish_an_upstream_that_cannot_say_is_no_free_name() {
    let (_, place) = place().await;
    for status in [401, 429, 500, 503] {
        place.upstream.set(UpstreamFault::Status(status));
        let answer = place.with_old_token("Ada").publish(&Tarball::new("@acme/new", "1.0.0")).await;
        assert!(answer.status.is_server_error(), "{status}: {}", answer.text());
        assert_eq!(answer.json()["success"], false);
    }
    assert!(!place.app.files().contains_key("@acme/new/index.json"));
}

/// An application without GitHub whose store fails at the n-th write, over a bucket with one package; alice administers.
async fn failing(at: usize) -> (Plan, crate::support::in_process::InProcess) {
    let plan = Plan::with(&[("packages.proxy", "false"), ("access.admins", "user:alice")]);
    Bucket::new().publish(&one("1.0.0"), "latest").tag("old-tool", "old", "1.0.0").write_to(plan.data());
    let server = plan.start().await;
    let token = server.signed_in("alice").await.token().to_owned();
    server.stop().await;
    // The first one is the mark of the search index.
    let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(Fault::Dead, at)));
    let alice = server.with_token(&token);
    (plan, alice)
}

/// There 500; here 503 or 507.
#[tokio::test]
async fn publish_a_store_that_fails_is_an_error_and_publishes_nothing() {
    let (plan, alice) = failing(1).await;
    let answer = alice.publish(&one("2.0.0"), "latest").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (503, &json!(false)));
    alice.stop().await;
    let server = plan.start().await;
    assert!(server.get("/old-tool").await.ok().json()["versions"].get("2.0.0").is_none());
    server.stop().await;
}

// The tests of deprecation.

/// What npm 6 and older say of the command, by which the older system knew a deprecation.
const REFERER: &str = "deprecate [REDACTED] <message>";

/// There the client's whole document was stored; here only the messages are taken from it, whatever the client says of
/// itself: newer npm says nothing in `Referer`, and was refused there.
#[tokio::test]
async fn deprecate_the_message_is_stored_and_nothing_else_of_the_body() {
    for referer in [Some(REFERER), None] {
        let (_, place) = place().await;
        let mut ada = place.with_old_token("Ada");
        if let Some(referer) = referer {
            ada = ada.with("referer", referer);
        }
        let mut document = ada.get("/old-tool?write=true").await.ok().json();
        document["versions"]["1.0.0"]["deprecated"] = json!("too old");
        document["extra"] = json!(1);
        let answer = ada.put("/old-tool", &document).await;
        assert_eq!((answer.status, &answer.json()["success"]), (StatusCode::OK, &json!(true)));
        let stored = place.stored("old-tool");
        assert_eq!(stored["versions"]["1.0.0"]["deprecated"], "too old");
        assert!(stored.get("extra").is_none() && stored["versions"]["1.1.0"].get("deprecated").is_none());
    }
}

/// There what was published between a client's reading and writing was lost.
#[tokio::test]
async fn deprecate_from_an_older_reading_undoes_nothing() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let mut document = ada.document("old-tool").await;
    ada.publish(&one("3.0.0")).await.ok();
    document["versions"]["1.0.0"]["deprecated"] = json!("too old");
    refused_as(&ada.put("/old-tool", &document).await, 409, "conflict");
    assert!(place.stored("old-tool")["versions"]["3.0.0"].is_object());
}

/// There 500; here 503.
#[tokio::test]
async fn deprecate_a_store_that_fails_is_an_error() {
    let (_plan, alice) = failing(1).await;
    let mut document = alice.get("/old-tool").await.ok().json();
    document["versions"]["1.0.0"]["deprecated"] = json!("too old");
    let answer = alice.put("/old-tool", &document).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (503, &json!(false)));
}

// The tests of tarballs.

#[tokio::test]
async fn tarball_the_key_is_the_name_and_the_files_version() {
    let (bucket, place) = place().await;
    let answer = place.with_old_token("bob").get("/old-tool/-/old-tool-1.0.0.tgz").await.ok();
    assert_eq!(answer.body, bucket.object("old-tool/1.0.0.tgz"));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn tarball_one_that_the_store_lacks_comes_from_the_upstream() {
    let (_, place) = place().await;
    let bytes = place.with_old_token("bob").get("/leaf/-/leaf-1.0.1.tgz").await.ok().body;
    assert_eq!(bytes, Tarball::new("leaf", "1.0.1").bytes());
}

/// There a Lambda error that clients saw as 200 with garbage, or as 500.
#[tokio::test]
async fn tarball_one_that_nobody_has_is_404() {
    let (_, place) = place().await;
    let bob = place.with_old_token("bob");
    for path in ["/old-tool/-/old-tool-9.9.9.tgz", "/leaf/-/leaf-9.9.9.tgz", "/nowhere/-/nowhere-1.0.0.tgz"] {
        refused(&bob.get(path).await, 404);
    }
}

#[tokio::test]
async fn tarball_a_store_that_fails_is_an_error() {
    let (_, place) = place().await;
    unreadable(&place.app.data().join("old-tool/1.0.0.tgz"));
    refused_as(&place.with_old_token("bob").get("/old-tool/-/old-tool-1.0.0.tgz").await, 503, "storage_unavailable");
}

// The tests of dist-tags; those of reading them are above.

/// There 200 with `id` and all tags; here 201 with `ok`, which is what clients look at. The rest of the document stays.
#[tokio::test]
async fn dist_tags_put_takes_a_quoted_version_and_changes_nothing_else() {
    let (bucket, place) = place().await;
    let ada = place.with_old_token("Ada");
    let answer = ada.put("/-/package/old-tool/dist-tags/stable", &json!("1.0.0")).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::CREATED, &json!(true)));
    let mut expected = without_additions(&bucket.document("old-tool"));
    expected["dist-tags"]["stable"] = json!("1.0.0");
    let mut seen = without_additions(&place.stored("old-tool"));
    for document in [&mut expected, &mut seen] {
        for mirrored in ["description", "license"] {
            document.as_object_mut().unwrap().remove(mirrored);
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn dist_tags_delete_removes_the_tag() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    let answer = ada.delete("/-/package/old-tool/dist-tags/next").await;
    assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::OK, &json!(true)));
    let tags = ada.get("/-/package/old-tool/dist-tags").await.ok().json();
    assert_eq!(tags, json!({ "a%2Bb": "1.0.0", "latest": "1.1.0" }));
}

/// There 500; here 404, and 403 with a reason for a package of the upstream's.
#[tokio::test]
async fn dist_tags_put_and_delete_of_a_package_that_is_not_here_are_refused() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    for (name, status) in [("nowhere", 404), ("leaf", 403)] {
        let path = format!("/-/package/{name}/dist-tags/old");
        for answer in [ada.put(&path, &json!("1.0.0")).await, ada.delete(&path).await] {
            refused(&answer, status);
            assert_eq!(answer.json()["ok"], false);
        }
    }
}

/// There a tag could be set to anything, and `latest` deleted.
#[tokio::test]
async fn dist_tags_no_longer_point_nowhere_and_latest_stays() {
    let (_, place) = place().await;
    let ada = place.with_old_token("Ada");
    refused_as(&ada.put("/-/package/old-tool/dist-tags/old", &json!("9.9.9")).await, 404, "version_not_found");
    refused_as(&ada.delete("/-/package/old-tool/dist-tags/latest").await, 400, "latest_tag");
}

/// There 500; here 503.
#[tokio::test]
async fn dist_tags_put_and_delete_are_errors_when_the_store_fails() {
    for method in [Method::PUT, Method::DELETE] {
        let (_plan, alice) = failing(1).await;
        let answer = alice.send(method, "/-/package/old-tool/dist-tags/old", &[], "\"1.0.0\"").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["ok"]), (503, &json!(false)));
    }
}

// The tests of users.

/// Old Enterprise Servers still have the endpoints that the older system signed in with; `Ada.654321` is how its README
/// has a one-time code typed.
#[tokio::test]
async fn user_signs_in_with_a_code_behind_the_name() {
    let github = GitHub::start_old_enterprise().await;
    github.add_user("Ada");
    github.add_member("acme", "Ada", false);
    github.set_password("Ada", "hunter2", Some("654321"));
    let app = crate::support::signed_in::app_for(&github, &["acme"]);
    let answer = app.anybody().sign_in("Ada.654321", "hunter2").await;
    assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::CREATED, &json!(true)));
    let seen = github.seen();
    let call = seen.iter().find(|seen| seen.path.contains("/authorizations")).unwrap();
    assert_eq!(call.otp.as_deref(), Some("654321"));
    assert_eq!(call.authorization.as_deref(), Some(format!("Basic {}", base64(b"Ada:hunter2")).as_str()));
    assert!(call.body.contains("read:org"), "{}", call.body);
}

/// There GitHub's token was the answer; here it is one of ours. The status is the one that old clients insist on.
#[tokio::test]
async fn user_signs_in_for_the_first_time() {
    let (_, place) = place().await;
    let answer = place.app.anybody().sign_in("Ada", &place.github.personal_token("Ada")).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::CREATED, &json!(true)));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    place.app.anybody().with_token(&token).get("/old-tool").await.ok();
}

/// There a second sign-in ended the token of the first.
#[tokio::test]
async fn user_signs_in_again_and_both_tokens_work() {
    let (_, place) = place().await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let answer = place.app.anybody().sign_in("Ada", &place.github.personal_token("Ada")).await.ok();
        tokens.push(answer.json()["token"].as_str().unwrap().to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
    for token in tokens {
        assert_eq!(place.app.anybody().with_token(&token).get("/-/whoami").await.ok().json()["username"], "Ada");
    }
}

/// There 403 for a wrong password; here 401, at which npm says so.
#[tokio::test]
async fn user_with_a_wrong_password_is_refused() {
    let (_, place) = place().await;
    let answer = place.app.anybody().sign_in("Ada", "wrong").await;
    refused(&answer, 401);
    assert_eq!(answer.json()["ok"], false);
}

/// There only administrators could; here whoever has the token. GitHub ends it too.
#[tokio::test]
async fn user_signs_out() {
    let (_, place) = place().await;
    let token = place.github.old_oauth_token("bob");
    let bob = place.app.anybody().with_token(&token);
    bob.get("/-/whoami").await.ok();
    let answer = bob.delete(&format!("/-/user/token/{token}")).await;
    assert_eq!((answer.status, &answer.json()["ok"]), (StatusCode::OK, &json!(true)));
    refused(&bob.get("/-/whoami").await, 401);
}

#[tokio::test]
async fn user_asks_who_they_are() {
    let (_, place) = place().await;
    let answer = place.with_old_token("Ada").get("/-/whoami").await.ok();
    assert_eq!(answer.json()["username"], "Ada");
}

// What was not routed there.

/// There 403 for whatever was not routed, which sends npm's sign-in in the browser on to the older one; any 4xx does.
#[tokio::test]
async fn an_unknown_route_is_404_in_json() {
    let (_, place) = place().await;
    refused_as(&place.with_old_token("Ada").get("/-/nothing/here").await, 404, "no_route");
}

/// There a version was looked for in the body's tags only.
#[tokio::test]
async fn a_body_is_believed_only_where_it_agrees_with_its_tarball() {
    let (_, place) = place().await;
    let mut body = publish_document(&one("6.0.0"), "latest");
    body["versions"]["6.0.0"]["dist"]["shasum"] = json!("0".repeat(40));
    body["versions"]["6.0.0"]["dist"].as_object_mut().unwrap().remove("integrity");
    let answer = place.with_old_token("Ada").put("/old-tool", &body).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    assert!(place.stored("old-tool")["versions"].get("6.0.0").is_none());
}

/// What is stored, without what a sink's position may be under way with.
fn without_staged(app: &TestApp) -> BTreeMap<String, Vec<u8>> {
    let mut stored = app.stored();
    stored.retain(|path, _| !path.starts_with("-/staging/"));
    stored
}
