//! How the router meets the world.

pub mod control;
mod lambda;
mod reload;
pub mod systemd;
mod tcp;
mod watched;

pub use lambda::{LambdaError, serve_lambda, serve_removal};
pub use reload::Reload;
pub use tcp::{Bound, ServeError, bind, inherit};
