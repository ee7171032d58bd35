//! Which packages match, and how well: whole numbers, from terms alone.
//!
//! tantivy's own scores are not used. They depend on how the documents happen to be spread over segments, and they count
//! how rare a word is, which says little about names. Here a score is the sum of fixed points, so that the same package
//! gets the same score wherever it lies, and equals are put in order by date and name. Every word must be found; where
//! decides the points:
//!
//! | where | the word | a word that starts so |
//! | --- | --- | --- |
//! | in the name | 60 | 40 |
//! | at the start of the name or of the part after the scope | 10 more | 10 more |
//! | in a keyword | 20 | 10 |
//! | in the description | 6 | 3, from three characters on |
//! | in the author's name, a maintainer's or the publisher's | 4 | 4, from three characters on |
//!
//! The points of one word add up, so any match in the name comes before a match elsewhere. A package whose whole name was
//! typed gets 4,000 more, 2,000 when it was its name without the scope, 1,000 when only what is between the words
//! differs (`reacttable` for `react-table`). A deprecated package keeps half of its points.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use tantivy::columnar::StrColumn;
use tantivy::postings::BlockSegmentPostings;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, SegmentReader};

use super::Error;
use super::fields::{DEPRECATED, Fields, UNSTABLE, keyword_term, words};
use crate::npm::SearchQuery;

/// Further words of a text do not count.
const MAX_WORDS: usize = 10;

/// Shorter words are found in descriptions and people only as they are: each letter starts some word of every text.
const MIN_LOOSE_PREFIX_CHARS: usize = 3;

/// Documents of a column that are looked at together, so that what is found of them stays in the processor's cache.
const COLUMN_BLOCK: u32 = 8_192;

/// A look at one term and its documents takes as long as a look at so many documents in a column.
const DOCUMENTS_FOR_A_TERM: u32 = 32;

const NAME: u8 = 1;
const NAME_PREFIX: u8 = 1 << 1;
const NAME_START: u8 = 1 << 2;
const KEYWORD: u8 = 1 << 3;
const KEYWORD_PREFIX: u8 = 1 << 4;
const DESCRIPTION: u8 = 1 << 5;
const DESCRIPTION_PREFIX: u8 = 1 << 6;
const PERSON: u8 = 1 << 7;

/// The points of one word, from the places where it was found. Zero only for no place.
fn points(places: u8) -> Score {
    let first = |choices: &[(u8, Score)]| choices.iter().find(|(place, _)| places & place != 0).map_or(0, |&(_, p)| p);
    first(&[(NAME, 60), (NAME_PREFIX, 40)])
        + first(&[(NAME_START, 10)])
        + first(&[(KEYWORD, 20), (KEYWORD_PREFIX, 10)])
        + first(&[(DESCRIPTION, 6), (DESCRIPTION_PREFIX, 3)])
        + first(&[(PERSON, 4)])
}

/// A query, taken apart once for all segments.
pub(super) struct Plan<'a> {
    query: &'a SearchQuery,
    fields: &'a Fields,
    words: Vec<Word>,
    /// The values of `author:`, as words.
    authors: Vec<Vec<String>>,
    /// All words without what is between them.
    joined: String,
    points: [Score; 256],
}

struct Word {
    /// Empty for a piece of punctuation alone, which some old names are.
    text: String,
    /// The piece of the query, when this is its first word.
    piece: Option<String>,
}

/// Points of one package. [`MAX_WORDS`] words at their best and a whole name are 5,001.
pub(super) type Score = u16;

/// The documents of one segment that match: their scores by number, zero for none.
pub(super) type Scores = Vec<Score>;

impl<'a> Plan<'a> {
    pub(super) fn new(query: &'a SearchQuery, fields: &'a Fields) -> Self {
        let mut plan_words: Vec<Word> = Vec::new();
        let mut joined = String::new();
        for piece in &query.words {
            let mut texts = words(piece);
            joined.extend(texts.iter().map(String::as_str));
            if texts.is_empty() {
                texts.push(String::new());
            }
            for (index, text) in texts.into_iter().enumerate() {
                let piece = (index == 0).then(|| piece.clone());
                let repeated = plan_words.iter().any(|word| word.text == text && !text.is_empty());
                if plan_words.len() < MAX_WORDS && !repeated {
                    plan_words.push(Word { text, piece });
                }
            }
        }
        Self {
            query,
            fields,
            words: plan_words,
            authors: query.authors.iter().map(|author| words(author)).collect(),
            joined,
            points: std::array::from_fn(|places| u8::try_from(places).map_or(0, points)),
        }
    }

