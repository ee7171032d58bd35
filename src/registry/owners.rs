//! Owners, in the form that pnpm uses. npm and yarn send the whole list, see `metadata.rs`.

use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::PackageName;
use crate::npm::packument::{HostedPackument, Maintainer};

impl Registry {
    /// The owners of a hosted package.
    pub async fn owners(&self, caller: &Caller, name: &PackageName) -> Result<Vec<Maintainer>, Error> {
        self.authorize(caller, Action::Read, name, &[])?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Read, name, &head.owners)?;
        let stored = self.hosted_document(name).await?;
        self.off_thread(stored.len(), move || Ok(HostedPackument::parse(&stored)?.maintainers().to_vec())).await
    }

    /// Makes somebody with an account an owner.
    pub async fn add_owner(&self, caller: &Caller, name: &PackageName, user: &str) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let head = self.require_hosted(name).await?;
        // Before the account is looked up, or who may not change owners could ask who has an account.
        self.authorize(caller, Action::Own, name, &head.owners)?;
        let account = self.terms.auth.account(user).await?.ok_or_else(|| Error::UserNotFound(user.to_owned()))?;
        let owner = Maintainer { name: account.name, email: account.email };
        self.change_owners(caller, name, move |owners| {
            if !owners.iter().any(|known| known.name == owner.name) {
                owners.push(owner);
            }
        })
        .await
    }

    /// Takes an owner away, but never the last one.
    pub async fn remove_owner(&self, caller: &Caller, name: &PackageName, user: &str) -> Result<(), Error> {
        let user = user.to_owned();
        self.change_owners(caller, name, move |owners| owners.retain(|known| known.name != user)).await
    }

    async fn change_owners(
        &self,
        caller: &Caller,
        name: &PackageName,
        change: impl FnOnce(&mut Vec<Maintainer>) + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.authorize_changing(caller, name)?;
        let head = self.require_hosted(name).await?;
        self.authorize(caller, Action::Own, name, &head.owners)?;
        self.confirmed(caller, Action::Own, name).await?;
        let (this, caller, name) = (self.clone(), caller.clone(), name.clone());
        self.to_the_end(async move {
            let (authority, package, by) = (this.clone(), name.clone(), caller.clone());
            let (before, now) = this
                .change_existing(&name, move |document| {
                    let before = document.head().owners;
                    authority.authorize(&by, Action::Own, &package, &before)?;
                    let mut owners = document.maintainers().to_vec();
                    change(&mut owners);
                    document.set_maintainers(&owners)?;
                    Ok((before, document.head().owners))
                })
                .await?;
            this.write_down(this.owners_event(&caller, &name, &before, &now)).await
        })
        .await
    }
}
