//! Fetching an upstream's versions before anybody asks for them, for operators: no caller is authorised.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::source::Route;
use super::tarball::Redirect;
use super::{Error, Registry};
use crate::causes;
use crate::keys::{self, Key};
use crate::npm::{Form, Integrity, PackageName, Version};
use crate::policy::Withheld;
use crate::storage::{Download, Durability, Existing, Upload};
use crate::upstream::Upstream;

/// Versions that are fetched at once.
const AT_ONCE: usize = 8;

/// A version that is to be at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedVersion {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What is expected of its tarball, as a lockfile has it.
    pub integrity: Option<String>,
}

/// How a version is at hand, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Mirrored {
    /// It was fetched, checked and kept.
    Fetched,
    /// It would be.
    ToFetch,
    /// It was kept before.
    Kept,
    /// It was published here.
    Hosted,
    /// The policy withholds it.
    Withheld(Withheld),
    /// There is no such version.
    Missing,
    /// Its tarball is another than expected.
    Different,
    /// It could not be fetched.
    Failed {
        /// For people.
        why: String,
    },
}

impl Mirrored {
    /// Whether it can be installed.
    pub fn is_at_hand(&self) -> bool {
        matches!(self, Self::Fetched | Self::ToFetch | Self::Kept | Self::Hosted)
    }
}

impl Registry {
    /// Sees to it that versions are at hand, and says of each, in their order, how it is. The policy decides as for a client.
    /// What is fetched is durable as the rest of the cache is: it may be lost in a power cut, and is fetched again.
    pub async fn mirror(&self, wanted: Vec<WantedVersion>, dry_run: bool) -> Vec<Mirrored> {
        let states = stream::iter(wanted).map(|wanted| async move {
            match self.mirror_version(&wanted, dry_run).await {
                Ok(state) => state,
                Err(Error::Withheld(refused)) => Mirrored::Withheld(refused.withheld),
                Err(Error::PackageNotFound(_) | Error::VersionNotFound { .. } | Error::TarballNotFound { .. }) => {
                    Mirrored::Missing
                }
                Err(error) => Mirrored::Failed { why: causes::one_line(&error) },
            }
        });
        states.buffered(AT_ONCE).collect().await
    }

    async fn mirror_version(&self, wanted: &WantedVersion, dry_run: bool) -> Result<Mirrored, Error> {
        let (Ok(name), Ok(version)) = (wanted.name.parse::<PackageName>(), wanted.version.parse::<Version>()) else {
            return Ok(Mirrored::Missing);
        };
        let claim = wanted.integrity.as_deref().and_then(Integrity::parse);
        if self.hosted_head(&name).await?.is_some() {
            return Ok(Mirrored::Hosted);
        }
        let Route::Upstream(upstream) = self.terms.sources.route(&name) else { return Ok(Mirrored::Missing) };
        if let Some(withheld) = self.refused_by_number(upstream, &name, &version) {
            return Ok(Mirrored::Withheld(withheld));
        }
        self.policy_loaded().await;
        let seen = self.require_offered_now(upstream, &name, &version).await?;
        let number = version.to_string();
        let Some(expected) = self.expected_tarball(upstream, &name, &number, &version, Some(seen)).await? else {
            return Ok(Mirrored::Missing);
        };
        let agrees = claim.as_ref().map(|claim| claim.agrees_with(&expected.integrity));
        if agrees == Some(Some(false)) {
            return Ok(Mirrored::Different);
        }
        let key = keys::cached_tarball(upstream.cache_name(), &name, &version);
        let was_kept = self.is_kept(&key).await?;
        if dry_run {
            return Ok(if was_kept { Mirrored::Kept } else { Mirrored::ToFetch });
        }
        if !was_kept {
            let file = format!("{}-{number}.tgz", name.basename());
            let not_found = || Error::TarballNotFound { name: name.clone(), file: file.clone() };
            // As where clients are sent to the bucket: it returns when the file is there.
            self.proxied_tarball(upstream, &name, (&number, &version), Redirect::Always, not_found).await?;
        }
        // A lockfile's hash in another algorithm than the document's is compared with the bytes.
        if let (Some(claim), Some(None)) = (&claim, agrees)
            && !self.is_of(&key, claim).await?
        {
            return Ok(Mirrored::Different);
        }
        Ok(if was_kept { Mirrored::Kept } else { Mirrored::Fetched })
    }

    /// Sees to it that an upstream's document is at hand in full, and gives it.
    pub async fn mirrored_document(&self, name: &PackageName) -> Result<Bytes, Error> {
        let upstream = self.upstream_for(name)?;
        self.proxied_document(upstream, name, Form::Full).await?;
        self.proxied_bytes(upstream, name, Form::Full).await
    }

    /// An upstream's document in full that is at hand, without asking the upstream.
    pub async fn kept_document_in_full(&self, name: &PackageName) -> Result<Bytes, Error> {
        self.proxied_bytes(self.upstream_for(name)?, name, Form::Full).await
    }

    /// An upstream's tarball that is at hand.
    pub async fn mirrored_tarball(&self, name: &PackageName, version: &Version) -> Result<Download, Error> {
        let key = keys::cached_tarball(self.upstream_for(name)?.cache_name(), name, version);
        Ok(self.inner.store.open_object(&key).await?)
    }

    /// Whether a name is published here, so that no upstream's package of that name is of use.
    pub async fn is_hosted(&self, name: &PackageName) -> Result<bool, Error> {
        Ok(self.hosted_head(name).await?.is_some())
    }

    /// Keeps an upstream's document that came by another way, whose bytes are known to be right.
    pub async fn keep_mirrored_document(&self, name: &PackageName, body: Bytes) -> Result<(), Error> {
        self.keep_brought_document(self.upstream_for(name)?, name, body).await
    }

    /// A place for a tarball that comes by another way; nobody sees it until [`Registry::keep_mirrored_tarball`].
    pub async fn stage_mirrored(&self) -> Result<Upload, Error> {
        Ok(self.inner.store.upload().await?)
    }

    /// Keeps an upstream's tarball that came by another way, whose bytes are known to be right.
    pub async fn keep_mirrored_tarball(
        &self,
        name: &PackageName,
        version: &Version,
        mut tarball: Upload,
    ) -> Result<(), Error> {
        let key = keys::cached_tarball(self.upstream_for(name)?.cache_name(), name, version);
        Ok(tarball.keep(&key, Existing::Replace, Durability::Synced).await?)
    }

    fn upstream_for(&self, name: &PackageName) -> Result<&Upstream, Error> {
        match self.terms.sources.route(name) {
            Route::Upstream(upstream) => Ok(upstream),
            _ => Err(Error::PackageNotFound(name.clone())),
        }
    }

    /// Whether a kept file answers to a hash.
    async fn is_of(&self, key: &Key, claim: &Integrity) -> Result<bool, Error> {
        let mut verifier = claim.verifier();
        let mut bytes = Box::pin(self.inner.store.open_object(key).await?.stream_all());
        while let Some(piece) = bytes.try_next().await? {
            verifier.update(&piece);
        }
        Ok(verifier.finish())
    }
}
