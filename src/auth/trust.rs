//! Trusted publishing: a CI job shows its identity token and gets a token that lasts minutes. No secret is kept anywhere.
//!
//! Which jobs a package trusts is one object beside it. The numbers of repository and owner are noted when a job of it first
//! publishes, and from then on must be the same: a repository that was deleted and made anew under the same name is another
//! one (as for other registries with trusted publishing).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access_policy::Action;
use super::caller::{Caller, Grant, Workflow, is_among};
use super::recorded::Way;
use super::token::{GrantRecord, Token, TokenOrigin, TokenRecord, WorkflowRecord};
use super::tokens::later;
use super::workflow::{IdentityError, IssuerKind, WorkflowIdentity};
use super::{Auth, Error, read_json, to_json};
use crate::keys;
use crate::npm::integrity::sha256_hex;
use crate::npm::packument::Maintainer;
use crate::npm::pattern::matches_pattern;
use crate::npm::{PackageName, Timestamp};
use crate::providers::{Issuer, KeySets, VerifyError};
use crate::random;
use crate::storage;

/// How long a token that may publish lasts.
const PUBLISH_LASTS: Duration = Duration::from_mins(15);
/// How long a token that only reads lasts: an install takes longer than a publish.
const READ_LASTS: Duration = Duration::from_hours(1);
/// How long the mark of a used identity token is kept at least. Longer if the token itself lasts longer.
const USED_MARK_LASTS: Duration = Duration::from_hours(24);
/// Trusted publishers of one package.
const MAX_PUBLISHERS: usize = 20;
/// The longest text in one.
const MAX_TEXT_BYTES: usize = 512;

/// An issuer of CI identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// What rules and trust call it.
    pub name: String,
    /// Exactly as its tokens have it in `iss`.
    pub url: String,
    /// How its claims are written.
    pub kind: IssuerKind,
    /// A further audience that is taken beside `npm:HOST`.
    pub audience: Option<String>,
}

/// A workflow that a package trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedPublisher {
    /// Random.
    pub id: String,
    /// The issuer's name in the settings.
    pub issuer: String,
    /// `owner/name` of the repository; of a generic issuer the subject.
    pub repository: String,
    /// The workflow's file; any, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The environment that the job must have; any or none, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The git ref, in which `*` stands for any text; any, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// What it may do.
    pub actions: Vec<Action>,
    /// The repository's number, noted at the first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// Its owner's number, noted at the first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// RFC 3339.
    pub created: String,
    /// Who trusted it.
    pub created_by: Maintainer,
    /// There was no such package then. Anybody may say so of a free name, so it counts only for a package that whoever
    /// said it owns, which the first job finds out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before_package: bool,
}

/// A trusted publisher as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrustWish {
    /// The issuer's name in the settings.
    pub issuer: String,
    /// `owner/name`, or the subject.
    pub repository: String,
    /// The workflow's file.
    pub workflow: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// The git ref.
    pub reference: Option<String>,
    /// What it may do.
    pub actions: Vec<Action>,
    /// The repository's number, where it is known already.
    pub repository_id: Option<String>,
    /// Its owner's number, where it is known already.
    pub owner_id: Option<String>,
}

/// Why an identity token got nothing. The text is shown to whoever runs the job.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No configured issuer made it.
    #[error("tokens of this issuer are not taken here")]
    UnknownIssuer,
    /// The token itself.
    #[error("{0}")]
    Token(VerifyError),
    /// What it says of the job.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// It was used before.
    #[error("the identity token was used before: ask the CI for a new one")]
    Replayed,
    /// No rule lets such a job read anything.
    #[error(
        "no rule of this registry lets the repository `{0}` read: name it as `workflow:ISSUER/OWNER/NAME` in a rule's `read`"
    )]
    NothingToRead(String),
    /// The package trusts no such job.
    #[error("{0}")]
    NotTrusted(NotTrusted),
}

/// What of a job is not as the package wants it. Told apart only for jobs of a repository that it trusts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// Nothing fits, or there is no such package.
    #[error("no package of this name trusts the repository `{0}`: add it with `npm trust` or `holdfast trust add`")]
    Repository(String),
    /// The repository of that name is not the one that was trusted.
    #[error(
        "the repository is not the one that was trusted: it, or its owner, was deleted and made anew, or moved; trust it again if that is right"
    )]
    Resurrected,
    /// The repository has another name now.
    #[error("the trusted repository is called `{0}` now: trust it under its new name")]
    Renamed(String),
    /// Another workflow.
    #[error("the workflow file `{0}` is not the one that is trusted")]
    Workflow(String),
    /// Another environment, or none.
    #[error("the job is not in the environment that is trusted")]
    Environment,
    /// Another branch or tag.
    #[error("the ref `{0}` is not one that is trusted")]
    Reference(String),
}

