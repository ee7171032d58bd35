//! `holdfast migrate`, `backup` and `restore`: whatever is cut off, no document is without its tarballs, nothing that is newer
//! is lost, and a second run does the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::maintenance::backup::{self, RestoreWish};
use holdfast::maintenance::{BackupError, CopyReport, MoveError, Wish, copy};
use holdfast::npm::PackageName;
use holdfast::npm::packument::HostedPackument;
use holdfast::storage::{Durability, Fault, FaultPlan, Location, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::bucket::location;
use crate::support::codebox::everything;
use crate::support::http::publish_document;
use crate::support::in_process::{InProcess, Plan, files_below, reopened};
use crate::support::object_server::{Fault as ServerFault, Misbehaviour, ObjectServer, Operation};
use crate::support::server::{Settings, program};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Upstream, noise};

const COPY: Wish = Wish { dry_run: false, with_cache: false, ours_only: false, overwrite: false, prune: false };
const RESTORE: RestoreWish = RestoreWish { dry_run: false, into_existing: false, overwrite: false };

fn name(text: &str) -> PackageName {
    text.parse().unwrap()
}

/// A directory with three packages, two accounts, and a large tarball; a server's folder beside it.
async fn registry() -> (Plan, InProcess) {
    let plan = Plan::alone();
    let server = plan.start().await.signed_in("ann").await;
    for (name, version) in [("tool", "1.0.0"), ("tool", "1.1.0"), ("@acme/kit", "2.0.0-rc.1")] {
        server.publish(&Tarball::new(name, version), "latest").await.ok();
    }
    // Larger than what is moved in memory.
    server.publish(&Tarball::new("large", "1.0.0").file("data.bin", noise(9 << 20)), "latest").await.ok();
    (plan, server)
}

async fn of_stopped_registry() -> (Plan, Store) {
    let (plan, server) = registry().await;
    server.stop().await;
    let store = Store::open_reading(plan.data()).unwrap();
    (plan, store)
}

fn directory() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

async fn copied(from: &Store, to: &Store, wish: Wish) -> CopyReport {
    copy(from, to, &Clock::default(), wish, |_, _| {}).await.unwrap()
}

/// All that a copy takes along, by its key.
async fn objects(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut listed) = (BTreeMap::new(), store.list());
    while let Some(key) = listed.recv().await {
        let key = key.unwrap();
        if !matches!(key.part(), keys::Part::Passing | keys::Part::Cached) {
            found.insert(key.to_string(), store.read(&key).await.unwrap().to_vec());
        }
    }
    found
}

/// No document names what is not there.
fn hangs_together(objects: &BTreeMap<String, Vec<u8>>) {
    for (key, bytes) in objects {
        let Some(name) = key.strip_suffix("/index.json").filter(|_| !key.starts_with("-/")) else { continue };
        let (document, name) = (HostedPackument::parse(bytes).unwrap(), name.parse().unwrap());
        for number in document.version_numbers() {
            let Some(digest) = document.tarball_digest(number) else { continue };
            let tarball = keys::tarball(&name, &number.parse().unwrap(), digest);
            assert!(objects.contains_key(tarball.as_str()), "{key} names {tarball}, which is not there");
        }
    }
}

