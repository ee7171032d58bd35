//! The program inside Lambda, behind each front end.

use std::process::Command;
use std::time::Duration;

use holdfast::settings::{AdvisorySource, Home};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::app::{TestApp, behind};
use crate::support::http::{Answer, Http, INSTALL_ACCEPT, publish_document};
use crate::support::lambda::{FRONT_ENDS, FrontEnd, Lambda};
use crate::support::server::{Settings, program};
use crate::support::tarballs::{Tarball, shasum};
use crate::support::upstream::{Fault, Package, Upstream, noise};

const PASSWORD: &str = "correct horse battery";
/// Accounts by themselves, and no other registry.
const OPEN: &[(&str, &str)] = &[("HOLDFAST__ACCESS__REGISTRATION", "open"), ("HOLDFAST__PACKAGES__PROXY", "false")];

/// A refusal of ours: this status and code, with a sentence.
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_package_lives_behind_every_front_end() {
    for front in FRONT_ENDS {
        let lambda = Lambda::start(*front, OPEN).await;
        let http = lambda.http().with_token(&lambda.create_user("alice", PASSWORD).await);
        let tarball = Tarball::new("@acme/card", "1.0.0").file("noise", noise(100_000));
        http.publish(&tarball).await.ok();
        for path in ["/@acme%2fcard", "/@acme%2Fcard", "/@acme/card", "/%40acme%2fcard", "/@acme%2fcard?write=true"] {
            let document = http.get(path).await.ok().json();
            assert_eq!(document["name"], "@acme/card", "{front:?} {path}");
            let url = document["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap().to_owned();
            let path = url.strip_prefix(lambda.url().trim_end_matches('/'));
            let path = path.unwrap_or_else(|| panic!("{front:?}: {url} is not below {}", lambda.url()));
            assert_eq!(http.get(path).await.ok().body, tarball.bytes(), "{front:?}");
        }
        for path in
            ["/@acme%2fcard/-/card-1.0.0.tgz", "/@acme/card/-/card-1.0.0.tgz", "/@acme%2fcard/-/@acme%2fcard-1.0.0.tgz"]
        {
            assert_eq!(http.get(path).await.ok().body, tarball.bytes(), "{front:?} {path}");
        }
        packed_and_known(&http, front).await;
        searched(&http, front).await;

        let tags = "/-/package/@acme%2fcard/dist-tags";
        http.put(&format!("{tags}/beta"), &json!("1.0.0")).await.ok();
        http.delete(&format!("{tags}/beta")).await.ok();
        assert_eq!(http.get(tags).await.ok().json(), json!({ "latest": "1.0.0" }));

        let id = publish_document(&Tarball::new("plain", "1.0.0"), "latest");
        http.put("/plain", &id).await.ok();
        assert_eq!(http.get("/plain/1.0.0").await.ok().json()["version"], "1.0.0", "{front:?}");
        refused(&http.put("/plain", &id).await, 403, "version_exists");
        refused(&http.get("/-/nothing/here").await, 404, "no_route");
        refused(&lambda.http().with_token("hfst_nonsense").get("/plain").await, 401, "sign_in_first");
        assert_eq!(http.get("/").await.status, StatusCode::OK);
        assert_eq!(lambda.oversized(), 0);
    }
}

/// Compressed, answered 304, and asked for without a body.
async fn packed_and_known(http: &Http, front: &FrontEnd) {
    let accept = [("accept", INSTALL_ACCEPT), ("accept-encoding", "gzip")];
    let packed = http.send(Method::GET, "/@acme%2fcard", &accept, Vec::new()).await.ok();
    assert_eq!(packed.header("content-encoding"), "gzip", "{front:?}");
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut plain).unwrap();
    let document: Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(document["dist-tags"]["latest"], "1.0.0");
    assert!(packed.header("vary").to_lowercase().contains("accept-encoding"), "{front:?}");

    let known = [("accept", INSTALL_ACCEPT), ("if-none-match", packed.header("etag"))];
    let unchanged = http.send(Method::GET, "/@acme%2fcard", &known, Vec::new()).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED, "{front:?}");
    assert!(unchanged.body.is_empty());

    let head = http.send(Method::HEAD, "/@acme%2fcard/-/card-1.0.0.tgz", &[], Vec::new()).await.ok();
    assert!(head.body.is_empty());
    let whole = http.get("/@acme%2fcard/-/card-1.0.0.tgz").await.ok();
    assert_eq!(head.header("etag"), whole.header("etag"), "{front:?}");
    let range = [("range", "bytes=10-19")];
    let part = http.send(Method::GET, "/@acme%2fcard/-/card-1.0.0.tgz", &range, Vec::new()).await;
    assert_eq!((part.status.as_u16(), part.body), (206, whole.body[10..20].to_vec()), "{front:?}");
}

