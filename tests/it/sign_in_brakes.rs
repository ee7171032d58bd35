//! What stands between strangers and accounts: brakes on guessing, who may make an account, and accounts that come from
//! elsewhere or are taken away.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use holdfast::auth::Registration;
use holdfast::settings::{Auto, RegistrationSetting};
use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, PASSWORD, TestApp, refused, sign_in_document};
use crate::support::company::{Company, without_names};
use crate::support::github::Mode;
use crate::support::http::Answer;
use crate::support::tarballs::{self, Tarball};
use crate::support::{PATIENCE, hex};

#[track_caller]
fn refused_as(answer: &Answer, status: u16, code: &str) {
    refused(answer, status);
    assert_eq!(answer.json()["code"], code, "{}", answer.text());
}

/// Refused until so many seconds have gone by.
#[track_caller]
fn has_to_wait(answer: &Answer, seconds: u64) {
    refused_as(answer, 429, "locked");
    assert_eq!(answer.header("retry-after"), seconds.to_string());
    assert!(answer.json()["error"].as_str().unwrap().contains(&format!(" {seconds} seconds")), "{}", answer.text());
}

/// Behind a proxy that tells where requests come from, with the accounts of ann and bob, and no others to be made.
async fn guarded() -> TestApp {
    let app = TestApp::with(|settings| {
        settings.server.listen = "0.0.0.0:4873".parse().unwrap();
        settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        settings.access.registration = RegistrationSetting::Set(Registration::Closed);
        settings.access.anonymous_read = Auto::Closed;
    });
    for name in ["ann", "bob"] {
        app.app.registry.auth().create_account(name, PASSWORD.to_owned(), "").await.unwrap();
    }
    app
}

/// Somebody behind the proxy.
fn at(app: &TestApp, address: &str) -> Caller {
    app.anybody().at_peer("10.0.0.1:1").with("x-forwarded-for", address)
}

#[tokio::test]
async fn a_name_that_is_guessed_at_waits_longer_each_time() {
    let app = guarded().await;
    let token = at(&app, "192.0.2.1").sign_in("ann", PASSWORD).await.ok().json();
    let token = token["token"].as_str().unwrap();
    for number in 0..10 {
        let answer = at(&app, &format!("198.51.100.{number}")).sign_in("ann", "wrong").await;
        refused_as(&answer, 401, "wrong_password");
    }
    let mut wait = 30;
    // The try during the wait doubles the next one, and so does the failure after it.
    for next in [120, 480, 900, 900] {
        // The right password as well, from everywhere, in any case.
        has_to_wait(&at(&app, "203.0.113.1").sign_in("ANN", PASSWORD).await, wait);
        // Another name from there, and tokens, go on.
        at(&app, "198.51.100.1").sign_in("bob", PASSWORD).await.ok();
        at(&app, "198.51.100.1").with_token(token).get("/-/whoami").await.ok();
        app.clock.advance(Duration::from_secs(wait));
        refused_as(&at(&app, "203.0.113.2").sign_in("ann", "wrong").await, 401, "wrong_password");
        wait = next;
    }
    has_to_wait(&at(&app, "203.0.113.1").sign_in("ann", PASSWORD).await, 900);
    // Half of it is over.
    app.clock.advance(Duration::from_secs(450));
    has_to_wait(&at(&app, "203.0.113.1").sign_in("ann", PASSWORD).await, 450);
    app.clock.advance(Duration::from_secs(450));
    at(&app, "203.0.113.1").sign_in("ann", PASSWORD).await.ok();
}

