//! npm 6, 8, 10, 11 and 12: every command that the registry has a part in.
//!
//! One list of steps for all of them. Where a version differs, the step says so.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::support::PATIENCE;
use crate::support::clients::{Client, NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, Tool, remove_modules};
use crate::support::receiver::Receiver;
use crate::support::recorder::Recorder;
use crate::support::server::{Server, Settings};
use crate::support::upstream::{Upstream, header_of};

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn npm_6_can_use_every_command() {
    every_command(NPM_6).await;
}

#[tokio::test]
async fn npm_8_can_use_every_command() {
    every_command(NPM_8).await;
}

#[tokio::test]
async fn npm_10_can_use_every_command() {
    every_command(NPM_10).await;
}

#[tokio::test]
async fn npm_11_can_use_every_command() {
    every_command(NPM_11).await;
}

#[tokio::test]
async fn npm_12_can_use_every_command() {
    every_command(NPM_12).await;
}

#[tokio::test]
async fn npm_6_can_manage_hooks() {
    managing_hooks(NPM_6).await;
}

#[tokio::test]
async fn npm_8_can_manage_hooks() {
    managing_hooks(NPM_8).await;
}

#[tokio::test]
async fn npm_10_can_manage_hooks() {
    managing_hooks(NPM_10).await;
}

/// `npm hook`, which npm 11 has no more.
async fn managing_hooks(tool: Tool) {
    let receiver = Receiver::start();
    let server = Settings::alone()
        .env("HOLDFAST__HOOKS__ENABLED", "true")
        .env("HOLDFAST__HOOKS__ALLOW_PRIVATE", "true")
        .env("HOLDFAST__HOOKS__ALLOW_HTTP", "true")
        .start()
        .await;
    let Some(npm) = Client::of(tool, &server) else { return };
    log_in(&npm).await;
    hooks(&npm, &receiver).await;
}

