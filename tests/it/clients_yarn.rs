//! Yarn classic and Yarn berry 3 and 4.

use serde_json::json;

use crate::support::clients::{Client, Tool, YARN_1, YARN_3, YARN_4, remove_modules};
use crate::support::server::Settings;
use crate::support::upstream::Upstream;

const PASSWORD: &str = "correct horse battery";

/// What every install of these tests has to end with.
const INSTALLED: &[(&str, &str)] = &[
    ("acme-tool", "1.1.0"),
    ("@acme/scoped", "1.0.0"),
    ("app-base", "1.1.0"),
    ("left", "1.2.0"),
    ("@fix/right", "2.1.9"),
    ("leaf", "1.0.1"),
    ("command", "3.0.0"),
    ("foreign-root", "1.0.0"),
    ("large", "1.0.0"),
];
const PACKAGES: &[&str] = &["acme-tool", "@acme/scoped@1.0.0", "app-base", "foreign-root", "large"];

#[tokio::test]
async fn yarn_classic_can_use_every_command() {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(yarn) = Client::of(YARN_1, &server) else { return };
    let folder = yarn.home();

    // `login` only notes the name; the password is asked for by each command that writes, and the token it gets for it
    // is given back at the end.
    let answers = [("username", "alice"), ("email", "alice@example.test"), ("password", PASSWORD)];
    yarn.run_answering(&folder, &["login"], &answers).await.ok();
    for (name, version, args) in [
        ("acme-tool", "1.0.0", &[][..]),
        ("acme-tool", "1.1.0", &[]),
        ("acme-tool", "2.0.0-beta.1", &["--tag", "next"]),
        ("@acme/scoped", "1.0.0", &["--access", "public"]),
        ("@acme/scoped", "1.2.0", &["--access", "public"]),
    ] {
        let package = yarn.package(name, version);
        let run =
            yarn.run_answering(&package, &[&["publish", "--new-version", version], args].concat(), &answers).await;
        run.ok().says("Published");
    }
    let package = yarn.package("acme-tool", "1.1.0");
    yarn.run_answering(&package, &["publish", "--new-version", "1.1.0"], &answers).await.fails();

    yarn.run(&folder, &["info", "acme-tool", "version"]).await.ok().says("1.1.0");
    yarn.run(&folder, &["info", "@acme/scoped", "dist-tags"]).await.ok().says("1.2.0");
    yarn.run_answering(&folder, &["tag", "add", "acme-tool@1.0.0", "stable"], &answers).await.ok();
    yarn.run_answering(&folder, &["tag", "list", "acme-tool"], &answers).await.ok().says("stable");
    yarn.run_answering(&folder, &["tag", "remove", "acme-tool", "stable"], &answers).await.ok();
    yarn.run_answering(&folder, &["tag", "list", "acme-tool"], &answers).await.ok().does_not_say("stable");

    let project = yarn.project("an-app", &json!({}));
    yarn.add(&project, PACKAGES).await.ok();
    yarn.has_installed(&project, INSTALLED);
    remove_modules(&project);
    yarn.wipe_cache();
    yarn.install_frozen(&project).await.ok();
    yarn.has_installed(&project, INSTALLED);
    yarn.run(&project, &["outdated"]).await.fails().says("@acme/scoped").says("1.2.0");
    let package = yarn.package("acme-packed", "1.0.0");
    yarn.run(&package, &["pack"]).await.ok();

    // It reads the short document, which has no maintainers and no revision, and would put itself in the place of all
    // owners. The server has to refuse that.
    server.http().create_user("bob", PASSWORD).await;
    yarn.run_answering(&folder, &["owner", "list", "acme-tool"], &answers).await.ok();
    yarn.run_answering(&folder, &["owner", "add", "bob", "acme-tool"], &answers).await.fails();
    let document = server.http().get("/acme-tool").await.ok().json();
    yarn.expect(
        document["maintainers"][0]["name"] == "alice",
        &format!("alice should own it: {}", document["maintainers"]),
    );
    yarn.run_answering(&folder, &["logout"], &answers).await.ok();
}

