//! One OSV record, from its JSON to advisories by package.
//!
//! What decides whom a record is about (id, packages, ranges) is read strictly; what is only shown (summary, aliases,
//! severity) is read leniently, and left out when it is odd. Where it cannot be told which versions are affected, an
//! advisory of malware is about all of them, since installing one runs it; any other is about the versions that can be
//! told, since refusing all versions of a package in wide use does the more harm.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::advisory::{self, Advisory, Cvss};
use super::affected::{Affected, Event};
use super::severity::{self, Severity};
use crate::npm::{PackageName, Timestamp, Version};

/// The ecosystem that we are.
const ECOSYSTEM: &str = "npm";
/// Of an id or an alias.
pub const MAX_ID_BYTES: usize = 100;
/// Of a summary, after which it is cut at a character.
pub const MAX_SUMMARY_BYTES: usize = 300;
/// Of aliases, and of weaknesses. No real record has more than some ten.
const MAX_LABELS: usize = 32;
/// Of packages in one record. Real ones name some dozens, where a project is split into many packages.
const MAX_PACKAGES: usize = 1000;

/// What a record says about npm.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Of sane characters, at most [`MAX_ID_BYTES`].
    pub id: String,
    /// When it was last changed; `None` when it does not say so that it can be read.
    pub modified: Option<Timestamp>,
    /// Its database takes it back.
    pub is_withdrawn: bool,
    /// By package name in lower case. Empty when it is about other ecosystems, or about names that no package of ours
    /// can have.
    pub packages: BTreeMap<String, Advisory>,
}

/// Why a record is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not of the record's shape.
    #[error("it is not an OSV record")]
    Shape,
    /// No id, or one with odd characters.
    #[error("its id is none")]
    Id,
    /// Withdrawn, but not at an instant.
    #[error("it cannot be told whether it is withdrawn")]
    Withdrawn,
    /// Over a thousand packages in one record.
    #[error("it names too many packages")]
    TooMany,
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    id: String,
    #[serde(borrow, default)]
    modified: Option<&'a RawValue>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(borrow, default)]
    aliases: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
    #[serde(borrow, default)]
    severity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    affected: Option<Vec<RawAffected<'a>>>,
    #[serde(borrow, default)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAffected<'a> {
    #[serde(default)]
    package: Option<RawPackage>,
    #[serde(borrow, default)]
    ranges: Option<&'a RawValue>,
    #[serde(borrow, default)]
    versions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    severity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawPackage {
    ecosystem: String,
    name: String,
}

#[derive(Deserialize)]
struct RawRange {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Option<Vec<RawEvent>>,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(default)]
    introduced: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    last_affected: Option<String>,
    #[serde(default)]
    limit: Option<String>,
}

#[derive(Deserialize)]
struct RawScore<'a> {
    #[serde(borrow, default)]
    score: Option<&'a RawValue>,
}

/// What GitHub's database puts into `database_specific` of a record, and that of malicious packages into `affected`'s.
#[derive(Deserialize, Default)]
struct RawSpecific<'a> {
    #[serde(borrow, default)]
    severity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cwe_ids: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cwes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawWeakness {
    #[serde(rename = "cweId")]
    id: String,
}

/// A range or a list of versions that cannot be read.
struct Unreadable;

/// Reads a record. Takes time and memory in proportion to its length.
pub fn read(text: &[u8]) -> Result<Record, RecordError> {
    let raw: RawRecord<'_> = serde_json::from_slice(text).map_err(|_| RecordError::Shape)?;
    if !is_id(&raw.id) {
        return Err(RecordError::Id);
    }
    let is_withdrawn = match raw.withdrawn.as_deref() {
        None => false,
        Some(text) => text.parse::<Timestamp>().map(|_| true).map_err(|_| RecordError::Withdrawn)?,
    };
    let modified = lenient::<String>(raw.modified).and_then(|text| text.parse().ok());
    let mut entries: BTreeMap<String, Vec<&RawAffected<'_>>> = BTreeMap::new();
    for entry in raw.affected.iter().flatten() {
        if let Some(name) = name_of(entry) {
            entries.entry(name).or_default().push(entry);
        }
    }
    if entries.len() > MAX_PACKAGES {
        return Err(RecordError::TooMany);
    }
    let mut packages = BTreeMap::new();
    if !entries.is_empty() {
        let shared = Shared::of(&raw, modified);
        for (name, entries) in entries {
            packages.insert(name, shared.about(&entries)?);
        }
    }
    Ok(Record { id: raw.id, modified, is_withdrawn, packages })
}

