//! THE route table: the only place where a path is written.
//!
//! A line reads method, path, who may call it, handler; the handler's module is the file. `holdfast routes` and
//! `docs/http-api.md` are made from it. Paths are matched in their canonical spelling (`path.rs`), so a scoped name is
//! one segment.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::Response;
use axum::routing::{MethodFilter, any, on};
use http::{HeaderMap, Method};
use serde::Serialize;

use super::error::ApiError;
use super::extract::{File, Identity, Package};
use super::notes::Notes;
use super::{
    access, attestations, audit, browser, device, dist_tags, downloads, events, health, hooks, invitation, login,
    metrics, oidc, owners, packument, policy, profile, publish, search, stars, tarball, teams, tokens, trust, uploads,
    web,
};
use crate::app::App;

/// Who may call a route. What exactly is decided below, in `auth/access_policy.rs`; this is the least that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody, always.
    Anybody,
    /// Whoever may read: anybody, or accounts only, by setting.
    Readers,
    /// Any account.
    Accounts,
    /// Whom the rules let change the package; without rules its owners, or any account where that is set.
    Owners,
    /// Those whom `access.admins` names.
    Administrators,
}

/// A line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Route {
    /// The HTTP method. `GET` answers `HEAD` too.
    pub method: &'static str,
    /// The path, with `{names}` for its variable segments.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// The handler, as `module::function`.
    pub handler: String,
}

/// The router and the table it was made from.
pub struct Routes {
    router: Router<App>,
    table: Vec<Route>,
}

/// A handler that notes which line of the table it stands in.
#[derive(Clone)]
struct InLine<H> {
    handler: H,
    line: usize,
}

impl<H, T> Handler<T, App> for InLine<H>
where
    H: Handler<T, App>,
    T: 'static,
{
    type Future = H::Future;

    fn call(self, request: Request, app: App) -> Self::Future {
        if let Some(notes) = Notes::of(request.extensions()) {
            notes.takes_line(self.line);
        }
        self.handler.call(request, app)
    }
}

const PACKUMENT: &str = "/{package}";
const TARBALL: &str = "/{package}/-/{file}";

/// A request for a packument or a tarball, which is what installations ask for again and again. It is answered without the
/// router, which looks paths up in a tree, takes their variables out as texts, and boxes what answers: more work than the
/// answer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frequent<'a> {
    /// A packument.
    Packument {
        /// The segment of its package.
        package: &'a str,
    },
    /// A tarball.
    Tarball {
        /// The segment of its package.
        package: &'a str,
        /// That of its file.
        file: &'a str,
    },
}

impl<'a> Frequent<'a> {
    /// All their paths in the table.
    pub(super) const PATTERNS: [&'static str; 2] = [PACKUMENT, TARBALL];

    /// Which one a request asks for, by a path in its canonical spelling.
    pub(super) fn of(method: &Method, path: &'a str) -> Option<Self> {
        if method != Method::GET {
            return None;
        }
        let (package, rest) = match path.strip_prefix('/')?.split_once('/') {
            Some((package, rest)) => (package, Some(rest)),
            None => (path.strip_prefix('/')?, None),
        };
        if package.is_empty() || package == "-" {
            return None;
        }
        let Some(rest) = rest else { return Some(Self::Packument { package }) };
        let file = rest.strip_prefix("-/").filter(|file| !file.is_empty() && !file.contains('/'))?;
        Some(Self::Tarball { package, file })
    }

    /// Which of [`Frequent::PATTERNS`] it is.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Packument { .. } => 0,
            Self::Tarball { .. } => 1,
        }
    }

    /// Answers it.
    pub(super) async fn answer(self, app: &App, notes: &Notes, headers: &HeaderMap) -> Result<Response, ApiError> {
        let Identity(caller) = Identity::of(app, headers, notes).await?;
        match self {
            Self::Packument { package } => {
                let Package(name) = Package::of(package)?;
                packument::answer(app, &caller, &name, &notes.origin().base, headers).await
            }
            Self::Tarball { package, file } => {
                let Package(name) = Package::of(package)?;
                let File(file) = File::of(file)?;
                tarball::answer(app, &caller, &name, &file, true, headers).await
            }
        }
    }
}

