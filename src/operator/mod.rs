//! What operators do with accounts, tokens, trust and waivers: orders, and carrying them out.
//!
//! A data directory has one owner at a time. So an order is carried out by whoever owns it: by the command itself when no
//! server runs, else by the server, which takes orders on a socket beside the data (`serve/control.rs`). Whoever may write into
//! the directory is an operator; there is no other right to ask for.

mod recorded;

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::auth::{
    Account, Auth, Error, Imported, ListedToken, Mode, Source, TokenOrigin, TokenWish, TrustWish, TrustedPublisher,
};
use crate::clock::Clock;
use crate::events::{Recorder, Who};
use crate::npm::packument::Maintainer;
use crate::npm::{PackageName, Pattern, Version};
use crate::policy::Waiver;
use crate::random;
use crate::registry::{self, Mirrored, Registry, WaiverBook, WantedVersion};
use crate::sinks::{self, Sinks};

/// Under whose name an operator trusts a workflow. The colon keeps it out of reach: no account may have one in its name,
/// so nobody can become the owner of what such a workflow publishes first.
const OPERATOR: &str = ":operator";

/// A year: what is right for longer is a rule.
const MAX_WAIVER_MINUTES: u64 = 366 * 24 * 60;

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Makes a local account.
    AddUser {
        /// Its name.
        name: String,
        /// Its password.
        password: String,
        /// May be empty.
        email: String,
    },
    /// Sets another password.
    SetPassword {
        /// Whose.
        name: String,
        /// The new one.
        password: String,
    },
    /// Lists all accounts.
    ListUsers,
    /// Removes an account and its tokens.
    RemoveUser {
        /// Whose.
        name: String,
    },
    /// Blocks an account, or lets it in again.
    BlockUser {
        /// Whose.
        name: String,
        /// In or out.
        blocked: bool,
    },
    /// Turns one-time codes off for somebody who lost them.
    ResetSecondFactor {
        /// Whose.
        name: String,
    },
    /// Makes an invitation.
    Invite {
        /// For whom; for anybody, where there is none.
        name: Option<String>,
        /// For how long.
        days: u64,
    },
    /// Makes the accounts of an htpasswd file.
    ImportHtpasswd {
        /// What is in it.
        text: String,
    },
    /// Makes a token.
    CreateToken {
        /// Whose.
        user: String,
        /// Its limits.
        limits: TokenLimits,
    },
    /// Lists an account's tokens.
    ListTokens {
        /// Whose.
        user: String,
    },
    /// Revokes a token.
    RevokeToken {
        /// Whose.
        user: String,
        /// Its key or the start of it.
        key: String,
    },
    /// Trusts a workflow with a package.
    Trust {
        /// The package.
        package: PackageText,
        /// The workflow.
        wish: TrustWish,
    },
    /// Lists the workflows that a package trusts.
    ListTrust {
        /// The package.
        package: PackageText,
    },
    /// Lets a version through that the policy withholds.
    Waive {
        /// What, why, until when.
        wish: WaiverWish,
    },
    /// Lists what was let through.
    ListWaivers,
    /// Takes a waiver back.
    Unwaive {
        /// The waiver.
        id: String,
        /// Who says so.
        by: String,
    },
    /// How the sinks are.
    ListSinks,
    /// Tries once more what a sink did not take.
    RetrySink {
        /// Which.
        name: String,
    },
    /// Fetches versions of upstreams before anybody asks for them.
    Mirror {
        /// Which.
        wanted: Vec<WantedVersion>,
        /// Only looks.
        dry_run: bool,
    },
    /// Ends the trust in a workflow.
    Distrust {
        /// The package.
        package: PackageText,
        /// The id of the trust.
        id: String,
    },
}

/// An order, and whose it is. Travels as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The account on the machine that the command ran as, where it is known. For the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub order: Order,
}

impl From<Order> for Errand {
    /// Of an operator who is not known by name.
    fn from(order: Order) -> Self {
        Self { by: None, order }
    }
}

/// What an operator wants to let through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiverWish {
    /// The package.
    pub package: PackageText,
    /// The version; all, where there is none.
    pub version: Option<String>,
    /// The rule that it lifts; the holds, where there is none.
    pub rule: Option<String>,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: String,
    /// For how long.
    pub minutes: u64,
}

/// What orders are carried out on.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// Accounts, tokens, trust.
    pub auth: &'a Auth,
    /// What was let through.
    pub waivers: &'a WaiverBook,
    /// Where it is written down what was done.
    pub recorder: &'a Recorder,
    /// Where what happens is told.
    pub sinks: &'a Sinks,
    /// The time.
    pub clock: &'a Clock,
    /// The registry, where one runs.
    pub registry: Option<&'a Registry>,
}

/// A package's name on its way.
pub type PackageText = String;

