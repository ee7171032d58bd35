//! The tokens of accounts: handed out, listed, revoked.
//!
//! A token is one object under its hash. The list of an account's tokens is a second object, for its owner's eyes: it is
//! written before the token and cleaned after it, so it may name one that is gone and never lacks one that works.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::caller::User;
use super::recorded::{Way, with_token};
use super::token::{SealedGitHub, Token, TokenHash, TokenOrigin, TokenRecord};
use super::{Auth, Error, read_json, seal, to_json};
use crate::events::{Kind, Who};
use crate::keys;
use crate::npm::{Pattern, Timestamp};
use crate::secret::Secret;
use crate::storage;

/// Tokens that an account may have. Beyond it the oldest that signing in made goes.
const MAX_TOKENS: usize = 1000;
/// The longest name and description.
const MAX_TEXT_BYTES: usize = 1024;
/// Patterns and networks of one token.
const MAX_LIMITS: usize = 100;
/// What a GitHub token is sealed for.
pub(super) const SEALED_IN_TOKEN: &str = "holdfast github token in registry token";

/// A token in its owner's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedToken {
    /// Its hash, in hex: what it is called by.
    pub hash: String,
    /// What is kept of it.
    pub record: TokenRecord,
}

/// A token as its owner wants it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenWish {
    /// For its owner; may be empty.
    pub name: String,
    /// For its owner; may be empty.
    pub description: String,
    /// It changes nothing.
    pub read_only: bool,
    /// The packages it is good for; `None` for all.
    pub packages: Option<Vec<Pattern>>,
    /// Networks it may be used from; everywhere, where there are none.
    pub cidr: Vec<IpNet>,
    /// How long it lasts; for ever, where nothing is said.
    pub lasts: Option<Duration>,
    /// Writes with it need no second factor.
    pub bypasses_second_factor: bool,
}

impl Auth {
    /// Makes a token of an account and returns it with its record: shown once, durable when this returns. `github` is the account's token there,
    /// which is sealed with the new one.
    pub(super) async fn issue(
        &self,
        mut record: TokenRecord,
        github: Option<(u64, &Secret)>,
    ) -> Result<(Token, TokenRecord), Error> {
        let token = Token::generate();
        let hash = token.hash();
        record.hint = token.hint();
        record.github = github.map(|(id, secret)| SealedGitHub {
            id,
            sealed: seal::seal(secret.expose(), token.reveal(), SEALED_IN_TOKEN),
            hash: TokenHash::of(secret.expose()).as_str().to_owned(),
        });
        let entry = ListedToken { hash: hash.as_str().to_owned(), record: record.clone() };
        let now = self.inner.clock.now();
        let dropped = self.change_list(&record.user, move |tokens| Ok(add(tokens, entry, now))).await?;
        for gone in &dropped {
            self.delete_token(gone).await?;
        }
        if !dropped.is_empty() {
            let unlist = move |tokens: &mut Vec<ListedToken>| {
                tokens.retain(|token| !dropped.contains(&token.hash));
                Ok(())
            };
            self.change_list(&record.user, unlist).await?;
        }
        self.inner.store.create(&keys::token(hash.as_str()), to_json(&record)?).await?;
        Ok((token, record))
    }

    /// The token of somebody who has signed in. Written down, whatever becomes of the client.
    pub(super) async fn issue_signed_in(
        &self,
        record: TokenRecord,
        github: Option<(u64, Secret)>,
        way: Way,
    ) -> Result<Token, Error> {
        let this = self.clone();
        self.to_the_end(async move {
            let (token, record) = this.issue(record, github.as_ref().map(|(id, secret)| (*id, secret))).await?;
            this.write_down(this.signed_in_event(Who::user(record.user), way, &token)).await?;
            Ok(token)
        })
        .await
    }

