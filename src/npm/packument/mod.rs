//! A hosted packument: reading what is stored, and every change to it as a pure function.
//!
//! The stored document is standard npm JSON. Our own notes are one member, `_holdfast`, which no client sees. Versions
//! stay raw, so a change costs one pass over the bytes and touches nothing else.
//!
//! Invariants after every change: `dist-tags.latest` exists while a version exists; every tag names a version that is
//! there; `time` keeps every version ever published, so that no number is used twice; `_rev` is fresh.

mod foreign;
mod older;
mod relocated;

use std::collections::BTreeMap;

use memchr::memmem;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use foreign::{Arrival, Arrivals, ForeignDocument, ForeignVersion};
pub use older::{Attachment, Findings, FoundTarball, Plan, PlannedVersion, revision_of};
pub use relocated::{Relocated, relocated};

use super::{DistTag, PackageName, RawObject, Timestamp, Version};

/// The owner of packages whose owners nobody knows. No account may have a colon in its name, so only administrators, and
/// those whom a rule names, may change such a package.
const NOBODY: &str = ":nobody";

/// npm's registry truncates readmes to this.
pub const MAX_README_BYTES: usize = 64 * 1024;

/// Members at the top that mirror the version tagged `latest`.
const MIRRORED: [&str; 9] = [
    "description",
    "homepage",
    "keywords",
    "license",
    "repository",
    "bugs",
    "author",
    "contributors",
    "readmeFilename",
];

/// Someone who may change a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintainer {
    /// The account's name.
    pub name: String,
    /// May be empty.
    #[serde(default)]
    pub email: String,
}

/// Why a change cannot be made. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The number was used before, by this or an unpublished version.
    #[error("version {0} was published before")]
    VersionTaken(String),
    /// No such version.
    #[error("there is no version {0}")]
    NoSuchVersion(String),
    /// `latest` cannot be removed.
    #[error("the tag `latest` cannot be removed")]
    LatestTag,
    /// At least one owner must remain.
    #[error("a package needs at least one owner")]
    NoOwner,
    /// The caller's copy is older than what is stored.
    #[error("the document has changed since it was read")]
    StaleRevision,
    /// No package, or only the mark that there was one.
    #[error("no such package")]
    NotFound,
    /// A change of what a published version is.
    #[error("version {version} cannot change its `{field}`")]
    Immutable {
        /// The version.
        version: String,
        /// The member that differs.
        field: &'static str,
    },
    /// The stored document cannot be read. It is left alone.
    #[error("the stored document is damaged")]
    Damaged,
}

/// What is kept of ours in a stored document.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Notes {
    /// Version to the digest in its tarball's key. A version that is absent here has an older system's tarball.
    #[serde(default)]
    tarballs: BTreeMap<String, String>,
    /// The document is a copy of another registry's, and its tarballs are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    copied: bool,
    /// The tarballs that an older system left were compared with what the document says of them, and are right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    checked: bool,
}

/// The parts of a packument that decisions are made from, without its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `_rev`: changes with every write.
    pub revision: String,
    /// `time.modified`.
    pub modified: Option<Timestamp>,
    /// Names of the maintainers. Of a package that is there and has none, a name that nobody can have.
    pub owners: Vec<String>,
    /// False for the mark that a wholly unpublished package leaves.
    pub exists: bool,
    /// As an older system wrote it: the first change has to take it over.
    pub is_older: bool,
    /// A copy of another registry's document, whose tarballs are there.
    pub is_copy: bool,
}

/// A new version, ready to be added.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Its number.
    pub version: Version,
    /// The version object as it will be shown, without `dist.tarball` and `readme`.
    pub manifest: Map<String, Value>,
    /// The tag to set.
    pub tag: DistTag,
    /// Who publishes.
    pub publisher: Maintainer,
    /// Shown at the top of the full form.
    pub readme: Option<String>,
    /// The digest in the tarball's key.
    pub tarball_digest: String,
}

/// A stored packument, open for changes.
#[derive(Debug)]
pub struct HostedPackument<'a> {
    /// The bytes that were read, of a document that an older system wrote.
    older: Option<&'a [u8]>,
    /// All members; the five that follow are told apart from it, and written into it at the end.
    document: RawObject<'a>,
    versions: RawObject<'a>,
    dist_tags: BTreeMap<String, String>,
    time: Map<String, Value>,
    notes: Notes,
    maintainers: Vec<Maintainer>,
}

