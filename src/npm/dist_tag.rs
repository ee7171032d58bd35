//! Dist-tags: names for versions, such as `latest`.

use std::fmt;
use std::str::FromStr;

use super::version::Range;

/// Why a text cannot be a dist-tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DistTagError {
    /// Empty, too long, or with characters that cannot stand in a URL segment.
    #[error(
        "a tag must be 1 to 128 characters long, without white space, slashes, percent signs or control characters"
    )]
    BadText,
    /// npm could not tell it from a version or a range.
    #[error("a tag must not look like a version or a range")]
    LooksLikeVersion,
}

/// A dist-tag that is safe to store: never a valid range, as every npm client requires.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DistTag(String);

impl DistTag {
    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag that an install without a range resolves.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

impl FromStr for DistTag {
    type Err = DistTagError;

    fn from_str(text: &str) -> Result<Self, DistTagError> {
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '%' | '?' | '#');
        if text.is_empty() || text.len() > 128 || text.contains(forbidden) || text.starts_with('.') {
            return Err(DistTagError::BadText);
        }
        if text.parse::<Range>().is_ok() {
            return Err(DistTagError::LooksLikeVersion);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DistTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_npm_would_read_as_ranges_are_refused() {
        for text in ["1.0", "v1.0", "1", "^1.2.3", "1.x", "*", "x", ">=2", "1.0.0", "v1.0.0-beta"] {
            assert_eq!(text.parse::<DistTag>(), Err(DistTagError::LooksLikeVersion), "{text}");
        }
        for text in ["", "a/b", "a b", "..", "a%2fb", "a\0", "a\nb"] {
            assert_eq!(text.parse::<DistTag>(), Err(DistTagError::BadText), "{text:?}");
        }
        for text in ["latest", "next", "beta-1", "release_2", "canary.3"] {
            assert!(text.parse::<DistTag>().is_ok(), "{text}");
        }
    }
}
