//! GitHub's REST API and its ways of signing in, of the public service and of Enterprise servers old and new.
//!
//! A 401 means "the caller's credentials" only where the caller's credentials were sent. Where the app's or the service's
//! own were, it means that our settings are wrong, and must not end anybody's session.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::{Url, form_urlencoded};

use super::client::{Client, Reply, Request, address, is_bounded, is_sendable, sensitive};
use super::settings::is_github_com;
use super::{BuildError, Error, Settings};
use crate::secret::Secret;

const ACCEPT_GITHUB: &str = "application/vnd.github+json";
const ACCEPT_JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// The version of the API that this is written for. Servers that know no versions ignore it.
const API_VERSION: (&str, &str) = ("x-github-api-version", "2022-11-28");

/// Of one answer. A page of a hundred teams, the largest of what is asked for, has some 500 KB.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The most that GitHub puts on a page.
const PAGE_LENGTH: usize = 100;

/// Beyond this a list is refused and not cut off: whoever is missing in it would be taken for no member.
const MAX_PAGES: usize = 50;

/// What the older system called its authorisations, so that people find theirs.
const AUTHORIZATION_NOTE: &str = "codebox private npm registry";

/// The grant of the device flow (RFC 8628, 3.4).
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How long a device code may be good for, whatever GitHub says (it says 15 minutes), and how far apart its polls are.
const MAX_DEVICE_SECONDS: u64 = 60 * 60;
const MAX_POLL_SECONDS: u64 = 60;
/// What holds when GitHub does not say (RFC 8628, 3.2; 15 minutes is GitHub's own).
const DEFAULT_DEVICE_SECONDS: u64 = 15 * 60;
const DEFAULT_POLL_SECONDS: u64 = 5;

/// A user code is typed by hand; GitHub's have 9 characters.
const MAX_USER_CODE: usize = 32;

const WRONG_APP: &str = "the app's credentials are wrong";
const NO_APP: &str = "no app is set up";

/// A GitHub. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct GitHub {
    client: Client,
    settings: Arc<Settings>,
}

/// A user, as GitHub knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Stays when the login changes.
    pub id: u64,
    /// In GitHub's spelling.
    pub login: String,
    /// As the user wrote it; not unique.
    pub name: Option<String>,
    /// The public one.
    pub email: Option<String>,
    /// A picture.
    pub avatar_url: Option<String>,
    /// What the token may do, as `X-OAuth-Scopes` or the app's authorisation says; empty for tokens that have no scopes
    /// but permissions.
    pub scopes: Vec<String>,
}

/// A team of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// The organisation's login: in GitHub's spelling where GitHub gave it, else as it was asked for.
    pub organization: String,
    /// What the team is called in addresses.
    pub slug: String,
    /// What people call it.
    pub name: String,
}

/// A member of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// In GitHub's spelling.
    pub login: String,
    /// True for those who administer the organisation.
    pub is_owner: bool,
}

/// What somebody may do in a repository, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See it.
    Read,
    /// Manage issues.
    Triage,
    /// Push.
    Write,
    /// Change what is not dangerous in its settings.
    Maintain,
    /// All.
    Admin,
}

/// GitHub's words. An organisation's own roles have others.
impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "read" | "pull" => Ok(Self::Read),
            "triage" => Ok(Self::Triage),
            "write" | "push" => Ok(Self::Write),
            "maintain" => Ok(Self::Maintain),
            "admin" => Ok(Self::Admin),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Triage => "triage",
            Self::Write => "write",
            Self::Maintain => "maintain",
            Self::Admin => "admin",
        })
    }
}

/// A device flow that has begun (RFC 8628): the user types the code on the page, and we poll.
#[derive(Debug, Clone)]
pub struct Device {
    /// For [`GitHub::poll_device`].
    pub device_code: Secret,
    /// For the user. Whoever signs in with it lets us in, so it is shown to the one who asked and to nobody else.
    pub user_code: String,
    /// The page to type it on: an http or https URL.
    pub verification_uri: String,
    /// How long the codes are good for.
    pub expires_in: Duration,
    /// The shortest pause between two polls.
    pub interval: Duration,
}

