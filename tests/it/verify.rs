//! `holdfast verify`: what is sound is clean, each kind of damage is told and told apart, and a repair loses nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::maintenance::{Code, Finding, Look, verify};
use holdfast::npm::Form;
use holdfast::storage::{self, Durability, FaultPlan, Store};
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, path_of};
use crate::support::bucket::location;
use crate::support::codebox::{Bucket, everything};
use crate::support::http::publish_document;
use crate::support::in_process::Plan;
use crate::support::maintenance::{LOOK, Place, findings, in_days, is_sound};
use crate::support::object_server::{Fault, Gate, Misbehaviour, ObjectServer, Operation};
use crate::support::server::{Settings, program};
use crate::support::signing::provenance;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const REPAIR: Look = Look { repair: true, ..LOOK };

/// What a registry left in which most of what there is has happened.
async fn lived_in() -> Place {
    let upstream = Upstream::with_fixtures();
    let app = TestApp::before(&upstream, &["@acme/*", "gone", "plain"]);
    let alice = app.user("alice").await;
    app.user("Bob").await;
    alice.publish_versions("@acme/tool", &["1.0.0", "1.1.0", "2.0.0-rc.1"]).await;
    for name in ["@acme/damaged", "@acme/marks", "@acme/tags", "@acme/bytes"] {
        alice.publish_versions(name, &["1.0.0", "1.1.0"]).await;
    }
    alice.publish_versions("gone", &["1.0.0"]).await;
    alice.delete(&format!("/gone/-rev/{}", alice.revision("gone").await)).await.ok();
    publish_with_bundle(&alice, "plain").await;
    alice.put("/-/package/@acme%2ftool/dist-tags/old", &json!("1.0.0")).await.ok();
    for name in ["left", "@fix/right"] {
        app.anybody().get(&path_of(name)).await.ok();
        app.anybody().get_abbreviated(&path_of(name)).await.ok();
    }
    app.anybody().get("/left/-/left-1.2.0.tgz").await.ok();
    app.anybody().get("/@fix/right/-/right-2.1.0.tgz").await.ok();
    drop(alice);
    Place::left_by(app).await
}

async fn publish_with_bundle(caller: &Caller, name: &str) {
    let tarball = Tarball::new(name, "1.0.0");
    let bundle = provenance(name, "1.0.0", &tarball.bytes()).to_string();
    let mut document = publish_document(&tarball, "latest");
    document["_attachments"][format!("{name}-1.0.0.sigstore")] = json!({
        "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": bundle, "length": bundle.len(),
    });
    caller.put(&path_of(name), &document).await.ok();
}

fn told(findings: &[Finding]) -> BTreeSet<(Code, String, Option<String>)> {
    findings.iter().map(|found| (found.code, found.key.clone(), found.part.clone())).collect()
}

#[tokio::test]
async fn what_is_sound_is_clean() {
    let place = lived_in().await;
    let store = place.store.clone();
    for content in [true, false] {
        let checked =
            verify(&store, &in_days(2), Look { content, ..LOOK }, |_, found| assert_eq!(found, None)).await.unwrap();
        assert_eq!((checked.packages, checked.versions), (7, 12), "{checked:?}");
        assert_eq!((checked.problems, checked.leftovers), (0, 0), "{checked:?}");
    }
}

