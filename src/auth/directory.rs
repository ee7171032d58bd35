//! GitHub as the directory of people: members of organisations and teams, as `npm org` and `npm team` list them. Each caller
//! sees what GitHub shows them.

use super::caller::User;
use super::github::unavailable;
use super::{Auth, Error};
use crate::providers::{self, Member};
use crate::secret::Secret;

impl Auth {
    fn token_for_directory(user: &User) -> Result<&Secret, Error> {
        // An account with a password here, or a token that an operator made, is nobody at GitHub.
        user.github.as_ref().map(super::caller::HeldToken::secret).ok_or(Error::NotInDirectory)
    }

    /// The members of an organisation.
    pub async fn members(&self, user: &User, organization: &str) -> Result<Vec<Member>, Error> {
        let token = Self::token_for_directory(user)?;
        self.github()?.client.members(token, organization).await.map_err(|error| told(&error))
    }

    /// The slugs of an organisation's teams.
    pub async fn teams(&self, user: &User, organization: &str) -> Result<Vec<String>, Error> {
        let token = Self::token_for_directory(user)?;
        let teams = self.github()?.client.org_teams(token, organization).await.map_err(|error| told(&error))?;
        Ok(teams.into_iter().map(|team| team.slug).collect())
    }

    /// The members of a team.
    pub async fn team_members(&self, user: &User, organization: &str, team: &str) -> Result<Vec<String>, Error> {
        let token = Self::token_for_directory(user)?;
        self.github()?.client.team_members(token, organization, team).await.map_err(|error| told(&error))
    }
}

fn told(error: &providers::Error) -> Error {
    match error {
        providers::Error::NotFound | providers::Error::Forbidden | providers::Error::Rejected => Error::NotInDirectory,
        other => unavailable(other),
    }
}
