//! What a package's document says, as far as decisions look at it.
//!
//! A version's own object is read only where a rule asks for something in it: most documents are judged by numbers and
//! dates alone, however large they are.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::trust::Trust;
use crate::npm::signature::PresentedSignature;
use crate::npm::{RawObject, Timestamp, Version};

/// npm's first public release: no package is older.
const NPM_BEGAN_MILLIS: i64 = 1_230_768_000_000; // 2009-01-01

/// Of a whole package.
#[derive(Debug)]
pub struct Facts<'a> {
    /// In the order of the document.
    pub versions: Vec<VersionFacts<'a>>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
}

/// Of one version.
#[derive(Debug)]
pub struct VersionFacts<'a> {
    /// As the document spells it.
    pub number: Cow<'a, str>,
    /// `None` for a text that is no version; some old documents have such.
    pub version: Option<Version>,
    /// When the upstream says that it was published; `None` when it does not say, or says nonsense.
    pub published: Option<Timestamp>,
    raw: &'a RawValue,
}

impl<'a> Facts<'a> {
    /// Reads a packument. A short one has no dates: then `modified` stands for all of them, since nothing in it is
    /// younger.
    ///
    /// # Errors
    /// When the text is not a JSON object.
    pub fn parse(document: &'a [u8]) -> Result<Self, serde_json::Error> {
        // In one pass where the versions are an object; of what has none there is nothing to judge.
        let (document, versions) = match RawObject::parse_with(document, "versions") {
            Ok((document, versions)) => (document, versions.unwrap_or_default()),
            Err(_) => (RawObject::parse(document)?, RawObject::default()),
        };
        let time: RawObject<'a> = document.input("time").and_then(RawObject::from_raw).unwrap_or_default();
        let times: BTreeMap<Cow<'a, str>, &'a RawValue> = time.into_inputs().collect();
        let upper_bound = if times.is_empty() { document.text("modified") } else { None };
        let upper_bound = upper_bound.as_deref().and_then(instant);
        let published = |number: &str| match times.get(number) {
            Some(raw) => text(raw).as_deref().and_then(instant),
            None => upper_bound,
        };
        let versions = versions.into_inputs().map(|(number, raw)| VersionFacts {
            version: number.parse().ok(),
            published: published(&number),
            number,
            raw,
        });
        let tags = document.object("dist-tags").unwrap_or_default();
        let tags = tags.iter().filter_map(|(tag, raw)| Some((tag.to_owned(), text(raw)?))).collect();
        Ok(Self { versions: versions.collect(), tags })
    }

    /// A package of which nothing is known but the number of one version.
    pub(super) fn of_number(version: &Version) -> Self {
        let number = Cow::Owned(version.to_string());
        let only = VersionFacts { number, version: Some(version.clone()), published: None, raw: RawValue::NULL };
        Self { versions: vec![only], tags: BTreeMap::new() }
    }

    /// A version by its number, in whatever spelling.
    pub fn version(&self, number: &str) -> Option<&VersionFacts<'a>> {
        self.versions.iter().find(|version| version.number == number).or_else(|| {
            let wanted: Version = number.parse().ok()?;
            self.versions.iter().find(|version| version.version.as_ref() == Some(&wanted))
        })
    }
}

