//! A bundle: packages of upstreams in one signed file, for a site that the network does not reach. Reading and writing the
//! file; what is in it comes from, and goes to, whoever calls.
//!
//! It is a tar archive, compressed with zstd: first the list of everything in it, then the list's Ed25519 signature, then
//! the files in the order of the list. Whoever reads it believes the list when the signature is right, and each file when
//! it has the size and the hash that the list says, so that nothing is unpacked which the signer has not named.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, Entry, Header};

use crate::npm::Integrity;
use crate::random;

const FORMAT: &str = "holdfast-bundle-1";
/// Some two hundred bytes for each file.
const MAX_LIST_BYTES: u64 = 256 << 20;
const MAX_SIGNATURE_BYTES: u64 = 1024;
/// What zstd may want of memory for decompression: a window of 128 MiB.
const WINDOW_LOG: u32 = 27;
const LEVEL: i32 = 9;
const LIST: &str = "list.json";
const SIGNATURE: &str = "list.sig";
const KEY_PREFIX: &str = "holdfast-bundle-key:";
const PUBLIC_PREFIX: &str = "holdfast-bundle-pub:";

/// What a bundle has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    format: String,
    /// When it was made, RFC 3339.
    pub made: String,
    /// In the order of the files.
    pub items: Vec<Item>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The package.
    pub name: String,
    /// The version whose tarball it is; of the package's document there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// In bytes.
    pub size: u64,
    /// `sha512-…`
    pub integrity: String,
}

/// Why a bundle cannot be written or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read or written.
    #[error("the file cannot be read or written")]
    File(#[from] io::Error),
    /// The file ends too early, or is no bundle.
    #[error("this is no whole bundle: {0}")]
    Damaged(&'static str),
    /// Signed with another key, or changed since.
    #[error("the list in the bundle was not signed with this key, or was changed since: nothing of it was taken")]
    BadSignature,
    /// A file is not what the list says.
    #[error("{0} in the bundle is not what the signed list says: it and what follows was not taken")]
    Different(String),
    /// A key that cannot be read.
    #[error("this is no {0} of a bundle")]
    BadKey(&'static str),
}

impl List {
    /// A list of what a bundle is to have.
    pub fn new(made: String, items: Vec<Item>) -> Self {
        Self { format: FORMAT.to_owned(), made, items }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "the document of {}", self.name),
        }
    }
}

/// The key that bundles are signed with. Never printed.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key, with the text to keep it as, which is secret.
    ///
    /// # Errors
    /// Never in practice.
    pub fn generate() -> Result<(Self, String), BundleError> {
        let text = format!("{KEY_PREFIX}{}", STANDARD.encode(random::bytes::<32>()));
        Ok((Self::parse(&text)?, text))
    }

    /// # Errors
    /// [`BundleError::BadKey`].
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let bad = || BundleError::BadKey("signing key");
        let seed = text.trim().strip_prefix(KEY_PREFIX).and_then(|key| STANDARD.decode(key).ok()).ok_or_else(bad)?;
        Ed25519KeyPair::from_seed_unchecked(&seed).map(Self).map_err(|_| bad())
    }

    /// The text of the key that the other side checks with.
    pub fn public_text(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.public_key().as_ref()))
    }
}

/// The key that bundles are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// # Errors
    /// [`BundleError::BadKey`].
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let key = text.trim().strip_prefix(PUBLIC_PREFIX).and_then(|key| STANDARD.decode(key).ok());
        key.filter(|key| key.len() == 32).map(Self).ok_or(BundleError::BadKey("public key"))
    }
}

/// Writes a bundle into a new file, which comes into place when it is whole. `open` gives each item's bytes. Blocks.
///
/// # Errors
/// What `open` says, or the file's failure. [`BundleError::Different`] when an item has other bytes than its list says.
pub fn write<R: Read>(
    path: &Path,
    key: &SigningKey,
    list: &List,
    mut open: impl FnMut(&Item) -> io::Result<R>,
) -> Result<(), BundleError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staged = tempfile::NamedTempFile::new_in(folder)?;
    let mut archive = Builder::new(zstd::Encoder::new(staged.as_file(), LEVEL)?);
    let text = serde_json::to_vec(list).map_err(io::Error::other)?;
    append(&mut archive, LIST, text.len() as u64, text.as_slice())?;
    let signature = STANDARD.encode(key.0.sign(&text).as_ref());
    append(&mut archive, SIGNATURE, signature.len() as u64, signature.as_bytes())?;
    for (number, item) in list.items.iter().enumerate() {
        let mut checked = Checked::new(open(item)?, item)?;
        append(&mut archive, &format!("{number}"), item.size, &mut checked)?;
        checked.finish(item)?;
    }
    archive.into_inner()?.finish()?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn append(archive: &mut Builder<impl Write>, name: &str, size: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes.take(size))
}