/// A store in a bucket of a server of its own.
fn bucket() -> (ObjectServer, Location) {
    let server = ObjectServer::start("bucket");
    let place = location(&server, "s3://bucket/below");
    (server, place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_goes_from_any_store_to_any_other_and_comes_back() {
    let (plan, source) = of_stopped_registry().await;
    let before = objects(&source).await;
    let (_server, place) = bucket();
    let there = Store::at(&place).unwrap();
    let report = copied(&source, &there, COPY).await;
    assert!(!report.has_problems(), "{report:?}");
    assert_eq!(report.copied, before.len() as u64);
    assert_eq!(objects(&there).await, before);

    let (folder, back) = directory();
    copied(&Store::reading_at(&place).unwrap(), &back, COPY).await;
    assert_eq!(objects(&back).await, before);
    drop(back);
    // What came back is a registry.
    let mut again = plan.clone();
    again.settings.storage.directory = folder.path().join("store");
    let server = again.start().await;
    assert_eq!(server.get("/tool").await.ok().json()["dist-tags"]["latest"], "1.1.0");
    assert_eq!(server.get("/tool/-/tool-1.0.0.tgz").await.ok().body, Tarball::new("tool", "1.0.0").bytes());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_copies_what_differs_and_nothing_else() {
    let (plan, server) = registry().await;
    let source = Store::open_reading(plan.data()).unwrap();
    let (_folder, there) = directory();
    copied(&source, &there, COPY).await;
    let again = copied(&source, &there, COPY).await;
    assert_eq!((again.copied, again.unchanged), (0, objects(&source).await.len() as u64), "{again:?}");

    plan.clock.advance(std::time::Duration::from_secs(1));
    server.publish(&Tarball::new("tool", "1.2.0"), "latest").await.ok();
    let dry = copied(&source, &there, Wish { dry_run: true, ..COPY }).await;
    assert_eq!(dry.copied, 3, "a tarball, a document and their event: {dry:?}");
    assert!(!objects(&there).await.keys().any(|key| key.contains("1.2.0")), "a dry run wrote");
    let third = copied(&source, &there, COPY).await;
    assert_eq!((third.copied, third.has_problems()), (3, false), "{third:?}");
    assert_eq!(objects(&there).await, objects(&source).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newer_on_the_other_side_stays_and_is_told() {
    let (plan, server) = registry().await;
    let source = Store::open_reading(plan.data()).unwrap();
    let (folder, there) = directory();
    copied(&source, &there, COPY).await;
    drop(there);
    plan.clock.advance(std::time::Duration::from_secs(1));
    server.publish(&Tarball::new("tool", "3.0.0"), "latest").await.ok();
    // Later still, somebody publishes into the copy.
    plan.clock.advance(std::time::Duration::from_secs(1));
    let mut other = plan.clone();
    other.settings.storage.directory = folder.path().join("store");
    let second = other.start().await.with_token(server.token());
    second.publish(&Tarball::new("tool", "4.0.0"), "latest").await.ok();
    second.stop().await;

    let there = other.store().await;
    let document = keys::packument(&name("tool"));
    let newer = there.read(&document).await.unwrap();
    let report = copied(&source, &there, COPY).await;
    assert_eq!(report.newer_there.first, ["tool/index.json"]);
    assert_eq!(there.read(&document).await.unwrap(), newer);
    let report = copied(&source, &there, Wish { overwrite: true, ..COPY }).await;
    assert!(!report.has_problems(), "{report:?}");
    assert_eq!(there.read(&document).await.unwrap(), source.read(&document).await.unwrap());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pruning_removes_on_the_other_side() {
    let (_plan, source) = of_stopped_registry().await;
    let (_folder, there) = directory();
    copied(&source, &there, COPY).await;
    let extra = keys::packument(&name("gone"));
    there.create(&extra, "{}".into()).await.unwrap();
    there.create(&keys::login("abc"), "{}".into()).await.unwrap();
    assert_eq!(copied(&source, &there, COPY).await.pruned, 0);
    let dry = copied(&source, &there, Wish { prune: true, dry_run: true, ..COPY }).await;
    assert_eq!(dry.pruned, 1);
    assert!(there.read(&extra).await.is_ok());
    assert_eq!(copied(&source, &there, Wish { prune: true, ..COPY }).await.pruned, 1);
    assert_eq!(objects(&there).await, objects(&source).await);
    // What no copy takes along is none of its business there either.
    assert!(there.read(&keys::login("abc")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_dies_at_any_write_leaves_no_document_without_its_tarballs_and_goes_on() {
    let (_plan, source) = of_stopped_registry().await;
    let all = objects(&source).await;
    for fault in [Fault::Dead, Fault::After, Fault::Full] {
        for at in 0..all.len() {
            let (folder, there) = directory();
            let broken = there.with_faults(FaultPlan::new(fault, at));
            let failed = copy(&source, &broken, &Clock::default(), COPY, |_, _| {}).await;
            assert!(matches!(failed, Err(MoveError::Target { .. })), "{fault:?} {at}: {failed:?}");
            drop(broken);
            let there = reopened(&folder.path().join("store")).await;
            hangs_together(&objects(&there).await);
            let report = copied(&source, &there, COPY).await;
            assert!(!report.has_problems(), "{fault:?} {at}: {report:?}");
            assert_eq!(objects(&there).await, all, "{fault:?} {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_answers_wrongly_gets_every_object_once() {
    let (_plan, source) = of_stopped_registry().await;
    let all = objects(&source).await;
    for misbehaviour in [
        Misbehaviour::ApplyAndAnswer(500),
        Misbehaviour::ApplyAndHangUp,
        Misbehaviour::Refuse(503),
        Misbehaviour::Refuse(409),
        Misbehaviour::HangUp,
    ] {
        let (server, place) = bucket();
        let there = Store::at(&place).unwrap();
        there.require_conditions().await.unwrap();
        // Every other object's first write.
        let is_meant =
            |operation: Operation, key: &str| operation == Operation::ConditionalPut && key.len().is_multiple_of(2);
        server.misbehave(ServerFault::new(misbehaviour.clone()).when(is_meant).times(3));
        let report = copied(&source, &there, COPY).await;
        assert!(!report.has_problems(), "{misbehaviour:?}: {report:?}");
        assert_eq!(objects(&there).await, all, "{misbehaviour:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_at_the_source_is_told_and_taken_along() {
    let (plan, server) = registry().await;
    server.stop().await;
    let owner = Store::open(plan.data()).unwrap();
    let (mut tarballs, mut listed) = (Vec::new(), owner.list());
    while let Some(key) = listed.recv().await {
        tarballs.extend(key.ok().filter(|key| key.tarball_digest().is_some()));
    }
    tarballs.sort();
    let of = |part: &str| tarballs.iter().find(|key| key.as_str().contains(part)).unwrap().clone();
    let (wrong, missing) = (of("tool/1.0.0"), of("kit/2.0.0"));
    owner.put(&wrong, "something else".into(), Durability::Synced).await.unwrap();
    owner.delete(&missing).await.unwrap();
    let damaged = keys::packument(&name("damaged"));
    owner.create(&damaged, "{ no json".into()).await.unwrap();
    std::fs::write(plan.data().join("notes.txt"), "of an operator").unwrap();
    std::fs::create_dir_all(plan.data().join("-/cache/default/left")).unwrap();
    std::fs::write(plan.data().join("-/cache/default/left/full.json"), "cached").unwrap();
    let all = objects(&owner).await;
    drop(owner);

    let source = Store::open_reading(plan.data()).unwrap();
    let (_folder, there) = directory();
    let report = copied(&source, &there, COPY).await;
    assert_eq!(report.wrong.first, [wrong.as_str()]);
    assert_eq!(report.missing.first, [missing.as_str()]);
    assert_eq!(report.unreadable.first, ["damaged/index.json"]);
    assert_eq!(report.foreign, 1);
    assert!(report.left_out > 0);
    assert_eq!(objects(&there).await, all);
    // Without what others wrote, and with the cache.
    let (folder, ours) = directory();
    copied(&source, &ours, Wish { ours_only: true, with_cache: true, ..COPY }).await;
    assert!(!folder.path().join("store/notes.txt").exists());
    assert_eq!(std::fs::read(folder.path().join("store/-/cache/default/left/full.json")).unwrap(), b"cached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_codebox_bucket_is_copied_to_the_letter() {
    let bucket = everything(&Upstream::with_fixtures()).await;
    let folder = tempfile::tempdir().unwrap();
    bucket.write_to(folder.path());
    let source = Store::open_reading(folder.path()).unwrap();
    let (_folder, there) = directory();
    let report = copied(&source, &there, COPY).await;
    assert!(!report.has_problems() && report.foreign == 0, "{report:?}");
    assert_eq!(&objects(&there).await, bucket.objects());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_proven_and_brought_back() {
    let (_plan, source) = of_stopped_registry().await;
    let (all, clock) = (objects(&source).await, Clock::default());
    let (folder, place) = directory();
    let made = backup::into_store(&source, &place, &clock, COPY, |_, _| {}).await.unwrap();
    assert_eq!((made.totals.objects, made.copy.copied), (all.len() as u64, all.len() as u64));
    // A second one proves what is there, and writes the manifest only.
    let again = backup::into_store(&source, &place, &clock, COPY, |_, _| {}).await.unwrap();
    assert_eq!((again.totals, again.copy.copied), (made.totals, 0));
    assert!(backup::verify_store(&place, |_, _| {}).await.unwrap().wrong.is_empty());

    let archive = folder.path().join("npm.tar.zst");
    let packed = backup::into_archive(&source, &archive, &clock, COPY, |_, _| {}).await.unwrap();
    assert_eq!(packed.totals, made.totals);
    assert_eq!(backup::verify_archive(&archive, |_, _| {}).await.unwrap().totals, made.totals);

    let (_other, first) = directory();
    let restored = backup::restore_store(&place, &first, RESTORE, |_, _| {}).await.unwrap();
    assert_eq!((restored.restored, restored.has_problems()), (all.len() as u64, false), "{restored:?}");
    assert_eq!(objects(&first).await, all);
    let (_server, bucket) = bucket();
    let second = Store::at(&bucket).unwrap();
    let restored = backup::restore_archive(&archive, &second, RESTORE, |_, _| {}).await.unwrap();
    assert_eq!((restored.restored, restored.has_problems()), (all.len() as u64, false), "{restored:?}");
    assert_eq!(objects(&second).await, all);
    let (_other, third) = directory();
    let stream = Box::new(std::fs::File::open(&archive).unwrap());
    backup::restore_stream(stream, &third, RESTORE, |_, _| {}).await.unwrap();
    assert_eq!(objects(&third).await, all);
    // Over itself nothing is to be done; over something else nothing is done.
    let refused = backup::restore_store(&place, &first, RESTORE, |_, _| {}).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty)), "{refused:?}");
    let existing = RestoreWish { into_existing: true, ..RESTORE };
    let over = backup::restore_archive(&archive, &first, existing, |_, _| {}).await.unwrap();
    assert_eq!((over.restored, over.unchanged), (0, all.len() as u64));
    let document = keys::packument(&name("tool"));
    first.put(&document, "{}".into(), Durability::Synced).await.unwrap();
    let over = backup::restore_store(&place, &first, existing, |_, _| {}).await.unwrap();
    assert_eq!(over.kept.first, ["tool/index.json"]);
    let over = backup::restore_archive(&archive, &first, RestoreWish { overwrite: true, ..existing }, |_, _| {}).await;
    assert_eq!(over.unwrap().restored, 1);
    assert_eq!(objects(&first).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_damaged_or_not_whole_is_found_out() {
    let (_plan, source) = of_stopped_registry().await;
    let clock = Clock::default();
    let (folder, place) = directory();
    backup::into_store(&source, &place, &clock, COPY, |_, _| {}).await.unwrap();
    let archive = folder.path().join("npm.tar.zst");
    backup::into_archive(&source, &archive, &clock, COPY, |_, _| {}).await.unwrap();

    // A registry is no place for a backup, and nothing that is no backup is restored.
    let (_other, live) = directory();
    copied(&source, &live, COPY).await;
    let refused = backup::into_store(&source, &live, &clock, COPY, |_, _| {}).await;
    assert!(matches!(refused, Err(BackupError::NoBackupThere)), "{refused:?}");
    let (_empty, empty) = directory();
    let refused = backup::restore_store(&live, &empty, RESTORE, |_, _| {}).await;
    assert!(matches!(refused, Err(BackupError::NoManifest)), "{refused:?}");

    let whole = std::fs::read(&archive).unwrap();
    for (what, bytes) in [
        ("cut off", whole[..whole.len() - 40].to_vec()),
        ("cut off early", whole[..whole.len() / 2].to_vec()),
        (
            "a flipped bit",
            whole.iter().enumerate().map(|(at, byte)| if at == whole.len() / 3 { byte ^ 1 } else { *byte }).collect(),
        ),
        ("empty", Vec::new()),
        ("something else", b"not an archive at all".to_vec()),
    ] {
        std::fs::write(&archive, bytes).unwrap();
        assert!(backup::verify_archive(&archive, |_, _| {}).await.is_err(), "{what}");
        let refused = backup::restore_archive(&archive, &empty, RESTORE, |_, _| {}).await;
        assert!(refused.is_err() && objects(&empty).await.is_empty(), "{what}: {refused:?}");
    }

    place.put(&keys::packument(&name("tool")), "{}".into(), Durability::Synced).await.unwrap();
    place.delete(&keys::packument(&name("large"))).await.unwrap();
    let mut wrong = backup::verify_store(&place, |_, _| {}).await.unwrap().wrong.first;
    wrong.sort();
    assert_eq!(wrong, ["large/index.json", "tool/index.json"]);
    let restored = backup::restore_store(&place, &empty, RESTORE, |_, _| {}).await.unwrap();
    assert_eq!(restored.wrong.count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_or_restore_that_dies_says_so_and_goes_on() {
    let (_plan, source) = of_stopped_registry().await;
    let (all, clock) = (objects(&source).await, Clock::default());
    for at in 1..=all.len() + 1 {
        let (folder, place) = directory();
        let broken = place.with_faults(FaultPlan::new(Fault::Dead, at));
        assert!(backup::into_store(&source, &broken, &clock, COPY, |_, _| {}).await.is_err());
        drop(broken);
        let place = reopened(&folder.path().join("store")).await;
        let refused = backup::verify_store(&place, |_, _| {}).await;
        assert!(matches!(refused, Err(BackupError::Manifest(_))), "{at}: {refused:?}");
        backup::into_store(&source, &place, &clock, COPY, |_, _| {}).await.unwrap();
        assert!(backup::verify_store(&place, |_, _| {}).await.unwrap().wrong.is_empty());

        let (other, target) = directory();
        let broken = target.with_faults(FaultPlan::new(Fault::Dead, at));
        let stopped = backup::restore_store(&place, &broken, RESTORE, |_, _| {}).await;
        drop(broken);
        let target = reopened(&other.path().join("store")).await;
        assert!(stopped.is_err(), "{at}");
        hangs_together(&objects(&target).await);
        let done = backup::restore_store(&place, &target, RESTORE, |_, _| {}).await.unwrap();
        assert!(!done.has_problems(), "{at}: {done:?}");
        assert_eq!(objects(&target).await, all, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_archive_disk_leaves_no_archive() {
    let (_plan, source) = of_stopped_registry().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("absent/npm.tar.zst");
    assert!(backup::into_archive(&source, &archive, &Clock::default(), COPY, |_, _| {}).await.is_err());
    let full = Box::new(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let refused = backup::into_stream(&source, full, &Clock::default(), COPY, |_, _| {}).await;
    assert!(matches!(refused, Err(BackupError::Archive(_))), "{refused:?}");
}

/// Runs a command with a home of its own.
async fn run(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(home).env_clear().env("HOME", home).env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_go_on_publishing_while_their_store_is_backed_up_and_copied() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("ann", "correct horse battery").await;
    let home = tempfile::tempdir().unwrap();
    let data = server.data().display().to_string();
    let (url, from) = (server.url(), token.clone());
    let (sender, is_over) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn(async move {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut acknowledged = 0;
        while !*is_over.borrow() {
            let name = format!("busy-{}", acknowledged % 5);
            let body = publish_document(&Tarball::new(&name, &format!("1.0.{acknowledged}")), "latest");
            let answer = http.put(format!("{url}{name}")).bearer_auth(&from).body(serde_json::to_vec(&body).unwrap());
            assert_eq!(answer.send().await.unwrap().status(), 201);
            acknowledged += 1;
        }
        acknowledged
    });
    for round in 0..3 {
        let before: Vec<String> = published(&server.http().get("/busy-0").await.json());
        let made = run(home.path(), &["backup", &format!("backup-{round}"), "--data", &data, "--json"]).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let place = Store::open_reading(&home.path().join(format!("backup-{round}"))).unwrap();
        hangs_together(&objects(&place).await);
        if let Ok(document) = place.read(&keys::packument(&name("busy-0"))).await {
            let saved = published(&serde_json::from_slice(&document).unwrap());
            assert!(before.iter().all(|version| saved.contains(version)), "an acknowledged version is missing");
        } else {
            assert!(before.is_empty());
        }
        let copied = run(home.path(), &["migrate", "--from-store", &data, "--to-store", "copy", "--json"]).await;
        assert_eq!(json(&copied)["missing"]["count"], 0);
        hangs_together(&objects(&Store::open_reading(&home.path().join("copy")).unwrap()).await);
        let packed = run(home.path(), &["backup", "one.tar.zst", "--data", &data]).await;
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        let proven = run(home.path(), &["backup", "--verify", "one.tar.zst"]).await;
        assert!(proven.status.success(), "{}", String::from_utf8_lossy(&proven.stderr));
    }
    sender.send(true).unwrap();
    assert!(publishing.await.unwrap() > 0);
}

/// Kills a command when a folder has so many files.
async fn killed_at(home: &Path, arguments: &[&str], folder: &str, files: usize) {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(home).env_clear().env("HOME", home);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut count = 0;
        files_below(&home.join(folder), &mut |_| count += 1);
        if count >= files || child.try_wait().unwrap().is_some() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{arguments:?} makes no progress");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_or_restore_that_is_killed_leaves_what_can_be_read_and_goes_on() {
    let (plan, server) = registry().await;
    for number in 0..40 {
        server.publish(&Tarball::new(&format!("many-{number}"), "1.0.0"), "latest").await.ok();
    }
    server.stop().await;
    let all = objects(&Store::open_reading(plan.data()).unwrap()).await;
    let home = tempfile::tempdir().unwrap();
    let data = plan.data().display().to_string();
    let backup = run(home.path(), &["backup", "backup", "--data", &data]).await;
    assert!(backup.status.success(), "{}", String::from_utf8_lossy(&backup.stderr));
    for (arguments, place) in [
        (&["migrate", "--from-store", &data, "--to-store", "copy"][..], "copy"),
        (&["restore", "backup", "--data", "restored"], "restored"),
    ] {
        for files in [3, 30, 60, 85] {
            killed_at(home.path(), arguments, place, files).await;
            hangs_together(&objects(&Store::open_reading(&home.path().join(place)).unwrap()).await);
        }
        let done = run(home.path(), arguments).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let store = Store::open_reading(&home.path().join(place)).unwrap();
        let mut found = objects(&store).await;
        // Each run of a copy, and the restore that was finished, is in the record of the store that it was brought to.
        let (known, of_commands): (Vec<_>, Vec<_>) =
            found.keys().filter(|key| key.starts_with("-/events/")).cloned().partition(|key| all.contains_key(key));
        assert!(!known.is_empty() && !of_commands.is_empty());
        found.retain(|key, _| !of_commands.contains(key));
        assert_eq!(found, all, "{arguments:?}");
    }
}

fn published(document: &Value) -> Vec<String> {
    document["versions"].as_object().map(|versions| versions.keys().cloned().collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_store_is_reached_as_its_own_file_says() {
    let (plan, source) = of_stopped_registry().await;
    let server = ObjectServer::start("bucket");
    let home = tempfile::tempdir().unwrap();
    let file = format!(
        "[storage]\nendpoint = \"{}\"\nregion = \"us-east-1\"\naccess_key_id = \"other\"\nsecret_access_key = \"other\"\n",
        server.url()
    );
    std::fs::write(home.path().join("other.toml"), file).unwrap();
    let data = plan.data().display().to_string();
    let arguments =
        ["migrate", "--from-store", &data, "--to-store", "s3://bucket", "--to-config", "other.toml", "--json"];
    let done = run(home.path(), &arguments).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(json(&done)["copied"], objects(&source).await.len());
    assert!(server.snapshot().contains_key("tool/index.json"));

    let within = format!("{data}/within");
    let refused = run(home.path(), &["migrate", "--from-store", &data, "--to-store", &within]).await;
    assert!(!refused.status.success() && !Path::new(&within).exists());
    // Nobody can be asked in a script.
    let refused = run(home.path(), &["migrate", "--from-store", &data, "--to-store", "copy", "--prune"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes copy"));
    assert!(!home.path().join("copy").exists());
}

/// A key that a backup must never bring back.
#[tokio::test]
async fn an_archive_with_foreign_entries_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.tar.zst");
    for entry in ["-/lock", "-/staging/1", "../outside", "-/control/orders"] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..entry.len()].copy_from_slice(entry.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        std::fs::write(&path, zstd::encode_all(&builder.into_inner().unwrap()[..], 1).unwrap()).unwrap();
        let (_other, target) = directory();
        let stream = Box::new(std::fs::File::open(&path).unwrap());
        let refused = backup::restore_stream(stream, &target, RESTORE, |_, _| {}).await;
        assert!(matches!(refused, Err(BackupError::Archive(_))), "{entry}: {refused:?}");
        assert!(target.list().recv().await.is_none(), "{entry}");
    }
}
