//! One spelling for each path.
//!
//! Clients write a scoped name in four ways. In front of the router each path is brought into the
//! one with the slash encoded, so that every route is written once and a name is always one segment.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Brings a path into its canonical spelling: a segment that is a bare scope takes the next one in.
///
/// Nothing is decoded for good here; the one decoding happens when a segment becomes a name.
pub(super) fn canonical(path: &str) -> Cow<'_, str> {
    // Most names have no scope, and npm sends scoped ones as one segment.
    let has_scope = path.bytes().any(|byte| matches!(byte, b'@' | b'%'));
    if !has_scope || !path.split('/').any(is_bare_scope) {
        return Cow::Borrowed(path);
    }
    let mut output = String::with_capacity(path.len() + 4);
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        output.push('/');
        output.push_str(segment);
        if is_bare_scope(segment)
            && let Some(name) = segments.next_if(|next| !next.is_empty() && *next != "-")
        {
            output.push_str("%2f");
            output.push_str(name);
        }
    }
    Cow::Owned(output)
}

fn is_bare_scope(segment: &str) -> bool {
    if !(segment.starts_with('@') || segment.starts_with("%40")) {
        return false;
    }
    let decoded: Vec<u8> = percent_decode_str(segment).collect();
    decoded.len() > 1 && !decoded.contains(&b'/')
}

/// Takes the public URL's prefix off a path. Paths without it are served too: some clients drop it for single calls,
/// and a proxy may have taken it off.
pub(super) fn without_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    let prefix = prefix.trim_end_matches('/');
    match path.strip_prefix(prefix) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

/// What of the public URL's prefix is still on a path when a front end has taken its own off: all of it, the part behind the
/// front end's, or nothing.
pub(super) fn prefix_left<'a>(prefix: &'a str, taken: &str) -> &'a str {
    if taken.ends_with(prefix) {
        return "";
    }
    prefix.strip_prefix(taken).filter(|rest| rest.starts_with('/')).unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_scoped_name_becomes_one() {
        for (path, expected) in [
            ("/@s%2fname", "/@s%2fname"),
            ("/@s%2Fname", "/@s%2Fname"),
            ("/@s/name", "/@s%2fname"),
            ("/%40s/name", "/%40s%2fname"),
            ("/%40s%2Fname", "/%40s%2Fname"),
            ("/@s/name/-/name-1.0.0.tgz", "/@s%2fname/-/name-1.0.0.tgz"),
            ("/@s/name/-/@s/name-1.0.0.tgz", "/@s%2fname/-/@s%2fname-1.0.0.tgz"),
            ("/-/package/@s/name/dist-tags", "/-/package/@s%2fname/dist-tags"),
            ("/-/npm/v1/attestations/@s/name@1.0.0", "/-/npm/v1/attestations/@s%2fname@1.0.0"),
            ("/plain", "/plain"),
            ("/plain/1.0.0", "/plain/1.0.0"),
            ("/@s/-/x", "/@s/-/x"),
            ("/@", "/@"),
            ("/", "/"),
        ] {
            assert_eq!(canonical(path), expected);
        }
    }

    #[test]
    fn a_prefix_is_taken_off_and_not_demanded() {
        for (path, expected) in
            [("/npm/lodash", "/lodash"), ("/npm", "/"), ("/npm/", "/"), ("/lodash", "/lodash"), ("/npmx", "/npmx")]
        {
            assert_eq!(without_prefix(path, "/npm/"), expected);
        }
        assert_eq!(without_prefix("/lodash", "/"), "/lodash");
    }

    #[test]
    fn what_a_front_end_took_off_is_not_taken_off_again() {
        for (prefix, taken, left) in [
            ("", "", ""),
            ("/npm", "", "/npm"),
            ("/prod", "/prod", ""),
            ("/prod/registry", "/prod", "/registry"),
            ("/prod/registry", "/prod/registry", ""),
            // A domain of their own in front of `/prod/registry`.
            ("/registry", "/prod", "/registry"),
            ("/registry", "/prod/registry", ""),
            ("/production", "/prod", "/production"),
        ] {
            assert_eq!(prefix_left(prefix, taken), left, "{prefix} {taken}");
        }
    }
}
