//! Rules of who may do what, as callers meet them: what is hidden leaves no trace, and each right is one of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast::auth::Action;
use holdfast::settings::{Auto, Flags, Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, path_of, refused};
use crate::support::company::{Company, rule, trusted, without_names};
use crate::support::http::{Answer, INSTALL_ACCEPT};
use crate::support::tarballs::Tarball;
use crate::support::upstream::Upstream;

/// The two lists of the set-up that most companies want.
const MEMBERS_READ: (Action, &[&str]) = (Action::Read, &["github:org/acme", "workflow:github/acme/*"]);
const PLATFORM_PUBLISHES: (Action, &[&str]) = (Action::Publish, &["github:team/acme/platform"]);

/// What is not restricted is open to all, as on loopback.
async fn company() -> Company {
    Company::with(|settings| settings.access.rules = vec![rule("@acme/*", &[MEMBERS_READ, PLATFORM_PUBLISHES])]).await
}

fn code_of(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap().to_owned()
}

/// Checks a refusal's status and code.
#[track_caller]
fn refused_as(answer: &Answer, status: u16, code: &str) {
    refused(answer, status);
    assert_eq!(code_of(answer), code, "{}", answer.text());
}

#[tokio::test]
async fn ten_lines_make_members_read_and_a_team_publish() {
    let folder = tempfile::tempdir().unwrap();
    let company = Company::with(|settings| {
        let file = folder.path().join("holdfast.toml");
        let github = settings.github.clone().unwrap().client;
        let text = format!(
            r#"
[github]
client_id = "{}"
organizations = ["acme", "other"]
api_url = "{}"

[[package]]
name = ["@acme/*"]
read = ["github:org/acme"]
publish = ["github:team/acme/platform"]
"#,
            github.client_id.unwrap(),
            github.api_url,
        );
        assert!(text.lines().filter(|line| !line.is_empty()).count() <= 10);
        std::fs::write(&file, text).unwrap();
        let loaded = Settings::load_with(&Flags { file: Some(file), values: Vec::new() }, Vec::new()).unwrap().settings;
        settings.access = loaded.access;
        settings.github = loaded.github;
        settings.access.anonymous_read = Auto::Closed;
    })
    .await;
    let [ann, pat, eve] = [company.person("ann").await, company.person("pat").await, company.person("eve").await];
    let tool = |version| Tarball::new("@acme/tool", version);
    refused_as(&ann.publish(&tool("1.0.0")).await, 403, "not_allowed");
    refused_as(&eve.publish(&tool("1.0.0")).await, 404, "package_not_found");
    pat.publish(&tool("1.0.0")).await.ok();
    for path in ["/@acme%2ftool", "/@acme%2ftool/latest", "/@acme/tool/-/tool-1.0.0.tgz"] {
        ann.get(path).await.ok();
        refused_as(&eve.get(path).await, 404, "package_not_found");
        refused_as(&company.app.anybody().get(path).await, 401, "sign_in_first");
    }
    refused_as(&ann.publish(&tool("1.1.0")).await, 403, "not_allowed");
    pat.publish(&tool("1.1.0")).await.ok();
    assert_eq!(ann.document("@acme/tool").await["dist-tags"]["latest"], "1.1.0");
}

/// The names that a caller finds by search, in pages of one size, each of which must tell the same total.
async fn found(caller: &Caller, text: &str, size: usize) -> Vec<String> {
    let mut names = Vec::new();
    for page in 0..20 {
        let path = format!("/-/v1/search?text={text}&size={size}&from={}", page * size);
        let answer = caller.get(&path).await.ok().json();
        let objects = answer["objects"].as_array().unwrap();
        names.extend(objects.iter().map(|object| object["package"]["name"].as_str().unwrap().to_owned()));
        let total = usize::try_from(answer["total"].as_u64().unwrap()).unwrap();
        if objects.len() < size {
            assert_eq!(names.len(), total, "the total of {text} by {size}");
            return names;
        }
    }
    panic!("there is no end: {names:?}");
}

