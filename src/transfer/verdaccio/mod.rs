//! Packages from the storage of a Verdaccio, or of a Sinopia, as its local storage keeps them on disk.
//!
//! A folder for each package: `package.json` is the document, beside it lie the tarballs under the names that their
//! addresses end with. `.verdaccio-db.json` in the storage names the packages that were published there; all others are
//! copies of an uplink's. A document lists the tarballs of an uplink in `_distfiles`, and those that were published in
//! `_attachments`, with the version that each belongs to.

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::task::spawn_blocking;

pub use config::{Config, ConfigError, Translation};

use super::folder::{Entry, below, obstacle};
use super::{Folder, Line, MAX_DOCUMENT_BYTES, Obstacle, Offer, Origin, Tarball};
use crate::npm::packument::{ForeignDocument, ForeignVersion, Maintainer};
use crate::npm::{Integrity, PackageName};

/// The list of packages: some fifty bytes each.
const MAX_LIST_BYTES: u64 = 256 << 20;
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// As much as an htpasswd file of a hundred thousand lines.
const MAX_ACCOUNTS_BYTES: u64 = 16 << 20;
/// The second is Sinopia's.
const LISTS: [&str; 2] = [".verdaccio-db.json", ".sinopia-db.json"];

/// What makes up a Verdaccio on disk.
#[derive(Debug)]
pub struct Place {
    /// The storage.
    pub storage: PathBuf,
    /// Its settings, where they are known.
    pub config: Option<Config>,
    /// Its accounts, where there is such a file.
    pub accounts: Option<PathBuf>,
}

/// Why a place is no Verdaccio's.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file or folder cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The settings cannot be understood.
    #[error("`{}` cannot be understood", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// The storage that the settings name is not on this machine.
    #[error("`{}`, which the settings name as storage, is not there: give the storage folder itself, and the settings with --settings", .0.display())]
    NoStorage(PathBuf),
    /// Nothing of a Verdaccio was found.
    #[error("`{}` is neither the settings nor the storage of a Verdaccio: there is no config.yaml, no storage folder and no .verdaccio-db.json in it", .0.display())]
    NotOne(PathBuf),
}

