//! `holdfast import registry`: packages from any npm registry, over HTTP.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use url::Url;

use super::super::{note_command, open_store, output, runtime};
use super::{OwnerArgs, WayArgs, shown, stopped, tell};
use crate::npm::{PackageName, Pattern};
use crate::secret::Secret;
use crate::settings::{self, Settings};
use crate::transfer;
use crate::transfer::remote::Remote;
use crate::upstream::{self, Upstream};

/// A list of names: a million of them.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Arguments of `holdfast import registry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes documents and tarballs, each compared with what its document says, with times, tags and deprecations; a name that comes
in is ours from then on and no upstream is asked for it. What is here is never replaced. A registry that asks to wait is
waited for. It can be stopped at any point and run again; what is done is passed over. Of a data directory the server must be
stopped first; on a bucket it may run beside servers.

The exit code is 0 when all is well, and 1 when the report names something that could not come in.

Examples:
  holdfast import registry https://npm.old.example/ --package '@acme/*' --token-env OLD_TOKEN
  holdfast import registry https://npm.old.example/ --package tool --package @acme/lib --owner ann
  holdfast import registry https://npm.old.example/ --all --dry-run
  holdfast import registry https://npm.old.example/ --from-file names.txt")]
pub(super) struct RegistryArgs {
    /// Its address
    #[arg(value_name = "URL")]
    registry: Url,
    /// The variable that has the token for it [default: the token is taken from .npmrc]
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// `name` or `@scope/name`; `@scope/*` of what its search tells [may be repeated]
    #[arg(long = "package", value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    /// Everything that its search tells
    #[arg(long, conflicts_with = "patterns")]
    all: bool,
    /// A file with a name on each line
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    owners: OwnerArgs,
    #[command(flatten)]
    way: WayArgs,
}

pub(super) fn run(arguments: &RegistryArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let wants_nothing = arguments.patterns.is_empty() && !arguments.all && arguments.from_file.is_none();
    anyhow::ensure!(!wants_nothing, "say what to take: --package, --from-file or --all");
    let mut names = match &arguments.from_file {
        Some(file) => read_list(file)?,
        None => BTreeSet::new(),
    };
    let to = arguments.way.destination(open_store(settings)?, settings)?;
    let remote = Remote::new(upstream_of(arguments)?, arguments.owners.owners());
    let runtime = runtime()?;
    if !to.dry_run {
        let arguments = json!({ "packages": arguments.patterns.len(), "all": arguments.all });
        runtime.block_on(note_command(&to.store, "import registry", arguments))?;
    }
    let is_wide = |pattern: &Pattern| !matches!(pattern, Pattern::Exact(_));
    if arguments.all || arguments.patterns.iter().any(is_wide) {
        let told = runtime.block_on(remote.names()).map_err(|error| {
            anyhow::Error::new(error)
                .context("the registry does not tell its packages: name them with --package or --from-file")
        })?;
        let is_wanted =
            |name: &PackageName| arguments.all || arguments.patterns.iter().any(|pattern| pattern.matches(name));
        names.extend(told.into_iter().filter(is_wanted));
    }
    names.extend(arguments.patterns.iter().filter_map(|pattern| match pattern {
        Pattern::Exact(name) => Some(name.clone()),
        _ => None,
    }));
    let mut progress = output::Progress::of("packages");
    let coming = transfer::bring_in(&to, &remote, names.into_iter().collect(), shown(&mut progress));
    let report = runtime.block_on(coming).map_err(stopped)?;
    drop(progress);
    tell(&report, &arguments.way)
}

/// With more patience than a client has who waits for an answer.
fn upstream_of(arguments: &RegistryArgs) -> anyhow::Result<Upstream> {
    let token = match &arguments.token_env {
        Some(name) => {
            Some(settings::variable(name).ok_or_else(|| anyhow::anyhow!("the variable `{name}` is not set"))?)
        }
        None => settings::npm_token(&arguments.registry),
    };
    let client = upstream::Settings {
        token: token.map(Secret::new),
        retries: 5,
        retry_pause: Duration::from_secs(1),
        max_retry_after: Duration::from_mins(2),
        ..upstream::Settings::new("import", arguments.registry.clone())
    };
    Ok(Upstream::new(client, crate::clock::Clock::default())?)
}

fn read_list(file: &Path) -> anyhow::Result<BTreeSet<PackageName>> {
    let cannot =
        |error: std::io::Error| anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display()));
    let size = std::fs::metadata(file).map_err(cannot)?.len();
    anyhow::ensure!(size <= MAX_LIST_BYTES, "`{}` has {size} bytes: no list of names has so many", file.display());
    let text = std::fs::read_to_string(file).map_err(cannot)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.parse().map_err(|error| anyhow::anyhow!("`{line}` in `{}`: {error}", file.display())))
        .collect()
}
