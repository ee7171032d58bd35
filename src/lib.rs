//! Holdfast: a private npm registry. Start with `ARCHITECTURE.md`.

pub mod clock;
pub mod npm;
