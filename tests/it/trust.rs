//! Trusted publishing: which workflows a package trusts, and what a job of one can do with the token that it gets.

use std::time::Duration;

use axum::body::Body;
use holdfast::auth::{Action, IssuerKind, TrustWish};
use holdfast::operator::{Order, Outcome, carry_out};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, PASSWORD, START, path_of, refused};
use crate::support::ci::{
    Ci, OURS, TO_READ, changed, exchange_path, exchange_refused, id_in, refused_as, release, release_of, rule,
    token_in, trust, trust_path, trusting, trusting_to,
};
use crate::support::http::{Answer, publish_document};
use crate::support::issuer::{Mode, Signing, github_claims, gitlab_claims, with_immutable_subject};
use crate::support::tarballs::Tarball;

const TOOL: &str = "@acme/tool";

/// Alice owns `@acme/tool@1.0.0`, which trusts `release.yml` of `acme/tool` with these permissions.
async fn trusted_to(permissions: &[&str]) -> (Ci, Caller) {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    id_in(&trust(&alice, TOOL, &trusting_to(permissions)).await);
    (ci, alice)
}

#[tokio::test]
async fn a_job_of_a_trusted_workflow_publishes() {
    let github = |claims: Value| changed(claims, json!({}));
    let gitlab = json!({ "project_path": "Acme/sub/tool", "ci_config_ref_uri": { "file": ".gitlab-ci.yml" } });
    let plain = json!({ "repository": "acme/tool", "workflow_ref": { "file": "release.yml" } });
    for (issuer, kind, signing, claims, trusted, name) in [
        ("github", IssuerKind::GitHub, Signing::Rs256, release(json!({})), plain.clone(), "github:acme/tool"),
        ("github", IssuerKind::GitHub, Signing::Es256, release(json!({})), plain.clone(), "github:acme/tool"),
        (
            "github",
            IssuerKind::GitHub,
            Signing::Rs256,
            github(with_immutable_subject(github_claims("acme/tool", "release.yml"))),
            plain.clone(),
            "github:acme/tool",
        ),
        // An Enterprise Server under a name of its own.
        ("ours", IssuerKind::GitHub, Signing::Rs256, release(json!({})), plain, "ours:acme/tool"),
        (
            "gitlab",
            IssuerKind::GitLab,
            Signing::Rs256,
            changed(gitlab_claims("acme/sub/tool"), json!({})),
            gitlab.clone(),
            "gitlab:acme/sub/tool",
        ),
        (
            "gitlab",
            IssuerKind::GitLab,
            Signing::Es256,
            changed(gitlab_claims("acme/sub/tool"), json!({})),
            gitlab,
            "gitlab:acme/sub/tool",
        ),
        (
            "buildhost",
            IssuerKind::Generic,
            Signing::Es256,
            json!({ "sub": "pipeline:42", "aud": OURS }),
            json!({ "sub": "pipeline:42" }),
            "buildhost:pipeline:42",
        ),
    ] {
        let ci = Ci::of(issuer, kind, |_| {}).await;
        let alice = ci.app.user("alice").await;
        alice.publish_versions(TOOL, &["1.0.0"]).await;
        let wanted = json!({ "type": issuer, "permissions": ["createPackage"], "claims": trusted });
        let id = id_in(&trust(&alice, TOOL, &wanted).await);

        let answer = ci.exchange(TOOL, &ci.issuer.token_with(claims, &signing)).await;
        let token = token_in(&answer);
        assert!(token.starts_with("hfst_ci_"), "a scanner can tell it");
        assert_eq!(
            answer.json(),
            json!({
                "token_type": "oidc", "token": token, "created": START, "expires": "2026-11-23T12:15:00.750Z",
            })
        );
        let job = ci.app.anybody().with_token(&token);
        assert_eq!(job.get("/-/whoami").await.ok().json(), json!({ "username": name }));

        let published = job.publish(&Tarball::new(TOOL, "1.1.0")).await;
        assert_eq!(published.status, 201, "{}", published.text());
        let document = ci.app.anybody().document(TOOL).await;
        assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0" }));
        assert_eq!(
            document["versions"]["1.1.0"]["_npmUser"],
            json!({ "name": name, "email": "", "trustedPublisher": { "id": issuer, "oidcConfigId": id } })
        );
        assert!(document["versions"]["1.0.0"]["_npmUser"].get("trustedPublisher").is_none());
        assert_eq!(document["maintainers"], json!([{ "name": "alice", "email": "alice@example.test" }]));
        // pnpm ranks versions by it, and reads the short form.
        let short = ci.app.anybody().get_abbreviated(&path_of(TOOL)).await.ok().json();
        assert_eq!(short["versions"]["1.1.0"]["_npmUser"], document["versions"]["1.1.0"]["_npmUser"]);
    }
}

