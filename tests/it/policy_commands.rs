//! `holdfast policy`: as somebody types it, with a server that runs and without one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::package::{Package, ago};
use crate::support::server::{Settings, program};
use crate::support::upstream::Upstream;

/// What a command says: its exit code, stdout, stderr.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("USER", "ann")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn young() -> Upstream {
    let package = ["1.0.0", "1.1.0", "2.0.0"].into_iter().fold(Package::new("left"), Package::version);
    let package = package.published("1.1.0", &ago(Duration::from_hours(2)));
    Upstream::start([package.published("2.0.0", &ago(Duration::from_hours(1)))])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withheld_is_explained_and_let_through() {
    let upstream = young();
    let mut server = Settings::upstream(upstream.url()).start().await;
    let (folder, url) = (server.data().parent().unwrap().to_owned(), server.url());
    let data = server.data().display().to_string();
    let (code, text, _) = run(&folder, &["policy", "explain", "left@1", "--registry", &url]);
    assert_eq!(code, 0);
    for part in
        ["1 versions are offered", "left@1.1.0 is withheld until", "rule     hold", "holdfast policy waive left@1.1.0"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("left@2.0.0 is withheld"), "{text}");
    let (_, text, _) = run(&folder, &["policy", "explain", "left", "--json", "--registry", &url]);
    let explained: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(explained["withheld"].as_array().unwrap().len(), 2);

    let waive = ["policy", "waive", "left@1.1.0", "--reason", "needed", "--for", "3d", "--data", &data];
    let (code, _, said) = run(&folder, &waive);
    assert!(code == 0 && said.contains("left@1.1.0 is let through until"), "{said}");
    let document = server.http().get("/left").await.ok().json();
    assert_eq!(document["dist-tags"]["latest"], "1.1.0");
    let (_, text, _) = run(&folder, &["policy", "waivers", "--json", "--data", &data]);
    let waivers: Value = serde_json::from_str(&text).unwrap();
    assert!(waivers[0]["by"].as_str().unwrap().starts_with("ann@"), "{waivers}");
    assert_eq!(waivers[0]["upstream"], "default");

    // In force after a restart, and taken back while no server runs.
    server.stop().await;
    let id = waivers[0]["id"].as_str().unwrap();
    let (code, _, said) = run(&folder, &["policy", "unwaive", id, "--data", &data]);
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = run(&folder, &["policy", "unwaive", id, "--data", &data]);
    assert!(code == 1 && said.contains("there is no waiver"), "{said}");
    let server = server.restart().await;
    assert_eq!(server.http().get("/left").await.ok().json()["dist-tags"]["latest"], "1.0.0");
}

#[test]
fn a_waiver_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (vec!["left", "--reason", " "], "needs a reason"),
        (vec!["left", "--reason", "x", "--for", "soon"], "no time such as"),
        (vec!["left", "--reason", "x", "--for", "900d"], "a minute to a year"),
        (vec!["left@latest", "--reason", "x"], "not a valid semantic version"),
        (vec!["../left", "--reason", "x"], "../left"),
        (vec!["left"], "--reason"),
    ] {
        let (code, _, said) = run(folder.path(), &[&["policy", "waive"], arguments.as_slice()].concat());
        assert!(code != 0 && said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn rules_are_validated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.toml");
    let good = "[[rule]]\nid = \"a\"\naction = \"deny\"\npackages = [\"left\"]\nauthor = \"ann\"\nreason = \"no\"\n";
    std::fs::write(&file, good).unwrap();
    let (code, _, said) = run(folder.path(), &["policy", "validate", "rules.toml"]);
    assert!(code == 0 && said.contains("1 rules, all good"), "{said}");
    std::fs::write(&file, good.replace("action", "acton")).unwrap();
    let (code, text, _) = run(folder.path(), &["policy", "validate", "rules.toml"]);
    assert!(code == 1 && text.contains("`acton` is nothing that a rule has"), "{text}");
    // The same stops the start, with where it stands.
    std::fs::rename(&file, folder.path().join("policy.toml")).unwrap();
    let (code, _, said) = run(folder.path(), &["serve", "--no-upstream", "--listen", "127.0.0.1:0"]);
    assert!(code == 1 && said.contains("`acton`") && said.contains("policy.toml"), "{said}");
    let (code, text, _) = run(folder.path(), &["policy", "validate", "missing.toml"]);
    assert!(code == 1 && text.contains("cannot be read"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_an_account_gets_the_token_of_npmrc() {
    let upstream = young();
    let closed = "[access]\nanonymous_read = \"closed\"\nregistration = \"open\"\n";
    let server = Settings::upstream(upstream.url()).config(closed).start().await;
    let (folder, url) = (server.data().parent().unwrap().to_owned(), server.url());
    let (code, _, said) = run(&folder, &["policy", "explain", "left", "--registry", &url]);
    assert!(code == 1 && said.contains("needs an account"), "{said}");
    let token = server.http().create_user("ann", "correct horse battery").await;
    let key = url.split_once(':').unwrap().1;
    std::fs::write(folder.join(".npmrc"), format!("{key}:_authToken={token}\n")).unwrap();
    let (code, text, said) = run(&folder, &["policy", "explain", "left", "--registry", &url]);
    assert!(code == 0 && text.contains("left@2.0.0 is withheld"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lockfile_that_cannot_be_read_is_told() {
    let server = Settings::alone().start().await;
    let (folder, url) = (server.data().parent().unwrap().to_owned(), server.url());
    for (file, text, part) in [
        ("package-lock.json", "{", "JSON"),
        ("notes.txt", "hello", "package-lock.json"),
        ("package-lock.json", "<<<<<<< HEAD\n{}", "merge"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
        let (code, _, said) = run(&folder, &["policy", "check", file, "--registry", &url]);
        assert!(code == 1 && said.contains(part), "{file}: {said}");
    }
    let (code, _, said) = run(&folder, &["policy", "check", "missing.json", "--registry", &url]);
    assert!(code == 1 && said.contains("missing.json"), "{said}");
    let lock = json!({ "lockfileVersion": 3, "packages": { "node_modules/left": { "version": "1.0.0", "resolved": "https://registry.example/left/-/left-1.0.0.tgz" } } });
    std::fs::write(folder.join("package-lock.json"), lock.to_string()).unwrap();
    let (code, text, said) = run(&folder, &["policy", "check", "package-lock.json", "--registry", &url]);
    assert!(
        code == 1 && text.contains("left@1.0.0: missing") && said.contains("1 packages: 1 missing"),
        "{text}{said}"
    );
}
