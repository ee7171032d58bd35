//! Hooks: what accounts want to be told of, and where (`npm hook`).
//!
//! All hooks are one object, bounded in number, which is changed under a condition and kept in memory while it is what it was.
//! How far each has been told is another object, which whoever delivers writes (`sinks/fan_out.rs`) and this module only reads.
//!
//! A hook is its account's. The account may be gone when there is something to tell, or may no longer read the package: that is
//! asked each time, of an [`Audience`].

mod endpoint;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use crate::keys;
use crate::npm::{PackageName, Pattern, Timestamp};
use crate::random;
use crate::secret::Secret;
use crate::storage::{self, Change, Stamp, Store, UpdateError};

/// The longest address, and the longest name of an account, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;
const MAX_SECRET_BYTES: usize = 256;
/// The largest number of hooks that can be set.
pub const MAX_TOTAL: usize = 2_000;
/// So many with the longest texts are below this.
const MAX_BYTES: u64 = 16 << 20;

/// Whether accounts may have hooks, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// They may.
    pub is_on: bool,
    /// So many of one account.
    pub per_account: usize,
    /// So many of all accounts.
    pub total: usize,
    /// An address may be one of a private network.
    pub allow_private: bool,
    /// An address may be `http`.
    pub allow_http: bool,
    /// For one request, from its start to the end of its answer.
    pub timeout: Duration,
    /// After so many failures in a row a hook is off.
    pub tries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            is_on: false,
            per_account: 20,
            total: 500,
            allow_private: false,
            allow_http: false,
            timeout: Duration::from_secs(10),
            tries: 20,
        }
    }
}

/// What a hook is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// One package.
    Package,
    /// All packages of a scope.
    Scope,
    /// All packages that an account owns.
    Owner,
}

impl TargetKind {
    /// npm's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Scope => "scope",
            Self::Owner => "owner",
        }
    }
}

/// What a hook is told of, by its name: `tool`, `@acme/tool`, `@acme`, and of an account its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What the name is of.
    #[serde(rename = "type")]
    pub kind: TargetKind,
    /// The name.
    pub name: String,
}

impl Target {
    /// As npm sends it.
    ///
    /// # Errors
    /// [`Error::Bad`] for a type that there is not, or a name that cannot be one.
    pub fn new(kind: &str, name: &str) -> Result<Self, Error> {
        let (kind, name) = match kind {
            "package" => {
                let name = name.parse::<PackageName>();
                (TargetKind::Package, name.map_err(|_| Error::Bad("the name is none of a package"))?.to_string())
            }
            "scope" => {
                let name = format!("@{}", name.trim_start_matches('@'));
                if format!("{name}/*").parse::<Pattern>().is_err() {
                    return Err(Error::Bad("the name is none of a scope"));
                }
                (TargetKind::Scope, name)
            }
            "owner" => {
                let name = name.trim_start_matches('~');
                if name.is_empty() || name.len() > MAX_TEXT_BYTES || name.contains(char::is_control) {
                    return Err(Error::Bad("the name is none of an account"));
                }
                (TargetKind::Owner, name.to_owned())
            }
            _ => return Err(Error::Bad("a hook is of a `package`, a `scope` or an `owner`")),
        };
        Ok(Self { kind, name })
    }

    /// The pattern of the packages that the name alone tells; `None` for an owner.
    pub fn pattern(&self) -> Option<Pattern> {
        match self.kind {
            TargetKind::Package => self.name.parse().ok(),
            TargetKind::Scope => format!("{}/*", self.name).parse().ok(),
            TargetKind::Owner => None,
        }
    }

