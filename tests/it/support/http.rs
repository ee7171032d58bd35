//! Requests of the test's own, and the documents that clients would send.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::tarballs::{self, Tarball};

/// The `Accept` of installs, in the spelling of npm 6 to 10.
pub(crate) const INSTALL_ACCEPT: &str = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*";

/// A caller of one registry, with or without a token.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    base: String,
    token: Option<String>,
    client: reqwest::Client,
}

/// Status and body, read to the end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("the body of an answer").to_vec();
        Self { status, headers, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} with a body that is no JSON: {error}: {}", self.status, self.text()))
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Fails the test for anything but a 2xx.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self
    }
}

impl Http {
    pub(crate) fn new(base: &str) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(super::PATIENCE)
            .build()
            .unwrap();
        Self { base: base.trim_end_matches('/').to_owned(), token: None, client }
    }

    /// The same registry, as somebody.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Sends a request. The path starts with a slash and is sent as it is.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method.clone(), &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        Answer::read(response).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await
    }

    /// As an install asks.
    pub(crate) async fn get_abbreviated(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("accept", INSTALL_ACCEPT)], Vec::new()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        let body = serde_json::to_vec(body).unwrap();
        self.send(Method::PUT, path, &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Vec::new()).await
    }

    /// Creates a user by legacy login, and gives its token.
    pub(crate) async fn create_user(&self, name: &str, password: &str) -> String {
        let id = format!("org.couchdb.user:{name}");
        let body = json!({
            "_id": id, "name": name, "password": password, "email": format!("{name}@example.test"),
            "type": "user", "roles": [], "date": "2026-01-01T00:00:00.000Z",
        });
        let answer = self.put(&format!("/-/user/{id}"), &body).await.ok();
        answer.json()["token"].as_str().unwrap_or_else(|| panic!("no token in {}", answer.text())).to_owned()
    }

    /// Publishes a tarball as npm 11 does, with tag `latest`.
    pub(crate) async fn publish(&self, tarball: &Tarball) -> Answer {
        let document = publish_document(tarball, "latest");
        let name = document["name"].as_str().unwrap().replacen('/', "%2f", 1);
        self.put(&format!("/{name}"), &document).await
    }
}

/// The same without the tarball, which came by an upload.
pub(crate) fn document_of_upload(tarball: &Tarball, tag: &str) -> Value {
    let mut document = publish_document(tarball, tag);
    for (_, attachment) in document["_attachments"].as_object_mut().unwrap() {
        attachment.as_object_mut().unwrap().remove("data");
    }
    document
}

/// The body of a publish, in the shape of npm 11.
pub(crate) fn publish_document(tarball: &Tarball, tag: &str) -> Value {
    let bytes = tarball.bytes();
    let name = tarball.manifest["name"].as_str().unwrap();
    let version = tarball.manifest["version"].as_str().unwrap();
    let mut manifest = tarball.manifest.clone();
    manifest["_id"] = json!(format!("{name}@{version}"));
    manifest["_npmVersion"] = json!("11.0.0");
    manifest["dist"] = json!({
        "integrity": tarballs::integrity(&bytes),
        "shasum": tarballs::shasum(&bytes),
        "tarball": format!("http://registry.example.test/{name}/-/{name}-{version}.tgz"),
    });
    json!({
        "_id": name,
        "name": name,
        "dist-tags": { tag: version },
        "versions": { version: manifest },
        "access": null,
        "_attachments": {
            format!("{name}-{version}.tgz"): {
                "content_type": "application/octet-stream",
                "data": tarballs::base64(&bytes),
                "length": bytes.len(),
            },
        },
    })
}
