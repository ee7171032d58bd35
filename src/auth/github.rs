//! Accounts of GitHub: whose a token is, and which groups they are in.
//!
//! What GitHub says is remembered for a few minutes, in memory and in the store, so that a known token costs no call. When
//! GitHub does not answer, what it said last is good for a longer while, and no longer: then nobody knows, which is told
//! apart from "no". Neither bound is ever stretched. "No" is remembered too, for the shorter one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::account::{Account, Standing};
use super::caller::{Groups, HeldToken, Source, User};
use super::recorded::Way;
use super::token::{Token, TokenHash, TokenRecord};
use super::tokens::SEALED_IN_TOKEN;
use super::{Auth, Error, read_json, seal, to_json};
use crate::events::{self, Who};
use crate::keys;
use crate::npm::Timestamp;
use crate::providers::{self, GitHub, Profile};
use crate::secret::Secret;
use crate::storage::{Durability, KeyedLocks};

/// Accounts remembered, known and unknown; about a kilobyte each.
const REMEMBERED: usize = 10_000;
/// After GitHub failed, what is known is used for this long before it is asked again.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(15);

/// Tokens of one account, the newest, that are looked at for what GitHub said last.
const MOST_ASKED: usize = 20;

/// How GitHub is used.
#[derive(Debug, Clone)]
pub struct GitHubSettings {
    /// Where it is, and as whom it is asked.
    pub client: providers::Settings,
    /// Only members of one of these may come in; every account of GitHub where there is none.
    pub organizations: Option<Vec<String>>,
    /// How long what it said is used without asking again.
    pub remember: Duration,
    /// How long what it said is used when it does not answer.
    pub outage: Duration,
}

/// What rules ask of GitHub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupNeeds {
    /// Some rule names an organisation.
    pub organizations: bool,
    /// Some rule names a team.
    pub teams: bool,
    /// Repositories that rules name, `owner/name` in lower case.
    pub repositories: Vec<String>,
}

/// GitHub, and what it said.
pub(super) struct GitHubAccounts {
    pub(super) client: GitHub,
    settings: GitHubSettings,
    needs: GroupNeeds,
    remembered: Cache<TokenHash, Remembered>,
    /// One question at a time about one token.
    asking: KeyedLocks<TokenHash>,
}

/// What GitHub said of a token's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GitHubAccount {
    pub(super) id: u64,
    pub(super) login: String,
    pub(super) email: String,
    #[serde(with = "shared")]
    groups: Arc<Groups>,
    /// Milliseconds since 1970.
    checked_at: i64,
}

/// Groups are shared by all requests of their owner; in the store they are written out.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Groups;

    pub(super) fn serialize<S: Serializer>(groups: &Arc<Groups>, serializer: S) -> Result<S::Ok, S::Error> {
        groups.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Groups>, D::Error> {
        Groups::deserialize(deserializer).map(Arc::new)
    }
}

#[derive(Debug, Clone)]
struct Remembered {
    /// `None`: GitHub does not know the token.
    account: Option<Arc<GitHubAccount>>,
    /// When GitHub said so.
    checked_at: i64,
    /// Not asked again before.
    not_before: i64,
}

/// Whether asking about a token that is not known yet is a try that counts.
#[derive(Debug, Clone, Copy)]
enum Asking {
    /// It was counted already, or the token came out of one of ours.
    Uncounted,
    /// Anybody may send a text that looks like a token, and each new one costs a question.
    Counted(Option<IpAddr>),
}

/// Which kind of token a text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of an OAuth app or a GitHub app acting for a user: good only if the app is ours.
    App,
    /// A personal one.
    Personal,
    /// 40 hex digits, as all tokens were before 2021: perhaps one, perhaps the other.
    Old,
}

