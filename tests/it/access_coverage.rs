//! Who may call what: every line of the route table, for every kind of caller, on an open registry and a closed one.
//!
//! A new route fails here until it has a line of its own.

use axum::body::Body;
use holdfast::auth::Action;
use holdfast::http::{Access, routes};
use holdfast::settings::Auto;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, PASSWORD, TestApp, path_of, refused, sign_in_document};
use crate::support::company::{Company, rule, trusted, without_names};
use crate::support::http::{document_of_upload, publish_document};
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

/// A request to a route, made for a package that is not touched by the others.
struct Row {
    method: &'static str,
    path: &'static str,
    /// The address, with `PKG` for the package and `REV` for its revision.
    address: &'static str,
    body: fn(&str) -> String,
    /// What the owner gets. Others get 401 or 403 where they may not, and this where they may.
    status: u16,
}

fn nothing(_: &str) -> String {
    String::new()
}

fn sign_in(_: &str) -> String {
    sign_in_document("alice", PASSWORD).to_string()
}

fn trusted_workflow(_: &str) -> String {
    let claims = json!({ "repository": "acme/tool", "workflow_ref": { "file": "release.yml" } });
    json!([{ "type": "github", "permissions": ["createPackage"], "claims": claims }]).to_string()
}

fn new_token(_: &str) -> String {
    json!({ "password": PASSWORD, "readonly": true, "cidr_whitelist": [] }).to_string()
}

fn new_hook(name: &str) -> String {
    let endpoint = "https://ci.acme.example/hook";
    json!({ "type": "package", "name": name, "endpoint": endpoint, "secret": "hush" }).to_string()
}