/// That an identity token was used.
struct UseMark {
    /// Of its issuer and id.
    hash: String,
    /// From then on it is refused for its age.
    token_ends: Timestamp,
}

impl TrustedPublisher {
    /// Whether it counts for a package with these owners; none for one that is not there.
    fn counts_for(&self, owners: &[String]) -> bool {
        !self.before_package || owners.is_empty() || is_among(&self.created_by.name, owners)
    }

    /// Whether a job is this one.
    fn check(&self, job: &WorkflowIdentity) -> Result<(), NotTrusted> {
        let is_named = self.issuer == job.issuer && is_same_source(job.kind, &self.repository, &job.repository);
        let same = |noted: &Option<String>, found: &Option<String>| noted.is_none() || noted == found;
        let has_same_id =
            self.issuer == job.issuer && self.repository_id.is_some() && self.repository_id == job.repository_id;
        if !is_named {
            return Err(if has_same_id {
                NotTrusted::Renamed(job.repository.clone())
            } else {
                NotTrusted::Repository(job.repository.clone())
            });
        }
        if !same(&self.repository_id, &job.repository_id) || !same(&self.owner_id, &job.owner_id) {
            return Err(NotTrusted::Resurrected);
        }
        if self.workflow.is_some() && self.workflow != job.workflow {
            return Err(NotTrusted::Workflow(job.workflow.clone().unwrap_or_default()));
        }
        if self.environment.is_some() && self.environment != job.environment {
            return Err(NotTrusted::Environment);
        }
        let reference = job.reference.as_deref().unwrap_or_default();
        if self.reference.as_ref().is_some_and(|wanted| !matches_pattern(wanted, reference)) {
            return Err(NotTrusted::Reference(reference.to_owned()));
        }
        Ok(())
    }
}

/// Whether two texts name the same repository: without case, as GitHub and GitLab do. Nothing is known of the subjects of
/// other issuers, so they are compared exactly.
fn is_same_source(kind: IssuerKind, one: &str, other: &str) -> bool {
    one == other || (kind != IssuerKind::Generic && one.eq_ignore_ascii_case(other))
}

/// The publisher that a job is, or the nearest miss. `owners` are the package's.
fn find<'a>(
    publishers: &'a [TrustedPublisher],
    job: &WorkflowIdentity,
    owners: &[String],
) -> Result<&'a TrustedPublisher, NotTrusted> {
    let mut nearest = NotTrusted::Repository(job.repository.clone());
    for publisher in publishers.iter().filter(|publisher| publisher.counts_for(owners)) {
        match publisher.check(job) {
            Ok(()) => return Ok(publisher),
            Err(NotTrusted::Repository(_)) => {}
            Err(miss) => nearest = miss,
        }
    }
    Err(nearest)
}

impl Auth {
    /// How an issuer writes its claims; `None` for one that is not in the settings any more.
    pub fn issuer_kind(&self, name: &str) -> Option<IssuerKind> {
        self.terms.settings.issuers.iter().find(|issuer| issuer.name == name).map(|issuer| issuer.kind)
    }

    /// The workflows that a package trusts.
    pub async fn trusted_publishers(&self, name: &PackageName) -> Result<Vec<TrustedPublisher>, Error> {
        Ok(read_json(&self.inner.store, &keys::trust(name)).await?.unwrap_or_default())
    }

    /// Trusts a workflow with a package.
    ///
    /// # Errors
    /// [`Error::BadTrust`] for what cannot be meant; [`Error::TrustedAlready`].
    pub async fn trust(&self, name: &PackageName, wish: TrustWish, by: Maintainer) -> Result<TrustedPublisher, Error> {
        self.add_trust(name, wish, by, false).await
    }

    /// Trusts a workflow with a name that is free, see [`TrustedPublisher::before_package`].
    ///
    /// # Errors
    /// As [`Auth::trust`].
    pub async fn trust_before_package(
        &self,
        name: &PackageName,
        wish: TrustWish,
        by: Maintainer,
    ) -> Result<TrustedPublisher, Error> {
        self.add_trust(name, wish, by, true).await
    }

