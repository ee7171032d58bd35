//! Stars, in the form that pnpm uses. npm sends the whole list of users, see `metadata.rs`.
//!
//! The package's document says who starred it. A user's own list may name more packages than that, never fewer: it is
//! written before a star is given and after one is taken, and compared with the documents when it is read. So a crash
//! between the two writes is not seen by anybody.

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::PackageName;
use crate::npm::packument::HostedPackument;

impl Registry {
    /// Adds or takes the caller's star.
    pub async fn set_star(&self, caller: &Caller, name: &PackageName, starred: bool) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let user = caller.user().cloned().ok_or(Error::SignInFirst)?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Star, name, &head.owners)?;
        let (this, caller, name) = (self.clone(), caller.clone(), name.clone());
        self.to_the_end(async move {
            if starred {
                this.list_star(&user.name, &name).await?;
            }
            let starred_by = user.name.clone();
            this.change_existing(&name, move |document| Ok(document.set_star(&starred_by, starred)?)).await?;
            if !starred {
                this.unlist_star(&user.name, &name).await;
            }
            this.write_down(this.star_event(&caller, &name, starred)).await
        })
        .await
    }

    /// Before the document says that a user starred the package.
    pub(super) async fn list_star(&self, user: &str, name: &PackageName) -> Result<(), Error> {
        Ok(self.terms.auth.set_star(user, name.as_str(), true).await?)
    }

    /// After the document no longer says so. A failure leaves an entry that nobody is shown.
    pub(super) async fn unlist_star(&self, user: &str, name: &PackageName) {
        if let Err(error) = self.terms.auth.set_star(user, name.as_str(), false).await {
            tracing::warn!(package.name = %name, %error, "a list of stars names a package too many");
        }
    }

    /// The packages that a user has starred.
    pub async fn starred_by(&self, caller: &Caller, user: &str) -> Result<Vec<String>, Error> {
        self.authorize_reading(caller)?;
        let mut shown = Vec::new();
        for text in self.terms.auth.stars(user).await? {
            let Ok(name) = text.parse::<PackageName>() else { continue };
            if !self.may_read(caller, &name) {
                continue;
            }
            let stored = match self.hosted_document(&name).await {
                Ok(stored) => stored,
                Err(Error::PackageNotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let is_starred = HostedPackument::parse(&stored)
                .is_ok_and(|document| document.head().exists && document.is_starred_by(user));
            if is_starred {
                shown.push(text);
            }
        }
        Ok(shown)
    }
}
