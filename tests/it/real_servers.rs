//! The servers of others that tests put beside ours: that they are what the tests take them for.

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode, RetryConfig};

use crate::support::bucket::CREDENTIALS;
use crate::support::object_server::ObjectServer;
use crate::support::real_servers::{Kind, LoadBalancer, RealServer};

const BUCKET: &str = "packages";

fn client(url: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(url)
        .with_bucket_name(BUCKET)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(CREDENTIALS.0)
        .with_secret_access_key(CREDENTIALS.1)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .unwrap()
}

/// How many of sixteen that create one object at once are told that they did.
async fn winners(client: &AmazonS3) -> usize {
    let key = Path::from("@acme/tool/index.json");
    let racers = (0..16).map(|number| client.put_opts(&key, format!("{number}").into(), PutMode::Create.into()));
    let outcomes = futures::future::join_all(racers).await;
    for outcome in &outcomes {
        assert!(matches!(outcome, Ok(_) | Err(Error::AlreadyExists { .. })), "{outcome:?}");
    }
    assert!(client.get(&key).await.unwrap().meta.size > 0);
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_lets_one_create_an_object_as_ours_does() {
    let ours = ObjectServer::start(BUCKET);
    assert_eq!(winners(&client(ours.url())).await, 1);
    let Some(moto) = RealServer::start(Kind::Moto, BUCKET).await else { return };
    assert_eq!(winners(&client(moto.url())).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3rver_lets_all_create_an_object() {
    let Some(s3rver) = RealServer::start(Kind::S3rver, BUCKET).await else { return };
    assert_eq!(winners(&client(s3rver.url())).await, 16);
}

#[tokio::test]
async fn nginx_asks_servers_in_turn_and_the_other_when_one_is_away() {
    let (one, other) = (ObjectServer::start(BUCKET), ObjectServer::start(BUCKET));
    let Some(balancer) = LoadBalancer::before(&[one.url(), other.url()]).await else { return };
    let client = client(balancer.url());
    for number in 0..4 {
        client.put(&Path::from(format!("@acme/{number}")), "x".into()).await.unwrap();
    }
    assert_eq!((one.take_calls().len(), other.take_calls().len()), (2, 2));
    drop(other);
    for _ in 0..4 {
        client.put(&Path::from("@acme/more"), "x".into()).await.unwrap();
    }
    assert_eq!(one.calls().len(), 4);
    assert_eq!(one.snapshot()["@acme/more"].bytes, "x");
}