/// A value where it is of the right shape, nothing where it is not.
fn lenient<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// Whether a text can be the id of an advisory: it goes into URLs, reports and file names.
fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    text.len() <= MAX_ID_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(is_plain)
}

/// The folded name of an npm package that somebody can ask for.
fn name_of(entry: &RawAffected<'_>) -> Option<String> {
    let package = entry.package.as_ref().filter(|package| package.ecosystem == ECOSYSTEM)?;
    package.name.parse::<PackageName>().ok().map(|name| name.as_str().to_ascii_lowercase())
}

/// What a record says of all its packages, read once: a record may have many.
struct Shared {
    id: String,
    aliases: Vec<String>,
    summary: String,
    word: Option<String>,
    cvss: Option<Cvss>,
    cwes: Vec<String>,
    modified: Option<Timestamp>,
}

impl Shared {
    fn of(record: &RawRecord<'_>, modified: Option<Timestamp>) -> Self {
        let specific: RawSpecific<'_> = lenient(record.database_specific).unwrap_or_default();
        Self {
            id: record.id.clone(),
            aliases: labels(lenient(record.aliases), |alias| is_id(alias) && *alias != record.id),
            summary: one_line(&lenient::<String>(record.summary).unwrap_or_default()),
            word: lenient(specific.severity),
            cvss: best_score([record.severity]),
            cwes: weaknesses(&specific),
            modified,
        }
    }

    /// The advisory about one package, from all entries with its name.
    fn about(&self, entries: &[&RawAffected<'_>]) -> Result<Advisory, RecordError> {
        let is_malware = advisory::is_malware(&self.id);
        let mut affected = Vec::new();
        let (mut word, mut cwes) = (self.word.clone(), self.cwes.clone());
        for entry in entries {
            affected.push(match affected_by(entry, is_malware) {
                Ok(affected) => affected,
                Err(Unreadable) if is_malware => Affected::all(),
                Err(Unreadable) => return Err(RecordError::Shape),
            });
            let specific: RawSpecific<'_> = lenient(entry.database_specific).unwrap_or_default();
            word = word.or_else(|| lenient(specific.severity));
            cwes.extend(weaknesses(&specific));
        }
        let cvss = best_score(entries.iter().map(|entry| entry.severity)).or_else(|| self.cvss.clone());
        Ok(Advisory {
            severity: severity_of(word.as_deref(), cvss.as_ref(), is_malware),
            aliases: self.aliases.clone(),
            summary: self.summary.clone(),
            cvss,
            cwes: labels(Some(cwes), |_| true),
            is_malware,
            affected: Affected::union(affected),
            modified: self.modified,
            url: advisory::url_of(&self.id),
            id: self.id.clone(),
        })
    }
}

/// The database's word first: it may know better than its formula.
fn severity_of(word: Option<&str>, cvss: Option<&Cvss>, is_malware: bool) -> Severity {
    let by_word = word.map_or(Severity::Unknown, Severity::from_word);
    let by_score = cvss.map_or(Severity::Unknown, |cvss| Severity::from_score(cvss.score));
    match (by_word, by_score) {
        (Severity::Unknown, Severity::Unknown) if is_malware => Severity::Critical,
        (Severity::Unknown, by_score) => by_score,
        (by_word, _) => by_word,
    }
}

/// Of several vectors the one with the highest score; of equal ones the later one, which is of the later standard.
fn best_score<'a>(lists: impl IntoIterator<Item = Option<&'a RawValue>>) -> Option<Cvss> {
    let scores = lists.into_iter().filter_map(lenient::<Vec<RawScore<'a>>>).flatten();
    let vectors = scores.filter_map(|score| severity::read_vector(&lenient::<String>(score.score)?));
    vectors.max_by(|a, b| a.score.total_cmp(&b.score))
}

fn weaknesses(specific: &RawSpecific<'_>) -> Vec<String> {
    let ids: Vec<String> = lenient(specific.cwe_ids).unwrap_or_default();
    let named: Vec<RawWeakness> = lenient(specific.cwes).unwrap_or_default();
    let all = ids.into_iter().chain(named.into_iter().map(|weakness| weakness.id)).collect();
    labels(Some(all), |cwe| cwe_number(cwe).is_some())
}

/// The number in `CWE-79`, in its one spelling.
pub fn cwe_number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("CWE-").filter(|digits| !digits.starts_with(['+', '0']))?;
    digits.parse().ok()
}

