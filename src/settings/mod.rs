//! Settings: defaults, then what was remembered at the first start, then a file, then the environment, then flags.
//!
//! The only reader of the environment. Every key there is stands in [`keys`], with its meaning and default;
//! `docs/configuration.md` and `holdfast config show` are made from it. All mistakes are reported at once.

mod discover;
mod keys;
mod layers;
mod older_system;
mod platform;
mod policy;
mod retention;
mod rules;
mod sinks;
mod traces;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub use discover::{
    DiscoverError, Discovered, JobIdentity, account_name, default_upstream, job_identity, machine_name, notify_socket,
    npm_registry, npm_token, publish_token, remember, user_npmrc, variable,
};
pub use keys::{KEYS, KeyInfo};
pub use layers::{Layer, Mistake, Origin};
pub use platform::Home;
pub use policy::{AdvisorySettings, AdvisorySource, PolicySettings, RulesError};

use crate::auth::{
    self, AccessPolicy, AccessPolicySettings, GitHubSettings, GroupNeeds, IssuerKind, IssuerSettings, Principal,
    Registration, Rule, RuleError,
};
use crate::clock::Clock;
use crate::hooks::Settings as HookSettings;
use crate::maintenance::Retention;
use crate::metrics::Readers;
use crate::npm::{Pattern, publish_body, tarball};
use crate::providers;
use crate::registry::{Limits, Redirect, Redirects};
use crate::secret::Secret;
use crate::sinks::{BuildError as SinkError, SinkSettings, Sinks};
use crate::storage::{BucketSettings, Location, Store};
use crate::traces::Settings as TraceSettings;
use crate::upstream;

/// The file in the data directory that keeps what was found at the first start. Under `-/`, where no package can be.
const REMEMBERED_FILE: &str = "-/holdfast.toml";
/// The settings file that is read when none is named and it is there.
const DEFAULT_FILE: &str = "holdfast.toml";
/// The upstream that `--upstream` names.
pub const DEFAULT_UPSTREAM: &str = "default";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The listener and how it is seen from outside.
    pub server: Server,
    /// Where things are kept.
    pub storage: Storage,
    /// Memory.
    pub cache: Cache,
    /// When clients fetch tarballs from the bucket; `None` leaves it to where this runs.
    pub redirect: Option<Redirect>,
    /// How long such a link is good.
    pub redirect_lasts: Duration,
    /// What may be published.
    pub limits: Limits,
    /// Who may do what.
    pub access: Access,
    /// GitHub, where it is used.
    pub github: Option<GitHub>,
    /// Issuers of CI identities.
    pub issuers: Vec<IssuerSettings>,
    /// Which names are ours.
    pub packages: Packages,
    /// Other registries.
    pub upstreams: Vec<UpstreamSettings>,
    /// Which versions are offered.
    pub policy: PolicySettings,
    /// What is known to be malicious or vulnerable, and where that is known from.
    pub advisories: AdvisorySettings,
    /// Which prereleases `holdfast gc` gives up.
    pub retention: Vec<Retention>,
    /// Where what happens is told.
    pub sinks: Vec<SinkSettings>,
    /// Whether accounts may have hooks.
    pub hooks: HookSettings,
    /// Logs.
    pub log: Log,
    /// Every key that is set with its value as text: to tell whether it is another one.
    pub effective: BTreeMap<String, Secret>,
    /// Who may read the figures.
    pub metrics_readers: Readers,
    /// Where traces are sent, if anywhere.
    pub traces: Option<TraceSettings>,
}

/// The listener.
#[derive(Debug, Clone)]
pub struct Server {
    /// What it runs in; told by the environment.
    pub home: Home,
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How clients reach this server, where that is not what they put into `Host`.
    pub public_url: Option<Url>,
    /// Proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections at once; further ones wait.
    pub max_connections: usize,
    /// How long a client may send nothing of a request.
    pub idle: Duration,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
}

