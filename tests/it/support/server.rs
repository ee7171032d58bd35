//! The server as users run it: a process with a data directory, which can be killed and started again.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bucket::CREDENTIALS;
use super::http::Http;
use super::network::Network;
use super::object_server::ObjectServer;
use super::{PATIENCE, stable_port, tail};

/// What the process wrote to stderr and stdout. Cheap to clone; goes on filling.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<String>, Condvar)>);

impl Log {
    fn push(&self, line: &str) {
        let mut text = self.0.0.lock().unwrap();
        text.push_str(line);
        text.push('\n');
        self.0.1.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().clone()
    }

    pub(crate) fn tail(&self, lines: usize) -> String {
        tail(&self.text(), lines)
    }

    fn length(&self) -> usize {
        self.0.0.lock().unwrap().len()
    }

    /// Waits until something is found in what was written after `from`, or the process ended, or patience did.
    pub(super) fn wait_for<T>(
        &self,
        from: usize,
        child: &mut Child,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&text[from..]) {
                return Ok(found);
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("nothing came within {PATIENCE:?}"));
            }
            // A short wait, because the end of the process does not wake us.
            text = self.0.1.wait_timeout(text, Duration::from_millis(20)).unwrap().0;
        }
    }
}

/// How to start a server.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    upstream: Option<String>,
    port: u16,
    public_url: Option<String>,
    config: Option<String>,
    env: Vec<(String, String)>,
    /// What is in the data directory before the first start.
    files: Vec<(String, Vec<u8>)>,
    /// Neither an upstream nor its absence is said by a flag.
    has_upstream_elsewhere: bool,
    /// The network namespace that it runs in, in place of this one, and its address there.
    namespace: Option<(String, String)>,
    /// The bucket of `HOLDFAST_TEST_STORE`, which goes with the server.
    _bucket: Option<Arc<ObjectServer>>,
}

impl Settings {
    /// Hosted packages only.
    pub(crate) fn alone() -> Self {
        Self {
            upstream: None,
            port: 0,
            public_url: None,
            config: None,
            env: Vec::new(),
            files: Vec::new(),
            has_upstream_elsewhere: false,
            namespace: None,
            _bucket: None,
        }
    }

    /// Only what the environment says, apart from where it listens and where its data is.
    pub(crate) fn of_environment() -> Self {
        Self { has_upstream_elsewhere: true, ..Self::alone() }
    }

    /// A file in the data directory, before the first start.
    pub(crate) fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.to_owned(), content.into()));
        self
    }

    /// The port, where it was chosen already.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// In front of another registry.
    pub(crate) fn upstream(url: &str) -> Self {
        Self { upstream: Some(url.to_owned()), ..Self::alone() }
    }

    /// Listens on the same port after a restart, also when the first start did not choose it.
    pub(crate) fn stable_port(mut self) -> Self {
        self.port = stable_port();
        self
    }

    /// The address that clients are to use, when it is not the one that the server listens on.
    pub(crate) fn public_url(mut self, url: &str) -> Self {
        self.public_url = Some(url.to_owned());
        self
    }

    /// Mounted under a path, with the server's own port.
    pub(crate) fn prefix(self, path: &str) -> Self {
        let settings = self.stable_port();
        let url = format!("http://127.0.0.1:{}{path}", settings.port);
        settings.public_url(&url)
    }

    /// The text of a settings file.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// One setting, as `HOLDFAST__SECTION__KEY`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In a network of its own.
    pub(crate) fn inside(mut self, network: &Network) -> Self {
        self.namespace = Some((network.name().to_owned(), network.inside()));
        self
    }

    /// Over a bucket of a server that speaks S3, with patience for a test: trouble shows in seconds.
    pub(crate) fn bucket(self, endpoint: &str, address: &str) -> Self {
        self.env("HOLDFAST__STORAGE__URL", address)
            .env("HOLDFAST__STORAGE__ENDPOINT", endpoint)
            .env("HOLDFAST__STORAGE__REGION", "us-east-1")
            .env("HOLDFAST__STORAGE__ACCESS_KEY_ID", CREDENTIALS.0)
            .env("HOLDFAST__STORAGE__SECRET_ACCESS_KEY", CREDENTIALS.1)
            .env("HOLDFAST__STORAGE__TIMEOUT_SECONDS", "5")
            .env("HOLDFAST__STORAGE__IDLE_SECONDS", "2")
    }

    /// Over the store that `HOLDFAST_TEST_STORE` names, so that one suite can be held against each: `s3` is a new bucket
    /// for each server. Without the variable, or where a test has files in the directory, a directory.
    fn over_wanted_store(self) -> Self {
        let is_s3 = std::env::var_os("HOLDFAST_TEST_STORE").is_some_and(|store| store == "s3");
        let has_own = !self.files.is_empty() || self.env.iter().any(|(name, _)| name == "HOLDFAST__STORAGE__URL");
        if !is_s3 || has_own {
            return self;
        }
        let bucket = Arc::new(ObjectServer::start("packages"));
        Self { _bucket: Some(Arc::clone(&bucket)), ..self.bucket(bucket.url(), "s3://packages") }
    }

    pub(crate) async fn start(self) -> Server {
        Server::start(self).await
    }
}

