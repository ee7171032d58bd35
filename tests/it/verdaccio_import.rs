//! `holdfast import verdaccio`: what was published there is here afterwards, with everything that clients see of it, and what
//! is wrong with a storage is told and keeps nothing else out.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use holdfast::clock::Clock;
use holdfast::settings::Settings as OurSettings;
use holdfast::storage::{self, Fault, FaultPlan, Store};
use holdfast::transfer::verdaccio::Storage as Origin;
use holdfast::transfer::{Destination, Line, Report, bring_in};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::app::collect;
use crate::support::clients::{Client, NPM_11};
use crate::support::http::Http;
use crate::support::real_servers::Verdaccio;
use crate::support::server::{Log, Settings, program};
use crate::support::tarballs::{Tarball, gzip, integrity, shasum};
use crate::support::upstream::Upstream;
use crate::support::verdaccio::Storage;

const EARLY: &str = "2019-05-01T08:00:00.000Z";
const LATE: &str = "2020-06-02T09:30:00.250Z";

fn tool(version: &str) -> Tarball {
    Tarball::new("own-tool", version)
}

/// Two packages and a copy of a third.
fn usual() -> Storage {
    Storage::new()
        .publish(&tool("1.0.0"), "latest", EARLY)
        .publish(&tool("1.1.0"), "latest", LATE)
        .publish(&tool("2.0.0-rc.1"), "next", LATE)
        .publish(&Tarball::new("@acme/lib", "1.0.0").bin("lib", "hello"), "latest", EARLY)
        .copy(&Tarball::new("left", "1.0.0"), EARLY)
        .change("own-tool", |document| document["versions"]["1.0.0"]["deprecated"] = json!("old"))
}

struct Place {
    from: TempDir,
    to: TempDir,
    store: Store,
}

impl Place {
    fn of(storage: &Storage) -> Self {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        storage.write_to(from.path());
        Self { store: Store::open(to.path()).unwrap(), from, to }
    }

    async fn import_to(&self, store: Store, dry_run: bool, with_copies: bool) -> Result<Report, storage::Error> {
        let mut origin = Origin::open(self.from.path(), with_copies, &[]).unwrap();
        let contents = origin.contents(&[]).await.unwrap();
        let limits = OurSettings::default().limits;
        let to = Destination {
            store,
            clock: Clock::held_at("2026-11-30T12:00:00.000Z".parse().unwrap()),
            limits: limits.tarball,
            max_tarball_bytes: limits.body.max_tarball_bytes,
            dry_run,
        };
        let mut report = bring_in(&to, &origin, contents.names, |_| {}).await?;
        for line in contents.problems {
            report.problem(&line.package, line.version, line.why);
        }
        Ok(report)
    }

    async fn import(&self) -> Report {
        self.import_to(self.store.clone(), false, false).await.unwrap()
    }

    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.to.path().join(name).join("index.json")).unwrap()).unwrap()
    }

    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let mut objects = BTreeMap::new();
        collect(self.to.path(), self.to.path(), &mut objects);
        // What a cut-off write staged is cleared a moment after the answer.
        objects.retain(|key, _| !key.starts_with("-/staging/"));
        objects
    }
}

fn line(package: &str, version: Option<&str>, why: &str) -> Line {
    Line { package: package.to_owned(), version: version.map(ToOwned::to_owned), why: why.to_owned() }
}

