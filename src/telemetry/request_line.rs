//! The line that each request leaves in the log.
//!
//! It reads as a line of `tracing-subscriber` does, and is put together here: through that crate's fields, visitors and
//! formats it costs five times as much, which at a hundred thousand requests a second is a third of a core.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use super::{Form, output};
use crate::clock;
use crate::npm::Timestamp;

/// Under which the line is filtered by level.
const TARGET: &str = "holdfast::http";

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Its id.
    pub id: &'a str,
    /// The trace that it belongs to, where it is recorded.
    pub trace: Option<&'a str>,
    /// Its method.
    pub method: &'a str,
    /// Its path, without what is secret in it.
    pub path: &'a str,
    /// The route's pattern.
    pub route: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The error's code, where it is one.
    pub code: Option<&'a str>,
    /// Who asked, where that is known.
    pub caller: Option<&'a str>,
    /// From where.
    pub address: Option<IpAddr>,
    /// From its head to the head of the answer.
    pub took: Duration,
}

/// Logs a request, where the log is open for it.
pub fn answered(request: &Answered) {
    thread_local! {
        static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    }
    let Some(form) = super::form() else { return the_usual_way(request) };
    if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        return;
    }
    let since = clock::since_1970();
    LINE.with_borrow_mut(|line| {
        line.clear();
        write_line(line, request, form, since);
        output::write(line.as_bytes());
    });
}

/// Where lines are written at once there are few of them, and the span that they are in tells more: on Lambda the id of the
/// invocation.
fn the_usual_way(request: &Answered) {
    let Answered { id, trace, method, path, route, status, code, caller, address, took } = *request;
    let duration_ms = took.as_secs_f64() * 1000.0;
    tracing::info!(
        target: TARGET,
        { request.id = %id,
        trace.id = trace.map(tracing::field::display),
        http.method = %method,
        http.path = %path,
        http.route = route,
        http.status = status,
        code,
        caller,
        client.address = address.map(tracing::field::display),
        duration_ms = format_args!("{duration_ms:.2}") },
        "{method} {path} {status}",
    );
}

fn write_line(line: &mut String, request: &Answered, form: Form, since: Duration) {
    match form {
        Form::Json => write_json(line, request, since),
        Form::Text => write_text(line, request, since, ["", "", "", ""]),
        // As `tracing-subscriber` colours its lines.
        Form::Coloured => write_text(line, request, since, ["\x1b[2m", "\x1b[32m", "\x1b[3m", "\x1b[0m"]),
    }
}

fn write_json(line: &mut String, request: &Answered, since: Duration) {
    let Answered { id, trace, method, path, route, status, code, caller, address, took } = *request;
    push(line, &["{\"timestamp\":\""]);
    push_instant(line, since);
    push(line, &["\",\"level\":\"INFO\",\"fields\":{\"message\":\"", method, " "]);
    push_escaped(line, path);
    push(line, &[" "]);
    push_number(line, status.into(), 1);
    push(line, &["\",\"request.id\":\"", id]);
    if let Some(trace) = trace {
        push(line, &["\",\"trace.id\":\"", trace]);
    }
    push(line, &["\",\"http.method\":\"", method, "\",\"http.path\":\""]);
    push_escaped(line, path);
    push(line, &["\",\"http.route\":\"", route, "\",\"http.status\":"]);
    push_number(line, status.into(), 1);
    for (name, value) in [("code", code), ("caller", caller)] {
        if let Some(value) = value {
            push(line, &[",\"", name, "\":\""]);
            push_escaped(line, value);
            push(line, &["\""]);
        }
    }
    if let Some(address) = address {
        push(line, &[",\"client.address\":\""]);
        push_address(line, address);
        push(line, &["\""]);
    }
    push(line, &[",\"duration_ms\":\""]);
    push_milliseconds(line, took);
    push(line, &["\"},\"target\":\"", TARGET, "\"}\n"]);
}

