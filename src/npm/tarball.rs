//! What is inside a package's tarball, read in one pass and never unpacked.
//!
//! Invariant: a tarball that passes here means the same to every client that unpacks it. Extractors differ in what
//! they make of odd archives (a second gzip member, entries after the end mark, a size said twice, directories with
//! content, names that only differ in case), and each such difference hides files from one of them. No client writes
//! such archives, so they are refused instead of interpreted.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use serde_json::{Map, Value};
use tar::{Archive, EntryType};

/// As much of a readme as the public registry keeps.
pub const MAX_README_BYTES: u64 = 64 * 1024;

/// Bytes of one extension header (a PAX record list or a GNU long name): paths, times and ids, never megabytes.
pub const MAX_EXTENSION_BYTES: u64 = 64 * 1024;

/// Zeros after the last entry: GNU tar fills up blocks of 10 KiB, others up to 1 MiB.
/// Everything in a tar archive is padded to this.
const BLOCK_BYTES: u64 = 512;
const MAX_TRAILER_BYTES: u64 = 1024 * 1024;

/// Bounds of one tarball. All are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole archive, unpacked: files, headers and padding.
    pub max_unpacked_bytes: u64,
    /// Files, directories and extension headers.
    pub max_entries: u64,
    /// Size of `package.json`.
    pub max_manifest_bytes: u64,
}

/// What a tarball holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// `dist.fileCount`: files, without directories.
    pub file_count: u64,
    /// `dist.unpackedSize`: sum of the files' sizes.
    pub unpacked_bytes: u64,
    /// `package.json` in the root directory.
    pub manifest: Map<String, Value>,
    /// A `binding.gyp` in the root directory: npm runs `node-gyp` on install. In any case of letters, since it is found
    /// on file systems that ignore case.
    pub has_binding_gyp: bool,
    /// An `npm-shrinkwrap.json` in the root directory.
    pub has_shrinkwrap: bool,
    /// The readme in the root directory that npm would show.
    pub readme: Option<Readme>,
}

/// A readme's file name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readme {
    /// As in the tarball, without the root directory.
    pub file_name: String,
    /// The first [`MAX_README_BYTES`], with bytes that are not UTF-8 replaced.
    pub text: String,
}

/// Why a tarball is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// The first bytes are not gzip's.
    #[error("the tarball is not compressed with gzip")]
    NotGzip,
    /// The compressed data are damaged.
    #[error("the tarball's gzip data are damaged")]
    DamagedGzip,
    /// The bytes end too early.
    #[error("the tarball ends too early")]
    Truncated,
    /// A tar header that cannot be read.
    #[error("the tarball holds no valid tar archive")]
    NotTar,
    /// Something after the gzip stream or after the archive's end.
    #[error("the tarball has data after its end")]
    TrailingData,
    /// The reader failed; the tarball may be fine.
    #[error("the tarball cannot be read")]
    Read(#[source] io::Error),
    /// No `package.json` directly in the root directory.
    #[error("the tarball has no `package.json` in its root directory")]
    NoManifest,
    /// More than one, letters' case ignored.
    #[error("the tarball has more than one `package.json` in its root directory")]
    TwoManifests,
    /// The `package.json` is not a JSON object.
    #[error("the `package.json` in the tarball is not a valid JSON object")]
    BadManifest,
    /// More than one top directory, or a file beside it.
    #[error("the tarball must have one root directory with everything in it")]
    NotOneRoot,
    /// Absolute, with `.` or `..` or empty parts, back-slashes, NUL, a drive letter, or not UTF-8.
    #[error("the tarball has an entry with an unsafe path")]
    UnsafePath,
    /// A hard or symbolic link.
    #[error("the tarball has a link")]
    Link,
    /// A device, a pipe, a sparse file and the like.
    #[error("the tarball has an entry that is neither a file nor a directory")]
    SpecialFile,
    /// Extension headers that contradict each other or the header they belong to.
    #[error("the tarball has ambiguous headers")]
    AmbiguousHeader,
    /// Over [`Limits::max_unpacked_bytes`].
    #[error("the tarball's files are too large in sum")]
    TooLarge,
    /// Over [`Limits::max_entries`].
    #[error("the tarball has too many entries")]
    TooManyEntries,
    /// Over [`Limits::max_manifest_bytes`].
    #[error("the `package.json` in the tarball is too large")]
    ManifestTooLarge,
    /// Over [`MAX_EXTENSION_BYTES`].
    #[error("the tarball has an extension header that is too large")]
    HeaderTooLarge,
}

