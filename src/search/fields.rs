//! What of a package is indexed, and as which terms.
//!
//! Invariant: a term is made here and only here, for documents and for queries alike, so that both agree on case, on
//! where a word ends and on how long it may be. tantivy's own tokenizers are not used.

use std::collections::BTreeSet;

use tantivy::TantivyDocument;
use tantivy::schema::{FAST, Field, IndexRecordOption, STORED, Schema, TextFieldIndexing, TextOptions};

use super::Error;
use crate::npm::SearchEntry;

/// Longer words are cut, in documents and in queries: nobody types them, and someone may publish them.
const MAX_WORD_CHARS: usize = 40;

/// Later words of a description, or of all keywords together, are not searchable.
const MAX_WORDS_INDEXED: usize = 400;

/// The name of the field with the entry itself. Change its number whenever the terms or the entry's form change: an
/// index with another schema is wiped when it is opened.
const ENTRY_FIELD: &str = "entry_v2";

/// Field names that are asked for by name, because tantivy's columns are.
pub(super) const ID: &str = "id";
pub(super) const MODIFIED: &str = "modified";

/// The flags that are terms.
pub(super) const DEPRECATED: &str = "deprecated";
pub(super) const UNSTABLE: &str = "unstable";

/// The index's fields.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    pub(super) schema: Schema,
    /// The name as it is: the document's identity, and a column.
    pub(super) id: Field,
    /// The whole name in lower case; a column.
    pub(super) name: Field,
    /// The part after the scope in lower case; a column.
    pub(super) basename: Field,
    /// The name's words without what is between them, with and without the scope's.
    pub(super) joined: Field,
    /// The words of the name, the scope's too; a column.
    pub(super) name_words: Field,
    /// Whole keywords in lower case.
    pub(super) keyword: Field,
    /// The words of the keywords.
    pub(super) keyword_words: Field,
    /// The words of the description.
    pub(super) description: Field,
    /// The words of the author's name, and the user names of publisher and maintainers.
    pub(super) people: Field,
    /// The words of the author's name.
    pub(super) author: Field,
    /// The maintainers' user names and mail addresses in lower case.
    pub(super) maintainer: Field,
    /// The scope without its `@`, in lower case.
    pub(super) scope: Field,
    /// [`DEPRECATED`] and [`UNSTABLE`].
    pub(super) flag: Field,
    /// Milliseconds since 1970, a column.
    pub(super) modified: Field,
    /// The entry as JSON.
    pub(super) entry: Field,
}

impl Fields {
    pub(super) fn new() -> Self {
        let mut schema = Schema::builder();
        // No frequencies, positions or lengths: the ranking does not look at them.
        let terms = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer("raw")
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::Basic),
        );
        // Nearly every package has a name of its own, so the beginning of a name can be that of as many terms as there are
        // packages. A column is read in one pass whatever that number is.
        let columns = terms.clone().set_fast("raw");
        let id = schema.add_text_field(ID, columns.clone());
        let name = schema.add_text_field("name", columns.clone());
        let basename = schema.add_text_field("basename", columns.clone());
        let name_words = schema.add_text_field("name_words", columns);
        let mut field = |name: &str| schema.add_text_field(name, terms.clone());
        let joined = field("joined");
        let keyword = field("keyword");
        let keyword_words = field("keyword_words");
        let description = field("description");
        let people = field("people");
        let author = field("author");
        let maintainer = field("maintainer");
        let scope = field("scope");
        let flag = field("flag");
        let modified = schema.add_i64_field(MODIFIED, FAST);
        let entry = schema.add_bytes_field(ENTRY_FIELD, STORED);
        let schema = schema.build();
        Self {
            schema,
            id,
            name,
            basename,
            joined,
            name_words,
            keyword,
            keyword_words,
            description,
            people,
            author,
            maintainer,
            scope,
            flag,
            modified,
            entry,
        }
    }

    /// The document that stands for an entry.
    pub(super) fn document(&self, entry: &SearchEntry) -> Result<TantivyDocument, Error> {
        let mut document = TantivyDocument::new();
        let name = lower(entry.name.as_str());
        let basename = lower(entry.name.basename());
        document.add_text(self.id, entry.name.as_str());
        document.add_text(self.name, &name);
        document.add_text(self.basename, &basename);
        for joined in BTreeSet::from([words(&name).concat(), words(&basename).concat()]) {
            document.add_text(self.joined, joined);
        }
        let mut add = |field: Field, terms: BTreeSet<String>| {
            for term in terms.into_iter().filter(|term| !term.is_empty()) {
                document.add_text(field, term);
            }
        };
        add(self.name_words, words(&name).into_iter().collect());
        add(self.keyword, entry.keywords.iter().take(MAX_WORDS_INDEXED).map(|keyword| keyword_term(keyword)).collect());
        let keyword_words = entry.keywords.iter().take(MAX_WORDS_INDEXED).flat_map(|keyword| words(keyword));
        add(self.keyword_words, keyword_words.take(MAX_WORDS_INDEXED).collect());
        add(self.description, words(&entry.description).into_iter().collect());
        let author = entry.author.as_deref().map(words).unwrap_or_default();
        let accounts = entry.maintainers.iter().chain(&entry.publisher);
        let people = author.iter().cloned().chain(accounts.flat_map(|person| words(&person.username)));
        add(self.people, people.collect());
        add(self.author, author.into_iter().collect());
        let maintainers = entry.maintainers.iter().flat_map(|person| [lower(&person.username), lower(&person.email)]);
        add(self.maintainer, maintainers.collect());
        add(
            self.scope,
            entry.name.scope().map(|scope| lower(scope.as_str().trim_start_matches('@'))).into_iter().collect(),
        );
        let flags = [(entry.deprecated, DEPRECATED), (entry.unstable, UNSTABLE)];
        add(self.flag, flags.into_iter().filter(|&(set, _)| set).map(|(_, flag)| flag.to_owned()).collect());
        document.add_i64(self.modified, entry.modified.as_millis());
        document.add_bytes(self.entry, &serde_json::to_vec(entry).map_err(Error::damaged)?);
        Ok(document)
    }
}

/// A text's words in lower case: letters and digits between anything else. In scripts written without spaces each
/// character is a word.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut length = 0;
    for c in text.chars().flat_map(char::to_lowercase) {
        if words.len() >= MAX_WORDS_INDEXED {
            return words;
        }
        let alone = matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
        if (alone || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
            length = 0;
        }
        if alone {
            words.push(c.to_string());
        } else if c.is_alphanumeric() && length < MAX_WORD_CHARS {
            word.push(c);
            length += 1;
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A keyword as a term.
pub(super) fn keyword_term(keyword: &str) -> String {
    keyword.trim().chars().take(4 * MAX_WORD_CHARS).flat_map(char::to_lowercase).collect()
}

fn lower(text: &str) -> String {
    text.chars().take(512).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        for (text, expected) in [
            ("", &[][..]),
            ("@acme/Web-UI_kit.js", &["acme", "web", "ui", "kit", "js"]),
            ("C++ & Größe, 2fa!", &["c", "größe", "2fa"]),
            ("日本語 kit", &["日", "本", "語", "kit"]),
            ("---", &[]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
        assert_eq!(words(&"x".repeat(100_000)), ["x".repeat(MAX_WORD_CHARS)]);
        assert_eq!(words(&"x ".repeat(100_000)).len(), MAX_WORDS_INDEXED);
    }
}
