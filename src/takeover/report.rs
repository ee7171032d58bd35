//! What a takeover found and did, for people and for scripts.

use serde::Serialize;

/// The whole takeover.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Nothing was written: the rest says what would be.
    pub dry_run: bool,
    /// Names of packages whose document was written anew.
    pub upgraded: Vec<String>,
    /// How many packages needed nothing.
    pub already: usize,
    /// Documents that are copies of another registry's.
    pub copies: Vec<CopyLine>,
    /// Versions that have no tarball anywhere.
    pub missing_tarballs: Vec<VersionLine>,
    /// Versions whose tarball is not what the document says.
    pub wrong_tarballs: Vec<VersionLine>,
    /// Versions whose tarball only the document had, or had right; it has a key of its own now.
    pub saved_tarballs: Vec<VersionLine>,
    /// Documents that cannot be taken over, and were left alone.
    pub unreadable: Vec<Unreadable>,
    /// Keys of objects that belong to no package, and were left alone.
    pub foreign: Vec<String>,
}

/// A document that is a copy of another registry's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyLine {
    /// The package.
    pub name: String,
    /// It was set aside, and the name is the upstream's again.
    pub dropped: bool,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionLine {
    /// The package.
    pub name: String,
    /// Its number as the document spells it.
    pub version: String,
}

/// A document that was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Where it is.
    pub key: String,
    /// What is the matter with it.
    pub why: &'static str,
}

impl Report {
    /// True when something needs a person.
    pub fn has_problems(&self) -> bool {
        !(self.missing_tarballs.is_empty() && self.wrong_tarballs.is_empty() && self.unreadable.is_empty())
    }
}