#[tokio::test]
async fn lists_and_their_totals_are_of_what_the_caller_may_know() {
    let company = company_with_lists().await;
    let nobody = company.app.anybody();
    let open = ["@acme/open", "widget"];
    let of_acme = ["@acme/open", "@acme/widget-a", "@acme/widget-b", "@acme/widget-c", "widget"];
    let all = ["@acme/open", "@acme/secret", "@acme/widget-a", "@acme/widget-b", "@acme/widget-c", "widget"];
    let one = company.limited("pat", json!({ "name": "one", "packages": ["@acme/widget-a"] })).await;
    let callers: [(&str, Caller, &[&str]); 7] = [
        ("nobody", nobody.clone(), &open),
        ("an unknown token", nobody.with_token("npm_unknown"), &open),
        ("somebody of another organisation", company.person("eve").await, &open),
        ("a member", company.person("ann").await, &of_acme),
        ("a job", company.job("acme/site", None).await, &of_acme),
        ("whom a rule names", company.person("pat").await, &all),
        ("a token for one package", one, &["@acme/open", "@acme/widget-a", "widget"]),
    ];
    for (who, caller, expected) in callers {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        for (text, size) in [("widget", 1), ("widget", 2), ("widget", 250), ("", 3), ("maintainer:pat", 2)] {
            let names = found(&caller, text, size).await;
            assert_eq!(names.len(), expected.len(), "{who}, {text}, {size}: {names:?}");
            assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected, "{who}, {text}, {size}");
        }
        let listed = caller.get("/-/all").await.ok().json();
        let listed = listed.as_object().unwrap().keys().filter(|name| *name != "_updated").cloned();
        assert_eq!(listed.collect::<BTreeSet<_>>(), expected, "{who}");
        let starred = caller.get("/-/user/pat/stars").await.ok().json();
        let viewed = caller.get("/-/_view/starredByUser?key=%22pat%22").await.ok().json();
        let starred = starred.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(starred.collect::<BTreeSet<_>>(), expected, "{who}");
        let viewed = viewed["rows"].as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_owned());
        assert_eq!(viewed.collect::<BTreeSet<_>>(), expected, "{who}");
    }
}

/// Six packages that pat has published and starred: one for pat alone, three for members, two for all.
async fn company_with_lists() -> Company {
    let company = Company::with(|settings| {
        settings.access.rules = vec![
            rule("@acme/*", &[MEMBERS_READ, PLATFORM_PUBLISHES]),
            rule("@acme/open", &[(Action::Read, &["anyone"])]),
            rule("@acme/secret", &[(Action::Read, &["github:user/pat"])]),
        ];
    })
    .await;
    let pat = company.person("pat").await;
    for name in ["@acme/open", "@acme/secret", "@acme/widget-a", "@acme/widget-b", "@acme/widget-c", "widget"] {
        pat.publish(&Tarball::new(name, "1.0.0").set("description", json!("a widget"))).await.ok();
        pat.put("/-/user/v1/star", &json!({ "package": name })).await.ok();
    }
    company.app.settle().await;
    company
}

#[tokio::test]
async fn an_audit_tells_nothing_of_hidden_packages_and_passes_none_on() {
    let upstream = Upstream::with_fixtures();
    let company = Company::with(|settings| {
        crate::support::app::behind(settings, &upstream, &["@acme/*"]);
        settings.access.rules = vec![rule("@acme/*", &[MEMBERS_READ, PLATFORM_PUBLISHES])];
    })
    .await;
    company.person("pat").await.publish_versions("@acme/tool", &["1.0.0"]).await;
    upstream.advise("@acme/tool", json!([{ "id": 1, "title": "somebody else's" }]));
    upstream.advise("left", json!([{ "id": 2, "title": "public" }]));
    upstream.forget();
    let asked = json!({ "@acme/tool": ["1.0.0"], "@acme/nothing": ["1.0.0"], "left": ["1.0.0"] });
    for caller in [company.app.anybody(), company.person("eve").await, company.person("ann").await] {
        let report = caller.post("/-/npm/v1/security/advisories/bulk", &asked).await.ok().json();
        assert_eq!(report.as_object().unwrap().keys().collect::<Vec<_>>(), ["left"], "{report}");
    }
    assert!(!format!("{:?}", upstream.seen()).contains("acme"), "{:?}", upstream.seen());
}

