//! What of orders is written into the record of events. Waivers are recorded by their book.

use super::{Order, Outcome};
use crate::events::{Event, Kind, Who};
use crate::npm::Timestamp;

/// Names in one event: a file of accounts may have a hundred thousand.
const MAX_NAMES: usize = 500;

/// The events of an order that was carried out, with this outcome. Nothing for one that only looked.
pub(super) fn events(order: &Order, outcome: &Outcome, by: &Who, now: Timestamp) -> Vec<Event> {
    let event = |kind| Event::new(kind, by.clone(), now);
    let of_user = |kind, name: &String| event(kind).with("user", name);
    let of_package = |kind, name: &String| {
        let event = event(kind);
        // A name that is none was refused.
        name.parse().map_or(event.clone(), |name| event.of(&name))
    };
    let single = match order {
        Order::AddUser { name, .. } => of_user(Kind::UserCreate, name),
        Order::SetPassword { name, .. } => of_user(Kind::UserChange, name).with("what", "password"),
        Order::RemoveUser { name } => of_user(Kind::UserRemove, name),
        Order::BlockUser { name, blocked } => {
            of_user(Kind::UserChange, name).with("what", "blocked").with("blocked", blocked)
        }
        Order::ResetSecondFactor { name } => {
            of_user(Kind::UserChange, name).with("what", "second-factor").with("on", false)
        }
        Order::Invite { name, days } => event(Kind::UserInvite).with("user", name).with("days", days),
        Order::ImportHtpasswd { .. } => {
            let Outcome::Imported { imported } = outcome else { return Vec::new() };
            let event = |names| event(Kind::UserCreate).with("users", names).with("imported", "htpasswd");
            return imported.made.chunks(MAX_NAMES).map(event).collect();
        }
        Order::CreateToken { user, limits } => {
            let Outcome::Token { key, expires, .. } = outcome else { return Vec::new() };
            let event = of_user(Kind::TokenCreate, user).with("token", key).with("name", &limits.name);
            event.with("read_only", limits.read_only).with("packages", &limits.packages).with("expires", expires)
        }
        Order::RevokeToken { user, .. } => {
            // What was typed may have been the token itself.
            let Outcome::Revoked { key } = outcome else { return Vec::new() };
            of_user(Kind::TokenRevoke, user).with("token", key)
        }
        Order::Trust { package, .. } => {
            let Outcome::Publishers { publishers } = outcome else { return Vec::new() };
            of_package(Kind::Trust, package).with("workflow", publishers.first())
        }
        Order::Distrust { package, id } => of_package(Kind::Distrust, package).with("id", id),
        // The first two are written down by the book of waivers.
        Order::Waive { .. } | Order::Unwaive { .. } | Order::Mirror { dry_run: true, .. } => return Vec::new(),
        Order::Mirror { wanted, dry_run: false } => {
            event(Kind::Command).with("command", "mirror").with("versions", wanted.len())
        }
        Order::RetrySink { name } => event(Kind::Command).with("command", "events sinks --retry").with("sink", name),
        Order::ListUsers
        | Order::ListTokens { .. }
        | Order::ListTrust { .. }
        | Order::ListWaivers
        | Order::ListSinks => {
            return Vec::new();
        }
    };
    vec![single]
}
