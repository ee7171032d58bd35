//! `holdfast events`: the record of what happened, read from the store, whoever runs on it.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{DataArgs, output, runtime, sinks};
use crate::clock::Clock;
use crate::events::{Decision, Event, Filter, LATE, Position, Record};
use crate::npm::{Pattern, Timestamp};
use crate::policy;
use crate::storage::Store;

/// Batches that are listed at once.
const BATCHES: usize = 100;
/// Ids that are remembered, so that an event that was written twice is shown once.
const REMEMBERED_IDS: usize = 10_000;
/// How far back is looked where nothing is said.
const USUAL: Duration = Duration::from_hours(24);

/// Arguments of `holdfast events`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
The record is read from the store itself: beside a server, or without one. Every change is in it before it is answered; what
was refused, and what was withheld, is there after seconds. docs/events.md tells what an event has in it.

Examples:
  holdfast events                                 the last day
  holdfast events --follow                        from now on, as it comes
  holdfast events --kind package --package '@acme/*' --since 30d
  holdfast events --kind sign-in --refused        who was not let in
  holdfast events --since 2026-11-01 --until 2026-12-01 --export november.jsonl"
)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    /// Not older: a time such as `24h` or `7d`, a day, or an instant [default: 24h; with --follow from now on]
    #[arg(long, value_name = "24h|DATE")]
    since: Option<String>,
    /// Older than this
    #[arg(long, value_name = "24h|DATE", conflicts_with = "follow")]
    until: Option<String>,
    /// Go on with what happens, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Only of this kind, such as `package.publish`, or of an area, such as `package`; may be given several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// Only of these packages, such as `lodash` or `@acme/*`
    #[arg(long, value_name = "PATTERN")]
    package: Option<Pattern>,
    /// Only by this account, CI job or operator
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only what was refused
    #[arg(long)]
    refused: bool,
    /// Print JSON, one line an event
    #[arg(long)]
    json: bool,
    /// End after so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write JSON lines into a file that is not there yet, whole or not at all
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "json"])]
    export: Option<PathBuf>,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// How the sinks are: what they have not got yet, what went wrong, what was given up
    Sinks(sinks::SinksArgs),
}

