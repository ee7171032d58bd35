//! Real clients against the program inside Lambda: behind a function URL, and behind a REST API with a stage.

use serde_json::json;

use crate::support::clients::{BUN, Client, Kind, NPM_10, NPM_11, PNPM_11, Tool, YARN_1, YARN_4, remove_modules};
use crate::support::lambda::{FrontEnd, Lambda};
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

const PASSWORD: &str = "correct horse battery";
const INSTALLED: &[(&str, &str)] =
    &[("app-base", "1.1.0"), ("left", "1.2.0"), ("@acme/scoped", "1.0.0"), ("large", "1.0.0")];

/// Publishes and installs, afresh and from the lock file.
async fn works_behind(front: FrontEnd, tool: Tool) {
    let upstream = Upstream::with_fixtures();
    let settings = [("HOLDFAST__ACCESS__REGISTRATION", "open"), ("HOLDFAST__UPSTREAMS__DEFAULT__URL", upstream.url())];
    let lambda = Lambda::start(front, &settings).await;
    let Some(client) = Client::at(tool, &lambda.url(), lambda.log()) else { return };
    let token = lambda.create_user("alice", PASSWORD).await;
    client.log_in_with(&token);
    send_token_always(&client);
    lambda.http().with_token(&token).publish(&Tarball::new("@acme/scoped", "1.0.0")).await.ok();

    let members = json!({ "dependencies": { "app-base": "^1.0.0", "left": "^1.0.0", "@acme/scoped": "^1.0.0", "large": "^1.0.0" } });
    let project = client.project("an-app", &members);
    client.install(&project).await.ok();
    client.has_installed(&project, INSTALLED);
    client.wipe_cache();
    remove_modules(&project);
    client.install_frozen(&project).await.ok();
    client.has_installed(&project, INSTALLED);

    let package = client.package("@acme/another", "1.0.0");
    client.publish(&package).await;
    let published = lambda.http().with_token(&token).get("/@acme%2fanother").await;
    client.expect(published.status == 200, "what it published should be there");
    client.expect(lambda.oversized() == 0, "no answer should be larger than what is carried");
}

/// Where reading needs an account, as inside Lambda and behind a proxy, yarn and berry send their token to read only when
/// they are told to.
pub(crate) fn send_token_always(client: &Client) {
    let (file, line) = match client.tool.kind {
        Kind::YarnClassic => (".npmrc", "always-auth=true\n"),
        Kind::YarnBerry => (".yarnrc.yml", "npmAlwaysAuth: true\n"),
        Kind::Npm | Kind::Pnpm | Kind::Bun | Kind::Deno => return,
    };
    let path = client.home().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text + line).unwrap();
}

macro_rules! behind {
    ($($name:ident = $tool:ident;)*) => {
        mod function_url {
            use super::*;
            $(#[tokio::test] async fn $name() { works_behind(FrontEnd::FunctionUrl, $tool).await; })*
        }

        mod rest_api_with_a_stage {
            use super::*;
            $(#[tokio::test] async fn $name() { works_behind(FrontEnd::RestApi { stage: "prod", route: "" }, $tool).await; })*
        }
    };
}

behind! {
    npm_10 = NPM_10;
    npm_11 = NPM_11;
    pnpm = PNPM_11;
    yarn_classic = YARN_1;
    yarn_berry = YARN_4;
    bun = BUN;
}