#[tokio::test]
async fn who_signs_in_starts_from_nothing() {
    let app = guarded().await;
    for _ in 0..2 {
        for number in 0..9 {
            let answer = at(&app, &format!("198.51.100.{number}")).sign_in("ann", "wrong").await;
            refused_as(&answer, 401, "wrong_password");
        }
        at(&app, "192.0.2.1").sign_in("ann", PASSWORD).await.ok();
    }
    // And what is a quarter of an hour ago does not count.
    for _ in 0..2 {
        for number in 0..9 {
            let answer = at(&app, &format!("198.51.100.{number}")).sign_in("bob", "wrong").await;
            refused_as(&answer, 401, "wrong_password");
        }
        app.clock.advance(Duration::from_mins(15));
    }
}

#[tokio::test]
async fn an_address_that_guesses_waits_whatever_the_names() {
    // The same customer of a provider: by IPv4, also as IPv6 writes it, and by any address of a /64. What the client wrote in
    // front of what the proxy added is no other address.
    let same_v4: fn(usize) -> String = |number| match number % 3 {
        0 => "198.51.100.7".to_owned(),
        1 => "::ffff:198.51.100.7".to_owned(),
        _ => format!("203.0.113.{number}, 198.51.100.7"),
    };
    let same_64: fn(usize) -> String = |number| format!("2001:db8:1:2:{number:x}::{number:x}");
    for (address, same, other) in [
        (same_v4, "203.0.113.200, ::ffff:c633:6407", "198.51.100.8"),
        (same_64, "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"),
    ] {
        let app = guarded().await;
        let token = at(&app, "192.0.2.1").sign_in("ann", PASSWORD).await.ok().json();
        for number in 0..30 {
            let answer = at(&app, &address(number)).sign_in(&format!("name-{number}"), "wrong").await;
            refused_as(&answer, 401, "wrong_password");
        }
        has_to_wait(&at(&app, same).sign_in("ann", PASSWORD).await, 30);
        let basic = tarballs::base64(format!("ann:{PASSWORD}").as_bytes());
        let caller = at(&app, same).with("authorization", &format!("Basic {basic}"));
        has_to_wait(&caller.get("/-/whoami").await, 30);
        at(&app, same).with_token(token["token"].as_str().unwrap()).get("/-/whoami").await.ok();
        at(&app, other).sign_in("ann", PASSWORD).await.ok();
    }
}

#[tokio::test]
async fn a_proxy_that_was_not_declared_is_not_believed() {
    let app = TestApp::with(|settings| {
        settings.access.registration = RegistrationSetting::Set(Registration::Closed);
        settings.server.public_url = Some("https://npm.example.test".parse().unwrap());
    });
    let stranger =
        |number: usize| app.anybody().at_peer("127.0.0.1:1").with("x-forwarded-for", &format!("192.0.2.{number}"));
    for number in 0..31 {
        // Whoever passed this on was not declared, so no password may come this way.
        let answer = stranger(number).sign_in(&format!("name-{number}"), "wrong").await;
        refused_as(&answer, 403, "plain_password");
    }
    // Tokens of GitHub's do not exist here; guesses by name and password count for the peer itself.
    for number in 0..30 {
        refused_as(&app.anybody().sign_in(&format!("name-{number}"), "wrong").await, 401, "wrong_password");
    }
    has_to_wait(&app.anybody().sign_in("ann", "wrong").await, 30);
}

