//! Holdfast: a private npm registry. Start with `ARCHITECTURE.md`.

pub mod advisories;
pub mod app;
pub mod auth;
pub mod causes;
pub mod cli;
pub mod client;
pub mod clock;
pub mod events;
pub mod http;
pub mod keys;
pub mod lockfile;
pub mod npm;
pub mod operator;
pub mod policy;
pub mod providers;
pub mod random;
pub mod registry;
pub mod search;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod storage;
pub mod takeover;
pub mod telemetry;
pub mod upkeep;
pub mod upstream;
