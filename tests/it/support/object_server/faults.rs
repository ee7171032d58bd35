//! How the server misbehaves, when, and how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::request::Operation;

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Misbehaviour {
    /// Nothing is done, and the answer has this status: 403 (no rights), 409 (a race), 500, 503.
    Refuse(u16),
    /// All is done, and the answer has this status all the same: 409, 412, 500, 503.
    ApplyAndAnswer(u16),
    /// Nothing is done, and the connection is closed, as when the network is cut.
    HangUp,
    /// All is done, and the connection is closed without an answer.
    ApplyAndHangUp,
    /// All is done, later.
    Delay(Duration),
    /// All is done once the gate is open.
    Hold(Gate),
    /// Nothing is done and nothing comes, ever.
    Stall,
    /// All is done and nothing comes, ever.
    ApplyAndStall,
    /// The head of the answer comes and so much of the body, then nothing more, with the connection left open.
    StallBodyAfter(usize),
    /// The same, with the connection closed.
    CutBodyAfter(usize),
    /// Conditions are not looked at, as in some stores.
    IgnoreConditions,
    /// User metadata is not kept, as in some stores.
    StripMetadata,
    /// What is not there is answered 403, and so is a list, as AWS does to whom it grants no `ListBucket`.
    HideMissing,
}

/// Holds requests until it is opened. Clones are one gate.
#[derive(Debug, Clone)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets all through, those that come later too.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        // The sender is ours, so that the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

/// Which requests a fault is meant for, by what they do and to which key.
type Predicate = dyn Fn(Operation, &str) -> bool + Send + Sync;

/// A misbehaviour with its limits. Without any, it befalls every request.
#[derive(Clone)]
pub(crate) struct Fault {
    misbehaviour: Misbehaviour,
    applies: Arc<Predicate>,
    skip: usize,
    times: usize,
}

impl Fault {
    pub(crate) fn new(misbehaviour: Misbehaviour) -> Self {
        Self { misbehaviour, applies: Arc::new(|_, _| true), skip: 0, times: usize::MAX }
    }

    /// Only requests of these kinds, on these keys.
    pub(crate) fn when(mut self, applies: impl Fn(Operation, &str) -> bool + Send + Sync + 'static) -> Self {
        self.applies = Arc::new(applies);
        self
    }

    /// Only requests of this kind.
    pub(crate) fn on(self, operation: Operation) -> Self {
        self.when(move |one, _| one == operation)
    }

    /// Lets so many of those through first.
    pub(crate) fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Ends after so many.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Whether it befalls this request, which counts.
    fn befalls(&mut self, operation: Operation, key: &str) -> bool {
        if self.times == 0 || !(self.applies)(operation, key) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { misbehaviour, skip, times, .. } = self;
        write!(f, "{misbehaviour:?} after {skip}, {times} times")
    }
}

/// What befalls a request: of the faults in force the first that applies.
pub(super) fn next(faults: &mut [Fault], operation: Operation, key: &str) -> Option<Misbehaviour> {
    let fault = faults.iter_mut().find_map(|fault| fault.befalls(operation, key).then_some(&*fault))?;
    Some(fault.misbehaviour.clone())
}