#[tokio::test]
async fn nobody_learns_by_guessing_who_has_an_account() {
    for registration in [Registration::Closed, Registration::Invitation] {
        let app = guarded().await;
        let app = if registration == Registration::Closed {
            app
        } else {
            let app = TestApp::with(|settings| {
                settings.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
                settings.access.registration = RegistrationSetting::Set(registration);
            });
            app.app.registry.auth().create_account("ann", PASSWORD.to_owned(), "").await.unwrap();
            app
        };
        app.app.registry.auth().create_account("blocked", PASSWORD.to_owned(), "").await.unwrap();
        app.app.registry.auth().set_blocked("blocked", true).await.unwrap();
        for round in 0..8 {
            let mut answers = Vec::new();
            for (number, name) in ["ann", "blocked", "nobody"].into_iter().enumerate() {
                // Of a blocked account even the right password is as wrong as any.
                let password = if name == "blocked" { PASSWORD } else { "wrong" };
                let caller = at(&app, &format!("192.0.2.{}", round * 10 + number));
                let by_body = caller.sign_in(name, password).await;
                let value = tarballs::base64(format!("{name}:{password}").as_bytes());
                let by_header = caller.with("authorization", &format!("Basic {value}")).get("/-/whoami").await;
                let headers = |answer: &Answer| {
                    let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
                    names.sort();
                    (names, answer.header("retry-after").to_owned(), answer.header("www-authenticate").to_owned())
                };
                answers.push(
                    [by_body, by_header].map(|answer| {
                        (answer.status.as_u16(), without_names(&answer.json(), &[name]), headers(&answer))
                    }),
                );
            }
            let expected = if round < 5 { 401 } else { 429 };
            assert_eq!(answers[0][0].0, expected, "{round}: {answers:?}");
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{round}: {answers:#?}");
        }
    }
}

#[tokio::test]
async fn too_many_sign_ins_at_once_are_sent_away_and_tokens_wait_for_none() {
    let app = guarded().await;
    let token = at(&app, "192.0.2.1").sign_in("ann", PASSWORD).await.ok().json();
    let caller = at(&app, "192.0.2.1").with_token(token["token"].as_str().unwrap());
    // Each from an address of its own and for a name of its own: only the hashing is short.
    let mut running: FuturesUnordered<_> = (0..100)
        .map(|number| {
            let somebody = at(&app, &format!("198.51.100.{number}"));
            async move { somebody.sign_in(&format!("name-{number}"), "wrong").await }
        })
        .collect();
    let mut wrong = 0;
    let sent_away = loop {
        let answer = running.next().await.expect("somebody is sent away");
        if answer.json()["code"] == "busy" {
            break answer;
        }
        refused_as(&answer, 401, "wrong_password");
        wrong += 1;
    };
    refused_as(&sent_away, 429, "busy");
    assert_eq!(sent_away.header("retry-after"), "2");
    // Both places for hashing are taken and sixty-four wait for them, and none of these goes on before this test looks at
    // them again: a request with a token that had to wait for a place would wait for ever.
    let with_token = async {
        for path in ["/-/whoami", "/-/npm/v1/tokens", "/-/v1/search?text=x"] {
            caller.get(path).await.ok();
        }
        caller.publish(&Tarball::new("tool", "1.0.0")).await
    };
    let published = tokio::time::timeout(PATIENCE, with_token).await.expect("a token waits for no password");
    assert_eq!(published.status, 201);
    while let Some(answer) = running.next().await {
        if answer.json()["code"] == "wrong_password" {
            wrong += 1;
        } else {
            refused_as(&answer, 429, "busy");
        }
    }
    assert!((66..100).contains(&wrong), "{wrong} were let in");
    // Being sent away is no guess.
    at(&app, "198.51.100.99").sign_in("ann", PASSWORD).await.ok();
}

#[tokio::test]
async fn requests_with_a_token_of_githubs_are_no_guesses_however_many_come_at_once() {
    let company = Company::with(|_| {}).await;
    company.person("pat").await.publish_versions("tool", &["1.0.0"]).await;
    let personal = company.github.personal_token("ann");
    company.github.forget();
    company.github.set_mode(Mode::Slow(Duration::from_millis(100)));
    let ann = company.app.anybody().with_token(&personal);
    // A client of npm's sends fifteen at once, pnpm up to sixty-four.
    for answer in join_all((0..64).map(|_| ann.get("/tool"))).await {
        answer.ok();
    }
    let asked = company.github.seen().iter().filter(|seen| seen.path == "/api/v3/user").count();
    assert_eq!(asked, 1, "GitHub was asked once");
    // A job that goes on with a token that was revoked locks nobody's address.
    company.github.set_mode(Mode::Well);
    let revoked = company.github.personal_token("ann");
    company.github.revoke_token(&revoked);
    let job = company.app.anybody().with_token(&revoked);
    for answer in join_all((0..64).map(|_| job.get("/-/whoami"))).await {
        refused_as(&answer, 401, "sign_in_first");
    }
    ann.get("/-/whoami").await.ok();
    company.person("eve").await.get("/-/whoami").await.ok();
}

#[tokio::test]
async fn made_up_tokens_of_githubs_are_guesses() {
    let company = Company::with(|_| {}).await;
    let pat = company.person("pat").await;
    company.github.forget();
    let made_up = |number: usize| company.app.anybody().with_token(&format!("ghp_{number:036}"));
    for number in 0..30 {
        refused_as(&made_up(number).get("/-/whoami").await, 401, "sign_in_first");
    }
    let asked = company.github.seen().len();
    has_to_wait(&made_up(30).get("/-/whoami").await, 30);
    assert_eq!(company.github.seen().len(), asked, "GitHub is asked no more");
    pat.get("/-/whoami").await.ok();
    // What can be none of GitHub's tokens never reaches it.
    company.app.clock.advance(Duration::from_secs(30));
    company.github.forget();
    for token in ["npm_unknown", "ghp_short", "ghs_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x"] {
        refused_as(&company.app.anybody().with_token(token).get("/-/whoami").await, 401, "sign_in_first");
    }
    assert!(company.github.seen().is_empty(), "{:?}", company.github.seen());
}

/// By invitation only, on this machine.
fn inviting() -> TestApp {
    TestApp::with(|settings| {
        settings.access.registration = RegistrationSetting::Set(Registration::Invitation);
    })
}

async fn accept(caller: &Caller, code: &str, name: &str, password: &str, again: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("name", name), ("password", password), ("again", again), ("email", "a@example.test")])
        .finish();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    caller.send(Method::POST, &format!("/-/invite/{code}"), &headers, form).await
}

