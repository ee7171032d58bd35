//! Real clients: what is known of each, and how to run one so that nothing of this machine reaches it.
//!
//! Each [`Client`] has a home, cache, prefix and settings of its own, in a folder that goes away with it.

use std::fmt::{self, Write as _};
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{Log, Server, signal};
use super::tail;

/// A command of a client takes seconds; one that retries an upstream that is down takes more.
const COMMAND_LIMIT: Duration = Duration::from_mins(2);
/// A client that waits for somebody at a browser.
const SESSION_LIMIT: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Npm,
    Pnpm,
    YarnClassic,
    YarnBerry,
    Bun,
    Deno,
}

/// A client of one major version. Its exact version is in `tests/clients/<folder>/package.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Below `tests/clients` and `target/clients`.
    pub(crate) folder: &'static str,
    pub(crate) kind: Kind,
    pub(crate) major: u32,
}

const fn tool(folder: &'static str, kind: Kind, major: u32) -> Tool {
    Tool { folder, kind, major }
}

pub(crate) const NPM_6: Tool = tool("npm-6", Kind::Npm, 6);
pub(crate) const NPM_8: Tool = tool("npm-8", Kind::Npm, 8);
pub(crate) const NPM_10: Tool = tool("npm-10", Kind::Npm, 10);
pub(crate) const NPM_11: Tool = tool("npm-11", Kind::Npm, 11);
pub(crate) const NPM_12: Tool = tool("npm-12", Kind::Npm, 12);
pub(crate) const PNPM_8: Tool = tool("pnpm-8", Kind::Pnpm, 8);
pub(crate) const PNPM_10: Tool = tool("pnpm-10", Kind::Pnpm, 10);
pub(crate) const PNPM_11: Tool = tool("pnpm-11", Kind::Pnpm, 11);
pub(crate) const PNPM_12: Tool = tool("pnpm-12", Kind::Pnpm, 12);
pub(crate) const YARN_1: Tool = tool("yarn-1", Kind::YarnClassic, 1);
pub(crate) const YARN_3: Tool = tool("yarn-3", Kind::YarnBerry, 3);
pub(crate) const YARN_4: Tool = tool("yarn-4", Kind::YarnBerry, 4);
pub(crate) const BUN: Tool = tool("bun", Kind::Bun, 1);
pub(crate) const DENO: Tool = tool("deno", Kind::Deno, 2);

/// All of them, in the order of the matrix in the documentation.
pub(crate) const ALL: &[Tool] =
    &[NPM_6, NPM_8, NPM_10, NPM_11, NPM_12, PNPM_8, PNPM_10, PNPM_11, PNPM_12, YARN_1, YARN_3, YARN_4, BUN, DENO];

impl Tool {
    fn command(self) -> &'static str {
        match self.kind {
            Kind::Npm => "npm",
            Kind::Pnpm => "pnpm",
            Kind::YarnClassic | Kind::YarnBerry => "yarn",
            Kind::Bun => "bun",
            Kind::Deno => "deno",
        }
    }

    /// npm 12 and pnpm 11 refuse Node 20, which is what many machines have. All others run on both; npm 6 only on the old.
    fn needs_newer_node(self) -> bool {
        matches!((self.kind, self.major), (Kind::Npm, 12..) | (Kind::Pnpm, 11..))
    }

    /// The lock file that it writes.
    pub(crate) fn lock_file(self) -> &'static str {
        match self.kind {
            Kind::Npm => "package-lock.json",
            Kind::Pnpm => "pnpm-lock.yaml",
            Kind::YarnClassic | Kind::YarnBerry => "yarn.lock",
            Kind::Bun => "bun.lock",
            Kind::Deno => "deno.lock",
        }
    }
}

/// Where `scripts/clients` puts the clients.
pub(crate) fn clients_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

/// Whether `scripts/clients` has not brought one of these, of which it says so; in CI it fails here.
pub(crate) fn is_missing(folders: &[&str]) -> bool {
    let missing: Vec<&str> =
        folders.iter().copied().filter(|folder| !clients_folder().join(folder).join(".installed").exists()).collect();
    if missing.is_empty() {
        return false;
    }
    let names = missing.join(" and ");
    assert!(std::env::var_os("CI").is_none(), "{names} is not there: run scripts/clients");
    eprintln!("skipped: {names} is not there; scripts/clients brings it");
    true
}

