//! The record of events, for administrators.

use std::time::Duration;

use super::{Error, Registry};
use crate::auth::Caller;
use crate::events::{Event, Filter, Record};
use crate::keys;

/// Events of one answer, to which the rest of the last batch is added.
pub const MAX_EVENTS: usize = 1_000;
/// Batches that are looked at for one answer.
const MAX_BATCHES: usize = 200;
/// How far an answer goes back where nothing is said.
const USUAL: Duration = Duration::from_hours(24);

/// A part of the record.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// In the order of their batches.
    pub events: Vec<Event>,
    /// Where to go on; `None` where there was nothing more to look at.
    pub next: Option<String>,
}

impl Registry {
    /// Events that are wanted: from where an earlier page ended, else from the filter's beginning, else of the last day. As
    /// many batches are looked at as it takes to find `most` (at most [`MAX_EVENTS`]), and no more than two hundred: a page
    /// may be empty and not the last.
    ///
    /// # Errors
    /// [`Error::AdministratorsOnly`]; [`Error::Invalid`] where `after` is no end of a page.
    pub async fn events(
        &self,
        caller: &Caller,
        filter: &Filter,
        after: Option<&str>,
        most: usize,
    ) -> Result<EventPage, Error> {
        if !caller.is_known() {
            return Err(Error::SignInFirst);
        }
        if !self.terms.access.is_administrator(caller) {
            return Err(Error::AdministratorsOnly);
        }
        let from = match after {
            Some(text) => keys::event_batch_named(text).ok_or(Error::Invalid("`after` is no `next` of an answer"))?,
            None => keys::events_from(filter.since.unwrap_or_else(|| self.inner.clock.now().minus(USUAL))),
        };
        let record = Record::new(self.inner.store.clone());
        let mut page = EventPage { events: Vec::new(), next: None };
        for batch in record.batches_from(&from, MAX_BATCHES).await? {
            let events = record.batch(&batch).await?;
            page.events.extend(events.into_iter().filter(|event| filter.wants(event)));
            page.next = batch.event_batch_name().map(ToOwned::to_owned);
            if page.events.len() >= most.min(MAX_EVENTS) {
                break;
            }
        }
        Ok(page)
    }
}
