//! The bucket of a stack of CloudFormation's, removed together with the stack.
//!
//! CloudFormation tells a function when it makes, changes or removes a custom resource, and waits for a word at an address that
//! it gives. Nothing is done but when the resource is removed because the whole stack is: not when an update takes it out, and
//! not when a stack that could not be made is rolled back, of which CloudFormation says "Delete" too. What it says is asked for
//! again, by a signed request, and so is whether the stack made the bucket.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use quick_xml::de::from_str;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::aws::{self, Aws, AwsError, query};
use crate::clock::Clock;
use crate::storage::{self, BucketSettings, Location, OpenError, Removal, Removed};

/// What the template calls the bucket.
const BUCKET: &str = "Bucket";
/// The state of a stack that is removed as a whole.
const GOING: &str = "DELETE_IN_PROGRESS";
/// What CloudFormation's addresses for answers begin with.
const ANSWERS: &str = "cloudformation-custom-resource-response-";
/// CloudFormation takes four kilobytes in all.
const MOST_REASON_CHARACTERS: usize = 600;
/// What is left of an invocation's time for the answer, whatever was not done.
const RESERVE: Duration = Duration::from_secs(15);
/// How often the answer is sent.
const TRIES: u32 = 4;

/// What CloudFormation says. The address in it is as good as a password, so none of it can be printed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StackEvent {
    request_type: String,
    #[serde(rename = "ResponseURL")]
    response_url: String,
    stack_id: String,
    request_id: String,
    logical_resource_id: String,
    physical_resource_id: Option<String>,
}

/// Why CloudFormation got no answer.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The address for it is no such address.
    #[error("the event's ResponseURL is no address of CloudFormation's for answers: nothing was done")]
    Address,
    /// It did not get there.
    #[error("CloudFormation's address for the answer does not take it")]
    Answer,
}

/// Why there is nothing to remove with.
#[derive(Debug, thiserror::Error)]
pub enum StackSettingsError {
    /// The setting is no stack's ARN.
    #[error(
        "`storage.remove_with_stack` is no ARN of a stack such as arn:aws:cloudformation:eu-central-1:123456789012:stack/npm/0a1b"
    )]
    Arn,
    /// There is no bucket.
    #[error("`storage.remove_with_stack` is for a bucket of S3: set `storage.url`")]
    Bucket,
    /// AWS cannot be asked.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The bucket's settings do not go together.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Removes one bucket together with one stack.
pub struct StackRemoval {
    stack: String,
    bucket: String,
    removal: Removal,
    aws: Aws,
    cloudformation: Url,
    /// Another service than AWS, which gives addresses of its own.
    endpoint: Option<Url>,
    clock: Clock,
}

