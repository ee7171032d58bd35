//! `holdfast export`: hosted packages as a folder of documents and tarballs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{DataArgs, open_store, output, runtime};
use crate::npm::Pattern;
use crate::transfer::export::{ExportReport, export};
use crate::transfer::{Line, Progress};

/// Arguments of `holdfast export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes `NAME/package.json`, the standard document, and beside it each version's tarball, for every package that was published
here. Accounts, tokens and rules are not in it. It can be stopped at any point and run again: tarballs that are there in their
whole length are passed over. Of a data directory the server must be stopped first.

The exit code is 0 when all is well, and 1 when the report names tarballs that are missing or wrong.

Examples:
  holdfast export /backup/npm
  holdfast export acme --package '@acme/*'
  holdfast import tarballs acme --data other        the other side")]
pub(super) struct ExportArgs {
    /// Where to; made when it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only these: `name`, `@scope/name`, `@scope/*` [may be repeated]
    #[arg(long = "package", value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

pub(super) fn run(arguments: &ExportArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let store = open_store(&settings)?;
    let mut progress = output::Progress::of("packages");
    let exporting = export(&store, &arguments.folder, &arguments.patterns, |Progress { done, of, name }| {
        progress.step(done as u64, Some(of as u64), name);
    });
    let report = runtime()?.block_on(exporting)?;
    drop(progress);
    if arguments.json {
        output::json(&report)?;
    } else {
        let ExportReport { packages, versions, problems } = &report;
        for Line { package, version, why } in problems {
            let version = version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
            output::data(&format!("{package}{version}: {why}"))?;
        }
        output::message(&format!(
            "{versions} versions of {packages} packages are in `{}`.",
            arguments.folder.display()
        ));
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
