//! A brake on guessing passwords: it counts failed sign-ins by name and by address, and makes further tries wait.
//!
//! The counts are in memory and of this process: they are gone after a restart, and several processes over one store
//! count each by itself. They are bounded: whoever tries more names or addresses than are remembered makes the ones
//! that were quiet longest be forgotten, not the memory grow.
//!
//! Two things are always true. A time to wait that was told is kept: tries during it make the *next* wait longer,
//! never the present one. And a clock that is set back ends a wait, since it cannot be told how much of it is over.
//!
//! Counting by name has its price: a stranger who keeps trying may win the one try after each wait, and so keep an
//! account's owner from signing in with a password (not from using tokens) for as long as it goes on.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::npm::Timestamp;
use crate::npm::integrity::sha256_hex;

/// Failures of one name within [`WINDOW_MILLIS`] before its tries have to wait.
const FAILURES_OF_A_NAME: usize = 10;
/// Failures from one address: more, since a whole office may have one.
const FAILURES_FROM_AN_ADDRESS: usize = 30;
/// How long a failure counts: 15 minutes.
const WINDOW_MILLIS: i64 = 15 * 60 * 1000;
/// The first wait.
const FIRST_WAIT_MILLIS: i64 = 30 * 1000;
/// No wait is longer: 15 minutes.
const LONGEST_WAIT_MILLIS: i64 = 15 * 60 * 1000;
/// How long to wait for a try of somebody else that is under way.
const SHORT_WAIT_MILLIS: i64 = 1_000;
/// Names, and addresses, that are remembered; at most some 500 bytes each.
const REMEMBERED: usize = 20_000;

/// The brake. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    names: Arc<Cache<String, Shared>>,
    addresses: Arc<Cache<IpAddr, Shared>>,
}

/// A try under way. It counts as a failure as long as it is there; dropping it says that nothing came of it.
#[derive(Debug)]
#[must_use = "a try that is dropped counts as if it had never been"]
pub(crate) struct Attempt {
    name: Shared,
    address: Option<Shared>,
}

/// One name's or one address's counts. Shared with the tries under way, so that one that was forgotten meanwhile does
/// no harm.
type Shared = Arc<Mutex<Counter>>;

/// What is known of one name or one address. All times are in milliseconds since 1970.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Counter {
    /// When the failures were that still count, at most as many as are needed.
    failures: Vec<i64>,
    /// Tries under way.
    in_flight: usize,
    /// The wait that was ordered last, over or not. As long as it is remembered, one more failure brings the next.
    wait: Option<Wait>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    from: i64,
    until: i64,
    /// How long the next one would be.
    next: i64,
}

impl Throttle {
    /// With nothing counted.
    pub(crate) fn new() -> Self {
        Self { names: Arc::new(Cache::new(REMEMBERED)), addresses: Arc::new(Cache::new(REMEMBERED)) }
    }

    /// Begins a try, or says how long to wait before the next one. Without an address (the peer is a proxy that tells
    /// none) only the name counts.
    ///
    /// # Errors
    /// The time to wait, for `Retry-After`. Always more than nothing and at most 15 minutes.
    pub(crate) fn begin(&self, address: Option<IpAddr>, name: &str, now: Timestamp) -> Result<Attempt, Duration> {
        let (name, address) = self.counters(address, name);
        let now = now.as_millis();
        // The name's first, everywhere, so that no two wait for each other.
        let mut for_name = lock(&name);
        let mut for_address = address.as_ref().map(lock);
        // An address that has to wait does not make the name's owner wait longer.
        if let Some(counter) = &mut for_address {
            counter.admit(FAILURES_FROM_AN_ADDRESS, now)?;
        }
        for_name.admit(FAILURES_OF_A_NAME, now)?;
        for_name.in_flight += 1;
        if let Some(counter) = &mut for_address {
            counter.in_flight += 1;
        }
        drop((for_name, for_address));
        Ok(Attempt { name, address })
    }

    /// Whether a try would have to wait, without counting anything.
    #[cfg(test)]
    fn check(&self, address: Option<IpAddr>, name: &str, now: Timestamp) -> Result<(), Duration> {
        let now = now.as_millis();
        let by_address = address.and_then(|address| self.addresses.get(&network(address)));
        if let Some(counter) = by_address {
            lock(&counter).clone().admit(FAILURES_FROM_AN_ADDRESS, now)?;
        }
        if let Some(counter) = self.names.get(&key(name)) {
            lock(&counter).clone().admit(FAILURES_OF_A_NAME, now)?;
        }
        Ok(())
    }

    fn counters(&self, address: Option<IpAddr>, name: &str) -> (Shared, Option<Shared>) {
        let new = || Ok::<_, std::convert::Infallible>(Shared::default());
        let Ok(name) = self.names.get_or_insert_with(&key(name), new);
        let address = address.map(|address| {
            let Ok(counter) = self.addresses.get_or_insert_with(&network(address), new);
            counter
        });
        (name, address)
    }
}