    /// Whether it has a package, which has these owners.
    pub fn has(&self, package: &PackageName, owners: &[String]) -> bool {
        match self.kind {
            TargetKind::Owner => owners.iter().any(|owner| is_same_account(owner, &self.name)),
            TargetKind::Package => self.name == package.as_str(),
            TargetKind::Scope => package.scope().is_some_and(|scope| scope.as_str() == self.name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// Names of accounts do not differ by case alone.
fn is_same_account(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// A hook as it is stored. Address and secret are there in clear: a request goes to the one and is signed with the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// What it is called by.
    pub id: String,
    /// Whose it is.
    pub username: String,
    /// What it is told of.
    #[serde(flatten)]
    pub target: Target,
    /// Where. Perhaps a secret too: many receivers are known by their address alone.
    #[serde(serialize_with = "in_clear")]
    pub endpoint: Secret,
    /// What is sent is signed with it.
    #[serde(serialize_with = "in_clear")]
    pub secret: Secret,
    /// When it was made: what happened before is not for it.
    pub created: Timestamp,
    /// When it was pointed to this address.
    pub updated: Timestamp,
    /// Counts those changes: what was found out about an address says nothing of the next one.
    pub revision: u64,
}

/// For the store alone: whoever can read it can read this.
fn in_clear<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// Where a hook is told, and what with.
#[derive(Debug, Clone)]
pub struct Destination {
    endpoint: Secret,
    secret: Secret,
}

impl Destination {
    /// Checks an address, as far as it says itself what it is, and a secret.
    ///
    /// # Errors
    /// [`Error::BadEndpoint`], or [`Error::Bad`] for the secret.
    pub fn new(settings: &Settings, endpoint: &str, secret: &str) -> Result<Self, Error> {
        if endpoint.len() > MAX_TEXT_BYTES {
            return Err(Error::BadEndpoint("is too long: it may have 1,024 bytes"));
        }
        let url = endpoint.parse::<Url>().map_err(|_| Error::BadEndpoint("is none"))?;
        endpoint::check(settings, &url).map_err(Error::BadEndpoint)?;
        if secret.is_empty() || secret.len() > MAX_SECRET_BYTES || secret.contains(char::is_control) {
            return Err(Error::Bad("a secret has from 1 to 256 bytes and no control characters"));
        }
        Ok(Self { endpoint: Secret::new(url.as_str()), secret: Secret::new(secret) })
    }

    /// The host of the address: what of it may be told to others.
    pub fn host(&self) -> String {
        let url = self.endpoint.expose().parse::<Url>().ok();
        url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned()
    }
}

impl Hook {
    /// Where a request for it goes, by the settings in force now. `Err` says why none does.
    pub fn url(&self, settings: &Settings) -> Result<Url, &'static str> {
        let url = self.endpoint.expose().parse::<Url>().map_err(|_| "is none")?;
        endpoint::check(settings, &url)?;
        Ok(url)
    }
}

/// Whose hooks are meant: an account since it was made. Who takes the name of a removed account gets none of its hooks.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The account's name.
    pub name: String,
    /// When it was made.
    pub since: Timestamp,
}

impl Owner {
    fn has(&self, hook: &Hook) -> bool {
        is_same_account(&hook.username, &self.name) && hook.created >= self.since
    }

    fn has_named(&self, hook: &Hook, id: &str) -> bool {
        hook.id == id && self.has(hook)
    }

    /// Whether the hook is one of an account that had the name before.
    fn is_heir_of(&self, hook: &Hook) -> bool {
        is_same_account(&hook.username, &self.name) && hook.created < self.since
    }
}

/// What has become of a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of the hook that it is about.
    #[serde(default)]
    pub revision: u64,
    /// When a request was last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Timestamp>,
    /// What its answer was; 0 where there was none.
    #[serde(default)]
    pub response_code: u16,
    /// Requests that arrived.
    #[serde(default)]
    pub delivered: u64,
    /// It failed too often, and is told nothing until it is pointed to an address again.
    #[serde(default)]
    pub is_off: bool,
}

/// Whether somebody may be told of a package now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// They may read it.
    May,
    /// They may not, or not use the registry at all.
    MayNot,
    /// The account is no more.
    Gone,
    /// Nobody knows now: what they may depends on GitHub, which has not said anything lately.
    Unknown,
}

/// Who knows that.
pub trait Audience: Send + Sync {
    /// Whether an account may be told of a package. `since` is when its hook was made: an account that was made later is another.
    ///
    /// # Errors
    /// When it cannot be found out, for the log.
    fn hearing<'a>(
        &'a self,
        username: &'a str,
        since: Timestamp,
        package: &'a PackageName,
    ) -> BoxFuture<'a, Result<Hearing, String>>;
}

/// Why a hook could not be set up, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account has none under this id.
    #[error("there is no such hook")]
    NotFound,
    /// It cannot be set up so.
    #[error("{0}")]
    Bad(&'static str),
    /// Its address is not one that may be told.
    #[error("the address {0}")]
    BadEndpoint(&'static str),
    /// So many are as many as may be.
    #[error("there may be {0} hooks of one account")]
    TooMany(usize),
    /// So many are as many as there may be of all accounts.
    #[error("there may be {0} hooks in all")]
    Full(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// What is stored are no hooks.
    #[error("the stored hooks cannot be read")]
    Damaged,
}

impl From<UpdateError<Error>> for Error {
    fn from(error: UpdateError<Error>) -> Self {
        match error {
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => Self::Store(error),
        }
    }
}

/// What is stored of all hooks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    hooks: Vec<Hook>,
}

/// The part of what whoever delivers has stored that is of interest here.
#[derive(Debug, Default, Deserialize)]
struct Told {
    #[serde(default)]
    hooks: BTreeMap<String, Report>,
}

/// The hooks as they were last read.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    bytes: Bytes,
    hooks: Arc<[Hook]>,
}

