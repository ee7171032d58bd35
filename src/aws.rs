//! Requests to AWS, and to what speaks as S3 does, that `object_store` does not make itself: signed with its signer, by its
//! credentials, over its client; and without a signature where a link stands for one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use http::{HeaderValue, Method};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// What an answer may have. A page of a thousand of the longest keys, all encoded, has some five megabytes.
const MOST_ANSWER_BYTES: usize = 16 << 20;
/// For one request of an operator's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What signatures leave as it is.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who asks, and where.
#[derive(Debug, Clone)]
pub struct Aws {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: Arc<str>,
    timeout: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// As in HTTP.
    pub status: u16,
    /// XML of S3, JSON of the others.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// There is no client.
    #[error("the client cannot be made")]
    Client(#[source] object_store::Error),
    /// Nobody says which region.
    #[error("there is no region: set AWS_REGION")]
    Region,
    /// There are no credentials, or they cannot be had now.
    #[error("there are no credentials for AWS")]
    Credentials(#[source] object_store::Error),
    /// The request did not get through.
    #[error("the request failed")]
    Request(#[source] io::Error),
}

impl Aws {
    /// Asks nothing yet. `timeout` is for one request with its answer.
    ///
    /// # Errors
    /// [`AwsError::Client`].
    pub fn new(
        credentials: AwsCredentialProvider,
        region: &str,
        options: &ClientOptions,
        timeout: Duration,
    ) -> Result<Self, AwsError> {
        let client = ReqwestConnector::default().connect(options).map_err(AwsError::Client)?;
        Ok(Self { client, credentials, region: region.into(), timeout })
    }

    /// With the credentials and in the region that the platform names, by its usual chain.
    ///
    /// # Errors
    /// [`AwsError::Client`]; [`AwsError::Region`].
    pub fn of_platform(is_plain_http_allowed: bool) -> Result<(Self, String), AwsError> {
        let builder = AmazonS3Builder::from_env();
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).ok_or(AwsError::Region)?;
        // Its chain of credentials is what is wanted of it; no bucket is asked.
        let platform = builder.with_bucket_name("none").build().map_err(AwsError::Client)?;
        let options = ClientOptions::new().with_allow_http(is_plain_http_allowed);
        Ok((Self::new(platform.credentials().clone(), &region, &options, TIMEOUT)?, region))
    }

    /// Sends one request, once.
    ///
    /// # Errors
    /// See [`AwsError`]. A status that tells of a failure is an answer.
    pub async fn send(
        &self,
        service: &str,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Answer, AwsError> {
        let failed = |error: io::Error| AwsError::Request(error);
        let credential = self.credentials.get_credential().await.map_err(AwsError::Credentials)?;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|error| failed(io::Error::other(error)))?;
        for (name, value) in headers {
            let value = HeaderValue::try_from(value).map_err(|error| failed(io::Error::other(error)))?;
            request.headers_mut().insert(*name, value);
        }
        let signer = AwsAuthorizer::new(&credential, service, &self.region);
        signer.try_authorize(&mut request, None).map_err(AwsError::Credentials)?;
        let exchange = async {
            let (head, body) = self.client.execute(request).await.map_err(io::Error::other)?.into_parts();
            let (mut collected, mut pieces) = (BytesMut::new(), body.bytes_stream());
            while let Some(piece) = pieces.try_next().await.map_err(io::Error::other)? {
                if collected.len() + piece.len() > MOST_ANSWER_BYTES {
                    return Err(io::Error::other("the answer is too large"));
                }
                collected.extend_from_slice(&piece);
            }
            Ok(Answer { status: head.status.as_u16(), body: collected.freeze() })
        };
        let answered = tokio::time::timeout(self.timeout, exchange).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)
    }

    /// Puts something where a link lets anybody who has it, without a signature of ours, once. Returns the status.
    ///
    /// # Errors
    /// [`AwsError::Request`], whose words may have the link in them.
    pub async fn put_by_link(&self, url: &Url, body: Bytes) -> Result<u16, AwsError> {
        let failed = |error: io::Error| AwsError::Request(error);
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url.as_str().parse().map_err(|error| failed(io::Error::other(error)))?;
        match tokio::time::timeout(self.timeout, self.client.execute(request)).await {
            Ok(Ok(answer)) => Ok(answer.status().as_u16()),
            Ok(Err(error)) => Err(failed(io::Error::other(error))),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Where the services of a region are, which is another domain in China.
pub fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// A text in a path or in a query, as signatures want it.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

/// A query of these parameters.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_as_signatures_want_it() {
        assert_eq!(query(&[("prefix", "a b+c/@d~e"), ("uploads", "")]), "prefix=a%20b%2Bc%2F%40d~e&uploads=");
    }
}