    async fn add_trust(
        &self,
        name: &PackageName,
        wish: TrustWish,
        by: Maintainer,
        before_package: bool,
    ) -> Result<TrustedPublisher, Error> {
        let kind = self.check_wish(&wish)?;
        let publisher = TrustedPublisher {
            id: uuid(),
            issuer: wish.issuer,
            repository: wish.repository,
            workflow: wish.workflow,
            environment: wish.environment.filter(|text| !text.is_empty()),
            reference: wish.reference,
            actions: wish.actions,
            repository_id: wish.repository_id,
            owner_id: wish.owner_id,
            created: self.inner.clock.now().to_string(),
            created_by: by,
            before_package,
        };
        self.change_trust(name, move |publishers| {
            let is_same = |known: &TrustedPublisher| {
                is_same_source(kind, &known.repository, &publisher.repository)
                    && (&known.issuer, &known.workflow, &known.environment, &known.reference)
                        == (&publisher.issuer, &publisher.workflow, &publisher.environment, &publisher.reference)
            };
            if publishers.iter().any(is_same) {
                return Err(Error::TrustedAlready);
            }
            if publishers.len() >= MAX_PUBLISHERS {
                return Err(Error::BadTrust("a package can trust 20 workflows"));
            }
            publishers.push(publisher.clone());
            Ok(publisher)
        })
        .await
    }

    /// The kind of the wish's issuer, if it can be meant.
    fn check_wish(&self, wish: &TrustWish) -> Result<IssuerKind, Error> {
        let issuer = self.terms.settings.issuers.iter().find(|issuer| issuer.name == wish.issuer);
        let issuer = issuer.ok_or(Error::BadTrust("there is no such issuer in the settings (`issuers.NAME.url`)"))?;
        let texts =
            [Some(&wish.repository), wish.workflow.as_ref(), wish.environment.as_ref(), wish.reference.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT_BYTES || text.contains(char::is_control)) {
            return Err(Error::BadTrust("a text is too long, or holds control characters"));
        }
        let names: Vec<&str> = wish.repository.split('/').collect();
        let is_path = names.len() > 1
            && names.iter().all(|name| !name.is_empty())
            && !wish.repository.contains(['*', '@', ':', ' ']);
        let is_deep = issuer.kind == IssuerKind::GitHub && names.len() > 2;
        if issuer.kind != IssuerKind::Generic && (!is_path || is_deep) {
            return Err(Error::BadTrust("the repository must be given as `owner/name`"));
        }
        if wish.repository.is_empty() {
            return Err(Error::BadTrust("the repository is missing"));
        }
        let is_file = |file: &String| !file.is_empty() && !file.starts_with('/') && !file.contains("..");
        if issuer.kind != IssuerKind::Generic && !wish.workflow.as_ref().is_some_and(is_file) {
            return Err(Error::BadTrust("the workflow's file must be given, such as `release.yml`"));
        }
        if issuer.kind == IssuerKind::GitHub && wish.workflow.as_ref().is_some_and(|file| file.contains('/')) {
            return Err(Error::BadTrust("the workflow's file must be given without its folder, such as `release.yml`"));
        }
        if issuer.kind == IssuerKind::Generic && wish.workflow.is_some() {
            return Err(Error::BadTrust("this issuer says nothing of a workflow's file: leave it out"));
        }
        if wish.reference.as_ref().is_some_and(String::is_empty) {
            return Err(Error::BadTrust("the ref must not be empty: leave it out, or give one such as `refs/tags/v*`"));
        }
        let allowed = [Action::Publish, Action::Tag, Action::Deprecate];
        if wish.actions.is_empty() || wish.actions.iter().any(|action| !allowed.contains(action)) {
            return Err(Error::BadTrust("a workflow can be trusted with `publish`, `tag` and `deprecate`"));
        }
        Ok(issuer.kind)
    }

    /// Ends the trust in a workflow. Tokens that it got before last for at most 15 minutes more.
    pub async fn distrust(&self, name: &PackageName, id: &str) -> Result<bool, Error> {
        let id = id.to_owned();
        self.change_trust(name, move |publishers| {
            let before = publishers.len();
            publishers.retain(|publisher| publisher.id != id);
            Ok(publishers.len() < before)
        })
        .await
    }

    async fn change_trust<T: Send + 'static>(
        &self,
        name: &PackageName,
        change: impl FnOnce(&mut Vec<TrustedPublisher>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        self.update_collection(&keys::trust(name), change).await
    }

