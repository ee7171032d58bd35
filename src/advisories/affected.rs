//! Which versions an advisory is about.
//!
//! Ranges are kept as intervals, and their order is the plain precedence of `SemVer`: `1.0.0-beta` lies in `<1.0.0`,
//! whatever npm's ranges make of prereleases. The meaning of events is that of the OSV schema, "Evaluation".

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::npm::Version;

/// npm's own spelling of a range that nothing is in.
const NOTHING: &str = "<0.0.0-0";

/// A set of versions: intervals and single versions. Sorted, without overlaps and repetitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    intervals: Vec<Interval>,
    versions: Vec<Version>,
    fixes: Vec<Version>,
}

/// From one version to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The first version in it; `None` is below all versions.
    pub from: Option<Version>,
    /// Where it ends.
    pub end: End,
}

/// Where an interval ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this version, exclusive.
    Before(Version),
    /// With this version, inclusive.
    UpTo(Version),
    /// It does not.
    Open,
}

/// What happens at a version, one line of an OSV range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// From here on; `None` is `"0"`, before all versions.
    Introduced(Option<Version>),
    /// From here on no more.
    Fixed(Version),
    /// After this one no more.
    LastAffected(Version),
    /// Nothing from here on counts; `None` is `"*"`. Of several the highest.
    Limit(Option<Version>),
}

impl Affected {
    /// All versions there are and will be.
    pub fn all() -> Self {
        Self { intervals: vec![Interval { from: None, end: End::Open }], ..Self::default() }
    }

    /// From parts, in any order and with overlaps.
    pub fn new(intervals: Vec<Interval>, versions: Vec<Version>, fixes: Vec<Version>) -> Self {
        let mut affected = Self { intervals, versions, fixes };
        affected.tidy();
        affected
    }

    /// From OSV ranges and single versions. Events of one version happen in the order in which they are listed.
    pub fn of(ranges: impl IntoIterator<Item = Vec<Event>>, versions: Vec<Version>) -> Self {
        let mut affected = Self { versions, ..Self::default() };
        for mut events in ranges {
            events.sort_by(|a, b| a.version().cmp(&b.version()));
            affected.intervals.extend(intervals_of(&events));
            affected.fixes.extend(events.into_iter().filter_map(|event| match event {
                Event::Fixed(version) => Some(version),
                _ => None,
            }));
        }
        affected.tidy();
        affected
    }

    /// All that any of them has.
    pub fn union(all: impl IntoIterator<Item = Self>) -> Self {
        let mut union = Self::default();
        for one in all {
            union.intervals.extend(one.intervals);
            union.versions.extend(one.versions);
            union.fixes.extend(one.fixes);
        }
        union.tidy();
        union
    }

    /// Whether a version is affected.
    pub fn contains(&self, version: &Version) -> bool {
        self.versions.binary_search(version).is_ok() || lies_in(&self.intervals, version)
    }

    /// The versions that records name as fixed, lowest first. One of them may be affected by another range.
    pub fn fixes(&self) -> &[Version] {
        &self.fixes
    }

    /// Whether there is a fix above a version that is not affected itself.
    pub fn has_fix_for(&self, version: &Version) -> bool {
        self.fixes.iter().any(|fix| fix > version && !self.contains(fix))
    }

    /// True when no version is and will be unaffected.
    pub fn everything(&self) -> bool {
        self.intervals.iter().any(|interval| interval.from.is_none() && interval.end == End::Open)
    }

    /// True when no version is affected.
    pub fn nothing(&self) -> bool {
        self.intervals.is_empty() && self.versions.is_empty()
    }