/// The process stands still while it waits for a request, so the index was in step before it asked for this one. A
/// query that has `&` and `+` in it arrives as it was sent.
async fn searched(http: &Http, front: &FrontEnd) {
    for (text, total) in [("@acme%2fcard", 1), ("card", 1), ("nothing%26size%3D1", 0), ("keywords:no%2Bsuch", 0)] {
        let found = http.get(&format!("/-/v1/search?text={text}&size=20")).await.ok().json();
        assert_eq!(found["total"], total, "{front:?} {text}");
    }
}

#[tokio::test]
async fn a_sign_in_in_the_browser_stays_below_the_address_that_was_typed() {
    let settings = [
        ("HOLDFAST__PACKAGES__PROXY", "false"),
        ("HOLDFAST__GITHUB__CLIENT_ID", "id"),
        ("HOLDFAST__GITHUB__CLIENT_SECRET", "secret"),
        ("HOLDFAST__GITHUB__ORGANIZATIONS", "acme"),
    ];
    for front in FRONT_ENDS {
        let lambda = Lambda::start(*front, &settings).await;
        let http = lambda.http();
        let headers = [("content-type", "application/json")];
        let begun = http.send(Method::POST, "/-/v1/login", &headers, b"{}".to_vec()).await.ok().json();
        let (base, login) = (lambda.url(), begun["loginUrl"].as_str().unwrap());
        assert!(login.starts_with(&format!("{base}-/login/")), "{front:?}: {login} is not below {base}");
        let path = &login[base.len() - 1..];
        let page = lambda.http().get(path).await.ok();
        assert!(page.header("content-type").starts_with("text/html"), "{front:?}");
        let cookie = page.header("set-cookie");
        assert!(cookie.contains(&format!("Path={}/-/;", front.prefix())), "{front:?}: {cookie}");
        let done = begun["doneUrl"].as_str().unwrap();
        assert!(done.starts_with(&base), "{front:?}: {done}");
        // The ticket in its query has to arrive whole.
        assert_eq!(lambda.http().get(&done[base.len() - 1..]).await.status, StatusCode::ACCEPTED, "{front:?}");
        // A cookie comes back as one, in whichever form: with another one the page is not the same person's.
        let cookies = format!("other=1; {}", cookie.split(';').next().unwrap());
        let headers = [("cookie", cookies.as_str())];
        let to_github = lambda.http().send(Method::GET, &format!("{path}/github"), &headers, Vec::new()).await;
        assert_eq!(to_github.status, StatusCode::SEE_OTHER, "{front:?}: {}", to_github.text());
    }
}

#[tokio::test]
async fn a_set_public_url_wins_over_what_the_front_end_shows() {
    // As the older system was installed: its address is in a variable, and has more of a path than the stage.
    let settings = [OPEN, &[("HOLDFAST__SERVER__PUBLIC_URL", "{origin}/prod/registry")]].concat();
    for route in ["", "/registry"] {
        let lambda = Lambda::start(FrontEnd::RestApi { stage: "prod", route }, &settings).await;
        let base = format!("{}/prod/registry", lambda.origin());
        let token = lambda.create_user("alice", PASSWORD).await;
        let http = Http::new(&base).with_token(&token);
        http.publish(&Tarball::new("@acme/card", "1.0.0")).await.ok();
        let document = http.get("/@acme%2fcard").await.ok().json();
        let tarball = document["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap();
        let path = tarball.strip_prefix(&base).unwrap_or_else(|| panic!("{tarball}"));
        http.get(path).await.ok();
    }
}

#[tokio::test]
async fn tarballs_up_to_what_lambda_carries_arrive_and_larger_ones_are_explained() {
    let lambda = Lambda::start(FrontEnd::FunctionUrl, OPEN).await;
    let http = lambda.http().with_token(&lambda.create_user("alice", PASSWORD).await);
    let large = Tarball::new("large", "1.0.0").file("noise", noise(4_400_000));
    http.publish(&large).await.ok();
    assert_eq!(http.get("/large/-/large-1.0.0.tgz").await.ok().body, large.bytes());
    let too_large = Tarball::new("too-large", "1.0.0").file("noise", noise(5_000_000));
    // Lambda's own words, which nothing of ours can change.
    assert_eq!(http.publish(&too_large).await.status, StatusCode::PAYLOAD_TOO_LARGE);

    // What a server has taken, Lambda may be asked for.
    let mut server = Settings::alone().start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    server.http().with_token(&token).publish(&too_large).await.ok();
    assert!(server.stop().await.success());
    let data = server.data();
    let settings = [OPEN, &[("HOLDFAST__STORAGE__DIRECTORY", data.to_str().unwrap())]].concat();
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &settings).await;
    let http = lambda.http().with_token(&token);
    let sentence = refused(&http.get("/too-large/-/too-large-1.0.0.tgz").await, 413, "answer_too_large");
    assert!(sentence.contains("6 MB"), "{sentence}");
    let part = http.send(Method::GET, "/too-large/-/too-large-1.0.0.tgz", &[("range", "bytes=0-9")], Vec::new()).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    let head = http.send(Method::HEAD, "/too-large/-/too-large-1.0.0.tgz", &[], Vec::new()).await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(lambda.oversized(), 0);
}

