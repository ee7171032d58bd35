//! One-time codes: for accounts with a password by an app (TOTP), and for changes that a person has to confirm.
//!
//! The app's secret has to be readable to check a code, so it lies in the account's record as it is. A code works once:
//! it is used up by a conditional write before anything is done for it.

use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::caller::{OneTimeCode, Source, User};
use super::recorded::Way;
use super::{Auth, Error, totp};
use crate::keys;
use crate::npm::Timestamp;
use crate::npm::integrity::sha256_hex;
use crate::storage::Change;

/// What one-time codes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Signing in and changes of the account.
    AuthOnly,
    /// Changes of packages too.
    AuthAndWrites,
}

/// An account's one-time codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// What they are asked for.
    pub mode: Mode,
    /// The app has not shown its first code yet, so none is asked for.
    pub pending: bool,
    /// The app's secret in base32.
    pub(super) secret: String,
    /// The step of the last code that was used.
    #[serde(default)]
    pub(super) last_step: Option<u64>,
    /// SHA-256 of the recovery codes that are left.
    #[serde(default)]
    pub(super) recovery: Vec<String>,
}

/// What came of asking for one-time codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolment {
    /// For the app: an `otpauth:` address.
    Scan(String),
    /// They were on already; the mode was changed.
    Changed(Mode),
}

/// A code that confirms one change, as it is stored. Made when a person confirms in the browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmation {
    /// RFC 3339.
    pub(super) expires: String,
    /// What it confirms: a package's name, or the account's own name.
    pub(super) subject: String,
    pub(super) used: bool,
}

/// Where the code of a confirmation lies.
pub(super) fn confirmation_key(user: &str, code: &str) -> keys::Key {
    let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    keys::one_time_code(&sha256_hex(format!("{}\n{}", user.to_lowercase(), plain.to_lowercase()).as_bytes()))
}

impl Account {
    /// The mode of the account's one-time codes, where they are on.
    pub fn second_factor_mode(&self) -> Option<Mode> {
        self.second_factor.as_ref().filter(|factor| !factor.pending).map(|factor| factor.mode)
    }
}

/// Uses a code of the app or a recovery code, if it is right. Pure.
fn use_up(factor: &mut SecondFactor, code: &str, now: Timestamp) -> bool {
    let Some(secret) = totp::TotpSecret::from_base32(&factor.secret) else { return false };
    if let Some(step) = totp::verify(&secret, code, now, factor.last_step) {
        factor.last_step = Some(step);
        return true;
    }
    match totp::find_recovery_code(code, &factor.recovery) {
        Some(at) => {
            factor.recovery.remove(at);
            true
        }
        None => false,
    }
}

impl Auth {
    /// Asks for a code where the account has them on. Uses it up.
    ///
    /// # Errors
    /// [`Error::OneTimeCode`] without one and with a wrong one; [`Error::Locked`] after too many.
    pub(super) async fn require_code(
        &self,
        account: &Account,
        code: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        if account.second_factor_mode().is_none() {
            return Ok(());
        }
        let code = code.filter(|code| !code.is_empty()).ok_or(Error::OneTimeCode)?.to_owned();
        let now = self.inner.clock.now();
        // Counted apart from passwords: a thief of a token must not lock the account's owner out.
        let attempt = self.inner.throttle.begin(address, &format!("code {}", account.name), now)?;
        let is_right = self
            .update_account(&account.name, move |account| {
                Ok(account.second_factor.as_mut().is_some_and(|factor| use_up(factor, &code, now)))
            })
            .await?;
        if is_right {
            attempt.succeeded();
            Ok(())
        } else {
            attempt.failed(now);
            self.note_not_let_in(&account.name, Way::Password, &Error::OneTimeCode);
            Err(Error::OneTimeCode)
        }
    }

