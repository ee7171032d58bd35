//! Which versions of an upstream are offered, by every way in which one can be asked for. The clock is held.

use std::time::Duration;

use holdfast::events::Kind;
use holdfast::policy::{Control, UpstreamSwitches};
use holdfast::settings::{AdvisorySource, Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, behind, refused};
use crate::support::http::INSTALL_ACCEPT;
use crate::support::package::Package;
use crate::support::signing::{RegistryKey, Signing};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Fault, Form, Upstream};

const HOUR: Duration = Duration::from_hours(1);
/// Half a day before the clocks start.
const YOUNG: &str = "2026-11-23T00:00:00.000Z";
/// When what is that young has been held for 72 hours.
const MATURE: &str = "2026-11-26T00:00:00.000Z";

/// Two old releases, a young one that is `latest`, and prereleases of both ages.
fn left() -> Package {
    let package = ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0-beta.9", "2.0.0-rc.2", "1.2.0"];
    package
        .into_iter()
        .fold(Package::new("left"), Package::version)
        .tag("next", "2.0.0-rc.2")
        .tag("old", "1.0.0")
        .published("1.2.0", YOUNG)
        .published("2.0.0-rc.2", YOUNG)
}

fn app(upstream: &Upstream, change: impl FnOnce(&mut Settings)) -> TestApp {
    TestApp::with(|settings| {
        behind(settings, upstream, &["@acme/*"]);
        change(settings);
    })
}

fn versions(document: &Value) -> Vec<String> {
    document["versions"].as_object().unwrap().keys().cloned().collect()
}

/// A refusal by the policy, with all that a person and a script want to know.
#[track_caller]
fn withheld(answer: &crate::support::http::Answer, code: &str) -> Value {
    refused(answer, 403);
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    for member in ["reason", "rule", "allowed_if"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
    }
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("npm-notice").is_empty());
    body
}

#[tokio::test]
async fn young_versions_are_withheld_on_every_path() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |_| {});
    for accept in ["application/json", INSTALL_ACCEPT] {
        let answer = app.anybody().get_with("/left", &[("accept", accept)]).await.ok();
        let document = answer.json();
        assert_eq!(versions(&document), ["1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0-beta.9"]);
        // Not 1.0.0, and for the prerelease not the beta, which is no candidate.
        assert_eq!(document["dist-tags"], json!({ "latest": "1.1.0", "next": "2.0.0-rc.1", "old": "1.0.0" }));
        assert!(document["time"].get("1.2.0").is_none() && document["time"].get("1.1.0").is_some());
        let restrictions = &document["policyRestrictions"];
        assert_eq!(restrictions["versions"]["1.2.0"]["version"], "1.2.0");
        assert!(restrictions["message"].as_str().unwrap().contains("left@1.2.0 is withheld"));
        // As of what is offered, nothing has changed since the newest of it.
        let modified = if accept == INSTALL_ACCEPT { &document["modified"] } else { &document["time"]["modified"] };
        assert_eq!(*modified, "2020-01-02T03:00:00.000Z");
        assert!(answer.header("npm-notice").contains("left@1.2.0 is withheld until 2026-11-26T00:00:00.000Z, 1.1.0"));
        assert_eq!(answer.header("last-modified"), "");
        assert_eq!(answer.header("cache-control"), "public, no-cache");
    }
    for (wanted, found) in [("latest", "1.1.0"), ("^1.0.0", "1.1.0"), ("next", "2.0.0-rc.1"), ("1.0.0", "1.0.0")] {
        let version = app.anybody().get(&format!("/left/{wanted}")).await.ok().json();
        assert_eq!(version["version"], found, "{wanted}");
    }
    for wanted in ["1.2.0", "v1.2.0", "~1.2", "2.0.0-rc.2"] {
        withheld(&app.anybody().get(&format!("/left/{wanted}")).await, "held");
    }
    let tags = app.anybody().get("/-/package/left/dist-tags").await.ok().json();
    assert_eq!(tags, json!({ "latest": "1.1.0", "next": "2.0.0-rc.1", "old": "1.0.0" }));
    for file in ["left-1.2.0.tgz", "left-1.2.0+build.tgz"] {
        let body = withheld(&app.anybody().get(&format!("/left/-/{file}")).await, "held");
        assert_eq!((&body["available_at"], &body["rule"]), (&json!(MATURE), &json!("hold")));
        assert_eq!((&body["package"], &body["version"]), (&json!("left"), &json!("1.2.0")));
        assert!(body["error"].as_str().unwrap().contains("holdfast policy waive left@1.2.0"), "{body}");
    }
    assert_eq!(upstream.count("/left/-/left-1.2.0.tgz"), 0);
    app.anybody().get("/left/-/left-1.1.0.tgz").await.ok();
    app.anybody().get("/left/9.9.9").await.status_is(404);
}

/// Not every registry takes the build metadata off.
#[tokio::test]
async fn a_version_is_withheld_in_every_spelling() {
    let package = Package::new("built").version("1.0.0").version("1.1.0+build.5").published("1.1.0+build.5", YOUNG);
    let upstream = Upstream::start([package]);
    let app = app(&upstream, |_| {});
    for file in ["built-1.1.0+build.5.tgz", "built-1.1.0.tgz", "built-1.1.0+other.tgz", "built-v1.1.0.tgz"] {
        withheld(&app.anybody().get(&format!("/built/-/{file}")).await, "held");
    }
    app.advance_to(MATURE.parse().unwrap());
    app.anybody().get("/built/-/built-1.1.0+build.5.tgz").await.ok();
}

