//! `/-/holdfast/v1/events`: the record of events, for administrators.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde_json::json;

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Identity, query_value};
use super::respond;
use crate::app::App;
use crate::events::Filter;
use crate::npm::Timestamp;
use crate::registry::MAX_EVENTS;

/// A page of the record: `since`, `until`, `kind`, `package`, `who`, `refused=true`, `limit`, and `after`, the `next` of the page
/// before.
pub(super) async fn list(State(app): State<App>, Identity(caller): Identity, uri: Uri) -> Result<Response, ApiError> {
    let value = |key| query_value(&uri, key);
    let wrong = |key: &str, expected: &str| ApiError::saying(&BAD_REQUEST, format!("`{key}` must be {expected}."));
    let instant = |key: &'static str| {
        let expected = "a day such as `2026-11-30`, or an instant such as `2026-11-30T12:00:00Z`";
        value(key).map(|text| Timestamp::of_day_or_instant(&text).map_err(|_| wrong(key, expected))).transpose()
    };
    let kinds = value("kind").map(|word| Filter::kind(&word));
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        return Err(wrong("kind", "a kind of event such as `package.publish`, or an area such as `package`"));
    }
    let package = value("package").map(|text| text.parse());
    let filter = Filter {
        since: instant("since")?,
        until: instant("until")?,
        kinds: kinds.unwrap_or_default(),
        package: package
            .transpose()
            .map_err(|_| wrong("package", "a package's name or a pattern such as `@acme/*`"))?,
        who: value("who"),
        refused: value("refused").is_some_and(|text| text == "true"),
    };
    let limit = value("limit").map(|text| text.parse::<usize>());
    let limit = limit.transpose().map_err(|_| wrong("limit", "a number"))?.unwrap_or(MAX_EVENTS);
    let page = app.registry.events(&caller, &filter, value("after").as_deref(), limit).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "events": page.events, "next": page.next })))
}