/// How a device flow stands.
#[derive(Debug, Clone)]
pub enum DevicePoll {
    /// The user has not typed the code yet.
    Pending {
        /// True when the polls come too fast: the pause grows by five seconds (RFC 8628, 3.5).
        slower: bool,
    },
    /// The token.
    Done(Secret),
}

/// Whose credentials a request is sent with.
#[derive(Clone, Copy)]
enum As<'a> {
    Nobody,
    Token(&'a Secret),
    Service,
    App,
}

#[derive(Deserialize)]
struct UserAnswer {
    id: u64,
    login: String,
    name: Option<String>,
    email: Option<String>,
    avatar_url: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    user: UserAnswer,
    scopes: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

#[derive(Deserialize)]
struct MembershipAnswer {
    state: String,
    organization: Account,
}

#[derive(Deserialize)]
struct TeamAnswer {
    slug: String,
    name: String,
    organization: Option<Account>,
}

#[derive(Deserialize)]
struct PermissionAnswer {
    permission: String,
    role_name: Option<String>,
}

#[derive(Deserialize)]
struct WithId {
    id: u64,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    id: u64,
    owner: WithId,
}

/// What the pages under `login/` answer: GitHub says 200 to failures too.
#[derive(Deserialize)]
struct OAuthAnswer {
    error: Option<String>,
    access_token: Option<Secret>,
    device_code: Option<Secret>,
    user_code: Option<String>,
    verification_uri: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
}

#[derive(Deserialize)]
struct AuthorizationAnswer {
    id: u64,
    token: Option<Secret>,
}

impl GitHub {
    /// Sets it up. Makes no connection.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(settings: Settings) -> Result<Self, BuildError> {
        let settings = settings.checked()?;
        let client = Client::new(settings.timeout).map_err(BuildError::Client)?;
        Ok(Self { client, settings: Arc::new(settings) })
    }

    /// Whether it left the last question without an answer.
    pub fn is_failing(&self) -> bool {
        self.client.is_failing()
    }

    /// The settings; the paths of their addresses end with a slash.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// True for GitHub's own service (`api.github.com` and `*.ghe.com`), which took password authorisations away in 2020.
    pub fn is_github_com(&self) -> bool {
        is_github_com(&self.settings.api_url)
    }

    /// Whose a token of our app is.
    ///
    /// An Enterprise server that does not know the token is asked in the older form too, with the token in the path: old
    /// servers know only that. Not about tokens that say what they are: those are younger than such servers.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it is no token of our app, or no longer.
    pub async fn check_app_token(&self, token: &Secret) -> Result<Profile, Error> {
        let answer = self.token_answer(token).await?;
        Ok(answer.user.into_profile(answer.scopes.unwrap_or_default()))
    }

    /// Whose a token is that need not be our app's: a personal access token has no app.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it is not good, or was given to another OAuth app: who signs in somewhere else must not
    /// thereby let that somewhere in here.
    pub async fn user(&self, token: &Secret) -> Result<Profile, Error> {
        let request = self.api(Method::GET, &["user"], As::Token(token))?;
        let reply = self.send(request).await?.judge()?;
        let app = reply.headers.get("x-oauth-client-id").map(HeaderValue::as_bytes);
        if app.is_some_and(|app| !app.is_empty() && Some(app) != self.settings.client_id.as_deref().map(str::as_bytes))
        {
            return Err(Error::Rejected);
        }
        let scopes = reply.header("x-oauth-scopes").unwrap_or_default().split(',').map(str::trim);
        let scopes = scopes.filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        Ok(reply.json::<UserAnswer>()?.into_profile(scopes))
    }