/// Where things are kept.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The data directory, where there is no bucket.
    pub directory: PathBuf,
    /// The bucket in its place.
    pub bucket: Option<BucketSettings>,
    /// How old what is known of a hosted package may be, where other processes write too.
    pub fresh: Duration,
    /// Whether packages may be changed, see [`Settings::is_read_only`].
    pub read_only: ReadOnly,
    /// The bucket was named by the variable of the older system (codebox-npm).
    pub is_taken_over: bool,
    /// The ARN of the stack with which the bucket goes, for the function that removes it and does nothing else.
    pub remove_with_stack: Option<String>,
}

impl Storage {
    /// Where everything is kept.
    pub fn location(&self) -> Location {
        match &self.bucket {
            Some(bucket) => Location::Bucket(Box::new(bucket.clone())),
            None => Location::Directory(self.directory.clone()),
        }
    }

    /// The same, for people.
    pub fn shown(&self) -> String {
        self.bucket.as_ref().map_or_else(|| self.directory.display().to_string(), BucketSettings::shown)
    }
}

/// Whether packages may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// Not while the bucket is known only by the older system's variable: it may still be in use there.
    Auto,
    /// As it was set.
    Set(bool),
}

/// Decides it. What works for a new registry must not write into a bucket that another program believes to be its own,
/// before somebody says so.
fn is_read_only(setting: ReadOnly, is_taken_over: bool) -> bool {
    match setting {
        ReadOnly::Set(is_read_only) => is_read_only,
        ReadOnly::Auto => is_taken_over,
    }
}

/// Memory.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Rendered documents kept, in bytes.
    pub memory_bytes: u64,
}

/// A setting that follows from the listener unless it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto {
    /// Open on loopback, closed elsewhere.
    Auto,
    /// Open.
    Open,
    /// Closed.
    Closed,
}

/// Who may do what.
#[derive(Debug, Clone)]
pub struct Access {
    /// Reading without an account.
    pub anonymous_read: Auto,
    /// How strangers may make an account.
    pub registration: RegistrationSetting,
    /// Only owners may change a package that no rule speaks of.
    pub owners_only: bool,
    /// Who may do everything.
    pub admins: Vec<Principal>,
    /// `[[package]]`.
    pub rules: Vec<Rule>,
}

/// [`Registration`], or what follows from the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationSetting {
    /// Open on loopback without GitHub, closed elsewhere.
    Auto,
    /// As it was set.
    Set(Registration),
}

/// GitHub as the directory of people.
#[derive(Debug, Clone)]
pub struct GitHub {
    /// Where it is and as whom it is asked.
    pub client: providers::Settings,
    /// Whose members may come in; every account of GitHub's where there is none.
    pub organizations: Option<Vec<String>>,
    /// How long what it says is used without asking again.
    pub remember: Duration,
    /// How long it is used when it does not answer.
    pub outage: Duration,
}

/// Which names are ours.
#[derive(Debug, Clone)]
pub struct Packages {
    /// Names that are never asked upstream.
    pub claims: Vec<Pattern>,
    /// Whether upstreams are asked at all.
    pub proxy: bool,
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// How it is reached.
    pub client: upstream::Settings,
    /// The names that are its.
    pub packages: Vec<Pattern>,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct Log {
    /// A `tracing` filter such as `info` or `holdfast=debug`.
    pub level: String,
    /// JSON lines in place of text.
    pub json: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server {
                home: Home::Machine,
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4873)),
                public_url: None,
                trusted_proxies: Vec::new(),
                max_connections: 4096,
                idle: Duration::from_secs(30),
                drain: Duration::from_secs(30),
            },
            storage: Storage {
                directory: PathBuf::from("holdfast-data"),
                bucket: None,
                fresh: Duration::ZERO,
                read_only: ReadOnly::Auto,
                is_taken_over: false,
                remove_with_stack: None,
            },
            cache: Cache { memory_bytes: 64 << 20 },
            redirect: None,
            redirect_lasts: Duration::from_mins(5),
            limits: Limits {
                body: publish_body::Limits {
                    max_document_bytes: 32 << 20,
                    max_tarball_bytes: 256 << 20,
                    max_depth: 100,
                },
                tarball: tarball::Limits {
                    max_unpacked_bytes: 2 << 30,
                    max_entries: 200_000,
                    max_manifest_bytes: 4 << 20,
                },
            },
            access: Access {
                anonymous_read: Auto::Auto,
                registration: RegistrationSetting::Auto,
                owners_only: true,
                admins: Vec::new(),
                rules: Vec::new(),
            },
            github: None,
            issuers: known_issuers(),
            packages: Packages { claims: Vec::new(), proxy: true },
            upstreams: Vec::new(),
            policy: PolicySettings::default(),
            advisories: AdvisorySettings::default(),
            retention: Vec::new(),
            sinks: Vec::new(),
            hooks: HookSettings::default(),
            log: Log { level: "info".to_owned(), json: false },
            effective: BTreeMap::new(),
            metrics_readers: Readers::Local,
            traces: None,
        }
    }
}

