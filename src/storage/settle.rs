//! Conditional writes to a bucket whose answers may be lost, wrong or repeated.
//!
//! Neither "it worked" nor "somebody was before you" can be believed after trouble: a store may do a write and answer 500,
//! whereupon the repetition finds its own bytes and is told that they are somebody else's; or answer 409 to a creation
//! though nothing is there. So after anything but a plain success the object is read, and the names of its latest writes
//! say whether ours was among them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use object_store::PutMode;
use tokio::task::spawn_blocking;

use super::bucket::{Bucket, Snapshot, Stamp, name_of_write};
use super::error::{Error, UpdateError};
use super::fault::FaultPlan;
use super::{Change, Existing, Known, faulty_answer};
use crate::keys::Key;
use crate::random;

/// Writers on one object that may be before us, one after the other, until we give up.
const MOST_CONFLICTS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(600);

/// What came of a conditional write.
pub(super) enum Settled {
    /// It was done, and this is the state it left; `None` where others have written on top of it since.
    Written(Option<Stamp>),
    /// The object is another than the condition says. Nothing was written.
    Lost,
}

/// What an unclear write is to be read as, by what is there now.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Written,
    Lost,
    /// Nothing has happened yet: try again.
    Open,
}

/// `seen` is the state that the write was to replace, `None` where there was to be no object.
fn judge(write: &str, seen: Option<&Stamp>, now: Option<&Stamp>) -> Finding {
    match (seen, now) {
        (_, Some(now)) if now.has_write(write) => Finding::Written,
        (Some(seen), Some(now)) if now.is(seen) => Finding::Open,
        (None, None) => Finding::Open,
        _ => Finding::Lost,
    }
}

impl Bucket {
    /// Writes an object if it is as it was seen, or if there is none. Durable when it says so. In a process that writes
    /// alone to a store without conditions, the caller holds the key's lock.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it could not be found out what came of it: then the object is as it was, or as it was
    /// to be, and may become so a little later.
    pub(super) async fn write_if(&self, key: &Key, bytes: Bytes, seen: Option<&Stamp>) -> Result<Settled, Error> {
        if !self.keeps_conditions().await? {
            return self.write_alone(key, bytes, seen).await;
        }
        let name = name_of_write();
        let stamp = seen.cloned().unwrap_or_default().after(&name);
        let mut tries = 0;
        loop {
            let mode = seen.map_or(PutMode::Create, |seen| PutMode::Update(seen.update_version()));
            let error = match self.put(key, bytes.clone(), mode, Some(&stamp)).await {
                Ok(version) => return Ok(Settled::Written(Some(stamp.at(version)))),
                Err(error) => Error::from(error),
            };
            if matches!(error, Error::Denied(_)) {
                return Err(error);
            }
            let now = match self.snapshot(key).await {
                Ok(found) => Ok(Some(found.stamp)),
                Err(Error::NotFound) => Ok(None),
                Err(unclear) => Err(unclear),
            };
            let unclear = match now.map(|now| (judge(&name, seen, now.as_ref()), now)) {
                // Whoever took what others wrote on top for what we wrote would write over it next.
                Ok((Finding::Written, now)) => {
                    return Ok(Settled::Written(now.filter(|now| now.latest_write() == Some(&name))));
                }
                Ok((Finding::Lost, _)) => return Ok(Settled::Lost),
                // A refusal without a reason is no answer either.
                Ok((Finding::Open, _)) => Error::Unavailable(io::Error::other(error)),
                Err(unclear) => unclear,
            };
            tries += 1;
            if tries >= self.attempts {
                return Err(unclear);
            }
            pause(tries).await;
        }
    }

    /// Writes an object whole.
    ///
    /// # Errors
    /// [`Error::Exists`] with [`Existing::Refuse`] when the key is taken.
    pub(super) async fn write(&self, key: &Key, bytes: Bytes, existing: Existing) -> Result<(), Error> {
        match existing {
            Existing::Replace => self.overwrite(key, bytes).await.map(|_| ()),
            Existing::Refuse => match self.write_if(key, bytes, None).await? {
                Settled::Written(_) => Ok(()),
                Settled::Lost => Err(Error::Exists),
            },
        }
    }

