//! `/-/npm/v1/user`.

use serde_json::json;

use crate::support::app::{START, TestApp, refused};

const PATH: &str = "/-/npm/v1/user";

#[tokio::test]
async fn a_profile_has_what_npm_shows() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let profile = alice.get(PATH).await.ok().json();
    for (member, value) in [
        ("name", json!("alice")),
        ("email", json!("alice@example.test")),
        ("tfa", json!(null)),
        ("created", json!(START)),
        ("cidr_whitelist", json!(null)),
        ("email_verified", json!(false)),
    ] {
        assert_eq!(profile[member], value, "{member}");
    }
    refused(&app.anybody().get(PATH).await, 401);
}

#[tokio::test]
async fn the_mail_address_is_changed_where_it_is_sent() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for (body, expected) in [
        (json!({ "email": "a@new.test" }), "a@new.test"),
        // Members that are not kept here leave what is kept alone.
        (json!({ "fullname": "Alice" }), "a@new.test"),
        (json!({}), "a@new.test"),
        (json!({ "email": "b@new.test", "fullname": "Alice" }), "b@new.test"),
        // npm sends an empty text as null.
        (json!({ "email": null }), ""),
    ] {
        let answer = alice.post(PATH, &body).await.ok();
        assert_eq!(answer.json()["email"], expected, "{body}");
        assert_eq!(alice.get(PATH).await.ok().json()["email"], expected, "{body}");
        assert_eq!(app.anybody().get("/-/user/org.couchdb.user:alice").await.ok().json()["email"], expected);
    }
}

#[tokio::test]
async fn what_is_no_change_of_a_profile_is_refused_and_not_ignored() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for body in [
        json!({ "password": "b" }),
        json!({ "password": { "old": "a" } }),
        json!({ "tfa": { "mode": "auth-only" } }),
        json!({ "tfa": { "password": "a", "mode": "sometimes" } }),
        json!({ "tfa": [] }),
        json!({ "email": 7 }),
        json!({ "email": "a\nb" }),
        json!([]),
    ] {
        refused(&alice.post(PATH, &body).await, 400);
    }
    refused(&alice.post(PATH, &json!({ "email": "x".repeat(65 * 1024) })).await, 413);
    refused(&app.anybody().post(PATH, &json!({ "email": "x" })).await, 401);
    assert_eq!(alice.get(PATH).await.ok().json()["email"], "alice@example.test");
}
