//! `/-/package/{package}/dist-tags`.

use std::time::Duration;

use axum::body::Body;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, TestApp, refused};
use crate::support::upstream::Upstream;

async fn published() -> (TestApp, Caller) {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0", "2.0.0"]).await;
    (app, alice)
}

const PATH: &str = "/-/package/@acme%2ftool/dist-tags";

#[tokio::test]
async fn tags_are_listed_in_one_order_and_in_every_spelling() {
    let (app, alice) = published().await;
    for tag in ["next", "beta", "alpha"] {
        alice.put(&format!("{PATH}/{tag}"), &json!("1.0.0")).await.ok();
    }
    let expected = r#"{"alpha":"1.0.0","beta":"1.0.0","latest":"2.0.0","next":"1.0.0"}"#;
    for path in [
        PATH,
        "/-/package/@acme%2Ftool/dist-tags",
        "/-/package/@acme/tool/dist-tags",
        "/-/package/%40acme%2Ftool/dist-tags",
    ] {
        assert_eq!(app.anybody().get(path).await.ok().text(), expected, "{path}");
    }
    refused(&app.anybody().get("/-/package/nothing/dist-tags").await, 404);
}

#[tokio::test]
async fn a_tag_is_set_by_either_method_with_or_without_quotes() {
    let (app, alice) = published().await;
    for (method, tag, body) in [
        (Method::PUT, "a", "\"1.0.0\""),
        (Method::POST, "b", "\"1.1.0\""),
        (Method::PUT, "c", "1.0.0"),
        (Method::PUT, "d", " \"1.1.0\"\n"),
        (Method::POST, "e", "1.0.0\n"),
        (Method::PUT, "a", "\"1.1.0\""),
        (Method::PUT, "f%2Bg", "\"1.0.0\""),
        (Method::PUT, "latest", "\"1.1.0\""),
    ] {
        let answer = alice.send(method, &format!("{PATH}/{tag}"), &[], body).await.ok();
        assert_eq!((&answer.json()["ok"], &answer.json()["success"]), (&json!(true), &json!(true)));
    }
    let expected = json!({ "a": "1.1.0", "b": "1.1.0", "c": "1.0.0", "d": "1.1.0", "e": "1.0.0", "f+g": "1.0.0", "latest": "1.1.0" });
    assert_eq!(app.anybody().get(PATH).await.ok().json(), expected);
    assert_eq!(app.anybody().document("@acme/tool").await["dist-tags"], expected);
    assert_eq!(app.anybody().get("/@acme%2ftool/a").await.ok().json()["version"], "1.1.0");
}

#[tokio::test]
async fn a_change_of_a_tag_moves_the_document() {
    let (app, alice) = published().await;
    let before = app.anybody().get("/@acme%2ftool").await.ok();
    app.clock.advance(Duration::from_secs(3));
    alice.put(&format!("{PATH}/next"), &json!("1.0.0")).await.ok();
    let after = app.anybody().get("/@acme%2ftool").await.ok();
    assert_ne!(before.header("etag"), after.header("etag"));
    assert_ne!(before.json()["time"]["modified"], after.json()["time"]["modified"]);
}

#[tokio::test]
async fn a_tag_is_removed_and_latest_is_not() {
    let (app, alice) = published().await;
    alice.put(&format!("{PATH}/next"), &json!("1.0.0")).await.ok();
    for _ in 0..2 {
        let answer =
            alice.send(Method::DELETE, &format!("{PATH}/next"), &[("content-length", "0")], Body::empty()).await.ok();
        assert_eq!((&answer.json()["ok"], &answer.json()["success"]), (&json!(true), &json!(true)));
    }
    refused(&alice.delete(&format!("{PATH}/latest")).await, 400);
    assert_eq!(app.anybody().get(PATH).await.ok().json(), json!({ "latest": "2.0.0" }));
}

