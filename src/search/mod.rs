//! The index of hosted packages behind npm's search, over tantivy.
//!
//! It is derived data. It knows names and words, but neither who may read what nor where packages are kept: a caller
//! says which names may be seen, and puts in what changed. Each hit is written out from what the index itself holds, so
//! a search reads no package.
//!
//! **Order.** Hits come by score, then the latest first, then by name. That is a total order over the packages, and a
//! search looks at all matches before it cuts out a page: for one state of the index the total is right and pages have
//! neither gaps nor repeats, whatever `readable` leaves out.
//!
//! **Changes.** [`SearchIndex::put`] and [`SearchIndex::remove`] only queue, in memory, the last change of each name.
//! [`SearchIndex::commit`] makes all queued changes searchable and durable in one step: it writes and syncs new files,
//! then replaces the one small file that names them. Whatever cuts a commit short, the index is as it was before it or
//! as it is after it. What was queued and not committed is lost with the process, which is the price of a cheap `put`:
//! a commit syncs about ten files, however little changed, so it belongs once after a batch or a second, off the
//! async threads, and never on the path of a publish. To catch up after a crash, a caller commits a mark of its own
//! ([`SearchIndex::commit_with_mark`]), such as how far it has read the events, and reads it back at start.
//!
//! **Memory.** Opening maps files and reads none of them. The writer, its threads and its some 25 MB live only inside a
//! commit; how soon the allocator gives them back to the system is its own affair (mimalloc within a second or so of
//! further use). A commit also waits for merges that it set off, after its changes are searchable; so nothing runs and nothing
//! but names and dates stays in memory between two calls. A search holds some bytes for each package of a segment, and no
//! more hits than its page needs.
//!
//! One process at a time may write a directory. A damaged index, or one of another schema, is wiped when opened. Damage
//! inside a file is found only when a search comes upon it, as checking would read everything; then a caller makes the
//! index anew with [`SearchIndex::create`].

mod best;
mod error;
mod fields;
mod names;
mod ranking;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tantivy::directory::MmapDirectory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::schema::Value;
use tantivy::{
    DocAddress, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term,
};

use best::{Best, Hit};
pub use error::Error;
use fields::Fields;
use names::NameCache;
use ranking::Plan;

use crate::npm::{PackageName, SearchEntry, SearchQuery};

/// The smallest that tantivy accepts; a larger one would only make larger first segments.
const WRITER_MEMORY_BYTES: usize = 15_000_000;

/// How many changes wait for a commit at most, and how many bytes their texts have: a commit takes as long for a thousand as
/// for one, and they are in memory until then.
const FULL_CHANGES: usize = 10_000;
const FULL_BYTES: usize = 4 << 20;

/// Entries are written in blocks and a whole block is copied to read one of them, so this is a few entries long.
const ENTRY_BLOCK_BYTES: usize = 4_096;

/// How many of those blocks are kept for each segment. A page reads its entries once.
const ENTRY_BLOCKS_CACHED: usize = 2;

/// Whether the index was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It was not, or was of no use: it is empty now, and all packages must be put.
    Fresh,
    /// It has everything up to its last commit.
    Reopened,
}

/// A part of what a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// How many packages match, of those that may be seen.
    pub total: usize,
    /// Those of this page, best first.
    pub entries: Vec<SearchEntry>,
}

/// The index. All methods block; each may be called from many threads at once.
pub struct SearchIndex {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    names: NameCache,
    queue: Mutex<Queue>,
    /// Held during a commit.
    committing: Mutex<()>,
}

/// What is not committed yet.
#[derive(Default)]
struct Queue {
    changes: Changes,
    /// Of the entries that were put since the last commit, also of those that others have replaced.
    bytes: usize,
}

/// The last change of each name: its entry, or nothing when it was removed.
type Changes = BTreeMap<PackageName, Option<Box<SearchEntry>>>;

