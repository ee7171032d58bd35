//! `holdfast events`: beside a server that runs and without one; and what a start and a command leave in the record.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdfast::events::{Event, Kind, WhoKind};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::server::{Settings, program};
use crate::support::tarballs::Tarball;

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    let folder = data.parent().unwrap();
    command.args(arguments).arg("--data").arg(data).current_dir(folder);
    command.env_clear().env("HOME", folder).env("USER", "ann");
    command
}

/// What a command says: its exit code, stdout, stderr.
async fn run(data: PathBuf, arguments: &[&str]) -> (i32, String, String) {
    let mut command = command(&data, arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn parsed(lines: &str) -> Vec<Event> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_read_beside_a_server_and_without_one() {
    let mut server = Settings::alone().start().await;
    let http = server.http();
    let body = json!({ "name": "alice", "password": "correct horse battery" });
    let token = http.put("/-/user/org.couchdb.user:alice", &body).await.ok().json();
    let alice = http.with_token(token["token"].as_str().unwrap());
    alice.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    alice.publish(&Tarball::new("plain", "1.0.0")).await.ok();
    let (code, text, said) = run(server.data(), &["events"]).await;
    assert!(code == 0 && said.is_empty(), "{said}");
    assert!(
        text.lines()
            .any(|line| line.contains("  package.publish   alice                 @acme/tool@1.0.0  tag=latest")),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colour in a pipe");

    let publishes = ["events", "--json", "--kind", "package.publish"];
    let (_, lines, _) = run(server.data(), &publishes).await;
    let packages: Vec<_> = parsed(&lines).into_iter().filter_map(|event| event.package).collect();
    assert_eq!(packages, ["@acme/tool", "plain"]);
    for (more, expected) in [
        (&["--package", "@acme/*"][..], 1),
        (&["--who", "ALICE"], 2),
        (&["--who", "bob"], 0),
        (&["--refused"], 0),
        (&["--limit", "1"], 1),
        (&["--limit", "0"], 0),
        (&["--until", "1h"], 0),
        (&["--since", "2020-01-01"], 2),
    ] {
        let (_, lines, said) = run(server.data(), &[&publishes[..], more].concat()).await;
        assert_eq!(parsed(&lines).len(), expected, "{more:?}: {said}");
    }

    // What comes while it is followed.
    let mut follow = command(&server.data(), &["events", "--follow", "--json", "--kind", "package", "--limit", "1"]);
    let mut following = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(following.stdout.take().unwrap());
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        line
    });
    // It may begin after one of these, and not after all.
    let mut number = 0;
    while !line.is_finished() {
        number += 1;
        alice.publish(&Tarball::new("followed", &format!("1.{number}.0"))).await.ok();
    }
    assert_eq!(parsed(&line.await.unwrap())[0].package.as_deref(), Some("followed"));
    assert!(following.wait().unwrap().success());

    server.stop().await;
    let file = server.data().parent().unwrap().join("all.jsonl");
    let export = ["events", "--kind", "package", "--package", "plain", "--export", file.to_str().unwrap()];
    let (code, text, said) = run(server.data(), &export).await;
    assert!(code == 0 && text.is_empty() && said.contains("1 events are in"), "{said}");
    assert_eq!(parsed(&std::fs::read_to_string(&file).unwrap())[0].kind, Kind::Publish);
    let (code, _, said) = run(server.data(), &export).await;
    assert!(code != 0 && said.contains("is there already"), "{said}");
    for (wrong, part) in [
        (&["--since", "yesterday"][..], "no time such as"),
        (&["--kind", "pack"], "no kind of event"),
        (&["--package", "*x"], "is not a package name"),
    ] {
        let (code, _, said) = run(server.data(), &[&["events"], wrong].concat()).await;
        assert!(code != 0 && said.contains(part), "{wrong:?}: {said}");
    }
}

async fn settings_events(data: PathBuf) -> Vec<Value> {
    let (_, lines, _) = run(data, &["events", "--json", "--kind", "settings.change"]).await;
    parsed(&lines).into_iter().map(|event| Value::Object(event.details)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_others_are_told_by_their_keys() {
    let secret = "a-canary-secret";
    let mut server = Settings::alone().config("[cache]\nmemory_bytes = 1000000\n").stable_port().start().await;
    // The stop waits for what was begun.
    server.stop().await;
    let first = settings_events(server.data()).await;
    assert_eq!((first.len(), &first[0]["first"]), (1, &json!(true)));
    assert!(first[0]["keys"].as_array().unwrap().contains(&json!("cache.memory_bytes")), "{first:?}");
    let mut server = server.restart().await;
    server.stop().await;
    assert_eq!(settings_events(server.data()).await.len(), 1, "nothing has changed");
    let change = |settings: Settings| {
        settings
            .env("HOLDFAST__CACHE__MEMORY_BYTES", "2000000")
            .env("HOLDFAST__GITHUB__TOKEN", secret)
            .env("HOLDFAST__GITHUB__ORGANIZATIONS", "acme")
    };
    let mut server = server.restart_with(change).await;
    server.stop().await;
    let events = settings_events(server.data()).await;
    assert_eq!(events[1], json!({ "keys": ["cache.memory_bytes", "github.organizations", "github.token"] }));
    let kept = std::fs::read_to_string(server.data().join("-/settings/recorded.json")).unwrap();
    assert!(!kept.contains(secret) && kept.contains("github.token"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_commands_are_told_with_the_account_that_gave_them() {
    let mut server = Settings::alone().start().await;
    let (code, _, said) = run(server.data(), &["user", "add", "bob"]).await;
    assert_eq!(code, 0, "{said}");
    server.stop().await;
    let (code, _, said) = run(server.data(), &["user", "block", "bob"]).await;
    assert_eq!(code, 0, "{said}");
    run(server.data(), &["import", "codebox", "--dry-run"]).await;
    run(server.data(), &["import", "codebox", "--keep-frozen"]).await;
    let (_, lines, _) = run(server.data(), &["events", "--json", "--who", "ann"]).await;
    let events = parsed(&lines);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["user.create", "user.change", "admin.command"]);
    assert!(events.iter().all(|event| event.who.kind == WhoKind::Operator));
    assert_eq!(events[2].details["command"], "import codebox");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_whole_store_is_in_the_record_of_each_store_it_concerns() {
    let mut server = Settings::alone().start().await;
    let alice = server.http().create_user("alice", "correct horse battery").await;
    server.http().with_token(&alice).publish(&Tarball::new("tool", "1.0.0")).await.ok();
    server.stop().await;
    let data = server.data();
    let folder = data.parent().unwrap().to_owned();
    let at = |name: &str| folder.join(name).display().to_string();
    let commands = async |data: PathBuf| -> Vec<Value> {
        let (_, lines, said) = run(data, &["events", "--json", "--kind", "admin.command"]).await;
        assert!(said.is_empty(), "{said}");
        parsed(&lines).into_iter().map(|event| Value::Object(event.details)).collect()
    };
    let ok = async |data: PathBuf, arguments: &[&str]| {
        let (code, _, said) = run(data, arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {said}");
    };

    ok(data.clone(), &["index", "--dry-run"]).await;
    assert!(commands(data.clone()).await.is_empty());
    ok(data.clone(), &["index"]).await;
    assert_eq!(commands(data.clone()).await[0]["command"], "index");

    // A directory that is copied belongs to its server: only the copy is written to.
    let shown = data.display().to_string();
    let copy = ["migrate", "--from-store", &shown, "--to-store", &at("copy")];
    let run_here = async |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(&folder).env_clear().env("HOME", &folder).env("USER", "ann");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run_here(&copy).await;
    run_here(&[&copy[..], &["--dry-run"]].concat()).await;
    assert_eq!(commands(data.clone()).await.len(), 1);
    // Its own record is no part of what is copied: to be the same again does not take that away.
    run_here(&[&copy[..], &["--prune", "--yes", &at("copy")]].concat()).await;
    let told = commands(folder.join("copy")).await;
    let names: Vec<&Value> = told.iter().map(|details| &details["command"]).collect();
    assert_eq!(names, ["index", "migrate --to-store", "migrate --to-store"]);
    assert_eq!(told[2]["arguments"], json!({ "from": shown, "overwrite": false, "prune": true }));

    run_here(&["backup", "backup", "--data", &shown]).await;
    ok(folder.join("restored"), &["restore", "backup", "--dry-run"]).await;
    ok(folder.join("restored"), &["restore", "backup"]).await;
    ok(folder.join("restored"), &["restore", "backup", "--into-existing"]).await;
    let told = commands(folder.join("restored")).await;
    let names: Vec<&Value> = told.iter().map(|details| &details["command"]).collect();
    assert_eq!(names, ["index", "restore", "restore"]);
    assert_eq!(told[1]["arguments"], json!({ "from": "backup", "overwrite": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_rules_that_change_while_a_server_runs_are_told() {
    let mut server = Settings::alone().config("[cache]\nmemory_bytes = 1000000\n").stable_port().start().await;
    let changes = async || settings_events(server.data()).await;
    let told = async |count: usize| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while changes().await.len() < count {
            assert!(std::time::Instant::now() < deadline, "{:?}\n{}", changes().await, server.log().tail(20));
        }
    };
    told(1).await;
    server.rewrite_config("[cache]\nmemory_bytes = 1000000\n[log]\nlevel = \"debug\"\n");
    told(2).await;
    // Where the server was started, since the settings name none.
    let rules = server.data().parent().unwrap().join("home/policy.toml");
    let rule =
        "[[rule]]\nid = \"one\"\naction = \"deny\"\npackages = [\"left\"]\nauthor = \"ann\"\nreason = \"none\"\n";
    std::fs::write(&rules, rule).unwrap();
    told(3).await;
    // With a mistake the old ones stay in force: nothing has changed.
    std::fs::write(&rules, "[[rule]]\nid = 1\n").unwrap();
    let ready = async || server.http().get("/-/ready").await.ok().json();
    let deadline = std::time::Instant::now() + PATIENCE;
    while ready().await["policy"]["rules"] != "rejected" {
        assert!(std::time::Instant::now() < deadline, "{}", server.log().tail(20));
    }
    std::fs::write(&rules, format!("# The same.\n{rule}")).unwrap();
    while ready().await["policy"]["rules"] != "ok" {
        assert!(std::time::Instant::now() < deadline, "{}", server.log().tail(20));
    }
    server.stop().await;
    let keys: Vec<Value> =
        settings_events(server.data()).await.into_iter().map(|mut event| event["keys"].take()).collect();
    assert_eq!(keys[1..], [json!(["log.level"]), json!(["policy.rules"])]);
}
