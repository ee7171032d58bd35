//! Which workflows a package trusts (`npm trust`), and the exchange of a CI job's identity for a token.

use std::net::IpAddr;

use super::{Error, Registry};
use crate::auth::{Action, Caller, Token, TokenRecord, TrustWish, TrustedPublisher, WorkflowIdentity};
use crate::events::Kind;
use crate::npm::PackageName;

impl Registry {
    /// The workflows that a package trusts. For those who may change that: it tells where packages come from.
    pub async fn trusted_publishers(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Vec<TrustedPublisher>, Error> {
        self.authorize_administering(caller, name).await?;
        Ok(self.terms.auth.trusted_publishers(name).await?)
    }

    /// Trusts a workflow with a package, which may be published later.
    pub async fn trust(&self, caller: &Caller, name: &PackageName, wish: TrustWish) -> Result<TrustedPublisher, Error> {
        let is_there = self.authorize_administering(caller, name).await?;
        name.check_new()?;
        self.confirmed(caller, Action::Administer, name).await?;
        let author = caller.author().ok_or(Error::SignInFirst)?;
        let (this, caller, name) = (self.clone(), caller.clone(), name.clone());
        self.to_the_end(async move {
            let auth = &this.terms.auth;
            let publisher = if is_there {
                auth.trust(&name, wish, author.owner).await?
            } else {
                auth.trust_before_package(&name, wish, author.owner).await?
            };
            this.write_down(this.event(Kind::Trust, &caller, &name).with("workflow", &publisher)).await?;
            Ok(publisher)
        })
        .await
    }

    /// Ends the trust in a workflow. False when there was none under this id.
    pub async fn distrust(&self, caller: &Caller, name: &PackageName, id: &str) -> Result<bool, Error> {
        self.authorize_administering(caller, name).await?;
        self.confirmed(caller, Action::Administer, name).await?;
        let (this, caller, name, id) = (self.clone(), caller.clone(), name.clone(), id.to_owned());
        self.to_the_end(async move {
            let was_there = this.terms.auth.distrust(&name, &id).await?;
            if was_there {
                this.write_down(this.event(Kind::Distrust, &caller, &name).with("id", &id)).await?;
            }
            Ok(was_there)
        })
        .await
    }

    /// Whether the package is there, if the caller may.
    async fn authorize_administering(&self, caller: &Caller, name: &PackageName) -> Result<bool, Error> {
        self.authorize_knowing(caller, name)?;
        let head = self.hosted_head(name).await?;
        let owners = head.as_ref().map_or(&[][..], |head| &head.owners);
        if head.is_none() {
            // Who trusts a workflow with a name that is not there yet lets it make the package.
            self.authorize(caller, Action::Create, name, owners)?;
        }
        self.authorize(caller, Action::Administer, name, owners)?;
        Ok(head.is_some())
    }

    /// Exchanges a CI job's identity token, see [`crate::auth::Auth::exchange_from`].
    pub async fn exchange(
        &self,
        name: Option<&PackageName>,
        identity_token: &str,
        audiences: &[String],
        address: Option<IpAddr>,
    ) -> Result<(Token, TokenRecord), Error> {
        let may_read = |job: &WorkflowIdentity| self.terms.access.names_workflow(job);
        let head = match name {
            Some(name) => self.hosted_head(name).await?,
            None => None,
        };
        let package = name.map(|name| (name, head.as_ref().map_or(&[][..], |head| &head.owners)));
        Ok(self.terms.auth.exchange_from(address, package, identity_token, audiences, may_read).await?)
    }
}