impl<'a> VersionFacts<'a> {
    /// The version's own object, if it is one.
    pub fn raw(&self) -> &'a RawValue {
        self.raw
    }

    /// Names and ranges of what is installed with it: `dependencies`, `optionalDependencies` and `peerDependencies`,
    /// which npm installs too since its version 7.
    pub fn dependencies(&self) -> BTreeMap<String, String> {
        let Some(object) = RawObject::from_raw(self.raw) else { return BTreeMap::new() };
        ["peerDependencies", "optionalDependencies", "dependencies"]
            .into_iter()
            .filter_map(|member| object.object(member))
            .flat_map(|named| {
                named.iter().filter_map(|(name, raw)| Some((name.to_owned(), text(raw)?))).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The names of the scripts that run when it is installed.
    ///
    /// `prepare` runs only for what is installed from git, yet who adds it to a published version wants something. The
    /// short form has no names, and says only that there are some.
    pub fn install_scripts(&self) -> BTreeSet<String> {
        let Some(object) = RawObject::from_raw(self.raw) else { return BTreeSet::new() };
        let is_true = |member: &str| object.get(member).is_some_and(|raw| raw.get() == "true");
        let scripts = object.object("scripts").unwrap_or_default();
        let mut found: BTreeSet<String> = ["preinstall", "install", "postinstall", "prepare"]
            .into_iter()
            .filter(|script| scripts.get(script).is_some())
            .map(ToOwned::to_owned)
            .collect();
        if is_true("gypfile") {
            found.insert("binding.gyp".to_owned());
        }
        if found.is_empty() && is_true("hasInstallScript") {
            found.insert("install".to_owned());
        }
        found
    }

    /// `license` as a text; also the old `licenses`. `None` when the version names none.
    pub fn licence(&self) -> Option<String> {
        let object = RawObject::from_raw(self.raw)?;
        let one = |raw: &RawValue| text(raw).or_else(|| RawObject::from_raw(raw).and_then(|named| named.text("type")));
        if let Some(found) = object.get("license").and_then(one) {
            return Some(found);
        }
        let several: Vec<&RawValue> = serde_json::from_str(object.get("licenses")?.get()).ok()?;
        let names: Vec<String> = several.into_iter().filter_map(one).collect();
        (!names.is_empty()).then(|| format!("({})", names.join(" OR ")))
    }

    /// How it came to be published.
    pub fn trust(&self) -> Trust {
        RawObject::from_raw(self.raw).map_or(Trust::None, |object| Trust::of(&object))
    }

    /// `dist.integrity`.
    pub fn integrity(&self) -> Option<String> {
        RawObject::from_raw(self.raw)?.object("dist")?.text("integrity")
    }

    /// `dist.signatures`.
    pub fn signatures(&self) -> Vec<PresentedSignature> {
        let found = RawObject::from_raw(self.raw);
        let found = found.as_ref().and_then(|object| object.object("dist"));
        let raw = found.as_ref().and_then(|dist| dist.get("signatures"));
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// An instant that can be one: not before npm was.
fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|instant: &Timestamp| instant.as_millis() >= NPM_BEGAN_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_for_a_date_is_no_date() {
        let document = br#"{"time":{"1.0.0":"2020-01-01T00:00:00.000Z","2.0.0":"yesterday","3.0.0":7,"4.0.0":"1970-01-01T00:00:00.000Z"},
            "versions":{"1.0.0":{},"2.0.0":{},"3.0.0":{},"4.0.0":{},"5.0.0":{},"x":7}}"#;
        let facts = Facts::parse(document).unwrap();
        let dated: Vec<bool> = facts.versions.iter().map(|version| version.published.is_some()).collect();
        assert_eq!(dated, [true, false, false, false, false, false]);
        assert!(facts.version("x").unwrap().version.is_none());
    }

    #[test]
    fn nothing_in_a_short_document_is_younger_than_its_last_change() {
        let document = br#"{"modified":"2020-01-01T00:00:00.000Z","versions":{"1.0.0":{}}}"#;
        let facts = Facts::parse(document).unwrap();
        assert_eq!(facts.versions[0].published.unwrap().to_string(), "2020-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_version_is_read_in_every_spelling() {
        let document =
            br#"{"versions":{"1.0.0+build":{"license":{"type":"MIT"},"scripts":{"postinstall":"x","test":"y"},
            "dependencies":{"a":"^1","b":7},"optionalDependencies":{"c":"*"},"gypfile":true},
            "2.0.0":{"licenses":[{"type":"MIT"},"ISC"],"hasInstallScript":true,"dependencies":[]}}}"#;
        let facts = Facts::parse(document).unwrap();
        let first = facts.version("1.0.0").unwrap();
        assert_eq!(first.licence().as_deref(), Some("MIT"));
        assert_eq!(first.install_scripts().into_iter().collect::<Vec<_>>(), ["binding.gyp", "postinstall"]);
        assert_eq!(first.dependencies().into_keys().collect::<Vec<_>>(), ["a", "c"]);
        let second = facts.version("2.0.0").unwrap();
        assert_eq!(second.licence().as_deref(), Some("(MIT OR ISC)"));
        assert_eq!(second.install_scripts().len(), 1);
        assert!(second.dependencies().is_empty());
    }
}