/// `colours` are those of faint text, the level, names, and their end.
fn write_text(line: &mut String, request: &Answered, since: Duration, colours: [&str; 4]) {
    let Answered { id, trace, method, path, route, status, code, caller, address, took } = *request;
    let [faint, green, italic, end] = colours;
    let name = |line: &mut String, name: &str| push(line, &[" ", italic, name, end, faint, "=", end]);
    push(line, &[faint]);
    push_instant(line, since);
    push(line, &[end, " ", green, " INFO", end, " ", faint, TARGET, end, faint, ":", end, " ", method, " ", path, " "]);
    push_number(line, status.into(), 1);
    let fields =
        [("request.id", Some(id)), ("trace.id", trace), ("http.method", Some(method)), ("http.path", Some(path))];
    for (field, value) in fields {
        if let Some(value) = value {
            name(line, field);
            push(line, &[value]);
        }
    }
    name(line, "http.route");
    push(line, &["\"", route, "\""]);
    name(line, "http.status");
    push_number(line, status.into(), 1);
    for (field, value) in [("code", code), ("caller", caller)] {
        if let Some(value) = value {
            name(line, field);
            push(line, &["\""]);
            line.extend(value.escape_debug());
            push(line, &["\""]);
        }
    }
    if let Some(address) = address {
        name(line, "client.address");
        push_address(line, address);
    }
    name(line, "duration_ms");
    push_milliseconds(line, took);
    push(line, &["\n"]);
}

fn push(line: &mut String, parts: &[&str]) {
    for part in parts {
        line.push_str(part);
    }
}

/// With at least so many digits.
fn push_number(line: &mut String, number: u64, least_digits: usize) {
    let (mut digits, mut at, mut left) = ([b'0'; 20], 20, number);
    while left > 0 || 20 - at < least_digits {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
    line.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

fn push_address(line: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                push(line, &[if at == 0 { "" } else { "." }]);
                push_number(line, part.into(), 1);
            }
        }
        IpAddr::V6(address) => push(line, &[&address.to_string()]),
    }
}

/// An instant since 1970 with microseconds. Its second is the last line's most of the time, and written once.
fn push_instant(line: &mut String, since: Duration) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            let millis = i64::try_from(since.as_secs() * 1000).unwrap_or(i64::MAX);
            *text = Timestamp::from_millis(millis).to_string();
            // Without fractions and `Z`.
            text.truncate("2026-11-30T00:00:00".len());
        }
        line.push_str(text);
    });
    push(line, &["."]);
    push_number(line, since.subsec_micros().into(), 6);
    push(line, &["Z"]);
}

/// With two digits after the point.
fn push_milliseconds(line: &mut String, took: Duration) {
    let hundredths = u64::try_from((took.as_micros() + 5) / 10).unwrap_or(u64::MAX);
    push_number(line, hundredths / 100, 1);
    push(line, &["."]);
    push_number(line, hundredths % 100, 2);
}

/// As it stands within the quotes of JSON.
fn push_escaped(line: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        line.push_str(text);
    } else if let Ok(quoted) = serde_json::to_string(text) {
        line.push_str(quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Duration = Duration::new(1_764_489_674, 1_234_000);

    fn request() -> Answered<'static> {
        Answered {
            id: "0123456789abcdef",
            trace: Some("0af7651916cd43dd8448eb211c80319c"),
            method: "GET",
            path: "/tool",
            route: "/{package}",
            status: 404,
            code: Some("package_not_found"),
            caller: Some("a\"n\\n"),
            address: Some([127, 0, 0, 1].into()),
            took: Duration::from_micros(1_234),
        }
    }

    fn line(request: &Answered, form: Form) -> String {
        let mut line = String::new();
        write_line(&mut line, request, form, SINCE);
        line
    }

    #[test]
    fn a_line_as_json_has_every_field() {
        let line = line(&request(), Form::Json);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "timestamp": "2025-11-30T08:01:14.001234Z",
                "level": "INFO",
                "fields": {
                    "message": "GET /tool 404",
                    "request.id": "0123456789abcdef",
                    "trace.id": "0af7651916cd43dd8448eb211c80319c",
                    "http.method": "GET",
                    "http.path": "/tool",
                    "http.route": "/{package}",
                    "http.status": 404,
                    "code": "package_not_found",
                    "caller": "a\"n\\n",
                    "client.address": "127.0.0.1",
                    "duration_ms": "1.23",
                },
                "target": "holdfast::http",
            })
        );
        assert!(line.ends_with('\n'));
    }

    #[test]
    fn a_line_as_text_is_one_line() {
        assert_eq!(
            line(&request(), Form::Text),
            "2025-11-30T08:01:14.001234Z  INFO holdfast::http: GET /tool 404 request.id=0123456789abcdef \
             trace.id=0af7651916cd43dd8448eb211c80319c http.method=GET http.path=/tool http.route=\"/{package}\" http.status=404 code=\"package_not_found\" \
             caller=\"a\\\"n\\\\n\" client.address=127.0.0.1 duration_ms=1.23\n"
        );
        let bare = Answered { trace: None, code: None, caller: None, address: None, ..request() };
        let bare = line(&bare, Form::Coloured);
        assert!(bare.contains("\x1b[32m INFO\x1b[0m") && !bare.contains("caller"), "{bare}");
    }
}
