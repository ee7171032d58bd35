//! Reading an archive of OSV records: a zip file, or a directory of `.json` files. One record at a time, all bounded.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use bytes::Bytes;

use super::index::{self, Gathered, Statistics};
use super::record::{self, Read as Outcome};
use crate::npm::Timestamp;

/// How much an archive may hold. The real one had 229,000 records in November 2026, of about 1 KB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of the archive itself.
    pub archive_bytes: u64,
    /// Of one record.
    pub record_bytes: u64,
    /// Of all records together.
    pub total_bytes: u64,
    /// Files in it, whatever they are.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { archive_bytes: 2 << 30, record_bytes: 4 << 20, total_bytes: 8 << 30, files: 3_000_000 }
    }
}

/// An index, as it is stored.
#[derive(Debug)]
pub struct Compiled {
    /// For [`super::Index::from_bytes`].
    pub bytes: Bytes,
    /// What went into it.
    pub statistics: Statistics,
}

/// Why there is no new index.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// Neither a zip file nor a directory, or a zip file that is cut off.
    #[error("it is no whole zip archive")]
    NotAnArchive(#[source] zip::result::ZipError),
    /// More than [`Limits`] allow.
    #[error("it is larger than any archive of advisories: {0}")]
    TooLarge(&'static str),
    /// Another ecosystem's archive, or an empty one.
    #[error("there is nothing about npm in it")]
    NothingForNpm,
    /// Most likely another kind of archive, or a damaged one.
    #[error("{unreadable} of its {records} records cannot be read")]
    Unreadable {
        /// How many could not.
        unreadable: usize,
        /// How many there are.
        records: usize,
    },
}

/// Makes an index of an archive. Blocks, for some seconds with the real one.
///
/// # Errors
/// [`CompileError`]; what was in force stays then.
pub fn compile(source: &Path, limits: &Limits, now: Timestamp) -> Result<Compiled, CompileError> {
    let mut compiler = Compiler {
        gathered: Gathered::new(),
        records: 0,
        total_bytes: 0,
        limits,
        statistics: Statistics { compiled_at: now, ..super::Index::empty().statistics().clone() },
    };
    if fs::metadata(source)?.is_dir() {
        compiler.read_directory(source)?;
    } else {
        compiler.read_zip(source)?;
    }
    compiler.finish()
}

struct Compiler<'a> {
    gathered: Gathered,
    records: usize,
    total_bytes: u64,
    limits: &'a Limits,
    statistics: Statistics,
}

impl Compiler<'_> {
    fn read_zip(&mut self, source: &Path) -> Result<(), CompileError> {
        let file = File::open(source)?;
        if file.metadata()?.len() > self.limits.archive_bytes {
            return Err(CompileError::TooLarge("the archive"));
        }
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(CompileError::NotAnArchive)?;
        if archive.len() > self.limits.files {
            return Err(CompileError::TooLarge("the number of files"));
        }
        for index in 0..archive.len() {
            let Ok(entry) = archive.by_index(index) else {
                // Encrypted, or compressed in a way that nobody uses for this.
                self.records += 1;
                self.statistics.unreadable += 1;
                continue;
            };
            // A name in an archive is never used as a path. An archive within is not looked into.
            let name = entry.name().map(std::borrow::Cow::into_owned).unwrap_or_default();
            if !entry.is_dir()
                && let Some(id) = id_of(&name)
            {
                self.read_record(entry, id)?;
            }
        }
        Ok(())
    }

    /// The files of a directory and of the directories in it; links lead elsewhere and are not followed.
    fn read_directory(&mut self, source: &Path) -> Result<(), CompileError> {
        let mut folders = vec![(source.to_owned(), true)];
        let mut files = 0;
        while let Some((folder, has_folders)) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                files += 1;
                if files > self.limits.files {
                    return Err(CompileError::TooLarge("the number of files"));
                }
                let kind = entry.file_type()?;
                if kind.is_dir() && has_folders {
                    folders.push((entry.path(), false));
                } else if kind.is_file()
                    && let Some(id) = entry.file_name().to_str().and_then(id_of)
                {
                    self.read_record(File::open(entry.path())?, id)?;
                }
            }
        }
        Ok(())
    }

    fn read_record(&mut self, source: impl Read, id: &str) -> Result<(), CompileError> {
        self.records += 1;
        let mut text = Vec::new();
        // What an entry says of its size is not believed.
        let outcome = match source.take(self.limits.record_bytes + 1).read_to_end(&mut text) {
            Ok(_) if text.len() as u64 <= self.limits.record_bytes => record::read(&text, Some(id)),
            Ok(_) | Err(_) => Outcome::Unreadable,
        };
        self.total_bytes += text.len() as u64;
        if self.total_bytes > self.limits.total_bytes {
            return Err(CompileError::TooLarge("what is in it"));
        }
        match outcome {
            Outcome::About(advisories) => {
                for (name, advisory) in advisories {
                    let known = self.gathered.entry(name).or_default();
                    // Of two records with one id the newer one counts.
                    let is_newer = known.get(&advisory.id).is_none_or(|other| other.modified <= advisory.modified);
                    if is_newer {
                        known.insert(advisory.id.clone(), advisory);
                    }
                }
            }
            Outcome::Withdrawn => self.statistics.withdrawn += 1,
            Outcome::Foreign => self.statistics.foreign += 1,
            Outcome::Unreadable => self.statistics.unreadable += 1,
        }
        Ok(())
    }

    fn finish(self) -> Result<Compiled, CompileError> {
        const FEW: usize = 20;
        let (unreadable, records) = (self.statistics.unreadable, self.records);
        if unreadable > FEW && unreadable > records / 10 {
            return Err(CompileError::Unreadable { unreadable, records });
        }
        if self.gathered.is_empty() {
            return Err(CompileError::NothingForNpm);
        }
        let (bytes, statistics) = index::write(self.gathered, self.statistics)?;
        Ok(Compiled { bytes, statistics })
    }
}