#[tokio::test]
async fn what_was_published_comes_in_as_it_was() {
    let storage = usual();
    let place = Place::of(&storage);
    let report = place.import().await;
    assert_eq!((report.packages, report.versions, report.already), (2, 4, 0));
    assert_eq!(
        (&report.copies[..], &report.problems[..], &report.notes[..]),
        (&["left".to_owned()][..], &[][..], &[][..])
    );
    for name in ["own-tool", "@acme/lib"] {
        let (before, after) = (storage.document(name), place.document(name));
        for member in ["dist-tags", "time", "readme"] {
            assert_eq!(after[member], before[member], "{name} {member}");
        }
        for (number, version) in before["versions"].as_object().unwrap() {
            let here = &after["versions"][number];
            assert_eq!(here["deprecated"], version["deprecated"]);
            for member in ["integrity", "shasum"] {
                assert_eq!(here["dist"][member], version["dist"][member], "{name}@{number} {member}");
            }
        }
        for member in ["_distfiles", "_uplinks", "_attachments"] {
            assert!(after.get(member).is_none(), "{member}");
        }
    }
    // Nobody was known, so nobody owns anything.
    assert!(place.document("own-tool").get("maintainers").is_none());

    let before = place.objects();
    let again = place.import().await;
    assert_eq!((again.packages, again.versions, again.already), (0, 0, 2));
    assert_eq!(place.objects(), before);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let place = Place::of(&usual().with_file("own-tool/own-tool-1.1.0.tgz", "cut off"));
    let before = place.objects();
    let dry = place.import_to(place.store.clone(), true, false).await.unwrap();
    assert_eq!(place.objects(), before);
    let done = place.import().await;
    assert_eq!(dry, Report { dry_run: true, ..done });
}

#[tokio::test]
async fn what_is_published_there_later_follows() {
    let storage = usual();
    let place = Place::of(&storage);
    place.import().await;
    let storage = storage.publish(&tool("1.2.0"), "latest", "2021-01-01T00:00:00.000Z");
    storage.write_to(place.from.path());
    let report = place.import().await;
    assert_eq!((report.packages, report.versions, report.already), (1, 1, 1));
    assert_eq!(place.document("own-tool")["dist-tags"], storage.document("own-tool")["dist-tags"]);
}

#[tokio::test]
async fn a_version_that_is_here_is_never_replaced() {
    let place = Place::of(&usual());
    place.import().await;
    let before = place.objects();
    let other = usual().publish(&tool("1.0.0").file("other.txt", "other bytes"), "latest", LATE);
    other.write_to(place.from.path());
    let report = place.import().await;
    assert_eq!(report.problems, [line("own-tool", Some("1.0.0"), "is here with other bytes, which stay")]);
    assert_eq!((report.packages, report.versions), (0, 0));
    assert_eq!(place.objects(), before);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_keeps_nothing_else_out() {
    let storage = usual()
        .publish(&Tarball::new("cut-off", "1.0.0"), "latest", EARLY)
        .with_file("cut-off/cut-off-1.0.0.tgz", &Tarball::new("cut-off", "1.0.0").bytes()[..100])
        .publish(&Tarball::new("gone", "1.0.0"), "latest", EARLY)
        .publish(&Tarball::new("gone", "1.1.0"), "latest", EARLY)
        .without_file("gone/gone-1.1.0.tgz")
        .with_file("damaged/package.json", "{\"name\": \"damaged\", \"versions\": {")
        .with_file("other/package.json", "{\"name\": \"another\", \"versions\": {}}")
        .with_file("_bad/package.json", "{}")
        .with_file("@acme/.hidden/package.json", "{}")
        .publish(&Tarball::new("OldName", "1.0.0"), "latest", EARLY)
        .publish(&Tarball::new("odd", "1.0.0"), "latest", EARLY)
        .change("odd", |document| document["versions"]["1.0"] = json!({ "name": "odd" }))
        .publish(&Tarball::new("linked", "1.0.0"), "latest", EARLY)
        .without_file("linked/linked-1.0.0.tgz")
        .listing("unheard-of")
        .listing("../../etc");
    let place = Place::of(&storage);
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("linked-1.0.0.tgz");
    std::fs::write(&target, Tarball::new("linked", "1.0.0").bytes()).unwrap();
    symlink(&target, place.from.path().join("linked/linked-1.0.0.tgz")).unwrap();
    for _ in 0..2 {
        let mut report = place.import().await;
        report.problems.sort();
        let told: Vec<String> = report
            .problems
            .iter()
            .map(|line| format!("{}@{}: {}", line.package, line.version.as_deref().unwrap_or("-"), line.why))
            .collect();
        let expected = [
            "../../etc@-: is in the list: ",
            "@acme/.hidden@-: is the name of a folder: ",
            "_bad@-: is the name of a folder: ",
            "cut-off@1.0.0: its tarball is not what its document says",
            "damaged@-: its document is damaged",
            "gone@1.1.0: its tarball is not there",
            "linked@1.0.0: its tarball cannot be read: it is a link that leads out of the folder",
            "odd@1.0: is no version",
            "other@-: its document is damaged",
            "unheard-of@-: its document is not there",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} is not {expected}");
        }
    }
    for name in ["own-tool", "@acme/lib", "OldName", "odd", "gone"] {
        assert!(!place.document(name)["versions"].as_object().unwrap().is_empty(), "{name}");
    }
    assert!(!place.to.path().join("cut-off/index.json").exists());
}

