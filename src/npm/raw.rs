//! A JSON object whose member values are kept as the bytes they came in.
//!
//! Packuments reach tens of megabytes, and nearly all of it is passed on unchanged. Keeping members raw makes reading,
//! editing and writing such a document one pass each (about 1 GB/s) with little memory, and what we do not understand
//! survives to the letter.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// An upper bound on how many values a JSON text holds, from one quick look. A tree of values takes some 70 bytes for
/// each, however short its text is.
pub fn weight(text: &[u8]) -> usize {
    memchr::memchr3_iter(b',', b'[', b'{', text).count() + 1
}

/// A member's value: borrowed from the input, or made here.
#[derive(Debug, Clone)]
enum Member<'a> {
    Borrowed(&'a RawValue),
    Owned(Box<RawValue>),
}

/// An ordered JSON object with raw values. When a key stands twice in the input the last one wins, as in JavaScript.
#[derive(Debug, Clone, Default)]
pub struct RawObject<'a> {
    members: Vec<(Cow<'a, str>, Member<'a>)>,
}

impl<'a> RawObject<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When the text is not valid JSON or not an object.
    pub fn parse(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// As [`RawObject::parse`], and reads the member `key`, which must be an object where it is there, in the same pass. It
    /// keeps its place among the others, as `null`: see [`RawObject::to_vec_with`].
    ///
    /// # Errors
    /// When the text is not valid JSON or not an object, or the member is none.
    pub fn parse_with(text: &'a [u8], key: &str) -> Result<(Self, Option<Self>), serde_json::Error> {
        let (mut reader, mut inner) = (serde_json::Deserializer::from_slice(text), None);
        let outer = ObjectVisitor { apart: Some((key, &mut inner)) }.deserialize(&mut reader)?;
        reader.end()?;
        Ok((outer, inner))
    }

    /// The object as JSON, with `value` in the place of the member `key`. Large values are copied only once.
    ///
    /// # Errors
    /// As [`RawObject::set`].
    pub fn to_vec_with(&self, key: &str, value: &RawObject<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = Vec::with_capacity(self.length() + value.length());
        let mut serializer = serde_json::Serializer::new(&mut text);
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, raw) in self.iter() {
            if name == key {
                map.serialize_entry(name, value)?;
            } else {
                map.serialize_entry(name, raw)?;
            }
        }
        map.end()?;
        Ok(text)
    }

    /// The length of the object as JSON, unless a key needs escapes.
    fn length(&self) -> usize {
        self.iter().map(|(key, raw)| key.len() + raw.get().len() + "\"\":,".len()).sum::<usize>() + "{}".len()
    }

    /// Reads an object from a raw value; anything else than an object is `None`.
    pub fn from_raw(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// A member's raw text.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, member)| member.as_raw())
    }

    /// A member's raw text as it stood in the input; `None` for one that was set here.
    pub fn input(&self, key: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|(name, _)| name == key).and_then(|(_, member)| match member {
            Member::Borrowed(raw) => Some(*raw),
            Member::Owned(_) => None,
        })
    }

    /// All members that stood in the input, in order, with the input's life.
    pub fn into_inputs(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter().filter_map(|(key, member)| match member {
            Member::Borrowed(raw) => Some((key, raw)),
            Member::Owned(_) => None,
        })
    }

    /// A member that is an object.
    pub fn object(&self, key: &str) -> Option<RawObject<'_>> {
        self.get(key).and_then(RawObject::from_raw)
    }

    /// A member that is a text.
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Sets a member, in its old place when there is one.
    ///
    /// # Errors
    /// When the value cannot be written as JSON (a map with keys that are no texts).
    pub fn set(&mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), serde_json::Error> {
        self.put(key, Member::Owned(to_raw_value(value)?));
        Ok(())
    }

    fn put(&mut self, key: &str, member: Member<'a>) {
        match self.members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = member,
            None => self.members.push((Cow::Owned(key.to_owned()), member)),
        }
    }

    /// Sets a member to a text.
    pub fn put_text(&mut self, key: &str, text: &str) {
        // A text can always be written as JSON.
        if let Ok(raw) = to_raw_value(text) {
            self.put(key, Member::Owned(raw));
        }
    }

    /// Sees to it that a member has a place, for [`RawObject::to_vec_with`].
    pub fn put_place(&mut self, key: &str) {
        self.put(key, Member::Borrowed(RawValue::NULL));
    }

    /// Sets a member to a value that is JSON already.
    pub fn put_raw(&mut self, key: &str, raw: Box<RawValue>) {
        self.put(key, Member::Owned(raw));
    }

    /// Appends a member that is known not to be there.
    pub fn push_raw(&mut self, key: &str, raw: Box<RawValue>) {
        self.members.push((Cow::Owned(key.to_owned()), Member::Owned(raw)));
    }

    /// Takes a member out; true when it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|(name, _)| name != key);
        self.members.len() != before
    }

    /// Keeps the members for which the test is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &RawValue) -> bool) {
        self.members.retain(|(name, member)| keep(name, member.as_raw()));
    }

    /// All members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(name, member)| (&**name, member.as_raw()))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True for `{}`.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Member<'_> {
    fn as_raw(&self) -> &RawValue {
        match self {
            Member::Borrowed(raw) => raw,
            Member::Owned(raw) => raw,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ObjectVisitor { apart: None }.deserialize(deserializer)
    }
}

