//! Advisories: loaded at the start, refreshed from their source, swapped as a whole.
//!
//! The index in force is an object of the store, which a pointer names. A refresh compiles the source into a new index,
//! writes it, then the pointer, then puts it in force; the old one goes last. So a replica or a restart finds a whole one
//! whenever it looks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::advisories::{self, CompileError, Compiled, FetchError, Fetched, Index, Limits};
use crate::clock::Clock;
use crate::keys;
use crate::registry::Registry;
use crate::settings::{AdvisorySettings, AdvisorySource};
use crate::storage::{self, Durability, Store};
use crate::upstream::Validators;

/// The pause before a failed refresh is tried again, where the usual one is longer.
const AFTER_A_FAILURE: Duration = Duration::from_mins(5);

/// From how many advisories on a loss of half of them is no accident of small numbers.
const MANY: u64 = 1000;

/// Which index is in force, and what it was made from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Pointer {
    fingerprint: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    validators: Validators,
}

/// Why a refresh came to nothing. What was in force stays.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The archive cannot be had.
    #[error("the archive cannot be fetched")]
    Fetch(#[from] FetchError),
    /// What came is no archive of advisories.
    #[error("the archive cannot be used")]
    Compile(#[from] CompileError),
    /// The index cannot be kept.
    #[error("the index cannot be stored")]
    Store(#[from] storage::Error),
    /// An archive that was emptied, by mistake or on purpose, must not end all protection.
    #[error("the archive has {after} advisories, where the one before had {before}: more than half are gone")]
    Shrunk {
        /// In the index in force.
        before: u64,
        /// In the archive.
        after: u64,
    },
    /// The index that was made cannot be read: a mistake of ours.
    #[error("the index that was made cannot be read")]
    Index(#[from] advisories::IndexError),
    /// There is no room, or no right, for the archive on its way.
    #[error("the archive cannot be put down")]
    Staging(#[source] std::io::Error),
    /// The work was lost.
    #[error("the work was interrupted")]
    Interrupted,
}

/// Loads and refreshes the advisories.
#[derive(Clone)]
pub struct AdvisoryKeeper {
    registry: Registry,
    store: Store,
    settings: AdvisorySettings,
    clock: Clock,
    /// Of what is in force. Held during a refresh, so that there is one at a time.
    pointer: Arc<Mutex<Pointer>>,
}

impl AdvisoryKeeper {
    /// Does nothing yet.
    pub fn new(registry: Registry, store: Store, settings: AdvisorySettings, clock: Clock) -> Self {
        Self { registry, store, settings, clock, pointer: Arc::default() }
    }

    /// Keeps the advisories up to date until told to stop.
    pub async fn keep(self, stop: CancellationToken) {
        self.begin().await;
        if self.settings.source.is_none() {
            return;
        }
        loop {
            let is_refreshed = tokio::select! {
                is_refreshed = self.refresh_now() => is_refreshed,
                () = stop.cancelled() => return,
            };
            let refresh = self.settings.refresh;
            let pause = if is_refreshed { refresh } else { refresh.min(AFTER_A_FAILURE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Puts in force what is stored of advisories and waivers.
    pub async fn begin(&self) {
        self.follow().await;
        if let Err(error) = self.registry.waivers().load().await {
            tracing::error!(%error, "the waivers cannot be read: nothing is let through by them");
        }
        self.registry.note_policy_loaded();
    }

    /// Puts the stored index in force where it is another one than that in force: another process may have refreshed it.
    pub async fn follow(&self) {
        let mut pointer = self.pointer.lock().await;
        match self.load(&pointer).await {
            Ok(newer) => *pointer = newer,
            Err(error) => {
                tracing::error!(%error, "the stored advisories cannot be read: what is in force stays until a refresh");
            }
        }
    }

    /// Refreshes the advisories from their source, if there is one. False when that failed.
    pub async fn refresh_now(&self) -> bool {
        let Some(source) = &self.settings.source else { return true };
        let mut pointer = self.pointer.lock().await;
        match self.refresh(source, &pointer).await {
            Ok(newer) => {
                *pointer = newer;
                self.registry.note_policy_health(|health| health.advisories_failing_since = None);
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, cause, "the advisories were not refreshed: the old ones stay in force");
                let now = self.clock.now();
                self.registry.note_policy_health(|health| {
                    health.advisories_failing_since = health.advisories_failing_since.or(Some(now));
                });
                false
            }
        }
    }

    /// Puts the stored index in force, if there is one and it is not that of the known pointer.
    async fn load(&self, known: &Pointer) -> Result<Pointer, RefreshError> {
        let pointer = match self.store.read(&keys::advisories_pointer()).await {
            Ok(bytes) => serde_json::from_slice::<Pointer>(&bytes).unwrap_or_default(),
            Err(storage::Error::NotFound) => return Ok(known.clone()),
            Err(error) => return Err(error.into()),
        };
        if pointer.fingerprint == known.fingerprint {
            return Ok(pointer);
        }
        let bytes = match self.store.read(&keys::advisories_index(&pointer.fingerprint)).await {
            Ok(bytes) => bytes,
            // Between the two reads another refresh may have put a newer one in its place.
            Err(storage::Error::NotFound) => return Ok(known.clone()),
            Err(error) => return Err(error.into()),
        };
        self.put_in_force(
            tokio::task::spawn_blocking(move || Index::from_bytes(&bytes))
                .await
                .map_err(|_| RefreshError::Interrupted)??,
        );
        Ok(pointer)
    }

    fn put_in_force(&self, index: Index) {
        let statistics = index.statistics().clone();
        tracing::info!(
            packages = statistics.packages,
            advisories = statistics.advisories,
            malware = statistics.malware,
            "advisories are in force"
        );
        self.registry.note_policy_health(|health| health.advisories_compiled = Some(statistics.compiled_at));
        self.registry.set_advisories(index);
    }

    async fn refresh(&self, source: &AdvisorySource, pointer: &Pointer) -> Result<Pointer, RefreshError> {
        let limits = Limits::default();
        let (name, path, validators, staged) = match source {
            AdvisorySource::Path(path) => (path.display().to_string(), path.clone(), Validators::default(), None),
            AdvisorySource::Url(url) => {
                let staged = self.staging_file().await.map_err(RefreshError::Staging)?;
                let known =
                    if pointer.source == url.as_str() { pointer.validators.clone() } else { Validators::default() };
                match advisories::fetch(url, &staged.0, &known, &limits).await? {
                    Fetched::NotModified => return Ok(pointer.clone()),
                    Fetched::Archive { validators, .. } => {
                        (url.to_string(), staged.0.clone(), validators, Some(staged))
                    }
                }
            }
        };
        let now = self.clock.now();
        let compiled = tokio::task::spawn_blocking(move || {
            let compiled = advisories::compile(&path, &limits, now);
            drop(staged);
            compiled
        })
        .await
        .map_err(|_| RefreshError::Interrupted)??;
        let Compiled { bytes, statistics } = compiled;
        tracing::debug!(
            unreadable = statistics.unreadable,
            foreign = statistics.foreign,
            withdrawn = statistics.withdrawn,
            "advisories were compiled"
        );
        let index = Index::from_bytes(&bytes)?;
        let (before, after) = (self.registry.policy().advisories().statistics().advisories, statistics.advisories);
        if before >= MANY && after < before / 2 {
            return Err(RefreshError::Shrunk { before, after });
        }
        let newer = Pointer { fingerprint: index.fingerprint().to_owned(), source: name, validators };
        if newer.fingerprint == pointer.fingerprint {
            // The same advisories: nothing to swap, and no ETag changes.
            self.registry.note_policy_health(|health| health.advisories_compiled = Some(now));
            return Ok(newer);
        }
        let key = keys::advisories_index(&newer.fingerprint);
        self.store.put(&key, bytes, Durability::Synced).await?;
        let text = serde_json::to_vec(&newer).unwrap_or_default();
        self.store.put(&keys::advisories_pointer(), text.into(), Durability::Synced).await?;
        self.put_in_force(index);
        if !pointer.fingerprint.is_empty() {
            match self.store.delete(&keys::advisories_index(&pointer.fingerprint)).await {
                Ok(()) | Err(storage::Error::NotFound) => {}
                Err(error) => tracing::warn!(%error, "an old index of advisories could not be removed"),
            }
        }
        Ok(newer)
    }

    /// A file for an archive on its way, which goes when it is dropped.
    async fn staging_file(&self) -> std::io::Result<StagedArchive> {
        let path = self.store.derived_path("advisories.zip");
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        Ok(StagedArchive(path))
    }
}

struct StagedArchive(PathBuf);

impl Drop for StagedArchive {
    fn drop(&mut self) {
        // The next one is written over it if this fails.
        let _ = std::fs::remove_file(&self.0);
    }
}
