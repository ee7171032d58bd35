//! Package tarballs made in code, so that a test says what is in one and no binary file is in the repository.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// A tarball to be: a manifest and files.
#[derive(Debug, Clone)]
pub(crate) struct Tarball {
    pub(crate) manifest: Value,
    files: Vec<(String, Vec<u8>, u32)>,
    root: String,
}

impl Tarball {
    /// With a manifest of name and version, and an `index.js` that exports both.
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self {
            manifest: json!({ "name": name, "version": version, "main": "index.js", "license": "MIT" }),
            files: vec![("index.js".into(), format!("module.exports = '{name}@{version}'\n").into_bytes(), 0o644)],
            root: "package".into(),
        }
    }

    /// Sets a member of the manifest.
    pub(crate) fn set(mut self, member: &str, value: Value) -> Self {
        self.manifest[member] = value;
        self
    }

    /// Adds a file, with its path inside the package.
    pub(crate) fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), content.into(), 0o644));
        self
    }

    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.iter().any(|(file, ..)| file == path)
    }

    /// Adds a program, and its entry in the manifest.
    pub(crate) fn bin(mut self, command: &str, prints: &str) -> Self {
        let path = format!("bin/{command}.js");
        let script = format!("#!/usr/bin/env node\nconsole.log({})\n", json!(prints));
        self.files.push((path.clone(), script.into_bytes(), 0o755));
        self.manifest["bin"][command] = json!(path);
        self
    }

    /// The folder that everything is in. npm makes `package`; other tools make other ones, and all clients strip it.
    pub(crate) fn root(mut self, root: &str) -> Self {
        self.root = root.into();
        self
    }

    /// The bytes. Equal for equal content: no time, owner or order of this machine is in them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let manifest = serde_json::to_vec_pretty(&self.manifest).unwrap();
        let manifest = ("package.json".to_owned(), manifest, 0o644);
        for (path, content, mode) in std::iter::once(&manifest).chain(&self.files) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            // The moment that npm itself writes: 1985-10-26T08:15:00Z.
            header.set_mtime(499_162_500);
            archive.append_data(&mut header, format!("{}/{path}", self.root), content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }
}

/// Any bytes as gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `sha512-…`, as in `dist.integrity`. Not the server's own function, which it is to check.
pub(crate) fn integrity(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, bytes);
    format!("sha512-{}", STANDARD.encode(digest))
}

/// The SHA-1 in hexadecimal digits, as in `dist.shasum`.
pub(crate) fn shasum(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Base64, as in `_attachments`.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