#[tokio::test]
async fn old_tarballs_that_could_not_be_published_today_are_taken() {
    // No `package.json` in the root folder, as some old programs made them.
    let odd = Tarball::new("own-odd", "1.0.0");
    let bytes = gzip(b"no archive at all");
    let storage = Storage::new()
        .publish(&odd, "latest", EARLY)
        .with_file("own-odd/own-odd-1.0.0.tgz", bytes.clone())
        .change("own-odd", |document| {
            let dist = &mut document["versions"]["1.0.0"]["dist"];
            *dist = json!({ "shasum": shasum(&bytes), "tarball": dist["tarball"] });
            document["_attachments"] = json!({});
        });
    let place = Place::of(&storage);
    let report = place.import().await;
    assert!(!report.has_problems(), "{report:?}");
    assert!(report.notes[0].why.starts_with("could not be published today: "), "{report:?}");
    let dist = place.document("own-odd")["versions"]["1.0.0"]["dist"].clone();
    assert_eq!(dist["integrity"], integrity(&bytes));
}

#[tokio::test]
async fn copies_come_in_where_that_is_wanted() {
    let place = Place::of(&usual());
    let report = place.import_to(place.store.clone(), false, true).await.unwrap();
    assert_eq!((report.packages, report.copies.len()), (3, 0));
    assert!(place.document("left")["versions"]["1.0.0"].is_object());
}

#[tokio::test]
async fn an_import_that_is_cut_off_anywhere_is_gone_on_with() {
    let storage = usual();
    let sound = Place::of(&storage);
    sound.import().await;
    let expected: Vec<String> = sound.objects().into_keys().collect();
    for fault in [Fault::Before, Fault::After, Fault::Dead] {
        let mut failures = 0;
        for at in 0.. {
            let place = Place::of(&storage);
            let faults = FaultPlan::new(fault, at);
            let broken = place.store.clone().with_faults(faults.clone());
            failures += usize::from(place.import_to(broken, false, false).await.is_err());
            let objects = place.objects();
            for (key, bytes) in objects.iter().filter(|(key, _)| key.ends_with("/index.json")) {
                let document: Value = serde_json::from_slice(bytes).unwrap();
                let name = key.trim_end_matches("/index.json");
                for (number, digest) in document["_holdfast"]["tarballs"].as_object().unwrap() {
                    let key = format!("-/tarballs/{name}/{number}-{}.tgz", digest.as_str().unwrap());
                    assert!(objects.contains_key(&key), "{fault:?} at {at}: {key} is named and not there");
                }
            }
            assert!(!place.import().await.has_problems());
            let found: Vec<String> = place.objects().into_keys().collect();
            assert_eq!(found, expected, "{fault:?} at {at}");
            if faults.writes() <= at {
                break;
            }
        }
        assert!(failures > 3, "{fault:?} broke {failures} writes");
    }
}