    /// In npm's syntax, for `vulnerable_versions`: `>=1.0.0 <1.2.3 || =2.0.0`.
    pub fn range_text(&self) -> String {
        let mut text = String::new();
        let mut next = |part: std::fmt::Arguments<'_>| {
            let or = if text.is_empty() { "" } else { " || " };
            // Writing to a text cannot fail.
            let _ = write!(text, "{or}{part}");
        };
        for Interval { from, end } in &self.intervals {
            match (from, end) {
                (None, End::Open) => next(format_args!(">=0")),
                (None, End::Before(end)) => next(format_args!("<{end}")),
                (None, End::UpTo(end)) => next(format_args!("<={end}")),
                (Some(from), End::Open) => next(format_args!(">={from}")),
                (Some(from), End::Before(end)) => next(format_args!(">={from} <{end}")),
                (Some(from), End::UpTo(end)) if from == end => next(format_args!("={from}")),
                (Some(from), End::UpTo(end)) => next(format_args!(">={from} <={end}")),
            }
        }
        for version in &self.versions {
            next(format_args!("={version}"));
        }
        if text.is_empty() { NOTHING.to_owned() } else { text }
    }

    /// For storing.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// For storing: the versions that are in no interval.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Brings everything into the one order and form, so that the same set is the same value.
    fn tidy(&mut self) {
        self.intervals.retain(|interval| !interval.is_empty());
        self.intervals.sort_by(|a, b| a.from.cmp(&b.from).then_with(|| compare_ends(&a.end, &b.end)));
        let mut joined: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        for interval in self.intervals.drain(..) {
            match joined.last_mut() {
                Some(last) if last.reaches(interval.from.as_ref()) => {
                    if compare_ends(&last.end, &interval.end) == Ordering::Less {
                        last.end = interval.end;
                    }
                }
                _ => joined.push(interval),
            }
        }
        self.intervals = joined;
        let intervals = &self.intervals;
        self.versions.retain(|version| !lies_in(intervals, version));
        for versions in [&mut self.versions, &mut self.fixes] {
            versions.sort();
            versions.dedup();
        }
    }
}

impl Interval {
    fn contains(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|from| from <= version)
            && match &self.end {
                End::Before(end) => version < end,
                End::UpTo(end) => version <= end,
                End::Open => true,
            }
    }

    fn is_empty(&self) -> bool {
        match (&self.from, &self.end) {
            (Some(from), End::Before(end)) => from >= end,
            (Some(from), End::UpTo(end)) => from > end,
            // Nothing comes before `0.0.0-0`, but nobody writes that either.
            (None, _) | (_, End::Open) => false,
        }
    }

    /// Whether an interval that starts there, and not before this one, has no gap to this one.
    fn reaches(&self, start: Option<&Version>) -> bool {
        match (&self.end, start) {
            (End::Open, _) | (_, None) => true,
            (End::Before(end) | End::UpTo(end), Some(start)) => start <= end,
        }
    }
}

impl Event {
    /// Where it sorts: `None` is below all versions.
    fn version(&self) -> Option<&Version> {
        match self {
            Self::Introduced(version) | Self::Limit(version) => version.as_ref(),
            Self::Fixed(version) | Self::LastAffected(version) => Some(version),
        }
    }
}

/// Whether a version is in one of these intervals, which are sorted and have gaps between them.
fn lies_in(intervals: &[Interval], version: &Version) -> bool {
    let not_after = intervals.partition_point(|interval| interval.from.as_ref().is_none_or(|from| from <= version));
    not_after.checked_sub(1).and_then(|last| intervals.get(last)).is_some_and(|interval| interval.contains(version))
}

fn compare_ends(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (End::Open, End::Open) => Ordering::Equal,
        (End::Open, _) => Ordering::Greater,
        (_, End::Open) => Ordering::Less,
        (End::Before(a), End::Before(b)) | (End::UpTo(a), End::UpTo(b)) => a.cmp(b),
        (End::Before(a), End::UpTo(b)) => a.cmp(b).then(Ordering::Less),
        (End::UpTo(a), End::Before(b)) => a.cmp(b).then(Ordering::Greater),
    }
}

