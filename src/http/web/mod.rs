//! What a person sees in a browser: the pages of a sign-in.
//!
//! Each is one HTML text without scripts and without anything from elsewhere, made by a template in `templates/` that
//! escapes whatever is put into it. They work without the stylesheet, which is the one other thing that they load.

pub(super) mod pages;

use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Where the stylesheet is, after the base. Its name has the first 16 digits of its SHA-256, so that a browser may keep
/// it for ever.
pub(super) const STYLESHEET_PATH: &str = "/-/web/holdfast-07de4a7a41f34563.css";

const STYLESHEET: &str = include_str!("../../../templates/holdfast.css");

/// No scripts, no frames, nothing from elsewhere; a form goes to this server only.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The stylesheet, to be kept for ever.
pub(super) async fn stylesheet() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31557600")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, STYLESHEET).into_response()
}

/// A page as an answer, with the headers that every page has. Nobody keeps it: it is for one person and one moment.
pub(super) fn page(status: StatusCode, page: &impl askama::Template) -> Response {
    match page.render() {
        Ok(html) => (status, headers(), html).into_response(),
        Err(error) => {
            // Writing into a string does not fail, and the templates do nothing else.
            tracing::error!(%error, "a page could not be written");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                headers(),
                "<!DOCTYPE html><title>Holdfast</title>Something went wrong.",
            )
                .into_response()
        }
    }
}

/// A sentence of an error for a page: terminals are used to backticks around names, readers of a page to quotes.
pub(super) fn plain(sentence: &str) -> String {
    let mut plain = String::with_capacity(sentence.len());
    for (number, part) in sentence.split('`').enumerate() {
        if number > 0 {
            plain.push(if number % 2 == 1 { '“' } else { '”' });
        }
        plain.push_str(part);
    }
    plain
}

fn headers() -> HeaderMap {
    let of = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        // The address of a sign-in is a secret in itself, which nobody else is told. Not `no-referrer`: browsers then send
        // `Origin: null` with our own forms, too, and no form could be told from a foreign one.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // For browsers that do not know `frame-ancestors`.
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    of.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npm::integrity::sha256_hex;

    #[tokio::test]
    async fn the_stylesheet_is_named_after_its_hash() {
        let expected = format!("/-/web/holdfast-{}.css", &sha256_hex(STYLESHEET.as_bytes())[..16]);
        assert_eq!(STYLESHEET_PATH, expected, "the stylesheet was changed: put the new name into STYLESHEET_PATH");
        let response = stylesheet().await;
        assert_eq!(response.headers()[CONTENT_TYPE], "text/css; charset=utf-8");
        assert!(response.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    }

    #[test]
    fn a_page_has_quotes_in_place_of_backticks() {
        assert_eq!(plain("Use `-` and `_`."), "Use “-” and “_”.");
        assert_eq!(plain("Nothing to do."), "Nothing to do.");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        assert!(!STYLESHEET.contains("url(") && !STYLESHEET.contains("@import"));
    }

    #[test]
    fn every_page_has_the_headers() {
        let done = pages::Done { base: "https://npm.example", title: "Done", sentence: "You may go.", code: None };
        let response = page(StatusCode::CREATED, &done);
        assert_eq!(response.status(), StatusCode::CREATED);
        let expected = [
            ("content-type", "text/html; charset=utf-8"),
            (
                "content-security-policy",
                "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            ("cache-control", "no-store"),
            ("referrer-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
        ];
        for (name, value) in expected {
            assert_eq!(response.headers()[name], value, "{name}");
        }
    }
}
