//! What a search finds, as npm's search and its old `/-/all` say it.
//!
//! A [`SearchEntry`] is everything that both forms need about a package's latest version, so that an answer is written
//! without a look at the package's document.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{PackageName, Timestamp};

/// A package as search knows it: its latest version's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchEntry {
    /// The package's name.
    #[serde(with = "as_text")]
    pub name: PackageName,
    /// The version that the tag `latest` names.
    pub version: String,
    /// May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// As written by the author.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// The author's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who may change the package.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintainers: Vec<Person>,
    /// Who published the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Person>,
    /// The licence's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where to read more.
    #[serde(default)]
    pub links: Links,
    /// When the version was published.
    #[serde(with = "as_text")]
    pub modified: Timestamp,
    /// The version is deprecated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// The version is below 1.0.0 or a prerelease: what npm calls unstable.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unstable: bool,
}

impl SearchEntry {
    /// The bytes of all its texts together.
    pub fn text_bytes(&self) -> usize {
        let texts = [&self.version, &self.description].into_iter().chain(&self.keywords);
        let texts = texts.chain(&self.author).chain(&self.license);
        let texts = texts.chain(&self.links.homepage).chain(&self.links.repository).chain(&self.links.bugs);
        let people = self.maintainers.iter().chain(&self.publisher);
        let people = people.flat_map(|person| [&person.username, &person.email]);
        self.name.as_str().len() + texts.chain(people).map(String::len).sum::<usize>()
    }
}

/// Someone with an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The account's name.
    pub username: String,
    /// Empty when it is not known or not to be shown.
    #[serde(default)]
    pub email: String,
}

/// The links of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// `homepage`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// `repository.url`, for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// `bugs.url`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bugs: Option<String>,
}

