//! A folder that is read and never left: a link that leads out of it is as good as nothing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::spawn_blocking;
use tokio_util::io::ReaderStream;

use super::{Obstacle, TarballStream};
use crate::npm::Timestamp;
use crate::npm::tarball::{self, Inspection, Limits};

const PIECE_BYTES: usize = 256 * 1024;

/// A folder of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Without links.
    root: PathBuf,
}

/// What a folder has in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name, which is text.
    pub(super) name: String,
    /// A folder, or a link to one.
    pub(super) is_folder: bool,
}

impl Folder {
    /// # Errors
    /// When it is not there, or is no folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(path)?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root })
    }

    /// Opens a file below the folder. Anything but a file counts as nothing: a pipe would be waited for.
    fn file(&self, path: &str) -> io::Result<File> {
        let path = fs::canonicalize(self.root.join(path))?;
        if !path.starts_with(&self.root) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a link that leads out of the folder"));
        }
        if !fs::metadata(&path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        File::open(path)
    }

    /// A whole file.
    ///
    /// # Errors
    /// Of kind [`io::ErrorKind::FileTooLarge`] for one that is larger than that.
    pub(super) async fn read(&self, path: &str, most_bytes: u64) -> io::Result<Bytes> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || {
            let mut bytes = Vec::new();
            this.file(&path)?.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > most_bytes {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.into())
        })
        .await
    }

    /// A file as a stream, and when it was written.
    pub(super) async fn stream(&self, path: &str) -> io::Result<(TarballStream, Option<Timestamp>)> {
        let (this, path) = (self.clone(), path.to_owned());
        let (file, written) = blocking(move || {
            let file = this.file(&path)?;
            let written = written_at(&file);
            Ok((file, written))
        })
        .await?;
        let file = tokio::fs::File::from_std(file);
        let pieces = ReaderStream::with_capacity(file, PIECE_BYTES);
        Ok((pieces.map_err(|error| obstacle("its tarball", &error)).boxed(), written))
    }

    /// What is inside a tarball, and when it was written.
    pub(super) async fn inspect(
        &self,
        path: &str,
        limits: Limits,
    ) -> Result<(Inspection, Option<Timestamp>), Obstacle> {
        let (this, path) = (self.clone(), path.to_owned());
        let inspected = blocking(move || {
            let file = this.file(&path)?;
            let written = written_at(&file);
            Ok((tarball::inspect(io::BufReader::new(file), &limits), written))
        });
        let (inspected, written) = inspected.await.map_err(|error| obstacle("it", &error))?;
        inspected.map(|inspection| (inspection, written)).map_err(|error| Obstacle(error.to_string()))
    }

    /// What is in a folder below this one, names that are no text left out; nothing where there is no such folder.
    pub(super) async fn entries(&self, path: &str) -> io::Result<Vec<Entry>> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || {
            let path = match fs::canonicalize(this.root.join(path)) {
                Ok(path) if path.starts_with(&this.root) => path,
                Ok(_) => return Ok(Vec::new()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let kind = entry.file_type()?;
                let is_folder = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
                entries.push(Entry { name, is_folder });
            }
            Ok(entries)
        })
        .await
    }
}

fn written_at(file: &File) -> Option<Timestamp> {
    let since = file.metadata().ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The path of something in a folder, which may be the outermost: that has no name.
pub(super) fn below(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}/{name}") }
}

/// Why a file could not be read.
pub(super) fn obstacle(what: &str, error: &io::Error) -> Obstacle {
    Obstacle(match error.kind() {
        io::ErrorKind::NotFound => format!("{what} is not there"),
        io::ErrorKind::FileTooLarge => format!("{what} is too large"),
        _ => format!("{what} cannot be read: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_folder_is_not_left() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        fs::write(inside.path().join("own"), "own").unwrap();
        symlink(outside.path().join("secret"), inside.path().join("link")).unwrap();
        symlink(outside.path(), inside.path().join("folder")).unwrap();
        symlink("own", inside.path().join("alias")).unwrap();
        let folder = Folder::open(inside.path()).unwrap();
        for path in ["own", "alias"] {
            assert_eq!(folder.read(path, 10).await.unwrap(), "own");
        }
        for path in ["link", "folder/secret", "../secret", ".", "folder"] {
            assert!(folder.read(path, 10).await.is_err(), "{path}");
        }
        assert_eq!(folder.read("own", 2).await.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(folder.entries("folder").await.unwrap(), []);
    }
}
