//! Publishing a version.
//!
//! The body is read as a stream: the tarball is decoded, hashed and staged on the way, the document is kept. Then:
//! check, keep the tarball under a key with its digest, commit the packument. The last write is the publication; a
//! crash before it leaves a tarball that nobody knows, and a repeated request succeeds.

use std::io::Read;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::source::Route;
use super::{Error, Registry};
use crate::auth::{Action, Author, Caller};
use crate::events::Kind;
use crate::keys;
use crate::npm::integrity::Hasher;
use crate::npm::packument::{self, Head, HostedPackument, Publication};
use crate::npm::publish_body::{SplitBody, Splitter};
use crate::npm::tarball::{self, Inspection, TarballError};
use crate::npm::{Digests, DistTag, PackageName, Timestamp, Version, manifest, raw};
use crate::random;
use crate::storage::{self, Durability, Existing, Upload};
use crate::traces;

/// Decoded bytes are handed to the disk in pieces of at least this size.
const STAGE_BYTES: usize = 256 * 1024;
/// Bytes of bodies that are decoded and hashed before other requests on this thread have their turn: a quarter of a
/// millisecond.
const TURN_BYTES: usize = 64 * 1024;
/// Values in a publish document: what npm 6 sends again after a conflict has all old versions in it.
const MAX_VALUES: usize = 1_000_000;
/// A version's manifest in the packument.
const MAX_VERSION_BYTES: usize = 1024 * 1024;
/// How long after its tarball a version may be committed: well within the time for which `holdfast gc` leaves alone what
/// no document names.
const COMMIT_WITHIN: Duration = Duration::from_hours(1);
/// What npm writes when a package has no readme.
const NO_README: &str = "ERROR: No README data found!";

/// What came of a request to `PUT /{name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// A new version is durable and visible to all.
    Version(Version),
    /// The body had no tarball; it changed something about versions that are there.
    Metadata,
}

/// A publish body that is arriving. Dropping it leaves nothing behind.
pub struct Intake {
    registry: Registry,
    author: Author,
    caller: Caller,
    name: PackageName,
    splitter: Splitter,
    hasher: Hasher,
    decoded: Vec<u8>,
    /// Taken in since others had their turn.
    in_turn: usize,
    upload: Option<Upload>,
    /// The upload that the tarball came by, when it is not in the body.
    uploaded: Option<String>,
}

/// The part of a publish document that is looked at here.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "_id")]
    id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    versions: Map<String, Value>,
    #[serde(rename = "dist-tags", default)]
    dist_tags: Map<String, Value>,
    #[serde(default)]
    readme: Value,
    #[serde(rename = "_attachments", default)]
    attachments: Map<String, Value>,
}

/// A tarball that has arrived, with what was found in it.
struct Staged {
    upload: Upload,
    digests: Digests,
    inspection: Inspection,
}

impl Registry {
    /// Starts to read a publish or metadata body, if the caller may change the package at all.
    pub fn intake(&self, caller: &Caller, name: &PackageName) -> Result<Intake, Error> {
        self.intake_with(caller, name, None)
    }

    /// Starts to read the document for a tarball that was uploaded before: as a publish body, without the tarball's data.
    pub fn intake_of_upload(&self, caller: &Caller, name: &PackageName, id: String) -> Result<Intake, Error> {
        self.intake_with(caller, name, Some(id))
    }

    fn intake_with(&self, caller: &Caller, name: &PackageName, uploaded: Option<String>) -> Result<Intake, Error> {
        // Whether the change is a publish, a deprecation or a star shows only in the body; somebody who is known is needed
        // for each, and the rules are asked again at the commit.
        let author = self.authorize_changing(caller, name)?;
        Ok(Intake {
            registry: self.clone(),
            author,
            caller: caller.clone(),
            name: name.clone(),
            splitter: Splitter::new(self.terms.limits.body),
            hasher: Hasher::default(),
            decoded: Vec::new(),
            in_turn: 0,
            upload: None,
            uploaded,
        })
    }
}