async fn command(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["import", "verdaccio"]).args(arguments).arg("--data").arg(data);
    command.current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn copy_project(from: &Path, to: &Path) {
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_verdaccio_moves_over_with_one_command() {
    let upstream = Upstream::with_fixtures();
    let Some(mut verdaccio) = Verdaccio::start(upstream.url()).await else { return };
    let Some(before) = Client::at(NPM_11, verdaccio.url(), Log::default()) else { return };
    let there = Http::new(verdaccio.url());
    there.create_user("ann", "ann-password").await;
    let old_token = there.create_user("bob", "bob-password").await;
    before.log_in_with(&old_token);
    let home = before.home();
    for (name, version, tag) in [
        ("own-tool", "1.0.0", "latest"),
        ("own-tool", "1.1.0", "latest"),
        ("own-tool", "2.0.0-rc.1", "next"),
        ("@acme/lib", "1.0.0", "latest"),
        ("@acme/lib", "1.2.0", "latest"),
    ] {
        let package = before.package(name, version);
        before.run(&package, &["publish", "--tag", tag]).await.ok();
    }
    before.run(&home, &["deprecate", "own-tool@1.0.0", "use 1.1"]).await.ok();
    before.run(&home, &["dist-tag", "add", "own-tool@1.0.0", "stable"]).await.ok();
    let project = before.project("an-app", &json!({}));
    before.add(&project, &["own-tool@1.0.0", "@acme/lib", "app-base"]).await.ok();
    let lockfile = std::fs::read_to_string(project.join("package-lock.json")).unwrap();
    assert!(lockfile.contains(verdaccio.url()), "the lockfile names the old registry: {lockfile}");
    let there = there.with_token(&old_token);
    let tool_there = there.get("/own-tool").await.ok().json();
    let lib_there = there.get("/@acme%2flib").await.ok().json();
    verdaccio.stop();

    // The one command.
    let mut server = Settings::of_environment().stable_port().env("HOLDFAST__PACKAGES__PROXY", "false").start().await;
    server.stop().await;
    let config = verdaccio.folder().join("config.yaml");
    let written = server.data().with_file_name("holdfast-new.toml");
    let arguments = [config.to_str().unwrap(), "--write-config", written.to_str().unwrap()];
    let output = command(&server.data(), &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for part in ["5 versions of 2 packages came in", "  app-base", "2 accounts made", "npm login"] {
        assert!(said(&output).contains(part), "{part} is missing in {}", said(&output));
    }
    let toml = std::fs::read_to_string(&written).unwrap();
    let server = server.restart_with(|settings| settings.config(&toml).env("HOLDFAST__PACKAGES__PROXY", "true")).await;

    let after = Client::of(NPM_11, &server).unwrap();
    let token = server.http().create_user("bob", "bob-password").await;
    let refused =
        server.http().put("/-/user/org.couchdb.user:ann", &json!({ "name": "ann", "password": "wrong" })).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    after.log_in_with(&token);
    after.run(&after.home(), &["whoami"]).await.ok().says("bob");
    let here = server.http().with_token(&token);
    for (name, there) in [("own-tool", tool_there), ("@acme/lib", lib_there)] {
        let here = here.get(&format!("/{}", name.replace('/', "%2f"))).await.ok().json();
        for member in ["dist-tags", "time", "name"] {
            assert_eq!(here[member], there[member], "{name} {member}");
        }
        for (number, version) in there["versions"].as_object().unwrap() {
            for member in ["integrity", "shasum"] {
                assert_eq!(here["versions"][number]["dist"][member], version["dist"][member], "{name}@{number}");
            }
            assert_eq!(here["versions"][number]["deprecated"], version["deprecated"], "{name}@{number}");
        }
    }
    // The rule for `@acme/*` came along.
    assert_eq!(server.http().get("/@acme%2flib").await.status, StatusCode::UNAUTHORIZED);

    let moved = after.project("an-app", &json!({}));
    copy_project(&project, &moved);
    after.run(&moved, &["ci", "--replace-registry-host=always"]).await.ok();
    after.has_installed(&moved, &[("own-tool", "1.0.0"), ("@acme/lib", "1.2.0"), ("app-base", "1.1.0")]);
    assert_eq!(std::fs::read_to_string(moved.join("package-lock.json")).unwrap(), lockfile);

    let package = after.package("own-tool", "1.2.0");
    after.run(&package, &["publish"]).await.ok();
    after.run(&after.home(), &["view", "own-tool", "version"]).await.ok().says("1.2.0");
    after.run(&after.home(), &["search", "own-tool"]).await.ok().says("own-tool");
}
