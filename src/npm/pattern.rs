//! Sets of package names, as the settings write them.
//!
//! The order of patterns is their specificity: an exact name before its scope, a scope before all scopes, those before
//! everything. So the least of several that match is the most specific one.

use std::fmt;
use std::str::FromStr;

use super::PackageName;

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
    /// Whether a name is in the set.
    pub fn matches(&self, name: &PackageName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Scope(scope) => name.scope().is_some_and(|own| own.as_str() == scope),
            Self::AnyScope => name.scope().is_some(),
            Self::Any => true,
        }
    }

    /// Whether every name of the other set is in this one.
    pub fn covers(&self, other: &Self) -> bool {
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

/// Whether a text fits a pattern in which `*` stands for any text, the empty one included.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_patterns_are_patterns() {
        for text in ["@acme", "@acme/", "lod*", "@a*/x", "", "../*", "@../*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
