//! `kill -9` of the real program while clients publish and install, again and again on one data directory.
//!
//! `HOLDFAST_TEST_KILL_ROUNDS` sets the number of rounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use holdfast::storage::Store;
use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::http::publish_document;
use crate::support::maintenance::is_sound;
use crate::support::server::{Server, Settings};
use crate::support::tarballs::{self, Tarball};
use crate::support::upstream::{Upstream, fixtures, noise};

const CLIENTS: usize = 4;

/// Every acknowledged version: package, version, and what its bytes hash to.
type Acknowledged = BTreeMap<(String, String), String>;

fn rounds(default: usize) -> usize {
    std::env::var("HOLDFAST_TEST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A number that looks random and is the same in each run.
fn spread(round: usize, below: usize) -> usize {
    let mixed = (round as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed ^ (mixed >> 29)) % below as u64).unwrap()
}

fn package(client: usize, round: usize) -> String {
    // Packages that are new in a round, one that grows with each, and one that all clients change.
    match round % 3 {
        0 => format!("@kill/new-{client}-{round}"),
        1 => format!("grows-{client}"),
        _ => "shared".to_owned(),
    }
}

/// Publishes until the server is gone, and says what was acknowledged.
async fn publish_until_killed(
    origin: String,
    token: String,
    client: usize,
    round: usize,
    count: Arc<AtomicUsize>,
) -> Vec<((String, String), String)> {
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let name = package(client, round);
        let version = format!("{round}.{client}.{number}");
        let tarball = Tarball::new(&name, &version).file("data.bin", noise(1 + spread(number, 60_000)));
        let body = serde_json::to_vec(&publish_document(&tarball, &format!("client-{client}"))).unwrap();
        let url = format!("{origin}/{}", name.replacen('/', "%2f", 1));
        let sent = http.put(url).bearer_auth(&token).body(body).send().await;
        let Ok(answer) = sent else { break };
        let status = answer.status();
        if status.is_success() {
            acknowledged.push(((name, version), tarballs::integrity(&tarball.bytes())));
            count.fetch_add(1, Ordering::SeqCst);
        } else {
            // A client that publishes with others may lose a race, and tries another number.
            assert_eq!(status, 409, "{}", answer.text().await.unwrap_or_default());
        }
    }
    acknowledged
}

/// What is shown of a package must hang together: each tag names a version, each version has its bytes.
async fn check_package(server: &Server, name: &str, acknowledged: &Acknowledged) {
    let http = server.http();
    let path = format!("/{}", name.replacen('/', "%2f", 1));
    let answer = http.get(&path).await;
    let own: Vec<_> = acknowledged.iter().filter(|((package, _), _)| package == name).collect();
    if answer.status == 404 {
        assert!(own.is_empty(), "{name} is gone with {} acknowledged versions", own.len());
        return;
    }
    let document = answer.ok().json();
    let short = http.get_abbreviated(&path).await.ok().json();
    let versions = document["versions"].as_object().unwrap();
    for (tag, version) in document["dist-tags"].as_object().unwrap() {
        assert!(versions.contains_key(version.as_str().unwrap()), "{name}: {tag} names {version}");
    }
    assert_eq!(document["dist-tags"], short["dist-tags"]);
    assert_eq!(versions.len(), short["versions"].as_object().unwrap().len());
    for ((_, version), integrity) in own {
        assert_eq!(
            versions.get(version).map(|shown| &shown["dist"]["integrity"]),
            Some(&Value::from(integrity.as_str())),
            "{name}@{version}"
        );
    }
    let base = name.rsplit('/').next().unwrap();
    for (version, shown) in versions {
        assert!(document["time"][version].is_string(), "{name}@{version} has no time");
        let tarball = http.get(&format!("/{name}/-/{base}-{version}.tgz")).await.ok();
        assert_eq!(shown["dist"]["integrity"], tarballs::integrity(&tarball.body), "{name}@{version}");
    }
}