#[tokio::test]
async fn an_invitation_makes_one_account_and_nothing_else_does() {
    let app = inviting();
    let auth = app.app.registry.auth();
    let nobody = app.anybody();
    refused_as(&nobody.sign_in("ann", PASSWORD).await, 401, "wrong_password");
    let code = auth.invite(Some("Ann"), Duration::from_hours(24)).await.unwrap();
    let page = nobody.get(&format!("/-/invite/{code}")).await.ok();
    assert!(page.header("content-type").starts_with("text/html") && page.text().contains("value=\"Ann\""));
    assert_eq!((page.header("cache-control"), page.header("referrer-policy")), ("no-store", "same-origin"));
    assert!(
        app.files()
            .iter()
            .all(|(path, content)| { !path.contains(&code) && !String::from_utf8_lossy(content).contains(&code) })
    );
    for (name, password, again, status) in [
        ("Ann", PASSWORD, "another", 400),
        ("Ann", "", "", 400),
        ("eve", PASSWORD, PASSWORD, 404),
        ("", PASSWORD, PASSWORD, 404),
    ] {
        let answer = accept(&nobody, &code, name, password, again).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.text());
        assert!(!answer.text().contains(PASSWORD));
    }
    // Over an open line nobody types a password.
    let open = accept(&nobody.at_peer("192.0.2.1:1"), &code, "Ann", PASSWORD, PASSWORD).await;
    assert_eq!(open.status, 403);
    assert!(auth.accounts().await.unwrap().is_empty());
    assert_eq!(accept(&nobody, &code, "ann", PASSWORD, PASSWORD).await.status, 201);
    nobody.sign_in("ann", PASSWORD).await.ok();
    // Used, unknown, no code at all, and over.
    let late = auth.invite(None, Duration::from_hours(1)).await.unwrap();
    let taken = auth.invite(None, Duration::from_hours(2)).await.unwrap();
    app.clock.advance(Duration::from_hours(1));
    for bad in [&code, &late, &"a".repeat(43), "x", "..%2f..%2fusers"] {
        assert_eq!(nobody.get(&format!("/-/invite/{bad}")).await.status, 404, "{bad}");
        assert_eq!(accept(&nobody, bad, "bob", PASSWORD, PASSWORD).await.status, 404, "{bad}");
    }
    // A name that is taken does not use it up.
    let answer = accept(&nobody, &taken, "ANN", "another pass phrase", "another pass phrase").await;
    assert_eq!(answer.status, 400);
    nobody.sign_in("ann", PASSWORD).await.ok();
    assert_eq!(accept(&nobody, &taken, "bob", PASSWORD, PASSWORD).await.status, 201);
    let names: Vec<String> = auth.accounts().await.unwrap().into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["ann", "bob"]);
}