/// Whoever has it in a lockfile goes on installing it; what is denied by name stays so.
#[tokio::test]
async fn what_is_kept_is_given_out_when_the_upstream_has_the_package_no_more() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |_| {});
    for version in ["1.0.0", "1.1.0"] {
        app.anybody().get(&format!("/left/-/left-{version}.tgz")).await.ok();
        app.delivered("left", version).await;
    }
    upstream.remove("left");
    app.clock.advance(HOUR);
    app.anybody().get("/left").await.status_is(404);
    app.rules(&rule("one", "action = \"deny\"\npackages = [\"left\"]\nversions = \"1.0.0\""));
    app.anybody().get("/left/-/left-1.1.0.tgz").await.ok();
    withheld(&app.anybody().get("/left/-/left-1.0.0.tgz").await, "denied");
}

#[tokio::test]
async fn the_answer_changes_at_that_instant_and_not_before() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |settings| settings.upstreams[0].client.freshness.longest = Duration::from_hours(1000));
    let before = app.anybody().get_abbreviated("/left").await.ok();
    app.advance_to("2026-11-25T23:59:59.999Z".parse().unwrap());
    let etag = before.header("etag").to_owned();
    let headers = [("accept", INSTALL_ACCEPT), ("if-none-match", etag.as_str())];
    app.anybody().get_with("/left", &headers).await.status_is(304);
    withheld(&app.anybody().get("/left/-/left-1.2.0.tgz").await, "held");
    app.clock.advance(Duration::from_millis(1));
    let after = app.anybody().get_with("/left", &headers).await.ok();
    assert_eq!(after.json()["dist-tags"]["latest"], "1.2.0");
    assert_eq!(after.json()["dist-tags"]["next"], "2.0.0-rc.2");
    assert!(after.json().get("policyRestrictions").is_none());
    assert_ne!(after.header("etag"), etag);
    assert_eq!(after.header("last-modified"), "Mon, 23 Nov 2026 00:00:00 GMT");
    app.anybody().get("/left/-/left-1.2.0.tgz").await.ok();
}

#[tokio::test]
async fn where_nothing_is_left_the_reason_is_told() {
    let upstream = Upstream::start([Package::new("fresh").version("1.0.0").published("1.0.0", YOUNG)]);
    let app = app(&upstream, |_| {});
    for path in ["/fresh", "/fresh/latest", "/fresh/1.0.0", "/fresh/-/fresh-1.0.0.tgz", "/-/package/fresh/dist-tags"] {
        let body = withheld(&app.anybody().get(path).await, "held");
        assert_eq!(body["available_at"], MATURE, "{path}");
    }
    app.advance_to(MATURE.parse().unwrap());
    app.anybody().get("/fresh").await.ok();
}

#[tokio::test]
async fn the_full_form_is_asked_for_only_when_dates_are_needed() {
    let old = Package::new("old").version("1.0.0");
    let upstream = Upstream::start([left(), old]);
    let app = app(&upstream, |_| {});
    app.anybody().get_abbreviated("/old").await.ok();
    assert_eq!(upstream.forms("old"), [Form::Abbreviated]);
    app.anybody().get_abbreviated("/left").await.ok();
    app.anybody().get("/left").await.ok();
    app.anybody().get_abbreviated("/left").await.ok();
    assert_eq!(upstream.forms("left"), [Form::Abbreviated, Form::Full]);
}

#[tokio::test]
async fn a_short_form_with_dates_is_judged_by_them() {
    let upstream = Upstream::start([left()]);
    upstream.set_abbreviates_with_times(true);
    let app = app(&upstream, |_| {});
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.1.0");
    // What the upstream cannot give in full cannot be dated, and is not given out undated.
    upstream.set(Fault::StatusAt("/left", 503));
    app.clock.advance(HOUR);
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.1.0");
}

#[tokio::test]
async fn what_was_delivered_stays() {
    let upstream = Upstream::start([left()]);
    let mut app = app(&upstream, |settings| settings.policy.switches.hold = Duration::ZERO);
    app.anybody().get("/left/-/left-1.2.0.tgz").await.ok();
    app.delivered("left", "1.2.0").await;
    app.change_settings(|settings| settings.policy.switches.hold = 72 * HOUR);
    let mut app = app.restarted().await;
    let document = app.anybody().get_abbreviated("/left").await.ok().json();
    assert_eq!(document["dist-tags"], json!({ "latest": "1.2.0", "next": "2.0.0-rc.1", "old": "1.0.0" }));
    app.anybody().get("/left/-/left-1.2.0.tgz").await.ok();
    let explained = app.anybody().get("/-/holdfast/v1/explain/left").await.ok().json();
    assert_eq!(explained["observed"][0]["version"], "1.2.0");
    app.change_settings(|settings| settings.policy.switches.keep_served = false);
    let app = app.restarted().await;
    withheld(&app.anybody().get("/left/-/left-1.2.0.tgz").await, "held");
}