/// A running server. Killed when dropped; its data directory goes with it.
#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    child: Child,
    /// With `data/` for the server, a home for it, and its settings file.
    folder: Arc<TempDir>,
    origin: String,
    log: Log,
}

impl Server {
    /// Starts it on a new, empty data directory and waits until it listens.
    pub(crate) async fn start(settings: Settings) -> Self {
        let settings = settings.over_wanted_store();
        let folder = Arc::new(tempfile::Builder::new().prefix("holdfast-server-").tempdir().unwrap());
        for (path, content) in &settings.files {
            let path = folder.path().join("data").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self::start_on(settings, folder, Log::default()).await
    }

    async fn start_on(mut settings: Settings, folder: Arc<TempDir>, log: Log) -> Self {
        let from = log.length();
        let starting = tokio::task::spawn_blocking(move || {
            let mut child = spawn(&settings, folder.path(), &log);
            let found = log.wait_for(from, &mut child, |text| {
                // Only whole lines: the port may still be coming.
                text.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(listening_on)
            });
            let origin = found.unwrap_or_else(|why| {
                let _ = child.kill();
                panic!("the server did not get ready: {why}\n--- its log\n{}", log.tail(40))
            });
            if settings.port == 0 {
                settings.port = origin.rsplit(':').next().unwrap().parse().unwrap();
            }
            Self { settings, child, folder, origin, log }
        });
        match starting.await {
            Ok(server) => server,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// The URL to give to clients, with a slash at the end.
    pub(crate) fn url(&self) -> String {
        let url = self.settings.public_url.as_deref().unwrap_or(&self.origin);
        format!("{}/", url.trim_end_matches('/'))
    }

    /// Where it listens, whatever the public URL: `http://127.0.0.1:PORT`.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Requests of the test's own.
    pub(crate) fn http(&self) -> Http {
        Http::new(&self.url())
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes another settings file in the place of the one that it was started with.
    pub(crate) fn rewrite_config(&self, toml: &str) {
        std::fs::write(self.folder.path().join("holdfast.toml"), toml).unwrap();
    }

    /// SIGHUP: the settings are to be read again.
    pub(crate) fn hang_up(&self) {
        signal("-HUP", &self.child.id().to_string());
    }

    /// SIGTERM, without waiting for the end.
    pub(crate) fn begin_stop(&self) {
        signal("-TERM", &self.child.id().to_string());
    }

    /// The most memory that it ever had, in bytes; `None` where the system does not say.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    }

    /// `kill -9`: no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(&mut self) -> std::process::ExitStatus {
        self.begin_stop();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not stop\n--- its log\n{}", self.log.tail(40));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts again on the same data directory and port, after a kill if it still runs.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|settings| settings).await
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(Settings) -> Settings) -> Self {
        self.kill();
        let settings = change(self.settings.clone());
        Self::start_on(settings, Arc::clone(&self.folder), self.log.clone()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process, or to a group of them with a minus before the number.
pub(crate) fn signal(name: &str, process: &str) {
    let _ = Command::new("kill").args([name, "--", process]).stderr(Stdio::null()).status();
}

/// The program. Another build of it may be tried, such as the one with release optimisations.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("HOLDFAST_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into())
}

fn spawn(settings: &Settings, folder: &Path, log: &Log) -> Child {
    let (mut command, host) = match &settings.namespace {
        Some((name, address)) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name]).arg(program());
            (command, &**address)
        }
        None => (Command::new(program()), "127.0.0.1"),
    };
    command.env_clear();
    for name in ["PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // No settings of the person who runs the tests.
    let home = folder.join("home");
    std::fs::create_dir_all(&home).unwrap();
    command.env("HOME", &home).current_dir(&home).env("NO_COLOR", "1").env("RUST_BACKTRACE", "1");
    command.args(["serve", "--listen", &format!("{host}:{}", settings.port), "--data"]);
    command.arg(folder.join("data"));
    match &settings.upstream {
        Some(url) => command.args(["--upstream", url]),
        None if settings.has_upstream_elsewhere => &mut command,
        None => command.arg("--no-upstream"),
    };
    if let Some(url) = &settings.public_url {
        command.args(["--public-url", url]);
    }
    if let Some(toml) = &settings.config {
        let file = folder.join("holdfast.toml");
        std::fs::write(&file, toml).unwrap();
        command.arg("--config").arg(file);
    }
    command.envs(settings.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    follow(child.stderr.take().unwrap(), log.clone());
    follow(child.stdout.take().unwrap(), log.clone());
    child
}

/// Collects what a process writes.
pub(super) fn follow(stream: impl std::io::Read + Send + 'static, log: Log) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            log.push(&line);
        }
    });
}

fn listening_on(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    let address = rest.strip_prefix("http://")?.split(|c: char| c.is_whitespace() || matches!(c, '/' | ',')).next()?;
    Some(format!("http://{address}"))
}
