//! How the router meets the world.

pub mod control;
mod lambda;
mod tcp;

pub use lambda::{LambdaError, serve_lambda};
pub use tcp::{Bound, ServeError, bind};
