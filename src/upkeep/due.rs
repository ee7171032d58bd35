//! Upkeep where nothing runs between requests: what is due is done after an answer, the rest when a schedule calls for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AdvisoryKeeper, RulesKeeper, counted, recorded, rules, sweep};
use crate::clock::Clock;
use crate::events::Recorder;
use crate::npm::Timestamp;
use crate::registry::Registry;
use crate::sinks::Sinks;

/// How often another process's refresh of the advisories is looked for.
const FOLLOW: Duration = Duration::from_mins(5);

/// How often another process's waivers are looked for.
const WAIVERS: Duration = Duration::from_secs(10);

/// How often it is looked for what sinks have not got, where this process has recorded nothing.
const TELL: Duration = Duration::from_secs(30);
/// For telling them after an answer, out of the time that all upkeep has there.
const TELLING: Duration = Duration::from_millis(1500);
/// The same when a schedule calls for it.
const TELLING_ALL: Duration = Duration::from_secs(20);

/// What a server's tasks would do by themselves.
pub struct Upkeep {
    registry: Registry,
    recorder: Recorder,
    sinks: Sinks,
    clock: Clock,
    rules: RulesKeeper,
    advisories: AdvisoryKeeper,
    rules_due: Due,
    waivers_due: Due,
    advisories_due: Due,
    sweep_due: Due,
    counted_due: Due,
    sinks_due: Due,
    recorded: Mutex<watch::Receiver<()>>,
}

/// When something was last done.
struct Due {
    every: Duration,
    last_millis: AtomicI64,
}

impl Due {
    fn after(every: Duration, now: Timestamp) -> Self {
        Self { every, last_millis: AtomicI64::new(now.as_millis()) }
    }

    /// Whether it is time again; if so, it is not before another interval is over.
    fn take(&self, now: Timestamp) -> bool {
        let last = self.last_millis.load(Ordering::Relaxed);
        let every = i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX);
        let is_due = now.as_millis().saturating_sub(last) >= every;
        if is_due {
            self.last_millis.store(now.as_millis(), Ordering::Relaxed);
        }
        is_due
    }
}

impl Upkeep {
    /// Does nothing yet. Everything is due for the first time when its interval is over.
    pub fn new(
        registry: Registry,
        recorder: Recorder,
        sinks: Sinks,
        clock: Clock,
        rules: RulesKeeper,
        advisories: AdvisoryKeeper,
    ) -> Self {
        let (now, recorded) = (clock.now(), recorder.written());
        Self {
            registry,
            recorder,
            sinks,
            clock,
            rules,
            advisories,
            rules_due: Due::after(rules::EVERY, now),
            waivers_due: Due::after(WAIVERS, now),
            advisories_due: Due::after(FOLLOW, now),
            sweep_due: Due::after(sweep::EVERY, now),
            counted_due: Due::after(counted::EVERY, now),
            sinks_due: Due::after(TELL, now),
            recorded: Mutex::new(recorded),
        }
    }

    /// Does what is due and takes little: looks whether the rules file or the stored advisories are others, removes what has
    /// ended. May be cut off at any point.
    pub async fn do_due(&self) {
        recorded::write_down(&self.recorder).await;
        let now = self.clock.now();
        if self.rules_due.take(now) {
            self.rules.look().await;
        }
        if self.waivers_due.take(now) {
            follow_waivers(&self.registry).await;
        }
        if self.advisories_due.take(now) {
            self.advisories.follow().await;
        }
        if self.sweep_due.take(now) {
            sweep::sweep(&self.registry).await;
        }
        if self.counted_due.take(now) {
            counted::write_down(&self.registry).await;
        }
        if self.has_recorded() || self.sinks_due.take(now) {
            self.sinks.deliver_within(TELLING).await;
        }
    }

    /// Whether this process has recorded something since this was last asked.
    fn has_recorded(&self) -> bool {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let has = recorded.has_changed().unwrap_or(false);
        recorded.mark_unchanged();
        has
    }

    /// Does everything, however long it takes: refreshes the advisories from their source too.
    pub async fn do_all(&self) {
        self.rules.look().await;
        self.advisories.follow().await;
        self.advisories.refresh_now().await;
        sweep::sweep(&self.registry).await;
        counted::write_down(&self.registry).await;
        self.sinks.deliver_within(TELLING_ALL).await;
    }
}

/// Reads the waivers again, which another process may have changed.
async fn follow_waivers(registry: &Registry) {
    if let Err(error) = registry.waivers().load().await {
        tracing::warn!(%error, "the waivers cannot be read: those that are known stay in force");
    }
}

/// Does so until told to stop, where other processes share the store.
pub async fn keep_waivers(registry: Registry, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WAIVERS) => {}
            () = stop.cancelled() => return,
        }
        follow_waivers(&registry).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_is_done_once_in_its_interval() {
        let clock = Clock::held_at(Timestamp::from_millis(1_000_000));
        let due = Due::after(Duration::from_mins(5), clock.now());
        assert!(!due.take(clock.now()));
        clock.advance(Duration::from_mins(5));
        assert!(due.take(clock.now()));
        assert!(!due.take(clock.now()));
        // A clock that was set back makes nothing due, and breaks nothing.
        clock.set_back(Duration::from_hours(1));
        assert!(!due.take(clock.now()));
    }
}
