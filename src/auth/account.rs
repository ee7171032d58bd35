//! Accounts: local ones with a password, and the marks that an account of GitHub leaves here.
//!
//! One object an account, changed by conditional writes. Names that differ by case alone are one account. The name of
//! an account is taken by whoever came first: a local account and one of GitHub cannot have the same, and of two GitHub
//! accounts that had the same name one after the other, the second is somebody else.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::caller::{Source, User};
use super::second_factor::SecondFactor;
use super::tokens::{ListedToken, deleted};
use super::{Auth, Error, Passwords, local_user, read_json, to_json};
use crate::events::{Event, Kind, Who};
use crate::keys;
use crate::npm::Timestamp;
use crate::storage::{self, Change};

/// npm's own limit for user names.
const MAX_USER_NAME_BYTES: usize = 214;
/// Long enough for every pass phrase, short enough that hashing it costs nothing extra.
const MAX_PASSWORD_BYTES: usize = 1024;
/// Longer than any address or name in use.
const MAX_PROFILE_BYTES: usize = 1024;

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The account's name, as it is shown.
    pub name: String,
    /// May be empty.
    #[serde(default)]
    pub email: String,
    /// A person's name; may be empty.
    #[serde(default)]
    pub fullname: String,
    /// The password's hash: a PHC text, or what an htpasswd file had. None for an account of GitHub.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) password: String,
    /// The number of the account at GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github_id: Option<u64>,
    /// It may not be used, by an operator's word.
    #[serde(default)]
    pub blocked: bool,
    /// One-time codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<SecondFactor>,
    /// RFC 3339.
    pub created: String,
}

impl Account {
    /// A local account.
    pub(super) fn local(name: &str, email: &str, password_hash: String, created: String) -> Self {
        Self {
            name: name.to_owned(),
            email: email.to_owned(),
            fullname: String::new(),
            password: password_hash,
            github_id: None,
            blocked: false,
            second_factor: None,
            created,
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> Source {
        if self.github_id.is_some() { Source::GitHub } else { Source::Local }
    }
}

/// A change of a profile; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// The mail address.
    pub email: Option<String>,
    /// A person's name.
    pub fullname: Option<String>,
}

/// What an account may do when it does not ask itself: there is no token to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As far as anybody knows, what decisions make of this.
    Known(User),
    /// It may not be used here.
    Barred,
    /// There is no such account any more.
    Gone,
    /// It depends on groups at GitHub, which has said nothing of them lately.
    Unknown,
}

impl Auth {
    /// How an account stands that was there at an instant: one of the same name that was made later is somebody else.
    pub async fn standing(&self, name: &str, at: Timestamp) -> Result<Standing, Error> {
        let account = self.account(name).await?;
        // An instant that cannot be read is none that is later.
        let is_later = |account: &Account| account.created.parse::<Timestamp>().is_ok_and(|created| created > at);
        let Some(account) = account.filter(|account| !is_later(account)) else { return Ok(Standing::Gone) };
        match account.github_id {
            _ if account.blocked => Ok(Standing::Barred),
            Some(id) => self.standing_at_github(&account, id).await,
            None => Ok(Standing::Known(local_user(&account))),
        }
    }

    /// An account by its name, in any case.
    pub async fn account(&self, name: &str) -> Result<Option<Account>, Error> {
        if check_user_name(name).is_err() {
            return Ok(None);
        }
        read_json(&self.inner.store, &keys::user(name)).await
    }

    /// Makes a local account.
    ///
    /// # Errors
    /// [`Error::NameTaken`] where there is one of that name; [`Error::BadName`], [`Error::BadPassword`].
    pub async fn create_account(&self, name: &str, password: String, email: &str) -> Result<Account, Error> {
        check_user_name(name)?;
        check_password(&password)?;
        check_profile(email)?;
        let hash = self.inner.passwords.hash(password).await?;
        self.create_with_hash(name, hash, email).await
    }

    /// The same for somebody who asks for it by signing in. Written down, whatever becomes of the client.
    pub(super) async fn register(&self, name: &str, password: String, email: &str) -> Result<Account, Error> {
        let (this, name, email) = (self.clone(), name.to_owned(), email.to_owned());
        self.to_the_end(async move {
            let account = this.create_account(&name, password, &email).await?;
            this.write_down(this.event(Kind::UserCreate, Who::user(&account.name)).with("user", &account.name)).await?;
            Ok(account)
        })
        .await
    }

