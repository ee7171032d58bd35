//! Publishing by a link to the bucket: what the registry gives out and takes, and `holdfast publish` as somebody types it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdfast::auth::{Action, Rule};
use holdfast::registry::Redirect;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, path_of, refused};
use crate::support::chaos::Chaos;
use crate::support::ci::{Runner, trust_path, trusting};
use crate::support::http::{Answer, Http, document_of_upload};
use crate::support::issuer::{Issuer, github_claims};
use crate::support::lambda::{FrontEnd, Lambda};
use crate::support::object_server::{Fault, Gate, Misbehaviour, ObjectServer, Operation};
use crate::support::server::{Server, Settings, program};
use crate::support::signing::provenance;
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Upstream, noise};

const PASSWORD: &str = "correct horse battery";

/// An upload that was begun.
struct Begun {
    url: String,
    commit: String,
}

impl Begun {
    /// Sends bytes by the link, as anybody could.
    async fn send(&self, bytes: Vec<u8>) -> StatusCode {
        let request = reqwest::Client::new().put(&self.url).header("content-length", bytes.len());
        request.body(bytes).send().await.unwrap().status()
    }
}

async fn ask(caller: &Caller, name: &str, version: &str, length: usize) -> Answer {
    let address = format!("/-/holdfast/v1/package{}/uploads", path_of(name));
    caller.post(&address, &json!({ "version": version, "length": length })).await
}

async fn begin(caller: &Caller, name: &str, version: &str) -> Begun {
    let place = ask(caller, name, version, 1000).await.ok().json();
    assert_eq!((&place["method"], &place["headers"]), (&json!("PUT"), &json!({})));
    let id = place["id"].as_str().unwrap();
    let commit = format!("/-/holdfast/v1/package{}/uploads/{id}/commit", path_of(name));
    Begun { url: place["url"].as_str().unwrap().to_owned(), commit }
}

#[track_caller]
fn refused_as(answer: &Answer, status: u16, code: &str) -> String {
    let sentence = refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{sentence}");
    sentence
}

/// What lies in the bucket that a reader of packages could come across.
fn packages(server: &ObjectServer) -> Vec<String> {
    let is_of_package = |key: &String| key.ends_with("/index.json") || key.contains("-/tarballs/");
    server.snapshot().into_keys().filter(is_of_package).collect()
}

#[tokio::test]
async fn what_was_uploaded_is_published_as_any_other() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    let tarball = Tarball::new("@acme/tool", "1.0.0").file("noise", noise(100_000));
    let begun = begin(&alice, "@acme/tool", "1.0.0").await;
    assert_eq!(begun.send(tarball.bytes()).await, 200);
    let document = document_of_upload(&tarball, "latest");
    assert!(packages(&server).is_empty(), "an upload is no package");
    assert_eq!(alice.post(&begun.commit, &document).await.status, 201);

    // Nothing is left of the upload.
    let left: Vec<String> = server.snapshot().into_keys().filter(|key| key.contains("upload")).collect();
    assert!(left.is_empty(), "{left:?}");
    // Another way gives the same document, dates and revisions aside.
    let by_request = TestApp::new();
    by_request.user("alice").await.publish(&tarball).await.ok();
    let told = async |app: &TestApp| app.anybody().get("/@acme%2ftool/1.0.0").await.ok().json();
    assert_eq!(told(&app).await, told(&by_request).await);
    let elsewhere = app.anybody().get("/@acme%2ftool/-/tool-1.0.0.tgz").await;
    assert_eq!(elsewhere.status, 302);
    let got = reqwest::get(elsewhere.header("location")).await.unwrap().bytes().await.unwrap();
    assert!(got == tarball.bytes());

    // Whose answer was lost asks again, and is told as after any publish.
    refused_as(&alice.post(&begun.commit, &document).await, 403, "version_exists");
    refused_as(&ask(&alice, "@acme/tool", "1.0.0", 1).await, 403, "version_exists");
}