impl TarballError {
    /// True when a limit was passed (413).
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooLarge | Self::TooManyEntries | Self::ManifestTooLarge | Self::HeaderTooLarge)
    }

    /// True when the reader failed, which says nothing of the tarball (500 or 503).
    pub fn is_read_failure(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// Reads a tarball to its end, or to the first thing that is wrong with it.
///
/// Memory: the manifest, the readme's first bytes and one extension header, each bounded.
///
/// Exactly one gzip member is accepted. Node's zlib reads on into further members and ignores what is no gzip, other
/// clients stop after the first, so that a second member would be seen by some and not by others.
///
/// # Errors
/// See [`TarballError`].
pub fn inspect(reader: impl Read, limits: &Limits) -> Result<Inspection, TarballError> {
    let mut source = io::BufReader::with_capacity(64 * 1024, Source::new(reader));
    let inspection = {
        let mut archive = Archive::new(GzDecoder::new(&mut source));
        let result = inspect_archive(&mut archive, limits);
        result.and_then(|inspection| read_trailer(archive.into_inner()).map(|()| inspection))
    };
    let inspection = inspection.map_err(|error| source.get_ref().explain(error))?;
    match source.read(&mut [0]) {
        Ok(0) => Ok(inspection),
        Ok(_) => Err(TarballError::TrailingData),
        Err(error) => Err(TarballError::Read(error)),
    }
}

/// Remembers what tells a failing reader from damaged data: both come out of the decoder as `io::Error`.
struct Source<R> {
    inner: R,
    magic: [u8; 2],
    read_bytes: u64,
    failure: Option<io::ErrorKind>,
}

impl<R: Read> Source<R> {
    fn new(inner: R) -> Self {
        Self { inner, magic: [0; 2], read_bytes: 0, failure: None }
    }

    fn explain(&self, error: TarballError) -> TarballError {
        match (error, self.failure) {
            (TarballError::Read(error), Some(_)) => TarballError::Read(error),
            (TarballError::Read(_) | TarballError::NotTar, None) if self.read_bytes >= 2 && !self.is_gzip() => {
                TarballError::NotGzip
            }
            (TarballError::Read(error), None) => match error.kind() {
                io::ErrorKind::UnexpectedEof => TarballError::Truncated,
                // The decoder's kinds; the archive's own complaints are of kind Other.
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => TarballError::DamagedGzip,
                _ => TarballError::NotTar,
            },
            (error, _) => error,
        }
    }

    fn is_gzip(&self) -> bool {
        self.magic == [0x1f, 0x8b]
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failure = Some(error.kind());
            }
        })?;
        for (at, &byte) in (self.read_bytes..).zip(&buffer[..read]).take(2) {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| self.magic.get_mut(at)) {
                *slot = byte;
            }
        }
        self.read_bytes += read as u64;
        Ok(read)
    }
}

/// What has been found so far.
#[derive(Default)]
struct Findings {
    root: Option<String>,
    entries: u64,
    files_and_directories: u64,
    /// Headers, contents and padding.
    content_bytes: u64,
    file_count: u64,
    unpacked_bytes: u64,
    has_manifest_name: bool,
    manifest: Option<Map<String, Value>>,
    has_binding_gyp: bool,
    has_shrinkwrap: bool,
    readme: Option<Readme>,
}

/// The extension headers before an entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    has_pax: bool,
    has_long_name: bool,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        !self.has_pax && !self.has_long_name
    }
}