impl Intake {
    /// Takes the next piece of the body.
    pub async fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        for piece in chunk.chunks(TURN_BYTES) {
            let before = self.decoded.len();
            self.splitter.push(piece, &mut self.decoded)?;
            self.hasher.update(&self.decoded[before..]);
            if self.decoded.len() >= STAGE_BYTES {
                self.stage().await?;
            }
            self.in_turn += piece.len();
            if self.in_turn >= TURN_BYTES {
                self.in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn stage(&mut self) -> Result<(), Error> {
        let bytes = std::mem::take(&mut self.decoded);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(self.registry.inner.store.upload().await?),
        };
        Ok(upload.write(bytes.into()).await?)
    }

    /// The body has ended: checks everything and commits. Durable and visible when it returns.
    pub async fn finish(mut self) -> Result<Published, Error> {
        let splitter = std::mem::replace(&mut self.splitter, Splitter::new(self.registry.terms.limits.body));
        let SplitBody { document, tarball } = splitter.finish()?;
        match (&tarball, &self.uploaded) {
            (Some(_), None) => self.stage().await?,
            (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                return Err(Error::Invalid("the tarball was uploaded, and must not be in the body too"));
            }
            (None, None) => {
                self.registry.change_metadata(&self.caller, &self.name, document.into(), None).await?;
                return Ok(Published::Metadata);
            }
        }
        let registry = self.registry.clone();
        registry.to_the_end(self.commit(document, tarball.map(|attachment| attachment.key))).await
    }

    /// `attachment` is the key of the tarball that came in the body.
    async fn commit(self, document: Vec<u8>, attachment: Option<String>) -> Result<Published, Error> {
        let Self { registry, author, caller, name, hasher, upload, uploaded, .. } = self;
        let document = registry.off_thread(document.len(), move || Document::parse(&document)).await?;
        let attachment = attachment.map_or_else(|| document.tarball_key(), Ok)?;
        let (version, tag, published) = document.new_version(&name, &attachment)?;
        let others = document.other_versions(&version);
        let checked = registry.check_may_publish(&caller, &name, &version, others);
        let action = traces::step("publish", "check", checked).await?;
        if let Some(id) = &uploaded {
            registry.require_upload(&caller, &name, id).await?;
        }
        registry.confirmed(&caller, action, &name).await?;

        let (upload, digests) = match &uploaded {
            Some(id) => registry.take_upload(id).await?,
            None => (upload.ok_or(Error::Invalid("the tarball is empty"))?, hasher.finish()),
        };
        let mut staged = traces::step("publish", "inspect", registry.inspect(upload, digests)).await?;
        document.check_length(&attachment, staged.digests.size_bytes)?;
        check_hashes(&published, &staged.digests)?;
        if let Some(field) = manifest::disagreement(&published, &staged.inspection.manifest) {
            return Err(Error::Disagreement { field: field.to_string() });
        }
        let bundle = document.provenance(&name, &version, &staged.digests)?;
        let readme =
            document.readme(&published).or_else(|| staged.inspection.readme.as_ref().map(|readme| readme.text.clone()));
        let manifest = public_manifest(&name, &version, published, &staged, &author, bundle.as_ref());
        if serde_json::to_vec(&manifest).map_or(usize::MAX, |text| text.len()) > MAX_VERSION_BYTES {
            return Err(Error::Invalid("the version's manifest is larger than 1 MiB, which every reader would load"));
        }
        let commit_until = registry.inner.clock.now().plus(COMMIT_WITHIN);
        let digest = staged.keep(&name, &version).await?;
        if let Some(bundle) = bundle {
            registry.keep_attestations(&name, &version, &digest, &bundle).await?;
        }
        let publication = Publication {
            version: version.clone(),
            manifest,
            tag,
            publisher: author.owner,
            readme,
            tarball_digest: digest,
        };
        let committed = registry.commit_version(&caller, &name, publication, commit_until);
        traces::step("publish", "commit", committed).await?;
        if let Some(id) = &uploaded {
            registry.discard_upload(id).await;
        }
        Ok(Published::Version(version))
    }
}

impl Staged {
    /// Gives the tarball a key that nobody has named yet, and returns what stands in it for the digest. Where these bytes
    /// lie already, from an earlier try that came to nothing, they get another key: what no document names may be removed
    /// at any moment, and what this publish has written itself may not.
    async fn keep(&mut self, name: &PackageName, version: &Version) -> Result<String, storage::Error> {
        let digest = self.digests.short();
        match self.upload.keep(&keys::tarball(name, version, &digest), Existing::Refuse, Durability::Synced).await {
            Err(storage::Error::Exists) => {}
            outcome => return outcome.map(|()| digest),
        }
        let digest = format!("{digest}{}", random::id());
        self.upload.keep(&keys::tarball(name, version, &digest), Existing::Refuse, Durability::Synced).await?;
        Ok(digest)
    }
}

impl Registry {
    /// What can be refused before the tarball is looked at. `others` are further versions of the document: npm 6 sends
    /// the old ones again after a conflict, and nobody may bring in a new one without its tarball. Returns what it is that
    /// a person may have to confirm.
    pub(super) async fn check_may_publish(
        &self,
        caller: &Caller,
        name: &PackageName,
        version: &Version,
        others: Vec<String>,
    ) -> Result<Action, Error> {
        const TWO_NEW: Error = Error::Invalid("the document must bring exactly one new version");
        if let Some(head) = self.hosted_head(name).await? {
            let action = if head.exists { Action::Publish } else { Action::Create };
            self.authorize(caller, action, name, &head.owners)?;
            let stored = self.hosted_document(name).await?;
            let (is_taken, others_are_old) = self
                .off_thread(stored.len(), {
                    let number = version.to_string();
                    move || {
                        if others.is_empty() && !packument::may_name(&stored, &number) {
                            return Ok((false, true));
                        }
                        let document = HostedPackument::parse(&stored)?;
                        let others_are_old = others.iter().all(|number| document.was_published(number));
                        Ok((document.was_published(&number), others_are_old))
                    }
                })
                .await?;
            if is_taken {
                return Err(Error::VersionExists { name: name.clone(), version: version.clone() });
            }
            if !others_are_old {
                return Err(TWO_NEW);
            }
            if head.is_copy {
                // The original lives on where it was copied from.
                self.require_free_upstream(name).await?;
            }
            return Ok(action);
        }
        if !others.is_empty() {
            return Err(TWO_NEW);
        }
        self.authorize(caller, Action::Create, name, &[])?;
        name.check_new()?;
        let collision = {
            let in_use = self.names_in_use().await?.read().unwrap_or_else(PoisonError::into_inner);
            in_use.iter().find(|other| other.eq_ignore_ascii_case(name.as_str()) && *other != name.as_str()).cloned()
        };
        if let Some(other) = collision {
            return Err(Error::NameCollides { name: name.clone(), other });
        }
        self.require_free_upstream(name).await?;
        Ok(Action::Create)
    }