pub(super) fn bin_folder(folder: &str) -> PathBuf {
    clients_folder().join(folder).join("node_modules/.bin")
}

/// One user of one client.
///
/// A step that does not go as it should is noted, and the next one is tried: a list of all that is wrong with a client
/// says more than the first of them. The test fails when the client is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) tool: Tool,
    folder: TempDir,
    registry: String,
    log: Log,
    complaints: Complaints,
}

/// What went wrong so far: the place, what was wrong, and the command with all its output.
type Complaints = Arc<Mutex<Vec<(String, String)>>>;

/// How many failed steps are shown with all their output.
const SHOWN_IN_FULL: usize = 4;

impl Drop for Client {
    fn drop(&mut self) {
        let complaints = std::mem::take(&mut *self.complaints.lock().unwrap());
        if complaints.is_empty() {
            return;
        }
        let list: Vec<&str> = complaints.iter().map(|(what, _)| what.as_str()).collect();
        let outputs: Vec<&str> = complaints
            .iter()
            .map(|(_, output)| output.as_str())
            .filter(|output| !output.is_empty())
            .take(SHOWN_IN_FULL)
            .collect();
        let text = format!(
            "{} failed in {} steps:\n{}\n\n{}",
            self.tool.folder,
            list.len(),
            list.join("\n"),
            outputs.join("\n\n")
        );
        // A panic while another one is under way would end the process without a word.
        if std::thread::panicking() {
            eprintln!("{text}");
        } else {
            panic!("{text}");
        }
    }
}

impl Client {
    /// A client that uses the server as its registry, with nobody logged in.
    ///
    /// `None` when `scripts/clients` has not brought it. Say so is all that a test can do then; in CI it fails here.
    pub(crate) fn of(tool: Tool, server: &Server) -> Option<Self> {
        Self::at(tool, &server.url(), server.log())
    }

