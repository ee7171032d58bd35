//! Bundles between a file and a registry: for `holdfast mirror --bundle` and `holdfast import bundle`.

use std::collections::BTreeSet;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::output;
use crate::clock::Clock;
use crate::npm::integrity::Hasher;
use crate::npm::{PackageName, Version};
use crate::registry::{self, Mirrored, Registry, Route, WantedVersion};
use crate::storage;
use crate::transfer::bundle::{self, BundleError, Item, List, PublicKey, SigningKey};

/// Tarballs are handed to the disk in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;
/// The largest document that is taken, as of an upstream.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// Makes a key, keeps it in a new file that only its owner can read, and prints the public key.
pub(super) fn make_key(path: &Path) -> anyhow::Result<ExitCode> {
    let (key, text) = SigningKey::generate()?;
    let cannot = |error: io::Error| {
        anyhow::Error::new(error).context(format!("`{}` cannot be written; only a new file is", path.display()))
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    writeln!(file, "{text}").map_err(cannot)?;
    output::message("Bundles that are signed with this key are checked with:");
    output::data(&key.public_text())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::parse(&text_of(path)?)?)
}

/// The public key itself, or the file that it is in.
pub(super) fn read_public_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = PublicKey::parse(text) {
        return Ok(key);
    }
    Ok(PublicKey::parse(&text_of(Path::new(text))?)?)
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let cannot = |error: io::Error| anyhow::Error::new(error).context(format!("`{}` cannot be read", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(cannot)?.take(4096).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

/// Writes everything that is at hand of what was wanted, and the packages' documents in full.
pub(super) async fn write(
    registry: &Registry,
    clock: &Clock,
    wanted: &[WantedVersion],
    states: &[Mirrored],
    path: PathBuf,
    key: SigningKey,
) -> anyhow::Result<()> {
    let kept = |state: &Mirrored| matches!(state, Mirrored::Fetched | Mirrored::Kept);
    let at_hand: BTreeSet<(PackageName, Version)> = wanted
        .iter()
        .zip(states)
        .filter(|(_, state)| kept(state))
        .filter_map(|(wanted, _)| Some((wanted.name.parse().ok()?, wanted.version.parse().ok()?)))
        .collect();
    let names: BTreeSet<&PackageName> = at_hand.iter().map(|(name, _)| name).collect();
    let mut items = Vec::with_capacity(names.len() + at_hand.len());
    for name in names {
        let mut hasher = Hasher::default();
        hasher.update(&registry.mirrored_document(name).await?);
        items.push(item(name, None, hasher));
    }
    for (name, version) in &at_hand {
        let mut hasher = Hasher::default();
        let mut bytes = Box::pin(registry.mirrored_tarball(name, version).await?.stream_all());
        while let Some(piece) = bytes.try_next().await? {
            hasher.update(&piece);
        }
        items.push(item(name, Some(version), hasher));
    }
    let list = List::new(clock.now().to_string(), items);
    let (registry, handle, shown) = (registry.clone(), Handle::current(), path.display().to_string());
    let count = list.items.len();
    let writing = spawn_blocking(move || {
        bundle::write(&path, &key, &list, |item| {
            handle.block_on(open(&registry, item)).map(|pieces| Pieces {
                handle: handle.clone(),
                stream: pieces,
                piece: Bytes::new(),
            })
        })
    });
    writing.await?.map_err(|error| anyhow::Error::new(error).context(format!("`{shown}` was not written")))?;
    output::message(&format!("{count} files are in `{shown}`, signed."));
    Ok(())
}

fn item(name: &PackageName, version: Option<&Version>, hasher: Hasher) -> Item {
    let digests = hasher.finish();
    Item {
        name: name.to_string(),
        version: version.map(ToString::to_string),
        size: digests.size_bytes,
        integrity: digests.integrity(),
    }
}

type PieceStream = Pin<Box<dyn Stream<Item = Result<Bytes, storage::Error>> + Send>>;

async fn open(registry: &Registry, item: &Item) -> io::Result<PieceStream> {
    let name = item.name.parse().map_err(io::Error::other)?;
    Ok(if let Some(version) = &item.version {
        let version = version.parse().map_err(io::Error::other)?;
        let download = registry.mirrored_tarball(&name, &version).await.map_err(io::Error::other)?;
        download.stream_all().boxed()
    } else {
        let body = registry.kept_document_in_full(&name).await.map_err(io::Error::other)?;
        stream::iter([Ok(body)]).boxed()
    })
}

/// A stream, for a thread that reads.
struct Pieces {
    handle: Handle,
    stream: PieceStream,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.handle.block_on(self.stream.next()) {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// What came of a bundle.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Taken {
    /// When it was made.
    made: String,
    documents: usize,
    tarballs: usize,
    /// Packages that no upstream of the settings is for, or that are published here.
    left_out: BTreeSet<String>,
}

impl Taken {
    pub(super) fn is_whole(&self) -> bool {
        self.left_out.is_empty()
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} documents and {} tarballs are kept, of the bundle of {}.",
            self.documents, self.tarballs, self.made
        )];
        if !self.left_out.is_empty() {
            lines.push(format!(
                "{} packages were left out: they are published here, or no upstream in the settings is for them:",
                self.left_out.len()
            ));
            lines.extend(self.left_out.iter().map(|name| format!("  {name}")));
        }
        lines.join("\n")
    }
}

