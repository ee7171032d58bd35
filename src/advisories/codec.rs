//! How one advisory is kept in the index: a few bytes where it is like all others, most of which are malware of one kind.
//!
//! Numbers are written seven bits at a time, lowest first. The form is part of the index's format: a change of it needs
//! another [`super::index::FORMAT`].

use super::advisory::{self, Advisory, Cvss};
use super::affected::{Affected, End, Interval};
use super::record::cwe_number;
use super::severity::Severity;
use crate::npm::{Timestamp, Version};

/// What nearly all ids and aliases begin with; kept as the lowest two bits of their length.
const PREFIXES: [&str; 4] = ["", "MAL-20", "GHSA-", "CVE-20"];

/// All versions, and no fixes.
const IS_EVERYTHING: u8 = 1;
/// The summary is the one that malware has without exception.
const IS_USUAL_SUMMARY: u8 = 2;
const HAS_CVSS: u8 = 4;
const HAS_MODIFIED: u8 = 8;
/// The severity is in the bits from here on.
const SEVERITY_SHIFT: u8 = 4;

const SEVERITIES: [Severity; 5] =
    [Severity::Unknown, Severity::Low, Severity::Moderate, Severity::High, Severity::Critical];

/// Writes an advisory about a package. The same advisory gives the same bytes.
pub fn write(name: &str, advisory: &Advisory, out: &mut Vec<u8>) {
    let is_everything = advisory.affected == Affected::all();
    let is_usual = advisory.summary == usual_summary(name);
    let severity = SEVERITIES.iter().position(|known| *known == advisory.severity).unwrap_or(0);
    let mut flags = u8::try_from(severity).unwrap_or(0) << SEVERITY_SHIFT;
    for (holds, flag) in [
        (is_everything, IS_EVERYTHING),
        (is_usual, IS_USUAL_SUMMARY),
        (advisory.cvss.is_some(), HAS_CVSS),
        (advisory.modified.is_some(), HAS_MODIFIED),
    ] {
        flags |= if holds { flag } else { 0 };
    }
    put_label(&advisory.id, out);
    out.push(flags);
    if !is_usual {
        put_text(&advisory.summary, out);
    }
    put_number(advisory.aliases.len() as u64, out);
    for alias in &advisory.aliases {
        put_label(alias, out);
    }
    let cwes: Vec<u32> = advisory.cwes.iter().filter_map(|cwe| cwe_number(cwe)).collect();
    put_number(cwes.len() as u64, out);
    for cwe in cwes {
        put_number(cwe.into(), out);
    }
    if let Some(cvss) = &advisory.cvss {
        out.push(cvss.tenths());
        put_text(&cvss.vector, out);
    }
    if let Some(modified) = advisory.modified {
        put_instant(modified, out);
    }
    if !is_everything {
        put_affected(&advisory.affected, out);
    }
}

/// Reads what [`write`] wrote; `None` when it is not that.
pub fn read(name: &str, input: &mut Input<'_>) -> Option<Advisory> {
    let id = input.label()?;
    let flags = input.byte()?;
    let summary = if flags & IS_USUAL_SUMMARY != 0 { usual_summary(name) } else { input.text()?.to_owned() };
    let aliases = input.list(Input::label)?;
    let cwes = input.list(|input| input.number().map(|number| format!("CWE-{number}")))?;
    let cvss = if flags & HAS_CVSS != 0 {
        let tenths = input.byte().filter(|tenths| *tenths <= 100)?;
        Some(Cvss::from_tenths(tenths, input.text()?.to_owned()))
    } else {
        None
    };
    let modified = if flags & HAS_MODIFIED != 0 { Some(input.instant()?) } else { None };
    let affected = if flags & IS_EVERYTHING != 0 { Affected::all() } else { input.affected()? };
    Some(Advisory {
        is_malware: advisory::is_malware(&id),
        url: advisory::url_of(&id),
        severity: *SEVERITIES.get(usize::from(flags >> SEVERITY_SHIFT))?,
        id,
        aliases,
        summary,
        cvss,
        cwes,
        affected,
        modified,
    })
}

/// What the database of malicious packages writes about each of them.
fn usual_summary(name: &str) -> String {
    format!("Malicious code in {name} (npm)")
}

/// A number, in one to ten bytes.
pub fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A text after its length.
pub fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// An instant, before or after 1970.
pub fn put_instant(instant: Timestamp, out: &mut Vec<u8>) {
    // The sign goes into the lowest bit, so that small numbers stay short.
    let millis = instant.as_millis();
    put_number((millis.unsigned_abs() << 1) | u64::from(millis < 0), out);
}

fn put_label(label: &str, out: &mut Vec<u8>) {
    // The empty prefix comes first and fits always, so the search from behind finds the longest.
    let found = PREFIXES.iter().enumerate().rev().find_map(|(at, prefix)| Some((at, label.strip_prefix(prefix)?)));
    let (at, rest) = found.unwrap_or((0, label));
    put_number(((rest.len() as u64) << 2) | at as u64, out);
    out.extend_from_slice(rest.as_bytes());
}

