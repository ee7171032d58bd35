//! What is publicly known to be malicious or vulnerable: OSV records of the npm ecosystem, compiled into a compact index.
//!
//! An archive of records (a zip file or a directory) is read one record at a time and becomes an [`Index`]: one block of
//! bytes, sorted by package, of which a look-up reads one line. The same records give the same index, whatever their order.

mod archive;
mod fetch;
mod index;
mod record;

use serde::{Deserialize, Serialize};

pub use archive::{CompileError, Compiled, Limits, compile};
pub use fetch::{FetchError, Fetched, Validators, fetch};
pub use index::{Index, IndexError, Statistics};

use crate::npm::{Timestamp, Version};

/// How bad a vulnerability is, in npm's words. Mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody says, or not in a way that is understood.
    Unknown,
    /// CVSS 0.1 to 3.9.
    Low,
    /// To 6.9.
    Moderate,
    /// To 8.9.
    High,
    /// From 9.0.
    Critical,
}

/// A score with how it came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CvssScore {
    /// 0.0 to 10.0.
    pub score: f64,
    /// `CVSS:3.1/…` or `CVSS:4.0/…`.
    pub vector: String,
}

/// One advisory about one package.
#[derive(Debug, Clone, PartialEq)]
pub struct Advisory {
    /// `GHSA-…`, `MAL-…`.
    pub id: String,
    /// Other names, such as `CVE-…`.
    pub aliases: Vec<String>,
    /// One line.
    pub summary: String,
    /// How bad it is; of malware [`Severity::Critical`].
    pub severity: Severity,
    /// The score, where there is one.
    pub cvss: Option<CvssScore>,
    /// `CWE-…`.
    pub cwes: Vec<String>,
    /// The package was made to do harm: its id starts with `MAL-`.
    pub is_malware: bool,
    /// Which versions.
    pub affected: Affected,
    /// When the record was last changed.
    pub modified: Option<Timestamp>,
}

/// A span of versions, by SemVer precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first version that is in; all from the beginning, where there is none.
    pub introduced: Option<Version>,
    /// Where it ends.
    pub end: End,
}

/// The end of a [`Span`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// None yet.
    Open,
    /// The first version that is out: the fix.
    Fixed(Version),
    /// The last version that is in.
    Last(Version),
}

/// The versions that an advisory is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affected {
    pub(super) spans: Vec<Span>,
    pub(super) versions: Vec<Version>,
    pub(super) fixes: Vec<Version>,
}

impl Severity {
    /// As npm writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// By the bands of CVSS 3 and 4.
    pub fn of_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Moderate,
            score if score > 0.0 => Self::Low,
            _ => Self::Unknown,
        }
    }
}

impl Advisory {
    /// Where people read about it.
    pub fn url(&self) -> String {
        match self.id.strip_prefix("GHSA-") {
            Some(_) => format!("https://github.com/advisories/{}", self.id),
            None => format!("https://osv.dev/vulnerability/{}", self.id),
        }
    }
}

impl Span {
    fn contains(&self, version: &Version) -> bool {
        let has_begun = self.introduced.as_ref().is_none_or(|first| version >= first);
        let has_not_ended = match &self.end {
            End::Open => true,
            End::Fixed(fix) => version < fix,
            End::Last(last) => version <= last,
        };
        has_begun && has_not_ended
    }
}

impl Affected {
    /// Every version there is and will be.
    pub fn all() -> Self {
        Self { spans: vec![Span { introduced: None, end: End::Open }], ..Self::default() }
    }

    /// Whether a version is affected. By SemVer precedence, prereleases included: not as npm's ranges have it.
    pub fn contains(&self, version: &Version) -> bool {
        self.spans.iter().any(|span| span.contains(version)) || self.versions.contains(version)
    }

    /// The versions that are named as fixes.
    pub fn fixes(&self) -> &[Version] {
        &self.fixes
    }

    /// Whether a fix is named that is higher than a version.
    pub fn has_fix_for(&self, version: &Version) -> bool {
        self.fixes.iter().any(|fix| fix > version)
    }

    /// Whether no version is left out.
    pub fn everything(&self) -> bool {
        self.spans.iter().any(|span| span.introduced.is_none() && span.end == End::Open)
    }

    /// The same as an npm range, for `vulnerable_versions`.
    pub fn range_text(&self) -> String {
        let spans = self.spans.iter().map(|span| {
            let first = span.introduced.as_ref().map_or_else(|| ">=0.0.0-0".to_owned(), |first| format!(">={first}"));
            match &span.end {
                End::Open => first,
                End::Fixed(fix) => format!("{first} <{fix}"),
                End::Last(last) => format!("{first} <={last}"),
            }
        });
        let all: Vec<String> = spans.chain(self.versions.iter().map(|version| format!("={version}"))).collect();
        all.join(" || ")
    }
}