/// Settings with where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Every key with its value as text and its origin, in the order of the documentation.
    pub shown: Vec<Shown>,
    /// Variables of the older system that are there and mean nothing without another.
    pub unused: Vec<&'static str>,
    /// The settings file, where one is read.
    pub file: Option<PathBuf>,
    values: layers::Values,
}

/// Settings that were loaded again while a server goes by others.
#[derive(Debug)]
pub struct LoadedAgain {
    /// As they are now, but for what needs a restart, which is as it was.
    pub loaded: Loaded,
    /// The keys that have other values.
    pub changed: Vec<String>,
    /// The keys whose other values wait for a restart.
    pub waiting: Vec<String>,
}

/// A line of `holdfast config show`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Shown {
    /// The key, such as `server.listen`.
    pub key: String,
    /// Its value; `***` for a secret.
    pub value: String,
    /// Where it came from.
    pub origin: String,
}

/// What a command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Keys and values of the other flags.
    pub values: Vec<(&'static str, String)>,
}

impl Settings {
    /// Loads settings from this process's environment and files.
    ///
    /// # Errors
    /// Every mistake there is, each with where it stands and how to mend it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn load(flags: &Flags) -> Result<Loaded, Vec<Mistake>> {
        Self::load_with(flags, std::env::vars().collect())
    }

    /// Loads the settings of another store beside the one of this process: none of the environment's count.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_apart(flags: &Flags) -> Result<Loaded, Vec<Mistake>> {
        Self::load_with(flags, Vec::new())
    }

    /// What this process runs in.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn home() -> Home {
        Home::of(&std::env::vars().collect::<Vec<_>>())
    }

    /// Loads settings again, for a server that goes by those that were loaded before.
    ///
    /// # Errors
    /// Every mistake there is, also in what needs a restart.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn load_again(flags: &Flags, before: &Loaded) -> Result<LoadedAgain, Vec<Mistake>> {
        let found = Found::new(flags, std::env::vars().collect());
        let mut values = found.clone().load()?.values;
        let differing = layers::differing(&before.values, &values);
        let (waiting, changed): (Vec<String>, Vec<String>) =
            differing.into_iter().partition(|key| layers::needs_restart(key));
        for key in &waiting {
            match before.values.get(key) {
                Some(old) => values.insert(key.clone(), old.clone()),
                None => values.remove(key),
            };
        }
        let loaded = Found { values, ..found }.load()?;
        Ok(LoadedAgain { loaded, changed, waiting })
    }

    /// Loads settings with a given environment.
    pub fn load_with(flags: &Flags, environment: Vec<(String, String)>) -> Result<Loaded, Vec<Mistake>> {
        Found::new(flags, environment).load()
    }

    /// Whether anybody may read without an account.
    pub fn anonymous_may_read(&self) -> bool {
        self.resolve(self.access.anonymous_read)
    }

    /// When clients fetch tarballs from the bucket.
    pub fn redirects(&self) -> Redirects {
        let usual = match self.server.home {
            Home::Machine => Redirect::Never,
            // What leaves a function has to fit into 6 MB.
            Home::Lambda => Redirect::Always,
        };
        Redirects { to: self.redirect.unwrap_or(usual), lasts: self.redirect_lasts }
    }

    /// Whether packages may not be changed. Accounts, tokens and what is kept of upstreams are no packages.
    pub fn is_read_only(&self) -> bool {
        is_read_only(self.storage.read_only, self.storage.is_taken_over)
    }

    /// How strangers may make an account.
    pub fn registration(&self) -> Registration {
        match self.access.registration {
            RegistrationSetting::Set(registration) => registration,
            RegistrationSetting::Auto if self.server.is_local_only() && self.github.is_none() => Registration::Open,
            RegistrationSetting::Auto => Registration::Closed,
        }
    }

    /// The rules of access, and what is wrong with them.
    pub fn access_policy(&self) -> Result<AccessPolicy, Vec<RuleError>> {
        AccessPolicy::new(AccessPolicySettings {
            anonymous_read: self.anonymous_may_read(),
            owners_only: self.access.owners_only,
            admins: self.access.admins.clone(),
            rules: self.access.rules.clone(),
            has_github: self.github.is_some(),
            has_service_token: self.github.as_ref().is_some_and(|github| github.client.service_token.is_some()),
            issuers: self.issuers.iter().map(|issuer| issuer.name.clone()).collect(),
        })
    }

    /// How callers are known.
    pub fn auth(&self, access: &AccessPolicy) -> auth::Settings {
        auth::Settings {
            name: "Holdfast".to_owned(),
            registration: self.registration(),
            github: self.github.as_ref().map(|github| GitHubSettings {
                client: github.client.clone(),
                organizations: github.organizations.clone(),
                remember: github.remember,
                outage: github.outage,
            }),
            groups: GroupNeeds {
                organizations: access.needs_organizations(),
                teams: access.needs_teams(),
                repositories: access.repositories(),
            },
            issuers: self.issuers.clone(),
        }
    }

    fn resolve(&self, setting: Auto) -> bool {
        match setting {
            // Who has set up GitHub has a directory of people, and wants them to sign in.
            Auto::Auto if self.github.is_some() => false,
            Auto::Auto => self.server.is_local_only(),
            Auto::Open => true,
            Auto::Closed => false,
        }
    }

    /// The address under which this machine reaches the server, for messages.
    pub fn local_url(&self, port: u16) -> String {
        let ip = self.server.listen.ip();
        let host =
            if ip.is_unspecified() { "localhost".to_owned() } else { SocketAddr::new(ip, port).ip().to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        format!("http://{host}:{port}")
    }

    /// The address that people type, with a slash at its end. Clients keep a token under the address that was typed: so
    /// everything that tells one tells `localhost`.
    pub fn typed_url(&self, port: u16) -> String {
        let local = || format!("{}/", self.local_url(port).replace("//127.0.0.1:", "//localhost:"));
        self.server.public_url.as_ref().map_or_else(local, ToString::to_string)
    }

    /// The sinks, ready to be told. What they send has the address that people type.
    ///
    /// # Errors
    /// When requests cannot be made at all.
    pub fn sinks_over(&self, store: &Store, clock: &Clock) -> Result<Sinks, SinkError> {
        Sinks::new(&self.sinks, store, clock, &self.typed_url(self.server.listen.port()))
    }

    /// The upstream that turns out to be this server, if one does: it would ask itself for ever.
    pub fn upstream_that_is_this_server(&self) -> Option<&UpstreamSettings> {
        self.upstreams.iter().find(|upstream| self.server.is_at(&upstream.client.url))
    }
}

