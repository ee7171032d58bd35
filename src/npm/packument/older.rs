//! Documents that an older system (codebox-npm) wrote, and making them ours.
//!
//! That system stored what clients sent: no times, no revision, no owners, tarballs inside as base64 (`_attachments`), tags
//! as they stood in the address. Such a document is read as it is. The first change takes it over, in the same write: it
//! gets what is missing, and loses of its attachments those whose bytes are known to lie in the store.
//!
//! The older system wrote neither `_rev` nor `time`. A document that has them was another registry's when a client read it,
//! and came back with a deprecation: a copy, frozen at that moment.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::{EditError, HostedPackument};
use crate::npm::integrity::sha256_hex;
use crate::npm::{Digests, Integrity, PackageName, RawObject, Timestamp, render};

/// What has to be looked for in the store before a document can be taken over.
#[derive(Debug)]
pub struct Plan {
    /// The revision of the document that this is about.
    pub revision: String,
    /// The versions whose tarballs the older system kept.
    pub versions: Vec<PlannedVersion>,
    /// The tarballs inside the document.
    pub attachments: Vec<Attachment>,
    /// It has the marks of another registry's document, see the module.
    pub is_foreign: bool,
}

/// A version whose tarball an older system kept.
#[derive(Debug)]
pub struct PlannedVersion {
    /// The number as the document spells it.
    pub number: String,
    /// What is said of its bytes; each has to be right.
    pub claims: Vec<Integrity>,
}

/// A tarball inside a document.
#[derive(Debug)]
pub struct Attachment {
    /// Its key in `_attachments`, a file name.
    pub key: String,
    /// The JSON text of its `data`, a part of the stored bytes. `None` for one that says only that there was one.
    data: Option<Bytes>,
}

/// What was found in the store.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The revision of the document that was looked at.
    pub revision: String,
    /// The tarballs that are there, by number.
    pub tarballs: BTreeMap<String, FoundTarball>,
    /// Keys of attachments whose bytes lie in the store.
    pub settled: BTreeSet<String>,
    /// Every tarball was measured, and is what the document says.
    pub is_checked: bool,
}

/// A tarball in the store.
#[derive(Debug, Clone, Default)]
pub struct FoundTarball {
    /// When it was written, where that tells when the version was published.
    pub written: Option<Timestamp>,
    /// The digest in its key, when it lies among ours.
    pub digest: Option<String>,
    /// What it measured, when it is what the document says.
    pub measured: Option<Digests>,
}

/// The revision of a document that has none of ours: it changes with each byte.
pub fn revision_of(stored: &[u8]) -> String {
    format!("0-{}", &sha256_hex(stored)[..32])
}

impl PlannedVersion {
    /// Whether bytes are what the document says. Claims in algorithms that are not computed here say nothing.
    pub fn is(&self, measured: &Digests) -> bool {
        self.claims.iter().all(|claim| claim.matches(measured) != Some(false))
    }
}

impl Attachment {
    /// The number of the version that it is the tarball of.
    pub fn number<'a>(&'a self, name: &PackageName) -> Option<&'a str> {
        render::version_in_file_name(name, &self.key)
    }

    /// True for one that has no bytes.
    pub fn is_stub(&self) -> bool {
        self.data.is_none()
    }

    /// The bytes; `None` when they are not base64.
    pub fn decoded(&self) -> Option<Vec<u8>> {
        // A copy is made only of a text with escapes, which no client writes.
        let data: Text<'_> = serde_json::from_slice(self.data.as_deref()?).ok()?;
        STANDARD.decode(data.0.as_bytes()).ok()
    }
}

/// A text that borrows from its input where it can.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Plan {
    /// Reads a stored document. `None` when there is nothing to look for: it is ours and so are its tarballs, or all that
    /// the older system left of them was looked at.
    ///
    /// # Errors
    /// [`EditError::Damaged`].
    pub fn of(stored: &Bytes) -> Result<Option<Self>, EditError> {
        let document = HostedPackument::parse(stored)?;
        let kept_there = |number: &&str| document.tarball_digest(number).is_none();
        let is_done =
            document.notes.copied || document.notes.checked || !document.versions.keys().any(|n| kept_there(&n));
        if document.older.is_none() && is_done {
            return Ok(None);
        }
        let versions = document.versions.iter().filter(|(number, _)| kept_there(number));
        let versions = versions.map(|(number, raw)| PlannedVersion { number: number.to_owned(), claims: claims(raw) });
        Ok(Some(Self {
            revision: document.revision(),
            versions: versions.collect(),
            attachments: attachments(stored, &document),
            is_foreign: document.has_foreign_marks(),
        }))
    }
}

