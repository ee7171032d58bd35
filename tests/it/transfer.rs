//! Packages that go out into a folder and come in from one, or from a registry; and what lockfiles install, fetched before
//! anybody asks.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use holdfast::clock::Clock;
use holdfast::keys;
use holdfast::npm::packument::{EditError, HostedPackument};
use holdfast::settings::Settings as OurSettings;
use holdfast::storage::{Change, Store};
use holdfast::transfer::export::export;
use holdfast::transfer::tarballs::{Owners, Tarballs};
use holdfast::transfer::verdaccio::Storage as Origin;
use holdfast::transfer::{Destination, Report, bring_in};
use serde_json::{Value, json};

use crate::support::clients::{Client, NPM_11, PNPM_12, Tool};
use crate::support::package::{Package, ago};
use crate::support::server::{Settings, program};
use crate::support::tarballs::{Tarball, integrity};
use crate::support::upstream::Upstream;
use crate::support::verdaccio::Storage;

const EARLY: &str = "2019-05-01T08:00:00.000Z";
const LATE: &str = "2020-06-02T09:30:00.250Z";

fn destination(store: &Store) -> Destination {
    let limits = OurSettings::default().limits;
    Destination {
        store: store.clone(),
        clock: Clock::held_at("2026-11-30T12:00:00.000Z".parse().unwrap()),
        limits: limits.tarball,
        max_tarball_bytes: limits.body.max_tarball_bytes,
        dry_run: false,
    }
}

/// A store with two packages, one of which has lost a version, and the owner that the other has.
async fn filled(folder: &Path) -> Store {
    let from = tempfile::tempdir().unwrap();
    Storage::new()
        .publish(&Tarball::new("own-tool", "1.0.0"), "latest", EARLY)
        .publish(&Tarball::new("own-tool", "1.1.0"), "latest", LATE)
        .publish(&Tarball::new("own-tool", "2.0.0-rc.1"), "next", LATE)
        .publish(&Tarball::new("@acme/lib", "1.0.0"), "latest", EARLY)
        .change("own-tool", |document| document["versions"]["1.0.0"]["deprecated"] = json!("old"))
        .change("@acme/lib", |document| {
            document["maintainers"] = json!([{ "name": "ann", "email": "ann@example.test" }]);
        })
        .write_to(from.path());
    let store = Store::open(folder).unwrap();
    let mut origin = Origin::open(from.path(), false, &["ann".to_owned()]).unwrap();
    let contents = origin.contents(&[]).await.unwrap();
    let report = bring_in(&destination(&store), &origin, contents.names, |_| {}).await.unwrap();
    assert_eq!((report.packages, report.versions, report.has_problems()), (2, 4, false));
    let key = keys::packument(&"own-tool".parse().unwrap());
    let removed = store.update(&key, |stored| {
        let stored = stored.unwrap();
        let mut document = HostedPackument::parse(&stored)?;
        document.unpublish(&["1.1.0".to_owned()], "ann", LATE.parse().unwrap())?;
        Ok::<_, EditError>(Change::Write(document.into_stored("r", LATE.parse().unwrap())?.into(), ()))
    });
    removed.await.unwrap();
    store
}

async fn import_tarballs(store: &Store, folder: &Path, owners: Owners) -> Report {
    let to = destination(store);
    let (tarballs, problems) = Tarballs::open(folder, to.limits, owners).await.unwrap();
    let mut report = bring_in(&to, &tarballs, tarballs.names(), |_| {}).await.unwrap();
    for line in problems {
        report.problem(&line.package, line.version, line.why);
    }
    report
}

fn document(data: &Path, name: &str) -> Value {
    let mut document: Value =
        serde_json::from_slice(&std::fs::read(data.join(name).join("index.json")).unwrap()).unwrap();
    // New with every write.
    document.as_object_mut().unwrap().remove("_rev");
    document
}

