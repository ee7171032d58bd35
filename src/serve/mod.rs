//! How the router meets the world.

mod tcp;

pub use tcp::{Bound, ServeError, bind};