/// The hooks of all accounts. Cheap to clone; clones share what is in memory.
#[derive(Debug, Clone)]
pub struct Hooks {
    store: Store,
    settings: Arc<Settings>,
    kept: Arc<Mutex<Option<Kept>>>,
}

impl Hooks {
    /// Over a store. Reads nothing.
    pub fn new(store: Store, settings: Settings) -> Self {
        Self { store, settings: Arc::new(settings), kept: Arc::default() }
    }

    /// Whether accounts may have hooks, and how many.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All hooks as they are now. One request of the store, which moves no bytes on a bucket where nothing has changed.
    ///
    /// # Errors
    /// The store's failure, or [`Error::Damaged`].
    pub async fn all(&self) -> Result<Arc<[Hook]>, Error> {
        let seen = self.kept().as_ref().map(|kept| (kept.stamp.clone(), kept.bytes.clone(), Arc::clone(&kept.hooks)));
        let stamp = seen.as_ref().map(|(stamp, ..)| stamp);
        let snapshot = match self.store.snapshot_unless(&keys::hooks(), stamp, MAX_BYTES).await {
            Ok(snapshot) => snapshot,
            Err(storage::Error::NotFound) => return Ok(Arc::default()),
            Err(error) => return Err(error.into()),
        };
        let hooks = match (seen, &snapshot) {
            (Some((.., hooks)), None) => return Ok(hooks),
            // A directory tells no states apart.
            (Some((_, bytes, hooks)), Some(snapshot)) if bytes == snapshot.bytes => hooks,
            (_, Some(snapshot)) => parse(&snapshot.bytes)?.hooks.into(),
            (None, None) => return Ok(Arc::default()),
        };
        *self.kept() = snapshot.map(|found| Kept { stamp: found.stamp, bytes: found.bytes, hooks: Arc::clone(&hooks) });
        Ok(hooks)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hooks of an account, the oldest first.
    ///
    /// # Errors
    /// As [`Hooks::all`].
    pub async fn of(&self, owner: &Owner) -> Result<Vec<Hook>, Error> {
        Ok(self.all().await?.iter().filter(|hook| owner.has(hook)).cloned().collect())
    }

    /// A hook of an account.
    ///
    /// # Errors
    /// [`Error::NotFound`], or as [`Hooks::all`].
    pub async fn find(&self, owner: &Owner, id: &str) -> Result<Hook, Error> {
        self.all().await?.iter().find(|hook| owner.has_named(hook, id)).cloned().ok_or(Error::NotFound)
    }

    /// Makes a hook. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Full`], or the store's failure.
    pub async fn add(
        &self,
        owner: &Owner,
        target: Target,
        destination: Destination,
        now: Timestamp,
    ) -> Result<Hook, Error> {
        let Destination { endpoint, secret } = destination;
        let hook = Hook {
            id: random::id(),
            username: owner.name.clone(),
            target,
            endpoint,
            secret,
            // By a clock that is behind, it would be taken for one of an account that had the name before.
            created: now.max(owner.since),
            updated: now,
            revision: 1,
        };
        let (owner, settings) = (owner.clone(), Arc::clone(&self.settings));
        self.change(move |hooks| {
            hooks.retain(|known| !owner.is_heir_of(known));
            if hooks.iter().filter(|known| owner.has(known)).count() >= settings.per_account {
                return Err(Error::TooMany(settings.per_account));
            }
            if hooks.len() >= settings.total {
                return Err(Error::Full(settings.total));
            }
            hooks.push(hook.clone());
            Ok(hook)
        })
        .await
    }

    /// Points a hook to another address, which switches one on again that is off. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's failure.
    pub async fn update(
        &self,
        owner: &Owner,
        id: &str,
        destination: Destination,
        now: Timestamp,
    ) -> Result<Hook, Error> {
        let (owner, id) = (owner.clone(), id.to_owned());
        self.change(move |hooks| {
            let hook = hooks.iter_mut().find(|hook| owner.has_named(hook, &id)).ok_or(Error::NotFound)?;
            hook.endpoint = destination.endpoint;
            hook.secret = destination.secret;
            hook.updated = now;
            hook.revision += 1;
            Ok(hook.clone())
        })
        .await
    }

    /// Removes a hook and returns what it was. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store's failure.
    pub async fn remove(&self, owner: &Owner, id: &str) -> Result<Hook, Error> {
        let (owner, id) = (owner.clone(), id.to_owned());
        self.change(move |hooks| {
            let at = hooks.iter().position(|hook| owner.has_named(hook, &id)).ok_or(Error::NotFound)?;
            Ok(hooks.remove(at))
        })
        .await
    }

    /// Removes hooks whose accounts are no more. Durable when it returns.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn forget(&self, ids: Vec<String>) -> Result<(), Error> {
        self.change(move |hooks| {
            hooks.retain(|hook| !ids.contains(&hook.id));
            Ok(())
        })
        .await
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Vec<Hook>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let change = move |stored: Option<Bytes>| {
            let mut stored = stored.as_deref().map(parse).transpose()?.unwrap_or_default();
            let value = change(&mut stored.hooks)?;
            let bytes = serde_json::to_vec(&stored).map_err(|_| Error::Damaged)?;
            Ok::<_, Error>(Change::Write(bytes.into(), value))
        };
        Ok(self.store.update(&keys::hooks(), change).await?)
    }

