//! `GET /{package}` and `GET /{package}/{version, tag or range}`.

use std::io::Read as _;
use std::time::Duration;

use axum::body::Body;
use holdfast::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{START, TestApp, refused};
use crate::support::http::{INSTALL_ACCEPT, publish_document};
use crate::support::tarballs::{self, Tarball};

const FULL: &str = "application/json";
const SHORT: &str = "application/vnd.npm.install-v1+json";

/// A scoped package with two versions, the second one a minute and a bit younger.
async fn published() -> TestApp {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let first = Tarball::new("@acme/tool", "1.0.0").file("README.md", "# The tool\n");
    alice.publish(&first).await.ok();
    app.clock.advance(Duration::from_millis(61_125));
    let second = Tarball::new("@acme/tool", "1.1.0")
        .file("README.md", "# The tool, again\n")
        .set("scripts", json!({ "postinstall": "node index.js" }))
        .set("libc", json!(["glibc"]))
        .set("funding", json!("https://example.test/"));
    let mut document = publish_document(&second, "latest");
    document["versions"]["1.1.0"]["readme"] = json!("# The tool, again\n");
    alice.put("/@acme%2ftool", &document).await.ok();
    app
}

#[tokio::test]
async fn the_form_follows_the_accept_header() {
    let app = published().await;
    for (accept, content_type) in [
        (INSTALL_ACCEPT, SHORT),
        (SHORT, SHORT),
        ("application/json", FULL),
        ("*/*", FULL),
        ("application/json; q=1.0, */*", FULL),
        ("application/vnd.npm.install-v1+json; q=0.5, application/json", FULL),
        ("application/vnd.npm.install-v1+json;q=0.9, application/json;q=0.9", SHORT),
        ("application/vnd.npm.install-v1+json;q=0", FULL),
        ("text/html", FULL),
    ] {
        let answer = app.anybody().get_with("/@acme%2ftool", &[("accept", accept)]).await.ok();
        assert_eq!(answer.header("content-type"), content_type, "{accept}");
        let is_full = content_type == FULL;
        assert_eq!(answer.json().get("_rev").is_some(), is_full, "{accept}");
        assert_eq!(answer.json()["versions"]["1.1.0"].get("scripts").is_some(), is_full, "{accept}");
    }
    assert_eq!(app.anybody().get("/@acme%2ftool").await.ok().header("content-type"), FULL);
}

