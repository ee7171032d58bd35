//! The variables of the older system (codebox-npm), so that its deployment can be replaced by changing the code only.
//!
//! They are plain words such as `registry`, which may mean anything on a laptop. So they count only where the id of its
//! OAuth app is among them, which nothing else sets under that name. Our own variables win over them.

use super::layers::{Layer, Origin};
use super::{Settings, Shown};
use crate::auth::{Action, Rule};
use crate::npm::Pattern;
use crate::sinks::Topic;

/// The variable by which the older system's environment is known: as its functions had it, and as its deployment did.
const MARKS: [&str; 2] = ["githubClientId", "CODEBOX_GITHUB_CLIENT_ID"];

/// Its other variables, each in both spellings, and our setting.
const MEANINGS: [(&str, &str, &str); 8] = [
    ("githubClientId", "CODEBOX_GITHUB_CLIENT_ID", "github.client_id"),
    ("githubSecret", "CODEBOX_GITHUB_SECRET", "github.client_secret"),
    ("githubUrl", "CODEBOX_GITHUB_URL", "github.api_url"),
    ("registry", "CODEBOX_REGISTRY", "upstreams.default.url"),
    ("apiEndpoint", "CODEBOX_API_ENDPOINT", "server.public_url"),
    ("admins", "CODEBOX_ADMINS", "access.admins"),
    ("bucket", "CODEBOX_BUCKET", "storage.url"),
    ("region", "CODEBOX_REGION", "storage.region"),
];

/// The two that Insights needs, each in both spellings.
const INSIGHTS: [[&str; 2]; 2] = [["clientId", "CODEBOX_INSIGHTS_CLIENT_ID"], ["secret", "CODEBOX_INSIGHTS_SECRET"]];
/// The topic that its versions 0.8 to 0.12 published to, which had one spelling only.
const TOPIC: &str = "logTopic";

/// Whether the environment is the older system's.
fn is_there(environment: &[(String, String)]) -> bool {
    MARKS.iter().any(|mark| value(environment, mark).is_some())
}

fn value<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = environment.iter().find(|(found, value)| found == name && !value.trim().is_empty());
    found.map(|(_, value)| value.trim())
}

/// Variable and value of a setting that has two spellings.
fn either<'a>(environment: &'a [(String, String)], names: [&'static str; 2]) -> Option<(&'static str, &'a str)> {
    names.into_iter().find_map(|name| value(environment, name).map(|found| (name, found)))
}

/// The variables that are there and mean nothing: one of the two that Insights needs, as in the older system, and a topic that
/// is none.
pub(super) fn unused(environment: &[(String, String)]) -> Vec<&'static str> {
    if !is_there(environment) {
        return Vec::new();
    }
    let set = INSIGHTS.into_iter().filter_map(|names| either(environment, names)).map(|(name, _)| name);
    let mut unused: Vec<_> = Some(set.collect::<Vec<_>>()).filter(|set| set.len() == 1).unwrap_or_default();
    unused.extend(value(environment, TOPIC).filter(|topic| !is_topic(topic)).map(|_| TOPIC));
    unused
}

/// Nothing had read the topic since version 0.13, so what is left there may be anything.
fn is_topic(text: &str) -> bool {
    text.parse::<Topic>().is_ok()
}

/// The sinks that its variables stand for.
fn sinks(environment: &[(String, String)]) -> Vec<(&'static str, String, Origin)> {
    let mut values = Vec::new();
    let mut set =
        |key, name: &str, value: &str| values.push((key, value.to_owned(), Origin::Environment(name.to_owned())));
    let [id, secret] = INSIGHTS.map(|names| either(environment, names));
    if let (Some((id_name, id)), Some((secret_name, secret))) = (id, secret) {
        set("sinks.insights.kind", id_name, "insights");
        set("sinks.insights.client_id", id_name, id);
        set("sinks.insights.secret", secret_name, secret);
    }
    if let Some(topic) = value(environment, TOPIC).filter(|topic| is_topic(topic)) {
        set("sinks.log-topic.kind", TOPIC, "sns");
        set("sinks.log-topic.topic", TOPIC, topic);
        set("sinks.log-topic.format", TOPIC, "codebox");
    }
    values
}

/// The settings that its variables stand for; nothing where there are none.
pub(super) fn layer(environment: &[(String, String)]) -> Option<Layer> {
    if !is_there(environment) {
        return None;
    }
    let value = |name| value(environment, name);
    let mut values = Vec::new();
    for (short, long, key) in MEANINGS {
        for name in [short, long] {
            let Some(found) = value(name) else { continue };
            let text = match key {
                "access.admins" => principals(found),
                "storage.url" => format!("s3://{found}"),
                _ => found.to_owned(),
            };
            values.push((key, text, Origin::Environment(name.to_owned())));
            break;
        }
    }
    values.extend(sinks(environment));
    let (name, organizations) = ["restrictedOrgs", "CODEBOX_RESTRICTED_ORGS"]
        .into_iter()
        .find_map(|name| value(name).map(|found| (name, found)))
        // Without it every account of GitHub could read, and can.
        .unwrap_or(("restrictedOrgs", "*"));
    values.push(("github.organizations", organizations.to_owned(), Origin::Environment(name.to_owned())));
    Some(Layer::of(values))
}

/// Names of GitHub accounts as principals.
fn principals(names: &str) -> String {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| format!("github:user/{name}")).collect::<Vec<_>>().join(",")
}