fn kind(token: &str) -> Option<Kind> {
    let is_word = |rest: &str| {
        (30..=255).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if token.len() == 40 && token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(Kind::Old);
    }
    let kinds = [("gho_", Kind::App), ("ghu_", Kind::App), ("ghp_", Kind::Personal), ("github_pat_", Kind::Personal)];
    kinds.into_iter().find_map(|(prefix, kind)| token.strip_prefix(prefix).filter(|rest| is_word(rest)).map(|_| kind))
}

/// Whether a text can be a token of GitHub's. One that cannot is never sent there.
pub(super) fn is_github_token(text: &str) -> bool {
    kind(text).is_some()
}

impl GitHubAccounts {
    pub(super) fn new(settings: GitHubSettings, needs: GroupNeeds) -> Result<Self, providers::BuildError> {
        Ok(Self {
            client: GitHub::new(settings.client.clone())?,
            settings,
            needs,
            remembered: Cache::new(REMEMBERED),
            asking: KeyedLocks::default(),
        })
    }

    /// What the browser is asked to grant: reading mail addresses, and memberships where anything depends on them.
    pub(super) fn scopes(&self) -> Vec<&'static str> {
        let needs_groups = self.settings.organizations.is_some() || self.needs.organizations || self.needs.teams;
        if needs_groups { vec!["user:email", "read:org"] } else { vec!["user:email"] }
    }

    /// Asks GitHub. No memory.
    async fn ask(&self, token: &Secret, now: Timestamp) -> Result<GitHubAccount, providers::Error> {
        let profile = self.profile(token).await?;
        let needs_organizations = self.settings.organizations.is_some() || self.needs.organizations;
        let mut organizations = BTreeSet::new();
        if needs_organizations {
            let found = none_if_forbidden(self.client.organizations(token).await)?;
            organizations.extend(found.into_iter().map(|name| name.to_lowercase()));
        }
        let mut teams = BTreeSet::new();
        if self.needs.teams {
            let found = none_if_forbidden(self.client.teams(token).await)?;
            teams.extend(found.into_iter().map(|team| format!("{}/{}", team.organization, team.slug).to_lowercase()));
        }
        let mut roles = BTreeMap::new();
        for repository in &self.needs.repositories {
            let Some((owner, name)) = repository.split_once('/') else { continue };
            let role = self.client.repository_role(owner, name, &profile.login).await.map_err(of_service_token)?;
            if let Some(role) = role {
                roles.insert(repository.clone(), role);
            }
        }
        Ok(GitHubAccount {
            id: profile.id,
            login: profile.login,
            email: profile.email.unwrap_or_default(),
            groups: Arc::new(Groups { organizations, teams, roles }),
            checked_at: now.as_millis(),
        })
    }

    async fn profile(&self, token: &Secret) -> Result<Profile, providers::Error> {
        let has_app = self.settings.client.client_id.is_some() && self.settings.client.client_secret.is_some();
        match kind(token.expose()) {
            Some(Kind::App) if has_app => self.client.check_app_token(token).await,
            Some(Kind::Old) if has_app => match self.client.check_app_token(token).await {
                Err(providers::Error::Rejected) => self.client.user(token).await,
                other => other,
            },
            Some(Kind::Personal | Kind::Old) => self.client.user(token).await,
            // Of an app, and there is none that is ours; or no token at all.
            Some(Kind::App) | None => Err(providers::Error::Rejected),
        }
    }

    fn admits(&self, account: &GitHubAccount) -> bool {
        self.settings.organizations.as_ref().is_none_or(|wanted| {
            wanted.iter().any(|organization| account.groups.organizations.contains(&organization.to_lowercase()))
        })
    }

    /// What is remembered and may be used now.
    fn recall(&self, hash: &TokenHash, now: Timestamp) -> Option<Remembered> {
        let remembered = self.remembered.get(hash)?;
        let is_fresh = is_within(remembered.checked_at, millis(self.settings.remember), now);
        let waits = remembered.account.is_some()
            && now.as_millis() < remembered.not_before
            && is_within(remembered.checked_at, millis(self.settings.outage), now);
        (is_fresh || waits).then_some(remembered)
    }

    fn remember(&self, hash: &TokenHash, account: Option<Arc<GitHubAccount>>, checked_at: i64, not_before: i64) {
        self.remembered.insert(hash.clone(), Remembered { account, checked_at, not_before });
    }

    /// Lets in who is a member, where only members may come in.
    fn admitted(&self, account: Option<Arc<GitHubAccount>>) -> Result<Arc<GitHubAccount>, Error> {
        let account = account.ok_or(Error::UnknownToken)?;
        if self.admits(&account) { Ok(account) } else { Err(Error::NotAMember(account.login.clone())) }
    }
}

