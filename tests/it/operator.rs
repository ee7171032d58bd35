//! `holdfast user`, `token`, `trust`, `login` and `config explain`: with a server that runs, and without one.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::github::GitHub;
use crate::support::http::Http;
use crate::support::server::{Server, Settings, program};
use crate::support::tarballs::Tarball;

/// Runs a command on a data directory; what it writes to stdout, trimmed.
async fn run(data: &Path, arguments: &[&str]) -> Result<String, String> {
    run_with(data, arguments, "").await
}

async fn run_with(data: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let output = output(data, arguments, input).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

async fn output(data: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).arg("--data").arg(data).current_dir(data.parent().unwrap());
    command.env_clear().env("HOME", data.parent().unwrap()).env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let finish = move || {
        use std::io::Write as _;
        let mut child = command.spawn().unwrap();
        // A command that does not read its input has closed it by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(finish).await.unwrap()
}

async fn sign_in(http: &Http, name: &str, password: &str) -> Result<String, u16> {
    let body = json!({ "name": name, "password": password, "type": "user" });
    let answer = http.put(&format!("/-/user/org.couchdb.user:{name}"), &body).await;
    answer.json()["token"].as_str().map(ToOwned::to_owned).ok_or(answer.status.as_u16())
}

fn closed() -> Settings {
    Settings::alone().config("[access]\nregistration = \"closed\"\n")
}

#[tokio::test]
async fn accounts_are_made_while_the_server_runs_and_while_it_does_not() {
    let mut server = closed().start().await;
    let data = server.data();
    let made = run(&data, &["user", "add", "ann", "--email", "ann@example.test"]).await.unwrap();
    assert!(made.len() > 30, "a password that was made: {made}");
    let token = sign_in(&server.http(), "ann", &made).await.unwrap();
    assert_eq!(sign_in(&server.http(), "eve", &made).await, Err(401));
    let why = run(&data, &["user", "add", "ANN"]).await.unwrap_err();
    assert!(why.contains("taken"), "{why}");

    // Blocked at once, also for a token that the server remembers.
    let ann = server.http().with_token(&token);
    ann.get("/-/whoami").await.ok();
    run(&data, &["user", "block", "ann"]).await.unwrap();
    assert_eq!(ann.get("/-/whoami").await.status, 401);
    run(&data, &["user", "unblock", "ann"]).await.unwrap();
    ann.get("/-/whoami").await.ok();

    server.stop().await;
    run_with(&data, &["user", "add", "bob", "--password-stdin"], "correct horse\n").await.unwrap();
    run_with(&data, &["user", "password", "ann", "--password-stdin"], "battery staple").await.unwrap();
    let users: Value = serde_json::from_str(&run(&data, &["user", "list", "--json"]).await.unwrap()).unwrap();
    let names: Vec<&str> = users.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert!(run(&data, &["user", "list"]).await.unwrap().contains("ann@example.test"));

    let server = server.restart().await;
    sign_in(&server.http(), "bob", "correct horse").await.unwrap();
    sign_in(&server.http(), "ann", "battery staple").await.unwrap();
    assert_eq!(sign_in(&server.http(), "ann", &made).await, Err(401));
    let why = run(&data, &["user", "remove", "bob"]).await.unwrap_err();
    assert!(why.contains("--yes bob"), "{why}");
    run(&data, &["user", "remove", "bob", "--yes", "bob"]).await.unwrap();
    assert_eq!(sign_in(&server.http(), "bob", "correct horse").await, Err(401));
    let why = run(&data, &["user", "remove", "bob", "--yes", "bob"]).await.unwrap_err();
    assert!(why.contains("no such user"), "{why}");
}

#[tokio::test]
async fn an_htpasswd_file_is_taken_over() {
    let server = closed().start().await;
    let file = server.data().parent().unwrap().join("htpasswd");
    // Of `secret`, by `openssl passwd -apr1` and as `{SHA}`.
    let text = "ann:$apr1$8sFt66rZ$eup.HOtZcQ/VrnApBM3rR/\nbob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nno colon\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let done: Value =
        serde_json::from_str(&run(&server.data(), &["user", "import", &file, "--json"]).await.unwrap()).unwrap();
    assert_eq!(done["made"], json!(["ann", "bob"]));
    assert_eq!(done["left_out"][0]["line"], 3);
    sign_in(&server.http(), "bob", "secret").await.unwrap();
    let again: Value =
        serde_json::from_str(&run(&server.data(), &["user", "import", &file, "--json"]).await.unwrap()).unwrap();
    assert_eq!(again["made"], json!([]));
}

#[tokio::test]
async fn an_invitation_is_the_address_of_a_page() {
    let server = Settings::alone().config("[access]\nregistration = \"invitation\"\n").start().await;
    let url = run(&server.data(), &["user", "invite", "--name", "ann", "--days", "1"]).await.unwrap();
    let path = &url[url.find("/-/invite/").unwrap()..];
    let page = server.http().get(path).await.ok();
    assert!(page.text().contains("ann"), "{}", page.text());
    let form = "name=ann&password=correct+horse&again=correct+horse&email=";
    let header = [("content-type", "application/x-www-form-urlencoded")];
    let answer = server.http().send(Method::POST, path, &header, form.into()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    sign_in(&server.http(), "ann", "correct horse").await.unwrap();
    assert_eq!(server.http().get(path).await.status, 404);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let server = closed().start().await;
    let data = server.data();
    run(&data, &["user", "add", "ci"]).await.unwrap();
    let full = run(&data, &["token", "create", "ci"]).await.unwrap();
    let limited =
        run(&data, &["token", "create", "ci", "--name", "install", "--read-only", "--days", "30"]).await.unwrap();
    let publish = |token: &str, version: &str| {
        let http = server.http().with_token(token);
        let tarball = Tarball::new("@acme/tool", version);
        async move { http.publish(&tarball).await.status.as_u16() }
    };
    assert_eq!(publish(&full, "1.0.0").await, 201);
    assert_eq!(publish(&limited, "1.1.0").await, 403);
    server.http().with_token(&limited).get("/@acme%2ftool").await.ok();
    let tokens: Value = serde_json::from_str(&run(&data, &["token", "list", "ci", "--json"]).await.unwrap()).unwrap();
    assert_eq!(tokens[0]["name"], "install");
    assert_eq!(tokens[0]["read_only"], true);
    assert!(!tokens.to_string().contains(&limited));
    let key = &tokens[0]["key"].as_str().unwrap()[..12];
    run(&data, &["token", "revoke", "ci", key]).await.unwrap();
    assert_eq!(server.http().with_token(&limited).get("/-/whoami").await.status, 401);
    server.http().with_token(&full).get("/-/whoami").await.ok();
    for (arguments, part) in [
        (&["token", "revoke", "ci", key][..], "no such token"),
        (&["token", "create", "nobody"][..], "no such user"),
        (&["token", "create", "ci", "--package", "lod*"][..], "lod*"),
        (&["token", "create", "ci", "--days", "0"][..], "from 1 to"),
    ] {
        let why = run(&data, arguments).await.unwrap_err();
        assert!(why.contains(part), "{arguments:?}: {why}");
    }
}

#[tokio::test]
async fn workflows_are_trusted_by_an_operator() {
    let server = closed().start().await;
    let data = server.data();
    let add = ["trust", "add", "@acme/tool", "--repository", "acme/tool", "--workflow", "release.yml"];
    run(&data, &add).await.unwrap();
    let why = run(&data, &add).await.unwrap_err();
    assert!(why.contains("already"), "{why}");
    let listed: Value =
        serde_json::from_str(&run(&data, &["trust", "list", "@acme/tool", "--json"]).await.unwrap()).unwrap();
    assert_eq!(listed[0]["actions"], json!(["publish", "tag"]));
    let id = listed[0]["id"].as_str().unwrap();
    assert!(run(&data, &["trust", "list", "@acme/tool"]).await.unwrap().contains(id));
    run(&data, &["trust", "remove", "@acme/tool", id]).await.unwrap();
    assert_eq!(run(&data, &["trust", "list", "@acme/tool", "--json"]).await.unwrap(), "[]");
    let why = run(&data, &["trust", "add", "@acme/tool", "--repository", "acme/tool"]).await.unwrap_err();
    assert!(why.contains("workflow"), "{why}");
}

#[tokio::test]
async fn a_decision_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::write(
        folder.path().join("holdfast.toml"),
        "[github]\nclient_id = \"x\"\norganizations = [\"acme\"]\n[[package]]\nname = \"@acme/*\"\nread = [\"github:org/acme\"]\npublish = [\"github:team/acme/platform\"]\n",
    )
    .unwrap();
    let explain = |arguments: &'static [&'static str]| {
        let data = data.clone();
        async move {
            let output = output(&data, &[&["config", "explain"], arguments].concat(), "").await;
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        }
    };
    let (code, text) = explain(&[
        "--as",
        "github:ann",
        "--member-of",
        "acme",
        "--member-of",
        "acme/platform",
        "--action",
        "publish",
        "@acme/x",
    ])
    .await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the rule for `@acme/*` decides") && text.contains("`github:team/acme/platform`"), "{text}");
    let (code, text) =
        explain(&["--as", "github:ann", "--member-of", "acme", "--action", "publish", "@acme/x", "--json"]).await;
    assert_eq!(code, Some(1), "{text}");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["allowed"], &json["rule"]), (&json!(false), &json!("@acme/*")));
    let (_, text) = explain(&["--as", "github:eve", "--action", "read", "@acme/x"]).await;
    assert!(text.contains("403") && text.contains("cannot sign in: not a member of acme"), "{text}");
    let (_, text) = explain(&["--as", "github:eve", "--member-of", "ACME/other", "--action", "read", "left"]).await;
    assert!(text.contains("yes"), "{text}");
    let (_, text) = explain(&["--as", "bob", "--action", "read", "@acme/x"]).await;
    assert!(text.contains("404"), "{text}");
    let (_, text) = explain(&["--action", "read", "left"]).await;
    assert!(text.contains("401"), "{text}");
}

