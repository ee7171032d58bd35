//! `holdfast login`: signing in with GitHub from a console without a browser.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use url::Url;

use super::{output, runtime};
use crate::client::{Client, Error};
use crate::settings;

/// Arguments of `holdfast login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast login --registry https://npm.example/           writes the token where npm looks for it
  TOKEN=$(holdfast login --registry https://npm.example/ --print)")]
pub(super) struct LoginArgs {
    /// The registry
    #[arg(long, value_name = "URL", default_value = "http://localhost:4873/")]
    registry: Url,
    /// Print the token in place of writing it into npm's settings
    #[arg(long)]
    print: bool,
}

pub(super) fn run(arguments: &LoginArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(arguments.registry.clone())?;
    let token = match runtime()?.block_on(sign_in(&client)) {
        Ok(token) => token,
        Err(error) => {
            let advice = match &error {
                Error::Refused { code, .. } if code == "no_github" => {
                    Some("Run `npm login --auth-type=legacy` with a name and a password.")
                }
                _ => None,
            };
            output::failure(&anyhow::Error::new(error), advice);
            return Ok(ExitCode::FAILURE);
        }
    };
    if arguments.print {
        output::data(&token)?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = settings::user_npmrc()
        .ok_or_else(|| anyhow::anyhow!("there is no home directory to write npm's settings to: use --print"))?;
    let key = format!("{}:_authToken", npm_key(client.base()));
    write_token(&file, &key, &token)?;
    output::message(&format!("You are signed in: the token is in {}.", file.display()));
    Ok(ExitCode::SUCCESS)
}

async fn sign_in(client: &Client) -> Result<String, Error> {
    let login = client.begin_login(settings::machine_name().as_deref()).await?;
    output::message(&format!(
        "Open {}\nand type the code {}\n\nWaiting for at most {} minutes …",
        login.verification_url,
        login.user_code,
        login.expires_in.div_ceil(60)
    ));
    client.finish_login(&login).await
}

/// What npm keeps a token under: the address without its scheme, `//host:port/path/`.
fn npm_key(base: &Url) -> String {
    let text = base.as_str();
    text.split_once(':').map_or(text, |(_, rest)| rest).to_owned()
}

/// Puts a line into npm's settings, in place of the one that is there. Nobody else may read the file.
fn write_token(file: &Path, key: &str, token: &str) -> anyhow::Result<()> {
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(anyhow::Error::new(error).context(format!("`{}` cannot be read", file.display()))),
    };
    let is_ours = |line: &&str| line.split('=').next().map(str::trim) == Some(key);
    let mut lines: Vec<&str> = before.lines().filter(|line| !is_ours(line)).collect();
    let line = format!("{key}={token}");
    lines.push(&line);
    let folder = file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    // Beside the file and moved over it, so that a full disk leaves the old one.
    let staged = folder.join(format!(".npmrc-{}", crate::random::id()));
    let write = || -> std::io::Result<()> {
        let mut output = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        output.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
        output.sync_all()?;
        // A link is followed: many keep their settings elsewhere.
        std::fs::rename(&staged, std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()))
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&staged);
        anyhow::Error::new(error).context(format!("`{}` cannot be written", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_takes_the_place_of_the_one_that_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".npmrc");
        let key = npm_key(&"https://npm.example/npm/".parse().unwrap());
        assert_eq!(key, "//npm.example/npm/");
        let key = format!("{key}:_authToken");
        write_token(&file, &key, "one").unwrap();
        std::fs::write(&file, format!("registry=https://npm.example/npm/\n{key} = old\n//other/:_authToken=x\n"))
            .unwrap();
        write_token(&file, &key, "two").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("registry=https://npm.example/npm/\n//other/:_authToken=x\n{key}=two\n"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
