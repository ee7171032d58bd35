//! `holdfast gc`: what nobody needs goes, what anybody may need stays, and no publish loses to it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::maintenance::{CacheLimits, Code, GRACE, GcError, Plan, Reason, Removal, Retention, Swept, gc};
use holdfast::storage::{Fault, FaultPlan, Store};
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, path_of};
use crate::support::bucket::location;
use crate::support::in_process;
use crate::support::maintenance::{LOOK, Place, findings, in_days, is_sound};
use crate::support::object_server::{self, Gate, Misbehaviour, ObjectServer, Operation};
use crate::support::server::program;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

fn plan() -> Plan {
    Plan { dry_run: false, grace: GRACE, cache: CacheLimits::default(), set_aside: false, retention: Vec::new() }
}

/// Rules as the settings give them.
fn rule(packages: &str, keep_prereleases: usize) -> Retention {
    Retention {
        packages: packages.parse().unwrap(),
        keep_prereleases,
        older_than: Duration::from_hours(1),
        protect: vec!["*-lts*".to_owned()],
    }
}

/// What went, by reason and key, and the summary.
async fn sweep(store: &Store, clock: &Clock, plan: &Plan) -> (Vec<Removal>, Swept) {
    let mut removals = Vec::new();
    let swept = gc(store, clock, plan, |_, removal| removals.extend(removal.cloned())).await.unwrap();
    removals
        .sort_by(|one, other| (one.reason, &one.key, &one.version).cmp(&(other.reason, &other.key, &other.version)));
    let bytes: u64 = removals.iter().map(|removal| removal.size_bytes).sum();
    assert_eq!(swept.removed_bytes, bytes);
    assert_eq!(swept.removed.values().sum::<u64>(), removals.len() as u64);
    (removals, swept)
}

fn keys_of(removals: &[Removal]) -> Vec<(Reason, &str)> {
    removals.iter().map(|removal| (removal.reason, removal.key.as_str())).collect()
}

async fn two_packages() -> Place {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0"]).await;
    alice.publish_versions("plain", &["1.0.0"]).await;
    drop(alice);
    Place::left_by(app).await
}

