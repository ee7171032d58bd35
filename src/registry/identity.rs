//! What a person has to prove before their account is changed.

use std::net::IpAddr;

use super::{Challenge, Error, Registry};
use crate::auth::{Source, User};

impl Registry {
    /// Refuses to let a token that is weaker than its owner manage tokens: it could make a stronger one.
    pub fn may_manage_tokens(&self, user: &User) -> Result<(), Error> {
        let is_limited = user.token.as_ref().is_some_and(|token| token.read_only || token.packages.is_some());
        if is_limited { Err(Error::LimitedToken) } else { Ok(()) }
    }

    /// Asks for the password of a local account, and a code where it has them on; the owner of a GitHub account confirms in
    /// the browser, or types a token of GitHub's as password.
    pub async fn prove_identity(
        &self,
        user: &User,
        password: String,
        change: &str,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        let auth = &self.terms.auth;
        if user.source == Source::Local {
            return Ok(auth.prove_password(user, password, address).await?);
        }
        if auth.is_confirmed(user, &user.name).await? || auth.is_own_github_token(user, password).await? {
            return Ok(());
        }
        Err(Error::OneTimeCode(Challenge {
            user: user.name.clone(),
            subject: user.name.clone(),
            change: change.to_owned(),
            has_app: false,
        }))
    }
}