async fn hooks(npm: &Client, receiver: &Receiver) {
    let folder = npm.home();
    let (first, second) = (receiver.url("/first"), receiver.url("/second"));
    npm.run(&folder, &["hook", "ls"]).await.ok().says("You don't have any hooks configured yet.");
    npm.run(&folder, &["hook", "add", "@acme/scoped", &first, "hush-hush"])
        .await
        .ok()
        .says("@acme/scoped")
        .says(&first);
    npm.run(&folder, &["hook", "add", "@acme", &first, "hush-hush"]).await.ok().says("@acme");
    npm.run(&folder, &["hook", "add", "~alice", &first, "hush-hush"]).await.ok().says("~alice");
    npm.run(&folder, &["hook", "add", "tool", "https://169.254.169.254.example:1/", ""]).await.fails().says("secret");
    npm.run(&folder, &["hook", "ls"]).await.ok().says("3 hooks").says("@acme/scoped").does_not_say("hush-hush");
    let listed = npm.run(&folder, &["hook", "ls", "@acme/scoped", "--json"]).await.ok().json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["type"].as_str()), (1, Some("package")));

    npm.publish(&npm.package("@acme/scoped", "1.0.0")).await;
    let received = receiver.wait_for(3).await;
    let mut kinds: Vec<String> =
        received.iter().map(|received| received.json()["type"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    assert_eq!(kinds, ["owner", "package", "scope"]);

    npm.run(&folder, &["hook", "update", &id, &second, "another"]).await.ok().says(&second);
    npm.publish(&npm.package("@acme/scoped", "1.1.0")).await;
    let received = receiver.wait_for(6).await;
    assert_eq!(received.iter().filter(|received| received.path == "/second").count(), 1);
    let deadline = Instant::now() + PATIENCE;
    while npm.run(&folder, &["hook", "ls", "@acme/scoped", "--json"]).await.ok().json()[0]["delivered"] != true {
        assert!(Instant::now() < deadline, "that it was told was never written down");
    }
    npm.run(&folder, &["hook", "ls", "@acme/scoped"]).await.ok().says("200");
    npm.run(&folder, &["hook", "rm", &id]).await.ok().says("@acme/scoped");
    npm.run(&folder, &["hook", "ls"]).await.ok().says("2 hooks");
    npm.run(&folder, &["hook", "update", &id, &second, "another"]).await.fails().says("no hook under this id");
}

async fn every_command(tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(npm) = Client::of(tool, &server) else { return };
    log_in(&npm).await;
    publish(&npm, &server).await;
    view(&npm).await;
    dist_tags(&npm).await;
    install_and_ci(&npm).await;
    optional_dependency_that_nobody_has(&npm).await;
    deprecate(&npm).await;
    owners(&npm, &server).await;
    search(&npm).await;
    audit(&npm, &upstream).await;
    unpublish(&npm).await;
    log_out(&npm).await;
}

async fn log_in(npm: &Client) {
    let folder = npm.home();
    npm.run(&folder, &["ping"]).await.ok();
    npm.run(&folder, &["whoami"]).await.fails();

    // From npm 9 on this asks for a login in the browser first, and comes back to questions when there is none.
    let answers = [("username:", "alice"), ("password:", PASSWORD), ("email", "alice@example.test")];
    let command = if npm.tool.major >= 9 { "login" } else { "adduser" };
    npm.run_answering(&folder, &[command], &answers).await.ok();
    npm.run(&folder, &["whoami"]).await.ok().says("alice");

    // Again, as somebody who exists, with the wrong password and with the right one.
    let wrong = [("username:", "alice"), ("password:", "not this"), ("email", "alice@example.test")];
    npm.run_answering(&folder, &["login"], &wrong).await.fails();
    npm.run_answering(&folder, &["login"], &answers).await.ok();
    npm.run(&folder, &["whoami"]).await.ok().says("alice");
    if npm.tool.major >= 8 {
        npm.run(&folder, &["profile", "get"]).await.ok().says("alice");
    }
}

async fn publish(npm: &Client, server: &Server) {
    for (name, version, args) in [
        ("acme-tool", "1.0.0", &[][..]),
        ("acme-tool", "1.1.0", &[]),
        ("acme-tool", "2.0.0-beta.1", &["--tag", "next"]),
        ("@acme/scoped", "1.0.0", &["--access", "public"]),
        ("@acme/scoped", "1.2.0", &["--access", "public"]),
    ] {
        let folder = npm.package(name, version);
        npm.run(&folder, &[&["publish"], args].concat()).await.ok();
    }
    let document = server.http().get("/acme-tool").await.ok().json();
    assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0", "next": "2.0.0-beta.1" }));
    assert!(document["readme"].as_str().is_some_and(|text| text.contains("Text of a readme")), "{document:#}");
    assert!(document["versions"]["1.1.0"].get("readme").is_none(), "the readme is once, at the top");

    let folder = npm.package("acme-tool", "1.1.0");
    npm.run(&folder, &["publish"]).await.fails().says("cannot publish over the previously published versions");
    // The same with npm's own look at the versions out of the way, so that the server has to refuse.
    npm.run(&folder, &["publish", "--force"])
        .await
        .fails()
        .says("cannot publish over the previously published versions");
    // A name that exists upstream and that nobody here has claimed.
    let folder = npm.package("left", "9.0.0");
    npm.run(&folder, &["publish"]).await.fails().says("403");
}

async fn view(npm: &Client) {
    let folder = npm.home();
    npm.run(&folder, &["view", "acme-tool", "version"]).await.ok().says("1.1.0");
    npm.run(&folder, &["view", "acme-tool@next", "version"]).await.ok().says("2.0.0-beta.1");
    npm.run(&folder, &["view", "acme-tool@^1.0.0", "name"]).await.ok().says("acme-tool");
    npm.run(&folder, &["view", "@acme/scoped"]).await.ok().says("1.2.0").says("alice");
    npm.run(&folder, &["view", "@acme/scoped", "time", "--json"]).await.ok().says("modified");
    npm.run(&folder, &["view", "@fix/right@2.1.0", "dependencies.leaf"]).await.ok().says("1.x");
    npm.run(&folder, &["view", "absent-from-everywhere"]).await.fails().says("E404");
}

async fn dist_tags(npm: &Client) {
    let folder = npm.home();
    npm.run(&folder, &["dist-tag", "ls", "acme-tool"]).await.ok().says("latest: 1.1.0").says("next: 2.0.0-beta.1");
    npm.run(&folder, &["dist-tag", "add", "acme-tool@1.0.0", "stable"]).await.ok();
    npm.run(&folder, &["dist-tag", "add", "@acme/scoped@1.0.0", "stable"]).await.ok();
    npm.run(&folder, &["dist-tag", "ls", "@acme/scoped"]).await.ok().says("stable: 1.0.0");
    npm.run(&folder, &["view", "acme-tool@stable", "version"]).await.ok().says("1.0.0");
    npm.run(&folder, &["dist-tag", "rm", "acme-tool", "stable"]).await.ok();
    npm.run(&folder, &["dist-tag", "ls", "acme-tool"]).await.ok().does_not_say("stable");
    npm.run(&folder, &["dist-tag", "rm", "acme-tool", "latest"]).await.fails();
    npm.run(&folder, &["dist-tag", "add", "acme-tool@7.7.7", "stable"]).await.fails();
}

async fn install_and_ci(npm: &Client) {
    let project = npm.project("an-app", &json!({}));
    let packages = ["acme-tool", "@acme/scoped@1.0.0", "app-base", "with-peer", "scripted", "foreign-root", "large"];
    npm.add(&project, &packages).await.ok();
    let check = || {
        npm.has_installed(
            &project,
            &[
                ("acme-tool", "1.1.0"),
                ("@acme/scoped", "1.0.0"),
                ("app-base", "1.1.0"),
                ("left", "1.2.0"),
                ("@fix/right", "2.1.9"),
                ("command", "3.0.0"),
                ("leaf", "1.0.1"),
                ("foreign-root", "1.0.0"),
                ("large", "1.0.0"),
            ],
        );
        // npm 12 runs the scripts of approved packages only.
        let ran = project.join("node_modules/scripted/ran.txt").exists();
        npm.expect(ran == (npm.tool.major < 12), "the install script should run, except with npm 12");
    };
    check();
    npm.expect(project.join("node_modules/.bin/fixture-command").exists(), "a program should be linked");

    remove_modules(&project);
    npm.wipe_cache();
    npm.install_frozen(&project).await.ok();
    check();
    // And once more from its own cache.
    npm.install_frozen(&project).await.ok();
    check();

    let outdated = npm.run(&project, &["outdated", "--json"]).await;
    // It fails when something is outdated. npm 8 loses its exit code on Node 20.
    let outdated = if npm.tool.major == 8 { outdated.json() } else { outdated.fails().json() };
    npm.expect(outdated["@acme/scoped"]["latest"] == "1.2.0", &format!("1.2.0 should be the latest: {outdated}"));

    npm.run(&project, &["pack", "@acme/scoped@1.2.0"]).await.ok();
    npm.expect(project.join("acme-scoped-1.2.0.tgz").exists(), "pack should write a tarball");
}

/// In a project of its own: the newest npm cannot `ci` from the lock file that it writes then.
async fn optional_dependency_that_nobody_has(npm: &Client) {
    let project = npm.project("optional-user", &json!({}));
    npm.add(&project, &["picky"]).await.ok();
    npm.has_installed(&project, &[("picky", "1.0.0"), ("leaf", "1.0.1")]);
    let absent = project.join("node_modules/absent-from-everywhere").exists();
    npm.expect(!absent, "an optional dependency that nobody has should be left out");
}

async fn deprecate(npm: &Client) {
    let folder = npm.home();
    npm.run(&folder, &["deprecate", "acme-tool@1.0.0", "use 1.1.0 instead"]).await.ok();
    npm.run(&folder, &["view", "acme-tool@1.0.0", "deprecated"]).await.ok().says("use 1.1.0 instead");
    npm.run(&folder, &["view", "acme-tool@1.1.0", "deprecated"]).await.ok().does_not_say("use 1.1.0");
    let project = npm.project("deprecated-user", &json!({}));
    npm.add(&project, &["acme-tool@1.0.0"]).await.ok().says("use 1.1.0 instead");
    npm.run(&folder, &["deprecate", "acme-tool@1.0.0", ""]).await.ok();
    npm.run(&folder, &["view", "acme-tool@1.0.0", "deprecated"]).await.ok().does_not_say("use 1.1.0 instead");
    npm.run(&folder, &["view", "acme-tool", "versions", "--json"]).await.ok().says("1.0.0").says("2.0.0-beta.1");
}

async fn owners(npm: &Client, server: &Server) {
    let folder = npm.home();
    server.http().create_user("bob", PASSWORD).await;
    npm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice").does_not_say("bob");
    npm.run(&folder, &["owner", "add", "bob", "acme-tool"]).await.ok();
    npm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice").says("bob");
    npm.run(&folder, &["owner", "rm", "bob", "acme-tool"]).await.ok();
    npm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice").does_not_say("bob");
    npm.run(&folder, &["owner", "add", "nobody-of-that-name", "acme-tool"]).await.fails();
    // The last owner stays.
    let _ = npm.run(&folder, &["owner", "rm", "alice", "acme-tool"]).await;
    npm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice");
}

async fn search(npm: &Client) {
    let folder = npm.home();
    npm.run(&folder, &["search", "acme-tool"]).await.ok().says("acme-tool");
    let found = npm.run(&folder, &["search", "--json", "holdfast-fixture"]).await.ok();
    found.says("\"acme-tool\"").says("\"@acme/scoped\"");
}

async fn audit(npm: &Client, upstream: &Upstream) {
    upstream.advise(
        "leaf",
        json!([{
            "id": 1_000_001, "url": "https://advisories.example.test/1", "title": "Leaf falls", "severity": "high",
            "vulnerable_versions": "<2.0.0", "cwe": [], "cvss": { "score": 7.5, "vectorString": null },
        }]),
    );
    let project = npm.project("audited", &json!({}));
    npm.add(&project, &["app-base", "acme-tool"]).await.ok();
    upstream.forget();
    let audit = npm.run(&project, &["audit"]).await;
    if npm.tool.major >= 8 {
        let audit = if npm.tool.major == 8 { audit } else { audit.fails() };
        audit.says("Leaf falls").says("high");
        // What is ours is not told to others.
        let asked = upstream.seen().into_iter().find(|seen| seen.path.ends_with("/advisories/bulk")).unwrap();
        let plain = plain_body(header_of(&asked, &axum::http::header::CONTENT_ENCODING), &asked.body);
        assert!(plain.contains("leaf"), "{plain}");
        assert!(!plain.contains("acme-tool"), "the upstream was told of a hosted package: {plain}");
    } else {
        // npm 6 asks the older audit, which our upstream answers with nothing found.
        audit.ok();
    }
}

fn plain_body(encoding: &str, body: &[u8]) -> String {
    let mut plain = Vec::new();
    if encoding == "gzip" {
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut plain).unwrap();
    } else {
        plain.extend_from_slice(body);
    }
    String::from_utf8(plain).unwrap()
}

