//! The two forms of a packument.

/// Which of a packument's two representations is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Everything, for people, for `npm view`, and for installs by npm since 10.4 and by yarn berry.
    Full,
    /// `application/vnd.npm.install-v1+json`: what an installer needs.
    Abbreviated,
}

impl Form {
    /// The media type of the form. pnpm decides by it what it has got.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Full => "application/json",
            Self::Abbreviated => "application/vnd.npm.install-v1+json",
        }
    }
}
