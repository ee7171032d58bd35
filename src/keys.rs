//! Every object key there is. The only place that makes one.
//!
//! The store mirrors the URL space: what npm reserves (`-/…`) is ours, everything else is a package name. A package name
//! cannot start with `-`, so nothing can collide. `docs/storage-layout.md` says who writes each and when it may go.

use std::fmt;

use crate::npm::{Form, PackageName, Version};

/// Where an object lies: a relative path of safe parts, joined by `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The key as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key that a store found while listing. `None` for a path that no key of ours could have, such as one with an
    /// empty part or `..`.
    pub(crate) fn listed(path: &str) -> Option<Self> {
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        path.split('/').all(safe).then(|| Self(path.to_owned()))
    }

    /// For a hosted packument's key, the package's name.
    pub fn packument_name(&self) -> Option<PackageName> {
        self.0.strip_suffix("/index.json")?.parse().ok()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The hosted packument, standard npm JSON: the source of truth for a hosted package, and the commit point of every
/// change to it.
pub fn packument(name: &PackageName) -> Key {
    Key(format!("{name}/index.json"))
}

/// A hosted tarball. The digest in the key keeps two publishers of one version from touching each other's bytes.
pub fn tarball(name: &PackageName, version: &Version, digest: &str) -> Key {
    Key(format!("-/tarballs/{name}/{version}-{digest}.tgz"))
}

/// A tarball that an older system (codebox) left; read, never written.
pub fn legacy_tarball(name: &PackageName, version: &Version) -> Key {
    Key(format!("{name}/{version}.tgz"))
}

/// The provenance bundle that was published with a version.
pub fn attestations(name: &PackageName, version: &Version, digest: &str) -> Key {
    Key(format!("-/attestations/{name}/{version}-{digest}.json"))
}

/// An upstream's packument as it was received. May be deleted at any time.
pub fn cached_packument(upstream: &str, name: &PackageName, form: Form) -> Key {
    let form = match form {
        Form::Full => "full",
        Form::Abbreviated => "abbreviated",
    };
    Key(format!("-/cache/{upstream}/{name}/{form}.json"))
}

/// A mark that an upstream had no such package when it was last asked. May be deleted at any time.
pub fn cached_absence(upstream: &str, name: &PackageName) -> Key {
    Key(format!("-/cache/{upstream}/{name}/absent.json"))
}

/// An upstream's tarball, verified before it was kept. May be deleted at any time.
pub fn cached_tarball(upstream: &str, name: &PackageName, version: &Version) -> Key {
    Key(format!("-/cache/{upstream}/{name}/{version}.tgz"))
}

/// A local account, by its name in hex: user names may hold characters that paths may not.
pub fn user(name: &str) -> Key {
    Key(format!("-/users/{}.json", crate::npm::integrity::hex(name.as_bytes())))
}

/// A token's record, by the SHA-256 of the token.
pub fn token(hash: &str) -> Key {
    Key(format!("-/tokens/{hash}.json"))
}

/// What each user has starred.
pub fn stars(user: &str) -> Key {
    Key(format!("-/stars/{}.json", crate::npm::integrity::hex(user.as_bytes())))
}

/// There while changes may be missing from the search index; gone after an orderly stop.
pub fn index_running() -> Key {
    Key("-/catalog/running".to_owned())
}
