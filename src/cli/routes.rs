//! `holdfast routes`: the route table.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::http::{Access, routes};

/// Arguments of `holdfast routes`.
#[derive(Debug, Args)]
pub(super) struct RoutesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let routes = routes();
    if arguments.json {
        output::json(&routes.table())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = routes
        .table()
        .iter()
        .map(|route| {
            let access = match route.access {
                Access::Anybody => "anybody",
                Access::Readers => "readers",
                Access::Accounts => "accounts",
                Access::Owners => "owners",
                Access::Administrators => "administrators",
            };
            vec![route.method.to_owned(), route.path.to_owned(), access.to_owned(), route.handler.clone()]
        })
        .collect();
    output::data(&output::table(&["METHOD", "PATH", "ACCESS", "HANDLER"], &rows))?;
    Ok(ExitCode::SUCCESS)
}
