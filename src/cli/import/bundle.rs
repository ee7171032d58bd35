//! `holdfast import bundle`: upstreams' packages from a signed file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{bundle, note_command, open_store, output, runtime};
use crate::app::App;
use crate::clock::Clock;
use crate::settings::Settings;

/// Arguments of `holdfast import bundle`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keeps what `holdfast mirror --bundle` wrote as if it had been fetched from the upstream that the settings have for each name,
which need not answer. The list in the bundle must be signed with the key, and each file be what the list says, before it is
kept. It can be stopped at any point and run again. Of a data directory the server must be stopped first.

The exit code is 0 when everything is kept, and 1 when packages were left out or the bundle is not believed.

Examples:
  holdfast import bundle app.tar.zst --key holdfast-bundle-pub:…
  holdfast import bundle app.tar.zst --key bundle.pub --data /var/lib/holdfast")]
pub(super) struct BundleArgs {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The public key, or the file that it is in
    #[arg(long, value_name = "PUBKEY")]
    key: String,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &BundleArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let key = bundle::read_public_key(&arguments.key)?;
    let store = open_store(settings)?;
    let taken = runtime()?.block_on(async {
        note_command(&store, "import bundle", json!({})).await?;
        let app = App::with_store(settings, Clock::default(), store)?;
        let taken = bundle::take(&app.registry, arguments.file.clone(), key).await;
        app.stop().await;
        taken
    })?;
    if arguments.json {
        output::json(&taken)?;
    } else {
        output::data(&taken.text())?;
    }
    Ok(if taken.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