#[tokio::test]
async fn only_what_the_document_describes_is_published() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |settings| settings.limits.body.max_tarball_bytes = 50_000);
    let alice = app.user("alice").await;
    let tarball = Tarball::new("tool", "1.0.0");
    let document = document_of_upload(&tarball, "latest");
    let begun = begin(&alice, "tool", "1.0.0").await;
    // Nothing came yet.
    refused_as(&alice.post(&begun.commit, &document).await, 404, "no_upload");
    // Replaced by somebody who has the link; cut off; no tarball at all; larger than the registry takes.
    let bytes = tarball.bytes();
    for (sent, status, code) in [
        (Tarball::new("tool", "1.0.0").file("more.js", "evil()").bytes(), 400, "bad_document"),
        (bytes[..bytes.len() - 10].to_vec(), 422, "bad_tarball"),
        (b"no tarball".to_vec(), 422, "bad_tarball"),
        (Vec::new(), 422, "bad_tarball"),
        (noise(60_000), 413, "too_large"),
    ] {
        assert_eq!(begun.send(sent).await, 200);
        refused_as(&alice.post(&begun.commit, &document).await, status, code);
    }
    refused_as(&ask(&alice, "tool", "1.0.0", 60_000).await, 413, "too_large");
    assert_eq!(begun.send(bytes.clone()).await, 200);
    // The document is checked as in any publish.
    for (change, status) in [("length", 400), ("data", 400), ("integrity", 400), ("version", 400), ("bin", 422)] {
        let mut document = document.clone();
        let key = "tool-1.0.0.tgz";
        match change {
            "length" => document["_attachments"][key]["length"] = json!(1),
            "data" => document["_attachments"][key]["data"] = json!("AAAA"),
            "integrity" => document["versions"]["1.0.0"]["dist"]["integrity"] = json!("sha512-AAAA"),
            "version" => document["versions"]["1.0.0"]["version"] = json!("1.0.1"),
            _ => document["versions"]["1.0.0"]["bin"] = json!({ "x": "x.js" }),
        }
        let answer = alice.post(&begun.commit, &document).await;
        assert_eq!(answer.status, status, "{change}: {}", answer.text());
    }
    let mut none = document.clone();
    none["_attachments"] = json!({});
    refused_as(&alice.post(&begun.commit, &none).await, 400, "bad_document");
    assert!(packages(&server).is_empty(), "{:?}", packages(&server));
    alice.post(&begun.commit, &document).await.ok();
}

#[tokio::test]
async fn what_is_sent_after_the_commit_has_read_it_changes_nothing() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    let tarball = Tarball::new("tool", "1.0.0");
    let begun = begin(&alice, "tool", "1.0.0").await;
    begun.send(tarball.bytes()).await;
    // The tarball is read, and waits to get its key.
    let gate = Gate::closed();
    let is_kept = |operation: Operation, key: &str| operation.is_write() && key.contains("-/tarballs/");
    server.misbehave(Fault::new(Misbehaviour::Hold(gate.clone())).when(is_kept));
    let (caller, commit) = (alice.clone(), begun.commit.clone());
    let document = document_of_upload(&tarball, "latest");
    let committing = tokio::spawn(async move { caller.post(&commit, &document).await });
    server.wait_for(|calls| calls.iter().any(|call| call.key.contains("-/tarballs/"))).await;
    assert_eq!(begun.send(noise(5000)).await, 200);
    gate.open();
    assert_eq!(committing.await.unwrap().status, 201);
    let kept = server.snapshot().into_iter().find(|(key, _)| key.contains("-/tarballs/")).unwrap().1;
    assert!(kept.bytes == tarball.bytes());
}