/// One of the answer's objects.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// A package of ours.
    Hosted(&'a SearchEntry),
    /// An object of an upstream's answer, passed on as it is.
    Upstream(&'a RawValue),
}

/// Writes the answer of `GET /-/v1/search`.
///
/// - `first`: how many results come before this page, npm's `from`. `searchScore` counts down from `total`, so that it
///   says the order and no more.
/// - `time`: the moment of the answer.
/// - `package_base_url`: `links.npm` is this, a slash and the name; a slash at its end is ignored.
///
/// `objects` comes first, because npm streams them; `maintainers`, `links` and `date` are always there, because npm
/// reads them without a check (npm's `format-search-stream`). The three details of the score are 1, as on the public
/// registry since 2025.
///
/// # Errors
/// None in practice: only what cannot be written as JSON fails, and nothing here is such.
pub fn search_document(
    objects: &[Found<'_>],
    first: usize,
    total: usize,
    time: Timestamp,
    package_base_url: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let base = package_base_url.trim_end_matches('/');
    let objects = objects.iter().enumerate().map(|(index, found)| match found {
        Found::Hosted(entry) => Object::Hosted(Box::new(HostedObject {
            package: Package::of(entry, base),
            score: Score { r#final: 1, detail: Detail { quality: 1, popularity: 1, maintenance: 1 } },
            search_score: total.saturating_sub(first + index).max(1),
            updated: entry.modified.to_string(),
            flags: Flags { insecure: 0, unstable: entry.unstable },
        })),
        Found::Upstream(object) => Object::Upstream(object),
    });
    serde_json::to_vec(&Document { objects: objects.collect(), total, time: time.to_string() })
}

/// Writes the object of `GET /-/all` (npm 6 and older) in pieces, so that no answer is held in memory as a whole.
///
/// The pieces in their order are [`all_head`], one [`all_member`] for each package, and [`ALL_END`].
pub fn all_head(updated: Timestamp) -> String {
    // Always first: npm 6 reads it before the packages. No package's name starts with an underscore.
    format!("{{\"_updated\":{}", updated.as_millis())
}

/// A package in the object of `GET /-/all`, with the comma before it.
///
/// # Errors
/// None in practice, as for [`search_document`].
pub fn all_member(entry: &SearchEntry) -> Result<String, serde_json::Error> {
    let member = AllMember {
        name: entry.name.as_str(),
        description: &entry.description,
        maintainers: entry
            .maintainers
            .iter()
            .map(|person| NamedPerson { name: &person.username, email: &person.email })
            .collect(),
        dist_tags: Latest { latest: &entry.version },
        time: Modified { modified: entry.modified.to_string() },
        versions: [(entry.version.as_str(), "latest")].into(),
        keywords: &entry.keywords,
    };
    Ok(format!(",{}:{}", serde_json::to_string(entry.name.as_str())?, serde_json::to_string(&member)?))
}

/// What closes the object of `GET /-/all`.
pub const ALL_END: &str = "}";

#[derive(Serialize)]
struct Document<'a> {
    objects: Vec<Object<'a>>,
    total: usize,
    time: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Object<'a> {
    Hosted(Box<HostedObject<'a>>),
    Upstream(&'a RawValue),
}

#[derive(Serialize)]
struct HostedObject<'a> {
    package: Package<'a>,
    score: Score,
    #[serde(rename = "searchScore")]
    search_score: usize,
    updated: String,
    flags: Flags,
}

#[derive(Serialize)]
struct Package<'a> {
    name: &'a str,
    scope: &'a str,
    version: &'a str,
    description: &'a str,
    keywords: &'a [String],
    date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    links: PackageLinks<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Author<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<&'a Person>,
    maintainers: &'a [Person],
}

impl<'a> Package<'a> {
    fn of(entry: &'a SearchEntry, base: &str) -> Self {
        Self {
            name: entry.name.as_str(),
            scope: entry.name.scope().map_or("unscoped", |scope| scope.as_str().trim_start_matches('@')),
            version: &entry.version,
            description: &entry.description,
            keywords: &entry.keywords,
            date: entry.modified.to_string(),
            license: entry.license.as_deref(),
            links: PackageLinks { npm: format!("{base}/{}", entry.name), others: &entry.links },
            author: entry.author.as_deref().map(|name| Author { name }),
            publisher: entry.publisher.as_ref(),
            maintainers: &entry.maintainers,
        }
    }
}

#[derive(Serialize)]
struct PackageLinks<'a> {
    npm: String,
    #[serde(flatten)]
    others: &'a Links,
}

#[derive(Serialize)]
struct Author<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Score {
    r#final: u8,
    detail: Detail,
}

#[derive(Serialize)]
struct Detail {
    quality: u8,
    popularity: u8,
    maintenance: u8,
}

#[derive(Serialize)]
struct Flags {
    insecure: u8,
    #[serde(skip_serializing_if = "is_false")]
    unstable: bool,
}

#[derive(Serialize)]
struct AllMember<'a> {
    name: &'a str,
    description: &'a str,
    maintainers: Vec<NamedPerson<'a>>,
    #[serde(rename = "dist-tags")]
    dist_tags: Latest<'a>,
    time: Modified,
    versions: std::collections::BTreeMap<&'a str, &'a str>,
    keywords: &'a [String],
}

#[derive(Serialize)]
struct NamedPerson<'a> {
    name: &'a str,
    email: &'a str,
}

#[derive(Serialize)]
struct Latest<'a> {
    latest: &'a str,
}

#[derive(Serialize)]
struct Modified {
    modified: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Serde for what has a text form of its own.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> SearchEntry {
        SearchEntry {
            name: "@acme/tool".parse().unwrap(),
            version: "0.2.0".to_owned(),
            description: "Says \"hello\"".to_owned(),
            keywords: vec!["greeting".to_owned()],
            author: Some("Jane Doe".to_owned()),
            maintainers: vec![Person { username: "jane".to_owned(), email: "jane@acme.test".to_owned() }],
            publisher: Some(Person { username: "jane".to_owned(), email: String::new() }),
            license: Some("MIT".to_owned()),
            links: Links { homepage: Some("https://acme.test/".to_owned()), ..Links::default() },
            modified: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            deprecated: false,
            unstable: true,
        }
    }

