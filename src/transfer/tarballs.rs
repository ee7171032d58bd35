//! Packages from a folder of tarballs.
//!
//! A folder with a document (`package.json` with `versions`) and tarballs under the names that its addresses end with is a
//! package, as [`super::export`] writes it. Any other `.tgz` is a version of the package that the manifest in it names.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use futures::StreamExt as _;
use futures::stream;

use super::folder::{Entry, below, obstacle};
use super::{Folder, Line, MAX_DOCUMENT_BYTES, Obstacle, Offer, Origin, Tarball};
use crate::npm::packument::{ForeignDocument, ForeignVersion, Maintainer};
use crate::npm::tarball::{Inspection, Limits};
use crate::npm::{PackageName, Version};

/// What a package's document is called.
const DOCUMENT: &str = "package.json";
/// Folders in each other.
const MAX_DEPTH: usize = 6;
/// Tarballs that are looked into at once.
const AT_ONCE: usize = 4;

/// Who is to own packages that nobody owns here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// These accounts; where there is none, nobody: only administrators and those whom a rule names change the package.
    These(Vec<String>),
    /// Whoever the document names: accounts of the same name are the same people's on both sides.
    AsDocumented,
}

impl Owners {
    /// For a package whose document names these maintainers.
    pub(super) fn of(&self, documented: &[Maintainer]) -> Vec<Maintainer> {
        match self {
            Self::These(names) => {
                names.iter().map(|name| Maintainer { name: name.clone(), email: String::new() }).collect()
            }
            Self::AsDocumented => documented.to_vec(),
        }
    }
}

/// A folder of tarballs.
#[derive(Debug)]
pub struct Tarballs {
    folder: Folder,
    limits: Limits,
    owners: Owners,
    /// Where packages with a document are.
    documented: BTreeMap<PackageName, String>,
    /// Tarballs without a document, lowest version first.
    loose: BTreeMap<PackageName, BTreeMap<Version, String>>,
}