/// Those that fit, sorted, each once, not more than is sane.
fn labels(found: Option<Vec<String>>, fits: impl Fn(&String) -> bool) -> Vec<String> {
    let mut kept: Vec<String> = found.unwrap_or_default().into_iter().filter(fits).collect();
    kept.sort();
    kept.dedup();
    kept.truncate(MAX_LABELS);
    kept
}

/// A text without line breaks and control characters, cut to length.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_SUMMARY_BYTES {
            line.truncate(line.floor_char_boundary(MAX_SUMMARY_BYTES));
            break;
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// The versions of one `affected` entry.
///
/// # Errors
/// When they are not of the schema's shape, or when an advisory of malware has a part that cannot be read.
fn affected_by(entry: &RawAffected<'_>, is_malware: bool) -> Result<Affected, Unreadable> {
    let ranges: Option<Vec<RawRange>> = strict(entry.ranges)?;
    let versions: Option<Vec<String>> = strict(entry.versions)?;
    // A commit is no version: such ranges say nothing here.
    let ranges = ranges.into_iter().flatten().filter(|range| range.kind != "GIT");
    let mut readable = Vec::new();
    for range in ranges {
        match events_of(range) {
            Ok(events) => readable.push(events),
            Err(Unreadable) if is_malware => return Err(Unreadable),
            Err(Unreadable) => {}
        }
    }
    // A text that is no version is the name of no version that could be asked for.
    let versions = versions.iter().flatten().filter_map(|version| version.parse().ok()).collect();
    let affected = Affected::of(readable, versions);
    if is_malware && affected.nothing() { Err(Unreadable) } else { Ok(affected) }
}

fn strict<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, Unreadable> {
    raw.map_or(Ok(None), |raw| serde_json::from_str(raw.get()).map_err(|_| Unreadable))
}

fn events_of(range: RawRange) -> Result<Vec<Event>, Unreadable> {
    if !matches!(range.kind.as_str(), "SEMVER" | "ECOSYSTEM") {
        return Err(Unreadable);
    }
    let mut events = Vec::new();
    for raw in range.events.unwrap_or_default() {
        if let Some(text) = raw.introduced {
            let version = if text == "0" { None } else { Some(event_version(&text)?) };
            events.push(Event::Introduced(version));
        }
        if let Some(text) = raw.fixed {
            events.push(Event::Fixed(event_version(&text)?));
        }
        if let Some(text) = raw.last_affected {
            events.push(Event::LastAffected(event_version(&text)?));
        }
        if let Some(text) = raw.limit {
            let version = if text.contains('*') { None } else { Some(event_version(&text)?) };
            events.push(Event::Limit(version));
        }
    }
    let is_complete = events.iter().any(|event| matches!(event, Event::Introduced(_)));
    if is_complete { Ok(events) } else { Err(Unreadable) }
}

