//! A document that is read and written says the same, to us and to `serde_json`.
#![no_main]

use holdfast_fuzz::npm::RawObject;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|text: &[u8]| {
    let Ok(object) = RawObject::parse(text) else {
        assert!(serde_json::from_slice::<Map<String, Value>>(text).is_err());
        return;
    };
    let written = serde_json::to_vec(&object).expect("a raw object can be written");
    let again = RawObject::parse(&written).expect("what was written can be read");
    assert!(object.keys().eq(again.keys()));
    assert!(object.iter().map(|(_, raw)| raw.get()).eq(again.iter().map(|(_, raw)| raw.get())));
    // The raw form has no bound on depth and takes numbers that no f64 holds, so `serde_json` may refuse the text.
    if let Ok(value) = serde_json::from_slice::<Map<String, Value>>(text) {
        assert_eq!(serde_json::from_slice::<Map<String, Value>>(&written).ok(), Some(value));
    }
});
