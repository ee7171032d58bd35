//! Secrets are sent through every flow of a server that logs all that our modules have to say. Afterwards none is found in
//! the log, in traces, in what refusals tell, or in the store: there are only hashes, and what is sealed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast::clock::Clock;
use holdfast::operator::{Order, Outcome};
use holdfast::serve::control;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::authenticator::Authenticator;
use crate::support::bucket::CREDENTIALS;
use crate::support::ci::exchange_path;
use crate::support::collector::Collector;
use crate::support::github::{GitHub, Mode};
use crate::support::http::{Answer, Http, document_of_upload, publish_document};
use crate::support::in_process::files_below;
use crate::support::issuer::{Issuer, github_claims};
use crate::support::object_server::{Fault as BucketFault, Misbehaviour, ObjectServer};
use crate::support::receiver::{Mood, Receiver};
use crate::support::server::{Server, Settings};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Upstream};

const PASSWORD: &str = "canary-password-horse";

/// Somebody who sends requests, and remembers every secret in them and everything that refusals say.
struct Witness {
    http: Http,
    origin: String,
    secrets: Vec<String>,
    /// What the store has to have as it is: by the secret of a second factor its codes are checked.
    stored: Vec<String>,
    refusals: Vec<String>,
}

impl Witness {
    fn of(server: &Server) -> Self {
        let origin = server.url().trim_end_matches('/').to_owned();
        Self { http: server.http(), origin, secrets: Vec::new(), stored: Vec::new(), refusals: Vec::new() }
    }

    /// A secret that must be found nowhere.
    fn keeps(&mut self, secret: impl Into<String>) -> String {
        let secret = secret.into();
        assert!(secret.len() >= 8, "`{secret}` could be found by chance");
        self.secrets.push(secret.clone());
        secret
    }

    /// One of a server's answers.
    fn keeps_of(&mut self, answer: &Answer, pointer: &str) -> String {
        let json = answer.json();
        let secret = json.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {json}"));
        self.keeps(secret)
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        let answer = self.http.send(method, path, headers, body.into()).await;
        // A form that is shown again has the address that it was sent to in it.
        let is_form = answer.text().contains("<form");
        if (answer.status.is_client_error() || answer.status.is_server_error()) && !is_form {
            self.refusals.push(format!("{:?} {}", answer.headers, answer.text()));
        }
        answer
    }

    async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    async fn json(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(method, path, headers, body.to_string()).await
    }

    async fn sign_in(&mut self, name: &str, password: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/-/user/org.couchdb.user:{name}");
        self.json(Method::PUT, &path, headers, &json!({ "name": name, "password": password })).await
    }

    /// The path and query of an address of the server's.
    fn path_of(&self, url: &str) -> String {
        url.strip_prefix(&self.origin).unwrap_or_else(|| panic!("{url} is not below {}", self.origin)).to_owned()
    }

    /// Fails where a secret is found in a text, as it is or in base64.
    #[track_caller]
    fn finds_nothing_in(&self, what: &str, content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        for secret in &self.secrets {
            let coded = STANDARD.encode(secret);
            for form in [secret.as_str(), coded.trim_end_matches('=')] {
                let Some(at) = text.find(form) else { continue };
                let lines: Vec<&str> = text.lines().filter(|line| line.contains(form)).take(3).collect();
                panic!("`{form}` is in {what}, at {at}:\n{}", lines.join("\n"));
            }
        }
    }

