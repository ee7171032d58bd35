//! The names of a segment's documents and their dates, in memory.
//!
//! Every search needs them: to ask whether a package may be seen, and to put equals in order. Reading them from the
//! index for each query would take longer than the query. They are read at the first search, later by the commit that
//! brings new ones, some 90 bytes each, and forgotten with the segment. A segment never changes, except that documents die, so what was
//! read stays true.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tantivy::index::SegmentId;
use tantivy::{DocId, Searcher, SegmentReader};

use super::{Error, fields};
use crate::npm::PackageName;

/// The names of one segment.
#[derive(Debug)]
pub(super) struct SegmentNames {
    /// The documents' numbers in the order of their names, dead ones too.
    in_order: Vec<DocId>,
    by_document: Vec<Named>,
}

#[derive(Debug, Clone)]
struct Named {
    name: PackageName,
    rank: u32,
    modified_millis: i64,
}

impl SegmentNames {
    fn read(segment: &SegmentReader) -> Result<Self, Error> {
        let column = segment.fast_fields().str(fields::ID)?.ok_or_else(|| Error::damaged("a segment has no names"))?;
        let mut by_rank = Vec::with_capacity(column.num_terms());
        let mut terms = column.dictionary().stream()?;
        while terms.advance() {
            let text = std::str::from_utf8(terms.key()).map_err(Error::damaged)?;
            by_rank.push(text.parse::<PackageName>().map_err(Error::damaged)?);
        }
        let modified = segment.fast_fields().i64(fields::MODIFIED)?;
        let mut by_document = Vec::with_capacity(segment.max_doc() as usize);
        for document in 0..segment.max_doc() {
            let rank = column.ords().first(document).and_then(|rank| u32::try_from(rank).ok());
            let modified_millis = modified.first(document).unwrap_or_default();
            let named =
                rank.and_then(|rank| Some(Named { name: by_rank.get(rank as usize)?.clone(), rank, modified_millis }));
            by_document.push(named.ok_or_else(|| Error::damaged("a document has no name"))?);
        }
        let mut in_order: Vec<DocId> = (0..segment.max_doc()).collect();
        in_order.sort_unstable_by_key(|&document| by_document[document as usize].rank);
        Ok(Self { in_order, by_document })
    }

    pub(super) fn name(&self, document: DocId) -> &PackageName {
        &self.by_document[document as usize].name
    }

    /// The name's place in the order of this segment's names.
    pub(super) fn rank(&self, document: DocId) -> u32 {
        self.by_document[document as usize].rank
    }

    /// When the version that is shown was published.
    pub(super) fn modified_millis(&self, document: DocId) -> i64 {
        self.by_document[document as usize].modified_millis
    }

    /// The documents whose names come after the given one, in order.
    pub(super) fn after(&self, name: Option<&PackageName>) -> &[DocId] {
        let start = name.map_or(0, |name| self.in_order.partition_point(|&document| self.name(document) <= name));
        &self.in_order[start..]
    }
}

/// The names of the segments that are searched.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    segments: Mutex<HashMap<SegmentId, Arc<SegmentNames>>>,
}

impl NameCache {
    /// The names of each of the searcher's segments, in its order.
    pub(super) fn of(&self, searcher: &Searcher) -> Result<Vec<Arc<SegmentNames>>, Error> {
        // Held while reading: many searches that start together would otherwise all do the same work.
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::with_capacity(searcher.segment_readers().len());
        for segment in searcher.segment_readers() {
            let names = match segments.entry(segment.segment_id()) {
                Entry::Occupied(known) => Arc::clone(known.get()),
                Entry::Vacant(new) => Arc::clone(new.insert(Arc::new(SegmentNames::read(segment)?))),
            };
            found.push(names);
        }
        Ok(found)
    }

    /// Forgets the segments that this searcher does not have, and reads its new ones, unless nobody ever searched.
    pub(super) fn follow(&self, searcher: &Searcher) -> Result<(), Error> {
        let live: HashSet<SegmentId> = searcher.segment_readers().iter().map(SegmentReader::segment_id).collect();
        {
            let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
            if segments.is_empty() {
                return Ok(());
            }
            segments.retain(|id, _| live.contains(id));
        }
        self.of(searcher).map(|_| ())
    }
}
