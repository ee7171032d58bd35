//! The older system's own formats: what codebox sent to Insights, and what it published to a topic before.
//!
//! Its readers know publishes and tags, and nothing else; absent values are left out, members are in its order.

use serde::Serialize;
use serde_json::{Map, Value};

use super::seen::{Sight, What};
use super::settings::IndexFormat;
use crate::events::{Decision, Event, Kind};
use crate::npm::Timestamp;
use crate::npm::packument::HostedPackument;
use crate::secret::Secret;

/// As which its `index` command spoke.
const INDEX_USER: User<'static> =
    User { name: Some("Codebox"), avatar: Some("https://s3-eu-west-1.amazonaws.com/codebox-assets/logo.png") };

/// What a publish tells of the version, in order; `version` and the tags come in between and behind.
const MANIFEST: [&str; 9] =
    ["name", "description", "version", "keywords", "license", "contributors", "dependencies", "homepage", "repository"];

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
}

#[derive(Serialize)]
struct Command<'a> {
    name: &'a str,
    args: Vec<&'a str>,
}

#[derive(Serialize)]
struct Log<'a> {
    user: User<'a>,
    timestamp: &'a str,
    level: &'static str,
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Command<'a>>,
    body: Map<String, Value>,
}

#[derive(Serialize)]
struct Credentials<'a> {
    #[serde(rename = "clientId")]
    client_id: &'a str,
    secret: &'a str,
}

/// Of the `index` command, with its own order of members.
#[derive(Serialize)]
struct Indexed<'a> {
    timestamp: &'a str,
    namespace: &'static str,
    level: &'static str,
    user: User<'static>,
    credentials: Credentials<'a>,
    body: Map<String, Value>,
}

/// The area of an event in the older system's words; `None` for what it never told of.
pub(super) fn area(event: &Event) -> Option<&'static str> {
    if event.decision != Decision::Allowed {
        return None;
    }
    match event.kind {
        Kind::Publish | Kind::Index => Some("package:put"),
        Kind::Tag => Some("dist-tags:put"),
        Kind::Untag => Some("dist-tags:delete"),
        _ => None,
    }
}

/// The header that says who it is.
pub(super) fn bearer(client_id: &str, secret: &Secret) -> (&'static str, String) {
    ("authorization", format!("Bearer {client_id}:{}", secret.expose()))
}

/// The body for Insights. `stored` is the package's document as it is now.
pub(super) fn log(
    event: &Event,
    stored: Option<&[u8]>,
    client_id: &str,
    secret: &Secret,
    index_format: IndexFormat,
) -> Option<String> {
    let area = area(event)?;
    let document = stored.and_then(|stored| HostedPackument::parse(stored).ok());
    let body = body(event, document.as_ref());
    if event.kind == Kind::Index {
        let credentials = Credentials { client_id, secret: secret.expose() };
        return match index_format {
            IndexFormat::InBody => serde_json::to_string(&Indexed {
                timestamp: &event.at,
                namespace: "info:package:put",
                level: "info",
                user: INDEX_USER,
                credentials,
                body,
            }),
            IndexFormat::InHeader => text(event, INDEX_USER, area, Some(command(event)), body),
        }
        .ok();
    }
    text(event, user(event), area, Some(command(event)), body).ok()
}

/// The message for a topic, which had no command and told less of a publish.
pub(super) fn topic_message(event: &Event, stored: Option<&[u8]>) -> Option<String> {
    let area = area(event)?;
    let document = stored.and_then(|stored| HostedPackument::parse(stored).ok());
    let mut body = body(event, document.as_ref());
    if area == "package:put" {
        body.retain(|key, _| matches!(key.as_str(), "name" | "version" | "dist-tags"));
    }
    text(event, user(event), area, None, body).ok()
}

/// The area of a request in the older system's words, by its method and its path in our spelling.
pub(super) fn area_of_request(method: &str, path: &str) -> Option<&'static str> {
    let mut segments = path.strip_prefix('/')?.split('/');
    let is_of_tags = match (segments.next()?, segments.next(), segments.next(), segments.next()) {
        ("-", Some("package"), Some(_), Some("dist-tags")) => true,
        (package, None, None, None) if !package.is_empty() => false,
        _ => return None,
    };
    match (method, is_of_tags) {
        ("GET", false) => Some("package:get"),
        ("PUT", false) => Some("package:put"),
        ("GET", true) => Some("dist-tags:get"),
        ("PUT" | "POST", true) => Some("dist-tags:put"),
        ("DELETE", true) => Some("dist-tags:delete"),
        _ => None,
    }
}

