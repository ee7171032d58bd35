//! What the tests of the policy take for granted of the upstream, of its signatures, and of the replayed incidents.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::app::{TestApp, behind, path_of};
use crate::support::http::Http;
use crate::support::incidents;
use crate::support::package::ago;
use crate::support::signing::{PREDICATE, RegistryKey, Signing};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Form, Package, Upstream};

const OLD: &str = "2026-05-01T09:00:00.000Z";
const NEW: &str = "2026-05-11T19:20:00.000Z";

#[tokio::test]
async fn times_are_what_the_test_says() {
    let package = Package::new("dated")
        .version("1.0.0")
        .version("1.1.0")
        .version("1.2.0")
        .version("1.3.0")
        .published("1.0.0", OLD)
        .published("1.1.0", NEW)
        .time_text("1.2.0", None)
        .time_text("1.3.0", Some("a while ago"))
        .gone("0.9.0", "2026-04-01T09:00:00.000Z");
    let upstream = Upstream::start([package.clone(), Package::new("old").version("1.0.0")]);
    let http = Http::new(upstream.url());
    let times = http.get("/dated").await.ok().json()["time"].clone();
    assert_eq!(
        times,
        json!({
            "created": "2026-04-01T09:00:00.000Z", "modified": NEW,
            "0.9.0": "2026-04-01T09:00:00.000Z", "1.0.0": OLD, "1.1.0": NEW, "1.3.0": "a while ago",
        })
    );
    assert!(http.get("/old").await.ok().text().contains("2020-01-02T00:00:00.000Z"));

    let short = http.get_abbreviated("/dated").await.ok().json();
    assert_eq!(short["modified"], NEW);
    assert!(short.get("time").is_none());
    upstream.set_abbreviates_with_times(true);
    assert_eq!(http.get_abbreviated("/dated").await.ok().json()["time"], times);
    assert_eq!(upstream.forms("dated"), [Form::Full, Form::Abbreviated, Form::Abbreviated]);

    for text in [None, Some("nonsense"), Some(OLD)] {
        upstream.put(&package.clone().modified_text(text));
        let short = http.get_abbreviated("/dated").await.ok().json();
        assert_eq!(short.get("modified").and_then(Value::as_str), text);
    }
    assert!(ago(Duration::from_secs(10)) < ago(Duration::ZERO));
}

#[tokio::test]
async fn versions_say_what_the_test_says() {
    let package = Package::new("@fix/told")
        .version("1.0.0")
        .version("1.1.0")
        .tarball(Tarball::new("@fix/told", "1.2.0").file("binding.gyp", "{}"))
        .licence("1.1.0", "GPL-3.0-only")
        .scripts("1.1.0", &[("preinstall", "node look.js"), ("test", "true")])
        .provenance("1.1.0")
        .trusted_publisher("1.1.0", "github")
        .approver("1.1.0", "alice")
        .says("1.2.0", "license", json!("Apache-2.0"))
        .deprecated("1.0.0", "old");
    let upstream = Upstream::start([package]);
    let http = Http::new(upstream.url());
    let full = http.get("/@fix%2ftold").await.ok().json()["versions"].clone();
    let short = http.get_abbreviated("/@fix%2ftold").await.ok().json()["versions"].clone();
    let licences = ["1.0.0", "1.1.0", "1.2.0"].map(|version| full[version]["license"].clone());
    assert_eq!(licences, ["MIT", "GPL-3.0-only", "Apache-2.0"]);
    let scripted = ["1.0.0", "1.1.0", "1.2.0"].map(|version| short[version]["hasInstallScript"] == true);
    assert_eq!(scripted, [false, true, true]);
    assert_eq!(full["1.1.0"]["_npmUser"]["trustedPublisher"]["id"], "github");
    assert_eq!(full["1.1.0"]["_npmUser"]["approver"]["name"], "alice");
    assert!(short["1.1.0"].get("_npmUser").is_none());
    assert_eq!(full["1.0.0"]["deprecated"], "old");
    assert!(full["1.0.0"]["dist"].get("attestations").is_none());
    for versions in [&full, &short] {
        assert_eq!(versions["1.1.0"]["dist"]["attestations"]["provenance"]["predicateType"], PREDICATE);
    }

    let url = full["1.1.0"]["dist"]["attestations"]["url"].as_str().unwrap();
    let path = url.strip_prefix(upstream.url()).unwrap();
    assert_eq!(http.get(path).await.ok().json()["attestations"][0]["predicateType"], PREDICATE);
    assert_eq!(http.get(&path.replace("1.1.0", "1.0.0")).await.status, 404);
}

/// Whether a signature of a version is by the key of the list that it names.
fn verifies(version: &Value, keys: &Value) -> bool {
    let signature = &version["dist"]["signatures"][0];
    let decode = |text: &Value| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap_or_default();
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["keyid"] == signature["keyid"]).unwrap();
    let der = decode(&key["key"]);
    // The point at the end; what is before it says that it is one of P-256.
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der[der.len() - 65..]);
    let [name, number] = ["name", "version"].map(|member| version[member].as_str().unwrap());
    let text = format!("{name}@{number}:{}", version["dist"]["integrity"].as_str().unwrap());
    key.verify(text.as_bytes(), &decode(&signature["sig"])).is_ok()
}

