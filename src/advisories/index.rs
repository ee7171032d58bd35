//! The compact index: all advisories in one piece of bytes, found by name, read when asked for.
//!
//! As stored: [`MAGIC`], the format's number, a SHA-256 in hex over all that follows, the length of the payload (four
//! bytes, lowest first), the payload compressed with zstd. The payload: the statistics; the number of packages and as
//! many offsets and one (four bytes each); the packages in the order of their names, each with its name, the number of
//! its advisories, and these.
//!
//! Invariant: an [`Index`] was read once from its first to its last byte, so that no look-up finds it damaged.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::advisory::Advisory;
use super::codec::{self, Input};
use crate::npm::integrity::sha256_hex;
use crate::npm::{PackageName, Timestamp};

/// What an index begins with.
const MAGIC: &[u8] = b"holdfast-advisories\n";
/// The number of this format. Another one is refused, and the index is compiled anew.
pub const FORMAT: u8 = 1;
/// Of the payload. All of npm's advisories take some fifteen megabytes.
pub const MAX_INDEX_BYTES: usize = 256 << 20;
const HASH_BYTES: usize = 64;
const OFFSET_BYTES: usize = 4;
/// Half the size; higher levels take much longer for some twentieth more.
const COMPRESSION_LEVEL: i32 = 3;

/// An index in memory: its bytes, and nothing beside them. Cheap to clone.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    payload: Bytes,
    table: Table,
    fingerprint: String,
    statistics: Statistics,
}

/// Where in the payload what is.
#[derive(Clone, Copy)]
struct Table {
    packages: usize,
    offsets_start: usize,
    packages_start: usize,
}

/// What went into an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Packages with at least one advisory. Names that differ in case count as one.
    pub packages: u64,
    /// Records that are in the index.
    pub advisories: u64,
    /// Those of them that are about malware.
    pub malware: u64,
    /// Records that their database took back. They are not in the index.
    pub withdrawn: u64,
    /// Records about other ecosystems, or about names that no package of ours can have. Not in the index.
    pub foreign: u64,
    /// Entries that should be records and cannot be read.
    pub unreadable: u64,
    /// Entries that are no records: other files, folders, links.
    pub ignored: u64,
    /// The latest change of a record in the index.
    pub newest_modified: Option<Timestamp>,
    /// When it was compiled.
    pub compiled_at: Timestamp,
}

/// Why bytes are not an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Something else.
    #[error("it is not an index of advisories")]
    NotAnIndex,
    /// Of another version of this program.
    #[error("the index of advisories has format {0}, which this version does not read")]
    Format(u8),
    /// Not the bytes that were compiled.
    #[error("the index of advisories is damaged")]
    Damaged,
    /// Over [`MAX_INDEX_BYTES`].
    #[error("the index of advisories is too large")]
    TooLarge,
}

impl Index {
    /// An index that knows of nothing.
    pub fn empty() -> Self {
        let nothing = Statistics {
            packages: 0,
            advisories: 0,
            malware: 0,
            withdrawn: 0,
            foreign: 0,
            unreadable: 0,
            ignored: 0,
            newest_modified: None,
            compiled_at: Timestamp::from_millis(0),
        };
        let table = Table { packages: 0, offsets_start: 0, packages_start: 0 };
        Self(Arc::new(Inner { payload: Bytes::new(), table, fingerprint: sha256_hex(b""), statistics: nothing }))
    }