#[tokio::test]
async fn every_damage_is_told_and_what_loses_nothing_is_mended() {
    let place = lived_in().await;
    let store = place.store.clone();
    let left = keys::cached_packument(&upstream_folder(&place), &"left".parse().unwrap(), Form::Full);
    let cached = place.key("/@fix/right/2.1.0.tgz");
    let (bytes, gone) = (place.key("-/tarballs/@acme/bytes/1.0.0"), place.key("-/tarballs/@acme/bytes/1.1.0"));
    let bundle = place.key("-/attestations/plain/");
    let token = file_of_token(&place, "Bob");
    let list = keys::token_list("bob").to_string();
    let lost = keys::user("lost").to_string();

    place.write("@acme/damaged/index.json", "{");
    place.edit("@acme/marks/index.json", |document| {
        document["name"] = json!("@acme/mark");
        document["_rev"] = json!("latest");
        document["time"].as_object_mut().unwrap().remove("1.0.0");
        document["versions"]["1.1.0"]["dist"] = json!({});
    });
    place.edit("@acme/tags/index.json", |document| document["dist-tags"] = json!({ "old": "0.0.1", "next": "1.0.0" }));
    place.write(&bytes, "other bytes");
    place.remove(&gone);
    place.remove(&bundle);
    place.write("-/attestations/plain/9.9.9-0a.json", "{}");
    place.write("-/tarballs/@acme/tool/9.9.9-0a.tgz", "a publish that was cut off");
    place.write("-/tarballs/never/9.9.9-0a.tgz", "the same of a package that never was");
    place.write("-/tarballs/@acme/damaged/9.9.9-0a.tgz", "nobody knows");
    place.edit(&list, |list| *list = json!([]));
    place.write(&lost, &place.files()[keys::user("alice").as_str()]);
    place.write("-/tokens/0a.json", "{}");
    place.write("-/trust/@acme/tool.json", "[{}]");
    place.write("-/stars/0a.json", "");
    place.write("-/records/default/left/record.json", "\u{0}\u{1}");
    place.write(left.as_str(), "{}\n{}");
    place.write(&cached, "other bytes");
    place.write("-/logins/page-0a.json", r#"{"expires":"2020-01-01T00:00:00.000Z"}"#);
    place.write("-/uploads/0a", "");
    place.write("-/uploads/answer-0a", "");
    place.write("-/store/trial-0a", "");
    place.write("-/unknown/a.json", "{}");
    place.write("b@d/index.json", "{}");
    place.write("b\u{e4}d \u{1f4a5}'\"\\%2f/index.json", "{}");
    place.write("-/tarballs/no-name.tgz", "");
    place.write("plain/notes\n.txt", "somebody's");
    place.write("plain/9.9.9.tgz", "an older system's");

    let plain = |code: Code, key: &str| (code, key.to_owned(), None);
    let part = |code: Code, key: &str, part: &str| (code, key.to_owned(), Some(part.to_owned()));
    let hash = token.trim_start_matches("-/tokens/")[..12].to_owned();
    let mended = BTreeSet::from([
        part(Code::DanglingTag, "@acme/tags/index.json", "old"),
        plain(Code::NoLatest, "@acme/tags/index.json"),
        part(Code::UnlistedToken, &list, &hash),
        plain(Code::DamagedCache, left.as_str()),
        plain(Code::DamagedCache, &cached),
        plain(Code::EndedLogin, "-/logins/page-0a.json"),
    ]);
    let lasting = BTreeSet::from([
        plain(Code::DamagedDocument, "@acme/damaged/index.json"),
        plain(Code::NameDiffers, "@acme/marks/index.json"),
        plain(Code::NoRevision, "@acme/marks/index.json"),
        part(Code::NoTime, "@acme/marks/index.json", "1.0.0"),
        part(Code::DamagedVersion, "@acme/marks/index.json", "1.1.0"),
        part(Code::WrongTarball, &bytes, "1.0.0"),
        part(Code::MissingTarball, &gone, "1.1.0"),
        part(Code::MissingAttestations, &bundle, "1.0.0"),
        plain(Code::OrphanAttestations, "-/attestations/plain/9.9.9-0a.json"),
        plain(Code::OrphanTarball, "-/tarballs/@acme/tool/9.9.9-0a.tgz"),
        plain(Code::OrphanTarball, "-/tarballs/never/9.9.9-0a.tgz"),
        part(Code::MisplacedAccount, &lost, "alice"),
        plain(Code::DamagedObject, "-/tokens/0a.json"),
        plain(Code::DamagedObject, "-/trust/@acme/tool.json"),
        plain(Code::DamagedObject, "-/stars/0a.json"),
        plain(Code::DamagedObject, "-/records/default/left/record.json"),
        plain(Code::LeftUpload, "-/uploads/0a"),
        plain(Code::LeftUpload, "-/uploads/answer-0a"),
        plain(Code::LeftTrial, "-/store/trial-0a"),
        plain(Code::ForeignObject, "-/unknown/a.json"),
        plain(Code::ForeignObject, "-/tarballs/no-name.tgz"),
        plain(Code::ForeignObject, "plain/notes\n.txt"),
        plain(Code::IllegalName, "b@d/index.json"),
        plain(Code::IllegalName, "b\u{e4}d \u{1f4a5}'\"\\%2f/index.json"),
        plain(Code::UnnamedOlderTarball, "plain/9.9.9.tgz"),
    ]);
    let both: BTreeSet<_> = mended.union(&lasting).cloned().collect();
    assert_eq!(told(&findings(&store, &in_days(2), LOOK).await), both);
    let before = place.files();
    let shallow = told(&findings(&store, &in_days(2), Look { content: false, ..LOOK }).await);
    let unread: Vec<_> = both.difference(&shallow).map(|(code, ..)| *code).collect();
    assert_eq!(unread, [Code::WrongTarball, Code::DamagedCache, Code::DamagedCache]);
    assert_eq!(place.files(), before, "looking changes nothing");

    let repaired = findings(&store, &in_days(2), REPAIR).await;
    assert_eq!(told(&repaired), both);
    let (done, not): (Vec<Finding>, Vec<Finding>) = repaired.into_iter().partition(|found| found.repaired);
    assert_eq!((told(&done), told(&not)), (mended, lasting.clone()));
    assert_eq!(told(&findings(&store, &in_days(2), REPAIR).await), lasting);
    let after = place.files();
    let is_same = |path: &String| before.get(path) == after.get(path);
    let changed: BTreeSet<&str> =
        before.keys().chain(after.keys()).filter(|path| !is_same(path)).map(String::as_str).collect();
    // The last is the note that the search index is behind.
    let expected =
        ["@acme/tags/index.json", &list, left.as_str(), &cached, "-/logins/page-0a.json", "-/catalog/running"];
    assert_eq!(changed, BTreeSet::from(expected));
    let tags: Value = serde_json::from_slice(&after["@acme/tags/index.json"]).unwrap();
    assert_eq!(tags["dist-tags"], json!({ "next": "1.0.0", "latest": "1.1.0" }));
}

/// The name that the upstream's answers are kept under.
fn upstream_folder(place: &Place) -> String {
    let file = place.key("/left/full.json");
    file.trim_start_matches("-/cache/").split_once('/').unwrap().0.to_owned()
}

fn file_of_token(place: &Place, user: &str) -> String {
    let is_theirs = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok_and(|record| record["user"] == user);
    let found = place.files().into_iter().find(|(path, bytes)| path.starts_with("-/tokens/") && is_theirs(bytes));
    found.unwrap().0
}

#[tokio::test]
async fn what_is_young_is_on_its_way() {
    let place = lived_in().await;
    place.write("-/tarballs/@acme/tool/9.9.9-0a.tgz", "a publish under way");
    place.write("-/attestations/@acme/tool/9.9.9-0a.json", "{}");
    place.write("-/uploads/0a", "");
    assert_eq!(findings(&place.store, &Clock::default(), LOOK).await, []);
    assert_eq!(findings(&place.store, &in_days(2), LOOK).await.len(), 3);
}

#[tokio::test]
async fn an_older_systems_store_is_looked_over_as_it_is() {
    let bucket = everything(&Upstream::with_fixtures()).await;
    let folder = tempfile::tempdir().unwrap();
    bucket.write_to(folder.path());
    let store = Store::open(folder.path()).unwrap();
    let codes = |findings: &[Finding]| findings.iter().map(|found| found.code).collect::<BTreeSet<_>>();
    assert_eq!(codes(&findings(&store, &in_days(2), LOOK).await), BTreeSet::from([Code::OlderDocument]));
    drop(store);

    let folder = tempfile::tempdir().unwrap();
    let one = |version| Tarball::new("old-tool", version);
    Bucket::new()
        .publish(&one("1.0.0"), "latest")
        .publish(&one("1.1.0"), "latest")
        // The last publish took the tarballs of the others out of the document.
        .publish(&one("1.2.0"), "latest")
        .without_object("old-tool/1.0.0.tgz")
        .with_object("old-tool/1.1.0.tgz", "these are other bytes")
        .with_object("old-tool/9.9.9.tgz", "a publish that was cut off")
        .write_to(folder.path());
    let store = Store::open(folder.path()).unwrap();
    let found = findings(&store, &in_days(2), REPAIR).await;
    let expected =
        BTreeSet::from([Code::OlderDocument, Code::MissingTarball, Code::WrongTarball, Code::UnnamedOlderTarball]);
    assert_eq!(codes(&found), expected, "{found:?}");
}

#[tokio::test]
async fn a_repair_that_is_cut_off_anywhere_is_gone_on_with() {
    let place = lived_in().await;
    place.edit("@acme/tool/index.json", |document| document["dist-tags"] = json!({ "old": "0.0.1" }));
    place.edit(keys::token_list("bob").as_str(), |list| *list = json!([]));
    place.write("-/logins/page-0a.json", "{}");
    for fault in [storage::Fault::Before, storage::Fault::After, storage::Fault::Dead, storage::Fault::Full] {
        for at in 0.. {
            let (_folder, store) = place.copied();
            let faults = FaultPlan::new(fault, at);
            let broken = store.clone().with_faults(faults.clone());
            let outcome = verify(&broken, &in_days(2), REPAIR, |_, _| {}).await;
            let is_broken = faults.writes() > at;
            // A store that fails at one object says nothing of the others.
            assert_eq!(
                outcome.is_ok_and(|checked| checked.problems + checked.leftovers == 0),
                !is_broken,
                "{fault:?} {at}"
            );
            assert!(findings(&store, &in_days(2), REPAIR).await.iter().all(|found| found.repaired), "{fault:?} {at}");
            assert_eq!(is_sound(&store).await, [], "{fault:?} {at}");
            if !is_broken {
                assert!(at >= 3, "{at} writes for three repairs");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_is_gone_between_list_and_look_is_no_finding() {
    let place = lived_in().await;
    let store = place.store.clone();
    let mut is_first = true;
    let checked = verify(&store, &in_days(2), LOOK, |_, found| {
        assert_eq!(found, None);
        if std::mem::take(&mut is_first) {
            place.remove("plain");
            place.remove("-/tarballs/plain");
            place.remove("-/attestations");
            place.remove("-/tokens");
            place.remove("-/cache");
        }
    })
    .await
    .unwrap();
    assert_eq!(checked.problems, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_do_meanwhile_is_no_finding() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["0.0.0"]).await;
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let changes = tokio::spawn(async move {
        for number in 1..40 {
            let version = format!("0.0.{number}");
            alice.publish_versions("tool", &[&version]).await;
            alice.publish_versions(&format!("tool-{number}"), &["1.0.0"]).await;
            let mut document = alice.document("tool").await;
            document["versions"].as_object_mut().unwrap().remove(&format!("0.0.{}", number - 1));
            let revision = document["_rev"].as_str().unwrap().to_owned();
            alice.put(&format!("/tool/-rev/{revision}"), &document).await.ok();
        }
    });
    let mut rounds = 0;
    while !changes.is_finished() || rounds == 0 {
        assert_eq!(findings(&store, &Clock::default(), LOOK).await, [], "round {rounds}");
        rounds += 1;
    }
    changes.await.unwrap();
    println!("{rounds} rounds");
}

#[tokio::test]
async fn of_a_store_that_is_away_nothing_is_said() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    for number in 0..12 {
        alice.publish_versions(&format!("tool-{number}"), &["1.0.0"]).await;
    }
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let is_tarball = |_, key: &str| key.contains("-/tarballs/tool-3/1.0.0");
    server.misbehave(Fault::new(Misbehaviour::Refuse(403)).when(is_tarball));
    let found = findings(&store, &Clock::default(), LOOK).await;
    let codes: Vec<(Code, &str)> = found.iter().map(|found| (found.code, found.key.as_str())).collect();
    assert_eq!(codes, [(Code::Unreadable, "tool-3/index.json")]);
    server.misbehave(Fault::new(Misbehaviour::Refuse(403)));
    let outcome = verify(&store, &Clock::default(), LOOK, |_, _| {}).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

async fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("verify").args(arguments).arg("--data").arg(data).current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_command_tells_people_and_scripts() {
    let plan = Plan::alone();
    let server = plan.start().await;
    server.signed_in("alice").await.publish(&Tarball::new("tool", "1.0.0"), "latest").await.ok();
    server.stop().await;
    drop(plan.store().await);
    let (code, report, _) = said(&command(plan.data(), &[]).await);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.ends_with("1 packages, 1 versions.\nEverything is there, and what it should be.\n"), "{report}");

    std::fs::write(plan.data().join("notes.txt"), "").unwrap();
    std::fs::remove_dir_all(plan.data().join("-/tarballs")).unwrap();
    let (code, report, _) = said(&command(plan.data(), &["--json"]).await);
    assert_eq!(code, Some(1), "{report}");
    let lines: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [foreign, missing, summary] = lines.as_slice() else { panic!("{report}") };
    assert_eq!((&foreign["code"], &foreign["severity"]), (&json!("foreign_object"), &json!("leftover")));
    assert_eq!((&missing["code"], &missing["part"]), (&json!("missing_tarball"), &json!("1.0.0")));
    assert_eq!((&summary["summary"]["problems"], &summary["summary"]["leftovers"]), (&json!(1), &json!(1)));
    let (code, report, _) = said(&command(plan.data(), &["--no-content"]).await);
    assert_eq!(code, Some(1));
    assert!(report.contains("1 problems, 1 leftovers, 0 repaired.") && report.contains("from a backup"), "{report}");

    std::fs::remove_dir_all(plan.data().join("tool")).unwrap();
    assert_eq!(said(&command(plan.data(), &[]).await).0, Some(0), "a leftover is no problem");
}

#[tokio::test]
async fn the_command_says_when_it_could_not_look() {
    let server = Settings::alone().start().await;
    let (code, _, why) = said(&command(&server.data(), &[]).await);
    assert_eq!(code, Some(2));
    assert!(why.contains("stop it first"), "{why}");
    let folder = tempfile::tempdir().unwrap();
    let (code, _, why) = said(&command(&folder.path().join("nowhere"), &[]).await);
    assert_eq!(code, Some(2));
    assert!(why.contains("there is no directory") && !folder.path().join("nowhere").exists(), "{why}");
    std::fs::write(folder.path().join("holdfast.toml"), "[storage]\nread_only = true\n").unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let (code, _, why) = said(&command(&folder.path().join("data"), &["--repair"]).await);
    assert_eq!(code, Some(2));
    assert!(why.contains("storage.read_only"), "{why}");
}

#[tokio::test]
async fn a_document_that_others_repair_meanwhile_is_left_to_them() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::over_bucket(&server, |_| {});
    app.user("alice").await.publish_versions("tool", &["1.0.0", "2.0.0"]).await;
    let store = Store::at(&location(&server, "s3://bucket/registry")).unwrap();
    let key = keys::packument(&"tool".parse().unwrap());
    let stored: Value = serde_json::from_slice(&store.read(&key).await.unwrap()).unwrap();
    let mut damaged = stored.clone();
    damaged["dist-tags"] = json!({ "latest": "9.9.9" });
    store.put(&key, damaged.to_string().into(), Durability::Synced).await.unwrap();
    // Somebody moves the tag between the look and the repair.
    let mut tagged = stored;
    tagged["dist-tags"] = json!({ "latest": "1.0.0" });
    let other = store.clone();
    let is_commit = |operation, key: &str| operation == Operation::ConditionalPut && key.ends_with("tool/index.json");
    let gate = Gate::closed();
    server.misbehave(Fault::new(Misbehaviour::Hold(gate.clone())).when(is_commit).times(1));
    let repair = tokio::spawn(async move { findings(&store, &Clock::default(), REPAIR).await });
    server.wait_for(move |calls| calls.iter().any(|call| is_commit(call.operation, &call.key) && call.is_faulty)).await;
    other.put(&key, tagged.to_string().into(), Durability::Synced).await.unwrap();
    gate.open();
    let found = repair.await.unwrap();
    assert!(found.iter().all(|found| found.code == Code::DanglingTag || found.code == Code::NoLatest), "{found:?}");
    let now: Value = serde_json::from_slice(&other.read(&key).await.unwrap()).unwrap();
    assert_eq!(now["dist-tags"], json!({ "latest": "1.0.0" }), "the other's tag stays");
    is_sound(&other).await;
}
