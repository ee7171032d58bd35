//! Trusted publishing: identity tokens that get nothing, and trust that is not given.

use std::time::Duration;

use axum::body::Body;
use holdfast::auth::{Action, IssuerKind};
use holdfast::settings::Auto;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, PASSWORD, refused};
use crate::support::ci::{
    Ci, OURS, TO_READ, changed, exchange_as, exchange_path, exchange_refused, id_in, refused_as, release, release_of,
    rule, token_in, trust, trust_path, trusting, trusting_to,
};
use crate::support::issuer::{Issuer, Mode, Signing, github_claims, gitlab_claims};

const TOOL: &str = "@acme/tool";

/// Alice owns `@acme/tool@1.0.0`, which trusts `release.yml` of `acme/tool`, with some claims changed.
async fn trusting_package(claims: Value) -> (Ci, Caller) {
    let ci = Ci::new().await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    id_in(&trust(&alice, TOOL, &trusting(&claims)).await);
    (ci, alice)
}

/// Somebody at an address of their own: failures are counted by address.
fn stranger(ci: &Ci, number: usize) -> Caller {
    ci.app.anybody().at_peer(&format!("127.0.1.{number}:50000"))
}

#[tokio::test]
async fn without_an_identity_token_there_is_nothing_to_exchange() {
    let (ci, alice) = trusting_package(json!({})).await;
    let before = ci.app.stored();
    let basic = ci.app.anybody().with("authorization", "Basic YWxpY2U6c2VjcmV0");
    let others = ci.app.anybody().with("authorization", "Negotiate abcdef");
    for path in [exchange_path(TOOL), TO_READ.to_owned()] {
        for (caller, says) in [
            (ci.app.anybody(), "no identity token"),
            (basic.clone(), "no identity token"),
            (others.clone(), "no identity token"),
            (ci.app.anybody().with_token("abc"), "not a JSON Web Token"),
            (ci.app.anybody().with_token("a.b.c"), "not a JSON Web Token"),
            (ci.app.anybody().with_token("e30.e30"), "not a JSON Web Token"),
            (ci.app.anybody().with_token("e30.e30."), "not a JSON Web Token"),
            (ci.app.anybody().with_token("eyJhbGciOiJSUzI1NiJ9.e30."), "no `iss`"),
            // The registry's own.
            (ci.app.anybody().with_token(alice.token()), "not a JSON Web Token"),
        ] {
            let answer = caller.send(Method::POST, &path, &[], Body::empty()).await;
            exchange_refused(&answer, 401, "identity_invalid", says);
        }
    }
    assert_eq!(ci.app.stored(), before);
}

