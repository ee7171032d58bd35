//! A document as a tree, whichever of JSON and YAML it was written in.
//!
//! Numbers and truth values are texts here, as they were written: lockfiles compare them and never count with them.

use std::borrow::Cow;

/// How deep a document may be nested: deeper than any lockfile, and shallow enough for a walk by recursion. npm's first
/// form takes two levels for each `node_modules` in another.
pub(super) const MAX_DEPTH: usize = 120;
/// How many values a document may have. The longest list that is taken has some twelve for each package; a text of
/// nothing but brackets has one for each byte, at fifty bytes of memory.
pub(super) const MAX_NODES: usize = 4_000_000;

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node<'a> {
    /// A text, number or truth value; the empty text for nothing.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object in the file's order. A key may be there twice.
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The value of a key of an object; the last one where several have it, as JavaScript reads it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        match self {
            Self::Map(pairs) => pairs.iter().rfind(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a text.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key of an object.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// Whether a key of an object is true.
    pub(crate) fn is_true(&self, key: &str) -> bool {
        self.text_of(key) == Some("true")
    }
}