/// Why a bundle was not taken to its end. What was kept until then is right, and stays.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("a file of the bundle cannot be kept")]
    Registry(#[from] registry::Error),
    #[error("a file of the bundle cannot be kept")]
    Store(#[from] storage::Error),
}

/// Keeps what is in a bundle as if it had been fetched.
pub(super) async fn take(registry: &Registry, path: PathBuf, key: PublicKey) -> anyhow::Result<Taken> {
    let (registry, handle) = (registry.clone(), Handle::current());
    let taking = spawn_blocking(move || {
        let (mut taken, mut progress) = (Taken::default(), output::Progress::of("files"));
        let list = bundle::read(&path, &key, |list, item, bytes| {
            let done = taken.documents + taken.tarballs;
            progress.step(done as u64, Some(list.items.len() as u64), item);
            take_item(&registry, &handle, item, bytes, &mut taken)
        })?;
        taken.made = list.made;
        Ok::<_, TakeError>(taken)
    });
    Ok(taking.await??)
}

fn take_item(
    registry: &Registry,
    handle: &Handle,
    item: &Item,
    mut bytes: &mut dyn Read,
    taken: &mut Taken,
) -> Result<(), TakeError> {
    let different = |_| BundleError::Different(item.to_string());
    let name: PackageName = item.name.parse().map_err(|_| BundleError::Damaged("its list has a name that is none"))?;
    let is_ours = handle.block_on(registry.is_hosted(&name))?;
    if is_ours || !matches!(registry.sources().route(&name), Route::Upstream(_)) {
        taken.left_out.insert(item.name.clone());
        io::copy(&mut bytes, &mut io::sink()).map_err(different)?;
        return Ok(());
    }
    let Some(version) = &item.version else {
        if item.size > MAX_DOCUMENT_BYTES {
            return Err(BundleError::Damaged("it has a document that is too large").into());
        }
        let mut body = Vec::new();
        bytes.read_to_end(&mut body).map_err(different)?;
        handle.block_on(registry.keep_mirrored_document(&name, body.into()))?;
        taken.documents += 1;
        return Ok(());
    };
    let version: Version = version.parse().map_err(|_| BundleError::Damaged("its list has a version that is none"))?;
    let mut upload = handle.block_on(registry.stage_mirrored())?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = bytes.read(&mut buffer).map_err(different)?;
        if read == 0 {
            break;
        }
        handle.block_on(upload.write(Bytes::copy_from_slice(&buffer[..read])))?;
    }
    handle.block_on(registry.keep_mirrored_tarball(&name, &version, upload))?;
    taken.tarballs += 1;
    Ok(())
}