/// A token that may not list groups (no `read:org`, or no sign-on for the organisation) shows none.
fn none_if_forbidden<T>(found: Result<Vec<T>, providers::Error>) -> Result<Vec<T>, providers::Error> {
    match found {
        Err(providers::Error::Forbidden | providers::Error::NotFound) => Ok(Vec::new()),
        other => other,
    }
}

/// What is wrong with our own token says nothing of the caller's.
fn of_service_token(error: providers::Error) -> providers::Error {
    match error {
        providers::Error::Rejected | providers::Error::Forbidden => {
            providers::Error::BadAnswer("the token of `github.token` may not ask for roles in a repository")
        }
        other => other,
    }
}

impl Auth {
    pub(super) fn github(&self) -> Result<&GitHubAccounts, Error> {
        self.terms.github.as_deref().ok_or(Error::NoGitHub)
    }

    /// Whose a GitHub token is, from memory, from the store, or from GitHub.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] when GitHub says so; [`Error::GitHubUnavailable`] when it says nothing and nothing recent
    /// enough is known; [`Error::NotAMember`]; [`Error::NameTaken`].
    pub(super) async fn github_account_of(&self, token: &Secret) -> Result<Arc<GitHubAccount>, Error> {
        self.account_behind(token, Asking::Uncounted).await
    }

    async fn account_behind(&self, token: &Secret, asking: Asking) -> Result<Arc<GitHubAccount>, Error> {
        let github = self.github()?;
        let hash = TokenHash::of(token.expose());
        if let Some(known) = github.recall(&hash, self.inner.clock.now()) {
            return github.admitted(known.account);
        }
        let _alone = github.asking.lock(&hash).await;
        let now = self.inner.clock.now();
        // Whoever held the lock may have asked.
        if let Some(known) = github.recall(&hash, now) {
            return github.admitted(known.account);
        }
        let changes_before = self.changes();
        let found = self.find_account(token, &hash, asking, now).await;
        // What was read while an account was being changed, blocked perhaps, may be what was before.
        if self.changes() != changes_before {
            github.remembered.remove(&hash);
        }
        github.admitted(found?)
    }

