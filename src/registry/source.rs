//! Where a name belongs: to us, to exactly one upstream, or nowhere. Decided by the name alone.
//!
//! There is no merging of origins and no fall-through from "not found": that is how private names leak and how public
//! packages come to stand in for them.

use crate::npm::{PackageName, Pattern};
use crate::upstream::Upstream;

/// What the settings say of a name.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// Ours. Never asked upstream, not even when it is not there.
    Claimed,
    /// An upstream's, unless it was published here first.
    Upstream(&'a Upstream),
    /// No upstream is responsible; ours if it is here.
    Unrouted,
}

/// Rules that cannot mean what they say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The same pattern stands in two places.
    #[error("the upstreams `{first}` and `{second}` both have `{pattern}`; a name belongs to exactly one")]
    Ambiguous {
        /// An upstream's name.
        first: String,
        /// The other's.
        second: String,
        /// The pattern.
        pattern: String,
    },
    /// An upstream's pattern lies within a claim and would never be used.
    #[error("the upstream `{upstream}` can never be asked for `{pattern}`, because `{claim}` is claimed as ours")]
    Unreachable {
        /// The upstream's name.
        upstream: String,
        /// Its pattern.
        pattern: String,
        /// The claim that covers it.
        claim: String,
    },
}

/// All claims and upstreams.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    claims: Vec<Pattern>,
    upstreams: Vec<(Vec<Pattern>, Upstream)>,
}

impl Sources {
    /// Puts the rules together and refuses those that can never match or that contradict each other.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn new(claims: Vec<Pattern>, upstreams: Vec<(Vec<Pattern>, Upstream)>) -> Result<Self, Vec<SourceError>> {
        let mut errors = Vec::new();
        let all: Vec<(&Pattern, &str)> = upstreams
            .iter()
            .flat_map(|(patterns, upstream)| patterns.iter().map(|pattern| (pattern, upstream.name())))
            .collect();
        for (index, (pattern, upstream)) in all.iter().enumerate() {
            if let Some((_, first)) = all[..index].iter().find(|(other, _)| other == pattern) {
                errors.push(SourceError::Ambiguous {
                    first: (*first).to_owned(),
                    second: (*upstream).to_owned(),
                    pattern: pattern.to_string(),
                });
            }
            if let Some(claim) = claims.iter().find(|claim| claim.covers(pattern)) {
                errors.push(SourceError::Unreachable {
                    upstream: (*upstream).to_owned(),
                    pattern: pattern.to_string(),
                    claim: claim.to_string(),
                });
            }
        }
        if errors.is_empty() { Ok(Self { claims, upstreams }) } else { Err(errors) }
    }

    /// Where a name belongs. Of several patterns the most specific decides, whatever their order.
    pub fn route(&self, name: &PackageName) -> Route<'_> {
        let claim = self.claims.iter().filter(|pattern| pattern.matches(name)).min();
        let upstream = self
            .upstreams
            .iter()
            .flat_map(|(patterns, upstream)| patterns.iter().map(move |pattern| (pattern, upstream)))
            .filter(|(pattern, _)| pattern.matches(name))
            .min_by_key(|(pattern, _)| *pattern);
        match (claim, upstream) {
            // A claim that is as specific as the upstream's pattern cannot be: that is refused above.
            (Some(claim), Some((pattern, upstream))) if pattern < claim => Route::Upstream(upstream),
            (Some(_), _) => Route::Claimed,
            (None, Some((_, upstream))) => Route::Upstream(upstream),
            (None, None) => Route::Unrouted,
        }
    }

    /// The upstream that all names go to that nobody else has: it answers public searches and old-style audits.
    pub fn default_upstream(&self) -> Option<&Upstream> {
        self.upstreams.iter().find(|(patterns, _)| patterns.contains(&Pattern::Any)).map(|(_, upstream)| upstream)
    }

    /// All upstreams.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().map(|(_, upstream)| upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::upstream::Settings;

    fn upstream(name: &str) -> Upstream {
        Upstream::new(Settings::new(name, "http://127.0.0.1:1/".parse().unwrap()), Clock::default()).unwrap()
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn routed(sources: &Sources, name: &str) -> String {
        match sources.route(&name.parse().unwrap()) {
            Route::Claimed => "ours".to_owned(),
            Route::Upstream(upstream) => upstream.name().to_owned(),
            Route::Unrouted => "nobody".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_pattern_decides() {
        let sources = Sources::new(
            patterns(&["@acme/*", "internal"]),
            vec![
                (patterns(&["**"]), upstream("public")),
                (patterns(&["@partner/*", "@types/node"]), upstream("partner")),
            ],
        )
        .unwrap();
        for (name, expected) in [
            ("lodash", "public"),
            ("internal", "ours"),
            ("@acme/tool", "ours"),
            ("@acmes/tool", "public"),
            ("@partner/x", "partner"),
            ("@types/node", "partner"),
            ("@types/react", "public"),
        ] {
            assert_eq!(routed(&sources, name), expected, "{name}");
        }
        assert_eq!(routed(&Sources::default(), "lodash"), "nobody");
    }

    #[test]
    fn rules_that_can_never_match_are_refused() {
        let both = Sources::new(vec![], vec![(patterns(&["**"]), upstream("a")), (patterns(&["**"]), upstream("b"))]);
        assert!(matches!(both.unwrap_err()[..], [SourceError::Ambiguous { .. }]));
        let covered = Sources::new(patterns(&["@acme/*"]), vec![(patterns(&["@acme/x", "**"]), upstream("a"))]);
        assert!(matches!(covered.unwrap_err()[..], [SourceError::Unreachable { .. }]));
    }
}
