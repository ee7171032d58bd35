//! Who is asking.

use crate::npm::packument::Maintainer;

/// Whoever sent a request, after authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// No credentials were sent.
    Anonymous,
    /// An account of this registry.
    User(User),
}

/// An account, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The account's name.
    pub name: String,
    /// May be empty.
    pub email: String,
}

impl Caller {
    /// The account, if there is one.
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(user),
        }
    }

    /// For logs: the account's name, or `-`.
    pub fn id(&self) -> &str {
        self.user().map_or("-", |user| &user.name)
    }
}

impl User {
    /// The account as owner of a package.
    pub fn as_maintainer(&self) -> Maintainer {
        Maintainer { name: self.name.clone(), email: self.email.clone() }
    }
}