#[tokio::test]
async fn an_upload_belongs_to_who_began_it_and_to_its_package() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |_| {});
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let tarball = Tarball::new("tool", "1.0.0");
    let begun = begin(&alice, "tool", "1.0.0").await;
    begun.send(tarball.bytes()).await;
    refused_as(&bob.post(&begun.commit, &document_of_upload(&tarball, "latest")).await, 404, "no_upload");
    // Of another package, which she might publish too.
    let other = document_of_upload(&Tarball::new("other", "1.0.0"), "latest");
    refused_as(&alice.post(&begun.commit.replace("/tool/", "/other/"), &other).await, 404, "no_upload");
    for id in ["..", "0123456789abcdef0123456789abcdef", "%2e%2e%2fusers", "ü", &"a".repeat(5000)] {
        let commit = format!("/-/holdfast/v1/package/tool/uploads/{}/commit", id.replace('ü', "%C3%BC"));
        let answer = alice.post(&commit, &document_of_upload(&tarball, "latest")).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{id}: {}", answer.text());
    }
    // The link ends before the upload does.
    server.move_clock(Duration::from_mins(16));
    assert_eq!(begun.send(tarball.bytes()).await, 403);
    app.clock.advance(Duration::from_hours(5));
    alice.post(&begun.commit, &document_of_upload(&tarball, "latest")).await.ok();
    let late = begin(&alice, "tool", "1.0.1").await;
    let tarball = Tarball::new("tool", "1.0.1");
    app.clock.advance(Duration::from_hours(7));
    refused_as(&alice.post(&late.commit, &document_of_upload(&tarball, "latest")).await, 404, "no_upload");
    // What has ended is swept, and nothing else.
    assert_eq!(app.app.registry.auth().sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn no_link_is_given_to_whom_a_publish_is_refused() {
    let upstream = Upstream::with_fixtures();
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |settings| {
        crate::support::app::behind(settings, &upstream, &["@acme/*"]);
        let mut rule = Rule::new("@acme/secret".parse().unwrap());
        rule.principals.insert(Action::Read, vec!["user:alice".parse().unwrap()]);
        settings.access.rules = vec![rule];
    });
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    alice.publish_versions("@acme/tool", &["1.0.0"]).await;
    let limits = json!({ "password": crate::support::app::PASSWORD, "readonly": true, "cidr_whitelist": [] });
    let token = alice.post("/-/npm/v1/tokens", &limits).await.ok().json();
    let reader = app.anybody().with_token(token["token"].as_str().unwrap());
    refused_as(&ask(&app.anybody(), "@acme/tool", "2.0.0", 1).await, 401, "sign_in_first");
    refused_as(&ask(&bob, "@acme/tool", "2.0.0", 1).await, 403, "not_an_owner");
    refused_as(&ask(&reader, "@acme/tool", "2.0.0", 1).await, 403, "read_only_token");
    refused_as(&ask(&bob, "@acme/secret", "1.0.0", 1).await, 404, "package_not_found");
    refused_as(&ask(&alice, "@acme/tool", "1.0.0", 1).await, 403, "version_exists");
    refused_as(&ask(&alice, "@acme/tool", "one", 1).await, 400, "bad_version");
    refused_as(&ask(&alice, "left", "9.0.0", 1).await, 403, "name_taken");
    assert!(!server.snapshot().keys().any(|key| key.contains("upload")), "{:?}", server.snapshot().keys());
    // And who gets one and loses the right meanwhile publishes nothing.
    let begun = begin(&alice, "@acme/tool", "2.0.0").await;
    let tarball = Tarball::new("@acme/tool", "2.0.0");
    begun.send(tarball.bytes()).await;
    alice.put("/-/package/@acme%2ftool/owners", &json!({ "user": "bob" })).await.ok();
    bob.delete("/-/package/@acme%2ftool/owners/alice").await.ok();
    refused_as(&alice.post(&begun.commit, &document_of_upload(&tarball, "latest")).await, 403, "not_an_owner");
}

#[tokio::test]
async fn links_are_given_where_clients_are_sent_to_a_bucket() {
    let directory = TestApp::new();
    refused_as(&ask(&directory.user("alice").await, "tool", "1.0.0", 1).await, 404, "no_upload_links");
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |settings| settings.redirect = Some(Redirect::Never));
    refused_as(&ask(&app.user("alice").await, "tool", "1.0.0", 1).await, 404, "no_upload_links");
}

