//! Whatever a record says, what was read of it stays within bounds and comes back from the index's form as it was; and
//! bytes that are not that form are answered too.
#![no_main]

use holdfast_fuzz::advisories::affected::End;
use holdfast_fuzz::advisories::codec::{self, Input};
use holdfast_fuzz::advisories::record::{self, MAX_ID_BYTES, MAX_SUMMARY_BYTES};
use holdfast_fuzz::npm::{PackageName, Range};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let _ = codec::read("tool", &mut Input(text));
    let Ok(record) = record::read(text) else { return };
    assert!(record.id.len() <= MAX_ID_BYTES);
    for (name, advisory) in &record.packages {
        assert!(name.parse::<PackageName>().is_ok() && !name.contains(char::is_uppercase));
        assert!(advisory.summary.len() <= MAX_SUMMARY_BYTES && !advisory.summary.contains(char::is_control));
        let mut bytes = Vec::new();
        codec::write(name, advisory, &mut bytes);
        let mut input = Input(&bytes);
        assert_eq!(codec::read(name, &mut input).as_ref(), Some(advisory));
        assert!(input.0.is_empty());

        let affected = &advisory.affected;
        assert!(!advisory.is_malware || !affected.nothing());
        assert!(affected.versions().iter().all(|version| affected.contains(version)));
        let text = affected.range_text();
        let range = text.len() <= 256 && text.parse::<Range>().is_err();
        assert!(!range, "npm does not read {text}");
        for interval in affected.intervals() {
            assert!(interval.from.as_ref().is_none_or(|from| affected.contains(from)));
            assert!(!matches!(&interval.end, End::UpTo(end) if !affected.contains(end)));
            assert!(!matches!(&interval.end, End::Before(end) if affected.contains(end)));
        }
    }
});
