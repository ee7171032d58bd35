//! `yarn.lock` of yarn 1, which has a format of its own: lines that are indented by twos.
//!
//! ```text
//! "a@^1.0.0", "b@npm:a@^1.0.0":
//!   version "1.0.2"
//!   resolved "https://registry.example/a/-/a-1.0.2.tgz#<sha1 in hex>"
//!   integrity sha512-…
//!   dependencies:
//!     c "^2.0.0"
//! ```

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::address::{is_web, why_no_registry};
use super::{Found, LockfileError, split_at_sign};

/// A package's lines: under which specifiers, and what of its fields counts here.
#[derive(Debug, Default)]
struct Block<'a> {
    patterns: Vec<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    resolved: Option<Cow<'a, str>>,
    integrity: Option<Cow<'a, str>>,
}

pub(super) fn read(text: &str, found: &mut Found) -> Result<(), LockfileError> {
    let mut block = Block::default();
    // How deep the next line may be: one deeper after a line that ends in a colon.
    let mut deepest = 0;
    for (index, line) in text.lines().enumerate() {
        let syntax = |problem: &str| LockfileError::Syntax {
            format: "the format of yarn 1",
            line: index + 1,
            problem: problem.to_owned(),
        };
        let content = line.trim_start_matches(' ');
        let spaces = line.len() - content.len();
        let content = content.trim_end();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if spaces % 2 == 1 || spaces / 2 > deepest {
            return Err(syntax("it is indented too far"));
        }
        let line = parse_line(content).ok_or_else(|| syntax("it is neither `key:` nor `key value`"))?;
        deepest = spaces / 2 + usize::from(line.value.is_none());
        match (spaces / 2, line.value) {
            (0, None) => {
                read_block(&block, found)?;
                block = Block { patterns: line.keys, ..Block::default() };
            }
            // A setting of the file, such as `__integrity`. No package has a value there.
            (0, Some(_)) => return Err(syntax("a value stands where packages do")),
            (1, Some(value)) => match line.keys.first().map(|key| &**key) {
                Some("version") => block.version = Some(value),
                Some("resolved") => block.resolved = Some(value),
                Some("integrity") => block.integrity = Some(value),
                _ => {}
            },
            _ => {}
        }
    }
    read_block(&block, found)
}

struct Line<'a> {
    keys: Vec<Cow<'a, str>>,
    /// None for `keys:`, whose values are on the lines below.
    value: Option<Cow<'a, str>>,
}

fn parse_line(content: &str) -> Option<Line<'_>> {
    let (first, mut rest) = word(content)?;
    let mut keys = vec![first];
    while let Some(after) = rest.strip_prefix(',') {
        let (key, after) = word(after.trim_start_matches(' '))?;
        keys.push(key);
        rest = after;
    }
    if rest == ":" {
        return Some(Line { keys, value: None });
    }
    // Old files have a colon before a value too.
    let rest = rest.strip_prefix(':').unwrap_or(rest).strip_prefix(' ')?;
    let (value, rest) = word(rest.trim_start_matches(' '))?;
    rest.is_empty().then_some(Line { keys, value: Some(value) })
}

/// The first word and what follows it. With quotes it is a string of JSON.
fn word(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if !text.starts_with('"') {
        let end = text.find([':', ' ', ',', '"']).unwrap_or(text.len());
        return (end > 0).then(|| (Cow::Borrowed(&text[..end]), &text[end..]));
    }
    let mut escaped = false;
    let end = 1 + text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })?;
    let (quoted, rest) = text.split_at(end + 1);
    let inner = &quoted[1..end];
    let value =
        if inner.contains('\\') { Cow::Owned(serde_json::from_str(quoted).ok()?) } else { Cow::Borrowed(inner) };
    Some((value, rest))
}

fn read_block(block: &Block<'_>, found: &mut Found) -> Result<(), LockfileError> {
    let version = block.version.as_deref().unwrap_or_default();
    let resolved = block.resolved.as_deref();
    let (address, hash) = resolved.map_or((None, None), |text| match text.split_once('#') {
        Some((address, hash)) => (Some(address), Some(hash)),
        None => (Some(text), None),
    });
    let integrity = block.integrity.as_deref().map(ToOwned::to_owned).or_else(|| hash.and_then(sha1));
    for pattern in &block.patterns {
        let (name, range) = split_at_sign(pattern).unwrap_or((pattern, ""));
        let (name, range) = match range.strip_prefix("npm:") {
            Some(alias) => split_at_sign(alias).unwrap_or((alias, "")),
            None => (name, range),
        };
        // Ranges have no colon and no slash. A repository of GitHub is `user/name`, with an address that says so.
        let is_elsewhere = range.contains(':') || range.starts_with(['.', '/', '~']) && range.contains('/');
        if is_elsewhere && !is_web(range) {
            found.skip(pattern, why_no_registry(range))?;
            continue;
        }
        // A file of an offline mirror is told by its name alone, and is no address.
        let address = address.filter(|address| address.contains(':'));
        let address = address.or(is_web(range).then_some(range));
        found.add(pattern, (name, version), address, integrity.as_deref())?;
    }
    Ok(())
}

/// A SHA-1 in hex as an integrity.
fn sha1(hex: &str) -> Option<String> {
    if hex.len() != 40 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let bytes: Result<Vec<u8>, _> = (0..20).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect();
    Some(format!("sha1-{}", STANDARD.encode(bytes.ok()?)))
}
