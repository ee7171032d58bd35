//! Who is calling, and may they.
//!
//! Accounts and tokens are objects in the store. A token is looked up by its hash and remembered for a while, so that
//! a known token costs no storage call; no password is ever hashed for a request that carries a token.

mod caller;
pub(crate) mod htpasswd;
mod password;
mod policy;
pub mod random;
pub(crate) mod seal;
pub(crate) mod throttle;
mod token;
pub(crate) mod totp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

pub use caller::{Caller, User};
pub use password::{PasswordError, Passwords};
pub use policy::{Action, Decision, Policy};
pub use token::{TOKEN_PREFIX, Token, TokenHash, TokenRecord};

use crate::clock::Clock;
use crate::keys;
use crate::npm::Timestamp;
use crate::storage::{self, Change, Store, UpdateError};

/// npm's own limit for user names.
const MAX_USER_NAME_BYTES: usize = 214;
/// Long enough for every pass phrase, short enough that hashing it costs nothing extra.
const MAX_PASSWORD_BYTES: usize = 1024;
/// Known and unknown tokens remembered; about 200 bytes each.
const REMEMBERED_TOKENS: usize = 10_000;
/// How long. A token or an account that was removed from the store by hand is of no use after this.
const REMEMBERED_MILLIS: i64 = 60_000;

/// A local account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The account's name, as it is shown.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// PHC text of the password's hash.
    password: String,
    /// RFC 3339.
    pub created: String,
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

/// Why somebody could not be signed in or recognised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token is unknown, revoked or not one of ours.
    #[error("the token is not known here")]
    UnknownToken,
    /// The name or the password is wrong.
    #[error("the user name or the password is wrong")]
    WrongPassword,
    /// There is no such account and new ones are not taken.
    #[error("registration is closed")]
    RegistrationClosed,
    /// The name cannot be an account's name.
    #[error("the user name is not allowed")]
    BadName,
    /// Empty or overlong.
    #[error("the password is not allowed")]
    BadPassword,
    /// Too many at once.
    #[error("too many sign-ins at once")]
    Busy,
    /// The store failed.
    #[error("accounts could not be read or written")]
    Store(#[from] storage::Error),
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

/// Accounts and tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Auth {
    store: Store,
    clock: Clock,
    passwords: Passwords,
    registration_open: bool,
    tasks: TaskTracker,
    tokens: Arc<RememberedTokens>,
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
    user: Option<Arc<User>>,
    at: Timestamp,
}

impl Auth {
    /// Over a store; `registration_open` says whether signing in with an unknown name makes an account.
    pub fn new(store: Store, clock: Clock, tasks: TaskTracker, registration_open: bool) -> Self {
        let tokens = RememberedTokens { known: Cache::new(REMEMBERED_TOKENS), changes: AtomicU64::new(0) };
        Self { store, clock, passwords: Passwords::default(), registration_open, tasks, tokens: Arc::new(tokens) }
    }

    /// Who sent these credentials.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] and [`Error::WrongPassword`] for credentials that are wrong; no credentials are no error.
    pub async fn authenticate(&self, credentials: Credentials) -> Result<Caller, Error> {
        match credentials {
            Credentials::None => Ok(Caller::Anonymous),
            Credentials::Bearer(token) => self.user_of_token(&token).await,
            Credentials::Basic { user, password } => {
                let account = self.account(&user).await?.ok_or(Error::WrongPassword)?;
                self.check_password(&account, password).await?;
                Ok(Caller::User(User { name: account.name, email: account.email }))
            }
        }
    }

    async fn user_of_token(&self, token: &Token) -> Result<Caller, Error> {
        if !token.is_well_formed() {
            return Err(Error::UnknownToken);
        }
        let hash = token.hash();
        let now = self.clock.now();
        let remembered = self.tokens.known.get(&hash).filter(|remembered| {
            // A clock that was set back must not make an entry last.
            let age = now.as_millis() - remembered.at.as_millis();
            (0..REMEMBERED_MILLIS).contains(&age)
        });
        let user = match remembered {
            Some(remembered) => remembered.user,
            None => self.look_up(hash, now).await?,
        };
        user.map(|user| Caller::User((*user).clone())).ok_or(Error::UnknownToken)
    }

