//! What a client wants: which form, which coding, and whether it has it already.

use http::header::{ACCEPT, ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::npm::Form;
use crate::registry::Encoding;

/// The form to serve: the short one only when it is named, with a quality at least that of
/// `application/json`. Never a 406: yarn classic and deno send the packument's `Accept` with everything.
pub(super) fn form(headers: &HeaderMap) -> Form {
    let [short, full] = qualities(headers, &ACCEPT, [Form::Abbreviated.media_type(), Form::Full.media_type()]);
    if short > 0 && short >= full { Form::Abbreviated } else { Form::Full }
}

/// The coding to serve: of those with the best quality the one with the fewest bytes for the least work.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    let known = [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];
    let found = qualities(headers, &ACCEPT_ENCODING, ["gzip", "br", "zstd"]);
    // Of equal ones the last.
    match found.into_iter().zip(known).max_by_key(|(quality, _)| *quality) {
        Some((quality, encoding)) if quality > 0 => encoding,
        _ => Encoding::Identity,
    }
}

/// Whether the client's copy is the current one (RFC 9110, 13.1): the ETag decides where one was sent, the date else. `etag` is
/// as it stands in the answer.
pub(super) fn is_unchanged(headers: &HeaderMap, etag: &[u8], modified_seconds: Option<i64>) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        return items(headers, &IF_NONE_MATCH).any(|tag| tag == b"*" || opaque(tag) == opaque(etag));
    }
    let since = headers
        .get(IF_MODIFIED_SINCE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    matches!((since, modified_seconds), (Some(since), Some(modified)) if modified <= since)
}

/// A tag without the mark of a weak one and without quotes.
fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(tag)
}

/// The items of a header that is a list, in however many lines it came.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The best quality of each wanted item in thousandths, 0 when it is not named. Wildcards do not name anything.
fn qualities<const N: usize>(headers: &HeaderMap, name: &HeaderName, wanted: [&str; N]) -> [u16; N] {
    let mut found = [0; N];
    for item in items(headers, name) {
        let end = item.iter().position(|byte| *byte == b';').unwrap_or(item.len());
        let (value, parameters) = item.split_at(end);
        let value = value.trim_ascii_end();
        if let Some(at) = wanted.iter().position(|wanted| value.eq_ignore_ascii_case(wanted.as_bytes())) {
            found[at] = quality(parameters).max(found[at]);
        }
    }
    found
}

/// What the parameters of an item say of its quality, in thousandths: `q=0.8`, with three digits at most behind the point
/// (RFC 9110, 12.4.2). What cannot be read is none.
fn quality(parameters: &[u8]) -> u16 {
    let mut parameters = parameters.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let q = parameters.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    let Some(q) = q.map(<[u8]>::trim_ascii) else { return 1000 };
    match q {
        [b'1', ..] => 1000,
        [b'0', b'.', digits @ ..] | [b'.', digits @ ..] => {
            let places = digits.iter().take_while(|digit| digit.is_ascii_digit()).zip([100, 10, 1]);
            places.map(|(digit, worth)| u16::from(digit - b'0') * worth).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn every_clients_accept_gets_its_form() {
        for (accept, expected) in [
            ("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*", Form::Abbreviated),
            ("application/json", Form::Full),
            ("*/*", Form::Full),
            ("application/json; q=1.0, */*", Form::Full),
            ("application/vnd.npm.install-v1+json", Form::Abbreviated),
            ("application/vnd.npm.install-v1+json; q=0.5, application/json", Form::Full),
            ("application/vnd.npm.install-v1+json;q=0", Form::Full),
            (
                "application/vnd.pnpr.install-v2+json; q=1.0, application/vnd.npm.install-v1+json; q=0.9, application/json; q=0.8, */*",
                Form::Abbreviated,
            ),
        ] {
            assert_eq!(form(&headers("accept", accept)), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()), Form::Full);
    }

    #[test]
    fn codings_follow_the_client() {
        for (accept, expected) in [
            ("gzip,deflate", Encoding::Gzip),
            ("gzip, deflate, br", Encoding::Brotli),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("zstd,gzip,deflate", Encoding::Zstd),
            ("gzip;q=1.0, identity;q=0.5", Encoding::Gzip),
            ("gzip;q=1.0, zstd;q=0.5", Encoding::Gzip),
            ("zstd;q=0, gzip;q=0.1", Encoding::Gzip),
            ("identity", Encoding::Identity),
            ("*", Encoding::Identity),
        ] {
            assert_eq!(encoding(&headers("accept-encoding", accept)), expected, "{accept}");
        }
    }

    #[test]
    fn a_current_copy_is_recognised() {
        assert!(is_unchanged(&headers("if-none-match", "\"x\", W/\"abc\""), b"\"abc\"", None));
        assert!(!is_unchanged(&headers("if-none-match", "\"x\""), b"\"abc\"", Some(0)));
        let date = headers("if-modified-since", "Thu, 01 Jan 1970 00:00:10 GMT");
        assert!(is_unchanged(&date, b"abc", Some(10)));
        assert!(!is_unchanged(&date, b"abc", Some(11)));
        assert!(!is_unchanged(&date, b"abc", None));
    }
}