/// The attachments, without a copy of their bytes.
fn attachments(stored: &Bytes, document: &HostedPackument<'_>) -> Vec<Attachment> {
    let Some(all) = document.document.object("_attachments") else { return Vec::new() };
    let attachment = |(key, raw): (&str, &RawValue)| {
        let data = RawObject::from_raw(raw)
            .and_then(|attachment| Some(stored.slice_ref(attachment.get("data")?.get().as_bytes())));
        Attachment { key: key.to_owned(), data }
    };
    all.iter().map(attachment).collect()
}

/// What a version's record says of its tarball's bytes.
pub(super) fn claims(version: &RawValue) -> Vec<Integrity> {
    let dist = RawObject::from_raw(version)
        .and_then(|version| version.object("dist").map(|dist| (dist.text("integrity"), dist.text("shasum"))));
    let Some((integrity, shasum)) = dist else { return Vec::new() };
    let integrity = integrity.and_then(|text| Integrity::parse(&text));
    integrity.into_iter().chain(shasum.and_then(|text| Integrity::from_shasum(&text))).collect()
}

impl HostedPackument<'_> {
    /// Whether an older system wrote it.
    pub fn is_older(&self) -> bool {
        self.older.is_some()
    }

    /// Whether it is a copy of another registry's document, whose tarballs are there.
    pub(super) fn is_copy(&self) -> bool {
        self.notes.copied || self.has_foreign_marks()
    }

    fn has_foreign_marks(&self) -> bool {
        self.older.is_some() && (self.document.get("_rev").is_some() || !self.time.is_empty())
    }

    /// Makes a document ours, with what was found of its tarballs. Everything that is not understood stays.
    ///
    /// - A version without a time was published when its tarball was written, since the older system wrote none twice. Where
    ///   there is no tarball it gets the present: a date that is too late lets nothing pass for old.
    /// - Owners are not made up: see [`super::Head::owners`].
    /// - `latest`, where somebody deleted it, is the highest version.
    ///
    /// False when there was nothing to change.
    ///
    /// # Errors
    /// [`EditError::StaleRevision`] when what was looked at is another document than this; [`EditError::Damaged`].
    pub fn take_over(&mut self, findings: &Findings, now: Timestamp) -> Result<bool, EditError> {
        if findings.revision != self.revision() {
            return Err(EditError::StaleRevision);
        }
        let mut is_changed = self.older.is_some() || findings.is_checked != self.notes.checked;
        self.notes.copied = self.notes.copied || (self.has_foreign_marks() && findings.tarballs.is_empty());
        self.notes.checked = findings.is_checked;
        is_changed |= self.drop_attachments(&findings.settled)?;
        for (number, found) in &findings.tarballs {
            if self.versions.get(number).is_none() {
                continue;
            }
            if let Some(digest) = &found.digest {
                is_changed |= self.notes.tarballs.insert(number.clone(), digest.clone()).is_none();
            }
            if let Some(measured) = &found.measured {
                is_changed |= self.add_digests(number, measured)?;
            }
        }
        is_changed |= self.add_times(findings, now);
        if !self.dist_tags.contains_key("latest")
            && let Some(highest) = self.highest_version()
        {
            self.dist_tags.insert("latest".to_owned(), highest);
            is_changed = true;
        }
        Ok(is_changed)
    }

    fn drop_attachments(&mut self, settled: &BTreeSet<String>) -> Result<bool, EditError> {
        // `null`, or what is no object: there are no bytes in it.
        let mut unsettled = self.document.object("_attachments").unwrap_or_default();
        let before = unsettled.len();
        unsettled.retain(|key, _| !settled.contains(key));
        let is_less = unsettled.len() < before;
        let unsettled = (!unsettled.is_empty()).then(|| to_raw_value(&unsettled)).transpose();
        match unsettled.map_err(|_| EditError::Damaged)? {
            Some(raw) if is_less => self.document.put_raw("_attachments", raw),
            Some(_) => {}
            None => return Ok(self.document.remove("_attachments")),
        }
        Ok(is_less)
    }

    /// Digests that clients ask for and the version's record lacks.
    fn add_digests(&mut self, number: &str, measured: &Digests) -> Result<bool, EditError> {
        let Some(raw) = self.versions.get(number) else { return Ok(false) };
        let mut version: Map<String, Value> = serde_json::from_str(raw.get()).map_err(|_| EditError::Damaged)?;
        let dist = version.entry("dist").or_insert_with(|| Map::new().into());
        let Some(dist) = dist.as_object_mut() else { return Ok(false) };
        let before = dist.len();
        dist.entry("integrity").or_insert_with(|| measured.integrity().into());
        dist.entry("shasum").or_insert_with(|| measured.shasum().into());
        let is_more = dist.len() > before;
        if is_more {
            self.versions.set(number, &version).map_err(|_| EditError::Damaged)?;
        }
        Ok(is_more)
    }

    fn add_times(&mut self, findings: &Findings, now: Timestamp) -> bool {
        let (before, mut earliest) = (self.time.len(), now);
        for number in self.versions.keys() {
            let written = findings.tarballs.get(number).and_then(|found| found.written).unwrap_or(now);
            let at = self.time.entry(number).or_insert_with(|| written.to_string().into());
            let at = at.as_str().and_then(|text| text.parse().ok()).unwrap_or(now);
            earliest = earliest.min(at);
        }
        self.time.entry("created").or_insert_with(|| earliest.to_string().into());
        self.time.len() > before
    }

    /// The version that stands for the package in a list: the one tagged `latest`, or, where that tag is gone or points
    /// nowhere, the highest.
    pub fn shown_version(&self) -> Option<String> {
        let latest = self.dist_tags.get("latest").filter(|number| self.versions.get(number).is_some());
        latest.cloned().or_else(|| self.highest_version())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::npm::integrity::Hasher;

    const NOW: &str = "2026-11-24T12:00:00.000Z";
    const WRITTEN: &str = "2017-05-01T08:00:00.000Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn measured(bytes: &[u8]) -> Digests {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    fn older() -> Value {
        json!({
            "_id": "tool", "name": "tool", "access": null, "unknown": { "a": [1] },
            "dist-tags": { "latest": "1.1.0", "a%2Bb": "1.0.0", "lost": "9.9.9" },
            "versions": {
                "1.0.0": { "name": "tool", "version": "1.0.0", "dist": { "shasum": measured(b"one").shasum(), "tarball": "undefined/x" } },
                "1.1.0": { "name": "tool", "version": "1.1.0", "odd": "kept", "dist": { "tarball": "https://old/x" } },
                "1.1": { "name": "tool", "version": "1.1" },
            },
            "_attachments": {
                "tool-1.1.0.tgz": { "content_type": "application/octet-stream", "data": STANDARD.encode("two"), "length": 3 },
                "tool-1.0.0.tgz": { "data": "%%%", "length": 3 },
                "tool-0.9.0.tgz": { "stub": true },
            },
        })
    }

    fn stored(document: &Value) -> Bytes {
        document.to_string().into()
    }

    fn found(bytes: &[u8]) -> FoundTarball {
        FoundTarball { written: Some(at(WRITTEN)), digest: None, measured: Some(measured(bytes)) }
    }

    fn taken_over(bytes: &Bytes, findings: &Findings) -> Value {
        let mut document = HostedPackument::parse(bytes).unwrap();
        document.take_over(findings, at(NOW)).unwrap();
        serde_json::from_slice(&document.into_stored("r", at(NOW)).unwrap()).unwrap()
    }

    #[test]
    fn a_plan_says_what_to_look_for_and_copies_no_bytes() {
        let bytes = stored(&older());
        let plan = Plan::of(&bytes).unwrap().unwrap();
        let numbers: Vec<&str> = plan.versions.iter().map(|version| version.number.as_str()).collect();
        assert_eq!(numbers, ["1.0.0", "1.1.0", "1.1"]);
        assert!(plan.versions[0].is(&measured(b"one")) && !plan.versions[0].is(&measured(b"two")));
        assert!(plan.versions[1].is(&measured(b"anything")));
        let name = "tool".parse().unwrap();
        let shown: Vec<_> =
            plan.attachments.iter().map(|one| (one.number(&name), one.is_stub(), one.decoded())).collect();
        assert_eq!(shown[0], (Some("1.1.0"), false, Some(b"two".to_vec())));
        assert_eq!(shown[1], (Some("1.0.0"), false, None));
        assert_eq!(shown[2], (Some("0.9.0"), true, None));
        let data = plan.attachments[0].data.as_ref().unwrap().as_ptr() as usize;
        assert!((bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len()).contains(&data));
        assert!(!plan.is_foreign);
    }

    #[test]
    fn the_takeover_adds_what_is_missing_and_keeps_everything_else() {
        let bytes = stored(&older());
        let findings = Findings {
            revision: revision_of(&bytes),
            tarballs: [("1.0.0".to_owned(), found(b"one")), ("1.1.0".to_owned(), found(b"two"))].into(),
            settled: ["tool-1.1.0.tgz".to_owned(), "tool-0.9.0.tgz".to_owned()].into(),
            is_checked: false,
        };
        let after = taken_over(&bytes, &findings);
        assert_eq!(after["_rev"], "1-r");
        assert_eq!(
            after["time"],
            json!({ "1.0.0": WRITTEN, "1.1.0": WRITTEN, "1.1": NOW, "created": WRITTEN, "modified": NOW })
        );
        assert_eq!(after["dist-tags"], older()["dist-tags"]);
        assert_eq!((&after["unknown"], &after["access"]), (&older()["unknown"], &Value::Null));
        assert_eq!(after["versions"]["1.1.0"]["odd"], "kept");
        assert_eq!(after["versions"]["1.1.0"]["dist"]["shasum"], measured(b"two").shasum());
        assert_eq!(after["versions"]["1.0.0"]["dist"]["integrity"], measured(b"one").integrity());
        assert_eq!(after["versions"]["1.1"], older()["versions"]["1.1"]);
        // What is not known to be in the store stays.
        assert_eq!(after["_attachments"], json!({ "tool-1.0.0.tgz": older()["_attachments"]["tool-1.0.0.tgz"] }));
        assert!(after.get("maintainers").is_none());
    }

    #[test]
    fn latest_comes_back_where_it_was_deleted() {
        let mut document = older();
        document["dist-tags"] = json!({ "beta": "1.0.0" });
        let bytes = stored(&document);
        assert_eq!(HostedPackument::parse(&bytes).unwrap().shown_version().as_deref(), Some("1.1.0"));
        let findings = Findings { revision: revision_of(&bytes), ..Findings::default() };
        assert_eq!(taken_over(&bytes, &findings)["dist-tags"], json!({ "beta": "1.0.0", "latest": "1.1.0" }));
    }

    #[test]
    fn what_was_looked_at_must_be_what_is_taken_over() {
        let bytes = stored(&older());
        let mut document = HostedPackument::parse(&bytes).unwrap();
        let findings = Findings { revision: revision_of(b"{}"), ..Findings::default() };
        assert_eq!(document.take_over(&findings, at(NOW)), Err(EditError::StaleRevision));
    }

    #[test]
    fn a_document_is_known_by_its_bytes_and_not_by_a_revision_of_elsewhere() {
        let mut document = older();
        let revision = |document: &Value| HostedPackument::parse(&stored(document)).unwrap().revision();
        document["_rev"] = json!("7-abc");
        let before = revision(&document);
        document["dist-tags"]["next"] = json!("1.0.0");
        assert_ne!(revision(&document), before);
        assert!(before.starts_with("0-"));
    }

    #[test]
    fn a_copy_of_a_public_package_is_known_by_its_marks_and_stays_one() {
        let mut document = older();
        document["time"] = json!({ "1.0.0": WRITTEN });
        document["maintainers"] = json!([{ "name": "somebody", "email": "x@example.com" }]);
        let bytes = stored(&document);
        let head = HostedPackument::parse(&bytes).unwrap().head();
        assert!(head.is_copy && head.is_older);
        assert_eq!(head.owners, [super::super::NOBODY]);
        let findings = Findings { revision: revision_of(&bytes), ..Findings::default() };
        let after = stored(&taken_over(&bytes, &findings));
        let head = HostedPackument::parse(&after).unwrap().head();
        assert!(head.is_copy && !head.is_older);
        assert_eq!(head.owners, [super::super::NOBODY]);
        assert!(Plan::of(&after).unwrap().is_none());
        // With tarballs of its own it is a package of ours.
        let findings = Findings { tarballs: [("1.0.0".to_owned(), found(b"one"))].into(), ..findings };
        let head = HostedPackument::parse(&stored(&taken_over(&bytes, &findings))).unwrap().head();
        assert!(!head.is_copy);
        assert_eq!(head.owners, ["somebody"]);
    }

    #[test]
    fn what_was_checked_is_not_looked_at_again() {
        let bytes = stored(&older());
        let mut findings = Findings { revision: revision_of(&bytes), ..Findings::default() };
        assert!(Plan::of(&stored(&taken_over(&bytes, &findings))).unwrap().is_some());
        findings.is_checked = true;
        assert!(Plan::of(&stored(&taken_over(&bytes, &findings))).unwrap().is_none());
    }

    #[test]
    fn an_encoded_tag_is_the_tag_that_it_spells() {
        let bytes = stored(&older());
        let tags = |change: &dyn Fn(&mut HostedPackument<'_>)| {
            let mut document = HostedPackument::parse(&bytes).unwrap();
            change(&mut document);
            document.dist_tags().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(tags(&|document| document.remove_tag("a+b").unwrap()), ["latest", "lost"]);
        assert_eq!(tags(&|document| document.remove_tag("a%2Bb").unwrap()), ["latest", "lost"]);
        let set = |document: &mut HostedPackument<'_>| {
            document.set_tag(&"a+b".parse().unwrap(), &"1.1.0".parse().unwrap()).unwrap();
        };
        assert_eq!(tags(&set), ["a+b", "latest", "lost"]);
    }
}
