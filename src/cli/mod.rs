//! The command line: one file per command. Data goes to stdout, everything for people to stderr.

mod backup;
mod bundle;
mod config;
mod confirm;
mod doctor;
mod encrypt;
mod events;
mod explain;
mod export;
mod gc;
mod import;
mod index;
mod lambda;
mod login;
mod migrate;
mod mirror;
mod orders;
pub mod output;
mod policy;
mod publish;
mod remove_storage;
mod routes;
mod serve;
mod sinks;
mod stores;
mod token;
mod trust;
mod user;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::Clock;
use crate::events::{Event, Kind, Recorder, Who};
use crate::settings::{self, DEFAULT_UPSTREAM, Flags, Home, Loaded, Mistake, Settings};
use crate::storage::{self, Location, OpenError, Store};

/// A private npm registry that a team can trust with its supply chain.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    about,
    after_help = "\
Examples:
  holdfast serve                              the registry on http://localhost:4873
  holdfast serve --listen 0.0.0.0:4873 --public-url https://npm.example/
  holdfast doctor                             is everything well?
  holdfast config show                        every setting and where it came from
  holdfast user add ann                       an account, where registration is closed
  holdfast policy explain lodash              what is withheld of a package, and why"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the registry
    Serve(SettingsArgs),
    /// Run the registry inside AWS Lambda; done by itself there when no command is named
    Lambda(DataArgs),
    /// Check storage, upstreams, clock and public URL, and say how to mend what is wrong
    Doctor(doctor::DoctorArgs),
    /// Look at the settings
    Config(config::ConfigArgs),
    /// List every route that the registry answers
    Routes(routes::RoutesArgs),
    /// Sign in to a registry with GitHub, from a console without a browser
    Login(login::LoginArgs),
    /// Publish a package of any size, by a link to the registry's bucket
    Publish(Box<publish::PublishArgs>),
    /// Accounts: make, list, invite, import, block, remove
    User(user::UserArgs),
    /// Tokens of accounts: make, list, revoke
    Token(token::TokenArgs),
    /// Workflows that packages trust: add, list, remove
    Trust(trust::TrustArgs),
    /// Which versions are offered: explain, check a lockfile, let something through
    Policy(policy::PolicyArgs),
    /// The record of what happened: who did what, when, from where; and whom it is told to
    Events(events::EventsArgs),
    /// Make the search index anew, or tell all packages to the sinks
    Index(index::IndexArgs),
    /// Take packages over from another registry
    Import(import::ImportArgs),
    /// Look over the whole store: is everything there, and what it should be
    Verify(verify::VerifyArgs),
    /// Remove what nobody needs any more: orphans, old cache, prereleases
    Gc(gc::GcArgs),
    /// Encrypt the objects of a bucket as the settings want it
    Encrypt(encrypt::EncryptArgs),
    /// Copy a registry to another store
    Migrate(Box<migrate::MigrateArgs>),
    /// Back the store up, also while servers use it
    Backup(backup::BackupArgs),
    /// Bring a backup back
    Restore(backup::RestoreArgs),
    /// Empty and remove the bucket or the directory, for ever
    RemoveStorage(remove_storage::RemoveStorageArgs),
    /// Write hosted packages into a folder of documents and tarballs
    Export(export::ExportArgs),
    /// Fetch what lockfiles install, before anybody asks for it
    Mirror(Box<mirror::MirrorArgs>),
}

/// Flags that are settings too. Every other setting can be given by file or environment.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Address and port to listen on [default: 127.0.0.1:4873; setting `server.listen`]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The data directory [default: holdfast-data; setting `storage.directory`]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A bucket in its place, such as `s3://bucket/prefix` [setting `storage.url`]
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    storage: Option<String>,
    /// How clients reach this server, path prefix included [setting `server.public_url`]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The registry that public packages come from [default: the one npm uses on this machine; setting `upstreams.default.url`]
    #[arg(long, value_name = "URL", conflicts_with = "no_upstream")]
    upstream: Option<String>,
    /// Host packages only, ask no other registry [setting `packages.proxy`]
    #[arg(long)]
    no_upstream: bool,
    /// A settings file [default: holdfast.toml, where there is one; variable `HOLDFAST_CONFIG`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsArgs {
    fn flags(&self) -> Flags {
        let mut values = Vec::new();
        let mut set = |key: &'static str, value: Option<String>| values.extend(value.map(|value| (key, value)));
        set("server.listen", self.listen.as_ref().map(|listen| listen.replace("localhost:", "127.0.0.1:")));
        set("storage.directory", self.data.as_ref().map(|path| path.display().to_string()));
        set("storage.url", self.storage.clone());
        set("server.public_url", self.public_url.clone());
        set("upstreams.default.url", self.upstream.clone());
        set("packages.proxy", self.no_upstream.then(|| "false".to_owned()));
        // Naming an upstream says that it is to be asked, whatever a file says.
        set("packages.proxy", self.upstream.as_ref().map(|_| "true".to_owned()));
        Flags { file: self.config.clone(), values }
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        load(&self.flags())
    }
}

