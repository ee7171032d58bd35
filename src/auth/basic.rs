//! Name and password with each request (`_auth` in an `.npmrc`, yarn classic): checked once, then remembered for a minute.
//!
//! Without that each request of an install would hash a password, two at a time, and the brake on guessing would take the
//! dozens that a client sends at once for guesses. What is remembered is a hash with a key of this process; neither leaves
//! its memory.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::token::TokenHash;
use super::{Auth, Caller, Error, OneTimeCode, Presented, REMEMBERED_MILLIS, User, local_user};
use crate::npm::Timestamp;
use crate::random;
use crate::storage::KeyedLocks;

/// Pairs of name and password remembered; a few hundred bytes each.
const REMEMBERED: usize = 1_000;

/// Names and passwords that were right lately.
pub(super) struct RememberedPasswords {
    key: String,
    known: Cache<TokenHash, (Arc<User>, Timestamp)>,
    /// One check at a time of one pair.
    checking: KeyedLocks<TokenHash>,
}

impl RememberedPasswords {
    pub(super) fn new() -> Self {
        Self { key: random::secret(), known: Cache::new(REMEMBERED), checking: KeyedLocks::default() }
    }

    pub(super) fn forget(&self) {
        self.known.clear();
    }

    fn hash(&self, name: &str, password: &str) -> TokenHash {
        // The length keeps a part of the name from passing for a part of the password.
        TokenHash::of(&format!("{}\n{}\n{name}\n{password}", self.key, name.len()))
    }

    fn recall(&self, hash: &TokenHash, now: Timestamp) -> Option<Arc<User>> {
        let (user, at) = self.known.get(hash)?;
        // A clock that was set back must not make an entry last.
        (0..REMEMBERED_MILLIS).contains(&(now.as_millis() - at.as_millis())).then_some(user)
    }
}

impl Auth {
    /// The caller that a name and a password stand for.
    pub(super) async fn caller_of_password(
        &self,
        name: &str,
        password: String,
        presented: Presented,
    ) -> Result<Caller, Error> {
        let passwords = &self.inner.remembered_passwords;
        let hash = passwords.hash(name, &password);
        let with_code = |user: &User| Caller::User(User { code: presented.code.clone(), ..user.clone() });
        if let Some(user) = passwords.recall(&hash, self.inner.clock.now()) {
            return Ok(with_code(&user));
        }
        let _alone = passwords.checking.lock(&hash).await;
        let now = self.inner.clock.now();
        // Whoever held the lock may have checked it.
        if let Some(user) = passwords.recall(&hash, now) {
            return Ok(with_code(&user));
        }
        let changes_before = self.changes();
        let code = presented.code.as_ref().map(OneTimeCode::expose);
        let account = self.account_by_password(name, password, code, presented.address).await?;
        let user = local_user(&account);
        if account.second_factor_mode().is_some() {
            // Its code was used up just now, and is asked for each time.
            return Ok(Caller::User(user));
        }
        let caller = with_code(&user);
        passwords.known.insert(hash.clone(), (Arc::new(user), now));
        // What was read while an account was being changed may be what was before.
        if self.changes() != changes_before {
            passwords.known.remove(&hash);
        }
        Ok(caller)
    }
}
