//! The document of a publish, as npm makes it.

use serde_json::{Map, Value, json};

use super::tarball::Inspection;
use super::{Digests, DistTag, PackageName, Version};

/// A version that is to be published.
#[derive(Debug)]
pub struct NewVersion<'a> {
    /// The package.
    pub name: &'a PackageName,
    /// The number.
    pub version: &'a Version,
    /// The tag that is to name it.
    pub tag: &'a DistTag,
    /// `public`, `restricted`, or what the registry makes of it.
    pub access: Option<&'a str>,
    /// What is in the tarball.
    pub inspection: &'a Inspection,
    /// Of the tarball.
    pub digests: &'a Digests,
    /// The registry's address, with a slash at its end: for `dist.tarball`, which registries set themselves.
    pub registry: &'a str,
    /// A provenance bundle, as its text.
    pub provenance: Option<&'a str>,
}

impl NewVersion<'_> {
    /// What the tarball is called in `_attachments`.
    pub fn attachment(&self) -> String {
        format!("{}-{}.tgz", self.name, self.version)
    }

    /// The document without `_attachments`.
    pub fn document(&self) -> Value {
        let Self { name, version, tag, access, inspection, digests, registry, .. } = self;
        let number = version.to_string();
        let mut manifest = inspection.manifest.clone();
        manifest.insert("version".to_owned(), number.clone().into());
        manifest.insert("_id".to_owned(), format!("{name}@{number}").into());
        if let Some(readme) = &inspection.readme {
            manifest.insert("readme".to_owned(), readme.text.clone().into());
            manifest.insert("readmeFilename".to_owned(), readme.file_name.clone().into());
        }
        let dist = json!({
            "integrity": digests.integrity(),
            "shasum": digests.shasum(),
            "tarball": format!("{registry}{name}/-/{}-{number}.tgz", name.basename()),
        });
        manifest.insert("dist".to_owned(), dist);
        json!({
            "_id": name.as_str(),
            "name": name.as_str(),
            "description": inspection.manifest.get("description"),
            "dist-tags": { tag.as_str(): number.clone() },
            "versions": { number: manifest },
            "access": access,
        })
    }

    /// `_attachments`: the provenance bundle, and last the tarball, without its data.
    pub fn attachments(&self) -> Map<String, Value> {
        let mut attachments = Map::new();
        if let Some(bundle) = self.provenance {
            let kind = serde_json::from_str::<Value>(bundle).ok();
            let kind = kind.and_then(|bundle| bundle.get("mediaType")?.as_str().map(ToOwned::to_owned));
            let attachment = json!({ "content_type": kind, "data": bundle, "length": bundle.len() });
            attachments.insert(format!("{}-{}.sigstore", self.name, self.version), attachment);
        }
        let tarball = json!({ "content_type": "application/octet-stream", "length": self.digests.size_bytes });
        attachments.insert(self.attachment(), tarball);
        attachments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npm::integrity::Hasher;

    #[test]
    fn a_document_names_the_version_in_all_its_places() {
        let manifest = json!({ "name": "@acme/tool", "version": "v1.0.0", "description": "A tool" });
        let inspection = Inspection {
            file_count: 1,
            unpacked_bytes: 10,
            manifest: manifest.as_object().unwrap().clone(),
            has_binding_gyp: false,
            has_shrinkwrap: false,
            readme: None,
        };
        let mut hasher = Hasher::default();
        hasher.update(b"bytes");
        let new = NewVersion {
            name: &"@acme/tool".parse().unwrap(),
            version: &"1.0.0".parse().unwrap(),
            tag: &"next".parse().unwrap(),
            access: None,
            inspection: &inspection,
            digests: &hasher.finish(),
            registry: "https://npm.example/",
            provenance: Some(r#"{"mediaType":"application/x"}"#),
        };
        let document = new.document();
        assert_eq!(document["dist-tags"], json!({ "next": "1.0.0" }));
        assert_eq!(document["description"], "A tool");
        let version = &document["versions"]["1.0.0"];
        assert_eq!((&version["version"], &version["_id"]), (&json!("1.0.0"), &json!("@acme/tool@1.0.0")));
        assert_eq!(version["dist"]["tarball"], "https://npm.example/@acme/tool/-/tool-1.0.0.tgz");
        let attachments = new.attachments();
        assert_eq!(attachments["@acme/tool-1.0.0.sigstore"]["content_type"], "application/x");
        // Last, so that data can follow it.
        let (key, tarball) = attachments.iter().next_back().unwrap();
        assert_eq!((key.as_str(), &tarball["length"]), ("@acme/tool-1.0.0.tgz", &json!(5)));
    }
}
