//! Owners, as npm and yarn change them (the whole list) and as pnpm does (one by one).

use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::tarballs::Tarball;

async fn published() -> (TestApp, Caller, Caller) {
    let app = TestApp::new();
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish_versions("@acme/tool", &["1.0.0"]).await;
    (app, alice, bob)
}

async fn names(app: &TestApp) -> Vec<String> {
    let document = app.anybody().document("@acme/tool").await;
    let maintainers = document["maintainers"].as_array().unwrap();
    maintainers.iter().map(|owner| owner["name"].as_str().unwrap().to_owned()).collect()
}

fn person(name: &str) -> Value {
    json!({ "name": name, "email": format!("{name}@example.test") })
}

#[tokio::test]
async fn npm_sends_the_whole_list() {
    let (app, alice, bob) = published().await;
    let user = alice.get("/-/user/org.couchdb.user:bob").await.ok().json();
    assert_eq!((&user["name"], &user["email"]), (&json!("bob"), &json!("bob@example.test")));
    for (list, expected) in
        [(vec![person("alice"), person("bob")], vec!["alice", "bob"]), (vec![person("bob")], vec!["bob"])]
    {
        let revision = alice.revision("@acme/tool").await;
        let body = json!({ "_id": "@acme/tool", "_rev": revision, "maintainers": list });
        let answer = alice.put(&format!("/@acme%2ftool/-rev/{revision}"), &body).await.ok();
        assert_eq!(answer.json()["success"], true);
        assert_eq!(names(&app).await, expected);
    }
    // From now on alice is a stranger.
    refused(&alice.publish(&Tarball::new("@acme/tool", "2.0.0")).await, 403);
    bob.publish(&Tarball::new("@acme/tool", "2.0.0")).await.ok();
}

#[tokio::test]
async fn yarn_classic_without_a_revision_is_refused() {
    let (app, alice, _) = published().await;
    let body = json!({ "maintainers": [person("bob")] });
    let sentence = refused(&alice.put("/@acme%2ftool/-rev/undefined", &body).await, 400);
    assert!(sentence.contains("npm owner"), "{sentence}");
    assert_eq!(names(&app).await, ["alice"]);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let (app, alice, _) = published().await;
    let revision = alice.revision("@acme/tool").await;
    refused(&alice.put(&format!("/@acme%2ftool/-rev/{revision}"), &json!({ "maintainers": [] })).await, 400);
    refused(&alice.delete("/-/package/@acme%2ftool/owners/alice").await, 400);
    assert_eq!(names(&app).await, ["alice"]);
}

#[tokio::test]
async fn who_has_no_account_cannot_own() {
    let (app, alice, _) = published().await;
    let revision = alice.revision("@acme/tool").await;
    let path = format!("/@acme%2ftool/-rev/{revision}");
    refused(&alice.put(&path, &json!({ "maintainers": [person("alice"), person("nobody")] })).await, 404);
    refused(&alice.put("/-/package/@acme%2ftool/owners", &json!({ "user": "nobody" })).await, 404);
    refused(&alice.get("/-/user/org.couchdb.user:nobody").await, 404);
    for body in [json!({ "maintainers": "bob" }), json!({ "maintainers": ["bob"] }), json!({ "maintainers": [{}] })] {
        refused(&alice.put(&path, &body).await, 400);
    }
    assert_eq!(names(&app).await, ["alice"]);
}

#[tokio::test]
async fn pnpm_changes_one_at_a_time() {
    let (app, alice, bob) = published().await;
    let path = "/-/package/@acme%2ftool/owners";
    alice.put(path, &json!({ "user": "bob" })).await.ok();
    alice.put(path, &json!({ "user": "bob" })).await.ok();
    let listed = app.anybody().get(path).await.ok().json();
    let expected = json!([
        { "username": "alice", "email": "alice@example.test" }, { "username": "bob", "email": "bob@example.test" },
    ]);
    assert_eq!(listed, expected);
    let collaborators = app.anybody().get("/-/package/@acme%2ftool/collaborators").await.ok().json();
    assert_eq!(collaborators, json!({ "alice": "write", "bob": "write" }));
    let answer = bob.delete("/-/package/@acme/tool/owners/alice").await.ok();
    assert_eq!((&answer.json()["ok"], &answer.json()["success"]), (&json!(true), &json!(true)));
    assert_eq!(names(&app).await, ["bob"]);
    for body in [json!({}), json!({ "user": 7 }), json!([])] {
        refused(&bob.put(path, &body).await, 400);
    }
}

#[tokio::test]
async fn only_owners_say_who_owns() {
    let (app, _, bob) = published().await;
    let revision = bob.revision("@acme/tool").await;
    let body = json!({ "maintainers": [person("bob")] });
    for (caller, status) in [(bob, 403), (app.anybody(), 401)] {
        refused(&caller.put(&format!("/@acme%2ftool/-rev/{revision}"), &body).await, status);
        refused(&caller.put("/-/package/@acme%2ftool/owners", &json!({ "user": "bob" })).await, status);
        refused(&caller.delete("/-/package/@acme%2ftool/owners/alice").await, status);
    }
    assert_eq!(names(&app).await, ["alice"]);
}

#[tokio::test]
async fn of_two_lists_from_one_revision_the_second_is_a_conflict() {
    let (app, alice, _) = published().await;
    app.user("carol").await;
    let revision = alice.revision("@acme/tool").await;
    let path = format!("/@acme%2ftool/-rev/{revision}");
    alice.put(&path, &json!({ "maintainers": [person("alice"), person("bob")] })).await.ok();
    refused(&alice.put(&path, &json!({ "maintainers": [person("alice"), person("carol")] })).await, 409);
    assert_eq!(names(&app).await, ["alice", "bob"]);
}