#[tokio::test]
async fn dates_that_are_no_dates_count_from_when_the_version_was_seen() {
    for text in [None, Some("yesterday"), Some("1999-01-01T00:00:00.000Z"), Some("2030-01-01T00:00:00.000Z"), Some("")]
    {
        let package = Package::new("odd").version("1.0.0").version("1.1.0").time_text("1.1.0", text);
        let upstream = Upstream::start([package.modified_text(None)]);
        let app = app(&upstream, |_| {});
        assert_eq!(app.anybody().get_abbreviated("/odd").await.ok().json()["dist-tags"]["latest"], "1.0.0", "{text:?}");
        let body = withheld(&app.anybody().get("/odd/-/odd-1.1.0.tgz").await, "held");
        assert_eq!(body["available_at"], "2026-11-26T12:00:00.750Z", "{text:?}");
        // After a restart the clock goes on.
        app.clock.advance(71 * HOUR);
        let app = app.restarted().await;
        withheld(&app.anybody().get("/odd/-/odd-1.1.0.tgz").await, "held");
        app.clock.advance(HOUR);
        app.anybody().get("/odd/-/odd-1.1.0.tgz").await.ok();
    }
}

#[tokio::test]
async fn dates_of_an_upstream_that_is_not_believed_are_bounds() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |settings| {
        let own = UpstreamSwitches { hold: Some(24 * HOUR), trust_dates: false };
        settings.policy.switches.upstreams.insert("default".to_owned(), own);
    });
    withheld(&app.anybody().get_abbreviated("/left").await, "held");
    app.clock.advance(24 * HOUR);
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.2.0");
}

#[tokio::test]
async fn a_clock_that_is_set_back_changes_the_answer_back() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |_| {});
    app.advance_to(MATURE.parse().unwrap());
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.2.0");
    app.clock.set_back(HOUR);
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.1.0");
}

#[tokio::test]
async fn hosted_packages_are_not_held_unless_a_rule_says_so() {
    let upstream = Upstream::start([]);
    let app = app(&upstream, |_| {});
    let ann = app.user("ann").await;
    ann.publish_versions("@acme/tool", &["1.0.0", "1.1.0"]).await;
    assert_eq!(app.anybody().document("@acme/tool").await["dist-tags"]["latest"], "1.1.0");
    app.rules(
        "[[rule]]\nid = \"settle\"\naction = \"hold\"\nhold = \"1h\"\npackages = [\"@acme/*\"]\nupstreams = [\"hosted\"]\nauthor = \"ann\"\nreason = \"r\"",
    );
    withheld(&app.anybody().get("/@acme%2ftool").await, "held");
    withheld(&app.anybody().get("/@acme%2ftool/-/tool-1.1.0.tgz").await, "held");
    app.clock.advance(HOUR);
    app.anybody().get("/@acme%2ftool/-/tool-1.1.0.tgz").await.ok();
}

fn record(id: &str, name: &str, ranges: &str, rest: &str) -> Value {
    let events: Value = serde_json::from_str(ranges).unwrap();
    let mut record = json!({
        "id": id, "modified": "2026-11-20T00:00:00Z", "summary": format!("About {name}"),
        "affected": [{ "package": { "ecosystem": "npm", "name": name }, "ranges": [{ "type": "SEMVER", "events": events }] }],
    });
    let rest: Value = serde_json::from_str(rest).unwrap();
    record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    record
}

/// A directory of records, as an air-gapped site has it.
fn records(records: &[Value]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for record in records {
        let file = format!("{}.json", record["id"].as_str().unwrap());
        std::fs::write(folder.path().join(file), record.to_string()).unwrap();
    }
    folder
}

fn advised(upstream: &Upstream, folder: &tempfile::TempDir, change: impl FnOnce(&mut Settings)) -> TestApp {
    app(upstream, |settings| {
        settings.advisories.source = Some(AdvisorySource::Path(folder.path().to_owned()));
        settings.advisories.refresh = Duration::from_millis(20);
        change(settings);
    })
}

