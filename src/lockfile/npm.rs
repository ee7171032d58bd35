//! npm's `package-lock.json`.
//!
//! Version 1 nests `dependencies` as the folders are nested. Version 3 has one flat object, `packages`, by folder;
//! version 2 has both, of which npm reads the second.

use super::address::{BUNDLED, FOLDER, LINK, NOT_READ};
use super::node::Node;
use super::{Found, LockfileError, object, split_at_sign};

pub(super) fn read(document: &Node<'_>, found: &mut Found) -> Result<(), LockfileError> {
    let version = document.text_of("lockfileVersion").unwrap_or("none");
    if !matches!(version, "1" | "2" | "3") {
        return Err(LockfileError::FormatVersion {
            field: "lockfileVersion",
            found: version.chars().take(20).collect(),
            known: "1, 2 and 3",
            program: "npm",
        });
    }
    if version == "1" || document.get("packages").is_none() {
        return nested(document, found);
    }
    for (folder, package) in object(document, "packages")? {
        // The project itself.
        if !folder.is_empty() {
            flat(folder, package, found)?;
        }
    }
    Ok(())
}

/// An entry of `packages`, by its folder: `node_modules/a/node_modules/@s/b`.
fn flat(folder: &str, package: &Node<'_>, found: &mut Found) -> Result<(), LockfileError> {
    let Some((_, in_folder)) = format!("/{folder}").rsplit_once("/node_modules/").map(|(a, b)| (a.len(), b.to_owned()))
    else {
        return found.skip(folder, FOLDER);
    };
    if package.is_true("link") {
        return found.skip(folder, LINK);
    }
    if package.is_true("inBundle") {
        return found.skip(folder, BUNDLED);
    }
    let Some(version) = package.text_of("version") else { return found.skip(folder, NOT_READ) };
    // The folder is called as the project calls the package; an alias has its real name in a field.
    let name = package.text_of("name").unwrap_or(&in_folder);
    found.add(folder, (name, version), package.text_of("resolved"), package.text_of("integrity"))
}

/// The `dependencies` of version 1, at any depth: the reader of JSON bounds it.
fn nested(parent: &Node<'_>, found: &mut Found) -> Result<(), LockfileError> {
    for (name, package) in object(parent, "dependencies")? {
        let version = package.text_of("version").unwrap_or_default();
        if package.is_true("bundled") {
            found.skip(name, BUNDLED)?;
        } else {
            let alias = version.strip_prefix("npm:").and_then(split_at_sign);
            let what = if alias.is_some() { format!("{name} ({version})") } else { name.to_string() };
            let real = alias.unwrap_or((name, version));
            found.add(&what, real, package.text_of("resolved"), package.text_of("integrity"))?;
        }
        nested(package, found)?;
    }
    Ok(())
}
