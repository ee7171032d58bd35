//! The two representations of a packument, and how to tell them apart.

use super::raw::RawObject;

/// Which representation of a packument is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Everything that was published, with times, readme and people.
    Full,
    /// What an install needs (`application/vnd.npm.install-v1+json`).
    Abbreviated,
}

/// Top-level members that no abbreviated document has.
const FULL_ONLY: [&str; 5] = ["_id", "_rev", "readme", "maintainers", "users"];

/// Members of a version that no abbreviated document has.
const FULL_ONLY_IN_VERSION: [&str; 4] = ["_id", "_npmUser", "maintainers", "scripts"];

impl Form {
    /// The media type that names this form in `Content-Type`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Full => "application/json",
            Self::Abbreviated => "application/vnd.npm.install-v1+json",
        }
    }

    /// The form of a document, seen from its members alone; `None` when they fit both.
    ///
    /// Labels cannot be trusted: there are mirrors that answer the full document whatever was asked. One version is
    /// looked at, the first, since a registry writes them all alike. `time` alone does not make a document full,
    /// because some registries add it to the abbreviated form for pnpm; `modified` marks that form.
    pub fn of(document: &RawObject<'_>) -> Option<Self> {
        if FULL_ONLY.iter().any(|key| document.get(key).is_some()) {
            return Some(Self::Full);
        }
        let versions = document.object("versions");
        let first = versions.as_ref().and_then(|versions| versions.iter().next()).and_then(|(_, raw)| {
            // A version that is not an object tells nothing.
            RawObject::from_raw(raw)
        });
        if first.is_some_and(|version| FULL_ONLY_IN_VERSION.iter().any(|key| version.get(key).is_some())) {
            return Some(Self::Full);
        }
        if document.get("modified").is_some() {
            return Some(Self::Abbreviated);
        }
        document.get("time").map(|_| Self::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_tell_the_form() {
        let cases = [
            (r#"{"_id":"a","name":"a","versions":{}}"#, Some(Form::Full)),
            (r#"{"name":"a","versions":{},"modified":"x","readme":""}"#, Some(Form::Full)),
            (r#"{"name":"a","modified":"x","versions":{"1.0.0":{"scripts":{}}}}"#, Some(Form::Full)),
            (r#"{"name":"a","time":{},"versions":{"1.0.0":{"dist":{}}}}"#, Some(Form::Full)),
            (r#"{"name":"a","modified":"x","dist-tags":{},"versions":{"1.0.0":{"dist":{}}}}"#, Some(Form::Abbreviated)),
            (r#"{"name":"a","modified":"x","time":{},"versions":{"1.0.0":{"dist":{}}}}"#, Some(Form::Abbreviated)),
            (r#"{"name":"a","dist-tags":{},"versions":{"1.0.0":{"dist":{}}}}"#, None),
            (r#"{"name":"a","versions":{"1.0.0":7}}"#, None),
        ];
        for (text, expected) in cases {
            assert_eq!(Form::of(&RawObject::parse(text.as_bytes()).unwrap()), expected, "{text}");
        }
    }
}
