//! From an OSV record (schema 1.x) to what the index keeps of it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Advisory, Affected, CvssScore, End, Severity, Span};
use crate::npm::{PackageName, Version};

/// `ecosystem` of npm's packages.
const NPM: &str = "npm";
/// Longer summaries are cut.
const MAX_SUMMARY_CHARS: usize = 200;
/// Of aliases, CWEs: more tell no more.
const MAX_NAMES: usize = 20;
/// `0.0.0-0` and all that follows; OSV writes `0` for "from the beginning".
const BEGINNING: &str = "0";

#[derive(Deserialize)]
struct Record {
    id: String,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    details: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    severity: Vec<Score>,
    #[serde(default)]
    affected: Vec<AffectedPackage>,
    #[serde(default)]
    database_specific: DatabaseSpecific,
}

#[derive(Deserialize)]
struct Score {
    #[serde(default)]
    score: String,
}

#[derive(Default, Deserialize)]
struct DatabaseSpecific {
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    cwe_ids: Vec<String>,
}

#[derive(Deserialize)]
struct AffectedPackage {
    #[serde(default)]
    package: Package,
    #[serde(default)]
    ranges: Vec<Range>,
    #[serde(default)]
    versions: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Package {
    #[serde(default)]
    ecosystem: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
}

/// What a record is.
#[derive(Debug)]
pub(super) enum Read {
    /// About packages of npm, by their names in lower case.
    About(Vec<(String, Advisory)>),
    /// Taken back.
    Withdrawn,
    /// About others.
    Foreign,
    /// Not to be understood.
    Unreadable,
}

/// Reads a record. `expected_id` is what its file's name says.
pub(super) fn read(text: &[u8], expected_id: Option<&str>) -> Read {
    let Ok(record) = serde_json::from_slice::<Record>(text) else { return Read::Unreadable };
    let is_sane = |id: &str| {
        !id.is_empty()
            && id.len() <= 100
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if !is_sane(&record.id) || expected_id.is_some_and(|expected| expected != record.id) {
        return Read::Unreadable;
    }
    if record.withdrawn.is_some() {
        return Read::Withdrawn;
    }
    let is_malware = record.id.starts_with("MAL-");
    let mut by_name: BTreeMap<String, Affected> = BTreeMap::new();
    let mut is_of_npm = false;
    for affected in record.affected.iter().filter(|affected| affected.package.ecosystem == NPM) {
        is_of_npm = true;
        // A name that no package can have is no use to anybody.
        let Ok(name) = affected.package.name.parse::<PackageName>() else { continue };
        let versions = versions_of(affected, is_malware);
        if versions.spans.is_empty() && versions.versions.is_empty() {
            continue;
        }
        let all = by_name.entry(name.as_str().to_lowercase()).or_default();
        all.spans.extend(versions.spans);
        all.versions.extend(versions.versions);
        all.fixes.extend(versions.fixes);
    }
    if !is_of_npm {
        return Read::Foreign;
    }
    let template = advisory(&record, is_malware);
    let advisories = by_name.into_iter().map(|(name, mut affected)| {
        affected.fixes.sort();
        affected.fixes.dedup();
        (name, Advisory { affected, ..template.clone() })
    });
    Read::About(advisories.collect())
}

fn advisory(record: &Record, is_malware: bool) -> Advisory {
    let cvss = record.severity.iter().find_map(|score| {
        let parsed: cvss::Cvss = score.score.parse().ok()?;
        Some(CvssScore { score: (parsed.score() * 10.0).round() / 10.0, vector: score.score.clone() })
    });
    let stated = record.database_specific.severity.as_deref().map(str::to_ascii_uppercase);
    let severity = match stated.as_deref() {
        _ if is_malware => Severity::Critical,
        Some("LOW") => Severity::Low,
        Some("MODERATE" | "MEDIUM") => Severity::Moderate,
        Some("HIGH") => Severity::High,
        Some("CRITICAL") => Severity::Critical,
        _ => cvss.as_ref().map_or(Severity::Unknown, |cvss| Severity::of_score(cvss.score)),
    };
    let summary = if record.summary.trim().is_empty() { &record.details } else { &record.summary };
    let short = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| name.len() <= 100).take(MAX_NAMES).cloned().collect()
    };
    Advisory {
        id: record.id.clone(),
        aliases: short(&record.aliases),
        summary: one_line(summary),
        severity,
        cvss,
        cwes: short(&record.database_specific.cwe_ids),
        is_malware,
        affected: Affected::default(),
        modified: record.modified.as_deref().and_then(|text| text.parse().ok()),
    }
}

fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().filter(|letter| !letter.is_control()).take(MAX_SUMMARY_CHARS).collect();
    cut
}

/// Malware of which it is not understood which versions are meant is taken to be all of them; for a vulnerability the part
/// that is not understood is left out.
fn versions_of(affected: &AffectedPackage, is_malware: bool) -> Affected {
    let mut found = Affected::default();
    let mut is_clear = true;
    for range in affected.ranges.iter().filter(|range| matches!(range.kind.as_str(), "SEMVER" | "ECOSYSTEM")) {
        match spans(&range.events) {
            Some(spans) => found.spans.extend(spans),
            None => is_clear = false,
        }
    }
    for text in &affected.versions {
        match text.parse() {
            Ok(version) => found.versions.push(version),
            Err(_) => is_clear = false,
        }
    }
    // The list often repeats what the spans say.
    let spans = &found.spans;
    let listed: Vec<Version> =
        found.versions.iter().filter(|version| !spans.iter().any(|span| span.contains(version))).cloned().collect();
    found.versions = listed;
    let says_nothing = found.spans.is_empty() && found.versions.is_empty();
    if is_malware && (says_nothing || !is_clear) {
        return Affected::all();
    }
    found.fixes = found
        .spans
        .iter()
        .filter_map(|span| match &span.end {
            End::Fixed(fix) => Some(fix.clone()),
            End::Open | End::Last(_) => None,
        })
        .collect();
    found
}

