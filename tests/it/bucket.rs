//! A store over a bucket whose server answers wrongly, late or not at all. What every store must do is in
//! `storage_contract.rs`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use holdfast::clock::Clock;
use holdfast::keys::{self, Key};
use holdfast::maintenance::{CacheLimits, Code, GRACE, Look, Plan, Wish, backup, copy, foreign_objects, gc, verify};
use holdfast::storage::{
    BucketSettings, ByteRange, Change, Durability, Error, Existing, Known, Location, Removal, Store, UpdateError,
};

use crate::support::bucket::{bucket, location};
use crate::support::object_server::{Fault, Misbehaviour, ObjectServer, Operation};
use crate::support::real_servers::{Kind, RealServer};

fn key() -> Key {
    keys::packument(&"counter".parse().unwrap())
}

/// A store whose conditions are known to be kept, so that what follows is about other requests.
async fn store(server: &ObjectServer) -> Store {
    let store = Store::at(&location(server, "s3://bucket")).unwrap();
    store.require_conditions().await.unwrap();
    store
}

fn is_of_key(_: Operation, key: &str) -> bool {
    key.ends_with("counter/index.json")
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that an update wants")]
fn increment(stored: Option<Bytes>) -> Result<Change<u32>, Infallible> {
    let number = stored.map_or(0, |bytes| std::str::from_utf8(&bytes).unwrap().parse::<u32>().unwrap()) + 1;
    Ok(Change::Write(number.to_string().into(), number))
}

fn is_write(operation: Operation, key: &str) -> bool {
    operation == Operation::ConditionalPut && is_of_key(operation, key)
}

/// What a server may answer though it has done the write, or though it has not.
fn unclear() -> Vec<(Misbehaviour, bool)> {
    vec![
        (Misbehaviour::ApplyAndAnswer(500), true),
        (Misbehaviour::ApplyAndAnswer(503), true),
        (Misbehaviour::ApplyAndAnswer(409), true),
        (Misbehaviour::ApplyAndAnswer(412), true),
        (Misbehaviour::ApplyAndHangUp, true),
        (Misbehaviour::ApplyAndStall, true),
        (Misbehaviour::Refuse(500), false),
        (Misbehaviour::Refuse(503), false),
        (Misbehaviour::Refuse(409), false),
        (Misbehaviour::Refuse(412), false),
        (Misbehaviour::HangUp, false),
        (Misbehaviour::Stall, false),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_is_unclear_is_made_once() {
    for (misbehaviour, _) in unclear() {
        for times in [1, 2] {
            let server = ObjectServer::start("bucket");
            let store = store(&server).await;
            assert_eq!(store.update(&key(), increment).await.unwrap(), 1);
            server.misbehave(Fault::new(misbehaviour.clone()).when(is_write).times(times));
            assert_eq!(store.update(&key(), increment).await.unwrap(), 2, "{misbehaviour:?} {times} times");
            assert_eq!(store.read(&key()).await.unwrap(), "2", "{misbehaviour:?} {times} times");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_whose_answer_is_unclear_has_one_winner() {
    for (misbehaviour, _) in unclear() {
        let server = ObjectServer::start("bucket");
        let store = store(&server).await;
        server.misbehave(Fault::new(misbehaviour.clone()).when(is_write).times(1));
        store.create(&key(), "first".into()).await.unwrap_or_else(|error| panic!("{misbehaviour:?}: {error}"));
        server.misbehave(Fault::new(misbehaviour.clone()).when(is_write).times(1));
        let second = store.create(&key(), "first".into()).await;
        assert!(matches!(second, Err(Error::Exists)), "{misbehaviour:?}: {second:?}");
        assert_eq!(store.read(&key()).await.unwrap(), "first");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_others_wrote_over_before_it_was_answered_was_made() {
    let server = ObjectServer::start("bucket");
    let (one, other) = (store(&server).await, store(&server).await);
    one.update(&key(), increment).await.unwrap();
    // Our write is done, and its answer is lost; before we look, somebody else writes ten times.
    server.misbehave(Fault::new(Misbehaviour::ApplyAndStall).when(is_write).times(1));
    let ours = tokio::spawn(async move { one.update(&key(), increment).await });
    server.wait_for(|calls| calls.iter().any(|call| call.is_faulty && call.is_applied)).await;
    for _ in 0..10 {
        other.update(&key(), increment).await.unwrap();
    }
    assert_eq!(ours.await.unwrap().unwrap(), 2);
    assert_eq!(other.read(&key()).await.unwrap(), "12");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_many_processes_in_a_storm_are_all_counted() {
    let server = ObjectServer::start("bucket");
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(store(&server).await);
    }
    for (number, misbehaviour) in [
        Misbehaviour::ApplyAndAnswer(500),
        Misbehaviour::Refuse(409),
        Misbehaviour::ApplyAndAnswer(412),
        Misbehaviour::ApplyAndHangUp,
        Misbehaviour::Refuse(503),
        Misbehaviour::Delay(Duration::from_millis(20)),
    ]
    .into_iter()
    .enumerate()
    {
        server.misbehave(Fault::new(misbehaviour).when(is_write).after(1 + 9 * number).times(2));
    }
    let tasks = (0..9).map(|number: usize| {
        let store = stores[number % 3].clone();
        tokio::spawn(async move {
            for _ in 0..6 {
                store.update(&key(), increment).await.unwrap();
            }
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(stores[0].read(&key()).await.unwrap(), "54");
}

#[tokio::test]
async fn a_store_that_is_down_fails_within_its_time_and_is_used_again_when_it_is_back() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    store.update(&key(), increment).await.unwrap();
    server.misbehave(Fault::new(Misbehaviour::Refuse(503)));
    assert!(matches!(store.update(&key(), increment).await, Err(UpdateError::Store(Error::Unavailable(_)))));
    assert!(matches!(store.read(&key()).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.probe().await, Err(Error::Unavailable(_))));
    server.behave();
    assert_eq!(store.update(&key(), increment).await.unwrap(), 2);
}

#[tokio::test]
async fn missing_rights_are_told_as_such() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    server.misbehave(Fault::new(Misbehaviour::Refuse(403)));
    assert!(matches!(store.read(&key()).await, Err(Error::Denied(_))));
    assert!(matches!(store.create(&key(), "x".into()).await, Err(Error::Denied(_))));
    server.behave();
    // Without the right to list, what is not there looks like what is forbidden: never like an absent package.
    server.misbehave(Fault::new(Misbehaviour::HideMissing));
    assert!(matches!(store.read(&key()).await, Err(Error::Denied(_))));
}

#[tokio::test]
async fn the_trial_of_conditional_writes_is_made_once_for_a_bucket() {
    let server = ObjectServer::start("bucket");
    store(&server).await;
    let first = server.take_calls();
    assert!(first.iter().any(|call| call.key.contains("-/store/trial-")), "{first:?}");
    assert!(!server.snapshot().keys().any(|key| key.contains("trial")), "the trial left something behind");
    store(&server).await;
    let second = server.take_calls();
    assert_eq!(second.len(), 1, "{second:?}");
    assert_eq!(second[0].operation, Operation::Get);
    // A bucket that was copied to another store brings a verdict along that says nothing of it.
    let other = ObjectServer::start("bucket");
    let settings = BucketSettings { path_style: Some(true), ..bucket(other.url(), "s3://bucket") };
    let elsewhere = Store::at(&Location::Bucket(Box::new(settings))).unwrap();
    let verdict = Bytes::from("conditional writes are kept by another store\n");
    elsewhere.put(&keys::store_conditions(), verdict, Durability::Synced).await.unwrap();
    other.misbehave(Fault::new(Misbehaviour::IgnoreConditions));
    assert!(matches!(elsewhere.require_conditions().await, Err(Error::Unconditional(_))));
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_and_taken_for_one_writer() {
    for misbehaviour in [Misbehaviour::IgnoreConditions, Misbehaviour::StripMetadata] {
        let server = ObjectServer::start("bucket");
        server.misbehave(Fault::new(misbehaviour.clone()));
        let many = Store::at(&location(&server, "s3://bucket")).unwrap();
        assert!(matches!(many.require_conditions().await, Err(Error::Unconditional(_))), "{misbehaviour:?}");
        assert!(matches!(many.create(&key(), "x".into()).await, Err(Error::Unconditional(_))), "{misbehaviour:?}");
        assert!(server.snapshot().is_empty(), "{:?}", server.snapshot().keys());
        let settings = BucketSettings { single_writer: true, ..bucket(server.url(), "s3://bucket") };
        let alone = Store::at(&Location::Bucket(Box::new(settings))).unwrap();
        let tasks = (0..8).map(|_| {
            let store = alone.clone();
            tokio::spawn(async move { store.update(&key(), increment).await.unwrap() })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        assert_eq!(alone.read(&key()).await.unwrap(), "8", "{misbehaviour:?}");
        assert!(matches!(alone.create(&key(), "x".into()).await, Err(Error::Exists)));
    }
}

#[tokio::test]
async fn the_trial_takes_trouble_for_trouble_and_not_for_a_verdict() {
    for misbehaviour in [
        Misbehaviour::ApplyAndAnswer(500),
        Misbehaviour::Refuse(409),
        Misbehaviour::Refuse(503),
        Misbehaviour::ApplyAndHangUp,
    ] {
        for skip in 0..5 {
            let server = ObjectServer::start("bucket");
            let is_trial = |_: Operation, key: &str| key.contains("trial");
            server.misbehave(Fault::new(misbehaviour.clone()).when(is_trial).after(skip).times(1));
            let store = Store::at(&location(&server, "s3://bucket")).unwrap();
            store.require_conditions().await.unwrap_or_else(|error| panic!("{misbehaviour:?} {skip}: {error}"));
        }
    }
}

fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stalls_is_taken_up_where_it_ended() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    let whole = body(3_000_000);
    store.put(&key(), whole.clone(), Durability::Synced).await.unwrap();
    for misbehaviour in [Misbehaviour::CutBodyAfter(700_000), Misbehaviour::StallBodyAfter(700_000)] {
        server.misbehave(Fault::new(misbehaviour.clone()).when(is_of_key).times(3));
        let download = store.open_object(&key()).await.unwrap();
        let read = download.stream_all().try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(read.len(), whole.len(), "{misbehaviour:?}");
        assert_eq!(read, whole, "{misbehaviour:?}");
        server.behave();
        let part = ByteRange { start: 1_000_001, end: 2_000_003 };
        server.misbehave(Fault::new(misbehaviour.clone()).when(is_of_key).after(1).times(2));
        let download = store.open_object(&key()).await.unwrap();
        let read = download.stream(part).try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(read, whole[1_000_001..2_000_003], "{misbehaviour:?}");
        server.behave();
    }
}

#[tokio::test]
async fn a_body_is_never_put_together_of_two_objects() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    store.put(&key(), body(3_000_000), Durability::Synced).await.unwrap();
    server.misbehave(Fault::new(Misbehaviour::CutBodyAfter(700_000)).when(is_of_key).times(1));
    let download = store.open_object(&key()).await.unwrap();
    store.put(&key(), vec![7; 3_000_000].into(), Durability::Synced).await.unwrap();
    let outcome = download.stream_all().try_collect::<Vec<_>>().await;
    assert!(outcome.is_err(), "{:?}", outcome.map(|pieces| pieces.len()));
}

#[tokio::test]
async fn a_large_upload_goes_in_parts_and_leaves_nothing_behind_when_it_fails() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    let whole = body(20 << 20);
    let uploaded = async || {
        let mut upload = store.upload().await.unwrap();
        for start in (0..whole.len()).step_by(1 << 20) {
            upload.write(whole.slice(start..(start + (1 << 20)).min(whole.len()))).await.unwrap();
        }
        upload
    };
    server.misbehave(Fault::new(Misbehaviour::Refuse(500)).on(Operation::UploadPart).after(1));
    assert!(uploaded().await.keep(&key(), Existing::Refuse, Durability::Synced).await.is_err());
    server.behave();
    assert!(server.open_uploads().is_empty(), "{:?}", server.open_uploads());
    assert!(matches!(store.read(&key()).await, Err(Error::NotFound)));
    // The answer to the last step is lost.
    server.misbehave(Fault::new(Misbehaviour::ApplyAndAnswer(500)).on(Operation::CompleteMultipart).times(1));
    uploaded().await.keep(&key(), Existing::Refuse, Durability::Synced).await.unwrap();
    server.behave();
    assert_eq!(store.read(&key()).await.unwrap(), whole);
    let again = uploaded().await.keep(&key(), Existing::Refuse, Durability::Synced).await;
    assert!(matches!(again, Err(Error::Exists)), "{again:?}");
    assert!(server.open_uploads().is_empty());
}

#[tokio::test]
async fn objects_are_encrypted_and_cached_ones_have_their_class() {
    use holdfast::storage::Encryption;
    let server = ObjectServer::start("bucket");
    let settings = BucketSettings {
        encryption: Encryption::Kms,
        kms_key: Some("arn:aws:kms:eu-west-1:1:key/2".to_owned()),
        cache_class: Some("ONEZONE_IA".to_owned()),
        ..bucket(server.url(), "s3://bucket")
    };
    let store = Store::at(&Location::Bucket(Box::new(settings))).unwrap();
    store.create(&key(), "{}".into()).await.unwrap();
    let cached = keys::cached_absence("default", &"absent".parse().unwrap());
    store.put(&cached, "{}".into(), Durability::Cache).await.unwrap();
    let header = |key: &Key, name: &str| {
        let calls = server.calls();
        let call = calls.iter().find(|call| call.key.ends_with(key.as_str()) && call.body_length > 0).unwrap();
        call.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for key in [&key(), &cached] {
        assert_eq!(header(key, "x-amz-server-side-encryption").as_deref(), Some("aws:kms"));
        assert_eq!(
            header(key, "x-amz-server-side-encryption-aws-kms-key-id").as_deref(),
            Some("arn:aws:kms:eu-west-1:1:key/2")
        );
        assert_eq!(header(key, "content-type").as_deref(), Some("application/json"));
    }
    assert_eq!(header(&cached, "x-amz-storage-class").as_deref(), Some("ONEZONE_IA"));
    assert_eq!(header(&key(), "x-amz-storage-class"), None);
}

#[tokio::test]
async fn a_state_that_was_seen_is_not_sent_again() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    store.create(&key(), "one".into()).await.unwrap();
    let seen = store.snapshot(&key()).await.unwrap();
    assert!(store.snapshot_unless(&key(), Some(&seen.stamp), 100).await.unwrap().is_none());
    store.put(&key(), "two".into(), Durability::Synced).await.unwrap();
    assert_eq!(store.snapshot_unless(&key(), Some(&seen.stamp), 100).await.unwrap().unwrap().bytes, "two");
    assert!(matches!(store.snapshot_unless(&key(), None, 2).await, Err(Error::TooLarge)));
    store.delete(&key()).await.unwrap();
    assert!(matches!(store.snapshot_unless(&key(), Some(&seen.stamp), 100).await, Err(Error::NotFound)));
    assert!(matches!(store.delete(&key()).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_link_reads_one_object_without_credentials_and_ends() {
    let server = ObjectServer::start("bucket");
    let store = store(&server).await;
    store.create(&key(), "linked".into()).await.unwrap();
    let link = store.reading_link(&key(), Duration::from_mins(1)).await.unwrap().unwrap();
    let got = reqwest::get(link.clone()).await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.bytes().await.unwrap(), "linked");
    server.move_clock(Duration::from_secs(90));
    assert_eq!(reqwest::get(link).await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_on_top_is_not_taken_for_our_own() {
    let server = ObjectServer::start("bucket");
    let (one, other) = (store(&server).await, store(&server).await);
    let (_, known) = one.update_from(&key(), Known::Nothing, increment).await.unwrap();
    assert_eq!(known.as_ref().unwrap().bytes, "1");
    // Our write is done and answered late; before we look, somebody else writes.
    server.misbehave(Fault::new(Misbehaviour::ApplyAndStall).when(is_write).times(1));
    let ours = tokio::spawn({
        let one = one.clone();
        async move { one.update_from(&key(), Known::State(known.unwrap()), increment).await }
    });
    server.wait_for(|calls| calls.iter().any(|call| call.is_faulty && call.is_applied)).await;
    other.update(&key(), increment).await.unwrap();
    let (number, known) = ours.await.unwrap().unwrap();
    assert_eq!(number, 2);
    assert!(known.is_none(), "our bytes would go under the others' state: {known:?}");
    // Begun from there, as a registry does, the next change keeps all that were made.
    let (number, _) = one.update_from(&key(), Known::Nothing, increment).await.unwrap();
    assert_eq!(number, 4);
    // What is taken for absent and is not, is found out.
    let (number, _) = other.update_from(&key(), Known::Absent, increment).await.unwrap();
    assert_eq!(number, 5);
}

/// What others may have written into a bucket, under keys that no file system and no path could have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_no_paths_are_told_as_foreign_and_stop_nothing() {
    let Some(server) = RealServer::start(Kind::Moto, "bucket").await else { return };
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let put = async |key: &str| {
        let path = key.split('/').map(|part| part.replace('.', "%2E")).collect::<Vec<_>>().join("/");
        let signed =
            "AWS4-HMAC-SHA256 Credential=S3RVER/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";
        let sent = http.put(format!("{}/bucket/registry/{path}", server.url())).header("authorization", signed);
        sent.body("of somebody").send().await.unwrap().error_for_status().unwrap();
    };
    let place = Location::Bucket(Box::new(bucket(server.url(), "s3://bucket/registry")));
    let store = Store::at(&place).unwrap();
    let tool = keys::packument(&"tool".parse().unwrap());
    store.create(&tool, "{}".into()).await.unwrap();
    for key in ["a//b", "tool//1.0.0.tgz", "folder/", "c%01d", "-/tarballs//x.tgz", "notes.txt"] {
        put(key).await;
    }
    let listed = async |store: &Store| {
        let (mut listed, mut keys) = (store.list(), Vec::new());
        while let Some(key) = listed.recv().await {
            keys.push(key.unwrap().to_string());
        }
        keys.sort();
        keys
    };
    let found = listed(&store).await;
    assert!(found.contains(&"tool/index.json".to_owned()) && found.contains(&"a/%/b".to_owned()), "{found:?}");

    let mut foreign = Vec::new();
    let look = Look { content: true, repair: true, grace: GRACE };
    let checked = verify(&store, &Clock::default(), look, |_, finding| foreign.extend(finding.cloned())).await.unwrap();
    assert!(checked.problems + checked.leftovers > 0, "{checked:?}");
    assert!(foreign.iter().any(|finding| finding.key == "a/%/b" && finding.code == Code::ForeignObject), "{foreign:?}");
    let plan =
        Plan { dry_run: false, grace: GRACE, cache: CacheLimits::default(), set_aside: true, retention: Vec::new() };
    gc(&store, &Clock::default(), &plan, |_, _| {}).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let copied = Store::open(&folder.path().join("copy")).unwrap();
    let report = copy(&store, &copied, &Clock::default(), Wish::default(), |_, _| {}).await.unwrap();
    assert!(report.foreign >= 3, "{report:?}");
    assert!(listed(&copied).await.contains(&"tool/index.json".to_owned()));
    let archive = folder.path().join("all.tar.zst");
    backup::into_archive(&store, &archive, &Clock::default(), Wish::default(), |_, _| {}).await.unwrap();
    backup::verify_archive(&archive, |_, _| {}).await.unwrap();
    assert!(!foreign_objects(&store).await.unwrap().is_empty());
    let removed = Removal::of(&place).unwrap().run(false, &mut |_, _| {}).await.unwrap();
    assert_eq!(removed.failed, 0, "{removed:?}");
    assert!(listed(&store).await.is_empty());
}
