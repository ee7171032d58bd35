//! `holdfast import tarballs`: packages from a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{note_command, open_store, output, runtime};
use super::{OwnerArgs, WayArgs, shown, stopped, tell};
use crate::settings::Settings;
use crate::transfer;
use crate::transfer::tarballs::Tarballs;

/// Arguments of `holdfast import tarballs`.
#[derive(Debug, Args)]
#[command(after_help = "\
A folder with a document (`package.json` with `versions`) and its tarballs is a package, with times, tags and deprecations, as
`holdfast export` writes it. Every other .tgz is a version of the package that the package.json in it names: it was published
when the file was written, and the highest stable version is `latest`. What is here is never replaced. It can be stopped at
any point and run again. Of a data directory the server must be stopped first; on a bucket it may run beside servers.

The exit code is 0 when all is well, and 1 when the report names something that could not come in.

Examples:
  holdfast import tarballs packed --owner ann
  holdfast import tarballs /backup/npm --keep-owners --dry-run")]
pub(super) struct TarballsArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    owners: OwnerArgs,
    #[command(flatten)]
    way: WayArgs,
}

pub(super) fn run(arguments: &TarballsArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let to = arguments.way.destination(open_store(settings)?, settings)?;
    let runtime = runtime()?;
    if !to.dry_run {
        runtime.block_on(note_command(&to.store, "import tarballs", json!({})))?;
    }
    let opened = runtime.block_on(Tarballs::open(&arguments.folder, to.limits, arguments.owners.owners()));
    let (tarballs, problems) = opened.map_err(|error| {
        anyhow::Error::new(error).context(format!("`{}` cannot be read", arguments.folder.display()))
    })?;
    let mut progress = output::Progress::of("packages");
    let coming = transfer::bring_in(&to, &tarballs, tarballs.names(), shown(&mut progress));
    let mut report = runtime.block_on(coming).map_err(stopped)?;
    drop(progress);
    for line in problems {
        report.problem(&line.package, line.version, line.why);
    }
    tell(&report, &arguments.way)
}