#[tokio::test]
async fn an_identity_token_is_made_for_this_registry_by_its_name() {
    const LOCAL: Option<&str> = None;
    const OUTSIDE: Option<&str> = Some("https://npm.example.test/");
    const PREFIXED: Option<&str> = Some("https://npm.example.test/registry/");
    for (public_url, host, path, audience) in [
        (LOCAL, "localhost:4873", "", "npm:localhost"),
        (LOCAL, "localhost:4873", "", "npm:localhost:4873"),
        (LOCAL, "localhost", "", "npm:localhost:80"),
        (LOCAL, "127.0.0.1:4873", "", "npm:127.0.0.1"),
        (LOCAL, "[::1]:4873", "", "npm:[::1]:4873"),
        (OUTSIDE, "whatever", "", "npm:npm.example.test"),
        (OUTSIDE, "whatever", "", "npm:npm.example.test:443"),
        (Some("http://npm.example.test:8080/"), "whatever", "", "npm:npm.example.test"),
        (Some("http://npm.example.test:8080/"), "whatever", "", "npm:npm.example.test:8080"),
        // npm, pnpm and vlt drop the prefix on this way, berry keeps it.
        (PREFIXED, "whatever", "", "npm:npm.example.test"),
        (PREFIXED, "whatever", "/registry", "npm:npm.example.test"),
        (OUTSIDE, "whatever", "", "https://of-our-own.example.test"),
    ] {
        let ci = Ci::with(|settings| {
            settings.server.public_url = public_url.map(|url| url.parse().unwrap());
            settings.issuers[0].audience = Some("https://of-our-own.example.test".to_owned());
        })
        .await;
        let caller = ci.app.anybody().to_host(host);
        let alice = caller.with_token(ci.app.user("alice").await.token());
        id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
        for aud in [json!(audience), json!(["npm:elsewhere.example.test", audience])] {
            let identity = ci.issuer.token(release(json!({ "aud": aud })));
            let path = format!("{path}{}", exchange_path(TOOL));
            let answer = caller.with_token(&identity).send(Method::POST, &path, &[], Body::empty()).await;
            assert_eq!(answer.status, 201, "{aud} at {public_url:?}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_name_that_is_not_there_yet_is_made_by_the_workflow_that_it_trusts() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
    // Trust alone makes nothing that anybody could see.
    refused(&alice.get(&path_of(TOOL)).await, 404);

    let job = ci.job(TOOL, release(json!({}))).await;
    let published = job.publish(&Tarball::new(TOOL, "1.0.0")).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let document = ci.app.anybody().document(TOOL).await;
    assert_eq!(document["maintainers"], json!([{ "name": "alice", "email": "alice@example.test" }]));
    // The owner goes on by hand.
    alice.publish(&Tarball::new(TOOL, "1.1.0")).await.ok();
}

#[tokio::test]
async fn a_job_does_what_it_is_trusted_with_and_no_more() {
    for (permissions, may_publish, may_tag, may_deprecate) in [
        // npm 12 asks for a token before `dist-tag` too.
        (&["createPackage"][..], true, true, false),
        (&["tag"], false, true, false),
        (&["deprecate"], false, false, true),
        (&["createPackage", "deprecate"], true, true, true),
    ] {
        let (ci, alice) = trusted_to(permissions).await;
        let job = ci.job(TOOL, release(json!({}))).await;
        let check = |answer: Answer, is_allowed: bool, status: u16| {
            if is_allowed {
                assert_eq!(answer.status, status, "{permissions:?}: {}", answer.text());
            } else {
                refused_as(&answer, 403, "not_allowed");
            }
        };
        check(job.publish_tagged(&Tarball::new(TOOL, "1.1.0"), "next").await, may_publish, 201);
        let tag = "/-/package/@acme%2ftool/dist-tags/stable";
        check(job.put(tag, &json!("1.0.0")).await, may_tag, 201);
        check(job.delete(tag).await, may_tag, 200);
        let mut document = alice.get("/@acme%2ftool?write=true").await.ok().json();
        document["versions"]["1.0.0"]["deprecated"] = json!("use another");
        check(job.put(&path_of(TOOL), &document).await, may_deprecate, 200);
        let document = alice.document(TOOL).await;
        assert_eq!(document["versions"]["1.0.0"].get("deprecated").is_some(), may_deprecate, "{permissions:?}");
        assert_eq!(document["versions"].get("1.1.0").is_some(), may_publish, "{permissions:?}");
    }
}

#[tokio::test]
async fn a_jobs_token_lasts_a_quarter_of_an_hour() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    let job = ci.job(TOOL, release(json!({}))).await;
    ci.advance(Duration::from_secs(15 * 60 - 1));
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.1.0")).await.status, 201);
    ci.advance(Duration::from_secs(1));
    refused_as(&job.publish(&Tarball::new(TOOL, "1.2.0")).await, 401, "sign_in_first");
    refused_as(&job.get("/-/whoami").await, 401, "sign_in_first");
    // Nothing of it stays behind.
    ci.app.app.registry.auth().sweep().await.unwrap();
    let kept = ci.app.stored();
    assert!(!kept.keys().any(|path| path.starts_with("-/logins/token-")), "{:?}", kept.keys());
}

#[tokio::test]
async fn a_job_ends_its_own_token() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    let job = ci.job(TOOL, release(json!({}))).await;
    job.delete(&format!("/-/user/token/{}", job.token())).await.ok();
    refused_as(&job.get("/-/whoami").await, 401, "sign_in_first");
}

#[tokio::test]
async fn a_jobs_token_is_for_one_package_and_for_nothing_that_is_a_persons() {
    let ci =
        Ci::with(|settings| settings.access.rules = vec![rule("@hidden/*", &[(Action::Read, &["user:alice"])])]).await;
    let alice = ci.app.user("alice").await;
    ci.app.user("bob").await;
    alice.publish_versions(TOOL, &["1.0.0", "1.1.0"]).await;
    alice.publish_versions("@acme/other", &["1.0.0"]).await;
    alice.publish_versions("@hidden/other", &["1.0.0"]).await;
    let id = id_in(&trust(&alice, TOOL, &trusting_to(&["createPackage", "deprecate"])).await);
    let job = ci.job(TOOL, release(json!({}))).await;

    let revision = alice.revision(TOOL).await;
    let mut without = alice.get("/@acme%2ftool?write=true").await.ok().json();
    without["versions"].as_object_mut().unwrap().remove("1.0.0");
    let bob = json!({ "name": "bob", "email": "bob@example.test" });
    let publish = |name: &str| publish_document(&Tarball::new(name, "9.0.0"), "latest");
    let before = ci.app.stored();
    for (method, path, body, status, code) in [
        (Method::PUT, "/@acme%2fother".to_owned(), publish("@acme/other"), 403, "not_allowed"),
        (Method::PUT, "/@acme%2fnew".to_owned(), publish("@acme/new"), 403, "not_allowed"),
        (Method::PUT, "/-/package/@acme%2fother/dist-tags/a".to_owned(), json!("1.0.0"), 403, "not_allowed"),
        (Method::PUT, "/@hidden%2fother".to_owned(), publish("@hidden/other"), 404, "package_not_found"),
        (Method::GET, "/@hidden%2fother".to_owned(), Value::Null, 404, "package_not_found"),
        // Its own package.
        (Method::DELETE, format!("/@acme%2ftool/-rev/{revision}"), Value::Null, 403, "not_allowed"),
        (Method::PUT, format!("/@acme%2ftool/-rev/{revision}"), without, 403, "not_allowed"),
        (Method::DELETE, format!("/@acme%2ftool/-/tool-1.0.0.tgz/-rev/{revision}"), Value::Null, 403, "not_allowed"),
        (Method::PUT, format!("/@acme%2ftool/-rev/{revision}"), json!({ "maintainers": [bob] }), 403, "not_allowed"),
        (Method::PUT, "/-/package/@acme%2ftool/owners".to_owned(), json!({ "user": "bob" }), 403, "not_allowed"),
        (Method::DELETE, "/-/package/@acme%2ftool/owners/alice".to_owned(), Value::Null, 403, "not_allowed"),
        (Method::GET, trust_path(TOOL), Value::Null, 403, "not_allowed"),
        (Method::POST, trust_path(TOOL), json!([trusting(&json!({ "repository": "evil/tool" }))]), 403, "not_allowed"),
        (Method::DELETE, format!("{}/{id}", trust_path(TOOL)), Value::Null, 403, "not_allowed"),
        // What belongs to an account.
        (Method::GET, "/-/user/v1/star".to_owned(), Value::Null, 403, "persons_only"),
        (Method::PUT, "/-/user/v1/star".to_owned(), json!({ "package": TOOL }), 403, "persons_only"),
        (Method::DELETE, "/-/user/v1/star".to_owned(), json!({ "package": TOOL }), 403, "persons_only"),
        (Method::GET, "/-/npm/v1/tokens".to_owned(), Value::Null, 403, "persons_only"),
        (Method::POST, "/-/npm/v1/tokens".to_owned(), json!({ "password": PASSWORD }), 403, "persons_only"),
        (Method::DELETE, "/-/npm/v1/tokens/token/0123456789ab".to_owned(), Value::Null, 403, "persons_only"),
        (Method::GET, "/-/npm/v1/user".to_owned(), Value::Null, 403, "persons_only"),
        (Method::POST, "/-/npm/v1/user".to_owned(), json!({ "email": "evil@example.test" }), 403, "persons_only"),
    ] {
        let answer = job.send_json(method.clone(), &path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        refused_as(&answer, status, code);
    }
    assert_eq!(ci.app.stored(), before);
}

#[tokio::test]
async fn a_hidden_package_is_open_to_the_job_that_it_trusts() {
    let rules = || vec![rule("@hidden/*", &[(Action::Read, &["user:alice"])])];
    let ci = Ci::with(|settings| settings.access.rules = rules()).await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions("@hidden/tool", &["1.0.0"]).await;
    id_in(&trust(&alice, "@hidden/tool", &trusting(&json!({}))).await);
    refused(&ci.app.anybody().get("/@hidden%2ftool").await, 401);
    let job = ci.job("@hidden/tool", release(json!({}))).await;
    assert_eq!(job.document("@hidden/tool").await["dist-tags"]["latest"], "1.0.0");
    assert_eq!(job.publish(&Tarball::new("@hidden/tool", "1.1.0")).await.status, 201);
}

#[tokio::test]
async fn a_job_is_compared_with_what_was_said_of_the_workflow() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    for (number, (said, job, is_trusted)) in [
        // What is not said may be anything.
        (json!({}), json!({}), true),
        (json!({}), json!({ "environment": "production" }), true),
        (json!({}), json!({ "ref": "refs/tags/v1" }), true),
        (json!({}), json!({ "ref": null }), true),
        (json!({}), json!({ "event_name": "workflow_dispatch" }), true),
        (json!({ "environment": "" }), json!({}), true),
        (json!({ "environment": "production" }), json!({ "environment": "production" }), true),
        (json!({ "environment": "production" }), json!({ "environment": "Production" }), false),
        (json!({ "environment": "production" }), json!({}), false),
        (json!({ "ref": "refs/heads/main" }), json!({}), true),
        (json!({ "ref": "refs/heads/main" }), json!({ "ref": "refs/heads/main2" }), false),
        (json!({ "ref": "refs/heads/main" }), json!({ "ref": "refs/heads/Main" }), false),
        (json!({ "ref": "refs/heads/main" }), json!({ "ref": null }), false),
        (json!({ "ref": "refs/tags/v*" }), json!({ "ref": "refs/tags/v1.2.3" }), true),
        (json!({ "ref": "refs/tags/v*" }), json!({ "ref": "refs/heads/v1.2.3" }), false),
        (json!({ "ref": "refs/*/v*-stable" }), json!({ "ref": "refs/heads/v1-stable" }), true),
        (json!({ "ref": "refs/*/v*-stable" }), json!({ "ref": "refs/heads/v1-stable-not" }), false),
        // GitHub does not tell owners and repositories by case; files it does.
        (json!({ "repository": "Acme/TOOL" }), json!({}), true),
        (json!({ "workflow_ref": { "file": "Release.yml" } }), json!({}), false),
        (json!({ "workflow_ref": { "file": "release.yaml" } }), json!({}), false),
        (json!({ "repository_id": "1" }), json!({}), false),
        (json!({ "repository_id": "12345" }), json!({ "repository_id": "12345" }), true),
        // Numbers, where the issuer writes them so.
        (json!({ "repository_owner_id": "12345" }), json!({ "repository_owner_id": 12345 }), true),
        (json!({ "repository_owner_id": "12345" }), json!({ "repository_owner_id": 54321 }), false),
    ]
    .into_iter()
    .enumerate()
    {
        let package = format!("tool-{number}");
        id_in(&trust(&alice, &package, &trusting(&said)).await);
        let answer = ci.exchange(&package, &ci.issuer.token(release(job.clone()))).await;
        assert_eq!(answer.status, if is_trusted { 201 } else { 403 }, "{said} and {job}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_package_trusts_several_workflows_each_with_its_own_actions() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    let mut ids = Vec::new();
    for (claims, permissions) in [
        (json!({}), json!(["createPackage"])),
        (json!({ "repository": "acme/other" }), json!(["tag"])),
        (json!({ "workflow_ref": { "file": "nightly.yml" } }), json!(["deprecate"])),
        (json!({ "workflow_ref": { "file": "nightly.yml" }, "environment": "late" }), json!(["tag"])),
        (json!({ "workflow_ref": { "file": "nightly.yml" }, "ref": "refs/tags/n*" }), json!(["createPackage"])),
    ] {
        let mut configuration = trusting(&claims);
        configuration["permissions"] = permissions;
        ids.push(id_in(&trust(&alice, TOOL, &configuration).await));
    }
    let nightly = |changes: Value| changed(github_claims("acme/tool", "nightly.yml"), changes);
    for (claims, may_publish, may_tag) in [
        (release(json!({})), true, true),
        (release_of("acme/other"), false, true),
        // The first that fits is the one that counts.
        (nightly(json!({})), false, false),
        (nightly(json!({ "environment": "late" })), false, false),
    ] {
        let job = ci.job(TOOL, claims.clone()).await;
        let version = format!("2.0.{}", u8::from(may_publish));
        let status = job.publish_tagged(&Tarball::new(TOOL, &version), "next").await.status;
        assert_eq!(status, if may_publish { 201 } else { 403 }, "{claims}");
        let status = job.put("/-/package/@acme%2ftool/dist-tags/a", &json!("1.0.0")).await.status;
        assert_eq!(status, if may_tag { 201 } else { 403 }, "{claims}");
    }
    // Without the one before them, the others count.
    alice.delete(&format!("{}/{}", trust_path(TOOL), ids[2])).await.ok();
    let late = ci.job(TOOL, nightly(json!({ "environment": "late" }))).await;
    late.put("/-/package/@acme%2ftool/dist-tags/b", &json!("1.0.0")).await.ok();
    let tagged = ci.job(TOOL, nightly(json!({ "ref": "refs/tags/n1" }))).await;
    assert_eq!(tagged.publish_tagged(&Tarball::new(TOOL, "3.0.0"), "next").await.status, 201);
    let user = &ci.app.anybody().document(TOOL).await["versions"]["3.0.0"]["_npmUser"];
    assert_eq!(user["trustedPublisher"]["oidcConfigId"], ids[4].as_str());
}

#[tokio::test]
async fn trust_is_listed_as_npm_shows_it_and_ended() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    assert_eq!(alice.get(&trust_path(TOOL)).await.ok().json(), json!([]));
    let mut wanted = trusting(&json!({ "environment": "production", "ref": "refs/tags/*" }));
    wanted["permissions"] = json!(["createPackage", "deprecate"]);
    let answer = trust(&alice, TOOL, &wanted).await;
    let id = id_in(&answer);
    let mut expected = wanted.clone();
    expected["id"] = json!(id);
    expected["created"] = json!(START);
    expected["createdBy"] = json!("alice");
    assert_eq!(answer.json(), json!([expected]));
    assert_eq!(alice.get(&trust_path(TOOL)).await.ok().json(), json!([expected]));
    // A configuration without a list around it is understood too.
    let second = alice.post(&trust_path(TOOL), &trusting(&json!({ "repository": "acme/second" }))).await;
    let second = id_in(&second);

    // The numbers are noted when the first job comes.
    let claims = release(json!({ "environment": "production", "ref": "refs/tags/v1" }));
    let job = ci.job(TOOL, claims.clone()).await;
    expected["claims"]["repository_id"] = claims["repository_id"].clone();
    expected["claims"]["repository_owner_id"] = claims["repository_owner_id"].clone();
    assert_eq!(alice.get(&trust_path(TOOL)).await.ok().json()[0], expected);

    for status in [200, 404] {
        let answer = alice.delete(&format!("{}/{id}", trust_path(TOOL))).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let left = alice.get(&trust_path(TOOL)).await.ok().json();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &json!(second)));
    let answer = ci.exchange(TOOL, &ci.issuer.token(claims)).await;
    exchange_refused(&answer, 403, "identity_refused", "`acme/tool`");
    // A token that was given out before lasts for its quarter of an hour.
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.1.0")).await.status, 201);
}

#[tokio::test]
async fn a_trusted_publisher_of_another_kind_is_shown_by_that_kinds_claims() {
    for (issuer, kind, claims) in [
        (
            "our-gitlab",
            IssuerKind::GitLab,
            json!({ "project_path": "acme/tool", "ci_config_ref_uri": { "file": "ci/release.yml" } }),
        ),
        (
            "gitlab",
            IssuerKind::GitLab,
            json!({ "project_path": "a/b", "ci_config_ref_uri": { "file": ".gitlab-ci.yml" } }),
        ),
        ("buildhost", IssuerKind::Generic, json!({ "sub": "pipeline:42" })),
    ] {
        let ci = Ci::of(issuer, kind, |_| {}).await;
        let alice = ci.app.user("alice").await;
        let wanted = json!({ "type": issuer, "permissions": ["createPackage"], "claims": claims });
        let answer = trust(&alice, TOOL, &wanted).await;
        id_in(&answer);
        assert_eq!(answer.json()[0]["claims"], claims, "{issuer}");
    }
}

#[tokio::test]
async fn new_keys_of_the_issuer_are_found() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    let old = ci.issuer.token(release(json!({})));
    ci.job(TOOL, release(json!({}))).await;
    ci.issuer.rotate();
    // Anybody can make up a key's name, so the issuer is asked for unknown ones once in a minute.
    ci.advance(Duration::from_mins(1));
    for signing in [Signing::Rs256, Signing::Es256] {
        token_in(&ci.exchange(TOOL, &ci.issuer.token_with(release(json!({})), &signing)).await);
    }
    exchange_refused(&ci.exchange(TOOL, &old).await, 401, "identity_invalid", "does not publish");
}