/// There only administrators could change anything. A rule for all packages takes that rule's place. And a bucket that is
/// known by its variable may still be in use there.
pub(super) fn finish(settings: &mut Settings, shown: &[Shown]) {
    let came_along =
        |key: &str, names: [&str; 2]| shown.iter().any(|line| line.key == key && names.contains(&line.origin.as_str()));
    settings.storage.is_taken_over = came_along("storage.url", ["bucket", "CODEBOX_BUCKET"]);
    let has_own = settings.access.rules.iter().any(|rule| rule.pattern == Pattern::Any);
    if came_along("access.admins", ["admins", "CODEBOX_ADMINS"]) && !has_own {
        let mut rule = Rule::new(Pattern::Any);
        rule.principals.insert(Action::Publish, Vec::new());
        settings.access.rules.push(rule);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Mistake};
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, Vec<Mistake>> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let directory = tempfile::tempdir().unwrap();
        let values = vec![("storage.directory", directory.path().display().to_string())];
        Settings::load_with(&Flags { file: None, values }, environment).map(|loaded| loaded.settings)
    }

    #[test]
    fn the_older_systems_variables_are_understood() {
        for names in [
            [
                "githubClientId",
                "githubSecret",
                "githubUrl",
                "registry",
                "admins",
                "restrictedOrgs",
                "apiEndpoint",
                "bucket",
                "region",
            ],
            [
                "CODEBOX_GITHUB_CLIENT_ID",
                "CODEBOX_GITHUB_SECRET",
                "CODEBOX_GITHUB_URL",
                "CODEBOX_REGISTRY",
                "CODEBOX_ADMINS",
                "CODEBOX_RESTRICTED_ORGS",
                "CODEBOX_API_ENDPOINT",
                "CODEBOX_BUCKET",
                "CODEBOX_REGION",
            ],
        ] {
            let values = [
                "id",
                "secret",
                "https://ghe.example/api/v3/",
                "https://registry.example/",
                "Ann, bob",
                "Acme, other",
                "https://x.example/prod/registry",
                "npm-prod",
                "eu-west-1",
            ];
            let settings = load(&names.into_iter().zip(values).collect::<Vec<_>>()).unwrap();
            let github = settings.github.as_ref().unwrap();
            assert_eq!(github.client.web_url.as_str(), "https://ghe.example/");
            assert_eq!(github.organizations.as_deref(), Some(&["Acme".to_owned(), "other".to_owned()][..]));
            assert_eq!(settings.server.public_url.as_ref().unwrap().path(), "/prod/registry/");
            assert_eq!(settings.upstreams[0].client.url.as_str(), "https://registry.example/");
            let admins: Vec<String> = settings.access.admins.iter().map(ToString::to_string).collect();
            assert_eq!(admins, ["github:user/ann", "github:user/bob"]);
            assert_eq!(settings.access.rules[0].principals[&Action::Publish], Vec::new());
            assert!(!settings.anonymous_may_read());
            let bucket = settings.storage.bucket.as_ref().unwrap();
            assert_eq!(bucket.address.to_string(), "s3://npm-prod");
            assert_eq!(bucket.region.as_deref(), Some("eu-west-1"));
            assert!(settings.is_read_only());
        }
    }

    #[test]
    fn a_bucket_of_the_older_system_is_read_only_until_it_is_said_otherwise() {
        let mark = ("githubClientId", "id");
        let own = ("HOLDFAST__STORAGE__URL", "s3://other");
        for (environment, expected) in [
            (vec![mark, ("bucket", "b")], true),
            (vec![mark, ("bucket", "b"), ("HOLDFAST__STORAGE__READ_ONLY", "false")], false),
            (vec![mark, ("bucket", "b"), ("HOLDFAST__STORAGE__READ_ONLY", "auto")], true),
            (vec![mark, ("bucket", "b"), own], false),
            (vec![mark], false),
            (vec![("bucket", "b")], false),
            (vec![("HOLDFAST__STORAGE__READ_ONLY", "true")], true),
        ] {
            assert_eq!(load(&environment).unwrap().is_read_only(), expected, "{environment:?}");
        }
        assert!(load(&[("HOLDFAST__STORAGE__READ_ONLY", "perhaps")]).is_err());
    }

    #[test]
    fn insights_and_the_topic_are_sinks() {
        const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:npm-prod-log";
        let environment =
            [("githubClientId", "id"), ("clientId", "x"), ("CODEBOX_INSIGHTS_SECRET", "y"), ("logTopic", TOPIC)];
        let owned = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(unused(&owned), Vec::<&str>::new());
        let sinks = load(&environment).unwrap().sinks;
        let shown: Vec<_> = sinks.iter().map(|sink| (sink.name.as_str(), sink.kind.as_str())).collect();
        assert_eq!(shown, [("insights", "insights"), ("log-topic", "sns")]);
        // One of the two did nothing there, and is no mistake.
        assert_eq!(unused(&owned[..2]), ["clientId"]);
        assert!(load(&environment[..2]).unwrap().sinks.is_empty());
        assert!(load(&environment[1..]).unwrap().sinks.is_empty());
        // A topic that is none did nothing there either.
        let wrong = [("githubClientId", "id"), ("logTopic", "npm-log")];
        assert!(load(&wrong).unwrap().sinks.is_empty());
        assert_eq!(unused(&wrong.map(|(name, value)| (name.to_owned(), value.to_owned()))), ["logTopic"]);
    }

    #[test]
    fn words_that_anybody_may_have_in_the_environment_mean_nothing_alone() {
        let settings = load(&[("registry", "https://r.example/"), ("admins", "eve"), ("secret", "x")]).unwrap();
        assert!(settings.upstreams.is_empty() && settings.access.admins.is_empty() && settings.github.is_none());
    }
}
