//! What a package's document adds to an event, as it is when the event is told.

use bytes::Bytes;

use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::{Form, PackageName, render};
use crate::storage::{self, Store};

/// As much of a document as the registry itself serves.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Reads the documents of hosted packages. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Documents {
    store: Store,
    base: String,
}

impl Documents {
    /// `base` is this registry's address, for those of tarballs.
    pub(super) fn new(store: Store, base: &str) -> Self {
        Self { store, base: base.trim_end_matches('/').to_owned() }
    }

    /// The stored document. `None` where the package is gone since, or its document is nothing to be sent on.
    ///
    /// # Errors
    /// The store's failure.
    pub(super) async fn stored(&self, name: &str) -> Result<Option<Bytes>, storage::Error> {
        let Ok(name) = name.parse::<PackageName>() else { return Ok(None) };
        match self.store.snapshot_unless(&keys::packument(&name), None, MAX_DOCUMENT_BYTES).await {
            Ok(snapshot) => Ok(snapshot.map(|snapshot| snapshot.bytes)),
            Err(storage::Error::NotFound | storage::Error::TooLarge) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Who owns a package; of one that was removed, who owned it last. Nobody where its document cannot be read.
    ///
    /// # Errors
    /// As [`Documents::stored`].
    pub(super) async fn owners(&self, name: &str) -> Result<Vec<String>, storage::Error> {
        let stored = self.stored(name).await?;
        let document = stored.as_deref().and_then(|stored| HostedPackument::parse(stored).ok());
        Ok(document.map(|document| document.head().owners).unwrap_or_default())
    }

    /// The document as everybody who may read it gets it.
    ///
    /// # Errors
    /// As [`Documents::stored`].
    pub(super) async fn public(&self, name: &str) -> Result<Option<Vec<u8>>, storage::Error> {
        let Some(stored) = self.stored(name).await? else { return Ok(None) };
        let Ok(name) = name.parse::<PackageName>() else { return Ok(None) };
        let links = render::Links { base: &self.base, name: &name };
        Ok(render::hosted_packument(&stored, Form::Full, links, None).ok())
    }
}
