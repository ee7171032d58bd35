//! The server as a process: what it keeps, how it ends, and where its settings come from.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::http::publish_document;
use crate::support::server::Settings;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_kill_9() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let tarball = Tarball::new("@acme/kept", "1.0.0");
    server.http().with_token(&token).publish(&tarball).await.ok();

    let server = server.restart().await;
    let http = server.http().with_token(&token);
    let document = http.get("/@acme%2fkept").await.ok().json();
    assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0" }));
    assert_eq!(http.get("/@acme/kept/-/kept-1.0.0.tgz").await.ok().body, tarball.bytes());
    assert_eq!(http.get("/-/whoami").await.ok().json()["username"], "alice");

    http.delete(&format!("/-/user/token/{token}")).await.ok();
    let server = server.restart().await;
    let answer = server.http().with_token(&token).get("/-/whoami").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
}

#[tokio::test]
async fn a_signal_to_end_is_an_orderly_end() {
    let mut server = Settings::alone().start().await;
    server.http().get("/-/ping").await.ok();
    let status = server.stop().await;
    assert!(status.success(), "{status}\n{}", server.log().tail(40));
    assert!(server.data().is_dir());
}

#[tokio::test]
async fn settings_come_from_the_file_and_the_environment() {
    let from_file = Settings::alone().config("[access]\nregistration = \"closed\"\n");
    let from_environment = Settings::alone().env("HOLDFAST__ACCESS__REGISTRATION", "closed");
    for settings in [from_file, from_environment] {
        let server = settings.start().await;
        let body = json!({ "_id": "org.couchdb.user:eve", "name": "eve", "password": "correct horse battery", "type": "user" });
        let answer = server.http().put("/-/user/org.couchdb.user:eve", &body).await;
        assert!(answer.status.is_client_error(), "{}: {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn a_name_of_the_upstream_cannot_be_taken() {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let http = server.http().with_token(&server.http().create_user("alice", "correct horse battery").await);
    let answer = http.put("/left", &publish_document(&Tarball::new("left", "9.0.0"), "latest")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    assert!(answer.json()["error"].is_string());
    assert_eq!(http.get("/left").await.ok().json()["dist-tags"]["latest"], "1.2.0");
    // It was looked up there, and nothing of ours was told.
    assert!(upstream.seen().iter().all(|seen| seen.method == "GET" || seen.method == "HEAD"));
}

#[tokio::test]
async fn localhost_is_answered_whichever_address_it_means() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no [::1]");
        return;
    }
    let server = Settings::alone().start().await;
    let port = server.origin().rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "[::1]"] {
        let answer = reqwest::get(format!("http://{host}:{port}/-/ping")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{host}");
    }
}
