//! A package of an upstream, made in code: its versions, what is said of each, and the documents that say it.
//!
//! What a version declares itself (scripts, licence, dependencies) is in its tarball too. What a registry adds (times,
//! signatures, who published) is in the documents only.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use holdfast::clock::Clock;
use holdfast::npm::Timestamp;
use serde_json::{Map, Value, json};

use super::signing::{self, RegistryKey, Signing};
use super::tarballs::{self, Tarball};

/// The time at which the first version of everything was published. Long ago, for clients that want packages to be old.
pub(super) const FIRST_PUBLISHED: &str = "2020-01-01T00:00:00.000Z";

/// The scripts that a client runs by itself when it installs a package from a registry.
const INSTALL_SCRIPTS: &[&str] = &["preinstall", "install", "postinstall"];

/// A package of the upstream: its versions, oldest first, and its tags.
///
/// The methods that name a version speak of one that was added before.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    name: String,
    releases: Vec<Release>,
    tags: BTreeMap<String, String>,
    /// Versions that are gone, of which only the time is left.
    gone: BTreeMap<String, String>,
    modified: Time,
}

/// A time in a document.
#[derive(Debug, Clone, Default)]
enum Time {
    /// Long ago, or the newest of the others.
    #[default]
    Usual,
    Text(String),
    Missing,
}

/// A version, and what the registry says of it beside what it says itself.
#[derive(Debug, Clone)]
struct Release {
    version: String,
    tarball: Tarball,
    time: Time,
    /// Members of the version in the documents only.
    members: Map<String, Value>,
    has_provenance: bool,
    /// Whose signatures it has.
    signatures: Vec<(RegistryKey, Signing)>,
}

impl Package {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            releases: Vec::new(),
            tags: BTreeMap::new(),
            gone: BTreeMap::new(),
            modified: Time::Usual,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A version with nothing special. The newest one without a `-` is `latest`.
    pub(crate) fn version(self, version: &str) -> Self {
        let tarball = Tarball::new(&self.name, version);
        self.tarball(tarball)
    }

    /// A version with dependencies.
    pub(crate) fn depends(self, version: &str, dependencies: &[(&str, &str)]) -> Self {
        let tarball = Tarball::new(&self.name, version).set("dependencies", texts(dependencies));
        self.tarball(tarball)
    }

    /// A version with a tarball made by the caller.
    pub(crate) fn tarball(mut self, tarball: Tarball) -> Self {
        let version = tarball.manifest["version"].as_str().unwrap().to_owned();
        if !version.contains('-') || self.releases.is_empty() {
            self.tags.insert("latest".into(), version.clone());
        }
        let (members, signatures) = (Map::new(), Vec::new());
        let time = Time::Usual;
        self.releases.push(Release { version, tarball, time, members, has_provenance: false, signatures });
        self
    }

    pub(crate) fn tag(mut self, tag: &str, version: &str) -> Self {
        self.tags.insert(tag.into(), version.into());
        self
    }

    pub(crate) fn deprecated(self, version: &str, why: &str) -> Self {
        self.says(version, "deprecated", json!(why))
    }

    /// When a version was published.
    pub(crate) fn published(self, version: &str, time: &str) -> Self {
        self.time_text(version, Some(time))
    }

    /// Any text for the time of a version, right or wrong, or none at all.
    pub(crate) fn time_text(self, version: &str, text: Option<&str>) -> Self {
        self.at(version, |release| release.time = Time::of(text))
    }

    /// Any text for the time of the last change, or none at all, instead of the newest time of a version.
    pub(crate) fn modified_text(mut self, text: Option<&str>) -> Self {
        self.modified = Time::of(text);
        self
    }

    /// A version that was taken down: only its time is left, as the public registry does it.
    pub(crate) fn gone(mut self, version: &str, published: &str) -> Self {
        self.gone.insert(version.into(), published.into());
        self
    }

    /// The licence of a version. Its manifest says `MIT` without this.
    pub(crate) fn licence(self, version: &str, licence: impl Into<Value>) -> Self {
        self.declares(version, "license", licence.into())
    }

    /// The scripts of a version.
    pub(crate) fn scripts(self, version: &str, scripts: &[(&str, &str)]) -> Self {
        self.declares(version, "scripts", texts(scripts))
    }

