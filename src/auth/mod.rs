//! Who is calling, and may they.
//!
//! Accounts, tokens and pending logins are objects in the store. A token is looked up by its hash and remembered for a
//! while, so that a known token costs no storage call; no password is ever hashed for a request that carries a token.
//! GitHub is asked at most every few minutes about one token, and what it said is used for a bounded time when it fails.

mod access_policy;
mod account;
mod basic;
mod caller;
mod directory;
mod github;
mod htpasswd;
mod import;
mod logins;
mod password;
mod principal;
mod recorded;
mod seal;
mod second_factor;
mod throttle;
mod token;
mod tokens;
mod totp;
mod trust;
mod workflow;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

pub use crate::providers::Member;
pub use access_policy::{
    AccessPolicy, AccessPolicySettings, Action, Decision, Reason, Refusal, Rule, RuleError, Verdict,
};
pub use account::{Account, ProfileChange, Standing};
pub use caller::{Author, Caller, Grant, Groups, OneTimeCode, Source, TokenScope, User, Workflow};
pub use github::{GitHubSettings, GroupNeeds};
pub use import::{Imported, NotImported, read_htpasswd};
pub use logins::{Asking, POLL_EVERY, Poll, Shown, Stage, Started, StartedDevice, has_ended};
pub use password::{PasswordError, Passwords};
pub use principal::{Principal, PrincipalError, Role, WorkflowPattern};
pub use second_factor::{Enrolment, Mode};
pub use token::{TOKEN_PREFIX, Token, TokenHash, TokenOrigin, TokenRecord};
pub use tokens::{ListedToken, TokenWish};
pub use trust::{ExchangeError, IssuerSettings, NotTrusted, TrustWish, TrustedPublisher};
pub use workflow::{IdentityError, IssuerKind, WorkflowIdentity};

use crate::clock::Clock;
use crate::events::Recorder;
use crate::keys;
use crate::npm::Timestamp;
use crate::providers::{self, KeySets};
use crate::secret::Secret;
use crate::storage::{self, Change, Store, UpdateError};
use basic::RememberedPasswords;
use github::GitHubAccounts;
use recorded::Way;
use throttle::Throttle;

/// Known and unknown tokens remembered; about half a kilobyte each.
const REMEMBERED_TOKENS: usize = 10_000;
/// How long. A token or an account that another process changed is of no use after this.
const REMEMBERED_MILLIS: i64 = 60_000;

/// Whether strangers may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// By signing in with a name that is not taken.
    Open,
    /// With an invitation.
    Invitation,
    /// Not at all.
    Closed,
}

/// How callers are known.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What authenticator apps call us.
    pub name: String,
    /// Whether strangers may make an account.
    pub registration: Registration,
    /// GitHub, where it is used.
    pub github: Option<GitHubSettings>,
    /// What rules ask of GitHub.
    pub groups: GroupNeeds,
    /// Issuers of CI identities.
    pub issuers: Vec<IssuerSettings>,
}

/// Credentials as a client may send them.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Nothing.
    None,
    /// `Authorization: Bearer`.
    Bearer(Token),
    /// `Authorization: Basic`.
    Basic {
        /// The account's name.
        user: String,
        /// In clear text.
        password: String,
    },
}

/// What else a request says of whoever sent it.
#[derive(Debug, Clone, Default)]
pub struct Presented {
    /// The address it came from, as far as that is known.
    pub address: Option<IpAddr>,
    /// `npm-otp`.
    pub code: Option<OneTimeCode>,
}

