//! One request to a sink: whole within its time, without following a redirect, and with little read of the answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use url::Url;

use super::message::{Failure, Message};
use crate::causes;
use crate::upstream::PublicResolver;

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
    builder(timeout).build()
}

/// Makes requests where accounts want them. Where it must be a public address, it goes there straight: what a proxy connects to
/// could not be judged here.
///
/// # Errors
/// As [`client`].
pub(super) fn client_for_accounts(timeout: Duration, may_be_private: bool) -> Result<Client, reqwest::Error> {
    let builder = builder(timeout);
    if may_be_private {
        builder.build()
    } else {
        builder.no_proxy().dns_resolver(Arc::new(PublicResolver::new())).build()
    }
}

fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout)
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
}

/// Posts JSON, once.
pub(super) async fn post_json(client: &Client, url: &Url, message: Message) -> Result<(), Failure> {
    send(with(client, url, message)).await
}

/// The same for somebody who wants to know the status of an answer too, whatever it means.
pub(super) async fn post_json_for_status(
    client: &Client,
    url: &Url,
    message: Message,
) -> (Option<StatusCode>, Result<(), Failure>) {
    exchange(with(client, url, message)).await
}

fn with(client: &Client, url: &Url, message: Message) -> reqwest::RequestBuilder {
    let mut request = client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(message.body);
    for (name, value) in message.headers {
        request = request.header(name, value);
    }
    request
}

/// Sends a request and judges its answer.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<(), Failure> {
    exchange(request).await.1
}

async fn exchange(request: reqwest::RequestBuilder) -> (Option<StatusCode>, Result<(), Failure>) {
    // The address may be a secret, so it is not told; the operator knows it by the sink's name.
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return (None, Err(Failure::passing(unreached(error)))),
    };
    let (status, judgement) = (response.status(), judge(response.status(), response.headers()));
    // Best effort: a connection that is not drained is closed.
    let _ = tokio::time::timeout(MAX_DRAIN_TIME, drain(response)).await;
    (Some(status), judgement)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Whoever gives an address by name is judged by where the name leads, when it is connected to.
    #[tokio::test]
    async fn a_name_of_our_own_network_is_not_connected_to_for_an_account() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        let post = async |may_be_private| {
            let client = client_for_accounts(Duration::from_secs(5), may_be_private).unwrap();
            post_json_for_status(&client, &url, Message { body: "{}".into(), headers: Vec::new() }).await
        };
        let (status, outcome) = post(false).await;
        assert_eq!(status, None);
        assert!(outcome.unwrap_err().to_string().contains("no public address"));
        let answered = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let ((status, outcome), ()) = tokio::join!(post(true), answered);
        assert_eq!((status, outcome), (Some(StatusCode::NO_CONTENT), Ok(())));
    }

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