/// A version at an event. `2` and `2.1` are read as `2.0.0` and `2.1.0`: databases write bounds that nobody published.
fn event_version(text: &str) -> Result<Version, Unreadable> {
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let missing = match numbers.bytes().filter(|byte| *byte == b'.').count() {
        0 => ".0.0",
        1 => ".0",
        _ => "",
    };
    format!("{numbers}{missing}{rest}").parse().map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// A record as GitHub writes them, with members replaced.
    fn record(changes: &Value) -> Value {
        let mut record = json!({
            "schema_version": "1.4.0", "id": "GHSA-aaaa-bbbb-cccc", "modified": "2026-01-02T03:04:05.678901Z",
            "published": "2026-01-01T00:00:00Z", "aliases": ["CVE-2026-1234"], "summary": "It does  bad\nthings",
            "details": "Much text", "references": [{ "type": "WEB", "url": "https://acme.example" }],
            "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" }],
            "affected": [{
                "package": { "ecosystem": "npm", "name": "Tool", "purl": "pkg:npm/Tool" },
                "ranges": [{ "type": "SEMVER", "events": [{ "introduced": "0" }, { "fixed": "1.2.3" }] }]
            }],
            "database_specific": { "cwe_ids": ["CWE-79", "CWE-20", "bad"], "severity": "MODERATE", "nvd": null }
        });
        for (key, value) in changes.as_object().unwrap() {
            record[key] = value.clone();
        }
        record
    }

    fn read_value(value: &Value) -> Result<Record, RecordError> {
        read(value.to_string().as_bytes())
    }

    fn advisory(changes: &Value) -> Advisory {
        let record = read_value(&record(changes)).unwrap();
        record.packages.into_values().next().unwrap()
    }

    /// What a record about malware with these versions is about.
    fn malware(entry: &Value) -> Affected {
        let mut entry = entry.clone();
        entry["package"] = json!({ "ecosystem": "npm", "name": "tool" });
        advisory(&json!({ "id": "MAL-2026-1", "affected": [entry] })).affected
    }

    fn ranges_of(entry: &Value) -> String {
        let mut entry = entry.clone();
        entry["package"] = json!({ "ecosystem": "npm", "name": "tool" });
        advisory(&json!({ "affected": [entry] })).affected.range_text()
    }

    #[test]
    fn a_record_of_github() {
        let record = read_value(&record(&json!({}))).unwrap();
        assert_eq!(record.packages.keys().collect::<Vec<_>>(), ["tool"]);
        assert!(!record.is_withdrawn);
        let advisory = &record.packages["tool"];
        assert_eq!(advisory.id, "GHSA-aaaa-bbbb-cccc");
        assert_eq!(advisory.aliases, ["CVE-2026-1234"]);
        assert_eq!(advisory.summary, "It does bad things");
        assert_eq!(advisory.severity, Severity::Moderate);
        assert_eq!(advisory.cvss.as_ref().map(Cvss::tenths), Some(98));
        assert_eq!(advisory.cwes, ["CWE-20", "CWE-79"]);
        assert_eq!(advisory.affected.range_text(), "<1.2.3");
        assert_eq!(advisory.modified.unwrap().to_string(), "2026-01-02T03:04:05.678Z");
        assert_eq!(advisory.url, "https://github.com/advisories/GHSA-aaaa-bbbb-cccc");
        assert!(!advisory.is_malware);
    }

    #[test]
    fn what_is_only_shown_may_be_odd() {
        let advisory = advisory(&json!({
            "modified": 1, "aliases": "CVE-1", "summary": null, "severity": { "a": 1 }, "database_specific": [1]
        }));
        assert_eq!((advisory.modified, advisory.aliases.len(), advisory.summary.as_str()), (None, 0, ""));
        assert_eq!((advisory.severity, advisory.cvss, advisory.cwes.len()), (Severity::Unknown, None, 0));
    }

    #[test]
    fn severity_by_word_then_by_score() {
        let of = |changes: Value| advisory(&changes).severity;
        assert_eq!(of(json!({})), Severity::Moderate);
        assert_eq!(of(json!({ "database_specific": { "severity": "MEDIUM" } })), Severity::Moderate);
        assert_eq!(of(json!({ "database_specific": {} })), Severity::Critical);
        assert_eq!(of(json!({ "database_specific": { "severity": 7 } })), Severity::Critical);
        let two = json!([
            { "type": "CVSS_V4", "score": "CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N" },
            { "type": "CVSS_V3", "score": "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N" }, { "type": "X" }
        ]);
        let both = advisory(&json!({ "database_specific": null, "severity": two }));
        assert_eq!((both.severity, both.cvss.map(|cvss| cvss.tenths())), (Severity::Moderate, Some(61)));
        let bad = json!({ "database_specific": null, "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:Z" }] });
        assert_eq!(of(bad), Severity::Unknown);
        let malware = json!({ "id": "MAL-2026-1", "database_specific": null, "severity": null });
        assert_eq!(of(malware), Severity::Critical);
    }

    #[test]
    fn ranges_that_cannot_be_read_are_left_out_but_malware_has_everything() {
        let good = json!({ "type": "SEMVER", "events": [{ "introduced": "0" }, { "fixed": "1.0.0" }] });
        for bad in [
            json!({ "type": "SEMVER", "events": [{ "introduced": "1.x" }, { "fixed": "3.0.0" }] }),
            json!({ "type": "SEMVER", "events": [{ "introduced": "0" }, { "fixed": "" }] }),
            json!({ "type": "SEMVER", "events": [{ "fixed": "1.0.0" }] }),
            json!({ "type": "SEMVER", "events": [] }),
            json!({ "type": "SEMVER" }),
            json!({ "type": "LUNAR", "events": [{ "introduced": "0" }] }),
        ] {
            let entry = json!({ "ranges": [good, bad], "versions": ["2.0.0", "two"] });
            assert_eq!(ranges_of(&entry), "<1.0.0 || =2.0.0", "{bad}");
            assert!(malware(&entry).everything(), "{bad}");
        }
        for vague in [
            json!({}),
            json!({ "ranges": [], "versions": null }),
            json!({ "versions": ["latest"] }),
            json!({ "ranges": [{ "type": "GIT", "repo": "x", "events": [{ "introduced": "0" }] }] }),
        ] {
            assert_eq!(ranges_of(&vague), "<0.0.0-0", "{vague}");
            assert!(malware(&vague).everything(), "{vague}");
        }
        let odd = json!({ "ranges": 7 });
        assert!(malware(&odd).everything());
        let mut entry = odd.clone();
        entry["package"] = json!({ "ecosystem": "npm", "name": "tool" });
        assert_eq!(read_value(&record(&json!({ "affected": [entry] }))), Err(RecordError::Shape));
    }

    #[test]
    fn malware_in_some_versions_is_in_those() {
        let some = malware(&json!({ "versions": ["0.0.7", "0.0.8", "eight"] }));
        assert_eq!(some.range_text(), "=0.0.7 || =0.0.8");
        let all = malware(&json!({ "ranges": [{ "type": "SEMVER", "events": [{ "introduced": "0" }] }] }));
        assert!(all.everything());
    }

    #[test]
    fn short_bounds_are_filled_up() {
        let entry = json!({ "ranges": [{ "type": "ECOSYSTEM", "events": [
            { "introduced": "2" }, { "fixed": "2.1" }, { "introduced": "3.0-rc.1" }, { "last_affected": "3.0.0" },
            { "limit": "*" }
        ] }] });
        assert_eq!(ranges_of(&entry), ">=2.0.0 <2.1.0 || >=3.0.0-rc.1 <=3.0.0");
    }

    #[test]
    fn entries_of_one_package_are_one_and_foreign_ones_are_none() {
        let entry = |ecosystem: &str, name: &str, version: &str| json!({ "package": { "ecosystem": ecosystem, "name": name }, "versions": [version] });
        let affected = json!([
            entry("npm", "@Acme/Tool", "1.0.0"), entry("npm", "@acme/tool", "2.0.0"), entry("PyPI", "tool", "1"),
            entry("npm", "other", "1.0.0"), entry("npm", "--legacy-peer-deps", "1.0.0"), entry("npm", "../x", "1.0.0"),
            entry("npm:other", "third", "1.0.0"), { "ranges": [{ "type": "GIT", "events": [{ "introduced": "0" }] }] }
        ]);
        let found = read_value(&record(&json!({ "affected": affected }))).unwrap();
        assert_eq!(found.packages.keys().collect::<Vec<_>>(), ["@acme/tool", "other"]);
        assert_eq!(found.packages["@acme/tool"].affected.range_text(), "=1.0.0 || =2.0.0");
        let foreign = read_value(&record(&json!({ "affected": [entry("PyPI", "tool", "1")] }))).unwrap();
        assert!(foreign.packages.is_empty());
        assert!(read_value(&record(&json!({ "affected": null }))).unwrap().packages.is_empty());
    }

    #[test]
    fn ids_are_plain() {
        for id in ["", "../x", "a b", "-a", "GHSA-\u{e4}", "a/b", "a\n", &"a".repeat(101)] {
            assert_eq!(read_value(&record(&json!({ "id": id }))), Err(RecordError::Id), "{id:?}");
        }
        assert!(read_value(&record(&json!({ "id": "a".repeat(100) }))).is_ok());
    }

    #[test]
    fn withdrawn_is_an_instant() {
        let of = |withdrawn: Value| read_value(&record(&json!({ "withdrawn": withdrawn })));
        assert!(of(json!("2026-01-01T00:00:00Z")).unwrap().is_withdrawn);
        assert!(!of(json!(null)).unwrap().is_withdrawn);
        assert_eq!(of(json!("perhaps")), Err(RecordError::Withdrawn));
    }

    #[test]
    fn texts_that_are_no_records() {
        let deep = format!("{{\"id\":\"A-1\",\"affected\":{}", "[".repeat(100_000));
        let deep_elsewhere = format!("{{\"id\":\"A-1\",\"x\":{0}1{1}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["", "{}", "[]", "null", "{\"id\":1}", "{\"id\":\"A-1\"", &deep] {
            assert_eq!(read(text.as_bytes()), Err(RecordError::Shape));
        }
        assert_eq!(read(b"{\"id\":\"A-1\",\"details\":\"\xff\",\"affected\":\"\xff\"}"), Err(RecordError::Shape));
        // What nobody reads may be as deep as it likes, it costs nothing.
        let _ = read(deep_elsewhere.as_bytes());
    }

    #[test]
    fn a_record_that_costs_much_is_read_in_little_time() {
        let entry = |at: usize| {
            json!({
                "package": { "ecosystem": "npm", "name": "tool" }, "versions": [format!("{at}.0.0")],
                "ranges": [{ "type": "SEMVER", "events": [
                    { "introduced": format!("0.{at}.0") }, { "fixed": format!("0.{at}.5") }
                ] }]
            })
        };
        let affected: Vec<Value> = (0..20_000).map(entry).collect();
        let found = read_value(&record(&json!({ "affected": affected, "summary": "x".repeat(1 << 20) }))).unwrap();
        assert_eq!(found.packages["tool"].affected.intervals().len(), 20_000);
        assert_eq!(found.packages["tool"].summary.len(), MAX_SUMMARY_BYTES);
        let names = |at: usize| json!({ "package": { "ecosystem": "npm", "name": format!("tool{at}") } });
        let many: Vec<Value> = (0..=MAX_PACKAGES).map(names).collect();
        assert_eq!(read_value(&record(&json!({ "affected": many }))), Err(RecordError::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_text_in_any_place_is_answered(text in ".{0,24}|[0-9.x*+-]{0,12}", at in 0..12usize) {
            let places = [
                "/id", "/aliases/0", "/summary", "/severity/0/score", "/affected/0/package/name", "/withdrawn",
                "/affected/0/package/ecosystem", "/affected/0/ranges/0/type", "/affected/0/ranges/0/events/0/introduced",
                "/affected/0/ranges/0/events/1/fixed", "/database_specific/severity", "/database_specific/cwe_ids/0",
            ];
            let mut value = record(&json!({ "withdrawn": null }));
            *value.pointer_mut(places[at]).unwrap() = text.into();
            if let Ok(record) = read_value(&value) {
                prop_assert!(record.packages.len() <= 1);
                for advisory in record.packages.values() {
                    prop_assert!(advisory.summary.len() <= MAX_SUMMARY_BYTES);
                    prop_assert!(!advisory.summary.contains(char::is_control));
                }
            }
        }
    }
}