    /// The logins of the organisations that the token's owner is an active member of, as far as the token shows them:
    /// `read:org`, and where an organisation asks for it, its consent to the app or a single sign-on.
    pub async fn organizations(&self, token: &Secret) -> Result<Vec<String>, Error> {
        let parts = ["user", "memberships", "orgs"];
        let all: Vec<MembershipAnswer> = self.list(&parts, &[("state", "active")], As::Token(token)).await?;
        // Old servers do not know the parameter.
        let active = all.into_iter().filter(|membership| membership.state == "active");
        Ok(active.map(|membership| membership.organization.login).collect())
    }

    /// The teams that the token's owner is in, of all organisations that the token shows.
    pub async fn teams(&self, token: &Secret) -> Result<Vec<Team>, Error> {
        let all: Vec<TeamAnswer> = self.list(&["user", "teams"], &[], As::Token(token)).await?;
        let team = |team: TeamAnswer| {
            let organization = team.organization.ok_or(Error::BadAnswer("a team without an organisation"))?;
            Ok(Team { organization: organization.login, slug: team.slug, name: team.name })
        };
        all.into_iter().map(team).collect()
    }

    /// What a user may do in a repository, asked with the service token. `None` when it is nothing, or when there is no
    /// such repository under this name, or no such user.
    pub async fn repository_role(&self, owner: &str, repo: &str, login: &str) -> Result<Option<Role>, Error> {
        let parts = ["repos", owner, repo, "collaborators", login, "permission"];
        let reply = match self.api(Method::GET, &parts, As::Service) {
            Ok(request) => self.send(request).await?,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        if is_moved(&reply) {
            return Ok(None);
        }
        match reply.json::<PermissionAnswer>() {
            Ok(answer) => answer.role(),
            Err(Error::NotFound) => Ok(None),
            Err(Error::Rejected) => Err(Error::BadAnswer("the service token is not good")),
            Err(error) => Err(error),
        }
    }

    /// The numbers of a repository and of its owner, which stay when their names change or pass to somebody else.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for a repository that now has another name, and for one that the token does not show.
    pub async fn repository_ids(&self, token: Option<&Secret>, owner: &str, repo: &str) -> Result<(u64, u64), Error> {
        let request = self.api(Method::GET, &["repos", owner, repo], token.map_or(As::Nobody, As::Token))?;
        let reply = self.send(request).await?;
        if is_moved(&reply) {
            return Err(Error::NotFound);
        }
        let answer: RepositoryAnswer = reply.json()?;
        Ok((answer.id, answer.owner.id))
    }

    /// Ends a token of our app. One that GitHub does not know has ended already.
    pub async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        let mut reply = self.ask_about_token(Method::DELETE, token).await?;
        if reply.status == StatusCode::NOT_FOUND && self.may_be_old(token) {
            reply = self.ask_in_the_old_form(Method::DELETE, token).await?;
        }
        match reply.judge() {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(Error::Rejected) => Err(Error::BadAnswer(WRONG_APP)),
            Err(error) => Err(error),
        }
    }

    /// The page to send a browser to, for the web flow with PKCE (RFC 7636, S256). People without an account are not
    /// invited to make one.
    ///
    /// # Errors
    /// [`Error::BadAnswer`] when no app is set up.
    pub fn authorize_url(
        &self,
        state: &str,
        challenge: &str,
        redirect_uri: &str,
        scopes: &[&str],
    ) -> Result<Url, Error> {
        let mut url = address(&self.settings.web_url, &["login", "oauth", "authorize"])?;
        let mut query = url.query_pairs_mut();
        query
            .append_pair("client_id", self.client_id()?)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state)
            .append_pair("code_challenge", challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("allow_signup", "false");
        if !scopes.is_empty() {
            query.append_pair("scope", &scopes.join(" "));
        }
        drop(query);
        Ok(url)
    }

