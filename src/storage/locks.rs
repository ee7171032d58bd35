//! One async lock per key, made on demand and dropped when nobody holds or awaits it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Queues work on the same key; work on other keys is not held up. Cheap to clone.
#[derive(Debug)]
pub struct KeyedLocks<K> {
    locks: Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<K> Clone for KeyedLocks<K> {
    fn clone(&self) -> Self {
        Self { locks: Arc::clone(&self.locks) }
    }
}

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self { locks: Arc::default() }
    }
}

/// Holding this is holding the key. It can be moved into a blocking task, so that a departing client does not let
/// the next one in while a write is still going on.
#[derive(Debug)]
pub struct KeyGuard<K: Eq + Hash> {
    key: Option<K>,
    guard: Option<OwnedMutexGuard<()>>,
    locks: KeyedLocks<K>,
}

impl<K: Eq + Hash + Clone> KeyedLocks<K> {
    /// Waits for the key, first come first served.
    pub async fn lock(&self, key: &K) -> KeyGuard<K> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        // Made before the wait, so that a waiter who gives up tidies up too.
        let mut held = KeyGuard { key: Some(key.clone()), guard: None, locks: self.clone() };
        held.guard = Some(lock.lock_owned().await);
        held
    }
}

impl<K: Eq + Hash> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // A waiter holds a clone of the Arc, taken under this same outer lock, so a count of one means nobody is left.
        if let Some(key) = self.key.take()
            && locks.get(&key).is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_held_by_one_and_forgotten_after() {
        let locks = KeyedLocks::<&str>::default();
        let first = locks.lock(&"a").await;
        let other = locks.lock(&"b").await;
        let waiting = {
            let locks = locks.clone();
            async move { locks.lock(&"a").await }
        };
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        drop(waiting.await);
        drop(other);
        assert!(locks.locks.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let locks = KeyedLocks::<&str>::default();
        let first = locks.lock(&"a").await;
        {
            let waiting = locks.lock(&"a");
            tokio::pin!(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
            drop(first);
        }
        assert!(locks.locks.lock().unwrap().is_empty());
    }
}
