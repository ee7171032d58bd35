//! Answers, and the errors among them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::xml;

/// An answer before the faults.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    /// Without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }

    /// 200, with a document.
    pub(super) fn xml(document: String) -> Self {
        let reply = Self { body: document.into(), ..Self::default() };
        reply.with(header::CONTENT_TYPE, "application/xml")
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// As HTTP, with a length that is the whole body's, whatever of it is sent.
    pub(super) fn into_response(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(self.body.len().into());
        }
        response.headers_mut().insert("x-amz-request-id", HeaderValue::from_static("0123456789ABCDEF"));
        response
    }
}

/// A refusal: status, S3's code, a sentence.
#[derive(Debug)]
pub(super) struct Error {
    status: u16,
    code: &'static str,
    message: String,
}

impl Error {
    pub(super) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    /// The error that S3 has for a status when it has no better one.
    pub(super) fn of(status: u16) -> Self {
        let (code, message) = match status {
            403 => ("AccessDenied", "Access Denied"),
            404 => ("NoSuchKey", "The specified key does not exist."),
            409 => ("ConditionalRequestConflict", "A conflicting operation occurred during this operation."),
            412 => ("PreconditionFailed", "At least one of the conditions did not hold."),
            500 => ("InternalError", "We encountered an internal error. Please try again."),
            503 => ("SlowDown", "Please reduce your request rate."),
            _ => ("InvalidRequest", "The request is not valid."),
        };
        Self::new(status, code, message)
    }

    pub(super) fn denied() -> Self {
        Self::of(403)
    }

    pub(super) fn no_such_key() -> Self {
        Self::of(404)
    }

    pub(super) fn no_such_bucket() -> Self {
        Self::new(404, "NoSuchBucket", "The specified bucket does not exist")
    }

    pub(super) fn precondition() -> Self {
        Self::of(412)
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(400, "InvalidArgument", message)
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        let document = xml::document("Error", &[("Code", error.code), ("Message", &error.message)]);
        Self { status: StatusCode::from_u16(error.status).unwrap(), ..Self::xml(document) }
    }
}
