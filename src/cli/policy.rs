//! `holdfast policy`: what is withheld and why, whether a lockfile can be installed, and letting something through.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use url::Url;

use super::{DataArgs, SettingsArgs, orders, output, runtime};
use crate::client::Client;
use crate::lockfile::{self, Lockfile};
use crate::npm::{Range, Version};
use crate::operator::{Order, Outcome, WaiverWish};
use crate::policy::{self, Explanation, Verdict, VersionVerdict, WithheldVersion};
use crate::settings::{self, Settings};

/// Lockfiles are read whole; larger ones are something else.
const MAX_LOCKFILE_BYTES: u64 = 64 << 20;
/// Versions asked about at once.
const BATCH: usize = 100;

/// Arguments of `holdfast policy`.
#[derive(Debug, Args)]
#[command(after_help = "\
`explain` and `check` ask a registry; `waive`, `waivers` and `unwaive` are carried out by the server that runs on the
data directory, or on the directory itself when none runs.

Examples:
  holdfast policy explain lodash@4                what is withheld of lodash 4, why, and until when
  holdfast policy check package-lock.json         can everything in it be installed? (exit code 1 when not)
  holdfast policy check pnpm-lock.yaml --json --registry https://npm.example/
  holdfast policy waive lodash@4.18.1 --reason 'fixes our outage' --for 3d
  holdfast policy waivers
  holdfast policy validate policy.toml            are these rules good?")]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

