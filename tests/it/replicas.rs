//! Several replicas over one bucket, as processes: what one of them acknowledges all have, whatever is killed, and
//! however the store behaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::maintenance::Code;
use holdfast::storage::{Location, Store};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::app::{PASSWORD, TestApp};
use crate::support::bucket::bucket;
use crate::support::chaos::Chaos;
use crate::support::http::{Http, publish_document};
use crate::support::maintenance::{LOOK, findings, is_sound};
use crate::support::network::Network;
use crate::support::object_server::{Fault, Misbehaviour, ObjectServer, Operation};
use crate::support::real_servers::{Kind, RealServer};
use crate::support::server::{Server, Settings};
use crate::support::tarballs::{self, Tarball};
use crate::support::upstream::noise;

const BUCKET: &str = "packages";
const ADDRESS: &str = "s3://packages/team";
const NAME: &str = "@acme/shared";
const PATH: &str = "/@acme%2fshared";

const REPLICAS: usize = 3;
const PUBLISHERS: usize = 50;
const VERSIONS_EACH: usize = 3;
const RACERS: usize = 10;
const RACED: &str = "9.9.9";
const KILLS: usize = 8;

fn replica(endpoint: &str) -> Settings {
    Settings::alone().stable_port().bucket(endpoint, ADDRESS)
}

async fn replicas(endpoint: &str) -> Vec<Server> {
    join_all((0..REPLICAS).map(|_| replica(endpoint).start())).await
}

fn is_commit(operation: Operation, key: &str) -> bool {
    operation == Operation::ConditionalPut && key.ends_with("shared/index.json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_acknowledges_all_have_at_once() {
    let store = ObjectServer::start(BUCKET);
    let servers = replicas(store.url()).await;
    let token = servers[0].http().create_user("alice", PASSWORD).await;
    let as_alice: Vec<Http> = servers.iter().map(|server| server.http().with_token(&token)).collect();
    let [one, two, three] = as_alice.as_slice() else { unreachable!("there are three") };
    // Asked before, so that each remembers that there is none.
    for replica in &as_alice {
        assert_eq!(replica.get(PATH).await.status, 404);
        assert_eq!(replica.get("/-/whoami").await.ok().json()["username"], "alice");
    }

    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let tarball = Tarball::new(NAME, version);
        one.publish(&tarball).await.ok();
        for other in [two, three] {
            assert_eq!(other.get(PATH).await.ok().json()["dist-tags"]["latest"], version);
            let file = format!("/@acme/shared/-/shared-{version}.tgz");
            assert!(other.get(&file).await.ok().body == tarball.bytes());
        }
    }
    two.put("/-/package/@acme%2fshared/dist-tags/next", &json!("1.1.0")).await.ok();
    assert_eq!(three.get(PATH).await.ok().json()["dist-tags"]["next"], "1.1.0");
    let mut document = three.get(PATH).await.ok().json();
    document["versions"]["1.0.0"]["deprecated"] = json!("use 2");
    three.put(PATH, &document).await.ok();
    assert_eq!(one.get_abbreviated(PATH).await.ok().json()["versions"]["1.0.0"]["deprecated"], "use 2");

    two.create_user("bob", PASSWORD).await;
    let revision = one.get(PATH).await.ok().json()["_rev"].as_str().unwrap().to_owned();
    let owners = ["alice", "bob"].map(|name| json!({ "name": name, "email": format!("{name}@example.test") }));
    let body = json!({ "_id": NAME, "_rev": revision, "maintainers": owners });
    one.put(&format!("{PATH}/-rev/{revision}"), &body).await.ok();
    assert_eq!(three.get(PATH).await.ok().json()["maintainers"].as_array().unwrap().len(), 2);

    let mut document = two.get(PATH).await.ok().json();
    document["versions"].as_object_mut().unwrap().remove("1.0.0");
    two.put(&format!("{PATH}/-rev/{}", document["_rev"].as_str().unwrap()), &document).await.ok();
    assert!(one.get(PATH).await.ok().json()["versions"].get("1.0.0").is_none());
    let again = three.publish(&Tarball::new(NAME, "1.0.0").file("other", "bytes")).await;
    assert_eq!(again.status, 403, "{}", again.text());

    let revision = one.get(PATH).await.ok().json()["_rev"].as_str().unwrap().to_owned();
    one.delete(&format!("{PATH}/-rev/{revision}")).await.ok();
    for other in &as_alice {
        assert_eq!(other.get(PATH).await.status, 404);
    }
}

