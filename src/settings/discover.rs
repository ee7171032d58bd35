//! The upstream that this machine's npm is set up for, found once and written down.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use url::Url;

use super::{DEFAULT_UPSTREAM, remembered_file};
use crate::secret::Secret;

/// What `actions/setup-node` puts into `NODE_AUTH_TOKEN` when nobody gave a token.
const NO_TOKEN_GIVEN: &str = "XXXXX-XXXXX-XXXXX-XXXXX";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The registry's address.
    pub url: Url,
    /// Where it was found, for people.
    pub source: String,
}

/// Why no upstream was found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// There is no npm to ask, or it fails.
    #[error("npm could not be asked for its registry")]
    Npm(#[source] io::Error),
    /// What npm is set up for is no URL.
    #[error("npm is set up for `{0}`, which is not a registry's address")]
    NotAUrl(String),
}

/// The user's own npm settings: the file that `npm login` writes to.
#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
pub fn user_npmrc() -> Option<PathBuf> {
    let named = ["npm_config_userconfig", "NPM_CONFIG_USERCONFIG"].into_iter().find_map(std::env::var_os);
    named.map(PathBuf::from).or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".npmrc")))
}

/// Where the service manager wants to be told what this process does (`sd_notify(3)`).
pub fn notify_socket() -> Option<String> {
    variable("NOTIFY_SOCKET")
}

/// What this machine calls itself, for whoever is asked to let it in.
#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
pub fn machine_name() -> Option<String> {
    let of_system = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = of_system().or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// What the account is called that this runs as.
#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
pub fn account_name() -> Option<String> {
    ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok()).filter(|name| !name.is_empty())
}

/// The token that npm would send to a registry: from the npmrc file of this directory, then from the user's. `${NAME}` in it
/// is a variable's value.
pub fn npm_token(registry: &Url) -> Option<String> {
    let key = registry.as_str().split_once(':').map(|(_, rest)| format!("{rest}:_authToken"))?;
    [Some(PathBuf::from(".npmrc")), user_npmrc()].into_iter().flatten().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        let value = text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        })?;
        Some(expanded(&value)).filter(|token| !token.is_empty() && token != NO_TOKEN_GIVEN)
    })
}

/// A token for whichever registry is published to, from `HOLDFAST_TOKEN` or `NODE_AUTH_TOKEN`.
pub fn publish_token() -> Option<String> {
    ["HOLDFAST_TOKEN", "NODE_AUTH_TOKEN"].into_iter().filter_map(variable).find(|token| token != NO_TOKEN_GIVEN)
}

/// How a CI job proves who it is.
#[derive(Debug, Clone)]
pub enum JobIdentity {
    /// It has an identity token already (GitLab and others, in `NPM_ID_TOKEN`).
    Token(Secret),
    /// It asks the runner for one (GitHub Actions).
    Runner {
        /// Where.
        url: Url,
        /// What it asks with.
        secret: Secret,
    },
}

/// The identity of the CI job that this is, where it has one that is made for registries.
pub fn job_identity() -> Option<JobIdentity> {
    if let Some(token) = variable("NPM_ID_TOKEN") {
        return Some(JobIdentity::Token(Secret::new(token)));
    }
    let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL")?.parse().ok()?;
    let secret = Secret::new(variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?);
    Some(JobIdentity::Runner { url, secret })
}

/// A variable of the environment, when it is there and not empty.
#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The registry that npm publishes a package of this scope to (`@acme`): the scope's own, else the one of
/// [`default_upstream`].
pub fn npm_registry(scope: Option<&str>) -> Result<Discovered, DiscoverError> {
    let files = || [Some(PathBuf::from(".npmrc")), user_npmrc()].into_iter().flatten();
    let of_scope = scope.and_then(|scope| {
        let key = format!("{scope}:registry");
        files().find_map(|file| Some((value_in(&file, &key)?, file)))
    });
    match of_scope {
        Some((value, file)) => discovered(&value, &file.display().to_string()),
        None => default_upstream(),
    }
}

#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
fn expanded(value: &str) -> String {
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => std::env::var(name).unwrap_or_default(),
        None => value.to_owned(),
    }
}

/// The registry that npm uses on this machine: the variable `npm_config_registry`, the npmrc files of this directory
/// and of the user, then npm itself, which also knows its global files.
#[expect(clippy::disallowed_methods, reason = "settings is the one place that reads the environment")]
pub fn default_upstream() -> Result<Discovered, DiscoverError> {
    if let Ok(value) = std::env::var("npm_config_registry") {
        return discovered(&value, "the variable npm_config_registry");
    }
    let user_file = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".npmrc"));
    for file in [Some(PathBuf::from(".npmrc")), user_file].into_iter().flatten() {
        if let Some(value) = registry_in(&file) {
            return discovered(&value, &file.display().to_string());
        }
    }
    let output = Command::new("npm")
        .args(["config", "get", "registry"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(DiscoverError::Npm)?;
    discovered(&String::from_utf8_lossy(&output.stdout), "npm config get registry")
}

fn discovered(text: &str, source: &str) -> Result<Discovered, DiscoverError> {
    let text = text.trim();
    let url: Url = text.parse().map_err(|_| DiscoverError::NotAUrl(text.to_owned()))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(Discovered { url, source: source.to_owned() })
    } else {
        Err(DiscoverError::NotAUrl(text.to_owned()))
    }
}

/// The `registry=` line of an npmrc file, without variables in it, which only npm can expand.
fn registry_in(file: &Path) -> Option<String> {
    value_in(file, "registry")
}

/// The last line of an npmrc file for a key, under the same condition.
fn value_in(file: &Path, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
    values.next_back().map(|value| value.trim().trim_matches('"').to_owned()).filter(|value| !value.contains("${"))
}

/// Writes the upstream into the data directory, so that the next start needs not look for it, and a later change of
/// npm's own settings (to this very server, perhaps) changes nothing here.
pub fn remember(directory: &Path, found: &Discovered) -> io::Result<PathBuf> {
    let path = remembered_file(directory);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let text = format!(
        "# Written by the first start of `holdfast serve`, from: {}\n# Change it here, or set it anywhere else: every other place wins over this file.\n[upstreams.{DEFAULT_UPSTREAM}]\nurl = {}\n",
        found.source,
        toml::Value::String(found.url.to_string()),
    );
    // Whole or not at all: half a file would keep the next start from starting.
    let unfinished = path.with_extension("toml.new");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_registry_line_of_an_npmrc_counts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".npmrc");
        std::fs::write(&file, "//h/:_authToken=x\nregistry=http://a.example/\n registry = \"http://b.example/\"\n")
            .unwrap();
        assert_eq!(registry_in(&file).as_deref(), Some("http://b.example/"));
        std::fs::write(&file, "registry=${MIRROR}\n@s:registry=http://c.example/\n").unwrap();
        assert_eq!(registry_in(&file), None);
        assert_eq!(value_in(&file, "@s:registry").as_deref(), Some("http://c.example/"));
    }

    #[test]
    fn what_is_remembered_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let found = Discovered { url: "http://a.example/x/".parse().unwrap(), source: "a test".to_owned() };
        remember(directory.path(), &found).unwrap();
        let flags = super::super::Flags {
            file: None,
            values: vec![("storage.directory", directory.path().display().to_string())],
        };
        let loaded = super::super::Settings::load_with(&flags, vec![]).unwrap();
        assert_eq!(loaded.settings.upstreams[0].client.url, found.url);
    }
}
