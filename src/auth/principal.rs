//! Whom a rule speaks of, as the settings write it.
//!
//! | text | who |
//! | --- | --- |
//! | `anyone` | everybody, also without an account |
//! | `account` | whoever has signed in |
//! | `owners` | the owners of the package (`npm owner`) |
//! | `trusted` | a workflow that the package trusts (`npm trust`) |
//! | `user:ann` | a local account |
//! | `github:user/ann` | an account of GitHub |
//! | `github:org/acme` | members of an organisation |
//! | `github:team/acme/platform` | members of a team |
//! | `github:repo/acme/tool:write` | who has at least this role in a repository |
//! | `workflow:github/acme/tool@refs/heads/main` | a CI job of a repository; `acme/*` for all of an owner, the ref may be left out or hold `*` |

use std::fmt;
use std::str::FromStr;

use super::caller::{Caller, Source};
use super::workflow::WorkflowIdentity;
use crate::npm::pattern::matches_pattern;
pub use crate::providers::Role;

/// A person, a group of people, or a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Principal {
    /// Everybody.
    Anyone,
    /// Whoever has signed in.
    Account,
    /// The package's owners.
    Owners,
    /// A workflow that the package trusts.
    Trusted,
    /// A local account, in lower case.
    User(String),
    /// An account of GitHub, in lower case.
    GitHubUser(String),
    /// A GitHub organisation, in lower case.
    Organization(String),
    /// A GitHub team: `organisation/slug` in lower case.
    Team(String),
    /// A role in a GitHub repository, or a higher one.
    Repository {
        /// `owner/name` in lower case.
        repository: String,
        /// The least role.
        role: Role,
    },
    /// CI jobs.
    Workflow(WorkflowPattern),
}

/// Which CI jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkflowPattern {
    /// The issuer's name in the settings.
    pub issuer: String,
    /// `owner/name` in lower case, of other issuers than GitHub and GitLab the subject; `*` stands for any text.
    pub repository: String,
    /// The git ref, such as `refs/tags/v*`; every one where it is left out.
    pub reference: Option<String>,
}

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names nobody: use `anyone`, `account`, `owners`, `trusted`, `user:NAME`, `github:user/NAME`, `github:org/ORG`, `github:team/ORG/TEAM`, `github:repo/OWNER/NAME:ROLE` or `workflow:ISSUER/OWNER/NAME`"
)]
pub struct PrincipalError(String);

impl Principal {
    /// Whether a caller is meant. `owners` are the package's.
    pub fn includes(&self, caller: &Caller, owners: &[String]) -> bool {
        match (self, caller) {
            (Self::Anyone, _) | (Self::Account, Caller::User(_)) => true,
            (Self::Workflow(pattern), Caller::Workflow(workflow)) => pattern.matches(&workflow.identity),
            (_, Caller::Anonymous | Caller::Workflow(_)) | (Self::Trusted | Self::Workflow(_), _) => false,
            (Self::Owners, Caller::User(user)) => user.is_in(owners),
            (Self::User(name), Caller::User(user)) => user.source == Source::Local && user.name.to_lowercase() == *name,
            (Self::GitHubUser(name), Caller::User(user)) => {
                user.source == Source::GitHub && user.name.to_lowercase() == *name
            }
            (Self::Organization(name), Caller::User(user)) => user.groups.organizations.contains(name),
            (Self::Team(name), Caller::User(user)) => user.groups.teams.contains(name),
            (Self::Repository { repository, role }, Caller::User(user)) => {
                user.groups.roles.get(repository).is_some_and(|own| own >= role)
            }
        }
    }

    /// Whether somebody could be both: false only where that is certain.
    pub(super) fn may_overlap(&self, other: &Self) -> bool {
        let is_github = |principal: &Self| {
            matches!(principal, Self::GitHubUser(_) | Self::Organization(_) | Self::Team(_) | Self::Repository { .. })
        };
        match (self, other) {
            // Trust counts beside every list.
            (Self::Anyone | Self::Trusted, _) | (_, Self::Anyone | Self::Trusted) => true,
            (Self::Workflow(one), Self::Workflow(other)) => one.issuer == other.issuer,
            (Self::Workflow(_), _) | (_, Self::Workflow(_)) => false,
            (Self::User(one), Self::User(other)) | (Self::GitHubUser(one), Self::GitHubUser(other)) => one == other,
            (Self::User(_), other) | (other, Self::User(_)) => !is_github(other),
            _ => true,
        }
    }

    /// Whether it takes GitHub to know.
    pub(super) fn needs_github(&self) -> bool {
        matches!(self, Self::GitHubUser(_) | Self::Organization(_) | Self::Team(_) | Self::Repository { .. })
    }
}

