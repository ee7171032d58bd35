//! Documents of other registries, and taking their versions into ours.
//!
//! What such a document says is a claim: a version comes in only with a tarball that was read, and what can be measured of
//! that is measured anew. Times, tags and deprecations are kept as they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize as _;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::older::claims;
use super::{EditError, HostedPackument, Maintainer, people, truncated};
use crate::npm::tarball::Inspection;
use crate::npm::{Digests, DistTag, Integrity, PackageName, RawObject, Timestamp, Version, manifest};

/// A document of another registry.
#[derive(Debug, Clone, Default)]
pub struct ForeignDocument {
    /// Those that have a number of today, in the document's order.
    pub versions: Vec<ForeignVersion>,
    /// Numbers that are no versions.
    pub odd_numbers: Vec<String>,
    /// All tags, also those that point nowhere.
    pub dist_tags: BTreeMap<String, String>,
    /// When the package was made.
    pub created: Option<Timestamp>,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// Of the version tagged `latest`.
    pub readme: Option<String>,
    /// Numbers of versions that were removed there, and when they were published.
    pub removed: Vec<(String, Timestamp)>,
    /// Who maintains it there. Who they are here is for the caller to know.
    pub maintainers: Vec<Maintainer>,
}

/// A version of another registry's document.
#[derive(Debug, Clone)]
pub struct ForeignVersion {
    /// Its number.
    pub version: Version,
    /// What is said of its tarball's bytes; each has to be right.
    pub claims: Vec<Integrity>,
    /// Where its tarball is: an address, whose host may be of a time long ago.
    pub tarball: Option<String>,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// The version object, a part of the document's bytes.
    object: Bytes,
}

/// A version whose tarball lies in the store.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its number.
    pub version: Version,
    /// The version object as it will be shown.
    pub manifest: Box<RawValue>,
    /// When it was published.
    pub published: Timestamp,
    /// The digest in the tarball's key.
    pub tarball_digest: String,
}

/// What of a foreign document is brought into one of ours.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    /// New versions.
    pub versions: Vec<Arrival>,
    /// The document's tags.
    pub dist_tags: BTreeMap<String, String>,
    /// When the package was made there.
    pub created: Option<Timestamp>,
    /// When it was last changed there.
    pub modified: Option<Timestamp>,
    /// Of the version tagged `latest` there.
    pub readme: Option<String>,
    /// Numbers that are used up, of a package that was never here.
    pub removed: Vec<(String, Timestamp)>,
    /// The owners of a package that has none here.
    pub owners: Vec<Maintainer>,
}

impl ForeignDocument {
    /// Reads a document.
    ///
    /// # Errors
    /// [`EditError::Damaged`] for what is no package's document, or that of another package.
    pub fn parse(name: &PackageName, bytes: &Bytes) -> Result<Self, EditError> {
        let document = RawObject::parse(bytes).map_err(|_| EditError::Damaged)?;
        if document.text("name").is_some_and(|own| own != name.as_str()) {
            return Err(EditError::Damaged);
        }
        let versions = document.input("versions").ok_or(EditError::Damaged)?;
        let versions = RawObject::deserialize(versions).map_err(|_| EditError::Damaged)?;
        let time: Map<String, Value> = lenient(&document, "time");
        let time_of = |key: &str| time.get(key)?.as_str()?.parse::<Timestamp>().ok();
        let mut found = Self {
            dist_tags: lenient(&document, "dist-tags"),
            created: time_of("created"),
            modified: time_of("modified"),
            readme: document.text("readme").filter(|readme| !readme.is_empty()),
            maintainers: people(&lenient(&document, "maintainers")).unwrap_or_default(),
            ..Self::default()
        };
        let was_removed = |number: &&String| number.parse::<Version>().is_ok() && versions.get(number).is_none();
        let removed = time.keys().filter(was_removed);
        found.removed = removed.filter_map(|number| Some((number.clone(), time_of(number)?))).collect();
        for (number, raw) in versions.into_inputs() {
            match (number.parse::<Version>(), RawObject::from_raw(raw)) {
                (Ok(version), Some(object)) => found.versions.push(ForeignVersion {
                    version,
                    claims: claims(raw),
                    tarball: object.object("dist").and_then(|dist| dist.text("tarball")),
                    published: time_of(&number),
                    object: bytes.slice_ref(raw.get().as_bytes()),
                }),
                _ => found.odd_numbers.push(number.chars().take(100).collect()),
            }
        }
        Ok(found)
    }
}