#[tokio::test]
async fn orphans_go_and_nothing_else() {
    let place = two_packages().await;
    let before = place.files();
    let orphans = [
        "-/attestations/@acme/tool/1.0.0-0a.json",
        "-/attestations/never/1.0.0-0a.json",
        "-/tarballs/@acme/tool/1.0.0-0a.tgz",
        "-/tarballs/never/1.0.0-0a.tgz",
    ];
    for orphan in orphans {
        place.write(orphan, "bytes");
    }
    let leftovers = [
        ("-/uploads/0a", Reason::LeftUpload),
        ("-/uploads/answer-0a", Reason::LeftUpload),
        ("-/logins/page-0a.json", Reason::EndedLogin),
        ("-/store/trial-0a", Reason::LeftTrial),
        ("-/advisories/0b.index", Reason::OldAdvisories),
    ];
    for (key, _) in leftovers {
        place.write(key, "{}");
    }
    // These stay.
    place.write("-/advisories/current.json", r#"{"fingerprint":"0a"}"#);
    place.write("-/advisories/0a.index", "");
    place.write("-/logins/invitation-0a.json", r#"{"expires":"2999-01-01T00:00:00.000Z"}"#);
    place.write("-/set-aside/plain/index.json", "{}");
    place.write("notes.txt", "somebody's");
    place.write("-/tarballs/notes.txt", "somebody's");
    place.write("plain/9.9.9.tgz", "an older system's");
    let full = place.files();

    // A sign-in that has ended needs no grace.
    let (young, _) = sweep(&place.store, &Clock::default(), &Plan { dry_run: true, ..plan() }).await;
    assert_eq!(keys_of(&young), [(Reason::EndedLogin, "-/logins/page-0a.json")]);
    let (would, dry) = sweep(&place.store, &in_days(2), &Plan { dry_run: true, ..plan() }).await;
    assert_eq!(place.files(), full, "a dry run removes nothing");
    let (done, swept) = sweep(&place.store, &in_days(2), &plan()).await;
    assert_eq!((&would, Swept { dry_run: false, ..dry }), (&done, swept));
    let mut expected: Vec<(Reason, &str)> = leftovers.iter().map(|(key, reason)| (*reason, *key)).collect();
    expected.extend(orphans[..2].iter().map(|key| (Reason::OrphanAttestations, *key)));
    expected.extend(orphans[2..].iter().map(|key| (Reason::OrphanTarball, *key)));
    expected.sort_unstable();
    assert_eq!(keys_of(&done), expected);
    let gone: Vec<&str> = orphans.into_iter().chain(leftovers.map(|(key, _)| key)).collect();
    let kept: BTreeMap<String, Vec<u8>> = full.into_iter().filter(|(key, _)| !gone.contains(&key.as_str())).collect();
    assert_eq!(place.files(), kept);
    assert!(before.keys().all(|key| kept.contains_key(key)));

    let (aside, _) = sweep(&place.store, &in_days(2), &Plan { set_aside: true, ..plan() }).await;
    assert_eq!(keys_of(&aside), [(Reason::SetAside, "-/set-aside/plain/index.json")]);
}

#[tokio::test]
async fn what_may_belong_to_a_damaged_document_stays() {
    let place = two_packages().await;
    place.write("-/tarballs/plain/9.9.9-0a.tgz", "perhaps an orphan");
    place.write("plain/index.json", "{");
    let before = place.files();
    let (removals, swept) = sweep(&place.store, &in_days(2), &Plan { retention: vec![rule("**", 0)], ..plan() }).await;
    assert_eq!(removals, []);
    assert!(swept.left_alone.iter().all(|key| key == "plain/index.json") && !swept.left_alone.is_empty());
    assert_eq!(place.files(), before);
}

/// A publish whose commit fails leaves its tarball. Who tries again must not count on it.
#[tokio::test]
async fn a_publish_does_not_rely_on_what_an_earlier_try_left() {
    let plan = in_process::Plan::alone();
    let server = plan.start().await;
    let alice = server.signed_in("alice").await;
    alice.publish(&Tarball::new("tool", "1.0.0"), "latest").await.ok();
    let token = alice.token().to_owned();
    drop(alice);
    server.stop().await;

    let tarball = Tarball::new("tool", "1.1.0");
    let server = plan.start_on(plan.store().await.with_faults(FaultPlan::new(Fault::Before, 2)));
    let refused = server.with_token(&token).publish(&tarball, "latest").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    server.stop().await;
    let store = plan.store().await;
    let orphan = findings(&store, &in_days(2), LOOK).await;
    let [orphan] = orphan.as_slice() else { panic!("{orphan:?}") };
    assert_eq!(orphan.code, Code::OrphanTarball);
    drop(store);

    let server = plan.start().await;
    server.with_token(&token).publish(&tarball, "latest").await.ok();
    server.stop().await;
    let store = plan.store().await;
    let (removals, _) = sweep(&store, &in_days(2), &self::plan()).await;
    assert_eq!(keys_of(&removals), [(Reason::OrphanTarball, orphan.key.as_str())]);
    assert_eq!(is_sound(&store).await, []);
    drop(store);
    let server = plan.start().await;
    assert!(server.get("/tool/-/tool-1.1.0.tgz").await.ok().body == tarball.bytes());
    server.stop().await;
}

/// One writer's tarballs are two days old before it commits, whatever it does, and gc runs all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_publish_loses_to_it() {
    const ROUNDS: usize = 30;
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["0.0.0"]).await;
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let is_commit = |operation, key: &str| operation == Operation::ConditionalPut && key.ends_with("/tool/index.json");
    let mut removed = 0;
    for round in 1..=ROUNDS {
        let tarball = Tarball::new("tool", &format!("1.0.{round}"));
        // The first try is written and not committed.
        let fault = Misbehaviour::Refuse(403);
        server.misbehave(object_server::Fault::new(fault).when(is_commit));
        let refused = alice.publish(&tarball).await;
        assert!(refused.status.is_server_error(), "{}", refused.text());
        server.behave();
        server.move_clock(Duration::from_hours(48));
        let now = in_days(2 * u64::try_from(round).unwrap());
        let sweeping = {
            let store = store.clone();
            tokio::spawn(async move { sweep(&store, &now, &plan()).await.0.len() })
        };
        alice.publish(&tarball).await.ok();
        removed += sweeping.await.unwrap();
        assert!(alice.get(&format!("/tool/-/tool-1.0.{round}.tgz")).await.ok().body == tarball.bytes(), "{round}");
    }
    removed += sweep(&store, &in_days(2 * u64::try_from(ROUNDS).unwrap() + 2), &plan()).await.0.len();
    assert_eq!(removed, ROUNDS, "each first try left one tarball");
    assert_eq!(findings(&store, &in_days(2 * u64::try_from(ROUNDS).unwrap() + 2), LOOK).await, []);
}