impl Attempt {
    /// The password or the code was wrong, or there is no such name.
    pub(crate) fn failed(self, now: Timestamp) {
        let now = now.as_millis();
        lock(&self.name).fail(FAILURES_OF_A_NAME, now);
        if let Some(counter) = &self.address {
            lock(counter).fail(FAILURES_FROM_AN_ADDRESS, now);
        }
    }

    /// Somebody signed in. What was counted of the name is forgotten; of the address it is not, since whoever guesses
    /// may have an account.
    pub(crate) fn succeeded(self) {
        let mut counter = lock(&self.name);
        counter.failures.clear();
        counter.wait = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        for counter in std::iter::once(&self.name).chain(&self.address) {
            let mut counter = lock(counter);
            counter.in_flight = counter.in_flight.saturating_sub(1);
        }
    }
}

impl Counter {
    /// Whether one more try may begin.
    fn admit(&mut self, limit: usize, now: i64) -> Result<(), Duration> {
        self.forget(now);
        match &mut self.wait {
            Some(wait) if now < wait.until => {
                wait.next = longer(wait.next);
                Err(millis(wait.until - now))
            }
            // After a wait one at a time, before it as many as may still fail.
            Some(_) if self.in_flight > 0 => Err(millis(SHORT_WAIT_MILLIS)),
            None if self.failures.len() + self.in_flight >= limit => Err(millis(SHORT_WAIT_MILLIS)),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, limit: usize, now: i64) {
        self.forget(now);
        if self.failures.len() < limit {
            self.failures.push(now);
        }
        let length = match self.wait {
            // Several were under way when the first of them brought this wait: they are part of it.
            Some(wait) if now < wait.until => return,
            Some(wait) => wait.next,
            None if self.failures.len() >= limit => FIRST_WAIT_MILLIS,
            None => return,
        };
        self.wait = Some(Wait { from: now, until: now + length, next: longer(length) });
    }

    /// Forgets what is too long ago, and what lies in the future: the clock was set back.
    fn forget(&mut self, now: i64) {
        self.failures.retain(|at| (0..WINDOW_MILLIS).contains(&(now - at)));
        if self.wait.is_some_and(|wait| !(wait.from..wait.until + WINDOW_MILLIS).contains(&now)) {
            self.wait = None;
        }
    }
}

fn longer(wait: i64) -> i64 {
    (wait * 2).min(LONGEST_WAIT_MILLIS)
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

fn lock(counter: &Shared) -> MutexGuard<'_, Counter> {
    counter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names in one spelling and of one length, however long they were.
fn key(name: &str) -> String {
    sha256_hex(name.to_lowercase().as_bytes())
}

/// What one customer of a provider has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Tries and fails.
    fn fail(throttle: &Throttle, address: &str, name: &str, seconds: i64) -> Result<(), u64> {
        let attempt = throttle.begin(Some(ip(address)), name, at(seconds)).map_err(|wait| wait.as_secs())?;
        attempt.failed(at(seconds));
        Ok(())
    }

    #[test]
    fn a_name_waits_after_ten_failures_and_longer_each_time() {
        let throttle = Throttle::new();
        for number in 0..10 {
            assert_eq!(fail(&throttle, &format!("192.0.2.{number}"), "ann", 0), Ok(()));
        }
        assert_eq!(fail(&throttle, "198.51.100.1", "Ann", 1), Err(29), "from anywhere, in any case");
        assert_eq!(fail(&throttle, "198.51.100.1", "bob", 1), Ok(()));
        // The try above doubled the next wait, so it is two minutes.
        let mut now = 30;
        for expected in [120, 240, 480, 900, 900] {
            assert_eq!(fail(&throttle, "198.51.100.1", "ann", now), Ok(()));
            assert_eq!(throttle.check(None, "ann", at(now)), Err(Duration::from_secs(expected)));
            now += i64::try_from(expected).unwrap();
        }
    }

    #[test]
    fn a_wait_that_was_told_is_kept() {
        let throttle = Throttle::new();
        for _ in 0..10 {
            fail(&throttle, "192.0.2.1", "ann", 0).unwrap();
        }
        for second in 0..30 {
            let left = u64::try_from(30 - second).unwrap();
            assert_eq!(fail(&throttle, "198.51.100.1", "ann", second), Err(left));
        }
        throttle.begin(Some(ip("203.0.113.1")), "ann", at(30)).unwrap().succeeded();
        assert_eq!(throttle.check(None, "ann", at(30)), Ok(()));
        for _ in 0..10 {
            assert_eq!(fail(&throttle, "203.0.113.1", "ann", 31), Ok(()), "a success clears the name");
        }
    }

    #[test]
    fn an_address_waits_after_thirty_failures_whatever_the_names() {
        let throttle = Throttle::new();
        for number in 0..30 {
            // Two spellings of one address, and a success between that does not help.
            let address = if number % 2 == 0 { "192.0.2.1" } else { "::ffff:192.0.2.1" };
            assert_eq!(fail(&throttle, address, &format!("user{number}"), number), Ok(()));
            if number < 29 {
                throttle.begin(Some(ip(address)), "eve", at(number)).unwrap().succeeded();
            }
        }
        assert_eq!(fail(&throttle, "192.0.2.1", "ann", 30), Err(29));
        assert_eq!(fail(&throttle, "192.0.2.2", "ann", 30), Ok(()), "the name does not pay for it");
        assert!(throttle.begin(None, "ann", at(30)).is_ok(), "without an address only the name counts");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let throttle = Throttle::new();
        for number in 0..30 {
            assert_eq!(fail(&throttle, &format!("2001:db8:1:2::{number:x}"), &format!("u{number}"), 0), Ok(()));
        }
        assert_eq!(fail(&throttle, "2001:db8:1:2:ffff::1", "x", 0), Err(30));
        assert_eq!(fail(&throttle, "2001:db8:1:3::1", "x", 0), Ok(()));
    }

    #[test]
    fn failures_are_forgotten_in_time() {
        let throttle = Throttle::new();
        // One in each two minutes never adds up to ten in fifteen.
        for number in 0..100 {
            assert_eq!(fail(&throttle, "192.0.2.1", "ann", number * 120), Ok(()));
        }
        let throttle = Throttle::new();
        for _ in 0..10 {
            fail(&throttle, "192.0.2.1", "ann", 0).unwrap();
        }
        // Quiet for as long as the wait and the window: all is as at first.
        for _ in 0..10 {
            assert_eq!(fail(&throttle, "192.0.2.1", "ann", 30 + 900), Ok(()));
        }
        assert_eq!(fail(&throttle, "192.0.2.1", "ann", 30 + 900), Err(30));
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let throttle = Throttle::new();
        for _ in 0..10 {
            fail(&throttle, "192.0.2.1", "ann", 1_000_000).unwrap();
        }
        assert_eq!(fail(&throttle, "192.0.2.1", "ann", 1_000_000), Err(30));
        assert_eq!(fail(&throttle, "192.0.2.1", "ann", 0), Ok(()));
        assert_eq!(throttle.check(Some(ip("192.0.2.1")), "ann", at(0)), Ok(()));
    }

    #[test]
    fn looking_counts_nothing() {
        let throttle = Throttle::new();
        for _ in 0..1_000 {
            assert_eq!(throttle.check(Some(ip("192.0.2.1")), "ann", at(0)), Ok(()));
        }
        for _ in 0..10 {
            fail(&throttle, "192.0.2.1", "ann", 0).unwrap();
        }
        for _ in 0..1_000 {
            assert_eq!(throttle.check(Some(ip("192.0.2.1")), "ann", at(0)), Err(Duration::from_secs(30)));
        }
        fail(&throttle, "192.0.2.1", "ann", 30).unwrap();
        assert_eq!(throttle.check(None, "ann", at(30)), Err(Duration::from_mins(1)));
    }

    #[test]
    fn a_thousand_at_once_do_not_pass_before_the_first_has_failed() {
        let throttle = Throttle::new();
        let barrier = std::sync::Barrier::new(50);
        let tries = || {
            barrier.wait();
            let tries = (0..20).map(|number| throttle.begin(Some(ip(&format!("192.0.2.{number}"))), "ann", at(0)));
            tries.filter_map(Result::ok).collect::<Vec<_>>()
        };
        let attempts: Vec<Attempt> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50).map(|_| scope.spawn(tries)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(attempts.len(), 10);
        assert!(throttle.begin(None, "ann", at(0)).is_err());
        for attempt in attempts {
            attempt.failed(at(1));
        }
        assert_eq!(throttle.check(None, "ann", at(1)), Err(Duration::from_secs(30)), "ten failures are one wait");
        // After the wait, one at a time.
        let one = throttle.begin(None, "ann", at(31)).unwrap();
        assert!(throttle.begin(None, "ann", at(31)).is_err());
        one.failed(at(31));
        assert_eq!(throttle.check(None, "ann", at(31)), Err(Duration::from_mins(1)));
    }

    #[test]
    fn a_try_that_nothing_came_of_does_not_count() {
        let throttle = Throttle::new();
        for _ in 0..100 {
            drop(throttle.begin(Some(ip("192.0.2.1")), "ann", at(0)).unwrap());
        }
        assert_eq!(fail(&throttle, "192.0.2.1", "ann", 0), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let throttle = Throttle::new();
        let long = "x".repeat(100_000);
        for number in 0..i64::try_from(REMEMBERED).unwrap() + 1_000 {
            let _ = throttle.begin(Some(IpAddr::V4(u32::try_from(number).unwrap().into())), &number.to_string(), at(0));
        }
        fail(&throttle, "192.0.2.1", &long, 0).unwrap();
        assert!(throttle.names.len() <= REMEMBERED && throttle.addresses.len() <= REMEMBERED);
    }
}
