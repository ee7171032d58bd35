//! Writing down how often tarballs were downloaded.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

/// How often: what a crash may lose of them is this much.
pub(super) const EVERY: Duration = Duration::from_mins(1);

/// Does so until told to stop. What was counted then is written by [`crate::app::App::stop`].
pub async fn keep_counted(registry: Registry, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        write_down(&registry).await;
    }
}

/// Writes what was counted.
pub(super) async fn write_down(registry: &Registry) {
    if let Err(error) = registry.write_downloads().await {
        tracing::warn!(%error, "counted downloads cannot be written: they wait");
    }
}
