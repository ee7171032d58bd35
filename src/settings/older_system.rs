//! The variables of the older system (codebox-npm), so that its deployment can be replaced by changing the code only.
//!
//! They are plain words such as `registry`, which may mean anything on a laptop. So they count only where the id of its
//! OAuth app is among them, which nothing else sets under that name. Our own variables win over them.

use super::layers::{Layer, Origin};
use super::{Settings, Shown};
use crate::auth::{Action, Rule};
use crate::npm::Pattern;

/// The variable by which the older system's environment is known: as its functions had it, and as its deployment did.
const MARKS: [&str; 2] = ["githubClientId", "CODEBOX_GITHUB_CLIENT_ID"];

/// Its other variables, each in both spellings, and our setting.
const MEANINGS: [(&str, &str, &str); 6] = [
    ("githubClientId", "CODEBOX_GITHUB_CLIENT_ID", "github.client_id"),
    ("githubSecret", "CODEBOX_GITHUB_SECRET", "github.client_secret"),
    ("githubUrl", "CODEBOX_GITHUB_URL", "github.api_url"),
    ("registry", "CODEBOX_REGISTRY", "upstreams.default.url"),
    ("apiEndpoint", "CODEBOX_API_ENDPOINT", "server.public_url"),
    ("admins", "CODEBOX_ADMINS", "access.admins"),
];

/// The settings that its variables stand for; nothing where there are none.
pub(super) fn layer(environment: &[(String, String)]) -> Option<Layer> {
    let value = |name: &str| {
        environment
            .iter()
            .find(|(found, value)| found == name && !value.trim().is_empty())
            .map(|(_, value)| value.trim())
    };
    MARKS.iter().find_map(|mark| value(mark))?;
    let mut values = Vec::new();
    for (short, long, key) in MEANINGS {
        for name in [short, long] {
            let Some(found) = value(name) else { continue };
            let text = if key == "access.admins" { principals(found) } else { found.to_owned() };
            values.push((key, text, Origin::Environment(name.to_owned())));
            break;
        }
    }
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

/// There only administrators could change anything. A rule for all packages takes that rule's place.
pub(super) fn finish(settings: &mut Settings, shown: &[Shown]) {
    let came_along = |names: [&str; 2]| {
        shown.iter().any(|line| line.key == "access.admins" && names.contains(&line.origin.as_str()))
    };
    let has_own = settings.access.rules.iter().any(|rule| rule.pattern == Pattern::Any);
    if came_along(["admins", "CODEBOX_ADMINS"]) && !has_own {
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
            ["githubClientId", "githubSecret", "githubUrl", "registry", "admins", "restrictedOrgs", "apiEndpoint"],
            [
                "CODEBOX_GITHUB_CLIENT_ID",
                "CODEBOX_GITHUB_SECRET",
                "CODEBOX_GITHUB_URL",
                "CODEBOX_REGISTRY",
                "CODEBOX_ADMINS",
                "CODEBOX_RESTRICTED_ORGS",
                "CODEBOX_API_ENDPOINT",
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
        }
    }

    #[test]
    fn words_that_anybody_may_have_in_the_environment_mean_nothing_alone() {
        let settings = load(&[("registry", "https://r.example/"), ("admins", "eve"), ("secret", "x")]).unwrap();
        assert!(settings.upstreams.is_empty() && settings.access.admins.is_empty() && settings.github.is_none());
    }
}
