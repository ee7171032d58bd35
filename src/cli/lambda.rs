//! `holdfast lambda`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{DataArgs, has_upstream, output, runtime};
use crate::app::App;
use crate::clock::Clock;
use crate::maintenance::StackRemoval;
use crate::serve::{serve_lambda, serve_removal};
use crate::settings::{Home, Settings};
use crate::telemetry;

pub(super) fn run(arguments: &DataArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.load()?.settings;
    if settings.server.home != Home::Lambda {
        anyhow::bail!("this is for AWS Lambda, which tells where its Runtime API is: run `holdfast serve` elsewhere");
    }
    telemetry::start(&settings.log, telemetry::Lines::AtOnce);
    if let Some(stack) = &settings.storage.remove_with_stack {
        return ended(runtime()?.block_on(remove_with_stack(&settings, stack)));
    }
    if !has_upstream(&settings) {
        tracing::warn!(
            "no upstream registry is set: only packages published here can be installed; set `upstreams.default.url`, or `packages.proxy = false`"
        );
    }
    ended(runtime()?.block_on(serve(&settings)))
}

#[expect(clippy::unnecessary_wraps, reason = "the end of a command")]
fn ended(outcome: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            output::failure(&error, None);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// No registry: the bucket goes when CloudFormation says that the stack does.
async fn remove_with_stack(settings: &Settings, stack: &str) -> anyhow::Result<()> {
    let removal = StackRemoval::new(stack, &settings.storage.location(), Clock::default())?;
    let mut terminate = signal(SignalKind::terminate())?;
    serve_removal(removal, async move {
        terminate.recv().await;
    })
    .await?;
    Ok(())
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
