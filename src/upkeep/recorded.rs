//! Writing down what nobody waits for: events of things that changed nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::events::Recorder;

/// How often: what a crash may lose of them is this much.
const EVERY: Duration = Duration::from_secs(2);

/// Does so until told to stop. What waits then is written by [`crate::app::App::stop`].
pub async fn keep_recorded(recorder: Recorder, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        write_down(&recorder).await;
    }
}

/// Writes what waits.
pub(super) async fn write_down(recorder: &Recorder) {
    if let Err(error) = recorder.flush().await {
        let (waiting, _) = recorder.backlog();
        tracing::warn!(%error, waiting, "events cannot be written into the record: they wait");
    }
}
