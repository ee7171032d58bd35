//! What can go wrong in a registry, in its own terms. `http/error.rs` says how each is told to the caller.

use crate::auth::{self, Action, Refusal};
use crate::hooks;
use crate::npm::dist_tag::DistTagError;
use crate::npm::name::NameError;
use crate::npm::packument::EditError;
use crate::npm::publish_body::BodyError;
use crate::npm::tarball::TarballError;
use crate::npm::{PackageName, Version};
use crate::policy::Withheld;
use crate::storage::{self, UpdateError};
use crate::upstream;

/// A change that waits for a person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whose word.
    pub user: String,
    /// What the word is about: a package's name, or the account's own name.
    pub subject: String,
    /// The change, for people.
    pub change: String,
    /// The account has an app that shows codes; without one, a page has to be opened.
    pub has_app: bool,
}

/// A version, or a whole package, that the policy withholds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The package.
    pub name: PackageName,
    /// The version; of a package that is withheld as a whole there is none.
    pub version: Option<String>,
    /// Why.
    pub withheld: Withheld,
}

/// A refusal or a failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has such a package, or the caller may not know of it.
    #[error("package {0} not found")]
    PackageNotFound(PackageName),
    /// The package is there, the version, tag or range is not.
    #[error("{name} has no version {wanted}")]
    VersionNotFound {
        /// The package.
        name: PackageName,
        /// As it was asked for.
        wanted: String,
    },
    /// The policy withholds it.
    #[error("{} is withheld: {}", .0.name, .0.withheld.reason)]
    Withheld(Box<Refused>),
    /// No such file in the package.
    #[error("{name} has no file {file}")]
    TarballNotFound {
        /// The package.
        name: PackageName,
        /// As it was asked for.
        file: String,
    },
    /// No provenance was published with the version.
    #[error("{name}@{version} has no attestations")]
    NoAttestations {
        /// The package.
        name: PackageName,
        /// Its version.
        version: String,
    },
    /// The name cannot be a (new) package's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The text cannot be a tag.
    #[error(transparent)]
    Tag(#[from] DistTagError),
    /// A wrong text where a version or a range belongs.
    #[error("`{0}` is not a version")]
    BadVersion(String),
    /// Signing in might help.
    #[error("sign in first")]
    SignInFirst,
    /// The caller may read, and no more.
    #[error("the caller may not {} {name}", .action.as_str())]
    NotAllowed {
        /// The package.
        name: PackageName,
        /// What was wanted.
        action: Action,
        /// Why not.
        refusal: Refusal,
    },
    /// A person has to confirm the change first.
    #[error("a one-time code is needed")]
    OneTimeCode(Challenge),
    /// A token with limits wants to manage tokens.
    #[error("a token with limits may not manage the account")]
    LimitedToken,
    /// The version was published before the request began.
    #[error("{name}@{version} exists")]
    VersionExists {
        /// The package.
        name: PackageName,
        /// Its version.
        version: Version,
    },
    /// Somebody else published the version while this request was under way.
    #[error("{name}@{version} was published by another request")]
    LostRace {
        /// The package.
        name: PackageName,
        /// Its version.
        version: Version,
    },
    /// The name is a public package's and not claimed here.
    #[error("{0} exists upstream")]
    NameTakenUpstream(PackageName),
    /// The name differs from one in use by case alone, which some file systems and most people do not see.
    #[error("{name} differs from {other} by case alone")]
    NameCollides {
        /// The new name.
        name: PackageName,
        /// The name in use.
        other: String,
    },
    /// The package is an upstream's; it cannot be changed here.
    #[error("{0} is hosted elsewhere")]
    NotHosted(PackageName),
    /// Tarballs come in the publish request here.
    #[error("uploads do not go to the bucket here")]
    NoUploadLinks,
    /// No such upload of the caller's for the package, or no tarball came by it.
    #[error("there is no such upload")]
    UploadNotFound,
    /// A publish or metadata document is not what it must be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The document and the tarball's `package.json` differ.
    #[error("the tarball's package.json has another `{field}`")]
    Disagreement {
        /// The member that differs.
        field: String,
    },
    /// The publish body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The tarball cannot be accepted.
    #[error(transparent)]
    Tarball(#[from] TarballError),
    /// A change that cannot be made.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// No such account.
    #[error("there is no user {0}")]
    UserNotFound(String),
    /// Signing in failed.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// The upstream failed, and nothing kept can stand in.
    #[error("the upstream registry failed")]
    Upstream(#[from] upstream::Error),
    /// The store failed.
    #[error("the storage failed")]
    Storage(#[from] storage::Error),
    /// A change was made, and that it was could not be written down yet.
    #[error("the change could not be recorded")]
    Unrecorded(#[source] storage::Error),
    /// Stored bytes are not what was written. They are left alone.
    #[error("a stored document is damaged")]
    Damaged,
    /// A stored document is too large to be read while others wait.
    #[error("the stored document of {0} is too large")]
    DocumentTooLarge(PackageName),
    /// Accounts have no hooks here.
    #[error("hooks are off")]
    HooksOff,
    /// A hook could not be set up, found or removed.
    #[error("a hook was refused")]
    Hook(#[from] hooks::Error),
    /// It is for administrators.
    #[error("the caller is no administrator")]
    AdministratorsOnly,
    /// The settings say that packages are not to be changed.
    #[error("the registry is read-only")]
    ReadOnly,
    /// A document changed between finding it and reading it: find it again.
    #[error("the document was replaced while it was read")]
    Superseded,
    /// The search index failed.
    #[error("the search index failed")]
    Search(#[from] crate::search::Error),
    /// Work was lost, by a shutdown or a mistake of ours.
    #[error("the work was interrupted")]
    Interrupted,
}

impl From<UpdateError<Error>> for Error {
    fn from(error: UpdateError<Error>) -> Self {
        match error {
            UpdateError::Refused(error) => error,
            UpdateError::Store(error) => error.into(),
        }
    }
}
