//! `holdfast lambda`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{DataArgs, has_upstream, output, runtime};
use crate::app::App;
use crate::clock::Clock;
use crate::serve::serve_lambda;
use crate::settings::{Home, Settings};
use crate::telemetry;

pub(super) fn run(arguments: &DataArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.load()?.settings;
    if settings.server.home != Home::Lambda {
        anyhow::bail!("this is for AWS Lambda, which tells where its Runtime API is: run `holdfast serve` elsewhere");
    }
    telemetry::start(&settings.log, telemetry::Lines::AtOnce);
    if !has_upstream(&settings) {
        tracing::warn!(
            "no upstream registry is set: only packages published here can be installed; set `upstreams.default.url`, or `packages.proxy = false`"
        );
    }
    match runtime()?.block_on(serve(&settings)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            output::failure(&error, None);
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn serve(settings: &Settings) -> anyhow::Result<()> {
    let app = App::start(settings, Clock::default())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Box::pin(serve_lambda(app, async move {
        terminate.recv().await;
    }))
    .await?;
    Ok(())
}
