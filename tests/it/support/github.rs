//! A GitHub of the test's own, on loopback: people, organisations, repositories, tokens, and the pages of sign-in.
//!
//! It is laid out as GitHub Enterprise is, the API below `/api/v3/` of the host of the pages, so that no test knows a
//! real host. What the API answers has the members that GitHub's published description asks for: `github_standin.rs`
//! holds the two together. The endpoints of OAuth are not in that description; they follow GitHub's documentation.
//!
//! People are kept by id and found by login, whatever its case, as at GitHub: who takes over a login that became free
//! takes over nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, header};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::loopback::Loopback;

/// When everything at this GitHub was made.
const MADE: &str = "2020-01-01T00:00:00Z";
/// How long a code of the device flow is good for, as the answer says. It ends earlier by `expire_device` only.
const DEVICE_SECONDS: u64 = 900;
/// Seconds between two questions for a device's token. GitHub wants five, for which no test should wait.
const DEVICE_INTERVAL: u64 = 1;
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Entries on a page of a list, when the question does not say, and at most.
const PAGE: (usize, usize) = (30, 100);
const OTHER_CLIENT_ID: &str = "Ov23liOtherAppOfSomeone";

/// How it behaves: well, or as services do on bad days. Holds for the API and for the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    #[default]
    Well,
    /// The connection is closed without an answer.
    Down,
    /// Every answer has this status, and a body in the shape of GitHub's errors.
    Error(u16),
    /// Every answer waits, and is right then.
    Slow(Duration),
    /// The limit of requests an hour is used up: 403, with when it ends in `X-RateLimit-Reset`.
    RateLimited,
    /// Too many requests in a short time: 403 with `Retry-After: 7`.
    SecondaryLimited,
    /// 429, with `Retry-After: 7`.
    TooMany,
    /// 200, and the body ends in the middle.
    BrokenJson,
    /// 200, and the body is JSON that says something else.
    WrongShape,
    /// 200, and a page, as captive portals send them.
    Html,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Decoded, with the prefix of the API: `/api/v3/user`.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    /// What `X-GitHub-OTP` said.
    pub(crate) otp: Option<String>,
    pub(crate) body: String,
}

#[derive(Debug, Clone)]
struct User {
    id: u64,
    login: String,
    /// With the one-time code that it needs besides.
    password: Option<(String, Option<String>)>,
}

#[derive(Debug, Clone, Copy)]
struct Membership {
    owner: bool,
    pending: bool,
}

#[derive(Debug, Default)]
struct Team {
    id: u64,
    members: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Organization {
    id: u64,
    login: String,
    members: BTreeMap<u64, Membership>,
    teams: BTreeMap<String, Team>,
}

#[derive(Debug)]
struct Repository {
    id: u64,
    owner: u64,
    name: String,
    roles: BTreeMap<u64, String>,
}

/// Who made a token possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issued {
    ToOurApp,
    ToAnotherApp,
    ByHand,
}

#[derive(Debug, Clone)]
struct Token {
    id: u64,
    user: u64,
    issued: Issued,
    scopes: Vec<String>,
    /// May see every repository.
    service: bool,
}

#[derive(Debug)]
struct Code {
    user: u64,
    scopes: Vec<String>,
    redirect_uri: String,
    challenge: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pending,
    Approved(u64),
    Denied,
    Expired,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    scopes: Vec<String>,
    verdict: Verdict,
    interval: Duration,
    asked: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    web: String,
    api: String,
    old: bool,
    last_id: u64,
    users: Vec<User>,
    organizations: Vec<Organization>,
    repositories: Vec<Repository>,
    tokens: BTreeMap<String, Token>,
    signed_in: Option<u64>,
    deny: bool,
    callback: Option<String>,
    codes: BTreeMap<String, Code>,
    devices: BTreeMap<String, Device>,
    mode: Mode,
    page_size: Option<usize>,
    now: Option<u64>,
    seen: Vec<Seen>,
}

/// A running GitHub. Cheap to clone; ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct GitHub {
    state: Arc<Mutex<State>>,
    _server: Arc<Loopback>,
}

impl GitHub {
    /// The OAuth app that the server under test is.
    pub(crate) const CLIENT_ID: &str = "Iv1.8a61f9b3a7aba766";
    pub(crate) const CLIENT_SECRET: &str = "d1ff1c0de5ec4e70fa11c11e475ec4e7d1ff1c0d";

    /// As github.com is today.
    #[expect(clippy::unused_async, reason = "starting a server is something to wait for, whatever it does inside")]
    pub(crate) async fn start() -> Self {
        Self::listen(false)
    }

    /// As an Enterprise Server of the days when passwords were taken: with the endpoints for them, and without
    /// `/applications/{client_id}/token`.
    #[expect(clippy::unused_async, reason = "starting a server is something to wait for, whatever it does inside")]
    pub(crate) async fn start_old_enterprise() -> Self {
        Self::listen(true)
    }

    fn listen(old: bool) -> Self {
        let state = Arc::new(Mutex::new(State { old, last_id: 1000, ..State::default() }));
        let server = Loopback::start(|port| {
            {
                let mut state = state.lock().unwrap();
                state.web = format!("http://127.0.0.1:{port}");
                state.api = format!("{}/api/v3", state.web);
            }
            let state = Arc::clone(&state);
            move |head, body| answer(Arc::clone(&state), head, body)
        });
        Self { state, _server: Arc::new(server) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// `http://127.0.0.1:PORT/api/v3/`
    pub(crate) fn api_url(&self) -> String {
        format!("{}/", self.state().api)
    }

    /// `http://127.0.0.1:PORT/`
    pub(crate) fn web_url(&self) -> String {
        format!("{}/", self.state().web)
    }

    /// Somebody with an account, and the account's id.
    pub(crate) fn add_user(&self, login: &str) -> u64 {
        self.state().add_user(login)
    }

    /// The account is deleted, and somebody else takes its login: another id, and no token, membership or role.
    pub(crate) fn recreate_user(&self, login: &str) -> u64 {
        let mut state = self.state();
        let gone = state.user_named(login).id;
        state.users.retain(|user| user.id != gone);
        state.tokens.retain(|_, token| token.user != gone);
        state.codes.retain(|_, code| code.user != gone);
        for organization in &mut state.organizations {
            organization.members.remove(&gone);
            for team in organization.teams.values_mut() {
                team.members.remove(&gone);
            }
        }
        for repository in &mut state.repositories {
            repository.roles.remove(&gone);
        }
        if state.signed_in == Some(gone) {
            state.signed_in = None;
        }
        state.add_user(login)
    }

    /// The same account under another login. The old one is free from now on.
    pub(crate) fn rename_user(&self, login: &str, to: &str) {
        let mut state = self.state();
        assert!(state.user(to).is_none(), "{to} is taken");
        let id = state.user_named(login).id;
        let user = state.users.iter_mut().find(|user| user.id == id).unwrap();
        to.clone_into(&mut user.login);
    }

    /// A password for the endpoints of an old Enterprise Server. With a one-time code, the account has two factors.
    pub(crate) fn set_password(&self, login: &str, password: &str, one_time_code: Option<&str>) {
        let mut state = self.state();
        let id = state.user_named(login).id;
        let user = state.users.iter_mut().find(|user| user.id == id).unwrap();
        user.password = Some((password.to_owned(), one_time_code.map(str::to_owned)));
    }

    /// Makes the organisation if there is none of that name, and gives its id.
    pub(crate) fn add_organization(&self, org: &str) -> u64 {
        self.state().organization_named(org).id
    }

    pub(crate) fn add_member(&self, org: &str, login: &str, is_owner: bool) {
        self.put_member(org, login, Membership { owner: is_owner, pending: false });
    }

    /// Somebody who was invited and did not answer yet.
    pub(crate) fn add_pending_member(&self, org: &str, login: &str) {
        self.put_member(org, login, Membership { owner: false, pending: true });
    }

    fn put_member(&self, org: &str, login: &str, membership: Membership) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        state.organization_named(org).members.insert(user, membership);
    }

    /// From the organisation and its teams.
    pub(crate) fn remove_member(&self, org: &str, login: &str) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        let organization = state.organization_named(org);
        organization.members.remove(&user);
        for team in organization.teams.values_mut() {
            team.members.remove(&user);
        }
    }

