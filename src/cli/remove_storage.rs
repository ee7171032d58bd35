//! `holdfast remove-storage`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::confirm::confirm;
use super::migrate::list;
use super::{DataArgs, open_for_reading, output, runtime};
use crate::maintenance::foreign_objects;
use crate::settings;
use crate::storage::{Location, Removal, Removed};
use crate::telemetry;

/// Arguments of `holdfast remove-storage`.
#[derive(Debug, Args)]
#[command(after_help = "\
All packages, accounts and tokens are gone after this, in every version that a bucket has kept. A bucket of S3 is emptied, its
marks of deletion and unfinished uploads too, and removed; with a prefix only what is below it goes, and the bucket stays. Other
services' buckets are emptied and stay. A directory must have no running server.

It can be cut off and run again. The exit code is 1 when something could not be removed.

Examples:
  holdfast remove-storage --storage s3://acme-npm --dry-run
  holdfast remove-storage --storage s3://acme-npm --yes acme-npm")]
pub(super) struct RemoveStorageArgs {
    /// The name of the bucket or the path of the directory, in place of typing it
    #[arg(long, value_name = "NAME")]
    yes: Option<String>,
    /// Remove what neither Holdfast nor an older system wrote, too
    #[arg(long)]
    with_foreign: bool,
    /// Only count
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

pub(super) fn run(arguments: &RemoveStorageArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let (location, shown) = (settings.storage.location(), settings.storage.shown());
    let name = match &location {
        Location::Directory(directory) => directory.display().to_string(),
        Location::Bucket(bucket) => bucket.address.bucket().to_owned(),
    };
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let removal = Removal::of(&location)?;
    if !arguments.with_foreign {
        let found = runtime.block_on(foreign_objects(&open_for_reading(&settings)?))?;
        anyhow::ensure!(
            found.is_empty(),
            "{}\nSomebody may miss them: look at them, or say --with-foreign",
            list("objects are neither Holdfast's nor an older system's", &found).join("\n")
        );
    }
    if !arguments.dry_run {
        confirm(&format!("All that is in {shown} will be gone for ever."), &name, arguments.yes.as_deref())?;
        // The record of events goes with the store: the log is all that can tell.
        telemetry::start(&settings.log, telemetry::Lines::AtOnce);
        let by = settings::account_name().unwrap_or_default();
        tracing::warn!(by, store = shown, "the store is being emptied and removed");
    }
    let mut progress = output::Progress::of("objects");
    let mut step = |done: u64, what: &str| progress.step(done, None, &what);
    let removed = runtime.block_on(removal.run(arguments.dry_run, &mut step));
    let removed = removed.with_context(|| format!("{shown} is not removed; run it again to go on"))?;
    drop(progress);
    if !arguments.dry_run {
        let Removed { objects, failed, is_place_gone, .. } = &removed;
        tracing::warn!(objects, failed, is_place_gone, store = shown, "the store was emptied");
    }
    output::report(&removed, arguments.json, || text(&removed, arguments.dry_run))?;
    Ok(if removed.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(removed: &Removed, dry_run: bool) -> String {
    let Removed { objects, delete_markers, uploads, failed, .. } = removed;
    let would = if dry_run { " would be" } else { "" };
    let mut lines = vec![format!(
        "{objects} objects, {delete_markers} marks of deletion and {uploads} unfinished uploads{would} removed."
    )];
    if removed.is_place_gone {
        lines.push("The place itself is gone.".to_owned());
    }
    lines.extend(removed.place_remains.as_ref().map(|why| format!("The place itself remains: {why}")));
    if *failed > 0 {
        lines.push(format!("{failed} could not be removed:"));
        lines.extend(removed.failures.iter().map(|failure| format!("  {failure}")));
    }
    lines.join("\n")
}
