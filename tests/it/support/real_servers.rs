//! Servers that others made, for tests that want more than our own: two that speak S3, which `scripts/servers` brings,
//! and nginx of the system before several of ours. Each is a process that ends when it is dropped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::server::{Log, follow};
use super::stable_port;

/// Where Debian has it, which is not in everybody's `PATH`.
const NGINX: &str = "/usr/sbin/nginx";

/// A server that speaks S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps the conditions of writes, racing ones too. Checks no signatures.
    Moto,
    /// Ignores the conditions of writes, and answers 200.
    S3rver,
}

impl Kind {
    /// Below `tests/servers` and `target/servers`.
    fn folder(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::S3rver => "s3rver",
        }
    }

    fn command(self, bucket: &str, data: &Path) -> Command {
        let home = servers_folder().join(self.folder());
        match self {
            Self::Moto => {
                let mut command = Command::new(home.join("bin/python"));
                command.args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
                command
            }
            Self::S3rver => {
                let mut command = Command::new("node");
                command.arg(home.join("node_modules/s3rver/bin/s3rver.js"));
                command.args(["--address", "127.0.0.1", "--port", "0", "--configure-bucket", bucket, "--directory"]);
                command.arg(data);
                command
            }
        }
    }

    /// The address in a line that says where it listens.
    fn listening_on(self, line: &str) -> Option<&str> {
        let before = match self {
            Self::Moto => "Running on http://",
            Self::S3rver => "listening on ",
        };
        line.split_once(before)?.1.split_whitespace().next()
    }
}

/// A running S3 with one bucket.
#[derive(Debug)]
pub(crate) struct RealServer {
    url: String,
    _process: Process,
}

impl RealServer {
    /// With an empty bucket. `None` when `scripts/servers` has not brought it. Say so is all that a test can do then; in
    /// CI it fails here.
    pub(crate) async fn start(kind: Kind, bucket: &str) -> Option<Self> {
        let name = kind.folder();
        if is_missing(&servers_folder().join(name).join(".installed"), "scripts/servers brings it") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("holdfast-s3-").tempdir().unwrap();
        let command = kind.command(bucket, &folder.path().join("data"));
        let ready = move |text: &str| {
            // Only whole lines: the port may still be coming.
            let whole = &text[..=text.rfind('\n')?];
            whole.lines().find_map(|line| kind.listening_on(line)).map(|address| format!("http://{address}"))
        };
        let starting = tokio::task::spawn_blocking(move || Process::start(command, folder, ready));
        let (process, url) = starting.await.unwrap();
        if kind == Kind::Moto {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.put(format!("{url}/{bucket}")).send().await.unwrap().error_for_status().unwrap();
        }
        Some(Self { url, _process: process })
    }

