//! A change of a package that is refused: told to the caller, and noted in the record.

use super::error::{ApiError, ONE_TIME_CODE, SIGN_IN_FIRST};
use crate::app::App;
use crate::auth::Caller;
use crate::npm::PackageName;

/// The answer to a change that was refused, or failed. What was the caller's to do otherwise is noted; being asked to sign in, or
/// for a code, is the first half of doing it.
pub(super) fn refused(app: &App, caller: &Caller, name: &PackageName, error: impl Into<ApiError>) -> ApiError {
    let error = error.into();
    let is_first_half = [SIGN_IN_FIRST.code, ONE_TIME_CODE.code].contains(&error.code());
    if error.status().is_client_error() && !is_first_half {
        app.registry.note_refusal(caller, name, error.code());
    }
    error
}