#[tokio::test]
async fn wrong_rules_stop_the_start_with_all_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[[package]]\nname = \"@acme/*\"\nread = [\"github:org/acme\"]\n[[package]]\nname = \"@acme/*\"\npublish = [\"anyone\"]\n";
    std::fs::write(folder.path().join("holdfast.toml"), toml).unwrap();
    let why = run(&folder.path().join("data"), &["serve", "--no-upstream"]).await.unwrap_err();
    for part in ["GitHub is not set up", "stands twice", "`anyone` can never change"] {
        assert!(why.contains(part), "{part} is missing in:\n{why}");
    }
}

#[tokio::test]
async fn a_console_without_a_browser_signs_in_by_a_code() {
    let github = GitHub::start().await;
    github.add_user("ann");
    github.add_member("acme", "ann", false);
    let server = with_github(&github).start().await;
    let url = server.url();
    let mut command = Command::new(program());
    command.args(["login", "--registry", &url, "--print"]).env_clear().env("HOME", server.data());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = tokio::task::spawn_blocking(move || command.spawn().unwrap()).await.unwrap();
    // The server asks GitHub for the code before the command shows it.
    let code = loop {
        let asked = github.device_codes();
        if let Some(code) = asked.first() {
            break code.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    github.approve_device(&code, "ann");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (told, token) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{told}");
    assert!(told.contains(&code), "{told}");
    let whoami = server.http().with_token(token.trim()).get("/-/whoami").await.ok().json();
    assert_eq!(whoami["username"], "ann");
}

fn with_github(github: &GitHub) -> Settings {
    Settings::alone()
        .config(&format!(
            "[github]\napi_url = \"{}\"\nweb_url = \"{}\"\nclient_id = \"{}\"\norganizations = [\"acme\"]\n",
            github.api_url(),
            github.web_url(),
            GitHub::CLIENT_ID,
        ))
        .env("HOLDFAST__GITHUB__CLIENT_SECRET", GitHub::CLIENT_SECRET)
}

/// A server whose socket cannot be made, here because a file is in the way, still serves.
#[tokio::test]
async fn a_server_that_can_take_no_orders_says_so_and_serves() {
    let mut server: Server = closed().start().await;
    server.stop().await;
    let folder = server.data().join("-/control");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let server = server.restart().await;
    server.http().get("/-/ping").await.ok();
    let why = run(&server.data(), &["user", "list"]).await.unwrap_err();
    assert!(why.contains("takes no orders"), "{why}");
    assert!(server.log().text().contains("can give no orders"), "{}", server.log().tail(20));
}