/// What is set, before it is looked at as a whole.
#[derive(Clone)]
struct Found {
    home: Home,
    file: Option<PathBuf>,
    values: layers::Values,
    mistakes: Vec<Mistake>,
    unused: Vec<&'static str>,
}

impl Found {
    fn new(flags: &Flags, environment: Vec<(String, String)>) -> Self {
        let home = Home::of(&environment);
        let (mut layers, mut mistakes) = (Vec::new(), Vec::new());
        let named = flags.file.clone().or_else(|| {
            environment.iter().find(|(name, _)| name == "HOLDFAST_CONFIG").map(|(_, path)| PathBuf::from(path))
        });
        let file = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.is_file()));
        if let Some(path) = &file {
            collect(Layer::file(path), &mut layers, &mut mistakes);
        }
        // Before our own variables and after the file: who moves here sets ours one after the other.
        layers.extend(older_system::layer(&environment));
        layers.extend(traces::layer(&environment));
        let unused = older_system::unused(&environment);
        layers.push(Layer::environment(environment));
        layers.push(Layer::flags(&flags.values));
        // The data directory is itself a setting, so what it remembers is looked up last and put first.
        let remembered = layers::data_directory(&layers).unwrap_or_else(|| Settings::default().storage.directory);
        let remembered = remembered_file(&remembered);
        if remembered.is_file() {
            let mut first = Vec::new();
            collect(Layer::remembered(&remembered), &mut first, &mut mistakes);
            layers.splice(0..0, first);
        }
        layers.splice(0..0, home.defaults());
        Self { home, file, values: layers::over_one_another(layers), mistakes, unused }
    }

    fn load(self) -> Result<Loaded, Vec<Mistake>> {
        let mut loaded = layers::settings_of(self.values, self.mistakes)?;
        loaded.settings.server.home = self.home;
        loaded.unused = self.unused;
        loaded.file = self.file;
        older_system::finish(&mut loaded.settings, &loaded.shown);
        let mut mistakes: Vec<Mistake> = match loaded.settings.access_policy() {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|error| Mistake::in_rules(&error.to_string())).collect(),
        };
        if let Err(error) = loaded.settings.policy_rules() {
            let path = &loaded.settings.policy.rules_file;
            mistakes.extend(error.lines().iter().map(|line| Mistake::in_file(line, path)));
        }
        if mistakes.is_empty() { Ok(loaded) } else { Err(mistakes) }
    }
}

