//! Signing in and out, and how a request says who it is from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast::auth::Registration;
use holdfast::settings::{Auto, RegistrationSetting};
use reqwest::Method;
use serde_json::json;

use crate::support::app::{PASSWORD, TestApp, refused, sign_in_document};
use crate::support::tarballs::Tarball;

#[tokio::test]
async fn a_new_name_makes_an_account_and_a_known_one_signs_in() {
    let app = TestApp::new();
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let answer = app.anybody().sign_in("alice", PASSWORD).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let body = answer.json();
        assert_eq!((&body["ok"], &body["id"]), (&json!(true), &json!("org.couchdb.user:alice")));
        tokens.push(body["token"].as_str().unwrap().to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
    for token in &tokens {
        let whoami = app.anybody().with_token(token).get("/-/whoami").await.ok().json();
        assert_eq!(whoami, json!({ "username": "alice" }));
    }
    // npm's and berry's second try, after a 409 that we never send.
    let document = sign_in_document("alice", PASSWORD);
    app.anybody().put("/-/user/org.couchdb.user:alice/-rev/1-0", &document).await.ok();
    // pnpm's body has no roles and no date.
    let short = json!({ "name": "alice", "password": PASSWORD, "type": "user" });
    app.anybody().put("/-/user/org.couchdb.user:alice", &short).await.ok();
}

#[tokio::test]
async fn a_wrong_password_is_told_in_words() {
    let app = TestApp::new();
    app.user("alice").await;
    for password in ["wrong", "correct horse battery ", "CORRECT HORSE BATTERY"] {
        let answer = app.anybody().sign_in("alice", password).await;
        let sentence = refused(&answer, 401);
        assert!(sentence.contains("password"), "{sentence}");
        // npm would show its own advice in place of the sentence.
        assert_eq!(answer.header("www-authenticate"), "");
        assert!(!answer.text().contains("token\""));
    }
}

#[tokio::test]
async fn a_closed_registration_takes_known_names_only() {
    let app = TestApp::with(|settings| {
        settings.access.registration = RegistrationSetting::Set(Registration::Closed);
    });
    // As a wrong password: nobody learns by it who has an account.
    refused(&app.anybody().sign_in("alice", PASSWORD).await, 401);
    // Away from loopback it is closed by itself.
    let app = TestApp::with(|settings| {
        settings.server.listen = "0.0.0.0:4873".parse().unwrap();
        settings.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        (settings.access.anonymous_read, settings.access.registration) = (Auto::Auto, RegistrationSetting::Auto);
    });
    refused(&app.anybody().sign_in("alice", PASSWORD).await, 401);
    refused(&app.anybody().get("/tool").await, 401);
}

#[tokio::test]
async fn what_is_no_sign_in_is_refused() {
    let app = TestApp::new();
    let long = "x".repeat(1025);
    for (user, body, status) in [
        ("alice", json!({}), 400),
        ("alice", json!([]), 400),
        ("alice", json!({ "name": "alice" }), 400),
        ("alice", json!({ "name": "alice", "password": 7 }), 400),
        ("alice", json!({ "name": "alice", "password": "" }), 400),
        ("alice", json!({ "name": "alice", "password": long }), 400),
        ("alice", json!({ "name": "bob", "password": PASSWORD }), 400),
        (".alice", json!({ "name": ".alice", "password": PASSWORD }), 400),
        ("a%2fb", json!({ "name": "a/b", "password": PASSWORD }), 400),
        ("a%20b", json!({ "name": "a b", "password": PASSWORD }), 400),
        ("a:b", json!({ "name": "a:b", "password": PASSWORD }), 400),
        ("..%2f..", json!({ "name": "../..", "password": PASSWORD }), 400),
        ("a%00", json!({ "name": "a\u{0}", "password": PASSWORD }), 400),
    ] {
        let answer = app.anybody().put(&format!("/-/user/org.couchdb.user:{user}"), &body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text());
        refused(&answer, status);
    }
    let mut large = sign_in_document("alice", PASSWORD);
    large["more"] = json!("x".repeat(64 * 1024));
    refused(&app.anybody().put("/-/user/org.couchdb.user:alice", &large).await, 413);
    refused(&app.anybody().get("/-/user/org.couchdb.user:alice").await, 404);
}

#[tokio::test]
async fn names_with_odd_letters_stay_valid_json() {
    let app = TestApp::new();
    for (name, path) in [("o'brien", "o'brien"), ("a\"b", "a%22b"), ("émile", "%C3%A9mile"), ("a@b.test", "a%40b.test")]
    {
        let document = sign_in_document(name, PASSWORD);
        let answer = app.anybody().put(&format!("/-/user/org.couchdb.user:{path}"), &document).await.ok();
        let caller = app.anybody().with_token(answer.json()["token"].as_str().unwrap());
        assert_eq!(caller.get("/-/whoami").await.ok().json()["username"], name);
        let user = app.anybody().get(&format!("/-/user/org.couchdb.user:{path}")).await.ok().json();
        assert_eq!(user["name"], name);
    }
}

#[tokio::test]
async fn a_stale_token_is_no_obstacle_to_signing_in() {
    let app = TestApp::new();
    app.user("alice").await;
    for stale in ["Bearer npm_stale", "Basic bm9ib2R5Ondyb25n", "Bearer", "nonsense"] {
        let answer = app.anybody().with("authorization", stale).sign_in("alice", PASSWORD).await;
        assert_eq!(answer.status, 201, "{stale}: {}", answer.text());
    }
}

#[tokio::test]
async fn signing_out_ends_the_token_at_once() {
    let app = TestApp::new();
    let (alice, again) = (app.user("alice").await, app.user("alice").await);
    alice.get("/-/whoami").await.ok();
    let answer = alice.delete(&format!("/-/user/token/{}", alice.token())).await.ok();
    assert_eq!(answer.json()["ok"], true);
    refused(&alice.get("/-/whoami").await, 401);
    refused(&alice.publish(&Tarball::new("tool", "1.0.0")).await, 401);
    refused(&alice.delete(&format!("/-/user/token/{}", alice.token())).await, 404);
    again.get("/-/whoami").await.ok();
    for token in ["npm_unknown", "x", "%00", "..%2f..%2fusers"] {
        let status = if token == "%00" { 400 } else { 404 };
        refused(&again.delete(&format!("/-/user/token/{token}")).await, status);
    }
}

#[tokio::test]
async fn a_password_travels_on_private_lines_only() {
    let app = TestApp::with(|settings| settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]);
    app.user("alice").await;
    let basic = format!("Basic {}", STANDARD.encode(format!("alice:{PASSWORD}")));
    for (peer, scheme, is_private) in [
        ("127.0.0.1:1", "", true),
        ("[::1]:1", "", true),
        // Somebody passed this on who was not declared.
        ("127.0.0.1:1", "https", false),
        ("[::1]:1", "http", false),
        ("[::ffff:127.0.0.1]:1", "", true),
        ("10.1.2.3:1", "https", true),
        ("10.1.2.3:1", "", true),
        ("[::ffff:10.1.2.3]:1", "https", true),
        // The proxy itself says that the way to it was not encrypted.
        ("10.1.2.3:1", "http", false),
        ("10.1.2.3:1", "https, http", false),
        // The header of a stranger proves nothing.
        ("192.168.1.1:1", "https", false),
        ("192.168.1.1:1", "", false),
        ("[2001:db8::1]:1", "https", false),
    ] {
        let caller = app.anybody().at_peer(peer);
        let caller = if scheme.is_empty() { caller } else { caller.with("x-forwarded-proto", scheme) };
        let answers =
            [caller.sign_in("alice", PASSWORD).await, caller.with("authorization", &basic).get("/-/whoami").await];
        for answer in answers {
            if is_private {
                answer.ok();
            } else {
                let sentence = refused(&answer, 403);
                assert!(sentence.contains("https"), "{sentence}");
            }
        }
    }
}

