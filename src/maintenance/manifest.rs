//! The list of all that a backup has, one line of JSON an object, with what its bytes hash to. Its last line says that it is
//! whole; a manifest without it is of a backup that was not finished.

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Stream, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::keys::Key;
use crate::npm::{Digests, Timestamp};

/// The form of manifests that this version writes and reads.
const FORM: u32 = 1;
/// Keys have at most 1,024 bytes; what is longer is no manifest.
const LONGEST_LINE: usize = 16 << 10;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    Head {
        holdfast_backup: u32,
        /// When the backup was begun.
        started: Timestamp,
    },
    Object(Entry),
    End(Totals),
}

/// An object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) size_bytes: u64,
    /// As in `dist.integrity`.
    pub(super) integrity: String,
}

/// How much a backup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Objects.
    pub objects: u64,
    /// Their size.
    pub total_bytes: u64,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// No line of a manifest, or one of a form that is not known.
    #[error("line {0} of its manifest cannot be read")]
    Line(u64),
    /// It has no end: the backup was cut off.
    #[error("it was not finished: its manifest has no end")]
    Unfinished,
    /// The end names other totals.
    #[error("its manifest is not whole: the last line speaks of {0} objects")]
    Totals(u64),
}

impl Entry {
    pub(super) fn of(key: &str, digests: &Digests) -> Self {
        Self { key: key.to_owned(), size_bytes: digests.size_bytes, integrity: digests.integrity() }
    }

    pub(super) fn is(&self, digests: &Digests) -> bool {
        self.size_bytes == digests.size_bytes && self.integrity == digests.integrity()
    }

    /// Its key, unless no backup has such an object.
    pub(super) fn key(&self) -> Option<Key> {
        Key::listed(&self.key)
    }
}

impl Totals {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.objects += 1;
        self.total_bytes += entry.size_bytes;
    }
}

impl Line {
    pub(super) fn head(started: Timestamp) -> Self {
        Self::Head { holdfast_backup: FORM, started }
    }

    /// With its end of line.
    pub(super) fn text(&self) -> String {
        // Only maps with keys that are no texts cannot be written, and here is none.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Reads a manifest line by line, and makes sure that it begins and ends as one does.
#[derive(Debug, Default)]
pub(super) struct Reading {
    lines: u64,
    started: Option<Timestamp>,
    totals: Totals,
    is_finished: bool,
}

impl Reading {
    /// Takes the next line; what it has of an object.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<Option<Entry>, ManifestError> {
        self.lines += 1;
        let wrong = ManifestError::Line(self.lines);
        if self.is_finished {
            return Err(wrong);
        }
        match serde_json::from_slice(text).map_err(|_| wrong.clone())? {
            Line::Head { holdfast_backup: FORM, started } if self.lines == 1 => {
                self.started = Some(started);
                Ok(None)
            }
            Line::Object(entry) if self.started.is_some() => {
                self.totals.add(&entry);
                Ok(Some(entry))
            }
            Line::End(totals) if totals == self.totals && self.started.is_some() => {
                self.is_finished = true;
                Ok(None)
            }
            Line::End(totals) => Err(ManifestError::Totals(totals.objects)),
            Line::Head { .. } | Line::Object(_) => Err(wrong),
        }
    }

    /// When the backup was begun, and how much it has.
    pub(super) fn finish(self) -> Result<(Timestamp, Totals), ManifestError> {
        match self.started {
            Some(started) if self.is_finished => Ok((started, self.totals)),
            _ => Err(ManifestError::Unfinished),
        }
    }
}

/// The lines of a text that comes in pieces, without their ends. `too_long` is the error for one that has none.
pub(super) fn lines<E>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    too_long: impl Fn() -> E,
) -> impl Stream<Item = Result<Bytes, E>> {
    stream::try_unfold((pieces, BytesMut::new(), too_long), |(mut pieces, mut buffer, too_long)| async move {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &buffer) {
                let line = buffer.split_to(end).freeze();
                buffer.advance(1);
                return Ok(Some((line, (pieces, buffer, too_long))));
            }
            if buffer.len() > LONGEST_LINE {
                return Err(too_long());
            }
            match pieces.try_next().await? {
                Some(piece) => buffer.extend_from_slice(&piece),
                None if buffer.is_empty() => return Ok(None),
                None => {
                    let line = buffer.split().freeze();
                    return Ok(Some((line, (pieces, buffer, too_long))));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[String]) -> Result<(Vec<Entry>, Totals), ManifestError> {
        let (mut reading, mut entries) = (Reading::default(), Vec::new());
        for text in texts {
            entries.extend(reading.take(text.trim_end().as_bytes())?);
        }
        Ok((entries, reading.finish()?.1))
    }

    #[test]
    fn a_manifest_is_whole_or_refused() {
        let entry = |key: &str| Entry { key: key.to_owned(), size_bytes: 2, integrity: "sha512-x".to_owned() };
        let head = Line::head(Timestamp::from_millis(0)).text();
        let objects = [entry("a/index.json"), entry("b/index.json")];
        let [first, second] = objects.clone().map(|entry| Line::Object(entry).text());
        let end = Line::End(Totals { objects: 2, total_bytes: 4 }).text();
        let whole = [head.clone(), first.clone(), second.clone(), end.clone()];
        assert_eq!(read(&whole), Ok((objects.to_vec(), Totals { objects: 2, total_bytes: 4 })));
        assert_eq!(read(&whole[..3]), Err(ManifestError::Unfinished));
        assert_eq!(read(&[]), Err(ManifestError::Unfinished));
        assert_eq!(read(&[head.clone(), first.clone(), end.clone()]), Err(ManifestError::Totals(2)));
        assert_eq!(read(&whole[1..]), Err(ManifestError::Line(1)));
        assert_eq!(read(&[head.clone(), "{}".to_owned()]), Err(ManifestError::Line(2)));
        assert_eq!(read(&[whole.to_vec(), vec![first]].concat()), Err(ManifestError::Line(5)));
        assert_eq!(read(&[head.replace(":1,", ":2,"), end]), Err(ManifestError::Line(1)));
    }

    #[tokio::test]
    async fn lines_are_found_across_pieces_and_are_bounded() {
        let pieces = |texts: &[&str]| {
            stream::iter(
                texts.iter().map(|text| Ok::<_, &str>(Bytes::copy_from_slice(text.as_bytes()))).collect::<Vec<_>>(),
            )
        };
        let found: Vec<Bytes> = lines(pieces(&["a", "b\nc\n", "\nlast"]), || "long").try_collect().await.unwrap();
        assert_eq!(found, ["ab", "c", "", "last"]);
        let long = "x".repeat(LONGEST_LINE + 1);
        let refused: Result<Vec<Bytes>, _> = lines(pieces(&[&long]), || "long").try_collect().await;
        assert_eq!(refused, Err("long"));
    }
}
