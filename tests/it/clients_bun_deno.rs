//! Bun, which publishes, and Deno, which only installs.

use serde_json::json;

use crate::support::clients::{BUN, Client, DENO, remove_modules};
use crate::support::server::Settings;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn bun_can_use_every_command() {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(bun) = Client::of(BUN, &server) else { return };
    let folder = bun.project("a-root", &json!({}));
    // It has no login with a password, and its login in the browser is for later.
    bun.run(&folder, &["pm", "whoami"]).await.fails();
    bun.log_in_with(&server.http().create_user("alice", PASSWORD).await);
    bun.run(&folder, &["pm", "whoami"]).await.ok().says("alice");

    for (name, version, args) in [
        ("acme-tool", "1.0.0", &[][..]),
        ("acme-tool", "1.1.0", &[]),
        ("acme-tool", "2.0.0-beta.1", &["--tag", "next"]),
        ("@acme/scoped", "1.0.0", &["--access", "public"]),
        ("@acme/scoped", "1.2.0", &["--access", "public"]),
    ] {
        let package = bun.package(name, version);
        bun.run(&package, &[&["publish"], args].concat()).await.ok();
    }
    let package = bun.package("acme-tool", "1.1.0");
    bun.run(&package, &["publish"]).await.fails().says("cannot publish over the previously published versions");
    bun.run(&package, &["publish", "--tolerate-republish"]).await.ok();
    bun.run(&package, &["pm", "pack"]).await.ok();
    bun.run(&folder, &["info", "acme-tool", "version"]).await.ok().says("1.1.0");
    bun.run(&folder, &["info", "@acme/scoped", "version"]).await.ok().says("1.2.0");

    let project = bun.project("an-app", &json!({}));
    bun.add(&project, &["acme-tool", "@acme/scoped@1.0.0", "app-base", "picky", "foreign-root", "large"]).await.ok();
    let installed = [
        ("acme-tool", "1.1.0"),
        ("@acme/scoped", "1.0.0"),
        ("app-base", "1.1.0"),
        ("left", "1.2.0"),
        ("@fix/right", "2.1.9"),
        ("leaf", "1.0.1"),
        ("picky", "1.0.0"),
        ("foreign-root", "1.0.0"),
        ("large", "1.0.0"),
    ];
    bun.has_installed(&project, &installed);
    remove_modules(&project);
    bun.wipe_cache();
    bun.install_frozen(&project).await.ok();
    bun.has_installed(&project, &installed);
    bun.run(&project, &["outdated"]).await.ok().says("@acme/scoped").says("1.2.0");

    upstream.advise(
        "leaf",
        json!([{
            "id": 1_000_001, "url": "https://advisories.example.test/1", "title": "Leaf falls", "severity": "high",
            "vulnerable_versions": "<2.0.0", "cwe": [], "cvss": { "score": 7.5, "vectorString": null },
        }]),
    );
    bun.run(&project, &["audit"]).await.fails().says("Leaf falls");
}

#[tokio::test]
async fn deno_can_use_every_command() {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let Some(deno) = Client::of(DENO, &server) else { return };
    let http = server.http().with_token(&server.http().create_user("alice", PASSWORD).await);
    for (name, version) in
        [("acme-tool", "1.0.0"), ("acme-tool", "1.1.0"), ("@acme/scoped", "1.0.0"), ("@acme/scoped", "1.2.0")]
    {
        http.publish(&Tarball::new(name, version)).await.ok();
    }

    // Without `picky`: Deno gives up when an optional dependency does not exist.
    let project = deno.project("an-app", &json!({}));
    deno.add(&project, &["acme-tool", "@acme/scoped@1.0.0", "app-base", "foreign-root", "large", "left"]).await.ok();
    let installed = [
        ("acme-tool", "1.1.0"),
        ("@acme/scoped", "1.0.0"),
        ("app-base", "1.1.0"),
        ("left", "1.2.0"),
        ("foreign-root", "1.0.0"),
        ("large", "1.0.0"),
    ];
    deno.has_installed(&project, &installed);
    remove_modules(&project);
    deno.wipe_cache();
    deno.install_frozen(&project).await.ok();
    deno.has_installed(&project, &installed);
    std::fs::write(project.join("main.ts"), "import tool from 'acme-tool'\nconsole.log(tool)\n").unwrap();
    deno.run(&project, &["run", "-A", "main.ts"]).await.ok().says("acme-tool@1.1.0");
    deno.run(&project, &["outdated"]).await.ok().says("@acme/scoped").says("1.2.0");

    upstream.advise(
        "leaf",
        json!([{
            "id": 1_000_001, "url": "https://advisories.example.test/1", "title": "Leaf falls", "severity": "high",
            "vulnerable_versions": "<2.0.0", "patched_versions": ">=2.0.0", "cwe": [], "cves": [],
            "cvss": { "score": 7.5, "vectorString": null },
        }]),
    );
    deno.run(&project, &["audit"]).await.fails().says("Leaf falls");
}