/// The id that a record's file is named by; `None` for a file that is no record.
fn id_of(name: &str) -> Option<&str> {
    name.rsplit('/').next()?.strip_suffix(".json")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::advisories::Index;

    const NOW: &str = "2026-11-24T00:00:00.000Z";

    fn malware(id: &str, name: &str) -> String {
        format!(
            r#"{{"id":"{id}","modified":"2026-01-01T00:00:00Z","summary":"Malicious code in {name}",
            "affected":[{{"package":{{"ecosystem":"npm","name":"{name}"}},"ranges":[{{"type":"SEMVER","events":[{{"introduced":"0"}}]}}]}}]}}"#
        )
    }

    fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn compiled(bytes: &[u8], limits: &Limits) -> Result<(Index, Statistics), CompileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let compiled = compile(file.path(), limits, NOW.parse().unwrap())?;
        Ok((Index::from_bytes(&compiled.bytes).unwrap(), compiled.statistics))
    }

    #[test]
    fn records_become_an_index_whatever_their_order() {
        let (one, two) = (malware("MAL-1", "Evil"), malware("MAL-2", "@bad/thing"));
        let fixed = r#"{"id":"GHSA-1","affected":[{"package":{"ecosystem":"npm","name":"evil"},"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"1.2.0"}]}]}],"database_specific":{"severity":"HIGH"}}"#;
        let files =
            [("MAL-1.json", one.as_str()), ("x/MAL-2.json", &two), ("GHSA-1.json", fixed), ("README.md", "hello")];
        let (index, statistics) = compiled(&zipped(&files), &Limits::default()).unwrap();
        let mut reversed = files;
        reversed.reverse();
        let (other, _) = compiled(&zipped(&reversed), &Limits::default()).unwrap();
        assert_eq!(index.fingerprint(), other.fingerprint());
        assert_eq!((statistics.packages, statistics.advisories, statistics.malware), (2, 3, 2));
        let about = index.about(&"eviL".parse().unwrap());
        assert_eq!(about.iter().map(|advisory| advisory.id.as_str()).collect::<Vec<_>>(), ["GHSA-1", "MAL-1"]);
        assert_eq!(about[0].affected.range_text(), ">=1.0.0 <1.2.0");
        assert_eq!(about[0].severity, super::super::Severity::High);
        assert!(about[1].affected.everything());
        assert!(index.knows(&"@bad/thing".parse().unwrap()));
        assert!(!index.knows(&"@bad/thin".parse().unwrap()) && !index.knows(&"zzz".parse().unwrap()));
    }

    #[test]
    fn a_directory_is_an_archive_too() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("npm/deeper")).unwrap();
        fs::write(folder.path().join("MAL-1.json"), malware("MAL-1", "a")).unwrap();
        fs::write(folder.path().join("npm/MAL-2.json"), malware("MAL-2", "b")).unwrap();
        fs::write(folder.path().join("npm/deeper/MAL-3.json"), malware("MAL-3", "c")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("MAL-4.json"), malware("MAL-4", "d")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let statistics = compile(folder.path(), &Limits::default(), NOW.parse().unwrap()).unwrap().statistics;
        assert_eq!(statistics.packages, 2);
    }

    #[test]
    fn what_is_no_archive_of_advisories_is_refused() {
        let good = zipped(&[("MAL-1.json", &malware("MAL-1", "a"))]);
        let foreign = r#"{"id":"GHSA-1","affected":[{"package":{"ecosystem":"PyPI","name":"x"}}]}"#;
        let small = Limits { record_bytes: 10, ..Limits::default() };
        let refused = |bytes: &[u8], limits: &Limits| compiled(bytes, limits).unwrap_err();
        assert!(matches!(refused(&good[..good.len() / 2], &Limits::default()), CompileError::NotAnArchive(_)));
        assert!(matches!(refused(b"", &Limits::default()), CompileError::NotAnArchive(_)));
        assert!(matches!(refused(b"hello", &Limits::default()), CompileError::NotAnArchive(_)));
        assert!(matches!(refused(&zipped(&[]), &Limits::default()), CompileError::NothingForNpm));
        assert!(matches!(
            refused(&zipped(&[("GHSA-1.json", foreign)]), &Limits::default()),
            CompileError::NothingForNpm
        ));
        assert!(matches!(refused(&good, &small), CompileError::NothingForNpm));
        let nested = zipped(&[("inner.zip", "PK"), ("again.json.zip", "PK")]);
        assert!(matches!(refused(&nested, &Limits::default()), CompileError::NothingForNpm));
        let tiny = Limits { archive_bytes: 10, ..Limits::default() };
        assert!(matches!(refused(&good, &tiny), CompileError::TooLarge(_)));
        let short = Limits { total_bytes: 10, ..Limits::default() };
        assert!(matches!(refused(&good, &short), CompileError::TooLarge(_)));
        let few = Limits { files: 0, ..Limits::default() };
        assert!(matches!(refused(&good, &few), CompileError::TooLarge(_)));
    }

    #[test]
    fn a_bomb_costs_no_more_than_a_record() {
        let bomb = " ".repeat(64 << 20);
        let bytes = zipped(&[("MAL-2.json", &bomb), ("MAL-1.json", &malware("MAL-1", "a"))]);
        assert!(bytes.len() < 1 << 20);
        let (index, statistics) = compiled(&bytes, &Limits::default()).unwrap();
        assert_eq!((statistics.unreadable, statistics.packages), (1, 1));
        assert!(index.knows(&"a".parse().unwrap()));
    }

    #[test]
    fn too_many_strange_records_are_another_archive() {
        let names: Vec<String> = (0..30).map(|number| format!("MAL-{number}.json")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "{}")).collect();
        let good = malware("MAL-99", "a");
        files.push(("MAL-99.json", &good));
        assert!(matches!(
            compiled(&zipped(&files), &Limits::default()).unwrap_err(),
            CompileError::Unreadable { unreadable: 30, records: 31 }
        ));
    }

    #[test]
    fn the_newer_of_two_records_counts() {
        let old = malware("MAL-1", "a");
        let new = old.replace("2026-01-01", "2026-02-01").replace("Malicious code", "Worse code");
        for files in
            [[("x/MAL-1.json", old.as_str()), ("MAL-1.json", &new)], [("x/MAL-1.json", &new), ("MAL-1.json", &old)]]
        {
            let (index, _) = compiled(&zipped(&files), &Limits::default()).unwrap();
            assert_eq!(index.about(&"a".parse().unwrap())[0].summary, "Worse code in a");
        }
    }

    #[test]
    fn damaged_bytes_are_no_index() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), zipped(&[("MAL-1.json", &malware("MAL-1", "a"))])).unwrap();
        let bytes = compile(file.path(), &Limits::default(), NOW.parse().unwrap()).unwrap().bytes;
        let unpacked = zstd::decode_all(&bytes[..]).unwrap();
        for at in [1, unpacked.len() - 2] {
            let mut damaged = unpacked.clone();
            damaged[at] ^= 1;
            let packed = zstd::bulk::compress(&damaged, 1).unwrap();
            assert!(Index::from_bytes(&packed).is_err(), "{at}");
        }
        assert!(Index::from_bytes(&bytes[..bytes.len() - 3]).is_err());
        assert!(Index::from_bytes(b"").is_err());
    }
}
