//! The compact index: a header line of JSON, then one line for each package, sorted: its name, a tab, its advisories as
//! JSON. A look-up is a binary search over the starts of lines; only the line that is asked for is parsed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Advisory, Affected, CvssScore, End, Severity, Span};
use crate::npm::integrity::sha256_hex;
use crate::npm::{PackageName, Timestamp, Version};

/// Raise it when lines are written in another way.
const FORMAT: u32 = 1;
/// What an index may unpack to.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// What an index was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Packages that something is known of.
    pub packages: usize,
    /// Advisories, malware included.
    pub advisories: usize,
    /// Of them, about malware.
    pub malware: usize,
    /// Records that were taken back.
    pub withdrawn: usize,
    /// Records about other ecosystems.
    pub foreign: usize,
    /// Records that could not be read.
    pub unreadable: usize,
    /// The newest change of any record.
    pub newest_modified: Option<Timestamp>,
    /// When it was made.
    pub compiled_at: Timestamp,
}

/// Bytes that are no index.
#[derive(Debug, thiserror::Error)]
#[error("the stored index of advisories is damaged")]
pub struct IndexError;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    fingerprint: String,
    packages: usize,
    advisories: usize,
    malware: usize,
    withdrawn: usize,
    foreign: usize,
    unreadable: usize,
    newest_modified: Option<String>,
    compiled_at: String,
}

/// An advisory as a line has it. Short names: there are hundreds of thousands.
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    summary: String,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    severity: Option<Severity>,
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    cvss: Option<CvssScore>,
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    cwes: Vec<String>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    /// Introduced, fixed, last. Left out, as `x` is, where all versions are meant.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    spans: Vec<(Option<String>, Option<String>, Option<String>)>,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    versions: Vec<String>,
}

/// Everything that is known. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    bytes: Bytes,
    /// Where each line starts.
    starts: Vec<u32>,
    fingerprint: String,
    statistics: Statistics,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("fingerprint", &self.inner.fingerprint).finish_non_exhaustive()
    }
}

impl Index {
    /// Nothing is known.
    pub fn empty() -> Self {
        let statistics = Statistics {
            packages: 0,
            advisories: 0,
            malware: 0,
            withdrawn: 0,
            foreign: 0,
            unreadable: 0,
            newest_modified: None,
            compiled_at: Timestamp::from_millis(0),
        };
        let inner = Inner { bytes: Bytes::new(), starts: Vec::new(), fingerprint: String::new(), statistics };
        Self { inner: Arc::new(inner) }
    }

    /// Reads what [`write`] has written. Takes a second for the largest.
    ///
    /// # Errors
    /// [`IndexError`] for anything else, also for a single bit that is another.
    pub fn from_bytes(stored: &[u8]) -> Result<Self, IndexError> {
        let mut unpacked = Vec::new();
        let decoder = zstd::Decoder::new(stored).map_err(|_| IndexError)?;
        decoder.take(MAX_INDEX_BYTES).read_to_end(&mut unpacked).map_err(|_| IndexError)?;
        let bytes = Bytes::from(unpacked);
        let end = memchr::memchr(b'\n', &bytes).ok_or(IndexError)?;
        let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|_| IndexError)?;
        let body = bytes.slice(end + 1..);
        if header.format != FORMAT || sha256_hex(&body) != header.fingerprint {
            return Err(IndexError);
        }
        let ends = memchr::memchr_iter(b'\n', &body).map(|end| end + 1);
        let mut starts: Vec<u32> =
            std::iter::once(0).chain(ends).map(u32::try_from).collect::<Result<_, _>>().map_err(|_| IndexError)?;
        // After the last line there is none.
        starts.pop();
        let statistics = Statistics {
            packages: header.packages,
            advisories: header.advisories,
            malware: header.malware,
            withdrawn: header.withdrawn,
            foreign: header.foreign,
            unreadable: header.unreadable,
            newest_modified: header.newest_modified.and_then(|text| text.parse().ok()),
            compiled_at: header.compiled_at.parse().map_err(|_| IndexError)?,
        };
        Ok(Self { inner: Arc::new(Inner { bytes: body, starts, fingerprint: header.fingerprint, statistics }) })
    }

    /// Changes with what is known, and with nothing else.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// What it was made from.
    pub fn statistics(&self) -> &Statistics {
        &self.inner.statistics
    }

    /// Whether anything is known of a package.
    pub fn knows(&self, name: &PackageName) -> bool {
        self.line(name).is_some()
    }

    /// All that is known of a package, whatever the case of its name.
    pub fn about(&self, name: &PackageName) -> Vec<Advisory> {
        let Some(line) = self.line(name) else { return Vec::new() };
        let entries: Vec<Entry> = serde_json::from_slice(line).unwrap_or_default();
        entries.into_iter().map(Advisory::from).collect()
    }

    /// The JSON of a package's line.
    fn line(&self, name: &PackageName) -> Option<&[u8]> {
        let Inner { bytes, starts, .. } = &*self.inner;
        if starts.is_empty() {
            return None;
        }
        let name = name.as_str().to_lowercase();
        let line_at = |start: u32| {
            let rest = &bytes[start as usize..];
            &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
        };
        let name_at = |start: u32| {
            let line = line_at(start);
            &line[..memchr::memchr(b'\t', line).unwrap_or(line.len())]
        };
        let found = starts.binary_search_by(|start| name_at(*start).cmp(name.as_bytes())).ok()?;
        line_at(starts[found]).get(name.len() + 1..)
    }
}

