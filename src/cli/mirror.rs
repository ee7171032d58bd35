//! `holdfast mirror`: everything that lockfiles install, fetched before anybody asks for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{SettingsArgs, bundle, orders, output, policy, runtime};
use crate::app::App;
use crate::clock::Clock;
use crate::lockfile;
use crate::operator::{self, Desk, Order, Outcome};
use crate::registry::{Mirrored, WantedVersion};
use crate::serve::control;
use crate::settings::Settings;
use crate::storage::{self, OpenError, Store};
use crate::transfer::bundle::SigningKey;

/// Versions in one order: a server tells of all of them at once.
const BATCH: usize = 32;

/// Arguments of `holdfast mirror`.
#[derive(Debug, Args)]
#[command(after_help = "\
Fetches through the registry's own upstreams, checked and judged as for a client: what the policy withholds is told, and not
fetched. The server that runs on the data directory does it, or the command itself where none runs. It can be stopped at any
point and run again; what is kept is passed over.

The exit code is 0 when everything can be installed, and 1 when something is withheld, missing or not what a lockfile says.

Examples:
  holdfast mirror package-lock.json
  holdfast mirror */pnpm-lock.yaml */yarn.lock bun.lock --dry-run
  holdfast mirror package-lock.json --json --data /var/lib/holdfast
  holdfast mirror --new-key bundle.key
  holdfast mirror package-lock.json --bundle app.tar.zst --sign bundle.key")]
pub(super) struct MirrorArgs {
    /// package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock or bun.lock
    #[arg(value_name = "FILE", required_unless_present = "new_key")]
    files: Vec<PathBuf>,
    /// Write what is at hand then into a signed bundle, for a site that the network does not reach
    #[arg(long, value_name = "FILE", requires = "sign", conflicts_with = "dry_run")]
    bundle: Option<PathBuf>,
    /// The file of the key that the bundle is signed with
    #[arg(long, value_name = "KEYFILE", requires = "bundle")]
    sign: Option<PathBuf>,
    /// Make such a key, and print the public key that the other side checks with
    #[arg(long, value_name = "KEYFILE", conflicts_with_all = ["files", "bundle"])]
    new_key: Option<PathBuf>,
    /// Only look, and say what would be fetched
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    /// Fetched now, or to be fetched.
    fetched: usize,
    /// Kept before.
    kept: usize,
    /// Published here.
    hosted: usize,
    /// Everything else.
    problems: Vec<Problem>,
    /// Parts of the lockfiles that come from no registry.
    skipped: Vec<String>,
    /// Parts of the lockfiles that were not understood, so that nothing can be said of them.
    unread: Vec<String>,
}

/// A version that is not at hand.
#[derive(Debug, Serialize)]
struct Problem {
    name: String,
    version: String,
    #[serde(flatten)]
    state: Mirrored,
}

