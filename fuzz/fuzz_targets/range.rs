//! Versions come back as they were written, are ordered totally, and no range makes the matcher panic.
//! The input is a range, and after a line feed two versions with a space between.
#![no_main]

use holdfast_fuzz::npm::{DistTag, Range, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (range, versions) = text.split_once('\n').unwrap_or((text, "1.2.3 1.2.3-beta.1"));
    let range = range.parse::<Range>();
    assert!(range.is_err() || text.lines().next().unwrap_or_default().parse::<DistTag>().is_err());
    let versions: Vec<Version> = versions.split(' ').filter_map(|version| version.parse().ok()).collect();
    for version in &versions {
        assert_eq!(version.to_string().parse().as_ref(), Ok(version));
        if let Ok(range) = &range {
            let _ = range.contains(version);
        }
    }
    if let [a, b, ..] = versions.as_slice() {
        assert_eq!(a.cmp(b), b.cmp(a).reverse());
        assert_eq!(a == b, a.to_string() == b.to_string());
    }
});
