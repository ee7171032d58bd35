//! `holdfast config explain`: which rule decides, and why. Asks nobody: what GitHub would say is given on the command line.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{SettingsArgs, output};
use crate::auth::{
    AccessPolicy, Action, Caller, Decision, Groups, IssuerKind, Refusal, Role, Source, User, Workflow, WorkflowIdentity,
};
use crate::npm::PackageName;

/// Arguments of `holdfast config explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast config explain --as github:ann --member-of acme --member-of acme/platform --action publish @acme/tool
  holdfast config explain --as bob --owner bob --action unpublish tool
  holdfast config explain --as workflow:github/acme/app@refs/heads/main --action read @acme/tool")]
pub(super) struct ExplainArgs {
    /// Who asks: `anyone`, a local account's name, `github:NAME`, or `workflow:ISSUER/OWNER/NAME[@REF]`
    #[arg(long = "as", value_name = "WHO", default_value = "anyone")]
    who: String,
    /// An organisation (`acme`), a team (`acme/platform`) or a role (`acme/tool:write`) that GitHub would say they have
    #[arg(long, value_name = "GROUP")]
    member_of: Vec<String>,
    /// An owner of the package; without one it is taken to be new
    #[arg(long, value_name = "NAME")]
    owner: Vec<String>,
    /// What is to be done: read, create, publish, tag, deprecate, unpublish, own, administer
    #[arg(long, default_value = "read")]
    action: String,
    /// The package
    package: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Serialize)]
struct Explanation {
    allowed: bool,
    answer: &'static str,
    rule: Option<String>,
    why: String,
}

pub(super) fn run(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let settings = arguments.settings.load()?.settings;
    let policy = settings.access_policy().map_err(|errors| anyhow::anyhow!("{}", errors[0]))?;
    let name: PackageName =
        arguments.package.parse().map_err(|error| anyhow::anyhow!("`{}`: {error}", arguments.package))?;
    let action = Action::IN_RULES.into_iter().find(|action| action.as_str() == arguments.action);
    let action = action.ok_or_else(|| {
        let known: Vec<&str> = Action::IN_RULES.iter().map(|action| action.as_str()).collect();
        anyhow::anyhow!("`{}` is no action; there are {}", arguments.action, known.join(", "))
    })?;
    let caller = caller(&arguments.who, &arguments.member_of)?;
    let let_in = settings.github.as_ref().and_then(|github| github.organizations.as_deref());
    let let_in = let_in.filter(|let_in| !may_sign_in(&caller, let_in));
    let is_let_in = let_in.is_none();
    let explanation = match let_in {
        Some(let_in) => Explanation {
            allowed: false,
            answer: "403, in none of the organisations",
            rule: None,
            why: format!(
                "the caller cannot sign in: not a member of {} (`github.organizations`); say `--member-of` for one who is",
                let_in.join(", ")
            ),
        },
        None => explain(&policy, &caller, action, &name, &arguments.owner),
    };
    if arguments.json {
        output::json(&explanation)?;
    } else {
        let verb = if explanation.allowed { "may" } else { "may not" };
        output::data(&format!("{} {verb} {} {name}", arguments.who, action.as_str()))?;
        let rule = explanation.rule.as_ref().map_or_else(
            || "the defaults decide, or no rule has to".to_owned(),
            |rule| format!("the rule for `{rule}` decides"),
        );
        let reason = if is_let_in { format!("{rule}: {}", explanation.why) } else { explanation.why.clone() };
        output::data(&format!("  {reason}"))?;
        output::data(&format!("  the answer would be: {}", explanation.answer))?;
        if policy.must_confirm(&name) && action != Action::Read && explanation.allowed {
            output::data("  a person has to confirm it (`confirm = true`)")?;
        }
    }
    Ok(if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether GitHub's answer lets somebody in at all. Who is in a team is in its organisation.
fn may_sign_in(caller: &Caller, let_in: &[String]) -> bool {
    let Caller::User(user) = caller else { return true };
    let teams = user.groups.teams.iter().filter_map(|team| team.split_once('/')).map(|(organization, _)| organization);
    let mut organizations = user.groups.organizations.iter().map(String::as_str).chain(teams);
    user.source != Source::GitHub
        || organizations.any(|organization| let_in.iter().any(|name| name.eq_ignore_ascii_case(organization)))
}

fn explain(
    policy: &AccessPolicy,
    caller: &Caller,
    action: Action,
    name: &PackageName,
    owners: &[String],
) -> Explanation {
    let verdict = policy.explain(caller, action, name, owners);
    let answer = match verdict.decision {
        Decision::Allowed => "yes",
        Decision::SignInFirst => "401, sign in first",
        Decision::Hidden => "404, as if there were no such package",
        Decision::Refused(Refusal::NotAnOwner) => "403, only owners may",
        Decision::Refused(_) => "403, the rules do not let you",
    };
    Explanation {
        allowed: verdict.decision == Decision::Allowed,
        answer,
        rule: verdict.rule.map(ToString::to_string),
        why: verdict.reason.to_string(),
    }
}

fn caller(who: &str, member_of: &[String]) -> anyhow::Result<Caller> {
    if who == "anyone" {
        return Ok(Caller::Anonymous);
    }
    if let Some(text) = who.strip_prefix("workflow:") {
        let (path, reference) = text.split_once('@').map_or((text, None), |(path, reference)| (path, Some(reference)));
        let (issuer, repository) = path
            .split_once('/')
            .ok_or_else(|| anyhow::anyhow!("a workflow is written `workflow:ISSUER/OWNER/NAME`"))?;
        let identity = WorkflowIdentity {
            issuer: issuer.to_owned(),
            kind: IssuerKind::Generic,
            repository: repository.to_owned(),
            repository_id: None,
            owner_id: None,
            workflow: None,
            reference: reference.map(ToOwned::to_owned),
            environment: None,
        };
        return Ok(Caller::Workflow(Workflow { identity: Arc::new(identity), grant: None }));
    }
    let Some(login) = who.strip_prefix("github:") else {
        anyhow::ensure!(member_of.is_empty(), "a local account is in no group: say `--as github:{who}`");
        return Ok(Caller::User(User::local(who, "")));
    };
    let mut groups = Groups::default();
    for group in member_of {
        let group = group.to_lowercase();
        if let Some((repository, role)) = group.split_once(':') {
            let role: Role = role.parse().map_err(|()| anyhow::anyhow!("`{role}` is no role in a repository"))?;
            groups.roles.insert(repository.to_owned(), role);
        } else if group.contains('/') {
            groups.teams.insert(group);
        } else {
            groups.organizations.insert(group);
        }
    }
    let mut user = User::local(login, "");
    user.source = Source::GitHub;
    user.groups = Arc::new(groups);
    Ok(Caller::User(user))
}