/// Why somebody could not be signed in or recognised, or a change of an account not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token is unknown, revoked, expired or not one of ours.
    #[error("the token is not known here")]
    UnknownToken,
    /// The token may not be used from this address.
    #[error("the token may not be used from this address")]
    OtherAddress,
    /// The name or the password is wrong.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// The account may not be used.
    #[error("the account is blocked")]
    Blocked,
    /// A one-time code is needed, or the one that came is wrong.
    #[error("a one-time code is needed")]
    OneTimeCode,
    /// The code that finishes an enrolment is wrong.
    #[error("the one-time code is wrong")]
    WrongCode,
    /// No enrolment has begun.
    #[error("no enrolment for one-time codes has begun")]
    NothingPending,
    /// Too many wrong tries.
    #[error("too many wrong tries")]
    Locked(Duration),
    /// The invitation is unknown, used, expired or for another name.
    #[error("the invitation is not good")]
    NoInvitation,
    /// The name cannot be an account's name.
    #[error("the user name is not allowed: use letters, digits, `-`, `_` and `.`")]
    BadName,
    /// Somebody else has the name.
    #[error("the user name {0} is taken")]
    NameTaken(String),
    /// Empty or overlong.
    #[error("the password is not allowed")]
    BadPassword,
    /// Overlong or with control characters.
    #[error("the profile has a text that is not allowed")]
    BadProfile,
    /// What a new token was to be limited to.
    #[error("{0}")]
    BadToken(&'static str),
    /// What is to be trusted.
    #[error("{0}")]
    BadTrust(&'static str),
    /// The package trusts this workflow already.
    #[error("the package trusts this workflow already")]
    TrustedAlready,
    /// No such account.
    #[error(
        "there is no such user; `holdfast user list` shows all, and a GitHub account is there once it has signed in"
    )]
    UserNotFound,
    /// The account is GitHub's, so is its password.
    #[error("the account's password and second factor are GitHub's")]
    NoPasswordHere,
    /// GitHub is not set up.
    #[error("GitHub is not set up")]
    NoGitHub,
    /// GitHub shows the caller no such organisation or team.
    #[error("GitHub shows the caller no such group")]
    NotInDirectory,
    /// What was typed as password is no token of GitHub's, and GitHub takes no passwords.
    #[error("GitHub takes no passwords")]
    GitHubTakesTokens,
    /// The GitHub token is somebody else's.
    #[error("the token is the one of {0}")]
    OtherName(String),
    /// In none of the organisations that may come in.
    #[error("{0} is in none of the organisations")]
    NotAMember(String),
    /// GitHub said no while somebody signed in there.
    #[error("GitHub refused: {0}")]
    GitHubRefused(String),
    /// GitHub does not answer, and nothing recent enough is known.
    #[error("GitHub does not answer")]
    GitHubUnavailable {
        /// When it may.
        retry_after: Option<Duration>,
    },
    /// The keys of an issuer cannot be had.
    #[error("the issuer of the identity token does not answer")]
    IssuerUnavailable {
        /// When it may.
        retry_after: Option<Duration>,
    },
    /// A CI job's identity token got nothing.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// No such login, or it has ended.
    #[error("there is no such login")]
    NoLogin,
    /// The person said no.
    #[error("the login was denied")]
    Denied,
    /// The answer comes from another browser than the one that asked.
    #[error("the answer comes from another browser")]
    ForeignBrowser,
    /// Somebody else has signed in than the one who has to confirm.
    #[error("{wanted} has to confirm, not {found}")]
    OtherPerson {
        /// Whose change it is.
        wanted: String,
        /// Who signed in.
        found: String,
    },
    /// Too many at once.
    #[error("too many sign-ins at once")]
    Busy,
    /// The store failed.
    #[error("accounts could not be read or written")]
    Store(#[from] storage::Error),
    /// A change was made, and that it was could not be written down yet.
    #[error("it was done, and could not be written into the record of events yet")]
    Unrecorded(#[source] storage::Error),
    /// A stored record cannot be read.
    #[error("a stored account is damaged")]
    Damaged,
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            PasswordError::Failed => Self::Damaged,
        }
    }
}

