//! The storage of a Verdaccio, made by hand to the letter that Verdaccio 6 writes, so that what is wrong with one can be
//! made too. `real_servers::Verdaccio` is the program itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::tarballs::{Tarball, integrity, shasum};

/// Where the addresses in the documents lead to.
const HOST: &str = "http://old.example.test:4873";

/// A storage to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storage {
    files: BTreeMap<String, Vec<u8>>,
    documents: BTreeMap<String, Value>,
    list: Vec<String>,
}

impl Storage {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// As a client's publish leaves it.
    pub(crate) fn publish(self, tarball: &Tarball, tag: &str, time: &str) -> Self {
        let name = tarball.manifest["name"].as_str().unwrap().to_owned();
        let mut storage = self.add(tarball, tag, time, true);
        if !storage.list.contains(&name) {
            storage.list.push(name);
        }
        storage
    }

    /// As an install through an uplink leaves it.
    pub(crate) fn copy(self, tarball: &Tarball, time: &str) -> Self {
        self.add(tarball, "latest", time, false)
    }

    fn add(mut self, tarball: &Tarball, tag: &str, time: &str, is_published: bool) -> Self {
        let (name, version) = (text(&tarball.manifest, "name"), text(&tarball.manifest, "version"));
        let file = format!("{}-{version}.tgz", name.rsplit('/').next().unwrap());
        let bytes = tarball.bytes();
        let document = self.documents.entry(name.clone()).or_insert_with(|| {
            json!({
                "name": name, "versions": {}, "time": { "created": time }, "users": {}, "dist-tags": {}, "_uplinks": {},
                "_distfiles": {}, "_attachments": {}, "_rev": "3-ad3a3e3f1b9d1a77", "_id": name, "readme": "",
            })
        });
        let mut manifest = tarball.manifest.clone();
        manifest["_id"] = json!(format!("{name}@{version}"));
        manifest["contributors"] = json!([]);
        manifest["dist"] = json!({
            "integrity": integrity(&bytes), "shasum": shasum(&bytes), "tarball": format!("{HOST}/{name}/-/{name}-{version}.tgz"),
        });
        document["versions"][&version] = manifest;
        document["time"][&version] = json!(time);
        document["time"]["modified"] = json!(time);
        document["dist-tags"][tag] = json!(version);
        document["readme"] = json!(format!("# {name} {version}"));
        document["_attachments"][&file] = json!({ "shasum": shasum(&bytes) });
        if is_published {
            document["_attachments"][&file]["version"] = json!(version);
        } else {
            document["_distfiles"][&file] =
                json!({ "url": format!("https://up/{file}"), "sha": shasum(&bytes), "registry": "npmjs" });
        }
        self.files.insert(format!("{name}/{file}"), bytes);
        self
    }

    /// Any change of a document.
    pub(crate) fn change(mut self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        change(self.documents.get_mut(name).unwrap());
        self
    }

    /// A file in the storage, in the place of what was there.
    pub(crate) fn with_file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    pub(crate) fn without_file(mut self, path: &str) -> Self {
        self.files.remove(path).unwrap();
        self
    }

    /// A name in the list of what was published, whatever the folders have.
    pub(crate) fn listing(mut self, name: &str) -> Self {
        self.list.push(name.to_owned());
        self
    }

    pub(crate) fn document(&self, name: &str) -> &Value {
        &self.documents[name]
    }

    pub(crate) fn write_to(&self, folder: &Path) {
        let list = json!({ "list": self.list, "secret": "0123456789abcdef0123456789abcdef" });
        let documents = self
            .documents
            .iter()
            .map(|(name, document)| (format!("{name}/package.json"), serde_json::to_vec_pretty(document).unwrap()));
        let mut files: BTreeMap<String, Vec<u8>> = documents.collect();
        files.insert(".verdaccio-db.json".to_owned(), list.to_string().into_bytes());
        files.extend(self.files.clone());
        for (path, content) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

fn text(manifest: &Value, member: &str) -> String {
    manifest[member].as_str().unwrap().to_owned()
}