#[tokio::test]
async fn of_two_who_use_one_invitation_at_once_one_gets_an_account() {
    for names in [["ann", "bob"], ["ann", "ann"], ["ann", "ANN"]] {
        let app = inviting();
        let auth = app.app.registry.auth();
        let code = auth.invite(None, Duration::from_hours(1)).await.unwrap();
        let nobody = app.anybody();
        let both = join_all(names.map(|name| accept(&nobody, &code, name, PASSWORD, PASSWORD))).await;
        let made = both.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(made, 1, "{names:?}: {:?}", both.iter().map(|answer| answer.status).collect::<Vec<_>>());
        let accounts = auth.accounts().await.unwrap();
        assert_eq!(accounts.len(), 1, "{names:?}");
        let winner = both.iter().position(|answer| answer.status == 201).unwrap();
        assert_eq!(accounts[0].name, names[winner]);
        nobody.sign_in(names[winner], PASSWORD).await.ok();
        assert_eq!(nobody.get(&format!("/-/invite/{code}")).await.status, 404);
    }
}

#[tokio::test]
async fn of_two_who_take_one_name_at_once_one_gets_it() {
    let app = TestApp::new();
    let nobody = app.anybody();
    let both = futures::join!(nobody.sign_in("ann", "first pass phrase"), nobody.sign_in("ANN", "second pass phrase"));
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    let first_won = statuses[0] == 201;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
    let (right, wrong) = if first_won {
        ("first pass phrase", "second pass phrase")
    } else {
        ("second pass phrase", "first pass phrase")
    };
    nobody.sign_in("Ann", right).await.ok();
    refused_as(&nobody.sign_in("ann", wrong).await, 401, "wrong_password");
}

#[tokio::test]
async fn names_that_differ_by_case_alone_are_one_account() {
    let app = TestApp::new();
    let first = app.user("Alice").await;
    let again = app.user("aLICE").await;
    for caller in [&first, &again] {
        assert_eq!(caller.get("/-/whoami").await.ok().json()["username"], "Alice");
    }
    refused_as(&app.anybody().sign_in("alice", "wrong").await, 401, "wrong_password");
    first.publish_versions("tool", &["1.0.0"]).await;
    again.publish_versions("tool", &["1.1.0"]).await;
    assert_eq!(again.get("/-/npm/v1/tokens").await.ok().json()["total"], 2);
    for path in ["/-/user/org.couchdb.user:alice", "/-/user/org.couchdb.user:ALICE"] {
        assert_eq!(app.anybody().get(path).await.ok().json()["name"], "Alice");
    }
    assert_eq!(app.app.registry.auth().accounts().await.unwrap().len(), 1);
}