/// The body for something that is in no record. `stored` is the document of the package that was read, where it is ours.
pub(super) fn sight_log(sight: &Sight, at: Timestamp, stored: Option<&[u8]>) -> Option<String> {
    let mut body = Map::new();
    let (level, namespace) = match &sight.what {
        What::Read { package } => {
            let document = stored.and_then(|stored| HostedPackument::parse(stored).ok());
            body.insert("name".to_owned(), package.clone().into());
            if let Some(latest) = document.as_ref().and_then(|document| document.dist_tags().get("latest")) {
                body.insert("version".to_owned(), latest.clone().into());
            }
            ("info", "info:package:get".to_owned())
        }
        What::Failed { area, message } => {
            body.insert("message".to_owned(), message.clone().into());
            ("error", format!("error:{area}"))
        }
    };
    let user = User { name: sight.by.as_deref(), avatar: None };
    let command = Some(command_line(sight.command.as_deref()));
    serde_json::to_string(&Log { user, timestamp: &at.to_string(), level, namespace, command, body }).ok()
}

fn text(
    event: &Event,
    user: User<'_>,
    area: &str,
    command: Option<Command<'_>>,
    body: Map<String, Value>,
) -> Result<String, serde_json::Error> {
    let namespace = format!("info:{area}");
    serde_json::to_string(&Log { user, timestamp: &event.at, level: "info", namespace, command, body })
}

fn user(event: &Event) -> User<'_> {
    User { name: event.who.name.as_deref(), avatar: None }
}

fn command(event: &Event) -> Command<'_> {
    command_line(event.request.as_ref().and_then(|request| request.command.as_deref()))
}

/// What npm said of the command line: its first word and the rest.
fn command_line(line: Option<&str>) -> Command<'_> {
    let mut words = line.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
    Command { name: words.next().unwrap_or("Unknown"), args: words.collect() }
}

