//! `/-/v1/search` and `/-/all`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Package, Upstream};

fn names(page: &Value) -> Vec<String> {
    let objects = page["objects"].as_array().unwrap();
    objects.iter().map(|object| object["package"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn search(caller: &Caller, query: &str) -> Value {
    caller.get(&format!("/-/v1/search?{query}")).await.ok().json()
}

#[tokio::test]
async fn pages_have_no_gaps_and_no_repeats() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let mut expected = BTreeSet::new();
    for number in 0..60 {
        let name = format!("@acme/widget-{number}");
        let tarball = Tarball::new(&name, "1.0.0").set("description", json!("one of the widgets"));
        alice.publish(&tarball).await.ok();
        expected.insert(name);
    }
    alice.publish_versions("unrelated", &["1.0.0"]).await;
    app.settle().await;
    for (text, size) in [("widget", 7), ("widgets", 20), ("widget", 59), ("widget", 60), ("scope:acme", 13)] {
        let mut found = Vec::new();
        for from in (0..80).step_by(size) {
            let page = search(&app.anybody(), &format!("text={text}&size={size}&from={from}")).await;
            assert_eq!(page["total"], 60, "{text} from {from}");
            let here = names(&page);
            assert_eq!(here.len(), size.min(60_usize.saturating_sub(from)), "{text} from {from}");
            found.extend(here);
        }
        assert_eq!(found.len(), 60, "{text}, {size}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{text}, {size}");
    }
    for (query, expected) in [
        ("text=widget", 20),
        ("text=widget&size=1000000", 60),
        ("text=widget&size=0", 0),
        ("text=widget&from=1000000", 0),
        ("text=widget&from=18446744073709551615&size=250", 0),
        ("text=widget&size=3&quality=0.65&popularity=0.98&maintenance=0.5&other", 3),
        ("text=&size=250", 61),
        ("size=250", 61),
    ] {
        assert_eq!(names(&search(&app.anybody(), query).await).len(), expected, "{query}");
    }
    for query in ["text=widget&size=-1", "text=widget&from=x", "text=widget&size=1e3"] {
        refused(&app.anybody().get(&format!("/-/v1/search?{query}")).await, 400);
    }
}

#[tokio::test]
async fn more_than_npms_maximum_is_never_sent() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let publishes = (0..255).map(|number| {
        let alice = alice.clone();
        async move { alice.publish(&Tarball::new(&format!("part-{number}"), "1.0.0")).await.status.as_u16() }
    });
    assert!(futures::future::join_all(publishes).await.iter().all(|status| *status == 201));
    app.settle().await;
    let page = search(&app.anybody(), "text=part&size=1000").await;
    assert_eq!((names(&page).len(), &page["total"]), (250, &json!(255)));
}

#[tokio::test]
async fn a_result_has_what_npm_prints() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let tarball = Tarball::new("@acme/hammer", "1.2.0")
        .set("description", json!("drives nails"))
        .set("keywords", json!(["tool", "nail"]))
        .set("author", json!("Ann Author"))
        .set("homepage", json!("https://example.test/hammer"));
    alice.publish(&tarball).await.ok();
    app.settle().await;
    let answer = app.anybody().get("/-/v1/search?text=hammer&size=20").await.ok();
    assert!(answer.text().starts_with("{\"objects\":["), "npm streams the objects");
    let page = answer.json();
    let package = &page["objects"][0]["package"];
    for (member, expected) in [
        ("name", json!("@acme/hammer")),
        ("version", json!("1.2.0")),
        ("description", json!("drives nails")),
        ("keywords", json!(["tool", "nail"])),
        ("date", json!(crate::support::app::START)),
        ("maintainers", json!([{ "username": "alice", "email": "alice@example.test" }])),
    ] {
        assert_eq!(package[member], expected, "{member}");
    }
    assert_eq!(package["publisher"]["username"], "alice");
    assert_eq!(package["links"]["homepage"], "https://example.test/hammer");
    assert!(page["objects"][0]["score"]["final"].is_number());
    assert!(page["time"].is_string());
}