    /// The token for the code that the web flow came back with.
    ///
    /// # Errors
    /// [`Error::OAuth`] when GitHub refuses, as with `bad_verification_code`.
    pub async fn exchange_code(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<Secret, Error> {
        if !is_bounded(code) {
            return Err(Error::oauth("bad_verification_code"));
        }
        let (client_id, client_secret) = self.app()?;
        let fields = [
            ("client_id", client_id),
            ("client_secret", client_secret.expose()),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        let answer = self.sign_in(&["login", "oauth", "access_token"], &fields).await?;
        match answer.error {
            Some(code) => Err(Error::oauth(&code)),
            None => token_of(answer.access_token),
        }
    }

    /// Begins a device flow. It needs no secret of the app, but has to be switched on in the app.
    ///
    /// # Errors
    /// [`Error::OAuth`] when GitHub refuses, as with `device_flow_disabled`.
    pub async fn start_device(&self, scopes: &[&str]) -> Result<Device, Error> {
        let scope = scopes.join(" ");
        let fields = [("client_id", self.client_id()?), ("scope", &scope)];
        let answer = self.sign_in(&["login", "device", "code"], &fields).await?;
        if let Some(code) = answer.error {
            return Err(Error::oauth(&code));
        }
        let user_code = answer.user_code.filter(|code| is_bounded(code) && code.len() <= MAX_USER_CODE);
        let page = answer.verification_uri.filter(|page| is_page(page));
        let device_code = answer.device_code.filter(|code| is_bounded(code.expose()));
        let (Some(device_code), Some(user_code), Some(verification_uri)) = (device_code, user_code, page) else {
            return Err(Error::BadAnswer("a device flow without its codes"));
        };
        let expires_in = answer.expires_in.unwrap_or(DEFAULT_DEVICE_SECONDS).min(MAX_DEVICE_SECONDS);
        let interval = answer.interval.unwrap_or(DEFAULT_POLL_SECONDS).clamp(1, MAX_POLL_SECONDS);
        Ok(Device {
            device_code,
            user_code,
            verification_uri,
            expires_in: Duration::from_secs(expires_in),
            interval: Duration::from_secs(interval),
        })
    }

    /// Asks once whether the user has typed the code.
    ///
    /// # Errors
    /// [`Error::OAuth`] when it is over, as with `access_denied` and `expired_token`.
    pub async fn poll_device(&self, device_code: &Secret) -> Result<DevicePoll, Error> {
        let fields =
            [("client_id", self.client_id()?), ("device_code", device_code.expose()), ("grant_type", DEVICE_GRANT)];
        let answer = self.sign_in(&["login", "oauth", "access_token"], &fields).await?;
        match answer.error.as_deref() {
            None => token_of(answer.access_token).map(DevicePoll::Done),
            Some("authorization_pending") => Ok(DevicePoll::Pending { slower: false }),
            Some("slow_down") => Ok(DevicePoll::Pending { slower: true }),
            Some(code) => Err(Error::oauth(code)),
        }
    }

    /// A token for a user and their password, as the older system got it from the Enterprise servers of its time.
    ///
    /// A server shows a token only when it makes it. So where an authorisation of our app is there already, it is deleted
    /// and made anew, and the token that the user had before ends.
    ///
    /// # Errors
    /// [`Error::OneTimeCode`] when one is needed, or the given one is not right. [`Error::NotFound`] when the server does
    /// not offer this; GitHub's own service does not, and is not sent the password.
    pub async fn password_authorization(
        &self,
        user: &str,
        password: &Secret,
        one_time_code: Option<&str>,
        scopes: &[&str],
    ) -> Result<Secret, Error> {
        if self.is_github_com() {
            return Err(Error::NotFound);
        }
        let (client_id, client_secret) = self.app()?;
        let credentials = password_headers(user, password, one_time_code)?;
        let wish = json!({ "client_secret": client_secret.expose(), "scopes": scopes, "note": AUTHORIZATION_NOTE });
        let call = async |method: Method, parts: &[&str], body: Option<serde_json::Value>| {
            let mut request = self.api(method, parts, As::Nobody)?;
            request.headers.extend(credentials.iter().cloned());
            if let Some(body) = body {
                request = request.with_body(ACCEPT_JSON, body.to_string());
            }
            self.send(request).await?.judge()
        };

        let reply = call(Method::PUT, &["authorizations", "clients", client_id], Some(wish.clone())).await?;
        let AuthorizationAnswer { id, token } = reply.json()?;
        if let Some(token) = token.filter(|token| !token.expose().is_empty()) {
            return token_of(Some(token));
        }
        match call(Method::DELETE, &["authorizations", &id.to_string()], None).await {
            // Somebody else was faster, perhaps the same user on another machine.
            Ok(_) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let mut wish = wish;
        wish["client_id"] = client_id.into();
        let reply = call(Method::POST, &["authorizations"], Some(wish)).await?;
        token_of(reply.json::<AuthorizationAnswer>()?.token)
    }

    /// Everybody in an organisation, as far as the token shows them: of an organisation that its owner is not in, nobody.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the token's owner is not in it: GitHub would lead on to the public members only.
    pub async fn members(&self, token: &Secret, org: &str) -> Result<Vec<Member>, Error> {
        let mut members = Vec::new();
        for (role, is_owner) in [("admin", true), ("member", false)] {
            let parts = ["orgs", org, "members"];
            let all: Result<Vec<Account>, Error> = self.list(&parts, &[("role", role)], As::Token(token)).await;
            let all = all.map_err(|error| if error.is_redirect() { Error::Forbidden } else { error })?;
            members.extend(all.into_iter().map(|Account { login }| Member { login, is_owner }));
        }
        Ok(members)
    }

    /// The teams of an organisation that the token shows.
    pub async fn org_teams(&self, token: &Secret, org: &str) -> Result<Vec<Team>, Error> {
        let all: Vec<TeamAnswer> = self.list(&["orgs", org, "teams"], &[], As::Token(token)).await?;
        let team = |team: TeamAnswer| {
            let organization = team.organization.map_or_else(|| org.to_owned(), |organization| organization.login);
            Team { organization, slug: team.slug, name: team.name }
        };
        Ok(all.into_iter().map(team).collect())
    }

    /// The logins of a team's members, those of the teams below it included.
    pub async fn team_members(&self, token: &Secret, org: &str, slug: &str) -> Result<Vec<String>, Error> {
        let parts = ["orgs", org, "teams", slug, "members"];
        let all: Vec<Account> = self.list(&parts, &[], As::Token(token)).await?;
        Ok(all.into_iter().map(|account| account.login).collect())
    }

    async fn token_answer(&self, token: &Secret) -> Result<TokenAnswer, Error> {
        let mut reply = self.ask_about_token(Method::POST, token).await?;
        if reply.status == StatusCode::NOT_FOUND && self.may_be_old(token) {
            reply = self.ask_in_the_old_form(Method::GET, token).await?;
        }
        if reply.status == StatusCode::UNPROCESSABLE_ENTITY {
            return Err(Error::Rejected);
        }
        reply.json().map_err(|error| match error {
            Error::NotFound => Error::Rejected,
            Error::Rejected => Error::BadAnswer(WRONG_APP),
            other => other,
        })
    }

    /// Whether a token can be one of an Enterprise server that knows the older form only.
    fn may_be_old(&self, token: &Secret) -> bool {
        // `gho_`, `ghu_` and so on.
        let says_what_it_is = token.expose().starts_with("gh") && token.expose().as_bytes().get(3) == Some(&b'_');
        !self.is_github_com() && !says_what_it_is
    }

    /// `/applications/{client_id}/tokens/{token}`, whatever it answers.
    async fn ask_in_the_old_form(&self, method: Method, token: &Secret) -> Result<Reply, Error> {
        let parts = ["applications", self.client_id()?, "tokens", token.expose()];
        // What is no part of a path is no token of an old server.
        let request = self.api(method, &parts, As::App).map_err(|error| match error {
            Error::NotFound => Error::Rejected,
            other => other,
        })?;
        self.send(request).await
    }

    /// `/applications/{client_id}/token`, whatever it answers; a 422 to DELETE comes back as the 404 that it means.
    async fn ask_about_token(&self, method: Method, token: &Secret) -> Result<Reply, Error> {
        if !is_sendable(token.expose()) {
            return Err(Error::Rejected);
        }
        let is_deletion = method == Method::DELETE;
        let request = self.api(method, &["applications", self.client_id()?, "token"], As::App)?;
        let body = json!({ "access_token": token.expose() }).to_string();
        let mut reply = self.send(request.with_body(ACCEPT_JSON, body)).await?;
        if is_deletion && reply.status == StatusCode::UNPROCESSABLE_ENTITY {
            reply.status = StatusCode::NOT_FOUND;
        }
        Ok(reply)
    }

    /// Every page of a list. GitHub says where the next one is in `Link`; where a proxy has taken that away, a page that
    /// is full is taken for one that has a next.
    async fn list<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
        who: As<'_>,
    ) -> Result<Vec<T>, Error> {
        let mut url = address(&self.settings.api_url, parts)?;
        url.query_pairs_mut().extend_pairs(query).append_pair("per_page", &PAGE_LENGTH.to_string());
        let first = url.clone();
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let reply = self.send(self.api_at(Method::GET, url, who)?).await?.judge()?;
            let link = links(&reply);
            let entries: Vec<T> = reply.json()?;
            let is_full = entries.len() >= PAGE_LENGTH;
            all.extend(entries);
            url = match link {
                Some(link) => match next_page(&link) {
                    Some(next) => self.own(&first, next)?,
                    None => return Ok(all),
                },
                None if is_full => {
                    let mut next = first.clone();
                    next.query_pairs_mut().append_pair("page", &(page + 1).to_string());
                    next
                }
                None => return Ok(all),
            };
        }
        Err(Error::BadAnswer("a list of too many pages"))
    }

    /// The address that a `Link` names, when it is one of this GitHub's API. The token goes along, so nowhere else.
    fn own(&self, first: &Url, next: &str) -> Result<Url, Error> {
        let next = first.join(next).map_err(|_| Error::BadAnswer("a next page at no address"))?;
        let is_own = next.origin() == self.settings.api_url.origin();
        if !is_own || !next.username().is_empty() || next.password().is_some() {
            return Err(Error::BadAnswer("a next page that is elsewhere"));
        }
        Ok(next)
    }

    fn api(&self, method: Method, parts: &[&str], who: As<'_>) -> Result<Request, Error> {
        self.api_at(method, address(&self.settings.api_url, parts)?, who)
    }

    fn api_at(&self, method: Method, url: Url, who: As<'_>) -> Result<Request, Error> {
        let mut request = Request::new(method, url, ACCEPT_GITHUB);
        let (name, version) = API_VERSION;
        request.headers.insert(name, HeaderValue::from_static(version));
        request.headers.extend(self.authorization(who)?);
        Ok(request)
    }

    fn authorization(&self, who: As<'_>) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        let text = match who {
            As::Nobody => return Ok(None),
            As::Token(token) if !is_sendable(token.expose()) => return Err(Error::Rejected),
            As::Token(token) => self.token_text(token),
            As::Service => match &self.settings.service_token {
                Some(token) => self.token_text(token),
                None => return Err(Error::BadAnswer("no service token is set up")),
            },
            As::App => {
                let (client_id, client_secret) = self.app()?;
                basic(client_id, client_secret.expose())
            }
        };
        Ok(sensitive(header::AUTHORIZATION, &text))
    }