    /// Makes the team if there is none, and the person a member of the organisation as well, as GitHub does.
    pub(crate) fn add_team_member(&self, org: &str, slug: &str, login: &str) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        let id = state.new_id();
        let organization = state.organization_named(org);
        organization.members.entry(user).or_insert(Membership { owner: false, pending: false });
        let team = organization.teams.entry(slug.to_owned()).or_insert_with(|| Team { id, members: BTreeSet::new() });
        team.members.insert(user);
    }

    pub(crate) fn remove_team_member(&self, org: &str, slug: &str, login: &str) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        let team = state.organization_named(org).teams.get_mut(slug);
        team.unwrap_or_else(|| panic!("{org} has no team {slug}")).members.remove(&user);
    }

    /// A private repository of a user or, when no user has that login, of an organisation. Its id, and its owner's.
    pub(crate) fn add_repository(&self, owner: &str, repo: &str) -> (u64, u64) {
        self.state().add_repository(owner, repo)
    }

    /// Another one of that name has another id.
    pub(crate) fn remove_repository(&self, owner: &str, repo: &str) {
        let mut state = self.state();
        let (id, _) = state.add_repository(owner, repo);
        state.repositories.retain(|repository| repository.id != id);
    }

    /// What somebody may do in a repository: `read`, `triage`, `write`, `maintain`, `admin`, the name of a custom role
    /// (which is more than reading in name only), or `none`.
    pub(crate) fn set_role(&self, owner: &str, repo: &str, login: &str, role: &str) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        let (id, _) = state.add_repository(owner, repo);
        let repository = state.repositories.iter_mut().find(|repository| repository.id == id).unwrap();
        if role == "none" {
            repository.roles.remove(&user);
        } else {
            repository.roles.insert(user, role.to_owned());
        }
    }

    /// A token of our app, as it would have after a sign-in that asked for `read:org`.
    pub(crate) fn oauth_token(&self, login: &str) -> String {
        self.oauth_token_with(login, &["read:org"])
    }

    /// A token of our app for which the person granted these scopes.
    pub(crate) fn oauth_token_with(&self, login: &str, scopes: &[&str]) -> String {
        self.state().new_token_for(login, "gho_", Issued::ToOurApp, scopes)
    }

    /// A token of our app in the form of the years before prefixes, as it stands in the `.npmrc` of users of codebox.
    pub(crate) fn old_oauth_token(&self, login: &str) -> String {
        self.state().new_token_for(login, "", Issued::ToOurApp, &["user:email", "read:org"])
    }

    /// A token of another OAuth app, whose owner might like to use it here.
    pub(crate) fn foreign_oauth_token(&self, login: &str) -> String {
        self.state().new_token_for(login, "gho_", Issued::ToAnotherApp, &["read:org"])
    }

    /// A classic personal access token.
    pub(crate) fn personal_token(&self, login: &str) -> String {
        self.personal_token_with(login, &["read:org", "repo", "user"])
    }

    /// A classic personal access token with these scopes.
    pub(crate) fn personal_token_with(&self, login: &str, scopes: &[&str]) -> String {
        self.state().new_token_for(login, "ghp_", Issued::ByHand, scopes)
    }

    /// A token of an account of the operator's, which may see every repository and who may do what in it.
    pub(crate) fn service_token(&self) -> String {
        const LOGIN: &str = "registry-service";
        let mut state = self.state();
        if state.user(LOGIN).is_none() {
            state.add_user(LOGIN);
        }
        let token = state.new_token_for(LOGIN, "ghp_", Issued::ByHand, &["repo", "read:org"]);
        state.tokens.get_mut(&token).unwrap().service = true;
        token
    }

    pub(crate) fn revoke_token(&self, token: &str) {
        assert!(self.state().tokens.remove(token).is_some(), "there is no such token");
    }

    /// Who the browser is signed in as. From now on authorising our app takes no click.
    pub(crate) fn sign_in_as(&self, login: &str) {
        let mut state = self.state();
        state.signed_in = Some(state.user_named(login).id);
    }

    /// From now on the page for authorising our app asks who one is.
    pub(crate) fn sign_out(&self) {
        self.state().signed_in = None;
    }

    /// The next one who is asked to authorise our app says no.
    pub(crate) fn deny(&self) {
        self.state().deny = true;
    }

    /// The callback that our app has registered: where the browser is sent has to be there or below. Any is right until
    /// one is registered.
    pub(crate) fn register_callback(&self, url: &str) {
        self.state().callback = Some(url.to_owned());
    }

    /// Codes that nobody used yet are no good any more, as after ten minutes.
    pub(crate) fn expire_codes(&self) {
        self.state().codes.clear();
    }

    /// Somebody types the code of a device into GitHub's page, and agrees.
    pub(crate) fn approve_device(&self, user_code: &str, login: &str) {
        let mut state = self.state();
        let user = state.user_named(login).id;
        state.device(user_code).verdict = Verdict::Approved(user);
    }

    /// The codes that devices wait with.
    pub(crate) fn device_codes(&self) -> Vec<String> {
        self.state().devices.values().map(|device| device.user_code.clone()).collect()
    }

    /// Somebody types the code of a device into GitHub's page, and does not agree.
    pub(crate) fn deny_device(&self, user_code: &str) {
        self.state().device(user_code).verdict = Verdict::Denied;
    }

    /// Time goes by for the devices that ask for their tokens, so that they need not wait between two questions.
    pub(crate) fn let_pass(&self, time: Duration) {
        for device in self.state().devices.values_mut() {
            device.asked = device.asked.and_then(|asked| asked.checked_sub(time));
        }
    }

    /// Fifteen minutes went by.
    pub(crate) fn expire_device(&self, user_code: &str) {
        self.state().device(user_code).verdict = Verdict::Expired;
    }

    /// From now on.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// No page of a list has more entries than that, so that few of them make several pages.
    pub(crate) fn set_page_size(&self, entries: usize) {
        self.state().page_size = Some(entries);
    }

    /// The time, in seconds since 1970, for those whose clock the test holds. It is in `X-RateLimit-Reset` only, which
    /// is a minute later.
    pub(crate) fn set_now(&self, seconds: u64) {
        self.state().now = Some(seconds);
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget(&self) {
        self.state().seen.clear();
    }
}

