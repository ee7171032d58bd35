//! The body of `npm publish`, taken apart while it arrives: the JSON document here, the tarball's bytes there.
//!
//! The tarball stands in the body as base64, in `_attachments.<key>.data` of the one key that ends in `.tgz`. It is
//! decoded on the way and never kept; everything else, a `.sigstore` bundle included, is copied to the document, in
//! which the tarball's text becomes `""`. The order of members is not assumed: yarn berry sends `_attachments` first.
//!
//! Invariant: what is found here is what `serde_json` finds in the document afterwards. Structure is checked strictly,
//! keys on the path to `data` are compared decoded, and repeated members on that path are refused instead of guessed
//! at. Numbers, literals, escapes and UTF-8 elsewhere are left to the parser of the document.

use std::collections::HashSet;

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeSliceError, Engine as _};

/// Bounds of one body. All are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the JSON without the tarball's base64, white space included.
    pub max_document_bytes: usize,
    /// Bytes of the decoded tarball.
    pub max_tarball_bytes: u64,
    /// Objects and arrays within each other; the outermost object counts.
    pub max_depth: usize,
}

/// Why a body cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// A character in the tarball's text that is not base64, or bits that no encoder leaves behind.
    #[error("the tarball in `_attachments` is not valid base64")]
    BadBase64,
    /// Padding missing, too long, or followed by more.
    #[error("the base64 of the tarball in `_attachments` is not padded as it must be")]
    WrongPadding,
    /// A second key ending in `.tgz` has data.
    #[error("`_attachments` has more than one tarball")]
    TwoTarballs,
    /// `_attachments`, an attachment or its `data` stands there twice: which one counts differs among parsers.
    #[error("`_attachments` or one of its members is repeated")]
    Repeated,
    /// Over [`Limits::max_depth`].
    #[error("the document is nested too deeply")]
    TooDeep,
    /// Over [`Limits::max_document_bytes`].
    #[error("the document without its tarball is too large")]
    DocumentTooLarge,
    /// Over [`Limits::max_tarball_bytes`].
    #[error("the tarball is too large")]
    TarballTooLarge,
    /// Not JSON.
    #[error("the body is not valid JSON")]
    NotJson,
    /// The bytes ended before the document did.
    #[error("the body ends in the middle of the document")]
    Truncated,
    /// JSON, but not an object.
    #[error("the body must be a JSON object")]
    NotAnObject,
}

impl BodyError {
    /// True when a limit was passed (413), false when the body is malformed (400).
    pub fn is_limit(self) -> bool {
        matches!(self, Self::TooDeep | Self::DocumentTooLarge | Self::TarballTooLarge)
    }
}

/// What a body was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitBody {
    /// The JSON, byte by byte as sent, with the tarball's text replaced by `""`.
    pub document: Vec<u8>,
    /// The tarball, when the body had one with data.
    pub tarball: Option<TarballAttachment>,
}

/// The tarball whose bytes were handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarballAttachment {
    /// Its key in `_attachments`, decoded; of a scoped package it holds a slash.
    pub key: String,
    /// How many bytes were handed out.
    pub decoded_bytes: u64,
}

/// What an open bracket is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Root,
    Attachments,
    /// One attachment; true when its key ends in `.tgz`.
    Attachment {
        is_tarball: bool,
    },
    OtherObject,
    Array,
}

/// What the value after a key is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Attachments,
    Attachment { is_tarball: bool },
    TarballData,
    Other,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The opening brace of the document.
    Start,
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// In a number or a literal.
    Scalar,
    /// In a string that is copied; `start` is where its opening quote stands in the document.
    Text {
        is_key: bool,
        start: usize,
        escaped: bool,
    },
    Data(Escape),
    Done,
}

/// How far an escape in the tarball's text has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    Unicode { digits: u8, code: u16 },
}