    /// Scores one segment. Dead documents are scored like live ones.
    pub(super) fn score(&self, segment: &SegmentReader) -> Result<Scores, Error> {
        let terms = Terms { segment };
        let Some(allowed) = self.allowed(&terms)? else { return Ok(Scores::new()) };
        let mut scores: Scores = allowed.into_iter().map(Score::from).collect();
        if self.words.is_empty() {
            return Ok(scores);
        }
        for word in &self.words {
            let places = self.places(word, &terms)?;
            let mut any = false;
            for (score, places) in scores.iter_mut().zip(places) {
                *score = if places == 0 || *score == 0 { 0 } else { *score + self.points[usize::from(places)] };
                any |= *score != 0;
            }
            if !any {
                return Ok(Scores::new());
            }
        }
        if !self.query.ignore_exact {
            self.boost_exact(&terms, &mut scores)?;
        }
        terms.each(self.fields.flag, DEPRECATED, |document| {
            if let Some(score) = scores.get_mut(document as usize) {
                *score = score.div_ceil(2);
            }
        })?;
        Ok(scores)
    }

    /// Where a word was found, for each document.
    fn places(&self, word: &Word, terms: &Terms<'_>) -> Result<Vec<u8>, Error> {
        let fields = self.fields;
        let mut places = vec![0_u8; terms.segment.max_doc() as usize];
        if let Some(piece) = &word.piece {
            terms.mark_prefix_in_names(fields.name, piece, NAME_START, NAME_START, &mut places)?;
            terms.mark_prefix_in_names(fields.basename, piece, NAME_START, NAME_START, &mut places)?;
        }
        if word.text.is_empty() {
            return Ok(places);
        }
        terms.mark_prefix_in_names(fields.name_words, &word.text, NAME, NAME_PREFIX, &mut places)?;
        terms.mark_prefix(fields.keyword_words, &word.text, KEYWORD, KEYWORD_PREFIX, &mut places)?;
        if word.text.chars().count() >= MIN_LOOSE_PREFIX_CHARS {
            terms.mark_prefix(fields.description, &word.text, DESCRIPTION, DESCRIPTION_PREFIX, &mut places)?;
            terms.mark_prefix(fields.people, &word.text, PERSON, PERSON, &mut places)?;
        } else {
            terms.mark(fields.description, &word.text, DESCRIPTION, &mut places)?;
            terms.mark(fields.people, &word.text, PERSON, &mut places)?;
        }
        Ok(places)
    }

    fn boost_exact(&self, terms: &Terms<'_>, scores: &mut Scores) -> Result<(), Error> {
        // In rising order, so that the best one stands.
        let mut boosts = BTreeMap::new();
        let mut boost = |field: Field, term: &str, by: Score| {
            terms.each(field, term, |document| {
                boosts.insert(document, by);
            })
        };
        boost(self.fields.joined, &self.joined, 1_000)?;
        if let [piece] = self.query.words.as_slice() {
            boost(self.fields.basename, piece, 2_000)?;
            boost(self.fields.name, piece, 4_000)?;
        }
        for (document, boost) in boosts {
            // A name that was typed whole has all its words, so this never adds a match.
            if let Some(score) = scores.get_mut(document as usize).filter(|score| **score != 0) {
                *score += boost;
            }
        }
        Ok(())
    }

    /// What the qualifiers leave, or nothing when they leave nothing.
    fn allowed(&self, terms: &Terms<'_>) -> Result<Option<Vec<bool>>, Error> {
        let (query, fields) = (self.query, self.fields);
        // No hosted package is known to be insecure: advisories are the business of `npm audit`.
        if query.insecure == Some(true) {
            return Ok(None);
        }
        let mut allowed = Allowed(vec![true; terms.segment.max_doc() as usize]);
        if !query.scopes.is_empty() {
            allowed.only(&terms.any(fields.scope, &query.scopes)?);
        }
        if !query.maintainers.is_empty() {
            allowed.only(&terms.any(fields.maintainer, &query.maintainers)?);
        }
        if !self.authors.is_empty() {
            let mut wanted = terms.none();
            for author in self.authors.iter().filter(|author| !author.is_empty()) {
                wanted.also(&terms.all(fields.author, author)?);
            }
            allowed.only(&wanted);
        }
        for keywords in &query.keywords {
            if !keywords.any_of.is_empty() {
                let mut wanted = terms.none();
                for group in &keywords.any_of {
                    let group: Vec<String> = group.iter().map(|keyword| keyword_term(keyword)).collect();
                    wanted.also(&terms.all(fields.keyword, &group)?);
                }
                allowed.only(&wanted);
            }
            let unwanted: Vec<String> = keywords.none_of.iter().map(|keyword| keyword_term(keyword)).collect();
            allowed.except(&terms.any(fields.keyword, &unwanted)?);
        }
        for (flag, asked) in [(DEPRECATED, query.deprecated), (UNSTABLE, query.unstable)] {
            let Some(wanted) = asked else { continue };
            let flagged = terms.any(fields.flag, &[flag.to_owned()])?;
            if wanted { allowed.only(&flagged) } else { allowed.except(&flagged) }
        }
        Ok(allowed.0.contains(&true).then_some(allowed.0))
    }
}

/// A set of documents.
struct Allowed(Vec<bool>);

impl Allowed {
    fn only(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(here, there)| *here &= there);
    }

    fn also(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(here, there)| *here |= there);
    }

    fn except(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(here, there)| *here &= !there);
    }
}

/// The terms of one segment.
struct Terms<'a> {
    segment: &'a SegmentReader,
}