#[tokio::test]
async fn a_token_that_another_replica_revoked_is_refused_a_minute_later() {
    let store = ObjectServer::start("bucket");
    let (one, other) = (TestApp::over_bucket(&store, |_| {}), TestApp::over_bucket(&store, |_| {}));
    let alice = one.user("alice").await;
    let there = other.anybody().with_token(alice.token());
    // A new one is known at once.
    there.get("/-/whoami").await.ok();
    alice.delete(&format!("/-/user/token/{}", alice.token())).await.ok();
    assert_eq!(alice.get("/-/whoami").await.status, 401);
    other.clock.advance(Duration::from_mins(1));
    assert_eq!(there.get("/-/whoami").await.status, 401);
}

/// A client that tries again as npm does, with the next replica after each failure.
#[derive(Clone)]
struct Patient {
    client: reqwest::Client,
    origins: Arc<[String]>,
    token: String,
    first: usize,
    done: Arc<AtomicUsize>,
}

/// How a change ended for the client that wanted it.
struct Ended {
    status: StatusCode,
    /// A try before the last one had no answer, or one that says nothing.
    was_unclear: bool,
}

impl Patient {
    async fn put(&self, path: &str, body: &Value) -> Ended {
        const TRIES: usize = 200;
        let body = serde_json::to_vec(body).unwrap();
        for tries in 0..TRIES {
            let url = format!("{}{path}", self.origins[(self.first + tries) % self.origins.len()]);
            let sent = self.client.put(url).bearer_auth(&self.token).body(body.clone()).send().await;
            match sent {
                Ok(answer) if !answer.status().is_server_error() => {
                    if answer.status().is_success() {
                        self.done.fetch_add(1, Ordering::SeqCst);
                    }
                    return Ended { status: answer.status(), was_unclear: tries > 0 };
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("{path}: no clear answer in {TRIES} tries");
    }

    /// Publishes versions that nobody else does, one after the other. Each has to be there in the end.
    async fn publish_own(self, number: usize) -> Vec<(String, String)> {
        let mut published = Vec::new();
        for patch in 0..VERSIONS_EACH {
            let version = format!("1.{number}.{patch}");
            let tarball = Tarball::new(NAME, &version).file("data.bin", noise(1000 + 97 * number));
            let ended = self.put(PATH, &publish_document(&tarball, "latest")).await;
            // Published already, by a try of our own whose answer was lost.
            let is_ours = ended.was_unclear && matches!(ended.status.as_u16(), 403 | 409);
            assert!(ended.status.is_success() || is_ours, "{version}: {}", ended.status);
            published.push((version, tarballs::integrity(&tarball.bytes())));
        }
        published
    }

    /// Publishes a version that others publish too, with bytes of its own.
    async fn race(self, number: usize) -> (String, Ended) {
        let tarball = Tarball::new(NAME, RACED).file("racer.txt", number.to_string());
        let ended = self.put(PATH, &publish_document(&tarball, "raced")).await;
        (tarballs::integrity(&tarball.bytes()), ended)
    }

    /// Moves a tag of its own to and fro.
    async fn tag(self, number: usize) {
        let path = format!("/-/package/@acme%2fshared/dist-tags/tag-{number}");
        for target in ["0.0.1", "0.0.2", "0.0.3"] {
            let ended = self.put(&path, &json!(target)).await;
            assert!(ended.status.is_success(), "{path}: {}", ended.status);
        }
    }

    async fn deprecate(self, version: Value, number: usize) {
        let mut body = json!({ "_id": NAME, "name": NAME, "versions": {} });
        body["versions"][format!("0.0.{number}")] = version;
        body["versions"][format!("0.0.{number}")]["deprecated"] = json!(format!("message {number}"));
        let ended = self.put(PATH, &body).await;
        assert!(ended.status.is_success(), "deprecation {number}: {}", ended.status);
    }
}

/// Waits until so many changes were acknowledged, or there is nothing more to come.
async fn until_done(done: &AtomicUsize, wanted: usize, is_over: impl Fn() -> bool) -> bool {
    while done.load(Ordering::SeqCst) < wanted {
        if is_over() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    true
}

/// What the torture found, for whoever reads the output.
struct Figures {
    kills: usize,
    acknowledged: usize,
    took: Duration,
}

/// Fifty publishers of one package, ten of one version, tags and deprecations, while two of three replicas are killed
/// and started again and again; then all that was acknowledged has to be there.
async fn torture(endpoint: &str) -> Figures {
    let mut servers = replicas(endpoint).await;
    let http = servers[0].http();
    let token = http.create_user("alice", PASSWORD).await;
    let http = http.with_token(&token);
    let mut expected = BTreeMap::new();
    for number in 0..5 {
        let tarball = Tarball::new(NAME, &format!("0.0.{number}"));
        http.publish(&tarball).await.ok();
        expected.insert(format!("0.0.{number}"), tarballs::integrity(&tarball.bytes()));
    }
    let before = http.get(PATH).await.ok().json();

    let started = Instant::now();
    let patient = Patient {
        client: reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap(),
        origins: servers.iter().map(|server| server.origin().to_owned()).collect(),
        token: token.clone(),
        first: 0,
        done: Arc::default(),
    };
    let at = |first: usize| Patient { first, ..patient.clone() };
    let publishers: Vec<_> = (0..PUBLISHERS).map(|number| tokio::spawn(at(number).publish_own(number))).collect();
    let racers: Vec<_> = (0..RACERS).map(|number| tokio::spawn(at(number).race(number))).collect();
    let mut others: Vec<_> = (0..5).map(|number| tokio::spawn(at(number).tag(number))).collect();
    others.extend((0..5).map(|number| {
        let version = before["versions"][format!("0.0.{number}")].clone();
        tokio::spawn(at(number).deprecate(version, number))
    }));

    let is_over = || publishers.iter().all(tokio::task::JoinHandle::is_finished);
    let step = PUBLISHERS * VERSIONS_EACH / (KILLS + 1);
    let mut kills = 0;
    while kills < KILLS && until_done(&patient.done, (kills + 1) * step, is_over).await {
        let mut victim = servers.swap_remove(1);
        victim.kill();
        kills += 1;
        // The others go on without it for a while.
        until_done(&patient.done, kills * step + step / 3, is_over).await;
        servers.push(victim.restart().await);
    }
    for publisher in publishers {
        expected.extend(publisher.await.unwrap());
    }
    let mut raced = Vec::new();
    for racer in racers {
        raced.push(racer.await.unwrap());
    }
    for other in others {
        other.await.unwrap();
    }
    let took = started.elapsed();

    let document = http.get(PATH).await.ok().json();
    expected.insert(RACED.to_owned(), winner(&document, &raced));
    for server in &servers {
        check(&server.http(), &expected).await;
    }
    check_store(endpoint, &document).await;
    Figures { kills, acknowledged: patient.done.load(Ordering::SeqCst), took }
}

/// Whose bytes the raced version has. No other racer may have been told that it won, and the winner nothing else.
fn winner(document: &Value, raced: &[(String, Ended)]) -> String {
    let integrity = document["versions"][RACED]["dist"]["integrity"].as_str().unwrap();
    let mut winners = 0;
    for (own, ended) in raced {
        if own == integrity {
            assert!(ended.status.is_success() || ended.was_unclear, "the winner was told {}", ended.status);
            winners += 1;
        } else {
            assert!(matches!(ended.status.as_u16(), 403 | 409), "a loser was told {}", ended.status);
        }
    }
    assert_eq!(winners, 1);
    integrity.to_owned()
}

/// What a replica shows: these versions and no others, each with its bytes, and each tag and deprecation.
async fn check(replica: &Http, expected: &BTreeMap<String, String>) {
    let document = replica.get(PATH).await.ok().json();
    let shown = document["versions"].as_object().unwrap();
    let lost: Vec<_> = expected.keys().filter(|version| !shown.contains_key(*version)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(shown.len(), expected.len(), "there are versions that nobody published");
    let short = replica.get_abbreviated(PATH).await.ok().json();
    assert_eq!(short["versions"].as_object().unwrap().len(), shown.len());
    for (version, integrity) in expected {
        assert_eq!(shown[version]["dist"]["integrity"], **integrity, "{version}");
        assert!(document["time"][version].is_string(), "{version}");
        let tarball = replica.get(&format!("/@acme/shared/-/shared-{version}.tgz")).await.ok();
        assert_eq!(tarballs::integrity(&tarball.body), *integrity, "{version}");
    }
    for number in 0..5 {
        assert_eq!(document["dist-tags"][format!("tag-{number}")], "0.0.3");
        assert_eq!(shown[&format!("0.0.{number}")]["deprecated"], format!("message {number}"));
    }
    assert_eq!(document["dist-tags"]["raced"], RACED);
}

/// What lies in the bucket: every document can be read, every version has its tarball, and the trials left nothing.
async fn check_store(endpoint: &str, document: &Value) {
    let store = Store::at(&Location::Bucket(Box::new(bucket(endpoint, ADDRESS)))).unwrap();
    let mut listed = store.list();
    let mut tarballs = BTreeSet::new();
    while let Some(key) = listed.recv().await {
        let key = key.unwrap();
        assert!(!key.as_str().contains("trial-"), "{key}");
        if key.as_str().starts_with("-/tarballs/") {
            tarballs.insert(key.as_str().to_owned());
        } else if key.as_str().rsplit_once('.').is_some_and(|(_, kind)| kind == "json") {
            let bytes = store.read(&key).await.unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
    }
    let stored = store.read(&keys::packument(&NAME.parse().unwrap())).await.unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["_rev"], document["_rev"]);
    for version in document["versions"].as_object().unwrap().keys() {
        let own = format!("-/tarballs/{NAME}/{version}-");
        let count = tarballs.iter().filter(|key| key.starts_with(&own)).count();
        assert!(count >= 1, "{version} has no tarball");
    }
    // Those who lost the race, and those who were killed, have left theirs, which nothing names.
    let leftovers = is_sound(&store).await;
    assert!(leftovers.iter().all(|found| found.code == Code::OrphanTarball), "{leftovers:#?}");
    assert_eq!(findings(&store, &Clock::default(), LOOK).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torture_loses_nothing_while_replicas_are_killed_and_the_store_misbehaves() {
    let store = ObjectServer::start(BUCKET);
    for (number, misbehaviour) in [
        Misbehaviour::ApplyAndAnswer(500),
        Misbehaviour::Refuse(503),
        Misbehaviour::Refuse(409),
        Misbehaviour::ApplyAndHangUp,
        Misbehaviour::ApplyAndAnswer(412),
        Misbehaviour::HangUp,
    ]
    .into_iter()
    .cycle()
    .take(12)
    .enumerate()
    {
        store.misbehave(Fault::new(misbehaviour).when(is_commit).after(6 + 11 * number).times(2));
    }
    let Figures { kills, acknowledged, took } = torture(store.url()).await;
    let calls = store.calls();
    let commits: Vec<_> = calls.iter().filter(|call| is_commit(call.operation, &call.key)).collect();
    let faulty = commits.iter().filter(|call| call.is_faulty).count();
    let conflicts = commits.iter().filter(|call| !call.is_faulty && call.status == Some(412)).count();
    println!(
        "{acknowledged} changes acknowledged in {took:?} ({:.0} a second) by {REPLICAS} replicas; {kills} kills -9; \
         {} conditional writes of the document, {conflicts} of them lost to another, {faulty} answered wrongly; {} requests in all",
        f64::from(u32::try_from(acknowledged).unwrap()) / took.as_secs_f64(),
        commits.len(),
        calls.len(),
    );
    assert!(kills > 0 && faulty > 0 && conflicts > 0, "{kills} kills, {faulty} faults, {conflicts} conflicts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torture_loses_nothing_over_moto() {
    let Some(moto) = RealServer::start(Kind::Moto, BUCKET).await else { return };
    let Figures { kills, acknowledged, took } = torture(moto.url()).await;
    println!("{acknowledged} changes acknowledged in {took:?} over moto, with {kills} kills -9");
}

/// Waits until a replica says that it is not ready. It says that it is for two seconds after it has looked.
async fn until_not_ready(http: &Http) {
    let deadline = Instant::now() + PATIENCE;
    while http.get("/-/ready").await.status != 503 {
        assert!(Instant::now() < deadline, "a replica without its store says that it is ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every kind of request fails with an answer that says why and when to come back. What is not known to be absent is
/// never called absent.
async fn is_unavailable(http: &Http, how: &Misbehaviour) {
    until_not_ready(http).await;
    let answers = [
        http.get(PATH).await,
        http.get("/@acme%2fnever-seen").await,
        http.get("/@acme/shared/-/shared-1.0.0.tgz").await,
        http.publish(&Tarball::new(NAME, "2.0.0")).await,
        http.put("/-/package/@acme%2fshared/dist-tags/next", &json!("1.0.0")).await,
        http.get("/-/ready").await,
    ];
    for (number, answer) in answers.iter().enumerate() {
        let text = answer.text();
        assert_eq!(answer.status, 503, "{how:?}, request {number}: {text}");
        assert_eq!(answer.json()["code"], "storage_unavailable", "{how:?}, request {number}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{how:?}, request {number}: {text}");
    }
    http.get("/-/ping").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_told_of_and_all_is_well_when_it_is_back() {
    let store = ObjectServer::start(BUCKET);
    let settings =
        replica(store.url()).env("HOLDFAST__STORAGE__TIMEOUT_SECONDS", "1").env("HOLDFAST__STORAGE__ATTEMPTS", "2");
    let (server, other) = (settings.start().await, replica(store.url()).start().await);
    let token = server.http().create_user("alice", PASSWORD).await;
    let (http, other) = (server.http().with_token(&token), other.http().with_token(&token));
    let tarball = Tarball::new(NAME, "1.0.0");
    http.publish(&tarball).await.ok();
    for (number, how) in
        [Misbehaviour::Refuse(503), Misbehaviour::Refuse(500), Misbehaviour::HangUp, Misbehaviour::Stall]
            .into_iter()
            .enumerate()
    {
        http.get("/-/whoami").await.ok();
        store.misbehave(Fault::new(how.clone()));
        is_unavailable(&http, &how).await;
        store.behave();
        http.get("/-/ready").await.ok();
        for replica in [&http, &other] {
            let document = replica.get(PATH).await.ok().json();
            assert_eq!(document["versions"].as_object().unwrap().len(), 1 + number, "{how:?}");
            assert_eq!(document["dist-tags"].get("next"), None, "{how:?}");
            assert!(replica.get("/@acme/shared/-/shared-1.0.0.tgz").await.ok().body == tarball.bytes());
            assert_eq!(replica.get("/@acme%2fnever-seen").await.status, 404);
        }
        other.publish(&Tarball::new(NAME, &format!("1.0.{}", number + 1))).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_or_throttles_for_a_moment_is_waited_for() {
    let store = ObjectServer::start(BUCKET);
    let server = replica(store.url()).start().await;
    let http = server.http().with_token(&server.http().create_user("alice", PASSWORD).await);
    http.publish(&Tarball::new(NAME, "1.0.0")).await.ok();
    let moments = [
        Fault::new(Misbehaviour::Delay(Duration::from_millis(200))),
        Fault::new(Misbehaviour::Refuse(503)).times(2),
        Fault::new(Misbehaviour::HangUp).times(2),
    ];
    for (number, moment) in moments.into_iter().enumerate() {
        let tarball = Tarball::new(NAME, &format!("2.{number}.0"));
        store.misbehave(moment.clone());
        http.publish(&tarball).await.ok();
        store.behave();
        store.misbehave(moment);
        let file = format!("/@acme/shared/-/shared-2.{number}.0.tgz");
        assert_eq!(http.get(PATH).await.ok().json()["dist-tags"]["latest"], format!("2.{number}.0"));
        assert!(http.get(&file).await.ok().body == tarball.bytes());
        store.behave();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_client_went_away_is_whole_or_not_there() {
    let store = ObjectServer::start(BUCKET);
    let servers = replicas(store.url()).await;
    let token = servers[0].http().create_user("alice", PASSWORD).await;
    servers[0].http().with_token(&token).publish(&Tarball::new(NAME, "1.0.0")).await.ok();
    let impatient = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).build().unwrap();
    store.misbehave(Fault::new(Misbehaviour::Delay(Duration::from_millis(500))).when(is_commit).times(1));
    let body = serde_json::to_vec(&publish_document(&Tarball::new(NAME, "2.0.0"), "latest")).unwrap();
    let sent = impatient.request(Method::PUT, format!("{}{PATH}", servers[1].origin())).bearer_auth(&token).body(body);
    assert!(sent.send().await.unwrap_err().is_timeout());
    store
        .wait_for(|calls| {
            calls.iter().filter(|call| is_commit(call.operation, &call.key) && call.is_applied).count() == 2
        })
        .await;
    for server in &servers {
        assert_eq!(server.http().get(PATH).await.ok().json()["dist-tags"]["latest"], "2.0.0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_line_to_the_store_is_cut_loses_nothing() {
    const VERSIONS: usize = 24;
    let Some(network) = Network::new() else { return };
    let store = ObjectServer::start(BUCKET);
    let line = Chaos::at(&network.store_side(), store.url()).await;
    let near = replica(store.url()).start().await;
    let token = near.http().create_user("alice", PASSWORD).await;
    let far = replica(&line.url()).env("HOLDFAST__STORAGE__TIMEOUT_SECONDS", "1").inside(&network).start().await;
    let patient = Patient {
        client: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap(),
        origins: [far.origin().to_owned()].into(),
        token: token.clone(),
        first: 0,
        done: Arc::default(),
    };
    let publisher = tokio::spawn({
        let patient = patient.clone();
        async move {
            for number in 0..VERSIONS {
                let ended =
                    patient.put(PATH, &publish_document(&Tarball::new(NAME, &format!("{number}.0.0")), "latest")).await;
                assert!(ended.status.is_success() || ended.was_unclear && ended.status == 403, "{}", ended.status);
            }
        }
    });
    let mut cuts = 0;
    while cuts < 3 && until_done(&patient.done, 5 * (cuts + 1), || publisher.is_finished()).await {
        network.cut();
        cuts += 1;
        until_not_ready(&far.http()).await;
        near.http().get("/-/ready").await.ok();
        network.mend();
    }
    publisher.await.unwrap();
    assert!(cuts > 0);
    for replica in [near.http().with_token(&token), far.http().with_token(&token)] {
        let document = replica.get(PATH).await.ok().json();
        assert_eq!(document["versions"].as_object().unwrap().len(), VERSIONS);
        for number in 0..VERSIONS {
            let tarball = replica.get(&format!("/@acme/shared/-/shared-{number}.0.0.tgz")).await.ok();
            assert!(tarball.body == Tarball::new(NAME, &format!("{number}.0.0")).bytes());
        }
    }
    println!("{VERSIONS} versions published through {cuts} cuts");
}
