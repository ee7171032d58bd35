//! Trusted publishing with real clients: `npm trust`, and publishing in a job that has no secret.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::ci::{Runner, changed, trust_path, trusting};
use crate::support::clients::{Client, Kind, NPM_11, NPM_12, PNPM_11, PNPM_12, Run, Tool, YARN_4};
use crate::support::issuer::{Issuer, github_claims, gitlab_claims};
use crate::support::server::{Server, Settings};

const PASSWORD: &str = "correct horse battery";
const TOOL: &str = "@acme/tool";

#[tokio::test]
async fn npm_11_gives_and_ends_trust() {
    give_and_end_trust(NPM_11).await;
}

#[tokio::test]
async fn npm_12_gives_and_ends_trust() {
    give_and_end_trust(NPM_12).await;
}

async fn give_and_end_trust(tool: Tool) {
    let server = Settings::alone().start().await;
    let Some(npm) = Client::of(tool, &server) else { return };
    let alice = server.http().create_user("alice", PASSWORD).await;
    npm.log_in_with(&alice);
    let folder = npm.package(TOOL, "1.0.0");
    npm.run(&folder, &["publish", "--access", "public"]).await.ok();
    let home = npm.home();
    npm.run(&home, &["trust", "list", TOOL]).await.ok().says("No trust configurations");

    let github =
        ["trust", "github", TOOL, "--file", "release.yml", "--repository", "acme/tool", "--allow-publish", "--yes"];
    npm.run(&home, &github).await.ok().says("created successfully").says("release.yml").says("permissions: publish");
    npm.run(&home, &github).await.fails().says("409").says("trusts this workflow already");
    let in_production = [&github[..], &["--environment", "production"]].concat();
    npm.run(&home, &in_production).await.ok().says("production");
    let gitlab =
        ["trust", "gitlab", TOOL, "--file", ".gitlab-ci.yml", "--project", "acme/sub/tool", "--allow-publish", "--yes"];
    npm.run(&home, &gitlab).await.ok().says("acme/sub/tool");
    let staged = [&github[..7], &["--allow-stage-publish", "--yes"]].concat();
    npm.run(&home, &staged).await.fails().says("400").says("no staged publishing");
    // In the folder of the package it knows the name by itself.
    npm.run(&folder, &["trust", "list"]).await.ok().says("acme/tool").says("acme/sub/tool").says("production");

    let listed = server.http().with_token(&alice).get(&trust_path(TOOL)).await.ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    let id = listed[0]["id"].as_str().unwrap();
    npm.run(&home, &["trust", "list", TOOL]).await.ok().says(id);
    npm.run(&home, &["trust", "revoke", TOOL, "--id", id]).await.ok().says("Revoked");
    npm.run(&home, &["trust", "revoke", TOOL, "--id", id]).await.fails().says("404");
    npm.run(&home, &["trust", "list", TOOL]).await.ok().does_not_say(id).says("production");

    npm.log_in_with(&server.http().create_user("bob", PASSWORD).await);
    npm.run(&home, &["trust", "list", TOOL]).await.fails().says("403").says("Only its owners");
    npm.run(&home, &github).await.fails().says("403");
}

/// A server that takes the tokens of an issuer by this name, and an account that trusts a workflow with `@acme/tool`.
async fn trusting_server(issuer: &Issuer, name: &str, trust: &Value, settings: Settings) -> Server {
    let server = settings.config(&format!("[issuers.{name}]\nurl = \"{}\"\n", issuer.url())).start().await;
    let http = server.http();
    let alice = http.with_token(&http.create_user("alice", PASSWORD).await);
    let body = json!([trust]).to_string().into_bytes();
    alice.send(reqwest::Method::POST, &trust_path(TOOL), &[("content-type", "application/json")], body).await.ok();
    server
}

/// Publishes in a job.
async fn publish(client: &Client, folder: &Path, environment: &[(&str, &str)]) -> Run {
    let args: &[&str] = match client.tool.kind {
        Kind::Npm => &["publish", "--access", "public", "--loglevel", "verbose"],
        Kind::Pnpm => &["publish", "--no-git-checks", "--access", "public"],
        _ => &["npm", "publish", "--access", "public"],
    };
    if client.tool.kind == Kind::YarnBerry {
        // It packs and publishes workspaces that are installed, and no others.
        client.install(folder).await.ok();
    }
    client.run_in_job(folder, args, environment).await
}

/// Which issuer vouched for each version.
async fn vouched(server: &Server) -> Value {
    let document = server.http().get("/@acme%2ftool").await.ok().json();
    let versions = document["versions"].as_object().unwrap().iter();
    versions.map(|(number, version)| (number.clone(), version["_npmUser"]["trustedPublisher"]["id"].clone())).collect()
}

