//! `holdfast import codebox`: every document of a bucket is taken over, nothing is lost, and the report tells what a person
//! has to look at.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use holdfast::clock::Clock;
use holdfast::storage::{Fault, FaultPlan, Store};
use holdfast::takeover::{Copies, CopyLine, Progress, Report, VersionLine, Wish, import};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::codebox::{Bucket, everything, without_additions};
use crate::support::server::{Settings, program};
use crate::support::tarballs::{Tarball, integrity};
use crate::support::upstream::Upstream;

const KEEP: Wish = Wish { dry_run: false, copies: Copies::Keep };

fn one(version: &str) -> Tarball {
    Tarball::new("old-tool", version)
}

fn clock() -> Clock {
    Clock::held_at("2026-11-24T12:00:00.000Z".parse().unwrap())
}

struct Place {
    folder: TempDir,
    store: Store,
}

impl Place {
    fn of(bucket: &Bucket) -> Self {
        let folder = tempfile::tempdir().unwrap();
        bucket.write_to(folder.path());
        Self { store: Store::open(folder.path()).unwrap(), folder }
    }

    async fn import(&self, wish: Wish) -> Report {
        import(&self.store, &clock(), wish, |_| {}).await.unwrap()
    }

    /// Every object, those of packages and what was set aside.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut objects = BTreeMap::new();
        below(self.folder.path(), self.folder.path(), &mut objects);
        objects.remove("-/lock");
        objects
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&self.objects()[&format!("{name}/index.json")]).unwrap()
    }
}

fn below(root: &Path, folder: &Path, objects: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(root, &path, objects);
        } else {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            objects.insert(key, std::fs::read(path).unwrap());
        }
    }
}

fn line(name: &str, version: &str) -> VersionLine {
    VersionLine { name: name.to_owned(), version: version.to_owned() }
}

#[tokio::test]
async fn every_document_is_taken_over_once() {
    let bucket = everything(&Upstream::with_fixtures()).await;
    let place = Place::of(&bucket);
    let (mut seen, clock) = (Vec::new(), clock());
    let note = |progress: Progress<'_>| seen.push((progress.done, progress.of, progress.name.to_string()));
    let report = import(&place.store, &clock, KEEP, note).await.unwrap();
    assert_eq!(seen, [(0, 3, "@acme/old".to_owned()), (1, 3, "left".to_owned()), (2, 3, "old-tool".to_owned())]);
    assert_eq!(report.upgraded, ["@acme/old", "old-tool"]);
    assert_eq!(report.copies, [CopyLine { name: "left".to_owned(), dropped: false }]);
    assert!(!report.has_problems() && report.foreign.is_empty(), "{report:?}");
    for name in ["old-tool", "@acme/old", "left"] {
        let after = place.document(name);
        assert_eq!(without_additions(&after), without_additions(&bucket.document(name)), "{name}");
        assert!(after.get("_attachments").is_none());
    }
    let document = place.document("old-tool");
    for number in ["1.0.0", "1.1.0", "2.0.0-rc.1"] {
        assert_eq!(document["versions"][number]["dist"]["integrity"], integrity(&one(number).bytes()));
        assert!(document["time"][number].is_string());
    }
    let after = place.objects();
    let again = place.import(KEEP).await;
    assert_eq!((again.upgraded.len(), again.already, &again.copies), (0, 2, &report.copies));
    assert_eq!(place.objects(), after);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let bucket = everything(&Upstream::with_fixtures()).await.without_object("old-tool/2.0.0-rc.1.tgz");
    for copies in [Copies::Keep, Copies::Drop] {
        let place = Place::of(&bucket);
        let before = place.objects();
        let dry = place.import(Wish { dry_run: true, copies }).await;
        assert_eq!(place.objects(), before);
        let done = place.import(Wish { dry_run: false, copies }).await;
        assert_eq!(dry, Report { dry_run: true, ..done.clone() });
        assert_eq!(done.saved_tarballs, [line("old-tool", "2.0.0-rc.1")]);
    }
}