/// All routes.
#[rustfmt::skip]
pub fn routes() -> Routes {
    use Access::{Accounts, Administrators, Anybody, Owners, Readers};
    Routes { router: Router::new(), table: Vec::new() }
        // Packages.
        .get(PACKUMENT, Readers, packument::get)
        .get("/{package}/{wanted}", Readers, packument::version)
        .get(TARBALL, Readers, tarball::get)
        .put("/{package}", Owners, publish::put)
        .put("/{package}/-rev/{revision}", Owners, publish::put_revision)
        .delete("/{package}/-rev/{revision}", Owners, publish::delete_revision)
        .delete("/{package}/-/{file}/-rev/{revision}", Owners, tarball::delete)
        // Tags.
        .get("/-/package/{package}/dist-tags", Readers, dist_tags::list)
        .put("/-/package/{package}/dist-tags", Owners, dist_tags::replace)
        .post("/-/package/{package}/dist-tags", Owners, dist_tags::merge)
        .put("/-/package/{package}/dist-tags/{tag}", Owners, dist_tags::set)
        .post("/-/package/{package}/dist-tags/{tag}", Owners, dist_tags::set)
        .delete("/-/package/{package}/dist-tags/{tag}", Owners, dist_tags::remove)
        // Owners and access.
        .get("/-/package/{package}/owners", Readers, owners::list)
        .put("/-/package/{package}/owners", Owners, owners::add)
        .delete("/-/package/{package}/owners/{user}", Owners, owners::remove)
        .get("/-/package/{package}/visibility", Readers, access::visibility)
        .get("/-/package/{package}/access", Readers, access::get)
        .get("/-/package/{package}/collaborators", Readers, access::collaborators)
        .post("/-/package/{package}/access", Accounts, teams::changed_in_settings)
        .put("/-/package/{package}/access", Accounts, teams::changed_in_settings)
        // Organisations and teams.
        .get("/-/org/{organization}/user", Accounts, teams::members)
        .put("/-/org/{organization}/user", Accounts, teams::changed_at_github)
        .delete("/-/org/{organization}/user", Accounts, teams::changed_at_github)
        .get("/-/org/{organization}/team", Accounts, teams::teams)
        .put("/-/org/{organization}/team", Accounts, teams::changed_at_github)
        .get("/-/org/{organization}/package", Readers, teams::packages_of_organization)
        .delete("/-/team/{organization}/{team}", Accounts, teams::changed_at_github)
        .get("/-/team/{organization}/{team}/user", Accounts, teams::team_members)
        .put("/-/team/{organization}/{team}/user", Accounts, teams::changed_at_github)
        .delete("/-/team/{organization}/{team}/user", Accounts, teams::changed_at_github)
        .get("/-/team/{organization}/{team}/package", Readers, teams::packages_of_team)
        .put("/-/team/{organization}/{team}/package", Accounts, teams::changed_in_settings)
        .delete("/-/team/{organization}/{team}/package", Accounts, teams::changed_in_settings)
        .get("/-/user/{user}/package", Readers, teams::packages_of_user)
        // Workflows.
        .get("/-/package/{package}/trust", Owners, trust::list)
        .post("/-/package/{package}/trust", Owners, trust::add)
        .delete("/-/package/{package}/trust/{id}", Owners, trust::remove)
        .post("/-/npm/v1/oidc/token/exchange/package/{package}", Anybody, oidc::exchange)
        .post("/-/npm/v1/oidc/token/exchange", Anybody, oidc::exchange_to_read)
        // Stars.
        .get("/-/_view/starredByUser", Readers, stars::view)
        .get("/-/user/v1/star", Accounts, stars::own)
        .put("/-/user/v1/star", Accounts, stars::add)
        .delete("/-/user/v1/star", Accounts, stars::remove)
        .get("/-/user/{user}/stars", Readers, stars::of_user)
        // Hooks.
        .get("/-/npm/v1/hooks", Accounts, hooks::list)
        .post("/-/npm/v1/hooks/hook", Accounts, hooks::add)
        .get("/-/npm/v1/hooks/hook/{id}", Accounts, hooks::get)
        .put("/-/npm/v1/hooks/hook/{id}", Accounts, hooks::update)
        .delete("/-/npm/v1/hooks/hook/{id}", Accounts, hooks::remove)
        // Accounts.
        .get("/-/whoami", Accounts, profile::whoami)
        .get("/-/npm/v1/user", Accounts, profile::get)
        .post("/-/npm/v1/user", Accounts, profile::set)
        .get("/-/npm/v1/tokens", Accounts, tokens::list)
        .post("/-/npm/v1/tokens", Accounts, tokens::create)
        .delete("/-/npm/v1/tokens/token/{key}", Accounts, tokens::revoke)
        .put("/-/user/org.couchdb.user:{user}", Anybody, login::sign_in)
        .put("/-/user/org.couchdb.user:{user}/-rev/{revision}", Anybody, login::sign_in)
        .get("/-/user/org.couchdb.user:{user}", Readers, login::user)
        .delete("/-/user/token/{token}", Anybody, login::sign_out)
        // Signing in in the browser, and on another device.
        .post("/-/v1/login", Anybody, browser::begin)
        .post("/-/v1/login/device", Anybody, device::begin)
        .get("/-/v1/done", Anybody, browser::done)
        .get("/-/login/{id}", Anybody, browser::page)
        .post("/-/login/{id}", Anybody, browser::sign_in)
        .get("/-/login/{id}/github", Anybody, browser::to_github)
        .post("/-/login/{id}/confirm", Anybody, browser::confirm)
        .get("/-/github/callback", Anybody, browser::from_github)
        .get("/-/invite/{code}", Anybody, invitation::page)
        .post("/-/invite/{code}", Anybody, invitation::accept)
        .get(web::STYLESHEET_PATH, Anybody, web::stylesheet)
        // Search and audit.
        .get("/-/v1/search", Readers, search::search)
        .get("/-/all", Readers, search::all)
        .post("/-/npm/v1/security/advisories/bulk", Readers, audit::bulk)
        .post("/-/npm/v1/security/audits/quick", Readers, audit::quick)
        .post("/-/npm/v1/security/audits", Readers, audit::full)
        .get("/-/npm/v1/attestations/{spec}", Readers, attestations::get)
        // Downloads.
        .get("/-/downloads/point/{period}", Readers, downloads::point_of_all)
        .get("/-/downloads/point/{period}/{package}", Readers, downloads::point)
        .get("/-/downloads/range/{period}", Readers, downloads::range_of_all)
        .get("/-/downloads/range/{period}/{package}", Readers, downloads::range)
        .get("/-/versions/{package}/last-week", Readers, downloads::versions)
        // The policy.
        .get("/-/holdfast/v1/explain/{package}", Readers, policy::explain)
        .post("/-/holdfast/v1/check", Readers, policy::check)
        // The record of events.
        .get("/-/holdfast/v1/events", Administrators, events::list)
        // Publishing by the bucket.
        .post("/-/holdfast/v1/package/{package}/uploads", Owners, uploads::begin)
        .post("/-/holdfast/v1/package/{package}/uploads/{id}/commit", Owners, uploads::commit)
        // The server itself.
        .get("/", Anybody, health::root)
        .get("/-/ping", Anybody, health::ping)
        .get("/-/ready", Anybody, health::ready)
        .get("/-/metrics", Anybody, metrics::get)
}

