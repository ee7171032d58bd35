//! What real clients make of versions that are withheld: they resolve to what is left, and say why where nothing is.

use std::time::Duration;

use serde_json::json;

use crate::support::clients::{
    BUN, Client, Kind, NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_8, PNPM_10, PNPM_11, PNPM_12, Tool, YARN_1, YARN_3,
    YARN_4, remove_modules,
};
use crate::support::package::{Package, ago};
use crate::support::server::{Server, Settings};
use crate::support::upstream::Upstream;

const TOOLS: &[Tool] =
    &[NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_8, PNPM_10, PNPM_11, PNPM_12, YARN_1, YARN_3, YARN_4, BUN];

/// An upstream whose newest release is an hour old, and a server before it with its defaults.
async fn young() -> (Upstream, Server) {
    let package = ["1.0.0", "1.1.0", "1.2.0"].into_iter().fold(Package::new("left"), Package::version);
    let upstream = Upstream::start([package.published("1.2.0", &ago(Duration::from_hours(1)))]);
    let server = Settings::upstream(upstream.url()).start().await;
    (upstream, server)
}

#[tokio::test]
async fn a_range_resolves_to_the_newest_mature_version() {
    let (_upstream, server) = young().await;
    for tool in TOOLS {
        let Some(client) = Client::of(*tool, &server) else { return };
        let project = client.project("an-app", &json!({ "dependencies": { "left": "^1.0.0" } }));
        client.install(&project).await.ok();
        client.has_installed(&project, &[("left", "1.1.0")]);
        // And without a range, by the tag.
        let other = client.project("another-app", &json!({}));
        client.add(&other, &["left"]).await.ok();
        client.has_installed(&other, &[("left", "1.1.0")]);
    }
}

#[tokio::test]
async fn a_lockfile_that_names_a_withheld_version_fails_with_the_reason() {
    let (upstream, server) = young().await;
    let document = crate::support::http::Http::new(upstream.url()).get("/left").await.ok().json();
    let integrity = |version: &str| document["versions"][version]["dist"]["integrity"].as_str().unwrap().to_owned();
    let shasum = |version: &str| document["versions"][version]["dist"]["shasum"].as_str().unwrap().to_owned();
    for tool in TOOLS {
        let Some(client) = Client::of(*tool, &server) else { return };
        let project = client.project("an-app", &json!({ "dependencies": { "left": "^1.0.0" } }));
        client.install(&project).await.ok();
        let file = project.join(tool.lock_file());
        let lock = std::fs::read_to_string(&file).unwrap();
        assert!(lock.contains("1.1.0"), "{lock}");
        let lock = lock
            .replace("1.1.0", "1.2.0")
            .replace(&integrity("1.1.0"), &integrity("1.2.0"))
            .replace(&shasum("1.1.0"), &shasum("1.2.0"));
        // Berry's own checksum is of an archive that it makes; without one it takes what comes.
        let lines = lock.lines().filter(|line| tool.kind != Kind::YarnBerry || !line.trim().starts_with("checksum:"));
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
        remove_modules(&project);
        client.wipe_cache();
        let run = match tool.kind {
            Kind::YarnBerry => client.install(&project).await,
            _ => client.install_frozen(&project).await,
        };
        let run = run.fails().says("403");
        if tool.kind == Kind::Npm {
            run.says("left@1.2.0 is withheld: it was published at").says("holdfast policy waive left@1.2.0");
        }
    }
}

#[tokio::test]
async fn newer_npm_prints_why_a_version_is_withheld() {
    let (_upstream, server) = young().await;
    for tool in [NPM_11, NPM_12] {
        let Some(client) = Client::of(tool, &server) else { return };
        let project = client.project("an-app", &json!({}));
        client.add(&project, &["left@1.2.0"]).await.fails().says("left@1.2.0 is withheld: it was published at");
    }
}

#[tokio::test]
async fn a_package_of_which_nothing_is_left_says_so() {
    let package = Package::new("fresh").version("1.0.0").published("1.0.0", &ago(Duration::from_hours(1)));
    let upstream = Upstream::start([package]);
    let server = Settings::upstream(upstream.url()).start().await;
    for tool in TOOLS {
        let Some(client) = Client::of(*tool, &server) else { return };
        let project = client.project("an-app", &json!({}));
        let run = client.add(&project, &["fresh"]).await.fails();
        match tool.kind {
            Kind::Npm | Kind::YarnClassic => run.says("Every version of fresh is withheld"),
            _ => run.says("403"),
        };
    }
}

#[tokio::test]
async fn lockfiles_of_every_client_are_checked() {
    let (upstream, server) = young().await;
    for tool in [NPM_6, NPM_11, PNPM_8, PNPM_12, YARN_1, YARN_4, BUN] {
        let Some(client) = Client::of(tool, &server) else { return };
        let project = client.project("an-app", &json!({ "dependencies": { "left": "^1.0.0" } }));
        client.install(&project).await.ok();
        let file = project.join(tool.lock_file());
        let check = |file: &std::path::Path| {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_holdfast"))
                .args(["policy", "check", "--json", "--registry", &server.url()])
                .arg(file)
                .current_dir(&project)
                .env("HOME", client.home())
                .output()
                .unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
            (output.status.code(), report)
        };
        let (code, report) = check(&file);
        assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
        assert_eq!(report["verdicts"][0]["verdict"], "offered");
        let lock = std::fs::read_to_string(&file).unwrap().replace("1.1.0", "1.2.0");
        std::fs::write(&file, lock).unwrap();
        let (code, report) = check(&file);
        assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report}");
        assert_eq!(
            (&report["verdicts"][0]["verdict"], &report["verdicts"][0]["cause"]),
            (&json!("withheld"), &json!("held"))
        );
    }
    drop(upstream);
}
