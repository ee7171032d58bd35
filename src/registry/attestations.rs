//! Provenance that was published with a version: kept as it came, served as npm asks for it.
//!
//! What is checked here is that the statement speaks of this very package and tarball. Whether its signature is to be
//! believed is the reader's to check (`npm audit signatures`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quick_cache::Weighter;
use serde_json::{Value, json};

use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::{Digests, PackageName, Timestamp, Version};
use crate::storage::{self, Durability};
use crate::upstream::{self, Upstream};

/// Of which version of which upstream's package.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AttestationsKey {
    upstream: Box<str>,
    name: PackageName,
    version: String,
}

/// What an upstream said of the attestations of a version.
#[derive(Debug, Clone)]
pub(super) struct RememberedAttestations {
    /// `None` where it has none.
    answer: Option<Bytes>,
    at: Timestamp,
}

impl RememberedAttestations {
    /// For how long it holds. A version that has none may get some: publishers add them a little later.
    fn lasts(&self) -> Duration {
        Duration::from_hours(if self.answer.is_some() { 24 } else { 1 })
    }
}

/// Counts the bytes and a flat sum for the entry itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByAnswer;

impl Weighter<AttestationsKey, RememberedAttestations> for ByAnswer {
    fn weight(&self, key: &AttestationsKey, remembered: &RememberedAttestations) -> u64 {
        (key.version.len() + remembered.answer.as_ref().map_or(0, Bytes::len) + 256) as u64
    }
}

impl Registry {
    /// The attestations of a version, in the wire form of `GET /-/npm/v1/attestations/{name}@{version}`.
    pub async fn attestations(&self, caller: &Caller, name: &PackageName, version: &Version) -> Result<Bytes, Error> {
        let none = || Error::NoAttestations { name: name.clone(), version: version.to_string() };
        let Some(head) = self.hosted_head(name).await? else {
            self.authorize(caller, Action::Read, name, &[])?;
            let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Err(none()) };
            return self.upstream_attestations(upstream, name, version).await;
        };
        self.authorize(caller, Action::Read, name, &head.owners)?;
        let stored = self.hosted_document(name).await?;
        let number = version.to_string();
        let digest = self
            .off_thread(stored.len(), move || {
                Ok(HostedPackument::parse(&stored)?.tarball_digest(&number).map(ToOwned::to_owned))
            })
            .await?;
        let key = keys::attestations(name, version, &digest.ok_or_else(none)?);
        let bundle = match self.inner.store.read(&key).await {
            Err(storage::Error::NotFound) => return Err(none()),
            other => other?,
        };
        let bundle: Value = serde_json::from_slice(&bundle).map_err(|_| Error::Damaged)?;
        let answer = json!({ "attestations": [{ "predicateType": predicate_type(&bundle), "bundle": bundle }] });
        Ok(answer.to_string().into())
    }

    /// What an upstream says, asked again after hours only, and remembered where it cannot be asked: a version's attestations
    /// hardly ever change, and pnpm 12 asks about every version of every installation.
    async fn upstream_attestations(
        &self,
        upstream: &Upstream,
        name: &PackageName,
        version: &Version,
    ) -> Result<Bytes, Error> {
        let key =
            AttestationsKey { upstream: upstream.name().into(), name: name.clone(), version: version.to_string() };
        let (known, now) = (self.inner.attestations.get(&key), self.inner.clock.now());
        let answer = match known {
            Some(known) if now.since(known.at) < known.lasts() && known.at <= now => known.answer,
            _ => match upstream.attestations(name, version).await {
                Ok(answer) => self.remember_attestations(key, Some(answer), now),
                Err(upstream::Error::NotFound) => self.remember_attestations(key, None, now),
                Err(error) => known.ok_or(error)?.answer,
            },
        };
        Ok(answer.ok_or(upstream::Error::NotFound)?)
    }

    fn remember_attestations(&self, key: AttestationsKey, answer: Option<Bytes>, at: Timestamp) -> Option<Bytes> {
        self.inner.attestations.insert(key, RememberedAttestations { answer: answer.clone(), at });
        answer
    }

    /// Keeps a bundle before its version is committed. The digest in the key makes a repeated try write the same place.
    pub(super) async fn keep_attestations(
        &self,
        name: &PackageName,
        version: &Version,
        digest: &str,
        bundle: &Value,
    ) -> Result<(), Error> {
        let key = keys::attestations(name, version, digest);
        Ok(self.inner.store.put(&key, bundle.to_string().into(), Durability::Synced).await?)
    }
}

/// The in-toto statement inside a Sigstore bundle's envelope.
fn statement(bundle: &Value) -> Option<Value> {
    let payload = bundle.pointer("/dsseEnvelope/payload")?.as_str()?;
    serde_json::from_slice(&STANDARD.decode(payload).ok()?).ok()
}

/// What kind of statement a bundle makes, such as `https://slsa.dev/provenance/v1`.
pub(super) fn predicate_type(bundle: &Value) -> Option<String> {
    statement(bundle)?.get("predicateType")?.as_str().map(ToOwned::to_owned)
}

/// Refuses a bundle that speaks of another package, version or tarball.
pub(super) fn check_subject(
    bundle: &Value,
    name: &PackageName,
    version: &Version,
    digests: &Digests,
) -> Result<(), Error> {
    let unreadable = Error::Invalid("the provenance bundle holds no statement that can be read");
    let statement = statement(bundle).ok_or(unreadable)?;
    let purl = format!("pkg:npm/{}@{version}", name.as_str().replacen('@', "%40", 1));
    let sha512 = digests.sha512_hex();
    let is_subject = |subject: &Value| {
        subject.get("name").and_then(Value::as_str) == Some(&purl)
            && subject.pointer("/digest/sha512").and_then(Value::as_str) == Some(&sha512)
    };
    let subjects = statement.get("subject").and_then(Value::as_array);
    if subjects.is_some_and(|subjects| subjects.iter().any(is_subject)) {
        Ok(())
    } else {
        Err(Error::Invalid("the provenance bundle speaks of another package, version or tarball"))
    }
}
