//! How objects of S3 are encrypted where they lie, and having S3 encrypt them anew.
//!
//! `object_store` tells neither how an object is encrypted nor of which storage class it is, and a plain copy loses the
//! latter. So these two requests are made here, by links that it signs. A copy onto itself keeps metadata and class, and
//! moves no bytes through this process; its condition is on what is read, not on what is replaced, so it is for objects
//! that never change.

use std::io;
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector as _, HttpRequest, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use object_store::{ClientOptions, Error as ObjectError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::address::{BucketSettings, Encryption};
use super::error::Error;

/// The largest object that S3 copies in one request.
pub const MAX_COPY_BYTES: u64 = 5 << 30;
/// How long a link is good. It is used at once.
const LINK_LASTS: Duration = Duration::from_mins(5);
/// A copy of 5 GiB takes its time, and S3 sends nothing meanwhile but spaces.
const COPY_LASTS: Duration = Duration::from_mins(10);
/// What stands for itself in `x-amz-copy-source`.
const IN_COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

const ENCRYPTION: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const STORAGE_CLASS: &str = "x-amz-storage-class";

/// How an object is to be encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedEncryption {
    /// `AES256` or `aws:kms`.
    pub(super) kind: &'static str,
    /// Any kind will do for an object that is there.
    is_any: bool,
    kms_key: Option<String>,
    bucket_key: bool,
}

/// How an object is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtRest {
    /// Its size.
    pub size_bytes: u64,
    /// `AES256`, `aws:kms`; `None` for one that is not encrypted.
    pub encryption: Option<String>,
    /// The key of KMS.
    pub kms_key: Option<String>,
    class: Option<String>,
    etag: String,
}

impl WantedEncryption {
    /// What the settings want; `None` where they leave it to the bucket.
    pub(super) fn of(settings: &BucketSettings, has_endpoint: bool) -> Option<Self> {
        let (kind, is_any) = match settings.encryption {
            Encryption::Bucket => return None,
            Encryption::Auto if has_endpoint => return None,
            Encryption::Auto => ("AES256", true),
            Encryption::S3 => ("AES256", false),
            Encryption::Kms => ("aws:kms", false),
        };
        let is_kms = kind == "aws:kms";
        let kms_key = settings.kms_key.clone().filter(|_| is_kms);
        Some(Self { kind, is_any, kms_key, bucket_key: is_kms && settings.bucket_key })
    }

    /// Whether an object is as it should be. A key is compared by its ARN or by the id at the end of it.
    pub fn is(&self, found: &AtRest) -> bool {
        let Some(encryption) = &found.encryption else { return false };
        let has_key = |wanted: &String| {
            found.kms_key.as_ref().is_some_and(|key| key == wanted || key.ends_with(&format!(":key/{wanted}")))
        };
        self.is_any || (encryption == self.kind && self.kms_key.as_ref().is_none_or(has_key))
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let key = self.kms_key.clone().map(|key| (KMS_KEY, key));
        let bucket_key = self.bucket_key.then(|| (BUCKET_KEY, "true".to_owned()));
        std::iter::once((ENCRYPTION, self.kind.to_owned())).chain(key).chain(bucket_key).collect()
    }
}

/// Asks S3 what `object_store` does not ask.
#[derive(Debug)]
pub(super) struct AtRestClient {
    http: HttpClient,
    bucket: String,
    pub(super) wanted: WantedEncryption,
}

impl AtRestClient {
    pub(super) fn new(options: &ClientOptions, bucket: &str, wanted: WantedEncryption) -> Result<Self, ObjectError> {
        Ok(Self { http: ReqwestConnector::default().connect(options)?, bucket: bucket.to_owned(), wanted })
    }