#[tokio::test]
async fn yarn_3_can_use_every_command() {
    berry(YARN_3).await;
}

#[tokio::test]
async fn yarn_4_can_use_every_command() {
    berry(YARN_4).await;
}

async fn berry(tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(yarn) = Client::of(tool, &server) else { return };
    let folder = yarn.project("a-root", &json!({}));

    yarn.run(&folder, &["npm", "whoami"]).await.fails();
    let answers = [("username", "alice"), ("password", PASSWORD)];
    yarn.run_answering(&folder, &["npm", "login"], &answers).await.ok();
    yarn.run(&folder, &["npm", "whoami"]).await.ok().says("alice");

    for (name, version, args) in [
        ("acme-tool", "1.0.0", &[][..]),
        ("acme-tool", "1.1.0", &[]),
        ("acme-tool", "2.0.0-beta.1", &["--tag", "next"]),
        ("@acme/scoped", "1.0.0", &["--access", "public"]),
        ("@acme/scoped", "1.2.0", &["--access", "public"]),
    ] {
        let package = yarn.package(name, version);
        // It packs and publishes workspaces that are installed, and no others.
        yarn.install(&package).await.ok();
        yarn.run(&package, &[&["npm", "publish"], args].concat()).await.ok().says("Package archive published");
    }
    let package = yarn.package("acme-tool", "1.1.0");
    yarn.install(&package).await.ok();
    yarn.run(&package, &["npm", "publish"]).await.fails().says("cannot publish over the previously published versions");
    yarn.run(&package, &["npm", "publish", "--tolerate-republish"]).await.ok();
    yarn.run(&package, &["pack"]).await.ok();

    yarn.run(&folder, &["npm", "info", "acme-tool", "--fields", "version,dist-tags"]).await.ok().says("1.1.0");
    yarn.run(&folder, &["npm", "tag", "list", "acme-tool"]).await.ok().says("next").says("2.0.0-beta.1");
    yarn.run(&folder, &["npm", "tag", "add", "@acme/scoped@1.0.0", "stable"]).await.ok();
    yarn.run(&folder, &["npm", "tag", "list", "@acme/scoped"]).await.ok().says("stable");
    yarn.run(&folder, &["npm", "tag", "remove", "@acme/scoped", "stable"]).await.ok();
    yarn.run(&folder, &["npm", "tag", "list", "@acme/scoped"]).await.ok().does_not_say("stable");

    let project = yarn.project("an-app", &json!({}));
    yarn.add(&project, PACKAGES).await.ok();
    yarn.has_installed(&project, INSTALLED);
    remove_modules(&project);
    yarn.wipe_cache();
    yarn.install_frozen(&project).await.ok();
    yarn.has_installed(&project, INSTALLED);
    // It looks for newer versions by ranges, which is the same reading as `add`.
    yarn.run(&project, &["up", "@acme/scoped"]).await.ok();
    yarn.has_installed(&project, &[("@acme/scoped", "1.2.0")]);

    upstream.advise(
        "leaf",
        json!([{
            "id": 1_000_001, "url": "https://advisories.example.test/1", "title": "Leaf falls", "severity": "high",
            "vulnerable_versions": "<2.0.0", "cwe": [], "cvss": { "score": 7.5, "vectorString": null },
        }]),
    );
    let audit = yarn.run(&project, &["npm", "audit", "--recursive"]).await;
    if tool.major >= 4 {
        audit.fails().says("Leaf falls");
    } else {
        // The older audit, which our upstream answers with nothing found.
        audit.ok();
    }
    yarn.run(&folder, &["npm", "logout"]).await.ok();
    yarn.run(&folder, &["npm", "whoami"]).await.fails();
}
