//! Changed settings, put in force while requests are served: at `SIGHUP`, and when the settings file is another one.
//!
//! All or nothing: settings with a mistake change nothing. What needs a restart is told and stays as it is.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::systemd;
use crate::http::HttpService;
use crate::settings::{Flags, Loaded, LoadedAgain, Settings};
use crate::telemetry::LogLevel;
use crate::upkeep::FileStamp;

/// How often the settings file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Where the settings come from, and those in force.
pub struct Reload {
    flags: Flags,
    loaded: Loaded,
    log_level: LogLevel,
    hang_up: Option<Signal>,
}

/// Waits for the signal; for ever where it is not listened for.
async fn asked(hang_up: Option<&mut Signal>) {
    let came = match hang_up {
        Some(hang_up) => hang_up.recv().await,
        None => None,
    };
    if came.is_none() {
        std::future::pending::<()>().await;
    }
}

impl Reload {
    /// `loaded` are in force, and were loaded with these flags.
    pub fn new(flags: Flags, loaded: Loaded, log_level: LogLevel) -> Self {
        Self { flags, loaded, log_level, hang_up: None }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// Takes `SIGHUP` for itself, which would otherwise end the process. Call it before anybody is told that the server is there.
    ///
    /// # Errors
    /// When the system has no more room for that.
    pub fn listen(&mut self) -> io::Result<()> {
        self.hang_up = Some(signal(SignalKind::hangup())?);
        Ok(())
    }

    /// Looks for changes until told to stop.
    pub(super) async fn keep(mut self, service: HttpService, stop: CancellationToken) {
        let mut hang_up = self.hang_up.take();
        // Not as the file is now: it may have changed since it was loaded.
        let mut seen = None;
        loop {
            let is_asked = tokio::select! {
                () = asked(hang_up.as_mut()) => true,
                () = tokio::time::sleep(EVERY) => false,
                () = stop.cancelled() => return,
            };
            let now = self.stamp().await;
            if is_asked || now != seen {
                seen = now;
                systemd::notify("RELOADING=1");
                self.reload(&service, is_asked).await;
                systemd::notify("READY=1");
            }
        }
    }

    async fn stamp(&self) -> Option<FileStamp> {
        match &self.loaded.file {
            Some(file) => Some(FileStamp::of(file).await),
            None => None,
        }
    }

    async fn reload(&mut self, service: &HttpService, is_asked: bool) {
        let (flags, before, app) = (self.flags.clone(), self.loaded.clone(), service.app());
        let changing = app.clone();
        let work = move || {
            let again = Settings::load_again(&flags, &before)
                .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            if let Some(own) = again.loaded.settings.upstream_that_is_this_server() {
                return Err(vec![format!("the upstream `{}` is this very server", own.client.name)]);
            }
            let changed = changing.with_settings(&again.loaded.settings, &again.changed);
            changed.map(|app| (again, app)).map_err(|error| vec![crate::causes::one_line(&error)])
        };
        let Ok(outcome) = tokio::task::spawn_blocking(work).await else { return };
        match outcome {
            Ok((LoadedAgain { loaded, changed, waiting }, changed_app)) => {
                self.log_level.set(&loaded.settings.log);
                changed_app.note_settings();
                service.replace(changed_app);
                self.loaded = loaded;
                let is_mended = app.settings.health().rejected_since.is_some();
                if is_asked || is_mended || !changed.is_empty() {
                    tracing::info!(changed = changed.join(", "), "the settings were read again and are in force");
                }
                if !waiting.is_empty() {
                    tracing::warn!(
                        settings = waiting.join(", "),
                        "these settings are others now and need a restart to be in force"
                    );
                }
                app.settings.note_health(|health| {
                    health.rejected_since = None;
                    health.waiting_for_restart = waiting;
                });
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!(mistake, "the settings are NOT in force: the old ones stay");
                }
                let now = app.clock.now();
                app.settings.note_health(|health| health.rejected_since = health.rejected_since.or(Some(now)));
            }
        }
    }
}
