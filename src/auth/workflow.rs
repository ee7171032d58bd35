//! What a CI job's identity token says of the job. Pure: the token's signature and dates were checked before.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How an issuer writes its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuerKind {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
    /// Any other issuer of identity tokens: jobs are told apart by the subject.
    Generic,
}

impl std::str::FromStr for IssuerKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "github" => Ok(Self::GitHub),
            "gitlab" => Ok(Self::GitLab),
            "generic" => Ok(Self::Generic),
            _ => Err(()),
        }
    }
}

/// A CI job, as its issuer describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowIdentity {
    /// The issuer's name in the settings.
    pub issuer: String,
    /// How its claims are written.
    pub kind: IssuerKind,
    /// `owner/name` of the repository or project; of a generic issuer the subject.
    pub repository: String,
    /// A number that stays when the repository is renamed, and differs when it is made anew.
    pub repository_id: Option<String>,
    /// The same for its owner.
    pub owner_id: Option<String>,
    /// The workflow's file: `release.yml`, or `.gitlab-ci.yml`.
    pub workflow: Option<String>,
    /// The git ref, such as `refs/heads/main`.
    pub reference: Option<String>,
    /// The deployment environment, where the job has one.
    pub environment: Option<String>,
}

/// Why a job's identity is of no use here. The text is shown to whoever runs the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Something is missing or of another shape.
    #[error("the identity token has no usable claim `{0}`")]
    MissingClaim(&'static str),
    /// Such runs can be started by strangers with the rights of the repository.
    #[error("jobs that `{0}` started get no access: run the job on a push, a tag, a release or by hand")]
    ForbiddenEvent(String),
    /// The workflow file belongs to another repository than the job.
    #[error("the workflow file is not one of the repository's own")]
    ForeignWorkflow,
}

/// `pull_request_target` and `workflow_run` run with the rights of the repository on what strangers sent: the ways by
/// which tokens were stolen in 2025 and 2026.
const FORBIDDEN_EVENTS: [&str; 2] = ["pull_request_target", "workflow_run"];

impl WorkflowIdentity {
    /// What it says, for the record of events.
    pub fn claims(&self) -> Map<String, Value> {
        let claims = [
            ("issuer", Some(&self.issuer)),
            ("repository", Some(&self.repository)),
            ("repository_id", self.repository_id.as_ref()),
            ("owner_id", self.owner_id.as_ref()),
            ("workflow", self.workflow.as_ref()),
            ("ref", self.reference.as_ref()),
            ("environment", self.environment.as_ref()),
        ];
        let said = claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.as_str().into())));
        said.collect()
    }

    /// Reads the claims of a token whose signature, audience and dates are good.
    pub fn from_claims(issuer: &str, kind: IssuerKind, claims: &Map<String, Value>) -> Result<Self, IdentityError> {
        let text = |key: &'static str| claims.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let required = |key: &'static str| text(key).ok_or(IdentityError::MissingClaim(key));
        // Numbers come as texts from GitHub and GitLab, as numbers from some others.
        let id = |key: &'static str| match claims.get(key) {
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => text(key).map(ToOwned::to_owned),
        };
        let required_id = |key: &'static str| id(key).ok_or(IdentityError::MissingClaim(key));
        let identity = |repository: &str| Self {
            issuer: issuer.to_owned(),
            kind,
            repository: repository.to_owned(),
            repository_id: None,
            owner_id: None,
            workflow: None,
            reference: text("ref").map(ToOwned::to_owned),
            environment: text("environment").map(ToOwned::to_owned),
        };
        match kind {
            IssuerKind::GitHub => {
                let event = required("event_name")?;
                if FORBIDDEN_EVENTS.contains(&event) {
                    return Err(IdentityError::ForbiddenEvent(event.to_owned()));
                }
                let repository = required("repository")?;
                Ok(Self {
                    repository_id: Some(required_id("repository_id")?),
                    owner_id: Some(required_id("repository_owner_id")?),
                    workflow: Some(workflow_file(required("workflow_ref")?, repository)?),
                    ..identity(repository)
                })
            }
            IssuerKind::GitLab => {
                let project = required("project_path")?;
                let file = required("ci_config_ref_uri")?;
                let reference = match text("ref_type") {
                    Some("tag") => text("ref").map(|name| format!("refs/tags/{name}")),
                    _ => text("ref").map(|name| format!("refs/heads/{name}")),
                };
                Ok(Self {
                    repository_id: Some(required_id("project_id")?),
                    owner_id: Some(required_id("namespace_id")?),
                    workflow: Some(gitlab_file(file, project)?),
                    reference: text("ref_path").map(ToOwned::to_owned).or(reference),
                    ..identity(project)
                })
            }
            IssuerKind::Generic => Ok(identity(required("sub")?)),
        }
    }

    /// A stable name for logs, `whoami` and `_npmUser`: `github:acme/tool`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.issuer, self.repository)
    }
}

/// What stands before the ref. A file's name may have an `@` in it too: what is cut off has to be the ref and nothing of
/// the name, or `release.yml@x.yml` would be taken for `release.yml`.
fn before_ref(text: &str) -> &str {
    let end = text.rfind("@refs/").or_else(|| text.rfind('@'));
    end.map_or(text, |end| &text[..end])
}