pub(super) fn run(arguments: &EventsArgs) -> anyhow::Result<ExitCode> {
    if let Some(EventsCommand::Sinks(of_sinks)) = &arguments.command {
        return sinks::run(of_sinks, &arguments.settings);
    }
    let settings = arguments.settings.load()?.settings;
    let shown = settings.storage.shown();
    let store = Store::reading_at(&settings.storage.location()).with_context(|| format!("`{shown}` cannot be read"))?;
    let pause = Duration::from_secs(if settings.storage.bucket.is_some() { 5 } else { 1 });
    let filter = filter(arguments, Clock::default().now())?;
    let reader = Reader {
        record: Record::new(store),
        filter,
        follow: arguments.follow.then_some(pause),
        left: arguments.limit.unwrap_or(u64::MAX),
        seen: Seen::default(),
    };
    match &arguments.export {
        Some(file) => export(reader, file)?,
        None if arguments.json => {
            let mut line = |event: &Event| Ok(output::line(&serde_json::to_string(event)?)?);
            runtime()?.block_on(reader.read(&mut line))?;
        }
        None => {
            let has_colour = output::is_for_eyes();
            let mut line = |event: &Event| Ok(output::line(&text(event, has_colour))?);
            runtime()?.block_on(reader.read(&mut line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn filter(arguments: &EventsArgs, now: Timestamp) -> anyhow::Result<Filter> {
    let instant = |text: &String| match policy::duration(text) {
        Ok(ago) => Ok(now.minus(ago)),
        Err(_) => Timestamp::of_day_or_instant(text).with_context(|| {
            format!("`{text}` is no time such as `24h` or `7d`, no day such as `2026-11-30`, and no instant")
        }),
    };
    let mut kinds = Vec::new();
    for word in &arguments.kind {
        let meant = Filter::kind(word);
        anyhow::ensure!(!meant.is_empty(), "`{word}` is no kind of event: docs/events.md has all");
        kinds.extend(meant);
    }
    let usual = if arguments.follow { now } else { now.minus(USUAL) };
    Ok(Filter {
        since: Some(arguments.since.as_ref().map(instant).transpose()?.unwrap_or(usual)),
        until: arguments.until.as_ref().map(instant).transpose()?,
        kinds,
        package: arguments.package.clone(),
        who: arguments.who.clone(),
        refused: arguments.refused,
    })
}

/// Reads the record.
struct Reader {
    record: Record,
    filter: Filter,
    /// How long to wait for more, where more is waited for.
    follow: Option<Duration>,
    /// How many events are still wanted.
    left: u64,
    seen: Seen,
}

impl Reader {
    /// Gives every event that is wanted to `take`, until that wants no more. The number of them.
    async fn read(mut self, take: &mut dyn FnMut(&Event) -> anyhow::Result<bool>) -> anyhow::Result<u64> {
        let mut position = Position::at(self.filter.since.unwrap_or(Timestamp::from_millis(0)));
        let mut taken = 0;
        while self.left > taken {
            let batches = self.record.batches_after(&position, BATCHES).await.context("the record cannot be read")?;
            if batches.is_empty() {
                let Some(pause) = self.follow else { break };
                tokio::time::sleep(pause).await;
            }
            for batch in batches {
                let began = batch.event_instant();
                // What is older than the end is in batches that began soon after it.
                if self.filter.until.zip(began).is_some_and(|(until, began)| began > until.plus(LATE)) {
                    return Ok(taken);
                }
                for event in self.record.batch(&batch).await.context("the record cannot be read")? {
                    if !self.filter.wants(&event) || !self.seen.is_new(&event.id) {
                        continue;
                    }
                    if taken == self.left || !take(&event)? {
                        return Ok(taken);
                    }
                    taken += 1;
                }
                position.pass(&batch);
            }
        }
        Ok(taken)
    }
}

/// The ids of the last events.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// Writes to a file beside the one that is wanted, which then gets its name.
fn export(reader: Reader, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    anyhow::ensure!(!file.exists(), "`{shown}` is there already");
    let unfinished = file.with_added_extension("part");
    let cannot = || format!("`{shown}` cannot be written");
    let mut lines = BufWriter::new(File::create(&unfinished).with_context(cannot)?);
    let mut write = |event: &Event| {
        serde_json::to_writer(&mut lines, event)?;
        lines.write_all(b"\n")?;
        Ok(true)
    };
    let count = runtime()?.block_on(reader.read(&mut write))?;
    lines
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .with_context(cannot)?;
    fs::rename(&unfinished, file).with_context(cannot)?;
    output::message(&format!("{count} events are in {shown}."));
    Ok(())
}

/// One line for people: when, what, who, of what, and what else there is to tell.
fn text(event: &Event, has_colour: bool) -> String {
    let painted = |text: &str, colour: &str| {
        if has_colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let who = event.who.name.clone().unwrap_or_else(|| super::word(&event.who.kind));
    let of = match (&event.package, &event.version) {
        (Some(package), Some(version)) => format!("{package}@{version}"),
        (Some(package), None) => package.clone(),
        (None, _) => String::new(),
    };
    let details = event.details.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    let address = event.request.as_ref().and_then(|request| request.address);
    let details: Vec<String> = details.chain(address.map(|address| format!("from={address}"))).collect();
    let refused = match (event.decision, &event.rule) {
        (Decision::Refused, rule) => format!("REFUSED {}", rule.as_deref().unwrap_or_default()),
        (Decision::Allowed, _) => String::new(),
    };
    let parts = [
        painted(&event.at, "2"),
        format!("{:16}", event.kind.as_str()),
        format!("{:20}", plain(&who)),
        plain(&of),
        painted(&plain(&refused), "31"),
        plain(&details.join(" ")),
    ];
    let shown: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !plain(part).is_empty()).collect();
    shown.join("  ").trim_end().to_owned()
}

/// Without what a terminal would take for an order: much of an event is a stranger's to choose.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Kind, Who};

    #[test]
    fn a_line_is_aligned_and_gives_a_terminal_no_orders() {
        let now = "2026-11-30T12:00:00.000Z".parse().unwrap();
        let event = Event::new(Kind::Publish, Who::user("ann"), now).of(&"tool".parse().unwrap()).version("1.0.0");
        let expected = "2026-11-30T12:00:00.000Z  package.publish   ann                   tool@1.0.0  tag=latest";
        assert_eq!(text(&event.with("tag", "latest"), false), expected);
        let refused = Event::new(Kind::SignInRefused, Who::user("\u{1b}[31mroot"), now).refused("wrong_password");
        let line = text(&refused, false);
        assert!(line.ends_with("?[31mroot             REFUSED wrong_password"), "{line}");
        assert!(text(&refused, true).contains("\u{1b}[31mREFUSED wrong_password\u{1b}[0m"));
    }

    #[test]
    fn an_event_that_was_written_twice_is_new_once() {
        let mut seen = Seen::default();
        assert!(seen.is_new("a") && !seen.is_new("a") && seen.is_new("b"));
        (0..REMEMBERED_IDS).for_each(|number| assert!(seen.is_new(&number.to_string())));
        assert!(seen.ids.len() == REMEMBERED_IDS && seen.is_new("a"));
    }
}
