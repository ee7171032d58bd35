//! One sentence an event, for a channel that people read.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::message::Message;
use crate::events::{Decision, Event, Kind, Who, WhoKind};

/// Slack cuts longer texts; a list of a hundred versions is no news either.
const MAX_DETAIL_CHARACTERS: usize = 300;

/// The message for some events: a line for each.
pub(super) fn message(events: &[Event]) -> Message {
    let lines: Vec<String> = events.iter().map(sentence).collect();
    let body = serde_json::json!({ "text": lines.join("\n") }).to_string();
    Message { body: Bytes::from(body), headers: Vec::new() }
}

/// An event in one sentence.
fn sentence(event: &Event) -> String {
    let who = name_of(&event.who);
    let who = escaped(&who);
    let package = escaped(event.package.as_deref().unwrap_or("a package")).into_owned();
    let version = event.version.as_deref().map(|version| format!(" {}", escaped(version))).unwrap_or_default();
    let detail = |name: &str| event.details.get(name).map(shown).unwrap_or_default();
    if event.decision == Decision::Refused {
        let rule = event.rule.as_deref().map(|rule| format!(" ({})", escaped(rule))).unwrap_or_default();
        let of = event.package.as_ref().map(|_| format!(": {package}{version}")).unwrap_or_default();
        return format!("{who} was refused{rule}, {}{of}", event.kind);
    }
    match event.kind {
        Kind::Publish => format!("{who} published {package}{version} as {}", detail("tag")),
        Kind::Tag => format!("{who} tagged {package}{version} as {}", detail("tag")),
        Kind::Untag => format!("{who} removed the tag {} of {package}", detail("tag")),
        Kind::Deprecate if detail("message").is_empty() => {
            format!("{who} took the deprecation of {package} {} back", detail("versions"))
        }
        Kind::Deprecate => format!("{who} deprecated {package} {}: {}", detail("versions"), detail("message")),
        Kind::Unpublish if event.details.contains_key("package") => format!("{who} removed {package}"),
        Kind::Unpublish => format!("{who} removed {package} {}", detail("versions")),
        Kind::Owners => {
            format!("{who} made {} owners of {package}, before {}", detail("owners"), detail("before"))
        }
        _ if event.package.is_some() => format!("{who}: {} {package}{version}", event.kind),
        _ => format!("{who}: {}", event.kind),
    }
}

fn name_of(who: &Who) -> Cow<'_, str> {
    match (&who.name, who.kind) {
        (Some(name), _) => Cow::Borrowed(name),
        (None, WhoKind::Anonymous) => Cow::Borrowed("Somebody"),
        (None, WhoKind::User) => Cow::Borrowed("A user"),
        (None, WhoKind::Workflow) => Cow::Borrowed("A workflow"),
        (None, WhoKind::Operator) => Cow::Borrowed("An operator"),
        (None, WhoKind::Server) => Cow::Borrowed("The server"),
    }
}

/// A detail in words: a text as it is, a list with commas. What is in it comes from whoever published.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), ToOwned::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let one_line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DETAIL_CHARACTERS).collect();
    escaped(&one_line).into_owned()
}

/// The three characters that Slack gives a meaning: with them somebody could write a link, or call everybody.
fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['&', '<', '>']) {
        return Cow::Owned(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npm::Timestamp;

    fn by(name: &str, kind: Kind) -> Event {
        let who = Who { kind: WhoKind::User, name: Some(name.to_owned()), ..Who::default() };
        Event::new(kind, who, Timestamp::from_millis(0)).of(&"@acme/tool".parse().unwrap())
    }

    #[test]
    fn each_event_is_one_sentence() {
        for (event, expected) in [
            (
                by("ann", Kind::Publish).version("1.0.0").with("tag", "latest"),
                "ann published @acme/tool 1.0.0 as latest",
            ),
            (by("ann", Kind::Tag).version("1.0.0").with("tag", "next"), "ann tagged @acme/tool 1.0.0 as next"),
            (by("ann", Kind::Untag).with("tag", "next"), "ann removed the tag next of @acme/tool"),
            (
                by("<!channel>", Kind::Deprecate).with("versions", ["1.0.0", "1.1.0"]).with("message", "a < b\n& c"),
                "&lt;!channel&gt; deprecated @acme/tool 1.0.0, 1.1.0: a &lt; b &amp; c",
            ),
            (
                by("ann", Kind::Deprecate).with("versions", ["1.0.0"]).with("message", ""),
                "ann took the deprecation of @acme/tool 1.0.0 back",
            ),
            (by("ann", Kind::Unpublish).with("package", true), "ann removed @acme/tool"),
            (by("ann", Kind::Unpublish).with("versions", ["1.0.0"]), "ann removed @acme/tool 1.0.0"),
            (
                by("ann", Kind::Refused).version("2.0.0").refused("not_owner"),
                "ann was refused (not_owner), package.refused: @acme/tool 2.0.0",
            ),
        ] {
            assert_eq!(sentence(&event), expected);
        }
        let signed_in = Event::new(Kind::SignIn, Who::default(), Timestamp::from_millis(0));
        assert_eq!(sentence(&signed_in), "Somebody: sign-in");
    }
}
