//! A lockfile is a sorted list without repetitions, whatever its form, and its text decides what its name does not. The
//! first byte is the name.
#![no_main]

use holdfast_fuzz::lockfile::{LockfileError, parse};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] =
    ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "some/npm-shrinkwrap.json", "another"];

fuzz_target!(|input: &[u8]| {
    let Some((&first, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let answer = parse(NAMES[usize::from(first) % NAMES.len()], text);
    let Ok(lockfile) = answer else {
        // Of a text this short, nothing may be too much.
        assert!(!matches!(answer, Err(LockfileError::TooLarge | LockfileError::TooManyEntries)));
        return;
    };
    let pairs: Vec<_> = lockfile.entries.iter().map(|entry| (&entry.name, &entry.version)).collect();
    assert!(pairs.windows(2).all(|two| two[0] < two[1]));
    assert!(lockfile.skipped.windows(2).all(|two| two[0] < two[1]));
    assert!(lockfile.entries.iter().all(|entry| entry.integrity.as_deref() != Some("")));
    assert!(lockfile.skipped.iter().all(|skipped| skipped.what.chars().count() <= 200 && !skipped.why.is_empty()));
});
