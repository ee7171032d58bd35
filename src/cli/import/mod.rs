//! `holdfast import`: taking packages over from another registry.

mod bundle;
mod codebox;
mod registry;
mod tarballs;
mod verdaccio;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{DataArgs, output};
use crate::clock::Clock;
use crate::settings::{ReadOnly, Settings};
use crate::storage::Store;
use crate::transfer::tarballs::Owners;
use crate::transfer::{Destination, Line, Progress, Report};

/// Arguments of `holdfast import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    from: From,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Bring every document of codebox-npm into our form: tarballs out of them, times and digests into them
    Codebox(codebox::CodeboxArgs),
    /// Take packages, accounts and settings over from a Verdaccio
    Verdaccio(verdaccio::VerdaccioArgs),
    /// Take packages from any npm registry, over HTTP
    Registry(registry::RegistryArgs),
    /// Take a signed bundle of upstreams' packages, for a site that the network does not reach
    Bundle(bundle::BundleArgs),
    /// Take packages from a folder of tarballs, such as `holdfast export` writes
    Tarballs(tarballs::TarballsArgs),
}

pub(super) fn run(arguments: &ImportArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    match &arguments.from {
        From::Codebox(arguments) => codebox::run(arguments, &settings),
        From::Verdaccio(arguments) => verdaccio::run(arguments, &settings),
        From::Registry(arguments) => registry::run(arguments, &settings),
        From::Tarballs(arguments) => tarballs::run(arguments, &settings),
        From::Bundle(arguments) => bundle::run(arguments, &settings),
    }
}

/// How packages come in, and what is said of it.
#[derive(Debug, Args)]
struct WayArgs {
    /// Only look, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl WayArgs {
    fn destination(&self, store: Store, settings: &Settings) -> anyhow::Result<Destination> {
        anyhow::ensure!(
            self.dry_run || settings.storage.read_only != ReadOnly::Set(true),
            "`storage.read_only` is set: take it out of the settings, or look only with --dry-run"
        );
        Ok(Destination {
            store,
            clock: Clock::default(),
            limits: settings.limits.tarball,
            max_tarball_bytes: settings.limits.body.max_tarball_bytes,
            dry_run: self.dry_run,
        })
    }
}

/// Who owns what comes in. Names of accounts elsewhere may be other people's here, so nobody does unless it is said.
#[derive(Debug, Args)]
struct OwnerArgs {
    /// An account that owns every package that nobody owns here [may be repeated; default: nobody]
    #[arg(long = "owner", value_name = "NAME", conflicts_with = "keep_owners")]
    owners: Vec<String>,
    /// The documents' maintainers own them: accounts of one name are the same people's there and here
    #[arg(long)]
    keep_owners: bool,
}

impl OwnerArgs {
    fn owners(&self) -> Owners {
        if self.keep_owners { Owners::AsDocumented } else { Owners::These(self.owners.clone()) }
    }
}

/// Shows how far it has got.
fn shown(progress: &mut output::Progress) -> impl FnMut(Progress<'_>) {
    |Progress { done, of, name }| progress.step(done as u64, Some(of as u64), name)
}

/// A failure of the store in the middle.
fn stopped(error: crate::storage::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("the import stopped; what is done stays done, run it again to go on")
}

/// The report for people.
fn text(report: &Report) -> Vec<String> {
    let would = if report.dry_run { " would come" } else { " came" };
    let mut lines = vec![format!(
        "{} versions of {} packages{would} in, {} packages needed nothing.",
        report.versions, report.packages, report.already
    )];
    let tell = |line: &Line| {
        let version = line.version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
        format!("{}{version}: {}", line.package, line.why)
    };
    lines.extend(listed("copies of another registry's packages stay there", &report.copies));
    lines.extend(listed("notes", &report.notes.iter().map(tell).collect::<Vec<_>>()));
    lines.extend(listed("things that could not come in", &report.problems.iter().map(tell).collect::<Vec<_>>()));
    if report.untold > 0 {
        lines.push(format!("{} lines more were left out here.", report.untold));
    }
    lines
}

/// A title with its items below; nothing where there are none.
fn listed(title: &str, items: &[String]) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    let title = format!("{} {title}:", items.len());
    std::iter::once(title).chain(items.iter().map(|item| format!("  {item}"))).collect()
}

/// Prints the report, and says with which code to end.
fn tell(report: &Report, way: &WayArgs) -> anyhow::Result<ExitCode> {
    if way.json {
        output::json(report)?;
    } else {
        output::data(&text(report).join("\n"))?;
    }
    Ok(code(report))
}

fn code(report: &Report) -> ExitCode {
    if report.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