impl WorkflowPattern {
    /// Whether a job is meant.
    pub(super) fn matches(&self, job: &WorkflowIdentity) -> bool {
        let is_at =
            |wanted: &String| job.reference.as_ref().is_some_and(|reference| matches_pattern(wanted, reference));
        self.issuer == job.issuer
            && matches_pattern(&self.repository, &job.repository.to_lowercase())
            && self.reference.as_ref().is_none_or(is_at)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let error = || PrincipalError(text.chars().filter(|c| !c.is_control()).take(100).collect());
        let lower = text.to_lowercase();
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | ':'))
        };
        match text {
            "anyone" => return Ok(Self::Anyone),
            "account" => return Ok(Self::Account),
            "owners" => return Ok(Self::Owners),
            "trusted" => return Ok(Self::Trusted),
            _ => {}
        }
        let parts: Vec<&str> = lower.split('/').collect();
        match parts.as_slice() {
            [user] if user.strip_prefix("user:").is_some_and(is_name) => {
                Ok(Self::User(user["user:".len()..].to_owned()))
            }
            ["github:user", name] if is_name(name) => Ok(Self::GitHubUser((*name).to_owned())),
            ["github:org", name] if is_name(name) => Ok(Self::Organization((*name).to_owned())),
            ["github:team", organization, team] if is_name(organization) && is_name(team) => {
                Ok(Self::Team(format!("{organization}/{team}")))
            }
            ["github:repo", owner, rest] if is_name(owner) => {
                let (name, role) = rest.split_once(':').ok_or_else(error)?;
                let role = role.parse().map_err(|()| error())?;
                if !is_name(name) {
                    return Err(error());
                }
                Ok(Self::Repository { repository: format!("{owner}/{name}"), role })
            }
            _ => text.strip_prefix("workflow:").and_then(workflow).map(Self::Workflow).ok_or_else(error),
        }
    }
}

/// `ISSUER/OWNER/NAME`, with `@REF` behind it or not. The ref keeps its case: git's refs have one.
fn workflow(text: &str) -> Option<WorkflowPattern> {
    let (path, reference) = match text.split_once('@') {
        Some((path, reference)) => (path, Some(reference.to_owned())),
        None => (text, None),
    };
    let (issuer, repository) = path.split_once('/')?;
    let is_good = !issuer.is_empty()
        && !repository.is_empty()
        && !repository.starts_with('*')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && reference.as_ref().is_none_or(|reference| !reference.is_empty());
    is_good.then(|| WorkflowPattern { issuer: issuer.to_owned(), repository: repository.to_lowercase(), reference })
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Account => f.write_str("account"),
            Self::Owners => f.write_str("owners"),
            Self::Trusted => f.write_str("trusted"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::GitHubUser(name) => write!(f, "github:user/{name}"),
            Self::Organization(name) => write!(f, "github:org/{name}"),
            Self::Team(name) => write!(f, "github:team/{name}"),
            Self::Repository { repository, role } => write!(f, "github:repo/{repository}:{role}"),
            Self::Workflow(WorkflowPattern { issuer, repository, reference }) => {
                write!(f, "workflow:{issuer}/{repository}")?;
                reference.as_ref().map_or(Ok(()), |reference| write!(f, "@{reference}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_written_as_they_are_read() {
        for text in [
            "anyone",
            "account",
            "owners",
            "trusted",
            "user:ann",
            "github:user/ann",
            "github:org/acme",
            "github:team/acme/platform",
            "github:repo/acme/tool:write",
            "workflow:github/acme/tool",
            "workflow:github/acme/*@refs/tags/v*",
            "workflow:gitlab/group/sub/project",
        ] {
            assert_eq!(text.parse::<Principal>().unwrap().to_string(), text);
        }
        assert_eq!("github:team/Acme/Platform".parse(), Ok(Principal::Team("acme/platform".to_owned())));
        for text in [
            "",
            "everybody",
            "user:",
            "user:a/b",
            "github:org/",
            "github:acme",
            "github:team/acme",
            "github:repo/acme/tool",
            "github:repo/acme/tool:owner",
            "workflow:github",
            "workflow:github/*",
            "workflow:github/acme/x@",
            "Anyone",
        ] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }

    #[test]
    fn stars_in_patterns_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("refs/heads/main", "refs/heads/main", true),
            ("refs/heads/main", "refs/heads/main2", false),
            ("refs/tags/v*", "refs/tags/v1.0.0", true),
            ("refs/tags/v*", "refs/heads/v1", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("acme/*", "acme/tool", true),
            ("acme/*", "acmes/tool", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), fits, "{pattern} {text}");
        }
    }
}