    /// Reads a stored index. Takes two tenths of a second for all of npm: it is looked at from end to end.
    ///
    /// # Errors
    /// When the bytes are not to the last one those that were compiled.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, IndexError> {
        let payload = Bytes::from(unpack(bytes)?);
        let (statistics, table) = read_head(&payload).ok_or(IndexError::Damaged)?;
        let fingerprint = sha256_hex(&payload[table.offsets_start..]);
        let index = Self(Arc::new(Inner { payload, table, fingerprint, statistics }));
        if index.is_whole() { Ok(index) } else { Err(IndexError::Damaged) }
    }

    /// A hash over all advisories, and over nothing else. The same set of records gives the same one, in whatever order
    /// and whenever it was compiled.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// What went into it.
    pub fn statistics(&self) -> &Statistics {
        &self.0.statistics
    }

    /// All advisories about a package, in the order of their ids. Names are compared in lower case, so that an advisory
    /// about `JSONStream` is found for `jsonstream` too.
    pub fn about(&self, name: &PackageName) -> Vec<Advisory> {
        let found = self.find(name).and_then(|(found, mut rest)| read_advisories(found, &mut rest));
        found.unwrap_or_default()
    }

    /// Whether there is any advisory about a package, without reading it.
    pub fn knows(&self, name: &PackageName) -> bool {
        self.find(name).is_some()
    }

    /// The package as the index spells it, and what follows its name.
    fn find(&self, name: &PackageName) -> Option<(&str, Input<'_>)> {
        let folded = name.as_str().to_ascii_lowercase();
        let (mut low, mut high) = (0, self.0.table.packages);
        while low < high {
            let middle = low.midpoint(high);
            let (found, rest) = self.package(middle)?;
            match found.cmp(folded.as_str()) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some((found, rest)),
            }
        }
        None
    }

    /// The name of the n-th package, and what follows it.
    fn package(&self, at: usize) -> Option<(&str, Input<'_>)> {
        let Inner { payload, table, .. } = &*self.0;
        let offset = |at: usize| {
            let start = table.offsets_start + at * OFFSET_BYTES;
            let bytes = payload.get(start..start + OFFSET_BYTES)?;
            usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
        };
        let packages = payload.get(table.packages_start..)?;
        let mut input = Input(packages.get(offset(at)?..offset(at + 1)?)?);
        Some((input.text()?, input))
    }

    /// Whether each package can be read and is where it belongs.
    fn is_whole(&self) -> bool {
        let mut before = None;
        (0..self.0.table.packages).all(|at| {
            let Some((name, mut rest)) = self.package(at) else { return false };
            let is_sorted = before.replace(name).is_none_or(|before| before < name);
            is_sorted && read_advisories(name, &mut rest).is_some() && rest.0.is_empty()
        })
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Index").field(&self.0.statistics).finish()
    }
}

fn read_advisories(name: &str, input: &mut Input<'_>) -> Option<Vec<Advisory>> {
    let count = input.count()?;
    (0..count).map(|_| codec::read(name, input)).collect()
}

/// The payload of stored bytes.
fn unpack(bytes: &[u8]) -> Result<Vec<u8>, IndexError> {
    let mut input = Input(bytes);
    if input.bytes(MAGIC.len()) != Some(MAGIC) {
        return Err(IndexError::NotAnIndex);
    }
    match input.byte() {
        Some(FORMAT) => {}
        Some(other) => return Err(IndexError::Format(other)),
        None => return Err(IndexError::Damaged),
    }
    let hash = input.bytes(HASH_BYTES).ok_or(IndexError::Damaged)?;
    if sha256_hex(input.0).as_bytes() != hash {
        return Err(IndexError::Damaged);
    }
    let length = input.bytes(OFFSET_BYTES).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let length = usize::try_from(length.ok_or(IndexError::Damaged)?).map_err(|_| IndexError::TooLarge)?;
    if length > MAX_INDEX_BYTES {
        return Err(IndexError::TooLarge);
    }
    let payload = zstd::bulk::decompress(input.0, length).map_err(|_| IndexError::Damaged)?;
    if payload.len() == length { Ok(payload) } else { Err(IndexError::Damaged) }
}

fn read_head(payload: &[u8]) -> Option<(Statistics, Table)> {
    let mut input = Input(payload);
    let statistics = read_statistics(&mut input)?;
    let packages = input.bytes(OFFSET_BYTES).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)?;
    let packages = usize::try_from(packages).ok()?;
    let offsets_start = payload.len() - input.0.len();
    let packages_start = offsets_start.checked_add((packages.checked_add(1)?).checked_mul(OFFSET_BYTES)?)?;
    (packages_start <= payload.len()).then_some((statistics, Table { packages, offsets_start, packages_start }))
}

fn read_statistics(input: &mut Input<'_>) -> Option<Statistics> {
    Some(Statistics {
        packages: input.number()?,
        advisories: input.number()?,
        malware: input.number()?,
        withdrawn: input.number()?,
        foreign: input.number()?,
        unreadable: input.number()?,
        ignored: input.number()?,
        compiled_at: input.instant()?,
        newest_modified: if input.byte()? == 0 { None } else { Some(input.instant()?) },
    })
}

fn put_statistics(statistics: &Statistics, out: &mut Vec<u8>) {
    let Statistics { packages, advisories, malware, withdrawn, foreign, unreadable, ignored, .. } = statistics;
    for number in [packages, advisories, malware, withdrawn, foreign, unreadable, ignored] {
        codec::put_number(*number, out);
    }
    codec::put_instant(statistics.compiled_at, out);
    out.push(u8::from(statistics.newest_modified.is_some()));
    if let Some(newest) = statistics.newest_modified {
        codec::put_instant(newest, out);
    }
}