/// `owner/name/.github/workflows/release.yml@refs/heads/main` is `release.yml`.
fn workflow_file(workflow_ref: &str, repository: &str) -> Result<String, IdentityError> {
    let path = before_ref(workflow_ref);
    let own = path.get(..repository.len()).filter(|start| start.eq_ignore_ascii_case(repository));
    let file = own.and_then(|_| path[repository.len()..].strip_prefix("/.github/workflows/"));
    file.filter(|file| !file.is_empty() && !file.contains('/'))
        .map(ToOwned::to_owned)
        .ok_or(IdentityError::ForeignWorkflow)
}

/// `gitlab.example/group/project//.gitlab-ci.yml@refs/heads/main` is `.gitlab-ci.yml`.
fn gitlab_file(uri: &str, project: &str) -> Result<String, IdentityError> {
    let path = before_ref(uri);
    let (place, file) = path.split_once("//").ok_or(IdentityError::ForeignWorkflow)?;
    let is_own = place.to_lowercase().ends_with(&format!("/{}", project.to_lowercase()));
    if is_own && !file.is_empty() { Ok(file.to_owned()) } else { Err(IdentityError::ForeignWorkflow) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn github(changes: &Value) -> Result<WorkflowIdentity, IdentityError> {
        let mut claims = json!({
            "sub": "repo:Acme/Tool:ref:refs/heads/main", "repository": "Acme/Tool", "repository_id": "7",
            "repository_owner_id": "3", "event_name": "push", "ref": "refs/heads/main",
            "workflow_ref": "Acme/Tool/.github/workflows/release.yml@refs/heads/main",
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        WorkflowIdentity::from_claims("github", IssuerKind::GitHub, claims.as_object().unwrap())
    }

    #[test]
    fn a_job_on_github_is_read() {
        let identity = github(&json!({ "environment": "prod" })).unwrap();
        assert_eq!(identity.name(), "github:Acme/Tool");
        assert_eq!(identity.workflow.as_deref(), Some("release.yml"));
        assert_eq!(identity.environment.as_deref(), Some("prod"));
        assert_eq!(identity.repository_id.as_deref(), Some("7"));
    }

    #[test]
    fn a_workflows_file_is_its_whole_name() {
        for (text, file) in [
            ("release.yml@refs/heads/main", "release.yml"),
            ("release.yml@refs/heads/a@b", "release.yml"),
            ("release.yml@x.yml@refs/heads/main", "release.yml@x.yml"),
            ("release.yml@refs@refs/tags/v1", "release.yml@refs"),
            ("release.yml@0123abcd", "release.yml"),
            ("release.yml", "release.yml"),
        ] {
            assert_eq!(workflow_file(&format!("Acme/Tool/.github/workflows/{text}"), "acme/tool").unwrap(), file);
            assert_eq!(gitlab_file(&format!("gitlab.example/a/b//ci/{text}"), "a/b").unwrap(), format!("ci/{file}"));
        }
        // A branch may have a name like that, and then nothing fits.
        let odd = workflow_file("a/b/.github/workflows/release.yml@refs/heads/x@refs/y", "a/b");
        assert_eq!(odd.unwrap_err(), IdentityError::ForeignWorkflow);
    }

    #[test]
    fn runs_that_strangers_can_start_are_refused() {
        for event in FORBIDDEN_EVENTS {
            let refused = github(&json!({ "event_name": event })).unwrap_err();
            assert_eq!(refused, IdentityError::ForbiddenEvent(event.to_owned()));
        }
        for (changes, why) in [
            (json!({ "event_name": null }), IdentityError::MissingClaim("event_name")),
            (json!({ "repository": "" }), IdentityError::MissingClaim("repository")),
            (json!({ "repository_owner_id": null }), IdentityError::MissingClaim("repository_owner_id")),
            (json!({ "workflow_ref": "Evil/Tool/.github/workflows/release.yml@x" }), IdentityError::ForeignWorkflow),
            (json!({ "workflow_ref": "Acme/Tool2/.github/workflows/release.yml@x" }), IdentityError::ForeignWorkflow),
            (json!({ "workflow_ref": "Acme/Tool/.github/workflows/a/../release.yml" }), IdentityError::ForeignWorkflow),
        ] {
            assert_eq!(github(&changes).unwrap_err(), why, "{changes}");
        }
    }

    #[test]
    fn a_job_on_gitlab_is_read() {
        let claims = json!({
            "project_path": "group/sub/tool", "project_id": "42", "namespace_id": 9, "ref": "v1", "ref_type": "tag",
            "ci_config_ref_uri": "gitlab.example/group/sub/tool//.gitlab-ci.yml@refs/tags/v1",
        });
        let read =
            |claims: &Value| WorkflowIdentity::from_claims("gitlab", IssuerKind::GitLab, claims.as_object().unwrap());
        let identity = read(&claims).unwrap();
        assert_eq!(identity.workflow.as_deref(), Some(".gitlab-ci.yml"));
        assert_eq!(identity.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!(identity.owner_id.as_deref(), Some("9"));
        let mut foreign = claims;
        foreign["ci_config_ref_uri"] = json!("gitlab.example/evil/tool//.gitlab-ci.yml@refs/tags/v1");
        assert_eq!(read(&foreign).unwrap_err(), IdentityError::ForeignWorkflow);
    }
}
