//! `holdfast user`: accounts.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{DataArgs, orders, output};
use crate::operator::{Order, Outcome};
use crate::random;

/// Arguments of `holdfast user`.
#[derive(Debug, Args)]
#[command(after_help = "\
A running server carries these out at once; without one they are carried out on the data directory.

Examples:
  holdfast user add ann                       makes an account and prints a password for it
  holdfast user add ci --password-stdin < password.txt
  holdfast user invite --name bob --days 3    prints the address of a page where bob chooses a password
  holdfast user import .htpasswd              takes over the accounts of Verdaccio or Apache")]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
    #[command(flatten)]
    settings: DataArgs,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make an account; without --password-stdin a password is made and printed
    Add {
        /// Its name
        name: String,
        /// Its mail address
        #[arg(long, default_value = "")]
        email: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Set another password
    Password {
        /// Whose
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List all accounts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove an account and all its tokens; what it published stays
    Remove {
        /// Whose
        name: String,
        /// The name once more, in place of being asked
        #[arg(long, value_name = "NAME")]
        yes: Option<String>,
    },
    /// Block an account: none of its tokens is of use any more
    Block {
        /// Whose
        name: String,
    },
    /// Let a blocked account in again
    Unblock {
        /// Whose
        name: String,
    },
    /// Turn one-time codes off for somebody who lost app and recovery codes
    #[command(name = "reset-2fa")]
    ResetSecondFactor {
        /// Whose
        name: String,
    },
    /// Invite somebody to make an account
    Invite {
        /// The name that the account must have
        #[arg(long)]
        name: Option<String>,
        /// For how many days
        #[arg(long, default_value_t = 7)]
        days: u64,
    },
    /// Make the accounts of an htpasswd file; those that are there stay as they are
    Import {
        /// The file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(arguments: UserArgs) -> anyhow::Result<ExitCode> {
    let UserArgs { command, settings } = arguments;
    let give = |order| orders::give(&settings, order);
    match command {
        UserCommand::Add { name, email, password_stdin } => {
            let (password, is_made) = password(password_stdin)?;
            give(Order::AddUser { name: name.clone(), password: password.clone(), email })?;
            output::message(&format!("The account `{name}` is there."));
            tell(&password, is_made)?;
        }
        UserCommand::Password { name, password_stdin } => {
            let (password, is_made) = password(password_stdin)?;
            give(Order::SetPassword { name: name.clone(), password: password.clone() })?;
            output::message(&format!("`{name}` has a new password."));
            tell(&password, is_made)?;
        }
        UserCommand::List { json } => list(give(Order::ListUsers)?, json)?,
        UserCommand::Remove { name, yes } => {
            confirm_removal(&name, yes.as_deref())?;
            give(Order::RemoveUser { name: name.clone() })?;
            output::message(&format!("The account `{name}` and its tokens are gone."));
        }
        UserCommand::Block { name } => {
            give(Order::BlockUser { name: name.clone(), blocked: true })?;
            output::message(&format!("`{name}` is blocked."));
        }
        UserCommand::Unblock { name } => {
            give(Order::BlockUser { name: name.clone(), blocked: false })?;
            output::message(&format!("`{name}` may come in again."));
        }
        UserCommand::ResetSecondFactor { name } => {
            give(Order::ResetSecondFactor { name: name.clone() })?;
            output::message(&format!("`{name}` is asked for no one-time codes any more."));
        }
        UserCommand::Invite { name, days } => {
            let loaded = settings.load()?.settings;
            let base = loaded.typed_url(loaded.server.listen.port());
            if let Outcome::Invitation { code } = give(Order::Invite { name, days })? {
                output::message(&format!("Whoever opens this page within {days} days can make one account:"));
                output::data(&format!("{base}-/invite/{code}"))?;
            }
        }
        UserCommand::Import { file, json } => import(give, &file, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A password from standard input, or a new one. True for a new one.
fn password(from_stdin: bool) -> anyhow::Result<(String, bool)> {
    if !from_stdin {
        return Ok((random::secret(), true));
    }
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text)?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    anyhow::ensure!(!password.is_empty(), "there is no password on standard input");
    Ok((password, false))
}

fn tell(password: &str, is_made: bool) -> anyhow::Result<()> {
    if is_made {
        output::message("Its password, shown this once:");
        output::data(password)?;
    }
    Ok(())
}

fn confirm_removal(name: &str, yes: Option<&str>) -> anyhow::Result<()> {
    if yes == Some(name) {
        return Ok(());
    }
    anyhow::ensure!(
        yes.is_none() && std::io::stdin().is_terminal(),
        "removing an account ends all its tokens: repeat the name with --yes {name}"
    );
    output::message(&format!("This removes `{name}` and ends all its tokens. Type the name to go on:"));
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    anyhow::ensure!(typed.trim() == name, "nothing was removed");
    Ok(())
}

fn list(outcome: Outcome, as_json: bool) -> anyhow::Result<()> {
    let Outcome::Users { users } = outcome else { return Ok(()) };
    if as_json {
        return output::json(&users);
    }
    let rows: Vec<Vec<String>> = users
        .into_iter()
        .map(|user| {
            let source = super::word(&user.source);
            let second_factor = user.second_factor.map_or_else(|| "-".to_owned(), |mode| super::word(&mode));
            let blocked = if user.blocked { "blocked" } else { "" };
            vec![user.name, source, user.email, second_factor, user.created, blocked.to_owned()]
        })
        .collect();
    Ok(output::data(&output::table(&["NAME", "FROM", "MAIL", "2FA", "CREATED", ""], &rows))?)
}

fn import(
    give: impl Fn(Order) -> anyhow::Result<Outcome>,
    file: &std::path::Path,
    as_json: bool,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display())))?;
    let Outcome::Imported { imported } = give(Order::ImportHtpasswd { text })? else { return Ok(()) };
    if as_json {
        return output::json(&imported);
    }
    for line in &imported.left_out {
        output::message(&format!("line {}: left out: {}", line.line, line.why));
    }
    output::message(&format!("{} accounts made, {} lines left out.", imported.made.len(), imported.left_out.len()));
    Ok(())
}