    /// What has become of the hooks, by their ids; nothing of those that were never told anything.
    ///
    /// # Errors
    /// The store's failure, or [`Error::Damaged`].
    pub async fn reports(&self) -> Result<BTreeMap<String, Report>, Error> {
        match self.store.read(&keys::told_hooks()).await {
            Ok(bytes) => serde_json::from_slice::<Told>(&bytes).map(|told| told.hooks).map_err(|_| Error::Damaged),
            Err(storage::Error::NotFound) => Ok(BTreeMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Stored, Error> {
    serde_json::from_slice(bytes).map_err(|_| Error::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, since: i64) -> Owner {
        Owner { name: name.to_owned(), since: Timestamp::from_millis(since) }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_target_has_its_packages() {
        let has = |kind, name, package: &str, owners: &[&str]| {
            let owners: Vec<String> = owners.iter().map(|owner| (*owner).to_owned()).collect();
            Target::new(kind, name).unwrap().has(&package.parse().unwrap(), &owners)
        };
        assert!(has("package", "@acme/tool", "@acme/tool", &[]));
        assert!(!has("package", "tool", "@acme/tool", &[]));
        assert!(has("scope", "@acme", "@acme/tool", &[]) && has("scope", "acme", "@acme/tool", &[]));
        assert!(!has("scope", "@acme", "@acme-other/tool", &[]) && !has("scope", "@acme", "acme", &[]));
        assert!(has("owner", "~Ann", "tool", &["bob", "ann"]) && !has("owner", "ann", "tool", &["annabel"]));
        for (kind, name) in
            [("package", "../x"), ("package", ""), ("scope", "@a/b"), ("scope", ""), ("owner", "~"), ("team", "a:b")]
        {
            assert!(matches!(Target::new(kind, name), Err(Error::Bad(_))), "{kind} {name}");
        }
    }

    #[tokio::test]
    async fn hooks_are_their_accounts_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let settings = Settings { is_on: true, per_account: 2, total: 3, ..Settings::default() };
        let hooks = Hooks::new(store.clone(), settings.clone());
        let to = || Destination::new(&settings, "https://ci.example.com/x", "hush").unwrap();
        let target = || Target::new("package", "tool").unwrap();
        let (ann, bob) = (owner("ann", 0), owner("bob", 0));
        let first = hooks.add(&ann, target(), to(), at(1)).await.unwrap();
        hooks.add(&ann, target(), to(), at(2)).await.unwrap();
        assert!(matches!(hooks.add(&ann, target(), to(), at(3)).await, Err(Error::TooMany(2))));
        let third = hooks.add(&bob, target(), to(), at(4)).await.unwrap();
        assert!(matches!(hooks.add(&bob, target(), to(), at(5)).await, Err(Error::Full(3))));
        assert!(matches!(hooks.remove(&bob, &first.id).await, Err(Error::NotFound)));
        assert!(matches!(hooks.update(&bob, &first.id, to(), at(6)).await, Err(Error::NotFound)));
        assert_eq!(hooks.update(&ann, &first.id, to(), at(6)).await.unwrap().revision, 2);
        // Who has the name of a removed account now.
        let heir = owner("BOB", 100);
        assert!(hooks.of(&heir).await.unwrap().is_empty());
        assert!(matches!(hooks.find(&heir, &third.id).await, Err(Error::NotFound)));
        hooks.add(&heir, target(), to(), at(50)).await.unwrap();
        assert_eq!(hooks.of(&heir).await.unwrap().len(), 1);
        assert!(hooks.of(&bob).await.unwrap().iter().all(|hook| hook.id != third.id));
        // Another process has written meanwhile.
        let other = Hooks::new(store, settings);
        other.remove(&ann, &first.id).await.unwrap();
        assert_eq!(hooks.of(&ann).await.unwrap().len(), 1);
    }
}