    /// `token` is what the documentation of old servers knows; the public service calls it `Bearer` by now.
    fn token_text(&self, token: &Secret) -> String {
        let scheme = if self.is_github_com() { "Bearer" } else { "token" };
        format!("{scheme} {}", token.expose())
    }

    fn client_id(&self) -> Result<&str, Error> {
        self.settings.client_id.as_deref().ok_or(Error::BadAnswer(NO_APP))
    }

    fn app(&self) -> Result<(&str, &Secret), Error> {
        Ok((self.client_id()?, self.settings.client_secret.as_ref().ok_or(Error::BadAnswer(NO_APP))?))
    }

    async fn send(&self, request: Request) -> Result<Reply, Error> {
        self.client.send(request, MAX_ANSWER_BYTES).await
    }

    /// Sends a form to one of the pages under `login/`. An OAuth error may come with a status of 400 (RFC 6749, 5.2).
    async fn sign_in(&self, parts: &[&str], fields: &[(&str, &str)]) -> Result<OAuthAnswer, Error> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::new(Method::POST, address(&self.settings.web_url, parts)?, ACCEPT_JSON);
        let mut reply = self.send(request.with_body(FORM, form)).await?;
        if reply.status == StatusCode::BAD_REQUEST {
            reply.status = StatusCode::OK;
        }
        reply.json()
    }
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GitHub").field(&self.settings).finish()
    }
}

