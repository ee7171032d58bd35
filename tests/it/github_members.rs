//! What people may do by what they are at GitHub: members of organisations and teams, with roles in repositories; and
//! whose an account is when names change hands there.

use std::collections::BTreeMap;

use holdfast::auth::{Action, Rule, TokenWish};
use holdfast::settings::Settings;
use reqwest::Method;
use serde_json::json;

use crate::support::app::{Caller, PASSWORD, TestApp, refused};
use crate::support::github::{GitHub, Mode};
use crate::support::http::Answer;
use crate::support::signed_in::{
    REMEMBER, TICK, app_for, app_with_local_accounts, asked, known_by, refused_as, unavailable,
};
use crate::support::tarballs::Tarball;

/// A rule for packages, as the settings have it.
fn rule(pattern: &str, lists: &[(Action, &[&str])]) -> Rule {
    let mut rule = Rule::new(pattern.parse().unwrap());
    for (action, listed) in lists {
        rule.principals.insert(*action, listed.iter().map(|text| text.parse().unwrap()).collect());
    }
    rule
}

/// Everybody of GitHub may come in, and a rule says the rest.
fn app_with_rule(github: &GitHub, lists: &[(Action, &[&str])]) -> TestApp {
    app_with(github, &[], |settings| settings.access.rules.push(rule("@acme/*", lists)))
}

fn app_with(github: &GitHub, organizations: &[&str], change: impl FnOnce(&mut Settings)) -> TestApp {
    TestApp::with(|settings| {
        known_by(settings, github, organizations);
        change(settings);
    })
}

/// A GitHub with these people.
async fn with_people(names: &[&str]) -> GitHub {
    let github = GitHub::start().await;
    for name in names {
        github.add_user(name);
    }
    github
}

/// One try of everything that reads or changes `@acme/tool`, of which there is version 1.0.0.
async fn everything(caller: &Caller) -> Vec<(&'static str, Answer)> {
    let (json, body) = ([("content-type", "application/json")], "\"1.0.0\"");
    vec![
        ("whoami", caller.whoami().await),
        ("read", caller.get("/@acme%2ftool").await),
        ("install", caller.get_abbreviated("/@acme%2ftool").await),
        ("tarball", caller.get("/@acme%2ftool/-/tool-1.0.0.tgz").await),
        ("search", caller.get("/-/v1/search?text=tool").await),
        ("publish", caller.publish(&Tarball::new("@acme/tool", "2.0.0")).await),
        ("create", caller.publish(&Tarball::new("@acme/other", "1.0.0")).await),
        ("tag", caller.send(Method::PUT, "/-/package/@acme%2ftool/dist-tags/next", &json, body).await),
        ("owners", caller.put("/-/package/@acme%2ftool/owners", &json!({ "user": "ada" })).await),
        ("unpublish", caller.delete("/@acme%2ftool/-rev/1-0").await),
        ("make a token", caller.post("/-/npm/v1/tokens", &json!({ "password": "x", "readonly": true })).await),
        ("star", caller.put("/-/user/v1/star", &json!({ "package": "@acme/tool" })).await),
    ]
}

