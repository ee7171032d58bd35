//! What may be found wrong with a store: one table.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody may miss something, or be told something wrong.
    Problem,
    /// It takes room, and does nothing else.
    Leftover,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// Where.
    pub key: String,
    /// Which part of it: a version, a tag, a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// It was mended.
    pub repaired: bool,
}

impl Finding {
    pub(super) fn new(code: Code, key: &crate::keys::Key) -> Self {
        Self { code, key: key.to_string(), part: None, repaired: false }
    }

    pub(super) fn part(self, part: impl Into<String>) -> Self {
        Self { part: Some(part.into()), ..self }
    }
}

/// Makes the codes: variant, severity, what it means, what to do.
macro_rules! codes {
    ($($code:ident $severity:ident $meaning:literal $remedy:literal)*) => {
        /// What may be found. In JSON the name in lower case, with underscores; it stays.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(#[doc = $meaning] $code,)*
        }

        impl Code {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$code => Severity::$severity,)*
                }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => $meaning,)*
                }
            }

            /// What repairs it.
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$code => $remedy,)*
                }
            }
        }
    };
}

codes! {
    DamagedDocument Problem
        "The document of a package cannot be read: nobody can install or change the package."
        "Bring `index.json` back from a backup or an older version of the object; nothing here writes over it."
    DocumentTooLarge Problem
        "The document of a package is larger than 64 MiB, and is not served."
        "Unpublish versions that nobody needs, or bring back an older document."
    IllegalName Problem
        "A document lies under a name that no package may have: nobody can ask for it."
        "Move it to a legal name, or remove it."
    NameDiffers Problem
        "The document says that it is of another package than its key."
        "Find out which is right; then mend the document, or move it."
    NoRevision Problem
        "The document has no revision, so caches cannot tell it from an older one."
        "Any change of the package, such as `npm dist-tag add`, writes a new one."
    DanglingTag Problem
        "A dist-tag names a version that is not there."
        "`--repair` removes the tag; `latest` moves to the highest version."
    NoLatest Problem
        "There are versions and no dist-tag `latest`."
        "`--repair` sets it to the highest version, stable before prerelease."
    NoTime Problem
        "The document does not say when the version was published."
        "It is served; rules about ages take it for new. Bring back an older document that has the time."
    DamagedVersion Problem
        "What the document has under the number is no version: not an object, with another number, or without a digest."
        "Bring back an older document, or unpublish the version."
    MissingTarball Problem
        "The tarball of a version is not there: installing it fails."
        "Bring the object back from a backup, or unpublish the version."
    WrongTarball Problem
        "The tarball of a version is not the one that was published: clients refuse it."
        "Bring the object back from a backup, or unpublish the version."
    MissingAttestations Problem
        "The document says that the version has provenance, and the bundle is not there."
        "Bring the object back from a backup."
    DamagedObject Problem
        "The object cannot be read as what it should be."
        "Bring it back from a backup; docs/storage-layout.md says what it is, and what happens without it."
    MisplacedAccount Problem
        "The account has another name than its key, so nobody can sign in to it."
        "Move the object back under the key of its name, or remove it."
    UnlistedToken Problem
        "A token works that its owner's list does not show, so they cannot revoke it."
        "`--repair` lists it."
    DamagedCache Problem
        "A cached object is not what was fetched: clients refuse it, or it is fetched anew."
        "`--repair` removes it; it is fetched anew."
    Unreadable Problem
        "The store does not give the object out."
        "Look at its rights, and at the disk."
    OrphanTarball Leftover
        "No document names the tarball: a publish was cut off or lost a race, or an unpublish was cut off."
        "`holdfast gc` removes it."
    OrphanAttestations Leftover
        "No document names the provenance bundle."
        "`holdfast gc` removes it."
    OlderDocument Leftover
        "An older system wrote the document, and nothing has changed it since. It is served."
        "`holdfast import codebox` takes it over; so does the first change."
    UnnamedOlderTarball Leftover
        "A tarball of an older system that no document names."
        "Remove it by hand when nobody wants it."
    EndedLogin Leftover
        "A sign-in, code or invitation that ended more than a day ago. A running server removes such every hour."
        "`--repair` and `holdfast gc` remove it."
    LeftUpload Leftover
        "An upload, or an answer handed over, that nobody fetched for more than a day."
        "`holdfast gc` removes it."
    LeftTrial Leftover
        "What was left of the trial whether the store keeps conditions of writes."
        "`holdfast gc` removes it."
    ForeignObject Leftover
        "Holdfast neither wrote the object nor reads it."
        "Move it elsewhere, or leave it; nothing here touches it."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_documentation_with_its_severity() {
        let page = include_str!("../../docs/maintenance.md");
        for code in Code::ALL {
            let name = serde_json::to_value(code).unwrap();
            let severity = serde_json::to_value(code.severity()).unwrap();
            let row = format!("| `{}` | {} |", name.as_str().unwrap(), severity.as_str().unwrap());
            assert!(page.contains(&row), "docs/maintenance.md has no row beginning with `{row}`");
        }
    }
}