/// Reads an object.
struct ObjectVisitor<'v, 'de> {
    /// A member that is an object, and where to put it.
    apart: Option<(&'v str, &'v mut Option<RawObject<'de>>)>,
}

impl<'de> DeserializeSeed<'de> for ObjectVisitor<'_, 'de> {
    type Value = RawObject<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectVisitor<'_, 'de> {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Member<'de>)> = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let member = match &mut self.apart {
                Some((name, object)) if *name == key => {
                    **object = Some(map.next_value()?);
                    RawValue::NULL
                }
                _ => map.next_value()?,
            };
            members.push((key, Member::Borrowed(member)));
        }
        Ok(RawObject { members: last_of_each(members) })
    }
}

/// Drops all but the last member of each key, keeping the order. Sorting indices keeps this off the quadratic path for
/// a `versions` object of thousands.
fn last_of_each<'a>(members: Vec<(Cow<'a, str>, Member<'a>)>) -> Vec<(Cow<'a, str>, Member<'a>)> {
    if are_distinct(&members) {
        return members;
    }
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| members[a].0.cmp(&members[b].0).then(a.cmp(&b)));
    let mut is_repeated = vec![false; members.len()];
    for pair in order.windows(2) {
        is_repeated[pair[0]] = members[pair[0]].0 == members[pair[1]].0;
    }
    members.into_iter().zip(is_repeated).filter(|(_, is_repeated)| !is_repeated).map(|(member, _)| member).collect()
}

/// Whether no key stands twice, as in nearly every object: quicker to learn than to sort them.
fn are_distinct(members: &[(Cow<'_, str>, Member<'_>)]) -> bool {
    /// Up to here comparing all pairs is quicker than hashing.
    const FEW: usize = 32;
    if members.len() <= FEW {
        return members.iter().enumerate().all(|(n, (key, _))| members[..n].iter().all(|(other, _)| other != key));
    }
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().all(|(key, _)| seen.insert(&**key))
}

/// A key, borrowed from the input unless it has escapes. `Cow` alone would always copy.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

impl Serialize for RawObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_survives_to_the_letter() {
        let text = br#"{"a": 1.50, "b\u0041": {"x" : [ ]},"c":"\u00e4"}"#;
        let mut object = RawObject::parse(text).unwrap();
        object.set("c", "new").unwrap();
        object.set("d", &true).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"a":1.50,"bA":{"x" : [ ]},"c":"new","d":true}"#);
    }

    #[test]
    fn the_last_of_a_repeated_key_wins() {
        let object = RawObject::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(object.get("a").map(RawValue::get), Some("3"));
        assert_eq!(object.len(), 2);
    }

    #[test]
    fn a_member_is_read_apart_and_written_back_in_its_place() {
        let text = br#"{"a": 1.50,"in":{"x":1},"b":2,"in":{"y": [ ],"x":3,"y":4}}"#;
        let (outer, inner) = RawObject::parse_with(text, "in").unwrap();
        let inner = inner.unwrap();
        assert_eq!(inner.keys().collect::<Vec<_>>(), ["x", "y"]);
        let written = outer.to_vec_with("in", &inner).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), r#"{"a":1.50,"b":2,"in":{"x":3,"y":4}}"#);
        assert!(RawObject::parse_with(br#"{"a":1}"#, "in").unwrap().1.is_none());
        for text in [r#"{"in":null}"#, r#"{"in":[]}"#, r#"{"in":{}}x"#, r#"{"in":{"a":}}"#, "[]", ""] {
            assert!(RawObject::parse_with(text.as_bytes(), "in").is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_key_wins_among_many() {
        let mut text: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
        text.push("\"k7\":\"last\"".to_owned());
        let text = format!("{{{}}}", text.join(","));
        let object = RawObject::parse(text.as_bytes()).unwrap();
        assert_eq!((object.len(), object.keys().last()), (100, Some("k7")));
        assert_eq!(object.get("k7").map(RawValue::get), Some("\"last\""));
    }

    #[test]
    fn many_repeated_keys_are_read_in_one_pass() {
        // Quadratic work on this took minutes.
        let text = format!("{{{}\"b\":2}}", "\"a\":1,".repeat(300_000));
        assert_eq!(RawObject::parse(text.as_bytes()).unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(weight(text.as_bytes()) >= 300_000);
    }

    #[test]
    fn only_objects_are_read() {
        for text in ["[]", "1", "null", "", "{", r#"{"a":}"#, r#"{"a":1}x"#] {
            assert!(RawObject::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
