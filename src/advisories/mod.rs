//! Advisories: what is publicly known to be bad about npm packages, from records in the OSV format.
//!
//! An archive of records (some two hundred thousand, nine tenths of them about malware) is compiled into one compact
//! index, which is kept in memory as it is and parsed only where it is asked. [`record`], [`affected`], [`codec`] and
//! [`index`] are pure; `archive` reads files, `fetch` speaks HTTP, and neither judges anything.
//!
//! Invariants: an index is a function of the set of records, whatever their order; damaged bytes are refused as a whole,
//! never half believed; what is wrong with one record costs that record, and too many of them cost the archive, so that
//! the caller keeps what it had. A name from an archive is never a path.
//!
//! The rules of the format are those of the OSV schema 1.7, `ossf.github.io/osv-schema`.

pub mod advisory;
pub mod affected;
mod archive;
pub mod codec;
mod collect;
mod fetch;
pub mod index;
pub mod record;
pub mod severity;
#[cfg(test)]
mod tests;

pub use self::advisory::{Advisory, Cvss};
pub use self::affected::Affected;
pub use self::archive::compile;
pub use self::collect::{CompileError, Compiled, Limits};
pub use self::fetch::{FetchError, Fetched, fetch};
pub use self::index::{Index, IndexError, Statistics};
pub use self::severity::Severity;
