//! `holdfast remove-storage`, and other addresses in stored documents: on directories, on a bucket with versions, with more
//! objects than a page has.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use futures::{StreamExt as _, stream};
use holdfast::keys;
use holdfast::maintenance::relocate;
use holdfast::storage::{Durability, Error, Location, Removal, Removed, Store};
use serde_json::{Value, json};

use crate::support::bucket::{CREDENTIALS, bucket, location};
use crate::support::codebox::everything;
use crate::support::object_server::ObjectServer;
use crate::support::real_servers::{Kind, RealServer};
use crate::support::server::{Settings, program};
use crate::support::upstream::Upstream;

async fn run(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("NO_COLOR", "1");
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn removed(place: &Location, dry_run: bool) -> Removed {
    Removal::of(place).unwrap().run(dry_run, &mut |_, _| {}).await.unwrap()
}

/// A sign of who asks, which moto wants and does not verify.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=S3RVER/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// Requests of a test's own to a server that checks no signatures.
struct Raw {
    http: reqwest::Client,
    bucket: String,
}

impl Raw {
    fn of(url: &str, bucket: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, bucket: format!("{url}/{bucket}") }
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let sent =
            self.http.request(method, format!("{}{path}", self.bucket)).header("authorization", SIGNED).body(body);
        sent.send().await.unwrap().error_for_status().unwrap()
    }

    async fn versioning(&self) {
        let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.send(reqwest::Method::PUT, "?versioning", on).await;
    }

    /// Objects below a folder, some of them twice, some deleted.
    async fn fill(&self, folder: &str, count: usize) {
        let each = |number: usize| async move {
            let path = format!("/{folder}/pkg-{number}/index.json");
            self.send(reqwest::Method::PUT, &path, "{}").await;
            if number.is_multiple_of(10) {
                self.send(reqwest::Method::PUT, &path, "{\"again\":1}").await;
            }
            if number.is_multiple_of(20) {
                self.send(reqwest::Method::DELETE, &path, "").await;
            }
        };
        stream::iter((0..count).map(each)).buffer_unordered(8).collect::<Vec<()>>().await;
    }

    async fn status(&self, query: &str) -> u16 {
        let sent = self.http.get(format!("{}{query}", self.bucket)).header("authorization", SIGNED).send().await;
        sent.unwrap().status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_goes_with_all_versions_marks_and_unfinished_uploads() {
    let Some(server) = RealServer::start(Kind::Moto, "bucket").await else { return };
    let raw = Raw::of(server.url(), "bucket");
    raw.versioning().await;
    raw.fill("below", 1100).await;
    raw.fill("kept", 3).await;
    for key in ["below/a%20b%2Bc%26d", "below/%C3%BC%3Ctag%3E", "below/100%25"] {
        raw.send(reqwest::Method::PUT, &format!("/{key}"), "odd").await;
    }
    for number in 0..3 {
        raw.send(reqwest::Method::POST, &format!("/below/upload%20{number}?uploads"), "").await;
    }
    let at = |address: &str| Location::Bucket(Box::new(bucket(server.url(), address)));
    let counted = removed(&at("s3://bucket/below"), true).await;
    assert_eq!((counted.objects, counted.delete_markers, counted.uploads), (1100 + 110 + 3, 55, 3), "{counted:?}");
    assert!(!counted.is_place_gone);
    assert_eq!(removed(&at("s3://bucket/below"), true).await, counted, "a dry run removed something");

    // With a prefix the bucket stays, and what lies beside it.
    let done = removed(&at("s3://bucket/below"), false).await;
    assert_eq!((done.objects, done.delete_markers, done.uploads, done.failed), (1213, 55, 3, 0), "{done:?}");
    assert!(!done.is_place_gone);
    let left = removed(&at("s3://bucket"), true).await;
    assert_eq!((left.objects, left.delete_markers), (4, 1), "{left:?}");
    assert_eq!(removed(&at("s3://bucket/below"), false).await, Removed::default());

    let gone = removed(&at("s3://bucket"), false).await;
    assert!(gone.is_place_gone && gone.failed == 0, "{gone:?}");
    assert_eq!(raw.status("").await, 404);
    let again = Removal::of(&at("s3://bucket")).unwrap().run(false, &mut |_, _| {}).await;
    assert!(matches!(again, Err(Error::NotFound)), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_asks_for_the_buckets_name() {
    let Some(server) = RealServer::start(Kind::Moto, "bucket").await else { return };
    let raw = Raw::of(server.url(), "bucket");
    raw.send(reqwest::Method::PUT, "/tool/index.json", "{}").await;
    raw.send(reqwest::Method::PUT, "/notes.txt", "of somebody").await;
    let home = tempfile::tempdir().unwrap();
    let variables = [
        ("HOLDFAST__STORAGE__URL", "s3://bucket"),
        ("HOLDFAST__STORAGE__ENDPOINT", server.url()),
        ("HOLDFAST__STORAGE__REGION", "us-east-1"),
        ("HOLDFAST__STORAGE__ACCESS_KEY_ID", CREDENTIALS.0),
        ("HOLDFAST__STORAGE__SECRET_ACCESS_KEY", CREDENTIALS.1),
    ];
    for (arguments, why) in [
        (&["remove-storage", "--yes", "bucket"][..], "notes.txt"),
        (&["remove-storage", "--with-foreign"], "--yes bucket"),
        (&["remove-storage", "--with-foreign", "--yes", "other"], "nothing was done"),
    ] {
        let refused = run(home.path(), arguments, &variables).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{arguments:?}: {said}");
        assert_eq!(raw.status("/tool/index.json").await, 200);
    }
    let done = run(home.path(), &["remove-storage", "--with-foreign", "--yes", "bucket", "--json"], &variables).await;
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["objects"], &report["is_place_gone"]), (&json!(2), &json!(true)));
    // The record of events is gone with it.
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(log.contains("the store is being emptied and removed") && log.contains("s3://bucket"), "{log}");
    assert_eq!(raw.status("").await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_versions_is_emptied_and_its_bucket_remains() {
    let server = ObjectServer::start("bucket");
    let place = location(&server, "s3://bucket");
    let store = Store::at(&place).unwrap();
    for number in 0..25 {
        let key = keys::packument(&format!("tool-{number}").parse().unwrap());
        store.put(&key, "{}".into(), Durability::Synced).await.unwrap();
    }
    server.set_page(10);
    assert_eq!(removed(&place, true).await.objects, 25);
    let done = removed(&place, false).await;
    assert_eq!((done.objects, done.failed, done.is_place_gone), (25, 0, false), "{done:?}");
    assert!(done.place_remains.is_some());
    assert!(server.snapshot().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_goes_when_no_server_runs_and_nothing_foreign_is_in_it() {
    let mut server = Settings::alone().start().await;
    let _token = server.http().create_user("ann", "correct horse battery").await;
    let home = tempfile::tempdir().unwrap();
    let data = server.data().display().to_string();
    let remove = ["remove-storage", "--data", &data, "--yes", &data];
    let refused = run(home.path(), &remove, &[]).await;
    assert!(!refused.status.success(), "a server runs there");
    server.stop().await;
    std::fs::write(server.data().join("notes.txt"), "of somebody").unwrap();
    let refused = run(home.path(), &remove, &[]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("notes.txt"));
    std::fs::remove_file(server.data().join("notes.txt")).unwrap();
    let counted = run(home.path(), &["remove-storage", "--data", &data, "--dry-run"], &[]).await;
    assert!(counted.status.success() && server.data().join("-/users").is_dir());
    let done = run(home.path(), &remove, &[]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!server.data().exists());
    // A second time there is nothing to remove, and nothing is made.
    assert!(!run(home.path(), &remove, &[]).await.status.success());
    assert!(!server.data().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_addresses_are_put_below_another_registry_and_nothing_else_changes() {
    let codebox = everything(&Upstream::with_fixtures()).await;
    let server = ObjectServer::start("bucket");
    let store = Store::at(&location(&server, "s3://bucket")).unwrap();
    for (key, bytes) in codebox.objects() {
        let name = key.strip_suffix("/index.json").and_then(|name| name.parse().ok());
        let Some(key) = name.map(|name| keys::packument(&name)) else { continue };
        store.create(&key, bytes.clone().into()).await.unwrap();
    }
    let damaged = keys::packument(&"damaged".parse().unwrap());
    store.create(&damaged, "{".into()).await.unwrap();
    let base = "https://npm.acme.example/registry";
    let dry = relocate(&store, base, true, |_, _| {}).await.unwrap();
    assert_eq!(dry.unreadable.first, ["damaged/index.json"]);
    assert!(dry.documents > 0 && dry.unchanged > 0, "{dry:?}");
    let done = relocate(&store, base, false, |_, _| {}).await.unwrap();
    assert_eq!((done.documents, done.addresses), (dry.documents, dry.addresses));
    assert_eq!(relocate(&store, base, false, |_, _| {}).await.unwrap().documents, 0);

    for name in ["old-tool", "@acme/old"] {
        let stored = store.read(&keys::packument(&name.parse().unwrap())).await.unwrap();
        let mut after: Value = serde_json::from_slice(&stored).unwrap();
        let before = codebox.document(name);
        for (number, version) in after["versions"].as_object_mut().unwrap() {
            let short = name.rsplit('/').next().unwrap();
            assert_eq!(version["dist"]["tarball"], format!("{base}/{name}/-/{short}-{number}.tgz"));
            version["dist"]["tarball"] = before["versions"][number]["dist"]["tarball"].clone();
        }
        assert_eq!(after, before, "{name}");
    }
    // A copy of a public package has its tarballs there.
    let copy = store.read(&keys::packument(&"left".parse().unwrap())).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&copy).unwrap(), codebox.document("left"));
}

/// What Lambda answers to a look at a function's settings, and to a change of them.
async fn lambda(variables: Value) -> (String, tokio::task::JoinHandle<Vec<(String, Value)>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut function = json!({ "Environment": { "Variables": variables }, "RevisionId": "r1", "Timeout": 29 });
        while seen.len() < 2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let (head, body) = loop {
                let mut piece = [0; 4096];
                let length = stream.read(&mut piece).await.unwrap();
                text.extend_from_slice(&piece[..length]);
                let so_far = String::from_utf8_lossy(&text).into_owned();
                let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
                let wanted =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= wanted.unwrap_or(0) {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let sent: Value = serde_json::from_str(&body).unwrap_or_default();
            if sent.is_object() {
                assert_eq!(sent["RevisionId"], function["RevisionId"], "a change without its condition");
                function["Environment"] = sent["Environment"].clone();
            }
            let body = function.to_string();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            seen.push((head, sent));
        }
        seen
    });
    (url, answering)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_functions_address_is_set_and_its_other_variables_stay() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("data")).unwrap();
    for (variables, changed, value) in [
        (
            json!({ "bucket": "b", "apiEndpoint": "https://old/registry" }),
            "apiEndpoint",
            "https://npm.acme.example/registry",
        ),
        (json!({ "bucket": "b" }), "HOLDFAST__SERVER__PUBLIC_URL", "https://npm.acme.example/registry/"),
    ] {
        let (url, answering) = lambda(variables.clone()).await;
        let arguments = [
            "migrate",
            "--from-store",
            "data",
            "--to",
            "https://npm.acme.example/registry/",
            "--stage",
            "prod",
            "--lambda-endpoint",
            &url,
            "--json",
        ];
        let aws = [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        let done = run(home.path(), &arguments, &aws).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((&report["function"]["variable"], &report["function"]["after"]), (&json!(changed), &json!(value)));
        let seen = answering.await.unwrap();
        assert!(seen[0].0.starts_with("GET /2015-03-31/functions/codebox-npm-prod-put/configuration"), "{}", seen[0].0);
        assert!(
            seen[1].0.starts_with("PUT ") && seen[1].0.contains("/eu-central-1/lambda/aws4_request"),
            "{}",
            seen[1].0
        );
        let mut wanted = variables;
        wanted[changed] = json!(value);
        assert_eq!(seen[1].1["Environment"]["Variables"], wanted);
    }
}
