//! The public address in the settings of a deployed AWS Lambda function.

use std::io;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::aws::{Answer, Aws, AwsError, encoded};

/// The variable of codebox-npm, which has no slash at its end.
const OLDER: &str = "apiEndpoint";
/// Ours.
const OURS: &str = "HOLDFAST__SERVER__PUBLIC_URL";

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionReport {
    /// The function's name.
    pub function: String,
    /// The variable.
    pub variable: &'static str,
    /// What it was.
    pub before: Option<String>,
    /// What it is, or would be.
    pub after: String,
}

/// Why the function was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// No answer.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Lambda refused.
    #[error("Lambda answered {status}: {said}")]
    Refused {
        /// As in HTTP.
        status: u16,
        /// Its own words.
        said: String,
    },
    /// An answer that is none of Lambda's.
    #[error("Lambda's answer cannot be read")]
    Answer(#[source] io::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    #[serde(default)]
    environment: Environment,
    revision_id: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    environment: Environment,
    /// Lambda makes the change only if the function is as it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision_id: Option<String>,
}

/// Sets the public address of a function: `apiEndpoint` where it has that alone, else ours. All other variables stay. `lambda` is
/// where the service is; `base` the registry's address without a slash at its end.
///
/// # Errors
/// See [`FunctionError`].
pub async fn point_function(
    aws: &Aws,
    lambda: &Url,
    function: &str,
    base: &str,
    dry_run: bool,
) -> Result<FunctionReport, FunctionError> {
    let mut url = lambda.clone();
    url.set_path(&format!("/2015-03-31/functions/{}/configuration", encoded(function)));
    let answer = aws.send("lambda", Method::GET, &url, &[], Bytes::new()).await?;
    let Configuration { mut environment, revision_id } = read(&answer)?;
    let has = |name| environment.variables.contains_key(name);
    let (variable, after) =
        if has(OLDER) && !has(OURS) { (OLDER, base.to_owned()) } else { (OURS, format!("{base}/")) };
    let before = environment.variables.insert(variable.to_owned(), after.clone().into());
    let before = before.and_then(|value| value.as_str().map(ToOwned::to_owned));
    if !dry_run && before.as_ref() != Some(&after) {
        let update = Update { environment, revision_id };
        let body = serde_json::to_vec(&update).map_err(|error| FunctionError::Answer(error.into()))?;
        let headers = [("content-type", "application/json".to_owned())];
        let answer = aws.send("lambda", Method::PUT, &url, &headers, body.into()).await?;
        let _: Configuration = read(&answer)?;
    }
    Ok(FunctionReport { function: function.to_owned(), variable, before, after })
}

fn read(answer: &Answer) -> Result<Configuration, FunctionError> {
    /// Enough of what a service says of its refusal.
    const SAID: usize = 500;
    if answer.status != 200 {
        let said = String::from_utf8_lossy(&answer.body).chars().take(SAID).collect();
        return Err(FunctionError::Refused { status: answer.status, said });
    }
    serde_json::from_slice(&answer.body).map_err(|error| FunctionError::Answer(error.into()))
}
