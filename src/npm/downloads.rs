//! Periods of npm's download counts: `last-day`, `last-week`, `2026-11-30`, `2026-11-01:2026-11-30`. Days are days in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Timestamp;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// A day in UTC, printed as `2026-11-30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// A text that is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a day such as `2026-11-30`")]
pub struct DayError;

impl Day {
    /// The day of an instant.
    pub fn of(instant: Timestamp) -> Self {
        Self(instant.as_millis().div_euclid(DAY_MILLIS))
    }

    /// The day so many days before.
    #[must_use]
    pub fn back(self, days: u16) -> Self {
        Self(self.0 - i64::from(days))
    }

    /// The first instant that is not in it any more.
    pub fn end(self) -> Timestamp {
        Timestamp::from_millis(self.0 * DAY_MILLIS).plus(Duration::from_hours(24))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Timestamp::from_millis(self.0 * DAY_MILLIS).to_string();
        f.write_str(text.split_once('T').map_or(&text, |(day, _)| day))
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let day = Self::of(format!("{text}T00:00:00Z").parse().map_err(|_| DayError)?);
        // One spelling for each day.
        if day.to_string() == text { Ok(day) } else { Err(DayError) }
    }
}

/// Days one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first one.
    pub first: Day,
    /// The last one, which is in it too.
    pub last: Day,
}

/// A text that is no period, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It cannot be read.
    #[error(
        "a period is `last-day`, `last-week`, `last-month`, `last-year`, a day such as `2026-11-30`, or `2026-11-01:2026-11-30`"
    )]
    Unknown,
    /// It ends before it begins.
    #[error("the period ends before it begins")]
    Backwards,
    /// More days than are given out.
    #[error("a period has at most {0} days")]
    TooLong(u16),
}

impl Period {
    /// Days of one question: 18 months.
    pub const MAX_DAYS: u16 = 549;
    /// Days of a question about several packages.
    pub const MAX_DAYS_OF_SEVERAL: u16 = 365;

    /// The period that a text means on a day. What counts back ends with the day before, the last one of which all is known.
    ///
    /// # Errors
    /// For a text that means nothing, and for more than `most` days.
    pub fn read(text: &str, today: Day, most: u16) -> Result<Self, PeriodError> {
        let ending_yesterday = |days: u16| Self { first: today.back(days), last: today.back(1) };
        let day = |text: &str| text.parse::<Day>().map_err(|_| PeriodError::Unknown);
        let period = match text {
            "last-day" => ending_yesterday(1),
            "last-week" => ending_yesterday(7),
            "last-month" => ending_yesterday(30),
            "last-year" => ending_yesterday(365),
            _ => match text.split_once(':') {
                Some((first, last)) => Self { first: day(first)?, last: day(last)? },
                None => Self { first: day(text)?, last: day(text)? },
            },
        };
        match period.last.0 - period.first.0 {
            days if days < 0 => Err(PeriodError::Backwards),
            days if days >= i64::from(most) => Err(PeriodError::TooLong(most)),
            _ => Ok(period),
        }
    }

    /// Its days in order.
    pub fn days(self) -> impl Iterator<Item = Day> {
        (self.first.0..=self.last.0).map(Day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, String), PeriodError> {
        let today = Day::of("2026-03-01T23:59:59.999Z".parse().unwrap());
        Period::read(text, today, 365).map(|period| (period.first.to_string(), period.last.to_string()))
    }

    #[test]
    fn a_period_is_read_as_npm_means_it() {
        for (text, first, last) in [
            ("last-day", "2026-02-28", "2026-02-28"),
            ("last-week", "2026-02-22", "2026-02-28"),
            ("last-month", "2026-01-30", "2026-02-28"),
            ("last-year", "2025-03-01", "2026-02-28"),
            ("2026-03-01", "2026-03-01", "2026-03-01"),
            ("2024-02-28:2024-03-01", "2024-02-28", "2024-03-01"),
        ] {
            assert_eq!(read(text), Ok((first.to_owned(), last.to_owned())), "{text}");
        }
        for text in ["", "last-decade", "2026-3-1", "2026-02-30", "2026-02-01:", "2026-01-01:2026-01-02:2026-01-03"] {
            assert_eq!(read(text), Err(PeriodError::Unknown), "{text}");
        }
        assert_eq!(read("2026-03-01:2026-02-01"), Err(PeriodError::Backwards));
        assert_eq!(read("2025-03-01:2026-03-01"), Err(PeriodError::TooLong(365)));
        assert!(read("2025-03-02:2026-03-01").is_ok());
    }

    #[test]
    fn the_days_of_a_period_are_all_of_them() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let period = Period { first: day("2024-02-28"), last: day("2024-03-01") };
        let days: Vec<String> = period.days().map(|day| day.to_string()).collect();
        assert_eq!(days, ["2024-02-28", "2024-02-29", "2024-03-01"]);
        assert_eq!(day("1969-12-31").end().as_millis(), 0);
    }
}
