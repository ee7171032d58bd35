//! The best of any number of hits, without holding them all.

use std::cmp::Ordering;

use tantivy::DocAddress;

use super::names::SegmentNames;
use super::ranking::Score;

/// Hits that are gathered beyond those that are kept, before the worse ones are dropped: dropping looks at all of them.
const SPARE: usize = 256;

/// A package that was found.
#[derive(Clone, Copy)]
pub(super) struct Hit<'a> {
    pub(super) score: Score,
    pub(super) modified_millis: i64,
    pub(super) at: DocAddress,
    /// Those of its segment.
    pub(super) names: &'a SegmentNames,
}

/// The best hits so far. Memory is for some more than are kept, and the time for each hit does not grow with them.
pub(super) struct Best<'a> {
    most: usize,
    hits: Vec<Hit<'a>>,
    /// The best one that was dropped: whatever is worse is not among the best either.
    dropped: Option<Hit<'a>>,
}

impl<'a> Best<'a> {
    /// Keeps so many.
    pub(super) fn of(most: usize) -> Self {
        Self { most, hits: Vec::new(), dropped: None }
    }

    /// False when no hit of this score can be among the best any more.
    pub(super) fn may_take(&self, score: Score) -> bool {
        self.dropped.is_none_or(|dropped| score >= dropped.score)
    }

    /// Takes a hit, if it is among the best so far.
    pub(super) fn take(&mut self, hit: Hit<'a>) {
        if self.dropped.is_some_and(|dropped| best_first(&hit, &dropped).is_gt()) {
            return;
        }
        self.hits.push(hit);
        if self.hits.len() >= self.most.saturating_mul(2).saturating_add(SPARE) {
            self.drop_worse();
        }
    }

    /// The hits in their order, without the first `from`.
    pub(super) fn in_order(mut self, from: usize) -> Vec<Hit<'a>> {
        self.drop_worse();
        let mut hits = self.hits;
        if from >= hits.len() {
            return Vec::new();
        }
        if from > 0 {
            hits.select_nth_unstable_by(from, best_first);
            hits.drain(..from);
        }
        hits.sort_unstable_by(best_first);
        hits
    }

    fn drop_worse(&mut self) {
        if self.hits.len() > self.most {
            let (_, dropped, _) = self.hits.select_nth_unstable_by(self.most, best_first);
            self.dropped = Some(*dropped);
            self.hits.truncate(self.most);
        }
    }
}

fn best_first(one: &Hit<'_>, other: &Hit<'_>) -> Ordering {
    let by_name = || {
        if one.at.segment_ord == other.at.segment_ord {
            one.names.rank(one.at.doc_id).cmp(&other.names.rank(other.at.doc_id))
        } else {
            one.names.name(one.at.doc_id).cmp(other.names.name(other.at.doc_id))
        }
    };
    (other.score.cmp(&one.score)).then(other.modified_millis.cmp(&one.modified_millis)).then_with(by_name)
}