impl Routes {
    fn get<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add("GET", MethodFilter::GET, path, access, handler)
    }

    fn put<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add("PUT", MethodFilter::PUT, path, access, handler)
    }

    fn post<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add("POST", MethodFilter::POST, path, access, handler)
    }

    fn delete<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.add("DELETE", MethodFilter::DELETE, path, access, handler)
    }

    fn add<H, T>(
        mut self,
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let full_name = std::any::type_name::<H>();
        let handler_name = full_name.strip_prefix("holdfast::http::").unwrap_or(full_name).to_owned();
        let in_line = InLine { handler, line: self.table.len() };
        self.table.push(Route { method, path, access, handler: handler_name });
        self.router = self.router.route(path, on(filter, in_line));
        self
    }

    /// The table.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// Where in the table a line stands. One that is not there has the number after the last.
    pub(super) fn line_of(&self, method: &str, path: &str) -> usize {
        let found = self.table.iter().position(|route| route.method == method && route.path == path);
        found.unwrap_or(self.table.len())
    }

    /// The router, with an answer for all that is in no line. What npm reserves is no package: without lines of its own
    /// an unknown `/-/thing` would be the version `thing` of a package `-`.
    pub(super) fn into_router<H, T>(self, no_route: H) -> Router<App>
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let reserved = ["/-", "/-/", "/-/{*rest}"];
        let router = reserved.iter().fold(self.router, |router, path| router.route(path, any(no_route.clone())));
        router.fallback(no_route)
    }
}
