//! As much XML as S3's bodies need: elements with text, no attributes.

use std::borrow::Cow;

/// A document with elements that have only text in them.
pub(super) fn document(name: &str, elements: &[(&str, &str)]) -> String {
    let inner: String = elements.iter().map(|(name, text)| element(name, text)).collect();
    root(name, &inner)
}

/// A document, from what is inside of its root.
pub(super) fn root(name: &str, inner: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", nested(name, inner))
}

/// An element with text.
pub(super) fn element(name: &str, text: &str) -> String {
    nested(name, &escape(text))
}

/// An element with elements.
pub(super) fn nested(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// The text of every element of this name, in order. An element of the same name inside of one is not expected.
pub(super) fn texts(document: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = document.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0));
    inner.map(unescape).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A reader would make a line feed of it.
            '\r' => escaped.push_str("&#13;"),
            char => escaped.push(char),
        }
    }
    escaped
}

fn unescape(text: &str) -> String {
    let mut parts = text.split('&');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut plain, part| {
        let (entity, rest) = part.split_once(';').unwrap_or(("amp", part));
        plain.push_str(&character(entity));
        plain.push_str(rest);
        plain
    })
}

fn character(entity: &str) -> Cow<'static, str> {
    match entity {
        "amp" => "&".into(),
        "lt" => "<".into(),
        "gt" => ">".into(),
        "quot" => "\"".into(),
        "apos" => "'".into(),
        _ => {
            let code = match entity.strip_prefix("#x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => entity.strip_prefix('#').and_then(|decimal| decimal.parse().ok()),
            };
            code.and_then(char::from_u32).unwrap_or('\u{fffd}').to_string().into()
        }
    }
}