    /// Whether a person has confirmed a change of `subject` by the code that came with the request: a code of the app, or
    /// one that a confirmation in the browser gave. Uses it up.
    pub async fn is_confirmed(&self, user: &User, subject: &str) -> Result<bool, Error> {
        let Some(code) = user.code.as_ref().map(|code| code.expose().to_owned()).filter(|code| !code.is_empty()) else {
            return Ok(false);
        };
        if self.take_confirmation(&user.name, &code, subject).await? {
            return Ok(true);
        }
        let Some(account) = self.account(&user.name).await? else { return Ok(false) };
        if account.second_factor_mode().is_none() {
            return Ok(false);
        }
        match self.require_code(&account, Some(&code), None).await {
            Ok(()) => Ok(true),
            Err(Error::OneTimeCode) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn take_confirmation(&self, user: &str, code: &str, subject: &str) -> Result<bool, Error> {
        let (now, subject) = (self.inner.clock.now(), subject.to_owned());
        let take = move |stored: Option<Bytes>| {
            let found = stored.and_then(|bytes| serde_json::from_slice::<Confirmation>(&bytes).ok());
            let good = found.filter(|found| {
                let lasts = found.expires.parse::<Timestamp>().is_ok_and(|at| at.as_millis() > now.as_millis());
                !found.used && lasts && found.subject == subject
            });
            let Some(found) = good else { return Ok::<_, Error>(Change::Keep(false)) };
            Ok(Change::Write(super::to_json(&Confirmation { used: true, ..found })?, true))
        };
        Ok(self.inner.store.update(&confirmation_key(user, code), take).await?)
    }

    /// Asks for one-time codes, or for another mode of them. The password is asked for; a code too, where they are on.
    pub async fn begin_second_factor(
        &self,
        user: &User,
        password: String,
        mode: Mode,
        address: Option<IpAddr>,
    ) -> Result<Enrolment, Error> {
        let account = self.own_account(user, password, address).await?;
        let issuer = self.terms.settings.name.clone();
        let name = account.name.clone();
        let event = self.changed_event(user, "second-factor").with("mode", mode);
        self.change_account_as(event, &account.name, move |account| {
            if let Some(factor) = account.second_factor.as_mut().filter(|factor| !factor.pending) {
                factor.mode = mode;
                return Ok(Enrolment::Changed(mode));
            }
            let secret = totp::TotpSecret::generate();
            let url = totp::otpauth_url(&secret, &issuer, &name);
            account.second_factor = Some(SecondFactor {
                mode,
                pending: true,
                secret: secret.to_base32().expose().to_owned(),
                last_step: None,
                recovery: Vec::new(),
            });
            Ok(Enrolment::Scan(url.expose().to_owned()))
        })
        .await
    }

    /// Turns one-time codes on, with the first code of the app. Returns the recovery codes: shown once.
    pub async fn finish_second_factor(&self, user: &User, code: String) -> Result<Vec<String>, Error> {
        let now = self.inner.clock.now();
        let attempt = self.inner.throttle.begin(None, &format!("code {}", user.name), now)?;
        let event = self.changed_event(user, "second-factor").with("on", true);
        let outcome = self
            .change_account_as(event, &user.name, move |account| {
                let Some(factor) = account.second_factor.as_mut().filter(|factor| factor.pending) else {
                    return Err(Error::NothingPending);
                };
                let codes = totp::generate_recovery_codes();
                if !use_up(factor, &code, now) {
                    return Err(Error::WrongCode);
                }
                factor.recovery = codes.iter().filter_map(|code| totp::hash_recovery_code(code)).collect();
                factor.pending = false;
                Ok(codes)
            })
            .await;
        match &outcome {
            Ok(_) => attempt.succeeded(),
            Err(Error::WrongCode) => attempt.failed(now),
            Err(_) => {}
        }
        outcome
    }

    /// Turns one-time codes off. The password is asked for, and a code where they are on.
    pub async fn disable_second_factor(
        &self,
        user: &User,
        password: String,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        let account = self.own_account(user, password, address).await?;
        let event = self.changed_event(user, "second-factor").with("on", false);
        self.change_account_as(event, &account.name, |account| {
            account.second_factor = None;
            Ok(())
        })
        .await
    }

    /// Changes the caller's own password. A code is asked for where they are on.
    pub async fn change_password(
        &self,
        user: &User,
        old: String,
        new: String,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        let account = self.own_account(user, old, address).await?;
        let change = self.new_password(new).await?;
        self.change_account_as(self.changed_event(user, "password"), &account.name, change).await
    }

    /// Turns one-time codes off by an operator's word, for somebody who lost app and recovery codes.
    pub async fn reset_second_factor(&self, user: &str) -> Result<(), Error> {
        self.change_account(user, |account| {
            account.second_factor = None;
            Ok(())
        })
        .await
    }

    /// Asks for the caller's own password, and a code where they are on.
    pub async fn prove_password(&self, user: &User, password: String, address: Option<IpAddr>) -> Result<(), Error> {
        self.own_account(user, password, address).await.map(|_| ())
    }

    /// The caller's account, once password and code are right.
    async fn own_account(&self, user: &User, password: String, address: Option<IpAddr>) -> Result<Account, Error> {
        if user.source == Source::GitHub {
            return Err(Error::NoPasswordHere);
        }
        let account = self.account(&user.name).await?.ok_or(Error::UserNotFound)?;
        self.try_password(&account, password, address).await?;
        self.require_code(&account, user.code.as_ref().map(OneTimeCode::expose), address).await?;
        Ok(account)
    }
}
