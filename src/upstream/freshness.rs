//! Whether a kept answer may be used as it is. Pure: values in, a verdict out.
//!
//! Invariant: nothing is fresh for ever. An answer that seems to come from the future (the clock was set back, or another
//! machine's clock is ahead) is revalidated at once.

use std::time::Duration;

use crate::npm::Timestamp;

/// Bounds on how long an upstream's answers are used without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For an answer whose sender said nothing.
    pub default: Duration,
    /// What a sender's `max-age` is raised to; equal to `longest`, it makes the sender's word not count.
    pub shortest: Duration,
    /// What a sender's `max-age` is cut to.
    pub longest: Duration,
    /// For "there is no such package". Short, since somebody may be about to publish it.
    pub negative: Duration,
}

impl Default for Limits {
    /// Five minutes, as the public registry asks of its clients; one minute for what is not there.
    fn default() -> Self {
        Self {
            default: Duration::from_mins(5),
            shortest: Duration::ZERO,
            longest: Duration::from_mins(5),
            negative: Duration::from_mins(1),
        }
    }
}

/// What is kept of an upstream's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// A document, with what its sender said of its lifetime.
    Found {
        /// From [`max_age`].
        max_age: Option<Duration>,
    },
    /// That there is none.
    Absent,
}

/// The verdict on a kept answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Use it as it is.
    Fresh {
        /// The first instant at which it is no longer fresh.
        until: Timestamp,
    },
    /// Ask the upstream, with the validators if there are any.
    Revalidate,
}

impl Limits {
    /// How long an answer counts as fresh from when it was fetched.
    pub fn lifetime(&self, kept: Kept) -> Duration {
        match kept {
            // `max` after `min`: with bounds that contradict each other, the shortest wins, and nothing panics.
            Kept::Found { max_age: Some(age) } => age.min(self.longest).max(self.shortest),
            Kept::Found { max_age: None } => self.default,
            Kept::Absent => self.negative,
        }
    }

    /// Judges an answer that was fetched, or confirmed by a 304, at `fetched_at`.
    pub fn judge(&self, kept: Kept, fetched_at: Timestamp, now: Timestamp) -> Freshness {
        let lifetime = i64::try_from(self.lifetime(kept).as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(fetched_at.as_millis().saturating_add(lifetime));
        if fetched_at <= now && now < until { Freshness::Fresh { until } } else { Freshness::Revalidate }
    }
}

/// What a sender says of the lifetime of an answer (RFC 9111, 4.2.1, for a shared cache): `s-maxage` before `max-age`,
/// less the time it already spent in other caches. `no-store` and `no-cache` are a lifetime of zero: a registry's proxy
/// that kept nothing could not serve when the upstream is down. `None` when nothing is said.
pub fn max_age(cache_control: &str, age_seconds: Option<u64>) -> Option<Duration> {
    let mut own = None;
    let mut shared = None;
    for directive in cache_control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => own = Some(seconds(value)),
            "s-maxage" => shared = Some(seconds(value)),
            _ => {}
        }
    }
    let lifetime = shared.or(own)?;
    Some(Duration::from_secs(lifetime.saturating_sub(age_seconds.unwrap_or(0))))
}

/// A value that is not a number means "stale" (RFC 9111, 4.2.1). Cut to a size that no arithmetic overflows with.
fn seconds(value: &str) -> u64 {
    let digits = value.trim().trim_matches('"');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    digits.parse().unwrap_or(u64::MAX).min(u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        default: Duration::from_mins(5),
        shortest: Duration::from_secs(10),
        longest: Duration::from_secs(1000),
        negative: Duration::from_mins(1),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn found(max_age: Option<u64>) -> Kept {
        Kept::Found { max_age: max_age.map(Duration::from_secs) }
    }

    #[test]
    fn each_answer_has_its_lifetime_to_the_second() {
        let cases = [
            (found(None), 300),
            (found(Some(100)), 100),
            (found(Some(0)), 10),
            (found(Some(9_999_999_999)), 1000),
            (Kept::Absent, 60),
        ];
        for (kept, lifetime) in cases {
            let fresh = Freshness::Fresh { until: at(5000 + lifetime) };
            assert_eq!(LIMITS.judge(kept, at(5000), at(5000)), fresh, "{kept:?}");
            assert_eq!(LIMITS.judge(kept, at(5000), at(5000 + lifetime - 1)), fresh, "{kept:?}");
            assert_eq!(LIMITS.judge(kept, at(5000), at(5000 + lifetime)), Freshness::Revalidate, "{kept:?}");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_makes_nothing_fresh_for_ever() {
        assert_eq!(LIMITS.judge(found(None), at(5000), at(4999)), Freshness::Revalidate);
        assert_eq!(LIMITS.judge(Kept::Absent, at(i64::MAX / 1000), at(0)), Freshness::Revalidate);
    }

    #[test]
    fn a_lifetime_of_zero_is_never_fresh() {
        let limits = Limits { shortest: Duration::ZERO, ..LIMITS };
        assert_eq!(limits.judge(found(Some(0)), at(5000), at(5000)), Freshness::Revalidate);
    }

    #[test]
    fn limits_that_contradict_each_other_do_no_harm() {
        let limits = Limits { shortest: Duration::from_secs(50), longest: Duration::from_secs(5), ..LIMITS };
        assert_eq!(limits.lifetime(found(Some(20))), Duration::from_secs(50));
        let endless = Limits { default: Duration::MAX, ..LIMITS };
        assert!(matches!(endless.judge(found(None), at(0), at(1)), Freshness::Fresh { .. }));
    }

    #[test]
    fn what_senders_say() {
        let cases = [
            ("public, max-age=300", None, Some(300)),
            ("public, max-age=300", Some(100), Some(200)),
            ("max-age=300", Some(400), Some(0)),
            ("max-age=300, s-maxage=20", None, Some(20)),
            ("Max-Age = \"30\"", None, Some(30)),
            ("no-cache", None, Some(0)),
            ("no-store, max-age=300", None, Some(0)),
            ("max-age=soon", None, Some(0)),
            ("max-age=-1", None, Some(0)),
            ("max-age=99999999999999999999999", None, Some(u64::from(u32::MAX))),
            ("public", None, None),
            ("", None, None),
        ];
        for (text, age, expected) in cases {
            assert_eq!(max_age(text, age), expected.map(Duration::from_secs), "{text}");
        }
    }
}