/// From sorted events to intervals, some of which may be empty.
fn intervals_of(events: &[Event]) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Vec::new();
    let mut open: Option<Option<Version>> = None;
    for event in events {
        match event {
            Event::Introduced(version) => {
                open.get_or_insert_with(|| version.clone());
            }
            Event::Fixed(version) => {
                // A fix in the last affected version itself: two events that contradict each other, the later one holds.
                let last = End::UpTo(version.clone());
                for interval in intervals.iter_mut().rev().take_while(|interval| interval.end == last) {
                    interval.end = End::Before(version.clone());
                }
                if let Some(from) = open.take() {
                    intervals.push(Interval { from, end: End::Before(version.clone()) });
                }
            }
            Event::LastAffected(version) => {
                if let Some(from) = open.take() {
                    intervals.push(Interval { from, end: End::UpTo(version.clone()) });
                }
            }
            Event::Limit(_) => {}
        }
    }
    intervals.extend(open.map(|from| Interval { from, end: End::Open }));
    let mut limits = events.iter().filter_map(|event| match event {
        Event::Limit(version) => Some(version.as_ref()),
        _ => None,
    });
    // Before any of the limits is before the highest; there is none when there are no limits or one of them is `*`.
    let highest = limits.try_fold(None, |highest, limit| limit.map(|limit| highest.max(Some(limit)))).flatten();
    if let Some(limit) = highest {
        let end = End::Before(limit.clone());
        for interval in &mut intervals {
            if compare_ends(&end, &interval.end) == Ordering::Less {
                interval.end = end.clone();
            }
        }
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    use crate::npm::Range;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn introduced(text: &str) -> Event {
        Event::Introduced((text != "0").then(|| version(text)))
    }

    fn fixed(text: &str) -> Event {
        Event::Fixed(version(text))
    }

    fn last(text: &str) -> Event {
        Event::LastAffected(version(text))
    }

    fn affected(events: &[Event]) -> Affected {
        Affected::of([events.to_vec()], Vec::new())
    }

    #[test]
    fn ranges_and_their_texts() {
        for (events, text, inside, outside) in [
            (vec![introduced("0")], ">=0", "9.9.9", None),
            (vec![introduced("0"), fixed("1.2.3")], "<1.2.3", "1.2.3-beta.1", Some("1.2.3")),
            (vec![fixed("1.2.3"), introduced("1.0.0")], ">=1.0.0 <1.2.3", "1.0.0", Some("1.0.0-rc.1")),
            (vec![introduced("1.0.0"), last("1.0.0")], "=1.0.0", "1.0.0", Some("1.0.1")),
            (vec![introduced("0"), last("2.0.0")], "<=2.0.0", "2.0.0", Some("2.0.1-0")),
            (vec![introduced("2.0.0")], ">=2.0.0", "3.0.0", Some("1.9.9")),
            (
                vec![introduced("3.0.0"), fixed("3.2.5"), introduced("1.0.0"), fixed("1.0.2")],
                ">=1.0.0 <1.0.2 || >=3.0.0 <3.2.5",
                "3.2.4",
                Some("2.0.0"),
            ),
            // Two ranges that meet are one.
            (
                vec![introduced("0"), fixed("1.0.0"), introduced("1.0.0"), fixed("2.0.0")],
                "<2.0.0",
                "1.0.0",
                Some("2.0.0"),
            ),
            (vec![introduced("0"), Event::Limit(Some(version("2.0.0")))], "<2.0.0", "1.0.0", Some("2.0.0")),
            (vec![introduced("0"), Event::Limit(Some(version("2.0.0"))), Event::Limit(None)], ">=0", "2.0.0", None),
        ] {
            let affected = affected(&events);
            assert_eq!(affected.range_text(), text);
            assert!(affected.contains(&version(inside)), "{text}");
            assert_eq!(affected.everything(), outside.is_none(), "{text}");
            if let Some(outside) = outside {
                assert!(!affected.contains(&version(outside)), "{text}");
            }
        }
    }

    #[test]
    fn nothing_is_a_range_too() {
        for nothing in
            [Affected::default(), affected(&[fixed("1.0.0")]), affected(&[introduced("1.0.0"), fixed("1.0.0")])]
        {
            assert_eq!(nothing.range_text(), NOTHING);
            assert!(nothing.nothing() && !nothing.contains(&version("1.0.0")));
        }
    }

    #[test]
    fn single_versions_stand_beside_ranges() {
        let versions = ["2.0.0", "0.5.0", "2.0.0"].map(version);
        let affected = Affected::of([vec![introduced("0"), fixed("1.0.0")]], versions.into());
        assert_eq!(affected.range_text(), "<1.0.0 || =2.0.0");
        assert!(affected.contains(&version("2.0.0+build")) && !affected.contains(&version("2.0.1")));
    }

    #[test]
    fn a_fix_is_above_and_unaffected() {
        let affected = affected(&[introduced("0"), fixed("1.2.3"), introduced("2.0.0"), fixed("2.0.5")]);
        assert_eq!(affected.fixes(), ["1.2.3", "2.0.5"].map(version));
        assert!(affected.has_fix_for(&version("1.0.0")) && affected.has_fix_for(&version("2.0.0")));
        let more = Affected::of([vec![introduced("2.0.5")]], Vec::new());
        let affected = Affected::union([affected, more]);
        assert!(affected.has_fix_for(&version("1.0.0")) && !affected.has_fix_for(&version("2.0.0")));
        assert!(!Affected::all().has_fix_for(&version("1.0.0")));
    }

    /// The pseudo-code of the schema, line by line.
    fn oracle(ranges: &[Vec<Event>], versions: &[Version], version: &Version) -> bool {
        let in_range = |events: &Vec<Event>| {
            let limits: Vec<_> = events.iter().filter(|event| matches!(event, Event::Limit(_))).collect();
            let before = |event: &&Event| matches!(event, Event::Limit(limit) if limit.as_ref().is_none_or(|limit| version < limit));
            if !limits.is_empty() && !limits.iter().any(before) {
                return false;
            }
            let mut sorted = events.clone();
            sorted.sort_by(|a, b| a.version().cmp(&b.version()));
            let mut vulnerable = false;
            for event in &sorted {
                match event {
                    Event::Introduced(from) if from.as_ref().is_none_or(|from| version >= from) => vulnerable = true,
                    Event::Fixed(fixed) if version >= fixed => vulnerable = false,
                    Event::LastAffected(last) if version > last => vulnerable = false,
                    _ => {}
                }
            }
            vulnerable
        };
        versions.contains(version) || ranges.iter().any(in_range)
    }

    fn any_version() -> impl Strategy<Value = Version> {
        (0..3u8, 0..2u8, 0..3u8, prop_oneof![Just(""), Just("-0"), Just("-a"), Just("-a.1")])
            .prop_map(|(major, minor, patch, pre)| format!("{major}.{minor}.{patch}{pre}").parse().unwrap())
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            1 => Just(Event::Introduced(None)),
            3 => any_version().prop_map(|version| Event::Introduced(Some(version))),
            3 => any_version().prop_map(Event::Fixed),
            2 => any_version().prop_map(Event::LastAffected),
            1 => prop::option::of(any_version()).prop_map(Event::Limit),
        ]
    }

    proptest! {
        #[test]
        fn containing_is_what_the_schema_says(
            ranges in prop::collection::vec(prop::collection::vec(any_event(), 0..6), 0..3),
            versions in prop::collection::vec(any_version(), 0..3),
            asked in prop::collection::vec(any_version(), 1..8),
        ) {
            let affected = Affected::of(ranges.clone(), versions.clone());
            let named = ranges.iter().flatten().filter_map(Event::version).cloned();
            for version in asked.into_iter().chain(named).chain(versions.clone()) {
                let expected = oracle(&ranges, &versions, &version);
                prop_assert_eq!(affected.contains(&version), expected, "{} in {:?}", version, affected);
                // Prereleases aside, npm reads the text as we do.
                if !version.is_prerelease() {
                    prop_assert_eq!(affected.range_text().parse::<Range>().unwrap().contains(&version), expected);
                }
            }
            let one_by_one = ranges.into_iter().map(|events| Affected::of([events], Vec::new()));
            let union = Affected::union(one_by_one.chain([Affected::of([], versions)]));
            prop_assert_eq!(&union, &affected);
            let again = Affected::new(affected.intervals.clone(), affected.versions.clone(), affected.fixes.clone());
            prop_assert_eq!(again, affected);
        }
    }
}