    /// Looks in the store, and asks GitHub where what is there is too old. Remembers what it finds.
    async fn find_account(
        &self,
        token: &Secret,
        hash: &TokenHash,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Option<Arc<GitHubAccount>>, Error> {
        let github = self.github()?;
        let known = self.last_known(github, hash).await?;
        let fresh = millis(github.settings.remember);
        if let Some(account) = known.as_ref().filter(|account| is_within(account.checked_at, fresh, now)) {
            github.remember(hash, Some(Arc::clone(account)), account.checked_at, 0);
            return Ok(Some(Arc::clone(account)));
        }
        // Only here: what is remembered costs nothing, so that an office with one forgotten token on one machine is not shut
        // out; and of many requests with one token one asks.
        let attempt = match asking {
            Asking::Counted(address) if known.is_none() => {
                Some(self.inner.throttle.begin(address, &format!("token {}", hash.as_str()), now)?)
            }
            Asking::Counted(_) | Asking::Uncounted => None,
        };
        let answer = github.ask(token, now).await;
        match (attempt, &answer) {
            (Some(attempt), Ok(_)) => attempt.succeeded(),
            (Some(attempt), Err(providers::Error::Rejected)) => attempt.failed(now),
            // Nothing came of it.
            (attempt, _) => drop(attempt),
        }
        self.learn(github, hash, known, answer, now).await
    }

    /// What was known before, however old.
    async fn last_known(&self, github: &GitHubAccounts, hash: &TokenHash) -> Result<Option<Arc<GitHubAccount>>, Error> {
        if let Some(account) = github.remembered.get(hash).and_then(|remembered| remembered.account) {
            return Ok(Some(account));
        }
        let stored: Option<GitHubAccount> =
            match read_json(&self.inner.store, &keys::github_account(hash.as_str())).await {
                // May be lost at any time, so also broken.
                Err(Error::Damaged) => None,
                other => other?,
            };
        if let Some(account) = &stored {
            // The account here may have been removed or blocked since.
            self.check_record(github, account).await?;
        }
        Ok(stored.map(Arc::new))
    }

    /// Whether the account may be used here; makes its record where there is none. Of somebody who may not come in none is
    /// made: it would take a name from others.
    async fn check_record(&self, github: &GitHubAccounts, account: &GitHubAccount) -> Result<(), Error> {
        if !github.admits(account) {
            return Ok(());
        }
        let record = self.github_account(&account.login, account.id, &account.email).await?;
        if record.blocked { Err(Error::Blocked) } else { Ok(()) }
    }

    async fn learn(
        &self,
        github: &GitHubAccounts,
        hash: &TokenHash,
        known: Option<Arc<GitHubAccount>>,
        answer: Result<GitHubAccount, providers::Error>,
        now: Timestamp,
    ) -> Result<Option<Arc<GitHubAccount>>, Error> {
        let key = keys::github_account(hash.as_str());
        match answer {
            Ok(account) => {
                self.check_record(github, &account).await?;
                let account = Arc::new(account);
                // A failure costs a question to GitHub later.
                if let Err(error) = self.inner.store.put(&key, to_json(&*account)?, Durability::Cache).await {
                    tracing::warn!(%error, "what GitHub said could not be kept");
                }
                github.remember(hash, Some(Arc::clone(&account)), now.as_millis(), 0);
                Ok(Some(account))
            }
            Err(providers::Error::Rejected) => {
                github.remember(hash, None, now.as_millis(), 0);
                if known.is_some()
                    && let Err(error) = self.inner.store.delete(&key).await
                {
                    tracing::warn!(%error, "what GitHub said of a token that ended remains");
                }
                Ok(None)
            }
            Err(error) => {
                let wait = error.retry_after().unwrap_or(PAUSE_AFTER_FAILURE);
                tracing::warn!(%error, "GitHub did not say whose a token is");
                let usable = known.filter(|account| is_within(account.checked_at, millis(github.settings.outage), now));
                let account = usable.ok_or(Error::GitHubUnavailable { retry_after: error.retry_after() })?;
                let not_before = now.as_millis().saturating_add(millis(wait.min(PAUSE_AFTER_FAILURE * 4)));
                github.remember(hash, Some(Arc::clone(&account)), account.checked_at, not_before);
                Ok(Some(account))
            }
        }
    }

    /// How an account stands, by what GitHub said last when one of its tokens was used. That is good for as long as it is when
    /// GitHub does not answer, since there is no token here to ask with.
    pub(super) async fn standing_at_github(&self, account: &Account, id: u64) -> Result<Standing, Error> {
        let Ok(github) = self.github() else { return Ok(Standing::Barred) };
        let (now, outage) = (self.inner.clock.now(), millis(github.settings.outage));
        let tokens = self.tokens_of(&account.name).await?;
        let sealed = tokens.iter().filter_map(|token| token.record.github.as_ref()).filter(|sealed| sealed.id == id);
        let hashes: BTreeSet<&str> = sealed.map(|sealed| sealed.hash.as_str()).take(MOST_ASKED).collect();
        let mut latest: Option<Arc<GitHubAccount>> = None;
        for hash in hashes.into_iter().filter_map(TokenHash::parse) {
            let known = match self.last_known(github, &hash).await {
                Err(Error::Blocked) => return Ok(Standing::Barred),
                known => known?.filter(|known| known.id == id && is_within(known.checked_at, outage, now)),
            };
            if let Some(known) = known
                && latest.as_ref().is_none_or(|latest| latest.checked_at < known.checked_at)
            {
                latest = Some(known);
            }
        }
        Ok(match latest {
            Some(known) if github.admits(&known) => Standing::Known(User {
                source: Source::GitHub,
                groups: Arc::clone(&known.groups),
                ..User::local(&account.name, &account.email)
            }),
            Some(_) => Standing::Barred,
            None => Standing::Unknown,
        })
    }

    /// Forgets what was remembered of all accounts of GitHub, for an account here has changed.
    pub(super) fn forget_github(&self) {
        if let Some(github) = &self.terms.github {
            github.remembered.clear();
        }
    }

    /// The caller that a GitHub token stands for, and that somebody at this address sent.
    pub(super) async fn user_of_github_token(&self, token: &Secret, address: Option<IpAddr>) -> Result<User, Error> {
        let account = self.account_behind(token, Asking::Counted(address)).await?;
        Ok(as_user(&account, token))
    }

    /// The caller that a registry token of a GitHub account stands for. `token` opens the sealed one.
    pub(super) async fn user_of_sealed(&self, record: &TokenRecord, github: &Secret) -> Result<User, Error> {
        let account = self.github_account_of(github).await?;
        // Another account has taken the name, or the record was altered.
        if record.github.as_ref().is_none_or(|sealed| sealed.id != account.id) {
            return Err(Error::UnknownToken);
        }
        Ok(as_user(&account, github))
    }

    /// The GitHub token behind the token that a caller has shown, to make another registry token of.
    pub(super) async fn github_token_of(&self, user: &User) -> Result<Option<(u64, Secret)>, Error> {
        let Some(held) = &user.github else { return Ok(None) };
        let account = self.github_account_of(held.secret()).await?;
        Ok(Some((account.id, held.secret().clone())))
    }

    /// Signs in with a token of GitHub that was typed as password.
    pub(super) async fn sign_in_with_github_token(&self, name: &str, token: &Secret) -> Result<Token, Error> {
        let account = self.github_account_of(token).await?;
        if !account.login.eq_ignore_ascii_case(name) {
            return Err(Error::OtherName(account.login.clone()));
        }
        self.issue_for_github(&account, token, Way::GitHub).await
    }

    /// Whether a password that was typed is a token of GitHub's for the same account.
    pub async fn is_own_github_token(&self, user: &User, password: String) -> Result<bool, Error> {
        if !is_github_token(&password) {
            return Ok(false);
        }
        match self.github_account_of(&Secret::new(password)).await {
            Ok(account) => Ok(account.login.eq_ignore_ascii_case(&user.name)),
            Err(Error::UnknownToken | Error::NotAMember(_) | Error::NameTaken(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A registry token for somebody whom GitHub knows.
    pub(super) async fn issue_for_github(
        &self,
        account: &GitHubAccount,
        token: &Secret,
        way: Way,
    ) -> Result<Token, Error> {
        let record = TokenRecord::new(&account.login, super::TokenOrigin::SignIn, self.inner.clock.now());
        self.issue_signed_in(record, Some((account.id, token.clone())), way).await
    }

    /// Ends a token of GitHub that somebody logs out with. True when it was one of our app.
    pub(super) async fn revoke_at_github(&self, token: &Token, address: Option<IpAddr>) -> Result<bool, Error> {
        let Some(github) = &self.terms.github else { return Ok(false) };
        if !matches!(kind(token.reveal()), Some(Kind::App | Kind::Old)) {
            return Ok(false);
        }
        let secret = Secret::new(token.reveal());
        // Only a token that is good can be ended, and only then is GitHub asked to end it.
        let owner = match self.account_behind(&secret, Asking::Counted(address)).await {
            Ok(account) => account.login.clone(),
            Err(Error::NotAMember(login)) => login,
            Err(Error::UnknownToken) => return Ok(false),
            Err(error) => return Err(error),
        };
        github.client.revoke(&secret).await.map_err(|error| unavailable(&error))?;
        let hash = token.hash();
        github.remember(&hash, None, self.inner.clock.now().as_millis(), 0);
        match self.inner.store.delete(&keys::github_account(hash.as_str())).await {
            Ok(()) | Err(crate::storage::Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let event = self.event(events::Kind::TokenRevoke, Who::user(owner));
        self.write_down(event.with("token", hash.as_str())).await?;
        Ok(true)
    }

    /// Ends a token of GitHub that no registry token stands on any more. A failure is logged: the registry token is gone, and
    /// so is all use of this one here.
    pub(super) async fn end_github_token(&self, secret: &Secret) {
        let Some(github) = &self.terms.github else { return };
        let is_of_an_app = matches!(kind(secret.expose()), Some(Kind::App | Kind::Old));
        let has_app = github.settings.client.client_id.is_some() && github.settings.client.client_secret.is_some();
        if is_of_an_app
            && has_app
            && let Err(error) = github.client.revoke(secret).await
        {
            tracing::warn!(%error, "a token that nobody uses any more could not be ended at GitHub");
        }
        let hash = TokenHash::of(secret.expose());
        github.remembered.remove(&hash);
        if let Err(error) = self.inner.store.delete(&keys::github_account(hash.as_str())).await
            && !matches!(error, crate::storage::Error::NotFound)
        {
            tracing::warn!(%error, "what GitHub said of a token that ended remains");
        }
    }

    /// Opens the GitHub token that is sealed in a record.
    pub(super) fn open_sealed(record: &TokenRecord, token: &Token) -> Option<Secret> {
        seal::open(&record.github.as_ref()?.sealed, token.reveal(), SEALED_IN_TOKEN)
    }
}

/// GitHub's own failure, as it is told.
pub(super) fn unavailable(error: &providers::Error) -> Error {
    tracing::warn!(%error, "GitHub did not do what was asked");
    Error::GitHubUnavailable { retry_after: error.retry_after() }
}

fn as_user(account: &GitHubAccount, token: &Secret) -> User {
    User {
        source: Source::GitHub,
        groups: Arc::clone(&account.groups),
        github: Some(HeldToken::new(token.clone())),
        ..User::local(&account.login, &account.email)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether an instant is less than so long ago. One in the future is not: a clock that was set back must not make an
/// entry last.
fn is_within(at: i64, lasts: i64, now: Timestamp) -> bool {
    (0..lasts).contains(&(now.as_millis() - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_github_are_told_by_their_looks() {
        let letters = "a1B2".repeat(9);
        assert_eq!(kind(&format!("gho_{letters}")), Some(Kind::App));
        assert_eq!(kind(&format!("ghp_{letters}")), Some(Kind::Personal));
        assert_eq!(kind(&format!("github_pat_{letters}_{letters}")), Some(Kind::Personal));
        assert_eq!(kind(&"0123456789abcdef".repeat(3)[..40]), Some(Kind::Old));
        // Of an installation: nobody's.
        for text in
            [format!("ghs_{letters}"), "gho_".to_owned(), "npm_x".to_owned(), "x".repeat(40), "gho_a b".repeat(9)]
        {
            assert_eq!(kind(&text), None, "{text}");
        }
    }
}