/// Reads a bundle. `take` gets each item of the signed list with its bytes, which must all be read: a wrong hash shows at
/// their end, as an error of the reader, so that nobody takes wrong bytes for a whole file. Blocks.
///
/// # Errors
/// [`BundleError`], or what `take` says.
pub fn read<E: From<BundleError>>(
    path: &Path,
    key: &PublicKey,
    mut take: impl FnMut(&List, &Item, &mut dyn Read) -> Result<(), E>,
) -> Result<List, E> {
    let file = File::open(path).map_err(BundleError::File)?;
    let mut decoder = zstd::Decoder::new(file).map_err(BundleError::File)?;
    decoder.window_log_max(WINDOW_LOG).map_err(BundleError::File)?;
    let mut archive = Archive::new(decoder);
    let mut entries = archive.entries().map_err(damaged)?.raw(true);
    let text = small(entries.next(), LIST, MAX_LIST_BYTES)?;
    let signature = small(entries.next(), SIGNATURE, MAX_SIGNATURE_BYTES)?;
    let signature = STANDARD.decode(signature).map_err(|_| BundleError::BadSignature)?;
    UnparsedPublicKey::new(&ED25519, &key.0).verify(&text, &signature).map_err(|_| BundleError::BadSignature)?;
    let list: List = serde_json::from_slice(&text).map_err(|_| BundleError::Damaged("its list cannot be read"))?;
    if list.format != FORMAT {
        return Err(BundleError::Damaged("it was made by another version").into());
    }
    for (number, item) in list.items.iter().enumerate() {
        let entry = entries.next().ok_or(BundleError::Damaged("it ends too early"))?.map_err(damaged)?;
        let is_it = entry.path_bytes().as_ref() == number.to_string().as_bytes() && entry.size() == item.size;
        if !is_it {
            return Err(BundleError::Different(item.to_string()).into());
        }
        let mut checked = Checked::new(entry, item)?;
        take(&list, item, &mut checked)?;
        checked.finish(item)?;
    }
    match entries.next() {
        None => Ok(list),
        Some(_) => Err(BundleError::Damaged("it has more than its list says").into()),
    }
}

fn damaged(error: io::Error) -> BundleError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::Other | io::ErrorKind::InvalidData => {
            BundleError::Damaged("it ends too early or is no such archive")
        }
        _ => BundleError::File(error),
    }
}

fn small<R: Read>(
    entry: Option<io::Result<Entry<'_, R>>>,
    name: &str,
    most_bytes: u64,
) -> Result<Vec<u8>, BundleError> {
    let entry = entry.ok_or(BundleError::Damaged("it is empty"))?.map_err(damaged)?;
    if entry.path_bytes().as_ref() != name.as_bytes() || entry.size() > most_bytes {
        return Err(BundleError::Damaged("it does not begin with its list"));
    }
    let mut bytes = Vec::new();
    entry.take(most_bytes).read_to_end(&mut bytes).map_err(damaged)?;
    Ok(bytes)
}

/// Hashes what is read, and fails at the end when it is not what was expected.
struct Checked<R> {
    inner: R,
    verifier: Option<crate::npm::integrity::Verifier>,
    left: u64,
    is_right: bool,
}

impl<R: Read> Checked<R> {
    fn new(inner: R, item: &Item) -> Result<Self, BundleError> {
        let integrity = Integrity::parse(&item.integrity).ok_or(BundleError::Damaged("its list has no hashes"))?;
        Ok(Self { inner, verifier: Some(integrity.verifier()), left: item.size, is_right: false })
    }

    fn finish(mut self, item: &Item) -> Result<(), BundleError> {
        // Of an empty file nobody has read anything.
        self.end().map(|_| ()).map_err(|_| BundleError::Different(item.to_string()))
    }

