//! pnpm 8, 10, 11 and 12. Up to 10 it hands publishing and its kin to npm; from 11 on it does them itself.

use serde_json::json;

use crate::support::clients::{Client, PNPM_8, PNPM_10, PNPM_11, PNPM_12, Tool, remove_modules};
use crate::support::server::{Server, Settings};
use crate::support::upstream::Upstream;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn pnpm_8_can_use_every_command() {
    every_command(PNPM_8).await;
}

#[tokio::test]
async fn pnpm_10_can_use_every_command() {
    every_command(PNPM_10).await;
}

#[tokio::test]
async fn pnpm_11_can_use_every_command() {
    every_command(PNPM_11).await;
}

#[tokio::test]
async fn pnpm_12_can_use_every_command() {
    every_command(PNPM_12).await;
}

async fn every_command(tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(pnpm) = Client::of(tool, &server) else { return };
    log_in(&pnpm).await;
    publish(&pnpm).await;
    view_and_tag(&pnpm).await;
    install(&pnpm).await;
    deprecate(&pnpm).await;
    owners(&pnpm, &server).await;
    search_and_audit(&pnpm, &upstream).await;
    unpublish(&pnpm).await;
    pnpm.run(&pnpm.home(), &["logout"]).await.ok();
    pnpm.run(&pnpm.home(), &["whoami"]).await.fails();
}

async fn log_in(pnpm: &Client) {
    let folder = pnpm.home();
    pnpm.run(&folder, &["ping"]).await.ok();
    pnpm.run(&folder, &["whoami"]).await.fails();
    let answers = [("username:?", "alice"), ("password:?", PASSWORD), ("email", "alice@example.test")];
    pnpm.run_answering(&folder, &["login"], &answers).await.ok();
    pnpm.run(&folder, &["whoami"]).await.ok().says("alice");
}

async fn publish(pnpm: &Client) {
    for (name, version, args) in [
        ("acme-tool", "1.0.0", &[][..]),
        ("acme-tool", "1.1.0", &[]),
        ("acme-tool", "2.0.0-beta.1", &["--tag", "next"]),
        ("@acme/scoped", "1.0.0", &["--access", "public"]),
        ("@acme/scoped", "1.2.0", &["--access", "public"]),
    ] {
        let folder = pnpm.package(name, version);
        pnpm.run(&folder, &[&["publish", "--no-git-checks"], args].concat()).await.ok();
    }
    let folder = pnpm.package("acme-tool", "1.1.0");
    pnpm.run(&folder, &["publish", "--no-git-checks"]).await.fails();
    let folder = pnpm.package("left", "9.0.0");
    pnpm.run(&folder, &["publish", "--no-git-checks"]).await.fails();
}

async fn view_and_tag(pnpm: &Client) {
    let folder = pnpm.home();
    pnpm.run(&folder, &["view", "acme-tool", "version"]).await.ok().says("1.1.0");
    pnpm.run(&folder, &["view", "@acme/scoped@1.0.0", "version"]).await.ok().says("1.0.0");
    pnpm.run(&folder, &["dist-tag", "ls", "acme-tool"]).await.ok().says("latest: 1.1.0").says("next: 2.0.0-beta.1");
    pnpm.run(&folder, &["dist-tag", "add", "@acme/scoped@1.0.0", "stable"]).await.ok();
    pnpm.run(&folder, &["dist-tag", "ls", "@acme/scoped"]).await.ok().says("stable: 1.0.0");
    pnpm.run(&folder, &["dist-tag", "rm", "@acme/scoped", "stable"]).await.ok();
    pnpm.run(&folder, &["dist-tag", "ls", "@acme/scoped"]).await.ok().does_not_say("stable");
}

