//! Keeping the policy up to date while requests are served: rules that were edited, waivers, advisories that were refreshed.
//!
//! Whatever fails here leaves what is in force as it is, says so in the log and in the registry's health, and tries again.

mod advisories;
mod counted;
mod due;
mod recorded;
mod rules;
mod settings;
mod sweep;

pub use advisories::{AdvisoryKeeper, RefreshError};
pub use counted::keep_counted;
pub use due::{Upkeep, keep_waivers};
pub use recorded::keep_recorded;
pub use rules::{FileStamp, RulesKeeper};
pub use settings::SettingsRecord;
pub use sweep::keep_swept;