    /// How an object is kept.
    pub(super) async fn look(&self, signer: &dyn Signer, path: &Path, timeout: Duration) -> Result<AtRest, Error> {
        let answer = self.send(signer, Method::HEAD, path, &[], timeout).await?;
        let header =
            |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        Ok(AtRest {
            size_bytes: header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0),
            encryption: header(ENCRYPTION),
            kms_key: header(KMS_KEY),
            class: header(STORAGE_CLASS),
            etag: header("etag").unwrap_or_default(),
        })
    }

    /// Has S3 write an object anew with the wanted encryption, if it is the one that was found.
    pub(super) async fn copy(&self, signer: &dyn Signer, path: &Path, found: &AtRest) -> Result<(), Error> {
        if found.size_bytes > MAX_COPY_BYTES {
            return Err(Error::TooLarge);
        }
        let source = format!("/{}/{}", self.bucket, utf8_percent_encode(path.as_ref(), IN_COPY_SOURCE));
        let mut headers = self.wanted.headers();
        headers.push(("x-amz-copy-source", source));
        headers.push(("x-amz-copy-source-if-match", found.etag.clone()));
        headers.extend(found.class.clone().map(|class| (STORAGE_CLASS, class)));
        let answer = self.send(signer, Method::PUT, path, &headers, COPY_LASTS).await?;
        // A copy that fails on the way has the status of a good one.
        let body = answer.into_body().bytes().await.map_err(|error| unavailable(&error))?;
        let is_done = String::from_utf8_lossy(&body).contains("<CopyObjectResult");
        if is_done { Ok(()) } else { Err(Error::Unavailable(io::Error::other("the copy broke off"))) }
    }

    async fn send(
        &self,
        signer: &dyn Signer,
        method: Method,
        path: &Path,
        headers: &[(&'static str, String)],
        timeout: Duration,
    ) -> Result<HttpResponse, Error> {
        let mut options = SignedUrlOptions::new();
        for (name, value) in headers {
            options.signed_headers.insert(*name, value.parse().map_err(io::Error::other)?);
        }
        let url = signer.signed_url_opts(method.clone(), path, LINK_LASTS, &options).await?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(io::Error::other)?;
        *request.headers_mut() = options.signed_headers;
        let answer = tokio::time::timeout(timeout, self.http.execute(request)).await;
        let answer = answer.map_err(|_| Error::Unavailable(io::ErrorKind::TimedOut.into()))?;
        let answer = answer.map_err(|error| unavailable(&error))?;
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            404 => Err(Error::NotFound),
            // It is another object by now.
            412 => Err(Error::Exists),
            401 | 403 => Err(Error::Denied(io::Error::other("S3 refuses the request"))),
            status => Err(Error::Unavailable(io::Error::other(format!("S3 answers {status}")))),
        }
    }
}

/// Without its text, in which the link with its signature may be.
fn unavailable(error: &object_store::client::HttpError) -> Error {
    Error::Unavailable(io::Error::other(format!("S3 does not answer: {:?}", error.kind())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(encryption: Option<&str>, kms_key: Option<&str>) -> AtRest {
        let text = |text: Option<&str>| text.map(ToOwned::to_owned);
        AtRest { size_bytes: 1, encryption: text(encryption), kms_key: text(kms_key), class: None, etag: String::new() }
    }

    #[test]
    fn an_object_is_as_wanted_or_not() {
        const KEY: &str = "arn:aws:kms:eu-west-1:1:key/abc";
        let wanted = |encryption, kms_key: Option<&str>| {
            let settings = BucketSettings { encryption, kms_key: kms_key.map(ToOwned::to_owned), ..Default::default() };
            WantedEncryption::of(&settings, false).unwrap()
        };
        let (plain, by_s3, by_kms) =
            (found(None, None), found(Some("AES256"), None), found(Some("aws:kms"), Some(KEY)));
        for (wanted, is) in [
            (wanted(Encryption::Auto, None), [false, true, true]),
            (wanted(Encryption::S3, None), [false, true, false]),
            (wanted(Encryption::Kms, None), [false, false, true]),
            (wanted(Encryption::Kms, Some(KEY)), [false, false, true]),
            (wanted(Encryption::Kms, Some("abc")), [false, false, true]),
            (wanted(Encryption::Kms, Some("bc")), [false, false, false]),
        ] {
            assert_eq!([&plain, &by_s3, &by_kms].map(|found| wanted.is(found)), is, "{wanted:?}");
        }
    }

    #[test]
    fn what_is_left_to_the_bucket_is_not_wanted() {
        let settings = |encryption| BucketSettings { encryption, ..BucketSettings::default() };
        assert_eq!(WantedEncryption::of(&settings(Encryption::Bucket), false), None);
        assert_eq!(WantedEncryption::of(&settings(Encryption::Auto), true), None);
        assert!(WantedEncryption::of(&settings(Encryption::S3), true).is_some());
    }
}
