//! Hooks: who may set one up for what, and whether its account may be told of a package.

use std::collections::BTreeMap;

use super::{Challenge, Error, Registry};
use crate::auth::{Action, Caller, Standing};
use crate::events::{Event, Kind};
use crate::hooks::{self, Destination, Hearing, Hook, Owner, Report, Target, TargetKind};
use crate::npm::{PackageName, Timestamp};

/// A hook as somebody wants it.
#[derive(Debug, Clone)]
pub struct HookWish {
    /// `package`, `scope` or `owner`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// Where it is told.
    pub endpoint: String,
    /// What it is signed with.
    pub secret: String,
}

/// A hook, and what has become of it.
#[derive(Debug, Clone)]
pub struct ListedHook {
    /// As it was set up.
    pub hook: Hook,
    /// Of this address; nothing before it was first told.
    pub report: Report,
}

impl Registry {
    /// The caller's own hooks, the oldest first, of one package (or scope, or account) where that is asked for.
    pub async fn hooks(&self, caller: &Caller, of: Option<&str>) -> Result<Vec<ListedHook>, Error> {
        let owner = self.hook_owner(caller).await?;
        let mut found = self.inner.hooks.of(&owner).await?;
        if let Some(name) = of {
            let name = name.trim_start_matches('~');
            found.retain(|hook| hook.target.name == name);
        }
        let reports = if found.is_empty() { BTreeMap::default() } else { self.inner.hooks.reports().await? };
        let listed = |hook: Hook| {
            let report = reports.get(&hook.id).filter(|report| report.revision == hook.revision);
            ListedHook { report: report.cloned().unwrap_or_default(), hook }
        };
        Ok(found.into_iter().map(listed).collect())
    }

    /// One of the caller's own hooks.
    pub async fn hook(&self, caller: &Caller, id: &str) -> Result<ListedHook, Error> {
        let listed = self.hooks(caller, None).await?;
        listed.into_iter().find(|listed| listed.hook.id == id).ok_or(Error::Hook(hooks::Error::NotFound))
    }

    /// Sets a hook up for what the caller may read. Written down.
    pub async fn add_hook(&self, caller: &Caller, wish: HookWish) -> Result<ListedHook, Error> {
        let owner = self.hook_changer(caller).await?;
        let target = Target::new(&wish.kind, &wish.name)?;
        self.authorize_hook(caller, &target)?;
        let destination = Destination::new(self.inner.hooks.settings(), &wish.endpoint, &wish.secret)?;
        self.hook_confirmed(caller, format!("Have a hook told of the {target}")).await?;
        let (this, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move {
            let (host, now) = (destination.host(), this.inner.clock.now());
            let hook = this.inner.hooks.add(&owner, target, destination, now).await?;
            this.write_down(this.hook_event(Kind::HookAdd, &caller, &hook).with("host", host)).await?;
            Ok(ListedHook { hook, report: Report::default() })
        })
        .await
    }

    /// Points one of the caller's own hooks to another address, with another secret. Written down.
    pub async fn update_hook(
        &self,
        caller: &Caller,
        id: &str,
        endpoint: &str,
        secret: &str,
    ) -> Result<ListedHook, Error> {
        let owner = self.hook_changer(caller).await?;
        let known = self.inner.hooks.find(&owner, id).await?;
        self.authorize_hook(caller, &known.target)?;
        let destination = Destination::new(self.inner.hooks.settings(), endpoint, secret)?;
        self.hook_confirmed(caller, format!("Point the hook of the {} elsewhere", known.target)).await?;
        let (this, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        self.to_the_end(async move {
            let (host, now) = (destination.host(), this.inner.clock.now());
            let hook = this.inner.hooks.update(&owner, &id, destination, now).await?;
            this.write_down(this.hook_event(Kind::HookUpdate, &caller, &hook).with("host", host)).await?;
            Ok(ListedHook { hook, report: Report::default() })
        })
        .await
    }

    /// Removes one of the caller's own hooks and returns what it was. Written down.
    pub async fn remove_hook(&self, caller: &Caller, id: &str) -> Result<ListedHook, Error> {
        let owner = self.hook_changer(caller).await?;
        let known = self.hook(caller, id).await?;
        self.hook_confirmed(caller, format!("Remove the hook of the {}", known.hook.target)).await?;
        let (this, caller, id) = (self.clone(), caller.clone(), id.to_owned());
        self.to_the_end(async move {
            let hook = this.inner.hooks.remove(&owner, &id).await?;
            this.write_down(this.hook_event(Kind::HookRemove, &caller, &hook)).await?;
            Ok(ListedHook { hook, report: known.report })
        })
        .await
    }

    /// Whether an account may be told of a package now, without any of its tokens to look at.
    pub async fn hearing(&self, username: &str, since: Timestamp, name: &PackageName) -> Result<Hearing, Error> {
        Ok(match self.terms.auth.standing(username, since).await? {
            Standing::Known(user) => {
                if self.may_read(&Caller::User(user), name) {
                    Hearing::May
                } else {
                    Hearing::MayNot
                }
            }
            Standing::Barred => Hearing::MayNot,
            Standing::Gone => Hearing::Gone,
            Standing::Unknown => Hearing::Unknown,
        })
    }

    /// Whose hooks the caller's are.
    async fn hook_owner(&self, caller: &Caller) -> Result<Owner, Error> {
        let user = caller.user().ok_or(Error::SignInFirst)?;
        if !self.inner.hooks.settings().is_on {
            return Err(Error::HooksOff);
        }
        let account = self.terms.auth.account(&user.name).await?.ok_or(Error::SignInFirst)?;
        let since = account.created.parse().unwrap_or(Timestamp::from_millis(0));
        Ok(Owner { name: account.name, since })
    }

    /// The same for a change. A hook is told what its account may read, which is more than a token with limits may.
    async fn hook_changer(&self, caller: &Caller) -> Result<Owner, Error> {
        let owner = self.hook_owner(caller).await?;
        caller.user().map_or(Err(Error::SignInFirst), |user| self.may_manage_tokens(user))?;
        Ok(owner)
    }

    /// Refuses what the caller may not know of. Of an owner's packages each is asked about when there is something to tell.
    fn authorize_hook(&self, caller: &Caller, target: &Target) -> Result<(), Error> {
        match (target.kind, target.pattern()) {
            (TargetKind::Package, _) => {
                let name = target.name.parse::<PackageName>()?;
                self.authorize(caller, Action::Read, &name, &[])
            }
            (TargetKind::Scope, Some(pattern)) if !self.terms.access.may_read_rule(caller, &pattern) => {
                Err(hooks::Error::Bad("you may not read the packages of this scope: name one that you may").into())
            }
            _ => self.authorize_reading(caller),
        }
    }

    /// Asks for a code where the account's changes need one, as npm expects.
    async fn hook_confirmed(&self, caller: &Caller, change: String) -> Result<(), Error> {
        let Some(user) = caller.user().filter(|user| user.needs_code) else { return Ok(()) };
        if self.terms.auth.is_confirmed(user, &user.name).await? {
            return Ok(());
        }
        let name = &user.name;
        Err(Error::OneTimeCode(Challenge { user: name.clone(), subject: name.clone(), change, has_app: true }))
    }

    /// The event of a change of a hook. Its address is told nowhere: it may be all that a receiver asks for.
    fn hook_event(&self, kind: Kind, caller: &Caller, hook: &Hook) -> Event {
        Event::new(kind, caller.who(), self.inner.clock.now())
            .with("hook", &hook.id)
            .with("type", hook.target.kind)
            .with("name", &hook.target.name)
    }
}
