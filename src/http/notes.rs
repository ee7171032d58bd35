//! What is known of a request from its head, and found out about it on its way in: for its handler, for its line in the log,
//! for the figures, and for the record.

use std::sync::{Arc, OnceLock};

use http::header::{REFERER, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

use super::origin::Origin;
use super::request_id::RequestId;
use crate::auth::Caller;
use crate::events;

/// What npm 7 and newer are doing, such as `publish`.
const NPM_COMMAND: HeaderName = HeaderName::from_static("npm-command");

/// The one extension that every request has. Cheap to clone.
#[derive(Clone)]
pub(super) struct Notes(Arc<Noted>);

struct Noted {
    id: RequestId,
    origin: Origin,
    agent: Option<HeaderValue>,
    command: Option<HeaderValue>,
    /// The line of the route table.
    line: OnceLock<usize>,
    caller: OnceLock<String>,
}

impl Notes {
    pub(super) fn new(id: RequestId, origin: Origin, headers: &HeaderMap) -> Self {
        let command = headers.get(NPM_COMMAND).or_else(|| headers.get(REFERER));
        Self(Arc::new(Noted {
            id,
            origin,
            agent: headers.get(USER_AGENT).cloned(),
            command: command.cloned(),
            line: OnceLock::new(),
            caller: OnceLock::new(),
        }))
    }

    /// Those of a request, where it came in by the front door.
    pub(super) fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The first line of the table that was taken is the one.
    pub(super) fn takes_line(&self, line: usize) {
        self.0.line.get_or_init(|| line);
    }

    /// Whom the credentials of the request belong to.
    pub(super) fn comes_from(&self, caller: &Caller) {
        if let Some(name) = caller.name() {
            self.0.caller.get_or_init(|| name);
        }
    }

    pub(super) fn line(&self) -> Option<usize> {
        self.0.line.get().copied()
    }

    /// The caller's name, where the request needed one and brought one that is known.
    pub(super) fn caller(&self) -> Option<&str> {
        self.0.caller.get().map(String::as_str)
    }

    /// The same, for the work that answers the request.
    pub(super) fn for_record(&self) -> Arc<dyn events::Request> {
        Arc::clone(&self.0) as Arc<dyn events::Request>
    }

    /// The command that a person typed, as npm tells it.
    pub(super) fn command(&self) -> Option<String> {
        self.0.command()
    }
}

impl Noted {
    fn command(&self) -> Option<String> {
        // A page in a browser is a referrer with a colon; npm 6 and older tell their command line there.
        text(self.command.as_ref()?).filter(|command| !command.contains("://"))
    }
}

impl events::Request for Noted {
    fn asked(&self) -> events::Asked {
        events::Asked {
            id: self.id.to_string(),
            address: self.origin.address,
            agent: self.agent.as_ref().and_then(text),
            command: self.command(),
        }
    }
}

/// A header as the record has it: cut short, without what a terminal would obey.
fn text(value: &HeaderValue) -> Option<String> {
    const MAX_CHARACTERS: usize = 200;
    Some(value.to_str().ok()?.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect())
}
