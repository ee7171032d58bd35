//! `yarn.lock` of yarn 2 and later: YAML, by the specifiers that lead to a package.

use percent_encoding::percent_decode_str;

use super::address::{LINK, NOT_READ, why_no_registry};
use super::node::Node;
use super::{Found, LockfileError, split_at_sign};

/// A patch of a patch, and so on, is read this deep.
const MAX_PATCHES: usize = 8;

pub(super) fn read(documents: &[Node<'_>], found: &mut Found) -> Result<(), LockfileError> {
    let [document @ Node::Map(pairs)] = documents else {
        return Err(LockfileError::Shape { part: "__metadata" });
    };
    // What changed between the versions of the format so far is told apart below.
    if document.get("__metadata").and_then(|metadata| metadata.text_of("version")).is_none() {
        return Err(LockfileError::FormatVersion {
            field: "__metadata.version",
            found: "none".to_owned(),
            known: "files with a version",
            program: "yarn",
        });
    }
    for (specifiers, package) in pairs.iter().filter(|(key, _)| key != "__metadata") {
        let Some(resolution) = package.text_of("resolution") else {
            found.skip(specifiers, NOT_READ)?;
            continue;
        };
        read_resolution(resolution, resolution.to_owned(), package, found)?;
    }
    Ok(())
}

/// `name@npm:1.0.0`, or the same within patches: `name@patch:name@npm%3A1.0.0#~/.yarn/patches/…`.
fn read_resolution(
    what: &str,
    mut resolution: String,
    package: &Node<'_>,
    found: &mut Found,
) -> Result<(), LockfileError> {
    for _ in 0..=MAX_PATCHES {
        let Some((name, source)) = split_at_sign(&resolution) else { break };
        if let Some(patched) = source.strip_prefix("patch:") {
            let inner = patched.split('#').next().unwrap_or(patched);
            resolution = percent_decode_str(inner).decode_utf8_lossy().into_owned();
            continue;
        }
        // Within a patch, yarn 2 leaves the protocol out.
        let version = source.strip_prefix("npm:").unwrap_or(source);
        let (version, parameters) = version.split_once("::").unwrap_or((version, ""));
        if package.text_of("linkType") == Some("soft") {
            let why = why_no_registry(source);
            return found.skip(what, if why == NOT_READ { LINK } else { why });
        }
        let archive = parameters.split('&').find_map(|parameter| parameter.strip_prefix("__archiveUrl="));
        let archive = archive.map(|address| percent_decode_str(address).decode_utf8_lossy().into_owned());
        // The checksum is of yarn's own archive, not of the tarball.
        return found.add(what, (name, version), archive.as_deref(), None);
    }
    found.skip(what, NOT_READ)
}
