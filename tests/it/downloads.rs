//! Download counts: what is counted, and how it is told.

use std::time::Duration;

use holdfast::registry::Redirect;
use holdfast::storage::{Fault, FaultPlan};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::in_process::Plan;
use crate::support::object_server::ObjectServer;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const FILE: &str = "/@acme/tool/-/tool-1.0.0.tgz";
const POINT: &str = "/-/downloads/point";
const RANGE: &str = "/-/downloads/range";
/// The day on which clocks start.
const TODAY: &str = "2026-11-23";

/// What is told after all that was counted is written and what is known is old enough.
async fn told(app: &TestApp, caller: &Caller, path: &str) -> Value {
    app.app.registry.write_downloads().await.unwrap();
    app.clock.advance(Duration::from_mins(1));
    caller.get(path).await.ok().json()
}

#[tokio::test]
async fn downloads_are_counted_by_version_and_day_and_told_as_npm_does() {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &["@acme/*"]);
    let (alice, anybody) = (app.user("alice").await, app.anybody());
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0"]).await;
    for _ in 0..3 {
        anybody.get(FILE).await.ok();
    }
    anybody.get("/@acme/tool/-/tool-1.1.0.tgz").await.ok();
    anybody.get("/left/-/left-1.0.0.tgz").await.ok();
    let point = json!({ "downloads": 4, "start": TODAY, "end": TODAY, "package": "@acme/tool" });
    assert_eq!(told(&app, &anybody, &format!("{POINT}/{TODAY}/@acme/tool")).await, point);
    let all = json!({ "downloads": 5, "start": TODAY, "end": TODAY });
    assert_eq!(told(&app, &anybody, &format!("{POINT}/{TODAY}")).await, all);
    // Nothing counts back to today.
    assert_eq!(told(&app, &anybody, &format!("{POINT}/last-day/left")).await["downloads"], 0);

    app.clock.advance(Duration::from_hours(24));
    anybody.get(FILE).await.ok();
    let day = told(&app, &anybody, &format!("{POINT}/last-day/@acme%2ftool")).await;
    assert_eq!(day, point);
    let range = told(&app, &anybody, &format!("{RANGE}/2026-11-22:2026-11-24/@acme/tool")).await;
    let days = [("2026-11-22", 0), (TODAY, 4), ("2026-11-24", 1)]
        .map(|(day, count)| json!({ "downloads": count, "day": day }));
    assert_eq!(
        range,
        json!({ "downloads": days, "start": "2026-11-22", "end": "2026-11-24", "package": "@acme/tool" })
    );
    assert_eq!(told(&app, &anybody, &format!("{RANGE}/last-week")).await["downloads"].as_array().unwrap().len(), 7);
    let several = told(&app, &anybody, &format!("{POINT}/last-week/left,@acme%2ftool,nothing-here")).await;
    assert_eq!((&several["left"]["downloads"], &several["@acme/tool"]["downloads"]), (&json!(1), &json!(4)));
    assert!(several["nothing-here"].is_null() && several.as_object().unwrap().len() == 3, "{several}");
    let versions = told(&app, &anybody, "/-/versions/@acme%2ftool/last-week").await;
    assert_eq!(versions, json!({ "package": "@acme/tool", "downloads": { "1.0.0": 3, "1.1.0": 1 } }));

    // Written once a process and day, and there after a restart.
    let parts = app.files().keys().filter(|path| path.starts_with("-/downloads/")).count();
    assert_eq!(parts, 2);
    drop((alice, anybody));
    let app = app.restarted().await;
    app.anybody().get(FILE).await.ok();
    assert_eq!(told(&app, &app.anybody(), &format!("{POINT}/2026-11-24/@acme/tool")).await["downloads"], 2);
    assert_eq!(told(&app, &app.anybody(), &format!("{POINT}/{TODAY}/@acme/tool")).await["downloads"], 4);
}

#[tokio::test]
async fn only_the_beginning_of_a_download_counts() {
    let app = TestApp::new();
    app.user("alice").await.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let anybody = app.anybody();
    let etag = anybody.get(FILE).await.ok().header("etag").to_owned();
    anybody.get_with(FILE, &[("range", "bytes=0-9")]).await.ok();
    assert_eq!(anybody.get_with(FILE, &[("range", "bytes=10-")]).await.status, 206);
    assert_eq!(anybody.get_with(FILE, &[("if-none-match", &etag)]).await.status, 304);
    anybody.send(Method::HEAD, FILE, &[], String::new()).await.ok();
    refused(&anybody.get("/@acme/tool/-/tool-2.0.0.tgz").await, 404);
    assert_eq!(told(&app, &anybody, &format!("{POINT}/{TODAY}/@acme/tool")).await["downloads"], 2);
}