    /// Exchanges a CI job's identity token: for a token that may change `package`, which has these owners, as far as that
    /// trusts the job, or, without a package, for one that reads what rules let workflows read, where `may_read` says that
    /// one does.
    async fn exchange(
        &self,
        package: Option<(&PackageName, &[String])>,
        identity_token: &str,
        audiences: &[String],
        may_read: impl FnOnce(&WorkflowIdentity) -> bool,
    ) -> Result<(Token, TokenRecord), Error> {
        let (job, mark) = self.identify(identity_token, audiences).await?;
        let grant = match package {
            Some((package, owners)) => Some(self.grant(package, owners, &job).await?),
            None if may_read(&job) => None,
            None => return Err(ExchangeError::NothingToRead(job.repository).into()),
        };
        self.mark_used(mark).await?;
        let now = self.inner.clock.now();
        let lasts = if grant.is_some() { PUBLISH_LASTS } else { READ_LASTS };
        let token = Token::generate_short_lived();
        let record = TokenRecord {
            expires: Some(later(now, lasts).to_string()),
            hint: token.hint(),
            workflow: Some(WorkflowRecord { identity: job.clone(), grant }),
            ..TokenRecord::new(&job.name(), TokenOrigin::Workflow, now)
        };
        let this = self.clone();
        self.to_the_end(async move {
            let key = keys::workflow_token(token.hash().as_str());
            this.inner.store.create(&key, to_json(&record)?).await?;
            this.write_down(this.exchanged_event(&record, &token)).await?;
            Ok((token, record))
        })
        .await
    }

    /// The job behind a token, and how its use is to be marked.
    async fn identify(&self, token: &str, audiences: &[String]) -> Result<(WorkflowIdentity, UseMark), Error> {
        let url = KeySets::unverified_issuer(token).map_err(ExchangeError::Token)?;
        let settings = self.terms.settings.issuers.iter().find(|issuer| issuer.url == url);
        let settings = settings.ok_or(ExchangeError::UnknownIssuer)?;
        let mut audiences = audiences.to_vec();
        audiences.extend(settings.audience.clone());
        let issuer = Issuer { name: settings.name.clone(), url };
        let claims = match self.inner.key_sets.verify(&issuer, token, &audiences).await {
            Ok(claims) => claims,
            Err(VerifyError::IssuerUnavailable(error)) => {
                tracing::warn!(issuer = %issuer.name, %error, "an issuer's keys could not be had");
                return Err(Error::IssuerUnavailable { retry_after: error.retry_after() });
            }
            Err(error) => return Err(ExchangeError::Token(error).into()),
        };
        let job =
            WorkflowIdentity::from_claims(&settings.name, settings.kind, &claims).map_err(ExchangeError::Identity)?;
        // One that names no id is known by itself.
        let id = claims.get("jti").and_then(|jti| jti.as_str()).unwrap_or(token);
        let hash = sha256_hex(format!("{}\n{id}", issuer.url).as_bytes());
        let token_ends = Timestamp::from_millis(KeySets::ends(&claims).saturating_mul(1000));
        Ok((job, UseMark { hash, token_ends }))
    }

