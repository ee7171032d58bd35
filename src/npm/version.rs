//! Versions and ranges as npm understands them, over the `nodejs-semver` crate.
//!
//! Two versions that differ only in build metadata are the same version, as on the public registry: it is dropped when
//! a version is read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// npm's `semver` refuses longer versions.
pub const MAX_VERSION_BYTES: usize = 256;

/// A text that is not a version, or not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid semantic version")]
pub struct VersionError(String);

/// A semantic version in its canonical spelling, without `v` and without build metadata. Ordered by precedence.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(nodejs_semver::Version);

impl Version {
    /// True for `1.0.0-beta.1`, false for `1.0.0`.
    pub fn is_prerelease(&self) -> bool {
        self.0.is_prerelease()
    }

    /// Whether both are stable, or both are prereleases of one kind: `1.0.0-rc.1` and `2.0.0-rc.7`, which begin with the
    /// same letters.
    pub fn is_of_same_class(&self, other: &Self) -> bool {
        let kind = |version: &Self| -> String {
            let first = version.0.pre_release().first().map(ToString::to_string).unwrap_or_default();
            first.chars().take_while(char::is_ascii_alphabetic).collect()
        };
        self.is_prerelease() == other.is_prerelease() && kind(self) == kind(other)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Accepts what `semver.parse` of npm accepts in strict mode, after a leading `v` or `=`.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.chars().take(MAX_VERSION_BYTES).collect());
        let bare = text.trim_start_matches(['v', '=']);
        let without_build = bare.split_once('+').map_or(bare, |(version, _)| version);
        if text.len() > MAX_VERSION_BYTES {
            return Err(error());
        }
        let version = nodejs_semver::Version::parse(without_build).map_err(|_| error())?;
        // The parser is lenient in places (leading zeros, white space); the canonical spelling is not.
        if is_plain(without_build) || version.to_string() == without_build { Ok(Self(version)) } else { Err(error()) }
    }
}

/// The canonical spelling of a version; `None` where the text is none.
pub fn canonical(text: &str) -> Option<Cow<'_, str>> {
    let version: Version = text.parse().ok()?;
    Some(if is_plain(text) { Cow::Borrowed(text) } else { Cow::Owned(version.to_string()) })
}

/// Whether a text is spelled as nearly all versions are, three numbers without needless zeros: if it is a version, that is its
/// canonical spelling.
fn is_plain(text: &str) -> bool {
    let is_number = |part: &str| match part.as_bytes() {
        [b'0', _, ..] | [] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    let mut parts = text.split('.');
    (0..3).all(|_| parts.next().is_some_and(is_number)) && parts.next().is_none()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.to_string())
    }
}

impl std::hash::Hash for Version {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_string().hash(state);
    }
}

/// A range such as `^1.2.0 || >=3`.
#[derive(Debug, Clone)]
pub struct Range(nodejs_semver::Range);

impl Range {
    /// Whether the version lies in the range; prereleases only where the range names one, as npm does.
    pub fn contains(&self, version: &Version) -> bool {
        self.0.satisfies(&version.0)
    }

    /// Whether the version lies in the range, prereleases taken for what they are: for rules about versions, which no
    /// prerelease should slip through.
    pub fn contains_with_prereleases(&self, version: &Version) -> bool {
        self.0.satisfies_with_prerelease(&version.0, true)
    }
}

impl FromStr for Range {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = || VersionError(text.chars().take(MAX_VERSION_BYTES).collect());
        if text.len() > MAX_VERSION_BYTES {
            return Err(error());
        }
        nodejs_semver::Range::parse(text).map(Self).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cmp::Ordering;
    use std::hash::{DefaultHasher, Hash, Hasher as _};

    use proptest::prelude::*;

    #[test]
    fn versions_are_canonical() {
        for (text, expected) in [
            ("1.0.0", Some("1.0.0")),
            ("v1.2.3", Some("1.2.3")),
            ("1.2.3-beta.1", Some("1.2.3-beta.1")),
            ("1.2.3+build.5", Some("1.2.3")),
            ("1.2.3-a+b", Some("1.2.3-a")),
            ("1.2", None),
            ("01.2.3", None),
            ("1.2.3-01", None),
            (" 1.2.3", None),
            ("1.2.3 ", None),
            ("1.02.3", None),
            ("1.2.03", None),
            ("0.0.0", Some("0.0.0")),
            ("1.2", None),
            ("1.2.3.4", None),
            ("1..3", None),
            ("latest", None),
            ("", None),
            ("1.2.3/../x", None),
            ("99999999999999999999.0.0", None),
        ] {
            let parsed = text.parse::<Version>().ok().map(|v| v.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn precedence_follows_the_specification() {
        let sorted = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.2.0", "1.10.0"];
        let versions: Vec<Version> = sorted.iter().map(|v| v.parse().unwrap()).collect();
        assert!(versions.is_sorted());
    }

    #[test]
    fn ranges_leave_prereleases_out_unless_named() {
        let contains = |range: &str, version: &str| range.parse::<Range>().unwrap().contains(&version.parse().unwrap());
        assert!(contains("^1.2.0", "1.9.9"));
        assert!(!contains("^1.2.0", "2.0.0"));
        assert!(!contains("^1.2.0", "1.3.0-beta.1"));
        assert!(contains("^1.3.0-beta.0", "1.3.0-beta.1"));
        assert!(contains("*", "1.0.0"));
        assert!(contains("1 || 3", "3.1.0"));
    }

    fn any_version() -> impl Strategy<Value = Version> {
        let identifier = prop_oneof!["0|[1-9][0-9]{0,3}", "[0-9]{0,2}[a-zA-Z-][0-9a-zA-Z-]{0,4}"];
        let numbers = (0u32..20, 0u32..20, 0u32..20);
        (numbers, prop::collection::vec(identifier, 0..4)).prop_map(|((major, minor, patch), identifiers)| {
            let dash = if identifiers.is_empty() { "" } else { "-" };
            format!("{major}.{minor}.{patch}{dash}{}", identifiers.join(".")).parse().unwrap()
        })
    }

    fn hash(version: &Version) -> u64 {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in r"[v=^~<>|*xX0-9. +a-c-]{0,24}|.{0,24}", version in any_version()) {
            if let Ok(parsed) = text.parse::<Version>() {
                prop_assert_eq!(parsed.to_string().parse::<Version>(), Ok(parsed));
            }
            if let Ok(range) = text.parse::<Range>() {
                let _ = range.contains(&version);
            }
        }

        #[test]
        fn versions_come_back_as_they_were(version in any_version(), build in "[0-9a-z]{1,4}") {
            prop_assert_eq!(version.to_string().parse(), Ok(version.clone()));
            prop_assert_eq!(format!("v{version}+{build}").parse(), Ok(version.clone()));
            prop_assert!(version.to_string().parse::<Range>().unwrap().contains(&version));
        }

        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            prop_assert_eq!(a == b, a.to_string() == b.to_string());
            prop_assert!(a != b || hash(&a) == hash(&b));
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            prop_assert_eq!(format!(">={b}").parse::<Range>().unwrap().contains(&a) && !a.is_prerelease(), a >= b && !a.is_prerelease());
        }
    }
}
