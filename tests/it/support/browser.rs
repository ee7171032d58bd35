//! A real browser: Debian's Chromium, driven through `browser.js`.
//!
//! Its profile is empty and goes away with it. It finds no host but this machine, whatever a page names.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::clients::{clients_folder, is_missing};
use super::server::signal;

const CHROMIUM: &str = "/usr/bin/chromium";

/// No list of steps takes longer than this; each step has a shorter limit of its own.
const STEPS_LIMIT: Duration = Duration::from_mins(1);

const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE [::1]",
];

/// A browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    pipes: Arc<Mutex<Pipes>>,
    profile: TempDir,
}

#[derive(Debug)]
struct Pipes {
    steps: Option<ChildStdin>,
    reports: mpsc::Receiver<String>,
}

/// What came of a list of steps.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    /// The step that could not be done, and why. Those after it were not tried.
    pub(crate) error: Option<String>,
    /// One for each step that was done, null for most: what `evaluate` and `cookies` gave.
    pub(crate) results: Vec<Value>,
    pub(crate) url: String,
    pub(crate) title: String,
    /// What a person can read on the page.
    pub(crate) text: String,
    /// All that the browser has, as Playwright writes them: `name`, `value`, `domain`, `path`, `httpOnly`, `secure`,
    /// `sameSite`.
    pub(crate) cookies: Vec<Value>,
    /// What went to the console as an error during these steps, and exceptions that nobody caught.
    pub(crate) console_errors: Vec<String>,
    /// What the pages' content security policies refused.
    pub(crate) csp_violations: Vec<String>,
}

impl Report {
    /// All steps have to be done, and no page may have tried what its own policy forbids.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.ok && self.csp_violations.is_empty(), "{self:#?}");
        self
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&Value> {
        self.cookies.iter().find(|cookie| cookie["name"] == name)
    }
}

impl Browser {
    /// A browser, or `None` when this machine has none or `scripts/clients` has not brought what drives it. Say so is
    /// all that a test can do then; in CI it fails here.
    pub(crate) fn start() -> Option<Self> {
        if is_missing(&["browser"]) {
            return None;
        }
        if !Path::new(CHROMIUM).exists() {
            assert!(std::env::var_os("CI").is_none(), "{CHROMIUM} is not there: install the package chromium");
            eprintln!("skipped: {CHROMIUM} is not there; it is in the package chromium");
            return None;
        }
        let profile = tempfile::Builder::new().prefix("holdfast-browser-").tempdir().unwrap();
        let script = profile.path().join("browser.js");
        std::fs::write(&script, include_str!("browser.js")).unwrap();
        let task = json!({ "executable": CHROMIUM, "profile": profile.path().join("profile"), "args": ARGUMENTS });
        let mut command = Command::new("node");
        command.arg(&script).arg(task.to_string()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C.UTF-8");
        command.env("HOME", profile.path()).env("TMPDIR", profile.path());
        command.env("NODE_PATH", clients_folder().join("browser/node_modules"));
        // A group of its own, so that the processes of the browser go with the one that started it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("node: {error}"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, reports) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let pipes = Arc::new(Mutex::new(Pipes { steps: child.stdin.take(), reports }));
        Some(Self { child, pipes, profile })
    }

    /// Does these steps, one after the other, with the page and the cookies that those before left:
    ///
    /// `{"goto": url}`, `{"reload": true}`, `{"back": true}`, `{"click": css or text}`, `{"fill": [css, text]}`,
    /// `{"choose": [css, value]}`, `{"check": css}`, `{"press": [css, key]}`, `{"expect": text}`, `{"expect_css": css}`,
    /// `{"absent": text}`, `{"title": part}`, `{"url_contains": part}`, `{"screenshot": file}`,
    /// `{"viewport": [width, height]}`, `{"colour_scheme": "dark"}`, `{"evaluate": code}`, `{"clear_cookies": true}`,
    /// `{"cookies": true}`.
    pub(crate) async fn run(&self, steps: Value) -> Report {
        let pipes = Arc::clone(&self.pipes);
        let work = move || {
            let mut pipes = pipes.lock().unwrap();
            // It writes to its stderr, which is ours, why it ended.
            writeln!(pipes.steps.as_mut().unwrap(), "{steps}").expect("the browser takes steps");
            let report = pipes.reports.recv_timeout(STEPS_LIMIT).expect("a report of the browser");
            serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}"))
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// A folder of the browser's own, for screenshots that nobody keeps.
    pub(crate) fn folder(&self) -> &Path {
        self.profile.path()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the steps is what ends it, with all its processes, which are in groups of their own; the end of
        // the reports says that it did.
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.steps = None;
        while pipes.reports.recv_timeout(Duration::from_secs(10)).is_ok() {}
        signal("-KILL", &format!("-{}", self.child.id()));
        let _ = self.child.wait();
    }
}
