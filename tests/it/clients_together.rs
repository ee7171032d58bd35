//! What one client publishes, all others install; and what all of them do alike: work offline, and under a path.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::clients::{
    ALL, BUN, Client, DENO, Kind, NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_8, PNPM_10, PNPM_11, PNPM_12, Tool,
    YARN_1, YARN_3, YARN_4, remove_modules,
};
use crate::support::server::Settings;
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const PASSWORD: &str = "correct horse battery";

/// Those that publish, without those that hand it to npm.
const PUBLISHERS: &[Tool] = &[NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_11, PNPM_12, YARN_1, YARN_3, YARN_4, BUN];

#[tokio::test]
async fn what_one_client_publishes_every_other_one_installs() {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let mut published = Vec::new();
    for tool in PUBLISHERS {
        let Some(client) = Client::of(*tool, &server) else { return };
        client.log_in_with(&token);
        // With a dependency on the package before it, on one from upstream, and with a program.
        let name = format!("@acme/by-{}", tool.folder);
        let folder = client.package(&name, "1.0.0");
        let file = folder.join("package.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        manifest["dependencies"] = json!({ "leaf": "^1.0.0" });
        manifest["bin"] = json!({ tool.folder: "bin.js" });
        if let Some(before) = published.last() {
            manifest["dependencies"][before] = json!("1.x");
        }
        std::fs::write(&file, manifest.to_string()).unwrap();
        std::fs::write(folder.join("bin.js"), "#!/usr/bin/env node\nconsole.log('ran')\n").unwrap();
        publish(&client, &folder).await;
        published.push(name);
    }

    for tool in ALL {
        let Some(client) = Client::of(*tool, &server) else { return };
        let project = client.project("an-app", &json!({}));
        let names: Vec<&str> = published.iter().map(String::as_str).collect();
        client.add(&project, &names).await.ok();
        let expected: Vec<(&str, &str)> = names.iter().map(|name| (*name, "1.0.0")).collect();
        client.has_installed(&project, &expected);
        let program = project.join("node_modules/.bin").join(PUBLISHERS[0].folder);
        client.expect(program.exists(), &format!("{}: the programs should be linked", tool.folder));
    }
}

async fn publish(client: &Client, folder: &Path) {
    match client.tool.kind {
        Kind::Npm | Kind::Bun => client.run(folder, &["publish", "--access", "public"]).await.ok(),
        Kind::Pnpm => client.run(folder, &["publish", "--access", "public", "--no-git-checks"]).await.ok(),
        Kind::YarnClassic => {
            let args = ["publish", "--access", "public", "--non-interactive", "--new-version", "1.0.0"];
            client.run(folder, &args).await.ok()
        }
        Kind::YarnBerry => {
            client.install(folder).await.ok();
            client.run(folder, &["npm", "publish", "--access", "public"]).await.ok()
        }
        Kind::Deno => unreachable!("deno does not publish"),
    };
}

/// Installs through the server, then stops the upstream and empties the client: from the lock file, and afresh.
async fn works_offline(tool: Tool) {
    let mut upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).stable_port().start().await;
    let Some(client) = Client::of(tool, &server) else { return };
    let http = server.http().with_token(&server.http().create_user("alice", PASSWORD).await);
    http.publish(&Tarball::new("@acme/scoped", "1.0.0")).await.ok();
    let project = project(&client, "an-app").await;

    upstream.stop();
    client.wipe_cache();
    remove_modules(&project);
    client.install_frozen(&project).await.ok();
    client.has_installed(&project, INSTALLED);

    // Afresh, with no lock file and on a server that has just started: what it knows is on its disk.
    let server = server.restart().await;
    client.wipe_cache();
    let fresh = project_of(&client, "another-app");
    client.install(&fresh).await.ok();
    client.has_installed(&fresh, INSTALLED);
    drop(server);
}

/// The registry under a path: tarballs and all other addresses have to follow.
async fn works_under_a_path(tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let server = Settings::upstream(upstream.url()).prefix("/npm/team-a/").start().await;
    let Some(client) = Client::of(tool, &server) else { return };
    let token = server.http().create_user("alice", PASSWORD).await;
    server.http().with_token(&token).publish(&Tarball::new("@acme/scoped", "1.0.0")).await.ok();
    client.log_in_with(&token);
    let project = project(&client, "an-app").await;
    client.wipe_cache();
    remove_modules(&project);
    client.install_frozen(&project).await.ok();
    client.has_installed(&project, INSTALLED);
    if PUBLISHERS.contains(&tool) {
        let package = client.package("@acme/another", "1.0.0");
        publish(&client, &package).await;
        let tarball = server.http().get("/@acme/another/-/another-1.0.0.tgz").await;
        client.expect(tarball.status == 200, "what it published should be under the path");
    }
}

const INSTALLED: &[(&str, &str)] =
    &[("app-base", "1.1.0"), ("left", "1.2.0"), ("@acme/scoped", "1.0.0"), ("large", "1.0.0")];

async fn project(client: &Client, name: &str) -> PathBuf {
    let project = project_of(client, name);
    client.install(&project).await.ok();
    client.has_installed(&project, INSTALLED);
    let lock = client.tool.lock_file();
    client.expect(project.join(lock).exists(), &format!("{lock} should be there"));
    project
}

fn project_of(client: &Client, name: &str) -> PathBuf {
    let dependencies = json!({ "app-base": "^1.0.0", "left": "^1.0.0", "@acme/scoped": "^1.0.0", "large": "1.0.0" });
    client.project(name, &json!({ "dependencies": dependencies }))
}

/// One test for each client, so that the report says which of them fails.
macro_rules! for_each_client {
    ($check:ident, $module:ident) => {
        mod $module {
            use super::*;

            for_each_client!($check;
                npm_6 NPM_6, npm_8 NPM_8, npm_10 NPM_10, npm_11 NPM_11, npm_12 NPM_12, pnpm_8 PNPM_8, pnpm_10 PNPM_10,
                pnpm_11 PNPM_11, pnpm_12 PNPM_12, yarn_1 YARN_1, yarn_3 YARN_3, yarn_4 YARN_4, bun BUN, deno DENO);
        }
    };
    ($check:ident; $($name:ident $tool:ident),*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $check($tool).await;
            }
        )*
    };
}

for_each_client!(works_offline, offline);
for_each_client!(works_under_a_path, under_a_path);
