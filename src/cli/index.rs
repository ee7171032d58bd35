//! `holdfast index`: search made anew, and all packages told to the sinks.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{DataArgs, note_command, open_store, output, runtime};
use crate::clock::Clock;
use crate::events::Event;
use crate::npm::PackageName;
use crate::registry::{ReindexWish, Reindexed, reindex};
use crate::settings::Settings;
use crate::sinks::{Sent, Sinks};
use crate::storage::Store;

/// Arguments of `holdfast index`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --sinks or --sink the search index of a data directory is made anew; the server must be stopped. On a bucket each server
has an index of its own, which it compares with the bucket by itself.

With one of them every package is told to the sinks, in the order of the names, as the event `package.index` with its latest
version. Of a data directory the server must be stopped; on a bucket it may run. The exit code is 1 when something did not arrive.

Examples:
  holdfast index                              make the search index anew
  holdfast index --sinks                      tell all sinks of all packages
  holdfast index --sink chat --after @acme/m  go on where it was stopped")]
pub(super) struct IndexArgs {
    /// Tell all sinks of all packages
    #[arg(long)]
    sinks: bool,
    /// Tell this one; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "sinks")]
    sink: Vec<String>,
    /// Only packages whose names sort after this one
    #[arg(long, value_name = "PACKAGE")]
    after: Option<PackageName>,
    /// Only look, and say how many packages there are
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    #[serde(flatten)]
    packages: Reindexed,
    sinks: BTreeMap<String, Sent>,
    /// A sink took nothing any more.
    is_stopped: bool,
}

pub(super) fn run(arguments: &IndexArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let is_telling = arguments.sinks || !arguments.sink.is_empty();
    anyhow::ensure!(
        is_telling || arguments.after.is_none(),
        "--after is for --sinks and --sink: the search index is always made anew as a whole"
    );
    let store = open_store(&settings)?;
    if !is_telling && store.is_shared() {
        output::message("holdfast: nothing to do: each server over a bucket keeps a search index of its own");
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.dry_run && !settings.is_read_only() {
        let after = arguments.after.as_ref().map(ToString::to_string);
        let asked = json!({ "sinks": arguments.sinks, "sink": arguments.sink, "after": after });
        runtime()?.block_on(note_command(&store, "index", asked))?;
    }
    let report = runtime()?.block_on(index(arguments, &settings, &store, is_telling))?;
    if arguments.json {
        output::json(&report)?;
    } else {
        output::data(&text(&report))?;
    }
    let has_failed = report.packages.unreadable > 0 || report.sinks.values().any(|sent| sent.failed > 0);
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn index(arguments: &IndexArgs, settings: &Settings, store: &Store, is_telling: bool) -> anyhow::Result<Report> {
    let clock = Clock::default();
    let sinks = settings.sinks_over(store, &clock)?;
    let mut sent = chosen(arguments, &sinks)?;
    let wish = ReindexWish { dry_run: arguments.dry_run, search: !is_telling, after: arguments.after.clone() };
    let (mut progress, mut is_stopped) = (output::Progress::of("packages"), false);
    let told = async |events: &[Event]| {
        for (name, so_far) in &mut sent {
            if !arguments.dry_run {
                let now = sinks.send_now(name, events).await;
                is_stopped |= now.arrived == 0;
                so_far.add(now);
            }
        }
        !is_stopped
    };
    let step = |done, of, name: &str| progress.step(done, Some(of), &name);
    let packages = reindex(store, &wish, clock.now(), told, step).await.map_err(|error| {
        anyhow::Error::new(error).context("it stopped; it can be run again, and goes on with --after")
    })?;
    Ok(Report { dry_run: arguments.dry_run, packages, sinks: sent, is_stopped })
}

/// The sinks that are to be told, of which nothing was told yet.
fn chosen(arguments: &IndexArgs, sinks: &Sinks) -> anyhow::Result<BTreeMap<String, Sent>> {
    let known: Vec<&str> = sinks.names().collect();
    for name in &arguments.sink {
        anyhow::ensure!(known.contains(&name.as_str()), "there is no sink `{name}` in the settings");
    }
    anyhow::ensure!(!arguments.sinks || !known.is_empty(), "no sinks are set");
    let names = known.into_iter().filter(|name| arguments.sinks || arguments.sink.iter().any(|wanted| wanted == name));
    Ok(names.map(|name| (name.to_owned(), Sent::default())).collect())
}

fn text(report: &Report) -> String {
    let packages = &report.packages;
    let mut lines =
        vec![format!("{} packages, {} of them without a version.", packages.packages, packages.without_version)];
    if packages.unreadable > 0 {
        lines.push(format!("{} documents cannot be read:", packages.unreadable));
        lines.extend(packages.unreadable_names.iter().map(|name| format!("  {name}")));
    }
    for (name, sent) in report.sinks.iter().filter(|_| !report.dry_run) {
        let why = sent.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        lines.push(format!("{name}: {} arrived, {} did not{why}", sent.arrived, sent.failed));
    }
    if report.is_stopped {
        let after = packages.last.as_ref().map(|last| format!(" Go on with --after {last}.")).unwrap_or_default();
        lines.push(format!("It was stopped, since a sink takes nothing any more.{after}"));
    }
    lines.join("\n")
}