#[tokio::test]
async fn every_package_says_by_itself_who_may_keep_it() {
    let company = company_with_lists().await;
    let [ann, eve, nobody] = [company.person("ann").await, company.person("eve").await, company.app.anybody()];
    for (name, is_public) in [("@acme/open", true), ("widget", true), ("@acme/widget-a", false)] {
        let (path, file) = (path_of(name), name.rsplit('/').next().unwrap());
        let scope = if is_public { "public" } else { "private" };
        for accept in ["application/json", INSTALL_ACCEPT] {
            let answer = ann.get_with(&path, &[("accept", accept)]).await.ok();
            assert_eq!(answer.header("cache-control"), format!("{scope}, no-cache"), "{name}");
            assert_eq!(answer.header("vary").contains("Authorization"), !is_public, "{name}");
            let validator = [("accept", accept), ("if-none-match", answer.header("etag"))];
            // The answer that tells to use what is kept says the same, to who may read.
            let unchanged = ann.get_with(&path, &validator).await;
            assert_eq!(unchanged.status, 304, "{name}");
            assert_eq!(unchanged.header("cache-control"), format!("{scope}, no-cache"), "{name}");
            assert_eq!(unchanged.header("vary").contains("Authorization"), !is_public, "{name}");
            // An ETag that somebody overheard opens nothing.
            if !is_public {
                refused_as(&eve.get_with(&path, &validator).await, 404, "package_not_found");
                refused_as(&nobody.get_with(&path, &validator).await, 401, "sign_in_first");
            }
        }
        let version = ann.get(&format!("{path}/latest")).await.ok();
        assert_eq!(version.header("cache-control"), format!("{scope}, no-cache"), "{name}");
        let tarball_path = format!("/{name}/-/{file}-1.0.0.tgz");
        let tarball = ann.get(&tarball_path).await.ok();
        assert_eq!(tarball.header("cache-control"), format!("{scope}, immutable, max-age=31557600"), "{name}");
        assert_eq!(tarball.header("vary").contains("Authorization"), !is_public, "{name}");
        if !is_public {
            let validator = [("if-none-match", tarball.header("etag"))];
            refused_as(&eve.get_with(&tarball_path, &validator).await, 404, "package_not_found");
            refused_as(&nobody.get_with(&tarball_path, &validator).await, 401, "sign_in_first");
            assert_eq!(nobody.send(Method::HEAD, &tarball_path, &validator, "").await.status, 401);
        }
        let visibility = ann.get(&format!("/-/package{path}/visibility")).await.ok().json();
        assert_eq!(visibility, json!({ "public": is_public }), "{name}");
    }
}

/// Every kind of change, and the action that it is.
const CHANGES: [(&str, Action); 10] = [
    ("publish", Action::Publish),
    ("set a tag", Action::Tag),
    ("remove a tag", Action::Tag),
    ("replace tags", Action::Tag),
    ("deprecate", Action::Deprecate),
    ("unpublish a version", Action::Unpublish),
    ("change the list of owners", Action::Own),
    ("add an owner", Action::Own),
    ("trust a workflow", Action::Administer),
    ("unpublish", Action::Unpublish),
];