#[tokio::test]
async fn a_token_that_is_not_good_gets_nothing() {
    let (ci, _) = trusting_package(json!({})).await;
    let other = Issuer::start().await;
    other.set_now(ci.now());
    let now = ci.now();
    let with = |changes: Value| ci.issuer.token(release(changes));
    let signed = |signing: Signing| ci.issuer.token_with(release(json!({})), &signing);
    let before = ci.app.stored();
    for (number, (token, says)) in [
        (with(json!({ "padding": "x".repeat(16 << 10) })), "not a JSON Web Token"),
        (other.token(release(json!({}))), "this issuer"),
        (other.token(release(json!({ "iss": ci.issuer.url() }))), "does not publish"),
        (with(json!({ "iss": format!("{}/", ci.issuer.url()) })), "this issuer"),
        (with(json!({ "iss": null })), "no `iss`"),
        (with(json!({ "aud": "npm:registry.example.test" })), "another audience"),
        (with(json!({ "aud": "localhost" })), "another audience"),
        (with(json!({ "aud": "npm:LOCALHOST" })), "another audience"),
        (with(json!({ "aud": "npm:localhost:1" })), "another audience"),
        (with(json!({ "aud": ["npm:a.example.test", "npm:b.example.test"] })), "another audience"),
        (with(json!({ "aud": [] })), "another audience"),
        (with(json!({ "aud": null })), "no `aud`"),
        (with(json!({ "aud": { "a": OURS } })), "another audience"),
        (with(json!({ "exp": now - 60 })), "has expired"),
        (with(json!({ "exp": null })), "no `exp`"),
        (with(json!({ "exp": "never" })), "not a JSON Web Token"),
        (with(json!({ "nbf": now + 61 })), "not valid yet"),
        (with(json!({ "iat": now + 61 })), "not valid yet"),
        (signed(Signing::None), "not accepted"),
        (signed(Signing::Hs256WithPublicKey), "not accepted"),
        (signed(Signing::WrongAlg), "not accepted"),
        (signed(Signing::Tampered(json!({ "repository": "acme/other" }))), "signature is wrong"),
        (signed(Signing::BrokenSignature), "signature is wrong"),
        (signed(Signing::ByAnotherKey), "signature is wrong"),
        (signed(Signing::UnknownKid), "does not publish"),
        (signed(Signing::NoKid), "does not publish"),
        (signed(Signing::WithHeader(json!({ "crit": ["exp"] }))), "not a JSON Web Token"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = exchange_as(&stranger(&ci, number), TOOL, &token).await;
        exchange_refused(&answer, 401, "identity_invalid", says);
    }
    assert_eq!(ci.app.stored(), before);
    assert_eq!(other.seen(), crate::support::issuer::Seen::default(), "an issuer that is not known is not asked");
}

#[tokio::test]
async fn a_job_that_strangers_may_have_started_or_that_cannot_be_told_gets_nothing() {
    let (ci, _) = trusting_package(json!({})).await;
    let foreign = "evil/tool/.github/workflows/release.yml@refs/heads/main";
    let before = ci.app.stored();
    for (number, (claims, says)) in [
        (json!({ "event_name": "pull_request_target" }), "`pull_request_target`"),
        (json!({ "event_name": "workflow_run" }), "`workflow_run`"),
        (json!({ "event_name": null }), "`event_name`"),
        (json!({ "repository": null }), "`repository`"),
        (json!({ "repository": "" }), "`repository`"),
        (json!({ "repository_id": null }), "`repository_id`"),
        (json!({ "repository_owner_id": null }), "`repository_owner_id`"),
        (json!({ "workflow_ref": null }), "`workflow_ref`"),
        (json!({ "workflow_ref": foreign }), "the repository's own"),
        (json!({ "workflow_ref": "acme/tool2/.github/workflows/release.yml@refs/heads/main" }), "the repository's own"),
        (json!({ "workflow_ref": "acme/tool/release.yml@refs/heads/main" }), "the repository's own"),
        (
            json!({ "workflow_ref": "acme/tool/.github/workflows/x/release.yml@refs/heads/main" }),
            "the repository's own",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let token = ci.issuer.token(release(claims));
        exchange_refused(&exchange_as(&stranger(&ci, number), TOOL, &token).await, 403, "identity_refused", says);
    }
    assert_eq!(ci.app.stored(), before);
}

#[tokio::test]
async fn a_job_of_gitlab_that_cannot_be_told_gets_nothing() {
    let ci = Ci::of("gitlab", IssuerKind::GitLab, |_| {}).await;
    let alice = ci.app.user("alice").await;
    let claims = json!({ "project_path": "acme/tool", "ci_config_ref_uri": { "file": ".gitlab-ci.yml" } });
    let wanted = json!({ "type": "gitlab", "permissions": ["createPackage"], "claims": claims });
    id_in(&trust(&alice, TOOL, &wanted).await);
    for (changes, says) in [
        (json!({ "project_path": null }), "`project_path`"),
        (json!({ "project_id": null }), "`project_id`"),
        (json!({ "namespace_id": null }), "`namespace_id`"),
        (json!({ "ci_config_ref_uri": null }), "`ci_config_ref_uri`"),
        (json!({ "ci_config_ref_uri": "gitlab.example.test/evil/tool//.gitlab-ci.yml@refs/heads/main" }), "own"),
        (json!({ "ci_config_ref_uri": "gitlab.example.test/acme/tool//other.yml@refs/heads/main" }), "`other.yml`"),
        (json!({ "project_path": "acme/tools" }), "own"),
    ] {
        let token = ci.issuer.token(changed(gitlab_claims("acme/tool"), changes));
        exchange_refused(&ci.exchange(TOOL, &token).await, 403, "identity_refused", says);
    }
    let other = ci.issuer.token(changed(gitlab_claims("acme/other"), json!({})));
    exchange_refused(&ci.exchange(TOOL, &other).await, 403, "identity_refused", "`acme/other`");
}

#[tokio::test]
async fn another_issuers_subject_is_compared_letter_by_letter() {
    let ci = Ci::of("buildhost", IssuerKind::Generic, |_| {}).await;
    let alice = ci.app.user("alice").await;
    let wanted = |sub: &str| json!({ "type": "buildhost", "permissions": ["createPackage"], "claims": { "sub": sub } });
    id_in(&trust(&alice, TOOL, &wanted("pipeline:aB3")).await);
    for (claims, says) in [
        (json!({ "sub": "pipeline:Ab3" }), "`pipeline:Ab3`"),
        (json!({ "sub": "pipeline:aB" }), "`pipeline:aB`"),
        (json!({ "sub": "pipeline:aB33" }), "`pipeline:aB33`"),
        (json!({ "sub": "*" }), "`*`"),
        (json!({ "sub": null }), "`sub`"),
        (json!({ "sub": 3 }), "`sub`"),
    ] {
        let token = ci.issuer.token(changed(claims, json!({})));
        exchange_refused(&ci.exchange(TOOL, &token).await, 403, "identity_refused", says);
    }
    // Two that differ by case alone are two.
    id_in(&trust(&alice, TOOL, &wanted("pipeline:Ab3")).await);
    token_in(&ci.exchange(TOOL, &ci.issuer.token(json!({ "sub": "pipeline:Ab3", "aud": OURS }))).await);
}

#[tokio::test]
async fn a_job_that_is_not_the_one_is_told_in_what() {
    let strict = json!({ "environment": "production", "ref": "refs/tags/v*" });
    let good = json!({ "environment": "production", "ref": "refs/tags/v1" });
    let job = |file: &str, changes: Value| {
        let mut claims = changed(github_claims("acme/tool", file), good.clone());
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let (ci, _) = trusting_package(strict).await;
    let before = ci.app.stored();
    for (number, (claims, says)) in [
        (job("other.yml", json!({})), "`other.yml`"),
        (job("Release.yml", json!({})), "`Release.yml`"),
        // A file's name may have such a letter in it, and a stranger to the owners could have made it.
        (job("release.yml@x.yml", json!({})), "`release.yml@x.yml`"),
        (job("release.yml", json!({ "environment": null })), "environment"),
        (job("release.yml", json!({ "environment": "staging" })), "environment"),
        (job("release.yml", json!({ "environment": "" })), "environment"),
        (job("release.yml", json!({ "ref": "refs/heads/main" })), "`refs/heads/main`"),
        (job("release.yml", json!({ "ref": null })), "ref"),
    ]
    .into_iter()
    .enumerate()
    {
        let token = ci.issuer.token(claims);
        exchange_refused(&exchange_as(&stranger(&ci, number), TOOL, &token).await, 403, "identity_refused", says);
    }
    assert_eq!(ci.app.stored(), before, "nothing was noted of a job that got nothing");
    token_in(&ci.exchange(TOOL, &ci.issuer.token(job("release.yml", json!({})))).await);
}

#[tokio::test]
async fn a_job_of_a_foreign_repository_cannot_tell_what_is_trusted_or_what_is_here() {
    let ci =
        Ci::with(|settings| settings.access.rules = vec![rule("@hidden/*", &[(Action::Read, &["user:alice"])])]).await;
    let alice = ci.app.user("alice").await;
    let strict = trusting(&json!({ "environment": "production", "ref": "refs/tags/v*" }));
    for name in [TOOL, "@hidden/tool"] {
        alice.publish_versions(name, &["1.0.0"]).await;
        id_in(&trust(&alice, name, &strict).await);
    }
    alice.publish_versions("@acme/untrusting", &["1.0.0"]).await;
    id_in(&trust(&alice, "@acme/of-others", &trusting(&json!({ "repository": "acme/other" }))).await);
    let mut told = Vec::new();
    for package in [TOOL, "@hidden/tool", "@acme/untrusting", "@acme/absent", "@acme/of-others", "absent"] {
        let answer = ci.exchange(package, &ci.issuer.token(release_of("evil/tool"))).await;
        exchange_refused(&answer, 403, "identity_refused", "`evil/tool`");
        told.push(answer.json()["message"].clone());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    // A good identity, for a package that trusts another.
    let good = release(json!({ "environment": "production", "ref": "refs/tags/v1" }));
    let answer = ci.exchange("@acme/of-others", &ci.issuer.token(good)).await;
    exchange_refused(&answer, 403, "identity_refused", "no package of this name trusts the repository `acme/tool`");
}

#[tokio::test]
async fn a_repository_that_was_made_anew_is_another_one() {
    let (ci, alice) = trusting_package(json!({})).await;
    ci.job(TOOL, release(json!({}))).await;
    for claims in [
        json!({ "repository_id": "999" }),
        json!({ "repository_owner_id": "999" }),
        json!({ "repository_id": "999", "repository_owner_id": "999" }),
        json!({ "repository": "ACME/Tool", "repository_id": "999", "workflow_ref": "ACME/Tool/.github/workflows/release.yml@x" }),
    ] {
        let answer = ci.exchange(TOOL, &ci.issuer.token(release(claims))).await;
        exchange_refused(&answer, 403, "identity_refused", "made anew");
    }
    // Under another name it is known by its number, and told so.
    let mut renamed = changed(github_claims("acme/gadget", "release.yml"), json!({}));
    renamed["repository_id"] = release(json!({}))["repository_id"].clone();
    let answer = ci.exchange(TOOL, &ci.issuer.token(renamed.clone())).await;
    exchange_refused(&answer, 403, "identity_refused", "called `acme/gadget` now");
    id_in(&trust(&alice, TOOL, &trusting(&json!({ "repository": "acme/gadget" }))).await);
    token_in(&ci.exchange(TOOL, &ci.issuer.token(renamed)).await);
    // Trusted again, it is the new one that counts.
    let listed = alice.get(&trust_path(TOOL)).await.ok().json();
    alice.delete(&format!("{}/{}", trust_path(TOOL), listed[0]["id"].as_str().unwrap())).await.ok();
    id_in(&trust(&alice, TOOL, &trusting(&json!({}))).await);
    token_in(&ci.exchange(TOOL, &ci.issuer.token(release(json!({ "repository_id": "999" })))).await);
    let old = ci.exchange(TOOL, &ci.issuer.token(release(json!({})))).await;
    exchange_refused(&old, 403, "identity_refused", "made anew");
}

#[tokio::test]
async fn an_identity_token_is_good_once() {
    let (ci, alice) = trusting_package(json!({})).await;
    id_in(&trust(&alice, "@acme/second", &trusting(&json!({}))).await);
    let named = ci.issuer.token(release(json!({ "jti": "one" })));
    let nameless = ci.issuer.token(release(json!({ "jti": null })));
    for token in [&named, &nameless] {
        token_in(&ci.exchange(TOOL, token).await);
        for answer in [ci.exchange(TOOL, token).await, ci.exchange("@acme/second", token).await] {
            exchange_refused(&answer, 401, "identity_invalid", "used before");
        }
    }
    // Another token of the same id.
    let again = ci.issuer.token(release(json!({ "jti": "one", "run_attempt": "2" })));
    exchange_refused(&ci.exchange(TOOL, &again).await, 401, "identity_invalid", "used before");
    // One that was refused is not used up.
    let token = ci.issuer.token(release_of("acme/other"));
    exchange_refused(&ci.exchange(TOOL, &token).await, 403, "identity_refused", "`acme/other`");
    id_in(&trust(&alice, TOOL, &trusting(&json!({ "repository": "acme/other" }))).await);
    token_in(&ci.exchange(TOOL, &token).await);
}

#[tokio::test]
async fn of_two_that_show_a_token_at_the_same_moment_one_wins() {
    let (ci, _) = trusting_package(json!({})).await;
    for round in 0..10 {
        let token = ci.issuer.token(release(json!({})));
        let tries = (0..4).map(|_| {
            let (caller, token) = (stranger(&ci, round), token.clone());
            tokio::spawn(async move { exchange_as(&caller, TOOL, &token).await })
        });
        let mut winners = 0;
        for answer in futures::future::join_all(tries.collect::<Vec<_>>()).await {
            let answer = answer.unwrap();
            if answer.status == 201 {
                winners += 1;
            } else {
                exchange_refused(&answer, 401, "identity_invalid", "used before");
            }
        }
        assert_eq!(winners, 1);
    }
}

#[tokio::test]
async fn an_issuer_that_fails_is_nobodys_fault_here() {
    for mode in [Mode::Down, Mode::Error(500), Mode::Error(404), Mode::BrokenJson, Mode::WrongIssuer, Mode::NoKeys] {
        let (ci, _) = trusting_package(json!({})).await;
        ci.issuer.set_mode(mode);
        let token = ci.issuer.token(release(json!({})));
        for _ in 0..40 {
            // No failure of the job's, so it is not counted as one, and the issuer is left alone for a while.
            let answer = ci.exchange(TOOL, &token).await;
            exchange_refused(&answer, 503, "issuer_unavailable", "does not answer");
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
        let seen = ci.issuer.seen();
        assert!(seen.discovery <= 1 && seen.keys <= 1, "{mode:?}: {seen:?}");
        ci.issuer.set_mode(Mode::Well);
        ci.advance(Duration::from_secs(10));
        token_in(&ci.exchange(TOOL, &token).await);
    }
}

#[tokio::test]
async fn an_issuer_that_is_slow_is_waited_for_and_not_for_ever() {
    let (ci, _) = trusting_package(json!({})).await;
    ci.issuer.set_mode(Mode::Slow(Duration::from_millis(300)));
    ci.job(TOOL, release(json!({}))).await;
    let (ci, _) = trusting_package(json!({})).await;
    ci.issuer.set_mode(Mode::Slow(Duration::from_hours(1)));
    let answer = ci.exchange(TOOL, &ci.issuer.token(release(json!({})))).await;
    exchange_refused(&answer, 503, "issuer_unavailable", "does not answer");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn who_fails_often_waits() {
    let (ci, _) = trusting_package(json!({})).await;
    let guesser = ci.app.anybody().at_peer("127.0.1.1:50000");
    for _ in 0..30 {
        let answer = exchange_as(&guesser, TOOL, &ci.issuer.token(release_of("evil/tool"))).await;
        exchange_refused(&answer, 403, "identity_refused", "`evil/tool`");
    }
    let good = ci.issuer.token(release(json!({})));
    let answer = exchange_as(&guesser, TOOL, &good).await;
    exchange_refused(&answer, 429, "locked", "30 seconds");
    assert_eq!(answer.header("retry-after"), "30");
    // Others do not pay for it, and the token was not used up.
    token_in(&ci.exchange(TOOL, &ci.issuer.token(release(json!({})))).await);
    ci.advance(Duration::from_mins(2));
    token_in(&exchange_as(&guesser, TOOL, &good).await);
}

#[tokio::test]
async fn a_public_server_that_does_not_know_its_name_exchanges_nothing() {
    for proxies in [&[][..], &["127.0.0.0/8"]] {
        let ci = Ci::with(|settings| {
            settings.server.listen = "0.0.0.0:4873".parse().unwrap();
            settings.server.trusted_proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
        })
        .await;
        for host in ["localhost:4873", "npm.example.test", "npm.other.test"] {
            let name = host.split(':').next().unwrap();
            let token = ci.issuer.token(release(json!({ "aud": format!("npm:{name}") })));
            let caller = ci.app.anybody().to_host(host).with("x-forwarded-host", host).with_token(&token);
            for path in [exchange_path(TOOL), TO_READ.to_owned()] {
                let answer = caller.send(Method::POST, &path, &[], Body::empty()).await;
                exchange_refused(&answer, 403, "no_public_url", "`server.public_url`");
            }
        }
        assert_eq!(ci.issuer.seen(), crate::support::issuer::Seen::default());
    }
}

#[tokio::test]
async fn what_a_request_says_of_our_name_is_not_believed() {
    let ci = Ci::with(|settings| {
        settings.server.public_url = Some("https://npm.example.test/".parse().unwrap());
        settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    for (host, forwarded) in [("evil.example.test", "npm.example.test"), ("npm.example.test", "evil.example.test")] {
        let token = ci.issuer.token(release(json!({ "aud": "npm:evil.example.test" })));
        let caller = ci.app.anybody().to_host(host).with("x-forwarded-host", forwarded);
        exchange_refused(&exchange_as(&caller, TOOL, &token).await, 401, "identity_invalid", "another audience");
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_a_package_is_refused() {
    let (ci, _) = trusting_package(json!({})).await;
    for name in ["@acme", ".hidden", "UPPER%20CASE", "@acme%2f..", "a%00b"] {
        let path = format!("{TO_READ}/package/{name}");
        let caller = ci.app.anybody().with_token(&ci.issuer.token(release(json!({}))));
        refused(&caller.send(Method::POST, &path, &[], Body::empty()).await, 400);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_meant_is_refused() {
    let ci = Ci::with(|settings| {
        let known = settings.issuers[0].clone();
        for (name, kind) in [("gitlab", IssuerKind::GitLab), ("buildhost", IssuerKind::Generic)] {
            let url = format!("https://{name}.example.test");
            settings.issuers.push(holdfast::auth::IssuerSettings { name: name.to_owned(), url, kind, ..known.clone() });
        }
    })
    .await;
    let alice = ci.app.user("alice").await;
    alice.publish_versions(TOOL, &["1.0.0"]).await;
    let gitlab = |claims: Value| json!({ "type": "gitlab", "permissions": ["createPackage"], "claims": claims });
    let buildhost = |claims: Value| json!({ "type": "buildhost", "permissions": ["createPackage"], "claims": claims });
    let file = |file: &str| trusting(&json!({ "workflow_ref": { "file": file } }));
    let repository = |name: &str| trusting(&json!({ "repository": name }));
    let mut typeless = trusting(&json!({}));
    typeless.as_object_mut().unwrap().remove("type");
    let of_circle = json!({ "type": "circleci", "permissions": ["createPackage"], "claims": {} });
    let before = ci.app.stored();
    for (configuration, code, says) in [
        (json!("github"), "bad_document", "configuration"),
        (json!(7), "bad_document", "configuration"),
        (typeless, "bad_document", "type"),
        (of_circle, "bad_request", "issuer"),
        (json!({ "type": "GitHub", "permissions": ["createPackage"] }), "bad_request", "issuer"),
        (trusting(&json!({ "repository": null })), "bad_request", "repository"),
        (trusting(&json!({ "repository": 7 })), "bad_document", "expected a string"),
        (repository("tool"), "bad_request", "`owner/name`"),
        (repository(""), "bad_request", "`owner/name`"),
        (repository("acme/*"), "bad_request", "`owner/name`"),
        (repository("acme/"), "bad_request", "`owner/name`"),
        (repository("/tool"), "bad_request", "`owner/name`"),
        (repository("acme/sub/tool"), "bad_request", "`owner/name`"),
        (repository("https://github.com/acme/tool"), "bad_request", "`owner/name`"),
        (repository("acme/tool@main"), "bad_request", "`owner/name`"),
        (repository("acme/a tool"), "bad_request", "`owner/name`"),
        (repository("acme/tool\n"), "bad_request", "control"),
        (repository(&format!("acme/{}", "x".repeat(512))), "bad_request", "too long"),
        (trusting(&json!({ "workflow_ref": null })), "bad_request", "file"),
        (trusting(&json!({ "workflow_ref": "release.yml" })), "bad_document", "configuration"),
        (trusting(&json!({ "workflow_ref": {} })), "bad_document", "file"),
        (file(""), "bad_request", "file"),
        (file(".github/workflows/release.yml"), "bad_request", "folder"),
        (file("../release.yml"), "bad_request", "file"),
        (file("/release.yml"), "bad_request", "file"),
        (trusting(&json!({ "environment": "a\u{7}" })), "bad_request", "control"),
        (trusting(&json!({ "ref": "" })), "bad_request", "ref"),
        (trusting_to(&[]), "bad_request", "`publish`"),
        (trusting_to(&["createStagedPackage"]), "bad_request", "staged"),
        (trusting_to(&["createPackage", "createStagedPackage"]), "bad_request", "staged"),
        (trusting_to(&["unpublish"]), "bad_request", "`unpublish`"),
        (trusting_to(&["publish"]), "bad_request", "`publish`"),
        (trusting_to(&["administer"]), "bad_request", "`administer`"),
        (gitlab(json!({ "project_path": "tool", "ci_config_ref_uri": { "file": "a.yml" } })), "bad_request", "owner"),
        (
            gitlab(json!({ "project_path": "acme//tool", "ci_config_ref_uri": { "file": "a.yml" } })),
            "bad_request",
            "owner",
        ),
        (gitlab(json!({ "project_path": "acme/tool" })), "bad_request", "file"),
        (buildhost(json!({})), "bad_request", "repository"),
        // Such an issuer says nothing of files.
        (buildhost(json!({ "sub": "a", "workflow_ref": { "file": "a.yml" } })), "bad_request", "file"),
    ] {
        let answer = trust(&alice, TOOL, &configuration).await;
        assert_eq!(answer.status, 400, "{configuration}: {}", answer.text());
        let sentence = refused_as(&answer, 400, code);
        assert!(sentence.contains(says), "{configuration}: {sentence}");
    }
    for body in [json!([]), json!([trusting(&json!({})), trusting(&json!({}))]), json!(null)] {
        refused_as(&alice.post(&trust_path(TOOL), &body).await, 400, "bad_document");
    }
    let broken = alice.send(Method::POST, &trust_path(TOOL), &[], "[{").await;
    refused_as(&broken, 400, "bad_document");
    let large = alice.post(&trust_path(TOOL), &json!([repository(&"x".repeat(65 << 10))])).await;
    refused_as(&large, 413, "too_large");
    assert_eq!(ci.app.stored(), before);
}

#[tokio::test]
async fn the_same_workflow_is_trusted_once() {
    let (ci, alice) = trusting_package(json!({ "environment": "production" })).await;
    for again in
        [json!({ "environment": "production" }), json!({ "environment": "production", "repository": "ACME/tool" })]
    {
        refused_as(&trust(&alice, TOOL, &trusting(&again)).await, 409, "trusted_already");
    }
    // With other actions it would be a second word on the same job.
    let mut tagging = trusting(&json!({ "environment": "production" }));
    tagging["permissions"] = json!(["tag"]);
    refused_as(&trust(&alice, TOOL, &tagging).await, 409, "trusted_already");
    let listed = alice.get(&trust_path(TOOL)).await.ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    // Of two at the same moment one wins.
    let tries = (0..4).map(|_| {
        let alice = alice.clone();
        tokio::spawn(async move { trust(&alice, TOOL, &trusting(&json!({}))).await.status.as_u16() })
    });
    let mut statuses: Vec<u16> = Vec::new();
    for status in futures::future::join_all(tries.collect::<Vec<_>>()).await {
        statuses.push(status.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    drop(ci);
}

#[tokio::test]
async fn a_package_trusts_twenty_workflows() {
    let (_ci, alice) = trusting_package(json!({})).await;
    for number in 1..20 {
        id_in(&trust(&alice, TOOL, &trusting(&json!({ "ref": format!("refs/heads/{number}") }))).await);
    }
    let answer = trust(&alice, TOOL, &trusting(&json!({ "ref": "refs/heads/20" }))).await;
    let sentence = refused_as(&answer, 400, "bad_request");
    assert!(sentence.contains("20 workflows"), "{sentence}");
    let listed = alice.get(&trust_path(TOOL)).await.ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 20);
    alice.delete(&format!("{}/{}", trust_path(TOOL), listed[0]["id"].as_str().unwrap())).await.ok();
    id_in(&trust(&alice, TOOL, &trusting(&json!({ "ref": "refs/heads/20" }))).await);
}

#[tokio::test]
async fn who_may_not_administer_a_package_cannot_see_give_or_end_trust() {
    let ci = Ci::with(|settings| {
        settings.access.anonymous_read = Auto::Closed;
        settings.access.rules = vec![rule("@hidden/*", &[(Action::Read, &["user:alice"])])];
    })
    .await;
    let (alice, bob) = (ci.app.user("alice").await, ci.app.user("bob").await);
    let token = |wanted: Value| {
        let (alice, anybody) = (alice.clone(), ci.app.anybody());
        async move {
            anybody.with_token(alice.post("/-/npm/v1/tokens", &wanted).await.ok().json()["token"].as_str().unwrap())
        }
    };
    let read_only = token(json!({ "password": PASSWORD, "readonly": true, "cidr_whitelist": [] })).await;
    let limited = token(json!({ "password": PASSWORD, "name": "ci", "packages": ["@other/*"], "packages_and_scopes_permission": "read-write" })).await;
    let mut ids = Vec::new();
    for name in [TOOL, "@hidden/tool"] {
        alice.publish_versions(name, &["1.0.0"]).await;
        ids.push(id_in(&trust(&alice, name, &trusting(&json!({}))).await));
    }
    let before = ci.app.stored();
    for (who, caller, package, status, code) in [
        ("a stranger", &bob, TOOL, 403, "not_an_owner"),
        ("nobody", &ci.app.anybody(), TOOL, 401, "sign_in_first"),
        ("an unknown token", &ci.app.anybody().with_token("hfst_unknown"), TOOL, 401, "sign_in_first"),
        ("a token that reads", &read_only, TOOL, 403, "read_only_token"),
        ("a token for others", &limited, TOOL, 404, "package_not_found"),
        ("who may not read", &bob, "@hidden/tool", 404, "package_not_found"),
        ("who may not read", &bob, "@hidden/absent", 404, "package_not_found"),
        ("nobody", &ci.app.anybody(), "@hidden/tool", 401, "sign_in_first"),
    ] {
        let path = trust_path(package);
        let id = if package == TOOL { &ids[0] } else { &ids[1] };
        for answer in [
            caller.get(&path).await,
            trust(caller, package, &trusting(&json!({ "repository": "evil/tool" }))).await,
            caller.delete(&format!("{path}/{id}")).await,
        ] {
            assert_eq!(answer.status, status, "{who} and {package}: {}", answer.text());
            let sentence = refused_as(&answer, status, code);
            assert!(!sentence.contains("release.yml"), "{sentence}");
        }
    }
    assert_eq!(ci.app.stored(), before);
    // One's own package by the id of another.
    refused_as(&alice.delete(&format!("{}/{}", trust_path(TOOL), ids[1])).await, 404, "no_trust");
    assert_eq!(ci.app.stored(), before);
}

#[tokio::test]
async fn trust_makes_no_name_ours_that_may_not_be() {
    let ci =
        Ci::with(|settings| settings.access.rules = vec![rule("@closed/*", &[(Action::Create, &["user:root"])])]).await;
    let alice = ci.app.user("alice").await;
    refused_as(&trust(&alice, "@closed/tool", &trusting(&json!({}))).await, 403, "not_allowed");
    refused_as(&trust(&alice, "Upper-Case", &trusting(&json!({}))).await, 400, "bad_name");
    assert!(!ci.app.stored().keys().any(|path| path.starts_with("-/trust/")));
}
