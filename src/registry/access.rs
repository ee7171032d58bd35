//! Who may do what, as `npm access`, `npm team` and `npm org` ask for it: what the rules and GitHub say.

use std::collections::BTreeMap;

use super::{Error, Registry};
use crate::auth::{Action, Caller, Principal, Rule};
use crate::npm::PackageName;

/// Names with a right each: `read` or `write`.
pub type Listing = BTreeMap<String, &'static str>;

impl Registry {
    /// Who may read and change a hosted package: its owners, and those whom the rules name.
    pub async fn collaborators(&self, caller: &Caller, name: &PackageName) -> Result<Listing, Error> {
        let owners = self.owners(caller, name).await?;
        let mut listing = Listing::new();
        for (action, right) in [(Action::Read, "read"), (Action::Publish, "write")] {
            let listed = self.terms.access.listed(action, name).into_iter();
            // Everybody is nobody in particular.
            let named = listed.filter(|principal| !matches!(principal, Principal::Anyone | Principal::Account));
            listing.extend(named.map(|principal| (shown(principal), right)));
        }
        let rights_follow_owners = self.terms.access.listed(Action::Publish, name).is_empty();
        if rights_follow_owners {
            listing.extend(owners.into_iter().map(|owner| (owner.name, "write")));
        }
        Ok(listing)
    }

    /// The packages that the rules let somebody read or change, as the rules name them. Rules about packages that the
    /// caller may not know of are left out.
    pub fn packages_of(&self, caller: &Caller, whom: &[Principal]) -> Result<Listing, Error> {
        self.authorize_reading(caller)?;
        let names = |rule: &Rule, action| {
            rule.principals(action).is_some_and(|listed| listed.iter().any(|principal| whom.contains(principal)))
        };
        let rules = self.terms.access.rules().iter();
        let known = rules.filter(|rule| self.terms.access.may_read_rule(caller, &rule.pattern));
        let rights = known.filter_map(|rule| {
            let right = match (names(rule, Action::Publish), names(rule, Action::Read)) {
                (true, _) => "write",
                (false, true) => "read",
                (false, false) => return None,
            };
            Some((rule.pattern.to_string(), right))
        });
        Ok(rights.collect())
    }
}

/// A person by name, a group as the settings write it: so npm shows names where it expects them.
fn shown(principal: &Principal) -> String {
    match principal {
        Principal::User(name) | Principal::GitHubUser(name) => name.clone(),
        other => other.to_string(),
    }
}
