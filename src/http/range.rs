//! The `Range` header, for one range of bytes.

use crate::registry::ByteRange;

/// What to answer to a `Range` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// The whole file: no header, one that is not understood, or several ranges, which a server may ignore (RFC 9110, 14.2).
    Whole,
    /// A part.
    Part(ByteRange),
    /// A part that the file does not have.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of a size.
pub(super) fn requested(header: Option<&str>, size: u64) -> Requested {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Requested::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Requested::Whole };
    let (first, last) = (first.trim(), last.trim());
    if spec.contains(',') {
        return Requested::Whole;
    }
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let part = match (first, last) {
        ("", suffix) => match number(suffix) {
            Some(0) => return Requested::Unsatisfiable,
            Some(length) => ByteRange { start: size.saturating_sub(length), end: size },
            None => return Requested::Whole,
        },
        (first, "") => match number(first) {
            Some(start) => ByteRange { start, end: size },
            None => return Requested::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(start), Some(last)) if start <= last => ByteRange { start, end: last.saturating_add(1).min(size) },
            _ => return Requested::Whole,
        },
    };
    if part.start < part.end { Requested::Part(part) } else { Requested::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_rfc_has_them() {
        let part = |start, end| Requested::Part(ByteRange { start, end });
        for (header, expected) in [
            (None, Requested::Whole),
            (Some("bytes=0-9"), part(0, 10)),
            (Some("bytes=10-"), part(10, 100)),
            (Some("bytes=-10"), part(90, 100)),
            (Some("bytes=-1000"), part(0, 100)),
            (Some("bytes=90-1000"), part(90, 100)),
            (Some("bytes=99-99"), part(99, 100)),
            (Some("bytes=100-"), Requested::Unsatisfiable),
            (Some("bytes=-0"), Requested::Unsatisfiable),
            (Some("bytes=9-1"), Requested::Whole),
            (Some("bytes=0-1,5-6"), Requested::Whole),
            (Some("bytes=+1-5"), Requested::Whole),
            (Some("items=0-1"), Requested::Whole),
            (Some("bytes=18446744073709551615-18446744073709551615"), Requested::Unsatisfiable),
        ] {
            assert_eq!(requested(header, 100), expected, "{header:?}");
        }
        assert_eq!(requested(Some("bytes=0-0"), 0), Requested::Unsatisfiable);
    }
}
