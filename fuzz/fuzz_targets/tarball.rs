//! Whatever a tarball holds, the answer comes within bounds. The first byte says whether the input is compressed
//! already; when it is not, it is compressed here, for else no mutation would reach the archive.
#![no_main]

use std::io::Read as _;

use flate2::Compression;
use flate2::read::GzEncoder;
use holdfast_fuzz::npm::tarball::{Limits, inspect};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_unpacked_bytes: 1 << 16, max_entries: 32, max_manifest_bytes: 1 << 12 };

fuzz_target!(|input: &[u8]| {
    let Some((&kind, content)) = input.split_first() else { return };
    let mut compressed = Vec::new();
    let bytes = if kind == b'z' {
        content
    } else {
        if GzEncoder::new(content, Compression::fast()).read_to_end(&mut compressed).is_err() {
            return;
        }
        &compressed
    };
    match inspect(bytes, &LIMITS) {
        Ok(found) => {
            assert!(found.unpacked_bytes <= LIMITS.max_unpacked_bytes);
            assert!(found.file_count >= 1 && found.file_count <= LIMITS.max_entries);
        }
        Err(error) => assert!(!error.is_read_failure(), "{error:?}"),
    }
});
