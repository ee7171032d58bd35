//! `holdfast config show`: every setting and where it came from.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{SettingsArgs, explain, output};

/// Arguments of `holdfast config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting, its value and where the value came from; secrets are hidden
    Show {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether somebody may do something with a package, which rule decides, and why
    Explain(explain::ExplainArgs),
}

pub(super) fn run(arguments: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let (settings, json) = match &arguments.command {
        ConfigCommand::Show { settings, json } => (settings, *json),
        ConfigCommand::Explain(arguments) => return explain::run(arguments),
    };
    let loaded = settings.load()?;
    if json {
        output::json(&loaded.shown)?;
    } else {
        let rows: Vec<Vec<String>> =
            loaded.shown.into_iter().map(|line| vec![line.key, line.value, line.origin]).collect();
        output::data(&output::table(&["SETTING", "VALUE", "FROM"], &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}