impl UserAnswer {
    fn into_profile(self, scopes: Vec<String>) -> Profile {
        let Self { id, login, name, email, avatar_url } = self;
        Profile { id, login, name, email, avatar_url, scopes }
    }
}

impl PermissionAnswer {
    /// `permission` knows only read, write and admin, and says for each other role which of them it contains.
    fn role(&self) -> Result<Option<Role>, Error> {
        if self.permission == "none" {
            return Ok(None);
        }
        let role =
            self.role_name.as_deref().and_then(|name| name.parse().ok()).or_else(|| self.permission.parse().ok());
        role.map(Some).ok_or(Error::BadAnswer("a permission that is not known"))
    }
}

/// GitHub leads on from the old name of a repository to its new one. Nobody may rely on an old name: it is free.
fn is_moved(reply: &Reply) -> bool {
    matches!(reply.status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT)
}

/// All `Link` headers as one; `None` when there is none.
fn links(reply: &Reply) -> Option<String> {
    let links: Vec<&str> = reply.headers.get_all(header::LINK).iter().filter_map(|link| link.to_str().ok()).collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    link.split('<').skip(1).find_map(|entry| {
        let (target, parameters) = entry.split_once('>')?;
        let is_next = |parameter: &str| {
            let relation = parameter.trim().trim_end_matches(',').trim_end().strip_prefix("rel=");
            relation.is_some_and(|relation| relation.trim_matches('"').split(' ').any(|word| word == "next"))
        };
        parameters.split(';').any(is_next).then_some(target)
    })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// What a request with a password is sent with.
fn password_headers(
    user: &str,
    password: &Secret,
    one_time_code: Option<&str>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    // A colon ends the name in Basic credentials (RFC 7617, 2), so this would be sent as another user's.
    if user.contains(':') || !is_bounded(user) || !is_bounded(password.expose()) {
        return Err(Error::Rejected);
    }
    let mut headers = Vec::new();
    headers.extend(sensitive(header::AUTHORIZATION, &basic(user, password.expose())));
    if let Some(code) = one_time_code {
        let is_code = is_sendable(code) && code.len() <= MAX_USER_CODE;
        let code = is_code.then(|| sensitive(HeaderName::from_static("x-github-otp"), code)).flatten();
        headers.push(code.ok_or(Error::OneTimeCode)?);
    }
    Ok(headers)
}

fn token_of(token: Option<Secret>) -> Result<Secret, Error> {
    let token = token.filter(|token| is_sendable(token.expose()));
    token.ok_or(Error::BadAnswer("no token where there should be one"))
}

/// True for what can be shown as a link.
fn is_page(text: &str) -> bool {
    is_bounded(text)
        && Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        })
}
