//! Holdfast: a private npm registry. Start with `ARCHITECTURE.md`.

pub mod clock;
pub mod keys;
pub mod npm;
pub mod storage;
