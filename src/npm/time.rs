//! Instants as npm writes them: RFC 3339 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An instant in milliseconds since 1970, printed as npm prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time")]
pub struct TimestampError;

impl Timestamp {
    /// From milliseconds since 1970, clamped to years that can be printed.
    pub fn from_millis(millis: i64) -> Self {
        let bound = 253_402_207_200_999;
        Self(millis.clamp(-bound, bound))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The instant so much later.
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The instant so much earlier.
    pub fn minus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// From an instant, or from a day such as `2026-11-30`, which begins at midnight in UTC.
    ///
    /// # Errors
    /// When it is neither.
    pub fn of_day_or_instant(text: &str) -> Result<Self, TimestampError> {
        text.parse().or_else(|_| format!("{text}T00:00:00Z").parse())
    }

    /// The time since an earlier instant; none since a later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// Whole seconds since 1970, rounded down: what `Last-Modified` can say.
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant:.3}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000Z"),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse::<jiff::Timestamp>().map(|instant| Self(instant.as_millisecond())).map_err(|_| TimestampError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_npm_writes_it() {
        let instant: Timestamp = "2026-11-23T15:10:00.250Z".parse().unwrap();
        assert_eq!(instant.to_string(), "2026-11-23T15:10:00.250Z");
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!("2026-11-23T17:10:00+02:00".parse::<Timestamp>().unwrap().to_string(), "2026-11-23T15:10:00.000Z");
        assert_eq!(instant.as_seconds(), instant.as_millis() / 1000);
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::of_day_or_instant("2026-11-23").unwrap().to_string(), "2026-11-23T00:00:00.000Z");
        assert_eq!(Timestamp::of_day_or_instant("2026-11-23T15:10:00.250Z"), Ok(instant));
        assert!(Timestamp::of_day_or_instant("2026-11").is_err());
    }
}
