//! Writing down which settings are others than those that were last written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use crate::clock::Clock;
use crate::events::{Event, Kind, Recorder, Who};
use crate::keys;
use crate::npm::integrity::sha256_hex;
use crate::random;
use crate::registry::Registry;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::storage::{self, Durability, Store};

/// The setting that names the rules file, and in the record stands for what is in the file too.
const RULES: &str = "policy.rules";

/// What is kept of settings: no value, so that the store tells no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Random, so that the hash of a value is another one in each store.
    salt: String,
    /// By key, the hash of its value.
    hashes: BTreeMap<String, String>,
}

impl Kept {
    fn of(salt: String, values: &BTreeMap<String, Secret>) -> Self {
        let hash = |(key, value): (&String, &Secret)| {
            (key.clone(), sha256_hex(format!("{salt}\n{key}\n{}", value.expose()).as_bytes()))
        };
        let hashes = values.iter().map(hash).collect();
        Self { salt, hashes }
    }

    /// The keys that are others, are new, or are there no more.
    fn changed(&self, now: &Self) -> Vec<String> {
        let keys = self.hashes.keys().chain(now.hashes.keys());
        let mut changed: Vec<String> =
            keys.filter(|key| self.hashes.get(*key) != now.hashes.get(*key)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// Writes down which settings and rules in force are others than before. Cheap to clone; clones take turns.
#[derive(Clone)]
pub struct SettingsRecord {
    store: Store,
    recorder: Recorder,
    registry: Registry,
    settings: watch::Receiver<Arc<Settings>>,
    clock: Clock,
    /// Held while they are compared and written, so that older ones never take the place of newer ones.
    writing: Arc<Mutex<()>>,
}

impl SettingsRecord {
    /// Of these settings, and of the rules that the registry has in force.
    pub fn new(
        store: Store,
        recorder: Recorder,
        registry: Registry,
        settings: watch::Receiver<Arc<Settings>>,
        clock: Clock,
    ) -> Self {
        Self { store, recorder, registry, settings, clock, writing: Arc::default() }
    }

    /// Writes down what is another. Where the store fails it is told in the log, and written the next time.
    pub async fn note(&self) {
        if let Err(error) = self.compare().await {
            tracing::warn!(%error, "which settings are others than before could not be written into the record");
        }
    }

    /// Compares what is in force with what was last written down, and records the keys that are others. The event comes first:
    /// who is cut off between the two writes leaves it to be written once more.
    async fn compare(&self) -> Result<(), storage::Error> {
        let _held = self.writing.lock().await;
        let stored = match self.store.read(&keys::recorded_settings()).await {
            // What cannot be read is as good as none.
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).ok(),
            Err(storage::Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        let salt = stored.as_ref().map_or_else(random::secret, |kept| kept.salt.clone());
        let kept = Kept::of(salt, &self.in_force());
        let event = Event::new(Kind::Settings, Who::server(), self.clock.now());
        let event = match &stored {
            Some(before) if *before == kept => return Ok(()),
            Some(before) => event.with("keys", before.changed(&kept)),
            None => event.with("keys", kept.hashes.keys().collect::<Vec<_>>()).with("first", true),
        };
        self.recorder.record(event).await?;
        // It is made of texts, so nothing in it can fail to be JSON.
        let bytes = Bytes::from(serde_json::to_vec(&kept).unwrap_or_default());
        self.store.put(&keys::recorded_settings(), bytes, Durability::Synced).await
    }

    /// The values of all settings; of the rules file what it says too.
    fn in_force(&self) -> BTreeMap<String, Secret> {
        let mut values = self.settings.borrow().effective.clone();
        let policy = self.registry.policy();
        if !policy.rules().is_empty() {
            let path = values.get(RULES).map(Secret::expose).unwrap_or_default();
            let with_rules = Secret::new(format!("{path}\n{:?}", policy.rules()));
            values.insert(RULES.to_owned(), with_rules);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        of.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn keys_are_told_and_values_are_not() {
        let kept = |of: &[(&str, &str)]| Kept::of("salt".to_owned(), &values(of));
        let before = kept(&[("a", "1"), ("b", "secret"), ("c", "3")]);
        assert!(before.changed(&before).is_empty());
        assert_eq!(before.changed(&kept(&[("a", "2"), ("b", "secret"), ("d", "4")])), ["a", "c", "d"]);
        assert!(!serde_json::to_string(&before).unwrap().contains("secret"));
        let elsewhere = Kept::of("pepper".to_owned(), &values(&[("b", "secret")]));
        assert_ne!(before.hashes["b"], elsewhere.hashes["b"]);
    }
}