    async fn look_up(&self, hash: TokenHash, now: Timestamp) -> Result<Option<Arc<User>>, Error> {
        let changes_before = self.tokens.changes.load(Ordering::SeqCst);
        let user = match read_json::<TokenRecord>(&self.store, &keys::token(hash.as_str())).await? {
            None => None,
            Some(record) => {
                let account = self.account(&record.user).await?;
                account.map(|account| Arc::new(User { name: account.name, email: account.email }))
            }
        };
        self.tokens.known.insert(hash.clone(), Remembered { user: user.clone(), at: now });
        // What was read while a token was being revoked may be what was before.
        if self.tokens.changes.load(Ordering::SeqCst) != changes_before {
            self.tokens.known.remove(&hash);
        }
        Ok(user)
    }

    /// Runs a change of tokens or accounts to its end, whatever becomes of the client, and forgets what was remembered
    /// before it and during it: of one token, or, where an account was changed, of all.
    async fn change<T: Send + 'static>(
        &self,
        token: Option<TokenHash>,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let tokens = Arc::clone(&self.tokens);
        let task = self.tasks.spawn(async move {
            tokens.changes.fetch_add(1, Ordering::SeqCst);
            let outcome = change.await;
            tokens.changes.fetch_add(1, Ordering::SeqCst);
            match token {
                Some(hash) => {
                    tokens.known.remove(&hash);
                }
                None => tokens.known.clear(),
            }
            outcome
        });
        task.await.unwrap_or_else(|error| Err(storage::Error::from(std::io::Error::other(error)).into()))
    }

    /// Signs in by name and password, and makes the account when there is none and registration is open. Returns a
    /// new token, which is durable when this returns.
    pub async fn sign_in(&self, name: &str, password: String, email: &str) -> Result<Token, Error> {
        check_user_name(name)?;
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Err(Error::BadPassword);
        }
        let account = match self.account(name).await? {
            Some(account) => {
                self.check_password(&account, password).await?;
                account
            }
            None if self.registration_open => self.register(name, password, email).await?,
            None => return Err(Error::RegistrationClosed),
        };
        self.issue_token(&account.name).await
    }

    async fn register(&self, name: &str, password: String, email: &str) -> Result<Account, Error> {
        let hash = self.passwords.hash(password.clone()).await?;
        let created = self.clock.now().to_string();
        let account = Account { name: name.to_owned(), email: email.to_owned(), password: hash, created };
        match self.store.create(&keys::user(name), to_json(&account)?).await {
            Ok(()) => Ok(account),
            // Somebody registered the same name in this moment: then this is a sign-in.
            Err(storage::Error::Exists) => {
                let account = self.account(name).await?.ok_or(Error::Damaged)?;
                self.check_password(&account, password).await?;
                Ok(account)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn check_password(&self, account: &Account, password: String) -> Result<(), Error> {
        if self.passwords.verify(password, account.password.clone()).await? {
            Ok(())
        } else {
            Err(Error::WrongPassword)
        }
    }

    async fn issue_token(&self, user: &str) -> Result<Token, Error> {
        let token = Token::generate();
        let record = TokenRecord { user: user.to_owned(), created: self.clock.now().to_string() };
        self.store.create(&keys::token(token.hash().as_str()), to_json(&record)?).await?;
        Ok(token)
    }

    /// Makes a token useless. True when it was one. At once on this process; another process that shares the store
    /// may remember it for a minute.
    pub async fn revoke(&self, token: &Token) -> Result<bool, Error> {
        if !token.is_well_formed() {
            return Ok(false);
        }
        let hash = token.hash();
        let (store, key) = (self.store.clone(), keys::token(hash.as_str()));
        self.change(Some(hash), async move {
            match store.delete(&key).await {
                Ok(()) => Ok(true),
                Err(storage::Error::NotFound) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// A local account by its name.
    pub async fn account(&self, name: &str) -> Result<Option<Account>, Error> {
        if check_user_name(name).is_err() {
            return Ok(None);
        }
        read_json(&self.store, &keys::user(name)).await
    }

    /// The packages that a user has starred, in order of name.
    pub async fn stars(&self, user: &str) -> Result<Vec<String>, Error> {
        Ok(read_json(&self.store, &keys::stars(user)).await?.unwrap_or_default())
    }

    /// Remembers or forgets a star in the user's own list.
    pub async fn set_star(&self, user: &str, package: &str, starred: bool) -> Result<(), Error> {
        let package = package.to_owned();
        let change = move |stored: Option<Bytes>| {
            let mut names: std::collections::BTreeSet<String> = match stored {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?,
                None => std::collections::BTreeSet::new(),
            };
            let changed = if starred { names.insert(package) } else { names.remove(&package) };
            let bytes = serde_json::to_vec(&names).unwrap_or_default();
            Ok(if changed { Change::Write(bytes.into(), ()) } else { Change::Keep(()) })
        };
        self.store.update(&keys::stars(user), change).await.map_err(|error| match error {
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => Error::Store(error),
        })
    }

    /// Sets an account's mail address.
    pub async fn set_email(&self, user: &str, email: &str) -> Result<(), Error> {
        let email = email.to_owned();
        let change = move |stored: Option<Bytes>| {
            let mut account: Account =
                stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(Error::Damaged)?;
            account.email = email;
            Ok(Change::Write(to_json(&account)?, ()))
        };
        let (store, key) = (self.store.clone(), keys::user(user));
        self.change(None, async move {
            store.update(&key, change).await.map_err(|error| match error {
                UpdateError::Refused(error) => error,
                UpdateError::Store(error) => Error::Store(error),
            })
        })
        .await
    }
}

/// npm's rules: nothing that cannot stand in a URL, nothing that starts with a dot, no colon (Basic authentication).
fn check_user_name(name: &str) -> Result<(), Error> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | '\\' | '%' | '?' | '#');
    let is_bad =
        name.is_empty() || name.len() > MAX_USER_NAME_BYTES || name.starts_with('.') || name.contains(forbidden);
    if is_bad { Err(Error::BadName) } else { Ok(()) }
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

    fn auth(registration_open: bool) -> (tempfile::TempDir, Auth) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, Auth::new(store, Clock::default(), TaskTracker::new(), registration_open))
    }

    #[tokio::test]
    async fn a_token_is_its_users_until_it_is_revoked() {
        let (_directory, auth) = auth(true);
        let token = auth.sign_in("ann", "secret".to_owned(), "ann@example.com").await.unwrap();
        let caller = auth.authenticate(Credentials::Bearer(token.clone())).await.unwrap();
        assert_eq!(caller.id(), "ann");
        assert!(matches!(auth.sign_in("ann", "wrong".to_owned(), "").await, Err(Error::WrongPassword)));
        assert!(auth.revoke(&token).await.unwrap());
        let refused = auth.authenticate(Credentials::Bearer(token.clone())).await;
        assert!(matches!(refused, Err(Error::UnknownToken)));
        assert!(!auth.revoke(&token).await.unwrap());
    }

    #[tokio::test]
    async fn a_token_is_revoked_even_if_nobody_waits_for_it() {
        let (_directory, auth) = auth(true);
        for _ in 0..20 {
            let token = auth.sign_in("ann", "secret".to_owned(), "").await.unwrap();
            auth.authenticate(Credentials::Bearer(token.clone())).await.unwrap();
            {
                let revoking = auth.revoke(&token);
                tokio::pin!(revoking);
                // Begun, and given up like a client that closes its connection.
                assert!(futures::poll!(&mut revoking).is_pending());
            }
            auth.tasks.close();
            auth.tasks.wait().await;
            auth.tasks.reopen();
            let refused = auth.authenticate(Credentials::Bearer(token)).await;
            assert!(matches!(refused, Err(Error::UnknownToken)));
        }
    }

    #[tokio::test]
    async fn a_token_that_was_removed_by_hand_is_forgotten_in_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::held_at("2026-11-23T12:00:00.000Z".parse().unwrap());
        let store = Store::open(directory.path()).unwrap();
        let auth = Auth::new(store.clone(), clock.clone(), TaskTracker::new(), true);
        let token = auth.sign_in("ann", "secret".to_owned(), "").await.unwrap();
        auth.authenticate(Credentials::Bearer(token.clone())).await.unwrap();
        store.delete(&keys::token(token.hash().as_str())).await.unwrap();
        auth.authenticate(Credentials::Bearer(token.clone())).await.unwrap();
        clock.advance(std::time::Duration::from_mins(1));
        assert!(matches!(auth.authenticate(Credentials::Bearer(token)).await, Err(Error::UnknownToken)));
    }

    #[tokio::test]
    async fn strangers_cannot_register_where_that_is_closed() {
        let (_directory, auth) = auth(false);
        assert!(matches!(auth.sign_in("ann", "x".to_owned(), "").await, Err(Error::RegistrationClosed)));
        for name in ["", ".x", "a/b", "a:b", "a\nb", "a b"] {
            assert!(matches!(auth.sign_in(name, "x".to_owned(), "").await, Err(Error::BadName)), "{name:?}");
        }
    }
}