fn put_affected(affected: &Affected, out: &mut Vec<u8>) {
    put_number(affected.intervals().len() as u64, out);
    for interval in affected.intervals() {
        let (end, last) = match &interval.end {
            End::Open => (0, None),
            End::Before(version) => (1, Some(version)),
            End::UpTo(version) => (2, Some(version)),
        };
        out.push((end << 1) | u8::from(interval.from.is_some()));
        for version in interval.from.iter().chain(last) {
            put_text(&version.to_string(), out);
        }
    }
    for versions in [affected.versions(), affected.fixes()] {
        put_number(versions.len() as u64, out);
        for version in versions {
            put_text(&version.to_string(), out);
        }
    }
}

/// Bytes that are read from the front. Every method answers `None` when they are not what it reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    /// See [`put_number`].
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number of things that are still to come, each at least a byte.
    pub fn count(&mut self) -> Option<usize> {
        self.number().and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= self.0.len())
    }

    /// See [`put_text`].
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// See [`put_instant`].
    pub fn instant(&mut self) -> Option<Timestamp> {
        let number = self.number()?;
        let millis = i64::try_from(number >> 1).ok()?;
        Some(Timestamp::from_millis(if number & 1 == 0 { millis } else { -millis }))
    }

    fn label(&mut self) -> Option<String> {
        let number = self.number()?;
        let prefix = PREFIXES[usize::from(number.to_le_bytes()[0] & 3)];
        let rest = self.bytes(usize::try_from(number >> 2).ok()?)?;
        Some(format!("{prefix}{}", std::str::from_utf8(rest).ok()?))
    }

    fn version(&mut self) -> Option<Version> {
        self.text()?.parse().ok()
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn interval(&mut self) -> Option<Interval> {
        let form = self.byte()?;
        let from = if form & 1 == 1 { Some(self.version()?) } else { None };
        let end = match form >> 1 {
            0 => End::Open,
            1 => End::Before(self.version()?),
            2 => End::UpTo(self.version()?),
            _ => return None,
        };
        Some(Interval { from, end })
    }

    fn affected(&mut self) -> Option<Affected> {
        let intervals = self.list(Self::interval)?;
        let versions = self.list(Self::version)?;
        let fixes = self.list(Self::version)?;
        Some(Affected::new(intervals, versions, fixes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    use super::super::record;

    #[test]
    fn malware_takes_few_bytes() {
        let text = r#"{"id":"MAL-2025-191025","modified":"2025-11-25T00:36:47Z","aliases":["GHSA-q2q8-5wg4-g6jq"],
            "summary":"Malicious code in some-tool (npm)","affected":[{"package":{"ecosystem":"npm","name":"some-tool"},
            "ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
            "database_specific":{"cwes":[{"cweId":"CWE-506"}]}}]}"#;
        let record = record::read(text.as_bytes()).unwrap();
        let advisory = &record.packages["some-tool"];
        assert_eq!(advisory.cwes, ["CWE-506"]);
        let mut bytes = Vec::new();
        write("some-tool", advisory, &mut bytes);
        assert!(bytes.len() < 40, "{}", bytes.len());
        assert_eq!(read("some-tool", &mut Input(&bytes)).as_ref(), Some(advisory));
    }

    fn any_advisory() -> impl Strategy<Value = Advisory> {
        let version = "[0-9]{1,3}\\.[0-9]\\.[0-9](-[a-z]{1,3})?"
            .prop_filter_map("a version", |text| text.parse::<Version>().ok());
        let versions = || prop::collection::vec(version.clone(), 0..4);
        let interval = (prop::option::of(version.clone()), version.clone(), 0..3_usize).prop_map(|(from, to, end)| {
            Interval { from, end: [End::Open, End::Before(to.clone()), End::UpTo(to)][end].clone() }
        });
        let affected = (prop::collection::vec(interval, 0..4), versions(), versions())
            .prop_map(|(intervals, versions, fixes)| Affected::new(intervals, versions, fixes));
        let id = "(MAL-20|MAL-|GHSA-|CVE-20|X)[A-Z0-9:-]{0,20}";
        let texts = (id, prop::collection::vec(id, 0..3), "(Malicious code in tool \\(npm\\))|.{0,20}");
        let cvss = prop::option::of((0..=100_u8, "[A-Z:/]{0,20}"))
            .prop_map(|cvss| cvss.map(|(tenths, vector)| Cvss::from_tenths(tenths, vector)));
        let modified = prop::option::of(any::<i64>().prop_map(Timestamp::from_millis));
        let cwes = prop::collection::vec(1..2000_u32, 0..3);
        (texts, cvss, cwes, affected, modified, 0..5_usize).prop_map(
            |((id, aliases, summary), cvss, cwes, affected, modified, severity)| Advisory {
                is_malware: advisory::is_malware(&id),
                url: advisory::url_of(&id),
                severity: SEVERITIES[severity],
                cwes: cwes.into_iter().map(|number| format!("CWE-{number}")).collect(),
                id,
                aliases,
                summary,
                cvss,
                affected,
                modified,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(advisory in any_advisory()) {
            let mut bytes = Vec::new();
            write("tool", &advisory, &mut bytes);
            let mut input = Input(&bytes);
            prop_assert_eq!(read("tool", &mut input), Some(advisory));
            prop_assert!(input.0.is_empty());
            for cut in 0..bytes.len() {
                prop_assert_eq!(read("tool", &mut Input(&bytes[..cut])), None);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64), number in any::<u64>()) {
            let _ = read("tool", &mut Input(&bytes));
            let mut written = Vec::new();
            put_number(number, &mut written);
            prop_assert_eq!(Input(&written).number(), Some(number));
        }
    }
}
