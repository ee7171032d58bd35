//! May this caller do that? The only place that decides, and a pure one.

use super::caller::Caller;

/// What somebody wants to do with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See its document and fetch its tarballs.
    Read,
    /// Add a version, move a tag, deprecate.
    Publish,
    /// Remove versions or the package.
    Unpublish,
    /// Change who owns it.
    Own,
    /// Add or take one's own star.
    Star,
}

/// The answer to a request for permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// Signing in might help.
    SignInFirst,
    /// This caller may not.
    NotAnOwner,
}

/// The rules, from the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether reading needs no account.
    pub anonymous_read: bool,
    /// Whether only the owners of a package may change it, as on the public registry. Otherwise every account may.
    pub owners_only: bool,
}

impl Policy {
    /// Decides. `owners` are the package's, empty for a package that is not there yet (or that an older system left
    /// without any): everyone with an account may then take it on.
    pub fn authorize(self, caller: &Caller, action: Action, owners: &[String]) -> Decision {
        let Some(user) = caller.user() else {
            let may_read = action == Action::Read && self.anonymous_read;
            return if may_read { Decision::Allowed } else { Decision::SignInFirst };
        };
        match action {
            Action::Read | Action::Star => Decision::Allowed,
            Action::Publish | Action::Unpublish | Action::Own => {
                if !self.owners_only || owners.is_empty() || owners.contains(&user.name) {
                    Decision::Allowed
                } else {
                    Decision::NotAnOwner
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::caller::User;
    use super::*;

    #[test]
    fn the_whole_table() {
        use Action::{Own, Publish, Read, Star, Unpublish};
        let ann = Caller::User(User { name: "ann".to_owned(), email: String::new() });
        let owners = ["ann".to_owned()];
        let others = ["bob".to_owned()];
        let open = Policy { anonymous_read: true, owners_only: true };
        let closed = Policy { anonymous_read: false, owners_only: false };
        assert_eq!(open.authorize(&Caller::Anonymous, Read, &owners), Decision::Allowed);
        assert_eq!(closed.authorize(&Caller::Anonymous, Read, &owners), Decision::SignInFirst);
        for action in [Publish, Unpublish, Own, Star] {
            assert_eq!(open.authorize(&Caller::Anonymous, action, &[]), Decision::SignInFirst);
            assert_eq!(open.authorize(&ann, action, &owners), Decision::Allowed);
            assert_eq!(open.authorize(&ann, action, &[]), Decision::Allowed);
            assert_eq!(closed.authorize(&ann, action, &others), Decision::Allowed);
        }
        for action in [Publish, Unpublish, Own] {
            assert_eq!(open.authorize(&ann, action, &others), Decision::NotAnOwner);
        }
        assert_eq!(open.authorize(&ann, Read, &others), Decision::Allowed);
    }
}
