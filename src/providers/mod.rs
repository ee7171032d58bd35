//! GitHub and OIDC issuers, as asked over HTTP: it keeps nothing beyond key sets and decides nothing.
//!
//! [`GitHub`] says whose a token is, what its owner belongs to, and carries the ways of signing in. [`KeySets`] says
//! whether an identity token of a CI system is genuine. What follows from an answer is the caller's to decide, and so is
//! how long to remember it, and whether to ask again.
//!
//! Invariants: a token leaves only for the server that it is for, in a header or a body (the path form of old Enterprise
//! servers excepted); no redirect is followed; no answer is read beyond its limit; nothing waits without a time limit;
//! and no error holds a credential, an address or a text of the other side.

mod client;
mod error;
mod github;
mod oidc;
mod settings;
#[cfg(test)]
mod tests;

pub use self::error::{BuildError, Error};
pub use self::github::{Device, DevicePoll, GitHub, Member, Profile, Role, Team};
pub use self::oidc::{Issuer, KeySets, VerifyError};
pub use self::settings::Settings;
