//! `holdfast token`: tokens of accounts, by an operator's word.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::{DataArgs, orders, output};
use crate::operator::{Order, Outcome, TokenLimits};

/// Arguments of `holdfast token`.
#[derive(Debug, Args)]
#[command(after_help = "\
A running server carries these out at once; without one they are carried out on the data directory.
A token that is made here for a GitHub account does not show which organisations and teams it is in.

Examples:
  holdfast token create ci --read-only --days 90          a token for installs
  holdfast token create ci --package '@acme/*' --cidr 192.0.2.0/24
  holdfast token list ci
  holdfast token revoke ci 3f9a2c41")]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; it is printed once
    Create {
        /// Whose
        user: String,
        /// For the list
        #[arg(long, default_value = "")]
        name: String,
        /// It changes nothing
        #[arg(long)]
        read_only: bool,
        /// Only for these packages: `name`, `@scope/name`, `@scope/*`
        #[arg(long = "package", value_name = "PATTERN")]
        packages: Vec<String>,
        /// Only from these networks
        #[arg(long, value_name = "NETWORK")]
        cidr: Vec<IpNet>,
        /// For how many days [default: for ever]
        #[arg(long)]
        days: Option<u64>,
        /// Publishing with it needs no one-time code
        #[arg(long)]
        bypass_2fa: bool,
    },
    /// List an account's tokens
    List {
        /// Whose
        user: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// Whose
        user: String,
        /// Its key, or the start of it
        key: String,
    },
}

pub(super) fn run(arguments: TokenArgs) -> anyhow::Result<ExitCode> {
    let TokenArgs { command, settings } = arguments;
    match command {
        TokenCommand::Create { user, name, read_only, packages, cidr, days, bypass_2fa } => {
            let limits = TokenLimits { name, read_only, packages, cidr, days, bypass_second_factor: bypass_2fa };
            let order = Order::CreateToken { user, limits };
            if let Outcome::Token { token, key, expires } = orders::give(&settings, order)? {
                let end = expires.map_or_else(|| "never".to_owned(), |at| format!("at {at}"));
                output::message(&format!("Token {}, which ends {end}. Shown this once:", &key[..key.len().min(12)]));
                output::data(&token)?;
            }
        }
        TokenCommand::List { user, json } => list(orders::give(&settings, Order::ListTokens { user })?, json)?,
        TokenCommand::Revoke { user, key } => {
            orders::give(&settings, Order::RevokeToken { user, key })?;
            output::message("The token is revoked.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(outcome: Outcome, as_json: bool) -> anyhow::Result<()> {
    let Outcome::Tokens { tokens } = outcome else { return Ok(()) };
    if as_json {
        return output::json(&tokens);
    }
    let rows: Vec<Vec<String>> = tokens
        .into_iter()
        .map(|token| {
            let mut limits = Vec::new();
            if token.read_only {
                limits.push("read-only".to_owned());
            }
            limits.extend(token.packages.into_iter().flatten());
            limits.extend(token.cidr.iter().map(ToString::to_string));
            let key = token.key.chars().take(12).collect();
            let expires = token.expires.unwrap_or_else(|| "never".to_owned());
            vec![
                key,
                format!("{}…", token.hint),
                token.name,
                super::word(&token.origin),
                token.created,
                expires,
                limits.join(" "),
            ]
        })
        .collect();
    Ok(output::data(&output::table(&["KEY", "TOKEN", "NAME", "FROM", "CREATED", "ENDS", "LIMITS"], &rows))?)
}
