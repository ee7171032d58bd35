//! What is looked at before a store is removed.

use super::report::Lines;
use super::transfer::MoveError;
use crate::keys::Part;
use crate::storage::Store;

/// The keys of objects that neither Holdfast nor an older system wrote: somebody may miss them.
///
/// # Errors
/// The store's failure.
pub async fn foreign_objects(store: &Store) -> Result<Lines, MoveError> {
    let (mut foreign, mut keys) = (Lines::default(), store.list());
    while let Some(key) = keys.recv().await {
        let key = key.map_err(MoveError::source_list)?;
        if key.part() == Part::Foreign {
            foreign.push(key.as_str());
        }
    }
    Ok(foreign)
}
