//! `PUT /{package}` with a tarball: what works, and what happens at the same moment.

use axum::body::Body;
use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{START, TestApp, behind, path_of, refused};
use crate::support::http::publish_document;
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Upstream, noise};

#[tokio::test]
async fn a_published_version_can_be_read_at_once() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for name in ["plain", "@acme/tool", "a", "with.dots-and_lines", "0123"] {
        let tarball = Tarball::new(name, "1.0.0").file("data.bin", noise(300_000));
        assert_eq!(alice.get(&path_of(name)).await.status, 404);
        let answer = alice.publish(&tarball).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.json()["ok"], true);
        assert_eq!(answer.json()["success"], true);
        let document = app.anybody().document(name).await;
        assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0" }));
        assert_eq!(document["time"]["1.0.0"], START);
        let version = app.anybody().get(&format!("{}/1.0.0", path_of(name))).await.ok().json();
        let url = version["dist"]["tarball"].as_str().unwrap();
        let path = url.strip_prefix("http://localhost:4873").unwrap();
        assert_eq!(app.anybody().get(path).await.ok().body, tarball.bytes());
    }
}

#[tokio::test]
async fn every_clients_document_is_taken() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = |version: &str| Tarball::new("@acme/tool", version).file("README.md", "from the tarball");
    let document = |version: &str| publish_document(&tarball(version), "latest");

    // Berry sends the attachments first.
    let berry = document("1.0.0");
    let mut first = json!({ "_attachments": berry["_attachments"], "access": "restricted" });
    first.as_object_mut().unwrap().extend(berry.as_object().unwrap().clone());
    assert_eq!(first.as_object().unwrap().keys().next().unwrap(), "_attachments");
    alice.put("/@acme%2ftool", &first).await.ok();

    // Yarn classic names another registry, and writes the readme twice.
    let mut yarn = document("1.1.0");
    yarn["versions"]["1.1.0"]["dist"]["tarball"] = json!("http://elsewhere.example.test/x.tgz");
    yarn["readme"] = json!("from the top");
    yarn["versions"]["1.1.0"]["readme"] = json!("from the version");
    alice.put("/@acme%2ftool", &yarn).await.ok();
    let found = app.anybody().document("@acme/tool").await;
    assert_eq!(found["readme"], "from the version");
    assert!(!found.to_string().contains("elsewhere.example.test"));

    // Bun adds members of its own; npm writes a text for "no readme".
    let mut bun = document("1.2.0");
    bun["versions"]["1.2.0"]["_integrity"] = json!("sha512-x");
    bun["versions"]["1.2.0"]["shasum"] = json!("x");
    bun["versions"]["1.2.0"]["readme"] = json!("ERROR: No README data found!");
    alice.put("/@acme%2ftool", &bun).await.ok();
    let found = app.anybody().document("@acme/tool").await;
    assert_eq!(found["readme"], "from the tarball");
    assert!(found["versions"]["1.2.0"].get("shasum").is_none());

    // Some name the attachment without the scope; old ones send no integrity, and no `_id`.
    let mut old = document("1.3.0");
    let attachment = old["_attachments"]["@acme/tool-1.3.0.tgz"].clone();
    old["_attachments"] = json!({ "tool-1.3.0.tgz": attachment });
    old["versions"]["1.3.0"]["dist"].as_object_mut().unwrap().remove("integrity");
    old.as_object_mut().unwrap().remove("_id");
    alice.put("/@acme%2ftool", &old).await.ok();

    // npm 6 sends all old versions again after a conflict.
    let mut npm6 = app.anybody().document("@acme/tool").await;
    let new = document("1.4.0");
    npm6["versions"]["1.4.0"] = new["versions"]["1.4.0"].clone();
    npm6["dist-tags"]["latest"] = json!("1.4.0");
    npm6["dist-tags"]["other"] = json!("1.0.0");
    npm6["_attachments"] = new["_attachments"].clone();
    alice.put("/@acme%2ftool", &npm6).await.ok();
    let found = app.anybody().document("@acme/tool").await;
    let versions: Vec<&String> = found["versions"].as_object().unwrap().keys().collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"]);
    assert_eq!(found["dist-tags"]["latest"], "1.4.0");
}

