//! `holdfast encrypt`: what lay unencrypted in a bucket is encrypted, nothing else about it changes, and no newer write is
//! undone.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::maintenance::{Encryption, EncryptionReport, encrypt};
use holdfast::storage::{self, BucketSettings, Durability, Existing, Location, Store};
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::bucket::{bucket, location, variables};
use crate::support::maintenance::{LOOK, findings};
use crate::support::object_server::{Fault, Gate, Misbehaviour, Object, ObjectServer, Operation};
use crate::support::real_servers::{Kind, RealServer};
use crate::support::server::program;
use crate::support::tarballs::Tarball;

const ADDRESS: &str = "s3://bucket/registry";
const KIND: &str = "x-amz-server-side-encryption";
const KEY: &str = "arn:aws:kms:eu-west-1:1:key/2";

fn store(url: &str, encryption: storage::Encryption) -> Store {
    let kms_key = (encryption == storage::Encryption::Kms).then(|| KEY.to_owned());
    let cache_class = Some("ONEZONE_IA".to_owned());
    let settings = BucketSettings { encryption, kms_key, cache_class, ..bucket(url, ADDRESS) };
    Store::at(&Location::Bucket(Box::new(settings))).unwrap()
}

/// A registry in the bucket, with a cached object of another class and a foreign one.
async fn furnish(plain: &Store) {
    let name = "left".parse().unwrap();
    let mut upload = plain.upload().await.unwrap();
    upload.write("a tarball of an upstream".into()).await.unwrap();
    let key = keys::cached_tarball("default", &name, &"1.0.0".parse().unwrap());
    upload.keep(&key, Existing::Refuse, Durability::Synced).await.unwrap();
    let odd = keys::legacy_tarball(&name, "1.0.0 \u{e4}+'%2f").unwrap();
    plain.put(&odd, "an older system's".into(), Durability::Synced).await.unwrap();
}

async fn run(store: &Store, dry_run: bool) -> EncryptionReport {
    encrypt(store, dry_run, |_, failure| assert_eq!(failure, None)).await.unwrap()
}

fn encryption(object: &Object) -> Option<&str> {
    object.headers.get(KIND).map(|value| value.to_str().unwrap())
}

/// All that an encryption must leave as it is. Of what is written under a condition, the names of writes go on.
fn kept(objects: &BTreeMap<String, Object>) -> BTreeMap<&str, (&[u8], Vec<String>)> {
    let about = |object: &Object| {
        let mut headers: Vec<String> = object
            .headers
            .iter()
            .filter(|(name, _)| !name.as_str().starts_with(KIND) && *name != "x-amz-meta-holdfast-writes")
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        headers
    };
    objects.iter().map(|(key, object)| (key.as_str(), (&*object.bytes, about(object)))).collect()
}

#[tokio::test]
async fn every_object_is_encrypted_once_and_stays_what_it_is() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0"]).await;
    let by_s3 = store(server.url(), storage::Encryption::S3);
    furnish(&store(server.url(), storage::Encryption::Bucket)).await;
    let before = server.snapshot();
    let count = before.len() as u64;
    assert!(count >= 7 && before.values().all(|object| encryption(object).is_none()));

    let would = run(&by_s3, true).await;
    assert_eq!((would.objects, would.already, would.encrypted), (count, 0, count));
    assert_eq!(server.snapshot(), before);
    server.take_calls();
    let done = run(&by_s3, false).await;
    assert_eq!(EncryptionReport { dry_run: true, ..done }, would);
    let after = server.snapshot();
    assert!(after.values().all(|object| encryption(object) == Some("AES256")), "{after:#?}");
    assert_eq!(kept(&after), kept(&before));
    let tarballs = |operation| {
        let is_tarball = |key: &str| key.contains(".tgz");
        server.calls().iter().filter(|call| call.operation == operation && is_tarball(&call.key)).count()
    };
    assert_eq!((tarballs(Operation::Copy), tarballs(Operation::Get)), (4, 0), "their bytes stay where they are");
    let names = |objects: &BTreeMap<String, Object>, key: &str| {
        objects[key].headers["x-amz-meta-holdfast-writes"].to_str().unwrap().to_owned()
    };
    let document = "registry/@acme/tool/index.json";
    assert!(names(&after, document).ends_with(&names(&before, document)), "earlier writes stay known");

    let again = run(&by_s3, false).await;
    assert_eq!((again.already, again.encrypted), (count, 0));
    assert_eq!(server.snapshot(), after);
    // To a key of KMS, and the registry works on.
    let by_kms = store(server.url(), storage::Encryption::Kms);
    assert_eq!(run(&by_kms, false).await.encrypted, count);
    let after = server.snapshot();
    assert!(after.values().all(|object| object.headers[format!("{KIND}-aws-kms-key-id")] == KEY));
    assert_eq!(run(&by_kms, false).await.already, count);
    alice.publish_versions("@acme/tool", &["2.0.0"]).await;
    let problems = findings(&by_kms, &Clock::default(), LOOK).await;
    assert_eq!(problems.len(), 1, "the older system's tarball has no document: {problems:?}");
}

