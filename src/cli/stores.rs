//! Stores that a command names besides the one of the settings.

use std::path::PathBuf;

use super::mistakes;
use crate::settings::{Flags, Settings};

/// The settings of a store that is named by an address or a directory: with a file, those of that file alone; else those of
/// this process, with the address in the place of its own.
pub(super) fn named(address: Option<&str>, file: Option<&PathBuf>) -> anyhow::Result<Settings> {
    let value = address.map(|address| {
        let key = if is_url(address) { "storage.url" } else { "storage.directory" };
        (key, address.to_owned())
    });
    let flags = Flags { file: file.cloned(), values: value.into_iter().collect() };
    let mut settings = match file {
        Some(_) => Settings::load_apart(&flags).map_err(|found| mistakes(&found))?.settings,
        None => super::load(&flags)?.settings,
    };
    // A directory that is named here is meant, whatever bucket the settings have.
    if address.is_some_and(|address| !is_url(address) || address.starts_with("file:")) {
        settings.storage.bucket = None;
    }
    Ok(settings)
}

fn is_url(address: &str) -> bool {
    address.contains("://") || address == "memory:"
}