#[tokio::test]
async fn a_tag_moves_only_itself() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for (version, tag, expected) in [
        // The first version is `latest` whatever its tag.
        ("1.0.0-rc.1", "rc", json!({ "rc": "1.0.0-rc.1", "latest": "1.0.0-rc.1" })),
        ("1.0.0", "latest", json!({ "rc": "1.0.0-rc.1", "latest": "1.0.0" })),
        ("2.0.0-beta.1", "beta", json!({ "rc": "1.0.0-rc.1", "latest": "1.0.0", "beta": "2.0.0-beta.1" })),
        ("0.9.1", "old", json!({ "rc": "1.0.0-rc.1", "latest": "1.0.0", "beta": "2.0.0-beta.1", "old": "0.9.1" })),
    ] {
        alice.publish_tagged(&Tarball::new("tool", version), tag).await.ok();
        assert_eq!(app.anybody().document("tool").await["dist-tags"], expected, "{version}");
    }
}

#[tokio::test]
async fn build_metadata_does_not_make_another_version() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0+build.1")).await.ok();
    let document = app.anybody().document("tool").await;
    assert_eq!(document["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0"]);
    refused(&alice.publish(&Tarball::new("tool", "1.0.0")).await, 403);
    refused(&alice.publish(&Tarball::new("tool", "1.0.0+build.2")).await, 403);
}

#[tokio::test]
async fn a_version_is_published_once() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = Tarball::new("tool", "1.0.0");
    alice.publish(&tarball).await.ok();
    let (before, stored) = (app.anybody().get("/tool").await.body, app.stored());
    for again in [tarball.clone(), tarball.file("more.js", "more")] {
        let answer = alice.publish(&again).await;
        let sentence = refused(&answer, 403);
        assert_eq!(sentence, "You cannot publish over the previously published versions: 1.0.0.");
    }
    assert_eq!(app.anybody().get("/tool").await.body, before);
    assert_eq!(app.stored(), stored);
}

#[tokio::test]
async fn versions_published_at_the_same_moment_are_all_there() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let publishes = (0..20).map(|number| {
        let alice = alice.clone();
        async move {
            let tag = format!("tag-{number}");
            alice.publish_tagged(&Tarball::new("@acme/tool", &format!("1.{number}.0")), &tag).await.status.as_u16()
        }
    });
    let statuses = futures::future::join_all(publishes).await;
    assert_eq!(statuses, [201; 20]);
    let document = app.anybody().document("@acme/tool").await;
    for number in 0..20 {
        let version = format!("1.{number}.0");
        assert_eq!(document["versions"][&version]["version"], version);
        assert_eq!(document["dist-tags"][format!("tag-{number}")], version);
        assert!(document["time"][&version].is_string());
        let file = app.anybody().get(&format!("/@acme/tool/-/tool-{version}.tgz")).await.ok();
        assert_eq!(file.body, Tarball::new("@acme/tool", &version).bytes());
    }
    assert!(!app.stored().keys().any(|path| path.starts_with("-/staging")));
}

#[tokio::test]
async fn of_one_version_published_by_many_exactly_one_wins() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = |number: usize| Tarball::new("tool", "1.0.0").file("who.txt", format!("publisher {number}"));
    let publishes = (0..20).map(|number| {
        let alice = alice.clone();
        async move { alice.publish(&tarball(number)).await }
    });
    let answers = futures::future::join_all(publishes).await;
    let winners: Vec<usize> = (0..20).filter(|number| answers[*number].status == 201).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let status = answer.status.as_u16();
        assert!([403, 409].contains(&status), "{status}");
        refused(answer, status);
    }
    let bytes = tarball(winners[0]).bytes();
    assert_eq!(app.anybody().get("/tool/-/tool-1.0.0.tgz").await.ok().body, bytes);
    let document = app.anybody().document("tool").await;
    let integrity = crate::support::tarballs::integrity(&bytes);
    assert_eq!(document["versions"]["1.0.0"]["dist"]["integrity"], integrity);
}

#[tokio::test]
async fn a_body_may_arrive_in_any_pieces() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for (number, size) in [1, 7, 1000, 65_536].into_iter().enumerate() {
        let tarball = Tarball::new("tool", &format!("1.0.{number}")).file("data.bin", noise(5_000));
        let body = Bytes::from(publish_document(&tarball, "latest").to_string());
        let pieces: Vec<_> = (0..body.len())
            .step_by(size)
            .map(|at| Ok::<_, std::io::Error>(body.slice(at..(at + size).min(body.len()))))
            .collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        alice.send(Method::PUT, "/tool", &[], body).await.ok();
        let file = app.anybody().get(&format!("/tool/-/tool-1.0.{number}.tgz")).await.ok();
        assert_eq!(file.body, tarball.bytes());
    }
}