/// Letters that nobody can guess.
fn random(length: usize, letters: &[u8]) -> String {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
}

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";
/// Without those that people mistake for others.
const TYPED: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ0123456789";

/// What is known of the people and things of this GitHub, and how tests change it.
impl State {
    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn user(&self, login: &str) -> Option<&User> {
        self.users.iter().find(|user| user.login.eq_ignore_ascii_case(login))
    }

    fn user_named(&self, login: &str) -> &User {
        self.user(login).unwrap_or_else(|| panic!("nobody at this GitHub is called {login}"))
    }

    fn user_of(&self, token: &Token) -> &User {
        self.users.iter().find(|user| user.id == token.user).unwrap()
    }

    fn add_user(&mut self, login: &str) -> u64 {
        assert!(self.user(login).is_none() && self.organization(login).is_none(), "{login} is taken");
        let id = self.new_id();
        self.users.push(User { id, login: login.to_owned(), password: None });
        id
    }

    fn organization(&self, login: &str) -> Option<&Organization> {
        self.organizations.iter().find(|organization| organization.login.eq_ignore_ascii_case(login))
    }

    fn organization_named(&mut self, login: &str) -> &mut Organization {
        if self.organization(login).is_none() {
            assert!(self.user(login).is_none(), "{login} is a person");
            let id = self.new_id();
            self.organizations.push(Organization { id, login: login.to_owned(), ..Organization::default() });
        }
        self.organizations.iter_mut().find(|organization| organization.login.eq_ignore_ascii_case(login)).unwrap()
    }

    fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        let owner = self.user(owner).map(|user| user.id).or_else(|| Some(self.organization(owner)?.id))?;
        self.repositories
            .iter()
            .find(|repository| repository.owner == owner && repository.name.eq_ignore_ascii_case(name))
    }

    fn add_repository(&mut self, owner: &str, name: &str) -> (u64, u64) {
        if let Some(known) = self.repository(owner, name) {
            return (known.id, known.owner);
        }
        let person = self.user(owner).map(|user| user.id);
        let owner = match person {
            Some(id) => id,
            None => self.organization_named(owner).id,
        };
        let id = self.new_id();
        self.repositories.push(Repository { id, owner, name: name.to_owned(), roles: BTreeMap::new() });
        (id, owner)
    }

    fn new_token_for(&mut self, login: &str, prefix: &str, issued: Issued, scopes: &[&str]) -> String {
        let user = self.user_named(login).id;
        self.new_token(user, prefix, issued, scopes.iter().map(|scope| (*scope).to_owned()).collect())
    }

    fn new_token(&mut self, user: u64, prefix: &str, issued: Issued, scopes: Vec<String>) -> String {
        let secret = if prefix.is_empty() { random(40, HEX) } else { random(36, LETTERS) };
        let text = format!("{prefix}{secret}");
        let id = self.new_id();
        self.tokens.insert(text.clone(), Token { id, user, issued, scopes, service: false });
        text
    }

    fn device(&mut self, user_code: &str) -> &mut Device {
        let device = self.devices.values_mut().find(|device| device.user_code == user_code);
        device.unwrap_or_else(|| panic!("no device has the code {user_code}"))
    }

    /// What somebody may do in a repository.
    fn role<'a>(&self, repository: &'a Repository, user: u64) -> &'a str {
        let organization = self.organizations.iter().find(|organization| organization.id == repository.owner);
        let rules = organization
            .and_then(|organization| organization.members.get(&user))
            .is_some_and(|membership| membership.owner && !membership.pending);
        if rules || repository.owner == user {
            return "admin";
        }
        repository.roles.get(&user).map_or("none", String::as_str)
    }
}

/// How GitHub writes things.
impl State {
    fn account(&self, login: &str, id: u64, kind: &str) -> Value {
        let (api, web) = (&self.api, &self.web);
        json!({
            "login": login,
            "id": id,
            "node_id": node_id("U", id),
            "avatar_url": format!("{web}/avatars/u/{id}?v=4"),
            "gravatar_id": "",
            "url": format!("{api}/users/{login}"),
            "html_url": format!("{web}/{login}"),
            "followers_url": format!("{api}/users/{login}/followers"),
            "following_url": format!("{api}/users/{login}/following{{/other_user}}"),
            "gists_url": format!("{api}/users/{login}/gists{{/gist_id}}"),
            "starred_url": format!("{api}/users/{login}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{api}/users/{login}/subscriptions"),
            "organizations_url": format!("{api}/users/{login}/orgs"),
            "repos_url": format!("{api}/users/{login}/repos"),
            "events_url": format!("{api}/users/{login}/events{{/privacy}}"),
            "received_events_url": format!("{api}/users/{login}/received_events"),
            "type": kind,
            "site_admin": false,
        })
    }

    fn simple_user(&self, id: u64) -> Value {
        let user = self.users.iter().find(|user| user.id == id).unwrap();
        self.account(&user.login, id, "User")
    }

    /// Of the one who asks: with what only they may see when the token has the scope for it.
    fn own_user(&self, token: &Token) -> Value {
        let user = self.user_of(token);
        let mut own = self.account(&user.login, user.id, "User");
        let private = token.scopes.iter().any(|scope| scope == "user" || scope == "read:user");
        extend(
            &mut own,
            json!({
                "user_view_type": if private { "private" } else { "public" },
                "name": format!("{} of the tests", user.login),
                "company": null, "blog": "", "location": null, "email": null, "hireable": null, "bio": null,
                "twitter_username": null, "public_repos": 2, "public_gists": 0, "followers": 1, "following": 0,
                "created_at": MADE, "updated_at": MADE,
            }),
        );
        if private {
            extend(
                &mut own,
                json!({
                    "private_gists": 0, "total_private_repos": 0, "owned_private_repos": 0, "disk_usage": 0,
                    "collaborators": 0, "two_factor_authentication": true,
                }),
            );
        }
        own
    }

    fn organization_simple(&self, organization: &Organization) -> Value {
        let Organization { id, login, .. } = organization;
        let url = format!("{}/orgs/{login}", self.api);
        json!({
            "login": login,
            "id": id,
            "node_id": node_id("O", *id),
            "url": url,
            "repos_url": format!("{url}/repos"),
            "events_url": format!("{url}/events"),
            "hooks_url": format!("{url}/hooks"),
            "issues_url": format!("{url}/issues"),
            "members_url": format!("{url}/members{{/member}}"),
            "public_members_url": format!("{url}/public_members{{/member}}"),
            "avatar_url": format!("{}/avatars/u/{id}?v=4", self.web),
            "description": null,
        })
    }

