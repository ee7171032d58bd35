//! How the router meets the world.

pub mod control;
mod tcp;

pub use tcp::{Bound, ServeError, bind};