const ROWS: &[Row] = &[
    Row {
        method: "GET",
        path: "/-/holdfast/v1/explain/{package}",
        address: "/-/holdfast/v1/explain/PKG",
        body: nothing,
        status: 200,
    },
    Row {
        method: "POST",
        path: "/-/holdfast/v1/check",
        address: "/-/holdfast/v1/check",
        body: |name| json!({ "packages": [{ "name": name, "version": "1.0.0" }] }).to_string(),
        status: 200,
    },
    Row { method: "GET", path: "/-/holdfast/v1/events", address: "/-/holdfast/v1/events", body: nothing, status: 200 },
    Row {
        method: "GET",
        path: "/-/downloads/point/{period}",
        address: "/-/downloads/point/last-week",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/downloads/point/{period}/{package}",
        address: "/-/downloads/point/last-week/PKG",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/downloads/range/{period}",
        address: "/-/downloads/range/last-week",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/downloads/range/{period}/{package}",
        address: "/-/downloads/range/last-week/PKG",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/versions/{package}/last-week",
        address: "/-/versions/PKG/last-week",
        body: nothing,
        status: 200,
    },
    // A directory has no links.
    Row {
        method: "POST",
        path: "/-/holdfast/v1/package/{package}/uploads",
        address: "/-/holdfast/v1/package/PKG/uploads",
        body: |_| json!({ "version": "2.0.0", "length": 1 }).to_string(),
        status: 404,
    },
    Row {
        method: "POST",
        path: "/-/holdfast/v1/package/{package}/uploads/{id}/commit",
        address: "/-/holdfast/v1/package/PKG/uploads/0123456789abcdef0123456789abcdef/commit",
        body: |name| document_of_upload(&Tarball::new(name, "2.0.0"), "latest").to_string(),
        status: 404,
    },
    Row { method: "GET", path: "/{package}", address: "/PKG", body: nothing, status: 200 },
    Row { method: "GET", path: "/{package}/{wanted}", address: "/PKG/latest", body: nothing, status: 200 },
    Row { method: "GET", path: "/{package}/-/{file}", address: "/PKG/-/thing-1.0.0.tgz", body: nothing, status: 200 },
    Row {
        method: "PUT",
        path: "/{package}",
        address: "/PKG",
        body: |name| publish_document(&Tarball::new(name, "2.0.0"), "latest").to_string(),
        status: 201,
    },
    Row {
        method: "PUT",
        path: "/{package}/-rev/{revision}",
        address: "/PKG/-rev/REV",
        body: |_| json!({ "maintainers": [{ "name": "owner", "email": "changed@example.test" }] }).to_string(),
        status: 200,
    },
    Row { method: "DELETE", path: "/{package}/-rev/{revision}", address: "/PKG/-rev/REV", body: nothing, status: 200 },
    Row {
        method: "DELETE",
        path: "/{package}/-/{file}/-rev/{revision}",
        address: "/PKG/-/thing-9.9.9.tgz/-rev/REV",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/package/{package}/dist-tags",
        address: "/-/package/PKG/dist-tags",
        body: nothing,
        status: 200,
    },
    Row {
        method: "PUT",
        path: "/-/package/{package}/dist-tags",
        address: "/-/package/PKG/dist-tags",
        body: |_| json!({ "a": "1.0.0" }).to_string(),
        status: 201,
    },
    Row {
        method: "POST",
        path: "/-/package/{package}/dist-tags",
        address: "/-/package/PKG/dist-tags",
        body: |_| json!({ "a": "1.0.0" }).to_string(),
        status: 201,
    },
    Row {
        method: "PUT",
        path: "/-/package/{package}/dist-tags/{tag}",
        address: "/-/package/PKG/dist-tags/a",
        body: |_| "\"1.0.0\"".to_owned(),
        status: 201,
    },
    Row {
        method: "POST",
        path: "/-/package/{package}/dist-tags/{tag}",
        address: "/-/package/PKG/dist-tags/a",
        body: |_| "\"1.0.0\"".to_owned(),
        status: 201,
    },
    Row {
        method: "DELETE",
        path: "/-/package/{package}/dist-tags/{tag}",
        address: "/-/package/PKG/dist-tags/a",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/package/{package}/owners",
        address: "/-/package/PKG/owners",
        body: nothing,
        status: 200,
    },
    Row {
        method: "PUT",
        path: "/-/package/{package}/owners",
        address: "/-/package/PKG/owners",
        body: |_| json!({ "user": "alice" }).to_string(),
        status: 201,
    },
    Row {
        method: "DELETE",
        path: "/-/package/{package}/owners/{user}",
        address: "/-/package/PKG/owners/nobody",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/package/{package}/visibility",
        address: "/-/package/PKG/visibility",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/package/{package}/access",
        address: "/-/package/PKG/access",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/package/{package}/collaborators",
        address: "/-/package/PKG/collaborators",
        body: nothing,
        status: 200,
    },
    Row {
        method: "GET",
        path: "/-/_view/starredByUser",
        address: "/-/_view/starredByUser?key=%22alice%22",
        body: nothing,
        status: 200,
    },
    Row { method: "GET", path: "/-/user/v1/star", address: "/-/user/v1/star", body: nothing, status: 200 },
    Row {
        method: "PUT",
        path: "/-/user/v1/star",
        address: "/-/user/v1/star",
        body: |name| json!({ "package": name }).to_string(),
        status: 200,
    },
    Row {
        method: "DELETE",
        path: "/-/user/v1/star",
        address: "/-/user/v1/star",
        body: |name| json!({ "package": name }).to_string(),
        status: 200,
    },
    Row { method: "GET", path: "/-/user/{user}/stars", address: "/-/user/alice/stars", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/whoami", address: "/-/whoami", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/npm/v1/user", address: "/-/npm/v1/user", body: nothing, status: 200 },
    Row {
        method: "POST",
        path: "/-/npm/v1/user",
        address: "/-/npm/v1/user",
        body: |_| json!({ "email": "new@example.test" }).to_string(),
        status: 200,
    },
    Row {
        method: "PUT",
        path: "/-/user/org.couchdb.user:{user}",
        address: "/-/user/org.couchdb.user:alice",
        body: sign_in,
        status: 201,
    },
    Row {
        method: "PUT",
        path: "/-/user/org.couchdb.user:{user}/-rev/{revision}",
        address: "/-/user/org.couchdb.user:alice/-rev/1-0",
        body: sign_in,
        status: 201,
    },
    Row {
        method: "GET",
        path: "/-/user/org.couchdb.user:{user}",
        address: "/-/user/org.couchdb.user:alice",
        body: nothing,
        status: 200,
    },
    // The token in the address is what counts, and this one is nobody's.
    Row {
        method: "DELETE",
        path: "/-/user/token/{token}",
        address: "/-/user/token/npm_unknown",
        body: nothing,
        status: 404,
    },
    Row { method: "GET", path: "/-/v1/search", address: "/-/v1/search?text=thing", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/all", address: "/-/all", body: nothing, status: 200 },
    Row {
        method: "POST",
        path: "/-/npm/v1/security/advisories/bulk",
        address: "/-/npm/v1/security/advisories/bulk",
        body: |_| "{}".to_owned(),
        status: 200,
    },
    Row {
        method: "POST",
        path: "/-/npm/v1/security/audits/quick",
        address: "/-/npm/v1/security/audits/quick",
        body: |_| "{}".to_owned(),
        status: 200,
    },
    Row {
        method: "POST",
        path: "/-/npm/v1/security/audits",
        address: "/-/npm/v1/security/audits",
        body: |_| "{}".to_owned(),
        status: 200,
    },
    // No provenance was published with it; who may not read is not told so.
    Row {
        method: "GET",
        path: "/-/npm/v1/attestations/{spec}",
        address: "/-/npm/v1/attestations/PKG@1.0.0",
        body: nothing,
        status: 404,
    },
    Row {
        method: "POST",
        path: "/-/package/{package}/access",
        address: "/-/package/PKG/access",
        body: nothing,
        status: 403,
    },
    Row {
        method: "PUT",
        path: "/-/package/{package}/access",
        address: "/-/package/PKG/access",
        body: nothing,
        status: 403,
    },
    Row { method: "GET", path: "/-/org/{organization}/user", address: "/-/org/acme/user", body: nothing, status: 404 },
    Row { method: "PUT", path: "/-/org/{organization}/user", address: "/-/org/acme/user", body: nothing, status: 403 },
    Row {
        method: "DELETE",
        path: "/-/org/{organization}/user",
        address: "/-/org/acme/user",
        body: nothing,
        status: 403,
    },
    Row { method: "GET", path: "/-/org/{organization}/team", address: "/-/org/acme/team", body: nothing, status: 404 },
    Row { method: "PUT", path: "/-/org/{organization}/team", address: "/-/org/acme/team", body: nothing, status: 403 },
    Row {
        method: "GET",
        path: "/-/org/{organization}/package",
        address: "/-/org/acme/package",
        body: nothing,
        status: 200,
    },
    Row {
        method: "DELETE",
        path: "/-/team/{organization}/{team}",
        address: "/-/team/acme/core",
        body: nothing,
        status: 403,
    },
    Row {
        method: "GET",
        path: "/-/team/{organization}/{team}/user",
        address: "/-/team/acme/core/user",
        body: nothing,
        status: 404,
    },
    Row {
        method: "PUT",
        path: "/-/team/{organization}/{team}/user",
        address: "/-/team/acme/core/user",
        body: nothing,
        status: 403,
    },
    Row {
        method: "DELETE",
        path: "/-/team/{organization}/{team}/user",
        address: "/-/team/acme/core/user",
        body: nothing,
        status: 403,
    },
    Row {
        method: "GET",
        path: "/-/team/{organization}/{team}/package",
        address: "/-/team/acme/core/package",
        body: nothing,
        status: 200,
    },
    Row {
        method: "PUT",
        path: "/-/team/{organization}/{team}/package",
        address: "/-/team/acme/core/package",
        body: nothing,
        status: 403,
    },
    Row {
        method: "DELETE",
        path: "/-/team/{organization}/{team}/package",
        address: "/-/team/acme/core/package",
        body: nothing,
        status: 403,
    },
    Row { method: "GET", path: "/-/user/{user}/package", address: "/-/user/alice/package", body: nothing, status: 200 },
    Row {
        method: "GET",
        path: "/-/package/{package}/trust",
        address: "/-/package/PKG/trust",
        body: nothing,
        status: 200,
    },
    Row {
        method: "POST",
        path: "/-/package/{package}/trust",
        address: "/-/package/PKG/trust",
        body: trusted_workflow,
        status: 201,
    },
    Row {
        method: "DELETE",
        path: "/-/package/{package}/trust/{id}",
        address: "/-/package/PKG/trust/nothing",
        body: nothing,
        status: 404,
    },
    Row {
        method: "POST",
        path: "/-/npm/v1/oidc/token/exchange/package/{package}",
        address: "/-/npm/v1/oidc/token/exchange/package/PKG",
        body: nothing,
        status: 401,
    },
    Row {
        method: "POST",
        path: "/-/npm/v1/oidc/token/exchange",
        address: "/-/npm/v1/oidc/token/exchange",
        body: nothing,
        status: 401,
    },
    // Hooks are off here; `hooks.rs` tries who may what where they are not.
    Row { method: "GET", path: "/-/npm/v1/hooks", address: "/-/npm/v1/hooks", body: nothing, status: 403 },
    Row { method: "POST", path: "/-/npm/v1/hooks/hook", address: "/-/npm/v1/hooks/hook", body: new_hook, status: 403 },
    Row {
        method: "GET",
        path: "/-/npm/v1/hooks/hook/{id}",
        address: "/-/npm/v1/hooks/hook/0a",
        body: nothing,
        status: 403,
    },
    Row {
        method: "PUT",
        path: "/-/npm/v1/hooks/hook/{id}",
        address: "/-/npm/v1/hooks/hook/0a",
        body: new_hook,
        status: 403,
    },
    Row {
        method: "DELETE",
        path: "/-/npm/v1/hooks/hook/{id}",
        address: "/-/npm/v1/hooks/hook/0a",
        body: nothing,
        status: 403,
    },
    Row { method: "GET", path: "/-/npm/v1/tokens", address: "/-/npm/v1/tokens", body: nothing, status: 200 },
    Row { method: "POST", path: "/-/npm/v1/tokens", address: "/-/npm/v1/tokens", body: new_token, status: 201 },
    Row {
        method: "DELETE",
        path: "/-/npm/v1/tokens/token/{key}",
        address: "/-/npm/v1/tokens/token/0123456789abcdef",
        body: nothing,
        status: 404,
    },
    Row { method: "POST", path: "/-/v1/login", address: "/-/v1/login", body: nothing, status: 404 },
    Row { method: "POST", path: "/-/v1/login/device", address: "/-/v1/login/device", body: nothing, status: 404 },
    Row { method: "GET", path: "/-/v1/done", address: "/-/v1/done", body: nothing, status: 404 },
    Row { method: "GET", path: "/-/login/{id}", address: "/-/login/nothing", body: nothing, status: 404 },
    Row { method: "POST", path: "/-/login/{id}", address: "/-/login/nothing", body: nothing, status: 404 },
    Row { method: "GET", path: "/-/login/{id}/github", address: "/-/login/nothing/github", body: nothing, status: 404 },
    Row {
        method: "POST",
        path: "/-/login/{id}/confirm",
        address: "/-/login/nothing/confirm",
        body: nothing,
        status: 404,
    },
    Row { method: "GET", path: "/-/github/callback", address: "/-/github/callback", body: nothing, status: 404 },
    Row { method: "GET", path: "/-/invite/{code}", address: "/-/invite/nothing", body: nothing, status: 404 },
    Row { method: "POST", path: "/-/invite/{code}", address: "/-/invite/nothing", body: nothing, status: 404 },
    Row {
        method: "GET",
        path: "/-/web/holdfast-07de4a7a41f34563.css",
        address: "/-/web/holdfast-07de4a7a41f34563.css",
        body: nothing,
        status: 200,
    },
    Row { method: "GET", path: "/", address: "/", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/ping", address: "/-/ping", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/ready", address: "/-/ready", body: nothing, status: 200 },
    Row { method: "GET", path: "/-/metrics", address: "/-/metrics", body: nothing, status: 200 },
];

/// The kinds of caller, from the one who may least.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Nobody,
    UnknownToken,
    Stranger,
    Owner,
}

