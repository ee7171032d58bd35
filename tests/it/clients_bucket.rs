//! Real clients before three replicas over one bucket, behind nginx, with tarballs that they fetch from the bucket.

use serde_json::json;

use crate::clients_lambda::send_token_always;
use crate::support::clients::{BUN, Client, Kind, NPM_11, PNPM_11, Tool, YARN_1, YARN_4, remove_modules};
use crate::support::http::Http;
use crate::support::object_server::ObjectServer;
use crate::support::real_servers::LoadBalancer;
use crate::support::server::{Server, Settings};
use crate::support::tarballs::Tarball;

const PASSWORD: &str = "correct horse battery";

/// Three servers over the bucket that say of themselves that they are where nginx is, which goes before them.
async fn replicas(store: &str) -> Option<(Vec<Server>, LoadBalancer)> {
    let settings = [(); 3].map(|()| Settings::alone().stable_port().bucket(store, "s3://packages/team"));
    let origins = settings.each_ref().map(|settings| format!("http://127.0.0.1:{}", settings.port()));
    let balancer = LoadBalancer::before(&origins.each_ref().map(String::as_str)).await?;
    let mut replicas = Vec::new();
    for settings in settings {
        let settings = settings
            .public_url(balancer.url())
            .env("HOLDFAST__SERVER__TRUSTED_PROXIES", "127.0.0.1")
            .env("HOLDFAST__TARBALLS__REDIRECT", "always");
        replicas.push(settings.start().await);
    }
    Some((replicas, balancer))
}

/// Publishes, tags and installs, afresh and from the lock file, each request at another replica.
async fn works_before_replicas(tool: Tool) {
    let store = ObjectServer::start("packages");
    // Another host than the registry's, as a bucket is: clients leave their token behind on the way there.
    let endpoint = store.url().replace("127.0.0.1", "localhost");
    let Some((replicas, _balancer)) = replicas(&endpoint).await else { return };
    let Some(client) = Client::of(tool, &replicas[0]) else { return };
    // A password goes over a line that is not open: to one that nothing stands before.
    let door = Settings::alone().bucket(&endpoint, "s3://packages/team").start().await;
    let token = door.http().create_user("alice", PASSWORD).await;
    client.log_in_with(&token);
    send_token_always(&client);
    let http = replicas[1].http().with_token(&token);
    let base = Tarball::new("base", "1.2.0").set("dependencies", json!({ "@acme/scoped": "^1.0.0" }));
    http.publish(&base).await.ok();
    http.publish(&Tarball::new("@acme/scoped", "1.0.0")).await.ok();

    let package = client.package("@acme/another", "1.0.0");
    client.publish(&package).await;
    let tag: Option<&[&str]> = match tool.kind {
        Kind::Npm | Kind::Pnpm => Some(&["dist-tag", "add", "@acme/another@1.0.0", "tested"]),
        Kind::YarnClassic => Some(&["tag", "add", "@acme/another@1.0.0", "tested"]),
        Kind::YarnBerry => Some(&["npm", "tag", "add", "@acme/another@1.0.0", "tested"]),
        Kind::Bun | Kind::Deno => None,
    };
    if let Some(tag) = tag {
        client.run(&package, tag).await.ok();
        for replica in &replicas {
            let tags = Http::new(replica.origin())
                .with_token(&token)
                .get("/-/package/@acme%2fanother/dist-tags")
                .await
                .ok()
                .json();
            client.expect(tags["tested"] == "1.0.0", "each replica should have the tag");
        }
    }

    store.take_calls();
    let members = json!({ "dependencies": { "base": "^1.0.0", "@acme/scoped": "^1.0.0", "@acme/another": "1.0.0" } });
    let project = client.project("an-app", &members);
    let installed = [("base", "1.2.0"), ("@acme/scoped", "1.0.0"), ("@acme/another", "1.0.0")];
    client.install(&project).await.ok();
    client.has_installed(&project, &installed);
    client.wipe_cache();
    remove_modules(&project);
    client.install_frozen(&project).await.ok();
    client.has_installed(&project, &installed);
    followed_links(&client, &store, &token);
}

/// Every tarball came from the bucket, by a link that is all the permission there is; what is asked with a permission
/// was asked by us, with the bucket's own.
fn followed_links(client: &Client, store: &ObjectServer, token: &str) {
    let calls = store.calls();
    let (links, ours): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.is_presigned);
    client
        .expect(links.len() >= 3, &format!("it should fetch each tarball from the bucket, not {} in all", links.len()));
    client.expect(links.iter().all(|call| call.status == Some(200)), "the bucket should give each tarball");
    for call in &links {
        let permission = call.headers.get("authorization");
        client.expect(permission.is_none(), &format!("{}: a link goes without a permission", call.key));
    }
    client.expect(!ours.iter().any(|call| call.key.contains("-/tarballs/")), "no tarball should go through a replica");
    for call in &calls {
        let told = call.headers.values().any(|value| value.to_str().is_ok_and(|text| text.contains(token)));
        client.expect(!told, &format!("{}: the token should not reach the bucket", call.key));
    }
}

macro_rules! before_replicas {
    ($($name:ident = $tool:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { works_before_replicas($tool).await; })*
    };
}

before_replicas! {
    npm = NPM_11;
    pnpm = PNPM_11;
    yarn_classic = YARN_1;
    yarn_berry = YARN_4;
    bun = BUN;
}