    /// The same for a registry at this address, which is not a server.
    pub(crate) fn at(tool: Tool, url: &str, log: Log) -> Option<Self> {
        if is_missing(&[tool.folder, "node"]) {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("holdfast-client-").tempdir().unwrap();
        let client = Self { tool, folder, registry: url.to_owned(), log, complaints: Complaints::default() };
        std::fs::create_dir_all(client.home()).unwrap();
        client.configure(None);
        Some(client)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn cache(&self) -> PathBuf {
        self.home().join(".cache")
    }

    /// Writes the token into the client's settings, as its own login would.
    pub(crate) fn log_in_with(&self, token: &str) {
        self.configure(Some(token));
    }

    fn configure(&self, token: Option<&str>) {
        let registry = &self.registry;
        // Settings that are about this test only: quick retries, and no questions to the outside.
        let mut npmrc = format!("registry={registry}\nfetch-retry-mintimeout=100\nfetch-retry-maxtimeout=500\n");
        if matches!(self.tool.kind, Kind::Npm) {
            npmrc.push_str("update-notifier=false\nfund=false\n");
        }
        if let Some(token) = token {
            let key = registry.trim_start_matches("http:");
            writeln!(npmrc, "{key}:_authToken={token}").unwrap();
        }
        std::fs::write(self.home().join(".npmrc"), npmrc).unwrap();
        if self.tool.kind == Kind::YarnClassic {
            // It has a default registry of its own, an alias of the public one, which beats `.npmrc` in some commands.
            std::fs::write(self.home().join(".yarnrc"), format!("registry \"{registry}\"\n")).unwrap();
        }
        if self.tool.kind == Kind::YarnBerry {
            let mut yarnrc = format!(
                "npmRegistryServer: \"{registry}\"\nunsafeHttpWhitelist: [\"127.0.0.1\"]\nnodeLinker: node-modules\n\
                 enableTelemetry: false\nhttpRetry: 1\n"
            );
            if self.tool.major >= 4 {
                // One day by default. What the tests publish is seconds old.
                yarnrc.push_str("npmMinimalAgeGate: 0\n");
            }
            if let Some(token) = token {
                writeln!(yarnrc, "npmAuthToken: \"{token}\"").unwrap();
            }
            std::fs::write(self.home().join(".yarnrc.yml"), yarnrc).unwrap();
        }
    }

    /// Forgets everything that was downloaded.
    pub(crate) fn wipe_cache(&self) {
        let _ = std::fs::remove_dir_all(self.cache());
    }

    /// A new project with this name and these further members of its `package.json`.
    pub(crate) fn project(&self, name: &str, members: &Value) -> PathBuf {
        let folder = self.folder.path().join(name.replace('/', "__"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut manifest = json!({ "name": name, "version": "1.0.0", "license": "MIT" });
        manifest.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        std::fs::write(folder.join("package.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        match self.tool.kind {
            // It looks for the root of the project in the folders above, and stops at a lock file.
            Kind::YarnBerry => std::fs::write(folder.join("yarn.lock"), "").unwrap(),
            // Since pnpm 11 a version has to be a day old by default. Older ones do not know the setting.
            Kind::Pnpm if self.tool.major >= 11 => {
                std::fs::write(folder.join("pnpm-workspace.yaml"), "minimumReleaseAge: 0\n").unwrap();
            }
            Kind::Deno => {
                std::fs::write(folder.join("deno.json"), r#"{"nodeModulesDir":"auto","minimumDependencyAge":"0"}"#)
                    .unwrap();
            }
            _ => {}
        }
        folder
    }

    /// A package to publish, with an `index.js` and a readme.
    pub(crate) fn package(&self, name: &str, version: &str) -> PathBuf {
        let members = json!({
            "version": version, "description": format!("{name}, of a test"), "main": "index.js",
            "keywords": ["holdfast-fixture"],
        });
        let folder = self.project(name, &members);
        std::fs::write(folder.join("index.js"), format!("module.exports = '{name}@{version}'\n")).unwrap();
        std::fs::write(folder.join("README.md"), format!("# {name}\n\nText of a readme.\n")).unwrap();
        folder
    }

    /// Runs the client in a folder.
    pub(crate) async fn run(&self, folder: &Path, args: &[&str]) -> Run {
        let command = self.command(folder, args);
        self.finish(command, args, COMMAND_LIMIT).await
    }

    /// The same as a job of a CI, which finds these in its environment.
    pub(crate) async fn run_in_job(&self, folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = self.command(folder, args);
        command.envs(environment.iter().copied());
        self.finish(command, args, COMMAND_LIMIT).await
    }

    /// The same with a longer limit.
    pub(crate) async fn run_within(&self, limit: Duration, folder: &Path, args: &[&str]) -> Run {
        let command = self.command(folder, args);
        self.finish(command, args, limit).await
    }

    /// Runs the client on a terminal and answers its questions: pairs of a regular expression and the answer to it.
    pub(crate) async fn run_answering(&self, folder: &Path, args: &[&str], answers: &[(&str, &str)]) -> Run {
        let command = self.terminal_command(folder, args, answers, Duration::from_mins(1));
        self.finish(command, args, COMMAND_LIMIT).await
    }

    /// Starts the client on a terminal. It goes on while the test does what its output says, such as to open a page.
    pub(crate) fn start_answering(&self, folder: &Path, args: &[&str], answers: &[(&str, &str)]) -> Session {
        let command = self.terminal_command(folder, args, answers, SESSION_LIMIT);
        let what = format!("{} {}", self.tool.folder, args.join(" "));
        Session::start(command, what, self.log.clone(), Arc::clone(&self.complaints))
    }

    fn terminal_command(&self, folder: &Path, args: &[&str], answers: &[(&str, &str)], limit: Duration) -> Command {
        let plain = self.command(folder, args);
        let task = json!({ "seconds": limit.as_secs(), "answers": answers }).to_string();
        let driver = self.folder.path().join("terminal.py");
        std::fs::write(&driver, include_str!("terminal.py")).unwrap();
        let mut command = Command::new("python3");
        command.arg(&driver).arg(task).arg(plain.get_program()).args(plain.get_args());
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // Somebody is at the terminal, and it understands little, so that the output stays readable.
        command.env_remove("CI").env("TERM", "dumb").current_dir(folder);
        command
    }

    /// Adds packages to a project, as a user would.
    pub(crate) async fn add(&self, project: &Path, packages: &[&str]) -> Run {
        let prefixed: Vec<String> = packages.iter().map(|package| format!("npm:{package}")).collect();
        let (command, packages) = match self.tool.kind {
            Kind::Npm => ("install", packages.to_vec()),
            Kind::Deno => ("add", prefixed.iter().map(String::as_str).collect()),
            _ => ("add", packages.to_vec()),
        };
        self.run(project, &[&[command], packages.as_slice()].concat()).await
    }

    /// Installs what `package.json` says, with or without a lock file, which may change.
    pub(crate) async fn install(&self, project: &Path) -> Run {
        let args: &[&str] = match self.tool.kind {
            Kind::Pnpm => &["install", "--no-frozen-lockfile"],
            Kind::YarnBerry => &["install", "--no-immutable"],
            _ => &["install"],
        };
        self.run(project, args).await
    }

    /// Installs exactly what the lock file says.
    pub(crate) async fn install_frozen(&self, project: &Path) -> Run {
        let args: &[&str] = match self.tool.kind {
            Kind::Npm => &["ci"],
            Kind::YarnBerry => &["install", "--immutable"],
            Kind::Pnpm | Kind::YarnClassic | Kind::Bun => &["install", "--frozen-lockfile"],
            Kind::Deno => &["install", "--frozen"],
        };
        self.run(project, args).await
    }

    /// Publishes a package of version 1.0.0, asking nothing.
    pub(crate) async fn publish(&self, package: &Path) {
        let args: &[&str] = match self.tool.kind {
            Kind::Pnpm => &["publish", "--access", "public", "--no-git-checks"],
            Kind::YarnClassic => &["publish", "--access", "public", "--non-interactive", "--new-version", "1.0.0"],
            Kind::YarnBerry => {
                self.install(package).await.ok();
                &["npm", "publish", "--access", "public"]
            }
            Kind::Npm | Kind::Bun | Kind::Deno => &["publish", "--access", "public"],
        };
        self.run(package, args).await.ok();
    }

    /// These packages have to be installed in these versions.
    #[track_caller]
    pub(crate) fn has_installed(&self, project: &Path, packages: &[(&str, &str)]) {
        for (name, version) in packages {
            let installed = installed_version(project, name);
            let found = installed.as_deref().unwrap_or("nothing");
            self.expect(found == *version, &format!("{name} should be installed as {version}, and there is {found}"));
        }
    }

    /// Any other condition that is not about one command.
    #[track_caller]
    pub(crate) fn expect(&self, right: bool, otherwise: &str) {
        if !right {
            let what = format!("{}: {otherwise}", std::panic::Location::caller());
            self.complaints.lock().unwrap().push((what, String::new()));
        }
    }

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let (home, cache) = (self.home(), self.cache());
        let mut path = vec![bin_folder(self.tool.folder)];
        if self.tool.needs_newer_node() {
            path.push(bin_folder("node"));
        }
        if self.tool.kind == Kind::Pnpm && self.tool.major <= 10 {
            // It hands publish, owner, dist-tag and others to the npm that it finds.
            path.push(bin_folder("npm-10"));
        }
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));

        let mut command = Command::new(bin_folder(self.tool.folder).join(self.tool.command()));
        command.args(args).current_dir(folder).env_clear();
        command.env("PATH", std::env::join_paths(path).unwrap()).env("HOME", &home).env("LANG", "C.UTF-8");
        command.env("CI", "true").env("NO_COLOR", "1").env("TMPDIR", self.folder.path());
        for (name, part) in [("CACHE", "xdg"), ("DATA", "data"), ("STATE", "state")] {
            command.env(format!("XDG_{name}_HOME"), cache.join(part));
        }
        command.env("XDG_CONFIG_HOME", home.join(".config"));
        match self.tool.kind {
            Kind::Npm | Kind::Pnpm => {
                command.env("npm_config_cache", cache.join("npm")).env("npm_config_prefix", home.join("prefix"));
                command.env("npm_config_globalconfig", home.join("no-npmrc"));
            }
            Kind::YarnClassic => {
                command.env("YARN_CACHE_FOLDER", cache.join("yarn")).env("YARN_IGNORE_PATH", "1");
                // As root it keeps names in a folder of the machine, whatever its home is, unless it takes root for faked.
                command.env("FAKEROOTKEY", "1");
            }
            Kind::YarnBerry => {
                command.env("YARN_GLOBAL_FOLDER", cache.join("berry")).env("YARN_IGNORE_PATH", "1");
                command.env("YARN_ENABLE_GLOBAL_CACHE", "true").env("YARN_ENABLE_IMMUTABLE_INSTALLS", "false");
            }
            Kind::Bun => {
                command.env("BUN_INSTALL", home.join(".bun")).env("BUN_INSTALL_CACHE_DIR", cache.join("bun"));
                command.env("DO_NOT_TRACK", "1");
            }
            Kind::Deno => {
                command.env("DENO_DIR", cache.join("deno")).env("DENO_NO_UPDATE_CHECK", "1");
            }
        }
        command
    }

    async fn finish(&self, command: Command, args: &[&str], limit: Duration) -> Run {
        let what = format!("{} {}", self.tool.folder, args.join(" "));
        let (log, complaints) = (self.log.clone(), Arc::clone(&self.complaints));
        tokio::task::spawn_blocking(move || finish(command, what, limit, log, complaints)).await.unwrap()
    }
}

fn finish(mut command: Command, what: String, limit: Duration, log: Log, complaints: Complaints) -> Run {
    let began = Instant::now();
    // A group of its own, so that a client that hangs goes with the processes that it started.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let group = format!("-{}", child.id());
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let (ended, wait) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    let status = if let Ok(status) = wait.recv_timeout(limit) {
        status.unwrap().code()
    } else {
        signal("-KILL", &group);
        None
    };
    let text = |stream: mpsc::Receiver<Vec<u8>>| {
        // A grandchild that got away keeps the pipe open; what it writes is of no interest.
        String::from_utf8_lossy(&stream.recv_timeout(Duration::from_secs(10)).unwrap_or_default()).into_owned()
    };
    Run {
        what,
        status,
        stdout: text(stdout),
        stderr: text(stderr),
        took: began.elapsed(),
        log,
        complaints,
        blamed: false,
    }
}

/// A client that runs on a terminal while the test does something else. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    what: String,
    child: Child,
    more: Option<ChildStdin>,
    output: Arc<(Mutex<String>, Condvar)>,
    began: Instant,
    log: Log,
    complaints: Complaints,
}

impl Session {
    fn start(mut command: Command, what: String, log: Log, complaints: Complaints) -> Self {
        let began = Instant::now();
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let output = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (mut stream, shared) = (child.stdout.take().unwrap(), Arc::clone(&output));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                shared.0.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
                shared.1.notify_all();
            }
        });
        let more = child.stdin.take();
        Self { what, child, more, output, began, log, complaints }
    }

    fn text(&self) -> String {
        self.output.0.lock().unwrap().clone()
    }

    /// One more answer, to a question that it has asked or that is to come.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        let line = json!([question, answer]);
        // Where it has ended, its output says why.
        let _ = writeln!(self.more.as_mut().unwrap(), "{line}");
    }

    /// Waits until its output has what is looked for; `None`, after a complaint, when it ends without.
    #[track_caller]
    pub(crate) fn wait_for<T>(&mut self, wanted: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let place = std::panic::Location::caller();
        let deadline = Instant::now() + SESSION_LIMIT;
        loop {
            let has_ended = self.child.try_wait().unwrap().is_some();
            let text = self.text();
            if let Some(found) = find(&plain_text(&text)) {
                return Some(found);
            }
            if has_ended || Instant::now() > deadline {
                let what = format!("{place}: {}: it should have shown {wanted}", self.what);
                let output = format!("{what}\n{text}\n--- end of the server's log\n{}", self.log.tail(25));
                self.complaints.lock().unwrap().push((what, output));
                return None;
            }
            let guard = self.output.0.lock().unwrap();
            // A short wait, because the end of the process does not wake us.
            drop(self.output.1.wait_timeout(guard, Duration::from_millis(20)).unwrap());
        }
    }

    /// The first address in its output that has this in it.
    #[track_caller]
    pub(crate) fn url_with(&mut self, part: &str) -> Option<String> {
        self.wait_for(&format!("an address with {part}"), |text| {
            // Only whole words: the rest may still be coming.
            let whole = &text[..text.rfind(char::is_whitespace)?];
            let word = whole.split_whitespace().find(|word| word.starts_with("http") && word.contains(part))?;
            Some(word.to_owned())
        })
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Run {
        let deadline = Instant::now() + SESSION_LIMIT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status.code(),
                None if Instant::now() > deadline => break None,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        Run {
            what: self.what.clone(),
            status,
            stdout: plain_text(&self.text()),
            stderr: String::new(),
            took: self.began.elapsed(),
            log: self.log.clone(),
            complaints: Arc::clone(&self.complaints),
            blamed: false,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The end of the terminal is what ends the client on it.
        signal("-KILL", &format!("-{}", self.child.id()));
        let _ = self.child.wait();
    }
}

/// Without colours and moves of the cursor.
fn plain_text(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut plain, part| {
        let rest = part.strip_prefix('[').map_or(part, |part| {
            let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
            &part[end..]
        });
        plain.push_str(rest);
        plain
    })
}