impl<'a> HostedPackument<'a> {
    /// An empty document for a first publish.
    pub fn new(name: &PackageName, now: Timestamp) -> Self {
        let mut document = RawObject::default();
        document.put_text("_id", name.as_str());
        document.put_text("_rev", "0-0");
        document.put_text("name", name.as_str());
        let time = Map::from_iter([("created".to_owned(), Value::from(now.to_string()))]);
        Self {
            older: None,
            document,
            versions: RawObject::default(),
            dist_tags: BTreeMap::new(),
            time,
            notes: Notes::default(),
            maintainers: Vec::new(),
        }
    }

    /// Reads a stored document, ours or an older system's.
    ///
    /// # Errors
    /// [`EditError::Damaged`].
    pub fn parse(stored: &'a [u8]) -> Result<Self, EditError> {
        fn member<'a, T: Deserialize<'a> + Default>(document: &RawObject<'a>, key: &str) -> Result<T, EditError> {
            let Some(raw) = document.input(key) else { return Ok(T::default()) };
            serde_json::from_str(raw.get()).map_err(|_| EditError::Damaged)
        }
        let (document, versions) = RawObject::parse_with(stored, "versions").map_err(|_| EditError::Damaged)?;
        let time: Map<String, Value> = member(&document, "time")?;
        // Of a package that was removed, the last owners: only they may bring the name back.
        let maintainers = match document.input("maintainers") {
            Some(raw) => people(&serde_json::from_str(raw.get()).map_err(|_| EditError::Damaged)?)?,
            None => match time.get("unpublished").and_then(|record| record.get("maintainers")) {
                Some(last) => people(last)?,
                None => Vec::new(),
            },
        };
        Ok(Self {
            older: document.get("_holdfast").is_none().then_some(stored),
            versions: versions.unwrap_or_default(),
            dist_tags: member(&document, "dist-tags")?,
            time,
            maintainers,
            notes: member(&document, "_holdfast")?,
            document,
        })
    }

    /// What decisions are made from.
    pub fn head(&self) -> Head {
        let (exists, is_copy) = (!self.versions.is_empty(), self.is_copy());
        // Who owns the original elsewhere owns nothing here.
        let owners = match self.maintainers.as_slice() {
            [] if !exists => Vec::new(),
            [] => vec![NOBODY.to_owned()],
            _ if is_copy => vec![NOBODY.to_owned()],
            known => known.iter().map(|maintainer| maintainer.name.clone()).collect(),
        };
        Head {
            revision: self.revision(),
            modified: self.time_of("modified"),
            owners,
            exists,
            is_older: self.older.is_some(),
            is_copy,
        }
    }

    /// `_rev`. An older system wrote none, or left the one of another registry as it was whatever it changed, so what it
    /// wrote is known by its bytes.
    pub fn revision(&self) -> String {
        match self.older {
            Some(stored) => revision_of(stored),
            None => self.document.text("_rev").unwrap_or_default(),
        }
    }

    /// The package's name, as the document says it.
    pub fn name(&self) -> Option<String> {
        self.document.text("name")
    }

    /// The owners; of a package that was removed, the last ones.
    pub fn maintainers(&self) -> &[Maintainer] {
        &self.maintainers
    }

    /// All tags.
    pub fn dist_tags(&self) -> &BTreeMap<String, String> {
        &self.dist_tags
    }

    /// All version numbers, in the order of publication.
    pub fn version_numbers(&self) -> impl Iterator<Item = &str> {
        self.versions.keys()
    }

    /// All versions, number and object, in the order of publication.
    pub fn versions(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.versions.iter()
    }

    /// A version's object.
    pub fn version(&self, number: &str) -> Option<&RawValue> {
        self.versions.get(number)
    }

    /// The digest in the key of a version's tarball; `None` for a tarball that an older system left.
    pub fn tarball_digest(&self, number: &str) -> Option<&str> {
        self.notes.tarballs.get(number).map(String::as_str)
    }

