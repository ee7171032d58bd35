//! The only source of random numbers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::npm::integrity::hex;

/// Bytes from the operating system's generator.
///
/// # Panics
/// Never in practice: the generator of a running system does not fail, and there is nothing sensible to do without it.
#[expect(clippy::disallowed_methods, clippy::expect_used, reason = "the one place; see Panics")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

/// 128 random bits in hex: for revisions and request ids.
pub fn id() -> String {
    hex(&bytes::<16>())
}

/// A number from 0 up to 1, for pauses.
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / f64::from(u32::MAX)
}

/// 256 random bits in URL-safe letters: for secrets.
pub fn secret() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<32>())
}

/// Twenty random digits, 66 bits, in groups of four: for what people type where a client asks for a one-time code. Digits
/// only: npm's prompt takes nothing else (and blanks, which it removes), and asks again for ever for a code with letters.
pub fn typable() -> String {
    const HALF: u64 = 10_000_000_000;
    let half = || u64::from_le_bytes(bytes()) % HALF;
    let digits = format!("{:010}{:010}", half(), half());
    let groups: Vec<&str> = (0..digits.len()).step_by(4).filter_map(|at| digits.get(at..at + 4)).collect();
    groups.join(" ")
}