    fn membership(&self, organization: &Organization, user: u64, membership: Membership) -> Value {
        let person = self.simple_user(user);
        let url = format!("{}/orgs/{}", self.api, organization.login);
        json!({
            "url": format!("{url}/memberships/{}", person["login"].as_str().unwrap()),
            "state": if membership.pending { "pending" } else { "active" },
            "role": if membership.owner { "admin" } else { "member" },
            "direct_membership": true,
            "organization_url": url,
            "organization": self.organization_simple(organization),
            "user": person,
            "permissions": { "can_create_repository": membership.owner },
        })
    }

    fn team(&self, organization: &Organization, slug: &str, team: &Team) -> Value {
        let id = team.id;
        let url = format!("{}/organizations/{}/team/{id}", self.api, organization.id);
        json!({
            "name": slug,
            "id": id,
            "node_id": node_id("T", id),
            "slug": slug,
            "description": null,
            "privacy": "closed",
            "notification_setting": "notifications_enabled",
            "permission": "pull",
            "url": url,
            "html_url": format!("{}/orgs/{}/teams/{slug}", self.web, organization.login),
            "members_url": format!("{url}/members{{/member}}"),
            "repositories_url": format!("{url}/repos"),
            "type": "organization",
            "organization_id": organization.id,
            "parent": null,
        })
    }

    /// As it is in the list of one's own teams.
    fn team_full(&self, organization: &Organization, slug: &str, team: &Team) -> Value {
        let mut of = self.organization_simple(organization);
        extend(
            &mut of,
            json!({
                "html_url": format!("{}/{}", self.web, organization.login),
                "has_organization_projects": true, "has_repository_projects": true,
                "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
                "type": "Organization", "created_at": MADE, "updated_at": MADE, "archived_at": null,
            }),
        );
        let mut full = self.team(organization, slug, team);
        extend(
            &mut full,
            json!({
                "created_at": MADE, "updated_at": MADE, "members_count": team.members.len(), "repos_count": 0,
                "organization": of,
            }),
        );
        full
    }

    fn authorization(&self, text: &str, token: &Token) -> Value {
        json!({
            "id": token.id,
            "url": format!("{}/authorizations/{}", self.api, token.id),
            "app": { "name": "Registry of the tests", "url": self.web, "client_id": GitHub::CLIENT_ID },
            "token": text,
            "hashed_token": hex(digest(&SHA256, text.as_bytes()).as_ref()),
            "token_last_eight": text[text.len() - 8..],
            "note": null,
            "note_url": null,
            "created_at": MADE,
            "updated_at": MADE,
            "scopes": token.scopes,
            "fingerprint": null,
            "expires_at": null,
            "user": self.simple_user(token.user),
        })
    }

    fn full_repository(&self, repository: &Repository, role: &str) -> Value {
        let owner = match self.organizations.iter().find(|organization| organization.id == repository.owner) {
            Some(organization) => self.account(&organization.login, organization.id, "Organization"),
            None => self.simple_user(repository.owner),
        };
        let full_name = format!("{}/{}", owner["login"].as_str().unwrap(), repository.name);
        let url = format!("{}/repos/{full_name}", self.api);
        let html = format!("{}/{full_name}", self.web);
        let mut full = json!({
            "id": repository.id,
            "node_id": node_id("R", repository.id),
            "name": repository.name,
            "full_name": full_name,
            "private": true,
            "owner": owner,
            "html_url": html,
            "description": null,
            "fork": false,
            "url": url,
        });
        for (member, below) in BELOW_A_REPOSITORY {
            full[*member] = json!(format!("{url}/{below}"));
        }
        extend(
            &mut full,
            json!({
                "git_url": format!("git://127.0.0.1/{full_name}.git"),
                "ssh_url": format!("git@127.0.0.1:{full_name}.git"),
                "clone_url": format!("{html}.git"),
                "svn_url": html,
                "homepage": null, "language": null, "mirror_url": null, "license": null,
                "created_at": MADE, "updated_at": MADE, "pushed_at": MADE,
                "size": 0, "stargazers_count": 0, "watchers_count": 0, "forks_count": 0, "open_issues_count": 0,
                "forks": 0, "open_issues": 0, "watchers": 0, "network_count": 0, "subscribers_count": 0,
                "has_issues": true, "has_projects": true, "has_downloads": true, "has_wiki": true,
                "has_pages": false, "has_discussions": false, "archived": false, "disabled": false,
                "visibility": "private", "default_branch": "main", "permissions": permissions(role),
            }),
        );
        full
    }
}

const BELOW_A_REPOSITORY: &[(&str, &str)] = &[
    ("archive_url", "{archive_format}{/ref}"),
    ("assignees_url", "assignees{/user}"),
    ("blobs_url", "git/blobs{/sha}"),
    ("branches_url", "branches{/branch}"),
    ("collaborators_url", "collaborators{/collaborator}"),
    ("comments_url", "comments{/number}"),
    ("commits_url", "commits{/sha}"),
    ("compare_url", "compare/{base}...{head}"),
    ("contents_url", "contents/{+path}"),
    ("contributors_url", "contributors"),
    ("deployments_url", "deployments"),
    ("downloads_url", "downloads"),
    ("events_url", "events"),
    ("forks_url", "forks"),
    ("git_commits_url", "git/commits{/sha}"),
    ("git_refs_url", "git/refs{/sha}"),
    ("git_tags_url", "git/tags{/sha}"),
    ("hooks_url", "hooks"),
    ("issue_comment_url", "issues/comments{/number}"),
    ("issue_events_url", "issues/events{/number}"),
    ("issues_url", "issues{/number}"),
    ("keys_url", "keys{/key_id}"),
    ("labels_url", "labels{/name}"),
    ("languages_url", "languages"),
    ("merges_url", "merges"),
    ("milestones_url", "milestones{/number}"),
    ("notifications_url", "notifications{?since,all,participating}"),
    ("pulls_url", "pulls{/number}"),
    ("releases_url", "releases{/id}"),
    ("stargazers_url", "stargazers"),
    ("statuses_url", "statuses/{sha}"),
    ("subscribers_url", "subscribers"),
    ("subscription_url", "subscription"),
    ("tags_url", "tags"),
    ("teams_url", "teams"),
    ("trees_url", "git/trees{/sha}"),
];

/// The four words that GitHub had before it had roles.
fn permission(role: &str) -> &str {
    match role {
        "admin" | "none" => role,
        "write" | "maintain" => "write",
        _ => "read",
    }
}

fn permissions(role: &str) -> Value {
    const ROLES: [(&str, &str); 5] =
        [("pull", "read"), ("triage", "triage"), ("push", "write"), ("maintain", "maintain"), ("admin", "admin")];
    let rank = match ROLES.iter().position(|(_, name)| *name == role) {
        Some(place) => place + 1,
        None if role == "none" => 0,
        None => 1,
    };
    let granted = ROLES.iter().enumerate().map(|(place, (word, _))| ((*word).to_owned(), json!(place < rank)));
    Value::Object(granted.collect())
}

