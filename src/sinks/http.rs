//! One request to a sink: whole within its time, without following a redirect, and with little read of the answer.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::message::{Failure, Message};
use crate::causes;

/// What is read of an answer, so that its connection can be used again.
const MAX_DRAINED_BYTES: usize = 64 << 10;
/// And for how long: what was delivered is not waited for.
const MAX_DRAIN_TIME: Duration = Duration::from_millis(500);
/// A sink may ask for no longer pause.
const MAX_WAIT: Duration = Duration::from_hours(1);

/// Makes requests of one sink.
///
/// # Errors
/// When the system has no usable TLS certificates.
pub(super) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Posts JSON, once.
pub(super) async fn post_json(client: &Client, url: &Url, message: Message) -> Result<(), Failure> {
    let mut request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(message.body);
    for (name, value) in message.headers {
        request = request.header(name, value);
    }
    send(request).await
}

/// Sends a request and judges its answer.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<(), Failure> {
    // The address may be a secret, so it is not told; the operator knows it by the sink's name.
    let response = request.send().await.map_err(|error| Failure::passing(unreached(error)))?;
    let judgement = judge(response.status(), response.headers());
    // Best effort: a connection that is not drained is closed.
    let _ = tokio::time::timeout(MAX_DRAIN_TIME, drain(response)).await;
    judgement
}

fn unreached(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    format!("it cannot be reached: {}", causes::one_line(&error.without_url()))
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(piece)) = response.chunk().await {
        read += piece.len();
        if read > MAX_DRAINED_BYTES {
            return;
        }
    }
}

/// What an answer means. A refusal of what was sent, or for ever, is lasting; one that a change of the sink's settings or its
/// own recovery may mend is not.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        let place = headers.get(LOCATION).and_then(|value| value.to_str().ok()?.parse::<Url>().ok());
        let host = place.as_ref().and_then(Url::host_str).map(|host| format!(" to {host}")).unwrap_or_default();
        return Err(Failure::passing(format!("it redirects{host} (status {status}), which is not followed")));
    }
    let why = format!("it answered with status {}", status.as_u16());
    match status.as_u16() {
        400 | 410 | 411 | 413 | 414 | 415 | 422 | 431 => Err(Failure::Lasting { why }),
        _ => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(Failure::Passing { why, wait: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT)) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let judged = |status: u16, headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            judge(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 201, 202, 204] {
            assert_eq!(judged(status, &[]), Ok(()));
        }
        for status in [400, 410, 413, 422] {
            assert!(matches!(judged(status, &[]), Err(Failure::Lasting { .. })), "{status}");
        }
        for status in [101, 401, 403, 404, 408, 429, 500, 503] {
            assert!(matches!(judged(status, &[]), Err(Failure::Passing { wait: None, .. })), "{status}");
        }
        let redirected = judged(302, &[("location", "https://other.example/with?token=secret")]);
        assert_eq!(
            redirected,
            Err(Failure::passing("it redirects to other.example (status 302 Found), which is not followed"))
        );
        let throttled = |after| match judged(429, &[("retry-after", after)]) {
            Err(Failure::Passing { wait, .. }) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(throttled("30"), Some(Duration::from_secs(30)));
        assert_eq!(throttled("9999999"), Some(MAX_WAIT));
        assert_eq!(throttled("soon"), None);
    }
}
