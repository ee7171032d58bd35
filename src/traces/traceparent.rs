//! The header by which a client says which trace a request belongs to, of W3C's Trace Context.

use super::span::{SpanId, TraceId};

/// What the first version of the header has; later ones may have more behind it.
const LENGTH: usize = 55;
/// No version has a longer one that is worth reading.
const MAX_LENGTH: usize = 512;
/// The version that no header may have.
const NO_VERSION: u8 = 0xff;
/// Whoever sent the request records this trace.
const SAMPLED: u8 = 1;

/// The span of a client that a request is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) is_sampled: bool,
}

/// Reads the header's value. `None` for everything that the specification does not allow: then a new trace begins.
pub(super) fn parse(value: &[u8]) -> Option<Parent> {
    let has_end = value.get(LENGTH).is_none_or(|next| *next == b'-');
    let are_dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
    if value.len() > MAX_LENGTH || !has_end || !are_dashes {
        return None;
    }
    let [version] = hex(value.get(..2)?)?;
    if version == NO_VERSION || (version == 0 && value.len() != LENGTH) {
        return None;
    }
    let (trace, span) = (hex(value.get(3..35)?)?, hex(value.get(36..52)?)?);
    let [flags] = hex(value.get(53..LENGTH)?)?;
    // All zeros stand for none.
    let is_some = trace != [0; 16] && span != [0; 8];
    is_some.then_some(Parent { trace: TraceId(trace), span: SpanId(span), is_sampled: flags & SAMPLED != 0 })
}

/// Bytes from small hex digits; capital ones are not allowed.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if digits.len() != N * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_the_specification_allows_is_taken() {
        for (header, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-more-of-a-later-version"), true),
        ] {
            let parent = parse(header.as_bytes()).unwrap_or_else(|| panic!("{header}"));
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(parent.span.0, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
            assert_eq!(parent.is_sampled, is_sampled, "{header}");
        }
    }

    #[test]
    fn everything_else_is_none() {
        for header in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("01-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-{}", "x".repeat(MAX_LENGTH)),
            "\u{fc}".repeat(LENGTH),
        ] {
            assert_eq!(parse(header.as_bytes()), None, "{header}");
        }
    }
}
