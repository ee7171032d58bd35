//! A text that must not be seen: tokens, passwords, client secrets.
//!
//! Invariant: no way of printing or serializing a [`Secret`] shows it. The only way to the text is
//! [`Secret::expose`], so a search for that word finds every place where a secret can leave.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// A text that prints as `***`. Cheap to clone. It has no `Display` and no `Serialize` on purpose.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        #[derive(Debug)]
        struct Holder {
            #[expect(dead_code, reason = "only printed")]
            token: Option<Secret>,
        }
        let holder = Holder { token: Some(Secret::new("hunter2")) };
        assert_eq!(format!("{holder:?}"), "Holder { token: Some(***) }");
        assert!(!format!("{holder:#?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_is_read_and_exposed_by_name() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
    }
}
