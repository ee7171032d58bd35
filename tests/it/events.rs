//! The record of what happens.

use std::time::Duration;

use futures::future::join_all;
use holdfast::events::{Decision, Event, Kind, Position, Record, Recorder, Who, WhoKind};
use holdfast::keys;
use holdfast::npm::Timestamp;
use holdfast::storage::{Fault, FaultPlan, Store};
use tokio_util::task::TaskTracker;

use crate::support::app::TestApp;
use crate::support::tarballs::Tarball;

/// Every event in a store, in order.
pub(crate) async fn events_in(store: &Store) -> Vec<Event> {
    let record = Record::new(store.clone());
    let mut position = Position::at(Timestamp::from_millis(0));
    let mut events = Vec::new();
    loop {
        let batches = record.batches_after(&position, 7).await.unwrap();
        if batches.is_empty() {
            return events;
        }
        for batch in batches {
            events.extend(record.batch(&batch).await.unwrap());
            position.pass(&batch);
        }
    }
}

impl TestApp {
    /// Every event there is, in order.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.app.recorder.flush().await.unwrap();
        events_in(&self.store).await
    }

    /// Those of one kind.
    pub(crate) async fn events_of(&self, kind: Kind) -> Vec<Event> {
        let mut events = self.events().await;
        events.retain(|event| event.kind == kind);
        events
    }
}

#[tokio::test]
async fn a_publish_is_in_the_record_before_it_is_answered() {
    let app = TestApp::new();
    let alice = app.user("alice").await.with("user-agent", "npm/11.0.0 node/v22.0.0 linux x64");
    let answer = alice.with("npm-command", "publish").publish(&Tarball::new("tool", "1.0.0")).await.ok();
    let event = app.events_of(Kind::Publish).await.remove(0);
    assert_eq!((event.package.as_deref(), event.version.as_deref()), (Some("tool"), Some("1.0.0")));
    assert_eq!((event.decision, event.at.as_str()), (Decision::Allowed, &*app.clock.now().to_string()));
    assert_eq!((event.who.kind, event.who.name.as_deref()), (WhoKind::User, Some("alice")));
    assert!(event.who.token.is_some());
    assert_eq!(event.details["tag"], "latest");
    let request = event.request.unwrap();
    assert_eq!(request.id, answer.header("x-request-id"));
    assert_eq!(request.address.unwrap().to_string(), "127.0.0.1");
    assert_eq!(request.command.as_deref(), Some("publish"));
    assert!(request.agent.as_ref().unwrap().starts_with("npm/11"));
}

#[tokio::test]
async fn many_changes_at_once_share_objects_and_none_is_missing() {
    let app = TestApp::new();
    let alice = app.user("alice").await;
    let published = (0..40).map(|number| {
        let alice = alice.clone();
        async move { alice.publish(&Tarball::new(&format!("tool-{number}"), "1.0.0")).await.ok() }
    });
    join_all(published).await;
    let mut packages: Vec<String> = app.events_of(Kind::Publish).await.into_iter().filter_map(|e| e.package).collect();
    packages.sort();
    packages.dedup();
    assert_eq!(packages.len(), 40);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_and_once() {
    let app = TestApp::new();
    let event = |name: &str| Event::new(Kind::Publish, Who::operator(None), app.clock.now()).of(&name.parse().unwrap());
    for fault in [Fault::Before, Fault::After] {
        let store = app.store.clone().with_faults(FaultPlan::new(fault, 0));
        let recorder = Recorder::new(store, app.clock.clone(), TaskTracker::new());
        // What is written in one instant is in no order.
        app.clock.advance(Duration::from_secs(1));
        assert!(recorder.record(event("first")).await.is_err(), "{fault:?}");
        assert_eq!(recorder.backlog(), (1, 0));
        app.clock.advance(Duration::from_secs(1));
        recorder.record(event("second")).await.unwrap();
        assert_eq!(recorder.backlog(), (0, 0));
        // Another process, which does not know of the first one's instants.
        app.clock.advance(Duration::from_secs(1));
    }
    let mut events = app.events().await;
    let packages: Vec<_> = events.iter().filter_map(|event| event.package.as_deref()).collect();
    // Of an unclear answer it is there twice, with one id.
    assert_eq!(packages, ["first", "second", "first", "first", "second"]);
    events.sort_by(|one, other| one.id.cmp(&other.id));
    events.dedup_by(|one, other| one.id == other.id);
    assert_eq!(events.len(), 4);
}

#[tokio::test]
async fn a_batch_that_comes_late_is_read_and_none_twice() {
    let app = TestApp::new();
    let record = Record::new(app.store.clone());
    let mut position = Position::at(app.clock.now());
    let put = async |id: &str| {
        let key = keys::event_batch(app.clock.now(), id);
        let line = serde_json::to_vec(&Event::new(Kind::Tag, Who::server(), app.clock.now())).unwrap();
        app.store.create(&key, line.into()).await.unwrap();
        key
    };
    let second = put("b").await;
    assert_eq!(record.batches_after(&position, 10).await.unwrap(), std::slice::from_ref(&second));
    position.pass(&second);
    app.clock.set_back(Duration::from_mins(1));
    let first = put("a").await;
    assert_eq!(record.batches_after(&position, 10).await.unwrap(), std::slice::from_ref(&first));
    position.pass(&first);
    app.clock.advance(Duration::from_hours(30));
    let third = put("c").await;
    assert_eq!(record.batches_after(&position, 10).await.unwrap(), std::slice::from_ref(&third));
    position.pass(&third);
    assert!(record.batches_after(&position, 10).await.unwrap().is_empty());
}