fn expected(access: Access, kind: Kind, is_closed: bool, allowed: u16) -> u16 {
    let has_account = matches!(kind, Kind::Stranger | Kind::Owner);
    match access {
        Access::Readers if is_closed && !has_account => 401,
        Access::Accounts | Access::Owners | Access::Administrators if !has_account => 401,
        Access::Owners if kind == Kind::Stranger => 403,
        // Nobody is one here.
        Access::Administrators => 403,
        Access::Anybody | Access::Readers | Access::Accounts | Access::Owners => allowed,
    }
}

/// What the route table says of a row.
fn access_of(row: &Row) -> Access {
    let routes = routes();
    let route = routes.table().iter().find(|route| (route.method, route.path) == (row.method, row.path));
    route.unwrap_or_else(|| panic!("{} {} is no route any more", row.method, row.path)).access
}

#[tokio::test]
async fn every_route_has_a_row() {
    let table: Vec<(&str, &str)> = routes().table().iter().map(|route| (route.method, route.path)).collect();
    let rows: Vec<(&str, &str)> = ROWS.iter().map(|row| (row.method, row.path)).collect();
    for route in &table {
        assert!(rows.contains(route), "{route:?} has no row: say in ROWS who may call it");
    }
    for row in &rows {
        assert!(table.contains(row), "{row:?} is no route any more");
    }
    assert_eq!(rows.len(), table.len());
}

