//! Stars, npm's way (a change of the document) and pnpm's (a call of its own).

use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, TestApp, refused};

async fn published() -> (TestApp, Caller, Caller) {
    let app = TestApp::new();
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    for name in ["@acme/tool", "plain"] {
        alice.publish_versions(name, &["1.0.0"]).await;
    }
    (app, alice, bob)
}

#[tokio::test]
async fn npm_stars_by_changing_the_document() {
    let (app, alice, bob) = published().await;
    for caller in [&alice, &bob] {
        let document = caller.document("@acme/tool").await;
        let mut users = document.get("users").cloned().unwrap_or(json!({}));
        let name = caller.get("/-/whoami").await.ok().json()["username"].as_str().unwrap().to_owned();
        users[&name] = json!(true);
        let body = json!({ "_id": "@acme/tool", "_rev": document["_rev"], "users": users });
        caller.put("/@acme%2ftool", &body).await.ok();
    }
    assert_eq!(app.anybody().document("@acme/tool").await["users"], json!({ "alice": true, "bob": true }));
    let listed = app.anybody().get("/-/_view/starredByUser?key=%22bob%22").await.ok().json();
    assert_eq!(listed["rows"], json!([{ "value": "@acme/tool" }]));

    let document = bob.document("@acme/tool").await;
    let body = json!({ "_id": "@acme/tool", "_rev": document["_rev"], "users": { "alice": true } });
    bob.put("/@acme%2ftool", &body).await.ok();
    assert_eq!(app.anybody().document("@acme/tool").await["users"], json!({ "alice": true }));
    let listed = app.anybody().get("/-/_view/starredByUser?key=%22bob%22").await.ok().json();
    assert_eq!(listed["rows"], json!([]));
}

#[tokio::test]
async fn nobody_stars_for_another() {
    let (app, _, bob) = published().await;
    let revision = bob.revision("@acme/tool").await;
    let body = json!({ "_rev": revision, "users": { "alice": true, "mallory": true } });
    bob.put("/@acme%2ftool", &body).await.ok();
    let document = app.anybody().document("@acme/tool").await;
    assert!(document.get("users").is_none_or(|users| users == &json!({})), "{}", document["users"]);
    refused(&app.anybody().put("/@acme%2ftool", &json!({ "users": { "bob": true } })).await, 401);
    refused(&bob.put("/@acme%2ftool", &json!({ "_rev": "0-0", "users": { "bob": true } })).await, 409);
}

#[tokio::test]
async fn pnpm_has_calls_of_its_own() {
    let (app, _, bob) = published().await;
    for name in ["plain", "@acme/tool"] {
        bob.put("/-/user/v1/star", &json!({ "name": name, "package": name })).await.ok();
    }
    assert_eq!(bob.get("/-/user/v1/star").await.ok().json(), json!(["@acme/tool", "plain"]));
    assert_eq!(app.anybody().get("/-/user/bob/stars").await.ok().json(), json!(["@acme/tool", "plain"]));
    assert_eq!(app.anybody().document("plain").await["users"], json!({ "bob": true }));
    bob.send_json(Method::DELETE, "/-/user/v1/star", &json!({ "name": "plain" })).await.ok();
    bob.send_json(Method::DELETE, "/-/user/v1/star", &json!({ "name": "plain" })).await.ok();
    assert_eq!(bob.get("/-/user/v1/star").await.ok().json(), json!(["@acme/tool"]));
    assert_eq!(app.anybody().document("plain").await["users"], json!({}));
}

#[tokio::test]
async fn stars_that_cannot_be_are_refused() {
    let (app, _, bob) = published().await;
    refused(&bob.put("/-/user/v1/star", &json!({ "name": "nothing" })).await, 404);
    for body in [json!({}), json!({ "name": "../x" }), json!({ "name": 7 }), json!("plain")] {
        refused(&bob.put("/-/user/v1/star", &body).await, 400);
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        refused(&app.anybody().send_json(method, "/-/user/v1/star", &json!({ "name": "plain" })).await, 401);
    }
    for query in ["", "?key=bob", "?key=7", "?other=%22bob%22"] {
        refused(&app.anybody().get(&format!("/-/_view/starredByUser{query}")).await, 400);
    }
    let none = app.anybody().get("/-/_view/starredByUser?key=%22no%22").await.ok().json();
    assert_eq!(none["rows"], json!([]));
}