    /// A new name must not hide a public one. When the upstream cannot say, the answer is no: "perhaps" is how dependency
    /// confusion begins.
    async fn require_free_upstream(&self, name: &PackageName) -> Result<(), Error> {
        let Route::Upstream(upstream) = self.terms.sources.route(name) else { return Ok(()) };
        match self.vouched_document(upstream, name, crate::npm::Form::Abbreviated).await {
            Ok(_) => Err(Error::NameTakenUpstream(name.clone())),
            Err(Error::PackageNotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn inspect(&self, mut upload: Upload, digests: Digests) -> Result<Staged, Error> {
        let limits = self.terms.limits.tarball;
        let inspection = upload
            .inspect(move |reader: &mut dyn Read| tarball::inspect(std::io::BufReader::new(reader), &limits))
            .await?
            .map_err(|error| match error {
                // The disk's fault, not the tarball's.
                TarballError::Read(error) => Error::Storage(error.into()),
                other => other.into(),
            })?;
        Ok(Staged { upload, digests, inspection })
    }

    async fn commit_version(
        &self,
        caller: &Caller,
        name: &PackageName,
        publication: Publication,
        until: Timestamp,
    ) -> Result<(), Error> {
        let published =
            self.event(Kind::Publish, caller, name).version(&publication.version).with("tag", publication.tag.as_str());
        let (this, caller, package) = (self.clone(), caller.clone(), name.clone());
        let now = self.inner.clock.now();
        self.change_document(name, move |current| {
            let mut document = current.unwrap_or_else(|| HostedPackument::new(&package, now));
            let Head { owners, exists, .. } = document.head();
            let action = if exists { Action::Publish } else { Action::Create };
            this.authorize(&caller, action, &package, &owners)?;
            if this.inner.clock.now() > until {
                // This process stood still, and the tarball may have been removed.
                return Err(Error::Interrupted);
            }
            if document.was_published(&publication.version.to_string()) {
                // It was free when this request began.
                return Err(Error::LostRace { name: package, version: publication.version });
            }
            document.publish(&publication, now)?;
            Ok((Some(document), ()))
        })
        .await?;
        self.note_name_in_use(name);
        self.write_down(published).await
    }
}

impl Document {
    fn parse(document: &[u8]) -> Result<Self, Error> {
        if raw::weight(document) > MAX_VALUES {
            return Err(Error::Invalid("the document has more values than any package needs"));
        }
        serde_json::from_slice(document).map_err(|_| Error::Invalid("the body is not a publish document"))
    }

    /// The one new version of the document, with its tag, checked for everything that needs no tarball.
    fn new_version(
        &self,
        name: &PackageName,
        attachment: &str,
    ) -> Result<(Version, DistTag, Map<String, Value>), Error> {
        let matches = |text: &Option<String>| text.as_deref().is_none_or(|text| text == name.as_str());
        if self.name.is_none() || !matches(&self.name) || !matches(&self.id) {
            return Err(Error::Invalid("the name in the document is not the name in the URL"));
        }
        let mut tags = self.dist_tags.iter();
        let (Some((tag, target)), None) = (tags.next(), tags.next()) else {
            // npm 6 sends the whole document again after a conflict; then the attachment's name says which is new.
            return self.version_of_attachment(name, attachment);
        };
        let target = target.as_str().ok_or(Error::Invalid("a tag must name a version"))?;
        let published = self.version_object(target)?;
        let version = check_version(name, target, published)?;
        if !names_version(name, attachment, target) {
            return Err(Error::Invalid("the attachment is not named after the package and version"));
        }
        Ok((version, tag.parse()?, published.clone()))
    }

    /// For a document with several versions and tags: the version that the attachment belongs to, and its tag.
    fn version_of_attachment(
        &self,
        name: &PackageName,
        attachment: &str,
    ) -> Result<(Version, DistTag, Map<String, Value>), Error> {
        if self.dist_tags.is_empty() {
            return Err(Error::Invalid("the document has no dist-tag for the new version"));
        }
        let mut candidates = self.versions.keys().filter(|number| names_version(name, attachment, number));
        let number = candidates.next().ok_or(Error::Invalid("the attachment belongs to no version of the document"))?;
        let published = self.version_object(number)?;
        let version = check_version(name, number, published)?;
        let tag = self.dist_tags.iter().find(|(_, target)| target.as_str() == Some(number));
        let (tag, _) = tag.ok_or(Error::Invalid("the document has no dist-tag for the new version"))?;
        Ok((version, tag.parse()?, published.clone()))
    }

    /// The numbers of all versions but the new one.
    fn other_versions(&self, version: &Version) -> Vec<String> {
        let is_new = |number: &str| number.parse::<Version>().is_ok_and(|parsed| parsed == *version);
        self.versions.keys().filter(|number| !is_new(number)).cloned().collect()
    }

    fn version_object(&self, number: &str) -> Result<&Map<String, Value>, Error> {
        let version = self.versions.get(number).ok_or(Error::Invalid("the tag names a version that is not there"))?;
        version.as_object().ok_or(Error::Invalid("a version must be an object"))
    }

    /// The key of the one tarball whose data are elsewhere.
    fn tarball_key(&self) -> Result<String, Error> {
        let mut keys = self.attachments.keys().filter(|key| key.as_bytes().ends_with(b".tgz"));
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(Error::Invalid("`_attachments` must have exactly one tarball"));
        };
        Ok(key.clone())
    }

    fn check_length(&self, attachment: &str, size_bytes: u64) -> Result<(), Error> {
        let claimed = self.attachments.get(attachment).and_then(|found| found.get("length"));
        match claimed.map(Value::as_u64) {
            None => Ok(()),
            Some(length) if length == Some(size_bytes) => Ok(()),
            Some(_) => Err(Error::Invalid("the attachment's `length` is not its length")),
        }
    }

    fn readme(&self, published: &Map<String, Value>) -> Option<String> {
        let texts = [published.get("readme").and_then(Value::as_str), self.readme.as_str()];
        texts.into_iter().flatten().find(|text| !text.is_empty() && *text != NO_README).map(ToOwned::to_owned)
    }

    /// The provenance bundle that came along, if its subject is this very tarball.
    fn provenance(&self, name: &PackageName, version: &Version, digests: &Digests) -> Result<Option<Value>, Error> {
        let Some(attachment) = self.attachments.iter().find(|(key, _)| key.ends_with(".sigstore")) else {
            return Ok(None);
        };
        let text = attachment.1.get("data").and_then(Value::as_str).unwrap_or_default();
        let bundle = serde_json::from_str(text).map_err(|_| Error::Invalid("the provenance bundle is not JSON"))?;
        super::attestations::check_subject(&bundle, name, version, digests)?;
        Ok(Some(bundle))
    }
}

/// The attachment of `@scope/name` is called `@scope/name-1.0.0.tgz` by most, `name-1.0.0.tgz` by some.
fn names_version(name: &PackageName, key: &str, number: &str) -> bool {
    let with =
        |stem: &str| key.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')) == Some(&format!("{number}.tgz"));
    with(name.as_str()) || with(name.basename())
}

fn check_version(name: &PackageName, number: &str, published: &Map<String, Value>) -> Result<Version, Error> {
    let version: Version = number.parse().map_err(|_| Error::BadVersion(number.to_owned()))?;
    if published.get("name").and_then(Value::as_str) != Some(name.as_str()) {
        return Err(Error::Invalid("the version's `name` is not the package's name"));
    }
    let own = published.get("version").and_then(Value::as_str).and_then(|text| text.parse::<Version>().ok());
    if own.as_ref() != Some(&version) {
        return Err(Error::Invalid("the version's `version` is not the number it stands under"));
    }
    if published.get("private") == Some(&Value::Bool(true)) {
        return Err(Error::Invalid("a package with `\"private\": true` in its package.json is not to be published"));
    }
    Ok(version)
}

/// What the document claims of the bytes must be so; at least one claim must be there.
fn check_hashes(published: &Map<String, Value>, digests: &Digests) -> Result<(), Error> {
    let claim = |key: &str| published.get("dist").and_then(|dist| dist.get(key)).and_then(Value::as_str);
    let (integrity, shasum) = (claim("integrity"), claim("shasum"));
    if integrity.is_none() && shasum.is_none() {
        return Err(Error::Invalid("the version's `dist` has neither integrity nor shasum"));
    }
    if let Some(text) = integrity {
        let parsed = crate::npm::Integrity::parse(text);
        if parsed.and_then(|integrity| integrity.matches(digests)) != Some(true) {
            return Err(Error::Invalid("the tarball does not match `dist.integrity`"));
        }
    }
    if shasum.is_some_and(|text| !text.eq_ignore_ascii_case(&digests.shasum())) {
        return Err(Error::Invalid("the tarball does not match `dist.shasum`"));
    }
    Ok(())
}

/// The version object as it will be shown: the publisher's, with what is ours to say set and the rest left alone.
fn public_manifest(
    name: &PackageName,
    version: &Version,
    mut manifest: Map<String, Value>,
    staged: &Staged,
    author: &Author,
    bundle: Option<&Value>,
) -> Map<String, Value> {
    let Inspection { file_count, unpacked_bytes, has_binding_gyp, has_shrinkwrap, .. } = staged.inspection;
    for key in ["readme", "_attachments", "_integrity", "integrity", "shasum", "_resolved", "_from", "deprecated"] {
        manifest.shift_remove(key);
    }
    let runs_scripts = manifest::has_install_script(&staged.inspection.manifest, has_binding_gyp);
    let mut dist = serde_json::json!({
        "integrity": staged.digests.integrity(),
        "shasum": staged.digests.shasum(),
        "fileCount": file_count,
        "unpackedSize": unpacked_bytes,
    });
    if let Some(predicate) = bundle.and_then(super::attestations::predicate_type) {
        dist["attestations"] = serde_json::json!({ "url": "", "provenance": { "predicateType": predicate } });
    }
    // Clients write `bin` in several ways; installers are promised one.
    let bins = manifest::bins(&manifest);
    if !bins.is_empty() {
        manifest.insert("bin".to_owned(), serde_json::json!(bins));
    }
    manifest.insert("version".to_owned(), version.to_string().into());
    manifest.insert("_id".to_owned(), format!("{name}@{version}").into());
    let mut publisher = serde_json::json!({ "name": author.name, "email": author.email });
    if let Some((issuer, id)) = &author.trusted_publisher {
        publisher["trustedPublisher"] = serde_json::json!({ "id": issuer, "oidcConfigId": id });
    }
    manifest.insert("_npmUser".to_owned(), publisher);
    manifest.insert("_hasShrinkwrap".to_owned(), has_shrinkwrap.into());
    if runs_scripts {
        manifest.insert("hasInstallScript".to_owned(), true.into());
    } else {
        manifest.shift_remove("hasInstallScript");
    }
    manifest.insert("dist".to_owned(), dist);
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_named_in_both_ways() {
        let name: PackageName = "@a/tool".parse().unwrap();
        assert!(names_version(&name, "@a/tool-1.0.0.tgz", "1.0.0"));
        assert!(names_version(&name, "tool-1.0.0.tgz", "1.0.0"));
        assert!(!names_version(&name, "tool-1.0.0.tgz", "1.0.1"));
        assert!(!names_version(&name, "../tool-1.0.0.tgz", "1.0.0"));
    }
}