/// Where an operator's order goes. Taken before and after the name of the order.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// The data directory [default: holdfast-data; setting `storage.directory`]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// A bucket in its place, such as `s3://bucket/prefix` [setting `storage.url`]
    #[arg(long, value_name = "URL", global = true, conflicts_with = "data")]
    storage: Option<String>,
    /// A settings file [default: holdfast.toml, where there is one; variable `HOLDFAST_CONFIG`]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl DataArgs {
    fn load(&self) -> anyhow::Result<Loaded> {
        let data = self.data.as_ref().map(|path| ("storage.directory", path.display().to_string()));
        let storage = self.storage.clone().map(|url| ("storage.url", url));
        load(&Flags { file: self.config.clone(), values: data.into_iter().chain(storage).collect() })
    }
}

fn load(flags: &Flags) -> anyhow::Result<Loaded> {
    Settings::load(flags).map_err(|found| mistakes(&found))
}

fn mistakes(found: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = found.iter().map(|mistake| format!("  - {mistake}")).collect();
    anyhow::anyhow!("the settings are wrong:\n{}", lines.join("\n"))
}

impl Cli {
    /// The command line of this process. Lambda starts its program without one.
    pub fn of_this_process() -> Self {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        if arguments.len() == 1 && Settings::home() == Home::Lambda {
            arguments.push("lambda".into());
        }
        Self::parse_from(arguments)
    }

    /// The whole command line as clap knows it: `docs/cli.md` is made from it.
    pub fn description() -> clap::Command {
        Self::command()
    }
}

/// Runs a command line.
///
/// # Errors
/// What stopped the command, for people.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Lambda(arguments) => lambda::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Routes(arguments) => routes::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::User(arguments) => user::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Trust(arguments) => trust::run(arguments),
        Command::Policy(arguments) => policy::run(arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Index(arguments) => index::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Verify(arguments) => Ok(verify::run(&arguments)),
        Command::Gc(arguments) => gc::run(&arguments),
        Command::Encrypt(arguments) => encrypt::run(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => backup::run_restore(&arguments),
        Command::RemoveStorage(arguments) => remove_storage::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Mirror(arguments) => mirror::run(&arguments),
    }
}

/// Whether there is a default upstream, or none is wanted.
fn has_upstream(settings: &Settings) -> bool {
    !settings.packages.proxy || settings.upstreams.iter().any(|upstream| upstream.client.name == DEFAULT_UPSTREAM)
}

/// An upstream's address without anything that may be secret in it.
fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails for addresses that cannot have credentials, which then have none.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.to_string()
}

/// A word that JSON would have.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

/// What to do about a store that does not keep the conditions of a write.
const UNCONDITIONAL_ADVICE: &str = "Two processes would lose each other's changes there. Use a store with conditional writes, or run exactly one process and promise so with `storage.single_writer = true`.";

/// The store of a command that works on it directly. Of a directory it becomes the owner, so no server may run there; a bucket
/// it shares.
fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let shown = settings.storage.shown();
    Store::at(&settings.storage.location()).map_err(|error| {
        let advice = match error {
            OpenError::Store(storage::Error::Locked) => format!("a server runs on `{shown}`: stop it first"),
            _ => format!("`{shown}` cannot be used"),
        };
        anyhow::Error::new(error).context(advice)
    })
}

/// Writes down that an operator runs a command that changes the store directly, before it does so. The event is of whoever
/// this process runs as.
async fn note_command(store: &Store, command: &str, details: impl serde::Serialize + Send) -> anyhow::Result<()> {
    let clock = Clock::default();
    let recorder = Recorder::new(store.clone(), clock.clone(), TaskTracker::new());
    let event = Event::new(Kind::Command, Who::operator(settings::account_name()), clock.now());
    let event = event.with("command", command).with("arguments", details);
    recorder.record(event).await.context("it could not be written into the record of events, so nothing was done")
}

/// As [`open_store`], for commands that are of no use on a directory that is not there.
fn existing_store(settings: &Settings) -> anyhow::Result<Store> {
    if let Location::Directory(directory) = settings.storage.location() {
        anyhow::ensure!(directory.is_dir(), "there is no directory `{}`", directory.display());
    }
    open_store(settings)
}

/// The store of a command that only looks, beside the process that owns a directory.
fn open_for_reading(settings: &Settings) -> anyhow::Result<Store> {
    let shown = settings.storage.shown();
    Store::reading_at(&settings.storage.location()).map_err(|error| {
        let advice = match error {
            OpenError::Store(storage::Error::NotFound) => format!("there is no directory `{shown}`"),
            _ => format!("`{shown}` cannot be used"),
        };
        anyhow::Error::new(error).context(advice)
    })
}

/// The runtime: as many workers as the machine has cores.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