#[tokio::test]
async fn the_full_form_has_all_that_npm_shows_and_nothing_of_ours() {
    let app = published().await;
    let answer = app.anybody().get("/@acme%2ftool").await.ok();
    assert!(!answer.text().contains("_holdfast"));
    assert!(!answer.text().contains("_attachments"));
    assert_eq!(answer.text().matches("The tool, again").count(), 1, "a readme stands once");
    let document = answer.json();
    assert_eq!(document["_id"], "@acme/tool");
    assert_eq!(document["readme"], "# The tool, again\n");
    assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0" }));
    assert_eq!(document["maintainers"], json!([{ "name": "alice", "email": "alice@example.test" }]));
    assert_eq!(document["license"], "MIT");
    assert_eq!(
        document["time"],
        json!({
            "created": START, "1.0.0": START,
            "1.1.0": "2026-11-23T12:01:01.875Z", "modified": "2026-11-23T12:01:01.875Z",
        })
    );
    let version = &document["versions"]["1.1.0"];
    assert_eq!(version["_id"], "@acme/tool@1.1.0");
    assert_eq!(version["_npmUser"]["name"], "alice");
    let bytes = app.anybody().get("/@acme/tool/-/tool-1.1.0.tgz").await.ok().body;
    let dist = &version["dist"];
    assert_eq!(dist["integrity"], tarballs::integrity(&bytes));
    assert_eq!(dist["shasum"], tarballs::shasum(&bytes));
    assert_eq!(dist["fileCount"], 3);
    assert!(dist["unpackedSize"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn the_short_form_has_what_installers_read_and_the_times() {
    let app = published().await;
    let document = app.anybody().get_abbreviated("/@acme%2ftool").await.ok().json();
    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    for member in ["readme", "_rev", "_id", "_holdfast", "maintainers", "description"] {
        assert!(document.get(member).is_none(), "{member} in {members:?}");
    }
    assert_eq!(document["modified"], "2026-11-23T12:01:01.875Z");
    assert_eq!(document["time"]["1.0.0"], START);
    assert_eq!(document["time"]["1.1.0"], "2026-11-23T12:01:01.875Z");
    let (old, new) = (&document["versions"]["1.0.0"], &document["versions"]["1.1.0"]);
    assert_eq!(new["hasInstallScript"], true);
    assert!(old.get("hasInstallScript").is_none());
    assert_eq!(old["_hasShrinkwrap"], false);
    assert_eq!(new["libc"], json!(["glibc"]));
    assert_eq!(new["funding"], "https://example.test/");
    assert!(new["dist"]["integrity"].is_string() && new["dist"]["shasum"].is_string());
    assert!(new.get("scripts").is_none() && new.get("_npmUser").is_none());
}

#[tokio::test]
async fn validators_differ_by_form_and_not_by_coding() {
    let app = published().await;
    let mut etags = Vec::new();
    for accept in [FULL, INSTALL_ACCEPT] {
        let plain = app.anybody().get_with("/@acme%2ftool", &[("accept", accept)]).await.ok();
        assert_eq!(plain.header("content-encoding"), "");
        assert_eq!(plain.header("vary"), "Accept, Accept-Encoding");
        assert_eq!(plain.header("last-modified"), "Mon, 23 Nov 2026 12:01:01 GMT");
        assert_eq!(plain.header("cache-control"), "public, no-cache");
        for coding in ["gzip", "br", "zstd"] {
            let headers = [("accept", accept), ("accept-encoding", coding)];
            let coded = app.anybody().get_with("/@acme%2ftool", &headers).await.ok();
            assert_eq!(coded.header("content-encoding"), coding);
            assert_eq!(coded.header("etag"), plain.header("etag"));
            assert_eq!(coded.header("content-type"), plain.header("content-type"));
            assert_eq!(decoded(coding, &coded.body), plain.body, "{coding}");
        }
        etags.push(plain.header("etag").to_owned());
    }
    assert!(etags.iter().all(|etag| etag.len() > 10 && etag.starts_with('"') && etag.ends_with('"')));
    assert_ne!(etags[0], etags[1]);
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap(),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain).unwrap(),
        "zstd" => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut plain).unwrap(),
        other => panic!("{other}"),
    };
    plain
}

