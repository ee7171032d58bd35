//! Package names: the only way from text to a name.
//!
//! Invariant: a [`PackageName`] is safe as a part of an object key, a file name and a URL. It holds no `..`, no empty
//! part, no control character, no back-slash and no percent sign, and no part of it starts with `.`, `_` or `-`. The
//! first segment `-` of a URL is the registry's own name space, hence the last rule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// npm refuses longer names since 2014 (`validate-package-name`).
pub const MAX_NAME_BYTES: usize = 214;

/// Why a text is not a package name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there, or nothing before or after the slash.
    #[error("a package name must not be empty")]
    Empty,
    /// Over [`MAX_NAME_BYTES`].
    #[error("a package name must not be longer than {MAX_NAME_BYTES} characters")]
    TooLong,
    /// Starts with a character that is reserved.
    #[error("a package name must not start with `.`, `_` or `-`")]
    ReservedStart,
    /// Has a character that is not URL-safe.
    #[error("a package name may only have letters, digits and the characters - _ . ! ~ * ' ( )")]
    BadCharacter,
    /// A slash in a name without a scope, or more than one slash.
    #[error("a package name is either `name` or `@scope/name`")]
    BadShape,
    /// Allowed for packages that exist, refused for new ones.
    #[error("a new package name must be in lower case and may only have letters, digits and the characters - _ .")]
    NotForNewPackages,
    /// `node_modules` and `favicon.ico`, as `validate-package-name` refuses them.
    #[error("this package name is reserved")]
    Reserved,
}

/// A package's name, as `name` or `@scope/name`. Cheap to clone.
///
/// Two names that differ in case are two packages: the public registry has some old ones in mixed case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageName(Arc<str>);

impl PackageName {
    /// The whole name, decoded: `@scope/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope, for a scoped name.
    pub fn scope(&self) -> Option<Scope<'_>> {
        self.0.split_once('/').map(|(scope, _)| Scope(scope))
    }

    /// The part after the scope, or the whole name: what a tarball's file name starts with.
    pub fn basename(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// The name as one path segment, `@scope%2fname`: the spelling that npm, yarn, bun and deno send.
    pub fn to_path_segment(&self) -> String {
        self.0.replacen('/', "%2f", 1)
    }

    /// Refuses names that may exist from before today's rules, but that nobody may create any more.
    ///
    /// # Errors
    /// [`NameError::NotForNewPackages`] or [`NameError::Reserved`], the rules of `validate-package-name` for new packages.
    pub fn check_new(&self) -> Result<(), NameError> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '@' | '/');
        if !self.0.chars().all(allowed) {
            return Err(NameError::NotForNewPackages);
        }
        if matches!(self.basename(), "node_modules" | "favicon.ico") {
            return Err(NameError::Reserved);
        }
        Ok(())
    }
}

impl FromStr for PackageName {
    type Err = NameError;

    /// Checks a name that was percent-decoded exactly once.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        match text.strip_prefix('@') {
            Some(rest) => {
                let (scope, name) = rest.split_once('/').ok_or(NameError::BadShape)?;
                check_part(scope)?;
                check_part(name)?;
            }
            None => check_part(text)?,
        }
        Ok(Self(text.into()))
    }
}

fn check_part(part: &str) -> Result<(), NameError> {
    let first = part.chars().next().ok_or(NameError::Empty)?;
    if part.contains('/') {
        return Err(NameError::BadShape);
    }
    if matches!(first, '.' | '_' | '-') {
        return Err(NameError::ReservedStart);
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '!' | '~' | '*' | '\'' | '(' | ')');
    if !part.chars().all(allowed) {
        return Err(NameError::BadCharacter);
    }
    Ok(())
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A scope with its `@`, borrowed from a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope<'a>(&'a str);

impl<'a> Scope<'a> {
    /// With the `@`.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn name(text: &str) -> Result<PackageName, NameError> {
        text.parse()
    }

    #[test]
    fn names_that_exist_are_accepted() {
        for text in ["a", "lodash", "@types/node", "JSONStream", "lodash.merge", "a!b~c*d'(e)", "@a/b.c_d-e"] {
            assert_eq!(name(text).map(|n| n.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn anything_that_could_leave_its_key_is_refused() {
        for text in [
            "", ".", "..", "../etc", "a/b", "@a", "@a/", "@/b", "@a/../b", "@a/b/c", "-", "-x", "_x", ".x", "@a/.b",
            "@a/-b", "@-a/b", "a\0b", "a\\b", "a b", "a%2fb", "%2e%2e", "a:b", "a#1", "a?b", "ä", "@ä/b", "a\n",
            "@a%2fb",
        ] {
            assert!(name(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(name(&"a".repeat(215)), Err(NameError::TooLong));
        assert!(name(&"a".repeat(214)).is_ok());
    }

    #[test]
    fn new_names_are_stricter_than_old_ones() {
        for text in ["JSONStream", "a~b", "node_modules", "@a/B", "favicon.ico"] {
            assert!(name(text).unwrap().check_new().is_err(), "{text}");
        }
        assert!(name("@acme/good_name.js").unwrap().check_new().is_ok());
    }

    #[test]
    fn the_parts_of_a_scoped_name() {
        let scoped = name("@acme/tool").unwrap();
        assert_eq!(scoped.scope().map(Scope::as_str), Some("@acme"));
        assert_eq!(scoped.basename(), "tool");
        assert_eq!(scoped.to_path_segment(), "@acme%2ftool");
        assert_eq!(name("tool").unwrap().scope(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_is_accepted_is_safe(text in r"[@./\\\\%a-cA-C0-9_~!*'() \x00-\x1f\u{e4}-]{0,14}|.{0,20}") {
            let Ok(parsed) = name(&text) else { return Ok(()) };
            prop_assert_eq!(parsed.as_str(), &text);
            prop_assert!(!text.contains(['\\', '%', '\0', ' ']));
            prop_assert!(text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_', '-'])));
        }

        #[test]
        fn a_name_survives_its_own_spellings(text in "(@[a-z0-9][a-z0-9._~-]{0,8}/)?[a-zA-Z0-9][a-zA-Z0-9._!~*'()-]{0,12}") {
            let parsed = name(&text).unwrap();
            prop_assert_eq!(name(&parsed.to_string()), Ok(parsed.clone()));
            prop_assert_eq!(name(&parsed.to_path_segment().replace("%2f", "/")), Ok(parsed.clone()));
            let scope = parsed.scope().map(|scope| format!("{}/", scope.as_str())).unwrap_or_default();
            prop_assert_eq!(scope + parsed.basename(), text);
        }
    }
}
