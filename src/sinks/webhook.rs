//! Events as they are, signed, several in a request.
//!
//! The signature is over the time of sending too, so that who listened on the line cannot send an old one again; how a receiver
//! checks it is in `docs/sinks.md`.

use serde::Serialize;

use super::message::{Failure, Message, signature};
use crate::events::Event;
use crate::npm::Timestamp;
use crate::npm::integrity::sha256_hex;
use crate::secret::Secret;

#[derive(Serialize)]
struct Delivery<'a> {
    id: &'a str,
    sent_at: String,
    events: &'a [Event],
}

/// The request for some events. Sent again, the same events have the same id.
pub(super) fn message(events: &[Event], secret: &Secret, now: Timestamp) -> Result<Message, Failure> {
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let id = &sha256_hex(ids.join("\n").as_bytes())[..32];
    let body = serde_json::to_vec(&Delivery { id, sent_at: now.to_string(), events })
        .map_err(|error| Failure::Lasting { why: error.to_string() })?;
    let seconds = now.as_seconds().to_string();
    let signed = [seconds.as_bytes(), b".", &body].concat();
    let headers = vec![
        ("x-holdfast-delivery", id.to_owned()),
        ("x-holdfast-signature", signature(secret, &signed)),
        ("x-holdfast-timestamp", seconds),
    ];
    Ok(Message { body: body.into(), headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Kind, Who};

    #[test]
    fn the_same_events_have_the_same_id_and_another_signature_later() {
        let secret = Secret::new("key");
        let events = [Event::new(Kind::Publish, Who::server(), Timestamp::from_millis(0))];
        let sent = |millis| message(&events, &secret, Timestamp::from_millis(millis)).unwrap().headers;
        let (first, again) = (sent(1_000), sent(61_000));
        assert_eq!(first[0], again[0]);
        assert_ne!(first[1], again[1]);
        assert_eq!(again[2].1, "61");
    }
}