fn node_id(kind: &str, id: u64) -> String {
    format!("{kind}_{}", BASE64_URL_SAFE_NO_PAD.encode(id.to_be_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn extend(object: &mut Value, with: Value) {
    let Value::Object(with) = with else { unreachable!("members are an object") };
    object.as_object_mut().unwrap().extend(with);
}

/// A request, taken apart.
struct Asked {
    method: String,
    path: String,
    query: Map<String, Value>,
    headers: HeaderMap,
    /// What was sent, as a form or as JSON; empty when it is neither.
    sent: Map<String, Value>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// User and password of `Authorization: Basic`.
    fn basic(&self) -> Option<(String, String)> {
        let (scheme, encoded) = self.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    fn queried(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.as_str()
    }

    fn sent(&self, name: &str) -> Option<&str> {
        self.sent.get(name)?.as_str()
    }
}

/// An answer before the misbehaviour.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, body: serde_json::to_vec(body).unwrap() }
    }

    fn html(status: u16, title: &str, body: &str) -> Self {
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <link rel=\"icon\" href=\"data:,\"><title>{title}</title></head>\
             <body><h1>{title}</h1>\n{body}</body></html>\n"
        );
        Self { status, headers: vec![("content-type", "text/html; charset=utf-8".to_owned())], body: page.into_bytes() }
    }

    fn empty() -> Self {
        Self { status: 204, headers: Vec::new(), body: Vec::new() }
    }

    /// An error of the API.
    fn error(status: u16, message: &str) -> Self {
        let documentation = "https://docs.github.com/rest";
        let body = json!({ "message": message, "documentation_url": documentation, "status": status.to_string() });
        Self::json(status, &body)
    }

    fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    fn redirect(to: String) -> Self {
        Self { status: 302, headers: vec![("location", to)], body: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(self.body)).unwrap()
    }
}

async fn answer(state: Arc<Mutex<State>>, head: Parts, body: Bytes) -> Option<Response<Body>> {
    let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy().into_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let is_json = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("json"));
    let asked = Asked {
        method: head.method.to_string(),
        path,
        query: form(query.as_bytes()),
        headers: head.headers,
        // The API takes JSON whatever it is called, the pages take what it is called.
        sent: serde_json::from_slice(&body).unwrap_or_else(|_| if is_json { Map::new() } else { form(&body) }),
    };
    let (mode, reply) = {
        let mut state = state.lock().unwrap();
        state.seen.push(Seen {
            method: asked.method.clone(),
            path: asked.path.clone(),
            query,
            authorization: asked.header("authorization").map(str::to_owned),
            otp: asked.header("x-github-otp").map(str::to_owned),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let mode = state.mode;
        (mode, state.misbehave().unwrap_or_else(|| state.answer(&asked)))
    };
    match mode {
        Mode::Down => return None,
        Mode::Slow(time) => tokio::time::sleep(time).await,
        _ => {}
    }
    let id = random(32, HEX);
    Some(reply.with("server", "github.com").with("x-github-request-id", id).into_response())
}

fn form(text: &[u8]) -> Map<String, Value> {
    url::form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), json!(value))).collect()
}

/// Why a request is not answered for anybody.
type Refused = Reply;

