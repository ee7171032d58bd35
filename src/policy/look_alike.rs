//! Names that look like other names: what a slip of the finger, or somebody who counts on one, makes of them.

use std::collections::BTreeSet;

use crate::npm::PackageName;

/// Shorter names are all alike.
const MIN_LETTERS: usize = 4;

/// What a new name looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookAlike {
    /// The name in use.
    pub resembles: String,
}

/// The name in use that a name never asked for before looks like: the same but for punctuation and case (npm compares
/// new names so), one letter more, less or other, or two neighbours exchanged. `None` for a name that is in use itself.
///
/// A scoped name is compared with names of its own scope, and, without its scope, with none: `@types/react` is no slip
/// for `react`.
pub fn look_alike(name: &PackageName, in_use: &BTreeSet<String>) -> Option<LookAlike> {
    if in_use.contains(name.as_str()) {
        return None;
    }
    let (scope, own) = (name.scope().map(|scope| scope.as_str().to_owned()), bare(name.basename()));
    in_use
        .iter()
        .find(|other| {
            let (other_scope, other) = match other.split_once('/') {
                Some((scope, basename)) => (Some(scope), basename),
                None => (None, other.as_str()),
            };
            other_scope == scope.as_deref() && are_alike(&own, &bare(other))
        })
        .map(|other| LookAlike { resembles: other.clone() })
}

/// Without punctuation and case.
fn bare(name: &str) -> Vec<u8> {
    name.bytes().filter(u8::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

fn are_alike(one: &[u8], other: &[u8]) -> bool {
    if one.len().min(other.len()) < MIN_LETTERS || one.len().abs_diff(other.len()) > 1 {
        return false;
    }
    let same_start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same_start..], &other[same_start..]);
    let same_end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[..one.len() - same_end], &other[..other.len() - same_end]);
    match (one, other) {
        // A number that differs is another package of a family: `lib1` and `lib2`.
        ([a], [b]) => !(a.is_ascii_digit() && b.is_ascii_digit()),
        ([], [] | [_]) | ([_], []) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_families_are_not() {
        let in_use: BTreeSet<String> =
            ["lodash", "is-odd", "@acme/logger", "base64", "left1"].map(ToOwned::to_owned).into();
        for (name, expected) in [
            ("lodahs", Some("lodash")),
            ("lodas", Some("lodash")),
            ("lodashs", Some("lodash")),
            ("Lodash", Some("lodash")),
            ("isodd", Some("is-odd")),
            ("is-even", None),
            ("lodash", None),
            ("left2", None),
            ("base32", None),
            ("@acme/loger", Some("@acme/logger")),
            ("@other/logger", None),
            ("logger", None),
            ("od", None),
        ] {
            let found = look_alike(&name.parse().unwrap(), &in_use).map(|found| found.resembles);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
