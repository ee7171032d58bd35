//! Giving an operator's order: carried out here when nobody owns the data directory, else by the server that does.

use super::{DataArgs, runtime};
use crate::auth::Auth;
use crate::clock::Clock;
use crate::operator::{self, Order, Outcome};
use crate::serve::control;
use crate::settings::Settings;
use crate::storage::{self, Store};

/// Gives the order and returns what came of it; a refusal is an error.
pub(super) fn give(settings: &DataArgs, order: Order) -> anyhow::Result<Outcome> {
    let settings = settings.load()?.settings;
    match runtime()?.block_on(carry_out(&settings, order))? {
        Outcome::Refused { why } => anyhow::bail!(why),
        outcome => Ok(outcome),
    }
}

async fn carry_out(settings: &Settings, order: Order) -> anyhow::Result<Outcome> {
    let directory = &settings.storage.directory;
    match Store::open(directory) {
        Ok(store) => {
            let access = settings.access_policy().map_err(|errors| anyhow::anyhow!("{}", errors[0]))?;
            let tasks = tokio_util::task::TaskTracker::new();
            let auth = Auth::new(store, Clock::default(), tasks.clone(), settings.auth(&access))?;
            let outcome = operator::carry_out(&auth, order).await;
            tasks.close();
            tasks.wait().await;
            Ok(outcome)
        }
        Err(storage::Error::Locked) => control::give(directory, &order).await.map_err(|error| {
            anyhow::Error::new(error).context(format!(
                "the server that runs on `{}` takes no orders from here: run this as the same user, or stop it first",
                directory.display()
            ))
        }),
        Err(error) => Err(anyhow::Error::new(error).context(format!("`{}` cannot be used", directory.display()))),
    }
}