#[tokio::test]
async fn a_load_balancer_carries_a_megabyte() {
    let mut server = Settings::alone().start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let large = Tarball::new("large", "1.0.0").file("noise", noise(900_000));
    server.http().with_token(&token).publish(&large).await.ok();
    assert!(server.stop().await.success());
    let data = server.data();
    let settings = [OPEN, &[("HOLDFAST__STORAGE__DIRECTORY", data.to_str().unwrap())]].concat();
    let lambda = Lambda::start(FrontEnd::Balancer { is_multi_value: true }, &settings).await;
    let answer = lambda.http().with_token(&token).get("/large/-/large-1.0.0.tgz").await;
    refused(&answer, 413, "answer_too_large");
}

/// A server would break the connection off. Here nothing of the answer has left, so what happened can be said.
#[tokio::test]
async fn a_tarball_that_breaks_off_is_a_failure_and_not_half_a_tarball() {
    let upstream = Upstream::with_fixtures();
    let settings =
        [("HOLDFAST__ACCESS__ANONYMOUS_READ", "open"), ("HOLDFAST__UPSTREAMS__DEFAULT__URL", upstream.url())];
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &settings).await;
    let document = lambda.http().get_abbreviated("/large").await.ok().json();
    upstream.set(Fault::TamperedTarballs);
    refused(&lambda.http().get("/large/-/large-1.0.0.tgz").await, 502, "answer_cut_off");
    upstream.set(Fault::None);
    let whole = lambda.http().get("/large/-/large-1.0.0.tgz").await.ok();
    assert_eq!(document["versions"]["1.0.0"]["dist"]["shasum"], shasum(&whole.body));
}

/// Lambda would kill the process, and the client would be told nothing.
#[tokio::test]
async fn a_function_whose_time_is_over_says_so_and_goes_on() {
    let upstream = Upstream::with_fixtures();
    let settings =
        [("HOLDFAST__ACCESS__ANONYMOUS_READ", "open"), ("HOLDFAST__UPSTREAMS__DEFAULT__URL", upstream.url())];
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &settings).await;
    upstream.set(Fault::Slow(PATIENCE));
    lambda.give(Duration::from_secs(1));
    refused(&lambda.http().get("/left").await, 504, "function_time_over");
    upstream.set(Fault::None);
    lambda.give(PATIENCE);
    lambda.http().get("/leaf").await.ok();
}

#[tokio::test]
async fn inside_lambda_nobody_comes_in_unless_it_was_set() {
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &[("HOLDFAST__PACKAGES__PROXY", "false")]).await;
    refused(&lambda.http().get("/plain").await, 401, "sign_in_first");
    lambda.over_tls();
    let body = json!({ "_id": "org.couchdb.user:eve", "name": "eve", "password": PASSWORD, "type": "user" });
    let answer = lambda.http().put("/-/user/org.couchdb.user:eve", &body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
}

#[tokio::test]
async fn a_client_cannot_make_up_where_it_comes_from() {
    for front in FRONT_ENDS {
        let lambda = Lambda::start(*front, OPEN).await;
        let http = lambda.http().with_token(&lambda.create_user("alice", PASSWORD).await);
        let make = async |networks: &str| {
            let wish = json!({ "password": PASSWORD, "readonly": true, "cidr_whitelist": [networks] });
            lambda.over_tls();
            let made = http.send(
                Method::POST,
                "/-/npm/v1/tokens",
                &[("content-type", "application/json")],
                wish.to_string().into_bytes(),
            );
            made.await.ok().json()["token"].as_str().unwrap().to_owned()
        };
        let (here, elsewhere) = (make("198.51.100.0/24").await, make("203.0.113.0/24").await);
        let forged = [("x-forwarded-for", "203.0.113.9"), ("x-real-ip", "203.0.113.9")];
        let asked = async |token: &str| {
            lambda.http().with_token(token).send(Method::GET, "/-/whoami", &forged, Vec::new()).await
        };
        assert_eq!(asked(&here).await.ok().json()["username"], "alice", "{front:?}");
        refused(&asked(&elsewhere).await, 401, "other_address");
    }
}