#[tokio::test]
async fn only_members_come_in_whatever_they_want_to_do() {
    let github = with_people(&["ada", "eve", "newcomer", "root"]).await;
    github.add_member("Acme-Corp", "ada", false);
    github.add_pending_member("Acme-Corp", "newcomer");
    for name in ["eve", "root"] {
        github.add_member("elsewhere", name, true);
    }
    // In any case, as people write it. In the older system an administrator outside could still change everything.
    let app = app_with(&github, &["other", "aCME-corp"], |settings| {
        settings.access.admins = vec!["github:user/root".parse().unwrap()];
    });
    let ada = app.with_token(&github.oauth_token("ada"));
    ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let before = app.stored();
    for name in ["eve", "newcomer", "root"] {
        for token in [github.oauth_token(name), github.personal_token(name)] {
            let outsider = app.with_token(&token);
            for (what, answer) in everything(&outsider).await {
                let sentence = refused(&answer, 403);
                assert_eq!(answer.json()["code"], "not_a_member", "{what}");
                assert!(sentence.contains(&format!("`{name}`")), "{what}: {sentence}");
            }
            refused_as(&app.anybody().sign_in(name, &token).await, 403, "not_a_member");
        }
    }
    let unchanged = app.stored() == before;
    assert!(unchanged, "{:?}", app.stored().keys());
    // Nobody outside leaves an account here, whose name others could not have then.
    let auth = app.app.registry.auth();
    let names: Vec<String> = auth.accounts().await.unwrap().into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["ada"]);
    // Who accepts the invitation is in, a while later.
    let newcomer = app.with_token(&github.oauth_token("newcomer"));
    refused_as(&newcomer.whoami().await, 403, "not_a_member");
    github.add_member("Acme-Corp", "newcomer", false);
    refused_as(&newcomer.whoami().await, 403, "not_a_member");
    app.clock.advance(REMEMBER);
    newcomer.is("newcomer").await;
    newcomer.get("/@acme%2ftool").await.ok();
}

#[tokio::test]
async fn every_page_of_memberships_is_read() {
    let github = with_people(&["ada"]).await;
    for number in 0..12 {
        github.add_member(&format!("org-{number:02}"), "ada", false);
        github.add_team_member(&format!("org-{number:02}"), "everybody", "ada");
    }
    github.add_team_member("zulu", "last", "ada");
    github.set_page_size(1);
    let lists: &[(Action, &[&str])] = &[(Action::Read, &["github:team/zulu/last"])];
    let app = app_with(&github, &["zulu"], |settings| settings.access.rules.push(rule("@acme/*", lists)));
    let ada = app.with_token(&github.oauth_token("ada"));
    ada.is("ada").await;
    // The token, thirteen organisations, thirteen teams.
    assert_eq!(asked(&github).len(), 1 + 13 + 13);
    refused_as(&ada.get("/@acme%2ftool").await, 404, "package_not_found");
}

#[tokio::test]
async fn who_leaves_an_organisation_stays_in_for_as_long_as_is_remembered() {
    let github = with_people(&["ada"]).await;
    github.add_team_member("acme", "platform", "ada");
    let app = app_for(&github, &["acme"]);
    let oauth = app.with_token(&github.oauth_token("ada"));
    let registry = app.with_token(&app.registry_token("ada", &github.personal_token("ada")).await);
    let callers = [oauth, registry];
    for caller in &callers {
        caller.is("ada").await;
    }
    github.remove_member("acme", "ada");
    app.clock.advance(REMEMBER.saturating_sub(TICK));
    for caller in &callers {
        caller.is("ada").await;
    }
    app.clock.advance(TICK);
    for caller in &callers {
        refused_as(&caller.whoami().await, 403, "not_a_member");
        refused_as(&caller.publish(&Tarball::new("@acme/tool", "1.0.0")).await, 403, "not_a_member");
    }
    // A GitHub that is down does not bring back what it said before that.
    github.set_mode(Mode::Down);
    app.clock.advance(REMEMBER);
    for caller in &callers {
        refused_as(&caller.whoami().await, 403, "not_a_member");
    }
}

#[tokio::test]
async fn who_leaves_a_team_may_do_less_when_that_is_known() {
    let github = with_people(&["ada"]).await;
    github.add_team_member("acme", "platform", "ada");
    let lists: &[(Action, &[&str])] =
        &[(Action::Read, &["account"]), (Action::Publish, &["github:team/acme/platform"])];
    let app = app_with(&github, &["acme"], |settings| settings.access.rules.push(rule("@acme/*", lists)));
    let ada = app.with_token(&github.oauth_token("ada"));
    ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    github.remove_team_member("acme", "platform", "ada");
    app.clock.advance(REMEMBER.saturating_sub(TICK));
    ada.publish(&Tarball::new("@acme/tool", "1.1.0")).await.ok();
    app.clock.advance(TICK);
    refused_as(&ada.publish(&Tarball::new("@acme/tool", "1.2.0")).await, 403, "not_allowed");
    ada.get("/@acme%2ftool").await.ok();
}

