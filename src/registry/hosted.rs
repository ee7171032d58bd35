//! Hosted documents: what is known of them in memory, and the one way to change them.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::sync::Cache;

use super::{Error, Registry};
use crate::auth::random;
use crate::keys;
use crate::npm::PackageName;
use crate::npm::packument::{Head, HostedPackument};
use crate::storage::{self, Change, UpdateError};

/// Heads remembered, of packages that are here and of names that are not; a few hundred bytes each.
const REMEMBERED_HEADS: usize = 50_000;

/// What is known of hosted names. `None` for a name that is not hosted here.
///
/// On a directory this process is the only writer, so what is in here is always right: a change puts the new head in
/// before the next one may start.
#[derive(Debug)]
pub(super) struct HostedHeads {
    heads: Cache<PackageName, Option<Arc<Head>>>,
}

impl Default for HostedHeads {
    fn default() -> Self {
        Self { heads: Cache::new(REMEMBERED_HEADS) }
    }
}

impl Registry {
    /// The head of a hosted package, also of one that was unpublished; `None` when the name was never hosted.
    pub(super) async fn hosted_head(&self, name: &PackageName) -> Result<Option<Arc<Head>>, Error> {
        if let Some(head) = self.inner.heads.heads.get(name) {
            return Ok(head);
        }
        let _held = self.inner.documents.lock(name).await;
        if let Some(head) = self.inner.heads.heads.get(name) {
            return Ok(head);
        }
        let head = match self.inner.store.read(&keys::packument(name)).await {
            Ok(bytes) => {
                Some(Arc::new(self.off_thread(bytes.len(), move || Ok(HostedPackument::parse(&bytes)?.head())).await?))
            }
            Err(storage::Error::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        self.inner.heads.heads.insert(name.clone(), head.clone());
        Ok(head)
    }

    /// The head of a package that is here now, or "not found".
    pub(super) async fn existing_head(&self, name: &PackageName) -> Result<Arc<Head>, Error> {
        match self.hosted_head(name).await? {
            Some(head) if head.exists => Ok(head),
            _ => Err(Error::PackageNotFound(name.clone())),
        }
    }

    /// A hosted package's stored document.
    pub(super) async fn hosted_document(&self, name: &PackageName) -> Result<Bytes, Error> {
        match self.inner.store.read(&keys::packument(name)).await {
            Ok(bytes) => Ok(bytes),
            Err(storage::Error::NotFound) => Err(Error::PackageNotFound(name.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a hosted package: reads its document, applies a pure function to it, writes it, all or nothing, and
    /// remembers the new head. `change` gets `None` when the name was never hosted, returns the changed document and
    /// a value, or `None` in the document's place when nothing is to be written.
    ///
    /// Call it within [`Registry::to_the_end`].
    pub(super) async fn change_document<T: Send + 'static>(
        &self,
        name: &PackageName,
        change: impl for<'a> FnOnce(Option<HostedPackument<'a>>) -> Result<(Option<HostedPackument<'a>>, T), Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let held = self.inner.documents.lock(name).await;
        let now = self.inner.clock.now();
        let result = self
            .inner
            .store
            .update(&keys::packument(name), move |stored| {
                let current = stored.as_deref().map(HostedPackument::parse).transpose()?;
                let (changed, value) = change(current)?;
                let Some(document) = changed else { return Ok(Change::Keep((None, value))) };
                let bytes = document.into_stored(&random::id(), now)?;
                let head = HostedPackument::parse(&bytes)?.head();
                Ok::<_, Error>(Change::Write(bytes.into(), (Some(head), value)))
            })
            .await;
        match result {
            Ok((head, value)) => {
                if let Some(head) = head {
                    self.inner.heads.heads.insert(name.clone(), Some(Arc::new(head)));
                    self.inner.indexer.note(name.clone());
                }
                drop(held);
                Ok(value)
            }
            Err(error) => {
                // After an unclear answer nobody knows what is stored: look again next time.
                self.inner.heads.heads.remove(name);
                if matches!(error, UpdateError::Store(_)) {
                    self.inner.indexer.note(name.clone());
                }
                drop(held);
                Err(error.into())
            }
        }
    }

    /// As [`Registry::change_document`], for packages that must be there.
    pub(super) async fn change_existing<T: Send + 'static>(
        &self,
        name: &PackageName,
        change: impl FnOnce(&mut HostedPackument<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let missing = Error::PackageNotFound(name.clone());
        self.change_document(name, move |current| {
            let Some(mut document) = current.filter(|document| document.head().exists) else { return Err(missing) };
            let value = change(&mut document)?;
            Ok((Some(document), value))
        })
        .await
    }

    /// Refuses to change a package that is an upstream's, with an answer that says so.
    pub(super) async fn require_hosted(&self, name: &PackageName) -> Result<Arc<Head>, Error> {
        match self.existing_head(name).await {
            Err(Error::PackageNotFound(_)) if self.exists_upstream(name).await => Err(Error::NotHosted(name.clone())),
            other => other,
        }
    }
}
