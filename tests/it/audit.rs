//! `/-/npm/v1/security/…`: what is passed on, and what never leaves.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::http::Answer;
use crate::support::tarballs;
use crate::support::upstream::{Fault, Upstream};

const BULK: &str = "/-/npm/v1/security/advisories/bulk";
const QUICK: &str = "/-/npm/v1/security/audits/quick";
const FULL: &str = "/-/npm/v1/security/audits";

fn advisory() -> Value {
    json!([{ "id": 7, "title": "left leaks", "severity": "high", "vulnerable_versions": "<2", "url": "https://example.test/7" }])
}

/// A registry with a claimed package, a hosted one, and one of the upstream that has an advisory.
async fn fixture() -> (Upstream, TestApp) {
    let upstream = Upstream::with_fixtures();
    upstream.advise("left", advisory());
    upstream.advise("@acme/secret", json!([{ "id": 8, "title": "of another @acme" }]));
    let app = TestApp::before(&upstream, &["@acme/*"]);
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/secret", &["1.0.0"]).await;
    alice.publish_versions("hosted-here", &["1.0.0"]).await;
    upstream.forget();
    (upstream, app)
}

async fn post_gzip(caller: &Caller, path: &str, body: &Value) -> Answer {
    let body = tarballs::gzip(body.to_string().as_bytes());
    let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
    caller.send(Method::POST, path, &headers, body).await
}

/// The bodies that the upstream got, as text.
fn sent(upstream: &Upstream) -> Vec<String> {
    let bodies = upstream.seen().into_iter().filter(|seen| seen.path.contains("/security/"));
    bodies.map(|seen| String::from_utf8(seen.body).unwrap()).collect()
}

#[tokio::test]
async fn the_bulk_form_is_passed_on_without_our_names() {
    let (upstream, app) = fixture().await;
    let asked = json!({
        "left": ["1.0.0", "1.2.0"], "leaf": ["1.0.0"], "hosted-here": ["1.0.0"], "@acme/secret": ["1.0.0"],
        "@acme/not-there-yet": ["1.0.0"], "../x": ["1"], "NOT A NAME": ["1"],
    });
    let expected = json!({ "left": advisory() });
    let answers = [app.anybody().post(BULK, &asked).await, post_gzip(&app.anybody(), BULK, &asked).await];
    for answer in answers {
        assert_eq!(answer.ok().json(), expected);
    }
    let bodies = sent(&upstream);
    assert_eq!(bodies.len(), 2);
    for body in bodies {
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({ "left": ["1.0.0", "1.2.0"], "leaf": ["1.0.0"] }));
    }
    for seen in upstream.seen() {
        assert!(!seen.path.contains("acme") && !seen.path.contains("hosted-here"), "{}", seen.path);
        assert!(seen.headers.get("authorization").is_none());
    }
}

#[tokio::test]
async fn nothing_to_ask_is_not_asked() {
    let (upstream, app) = fixture().await;
    for asked in [json!({}), json!({ "@acme/secret": ["1.0.0"], "hosted-here": ["1.0.0"] })] {
        assert_eq!(app.anybody().post(BULK, &asked).await.ok().json(), json!({}));
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn the_old_forms_are_passed_on_without_our_names() {
    let (upstream, app) = fixture().await;
    let tree = json!({
        "name": "@acme/project", "version": "1.0.0",
        "requires": { "left": "^1.0.0", "@acme/secret": "^1.0.0" },
        "install": ["@acme/secret@1.0.0"], "remove": ["hosted-here@1.0.0"],
        "metadata": { "npm_version": "6.14.18", "node_version": "v14.0.0", "platform": "linux" },
        "dependencies": {
            "left": { "version": "1.0.0", "requires": { "hosted-here": "1" }, "dependencies": { "@acme/deep": { "version": "1.0.0" } } },
            "@acme/secret": { "version": "1.0.0", "dependencies": { "leaf": { "version": "1.0.0" } } },
            "hosted-here": { "version": "1.0.0" },
        },
    });
    for path in [QUICK, FULL] {
        upstream.forget();
        for answer in [app.anybody().post(path, &tree).await, post_gzip(&app.anybody(), path, &tree).await] {
            assert!(answer.ok().json()["metadata"]["vulnerabilities"].is_object());
        }
        let bodies = sent(&upstream);
        assert_eq!(bodies.len(), 2, "{path}");
        for body in bodies {
            assert!(body.contains("\"left\"") && !body.contains("acme") && !body.contains("hosted-here"), "{body}");
        }
    }
}

#[tokio::test]
async fn no_report_is_a_failure_and_never_a_clean_one() {
    let (mut upstream, app) = fixture().await;
    let (asked, tree) = (json!({ "left": ["1.0.0"] }), json!({ "requires": { "left": "1" } }));
    for fault in [Fault::Status(500), Fault::Status(404), Fault::Status(401)] {
        upstream.set(fault);
        for (path, body) in [(BULK, &asked), (QUICK, &tree), (FULL, &tree)] {
            refused(&app.anybody().post(path, body).await, 502);
        }
    }
    upstream.stop();
    refused(&app.anybody().post(BULK, &asked).await, 502);
    // What needs no upstream is answered still.
    assert_eq!(app.anybody().post(BULK, &json!({ "@acme/secret": ["1"] })).await.ok().json(), json!({}));
}

#[tokio::test]
async fn without_an_upstream_nothing_is_known() {
    let app = TestApp::new();
    let asked = json!({ "left": ["1.0.0"] });
    assert_eq!(app.anybody().post(BULK, &asked).await.ok().json(), json!({}));
    assert_eq!(post_gzip(&app.anybody(), BULK, &asked).await.ok().json(), json!({}));
    for path in [QUICK, FULL] {
        let report = app.anybody().post(path, &json!({ "requires": {} })).await.ok().json();
        assert_eq!(report["advisories"], json!({}));
        assert_eq!(report["metadata"]["vulnerabilities"]["high"], 0);
    }
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let (upstream, app) = fixture().await;
    let zeros = tarballs::gzip(&vec![b' '; 17 << 20]);
    let deep = format!("{{\"dependencies\":{}1{}}}", "{\"a\":{\"dependencies\":".repeat(5_000), "}}".repeat(5_000));
    for (path, headers, body, status) in [
        (BULK, vec![], b"not JSON".to_vec(), 400),
        (BULK, vec![], b"[]".to_vec(), 400),
        (BULK, vec![("content-encoding", "gzip")], b"{}".to_vec(), 400),
        (BULK, vec![("content-encoding", "br")], b"{}".to_vec(), 400),
        (BULK, vec![("content-encoding", "gzip")], zeros, 413),
        (BULK, vec![], vec![b' '; 17 << 20], 413),
        (QUICK, vec![], b"7".to_vec(), 400),
        (QUICK, vec![], deep.into_bytes(), 400),
    ] {
        let size = body.len();
        let answer = app.anybody().send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {headers:?} {size} bytes: {}", answer.text());
        refused(&answer, status);
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn ten_thousand_packages_are_one_question() {
    let (upstream, app) = fixture().await;
    let asked: serde_json::Map<String, Value> =
        (0..10_000).map(|number| (format!("package-{number}"), json!(["1.0.0", "2.0.0"]))).collect();
    assert_eq!(post_gzip(&app.anybody(), BULK, &Value::Object(asked)).await.ok().json(), json!({}));
    assert_eq!(sent(&upstream).len(), 1);
}