    /// Makes a token for a signed-in account, with the limits it asks for and those of the token it asks with. Written down.
    pub async fn create_token(&self, user: &User, wish: TokenWish) -> Result<(Token, TokenRecord), Error> {
        let github = self.github_token_of(user).await?;
        let record = self.record_of(&user.name, wish, TokenOrigin::Created)?;
        let (this, who) = (self.clone(), user.who());
        self.to_the_end(async move {
            let (token, record) = this.issue(record, github.as_ref().map(|(id, secret)| (*id, secret))).await?;
            let event = this.event(Kind::TokenCreate, who);
            this.write_down(with_token(event, &token.hash(), &record)).await?;
            Ok((token, record))
        })
        .await
    }

    /// Makes a token for any account: an operator's word. A GitHub account's groups are not known to such a token.
    pub async fn create_token_for(&self, name: &str, wish: TokenWish) -> Result<(Token, TokenRecord), Error> {
        let account = self.account(name).await?.ok_or(Error::UserNotFound)?;
        let record = self.record_of(&account.name, wish, TokenOrigin::Operator)?;
        self.issue(record, None).await
    }

    fn record_of(&self, user: &str, wish: TokenWish, origin: TokenOrigin) -> Result<TokenRecord, Error> {
        let now = self.inner.clock.now();
        let is_long = wish.name.len() > MAX_TEXT_BYTES
            || wish.description.len() > MAX_TEXT_BYTES
            || wish.cidr.len() > MAX_LIMITS
            || wish.packages.as_ref().is_some_and(|packages| packages.len() > MAX_LIMITS);
        if is_long || wish.name.contains(char::is_control) {
            return Err(Error::BadToken("a token may have a name of 1,024 bytes, 100 packages and 100 networks"));
        }
        Ok(TokenRecord {
            name: wish.name,
            description: wish.description,
            expires: wish.lasts.map(|lasts| later(now, lasts).to_string()),
            read_only: wish.read_only,
            packages: wish.packages.map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            cidr: wish.cidr,
            bypasses_second_factor: wish.bypasses_second_factor,
            ..TokenRecord::new(user, origin, now)
        })
    }

    /// The tokens of an account that have not ended, the newest first.
    pub async fn tokens_of(&self, user: &str) -> Result<Vec<ListedToken>, Error> {
        let now = self.inner.clock.now();
        let mut tokens: Vec<ListedToken> =
            read_json(&self.inner.store, &keys::token_list(user)).await?.unwrap_or_default();
        tokens.retain(|token| !token.record.has_expired(now));
        tokens.reverse();
        Ok(tokens)
    }

    /// Revokes one of the caller's own tokens, named as in [`Auth::revoke_named`]. Written down. False when there is none such.
    pub async fn revoke_own(&self, user: &User, named: &str) -> Result<bool, Error> {
        let (this, user, named) = (self.clone(), user.clone(), named.to_owned());
        self.to_the_end(async move {
            let Some(hash) = this.revoke_named(&user.name, &named).await? else { return Ok(false) };
            let event = this.event(Kind::TokenRevoke, user.who()).with("user", &user.name);
            this.write_down(event.with("token", &hash)).await?;
            Ok(true)
        })
        .await
    }

    /// Revokes one of an account's tokens, named by its key (its hash), the start of it, or the token itself. Its key; `None`
    /// when there is none such.
    pub async fn revoke_named(&self, user: &str, named: &str) -> Result<Option<String>, Error> {
        let wanted = Token::received(named);
        let hash = if wanted.is_well_formed() { wanted.hash().as_str().to_owned() } else { named.to_lowercase() };
        // A start that fits several is none of them.
        let tokens = self.tokens_of(user).await?;
        let mut fitting = tokens.iter().filter(|token| hash.len() >= 6 && token.hash.starts_with(&hash));
        match (fitting.next(), fitting.next()) {
            (Some(token), None) if self.revoke_hash(&token.hash, user).await? => Ok(Some(token.hash.clone())),
            _ => Ok(None),
        }
    }

    /// Makes a token useless, whoever it belongs to: who knows it may end it. Written down. True when it was one. At once on this
    /// process; another process that shares the store may remember it for a minute.
    pub async fn revoke(&self, token: &Token, address: Option<IpAddr>) -> Result<bool, Error> {
        let (this, token) = (self.clone(), token.clone());
        self.to_the_end(async move { this.end(&token, address).await }).await
    }