/// A leftover of the killed process would stay; the write of the new one that notes its start goes by.
async fn nothing_is_staged(data: &Path) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::read_dir(data.join("-/staging")).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < deadline, "a leftover of the killed process stayed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_what_was_acknowledged_while_clients_publish() {
    let rounds = rounds(15);
    let mut server = Settings::alone().config("[access]\nowners_only = false\n").start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    let mut all = Acknowledged::new();
    for round in 0..rounds {
        let count = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (origin, token) = (server.origin().to_owned(), token.clone());
                tokio::spawn(publish_until_killed(origin, token, client, round, Arc::clone(&count)))
            })
            .collect();
        // At an event, and then somewhere within the next publishes.
        let enough = spread(round, 12);
        while count.load(Ordering::SeqCst) < enough && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(u64::try_from(spread(round + 1000, 6000)).unwrap())).await;
        server.kill();
        let mut touched = Vec::new();
        for client in clients {
            all.extend(client.await.unwrap());
        }
        for client in 0..CLIENTS {
            touched.push(package(client, round));
        }
        touched.dedup();
        server = server.restart().await;
        nothing_is_staged(&server.data()).await;
        for name in touched {
            check_package(&server, &name, &all).await;
        }
    }
    assert!(all.len() >= rounds, "only {} versions were published", all.len());
    let names: std::collections::BTreeSet<&String> = all.keys().map(|(name, _)| name).collect();
    for name in names {
        check_package(&server, name, &all).await;
    }
    assert_eq!(server.http().with_token(&token).get("/-/whoami").await.ok().json()["username"], "alice");
    server.kill();
    is_sound(&Store::open(&server.data()).unwrap()).await;
    eprintln!("{rounds} rounds of kill -9 survived, with {} acknowledged versions", all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_leaves_a_wrong_tarball_in_the_cache_while_clients_install() {
    let rounds = rounds(15).div_ceil(3);
    let mut upstream = Upstream::start(fixtures());
    let mut server = Settings::upstream(upstream.url()).start().await;
    let paths = [
        ("/left", "/left/-/left-1.2.0.tgz"),
        ("/@fix%2fright", "/@fix/right/-/right-2.1.0.tgz"),
        ("/leaf", "/leaf/-/leaf-1.0.1.tgz"),
        ("/large", "/large/-/large-1.0.0.tgz"),
        ("/command", "/command/-/command-3.0.0.tgz"),
    ];
    let mut right = BTreeMap::new();
    for (_, file) in paths {
        let bytes = reqwest::get(format!("{}{file}", upstream.url())).await.unwrap().bytes().await.unwrap();
        right.insert(file, bytes.to_vec());
    }
    for round in 0..rounds {
        // Cold again.
        server.kill();
        let _ = std::fs::remove_dir_all(server.data().join("-/cache"));
        server = server.restart().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = paths
            .iter()
            .map(|(document, file)| {
                let (origin, is_over, begun) = (server.origin().to_owned(), Arc::clone(&is_over), Arc::clone(&begun));
                let (document, file, expected) = (*document, *file, right[file].clone());
                tokio::spawn(async move {
                    let get = async |path: &str| reqwest::get(format!("{origin}{path}")).await?.bytes().await;
                    while !is_over.load(Ordering::SeqCst) {
                        begun.fetch_add(1, Ordering::SeqCst);
                        if get(document).await.is_err() {
                            return;
                        }
                        match get(file).await {
                            Ok(bytes) => assert!(bytes == expected, "{file}: wrong bytes as a whole file"),
                            Err(_) => return,
                        }
                    }
                })
            })
            .collect();
        let enough = paths.len() + spread(round, 6);
        while begun.load(Ordering::SeqCst) < enough && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        tokio::time::sleep(Duration::from_micros(u64::try_from(spread(round, 40_000)).unwrap())).await;
        server.kill();
        is_over.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.unwrap();
        }

        upstream.stop();
        server = server.restart().await;
        nothing_is_staged(&server.data()).await;
        let http = server.http();
        let mut cached = 0;
        for (_, file) in paths {
            let answer = http.get(file).await;
            if answer.status.is_success() {
                assert!(answer.body == right[file], "round {round}: {file} is served wrong from the cache");
                cached += 1;
            } else {
                assert!(answer.status.is_server_error(), "round {round}: {file}: {}", answer.status);
            }
        }
        upstream.resume();
        server = server.restart().await;
        for (document, file) in paths {
            server.http().get(document).await.ok();
            assert!(server.http().get(file).await.ok().body == right[file], "round {round}: {file}");
        }
        eprintln!("round {round}: {cached} of {} tarballs were cached when the server was killed", paths.len());
    }
}
