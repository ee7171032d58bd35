//! The rules file: read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::registry::Registry;
use crate::settings::Settings;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What tells that a file is another one: when it was changed, and its size.
type Stamp = Option<(SystemTime, u64)>;

/// Looks at the rules file until told to stop, and puts it in force when it has changed. One with mistakes is told of and
/// not used: the old rules stay.
pub async fn keep_rules(registry: Registry, settings: Arc<Settings>, clock: Clock, stop: CancellationToken) {
    let file = settings.policy.rules_file.clone();
    // Not as it is now: it may have changed since it was read for the start.
    let mut seen = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        let now = stamp(&file).await;
        if now == seen {
            continue;
        }
        seen = now;
        reload(&registry, &settings, &clock, &file).await;
    }
}

async fn reload(registry: &Registry, settings: &Arc<Settings>, clock: &Clock, file: &Path) {
    let reading = Arc::clone(settings);
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
            let now = clock.now();
            registry
                .note_policy_health(|health| health.rules_rejected_since = health.rules_rejected_since.or(Some(now)));
        }
    }
}

async fn stamp(file: &PathBuf) -> Stamp {
    let metadata = tokio::fs::metadata(file).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