#[tokio::test]
async fn who_has_the_document_is_told_so_and_sent_nothing() {
    let app = published().await;
    for accept in [FULL, INSTALL_ACCEPT] {
        let first = app.anybody().get_with("/@acme%2ftool", &[("accept", accept)]).await.ok();
        let etag = first.header("etag").to_owned();
        let weak = format!("W/{etag}");
        let listed = format!("\"other\", {etag}");
        let modified = first.header("last-modified").to_owned();
        let table: [(&[(&str, &str)], u16); 8] = [
            (&[("if-none-match", &etag)], 304),
            (&[("if-none-match", &weak)], 304),
            (&[("if-none-match", &listed)], 304),
            (&[("if-none-match", "\"other\"")], 200),
            (&[("if-modified-since", &modified)], 304),
            (&[("if-modified-since", "Mon, 23 Nov 2026 12:01:00 GMT")], 200),
            (&[("if-modified-since", "nonsense")], 200),
            // The ETag decides where both are sent.
            (&[("if-none-match", "\"other\""), ("if-modified-since", &modified)], 200),
        ];
        for (conditions, status) in table {
            let headers: Vec<_> = conditions.iter().copied().chain([("accept", accept)]).collect();
            for method in [Method::GET, Method::HEAD] {
                let answer = app.anybody().send(method, "/@acme%2ftool", &headers, Body::empty()).await;
                assert_eq!(answer.status.as_u16(), status, "{headers:?}");
                for header in ["etag", "vary", "cache-control", "last-modified"] {
                    assert_eq!(answer.header(header), first.header(header), "{header}, {headers:?}");
                }
                if status == 304 {
                    assert!(answer.body.is_empty());
                    assert_eq!(answer.header("content-encoding"), "");
                }
            }
        }
    }
    // The short form's ETag must not stop pnpm from getting the full one.
    let short = app.anybody().get_abbreviated("/@acme%2ftool").await.ok();
    let headers = [("accept", FULL), ("if-none-match", short.header("etag"))];
    assert_eq!(app.anybody().get_with("/@acme%2ftool", &headers).await.status, 200);
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body() {
    let app = published().await;
    for (path, accept) in [("/@acme%2ftool", FULL), ("/@acme%2ftool", SHORT), ("/@acme/tool/1.0.0", FULL)] {
        let get = app.anybody().get_with(path, &[("accept", accept)]).await.ok();
        let head = app.anybody().send(Method::HEAD, path, &[("accept", accept)], Body::empty()).await;
        assert_eq!(head.status, get.status);
        assert!(head.body.is_empty());
        for header in ["content-type", "etag", "last-modified", "vary", "cache-control"] {
            assert_eq!(head.header(header), get.header(header), "{header} of {path}");
        }
        assert_eq!(head.header("content-length"), get.body.len().to_string());
    }
}

#[tokio::test]
async fn every_spelling_of_a_scoped_name_reads_and_writes() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let spellings =
        ["/@acme%2ftool", "/@acme%2Ftool", "/@acme/tool", "/%40acme%2Ftool", "/%40acme%2ftool", "/%40acme/tool"];
    for (number, path) in spellings.iter().enumerate() {
        let tarball = Tarball::new("@acme/tool", &format!("1.{number}.0"));
        assert_eq!(alice.put(path, &publish_document(&tarball, "latest")).await.ok().status, 201);
    }
    let expected = app.anybody().get(spellings[0]).await.ok();
    assert_eq!(expected.json()["versions"].as_object().unwrap().len(), spellings.len());
    for path in spellings {
        let answer = app.anybody().get(path).await.ok();
        assert_eq!(answer.body, expected.body, "{path}");
        assert_eq!(answer.header("etag"), expected.header("etag"), "{path}");
        let version = app.anybody().get(&format!("{path}/1.0.0")).await.ok();
        assert_eq!(version.json()["_id"], "@acme/tool@1.0.0", "{path}");
        let tags = app.anybody().get(&format!("/-/package{path}/dist-tags")).await.ok();
        assert_eq!(tags.json()["latest"], "1.5.0", "{path}");
        for query in ["?write=true", "?x=%2f..%00&y"] {
            assert_eq!(app.anybody().get(&format!("{path}{query}")).await.ok().body, expected.body);
        }
    }
    // Decoded once, never twice.
    for path in ["/@acme%252ftool", "/%2540acme%252ftool"] {
        refused(&app.anybody().get(path).await, 400);
    }
}

