//! `holdfast import verdaccio`: packages, accounts and settings of a Verdaccio.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::super::{note_command, open_store, orders, output, runtime};
use super::{WayArgs, code, listed, shown, stopped, text};
use crate::auth::{self, Imported};
use crate::operator::{Order, Outcome};
use crate::settings::Settings;
use crate::storage::Store;
use crate::transfer::verdaccio::{Config, Place, Storage, Translation};
use crate::transfer::{self, Report};

/// Arguments of `holdfast import verdaccio`.
#[derive(Debug, Args)]
#[command(after_help = "\
What was published there comes in with its times, tags and deprecations, each tarball compared with what its document says.
Accounts come along with their passwords; tokens do not. Copies of an uplink's packages stay there: the upstream has them.
What is here is never replaced. It can be stopped at any point and run again; what is done is passed over. Of a data directory
the server must be stopped first; on a bucket it may run beside servers.

The exit code is 0 when all is well, and 1 when the report names something that could not come in.

Examples:
  holdfast import verdaccio /verdaccio --dry-run
  holdfast import verdaccio /verdaccio/conf/config.yaml --write-config holdfast.toml
  holdfast import verdaccio /verdaccio/storage --accounts /verdaccio/htpasswd")]
pub(super) struct VerdaccioArgs {
    /// The config.yaml, the folder that it is in, or the storage folder
    #[arg(value_name = "PATH")]
    place: PathBuf,
    /// The config.yaml, where it is elsewhere
    #[arg(long = "settings", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The htpasswd file [default: the one that the settings name]
    #[arg(long, value_name = "FILE")]
    accounts: Option<PathBuf>,
    /// Take versions of uplinks too, whose tarballs are there: their names are ours from then on
    #[arg(long)]
    with_copies: bool,
    /// Write our settings in place of the config.yaml's into a new file
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    #[command(flatten)]
    way: WayArgs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    accounts: &'a Imported,
    /// Our settings in place of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    remarks: Vec<String>,
}

pub(super) fn run(arguments: &VerdaccioArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let place = Place::find(&arguments.place, arguments.config.as_deref(), arguments.accounts.as_deref())?;
    let file = place.accounts_text()?;
    let store = open_store(settings)?;
    let to = arguments.way.destination(store.clone(), settings)?;
    let in_file = file.as_deref().map(auth::read_htpasswd).unwrap_or_default();
    let cannot = |error| anyhow::Error::new(error).context(format!("`{}` cannot be read", place.storage.display()));
    let mut storage = Storage::open(&place.storage, arguments.with_copies, &in_file.made).map_err(cannot)?;
    let runtime = runtime()?;
    if !to.dry_run {
        let arguments = json!({ "with_copies": arguments.with_copies });
        runtime.block_on(note_command(&store, "import verdaccio", arguments))?;
    }
    let storages = place.config.as_ref().map(Config::storages).unwrap_or_default();
    let contents = runtime.block_on(storage.contents(&storages)).map_err(cannot)?;
    let translation = place.config.as_ref().map(|config| config.translate(&in_file.made, &contents.names));
    if let (Some(path), Some(translation)) = (&arguments.write_config, &translation) {
        write_new(path, &translation.toml)?;
    }
    // First the accounts: they are the owners of what comes then.
    let accounts = match file {
        Some(text) if !to.dry_run => runtime.block_on(make_accounts(store, settings, text))?,
        _ => in_file,
    };
    let mut progress = output::Progress::of("packages");
    let coming = transfer::bring_in(&to, &storage, contents.names, shown(&mut progress));
    let mut report = runtime.block_on(coming).map_err(stopped)?;
    drop(progress);
    for line in contents.problems {
        report.problem(&line.package, line.version, line.why);
    }
    tell(arguments, &report, &accounts, translation)?;
    Ok(code(&report))
}

async fn make_accounts(store: Store, settings: &Settings, text: String) -> anyhow::Result<Imported> {
    match orders::carry_out_on(store, settings, orders::errand(Order::ImportHtpasswd { text })).await? {
        Outcome::Imported { imported } => Ok(imported),
        Outcome::Refused { why } => anyhow::bail!(why),
        _ => Ok(Imported::default()),
    }
}

fn write_new(path: &Path, toml: &str) -> anyhow::Result<()> {
    let cannot = |error: std::io::Error| {
        let advice = format!("`{}` cannot be written; only a new file is", path.display());
        anyhow::Error::new(error).context(advice)
    };
    let mut file = std::fs::File::create_new(path).map_err(cannot)?;
    file.write_all(toml.as_bytes()).map_err(cannot)
}

fn tell(
    arguments: &VerdaccioArgs,
    report: &Report,
    accounts: &Imported,
    translation: Option<Translation>,
) -> anyhow::Result<()> {
    let (toml, remarks) = match translation {
        Some(Translation { toml, remarks }) => (Some(toml), remarks),
        None => (None, Vec::new()),
    };
    if arguments.way.json {
        return output::json(&Whole { report, accounts, settings: toml, remarks });
    }
    let mut lines = text(report);
    let would = if report.dry_run { " would be" } else { "" };
    lines.push(format!(
        "{} accounts{would} made, with their passwords. Their tokens do not come along: npm login makes new ones.",
        accounts.made.len()
    ));
    let left_out: Vec<String> =
        accounts.left_out.iter().map(|line| format!("line {}: {}", line.line, line.why)).collect();
    lines.extend(listed("lines of the accounts' file were left out", &left_out));
    if let Some(toml) = toml.filter(|_| arguments.write_config.is_none()) {
        lines.push(format!("\nIn place of the config.yaml, for holdfast.toml (--write-config writes it):\n\n{toml}"));
    }
    lines.extend(listed("remarks on the settings", &remarks));
    Ok(output::data(&lines.join("\n"))?)
}