/// The limits of a token, as a command line gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenLimits {
    /// For its owner.
    pub name: String,
    /// It changes nothing.
    pub read_only: bool,
    /// Patterns of packages; all, where there is none.
    pub packages: Vec<String>,
    /// Networks; everywhere, where there is none.
    pub cidr: Vec<IpNet>,
    /// For how many days; for ever, where nothing is said.
    pub days: Option<u64>,
    /// Writes with it need no second factor.
    pub bypass_second_factor: bool,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was done, and there is nothing to say.
    Done,
    /// Accounts.
    Users {
        /// All of them.
        users: Vec<UserLine>,
    },
    /// A new token, in this answer and nowhere else.
    Token {
        /// The token.
        token: String,
        /// What it is called by.
        key: String,
        /// When it ends.
        expires: Option<String>,
    },
    /// A token was revoked.
    Revoked {
        /// What it was called by.
        key: String,
    },
    /// Tokens.
    Tokens {
        /// The newest first.
        tokens: Vec<TokenLine>,
    },
    /// The code of an invitation, in this answer and nowhere else.
    Invitation {
        /// Part of the page's address.
        code: String,
    },
    /// What an import made.
    Imported {
        /// Accounts and lines that were left out.
        imported: Imported,
    },
    /// Trusted workflows.
    Publishers {
        /// All of them, or the new one.
        publishers: Vec<TrustedPublisher>,
    },
    /// What was let through.
    Waivers {
        /// All of them, or the new one.
        waivers: Vec<Waiver>,
    },
    /// The sinks.
    Sinks {
        /// All of them.
        sinks: Vec<sinks::Status>,
    },
    /// What came of fetching versions.
    Mirrored {
        /// Of each, in the order of the order.
        states: Vec<Mirrored>,
    },
    /// It was not done.
    Refused {
        /// For people.
        why: String,
    },
}

/// An account in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// Its name.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// Where it comes from.
    pub source: Source,
    /// Its one-time codes.
    pub second_factor: Option<Mode>,
    /// It may not be used.
    pub blocked: bool,
    /// RFC 3339.
    pub created: String,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLine {
    /// What it is called by.
    pub key: String,
    /// The start of the token.
    pub hint: String,
    /// Given by its owner.
    pub name: String,
    /// How it came to be.
    pub origin: TokenOrigin,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339.
    pub expires: Option<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// Patterns of packages.
    pub packages: Option<Vec<String>>,
    /// Networks.
    pub cidr: Vec<IpNet>,
}

/// Carries an order out, and writes it down. What cannot be done is an outcome too, and so is what was done and could not be
/// written down yet.
pub async fn carry_out(desk: Desk<'_>, Errand { by, order }: Errand) -> Outcome {
    let outcome = match attempt(desk, order.clone()).await {
        Ok(outcome) => outcome,
        Err(refusal) => return refusal.into(),
    };
    let events = recorded::events(&order, &outcome, &Who::operator(by), desk.clock.now());
    match desk.recorder.record_all(events).await {
        Ok(()) => outcome,
        Err(error) => Refusal::from(Error::Unrecorded(error)).into(),
    }
}

struct Refusal(String);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self(format!("{error}{cause}"))
    }
}

impl From<sinks::StateError> for Refusal {
    fn from(error: sinks::StateError) -> Self {
        Self(error.to_string())
    }
}

impl From<Refusal> for Outcome {
    fn from(Refusal(why): Refusal) -> Self {
        Self::Refused { why }
    }
}

impl From<registry::Error> for Refusal {
    fn from(error: registry::Error) -> Self {
        Self(error.to_string())
    }
}

