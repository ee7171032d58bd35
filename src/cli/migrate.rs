//! `holdfast migrate`: a registry from one store to another, or to another address.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::json;
use url::Url;

use super::confirm::confirm;
use super::{note_command, open_for_reading, open_store, output, runtime, stores};
use crate::aws::{self, Aws};
use crate::clock::Clock;
use crate::keys;
use crate::maintenance::{self, CopyReport, FunctionReport, Lines, RelocateReport, Wish};
use crate::settings::{ReadOnly, Settings};
use crate::storage::Store;

/// Arguments of `holdfast migrate`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = "\
A store is a directory, or an address such as s3://bucket/prefix. With a settings file of its own a side is reached as that file
says, and no HOLDFAST__ variable counts for it; without one as the settings of this process say.

Servers may go on using the first store. Documents go last, each after its tarballs, so what was cut off can be used and the
next run goes on. A second run copies only what differs. What is newer on the other side stays as it is there and is told;
nothing is removed there without --prune. The exit code is 1 when the report has something for a person to look at.

With --to the addresses of tarballs in stored documents are put below another registry's address. Holdfast makes addresses when
it is asked and needs none of this: it is for those who serve the stored documents by other means. With --function or --stage the
setting of the deployed function is changed too, with the credentials and in the region that AWS's usual variables name.

Examples:
  holdfast migrate --from-store /var/lib/holdfast --to-store s3://acme-npm --dry-run
  holdfast migrate --to-store s3://acme-npm --to-config other-account.toml
  holdfast migrate --to https://npm.acme.example/registry/ --stage prod")]
#[command(group(ArgGroup::new("target").required(true).args(["to", "to_store"])))]
pub(super) struct MigrateArgs {
    /// Put the stored addresses of tarballs below this address of a registry
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// With --to: the Lambda function whose setting is changed
    #[arg(long, value_name = "NAME", requires = "to", conflicts_with = "stage")]
    function: Option<String>,
    /// With --to: the same for codebox-npm's function of this stage
    #[arg(long, value_name = "STAGE", requires = "to")]
    stage: Option<String>,
    /// Where Lambda is [default: in the region of `AWS_REGION`]
    #[arg(long, value_name = "URL", requires = "to")]
    lambda_endpoint: Option<Url>,
    /// Copy from this store; or the store whose documents change [default: the one of the settings]
    #[arg(long, value_name = "STORE")]
    from_store: Option<String>,
    /// Copy to this store
    #[arg(long, value_name = "STORE")]
    to_store: Option<String>,
    /// A settings file for the first store
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// A settings file for the second store
    #[arg(long, value_name = "FILE", requires = "to_store")]
    to_config: Option<PathBuf>,
    /// Copy what is kept of upstreams too; it comes back by itself otherwise
    #[arg(long, requires = "to_store")]
    with_cache: bool,
    /// Leave objects behind that neither Holdfast nor an older system wrote
    #[arg(long, requires = "to_store")]
    ours_only: bool,
    /// Replace what differs on the other side even if it is newer there
    #[arg(long, requires = "to_store")]
    overwrite: bool,
    /// Remove on the other side what the first store does not have; asks
    #[arg(long, requires = "to_store")]
    prune: bool,
    /// With --prune: the second store's name, in place of typing it
    #[arg(long, value_name = "NAME", requires = "prune")]
    yes: Option<String>,
    /// Only look, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let from = stores::named(arguments.from_store.as_deref(), arguments.from_config.as_ref())?;
    match (&arguments.to, &arguments.to_store) {
        (Some(url), _) => to_address(arguments, &from, url),
        (None, store) => to_store(arguments, &from, store.as_deref()),
    }
}

