//! The app on a phone that shows one-time codes.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use holdfast::clock::Clock;

/// An authenticator app (RFC 6238), with one secret.
#[derive(Clone)]
pub(crate) struct Authenticator(Vec<u8>);

impl Authenticator {
    /// Scans an `otpauth:` address.
    pub(crate) fn scan(url: &str) -> Self {
        let url = url::Url::parse(url).unwrap();
        let values: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((url.scheme(), url.host_str()), ("otpauth", Some("totp")));
        let known = (values["algorithm"].as_str(), values["digits"].as_str(), values["period"].as_str());
        assert_eq!(known, ("SHA1", "6", "30"));
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
        for letter in values["secret"].bytes() {
            let value = letters.iter().position(|known| *known == letter).unwrap();
            (bits, count) = ((bits << 5) | u32::try_from(value).unwrap(), count + 5);
            if count >= 8 {
                count -= 8;
                bytes.push(((bits >> count) & 0xff).to_be_bytes()[3]);
            }
        }
        assert_eq!(bytes.len(), 20);
        Self(bytes)
    }

    /// The code that it shows so many steps from now.
    pub(crate) fn code(&self, clock: &Clock, steps: i64) -> String {
        let step = clock.now().as_seconds() / 30 + steps;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag[19] & 15);
        let value = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", value % 1_000_000)
    }
}