    /// A member of a version's own manifest, in the tarball and in the documents.
    pub(crate) fn declares(self, version: &str, member: &str, value: Value) -> Self {
        self.at(version, |release| release.tarball.manifest[member] = value)
    }

    /// A member of a version in the documents only, over what its tarball says.
    pub(crate) fn says(self, version: &str, member: &str, value: Value) -> Self {
        self.at(version, |release| _ = release.members.insert(member.into(), value))
    }

    /// A version that came with provenance.
    pub(crate) fn provenance(self, version: &str) -> Self {
        self.at(version, |release| release.has_provenance = true)
    }

    /// A version that a CI service published by its identity: `github`, `gitlab`.
    pub(crate) fn trusted_publisher(self, version: &str, service: &str) -> Self {
        let config = json!({ "id": service, "oidcConfigId": "oidc:00000000-0000-0000-0000-000000000000" });
        self.publisher(version, "trustedPublisher", config)
    }

    /// A version that somebody let through by hand after it was staged.
    pub(crate) fn approver(self, version: &str, name: &str) -> Self {
        self.publisher(version, "approver", json!({ "name": name, "email": format!("{name}@example.test") }))
    }

    /// A version that the registry signed, rightly or not. Each call adds a signature.
    pub(crate) fn signed(self, version: &str, key: &RegistryKey, signing: Signing) -> Self {
        self.at(version, |release| release.signatures.push((key.clone(), signing)))
    }

    /// Every version, rightly signed.
    pub(crate) fn all_signed(mut self, key: &RegistryKey) -> Self {
        for release in &mut self.releases {
            release.signatures.push((key.clone(), Signing::Right));
        }
        self
    }

    fn publisher(self, version: &str, member: &str, value: Value) -> Self {
        self.at(version, |release| {
            let user = release.members.entry("_npmUser");
            let user = user.or_insert_with(|| json!({ "name": "fixture", "email": "fixture@example.test" }));
            user[member] = value;
        })
    }

    fn at(mut self, version: &str, change: impl FnOnce(&mut Release)) -> Self {
        let release = self.releases.iter_mut().find(|release| release.version == version);
        change(release.unwrap_or_else(|| panic!("{} has no version {version} yet", self.name)));
        self
    }
}

impl Time {
    fn of(text: Option<&str>) -> Self {
        text.map_or(Self::Missing, |text| Self::Text(text.into()))
    }

    fn or(&self, usual: &str) -> Option<String> {
        match self {
            Self::Usual => Some(usual.to_owned()),
            Self::Text(text) => Some(text.clone()),
            Self::Missing => None,
        }
    }
}

/// An instant before now by the machine's clock, as a document writes it: for servers that are processes.
pub(crate) fn ago(time: Duration) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap();
    Timestamp::from_millis(Clock::default().now().as_millis() - millis).to_string()
}

fn texts(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

/// What the abbreviated form has of a version.
const ABBREVIATED: &[&str] = &[
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "directories",
    "dist",
    "engines",
    "funding",
    "cpu",
    "os",
    "_hasShrinkwrap",
    "hasInstallScript",
];

/// All that is served of a package.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) full: Bytes,
    pub(super) abbreviated: Bytes,
    /// As some registries other than the public one make it: with `time`.
    pub(super) abbreviated_with_times: Bytes,
    /// By file name.
    pub(super) tarballs: BTreeMap<String, Bytes>,
    /// By version.
    pub(super) attestations: BTreeMap<String, Bytes>,
}