#[tokio::test]
async fn a_process_that_stood_still_between_tarball_and_commit_commits_nothing() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    let gate = Gate::closed();
    let is_tarball = |operation, key: &str| {
        matches!(operation, Operation::ConditionalPut | Operation::Put) && key.contains("/-/tarballs/tool/1.1.0")
    };
    let hold = Misbehaviour::Hold(gate.clone());
    server.misbehave(object_server::Fault::new(hold).when(is_tarball).times(1));
    let publisher = alice.clone();
    let publish = tokio::spawn(async move { publisher.publish(&Tarball::new("tool", "1.1.0")).await });
    server.wait_for(move |calls| calls.iter().any(|call| is_tarball(call.operation, &call.key))).await;
    app.clock.advance(Duration::from_hours(2));
    gate.open();
    let answer = publish.await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    alice.publish(&Tarball::new("tool", "1.1.0")).await.ok();
}

#[tokio::test]
async fn prereleases_go_by_the_rules_and_their_numbers_stay_used() {
    let registry = in_process::Plan::alone();
    let server = registry.start().await;
    let alice = server.signed_in("alice").await;
    for version in ["1.0.0-a.1", "1.0.0-a.2", "1.0.0-a.3", "1.0.0-lts.1", "1.0.0", "1.1.0-b.1", "1.1.0-b.2"] {
        registry.clock.advance(Duration::from_mins(1));
        alice.publish(&Tarball::new("@acme/tool", version), "latest").await.ok();
    }
    alice.put("/-/package/@acme%2ftool/dist-tags/latest", &json!("1.0.0")).await.ok();
    alice.put("/-/package/@acme%2ftool/dist-tags/next", &json!("1.0.0-a.2")).await.ok();
    alice.publish(&Tarball::new("plain", "1.0.0-a.1"), "latest").await.ok();
    let token = alice.token().to_owned();
    drop(alice);
    server.stop().await;

    let store = registry.store().await;
    let rules = Plan { retention: vec![rule("@acme/*", 1), rule("**", 9)], ..plan() };
    let (would, _) = sweep(&store, &in_days(2), &Plan { dry_run: true, ..rules.clone() }).await;
    let (done, _) = sweep(&store, &in_days(2), &rules).await;
    assert_eq!(would, done);
    let versions: Vec<&str> = done.iter().filter_map(|removal| removal.version.as_deref()).collect();
    assert_eq!(versions, ["1.0.0-a.1", "1.0.0-a.3", "1.1.0-b.1"]);
    assert_eq!(done.iter().filter(|removal| removal.reason == Reason::OrphanTarball).count(), 3);
    assert_eq!(is_sound(&store).await, []);
    assert_eq!(sweep(&store, &in_days(2), &rules).await.0, []);
    drop(store);

    let server = registry.start().await;
    let alice = server.with_token(&token);
    let document = alice.get("/@acme%2ftool").await.ok().json();
    let left: Vec<&String> = document["versions"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["1.0.0-a.2", "1.0.0-lts.1", "1.0.0", "1.1.0-b.2"]);
    assert_eq!(alice.publish(&Tarball::new("@acme/tool", "1.0.0-a.1").file("x", "y"), "next").await.status, 403);
    alice.get("/@acme/tool/-/tool-1.1.0-b.2.tgz").await.ok();
    assert_eq!(alice.get("/@acme/tool/-/tool-1.1.0-b.1.tgz").await.status, 404);
    drop(alice);
    server.stop().await;
}

async fn cached() -> (Place, Vec<String>) {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &[]);
    let anybody: Caller = app.anybody();
    for name in ["left", "@fix/right", "leaf"] {
        anybody.get(&path_of(name)).await.ok();
    }
    anybody.get("/left/-/left-1.2.0.tgz").await.ok();
    drop(anybody);
    let place = Place::left_by(app).await;
    let keys = place.files().into_keys().filter(|key| key.starts_with("-/cache/")).collect();
    (place, keys)
}