#[tokio::test]
async fn rules_ask_for_organisations_teams_and_roles() {
    let github = with_people(&["ada", "bob", "eve"]).await;
    github.add_team_member("Acme", "Platform", "ada");
    github.add_member("Acme", "bob", false);
    github.add_repository("Acme", "Tool");
    for (reads, publishes, expected) in [
        // Who may read and who may publish: ada, bob, eve.
        ("github:org/acme", "github:team/acme/platform", ["rw", "r", ""]),
        ("github:org/ACME", "github:user/bob", ["r", "rw", ""]),
        ("github:team/acme/platform", "github:org/acme", ["rw", "", ""]),
        ("account", "github:org/acme", ["rw", "rw", "r"]),
        ("account", "github:team/acme/other", ["r", "r", "r"]),
        // A local account of that name is somebody else.
        ("account", "user:ada", ["r", "r", "r"]),
    ] {
        let app = app_with_rule(&github, &[(Action::Read, &[reads]), (Action::Publish, &[publishes])]);
        for (name, expected) in ["ada", "bob", "eve"].into_iter().zip(expected) {
            let caller = app.with_token(&github.oauth_token(name));
            caller.is(name).await;
            let answer = caller.publish(&Tarball::new(&format!("@acme/of-{name}"), "1.0.0")).await;
            match expected {
                "rw" => drop(answer.ok()),
                "r" => drop(refused_as(&answer, 403, "not_allowed")),
                // Not even that it is there.
                _ => drop(refused_as(&answer, 404, "package_not_found")),
            }
            let read = caller.get(&format!("/@acme%2fof-{name}")).await;
            assert_eq!(read.status.as_u16(), if expected == "rw" { 200 } else { 404 }, "{reads} {publishes} {name}");
        }
    }
}

#[tokio::test]
async fn roles_in_a_repository_are_asked_for_with_the_services_token() {
    let github = with_people(&["ada", "bob", "carol", "dave", "eve"]).await;
    let service = github.service_token();
    for (name, role) in [("ada", "admin"), ("bob", "write"), ("carol", "read"), ("dave", "custom-role")] {
        github.set_role("acme", "tool", name, role);
    }
    let roles: &[(Action, &[&str])] = &[
        (Action::Read, &["github:repo/acme/tool:read"]),
        (Action::Publish, &["github:repo/Acme/Tool:write"]),
        (Action::Unpublish, &["github:repo/acme/tool:admin"]),
    ];
    let with_token = |token: &str| {
        app_with(&github, &[], |settings| {
            settings.github.as_mut().unwrap().client.service_token = Some(holdfast::secret::Secret::new(token));
            settings.access.rules.push(rule("@acme/*", roles));
        })
    };
    let app = with_token(&service);
    let caller = |app: &TestApp, name: &str| app.with_token(&github.oauth_token(name));
    caller(&app, "bob").publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    let last = github.seen().into_iter().next_back().unwrap();
    assert_eq!(last.path, "/api/v3/repos/acme/tool/collaborators/bob/permission");
    assert_eq!(last.authorization, Some(format!("token {service}")));
    for (name, read, write, remove) in [
        ("ada", 200, 201, 201),
        ("bob", 200, 201, 403),
        ("carol", 200, 403, 403),
        // A role of the organisation's own is what GitHub says it contains.
        ("dave", 200, 403, 403),
        ("eve", 404, 404, 404),
    ] {
        let caller = caller(&app, name);
        assert_eq!(caller.get("/@acme%2ftool").await.status.as_u16(), read, "{name}");
        let tarball = Tarball::new("@acme/tool", &format!("1.0.0-{name}"));
        assert_eq!(caller.publish(&tarball).await.status.as_u16(), write, "{name}");
        let revision = caller.get("/@acme%2ftool").await.json()["_rev"].as_str().unwrap_or("1-0").to_owned();
        if name != "ada" {
            let answer = caller.delete(&format!("/@acme%2ftool/-rev/{revision}")).await;
            assert_eq!(answer.status.as_u16(), remove, "{name}: {}", answer.text());
        }
    }
    // Taken away: a while later it is gone. A name that leads elsewhere is no role.
    let bob = caller(&app, "bob");
    bob.get("/@acme%2ftool").await.ok();
    github.set_role("acme", "tool", "bob", "none");
    bob.get("/@acme%2ftool").await.ok();
    app.clock.advance(REMEMBER);
    refused_as(&bob.get("/@acme%2ftool").await, 404, "package_not_found");
    bob.is("bob").await;

    // Our own token is wrong: that is an outage, and nobody's fault who calls.
    github.revoke_token(&service);
    app.clock.advance(REMEMBER);
    bob.is("bob").await;
    unavailable(&caller(&app, "ada").whoami().await);
    let app = with_token(&format!("ghp_{}", "a1B2".repeat(9)));
    unavailable(&caller(&app, "ada").whoami().await);
}

