//! `/-/package/{package}/trust`: which workflows a package trusts (`npm trust`).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{ApiError, BAD_DOCUMENT, BAD_REQUEST, NO_TRUST};
use super::extract::{Account, Bounded, Id, Package, json as parse};
use super::refused::refused;
use super::respond;
use crate::app::App;
use crate::auth::{Action, IssuerKind, TrustWish, TrustedPublisher};

const MAX_BODY_BYTES: usize = 64 * 1024;
/// npm's word for publishing, which goes with moving tags there.
const PUBLISH: &str = "createPackage";

/// npm's form; `ref`, `repository_id`, `repository_owner_id` and the permissions `tag` and `deprecate` are ours.
#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "type")]
    issuer: String,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    claims: Claims,
}

#[derive(Deserialize, Default)]
struct Claims {
    repository: Option<String>,
    project_path: Option<String>,
    sub: Option<String>,
    workflow_ref: Option<File>,
    ci_config_ref_uri: Option<File>,
    environment: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    repository_id: Option<String>,
    repository_owner_id: Option<String>,
}

#[derive(Deserialize)]
struct File {
    file: String,
}

/// The workflows that a package trusts.
pub(super) async fn list(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
) -> Result<Response, ApiError> {
    let publishers = app.registry.trusted_publishers(&caller, &name).await?;
    let shown: Vec<Value> = publishers.iter().map(|publisher| shown(&app, publisher)).collect();
    Ok(respond::json(StatusCode::OK, &shown))
}

/// Trusts a workflow. npm sends a list with one configuration.
pub(super) async fn add(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Bounded(body): Bounded<MAX_BODY_BYTES>,
) -> Result<Response, ApiError> {
    let body: Value = parse(&body)?;
    let mut configurations: Vec<Value> = match body {
        Value::Array(items) => items,
        single => vec![single],
    };
    let (Some(configuration), true) = (configurations.pop(), configurations.is_empty()) else {
        return Err(ApiError::saying(&BAD_DOCUMENT, "The body must have exactly one configuration."));
    };
    let configuration = serde_json::from_value(configuration)
        .map_err(|error| ApiError::saying(&BAD_DOCUMENT, format!("The configuration cannot be read: {error}.")))?;
    let publisher = app.registry.trust(&caller, &name, wish(configuration)?).await;
    let publisher = publisher.map_err(|error| refused(&app, &caller, &name, error))?;
    Ok(respond::json(StatusCode::CREATED, &vec![shown(&app, &publisher)]))
}

/// Ends the trust in a workflow.
pub(super) async fn remove(
    State(app): State<App>,
    Account(caller): Account,
    Package(name): Package,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let was_there = app.registry.distrust(&caller, &name, &id).await;
    if was_there.map_err(|error| refused(&app, &caller, &name, error))? {
        Ok(respond::done(StatusCode::OK))
    } else {
        Err(ApiError::new(&NO_TRUST))
    }
}

fn wish(configuration: Configuration) -> Result<TrustWish, ApiError> {
    let Configuration { issuer, permissions, claims } = configuration;
    let mut actions = Vec::new();
    for permission in &permissions {
        match permission.as_str() {
            PUBLISH => actions.extend([Action::Publish, Action::Tag]),
            "tag" => actions.push(Action::Tag),
            "deprecate" => actions.push(Action::Deprecate),
            "createStagedPackage" => {
                return Err(ApiError::saying(
                    &BAD_REQUEST,
                    "This registry has no staged publishing: use `--allow-publish`.",
                ));
            }
            other => {
                let sentence = format!("`{}` is nothing that a workflow can be trusted with.", other.escape_debug());
                return Err(ApiError::saying(&BAD_REQUEST, sentence));
            }
        }
    }
    actions.sort();
    actions.dedup();
    Ok(TrustWish {
        issuer,
        repository: claims.repository.or(claims.project_path).or(claims.sub).unwrap_or_default(),
        workflow: claims.workflow_ref.or(claims.ci_config_ref_uri).map(|file| file.file),
        environment: claims.environment,
        reference: claims.reference,
        actions,
        repository_id: claims.repository_id,
        owner_id: claims.repository_owner_id,
    })
}

/// As npm shows it: the names of the claims are the issuer's.
fn shown(app: &App, publisher: &TrustedPublisher) -> Value {
    let mut permissions = Vec::new();
    for action in &publisher.actions {
        match action {
            Action::Publish => permissions.push(PUBLISH),
            Action::Tag if publisher.actions.contains(&Action::Publish) => {}
            other => permissions.push(other.as_str()),
        }
    }
    let (repository, file) = match app.registry.auth().issuer_kind(&publisher.issuer) {
        Some(IssuerKind::GitLab) => ("project_path", "ci_config_ref_uri"),
        Some(IssuerKind::Generic) => ("sub", "workflow_ref"),
        Some(IssuerKind::GitHub) | None => ("repository", "workflow_ref"),
    };
    let mut claims = json!({ repository: publisher.repository });
    if let Some(workflow) = &publisher.workflow {
        claims[file] = json!({ "file": workflow });
    }
    let others = [
        ("environment", &publisher.environment),
        ("ref", &publisher.reference),
        ("repository_id", &publisher.repository_id),
        ("repository_owner_id", &publisher.owner_id),
    ];
    for (name, value) in others {
        if let Some(value) = value {
            claims[name] = value.as_str().into();
        }
    }
    json!({
        "id": publisher.id,
        "type": publisher.issuer,
        "permissions": permissions,
        "claims": claims,
        "created": publisher.created,
        "createdBy": publisher.created_by.name,
    })
}
