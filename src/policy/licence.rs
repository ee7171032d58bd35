//! Licence expressions against a list of licences.

use spdx::{Expression, ParseMode};

/// How a version's licence stands to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// One can use the version under licences of the list alone.
    Within,
    /// One cannot.
    Outside,
    /// It names no licence, or none that is understood.
    Unknown,
}

/// Judges `MIT OR GPL-3.0-only` by a list such as `["MIT", "ISC"]`: one alternative whose every part is on it is enough.
pub(super) fn standing(licence: Option<&str>, list: &[String]) -> Standing {
    let Some(text) = licence.map(str::trim).filter(|text| !text.is_empty()) else { return Standing::Unknown };
    // What is no expression may still be what the list says: `SEE LICENSE IN LICENSE.md`, `UNLICENSED`.
    if list.iter().any(|listed| listed.eq_ignore_ascii_case(text)) {
        return Standing::Within;
    }
    let Ok(expression) = Expression::parse_mode(text, ParseMode::LAX) else { return Standing::Unknown };
    let is_listed = |requirement: &spdx::LicenseReq| {
        let name = requirement.to_string();
        list.iter().any(|listed| listed.eq_ignore_ascii_case(&name))
    };
    if expression.evaluate(is_listed) { Standing::Within } else { Standing::Outside }
}

/// Whether a version cannot be used without a licence of a list. `MIT OR GPL-3.0-only` does not need the second.
pub(super) fn needs_one_of(licence: Option<&str>, list: &[String]) -> bool {
    let Some(text) = licence.map(str::trim) else { return false };
    let is_listed = |name: &str| list.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) => !expression.evaluate(|requirement| !is_listed(&requirement.to_string())),
        Err(_) => is_listed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alternative_on_the_list_is_enough() {
        let list: Vec<String> = ["MIT", "ISC", "UNLICENSED"].map(ToOwned::to_owned).into();
        for (text, expected) in [
            (Some("MIT"), Standing::Within),
            (Some("mit"), Standing::Within),
            (Some("(MIT OR GPL-3.0-only)"), Standing::Within),
            (Some("MIT AND GPL-3.0-only"), Standing::Outside),
            (Some("GPL-3.0-or-later"), Standing::Outside),
            (Some("UNLICENSED"), Standing::Within),
            (Some("SEE LICENSE IN x.md"), Standing::Unknown),
            (Some(""), Standing::Unknown),
            (None, Standing::Unknown),
        ] {
            assert_eq!(standing(text, &list), expected, "{text:?}");
        }
    }

    #[test]
    fn a_licence_that_can_be_done_without_is_not_needed() {
        let list = ["GPL-3.0-only".to_owned(), "Commercial".to_owned()];
        assert!(needs_one_of(Some("GPL-3.0-only"), &list));
        assert!(needs_one_of(Some("MIT AND GPL-3.0-only"), &list));
        assert!(!needs_one_of(Some("MIT OR GPL-3.0-only"), &list));
        assert!(needs_one_of(Some("commercial"), &list));
        assert!(!needs_one_of(None, &list));
    }
}
