//! Stars, in the form that pnpm uses. npm sends the whole list of users, see `metadata.rs`.

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::PackageName;

impl Registry {
    /// Adds or takes the caller's star.
    pub async fn set_star(&self, caller: &Caller, name: &PackageName, starred: bool) -> Result<(), Error> {
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Star, name, &head.owners)?;
        let user = caller.user().cloned().ok_or(Error::SignInFirst)?;
        let (this, name) = (self.clone(), name.clone());
        self.to_the_end(async move {
            let starred_by = user.name.clone();
            this.change_existing(&name, move |document| Ok(document.set_star(&starred_by, starred)?)).await?;
            Ok(this.inner.auth.set_star(&user.name, name.as_str(), starred).await?)
        })
        .await
    }

    /// The packages that a user has starred.
    pub async fn starred_by(&self, caller: &Caller, user: &str) -> Result<Vec<String>, Error> {
        self.authorize_reading(caller)?;
        Ok(self.inner.auth.stars(user).await?)
    }
}