    /// As [`Bucket::write_if`] where the store keeps no conditions and nobody else writes.
    async fn write_alone(&self, key: &Key, bytes: Bytes, seen: Option<&Stamp>) -> Result<Settled, Error> {
        if seen.is_none() {
            match self.size(key).await {
                Ok(_) => return Ok(Settled::Lost),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let version = self.overwrite(key, bytes).await?;
        Ok(Settled::Written(Some(Stamp::default().at(version))))
    }

    /// See [`super::Store::update_from`].
    pub(super) async fn update<T, E>(
        &self,
        key: &Key,
        known: Known,
        change: impl FnOnce(Option<Bytes>) -> Result<Change<T>, E> + Clone + Send + 'static,
        faults: Option<FaultPlan>,
    ) -> Result<(T, Option<Snapshot>), UpdateError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut current = match known {
            Known::Nothing => self.snapshot_if_any(key).await?,
            Known::Absent => None,
            Known::State(known) => Some(known),
        };
        for conflicts in 0..MOST_CONFLICTS {
            let bytes = current.as_ref().map(|snapshot| snapshot.bytes.clone());
            // Documents of megabytes are parsed in there.
            let apply = change.clone();
            let outcome = spawn_blocking(move || apply(bytes)).await.map_err(super::lost)?;
            let (bytes, value) = match outcome.map_err(UpdateError::Refused)? {
                Change::Keep(value) => return Ok((value, current)),
                Change::Write(bytes, value) => (bytes, value),
            };
            let seen = current.as_ref().map(|snapshot| &snapshot.stamp);
            let planned = faults.as_ref().map(FaultPlan::before_write).transpose()?;
            let settled = self.write_if(key, bytes.clone(), seen).await;
            match faulty_answer(planned, settled)? {
                Settled::Written(stamp) => return Ok((value, stamp.map(|stamp| Snapshot { bytes, stamp }))),
                Settled::Lost => {}
            }
            pause(conflicts).await;
            current = self.snapshot_if_any(key).await?;
        }
        Err(Error::Unavailable(io::Error::other("other writers changed the object all the time")).into())
    }

    async fn snapshot_if_any(&self, key: &Key) -> Result<Option<Snapshot>, Error> {
        match self.snapshot(key).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Waits a random while, longer after more failures, so that those who collided do not meet again.
pub(super) async fn pause(failures: u32) {
    let most = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures.min(10)));
    tokio::time::sleep(most.mul_f64(random::fraction())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclear_write_is_told_by_the_names_of_the_latest() {
        let seen = Stamp::default().after("first");
        let at = |stamp: &Stamp, etag: &str| {
            let version = object_store::UpdateVersion { e_tag: Some(etag.to_owned()), version: None };
            stamp.clone().at(version)
        };
        let seen = at(&seen, "1");
        let ours = at(&seen.after("ours"), "2");
        let on_top = at(&ours.after("others"), "3");
        let instead = at(&seen.after("others"), "2");
        assert_eq!(judge("ours", Some(&seen), Some(&seen)), Finding::Open);
        assert_eq!(judge("ours", Some(&seen), Some(&ours)), Finding::Written);
        assert_eq!(judge("ours", Some(&seen), Some(&on_top)), Finding::Written);
        assert_eq!(judge("ours", Some(&seen), Some(&instead)), Finding::Lost);
        assert_eq!(judge("ours", Some(&seen), None), Finding::Lost);
        assert_eq!(judge("ours", None, None), Finding::Open);
        assert_eq!(judge("ours", None, Some(&seen)), Finding::Lost);
        assert_eq!(judge("ours", None, Some(&at(&Stamp::default().after("ours"), "1"))), Finding::Written);
    }

    #[test]
    fn an_object_remembers_a_bounded_number_of_writes() {
        let stamp = (0..200).fold(Stamp::default(), |stamp, number| stamp.after(&format!("write-{number}")));
        assert!(stamp.has_write("write-199") && stamp.has_write("write-136"));
        assert!(!stamp.has_write("write-135"));
    }
}