async fn unpublish(npm: &Client) {
    let folder = npm.home();
    // The newest: `latest` has to move, and the version number is gone for ever.
    npm.run(&folder, &["unpublish", "@acme/scoped@1.2.0"]).await.ok();
    npm.run(&folder, &["view", "@acme/scoped", "versions", "--json"]).await.ok().says("1.0.0").does_not_say("1.2.0");
    npm.run(&folder, &["view", "@acme/scoped", "version"]).await.ok().says("1.0.0");
    let again = npm.package("@acme/scoped", "1.2.0");
    npm.run(&again, &["publish", "--access", "public"]).await.fails();

    npm.run(&folder, &["unpublish", "acme-tool", "--force"]).await.ok();
    npm.run(&folder, &["view", "acme-tool", "version"]).await.fails().says("E404");
    let again = npm.package("acme-tool", "1.1.0");
    npm.run(&again, &["publish"]).await.fails();
    let newer = npm.package("acme-tool", "3.0.0");
    npm.run(&newer, &["publish"]).await.ok();
    npm.run(&folder, &["view", "acme-tool", "versions", "--json"]).await.ok().says("3.0.0").does_not_say("1.1.0");
}

async fn log_out(npm: &Client) {
    let folder = npm.home();
    let token = token_in(&folder);
    npm.run(&folder, &["logout"]).await.ok();
    npm.run(&folder, &["whoami"]).await.fails();
    // Not only forgotten here: the token is worth nothing any more.
    npm.log_in_with(&token);
    npm.run(&folder, &["whoami"]).await.fails();
    let package = npm.package("acme-late", "1.0.0");
    npm.run(&package, &["publish"]).await.fails();
}

