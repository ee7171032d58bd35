//! Where a name belongs: to us, to exactly one upstream, or nowhere. Decided by the name alone.
//!
//! There is no merging of origins and no fall-through from "not found": that is how private names leak and how public
//! packages come to stand in for them.

use std::fmt;
use std::str::FromStr;

use crate::npm::PackageName;
use crate::upstream::Upstream;

/// A set of names: `name`, `@scope/name`, `@scope/*`, `@*/*` or `**`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// This one name.
    Exact(PackageName),
    /// All names of a scope, kept with its `@`.
    Scope(String),
    /// All scoped names.
    AnyScope,
    /// All names.
    Any,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a package name, `@scope/*`, `@*/*` or `**`")]
pub struct PatternError(String);

impl Pattern {
    fn matches(&self, name: &PackageName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Scope(scope) => name.scope().is_some_and(|own| own.as_str() == scope),
            Self::AnyScope => name.scope().is_some(),
            Self::Any => true,
        }
    }

    /// Whether every name of the other set is in this one.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::AnyScope, Self::AnyScope | Self::Scope(_)) => true,
            (Self::AnyScope, Self::Exact(name)) => name.scope().is_some(),
            (Self::Scope(a), Self::Scope(b)) => a == b,
            (_, Self::Exact(name)) => self.matches(name),
            _ => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = || PatternError(text.chars().take(100).collect());
        match text {
            "**" | "*" => Ok(Self::Any),
            "@*/*" => Ok(Self::AnyScope),
            _ => match text.strip_suffix("/*") {
                // A scope is good when some name in it would be.
                Some(scope) if scope.starts_with('@') => {
                    format!("{scope}/x").parse::<PackageName>().map_err(|_| error())?;
                    if scope.contains('*') {
                        return Err(error());
                    }
                    Ok(Self::Scope(scope.to_owned()))
                }
                // A star is a letter of some old names, but whoever writes one here means a pattern.
                _ if text.contains('*') => Err(error()),
                _ => text.parse().map(Self::Exact).map_err(|_| error()),
            },
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Scope(scope) => write!(f, "{scope}/*"),
            Self::AnyScope => f.write_str("@*/*"),
            Self::Any => f.write_str("**"),
        }
    }
}

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

    #[test]
    fn only_patterns_are_patterns() {
        for text in ["@acme", "@acme/", "lod*", "@a*/x", "", "../*", "@../*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
