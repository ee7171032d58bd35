//! What the public registry sent to whoever had set up a hook (`npm hook`), for receivers that were written for it.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::message::{Failure, Message, signature};
use crate::events::{Decision, Event, Kind};
use crate::npm::Timestamp;
use crate::secret::Secret;

/// Of the envelope, not of the package.
const ENVELOPE_VERSION: &str = "1.0.0";

#[derive(Serialize)]
struct Envelope<'a> {
    event: &'static str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
    #[serde(rename = "hookOwner")]
    hook_owner: HookOwner<'a>,
    /// The package's document.
    payload: &'a RawValue,
    change: Map<String, Value>,
    /// Milliseconds since 1970.
    time: i64,
}

#[derive(Serialize)]
struct HookOwner<'a> {
    username: &'a str,
}

/// Whose hook it is.
pub(super) struct Signing<'a> {
    /// What the hook is of: `package`, `scope`, `owner`.
    pub(super) kind: &'static str,
    /// Who is told.
    pub(super) owner: &'a str,
    /// What is sent is signed with it.
    pub(super) secret: &'a Secret,
}

/// A change in npm's words: the event, and what about it.
type Change = (&'static str, Map<String, Value>);

/// What of an event npm has words for, one change each.
pub(super) fn changes(event: &Event) -> Vec<Change> {
    if event.decision != Decision::Allowed {
        return Vec::new();
    }
    let change = |members: &[(&str, Option<Value>)]| {
        members.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?))).collect::<Map<_, _>>()
    };
    let detail = |name: &str| event.details.get(name).cloned();
    let version = event.version.clone().map(Value::from);
    match event.kind {
        Kind::Publish => vec![("package:publish", change(&[("version", version), ("dist-tag", detail("tag"))]))],
        Kind::Tag => vec![("package:dist-tag", change(&[("dist-tag", detail("tag")), ("version", version)]))],
        Kind::Untag => vec![("package:dist-tag-rm", change(&[("dist-tag", detail("tag"))]))],
        Kind::Deprecate => {
            let message = detail("message").filter(|message| message.as_str().is_some_and(|text| !text.is_empty()));
            let word = if message.is_some() { "package:deprecated" } else { "package:undeprecated" };
            let of = |version| (word, change(&[("version", Some(version)), ("deprecated", message.clone())]));
            listed(event, "versions").into_iter().map(of).collect()
        }
        Kind::Unpublish if event.details.contains_key("package") => vec![("package:unpublish", Map::new())],
        Kind::Unpublish => {
            let of = |version| ("package:unpublish", change(&[("version", Some(version))]));
            listed(event, "versions").into_iter().map(of).collect()
        }
        Kind::Owners => {
            let (now, before) = (listed(event, "owners"), listed(event, "before"));
            let of = |word: &'static str, name: &Value| (word, change(&[("maintainer", Some(name.clone()))]));
            let added = now.iter().filter(|name| !before.contains(name)).map(|name| of("package:owner", name));
            let removed = before.iter().filter(|name| !now.contains(name)).map(|name| of("package:owner-rm", name));
            added.chain(removed).collect()
        }
        Kind::Star => {
            let is_back = event.details.get("starred").and_then(Value::as_bool) == Some(false);
            let word = if is_back { "package:unstar" } else { "package:star" };
            vec![(word, change(&[("user", event.who.name.clone().map(Value::from))]))]
        }
        _ => Vec::new(),
    }
}

fn listed(event: &Event, name: &str) -> Vec<Value> {
    event.details.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The request for one change. `document` is the package's as it is now, `null` when it is gone.
pub(super) fn message(
    event: &Event,
    (word, change): Change,
    document: &RawValue,
    hook: &Signing<'_>,
) -> Result<Message, Failure> {
    let envelope = Envelope {
        event: word,
        name: event.package.as_deref().unwrap_or_default(),
        kind: hook.kind,
        version: ENVELOPE_VERSION,
        hook_owner: HookOwner { username: hook.owner },
        payload: document,
        change,
        time: event.at.parse::<Timestamp>().map_or(0, Timestamp::as_millis),
    };
    let body = serde_json::to_vec(&envelope).map_err(|error| Failure::Lasting { why: error.to_string() })?;
    let headers = vec![("x-npm-signature", signature(hook.secret, &body))];
    Ok(Message { body: body.into(), headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Who;

    fn told(event: &Event) -> Vec<String> {
        changes(event).into_iter().map(|(word, change)| format!("{word} {}", Value::Object(change))).collect()
    }

    #[test]
    fn changes_are_told_in_npms_words() {
        let of = |kind| Event::new(kind, Who::operator(Some("ann".to_owned())), Timestamp::from_millis(0));
        for (event, expected) in [
            (
                of(Kind::Publish).version("1.0.0").with("tag", "latest"),
                vec![r#"package:publish {"version":"1.0.0","dist-tag":"latest"}"#],
            ),
            (of(Kind::Untag).with("tag", "next"), vec![r#"package:dist-tag-rm {"dist-tag":"next"}"#]),
            (
                of(Kind::Deprecate).with("versions", ["1.0.0", "2.0.0"]).with("message", "old"),
                vec![
                    r#"package:deprecated {"version":"1.0.0","deprecated":"old"}"#,
                    r#"package:deprecated {"version":"2.0.0","deprecated":"old"}"#,
                ],
            ),
            (
                of(Kind::Deprecate).with("versions", ["1.0.0"]).with("message", ""),
                vec![r#"package:undeprecated {"version":"1.0.0"}"#],
            ),
            (
                of(Kind::Owners).with("owners", ["ann", "bob"]).with("before", ["ann", "eve"]),
                vec![r#"package:owner {"maintainer":"bob"}"#, r#"package:owner-rm {"maintainer":"eve"}"#],
            ),
            (of(Kind::Unpublish).with("package", true), vec!["package:unpublish {}"]),
            (of(Kind::SignIn), vec![]),
            (of(Kind::Publish).refused("taken"), vec![]),
        ] {
            assert_eq!(told(&event), expected);
        }
    }
}
