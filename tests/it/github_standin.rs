//! The stand-in for GitHub against GitHub's own description of its API, and its manners where there is no description.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use crate::support::clients::{clients_folder, is_missing};
use crate::support::github::{GitHub, Mode};

/// The Enterprise Server whose description still has the endpoints for passwords.
const ENTERPRISE: &str = "ghes-3.19";

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn location(&self) -> url::Url {
        self.header("location").parse().unwrap_or_else(|_| panic!("no redirect: {} {}", self.status, self.text))
    }

    /// A member of the query of where the answer leads.
    fn led_with(&self, name: &str) -> String {
        let url = self.location();
        let found = url.query_pairs().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("no {name} in {url}")).1.into_owned()
    }
}

/// Somebody who asks.
struct Asker {
    github: GitHub,
    client: reqwest::Client,
}

impl Asker {
    fn of(github: &GitHub) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { github: github.clone(), client: client.build().unwrap() }
    }

    fn api(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{}", self.github.api_url(), path.trim_start_matches('/'));
        self.client.request(method.parse().unwrap(), url)
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        send(self.api("GET", path).bearer_auth(token)).await
    }

    /// As our app.
    async fn app(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.api(method, path).basic_auth(GitHub::CLIENT_ID, Some(GitHub::CLIENT_SECRET));
        send(request.body(body.to_string())).await
    }

    /// As codebox asks for a token by a password.
    async fn by_password(&self, method: &str, path: &str, code: &str) -> Answer {
        let body = json!({
            "client_id": GitHub::CLIENT_ID, "client_secret": GitHub::CLIENT_SECRET,
            "scopes": ["user:email", "read:org"], "note": "a registry",
        });
        let request = self.api(method, path).basic_auth("ada", Some("a password")).header("X-GitHub-OTP", code);
        send(request.body(body.to_string())).await
    }

    /// Opens a page, and does not follow where it leads.
    async fn open(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        let mut url: url::Url = format!("{}{path}", self.github.web_url()).parse().unwrap();
        url.query_pairs_mut().extend_pairs(query);
        send(self.client.get(url)).await
    }

    /// Sends a form and wants JSON.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.client.request(Method::POST, format!("{}{path}", self.github.web_url()));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        send(request.header("accept", "application/json").body(body)).await
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// Answers to hold against the description.
#[derive(Default)]
struct Answers(Vec<Value>);

impl Answers {
    /// `what` is the method and the path, as the description has it.
    fn add(&mut self, what: &str, answer: &Answer, more: Value) {
        let (method, path) = what.split_once(' ').unwrap();
        let body = if answer.text.is_empty() { Value::Null } else { answer.json() };
        let mut entry = Map::from_iter([
            ("method".to_owned(), json!(method)),
            ("path".to_owned(), json!(path)),
            ("status".to_owned(), json!(answer.status)),
            ("body".to_owned(), body),
        ]);
        if let Value::Object(more) = more {
            entry.extend(more);
        }
        self.0.push(Value::Object(entry));
    }