    /// The digests in the keys of several versions' tarballs.
    pub fn tarball_digests(&self, numbers: &[String]) -> Vec<(String, Option<String>)> {
        numbers.iter().map(|number| (number.clone(), self.tarball_digest(number).map(ToOwned::to_owned))).collect()
    }

    /// Whether a user has starred the package.
    pub fn is_starred_by(&self, user: &str) -> bool {
        self.document.object("users").is_some_and(|users| users.get(user).is_some())
    }

    /// When a version was published.
    pub fn published_at(&self, number: &str) -> Option<Timestamp> {
        self.time_of(number)
    }

    fn time_of(&self, key: &str) -> Option<Timestamp> {
        self.time.get(key)?.as_str()?.parse().ok()
    }

    /// True when the number was ever published here, even if it was unpublished since.
    pub fn was_published(&self, number: &str) -> bool {
        self.versions.get(number).is_some() || self.time.contains_key(number)
    }

    /// Refuses a change that was made from an older copy. `None` asks for no check.
    pub fn check_revision(&self, claimed: Option<&str>) -> Result<(), EditError> {
        match claimed {
            Some(claimed) if claimed != self.revision() => Err(EditError::StaleRevision),
            _ => Ok(()),
        }
    }

    /// Adds a version and sets its tag; the first version is `latest` whatever its tag, as on the public registry.
    pub fn publish(&mut self, publication: &Publication, now: Timestamp) -> Result<(), EditError> {
        let number = publication.version.to_string();
        if self.was_published(&number) {
            return Err(EditError::VersionTaken(number));
        }
        let is_revival = self.versions.is_empty();
        if is_revival {
            // A wholly unpublished package that comes back keeps only the numbers that are used up.
            self.time.remove("unpublished");
            self.dist_tags.clear();
            let owners = match self.maintainers.as_slice() {
                [] => vec![publication.publisher.clone()],
                last => last.to_vec(),
            };
            self.set_maintainers(&owners)?;
        }
        let mut manifest = publication.manifest.clone();
        manifest.insert("maintainers".to_owned(), serde_json::to_value(self.maintainers()).unwrap_or_default());
        self.versions.set(&number, &manifest).map_err(|_| EditError::Damaged)?;
        self.notes.tarballs.insert(number.clone(), publication.tarball_digest.clone());
        self.time.entry("created").or_insert_with(|| now.to_string().into());
        self.time.insert(number.clone(), now.to_string().into());
        self.dist_tags.insert(publication.tag.as_str().to_owned(), number.clone());
        if !self.dist_tags.contains_key("latest") {
            self.dist_tags.insert("latest".to_owned(), number.clone());
        }
        if self.dist_tags.get("latest") == Some(&number) {
            match &publication.readme {
                Some(readme) => self.document.put_text("readme", truncated(readme, MAX_README_BYTES)),
                None => self.document.put_text("readme", ""),
            }
            self.mirror_latest();
        }
        Ok(())
    }

    /// Deprecates or undeprecates versions. An empty message, or none, undeprecates. Versions that are not named stay
    /// as they are.
    pub fn deprecate(&mut self, messages: &[(String, Option<String>)]) -> Result<(), EditError> {
        for (number, message) in messages {
            let raw = self.versions.get(number).ok_or_else(|| EditError::NoSuchVersion(number.clone()))?;
            let mut version: Map<String, Value> = serde_json::from_str(raw.get()).map_err(|_| EditError::Damaged)?;
            match message.as_deref() {
                None | Some("") => version.shift_remove("deprecated"),
                Some(text) => version.insert("deprecated".to_owned(), text.into()),
            };
            self.versions.set(number, &version).map_err(|_| EditError::Damaged)?;
        }
        Ok(())
    }

    /// Points a tag at a version.
    pub fn set_tag(&mut self, tag: &DistTag, version: &Version) -> Result<(), EditError> {
        let number = version.to_string();
        if self.versions.get(&number).is_none() {
            return Err(EditError::NoSuchVersion(number));
        }
        self.drop_encoded_spellings(tag.as_str());
        self.dist_tags.insert(tag.as_str().to_owned(), number);
        self.mirror_latest();
        Ok(())
    }