fn inspect_archive<R: Read>(archive: &mut Archive<R>, limits: &Limits) -> Result<Inspection, TarballError> {
    let mut findings = Findings::default();
    let mut extensions = Extensions::default();
    // Raw: extension headers are interpreted here, within bounds.
    for entry in archive.entries().map_err(TarballError::Read)?.raw(true) {
        let mut entry = entry.map_err(TarballError::Read)?;
        let size_bytes = entry.size();
        let kind = entry.header().entry_type();
        if is_extension(kind) && size_bytes > MAX_EXTENSION_BYTES {
            return Err(TarballError::HeaderTooLarge);
        }
        // Headers and padding count too, and extension headers as entries: an archive of nothing but headers unpacks
        // to nothing and still has to be read to its end.
        let padded = size_bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        findings.content_bytes = findings.content_bytes.saturating_add(padded).saturating_add(BLOCK_BYTES);
        findings.entries += 1;
        if findings.entries > limits.max_entries {
            return Err(TarballError::TooManyEntries);
        }
        if findings.content_bytes > limits.max_unpacked_bytes {
            return Err(TarballError::TooLarge);
        }
        if is_extension(kind) {
            let content = read_bounded(&mut entry, size_bytes, MAX_EXTENSION_BYTES)?;
            extend(&mut extensions, kind, &content)?;
            continue;
        }
        let before = std::mem::take(&mut extensions);
        if before.size_bytes.is_some_and(|claimed| claimed != size_bytes) {
            return Err(TarballError::AmbiguousHeader);
        }
        findings.files_and_directories += 1;
        let path = match before.path {
            Some(path) => path,
            None => entry.header().path_bytes().into_owned(),
        };
        let path = String::from_utf8(path).map_err(|_| TarballError::UnsafePath)?;
        match kind {
            EntryType::Regular => findings.file(&path, size_bytes, &mut entry, limits)?,
            // node-tar gives directories no content, others do.
            EntryType::Directory if size_bytes > 0 => return Err(TarballError::AmbiguousHeader),
            EntryType::Directory => {
                let name = findings.name_in_root(path.strip_suffix('/').unwrap_or(&path), true)?;
                if name.is_some_and(|name| fold(name) == "package.json") {
                    return Err(TarballError::TwoManifests);
                }
            }
            EntryType::Link | EntryType::Symlink => return Err(TarballError::Link),
            _ => return Err(TarballError::SpecialFile),
        }
    }
    if !extensions.is_empty() {
        return Err(TarballError::Truncated);
    }
    if findings.files_and_directories == 0 {
        return Err(TarballError::NotTar);
    }
    Ok(Inspection {
        file_count: findings.file_count,
        unpacked_bytes: findings.unpacked_bytes,
        manifest: findings.manifest.ok_or(TarballError::NoManifest)?,
        has_binding_gyp: findings.has_binding_gyp,
        has_shrinkwrap: findings.has_shrinkwrap,
        readme: findings.readme,
    })
}

impl Findings {
    fn file(
        &mut self,
        path: &str,
        size_bytes: u64,
        content: &mut impl Read,
        limits: &Limits,
    ) -> Result<(), TarballError> {
        self.file_count += 1;
        self.unpacked_bytes += size_bytes;
        let Some(name) = self.name_in_root(path, false)? else { return Ok(()) };
        let folded = fold(name);
        match folded.as_str() {
            "package.json" => {
                if std::mem::replace(&mut self.has_manifest_name, true) {
                    return Err(TarballError::TwoManifests);
                }
                // A `Package.json` alone is found by no client on a file system that knows case.
                if name != "package.json" {
                    return Ok(());
                }
                if size_bytes > limits.max_manifest_bytes {
                    return Err(TarballError::ManifestTooLarge);
                }
                let text = read_bounded(content, size_bytes, limits.max_manifest_bytes)?;
                // Editors on Windows leave a byte order mark, which npm and pnpm skip.
                let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
                self.manifest = Some(serde_json::from_slice(text).map_err(|_| TarballError::BadManifest)?);
            }
            "binding.gyp" => self.has_binding_gyp = true,
            "npm-shrinkwrap.json" => self.has_shrinkwrap |= name == "npm-shrinkwrap.json",
            _ => {
                let rank = readme_rank(&folded);
                if rank > self.readme.as_ref().map_or(0, |readme| readme_rank(&fold(&readme.file_name))) {
                    let text = read_bounded(content, size_bytes.min(MAX_README_BYTES), MAX_README_BYTES)?;
                    let text = String::from_utf8_lossy(&text).into_owned();
                    self.readme = Some(Readme { file_name: name.to_owned(), text });
                }
            }
        }
        Ok(())
    }