#[tokio::test]
async fn every_route_asks_for_what_its_line_says() {
    let mut mistakes = Vec::new();
    for is_closed in [false, true] {
        let app = if is_closed { TestApp::closed() } else { TestApp::new() };
        let owner = app.user("owner").await;
        app.user("alice").await;
        let callers = [
            (Kind::Nobody, app.anybody()),
            (Kind::UnknownToken, app.anybody().with_token("npm_unknown")),
            (Kind::Stranger, app.user("mallory").await),
            (Kind::Owner, owner.clone()),
        ];
        for (number, row) in ROWS.iter().enumerate() {
            let name = format!("@scope-{number}/thing");
            owner.publish_versions(&name, &["1.0.0"]).await;
            let revision = owner.revision(&name).await;
            let access = access_of(row);
            let address = row.address.replace("PKG", &path_of(&name)[1..]).replace("REV", &revision);
            for (kind, caller) in &callers {
                let before = app.stored();
                let method = Method::from_bytes(row.method.as_bytes()).unwrap();
                let answer = caller.send(method, &address, &[], Body::from((row.body)(&name))).await;
                let (status, expected) = (answer.status.as_u16(), expected(access, *kind, is_closed, row.status));
                if status != expected {
                    mistakes.push(format!(
                        "{} {} of a {} registry: {kind:?} got {status}, not {expected}: {}",
                        row.method,
                        row.path,
                        if is_closed { "closed" } else { "open" },
                        answer.text(),
                    ));
                }
                if [401, 403].contains(&expected) && app.stored() != before {
                    mistakes.push(format!("{} {} changed something for {kind:?}", row.method, row.path));
                }
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[tokio::test]
async fn no_route_falls_over_a_body_that_is_none() {
    let app = TestApp::new();
    let owner = app.user("owner").await;
    owner.publish_versions("@acme/thing", &["1.0.0"]).await;
    let revision = owner.revision("@acme/thing").await;
    let before = app.stored();
    let bodies: [(&str, Vec<u8>); 7] = [
        ("nothing", Vec::new()),
        ("no JSON", b"}{".to_vec()),
        ("no UTF-8", vec![b'"', 0xff, 0xfe, b'"']),
        ("a number", b"1e999".to_vec()),
        ("deep lists", "[".repeat(50_000).into_bytes()),
        ("deep objects", "{\"versions\":".repeat(50_000).into_bytes()),
        ("zeros", vec![0; 1000]),
    ];
    let is_page = |row: &&Row| row.path.starts_with("/-/login") || row.path.starts_with("/-/invite");
    for row in ROWS.iter().filter(|row| ["PUT", "POST"].contains(&row.method) && !is_page(row)) {
        let address = row.address.replace("PKG", "@acme%2fthing").replace("REV", &revision);
        for (what, body) in &bodies {
            let method = Method::from_bytes(row.method.as_bytes()).unwrap();
            let answer = owner.send(method, &address, &[], body.clone()).await;
            let status = answer.status.as_u16();
            // What is refused whatever the body says has its own status.
            assert!(
                [400, 413].contains(&status) || status == row.status && row.status > 400,
                "{} {} with {what}: {status} {}",
                row.method,
                row.path,
                answer.text()
            );
            refused(&answer, status);
        }
    }
    assert_eq!(app.stored(), before);
}

/// The same request for a package that is there, one that is not, and one of the upstream must look the same to somebody
/// who may not ask.
#[tokio::test]
async fn who_may_not_ask_cannot_tell_what_is_here() {
    let upstream = Upstream::with_fixtures();
    for is_closed in [false, true] {
        let app = TestApp::with(|settings| {
            crate::support::app::behind(settings, &upstream, &[]);
            if is_closed {
                settings.access.anonymous_read = Auto::Closed;
            }
        });
        let alice = app.user("alice").await;
        alice.publish_versions("@acme/thing", &["1.0.0"]).await;
        upstream.forget();
        for row in ROWS.iter().filter(|row| row.address.contains("PKG") || row.path == "/-/user/v1/star") {
            if access_of(row) == Access::Readers && !is_closed {
                continue;
            }
            for caller in [app.anybody(), app.anybody().with_token("npm_unknown")] {
                let mut answers = Vec::new();
                for name in ["@acme/thing", "@acme/nothing", "left"] {
                    let answer = ask(&caller, row, name).await;
                    assert_eq!(answer.0, 401, "{} {} for {name}: {}", row.method, row.path, answer.1);
                    answers.push(answer);
                }
                assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
            }
        }
        assert!(upstream.seen().is_empty(), "a stranger had the upstream asked: {:?}", upstream.seen());
        for path in ["/-/user/org.couchdb.user:alice", "/-/user/org.couchdb.user:nobody"] {
            let status = app.anybody().get(path).await.status;
            assert!(!is_closed || status == 401, "{path}: {status}");
        }
    }
}

async fn ask(caller: &Caller, row: &Row, name: &str) -> (u16, String) {
    let address = row.address.replace("PKG", &path_of(name)[1..]).replace("REV", "1-0");
    let method = Method::from_bytes(row.method.as_bytes()).unwrap();
    let answer = caller.send(method, &address, &[], Body::from((row.body)(name))).await;
    (answer.status.as_u16(), answer.json()["error"].to_string())
}

/// The kinds of caller that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruled {
    /// No credentials.
    Nobody,
    Revoked,
    Expired,
    /// A publisher's token, from an address that it is not bound to.
    OtherAddress,
    /// May sign in, and is in no group that a rule names.
    Outsider,
    /// A publisher's token for packages of another name.
    OtherPackages,
    /// May read.
    Reader,
    /// May read and is listed as owner, which the rule does not ask.
    Owner,
    /// A publisher's token that changes nothing.
    ReadOnly,
    /// A CI job that may read.
    ReadingJob,
    /// A CI job that the package trusts.
    TrustedJob,
    Publisher,
    Administrator,
}

impl Ruled {
    const ALL: [Self; 13] = [
        Self::Nobody,
        Self::Revoked,
        Self::Expired,
        Self::OtherAddress,
        Self::Outsider,
        Self::OtherPackages,
        Self::Reader,
        Self::Owner,
        Self::ReadOnly,
        Self::ReadingJob,
        Self::TrustedJob,
        Self::Publisher,
        Self::Administrator,
    ];

    fn is_known(self) -> bool {
        !matches!(self, Self::Nobody | Self::Revoked | Self::Expired | Self::OtherAddress)
    }

    fn is_job(self) -> bool {
        matches!(self, Self::ReadingJob | Self::TrustedJob)
    }

    /// May not know that the package is there.
    fn is_kept_in_the_dark(self) -> bool {
        matches!(self, Self::Outsider | Self::OtherPackages)
    }

    /// The token is weaker than its owner.
    fn is_limited(self) -> bool {
        matches!(self, Self::OtherPackages | Self::ReadOnly)
    }
}

/// What the rules make of a route and a kind of caller. `about_package` where the request names one.
fn expected_by_rules(access: Access, about_package: bool, kind: Ruled, allowed: u16) -> u16 {
    match access {
        Access::Anybody => allowed,
        _ if !kind.is_known() => 401,
        Access::Readers if about_package && kind.is_kept_in_the_dark() => 404,
        Access::Readers | Access::Accounts => allowed,
        Access::Owners if kind.is_kept_in_the_dark() => 404,
        Access::Owners if matches!(kind, Ruled::Publisher | Ruled::Administrator) => allowed,
        Access::Administrators if kind == Ruled::Administrator => allowed,
        Access::Owners | Access::Administrators => 403,
    }
}

/// Where a route asks for something else than its line of the table says.
fn exception(row: &Row, kind: Ruled) -> Option<u16> {
    use Ruled::{Administrator, OtherPackages, Outsider, ReadOnly, TrustedJob};
    let is_star = row.path == "/-/user/v1/star";
    let is_account = ["/-/npm/v1/user", "/-/npm/v1/tokens", "/-/npm/v1/tokens/token/{key}"].contains(&row.path);
    let is_directory = row.method == "GET"
        && ["/-/org/{organization}/user", "/-/org/{organization}/team", "/-/team/{organization}/{team}/user"]
            .contains(&row.path);
    match (row.method, row.path) {
        // There is a sign-in in the browser, as GitHub is set up.
        ("POST", "/-/v1/login" | "/-/v1/login/device") => Some(200),
        _ if !kind.is_known() => None,
        // What a package trusts a job with.
        ("PUT", "/{package}") if kind == TrustedJob => Some(201),
        ("POST", path) if path.starts_with("/-/holdfast/v1/package/") && kind == TrustedJob => Some(row.status),
        (_, path) if path.starts_with("/-/package/{package}/dist-tags") && kind == TrustedJob => Some(row.status),
        // Jobs have no stars, no account, and nobody's groups.
        _ if is_star && kind.is_job() => Some(403),
        _ if (is_account || is_directory) && kind.is_job() => Some(403),
        // A star goes with reading, and is a change.
        ("PUT" | "DELETE", _) if is_star && matches!(kind, Outsider | OtherPackages) => Some(404),
        ("PUT" | "DELETE", _) if is_star && kind == ReadOnly => Some(403),
        // Managing the account.
        ("POST" | "DELETE", _) if is_account && kind.is_limited() => Some(403),
        // Somebody of GitHub's has no password here and confirms in the browser.
        ("POST", "/-/npm/v1/tokens") => Some(401),
        // GitHub shows its teams to members only; the rows ask about a team that is not there.
        ("GET", "/-/org/{organization}/user") => Some(200),
        ("GET", "/-/org/{organization}/team") if !matches!(kind, Outsider | Administrator) => Some(200),
        _ => None,
    }
}

/// Everybody of [`Ruled`], and the trusted job's package by package.
struct Callers {
    company: Company,
    fixed: Vec<(Ruled, Caller)>,
}

impl Callers {
    async fn new(upstream: &Upstream) -> Self {
        let company = Company::with(|settings| {
            crate::support::app::behind(settings, upstream, &[]);
            settings.access.anonymous_read = Auto::Closed;
            settings.access.admins = vec!["github:user/root".parse().unwrap()];
            settings.access.rules = vec![rule(
                "@acme/*",
                &[
                    (Action::Read, &["github:org/acme", "workflow:github/acme/*"]),
                    (Action::Publish, &["github:team/acme/platform"]),
                ],
            )];
        })
        .await;
        let expired = company.limited("pat", json!({ "expires": 1 })).await;
        company.app.clock.advance(std::time::Duration::from_hours(25));
        company.keep_time();
        for name in ["alice", "owner"] {
            company.local(name).await;
        }
        let revoked = company.person("pat").await;
        revoked.delete(&format!("/-/user/token/{}", revoked.token())).await.ok();
        let fixed = vec![
            (Ruled::Nobody, company.app.anybody()),
            (Ruled::Revoked, revoked),
            (Ruled::Expired, expired),
            (Ruled::OtherAddress, company.limited("pat", json!({ "cidr_whitelist": ["10.9.0.0/16"] })).await),
            (Ruled::Outsider, company.person("eve").await),
            (Ruled::OtherPackages, company.limited("pat", json!({ "name": "x", "packages": ["@acme/other"] })).await),
            (Ruled::Reader, company.person("ann").await),
            (Ruled::Owner, company.person("olga").await),
            (Ruled::ReadOnly, company.limited("pat", json!({ "readonly": true })).await),
            (Ruled::ReadingJob, company.job("acme/site", None).await),
            (Ruled::Publisher, company.person("pat").await),
            (Ruled::Administrator, company.person("root").await),
        ];
        Self { company, fixed }
    }

    fn caller(&self, kind: Ruled) -> &Caller {
        &self.fixed.iter().find(|(known, _)| *known == kind).unwrap().1
    }

    /// A package that olga owns beside its publisher, and that trusts a workflow of `acme/ci`.
    async fn publish(&self, name: &str) {
        let publisher = self.caller(Ruled::Publisher);
        publisher.publish_versions(name, &["1.0.0"]).await;
        let path = path_of(name);
        publisher.put(&format!("/-/package{path}/owners"), &json!({ "user": "olga" })).await.ok();
        publisher.post(&format!("/-/package{path}/trust"), &trusted("acme/ci")).await.ok();
        // At the first time the repository's number is noted.
        self.company.job("acme/ci", Some(name)).await;
    }

    /// What is wrong with the answer to somebody's request about a package of [`Self::publish`].
    async fn mistake(&self, row: &Row, kind: Ruled, name: &str, expected: u16) -> Option<String> {
        let is_about_one = row.address.contains("PKG") || row.path == "/-/user/v1/star";
        let caller = match kind {
            Ruled::TrustedJob if is_about_one => self.company.job("acme/ci", Some(name)).await,
            Ruled::TrustedJob => self.company.job("acme/ci", None).await,
            _ => self.caller(kind).clone(),
        };
        let revision = if is_about_one { self.caller(Ruled::Publisher).revision(name).await } else { String::new() };
        let method = Method::from_bytes(row.method.as_bytes()).unwrap();
        let address = address_for(row, name, &revision);
        let answer = caller.send(method, &address, &[], Body::from((row.body)(name))).await;
        let status = answer.status.as_u16();
        let is_asked_who = status == 401 && access_of(row) != Access::Anybody;
        let is_told = !is_asked_who || kind != Ruled::OtherAddress || answer.header("www-authenticate") == "ipaddress";
        (status != expected || !is_told).then(|| {
            format!("{} {} {kind:?}: {status} in place of {expected}: {}", row.method, row.path, answer.text())
        })
    }

    /// What is kept, without what sign-ins in the browser and GitHub's answers leave behind.
    fn stored(&self) -> std::collections::BTreeMap<String, Vec<u8>> {
        let mut stored = self.company.app.stored();
        stored.retain(|path, _| !path.starts_with("-/logins/") && !path.starts_with("-/github/"));
        stored
    }
}

/// The row's address for a package.
fn address_for(row: &Row, name: &str, revision: &str) -> String {
    let file = name.rsplit('/').next().unwrap();
    let address = row.address.replace("PKG", &path_of(name)[1..]).replace("REV", revision);
    address.replace("/-/thing-", &format!("/-/{file}-"))
}

/// Every line of the route table, for everybody whom rules tell apart.
#[tokio::test]
async fn every_route_is_decided_by_the_rules_for_every_kind_of_caller() {
    let upstream = Upstream::with_fixtures();
    let callers = Callers::new(&upstream).await;
    let mut mistakes = Vec::new();
    for (number, row) in ROWS.iter().enumerate() {
        let access = access_of(row);
        let about_package = row.address.contains("PKG");
        let is_about_one = about_package || row.path == "/-/user/v1/star";
        let shared = format!("@acme/thing{number}");
        if is_about_one {
            callers.publish(&shared).await;
        }
        let expected =
            |kind| exception(row, kind).unwrap_or_else(|| expected_by_rules(access, about_package, kind, row.status));
        // First those who are refused, so that one look tells whether any of them has changed something.
        let (refused_kinds, others): (Vec<Ruled>, Vec<Ruled>) =
            Ruled::ALL.into_iter().partition(|kind| expected(*kind) >= 400);
        let (before, asked) = (callers.stored(), upstream.seen().len());
        for kind in &refused_kinds {
            mistakes.extend(callers.mistake(row, *kind, &shared, expected(*kind)).await);
        }
        if callers.stored() != before {
            mistakes.push(format!("{} {}: one of {refused_kinds:?} changed something", row.method, row.path));
        }
        if upstream.seen().len() != asked {
            mistakes.push(format!("{} {}: one of {refused_kinds:?} asked upstream", row.method, row.path));
        }
        for kind in others {
            // Who may change a package gets one of their own, so that the next finds theirs as it was.
            let own = format!("{shared}{kind:?}").to_lowercase();
            let is_change = row.method != "GET" && about_package && access == Access::Owners;
            if is_change {
                callers.publish(&own).await;
            }
            let name = if is_change { &own } else { &shared };
            mistakes.extend(callers.mistake(row, kind, name, expected(kind)).await);
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// Who may not know of a package is answered as for one that is not there, by every route that names one.
#[tokio::test]
async fn who_may_not_know_of_a_package_cannot_tell_it_from_none() {
    let upstream = Upstream::with_fixtures();
    let callers = Callers::new(&upstream).await;
    callers.publish("@acme/thing").await;
    // What a route says of a package that no rule speaks of and nobody has. Changes are left out: they would be made.
    let absent = "@nobody/nothing";
    upstream.forget();
    let before = callers.stored();
    for row in ROWS.iter().filter(|row| row.address.contains("PKG") && access_of(row) != Access::Anybody) {
        // The same for all accounts, whatever the package.
        if row.path == "/-/package/{package}/access" && row.method != "GET" {
            continue;
        }
        for kind in Ruled::ALL.into_iter().filter(|kind| kind.is_kept_in_the_dark()) {
            let ask = async |name: &str| {
                let method = Method::from_bytes(row.method.as_bytes()).unwrap();
                let address = address_for(row, name, "1-0");
                let answer = callers.caller(kind).send(method, &address, &[], Body::from((row.body)(name))).await;
                refused(&answer, 404);
                let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
                names.sort();
                (without_names(&answer.json(), &["@acme/thing", "@acme/nothing", absent]), names)
            };
            let there = ask("@acme/thing").await;
            assert_eq!(there, ask("@acme/nothing").await, "{} {} {kind:?}", row.method, row.path);
            assert!(upstream.seen().is_empty(), "{} {}: {:?}", row.method, row.path, upstream.seen());
            if access_of(row) == Access::Readers && kind == Ruled::Outsider {
                // Here the sentence may be another, since upstreams were asked.
                let (body, headers) = ask(absent).await;
                let shape = |body: &serde_json::Value| {
                    (body["code"].clone(), body.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
                };
                assert_eq!((shape(&there.0), &there.1), (shape(&body), &headers), "{} {}", row.method, row.path);
                upstream.forget();
            }
        }
    }
    assert_eq!(callers.stored(), before);
}
