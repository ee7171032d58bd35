//! Provenance that was published with a version: kept as it came, served as npm asks for it.
//!
//! What is checked here is that the statement speaks of this very package and tarball. Whether its signature is to be
//! believed is the reader's to check (`npm audit signatures`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Caller};
use crate::keys;
use crate::npm::packument::HostedPackument;
use crate::npm::{Digests, PackageName, Version};
use crate::storage::{self, Durability};

impl Registry {
    /// The attestations of a version, in the wire form of `GET /-/npm/v1/attestations/{name}@{version}`.
    pub async fn attestations(&self, caller: &Caller, name: &PackageName, version: &Version) -> Result<Bytes, Error> {
        let none = || Error::NoAttestations { name: name.clone(), version: version.to_string() };
        let Some(head) = self.hosted_head(name).await? else {
            self.authorize(caller, Action::Read, name, &[])?;
            let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Err(none()) };
            return Ok(upstream.attestations(name, version).await?);
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
