//! What a request asks for: from path, query and headers to an operation on a key.

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::reply::Error;

/// What S3 calls an action, as far as a client of ours uses it. Those with a condition are kept apart, since they cost
/// the same and mean something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    ConditionalGet,
    Head,
    Put,
    ConditionalPut,
    Delete,
    List,
    CreateMultipart,
    UploadPart,
    CompleteMultipart,
    AbortMultipart,
    Copy,
    BulkDelete,
    /// Anything else, which is answered 501.
    Other,
}

impl Operation {
    /// Whether it leaves another state behind.
    pub(crate) fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::ConditionalGet | Self::Head | Self::List | Self::Other)
    }
}

/// The headers that make a request conditional.
const CONDITIONS: [header::HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];
pub(super) const COPY_SOURCE: &str = "x-amz-copy-source";
/// Before the names of user metadata.
pub(super) const METADATA: &str = "x-amz-meta-";

/// The parameters of a presigned link. All of them have to be there.
const PRESIGNED: [&str; 6] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"];
/// A presigned link is good for a week at most.
const LONGEST_EXPIRY: i64 = 7 * 24 * 60 * 60;

/// A request, taken apart.
#[derive(Debug)]
pub(super) struct S3Request {
    pub(super) operation: Operation,
    pub(super) bucket: String,
    /// Decoded; empty when it is about the bucket.
    pub(super) key: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl S3Request {
    pub(super) fn new(head: Parts, body: Bytes) -> Self {
        let path = decode(head.uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let mut request = Self {
            operation: Operation::Other,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: query.into_owned().collect(),
            headers: head.headers,
            body,
        };
        request.operation = request.operation_of(&head.method);
        request
    }

    fn operation_of(&self, method: &Method) -> Operation {
        let has = |name| self.parameter(name).is_some();
        let is_conditional = CONDITIONS.iter().any(|name| self.headers.contains_key(name));
        match (method.as_str(), self.key.is_empty()) {
            ("GET", true) if self.parameter("list-type") == Some("2") => Operation::List,
            ("POST", true) if has("delete") => Operation::BulkDelete,
            ("GET", false) if is_conditional => Operation::ConditionalGet,
            ("GET", false) => Operation::Get,
            ("HEAD", false) => Operation::Head,
            ("PUT", false) if has("uploadId") => Operation::UploadPart,
            ("PUT", false) if self.headers.contains_key(COPY_SOURCE) => Operation::Copy,
            ("PUT", false) if is_conditional => Operation::ConditionalPut,
            ("PUT", false) => Operation::Put,
            ("POST", false) if has("uploads") => Operation::CreateMultipart,
            ("POST", false) if has("uploadId") => Operation::CompleteMultipart,
            ("DELETE", false) if has("uploadId") => Operation::AbortMultipart,
            ("DELETE", false) => Operation::Delete,
            _ => Operation::Other,
        }
    }

    /// The value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Takes the conditions away. It stays a conditional request in the list of calls.
    pub(super) fn ignore_conditions(&mut self) {
        for name in CONDITIONS {
            self.headers.remove(name);
        }
    }

    /// Takes the user metadata away.
    pub(super) fn strip_metadata(&mut self) {
        let names: Vec<_> = self.headers.keys().filter(|name| name.as_str().starts_with(METADATA)).cloned().collect();
        for name in names {
            self.headers.remove(name);
        }
    }

    /// Whether it came by a presigned link.
    pub(super) fn is_presigned(&self) -> bool {
        PRESIGNED.iter().any(|name| self.parameter(name).is_some())
    }

    /// Whether there is a sign of who asks, in one place and still good. The signature itself is not verified.
    pub(super) fn check_signed(&self, now: Timestamp) -> Result<(), Error> {
        match (self.headers.contains_key(header::AUTHORIZATION), self.is_presigned()) {
            (true, true) => Err(Error::new(400, "InvalidArgument", "Only one auth mechanism allowed")),
            (true, false) => Ok(()),
            (false, true) => self.check_presigned(now),
            (false, false) => Err(Error::denied()),
        }
    }

    fn check_presigned(&self, now: Timestamp) -> Result<(), Error> {
        let wrong = |text: &str| Error::new(400, "AuthorizationQueryParametersError", text);
        if let Some(missing) = PRESIGNED.iter().find(|name| self.parameter(name).is_none()) {
            return Err(wrong(&format!("{missing} is missing")));
        }
        let since = self.parameter("X-Amz-Date").and_then(moment).ok_or_else(|| wrong("X-Amz-Date is no date"))?;
        let seconds = self.parameter("X-Amz-Expires").and_then(|text| text.parse().ok());
        let seconds = seconds.filter(|seconds| (1..=LONGEST_EXPIRY).contains(seconds));
        let seconds = seconds.ok_or_else(|| wrong("X-Amz-Expires has to be between a second and a week"))?;
        if now > since + SignedDuration::from_secs(seconds) {
            return Err(Error::new(403, "AccessDenied", "Request has expired"));
        }
        Ok(())
    }
}

/// `20261124T181500Z`
fn moment(text: &str) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?).ok()
}

/// A path or a part of one without percent signs. `+` is a plus there.
pub(super) fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