#[tokio::test]
async fn a_commit_whose_bucket_is_in_trouble_is_asked_again() {
    let server = ObjectServer::start("bucket");
    let app = TestApp::on_bucket(&server, |_| {});
    let alice = app.user("alice").await;
    let tarball = Tarball::new("tool", "1.0.0").file("noise", noise(3_000_000));
    let begun = begin(&alice, "tool", "1.0.0").await;
    begun.send(tarball.bytes()).await;
    let is_upload = |operation: Operation, key: &str| operation == Operation::Get && key.contains("-/uploads/");
    let document = document_of_upload(&tarball, "latest");
    server.misbehave(Fault::new(Misbehaviour::Refuse(503)).when(is_upload));
    refused_as(&alice.post(&begun.commit, &document).await, 503, "storage_unavailable");
    server.behave();
    assert!(packages(&server).is_empty());
    // A body that breaks off is taken up where it ended.
    server.misbehave(Fault::new(Misbehaviour::CutBodyAfter(1_000_000)).when(is_upload).times(1));
    assert_eq!(alice.post(&begun.commit, &document).await.status, 201);
}

// The command.

/// What a command says: its exit code, stdout, stderr.
type Said = (i32, String, String);

/// A folder of somebody who publishes, with a home of its own.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where npm would look for the token.
    fn signed_in(self, url: &str, token: &str) -> Self {
        let key = url.split_once(':').unwrap().1;
        std::fs::write(self.path().join(".npmrc"), format!("registry={url}\n{key}:_authToken={token}\n")).unwrap();
        self
    }

    fn tarball(&self, tarball: &Tarball) -> PathBuf {
        let file = self.path().join("package.tgz");
        std::fs::write(&file, tarball.bytes()).unwrap();
        file
    }

    async fn publish(&self, arguments: &[&str]) -> Said {
        self.publish_in_job(arguments, &[]).await
    }

    async fn publish_in_job(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let mut command = Command::new(program());
        command.arg("publish").args(arguments).current_dir(self.path()).env_clear().env("HOME", self.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).envs(environment.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

/// Settings for a bucket of the object server.
fn bucket_variables(server: &ObjectServer) -> Vec<(String, String)> {
    [
        ("STORAGE__URL", "s3://bucket/npm"),
        ("STORAGE__ENDPOINT", server.url()),
        ("STORAGE__REGION", "us-east-1"),
        ("STORAGE__ACCESS_KEY_ID", "test"),
        ("STORAGE__SECRET_ACCESS_KEY", "test"),
        ("TARBALLS__REDIRECT", "always"),
        ("ACCESS__REGISTRATION", "open"),
        ("PACKAGES__PROXY", "false"),
    ]
    .map(|(name, value)| (format!("HOLDFAST__{name}"), value.to_owned()))
    .to_vec()
}

/// The bytes that a client gets, wherever they are.
async fn downloaded(http: &Http, path: &str) -> Vec<u8> {
    let answer = http.get(path).await;
    if answer.status != 302 {
        return answer.ok().body;
    }
    reqwest::get(answer.header("location")).await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn a_package_of_thirty_megabytes_is_published_through_lambda() {
    let server = ObjectServer::start("bucket");
    let variables = bucket_variables(&server);
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let lambda = Lambda::start(FrontEnd::FunctionUrl, &variables).await;
    let token = lambda.create_user("alice", PASSWORD).await;
    let desk = Desk::new().signed_in(&lambda.url(), &token);
    let tarball = Tarball::new("@acme/large", "1.0.0").file("README.md", "# Large\n").file("noise", noise(30 << 20));
    desk.tarball(&tarball);
    // Lambda itself does not carry it.
    let http = lambda.http().with_token(&token);
    assert_eq!(http.publish(&tarball).await.status, 413);
    let (code, said, told) = desk.publish(&["package.tgz", "--access", "restricted"]).await;
    assert_eq!(code, 0, "{told}\n--- the function\n{}", lambda.log().tail(40));
    assert_eq!(said.trim(), "+ @acme/large@1.0.0");
    assert!(downloaded(&http, "/@acme%2flarge/-/large-1.0.0.tgz").await == tarball.bytes());
    let document = http.get("/@acme%2flarge").await.ok().json();
    assert_eq!(document["readme"], "# Large\n");
    assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0" }));
    // What proves who she is was not shown to the bucket.
    let calls = server.calls();
    let upload = calls.iter().find(|call| call.key.contains("npm/-/uploads/") && call.body_length > 0).unwrap();
    assert!(upload.is_presigned && upload.headers.get("authorization").is_none(), "{:?}", upload.headers);
    let left: Vec<String> = server.snapshot().into_keys().filter(|key| key.contains("upload")).collect();
    assert!(left.is_empty(), "{left:?}");
    // A second time the number is taken.
    let (code, _, told) = desk.publish(&["package.tgz"]).await;
    assert!(code == 1 && told.contains("previously published versions: 1.0.0"), "{told}");
    assert!(told.contains("request id"), "{told}");
}

async fn on_bucket(server: &ObjectServer) -> Server {
    bucket_variables(server)
        .iter()
        .fold(Settings::alone(), |settings, (name, value)| settings.env(name, value))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_begun_anew_and_leaves_nothing_when_it_fails() {
    let objects = ObjectServer::start("bucket");
    let server = on_bucket(&objects).await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let desk = Desk::new().signed_in(&server.url(), &token);
    let tarball = Tarball::new("tool", "1.0.0").file("noise", noise(1_000_000));
    desk.tarball(&tarball);
    let is_upload = |operation: Operation, key: &str| operation == Operation::Put && key.contains("-/uploads/");
    objects.misbehave(Fault::new(Misbehaviour::Refuse(403)).when(is_upload));
    let (code, _, told) = desk.publish(&["package.tgz"]).await;
    assert!(code == 1 && told.contains("refused the upload with status 403"), "{told}");
    assert!(!told.contains("X-Amz-Signature"), "{told}");
    assert_eq!(server.http().get("/tool").await.status, 404);
    objects.behave();
    for misbehaviour in [Misbehaviour::Refuse(503), Misbehaviour::HangUp] {
        objects.misbehave(Fault::new(misbehaviour).when(is_upload).times(1));
    }
    let (code, _, told) = desk.publish(&["package.tgz", "--json"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(downloaded(&server.http(), "/tool/-/tool-1.0.0.tgz").await == tarball.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found_done() {
    let objects = ObjectServer::start("bucket");
    let server = on_bucket(&objects).await;
    let network = Chaos::before(server.origin()).await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let desk = Desk::new();
    let tarball = Tarball::new("tool", "1.0.0");
    desk.tarball(&tarball);
    // The connection is cut while the tarball gets its key.
    let gate = Gate::closed();
    let is_kept = |operation: Operation, key: &str| operation.is_write() && key.contains("-/tarballs/");
    objects.misbehave(Fault::new(Misbehaviour::Hold(gate.clone())).when(is_kept));
    let cut = async {
        objects.wait_for(|calls| calls.iter().any(|call| call.key.contains("-/tarballs/"))).await;
        network.cut_all();
        gate.open();
    };
    let (url, environment) = (network.url(), [("HOLDFAST_TOKEN", token.as_str())]);
    let publish = ["package.tgz", "--registry", url.as_str()];
    let ((code, _, told), ()) = tokio::join!(desk.publish_in_job(&publish, &environment), cut);
    assert_eq!(code, 0, "{told}");
    assert!(downloaded(&server.http(), "/tool/-/tool-1.0.0.tgz").await == tarball.bytes());
    // What is there with other bytes is somebody else's.
    desk.tarball(&tarball.file("more.js", ""));
    let (code, _, told) = desk.publish_in_job(&publish, &environment).await;
    assert!(code == 1 && told.contains("previously published versions"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_on_a_directory_gets_the_tarball_in_the_request() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let desk = Desk::new().signed_in(&server.url(), &token);
    // Of a length that base64 has to pad.
    for (version, length) in [("1.0.0", 3_000_000), ("1.0.1", 3_000_001), ("1.0.2", 3_000_002)] {
        let tarball = Tarball::new("@acme/tool", version).file("noise", noise(length));
        desk.tarball(&tarball);
        let (code, said, told) = desk.publish(&["package.tgz", "--json"]).await;
        assert_eq!(code, 0, "{told}");
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&report["sent_by"], &report["version"]), (&json!("request"), &json!(version)));
        let path = format!("/@acme%2ftool/-/tool-{version}.tgz");
        assert!(downloaded(&server.http(), &path).await == tarball.bytes());
    }
}

/// Both ways of a tarball.
#[tokio::test(flavor = "multi_thread")]
async fn provenance_goes_along_and_is_checked() {
    let objects = ObjectServer::start("bucket");
    for server in [Settings::alone().start().await, on_bucket(&objects).await] {
        let token = server.http().create_user("alice", PASSWORD).await;
        let desk = Desk::new().signed_in(&server.url(), &token);
        let tarball = Tarball::new("@acme/tool", "1.0.0");
        desk.tarball(&tarball);
        let bundle = desk.path().join("bundle.json");
        let publish = ["package.tgz", "--provenance-file", "bundle.json"];
        std::fs::write(&bundle, provenance("@acme/tool", "1.0.0", b"other bytes").to_string()).unwrap();
        let (code, _, told) = desk.publish(&publish).await;
        assert!(code == 1 && told.contains("provenance"), "{told}");
        let sent = provenance("@acme/tool", "1.0.0", &tarball.bytes());
        std::fs::write(&bundle, sent.to_string()).unwrap();
        let (code, _, told) = desk.publish(&publish).await;
        assert_eq!(code, 0, "{told}");
        let found = server.http().get("/-/npm/v1/attestations/@acme%2ftool@1.0.0").await.ok().json();
        assert_eq!(found["attestations"][0]["bundle"], sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_packed_as_npm_does() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let desk = Desk::new().signed_in(&server.url(), &token);
    if crate::support::clients::is_missing(&["npm-11"]) {
        return;
    }
    let folder = desk.path().join("tool");
    std::fs::create_dir(&folder).unwrap();
    let script = |name: &str| format!("node -e \"console.log('ran'); require('fs').writeFileSync('{name}.js', '')\"");
    let manifest = json!({
        "name": "tool", "version": "2.0.0-beta.1", "files": ["*.js"], "publishConfig": { "tag": "beta" },
        "scripts": { "prepack": script("packed"), "prepublishOnly": script("published") },
    });
    std::fs::write(folder.join("package.json"), manifest.to_string()).unwrap();
    std::fs::write(folder.join("index.js"), "").unwrap();
    std::fs::write(folder.join("secret.txt"), "").unwrap();
    let (code, said, told) = desk.publish(&["tool", "--dry-run"]).await;
    assert!(code == 0 && said.contains("tool@2.0.0-beta.1 would be published to"), "{said}{told}");
    assert_eq!(server.http().get("/tool").await.status, 404);
    let (code, said, told) = desk.publish(&["tool", "--json"]).await;
    assert_eq!(code, 0, "{told}");
    // What scripts print is not among the data.
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["tag"], &report["files"]), (&json!("beta"), &json!(4)));
    let document = server.http().get("/tool").await.ok().json();
    assert_eq!(document["dist-tags"]["beta"], "2.0.0-beta.1");
    std::fs::write(
        folder.join("package.json"),
        manifest.to_string().replace("prepack", "noPack").replace("node", "exit 1;"),
    )
    .unwrap();
    let (code, _, told) = desk.publish(&["tool"]).await;
    assert!(code == 1 && told.contains("`npm run` failed"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_said_before_anything_is_sent() {
    let desk = Desk::new();
    let nowhere = ["package.tgz", "--registry", "http://127.0.0.1:1/"];
    for (tarball, more, part) in [
        (Tarball::new("tool", "1.0.0").set("private", json!(true)), &[][..], "\"private\": true"),
        (Tarball::new("tool", "1.0.0-rc.1"), &[], "name its tag with `--tag`"),
        (Tarball::new("tool", "one"), &[], "no good `version`"),
        (Tarball::new("../tool", "1.0.0"), &[], "no good `name`"),
        (Tarball::new("tool", "1.0.0"), &["--tag", "1.0"], "must not look like a version"),
        (Tarball::new("tool", "1.0.0"), &["--access", "all"], "restricted"),
        (Tarball::new("tool", "1.0.0"), &[], "127.0.0.1:1/ cannot be reached"),
    ] {
        desk.tarball(&tarball);
        let (code, said, told) = desk.publish(&[&nowhere[..], more].concat()).await;
        assert!(code != 0 && told.contains(part) && said.is_empty(), "{part}: {told}");
    }
    std::fs::write(desk.path().join("package.tgz"), "no tarball").unwrap();
    let (code, _, told) = desk.publish(&nowhere).await;
    assert!(code == 1 && told.contains("is not compressed with gzip"), "{told}");
    let (code, _, told) = desk.publish(&["missing.tgz"]).await;
    assert!(code == 1 && told.contains("`missing.tgz` cannot be read"), "{told}");
}

/// A package may name its registry, and gets no token by that which is not meant for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_any_registry_does_not_go_to_one_that_a_package_names() {
    let server = Settings::alone().start().await;
    let token = server.http().create_user("alice", PASSWORD).await;
    let desk = Desk::new();
    let config = json!({ "registry": server.url() });
    desk.tarball(&Tarball::new("tool", "1.0.0").set("publishConfig", config));
    let environment = [("HOLDFAST_TOKEN", token.as_str()), ("NODE_AUTH_TOKEN", token.as_str())];
    let (code, _, told) = desk.publish_in_job(&["package.tgz"], &environment).await;
    assert!(code == 1 && told.contains("needs an account"), "{told}");
    let url = server.url();
    for variable in ["HOLDFAST_TOKEN", "NODE_AUTH_TOKEN"] {
        desk.tarball(&Tarball::new("tool", if variable == "HOLDFAST_TOKEN" { "1.0.0" } else { "1.0.1" }));
        let environment = [(variable, token.as_str())];
        let (code, _, told) = desk.publish_in_job(&["package.tgz", "--registry", &url], &environment).await;
        assert_eq!(code, 0, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_trusted_publishes_without_a_secret() {
    let (objects, issuer) = (ObjectServer::start("bucket"), Issuer::start().await);
    let config = format!("[issuers.github]\nurl = \"{}\"\n", issuer.url());
    let settings =
        bucket_variables(&objects).iter().fold(Settings::alone(), |settings, (name, value)| settings.env(name, value));
    let server = settings.config(&config).start().await;
    let http = server.http();
    let alice = http.with_token(&http.create_user("alice", PASSWORD).await);
    let trust = json!([trusting(&json!({}))]).to_string().into_bytes();
    let json_body = [("content-type", "application/json")];
    alice.send(reqwest::Method::POST, &trust_path("@acme/tool"), &json_body, trust).await.ok();
    let desk = Desk::new();
    desk.tarball(&Tarball::new("@acme/tool", "1.0.0"));
    let url = server.url();
    let publish = ["package.tgz", "--registry", url.as_str()];
    let stranger = Runner::start(&issuer, &github_claims("acme/other", "release.yml"));
    let (code, _, told) = desk.publish_in_job(&publish, &stranger.environment()).await;
    assert!(code == 1 && told.contains("OIDC token exchange error"), "{told}");
    let runner = Runner::start(&issuer, &github_claims("acme/tool", "release.yml"));
    // What setup-node leaves in place of a token is none.
    let none = ("NODE_AUTH_TOKEN", "XXXXX-XXXXX-XXXXX-XXXXX");
    let environment = [&runner.environment()[..], &[none]].concat();
    let (code, said, told) = desk.publish_in_job(&publish, &environment).await;
    assert!(code == 0 && said.trim() == "+ @acme/tool@1.0.0", "{told}");
    let version = http.get("/@acme%2ftool/1.0.0").await.ok().json();
    assert_eq!(version["_npmUser"]["trustedPublisher"]["id"], "github", "{version}");
}