#[tokio::test]
async fn words_and_qualifiers_narrow_the_results() {
    let app = TestApp::new();
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let tool = |name: &str, version: &str, description: &str, keywords: &[&str]| {
        Tarball::new(name, version).set("description", json!(description)).set("keywords", json!(keywords))
    };
    alice.publish(&tool("@acme/hammer", "1.0.0", "drives nails", &["tool", "metal"])).await.ok();
    alice.publish(&tool("@acme/saw", "0.5.0", "cuts wood", &["tool"])).await.ok();
    bob.publish(&tool("hammer-holder", "1.0.0", "holds a hammer", &["metal", "wall"])).await.ok();
    bob.publish(&tool("old-hammer", "1.0.0", "for museums", &["tool"])).await.ok();
    let mut document = bob.document("old-hammer").await;
    document["versions"]["1.0.0"]["deprecated"] = json!("too old");
    bob.put("/old-hammer", &document).await.ok();
    app.settle().await;
    for (text, expected) in [
        ("hammer", vec!["@acme/hammer", "hammer-holder", "old-hammer"]),
        ("nails", vec!["@acme/hammer"]),
        ("HAMMER", vec!["@acme/hammer", "hammer-holder", "old-hammer"]),
        ("@acme/hammer", vec!["@acme/hammer"]),
        ("scope:acme", vec!["@acme/hammer", "@acme/saw"]),
        ("scope:@acme hammer", vec!["@acme/hammer"]),
        ("maintainer:bob", vec!["hammer-holder", "old-hammer"]),
        ("keywords:metal", vec!["@acme/hammer", "hammer-holder"]),
        ("keywords:metal+tool", vec!["@acme/hammer"]),
        ("keywords:wall,tool", vec!["@acme/hammer", "@acme/saw", "hammer-holder", "old-hammer"]),
        ("keywords:tool,-metal", vec!["@acme/saw", "old-hammer"]),
        ("hammer not:deprecated", vec!["@acme/hammer", "hammer-holder"]),
        ("is:deprecated", vec!["old-hammer"]),
        ("is:unstable", vec!["@acme/saw"]),
        ("not:unstable scope:acme", vec!["@acme/hammer"]),
        ("qqxyzzy", vec![]),
        ("hammer qqxyzzy", vec![]),
        ("maintainer:nobody", vec![]),
    ] {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("text", text).finish();
        let page = search(&app.anybody(), &query).await;
        let mut found = names(&page);
        found.sort();
        assert_eq!(found, expected, "{text}");
        assert_eq!(page["total"], expected.len(), "{text}");
    }
    let page = search(&app.anybody(), "text=hammer-holder").await;
    assert_eq!(names(&page)[0], "hammer-holder", "the exact name comes first");
}

#[tokio::test]
async fn what_changes_is_found_changed() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("thing", "1.0.0").set("description", json!("aardvark"))).await.ok();
    app.settle().await;
    assert_eq!(search(&app.anybody(), "text=aardvark").await["total"], 1);
    alice.publish(&Tarball::new("thing", "1.1.0").set("description", json!("badger"))).await.ok();
    app.settle().await;
    assert_eq!(search(&app.anybody(), "text=aardvark").await["total"], 0);
    let page = search(&app.anybody(), "text=badger").await;
    assert_eq!(page["objects"][0]["package"]["version"], "1.1.0");
    let revision = alice.revision("thing").await;
    alice.delete(&format!("/thing/-rev/{revision}")).await.ok();
    app.settle().await;
    assert_eq!(search(&app.anybody(), "text=thing").await["total"], 0);
    assert!(app.anybody().get("/-/all").await.ok().json().get("thing").is_none());
}

#[tokio::test]
async fn the_old_listing_has_every_package() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let empty = app.anybody().get("/-/all").await.ok().json();
    assert_eq!(empty.as_object().unwrap().len(), 1);
    for number in 0..30 {
        alice.publish(&Tarball::new(&format!("@acme/part-{number}"), "1.0.0")).await.ok();
    }
    app.settle().await;
    let answer = app.anybody().get("/-/all").await.ok();
    assert!(answer.text().starts_with("{\"_updated\":"));
    let all = answer.json();
    assert_eq!(all.as_object().unwrap().len(), 31);
    assert_eq!(all["@acme/part-7"]["dist-tags"]["latest"], "1.0.0");
    assert_eq!(all["@acme/part-7"]["maintainers"][0]["name"], "alice");
}

#[tokio::test]
async fn public_results_follow_ours_when_they_are_asked_for() {
    let upstream = Upstream::start([
        Package::new("hammer-public").version("1.0.0"),
        Package::new("hammer-shared").version("1.0.0"),
        Package::new("@acme/hammer-impostor").version("1.0.0"),
    ]);
    let app = TestApp::before(&upstream, &["@acme/*", "hammer-shared"]);
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/hammer", &["1.0.0"]).await;
    alice.publish_versions("hammer-shared", &["2.0.0"]).await;
    app.settle().await;
    upstream.forget();
    let page = search(&app.anybody(), "text=hammer").await;
    assert_eq!((names(&page).len(), &page["total"]), (2, &json!(2)));
    assert!(upstream.seen().is_empty(), "nobody asked for public packages");

    let page = search(&app.anybody(), "text=hammer%20is%3Apublic").await;
    let found = names(&page);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[2], "hammer-public");
    assert!(!found.contains(&"@acme/hammer-impostor".to_owned()), "a claimed name is ours alone");
    let shared = page["objects"].as_array().unwrap().iter().find(|object| object["package"]["name"] == "hammer-shared");
    assert_eq!(shared.unwrap()["package"]["version"], "2.0.0", "ours, not the public one");
    assert_eq!(upstream.count("/-/v1/search"), 1);

    upstream.set(Fault::Status(500));
    refused(&app.anybody().get("/-/v1/search?text=hammer%20is%3Apublic").await, 502);
    assert_eq!(names(&search(&app.anybody(), "text=hammer").await).len(), 2);
}
