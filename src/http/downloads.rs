//! `/-/downloads/…` and `/-/versions/…`: how often packages are downloaded, as npm's own service tells it.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Identity, Names, Package, PeriodText, package_name};
use super::respond;
use crate::app::App;
use crate::auth::Caller;
use crate::npm::downloads::{Day, Period};
use crate::registry::DownloadCounts;

/// How the days of a period are told.
#[derive(Clone, Copy)]
enum Shape {
    /// As one number.
    Point,
    /// Day by day.
    Range,
}

/// The downloads of all packages, as one number.
pub(super) async fn point_of_all(
    State(app): State<App>,
    Identity(caller): Identity,
    PeriodText(period): PeriodText,
) -> Result<Response, ApiError> {
    of_all(&app, &caller, &period, Shape::Point).await
}

/// The downloads of all packages, day by day.
pub(super) async fn range_of_all(
    State(app): State<App>,
    Identity(caller): Identity,
    PeriodText(period): PeriodText,
) -> Result<Response, ApiError> {
    of_all(&app, &caller, &period, Shape::Range).await
}

/// The downloads of a package, or of several that commas part, as one number.
pub(super) async fn point(
    State(app): State<App>,
    Identity(caller): Identity,
    PeriodText(period): PeriodText,
    Names(names): Names,
) -> Result<Response, ApiError> {
    of(&app, &caller, &period, &names, Shape::Point).await
}

/// The same, day by day.
pub(super) async fn range(
    State(app): State<App>,
    Identity(caller): Identity,
    PeriodText(period): PeriodText,
    Names(names): Names,
) -> Result<Response, ApiError> {
    of(&app, &caller, &period, &names, Shape::Range).await
}

/// The downloads of each version of a package in the last seven days.
pub(super) async fn versions(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
) -> Result<Response, ApiError> {
    let period = period(&app, "last-week", Period::MAX_DAYS)?;
    let counts = app.registry.downloads_by_version(&caller, &name, period).await?;
    Ok(respond::json(StatusCode::OK, &json!({ "package": name.as_str(), "downloads": counts })))
}

async fn of_all(app: &App, caller: &Caller, text: &str, shape: Shape) -> Result<Response, ApiError> {
    let counts = app.registry.downloads_of_all(caller, period(app, text, Period::MAX_DAYS)?).await?;
    Ok(respond::json(StatusCode::OK, &shown(&counts, shape)))
}

async fn of(app: &App, caller: &Caller, text: &str, names: &str, shape: Shape) -> Result<Response, ApiError> {
    let with_name = |name: &str, counts: &DownloadCounts| {
        let mut shown = shown(counts, shape);
        shown["package"] = name.into();
        shown
    };
    if !names.contains(',') {
        let name = package_name(names)?;
        let counts = app.registry.downloads_of(caller, &name, period(app, text, Period::MAX_DAYS)?).await?;
        return Ok(respond::json(StatusCode::OK, &with_name(name.as_str(), &counts)));
    }
    let names = names.split(',').map(package_name).collect::<Result<Vec<_>, _>>()?;
    let period = period(app, text, Period::MAX_DAYS_OF_SEVERAL)?;
    let counted = app.registry.downloads_of_several(caller, names, period).await?;
    let shown: Map<String, Value> = counted
        .into_iter()
        .map(|(name, counts)| (name.to_string(), counts.map(|counts| with_name(name.as_str(), &counts)).into()))
        .collect();
    Ok(respond::json(StatusCode::OK, &shown))
}

fn period(app: &App, text: &str, most: u16) -> Result<Period, ApiError> {
    let read = Period::read(text, Day::of(app.clock.now()), most);
    read.map_err(|error| ApiError::saying(&BAD_REQUEST, format!("The period cannot be used: {error}.")))
}

fn shown(counts: &DownloadCounts, shape: Shape) -> Value {
    let downloads: Value = match shape {
        Shape::Point => counts.days.iter().map(|(_, count)| count).sum::<u64>().into(),
        Shape::Range => {
            counts.days.iter().map(|(day, count)| json!({ "downloads": count, "day": day.to_string() })).collect()
        }
    };
    json!({ "downloads": downloads, "start": counts.period.first.to_string(), "end": counts.period.last.to_string() })
}
