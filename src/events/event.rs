//! What an event is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::asked::{Asked, asked};
use crate::npm::{PackageName, Timestamp};
use crate::random;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// What happened. Its word is `area.verb` and stays what it is once events have been written with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
            /// A kind that a newer version has written.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Kind {
            /// All kinds, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

kinds! {
    /// A version was published.
    Publish = "package.publish",
    /// A tag was set.
    Tag = "package.tag",
    /// A tag was removed.
    Untag = "package.untag",
    /// A version was deprecated, or is so no more.
    Deprecate = "package.deprecate",
    /// Versions were removed, or the whole package.
    Unpublish = "package.unpublish",
    /// The owners are others.
    Owners = "package.owners",
    /// Somebody starred a package, or took the star back.
    Star = "package.star",
    /// Nothing happened: it is what there is of a package, told to a sink that is to know all (`holdfast index`).
    Index = "package.index",
    /// A change of a package was refused: no right, the number taken, a wrong tarball.
    Refused = "package.refused",
    /// A workflow is trusted with a package.
    Trust = "trust.add",
    /// It is so no more.
    Distrust = "trust.remove",
    /// Somebody signed in.
    SignIn = "sign-in",
    /// Somebody was not let in.
    SignInRefused = "sign-in.refused",
    /// A token was made.
    TokenCreate = "token.create",
    /// A token was revoked.
    TokenRevoke = "token.revoke",
    /// An account wants to be told of packages by a hook (`npm hook add`).
    HookAdd = "hook.add",
    /// A hook was pointed to another address.
    HookUpdate = "hook.update",
    /// A hook was removed.
    HookRemove = "hook.remove",
    /// An account was made.
    UserCreate = "user.create",
    /// An account, its password or its second factor was changed.
    UserChange = "user.change",
    /// An account was removed.
    UserRemove = "user.remove",
    /// Somebody was invited to make an account.
    UserInvite = "user.invite",
    /// A version was asked for and withheld.
    Withheld = "policy.withheld",
    /// A version was let through in spite of the policy.
    Waive = "policy.waive",
    /// That was taken back.
    Unwaive = "policy.unwaive",
    /// An upstream's tarball was not what its document says.
    Mismatch = "upstream.mismatch",
    /// The settings in force are others.
    Settings = "settings.change",
    /// An operator ran a command that changes something.
    Command = "admin.command",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What sort of somebody it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhoKind {
    /// No credentials were shown.
    #[default]
    Anonymous,
    /// An account.
    User,
    /// A CI job.
    Workflow,
    /// Whoever may write into the store, by a command.
    Operator,
    /// The server by itself.
    Server,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Who {
    /// What sort of somebody.
    pub kind: WhoKind,
    /// The name that `npm whoami` shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The public name of the token that was shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the identity token of a CI job said.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
}

impl Who {
    /// The server by itself.
    pub fn server() -> Self {
        Self { kind: WhoKind::Server, ..Self::default() }
    }

    /// An account.
    pub fn user(name: impl Into<String>) -> Self {
        Self { kind: WhoKind::User, name: Some(name.into()), ..Self::default() }
    }

    /// The same somebody, with the public name of a token of theirs.
    #[must_use]
    pub fn by_token(self, key: impl Into<String>) -> Self {
        Self { token: Some(key.into()), ..self }
    }

    /// An operator; by name where one was given.
    pub fn operator(name: Option<String>) -> Self {
        Self { kind: WhoKind::Operator, name, ..Self::default() }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It was done.
    Allowed,
    /// It was not.
    Refused,
}

/// Something that happened. One line of JSON in the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Names it for ever: whoever gets an event twice can tell by it.
    pub id: String,
    /// When, as `2026-11-30T04:05:06.789Z`.
    pub at: String,
    /// What.
    pub kind: Kind,
    /// By whom.
    pub who: Who,
    /// Over which request; `None` for a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Arc<Asked>>,
    /// Of which package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Of which version of it, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// The rule that decided, or the stable code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What else there is to tell, by kind.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Event {
    /// Something that was done, now, over the request that is being answered.
    pub fn new(kind: Kind, who: Who, now: Timestamp) -> Self {
        Self {
            id: random::id(),
            at: now.to_string(),
            kind,
            who,
            request: asked().map(Arc::new),
            package: None,
            version: None,
            decision: Decision::Allowed,
            rule: None,
            details: Map::new(),
        }
    }

    /// With a package.
    #[must_use]
    pub fn of(mut self, package: &PackageName) -> Self {
        self.package = Some(package.to_string());
        self
    }

    /// With a version.
    #[must_use]
    pub fn version(mut self, number: impl fmt::Display) -> Self {
        self.version = Some(number.to_string());
        self
    }

    /// It was refused, by this rule.
    #[must_use]
    pub fn refused(mut self, rule: impl Into<String>) -> Self {
        self.decision = Decision::Refused;
        self.rule = Some(rule.into());
        self
    }

    /// With something else to tell. What cannot be JSON is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.details.insert(name.to_owned(), value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_and_so_does_one_of_a_newer_version() {
        let name: PackageName = "@acme/tool".parse().unwrap();
        let event = Event::new(Kind::Publish, Who::operator(Some("ann".to_owned())), Timestamp::from_millis(0))
            .of(&name)
            .version("1.0.0")
            .with("tag", "latest");
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        let newer = line.replace("package.publish", "package.frobnicate");
        assert_eq!(serde_json::from_str::<Event>(&newer).unwrap().kind, Kind::Unknown);
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