    /// Checks a path; its file name when it lies directly in the root directory.
    fn name_in_root<'a>(&mut self, path: &'a str, is_directory: bool) -> Result<Option<&'a str>, TarballError> {
        let has_drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
        let is_bad_part = |part: &str| matches!(part, "" | "." | "..");
        if has_drive || path.contains(['\\', '\0']) || path.split('/').any(is_bad_part) {
            return Err(TarballError::UnsafePath);
        }
        let (root, rest) = match path.split_once('/') {
            Some((root, rest)) => (root, Some(rest)),
            None if is_directory => (path, None),
            None => return Err(TarballError::NotOneRoot),
        };
        match &self.root {
            None => self.root = Some(root.to_owned()),
            Some(known) if known == root => {}
            Some(_) => return Err(TarballError::NotOneRoot),
        }
        Ok(rest.filter(|rest| !rest.contains('/')))
    }
}

/// How good a readme is by its name, as `@npmcli/package-json` prefers them; 0 for what is none.
fn readme_rank(folded_name: &str) -> u8 {
    match folded_name.strip_prefix("readme") {
        Some(".md" | ".markdown" | ".mdown" | ".mkdn" | ".mkd" | ".m") => 3,
        Some("") => 2,
        Some(extension) if extension.starts_with('.') => 1,
        _ => 0,
    }
}

/// A name as file systems that ignore case compare it. Both ways, since `K` (the kelvin sign) has only a lower and `ſ`
/// only an upper case that is ASCII.
fn fold(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

fn is_extension(kind: EntryType) -> bool {
    matches!(kind, EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink)
}

/// Takes an extension header in. Whatever could make two extractors disagree on a path or a size is refused.
fn extend(extensions: &mut Extensions, kind: EntryType, content: &[u8]) -> Result<(), TarballError> {
    match kind {
        EntryType::XHeader => {
            if !extensions.is_empty() {
                return Err(TarballError::AmbiguousHeader);
            }
            extensions.has_pax = true;
            for record in pax_records(content) {
                let (key, value) = record?;
                match key {
                    "path" if extensions.path.is_none() => extensions.path = Some(value.to_vec()),
                    "size" if extensions.size_bytes.is_none() => {
                        let size_bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                        extensions.size_bytes = Some(size_bytes.ok_or(TarballError::AmbiguousHeader)?);
                    }
                    "path" | "size" => return Err(TarballError::AmbiguousHeader),
                    "linkpath" => return Err(TarballError::Link),
                    key if key.starts_with("GNU.sparse") => return Err(TarballError::SpecialFile),
                    _ => {}
                }
            }
        }
        EntryType::XGlobalHeader => {
            // `git archive` writes one with the commit in a comment.
            for record in pax_records(content) {
                if matches!(record?.0, "path" | "size" | "linkpath") {
                    return Err(TarballError::AmbiguousHeader);
                }
            }
        }
        EntryType::GNULongName => {
            if !extensions.is_empty() {
                return Err(TarballError::AmbiguousHeader);
            }
            extensions.has_long_name = true;
            extensions.path = Some(content.strip_suffix(b"\0").unwrap_or(content).to_vec());
        }
        _ => return Err(TarballError::Link),
    }
    Ok(())
}

/// The records of a PAX header: `"<length> <key>=<value>\n"`, the length counting itself.
fn pax_records(mut content: &[u8]) -> impl Iterator<Item = Result<(&str, &[u8]), TarballError>> {
    std::iter::from_fn(move || {
        if content.is_empty() {
            return None;
        }
        let record = pax_record(&mut content);
        if record.is_none() {
            content = &[];
        }
        Some(record.ok_or(TarballError::AmbiguousHeader))
    })
}

fn pax_record<'a>(content: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let space = content.iter().take(8).position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&content[..space]).ok()?.parse().ok()?;
    let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let key = std::str::from_utf8(&record[..equals]).ok()?;
    *content = &content[length..];
    Some((key, &record[equals + 1..]))
}

