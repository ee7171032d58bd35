//! The helpers themselves: a fault that does not happen would make every test of it pass.

use std::time::{Duration, Instant};

use crate::support::chaos::{self, Chaos};
use crate::support::http::Http;
use crate::support::tarballs;
use crate::support::upstream::{Fault, Package, Upstream, big, noise};

#[tokio::test]
async fn the_upstream_serves_what_a_registry_serves() {
    let upstream = Upstream::with_fixtures();
    let http = Http::new(upstream.url());
    let full = http.get("/@fix%2fright").await.ok();
    assert_eq!(full.header("content-type"), "application/json");
    let document = full.json();
    assert_eq!(document["dist-tags"]["latest"], "2.2.0");
    assert!(document["time"]["2.1.0"].is_string());

    let short = http.get_abbreviated("/@fix/right").await.ok();
    assert_eq!(short.header("content-type"), "application/vnd.npm.install-v1+json");
    assert!(short.json().get("readme").is_none());
    assert_ne!(short.header("etag"), full.header("etag"));
    let etag = full.header("etag").to_owned();
    let again = http.send(reqwest::Method::GET, "/@fix/right", &[("if-none-match", &etag)], Vec::new()).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));

    let dist = &document["versions"]["2.1.0"]["dist"];
    let tarball = http.get("/@fix/right/-/right-2.1.0.tgz").await.ok();
    assert_eq!(dist["integrity"], tarballs::integrity(&tarball.body));
    assert_eq!(dist["shasum"], tarballs::shasum(&tarball.body));
    assert_eq!(http.get("/absent-from-everywhere").await.status, 404);
    assert_eq!(upstream.count("/@fix/right"), 3);
    assert_eq!(upstream.seen().last().unwrap().status, 404);
}

#[tokio::test]
async fn the_upstream_stops_and_resumes_on_its_port() {
    let mut upstream = Upstream::start([big("big", 250), Package::new("gone").version("1.0.0")]);
    let http = Http::new(upstream.url());
    assert!(http.get("/big").await.ok().body.len() > 100_000);
    upstream.remove("gone");
    assert_eq!(http.get("/gone").await.status, 404);
    upstream.stop();
    assert!(reqwest::get(upstream.url()).await.is_err());
    upstream.resume();
    http.get("/big").await.ok();
}

#[tokio::test]
async fn each_fault_of_the_upstream_happens() {
    let upstream = Upstream::with_fixtures();
    let http = Http::new(upstream.url());
    let tarball = "/large/-/large-1.0.0.tgz";
    let right = http.get(tarball).await.ok().body;
    assert!(right.len() > noise(1 << 20).len());

    upstream.set(Fault::Status(500));
    assert_eq!(http.get("/left").await.status, 500);
    upstream.set(Fault::TooManyRequests(7));
    let answer = http.get("/left").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "7"));
    upstream.set(Fault::IgnoresAccept);
    assert_eq!(http.get_abbreviated("/left").await.header("content-type"), "application/json");
    upstream.set(Fault::Html);
    assert_eq!(http.get("/left").await.header("content-type"), "text/html");
    upstream.set(Fault::TamperedTarballs);
    assert_ne!(http.get(tarball).await.ok().body, right);
    upstream.set(Fault::Truncated);
    assert!(reqwest::get(format!("{}{tarball}", upstream.url())).await.unwrap().bytes().await.is_err());
    upstream.set(Fault::Slow(Duration::from_millis(50)));
    let began = Instant::now();
    http.get("/left").await.ok();
    assert!(began.elapsed() >= Duration::from_millis(50));
    upstream.set(Fault::None);
    assert_eq!(http.get(tarball).await.ok().body, right);
}

#[tokio::test]
async fn each_fault_of_the_network_happens() {
    let upstream = Upstream::with_fixtures();
    let network = Chaos::before(upstream.url()).await;
    let tarball = format!("{}/large/-/large-1.0.0.tgz", network.url());
    // A new connection each time, or the fault would meet an old one.
    let get = |limit: Duration| {
        let client = reqwest::Client::builder().no_proxy().timeout(limit).build().unwrap();
        let url = tarball.clone();
        async move { client.get(url).send().await?.bytes().await }
    };
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(200));

    assert!(get(long).await.is_ok());
    network.set(chaos::Fault::Delay(Duration::from_millis(1)));
    assert!(get(long).await.is_ok());
    for fault in [chaos::Fault::Refuse, chaos::Fault::CutAfter(5_000), chaos::Fault::CutRequestAfter(10)] {
        network.set(fault);
        let error = get(long).await.unwrap_err();
        assert!(!error.is_timeout(), "{fault:?}: {error:?}");
    }
    for fault in [chaos::Fault::Hang, chaos::Fault::StallAfter(5_000)] {
        network.set(fault);
        assert!(get(short).await.unwrap_err().is_timeout(), "{fault:?}");
    }
    assert_eq!(network.connections(), 7);

    network.set(chaos::Fault::Hang);
    let (answer, ()) = tokio::join!(get(long), async {
        while network.connections() < 8 {
            tokio::task::yield_now().await;
        }
        network.cut_all();
    });
    assert!(!answer.unwrap_err().is_timeout());
}
