//! `holdfast backup` and `holdfast restore`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::migrate::{list, problems};
use super::{DataArgs, note_command, open_for_reading, open_store, output, runtime, stores};
use crate::clock::Clock;
use crate::keys::Key;
use crate::maintenance::backup::{self, BackupReport, RestoreReport, RestoreWish, VerifyReport};
use crate::maintenance::{BackupError, Wish};

/// Arguments of `holdfast backup`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = "\
Servers may go on using the store. Every change that was acknowledged before the backup began is in it, and each document in it
has its tarballs. A manifest names every object with its hash; --verify and `holdfast restore` compare with it.

Left out is what comes back by itself or lasts an hour: the search index, the cache of upstreams, sign-ins and uploads under
way, invitations.

Examples:
  holdfast backup /mnt/backup/npm             again and again: only what is new is written
  holdfast backup s3://acme-backup/npm
  holdfast backup npm.tar.zst                 one file
  holdfast backup - | age -r KEY > npm.tar.zst.age
  holdfast backup --verify npm.tar.zst")]
pub(super) struct BackupArgs {
    /// A directory, the address of a store, a file that ends in `.tar.zst`, or `-` for stdout
    #[arg(value_name = "DEST")]
    destination: String,
    /// Only read a backup that is there, and compare it with its manifest
    #[arg(long)]
    verify: bool,
    /// Take along what is kept of upstreams
    #[arg(long)]
    with_cache: bool,
    /// Leave objects out that neither Holdfast nor an older system wrote
    #[arg(long)]
    ours_only: bool,
    /// Only look, and say what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

/// Arguments of `holdfast restore`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = "\
Of a data directory the server must be stopped. The store has to be empty; a restore that was cut off goes on where it ended. A
file is read and proven before anything is written; what comes by stdin only while it is written.

Examples:
  holdfast restore /mnt/backup/npm --data /var/lib/holdfast
  holdfast restore npm.tar.zst --storage s3://acme-npm")]
pub(super) struct RestoreArgs {
    /// A directory, the address of a store, a file that ends in `.tar.zst`, or `-` for stdin
    #[arg(value_name = "SRC")]
    source: String,
    /// The store may have something already, which stays as it is
    #[arg(long)]
    into_existing: bool,
    /// Replace what is there with other bytes
    #[arg(long, requires = "into_existing")]
    overwrite: bool,
    /// Only look, and say what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

/// What a backup is in.
enum Place<'a> {
    Stream,
    Archive(&'a Path),
    Store(&'a str),
}

impl<'a> Place<'a> {
    fn of(text: &'a str) -> Self {
        match text {
            "-" => Self::Stream,
            file if file.ends_with(".tar.zst") => Self::Archive(Path::new(file)),
            store => Self::Store(store),
        }
    }
}

pub(super) fn run(arguments: &BackupArgs) -> anyhow::Result<ExitCode> {
    if arguments.verify {
        return verify(arguments);
    }
    let settings = arguments.settings.load()?.settings;
    let wish = Wish {
        dry_run: arguments.dry_run,
        with_cache: arguments.with_cache,
        ours_only: arguments.ours_only,
        ..Wish::default()
    };
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let (source, clock) = (open_for_reading(&settings)?, Clock::default());
    let mut progress = output::Progress::of("objects");
    let mut step = |done: u64, key: &Key| progress.step(done, None, key);
    let place = Place::of(&arguments.destination);
    let report = match place {
        Place::Stream | Place::Archive(_) if wish.dry_run => {
            anyhow::bail!("--dry-run is for a directory or a store, where something may be there already")
        }
        Place::Stream => runtime.block_on(backup::into_stream(&source, output::stdout(), &clock, wish, &mut step)),
        Place::Archive(path) => runtime.block_on(backup::into_archive(&source, path, &clock, wish, &mut step)),
        Place::Store(address) => {
            let to = stores::named(Some(address), None)?;
            anyhow::ensure!(
                !settings.storage.location().overlaps(&to.storage.location()),
                "a backup within the store itself is none"
            );
            let target = if wish.dry_run { open_for_reading(&to)? } else { open_store(&to)? };
            runtime.block_on(backup::into_store(&source, &target, &clock, wish, &mut step))
        }
    };
    let report = report.context("there is no finished backup")?;
    drop(progress);
    let has_problems = report.copy.has_problems();
    match (arguments.json, place) {
        // Where the backup itself is.
        (_, Place::Stream) => output::message(&backup_text(&report)),
        (as_json, _) => output::report(&report, as_json, || backup_text(&report))?,
    }
    Ok(if has_problems { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn verify(arguments: &BackupArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let mut progress = output::Progress::of("objects");
    let step = |done: u64, key: &Key| progress.step(done, None, key);
    let report = match Place::of(&arguments.destination) {
        Place::Stream => anyhow::bail!("what comes by stdin is proven while it is restored: `holdfast restore -`"),
        Place::Archive(path) => runtime.block_on(backup::verify_archive(path, step)),
        Place::Store(address) => {
            let store = open_for_reading(&stores::named(Some(address), None)?)?;
            runtime.block_on(backup::verify_store(&store, step))
        }
    };
    let report = report.context("this is no whole backup")?;
    drop(progress);
    output::report(&report, arguments.json, || verify_text(&report))?;
    Ok(if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn run_restore(arguments: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let wish = RestoreWish {
        dry_run: arguments.dry_run,
        into_existing: arguments.into_existing,
        overwrite: arguments.overwrite,
    };
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let place = Place::of(&arguments.source);
    let backup = match place {
        Place::Store(address) => {
            let from = stores::named(Some(address), None)?;
            anyhow::ensure!(
                !settings.storage.location().overlaps(&from.storage.location()),
                "the backup lies within the store that it is to be brought back to"
            );
            Some(open_for_reading(&from)?)
        }
        Place::Stream if wish.dry_run => anyhow::bail!("what comes by stdin can only be restored"),
        Place::Stream | Place::Archive(_) => None,
    };
    let target = open_store(&settings)?;
    let note = async || {
        let arguments = json!({ "from": arguments.source, "overwrite": wish.overwrite });
        if wish.dry_run { Ok(()) } else { note_command(&target, "restore", arguments).await }
    };
    // A store that has to be empty would be so no more: its record has the restore when all is there.
    if wish.into_existing {
        runtime.block_on(note())?;
    }
    let mut progress = output::Progress::of("objects");
    let step = |done: u64, key: &Key| progress.step(done, None, key);
    let restored = runtime.block_on(async {
        match (place, &backup) {
            (Place::Archive(path), _) => backup::restore_archive(path, &target, wish, step).await,
            (_, Some(backup)) => backup::restore_store(backup, &target, wish, step).await,
            _ => backup::restore_stream(output::stdin(), &target, wish, step).await,
        }
    });
    let report = restored.map_err(|error| {
        let advice = match error {
            BackupError::NotEmpty => "restore into an empty store, or say --into-existing",
            _ => "the restore stopped; what is done stays done, run it again to go on",
        };
        anyhow::Error::new(error).context(advice)
    })?;
    drop(progress);
    if !wish.into_existing {
        runtime.block_on(note()).context("all is restored")?;
    }
    output::report(&report, arguments.json, || restore_text(&report))?;
    Ok(if report.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn backup_text(report: &BackupReport) -> String {
    let copy = &report.copy;
    let mut lines = if copy.dry_run {
        vec![format!("{} objects would be written, {} are there.", copy.copied, copy.unchanged)]
    } else {
        vec![format!(
            "{} objects ({} bytes) are in the backup; {} were written now.",
            report.totals.objects, report.totals.total_bytes, copy.copied
        )]
    };
    lines.extend(problems(copy));
    lines.join("\n")
}

fn verify_text(report: &VerifyReport) -> String {
    let mut lines = vec![format!(
        "The backup of {} has {} objects ({} bytes).",
        report.started, report.totals.objects, report.totals.total_bytes
    )];
    lines.extend(list("are not there, or not what the manifest says", &report.wrong));
    lines.join("\n")
}

fn restore_text(report: &RestoreReport) -> String {
    let would = if report.dry_run { " would be" } else { "" };
    let mut lines =
        vec![format!("{} objects{would} restored, {} were there already.", report.restored, report.unchanged)];
    lines.extend(list("are there with other bytes; left as they are (--overwrite replaces them)", &report.kept));
    lines.extend(list("are not in the backup as its manifest says", &report.wrong));
    lines.join("\n")
}
