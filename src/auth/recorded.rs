//! What of accounts and tokens is written into the record of events. What an operator orders is recorded by `operator`.
//!
//! No password, code or token is ever in an event: a token is told by its hash.

use super::caller::{Caller, Workflow};
use super::token::{Token, TokenHash, TokenRecord};
use super::{Auth, Error, ExchangeError};
use crate::events::{self, Event, Kind, Who};
use crate::storage;
use crate::traces;

/// Characters of a name, or of a reason, that are recorded of who was not let in.
const MAX_TOLD: usize = 200;

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// With a name and a password.
    Password,
    /// In the browser.
    Web,
    /// By a code that is typed at GitHub.
    Device,
    /// With a token of GitHub's, or a password there.
    GitHub,
    /// By the identity token of a CI job.
    Oidc,
}

impl Auth {
    /// Something that was done, now.
    pub(super) fn event(&self, kind: Kind, who: Who) -> Event {
        Event::new(kind, who, self.inner.clock.now())
    }

    /// Writes down what was done, before anybody is told of it.
    ///
    /// # Errors
    /// [`Error::Unrecorded`] when the store fails: what was done stays, and so does the event, which is written later.
    pub(super) async fn write_down(&self, event: Event) -> Result<(), Error> {
        self.inner.recorder.record(event).await.map_err(Error::Unrecorded)
    }

    /// Runs a change to its end in a task of its own, whatever becomes of the client.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.inner.tasks.spawn(traces::carried_on(events::carried_on(change)));
        task.await.unwrap_or_else(|error| Err(storage::Error::from(std::io::Error::other(error)).into()))
    }

    /// Notes that somebody was not let in, where that is a refusal: a failure of ours is none, nor is being asked for a code.
    /// Call it for tries that the brake on guessing has let through, so that it bounds this too.
    pub(super) fn note_not_let_in(&self, name: &str, way: Way, error: &Error) {
        let Some(code) = refusal(error) else { return };
        let who = Who { name: Some(told(name)).filter(|name| !name.is_empty()), ..Who::default() };
        let mut event = self.event(Kind::SignInRefused, who).refused(code).with("way", way);
        if let Error::Exchange(why) = error {
            event = event.with("reason", told(&why.to_string()));
        }
        self.inner.recorder.note(&event);
    }

    /// As [`Auth::note_not_let_in`], for an account of GitHub that may not be used here, whose name is in the error.
    pub(super) fn note_refused_account(&self, way: Way, error: &Error) {
        let name = if let Error::NotAMember(login) = error { login.as_str() } else { "" };
        self.note_not_let_in(name, way, error);
    }

    /// The event of somebody who has signed in, and got this token.
    pub(super) fn signed_in_event(&self, who: Who, way: Way, token: &Token) -> Event {
        self.event(Kind::SignIn, who.by_token(token.hash().as_str())).with("way", way)
    }

    /// The event of a CI job that has exchanged its identity for a token.
    pub(super) fn exchanged_event(&self, record: &TokenRecord, token: &Token) -> Event {
        let job = record.workflow.as_ref().and_then(Self::workflow_of);
        let event = self.signed_in_event(job.as_ref().map(Caller::who).unwrap_or_default(), Way::Oidc, token);
        match job {
            Some(Caller::Workflow(Workflow { grant: Some(grant), .. })) => event.of(&grant.package),
            _ => event,
        }
    }
}

/// What is told of a token that was made: its public name and its limits.
pub(super) fn with_token(event: Event, hash: &TokenHash, record: &TokenRecord) -> Event {
    let event = event.with("user", &record.user).with("token", hash.as_str()).with("name", &record.name);
    let event = event.with("read_only", record.read_only).with("packages", &record.packages);
    event.with("expires", &record.expires)
}

/// A text from outside: cut short, and in one line.
fn told(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TOLD).collect()
}

/// The stable code of a refusal, as `docs/errors.md` has it; `None` for what is none.
fn refusal(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::WrongPassword | Error::OtherName(_) => "wrong_password",
        Error::OneTimeCode => "one_time_code",
        Error::Blocked => "account_blocked",
        Error::NotAMember(_) => "not_a_member",
        Error::GitHubTakesTokens => "github_takes_tokens",
        Error::GitHubRefused(_) => "github_refused",
        Error::Denied => "login_denied",
        Error::Exchange(ExchangeError::UnknownIssuer | ExchangeError::Token(_) | ExchangeError::Replayed) => {
            "identity_invalid"
        }
        Error::Exchange(_) => "identity_refused",
        _ => return None,
    })
}
