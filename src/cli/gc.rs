//! `holdfast gc`: removing what nobody needs any more.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{DataArgs, existing_store, note_command, output, runtime};
use crate::clock::Clock;
use crate::maintenance::{self, CacheLimits, GcError, Plan, Removal, Swept};
use crate::policy::duration;
use crate::settings::Settings;
use crate::storage::Store;

/// Arguments of `holdfast gc`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(after_help = "\
Removes tarballs and provenance bundles that no document names, prereleases that `[[retention]]` in the settings gives up, uploads
and sign-ins that came to nothing; the counted downloads of a day that is over become one object; of what is cached of upstreams only what a limit here gives up. No stable version is ever
removed, nor one that a dist-tag names. On a bucket it may run beside servers. Of a data directory the server must be stopped
first. docs/maintenance.md has the rights that it needs, and what each limit means.

Without --yes it says what would go, and asks.

Examples:
  holdfast gc --dry-run                       what would go
  holdfast gc --yes --cache-max-size 50GB     for a timer")]
pub(super) struct GcArgs {
    /// Only look, and say what would go
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON: one line for each removal, then one with the summary
    #[arg(long)]
    json: bool,
    /// How old something that nothing names must be, such as `24h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    grace: Duration,
    /// Cached objects that were brought in longer ago go
    #[arg(long, value_name = "TIME", value_parser = duration)]
    cache_older_than: Option<Duration>,
    /// Cached objects that were neither read nor written for so long go; of a data directory only
    #[arg(long, value_name = "TIME", value_parser = duration)]
    cache_unused_for: Option<Duration>,
    /// What goes beyond this size of the cache, such as `50GB`, the least recently used first; in a bucket the least recently
    /// written
    #[arg(long, value_name = "SIZE", value_parser = size)]
    cache_max_size: Option<u64>,
    /// Documents that were set aside (`-/set-aside/`) go
    #[arg(long)]
    set_aside: bool,
    #[command(flatten)]
    settings: DataArgs,
}

pub(super) fn run(arguments: &GcArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    anyhow::ensure!(
        arguments.dry_run || !settings.is_read_only(),
        "the settings say that nothing is to be changed (`storage.read_only`): look only, with --dry-run"
    );
    let store = existing_store(&settings)?;
    let plan = plan(arguments, &settings);
    if !arguments.dry_run && !arguments.yes {
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "this removes objects: look with --dry-run first, then repeat it with --yes"
        );
        let would = sweep(&store, &Plan { dry_run: true, ..plan.clone() }, |_| Ok(()))?;
        output::message(&text(&would));
        if would.removed.is_empty() || !is_agreed()? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    if !arguments.dry_run {
        let done = json!({ "grace_seconds": plan.grace.as_secs(), "set_aside": plan.set_aside });
        runtime()?.block_on(note_command(&store, "gc", done))?;
    }
    let swept = sweep(&store, &plan, |removal| print(removal, arguments.json))?;
    if arguments.json {
        output::json_line(&json!({ "summary": swept }))?;
    } else {
        output::data(&text(&swept))?;
    }
    Ok(if swept.left_alone.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(arguments: &GcArgs, settings: &Settings) -> Plan {
    Plan {
        dry_run: arguments.dry_run,
        grace: arguments.grace,
        cache: CacheLimits {
            older_than: arguments.cache_older_than,
            unused_for: arguments.cache_unused_for,
            max_bytes: arguments.cache_max_size,
        },
        set_aside: arguments.set_aside,
        retention: settings.retention.clone(),
    }
}

fn sweep(store: &Store, plan: &Plan, print: impl Fn(&Removal) -> anyhow::Result<()>) -> anyhow::Result<Swept> {
    let mut progress = output::Progress::of("objects");
    let mut printed = Ok(());
    let told = |swept: &Swept, removal: Option<&Removal>| match removal {
        None => progress.step(swept.objects, None, &format!("{} bytes removed", swept.removed_bytes)),
        Some(removal) if printed.is_ok() => printed = print(removal),
        Some(_) => {}
    };
    let swept = runtime()?.block_on(maintenance::gc(store, &Clock::default(), plan, told));
    drop(progress);
    printed?;
    swept.map_err(|error| match error {
        GcError::Store(error) => {
            anyhow::Error::new(error).context("it stopped; what is removed is removed, run it again to go on")
        }
        other => other.into(),
    })
}

fn print(removal: &Removal, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json_line(removal);
    }
    let version = removal.version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
    Ok(output::data(&format!("{} {}{version}", super::word(&removal.reason), removal.key))?)
}

fn is_agreed() -> anyhow::Result<bool> {
    output::message("Type `yes` to go on:");
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim() == "yes")
}

/// What went, for people.
fn text(swept: &Swept) -> String {
    let would = if swept.dry_run { "would be removed" } else { "removed" };
    let mut lines: Vec<String> =
        swept.removed.iter().map(|(reason, count)| format!("{count} {} {would}.", reason.as_str())).collect();
    for key in &swept.left_alone {
        lines.push(format!(
            "{key} cannot be read: nothing that may belong to it was removed (`holdfast verify` tells more)."
        ));
    }
    lines.push(format!("{} objects looked at, {} bytes {would}.", swept.objects, swept.removed_bytes));
    lines.join("\n")
}

/// A size such as `50GB` or `512MiB`; a number alone is bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => Some(1),
        "KB" | "kB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit): (u64, u64)| number.checked_mul(unit));
    bytes.ok_or_else(|| format!("`{text}` is no size such as `50GB` or `512MiB`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintenance::GRACE;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("50GB"), Ok(50_000_000_000));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("7"), Ok(7));
        for text in ["", "GB", "1.5GB", "-1", "1 GB", "1PB", "99999999999TB", "ä"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_grace_is_the_one_of_verify() {
        assert_eq!(duration("24h"), Ok(GRACE));
    }
}
