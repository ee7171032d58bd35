//! `GET /{package}/-/{file}`.

use axum::body::Body;
use reqwest::Method;

use crate::support::app::{TestApp, refused};
use crate::support::http::INSTALL_ACCEPT;
use crate::support::tarballs::Tarball;
use crate::support::upstream::noise;

async fn published() -> (TestApp, Vec<u8>) {
    let app = TestApp::new();
    let tarball = Tarball::new("@acme/tool", "1.0.0").file("data.bin", noise(10_000));
    app.user("alice").await.publish(&tarball).await.ok();
    (app, tarball.bytes())
}

const PATH: &str = "/@acme/tool/-/tool-1.0.0.tgz";

#[tokio::test]
async fn the_bytes_are_the_publishers_whatever_the_client_accepts() {
    let (app, bytes) = published().await;
    for headers in [
        vec![],
        vec![("accept-encoding", "gzip, deflate, br, zstd")],
        vec![("accept", INSTALL_ACCEPT)],
        vec![("accept", "text/html")],
    ] {
        let answer = app.anybody().get_with(PATH, &headers).await.ok();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, bytes);
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("cache-control"), "public, immutable, max-age=31557600");
        assert_eq!(answer.header("content-encoding"), "");
        assert_eq!(answer.header("accept-ranges"), "bytes");
    }
}

#[tokio::test]
async fn every_spelling_of_the_path_is_served() {
    let (app, bytes) = published().await;
    let plain = Tarball::new("plain", "1.0.0-rc.1");
    app.user("alice").await.publish(&plain).await.ok();
    for (path, expected) in [
        ("/@acme/tool/-/tool-1.0.0.tgz", &bytes),
        ("/@acme%2ftool/-/tool-1.0.0.tgz", &bytes),
        ("/@acme%2Ftool/-/tool-1.0.0.tgz", &bytes),
        ("/%40acme%2ftool/-/tool-1.0.0.tgz", &bytes),
        ("/%40acme/tool/-/tool-1.0.0.tgz", &bytes),
        ("/@acme/tool/-/@acme/tool-1.0.0.tgz", &bytes),
        ("/@acme%2ftool/-/@acme%2ftool-1.0.0.tgz", &bytes),
        ("/@acme/tool/-/tool-1.0.0+build.5.tgz", &bytes),
        ("/@acme/tool/-/tool-1.0.0%2Bbuild.5.tgz", &bytes),
        ("/@acme/tool/-/tool-1.0.0.tgz?cache=0&x", &bytes),
        ("/plain/-/plain-1.0.0-rc.1.tgz", &plain.bytes()),
    ] {
        let answer = app.anybody().get(path).await.ok();
        assert_eq!(&answer.body, expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_a_file_of_the_package_is_a_404() {
    let (app, _) = published().await;
    for path in [
        "/@acme/tool/-/tool-2.0.0.tgz",
        "/@acme/tool/-/other-1.0.0.tgz",
        "/@acme/tool/-/tool-1.0.0.zip",
        "/@acme/tool/-/tool-latest.tgz",
        "/@acme/tool/-/tool-.tgz",
        "/@acme/tool/-/..%2f..%2findex.json",
        "/@acme/tool/-/%2e%2e%2ftool-1.0.0.tgz",
        "/@acme/tool/-/index.json",
        "/tool/-/tool-1.0.0.tgz",
        "/nothing/-/nothing-1.0.0.tgz",
    ] {
        let answer = app.anybody().get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        refused(&answer, 404);
    }
    refused(&app.anybody().get("/@acme/tool/-/tool-1.0.0%00.tgz").await, 400);
}

#[tokio::test]
async fn who_has_the_file_is_sent_nothing() {
    let (app, _) = published().await;
    let first = app.anybody().get(PATH).await.ok();
    let (etag, modified) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    assert!(etag.len() > 4 && !modified.is_empty());
    for (header, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", modified.as_str(), 304),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
    ] {
        let answer = app.anybody().get_with(PATH, &[(header, value)]).await;
        assert_eq!(answer.status.as_u16(), status, "{header}: {value}");
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("cache-control"), first.header("cache-control"));
        assert_eq!(answer.body.is_empty(), status == 304);
    }
}

#[tokio::test]
async fn parts_are_served() {
    let (app, bytes) = published().await;
    let size = bytes.len();
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=10-19".to_owned(), 10, 20),
        ("bytes=100-".to_owned(), 100, size),
        ("bytes=-100".to_owned(), size - 100, size),
        (format!("bytes=5-{}", size * 2), 5, size),
        (format!("bytes=-{}", size * 2), 0, size),
    ] {
        let answer = app.anybody().get_with(PATH, &[("range", &range)]).await;
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, &bytes[first..end], "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{}/{size}", end - 1));
        assert_eq!(answer.header("content-length"), (end - first).to_string());
    }
    for range in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-1", "bytes=x-y"] {
        let answer = app.anybody().get_with(PATH, &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, size), "{range}");
    }
    for range in [format!("bytes={size}-"), "bytes=-0".to_owned()] {
        let answer = app.anybody().get_with(PATH, &[("range", &range)]).await;
        refused(&answer, 416);
        assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
    }
}

#[tokio::test]
async fn a_part_of_another_file_is_not_served() {
    let (app, bytes) = published().await;
    let etag = app.anybody().get(PATH).await.ok().header("etag").to_owned();
    for (if_range, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let answer = app.anybody().get_with(PATH, &[("range", "bytes=0-9"), ("if-range", if_range)]).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.body.len(), if status == 206 { 10 } else { bytes.len() });
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_a_body() {
    let (app, bytes) = published().await;
    let get = app.anybody().get(PATH).await.ok();
    let head = app.anybody().send(Method::HEAD, PATH, &[], Body::empty()).await.ok();
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), bytes.len().to_string());
    for header in ["content-type", "etag", "last-modified", "cache-control", "accept-ranges"] {
        assert_eq!(head.header(header), get.header(header), "{header}");
    }
}

#[tokio::test]
async fn a_closed_registry_lets_no_shared_cache_keep_a_file() {
    let app = TestApp::closed();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    let answer = alice.get("/tool/-/tool-1.0.0.tgz").await.ok();
    assert_eq!(answer.header("cache-control"), "private, immutable, max-age=31557600");
    assert_eq!(answer.header("vary"), "Authorization");
    refused(&app.anybody().get("/tool/-/tool-1.0.0.tgz").await, 401);
}

#[tokio::test]
async fn what_was_removed_a_moment_after_a_download_is_gone() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    for _ in 0..3 {
        app.anybody().get(PATH).await.ok();
    }
    alice.delete(&format!("/@acme%2ftool/-rev/{}", alice.revision("@acme/tool").await)).await.ok();
    refused(&app.anybody().get(PATH).await, 404);
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_never_sent_as_if_it_were_whole() {
    let (app, bytes) = published().await;
    // The file is open from then on, and its bytes are not remembered.
    assert_eq!(app.anybody().get_with(PATH, &[("range", "bytes=0-9")]).await.body, &bytes[..10]);
    let tarball = app.files().into_keys().find(|path| path.starts_with("-/tarballs")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(app.data().join(tarball)).unwrap();
    file.set_len(100).unwrap();
    refused(&app.anybody().get(PATH).await, 503);
}