#[tokio::test]
async fn a_token_that_may_not_list_groups_shows_none() {
    let github = with_people(&["ada"]).await;
    github.add_team_member("acme", "platform", "ada");
    let tokens = [
        github.oauth_token_with("ada", &["user:email"]),
        github.oauth_token_with("ada", &[]),
        github.personal_token_with("ada", &["read:packages"]),
    ];
    let restricted = app_for(&github, &["acme"]);
    let lists: &[(Action, &[&str])] =
        &[(Action::Read, &["account"]), (Action::Publish, &["github:org/acme", "github:team/acme/platform"])];
    let ruled = app_with_rule(&github, lists);
    for token in &tokens {
        let sentence = refused_as(&restricted.with_token(token).whoami().await, 403, "not_a_member");
        assert!(sentence.contains("sign in again"), "{sentence}");
        let ada = ruled.with_token(token);
        ada.is("ada").await;
        refused_as(&ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await, 403, "not_allowed");
    }
    // With the scope, the same person may.
    let ada = ruled.with_token(&github.oauth_token("ada"));
    ada.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    // Where nothing depends on groups, none are asked for.
    let open = app_for(&github, &[]);
    github.forget();
    open.with_token(&tokens[0]).is("ada").await;
    assert_eq!(asked(&github).len(), 1);
}

// Whose an account is.

#[tokio::test]
async fn a_login_that_changed_hands_is_somebody_else() {
    let github = with_people(&["ada", "bob"]).await;
    let app = app_for(&github, &[]);
    let old = app.with_token(&github.oauth_token("ada"));
    let registry = app.registry_token("ada", &github.personal_token("ada")).await;
    old.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    github.recreate_user("ada");
    let (oauth, personal) = (github.oauth_token("Ada"), github.personal_token("ada"));
    for token in [&oauth, &personal] {
        let thief = app.with_token(token);
        let sentence = refused_as(&thief.whoami().await, 403, "user_name_taken");
        assert!(sentence.contains("`ada`"), "{sentence}");
        refused_as(&thief.publish(&Tarball::new("tool", "6.6.6")).await, 403, "user_name_taken");
        refused_as(&app.anybody().sign_in("ada", token).await, 403, "user_name_taken");
    }
    // The tokens of the one before ended with the account, here as soon as that is looked at.
    app.clock.advance(REMEMBER);
    refused_as(&old.whoami().await, 401, "sign_in_first");
    refused_as(&app.with_token(&registry).whoami().await, 401, "sign_in_first");
    drop(old);
    let app = app.restarted().await;
    refused_as(&app.with_token(&oauth).whoami().await, 403, "user_name_taken");
    // An operator who knows better lets the new one have the name.
    app.app.registry.auth().remove_account("ada").await.unwrap();
    app.with_token(&oauth).is("ada").await;
    refused_as(&app.with_token(&registry).whoami().await, 401, "sign_in_first");
}

