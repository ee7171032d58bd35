//! The `text` of npm's search: free words and qualifiers.
//!
//! Reading never fails and what comes out is bounded: a person types this, often half of it, and a search box asks at
//! each key. What is not understood is a word to look for. Everything is in lower case, as search ignores case.

/// Longer texts are cut here, at a character's border.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// Later words and qualifiers are ignored.
pub const MAX_PIECES: usize = 24;

/// What a search asks for. Values of one list are alternatives, except words, which must all be found; the lists and
/// flags must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchQuery {
    /// The free words, in the order typed. They may hold punctuation, such as `@acme/tool`; none is empty.
    pub words: Vec<String>,
    /// `author:`
    pub authors: Vec<String>,
    /// `maintainer:`, user names or mail addresses.
    pub maintainers: Vec<String>,
    /// `scope:`, without the `@`.
    pub scopes: Vec<String>,
    /// `keywords:`; each must hold.
    pub keywords: Vec<Keywords>,
    /// `is:unstable` or `not:unstable`; the last one counts, as for the other two.
    pub unstable: Option<bool>,
    /// `is:insecure` or `not:insecure`
    pub insecure: Option<bool>,
    /// `is:deprecated` or `not:deprecated`
    pub deprecated: Option<bool>,
    /// `is:public`, a qualifier of our own: ask the upstream as well.
    pub public: bool,
    /// `boost-exact:false`: a package with exactly this name is not put first.
    pub ignore_exact: bool,
    /// The text as typed, but bounded and without `is:public`: what an upstream may be asked.
    pub upstream_text: String,
}

/// One `keywords:` qualifier: `a,b` either, `a+b` both, `a,-x` but not `x` (the grammar of npm's search documentation).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keywords {
    /// One of these groups, of which each keyword must be there; when empty, any package.
    pub any_of: Vec<Vec<String>>,
    /// None of these.
    pub none_of: Vec<String>,
}

impl SearchQuery {
    /// Reads a text that was percent-decoded exactly once. Cuts at [`MAX_TEXT_BYTES`] and [`MAX_PIECES`].
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut for_upstream = Vec::new();
        for (raw, piece) in pieces(&text[..text.floor_char_boundary(MAX_TEXT_BYTES)]) {
            let ours = piece == "is:public" || piece == "not:public";
            if !ours {
                for_upstream.push(raw);
            }
            if !query.read_qualifier(&piece) {
                query.words.push(piece);
            }
        }
        query.upstream_text = for_upstream.join(" ");
        query
    }

    /// True without words: a listing of all that the qualifiers leave.
    pub fn is_listing(&self) -> bool {
        self.words.is_empty()
    }

    /// False when the piece is no qualifier. A qualifier without a value asks for nothing: its value is being typed.
    fn read_qualifier(&mut self, piece: &str) -> bool {
        let Some((qualifier, value)) = piece.split_once(':') else { return false };
        let push = |list: &mut Vec<String>, value: &str| {
            if !value.is_empty() {
                list.push(value.to_owned());
            }
        };
        match qualifier {
            "author" => push(&mut self.authors, value),
            "maintainer" => push(&mut self.maintainers, value),
            "scope" => push(&mut self.scopes, value.trim_start_matches('@').trim_end_matches('/')),
            "keywords" => {
                let keywords = Keywords::parse(value);
                if keywords != Keywords::default() {
                    self.keywords.push(keywords);
                }
            }
            "is" | "not" => return self.read_flag(value, qualifier == "is"),
            "boost-exact" => match value {
                "false" => self.ignore_exact = true,
                "true" | "" => self.ignore_exact = false,
                _ => return false,
            },
            _ => return false,
        }
        true
    }

    fn read_flag(&mut self, value: &str, wanted: bool) -> bool {
        match value {
            "" => {}
            "unstable" => self.unstable = Some(wanted),
            "insecure" => self.insecure = Some(wanted),
            "deprecated" => self.deprecated = Some(wanted),
            "public" => self.public = wanted,
            _ => return false,
        }
        true
    }
}

impl Keywords {
    fn parse(value: &str) -> Self {
        let mut keywords = Self::default();
        for alternative in value.split(',') {
            let mut group = Vec::new();
            for keyword in alternative.split('+').map(str::trim) {
                match keyword.strip_prefix('-') {
                    Some("") => {}
                    Some(unwanted) => keywords.none_of.push(unwanted.to_owned()),
                    None if keyword.is_empty() => {}
                    None => group.push(keyword.to_owned()),
                }
            }
            if !group.is_empty() {
                keywords.any_of.push(group);
            }
        }
        keywords
    }
}

