//! The store fails at the n-th write of a request, for every n and in every way that a write can fail. Afterwards, on
//! the same directory with a sound store, all readers see what was before or what was to come, never something between;
//! and who repeats the request succeeds, or is told truthfully that it is done.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use holdfast::events::Kind;
use holdfast::maintenance::Code;
use holdfast::storage::{Fault, FaultPlan, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::events::events_in;
use crate::support::in_process::{InProcess, Plan, Reply};
use crate::support::maintenance::is_sound;
use crate::support::tarballs::{Tarball, shasum};

type Operation = fn(InProcess) -> Pin<Box<dyn Future<Output = Reply>>>;

/// More than any request has; the loop ends when a request has come through.
const MOST_WRITES: usize = 12;

const PACKAGE: &str = "/@acme%2ftool";

/// A package of two versions, with alice as owner and bob as somebody. Gives alice's token.
async fn furnished() -> (Plan, String) {
    let plan = Plan::alone();
    let server = plan.start().await;
    let alice = server.signed_in("alice").await;
    server.signed_in("bob").await;
    for version in ["1.0.0", "1.1.0"] {
        alice.publish(&Tarball::new("@acme/tool", version), "latest").await.ok();
    }
    alice.put("/-/package/@acme%2ftool/dist-tags/old", &json!("1.0.0")).await.ok();
    alice.publish(&Tarball::new("starred", "1.0.0"), "latest").await.ok();
    star(&alice, Method::PUT, "starred").await.ok();
    let token = alice.token().to_owned();
    drop(alice);
    server.stop().await;
    (plan, token)
}

/// Everything that readers can see, less what is different each time.
async fn seen_by_readers(server: &InProcess) -> Value {
    let mut seen = serde_json::Map::new();
    for name in ["@acme%2ftool", "starred", "fresh"] {
        let mut note = |what: &str, value: Value| seen.insert(format!("{name} {what}"), value);
        let full = server.get(&format!("/{name}")).await;
        let mut document = full.json();
        if full.status.is_success() {
            for member in ["_rev", "request_id"] {
                document.as_object_mut().unwrap().remove(member);
            }
            note("full", document.clone());
            note("short", server.get_abbreviated(&format!("/{name}")).await.ok().json());
            let tags = server.get(&format!("/-/package/{name}/dist-tags")).await.ok().json();
            for (tag, version) in tags.as_object().unwrap() {
                assert!(document["versions"][version.as_str().unwrap()].is_object(), "{tag} names {version}");
            }
            note("tags", tags);
            note("owners", server.get(&format!("/-/package/{name}/owners")).await.ok().json());
        } else {
            note("full", json!(full.status.as_u16()));
        }
        let base = name.rsplit("%2f").next().unwrap();
        for version in ["1.0.0", "1.1.0", "2.0.0"] {
            let tarball = server.get(&format!("/{name}/-/{base}-{version}.tgz")).await;
            let promised = &document["versions"][version]["dist"]["shasum"];
            if tarball.status.is_success() {
                assert_eq!(*promised, shasum(&tarball.body), "{name} {version}");
            } else {
                assert_eq!(tarball.status, 404);
                assert!(promised.is_null(), "{name}@{version} is shown and has no tarball");
            }
            note(version, json!(tarball.status.as_u16()));
        }
    }
    seen.insert("stars".into(), server.get("/-/_view/starredByUser?key=%22alice%22").await.ok().json());
    let carol = server.get("/-/user/org.couchdb.user:carol").await;
    seen.insert("carol".into(), json!(carol.status.as_u16()));
    server.app.registry.index_settled().await;
    let mut found = server.get("/-/v1/search?text=tool").await.ok().json();
    let mut names: Vec<Value> = Vec::new();
    for object in found["objects"].as_array_mut().unwrap() {
        names.push(json!([object["package"]["name"], object["package"]["version"], object["package"]["maintainers"]]));
    }
    seen.insert("search".into(), json!(names));
    Value::Object(seen)
}

/// Whether the change was made, and only its event could not be written.
fn is_unrecorded(reply: &Reply) -> bool {
    let known = [(503, "unrecorded"), (507, "unrecorded_full")];
    known.iter().any(|(status, code)| reply.status == *status && reply.json()["code"] == *code)
}

/// How many events of a kind are in the record. One that was written twice, after an unclear answer, has one id.
async fn recorded(plan: &Plan, kind: Kind) -> usize {
    let events = events_in(&Store::open_reading(plan.data()).unwrap()).await;
    let ids: BTreeSet<String> = events.into_iter().filter(|event| event.kind == kind).map(|event| event.id).collect();
    ids.len()
}

/// Breaks the operation at each of its writes in each way. What was answered as done has its event, of this kind. `done` are
/// the statuses that say "it is done already".
async fn survives(operation: Operation, kind: Kind, done: &[u16]) {
    let (furnished, token) = furnished().await;
    let server = furnished.start().await;
    let before = seen_by_readers(&server).await;
    server.stop().await;
    let recorded_before = recorded(&furnished, kind).await;

    let sound = furnished.copied();
    let server = sound.start().await;
    operation(server.with_token(&token)).await.ok();
    let after = seen_by_readers(&server).await;
    server.stop().await;

    for fault in [Fault::Before, Fault::After, Fault::Dead, Fault::Full] {
        let mut failures = 0;
        for at in 0..MOST_WRITES {
            let plan = furnished.copied();
            let faults = FaultPlan::new(fault, at);
            let server = plan.start_on(plan.store().await.with_faults(faults.clone()));
            let reply = operation(server.with_token(&token)).await;
            let was_reached = faults.writes() > at;
            server.stop().await;

            let case = format!("{fault:?} at write {at}, answered {}: {}", reply.status, reply.text());
            // What was done is not told as "nothing was changed".
            if fault == Fault::Full && reply.status.is_server_error() && !is_unrecorded(&reply) {
                assert_eq!(reply.status, 507, "{case}");
            }
            assert!(reply.status.is_success() || matches!(reply.status.as_u16(), 503 | 507), "{case}");
            failures += usize::from(!reply.status.is_success());
            if reply.status.is_success() {
                assert_eq!(recorded(&plan, kind).await, recorded_before + 1, "{case}: {kind}");
            }

            let leftovers = is_sound(&plan.store().await).await;
            assert!(leftovers.iter().all(|found| found.code == Code::OrphanTarball), "{case}: {leftovers:?}");
            let server = plan.start().await;
            assert!(plan.staged().is_empty(), "{case}");
            let found = seen_by_readers(&server).await;
            if reply.status.is_success() {
                assert_eq!(found, after, "{case}");
            } else {
                assert!(found == before || found == after, "{case}: something between is seen: {found:#}");
            }
            let again = operation(server.with_token(&token)).await;
            let is_told_so = found == after && done.contains(&again.status.as_u16());
            assert!(again.status.is_success() || is_told_so, "{case}, again {}: {}", again.status, again.text());
            assert_eq!(seen_by_readers(&server).await, after, "{case}, and again");
            server.stop().await;
            if !was_reached {
                break;
            }
            assert!(at + 1 < MOST_WRITES, "the request never came through");
        }
        assert!(failures > 0, "{fault:?} broke nothing");
    }
}

#[tokio::test]
async fn a_new_version_is_there_or_not() {
    survives(
        |server| Box::pin(async move { server.publish(&Tarball::new("@acme/tool", "2.0.0"), "latest").await }),
        Kind::Publish,
        &[403],
    )
    .await;
}

#[tokio::test]
async fn a_new_package_is_there_or_not() {
    survives(
        |server| Box::pin(async move { server.publish(&Tarball::new("fresh", "1.0.0"), "next").await }),
        Kind::Publish,
        &[403],
    )
    .await;
}

/// Reads the document, changes it, and sends it as npm does.
async fn edit(server: InProcess, in_path: bool, change: fn(&mut Value)) -> Reply {
    let read = server.get(&format!("{PACKAGE}?write=true")).await;
    if !read.status.is_success() {
        return read;
    }
    let mut document = read.json();
    change(&mut document);
    let path = match document["_rev"].as_str() {
        Some(revision) if in_path => format!("{PACKAGE}/-rev/{revision}"),
        _ => PACKAGE.to_owned(),
    };
    server.put(&path, &document).await
}

#[tokio::test]
async fn a_deprecation_is_there_or_not() {
    survives(
        |server| Box::pin(edit(server, false, |document| document["versions"]["1.0.0"]["deprecated"] = json!("old"))),
        Kind::Deprecate,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_tag_is_moved_or_not() {
    survives(
        |server| Box::pin(async move { server.put("/-/package/@acme%2ftool/dist-tags/stable", &json!("1.0.0")).await }),
        Kind::Tag,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_tag_is_removed_or_not() {
    survives(
        |server| Box::pin(async move { server.delete("/-/package/@acme%2ftool/dist-tags/old").await }),
        Kind::Untag,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_version_is_unpublished_or_not() {
    survives(
        |server| {
            Box::pin(edit(server, true, |document| {
                document["versions"].as_object_mut().unwrap().remove("1.1.0");
                document["dist-tags"]["latest"] = json!("1.0.0");
            }))
        },
        Kind::Unpublish,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_package_is_unpublished_or_not() {
    survives(
        |server| {
            Box::pin(async move {
                let read = server.get(PACKAGE).await;
                if !read.status.is_success() {
                    return read;
                }
                let revision = read.json()["_rev"].as_str().unwrap().to_owned();
                server.delete(&format!("{PACKAGE}/-rev/{revision}")).await
            })
        },
        Kind::Unpublish,
        &[404],
    )
    .await;
}

#[tokio::test]
async fn an_owner_is_added_or_not() {
    survives(
        |server| Box::pin(async move { server.put("/-/package/@acme%2ftool/owners", &json!({ "user": "bob" })).await }),
        Kind::Owners,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_list_of_owners_is_replaced_or_not() {
    survives(
        |server| {
            Box::pin(async move {
                let document = server.get(PACKAGE).await;
                if !document.status.is_success() {
                    return document;
                }
                let revision = document.json()["_rev"].as_str().unwrap().to_owned();
                let owners = json!([
                    { "name": "alice", "email": "alice@example.test" }, { "name": "bob", "email": "bob@example.test" },
                ]);
                let body = json!({ "_id": "@acme/tool", "_rev": revision, "maintainers": owners });
                server.put(&format!("{PACKAGE}/-rev/{revision}"), &body).await
            })
        },
        Kind::Owners,
        &[],
    )
    .await;
}

#[tokio::test]
async fn an_account_is_there_or_not_and_can_be_signed_in_to() {
    survives(|server| Box::pin(async move { server.sign_in("carol").await }), Kind::SignIn, &[]).await;
}

/// As pnpm adds a star and takes it.
async fn star(server: &InProcess, method: Method, name: &str) -> Reply {
    server.send(method, "/-/user/v1/star", &[], json!({ "name": name }).to_string()).await
}

#[tokio::test]
async fn a_star_of_npm_is_there_or_not() {
    survives(
        |server| Box::pin(edit(server, false, |document| document["users"] = json!({ "alice": true }))),
        Kind::Star,
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_star_of_pnpm_is_there_or_not() {
    survives(|server| Box::pin(async move { star(&server, Method::PUT, "@acme/tool").await }), Kind::Star, &[]).await;
}

#[tokio::test]
async fn a_star_is_taken_or_not() {
    survives(|server| Box::pin(async move { star(&server, Method::DELETE, "starred").await }), Kind::Star, &[]).await;
}

#[tokio::test]
async fn a_token_is_revoked_or_not() {
    let (plan, token) = furnished().await;
    for (fault, is_revoked) in
        [(Fault::Before, false), (Fault::After, true), (Fault::Dead, false), (Fault::Full, false)]
    {
        // The first write of a start notes that the index is in use.
        for at in 0..3 {
            let plan = plan.copied();
            let faults = FaultPlan::new(fault, at);
            let server = plan.start_on(plan.store().await.with_faults(faults)).with_token(&token);
            let reply = server.delete(&format!("/-/user/token/{token}")).await;
            server.stop().await;
            if reply.status.is_success() {
                assert_eq!(recorded(&plan, Kind::TokenRevoke).await, 1, "{fault:?} at {at}");
            }
            let server = plan.start().await.with_token(&token);
            let is_known = server.get("/-/whoami").await.status.is_success();
            let expected = reply.status.is_success() || is_revoked || is_unrecorded(&reply);
            assert_eq!(is_known, !expected, "{fault:?} at {at}: {}", reply.status);
            let again = server.delete(&format!("/-/user/token/{token}")).await;
            assert!(again.status.is_success() || !is_known && again.status == 404, "{}", again.status);
            assert_eq!(server.get("/-/whoami").await.status, 401);
            server.stop().await;
        }
    }
}

/// A token that was answered works and is listed; one that was not does no harm, and the request can be repeated.
#[tokio::test]
async fn a_token_is_made_or_not() {
    const TOKENS: &str = "/-/npm/v1/tokens";
    let (plan, token) = furnished().await;
    let body = json!({ "password": "correct horse battery", "readonly": true }).to_string();
    for fault in [Fault::Before, Fault::After, Fault::Dead, Fault::Full] {
        for at in 0..4 {
            let plan = plan.copied();
            let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(fault, at))).with_token(&token);
            let reply = server.send(Method::POST, TOKENS, &[], body.clone()).await;
            server.stop().await;
            let server = plan.start().await.with_token(&token);
            assert!(!reply.status.is_success() || recorded(&plan, Kind::TokenCreate).await == 1, "{fault:?} at {at}");
            if reply.status.is_success() {
                let made = reply.json()["token"].as_str().unwrap().to_owned();
                server.clone().with_token(&made).get("/-/whoami").await.ok();
            }
            let listed = server.get(TOKENS).await.ok().json()["total"].as_u64().unwrap();
            assert!(listed > u64::from(reply.status.is_success()), "{fault:?} at {at}: {listed}");
            assert!(
                server.send(Method::POST, TOKENS, &[], body.clone()).await.status.is_success(),
                "{fault:?} at {at}"
            );
            server.stop().await;
        }
    }
}

/// Trust is there or it is not, and what was acknowledged is.
#[tokio::test]
async fn a_workflow_is_trusted_or_not() {
    const TRUST: &str = "/-/package/@acme%2ftool/trust";
    let (plan, token) = furnished().await;
    let claims = json!({ "repository": "acme/tool", "workflow_ref": { "file": "release.yml" } });
    let body = json!([{ "type": "github", "permissions": ["createPackage"], "claims": claims }]).to_string();
    for (fault, is_there) in [(Fault::Before, false), (Fault::After, true), (Fault::Dead, false), (Fault::Full, false)]
    {
        for at in 0..3 {
            let plan = plan.copied();
            let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(fault, at))).with_token(&token);
            let reply = server.send(Method::POST, TRUST, &[], body.clone()).await;
            server.stop().await;
            assert!(!reply.status.is_success() || recorded(&plan, Kind::Trust).await == 1, "{fault:?} at {at}");
            let server = plan.start().await.with_token(&token);
            let listed = server.get(TRUST).await.ok().json().as_array().unwrap().len();
            let expected = usize::from(reply.status.is_success() || is_there || is_unrecorded(&reply));
            assert_eq!(listed, expected, "{fault:?} at {at}: {}", reply.status);
            server.stop().await;
        }
    }
}

#[tokio::test]
async fn memory_says_what_is_stored_after_an_unclear_answer() {
    let (plan, token) = furnished().await;
    for fault in [Fault::Before, Fault::After] {
        for at in 0..4 {
            let plan = plan.copied();
            let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(fault, at))).with_token(&token);
            // Remembered by now.
            server.get(PACKAGE).await.ok();
            server.publish(&Tarball::new("@acme/tool", "2.0.0"), "latest").await;
            let running = seen_by_readers(&server).await;
            server.stop().await;
            let server = plan.start().await;
            assert_eq!(seen_by_readers(&server).await, running, "{fault:?} at {at}");
            server.stop().await;
        }
    }
}
