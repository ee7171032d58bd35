//! What persons have let through: one object, changed by operators, read by every judgement.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Error;
use crate::clock::Clock;
use crate::events::{Event, Kind, Recorder, Who};
use crate::keys;
use crate::policy::{Waiver, Waivers};
use crate::storage::{self, Change, Store};

/// As many as anybody oversees; old ones go when they have ended.
const MAX_WAIVERS: usize = 10_000;

/// Reads and changes the waivers. Cheap to clone; clones share what is in memory.
#[derive(Debug, Clone)]
pub struct WaiverBook {
    store: Store,
    clock: Clock,
    recorder: Recorder,
    current: Arc<RwLock<Waivers>>,
    /// Held from a change until it is in memory, so that memory does not fall behind.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Counts changes, so that who made something of the waivers can tell that it is out of date.
    changes: Arc<AtomicU64>,
}

impl WaiverBook {
    /// Reads nothing yet.
    pub fn new(store: Store, clock: Clock, recorder: Recorder) -> Self {
        Self { store, clock, recorder, current: Arc::default(), changing: Arc::default(), changes: Arc::default() }
    }

    /// What is in memory, and the number of changes until then.
    pub(super) fn current(&self) -> (Waivers, u64) {
        let changes = self.changes();
        (self.current.read().unwrap_or_else(PoisonError::into_inner).clone(), changes)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Reads the stored waivers into memory. True when they are others than before.
    pub async fn load(&self) -> Result<bool, Error> {
        let _held = self.changing.lock().await;
        let stored = match self.store.read(&keys::waivers()).await {
            Ok(bytes) => parse(&bytes)?,
            Err(storage::Error::NotFound) => Waivers::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(self.take(stored))
    }

    fn take(&self, waivers: Waivers) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = *current != waivers;
        if is_new {
            *current = waivers;
            self.changes.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    /// Adds a waiver, and writes down who did it. In force when it returns. Those that have ended go.
    ///
    /// The event is written first: there may be an event of a waiver that came to nothing, never a waiver without one.
    pub async fn add(&self, waiver: Waiver) -> Result<Waiver, Error> {
        let now = self.clock.now();
        self.record(Kind::Waive, &waiver, &waiver.by).await?;
        let added = waiver.clone();
        self.change(move |waivers| {
            waivers.waivers.retain(|old| old.ends().is_some_and(|end| end > now));
            if waivers.waivers.len() >= MAX_WAIVERS {
                return Err(Error::Invalid("there are too many waivers: remove some"));
            }
            waivers.waivers.push(added);
            Ok(())
        })
        .await?;
        Ok(waiver)
    }

    /// Takes a waiver back. `None` when there is none under this id.
    pub async fn remove(&self, id: &str, by: &str) -> Result<Option<Waiver>, Error> {
        self.load().await?;
        let (known, _) = self.current();
        let Some(waiver) = known.waivers.into_iter().find(|waiver| waiver.id == id) else { return Ok(None) };
        self.record(Kind::Unwaive, &waiver, by).await?;
        let id = id.to_owned();
        self.change(move |waivers| {
            waivers.waivers.retain(|waiver| waiver.id != id);
            Ok(())
        })
        .await?;
        Ok(Some(waiver))
    }

    /// All waivers that have not ended.
    pub async fn list(&self) -> Result<Vec<Waiver>, Error> {
        self.load().await?;
        let now = self.clock.now();
        let (mut all, _) = self.current();
        all.waivers.retain(|waiver| waiver.ends().is_some_and(|end| end > now));
        Ok(all.waivers)
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut Waivers) -> Result<(), Error> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        let _held = self.changing.lock().await;
        let changed = self
            .store
            .update(&keys::waivers(), move |stored| {
                let mut waivers = stored.as_deref().map(parse).transpose()?.unwrap_or_default();
                change(&mut waivers)?;
                let bytes = serde_json::to_vec_pretty(&waivers).map_err(|_| Error::Damaged)?;
                Ok::<_, Error>(Change::Write(bytes.into(), waivers))
            })
            .await?;
        self.take(changed);
        Ok(())
    }

    async fn record(&self, kind: Kind, waiver: &Waiver, by: &str) -> Result<(), Error> {
        let mut event = Event::new(kind, Who::operator(Some(by.to_owned())), self.clock.now()).with("waiver", waiver);
        event.package = Some(waiver.package.clone());
        event.version.clone_from(&waiver.version);
        Ok(self.recorder.record(event).await?)
    }
}

fn parse(bytes: &[u8]) -> Result<Waivers, Error> {
    serde_json::from_slice(bytes).map_err(|_| Error::Damaged)
}
