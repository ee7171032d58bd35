//! What of packages is written into the record of events.
//!
//! A change is recorded after its commit and before its answer, within [`Registry::to_the_end`]. What was asked for and changed
//! nothing more than it was is recorded too, so that who repeats a request that was cut off leaves an event.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Error, Registry};
use crate::auth::Caller;
use crate::events::{Event, Kind, Who};
use crate::npm::{PackageName, Version};

/// Numbers of versions in one event: of a package with more there are several.
const MAX_LISTED: usize = 500;
/// Characters of a deprecation that are recorded.
const MAX_MESSAGE: usize = 1_000;
/// How often the same caller's asking for the same withheld version is recorded, and an upstream's same wrong tarball.
const NOTED_EVERY: Duration = Duration::from_hours(1);
/// How often the same caller's same refusal is.
const REFUSAL_NOTED_EVERY: Duration = Duration::from_mins(1);

/// A tag, and the version that it points to now; none for one that was removed.
pub(super) type TagChange = (String, Option<String>);

impl Registry {
    /// The event of something that a caller did, or wanted to.
    pub(super) fn event(&self, kind: Kind, caller: &Caller, name: &PackageName) -> Event {
        Event::new(kind, caller.who(), self.inner.clock.now()).of(name)
    }

    /// Writes down that a package was changed. Comes after the commit, and before anybody is told of it.
    ///
    /// # Errors
    /// [`Error::Unrecorded`] when the store fails: the change stays, and so does the event, which is written later.
    pub(super) async fn write_down(&self, event: Event) -> Result<(), Error> {
        self.write_all_down(vec![event]).await
    }

    /// As [`Registry::write_down`], for a change that is several events.
    pub(super) async fn write_all_down(&self, events: Vec<Event>) -> Result<(), Error> {
        self.inner.recorder.record_all(events).await.map_err(Error::Unrecorded)
    }

    /// The events of tags that were moved or removed.
    pub(super) fn tag_events(&self, caller: &Caller, name: &PackageName, changes: Vec<TagChange>) -> Vec<Event> {
        let event = |(tag, version): TagChange| match version {
            Some(version) => self.event(Kind::Tag, caller, name).version(version).with("tag", tag),
            None => self.event(Kind::Untag, caller, name).with("tag", tag),
        };
        changes.into_iter().map(event).collect()
    }

    /// The events of versions that were deprecated, or are so no more; by their message.
    pub(super) fn deprecation_events(
        &self,
        caller: &Caller,
        name: &PackageName,
        deprecations: &[(String, Option<String>)],
    ) -> Vec<Event> {
        let mut by_message: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
        for (number, message) in deprecations {
            by_message.entry(message.as_deref()).or_default().push(number);
        }
        let events = by_message.into_iter().flat_map(|(message, numbers)| {
            let message = message.map(|text| text.chars().take(MAX_MESSAGE).collect::<String>());
            let event = |listed: &[&str]| {
                let event = self.event(Kind::Deprecate, caller, name);
                event.with("versions", listed).with("message", &message)
            };
            numbers.chunks(MAX_LISTED).map(event).collect::<Vec<_>>()
        });
        events.collect()
    }

    /// The events of versions that were removed, while others stay.
    pub(super) fn removal_events(&self, caller: &Caller, name: &PackageName, numbers: &[String]) -> Vec<Event> {
        let event = |listed| self.event(Kind::Unpublish, caller, name).with("versions", listed);
        numbers.chunks(MAX_LISTED).map(event).collect()
    }

    /// The event of a package that was removed.
    pub(super) fn package_removal_event(&self, caller: &Caller, name: &PackageName) -> Event {
        self.event(Kind::Unpublish, caller, name).with("package", true)
    }

    /// The event of owners that are others.
    pub(super) fn owners_event(&self, caller: &Caller, name: &PackageName, before: &[String], now: &[String]) -> Event {
        self.event(Kind::Owners, caller, name).with("owners", now).with("before", before)
    }

    /// The event of a star that was given or taken.
    pub(super) fn star_event(&self, caller: &Caller, name: &PackageName, starred: bool) -> Event {
        self.event(Kind::Star, caller, name).with("starred", starred)
    }

    /// Notes that somebody who is known wanted to change a package and was refused, by the stable code of the refusal. Strangers
    /// are not noted: they may ask as often as they like.
    pub fn note_refusal(&self, caller: &Caller, name: &PackageName, code: &'static str) {
        if caller.is_known() {
            let event = self.event(Kind::Refused, caller, name).refused(code);
            self.inner.recorder.note_once_in(REFUSAL_NOTED_EVERY, &event);
        }
    }

    /// Notes that something was asked for that the policy withholds.
    pub(super) fn note_withheld(&self, caller: &Caller, error: &Error) {
        let Error::Withheld(refused) = error else { return };
        let mut event = self.event(Kind::Withheld, caller, &refused.name).refused(&refused.withheld.rule);
        event.version.clone_from(&refused.version);
        self.inner.recorder.note_once_in(NOTED_EVERY, &event.with("reason", &refused.withheld.reason));
    }

    /// Notes that an upstream's tarball was not what its document says.
    pub(super) fn note_mismatch(&self, upstream: &str, name: &PackageName, version: &Version) {
        let event = Event::new(Kind::Mismatch, Who::server(), self.inner.clock.now()).of(name).version(version);
        self.inner.recorder.note_once_in(NOTED_EVERY, &event.refused("integrity").with("upstream", upstream));
    }
}