#[tokio::test]
async fn a_write_meanwhile_is_not_undone() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    let gate = Gate::closed();
    let is_write = |operation, key: &str| operation == Operation::ConditionalPut && key.ends_with("tool/index.json");
    server.misbehave(Fault::new(Misbehaviour::Hold(gate.clone())).when(is_write).times(1));
    let by_s3 = store(server.url(), storage::Encryption::S3);
    let encrypting = tokio::spawn(async move { run(&by_s3, false).await });
    server.wait_for(move |calls| calls.iter().any(|call| is_write(call.operation, &call.key) && call.is_faulty)).await;
    alice.publish_versions("tool", &["1.1.0"]).await;
    gate.open();
    encrypting.await.unwrap();
    assert_eq!(alice.document("tool").await["dist-tags"], json!({ "latest": "1.1.0" }));
    assert_eq!(encryption(&server.snapshot()["registry/tool/index.json"]), Some("AES256"));
}

#[tokio::test]
async fn what_cannot_be_encrypted_is_told_and_the_rest_is_done() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    app.user("alice").await.publish_versions("tool", &["1.0.0", "1.1.0"]).await;
    let by_s3 = store(server.url(), storage::Encryption::S3);
    let is_copy = |operation, key: &str| operation == Operation::Copy && key.contains("/1.0.0-");
    server.misbehave(Fault::new(Misbehaviour::Refuse(403)).when(is_copy));
    let mut failures = Vec::new();
    let report = encrypt(&by_s3, false, |_, failure| failures.extend(failure.cloned())).await.unwrap();
    assert_eq!((report.failed, report.encrypted, failures.len()), (1, report.objects - 1, 1), "{failures:?}");
    assert!(failures[0].key.starts_with("-/tarballs/tool/1.0.0-"), "{failures:?}");
    server.behave();
    assert_eq!(run(&by_s3, false).await.encrypted, 1);
    // The second half of a copy that breaks off, and a connection that closes.
    for misbehaviour in [Misbehaviour::HangUp, Misbehaviour::CutBodyAfter(10), Misbehaviour::ApplyAndHangUp] {
        let by_kms = store(server.url(), storage::Encryption::Kms);
        server.misbehave(Fault::new(misbehaviour).on(Operation::Copy));
        let report = encrypt(&by_kms, false, |_, _| {}).await.unwrap();
        assert_eq!(report.objects, report.already + report.encrypted + report.failed);
        server.behave();
        assert_eq!(run(&by_kms, false).await.failed, 0);
        run(&by_s3, false).await;
    }
}

#[tokio::test]
async fn it_works_over_moto() {
    let Some(moto) = RealServer::start(Kind::Moto, "bucket").await else { return };
    let plain = store(moto.url(), storage::Encryption::Bucket);
    furnish(&plain).await;
    let document = keys::packument(&"tool".parse().unwrap());
    plain.create(&document, "{}".into()).await.unwrap();
    let tarball = keys::tarball(&"tool".parse().unwrap(), &"1.0.0".parse().unwrap(), "0a");
    let bytes = Tarball::new("tool", "1.0.0").bytes();
    plain.put(&tarball, bytes.clone().into(), Durability::Synced).await.unwrap();
    let by_kms = store(moto.url(), storage::Encryption::Kms);
    let would = run(&by_kms, true).await;
    let done = run(&by_kms, false).await;
    assert!(done.encrypted >= 4 && done.encrypted == would.encrypted, "{done:?} {would:?}");
    let again = run(&by_kms, false).await;
    assert_eq!((again.already, again.encrypted), (again.objects, 0));
    let found = by_kms.kept(&tarball).await.unwrap();
    assert_eq!((found.encryption.as_deref(), found.kms_key.as_deref()), (Some("aws:kms"), Some(KEY)));
    assert!(by_kms.read(&tarball).await.unwrap() == bytes);
    assert_eq!(by_kms.read(&document).await.unwrap(), "{}");
}

#[tokio::test]
async fn where_there_is_nothing_to_do_it_with_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Store::open(folder.path()).unwrap();
    assert!(matches!(encrypt(&directory, true, |_, _| {}).await, Err(Encryption::Directory)));
    let server = ObjectServer::start("bucket");
    let left = Store::at(&location(&server, ADDRESS)).unwrap();
    assert!(matches!(encrypt(&left, true, |_, _| {}).await, Err(Encryption::LeftToTheBucket)));
    drop(directory);

    let (code, _, why) = command(folder.path(), &["--data", "."], Vec::new()).await;
    assert_eq!(code, Some(1));
    assert!(why.contains("by its disk or its file system"), "{why}");
    left.put(&keys::waivers(), "{}".into(), Durability::Synced).await.unwrap();
    let mut variables = variables(&server, ADDRESS);
    variables.push(("HOLDFAST__STORAGE__ENCRYPTION", "AES256".to_owned()));
    let (code, report, why) = command(folder.path(), &[], variables).await;
    assert_eq!(code, Some(0), "{why}");
    assert!(report.contains("0 are not."), "{report}");
    assert!(server.snapshot().values().all(|object| encryption(object) == Some("AES256")));
}

async fn command(
    folder: &Path,
    arguments: &[&str],
    variables: Vec<(&'static str, String)>,
) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    command.arg("encrypt").args(arguments).current_dir(folder).env_clear().env("HOME", folder).envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