impl Tarballs {
    /// Looks through a folder: each tarball that no document speaks of is read to learn whose it is. What is no package is
    /// reported.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn open(path: &Path, limits: Limits, owners: Owners) -> io::Result<(Self, Vec<Line>)> {
        let folder = Folder::open(path)?;
        let mut this = Self { folder, limits, owners, documented: BTreeMap::new(), loose: BTreeMap::new() };
        let (mut problems, mut open, mut unknown) = (Vec::new(), vec![(String::new(), 0)], Vec::new());
        while let Some((place, depth)) = open.pop() {
            let entries = this.folder.entries(&place).await?;
            let is_document = |entry: &Entry| entry.name == DOCUMENT && !entry.is_folder;
            let has_document = entries.iter().any(is_document) && this.take_document(&place, &mut problems).await;
            for Entry { name, is_folder } in &entries {
                if *is_folder && depth < MAX_DEPTH && !name.starts_with('.') {
                    open.push((below(&place, name), depth + 1));
                } else if !is_folder && !has_document && Path::new(name).extension().is_some_and(|kind| kind == "tgz") {
                    unknown.push(below(&place, name));
                }
            }
        }
        // Of two of one version the first by name is taken, wherever the folder lists it.
        unknown.sort_unstable();
        this.look_into(unknown, &mut problems).await;
        Ok((this, problems))
    }

    /// All packages that were found.
    pub fn names(&self) -> Vec<PackageName> {
        let documented =
            self.documented.keys().chain(self.loose.keys().filter(|name| !self.documented.contains_key(*name)));
        documented.cloned().collect()
    }

    /// Whether a folder has a package's document. One that is damaged is none, and is told.
    async fn take_document(&mut self, place: &str, problems: &mut Vec<Line>) -> bool {
        let path = below(place, DOCUMENT);
        let mut problem = |why: String| problems.push(Line { package: path.clone(), version: None, why });
        let bytes = match self.folder.read(&path, MAX_DOCUMENT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => {
                problem(obstacle("it", &error).0);
                return false;
            }
        };
        let Ok(document) = crate::npm::RawObject::parse(&bytes) else {
            problem("is no JSON object".to_owned());
            return false;
        };
        // The manifest of a package that lies about unpacked.
        if document.get("versions").is_none() {
            return false;
        }
        let Some(Ok(name)) = document.text("name").map(|name| name.parse::<PackageName>()) else {
            problem("names no package".to_owned());
            return false;
        };
        if let Some(other) = self.documented.insert(name, place.to_owned()) {
            problem(format!("is of the same package as `{other}`, and was taken in its place"));
        }
        true
    }

    async fn look_into(&mut self, files: Vec<String>, problems: &mut Vec<Line>) {
        let (folder, limits) = (self.folder.clone(), self.limits);
        let inspections = files.into_iter().map(|file| {
            let folder = folder.clone();
            async move {
                let found = identity_of(&folder, &file, limits).await;
                (file, found)
            }
        });
        let mut inspections = stream::iter(inspections).buffered(AT_ONCE);
        while let Some((file, found)) = inspections.next().await {
            let problem = |why: String| Line { package: file.clone(), version: None, why };
            match found {
                Ok((name, version)) => {
                    let versions = self.loose.entry(name).or_default();
                    if let Some(other) = versions.get(&version) {
                        problems.push(problem(format!("is of the same version as `{other}`, which was taken")));
                    } else {
                        versions.insert(version, file);
                    }
                }
                Err(Obstacle(why)) => problems.push(problem(why)),
            }
        }
    }

    /// A package whose tarballs are all that is known of it: the highest stable version is `latest`.
    async fn assembled(&self, versions: &BTreeMap<Version, String>) -> Result<ForeignDocument, Obstacle> {
        let mut document = ForeignDocument::default();
        let highest = versions.keys().max_by_key(|version| (!version.is_prerelease(), *version)).cloned();
        for (version, file) in versions {
            let (inspection, written) = self.folder.inspect(file, self.limits).await?;
            if Some(version) == highest.as_ref() {
                document.readme = inspection.readme.as_ref().map(|readme| readme.text.clone());
            }
            document.versions.push(ForeignVersion::of_manifest(version.clone(), &inspection.manifest, written));
        }
        document.created = document.versions.iter().filter_map(|version| version.published).min();
        document.modified = document.versions.iter().filter_map(|version| version.published).max();
        document.dist_tags.extend(highest.map(|version| ("latest".to_owned(), version.to_string())));
        Ok(document)
    }

    fn path(&self, name: &PackageName, version: &ForeignVersion) -> Option<String> {
        match self.documented.get(name) {
            Some(place) => Some(below(place, version.file_name()?)),
            None => self.loose.get(name)?.get(&version.version).cloned(),
        }
    }
}

async fn identity_of(folder: &Folder, file: &str, limits: Limits) -> Result<(PackageName, Version), Obstacle> {
    let (Inspection { manifest, .. }, _) = folder.inspect(file, limits).await?;
    let text = |member: &str| manifest.get(member).and_then(serde_json::Value::as_str).unwrap_or_default();
    let name = text("name").parse().map_err(|error| Obstacle(format!("its `name` cannot be used: {error}")))?;
    let version =
        text("version").parse().map_err(|error| Obstacle(format!("its `version` cannot be used: {error}")))?;
    Ok((name, version))
}

impl Origin for Tarballs {
    const IS_NEAR: bool = true;

    async fn package(&self, name: &PackageName) -> Result<Option<Offer>, Obstacle> {
        let document = match (self.documented.get(name), self.loose.get(name)) {
            (Some(place), _) => {
                let bytes = self.folder.read(&below(place, DOCUMENT), MAX_DOCUMENT_BYTES).await;
                super::parsed(name, bytes.map_err(|error| obstacle("its document", &error))?).await?
            }
            (None, Some(versions)) => self.assembled(versions).await?,
            (None, None) => return Err(Obstacle::new("it is not there")),
        };
        let owners = self.owners.of(&document.maintainers);
        Ok(Some(Offer { document, owners, left_out: Vec::new() }))
    }

    async fn tarball(&self, name: &PackageName, version: &ForeignVersion) -> Result<Tarball, Obstacle> {
        let path =
            self.path(name, version).ok_or_else(|| Obstacle::new("its document does not say where its tarball is"))?;
        let (bytes, written) = self.folder.stream(&path).await.map_err(|error| obstacle("its tarball", &error))?;
        Ok(Tarball { bytes, written })
    }
}
