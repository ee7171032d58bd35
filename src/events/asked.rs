//! What is remembered of the request that is being answered, for events that come of it.
//!
//! It decides nothing, and so it goes with the task and not through every call: what decides (the caller) is always passed.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

tokio::task_local! {
    static REQUEST: Arc<dyn Request>;
}

/// A request that is being answered. Most leave nothing in the record: what would be told of one is put together only when
/// something is to be told.
pub trait Request: Send + Sync {
    /// What the record tells of it.
    fn asked(&self) -> Asked;
}

/// A request, as far as the record tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    /// The id that is in its answer and in the log.
    pub id: String,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// `User-Agent`, cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The command that a person typed, as npm tells it: `publish`, `dist-tag add`. From `npm-command`, or from `Referer` of
    /// npm 6 and older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// Does work as part of answering a request. A task that the work starts is no part of it: scope it again.
pub async fn within<T>(request: Arc<dyn Request>, work: impl Future<Output = T>) -> T {
    REQUEST.scope(request, work).await
}

/// The request that is being answered, if one is.
pub fn asked() -> Option<Asked> {
    REQUEST.try_with(|request| request.asked()).ok()
}

/// The same work as part of answering the request that is being answered here, if one is: for a task that the work goes on in.
pub fn carried_on<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = REQUEST.try_with(Arc::clone).ok();
    async move {
        match request {
            Some(request) => within(request, work).await,
            None => work.await,
        }
    }
}
