//! Why a version is offered or not: for people, and for CI.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use serde::Deserialize;

use super::screening::require_offered;
use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::signature::Signature;
use crate::npm::{Form, PackageName, Version};
use crate::policy::{Explanation, Facts, Judgement, Verdict, VersionVerdict, WithheldVersion};

/// Packages that are looked at together: each may be a question to an upstream.
const AT_ONCE: usize = 16;
/// Versions in one question.
pub const MAX_CHECKED: usize = 1000;

/// A version to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Checked {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Registry {
    /// What is withheld of a package and why, also of one of which nothing is offered.
    pub async fn explain(&self, caller: &Caller, name: &PackageName) -> Result<Explanation, Error> {
        let hosted = self.hosted_head(name).await?;
        self.authorize(caller, Action::Read, name, hosted.as_ref().map_or(&[], |head| &head.owners))?;
        if let Some(head) = hosted {
            if !head.exists {
                return Err(Error::PackageNotFound(name.clone()));
            }
            let judgement = match self.judged_hosted(name, &head.revision).await? {
                Some(judged) => judged.judgement.clone(),
                None => self.all_offered(self.hosted_document(name).await?).await?,
            };
            return Ok(self.explanation(name, super::HOSTED, judgement, BTreeMap::new()));
        }
        let Route::Upstream(upstream) = self.terms.sources.route(name) else {
            return Err(Error::PackageNotFound(name.clone()));
        };
        let found = self.datable_document(upstream, name, Form::Abbreviated).await?;
        let judgement = match self.judged_upstream(upstream, name, &found).await? {
            Some(judged) => judged.judgement.clone(),
            None => self.all_offered(self.proxied_bytes(upstream, name, found.document.form).await?).await?,
        };
        let signatures = self.record(upstream, name).await?.signatures.clone();
        Ok(self.explanation(name, upstream.name(), judgement, signatures))
    }

    /// The judgement of a document that the policy has nothing to say of.
    async fn all_offered(&self, body: Bytes) -> Result<Judgement, Error> {
        self.off_thread(body.len(), move || {
            let facts = Facts::parse(&body).map_err(|_| Error::Damaged)?;
            Ok(Judgement { offered: facts.versions.len(), tags: facts.tags, ..Judgement::default() })
        })
        .await
    }

    fn explanation(
        &self,
        name: &PackageName,
        source: &str,
        judgement: Judgement,
        signatures: BTreeMap<String, Signature>,
    ) -> Explanation {
        let mut withheld: Vec<WithheldVersion> =
            judgement.withheld.into_iter().map(|(version, withheld)| WithheldVersion { version, withheld }).collect();
        withheld.sort_by_cached_key(|version| Reverse(version.version.parse::<Version>().ok()));
        Explanation {
            package: name.as_str().to_owned(),
            source: source.to_owned(),
            policy_epoch: self.policy().epoch().to_owned(),
            offered: judgement.offered,
            tags: judgement.tags,
            moved_tags: judgement.moved,
            withheld,
            observed: judgement.observed,
            signatures,
            changes_at: judgement.until,
        }
    }

    /// A verdict for each of several versions, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`MAX_CHECKED`]; whoever may not read at all is refused.
    pub async fn check(&self, caller: &Caller, versions: Vec<Checked>) -> Result<Vec<VersionVerdict>, Error> {
        self.authorize_reading(caller)?;
        if versions.len() > MAX_CHECKED {
            return Err(Error::Invalid("at most 1000 versions can be checked at once"));
        }
        let verdicts = stream::iter(versions).map(|Checked { name, version }| {
            let (this, caller) = (self.clone(), caller.clone());
            async move {
                let verdict = this.verdict(&caller, &name, &version).await;
                VersionVerdict { name, version, verdict }
            }
        });
        Ok(verdicts.buffered(AT_ONCE).collect().await)
    }

    /// The upstream and the integrity that a version has now; `None` where it is not an upstream's, or not at hand.
    pub async fn identity_of(
        &self,
        name: &PackageName,
        version: &Version,
    ) -> Result<Option<(String, Option<String>)>, Error> {
        if self.hosted_head(name).await?.is_some() {
            return Ok(None);
        }
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Ok(None) };
        let Some(document) = self.kept_document(upstream, name).await? else { return Ok(None) };
        let body = self.proxied_bytes(upstream, name, document.form).await?;
        let (upstream, number) = (upstream.name().to_owned(), version.to_string());
        self.off_thread(body.len(), move || {
            let facts = Facts::parse(&body).map_err(|_| Error::Damaged)?;
            Ok(facts.version(&number).map(|version| (upstream, version.integrity())))
        })
        .await
    }

    async fn verdict(&self, caller: &Caller, name: &str, version: &str) -> Verdict {
        let (Ok(name), Ok(version)) = (name.parse::<PackageName>(), version.parse::<Version>()) else {
            return Verdict::Missing;
        };
        match self.has_offered(caller, &name, &version).await {
            Ok(true) => Verdict::Offered,
            Err(Error::Withheld(refused)) => Verdict::Withheld(refused.withheld),
            Ok(false) | Err(Error::PackageNotFound(_)) => self.verdict_by_number(&name, &version),
            Err(error) => {
                tracing::warn!(package.name = %name, %error, "a version could not be checked");
                Verdict::Unknown
            }
        }
    }

    /// What was malicious is often gone from its upstream.
    fn verdict_by_number(&self, name: &PackageName, version: &Version) -> Verdict {
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Verdict::Missing };
        self.refused_by_number(upstream, name, version).map_or(Verdict::Missing, Verdict::Withheld)
    }

    /// Whether a package has a version that is offered; in the form of its document that costs least.
    ///
    /// # Errors
    /// [`Error::Withheld`] when it has it and does not offer it.
    async fn has_offered(&self, caller: &Caller, name: &PackageName, version: &Version) -> Result<bool, Error> {
        let packument = self.find_packument(caller, name, Form::Abbreviated).await?;
        let number = version.to_string();
        require_offered(packument.judged.as_ref(), name, &number)?;
        let document = self.document_bytes(&packument).await?;
        self.off_thread(document.len(), move || {
            let facts = Facts::parse(&document).map_err(|_| Error::Damaged)?;
            Ok(facts.version(&number).is_some())
        })
        .await
    }
}