/// Waits for what happens in the background.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_malicious_is_gone_and_stays_so() {
    let upstream = Upstream::start([left(), Package::new("Evil").version("1.0.0").version("1.1.0")]);
    let folder = records(&[record("MAL-2026-1", "other", r#"[{"introduced":"0"}]"#, "{}")]);
    let app = advised(&upstream, &folder, |settings| settings.policy.switches.keep_served = true);
    // Delivered before anybody knew.
    app.anybody().get("/Evil/-/Evil-1.1.0.tgz").await.ok();
    let malicious = record("MAL-2026-2", "evil", r#"[{"introduced":"1.1.0"}]"#, "{}");
    std::fs::write(folder.path().join("MAL-2026-2.json"), malicious.to_string()).unwrap();
    eventually("the record", async || app.anybody().get("/Evil/1.1.0").await.status == 403).await;
    let document = app.anybody().document("Evil").await;
    assert_eq!((versions(&document), &document["dist-tags"]["latest"]), (vec!["1.0.0".to_owned()], &json!("1.0.0")));
    let asked = upstream.seen().len();
    let body = withheld(&app.anybody().get("/Evil/-/Evil-1.1.0.tgz").await, "malicious");
    assert_eq!((&body["rule"], &body["available_at"]), (&json!("MAL-2026-2"), &Value::Null));
    // Also when the upstream has taken it down.
    upstream.put(&Package::new("Evil").version("1.0.0"));
    app.clock.advance(HOUR);
    withheld(&app.anybody().get("/Evil/-/Evil-1.1.0.tgz").await, "malicious");
    assert_eq!(upstream.seen().len(), asked, "nothing was asked for it");
    // Not even a waiver helps.
    app.waive("Evil", Some("1.1.0"), None).await;
    withheld(&app.anybody().get("/Evil/-/Evil-1.1.0.tgz").await, "malicious");
    // In force at once after a restart, whatever has become of the source.
    folder.close().unwrap();
    let app = app.restarted().await;
    withheld(&app.anybody().get("/Evil/-/Evil-1.1.0.tgz").await, "malicious");
    eventually("the failure", async || {
        !app.anybody().get("/-/ready").await.ok().json()["policy"]["advisories_failing_since"].is_null()
    })
    .await;
}

const FIXED: &str = r#"[{"introduced":"1.0.0"},{"fixed":"1.2.0"}]"#;

#[tokio::test]
async fn vulnerable_versions_are_withheld_by_severity_and_fix() {
    let high = r#"{"database_specific":{"severity":"HIGH"}}"#;
    let upstream = Upstream::start([
        Package::new("fixable").version("0.9.0").version("1.0.0").version("1.2.0"),
        Package::new("unfixed").version("1.0.0"),
        Package::new("mild").version("1.0.0").version("1.2.0"),
    ]);
    let folder = records(&[
        record("GHSA-1", "fixable", FIXED, high),
        record("GHSA-2", "unfixed", r#"[{"introduced":"0"}]"#, high),
        record("GHSA-3", "mild", FIXED, r#"{"database_specific":{"severity":"LOW"}}"#),
        record("GHSA-4", "fixable", r#"[{"introduced":"0"}]"#, r#"{"withdrawn":"2026-01-01T00:00:00Z"}"#),
    ]);
    let app = advised(&upstream, &folder, |settings| {
        settings.policy.switches.block_vulnerable = Some(holdfast::advisories::Severity::High);
    });
    eventually("the records", async || app.anybody().get("/fixable/1.0.0").await.status == 403).await;
    let body = withheld(&app.anybody().get("/fixable/-/fixable-1.0.0.tgz").await, "vulnerable");
    assert!(body["reason"].as_str().unwrap().contains("GHSA-1, high); fixed in 1.2.0"), "{body}");
    assert_eq!(versions(&app.anybody().document("fixable").await), ["0.9.0", "1.2.0"]);
    app.anybody().get("/unfixed/1.0.0").await.ok();
    app.anybody().get("/mild/1.0.0").await.ok();
    app.waive("fixable", Some("1.0.0"), Some("GHSA-1")).await;
    app.anybody().get("/fixable/1.0.0").await.ok();
}

#[tokio::test]
async fn a_fix_for_what_is_in_use_takes_the_fast_lane() {
    let upstream = Upstream::start([left()]);
    let folder = records(&[record("GHSA-1", "left", FIXED, "{}")]);
    let app = advised(&upstream, &folder, |_| {});
    eventually("the records", async || app.compiled().await).await;
    // Nobody here uses what it fixes.
    withheld(&app.anybody().get("/left/-/left-1.2.0.tgz").await, "held");
    app.anybody().get("/left/-/left-1.1.0.tgz").await.ok();
    app.delivered("left", "1.1.0").await;
    app.anybody().get("/left/-/left-1.2.0.tgz").await.ok();
    withheld(&app.anybody().get("/left/2.0.0-rc.2").await, "held");
}

#[tokio::test]
async fn audits_are_answered_here_when_that_is_set() {
    let upstream = Upstream::start([]);
    let cvss = r#"{"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"aliases":["CVE-1"]}"#;
    let folder = records(&[
        record("GHSA-1", "left", FIXED, cvss),
        record("GHSA-2", "@acme/tool", r#"[{"introduced":"0"}]"#, "{}"),
    ]);
    let app = advised(&upstream, &folder, |settings| settings.advisories.answer_audit = true);
    eventually("the records", async || app.compiled().await).await;
    let asked = json!({ "left": ["1.1.0", "1.2.0"], "right": ["1.0.0"], "@acme/tool": ["1.0.0"] });
    let report = app.anybody().post("/-/npm/v1/security/advisories/bulk", &asked).await.ok().json();
    let found = &report["left"][0];
    assert_eq!(report.as_object().unwrap().len(), 1, "{report}");
    assert_eq!((&found["severity"], &found["vulnerable_versions"]), (&json!("critical"), &json!(">=1.0.0 <1.2.0")));
    assert!(found["id"].is_u64() && found["cvss"]["score"] == 9.8, "{found}");
    let tree = json!({ "name": "a", "version": "1.0.0", "dependencies": {
        "right": { "version": "1.0.0", "dependencies": { "left": { "version": "1.0.0" } } }, "left": { "version": "1.2.0" } } });
    let report = app.anybody().post("/-/npm/v1/security/audits/quick", &tree).await.ok().json();
    assert_eq!(report["metadata"]["vulnerabilities"]["critical"], 1);
    let advisory = report["advisories"].as_object().unwrap().values().next().unwrap();
    assert_eq!(advisory["findings"], json!([{ "version": "1.0.0", "paths": ["right>left"] }]));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_advisory_about_a_public_name_is_not_about_ours() {
    let upstream = Upstream::start([]);
    let folder = records(&[record("MAL-1", "@acme/tool", r#"[{"introduced":"0"}]"#, "{}")]);
    let app = advised(&upstream, &folder, |_| {});
    eventually("the records", async || app.compiled().await).await;
    app.user("ann").await.publish_versions("@acme/tool", &["1.0.0"]).await;
    app.anybody().get("/@acme%2ftool/-/tool-1.0.0.tgz").await.ok();
}

fn rule(id: &str, rest: &str) -> String {
    format!("[[rule]]\nid = \"{id}\"\nauthor = \"ann\"\nreason = \"because\"\n{rest}\n")
}

#[tokio::test]
async fn rules_decide_by_what_a_version_is() {
    let (key, other) = (RegistryKey::generate(), RegistryKey::generate());
    let base = |name: &str| Package::new(name).version("1.0.0").version("1.1.0");
    let upstream = Upstream::start([
        base("gpl").licence("1.1.0", "GPL-3.0-only"),
        base("scripted").scripts("1.1.0", &[("postinstall", "node x")]),
        base("unproven").provenance("1.0.0"),
        base("weaker").provenance("1.0.0").trusted_publisher("1.0.0", "github"),
        base("signed").all_signed(&key),
        base("forged").signed("1.0.0", &key, Signing::Right).signed("1.1.0", &key, Signing::OfAnotherVersion),
        base("strange").signed("1.0.0", &key, Signing::Right).signed("1.1.0", &other, Signing::Right),
        base("plain"),
    ]);
    upstream.set_keys([key.entry()]);
    let app = app(&upstream, |_| {});
    let all = [
        rule("licence", "action = \"deny\"\npackages = [\"gpl\"]\nlicence_in = [\"GPL-3.0-only\"]"),
        rule(
            "scripts",
            "action = \"hold\"\nhold = \"3650d\"\npackages = [\"script*\"]\ninstall_scripts = \"introduced\"",
        ),
        rule("provenance", "action = \"deny\"\npackages = [\"unproven\"]\nprovenance = \"missing\""),
        rule("trust", "action = \"deny\"\npackages = [\"weaker\"]\ntrust = \"weaker\""),
        rule(
            "signature",
            "action = \"deny\"\npackages = [\"signed\", \"forged\", \"strange\"]\nsignature = \"missing\"",
        ),
        rule("range", "action = \"deny\"\npackages = [\"plain\"]\nversions = \"<1.1\"\nmode = \"observe\""),
    ];
    app.rules(&all.concat());
    for (name, id, code) in [
        ("gpl", "licence", "denied"),
        ("scripted", "scripts", "held"),
        ("unproven", "provenance", "denied"),
        ("weaker", "trust", "denied"),
        ("forged", "signature", "denied"),
        ("strange", "signature", "denied"),
    ] {
        assert_eq!(versions(&app.anybody().document(name).await), ["1.0.0"], "{name}");
        let body = withheld(&app.anybody().get(&format!("/{name}/-/{name}-1.1.0.tgz")).await, code);
        assert_eq!(body["rule"], id);
    }
    for name in ["signed", "plain"] {
        assert_eq!(versions(&app.anybody().document(name).await).len(), 2, "{name}");
    }
    let explained = app.anybody().get("/-/holdfast/v1/explain/plain").await.ok().json();
    assert_eq!(
        explained["observed"],
        json!([{ "version": "1.0.0", "rule": "range", "note": "the rule would withhold it" }])
    );
    let mut allowed =
        rule("pass", "action = \"allow\"\npackages = [\"gpl\"]\nversions = \"1.1.0\"\nexpires = 2026-11-24");
    allowed.push_str(&all.concat());
    app.rules(&allowed);
    app.anybody().get("/gpl/1.1.0").await.ok();
    app.advance_to("2026-11-24T00:00:00.000Z".parse().unwrap());
    withheld(&app.anybody().get("/gpl/1.1.0").await, "denied");
}

#[tokio::test]
async fn two_releases_in_a_row_do_not_vouch_for_each_other() {
    let package = ["1.0.0", "1.0.1", "1.0.2"].into_iter().fold(Package::new("taken"), Package::version);
    let package = package.scripts("1.0.1", &[("preinstall", "x")]).scripts("1.0.2", &[("preinstall", "x")]);
    let upstream = Upstream::start([package]);
    let app = app(&upstream, |_| {});
    app.rules(&rule("scripts", "action = \"deny\"\npackages = [\"**\"]\ninstall_scripts = \"introduced\""));
    assert_eq!(versions(&app.anybody().document("taken").await), ["1.0.0"]);
}

#[tokio::test]
async fn rules_are_read_again_and_bad_ones_are_not_put_in_force() {
    let upstream = Upstream::start([left()]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, rule("one", "action = \"deny\"\npackages = [\"left\"]\nversions = \"1.0.0\"")).unwrap();
    let app = app(&upstream, |settings| settings.policy.rules_file.clone_from(&file));
    withheld(&app.anybody().get("/left/1.0.0").await, "denied");
    std::fs::write(&file, "[[rule]]\nid = \"one\"\nacton = \"deny\"").unwrap();
    eventually("the mistake", async || app.ready().await["rules"] == "rejected").await;
    assert!(app.ready().await["rules_rejected_since"].is_string());
    withheld(&app.anybody().get("/left/1.0.0").await, "denied");
    std::fs::write(&file, rule("two", "action = \"deny\"\npackages = [\"left\"]\nversions = \"1.1.0\"")).unwrap();
    eventually("the new rules", async || app.ready().await["rules"] == "ok").await;
    app.anybody().get("/left/1.0.0").await.ok();
    withheld(&app.anybody().get("/left/1.1.0").await, "denied");
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.0.0");
}

/// As the axios releases of 2026: the package is old enough, what it newly pulls in is not.
#[tokio::test]
async fn a_version_waits_for_its_new_dependency() {
    let main = Package::new("main")
        .depends("1.0.0", &[("old", "^1.0.0")])
        .depends("1.1.0", &[("old", "^1.0.0"), ("crypto", "^4.2.0")])
        .depends("1.2.0", &[("old", "^1.0.0"), ("crypto", "^4.2.0"), ("files", "file:../x")])
        .published("1.1.0", "2026-11-18T00:00:00.000Z")
        .published("1.2.0", "2026-11-19T00:00:00.000Z");
    let crypto = Package::new("crypto").version("4.2.0").published("4.2.0", YOUNG);
    let upstream = Upstream::start([main, crypto, Package::new("old").version("1.0.0")]);
    let app = app(&upstream, |settings| settings.upstreams[0].client.freshness.longest = Duration::from_hours(1));
    assert_eq!(versions(&app.anybody().document("main").await), ["1.0.0"]);
    let body = withheld(&app.anybody().get("/main/-/main-1.2.0.tgz").await, "held_dependency");
    assert_eq!(body["available_at"], MATURE);
    assert!(body["reason"].as_str().unwrap().contains("`crypto`"), "{body}");
    app.advance_to(MATURE.parse().unwrap());
    assert_eq!(versions(&app.anybody().document("main").await).len(), 3);
}

#[tokio::test]
async fn a_dependency_that_is_not_there_yet_holds_too() {
    let main = Package::new("main")
        .version("1.0.0")
        .depends("1.1.0", &[("later", "^1.0.0")])
        .published("1.1.0", "2026-11-18T00:00:00.000Z");
    let upstream = Upstream::start([main]);
    let app = app(&upstream, |settings| settings.upstreams[0].client.freshness.longest = Duration::from_mins(10));
    assert_eq!(versions(&app.anybody().document("main").await), ["1.0.0"]);
    upstream.put(&Package::new("later").version("1.0.0"));
    app.clock.advance(HOUR);
    assert_eq!(versions(&app.anybody().document("main").await), ["1.0.0", "1.1.0"]);
}

#[tokio::test]
async fn packages_that_wait_for_each_other_are_answered() {
    let young = "2026-11-18T00:00:00.000Z";
    let one = Package::new("one").version("1.0.0").depends("1.1.0", &[("two", "^1.1.0")]).published("1.1.0", young);
    let two = Package::new("two").version("1.0.0").depends("1.1.0", &[("one", "^1.1.0")]).published("1.1.0", young);
    let upstream = Upstream::start([one, two]);
    let app = app(&upstream, |_| {});
    let (caller, other) = (app.anybody(), app.anybody());
    let both = tokio::join!(caller.document("one"), other.document("two"));
    assert_eq!((versions(&both.0).len(), versions(&both.1).len()), (2, 2));
}

#[tokio::test]
async fn a_waiver_is_written_down_and_ends() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |_| {});
    withheld(&app.anybody().get("/left/1.2.0").await, "held");
    app.waive("left", Some("1.2.0"), None).await;
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.2.0");
    let events = app.events_of(Kind::Waive).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].who.name.as_deref(), Some("ann"));
    // Bound to the bytes that were looked at, and to where they came from.
    let waiver = &events[0].details["waiver"];
    assert!(waiver["integrity"].as_str().unwrap().starts_with("sha512-"), "{waiver}");
    assert_eq!(waiver["upstream"], "default");
    app.clock.advance(HOUR);
    withheld(&app.anybody().get("/left/-/left-1.2.0.tgz").await, "held");
}

#[tokio::test]
async fn a_name_that_looks_like_one_in_use_waits_for_a_person() {
    let upstream =
        Upstream::start([left(), Package::new("lefft").version("1.0.0"), Package::new("else").version("1.0.0")]);
    let app = app(&upstream, |settings| settings.policy.switches.look_alikes = Control::Enforce);
    app.anybody().get("/left/-/left-1.0.0.tgz").await.ok();
    app.delivered("left", "1.0.0").await;
    let body = withheld(&app.anybody().get("/lefft").await, "look_alike");
    assert!(body["reason"].as_str().unwrap().contains("`left`"), "{body}");
    app.anybody().get("/else").await.ok();
    app.anybody().get("/left").await.ok();
    app.waive("lefft", None, None).await;
    app.anybody().get("/lefft").await.ok();
    // Also when the names in use have to be gathered anew.
    let app = app.restarted().await;
    app.clock.advance(HOUR);
    withheld(&app.anybody().get("/lefft").await, "look_alike");
}

#[tokio::test]
async fn signatures_are_recorded_when_a_tarball_is_brought_in() {
    let key = RegistryKey::generate();
    let ended = RegistryKey::generate();
    let numbers = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"];
    let package = numbers.into_iter().fold(Package::new("left"), Package::version);
    let package = package
        .signed("1.0.0", &key, Signing::Right)
        .signed("1.1.0", &key, Signing::BrokenSignature)
        .signed("1.3.0", &ended, Signing::Right)
        .signed("1.4.0", &key, Signing::ByAnotherKey)
        .signed("1.5.0", &key, Signing::Garbled);
    let upstream = Upstream::start([package]);
    upstream.set_keys([key.entry(), ended.entry_until("2019-01-01T00:00:00.000Z")]);
    let app = app(&upstream, |_| {});
    for version in numbers {
        app.anybody().get(&format!("/left/-/left-{version}.tgz")).await.ok();
    }
    let expected = json!({
        "1.0.0": "valid", "1.1.0": "invalid", "1.2.0": "missing", "1.3.0": "expired_key", "1.4.0": "invalid", "1.5.0": "invalid",
    });
    eventually("the signatures", async || {
        app.anybody().get("/-/holdfast/v1/explain/left").await.ok().json()["signatures"] == expected
    })
    .await;
}

#[tokio::test]
async fn a_new_name_that_differs_by_case_alone_is_refused() {
    let upstream = Upstream::start([Package::new("JSONStream").version("1.0.0")]);
    let app = app(&upstream, |_| {});
    app.anybody().get("/JSONStream/-/JSONStream-1.0.0.tgz").await.ok();
    app.delivered("JSONStream", "1.0.0").await;
    let ann = app.user("ann").await;
    assert!(refused(&ann.publish(&Tarball::new("jsonstream", "1.0.0")).await, 403).contains("JSONStream"));
    refused(&ann.publish(&Tarball::new("Tool", "1.0.0")).await, 400);
}

#[tokio::test]
async fn versions_are_explained_and_checked() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |_| {});
    let explained = app.anybody().get("/-/holdfast/v1/explain/left").await.ok().json();
    assert_eq!((&explained["source"], &explained["offered"]), (&json!("default"), &json!(4)));
    assert_eq!(explained["changes_at"], MATURE);
    let numbers: Vec<&Value> = explained["withheld"].as_array().unwrap().iter().map(|line| &line["version"]).collect();
    assert_eq!(numbers, ["2.0.0-rc.2", "1.2.0"]);
    assert_eq!(explained["moved_tags"][0], json!({ "tag": "latest", "from": "1.2.0", "to": "1.1.0" }));
    let wanted = [("left", "1.1.0"), ("left", "1.2.0"), ("left", "7.0.0"), ("nothing", "1.0.0"), ("", "x")];
    let packages: Vec<Value> =
        wanted.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect();
    let answer = app.anybody().post("/-/holdfast/v1/check", &json!({ "packages": packages })).await.ok().json();
    let verdicts: Vec<&Value> = answer["verdicts"].as_array().unwrap().iter().map(|line| &line["verdict"]).collect();
    assert_eq!(verdicts, ["offered", "withheld", "missing", "missing", "missing"]);
    assert_eq!(answer["verdicts"][1]["available_at"], MATURE);
    refused(&app.anybody().get("/-/holdfast/v1/explain/nothing").await, 404);
    refused(&app.anybody().send(Method::POST, "/-/holdfast/v1/check", &[], "{").await, 400);
    refused(&TestApp::closed().anybody().get("/-/holdfast/v1/explain/left").await, 401);
}

#[tokio::test]
async fn what_is_malicious_is_not_found() {
    let others = ["leftover", "leftist"].map(|name| Package::new(name).version("1.0.0"));
    let upstream = Upstream::start([left()].into_iter().chain(others));
    let folder = records(&[record("MAL-1", "leftover", r#"[{"introduced":"0"}]"#, "{}")]);
    let app = advised(&upstream, &folder, |_| {});
    eventually("the records", async || app.compiled().await).await;
    // A rule that looks at more than a search result has hides nothing.
    let by_name = rule("name", "action = \"deny\"\npackages = [\"leftist\"]");
    app.rules(&(by_name + &rule("licence", "action = \"deny\"\npackages = [\"**\"]\nlicence = \"unknown\"")));
    let found = app.anybody().get("/-/v1/search?text=left%20is:public").await.ok().json();
    let names: Vec<&Value> =
        found["objects"].as_array().unwrap().iter().map(|found| &found["package"]["name"]).collect();
    // What is only young is found: an older version of it can be installed.
    assert_eq!(names, ["left"]);
}

/// An archive behind an address: fetched, asked for again with what tells whether it changed, and not believed when it is
/// something else.
#[tokio::test]
async fn advisories_come_from_an_address() {
    use std::io::Write as _;
    use std::sync::{Arc, Mutex};

    use axum::http::{HeaderMap, StatusCode, header};

    let zipped = |records: &[Value]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for record in records {
            let name = format!("{}.json", record["id"].as_str().unwrap());
            writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(record.to_string().as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let first = zipped(&[record("MAL-1", "left", r#"[{"introduced":"1.1.0"}]"#, "{}")]);
    let served: Arc<Mutex<(Vec<u8>, usize)>> = Arc::new(Mutex::new((first, 0)));
    let shared = Arc::clone(&served);
    let answer = move |headers: HeaderMap| {
        let mut served = shared.lock().unwrap();
        let etag = format!("\"{}\"", served.0.len());
        let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
        served.1 += usize::from(is_known);
        let (status, body) =
            if is_known { (StatusCode::NOT_MODIFIED, Vec::new()) } else { (StatusCode::OK, served.0.clone()) };
        std::future::ready((status, [(header::ETAG, etag)], body))
    };
    let router = axum::Router::new().route("/all.zip", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/all.zip", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |settings| {
        settings.advisories.source = Some(AdvisorySource::Url(url.parse().unwrap()));
        settings.advisories.refresh = Duration::from_millis(20);
    });
    eventually("the records", async || app.anybody().get("/left/1.1.0").await.status == 403).await;
    eventually("a 304", async || served.lock().unwrap().1 > 1).await;
    served.lock().unwrap().0 = b"<html>busy</html>".to_vec();
    eventually("the failure", async || !app.ready().await["advisories_failing_since"].is_null()).await;
    withheld(&app.anybody().get("/left/1.1.0").await, "malicious");
    served.lock().unwrap().0 =
        zipped(&[record("MAL-2", "left", r#"[{"introduced":"1.0.0"},{"fixed":"1.1.0"}]"#, "{}")]);
    eventually("the new records", async || app.anybody().get("/left/1.1.0").await.status == 200).await;
    assert!(app.ready().await["advisories_failing_since"].is_null());
    server.abort();
    // Old indexes go.
    let indexes = app.files().into_keys().filter(|path| path.starts_with("-/advisories/") && !path.contains("current"));
    assert_eq!(indexes.count(), 1);
}

#[tokio::test]
async fn observing_withholds_nothing() {
    let upstream = Upstream::start([left()]);
    let app = app(&upstream, |settings| settings.policy.switches.hold_control = Control::Observe);
    assert_eq!(app.anybody().get_abbreviated("/left").await.ok().json()["dist-tags"]["latest"], "1.2.0");
    let explained = app.anybody().get("/-/holdfast/v1/explain/left").await.ok().json();
    assert_eq!(explained["observed"].as_array().unwrap().len(), 2);
}

/// What clients judge trust by goes through as it came.
#[tokio::test]
async fn trust_fields_are_passed_on() {
    let package = left().provenance("1.1.0").trusted_publisher("1.1.0", "github").approver("1.0.0", "bob");
    let upstream = Upstream::start([package]);
    let app = app(&upstream, |_| {});
    let own = app.anybody().get("/left").await.ok().json();
    let short = app.anybody().get_abbreviated("/left").await.ok().json();
    for document in [&own, &short] {
        assert_eq!(document["versions"]["1.1.0"]["_npmUser"]["trustedPublisher"]["id"], "github");
        assert!(document["versions"]["1.1.0"]["dist"]["attestations"]["provenance"].is_object());
        assert_eq!(document["versions"]["1.0.0"]["_npmUser"]["approver"]["name"], "bob");
    }
}

impl TestApp {
    /// Puts rules in force, as if they stood in the rules file.
    fn rules(&self, text: &str) {
        let rules = holdfast::policy::parse_rules(text, &["default".to_owned()], &[]);
        self.app.registry.set_rules(rules.unwrap_or_else(|mistakes| panic!("{mistakes:?}")));
    }

    /// For an hour, by ann.
    async fn waive(&self, package: &str, version: Option<&str>, rule: Option<&str>) {
        use holdfast::operator::{Order, Outcome, WaiverWish, carry_out};
        let wish = WaiverWish {
            package: package.to_owned(),
            version: version.map(ToOwned::to_owned),
            rule: rule.map(ToOwned::to_owned),
            reason: "needed".to_owned(),
            by: "ann".to_owned(),
            minutes: 60,
        };
        let outcome = carry_out(self.desk(), Order::Waive { wish }.into()).await;
        assert!(matches!(outcome, Outcome::Waivers { .. }), "{outcome:?}");
    }

    /// Waits until it was noted that a version was delivered.
    async fn delivered(&self, name: &str, version: &str) {
        eventually("the note", async || {
            let records = self.files().into_iter().filter(|(path, _)| path.starts_with("-/records/"));
            let of_package = records.filter(|(path, _)| path.ends_with(&format!("/{name}/record.json")));
            let mut records = of_package.map(|(_, text)| serde_json::from_slice::<Value>(&text).unwrap());
            records.any(|record| record["served"].get(version).is_some())
        })
        .await;
        // What it changes in memory comes after the file.
        self.app.settled().await;
    }

    async fn ready(&self) -> Value {
        self.anybody().get("/-/ready").await.ok().json()["policy"].take()
    }

    /// Whether advisories are in force.
    async fn compiled(&self) -> bool {
        !self.ready().await["advisories_compiled"].is_null()
    }
}

impl crate::support::http::Answer {
    #[track_caller]
    fn status_is(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
    }
}