    pub(super) async fn create_with_hash(&self, name: &str, hash: String, email: &str) -> Result<Account, Error> {
        check_user_name(name)?;
        let account = Account::local(name, email, hash, self.inner.clock.now().to_string());
        match self.inner.store.create(&keys::user(name), to_json(&account)?).await {
            Ok(()) => Ok(account),
            Err(storage::Error::Exists) => Err(Error::NameTaken(name.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// The account's record of somebody whom GitHub knows, made when it is not there. Who was blocked under an earlier name is
    /// blocked under this one.
    pub(super) async fn github_account(&self, login: &str, id: u64, email: &str) -> Result<Account, Error> {
        let known = if let Some(account) = self.account(login).await? {
            account
        } else {
            let created = self.inner.clock.now().to_string();
            let blocked = self.accounts_at_github(id).await?.iter().any(|account| account.blocked);
            let account =
                Account { github_id: Some(id), blocked, ..Account::local(login, email, String::new(), created) };
            match self.inner.store.create(&keys::user(login), to_json(&account)?).await {
                Ok(()) => {
                    let event = self.event(Kind::UserCreate, Who::user(login)).with("user", login);
                    self.write_down(event.with("source", Source::GitHub)).await?;
                    account
                }
                Err(storage::Error::Exists) => self.account(login).await?.ok_or(Error::Damaged)?,
                Err(error) => return Err(error.into()),
            }
        };
        if known.github_id == Some(id) { Ok(known) } else { Err(Error::NameTaken(login.to_owned())) }
    }

    /// All records of one person at GitHub, who may have had other names. Reads every account: for what is rare.
    async fn accounts_at_github(&self, id: u64) -> Result<Vec<Account>, Error> {
        let mut keys = self.inner.store.list_folder(&keys::users());
        let mut found = Vec::new();
        while let Some(key) = keys.recv().await {
            match read_json::<Account>(&self.inner.store, &key?).await {
                Ok(account) => found.extend(account.filter(|account| account.github_id == Some(id))),
                // Somebody's damaged account is no reason to keep others out.
                Err(Error::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Changes an account by a pure function, and forgets what was remembered of it.
    pub(super) async fn change_account<T: Send + 'static>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Account) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let (this, name) = (self.clone(), name.to_owned());
        self.change(None, async move { this.update_account(&name, change).await }).await
    }

    /// The same for a change that is written down as this event.
    pub(super) async fn change_account_as<T: Send + 'static>(
        &self,
        event: Event,
        name: &str,
        change: impl FnOnce(&mut Account) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let (this, name) = (self.clone(), name.to_owned());
        self.change(None, async move {
            let value = this.update_account(&name, change).await?;
            this.write_down(event).await?;
            Ok(value)
        })
        .await
    }

    /// The event of a change of the caller's own account.
    pub(super) fn changed_event(&self, user: &User, what: &str) -> Event {
        self.event(Kind::UserChange, user.who()).with("user", &user.name).with("what", what)
    }

    /// The same for a change that nothing remembered depends on, such as the use of a code.
    pub(super) async fn update_account<T: Send + 'static>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Account) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let change = move |stored: Option<Bytes>| {
            let mut account: Account = match stored {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?,
                None => return Err(Error::UserNotFound),
            };
            let before = account.clone();
            let value = change(&mut account)?;
            let is_same = account == before;
            Ok(if is_same { Change::Keep(value) } else { Change::Write(to_json(&account)?, value) })
        };
        Ok(self.inner.store.update(&keys::user(name), change).await?)
    }

    /// Sets the caller's own mail address and name.
    pub async fn change_profile(&self, user: &User, wanted: ProfileChange) -> Result<Account, Error> {
        if wanted == ProfileChange::default() {
            return self.account(&user.name).await?.ok_or(Error::UserNotFound);
        }
        for text in [&wanted.email, &wanted.fullname].into_iter().flatten() {
            check_profile(text)?;
        }
        self.change_account_as(self.changed_event(user, "profile"), &user.name, move |account| {
            if let Some(email) = wanted.email {
                account.email = email;
            }
            if let Some(fullname) = wanted.fullname {
                account.fullname = fullname;
            }
            Ok(account.clone())
        })
        .await
    }

    /// Sets another password, without asking for the old one: an operator's word.
    pub async fn set_password(&self, user: &str, password: String) -> Result<(), Error> {
        self.change_account(user, self.new_password(password).await?).await
    }

    /// The change that sets another password.
    pub(super) async fn new_password(
        &self,
        password: String,
    ) -> Result<impl FnOnce(&mut Account) -> Result<(), Error> + Clone + Send + use<>, Error> {
        check_password(&password)?;
        let hash = self.inner.passwords.hash(password).await?;
        Ok(move |account: &mut Account| {
            if account.source() == Source::GitHub {
                return Err(Error::NoPasswordHere);
            }
            account.password = hash;
            Ok(())
        })
    }

    /// Blocks an account, so that none of its tokens is of use any more, or lets it in again. Of somebody at GitHub this holds
    /// for every name that they had.
    pub async fn set_blocked(&self, user: &str, blocked: bool) -> Result<(), Error> {
        let account = self.account(user).await?.ok_or(Error::UserNotFound)?;
        let accounts = match account.github_id {
            Some(id) => self.accounts_at_github(id).await?,
            None => vec![account],
        };
        for account in accounts {
            self.change_account(&account.name, move |account| {
                account.blocked = blocked;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Removes an account and all its tokens. What it published stays. Asked again after it was cut short, it goes on.
    ///
    /// # Errors
    /// [`Error::UserNotFound`] where there is neither an account nor anything left of one.
    pub async fn remove_account(&self, user: &str) -> Result<(), Error> {
        // The account first: from then on none of the tokens is of use, whatever becomes of the rest.
        let (store, key) = (self.inner.store.clone(), keys::user(user));
        let was_there = self.change(None, async move { deleted(store.delete(&key).await) }).await?;
        let tokens: Option<Vec<ListedToken>> = read_json(&self.inner.store, &keys::token_list(user)).await?;
        if !was_there && tokens.is_none() {
            return Err(Error::UserNotFound);
        }
        for token in tokens.unwrap_or_default() {
            self.delete_token(&token.hash).await?;
        }
        deleted(self.inner.store.delete(&keys::token_list(user)).await).map(|_| ())
    }

    /// All accounts, in order of name. Reads each: for an operator's eyes.
    pub async fn accounts(&self) -> Result<Vec<Account>, Error> {
        let mut keys = self.inner.store.list_folder(&keys::users());
        let mut accounts = Vec::new();
        while let Some(key) = keys.recv().await {
            // One that is removed meanwhile is none.
            accounts.extend(read_json::<Account>(&self.inner.store, &key?).await?);
        }
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(accounts)
    }

    /// Checks a local account's password, and brings an old form of its hash to today's.
    pub(super) async fn check_password(&self, account: &Account, password: String) -> Result<(), Error> {
        let stored = account.password.clone();
        if account.source() == Source::GitHub || account.blocked {
            self.inner.passwords.verify_dummy(password).await?;
            return Err(Error::WrongPassword);
        }
        if !self.inner.passwords.verify(password.clone(), stored.clone()).await? {
            return Err(Error::WrongPassword);
        }
        if Passwords::needs_rehash(&stored) {
            let hash = self.inner.passwords.hash(password).await?;
            let replace = move |account: &mut Account| {
                if account.password == stored {
                    account.password = hash;
                }
                Ok(())
            };
            if let Err(error) = self.change_account(&account.name, replace).await {
                tracing::warn!(%error, "an old password hash could not be replaced");
            }
        }
        Ok(())
    }
}

/// npm's rules: nothing that cannot stand in a URL, nothing that starts with a dot, no colon (Basic authentication).
pub(super) fn check_user_name(name: &str) -> Result<(), Error> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | '\\' | '%' | '?' | '#');
    let is_bad =
        name.is_empty() || name.len() > MAX_USER_NAME_BYTES || name.starts_with('.') || name.contains(forbidden);
    if is_bad { Err(Error::BadName) } else { Ok(()) }
}

pub(super) fn check_password(password: &str) -> Result<(), Error> {
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES { Err(Error::BadPassword) } else { Ok(()) }
}

fn check_profile(text: &str) -> Result<(), Error> {
    let is_bad = text.len() > MAX_PROFILE_BYTES || text.contains(char::is_control);
    if is_bad { Err(Error::BadProfile) } else { Ok(()) }
}
