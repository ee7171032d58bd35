//! Why a version is offered or not: for people, and for CI.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};

use super::screening::Judged;
use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::npm::signature::Signature;
use crate::npm::{Form, PackageName, RawObject, Timestamp, Version};
use crate::policy::{Facts, MovedTag, Observation, Withheld};

/// Packages that are looked at together: each may be a question to an upstream.
const AT_ONCE: usize = 16;
/// Versions in one question.
pub const MAX_CHECKED: usize = 1000;

/// What is withheld of a package, and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The package.
    pub package: String,
    /// `hosted`, or the upstream's name.
    pub source: String,
    /// The state of the policy that decided.
    pub policy_epoch: String,
    /// How many versions are offered.
    pub offered: usize,
    /// The tags as they are offered.
    pub tags: BTreeMap<String, String>,
    /// Those that point elsewhere than their owner pointed them.
    pub moved_tags: Vec<MovedTag>,
    /// What is not offered, the highest first.
    pub withheld: Vec<WithheldVersion>,
    /// What is offered although something speaks against it.
    pub observed: Vec<Observation>,
    /// What the upstream's signatures were worth, of versions that were delivered.
    pub signatures: BTreeMap<String, Signature>,
    /// The next instant at which this may be otherwise by itself.
    pub changes_at: Option<Timestamp>,
}

/// A version that is not offered.
#[derive(Debug, Serialize)]
pub struct WithheldVersion {
    /// Its number.
    pub version: String,
    /// Why.
    #[serde(flatten)]
    pub withheld: Withheld,
}

/// A version to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Checked {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What can be said of a version.
#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It can be installed.
    Offered,
    /// It cannot.
    Withheld(Withheld),
    /// There is no such package or version here, or the caller may not know of it.
    Missing,
    /// The upstream could not be asked.
    Unknown,
}

impl Registry {
    /// What is withheld of a package and why.
    pub async fn explain(&self, caller: &Caller, name: &PackageName) -> Result<Explanation, Error> {
        let (source, judged, total, tags) = self.judged_whole(caller, name).await?;
        let policy_epoch = self.policy().epoch().to_owned();
        let package = name.as_str().to_owned();
        let signatures = match self.inner.sources.route(name) {
            Route::Upstream(upstream) => self.record(upstream, name).await?.signatures.clone(),
            Route::Claimed | Route::Unrouted => BTreeMap::new(),
        };
        let Some(judged) = judged else {
            return Ok(Explanation {
                package,
                source,
                policy_epoch,
                offered: total,
                tags,
                moved_tags: Vec::new(),
                withheld: Vec::new(),
                observed: Vec::new(),
                signatures,
                changes_at: None,
            });
        };
        let judgement = &judged.judgement;
        let mut withheld: Vec<WithheldVersion> = judgement
            .withheld
            .iter()
            .map(|(number, withheld)| WithheldVersion { version: number.clone(), withheld: withheld.clone() })
            .collect();
        withheld.sort_by_cached_key(|version| std::cmp::Reverse(version.version.parse::<Version>().ok()));
        Ok(Explanation {
            package,
            source,
            policy_epoch,
            offered: judgement.offered,
            tags: judgement.tags.clone(),
            moved_tags: judgement.moved.clone(),
            withheld,
            observed: judgement.observed.clone(),
            signatures,
            changes_at: judgement.until,
        })
    }

    /// The judgement of a package, also of one of which nothing is offered; where it comes from, how many versions it has, and
    /// its own tags.
    async fn judged_whole(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<(String, Option<Arc<Judged>>, usize, BTreeMap<String, String>), Error> {
        let hosted = self.hosted_head(name).await?;
        self.authorize(caller, Action::Read, name, hosted.as_ref().map_or(&[], |head| &head.owners))?;
        let (source, judged, body) = if let Some(head) = hosted {
            if !head.exists {
                return Err(Error::PackageNotFound(name.clone()));
            }
            let judged = self.judged_hosted(name, &head.revision).await?;
            ("hosted".to_owned(), judged, self.hosted_document(name).await?)
        } else {
            let Route::Upstream(upstream) = self.inner.sources.route(name) else {
                return Err(Error::PackageNotFound(name.clone()));
            };
            let found = self.datable_document(upstream, name, Form::Abbreviated).await?;
            let (form, revision) = (found.document.form, &found.document.revision);
            let judged = self.judged_upstream(upstream, name, form, revision).await?;
            (upstream.name().to_owned(), judged, self.proxied_bytes(upstream, name, form).await?)
        };
        let (total, tags) = self
            .off_thread(body.len(), move || {
                let document = RawObject::parse(&body).map_err(|_| Error::Damaged)?;
                let tags = document.get("dist-tags").and_then(|raw| serde_json::from_str(raw.get()).ok());
                Ok((document.object("versions").map_or(0, |versions| versions.len()), tags.unwrap_or_default()))
            })
            .await?;
        Ok((source, judged, total, tags))
    }

    /// A verdict for each of several versions, in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more than [`MAX_CHECKED`]; whoever may not read at all is refused.
    pub async fn check(&self, caller: &Caller, versions: Vec<Checked>) -> Result<Vec<(Checked, Verdict)>, Error> {
        self.authorize_reading(caller)?;
        if versions.len() > MAX_CHECKED {
            return Err(Error::Invalid("at most 1000 versions can be checked at once"));
        }
        let verdicts = stream::iter(versions).map(|checked| {
            let (this, caller) = (self.clone(), caller.clone());
            async move {
                let verdict = this.verdict(&caller, &checked).await;
                (checked, verdict)
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
        let Route::Upstream(upstream) = self.inner.sources.route(name) else { return Ok(None) };
        let Some(document) = self.kept_document(upstream, name).await? else { return Ok(None) };
        let body = self.proxied_bytes(upstream, name, document.form).await?;
        let (upstream, number) = (upstream.name().to_owned(), version.to_string());
        self.off_thread(body.len(), move || {
            let facts = Facts::parse(&body).map_err(|_| Error::Damaged)?;
            Ok(facts.version(&number).map(|version| (upstream, version.integrity())))
        })
        .await
    }

    async fn verdict(&self, caller: &Caller, checked: &Checked) -> Verdict {
        let (Ok(name), Ok(version)) = (checked.name.parse::<PackageName>(), checked.version.parse::<Version>()) else {
            return Verdict::Missing;
        };
        // A version's own object is what every other path answers too.
        match self.version(caller, &name, &version.to_string(), "").await {
            Ok(_) => Verdict::Offered,
            Err(Error::Withheld(refused)) => Verdict::Withheld(refused.withheld.clone()),
            Err(Error::PackageNotFound(_) | Error::VersionNotFound { .. }) => {
                match self.policy().malicious(&name, &version) {
                    Some(withheld) => Verdict::Withheld(withheld),
                    None => Verdict::Missing,
                }
            }
            Err(error) => {
                tracing::warn!(package.name = %name, %error, "a version could not be checked");
                Verdict::Unknown
            }
        }
    }
}
