//! Counted downloads of days that are over: many objects of a day become one.
//!
//! The one names the others before they go, and whoever adds a day up leaves out what it names. So each download is counted
//! once at any moment, wherever this is cut off, and however many do it at once.

use std::sync::Arc;
use std::time::Duration;

use super::is_older;
use crate::keys::{self, Key};
use crate::npm::Timestamp;
use crate::npm::downloads::Day;
use crate::registry::{CountedDay, MAX_COUNTED_DAY_BYTES};
use crate::storage::{self, Change, Listed, Store, UpdateError};

/// Objects that are added up by one write, at most.
const AT_A_TIME: usize = 64;
/// And their bytes, unless one alone has more.
const BYTES_AT_A_TIME: u64 = MAX_COUNTED_DAY_BYTES;

/// The objects of a day, by what there is to do with them.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// They are in the sum already: somebody was cut off before they went.
    pub(super) added: Vec<Listed>,
    /// They are to be added up, a batch by one write.
    pub(super) batches: Vec<Vec<Listed>>,
    /// The sum itself cannot be read, and nothing is done.
    pub(super) unreadable: Option<Key>,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// They are in the sum and can go.
    pub(super) parts: Vec<Listed>,
    /// They cannot be read, and stay.
    pub(super) unreadable: Vec<Key>,
    /// The sum has no more room: they and all others of the day stay.
    pub(super) is_full: bool,
}

/// Why a sum is not written.
enum Refusal {
    Unreadable,
    Full,
}

/// What there is to do about a day. Nothing while somebody may still count: until the day is over for as long as `grace`, nor
/// with what was written since.
///
/// # Errors
/// The store's failure.
pub(super) async fn look(
    store: &Store,
    day: Day,
    listed: Vec<Listed>,
    grace: Duration,
    now: Timestamp,
) -> Result<Found, storage::Error> {
    if now <= day.end().plus(grace) {
        return Ok(Found::default());
    }
    let (sums, parts): (Vec<Listed>, Vec<Listed>) = listed.into_iter().partition(|listed| is_sum(&listed.key));
    let sum = match sums.first() {
        None => None,
        Some(Listed { key, .. }) => match read(store, key).await? {
            Read::Counts(sum) => Some(sum),
            Read::Gone => None,
            Read::Unreadable => return Ok(Found { unreadable: Some(key.clone()), ..Found::default() }),
        },
    };
    let is_added =
        |part: &Listed| sum.as_ref().is_some_and(|sum| part.key.download_part().is_some_and(|name| sum.has(name)));
    let (added, others): (Vec<Listed>, Vec<Listed>) = parts.into_iter().partition(is_added);
    let others: Vec<Listed> = others.into_iter().filter(|part| is_older(part, grace, now)).collect();
    // One alone is as good as its sum.
    let batches = if sum.is_none() && others.len() < 2 { Vec::new() } else { batches(others) };
    Ok(Found { added, batches, unreadable: None })
}

/// Adds a batch to the sum of its day.
///
/// # Errors
/// The store's failure.
pub(super) async fn add(store: &Store, day: Day, batch: Vec<Listed>, dry_run: bool) -> Result<Added, storage::Error> {
    let (mut added, mut counts) = (Added::default(), Vec::new());
    for part in batch {
        match (read(store, &part.key).await?, part.key.download_part()) {
            (Read::Counts(counted), Some(name)) => {
                counts.push((name.to_owned(), counted));
                added.parts.push(part);
            }
            (Read::Gone, _) => {}
            _ => added.unreadable.push(part.key),
        }
    }
    if dry_run || counts.is_empty() {
        return Ok(added);
    }
    let counts = Arc::new(counts);
    let change = move |stored: Option<bytes::Bytes>| {
        let sum = stored.map_or_else(|| Ok(CountedDay::default()), |stored| CountedDay::read(&stored));
        let mut sum = sum.map_err(|_| Refusal::Unreadable)?;
        for (name, counted) in counts.iter() {
            sum.add_part(name, counted);
        }
        match sum.to_bytes() {
            bytes if bytes.len() as u64 <= MAX_COUNTED_DAY_BYTES => Ok(Change::Write(bytes.into(), ())),
            _ => Err(Refusal::Full),
        }
    };
    let key = keys::downloads_of(day, keys::ALL_DOWNLOADS);
    match store.update(&key, change).await {
        Ok(()) => Ok(added),
        Err(UpdateError::Store(error)) => Err(error),
        Err(UpdateError::Refused(Refusal::Full)) => Ok(Added { parts: Vec::new(), is_full: true, ..added }),
        // Damaged since it was looked at.
        Err(UpdateError::Refused(Refusal::Unreadable)) => {
            Ok(Added { parts: Vec::new(), unreadable: vec![key], is_full: true })
        }
    }
}

fn is_sum(key: &Key) -> bool {
    key.download_part() == Some(keys::ALL_DOWNLOADS)
}

/// Neighbours that are added up together.
fn batches(parts: Vec<Listed>) -> Vec<Vec<Listed>> {
    let (mut batches, mut bytes): (Vec<Vec<Listed>>, u64) = (Vec::new(), 0);
    for part in parts {
        bytes += part.size_bytes;
        match batches.last_mut() {
            Some(batch) if batch.len() < AT_A_TIME && bytes <= BYTES_AT_A_TIME => batch.push(part),
            _ => {
                bytes = part.size_bytes;
                batches.push(vec![part]);
            }
        }
    }
    batches
}

enum Read {
    Counts(CountedDay),
    Gone,
    Unreadable,
}

async fn read(store: &Store, key: &Key) -> Result<Read, storage::Error> {
    match store.snapshot_unless(key, None, MAX_COUNTED_DAY_BYTES).await {
        Ok(Some(snapshot)) => Ok(CountedDay::read(&snapshot.bytes).map_or(Read::Unreadable, Read::Counts)),
        Ok(None) | Err(storage::Error::NotFound) => Ok(Read::Gone),
        Err(storage::Error::TooLarge) => Ok(Read::Unreadable),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_objects_and_bytes_and_have_all() {
        let part = |number: usize, size_bytes: u64| Listed {
            key: keys::downloads_of("2026-11-30".parse().unwrap(), &number.to_string()),
            size_bytes,
            modified_seconds: 0,
            used_seconds: None,
            etag: None,
        };
        let counts = |sizes: &[u64]| -> Vec<usize> {
            batches(sizes.iter().enumerate().map(|(number, size)| part(number, *size)).collect())
                .iter()
                .map(Vec::len)
                .collect()
        };
        assert_eq!(counts(&[1; 150]), [64, 64, 22]);
        let half = BYTES_AT_A_TIME / 2;
        assert_eq!(counts(&[half, half, half, BYTES_AT_A_TIME * 2, 1]), [2, 1, 1, 1]);
        assert!(counts(&[]).is_empty());
    }
}
