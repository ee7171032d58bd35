//! A circuit breaker: after several failures in a row, an upstream is left alone for a while.
//!
//! [`Breaker`] is a pure state machine over instants that it is told; [`Circuit`] puts a lock and a clock around it.
//! Invariant: of a breaker that is not closed, at most one caller (the probe) is under way, and a probe that vanishes
//! without a report makes room for the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::npm::Timestamp;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Opens after so many failed calls in a row; 0 never opens.
    pub failures: u32,
    /// How long nobody is let through after that.
    pub cool_down: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(10) }
    }
}

/// What a breaker answers to one who wants to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Call.
    Pass(Pass),
    /// Do not call before this time has passed.
    Wait(Duration),
}

/// As what a caller was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// One of many, through a closed breaker.
    Regular,
    /// The one that finds out whether the upstream is back.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Timestamp },
    Probing,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: Settings,
    state: State,
}

impl Breaker {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Asks to be let through.
    pub(super) fn ask(&mut self, now: Timestamp) -> Verdict {
        match self.state {
            State::Closed { .. } => Verdict::Pass(Pass::Regular),
            // Nobody knows how long the probe takes; one second is what a client may try again after.
            State::Probing => Verdict::Wait(Duration::from_secs(1)),
            State::Open { until } => {
                let left_millis = u64::try_from(until.as_millis().saturating_sub(now.as_millis())).unwrap_or(0);
                if left_millis == 0 {
                    self.state = State::Probing;
                    return Verdict::Pass(Pass::Probe);
                }
                let left = Duration::from_millis(left_millis);
                if left > self.settings.cool_down {
                    // The clock was set back: start the cool-down anew, instead of waiting for the old time to return.
                    self.open(now);
                    return Verdict::Wait(self.settings.cool_down);
                }
                Verdict::Wait(left)
            }
        }
    }

    /// Whether it is left alone now, or only tried out.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// The upstream answered, be it with a refusal.
    pub(super) fn succeeded(&mut self, pass: Pass) {
        match (self.state, pass) {
            (State::Closed { .. }, _) | (State::Probing, Pass::Probe) => self.state = State::Closed { failures: 0 },
            // A call from before it opened came back late: only the probe decides.
            _ => {}
        }
    }

    /// The upstream could not be reached, did not answer in time, or answered 5xx. True when this opened the breaker.
    pub(super) fn failed(&mut self, pass: Pass, now: Timestamp) -> bool {
        match (self.state, pass) {
            (State::Closed { failures }, _) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                let opens = self.settings.failures > 0 && failures >= self.settings.failures;
                if opens {
                    self.open(now);
                }
                opens
            }
            (State::Probing, Pass::Probe) => {
                self.open(now);
                true
            }
            _ => false,
        }
    }

    /// The caller went away before it knew.
    pub(super) fn abandoned(&mut self, pass: Pass, now: Timestamp) {
        if self.state == State::Probing && pass == Pass::Probe {
            self.state = State::Open { until: now };
        }
    }

    fn open(&mut self, now: Timestamp) {
        let cool_down = i64::try_from(self.settings.cool_down.as_millis()).unwrap_or(i64::MAX);
        self.state = State::Open { until: Timestamp::from_millis(now.as_millis().saturating_add(cool_down)) };
    }
}

/// A breaker that many callers share.
#[derive(Debug)]
pub(super) struct Circuit {
    breaker: Mutex<Breaker>,
    clock: Clock,
    upstream: String,
}

impl Circuit {
    pub(super) fn new(settings: Settings, clock: Clock, upstream: String) -> Self {
        Self { breaker: Mutex::new(Breaker::new(settings)), clock, upstream }
    }

    /// Lets the caller through, or says how long to wait.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, Duration> {
        let verdict = self.lock().ask(self.clock.now());
        match verdict {
            Verdict::Pass(pass) => Ok(Permit { circuit: Arc::clone(self), pass, reported: false }),
            Verdict::Wait(wait) => Err(wait),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open()
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        // No code that can panic runs under this lock, and the state is whole after each assignment.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call, and the duty to report how it went. Dropped without a report it counts for nothing.
#[derive(Debug)]
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    pass: Pass,
    reported: bool,
}

impl Permit {
    /// True when all others wait for this call: then it should be one try, not several.
    pub(super) fn is_probe(&self) -> bool {
        self.pass == Pass::Probe
    }

    pub(super) fn succeeded(mut self) {
        self.reported = true;
        self.circuit.lock().succeeded(self.pass);
        if self.pass == Pass::Probe {
            tracing::info!(upstream.name = self.circuit.upstream, "the upstream is back");
        }
    }

