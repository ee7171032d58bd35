//! `npm org`, `npm team` and the lists of `npm access`: what GitHub and the rules say. None of it can be changed from npm, and
//! the answer says where it can.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::error::{ApiError, MANAGED_ELSEWHERE};
use super::extract::{Account, Identity, Organization, Person, Team, UserName};
use super::respond;
use crate::app::App;
use crate::auth::Principal;

/// The members of an organisation and what they are there.
pub(super) async fn members(
    State(app): State<App>,
    Person(user): Person,
    Organization(organization): Organization,
) -> Result<Response, ApiError> {
    let members = app.registry.auth().members(&user, &organization).await?;
    let roles: BTreeMap<String, &str> =
        members.into_iter().map(|member| (member.login, if member.is_owner { "owner" } else { "developer" })).collect();
    Ok(respond::json(StatusCode::OK, &roles))
}

/// The teams of an organisation, as `organisation:team`.
pub(super) async fn teams(
    State(app): State<App>,
    Person(user): Person,
    Organization(organization): Organization,
) -> Result<Response, ApiError> {
    let teams = app.registry.auth().teams(&user, &organization).await?;
    let names: Vec<String> = teams.into_iter().map(|team| format!("{organization}:{team}")).collect();
    Ok(respond::json(StatusCode::OK, &names))
}

/// The members of a team.
pub(super) async fn team_members(
    State(app): State<App>,
    Person(user): Person,
    Organization(organization): Organization,
    Team(team): Team,
) -> Result<Response, ApiError> {
    Ok(respond::json(StatusCode::OK, &app.registry.auth().team_members(&user, &organization, &team).await?))
}

/// The packages that the rules let an organisation's members read or change.
pub(super) async fn packages_of_organization(
    State(app): State<App>,
    Identity(caller): Identity,
    Organization(organization): Organization,
) -> Result<Response, ApiError> {
    let whom = [Principal::Organization(organization.to_lowercase())];
    Ok(respond::json(StatusCode::OK, &app.registry.packages_of(&caller, &whom)?))
}

/// The packages that the rules let a team's members read or change.
pub(super) async fn packages_of_team(
    State(app): State<App>,
    Identity(caller): Identity,
    Organization(organization): Organization,
    Team(team): Team,
) -> Result<Response, ApiError> {
    let whom = [Principal::Team(format!("{organization}/{team}").to_lowercase())];
    Ok(respond::json(StatusCode::OK, &app.registry.packages_of(&caller, &whom)?))
}

/// The packages that the rules let a user read or change by name.
pub(super) async fn packages_of_user(
    State(app): State<App>,
    Identity(caller): Identity,
    UserName(user): UserName,
) -> Result<Response, ApiError> {
    let whom = [Principal::User(user.to_lowercase()), Principal::GitHubUser(user.to_lowercase())];
    Ok(respond::json(StatusCode::OK, &app.registry.packages_of(&caller, &whom)?))
}

/// Members and teams are GitHub's.
pub(super) async fn changed_at_github(State(app): State<App>, Account(_): Account) -> ApiError {
    let sentence = if app.registry.auth().has_github() {
        "Organisations and teams are GitHub's: change their members there."
    } else {
        "This registry has no organisations and teams: who may do what is said by `[[package]]` in its settings."
    };
    ApiError::saying(&MANAGED_ELSEWHERE, sentence)
}

/// Rights are in the settings.
pub(super) async fn changed_in_settings(Account(_): Account) -> ApiError {
    let sentence = "Who may read and change a package is said by `[[package]]` in the settings of this registry: ask whoever runs it.";
    ApiError::saying(&MANAGED_ELSEWHERE, sentence)
}