#[tokio::test]
async fn the_cache_is_cut_by_age_by_use_and_by_size() {
    let days = |days: u64| Some(Duration::from_hours(24 * days));
    let (place, cached) = cached().await;
    assert_eq!(cached.len(), 4, "{cached:?}");
    let with = |cache| Plan { cache, dry_run: true, ..plan() };
    let by = async |place: &Place, now: u64, cache| sweep(&place.store, &in_days(now), &with(cache)).await.0.len();
    assert_eq!(by(&place, 400, CacheLimits::default()).await, 0, "nothing goes without a limit");
    let age = CacheLimits { older_than: days(90), ..CacheLimits::default() };
    assert_eq!((by(&place, 89, age).await, by(&place, 91, age).await), (0, 4));
    // Reading is a use.
    let sizes: Vec<u64> = cached.iter().map(|key| place.files()[key].len() as u64).collect();
    let unused = CacheLimits { unused_for: days(30), ..CacheLimits::default() };
    // Written long ago, and read since.
    let written = std::time::SystemTime::now() - Duration::from_hours(24 * 100);
    for (key, read) in cached.iter().zip([100, 50, 20, 0]) {
        let read = std::time::SystemTime::now() - Duration::from_hours(24 * read);
        place.set_times(key, written, read);
    }
    let (removals, _) = sweep(&place.store, &in_days(0), &with(unused)).await;
    let expected: Vec<(Reason, &str)> = cached[..2].iter().map(|key| (Reason::CacheAge, key.as_str())).collect();
    assert_eq!(keys_of(&removals), expected);

    let limit = |max_bytes| CacheLimits { max_bytes: Some(max_bytes), ..CacheLimits::default() };
    let total: u64 = sizes.iter().sum();
    for (size, gone) in [(total, 0), (total - 1, 1), (total - sizes[0] - 1, 2), (sizes[3], 3), (0, 4)] {
        let (removals, _) = sweep(&place.store, &in_days(0), &with(limit(size))).await;
        let expected: Vec<(Reason, &str)> =
            cached[..gone].iter().map(|key| (Reason::CacheSize, key.as_str())).collect();
        assert_eq!(keys_of(&removals), expected, "{size} of {total}");
    }
    let (_, swept) = sweep(&place.store, &in_days(0), &Plan { cache: limit(sizes[3]), ..plan() }).await;
    assert_eq!(swept.removed, BTreeMap::from([(Reason::CacheSize, 3)]));
    assert_eq!(is_sound(&place.store).await, []);
}

#[tokio::test]
async fn a_bucket_needs_a_grace_time_and_does_not_tell_of_use() {
    let server = ObjectServer::start("bucket");
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let short = Plan { grace: Duration::from_hours(1), ..plan() };
    assert!(matches!(gc(&store, &Clock::default(), &short, |_, _| {}).await, Err(GcError::ShortGrace)));
    let cache = CacheLimits { unused_for: Some(GRACE), ..CacheLimits::default() };
    let used = Plan { cache, ..plan() };
    assert!(matches!(gc(&store, &Clock::default(), &used, |_, _| {}).await, Err(GcError::UseUnknown)));
    assert_eq!(sweep(&store, &Clock::default(), &plan()).await.1.objects, 0);
}

#[tokio::test]
async fn what_is_cut_off_anywhere_is_gone_on_with() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0-a.1", "1.0.0-a.2", "1.0.0"]).await;
    drop(alice);
    let place = Place::left_by(app).await;
    place.write("-/tarballs/tool/9.9.9-0a.tgz", "an orphan");
    let rules = Plan { retention: vec![rule("**", 0)], ..plan() };
    for fault in [Fault::Before, Fault::After, Fault::Dead, Fault::Full] {
        for at in 0.. {
            let (_folder, store) = place.copied();
            let faults = FaultPlan::new(fault, at);
            let outcome = gc(&store.clone().with_faults(faults.clone()), &in_days(2), &rules, |_, _| {}).await;
            assert_eq!(outcome.is_ok(), faults.writes() <= at, "{fault:?} {at}");
            let codes: Vec<Code> = is_sound(&store).await.iter().map(|found| found.code).collect();
            assert!(codes.iter().all(|code| *code == Code::OrphanTarball), "{fault:?} {at}: {codes:?}");
            gc(&store, &in_days(2), &rules, |_, _| {}).await.unwrap();
            assert_eq!(is_sound(&store).await, [], "{fault:?} {at}");
            let stored = store.read(&keys::packument(&"tool".parse().unwrap())).await.unwrap();
            let stored: Value = serde_json::from_slice(&stored).unwrap();
            assert_eq!(stored["versions"].as_object().unwrap().len(), 1, "{fault:?} {at}");
            if faults.writes() <= at {
                assert!(at >= 4, "{at} writes");
                break;
            }
        }
    }
}

