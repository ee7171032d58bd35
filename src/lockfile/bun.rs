//! bun's `bun.lock`: `"packages": { "folder": ["name@1.0.0", "address", { … }, "sha512-…"] }`.
//!
//! The address is empty for the registry that bun has without settings. What does not come from a registry has no
//! address: `["name@file:folder", { … }]`.

use super::address::NOT_READ;
use super::node::Node;
use super::{Found, LockfileError, object, split_at_sign};

pub(super) fn read(document: &Node<'_>, found: &mut Found) -> Result<(), LockfileError> {
    let version = document.text_of("lockfileVersion").unwrap_or("none");
    if !matches!(version, "0" | "1" | "2") {
        return Err(LockfileError::FormatVersion {
            field: "lockfileVersion",
            found: version.chars().take(20).collect(),
            known: "0, 1 and 2",
            program: "bun",
        });
    }
    for (folder, package) in object(document, "packages")? {
        let Node::List(parts) = package else { return Err(LockfileError::Shape { part: "packages" }) };
        let Some((name, version)) = parts.first().and_then(Node::text).and_then(split_at_sign) else {
            found.skip(folder, NOT_READ)?;
            continue;
        };
        let integrity = parts.iter().skip(2).find_map(Node::text);
        let address = parts.get(1).and_then(Node::text);
        found.add(&format!("{folder} ({name}@{version})"), (name, version), address, integrity)?;
    }
    Ok(())
}