    pub(super) fn failed(mut self) {
        self.reported = true;
        let opened = self.circuit.lock().failed(self.pass, self.circuit.clock.now());
        if opened {
            tracing::warn!(upstream.name = self.circuit.upstream, "the upstream keeps failing and is left alone");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.reported {
            self.circuit.lock().abandoned(self.pass, self.circuit.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGULAR: Verdict = Verdict::Pass(Pass::Regular);
    const PROBE: Verdict = Verdict::Pass(Pass::Probe);

    enum Step {
        Ask(Verdict),
        Ok(Pass),
        Fail(Pass),
        Leave(Pass),
    }
    use Step::{Ask, Fail, Leave, Ok};

    fn wait(seconds: u64) -> Verdict {
        Verdict::Wait(Duration::from_secs(seconds))
    }

    /// Runs steps, each at its second, against a breaker that opens for 10 s after 2 failures.
    fn run(steps: &[(i64, Step)]) {
        let mut breaker = Breaker::new(Settings { failures: 2, cool_down: Duration::from_secs(10) });
        for (index, (seconds, step)) in steps.iter().enumerate() {
            let now = Timestamp::from_millis(seconds * 1000);
            match step {
                Ask(expected) => assert_eq!(breaker.ask(now), *expected, "step {index}"),
                Ok(pass) => breaker.succeeded(*pass),
                Fail(pass) => _ = breaker.failed(*pass, now),
                Leave(pass) => breaker.abandoned(*pass, now),
            }
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        use Pass::Regular;
        run(&[(0, Fail(Regular)), (1, Ask(REGULAR)), (1, Fail(Regular)), (1, Ask(wait(10))), (5, Ask(wait(6)))]);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        use Pass::Regular;
        run(&[(0, Fail(Regular)), (1, Ok(Regular)), (2, Fail(Regular)), (3, Ask(REGULAR))]);
        run(&[(0, Fail(Regular)), (1, Leave(Regular)), (1, Ask(REGULAR))]);
    }

    #[test]
    fn one_probe_goes_through_after_the_cool_down() {
        use Pass::{Probe, Regular};
        run(&[
            (0, Fail(Regular)),
            (0, Fail(Regular)),
            (10, Ask(PROBE)),
            (10, Ask(wait(1))),
            (11, Ok(Probe)),
            (11, Ask(REGULAR)),
            (11, Fail(Regular)),
            (11, Ask(REGULAR)),
        ]);
    }

    #[test]
    fn a_failed_probe_opens_it_again() {
        use Pass::{Probe, Regular};
        run(&[
            (0, Fail(Regular)),
            (0, Fail(Regular)),
            (10, Ask(PROBE)),
            (12, Fail(Probe)),
            (12, Ask(wait(10))),
            (22, Ask(PROBE)),
        ]);
    }

    #[test]
    fn a_probe_that_leaves_makes_room_for_the_next() {
        use Pass::{Probe, Regular};
        run(&[(0, Fail(Regular)), (0, Fail(Regular)), (10, Ask(PROBE)), (11, Leave(Probe)), (11, Ask(PROBE))]);
    }

    #[test]
    fn late_reports_of_old_calls_decide_nothing() {
        use Pass::Regular;
        run(&[
            (0, Fail(Regular)),
            (0, Fail(Regular)),
            (1, Ok(Regular)),
            (1, Ask(wait(9))),
            (2, Fail(Regular)),
            (2, Ask(wait(8))),
            (10, Ask(PROBE)),
            (10, Ok(Regular)),
            (10, Fail(Regular)),
            (10, Leave(Regular)),
            (10, Ask(wait(1))),
        ]);
    }

    #[test]
    fn a_clock_that_is_set_back_costs_one_cool_down() {
        use Pass::Regular;
        run(&[(1000, Fail(Regular)), (1000, Fail(Regular)), (0, Ask(wait(10))), (4, Ask(wait(6))), (10, Ask(PROBE))]);
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let mut breaker = Breaker::new(Settings { failures: 0, cool_down: Duration::from_secs(10) });
        for _ in 0..100 {
            assert!(!breaker.failed(Pass::Regular, Timestamp::from_millis(0)));
        }
        assert_eq!(breaker.ask(Timestamp::from_millis(0)), REGULAR);
    }

    #[test]
    fn a_dropped_permit_frees_the_probe() {
        let clock = Clock::held_at(Timestamp::from_millis(0));
        let settings = Settings { failures: 1, cool_down: Duration::from_secs(10) };
        let circuit = Arc::new(Circuit::new(settings, clock.clone(), "test".to_owned()));
        circuit.enter().unwrap().failed();
        assert_eq!(circuit.enter().err(), Some(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(10));
        let probe = circuit.enter().unwrap();
        assert!(probe.is_probe() && circuit.enter().is_err());
        drop(probe);
        circuit.enter().unwrap().succeeded();
        assert!(!circuit.enter().unwrap().is_probe());
    }
}