    /// `http://127.0.0.1:PORT`, without the bucket.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// A Verdaccio with a folder of its own, which stays until it is dropped.
#[derive(Debug)]
pub(crate) struct Verdaccio {
    url: String,
    process: Process,
}

impl Verdaccio {
    /// With a storage, open registration and one uplink. `None` when `scripts/servers` or `scripts/clients`, which has the
    /// Node that it wants, was not run. Say so is all that a test can do then; in CI it fails here.
    pub(crate) async fn start(uplink: &str) -> Option<Self> {
        let program = servers_folder().join("verdaccio/node_modules/verdaccio/bin/verdaccio");
        if is_missing(&program, "scripts/servers brings it") || super::clients::is_missing(&["node"]) {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("holdfast-verdaccio-").tempdir().unwrap();
        let settings = format!(
            "storage: ./storage\nauth:\n  htpasswd:\n    file: ./htpasswd\n    algorithm: bcrypt\n    rounds: 4\n\
             uplinks:\n  up:\n    url: {uplink}\npackages:\n\
             \x20 '@acme/*':\n    access: $authenticated\n    publish: $authenticated\n    unpublish: ann\n\
             \x20 'own-*':\n    access: $all\n    publish: $authenticated\n\
             \x20 '**':\n    access: $all\n    publish: $authenticated\n    proxy: up\n\
             log: {{ type: stdout, format: json, level: warn }}\n"
        );
        std::fs::write(folder.path().join("config.yaml"), settings).unwrap();
        let port = stable_port();
        let mut command = Command::new(super::clients::bin_folder("node").join("node"));
        command.arg(program).args(["--config", "config.yaml", "--listen", &format!("127.0.0.1:{port}")]);
        let listens = move |_: &str| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(());
        let starting = tokio::task::spawn_blocking(move || Process::start(command, folder, listens));
        let (process, ()) = starting.await.unwrap();
        Some(Self { url: format!("http://127.0.0.1:{port}/"), process })
    }

    /// With a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// With `config.yaml`, `htpasswd` and `storage`.
    pub(crate) fn folder(&self) -> &Path {
        self.process.folder.path()
    }

    /// Ends it; its folder stays.
    pub(crate) fn stop(&mut self) {
        self.process.end();
    }
}

/// nginx, which hands requests to several servers in turn, and to the next one when one is away.
#[derive(Debug)]
pub(crate) struct LoadBalancer {
    url: String,
    _process: Process,
}

impl LoadBalancer {
    /// Before servers on loopback, by their URLs. `None` when this machine has no nginx. Say so is all that a test can
    /// do then; in CI it fails here.
    pub(crate) async fn before(servers: &[&str]) -> Option<Self> {
        if is_missing(Path::new(NGINX), "it is in the package nginx-light") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("holdfast-nginx-").tempdir().unwrap();
        let port = stable_port();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, configuration(servers, port)).unwrap();
        let mut command = Command::new(NGINX);
        command.arg("-p").arg(folder.path()).arg("-c").arg(file).args(["-e", "stderr"]);
        let listens = move |_: &str| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(());
        let starting = tokio::task::spawn_blocking(move || Process::start(command, folder, listens));
        let (process, ()) = starting.await.unwrap();
        Some(Self { url: format!("http://127.0.0.1:{port}"), _process: process })
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// One process, so that its end is the end of all. A path goes on as it came, and no server is given up for a while
/// because it failed once.
fn configuration(servers: &[&str], port: u16) -> String {
    let upstream = servers.iter().fold(String::new(), |mut upstream, url| {
        writeln!(upstream, "server {} max_fails=0;", url.trim_start_matches("http://").trim_end_matches('/')).unwrap();
        upstream
    });
    let folders =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};\n"));
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr notice;\nevents {{}}\nhttp {{\n\
         access_log off;\n{folders}client_max_body_size 0;\nupstream replicas {{\n{upstream}keepalive 8;\n}}\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://replicas;\nproxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\nproxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_request_buffering off;\nproxy_buffering off;\n}}\n}}\n}}\n",
        folders = folders.concat(),
    )
}

/// Where `scripts/servers` puts the servers.
fn servers_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("servers")
}

/// Whether a file is not there, of which it says so; in CI it fails here.
fn is_missing(file: &Path, remedy: &str) -> bool {
    let is_missing = !file.exists();
    if is_missing {
        assert!(std::env::var_os("CI").is_none(), "{} is not there: {remedy}", file.display());
        eprintln!("skipped: {} is not there; {remedy}", file.display());
    }
    is_missing
}

/// A process with a folder of its own. Both go when it is dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Waits until what it writes, or anything else, says that it is ready.
    fn start<T>(mut command: Command, folder: TempDir, ready: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let program = command.get_program().display().to_string();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", folder.path()).env("TMPDIR", folder.path()).env("NO_COLOR", "1").current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut process = Self { child, folder };
        let log = Log::default();
        follow(process.child.stdout.take().unwrap(), log.clone());
        follow(process.child.stderr.take().unwrap(), log.clone());
        let found = log.wait_for(0, &mut process.child, ready);
        let found = found.unwrap_or_else(|why| panic!("{program} did not get ready: {why}\n{}", log.tail(40)));
        (process, found)
    }
}

impl Process {
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