/// What was read of an archive: for each package and id the advisory.
pub(super) type Gathered = BTreeMap<String, BTreeMap<String, Advisory>>;

/// Writes an index. The same advisories give the same fingerprint.
pub(super) fn write(gathered: Gathered, mut statistics: Statistics) -> std::io::Result<(Bytes, Statistics)> {
    let mut body = Vec::new();
    statistics.packages = gathered.len();
    for (name, advisories) in gathered {
        statistics.advisories += advisories.len();
        statistics.malware += advisories.values().filter(|advisory| advisory.is_malware).count();
        let newest = advisories.values().filter_map(|advisory| advisory.modified).max();
        statistics.newest_modified = statistics.newest_modified.max(newest);
        let entries: Vec<Entry> = advisories.into_values().map(Entry::from).collect();
        body.extend_from_slice(name.as_bytes());
        body.push(b'\t');
        serde_json::to_writer(&mut body, &entries)?;
        body.push(b'\n');
    }
    let header = Header {
        format: FORMAT,
        fingerprint: sha256_hex(&body),
        packages: statistics.packages,
        advisories: statistics.advisories,
        malware: statistics.malware,
        withdrawn: statistics.withdrawn,
        foreign: statistics.foreign,
        unreadable: statistics.unreadable,
        newest_modified: statistics.newest_modified.map(|at| at.to_string()),
        compiled_at: statistics.compiled_at.to_string(),
    };
    let mut text = serde_json::to_vec(&header)?;
    text.push(b'\n');
    text.append(&mut body);
    Ok((zstd::bulk::compress(&text, 3)?.into(), statistics))
}

impl From<Advisory> for Entry {
    fn from(advisory: Advisory) -> Self {
        let Advisory { id, aliases, summary, severity, cvss, cwes, is_malware, affected, modified } = advisory;
        let is_all = affected == Affected::all();
        let text = |version: &Version| version.to_string();
        let spans = affected.spans.iter().map(|span| {
            let (fixed, last) = match &span.end {
                End::Open => (None, None),
                End::Fixed(fix) => (Some(text(fix)), None),
                End::Last(last) => (None, Some(text(last))),
            };
            (span.introduced.as_ref().map(text), fixed, last)
        });
        Self {
            id,
            summary,
            severity: (!is_malware).then_some(severity),
            aliases,
            cvss,
            cwes,
            modified: modified.map(|at| at.to_string()),
            spans: if is_all { Vec::new() } else { spans.collect() },
            versions: affected.versions.iter().map(text).collect(),
        }
    }
}

impl From<Entry> for Advisory {
    fn from(entry: Entry) -> Self {
        let Entry { id, summary, severity, aliases, cvss, cwes, modified, spans, versions } = entry;
        let version = |text: &String| text.parse::<Version>().ok();
        let is_malware = id.starts_with("MAL-");
        let affected = if spans.is_empty() && versions.is_empty() {
            Affected::all()
        } else {
            let spans: Vec<Span> = spans
                .iter()
                .map(|(introduced, fixed, last)| Span {
                    introduced: introduced.as_ref().and_then(version),
                    end: match (fixed.as_ref().and_then(version), last.as_ref().and_then(version)) {
                        (Some(fix), _) => End::Fixed(fix),
                        (None, Some(last)) => End::Last(last),
                        (None, None) => End::Open,
                    },
                })
                .collect();
            let fixes = spans.iter().filter_map(|span| match &span.end {
                End::Fixed(fix) => Some(fix.clone()),
                End::Open | End::Last(_) => None,
            });
            Affected { fixes: fixes.collect(), versions: versions.iter().filter_map(version).collect(), spans }
        };
        Self {
            id,
            aliases,
            summary,
            severity: severity.unwrap_or(if is_malware { Severity::Critical } else { Severity::Unknown }),
            cvss,
            cwes,
            is_malware,
            affected,
            modified: modified.and_then(|text| text.parse().ok()),
        }
    }
}