async fn install(pnpm: &Client) {
    let project = pnpm.project("an-app", &json!({}));
    let packages =
        ["acme-tool", "@acme/scoped@1.0.0", "app-base", "picky", "with-peer", "left", "foreign-root", "large"];
    pnpm.add(&project, &packages).await.ok();
    let check = || {
        pnpm.has_installed(
            &project,
            &[
                ("acme-tool", "1.1.0"),
                ("@acme/scoped", "1.0.0"),
                ("app-base", "1.1.0"),
                ("left", "1.2.0"),
                ("picky", "1.0.0"),
                ("foreign-root", "1.0.0"),
                ("large", "1.0.0"),
                (".pnpm/@fix+right@2.1.9/node_modules/@fix/right", "2.1.9"),
                (".pnpm/leaf@1.0.1/node_modules/leaf", "1.0.1"),
            ],
        );
    };
    check();
    remove_modules(&project);
    pnpm.wipe_cache();
    pnpm.install_frozen(&project).await.ok();
    check();

    pnpm.run(&project, &["outdated"]).await.fails().says("@acme/scoped").says("1.2.0");
    let package = pnpm.package("acme-packed", "1.0.0");
    pnpm.run(&package, &["pack"]).await.ok();
    pnpm.expect(package.join("acme-packed-1.0.0.tgz").exists(), "pack should write a tarball");
}

async fn deprecate(pnpm: &Client) {
    let folder = pnpm.home();
    pnpm.run(&folder, &["deprecate", "acme-tool@1.0.0", "use 1.1.0 instead"]).await.ok();
    pnpm.run(&folder, &["view", "acme-tool@1.0.0", "deprecated"]).await.ok().says("use 1.1.0 instead");
    pnpm.run(&folder, &["view", "acme-tool@1.1.0", "version"]).await.ok().does_not_say("use 1.1.0 instead");
    let command: &[&str] =
        if pnpm.tool.major >= 11 { &["undeprecate", "acme-tool@1.0.0"] } else { &["deprecate", "acme-tool@1.0.0", ""] };
    pnpm.run(&folder, command).await.ok();
    pnpm.run(&folder, &["view", "acme-tool@1.0.0"]).await.ok().does_not_say("use 1.1.0 instead");
    pnpm.run(&folder, &["view", "acme-tool", "versions", "--json"]).await.ok().says("1.1.0").says("2.0.0-beta.1");
}

async fn owners(pnpm: &Client, server: &Server) {
    let folder = pnpm.home();
    server.http().create_user("bob", PASSWORD).await;
    pnpm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice");
    // From 11 on, the package comes first.
    let change = |verb| {
        if pnpm.tool.major >= 11 { ["owner", verb, "acme-tool", "bob"] } else { ["owner", verb, "bob", "acme-tool"] }
    };
    pnpm.run(&folder, &change("add")).await.ok();
    pnpm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice").says("bob");
    pnpm.run(&folder, &change("rm")).await.ok();
    pnpm.run(&folder, &["owner", "ls", "acme-tool"]).await.ok().says("alice").does_not_say("bob");
}

async fn search_and_audit(pnpm: &Client, upstream: &Upstream) {
    pnpm.run(&pnpm.home(), &["search", "acme-tool"]).await.ok().says("acme-tool");
    upstream.advise(
        "leaf",
        json!([{
            "id": 1_000_001, "url": "https://advisories.example.test/1", "title": "Leaf falls", "severity": "high",
            "vulnerable_versions": "<2.0.0", "cwe": [], "cvss": { "score": 7.5, "vectorString": null },
        }]),
    );
    let project = pnpm.project("audited", &json!({}));
    pnpm.add(&project, &["app-base", "acme-tool"]).await.ok();
    let audit = pnpm.run(&project, &["audit"]).await;
    if pnpm.tool.major >= 11 {
        audit.fails().says("Leaf falls");
    } else {
        // The older audit, which our upstream answers with nothing found.
        audit.ok();
    }
}

async fn unpublish(pnpm: &Client) {
    let folder = pnpm.home();
    pnpm.run(&folder, &["unpublish", "@acme/scoped@1.2.0"]).await.ok();
    pnpm.run(&folder, &["view", "@acme/scoped", "version"]).await.ok().says("1.0.0");
    let again = pnpm.package("@acme/scoped", "1.2.0");
    pnpm.run(&again, &["publish", "--no-git-checks", "--access", "public"]).await.fails();
    pnpm.run(&folder, &["unpublish", "acme-tool", "--force"]).await.ok();
    pnpm.run(&folder, &["view", "acme-tool", "version"]).await.fails();
}
