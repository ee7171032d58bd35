//! Lockfiles: which packages in which versions a project installs from a registry, told from the text alone.
//!
//! Each package manager has its own file, and most have had several forms of it. All of them become one list here, for
//! commands that ask of every package whether it may be installed. Hence the rule of the module: what cannot be told is
//! said, never left out. A part of a file that is no package of a registry is in [`Lockfile::skipped`], and a file
//! whose form is not known is an error, not a list that happens to be empty.
//!
//! Everything here is pure: it reads no file and asks no registry.

mod address;
mod bun;
mod json;
mod node;
mod npm;
mod pnpm;
mod yaml;
mod yarn_berry;
mod yarn_classic;

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::npm::{PackageName, Version};

pub use self::address::NOT_READ;
pub(crate) use self::node::Node;
pub(crate) use self::yaml::parse as parse_yaml;

/// A text that is longer, in bytes, is not read. Lockfiles of large companies have some 10 MiB.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// More packages than this, skipped ones included and the same one counted each time that it is there, are not read.
pub const MAX_ENTRIES: usize = 200_000;

/// Which package manager wrote a lockfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `package-lock.json` and `npm-shrinkwrap.json`, of lockfile version 1, 2 or 3.
    Npm,
    /// `pnpm-lock.yaml`, of lockfile version 5, 6 or 9.
    Pnpm,
    /// `yarn.lock` of yarn 1.
    YarnClassic,
    /// `yarn.lock` of yarn 2 and later.
    YarnBerry,
    /// `bun.lock`, the one in text.
    Bun,
}

/// One package that a lockfile installs from a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name in the registry, not the alias that the project calls it by.
    pub name: PackageName,
    /// The exact version.
    pub version: Version,
    /// The tarball's hashes as `sha512-…` in base64, with a space between several. None where the file has none;
    /// yarn 2 and later never have one, since their checksums are of archives that yarn makes itself.
    pub integrity: Option<String>,
}

/// A part of a lockfile that is no package of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The package as the lockfile writes it; at most 200 characters of it.
    pub what: String,
    /// Where it comes from instead, as a clause: "it comes from a git repository".
    pub why: &'static str,
}

/// What a lockfile installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    /// Who wrote it.
    pub kind: Kind,
    /// Sorted by name, then version; each pair is there once.
    pub entries: Vec<Entry>,
    /// Sorted; each is there once.
    pub skipped: Vec<Skipped>,
}

/// Why a text was not read as a lockfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockfileError {
    /// Neither the name nor the content is of a kind that is known.
    #[error(
        "this is no lockfile that can be read: give a package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock or bun.lock"
    )]
    UnknownKind,
    /// `bun.lockb`.
    #[error(
        "bun's binary lockfile cannot be read: run `bun install --save-text-lockfile` and give the bun.lock that it writes"
    )]
    BinaryBun,
    /// Two branches in one file.
    #[error("line {line} is a mark of a merge conflict: resolve the conflict, install again, and give the new file")]
    MergeConflict {
        /// From 1.
        line: usize,
    },
    /// Over [`MAX_TEXT_BYTES`].
    #[error("the file is larger than {} MiB, which no lockfile should be: check that it is the right file", MAX_TEXT_BYTES >> 20)]
    TooLarge,
    /// Over [`MAX_ENTRIES`], or as many values as only a far longer list would need.
    #[error("the file has more than {MAX_ENTRIES} packages: check that it is the right file")]
    TooManyEntries,
    /// The syntax is not what the kind has, or it is nested deeper than any lockfile.
    #[error("line {line} is not {format} as a lockfile has it ({problem}): install again to write the file anew")]
    Syntax {
        /// `JSON`, `YAML` or `the format of yarn 1`.
        format: &'static str,
        /// From 1.
        line: usize,
        /// In the words of the parser.
        problem: String,
    },
    /// The version of the format is missing or not known.
    #[error(
        "the file has {field} {found}, and only {known} can be read: install again with a version of {program} that writes one of these"
    )]
    FormatVersion {
        /// Where the version is written.
        field: &'static str,
        /// What is there, or `none`.
        found: String,
        /// The versions that are known.
        known: &'static str,
        /// The package manager.
        program: &'static str,
    },
    /// A part has another shape than it must have.
    #[error("`{part}` is not the object that it is in a lockfile: install again to write the file anew")]
    Shape {
        /// The key.
        part: &'static str,
    },
}