fn to_store(arguments: &MigrateArgs, from: &Settings, store: Option<&str>) -> anyhow::Result<ExitCode> {
    let to = stores::named(store, arguments.to_config.as_ref())?;
    anyhow::ensure!(
        !from.storage.location().overlaps(&to.storage.location()),
        "both stores are the same, or one lies within the other"
    );
    anyhow::ensure!(
        arguments.dry_run || to.storage.read_only != ReadOnly::Set(true),
        "`storage.read_only` is set for the second store: take it out, or look only with --dry-run"
    );
    let wish = Wish {
        dry_run: arguments.dry_run,
        with_cache: arguments.with_cache,
        ours_only: arguments.ours_only,
        overwrite: arguments.overwrite,
        prune: arguments.prune,
    };
    if wish.prune && !wish.dry_run {
        let question = format!(
            "What `{}` does not have will be removed from `{}` for ever.",
            from.storage.shown(),
            to.storage.shown()
        );
        confirm(&question, &to.storage.shown(), arguments.yes.as_deref())?;
    }
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let source = open_for_reading(from)?;
    // A look must not make a directory.
    let target = if wish.dry_run { open_for_reading(&to)? } else { open_store(&to)? };
    if !wish.dry_run {
        runtime.block_on(note_copy((from, &source), (&to, &target), wish))?;
    }
    let mut progress = output::Progress::of("objects");
    let clock = Clock::default();
    let copying = maintenance::copy(&source, &target, &clock, wish, |done, key| progress.step(done, None, key));
    let report =
        runtime.block_on(copying).context("the copy stopped; what is done stays done, run it again to go on")?;
    drop(progress);
    output::report(&report, arguments.json, || text(&report))?;
    Ok(if report.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes down that one store is copied to another: in the second, and in the first where it is a bucket that has a record. A
/// directory belongs to its server, and what has no record may be another program's.
async fn note_copy(from: (&Settings, &Store), to: (&Settings, &Store), wish: Wish) -> anyhow::Result<()> {
    const COMMAND: &str = "migrate --to-store";
    let arguments = json!({ "from": from.0.storage.shown(), "overwrite": wish.overwrite, "prune": wish.prune });
    note_command(to.1, COMMAND, arguments).await?;
    let (settings, source) = from;
    if !source.is_shared() || settings.is_read_only() {
        return Ok(());
    }
    let has_record = matches!(source.list_folder(&keys::events()).recv().await, Some(Ok(_)));
    if has_record && let Err(error) = note_command(source, COMMAND, json!({ "to": to.0.storage.shown() })).await {
        // Whoever may only read there may copy all the same.
        output::message(&format!("holdfast: the record of `{}` does not have it: {error:#}", settings.storage.shown()));
    }
    Ok(())
}

/// What came of both parts.
#[derive(Serialize)]
struct AddressReport {
    #[serde(flatten)]
    documents: RelocateReport,
    function: Option<FunctionReport>,
}

fn to_address(arguments: &MigrateArgs, from: &Settings, url: &Url) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none(),
        "`{url}` is no address of a registry: use one such as https://npm.example/registry/"
    );
    let base = url.as_str().trim_end_matches('/');
    let dry_run = arguments.dry_run;
    anyhow::ensure!(
        dry_run || from.storage.read_only != ReadOnly::Set(true),
        "`storage.read_only` is set: take it out of the settings, or look only with --dry-run"
    );
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let store = if dry_run { open_for_reading(from)? } else { open_store(from)? };
    if !dry_run {
        runtime.block_on(note_command(&store, "migrate --to", json!({ "to": base })))?;
    }
    let mut progress = output::Progress::of("documents");
    let relocating = maintenance::relocate(&store, base, dry_run, |done, key| progress.step(done, None, key));
    let documents =
        runtime.block_on(relocating).context("it stopped; what is done stays done, run it again to go on")?;
    drop(progress);
    let codebox = |stage: &String| format!("codebox-npm-{stage}-put");
    let function = arguments.function.clone().or_else(|| arguments.stage.as_ref().map(codebox));
    let function = match function {
        Some(name) => Some(
            runtime.block_on(point(arguments, &name, base)).context("the documents are done, the function is not")?,
        ),
        None => None,
    };
    let report = AddressReport { documents, function };
    output::report(&report, arguments.json, || address_text(&report))?;
    Ok(if report.documents.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn point(arguments: &MigrateArgs, function: &str, base: &str) -> anyhow::Result<FunctionReport> {
    let named = arguments.lambda_endpoint.clone();
    let (aws, region) = Aws::of_platform(named.as_ref().is_some_and(|url| url.scheme() == "http"))?;
    let lambda = match named {
        Some(url) => url,
        None => format!("https://lambda.{region}.{}/", aws::domain(&region)).parse()?,
    };
    Ok(maintenance::point_function(&aws, &lambda, function, base, arguments.dry_run).await?)
}

fn address_text(report: &AddressReport) -> String {
    let RelocateReport { dry_run, documents, addresses, unchanged, unreadable } = &report.documents;
    let would = if *dry_run { " would be" } else { " are" };
    let mut lines = vec![format!(
        "{addresses} addresses in {documents} documents{would} others now; {unchanged} documents need nothing."
    )];
    lines.extend(list("documents cannot be read, or are too large; left alone", unreadable));
    lines.extend(report.function.as_ref().map(|function| {
        let FunctionReport { function, variable, before, after } = function;
        format!("{function}: {variable} was {}, now {after}", before.as_deref().unwrap_or("not set"))
    }));
    lines.join("\n")
}

/// The report for people.
fn text(report: &CopyReport) -> String {
    let would = if report.dry_run { " would be" } else { "" };
    let mut lines = vec![format!(
        "{} objects{would} copied ({} bytes), {} are the same on both sides.",
        report.copied, report.copied_bytes, report.unchanged
    )];
    if report.left_out > 0 {
        lines.push(format!("{} objects stay behind: what is derived, cached, or lasts an hour.", report.left_out));
    }
    if report.foreign > 0 {
        lines.push(format!("{} objects are neither Holdfast's nor an older system's.", report.foreign));
    }
    if report.pruned > 0 {
        lines.push(format!("{} objects{would} removed on the other side.", report.pruned));
    }
    lines.extend(problems(report));
    lines.join("\n")
}

/// What a person has to look at.
pub(super) fn problems(report: &CopyReport) -> Vec<String> {
    [
        (
            "differ and are newer on the other side; left as they are there (--overwrite replaces them)",
            &report.newer_there,
        ),
        ("are tarballs whose bytes are not what their key says, at the source", &report.wrong),
        ("are tarballs that a document names and the source does not have", &report.missing),
        ("are documents that cannot be read; taken along as they are", &report.unreadable),
        ("were read back as something else: run it again, and look at the disk or store", &report.not_as_written),
    ]
    .iter()
    .flat_map(|(title, found)| list(title, found))
    .collect()
}

/// A title and the first lines of a list; nothing for an empty one.
pub(super) fn list(title: &str, found: &Lines) -> Vec<String> {
    if found.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("{} {title}:", found.count)];
    lines.extend(found.first.iter().map(|line| format!("  {line}")));
    let more = found.count - found.first.len() as u64;
    if more > 0 {
        lines.push(format!("  … and {more} more"));
    }
    lines
}