    /// Removes a tag; one that is not there is removed already.
    pub fn remove_tag(&mut self, tag: &str) -> Result<(), EditError> {
        if tag == "latest" {
            return Err(EditError::LatestTag);
        }
        self.drop_encoded_spellings(tag);
        self.dist_tags.remove(tag);
        Ok(())
    }

    /// An older system kept tags as they stood in the address, percent-encoded. Such a tag is the tag that it spells.
    fn drop_encoded_spellings(&mut self, tag: &str) {
        self.dist_tags.retain(|known, _| known == tag || percent_decode_str(known).decode_utf8_lossy() != tag);
    }

    /// Sets the owners.
    pub fn set_maintainers(&mut self, maintainers: &[Maintainer]) -> Result<(), EditError> {
        if maintainers.is_empty() {
            return Err(EditError::NoOwner);
        }
        self.maintainers = maintainers.to_vec();
        self.document.set("maintainers", maintainers).map_err(|_| EditError::Damaged)
    }

    /// Adds or takes a user's star.
    pub fn set_star(&mut self, user: &str, starred: bool) -> Result<(), EditError> {
        let raw = self.document.get("users");
        let mut users: Map<String, Value> =
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        if starred {
            users.insert(user.to_owned(), Value::Bool(true));
        } else {
            users.shift_remove(user);
        }
        self.document.set("users", &users).map_err(|_| EditError::Damaged)
    }

    /// Removes versions. Tags that pointed at them go; `latest` moves to the highest that is left, stable before
    /// prerelease. When none is left this is [`HostedPackument::unpublish_all`].
    pub fn unpublish(&mut self, numbers: &[String], by: &str, now: Timestamp) -> Result<(), EditError> {
        if let Some(unknown) = numbers.iter().find(|number| self.versions.get(number).is_none()) {
            return Err(EditError::NoSuchVersion(unknown.clone()));
        }
        if numbers.len() == self.versions.len() {
            return self.unpublish_all(by, now);
        }
        for number in numbers {
            self.versions.remove(number);
            self.notes.tarballs.remove(number);
            self.time.entry(number).or_insert_with(|| now.to_string().into());
        }
        self.mend_tags();
        Ok(())
    }

    /// Removes tags that name no version; `latest`, where it is not there then, becomes the highest version, stable
    /// before prerelease. True when that changed a tag.
    pub fn mend_tags(&mut self) -> bool {
        let before = self.dist_tags.clone();
        self.dist_tags.retain(|_, number| self.versions.get(number).is_some());
        if !self.dist_tags.contains_key("latest")
            && let Some(highest) = self.highest_version()
        {
            self.dist_tags.insert("latest".to_owned(), highest);
        }
        self.mirror_latest();
        self.dist_tags != before
    }

    /// Removes the package. What remains says that it was there, and which numbers are used up.
    pub fn unpublish_all(&mut self, by: &str, now: Timestamp) -> Result<(), EditError> {
        if self.versions.is_empty() {
            return Err(EditError::NotFound);
        }
        let record = serde_json::json!({
            "name": by,
            "time": now.to_string(),
            "tags": self.dist_tags,
            "maintainers": self.maintainers(),
            "versions": self.versions.keys().collect::<Vec<_>>(),
        });
        // Versions that came from an older system without `time` are used up too.
        for number in self.versions.keys() {
            self.time.entry(number).or_insert_with(|| now.to_string().into());
        }
        self.time.insert("unpublished".to_owned(), record);
        self.document.retain(|key, _| matches!(key, "_id" | "_rev" | "name"));
        self.versions = RawObject::default();
        self.dist_tags.clear();
        self.notes = Notes::default();
        Ok(())
    }

    fn highest_version(&self) -> Option<String> {
        let all = self.versions.keys().filter_map(|number| number.parse::<Version>().ok().map(|v| (v, number)));
        all.max_by(|(a, _), (b, _)| b.is_prerelease().cmp(&a.is_prerelease()).then_with(|| a.cmp(b)))
            .map(|(_, number)| number.to_owned())
    }