    async fn end(&self, token: &Token, address: Option<IpAddr>) -> Result<bool, Error> {
        if !token.is_well_formed() {
            return self.revoke_at_github(token, address).await;
        }
        let hash = token.hash();
        let key = if token.is_short_lived() { keys::workflow_token(hash.as_str()) } else { keys::token(hash.as_str()) };
        let Some(record) = read_json::<TokenRecord>(&self.inner.store, &key).await? else { return Ok(false) };
        let is_revoked = if token.is_short_lived() {
            let store = self.inner.store.clone();
            self.change(Some(hash.clone()), async move { deleted(store.delete(&key).await) }).await?
        } else {
            self.revoke_hash(hash.as_str(), &record.user).await?
        };
        if is_revoked {
            let job = record.workflow.as_ref().and_then(Self::workflow_of);
            let owner = job.map_or_else(|| Who::user(&record.user), |job| job.who()).by_token(hash.as_str());
            let event = self.event(Kind::TokenRevoke, owner).with("user", &record.user);
            self.write_down(event.with("token", hash.as_str())).await?;
        }
        // The token at GitHub behind it, unless another of the account's tokens stands on it too.
        if let Some(sealed) = &record.github
            && let Some(secret) = seal::open(&sealed.sealed, token.reveal(), SEALED_IN_TOKEN)
        {
            let others = self.tokens_of(&record.user).await?;
            let is_shared = others
                .iter()
                .any(|other| other.record.github.as_ref().is_some_and(|github| github.hash == sealed.hash));
            if !is_shared {
                self.end_github_token(&secret).await;
            }
        }
        Ok(is_revoked)
    }

    /// Revokes a token by its hash. True when it was one.
    pub async fn revoke_hash(&self, hash: &str, user: &str) -> Result<bool, Error> {
        let is_revoked = self.delete_token(hash).await?;
        let gone = hash.to_owned();
        let unlisted = self.change_list(user, move |tokens| {
            tokens.retain(|token| token.hash != gone);
            Ok(())
        });
        // The token is gone; that the list still names it does no harm.
        if let Err(error) = unlisted.await {
            tracing::warn!(%error, "a list of tokens names one that is revoked");
        }
        Ok(is_revoked)
    }

    pub(super) async fn delete_token(&self, hash: &str) -> Result<bool, Error> {
        let Some(hash) = TokenHash::parse(hash) else { return Ok(false) };
        let (store, key) = (self.inner.store.clone(), keys::token(hash.as_str()));
        self.change(Some(hash), async move { deleted(store.delete(&key).await) }).await
    }

    async fn change_list<T: Send + 'static>(
        &self,
        user: &str,
        change: impl FnOnce(&mut Vec<ListedToken>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        self.update_collection(&keys::token_list(user), change).await
    }
}

/// Adds a token to a list, and names those that have to go: the ended ones, and the oldest where there are too many. They
/// stay in the list until they are deleted, so that whatever cuts this short, their owner still sees them.
fn add(tokens: &mut Vec<ListedToken>, entry: ListedToken, now: Timestamp) -> Vec<String> {
    let (ended, good): (Vec<&ListedToken>, Vec<&ListedToken>) =
        tokens.iter().partition(|token| token.record.has_expired(now));
    let (signed_in, made): (Vec<&ListedToken>, Vec<&ListedToken>) =
        good.iter().partition(|token| token.record.origin == TokenOrigin::SignIn);
    let too_many = (good.len() + 1).saturating_sub(MAX_TOKENS);
    let oldest = signed_in.into_iter().chain(made).take(too_many);
    let dropped = ended.into_iter().chain(oldest).map(|token| token.hash.clone()).collect();
    tokens.push(entry);
    dropped
}

pub(super) fn deleted(outcome: Result<(), storage::Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(storage::Error::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An instant later.
pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}
