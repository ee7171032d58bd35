//! `holdfast encrypt`: encrypting the objects of a bucket as the settings want it.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{DataArgs, existing_store, note_command, output, runtime};
use crate::maintenance::{self, Encryption, EncryptionReport, Failure};

/// Arguments of `holdfast encrypt`.
#[derive(Debug, Args)]
#[command(after_help = "\
For S3: every object that lacks the encryption of the settings (`storage.encryption`, `storage.kms_key`), or has another key, is
written anew where it lies, and looked at again. Tarballs are copied by S3 onto themselves; what may change meanwhile is written
only if nobody else did. It may run beside servers, be stopped at any point and run again; what is done is passed over.

The exit code is 0 when all objects are as wanted, and 1 when some are not.

Examples:
  holdfast encrypt --dry-run                  how many objects are not as wanted
  HOLDFAST__STORAGE__ENCRYPTION=aws:kms holdfast encrypt --storage s3://bucket/prefix")]
pub(super) struct EncryptArgs {
    /// Only look, and say what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: one line for each failure, then one with the summary
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

pub(super) fn run(arguments: &EncryptArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    anyhow::ensure!(
        arguments.dry_run || !settings.is_read_only(),
        "the settings say that nothing is to be changed (`storage.read_only`): look only, with --dry-run"
    );
    let store = existing_store(&settings)?;
    if !arguments.dry_run {
        runtime()?.block_on(note_command(&store, "encrypt", json!({})))?;
    }
    let mut progress = output::Progress::of("objects");
    let mut printed = Ok(());
    let told = |report: &EncryptionReport, failure: Option<&Failure>| match failure {
        None => progress.step(report.objects, None, &format!("{} encrypted", report.encrypted)),
        Some(failure) if printed.is_ok() => printed = print(failure, arguments.json),
        Some(_) => {}
    };
    let encrypting = maintenance::encrypt(&store, arguments.dry_run, told);
    let report = runtime()?.block_on(encrypting).map_err(|error| match error {
        Encryption::Store(error) => {
            anyhow::Error::new(error).context("it stopped; what is done stays done, run it again to go on")
        }
        other => other.into(),
    })?;
    drop(progress);
    printed?;
    if arguments.json {
        output::json_line(&json!({ "summary": report }))?;
    } else {
        output::data(&text(&report))?;
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(failure: &Failure, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json_line(failure);
    }
    Ok(output::data(&format!("{}: {}", failure.key, failure.why))?)
}

fn text(report: &EncryptionReport) -> String {
    let EncryptionReport { dry_run, objects, already, encrypted, encrypted_bytes, failed } = report;
    let would = if *dry_run { "would be written anew" } else { "were written anew, and are" };
    format!(
        "{objects} objects: {already} were encrypted as wanted, {encrypted} {would} ({encrypted_bytes} bytes), {failed} are not."
    )
}