/// Events in the order of their versions make spans. `None` when one of them is no version.
fn spans(events: &[Event]) -> Option<Vec<Span>> {
    enum What {
        Introduced,
        Fixed,
        Last,
    }
    let mut sorted: Vec<(Option<Version>, What)> = Vec::new();
    for event in events {
        // `limit` bounds what is looked at in git, and says nothing here.
        for (text, what) in
            [(&event.introduced, What::Introduced), (&event.fixed, What::Fixed), (&event.last_affected, What::Last)]
        {
            match text.as_deref() {
                None => {}
                Some(BEGINNING) => sorted.push((None, what)),
                Some(text) => sorted.push((Some(text.parse().ok()?), what)),
            }
        }
    }
    // Of one version, what begins comes before what ends.
    sorted.sort_by(|(one, first), (other, second)| {
        let ends = |what: &What| !matches!(what, What::Introduced);
        one.cmp(other).then_with(|| ends(first).cmp(&ends(second)))
    });
    let mut spans = Vec::new();
    let mut begun: Option<Option<Version>> = None;
    for (version, what) in sorted {
        match (what, version) {
            (What::Introduced, version) => {
                begun.get_or_insert(version);
            }
            (What::Fixed, Some(fix)) => {
                spans.extend(begun.take().map(|introduced| Span { introduced, end: End::Fixed(fix) }));
            }
            (What::Last, Some(last)) => {
                spans.extend(begun.take().map(|introduced| Span { introduced, end: End::Last(last) }));
            }
            (What::Fixed | What::Last, None) => return None,
        }
    }
    spans.extend(begun.map(|introduced| Span { introduced, end: End::Open }));
    Some(spans)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(id: &str, affected: &str) -> String {
        format!(
            r#"{{"id":"{id}","modified":"2026-01-01T00:00:00Z","summary":"A\nline","aliases":["CVE-1"],"affected":[{affected}],
            "severity":[{{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}}]}}"#
        )
    }

    fn about(text: &str) -> Vec<(String, Advisory)> {
        match read(text.as_bytes(), None) {
            Read::About(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_make_spans() {
        let affected = r#"{"package":{"ecosystem":"npm","name":"Left"},"ranges":[{"type":"SEMVER","events":[
            {"fixed":"1.2.0"},{"introduced":"2.0.0"},{"introduced":"0"},{"last_affected":"2.1.0"}]}],"versions":["1.0.0","3.0.0"]}"#;
        let found = about(&record("GHSA-x", affected));
        let (name, advisory) = &found[0];
        assert_eq!(name, "left");
        assert_eq!((advisory.severity, advisory.summary.as_str()), (Severity::Critical, "A line"));
        assert_eq!(advisory.cvss.as_ref().unwrap().score.to_string(), "9.8");
        for (version, expected) in [
            ("0.0.1", true),
            ("1.2.0-rc.1", true),
            ("1.2.0", false),
            ("2.0.0", true),
            ("2.1.0", true),
            ("2.1.1", false),
            ("3.0.0", true),
        ] {
            assert_eq!(advisory.affected.contains(&version.parse().unwrap()), expected, "{version}");
        }
        assert_eq!(advisory.affected.range_text(), ">=0.0.0-0 <1.2.0 || >=2.0.0 <=2.1.0 || =3.0.0");
        assert_eq!(advisory.affected.fixes().len(), 1);
        assert!(advisory.affected.has_fix_for(&"1.0.0".parse().unwrap()));
        assert!(!advisory.affected.has_fix_for(&"2.0.0".parse().unwrap()));
    }

    #[test]
    fn malware_that_says_nothing_clear_is_all_of_the_package() {
        for affected in [
            r#"{"package":{"ecosystem":"npm","name":"x"}}"#,
            r#"{"package":{"ecosystem":"npm","name":"x"},"ranges":[{"type":"SEMVER","events":[{"introduced":"one"}]}]}"#,
            r#"{"package":{"ecosystem":"npm","name":"x"},"versions":["1.0.0","?"]}"#,
        ] {
            assert!(about(&record("MAL-1", affected))[0].1.affected.everything(), "{affected}");
            assert!(!about(&record("GHSA-1", affected)).iter().any(|(_, advisory)| advisory.affected.everything()));
        }
    }

    #[test]
    fn what_is_not_for_us_is_told_apart() {
        let foreign = record("GHSA-1", r#"{"package":{"ecosystem":"PyPI","name":"x"}}"#);
        assert!(matches!(read(foreign.as_bytes(), None), Read::Foreign));
        let withdrawn = foreign.replacen('{', r#"{"withdrawn":"2026-01-01T00:00:00Z","#, 1);
        assert!(matches!(read(withdrawn.as_bytes(), None), Read::Withdrawn));
        let own = record("GHSA-1", r#"{"package":{"ecosystem":"npm","name":"x"},"versions":["1.0.0"]}"#);
        assert!(matches!(read(own.as_bytes(), Some("GHSA-2")), Read::Unreadable));
        for text in ["", "[]", "{}", r#"{"id":"a b"}"#, r#"{"id":7}"#, "\u{feff}{}"] {
            assert!(matches!(read(text.as_bytes(), None), Read::Unreadable), "{text}");
        }
        let deep = format!(r#"{{"id":"MAL-1","affected":{}"#, "[".repeat(100_000));
        assert!(matches!(read(deep.as_bytes(), None), Read::Unreadable));
    }

    proptest! {
        #[test]
        fn any_events_are_answered(events in prop::collection::vec((0usize..3, "[0-2]\\.[0-2]\\.[0-2]|0|x"), 0..8), version in "[0-2]\\.[0-2]\\.[0-2]") {
            let kinds = ["introduced", "fixed", "last_affected"];
            let text: Vec<String> = events.iter().map(|(kind, version)| format!(r#"{{"{}":"{version}"}}"#, kinds[*kind])).collect();
            let affected = format!(r#"{{"package":{{"ecosystem":"npm","name":"x"}},"ranges":[{{"type":"SEMVER","events":[{}]}}]}}"#, text.join(","));
            let found = about(&record("GHSA-1", &affected));
            let version: Version = version.parse().unwrap();
            // OSV's own algorithm: of the events at or before a version, the last one that says something decides.
            let is_clear = events.iter().all(|(kind, text)| text != "x" && (*kind == 0 || text != "0"));
            if is_clear {
                let position = |text: &str| if text == "0" { None } else { text.parse::<Version>().ok() };
                let mut sorted: Vec<(Option<Version>, usize)> = events.iter().map(|(kind, text)| (position(text), *kind)).collect();
                sorted.sort_by_key(|(at, kind)| (at.clone(), *kind != 0));
                let mut expected = false;
                for (at, kind) in sorted {
                    match kind {
                        0 if at.as_ref().is_none_or(|at| *at <= version) => expected = true,
                        1 if at.as_ref().is_some_and(|at| *at <= version) => expected = false,
                        2 if at.as_ref().is_some_and(|at| *at < version) => expected = false,
                        _ => {}
                    }
                }
                let actual = found.iter().any(|(_, advisory)| advisory.affected.contains(&version));
                prop_assert_eq!(actual, expected);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, None);
        }
    }
}
