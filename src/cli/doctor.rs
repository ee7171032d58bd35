//! `holdfast doctor`: is everything well, and if not, what to do.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::UNCONDITIONAL_ADVICE;
use super::{SettingsArgs, has_upstream, output, runtime, shown_url};
use crate::auth::Registration;
use crate::causes;
use crate::clock::Clock;
use crate::settings::{self, DEFAULT_UPSTREAM, Settings};
use crate::storage::{self, OpenError, Store};
use crate::upstream::{self, Upstream};

/// How far this machine's clock may be off before tokens, dates and caches go wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Arguments of `holdfast doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

impl Check {
    fn good(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, found: found.into(), advice: None }
    }

    fn of(verdict: Verdict, what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) fn run(arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let checks = runtime()?.block_on(checks(&settings));
    if arguments.json {
        output::json(&checks)?;
    } else {
        for check in &checks {
            let mark = match check.verdict {
                Verdict::Good => "ok     ",
                Verdict::Warning => "warning",
                Verdict::Bad => "BAD    ",
            };
            output::data(&format!("{mark}  {}: {}", check.what, check.found))?;
            if let Some(advice) = &check.advice {
                output::data(&format!("         {advice}"))?;
            }
        }
    }
    let is_well = checks.iter().all(|check| check.verdict != Verdict::Bad);
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![storage(settings).await];
    let own = settings.upstream_that_is_this_server().map(|upstream| &upstream.client.name);
    for upstream in &settings.upstreams {
        if own == Some(&upstream.client.name) {
            checks.push(own_upstream(&upstream.client.name));
        } else {
            checks.extend(self::upstream(&upstream.client).await);
        }
    }
    if !has_upstream(settings) {
        checks.extend(upstream_to_be_found().await);
    } else if settings.upstreams.is_empty() {
        checks.push(Check::good("upstream", "none, only packages published here can be installed"));
    }
    checks.push(public_url(settings).await);
    checks.push(access(settings));
    checks.extend(github(settings));
    checks
}

async fn storage(settings: &Settings) -> Check {
    let shown = settings.storage.shown();
    let bad = |what: String, advice: &'static str| Check::of(Verdict::Bad, "storage", what, advice);
    let store = match Store::at(&settings.storage.location()) {
        Ok(store) => store,
        Err(OpenError::Store(storage::Error::Locked)) => {
            return Check::good("storage", format!("`{shown}` is in use by a running server, which is well"));
        }
        Err(error @ OpenError::Store(_)) => {
            return bad(
                format!("`{shown}` cannot be used: {}", causes::one_line(&error)),
                "Give this user the right to write there, or choose another directory with --data DIR.",
            );
        }
        Err(error @ OpenError::Bucket(_)) => {
            return bad(
                format!("`{shown}` cannot be used: {}", causes::one_line(&error)),
                "Look at the settings below `storage`.",
            );
        }
    };
    let checked = match store.require_conditions().await {
        Ok(()) => store.probe().await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) if store.is_shared() => {
            let one = settings.storage.bucket.as_ref().is_some_and(|bucket| bucket.single_writer);
            let writers =
                if one { "one process alone writes, as promised" } else { "it keeps the conditions of writes" };
            Check::good("storage", format!("`{shown}` answers, and {writers}"))
        }
        Ok(()) => Check::good("storage", format!("`{shown}` can be written and synced")),
        Err(storage::Error::Full(_)) => bad(format!("`{shown}` is full"), "Make room on that file system."),
        Err(error @ storage::Error::Unconditional(_)) => bad(format!("`{shown}`: {error}"), UNCONDITIONAL_ADVICE),
        Err(error) if store.is_shared() => bad(
            format!("`{shown}`: {}", causes::one_line(&error)),
            "Look at the credentials, the region and the bucket's policy.",
        ),
        Err(error) => bad(format!("`{shown}`: {}", causes::one_line(&error)), "Look at its permissions and its disk."),
    }
}

fn own_upstream(name: &str) -> Check {
    Check::of(
        Verdict::Bad,
        format!("upstream {name}"),
        "is this very server",
        "Name another registry with --upstream URL, or say --no-upstream.",
    )
}

/// The upstream that the first start of the server will take.
async fn upstream_to_be_found() -> Vec<Check> {
    match settings::default_upstream() {
        Ok(found) => upstream(&upstream::Settings::new(DEFAULT_UPSTREAM, found.url)).await,
        Err(error) => vec![Check::of(
            Verdict::Warning,
            format!("upstream {DEFAULT_UPSTREAM}"),
            format!("none is found: {}", causes::one_line(&error)),
            "Name one with --upstream URL, or say --no-upstream.",
        )],
    }
}

