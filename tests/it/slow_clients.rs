//! Clients that send or take bytes slowly, break off, or are still busy when the server is to stop.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::bucket::CREDENTIALS;
use crate::support::http::publish_document;
use crate::support::in_process::{Plan, cut_body, files_below};
use crate::support::object_server::ObjectServer;
use crate::support::server::{Server, Settings};
use crate::support::tarballs::Tarball;
use crate::support::upstream::noise;

async fn impatient() -> Server {
    Settings::alone().env("HOLDFAST__SERVER__IDLE_SECONDS", "1").start().await
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.origin().trim_start_matches("http://")).await.unwrap()
}

/// Reads until the server closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // An answer, then the end; or a reset, where our bytes were not read.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server keeps the connection");
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a byte now and then until the server has enough.
async fn drip(stream: TcpStream, bytes: Vec<u8>) -> String {
    let (mut from, mut to) = stream.into_split();
    let dripping = tokio::spawn(async move {
        for byte in bytes.iter().cycle() {
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut text = Vec::new();
    let _ = timeout(PATIENCE, from.read_to_end(&mut text)).await.expect("the server keeps the connection");
    dripping.abort();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_head_that_never_ends_is_ended() {
    let server = impatient().await;
    for beginning in ["", "P", "PRI * HTTP/2", "GET /-/ping HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut stream = connect(&server).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{beginning:?}: {answer}");
    }
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /-/ping HTTP/1.1\r\nx: ").await.unwrap();
    let answer = drip(stream, b"y".to_vec()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    server.http().get("/-/ping").await.ok();
}

#[tokio::test]
async fn a_body_that_stops_or_drips_is_ended_and_leaves_nothing() {
    let server = impatient().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let document = serde_json::to_vec(&publish_document(&Tarball::new("slow", "1.0.0"), "latest")).unwrap();
    let head = format!(
        "PUT /slow HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        document.len()
    );
    for sent in [0, 10, document.len() - 1] {
        let mut stream = connect(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&document[..sent]).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"error\""), "{sent}: {answer}");
    }
    for path in ["/slow", "/-/user/org.couchdb.user:bob"] {
        let mut stream = connect(&server).await;
        let head = head.replace("/slow", path);
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = drip(stream, b" ".to_vec()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
    assert_eq!(server.http().get("/slow").await.status, 404);
    assert_eq!(std::fs::read_dir(server.data().join("-/staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_body_that_is_cut_in_the_middle_leaves_nothing() {
    let plan = Plan::alone();
    let server = plan.start().await.signed_in("alice").await;
    let tarball = Tarball::new("cut", "1.0.0").file("data.bin", noise(2 << 20));
    let document = Bytes::from(serde_json::to_vec(&publish_document(&tarball, "latest")).unwrap());
    for end in [0, 1, 1000, document.len() / 2, document.len() - 100, document.len() - 1] {
        let pieces: Vec<Bytes> = document[..end].chunks(100_000).map(Bytes::copy_from_slice).collect();
        server.send(reqwest::Method::PUT, "/cut", &[], cut_body(pieces)).await.refused(&[400]);
        assert!(plan.staged().is_empty(), "cut at {end}");
    }
    server.get("/cut").await.refused(&[404]);
    let mut stored = Vec::new();
    files_below(&plan.data().join("-/tarballs"), &mut |path| stored.push(path.to_owned()));
    assert!(stored.is_empty(), "{stored:?}");
    server.publish(&tarball, "latest").await.ok();
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_of_a_publish_leaves_nothing() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let tarball = Tarball::new("cut", "1.0.0").file("data.bin", noise(2 << 20));
    let document = serde_json::to_vec(&publish_document(&tarball, "latest")).unwrap();
    let head = format!(
        "PUT /cut HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        document.len()
    );
    for part in 1..6 {
        let mut stream = connect(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&document[..document.len() / 6 * part]).await.unwrap();
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::read_dir(server.data().join("-/staging")).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < deadline, "a staged file remains");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.http().get("/cut").await.status, 404);
    server.http().with_token(&token).publish(&tarball).await.ok();
}

/// A server with a package whose tarball has 50 MB, and that tarball's bytes.
async fn with_large_package() -> (Server, Vec<u8>) {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let tarball = Tarball::new("large", "1.0.0").file("data.bin", noise(50 << 20));
    server.http().with_token(&token).publish(&tarball).await.ok();
    (server, tarball.bytes())
}

#[tokio::test]
async fn a_client_that_reads_slowly_does_not_stop_the_others() {
    let (server, bytes) = with_large_package().await;
    let url = format!("{}/large/-/large-1.0.0.tgz", server.origin());
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut body = reqwest::get(&url).await.unwrap().bytes_stream();
        let first = body.next().await.unwrap().unwrap();
        slow.push((body, first.to_vec()));
    }
    for _ in 0..20 {
        server.http().get("/large").await.ok();
    }
    assert!(server.http().get("/large/-/large-1.0.0.tgz").await.ok().body == bytes);
    // And in the end they too have everything.
    let (mut body, mut received) = slow.pop().unwrap();
    while let Some(piece) = body.next().await {
        received.extend_from_slice(&piece.unwrap());
    }
    assert!(received == bytes);
}

#[tokio::test]
async fn a_stop_waits_for_a_download_under_way() {
    let (mut server, bytes) = with_large_package().await;
    let mut body = reqwest::get(format!("{}/large/-/large-1.0.0.tgz", server.origin())).await.unwrap().bytes_stream();
    let mut received = body.next().await.unwrap().unwrap().to_vec();
    let address = server.origin().trim_start_matches("http://").to_owned();
    let reading = tokio::spawn(async move {
        // The rest is wanted when nobody new is let in any more.
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while let Some(piece) = body.next().await {
            received.extend_from_slice(&piece.unwrap());
        }
        received
    });
    let status = server.stop().await;
    assert!(reading.await.unwrap() == bytes);
    assert!(status.success(), "{status}\n{}", server.log().tail(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_of_a_large_object_in_a_bucket_take_no_memory() {
    const BYTES: usize = 60 << 20;
    let store = ObjectServer::start("packages");
    let settings = Settings::alone().bucket(store.url(), "s3://packages").env("HOLDFAST__TARBALLS__REDIRECT", "never");
    let server = settings.start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    server.http().with_token(&token).publish(&Tarball::new("large", "1.0.0")).await.ok();
    // Larger than what would be quick to publish.
    let key = store.snapshot().into_keys().find(|key| key.starts_with("-/tarballs/")).unwrap();
    let bytes = Bytes::from(noise(BYTES));
    put(&store, &key, bytes.clone()).await;

    let url = format!("{}/large/-/large-1.0.0.tgz", server.origin());
    let before = server.peak_memory();
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut body = reqwest::get(&url).await.unwrap().bytes_stream();
        let first = body.next().await.unwrap().unwrap();
        slow.push((body, first.to_vec()));
    }
    // The bucket's connections wait too, longer than a body of it may bring nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.http().get("/large").await.ok();
    let reading = slow.into_iter().map(|(mut body, mut received)| {
        let bytes = bytes.clone();
        async move {
            while let Some(piece) = body.next().await {
                received.extend_from_slice(&piece.unwrap());
            }
            assert!(received == bytes);
        }
    });
    futures::future::join_all(reading).await;
    let (Some(before), Some(after)) = (before, server.peak_memory()) else { return };
    let grown = after.saturating_sub(before);
    println!("four slow clients of {} MB took {} MB", BYTES >> 20, grown >> 20);
    assert!(grown < BYTES as u64 / 2, "{grown} bytes for four clients of one object of {BYTES}");
}

/// Puts bytes in the place of an object.
async fn put(store: &ObjectServer, key: &str, bytes: Bytes) {
    let client = AmazonS3Builder::new()
        .with_endpoint(store.url())
        .with_bucket_name(store.bucket())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(CREDENTIALS.0)
        .with_secret_access_key(CREDENTIALS.1)
        .build()
        .unwrap();
    client.put(&Path::from(key), bytes.into()).await.unwrap();
}