#[tokio::test]
async fn keys_that_are_known_outlast_an_issuer_that_is_down() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    ci.job(TOOL, release(json!({}))).await;
    ci.issuer.set_mode(Mode::Down);
    ci.advance(Duration::from_hours(23));
    ci.job(TOOL, release(json!({}))).await;
    ci.advance(Duration::from_hours(1));
    let answer = ci.exchange(TOOL, &ci.issuer.token(release(json!({})))).await;
    exchange_refused(&answer, 503, "issuer_unavailable", "issuer");
}

#[tokio::test]
async fn a_clock_that_is_a_minute_off_refuses_nobody() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    let now = ci.now();
    for claims in [
        json!({ "exp": now - 59 }),
        json!({ "nbf": now + 60 }),
        json!({ "iat": now + 60 }),
        json!({ "nbf": null, "iat": null }),
    ] {
        token_in(&ci.exchange(TOOL, &ci.issuer.token(release(claims))).await);
    }
}

#[tokio::test]
async fn an_identity_token_that_lasts_for_days_is_good_once_all_the_same() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    let identity = ci.issuer.token(release(json!({ "exp": ci.now() + 10 * 86_400 })));
    token_in(&ci.exchange(TOOL, &identity).await);
    for days in [1, 8] {
        ci.advance(Duration::from_hours(24 * days));
        ci.app.app.registry.auth().sweep().await.unwrap();
        exchange_refused(&ci.exchange(TOOL, &identity).await, 401, "identity_invalid", "used before");
    }
    // Marks go when the token is no good any more.
    ci.advance(Duration::from_hours(48));
    ci.app.app.registry.auth().sweep().await.unwrap();
    let kept = ci.app.stored();
    assert!(!kept.keys().any(|path| path.starts_with("-/logins/used-")), "{:?}", kept.keys());
    exchange_refused(&ci.exchange(TOOL, &identity).await, 401, "identity_invalid", "expired");
}

