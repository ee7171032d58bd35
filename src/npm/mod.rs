//! The vocabulary of the npm protocol: names, versions, documents, integrity, tarballs.
//!
//! Everything here is pure. It knows no HTTP, no storage, no clock and no file system, so that each rule can be read
//! and tested alone. Text from outside becomes one of these types once, at the edge, and is not checked again.

pub mod dist_tag;
pub mod downloads;
pub mod integrity;
pub mod manifest;
pub mod name;
pub mod packument;
pub mod packument_form;
pub mod pattern;
pub mod publish_body;
pub mod publish_document;
pub mod raw;
pub mod render;
pub mod search_query;
pub mod search_result;
pub mod signature;
pub mod tarball;
pub mod time;
pub mod version;

pub use dist_tag::DistTag;
pub use integrity::{Digests, Integrity};
pub use name::{PackageName, Scope};
pub use packument_form::Form;
pub use pattern::Pattern;
pub use raw::RawObject;
pub use search_query::SearchQuery;
pub use search_result::SearchEntry;
pub use time::Timestamp;
pub use version::{Range, Version};