impl Package {
    /// The documents, for a registry at this address.
    pub(super) fn render(&self, url: &str) -> Rendered {
        let name = &self.name;
        let basename = name.rsplit('/').next().unwrap();
        let (mut full, mut short) = (Map::new(), Map::new());
        let (mut tarballs, mut attestations) = (BTreeMap::new(), BTreeMap::new());
        for release in &self.releases {
            let (version, bytes) = (&release.version, release.tarball.bytes());
            let file = format!("{basename}-{version}.tgz");
            let manifest = release.render(name, &bytes, url, &file);
            short.insert(version.clone(), release.abbreviate(&manifest));
            full.insert(version.clone(), manifest);
            if release.has_provenance {
                let bundle = signing::provenance(name, version, &bytes);
                let list = json!({ "attestations": [{ "predicateType": signing::PREDICATE, "bundle": bundle }] });
                attestations.insert(version.clone(), json_bytes(&list));
            }
            tarballs.insert(file, bytes.into());
        }
        let times = self.times();
        let mut document = json!({
            "_id": name, "_rev": "1-0", "name": name, "description": format!("The fixture {name}"),
            "dist-tags": self.tags, "versions": full, "time": times,
            "maintainers": [{ "name": "fixture", "email": "fixture@example.test" }],
            "license": "MIT", "readme": format!("# {name}\n"), "readmeFilename": "README.md",
        });
        let full = json_bytes(&document);
        document = json!({ "name": name, "dist-tags": self.tags, "versions": short });
        if let Some(modified) = times.get("modified") {
            document["modified"] = modified.clone();
        }
        let abbreviated = json_bytes(&document);
        document["time"] = times.into();
        Rendered { full, abbreviated, abbreviated_with_times: json_bytes(&document), tarballs, attestations }
    }

    /// `time`: when the package was made and last changed, and each version published.
    fn times(&self) -> Map<String, Value> {
        let mut of_versions = BTreeMap::new();
        for (number, release) in self.releases.iter().enumerate() {
            let usual = format!("2020-01-{:02}T{:02}:00:00.000Z", 2 + (number / 24) % 27, number % 24);
            if let Some(time) = release.time.or(&usual) {
                of_versions.insert(release.version.clone(), time);
            }
        }
        let modified = newest(of_versions.values()).unwrap_or_else(|| FIRST_PUBLISHED.to_owned());
        of_versions.extend(self.gone.clone());
        let created = oldest(of_versions.values()).unwrap_or_else(|| FIRST_PUBLISHED.to_owned());
        let mut times = Map::from_iter([("created".to_owned(), json!(created))]);
        times.extend(self.modified.or(&modified).map(|modified| ("modified".to_owned(), json!(modified))));
        times.extend(of_versions.into_iter().map(|(version, time)| (version, json!(time))));
        times
    }
}

impl Release {
    /// The version in the full document.
    fn render(&self, name: &str, bytes: &[u8], url: &str, file: &str) -> Value {
        let (version, integrity) = (&self.version, tarballs::integrity(bytes));
        let mut manifest = self.tarball.manifest.clone();
        manifest["_id"] = json!(format!("{name}@{version}"));
        manifest["dist"] = json!({
            "integrity": integrity,
            "shasum": tarballs::shasum(bytes),
            "tarball": format!("{url}/{name}/-/{file}"),
            "fileCount": 2,
            "unpackedSize": bytes.len(),
        });
        if !self.signatures.is_empty() {
            let signatures = self.signatures.iter().map(|(key, signing)| key.sign(name, version, &integrity, *signing));
            manifest["dist"]["signatures"] = signatures.collect();
        }
        if self.has_provenance {
            manifest["dist"]["attestations"] = json!({
                "url": format!("{url}/-/npm/v1/attestations/{}@{version}", name.replacen('/', "%2f", 1)),
                "provenance": { "predicateType": signing::PREDICATE },
            });
        }
        manifest.as_object_mut().unwrap().extend(self.members.clone());
        manifest
    }

    /// The version in the abbreviated document.
    fn abbreviate(&self, manifest: &Value) -> Value {
        let mut short: Map<String, Value> = manifest.as_object().unwrap().clone();
        short.retain(|member, _| ABBREVIATED.contains(&member.as_str()));
        let is_scripted = INSTALL_SCRIPTS.iter().any(|script| manifest["scripts"][*script].is_string());
        if is_scripted || self.tarball.has_file("binding.gyp") {
            short.insert("hasInstallScript".into(), json!(true));
        }
        short.into()
    }
}

fn newest<'a>(times: impl Iterator<Item = &'a String>) -> Option<String> {
    instants(times).max().map(|(_, text)| text.clone())
}

fn oldest<'a>(times: impl Iterator<Item = &'a String>) -> Option<String> {
    instants(times).min().map(|(_, text)| text.clone())
}

/// Those that are times, and what they say.
fn instants<'a>(times: impl Iterator<Item = &'a String>) -> impl Iterator<Item = (jiff::Timestamp, &'a String)> {
    times.filter_map(|text| Some((text.parse().ok()?, text)))
}

fn json_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap().into()
}