    /// Copies the descriptive members of the latest version to the top.
    fn mirror_latest(&mut self) {
        let Some(latest) = self.dist_tags.get("latest").and_then(|number| self.versions.get(number)) else { return };
        let Some(version) = RawObject::from_raw(latest) else { return };
        for key in MIRRORED {
            match version.get(key) {
                Some(raw) => self.document.put_raw(key, raw.to_owned()),
                None => {
                    self.document.remove(key);
                }
            }
        }
    }

    /// The document to store, under a fresh revision: one higher than the last, with the given random part.
    pub fn into_stored(self, random: &str, now: Timestamp) -> Result<Vec<u8>, EditError> {
        Ok(self.into_stored_and_head(random, now)?.0)
    }

    /// As [`HostedPackument::into_stored`], with the head that reading it again would find.
    pub fn into_stored_and_head(mut self, random: &str, now: Timestamp) -> Result<(Vec<u8>, Head), EditError> {
        let generation: u64 = self.revision().split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let damaged = |_| EditError::Damaged;
        self.document.put_text("_rev", &format!("{}-{random}", generation + 1));
        self.time.insert("modified".to_owned(), now.to_string().into());
        self.document.set("dist-tags", &self.dist_tags).map_err(damaged)?;
        self.document.put_place("versions");
        self.document.set("time", &self.time).map_err(damaged)?;
        self.document.set("_holdfast", &self.notes).map_err(damaged)?;
        self.older = None;
        let stored = self.document.to_vec_with("versions", &self.versions).map_err(damaged)?;
        Ok((stored, self.head()))
    }
}

/// Whether a stored document may know a version: a look for its number, which costs less than reading the document. It
/// misses only a number that is written with escapes, which no program does; the change of the document decides.
pub fn may_name(stored: &[u8], number: &str) -> bool {
    memmem::find(stored, format!("\"{number}\"").as_bytes()).is_some()
}

/// Reads a list of maintainers as clients and older systems write them: objects, whose mail address may be missing, or
/// texts such as `ann <ann@example.com>`. A list that cannot be read is damage, not an empty list: nobody may come to
/// own a package by it.
fn people(list: &Value) -> Result<Vec<Maintainer>, EditError> {
    let person = |value: &Value| match value {
        Value::Object(person) => {
            let part = |key: &str| person.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
            part("name").map(|name| Maintainer { name, email: part("email").unwrap_or_default() })
        }
        Value::String(text) => {
            let (name, email) = text.split_once('<').unwrap_or((text, ""));
            Some(Maintainer { name: name.trim().to_owned(), email: email.trim_end_matches('>').trim().to_owned() })
        }
        _ => None,
    };
    let list = list.as_array().ok_or(EditError::Damaged)?;
    list.iter().map(|value| person(value).ok_or(EditError::Damaged)).collect()
}