/// Takes a body apart, chunk by chunk, in one pass.
pub struct Splitter {
    limits: Limits,
    document: Vec<u8>,
    open: Vec<Frame>,
    state: State,
    role: Role,
    decoder: Decoder,
    tarball: Option<TarballAttachment>,
    /// The key of the attachment that is being read.
    key: String,
    /// Keys of `_attachments` so far.
    keys: HashSet<String>,
    has_attachments: bool,
    /// Whether the attachment that is being read had a `data` already.
    has_data: bool,
    failed: Option<BodyError>,
}

impl Splitter {
    /// A splitter that has seen nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            document: Vec::new(),
            open: Vec::new(),
            state: State::Start,
            role: Role::Other,
            decoder: Decoder::default(),
            tarball: None,
            key: String::new(),
            keys: HashSet::new(),
            has_attachments: false,
            has_data: false,
            failed: None,
        }
    }

    /// Takes the next bytes and appends to `decoded` what they hold of the tarball: at most three quarters of their
    /// length and two bytes.
    ///
    /// # Errors
    /// See [`BodyError`]. After an error every call fails with it, and `decoded` may have got bytes that are worthless.
    pub fn push(&mut self, chunk: &[u8], decoded: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.scan(chunk, decoded);
        self.failed = result.err();
        result
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the document is not complete, or the error of an earlier [`Self::push`].
    pub fn finish(self) -> Result<SplitBody, BodyError> {
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::Done) => Ok(SplitBody { document: self.document, tarball: self.tarball }),
            (None, _) => Err(BodyError::Truncated),
        }
    }

    fn scan(&mut self, mut rest: &[u8], decoded: &mut Vec<u8>) -> Result<(), BodyError> {
        while let Some(&byte) = rest.first() {
            rest = match self.state {
                State::Text { is_key, start, escaped } => self.scan_text(rest, is_key, start, escaped)?,
                State::Data(escape) => self.scan_data(rest, escape, decoded)?,
                State::Scalar => {
                    let end = rest.iter().position(|&byte| !is_scalar(byte)).unwrap_or(rest.len());
                    self.copy(&rest[..end])?;
                    if end < rest.len() {
                        self.state = State::CommaOrEnd;
                    }
                    &rest[end..]
                }
                _ => {
                    self.scan_structure(byte)?;
                    &rest[1..]
                }
            };
        }
        Ok(())
    }

    /// One byte outside of strings and scalars.
    fn scan_structure(&mut self, byte: u8) -> Result<(), BodyError> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return self.copy(&[byte]);
        }
        match (self.state, byte) {
            (State::Start, b'{') => self.open(Frame::Root)?,
            (State::Start, _) => return Err(BodyError::NotAnObject),
            (State::Value | State::ValueOrEnd, b'{') => {
                let frame = match self.role {
                    Role::Attachments => Frame::Attachments,
                    Role::Attachment { is_tarball } => Frame::Attachment { is_tarball },
                    Role::TarballData | Role::Other => Frame::OtherObject,
                };
                if frame == (Frame::Attachment { is_tarball: true }) {
                    self.has_data = false;
                }
                self.open(frame)?;
            }
            (State::Value | State::ValueOrEnd, b'[') => self.open(Frame::Array)?,
            (State::Value | State::ValueOrEnd, b'"') if self.role == Role::TarballData => self.begin_data()?,
            (State::Value | State::ValueOrEnd, b'"') => self.begin_text(false),
            (State::Value | State::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => self.state = State::Scalar,
            (State::Key | State::KeyOrEnd, b'"') => self.begin_text(true),
            (State::Colon, b':') => self.state = State::Value,
            (State::CommaOrEnd, b',') => match self.open.last() {
                Some(Frame::Array) => {
                    self.role = Role::Other;
                    self.state = State::Value;
                }
                _ => self.state = State::Key,
            },
            (State::ValueOrEnd | State::CommaOrEnd, b']') if self.open.last() == Some(&Frame::Array) => self.close(),
            (State::KeyOrEnd | State::CommaOrEnd, b'}') if self.open.last() != Some(&Frame::Array) => self.close(),
            _ => return Err(BodyError::NotJson),
        }
        self.copy(&[byte])
    }

    fn open(&mut self, frame: Frame) -> Result<(), BodyError> {
        if self.open.len() >= self.limits.max_depth {
            return Err(BodyError::TooDeep);
        }
        self.open.push(frame);
        self.role = Role::Other;
        self.state = if frame == Frame::Array { State::ValueOrEnd } else { State::KeyOrEnd };
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.state = if self.open.is_empty() { State::Done } else { State::CommaOrEnd };
    }

    fn begin_text(&mut self, is_key: bool) {
        self.state = State::Text { is_key, start: self.document.len(), escaped: false };
    }

    fn begin_data(&mut self) -> Result<(), BodyError> {
        if self.tarball.is_some() {
            return Err(BodyError::TwoTarballs);
        }
        self.tarball = Some(TarballAttachment { key: self.key.clone(), decoded_bytes: 0 });
        self.state = State::Data(Escape::None);
        Ok(())
    }

    /// Bytes of a string that stays in the document, up to its end or the end of the chunk.
    fn scan_text<'a>(
        &mut self,
        mut rest: &'a [u8],
        is_key: bool,
        start: usize,
        mut escaped: bool,
    ) -> Result<&'a [u8], BodyError> {
        loop {
            if escaped && !rest.is_empty() {
                self.copy(&rest[..1])?;
                rest = &rest[1..];
                escaped = false;
            }
            let Some(at) = memchr::memchr2(b'"', b'\\', rest) else {
                self.copy(rest)?;
                self.state = State::Text { is_key, start, escaped };
                return Ok(&[]);
            };
            self.copy(&rest[..=at])?;
            let is_end = rest[at] == b'"';
            rest = &rest[at + 1..];
            if is_end {
                if is_key {
                    self.end_key(start)?;
                } else {
                    self.state = State::CommaOrEnd;
                }
                return Ok(rest);
            }
            escaped = true;
        }
    }

    /// Decides what the value after a key is to us.
    fn end_key(&mut self, start: usize) -> Result<(), BodyError> {
        self.state = State::Colon;
        self.role = Role::Other;
        let frame = self.open.last().copied().unwrap_or(Frame::OtherObject);
        if !matches!(frame, Frame::Root | Frame::Attachments | Frame::Attachment { is_tarball: true }) {
            return Ok(());
        }
        // The document's own parser, so that both agree on what an escaped key says.
        let key: String = serde_json::from_slice(&self.document[start..]).map_err(|_| BodyError::NotJson)?;
        match frame {
            Frame::Root if key == "_attachments" => {
                if self.has_attachments {
                    return Err(BodyError::Repeated);
                }
                self.has_attachments = true;
                self.role = Role::Attachments;
            }
            Frame::Attachments => {
                self.role = Role::Attachment { is_tarball: key.as_bytes().ends_with(b".tgz") };
                if !self.keys.insert(key.clone()) {
                    return Err(BodyError::Repeated);
                }
                self.key = key;
            }
            Frame::Attachment { .. } if key == "data" => {
                if self.has_data {
                    return Err(BodyError::Repeated);
                }
                self.has_data = true;
                self.role = Role::TarballData;
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes of the tarball's text, up to its end or the end of the chunk.
    fn scan_data<'a>(&mut self, rest: &'a [u8], escape: Escape, decoded: &mut Vec<u8>) -> Result<&'a [u8], BodyError> {
        let Some(&byte) = rest.first() else { return Ok(rest) };
        match escape {
            Escape::None => {
                let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                self.decode(&rest[..end], decoded)?;
                match rest.get(end) {
                    None => return Ok(&[]),
                    Some(b'"') => {
                        self.decoder.finish()?;
                        self.copy(b"\"")?;
                        self.state = State::CommaOrEnd;
                    }
                    Some(_) => self.state = State::Data(Escape::Backslash),
                }
                return Ok(&rest[end + 1..]);
            }
            Escape::Backslash => {
                self.state = State::Data(Escape::None);
                match byte {
                    b'/' => self.decode(b"/", decoded)?,
                    b'u' => self.state = State::Data(Escape::Unicode { digits: 0, code: 0 }),
                    b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => return Err(BodyError::BadBase64),
                    _ => return Err(BodyError::NotJson),
                }
            }
            Escape::Unicode { digits, code } => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'f' => byte - b'a' + 10,
                    b'A'..=b'F' => byte - b'A' + 10,
                    _ => return Err(BodyError::NotJson),
                };
                let code = code << 4 | u16::from(digit);
                if digits < 3 {
                    self.state = State::Data(Escape::Unicode { digits: digits + 1, code });
                } else {
                    self.state = State::Data(Escape::None);
                    let byte = u8::try_from(code).map_err(|_| BodyError::BadBase64)?;
                    self.decode(&[byte], decoded)?;
                }
            }
        }
        Ok(&rest[1..])
    }

    fn decode(&mut self, text: &[u8], decoded: &mut Vec<u8>) -> Result<(), BodyError> {
        let before = decoded.len();
        self.decoder.update(text, decoded)?;
        if let Some(tarball) = &mut self.tarball {
            tarball.decoded_bytes += (decoded.len() - before) as u64;
            if tarball.decoded_bytes > self.limits.max_tarball_bytes {
                return Err(BodyError::TarballTooLarge);
            }
        }
        Ok(())
    }

    fn copy(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if bytes.len() > self.limits.max_document_bytes - self.document.len() {
            return Err(BodyError::DocumentTooLarge);
        }
        self.document.extend_from_slice(bytes);
        Ok(())
    }
}

fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Base64 that arrives in pieces of any length.
#[derive(Default)]
struct Decoder {
    /// Up to three characters that wait for the rest of their group of four.
    carry: [u8; 4],
    carried: usize,
    is_padded: bool,
}

impl Decoder {
    fn update(&mut self, mut text: &[u8], decoded: &mut Vec<u8>) -> Result<(), BodyError> {
        if self.carried > 0 {
            let (head, tail) = text.split_at(text.len().min(4 - self.carried));
            self.carry[self.carried..self.carried + head.len()].copy_from_slice(head);
            self.carried += head.len();
            text = tail;
            if self.carried < 4 {
                return Ok(());
            }
            self.carried = 0;
            self.decode_groups(&self.carry.clone(), decoded)?;
        }
        let (groups, tail) = text.split_at(text.len() & !3);
        self.decode_groups(groups, decoded)?;
        self.carry[..tail.len()].copy_from_slice(tail);
        self.carried = tail.len();
        Ok(())
    }

    fn decode_groups(&mut self, groups: &[u8], decoded: &mut Vec<u8>) -> Result<(), BodyError> {
        let Some(last) = groups.last() else { return Ok(()) };
        if self.is_padded {
            return Err(BodyError::WrongPadding);
        }
        self.is_padded = *last == b'=';
        let before = decoded.len();
        decoded.resize(before + groups.len() / 4 * 3, 0);
        match STANDARD.decode_slice(groups, &mut decoded[before..]) {
            Ok(written) => {
                decoded.truncate(before + written);
                Ok(())
            }
            Err(DecodeSliceError::DecodeError(
                base64::DecodeError::InvalidPadding | base64::DecodeError::InvalidByte(_, b'='),
            )) => Err(BodyError::WrongPadding),
            Err(_) => Err(BodyError::BadBase64),
        }
    }

