//! The S3 server of the tests: that the client which the program uses sees what it promises, good and bad.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::object_server::Operation::{
    AbortMultipart, BulkDelete, CompleteMultipart, ConditionalGet, ConditionalPut, CreateMultipart, Get, Head, List,
    Put, UploadPart,
};
use crate::support::object_server::{Call, Fault, Gate, Misbehaviour, ObjectServer, Operation};
use crate::support::upstream::noise;

fn settings(server: &ObjectServer) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(server.url())
        .with_bucket_name(server.bucket())
        .with_allow_http(true)
        .with_region("eu-test-1")
        .with_access_key_id("test")
        .with_secret_access_key("secret")
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
}

fn client(server: &ObjectServer) -> AmazonS3 {
    settings(server).build().unwrap()
}

fn start() -> (ObjectServer, AmazonS3) {
    let server = ObjectServer::start("packages");
    let client = client(&server);
    (server, client)
}

fn path(key: &str) -> Path {
    Path::parse(key).unwrap()
}

async fn put(client: &AmazonS3, key: &str, bytes: &'static str) -> String {
    client.put(&path(key), bytes.into()).await.unwrap().e_tag.unwrap()
}

async fn create(client: &AmazonS3, key: &str, bytes: impl Into<PutPayload>) -> Result<(), Error> {
    client.put_opts(&path(key), bytes.into(), PutMode::Create.into()).await.map(|_| ())
}

async fn replace(client: &AmazonS3, key: &str, etag: &str, bytes: impl Into<PutPayload>) -> Result<(), Error> {
    let version = UpdateVersion { e_tag: Some(etag.to_owned()), version: None };
    client.put_opts(&path(key), bytes.into(), PutMode::Update(version).into()).await.map(|_| ())
}

async fn read(client: &AmazonS3, key: &str) -> Result<Bytes, Error> {
    client.get(&path(key)).await?.bytes().await
}

/// What was asked and how it was answered.
fn told(calls: &[Call]) -> Vec<(Operation, &str, Option<u16>)> {
    calls.iter().map(|call| (call.operation, call.key.as_str(), call.status)).collect()
}

fn bytes_of(server: &ObjectServer, key: &str) -> Option<Bytes> {
    server.snapshot().get(key).map(|object| object.bytes.clone())
}

