//! The vocabulary of the npm protocol: names, versions, documents, integrity, tarballs.
//!
//! Everything here is pure. It knows no HTTP, no storage, no clock and no file system, so that each rule can be read
//! and tested alone. Text from outside becomes one of these types once, at the edge, and is not checked again.

pub mod dist_tag;
pub mod form;
pub mod integrity;
pub mod name;
pub mod packument;
pub mod raw;
pub mod render;
pub mod time;
pub mod version;

pub use dist_tag::DistTag;
pub use form::Form;
pub use integrity::{Digests, Integrity};
pub use name::{PackageName, Scope};
pub use raw::RawObject;
pub use time::Timestamp;
pub use version::{Range, Version};