#[tokio::test]
async fn a_frozen_copy_that_is_dropped_is_set_aside() {
    let bucket = everything(&Upstream::with_fixtures()).await;
    let place = Place::of(&bucket);
    // Also one that was kept at first.
    place.import(KEEP).await;
    let kept = place.objects()["left/index.json"].clone();
    let report = place.import(Wish { dry_run: false, copies: Copies::Drop }).await;
    assert_eq!(report.copies, [CopyLine { name: "left".to_owned(), dropped: true }]);
    let objects = place.objects();
    assert!(!objects.contains_key("left/index.json"));
    assert_eq!(objects["-/set-aside/left/index.json"], kept);
    assert_eq!(place.import(KEEP).await.copies, []);
}

#[tokio::test]
async fn what_needs_a_person_is_told_each_time_and_left_as_it_is() {
    let bucket = Bucket::new()
        .publish(&one("1.0.0"), "latest")
        .publish(&one("1.1.0"), "latest")
        .publish(&one("1.2.0"), "latest")
        .without_object("old-tool/1.0.0.tgz")
        .with_object("old-tool/1.1.0.tgz", "these are other bytes")
        .with_object("old-tool/9.9.9.tgz", "a publish that was cut off")
        .with_object("orphan/1.0.0.tgz", "the same of a package that never was")
        .with_object("broken/index.json", "{")
        .with_object("b@d/index.json", "{}")
        .with_object("old-tool/notes.txt", "somebody's")
        .with_object("notes.txt", "somebody's");
    let place = Place::of(&bucket);
    for round in 0..2 {
        let mut report = place.import(KEEP).await;
        assert_eq!((report.upgraded.len(), report.already), if round == 0 { (1, 0) } else { (0, 1) });
        assert_eq!(report.missing_tarballs, [line("old-tool", "1.0.0")]);
        assert_eq!(report.wrong_tarballs, [line("old-tool", "1.1.0")]);
        let mut unreadable: Vec<&str> = report.unreadable.iter().map(|line| line.key.as_str()).collect();
        unreadable.sort_unstable();
        assert_eq!(unreadable, ["b@d/index.json", "broken/index.json"]);
        report.foreign.sort_unstable();
        assert_eq!(report.foreign, ["notes.txt", "old-tool/9.9.9.tgz", "old-tool/notes.txt", "orphan/*.tgz"]);
        assert!(report.has_problems());
        let objects = place.objects();
        for (key, bytes) in bucket.objects().iter().filter(|(key, _)| *key != "old-tool/index.json") {
            assert_eq!(&objects[key], bytes, "{key}");
        }
    }
    let versions = &place.document("old-tool")["versions"];
    assert!(versions["1.2.0"]["dist"]["integrity"].is_string());
    assert!(versions["1.1.0"]["dist"].get("integrity").is_none(), "what is wrong is not made to look right");
}

#[tokio::test]
async fn an_import_that_is_cut_off_anywhere_is_gone_on_with() {
    let bucket = everything(&Upstream::with_fixtures())
        .await
        .without_object("old-tool/2.0.0-rc.1.tgz")
        .without_object("@acme/old/1.0.0.tgz");
    // A deprecation took the tarball out of that document.
    let bucket = bucket.with_object("@acme/old/1.0.0.tgz", Tarball::new("@acme/old", "1.0.0").bytes());
    let wish = Wish { dry_run: false, copies: Copies::Drop };
    let sound = Place::of(&bucket);
    sound.import(wish).await;
    let expected: Vec<String> = sound.objects().into_keys().collect();
    for fault in [Fault::Before, Fault::After, Fault::Dead] {
        let mut failures = 0;
        for at in 0.. {
            let place = Place::of(&bucket);
            let faults = FaultPlan::new(fault, at);
            let broken = place.store.clone().with_faults(faults.clone());
            failures += usize::from(import(&broken, &clock(), wish, |_| {}).await.is_err());
            let objects = place.objects();
            let has_bytes = objects.contains_key("old-tool/2.0.0-rc.1.tgz");
            let is_untouched = objects["old-tool/index.json"] == bucket.object("old-tool/index.json");
            assert!(has_bytes || is_untouched, "{fault:?} at {at}");
            let is_aside = objects.contains_key("-/set-aside/left/index.json");
            assert!(is_aside || objects.contains_key("left/index.json"), "{fault:?} at {at}");
            let report = place.import(wish).await;
            assert!(!report.has_problems(), "{fault:?} at {at}: {report:?}");
            let found: Vec<String> = place.objects().into_keys().collect();
            assert_eq!(found, expected, "{fault:?} at {at}");
            if faults.writes() <= at {
                break;
            }
        }
        assert!(failures > 3, "{fault:?} broke {failures} writes");
    }
}

