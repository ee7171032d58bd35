//! A bucket that codebox-npm has filled, on S3: read where it lies, then taken over there.

use std::collections::BTreeMap;

use holdfast::clock::Clock;
use holdfast::settings::ReadOnly;
use holdfast::storage::Store;
use holdfast::takeover::{Copies, Wish, import};

use crate::support::app::{TestApp, behind};
use crate::support::bucket::location;
use crate::support::codebox::{Bucket, everything};
use crate::support::http::publish_document;
use crate::support::object_server::ObjectServer;
use crate::support::signed_in::refused_as;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

/// Puts the objects onto the server as that system did: with encryption, and with no metadata of ours.
async fn fill(server: &ObjectServer, bucket: &Bucket) {
    for (key, bytes) in bucket.objects() {
        let url = format!("{}/{}/registry/{key}", server.url(), server.bucket());
        let put = reqwest::Client::new().put(url).body(bytes.clone());
        let put = put.header("authorization", "AWS4-HMAC-SHA256 test").header("x-amz-server-side-encryption", "AES256");
        let answer = put.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{key}: {}", answer.text().await.unwrap());
    }
}

/// What the bucket's own objects are now.
fn kept(server: &ObjectServer, bucket: &Bucket) -> BTreeMap<String, Vec<u8>> {
    let all = server.snapshot();
    let of = |key: &String| (key.clone(), all[&format!("registry/{key}")].bytes.to_vec());
    bucket.objects().keys().map(of).collect()
}

#[tokio::test]
async fn a_bucket_of_codebox_on_s3_is_read_as_it_is_and_taken_over_where_it_lies() {
    let upstream = Upstream::with_fixtures();
    let bucket = everything(&upstream).await;
    let server = ObjectServer::start("bucket");
    fill(&server, &bucket).await;

    let reader = TestApp::over_bucket(&server, |settings| {
        behind(settings, &upstream, &[]);
        settings.storage.read_only = ReadOnly::Set(true);
    });
    let tarballs = || bucket.objects().iter().filter(|(key, _)| key.starts_with("old-tool/") && key.contains(".tgz"));
    assert!(tarballs().count() > 0);
    let document = reader.anybody().get("/old-tool").await.ok().json();
    for (key, bytes) in tarballs() {
        let number = key.trim_start_matches("old-tool/").trim_end_matches(".tgz");
        assert_eq!(document["versions"][number]["version"], number);
        assert_eq!(reader.anybody().get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok().body, *bytes);
    }
    let next = publish_document(&Tarball::new("old-tool", "9.0.0"), "latest");
    refused_as(&reader.user("alice").await.put("/old-tool", &next).await, 403, "read_only");
    assert_eq!(&kept(&server, &bucket), bucket.objects(), "something was written before anybody said so");

    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let clock = Clock::held_at("2026-11-24T12:00:00.000Z".parse().unwrap());
    let wish = Wish { dry_run: false, copies: Copies::Keep };
    let report = import(&store, &clock, wish, |_| {}).await.unwrap();
    assert!(report.upgraded.iter().any(|name| name == "old-tool"), "{report:?}");
    let again = import(&store, &clock, wish, |_| {}).await.unwrap();
    assert!(again.upgraded.is_empty(), "{again:?}");
    let after = kept(&server, &bucket);
    for (key, bytes) in tarballs() {
        assert_eq!(&after[key], bytes);
    }
    // The one that was running sees it at once.
    let renewed = reader.anybody().get("/old-tool").await.ok().json();
    assert_ne!(renewed["_rev"], document["_rev"]);
    for (key, bytes) in tarballs() {
        let number = key.trim_start_matches("old-tool/").trim_end_matches(".tgz");
        assert_eq!(renewed["versions"][number]["dist"]["shasum"], document["versions"][number]["dist"]["shasum"]);
        assert_eq!(reader.anybody().get(&format!("/old-tool/-/old-tool-{number}.tgz")).await.ok().body, *bytes);
    }
}
