//! One execution for many who want the same thing at the same time.
//!
//! Invariants: while work for a key is under way, nobody starts it again; the work does not depend on any caller staying;
//! everybody who waits gets an answer, even when the work panics; and when it has ended, nothing of it is remembered, an
//! error least of all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, Shared, TryFutureExt as _};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::traces;

/// The work ended without a result: it panicked, or the program is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work that was waited for ended without a result")]
pub struct Lost;

type Flight<V> = Shared<BoxFuture<'static, Result<V, Lost>>>;

/// Runs work at most once per key at a time. Cheap to clone.
pub struct SingleFlight<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    flights: Mutex<HashMap<K, Flight<V>>>,
    tasks: TaskTracker,
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Work will run as tasks of this tracker, so that a shutdown waits for it.
    pub fn new(tasks: TaskTracker) -> Self {
        Self { inner: Arc::new(Inner { flights: Mutex::new(HashMap::new()), tasks }) }
    }

    /// The result of the work for this key: of the work that is under way, or else of this.
    ///
    /// A caller may leave at any time; the work goes on. When the work is not needed it is dropped unpolled. It must not
    /// wait for the same key. There is no time limit here: work ends by its own limits, or the caller stops waiting.
    ///
    /// # Errors
    /// [`Lost`] when the work panicked or was cut off.
    pub async fn run(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Result<V, Lost> {
        self.join(key, work).await
    }

    /// The synchronous part: no caller can leave between finding no flight and starting one.
    fn join(&self, key: K, work: impl Future<Output = V> + Send + 'static) -> Flight<V> {
        let (flight, landing) = {
            let mut flights = self.inner.lock();
            if let Some(flight) = flights.get(&key) {
                return flight.clone();
            }
            let (sender, receiver) = oneshot::channel();
            let flight = receiver.map_err(|_| Lost).boxed().shared();
            flights.insert(key.clone(), flight.clone());
            (flight, Landing { inner: Arc::clone(&self.inner), key, sender: Some(sender) })
        };
        // Outside of the lock: a runtime that is shutting down drops the task, and so the landing, within this call.
        let task = async move {
            let value = work.await;
            landing.land(value);
        };
        self.inner.tasks.spawn(traces::carried_on(task.in_current_span()));
        flight
    }
}

impl<K, V> Inner<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        // The map is whole after each call on it, so a panic elsewhere leaves nothing half done.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the entry out when the work has ended in whatever way, before its result is known to anybody: who comes after
/// that starts anew. Dropped early, it wakes all waiters with [`Lost`].
struct Landing<K: Eq + Hash, V> {
    inner: Arc<Inner<K, V>>,
    key: K,
    sender: Option<oneshot::Sender<V>>,
}

impl<K: Eq + Hash, V> Landing<K, V> {
    fn land(mut self, value: V) {
        let sender = self.sender.take();
        drop(self);
        if let Some(sender) = sender {
            // Nobody waits any more: then nobody wants to know.
            let _ = sender.send(value);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let flight = self.inner.lock().remove(&self.key);
        // Outside of the lock, since the last holder of a flight may drop a value with it.
        drop(flight);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    type Answer = Result<u32, &'static str>;

    fn flights() -> (SingleFlight<&'static str, Answer>, TaskTracker) {
        let tasks = TaskTracker::new();
        (SingleFlight::new(tasks.clone()), tasks)
    }

    fn assert_empty(flights: &SingleFlight<&'static str, Answer>) {
        assert_eq!(flights.inner.lock().len(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_waiters_cause_one_execution() {
        let (flights, tasks) = flights();
        let executions = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let waiters = (0..1000).map(|_| {
            let (executions, gate) = (Arc::clone(&executions), Arc::clone(&gate));
            flights.join("a", async move {
                executions.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(7)
            })
        });
        let waiters: Vec<_> = waiters.collect();
        gate.notify_one();
        for answer in futures::future::join_all(waiters).await {
            assert_eq!(answer, Ok(Ok(7)));
        }
        assert_eq!(executions.load(Ordering::SeqCst), 1);
        tasks.close();
        tasks.wait().await;
        assert_empty(&flights);
    }

    #[tokio::test]
    async fn the_work_outlives_the_caller_who_started_it() {
        let (flights, _tasks) = flights();
        let gate = Arc::new(Notify::new());
        let held = Arc::clone(&gate);
        let leader = flights.join("a", async move {
            held.notified().await;
            Ok(1)
        });
        let follower = flights.join("a", async { Err("started twice") });
        drop(leader);
        gate.notify_one();
        assert_eq!(follower.await, Ok(Ok(1)));
    }

    #[tokio::test]
    async fn the_work_goes_on_when_everybody_has_left() {
        let (flights, tasks) = flights();
        let (done, seen) = oneshot::channel();
        drop(flights.join("a", async move {
            tokio::task::yield_now().await;
            let _ = done.send(());
            Ok(1)
        }));
        assert_eq!(seen.await, Ok(()));
        tasks.close();
        tasks.wait().await;
        assert_empty(&flights);
    }

    #[tokio::test]
    async fn a_panic_reaches_all_waiters_and_is_forgotten() {
        let (flights, _tasks) = flights();
        let gate = Arc::new(Notify::new());
        let held = Arc::clone(&gate);
        let first = flights.join("a", async move {
            held.notified().await;
            panic!("the work failed, as this test wants")
        });
        let second = flights.join("a", async { Ok(0) });
        gate.notify_one();
        assert_eq!(first.await, Err(Lost));
        assert_eq!(second.await, Err(Lost));
        assert_eq!(flights.run("a", async { Ok(2) }).await, Ok(Ok(2)));
    }

    #[test]
    fn work_that_a_shutdown_cuts_off_leaves_nobody_hanging() {
        let (flights, _tasks) = flights();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let waiter = {
            let _inside = runtime.enter();
            flights.join("a", std::future::pending())
        };
        drop(runtime);
        assert_eq!(futures::executor::block_on(waiter), Err(Lost));
        assert_empty(&flights);
    }

    #[tokio::test]
    async fn errors_are_shared_once_and_not_kept() {
        let (flights, _tasks) = flights();
        let first = flights.join("a", async { Err("no") });
        let second = flights.join("a", async { Ok(0) });
        assert_eq!((first.await, second.await), (Ok(Err("no")), Ok(Err("no"))));
        assert_eq!(flights.run("a", async { Ok(3) }).await, Ok(Ok(3)));
        assert_empty(&flights);
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other() {
        let (flights, _tasks) = flights();
        let stuck = flights.join("a", std::future::pending());
        assert_eq!(flights.run("b", async { Ok(1) }).await, Ok(Ok(1)));
        drop(stuck);
    }
}
