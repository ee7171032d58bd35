//! pnpm's `pnpm-lock.yaml`.
//!
//! Since pnpm 11 the file may have two documents: the packages that pnpm needs for itself before it reads the
//! project (`configDependencies`, and pnpm in the pinned version), then those of the project. Both are installed from
//! the registry, so both are read; pnpm's documentation asks the same of whoever looks for what a project installs.

use super::address::{FOLDER, GIT, why_no_registry};
use super::node::Node;
use super::{Found, LockfileError, object, split_at_sign};

pub(super) fn read(documents: &[Node<'_>], found: &mut Found) -> Result<(), LockfileError> {
    if documents.is_empty() {
        return Err(unknown_version("none"));
    }
    for document in documents {
        let version = document.text_of("lockfileVersion").unwrap_or("none");
        let major = version.split('.').next().unwrap_or_default();
        if !matches!(major, "5" | "6" | "9") {
            return Err(unknown_version(version));
        }
        for (key, package) in object(document, "packages")? {
            read_package(key, major == "5", package, found)?;
        }
    }
    Ok(())
}

fn unknown_version(found: &str) -> LockfileError {
    LockfileError::FormatVersion {
        field: "lockfileVersion",
        found: found.chars().take(20).collect(),
        known: "5, 6 and 9",
        program: "pnpm",
    }
}

fn read_package(key: &str, slashes: bool, package: &Node<'_>, found: &mut Found) -> Result<(), LockfileError> {
    let resolution = package.get("resolution");
    let text_of = |field| resolution.and_then(|resolution| resolution.text_of(field));
    match text_of("type") {
        Some("git") => return found.skip(key, GIT),
        Some("directory") => return found.skip(key, FOLDER),
        _ => {}
    }
    match if slashes { by_slashes(key) } else { by_sign(key) } {
        Some(package) => found.add(key, package, text_of("tarball"), text_of("integrity")),
        None => found.skip(key, why_no_registry(text_of("tarball").unwrap_or(key))),
    }
}

/// `name@1.0.0(react@18.0.0)`, with a slash before it in version 6, which may also have a registry's host before that.
fn by_sign(key: &str) -> Option<(&str, &str)> {
    let key = match key.split_once('/') {
        Some(("", rest)) => rest,
        Some((host, rest)) if is_host(host) => rest,
        _ => key,
    };
    let (name, version) = split_at_sign(key)?;
    Some((name, version.split('(').next().unwrap_or(version)))
}

/// `/name/1.0.0`, `/@s/name/1.0.0_react@17.0.2` and the same after a registry's host.
fn by_slashes(key: &str) -> Option<(&str, &str)> {
    let (host, rest) = key.split_once('/')?;
    if !host.is_empty() && !is_host(host) {
        return None;
    }
    let scope = if rest.starts_with('@') { rest.find('/')? + 1 } else { 0 };
    let end = scope + rest.get(scope..)?.find('/')?;
    let version = rest[end + 1..].split(['_', '(', '/']).next().unwrap_or_default();
    Some((&rest[..end], version))
}

/// pnpm writes the colon before a port as a plus sign.
fn is_host(text: &str) -> bool {
    text.contains(['.', '+']) && !text.contains(['@', '(', ':']) && !text.starts_with('.')
}