impl State {
    /// What is answered whatever was asked.
    fn misbehave(&self) -> Option<Reply> {
        let text = |body: &str| Reply {
            status: 200,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.as_bytes().to_vec(),
        };
        let real = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Some(match self.mode {
            Mode::Well | Mode::Down | Mode::Slow(_) => return None,
            Mode::Error(status) => Reply::error(status, "Something is wrong, as the test wants"),
            Mode::RateLimited => Reply::error(403, "API rate limit exceeded for 127.0.0.1.")
                .with("x-ratelimit-limit", "60")
                .with("x-ratelimit-remaining", "0")
                .with("x-ratelimit-used", "60")
                .with("x-ratelimit-reset", (self.now.unwrap_or_else(real) + 60).to_string())
                .with("x-ratelimit-resource", "core"),
            Mode::SecondaryLimited => {
                let message =
                    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
                Reply::error(403, message).with("retry-after", "7")
            }
            Mode::TooMany => Reply::error(429, "Too many requests").with("retry-after", "7"),
            Mode::BrokenJson => text("{\"login\": \"ada\", \"id\": 10"),
            Mode::WrongShape => text("{\"unexpected\": [\"shape\", 1, null]}"),
            Mode::Html => Reply::html(200, "Welcome to this hotel", "<p>Please accept our terms.</p>"),
        })
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        if let Some(below) = asked.path.strip_prefix("/api/v3/") {
            let segments: Vec<&str> = below.split('/').collect();
            return self.api(asked, &segments).unwrap_or_else(|refused| refused);
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/login/oauth/authorize") => {
                let user = self.signed_in;
                self.authorize(&asked.query, user)
            }
            ("POST", "/login/oauth/authorize") => {
                let user = asked.sent("login").and_then(|login| self.user(login)).map(|user| user.id);
                self.authorize(&asked.sent, user)
            }
            ("POST", "/login/oauth/access_token") => {
                let body = self.access_token(asked);
                in_the_wanted_form(asked, &body)
            }
            ("POST", "/login/device/code") => {
                let body = self.device_code(asked);
                in_the_wanted_form(asked, &body)
            }
            ("GET", "/login/device") => self.device_page(asked.queried("user_code").unwrap_or_default()),
            ("POST", "/login/device") => self.decide_device(asked),
            _ => Reply::html(404, "Page not found", ""),
        }
    }

    fn api(&mut self, asked: &Asked, segments: &[&str]) -> Result<Reply, Refused> {
        match (asked.method.as_str(), segments) {
            (method, ["applications", client_id, rest @ ..]) => {
                check_app(asked, client_id)?;
                match (method, rest) {
                    ("POST" | "PATCH" | "DELETE", ["token"]) if !self.old => {
                        let Some(text) = asked.sent("access_token") else {
                            return Err(Reply::error(422, "Validation Failed: access_token is missing"));
                        };
                        self.app_token(if method == "POST" { "check" } else { method }, text)
                    }
                    ("DELETE", ["grant"]) if !self.old => {
                        let text = asked.sent("access_token").unwrap_or_default();
                        let token = self.tokens.get(text).filter(|token| token.issued == Issued::ToOurApp);
                        let user = token.ok_or_else(Reply::not_found)?.user;
                        self.tokens.retain(|_, token| token.user != user || token.issued != Issued::ToOurApp);
                        Ok(Reply::empty())
                    }
                    ("GET", ["tokens", text]) if self.old => self.app_token("check", text),
                    ("POST", ["tokens", text]) if self.old => self.app_token("PATCH", text),
                    ("DELETE", ["tokens", text]) if self.old => self.app_token("DELETE", text),
                    _ => Err(Reply::not_found()),
                }
            }
            ("PUT" | "POST" | "DELETE", ["authorizations", rest @ ..]) if self.old => self.by_password(asked, rest),
            ("GET", ["user" | "orgs" | "repos", ..]) => {
                let token = self.who(asked)?;
                let reply = self.read(asked, segments, &token).unwrap_or_else(|refused| refused);
                let reply =
                    reply.with("x-oauth-scopes", token.scopes.join(", ")).with("x-github-media-type", "github.v3");
                Ok(match token.issued {
                    Issued::ToOurApp => reply.with("x-oauth-client-id", GitHub::CLIENT_ID),
                    Issued::ToAnotherApp => reply.with("x-oauth-client-id", OTHER_CLIENT_ID),
                    Issued::ByHand => reply,
                })
            }
            _ => Err(Reply::not_found()),
        }
    }

    /// Tells, replaces or ends a token that our app has.
    fn app_token(&mut self, what: &str, text: &str) -> Result<Reply, Refused> {
        let token = self.tokens.get(text).filter(|token| token.issued == Issued::ToOurApp);
        let token = token.ok_or_else(Reply::not_found)?.clone();
        match what {
            "check" => Ok(Reply::json(200, &self.authorization(text, &token))),
            "DELETE" => {
                self.tokens.remove(text);
                Ok(Reply::empty())
            }
            _ => {
                self.tokens.remove(text);
                let prefix = if text.starts_with("gho_") { "gho_" } else { "" };
                let new = self.new_token(token.user, prefix, Issued::ToOurApp, token.scopes);
                Ok(Reply::json(200, &self.authorization(&new, &self.tokens[&new])))
            }
        }
    }

    /// Whoever asks: by a token, in any of the forms in which GitHub takes one, or by a password where it takes one.
    fn who(&self, asked: &Asked) -> Result<Token, Refused> {
        let Some(header) = asked.header("authorization") else {
            return Err(Reply::error(401, "Requires authentication"));
        };
        if let Some((user, password)) = asked.basic() {
            if let Some(token) = self.tokens.get(&password).or_else(|| self.tokens.get(&user)) {
                return Ok(token.clone());
            }
            if self.old {
                let user = self.check_password(asked)?;
                let scopes = vec!["user".to_owned(), "repo".to_owned(), "read:org".to_owned()];
                return Ok(Token { id: 0, user, issued: Issued::ByHand, scopes, service: false });
            }
            return Err(Reply::error(401, "Bad credentials"));
        }
        let text = header
            .split_once(' ')
            .filter(|(scheme, _)| ["bearer", "token"].contains(&scheme.to_ascii_lowercase().as_str()))
            .map(|(_, text)| text.trim());
        let token = text.and_then(|text| self.tokens.get(text));
        token.cloned().ok_or_else(|| Reply::error(401, "Bad credentials"))
    }

    fn check_password(&self, asked: &Asked) -> Result<u64, Refused> {
        let bad = || Reply::error(401, "Bad credentials");
        let (login, password) = asked.basic().ok_or_else(|| Reply::error(401, "Requires authentication"))?;
        let user = self.user(&login).ok_or_else(bad)?;
        let (right, code) = user.password.as_ref().ok_or_else(bad)?;
        if *right != password {
            return Err(bad());
        }
        // Codebox sends the header always, and empty when there is no code.
        let sent = asked.header("x-github-otp").unwrap_or_default();
        if code.as_ref().is_some_and(|code| code != sent) {
            return Err(Reply::error(401, "Must specify two-factor authentication OTP code.")
                .with("x-github-otp", "required; app"));
        }
        Ok(user.id)
    }

    /// The old way for an app to get a token: by the user's password.
    fn by_password(&mut self, asked: &Asked, rest: &[&str]) -> Result<Reply, Refused> {
        let user = self.check_password(asked)?;
        let scopes: Vec<String> = asked
            .sent
            .get("scopes")
            .and_then(Value::as_array)
            .map(|scopes| scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        let known = |state: &Self| {
            let mut tokens = state.tokens.iter();
            let found = tokens.find(|(_, token)| token.user == user && token.issued == Issued::ToOurApp);
            found.map(|(text, token)| (text.clone(), token.clone()))
        };
        let client_id = match (asked.method.as_str(), rest) {
            ("DELETE", [id]) => {
                let id: u64 = id.parse().map_err(|_| Reply::not_found())?;
                let before = self.tokens.len();
                self.tokens.retain(|_, token| token.id != id || token.user != user);
                return if self.tokens.len() < before { Ok(Reply::empty()) } else { Err(Reply::not_found()) };
            }
            ("PUT", ["clients", client_id]) => *client_id,
            ("POST", []) => asked.sent("client_id").unwrap_or_default(),
            _ => return Err(Reply::not_found()),
        };
        if client_id != GitHub::CLIENT_ID || asked.sent("client_secret") != Some(GitHub::CLIENT_SECRET) {
            return Err(Reply::error(422, "Invalid OAuth application client_id or secret."));
        }
        if asked.method == "PUT"
            && let Some((text, token)) = known(self)
        {
            // The token itself is told once only.
            let mut authorization = self.authorization(&text, &token);
            authorization["token"] = json!("");
            return Ok(self.of_the_old(200, authorization, asked));
        }
        let text = self.new_token(user, "", Issued::ToOurApp, scopes);
        let authorization = self.authorization(&text, &self.tokens[&text]);
        Ok(self.of_the_old(201, authorization, asked))
    }

    fn of_the_old(&self, status: u16, mut authorization: Value, asked: &Asked) -> Reply {
        authorization["note"] = json!(asked.sent("note"));
        let at = format!("{}/authorizations/{}", self.api, authorization["id"]);
        Reply::json(status, &authorization).with("location", at)
    }

    /// What one can read with a token.
    fn read(&self, asked: &Asked, segments: &[&str], token: &Token) -> Result<Reply, Refused> {
        let has = |scope: &str| token.scopes.iter().any(|had| had == scope);
        let reads_groups = has("read:org") || has("admin:org") || has("write:org");
        match segments {
            ["user"] => Ok(Reply::json(200, &self.own_user(token))),
            ["user", "memberships", "orgs"] => {
                if !reads_groups && !has("user") {
                    let message = "You need at least read:org scope or user scope to list your organizations.";
                    return Err(Reply::error(403, message).with("x-accepted-oauth-scopes", "read:org"));
                }
                let wanted = asked.queried("state");
                if wanted.is_some_and(|state| !["active", "pending"].contains(&state)) {
                    return Err(Reply::error(422, "Validation Failed"));
                }
                let mine = self.organizations.iter().filter_map(|organization| {
                    let membership = *organization.members.get(&token.user)?;
                    let entry = self.membership(organization, token.user, membership);
                    wanted.is_none_or(|wanted| entry["state"] == wanted).then_some(entry)
                });
                Ok(self.page(asked, mine.collect()))
            }
            ["user", "teams"] => {
                if !reads_groups && !has("user") && !has("repo") {
                    return Err(Reply::not_found().with("x-accepted-oauth-scopes", "read:org, repo, user"));
                }
                let teams = self.organizations.iter().flat_map(|organization| {
                    let mine = organization.teams.iter().filter(|(_, team)| team.members.contains(&token.user));
                    mine.map(|(slug, team)| self.team_full(organization, slug, team))
                });
                Ok(self.page(asked, teams.collect()))
            }
            ["orgs", org, rest @ ..] => {
                let organization = self.organization(org).ok_or_else(Reply::not_found)?;
                let inside = organization.members.get(&token.user).is_some_and(|membership| !membership.pending);
                let inside = reads_groups && (inside || token.service);
                self.read_organization(asked, organization, rest, inside)
            }
            ["repos", owner, name, rest @ ..] => {
                let repository = self.repository(owner, name).ok_or_else(Reply::not_found)?;
                let role = if token.service { "admin" } else { self.role(repository, token.user) };
                if role == "none" || !has("repo") {
                    return Err(Reply::not_found());
                }
                match rest {
                    [] => Ok(Reply::json(200, &self.full_repository(repository, role))),
                    ["collaborators", login, "permission"] => {
                        let user = self.user(login).ok_or_else(Reply::not_found)?.id;
                        let role = self.role(repository, user);
                        let mut person = self.simple_user(user);
                        extend(&mut person, json!({ "permissions": permissions(role), "role_name": role }));
                        let body = json!({ "permission": permission(role), "role_name": role, "user": person });
                        Ok(Reply::json(200, &body))
                    }
                    _ => Err(Reply::not_found()),
                }
            }
            _ => Err(Reply::not_found()),
        }
    }

    fn read_organization(
        &self,
        asked: &Asked,
        organization: &Organization,
        rest: &[&str],
        inside: bool,
    ) -> Result<Reply, Refused> {
        match rest {
            ["members"] => {
                let role = asked.queried("role").unwrap_or("all");
                if !["all", "admin", "member"].contains(&role) {
                    return Err(Reply::error(422, "Validation Failed"));
                }
                // Nobody here made their membership public, which is all that others may see.
                let members = organization
                    .members
                    .iter()
                    .filter(|(_, membership)| inside && !membership.pending)
                    .filter(|(_, membership)| role == "all" || membership.owner == (role == "admin"))
                    .map(|(user, _)| self.simple_user(*user));
                Ok(self.page(asked, members.collect()))
            }
            ["teams"] if inside => {
                let teams = organization.teams.iter().map(|(slug, team)| self.team(organization, slug, team));
                Ok(self.page(asked, teams.collect()))
            }
            ["teams"] => Err(Reply::error(403, "Must be a member of the organization.")),
            ["teams", slug, "members"] if inside => {
                let team = organization.teams.get(*slug).ok_or_else(Reply::not_found)?;
                let members = team.members.iter().map(|user| self.simple_user(*user));
                Ok(self.page(asked, members.collect()))
            }
            _ => Err(Reply::not_found()),
        }
    }

    /// The part of a list that was asked for, with links to the others.
    fn page(&self, asked: &Asked, entries: Vec<Value>) -> Reply {
        let number = |name: &str| asked.queried(name).and_then(|text| text.parse::<usize>().ok()).filter(|n| *n > 0);
        let size = number("per_page").unwrap_or(PAGE.0).min(PAGE.1).min(self.page_size.unwrap_or(usize::MAX));
        let page = number("page").unwrap_or(1);
        let last = entries.len().div_ceil(size).max(1);
        let mut links = Vec::new();
        let mut link = |relation: &str, page: usize| {
            let mut url = url::Url::parse(&self.web).unwrap();
            url.set_path(&asked.path);
            for (name, value) in asked.query.iter().filter(|(name, _)| *name != "page") {
                url.query_pairs_mut().append_pair(name, value.as_str().unwrap_or_default());
            }
            url.query_pairs_mut().append_pair("page", &page.to_string());
            links.push(format!("<{url}>; rel=\"{relation}\""));
        };
        if page > 1 {
            link("prev", (page - 1).min(last));
        }
        if page < last {
            link("next", page + 1);
            link("last", last);
        }
        if page > 1 {
            link("first", 1);
        }
        let shown: Vec<Value> = entries.into_iter().skip((page - 1) * size).take(size).collect();
        let reply = Reply::json(200, &Value::Array(shown));
        if links.is_empty() { reply } else { reply.with("link", links.join(", ")) }
    }
}

