//! The id under which a request is found in the log.

use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::random;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Made here for each request; never taken from a client, who could make two requests look like one. No two of a process
/// are the same, and two of different ones are so by a chance of 2^-64. It is no secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId([u8; 16]);

impl RequestId {
    pub(super) fn generate() -> Self {
        static COUNT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from_le_bytes(random::bytes())));
        Self::of_number(scattered(COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn of_number(number: u64) -> Self {
        let mut digits = [0; 16];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
        }
        Self(digits)
    }

    /// Tells the client.
    pub(super) fn write_into(self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&self.0) {
            headers.insert(HEADER, value);
        }
    }

    /// The id that an answer of ours tells.
    pub(super) fn written_in(headers: &HeaderMap) -> Option<Self> {
        headers.get(HEADER)?.as_bytes().try_into().ok().map(Self)
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits and letters only, where it was made here.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Another number for each number, far from its neighbours' (the finish of `SplitMix64`), so that ids do not look alike.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let ids: BTreeSet<String> = (0..10_000).map(|_| RequestId::generate().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn the_client_is_told_the_id() {
        let (id, mut headers) = (RequestId::of_number(0x0123_4567_89ab_cdef), HeaderMap::new());
        id.write_into(&mut headers);
        assert_eq!(headers["x-request-id"], "0123456789abcdef");
        assert_eq!(RequestId::written_in(&headers).unwrap().as_str(), "0123456789abcdef");
    }
}