#[tokio::test]
async fn what_goes_out_comes_in_again_as_it_was() {
    let (one, other, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(one.path()).await;
    for _ in 0..2 {
        let report = export(&store, out.path(), &[], |_| {}).await.unwrap();
        assert_eq!((report.packages, report.versions, &report.problems[..]), (2, 3, &[][..]));
    }
    let listed = std::fs::read_dir(out.path().join("own-tool")).unwrap();
    let mut files: Vec<String> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["own-tool-1.0.0.tgz", "own-tool-2.0.0-rc.1.tgz", "package.json"]);

    let second = Store::open(other.path()).unwrap();
    let report = import_tarballs(&second, out.path(), Owners::AsDocumented).await;
    assert_eq!((report.packages, report.versions, report.has_problems()), (2, 3, false), "{report:?}");
    for name in ["own-tool", "@acme/lib"] {
        assert_eq!(document(other.path(), name), document(one.path(), name), "{name}");
    }
    assert_eq!(document(other.path(), "own-tool")["time"]["1.1.0"], LATE, "a number that is used up stays so");
}

#[tokio::test]
async fn only_what_is_wanted_goes_out_and_what_is_missing_is_told() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(data.path()).await;
    let tarballs = data.path().join("-/tarballs/@acme/lib");
    std::fs::remove_dir_all(tarballs).unwrap();
    let report = export(&store, out.path(), &["@acme/*".parse().unwrap()], |_| {}).await.unwrap();
    assert_eq!((report.packages, report.versions), (1, 0));
    assert_eq!(report.problems[0].why, "its tarball is not there");
    assert!(!out.path().join("own-tool").exists());
}

