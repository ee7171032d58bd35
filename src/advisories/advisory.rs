//! One advisory about one package.

use super::affected::Affected;
use super::severity::Severity;
use crate::npm::Timestamp;

/// What the identifiers of malware begin with (the database of malicious packages, of `ossf`).
const MALWARE_PREFIX: &str = "MAL-";

/// One advisory about one package. An OSV record about several packages becomes several of these.
#[derive(Debug, Clone, PartialEq)]
pub struct Advisory {
    /// As its database names it, `GHSA-…` or `MAL-…`. Letters, digits and `-_.:`, at most 100 bytes.
    pub id: String,
    /// The same thing in other databases, `CVE-…`. Of the same characters as the id.
    pub aliases: Vec<String>,
    /// What it is about: one line, at most [`super::record::MAX_SUMMARY_BYTES`], possibly empty. A text from outside.
    pub summary: String,
    /// By the database's word, else by the CVSS vector. Malware of which neither speaks is critical.
    pub severity: Severity,
    /// The readable vector with the highest score.
    pub cvss: Option<Cvss>,
    /// Kinds of weakness, `CWE-79`.
    pub cwes: Vec<String>,
    /// The id is one of the database of malicious packages.
    pub is_malware: bool,
    /// Which versions.
    pub affected: Affected,
    /// When the record was last changed.
    pub modified: Option<Timestamp>,
    /// A page for people, made from the id.
    pub url: String,
}

/// A vector of CVSS 3 or 4 and its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Cvss {
    /// 0.0 to 10.0, with one digit after the point.
    pub score: f32,
    /// `CVSS:3.1/AV:N/…`
    pub vector: String,
}

impl Cvss {
    /// From a score in tenths.
    pub fn from_tenths(tenths: u8, vector: String) -> Self {
        Self { score: f32::from(tenths) / 10.0, vector }
    }

    /// The score in tenths, for storing.
    pub fn tenths(&self) -> u8 {
        (0..=100).find(|tenths| (f32::from(*tenths) - self.score * 10.0).abs() < 0.5).unwrap_or(0)
    }
}

/// Whether an id is one of the database of malicious packages.
pub fn is_malware(id: &str) -> bool {
    id.starts_with(MALWARE_PREFIX)
}

/// Where people read about an advisory. Safe to put anywhere, since an id has no characters of its own in URLs.
pub fn url_of(id: &str) -> String {
    if id.starts_with("GHSA-") {
        format!("https://github.com/advisories/{id}")
    } else {
        format!("https://osv.dev/vulnerability/{id}")
    }
}