#[tokio::test]
async fn basic_credentials_are_a_name_and_a_password() {
    let app = TestApp::new();
    app.user("alice").await;
    let whoami = |value: String| {
        let caller = app.anybody().with("authorization", &value);
        async move { caller.get("/-/whoami").await }
    };
    let encode = |text: &str| STANDARD.encode(text);
    for scheme in ["Basic", "basic"] {
        let answer = whoami(format!("{scheme} {}", encode(&format!("alice:{PASSWORD}")))).await.ok();
        assert_eq!(answer.json()["username"], "alice");
    }
    for (value, status) in [
        (format!("Basic {}", encode("alice:wrong")), 401),
        (format!("Basic {}", encode("nobody:wrong")), 401),
        (format!("Basic {}", encode("alice")), 400),
        ("Basic !!!".to_owned(), 400),
        ("Bearer".to_owned(), 400),
        ("Digest x".to_owned(), 401),
    ] {
        let answer = whoami(value.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{value}: {}", answer.text());
        refused(&answer, status);
    }
}

#[tokio::test]
async fn two_authorizations_are_refused() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    let both = alice.with("authorization", "Bearer npm_other");
    let same = alice.with_token(alice.token());
    for caller in [both, same] {
        for path in ["/tool", "/-/whoami", "/tool/-/tool-1.0.0.tgz", "/-/v1/search?text=tool"] {
            refused(&caller.get(path).await, 400);
        }
        refused(&caller.publish(&Tarball::new("tool", "1.1.0")).await, 400);
    }
}

#[tokio::test]
async fn an_unknown_token_still_reads_what_is_public() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    for token in ["npm_unknown", "", "x", "00000000-0000-0000-0000-000000000000"] {
        let caller = app.anybody().with("authorization", &format!("Bearer {token}"));
        for path in ["/tool", "/tool/1.0.0", "/tool/-/tool-1.0.0.tgz", "/-/ping", "/-/v1/search?text=tool"] {
            caller.get(path).await.ok();
        }
        for path in ["/-/whoami", "/-/npm/v1/user"] {
            let answer = caller.get(path).await;
            refused(&answer, 401);
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
}

#[tokio::test]
async fn a_closed_registry_asks_who_reads() {
    let app = TestApp::closed();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    let read = alice.get("/tool").await.ok();
    assert_eq!(read.header("cache-control"), "private, no-cache");
    assert_eq!(read.header("vary"), "Accept, Accept-Encoding, Authorization");
    for caller in [app.anybody(), app.anybody().with_token("npm_unknown")] {
        for path in ["/tool", "/nothing", "/tool/1.0.0", "/tool/-/tool-1.0.0.tgz", "/-/v1/search?text=tool", "/-/all"] {
            let answer = caller.get(path).await;
            refused(&answer, 401);
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{path}");
        }
        // An ETag that somebody overheard opens nothing.
        refused(&caller.get_with("/tool", &[("if-none-match", read.header("etag"))]).await, 401);
        caller.get("/-/ping").await.ok();
    }
    let answer = app.anybody().send(Method::HEAD, "/tool", &[], "").await;
    assert_eq!(answer.status, 401);
}
