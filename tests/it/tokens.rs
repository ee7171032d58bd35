//! `/-/npm/v1/tokens`: what a token is good for, who may make and end one, and that no secret is kept or told.

use std::time::Duration;

use holdfast::auth::Action;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, PASSWORD, TestApp, path_of, refused};
use crate::support::company::{Company, rule};
use crate::support::hex;
use crate::support::http::{Answer, Http};
use crate::support::pages::{Tab, path_in};
use crate::support::server::Settings;
use crate::support::tarballs::Tarball;

const PATH: &str = "/-/npm/v1/tokens";

#[track_caller]
fn refused_as(answer: &Answer, status: u16, code: &str) {
    refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{}", answer.text());
}

/// Makes a token of a local account; the password is added.
async fn create(caller: &Caller, wanted: Value) -> Answer {
    let mut body = json!({ "password": PASSWORD });
    body.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
    caller.post(PATH, &body).await
}

/// Makes a token and sends with it from now on.
async fn with_new(app: &TestApp, caller: &Caller, wanted: Value) -> Caller {
    let answer = create(caller, wanted).await.ok();
    app.anybody().with_token(answer.json()["token"].as_str().unwrap())
}

async fn listed(caller: &Caller) -> Vec<Value> {
    let list = caller.get(PATH).await.ok().json();
    let objects = list["objects"].as_array().unwrap().clone();
    assert_eq!(list["total"], objects.len());
    assert!(list["urls"].is_object(), "npm follows `urls.next`");
    objects
}

fn key_of(token: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref())
}

#[tokio::test]
async fn a_token_is_shown_once_and_only_its_hash_is_kept() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for (wanted, expected) in [
        // npm until 11.5, and pnpm.
        (
            json!({ "readonly": false, "cidr_whitelist": [] }),
            json!({ "readonly": false, "cidr_whitelist": null, "name": "", "expires": null, "scopes": [] }),
        ),
        (
            json!({ "readonly": true, "cidr_whitelist": ["192.0.2.0/24"] }),
            json!({ "readonly": true, "cidr_whitelist": ["192.0.2.0/24"], "permissions": [{ "name": "package", "action": "read" }] }),
        ),
        // npm since 11.6.
        (
            json!({ "name": "ci", "description": "of the build", "packages": ["@acme/tool"], "scopes": ["@other"],
                    "packages_and_scopes_permission": "read-write", "expires": 7, "bypass_2fa": true }),
            json!({ "name": "ci", "description": "of the build", "readonly": false, "bypass_2fa": true,
                    "scopes": [{ "type": "package", "name": "@acme/tool" }, { "type": "scope", "name": "@other/*" }],
                    "expires": "2026-11-30T12:00:00.750Z", "expiry": "2026-11-30T12:00:00.750Z" }),
        ),
        // The spelling of npmjs's published schema.
        (
            json!({ "name": "ci", "token_description": "d", "cidr": ["192.0.2.7"], "packages_all": true }),
            json!({ "description": "d", "cidr_whitelist": ["192.0.2.7/32"], "readonly": true, "scopes": [] }),
        ),
    ] {
        let answer = create(&alice, wanted.clone()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let made = answer.json();
        let token = made["token"].as_str().unwrap();
        assert!(token.starts_with("hfst_") && token.len() > 50, "{wanted}");
        assert_eq!(made["key"], key_of(token));
        for (member, value) in expected.as_object().unwrap() {
            assert_eq!(&made[member], value, "{member} of {wanted}");
        }
        // The newest first, and the same but for the secret.
        let first = listed(&alice).await.remove(0);
        assert_eq!(first["key"], made["key"]);
        assert!(token.starts_with(first["token"].as_str().unwrap()) && first["token"].as_str().unwrap().len() < 12);
        for (path, content) in app.files() {
            let holds = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!holds(token) && !path.contains(token), "{path}");
            assert!(!holds(PASSWORD), "{path}");
        }
        assert!(app.files().contains_key(&format!("-/tokens/{}.json", key_of(token))));
    }
}