fn body(event: &Event, document: Option<&HostedPackument<'_>>) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    };
    let (name, version) = (event.package.clone().map(Value::from), event.version.clone().map(Value::from));
    if matches!(event.kind, Kind::Publish | Kind::Index) {
        let manifest = event.version.as_deref().and_then(|number| document?.version(number));
        let mut manifest: Map<String, Value> =
            manifest.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        for key in MANIFEST {
            let value = match key {
                "name" => name.clone(),
                "version" => version.clone(),
                _ => manifest.shift_remove(key),
            };
            put(key, value);
        }
    } else {
        put("name", name);
        put("tag", event.details.get("tag").cloned());
        put("version", version);
    }
    put("dist-tags", document.and_then(|document| serde_json::to_value(document.dist_tags()).ok()));
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Asked, Who, WhoKind};

    const STORED: &str = r#"{"_id":"@acme/tool","name":"@acme/tool","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{
        "name":"@acme/tool","version":"1.0.0","license":"MIT","description":"Does it","scripts":{"x":"y"},
        "dependencies":{"zeta":"1","alpha":"2"},"repository":{"type":"git"}}},"_holdfast":{}}"#;

    fn event(kind: Kind) -> Event {
        let who = Who { kind: WhoKind::User, name: Some("ann".to_owned()), ..Who::default() };
        let mut event =
            Event::new(kind, who, Timestamp::from_millis(1_000)).of(&"@acme/tool".parse().unwrap()).version("1.0.0");
        event.request = Some(Asked { command: Some("publish --tag next".to_owned()), ..Asked::default() }.into());
        event
    }

    fn sent(event: &Event, format: IndexFormat) -> Option<String> {
        log(event, Some(STORED.as_bytes()), "id", &Secret::new("hush"), format)
    }

    const BODY: &str = r#""body":{"name":"@acme/tool","description":"Does it","version":"1.0.0","license":"MIT","dependencies":{"zeta":"1","alpha":"2"},"repository":{"type":"git"},"dist-tags":{"latest":"1.0.0"}}}"#;

    #[test]
    fn members_are_in_the_older_systems_order() {
        assert_eq!(
            sent(&event(Kind::Publish), IndexFormat::InBody).unwrap(),
            format!(
                r#"{{"user":{{"name":"ann"}},"timestamp":"1970-01-01T00:00:01.000Z","level":"info","namespace":"info:package:put","command":{{"name":"publish","args":["--tag","next"]}},{BODY}"#
            )
        );
        let mut tagged = event(Kind::Tag).with("tag", "next");
        tagged.request = None;
        assert_eq!(
            sent(&tagged, IndexFormat::InBody).unwrap(),
            r#"{"user":{"name":"ann"},"timestamp":"1970-01-01T00:00:01.000Z","level":"info","namespace":"info:dist-tags:put","command":{"name":"Unknown","args":[]},"body":{"name":"@acme/tool","tag":"next","version":"1.0.0","dist-tags":{"latest":"1.0.0"}}}"#
        );
        let mut untagged = event(Kind::Untag).with("tag", "next");
        untagged.version = None;
        let text = sent(&untagged, IndexFormat::InBody).unwrap();
        assert!(text.contains(r#""namespace":"info:dist-tags:delete""#), "{text}");
        assert!(
            text.ends_with(r#""body":{"name":"@acme/tool","tag":"next","dist-tags":{"latest":"1.0.0"}}}"#),
            "{text}"
        );
    }

    #[test]
    fn the_index_command_has_a_form_of_its_own() {
        let user = r#""user":{"name":"Codebox","avatar":"https://s3-eu-west-1.amazonaws.com/codebox-assets/logo.png"}"#;
        assert_eq!(
            sent(&event(Kind::Index), IndexFormat::InBody).unwrap(),
            format!(
                r#"{{"timestamp":"1970-01-01T00:00:01.000Z","namespace":"info:package:put","level":"info",{user},"credentials":{{"clientId":"id","secret":"hush"}},{BODY}"#
            )
        );
        let in_header = sent(&event(Kind::Index), IndexFormat::InHeader).unwrap();
        assert!(in_header.starts_with(&format!("{{{user},\"timestamp\"")), "{in_header}");
        assert!(!in_header.contains("hush") && in_header.ends_with(BODY));
    }

    #[test]
    fn requests_have_an_area_where_the_older_system_had_one() {
        for (method, path, expected) in [
            ("GET", "/tool", Some("package:get")),
            ("GET", "/@acme%2ftool", Some("package:get")),
            ("PUT", "/@acme%2ftool", Some("package:put")),
            ("GET", "/tool/-/tool-1.0.0.tgz", None),
            ("GET", "/-/package/tool/dist-tags", Some("dist-tags:get")),
            ("DELETE", "/-/package/tool/dist-tags/next", Some("dist-tags:delete")),
            ("GET", "/-/ping", None),
            ("GET", "/", None),
        ] {
            assert_eq!(area_of_request(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_was_seen_has_the_older_systems_form() {
        let at = Timestamp::from_millis(1_000);
        let sight = |what| Sight { what, by: Some("ann".to_owned()), command: Some("view tool".to_owned()) };
        let read = sight(What::Read { package: "@acme/tool".to_owned() });
        let head = r#"{"user":{"name":"ann"},"timestamp":"1970-01-01T00:00:01.000Z","#;
        let command = r#""command":{"name":"view","args":["tool"]},"#;
        assert_eq!(
            sight_log(&read, at, Some(STORED.as_bytes())).unwrap(),
            format!(
                r#"{head}"level":"info","namespace":"info:package:get",{command}"body":{{"name":"@acme/tool","version":"1.0.0"}}}}"#
            )
        );
        let failed = sight(What::Failed { area: "package:put", message: "status 503".to_owned() });
        assert_eq!(
            sight_log(&failed, at, None).unwrap(),
            format!(
                r#"{head}"level":"error","namespace":"error:package:put",{command}"body":{{"message":"status 503"}}}}"#
            )
        );
    }

    #[test]
    fn a_topic_is_told_less_and_of_what_was_never_told_nothing_is() {
        assert_eq!(
            topic_message(&event(Kind::Publish), Some(STORED.as_bytes())).unwrap(),
            r#"{"user":{"name":"ann"},"timestamp":"1970-01-01T00:00:01.000Z","level":"info","namespace":"info:package:put","body":{"name":"@acme/tool","version":"1.0.0","dist-tags":{"latest":"1.0.0"}}}"#
        );
        assert_eq!(sent(&event(Kind::Deprecate), IndexFormat::InBody), None);
        assert_eq!(sent(&event(Kind::Publish).refused("taken"), IndexFormat::InBody), None);
        // The package is gone since.
        let gone = log(&event(Kind::Publish), None, "id", &Secret::new("x"), IndexFormat::InBody).unwrap();
        assert!(gone.ends_with(r#""body":{"name":"@acme/tool","version":"1.0.0"}}"#), "{gone}");
    }
}