fn command(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = data.parent().unwrap();
    let mut command = Command::new(program());
    command.arg("gc").args(arguments).arg("--data").arg(data).current_dir(folder);
    command.env_clear().env("HOME", folder).env("NO_COLOR", "1").stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn the_command_asks_tells_and_takes_the_rules_of_the_settings() {
    let registry = in_process::Plan::alone();
    let server = registry.start().await;
    let alice = server.signed_in("alice").await;
    for version in ["1.0.0-a.1", "1.0.0"] {
        alice.publish(&Tarball::new("tool", version), "latest").await.ok();
    }
    drop(alice);
    server.stop().await;
    drop(registry.store().await);
    let data = registry.data();
    let rules = "[[retention]]\npackages = [\"**\"]\nkeep_prereleases = 0\nolder_than = \"1d\"\n";
    std::fs::write(data.parent().unwrap().join("holdfast.toml"), rules).unwrap();
    let versions = || {
        let stored: Value = serde_json::from_slice(&std::fs::read(data.join("tool/index.json")).unwrap()).unwrap();
        stored["versions"].as_object().unwrap().len()
    };
    let (code, _, why) = command(data, &[]);
    assert_eq!(code, Some(1));
    assert!(why.contains("--dry-run first"), "{why}");
    let (code, report, _) = command(data, &["--dry-run", "--json"]);
    assert_eq!(code, Some(0), "{report}");
    let lines: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["reason"], &lines[0]["version"]), (&json!("outdated_version"), &json!("1.0.0-a.1")));
    assert_eq!(lines[2]["summary"]["removed"], json!({ "orphan_tarball": 1, "outdated_version": 1 }));
    assert_eq!(versions(), 2);
    let (code, report, _) = command(data, &["--yes"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("1 versions that a retention rule gives up removed."), "{report}");
    assert_eq!(versions(), 1);
    for wrong in [["--grace", "soon"], ["--cache-max-size", "many"], ["--cache-older-than", "-1d"]] {
        assert_eq!(command(data, &wrong).0, Some(2), "{wrong:?}");
    }
}

/// The program itself, killed when it has removed a few of many, again and again.
#[tokio::test]
async fn a_kill_in_the_middle_is_gone_on_with() {
    const PACKAGES: usize = 12;
    let registry = in_process::Plan::alone();
    let server = registry.start().await;
    let alice = server.signed_in("alice").await;
    for number in 0..PACKAGES {
        for version in ["1.0.0-a.1", "1.0.0-a.2", "1.0.0"] {
            alice.publish(&Tarball::new(&format!("tool-{number}"), version), "latest").await.ok();
        }
    }
    drop(alice);
    server.stop().await;
    drop(registry.store().await);
    let (data, folder) = (registry.data(), registry.data().parent().unwrap());
    let rules = "[[retention]]\npackages = [\"**\"]\nkeep_prereleases = 0\nolder_than = \"1d\"\n";
    std::fs::write(folder.join("holdfast.toml"), rules).unwrap();
    let mut kills = 0;
    loop {
        let mut command = Command::new(program());
        command.args(["gc", "--yes", "--json", "--data"]).arg(data).current_dir(folder).env_clear();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told: Vec<String> = lines.by_ref().take(5).map(Result::unwrap).collect();
        let is_done = told.iter().any(|line| line.contains("summary"));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = registry.store().await;
        let leftovers = is_sound(&store).await;
        assert!(leftovers.iter().all(|found| found.code == Code::OrphanTarball), "{leftovers:?}");
        if is_done {
            // What was cut off between a document and its tarballs is an orphan, and young.
            sweep(&store, &in_days(2), &plan()).await;
            assert_eq!(is_sound(&store).await, []);
            break;
        }
        kills += 1;
    }
    assert!(kills > 1, "{kills} kills");
    for number in 0..PACKAGES {
        let stored = std::fs::read(data.join(format!("tool-{number}/index.json"))).unwrap();
        let stored: Value = serde_json::from_slice(&stored).unwrap();
        assert_eq!(stored["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["1.0.0"]);
    }
}
