//! A function beside the registry's: CloudFormation tells it that the stack goes, and it removes the bucket.

use std::sync::Arc;

use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};

use super::LambdaError;
use crate::maintenance::{StackError, StackEvent, StackRemoval};

impl From<StackError> for Diagnostic {
    fn from(error: StackError) -> Self {
        Self { error_type: "StackError".to_owned(), error_message: error.to_string() }
    }
}

/// Answers CloudFormation's events until `stop` is ready. No registry is there: nothing else is answered.
///
/// # Errors
/// When the Runtime API cannot be reached.
pub async fn serve_removal(removal: StackRemoval, stop: impl Future<Output = ()>) -> Result<(), LambdaError> {
    let removal = Arc::new(removal);
    let handler = service_fn(move |event: LambdaEvent<StackEvent>| {
        let removal = Arc::clone(&removal);
        async move { removal.handle(&event.payload, event.context.deadline).await }
    });
    tokio::select! {
        ended = Runtime::new(handler).run() => ended.map_err(LambdaError),
        () = stop => Ok(()),
    }
}