    fn bare() -> SearchEntry {
        SearchEntry {
            name: "bare".parse().unwrap(),
            version: "1.0.0".to_owned(),
            description: String::new(),
            keywords: vec![],
            author: None,
            maintainers: vec![],
            publisher: None,
            license: None,
            links: Links::default(),
            modified: Timestamp::from_millis(0),
            deprecated: true,
            unstable: false,
        }
    }

    #[test]
    fn the_answer_has_npms_shape() {
        let theirs = serde_json::value::to_raw_value(&json!({ "package": { "name": "theirs" }, "other": 1 })).unwrap();
        let (full, bare) = (full(), bare());
        let objects = [Found::Hosted(&full), Found::Hosted(&bare), Found::Upstream(&theirs)];
        let time = Timestamp::from_millis(1000);
        let document = search_document(&objects, 20, 22, time, "https://npm.acme.test/").unwrap();
        assert!(document.starts_with(b"{\"objects\":["), "npm streams the objects");
        let score = json!({ "final": 1, "detail": { "quality": 1, "popularity": 1, "maintenance": 1 } });
        assert_eq!(
            serde_json::from_slice::<Value>(&document).unwrap(),
            json!({
                "objects": [
                    {
                        "package": {
                            "name": "@acme/tool", "scope": "acme", "version": "0.2.0", "description": "Says \"hello\"",
                            "keywords": ["greeting"], "date": "2026-01-02T03:04:05.678Z", "license": "MIT",
                            "links": { "npm": "https://npm.acme.test/@acme/tool", "homepage": "https://acme.test/" },
                            "author": { "name": "Jane Doe" },
                            "publisher": { "username": "jane", "email": "" },
                            "maintainers": [{ "username": "jane", "email": "jane@acme.test" }],
                        },
                        "score": score, "searchScore": 2, "updated": "2026-01-02T03:04:05.678Z",
                        "flags": { "insecure": 0, "unstable": true },
                    },
                    {
                        "package": {
                            "name": "bare", "scope": "unscoped", "version": "1.0.0", "description": "", "keywords": [],
                            "date": "1970-01-01T00:00:00.000Z", "links": { "npm": "https://npm.acme.test/bare" },
                            "maintainers": [],
                        },
                        "score": score, "searchScore": 1, "updated": "1970-01-01T00:00:00.000Z",
                        "flags": { "insecure": 0 },
                    },
                    { "package": { "name": "theirs" }, "other": 1 },
                ],
                "total": 22,
                "time": "1970-01-01T00:00:01.000Z",
            })
        );
        let empty = search_document(&[], 0, 0, time, "https://npm.acme.test").unwrap();
        assert_eq!(String::from_utf8(empty).unwrap(), r#"{"objects":[],"total":0,"time":"1970-01-01T00:00:01.000Z"}"#);
    }

    #[test]
    fn the_old_listing_has_its_date_first() {
        let mut text = all_head(Timestamp::from_millis(1_700_000_000_000));
        text += &all_member(&full()).unwrap();
        text += &all_member(&bare()).unwrap();
        text += ALL_END;
        assert!(text.starts_with("{\"_updated\":1700000000000,"));
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            json!({
                "_updated": 1_700_000_000_000_i64,
                "@acme/tool": {
                    "name": "@acme/tool", "description": "Says \"hello\"",
                    "maintainers": [{ "name": "jane", "email": "jane@acme.test" }],
                    "dist-tags": { "latest": "0.2.0" }, "time": { "modified": "2026-01-02T03:04:05.678Z" },
                    "versions": { "0.2.0": "latest" }, "keywords": ["greeting"],
                },
                "bare": {
                    "name": "bare", "description": "", "maintainers": [], "dist-tags": { "latest": "1.0.0" },
                    "time": { "modified": "1970-01-01T00:00:00.000Z" }, "versions": { "1.0.0": "latest" },
                    "keywords": [],
                },
            })
        );
    }

    #[test]
    fn an_entry_survives_being_kept() {
        for entry in [full(), bare()] {
            let kept = serde_json::to_vec(&entry).unwrap();
            assert_eq!(serde_json::from_slice::<SearchEntry>(&kept).unwrap(), entry);
        }
    }
}
