//! Users of the older system (codebox-npm) whose server was replaced by ours: its variables, its stored documents and its
//! clients' settings stay as they were.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::clients::{Client, Kind, NPM_6, NPM_10, NPM_11, NPM_12, PNPM_12, Tool, YARN_1};
use crate::support::github::GitHub;
use crate::support::http::Http;
use crate::support::server::{Server, Settings};
use crate::support::tarballs::{self, Tarball};
use crate::support::upstream::Upstream;

/// A document as it was stored there: without time, revision and owners, with the last tarball inside, and with addresses
/// of the host of that time.
fn document(name: &str, versions: &[(&Tarball, String)]) -> Value {
    let (last, _) = versions.last().unwrap();
    let last_version = last.manifest["version"].as_str().unwrap();
    let mut document = json!({
        "_id": name,
        "name": name,
        "description": "of the older system",
        "dist-tags": { "latest": last_version },
        "versions": {},
        "readme": "# Old\n",
        "access": null,
        "_attachments": {
            format!("{name}-{last_version}.tgz"): {
                "content_type": "application/octet-stream",
                "data": tarballs::base64(&last.bytes()),
                "length": last.bytes().len(),
            },
        },
    });
    for (tarball, url) in versions {
        let version = tarball.manifest["version"].as_str().unwrap();
        let mut manifest = tarball.manifest.clone();
        manifest["_id"] = json!(format!("{name}@{version}"));
        manifest["_npmVersion"] = json!("5.6.0");
        // Of npm 4 and older there was no integrity.
        manifest["dist"] = json!({ "shasum": tarballs::shasum(&tarball.bytes()), "tarball": url });
        document["versions"][version] = manifest;
    }
    document
}

/// The server in place of the older one. Ada administers and is a member of acme, bob is a member, carol administers and is
/// none any more, eve is a stranger.
struct Place {
    github: GitHub,
    server: Server,
    registry: String,
    _upstream: Upstream,
}

impl Place {
    async fn start() -> Self {
        let (github, upstream) = (GitHub::start().await, Upstream::with_fixtures());
        for name in ["Ada", "bob", "carol", "eve"] {
            github.add_user(name);
        }
        github.add_member("acme", "Ada", false);
        github.add_member("acme", "bob", false);

        let settings = Settings::of_environment().stable_port();
        let registry = format!("http://127.0.0.1:{}/prod/registry", settings.port());
        let (one, two) = (Tarball::new("old-tool", "1.0.0"), Tarball::new("old-tool", "1.1.0"));
        let scoped = Tarball::new("@acme/old", "1.0.0");
        let host = "https://a1b2c3.execute-api.eu-west-1.example.test/prod/registry";
        let tool = document(
            "old-tool",
            &[
                (&one, "undefined/old-tool/-/old-tool-1.0.0.tgz".to_owned()),
                (&two, format!("{host}/old-tool/-/old-tool-1.1.0.tgz")),
            ],
        );
        let of_scope = document("@acme/old", &[(&scoped, format!("{host}/@acme%2fold/-/%40acme%2Fold-1.0.0.tgz"))]);
        let server = settings
            .env("githubClientId", GitHub::CLIENT_ID)
            .env("githubSecret", GitHub::CLIENT_SECRET)
            .env("githubUrl", &github.api_url())
            .env("registry", upstream.url())
            .env("admins", "Ada,carol")
            .env("restrictedOrgs", "acme")
            .env("apiEndpoint", &registry)
            .env("region", "eu-west-1")
            .file("old-tool/index.json", tool.to_string())
            .file("old-tool/1.0.0.tgz", one.bytes())
            .file("old-tool/1.1.0.tgz", two.bytes())
            .file("@acme/old/index.json", of_scope.to_string())
            .file("@acme/old/1.0.0.tgz", scoped.bytes())
            .start()
            .await;
        Self { github, server, registry, _upstream: upstream }
    }

    /// Somebody with the settings that the older system's README has: the token's key is the address without `registry`.
    fn client(&self, tool: Tool, token: &str) -> Option<Client> {
        let client = Client::of(tool, &self.server)?;
        let host = self.registry.trim_start_matches("http:").trim_end_matches("registry");
        let npmrc = format!("registry={}\nalways-auth=true\n{host}:_authToken={token}\n", self.registry);
        std::fs::write(client.home().join(".npmrc"), npmrc).unwrap();
        let _ = std::fs::remove_file(client.home().join(".yarnrc"));
        Some(client)
    }

    fn http(&self, token: &str) -> Http {
        Http::new(&self.registry).with_token(token)
    }
}

async fn installs(client: &Client, latest: &str) {
    let project = client.project("an-app", &json!({}));
    client.add(&project, &["old-tool", "@acme/old", "app-base"]).await.ok();
    client.has_installed(&project, &[("old-tool", latest), ("@acme/old", "1.0.0"), ("app-base", "1.1.0")]);
    // The one whose address was never right.
    let project = client.project("an-older-app", &json!({}));
    client.add(&project, &["old-tool@1.0.0"]).await.ok();
    client.has_installed(&project, &[("old-tool", "1.0.0")]);
}

fn publish_command(tool: Tool) -> &'static [&'static str] {
    match tool.kind {
        Kind::Pnpm => &["publish", "--no-git-checks"],
        Kind::YarnClassic => &["publish", "--new-version", "1.2.0"],
        _ => &["publish"],
    }
}

