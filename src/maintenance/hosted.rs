//! A hosted package and the objects that belong to it: what its document names, and what of that is there.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Finding;
use super::finding::Code;
use crate::keys::{self, Key};
use crate::npm::packument::HostedPackument;
use crate::npm::{Integrity, PackageName, RawObject, Version};
use crate::storage::{self, Store};

/// As the server has it: a larger document is not served.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// A package's document as it was read.
pub(super) enum Document {
    /// There is none.
    None,
    /// It is there, and nothing can be said of what it names.
    Unknown(Code),
    /// Its bytes, which are a document.
    Read(Bytes),
}

/// Reads a package's document.
pub(super) async fn document(store: &Store, name: &PackageName) -> Result<Document, storage::Error> {
    match store.snapshot_unless(&keys::packument(name), None, MAX_DOCUMENT_BYTES).await {
        Ok(Some(found)) if HostedPackument::parse(&found.bytes).is_ok() => Ok(Document::Read(found.bytes)),
        Ok(_) => Ok(Document::Unknown(Code::DamagedDocument)),
        Err(storage::Error::TooLarge) => Ok(Document::Unknown(Code::DocumentTooLarge)),
        Err(storage::Error::NotFound) => Ok(Document::None),
        Err(error) => Err(error),
    }
}

/// A tarball that a document names.
#[derive(Debug)]
pub(super) struct Named {
    /// The version's number, as the document spells it.
    pub(super) number: String,
    /// Where the tarball lies.
    pub(super) tarball: Key,
    /// Where the provenance bundle lies, if there is one.
    pub(super) attestations: Option<Key>,
    /// The document says that there is one.
    pub(super) has_attestations: bool,
    /// What stands in the tarball's key for its digest.
    pub(super) digest: Option<String>,
    /// What the document says of the bytes; each has to be right.
    pub(super) claims: Vec<Integrity>,
}

/// All tarballs that a document names, and what is to be said of versions that are none. Without the tarballs of a copy of
/// another registry's document, which are there.
pub(super) fn named(name: &PackageName, document: &HostedPackument<'_>) -> (Vec<Named>, Vec<Finding>) {
    let (mut all, mut findings) = (Vec::new(), Vec::new());
    let is_copy = document.head().is_copy;
    for (number, raw) in document.versions() {
        let digest = document.tarball_digest(number).map(ToOwned::to_owned);
        if digest.is_none() && is_copy {
            continue;
        }
        let damaged = || Finding::new(Code::DamagedVersion, &keys::packument(name)).part(number);
        let Some(version) = RawObject::from_raw(raw) else {
            findings.push(damaged());
            continue;
        };
        let (integrity, shasum, has_attestations) = version.object("dist").map_or((None, None, false), |dist| {
            (dist.text("integrity"), dist.text("shasum"), dist.get("attestations").is_some())
        });
        let integrity = integrity.as_deref().and_then(Integrity::parse);
        let claims: Vec<Integrity> =
            integrity.into_iter().chain(shasum.as_deref().and_then(Integrity::from_shasum)).collect();
        let parsed = number.parse::<Version>().ok();
        let (tarball, attestations) = match (&digest, &parsed) {
            (Some(digest), Some(version)) => {
                (Some(keys::tarball(name, version, digest)), Some(keys::attestations(name, version, digest)))
            }
            (Some(_), None) => (None, None),
            (None, _) => (keys::legacy_tarball(name, number), None),
        };
        let has_own_number = version.text("version").is_none_or(|own| own == number);
        // Older systems wrote numbers as they came, and no digests.
        if tarball.is_none() || (digest.is_some() && (claims.is_empty() || !has_own_number)) {
            findings.push(damaged());
        }
        let number = number.to_owned();
        all.extend(tarball.map(|tarball| Named { number, tarball, attestations, has_attestations, digest, claims }));
    }
    (all, findings)
}

/// The keys of all tarballs and bundles that a document names.
pub(super) fn named_keys(name: &PackageName, document: &HostedPackument<'_>) -> BTreeSet<Key> {
    let (named, _) = named(name, document);
    named.into_iter().flat_map(|named| std::iter::once(named.tarball).chain(named.attestations)).collect()
}