#[tokio::test]
async fn a_local_account_and_one_of_github_cannot_have_one_name() {
    let github = with_people(&["Ada", "bob"]).await;
    let app = app_with_local_accounts(&github, &[]);
    let auth = app.app.registry.auth();
    auth.create_account("ada", PASSWORD.to_owned(), "").await.unwrap();
    let local = app.user("ada").await;
    local.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    for token in [github.oauth_token("Ada"), github.personal_token("Ada")] {
        let caller = app.with_token(&token);
        refused_as(&caller.whoami().await, 403, "user_name_taken");
        refused_as(&caller.publish(&Tarball::new("tool", "6.6.6")).await, 403, "user_name_taken");
        // The local account's password is asked for, and this is not it.
        refused_as(&app.anybody().sign_in("Ada", &token).await, 401, "wrong_password");
    }
    local.is("ada").await;
    // The other way round.
    let bob = app.with_token(&github.oauth_token("bob"));
    bob.is("bob").await;
    assert!(auth.create_account("BOB", PASSWORD.to_owned(), "").await.is_err());
    assert!(auth.set_password("bob", PASSWORD.to_owned()).await.is_err());
    refused_as(&app.anybody().sign_in("bob", PASSWORD).await, 401, "github_takes_tokens");
    let sets_password = json!({ "password": { "old": "", "new": PASSWORD } });
    refused_as(&bob.post("/-/npm/v1/user", &sets_password).await, 403, "no_password_here");
    bob.is("bob").await;
}

#[tokio::test]
async fn who_is_renamed_at_github_has_another_name_here() {
    let github = with_people(&["ada"]).await;
    let app = app_for(&github, &[]);
    let oauth = app.with_token(&github.oauth_token("ada"));
    let registry = app.with_token(&app.registry_token("ada", &github.personal_token("ada")).await);
    let callers = [oauth, registry];
    callers[0].publish(&Tarball::new("tool", "1.0.0")).await.ok();
    github.rename_user("ada", "lovelace");
    callers[0].is("ada").await;
    app.clock.advance(REMEMBER);
    for caller in &callers {
        caller.is("lovelace").await;
        // Ownership goes by the name; an owner of today passes it on.
        refused_as(&caller.publish(&Tarball::new("tool", "1.1.0")).await, 403, "not_an_owner");
    }
    // The name that became free leads nobody into the account.
    github.add_user("ada");
    refused_as(&app.with_token(&github.oauth_token("ada")).whoami().await, 403, "user_name_taken");
    // A name that was taken here before is not had by a renaming.
    github.add_user("bob");
    app.with_token(&github.oauth_token("bob")).is("bob").await;
    github.rename_user("bob", "robert");
    github.rename_user("lovelace", "bob");
    app.clock.advance(REMEMBER);
    for caller in &callers {
        refused_as(&caller.whoami().await, 403, "user_name_taken");
    }
}

#[tokio::test]
async fn a_blocked_account_stays_out_by_whatever_way_it_comes() {
    let github = with_people(&["ada", "bob"]).await;
    let app = app_for(&github, &[]);
    let (oauth, personal) = (github.oauth_token("ada"), github.personal_token("ada"));
    let registry = app.registry_token("ada", &personal).await;
    for token in [&oauth, &registry] {
        app.with_token(token).is("ada").await;
    }
    let auth = app.app.registry.auth();
    auth.set_blocked("Ada", true).await.unwrap();
    let is_out = async |app: &TestApp, tokens: &[&String]| {
        for token in tokens {
            refused_as(&app.with_token(token).whoami().await, 403, "account_blocked");
            refused_as(&app.with_token(token).publish(&Tarball::new("tool", "1.0.0")).await, 403, "account_blocked");
        }
    };
    let old = [&oauth, &registry, &personal];
    is_out(&app, &old).await;
    refused_as(&app.anybody().sign_in("ada", &personal).await, 403, "account_blocked");
    let new = github.oauth_token("ada");
    is_out(&app, &[&new]).await;
    github.set_mode(Mode::Down);
    is_out(&app, &[&oauth, &registry]).await;
    github.set_mode(Mode::Well);
    let app = app.restarted().await;
    is_out(&app, &old).await;
    app.clock.advance(REMEMBER);
    is_out(&app, &old).await;
    // A new name at GitHub makes nobody another person, nor does going back to an old one.
    let renamed = async |from: &str, to: &str| {
        github.rename_user(from, to);
        app.clock.advance(REMEMBER);
        is_out(&app, &old).await;
        is_out(&app, &[&github.oauth_token(to), &github.personal_token(to)]).await;
        refused_as(&app.anybody().sign_in(to, &github.personal_token(to)).await, 403, "account_blocked");
    };
    renamed("ada", "lovelace").await;
    renamed("lovelace", "countess").await;
    let auth = app.app.registry.auth();
    auth.set_blocked("countess", false).await.unwrap();
    for token in old {
        app.with_token(token).is("countess").await;
    }
    auth.set_blocked("countess", true).await.unwrap();
    is_out(&app, &old).await;
    renamed("countess", "ada").await;
    auth.set_blocked("ada", false).await.unwrap();
    for token in old {
        app.with_token(token).is("ada").await;
    }
    app.with_token(&github.oauth_token("bob")).is("bob").await;
}