#[tokio::test]
async fn all_processes_on_a_bucket_are_added_up_and_what_was_added_up_before() {
    let server = ObjectServer::start("bucket");
    let redirecting = TestApp::on_bucket(&server, |_| {});
    let sending = TestApp::over_bucket(&server, |settings| settings.redirect = Some(Redirect::Never));
    redirecting.user("alice").await.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    assert_eq!(redirecting.anybody().get(FILE).await.status, 302);
    for _ in 0..2 {
        sending.anybody().get(FILE).await.ok();
    }
    let path = format!("{POINT}/{TODAY}/@acme/tool");
    sending.app.registry.write_downloads().await.unwrap();
    assert_eq!(told(&redirecting, &redirecting.anybody(), &path).await["downloads"], 3);

    // As a compaction would leave it half-way: all in one, and the parts not gone yet.
    let mut listed = sending.store.list_folder(&holdfast::keys::downloads(TODAY.parse().unwrap()));
    let mut merged = Vec::new();
    while let Some(key) = listed.recv().await {
        merged.push(key.unwrap().download_part().unwrap().to_owned());
    }
    assert_eq!(merged.len(), 2);
    let whole = json!({ "packages": { "@acme/tool": { "1.0.0": 3 }, "old": { "1.0.0": 7 } }, "merged": merged });
    let key = holdfast::keys::downloads_of(TODAY.parse().unwrap(), holdfast::keys::ALL_DOWNLOADS);
    sending.store.create(&key, whole.to_string().into()).await.unwrap();
    let damaged = holdfast::keys::downloads_of(TODAY.parse().unwrap(), "damaged");
    sending.store.create(&damaged, "{".to_owned().into()).await.unwrap();
    assert_eq!(told(&redirecting, &redirecting.anybody(), &path).await["downloads"], 3);
    assert_eq!(told(&redirecting, &redirecting.anybody(), &format!("{POINT}/{TODAY}")).await["downloads"], 10);
}

#[tokio::test]
async fn what_cannot_be_written_waits_and_is_counted_once() {
    let plan = Plan::alone();
    let server = plan.start().await;
    server.signed_in("alice").await.publish(&Tarball::new("@acme/tool", "1.0.0"), "latest").await.ok();
    server.stop().await;
    // The first write of a start notes that the index is in use.
    for (fault, at) in [Fault::Before, Fault::After].into_iter().flat_map(|fault| [(fault, 0), (fault, 1)]) {
        let plan = plan.copied();
        let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(fault, at)));
        server.get(FILE).await.ok();
        // Fails once at most, and then writes what waits.
        let _ = server.app.registry.write_downloads().await;
        server.get(FILE).await.ok();
        let _ = server.app.registry.write_downloads().await;
        server.stop().await;
        let server = plan.start().await;
        let counted = server.get(&format!("{POINT}/2026-01-01/@acme/tool")).await.ok().json();
        assert_eq!(counted["downloads"], 2, "{fault:?} at {at}");
        server.stop().await;
    }
}

#[tokio::test]
async fn counts_follow_the_rules_of_reading() {
    let app = TestApp::with(|settings| {
        let mut rule = holdfast::auth::Rule::new("@secret/*".parse().unwrap());
        rule.principals.insert(holdfast::auth::Action::Read, vec!["user:alice".parse().unwrap()]);
        settings.access.rules = vec![rule];
    });
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish_versions("@secret/tool", &["1.0.0"]).await;
    alice.publish_versions("open", &["1.0.0"]).await;
    alice.get("/@secret/tool/-/tool-1.0.0.tgz").await.ok();
    alice.get("/open/-/open-1.0.0.tgz").await.ok();
    assert_eq!(told(&app, &alice, &format!("{POINT}/{TODAY}")).await["downloads"], 2);
    assert_eq!(told(&app, &bob, &format!("{POINT}/{TODAY}")).await["downloads"], 1);
    for path in [format!("{POINT}/{TODAY}/@secret%2ftool"), "/-/versions/@secret%2ftool/last-week".to_owned()] {
        alice.get(&path).await.ok();
        refused(&bob.get(&path).await, 404);
    }
    let several = told(&app, &bob, &format!("{POINT}/{TODAY}/open,@secret%2ftool")).await;
    assert!(several["@secret/tool"].is_null() && several["open"]["downloads"] == 1, "{several}");
    for wrong in ["last-decade", "2026-11-24:2026-11-23", "2020-01-01:2026-01-01"] {
        refused(&alice.get(&format!("{POINT}/{wrong}/open")).await, 400);
    }
    refused(&alice.get(&format!("{POINT}/2025-01-01:2026-06-01/open,plain")).await, 400);
    let many = vec!["open"; 129].join(",");
    refused(&alice.get(&format!("{POINT}/{TODAY}/{many}")).await, 400);
}