async fn attempt(desk: Desk<'_>, order: Order) -> Result<Outcome, Refusal> {
    let auth = desk.auth;
    match order {
        Order::AddUser { name, password, email } => auth.create_account(&name, password, &email).await.map(|_| ())?,
        Order::SetPassword { name, password } => auth.set_password(&name, password).await?,
        Order::ListUsers => {
            let users = auth.accounts().await?.iter().map(user_line).collect();
            return Ok(Outcome::Users { users });
        }
        Order::RemoveUser { name } => auth.remove_account(&name).await?,
        Order::BlockUser { name, blocked } => auth.set_blocked(&name, blocked).await?,
        Order::ResetSecondFactor { name } => auth.reset_second_factor(&name).await?,
        Order::Invite { name, days } => {
            let code = auth.invite(name.as_deref(), days_long(days)?).await?;
            return Ok(Outcome::Invitation { code });
        }
        Order::ImportHtpasswd { text } => {
            return Ok(Outcome::Imported { imported: auth.import_htpasswd(&text).await? });
        }
        Order::Mirror { wanted, dry_run } => {
            let registry = desk.registry.ok_or_else(|| Refusal("there is no registry to fetch with".to_owned()))?;
            return Ok(Outcome::Mirrored { states: registry.mirror(wanted, dry_run).await });
        }
        Order::CreateToken { user, limits } => {
            let (token, record) = auth.create_token_for(&user, wish(limits)?).await?;
            let key = token.hash().as_str().to_owned();
            return Ok(Outcome::Token { token: token.reveal().to_owned(), key, expires: record.expires });
        }
        Order::ListTokens { user } => {
            known(auth, &user).await?;
            let tokens = auth.tokens_of(&user).await?.into_iter().map(token_line).collect();
            return Ok(Outcome::Tokens { tokens });
        }
        Order::RevokeToken { user, key } => {
            known(auth, &user).await?;
            let missing = || Refusal(format!("`{user}` has no such token, or several that start like this"));
            return Ok(Outcome::Revoked { key: auth.revoke_named(&user, &key).await?.ok_or_else(missing)? });
        }
        Order::Trust { package, wish } => {
            let by = Maintainer { name: OPERATOR.to_owned(), email: String::new() };
            let publisher = auth.trust(&name(&package)?, wish, by).await?;
            return Ok(Outcome::Publishers { publishers: vec![publisher] });
        }
        Order::ListTrust { package } => {
            return Ok(Outcome::Publishers { publishers: auth.trusted_publishers(&name(&package)?).await? });
        }
        Order::Waive { wish } => {
            let waiver = waiver(desk, wish).await?;
            return Ok(Outcome::Waivers { waivers: vec![desk.waivers.add(waiver).await?] });
        }
        Order::ListWaivers => return Ok(Outcome::Waivers { waivers: desk.waivers.list().await? }),
        Order::Unwaive { id, by } => {
            desk.waivers.remove(&id, &by).await?.ok_or_else(|| Refusal(format!("there is no waiver `{id}`")))?;
        }
        Order::ListSinks => return Ok(Outcome::Sinks { sinks: desk.sinks.status().await? }),
        Order::RetrySink { name } => {
            if !desk.sinks.retry(&name).await? {
                return Err(Refusal(format!("there is no sink `{name}` in the settings")));
            }
        }
        Order::Distrust { package, id } => {
            if !auth.distrust(&name(&package)?, &id).await? {
                return Err(Refusal(format!("`{package}` trusts no workflow under this id")));
            }
        }
    }
    Ok(Outcome::Done)
}

/// A waiver of one version is bound to the bytes and the upstream that it was looked at with, where a server runs that knows
/// them.
async fn waiver(desk: Desk<'_>, wish: WaiverWish) -> Result<Waiver, Refusal> {
    let package = name(&wish.package)?;
    let version = match &wish.version {
        Some(text) => Some(text.parse::<Version>().map_err(|error| Refusal(error.to_string()))?),
        None => None,
    };
    if wish.reason.trim().is_empty() || wish.by.trim().is_empty() {
        return Err(Refusal("a waiver needs a reason and somebody who gives it".to_owned()));
    }
    if !(1..=MAX_WAIVER_MINUTES).contains(&wish.minutes) {
        return Err(Refusal("a waiver lasts from a minute to a year".to_owned()));
    }
    let bound = match (desk.registry, &version) {
        (Some(registry), Some(version)) => registry.identity_of(&package, version).await?,
        _ => None,
    };
    let (upstream, integrity) = bound.map_or((None, None), |(upstream, integrity)| (Some(upstream), integrity));
    let now = desk.clock.now();
    Ok(Waiver {
        id: random::id(),
        package: package.as_str().to_owned(),
        version: version.map(|version| version.to_string()),
        integrity,
        upstream,
        rule: wish.rule,
        reason: wish.reason,
        by: wish.by,
        created: now.to_string(),
        expires: now.plus(Duration::from_mins(wish.minutes)).to_string(),
    })
}

async fn known(auth: &Auth, user: &str) -> Result<Account, Refusal> {
    auth.account(user).await?.ok_or_else(|| Refusal(format!("there is no user `{user}`")))
}

fn name(text: &str) -> Result<PackageName, Refusal> {
    text.parse().map_err(|error| Refusal(format!("`{text}`: {error}")))
}

/// A hundred years at most: dates have an end.
fn days_long(days: u64) -> Result<Duration, Refusal> {
    if (1..=36_500).contains(&days) {
        Ok(Duration::from_hours(24 * days))
    } else {
        Err(Refusal("the number of days must be from 1 to 36,500".to_owned()))
    }
}

fn wish(limits: TokenLimits) -> Result<TokenWish, Refusal> {
    let mut packages = Vec::new();
    for text in &limits.packages {
        packages.push(text.parse::<Pattern>().map_err(|error| Refusal(error.to_string()))?);
    }
    Ok(TokenWish {
        name: limits.name,
        description: String::new(),
        read_only: limits.read_only,
        packages: (!packages.is_empty()).then_some(packages),
        cidr: limits.cidr,
        lasts: limits.days.map(days_long).transpose()?,
        bypasses_second_factor: limits.bypass_second_factor,
    })
}

fn user_line(account: &Account) -> UserLine {
    UserLine {
        name: account.name.clone(),
        email: account.email.clone(),
        source: account.source(),
        second_factor: account.second_factor_mode(),
        blocked: account.blocked,
        created: account.created.clone(),
    }
}

fn token_line(token: ListedToken) -> TokenLine {
    let ListedToken { hash, record } = token;
    TokenLine {
        key: hash,
        hint: record.hint,
        name: record.name,
        origin: record.origin,
        created: record.created,
        expires: record.expires,
        read_only: record.read_only,
        packages: record.packages,
        cidr: record.cidr,
    }
}