#[tokio::test]
async fn what_was_put_is_read_with_all_that_was_said_of_it() {
    let server = ObjectServer::start("packages");
    let client = settings(&server).with_sse_kms_encryption("key/of-the-team").build().unwrap();
    let mut attributes: Attributes = [
        (Attribute::ContentType, "application/json"),
        (Attribute::ContentEncoding, "gzip"),
        (Attribute::StorageClass, "STANDARD_IA"),
        (Attribute::Metadata("origin".into()), "somewhere"),
    ]
    .into_iter()
    .collect();
    let key = "@acme/a b+c%2f\u{e9}/index.json";
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let written = client.put_opts(&path(key), "{}".into(), options).await.unwrap();

    let found = client.get(&path(key)).await.unwrap();
    assert_eq!((found.meta.e_tag.clone(), found.meta.size), (written.e_tag.clone(), 2));
    // The client sends a storage class and does not tell which one it got.
    attributes.remove(&Attribute::StorageClass);
    assert_eq!(found.attributes, attributes);
    assert_eq!(found.bytes().await.unwrap(), "{}");
    assert_eq!(client.head(&path(key)).await.unwrap().e_tag, written.e_tag);

    let object = &server.snapshot()[key];
    assert_eq!(object.headers["x-amz-storage-class"], "STANDARD_IA");
    assert_eq!(object.headers["x-amz-server-side-encryption"], "aws:kms");
    assert_eq!(object.headers["x-amz-server-side-encryption-aws-kms-key-id"], "key/of-the-team");
    let calls = server.take_calls();
    assert_eq!(told(&calls), [(Put, key, Some(200)), (Get, key, Some(200)), (Head, key, Some(200))]);
    assert!(calls.iter().all(|call| call.headers.contains_key("authorization") && !call.is_presigned));
    assert_eq!((calls[0].body_length, calls[0].is_faulty), (2, false));

    // What is encrypted with a key of one's own never has the same ETag again; what is not always has.
    assert_ne!(client.put(&path(key), "{}".into()).await.unwrap().e_tag, written.e_tag);
    let plain = self::client(&server);
    assert_eq!(put(&plain, "one", "same").await, put(&plain, "two", "same").await);

    client.delete(&path(key)).await.unwrap();
    client.delete(&path(key)).await.unwrap();
    assert!(matches!(read(&client, key).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn reads_are_conditional_and_in_ranges() {
    let (server, client) = start();
    let etag = put(&client, "text", "0123456789").await;
    let get = async |options: GetOptions| client.get_opts(&path("text"), options).await?.bytes().await;

    let unchanged = GetOptions { if_none_match: Some(etag.clone()), ..GetOptions::default() };
    assert!(matches!(get(unchanged).await, Err(Error::NotModified { .. })));
    let changed = GetOptions { if_none_match: Some("\"other\"".into()), ..GetOptions::default() };
    assert_eq!(get(changed).await.unwrap(), "0123456789");
    let other = GetOptions { if_match: Some("\"other\"".into()), ..GetOptions::default() };
    assert!(matches!(get(other).await, Err(Error::Precondition { .. })));
    let modified = client.head(&path("text")).await.unwrap().last_modified;
    let since = GetOptions { if_modified_since: Some(modified), ..GetOptions::default() };
    assert!(matches!(get(since).await, Err(Error::NotModified { .. })));
    let kinds: Vec<_> = server.take_calls().iter().map(|call| (call.operation, call.status)).collect();
    assert_eq!(
        kinds,
        [
            (Put, Some(200)),
            (ConditionalGet, Some(304)),
            (ConditionalGet, Some(200)),
            (ConditionalGet, Some(412)),
            (Head, Some(200)),
            (ConditionalGet, Some(304)),
        ]
    );

    for (range, wanted) in [
        (GetRange::Bounded(2..5), "234"),
        (GetRange::Offset(7), "789"),
        (GetRange::Suffix(2), "89"),
        (GetRange::Bounded(8..100), "89"),
    ] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        assert_eq!(get(options).await.unwrap(), wanted);
    }
    assert_eq!(server.calls().iter().map(|call| call.status).collect::<Vec<_>>(), [Some(206); 4]);
    let beyond = GetOptions { range: Some(GetRange::Offset(10)), ..GetOptions::default() };
    assert!(get(beyond).await.unwrap_err().to_string().contains("InvalidRange"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writes_that_race_one_wins() {
    let (server, client) = start();
    let client = Arc::new(client);
    for round in 0..5 {
        let key = format!("round-{round}");
        let racers = (0..16).map(|number| create(&client, &key, format!("{number}")));
        let outcomes = futures::future::join_all(racers).await;
        let winner = outcomes.iter().position(Result::is_ok).unwrap();
        assert_eq!(bytes_of(&server, &key).unwrap(), winner.to_string());
        let lost = outcomes.iter().filter(|outcome| matches!(outcome, Err(Error::AlreadyExists { .. })));
        assert_eq!(lost.count(), 15);
    }
    let calls = server.take_calls();
    assert_eq!(calls.iter().filter(|call| call.status == Some(412)).count(), 75);
    assert!(calls.iter().all(|call| call.operation == ConditionalPut && call.operation.is_write()));

    put(&client, "counter", "0").await;
    let count = async |client: Arc<AmazonS3>| {
        for _ in 0..25 {
            loop {
                let found = client.get(&path("counter")).await.unwrap();
                let etag = found.meta.e_tag.clone().unwrap();
                let number: u32 = std::str::from_utf8(&found.bytes().await.unwrap()).unwrap().parse().unwrap();
                match replace(&client, "counter", &etag, (number + 1).to_string()).await {
                    Ok(()) => break,
                    Err(Error::Precondition { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    futures::future::join_all((0..8).map(|_| count(Arc::clone(&client)))).await;
    assert_eq!(read(&client, "counter").await.unwrap(), "200");

    client.delete(&path("counter")).await.unwrap();
    server.take_calls();
    assert!(matches!(replace(&client, "counter", "\"gone\"", "1").await, Err(Error::Precondition { .. })));
    // The client makes the same error of it as of a 412.
    assert_eq!(told(&server.calls()), [(ConditionalPut, "counter", Some(404))]);
}

#[tokio::test]
async fn an_upload_in_parts_is_seen_at_its_end_and_not_before() {
    let server = ObjectServer::start("packages");
    let client = settings(&server).with_checksum_algorithm(Checksum::SHA256).build().unwrap();
    let bytes = Bytes::from(noise(12 << 20));
    let attributes: Attributes = [(Attribute::Metadata("kind".into()), "tarball")].into_iter().collect();
    let mut upload = client.put_multipart_opts(&path("large.tgz"), attributes.into()).await.unwrap();
    for part in [0..5 << 20, 5 << 20..10 << 20, 10 << 20..12 << 20] {
        upload.put_part(bytes.slice(part).into()).await.unwrap();
    }
    assert_eq!((server.snapshot().len(), server.open_uploads()), (0, vec!["large.tgz".to_owned()]));
    let written = upload.complete().await.unwrap();
    assert!(written.e_tag.as_ref().unwrap().ends_with("-3\""));
    let found = client.get(&path("large.tgz")).await.unwrap();
    assert_eq!(found.meta.e_tag, written.e_tag);
    assert_eq!(found.attributes.get(&Attribute::Metadata("kind".into())), Some(&"tarball".into()));
    assert!(found.bytes().await.unwrap() == bytes, "other bytes came back");
    let kinds: Vec<Operation> = server.take_calls().iter().map(|call| call.operation).collect();
    let whole = [CreateMultipart, UploadPart, UploadPart, UploadPart, CompleteMultipart, Get];
    assert_eq!(kinds, whole);

    let mut small = client.put_multipart(&path("small")).await.unwrap();
    small.put_part("one".into()).await.unwrap();
    small.put_part("two".into()).await.unwrap();
    assert!(small.complete().await.unwrap_err().to_string().contains("EntityTooSmall"));
    small.abort().await.unwrap();
    assert_eq!((bytes_of(&server, "small"), server.open_uploads()), (None, Vec::new()));
    assert_eq!(server.calls().last().unwrap().operation, AbortMultipart);
}

#[tokio::test]
async fn lists_come_in_pages_and_many_keys_go_at_once() {
    let (server, client) = start();
    let keys = ["a/1", "a/2", "a/b/3", "a/b/4", "a/c<&>/5", "a/d/6", "a/e", "b/7"];
    for key in keys {
        put(&client, key, "x").await;
    }
    server.set_page(3);
    server.take_calls();
    let all =
        |prefix: Option<&'static str>| client.list(prefix.map(path).as_ref()).map_ok(|meta| meta.location.to_string());
    assert_eq!(all(None).try_collect::<Vec<_>>().await.unwrap(), keys);
    assert_eq!(server.take_calls().len(), 3);
    assert_eq!(all(Some("a/b")).try_collect::<Vec<_>>().await.unwrap(), ["a/b/3", "a/b/4"]);
    let after = client.list_with_offset(None, &path("a/d/6")).map_ok(|meta| meta.location.to_string());
    assert_eq!(after.try_collect::<Vec<_>>().await.unwrap(), ["a/e", "b/7"]);

    server.set_page(2);
    server.take_calls();
    let level = client.list_with_delimiter(Some(&path("a"))).await.unwrap();
    let names = |paths: &[Path]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&level.common_prefixes), ["a/b", "a/c<&>", "a/d"]);
    let objects: Vec<Path> = level.objects.iter().map(|meta| meta.location.clone()).collect();
    assert_eq!(names(&objects), ["a/1", "a/2", "a/e"]);
    assert_eq!(told(&server.take_calls()), [(List, "", Some(200)); 3]);

    let gone = ["a/1", "a/c<&>/5", "not-there"].map(|key| Ok(path(key)));
    let locations = Box::pin(futures::stream::iter(gone));
    assert_eq!(client.delete_stream(locations).try_collect::<Vec<_>>().await.unwrap().len(), 3);
    assert_eq!(told(&server.calls()), [(BulkDelete, "", Some(200))]);
    let left: Vec<String> = server.snapshot().into_keys().collect();
    assert_eq!(left, ["a/2", "a/b/3", "a/b/4", "a/d/6", "a/e", "b/7"]);
}

#[tokio::test]
async fn a_copy_has_the_metadata_of_its_source_and_an_encryption_of_its_own() {
    let (server, client) = start();
    let attributes: Attributes =
        [(Attribute::ContentType, "text/x-odd"), (Attribute::Metadata("kind".into()), "note")].into_iter().collect();
    let options = PutOptions { attributes, ..PutOptions::default() };
    client.put_opts(&path("a b/one"), "text".into(), options).await.unwrap();
    client.copy(&path("a b/one"), &path("two")).await.unwrap();
    let encrypting = settings(&server).with_sse_kms_encryption("a-key").build().unwrap();
    encrypting.copy(&path("two"), &path("two")).await.unwrap();

    let all = server.snapshot();
    let described = |key: &str, name: &str| all[key].headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(described("two", "x-amz-meta-kind").as_deref(), Some("note"));
    assert_eq!(described("two", "content-type").as_deref(), Some("text/x-odd"));
    assert_eq!(described("two", "x-amz-server-side-encryption").as_deref(), Some("aws:kms"));
    assert_eq!(described("a b/one", "x-amz-server-side-encryption"), None);
    let error = client.copy(&path("two"), &path("two")).await.unwrap_err();
    assert!(error.to_string().contains("InvalidRequest"), "{error}");
    assert!(matches!(client.copy(&path("absent"), &path("two")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_presigned_link_is_good_for_its_time_and_without_credentials_besides() {
    let (server, client) = start();
    put(&client, "-/tarballs/a/1.tgz", "bytes").await;
    let link = client.signed_url(Method::GET, &path("-/tarballs/a/1.tgz"), Duration::from_mins(1)).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |url: &str, authorization: Option<&str>| {
        let request =
            authorization.into_iter().fold(http.get(url), |request, value| request.header("authorization", value));
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(get(link.as_str(), None).await, (StatusCode::OK, "bytes".into()));
    let (status, text) = get(link.as_str(), Some("Bearer npm_token")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("Only one auth mechanism allowed"), "{text}");
    let call = server.calls().pop().unwrap();
    assert!(call.is_presigned && call.headers.contains_key("authorization"));
    assert_eq!(call.status, Some(400));

    let unsigned = link.as_str().split('?').next().unwrap();
    assert_eq!(get(unsigned, None).await.0, StatusCode::FORBIDDEN);
    let endless = link.as_str().replace("X-Amz-Expires=60", "X-Amz-Expires=604801");
    assert_eq!(get(&endless, None).await.0, StatusCode::BAD_REQUEST);
    let (status, _) = get(&link.as_str().replace("X-Amz-Date", "X-Date"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let typed = format!("{link}&response-content-type=text%2Fx-odd");
    let answer = http.get(typed).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/x-odd");

    server.move_clock(Duration::from_mins(2));
    let (status, text) = get(link.as_str(), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_refused_write_is_not_done_and_an_unclear_one_is() {
    let (server, client) = start();
    for (misbehaviour, is_done, status) in [
        (Misbehaviour::Refuse(500), false, Some(500)),
        (Misbehaviour::Refuse(503), false, Some(503)),
        (Misbehaviour::Refuse(403), false, Some(403)),
        (Misbehaviour::Refuse(409), false, Some(409)),
        (Misbehaviour::HangUp, false, None),
        (Misbehaviour::ApplyAndAnswer(500), true, Some(500)),
        (Misbehaviour::ApplyAndAnswer(503), true, Some(503)),
        (Misbehaviour::ApplyAndAnswer(409), true, Some(409)),
        (Misbehaviour::ApplyAndAnswer(412), true, Some(412)),
        (Misbehaviour::ApplyAndHangUp, true, None),
    ] {
        let what = format!("{misbehaviour:?}");
        server.take_calls();
        server.misbehave(Fault::new(misbehaviour).on(ConditionalPut).times(1));
        let error = create(&client, &what, "x").await.unwrap_err();
        let is_as_meant = match status {
            Some(403) => matches!(error, Error::PermissionDenied { .. }),
            Some(409 | 412) => matches!(error, Error::AlreadyExists { .. }),
            _ => matches!(error, Error::Generic { .. }),
        };
        assert!(is_as_meant, "{what}: {error:?}");
        assert_eq!(bytes_of(&server, &what).is_some(), is_done, "{what}");
        let call = server.calls().pop().unwrap();
        assert_eq!((call.status, call.is_faulty), (status, true), "{what}");
        // The one time is over.
        assert_eq!(create(&client, &what, "x").await.is_ok(), !is_done, "{what}");
    }
}

#[tokio::test]
async fn what_does_not_come_whole_is_not_kept() {
    let (server, client) = start();
    put(&client, "a", "old").await;
    let mut connection = TcpStream::connect(server.url().trim_start_matches("http://")).await.unwrap();
    let request = "PUT /packages/a HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\nContent-Length: 10\r\n\r\n0123";
    connection.write_all(request.as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    server.wait_for(|calls| calls.len() == 2 && calls[1].status == Some(400)).await;
    assert_eq!(bytes_of(&server, "a").unwrap(), "old");

    // A hash that the client claims is not of what came.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.put(format!("{}/packages/a", server.url())).header("authorization", "x");
    let wrong = "0123456789abcdef".repeat(4);
    let answer = request.header("x-amz-content-sha256", wrong).body("new").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(bytes_of(&server, "a").unwrap(), "old");
}

#[tokio::test]
async fn a_fault_befalls_what_it_is_meant_for_and_no_more() {
    let (server, client) = start();
    put(&client, "a", "1").await;
    server.misbehave(Fault::new(Misbehaviour::Refuse(503)).on(Get).after(1).times(2));
    server.misbehave(Fault::new(Misbehaviour::Refuse(500)).when(|operation, key| operation.is_write() && key == "b"));
    let reads = futures::future::join_all((0..2).map(|_| read(&client, "a"))).await;
    assert_eq!(reads.iter().filter(|read| read.is_ok()).count(), 1);
    assert!(read(&client, "a").await.is_err());
    assert_eq!(read(&client, "a").await.unwrap(), "1");
    put(&client, "a", "2").await;
    for _ in 0..3 {
        assert!(client.put(&path("b"), "3".into()).await.is_err());
    }
    server.behave();
    put(&client, "b", "4").await;
}

#[tokio::test]
async fn what_stalls_never_comes_and_what_is_held_comes_when_it_is_let_go() {
    let (server, client) = start();
    let key = path("a");
    put(&client, "a", "old").await;
    for (misbehaviour, is_applied, left) in
        [(Misbehaviour::Stall, false, "old"), (Misbehaviour::ApplyAndStall, true, "unclear")]
    {
        server.take_calls();
        server.misbehave(Fault::new(misbehaviour).times(1));
        tokio::select! {
            answer = client.put(&key, "unclear".into()) => panic!("{answer:?}"),
            () = server.wait_for(|calls| calls.iter().any(|call| call.is_applied == is_applied)) => {}
        }
        assert_eq!(bytes_of(&server, "a").unwrap(), left);
        assert_eq!(told(&server.calls()), [(Put, "a", None)]);
    }

    let gate = Gate::closed();
    server.misbehave(Fault::new(Misbehaviour::Hold(gate.clone())).on(Put).times(1));
    server.take_calls();
    let held = put(&client, "a", "held");
    let let_go = async {
        server.wait_for(|calls| calls.len() == 1).await;
        assert_eq!(bytes_of(&server, "a").unwrap(), "unclear");
        // What comes later overtakes it.
        put(&client, "a", "quick").await;
        gate.open();
    };
    tokio::join!(held, let_go);
    assert_eq!(bytes_of(&server, "a").unwrap(), "held");
    server.misbehave(Fault::new(Misbehaviour::Delay(Duration::from_millis(20))).times(1));
    assert_eq!(read(&client, "a").await.unwrap(), "held");
    assert!(server.calls().pop().unwrap().is_faulty);
}

#[tokio::test]
async fn a_body_can_stop_in_the_middle() {
    let (server, client) = start();
    put(&client, "a", "0123456789").await;
    for (misbehaviour, is_cut) in [(Misbehaviour::CutBodyAfter(4), true), (Misbehaviour::StallBodyAfter(4), false)] {
        server.misbehave(Fault::new(misbehaviour).on(Get));
        let found = client.get(&path("a")).await.unwrap();
        assert_eq!(found.meta.size, 10);
        let mut came = found.into_stream();
        assert_eq!(came.try_next().await.unwrap().unwrap(), "0123");
        server.take_calls();
        // The client goes on from where it was, by itself, when retries are allowed.
        if is_cut {
            assert!(came.try_next().await.is_err());
        } else {
            assert!(tokio::time::timeout(Duration::from_millis(100), came.try_next()).await.is_err());
        }
        assert_eq!(server.calls().len(), 0);
        server.behave();
    }
}

#[tokio::test]
async fn it_can_be_a_bad_store_and_one_that_grants_little() {
    let (server, client) = start();
    server.misbehave(Fault::new(Misbehaviour::IgnoreConditions).on(ConditionalPut));
    create(&client, "a", "1").await.unwrap();
    create(&client, "a", "2").await.unwrap();
    replace(&client, "a", "\"other\"", "3").await.unwrap();
    server.behave();

    let attributes: Attributes = [(Attribute::Metadata("kind".into()), "note")].into_iter().collect();
    let options = PutOptions { attributes, ..PutOptions::default() };
    server.misbehave(Fault::new(Misbehaviour::StripMetadata));
    client.put_opts(&path("b"), "x".into(), options).await.unwrap();
    server.behave();
    let found = client.get(&path("b")).await.unwrap();
    assert_eq!(found.attributes.get(&Attribute::Metadata("kind".into())), None);

    server.misbehave(Fault::new(Misbehaviour::HideMissing));
    assert_eq!(read(&client, "a").await.unwrap(), "3");
    assert!(matches!(read(&client, "absent").await, Err(Error::PermissionDenied { .. })));
    assert!(matches!(client.head(&path("absent")).await, Err(Error::PermissionDenied { .. })));
    assert!(client.list(None).try_collect::<Vec<_>>().await.is_err());

    let elsewhere = settings(&server).with_bucket_name("other").build().unwrap();
    server.behave();
    assert!(matches!(read(&elsewhere, "a").await, Err(Error::NotFound { .. })));
}