fn read_all(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = send.send(bytes);
    });
    receive
}

/// A command that ended, or was ended.
#[derive(Debug)]
pub(crate) struct Run {
    what: String,
    /// `None` when a signal ended it, such as ours after the time-out.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    log: Log,
    complaints: Complaints,
    blamed: bool,
}

impl Run {
    /// The command has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        let right = self.status == Some(0);
        self.expect(right, "it failed")
    }

    /// The command has to fail, by itself.
    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        let right = matches!(self.status, Some(1..));
        self.expect(right, "it should have failed")
    }

    /// The output, of either stream, has to have this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let right = self.output().contains(text);
        self.expect(right, &format!("it should have said {text:?}"))
    }

    /// The output may not have this text.
    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> Self {
        let right = !self.output().contains(text);
        self.expect(right, &format!("it should not have said {text:?}"))
    }

    /// Any other condition on this command.
    #[track_caller]
    pub(crate) fn expect(mut self, right: bool, otherwise: &str) -> Self {
        // One complaint is enough: a command that failed does not say what it should either.
        if !right && !self.blamed {
            self.blamed = true;
            let what = format!("{}: {}: {otherwise}", std::panic::Location::caller(), self.what);
            self.complaints.lock().unwrap().push((what.clone(), format!("{what}\n{self}")));
        }
        self
    }

    /// What stdout has, as JSON; null after a complaint when it has none.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        self.expect(parsed.is_ok(), "its stdout should be JSON");
        parsed.unwrap_or_default()
    }

    /// Both streams.
    pub(crate) fn output(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status =
            self.status.map_or("ended by a signal (it took too long?)".into(), |code| format!("status {code}"));
        writeln!(f, "--- {}: {status} after {:.1} s", self.what, self.took.as_secs_f32())?;
        writeln!(f, "--- stdout\n{}", tail(&self.stdout, 60))?;
        writeln!(f, "--- stderr\n{}", tail(&self.stderr, 60))?;
        write!(f, "--- end of the server's log\n{}", self.log.tail(25))
    }
}

/// The version of a package that is installed in a project.
pub(crate) fn installed_version(project: &Path, name: &str) -> Option<String> {
    let text = std::fs::read(project.join("node_modules").join(name).join("package.json")).ok()?;
    let manifest: Value = serde_json::from_slice(&text).ok()?;
    Some(manifest["version"].as_str()?.to_owned())
}

/// Removes what an install made, but not the lock file.
pub(crate) fn remove_modules(project: &Path) {
    let _ = std::fs::remove_dir_all(project.join("node_modules"));
}