    /// Whether all are as described, and what the script says.
    async fn validate(self) -> (bool, String) {
        tokio::task::spawn_blocking(move || {
            let folder = tempfile::tempdir().unwrap();
            let script = folder.path().join("validate_github.js");
            std::fs::write(&script, include_str!("support/validate_github.js")).unwrap();
            let mut command = Command::new("node");
            command.arg(&script).env("NODE_PATH", clients_folder().join("github-openapi/node_modules"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(Value::Array(self.0).to_string().as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
        .await
        .unwrap()
    }
}

/// Two people, an organisation with a team, and a repository.
fn populate(github: &GitHub) {
    github.add_user("ada");
    github.add_user("grace");
    github.add_member("acme", "ada", true);
    github.add_team_member("acme", "platform", "grace");
    github.add_pending_member("invited-to", "ada");
    github.add_repository("acme", "web");
    github.set_role("acme", "web", "grace", "maintain");
}

#[tokio::test]
async fn every_answer_is_as_githubs_description_says() {
    if is_missing(&["github-openapi"]) {
        return;
    }
    let github = GitHub::start().await;
    populate(&github);
    let asker = Asker::of(&github);
    let mut answers = Answers::default();

    let on_app = format!("/applications/{}/token", GitHub::CLIENT_ID);
    let template = "/applications/{client_id}/token";
    let token = github.oauth_token("ada");
    let known = asker.app("POST", &on_app, &json!({ "access_token": token })).await;
    assert_eq!((known.status, known.json()["user"]["login"].as_str()), (200, Some("ada")));
    answers.add(&format!("POST {template}"), &known, Value::Null);
    let reset = asker.app("PATCH", &on_app, &json!({ "access_token": token })).await;
    answers.add(&format!("PATCH {template}"), &reset, Value::Null);
    let new = reset.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(asker.get("/user", &token).await.status, 401, "the old token is gone");
    let deleted = asker.app("DELETE", &on_app, &json!({ "access_token": new })).await;
    assert_eq!(deleted.status, 204);
    answers.add(&format!("DELETE {template}"), &deleted, Value::Null);
    let unknown = asker.app("POST", &on_app, &json!({ "access_token": new })).await;
    assert_eq!(unknown.status, 404);
    answers.add(&format!("POST {template}"), &unknown, Value::Null);
    let nothing = asker.app("POST", &on_app, &json!({})).await;
    assert_eq!(nothing.status, 422);
    answers.add(&format!("POST {template}"), &nothing, Value::Null);
    let stranger = send(asker.api("POST", &on_app).basic_auth(GitHub::CLIENT_ID, Some("wrong")).body("{}")).await;
    assert_eq!(stranger.status, 401);
    answers.add(&format!("POST {template}"), &stranger, Value::Null);

    let (oauth, personal, service) = (github.oauth_token("ada"), github.personal_token("ada"), github.service_token());
    let lists = [
        ("/user/memberships/orgs", "/user/memberships/orgs", 2),
        ("/user/memberships/orgs?state=active", "/user/memberships/orgs", 1),
        ("/user/teams", "/user/teams", 0),
        ("/orgs/acme/members", "/orgs/{org}/members", 2),
        ("/orgs/acme/members?role=admin", "/orgs/{org}/members", 1),
        ("/orgs/acme/teams", "/orgs/{org}/teams", 1),
        ("/orgs/acme/teams/platform/members", "/orgs/{org}/teams/{team_slug}/members", 1),
    ];
    for (path, template, entries) in lists {
        let answer = asker.get(path, &oauth).await;
        assert_eq!(answer.json().as_array().map(Vec::len), Some(entries), "{path}: {}", answer.text);
        answers.add(&format!("GET {template}"), &answer, Value::Null);
    }
    let teams = asker.get("/user/teams", &github.oauth_token("grace")).await;
    assert_eq!(teams.json()[0]["slug"], "platform");
    answers.add("GET /user/teams", &teams, Value::Null);
    for token in [&oauth, &personal, "wrong"] {
        answers.add("GET /user", &asker.get("/user", token).await, Value::Null);
    }
    let refused = asker.get("/user/memberships/orgs", &github.oauth_token_with("ada", &["user:email"])).await;
    assert_eq!(refused.status, 403);
    answers.add("GET /user/memberships/orgs", &refused, Value::Null);
    let outside = asker.get("/orgs/invited-to/teams", &oauth).await;
    assert_eq!(outside.status, 403);
    answers.add("GET /orgs/{org}/teams", &outside, Value::Null);

    let repository = asker.get("/repos/acme/web", &service).await;
    assert_eq!(repository.json()["full_name"], "acme/web");
    answers.add("GET /repos/{owner}/{repo}", &repository, Value::Null);
    let hidden = asker.get("/repos/acme/web", &oauth).await;
    assert_eq!(hidden.status, 404, "without the scope a private repository is not there");
    answers.add("GET /repos/{owner}/{repo}", &hidden, Value::Null);
    github.add_user("nobody-here");
    for (login, permission, role) in
        [("ada", "admin", "admin"), ("grace", "write", "maintain"), ("nobody-here", "none", "none")]
    {
        let answer = asker.get(&format!("/repos/acme/web/collaborators/{login}/permission"), &service).await;
        assert_eq!((&answer.json()["permission"], &answer.json()["role_name"]), (&json!(permission), &json!(role)));
        answers.add("GET /repos/{owner}/{repo}/collaborators/{username}/permission", &answer, Value::Null);
    }

    let mut by_enterprise = Answers::default();
    for answer in &answers.0 {
        let mut answer = answer.clone();
        answer["in"] = json!(ENTERPRISE);
        by_enterprise.0.push(answer);
    }
    by_enterprise.0.extend(answers.0);
    let (right, says) = by_enterprise.validate().await;
    assert!(right, "{says}");
}

#[tokio::test]
async fn every_answer_of_an_old_enterprise_server_is_as_its_description_says() {
    if is_missing(&["github-openapi"]) {
        return;
    }
    let github = GitHub::start_old_enterprise().await;
    populate(&github);
    github.set_password("ada", "a password", None);
    let asker = Asker::of(&github);
    let mut answers = Answers::default();
    let described = || json!({ "in": ENTERPRISE });

    let of_client = format!("/authorizations/clients/{}", GitHub::CLIENT_ID);
    let first = asker.by_password("PUT", &of_client, "").await;
    assert_eq!(first.status, 201);
    answers.add("PUT /authorizations/clients/{client_id}", &first, described());
    let again = asker.by_password("PUT", &of_client, "").await;
    assert_eq!((again.status, again.json()["token"].as_str()), (200, Some("")), "a token is told once");
    answers.add("PUT /authorizations/clients/{client_id}", &again, described());
    let at = format!("/authorizations/{}", again.json()["id"]);
    let deleted = asker.by_password("DELETE", &at, "").await;
    assert_eq!(deleted.status, 204);
    answers.add("DELETE /authorizations/{authorization_id}", &deleted, described());
    let second = asker.by_password("POST", "/authorizations", "").await;
    assert_eq!(second.status, 201);
    answers.add("POST /authorizations", &second, described());

    let token = second.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 40);
    let on_app = format!("/applications/{}/tokens/{token}", GitHub::CLIENT_ID);
    let known = asker.app("GET", &on_app, &json!({})).await;
    assert_eq!((known.status, known.json()["user"]["login"].as_str()), (200, Some("ada")));
    answers.add(
        "GET /applications/{client_id}/tokens/{token}",
        &known,
        json!({ "in": ENTERPRISE, "schema": "authorization" }),
    );
    let (right, says) = answers.validate().await;
    assert!(right, "{says}");

    let first = first.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(asker.get("/user", &first).await.status, 401, "the token of the deleted authorization is gone");
    let new_way = format!("/applications/{}/token", GitHub::CLIENT_ID);
    assert_eq!(asker.app("POST", &new_way, &json!({ "access_token": token })).await.status, 404);
}

#[tokio::test]
async fn a_wrong_answer_is_reported() {
    if is_missing(&["github-openapi"]) {
        return;
    }
    let github = GitHub::start().await;
    populate(&github);
    let (asker, token) = (Asker::of(&github), github.oauth_token("ada"));
    let answer = asker.get("/user", &token).await;
    let mut answers = Answers::default();
    answers.add("GET /user", &answer, Value::Null);
    let mut wrong = answers.0[0].clone();
    wrong["body"]["id"] = json!("a text");
    wrong["body"].as_object_mut().unwrap().shift_remove("node_id");
    answers.0.push(wrong);
    // Deep within a list, where only a reference of a reference leads.
    let list = asker.get("/user/memberships/orgs", &token).await;
    answers.add("GET /user/memberships/orgs", &list, Value::Null);
    let deep = answers.0.last_mut().unwrap();
    deep["body"][1]["organization"].as_object_mut().unwrap().shift_remove("members_url");
    answers.add("GET /user/of/nothing", &answer, Value::Null);
    answers.add("DELETE /applications/{client_id}/token", &answer, Value::Null);
    let (right, says) = answers.validate().await;
    assert!(!right, "{says}");
    assert!(says.contains("GET /user 200, by api.github.com: /id must be integer"), "{says}");
    assert!(says.contains("must have required property 'node_id'"), "{says}");
    assert!(says.contains("/1/organization must have required property 'members_url'"), "{says}");
    assert!(says.contains("no such operation") && says.contains("no status 200 there, only 204, 422"), "{says}");
}

#[tokio::test]
async fn a_code_is_asked_for_when_an_account_has_two_factors() {
    let github = GitHub::start_old_enterprise().await;
    populate(&github);
    github.set_password("ada", "a password", Some("123456"));
    let asker = Asker::of(&github);
    let path = format!("/authorizations/clients/{}", GitHub::CLIENT_ID);
    for code in ["", "654321"] {
        let answer = asker.by_password("PUT", &path, code).await;
        assert_eq!((answer.status, answer.header("x-github-otp")), (401, "required; app"));
    }
    assert_eq!(asker.by_password("PUT", &path, "123456").await.status, 201);
    let seen = github.seen();
    assert_eq!(seen[2].otp.as_deref(), Some("123456"));
    assert_eq!((seen[2].method.as_str(), seen[2].path.as_str()), ("PUT", format!("/api/v3{path}").as_str()));

    let today = GitHub::start().await;
    today.add_user("ada");
    today.set_password("ada", "a password", None);
    assert_eq!(Asker::of(&today).by_password("PUT", &path, "").await.status, 404);
}

#[tokio::test]
async fn a_token_ends_with_its_account_and_belongs_to_its_app() {
    let github = GitHub::start().await;
    populate(&github);
    let asker = Asker::of(&github);
    let on_app = format!("/applications/{}/token", GitHub::CLIENT_ID);

    let foreign = github.foreign_oauth_token("ada");
    let user = asker.get("/user", &foreign).await;
    assert_eq!(user.status, 200);
    assert!(!["", GitHub::CLIENT_ID].contains(&user.header("x-oauth-client-id")));
    assert_eq!(asker.app("POST", &on_app, &json!({ "access_token": foreign })).await.status, 404);
    let personal = asker.get("/user", &github.personal_token("ada")).await;
    assert_eq!((personal.status, personal.header("x-oauth-client-id")), (200, ""));

    let old = github.old_oauth_token("ada");
    let by_the_old_word = send(asker.api("GET", "/user").header("authorization", format!("token {old}"))).await;
    assert_eq!(by_the_old_word.header("x-oauth-client-id"), GitHub::CLIENT_ID);
    let before = by_the_old_word.json()["id"].as_u64().unwrap();
    github.rename_user("ada", "countess");
    let renamed = asker.get("/user", &old).await.json();
    assert_eq!((renamed["id"].as_u64(), renamed["login"].as_str()), (Some(before), Some("countess")));
    let after = github.recreate_user("Countess");
    assert_ne!(before, after);
    assert_eq!(asker.get("/user", &old).await.status, 401);
    let memberships = asker.get("/user/memberships/orgs", &github.oauth_token("countess")).await;
    assert_eq!(memberships.text, "[]");

    let revoked = github.oauth_token("grace");
    github.revoke_token(&revoked);
    assert_eq!(asker.get("/user", &revoked).await.status, 401);
}

#[tokio::test]
async fn what_is_taken_away_is_gone() {
    let github = GitHub::start().await;
    populate(&github);
    github.add_team_member("acme", "platform", "ada");
    let asker = Asker::of(&github);
    let (ada, grace, service) = (github.oauth_token("ada"), github.oauth_token("grace"), github.service_token());
    let names = async |path: &str, token: &str| {
        let list = asker.get(path, token).await.json();
        let name = |entry: &Value| entry["login"].as_str().or(entry["slug"].as_str()).unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };

    github.remove_team_member("acme", "platform", "ada");
    assert_eq!(names("/orgs/acme/teams/platform/members", &ada).await, ["grace"]);
    assert_eq!(names("/user/teams", &grace).await, ["platform"]);
    github.remove_member("acme", "grace");
    assert!(names("/user/teams", &grace).await.is_empty());
    assert_eq!(names("/orgs/acme/members", &ada).await, ["ada"]);
    assert!(names("/orgs/acme/members", &grace).await.is_empty(), "members are for members to see");
    assert_ne!(github.add_organization("acme"), github.add_organization("acme-2"));

    let permission = "/repos/acme/web/collaborators/grace/permission";
    assert_eq!(asker.get(permission, &service).await.json()["permission"], "write");
    github.set_role("acme", "web", "grace", "none");
    assert_eq!(asker.get(permission, &service).await.json()["permission"], "none");
    let (before, owner) = github.add_repository("acme", "web");
    github.remove_repository("acme", "web");
    assert_eq!(asker.get(permission, &service).await.status, 404);
    let (after, same_owner) = github.add_repository("acme", "web");
    assert!(before != after && owner == same_owner);

    github.forget();
    asker.get("/user/teams?page=2", &ada).await;
    let seen = github.seen().remove(0);
    assert_eq!((seen.path.as_str(), seen.query.as_str(), seen.body.as_str()), ("/api/v3/user/teams", "page=2", ""));
    assert_eq!(seen.authorization, Some(format!("Bearer {ada}")));
}

#[tokio::test]
async fn long_lists_have_pages() {
    let github = GitHub::start().await;
    github.add_user("ada");
    for number in 1..=5 {
        github.add_member(&format!("org-{number}"), "ada", false);
    }
    github.set_page_size(2);
    let asker = Asker::of(&github);
    let token = github.oauth_token("ada");
    let mut url = format!("{}user/memberships/orgs?state=active&per_page=100", github.api_url());
    let mut found = Vec::new();
    for _ in 0..10 {
        let answer = send(asker.client.get(&url).bearer_auth(&token)).await;
        found.extend(answer.json().as_array().unwrap().iter().map(|entry| entry["organization"]["login"].to_string()));
        let Some(next) = answer.header("link").split(", ").find_map(|link| link.strip_suffix(">; rel=\"next\"")) else {
            break;
        };
        next.trim_start_matches('<').clone_into(&mut url);
    }
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(github.seen().len(), 3);
}

#[tokio::test]
async fn signing_in_on_the_web_takes_a_code_once_and_its_verifier() {
    let github = GitHub::start().await;
    populate(&github);
    github.sign_in_as("ada");
    let asker = Asker::of(&github);
    let callback = "http://127.0.0.1:4873/callback?a=1";
    let verifier = "a verifier that is long enough for anybody who looks at it";
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let parameters = [
        ("client_id", GitHub::CLIENT_ID),
        ("redirect_uri", callback),
        ("scope", "read:org user:email"),
        ("state", "a state & more"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let exchange = async |code: &str, secret: &str, verifier: &str| {
        let form = [
            ("client_id", GitHub::CLIENT_ID),
            ("client_secret", secret),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", verifier),
        ];
        asker.post("login/oauth/access_token", &form).await.json()
    };

    let back = asker.open("login/oauth/authorize", &parameters).await;
    assert_eq!((back.status, back.led_with("state").as_str()), (302, "a state & more"));
    assert!(back.location().as_str().starts_with("http://127.0.0.1:4873/callback?a=1&code="));
    let code = back.led_with("code");
    assert_eq!(exchange(&code, "wrong", verifier).await["error"], "incorrect_client_credentials");
    let granted = exchange(&code, GitHub::CLIENT_SECRET, verifier).await;
    assert_eq!((&granted["token_type"], &granted["scope"]), (&json!("bearer"), &json!("read:org,user:email")));
    let token = granted["access_token"].as_str().unwrap();
    assert_eq!(asker.get("/user", token).await.json()["login"], "ada");
    assert_eq!(exchange(&code, GitHub::CLIENT_SECRET, verifier).await["error"], "bad_verification_code");

    let code = asker.open("login/oauth/authorize", &parameters).await.led_with("code");
    assert_eq!(exchange(&code, GitHub::CLIENT_SECRET, "another").await["error"], "bad_verification_code");

    let code = asker.open("login/oauth/authorize", &parameters).await.led_with("code");
    github.expire_codes();
    assert_eq!(exchange(&code, GitHub::CLIENT_SECRET, verifier).await["error"], "bad_verification_code");

    github.deny();
    assert_eq!(asker.open("login/oauth/authorize", &parameters).await.led_with("error"), "access_denied");
    github.register_callback("http://127.0.0.1:4873/other");
    let refused = asker.open("login/oauth/authorize", &parameters).await;
    assert_eq!(refused.led_with("error"), "redirect_uri_mismatch");
    assert_eq!(refused.location().path(), "/other");
    assert_eq!(asker.open("login/oauth/authorize", &[("client_id", "another")]).await.status, 404);

    github.register_callback("http://127.0.0.1:4873/callback");
    github.sign_out();
    let page = asker.open("login/oauth/authorize", &parameters).await;
    assert!(page.status == 200 && page.text.contains("Authorize as grace"), "{}", page.text);
    let mut form = parameters.to_vec();
    form.push(("login", "grace"));
    assert!(!asker.post("login/oauth/authorize", &form).await.led_with("code").is_empty());
}

#[tokio::test]
async fn signing_in_by_a_device_waits_for_a_person() {
    let github = GitHub::start().await;
    populate(&github);
    let asker = Asker::of(&github);
    let device = async || {
        let form = [("client_id", GitHub::CLIENT_ID), ("scope", "read:org")];
        let answer = asker.post("login/device/code", &form).await.json();
        assert_eq!((&answer["interval"], answer["user_code"].as_str().map(str::len)), (&json!(1), Some(9)));
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("device_code"), text("user_code"))
    };
    let poll = async |code: &str| {
        let form = [
            ("client_id", GitHub::CLIENT_ID),
            ("device_code", code),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ];
        asker.post("login/oauth/access_token", &form).await.json()
    };

    let (code, user_code) = device().await;
    assert_eq!(poll(&code).await["error"], "authorization_pending");
    let early = poll(&code).await;
    assert_eq!((&early["error"], &early["interval"]), (&json!("slow_down"), &json!(2)));
    github.approve_device(&user_code, "grace");
    github.let_pass(Duration::from_secs(2));
    let granted = poll(&code).await;
    assert_eq!(asker.get("/user", granted["access_token"].as_str().unwrap()).await.json()["login"], "grace");
    assert_eq!(poll(&code).await["error"], "incorrect_device_code");

    let (code, user_code) = device().await;
    github.deny_device(&user_code);
    assert_eq!(poll(&code).await["error"], "access_denied");
    let (code, user_code) = device().await;
    github.expire_device(&user_code);
    assert_eq!(poll(&code).await["error"], "expired_token");
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let github = GitHub::start().await;
    github.add_user("ada");
    let asker = Asker::of(&github);
    let token = github.oauth_token("ada");

    github.set_mode(Mode::Down);
    assert!(asker.api("GET", "/user").send().await.is_err());
    github.set_mode(Mode::Error(502));
    assert_eq!(asker.get("/user", &token).await.status, 502);
    github.set_now(1_000);
    github.set_mode(Mode::RateLimited);
    let limited = asker.get("/user", &token).await;
    let headers = ["x-ratelimit-remaining", "x-ratelimit-reset"].map(|name| limited.header(name).to_owned());
    assert_eq!((limited.status, headers), (403, ["0".to_owned(), "1060".to_owned()]));
    github.set_mode(Mode::SecondaryLimited);
    let limited = asker.get("/user", &token).await;
    assert_eq!((limited.status, limited.header("retry-after")), (403, "7"));
    assert!(limited.text.contains("secondary rate limit"));
    github.set_mode(Mode::TooMany);
    assert_eq!(asker.get("/user", &token).await.status, 429);
    github.set_mode(Mode::BrokenJson);
    let broken = asker.get("/user", &token).await;
    assert!(broken.status == 200 && serde_json::from_str::<Value>(&broken.text).is_err());
    github.set_mode(Mode::WrongShape);
    assert!(asker.get("/user", &token).await.json()["login"].is_null());
    github.set_mode(Mode::Html);
    assert!(asker.get("/user", &token).await.header("content-type").starts_with("text/html"));
    github.set_mode(Mode::Slow(Duration::from_millis(300)));
    let began = Instant::now();
    assert_eq!(asker.get("/user", &token).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300));
    github.forget();
    assert!(github.seen().is_empty());

    let url = github.api_url();
    drop((github, asker));
    let gone = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await;
    assert!(gone.is_err(), "it ends when it is dropped");
}