/// Makes one of [`CHANGES`] to a package with the versions 1.0.0 and 1.1.0.
async fn change(caller: &Caller, reader: &Caller, name: &str, what: &str) -> Answer {
    let path = path_of(name);
    let mut document = reader.document(name).await;
    let revision = document["_rev"].as_str().unwrap().to_owned();
    match what {
        "publish" => caller.publish(&Tarball::new(name, "2.0.0")).await,
        "set a tag" => caller.put(&format!("/-/package{path}/dist-tags/next"), &json!("1.0.0")).await,
        "remove a tag" => caller.delete(&format!("/-/package{path}/dist-tags/next")).await,
        "replace tags" => caller.put(&format!("/-/package{path}/dist-tags"), &json!({ "latest": "1.1.0" })).await,
        "deprecate" => {
            document["versions"]["1.0.0"]["deprecated"] = json!("old");
            caller.put(&path, &document).await
        }
        "unpublish a version" => {
            document["versions"].as_object_mut().unwrap().remove("1.0.0");
            caller.put(&format!("{path}/-rev/{revision}"), &document).await
        }
        "change the list of owners" => {
            let body = json!({ "maintainers": [{ "name": "olga", "email": "" }] });
            caller.put(&format!("{path}/-rev/{revision}"), &body).await
        }
        "add an owner" => caller.put(&format!("/-/package{path}/owners"), &json!({ "user": "olga" })).await,
        "trust a workflow" => caller.post(&format!("/-/package{path}/trust"), &trusted("acme/tool")).await,
        "unpublish" => caller.delete(&format!("{path}/-rev/{revision}")).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_action_is_a_right_of_its_own() {
    let actions = [Action::Publish, Action::Tag, Action::Deprecate, Action::Unpublish, Action::Own, Action::Administer];
    // For each action a package with which ann may do just that, and everything else is for administrators.
    let company = Company::with(|settings| {
        settings.access.admins = vec!["github:user/root".parse().unwrap()];
        settings.access.rules = actions
            .iter()
            .map(|granted| {
                let lists: Vec<(Action, &[&str])> = actions
                    .iter()
                    .map(|action| (*action, if action == granted { &["github:user/ann"][..] } else { &[] }))
                    .collect();
                rule(&format!("@acme/{}", granted.as_str()), &lists)
            })
            .collect();
    })
    .await;
    let [ann, root, olga] = [company.person("ann").await, company.person("root").await, company.person("olga").await];
    assert!(olga.get("/-/whoami").await.status.is_success());
    for granted in actions {
        let name = format!("@acme/{}", granted.as_str());
        root.publish_versions(&name, &["1.0.0", "1.1.0"]).await;
        for (what, action) in CHANGES {
            let answer = change(&ann, &root, &name, what).await;
            if action == granted {
                assert!(answer.status.is_success(), "{what} where {granted:?} is granted: {}", answer.text());
            } else {
                refused_as(&answer, 403, "not_allowed");
            }
        }
    }
}

#[tokio::test]
async fn a_new_name_is_a_right_of_its_own_also_after_everything_was_unpublished() {
    let company = Company::with(|settings| {
        settings.access.rules = vec![rule(
            "@acme/*",
            &[(Action::Create, &["github:team/acme/platform"]), (Action::Publish, &["github:org/acme"])],
        )];
    })
    .await;
    let [ann, pat] = [company.person("ann").await, company.person("pat").await];
    let tool = |version| Tarball::new("@acme/tool", version);
    refused_as(&ann.publish(&tool("1.0.0")).await, 403, "not_allowed");
    pat.publish(&tool("1.0.0")).await.ok();
    ann.publish(&tool("1.1.0")).await.ok();
    let revision = ann.revision("@acme/tool").await;
    ann.delete(&format!("/@acme%2ftool/-rev/{revision}")).await.ok();
    refused_as(&ann.publish(&tool("2.0.0")).await, 403, "not_allowed");
    pat.publish(&tool("2.0.0")).await.ok();
}

#[tokio::test]
async fn a_rule_may_ask_for_owners_too() {
    let company = Company::with(|settings| {
        let mut strict = rule("@acme/*", &[MEMBERS_READ, (Action::Publish, &["github:org/acme"])]);
        strict.owners_only = true;
        settings.access.rules = vec![strict];
    })
    .await;
    let [ann, pat, eve] = [company.person("ann").await, company.person("pat").await, company.person("eve").await];
    pat.publish_versions("@acme/tool", &["1.0.0", "1.1.0"]).await;
    for (what, _) in CHANGES {
        refused_as(&change(&ann, &pat, "@acme/tool", what).await, 403, "not_an_owner");
    }
    pat.put("/-/package/@acme%2ftool/owners", &json!({ "user": "ann" })).await.ok();
    ann.publish(&Tarball::new("@acme/tool", "2.0.0")).await.ok();
    // An owner who is in none of the groups is still no one to the rule.
    eve.get("/-/whoami").await.ok();
    pat.put("/-/package/@acme%2ftool/owners", &json!({ "user": "eve" })).await.ok();
    refused_as(&eve.publish(&Tarball::new("@acme/tool", "3.0.0")).await, 404, "package_not_found");
    // A name that nobody has yet has no owners.
    ann.publish(&Tarball::new("@acme/other", "1.0.0")).await.ok();
}

#[tokio::test]
async fn the_most_specific_rule_decides_by_exact_names_whatever_the_order() {
    let rules = [
        rule("**", &[(Action::Publish, &["github:user/root"])]),
        rule("@acme/*", &[MEMBERS_READ, PLATFORM_PUBLISHES]),
        rule("@acme/secret", &[(Action::Read, &["github:user/olga"]), (Action::Publish, &["github:user/olga"])]),
        rule("@acme/open", &[(Action::Read, &["anyone"])]),
    ];
    for order in 0..rules.len() {
        let company = Company::with(|settings| {
            settings.access.rules = rules.to_vec();
            settings.access.rules.rotate_left(order);
        })
        .await;
        let names = ["tool", "@acme/tool", "@acme/secret", "@acme/secrets", "@acme/open", "@acme2/secret"];
        // In the order of the names. The rule for `@acme/open` says nothing of publishing, so the next does.
        let publishes = [
            ("root", ["yes", "hidden", "hidden", "hidden", "no", "yes"]),
            ("pat", ["no", "yes", "hidden", "yes", "yes", "no"]),
            ("olga", ["no", "no", "yes", "no", "no", "no"]),
            ("eve", ["no", "hidden", "hidden", "hidden", "no", "no"]),
        ];
        for (number, (who, row)) in publishes.into_iter().enumerate() {
            let caller = company.person(who).await;
            for (name, expected) in names.iter().zip(row) {
                let answer = caller.publish(&Tarball::new(name, &format!("{}.0.0", number + 1))).await;
                match expected {
                    "yes" => assert_eq!(answer.status, 201, "{who} {name}: {}", answer.text()),
                    "no" => refused_as(&answer, 403, "not_allowed"),
                    _ => refused_as(&answer, 404, "package_not_found"),
                }
            }
        }
        company.app.anybody().get("/@acme%2fopen").await.ok();
        refused_as(&company.app.anybody().get("/@acme%2fsecrets").await, 401, "sign_in_first");
    }
}

#[tokio::test]
async fn what_npm_access_team_and_org_list_is_what_rules_and_github_say() {
    let company = company().await;
    let pat = company.person("pat").await;
    pat.publish_versions("@acme/tool", &["1.0.0"]).await;
    pat.publish_versions("open", &["1.0.0"]).await;
    company.local("lena").await;
    let lena = company.app.user("lena").await;
    let [ann, eve, nobody] = [company.person("ann").await, company.person("eve").await, company.app.anybody()];
    let rights = json!({
        "github:org/acme": "read", "workflow:github/acme/*": "read", "github:team/acme/platform": "write",
    });
    let members = json!({ "ann": "developer", "olga": "developer", "pat": "developer" });
    let found: [(&str, &Caller, &str, Value); 13] = [
        ("ann", &ann, "/-/package/@acme%2ftool/collaborators", rights.clone()),
        ("ann", &ann, "/-/package/@acme%2ftool/collaborators?format=cli", rights),
        ("eve", &eve, "/-/package/open/collaborators", json!({ "pat": "write" })),
        ("nobody", &nobody, "/-/package/open/collaborators", json!({ "pat": "write" })),
        ("ann", &ann, "/-/org/acme/package", json!({ "@acme/*": "read" })),
        ("ann", &ann, "/-/org/ACME/package", json!({ "@acme/*": "read" })),
        ("ann", &ann, "/-/team/acme/platform/package", json!({ "@acme/*": "write" })),
        ("eve", &eve, "/-/org/acme/package", json!({})),
        ("nobody", &nobody, "/-/team/acme/platform/package", json!({})),
        ("ann", &ann, "/-/user/pat/package", json!({})),
        ("ann", &ann, "/-/org/acme/user", members),
        ("ann", &ann, "/-/org/acme/team?format=cli", json!(["acme:platform"])),
        ("ann", &ann, "/-/team/acme/platform/user?format=cli", json!(["pat"])),
    ];
    for (who, caller, path, expected) in found {
        assert_eq!(caller.get(path).await.ok().json(), expected, "{who} {path}");
    }
    refused_as(&eve.get("/-/package/@acme%2ftool/collaborators").await, 404, "package_not_found");
    for path in ["/-/org/acme/user", "/-/org/acme/team", "/-/team/acme/platform/user"] {
        refused_as(&lena.get(path).await, 404, "not_in_directory");
        refused_as(&nobody.get(path).await, 401, "sign_in_first");
    }
    for path in ["/-/org/acme/team", "/-/team/acme/platform/user", "/-/org/nothing/user"] {
        refused_as(&eve.get(path).await, 404, "not_in_directory");
    }
    let body = json!({ "user": "eve", "package": "@acme/tool", "permissions": "read-write", "name": "core" });
    for (method, path) in [
        (Method::PUT, "/-/org/acme/user"),
        (Method::DELETE, "/-/org/acme/user"),
        (Method::PUT, "/-/org/acme/team"),
        (Method::DELETE, "/-/team/acme/platform"),
        (Method::PUT, "/-/team/acme/platform/user"),
        (Method::DELETE, "/-/team/acme/platform/user"),
        (Method::PUT, "/-/team/acme/platform/package"),
        (Method::DELETE, "/-/team/acme/platform/package"),
        (Method::POST, "/-/package/@acme%2ftool/access"),
        (Method::PUT, "/-/package/@acme%2ftool/access"),
    ] {
        let answer = pat.send_json(method.clone(), path, &body).await;
        refused_as(&answer, 403, "managed_elsewhere");
        let sentence = answer.json()["error"].as_str().unwrap().to_owned();
        let where_to = if path.ends_with("package") || path.ends_with("access") { "[[package]]" } else { "GitHub" };
        assert!(sentence.contains(where_to), "{method} {path}: {sentence}");
        refused_as(&nobody.send_json(method, path, &body).await, 401, "sign_in_first");
    }
}

#[tokio::test]
async fn who_leaves_a_team_may_do_no_more_once_github_is_asked_again() {
    let company = company().await;
    let pat = company.person("pat").await;
    pat.publish_versions("@acme/tool", &["1.0.0"]).await;
    company.github.remove_team_member("acme", "platform", "pat");
    company.app.clock.advance(Duration::from_mins(4));
    pat.publish_versions("@acme/tool", &["1.1.0"]).await;
    company.app.clock.advance(Duration::from_mins(2));
    refused_as(&pat.publish(&Tarball::new("@acme/tool", "1.2.0")).await, 403, "not_allowed");
    pat.get("/@acme%2ftool").await.ok();
    company.github.remove_member("acme", "pat");
    company.github.add_member("other", "pat", false);
    company.app.clock.advance(Duration::from_mins(6));
    refused_as(&pat.get("/@acme%2ftool").await, 404, "package_not_found");
    company.github.remove_member("other", "pat");
    company.app.clock.advance(Duration::from_mins(6));
    refused_as(&pat.get("/@acme%2ftool").await, 403, "not_a_member");
}

#[tokio::test]
async fn somebody_without_credentials_learns_nothing_of_restricted_names_on_an_open_registry() {
    let company = company().await;
    company.person("pat").await.publish_versions("@acme/tool", &["1.0.0"]).await;
    let nobody = company.app.anybody();
    for question in ["", "/latest", "/-/tool-1.0.0.tgz"] {
        let [there, absent] = [format!("/@acme%2ftool{question}"), format!("/@acme%2fnothing{question}")];
        let (there, absent) = (nobody.get(&there).await, nobody.get(&absent).await);
        refused_as(&there, 401, "sign_in_first");
        let names = ["@acme/tool", "@acme/nothing"];
        assert_eq!(without_names(&there.json(), &names), without_names(&absent.json(), &names));
    }
    // What no rule speaks of is as open as the settings say.
    refused_as(&nobody.get("/nothing").await, 404, "package_not_found");
}