impl Server {
    /// Whether only this machine is served: the listener is on loopback and nothing says that a proxy stands in front
    /// of it. Then, and only then, everybody is let in unless `access` says otherwise. Lambda is a proxy whatever is set.
    pub fn is_local_only(&self) -> bool {
        let is_public = self.public_url.as_ref().is_some_and(|url| !is_loopback_host(url));
        self.is_on_loopback() && self.trusted_proxies.is_empty() && !is_public
    }

    /// Whether nothing but this machine reaches the listener.
    pub fn is_on_loopback(&self) -> bool {
        self.home == Home::Machine && self.listen.ip().is_loopback()
    }

    /// Whether a URL leads to this very server.
    pub fn is_at(&self, url: &Url) -> bool {
        let same =
            |own: &Url| own.host_str() == url.host_str() && own.port_or_known_default() == url.port_or_known_default();
        let listens_there = self.home == Home::Machine
            && is_loopback_host(url)
            && url.port_or_known_default() == Some(self.listen.port())
            && (self.listen.ip().is_loopback() || self.listen.ip().is_unspecified());
        listens_there || self.public_url.as_ref().is_some_and(same)
    }
}

/// GitHub Actions and gitlab.com. A package has to trust a workflow before that is of any use to it.
fn known_issuers() -> Vec<IssuerSettings> {
    let known = [
        ("github", IssuerKind::GitHub, "https://token.actions.githubusercontent.com"),
        ("gitlab", IssuerKind::GitLab, "https://gitlab.com"),
    ];
    let issuer = |(name, kind, url): (&str, IssuerKind, &str)| IssuerSettings {
        name: name.to_owned(),
        url: url.to_owned(),
        kind,
        audience: None,
    };
    known.into_iter().map(issuer).collect()
}

fn is_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        None => false,
    }
}

fn collect(layer: Result<Layer, Mistake>, layers: &mut Vec<Layer>, mistakes: &mut Vec<Mistake>) {
    match layer {
        Ok(layer) => layers.push(layer),
        Err(mistake) => mistakes.push(mistake),
    }
}