/// Reads exactly so many bytes; the caller has checked them against the bound.
fn read_bounded(reader: &mut impl Read, size_bytes: u64, max_bytes: u64) -> Result<Vec<u8>, TarballError> {
    let mut content = Vec::new();
    reader.take(size_bytes.min(max_bytes)).read_to_end(&mut content).map_err(TarballError::Read)?;
    if content.len() as u64 == size_bytes.min(max_bytes) { Ok(content) } else { Err(TarballError::Truncated) }
}

/// After the end mark there may be zeros only. Reading them also makes the decoder check the gzip trailer.
fn read_trailer(mut rest: impl Read) -> Result<(), TarballError> {
    let mut buffer = [0; 4096];
    let mut read_bytes = 0;
    loop {
        let read = match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(TarballError::Read(error)),
        };
        read_bytes += read as u64;
        if read_bytes > MAX_TRAILER_BYTES || buffer[..read].iter().any(|&byte| byte != 0) {
            return Err(TarballError::TrailingData);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write as _;
    use tar::Header;

    const LIMITS: Limits = Limits { max_unpacked_bytes: 1 << 20, max_entries: 100, max_manifest_bytes: 1 << 16 };
    const MANIFEST: &str = r#"{"name":"a","version":"1.0.0"}"#;

    /// Builds archives that no builder would write.
    #[derive(Default, Clone)]
    struct Builder(Vec<u8>);

    impl Builder {
        fn new() -> Self {
            Self::default().file("package/package.json", MANIFEST)
        }

        fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
            self.entry(EntryType::Regular, path, content)
        }

        fn entry(self, kind: EntryType, path: &str, content: impl AsRef<[u8]>) -> Self {
            let size_bytes = content.as_ref().len() as u64;
            self.entry_of(kind, path, content, size_bytes)
        }

        fn entry_of(mut self, kind: EntryType, path: &str, content: impl AsRef<[u8]>, size_bytes: u64) -> Self {
            let mut header = Header::new_ustar();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(size_bytes);
            header.set_cksum();
            self.0.extend_from_slice(header.as_bytes());
            self.0.extend_from_slice(content.as_ref());
            self.0.resize(self.0.len().next_multiple_of(512), 0);
            self
        }

        fn pax(self, records: &[(&str, &str)]) -> Self {
            self.entry(EntryType::XHeader, "PaxHeader/x", pax(records))
        }

        fn end(mut self) -> Self {
            self.0.resize(self.0.len() + 1024, 0);
            self
        }

        fn gzip(self) -> Vec<u8> {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&self.end().0).unwrap();
            encoder.finish().unwrap()
        }

        fn inspect(self) -> Result<Inspection, TarballError> {
            inspect(self.gzip().as_slice(), &LIMITS)
        }
    }

    fn pax(records: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len();
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            text.push_str(&length.to_string());
            text.push_str(&rest);
        }
        text
    }

    #[track_caller]
    fn refused(builder: Builder, expected: &str) {
        let error = builder.inspect().unwrap_err();
        assert_eq!(format!("{error:?}"), expected);
    }

    #[test]
    fn an_ordinary_tarball_is_described() {
        let found = Builder::new()
            .entry(EntryType::Directory, "package/lib/", "")
            .file("package/lib/readme.md", "not this one")
            .file("package/README.txt", "nor this")
            .file("package/Readme.md", b"# A \xff")
            .file("package/readme", "nor this")
            .file("package/binding.gyp", "{}")
            .file("package/npm-shrinkwrap.json", "{}")
            .file("package/lib/package.json", "not JSON and not looked at")
            .inspect()
            .unwrap();
        assert_eq!(found.manifest["name"], "a");
        assert_eq!(found.file_count, 8);
        assert_eq!(found.unpacked_bytes, (MANIFEST.len() + 12 + 8 + 5 + 8 + 2 + 2 + 26) as u64);
        assert!(found.has_binding_gyp && found.has_shrinkwrap);
        assert_eq!(found.readme, Some(Readme { file_name: "Readme.md".to_owned(), text: "# A \u{fffd}".to_owned() }));

        let plain = Builder::default().file("any name/package.json", format!("\u{feff}{MANIFEST}")).inspect().unwrap();
        assert!(!plain.has_binding_gyp && !plain.has_shrinkwrap && plain.readme.is_none());
    }

    #[test]
    fn long_names_are_read_from_their_extension() {
        let long = format!("package/{}/package.json", "d".repeat(200));
        let found = Builder::new()
            .entry(EntryType::XGlobalHeader, "pax_global_header", pax(&[("comment", "0123")]))
            .pax(&[("mtime", "1.5"), ("path", &long), ("size", "2")])
            .file("package/x", "{}")
            .entry(EntryType::GNULongName, "././@LongLink", format!("{long}.gyp\0"))
            .file("package/y", "{}")
            .pax(&[("path", "package/binding.gyp")])
            .file("package/z", "")
            .inspect()
            .unwrap();
        assert_eq!(found.file_count, 4);
        assert!(found.has_binding_gyp);
    }

    #[test]
    fn a_long_readme_is_cut() {
        let found = Builder::new().file("package/README.md", vec![b'x'; 100_000]).inspect().unwrap();
        assert_eq!(found.readme.unwrap().text.len() as u64, MAX_README_BYTES);
    }

    #[test]
    fn exactly_one_manifest_is_needed() {
        refused(Builder::default().file("package/index.js", ""), "NoManifest");
        refused(Builder::default().file("package/Package.json", MANIFEST), "NoManifest");
        refused(Builder::default().file("package/lib/package.json", MANIFEST), "NoManifest");
        for other in ["package.json", "Package.JSON", "pac\u{212a}age.json", "package.j\u{17f}on"] {
            refused(Builder::new().file(&format!("package/{other}"), MANIFEST), "TwoManifests");
        }
        refused(Builder::new().entry(EntryType::Directory, "package/package.json", ""), "TwoManifests");
        refused(Builder::new().pax(&[("path", "package/package.json")]).file("package/x", MANIFEST), "TwoManifests");
        for content in ["", "[]", "null", "{", "{}x", "'a'"] {
            refused(Builder::default().file("package/package.json", content), "BadManifest");
        }
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in [
            "/package/x",
            "/x",
            "package/../x",
            "../x",
            "package/..",
            "package/./x",
            "./package/x",
            "package//x",
            "package\\x",
            "package/x\\..\\y",
            "C:/package/x",
            "package/x/",
            "",
        ] {
            refused(Builder::new().file(path, ""), "UnsafePath");
            if !path.is_empty() {
                refused(Builder::new().pax(&[("path", path)]).file("package/x", ""), "UnsafePath");
            }
        }
        refused(Builder::new().pax(&[("path", "package/a\0b")]).file("package/x", ""), "UnsafePath");
        refused(
            Builder::new().entry(EntryType::GNULongName, "L", "package/a\0b\0").file("package/x", ""),
            "UnsafePath",
        );
        refused(Builder::new().entry(EntryType::GNULongName, "L", b"package/\xff").file("package/x", ""), "UnsafePath");
        refused(Builder::new().entry(EntryType::Directory, "package/../x/", ""), "UnsafePath");
        refused(Builder::new().file("other/x", ""), "NotOneRoot");
        refused(Builder::new().file("x", ""), "NotOneRoot");
        refused(Builder::new().entry(EntryType::Directory, "other", ""), "NotOneRoot");
    }

    #[test]
    fn only_files_and_directories_are_accepted() {
        for kind in [EntryType::Link, EntryType::Symlink, EntryType::GNULongLink] {
            refused(Builder::new().entry(kind, "package/x", ""), "Link");
        }
        for kind in [
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
            EntryType::Continuous,
            EntryType::GNUSparse,
            EntryType::new(b'D'),
            EntryType::new(b'Z'),
        ] {
            refused(Builder::new().entry(kind, "package/x", ""), "SpecialFile");
        }
        refused(Builder::new().pax(&[("linkpath", "package/x")]).file("package/y", ""), "Link");
    }

    #[test]
    fn headers_that_extractors_read_differently_are_refused() {
        let extra = Builder::default().file("package/hidden", "").0;
        for builder in [
            Builder::new().pax(&[("size", "0")]).file("package/x", &extra),
            Builder::new().pax(&[("size", "-1")]).file("package/x", ""),
            Builder::new().pax(&[("path", "package/a"), ("path", "package/b")]).file("package/x", ""),
            Builder::new().pax(&[]).pax(&[("path", "package/b")]).file("package/x", ""),
            Builder::new().pax(&[]).entry(EntryType::GNULongName, "L", "package/y").file("package/x", ""),
            Builder::new().entry(EntryType::XHeader, "p", "99 path=package/y\n").file("package/x", ""),
            Builder::new().entry(EntryType::XHeader, "p", "5 pa=package/y\n").file("package/x", ""),
            Builder::new().entry(EntryType::XHeader, "p", "nonsense").file("package/x", ""),
            Builder::new().entry(EntryType::XGlobalHeader, "g", pax(&[("path", "package/y")])).file("package/x", ""),
            Builder::new().entry(EntryType::Directory, "package/x/", &extra),
        ] {
            refused(builder, "AmbiguousHeader");
        }
        refused(Builder::new().pax(&[("path", "package/b")]), "Truncated");
    }

    #[test]
    fn nothing_may_follow_the_end() {
        refused(Builder::new().end().file("package/x", ""), "TrailingData");
        let mut one_zero_block = Builder::new();
        one_zero_block.0.resize(one_zero_block.0.len() + 512, 0);
        refused(one_zero_block.file("package/x", ""), "TrailingData");
        let mut zeros = Builder::new();
        zeros.0.resize(zeros.0.len() + (2 << 20), 0);
        refused(zeros, "TrailingData");

        let bytes = Builder::new().gzip();
        for tail in [bytes.as_slice(), b"x", b"\0"] {
            let error = inspect([&bytes, tail].concat().as_slice(), &LIMITS).unwrap_err();
            assert!(matches!(error, TarballError::TrailingData), "{error:?}");
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let kind = |bytes: &[u8]| format!("{:?}", inspect(bytes, &LIMITS).unwrap_err());
        let bytes = Builder::new().gzip();
        assert_eq!(kind(b""), "Truncated");
        assert_eq!(kind(b"PK\x03\x04 not gzip"), "NotGzip");
        assert_eq!(kind(&Builder::new().end().0), "NotGzip");
        for end in 1..bytes.len() {
            assert_eq!(kind(&bytes[..end]), "Truncated", "{end} of {}", bytes.len());
        }
        let mut bad_sum = bytes.clone();
        let at = bad_sum.len() - 6;
        bad_sum[at] ^= 1;
        assert_eq!(kind(&bad_sum), "DamagedGzip");
        let mut bad_data = bytes;
        bad_data[12] ^= 0xff;
        assert!(inspect(bad_data.as_slice(), &LIMITS).is_err());

        for text in [vec![b'x'; 600], vec![0; 1024], vec![]] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).unwrap();
            let error = inspect(encoder.finish().unwrap().as_slice(), &LIMITS).unwrap_err();
            assert!(matches!(error, TarballError::NotTar), "{error:?}");
        }
        let mut cut = Builder::new();
        cut.0.truncate(520);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&cut.0).unwrap();
        assert_eq!(kind(&encoder.finish().unwrap()), "Truncated");
    }

    #[test]
    fn a_failing_reader_is_not_the_tarballs_fault() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let bytes = Builder::new().gzip();
        for end in [0, 1, 5, 60] {
            let error = inspect(bytes[..end].chain(Failing), &LIMITS).unwrap_err();
            assert!(error.is_read_failure(), "{end}: {error:?}");
        }
    }

    #[test]
    fn every_bound_holds() {
        let builder = Builder::new().pax(&[("path", "package/y")]).file("package/x", "123");
        let bytes = builder.gzip();
        // Three headers, and three contents that each fit into a block.
        let sum = 6 * BLOCK_BYTES;
        let exact = Limits { max_unpacked_bytes: sum, max_entries: 3, max_manifest_bytes: MANIFEST.len() as u64 };
        assert!(inspect(bytes.as_slice(), &exact).is_ok());
        for (limits, expected) in [
            (Limits { max_unpacked_bytes: sum - 1, ..exact }, "TooLarge"),
            (Limits { max_entries: 2, ..exact }, "TooManyEntries"),
            (Limits { max_manifest_bytes: MANIFEST.len() as u64 - 1, ..exact }, "ManifestTooLarge"),
        ] {
            let error = inspect(bytes.as_slice(), &limits).unwrap_err();
            assert_eq!(format!("{error:?}"), expected);
            assert!(error.is_limit());
        }
    }

    #[test]
    fn an_archive_of_headers_alone_is_bounded_too() {
        let mut builder = Builder::new();
        for _ in 0..200 {
            builder = builder.entry(EntryType::XGlobalHeader, "pax_global_header", "");
        }
        let bytes = builder.gzip();
        let few = Limits { max_entries: 100, ..LIMITS };
        assert!(matches!(inspect(bytes.as_slice(), &few), Err(TarballError::TooManyEntries)));
        let small = Limits { max_entries: 1000, max_unpacked_bytes: 100 * BLOCK_BYTES, ..LIMITS };
        assert!(matches!(inspect(bytes.as_slice(), &small), Err(TarballError::TooLarge)));
    }

    #[test]
    fn bombs_are_left_before_they_are_read() {
        /// Counts what is taken of an endless tarball.
        struct Endless {
            head: io::Cursor<Vec<u8>>,
            read_bytes: u64,
        }
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.head.read(buffer)?;
                if read == 0 {
                    buffer.fill(0);
                    self.read_bytes += buffer.len() as u64;
                    return Ok(buffer.len());
                }
                Ok(read)
            }
        }
        for (kind, expected) in [
            (EntryType::Regular, "TooLarge"),
            (EntryType::XHeader, "HeaderTooLarge"),
            (EntryType::XGlobalHeader, "HeaderTooLarge"),
            (EntryType::GNULongName, "HeaderTooLarge"),
        ] {
            let archive = Builder::new().entry_of(kind, "package/x", "", 1 << 40).0;
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&archive).unwrap();
            encoder.flush().unwrap();
            let head = io::Cursor::new(encoder.get_ref().clone());
            let mut endless = Endless { head, read_bytes: 0 };
            let error = inspect(&mut endless, &LIMITS).unwrap_err();
            assert_eq!(format!("{error:?}"), expected);
            assert_eq!(endless.read_bytes, 0);
        }
        let many = (0..200).fold(Builder::new(), |builder, at| builder.file(&format!("package/{at}"), ""));
        refused(many, "TooManyEntries");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(flips in prop::collection::vec((0usize..2048, any::<u8>()), 0..6)) {
            let mut archive = Builder::new().pax(&[("path", "package/y")]).file("package/x", "123").end().0;
            for (at, byte) in flips {
                let at = at % archive.len();
                archive[at] = byte;
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&archive).unwrap();
            let _ = inspect(encoder.finish().unwrap().as_slice(), &LIMITS);
        }
    }
}
