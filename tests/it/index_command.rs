//! `holdfast index`: more packages than the older system's command could take, and sinks that fail in the middle.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::receiver::{Mood, Receiver};
use crate::support::server::{Settings, program};
use crate::support::tarballs::Tarball;

/// More than one list request of S3 tells, where the older system's command ended.
const PACKAGES: usize = 1_203;

fn name(number: usize) -> String {
    format!("tool-{number:04}")
}

/// A document as an older system left it.
fn document(name: &str) -> Vec<u8> {
    let manifest = json!({ "name": name, "version": "1.0.0", "description": "Does it", "license": "MIT", "dist": {} });
    let document =
        json!({ "_id": name, "name": name, "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": manifest } });
    document.to_string().into_bytes()
}

/// Fills a folder with that many packages.
fn packages(folder: &Path) {
    for number in 0..PACKAGES {
        std::fs::create_dir_all(folder.join(name(number))).unwrap();
        std::fs::write(folder.join(name(number)).join("index.json"), document(&name(number))).unwrap();
    }
}

fn run(data: &Path, receiver: Option<&Receiver>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(program());
    command.arg("index").args(arguments).arg("--data").arg(data).current_dir(data).env_clear().env("HOME", data);
    if let Some(receiver) = receiver {
        for (key, value) in
            [("KIND", "insights"), ("URL", &receiver.url("/v1/send")), ("CLIENT_ID", "id"), ("SECRET", "hush")]
        {
            command.env(format!("HOLDFAST__SINKS__OTHER__{key}"), value);
        }
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_package_is_told_in_order_and_where_it_stopped_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    packages(folder.path());
    let receiver = Receiver::start();
    let (code, text, said) = run(folder.path(), Some(&receiver), &["--sinks", "--dry-run", "--json"]);
    assert_eq!((code, receiver.received().len()), (0, 0), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["packages"], PACKAGES);

    let (code, text, said) = run(folder.path(), Some(&receiver), &["--sinks", "--json"]);
    assert_eq!(code, 0, "{text}{said}");
    let received = receiver.received();
    let told: Vec<String> =
        received.iter().map(|received| received.json()["body"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, (0..PACKAGES).map(name).collect::<Vec<_>>());
    let body = received[7].json();
    assert_eq!(body["namespace"], "info:package:put");
    assert_eq!(body["credentials"], json!({ "clientId": "id", "secret": "hush" }));
    assert_eq!(body["body"]["dist-tags"], json!({ "latest": "1.0.0" }));
    assert_eq!(received[7].header("authorization"), "");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["sinks"]["other"]["arrived"], PACKAGES);

    receiver.become_(Mood::Status(500));
    let (code, text, _) = run(folder.path(), Some(&receiver), &["--sink", "other", "--after", &name(1_000), "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["is_stopped"], &report["last"]), (1, &json!(true), &Value::Null), "{text}");
    receiver.become_(Mood::Status(200));
    let before = receiver.received().len();
    let (code, _, said) = run(folder.path(), Some(&receiver), &["--sink", "other", "--after", &name(1_200)]);
    assert_eq!((code, receiver.received().len() - before), (0, 2), "{said}");

    let (code, _, said) = run(folder.path(), Some(&receiver), &["--sink", "unknown"]);
    assert!(code != 0 && said.contains("there is no sink `unknown`"), "{said}");
    let (code, _, said) = run(folder.path(), None, &["--sinks"]);
    assert!(code != 0 && said.contains("no sinks are set"), "{said}");
}

#[tokio::test]
async fn search_is_made_anew() {
    let mut server = Settings::alone().file("old/index.json", document("old")).start().await;
    let token = server.http().create_user("alice", "correct horse battery").await;
    server.http().with_token(&token).publish(&Tarball::new("new", "1.0.0")).await.ok();
    let data = server.data();
    let (code, _, said) = run(&data, None, &[]);
    assert!(code != 0 && said.contains("stop it first"), "{said}");
    server.stop().await;
    std::fs::remove_dir_all(data.join("new")).unwrap();
    std::fs::create_dir_all(data.join("damaged")).unwrap();
    std::fs::write(data.join("damaged/index.json"), "{").unwrap();
    let (code, text, said) = run(&data, None, &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["packages"], &report["unreadable_names"]), (1, &json!(2), &json!(["damaged"])), "{said}");
    let server = server.restart().await;
    let found = server.http().get("/-/v1/search?text=old").await.ok().json();
    assert_eq!((&found["total"], &found["objects"][0]["package"]["name"]), (&json!(1), &json!("old")));
    assert_eq!(server.http().get("/-/v1/search?text=new").await.ok().json()["total"], 0);
}