/// Puts an index together, as it is stored: from the written advisories of each package, by its name in lower case.
///
/// # Errors
/// [`IndexError::TooLarge`].
pub fn build(statistics: &Statistics, packages: &BTreeMap<&str, Vec<&[u8]>>) -> Result<Bytes, IndexError> {
    let mut payload = Vec::new();
    put_statistics(statistics, &mut payload);
    let count = u32::try_from(packages.len()).map_err(|_| IndexError::TooLarge)?;
    payload.extend_from_slice(&count.to_le_bytes());
    let mut body = Vec::new();
    for (name, advisories) in packages {
        let offset = u32::try_from(body.len()).map_err(|_| IndexError::TooLarge)?;
        payload.extend_from_slice(&offset.to_le_bytes());
        codec::put_text(name, &mut body);
        codec::put_number(advisories.len() as u64, &mut body);
        for advisory in advisories {
            body.extend_from_slice(advisory);
        }
    }
    let end = u32::try_from(body.len()).map_err(|_| IndexError::TooLarge)?;
    payload.extend_from_slice(&end.to_le_bytes());
    payload.append(&mut body);
    if payload.len() > MAX_INDEX_BYTES {
        return Err(IndexError::TooLarge);
    }
    pack(&payload)
}

fn pack(payload: &[u8]) -> Result<Bytes, IndexError> {
    let mut rest = u32::try_from(payload.len()).map_err(|_| IndexError::TooLarge)?.to_le_bytes().to_vec();
    // Compressing into memory fails only when there is none left.
    rest.append(&mut zstd::bulk::compress(payload, COMPRESSION_LEVEL).map_err(|_| IndexError::TooLarge)?);
    let hash = sha256_hex(&rest);
    Ok([MAGIC, &[FORMAT], hash.as_bytes(), &rest].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn index_of(packages: &BTreeMap<&str, Vec<&[u8]>>) -> Bytes {
        build(Index::empty().statistics(), packages).unwrap()
    }

    #[test]
    fn an_empty_index_knows_nothing() {
        let name: PackageName = "tool".parse().unwrap();
        assert!(Index::empty().about(&name).is_empty());
        let stored = Index::from_bytes(&index_of(&BTreeMap::new())).unwrap();
        assert!(stored.about(&name).is_empty());
        assert_eq!(stored.statistics(), Index::empty().statistics());
    }

    #[test]
    fn damage_is_refused() {
        let bytes = index_of(&BTreeMap::new());
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert!(Index::from_bytes(&damaged.into()).is_err(), "byte {at}");
            assert!(Index::from_bytes(&bytes.slice(..at)).is_err(), "cut at {at}");
        }
        let mut other = bytes.to_vec();
        other[MAGIC.len()] = 9;
        assert_eq!(Index::from_bytes(&other.into()).unwrap_err(), IndexError::Format(9));
        assert_eq!(Index::from_bytes(&Bytes::from_static(b"PK")).unwrap_err(), IndexError::NotAnIndex);
    }

    #[test]
    fn a_payload_that_says_wrong_things_is_refused() {
        let mut head = Vec::new();
        put_statistics(Index::empty().statistics(), &mut head);
        let with = |rest: &[u8]| Index::from_bytes(&pack(&[&head, rest].concat()).unwrap()).map(|_| ());
        assert_eq!(with(&[0, 0, 0, 0, 0, 0, 0, 0]), Ok(()));
        for rest in [
            // No offsets; more packages than bytes; an offset over the end; a package of junk.
            &[0, 0, 0, 0][..],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, b'a', 1],
            // Twice the same name; bytes after the last advisory.
            &[2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 1, b'a', 0, 1, b'a', 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1, b'a', 0, 0],
        ] {
            assert_eq!(with(rest), Err(IndexError::Damaged), "{rest:?}");
        }
        // A payload that is longer or shorter than it says.
        for length in [0_u32, 1 << 20, u32::MAX] {
            let mut rest = length.to_le_bytes().to_vec();
            rest.append(&mut zstd::bulk::compress(&vec![0; 100_000], 3).unwrap());
            let bytes = [MAGIC, &[FORMAT], sha256_hex(&rest).as_bytes(), &rest].concat();
            assert!(Index::from_bytes(&bytes.into()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let bytes = Bytes::from(bytes);
            let _ = Index::from_bytes(&bytes);
            let _ = Index::from_bytes(&[MAGIC, &[FORMAT], &bytes[..]].concat().into());
            // With the right hash, so that the payload's own checks are reached.
            let _ = Index::from_bytes(&pack(&bytes).unwrap());
        }
    }
}
