//! A topic of Amazon SNS, by one signed request an event.
//!
//! Credentials and signature are `object_store`'s, which looks for the credentials of buckets in the same places: a second
//! library would have a second opinion of where they are. It is here and not in `storage`, whose business is objects.

use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequest;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use url::form_urlencoded;

use super::http;
use super::message::Failure;
use super::settings::Topic;
use crate::causes;
use crate::events::Event;

/// Of a message, in bytes.
const MAX_BYTES: usize = 256 << 10;
/// For the attributes, which count.
const RESERVE_BYTES: usize = 2 << 10;
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The credentials of this platform. They are fetched when they are used, and again before they end.
///
/// # Errors
/// When the environment contradicts itself.
pub(super) fn credentials(topic: &Topic) -> Result<AwsCredentialProvider, object_store::Error> {
    // The builder is of a bucket, which is never asked: only its way to credentials is wanted.
    let builder = AmazonS3Builder::from_env().with_bucket_name("unused").with_region(topic.region());
    Ok(builder.build()?.credentials().clone())
}

/// The event as a message. Of one that is too large the details are left out, and it says so.
pub(super) fn event_message(event: &Event) -> Result<String, Failure> {
    let text =
        |event: &Event| serde_json::to_string(event).map_err(|error| Failure::Lasting { why: error.to_string() });
    let whole = text(event)?;
    if whole.len() <= MAX_BYTES - RESERVE_BYTES {
        return Ok(whole);
    }
    let mut short = event.clone();
    short.details.clear();
    text(&short.with("details_left_out", true))
}

/// Publishes a message. With `attributes`, a subscription can choose by kind and package.
pub(super) async fn publish(
    client: &Client,
    credentials: &AwsCredentialProvider,
    topic: &Topic,
    endpoint: &str,
    event: &Event,
    message: &str,
    has_attributes: bool,
) -> Result<(), Failure> {
    if message.len() > MAX_BYTES - RESERVE_BYTES {
        return Err(Failure::Lasting { why: format!("the message has {} bytes, too many for a topic", message.len()) });
    }
    let body = form(topic, event, message, has_attributes);
    let headers = signed(credentials, topic, endpoint, &body).await.map_err(Failure::passing)?;
    match http::send(client.post(endpoint).headers(headers).body(body)).await {
        // SNS says 400 to credentials that have ended and when it is asked too often, too.
        Err(Failure::Lasting { why }) => Err(Failure::passing(why)),
        outcome => outcome,
    }
}

fn form(topic: &Topic, event: &Event, message: &str, has_attributes: bool) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "Publish").append_pair("Version", "2010-03-31");
    form.append_pair("TopicArn", topic.arn()).append_pair("Message", message);
    if has_attributes {
        let kind = Some(("kind", event.kind.as_str()));
        let package = event.package.as_deref().map(|name| ("package", name));
        for ((name, value), number) in kind.into_iter().chain(package).zip(1..) {
            let start = format!("MessageAttributes.entry.{number}");
            form.append_pair(&format!("{start}.Name"), name);
            form.append_pair(&format!("{start}.Value.DataType"), "String");
            form.append_pair(&format!("{start}.Value.StringValue"), value);
        }
    }
    if topic.is_fifo() {
        form.append_pair("MessageGroupId", event.package.as_deref().unwrap_or("registry"));
        form.append_pair("MessageDeduplicationId", &event.id);
    }
    form.finish()
}

/// The headers of the request, signature included.
async fn signed(
    credentials: &AwsCredentialProvider,
    topic: &Topic,
    endpoint: &str,
    body: &str,
) -> Result<HeaderMap, String> {
    let credential = credentials.get_credential().await.map_err(|error| causes::one_line(&error))?;
    let mut request = HttpRequest::new(body.to_owned().into());
    *request.method_mut() = reqwest::Method::POST;
    *request.uri_mut() = endpoint.parse().map_err(|_| "the address of SNS cannot be read".to_owned())?;
    request.headers_mut().insert(CONTENT_TYPE, reqwest::header::HeaderValue::from_static(FORM));
    let authorizer = AwsAuthorizer::new(&credential, "sns", topic.region());
    authorizer.try_authorize(&mut request, None).map_err(|error| causes::one_line(&error))?;
    Ok(std::mem::take(request.headers_mut()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Kind, Who};
    use crate::npm::Timestamp;

    #[test]
    fn a_message_fits() {
        let event = Event::new(Kind::Deprecate, Who::server(), Timestamp::from_millis(0));
        assert!(event_message(&event.clone().with("message", "x".repeat(1000))).unwrap().contains("xxx"));
        let long = event_message(&event.with("message", "x".repeat(MAX_BYTES))).unwrap();
        assert!(long.len() < 1000 && long.contains("details_left_out"), "{}", long.len());
    }

    #[test]
    fn a_topic_that_keeps_an_order_is_told_what_belongs_together() {
        let event = Event::new(Kind::Publish, Who::server(), Timestamp::from_millis(0)).of(&"@a/b".parse().unwrap());
        let form = |arn: &str| form(&arn.parse().unwrap(), &event, "{}", true);
        let (plain, fifo) = (form("arn:aws:sns:eu-west-1:1:x"), form("arn:aws:sns:eu-west-1:1:x.fifo"));
        assert!(plain.contains("MessageAttributes.entry.2.Value.StringValue=%40a%2Fb") && !plain.contains("Group"));
        assert!(fifo.ends_with(&format!("&MessageGroupId=%40a%2Fb&MessageDeduplicationId={}", event.id)));
    }
}
