//! `holdfast events sinks`: those who are told what happens.

use std::process::ExitCode;

use clap::Args;

use super::{DataArgs, orders, output};
use crate::operator::{Order, Outcome};
use crate::sinks::Status;

/// Arguments of `holdfast events sinks`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast events sinks                  how each sink is
  holdfast events sinks --retry chat     have what the sink `chat` did not take sent once more")]
pub(super) struct SinksArgs {
    /// Try the dead letters of a sink once more, with its next delivery
    #[arg(long, value_name = "NAME")]
    retry: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &SinksArgs, settings: &DataArgs) -> anyhow::Result<ExitCode> {
    if let Some(name) = &arguments.retry {
        orders::give(settings, Order::RetrySink { name: name.clone() })?;
        output::message(&format!(
            "holdfast: what `{name}` did not take is sent once more by the next server that delivers to it"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let Outcome::Sinks { sinks } = orders::give(settings, Order::ListSinks)? else {
        anyhow::bail!("the server answered with something else than its sinks");
    };
    if arguments.json {
        output::json(&sinks)?;
    } else if sinks.is_empty() {
        output::message("holdfast: no sinks are set");
    } else {
        let header = ["sink", "kind", "delivered", "last", "waiting since", "dead letters", "last error"];
        output::data(&output::table(&header, &sinks.iter().map(row).collect::<Vec<_>>()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(status: &Status) -> Vec<String> {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let retrying = if status.is_retrying { " (are tried once more)" } else { "" };
    let next = status.next_try.as_ref().map(|next| format!(", {} in a row, next try {next}", status.failures));
    let error = status.last_error.as_ref().map(|error| format!("{error}{}", next.unwrap_or_default()));
    vec![
        status.name.clone(),
        status.kind.clone(),
        status.delivered.to_string(),
        or_dash(&status.last_delivery),
        or_dash(&status.waiting_since),
        format!("{}{retrying}", status.dead_letters),
        or_dash(&error),
    ]
}