#[tokio::test]
async fn all_tags_are_merged_or_replaced() {
    let (app, alice) = published().await;
    for (method, body, expected) in [
        (Method::POST, json!({ "a": "1.0.0", "b": "1.1.0" }), json!({ "a": "1.0.0", "b": "1.1.0", "latest": "2.0.0" })),
        (Method::POST, json!({ "a": "2.0.0" }), json!({ "a": "2.0.0", "b": "1.1.0", "latest": "2.0.0" })),
        (Method::PUT, json!({ "c": "1.0.0" }), json!({ "c": "1.0.0", "latest": "2.0.0" })),
        (Method::PUT, json!({ "latest": "1.0.0" }), json!({ "latest": "1.0.0" })),
    ] {
        alice.send_json(method, PATH, &body).await.ok();
        assert_eq!(app.anybody().get(PATH).await.ok().json(), expected);
    }
    let before = app.stored();
    for (body, status) in [
        (json!({ "a": "1.0.0", "b": "9.9.9" }), 404),
        (json!({ "a": "1.0.0", "1.0": "1.0.0" }), 400),
        (json!({ "a": 1 }), 400),
        (json!(["a"]), 400),
    ] {
        refused(&alice.put(PATH, &body).await, status);
        refused(&alice.post(PATH, &body).await, status);
    }
    assert_eq!(app.stored(), before, "all or nothing");
}

#[tokio::test]
async fn wrong_tags_and_versions_are_refused() {
    let (app, alice) = published().await;
    let before = app.stored();
    for (tag, body, status) in [
        ("next", "\"9.9.9\"", 404),
        ("next", "\"latest\"", 400),
        ("next", "\"^1.0.0\"", 400),
        ("next", "", 400),
        ("next", "7", 400),
        ("next", "{}", 400),
        ("next", "\u{fffd}", 400),
        ("1.0", "\"1.0.0\"", 400),
        ("1.0.0", "\"1.0.0\"", 400),
        ("v1", "\"1.0.0\"", 400),
        ("%5E1", "\"1.0.0\"", 400),
        ("x", "\"1.0.0\"", 400),
        ("*", "\"1.0.0\"", 400),
        ("..", "\"1.0.0\"", 400),
        ("a%2fb", "\"1.0.0\"", 400),
        ("a%252fb", "\"1.0.0\"", 400),
        ("a%00b", "\"1.0.0\"", 400),
        ("a%20b", "\"1.0.0\"", 400),
    ] {
        let answer = alice.send(Method::PUT, &format!("{PATH}/{tag}"), &[], body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{tag} {body}: {}", answer.text());
        refused(&answer, status);
    }
    refused(&alice.send(Method::PUT, &format!("{PATH}/next"), &[], vec![0xff, 0xfe]).await, 400);
    refused(&alice.send(Method::PUT, &format!("{PATH}/next"), &[], " ".repeat(65 * 1024)).await, 413);
    refused(&alice.put("/-/package/nothing/dist-tags/next", &json!("1.0.0")).await, 404);
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn only_owners_change_tags() {
    let (app, _) = published().await;
    let before = app.stored();
    for (caller, status) in
        [(app.user("mallory").await, 403), (app.anybody(), 401), (app.anybody().with_token("npm_no"), 401)]
    {
        for method in [Method::PUT, Method::POST] {
            refused(&caller.send_json(method.clone(), &format!("{PATH}/next"), &json!("1.0.0")).await, status);
            refused(&caller.send_json(method, PATH, &json!({ "next": "1.0.0" })).await, status);
        }
        refused(&caller.delete(&format!("{PATH}/next")).await, status);
    }
    assert_eq!(app.stored(), before);
}

#[tokio::test]
async fn an_upstreams_tags_are_listed_and_not_changed() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let alice = app.user("alice").await;
    let tags = app.anybody().get("/-/package/left/dist-tags").await.ok().json();
    assert_eq!(tags, json!({ "latest": "1.2.0", "next": "2.0.0-beta.1" }));
    let sentence = refused(&alice.put("/-/package/left/dist-tags/latest", &json!("1.0.0")).await, 403);
    assert!(sentence.contains("another registry"), "{sentence}");
}