async fn moves_over(tool: Tool, is_old_token: bool) {
    let place = Place::start().await;
    let token_of = |login: &str| {
        if is_old_token { place.github.old_oauth_token(login) } else { place.github.oauth_token(login) }
    };
    let token = token_of("Ada");
    let Some(client) = place.client(tool, &token) else { return };
    let folder = client.home();
    let is_yarn = tool.kind == Kind::YarnClassic;
    if !is_yarn {
        client.run(&folder, &["whoami"]).await.ok().says("Ada");
    }
    installs(&client, "1.1.0").await;
    let view = if is_yarn { "info" } else { "view" };
    client.run(&folder, &[view, "old-tool", "versions"]).await.ok().says("1.0.0").says("1.1.0");
    client.run(&folder, &[view, "@acme/old", "version"]).await.ok().says("1.0.0");

    let package = client.package("old-tool", "1.2.0");
    client.run(&package, publish_command(tool)).await.ok();
    let versions = place.http(&token).get("/old-tool").await.ok().json()["versions"].clone();
    let numbers: Vec<&String> = versions.as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["1.0.0", "1.1.0", "1.2.0"]);
    let tag = if is_yarn { "tag" } else { "dist-tag" };
    let (list, remove) = if is_yarn { ("list", "remove") } else { ("ls", "rm") };
    client.run(&folder, &[tag, "add", "old-tool@1.0.0", "stable"]).await.ok();
    client.run(&folder, &[tag, list, "old-tool"]).await.ok().says("stable: 1.0.0").says("latest: 1.2.0");
    client.run(&folder, &[tag, remove, "old-tool", "stable"]).await.ok();
    client.run(&folder, &[tag, list, "old-tool"]).await.ok().does_not_say("stable");
    if !is_yarn {
        client.run(&folder, &["deprecate", "@acme/old@1.0.0", "use another"]).await.ok();
        client.run(&folder, &["view", "@acme/old@1.0.0", "deprecated"]).await.ok().says("use another");
    }
    let project = client.project("a-newer-app", &json!({}));
    client.add(&project, &["old-tool"]).await.ok();
    client.has_installed(&project, &[("old-tool", "1.2.0")]);

    others(&place, tool, token_of).await;
    // pnpm looks for the token of a logout under the exact address only, and says that nobody is logged in.
    if tool.kind == Kind::Npm {
        log_out_and_in(&place, &client, &token).await;
    }
}

/// Those who may less.
async fn others(place: &Place, tool: Tool, token_of: impl Fn(&str) -> String) {
    let is_yarn = tool.kind == Kind::YarnClassic;
    let publish = publish_command(tool);
    let Some(bob) = place.client(tool, &token_of("bob")) else { return };
    installs(&bob, "1.2.0").await;
    let package = bob.package("old-tool", "1.2.1");
    let new = ["publish", "--new-version", "1.2.1"];
    let publish_new = if is_yarn { &new[..] } else { publish };
    bob.run(&package, publish_new).await.fails().says("The rules of this registry do not let you");
    let package = bob.package("@acme/new", "1.2.0");
    bob.run(&package, publish).await.fails().says("The rules of this registry do not let you");
    // There an administrator outside of the organisation could publish all the same.
    for login in ["eve", "carol"] {
        let Some(stranger) = place.client(tool, &token_of(login)) else { return };
        let reason = "is in none of the organisations";
        let package = stranger.package("@acme/new", "1.2.0");
        stranger.run(&package, publish).await.fails().says(reason);
        let project = stranger.project("an-app", &json!({}));
        let run = stranger.add(&project, &["old-tool"]).await.fails();
        if !is_yarn {
            run.says("403");
        }
    }
    let answer = place.http(&token_of("bob")).get("/@acme%2fnew").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
}

async fn log_out_and_in(place: &Place, client: &Client, token: &str) {
    let folder = client.home();
    client.run(&folder, &["logout"]).await.ok();
    client.run(&folder, &["whoami"]).await.fails();
    assert_eq!(place.http(token).get("/-/whoami").await.status, StatusCode::UNAUTHORIZED);
    // Not only here: GitHub knows it no more either.
    let api = Http::new(&place.github.api_url()).with_token(token);
    assert_eq!(api.get("/user").await.status, StatusCode::UNAUTHORIZED);
    // Without a slash at the end of the address, npm since 5.5.1 signs in at the wrong path: there as here.
    let npmrc = std::fs::read_to_string(folder.join(".npmrc")).unwrap();
    std::fs::write(folder.join(".npmrc"), npmrc.replace("/prod/registry\n", "/prod/registry/\n")).unwrap();
    let personal = place.github.personal_token("Ada");
    // npm takes names in small letters only.
    let answers = [("username", "ada"), ("password", personal.as_str()), ("email", "ada@example.test")];
    let args = if client.tool.major == 6 { &["login"][..] } else { &["login", "--auth-type=legacy"] };
    client.run_answering(&folder, args, &answers).await.ok();
    client.run(&folder, &["whoami"]).await.ok().says("Ada");
    let npmrc = std::fs::read_to_string(folder.join(".npmrc")).unwrap();
    assert!(npmrc.contains("hfst_") && npmrc.contains("always-auth"), "{npmrc}");
    let package = client.package("@acme/new", "2.0.0");
    client.run(&package, &["publish"]).await.ok();
}

#[tokio::test]
async fn npm_6_moves_over_with_a_token_of_the_old_form() {
    moves_over(NPM_6, true).await;
}

#[tokio::test]
async fn npm_10_moves_over() {
    moves_over(NPM_10, false).await;
}

#[tokio::test]
async fn npm_11_moves_over_with_a_token_of_the_old_form() {
    moves_over(NPM_11, true).await;
}

#[tokio::test]
async fn npm_12_moves_over() {
    moves_over(NPM_12, false).await;
}

#[tokio::test]
async fn yarn_1_moves_over() {
    moves_over(YARN_1, true).await;
}

#[tokio::test]
async fn pnpm_12_moves_over() {
    moves_over(PNPM_12, false).await;
}
