//! One object from one store to another: written under a condition, and read back.

use std::num::NonZeroU128;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::keys::{self, Key};
use crate::npm::integrity::Hasher;
use crate::npm::packument::HostedPackument;
use crate::npm::{Digests, PackageName, Version};
use crate::storage::{self, Change, Download, Durability, Existing, Store, UpdateError};

/// Objects up to here are moved in memory, in one conditional write; larger ones through a staged file.
pub(super) const IN_MEMORY_BYTES: u64 = 8 << 20;
/// Documents up to here are looked into, as far as a server serves them.
pub(super) const LARGEST_DOCUMENT_BYTES: u64 = 64 << 20;
/// How often a document is read anew whose tarballs go while it is moved.
const TRIES: usize = 5;

/// What stopped a move. What was done until then stays done.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// What is moved cannot be read.
    #[error("{what} cannot be read")]
    Source {
        /// An object, or the list of them.
        what: String,
        /// Why.
        source: storage::Error,
    },
    /// It cannot be written, or what is there not looked at.
    #[error("{what} of the store that is written to cannot be read or written")]
    Target {
        /// An object, or the list of them.
        what: String,
        /// Why.
        source: storage::Error,
    },
}

impl MoveError {
    pub(super) fn source(key: &Key) -> impl FnOnce(storage::Error) -> Self {
        move |source| Self::Source { what: format!("`{key}`"), source }
    }

    pub(super) fn target(key: &Key) -> impl FnOnce(storage::Error) -> Self {
        move |source| Self::Target { what: format!("`{key}`"), source }
    }

    pub(super) fn source_list(source: storage::Error) -> Self {
        Self::Source { what: "the list of objects".to_owned(), source }
    }

    pub(super) fn target_list(source: storage::Error) -> Self {
        Self::Target { what: "the list of objects".to_owned(), source }
    }
}

/// What a write finds under its key.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Empty,
    /// These bytes, which it is to replace.
    Taken(Digests),
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Put {
    /// It is there; `is_right` when reading it back gave the same bytes.
    Written { digests: Digests, is_right: bool },
    /// Somebody else has written there meanwhile.
    Beaten,
    /// The source has no such object any more.
    Gone,
}

/// The first 128 bits of what bytes hash to, to remember them by.
pub(super) fn fingerprint(digests: &Digests) -> Option<NonZeroU128> {
    u128::from_str_radix(&digests.short(), 16).ok().and_then(NonZeroU128::new)
}

/// The same of a key.
pub(super) fn fingerprint_of(key: &Key) -> Option<NonZeroU128> {
    fingerprint(&measure(key.as_str().as_bytes()))
}

pub(super) fn measure(bytes: &[u8]) -> Digests {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// Whether bytes are what the key says of them; true for keys that say nothing.
pub(super) fn is_as_key_says(key: &Key, digests: &Digests) -> bool {
    key.tarball_digest().is_none_or(|digest| digest == digests.short())
}

/// Reads an object and hashes it, in pieces.
///
/// # Errors
/// [`storage::Error::NotFound`] when there is none.
pub(super) async fn digests_of(store: &Store, key: &Key) -> Result<Digests, storage::Error> {
    let mut hasher = Hasher::default();
    let mut pieces = Box::pin(store.open_object(key).await?.stream_all());
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
    }
    Ok(hasher.finish())
}

/// All of a small object.
pub(super) async fn collect(download: &Download) -> Result<Bytes, storage::Error> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(download.size_bytes()).unwrap_or(0));
    let mut pieces = Box::pin(download.stream_all());
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Moves an object's bytes. A small one is written only if the place is as it was seen. Of a large one that is looked at
/// right before, since parts are put together without a condition. Durable when it returns.
pub(super) async fn put(from: &Store, to: &Store, key: &Key, place: &Place) -> Result<Put, MoveError> {
    let download = match from.open_object(key).await {
        Err(storage::Error::NotFound) => return Ok(Put::Gone),
        opened => opened.map_err(MoveError::source(key))?,
    };
    if download.size_bytes() <= IN_MEMORY_BYTES {
        let bytes = collect(&download).await.map_err(MoveError::source(key))?;
        return put_bytes(to, key, bytes, place).await;
    }
    let mut upload = to.upload().await.map_err(MoveError::target(key))?;
    let (mut hasher, mut pieces) = (Hasher::default(), Box::pin(download.stream_all()));
    while let Some(piece) = pieces.try_next().await.map_err(MoveError::source(key))? {
        hasher.update(&piece);
        upload.write(piece).await.map_err(MoveError::target(key))?;
    }
    let existing = match place {
        Place::Empty => Existing::Refuse,
        Place::Taken(_) => Existing::Replace,
    };
    match upload.keep(key, existing, Durability::Synced).await {
        Err(storage::Error::Exists) => Ok(Put::Beaten),
        kept => {
            kept.map_err(MoveError::target(key))?;
            read_back(to, key, hasher.finish()).await
        }
    }
}

