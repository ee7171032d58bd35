//! Our own client of a Holdfast somewhere: what `holdfast login`, `holdfast policy` and `holdfast publish` need.
//!
//! Answers are bounded, waits are limited, and no redirect is followed: the token that comes is for this server.

mod publish;

pub use publish::{Parcel, Place};

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::policy::{Explanation, VersionVerdict};
use crate::secret::Secret;

/// For a question to which the registry has to ask others.
const CHECK_TIMEOUT: Duration = Duration::from_mins(5);
/// For one question and its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An explanation of a package with thousands of versions that are all withheld takes less.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// As it was given.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It said no.
    #[error("{sentence}")]
    Refused {
        /// Its stable code; empty where there is none.
        code: String,
        /// For people.
        sentence: String,
        /// What the registry's log has it under; empty where it does not say.
        request_id: String,
    },
    /// Its answer is not one of a Holdfast.
    #[error("{0} did not answer as a Holdfast registry does")]
    Strange(String),
    /// The bucket did not take an upload.
    #[error("{host} refused the upload with status {status}")]
    Bucket {
        /// Whose bucket.
        host: String,
        /// What it answered.
        status: u16,
    },
    /// The runner of the CI job gave no identity token.
    #[error("the runner of this job gave no identity token: does the job have the permission `id-token: write`?")]
    NoIdentity,
    /// The tarball cannot be read any more.
    #[error("the tarball cannot be read")]
    Tarball(#[source] std::io::Error),
}

/// A registry somewhere.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
    one_time_code: Option<Secret>,
}

#[derive(Deserialize)]
struct Verdicts {
    verdicts: Vec<VersionVerdict>,
}

/// A sign-in that waits for a code to be typed at GitHub.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceLogin {
    /// What to type.
    pub user_code: String,
    /// Where to type it.
    pub verification_url: String,
    /// Where to ask whether it was typed.
    done_url: String,
    /// Seconds between two questions.
    interval: u64,
    /// Seconds until it is too late.
    pub expires_in: u64,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    request_id: String,
}

#[derive(Deserialize)]
struct Done {
    token: String,
}

impl Client {
    /// For the registry at this address, path prefix included.
    ///
    /// # Errors
    /// When the system has no usable TLS certificates.
    pub fn new(mut base: Url) -> Result<Self, Error> {
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| Error::Unreachable { url: base.to_string(), source })?;
        Ok(Self { http, base, token: None, one_time_code: None })
    }

    /// The address, with a slash at its end.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a token with what is asked from now on.
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(Secret::new(token)), ..self }
    }

    /// Sends a one-time code along too.
    pub fn with_code(self, code: String) -> Self {
        Self { one_time_code: Some(Secret::new(code)), ..self }
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        match &self.one_time_code {
            Some(code) => request.header("npm-otp", code.expose()),
            None => request,
        }
    }

    /// What is withheld of a package, and why.
    pub async fn explain(&self, package: &str) -> Result<Explanation, Error> {
        let url = format!("{}-/holdfast/v1/explain/{}", self.base, package.replacen('/', "%2f", 1));
        let (status, answer) = self.send(self.authorized(self.http.get(url))).await?;
        self.read(status, &answer)
    }

    /// A verdict on each of several versions, name and number, in their order.
    pub async fn check(&self, versions: &[(String, String)]) -> Result<Vec<VersionVerdict>, Error> {
        let url = format!("{}-/holdfast/v1/check", self.base);
        let packages: Vec<serde_json::Value> =
            versions.iter().map(|(name, version)| serde_json::json!({ "name": name, "version": version })).collect();
        let body = serde_json::json!({ "packages": packages }).to_string();
        let request = self.http.post(url).header("content-type", "application/json").timeout(CHECK_TIMEOUT).body(body);
        let (status, answer) = self.send(self.authorized(request)).await?;
        self.read::<Verdicts>(status, &answer).map(|verdicts| verdicts.verdicts)
    }

    /// Begins a sign-in for this machine.
    pub async fn begin_login(&self, machine: Option<&str>) -> Result<DeviceLogin, Error> {
        let url = format!("{}-/v1/login/device", self.base);
        let body = serde_json::json!({ "hostname": machine }).to_string();
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        let (status, answer) = self.send(request).await?;
        self.read(status, &answer)
    }

    /// Waits until the code was typed, and returns the token.
    pub async fn finish_login(&self, login: &DeviceLogin) -> Result<String, Error> {
        let mut pause = Duration::from_secs(login.interval.clamp(1, 60));
        loop {
            tokio::time::sleep(pause).await;
            let response = self.http.get(&login.done_url).send().await;
            let response = response.map_err(|source| Error::Unreachable { url: self.base.to_string(), source })?;
            let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            pause = asked.map_or(pause, |seconds: u64| Duration::from_secs(seconds.clamp(1, 60)));
            let status = response.status();
            let answer = self.body(response).await?;
            if status != reqwest::StatusCode::ACCEPTED {
                return self.read::<Done>(status, &answer).map(|done| done.token);
            }
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(reqwest::StatusCode, Vec<u8>), Error> {
        let response = request.send().await;
        let response = response.map_err(|source| Error::Unreachable { url: self.base.to_string(), source })?;
        let status = response.status();
        Ok((status, self.body(response).await?))
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        let failed = |source| Error::Unreachable { url: self.base.to_string(), source };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Error::Strange(self.base.to_string()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, status: reqwest::StatusCode, answer: &[u8]) -> Result<T, Error> {
        let strange = || Error::Strange(self.base.to_string());
        if status.is_success() {
            return serde_json::from_slice(answer).map_err(|_| strange());
        }
        let Refusal { code, error, request_id } = serde_json::from_slice(answer).map_err(|_| strange())?;
        if error.is_empty() { Err(strange()) } else { Err(Error::Refused { code, sentence: error, request_id }) }
    }
}