/// A member that older systems left out, or wrote in other ways.
fn lenient<T: serde::de::DeserializeOwned + Default>(document: &RawObject<'_>, key: &str) -> T {
    document.get(key).and_then(|raw: &RawValue| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

impl ForeignVersion {
    /// A version that no document describes, by the manifest in its tarball.
    pub fn of_manifest(version: Version, manifest: &Map<String, Value>, published: Option<Timestamp>) -> Self {
        let object = serde_json::to_vec(manifest).unwrap_or_default().into();
        Self { version, claims: Vec::new(), tarball: None, published, object }
    }

    /// The last part of its tarball's address.
    pub fn file_name(&self) -> Option<&str> {
        let path = self.tarball.as_deref()?.split(['?', '#']).next()?;
        path.rsplit('/').next().filter(|file| !file.is_empty())
    }

    /// Whether bytes are what the document says. Claims in algorithms that are not computed here say nothing.
    pub fn is(&self, measured: &Digests) -> bool {
        self.claims.iter().all(|claim| claim.matches(measured) != Some(false))
    }

    /// Whether anything is said of the bytes that can be compared here.
    pub fn is_vouched_for(&self, measured: &Digests) -> bool {
        self.claims.iter().any(|claim| claim.matches(measured).is_some())
    }

    /// Who published it there.
    pub fn publisher(&self) -> Option<String> {
        let object = RawObject::parse(&self.object).ok()?;
        object.object("_npmUser").and_then(|user| user.text("name"))
    }

    /// Whether its object says the same of the bytes as one of ours does; `None` where they cannot be compared.
    pub fn is_same_as(&self, ours: &RawValue) -> Option<bool> {
        let ours = claims(ours);
        let mut compared = self.claims.iter().filter_map(|claim| ours.iter().find_map(|own| claim.agrees_with(own)));
        let first = compared.next()?;
        Some(first && compared.all(|agrees| agrees))
    }

    /// The object as it will be shown, with what was measured of its tarball. A tarball that today's rules would refuse has
    /// no `inspection`, and the document's word stands.
    ///
    /// # Errors
    /// [`EditError::Damaged`].
    pub fn into_arrival(
        self,
        name: &PackageName,
        digests: &Digests,
        inspection: Option<&Inspection>,
        published: Timestamp,
    ) -> Result<Arrival, EditError> {
        let mut object: Map<String, Value> = serde_json::from_slice(&self.object).map_err(|_| EditError::Damaged)?;
        for key in ["readme", "_attachments", "_integrity", "integrity", "shasum", "_resolved", "_from"] {
            object.shift_remove(key);
        }
        let mut dist = serde_json::json!({ "integrity": digests.integrity(), "shasum": digests.shasum() });
        if let Some(inspection) = inspection {
            dist["fileCount"] = inspection.file_count.into();
            dist["unpackedSize"] = inspection.unpacked_bytes.into();
            object.insert("_hasShrinkwrap".to_owned(), inspection.has_shrinkwrap.into());
            if manifest::has_install_script(&inspection.manifest, inspection.has_binding_gyp) {
                object.insert("hasInstallScript".to_owned(), true.into());
            } else {
                object.shift_remove("hasInstallScript");
            }
        }
        let bins = manifest::bins(&object);
        if !bins.is_empty() {
            object.insert("bin".to_owned(), serde_json::json!(bins));
        }
        object.insert("name".to_owned(), name.as_str().into());
        object.insert("version".to_owned(), self.version.to_string().into());
        object.insert("_id".to_owned(), format!("{name}@{}", self.version).into());
        object.insert("dist".to_owned(), dist);
        let manifest = to_raw_value(&object).map_err(|_| EditError::Damaged)?;
        Ok(Arrival { version: self.version, manifest, published, tarball_digest: digests.short() })
    }

    /// In what its object and the manifest in its tarball disagree.
    pub fn disagreement(&self, inspection: &Inspection) -> Option<manifest::Field> {
        let object: Map<String, Value> = serde_json::from_slice(&self.object).ok()?;
        manifest::disagreement(&object, &inspection.manifest)
    }
}

impl HostedPackument<'_> {
    /// Adds the versions that were never here, and says how many that is. What is here stays as it is.
    ///
    /// A tag comes along when nothing here has its name, or when it points at a version that has just come: a package that
    /// is brought in again while it is still published to elsewhere follows what is done there. `None` when nothing changes.
    ///
    /// # Errors
    /// [`EditError::Damaged`].
    pub fn bring_in(&mut self, arrivals: &Arrivals) -> Result<Option<usize>, EditError> {
        let was_empty = self.versions.is_empty();
        let mut come = Vec::new();
        for arrival in &arrivals.versions {
            let number = arrival.version.to_string();
            if self.was_published(&number) {
                continue;
            }
            self.versions.put_raw(&number, arrival.manifest.clone());
            self.notes.tarballs.insert(number.clone(), arrival.tarball_digest.clone());
            self.time.insert(number.clone(), arrival.published.to_string().into());
            come.push(number);
        }
        if come.is_empty() && self.versions.is_empty() {
            return Ok(None);
        }
        if was_empty {
            self.time.remove("unpublished");
            self.dist_tags.clear();
            let earliest = arrivals.versions.iter().map(|arrival| arrival.published).min();
            if let Some(created) = arrivals.created.or(earliest) {
                self.time.insert("created".to_owned(), created.to_string().into());
            }
            for (number, published) in &arrivals.removed {
                self.time.entry(number).or_insert_with(|| published.to_string().into());
            }
        }
        if self.maintainers.is_empty() && !arrivals.owners.is_empty() && !come.is_empty() {
            self.set_maintainers(&arrivals.owners)?;
        }
        let has_moved = self.bring_tags(arrivals, &come);
        if come.is_empty() && !has_moved {
            return Ok(None);
        }
        let latest = self.dist_tags.get("latest");
        if latest.is_some_and(|latest| come.contains(latest)) {
            let readme = arrivals.readme.as_deref().unwrap_or_default();
            self.document.put_text("readme", truncated(readme, super::MAX_README_BYTES));
        }
        self.mirror_latest();
        Ok(Some(come.len()))
    }

    fn bring_tags(&mut self, arrivals: &Arrivals, come: &[String]) -> bool {
        let mut has_moved = false;
        for (tag, target) in &arrivals.dist_tags {
            let Ok(number) = target.parse::<Version>().map(|version| version.to_string()) else { continue };
            let is_free = !self.dist_tags.contains_key(tag);
            if tag.parse::<DistTag>().is_err() || self.versions.get(&number).is_none() {
                continue;
            }
            if is_free || come.contains(&number) {
                has_moved |= self.dist_tags.insert(tag.clone(), number.clone()) != Some(number);
            }
        }
        if !self.dist_tags.contains_key("latest")
            && let Some(highest) = self.highest_version()
        {
            self.dist_tags.insert("latest".to_owned(), highest);
            has_moved = true;
        }
        has_moved
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::npm::integrity::Hasher;

    const NOW: &str = "2026-11-30T12:00:00.000Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn measured(bytes: &[u8]) -> Digests {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    fn name() -> PackageName {
        "@acme/tool".parse().unwrap()
    }

    fn foreign() -> Bytes {
        let version = |number: &str, bytes: &[u8]| {
            json!({
                "name": "@acme/tool", "version": number, "deprecated": "old", "readme": "x", "bin": "x.js",
                "dist": { "shasum": measured(bytes).shasum(), "tarball": format!("http://old:4873/@acme/tool/-/@acme/tool-{number}.tgz") },
            })
        };
        let document = json!({
            "name": "@acme/tool",
            "dist-tags": { "latest": "1.0.0", "next": "2.0.0-rc.1", "lost": "9.9.9", "1.x": "1.0.0" },
            "versions": { "1.0.0": version("1.0.0", b"one"), "2.0.0-rc.1": version("2.0.0-rc.1", b"two"), "1.1": version("1.1", b"") },
            "time": { "created": "2019-01-01T00:00:00.000Z", "modified": "2020-01-01T00:00:00.000Z", "1.0.0": "2019-01-01T00:00:00.000Z", "0.9.0": "2018-12-01T00:00:00.000Z" },
            "_distfiles": {}, "_attachments": {}, "_uplinks": {}, "readme": "# Tool",
        });
        document.to_string().into()
    }

    fn arrivals(bytes: &Bytes) -> Arrivals {
        let document = ForeignDocument::parse(&name(), bytes).unwrap();
        let arrive = |version: ForeignVersion| {
            let (published, content) = (version.published, format!("bytes of {}", version.version));
            version.into_arrival(&name(), &measured(content.as_bytes()), None, published.unwrap_or(at(NOW))).unwrap()
        };
        Arrivals {
            versions: document.versions.into_iter().map(arrive).collect(),
            dist_tags: document.dist_tags,
            created: document.created,
            modified: document.modified,
            readme: document.readme,
            removed: document.removed,
            owners: Vec::new(),
        }
    }

    fn brought_in(stored: Option<&[u8]>, arrivals: &Arrivals) -> (Option<usize>, Value) {
        let mut document = match stored {
            Some(stored) => HostedPackument::parse(stored).unwrap(),
            None => HostedPackument::new(&name(), at(NOW)),
        };
        let come = document.bring_in(arrivals).unwrap();
        (come, serde_json::from_slice(&document.into_stored("r", at(NOW)).unwrap()).unwrap())
    }

    #[test]
    fn a_document_is_read_with_what_it_claims() {
        let document = ForeignDocument::parse(&name(), &foreign()).unwrap();
        assert_eq!(document.odd_numbers, ["1.1"]);
        let one = &document.versions[0];
        assert_eq!((one.file_name(), one.published), (Some("tool-1.0.0.tgz"), document.created));
        assert!(one.is(&measured(b"one")) && !one.is(&measured(b"two")) && one.is_vouched_for(&measured(b"")));
        for damaged in ["[]", "{", r#"{"name":"other","versions":{}}"#, r#"{"name":"@acme/tool"}"#] {
            assert!(ForeignDocument::parse(&name(), &Bytes::from(damaged)).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_comes_in_keeps_times_tags_and_deprecations() {
        let (come, document) = brought_in(None, &arrivals(&foreign()));
        assert_eq!(come, Some(2));
        assert_eq!(document["dist-tags"], json!({ "latest": "1.0.0", "next": "2.0.0-rc.1" }));
        assert_eq!(document["time"]["created"], "2019-01-01T00:00:00.000Z");
        assert_eq!(document["time"]["1.0.0"], "2019-01-01T00:00:00.000Z");
        assert_eq!(document["time"]["2.0.0-rc.1"], NOW);
        assert_eq!(document["time"]["0.9.0"], "2018-12-01T00:00:00.000Z", "a number that is used up stays so");
        assert_eq!(document["readme"], "# Tool");
        let one = &document["versions"]["1.0.0"];
        assert_eq!((&one["deprecated"], &one["bin"]), (&json!("old"), &json!({ "tool": "x.js" })));
        assert_eq!(one["dist"]["integrity"], measured(b"bytes of 1.0.0").integrity());
        assert!(one.get("readme").is_none() && one["dist"].get("tarball").is_none());
        assert!(document.get("_distfiles").is_none());
        assert_eq!(HostedPackument::parse(document.to_string().as_bytes()).unwrap().head().owners, [":nobody"]);
    }

    #[test]
    fn what_is_here_stays_and_a_second_time_changes_nothing() {
        let arrivals = arrivals(&foreign());
        let (_, document) = brought_in(None, &arrivals);
        let stored = document.to_string();
        assert_eq!(brought_in(Some(stored.as_bytes()), &arrivals).0, None);

        let mut here = HostedPackument::parse(stored.as_bytes()).unwrap();
        here.unpublish(&["2.0.0-rc.1".to_owned()], "ann", at(NOW)).unwrap();
        here.set_tag(&"next".parse().unwrap(), &"1.0.0".parse().unwrap()).unwrap();
        let stored = here.into_stored("r", at(NOW)).unwrap();
        let (come, document) = brought_in(Some(&stored), &arrivals);
        assert_eq!((come, &document["dist-tags"]["next"]), (None, &json!("1.0.0")));
        assert!(document["versions"].get("2.0.0-rc.1").is_none(), "a number is never used twice");
    }

    #[test]
    fn a_newer_version_brings_its_tags_along() {
        let mut first = arrivals(&foreign());
        first.versions.truncate(1);
        let (_, document) = brought_in(None, &first);
        let mut second = arrivals(&foreign());
        second.dist_tags.insert("latest".to_owned(), "2.0.0-rc.1".to_owned());
        let (come, document) = brought_in(Some(document.to_string().as_bytes()), &second);
        assert_eq!((come, &document["dist-tags"]["latest"]), (Some(1), &json!("2.0.0-rc.1")));
    }

    #[test]
    fn versions_are_compared_by_what_is_said_of_their_bytes() {
        let document = ForeignDocument::parse(&name(), &foreign()).unwrap();
        let ours = |dist: Value| serde_json::value::to_raw_value(&json!({ "dist": dist })).unwrap();
        let same = |dist| document.versions[0].is_same_as(&ours(dist));
        assert_eq!(
            same(json!({ "shasum": measured(b"one").shasum(), "integrity": measured(b"?").integrity() })),
            Some(true)
        );
        assert_eq!(same(json!({ "shasum": measured(b"two").shasum() })), Some(false));
        assert_eq!(same(json!({ "integrity": measured(b"one").integrity() })), None);
    }
}