/// Where tarball URLs point for a request.
async fn tarball_url(caller: &crate::support::app::Caller, path: &str) -> String {
    let full = caller.get(path).await.ok().json();
    let short = caller.get_abbreviated(path).await.ok().json();
    let url = |document: &Value| document["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap().to_owned();
    assert_eq!(url(&full), url(&short));
    url(&full)
}

#[tokio::test]
async fn tarball_urls_follow_the_address_that_the_client_used() {
    let app = TestApp::with(|settings| settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]);
    app.user("alice").await.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let forwarded =
        [("x-forwarded-proto", "https"), ("x-forwarded-host", "npm.example.test"), ("x-forwarded-prefix", "/npm")];
    let with_forwarded = |caller: crate::support::app::Caller| {
        forwarded.iter().fold(caller, |caller, (name, value)| caller.with(name, value))
    };
    let anybody = app.anybody();
    for (caller, path, expected) in [
        (anybody.clone(), "/@acme%2ftool", "http://localhost:4873"),
        (anybody.to_host("[::1]:4873"), "/@acme%2ftool", "http://[::1]:4873"),
        (anybody.to_host("other.test"), "/@acme%2ftool", "http://other.test"),
        // Nobody may put a text of their own into what others read.
        (anybody.to_host("evil/\"x"), "/@acme%2ftool", "http://localhost"),
        (with_forwarded(anybody.at_peer("203.0.113.7:1")), "/@acme%2ftool", "http://localhost:4873"),
        (with_forwarded(anybody.clone()), "/@acme%2ftool", "http://localhost:4873"),
        (with_forwarded(anybody.at_peer("10.1.2.3:1")), "/@acme%2ftool", "https://npm.example.test/npm"),
        (with_forwarded(anybody.at_peer("10.1.2.3:1")), "/npm/@acme%2ftool", "https://npm.example.test/npm"),
        (
            with_forwarded(anybody.at_peer("10.1.2.3:1")).with("x-forwarded-prefix", "//evil.test"),
            "/@acme%2ftool",
            "https://npm.example.test",
        ),
    ] {
        assert_eq!(tarball_url(&caller, path).await, format!("{expected}/@acme/tool/-/tool-1.0.0.tgz"));
    }
    // A cache that is asked under two addresses must not mix them up.
    let etag = |answer: crate::support::http::Answer| answer.header("etag").to_owned();
    let (a, b) = (anybody.get("/@acme%2ftool").await, anybody.to_host("other.test").get("/@acme%2ftool").await);
    assert_ne!(etag(a), etag(b));
}

#[tokio::test]
async fn a_fixed_public_url_is_served_with_and_without_its_prefix() {
    let fixed =
        |url: &'static str| move |settings: &mut Settings| settings.server.public_url = Some(url.parse().unwrap());
    for url in ["https://npm.example.test/team/npm/", "https://npm.example.test/team/npm"] {
        let app = TestApp::with(fixed(url));
        let alice = app.user("alice").await;
        let tarball = Tarball::new("@acme/tool", "1.0.0");
        alice.put("/team/npm/@acme%2ftool", &publish_document(&tarball, "latest")).await.ok();
        for prefix in ["", "/team/npm"] {
            let found = tarball_url(&app.anybody().to_host("evil.test"), &format!("{prefix}/@acme%2ftool")).await;
            assert_eq!(found, "https://npm.example.test/team/npm/@acme/tool/-/tool-1.0.0.tgz");
            let file = app.anybody().get(&format!("{prefix}/@acme/tool/-/tool-1.0.0.tgz")).await.ok();
            assert_eq!(file.body, tarball.bytes());
            app.anybody().get(&format!("{prefix}/-/ping")).await.ok();
            app.anybody().get(&format!("{prefix}/")).await.ok();
        }
        refused(&app.anybody().get("/team/npmx/@acme%2ftool").await, 404);
    }
}