/// Reads a lockfile. Its kind is told by the name, which may have a path before it, else by the content.
///
/// # Errors
/// [`LockfileError`], each of which says what to do. No text makes it panic, and the time and memory that it takes
/// grow with the length of the text only.
pub fn parse(file_name: &str, text: &str) -> Result<Lockfile, LockfileError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(LockfileError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let kind = kind(file_name, text)?;
    if let Some(line) = conflict(text) {
        return Err(LockfileError::MergeConflict { line });
    }
    let mut found = Found::default();
    match kind {
        Kind::Npm => npm::read(&json::parse(text)?, &mut found)?,
        Kind::Pnpm => pnpm::read(&yaml::parse(text)?, &mut found)?,
        Kind::YarnClassic => yarn_classic::read(text, &mut found)?,
        Kind::YarnBerry => yarn_berry::read(&yaml::parse(text)?, &mut found)?,
        Kind::Bun => bun::read(&json::parse(&json::without_comments(text))?, &mut found)?,
    }
    Ok(found.into_lockfile(kind))
}

fn kind(file_name: &str, text: &str) -> Result<Kind, LockfileError> {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
    if name == "bun.lockb" || text.starts_with("#!/usr/bin/env bun") {
        return Err(LockfileError::BinaryBun);
    }
    match name {
        "package-lock.json" | "npm-shrinkwrap.json" => Ok(Kind::Npm),
        "pnpm-lock.yaml" => Ok(Kind::Pnpm),
        "bun.lock" => Ok(Kind::Bun),
        // Yarn itself tells the two forms apart by this line.
        "yarn.lock" if has_line(text, "__metadata:") => Ok(Kind::YarnBerry),
        "yarn.lock" => Ok(Kind::YarnClassic),
        _ => kind_of_content(text).ok_or(LockfileError::UnknownKind),
    }
}

fn kind_of_content(text: &str) -> Option<Kind> {
    if has_line(text, "__metadata:") {
        return Some(Kind::YarnBerry);
    }
    if has_line(text, "# yarn lockfile v1") {
        return Some(Kind::YarnClassic);
    }
    if has_line(text, "lockfileVersion:") {
        return Some(Kind::Pnpm);
    }
    if !text.trim_start().starts_with(['{', '/']) {
        return None;
    }
    let json = json::without_comments(text);
    let document = json::parse(&json).ok()?;
    // npm's lockfile has the folders of workspaces among its packages, and no such key.
    if document.get("lockfileVersion").is_none() {
        None
    } else if document.get("workspaces").is_some() {
        Some(Kind::Bun)
    } else {
        Some(Kind::Npm)
    }
}

fn has_line(text: &str, start: &str) -> bool {
    text.lines().any(|line| line.starts_with(start))
}

/// The first line, from 1, that git put there. No lockfile has such a line of its own: all of them indent what is long.
fn conflict(text: &str) -> Option<usize> {
    let is_mark = |line: &str| {
        ["<<<<<<<", "|||||||", ">>>>>>>"]
            .iter()
            .any(|mark| line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    };
    text.lines().position(is_mark).map(|index| index + 1)
}

/// What was found so far, in the file's order.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<Entry>,
    skipped: Vec<Skipped>,
}

impl Found {
    fn make_room(&self) -> Result<(), LockfileError> {
        if self.entries.len() + self.skipped.len() < MAX_ENTRIES { Ok(()) } else { Err(LockfileError::TooManyEntries) }
    }

