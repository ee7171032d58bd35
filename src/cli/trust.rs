//! `holdfast trust`: which CI jobs a package trusts, by an operator's word.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::{DataArgs, orders, output};
use crate::auth::{Action, TrustWish, TrustedPublisher};
use crate::operator::{Order, Outcome};

/// Arguments of `holdfast trust`.
#[derive(Debug, Args)]
#[command(after_help = "\
A running server carries these out at once; without one they are carried out on the data directory.

Examples:
  holdfast trust add @acme/tool --repository acme/tool --workflow release.yml
  holdfast trust add @acme/tool --issuer gitlab --repository acme/tool --workflow .gitlab-ci.yml --ref 'refs/tags/v*'
  holdfast trust list @acme/tool")]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    command: TrustCommand,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Trust a workflow with a package, which may be published later
    Add(Box<AddArgs>),
    /// List the workflows that a package trusts
    List {
        /// The package
        package: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End the trust in a workflow
    Remove {
        /// The package
        package: String,
        /// The id that `list` shows
        id: String,
    },
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The package
    package: String,
    /// The issuer's name in the settings
    #[arg(long, default_value = "github")]
    issuer: String,
    /// The repository or project: owner/name; of another issuer the subject
    #[arg(long)]
    repository: String,
    /// The workflow's file, such as release.yml
    #[arg(long)]
    workflow: Option<String>,
    /// The deployment environment that the job must be in
    #[arg(long)]
    environment: Option<String>,
    /// The git ref, in which * stands for any text
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// What the workflow may do
    #[arg(long, value_delimiter = ',', default_values = ["publish", "tag"])]
    allow: Vec<Allowed>,
    /// The repository's number, where it is known [default: noted at the first use]
    #[arg(long)]
    repository_id: Option<String>,
    /// Its owner's number, where it is known [default: noted at the first use]
    #[arg(long)]
    owner_id: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Allowed {
    Publish,
    Tag,
    Deprecate,
}

impl From<Allowed> for Action {
    fn from(allowed: Allowed) -> Self {
        match allowed {
            Allowed::Publish => Self::Publish,
            Allowed::Tag => Self::Tag,
            Allowed::Deprecate => Self::Deprecate,
        }
    }
}

pub(super) fn run(arguments: TrustArgs) -> anyhow::Result<ExitCode> {
    let TrustArgs { command, settings } = arguments;
    match command {
        TrustCommand::Add(add) => {
            let package = add.package.clone();
            let wish = TrustWish {
                issuer: add.issuer,
                repository: add.repository,
                workflow: add.workflow,
                environment: add.environment,
                reference: add.reference,
                actions: add.allow.into_iter().map(Action::from).collect(),
                repository_id: add.repository_id,
                owner_id: add.owner_id,
            };
            orders::give(&settings, Order::Trust { package: add.package, wish })?;
            output::message(&format!("`{package}` trusts that workflow."));
        }
        TrustCommand::List { package, json } => {
            if let Outcome::Publishers { publishers } = orders::give(&settings, Order::ListTrust { package })? {
                list(publishers, json)?;
            }
        }
        TrustCommand::Remove { package, id } => {
            orders::give(&settings, Order::Distrust { package, id })?;
            output::message(
                "That workflow is not trusted any more. A token that it got before lasts 15 minutes at most.",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(publishers: Vec<TrustedPublisher>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(&publishers);
    }
    let or_any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
    let rows: Vec<Vec<String>> = publishers
        .into_iter()
        .map(|publisher| {
            let actions: Vec<&str> = publisher.actions.iter().map(|action| action.as_str()).collect();
            vec![
                publisher.id,
                publisher.issuer,
                publisher.repository,
                or_any(publisher.workflow),
                or_any(publisher.environment),
                or_any(publisher.reference),
                actions.join(","),
            ]
        })
        .collect();
    let header = ["ID", "ISSUER", "REPOSITORY", "WORKFLOW", "ENVIRONMENT", "REF", "MAY"];
    Ok(output::data(&output::table(&header, &rows))?)
}