    fn end(&mut self) -> io::Result<usize> {
        if let Some(verifier) = self.verifier.take() {
            self.is_right = self.left == 0 && verifier.finish();
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is not what the signed list says");
        if self.is_right { Ok(0) } else { Err(wrong()) }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = if self.left == 0 { 0 } else { self.inner.read(buffer)? };
        if read == 0 && !buffer.is_empty() {
            return self.end();
        }
        if let Some(verifier) = &mut self.verifier {
            verifier.update(&buffer[..read]);
        }
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0 {
            self.end()?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npm::integrity::Hasher;

    const FILES: [(&str, Option<&str>, &[u8]); 3] =
        [("left", None, b"{}"), ("left", Some("1.0.0"), b"a tarball"), ("@a/empty", Some("1.0.0"), b"")];

    fn item((name, version, bytes): (&str, Option<&str>, &[u8])) -> Item {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        let integrity = hasher.finish().integrity();
        Item { name: name.to_owned(), version: version.map(ToOwned::to_owned), size: bytes.len() as u64, integrity }
    }

    fn written(folder: &Path, key: &SigningKey) -> std::path::PathBuf {
        let path = folder.join("bundle.tar.zst");
        let list = List::new("2026-11-30T12:00:00.000Z".to_owned(), FILES.map(item).to_vec());
        let mut files = FILES.iter();
        write(&path, key, &list, |_| Ok(files.next().unwrap().2)).unwrap();
        path
    }

    fn taken(path: &Path, key: &PublicKey) -> (Vec<Vec<u8>>, Result<List, BundleError>) {
        let mut files = Vec::new();
        let outcome = read(path, key, |_, item, bytes| {
            let mut all = Vec::new();
            bytes.read_to_end(&mut all).map_err(|_| BundleError::Different(item.to_string()))?;
            files.push(all);
            Ok::<_, BundleError>(())
        });
        (files, outcome)
    }

    fn repacked(path: &Path, change: impl Fn(&str, Vec<u8>) -> Vec<u8>) {
        let mut archive = Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
        let mut changed = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let bytes = change(&name, bytes);
            append(&mut changed, &name, bytes.len() as u64, bytes.as_slice()).unwrap();
        }
        std::fs::write(path, changed.into_inner().unwrap().finish().unwrap()).unwrap();
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (key, text) = SigningKey::generate().unwrap();
        let path = written(folder.path(), &SigningKey::parse(&text).unwrap());
        let (files, list) = taken(&path, &PublicKey::parse(&key.public_text()).unwrap());
        assert_eq!(files, FILES.map(|(_, _, bytes)| bytes.to_vec()));
        assert_eq!(list.unwrap().items.len(), 3);
    }

    #[test]
    fn what_was_not_signed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let public = PublicKey::parse(&key.public_text()).unwrap();
        let path = written(folder.path(), &key);
        let (files, outcome) = taken(&path, &PublicKey::parse(&other.public_text()).unwrap());
        assert!(files.is_empty() && matches!(outcome, Err(BundleError::BadSignature)));

        let sound = std::fs::read(&path).unwrap();
        for cut in [0, 10, sound.len() / 2, sound.len() - 12] {
            std::fs::write(&path, &sound[..cut]).unwrap();
            assert!(taken(&path, &public).1.is_err(), "cut at {cut}");
        }
        std::fs::write(&path, &sound).unwrap();
        repacked(&path, |name, bytes| if name == "1" { b"A tarball".to_vec() } else { bytes });
        let (files, outcome) = taken(&path, &public);
        assert!(files.len() == 1 && matches!(outcome, Err(BundleError::Different(_))), "{outcome:?}");

        std::fs::write(&path, &sound).unwrap();
        repacked(&path, |name, bytes| if name == "1" { vec![b'x'; 1 << 20] } else { bytes });
        assert!(matches!(taken(&path, &public).1, Err(BundleError::Different(_))), "a longer file");

        std::fs::write(&path, &sound).unwrap();
        repacked(&path, |name, bytes| {
            if name == LIST { String::from_utf8(bytes).unwrap().replace("left", "lost").into_bytes() } else { bytes }
        });
        let (files, outcome) = taken(&path, &public);
        assert!(files.is_empty() && matches!(outcome, Err(BundleError::BadSignature)));
    }

    #[test]
    fn keys_are_told_from_anything_else() {
        let (key, text) = SigningKey::generate().unwrap();
        assert!(PublicKey::parse(&text).is_err());
        assert!(SigningKey::parse(&key.public_text()).is_err());
        assert!(PublicKey::parse("holdfast-bundle-pub:AAAA").is_err());
    }
}