impl Terms<'_> {
    /// Calls with each document that has the term.
    fn each(&self, field: Field, term: &str, visit: impl FnMut(DocId)) -> Result<(), Error> {
        let index = self.segment.inverted_index(field)?;
        if let Some(info) = index.terms().get(term)? {
            let mut postings = index.read_block_postings_from_terminfo(&info, IndexRecordOption::Basic)?;
            visit_all(&mut postings, visit);
        }
        Ok(())
    }

    /// Marks the documents that have the term.
    fn mark(&self, field: Field, term: &str, place: u8, places: &mut [u8]) -> Result<(), Error> {
        self.each(field, term, |document| {
            if let Some(places) = places.get_mut(document as usize) {
                *places |= place;
            }
        })
    }

    /// Marks the documents that have the term, and otherwise those that have a longer term that starts so.
    fn mark_prefix(&self, field: Field, term: &str, whole: u8, start: u8, places: &mut [u8]) -> Result<(), Error> {
        let index = self.segment.inverted_index(field)?;
        let mut stream = index.terms().range().ge(term).into_stream()?;
        // One for all terms: making it anew costs more than reading the single document that most terms have.
        let mut postings: Option<BlockSegmentPostings> = None;
        while stream.advance() && stream.key().starts_with(term.as_bytes()) {
            let place = if stream.key().len() == term.len() { whole } else { start };
            let info = stream.value();
            let postings = match &mut postings {
                Some(postings) => {
                    index.reset_block_postings_from_terminfo(info, postings)?;
                    postings
                }
                none => none.insert(index.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?),
            };
            visit_all(postings, |document| {
                if let Some(places) = places.get_mut(document as usize) {
                    *places |= place;
                }
            });
        }
        Ok(())
    }

    /// As [`Terms::mark_prefix`], for a field that is a column too. Where many terms start so, it takes one pass over the
    /// documents in place of a look at each term.
    fn mark_prefix_in_names(
        &self,
        field: Field,
        term: &str,
        whole: u8,
        start: u8,
        places: &mut [u8],
    ) -> Result<(), Error> {
        let column = self.segment.schema().get_field_name(field);
        let Some(column) = self.segment.fast_fields().str(column)? else { return Ok(()) };
        let ordinals = ordinals_from(&column, term)?;
        if ordinals.end - ordinals.start <= u64::from(self.segment.max_doc() / DOCUMENTS_FOR_A_TERM) {
            return self.mark_prefix(field, term, whole, start, places);
        }
        self.mark(field, term, whole, places)?;
        let documents = self.segment.max_doc();
        let mut found = Vec::new();
        let mut from = 0;
        while from < documents {
            let to = from.saturating_add(COLUMN_BLOCK).min(documents);
            found.clear();
            column.ords().get_docids_for_value_range(ordinals.start..=ordinals.end - 1, from..to, &mut found);
            for &document in &found {
                if let Some(places) = places.get_mut(document as usize) {
                    *places |= start;
                }
            }
            from = to;
        }
        Ok(())
    }

    fn none(&self) -> Allowed {
        Allowed(vec![false; self.segment.max_doc() as usize])
    }

    /// The documents that have one of the terms.
    fn any(&self, field: Field, terms: &[String]) -> Result<Allowed, Error> {
        let mut found = self.none();
        for term in terms {
            self.each(field, term, |document| {
                if let Some(found) = found.0.get_mut(document as usize) {
                    *found = true;
                }
            })?;
        }
        Ok(found)
    }

    /// The documents that have all of the terms.
    fn all(&self, field: Field, terms: &[String]) -> Result<Allowed, Error> {
        let mut found = Allowed(vec![true; self.segment.max_doc() as usize]);
        for term in terms {
            found.only(&self.any(field, std::slice::from_ref(term))?);
        }
        Ok(found)
    }
}

/// The places of those of a column's values, in their order, that start with a text that is not empty.
fn ordinals_from(column: &StrColumn, start: &str) -> Result<Range<u64>, Error> {
    // What comes after all that start so: no byte of a text is the largest there is.
    let mut after = start.as_bytes().to_vec();
    if let Some(last) = after.last_mut() {
        *last += 1;
    }
    let bounds = (Bound::Included(start.as_bytes()), Bound::Excluded(after.as_slice()));
    match column.dictionary().term_bounds_to_ord(bounds.0, bounds.1)? {
        (Bound::Included(first), Bound::Excluded(end)) => Ok(first..end.max(first)),
        _ => Err(Error::damaged("the names of a segment cannot be looked up")),
    }
}

fn visit_all(postings: &mut BlockSegmentPostings, mut visit: impl FnMut(DocId)) {
    while !postings.docs().is_empty() {
        postings.docs().iter().for_each(|&document| visit(document));
        postings.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_in_the_name_beats_all_others_together() {
        assert_eq!(points(0), 0);
        assert!((1..=u8::MAX).all(|places| points(places) > 0));
        assert!(points(NAME_PREFIX) > points(KEYWORD | DESCRIPTION | PERSON));
        assert!(points(KEYWORD_PREFIX) > points(DESCRIPTION));
        assert!(points(NAME | NAME_PREFIX) == points(NAME));
    }
}
