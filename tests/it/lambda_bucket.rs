//! Functions over one bucket: what they share, and what leaves by a link since Lambda does not carry it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bucket::variables;
use crate::support::http::{Answer, publish_document};
use crate::support::lambda::{FrontEnd, Lambda};
use crate::support::object_server::{ObjectServer, Operation};
use crate::support::tarballs::Tarball;

const PASSWORD: &str = "correct horse battery";

async fn function(server: &ObjectServer) -> Lambda {
    let bucket = variables(server, "s3://bucket/npm");
    let mut settings: Vec<(&str, &str)> = bucket.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend([("HOLDFAST__ACCESS__REGISTRATION", "open"), ("HOLDFAST__PACKAGES__PROXY", "false")]);
    Lambda::start(FrontEnd::FunctionUrl, &settings).await
}

/// Where an answer sends its client.
fn link(answer: &Answer) -> String {
    assert_eq!(answer.status, 302, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.header("location").to_owned()
}

#[tokio::test]
async fn what_one_function_has_published_another_gives_out_by_a_link() {
    let server = ObjectServer::start("bucket");
    let (one, other) = (function(&server).await, function(&server).await);
    let token = one.create_user("alice", PASSWORD).await;
    let tarball = Tarball::new("@acme/card", "1.0.0");
    one.http().with_token(&token).publish(&tarball).await.ok();
    let read = other.http().with_token(&token);
    assert_eq!(read.get("/@acme%2fcard").await.ok().json()["dist-tags"], json!({ "latest": "1.0.0" }));
    server.take_calls();
    let link = link(&read.get("/@acme%2fcard/-/card-1.0.0.tgz").await);
    assert!(server.take_calls().iter().all(|call| !call.key.contains("tarballs")), "the bytes were read here");
    assert!(link.starts_with(server.url()), "{link}");
    let got = reqwest::get(&link).await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.unwrap(), tarball.bytes());

    // A link is signed for GET alone, so that whoever asks for the head gets it here.
    let head = read.send(Method::HEAD, "/@acme%2fcard/-/card-1.0.0.tgz", &[], Vec::new()).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, &*tarball.bytes().len().to_string()));

    one.http().with_token(&token).publish(&Tarball::new("@acme/card", "1.1.0")).await.ok();
    assert_eq!(read.get("/@acme%2fcard").await.ok().json()["dist-tags"], json!({ "latest": "1.1.0" }));
    let found = read.get("/-/v1/search?text=card").await.ok().json();
    assert_eq!(found["objects"][0]["package"]["version"], "1.1.0", "{found}");
    let strangers = other.http().get("/@acme%2fcard/-/card-1.0.0.tgz").await;
    assert_eq!(strangers.status, 401);
}

#[tokio::test]
async fn a_document_that_lambda_does_not_carry_is_fetched_by_a_link() {
    let server = ObjectServer::start("bucket");
    let lambda = function(&server).await;
    let http = lambda.http().with_token(&lambda.create_user("alice", PASSWORD).await);
    for patch in 0..8 {
        let number = format!("1.0.{patch}");
        let mut document = publish_document(&Tarball::new("large", &number), "latest");
        document["versions"][&number]["notes"] = Value::from("large ".repeat(150_000));
        http.put("/large", &document).await.ok();
    }
    let answer = http.get("/large").await;
    let got = reqwest::get(link(&answer)).await.unwrap();
    assert_eq!(got.headers()["content-type"], "application/json");
    let document: Value = serde_json::from_slice(&got.bytes().await.unwrap()).unwrap();
    assert_eq!(document["versions"].as_object().unwrap().len(), 8);
    assert_eq!(lambda.oversized(), 0);
}

#[tokio::test]
async fn a_function_that_starts_asks_for_little_and_lists_nothing() {
    let server = ObjectServer::start("bucket");
    let first = function(&server).await;
    let token = first.create_user("alice", PASSWORD).await;
    first.http().with_token(&token).publish(&Tarball::new("small", "1.0.0")).await.ok();
    server.take_calls();
    let second = function(&server).await;
    second.http().with_token(&token).get("/small").await.ok();
    let calls = server.take_calls();
    let kinds: Vec<(Operation, &str)> = calls.iter().map(|call| (call.operation, call.key.as_str())).collect();
    assert!(calls.iter().all(|call| call.operation == Operation::Get), "{kinds:?}");
    // The policy's two objects, the token's with its owner's, and the document.
    assert!(calls.len() <= 6, "{kinds:?}");
    println!("a cold function's first answer: {kinds:?}");
}
