//! All that knows HTTP. One file per noun of the URL; `router.rs` lists them all.
//!
//! A handler translates: it takes checked values out of the request, makes one call, and writes the answer. What a
//! registry would do is decided in [`crate::registry`].

mod access;
mod attestations;
mod audit;
mod browser;
mod device;
mod dist_tags;
mod downloads;
mod error;
mod events;
mod extract;
mod health;
mod hooks;
mod invitation;
mod layers;
mod login;
mod metrics;
mod negotiate;
mod notes;
mod oidc;
mod origin;
mod owners;
mod packument;
mod path;
mod policy;
mod profile;
mod publish;
mod range;
mod refused;
mod request_id;
mod respond;
mod router;
mod search;
mod stars;
mod tarball;
mod teams;
mod tokens;
mod trust;
mod undelivered;
mod uploads;
mod web;

pub use error::{KINDS, Kind};
pub use layers::HttpService;
pub use origin::{FrontEnd, Peer};
pub use router::{Access, Route, Routes, routes};
pub use undelivered::{Undelivered, undelivered};