/// Whether it answers, and, from the date it answers with, whether this machine's clock is right.
async fn upstream(client: &upstream::Settings) -> Vec<Check> {
    let what = format!("upstream {}", client.name);
    let address = shown_url(&client.url);
    let upstream = match Upstream::new(client.clone(), Clock::default()) {
        Ok(upstream) => upstream,
        Err(error) => {
            return vec![Check::of(
                Verdict::Bad,
                what,
                format!("{address}: {error}"),
                "Mend its settings (`holdfast config show`).",
            )];
        }
    };
    match upstream.ping().await {
        Ok(date) => {
            let mut checks = vec![Check::good(what, format!("{address} answers"))];
            checks.extend(date.map(clock));
            checks
        }
        Err(upstream::Error::NotFound) => vec![Check::good(what, format!("{address} answers"))],
        Err(upstream::Error::Refused { status }) => vec![Check::of(
            Verdict::Bad,
            what,
            format!("{address} refuses with status {status}"),
            format!("Set its token with HOLDFAST__UPSTREAMS__{}__TOKEN.", client.name.to_uppercase().replace('-', "_")),
        )],
        Err(error) => vec![Check::of(
            Verdict::Bad,
            what,
            format!("{address}: {error}"),
            "Look at the network and the address; cached packages can be installed meanwhile.",
        )],
    }
}

fn clock(upstream_now: crate::npm::Timestamp) -> Check {
    let off_millis = (Clock::default().now().as_millis() - upstream_now.as_millis()).unsigned_abs();
    let off = Duration::from_millis(off_millis);
    if off <= CLOCK_TOLERANCE {
        Check::good("clock", "agrees with the upstream's")
    } else {
        Check::of(
            Verdict::Warning,
            "clock",
            format!("is {} s off the upstream's", off.as_secs()),
            "Set this machine's clock, best by NTP: dates of versions are taken from it.",
        )
    }
}

async fn public_url(settings: &Settings) -> Check {
    let what = "public URL";
    let Some(url) = &settings.server.public_url else {
        return if settings.server.listen.ip().is_loopback() {
            Check::good(what, "not set, each request's own address is used")
        } else {
            Check::of(
                Verdict::Warning,
                what,
                "not set, tarball addresses follow what clients put into `Host`",
                "Set --public-url URL to the address that clients use.",
            )
        };
    };
    // The public address of a registry is a registry: what finds out whether an upstream answers does here too.
    let client = upstream::Settings { retries: 0, ..upstream::Settings::new("public-url", url.clone()) };
    let answer = match Upstream::new(client, Clock::default()) {
        Ok(upstream) => match upstream.ping().await {
            // Its text speaks of an upstream, which this is not.
            Err(upstream::Error::Unavailable(why)) => Err(why),
            Err(upstream::Error::Timeout) => Err("no answer in time".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Ok(()),
        },
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(()) => Check::good(what, format!("{} answers", shown_url(url))),
        Err(why) => Check::of(
            Verdict::Warning,
            what,
            format!("{} does not answer from here: {why}", shown_url(url)),
            "Start the server, or look at the proxy in front of it and at DNS.",
        ),
    }
}

/// Whether people can sign in with GitHub in the browser, which takes an app and its secret.
fn github(settings: &Settings) -> Option<Check> {
    let client = &settings.github.as_ref()?.client;
    let missing = match (&client.client_id, &client.client_secret) {
        (Some(_), Some(_)) => {
            return Some(Check::good("github", "an app and its secret are set: `npm login` opens GitHub"));
        }
        (Some(_), None) => "`github.client_secret` is",
        (None, Some(_)) => "`github.client_id` is",
        (None, None) => "`github.client_id` and `github.client_secret` are",
    };
    Some(Check::of(
        Verdict::Warning,
        "github",
        format!("{missing} not set: nobody can sign in in the browser, only with a personal access token as password"),
        "Set it: HOLDFAST__GITHUB__CLIENT_ID and HOLDFAST__GITHUB__CLIENT_SECRET in the environment of the server.",
    ))
}

fn access(settings: &Settings) -> Check {
    let is_loopback = settings.server.listen.ip().is_loopback();
    match (is_loopback, settings.anonymous_may_read(), settings.registration() == Registration::Open) {
        (false, _, true) => Check::of(
            Verdict::Warning,
            "access",
            "anybody who reaches the server can make an account and publish",
            "Set `access.registration = \"closed\"` once the accounts are made.",
        ),
        (false, true, false) => Check::of(
            Verdict::Warning,
            "access",
            "anybody who reaches the server can read every package",
            "Set `access.anonymous_read = \"closed\"` unless that is meant.",
        ),
        (true, _, _) => Check::good("access", "the server listens to this machine only"),
        (false, false, false) => Check::good("access", "reading needs an account and registration is closed"),
    }
}
