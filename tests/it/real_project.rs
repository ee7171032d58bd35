//! A real framework project through the server: cold, warm, and with the upstream gone.
//!
//! The one test that leaves loopback. It runs when the registry that this machine's npm is configured for answers.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::clients::{Client, NPM_11, remove_modules};
use crate::support::server::Settings;
use crate::support::stable_port;

const LIMIT: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_framework_project_installs_cold_warm_and_offline() {
    let Some(registry) = registry_of_this_machine() else {
        eprintln!("skipped: the npm registry that this machine is configured for does not answer");
        return;
    };
    let server = Settings::upstream(&registry).stable_port().start().await;
    let Some(npm) = Client::of(NPM_11, &server) else { return };
    let project = npm.project("real", &serde_json::json!({}));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/real-project");
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(fixture.join(file), project.join(file)).unwrap();
    }

    let (cold, count) = install(&npm, &project).await;
    let (warm, warm_count) = install(&npm, &project).await;
    // The upstream is the same one, or the server would not use what it has of it; but no way leads there any more.
    let nowhere = format!("http://127.0.0.1:{}/", stable_port());
    let server = server.restart_with(|settings| settings.env("HOLDFAST__UPSTREAMS__DEFAULT__PROXY", &nowhere)).await;
    let (offline, offline_count) = install(&npm, &project).await;
    drop(server);

    npm.expect(count > 300, &format!("hundreds of packages should be installed, and there are {count}"));
    npm.expect(count == warm_count && count == offline_count, "every install should have the same packages");
    eprintln!("{count} packages: cold {cold:.1} s, warm {warm:.1} s, upstream gone {offline:.1} s");
}

/// Installs from the lock file with nothing in npm's own cache: the seconds it took, and how many packages there are then.
///
/// Not by `npm ci`, which refuses a lock file that lacks an optional package of another platform. Ours lacks those that
/// the registry did not have when it was written; `install` looks for them again, and lives without.
async fn install(npm: &Client, project: &Path) -> (f32, usize) {
    npm.wipe_cache();
    remove_modules(project);
    let began = Instant::now();
    // Scripts would fetch from elsewhere, and say nothing about the registry.
    npm.run_within(LIMIT, project, &["install", "--no-save", "--ignore-scripts", "--no-audit"]).await.ok();
    let took = began.elapsed().as_secs_f32();
    let listed = std::fs::read(project.join("node_modules/.package-lock.json")).unwrap_or_default();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap_or_default();
    (took, listed["packages"].as_object().map_or(0, serde_json::Map::len))
}

/// Its URL, when it answers a question about a package that every registry has.
fn registry_of_this_machine() -> Option<String> {
    // Not in the repository, whose settings are not those of the machine.
    let ask = |args: &[&str]| {
        let output = Command::new("npm").args(args).current_dir(std::env::temp_dir()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let registry = ask(&["config", "get", "registry"])?;
    ask(&["view", "react", "version", "--fetch-retries=0", "--fetch-timeout=10000"])?;
    registry.starts_with("http").then_some(registry)
}
