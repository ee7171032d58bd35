//! `PUT /{package}`, and the `-rev` routes that npm uses to change and remove what is published.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::error::{ApiError, BAD_REQUEST};
use super::extract::{Account, Bounded, Chunks, Identity, Package, Revision};
use super::refused::refused;
use super::respond;
use crate::app::App;
use crate::registry::{self, Intake, Published};
use crate::traces;

/// A document of thousands of versions without readmes.
const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// Publishes a version, or, without a tarball in the body, changes what is said of versions.
pub(super) async fn put(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    body: Body,
) -> Result<Response, ApiError> {
    let intake = app.registry.intake(&caller, &name);
    taken(&app, intake, body).await.map_err(|error| refused(&app, &caller, &name, error))
}

/// Takes a publish body in, to the end of it also after a refusal.
pub(super) async fn taken(
    app: &App,
    intake: Result<Intake, registry::Error>,
    body: Body,
) -> Result<Response, ApiError> {
    let mut chunks = Chunks::of(body, app.idle);
    let outcome = receive(intake, &mut chunks).await;
    if outcome.is_err() {
        chunks.drain().await;
    }
    let (word, status) = match &outcome {
        Ok(Published::Version(_)) => ("version", StatusCode::CREATED),
        Ok(Published::Metadata) => ("metadata", StatusCode::OK),
        Err(error) => (error.code(), error.status()),
    };
    app.metrics.publish(word);
    outcome.map(|_| respond::done(status))
}

async fn receive(intake: Result<Intake, registry::Error>, chunks: &mut Chunks) -> Result<Published, ApiError> {
    let mut intake = intake?;
    let received = async {
        while let Some(chunk) = chunks.next().await? {
            intake.push(&chunk).await?;
        }
        Ok::<_, ApiError>(())
    };
    traces::step("publish", "receive", received).await?;
    Ok(intake.finish().await?)
}

/// Changes owners, or removes the versions that the document no longer has.
pub(super) async fn put_revision(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Revision(revision): Revision,
    Bounded(body): Bounded<MAX_DOCUMENT_BYTES>,
) -> Result<Response, ApiError> {
    if revision == "undefined" {
        // Yarn classic reads the short form, finds no revision and no owners, and sends a list of one.
        return Err(ApiError::saying(
            &BAD_REQUEST,
            "This client sent no revision, so the change would have undone others': use `npm owner` for this.",
        ));
    }
    let done = app.registry.change_metadata(&caller, &name, body, Some(revision)).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::OK))
}

/// Removes a whole package.
pub(super) async fn delete_revision(
    State(app): State<App>,
    Identity(caller): Identity,
    Package(name): Package,
    Revision(revision): Revision,
) -> Result<Response, ApiError> {
    let done = app.registry.unpublish(&caller, &name, &revision).await;
    done.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::done(StatusCode::OK))
}
