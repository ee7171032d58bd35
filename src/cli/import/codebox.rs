//! `holdfast import codebox`: taking over what codebox-npm left in the store.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{note_command, open_store, output, runtime};
use super::listed;
use crate::clock::Clock;
use crate::settings::{ReadOnly, Settings};
use crate::takeover::{self, Copies, Progress, Report, VersionLine, Wish};

/// Arguments of `holdfast import codebox`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is lost: a document is written only after the tarballs that it held are known to lie in the store, and only if nobody
changed it meanwhile. It can be stopped at any point and run again; what is done is passed over. Of a data directory the server
must be stopped first; on a bucket it may run beside servers.

The exit code is 0 when all is well, and 1 when the report names tarballs that are missing or wrong, or documents that cannot
be read.

Examples:
  holdfast import codebox --dry-run           what would be done
  holdfast import codebox --drop-frozen       copies of public packages make way for the upstream's documents")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct CodeboxArgs {
    /// Only look, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Set copies of public packages aside (`-/set-aside/`), so that the upstream's documents are served again
    #[arg(long, conflicts_with = "keep_frozen")]
    drop_frozen: bool,
    /// Keep copies of public packages as they are [default]
    #[arg(long)]
    keep_frozen: bool,
}

pub(super) fn run(arguments: &CodeboxArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let &CodeboxArgs { dry_run, json, drop_frozen, keep_frozen } = arguments;
    anyhow::ensure!(
        dry_run || settings.storage.read_only != ReadOnly::Set(true),
        "`storage.read_only` is set: take it out of the settings, or look only with --dry-run"
    );
    let store = open_store(settings)?;
    let wish = Wish { dry_run, copies: if drop_frozen { Copies::Drop } else { Copies::Keep } };
    let clock = Clock::default();
    let mut progress = output::Progress::of("packages");
    let import = takeover::import(&store, &clock, wish, |Progress { done, of, name }| {
        progress.step(done as u64, Some(of as u64), name);
    });
    let runtime = runtime()?;
    if !dry_run {
        runtime.block_on(note_command(&store, "import codebox", json!({ "drop_frozen": drop_frozen })))?;
    }
    let report = runtime.block_on(import).map_err(|error| {
        anyhow::Error::new(error).context("the import stopped; what is done stays done, run it again to go on")
    })?;
    drop(progress);
    if json {
        output::json(&report)?;
    } else {
        output::data(&text(&report, drop_frozen || keep_frozen))?;
    }
    Ok(if report.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The report for people. A choice about copies that was not made is asked for.
fn text(report: &Report, has_chosen: bool) -> String {
    let would = if report.dry_run { " would be" } else { "" };
    let mut lines =
        vec![format!("{} packages{would} taken over, {} need nothing.", report.upgraded.len(), report.already)];
    let mut list = |title: &str, items: Vec<String>| lines.extend(listed(title, &items));
    let versions =
        |listed: &[VersionLine]| listed.iter().map(|line| format!("{}@{}", line.name, line.version)).collect();
    let copies = |dropped| {
        report
            .copies
            .iter()
            .filter(move |line| line.dropped == dropped)
            .map(|line| line.name.clone())
            .collect::<Vec<_>>()
    };
    list(&format!("tarballs that only their document had{would} saved"), versions(&report.saved_tarballs));
    list(
        &format!("copies of public packages{would} set aside; the upstream's documents are served in their place"),
        copies(true),
    );
    let choice = if has_chosen { "" } else { " (--drop-frozen sets them aside, --keep-frozen says that they stay)" };
    list(&format!("copies of public packages{would} kept{choice}"), copies(false));
    list("versions without a tarball anywhere", versions(&report.missing_tarballs));
    list("versions whose tarball is not what the document says; clients refuse it", versions(&report.wrong_tarballs));
    let unreadable = report.unreadable.iter().map(|line| format!("{}: {}", line.key, line.why)).collect();
    list("documents that cannot be read, left alone", unreadable);
    list("objects that belong to no package, left alone", report.foreign.clone());
    lines.join("\n")
}
