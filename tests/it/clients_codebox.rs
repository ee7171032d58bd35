//! Real clients on a codebox bucket: what worked there works here from the first request, and changes once they are let.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::clients::{Client, Kind, NPM_6, NPM_10, Tool, YARN_1};
use crate::support::codebox::{Bucket, everything};
use crate::support::github::GitHub;
use crate::support::server::{Server, Settings};
use crate::support::upstream::Upstream;

/// The server in the older system's place, where Ada administers.
struct Place {
    github: GitHub,
    server: Server,
    registry: String,
    bucket: Bucket,
    _upstream: Upstream,
}

impl Place {
    async fn start() -> Self {
        let (github, upstream) = (GitHub::start().await, Upstream::with_fixtures());
        github.add_user("Ada");
        let bucket = everything(&upstream).await;
        let settings = Settings::of_environment().stable_port();
        let registry = format!("http://127.0.0.1:{}/prod/registry", settings.port());
        let mut settings = settings
            .env("githubClientId", GitHub::CLIENT_ID)
            .env("githubSecret", GitHub::CLIENT_SECRET)
            .env("githubUrl", &github.api_url())
            .env("registry", upstream.url())
            .env("admins", "Ada")
            .env("apiEndpoint", &registry)
            .env("logTopic", "arn:aws:sns:eu-west-1:123456789012:log")
            .env("HOLDFAST__STORAGE__READ_ONLY", "true");
        for (key, bytes) in bucket.objects() {
            settings = settings.file(key, bytes.clone());
        }
        Self { server: settings.start().await, github, registry, bucket, _upstream: upstream }
    }

    /// Somebody with the settings that the older system's README has.
    fn client(&self, tool: Tool) -> Option<Client> {
        let client = Client::of(tool, &self.server)?;
        let host = self.registry.trim_start_matches("http:").trim_end_matches("registry");
        let token = self.github.old_oauth_token("Ada");
        let npmrc = format!("registry={}\nalways-auth=true\n{host}:_authToken={token}\n", self.registry);
        std::fs::write(client.home().join(".npmrc"), npmrc).unwrap();
        let _ = std::fs::remove_file(client.home().join(".yarnrc"));
        Some(client)
    }

    fn stored(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.server.data().join(key)).unwrap()
    }

    async fn writable(self) -> Self {
        let server = self.server.restart_with(|settings| settings.env("HOLDFAST__STORAGE__READ_ONLY", "false")).await;
        Self { server, ..self }
    }
}

async fn takes_the_older_systems_place(tool: Tool) {
    let place = Place::start().await;
    let Some(client) = place.client(tool) else { return };
    let folder = client.home();
    let is_yarn = tool.kind == Kind::YarnClassic;
    // Its topic is told what happens from now on.
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !place.server.data().join("-/sinks/log-topic.json").exists() {
        assert!(std::time::Instant::now() < deadline, "{}", place.server.log().tail(20));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    // Packages of ours, one of the upstream's, and one that a copy stands for.
    let project = client.project("an-app", &json!({}));
    client.add(&project, &["old-tool", "@acme/old@1.0.0-beta.1", "app-base", "left@1.0.0"]).await.ok();
    let installed = [("old-tool", "1.1.0"), ("@acme/old", "1.0.0-beta.1"), ("app-base", "1.1.0"), ("left", "1.0.0")];
    client.has_installed(&project, &installed);
    let project = client.project("an-older-app", &json!({}));
    client.add(&project, &["old-tool@1.0.0", "@acme/old"]).await.ok();
    client.has_installed(&project, &[("old-tool", "1.0.0"), ("@acme/old", "1.0.0")]);
    let (view, tag, list) = if is_yarn { ("info", "tag", "list") } else { ("view", "dist-tag", "ls") };
    client.run(&folder, &[view, "old-tool", "versions"]).await.ok().says("1.0.0").says("2.0.0-rc.1");
    client.run(&folder, &[view, "@acme/old", "dist-tags"]).await.ok().says("1.0.0-beta.1");
    client.run(&folder, &[tag, list, "old-tool"]).await.ok().says("next: 2.0.0-rc.1").says("latest: 1.1.0");
    let package = client.package("old-tool", "1.2.0");
    let publish: &[&str] = if is_yarn { &["publish", "--new-version", "1.2.0"] } else { &["publish"] };
    client.run(&package, publish).await.fails().says("storage.read_only");
    client.run(&folder, &[tag, "add", "old-tool@1.0.0", "stable"]).await.fails();
    for (key, bytes) in place.bucket.objects() {
        assert_eq!(place.stored(key), *bytes, "{key}");
    }

    let place = place.writable().await;
    client.run(&package, publish).await.ok();
    client.run(&folder, &[tag, "add", "old-tool@1.0.0", "stable"]).await.ok();
    client.run(&folder, &[tag, list, "old-tool"]).await.ok().says("stable: 1.0.0").says("latest: 1.2.0");
    if !is_yarn {
        client.run(&folder, &["deprecate", "@acme/old@1.0.0", "use another"]).await.ok();
        client.run(&folder, &[view, "@acme/old@1.0.0", "deprecated"]).await.ok().says("use another");
        client.run(&folder, &[view, "@acme/old@1.0.0-beta.1", "deprecated"]).await.ok().says("use 1.0.0");
    }
    let upgraded: Value = serde_json::from_slice(&place.stored("old-tool/index.json")).unwrap();
    assert!(upgraded.get("_attachments").is_none() && upgraded["time"]["1.0.0"].is_string(), "{upgraded}");
    client.wipe_cache();
    let project = client.project("a-newer-app", &json!({}));
    client.add(&project, &["old-tool", "@acme/old"]).await.ok();
    client.has_installed(&project, &[("old-tool", "1.2.0"), ("@acme/old", "1.0.0")]);
    let strangers = crate::support::http::Http::new(&place.registry).get("/old-tool").await;
    assert_eq!(strangers.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn npm_6_finds_a_codebox_bucket_as_it_was() {
    takes_the_older_systems_place(NPM_6).await;
}

#[tokio::test]
async fn npm_10_finds_a_codebox_bucket_as_it_was() {
    takes_the_older_systems_place(NPM_10).await;
}

#[tokio::test]
async fn yarn_1_finds_a_codebox_bucket_as_it_was() {
    takes_the_older_systems_place(YARN_1).await;
}
