//! The record of what happened: who did what, when, from where, and what was decided.
//!
//! An event of a change is in the store before the change is acknowledged. Events that arrive while a batch is being written
//! share the next one, so that a hundred changes at once cost few objects more than one. Nothing here decides anything, and
//! nothing is ever taken out of the record.
//!
//! - `event.rs`: what an event is;
//! - `asked.rs`: what is remembered of the request that is being answered;
//! - `recorder.rs`: writing;
//! - `record.rs`, `filter.rs`: reading it back, from a point on; which events are wanted.

mod asked;
mod event;
mod filter;
mod record;
mod recorder;

pub use asked::{Asked, Request, asked, carried_on, within};
pub use event::{Decision, Event, Kind, Who, WhoKind};
pub use filter::Filter;
pub use record::{LATE, Position, Record};
pub use recorder::Recorder;