#[tokio::test]
async fn who_trusts_a_workflow_with_a_name_gets_no_share_in_what_others_publish_under_it() {
    let ci = Ci::new().await;
    let (alice, mallory) = (ci.app.user("alice").await, ci.app.user("mallory").await);
    let evil = || release_of("mallory/tool");
    id_in(&trust(&mallory, TOOL, &trusting(&json!({ "repository": "mallory/tool" }))).await);
    // Got while nothing was there.
    let early = ci.job(TOOL, evil()).await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    let sentence = refused_as(&early.publish(&Tarball::new(TOOL, "6.6.6")).await, 403, "not_allowed");
    assert!(!sentence.contains("alice"), "{sentence}");
    let late = ci.exchange(TOOL, &ci.issuer.token(evil())).await;
    exchange_refused(&late, 403, "identity_refused", "`mallory/tool`");
    // Whom the owner trusts is another matter.
    id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
    let job = ci.job(TOOL, release(json!({}))).await;
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.1.0")).await.status, 201);
    let versions = ci.app.anybody().document(TOOL).await["versions"].clone();
    assert_eq!(versions.as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0", "1.1.0"]);
}

#[tokio::test]
async fn what_an_operators_trust_publishes_first_belongs_to_nobody_who_takes_a_name() {
    let ci = Ci::new().await;
    let wish = TrustWish {
        issuer: "github".to_owned(),
        repository: "acme/tool".to_owned(),
        workflow: Some("release.yml".to_owned()),
        actions: vec![Action::Publish],
        ..TrustWish::default()
    };
    let order = Order::Trust { package: TOOL.to_owned(), wish };
    let outcome = carry_out(ci.app.desk(), order.into()).await;
    assert!(matches!(outcome, Outcome::Publishers { .. }), "{outcome:?}");
    let job = ci.job(TOOL, release(json!({}))).await;
    job.publish(&Tarball::new(TOOL, "1.0.0")).await.ok();
    let owner = ci.app.anybody().document(TOOL).await["maintainers"][0]["name"].as_str().unwrap().to_owned();
    let body = json!({ "name": owner, "password": PASSWORD });
    let address = format!("/-/user/org.couchdb.user:{}", owner.replace(':', "%3a"));
    refused(&ci.app.anybody().put(&address, &body).await, 400);
    for name in ["operator", "Operator"] {
        let user = ci.app.user(name).await;
        refused_as(&user.publish(&Tarball::new(TOOL, "1.1.0")).await, 403, "not_an_owner");
    }
    let job = ci.job(TOOL, release(json!({}))).await;
    job.publish(&Tarball::new(TOOL, "1.1.0")).await.ok();
}

#[tokio::test]
async fn trust_outlasts_the_owner_who_gave_it() {
    let ci = Ci::new().await;
    let (alice, bob) = (ci.app.user("alice").await, ci.app.user("bob").await);
    id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
    for version in ["1.0.0", "1.1.0"] {
        let job = ci.job(TOOL, release(json!({}))).await;
        assert_eq!(job.publish(&Tarball::new(TOOL, version)).await.status, 201);
    }
    alice.put("/-/package/@acme%2ftool/owners", &json!({ "user": "bob" })).await.ok();
    bob.delete("/-/package/@acme%2ftool/owners/alice").await.ok();
    let job = ci.job(TOOL, release(json!({}))).await;
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.2.0")).await.status, 201);
}

/// What a rule lets jobs of `acme/*` read, and what is for people.
async fn with_readers(workflow: &str) -> Ci {
    let ci = Ci::with(|settings| {
        settings.access.anonymous_read = holdfast::settings::Auto::Closed;
        settings.access.rules = vec![
            rule("@acme/*", &[(Action::Read, &["account", workflow])]),
            rule("@open/*", &[(Action::Read, &["anyone"])]),
        ];
    })
    .await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    alice.publish_versions("@other/tool", &["1.0.0"]).await;
    ci
}

#[tokio::test]
async fn a_job_that_a_rule_names_reads_for_an_hour_and_changes_nothing() {
    let ci = with_readers("workflow:github/acme/*").await;
    let identity = ci.issuer.token(release(json!({})));
    let answer = ci.exchange_to_read(&identity).await;
    let reader = ci.app.anybody().with_token(&token_in(&answer));
    exchange_refused(&ci.exchange_to_read(&identity).await, 401, "identity_invalid", "used before");
    assert_eq!(answer.json()["expires"], "2026-11-23T13:00:00.750Z");
    assert_eq!(reader.get("/-/whoami").await.ok().json()["username"], "github:acme/tool");
    assert_eq!(reader.get_abbreviated(&path_of(TOOL)).await.ok().json()["dist-tags"]["latest"], "1.0.0");
    reader.get("/@acme/tool/-/tool-1.0.0.tgz").await.ok();
    refused_as(&reader.get("/@other%2ftool").await, 404, "package_not_found");
    refused_as(&reader.get("/@other/tool/-/tool-1.0.0.tgz").await, 404, "package_not_found");

    let before = ci.app.stored();
    refused_as(&reader.publish(&Tarball::new(TOOL, "2.0.0")).await, 403, "not_allowed");
    refused_as(&reader.publish(&Tarball::new("@acme/new", "1.0.0")).await, 403, "not_allowed");
    refused_as(&reader.publish(&Tarball::new("@other/new", "1.0.0")).await, 404, "package_not_found");
    refused_as(&reader.put("/-/package/@acme%2ftool/dist-tags/a", &json!("1.0.0")).await, 403, "not_allowed");
    refused_as(
        &reader.delete(&format!("/@acme%2ftool/-rev/{}", ci.app.user("alice").await.revision(TOOL).await)).await,
        403,
        "not_allowed",
    );
    refused_as(&trust(&reader, TOOL, &trusting(&json!({}))).await, 403, "not_allowed");
    refused_as(&reader.get("/-/npm/v1/tokens").await, 403, "persons_only");
    assert_eq!(ci.app.stored(), before);

    ci.advance(Duration::from_secs(3599));
    reader.get(&path_of(TOOL)).await.ok();
    ci.advance(Duration::from_secs(1));
    refused_as(&reader.get(&path_of(TOOL)).await, 401, "sign_in_first");
}

#[tokio::test]
async fn a_job_that_no_rule_names_gets_nothing_to_read_with() {
    const PATHS: [&str; 4] =
        ["/@acme%2ftool", "/@acme/tool/1.0.0", "/@acme/tool/-/tool-1.0.0.tgz", "/-/package/@acme%2ftool/dist-tags"];
    let shouted = "Acme/Tool/.github/workflows/x.yml@refs/heads/main";
    for (workflow, readers, strangers) in [
        (
            "workflow:github/acme/*",
            vec![release(json!({})), release(json!({ "repository": "Acme/Tool", "workflow_ref": shouted }))],
            vec![release_of("acme2/tool"), release_of("evil/acme"), release_of("evil/tool")],
        ),
        (
            "workflow:github/acme/tool@refs/tags/v*",
            vec![release(json!({ "ref": "refs/tags/v1" }))],
            vec![
                release(json!({})),
                release(json!({ "ref": null })),
                release(json!({ "ref": "refs/tags/V1" })),
                changed(github_claims("acme/tool2", "release.yml"), json!({ "ref": "refs/tags/v1" })),
            ],
        ),
    ] {
        let ci = with_readers(workflow).await;
        ci.app.settle().await;
        for claims in readers {
            let reader = ci.reader(claims.clone()).await;
            for path in PATHS {
                let answer = reader.get(path).await;
                assert_eq!(answer.status, 200, "{workflow}, {claims}, {path}: {}", answer.text());
            }
            assert_eq!(reader.get("/-/v1/search?text=tool").await.ok().json()["total"], 1, "{workflow}, {claims}");
        }
        for claims in strangers {
            let answer = ci.exchange_to_read(&ci.issuer.token(claims)).await;
            exchange_refused(&answer, 403, "identity_refused", "no rule of this registry lets the repository");
        }
    }
}

#[tokio::test]
async fn a_rule_lets_none_but_trusted_workflows_publish() {
    let ci = Ci::with(|settings| {
        settings.access.rules = vec![rule(
            "@acme/*",
            &[(Action::Publish, &["trusted"]), (Action::Create, &["account"]), (Action::Own, &["owners"])],
        )];
    })
    .await;
    let alice = ci.app.user("alice").await;
    alice.publish(&Tarball::new(TOOL, "1.0.0")).await.ok();
    id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
    let sentence = refused_as(&alice.publish(&Tarball::new(TOOL, "1.1.0")).await, 403, "not_allowed");
    assert!(sentence.contains("rules"), "{sentence}");
    let job = ci.job(TOOL, release(json!({}))).await;
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.1.0")).await.status, 201);
}

/// The code that an authenticator app shows for an `otpauth` address (RFC 6238).
fn code_of_app(address: &str, seconds: u64) -> String {
    let secret = address.split("secret=").nth(1).unwrap().split('&').next().unwrap();
    let (mut bits, mut length, mut key) = (0_u32, 0, Vec::new());
    for letter in secret.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
        bits = bits << 5 | u32::try_from(value).unwrap();
        length += 5;
        if length >= 8 {
            length -= 8;
            key.push(u8::try_from(bits >> length & 0xff).unwrap());
        }
    }
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let mac = aws_lc_rs::hmac::sign(&key, &(seconds / 30).to_be_bytes());
    let start = usize::from(mac.as_ref()[19] & 0xf);
    let number = u32::from_be_bytes(mac.as_ref()[start..start + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[tokio::test]
async fn trust_asks_for_the_code_of_the_app() {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    let wanted = json!({ "tfa": { "password": PASSWORD, "mode": "auth-and-writes" } });
    let address = alice.post("/-/npm/v1/user", &wanted).await.ok().json()["tfa"].as_str().unwrap().to_owned();
    let finish = json!({ "tfa": [code_of_app(&address, ci.now())] });
    alice.post("/-/npm/v1/user", &finish).await.ok();
    ci.advance(Duration::from_secs(30));

    let before = ci.app.stored();
    let answer = trust(&alice, TOOL, &trusting(&json!({}))).await;
    let sentence = refused_as(&answer, 401, "one_time_code");
    assert!(sentence.contains("one-time pass"), "npm looks for it: {sentence}");
    assert_eq!(answer.header("www-authenticate"), "OTP");
    refused_as(&trust(&alice.with("npm-otp", "000000"), TOOL, &trusting(&json!({}))).await, 401, "one_time_code");
    assert_eq!(ci.app.stored(), before);
    let id = id_in(&trust(&alice.with("npm-otp", &code_of_app(&address, ci.now())), TOOL, &trusting(&json!({}))).await);

    let path = format!("{}/{id}", trust_path(TOOL));
    ci.advance(Duration::from_secs(30));
    refused_as(&alice.delete(&path).await, 401, "one_time_code");
    // Nobody can ask a job, and nobody has to: who trusted it was asked.
    let job = ci.job(TOOL, release(json!({}))).await;
    assert_eq!(job.publish(&Tarball::new(TOOL, "1.1.0")).await.status, 201);
    alice.with("npm-otp", &code_of_app(&address, ci.now())).delete(&path).await.ok();
}

#[tokio::test]
async fn trust_in_a_package_with_confirmation_asks_for_it() {
    let ci = Ci::with(|settings| {
        let mut rule = rule("@acme/*", &[]);
        rule.confirm = true;
        settings.access.rules = vec![rule];
    })
    .await;
    let alice = ci.app.user("alice").await;
    let before = ci.app.stored();
    let answer = trust(&alice, TOOL, &trusting(&json!({}))).await;
    let sentence = refused_as(&answer, 401, "one_time_code");
    assert!(sentence.contains("one-time pass"), "npm looks for it: {sentence}");
    assert_eq!(answer.header("www-authenticate"), "OTP");
    assert_eq!(alice.get(&trust_path(TOOL)).await.ok().json(), json!([]));
    let after = ci.app.stored();
    let is_page = |path: &&String| path.starts_with("-/logins/page-");
    assert_eq!(after.keys().filter(|path| !is_page(path)).collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn every_spelling_of_a_scoped_name_is_exchanged_for() {
    let (ci, _) = trusted_to(&["createPackage"]).await;
    for name in ["@acme%2ftool", "@acme%2Ftool", "%40acme%2ftool", "@acme/tool"] {
        let path = format!("{TO_READ}/package/{name}");
        let caller = ci.app.anybody().with_token(&ci.issuer.token(release(json!({}))));
        let answer = caller.send(Method::POST, &path, &[], Body::empty()).await;
        let job = ci.app.anybody().with_token(&token_in(&answer));
        job.put("/-/package/@acme%2ftool/dist-tags/a", &json!("1.0.0")).await.ok();
    }
}