#[tokio::test]
async fn a_list_has_ones_own_tokens_and_no_secret() {
    let app = TestApp::new();
    let [alice, bob] = [app.user("alice").await, app.user("bob").await];
    let more = with_new(&app, &alice, json!({ "name": "more", "readonly": false })).await;
    let names =
        |tokens: &[Value]| tokens.iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&listed(&alice).await), ["more", ""]);
    assert_eq!(names(&listed(&bob).await), [""]);
    for caller in [&alice, &more] {
        let text = caller.get(PATH).await.ok().text();
        for token in [alice.token(), more.token(), bob.token()] {
            assert!(!text.contains(token) && !text.contains(&token[9..]), "{text}");
        }
        assert!(!text.contains(&key_of(bob.token())));
    }
    refused_as(&app.anybody().get(PATH).await, 401, "sign_in_first");
    refused_as(&app.anybody().post(PATH, &json!({ "password": PASSWORD })).await, 401, "sign_in_first");
}

#[tokio::test]
async fn a_token_does_what_it_was_made_for_and_no_more() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for name in ["@acme/tool", "@other/tool", "tool"] {
        alice.publish_versions(name, &["1.0.0"]).await;
    }
    // For each package: what a publish is answered.
    let (yes, read_only, other) = ("", "read_only_token", "other_packages");
    for (wanted, expected) in [
        (json!({ "readonly": false }), [yes, yes, yes]),
        (json!({ "readonly": true }), [read_only, read_only, read_only]),
        // A granular token that says nothing of writing does not write.
        (json!({ "name": "x" }), [read_only, read_only, read_only]),
        (json!({ "name": "x", "packages_and_scopes_permission": "read-only" }), [read_only, read_only, read_only]),
        (json!({ "name": "x", "packages_and_scopes_permission": "no-access" }), [read_only, read_only, read_only]),
        (json!({ "name": "x", "packages_and_scopes_permission": "read-write" }), [yes, yes, yes]),
        (
            json!({ "name": "x", "packages": ["@acme/tool"], "packages_and_scopes_permission": "read-write" }),
            [yes, other, other],
        ),
        (
            json!({ "name": "x", "scopes": ["@other"], "packages_and_scopes_permission": "read-write" }),
            [other, yes, other],
        ),
        (
            json!({ "name": "x", "scopes": ["acme"], "packages": ["tool"], "packages_and_scopes_permission": "read-write" }),
            [yes, other, yes],
        ),
        (
            json!({ "name": "x", "packages": ["tool"], "packages_all": true, "packages_and_scopes_permission": "read-write" }),
            [yes, yes, yes],
        ),
    ] {
        let caller = with_new(&app, &alice, wanted.clone()).await;
        for (name, expected) in ["@acme/tool", "@other/tool", "tool"].into_iter().zip(expected) {
            let tag = format!("/-/package{}/dist-tags/next", path_of(name));
            let before = app.stored();
            let star = json!({ "package": name });
            let answers = [
                caller.put(&tag, &json!("1.0.0")).await,
                caller.put("/-/user/v1/star", &star).await,
                caller.delete(&tag).await,
                caller.send_json(Method::DELETE, "/-/user/v1/star", &star).await,
            ];
            for answer in answers {
                match expected {
                    "" => drop(answer.ok()),
                    code => refused_as(&answer, 403, code),
                }
            }
            if !expected.is_empty() {
                refused_as(&caller.publish(&Tarball::new(name, "9.0.0")).await, 403, expected);
                assert_eq!(app.stored(), before, "{wanted} {name}");
            }
            // Anybody may read here.
            caller.get(&path_of(name)).await.ok();
        }
    }
}

#[tokio::test]
async fn a_token_ends_when_it_was_to_end() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let week = with_new(&app, &alice, json!({ "readonly": false, "expires": 7, "name": "week" })).await;
    let ever = with_new(&app, &alice, json!({ "readonly": false, "expires": 0, "name": "ever" })).await;
    app.clock.advance(Duration::from_hours(7 * 24) - Duration::from_millis(1));
    week.get("/-/whoami").await.ok();
    assert_eq!(listed(&alice).await.len(), 3);
    app.clock.advance(Duration::from_millis(1));
    refused_as(&week.get("/-/whoami").await, 401, "sign_in_first");
    refused_as(&week.publish(&Tarball::new("tool", "1.0.0")).await, 401, "sign_in_first");
    assert_eq!(listed(&alice).await.len(), 2);
    refused_as(&alice.delete(&format!("{PATH}/token/{}", key_of(week.token()))).await, 404, "token_not_found");
    app.clock.advance(Duration::from_hours(20 * 365 * 24));
    ever.get("/-/whoami").await.ok();
}

