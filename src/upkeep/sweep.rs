//! Removing what has ended: sign-ins, invitations and the like that nobody can use any more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

/// How often.
pub(super) const EVERY: Duration = Duration::from_hours(1);

/// Removes what has ended until told to stop.
pub async fn keep_swept(registry: Registry, stop: CancellationToken) {
    // Not at the start, which scans nothing; soon after it, for servers that never run for an hour.
    let mut pause = Duration::from_mins(5);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = EVERY;
        sweep(&registry).await;
    }
}

/// Removes what has ended.
pub(super) async fn sweep(registry: &Registry) {
    match registry.auth().sweep().await {
        Ok(removed) => tracing::debug!(removed, "what has ended was removed"),
        Err(error) => tracing::warn!(%error, "what has ended could not all be removed"),
    }
}