    fn finish(&self) -> Result<(), BodyError> {
        if self.carried > 0 { Err(BodyError::WrongPadding) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    const LIMITS: Limits = Limits { max_document_bytes: 1 << 20, max_tarball_bytes: 1 << 20, max_depth: 64 };

    fn split(text: &[u8], chunk_bytes: usize) -> Result<(SplitBody, Vec<u8>), BodyError> {
        split_within(LIMITS, text, chunk_bytes)
    }

    fn split_within(limits: Limits, text: &[u8], chunk_bytes: usize) -> Result<(SplitBody, Vec<u8>), BodyError> {
        let mut splitter = Splitter::new(limits);
        let mut decoded = Vec::new();
        for chunk in text.chunks(chunk_bytes) {
            splitter.push(chunk, &mut decoded)?;
        }
        Ok((splitter.finish()?, decoded))
    }

    /// The outcome, which must not depend on how the text was cut.
    fn outcome(text: &str) -> Result<(String, Option<String>, Vec<u8>), BodyError> {
        let whole = split(text.as_bytes(), usize::MAX);
        for chunk_bytes in 1..8 {
            assert_eq!(split(text.as_bytes(), chunk_bytes), whole, "{text} in chunks of {chunk_bytes}");
        }
        let (body, decoded) = whole?;
        Ok((String::from_utf8(body.document).unwrap(), body.tarball.map(|tarball| tarball.key), decoded))
    }

    fn taken(text: &str, document: &str, key: Option<&str>, bytes: &[u8]) {
        assert_eq!(outcome(text), Ok((document.to_owned(), key.map(str::to_owned), bytes.to_vec())), "{text}");
    }

    #[test]
    fn the_tarball_is_taken_out_wherever_it_stands() {
        taken(
            r#"{"_id":"a","_attachments":{"a-1.0.0.tgz":{"content_type":"x","data":"aGVsbG8=","length":5}}}"#,
            r#"{"_id":"a","_attachments":{"a-1.0.0.tgz":{"content_type":"x","data":"","length":5}}}"#,
            Some("a-1.0.0.tgz"),
            b"hello",
        );
        // Yarn berry: attachments first, and the bundle beside the tarball.
        taken(
            r#"{"_attachments":{"@s/a-1.sigstore":{"data":"{\"x\":1}"},"@s/a-1.tgz":{"length":5,"data":"aGVsbG8="}},"name":"@s/a"} "#,
            r#"{"_attachments":{"@s/a-1.sigstore":{"data":"{\"x\":1}"},"@s/a-1.tgz":{"length":5,"data":""}},"name":"@s/a"} "#,
            Some("@s/a-1.tgz"),
            b"hello",
        );
    }

    #[test]
    fn escapes_in_keys_and_in_base64_are_read() {
        taken(
            r#"{"\u005fattachments":{"a\u002Etgz":{"dat\u0061":"Pz8\/\u002b\u002F8\u003D"}}}"#,
            r#"{"\u005fattachments":{"a\u002Etgz":{"dat\u0061":""}}}"#,
            Some("a.tgz"),
            &[0x3f, 0x3f, 0x3f, 0xfb, 0xff],
        );
    }

    #[test]
    fn attachments_without_data_stay() {
        // npm 6 sends the whole merged document after a conflict: stubs for the old versions.
        let text =
            r#"{"_attachments":{"a-1.tgz":{"stub":true,"length":3},"a-2.tgz":{"data":null},"b":{"data":"aGVsbG8="}}}"#;
        taken(text, text, None, b"");
        taken("{}", "{}", None, b"");
        taken(r#"{"_attachments":{}}"#, r#"{"_attachments":{}}"#, None, b"");
        taken(
            r#"{"_attachments":{"a.tgz":{"data":""}}}"#,
            r#"{"_attachments":{"a.tgz":{"data":""}}}"#,
            Some("a.tgz"),
            b"",
        );
    }

    #[test]
    fn a_member_that_only_looks_like_the_tarball_stays() {
        for text in [
            r#"{"data":"aGVsbG8="}"#,
            r#"{"_attachments":{"data":"aGVsbG8="}}"#,
            r#"{"_attachments":{"a.tgz":"data"}}"#,
            r#"{"_attachments":{"a.tgz":{"x":{"data":"aGVsbG8="}}}}"#,
            r#"{"_attachments":{"a.tgz":{"data":{"data":"aGVsbG8="}}}}"#,
            r#"{"_attachments":{"a.tgz":{"data":["aGVsbG8=","data"]}}}"#,
            r#"{"_attachments":{"a.tgz":[{"data":"aGVsbG8="}]}}"#,
            r#"{"_attachments":[{"a.tgz":{"data":"aGVsbG8="}}]}"#,
            r#"{"x":{"_attachments":{"a.tgz":{"data":"aGVsbG8="}}}}"#,
            r#"{"x":"_attachments","y":{"a.tgz":{"data":"aGVsbG8="}}}"#,
            r#"{"_attachments":{"a.TGZ":{"data":"aGVsbG8="}}}"#,
            r#"{"_attachments":{"a.tgz":{"\\data":"aGVsbG8="}}}"#,
            r#"{"x":"{\"_attachments\":{\"a.tgz\":{\"data\":\"aGVsbG8=\"}}}"}"#,
        ] {
            taken(text, text, None, b"");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (text, error) in [
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA"},"b.tgz":{"data":"AAAA"}}}"#, BodyError::TwoTarballs),
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA"},"b.tgz":{"data":""}}}"#, BodyError::TwoTarballs),
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA"}},"_attachments":{}}"#, BodyError::Repeated),
            (r#"{"_attachments":{},"_att\u0061chments":{"a.tgz":{"data":"AAAA"}}}"#, BodyError::Repeated),
            (r#"{"_attachments":1,"_attachments":{"a.tgz":{"data":"AAAA"}}}"#, BodyError::Repeated),
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA"},"a.tgz":{}}}"#, BodyError::Repeated),
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA"},"a\u002etgz":1}}"#, BodyError::Repeated),
            (r#"{"_attachments":{"a.tgz":{"data":"AAAA","data":null}}}"#, BodyError::Repeated),
            (r#"{"_attachments":{"a.tgz":{"data":{},"data":"AAAA"}}}"#, BodyError::Repeated),
        ] {
            assert_eq!(outcome(text), Err(error), "{text}");
        }
    }

    #[test]
    fn base64_must_be_what_an_encoder_writes() {
        for (data, error) in [
            ("AAA", BodyError::WrongPadding),
            ("AA=", BodyError::WrongPadding),
            ("AAAAA", BodyError::WrongPadding),
            ("AA==AAAA", BodyError::WrongPadding),
            ("AAAA====", BodyError::WrongPadding),
            ("AA==\\u003d", BodyError::WrongPadding),
            ("AA-_", BodyError::BadBase64),
            ("AAA\\n", BodyError::BadBase64),
            ("AAA\n", BodyError::BadBase64),
            ("AAA ", BodyError::BadBase64),
            ("AB==", BodyError::BadBase64),
            ("AAA\\u0141", BodyError::BadBase64),
            ("AAA\u{e4}A", BodyError::BadBase64),
            ("AAA\\x41", BodyError::NotJson),
            ("AAA\\u00g1", BodyError::NotJson),
        ] {
            let text = format!(r#"{{"_attachments":{{"a.tgz":{{"data":"{data}"}}}}}}"#);
            assert_eq!(outcome(&text), Err(error), "{data}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["[]", "1", "null", "\"x\"", "x", "\u{feff}{}", "}"] {
            assert_eq!(outcome(text), Err(BodyError::NotAnObject), "{text}");
        }
        for text in [
            "{}{}",
            "{}x",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":[1,]}",
            "{\"a\":[}",
            "{\"a\":1]",
            "{\"a\" 1}",
            "{1:2}",
            "{\"a\":1 2}",
            "{\"a\":'x'}",
            "{\"a\":,}",
            "{\"\\x\":1}",
            "{\"a\":\"\"\"\"}",
        ] {
            assert_eq!(outcome(text), Err(BodyError::NotJson), "{text}");
        }
        let text = r#"{"_attachments":{"a.tgz":{"data":"aG\/sbG8="}},"x":[1,"y\n"]}"#;
        for end in 0..text.len() {
            assert_eq!(outcome(&text[..end]), Err(BodyError::Truncated), "{}", &text[..end]);
        }
    }

    #[test]
    fn every_bound_holds() {
        let body = br#"{"x":[[{}]],"_attachments":{"a.tgz":{"data":"aGVsbG8="}}}"#;
        let document_bytes = body.len() - 8;
        let exact = Limits { max_document_bytes: document_bytes, max_tarball_bytes: 5, max_depth: 4 };
        assert!(split_within(exact, body, 3).is_ok());
        for (limits, error) in [
            (Limits { max_document_bytes: document_bytes - 1, ..exact }, BodyError::DocumentTooLarge),
            (Limits { max_tarball_bytes: 4, ..exact }, BodyError::TarballTooLarge),
            (Limits { max_depth: 3, ..exact }, BodyError::TooDeep),
            (Limits { max_depth: 0, ..exact }, BodyError::TooDeep),
        ] {
            assert!(error.is_limit());
            assert_eq!(split_within(limits, body, 3).map(|_| ()), Err(error));
        }
    }

    #[test]
    fn a_hundred_megabytes_of_brackets_stop_at_the_bound() {
        let mut splitter = Splitter::new(LIMITS);
        let brackets = vec![b'['; 1 << 20];
        let mut decoded = Vec::new();
        splitter.push(br#"{"x":"#, &mut decoded).unwrap();
        for _ in 0..100 {
            assert_eq!(splitter.push(&brackets, &mut decoded), Err(BodyError::TooDeep));
        }
        assert_eq!(splitter.finish(), Err(BodyError::TooDeep));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            ".{0,6}",
            Just("_attachments".to_owned()),
            Just("data".to_owned()),
            Just("a.tgz".to_owned()),
            Just("AAAA".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|half| Value::from(f64::from(half) / 2.0)),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The text with some characters written as escapes, as a client may.
    fn escape_some(text: &str, every: usize) -> String {
        let mut inside = false;
        let mut after_backslash = false;
        let mut out = String::new();
        for (at, c) in text.chars().enumerate() {
            let plain = inside && !after_backslash && c.is_ascii_alphanumeric() | matches!(c, '/' | '+' | '=' | '_');
            // An `u` escape's own digits must stay as they are; our input has none but those of control characters.
            if plain && at % every == 0 && !text.contains("\\u") {
                write!(out, "\\u{:04x}", u32::from(c)).unwrap();
            } else {
                out.push(c);
            }
            if c == '"' && !after_backslash {
                inside = !inside;
            }
            after_backslash = c == '\\' && !after_backslash;
        }
        out
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_however_it_is_cut(
            other in any_json(),
            attachment in any_json(),
            tarball in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
            is_pretty in any::<bool>(),
            every in 1usize..9,
            cuts in prop::collection::vec(1usize..40, 1..6),
        ) {
            let mut body = json!({ "other": other, "_attachments": { "a-1.sigstore": attachment } });
            if let Some(bytes) = &tarball {
                body["_attachments"]["a-1.tgz"] = json!({ "length": bytes.len(), "data": STANDARD.encode(bytes) });
            }
            let text = if is_pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
            let text = escape_some(&text.unwrap(), every);
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &body);

            let mut splitter = Splitter::new(LIMITS);
            let mut decoded = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(rest.len().min(*cut));
                splitter.push(chunk, &mut decoded).unwrap();
                rest = tail;
            }
            let split = splitter.finish().unwrap();
            let found: Value = serde_json::from_slice(&split.document).unwrap();
            let expected = tarball.clone().unwrap_or_default();
            if tarball.is_some() {
                body["_attachments"]["a-1.tgz"]["data"] = json!("");
            }
            prop_assert_eq!(found, body);
            prop_assert_eq!(split.tarball.map(|t| t.decoded_bytes), tarball.map(|bytes| bytes.len() as u64));
            prop_assert_eq!(decoded, expected);
        }

        #[test]
        fn any_bytes_give_one_outcome(
            text in r#"(\{|\}|\[|\]|:|,|"|\\|1|"_attachments":|"a\.tgz":|"data":|"AAAA"|AA==| ){0,24}"#,
            chunk_bytes in 1usize..9,
        ) {
            let whole = split(text.as_bytes(), usize::MAX);
            let cut = split(text.as_bytes(), chunk_bytes);
            prop_assert_eq!(whole.is_ok(), cut.is_ok());
            if let (Ok(whole), Ok(cut)) = (whole, cut) {
                prop_assert_eq!(&whole, &cut);
            }
        }
    }
}