/// Which registry is asked.
#[derive(Debug, Args)]
struct RegistryArgs {
    /// The registry [the token for it is taken from .npmrc]
    #[arg(long, value_name = "URL", default_value = "http://localhost:4873/")]
    registry: Url,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// List every version that is withheld, with rule, reason and release time
    Explain {
        /// A package, perhaps with a version or range: `lodash`, `lodash@4`
        package: String,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Say of every package in a lockfile whether it can be installed
    Check {
        /// package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock or bun.lock
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Let a version through that is held, or a package; never one that is malicious
    Waive {
        /// A package, or one version of it: `lodash`, `lodash@4.18.1`
        package: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// For how long: `90m`, `72h`, `7d`
        #[arg(long = "for", value_name = "TIME", default_value = "7d")]
        lasts: String,
        /// The rule, or the advisory, that is lifted [default: the holds]
        #[arg(long, value_name = "ID")]
        rule: Option<String>,
        /// Who says so [default: this account on this machine]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[command(flatten)]
        settings: DataArgs,
    },
    /// List what was let through
    Waivers {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: DataArgs,
    },
    /// Take a waiver back
    Unwaive {
        /// Its id
        id: String,
        /// Who says so [default: this account on this machine]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        #[command(flatten)]
        settings: DataArgs,
    },
    /// Read a rules file and tell every mistake in it
    Validate {
        /// The file [default: setting `policy.rules`]
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
}

pub(super) fn run(arguments: PolicyArgs) -> anyhow::Result<ExitCode> {
    match arguments.command {
        PolicyCommand::Explain { package, registry } => explain(&package, &registry),
        PolicyCommand::Check { file, registry } => check(&file, &registry),
        PolicyCommand::Waive { package, reason, lasts, rule, by, settings } => {
            let (package, version) = spec(&package);
            let lasts = policy::duration(&lasts).map_err(|why| anyhow::anyhow!("`--for`: {why}"))?;
            let minutes = lasts.as_secs() / 60;
            let wish = WaiverWish { package, version, rule, reason, by: by.unwrap_or_else(whoever), minutes };
            if let Outcome::Waivers { waivers } = orders::give(&settings, Order::Waive { wish })? {
                for waiver in waivers {
                    let version = waiver.version.map_or_else(String::new, |version| format!("@{version}"));
                    output::message(&format!(
                        "{}{version} is let through until {} (waiver {}).",
                        waiver.package, waiver.expires, waiver.id
                    ));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Waivers { json, settings } => waivers(json, &settings),
        PolicyCommand::Unwaive { id, by, settings } => {
            orders::give(&settings, Order::Unwaive { id, by: by.unwrap_or_else(whoever) })?;
            output::message("The waiver is taken back.");
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Validate { file, settings } => validate(file, &settings),
    }
}

/// `name` or `name@version`.
fn spec(text: &str) -> (String, Option<String>) {
    match text.rfind('@').filter(|at| *at > 0) {
        Some(at) => (text[..at].to_owned(), Some(text[at + 1..].to_owned())),
        None => (text.to_owned(), None),
    }
}

fn whoever() -> String {
    let machine = settings::machine_name().unwrap_or_else(|| "this machine".to_owned());
    format!("{}@{machine}", settings::account_name().unwrap_or_else(|| "somebody".to_owned()))
}

fn client(registry: &RegistryArgs) -> anyhow::Result<Client> {
    let client = Client::new(registry.registry.clone())?;
    Ok(match settings::npm_token(client.base()) {
        Some(token) => client.with_token(token),
        None => client,
    })
}

fn explain(package: &str, registry: &RegistryArgs) -> anyhow::Result<ExitCode> {
    let (name, wanted) = spec(package);
    let client = client(registry)?;
    let mut found: Explanation = runtime()?.block_on(client.explain(&name))?;
    if let Some(wanted) = &wanted {
        let range: Option<Range> = wanted.parse().ok();
        let tagged = found.moved_tags.iter().find(|moved| moved.tag == *wanted).map(|moved| moved.from.clone());
        let is_meant = |number: &str| {
            let version: Option<Version> = number.parse().ok();
            let in_range = version.zip(range.as_ref()).is_some_and(|(v, range)| range.contains_with_prereleases(&v));
            number == wanted || in_range || tagged.as_deref() == Some(number)
        };
        found.withheld.retain(|version| is_meant(&version.version));
        found.observed.retain(|noted| is_meant(&noted.version));
    }
    if registry.json {
        output::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::data(&format!("{} from {}: {} versions are offered", found.package, found.source, found.offered))?;
    for moved in &found.moved_tags {
        let to = moved.to.as_deref().unwrap_or("nothing");
        output::data(&format!("  the tag `{}` points to {to} here, to {} at its source", moved.tag, moved.from))?;
    }
    if found.withheld.is_empty() {
        output::data("  nothing of that is withheld")?;
    }
    for WithheldVersion { version, withheld } in &found.withheld {
        let until = withheld.available_at.map_or_else(String::new, |at| format!(" until {at}"));
        output::data(&format!("\n{}@{version} is withheld{until}", found.package))?;
        output::data(&format!("  rule     {}", withheld.rule))?;
        output::data(&format!("  because  {}", withheld.reason))?;
        output::data(&format!("  to have it: {}", withheld.allowed_if))?;
    }
    for noted in &found.observed {
        output::data(&format!("\n{}@{} is offered ({}): {}", found.package, noted.version, noted.rule, noted.note))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    kind: lockfile::Kind,
    verdicts: Vec<VersionVerdict>,
    skipped: Vec<String>,
    ok: bool,
}

fn check(file: &Path, registry: &RegistryArgs) -> anyhow::Result<ExitCode> {
    let Lockfile { kind, entries, skipped } = read_lockfile(file)?;
    let client = client(registry)?;
    let wanted: Vec<(String, String)> =
        entries.iter().map(|entry| (entry.name.as_str().to_owned(), entry.version.to_string())).collect();
    let mut verdicts = Vec::with_capacity(wanted.len());
    let runtime = runtime()?;
    for batch in wanted.chunks(BATCH) {
        verdicts.extend(runtime.block_on(client.check(batch))?);
        if std::io::stderr().is_terminal() {
            output::message(&format!("checked {} of {}", verdicts.len(), wanted.len()));
        }
    }
    let unread: Vec<String> =
        skipped.iter().filter(|entry| entry.why == lockfile::NOT_READ).map(|entry| entry.what.clone()).collect();
    let is_ok = unread.is_empty() && verdicts.iter().all(|line| matches!(line.verdict, Verdict::Offered));
    let skipped: Vec<String> = skipped.iter().map(|skipped| format!("{}: {}", skipped.what, skipped.why)).collect();
    if registry.json {
        let file = file.display().to_string();
        output::json(&Report { file, kind, verdicts, skipped, ok: is_ok })?;
        return Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for VersionVerdict { name, version, verdict } in &verdicts {
        let (word, why) = match verdict {
            Verdict::Offered => ("offered", None),
            Verdict::Withheld(withheld) => ("withheld", Some(withheld.reason.as_str())),
            Verdict::Missing => ("missing", Some("the registry has no such version")),
            Verdict::Unknown => ("unknown", Some("the registry could not ask where it comes from")),
        };
        *counts.entry(word).or_default() += 1;
        let Some(why) = why else { continue };
        output::data(&format!("{name}@{version}: {word}: {why}"))?;
        if let Verdict::Withheld(withheld) = verdict {
            output::data(&format!("  to have it: {}", withheld.allowed_if))?;
        }
    }
    for what in unread {
        output::data(&format!("{what}: not understood, so that nothing can be said of it"))?;
    }
    let counted: Vec<String> = counts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let not_looked_at = if skipped.is_empty() {
        String::new()
    } else {
        format!("; {} from elsewhere were not looked at", skipped.len())
    };
    output::message(&format!("{} packages: {}{not_looked_at}", verdicts.len(), counted.join(", ")));
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn read_lockfile(file: &Path) -> anyhow::Result<Lockfile> {
    let cannot =
        |error: std::io::Error| anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display()));
    let size = std::fs::metadata(file).map_err(cannot)?.len();
    anyhow::ensure!(size <= MAX_LOCKFILE_BYTES, "`{}` has {size} bytes: no lockfile has so many", file.display());
    let bytes = std::fs::read(file).map_err(cannot)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(lockfile::parse(&file.display().to_string(), &text)?)
}

fn waivers(as_json: bool, settings: &DataArgs) -> anyhow::Result<ExitCode> {
    let Outcome::Waivers { waivers } = orders::give(settings, Order::ListWaivers)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if as_json {
        output::json(&waivers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = waivers
        .into_iter()
        .map(|waiver| {
            let version = waiver.version.unwrap_or_else(|| "all".to_owned());
            let rule = waiver.rule.unwrap_or_else(|| "holds".to_owned());
            vec![waiver.id, waiver.package, version, rule, waiver.expires, waiver.by, waiver.reason]
        })
        .collect();
    output::data(&output::table(&["ID", "PACKAGE", "VERSION", "LIFTS", "ENDS", "BY", "REASON"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn validate(file: Option<PathBuf>, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let mut flags = settings.flags();
    flags.values.extend(file.map(|file| ("policy.rules", file.display().to_string())));
    let settings = match Settings::load(&flags) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => {
            for mistake in mistakes {
                output::data(&mistake.to_string())?;
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let (rules, file) = (settings.policy_rules()?, &settings.policy.rules_file);
    if file.exists() {
        output::message(&format!("{}: {} rules, all good.", file.display(), rules.len()));
    } else {
        output::message(&format!("There is no rules file `{}`: nothing but the settings decides.", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}
