//! Which GitHub is asked, and as whom.

use std::fmt;
use std::time::Duration;

use url::{Host, Url};

use super::BuildError;
use super::client::is_sendable;
use crate::secret::Secret;

/// The longest client ID; GitHub's have 20 characters.
const MAX_CLIENT_ID: usize = 100;

/// One GitHub: the public one, or an Enterprise server. Made with [`Settings::new`], then changed field by field.
#[derive(Clone)]
pub struct Settings {
    /// The base of the REST API: `https://api.github.com/`, or `https://host/api/v3/` of an Enterprise server. With or
    /// without a slash at the end. Plain http is for loopback only.
    pub api_url: Url,
    /// The base of the pages that people sign in on: `https://github.com/`.
    pub web_url: Url,
    /// The OAuth app that people sign in with, and whose tokens are taken.
    pub client_id: Option<String>,
    /// The app's secret. Without it only the device flow works, and tokens cannot be checked as the app's.
    pub client_secret: Option<Secret>,
    /// A token of our own, for what callers' tokens do not show: the roles of others in a repository.
    pub service_token: Option<Secret>,
    /// For one request and its answer, connecting included. A list takes one request for each hundred entries.
    pub timeout: Duration,
}

impl Settings {
    /// Defaults for everything but the address of the API; that of the pages follows from it.
    pub fn new(api_url: Url) -> Self {
        let web_url = web_url_of(&api_url);
        Self {
            api_url,
            web_url,
            client_id: None,
            client_secret: None,
            service_token: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// Checks the settings, and gives them with addresses that end with a slash.
    pub(super) fn checked(mut self) -> Result<Self, BuildError> {
        check_url(&mut self.api_url)?;
        check_url(&mut self.web_url)?;
        let is_id_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_id = |id: &String| {
            (1..=MAX_CLIENT_ID).contains(&id.len()) && !id.starts_with('.') && id.chars().all(is_id_character)
        };
        if !self.client_id.as_ref().is_none_or(is_id) {
            return Err(BuildError::ClientId);
        }
        let is_secret = |secret: &Secret| is_sendable(secret.expose());
        if !self.client_secret.as_ref().is_none_or(is_secret) || !self.service_token.as_ref().is_none_or(is_secret) {
            return Err(BuildError::Credentials);
        }
        Ok(self)
    }
}

impl fmt::Debug for Settings {
    /// Leaves out what may hold a password: a URL prints its user information.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("api_host", &self.api_url.host_str())
            .field("web_host", &self.web_url.host_str())
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("service_token", &self.service_token)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Where the pages of the GitHub with this API are: `api.github.com` belongs to `github.com`, `api.NAME.ghe.com` to
/// `NAME.ghe.com`, and an Enterprise server's pages are where its `api/v3/` is. Elsewhere, at the root.
fn web_url_of(api_url: &Url) -> Url {
    let mut url = api_url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let path = api_url.path().trim_end_matches('/');
    let prefix = path.strip_suffix("/api/v3").unwrap_or_default();
    url.set_path(&format!("{prefix}/"));
    if is_github_com(api_url)
        && let Some(host) = api_url.host_str().and_then(|host| host.strip_prefix("api."))
    {
        // It came from a URL, so it is a host.
        let _ = url.set_host(Some(host));
    }
    url
}

/// True for GitHub's own service: `api.github.com`, and `*.ghe.com`, where it runs Enterprise itself.
pub(super) fn is_github_com(api_url: &Url) -> bool {
    api_url.host_str().is_some_and(|host| host == "api.github.com" || host.ends_with(".ghe.com"))
}

/// True for an address that cannot leave the machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn check_url(url: &mut Url) -> Result<(), BuildError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BuildError::CredentialsInUrl);
    }
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !is_web || url.query().is_some() || url.fragment().is_some() {
        return Err(BuildError::Url);
    }
    if url.scheme() == "http" && !is_loopback(url) {
        return Err(BuildError::PlainHttp);
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(api_url: &str) -> Settings {
        Settings::new(api_url.parse().unwrap())
    }

    #[test]
    fn the_address_of_the_pages_follows_from_that_of_the_api() {
        for (api, web) in [
            ("https://api.github.com/", "https://github.com/"),
            ("https://api.github.com", "https://github.com/"),
            ("https://api.acme.ghe.com/", "https://acme.ghe.com/"),
            ("https://code.acme.dev/api/v3/", "https://code.acme.dev/"),
            ("https://code.acme.dev:8443/api/v3", "https://code.acme.dev:8443/"),
            ("https://acme.dev/github/api/v3/", "https://acme.dev/github/"),
            ("http://127.0.0.1:4000/", "http://127.0.0.1:4000/"),
            ("http://127.0.0.1:4000/rest/", "http://127.0.0.1:4000/"),
            ("https://api.acme.dev/", "https://api.acme.dev/"),
        ] {
            assert_eq!(settings(api).web_url.as_str(), web, "{api}");
        }
    }

    #[test]
    fn githubs_own_service_is_told_from_an_enterprise_server() {
        for (api, is_own) in [
            ("https://api.github.com/", true),
            ("https://api.acme.ghe.com/", true),
            ("https://code.acme.dev/api/v3/", false),
            ("https://notghe.com/api/v3/", false),
            ("https://api.github.com.acme.dev/", false),
        ] {
            assert_eq!(is_github_com(&api.parse().unwrap()), is_own, "{api}");
        }
    }

    #[test]
    fn addresses_are_checked_and_end_with_a_slash() {
        let checked = settings("https://code.acme.dev:8443/api/v3").checked().unwrap();
        assert_eq!(checked.api_url.as_str(), "https://code.acme.dev:8443/api/v3/");
        assert!(settings("http://localhost:4000/").checked().is_ok());
        assert!(settings("http://[::1]:4000/").checked().is_ok());
        assert!(matches!(settings("http://code.acme.dev/").checked(), Err(BuildError::PlainHttp)));
        assert!(matches!(settings("https://a:b@code.acme.dev/").checked(), Err(BuildError::CredentialsInUrl)));
        assert!(matches!(settings("https://code.acme.dev/?a=b").checked(), Err(BuildError::Url)));
        assert!(matches!(settings("ftp://code.acme.dev/").checked(), Err(BuildError::Url)));
    }

    #[test]
    fn the_apps_credentials_are_checked() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = settings("https://api.github.com/");
            change(&mut settings);
            settings.checked()
        };
        assert!(with(|settings| settings.client_id = Some("Ov23li.aB_c-d".to_owned())).is_ok());
        let refused = with(|settings| settings.client_id = Some("../user".to_owned()));
        assert!(matches!(refused, Err(BuildError::ClientId)));
        let refused = with(|settings| settings.client_secret = Some(Secret::new("a\nb")));
        assert!(matches!(refused, Err(BuildError::Credentials)));
        let refused = with(|settings| settings.service_token = Some(Secret::new("")));
        assert!(matches!(refused, Err(BuildError::Credentials)));
    }

    #[test]
    fn printed_settings_show_no_secret() {
        let mut settings = settings("https://user:hunter2@api.github.com/");
        settings.client_secret = Some(Secret::new("hunter2"));
        settings.service_token = Some(Secret::new("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
