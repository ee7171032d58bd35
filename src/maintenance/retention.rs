//! Which prereleases of a package nobody has to keep: a pure function of the document, the rule and the time.

use std::time::Duration;

use super::is_past;
use crate::npm::packument::HostedPackument;
use crate::npm::pattern::matches_pattern;
use crate::npm::{PackageName, Pattern, Timestamp, Version};

/// What is kept of the prereleases of some packages. Stable versions always are, and so is what a dist-tag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Which packages.
    pub packages: Pattern,
    /// How many prereleases stay, the ones that were published last.
    pub keep_prereleases: usize,
    /// Younger ones stay, however many there are.
    pub older_than: Duration,
    /// Version numbers that stay, in which `*` stands for any text: `*-lts*`.
    pub protect: Vec<String>,
}

impl Retention {
    /// The most specific of the rules that speak of a package.
    pub(super) fn of<'a>(rules: &'a [Self], name: &PackageName) -> Option<&'a Self> {
        rules.iter().filter(|rule| rule.packages.matches(name)).min_by_key(|rule| &rule.packages)
    }

    /// The versions that may go, in the order in which they were published last.
    pub(super) fn outdated(&self, document: &HostedPackument<'_>, now: Timestamp) -> Vec<String> {
        let mut prereleases: Vec<(Timestamp, &str)> = document
            .version_numbers()
            .filter(|number| number.parse::<Version>().is_ok_and(|version| version.is_prerelease()))
            // One whose age nobody knows stays.
            .filter_map(|number| Some((document.published_at(number)?, number)))
            .collect();
        prereleases.sort_by(|one, other| other.cmp(one));
        let is_kept = |number: &str| {
            document.dist_tags().values().any(|tagged| tagged == number)
                || self.protect.iter().any(|pattern| matches_pattern(pattern, number))
        };
        prereleases
            .into_iter()
            .skip(self.keep_prereleases)
            .filter(|(published, number)| is_past(published.as_seconds(), self.older_than, now) && !is_kept(number))
            .map(|(_, number)| number.to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(packages: &str, keep_prereleases: usize, days: u64) -> Retention {
        let older_than = Duration::from_hours(24 * days);
        let protect = vec!["*-lts*".to_owned(), "3.0.0-rc.1".to_owned()];
        Retention { packages: packages.parse().unwrap(), keep_prereleases, older_than, protect }
    }

    /// A document of these versions, published one a day from the first of March on.
    fn document(numbers: &[&str], tags: &serde_json::Value) -> Vec<u8> {
        let versions: serde_json::Map<_, _> =
            numbers.iter().map(|number| ((*number).to_owned(), json!({ "version": number }))).collect();
        let time: serde_json::Map<_, _> = numbers
            .iter()
            .enumerate()
            .map(|(day, number)| ((*number).to_owned(), json!(format!("2026-03-{:02}T12:00:00.000Z", day + 1))))
            .collect();
        let stored = json!({ "name": "tool", "versions": versions, "time": time, "dist-tags": tags, "_holdfast": {} });
        serde_json::to_vec(&stored).unwrap()
    }

    fn outdated(rule: &Retention, stored: &[u8]) -> Vec<String> {
        let now = "2026-03-20T12:00:00.000Z".parse().unwrap();
        rule.outdated(&HostedPackument::parse(stored).unwrap(), now)
    }

    #[test]
    fn only_old_prereleases_that_nobody_named_go() {
        let numbers = ["1.0.0-a.1", "1.0.0-a.2", "1.0.0", "2.0.0-lts.1", "2.0.0-b.1", "2.0.0-b.2", "3.0.0-rc.1"];
        let stored = document(&numbers, &json!({ "latest": "1.0.0", "next": "1.0.0-a.2" }));
        assert_eq!(outdated(&rule("tool", 0, 0), &stored), ["2.0.0-b.2", "2.0.0-b.1", "1.0.0-a.1"]);
        assert_eq!(outdated(&rule("tool", 2, 0), &stored), ["2.0.0-b.1", "1.0.0-a.1"]);
        assert_eq!(outdated(&rule("tool", 0, 16), &stored), ["1.0.0-a.1"]);
        assert!(outdated(&rule("tool", 7, 0), &stored).is_empty());
    }

    #[test]
    fn a_version_without_a_time_stays() {
        let stored =
            br#"{"name":"tool","versions":{"1.0.0-a.1":{},"1.0.0-a.2":{}},"time":{"1.0.0-a.2":"soon"},"_holdfast":{}}"#;
        assert!(outdated(&rule("tool", 0, 0), stored).is_empty());
    }

    #[test]
    fn the_most_specific_rule_counts() {
        let rules = [rule("**", 1, 0), rule("@acme/*", 2, 0), rule("@acme/tool", 3, 0)];
        let kept = |name: &str| Retention::of(&rules, &name.parse().unwrap()).map(|rule| rule.keep_prereleases);
        assert_eq!((kept("tool"), kept("@acme/x"), kept("@acme/tool")), (Some(1), Some(2), Some(3)));
        assert_eq!(Retention::of(&rules[1..], &"tool".parse().unwrap()), None);
    }
}