/// The token that a login left in `.npmrc`.
fn token_in(home: &Path) -> String {
    let npmrc = std::fs::read_to_string(home.join(".npmrc")).unwrap();
    let line = npmrc.lines().find_map(|line| line.split_once(":_authToken="));
    line.unwrap_or_else(|| panic!("no token in {npmrc}")).1.trim_matches('"').to_owned()
}

#[tokio::test]
async fn a_second_install_gets_only_304s() {
    for tool in [NPM_6, NPM_8, NPM_10, NPM_11, NPM_12] {
        let upstream = Upstream::with_fixtures();
        let recorder = Recorder::start().await;
        let server = Settings::upstream(upstream.url()).public_url(recorder.url()).start().await;
        recorder.forward_to(server.origin());
        let Some(npm) = Client::of(tool, &server) else { return };
        npm.log_in_with(&server.http().create_user("alice", PASSWORD).await);
        let package = npm.package("@acme/scoped", "1.0.0");
        npm.run(&package, &["publish", "--access", "public"]).await.ok();

        let project = npm.project("an-app", &json!({ "dependencies": { "app-base": "^1.0.0", "@acme/scoped": "*" } }));
        npm.install(&project).await.ok();
        // Without the lock file, so that the packuments are asked for again.
        std::fs::remove_file(project.join(npm.tool.lock_file())).unwrap();
        remove_modules(&project);
        recorder.take();
        // Not with `--prefer-online`: npm then asks for tarballs that it has without saying so.
        let run = npm.run(&project, &["install"]).await.ok();
        let gets: Vec<_> = recorder.take().into_iter().filter(|exchange| exchange.method == "GET").collect();
        assert!(!gets.is_empty(), "nothing was asked\n{run}");
        for exchange in gets {
            let seen = format!("{} for {} with {:?}", exchange.status, exchange.path, exchange.headers);
            npm.expect(exchange.status == 304, &seen);
        }
    }
}