#[tokio::test]
async fn only_owners_publish_the_next_version() {
    let app = TestApp::new();
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish_versions("tool", &["1.0.0"]).await;
    let stored = app.stored();
    let sentence = refused(&bob.publish(&Tarball::new("tool", "1.1.0")).await, 403);
    assert!(sentence.contains("npm owner add"), "{sentence}");
    let answer = app.anybody().publish(&Tarball::new("tool", "1.1.0")).await;
    refused(&answer, 401);
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    assert_eq!(app.stored(), stored);

    let app = TestApp::with(|settings| settings.access.owners_only = false);
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish_versions("tool", &["1.0.0"]).await;
    bob.publish_versions("tool", &["1.1.0"]).await;
    assert_eq!(bob.document("tool").await["versions"]["1.1.0"]["_npmUser"]["name"], "bob");
}

#[tokio::test]
async fn a_public_name_is_taken_unless_it_is_claimed() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &["@acme/*", "leaf"]);
    let alice = app.user("alice").await;
    let sentence = refused(&alice.publish(&Tarball::new("left", "9.0.0")).await, 403);
    assert!(sentence.contains("packages.claims"), "{sentence}");
    assert!(app.stored().is_empty());
    upstream.forget();
    for name in ["leaf", "@acme/tool"] {
        alice.publish(&Tarball::new(name, "9.0.0")).await.ok();
        assert_eq!(app.anybody().document(name).await["versions"].as_object().unwrap().len(), 1);
    }
    assert!(upstream.seen().is_empty(), "claimed names are not asked upstream: {:?}", upstream.seen());
    // "Perhaps" is no yes.
    upstream.set(Fault::Status(500));
    refused(&alice.publish(&Tarball::new("brand-new", "1.0.0")).await, 502);
    upstream.set(Fault::None);
    let app = TestApp::with(|settings| behind(settings, &upstream, &[]));
    app.user("alice").await.publish(&Tarball::new("brand-new", "1.0.0")).await.ok();
}

#[tokio::test]
async fn changes_of_every_kind_at_the_same_moment_all_last() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let fans = [app.user("bob").await, app.user("carol").await, app.user("dave").await];
    alice.publish_versions("tool", &["1.0.0"]).await;
    let publishes = (1..6).map(|number| {
        let alice = alice.clone();
        async move { alice.publish(&Tarball::new("tool", &format!("1.{number}.0"))).await.status.is_success() }
    });
    let tags = (0..5).map(|number| {
        let alice = alice.clone();
        let path = format!("/-/package/tool/dist-tags/tag-{number}");
        async move { alice.put(&path, &json!("1.0.0")).await.status.is_success() }
    });
    let stars = fans.iter().map(|fan| {
        let fan = fan.clone();
        async move { fan.put("/-/user/v1/star", &json!({ "package": "tool" })).await.status.is_success() }
    });
    let owners = ["bob", "carol"].map(|name| {
        let alice = alice.clone();
        async move { alice.put("/-/package/tool/owners", &json!({ "user": name })).await.status.is_success() }
    });
    let reads = (0..20).map(|_| {
        let anybody = app.anybody();
        // Whatever a reader sees is whole.
        async move {
            let document = anybody.document("tool").await;
            let latest = document["dist-tags"]["latest"].as_str().unwrap();
            document["versions"][latest].is_object() && document["time"][latest].is_string()
        }
    });
    let (published, tagged, starred, owned, read) = futures::join!(
        futures::future::join_all(publishes),
        futures::future::join_all(tags),
        futures::future::join_all(stars),
        futures::future::join_all(owners),
        futures::future::join_all(reads),
    );
    assert!([published, tagged, starred, owned, read].concat().iter().all(|is_done| *is_done));
    let document = app.anybody().document("tool").await;
    assert_eq!(document["versions"].as_object().unwrap().len(), 6);
    assert_eq!(document["dist-tags"].as_object().unwrap().len(), 6);
    assert_eq!(document["users"].as_object().unwrap().len(), 3);
    assert_eq!(document["maintainers"].as_array().unwrap().len(), 3);
    assert!(document["_rev"].as_str().unwrap().starts_with("16-"), "{}", document["_rev"]);
}
