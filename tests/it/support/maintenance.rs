//! Stores as operators have them, and looking them over as `holdfast verify` does.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use holdfast::clock::Clock;
use holdfast::maintenance::{Finding, GRACE, Look, Severity, verify};
use holdfast::npm::Timestamp;
use holdfast::storage::Store;
use serde_json::Value;
use tempfile::TempDir;

use super::app::{TestApp, collect};

/// Everything, and nothing changed.
pub(crate) const LOOK: Look = Look { content: true, repair: false, grace: GRACE };

/// A clock that stands so many days from now: to it, what was written by now is that old.
pub(crate) fn in_days(days: u64) -> Clock {
    let now = Clock::default().now();
    Clock::held_at(Timestamp::from_millis(now.as_millis() + 1000).plus(Duration::from_hours(24 * days)))
}

/// All that is found, in the order of keys.
pub(crate) async fn findings(store: &Store, clock: &Clock, look: Look) -> Vec<Finding> {
    let mut findings = Vec::new();
    let checked = verify(store, clock, look, |_, finding| findings.extend(finding.cloned())).await.unwrap();
    let counted = checked.problems + checked.leftovers + checked.repaired;
    assert_eq!(counted, findings.len() as u64, "{checked:?}");
    findings.sort_by(|one, other| (&one.key, one.code, &one.part).cmp(&(&other.key, other.code, &other.part)));
    findings
}

/// Whatever happened to a store, nobody may miss anything: nothing but leftovers is found, and they are returned.
#[track_caller]
pub(crate) fn is_sound(store: &Store) -> impl Future<Output = Vec<Finding>> {
    let caller = std::panic::Location::caller();
    let store = store.clone();
    async move {
        let found = findings(&store, &in_days(2), LOOK).await;
        let is_problem = |finding: &&Finding| finding.code.severity() == Severity::Problem;
        let problems: Vec<&Finding> = found.iter().filter(is_problem).collect();
        assert!(problems.is_empty(), "{caller}: {problems:#?}");
        found
    }
}

/// What an application left: a directory, and the store in it.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) store: Store,
}

impl Place {
    /// Of an application of which no caller is kept.
    pub(crate) async fn left_by(app: TestApp) -> Self {
        let (folder, store) = app.stopped().await;
        Self { folder, store }
    }

    /// Every object, and its bytes.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), self.folder.path(), &mut files);
        files.remove("-/lock");
        files
    }

    /// The one object whose key has this in it.
    pub(crate) fn key(&self, part: &str) -> String {
        let keys: Vec<String> = self.files().into_keys().filter(|key| key.contains(part)).collect();
        let [key] = keys.as_slice() else { panic!("{part}: {keys:?}") };
        key.clone()
    }

    /// A copy of it.
    pub(crate) fn copied(&self) -> (TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        for (key, bytes) in self.files() {
            let path = folder.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    /// When a file was written and read last.
    pub(crate) fn set_times(&self, key: &str, written: SystemTime, read: SystemTime) {
        let file = File::options().write(true).open(self.folder.path().join(key)).unwrap();
        file.set_times(FileTimes::new().set_modified(written).set_accessed(read)).unwrap();
    }

    pub(crate) fn json(&self, key: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.path().join(key)).unwrap()).unwrap()
    }

    pub(crate) fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.folder.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Changes a JSON object, whatever it is.
    pub(crate) fn edit(&self, key: &str, change: impl FnOnce(&mut Value)) {
        let mut value = self.json(key);
        change(&mut value);
        self.write(key, value.to_string());
    }

    /// Removes an object, or a folder with all that is in it.
    pub(crate) fn remove(&self, key: &str) {
        let path = self.folder.path().join(key);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
}
