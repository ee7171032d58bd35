//! CloudFormation, as moto has it, with a proxy before it: moto removes a stack in an instant, so that the proxy says of one that
//! it is being deleted. The proxy also takes what CloudFormation is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::Response;
use axum::http::request::Parts;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::loopback::Loopback;
use super::real_servers::{Kind, RealServer};

/// A sign of who asks, which moto wants and does not verify.
fn signed(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=S3RVER/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=none"
    )
}

/// Moto, behind a proxy.
pub(crate) struct CloudFormation {
    url: String,
    http: reqwest::Client,
    moto: RealServer,
    shared: Arc<Shared>,
    _proxy: Loopback,
}

#[derive(Default)]
struct Shared {
    is_deleting: AtomicBool,
    answers: Mutex<Vec<Value>>,
}

impl CloudFormation {
    /// `None` where moto is not there, as with [`RealServer::start`].
    pub(crate) async fn start() -> Option<Self> {
        let moto = RealServer::start(Kind::Moto, "other").await?;
        let (shared, mut url) = (Arc::new(Shared::default()), String::new());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let proxy = Loopback::start(|port| {
            url = format!("http://127.0.0.1:{port}");
            let (shared, http, behind) = (Arc::clone(&shared), http.clone(), moto.url().to_owned());
            move |head, body| pass(Arc::clone(&shared), http.clone(), behind.clone(), head, body)
        });
        Some(Self { url, http, moto, shared, _proxy: proxy })
    }

    /// The proxy's address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Makes a stack, with a bucket that the template calls so or without one. Returns its ARN.
    pub(crate) async fn stack(&self, name: &str, bucket: Option<&str>) -> String {
        let resources = match bucket {
            Some(bucket) => json!({ "Bucket": { "Type": "AWS::S3::Bucket", "Properties": {
                "BucketName": bucket, "VersioningConfiguration": { "Status": "Enabled" } } } }),
            None => json!({ "Other": { "Type": "AWS::SNS::Topic", "Properties": { "TopicName": "other" } } }),
        };
        let template = json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": resources }).to_string();
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("Action", "CreateStack"),
                ("Version", "2010-05-15"),
                ("StackName", name),
                ("TemplateBody", &template),
            ])
            .finish();
        let sent = self.http.post(self.moto.url()).header("authorization", signed("cloudformation"));
        let sent = sent.header("content-type", "application/x-www-form-urlencoded").body(body).send().await.unwrap();
        let text = sent.error_for_status().unwrap().text().await.unwrap();
        text.split("<StackId>").nth(1).and_then(|rest| rest.split("</StackId>").next()).unwrap().to_owned()
    }

    /// Whether stacks are being deleted, to whoever asks the proxy.
    pub(crate) fn is_deleting(&self, is_deleting: bool) {
        self.shared.is_deleting.store(is_deleting, Ordering::Relaxed);
    }

    /// What it was told, since this was last asked.
    pub(crate) fn answers(&self) -> Vec<Value> {
        std::mem::take(&mut self.shared.answers.lock().unwrap())
    }

    /// Asks moto's S3, past the proxy.
    pub(crate) async fn s3(&self, method: reqwest::Method, path: &str, body: &str) -> u16 {
        let sent =
            self.http.request(method, format!("{}{path}", self.moto.url())).header("authorization", signed("s3"));
        sent.body(body.to_owned()).send().await.unwrap().status().as_u16()
    }
}

async fn pass(
    shared: Arc<Shared>,
    http: reqwest::Client,
    behind: String,
    head: Parts,
    body: Bytes,
) -> Option<Response<Body>> {
    if head.uri.path().starts_with("/answers/") {
        // The link is signed for no type.
        assert!(head.headers.get("content-type").is_none() && head.headers.get("authorization").is_none());
        shared.answers.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        return Some(Response::new(Body::empty()));
    }
    let mut headers = head.headers;
    headers.remove("host");
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let sent = http.request(head.method, format!("{behind}{target}")).headers(headers).body(body).send().await.ok()?;
    let status = sent.status();
    let mut answer = sent.bytes().await.ok()?;
    if shared.is_deleting.load(Ordering::Relaxed) && target.contains("Action=DescribeStacks") {
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("<StackStatus>CREATE_COMPLETE</StackStatus>"), "{text}");
        answer = text.replace("CREATE_COMPLETE", "DELETE_IN_PROGRESS").into();
    }
    Some(Response::builder().status(status).body(Body::from(answer)).unwrap())
}