#[tokio::test]
async fn loose_tarballs_become_packages() {
    let (data, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(from.path().join("deeper")).unwrap();
    for (file, tarball) in [
        ("a.tgz", Tarball::new("own-tool", "1.10.0")),
        ("deeper/b.tgz", Tarball::new("own-tool", "1.9.0")),
        ("c.tgz", Tarball::new("own-tool", "2.0.0-rc.1").file("README.md", "# Next")),
        ("d.tgz", Tarball::new("@acme/lib", "0.1.0")),
        ("e.tgz", Tarball::new("@acme/lib", "0.1.0").file("other", "bytes")),
        ("f.tgz", Tarball::new("../etc", "1.0.0")),
        ("g.tgz", Tarball::new("odd", "one")),
    ] {
        std::fs::write(from.path().join(file), tarball.bytes()).unwrap();
    }
    std::fs::write(from.path().join("h.tgz"), &Tarball::new("cut-off", "1.0.0").bytes()[..60]).unwrap();
    let store = Store::open(data.path()).unwrap();
    let report = import_tarballs(&store, from.path(), Owners::These(vec!["ann".to_owned()])).await;
    assert_eq!((report.packages, report.versions), (2, 4));
    let mut told: Vec<&str> = report.problems.iter().map(|line| line.package.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["e.tgz", "f.tgz", "g.tgz", "h.tgz"]);
    let tool = document(data.path(), "own-tool");
    assert_eq!(tool["dist-tags"], json!({ "latest": "1.10.0" }));
    assert_eq!(tool["versions"].as_object().unwrap().len(), 3);
    assert_eq!(tool["maintainers"][0]["name"], "ann");
    let again = import_tarballs(&store, from.path(), Owners::These(Vec::new())).await;
    assert_eq!((again.packages, again.already), (0, 2));
}

async fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).env_clear().env("HOME", folder).env("NO_COLOR", "1");
    command.envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn report_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_taken_over_http() {
    let there = Settings::alone().env("HOLDFAST__ACCESS__ANONYMOUS_READ", "closed").start().await;
    let token = there.http().create_user("ann", "ann-password").await;
    let ann = there.http().with_token(&token);
    for (name, version) in
        [("own-tool", "1.0.0"), ("own-tool", "1.1.0"), ("@acme/lib", "1.0.0"), ("@acme/other", "1.0.0")]
    {
        ann.publish(&Tarball::new(name, version)).await.ok();
    }
    let tag = serde_json::to_vec(&json!("1.0.0")).unwrap();
    let json_body = [("content-type", "application/json")];
    ann.send(reqwest::Method::PUT, "/-/package/own-tool/dist-tags/stable", &json_body, tag).await.ok();
    let before = ann.get("/own-tool").await.ok().json();
    // The import finds names by searching, and what was published can be found a moment later.
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while ann.get("/-/v1/search?text=acme").await.ok().json()["total"] != 2 {
        assert!(std::time::Instant::now() < deadline, "the packages cannot be found");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let url = there.url();
    let import = async |more: &[&str]| {
        let arguments =
            [&["import", "registry", &url, "--json", "--data", "data", "--token-env", "OLD"], more].concat();
        run(folder.path(), &arguments, &[("OLD", &token)]).await
    };
    let dry = report_of(&import(&["--package", "@acme/*", "--dry-run"]).await);
    assert_eq!((&dry["packages"], &dry["versions"]), (&json!(2), &json!(2)), "{dry}");
    assert!(!folder.path().join("data/@acme").exists());
    let report = report_of(&import(&["--package", "@acme/*"]).await);
    assert_eq!((&report["packages"], &report["problems"]), (&json!(2), &json!([])), "{report}");
    let output = import(&["--package", "own-tool", "--package", "unheard-of"]).await;
    assert_eq!(output.status.code(), Some(1));
    let report = report_of(&output);
    assert_eq!(report["problems"], json!([{ "package": "unheard-of", "why": "is not there" }]));
    let all = report_of(&import(&["--all"]).await);
    assert_eq!((&all["packages"], &all["already"]), (&json!(0), &json!(3)), "{all}");
    let after = document(&folder.path().join("data"), "own-tool");
    for member in ["dist-tags", "time"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert_eq!(after["versions"]["1.1.0"]["dist"]["integrity"], before["versions"]["1.1.0"]["dist"]["integrity"]);
    assert!(after.get("maintainers").is_none(), "somebody's name elsewhere is nobody's here");
}

fn lockfile(entries: &[(&str, &str, &str)]) -> String {
    let mut packages = json!({ "": { "name": "an-app" } });
    for (name, version, integrity) in entries {
        packages[format!("node_modules/{name}")] = json!({ "version": version, "integrity": integrity });
    }
    json!({ "name": "an-app", "lockfileVersion": 3, "packages": packages }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lockfile_installs_is_fetched_by_the_server_or_without_one() {
    let young = Package::new("young").version("1.0.0").published("1.0.0", &ago(Duration::from_hours(1)));
    let upstream = Upstream::start([Package::new("left").version("1.0.0").version("1.2.0"), young]);
    let hash = |name: &str, version: &str| integrity(&Tarball::new(name, version).bytes());
    let mut server = Settings::upstream(upstream.url()).start().await;
    let folder = server.data().parent().unwrap().to_owned();
    let (one, other) = (hash("left", "1.0.0"), hash("left", "1.2.0"));
    let entries = [
        ("left", "1.0.0", one.as_str()),
        ("young", "1.0.0", &one),
        ("absent", "1.0.0", &one),
        ("left/node_modules/left", "1.2.0", &one),
    ];
    std::fs::write(folder.join("package-lock.json"), lockfile(&entries)).unwrap();
    let data = server.data().display().to_string();
    let url = upstream.url().to_owned();
    let mirror = async |more: &[&str]| {
        let arguments =
            [&["mirror", "package-lock.json", "--json", "--data", &data, "--upstream", &url], more].concat();
        run(&folder, &arguments, &[]).await
    };
    let dry = mirror(&["--dry-run"]).await;
    assert_eq!((dry.status.code(), &report_of(&dry)["fetched"]), (Some(1), &json!(1)));
    assert_eq!(upstream.count("/left/-/left-1.0.0.tgz"), 0);
    let output = mirror(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    let report = report_of(&output);
    let states: Vec<String> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {}", line["name"].as_str().unwrap(), line["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, ["absent missing", "left different", "young withheld"], "{report}");
    assert_eq!((&report["fetched"], &report["kept"]), (&json!(1), &json!(0)));

    // Without a server, and with the right hash.
    server.stop().await;
    let entries = [("left", "1.0.0", one.as_str()), ("left/node_modules/left", "1.2.0", &other)];
    std::fs::write(folder.join("package-lock.json"), lockfile(&entries)).unwrap();
    let output = mirror(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report_of(&output);
    assert_eq!((&report["fetched"], &report["kept"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(upstream.count("/left/-/left-1.0.0.tgz"), 1);
}

async fn installs_with_the_upstream_gone(tool: Tool) {
    let mut upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(client) = Client::of(tool, &server) else { return };
    let project = client.project("an-app", &json!({}));
    // Neither scripts, which pnpm does not run unasked, nor optional packages that are nowhere, which `npm ci` misses.
    client.add(&project, &["app-base", "large"]).await.ok();
    let folder = tempfile::tempdir().unwrap();
    let file = project.join(tool.lock_file());
    let lockfile = file.to_str().unwrap().to_owned();

    // Another registry, which nobody has installed from yet.
    let other = Settings::upstream(upstream.url()).start().await;
    let data = other.data().display().to_string();
    let output = run(folder.path(), &["mirror", &lockfile, "--data", &data], &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    upstream.stop();
    let away = Client::of(tool, &other).unwrap();
    let copy = away.project("an-app", &json!({}));
    for file in ["package.json", tool.lock_file()] {
        let text = std::fs::read_to_string(project.join(file)).unwrap();
        std::fs::write(copy.join(file), text.replace(&server.url(), &other.url())).unwrap();
    }
    away.install_frozen(&copy).await.ok();
    away.has_installed(&copy, &[("app-base", "1.1.0"), ("large", "1.0.0")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_what_was_mirrored_with_the_upstream_gone() {
    installs_with_the_upstream_gone(NPM_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pnpm_installs_what_was_mirrored_with_the_upstream_gone() {
    installs_with_the_upstream_gone(PNPM_12).await;
}

async fn installs_from_a_bundle(tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let mut server = Settings::upstream(upstream.url()).stable_port().start().await;
    let Some(client) = Client::of(tool, &server) else { return };
    let project = client.project("an-app", &json!({}));
    client.add(&project, &["app-base", "large"]).await.ok();
    server.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let lockfile = project.join(tool.lock_file());
    let output = run(folder.path(), &["mirror", "--new-key", "bundle.key"], &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let mirror = ["mirror", lockfile.to_str().unwrap(), "--data", "here", "--upstream", upstream.url()];
    let output =
        run(folder.path(), &[&mirror[..], &["--bundle", "app.tar.zst", "--sign", "bundle.key"]].concat(), &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    // The other side: nothing but the bundle and the address of an upstream that does not answer.
    let away = "http://127.0.0.1:9/";
    std::fs::write(folder.path().join("site.toml"), format!("[upstreams.default]\nurl = \"{away}\"\n")).unwrap();
    let site = Settings::upstream(away).stable_port();
    let mut site = site.start().await;
    site.stop().await;
    let data = site.data().display().to_string();
    let import = async |key: &str| {
        let arguments =
            ["import", "bundle", "app.tar.zst", "--key", key, "--data", &data, "--config", "site.toml", "--json"];
        run(folder.path(), &arguments, &[]).await
    };
    let other = run(folder.path(), &["mirror", "--new-key", "other.key"], &[]).await;
    let refused = import(String::from_utf8(other.stdout).unwrap().trim()).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was not signed with this key"));
    assert!(!site.data().join("-/cache").exists(), "nothing was kept");
    let report = report_of(&import(&key).await);
    assert_eq!((&report["documents"], &report["tarballs"]), (&json!(6), &json!(6)), "{report}");

    let site = site.restart().await;
    let there = Client::of(tool, &site).unwrap();
    let copy = there.project("an-app", &json!({}));
    for file in ["package.json", tool.lock_file()] {
        let text = std::fs::read_to_string(project.join(file)).unwrap();
        std::fs::write(copy.join(file), text.replace(&server.url(), &site.url())).unwrap();
    }
    there.install_frozen(&copy).await.ok();
    there.has_installed(&copy, &[("app-base", "1.1.0"), ("large", "1.0.0")]);
    // A project without a lockfile, from the documents.
    let fresh = there.project("another-app", &json!({}));
    there.add(&fresh, &["left"]).await.ok();
    there.has_installed(&fresh, &[("left", "1.2.0")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_from_a_bundle_where_there_is_no_network() {
    installs_from_a_bundle(NPM_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pnpm_installs_from_a_bundle_where_there_is_no_network() {
    installs_from_a_bundle(PNPM_12).await;
}