#[tokio::test]
async fn imports_at_the_same_time_do_the_work_once() {
    let bucket = everything(&Upstream::with_fixtures()).await;
    let place = Place::of(&bucket);
    let reports = futures::future::join_all((0..4).map(|_| place.import(KEEP))).await;
    let upgraded: usize = reports.iter().map(|report| report.upgraded.len()).sum();
    assert_eq!(upgraded, 2, "{reports:?}");
    assert!(reports.iter().all(|report| report.upgraded.len() + report.already == 2 && !report.has_problems()));
    for name in ["old-tool", "@acme/old", "left"] {
        assert!(place.document(name)["_rev"].as_str().unwrap().starts_with("1-"), "{name}");
    }
}

async fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["import", "codebox"]).args(arguments).arg("--data").arg(data).current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_command_reports_for_people_and_for_scripts() {
    let bucket = everything(&Upstream::with_fixtures()).await.without_object("@acme/old/1.0.0.tgz");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    bucket.write_to(&data);
    let (code, report, _) = said(&command(&data, &["--dry-run"]).await);
    assert_eq!(code, Some(1), "{report}");
    assert!(report.starts_with("2 packages would be taken over, 0 need nothing."), "{report}");
    let (code, report, progress) = said(&command(&data, &["--json"]).await);
    assert_eq!(code, Some(1), "{report}");
    assert!(progress.contains("0 of 3 packages"), "{progress}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["dry_run"], false);
    assert_eq!(report["upgraded"], json!(["@acme/old", "old-tool"]));
    assert_eq!(report["copies"], json!([{ "name": "left", "dropped": false }]));
    assert_eq!(report["missing_tarballs"], json!([{ "name": "@acme/old", "version": "1.0.0" }]));

    std::fs::write(data.join("@acme/old/1.0.0.tgz"), Tarball::new("@acme/old", "1.0.0").bytes()).unwrap();
    let (code, report, _) = said(&command(&data, &[]).await);
    assert_eq!(code, Some(0), "{report}");
    for part in ["1 packages taken over, 1 need nothing.", "--drop-frozen", "  left"] {
        assert!(report.contains(part), "{part} is missing in:\n{report}");
    }
    assert_eq!(said(&command(&data, &["--drop-frozen", "--keep-frozen"]).await).0, Some(2));
    let (code, report, _) = said(&command(&data, &["--drop-frozen"]).await);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("set aside") && !data.join("left/index.json").exists(), "{report}");
}

#[tokio::test]
async fn the_command_leaves_a_directory_alone_that_a_server_owns_or_that_is_read_only() {
    let server = Settings::alone().file("old-tool/index.json", "{}").start().await;
    let (code, _, why) = said(&command(&server.data(), &[]).await);
    assert_eq!(code, Some(1));
    assert!(why.contains("stop it first"), "{why}");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Bucket::new().publish(&one("1.0.0"), "latest").write_to(&data);
    let before = std::fs::read(data.join("old-tool/index.json")).unwrap();
    std::fs::write(folder.path().join("holdfast.toml"), "[storage]\nread_only = true\n").unwrap();
    let (code, _, why) = said(&command(&data, &[]).await);
    assert_eq!(code, Some(1));
    assert!(why.contains("storage.read_only"), "{why}");
    assert_eq!(std::fs::read(data.join("old-tool/index.json")).unwrap(), before);
    assert_eq!(said(&command(&data, &["--dry-run"]).await).0, Some(0));
}