#[tokio::test]
async fn owners_are_named_as_github_spells_them_and_found_in_any_case() {
    let github = with_people(&["Ada", "Bob", "eve"]).await;
    let app = app_for(&github, &[]);
    let caller = |name: &str| app.with_token(&github.oauth_token(name));
    let (ada, bob, eve) = (caller("Ada"), caller("Bob"), caller("eve"));
    ada.publish(&Tarball::new("tool", "1.0.0")).await.ok();
    for caller in [&bob, &eve] {
        caller.whoami().await.ok();
        refused_as(&caller.publish(&Tarball::new("tool", "1.1.0")).await, 403, "not_an_owner");
    }
    // npm looks the person up first.
    let profile = ada.get("/-/user/org.couchdb.user:bob").await.ok().json();
    assert_eq!(profile["name"], "Bob");
    ada.put("/-/package/tool/owners", &json!({ "user": "bob" })).await.ok();
    bob.publish(&Tarball::new("tool", "1.1.0")).await.ok();
    let version = &ada.document("tool").await["versions"]["1.1.0"];
    assert_eq!(version["_npmUser"]["name"], "Bob");
    refused_as(&eve.publish(&Tarball::new("tool", "1.2.0")).await, 403, "not_an_owner");
}

#[tokio::test]
async fn a_token_made_of_a_github_account_is_no_more_than_the_account() {
    let github = with_people(&["ada"]).await;
    github.add_member("acme", "ada", false);
    let lists: &[(Action, &[&str])] = &[(Action::Read, &["account"]), (Action::Publish, &["github:org/acme"])];
    let app = app_with(&github, &["acme"], |settings| settings.access.rules.push(rule("@acme/*", lists)));
    let personal = github.personal_token("ada");
    let ada = app.with_token(&app.registry_token("ada", &personal).await);
    let made = ada.post("/-/npm/v1/tokens", &json!({ "password": personal, "readonly": false })).await.ok().json();
    let made = app.with_token(made["token"].as_str().unwrap());
    made.publish(&Tarball::new("@acme/tool", "1.0.0")).await.ok();
    for wrong in [PASSWORD.to_owned(), github.foreign_oauth_token("ada"), String::new()] {
        let answer = ada.post("/-/npm/v1/tokens", &json!({ "password": wrong, "readonly": false })).await;
        assert_eq!(answer.status.as_u16(), 401, "{}", answer.text());
    }
    // Of an operator's token GitHub is not asked, so it is in no group.
    let wish = TokenWish { name: "backup".to_owned(), ..TokenWish::default() };
    let (operators, _) = app.app.registry.auth().create_token_for("ada", wish).await.unwrap();
    let operators = app.with_token(operators.reveal());
    operators.is("ada").await;
    operators.get("/@acme%2ftool").await.ok();
    refused_as(&operators.publish(&Tarball::new("@acme/tool", "1.1.0")).await, 403, "not_allowed");
    github.remove_member("acme", "ada");
    app.clock.advance(REMEMBER);
    refused_as(&made.whoami().await, 403, "not_a_member");
}

// The directory.