impl SearchIndex {
    /// Opens the index in a directory of its own, and makes both when they are missing.
    ///
    /// # Errors
    /// Only when a new index cannot be made either: [`Error::Io`].
    pub fn open(directory: &Path) -> Result<(Self, Opened), Error> {
        match Self::reopen(directory) {
            Ok(Some(index)) => return Ok((index, Opened::Reopened)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the search index is of no use and is made anew"
                );
            }
        }
        Ok((Self::create(directory)?, Opened::Fresh))
    }

    /// Makes an empty index in the directory, in place of one that is there. No other [`SearchIndex`] may have it open.
    ///
    /// Only files that an index consists of are deleted: the directory may have been named by mistake.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be written.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory)?;
        wipe(directory)?;
        let fields = Fields::new();
        let settings = settings();
        let index = Index::builder().schema(fields.schema.clone()).settings(settings).create_in_dir(directory)?;
        Self::over(index, fields)
    }

    /// Makes an index that is gone with the process.
    ///
    /// # Errors
    /// None that can be caused from outside.
    pub fn in_memory() -> Result<Self, Error> {
        let fields = Fields::new();
        let index = Index::builder().schema(fields.schema.clone()).settings(settings()).create_in_ram()?;
        Self::over(index, fields)
    }

    fn reopen(directory: &Path) -> Result<Option<Self>, Error> {
        if !directory.join("meta.json").try_exists()? {
            return Ok(None);
        }
        let fields = Fields::new();
        let files = MmapDirectory::open(directory).map_err(Error::damaged)?;
        let index = Index::open(files)?;
        if index.schema() != fields.schema {
            return Err(Error::damaged("the index has another schema"));
        }
        Self::over(index, fields).map(Some)
    }

    fn over(index: Index, fields: Fields) -> Result<Self, Error> {
        let reader = index
            .reader_builder()
            // A commit reloads; a watcher would be a thread that polls.
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(ENTRY_BLOCKS_CACHED)
            .try_into()?;
        let (names, queue, committing) = (NameCache::default(), Mutex::default(), Mutex::default());
        Ok(Self { index, reader, fields, names, queue, committing })
    }

    /// Queues a package, in place of what is there under its name.
    pub fn put(&self, entry: &SearchEntry) {
        let mut queue = self.queue();
        queue.bytes += entry.text_bytes();
        queue.changes.insert(entry.name.clone(), Some(Box::new(entry.clone())));
    }

    /// Queues the removal of a package; it need not be there.
    pub fn remove(&self, name: &PackageName) {
        self.queue().changes.insert(name.clone(), None);
    }

    /// How many changes are queued.
    pub fn queued(&self) -> usize {
        self.queue().changes.len()
    }

    /// True when so much is queued, in memory, that it should be committed before more is put.
    pub fn is_full(&self) -> bool {
        let queue = self.queue();
        queue.changes.len() >= FULL_CHANGES || queue.bytes >= FULL_BYTES
    }

    /// Makes the queued changes searchable, all at once, and durable. Keeps the mark of the commit before. Blocks for
    /// some file syncs, and now and then for a merge; does nothing when nothing is queued.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::InUse`]; the changes are queued again then. None of them can be found, or all: putting
    /// the same once more is harmless.
    pub fn commit(&self) -> Result<(), Error> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.queued() == 0 {
            return Ok(());
        }
        let mark = self.mark()?;
        self.commit_alone(mark.as_deref())
    }

    /// As [`SearchIndex::commit`], and sets the mark in the same atomic step, even when nothing is queued.
    ///
    /// The mark must be read before what it stands for is put: then it never says more than the index has.
    ///
    /// # Errors
    /// As [`SearchIndex::commit`].
    pub fn commit_with_mark(&self, mark: &str) -> Result<(), Error> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit_alone(Some(mark))
    }

    /// The mark of the last commit, durable with it; none for a new index.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`].
    pub fn mark(&self) -> Result<Option<String>, Error> {
        Ok(self.index.load_metas()?.payload)
    }

    fn commit_alone(&self, mark: Option<&str>) -> Result<(), Error> {
        let Queue { changes, bytes } = std::mem::take(&mut *self.queue());
        let writer = match self.write(&changes, mark).and_then(|writer| self.reload().map(|()| writer)) {
            Ok(writer) => writer,
            Err(error) => {
                let mut queue = self.queue();
                queue.bytes += bytes;
                for (name, change) in changes {
                    // What was queued meanwhile is newer.
                    queue.changes.entry(name).or_insert(change);
                }
                return Err(error);
            }
        };
        // Dropping the writer would end its merges. They change nothing that can be found, so a failure is no error here.
        if let Err(error) = writer.wait_merging_threads() {
            tracing::warn!(error = &error as &dyn std::error::Error, "the search index could not be merged");
        }
        self.reload()
    }

    fn write(&self, changes: &Changes, mark: Option<&str>) -> Result<IndexWriter, Error> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(WRITER_MEMORY_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let mut writer: IndexWriter = self.index.writer_with_options(options)?;
        writer.set_merge_policy(Box::new(merge_policy()));
        for (name, change) in changes {
            writer.delete_term(Term::from_field_text(self.fields.id, name.as_str()));
            if let Some(entry) = change {
                writer.add_document(self.fields.document(entry)?)?;
            }
        }
        let mut commit = writer.prepare_commit()?;
        if let Some(mark) = mark {
            commit.set_payload(mark);
        }
        commit.commit()?;
        Ok(writer)
    }

    fn reload(&self) -> Result<(), Error> {
        self.reader.reload()?;
        self.names.follow(&self.reader.searcher())
    }

    /// Finds a page of packages: skips `from` of them and gives `size` at most.
    ///
    /// `readable` says whether a name may be seen, and is asked for each match unless `all_readable`; names that may not
    /// be seen leave no trace in the answer. `is:public` is the caller's business.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the index must be made anew, or [`Error::Io`].
    pub fn search(
        &self,
        query: &SearchQuery,
        from: usize,
        size: usize,
        readable: &dyn Fn(&PackageName) -> bool,
        all_readable: bool,
    ) -> Result<Page, Error> {
        let searcher = self.reader.searcher();
        let names = self.names.of(&searcher)?;
        let plan = Plan::new(query, &self.fields);
        let mut total = 0;
        let mut best = Best::of(from.saturating_add(size));
        for ((ordinal, segment), names) in (0..).zip(searcher.segment_readers()).zip(&names) {
            let scores = plan.score(segment)?;
            if scores.is_empty() {
                continue;
            }
            for (document, score) in (0..).zip(scores) {
                if score == 0 || segment.is_deleted(document) || !(all_readable || readable(names.name(document))) {
                    continue;
                }
                total += 1;
                if best.may_take(score) {
                    let at = DocAddress::new(ordinal, document);
                    best.take(Hit { score, modified_millis: names.modified_millis(document), at, names });
                }
            }
        }
        let entries = best.in_order(from).into_iter().map(|hit| self.entry(&searcher, hit.at));
        Ok(Page { total, entries: entries.collect::<Result<_, _>>()? })
    }

    /// The next packages in the order of their names, after the given one: at most `limit`, and fewer only at the end.
    ///
    /// A whole listing asks again with the last name it got. Packages that come and go meanwhile may or may not be in it;
    /// all others are, once.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub fn names(
        &self,
        after: Option<&PackageName>,
        limit: usize,
        readable: &dyn Fn(&PackageName) -> bool,
    ) -> Result<Vec<SearchEntry>, Error> {
        let searcher = self.reader.searcher();
        let names = self.names.of(&searcher)?;
        let mut found = Vec::new();
        for ((ordinal, segment), names) in (0..).zip(searcher.segment_readers()).zip(&names) {
            let here = names.after(after).iter().filter(|&&document| !segment.is_deleted(document));
            let here = here.map(|&document| (names.name(document), DocAddress::new(ordinal, document)));
            found.extend(here.filter(|(name, _)| readable(name)).take(limit));
        }
        found.sort_unstable();
        found.truncate(limit);
        found.into_iter().map(|(_, at)| self.entry(&searcher, at)).collect()
    }

    /// How many packages can be found, without what is queued.
    pub fn len(&self) -> usize {
        usize::try_from(self.reader.searcher().num_docs()).unwrap_or(usize::MAX)
    }

    /// True without any package.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entry(&self, searcher: &Searcher, at: DocAddress) -> Result<SearchEntry, Error> {
        let document: TantivyDocument = searcher.doc(at)?;
        let bytes = document.get_first(self.fields.entry).and_then(|value| value.as_bytes());
        let bytes = bytes.ok_or_else(|| Error::damaged("a document has no entry"))?;
        serde_json::from_slice(bytes).map_err(Error::damaged)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchIndex").field("len", &self.len()).field("queued", &self.queued()).finish_non_exhaustive()
    }
}

fn settings() -> IndexSettings {
    // A thread for each new segment would be more than the work.
    IndexSettings {
        docstore_compress_dedicated_thread: false,
        docstore_blocksize: ENTRY_BLOCK_BYTES,
        ..IndexSettings::default()
    }
}

/// Made for many commits of one package each: five levels up to 100,000 packages, each four times as large as the one
/// before, merged when there are six segments of it. So a search looks at ten segments or so, and a package is
/// rewritten about five times in all. Dead entries are dropped when they are a third of a segment.
fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_min_layer_size(64);
    policy.set_level_log_size(2.0);
    policy.set_min_num_segments(6);
    policy.set_del_docs_ratio_before_merge(0.33);
    policy
}

/// Deletes the files of an index: its lists and locks by name, its segments by their form (32 hexadecimal digits and an
/// ending).
fn wipe(directory: &Path) -> io::Result<()> {
    for file in fs::read_dir(directory)? {
        let file = file?;
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_segment = name
            .split_once('.')
            .is_some_and(|(id, _)| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let is_list = matches!(name, "meta.json" | ".managed.json" | ".tantivy-writer.lock" | ".tantivy-meta.lock");
        if (is_segment || is_list) && file.file_type()?.is_file() {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}
