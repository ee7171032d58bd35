//! `holdfast verify`: is everything in the store there, and what it should be.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{DataArgs, existing_store, note_command, output, runtime};
use crate::clock::Clock;
use crate::maintenance::{self, Checked, Code, Finding, GRACE, Look, Severity};

/// Arguments of `holdfast verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Looks at every object: documents with their versions, tags, times and tarballs; tokens, accounts and trust; what is cached; what
nothing names. On a bucket it may run beside servers: what others are changing is looked at again before it is told. Of a data
directory the server must be stopped first. docs/maintenance.md explains each finding.

The exit code is 0 when there is no problem, 1 when there is one, and 2 when the store could not be looked at. Leftovers, which
only take room, are told and are no problem.

Examples:
  holdfast verify                             everything, every byte
  holdfast verify --no-content                that everything is there, in less time
  holdfast verify --json | jq -r 'select(.code == \"missing_tarball\") | .key'")]
pub(super) struct VerifyArgs {
    /// Mend what loses nothing: tags that point nowhere, tokens that are not listed, damaged cache, ended sign-ins
    #[arg(long)]
    repair: bool,
    /// Print JSON: one line for each finding, then one with the summary
    #[arg(long)]
    json: bool,
    /// Do not read tarballs and cached documents, only see that they are there
    #[arg(long)]
    no_content: bool,
    #[command(flatten)]
    settings: DataArgs,
}

/// A finding as scripts get it.
#[derive(Serialize)]
struct FindingLine<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    severity: Severity,
    meaning: &'static str,
    remedy: &'static str,
}

/// The last line for scripts.
#[derive(Serialize)]
struct SummaryLine<'a> {
    summary: &'a Checked,
}

pub(super) fn run(arguments: &VerifyArgs) -> ExitCode {
    match verify(arguments) {
        Ok(checked) if checked.has_problems() => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            output::failure(&error, None);
            ExitCode::from(2)
        }
    }
}

fn verify(arguments: &VerifyArgs) -> anyhow::Result<Checked> {
    let settings = arguments.settings.load()?.settings;
    anyhow::ensure!(
        !arguments.repair || !settings.is_read_only(),
        "the settings say that nothing is to be changed (`storage.read_only`): look only, without --repair"
    );
    let store = existing_store(&settings)?;
    if arguments.repair {
        runtime()?.block_on(note_command(&store, "verify --repair", json!({})))?;
    }
    let look = Look { content: !arguments.no_content, repair: arguments.repair, grace: GRACE };
    let mut progress = output::Progress::of("objects");
    let mut codes: BTreeMap<Code, u64> = BTreeMap::new();
    let mut printed = Ok(());
    let told = |checked: &Checked, finding: Option<&Finding>| {
        let Some(finding) = finding else {
            let next = format!("{} packages, {} problems", checked.packages, checked.problems);
            progress.step(checked.objects, None, &next);
            return;
        };
        *codes.entry(finding.code).or_default() += 1;
        if printed.is_ok() {
            printed = print(finding, arguments.json);
        }
    };
    let checked = runtime()?
        .block_on(maintenance::verify(&store, &Clock::default(), look, told))
        .map_err(|error| anyhow::Error::new(error).context("the store could not all be looked at"))?;
    drop(progress);
    printed?;
    if arguments.json {
        output::json_line(&SummaryLine { summary: &checked })?;
    } else {
        output::data(&text(&checked, &codes))?;
    }
    Ok(checked)
}

fn print(finding: &Finding, json: bool) -> anyhow::Result<()> {
    let (severity, meaning, remedy) = (finding.code.severity(), finding.code.meaning(), finding.code.remedy());
    if json {
        return output::json_line(&FindingLine { finding, severity, meaning, remedy });
    }
    let part = finding.part.as_ref().map(|part| format!(" ({part})")).unwrap_or_default();
    let repaired = if finding.repaired { ": repaired" } else { "" };
    Ok(output::data(&format!("{} {}{part}{repaired}", super::word(&finding.code), finding.key))?)
}

/// What was found, for people.
fn text(checked: &Checked, codes: &BTreeMap<Code, u64>) -> String {
    let Checked { objects, bytes, packages, versions, problems, leftovers, repaired } = checked;
    let mut lines = Vec::new();
    for (code, count) in codes {
        lines.push(format!("\n{} of {}: {}\n  {}", count, super::word(code), code.meaning(), code.remedy()));
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!("{objects} objects, {bytes} bytes: {packages} packages, {versions} versions."));
    lines.push(match (problems, leftovers, repaired) {
        (0, 0, 0) => "Everything is there, and what it should be.".to_owned(),
        _ => format!("{problems} problems, {leftovers} leftovers, {repaired} repaired."),
    });
    lines.join("\n")
}