/// Where the settings file that keeps what was found lies.
fn remembered_file(directory: &Path) -> PathBuf {
    directory.join(REMEMBERED_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Loaded, Vec<Mistake>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.toml");
        std::fs::write(&path, file).unwrap();
        let flags =
            Flags { file: Some(path), values: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect() };
        // A data directory of the test's own: what somebody's server remembered in the working directory is none of its
        // business.
        let data = ("HOLDFAST__STORAGE__DIRECTORY", directory.path().to_str().unwrap());
        let environment = std::iter::once(&data).chain(environment);
        Settings::load_with(&flags, environment.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let loaded = load(
            "[server]\nlisten = \"127.0.0.1:1\"\npublic_url = \"https://a.example/\"\n[packages]\nclaims = [\"@acme/*\"]",
            &[("HOLDFAST__SERVER__LISTEN", "127.0.0.1:2"), ("HOLDFAST__SERVER__MAX_CONNECTIONS", "7"), ("OTHER", "x")],
            &[("server.listen", "127.0.0.1:3")],
        )
        .unwrap();
        assert_eq!(loaded.settings.server.listen.port(), 3);
        assert_eq!(loaded.settings.server.max_connections, 7);
        assert_eq!(loaded.settings.packages.claims.len(), 1);
        let shown = |key: &str| loaded.shown.iter().find(|line| line.key == key).unwrap();
        assert_eq!(shown("server.listen").origin, "flag");
        assert_eq!(shown("server.max_connections").origin, "HOLDFAST__SERVER__MAX_CONNECTIONS");
        assert!(shown("server.public_url").origin.ends_with("holdfast.toml"));
        assert_eq!(shown("cache.memory_bytes").origin, "default");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = load(
            "typo = 1\n[server]\nlisten = \"nowhere\"\ntrusted_proxies = [\"x\"]\n[upstreams.a]\npackages = [\"**\"]",
            &[("HOLDFAST__ACCESS__REGISTRATION", "perhaps")],
            &[],
        )
        .unwrap_err();
        let text = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for part in ["typo", "server.listen", "trusted_proxies", "registration", "upstreams.a.url"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert_eq!(mistakes.len(), 5, "{text}");
    }

    #[test]
    fn a_bucket_of_another_program_is_read_only_until_somebody_says_otherwise() {
        for (setting, is_taken_over, expected) in [
            (ReadOnly::Auto, false, false),
            (ReadOnly::Auto, true, true),
            (ReadOnly::Set(false), true, false),
            (ReadOnly::Set(true), false, true),
        ] {
            assert_eq!(is_read_only(setting, is_taken_over), expected, "{setting:?} {is_taken_over}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let loaded = load(
            "[upstreams.partner]\nurl = \"https://p.example/\"\npackages = [\"@p/*\"]",
            &[("HOLDFAST__UPSTREAMS__PARTNER__TOKEN", "s3cret")],
            &[],
        )
        .unwrap();
        assert!(!format!("{:?}", loaded.shown).contains("s3cret"));
        assert!(!format!("{:?}", loaded.settings).contains("s3cret"));
        assert_eq!(loaded.settings.upstreams[0].client.token.as_ref().unwrap().expose(), "s3cret");
    }

    #[test]
    fn the_variables_of_opentelemetry_say_where_traces_are_sent() {
        let traces = |environment: &[(&str, &str)]| load("", environment, &[]).unwrap().settings.traces;
        let endpoint = |environment: &[(&str, &str)]| traces(environment).map(|traces| traces.endpoint.to_string());
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318");
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector.example/elsewhere");
        let own = ("HOLDFAST__TRACES__OTLP_ENDPOINT", "https://own.example/v1/traces");
        for (environment, expected) in [
            (&[][..], None),
            (&[base], Some("http://collector.example:4318/v1/traces")),
            (&[base, whole], Some("http://collector.example/elsewhere")),
            (&[base, own], Some("https://own.example/v1/traces")),
            (&[base, ("HOLDFAST__TRACES__OTLP_ENDPOINT", "")], None),
            (&[base, ("OTEL_SDK_DISABLED", "true")], None),
            (&[base, ("OTEL_TRACES_EXPORTER", "none")], None),
            (&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], None),
            (
                &[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
                Some("http://collector.example:4318/v1/traces"),
            ),
            (&[own, ("OTEL_SDK_DISABLED", "true")], Some("https://own.example/v1/traces")),
        ] {
            assert_eq!(endpoint(environment).as_deref(), expected, "{environment:?}");
        }
        let told = traces(&[
            base,
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=npm,team=web"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let told = told.unwrap();
        assert_eq!((told.service_name.as_str(), told.ratio), ("npm", 0.25));
        assert_eq!(told.headers[0].1, "s3cret");
        assert!(!format!("{told:?}").contains("s3cret"));
        let ratio = |environment: &[(&str, &str)]| traces(environment).unwrap().ratio.to_string();
        assert_eq!(ratio(&[base]), "1");
        assert_eq!(ratio(&[base, ("OTEL_TRACES_SAMPLER", "always_off")]), "0");
    }

    #[test]
    fn mistakes_in_traces_are_told_without_what_is_secret() {
        for (key, value) in [
            ("HOLDFAST__TRACES__OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:canary@collector.example"),
            ("HOLDFAST__TRACES__HEADERS", "canary"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "in valid=canary"),
            ("HOLDFAST__TRACES__RATIO", "1.5"),
            ("HOLDFAST__TRACES__ATTRIBUTES", "canary"),
        ] {
            let mistakes = load("", &[(key, value)], &[]).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{key}: {mistakes:?}");
            assert!(!mistakes[0].to_string().contains("canary"), "{}", mistakes[0]);
        }
    }

    #[test]
    fn a_variable_can_name_every_upstream() {
        let loaded = load(
            "[upstreams.our-partner]\nurl = \"https://p.example/\"\npackages = [\"@p/*\"]",
            &[
                ("HOLDFAST__UPSTREAMS__OUR_PARTNER__TOKEN", "s3cret"),
                ("HOLDFAST__UPSTREAMS__OUR_PARTNER__FRESH_SECONDS", "7"),
            ],
            &[],
        )
        .unwrap();
        let client = &loaded.settings.upstreams[0].client;
        assert_eq!(client.token.as_ref().unwrap().expose(), "s3cret");
        assert_eq!(client.freshness.longest.as_secs(), 7);
    }

    #[test]
    fn inside_lambda_nobody_is_local() {
        let inside = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");
        for listen in ["127.0.0.1:4873", "0.0.0.0:4873"] {
            let loaded = load("", &[inside], &[("server.listen", listen)]).unwrap();
            let settings = &loaded.settings;
            assert_eq!(settings.server.home, Home::Lambda);
            assert!(!settings.server.is_local_only() && !settings.server.is_on_loopback());
            assert!(!settings.anonymous_may_read());
            assert_eq!(settings.registration(), Registration::Closed);
            assert!(settings.log.json);
            let json = loaded.shown.iter().find(|line| line.key == "log.json").unwrap();
            assert_eq!(json.origin, "AWS_LAMBDA_RUNTIME_API");
        }
        let text = load("[log]\njson = false", &[inside], &[]).unwrap();
        assert!(!text.settings.log.json);
        assert_eq!(load("", &[], &[]).unwrap().settings.server.home, Home::Machine);
    }

    #[test]
    fn an_upstream_that_is_this_server_is_found() {
        let own = |url: &str| {
            load("", &[], &[("upstreams.default.url", url), ("server.public_url", "https://npm.acme.example/")])
                .unwrap()
                .settings
                .upstream_that_is_this_server()
                .is_some()
        };
        assert!(own("http://localhost:4873/"));
        assert!(own("http://127.0.0.1:4873/npm/"));
        assert!(own("https://npm.acme.example/"));
        assert!(!own("http://127.0.0.1:4874/"));
        assert!(!own("https://other.example/"));
    }
}
