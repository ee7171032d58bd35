//! The function beside the registry's on AWS: the bucket goes with its stack, and only with it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bucket::CREDENTIALS;
use crate::support::cloudformation::CloudFormation;
use crate::support::lambda::{FrontEnd, Lambda};

/// A secret in the address for the answer.
const SIGNATURE: &str = "canary-signature-of-the-link";

fn function(cloudformation: &CloudFormation, stack: &str) -> Lambda {
    Lambda::spawned(
        FrontEnd::FunctionUrl,
        &[
            ("HOLDFAST__STORAGE__URL", "s3://packages"),
            ("HOLDFAST__STORAGE__ENDPOINT", cloudformation.url()),
            ("HOLDFAST__STORAGE__REMOVE_WITH_STACK", stack),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", CREDENTIALS.0),
            ("AWS_SECRET_ACCESS_KEY", CREDENTIALS.1),
        ],
    )
}

fn event(cloudformation: &CloudFormation, what: &str, stack: &str) -> Value {
    json!({
        "RequestType": what,
        "ResponseURL": format!("{}/answers/1?X-Amz-Signature={SIGNATURE}", cloudformation.url()),
        "StackId": stack,
        "RequestId": "0a1b",
        "ResourceType": "Custom::BucketRemoval",
        "LogicalResourceId": "BucketRemoval",
        "PhysicalResourceId": "removal-of-the-bucket",
        "ResourceProperties": { "ServiceToken": "arn:aws:lambda:us-east-1:123456789012:function:npm-removal" },
    })
}

/// Hands an event over; status and reason of the one answer.
async fn told(cloudformation: &CloudFormation, function: &Lambda, event: Value) -> (String, String) {
    let stack = event["StackId"].clone();
    let done = function.invoke(event).await;
    assert_eq!(done, Ok(Value::Null), "{}", function.log().tail(20));
    let answers = cloudformation.answers();
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((&answer["StackId"], &answer["RequestId"]), (&stack, &json!("0a1b")));
    assert_eq!(answer["LogicalResourceId"], "BucketRemoval");
    assert_eq!(answer["PhysicalResourceId"], "removal-of-the-bucket");
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("Status"), text("Reason"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_goes_with_its_stack_and_only_with_it() {
    let Some(cloudformation) = CloudFormation::start().await else { return };
    let stack = cloudformation.stack("npm", Some("packages")).await;
    let stranger = cloudformation.stack("stranger", None).await;
    for body in ["{}", "{\"again\":1}"] {
        assert_eq!(cloudformation.s3(Method::PUT, "/packages/tool/index.json", body).await, 200);
    }
    cloudformation.s3(Method::DELETE, "/packages/tool/index.json", "").await;
    assert_eq!(cloudformation.s3(Method::PUT, "/packages/notes.txt", "of somebody").await, 200);
    assert_eq!(cloudformation.s3(Method::POST, "/packages/upload?uploads", "").await, 200);
    let is_there = async || cloudformation.s3(Method::GET, "/packages/notes.txt", "").await == 200;
    let own = function(&cloudformation, &stack);
    let ask = async |what: &str| told(&cloudformation, &own, event(&cloudformation, what, &stack)).await;

    // It is made, and changed; and it is taken out of a stack that stays, or of one that could not be made.
    for what in ["Create", "Update", "Delete"] {
        let (status, reason) = ask(what).await;
        assert_eq!(status, "SUCCESS", "{reason}");
        assert!(is_there().await, "{what}");
    }
    cloudformation.is_deleting(true);
    for what in ["Create", "Update", "Remove"] {
        assert_eq!(ask(what).await.0, "SUCCESS");
        assert!(is_there().await, "{what}");
    }
    // Another stack that says it goes, and one that goes and did not make the bucket.
    let (status, reason) = told(&cloudformation, &own, event(&cloudformation, "Delete", &stranger)).await;
    assert!(status == "FAILED" && reason.contains("another stack"), "{reason}");
    let of_stranger = function(&cloudformation, &stranger);
    let (status, reason) = told(&cloudformation, &of_stranger, event(&cloudformation, "Delete", &stranger)).await;
    assert!(status == "SUCCESS" && reason.contains("did not make it"), "{status}: {reason}");
    // An address that is none of CloudFormation's: nothing is done, and nothing is sent there.
    for address in ["http://127.0.0.1:1/answers/1", "https://example.com/answers/1", "answers", ""] {
        let mut event = event(&cloudformation, "Delete", &stack);
        event["ResponseURL"] = json!(address);
        let refused = own.invoke(event).await.unwrap_err();
        assert_eq!(refused["errorType"], "StackError", "{refused}");
    }
    // What is no event of CloudFormation's.
    own.invoke(json!({ "requestContext": { "http": { "method": "GET" } }, "rawPath": "/" })).await.unwrap_err();
    assert!(cloudformation.answers().is_empty() && is_there().await);
    // Too little time: it says so, and can be asked again.
    own.give(Duration::from_secs(10));
    let (status, reason) = ask("Delete").await;
    assert!(status == "FAILED" && reason.contains("delete the stack again"), "{status}: {reason}");
    own.give(crate::support::PATIENCE);

    let (status, reason) = ask("Delete").await;
    assert!(status == "SUCCESS" && reason.contains("is gone"), "{status}: {reason}");
    assert_eq!(cloudformation.s3(Method::GET, "/packages", "").await, 404);
    let (status, reason) = ask("Delete").await;
    assert!(status == "SUCCESS" && reason.contains("there is no bucket"), "{status}: {reason}");
    for log in [own.log().text(), of_stranger.log().text()] {
        assert!(!log.contains(SIGNATURE), "{log}");
    }
}