async fn publish_in_gitlab(tool: Tool, settings: Settings) {
    let issuer = Issuer::start().await;
    let claims = json!({ "project_path": "acme/tool", "ci_config_ref_uri": { "file": ".gitlab-ci.yml" } });
    let trust = json!({ "type": "gitlab", "permissions": ["createPackage"], "claims": claims });
    let server = trusting_server(&issuer, "gitlab", &trust, settings).await;
    let Some(client) = Client::of(tool, &server) else { return };
    let token_of =
        |project: &str, audience: &str| issuer.token(changed(gitlab_claims(project), json!({ "aud": audience })));

    // The first version makes the package, and the second one is like all others.
    for version in ["1.0.0", "1.1.0"] {
        let folder = client.package(TOOL, version);
        let token = token_of("acme/tool", "npm:127.0.0.1");
        publish(&client, &folder, &[("GITLAB_CI", "true"), ("NPM_ID_TOKEN", &token)]).await.ok();
    }
    let folder = client.package(TOOL, "1.2.0");
    for (token, says) in [
        (token_of("evil/tool", "npm:127.0.0.1"), "no package of this name trusts the repository `evil/tool`"),
        (token_of("acme/tool", "npm:npm.example.test"), "audience"),
    ] {
        let run = publish(&client, &folder, &[("GITLAB_CI", "true"), ("NPM_ID_TOKEN", &token)]).await.fails();
        // Berry keeps the reason to itself; pnpm looks at the audience before it asks.
        let is_told = tool.kind == Kind::YarnBerry || run.output().contains(says);
        run.expect(is_told, &format!("it should have said {says:?}"));
    }
    client.expect(
        vouched(&server).await == json!({ "1.0.0": "gitlab", "1.1.0": "gitlab" }),
        &format!("two versions should be vouched for: {}", vouched(&server).await),
    );
}

#[tokio::test]
async fn npm_11_publishes_in_a_job_of_gitlab() {
    publish_in_gitlab(NPM_11, Settings::alone()).await;
}

#[tokio::test]
async fn npm_12_publishes_in_a_job_of_gitlab() {
    publish_in_gitlab(NPM_12, Settings::alone()).await;
}

#[tokio::test]
async fn pnpm_11_publishes_in_a_job_of_gitlab() {
    publish_in_gitlab(PNPM_11, Settings::alone()).await;
}

#[tokio::test]
async fn pnpm_12_publishes_in_a_job_of_gitlab() {
    publish_in_gitlab(PNPM_12, Settings::alone()).await;
}

#[tokio::test]
async fn yarn_4_publishes_in_a_job_of_gitlab() {
    publish_in_gitlab(YARN_4, Settings::alone()).await;
}

/// npm and pnpm drop the path of the registry's address on the way to the exchange, yarn keeps it.
#[tokio::test]
async fn jobs_publish_to_a_registry_under_a_path() {
    for tool in [NPM_12, PNPM_12, YARN_4] {
        publish_in_gitlab(tool, Settings::alone().prefix("/npm/private")).await;
    }
}

async fn publish_in_github(tool: Tool) {
    let issuer = Issuer::start().await;
    let server = trusting_server(&issuer, "github", &trusting(&json!({})), Settings::alone()).await;
    let Some(client) = Client::of(tool, &server) else { return };
    let runner = Runner::start(&issuer, &github_claims("acme/tool", "release.yml"));
    for version in ["1.0.0", "1.1.0"] {
        let folder = client.package(TOOL, version);
        publish(&client, &folder, &runner.environment()).await.ok();
    }
    if tool == NPM_12 {
        // It asks for a token of its own for each of them.
        for args in [&["dist-tag", "add", "@acme/tool@1.0.0", "stable"][..], &["dist-tag", "rm", TOOL, "stable"]] {
            client.run_in_job(&client.home(), args, &runner.environment()).await.ok();
        }
        client.run(&client.home(), &["dist-tag", "add", "@acme/tool@1.0.0", "stable"]).await.fails();
    }
    let other = Runner::start(&issuer, &github_claims("acme/tool", "other.yml"));
    let folder = client.package(TOOL, "1.2.0");
    let run = publish(&client, &folder, &other.environment()).await.fails();
    let is_told = tool.kind == Kind::YarnBerry || run.output().contains("`other.yml` is not the one");
    run.expect(is_told, "it should have said which file is not trusted");
    client.expect(
        vouched(&server).await == json!({ "1.0.0": "github", "1.1.0": "github" }),
        &format!("two versions should be vouched for: {}", vouched(&server).await),
    );
}

#[tokio::test]
async fn npm_11_publishes_in_a_job_of_github() {
    publish_in_github(NPM_11).await;
}

#[tokio::test]
async fn npm_12_publishes_in_a_job_of_github() {
    publish_in_github(NPM_12).await;
}

#[tokio::test]
async fn pnpm_12_publishes_in_a_job_of_github() {
    publish_in_github(PNPM_12).await;
}

#[tokio::test]
async fn yarn_4_publishes_in_a_job_of_github() {
    publish_in_github(YARN_4).await;
}

/// A job of a public repository asks whether the package is public too, and would then have its provenance signed by a
/// service on the internet. On a registry that is closed it is not.
#[tokio::test]
async fn npm_12_signs_nothing_for_a_package_that_is_not_public() {
    let issuer = Issuer::start().await;
    let settings = Settings::alone()
        .env("HOLDFAST__ACCESS__ANONYMOUS_READ", "closed")
        .env("HOLDFAST__ACCESS__REGISTRATION", "open");
    let server = trusting_server(&issuer, "github", &trusting(&json!({})), settings).await;
    let Some(npm) = Client::of(NPM_12, &server) else { return };
    let claims = changed(github_claims("acme/tool", "release.yml"), json!({ "repository_visibility": "public" }));
    let runner = Runner::start(&issuer, &claims);
    for version in ["1.0.0", "1.1.0"] {
        let folder = npm.package(TOOL, version);
        publish(&npm, &folder, &runner.environment()).await.ok().does_not_say("Enabling provenance");
    }
}
