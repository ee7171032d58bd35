//! Who is asking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::access_policy::Action;
use super::principal::Role;
use super::workflow::WorkflowIdentity;
use crate::events::{Who, WhoKind};
use crate::npm::packument::Maintainer;
use crate::npm::{PackageName, Pattern};
use crate::secret::Secret;

/// Whoever sent a request, after authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No credentials were sent.
    Anonymous,
    /// An account of this registry.
    User(User),
    /// A CI job that has shown its identity.
    Workflow(Workflow),
}

/// Where an account comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It has a password here.
    Local,
    /// It is an account of GitHub.
    GitHub,
}

/// An account, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The account's name.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// Where it comes from.
    pub source: Source,
    /// The groups it is in. Empty for a local account.
    pub groups: Arc<Groups>,
    /// The token that was shown; `None` for a password.
    pub token: Option<Arc<TokenScope>>,
    /// Changes of packages need a one-time code.
    pub needs_code: bool,
    /// The one-time code that came with the request, not checked yet.
    pub code: Option<OneTimeCode>,
    /// The token at GitHub behind the one that was shown: GitHub is asked with it what its owner may see.
    pub(super) github: Option<HeldToken>,
}

/// A token of GitHub's for the time of a request.
#[derive(Clone, Debug)]
pub(super) struct HeldToken(Secret);

impl HeldToken {
    pub(super) fn new(secret: Secret) -> Self {
        Self(secret)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

impl PartialEq for HeldToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for HeldToken {}

/// A code as it was typed. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct OneTimeCode(String);

impl OneTimeCode {
    /// Takes a code into custody.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// The code itself, for the one place that checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What GitHub says of an account, all in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Groups {
    /// Organisations that it is an active member of.
    pub organizations: BTreeSet<String>,
    /// Teams: `organisation/slug`.
    pub teams: BTreeSet<String>,
    /// Its role in the repositories that a rule names: by `owner/name`.
    pub roles: BTreeMap<String, Role>,
}

/// What a token is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenScope {
    /// The token's public name: its hash.
    pub key: String,
    /// It changes nothing.
    pub read_only: bool,
    /// The packages it is good for; `None` for all.
    pub packages: Option<Vec<Pattern>>,
    /// Writes need no second factor.
    pub bypasses_second_factor: bool,
}

/// A CI job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// What its identity token said.
    pub identity: Arc<WorkflowIdentity>,
    /// The package that trusts it, where it asked to change one.
    pub grant: Option<Arc<Grant>>,
}

/// What a package lets a workflow do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The one package.
    pub package: PackageName,
    /// What may be done with it.
    pub actions: Vec<Action>,
    /// Which of the package's trusted publishers it is.
    pub publisher_id: String,
    /// Who trusted it: the owner of a package that it publishes first.
    pub trusted_by: Maintainer,
    /// It was trusted when there was no such package, and counts for one that whoever trusted it owns.
    pub before_package: bool,
}

impl Grant {
    /// Whether it counts for a package with these owners; none for one that is not there.
    pub fn counts_for(&self, owners: &[String]) -> bool {
        !self.before_package || owners.is_empty() || is_among(&self.trusted_by.name, owners)
    }
}

/// Whether a name is among others. Names do not differ by case alone.
pub(super) fn is_among(name: &str, names: &[String]) -> bool {
    names.iter().any(|other| *other == name || other.to_lowercase() == name.to_lowercase())
}

/// Under whose name a change is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The account's or the job's name.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// The owner of a package that is published first.
    pub owner: Maintainer,
    /// The issuer and the id of the trust, for a workflow: `_npmUser.trustedPublisher` (pnpm and npm rank versions by it).
    pub trusted_publisher: Option<(String, String)>,
}

impl Caller {
    /// The account, if there is one.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::User(user) => Some(user),
            Self::Anonymous | Self::Workflow(_) => None,
        }
    }

    /// True for somebody who is known, whatever they may do.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// The name that `npm whoami` shows: the account's, or a stable one for a CI job.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user.name.clone()),
            Self::Workflow(workflow) => Some(workflow.identity.name()),
        }
    }

    /// Who it is, for the record of events.
    pub fn who(&self) -> Who {
        match self {
            Self::Anonymous => Who::default(),
            Self::User(user) => user.who(),
            Self::Workflow(workflow) => {
                Who { kind: WhoKind::Workflow, name: self.name(), claims: workflow.identity.claims(), ..Who::default() }
            }
        }
    }

    /// Under whose name a change is recorded; nobody's without credentials.
    pub fn author(&self) -> Option<Author> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(Author {
                name: user.name.clone(),
                email: user.email.clone(),
                owner: user.as_maintainer(),
                trusted_publisher: None,
            }),
            Self::Workflow(workflow) => {
                let name = workflow.identity.name();
                let itself = || Maintainer { name: name.clone(), email: String::new() };
                Some(Author {
                    owner: workflow.grant.as_ref().map_or_else(itself, |grant| grant.trusted_by.clone()),
                    trusted_publisher: workflow
                        .grant
                        .as_ref()
                        .map(|grant| (workflow.identity.issuer.clone(), grant.publisher_id.clone())),
                    name,
                    email: String::new(),
                })
            }
        }
    }
}

impl User {
    /// A local account without limits.
    pub fn local(name: impl Into<String>, email: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            email: email.into(),
            source: Source::Local,
            groups: Arc::default(),
            token: None,
            needs_code: false,
            code: None,
            github: None,
        }
    }

    /// Who it is, for the record of events.
    pub fn who(&self) -> Who {
        let token = self.token.as_ref().map(|token| token.key.clone());
        Who { token, ..Who::user(&self.name) }
    }

    /// The account as owner of a package.
    pub fn as_maintainer(&self) -> Maintainer {
        Maintainer { name: self.name.clone(), email: self.email.clone() }
    }

    /// Whether the account is among these names.
    pub fn is_in(&self, names: &[String]) -> bool {
        is_among(&self.name, names)
    }
}