#[tokio::test]
async fn a_version_is_found_by_number_tag_and_range() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0", "1.1.0"]).await;
    alice.publish_tagged(&Tarball::new("tool", "1.2.0"), "next").await.ok();
    alice.publish_tagged(&Tarball::new("tool", "2.0.0-rc.1"), "rc").await.ok();
    for (wanted, expected) in [
        ("1.0.0", "1.0.0"),
        ("v1.0.0", "1.0.0"),
        ("1.0.0+build.7", "1.0.0"),
        ("1.0.0%2Bbuild.7", "1.0.0"),
        ("latest", "1.1.0"),
        ("next", "1.2.0"),
        ("rc", "2.0.0-rc.1"),
        ("^1.0.0", "1.1.0"),
        ("%5E1.0.0", "1.1.0"),
        ("~1.0.0", "1.0.0"),
        ("%3E1.1.0", "1.2.0"),
        ("*", "1.1.0"),
    ] {
        let answer = app.anybody().get(&format!("/tool/{wanted}")).await.ok();
        let version = answer.json();
        assert_eq!(version["version"], expected, "{wanted}");
        assert_eq!(version["dist"]["tarball"], format!("http://localhost:4873/tool/-/tool-{expected}.tgz"));
        assert_eq!(version["_id"], format!("tool@{expected}"));
        assert!(version.get("readme").is_none());
    }
    for wanted in ["3.0.0", "^3.0.0", "nightly", "not%20a%20range", "..."] {
        refused(&app.anybody().get(&format!("/tool/{wanted}")).await, 404);
    }
    refused(&app.anybody().get("/nothing/1.0.0").await, 404);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_and_what_cannot_be_a_400() {
    let app = published().await;
    for (path, status) in [
        ("/nothing", 404),
        ("/@acme%2fnothing", 404),
        ("/-/unknown", 404),
        ("/-/unknown/deeper", 404),
        ("/-/npm/v1/unknown", 404),
        ("/-", 404),
        ("/-/", 404),
        ("/a/b/c/d/e/f", 404),
        ("/.hidden", 400),
        ("/_private", 400),
        ("/%2e%2e", 400),
        ("/%2e%2e%2fetc%2fpasswd", 400),
        ("/..%2f..%2fetc", 400),
        ("/a%5cb", 400),
        ("/a%00b", 400),
        ("/a%ffb", 400),
        ("/a%2fb", 400),
        ("/@acme", 400),
        ("/@acme%2f", 400),
        ("/@acme%2f..%2ftool", 400),
        ("/@acme%2ftool%2fmore", 400),
    ] {
        let answer = app.anybody().get(path).await;
        assert!(!answer.text().contains('\u{0}'));
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
        refused(&answer, status);
    }
    refused(&app.anybody().get(&format!("/{}", "a".repeat(215))).await, 400);
    refused(&app.anybody().get(&format!("/{}", "a".repeat(5000))).await, 400);
    refused(&app.anybody().get(&format!("/{}", "a".repeat(214))).await, 404);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let app = published().await;
    for (method, path, allowed) in [
        (Method::POST, "/@acme%2ftool", "GET"),
        (Method::DELETE, "/@acme%2ftool", "PUT"),
        (Method::PUT, "/-/ping", "GET"),
        (Method::GET, "/-/npm/v1/security/advisories/bulk", "POST"),
        (Method::POST, "/@acme%2ftool/-/tool-1.0.0.tgz", "GET"),
        (Method::PATCH, "/-/package/@acme%2ftool/dist-tags", "PUT"),
    ] {
        let answer = app.anybody().send(method.clone(), path, &[], Body::empty()).await;
        refused(&answer, 405);
        let methods: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        assert!(methods.contains(&allowed), "{method} {path}: {methods:?}");
    }
    for method in [Method::PUT, Method::POST, Method::DELETE] {
        refused(&app.anybody().send(method, "/-/unknown", &[], Body::empty()).await, 404);
    }
}

#[tokio::test]
async fn each_answer_has_a_request_id_of_its_own() {
    let app = published().await;
    let sent = app.anybody().with("x-request-id", "mine");
    let ids = [sent.get("/-/ping").await, sent.get("/nothing").await, sent.get("/-/unknown").await];
    let ids: std::collections::BTreeSet<String> =
        ids.iter().map(|answer| answer.header("x-request-id").to_owned()).collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains("mine") && !ids.contains(""));
}

#[tokio::test]
async fn what_needs_no_router_is_answered_as_the_router_would() {
    let app = TestApp::new();
    app.user("alice").await.publish_versions("@acme/tool", &["1.0.0"]).await;
    let anybody = app.anybody();
    // GET is answered without it, HEAD by it.
    for path in [
        "/@acme%2ftool",
        "/@acme/tool",
        "/absent",
        "/%ff",
        "/.bad",
        "/@acme%2ftool/-/tool-1.0.0.tgz",
        "/absent/-/x.tgz",
    ] {
        let got = anybody.send(Method::GET, path, &[], String::new()).await;
        let head = anybody.send(Method::HEAD, path, &[], String::new()).await;
        assert_eq!(head.status, got.status, "{path}");
        for name in ["content-type", "etag", "cache-control", "vary", "last-modified"] {
            assert_eq!(head.headers.get(name), got.headers.get(name), "{path}: {name}");
        }
    }
}
