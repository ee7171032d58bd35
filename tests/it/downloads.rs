//! Download counts: what is counted, and how it is told.

use std::time::Duration;

use holdfast::clock::Clock;
use holdfast::registry::Redirect;
use holdfast::storage::{Durability, Fault, FaultPlan, Store};
use holdfast::{keys, maintenance};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::bucket::location;
use crate::support::in_process::Plan;
use crate::support::maintenance::in_days;
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

/// A bucket with counts as several processes left them: of one day three parts and one that is damaged, of the next one part.
async fn many_parts() -> (ObjectServer, Store) {
    let server = ObjectServer::start("bucket");
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    for (day, part, counts) in [
        ("2020-01-01", "0a", json!({ "tool": { "1.0.0": 1, "1.1.0": 2 } })),
        ("2020-01-01", "0b", json!({ "tool": { "1.0.0": 4 }, "other": { "1.0.0": 8 } })),
        ("2020-01-01", "zz", json!({ "tool": { "1.0.0": 16 } })),
        ("2020-01-02", "0c", json!({ "tool": { "1.0.0": 32 } })),
    ] {
        let key = keys::downloads_of(day.parse().unwrap(), part);
        store.create(&key, json!({ "packages": counts }).to_string().into()).await.unwrap();
    }
    let damaged = keys::downloads_of("2020-01-01".parse().unwrap(), "damaged");
    store.create(&damaged, "{".to_owned().into()).await.unwrap();
    (server, store)
}

async fn parts(store: &Store) -> Vec<String> {
    let (mut listed, mut found) = (store.list_folder(&keys::all_downloads()), Vec::new());
    while let Some(key) = listed.recv().await {
        found.push(key.unwrap().as_str().trim_start_matches("-/downloads/").to_owned());
    }
    found.sort();
    found
}

/// What a server that has just begun tells of both days.
async fn of_both_days(server: &ObjectServer) -> Vec<u64> {
    let app = TestApp::over_bucket(server, |_| {});
    let told = app.anybody().get(&format!("{RANGE}/2020-01-01:2020-01-02")).await.ok().json();
    told["downloads"].as_array().unwrap().iter().map(|day| day["downloads"].as_u64().unwrap()).collect()
}

const COUNTED: [u64; 2] = [31, 32];

fn plan() -> maintenance::Plan {
    maintenance::Plan {
        dry_run: false,
        grace: maintenance::GRACE,
        cache: maintenance::CacheLimits::default(),
        set_aside: false,
        retention: Vec::new(),
    }
}

async fn gc(
    store: &Store,
    clock: &Clock,
    plan: &maintenance::Plan,
) -> Result<maintenance::Swept, maintenance::GcError> {
    maintenance::gc(store, clock, plan, |_, _| {}).await
}

#[tokio::test]
async fn days_that_are_over_become_one_object_and_count_the_same() {
    let (server, store) = many_parts().await;
    let before = parts(&store).await;
    assert_eq!(of_both_days(&server).await, COUNTED);
    // Whoever wrote a minute ago may write again.
    assert!(gc(&store, &Clock::default(), &plan()).await.unwrap().removed.is_empty());
    let dry = gc(&store, &in_days(2), &maintenance::Plan { dry_run: true, ..plan() }).await.unwrap();
    assert_eq!(dry.removed[&maintenance::Reason::AddedUp], 3);
    assert_eq!(parts(&store).await, before);

    let done = gc(&store, &in_days(2), &plan()).await.unwrap();
    assert_eq!((&done.removed, done.removed_bytes), (&dry.removed, dry.removed_bytes));
    assert_eq!(done.left_alone, ["-/downloads/2020-01-01/damaged.json"]);
    // One alone stays as it is.
    assert_eq!(parts(&store).await, ["2020-01-01/all.json", "2020-01-01/damaged.json", "2020-01-02/0c.json"]);
    let day = "2020-01-01".parse().unwrap();
    let all = keys::downloads_of(day, keys::ALL_DOWNLOADS);
    let sum: Value = serde_json::from_slice(&store.read(&all).await.unwrap()).unwrap();
    assert_eq!(sum["packages"], json!({ "tool": { "1.0.0": 21, "1.1.0": 2 }, "other": { "1.0.0": 8 } }));
    assert_eq!(of_both_days(&server).await, COUNTED);
    assert!(gc(&store, &in_days(2), &plan()).await.unwrap().removed.is_empty());

    // What comes later is added, and what was added before is not added again.
    for part in ["0a", "late"] {
        let counts = json!({ "packages": { "tool": { "1.0.0": 64 } } });
        store.create(&keys::downloads_of(day, part), counts.to_string().into()).await.unwrap();
    }
    assert_eq!(of_both_days(&server).await, [95, 32]);
    assert_eq!(gc(&store, &in_days(2), &plan()).await.unwrap().removed[&maintenance::Reason::AddedUp], 2);
    assert_eq!(of_both_days(&server).await, [95, 32]);

    // A sum that cannot be read keeps all of its day.
    store.put(&all, "{".to_owned().into(), Durability::Synced).await.unwrap();
    store.create(&keys::downloads_of(day, "later"), r#"{"packages":{}}"#.to_owned().into()).await.unwrap();
    let done = gc(&store, &in_days(2), &plan()).await.unwrap();
    assert_eq!((done.removed.len(), done.left_alone), (0, vec![all.to_string()]));
}

#[tokio::test]
async fn adding_up_that_is_cut_off_anywhere_loses_and_doubles_nothing() {
    for fault in [Fault::Before, Fault::After, Fault::Dead, Fault::Full] {
        for at in 0.. {
            let (server, store) = many_parts().await;
            let faults = FaultPlan::new(fault, at);
            let outcome = gc(&store.clone().with_faults(faults.clone()), &in_days(2), &plan()).await;
            assert_eq!(outcome.is_ok(), faults.writes() <= at, "{fault:?} {at}");
            assert_eq!(of_both_days(&server).await, COUNTED, "{fault:?} {at}");
            gc(&store, &in_days(2), &plan()).await.unwrap();
            assert_eq!(of_both_days(&server).await, COUNTED, "{fault:?} {at}");
            assert_eq!(parts(&store).await.len(), 3, "{fault:?} {at}");
            if outcome.is_ok() {
                assert!(at > 3, "too few writes were tried");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_add_up_at_once_while_others_read() {
    let (server, store) = many_parts().await;
    for number in 0..150 {
        let key = keys::downloads_of("2020-01-02".parse().unwrap(), &format!("more-{number}"));
        store.create(&key, r#"{"packages":{"tool":{"1.0.0":1}}}"#.to_owned().into()).await.unwrap();
    }
    let other = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let (clock, plan) = (in_days(2), plan());
    let adding = async { tokio::join!(gc(&store, &clock, &plan), gc(&other, &clock, &plan)) };
    let mut adding = Box::pin(adding);
    let (one, another) = loop {
        tokio::select! {
            done = &mut adding => break done,
            told = of_both_days(&server) => assert_eq!(told, [31, 182]),
        }
    };
    one.unwrap();
    another.unwrap();
    assert_eq!(of_both_days(&server).await, [31, 182]);
    assert_eq!(parts(&store).await, ["2020-01-01/all.json", "2020-01-01/damaged.json", "2020-01-02/all.json"]);
}