pub(super) fn run(arguments: &MirrorArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &arguments.new_key {
        return bundle::make_key(file);
    }
    let bundled = match (&arguments.bundle, &arguments.sign) {
        (Some(path), Some(key)) => Some(Bundled { path: path.clone(), key: bundle::read_key(key)? }),
        _ => None,
    };
    let mut report = Report { dry_run: arguments.dry_run, ..Report::default() };
    let mut wanted = BTreeSet::new();
    for file in &arguments.files {
        let lockfile::Lockfile { entries, skipped, .. } = policy::read_lockfile(file)?;
        wanted.extend(entries.into_iter().map(|entry| (entry.name, entry.version, entry.integrity)));
        for entry in skipped {
            if entry.why == lockfile::NOT_READ {
                report.unread.push(entry.what);
            } else {
                report.skipped.push(format!("{}: {}", entry.what, entry.why));
            }
        }
    }
    let wanted: Vec<WantedVersion> = wanted
        .into_iter()
        .map(|(name, version, integrity)| WantedVersion {
            name: name.to_string(),
            version: version.to_string(),
            integrity,
        })
        .collect();
    let settings = arguments.settings.load()?.settings;
    let store = match Store::at(&settings.storage.location()) {
        Ok(store) => Some(store),
        Err(OpenError::Store(storage::Error::Locked)) => None,
        Err(error) => {
            let shown = settings.storage.shown();
            return Err(anyhow::Error::new(error).context(format!("`{shown}` cannot be used")));
        }
    };
    let states = runtime()?.block_on(async {
        match store {
            Some(store) => here(&settings, store, &wanted, arguments.dry_run, bundled).await,
            None if bundled.is_some() => {
                anyhow::bail!("a server runs on `{}`: stop it first to write a bundle", settings.storage.shown())
            }
            None => by_server(&settings, &wanted, arguments.dry_run).await,
        }
    })?;
    for (WantedVersion { name, version, .. }, state) in wanted.into_iter().zip(states) {
        match state {
            Mirrored::Fetched | Mirrored::ToFetch => report.fetched += 1,
            Mirrored::Kept => report.kept += 1,
            Mirrored::Hosted => report.hosted += 1,
            state => report.problems.push(Problem { name, version, state }),
        }
    }
    tell(&report, arguments.json)?;
    let is_good = report.problems.is_empty() && report.unread.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bundle to be.
struct Bundled {
    path: PathBuf,
    key: SigningKey,
}

/// With a registry of this process.
async fn here(
    settings: &Settings,
    store: Store,
    wanted: &[WantedVersion],
    dry_run: bool,
    bundled: Option<Bundled>,
) -> anyhow::Result<Vec<Mirrored>> {
    let app = App::with_store(settings, Clock::default(), store)?;
    let (registry, clock) = (&app.registry, &app.clock);
    let (auth, waivers, recorder, sinks) = (registry.auth(), registry.waivers(), &app.recorder, &app.sinks);
    let desk = Desk { auth, waivers, recorder, sinks, clock, registry: Some(registry) };
    let give = async |order| Ok(operator::carry_out(desk, orders::errand(order)).await);
    let states = in_batches(wanted, dry_run, give).await;
    let written = match (&states, bundled) {
        (Ok(states), Some(Bundled { path, key })) => bundle::write(registry, clock, wanted, states, path, key).await,
        _ => Ok(()),
    };
    app.stop().await;
    written.and(states)
}

/// With the server that owns the directory.
async fn by_server(settings: &Settings, wanted: &[WantedVersion], dry_run: bool) -> anyhow::Result<Vec<Mirrored>> {
    let directory = &settings.storage.directory;
    in_batches(wanted, dry_run, async |order| {
        control::give(directory, &orders::errand(order)).await.map_err(|error| {
            anyhow::Error::new(error).context(format!(
                "the server that runs on `{}` takes no orders from here: run this as the same user, or stop it first",
                directory.display()
            ))
        })
    })
    .await
}

async fn in_batches(
    wanted: &[WantedVersion],
    dry_run: bool,
    give: impl AsyncFn(Order) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Vec<Mirrored>> {
    let mut progress = output::Progress::of("versions");
    let mut all = Vec::with_capacity(wanted.len());
    for batch in wanted.chunks(BATCH) {
        if let Some(next) = batch.first() {
            progress.step(all.len() as u64, Some(wanted.len() as u64), &next.name);
        }
        match give(Order::Mirror { wanted: batch.to_vec(), dry_run }).await? {
            Outcome::Mirrored { states } if states.len() == batch.len() => all.extend(states),
            Outcome::Refused { why } => anyhow::bail!(why),
            _ => anyhow::bail!("the server answered something else: server and command are of different versions"),
        }
    }
    Ok(all)
}

fn tell(report: &Report, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(report);
    }
    for Problem { name, version, state } in &report.problems {
        let why = match state {
            Mirrored::Withheld(withheld) => {
                format!("withheld: {}\n  to have it: {}", withheld.reason, withheld.allowed_if)
            }
            Mirrored::Missing => "missing: the registry has no such version".to_owned(),
            Mirrored::Different => "different: its upstream describes another tarball than the lockfile".to_owned(),
            Mirrored::Failed { why } => format!("not fetched: {why}"),
            Mirrored::Fetched | Mirrored::ToFetch | Mirrored::Kept | Mirrored::Hosted => continue,
        };
        output::data(&format!("{name}@{version}: {why}"))?;
    }
    for what in &report.unread {
        output::data(&format!("{what}: not understood, so that nothing can be said of it"))?;
    }
    let fetched = if report.dry_run { "would be fetched" } else { "fetched" };
    let mut line = format!("{} versions {fetched}, {} were kept already", report.fetched, report.kept);
    for (count, what) in [
        (report.hosted, "published here"),
        (report.problems.len(), "not at hand"),
        (report.skipped.len(), "from elsewhere, not looked at"),
    ] {
        if count > 0 {
            line = format!("{line}, {count} {what}");
        }
    }
    output::message(&format!("{line}."));
    Ok(())
}
