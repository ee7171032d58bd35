//! Giving an operator's order: carried out here when nobody owns the data directory, else by the server that does.

use super::{DataArgs, runtime};
use crate::auth::Auth;
use crate::clock::Clock;
use crate::events::Recorder;
use crate::operator::{self, Desk, Errand, Order, Outcome};
use crate::registry::WaiverBook;
use crate::serve::control;
use crate::settings::{self, Settings};
use crate::storage::{self, OpenError, Store};

/// Gives the order and returns what came of it; a refusal is an error.
pub(super) fn give(settings: &DataArgs, order: Order) -> anyhow::Result<Outcome> {
    let settings = settings.load()?.settings;
    match runtime()?.block_on(carry_out(&settings, errand(order)))? {
        Outcome::Refused { why } => anyhow::bail!(why),
        outcome => Ok(outcome),
    }
}

/// An order of whoever this process runs as.
pub(super) fn errand(order: Order) -> Errand {
    Errand { by: settings::account_name(), order }
}

async fn carry_out(settings: &Settings, errand: Errand) -> anyhow::Result<Outcome> {
    let directory = &settings.storage.directory;
    match Store::at(&settings.storage.location()) {
        Ok(store) => carry_out_on(store, settings, errand).await,
        Err(OpenError::Store(storage::Error::Locked)) => control::give(directory, &errand).await.map_err(|error| {
            anyhow::Error::new(error).context(format!(
                "the server that runs on `{}` takes no orders from here: run this as the same user, or stop it first",
                directory.display()
            ))
        }),
        Err(error) => Err(anyhow::Error::new(error).context(format!("`{}` cannot be used", settings.storage.shown()))),
    }
}

/// Carries an order out on a store that this process works on.
pub(super) async fn carry_out_on(store: Store, settings: &Settings, errand: Errand) -> anyhow::Result<Outcome> {
    let access = settings.access_policy().map_err(|errors| anyhow::anyhow!("{}", errors[0]))?;
    let tasks = tokio_util::task::TaskTracker::new();
    let clock = Clock::default();
    let recorder = Recorder::new(store.clone(), clock.clone(), tasks.clone());
    let waivers = WaiverBook::new(store.clone(), clock.clone(), recorder.clone());
    let sinks = settings.sinks_over(&store, &clock)?;
    let auth = Auth::new(store, clock.clone(), tasks.clone(), recorder.clone(), settings.auth(&access))?;
    let (auth, waivers, recorder, sinks, clock) = (&auth, &waivers, &recorder, &sinks, &clock);
    let desk = Desk { auth, waivers, recorder, sinks, clock, registry: None };
    let outcome = operator::carry_out(desk, errand).await;
    tasks.close();
    tasks.wait().await;
    Ok(outcome)
}