    fn skip(&mut self, what: &str, why: &'static str) -> Result<(), LockfileError> {
        self.make_room()?;
        self.skipped.push(Skipped { what: what.chars().take(MAX_WHAT_CHARS).collect(), why });
        Ok(())
    }

    /// Adds a package of a registry. `address` is where the file says that its tarball is, if it does.
    ///
    /// The address decides: package managers fetch from it whatever the name beside it is, so an edited lockfile could
    /// call one package by the name of another.
    fn add(
        &mut self,
        what: &str,
        (name, version): (&str, &str),
        address: Option<&str>,
        integrity: Option<&str>,
    ) -> Result<(), LockfileError> {
        let address = address.filter(|address| !address.is_empty());
        // A dependency that the project names by the address of a tarball has the address in the version's place.
        let address = address.or(Some(version).filter(|version| address::is_web(version)));
        let package = match (name.parse(), version.parse(), address) {
            (Ok(name), Ok(version), None) => Some((name, version)),
            (Ok(name), Ok(version), Some(address)) if address::is_web(address) => {
                address::package_at(address, &name, &version)
            }
            (_, Err(_), Some(address)) if address::is_web(version) => {
                address::told_by(address).and_then(|(name, version)| Some((name, version?)))
            }
            _ => None,
        };
        let Some((name, version)) = package else {
            return self.skip(what, address::why_no_registry(address.unwrap_or(version)));
        };
        self.make_room()?;
        let integrity = integrity.filter(|integrity| !integrity.is_empty()).map(ToOwned::to_owned);
        self.entries.push(Entry { name, version, integrity });
        Ok(())
    }

    fn into_lockfile(self, kind: Kind) -> Lockfile {
        let Self { entries: mut all, mut skipped } = self;
        // Stable, so that of two hashes of one package the first in the file stays.
        all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.version.cmp(&b.version)));
        let mut entries: Vec<Entry> = Vec::with_capacity(all.len());
        for entry in all {
            match entries.last_mut().filter(|last| last.name == entry.name && last.version == entry.version) {
                None => entries.push(entry),
                Some(last) => {
                    if !merge(last, entry.integrity) {
                        let what = format!("{}@{}", last.name, last.version);
                        skipped.push(Skipped { what, why: SECOND_HASH });
                    }
                }
            }
        }
        skipped.sort();
        skipped.dedup();
        Lockfile { kind, entries, skipped }
    }
}

const MAX_WHAT_CHARS: usize = 200;
const SECOND_HASH: &str = "the file has it a second time, with another hash";

/// Takes over the better of two hashes. False where both are of one algorithm and differ.
fn merge(entry: &mut Entry, second: Option<String>) -> bool {
    let algorithm = |integrity: &Option<String>| {
        integrity.as_deref().map_or("", |text| text.split_once('-').map_or(text, |(algorithm, _)| algorithm)).to_owned()
    };
    let (first_algorithm, second_algorithm) = (algorithm(&entry.integrity), algorithm(&second));
    if first_algorithm == second_algorithm {
        return entry.integrity == second;
    }
    // The order of the letters is the order of strength: none, sha1, sha256, sha384, sha512.
    if second_algorithm > first_algorithm {
        entry.integrity = second;
    }
    true
}

/// `name@rest` apart, where a name may start with `@`. None where there is no second part.
fn split_at_sign(text: &str) -> Option<(&str, &str)> {
    let at = text.char_indices().skip(1).find(|(_, letter)| *letter == '@')?.0;
    Some((&text[..at], &text[at + 1..]))
}

/// The pairs of an object that may be missing.
fn object<'a, 'text>(
    parent: &'a Node<'text>,
    part: &'static str,
) -> Result<&'a [(std::borrow::Cow<'text, str>, Node<'text>)], LockfileError> {
    match parent.get(part) {
        None => Ok(&[]),
        Some(Node::Map(pairs)) => Ok(pairs),
        // YAML writes an empty object with nothing after the key.
        Some(Node::Text(text)) if text.is_empty() => Ok(&[]),
        Some(_) => Err(LockfileError::Shape { part }),
    }
}