    async fn mark_used(&self, mark: UseMark) -> Result<(), Error> {
        let expires = later(self.inner.clock.now(), USED_MARK_LASTS).max(mark.token_ends).to_string();
        let body = to_json(&serde_json::json!({ "expires": expires }))?;
        match self.inner.store.create(&keys::used_identity(&mark.hash), body).await {
            Ok(()) => Ok(()),
            Err(storage::Error::Exists) => Err(ExchangeError::Replayed.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the package trusts the job with; notes the numbers of repository and owner at the first time.
    async fn grant(
        &self,
        package: &PackageName,
        owners: &[String],
        job: &WorkflowIdentity,
    ) -> Result<GrantRecord, Error> {
        let (wanted, owners) = (job.clone(), owners.to_vec());
        let name = package.to_string();
        self.change_trust(package, move |publishers| {
            let id = find(publishers, &wanted, &owners).map_err(ExchangeError::NotTrusted)?.id.clone();
            let publisher = publishers.iter_mut().find(|publisher| publisher.id == id).ok_or(Error::Damaged)?;
            publisher.repository_id = publisher.repository_id.take().or(wanted.repository_id);
            publisher.owner_id = publisher.owner_id.take().or(wanted.owner_id);
            // Once it was an owner's word it stays, whoever owns the package later.
            publisher.before_package &= owners.is_empty();
            Ok(GrantRecord {
                package: name,
                actions: publisher.actions.clone(),
                publisher_id: publisher.id.clone(),
                trusted_by: publisher.created_by.clone(),
                before_package: publisher.before_package,
            })
        })
        .await
    }

    /// The caller that a CI job's token stands for.
    pub(super) fn workflow_of(record: &WorkflowRecord) -> Option<Caller> {
        let grant = match &record.grant {
            None => None,
            Some(grant) => Some(Arc::new(Grant {
                package: grant.package.parse().ok()?,
                actions: grant.actions.clone(),
                publisher_id: grant.publisher_id.clone(),
                trusted_by: grant.trusted_by.clone(),
                before_package: grant.before_package,
            })),
        };
        Some(Caller::Workflow(Workflow { identity: Arc::new(record.identity.clone()), grant }))
    }

    /// The exchange for a job at an address, whose failures are counted and, after too many, refused. `may_read` says whether
    /// any rule lets a job read, where it asks for no package.
    pub async fn exchange_from(
        &self,
        address: Option<IpAddr>,
        package: Option<(&PackageName, &[String])>,
        identity_token: &str,
        audiences: &[String],
        may_read: impl FnOnce(&WorkflowIdentity) -> bool,
    ) -> Result<(Token, TokenRecord), Error> {
        let now = self.inner.clock.now();
        // By address only: a name that all exchanges share would lock everybody out.
        let name = format!("exchange {}", random::id());
        let attempt = self.inner.throttle.begin(address, &name, now)?;
        let outcome = self.exchange(package, identity_token, audiences, may_read).await;
        match &outcome {
            Ok(_) => attempt.succeeded(),
            Err(error @ Error::Exchange(_)) => {
                attempt.failed(now);
                self.note_not_let_in("", Way::Oidc, error);
            }
            Err(_) => {}
        }
        outcome
    }
}

/// A random UUID, as npm shows it (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes = random::bytes::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = crate::npm::integrity::hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> TrustedPublisher {
        TrustedPublisher {
            id: "1".to_owned(),
            issuer: "github".to_owned(),
            repository: "Acme/Tool".to_owned(),
            workflow: Some("release.yml".to_owned()),
            environment: None,
            reference: Some("refs/tags/v*".to_owned()),
            actions: vec![Action::Publish],
            repository_id: Some("7".to_owned()),
            owner_id: Some("3".to_owned()),
            created: String::new(),
            created_by: Maintainer { name: "ann".to_owned(), email: String::new() },
            before_package: false,
        }
    }

    fn job() -> WorkflowIdentity {
        WorkflowIdentity {
            issuer: "github".to_owned(),
            kind: IssuerKind::GitHub,
            repository: "acme/tool".to_owned(),
            repository_id: Some("7".to_owned()),
            owner_id: Some("3".to_owned()),
            workflow: Some("release.yml".to_owned()),
            reference: Some("refs/tags/v1".to_owned()),
            environment: None,
        }
    }

    #[test]
    fn a_job_is_compared_member_by_member() {
        assert_eq!(publisher().check(&job()), Ok(()));
        let changed = |change: fn(&mut WorkflowIdentity)| {
            let mut job = job();
            change(&mut job);
            publisher().check(&job).unwrap_err()
        };
        assert!(matches!(changed(|job| job.issuer = "gitlab".to_owned()), NotTrusted::Repository(_)));
        assert_eq!(changed(|job| job.repository_id = Some("8".to_owned())), NotTrusted::Resurrected);
        assert_eq!(changed(|job| job.owner_id = None), NotTrusted::Resurrected);
        assert!(matches!(changed(|job| job.repository = "acme/new".to_owned()), NotTrusted::Renamed(_)));
        assert!(matches!(changed(|job| job.workflow = Some("Release.yml".to_owned())), NotTrusted::Workflow(_)));
        assert!(matches!(changed(|job| job.reference = None), NotTrusted::Reference(_)));
        let strict = TrustedPublisher { environment: Some("prod".to_owned()), ..publisher() };
        assert_eq!(strict.check(&job()), Err(NotTrusted::Environment));
        let job = WorkflowIdentity { environment: Some("prod".to_owned()), ..job() };
        assert_eq!(strict.check(&job), Ok(()));
        // A publisher that names no environment takes a job in any.
        assert_eq!(publisher().check(&job), Ok(()));
        // Of several, the one that fits; of none, the nearest miss.
        assert_eq!(find(&[strict.clone(), publisher()], &self::job(), &[]).unwrap(), &publisher());
        assert_eq!(find(&[strict], &self::job(), &[]), Err(NotTrusted::Environment));
        // What was said of a free name is no word of whoever owns it later.
        let early = [TrustedPublisher { before_package: true, ..publisher() }];
        assert!(find(&early, &self::job(), &[]).is_ok());
        assert!(find(&early, &self::job(), &["bob".to_owned(), "Ann".to_owned()]).is_ok());
        assert!(matches!(find(&early, &self::job(), &["bob".to_owned()]), Err(NotTrusted::Repository(_))));
    }
}
