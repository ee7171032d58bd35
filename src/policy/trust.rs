//! How a version came to be published, in the order that pnpm's and deno's `no-downgrade` use.

use crate::npm::RawObject;

/// Weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// With a token or a password.
    None,
    /// With a provenance attestation.
    Provenance,
    /// By a workflow that the package trusts, with provenance.
    TrustedPublisher,
    /// Approved by a second person after it was staged.
    Approved,
}

impl Trust {
    /// From a version's object, full form.
    pub(super) fn of(version: &RawObject<'_>) -> Self {
        let dist = version.object("dist").unwrap_or_default();
        let has_provenance = dist.object("attestations").is_some_and(|found| found.get("provenance").is_some());
        let user = version.object("_npmUser").unwrap_or_default();
        if user.get("approver").is_some() {
            Self::Approved
        } else if has_provenance && user.get("trustedPublisher").is_some() {
            Self::TrustedPublisher
        } else if has_provenance {
            Self::Provenance
        } else {
            Self::None
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "no provenance",
            Self::Provenance => "provenance",
            Self::TrustedPublisher => "a trusted publisher",
            Self::Approved => "an approved stage",
        }
    }
}