/// That it is our app which asks.
fn check_app(asked: &Asked, client_id: &str) -> Result<(), Refused> {
    let right = asked
        .basic()
        .is_some_and(|(id, secret)| id == client_id && id == GitHub::CLIENT_ID && secret == GitHub::CLIENT_SECRET);
    if right { Ok(()) } else { Err(Reply::error(401, "Bad credentials")) }
}

/// The endpoints of OAuth answer as a form, unless JSON is asked for.
fn in_the_wanted_form(asked: &Asked, body: &Value) -> Reply {
    if asked.header("accept").is_some_and(|accept| accept.contains("json")) {
        return Reply::json(200, body);
    }
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in body.as_object().unwrap() {
        text.append_pair(name, value.as_str().unwrap_or(&value.to_string()));
    }
    let headers = vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
    Reply { status: 200, headers, body: text.finish().into_bytes() }
}

/// An error of OAuth, which GitHub sends with status 200.
fn oauth_error(code: &str, description: &str) -> Value {
    json!({
        "error": code,
        "error_description": description,
        "error_uri": format!("https://docs.github.com/apps/oauth-apps/troubleshooting#{}", code.replace('_', "-")),
    })
}

fn scopes_of(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The pages, and what stands behind them.
impl State {
    /// The page that asks whether our app may, or where it leads when that is settled.
    fn authorize(&mut self, parameters: &Map<String, Value>, user: Option<u64>) -> Reply {
        let get = |name: &str| parameters.get(name).and_then(Value::as_str);
        if get("client_id") != Some(GitHub::CLIENT_ID) {
            return Reply::html(404, "Page not found", "");
        }
        let Some(redirect_uri) = get("redirect_uri").map(str::to_owned).or_else(|| self.callback.clone()) else {
            return Reply::html(400, "No callback", "<p>This app has no callback, and named none.</p>");
        };
        let back = |to: &str, pairs: &[(&str, &str)]| {
            let Ok(mut url) = url::Url::parse(to) else {
                return Reply::html(400, "Bad callback", "<p>The callback is not a URL.</p>");
            };
            url.query_pairs_mut().extend_pairs(pairs).extend_pairs(get("state").map(|state| ("state", state)));
            Reply::redirect(url.into())
        };
        if let Some(registered) = &self.callback
            && !is_below(registered, &redirect_uri)
        {
            let description = "The redirect_uri MUST match the registered callback URL for this application.";
            return back(registered, &[("error", "redirect_uri_mismatch"), ("error_description", description)]);
        }
        if std::mem::take(&mut self.deny) {
            let description = "The user has denied your application access.";
            return back(&redirect_uri, &[("error", "access_denied"), ("error_description", description)]);
        }
        if get("code_challenge").is_some() && get("code_challenge_method") != Some("S256") {
            return Reply::html(400, "Bad challenge", "<p>The method of the challenge has to be S256.</p>");
        }
        let Some(user) = user else {
            return self.ask_who(parameters);
        };
        let code = random(20, HEX);
        let scopes = scopes_of(get("scope").unwrap_or_default());
        let challenge = get("code_challenge").map(str::to_owned);
        let reply = back(&redirect_uri, &[("code", &code)]);
        self.codes.insert(code, Code { user, scopes, redirect_uri, challenge });
        reply
    }

    /// One button for each person, since nobody is signed in.
    fn ask_who(&self, parameters: &Map<String, Value>) -> Reply {
        let hidden = parameters.iter().filter(|(name, _)| *name != "login").fold(String::new(), |mut text, entry| {
            let (name, value) = (escape(entry.0), escape(entry.1.as_str().unwrap_or_default()));
            writeln!(text, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">").unwrap();
            text
        });
        let mut form = format!("<form method=\"post\" action=\"/login/oauth/authorize\">\n{hidden}");
        for user in &self.users {
            let login = escape(&user.login);
            writeln!(form, "<button name=\"login\" value=\"{login}\">Authorize as {login}</button>").unwrap();
        }
        form.push_str("</form>\n");
        Reply::html(200, "Authorize Registry of the tests", &form)
    }

    fn access_token(&mut self, asked: &Asked) -> Value {
        // Parameters may be in the query as well.
        let get = |name: &str| asked.sent(name).or_else(|| asked.queried(name));
        if get("client_id") != Some(GitHub::CLIENT_ID) {
            return wrong_credentials();
        }
        let (user, scopes) = match get("grant_type") {
            Some(DEVICE_GRANT) => match self.poll(get("device_code").unwrap_or_default()) {
                Ok(granted) => granted,
                Err(refused) => return refused,
            },
            None | Some("authorization_code") => {
                if get("client_secret") != Some(GitHub::CLIENT_SECRET) {
                    return wrong_credentials();
                }
                let bad = || oauth_error("bad_verification_code", "The code passed is incorrect or expired.");
                // Gone at the first try, right or wrong.
                let Some(code) = self.codes.remove(get("code").unwrap_or_default()) else { return bad() };
                if get("redirect_uri").is_some_and(|uri| uri != code.redirect_uri) {
                    let description = "The redirect_uri MUST match the registered callback URL for this application.";
                    return oauth_error("redirect_uri_mismatch", description);
                }
                if let Some(challenge) = &code.challenge {
                    let verifier = get("code_verifier").unwrap_or_default();
                    let hashed = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
                    if hashed != *challenge {
                        return bad();
                    }
                }
                (code.user, code.scopes)
            }
            Some(_) => return oauth_error("unsupported_grant_type", "The grant type is not supported."),
        };
        let scope = scopes.join(",");
        let token = self.new_token(user, if self.old { "" } else { "gho_" }, Issued::ToOurApp, scopes);
        json!({ "access_token": token, "token_type": "bearer", "scope": scope })
    }

    fn device_code(&mut self, asked: &Asked) -> Value {
        let get = |name: &str| asked.sent(name).or_else(|| asked.queried(name));
        if get("client_id") != Some(GitHub::CLIENT_ID) {
            return wrong_credentials();
        }
        let device_code = random(40, HEX);
        let user_code = format!("{}-{}", random(4, TYPED), random(4, TYPED));
        let device = Device {
            user_code: user_code.clone(),
            scopes: scopes_of(get("scope").unwrap_or_default()),
            verdict: Verdict::Pending,
            interval: Duration::from_secs(DEVICE_INTERVAL),
            asked: None,
        };
        self.devices.insert(device_code.clone(), device);
        json!({
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": format!("{}/login/device", self.web),
            "expires_in": DEVICE_SECONDS,
            "interval": DEVICE_INTERVAL,
        })
    }

    /// What became of a device: who agreed to which scopes, or the error.
    fn poll(&mut self, device_code: &str) -> Result<(u64, Vec<String>), Value> {
        let Some(device) = self.devices.get_mut(device_code) else {
            return Err(oauth_error("incorrect_device_code", "The device_code provided is not valid."));
        };
        let too_early = device.asked.is_some_and(|asked| asked.elapsed() < device.interval);
        device.asked = Some(Instant::now());
        if too_early {
            // GitHub adds five seconds.
            device.interval += Duration::from_secs(1);
            let mut error = oauth_error("slow_down", "Too many requests have been made in the same timeframe.");
            error["interval"] = json!(device.interval.as_secs());
            return Err(error);
        }
        match device.verdict {
            Verdict::Pending => {
                Err(oauth_error("authorization_pending", "The authorization request is still pending."))
            }
            Verdict::Denied => Err(oauth_error("access_denied", "The authorization request was denied.")),
            Verdict::Expired => Err(oauth_error("expired_token", "This 'device_code' has expired.")),
            Verdict::Approved(user) => {
                let device = self.devices.remove(device_code).unwrap();
                Ok((user, device.scopes))
            }
        }
    }

    fn device_page(&self, user_code: &str) -> Reply {
        let mut form = format!(
            "<form method=\"post\" action=\"/login/device\">\n\
             <label>Code <input name=\"user_code\" value=\"{}\"></label>\n",
            escape(user_code)
        );
        for user in &self.users {
            let login = escape(&user.login);
            writeln!(form, "<button name=\"login\" value=\"{login}\">Authorize as {login}</button>").unwrap();
        }
        form.push_str("<button name=\"login\" value=\"\">Cancel</button>\n</form>\n");
        Reply::html(200, "Device Activation", &form)
    }

    fn decide_device(&mut self, asked: &Asked) -> Reply {
        let user = asked.sent("login").and_then(|login| self.user(login)).map(|user| user.id);
        let code = asked.sent("user_code").unwrap_or_default();
        let Some(device) = self.devices.values_mut().find(|device| device.user_code == code) else {
            return Reply::html(200, "Device Activation", "<p>Uh oh, we couldn’t find anything.</p>");
        };
        device.verdict = user.map_or(Verdict::Denied, Verdict::Approved);
        let title = if user.is_some() { "Congratulations, you’re all set!" } else { "Device access denied" };
        Reply::html(200, title, "")
    }
}

fn wrong_credentials() -> Value {
    oauth_error("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
}

/// Whether a callback is the registered one, or below it on the same host and port.
fn is_below(registered: &str, callback: &str) -> bool {
    let (Ok(registered), Ok(callback)) = (url::Url::parse(registered), url::Url::parse(callback)) else {
        return false;
    };
    let (above, path) = (registered.path().trim_end_matches('/'), callback.path());
    registered.origin() == callback.origin() && (path == above || path.starts_with(&format!("{above}/")))
}