#[tokio::test]
async fn events_that_are_no_requests_are_answered_and_end_nothing() {
    let lambda = Lambda::start(FrontEnd::FunctionUrl, OPEN).await;
    for event in [json!({}), json!({ "Records": [{ "eventSource": "aws:s3" }] }), json!([1]), json!("x")] {
        let error = lambda.invoke(event.clone()).await.unwrap_err();
        assert!(!error["errorMessage"].as_str().unwrap().is_empty(), "{event}");
    }
    let broken = json!({
        "version": "2.0", "rawPath": "/-/ping", "headers": {}, "body": "?", "isBase64Encoded": true,
        "requestContext": { "stage": "$default", "http": { "method": "GET", "sourceIp": "198.51.100.7" } },
    });
    let error = lambda.invoke(broken).await.unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("base64"), "{error}");
    // What a schedule sends for the work that is nobody's request.
    let tick = json!({ "version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": [] });
    assert_eq!(lambda.invoke(tick).await.unwrap(), Value::Null);
    lambda.http().get("/-/ping").await.ok();
}

#[tokio::test]
async fn the_log_is_json_with_lambdas_id_beside_ours() {
    let mut lambda = Lambda::start(FrontEnd::FunctionUrl, OPEN).await;
    let id = lambda.http().get("/-/ping").await.ok().header("x-request-id").to_owned();
    let status = lambda.stop().await;
    assert!(status.success(), "{status}\n{}", lambda.log().tail(40));
    let text = lambda.log().text();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let line = lines.iter().find(|line| line["fields"]["request.id"] == id.as_str());
    let line = line.unwrap_or_else(|| panic!("no line has {id}:\n{text}"));
    assert!(line["span"]["aws.request_id"].as_str().unwrap().starts_with("00000000-0000-4000-8000-"), "{line}");
}

#[tokio::test]
async fn each_command_says_where_it_belongs() {
    let run = |arguments: &[&str], is_inside: bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.env_clear().current_dir(folder.path()).args(arguments);
        if is_inside {
            command.env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9");
        }
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["lambda"], false).contains("holdfast serve"));
    assert!(run(&["serve", "--no-upstream"], true).contains("holdfast lambda"));
    assert!(run(&[], false).contains("Usage"));
}

#[tokio::test]
async fn upkeep_is_done_when_it_is_due() {
    let upstream = Upstream::start([Package::new("left").version("1.0.0").version("1.1.0").version("1.2.0")]);
    let folder = tempfile::tempdir().unwrap();
    let (rules, records) = (folder.path().join("policy.toml"), folder.path().join("records"));
    let deny = |version: &str| {
        format!(
            "[[rule]]\nid = \"no\"\nauthor = \"ann\"\nreason = \"because\"\naction = \"deny\"\npackages = [\"left\"]\nversions = \"{version}\"\n"
        )
    };
    std::fs::write(&rules, deny("1.0.0")).unwrap();
    std::fs::create_dir(&records).unwrap();
    let record = json!({
        "id": "MAL-2026-1", "modified": "2026-11-20T00:00:00Z",
        "affected": [{
            "package": { "ecosystem": "npm", "name": "left" },
            "ranges": [{ "type": "SEMVER", "events": [{ "introduced": "1.2.0" }] }],
        }],
    });
    std::fs::write(records.join("MAL-2026-1.json"), record.to_string()).unwrap();
    let app = TestApp::with(|settings| {
        behind(settings, &upstream, &[]);
        settings.server.home = Home::Lambda;
        settings.policy.rules_file.clone_from(&rules);
        settings.advisories.source = Some(AdvisorySource::Path(records));
    });
    let code = async |version: &str| {
        let answer = app.anybody().get(&format!("/left/{version}")).await;
        if answer.status.is_success() {
            "offered".to_owned()
        } else {
            answer.json()["code"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!((code("1.0.0").await, code("1.1.0").await), ("denied".to_owned(), "offered".to_owned()));
    std::fs::write(&rules, deny("1.1.0")).unwrap();
    app.app.do_upkeep().await;
    assert_eq!(code("1.0.0").await, "denied", "the file was looked at too often");
    app.clock.advance(Duration::from_secs(2));
    app.app.do_upkeep().await;
    assert_eq!((code("1.0.0").await, code("1.1.0").await), ("offered".to_owned(), "denied".to_owned()));
    // What takes long waits for its schedule, however much is due.
    app.clock.advance(Duration::from_hours(24));
    app.app.do_upkeep().await;
    assert_eq!(code("1.2.0").await, "offered");
    app.app.do_all_upkeep().await;
    assert_eq!(code("1.2.0").await, "malicious");
}
