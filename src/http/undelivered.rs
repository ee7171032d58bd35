//! What takes the place of an answer that cannot be carried to the client as a whole, where nothing else is carried.

use axum::response::Response;
use http::HeaderMap;

use super::error::{ANSWER_CUT_OFF, ANSWER_TOO_LARGE, ApiError, FUNCTION_TIME};
use super::request_id::RequestId;

/// Why an answer is not delivered.
#[derive(Debug)]
pub enum Undelivered {
    /// It is larger than what is carried.
    TooLarge {
        /// The largest that is, with all that wraps it.
        most_bytes: usize,
    },
    /// It was not ready in time.
    TooLate,
    /// Its body broke off.
    CutOff(Box<dyn std::error::Error + Send + Sync>),
}

/// The error in the place of an answer with these headers, under the same request id.
pub fn undelivered(headers: &HeaderMap, why: &Undelivered) -> Response {
    let id = RequestId::written_in(headers).unwrap_or_else(RequestId::generate);
    let error = match why {
        Undelivered::TooLarge { most_bytes } => {
            tracing::warn!(request.id = %id, most_bytes, "an answer is larger than what is carried here, and was not delivered");
            ApiError::new(&ANSWER_TOO_LARGE)
        }
        Undelivered::TooLate => {
            tracing::error!(request.id = %id, "the function's time is over before an answer is ready: give it more");
            ApiError::new(&FUNCTION_TIME)
        }
        Undelivered::CutOff(cause) => {
            tracing::error!(request.id = %id, cause = &**cause as &dyn std::error::Error, "an answer broke off, and was not delivered");
            ApiError::new(&ANSWER_CUT_OFF)
        }
    };
    let mut response = error.into_response_with(id);
    id.write_into(response.headers_mut());
    response
}