#[tokio::test]
async fn organisations_and_teams_are_shown_as_github_shows_them_to_who_asks() {
    let github = with_people(&["ada", "bob", "eve"]).await;
    github.add_member("acme", "ada", true);
    github.add_team_member("acme", "platform", "bob");
    github.add_organization("empty");
    github.set_page_size(1);
    let app = app_with_local_accounts(&github, &[]);
    app.app.registry.auth().create_account("lisa", PASSWORD.to_owned(), "").await.unwrap();
    let lisa = app.user("lisa").await;
    let (ada, eve) = (app.with_token(&github.oauth_token("ada")), app.with_token(&github.oauth_token("eve")));
    let bob = app.with_token(&app.registry_token("bob", &github.personal_token("bob")).await);
    let lists = ["/-/org/acme/user", "/-/org/acme/team", "/-/team/acme/platform/user"];
    let shown = [json!({ "ada": "owner", "bob": "developer" }), json!(["acme:platform"]), json!(["bob"])];
    for caller in [&ada, &bob] {
        for (path, expected) in lists.iter().zip(&shown) {
            assert_eq!(caller.get(path).await.ok().json(), *expected, "{path}");
        }
    }
    for path in ["/-/org/nobody/user", "/-/org/nobody/team", "/-/team/acme/nobody/user", "/-/org/..%2fuser/team"] {
        refused_as(&ada.get(path).await, 404, "not_in_directory");
    }
    for path in lists {
        // A local account is nobody there.
        refused_as(&lisa.get(path).await, 404, "not_in_directory");
        refused_as(&app.anybody().get(path).await, 401, "sign_in_first");
    }
    for path in ["/-/org/acme/team", "/-/team/acme/platform/user"] {
        refused_as(&eve.get(path).await, 404, "not_in_directory");
    }
    // GitHub shows outsiders those who made their membership public, of whom there are none.
    assert_eq!(eve.get("/-/org/acme/user").await.ok().json(), json!({}));
    github.set_mode(Mode::Down);
    for path in lists {
        unavailable(&ada.get(path).await);
    }
}

#[tokio::test]
async fn what_is_githubs_is_changed_there_and_rights_in_the_settings() {
    let github = with_people(&["ada"]).await;
    github.add_member("acme", "ada", true);
    let with_github = app_for(&github, &[]);
    let without = TestApp::new();
    let ada = with_github.with_token(&github.oauth_token("ada"));
    ada.is("ada").await;
    let lisa = without.user("lisa").await;
    github.forget();
    let (there, settings) = ("there", "`[[package]]`");
    let says = BTreeMap::from([("members", there), ("rights", settings)]);
    for (method, path, body, what) in [
        (Method::PUT, "/-/org/acme/user", json!({ "user": "eve", "role": "owner" }), "members"),
        (Method::DELETE, "/-/org/acme/user", json!({ "user": "eve" }), "members"),
        (Method::PUT, "/-/org/acme/team", json!({ "name": "x" }), "members"),
        (Method::DELETE, "/-/team/acme/platform", json!({}), "members"),
        (Method::PUT, "/-/team/acme/platform/user", json!({ "user": "eve" }), "members"),
        (Method::DELETE, "/-/team/acme/platform/user", json!({ "user": "eve" }), "members"),
        (
            Method::PUT,
            "/-/team/acme/platform/package",
            json!({ "package": "x", "permissions": "read-write" }),
            "rights",
        ),
        (Method::DELETE, "/-/team/acme/platform/package", json!({ "package": "x" }), "rights"),
        (Method::POST, "/-/package/x/access", json!({ "access": "public" }), "rights"),
    ] {
        let answer = ada.send_json(method.clone(), path, &body).await;
        let sentence = refused_as(&answer, 403, "managed_elsewhere");
        assert!(sentence.contains(says[what]), "{path}: {sentence}");
        let sentence = refused_as(&lisa.send_json(method.clone(), path, &body).await, 403, "managed_elsewhere");
        assert!(sentence.contains(settings), "{path}: {sentence}");
        refused_as(&with_github.anybody().send_json(method, path, &body).await, 401, "sign_in_first");
    }
    assert_eq!(asked(&github), [""; 0]);
}
