//! The rules file: read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::SettingsRecord;
use crate::clock::Clock;
use crate::registry::Registry;
use crate::settings::Settings;

/// How often it is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// What tells that a file is another one: its name, when it was changed, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    path: PathBuf,
    /// Nothing where there is no such file.
    state: Option<(SystemTime, u64)>,
}

impl FileStamp {
    /// Of a file as it is now.
    pub async fn of(path: &Path) -> Self {
        let metadata = tokio::fs::metadata(path).await.ok();
        let state = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        Self { path: path.to_owned(), state }
    }
}

/// Puts the rules file in force when it has changed. One with mistakes is told of and not used: the old rules stay.
#[derive(Clone)]
pub struct RulesKeeper {
    registry: Registry,
    /// Those in force, which may be changed.
    settings: watch::Receiver<Arc<Settings>>,
    clock: Clock,
    record: SettingsRecord,
    /// As the file was when it was last read. Nothing at first, not as it is then: it may have changed since the start.
    seen: Arc<Mutex<FileStamp>>,
}

impl RulesKeeper {
    /// Does nothing yet.
    pub fn new(
        registry: Registry,
        settings: watch::Receiver<Arc<Settings>>,
        clock: Clock,
        record: SettingsRecord,
    ) -> Self {
        let nothing = FileStamp { path: settings.borrow().policy.rules_file.clone(), state: None };
        Self { registry, settings, clock, record, seen: Arc::new(Mutex::new(nothing)) }
    }

    /// Looks at the file until told to stop.
    pub async fn keep(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
            self.look().await;
        }
    }

    /// Looks at the file once.
    pub async fn look(&self) {
        let mut seen = self.seen.lock().await;
        let settings = Arc::clone(&self.settings.borrow());
        let now = FileStamp::of(&settings.policy.rules_file).await;
        if now != *seen {
            *seen = now;
            self.reload(settings).await;
        }
    }

    async fn reload(&self, settings: Arc<Settings>) {
        let (registry, file) = (&self.registry, &settings.policy.rules_file);
        let reading = Arc::clone(&settings);
        let Ok(outcome) = tokio::task::spawn_blocking(move || reading.policy_rules()).await else { return };
        match outcome {
            Ok(rules) => {
                tracing::info!(rules = rules.len(), file = %file.display(), "the policy's rules were read again and are in force");
                registry.set_rules(rules);
                registry.note_policy_health(|health| health.rules_rejected_since = None);
                self.record.note().await;
            }
            Err(error) => {
                for mistake in error.lines() {
                    tracing::error!(file = %file.display(), mistake, "the policy's rules are NOT in force: the old ones stay");
                }
                let now = self.clock.now();
                registry.note_policy_health(|health| {
                    health.rules_rejected_since = health.rules_rejected_since.or(Some(now));
                });
            }
        }
    }
}
