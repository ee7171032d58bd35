//! `holdfast serve`.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::{SettingsArgs, UNCONDITIONAL_ADVICE, has_upstream, load, output, runtime, shown_url};
use crate::app::{App, StartError};
use crate::auth::Registration;
use crate::clock::Clock;
use crate::policy::Control;
use crate::serve::{self, Bound, Reload, ServeError, systemd};
use crate::settings::{self, Home, Settings};
use crate::storage::{self, OpenError, Store};
use crate::telemetry;

pub(super) fn run(arguments: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let mut flags = arguments.flags();
    let mut loaded = load(&flags)?;
    if !has_upstream(&loaded.settings)
        && let Some(found) = find_upstream(&loaded.settings)
    {
        flags.values.push(("upstreams.default.url", found.to_string()));
        loaded = load(&flags)?;
    }
    let settings = loaded.settings.clone();
    if settings.server.home == Home::Lambda {
        anyhow::bail!(
            "this listens, and inside AWS Lambda nothing can reach it: start `holdfast lambda`, or no command at all"
        );
    }
    let inherited = systemd::listener().context("the socket that the service manager hands over cannot be used")?;
    let log_level = telemetry::start(&settings.log, telemetry::Lines::Collected);
    if !loaded.unused.is_empty() {
        output::message(&format!(
            "holdfast: of codebox's variables these mean nothing, since Insights needs an id and a secret, and a topic is an ARN: {}",
            loaded.unused.join(", ")
        ));
    }
    refuse_own_upstream(&settings)?;
    let reload = Reload::new(flags, loaded, log_level);
    match runtime()?.block_on(serve(&settings, inherited, reload)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            output::failure(&error, advice(&error, settings.storage.bucket.is_some()));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What to do about a server that does not start.
fn advice(error: &anyhow::Error, is_bucket: bool) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<ServeError>() {
        return match error.kind() {
            ErrorKind::AddrInUse => Some(
                "Another program listens there, perhaps a Holdfast that runs already: stop it, or choose another port with --listen 127.0.0.1:PORT.",
            ),
            ErrorKind::PermissionDenied => {
                Some("Ports below 1024 need a privilege: choose another with --listen ADDR:PORT.")
            }
            ErrorKind::AddrNotAvailable => {
                Some("This machine has no such address: 0.0.0.0 stands for all that it has.")
            }
            _ => None,
        };
    }
    let Some(StartError::Storage { source, .. }) = error.downcast_ref::<StartError>() else { return None };
    match source {
        OpenError::Store(storage::Error::Locked) => {
            Some("Stop that process, a Holdfast most likely, or choose another directory with --data DIR.")
        }
        OpenError::Store(storage::Error::Full(_)) => {
            Some("Make room on that file system, or choose another directory with --data DIR.")
        }
        OpenError::Store(storage::Error::Unconditional(_)) => Some(UNCONDITIONAL_ADVICE),
        OpenError::Store(storage::Error::Denied(_)) => {
            Some("Look at the credentials, and at what they allow: docs/deploy.md has the rights that are needed.")
        }
        OpenError::Store(storage::Error::NotFound) if is_bucket => Some("Make the bucket first, or look at its name."),
        OpenError::Store(_) if is_bucket => Some("Look at the address, the region, the credentials and the network."),
        OpenError::Store(_) => {
            Some("Give this user the right to write there, or choose another directory with --data DIR.")
        }
        OpenError::Bucket(_) => Some("Look at the settings below `storage`: `holdfast config show` has them all."),
    }
}

/// Looks for npm's registry, and writes it down in the data directory. A registry without an upstream still hosts
/// packages, so that nothing was found is told and is no failure.
fn find_upstream(settings: &Settings) -> Option<Url> {
    let directory = &settings.storage.directory;
    let found = match settings::default_upstream() {
        Ok(found) => found,
        Err(error) => {
            output::message(&format!(
                "holdfast: no upstream registry: {error}. Only packages published here can be installed; name one with --upstream URL, or say --no-upstream."
            ));
            return None;
        }
    };
    if settings.server.is_at(&found.url) {
        output::message(&format!(
            "holdfast: no upstream registry: npm on this machine is set up for this very server ({}). Name another one with --upstream URL, or say --no-upstream.",
            shown_url(&found.url)
        ));
        return None;
    }
    if settings.storage.bucket.is_some() {
        output::message(&format!(
            "holdfast: public packages come from {} (found by {}); set `upstreams.default.url` so that all processes ask the same",
            shown_url(&found.url),
            found.source,
        ));
        return Some(found.url);
    }
    match settings::remember(directory, &found) {
        Ok(path) => {
            output::message(&format!(
                "holdfast: public packages come from {} (found by {}, written to {})",
                shown_url(&found.url),
                found.source,
                path.display()
            ));
            Some(found.url)
        }
        Err(error) => {
            output::message(&format!("holdfast: the upstream that was found could not be written down: {error}"));
            None
        }
    }
}

fn refuse_own_upstream(settings: &Settings) -> anyhow::Result<()> {
    let Some(own) = settings.upstream_that_is_this_server() else { return Ok(()) };
    anyhow::bail!(
        "the upstream `{}` ({}) is this very server: name another registry with --upstream URL, or say --no-upstream",
        own.client.name,
        shown_url(&own.client.url)
    )
}

async fn serve(settings: &Settings, inherited: Option<TcpListener>, mut reload: Reload) -> anyhow::Result<()> {
    let (listen, max_connections) = (settings.server.listen, settings.server.max_connections);
    // First, so that a second server on the same port leaves no data directory behind.
    let bound = match inherited {
        Some(listener) => inherit(listener, settings)?,
        None => serve::bind(listen, max_connections).await?,
    };
    let unusable = |source| StartError::Storage { location: settings.storage.shown(), source };
    let store = Store::at(&settings.storage.location()).map_err(unusable)?;
    // Before anybody is served: a store that loses changes must not take any.
    store.require_conditions().await.map_err(|error| unusable(error.into()))?;
    let app = App::with_store(settings, Clock::default(), store)?;
    app.note_settings();
    let port = bound.address().map_or(listen.port(), |address| address.port());
    // Whoever was told of the server may stop it, and in order.
    reload.listen()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    greet(settings, port);
    let directory = settings.storage.bucket.is_none().then_some(settings.storage.directory.as_path());
    bound
        .serve(app, directory, reload, async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    Ok(())
}

/// Takes a listener over. Who is let in without an account follows from `server.listen`: a socket that listens to others than
/// that must not be served by its rules.
fn inherit(listener: TcpListener, settings: &Settings) -> anyhow::Result<Bound> {
    let bound = serve::inherit(listener, settings.server.max_connections)?;
    if let Some(address) = bound.address()
        && settings.server.is_on_loopback()
        && !address.ip().is_loopback()
    {
        anyhow::bail!(
            "the service manager listens on {address}, and `server.listen` is {}: set it to the address of the socket",
            settings.server.listen
        );
    }
    Ok(bound)
}

/// Who may have an account, in a few words.
fn accounts(settings: &Settings) -> String {
    let local = match settings.registration() {
        Registration::Open => "open: `npm login` with a new name makes an account",
        Registration::Invitation => "by invitation: `holdfast user invite`",
        Registration::Closed => "closed: `holdfast user add` makes one",
    };
    let Some(github) = &settings.github else { return local.to_owned() };
    let host = github.client.web_url.host_str().unwrap_or("GitHub");
    let how = if github.client.client_id.is_some() && github.client.client_secret.is_some() {
        ""
    } else {
        " with a personal access token as password, since an app and its secret are not both set"
    };
    match &github.organizations {
        Some(organizations) => format!("members of {} on {host}{how}; others {local}", organizations.join(", ")),
        None => {
            format!("EVERY account on {host}{how}; set `github.organizations` to let members only in; others {local}")
        }
    }
}

/// A line for a registry whose packages cannot be changed.
fn changes(settings: &Settings) -> &'static str {
    if settings.is_read_only() {
        "\n  changes    NONE: packages are read-only until `storage.read_only = false` is set"
    } else {
        ""
    }
}

/// What protects installs, in a few words.
fn policy(settings: &Settings) -> String {
    let switches = &settings.policy.switches;
    let hours = switches.hold.as_secs() / 3600;
    let hold = match switches.hold_control {
        Control::Enforce if hours > 0 => format!("releases of upstreams are held for {hours} hours"),
        Control::Observe => format!("releases younger than {hours} hours are only noted"),
        Control::Enforce | Control::Off => "releases of upstreams are NOT held".to_owned(),
    };
    let advisories = match &settings.advisories.source {
        Some(_) => "malicious ones are blocked",
        None => "nothing is known of malicious ones: set `advisories.source`",
    };
    format!("{hold}; {advisories}")
}

/// Says what is going on and what to type next.
fn greet(settings: &Settings, port: u16) {
    let local = settings.local_url(port);
    let registry = settings.typed_url(port);
    let upstreams: Vec<String> = settings
        .upstreams
        .iter()
        .map(|upstream| {
            let names: Vec<String> = upstream.packages.iter().map(ToString::to_string).collect();
            format!("{} ({})", shown_url(&upstream.client.url), names.join(", "))
        })
        .collect();
    let upstream =
        if upstreams.is_empty() { "none: only packages published here".to_owned() } else { upstreams.join("; ") };
    let read = if settings.anonymous_may_read() { "anybody who reaches this address" } else { "accounts only" };
    let (register, policy, changes) = (accounts(settings), policy(settings), changes(settings));
    output::message(&format!(
        "Holdfast {} listening on {local}
  data       {}
  upstream   {upstream}
  reading    {read}{changes}
  accounts   {register}
  policy     {policy}

Next, in another terminal:
  npm login --registry {registry}
  npm publish --registry {registry}
  npm install some-package --registry {registry}",
        env!("CARGO_PKG_VERSION"),
        settings.storage.shown(),
    ));
}
