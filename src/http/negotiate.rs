//! What a client wants: which form, which coding, and whether it has it already.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH};

use crate::npm::Form;
use crate::registry::Encoding;

/// The form to serve: the short one only when it is named, with a quality at least that of
/// `application/json`. Never a 406: yarn classic and deno send the packument's `Accept` with everything.
pub(super) fn form(headers: &HeaderMap) -> Form {
    let accept = all_values(headers, &ACCEPT);
    let short = quality(&accept, Form::Abbreviated.media_type());
    let full = quality(&accept, Form::Full.media_type());
    if short > 0 && short >= full { Form::Abbreviated } else { Form::Full }
}

/// The coding to serve: of those with the best quality the one with the fewest bytes for the least work.
pub(super) fn encoding(headers: &HeaderMap) -> Encoding {
    let accept = all_values(headers, &ACCEPT_ENCODING);
    let known = [(Encoding::Zstd, "zstd"), (Encoding::Brotli, "br"), (Encoding::Gzip, "gzip")];
    let best = known.iter().rev().map(|(encoding, name)| (quality(&accept, name), *encoding)).max_by_key(|(q, _)| *q);
    match best {
        Some((q, encoding)) if q > 0 => encoding,
        _ => Encoding::Identity,
    }
}

/// Whether the client's copy is the current one (RFC 9110, 13.1): the ETag decides where one was sent, the date else.
pub(super) fn is_unchanged(headers: &HeaderMap, etag: &str, modified_seconds: Option<i64>) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let tags = all_values(headers, &IF_NONE_MATCH);
        return tags
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == etag);
    }
    let since = headers
        .get(IF_MODIFIED_SINCE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    matches!((since, modified_seconds), (Some(since), Some(modified)) if modified <= since)
}

fn all_values(headers: &HeaderMap, name: &http::HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// The quality of an item in thousandths, 0 when it is not named. Wildcards do not name anything.
fn quality(list: &str, wanted: &str) -> u16 {
    let item = |item: &str| {
        let mut parts = item.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(wanted) {
            return None;
        }
        let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
        Some(q.map_or(1000, |q| (q.trim().parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u16))
    };
    list.split(',').filter_map(item).max().unwrap_or(0)
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
        assert!(is_unchanged(&headers("if-none-match", "\"x\", W/\"abc\""), "abc", None));
        assert!(!is_unchanged(&headers("if-none-match", "\"x\""), "abc", Some(0)));
        let date = headers("if-modified-since", "Thu, 01 Jan 1970 00:00:10 GMT");
        assert!(is_unchanged(&date, "abc", Some(10)));
        assert!(!is_unchanged(&date, "abc", Some(11)));
        assert!(!is_unchanged(&date, "abc", None));
    }
}