impl Place {
    /// Finds the parts from the settings file, the folder that it is in, or the storage itself. Reads files; call it off
    /// the async threads.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn find(path: &Path, settings: Option<&Path>, accounts: Option<&Path>) -> Result<Self, PlaceError> {
        let is_file = path.is_file();
        let beside = [path.join("config.yaml"), path.join("config.yml")];
        let settings = match settings {
            Some(settings) => Some(settings.to_owned()),
            None if is_file => Some(path.to_owned()),
            None => beside.into_iter().find(|file| file.is_file()),
        };
        let config = settings.as_deref().map(read_config).transpose()?;
        let base = settings.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        let is_storage = LISTS.iter().any(|list| path.join(list).is_file());
        let storage = if is_storage && !is_file {
            path.to_owned()
        } else if let Some(named) = config.as_ref().and_then(|config| config.storage.as_deref()) {
            base.join(named)
        } else if path.join("storage").is_dir() {
            path.join("storage")
        } else {
            return Err(PlaceError::NotOne(path.to_owned()));
        };
        if !storage.is_dir() {
            return Err(PlaceError::NoStorage(storage));
        }
        let named = config.as_ref().and_then(|config| config.htpasswd.as_deref()).map(|file| base.join(file));
        let usual = [storage.join("htpasswd"), base.join("htpasswd"), path.join("htpasswd")];
        let accounts = match accounts {
            Some(accounts) => Some(accounts.to_owned()),
            None => named.into_iter().chain(usual).find(|file| file.is_file()),
        };
        Ok(Self { storage, config, accounts })
    }

    /// The text of the accounts' file. Reads it; call it off the async threads.
    ///
    /// # Errors
    /// [`PlaceError::Unreadable`].
    pub fn accounts_text(&self) -> Result<Option<String>, PlaceError> {
        let Some(path) = &self.accounts else { return Ok(None) };
        let bytes = read_file(path, MAX_ACCOUNTS_BYTES)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn read_config(path: &Path) -> Result<Config, PlaceError> {
    let bytes = read_file(path, MAX_CONFIG_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    Config::parse(&text).map_err(|source| PlaceError::Config { path: path.to_owned(), source })
}

fn read_file(path: &Path, most_bytes: u64) -> Result<Vec<u8>, PlaceError> {
    let unreadable = |source| PlaceError::Unreadable { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > most_bytes {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read(path).map_err(unreadable)
}

/// What a storage has.
#[derive(Debug, Default)]
pub struct Contents {
    /// Packages, those that are copies too.
    pub names: Vec<PackageName>,
    /// What can be none.
    pub problems: Vec<Line>,
}

/// The storage of a Verdaccio.
#[derive(Debug)]
pub struct Storage {
    folder: Folder,
    /// Where packages lie that have a storage of their own, below the folder.
    elsewhere: BTreeMap<PackageName, String>,
    wanted: Arc<Wanted>,
}

/// What of a storage is to come in.
#[derive(Debug)]
struct Wanted {
    /// Versions of uplinks too, as far as their tarballs are there.
    with_copies: bool,
    /// Names of the accounts that come along, in small letters: whoever maintains a package there is its owner here.
    accounts: BTreeSet<String>,
}

/// `.verdaccio-db.json`. The secret in it is of no use here.
#[derive(Debug, Default, Deserialize)]
struct List {
    #[serde(default)]
    list: Vec<String>,
}

/// The parts of a stored document that only Verdaccio has.
#[derive(Debug, Default, Deserialize)]
struct Marks {
    #[serde(rename = "_distfiles", default)]
    of_uplinks: BTreeMap<String, serde_json::Value>,
    #[serde(rename = "_attachments", default)]
    files: BTreeMap<String, Attachment>,
}

#[derive(Debug, Default, Deserialize)]
struct Attachment {
    shasum: Option<String>,
    version: Option<String>,
}

impl Storage {
    /// Opens a storage.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(path: &Path, with_copies: bool, accounts: &[String]) -> io::Result<Self> {
        let accounts = accounts.iter().map(|name| name.to_lowercase()).collect();
        let wanted = Arc::new(Wanted { with_copies, accounts });
        Ok(Self { folder: Folder::open(path)?, elsewhere: BTreeMap::new(), wanted })
    }

    /// All that the storage has. `storages` are the folders in it that only some packages are in, from the settings.
    ///
    /// # Errors
    /// When the storage cannot be read. A list that is damaged is a problem and no error: the folders tell the same.
    pub async fn contents(&mut self, storages: &[String]) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let mut names = BTreeSet::new();
        for text in self.listed(&mut contents.problems).await? {
            match text.parse() {
                Ok(name) => {
                    names.insert(name);
                }
                Err(error) => {
                    let line = Line { package: text, version: None, why: format!("is in the list: {error}") };
                    contents.problems.push(line);
                }
            }
        }
        for place in std::iter::once("").chain(storages.iter().map(String::as_str)) {
            let found = self.folders(place, storages, &mut contents.problems).await?;
            for name in found {
                if !place.is_empty() {
                    self.elsewhere.insert(name.clone(), place.to_owned());
                }
                names.insert(name);
            }
        }
        contents.names = names.into_iter().collect();
        Ok(contents)
    }

    async fn listed(&self, problems: &mut Vec<Line>) -> io::Result<Vec<String>> {
        for file in LISTS {
            match self.folder.read(file, MAX_LIST_BYTES).await {
                Ok(bytes) => match serde_json::from_slice::<List>(&bytes) {
                    Ok(List { list }) => return Ok(list),
                    Err(_) => problems.push(Line {
                        package: file.to_owned(),
                        version: None,
                        why: "is damaged; the folders were looked at in its place".to_owned(),
                    }),
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// The packages whose folders are in one.
    async fn folders(
        &self,
        place: &str,
        storages: &[String],
        problems: &mut Vec<Line>,
    ) -> io::Result<Vec<PackageName>> {
        let mut names = Vec::new();
        for Entry { name, is_folder } in self.folder.entries(place).await? {
            if !is_folder || name.starts_with('.') || storages.contains(&below(place, &name)) {
                continue;
            }
            let candidates = if name.starts_with('@') {
                let inner = self.folder.entries(&below(place, &name)).await?;
                inner
                    .into_iter()
                    .filter(|entry| entry.is_folder)
                    .map(|entry| format!("{name}/{}", entry.name))
                    .collect()
            } else {
                vec![name]
            };
            for candidate in candidates {
                match candidate.parse() {
                    Ok(name) => names.push(name),
                    Err(error) => {
                        let why = format!("is the name of a folder: {error}");
                        problems.push(Line { package: candidate, version: None, why });
                    }
                }
            }
        }
        Ok(names)
    }

    fn path(&self, name: &PackageName, file: &str) -> String {
        match self.elsewhere.get(name) {
            Some(place) => format!("{place}/{name}/{file}"),
            None => format!("{name}/{file}"),
        }
    }
}

impl Wanted {
    /// Sorts a document's versions into those that come in and those that stay.
    fn offer(&self, name: &PackageName, bytes: &Bytes) -> Result<Option<Offer>, Obstacle> {
        let damaged = || Obstacle::new("its document is damaged");
        let mut document = ForeignDocument::parse(name, bytes).map_err(|_| damaged())?;
        let marks: Marks = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let (mut own, mut left_out, mut has_own) = (Vec::new(), Vec::new(), false);
        for mut version in std::mem::take(&mut document.versions) {
            let file = file_of(name, &version);
            let attachment = marks.files.get(&file);
            let is_published = attachment.is_some_and(|attachment| attachment.version.is_some());
            let is_copy = !is_published && marks.of_uplinks.contains_key(&file);
            has_own |= !is_copy;
            if is_copy && !self.with_copies {
                left_out.push((version.version.to_string(), "is an uplink's; --with-copies takes what is there of it"));
            } else if is_copy && attachment.is_none() {
                left_out.push((version.version.to_string(), "is an uplink's, and its tarball is not there"));
            } else {
                let shasum = attachment.and_then(|attachment| attachment.shasum.as_deref());
                version.claims.extend(shasum.and_then(Integrity::from_shasum));
                own.push(version);
            }
        }
        if !has_own && !self.with_copies && !left_out.is_empty() {
            return Ok(None);
        }
        let owners = self.owners(&document, &own);
        document.versions = own;
        Ok(Some(Offer { document, owners, left_out }))
    }

    /// Those who maintain the package, or else have published it, as far as they have an account that comes along. A name
    /// that nobody has yet would be anybody's.
    fn owners(&self, document: &ForeignDocument, versions: &[ForeignVersion]) -> Vec<Maintainer> {
        let publishers = versions.iter().filter_map(ForeignVersion::publisher);
        let publishers = publishers.map(|name| Maintainer { name, email: String::new() });
        let people: Vec<Maintainer> = match document.maintainers.as_slice() {
            [] => publishers.collect(),
            known => known.to_vec(),
        };
        let mut seen = BTreeSet::new();
        let has_account = |person: &Maintainer| self.accounts.contains(&person.name.to_lowercase());
        people.into_iter().filter(|person| has_account(person) && seen.insert(person.name.to_lowercase())).collect()
    }
}

fn file_of(name: &PackageName, version: &ForeignVersion) -> String {
    version.file_name().map_or_else(|| format!("{}-{}.tgz", name.basename(), version.version), ToOwned::to_owned)
}

impl Origin for Storage {
    const IS_NEAR: bool = true;

    async fn package(&self, name: &PackageName) -> Result<Option<Offer>, Obstacle> {
        let bytes = self.folder.read(&self.path(name, "package.json"), MAX_DOCUMENT_BYTES).await;
        let bytes = bytes.map_err(|error| obstacle("its document", &error))?;
        let (wanted, name) = (Arc::clone(&self.wanted), name.clone());
        let offered = spawn_blocking(move || wanted.offer(&name, &bytes)).await;
        offered.unwrap_or_else(|_| Err(Obstacle::new("its document is damaged")))
    }

    async fn tarball(&self, name: &PackageName, version: &ForeignVersion) -> Result<Tarball, Obstacle> {
        let stream = self.folder.stream(&self.path(name, &file_of(name, version))).await;
        let (bytes, written) = stream.map_err(|error| obstacle("its tarball", &error))?;
        Ok(Tarball { bytes, written })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn storage(with_copies: bool) -> Storage {
        Storage::open(Path::new("."), with_copies, &["Ann".to_owned()]).unwrap()
    }

    fn offered(with_copies: bool, document: &Value) -> Option<(Vec<String>, Vec<String>, Vec<String>)> {
        let name = "tool".parse().unwrap();
        let offer = storage(with_copies).wanted.offer(&name, &document.to_string().into()).unwrap()?;
        let numbers = offer.document.versions.iter().map(|version| version.version.to_string()).collect();
        let owners = offer.owners.into_iter().map(|owner| owner.name).collect();
        Some((numbers, offer.left_out.into_iter().map(|(number, _)| number).collect(), owners))
    }

    fn document(published: &[&str], uplinks: &[&str], cached: &[&str]) -> Value {
        let mut document = json!({ "name": "tool", "versions": {}, "_distfiles": {}, "_attachments": {} });
        for number in published.iter().chain(uplinks) {
            let file = format!("tool-{number}.tgz");
            document["versions"][number] =
                json!({ "_npmUser": { "name": "ann" }, "dist": { "tarball": format!("http://x/tool/-/{file}") } });
            if uplinks.contains(number) {
                document["_distfiles"][&file] = json!({ "url": "http://y/", "sha": "", "registry": "npmjs" });
            } else {
                document["_attachments"][&file] = json!({ "shasum": "0".repeat(40), "version": number });
            }
            if cached.contains(number) {
                document["_attachments"][&file] = json!({ "shasum": "0".repeat(40) });
            }
        }
        document
    }

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    #[test]
    fn an_uplinks_versions_are_told_from_those_that_were_published() {
        let mixed = document(&["1.0.0"], &["2.0.0", "3.0.0"], &["3.0.0"]);
        let owners = texts(&["ann"]);
        assert_eq!(offered(false, &mixed), Some((texts(&["1.0.0"]), texts(&["2.0.0", "3.0.0"]), owners.clone())));
        assert_eq!(offered(true, &mixed), Some((texts(&["1.0.0", "3.0.0"]), texts(&["2.0.0"]), owners)));
        let copy = document(&[], &["1.0.0"], &["1.0.0"]);
        assert_eq!(offered(false, &copy), None);
        // Published in a document that has lost its marks.
        let mut bare = document(&["1.0.0"], &[], &[]);
        bare["_attachments"] = json!({});
        assert_eq!(offered(false, &bare).unwrap().0, ["1.0.0"]);
    }

    #[test]
    fn only_those_with_an_account_own_anything() {
        let mut document = document(&["1.0.0"], &[], &[]);
        document["maintainers"] = json!([{ "name": "ANN" }, { "name": "eve" }, "ann <a@b>"]);
        assert_eq!(offered(false, &document).unwrap().2, ["ANN"]);
    }
}
