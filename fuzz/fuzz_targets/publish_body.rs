//! How a body is cut changes nothing, and the document says what `serde_json` reads in the body. The first byte is the
//! length of the chunks.
#![no_main]

use holdfast_fuzz::npm::publish_body::{BodyError, Limits, SplitBody, Splitter};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LIMITS: Limits = Limits { max_document_bytes: 1 << 14, max_tarball_bytes: 1 << 12, max_depth: 32 };

fn split(text: &[u8], chunk_bytes: usize) -> Result<(SplitBody, Vec<u8>), BodyError> {
    let mut splitter = Splitter::new(LIMITS);
    let mut decoded = Vec::new();
    for chunk in text.chunks(chunk_bytes) {
        splitter.push(chunk, &mut decoded)?;
    }
    Ok((splitter.finish()?, decoded))
}

fuzz_target!(|input: &[u8]| {
    let Some((&chunk_bytes, text)) = input.split_first() else { return };
    let whole = split(text, usize::MAX);
    let cut = split(text, usize::from(chunk_bytes).max(1));
    assert_eq!(whole.is_ok(), cut.is_ok());
    let (Ok((body, decoded)), Ok(cut)) = (whole, cut) else { return };
    assert_eq!((&body, &decoded), (&cut.0, &cut.1));
    assert!(body.document.len() <= LIMITS.max_document_bytes);
    assert!(decoded.len() as u64 <= LIMITS.max_tarball_bytes);

    let original: Result<Value, _> = serde_json::from_slice(text);
    let document: Result<Value, _> = serde_json::from_slice(&body.document);
    // The splitter leaves escapes, numbers and UTF-8 to the parser; what it takes out is ASCII without any of them.
    assert_eq!(original.is_ok(), document.is_ok());
    let (Ok(mut original), Ok(document)) = (original, document) else { return };
    let Some(attachments) = original.get_mut("_attachments").and_then(Value::as_object_mut) else {
        assert!(body.tarball.is_none());
        return;
    };
    let found: Vec<String> = attachments
        .iter()
        .filter(|(key, value)| key.ends_with(".tgz") && value.get("data").is_some_and(Value::is_string))
        .map(|(key, _)| key.clone())
        .collect();
    let expected = body.tarball.map(|tarball| {
        assert_eq!(tarball.decoded_bytes, decoded.len() as u64);
        tarball.key
    });
    assert_eq!(found, Vec::from_iter(expected));
    for key in found {
        let data = attachments[&key]["data"].take();
        assert_eq!(data.as_str().map(|data| data.len()), Some(decoded.len().div_ceil(3) * 4));
        attachments[&key]["data"] = Value::from("");
    }
    assert_eq!(original, document);
});