/// Lines as Apache and Verdaccio write them, all for one password.
const HTPASSWD: [(&str, &str); 8] = [
    ("bcrypt-a", "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
    ("bcrypt-b", "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
    ("bcrypt-y", "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
    ("apr1", "$apr1$r31abcde$bLMECPkG822DraFf9Cs4Z/"),
    ("md5-crypt", "$1$saltsalt$NuzA7WTAelpl95xgBGWN60"),
    ("sha1", "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="),
    ("sha256-crypt", "$5$saltstringsalt1$ASFlBZK0GOdYh0vsKeAUYTLI7a0loXVwOsj781kkNPC"),
    (
        "sha512-crypt",
        "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
    ),
];
const HTPASSWD_PASSWORD: &str = "correct horse";

fn stored_account(app: &TestApp, name: &str) -> String {
    std::fs::read_to_string(app.data().join(format!("-/users/{}.json", hex(name.as_bytes())))).unwrap()
}

#[tokio::test]
async fn accounts_of_an_htpasswd_file_sign_in_and_their_hashes_are_made_anew() {
    let app = TestApp::with(|settings| {
        settings.access.registration = RegistrationSetting::Set(Registration::Closed);
    });
    let auth = app.app.registry.auth();
    let lines: Vec<String> = HTPASSWD.iter().map(|(name, hash)| format!("{name}:{hash}")).collect();
    let file = lines.join("\n");
    let imported = auth.import_htpasswd(&file).await.unwrap();
    assert_eq!((imported.made.len(), imported.left_out.len()), (HTPASSWD.len(), 0), "{imported:?}");
    for (name, hash) in HTPASSWD {
        assert!(stored_account(&app, name).contains(hash));
        refused_as(&app.anybody().sign_in(name, "correct horsf").await, 401, "wrong_password");
        assert!(stored_account(&app, name).contains(hash), "a wrong password changes nothing");
        app.anybody().sign_in(name, HTPASSWD_PASSWORD).await.ok();
        let stored = stored_account(&app, name);
        assert!(stored.contains("$argon2id$") && !stored.contains(hash), "{name}: {stored}");
        app.anybody().sign_in(name, HTPASSWD_PASSWORD).await.ok();
        refused_as(&app.anybody().sign_in(name, "wrong").await, 401, "wrong_password");
        assert_eq!(stored_account(&app, name), stored, "{name}: made anew once");
    }
    // Repeated, it leaves what is there alone, and says so line by line.
    let again = auth.import_htpasswd(&file).await.unwrap();
    assert!(again.made.is_empty());
    let lines: Vec<usize> = again.left_out.iter().map(|line| line.line).collect();
    assert_eq!(lines, (1..=HTPASSWD.len()).collect::<Vec<_>>());
    assert!(again.left_out.iter().all(|line| line.why.contains("taken")), "{again:?}");
    assert!(stored_account(&app, "apr1").contains("$argon2id$"));
}

#[tokio::test]
async fn lines_of_an_htpasswd_file_that_are_of_no_use_are_told() {
    let app = inviting();
    let sha = HTPASSWD[5].1;
    let file = format!(
        "# staff\nann:{sha}\nno colon\nbob:plain text\ncarl:abhfCpXqd4GrI\na/b:{sha}\n.x:{sha}\nANN:{sha}\n\nfay:{sha}\n"
    );
    let imported = app.app.registry.auth().import_htpasswd(&file).await.unwrap();
    assert_eq!(imported.made, ["ann", "fay"]);
    let told: Vec<usize> = imported.left_out.iter().map(|line| line.line).collect();
    assert_eq!(told, [3, 4, 5, 6, 7, 8], "{imported:?}");
    for line in &imported.left_out {
        assert!(!line.why.is_empty() && !line.why.contains("plain text") && !line.why.contains(sha), "{line:?}");
    }
    for name in ["bob", "carl"] {
        refused_as(&app.anybody().sign_in(name, HTPASSWD_PASSWORD).await, 401, "wrong_password");
    }
}

#[tokio::test]
async fn a_blocked_account_is_of_no_use_until_it_is_let_in_again() {
    let app = TestApp::closed();
    let alice = app.user("alice").await;
    let auth = app.app.registry.auth();
    let basic = tarballs::base64(format!("alice:{PASSWORD}").as_bytes());
    let basic = app.anybody().with("authorization", &format!("Basic {basic}"));
    auth.set_blocked("ALICE", true).await.unwrap();
    for answer in [alice.get("/-/whoami").await, alice.get("/tool").await, basic.get("/-/whoami").await] {
        refused_as(&answer, 401, "sign_in_first");
    }
    refused_as(&alice.publish(&Tarball::new("tool", "1.0.0")).await, 401, "sign_in_first");
    refused_as(&app.anybody().sign_in("alice", PASSWORD).await, 401, "wrong_password");
    auth.set_blocked("alice", false).await.unwrap();
    alice.get("/-/whoami").await.ok();
    basic.get("/-/whoami").await.ok();
    app.anybody().sign_in("alice", PASSWORD).await.ok();
}

#[tokio::test]
async fn a_blocked_account_of_githubs_is_told_so() {
    let company = Company::with(|_| {}).await;
    let ann = company.person("ann").await;
    let personal = company.github.personal_token("ann");
    let raw = company.app.anybody().with_token(&personal);
    raw.get("/-/whoami").await.ok();
    company.app.app.registry.auth().set_blocked("ann", true).await.unwrap();
    for _ in 0..2 {
        refused_as(&ann.get("/-/whoami").await, 403, "account_blocked");
        refused_as(&raw.get("/-/whoami").await, 403, "account_blocked");
        refused_as(&company.app.anybody().sign_in("ann", &personal).await, 403, "account_blocked");
    }
    company.app.app.registry.auth().set_blocked("ann", false).await.unwrap();
    ann.get("/-/whoami").await.ok();
    raw.get("/-/whoami").await.ok();
}

#[tokio::test]
async fn a_removed_account_leaves_its_name_and_not_its_tokens() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    alice.publish_versions("tool", &["1.0.0"]).await;
    alice.put("/-/user/v1/star", &json!({ "package": "tool" })).await.ok();
    app.app.registry.auth().remove_account("alice").await.unwrap();
    refused_as(&alice.get("/-/whoami").await, 401, "sign_in_first");
    refused_as(&alice.publish(&Tarball::new("tool", "1.1.0")).await, 401, "sign_in_first");
    refused_as(&app.anybody().get("/-/user/org.couchdb.user:alice").await, 404, "user_not_found");
    app.anybody().get("/tool").await.ok();
    assert!(!app.files().keys().any(|path| path.starts_with("-/tokens/") || path.starts_with("-/token-lists/")));
    // Whoever takes the name later has another password, and no token from before.
    app.anybody().put("/-/user/org.couchdb.user:alice", &sign_in_document("alice", "another pass phrase")).await.ok();
    refused_as(&app.anybody().sign_in("alice", PASSWORD).await, 401, "wrong_password");
    refused_as(&alice.get("/-/whoami").await, 401, "sign_in_first");
}

/// `_auth` in an `.npmrc`: an install sends name and password with dozens of requests at once.
#[tokio::test]
async fn a_crowd_of_requests_with_a_password_is_no_crowd_of_guesses() {
    let app = TestApp::closed();
    app.user("ann").await.publish_versions("tool", &["1.0.0"]).await;
    let basic = |password: &str| {
        let text = STANDARD.encode(format!("ann:{password}"));
        app.anybody().with("authorization", &format!("Basic {text}"))
    };
    let right = basic(PASSWORD);
    let answers = join_all((0..60).map(|_| right.get("/tool"))).await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    refused(&basic("wrong").get("/tool").await, 401);
    // What is remembered ends with the password, and with the account's good name.
    let auth = app.app.registry.auth();
    auth.set_password("ann", "another".to_owned()).await.unwrap();
    refused(&right.get("/tool").await, 401);
    basic("another").get("/tool").await.ok();
    auth.set_blocked("ann", true).await.unwrap();
    refused(&basic("another").get("/tool").await, 401);
}