impl From<UpdateError<Error>> for Error {
    fn from(error: UpdateError<Error>) -> Self {
        match error {
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Duration> for Error {
    /// The brake's word: how long to wait.
    fn from(wait: Duration) -> Self {
        Self::Locked(wait)
    }
}

/// Accounts and tokens. Cheap to clone.
///
/// A clone goes by the settings that were in force when it was made; what is in memory is shared by all.
#[derive(Clone)]
pub struct Auth {
    inner: Arc<Inner>,
    terms: Arc<Terms>,
}

/// What follows from the settings.
struct Terms {
    settings: Settings,
    github: Option<Arc<GitHubAccounts>>,
}

impl Terms {
    fn new(settings: Settings) -> Result<Self, providers::BuildError> {
        let github = settings.github.clone().map(|github| GitHubAccounts::new(github, settings.groups.clone()));
        Ok(Self { github: github.transpose()?.map(Arc::new), settings })
    }
}

struct Inner {
    store: Store,
    clock: Clock,
    passwords: Passwords,
    tasks: TaskTracker,
    recorder: Recorder,
    tokens: Arc<RememberedTokens>,
    key_sets: KeySets,
    throttle: Throttle,
    starts: std::sync::Mutex<logins::Starts>,
    remembered_passwords: RememberedPasswords,
}

/// Tokens that were looked up lately.
#[derive(Debug)]
struct RememberedTokens {
    known: Cache<TokenHash, Remembered>,
    /// Counts changes of tokens and accounts: what was read before a change is not remembered after it.
    changes: AtomicU64,
}

/// What a look-up gave, and when.
#[derive(Debug, Clone)]
struct Remembered {
    holder: Option<Arc<Holder>>,
    at: Timestamp,
}

/// What a token stands for.
#[derive(Debug)]
struct Holder {
    record: TokenRecord,
    identity: Identity,
}

#[derive(Debug)]
enum Identity {
    /// A local account, as it is told to decisions.
    Local(User),
    /// An account of GitHub, by its token there.
    GitHub(Secret, Arc<TokenScope>),
    /// A CI job.
    Workflow(Caller),
}

impl Auth {
    /// Over a store.
    ///
    /// # Errors
    /// When the clients for GitHub and issuers cannot be made of the settings.
    pub fn new(
        store: Store,
        clock: Clock,
        tasks: TaskTracker,
        recorder: Recorder,
        settings: Settings,
    ) -> Result<Self, providers::BuildError> {
        const ISSUER_TIMEOUT: Duration = Duration::from_secs(10);
        let tokens = RememberedTokens { known: Cache::new(REMEMBERED_TOKENS), changes: AtomicU64::new(0) };
        let inner = Inner {
            key_sets: KeySets::new(clock.clone(), ISSUER_TIMEOUT)?,
            store,
            clock,
            passwords: Passwords::default(),
            tasks,
            recorder,
            tokens: Arc::new(tokens),
            throttle: Throttle::new(),
            starts: std::sync::Mutex::default(),
            remembered_passwords: RememberedPasswords::new(),
        };
        Ok(Self { inner: Arc::new(inner), terms: Arc::new(Terms::new(settings)?) })
    }

    /// The same by other settings, with all that is in memory. What GitHub said is kept where neither its settings nor what
    /// the rules ask of it have changed.
    ///
    /// # Errors
    /// When the client for GitHub cannot be made of the settings.
    pub fn with_settings(&self, settings: Settings, is_same_github: bool) -> Result<Self, providers::BuildError> {
        let old = &self.terms;
        let terms = if is_same_github && settings.groups == old.settings.groups {
            Terms { github: old.github.clone(), settings }
        } else {
            Terms::new(settings)?
        };
        Ok(Self { inner: Arc::clone(&self.inner), terms: Arc::new(terms) })
    }

    /// Whether strangers may make an account.
    pub fn registration(&self) -> Registration {
        self.terms.settings.registration
    }

    /// Whether GitHub is used.
    pub fn has_github(&self) -> bool {
        self.terms.github.is_some()
    }

    /// Whether GitHub left the last question without an answer; `None` where it is not used.
    pub fn github_is_failing(&self) -> Option<bool> {
        self.terms.github.as_ref().map(|github| github.client.is_failing())
    }

    /// Who sent these credentials.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] and [`Error::WrongPassword`] for credentials that are wrong; no credentials are no error.
    /// [`Error::GitHubUnavailable`] where nobody can know.
    pub async fn authenticate(&self, credentials: Credentials, presented: Presented) -> Result<Caller, Error> {
        let caller = match credentials {
            Credentials::None => Caller::Anonymous,
            Credentials::Bearer(token) => self.caller_of_token(&token, &presented).await?,
            Credentials::Basic { user, password } => {
                return self.caller_of_password(&user, password, presented).await;
            }
        };
        Ok(match caller {
            Caller::User(user) => Caller::User(User { code: presented.code, ..user }),
            other => other,
        })
    }

    /// Whose a token is: one of ours, or of GitHub's.
    async fn caller_of_token(&self, token: &Token, presented: &Presented) -> Result<Caller, Error> {
        let (hash, now) = (token.hash(), self.inner.clock.now());
        // What is remembered was found under one of ours, so that its checksum need not be looked at again.
        let holder = match self.remembered(&hash, now) {
            Some(remembered) => remembered.holder,
            None if token.is_well_formed() => Box::pin(self.look_up(token, hash, now)).await?,
            None => return Box::pin(self.caller_of_github_token(token, presented.address)).await,
        };
        let holder = holder.ok_or(Error::UnknownToken)?;
        if holder.record.has_expired(now) {
            return Err(Error::UnknownToken);
        }
        if !holder.record.allows(presented.address) {
            return Err(Error::OtherAddress);
        }
        match &holder.identity {
            Identity::Local(user) => Ok(Caller::User(user.clone())),
            Identity::Workflow(caller) => Ok(caller.clone()),
            Identity::GitHub(github, scope) => {
                let user = self.user_of_sealed(&holder.record, github).await?;
                Ok(Caller::User(User { token: Some(Arc::clone(scope)), ..user }))
            }
        }
    }

    /// A token of GitHub's own, as the older system's users have.
    async fn caller_of_github_token(&self, token: &Token, address: Option<IpAddr>) -> Result<Caller, Error> {
        if self.terms.github.is_none() || !github::is_github_token(token.reveal()) {
            return Err(Error::UnknownToken);
        }
        let user = self.user_of_github_token(&Secret::new(token.reveal()), address).await?;
        // It has no limits of its own, but it is a token.
        Ok(Caller::User(User { token: Some(Arc::default()), ..user }))
    }

    /// What is remembered of a token, that it is nobody's too, unless that is too long ago.
    fn remembered(&self, hash: &TokenHash, now: Timestamp) -> Option<Remembered> {
        self.inner.tokens.known.get(hash).filter(|remembered| {
            // A clock that was set back must not make an entry last.
            let age = now.as_millis() - remembered.at.as_millis();
            (0..REMEMBERED_MILLIS).contains(&age)
        })
    }

    async fn look_up(&self, token: &Token, hash: TokenHash, now: Timestamp) -> Result<Option<Arc<Holder>>, Error> {
        let tokens = &self.inner.tokens;
        let changes_before = self.changes();
        let key = if token.is_short_lived() { keys::workflow_token(hash.as_str()) } else { keys::token(hash.as_str()) };
        let holder = match read_json::<TokenRecord>(&self.inner.store, &key).await? {
            None => None,
            Some(record) => self.identity_of(&record, token, &hash).await?.map(|identity| Holder { record, identity }),
        };
        let holder = holder.map(Arc::new);
        tokens.known.insert(hash.clone(), Remembered { holder: holder.clone(), at: now });
        // What was read while a token was being revoked may be what was before.
        if self.changes() != changes_before {
            tokens.known.remove(&hash);
        }
        Ok(holder)
    }

    /// How many changes of tokens and accounts there were, begun and ended.
    fn changes(&self) -> u64 {
        self.inner.tokens.changes.load(Ordering::SeqCst)
    }

    async fn identity_of(
        &self,
        record: &TokenRecord,
        token: &Token,
        hash: &TokenHash,
    ) -> Result<Option<Identity>, Error> {
        if let Some(workflow) = &record.workflow {
            return Ok(Self::workflow_of(workflow).map(Identity::Workflow));
        }
        let scope = Arc::new(record.scope(hash));
        if record.github.is_some() {
            return Ok(Self::open_sealed(record, token).map(|secret| Identity::GitHub(secret, scope)));
        }
        // A token older than the account is of somebody who had the name before, and whose removal was cut short.
        let is_theirs = |account: &Account| !account.blocked && account.created <= record.created;
        let account = self.account(&record.user).await?.filter(is_theirs);
        Ok(account.map(|account| {
            let needs_code = account.second_factor_mode() == Some(Mode::AuthAndWrites);
            let source = account.source();
            let needs_code = needs_code && !scope.bypasses_second_factor;
            Identity::Local(User { source, needs_code, token: Some(scope), ..local_user(&account) })
        }))
    }

    /// Runs a change of tokens or accounts to its end, whatever becomes of the client, and forgets what was remembered
    /// before it and during it: of one token, or, where an account was changed, of all.
    async fn change<T: Send + 'static>(
        &self,
        token: Option<TokenHash>,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        self.to_the_end(async move {
            let tokens = &this.inner.tokens;
            tokens.changes.fetch_add(1, Ordering::SeqCst);
            let outcome = change.await;
            tokens.changes.fetch_add(1, Ordering::SeqCst);
            if let Some(hash) = token {
                tokens.known.remove(&hash);
            } else {
                tokens.known.clear();
                this.inner.remembered_passwords.forget();
                this.forget_github();
            }
            outcome
        })
        .await
    }

    /// Signs in by name and password, and makes the account when there is none and registration is open. Of an account of
    /// GitHub the password is a token of GitHub's. Returns a new token, which is durable when this returns.
    pub async fn sign_in(
        &self,
        name: &str,
        password: String,
        email: &str,
        presented: Presented,
    ) -> Result<Token, Error> {
        account::check_user_name(name)?;
        account::check_password(&password)?;
        let code = presented.code.as_ref().map(OneTimeCode::expose);
        if let Some(account) = self.account(name).await?.filter(|account| account.source() == Source::Local) {
            self.try_password(&account, password, presented.address).await?;
            self.require_code(&account, code, presented.address).await?;
            return self.issue_for_local(&account.name, Way::Password).await;
        }
        if self.terms.github.is_some() {
            // The older system's way to give a one-time code: GitHub's names have no dots.
            let (login, typed) = match name.rsplit_once('.') {
                Some((login, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    (login, Some(digits))
                }
                _ => (name, code),
            };
            return self.sign_in_at_github(login, password, typed, presented.address).await;
        }
        if self.terms.settings.registration == Registration::Open {
            let account = match self.register(name, password.clone(), email).await {
                // Somebody registered the same name in this moment: then this is a sign-in.
                Err(Error::NameTaken(_)) => {
                    let account = self.account(name).await?.ok_or(Error::Damaged)?;
                    self.try_password(&account, password, presented.address).await?;
                    account
                }
                other => other?,
            };
            return self.issue_for_local(&account.name, Way::Password).await;
        }
        self.refuse_unknown(name, password, presented.address).await?;
        Err(Error::WrongPassword)
    }

    async fn sign_in_at_github(
        &self,
        name: &str,
        password: String,
        code: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Token, Error> {
        let github = self.github()?;
        let now = self.inner.clock.now();
        let attempt = self.inner.throttle.begin(address, name, now)?;
        let secret = Secret::new(password);
        let outcome = if github::is_github_token(secret.expose()) {
            self.sign_in_with_github_token(name, &secret).await
        } else if github.client.is_github_com() || !self.has_github_login() {
            // Known without asking: no password leaves this machine.
            Err(Error::GitHubTakesTokens)
        } else {
            let scopes = github.scopes();
            match github.client.password_authorization(name, &secret, code, &scopes).await {
                Ok(token) => self.sign_in_with_github_token(name, &token).await,
                Err(providers::Error::OneTimeCode) => Err(Error::OneTimeCode),
                Err(providers::Error::Rejected) => Err(Error::WrongPassword),
                Err(providers::Error::NotFound) => Err(Error::GitHubTakesTokens),
                Err(error) => Err(github::unavailable(&error)),
            }
        };
        match &outcome {
            Ok(_) => attempt.succeeded(),
            Err(Error::UnknownToken | Error::WrongPassword | Error::OtherName(_) | Error::GitHubTakesTokens) => {
                attempt.failed(now);
            }
            // The first half of a sign-in with a code, or nobody's fault.
            Err(_) => {}
        }
        let outcome = match outcome {
            Err(Error::UnknownToken) => Err(Error::WrongPassword),
            other => other,
        };
        outcome.inspect_err(|error| {
            // Without a code it is the first half of a sign-in with one.
            if !matches!(error, Error::OneTimeCode) {
                self.note_not_let_in(name, Way::GitHub, error);
            }
        })
    }

    /// Checks a password and counts what came of it.
    async fn try_password(&self, account: &Account, password: String, address: Option<IpAddr>) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let attempt = self.inner.throttle.begin(address, &account.name, now)?;
        let outcome = self.check_password(account, password).await;
        match &outcome {
            Ok(()) => attempt.succeeded(),
            Err(Error::WrongPassword) => attempt.failed(now),
            Err(_) => {}
        }
        outcome.inspect_err(|error| self.note_not_let_in(&account.name, Way::Password, error))
    }

    /// Takes as long for a name that is not known as for one that is, and counts the guess.
    async fn refuse_unknown(&self, name: &str, password: String, address: Option<IpAddr>) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let attempt = self.inner.throttle.begin(address, name, now)?;
        self.inner.passwords.verify_dummy(password).await?;
        attempt.failed(now);
        self.note_not_let_in(name, Way::Password, &Error::WrongPassword);
        Ok(())
    }

    /// The packages that a user has starred, in order of name.
    pub async fn stars(&self, user: &str) -> Result<Vec<String>, Error> {
        Ok(read_json(&self.inner.store, &keys::stars(user)).await?.unwrap_or_default())
    }

    /// Remembers or forgets a star in the user's own list.
    pub async fn set_star(&self, user: &str, package: &str, starred: bool) -> Result<(), Error> {
        let package = package.to_owned();
        let change = move |names: &mut BTreeSet<String>| {
            if starred {
                names.insert(package)
            } else {
                names.remove(&package)
            };
            Ok(())
        };
        self.update_collection(&keys::stars(user), change).await
    }

    /// Changes a collection that is one object by a pure function: a conditional write, or none where nothing changed.
    async fn update_collection<C, T>(
        &self,
        key: &keys::Key,
        change: impl FnOnce(&mut C) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error>
    where
        C: Default + Clone + PartialEq + Serialize + for<'de> Deserialize<'de>,
        T: Send + 'static,
    {
        let change = move |stored: Option<Bytes>| {
            let mut collection: C = match stored {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?,
                None => C::default(),
            };
            let before = collection.clone();
            let value = change(&mut collection)?;
            let is_same = collection == before;
            Ok::<_, Error>(if is_same { Change::Keep(value) } else { Change::Write(to_json(&collection)?, value) })
        };
        Ok(self.inner.store.update(key, change).await?)
    }
}

/// A local account as decisions see it, with all that its owner may.
fn local_user(account: &Account) -> User {
    User::local(&account.name, &account.email)
}

async fn read_json<T: for<'de> Deserialize<'de>>(store: &Store, key: &keys::Key) -> Result<Option<T>, Error> {
    match store.read(key).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Damaged),
        Err(storage::Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn to_json(record: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(record).map(Bytes::from).map_err(|_| Error::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(registration: Registration) -> Settings {
        let (github, groups, issuers) = (None, GroupNeeds::default(), Vec::new());
        Settings { name: "Holdfast".to_owned(), registration, github, groups, issuers }
    }

    fn auth_at(clock: Clock, registration: Registration) -> (tempfile::TempDir, Store, Auth) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let tasks = TaskTracker::new();
        let recorder = Recorder::new(store.clone(), clock.clone(), tasks.clone());
        let auth = Auth::new(store.clone(), clock, tasks, recorder, settings(registration)).unwrap();
        (directory, store, auth)
    }

    async fn sign_in(auth: &Auth, name: &str, password: &str) -> Result<Token, Error> {
        auth.sign_in(name, password.to_owned(), "", Presented::default()).await
    }

    async fn authenticate(auth: &Auth, token: &Token) -> Result<Caller, Error> {
        auth.authenticate(Credentials::Bearer(token.clone()), Presented::default()).await
    }

    #[tokio::test]
    async fn a_token_is_its_users_until_it_is_revoked() {
        let (_directory, _, auth) = auth_at(Clock::default(), Registration::Open);
        let token = sign_in(&auth, "ann", "secret").await.unwrap();
        let caller = authenticate(&auth, &token).await.unwrap();
        assert_eq!(caller.name().as_deref(), Some("ann"));
        assert!(matches!(sign_in(&auth, "ann", "wrong").await, Err(Error::WrongPassword)));
        assert!(auth.revoke(&token, None).await.unwrap());
        assert!(matches!(authenticate(&auth, &token).await, Err(Error::UnknownToken)));
        assert!(!auth.revoke(&token, None).await.unwrap());
    }

    #[tokio::test]
    async fn a_token_is_revoked_even_if_nobody_waits_for_it() {
        let (_directory, _, auth) = auth_at(Clock::default(), Registration::Open);
        for _ in 0..20 {
            let token = sign_in(&auth, "ann", "secret").await.unwrap();
            authenticate(&auth, &token).await.unwrap();
            {
                let hash = token.hash();
                let revoking = auth.delete_token(hash.as_str());
                tokio::pin!(revoking);
                // Begun, and given up like a client that closes its connection.
                assert!(futures::poll!(&mut revoking).is_pending());
            }
            auth.inner.tasks.close();
            auth.inner.tasks.wait().await;
            auth.inner.tasks.reopen();
            assert!(matches!(authenticate(&auth, &token).await, Err(Error::UnknownToken)));
        }
    }

    #[tokio::test]
    async fn a_token_that_was_removed_by_hand_is_forgotten_in_a_minute() {
        let clock = Clock::held_at("2026-11-23T12:00:00.000Z".parse().unwrap());
        let (_directory, store, auth) = auth_at(clock.clone(), Registration::Open);
        let token = sign_in(&auth, "ann", "secret").await.unwrap();
        authenticate(&auth, &token).await.unwrap();
        store.delete(&keys::token(token.hash().as_str())).await.unwrap();
        authenticate(&auth, &token).await.unwrap();
        clock.advance(Duration::from_mins(1));
        assert!(matches!(authenticate(&auth, &token).await, Err(Error::UnknownToken)));
    }

    #[tokio::test]
    async fn strangers_cannot_register_where_that_is_closed() {
        let (_directory, _, auth) = auth_at(Clock::default(), Registration::Closed);
        // As for a name that is known: nobody learns by it who has an account.
        assert!(matches!(sign_in(&auth, "ann", "x").await, Err(Error::WrongPassword)));
        for name in ["", ".x", "a/b", "a:b", "a\nb", "a b"] {
            assert!(matches!(sign_in(&auth, name, "x").await, Err(Error::BadName)), "{name:?}");
        }
    }

    #[tokio::test]
    async fn names_that_differ_by_case_are_one_account() {
        let (_directory, _, auth) = auth_at(Clock::default(), Registration::Open);
        sign_in(&auth, "Ann", "secret").await.unwrap();
        assert!(matches!(sign_in(&auth, "ann", "other").await, Err(Error::WrongPassword)));
        let token = sign_in(&auth, "ANN", "secret").await.unwrap();
        assert_eq!(authenticate(&auth, &token).await.unwrap().name().as_deref(), Some("Ann"));
    }

    #[tokio::test]
    async fn an_invitation_makes_one_account() {
        let clock = Clock::held_at("2026-11-23T12:00:00.000Z".parse().unwrap());
        let (_directory, _, auth) = auth_at(clock.clone(), Registration::Invitation);
        assert!(matches!(sign_in(&auth, "ann", "secret").await, Err(Error::WrongPassword)));
        let accept = |code: String, name: &'static str| {
            let auth = auth.clone();
            Box::pin(async move { auth.accept_invitation(&code, name, "secret".to_owned(), "").await })
        };
        let code = auth.invite(Some("ann"), Duration::from_hours(1)).await.unwrap();
        assert!(matches!(accept(code.clone(), "eve").await, Err(Error::NoInvitation)));
        accept(code.clone(), "ann").await.unwrap();
        assert!(matches!(accept(code, "ann").await, Err(Error::NoInvitation)));
        sign_in(&auth, "ann", "secret").await.unwrap();
        let late = auth.invite(None, Duration::from_hours(1)).await.unwrap();
        clock.advance(Duration::from_hours(2));
        assert!(matches!(accept(late, "bob").await, Err(Error::NoInvitation)));
        assert!(auth.account("bob").await.unwrap().is_none());
        assert_eq!(auth.sweep().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_removed_account_takes_its_tokens_along() {
        let (_directory, store, auth) = auth_at(Clock::default(), Registration::Open);
        let token = sign_in(&auth, "ann", "secret").await.unwrap();
        authenticate(&auth, &token).await.unwrap();
        auth.set_blocked("ann", true).await.unwrap();
        assert!(matches!(authenticate(&auth, &token).await, Err(Error::UnknownToken)));
        auth.set_blocked("ann", false).await.unwrap();
        authenticate(&auth, &token).await.unwrap();
        auth.remove_account("ann").await.unwrap();
        assert!(matches!(authenticate(&auth, &token).await, Err(Error::UnknownToken)));
        assert!(matches!(store.read(&keys::token(token.hash().as_str())).await, Err(storage::Error::NotFound)));
    }

    #[tokio::test]
    async fn who_takes_the_name_of_a_removed_account_gets_none_of_its_tokens() {
        let clock = Clock::held_at("2026-11-23T12:00:00.000Z".parse().unwrap());
        let (_directory, store, auth) = auth_at(clock.clone(), Registration::Open);
        let old = sign_in(&auth, "ann", "secret").await.unwrap();
        // A removal that was cut after its first write.
        store.delete(&keys::user("ann")).await.unwrap();
        clock.advance(Duration::from_mins(1));
        let new = sign_in(&auth, "ann", "another").await.unwrap();
        authenticate(&auth, &new).await.unwrap();
        assert!(matches!(authenticate(&auth, &old).await, Err(Error::UnknownToken)));
    }

    #[tokio::test]
    async fn a_removal_that_was_cut_short_goes_on() {
        let (_directory, store, auth) = auth_at(Clock::default(), Registration::Open);
        let token = sign_in(&auth, "ann", "secret").await.unwrap();
        store.delete(&keys::user("ann")).await.unwrap();
        auth.remove_account("ann").await.unwrap();
        assert!(matches!(store.read(&keys::token(token.hash().as_str())).await, Err(storage::Error::NotFound)));
        assert!(matches!(auth.remove_account("ann").await, Err(Error::UserNotFound)));
    }

    #[tokio::test]
    async fn an_invitation_is_used_up_with_its_account_though_the_client_leaves() {
        let (_directory, _, auth) = auth_at(Clock::default(), Registration::Invitation);
        let code = auth.invite(None, Duration::from_hours(1)).await.unwrap();
        {
            let accepting = auth.accept_invitation(&code, "ann", "secret".to_owned(), "");
            tokio::pin!(accepting);
            // Given up at the first moment that there is an account.
            while auth.account("ann").await.unwrap().is_none() {
                let _ = futures::poll!(&mut accepting);
            }
        }
        auth.inner.tasks.close();
        auth.inner.tasks.wait().await;
        assert!(matches!(auth.invitation(&code).await, Err(Error::NoInvitation)));
        sign_in(&auth, "ann", "secret").await.unwrap();
    }

    #[tokio::test]
    async fn a_confirmation_is_written_for_the_browser_that_signed_in_alone() {
        let (_directory, store, auth) = auth_at(Clock::default(), Registration::Open);
        sign_in(&auth, "ann", "secret").await.unwrap();
        let asking = logins::Asking::new(None, None, "npm/11.4.1");
        let started = auth.begin_confirmation("ann", "subject", "a change".to_owned(), asking).await.unwrap();
        let written = async || {
            let mut keys = store.list_folder(&keys::short_lived());
            let mut count = 0;
            while let Some(key) = keys.recv().await {
                key.unwrap();
                count += 1;
            }
            count
        };
        let signs_in = async |name: &str| {
            auth.login_with_password(&started.id, "a cookie", name, "secret".to_owned(), None, None).await
        };
        let confirms =
            async |cookie: &str| auth.decide(&started.id, cookie, &Auth::csrf(cookie, &started.id), true).await;
        assert!(matches!(confirms("a cookie").await, Err(Error::ForeignBrowser)));
        // A slip of the hand makes no account, though registration is open.
        assert!(matches!(signs_in("amn").await, Err(Error::WrongPassword)));
        assert!(auth.account("amn").await.unwrap().is_none());
        signs_in("ann").await.unwrap();
        assert!(matches!(confirms("another").await, Err(Error::ForeignBrowser)));
        let before = written().await;
        confirms("a cookie").await.unwrap();
        assert_eq!((before, written().await), (1, 2));
    }
}