/// As [`put`], of bytes that are at hand.
pub(super) async fn put_bytes(to: &Store, key: &Key, bytes: Bytes, place: &Place) -> Result<Put, MoveError> {
    let digests = measure(&bytes);
    match place {
        Place::Empty => match to.create(key, bytes).await {
            Err(storage::Error::Exists) => return Ok(Put::Beaten),
            created => created.map_err(MoveError::target(key))?,
        },
        Place::Taken(seen) => {
            let seen = seen.clone();
            let replace = move |stored: Option<Bytes>| match stored {
                Some(stored) if measure(&stored) == seen => Ok(Change::Write(bytes, ())),
                _ => Err(()),
            };
            match to.update(key, replace).await {
                Ok(()) => {}
                Err(UpdateError::Refused(())) => return Ok(Put::Beaten),
                Err(UpdateError::Store(error)) => return Err(MoveError::target(key)(error)),
            }
        }
    }
    read_back(to, key, digests).await
}

async fn read_back(to: &Store, key: &Key, digests: Digests) -> Result<Put, MoveError> {
    let is_right = match digests_of(to, key).await {
        Ok(stored) => stored == digests,
        Err(storage::Error::NotFound) => false,
        Err(error) => return Err(MoveError::target(key)(error)),
    };
    Ok(Put::Written { digests, is_right })
}

/// An object that a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) key: Key,
    /// The document is of no use without it. What an older system's document names may lie in it, or nowhere.
    pub(super) is_needed: bool,
}

/// A document, read at a moment when all that it names had been moved.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    /// What it names and the source does not have.
    pub(super) missing: Vec<Key>,
    /// It is no document; it is moved as it is.
    pub(super) is_unreadable: bool,
}

/// Reads a document and has `bring` move all that it names, which says whether the source has it. What was unpublished
/// meanwhile is gone from the document too, so that is read anew. `None` when there is no document any more.
pub(super) async fn document<E>(
    from: &Store,
    key: &Key,
    bring: &mut impl AsyncFnMut(Named) -> Result<bool, E>,
) -> Result<Option<Document>, E>
where
    E: From<MoveError>,
{
    let read = async || match from.read(key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(storage::Error::NotFound) => Ok(None),
        Err(error) => Err(MoveError::source(key)(error)),
    };
    let Some(mut bytes) = read().await? else { return Ok(None) };
    let mut tries = 0;
    loop {
        let Some(named) = named(key, &bytes).await else {
            return Ok(Some(Document { bytes, missing: Vec::new(), is_unreadable: true }));
        };
        let mut missing = Vec::new();
        for one in named {
            let (key, is_needed) = (one.key.clone(), one.is_needed);
            if !bring(one).await? && is_needed {
                missing.push(key);
            }
        }
        tries += 1;
        if missing.is_empty() || tries == TRIES {
            return Ok(Some(Document { bytes, missing, is_unreadable: false }));
        }
        let Some(again) = read().await? else { return Ok(None) };
        if again == bytes {
            return Ok(Some(Document { bytes, missing, is_unreadable: false }));
        }
        bytes = again;
    }
}

/// What a document names; `None` when it cannot be read.
async fn named(key: &Key, bytes: &Bytes) -> Option<Vec<Named>> {
    let (key, bytes) = (key.clone(), bytes.clone());
    let look = move || match key.packument_name() {
        Some(name) => named_by_packument(&name, &bytes),
        None => named_by_pointer(&bytes),
    };
    // Documents of megabytes are parsed in there.
    spawn_blocking(look).await.ok().flatten()
}

fn named_by_packument(name: &PackageName, bytes: &[u8]) -> Option<Vec<Named>> {
    let document = HostedPackument::parse(bytes).ok()?;
    // The tarballs of a copy are where the original is.
    let has_own = !document.head().is_copy;
    let mut named = Vec::new();
    for (number, manifest) in document.versions() {
        match (document.tarball_digest(number), number.parse::<Version>()) {
            (Some(digest), Ok(version)) => {
                named.push(Named { key: keys::tarball(name, &version, digest), is_needed: true });
                if manifest.get().contains("\"attestations\"") {
                    named.push(Named { key: keys::attestations(name, &version, digest), is_needed: false });
                }
            }
            (None, _) if has_own => {
                let key = keys::legacy_tarball(name, number);
                named.extend(key.map(|key| Named { key, is_needed: false }));
            }
            _ => {}
        }
    }
    Some(named)
}

fn named_by_pointer(bytes: &[u8]) -> Option<Vec<Named>> {
    #[derive(Deserialize)]
    struct Pointer {
        fingerprint: String,
    }
    let pointer: Pointer = serde_json::from_slice(bytes).ok()?;
    let is_hash = pointer.fingerprint.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let key = is_hash.then(|| keys::advisories_index(&pointer.fingerprint));
    Some(key.into_iter().map(|key| Named { key, is_needed: false }).collect())
}