#[tokio::test]
async fn right_signatures_verify_and_wrong_ones_do_not() {
    let key = RegistryKey::generate();
    let wrong = [Signing::BrokenSignature, Signing::OfAnotherVersion, Signing::ByAnotherKey, Signing::Garbled];
    let mut package = Package::new("signed").version("1.0.0").signed("1.0.0", &key, Signing::Right).version("2.0.0");
    for (number, signing) in wrong.into_iter().enumerate() {
        let version = format!("1.{}.0", number + 1);
        package = package.version(&version).signed(&version, &key, signing);
    }
    let upstream = Upstream::start([package, Package::new("all").version("1.0.0").version("2.0.0").all_signed(&key)]);
    let http = Http::new(upstream.url());
    assert_eq!(http.get("/-/npm/v1/keys").await.status, 404);
    upstream.set_keys([RegistryKey::generate().entry_until(OLD), key.entry()]);
    let keys = http.get("/-/npm/v1/keys").await.ok().json();
    assert_eq!([&keys["keys"][0]["expires"], &keys["keys"][1]["expires"]], [&json!(OLD), &Value::Null]);
    assert!(key.id().starts_with("SHA256:") && key.id().len() == 50, "{}", key.id());

    let versions = http.get("/signed").await.ok().json()["versions"].clone();
    assert!(verifies(&versions["1.0.0"], &keys));
    for (number, signing) in wrong.into_iter().enumerate() {
        assert!(!verifies(&versions[format!("1.{}.0", number + 1)], &keys), "{signing:?}");
    }
    assert!(versions["2.0.0"]["dist"].get("signatures").is_none());
    for version in http.get("/all").await.ok().json()["versions"].as_object().unwrap().values() {
        assert!(verifies(version, &keys));
    }

    upstream.set(Fault::StatusAt("/-/npm/v1/keys", 503));
    assert_eq!(http.get("/-/npm/v1/keys").await.status, 503);
    assert_eq!(http.get("/signed").await.status, 200);
}

/// What `latest` is of a package of the upstream.
async fn latest(http: &Http, name: &str) -> Value {
    let answer = http.get(&path_of(name)).await;
    if answer.status == 404 { Value::Null } else { answer.ok().json()["dist-tags"]["latest"].clone() }
}

#[tokio::test]
async fn an_incident_comes_and_goes() {
    let upstream = Upstream::start([]);
    let http = Http::new(upstream.url());
    let axios = incidents::axios();
    let mut seen = Vec::new();
    for instant in axios.changes() {
        axios.put(&upstream, instant);
        let row = (latest(&http, "axios").await, latest(&http, "plain-crypto-js").await);
        seen.push((instant.to_string()[11..16].to_owned(), row.0, row.1));
    }
    assert_eq!(
        json!(seen),
        json!([
            ["05:57", "1.14.0", "4.2.0"],
            ["23:59", "1.14.0", "4.2.1"],
            ["00:21", "1.14.1", "4.2.1"],
            ["01:00", "1.14.1", "4.2.1"],
            ["03:15", "1.14.0", "4.2.1"],
            ["03:25", "1.14.0", null],
            ["04:26", "1.14.0", "0.0.1-security.0"],
        ])
    );
    let document = http.get("/axios").await.ok().json();
    assert_eq!(document["dist-tags"]["legacy"], "0.30.3");
    assert_eq!(document["time"]["modified"], "2026-03-31T03:15:00.000Z");
    assert!(document["time"]["1.14.1"].is_string() && document["versions"].get("1.14.1").is_none());
}

#[tokio::test]
async fn every_incident_would_have_reached_those_who_asked() {
    let upstream = Upstream::start([]);
    let http = Http::new(upstream.url());
    for incident in incidents::all() {
        let (begin, end) = incident.window();
        assert!(begin < end, "{}", incident.name);
        let mut reached: Vec<(String, String)> = Vec::new();
        for instant in incident.changes() {
            incident.put(&upstream, instant);
            for package in incident.packages_at(instant) {
                let document = http.get(&path_of(package.name())).await.ok().json();
                for (version, manifest) in document["versions"].as_object().unwrap() {
                    let is_bad = incident.is_bad(package.name(), version);
                    let is_scripted = manifest["scripts"].is_object();
                    assert!(is_bad || !is_scripted, "{}@{version} is good and has a script", package.name());
                    if is_bad {
                        assert!(instant < end, "{}@{version} is there at the end", package.name());
                        reached.push((package.name().to_owned(), version.clone()));
                    }
                }
            }
        }
        for (package, _) in incident.wanted {
            assert!(reached.iter().any(|(name, _)| name == package), "{}: {package} was never bad", incident.name);
        }
    }
}

#[tokio::test]
async fn an_incident_can_be_walked_with_a_held_clock() {
    let tanstack = incidents::tanstack();
    let upstream = Upstream::start([]);
    let app = TestApp::at(tanstack.window().0, |settings| behind(settings, &upstream, &[]));
    for instant in tanstack.changes() {
        app.advance_to(instant);
        tanstack.put(&upstream, instant);
        let document = app.anybody().document("@tanstack/react-router").await;
        assert!(document["versions"]["1.169.2"].is_object(), "{instant}");
        let version = &document["versions"]["1.169.2"];
        assert_eq!(version["_npmUser"]["trustedPublisher"]["id"], "github");
    }
    assert_eq!(app.clock.now(), tanstack.window().1);
}