    #[track_caller]
    fn finds_nothing(&self, server: &Server) {
        let log = server.log().text();
        self.finds_nothing_in("the log", log.as_bytes());
        assert!(self.stored.iter().all(|secret| !log.contains(secret)));
        assert!(!self.refusals.is_empty());
        for refusal in &self.refusals {
            self.finds_nothing_in("a refusal", refusal.as_bytes());
            assert!(self.stored.iter().all(|secret| !refusal.contains(secret)), "{refusal}");
        }
        files_below(&server.data(), &mut |path| {
            if let Ok(content) = std::fs::read(path) {
                let name = path.display().to_string();
                self.finds_nothing_in(&name, &content);
                let is_record = name.contains("/-/events/") || name.ends_with("/-/hooks/told.json");
                let text = String::from_utf8_lossy(&content);
                let found = self.stored.iter().find(|secret| is_record && text.contains(*secret));
                assert_eq!(found, None, "in {name}");
            }
        });
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// An account that somebody was invited to make.
async fn by_invitation(witness: &mut Witness, server: &Server) {
    let order = Order::Invite { name: Some("alice".to_owned()), days: 1 };
    let deadline = Instant::now() + PATIENCE;
    let code = loop {
        match control::give(&server.data(), &order.clone().into()).await {
            Ok(Outcome::Invitation { code }) => break code,
            // It listens for orders a moment after it listens for clients.
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("no invitation: {other:?}\n{}", server.log().tail(20)),
        }
    };
    let path = format!("/-/invite/{}", witness.keeps(code));
    witness.get(&path, &[]).await.ok();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let fields = |again: &str| format!("name=alice&password={PASSWORD}&again={again}&email=a@example.test");
    for again in ["canary-typed-again", PASSWORD] {
        witness.keeps(again);
        witness.send(Method::POST, &path, &form, fields(again)).await;
    }
    witness.get(&path, &[]).await;
}

/// Passwords and codes as they are typed, right and wrong, whole and in bodies that cannot be read.
async fn by_password(witness: &mut Witness) -> String {
    let (right, wrong) = (witness.keeps(PASSWORD), witness.keeps("canary-wrong-password"));
    let code = witness.keeps("canary-one-time-code");
    let answer = witness.sign_in("alice", &right, &[]).await.ok();
    let token = witness.keeps_of(&answer, "/token");
    witness.sign_in("alice", &wrong, &[("npm-otp", &code)]).await;
    witness.sign_in("bad name", &wrong, &[]).await;
    let address = "/-/user/org.couchdb.user:alice";
    for body in [
        format!("{{\"name\":\"alice\",\"password\":\"{wrong}"),
        format!("\"{wrong}\""),
        format!("{{\"name\":\"alice\",\"password\":\"{wrong}\",\"email\":[\"{wrong}\"]}}"),
        format!("{{\"name\":\"eve\",\"password\":\"{wrong}\"}}"),
    ] {
        let answer = witness.send(Method::PUT, address, &[], body).await;
        assert_eq!(answer.status.as_u16(), 400, "{}", answer.text());
    }
    for (user, password) in [("alice", &right), ("alice", &wrong), ("nobody", &wrong)] {
        witness.get("/-/whoami", &[("authorization", &basic(user, password)), ("npm-otp", &code)]).await;
    }
    for odd in [bearer(&wrong), basic("", &wrong), format!("Digest {wrong}"), wrong.clone(), format!("Basic {wrong}")] {
        witness.get("/-/whoami", &[("authorization", &odd)]).await;
    }
    // The account: a second factor that is begun, a code that is wrong, a password that is changed.
    let own = bearer(&token);
    let own = [("authorization", own.as_str()), ("npm-otp", code.as_str())];
    let profile = "/-/npm/v1/user";
    let begun = json!({ "tfa": { "password": right, "mode": "auth-and-writes" } });
    let answer = witness.json(Method::POST, profile, &own, &begun).await.ok();
    let scanned = witness.keeps_of(&answer, "/tfa");
    witness.stored.push(scanned.split("secret=").nth(1).unwrap().split('&').next().unwrap().to_owned());
    witness.json(Method::POST, profile, &own, &json!({ "tfa": [code] })).await;
    let new = witness.keeps("canary-new-password");
    let changes =
        [json!({ "password": { "old": wrong, "new": new } }), json!({ "password": { "old": right, "new": new } })];
    for change in changes {
        witness.json(Method::POST, profile, &own, &change).await;
    }
    let answer = witness.sign_in("alice", &new, &[]).await.ok();
    witness.keeps_of(&answer, "/token")
}

/// Tokens: made, listed, used, ended, and shown where they do not belong.
async fn by_token(witness: &mut Witness, token: &str) {
    let own = bearer(token);
    let own = [("authorization", own.as_str())];
    for password in ["canary-wrong-password", "canary-new-password"] {
        let wish = json!({ "password": password, "readonly": true, "cidr_whitelist": ["canary"] });
        witness.json(Method::POST, "/-/npm/v1/tokens", &own, &wish).await;
    }
    let wish = json!({ "password": "canary-new-password", "readonly": true, "cidr_whitelist": [] });
    let answer = witness.json(Method::POST, "/-/npm/v1/tokens", &own, &wish).await.ok();
    let made = witness.keeps_of(&answer, "/token");
    witness.get("/-/npm/v1/tokens", &own).await.ok();
    let stranger = witness.keeps("hfst_canaryOfAnUnknownTokenCanaryOfAnUnknownToken12");
    for shown in [&made, &stranger] {
        witness.get("/-/whoami", &[("authorization", &bearer(shown))]).await;
        for path in [format!("/tool?_authToken={shown}"), format!("/-/v1/search?text=x&_authToken={shown}")] {
            witness.get(&path, &own).await;
        }
        witness.send(Method::DELETE, &format!("/-/user/token/{shown}"), &[], "").await;
        witness.send(Method::PUT, &format!("/-/user/token/{shown}"), &[], "").await;
    }
    for path in [
        format!("/{made}"),
        format!("/tool/{made}"),
        format!("/-/package/{made}/dist-tags"),
        format!("/-/user/{made}/package"),
        format!("/-/npm/v1/tokens/{made}"),
    ] {
        witness.get(&path, &own).await;
    }
    witness.send(Method::DELETE, &format!("/-/npm/v1/tokens/token/{made}"), &own, "").await;
}

/// The secret of a hook, which the store has to have as it is, with a receiver that takes nothing.
async fn by_hooks(witness: &mut Witness, token: &str, receiver: &Receiver) {
    let own = bearer(token);
    let code = witness.keeps("canary-code-of-a-hook");
    let own = [("authorization", own.as_str()), ("npm-otp", code.as_str())];
    let (secret, key) = ("canary-secret-of-a-hook", "canary-in-the-address-of-a-hook");
    witness.stored.extend([secret.to_owned(), key.to_owned()]);
    let endpoint = receiver.url(&format!("/{key}"));
    let hooks = "/-/npm/v1/hooks/hook";
    let wish =
        |kind: &str, endpoint: &str| json!({ "type": kind, "name": "tool", "endpoint": endpoint, "secret": secret });
    let made = witness.json(Method::POST, hooks, &own, &wish("package", &endpoint)).await.ok();
    let path = format!("{hooks}/{}", made.json()["id"].as_str().unwrap());
    for body in
        [wish("team", &endpoint), wish("package", &format!("ftp://x.example/{key}")), json!({ "secret": [secret] })]
    {
        witness.json(Method::POST, hooks, &own, &body).await;
        witness.json(Method::PUT, &format!("{hooks}/0a"), &own, &body).await;
    }
    witness.send(Method::POST, hooks, &own, format!("{{\"secret\":\"{secret}")).await;
    let changed = witness.json(Method::PUT, &path, &own, &wish("package", &endpoint)).await.ok();
    for answer in [made, changed, witness.get("/-/npm/v1/hooks", &own).await.ok(), witness.get(&path, &own).await.ok()]
    {
        assert!(!answer.text().contains(secret), "{}", answer.text());
    }
}

/// Bodies of publishes that are refused.
async fn by_publishing(witness: &mut Witness, token: &str) {
    let own = bearer(token);
    let code = witness.keeps("canary-code-of-a-publish");
    let own = [("authorization", own.as_str()), ("npm-otp", code.as_str())];
    witness.json(Method::PUT, "/tool", &own, &publish_document(&Tarball::new("tool", "1.0.0"), "latest")).await.ok();
    let secret = witness.keeps("canary-in-a-publish-body");
    let mut documents = Vec::new();
    for change in
        [json!({ "_id": secret }), json!({ "versions": secret }), json!({ "dist-tags": { "latest": secret } })]
    {
        let mut document = publish_document(&Tarball::new("tool", "1.1.0"), "latest");
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        documents.push(document.to_string());
    }
    let mut attached = publish_document(&Tarball::new("tool", "1.1.0"), "latest");
    attached["_attachments"]["tool-1.1.0.tgz"]["data"] = json!(secret);
    documents.extend([attached.to_string(), format!("{{\"{secret}"), format!("\"{secret}\"")]);
    for document in documents {
        let answer = witness.send(Method::PUT, "/tool", &own, document).await;
        assert!(answer.status.is_client_error(), "{}: {}", answer.status, answer.text());
    }
}

/// Signing in by GitHub: its tokens, and the whole way through a browser, with wrong turns.
async fn by_github(witness: &mut Witness, github: &GitHub) {
    let personal = witness.keeps(github.personal_token("ada"));
    let answer = witness.sign_in("ada", &personal, &[]).await.ok();
    let token = witness.keeps_of(&answer, "/token");
    let stranger = witness.keeps(format!("gho_{}", "cAn4".repeat(9)));
    witness.sign_in("ada", &stranger, &[]).await;
    for shown in [&personal, &token, &stranger] {
        witness.get("/-/whoami", &[("authorization", &bearer(shown))]).await;
    }

    let answer = witness.json(Method::POST, "/-/v1/login", &[], &json!({ "hostname": "build-7" })).await.ok();
    let page = witness.path_of(answer.json()["loginUrl"].as_str().unwrap());
    let done = witness.path_of(answer.json()["doneUrl"].as_str().unwrap());
    witness.keeps(page.rsplit('/').next().unwrap());
    witness.keeps(done.rsplit('.').next().unwrap());
    let shown = witness.get(&page, &[]).await.ok();
    let cookie = shown.header("set-cookie").split(';').next().unwrap().to_owned();
    witness.keeps(cookie.split_once('=').unwrap().1);
    let browser = [("cookie", cookie.as_str())];
    let there = witness.get(&format!("{page}/github"), &browser).await;
    let authorize = reqwest::Url::parse(there.header("location")).unwrap();
    let value_of = |url: &reqwest::Url, name: &str| {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap()
    };
    let state = value_of(&authorize, "state");
    // Its first part is the login's id.
    witness.keeps(state.rsplit('.').next().unwrap());
    let at_github =
        Http::new(&authorize.origin().ascii_serialization()).get(&authorize[url::Position::BeforePath..]).await;
    let back = reqwest::Url::parse(at_github.header("location")).unwrap();
    let code = value_of(&back, "code");
    witness.keeps(code);
    let wrong = witness.keeps("canary-of-a-callback");
    for query in
        [format!("code={wrong}&state={state}"), format!("code={wrong}&state={wrong}"), format!("error={wrong}")]
    {
        witness.get(&format!("/-/github/callback?{query}"), &browser).await;
    }
    witness.get(&witness.path_of(back.as_str()), &browser).await;
    let confirm = witness.get(&page, &browser).await.ok().text();
    let csrf = confirm.split_once("name=\"csrf\" value=\"").map(|(_, rest)| rest.split('"').next().unwrap().to_owned());
    let csrf = witness.keeps(csrf.unwrap_or_else(|| panic!("nothing to confirm in {confirm}")));
    let form = [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    for csrf in [&wrong, &csrf] {
        witness.send(Method::POST, &format!("{page}/confirm"), &form, format!("csrf={csrf}&decision=confirm")).await;
    }
    witness.get(&format!("/-/v1/done?authId={wrong}"), &[]).await;
    let answer = witness.get(&done, &[]).await.ok();
    let token = witness.keeps_of(&answer, "/token");
    witness.get(&done, &[]).await;
    // On the page a password can be typed too, and on another device only a code.
    let answer = witness.json(Method::POST, "/-/v1/login", &[], &json!({})).await.ok();
    let page = witness.path_of(answer.json()["loginUrl"].as_str().unwrap());
    witness.send(Method::POST, &page, &form, format!("user=alice&password={wrong}&code={wrong}")).await;
    let answer = witness.json(Method::POST, "/-/v1/login/device", &[], &json!({})).await.ok();
    let done = witness.path_of(answer.json()["doneUrl"].as_str().unwrap());
    witness.keeps(done.rsplit('.').next().unwrap());
    witness.keeps_of(&answer, "/userCode");
    witness.get(&done, &[]).await;
    by_device(witness, github).await;
    // An invitation that nobody gave.
    witness.get(&format!("/-/invite/{wrong}"), &[]).await;
    witness.send(Method::POST, &format!("/-/invite/{wrong}"), &form, format!("password={wrong}&name=eve")).await;

    // All of it again while GitHub fails.
    for mode in [Mode::Error(502), Mode::Well] {
        github.set_mode(mode);
        let fresh = witness.keeps(github.oauth_token("ada"));
        for shown in [&fresh, &token] {
            witness.get("/-/whoami", &[("authorization", &bearer(shown))]).await;
            witness.send(Method::DELETE, &format!("/-/user/token/{shown}"), &[], "").await;
        }
        witness.sign_in("ada", &fresh, &[]).await;
    }
}

/// Signing in on a device that has no browser, up to its token.
async fn by_device(witness: &mut Witness, github: &GitHub) {
    let answer = witness.json(Method::POST, "/-/v1/login/device", &[], &json!({ "hostname": "build-8" })).await.ok();
    let code = witness.keeps_of(&answer, "/userCode");
    let done = witness.path_of(answer.json()["doneUrl"].as_str().unwrap());
    witness.keeps(done.rsplit('.').next().unwrap());
    github.approve_device(&code, "ada");
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = witness.get(&done, &[]).await;
        if answer.status == StatusCode::OK {
            break answer;
        }
        assert!(answer.status == StatusCode::ACCEPTED && Instant::now() < deadline, "{}", answer.text());
        github.let_pass(Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let token = witness.keeps_of(&answer, "/token");
    witness.get("/-/whoami", &[("authorization", &bearer(&token))]).await.ok();
    witness.get(&done, &[]).await;
}

/// Codes of an authenticator app and recovery codes that are right, up to a token.
async fn by_second_factor(witness: &mut Witness, server: &Server, token: &str) {
    let password = "canary-new-password";
    let own = bearer(token);
    let own = [("authorization", own.as_str())];
    let begun = json!({ "tfa": { "password": password, "mode": "auth-only" } });
    let answer = witness.json(Method::POST, "/-/npm/v1/user", &own, &begun).await.ok();
    let scanned = witness.keeps_of(&answer, "/tfa");
    witness.stored.push(scanned.split("secret=").nth(1).unwrap().split('&').next().unwrap().to_owned());
    let app = Authenticator::scan(&scanned);
    let clock = Clock::default();
    // Six digits are found anywhere by chance: they are looked for in what is logged while they are shown.
    let before = server.log().text().len();
    let codes = [app.code(&clock, 0), app.code(&clock, 1)];
    let answer = witness.json(Method::POST, "/-/npm/v1/user", &own, &json!({ "tfa": [codes[0]] })).await.ok();
    for recovery in answer.json()["tfa"].as_array().unwrap() {
        witness.keeps(recovery.as_str().unwrap());
    }
    let answer = witness.sign_in("alice", password, &[("npm-otp", &codes[1])]).await.ok();
    witness.keeps_of(&answer, "/token");
    let deadline = Instant::now() + PATIENCE;
    let logged = loop {
        let logged = server.log().text()[before..].to_owned();
        if logged.matches("org.couchdb.user").count() > 0 {
            break logged;
        }
        assert!(Instant::now() < deadline, "the sign-in is not in the log: {}", server.log().tail(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(codes.iter().all(|code| !logged.contains(code)), "{codes:?} in {logged}");
    let recovery = witness.secrets[witness.secrets.len() - 2].clone();
    let answer = witness.sign_in("alice", password, &[("npm-otp", &recovery)]).await.ok();
    witness.keeps_of(&answer, "/token");
}

/// The sinks that are told, each with its secret, in its address where it has no other place.
const SINKS: [(&str, &str, &str); 4] = [
    ("HOOK", "webhook", "canary-webhook-secret"),
    ("NPM", "npm-hook", "canary-npm-hook-secret"),
    ("CHAT", "slack", "canary-of-a-channel"),
    ("LOGS", "insights", "canary-insights-secret"),
];

fn with_sinks(mut settings: Settings, receiver: &Receiver) -> Settings {
    for (name, kind, secret) in SINKS {
        let path = if kind == "slack" { format!("/{kind}/{secret}") } else { format!("/{kind}") };
        let of_kind: &[(&str, &str)] = match kind {
            "slack" => &[],
            "insights" => &[("SECRET", secret), ("CLIENT_ID", "canary-client")],
            _ => &[("SECRET", secret)],
        };
        for (key, value) in [("KIND", kind), ("URL", &receiver.url(&path))].iter().chain(of_kind) {
            settings = settings.env(&format!("HOLDFAST__SINKS__{name}__{key}"), value);
        }
    }
    settings
}

/// Waits until each sink has sent something more, whatever became of it.
async fn all_sinks_send(receiver: &Receiver, server: &Server) {
    let count = |kind: &str| {
        receiver.received().iter().filter(|received| received.path.starts_with(&format!("/{kind}"))).count()
    };
    let before = SINKS.map(|(_, kind, _)| count(kind));
    let deadline = Instant::now() + PATIENCE;
    while SINKS.iter().zip(before).any(|((_, kind, _), before)| count(kind) <= before) {
        assert!(Instant::now() < deadline, "a sink sends nothing\n{}", server.log().tail(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sinks that fail in every way, and then take what happened.
async fn by_sinks(receiver: &Receiver, server: &Server) {
    for mood in [Mood::Closes, Mood::Redirects, Mood::Status(200)] {
        receiver.become_(mood);
        all_sinks_send(receiver, server).await;
    }
    // The secrets were really in use.
    let received = receiver.received();
    assert!(received.iter().any(|received| received.path.ends_with("/canary-of-a-channel")));
    assert!(received.iter().any(|received| received.header("authorization").contains("canary-insights-secret")));
    assert!(received.iter().any(|received| !received.header("x-holdfast-signature").is_empty()));
}

/// Identity tokens of CI jobs.
async fn by_identity(witness: &mut Witness, issuer: &Issuer) {
    let mut claims = github_claims("acme/tool", "release.yml");
    claims["aud"] = json!("npm:127.0.0.1");
    let good = witness.keeps(issuer.token(claims.clone()));
    claims["aud"] = json!("npm:elsewhere");
    let foreign = witness.keeps(issuer.token(claims));
    let nonsense = witness.keeps("canary.identity.token");
    for identity in [&good, &foreign, &nonsense] {
        for path in [exchange_path("tool"), "/-/npm/v1/oidc/token/exchange".to_owned()] {
            witness.send(Method::POST, &path, &[("authorization", &bearer(identity))], "").await;
        }
        witness.get("/-/whoami", &[("authorization", &bearer(identity))]).await;
    }
}

/// Every flow of a server on a directory.
async fn every_flow(is_json: bool) {
    let (github, issuer, upstream) = (GitHub::start().await, Issuer::start().await, Upstream::with_fixtures());
    let collector = Collector::start();
    let receiver = Receiver::start();
    receiver.become_(Mood::Redirects);
    github.add_user("ada");
    github.add_member("acme", "ada", false);
    github.sign_in_as("ada");
    let settings = format!(
        "[access]\nregistration = \"open\"\n[github]\nclient_id = \"{}\"\napi_url = \"{}\"\norganizations = [\"acme\"]\n\
         [issuers.github]\nurl = \"{}\"\n[metrics]\naccess = \"token\"\n[log]\njson = {is_json}\n",
        GitHub::CLIENT_ID,
        github.api_url(),
        issuer.url(),
    );
    let failing = Receiver::start();
    failing.become_(Mood::Status(500));
    let mut server = with_sinks(Settings::upstream(upstream.url()), &failing)
        .config(&settings)
        .env("HOLDFAST__TRACES__OTLP_ENDPOINT", collector.settings().endpoint.as_str())
        .env("HOLDFAST__TRACES__HEADERS", "x-api-key=canary-of-a-collector")
        .env("HOLDFAST__LOG__LEVEL", "info,holdfast=trace")
        .env("HOLDFAST__GITHUB__CLIENT_SECRET", GitHub::CLIENT_SECRET)
        .env("HOLDFAST__GITHUB__TOKEN", "canary-github-service-token")
        .env("HOLDFAST__METRICS__TOKEN", "canary-metrics-token")
        .env("HOLDFAST__HOOKS__ENABLED", "true")
        .env("HOLDFAST__HOOKS__ALLOW_PRIVATE", "true")
        .env("HOLDFAST__HOOKS__ALLOW_HTTP", "true")
        .env("HOLDFAST__UPSTREAMS__DEFAULT__TOKEN", "canary-upstream-token")
        .start()
        .await;
    github.register_callback(&format!("{}-/github/callback", server.url()));
    let mut witness = Witness::of(&server);
    for secret in [
        GitHub::CLIENT_SECRET,
        "canary-github-service-token",
        "canary-metrics-token",
        "canary-upstream-token",
        "canary-of-a-collector",
    ] {
        witness.keeps(secret);
    }
    for (_, _, secret) in SINKS {
        witness.keeps(secret);
    }
    witness.keeps("canary-client:canary-insights-secret");

    by_invitation(&mut witness, &server).await;
    let token = by_password(&mut witness).await;
    by_token(&mut witness, &token).await;
    by_hooks(&mut witness, &token, &receiver).await;
    by_publishing(&mut witness, &token).await;
    receiver.wait_for(1).await;
    by_second_factor(&mut witness, &server, &token).await;
    by_github(&mut witness, &github).await;
    by_identity(&mut witness, &issuer).await;
    let own = bearer(&token);
    let own = [("authorization", own.as_str())];
    for shown in ["canary-metrics-token", "canary-metrics-tokem"] {
        witness.keeps(shown);
        witness.get("/-/metrics", &[("authorization", &bearer(shown))]).await;
    }
    for fault in [Fault::None, Fault::Status(401), Fault::Status(503), Fault::Html, Fault::Truncated] {
        upstream.set(fault);
        for path in ["/left", "/leaf/-/leaf-1.0.0.tgz", "/command", "/-/v1/search?text=left"] {
            witness.get(path, &own).await;
        }
    }

    by_sinks(&failing, &server).await;

    let log = server.log().text();
    assert_eq!(log.contains("\"http.status\":201"), is_json, "{}", server.log().tail(5));
    assert!(log.contains("/-/user/token/***") && log.contains("/-/login/***"), "{}", server.log().tail(20));
    // The secrets were really in use.
    let sent = upstream.seen();
    assert!(
        sent.iter()
            .any(|seen| seen.headers.get("authorization").is_some_and(|sent| sent == "Bearer canary-upstream-token"))
    );
    witness.finds_nothing(&server);
    // A stop sends the last spans.
    server.stop().await;
    let names: BTreeSet<String> = collector.spans().into_iter().map(|span| span.name).collect();
    for name in ["PUT /{package}", "POST /-/login/{id}/confirm", "DELETE /-/user/token/{token}", "upstream GET"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    for batch in collector.batches() {
        assert_eq!(batch.header("x-api-key"), "canary-of-a-collector");
        witness.finds_nothing_in("traces", &batch.body);
    }
}

#[tokio::test]
async fn no_secret_gets_into_a_log_of_text() {
    every_flow(false).await;
}

#[tokio::test]
async fn no_secret_gets_into_a_log_of_json() {
    every_flow(true).await;
}

#[tokio::test]
async fn links_and_keys_of_a_bucket_are_not_logged_even_when_it_fails() {
    let bucket = ObjectServer::start("packages");
    let secret = "canary-secret-access-key";
    let server = Settings::alone()
        .bucket(bucket.url(), "s3://packages")
        .env("HOLDFAST__STORAGE__SECRET_ACCESS_KEY", secret)
        .env("HOLDFAST__TARBALLS__REDIRECT", "always")
        .env("HOLDFAST__LOG__LEVEL", "info,holdfast=trace,object_store=trace")
        .start()
        .await;
    let mut witness = Witness::of(&server);
    witness.keeps(secret);
    assert_ne!(secret, CREDENTIALS.1);
    let password = witness.keeps(PASSWORD);
    let answer = witness.sign_in("alice", &password, &[]).await.ok();
    let token = witness.keeps_of(&answer, "/token");
    let own = bearer(&token);
    let own = [("authorization", own.as_str())];
    let tarball = Tarball::new("tool", "1.0.0");
    witness.json(Method::PUT, "/tool", &own, &publish_document(&tarball, "latest")).await.ok();

    let signature_of = |url: &str| url.split("X-Amz-Signature=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let redirected = witness.get("/tool/-/tool-1.0.0.tgz", &own).await;
    witness.keeps(signature_of(redirected.header("location")));
    let uploads = "/-/holdfast/v1/package/tool/uploads";
    let place = witness.json(Method::POST, uploads, &own, &json!({ "version": "1.1.0", "length": 1000 })).await.ok();
    let link = place.json()["url"].as_str().unwrap().to_owned();
    witness.keeps(signature_of(&link));
    let id = place.json()["id"].as_str().unwrap().to_owned();
    let document = document_of_upload(&Tarball::new("tool", "1.1.0"), "latest");
    for misbehaviour in [Misbehaviour::Refuse(403), Misbehaviour::Refuse(500), Misbehaviour::HangUp] {
        bucket.misbehave(BucketFault::new(misbehaviour));
        witness.get("/tool", &own).await;
        witness.get("/-/ready", &[]).await;
        witness.sign_in("alice", &password, &[]).await;
        witness.json(Method::PUT, "/tool", &own, &publish_document(&Tarball::new("tool", "1.2.0"), "latest")).await;
        witness.json(Method::POST, &format!("{uploads}/{id}/commit"), &own, &document).await;
        bucket.behave();
    }
    witness.finds_nothing(&server);
    for (key, object) in bucket.snapshot() {
        witness.finds_nothing_in(&key, &object.bytes);
    }
}
