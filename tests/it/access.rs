//! `/-/package/{package}/visibility` and `access`, and the answers about the server itself.

use axum::body::Body;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, refused};

#[tokio::test]
async fn a_package_is_as_public_as_its_registry() {
    for (app, is_public, access) in [(TestApp::new(), true, "public"), (TestApp::closed(), false, "restricted")] {
        let alice = app.user("alice").await;
        alice.publish_versions("@acme/tool", &["1.0.0"]).await;
        for path in ["/-/package/@acme%2ftool", "/-/package/@acme/tool", "/-/package/%40acme%2Ftool"] {
            let visibility = alice.get(&format!("{path}/visibility")).await.ok().json();
            assert_eq!(visibility, json!({ "public": is_public }));
            let found = alice.get(&format!("{path}/access")).await.ok().json();
            assert_eq!(found, json!({ "access": access }));
        }
        for question in ["visibility", "access", "collaborators", "owners"] {
            refused(&alice.get(&format!("/-/package/nothing/{question}")).await, 404);
        }
    }
}

#[tokio::test]
async fn the_server_answers_for_itself() {
    let app = TestApp::closed();
    for path in ["/-/ping", "/-/ping?write=true"] {
        let answer = app.anybody().get(path).await.ok();
        assert_eq!((answer.text().as_str(), answer.header("content-type")), ("{}", "application/json"));
    }
    assert_eq!(app.anybody().get("/").await.ok().json()["db_name"], "registry");
    assert_eq!(app.anybody().get("/-/ready").await.ok().json()["storage"], "ok");
    let answer = app.anybody().send(Method::HEAD, "/-/ping", &[], Body::empty()).await.ok();
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_page_that_was_led_here_by_its_name_is_turned_away() {
    let app = TestApp::new();
    for host in ["evil.test", "localhost.evil.test:4873"] {
        refused(&app.anybody().to_host(host).get("/-/ping").await, 421);
    }
    refused(&app.anybody().with("x-forwarded-for", "203.0.113.7").get("/-/ping").await, 421);
    app.anybody().to_host("127.0.0.1:4873").get("/-/ping").await.ok();
}
