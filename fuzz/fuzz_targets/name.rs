//! A name that is accepted comes back as it was, and never leaves its key.
#![no_main]

use holdfast_fuzz::npm::PackageName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = text.parse::<PackageName>() else { return };
    assert_eq!(name.as_str(), text);
    assert_eq!(name.to_path_segment().replacen("%2f", "/", 1), text);
    assert_eq!(text.matches('/').count(), usize::from(name.scope().is_some()));
    assert!(text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-', '_'])));
    assert!(!text.contains(['\\', '%', '\0']));
});