#[tokio::test]
async fn a_token_for_some_networks_is_good_from_there_only() {
    let app = TestApp::with(|settings| {
        settings.server.listen = "0.0.0.0:4873".parse().unwrap();
        settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let alice = app.anybody().at_peer("10.0.0.1:1").sign_in("alice", PASSWORD).await.ok();
    let alice = app.anybody().at_peer("10.0.0.1:1").with_token(alice.json()["token"].as_str().unwrap());
    let networks = json!({ "readonly": false, "cidr_whitelist": ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"] });
    let answer = create(&alice, networks).await.ok();
    let caller = app.anybody().with_token(answer.json()["token"].as_str().unwrap());
    let none: &[&str] = &[];
    for (peer, forwarded, is_good) in [
        ("192.0.2.9:1", none, true),
        ("[::ffff:192.0.2.9]:1", none, true),
        ("[2001:db8:1::7]:1", none, true),
        ("198.51.100.7:1", none, true),
        ("198.51.100.8:1", none, false),
        ("192.0.3.9:1", none, false),
        ("127.0.0.1:1", none, false),
        // Behind the proxy that was declared.
        ("10.1.2.3:1", &["192.0.2.9"], true),
        ("10.1.2.3:1", &["::ffff:192.0.2.9"], true),
        ("[::ffff:10.1.2.3]:1", &["192.0.2.9"], true),
        ("10.1.2.3:1", &["192.0.2.9, 10.7.7.7"], true),
        ("10.1.2.3:1", &["203.0.113.5, 192.0.2.9"], true),
        ("10.1.2.3:1", &["203.0.113.5", "192.0.2.9"], true),
        // What the client itself wrote in front.
        ("10.1.2.3:1", &["192.0.2.9, 203.0.113.5"], false),
        ("10.1.2.3:1", &["192.0.2.9", "203.0.113.5"], false),
        ("10.1.2.3:1", &["192.0.2.9, unknown"], false),
        ("10.1.2.3:1", &["192.0.2.9:443"], false),
        ("10.1.2.3:1", &["192.0.2.9, "], false),
        ("10.1.2.3:1", none, false),
        // A stranger's header proves nothing.
        ("203.0.113.5:1", &["192.0.2.9"], false),
        ("[2001:db9::1]:1", &["2001:db8::1"], false),
    ] {
        let mut caller = caller.at_peer(peer);
        for value in forwarded {
            caller = caller.with("x-forwarded-for", value);
        }
        for path in ["/-/whoami", "/-/v1/search?text=x"] {
            let answer = caller.get(path).await;
            if is_good {
                answer.ok();
            } else {
                refused_as(&answer, 401, "other_address");
                assert_eq!(answer.header("www-authenticate"), "ipaddress", "{peer} {forwarded:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_is_ended_by_its_key_the_start_of_it_or_itself() {
    let app = TestApp::new();
    let [alice, bob] = [app.user("alice").await, app.user("bob").await];
    let delete = async |caller: &Caller, named: &str| caller.delete(&format!("{PATH}/token/{named}")).await;
    let names: [fn(&str) -> String; 5] = [
        key_of,
        |token| key_of(token)[..12].to_owned(),
        |token| key_of(token)[..6].to_owned(),
        |token| key_of(token).to_uppercase(),
        ToOwned::to_owned,
    ];
    for name in names {
        let token = with_new(&app, &alice, json!({ "readonly": false })).await;
        token.get("/-/whoami").await.ok();
        let named = name(token.token());
        // Somebody else's is none.
        refused_as(&delete(&bob, &named).await, 404, "token_not_found");
        token.get("/-/whoami").await.ok();
        assert_eq!(delete(&alice, &named).await.ok().json()["ok"], true);
        refused_as(&token.get("/-/whoami").await, 401, "sign_in_first");
        refused_as(&delete(&alice, &named).await, 404, "token_not_found");
        assert!(!app.files().contains_key(&format!("-/tokens/{}.json", key_of(token.token()))));
    }
    // Too short to mean one, and what is no key at all.
    for named in [&key_of(alice.token())[..5], "npm_unknown", "..%2f..%2fusers", "*"] {
        refused_as(&delete(&alice, named).await, 404, "token_not_found");
    }
    alice.get("/-/whoami").await.ok();
}

/// The list of a user's tokens as it is stored, to be changed by hand.
fn change_list(app: &TestApp, user: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let path = app.data().join(format!("-/token-lists/{}.json", hex(user.as_bytes())));
    let mut list: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut list);
    std::fs::write(&path, serde_json::to_vec(&list).unwrap()).unwrap();
}

#[tokio::test]
async fn a_start_that_fits_two_tokens_ends_neither() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let token = with_new(&app, &alice, json!({ "readonly": false })).await;
    let key = key_of(token.token());
    change_list(&app, "alice", |list| {
        let mut twin = list.iter().find(|entry| entry["hash"] == key.as_str()).unwrap().clone();
        twin["hash"] = json!(format!("{}{}", &key[..10], "0".repeat(54)));
        list.push(twin);
    });
    refused_as(&alice.delete(&format!("{PATH}/token/{}", &key[..10])).await, 404, "token_not_found");
    token.get("/-/whoami").await.ok();
    alice.delete(&format!("{PATH}/token/{}", &key[..20])).await.ok();
    refused_as(&token.get("/-/whoami").await, 401, "sign_in_first");
}

#[tokio::test]
async fn beyond_a_thousand_tokens_the_oldest_sign_in_ends() {
    let app = TestApp::new();
    let first = app.user("alice").await;
    let second = app.user("alice").await;
    let made = with_new(&app, &first, json!({ "readonly": false, "name": "made" })).await;
    change_list(&app, "alice", |list| {
        // Older than all, but made on purpose: those stay.
        let template = list.iter().find(|entry| entry["record"]["name"] == "made").unwrap().clone();
        let others = (0..997).map(|number| {
            let mut entry = template.clone();
            entry["hash"] = json!(format!("{number:064x}"));
            entry
        });
        *list = others.chain(list.clone()).collect();
    });
    assert_eq!(listed(&second).await.len(), 1000);
    let newest = app.user("alice").await;
    refused_as(&first.get("/-/whoami").await, 401, "sign_in_first");
    for caller in [&second, &made, &newest] {
        caller.get("/-/whoami").await.ok();
    }
    assert_eq!(listed(&newest).await.len(), 1000);
}

#[tokio::test]
async fn a_token_with_limits_manages_no_account() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    for limits in [
        json!({ "readonly": true }),
        json!({ "name": "x", "packages": ["@acme/*"], "packages_and_scopes_permission": "read-write" }),
        json!({ "name": "x", "packages_and_scopes_permission": "no-access" }),
    ] {
        let limited = with_new(&app, &alice, limits.clone()).await;
        let before = (app.files(), listed(&alice).await.len());
        let change = |body: Value| {
            let limited = limited.clone();
            async move { limited.post("/-/npm/v1/user", &body).await }
        };
        for answer in [
            create(&limited, json!({ "readonly": false })).await,
            limited.delete(&format!("{PATH}/token/{}", key_of(alice.token()))).await,
            limited.delete(&format!("{PATH}/token/{}", key_of(limited.token()))).await,
            change(json!({ "email": "eve@example.test" })).await,
            change(json!({ "password": { "old": PASSWORD, "new": "another" } })).await,
            change(json!({ "tfa": { "password": PASSWORD, "mode": "auth-only" } })).await,
            change(json!({ "tfa": ["123456"] })).await,
        ] {
            refused_as(&answer, 403, "limited_token");
        }
        assert_eq!((app.files(), listed(&alice).await.len()), before, "{limits}");
        // Its own end it may bring about: whoever holds a token may.
        limited.delete(&format!("/-/user/token/{}", limited.token())).await.ok();
        refused_as(&limited.get("/-/whoami").await, 401, "sign_in_first");
    }
}

#[tokio::test]
async fn no_token_is_made_without_the_password_or_of_a_wish_that_makes_no_sense() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let before = listed(&alice).await.len();
    for body in [json!({ "password": "wrong" }), json!({ "password": "" }), json!({}), json!({ "name": "x" })] {
        let answer = alice.post(PATH, &body).await;
        refused_as(&answer, 401, "wrong_password");
        assert_eq!(answer.header("www-authenticate"), "", "npm would show its own advice");
    }
    let many: Vec<String> = (0..101).map(|number| format!("package-{number}")).collect();
    let networks: Vec<String> = (0..101).map(|number| format!("192.0.2.{number}")).collect();
    for wanted in [
        json!({ "cidr_whitelist": ["everywhere"] }),
        json!({ "cidr_whitelist": ["192.0.2.0/33"] }),
        json!({ "cidr_whitelist": "192.0.2.0/24" }),
        json!({ "cidr_whitelist": networks }),
        json!({ "name": "x", "packages": ["lod*"] }),
        json!({ "name": "x", "packages": many }),
        json!({ "name": "x", "scopes": ["a/b"] }),
        json!({ "name": "x", "expires": 36_501 }),
        json!({ "name": "x", "expires": -1 }),
        json!({ "name": "x\n" }),
        json!({ "name": "x".repeat(1025) }),
        json!({ "name": "x", "packages_and_scopes_permission": "everything" }),
        json!({ "name": "x", "packages_and_scopes_permission": "read-write-stage-only" }),
        json!({ "readonly": "no" }),
    ] {
        refused(&create(&alice, wanted).await, 400);
    }
    assert_eq!(listed(&alice).await.len(), before);
}

/// With a package whose changes somebody has to confirm.
async fn careful() -> Company {
    Company::with(|settings| {
        let mut careful = rule("@acme/*", &[(Action::Publish, &["github:org/acme", "user:lena"])]);
        careful.confirm = true;
        settings.access.rules = vec![careful];
    })
    .await
}

/// Asks for a token as somebody of GitHub's, who has no password here.
async fn wish(caller: &Caller) -> Answer {
    caller.post(PATH, &json!({ "password": "not-of-github", "readonly": false })).await
}

#[tokio::test]
async fn the_addresses_of_the_page_are_for_clients_that_open_pages() {
    let company = careful().await;
    let ann = company.person("ann").await;
    for (kind, is_for_web) in [(Some("web"), true), (Some("legacy"), false), (Some("sso"), false), (None, false)] {
        let caller = kind.map_or_else(|| ann.clone(), |kind| ann.with("npm-auth-type", kind));
        for answer in [wish(&caller).await, caller.publish(&Tarball::new("@acme/tool", "1.0.0")).await] {
            refused_as(&answer, 401, "one_time_code");
            assert_eq!(answer.header("www-authenticate"), "OTP");
            let body = answer.json();
            assert!(body["error"].as_str().unwrap().contains("one-time pass"), "npm looks for these words");
            assert_eq!(
                (body["authUrl"].is_string(), body["doneUrl"].is_string()),
                (is_for_web, is_for_web),
                "{kind:?}"
            );
            let notice = answer.header("npm-notice");
            assert!(notice.starts_with("Open http://localhost:4873/-/login/"), "{notice}");
        }
    }
    assert_eq!(ann.get("/@acme%2ftool").await.status, 404);
}

#[tokio::test]
async fn somebody_of_githubs_confirms_on_a_page_and_the_code_works_once() {
    let company = careful().await;
    let ann = company.person("ann").await;
    let web = ann.with("npm-auth-type", "web");
    let challenge = wish(&web).await.json();
    let (page, done) = (challenge["authUrl"].as_str().unwrap(), path_in(challenge["doneUrl"].as_str().unwrap()));
    let waiting = async || {
        let answer = company.app.anybody().get(&done).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (202, "{}"));
        assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    };
    waiting().await;
    let tab = Tab::open(&company.app, page).await;
    // Nobody has signed in in this browser.
    assert_eq!(tab.decide("confirm").await.status, 404);
    // It is ann's to say, and nobody else's.
    assert_eq!(tab.sign_in_at(&company.github, "pat").await.status, 403);
    assert_eq!(tab.sign_in_at(&company.github, "ann").await.status, 303);
    waiting().await;
    // Another browser that knows the address sees the form and not the answer.
    let other = Tab::open(&company.app, page).await;
    assert!(!other.page().await.text().contains("csrf"));
    assert_eq!(other.decide("confirm").await.status, 404);
    waiting().await;
    assert_eq!(tab.decide("confirm").await.status, 303);
    let code = tab.code().await;
    let polled = company.app.anybody().get(&done).await.ok().json();
    assert_eq!(polled, json!({ "token": code }));
    refused_as(&company.app.anybody().get(&done).await, 404, "no_login");

    let pat = company.person("pat").await;
    let with_code = |caller: &Caller| caller.with("npm-otp", &code);
    // For her account only, not for a package, and not for somebody else.
    let other_subject = with_code(&ann).publish(&Tarball::new("@acme/tool", "1.0.0")).await;
    refused_as(&other_subject, 401, "one_time_code");
    refused_as(&wish(&with_code(&pat)).await, 401, "one_time_code");
    refused_as(&wish(&ann.with("npm-otp", "aaaa-bbbb-cccc-dddd")).await, 401, "one_time_code");
    let made = wish(&with_code(&ann)).await.ok().json();
    company.app.anybody().with_token(made["token"].as_str().unwrap()).get("/-/whoami").await.ok();
    refused_as(&wish(&with_code(&ann)).await, 401, "one_time_code");
}

/// The code of a confirmation that somebody gave on the page of a challenge.
async fn confirmed(company: &Company, challenge: &Answer, login: &str) -> String {
    let tab = Tab::open(&company.app, challenge.json()["authUrl"].as_str().unwrap()).await;
    assert_eq!(tab.sign_in_at(&company.github, login).await.status, 303);
    assert_eq!(tab.decide("confirm").await.status, 303);
    tab.code().await
}

#[tokio::test]
async fn a_confirmation_is_of_one_package_and_lasts_minutes() {
    let company = careful().await;
    let ann = company.person("ann").await.with("npm-auth-type", "web");
    let publish = async |caller: &Caller, name: &str| caller.publish(&Tarball::new(name, "1.0.0")).await;
    let challenge = publish(&ann, "@acme/one").await;
    refused_as(&challenge, 401, "one_time_code");
    let one = ann.with("npm-otp", &confirmed(&company, &challenge, "ann").await);
    refused_as(&publish(&one, "@acme/two").await, 401, "one_time_code");
    refused_as(&wish(&one).await, 401, "one_time_code");
    assert_eq!(publish(&one, "@acme/one").await.status, 201);
    // Late.
    let challenge = publish(&ann, "@acme/two").await;
    let late = ann.with("npm-otp", &confirmed(&company, &challenge, "ann").await);
    company.app.clock.advance(Duration::from_mins(5));
    refused_as(&publish(&late, "@acme/two").await, 401, "one_time_code");
    // The page as well.
    let challenge = publish(&ann, "@acme/two").await.json();
    company.app.clock.advance(Duration::from_mins(10));
    assert_eq!(company.app.anybody().get(&path_in(challenge["authUrl"].as_str().unwrap())).await.status, 404);
    refused_as(&company.app.anybody().get(&path_in(challenge["doneUrl"].as_str().unwrap())).await, 404, "no_login");
    // Said no.
    let challenge = publish(&ann, "@acme/two").await.json();
    let tab = Tab::open(&company.app, challenge["authUrl"].as_str().unwrap()).await;
    assert_eq!(tab.sign_in_at(&company.github, "ann").await.status, 303);
    assert_eq!(tab.decide("deny").await.status, 303);
    let answer = company.app.anybody().get(&path_in(challenge["doneUrl"].as_str().unwrap())).await;
    refused_as(&answer, 403, "login_denied");
    assert_eq!(tab.decide("confirm").await.status, 404);
    refused_as(&ann.get("/@acme%2ftwo").await, 404, "package_not_found");
}

/// yarn classic and old `.npmrc` files send name and password with each request.
#[tokio::test]
async fn who_sends_a_password_with_each_request_can_confirm_too() {
    let company = careful().await;
    company.local("lena").await;
    let basic = crate::support::tarballs::base64(format!("lena:{PASSWORD}").as_bytes());
    let lena = company.app.anybody().with("authorization", &format!("Basic {basic}")).with("npm-auth-type", "web");
    let challenge = lena.publish(&Tarball::new("@acme/tool", "1.0.0")).await;
    refused_as(&challenge, 401, "one_time_code");
    let tab = Tab::open(&company.app, challenge.json()["authUrl"].as_str().unwrap()).await;
    assert_eq!(tab.sign_in("lena", "wrong", "").await.status, 401);
    assert_eq!(tab.sign_in("lena", PASSWORD, "").await.status, 303);
    assert_eq!(tab.decide("confirm").await.status, 303);
    let code = tab.code().await;
    assert_eq!(lena.with("npm-otp", &code).publish(&Tarball::new("@acme/tool", "1.0.0")).await.status, 201);
    let again = lena.with("npm-otp", &code).publish(&Tarball::new("@acme/tool", "1.1.0")).await;
    refused_as(&again, 401, "one_time_code");
}

#[tokio::test]
async fn a_token_of_githubs_own_stands_for_the_password() {
    let company = careful().await;
    let ann = company.person("ann").await;
    let ask = async |password: &str| ann.post(PATH, &json!({ "password": password, "readonly": true })).await;
    for password in [
        company.github.personal_token("pat"),
        format!("ghp_{}", "a1B2".repeat(9)),
        company.github.foreign_oauth_token("ann"),
        String::new(),
    ] {
        refused_as(&ask(&password).await, 401, "one_time_code");
    }
    ask(&company.github.personal_token("ann")).await.ok();
    assert_eq!(listed(&ann).await.len(), 2);
}

/// All that a log must not have, under the most talkative settings.
#[tokio::test]
async fn no_secret_is_ever_logged() {
    let github = crate::support::github::GitHub::start().await;
    github.add_organization("acme");
    github.add_user("ann");
    github.add_member("acme", "ann", false);
    let config = format!(
        "[github]\nclient_id = \"{}\"\nclient_secret = \"{}\"\norganizations = [\"acme\"]\napi_url = \"{}\"\nweb_url = \"{}\"\n\
         [log]\nlevel = \"trace\"\n[packages]\nproxy = false\n[[package]]\nname = [\"@acme/*\"]\n\
         publish = [\"github:org/acme\"]\nconfirm = true\n",
        crate::support::github::GitHub::CLIENT_ID,
        crate::support::github::GitHub::CLIENT_SECRET,
        github.api_url(),
        github.web_url(),
    );
    let server = Settings::alone().config(&config).start().await;
    let http = server.http();
    let mut secrets = vec![crate::support::github::GitHub::CLIENT_SECRET.to_owned()];
    let mut canary = |what: &str| {
        let text = format!("canary-{what}-{}", key_of(what));
        secrets.push(text.clone());
        text
    };
    let (password, code, unknown) = (canary("password"), canary("code"), canary("token"));
    let base = server.url();
    let path = |url: &str| url.strip_prefix(base.trim_end_matches('/')).unwrap_or_else(|| panic!("{url}")).to_owned();
    // Wrong passwords, in the body and in the header; a code and a token that are none.
    let sign_in = |password: &str| crate::support::app::sign_in_document("ann", password);
    http.put("/-/user/org.couchdb.user:ann", &sign_in(&password)).await;
    let basic = crate::support::tarballs::base64(format!("ann:{password}").as_bytes());
    secrets.push(basic.clone());
    let headers = [("authorization", format!("Basic {basic}")), ("npm-otp", code.clone())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    http.send(Method::GET, "/-/whoami", &headers, Vec::new()).await;
    http.with_token(&unknown).get("/-/whoami").await;
    http.delete(&format!("/-/user/token/{unknown}")).await;
    http.delete(&format!("/-/npm/v1/tokens/token/{unknown}")).await;
    // A token of GitHub's in place of the password.
    let personal = github.personal_token("ann");
    let token = http.put("/-/user/org.couchdb.user:ann", &sign_in(&personal)).await.ok().json();
    let token = token["token"].as_str().unwrap().to_owned();
    let ann = http.with_token(&token);
    http.with_token(&personal).get("/-/whoami").await.ok();
    secrets.extend([personal.clone(), token.clone()]);
    let wanted = json!({ "password": personal, "readonly": true });
    let made = ann.send(Method::POST, PATH, &[], wanted.to_string().into_bytes()).await.ok().json();
    let made = made["token"].as_str().unwrap().to_owned();
    secrets.push(made.clone());
    // A sign-in in the browser.
    let started = http.send(Method::POST, "/-/v1/login", &[], Vec::new()).await.ok().json();
    let (login, done) = (path(started["loginUrl"].as_str().unwrap()), path(started["doneUrl"].as_str().unwrap()));
    secrets.extend(login.rsplit('/').next().map(ToOwned::to_owned));
    secrets.extend(done.rsplit('.').next().map(ToOwned::to_owned));
    let page = http.get(&login).await.ok();
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    secrets.extend(cookie.split('=').nth(1).map(ToOwned::to_owned));
    let browser = [("cookie", cookie.as_str())];
    github.sign_in_as("ann");
    let there = http.send(Method::GET, &format!("{login}/github"), &browser, Vec::new()).await;
    let there = there.header("location").to_owned();
    let question = there.strip_prefix(github.web_url().trim_end_matches('/')).unwrap().to_owned();
    let back = Http::new(&github.web_url()).get(&question).await.header("location").to_owned();
    let query: Vec<(String, String)> =
        url::form_urlencoded::parse(back.split('?').nth(1).unwrap().as_bytes()).into_owned().collect();
    secrets.extend(query.into_iter().map(|(_, value)| value));
    http.send(Method::GET, &path(&back), &browser, Vec::new()).await;
    let page = http.send(Method::GET, &login, &browser, Vec::new()).await.ok().text();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = format!("csrf={csrf}&decision=confirm").into_bytes();
    secrets.push(csrf);
    http.send(Method::POST, &format!("{login}/confirm"), &browser, form).await;
    let by_browser = http.get(&done).await.ok().json()["token"].as_str().unwrap().to_owned();
    secrets.push(by_browser.clone());
    http.with_token(&by_browser).get("/-/whoami").await.ok();
    // What our server and GitHub told each other.
    let told = github.seen();
    let bearer = told.iter().filter_map(|seen| seen.authorization.as_ref()?.split(' ').nth(1).map(ToOwned::to_owned));
    secrets.extend(bearer);
    // A change that has to be confirmed, with a code that is none; revoking and signing out, with tokens in addresses.
    let document = crate::support::http::publish_document(&Tarball::new("@acme/tool", "1.0.0"), "latest");
    let headers = [("npm-otp", code.as_str()), ("npm-auth-type", "web")];
    let challenge = ann.send(Method::PUT, "/@acme%2ftool", &headers, document.to_string().into_bytes()).await.json();
    secrets.extend(challenge["authUrl"].as_str().unwrap().rsplit('/').next().map(ToOwned::to_owned));
    ann.delete(&format!("/-/npm/v1/tokens/token/{made}")).await.ok();
    http.delete(&format!("/-/user/token/{by_browser}")).await.ok();
    http.delete(&format!("/-/user/token/{token}")).await.ok();
    let mut server = server;
    server.stop().await;
    let log = server.log().text();
    assert!(log.contains("/-/user/token/***"), "the requests are not in the log: {}", server.log().tail(20));
    for secret in &secrets {
        assert!(secret.len() >= 16, "{secret} is no canary");
        assert!(!log.contains(secret.as_str()), "{secret} is in the log");
    }
    assert!(secrets.len() > 15);
}