/// What CloudFormation is told.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Success(String),
    Failed(String),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    status: &'static str,
    reason: String,
    physical_resource_id: &'a str,
    stack_id: &'a str,
    request_id: &'a str,
    logical_resource_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeStacks {
    describe_stacks_result: StacksResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StacksResult {
    stacks: Members,
}

#[derive(Deserialize)]
struct Members {
    member: Vec<StackOf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StackOf {
    stack_id: String,
    stack_status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeResource {
    describe_stack_resource_result: ResourceResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceResult {
    stack_resource_detail: ResourceOf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceOf {
    physical_resource_id: Option<String>,
    resource_type: String,
}

impl StackRemoval {
    /// For the bucket of these settings and the stack with this ARN. Asks nobody yet.
    ///
    /// # Errors
    /// See [`StackSettingsError`].
    pub fn new(stack: &str, place: &Location, clock: Clock) -> Result<Self, StackSettingsError> {
        let Location::Bucket(settings) = place else { return Err(StackSettingsError::Bucket) };
        let BucketSettings { address, endpoint, .. } = settings.as_ref();
        let region = region_of(stack).ok_or(StackSettingsError::Arn)?;
        let endpoint = endpoint.clone();
        let (aws, _) = Aws::of_platform(endpoint.as_ref().is_some_and(|url| url.scheme() == "http"))?;
        let own = format!("https://cloudformation.{region}.{}/", aws::domain(region));
        // Whoever stands in for S3 stands in for all of AWS.
        let cloudformation = match &endpoint {
            Some(endpoint) => endpoint.clone(),
            None => own.parse().map_err(|_| StackSettingsError::Arn)?,
        };
        let bucket = address.bucket().to_owned();
        let removal = Removal::of(place)?;
        Ok(Self { stack: stack.to_owned(), bucket, removal, aws, cloudformation, endpoint, clock })
    }

    /// Does what an event wants, and answers, before `deadline`, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`StackError`] when there is no answer: then CloudFormation waits.
    pub async fn handle(&self, event: &StackEvent, deadline: u64) -> Result<(), StackError> {
        let url = event.response_url.parse::<Url>().ok();
        let url = url.filter(|url| may_answer_at(url, self.endpoint.as_ref())).ok_or(StackError::Address)?;
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or_default();
        let time = Duration::from_millis(deadline.saturating_sub(now)).saturating_sub(RESERVE);
        let outcome = tokio::time::timeout(time, self.outcome(event)).await.unwrap_or_else(|_| {
            let reason = "the time was over before all was removed: delete the stack again to go on";
            Outcome::Failed(reason.to_owned())
        });
        match &outcome {
            Outcome::Success(reason) => tracing::info!(reason, "CloudFormation is told that all is well"),
            Outcome::Failed(reason) => tracing::error!(reason, "CloudFormation is told of a failure"),
        }
        self.answer(&url, event, outcome).await
    }

    async fn outcome(&self, event: &StackEvent) -> Outcome {
        if event.stack_id != self.stack {
            return Outcome::Failed("this function is for the bucket of another stack".to_owned());
        }
        if event.request_type != "Delete" {
            return Outcome::Success("nothing is to be done yet".to_owned());
        }
        match self.is_to_go().await {
            Ok(None) => self.remove().await,
            Ok(Some(why)) => Outcome::Success(format!("the bucket {} stays: {why}", self.bucket)),
            Err(why) => Outcome::Failed(format!("nothing was removed: {why}")),
        }
    }

    /// Why the bucket stays; `None` when it is to go. Fails where nobody knows.
    async fn is_to_go(&self) -> Result<Option<&'static str>, String> {
        let asked = [("Action", "DescribeStacks"), ("StackName", &self.stack), ("Version", "2010-05-15")];
        let answer = self.ask(&asked).await?;
        if answer.0 != 200 {
            return Err(format!("CloudFormation does not tell the state of the stack (status {})", answer.0));
        }
        let stacks: DescribeStacks =
            from_str(&answer.1).map_err(|error| format!("CloudFormation's answer is odd: {error}"))?;
        let mut stacks = stacks.describe_stacks_result.stacks.member.into_iter();
        let stack = stacks.find(|stack| stack.stack_id == self.stack).ok_or("CloudFormation tells of another stack")?;
        if stack.stack_status != GOING {
            return Ok(Some("the stack is not being deleted"));
        }
        let asked = [
            ("Action", "DescribeStackResource"),
            ("LogicalResourceId", BUCKET),
            ("StackName", &self.stack),
            ("Version", "2010-05-15"),
        ];
        let answer = self.ask(&asked).await?;
        match answer.0 {
            200 => {}
            // It says so of what is not there.
            400 if answer.1.contains("does not exist") => return Ok(Some("the stack did not make it")),
            status => return Err(format!("CloudFormation does not tell who made the bucket (status {status})")),
        }
        let detail: DescribeResource =
            from_str(&answer.1).map_err(|error| format!("CloudFormation's answer is odd: {error}"))?;
        let ResourceOf { physical_resource_id, resource_type } =
            detail.describe_stack_resource_result.stack_resource_detail;
        let is_made_here =
            resource_type == "AWS::S3::Bucket" && physical_resource_id.as_deref() == Some(self.bucket.as_str());
        Ok((!is_made_here).then_some("the stack did not make it"))
    }

    /// Status and body.
    async fn ask(&self, parameters: &[(&str, &str)]) -> Result<(u16, String), String> {
        let mut url = self.cloudformation.clone();
        url.set_query(Some(&query(parameters)));
        let answer = self.aws.send("cloudformation", Method::GET, &url, &[], Bytes::new()).await;
        let answer = answer.map_err(|error| format!("CloudFormation cannot be asked: {error}"))?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    async fn remove(&self) -> Outcome {
        tracing::warn!(bucket = self.bucket, "the bucket is being removed together with its stack");
        match self.removal.run(false, &mut |_, _| {}).await {
            Ok(removed) => told(&self.bucket, removed),
            Err(storage::Error::NotFound) => Outcome::Success(format!("there is no bucket {}", self.bucket)),
            Err(error) => Outcome::Failed(format!("the bucket {} is not empty yet: {error}", self.bucket)),
        }
    }

    async fn answer(&self, url: &Url, event: &StackEvent, outcome: Outcome) -> Result<(), StackError> {
        let (status, reason) = match outcome {
            Outcome::Success(reason) => ("SUCCESS", reason),
            Outcome::Failed(reason) => ("FAILED", reason),
        };
        let answer = Answer {
            status,
            reason: reason.chars().take(MOST_REASON_CHARACTERS).collect(),
            // The same for ever: another one would have CloudFormation remove the one before.
            physical_resource_id: event.physical_resource_id.as_deref().unwrap_or("removal-of-the-bucket"),
            stack_id: &event.stack_id,
            request_id: &event.request_id,
            logical_resource_id: &event.logical_resource_id,
        };
        // It is made of texts, so nothing in it can fail to be JSON.
        let body = Bytes::from(serde_json::to_vec(&answer).unwrap_or_default());
        for number in 0..TRIES {
            // What went wrong has the address in its words, which nobody may see.
            if matches!(self.aws.put_by_link(url, body.clone()).await, Ok(status) if (200..300).contains(&status)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(number)).await;
        }
        Err(StackError::Answer)
    }
}

/// What CloudFormation is told of a removal.
fn told(bucket: &str, removed: Removed) -> Outcome {
    let Removed { objects, delete_markers, uploads, failed, is_place_gone, place_remains, .. } = removed;
    let counted = format!("{objects} objects, {delete_markers} marks of deletion and {uploads} uploads were removed");
    if is_place_gone {
        return Outcome::Success(format!("the bucket {bucket} is gone: {counted}"));
    }
    let why = place_remains.unwrap_or_else(|| format!("{failed} objects could not be removed"));
    Outcome::Failed(format!("the bucket {bucket} is still there ({why}); {counted}: delete the stack again to go on"))
}

/// The region in the ARN of a stack.
fn region_of(stack: &str) -> Option<&str> {
    let parts: Vec<&str> = stack.splitn(6, ':').collect();
    let ["arn", partition, "cloudformation", region, _, resource] = parts.as_slice() else { return None };
    let is_region = !region.is_empty() && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (partition.starts_with("aws") && is_region && resource.starts_with("stack/")).then_some(region)
}

/// Whether an answer may be sent there: to the buckets that CloudFormation reads answers from, or to the endpoint in the
/// settings. The address came with the event, and anybody who may call the function could have written it.
fn may_answer_at(url: &Url, endpoint: Option<&Url>) -> bool {
    let host = url.host_str().unwrap_or_default();
    let is_amazon = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let is_s3 = host.starts_with(ANSWERS) && host.contains(".s3") && is_amazon;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
    (url.scheme() == "https" && is_s3 && is_plain) || endpoint.is_some_and(|endpoint| endpoint.origin() == url.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_cloudformation_alone() {
        let may = |url: &str| may_answer_at(&url.parse().unwrap(), None);
        for url in [
            "https://cloudformation-custom-resource-response-useast1.s3.amazonaws.com/arn%3Aaws?X-Amz-Signature=0a",
            "https://cloudformation-custom-resource-response-eucentral1.s3.eu-central-1.amazonaws.com/a?b=c",
            "https://cloudformation-custom-resource-response-cnnorth1.s3.cn-north-1.amazonaws.com.cn/a",
        ] {
            assert!(may(url), "{url}");
        }
        for url in [
            "http://cloudformation-custom-resource-response-useast1.s3.amazonaws.com/a",
            "https://cloudformation-custom-resource-response-useast1.s3.amazonaws.com:8443/a",
            "https://ann:pw@cloudformation-custom-resource-response-useast1.s3.amazonaws.com/a",
            "https://cloudformation-custom-resource-response-useast1.s3.amazonaws.com.example/a",
            "https://example/cloudformation-custom-resource-response-useast1.s3.amazonaws.com",
            "https://ec2-192-0-2-1.compute.amazonaws.com/a",
            "https://other.s3.amazonaws.com/a",
            "https://169.254.169.254/latest/meta-data",
            "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next",
        ] {
            assert!(!may(url), "{url}");
        }
        let endpoint = "http://127.0.0.1:5555/".parse().unwrap();
        assert!(may_answer_at(&"http://127.0.0.1:5555/answers/1".parse().unwrap(), Some(&endpoint)));
        assert!(!may_answer_at(&"http://127.0.0.1:5556/answers/1".parse().unwrap(), Some(&endpoint)));
    }

    #[test]
    fn a_stack_has_a_region() {
        assert_eq!(region_of("arn:aws:cloudformation:eu-central-1:123456789012:stack/npm/0a"), Some("eu-central-1"));
        for text in
            ["", "npm", "arn:aws:cloudformation::1:stack/a", "arn:aws:s3:::b", "arn:aws:cloudformation:a.b/:1:stack/n"]
        {
            assert_eq!(region_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_bucket_that_remains_is_a_failure() {
        let gone = Removed { objects: 3, is_place_gone: true, ..Removed::default() };
        assert!(matches!(told("b", gone), Outcome::Success(_)));
        let refused = Removed { failed: 2, ..Removed::default() };
        let Outcome::Failed(why) = told("b", refused) else { panic!("no failure") };
        assert!(why.contains("2 objects could not be removed") && why.contains("delete the stack again"), "{why}");
        let kept = Removed { place_remains: Some("409 BucketNotEmpty".to_owned()), ..Removed::default() };
        assert!(matches!(told("b", kept), Outcome::Failed(why) if why.contains("BucketNotEmpty")));
    }
}