/// Splits at white space that is not between double quotes: as typed, and in lower case without quotes and control
/// characters. A quote that nobody closes is left out.
fn pieces(text: &str) -> Vec<(&str, String)> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut start = 0;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted && text[at + 1..].contains('"');
        } else if c.is_whitespace() && !quoted {
            if !piece.is_empty() {
                pieces.push((&text[start..at], std::mem::take(&mut piece)));
            }
            start = at + c.len_utf8();
        } else if !c.is_control() {
            piece.extend(c.to_lowercase());
        }
    }
    if !piece.is_empty() {
        pieces.push((&text[start..], piece));
    }
    pieces.truncate(MAX_PIECES);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn words_are_what_is_no_qualifier() {
        for (text, words) in [
            ("", &[][..]),
            ("  \t\n ", &[]),
            ("Lodash", &["lodash"]),
            ("  http  client ", &["http", "client"]),
            ("@acme/tool", &["@acme/tool"]),
            ("foo:bar http://x", &["foo:bar", "http://x"]),
            ("is:nice not:this boost-exact:maybe", &["is:nice", "not:this", "boost-exact:maybe"]),
            (":", &[":"]),
            ("\"react table\" x", &["react table", "x"]),
            ("5\" nails", &["5", "nails"]),
            ("\"\"", &[]),
            ("a\0b", &["ab"]),
            ("author: scope:@ keywords:, is: boost-exact:", &[]),
        ] {
            assert_eq!(SearchQuery::parse(text).words, strings(words), "{text:?}");
        }
    }

    #[test]
    fn qualifiers_are_read() {
        let query = SearchQuery::parse(
            "Author:\"Jane Doe\" maintainer:JD scope:@acme scope:other/ is:unstable not:deprecated not:insecure x",
        );
        assert_eq!(query.authors, strings(&["jane doe"]));
        assert_eq!(query.maintainers, strings(&["jd"]));
        assert_eq!(query.scopes, strings(&["acme", "other"]));
        assert_eq!((query.unstable, query.deprecated, query.insecure), (Some(true), Some(false), Some(false)));
        assert_eq!(query.words, strings(&["x"]));
        assert!(!query.ignore_exact && !query.public && !query.is_listing());
        assert!(SearchQuery::parse("boost-exact:false").ignore_exact);
    }

    #[test]
    fn keywords_have_or_and_and_not() {
        for (text, any_of, none_of) in [
            ("a", &[&["a"][..]][..], &[][..]),
            ("a,b", &[&["a"], &["b"]], &[]),
            ("a+b", &[&["a", "b"]], &[]),
            ("a+b,c", &[&["a", "b"], &["c"]], &[]),
            ("a,-x", &[&["a"]], &["x"]),
            ("-x", &[], &["x"]),
            ("-x+-y", &[], &["x", "y"]),
            (",+a+,", &[&["a"]], &[]),
            ("\"data grid\",b", &[&["data grid"], &["b"]], &[]),
        ] {
            let expected =
                Keywords { any_of: any_of.iter().map(|group| strings(group)).collect(), none_of: strings(none_of) };
            assert_eq!(SearchQuery::parse(&format!("keywords:{text}")).keywords, [expected], "{text:?}");
        }
        assert!(SearchQuery::parse("keywords:-").keywords.is_empty());
    }

    #[test]
    fn the_upstream_is_asked_without_our_own_qualifier() {
        let query = SearchQuery::parse("  Lodash is:public   author:\"Jane Doe\"");
        assert!(query.public);
        assert_eq!(query.upstream_text, "Lodash author:\"Jane Doe\"");
        assert!(!SearchQuery::parse("is:public not:public").public);
    }

    #[test]
    fn the_size_is_bounded() {
        assert_eq!(SearchQuery::parse(&"a ".repeat(1_000_000)).words.len(), MAX_PIECES);
        assert_eq!(SearchQuery::parse(&"é".repeat(1_000_000)).words, ["é".repeat(MAX_TEXT_BYTES / 2)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in r#"(\PC|["\s:,+@\x00-]|author:|keywords:|is:|scope:){0,300}"#) {
            let query = SearchQuery::parse(&text);
            prop_assert!(query.words.len() <= MAX_PIECES);
            prop_assert!(query.words.iter().all(|word| !word.is_empty()));
            prop_assert!(query.upstream_text.len() <= MAX_TEXT_BYTES);
            // What is asked of an upstream means the same there.
            prop_assert_eq!(SearchQuery::parse(&query.upstream_text).words, query.words);
        }
    }
}
