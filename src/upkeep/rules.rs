//! The rules file: read again when it changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::registry::Registry;
use crate::settings::Settings;

/// How often it is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// What tells that a file is another one: when it was changed, and its size.
type Stamp = Option<(SystemTime, u64)>;

/// Puts the rules file in force when it has changed. One with mistakes is told of and not used: the old rules stay.
#[derive(Clone)]
pub struct RulesKeeper {
    registry: Registry,
    settings: Arc<Settings>,
    clock: Clock,
    /// As the file was when it was last read. Nothing at first, not as it is then: it may have changed since the start.
    seen: Arc<Mutex<Stamp>>,
}

impl RulesKeeper {
    /// Does nothing yet.
    pub fn new(registry: Registry, settings: Arc<Settings>, clock: Clock) -> Self {
        Self { registry, settings, clock, seen: Arc::default() }
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
        let now = stamp(&self.settings.policy.rules_file).await;
        if now != *seen {
            *seen = now;
            self.reload().await;
        }
    }

    async fn reload(&self) {
        let (registry, file) = (&self.registry, &self.settings.policy.rules_file);
        let reading = Arc::clone(&self.settings);
        let Ok(outcome) = tokio::task::spawn_blocking(move || reading.policy_rules()).await else { return };
        match outcome {
            Ok(rules) => {
                tracing::info!(rules = rules.len(), file = %file.display(), "the policy's rules were read again and are in force");
                registry.set_rules(rules);
                registry.note_policy_health(|health| health.rules_rejected_since = None);
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

async fn stamp(file: &PathBuf) -> Stamp {
    let metadata = tokio::fs::metadata(file).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