/// Cuts a text at a character boundary.
fn truncated(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-11-23T12:00:00.000Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn publication(version: &str, tag: &str) -> Publication {
        Publication {
            version: version.parse().unwrap(),
            manifest: Map::from_iter([
                ("name".to_owned(), "tool".into()),
                ("version".to_owned(), version.into()),
                ("description".to_owned(), format!("at {version}").into()),
            ]),
            tag: tag.parse().unwrap(),
            publisher: Maintainer { name: "ann".to_owned(), email: "ann@example.com".to_owned() },
            readme: Some(format!("readme of {version}")),
            tarball_digest: format!("d{version}"),
        }
    }

    fn stored(steps: &[(&str, &str)]) -> Vec<u8> {
        let mut document = HostedPackument::new(&"tool".parse().unwrap(), now());
        for (version, tag) in steps {
            document.publish(&publication(version, tag), now()).unwrap();
        }
        document.into_stored("r1", now()).unwrap()
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_first_version_is_latest_whatever_its_tag() {
        let document = json(&stored(&[("1.0.0-beta.1", "beta")]));
        assert_eq!(document["dist-tags"], serde_json::json!({"beta": "1.0.0-beta.1", "latest": "1.0.0-beta.1"}));
        assert_eq!(document["_rev"], "1-r1");
        assert_eq!(document["readme"], "readme of 1.0.0-beta.1");
    }

    #[test]
    fn a_tagged_version_leaves_latest_and_its_texts_alone() {
        let document = json(&stored(&[("1.0.0", "latest"), ("2.0.0-rc.1", "next")]));
        assert_eq!(document["dist-tags"]["latest"], "1.0.0");
        assert_eq!(document["description"], "at 1.0.0");
        assert_eq!(document["time"]["2.0.0-rc.1"], NOW);
    }

    #[test]
    fn a_number_is_never_used_twice() {
        let bytes = stored(&[("1.0.0", "latest"), ("1.1.0", "latest")]);
        let mut document = HostedPackument::parse(&bytes).unwrap();
        assert_eq!(
            document.publish(&publication("1.1.0", "latest"), now()),
            Err(EditError::VersionTaken("1.1.0".to_owned()))
        );
        document.unpublish(&["1.1.0".to_owned()], "ann", now()).unwrap();
        let bytes = document.into_stored("r2", now()).unwrap();
        assert_eq!(json(&bytes)["dist-tags"]["latest"], "1.0.0");
        let mut document = HostedPackument::parse(&bytes).unwrap();
        assert!(document.publish(&publication("1.1.0", "latest"), now()).is_err());
        document.unpublish_all("ann", now()).unwrap();
        let bytes = document.into_stored("r3", now()).unwrap();
        let mut document = HostedPackument::parse(&bytes).unwrap();
        assert!(!document.head().exists);
        assert!(document.publish(&publication("1.0.0", "latest"), now()).is_err());
        assert!(document.publish(&publication("1.2.0", "latest"), now()).is_ok());
        assert!(document.head().exists);
    }

    #[test]
    fn latest_moves_to_the_highest_stable_version_left() {
        let bytes = stored(&[
            ("1.0.0", "latest"),
            ("1.10.0", "old"),
            ("1.9.0", "old2"),
            ("2.0.0-beta", "b"),
            ("3.0.0", "latest"),
        ]);
        let mut document = HostedPackument::parse(&bytes).unwrap();
        document.unpublish(&["3.0.0".to_owned()], "ann", now()).unwrap();
        assert_eq!(document.dist_tags()["latest"], "1.10.0");
    }

    #[test]
    fn deprecation_is_never_an_empty_text() {
        let bytes = stored(&[("1.0.0", "latest")]);
        let mut document = HostedPackument::parse(&bytes).unwrap();
        document.deprecate(&[("1.0.0".to_owned(), Some("old".to_owned()))]).unwrap();
        let bytes = document.into_stored("r2", now()).unwrap();
        assert_eq!(json(&bytes)["versions"]["1.0.0"]["deprecated"], "old");
        let mut document = HostedPackument::parse(&bytes).unwrap();
        document.deprecate(&[("1.0.0".to_owned(), Some(String::new()))]).unwrap();
        assert!(json(&document.into_stored("r3", now()).unwrap())["versions"]["1.0.0"].get("deprecated").is_none());
    }

    #[test]
    fn owners_that_cannot_be_read_are_damage_and_not_nobody() {
        let with = |maintainers: &str| {
            let text = format!(r#"{{"name":"tool","maintainers":{maintainers},"versions":{{}}}}"#);
            HostedPackument::parse(text.as_bytes()).map(|document| document.head().owners)
        };
        assert_eq!(with(r#"[{"name":"ann","email":null},"bob <bob@example.com>"]"#).unwrap(), ["ann", "bob"]);
        for damaged in [r#"{"name":"ann"}"#, r#"[{"email":"x"}]"#, "[1]", "null"] {
            assert_eq!(with(damaged), Err(EditError::Damaged), "{damaged}");
        }
    }

    #[test]
    fn a_removed_package_stays_its_owners() {
        let bytes = stored(&[("1.0.0", "latest")]);
        let mut document = HostedPackument::parse(&bytes).unwrap();
        document.unpublish_all("ann", now()).unwrap();
        let bytes = document.into_stored("r2", now()).unwrap();
        assert_eq!(HostedPackument::parse(&bytes).unwrap().head().owners, ["ann"]);
    }

    #[test]
    fn an_older_systems_document_is_read() {
        let bytes = br#"{"_id":"tool","name":"tool","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tool",
            "version":"1.0.0","dist":{"tarball":"undefined/tool/-/tool-1.0.0.tgz","shasum":"x"}}},
            "_attachments":{"tool-1.0.0.tgz":{"data":"AAAA"}}}"#;
        let mut document = HostedPackument::parse(bytes).unwrap();
        assert_eq!(document.tarball_digest("1.0.0"), None);
        assert!(document.publish(&publication("1.0.0", "latest"), now()).is_err());
        document.publish(&publication("1.1.0", "latest"), now()).unwrap();
        let stored = json(&document.into_stored("r", now()).unwrap());
        assert_eq!(stored["versions"].as_object().unwrap().len(), 2);
    }

    /// Anything that somebody may do to a package.
    #[derive(Debug, Clone)]
    enum Step {
        Publish(String, &'static str),
        Unpublish(String),
        UnpublishAll,
        SetTag(&'static str, String),
        RemoveTag(&'static str),
        Deprecate(String, Option<String>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let version = || {
            (0u8..4, 0u8..3, prop::bool::ANY).prop_map(|(major, minor, is_beta)| {
                format!("{major}.{minor}.0{}", if is_beta { "-beta.1" } else { "" })
            })
        };
        let tag = || prop::sample::select(vec!["latest", "next", "old"]);
        prop_oneof![
            5 => (version(), tag()).prop_map(|(version, tag)| Step::Publish(version, tag)),
            2 => version().prop_map(Step::Unpublish),
            1 => Just(Step::UnpublishAll),
            2 => (tag(), version()).prop_map(|(tag, version)| Step::SetTag(tag, version)),
            1 => tag().prop_map(Step::RemoveTag),
            1 => (version(), prop::option::of("[a-z]{0,3}")).prop_map(|(version, text)| Step::Deprecate(version, text)),
        ]
    }

    fn apply(document: &mut HostedPackument<'_>, step: &Step) -> Result<(), EditError> {
        match step {
            Step::Publish(version, tag) => document.publish(&publication(version, tag), now()),
            Step::Unpublish(version) => document.unpublish(std::slice::from_ref(version), "ann", now()),
            Step::UnpublishAll => document.unpublish_all("ann", now()),
            Step::SetTag(tag, version) => document.set_tag(&tag.parse().unwrap(), &version.parse().unwrap()),
            Step::RemoveTag(tag) => document.remove_tag(tag),
            Step::Deprecate(version, text) => document.deprecate(&[(version.clone(), text.clone())]),
        }
    }

    proptest! {
        #[test]
        fn whatever_is_done_the_document_stays_in_order(steps in prop::collection::vec(any_step(), 1..40)) {
            let mut stored: Option<Vec<u8>> = None;
            let mut ever = std::collections::BTreeSet::new();
            for step in &steps {
                let mut document = match &stored {
                    Some(bytes) => HostedPackument::parse(bytes).unwrap(),
                    None => HostedPackument::new(&"tool".parse().unwrap(), now()),
                };
                let before: Vec<String> = document.version_numbers().map(ToOwned::to_owned).collect();
                let outcome = apply(&mut document, step);
                if let Step::Publish(version, _) = step {
                    prop_assert_eq!(outcome.is_ok(), ever.insert(version.clone()), "{:?}", step);
                }
                if outcome.is_err() {
                    continue;
                }
                let (bytes, head) = document.into_stored_and_head("r", now()).unwrap();
                let document = HostedPackument::parse(&bytes).unwrap();
                prop_assert_eq!(head, document.head());
                let numbers: Vec<&str> = document.version_numbers().collect();
                prop_assert_eq!(document.dist_tags().contains_key("latest"), !numbers.is_empty());
                prop_assert!(document.dist_tags().values().all(|target| numbers.contains(&target.as_str())));
                prop_assert!(ever.iter().all(|number| document.was_published(number) && may_name(&bytes, number)));
                prop_assert!(!may_name(&bytes, "9.9.9"));
                prop_assert!(numbers.iter().all(|number| document.tarball_digest(number).is_some()));
                if !matches!(step, Step::Unpublish(_) | Step::UnpublishAll) {
                    prop_assert!(before.iter().all(|number| numbers.contains(&number.as_str())));
                }
                stored = Some(bytes);
            }
        }
    }
}
