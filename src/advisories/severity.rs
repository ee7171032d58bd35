//! How bad an advisory is, by the word of its database or by its CVSS vector.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::advisory::Cvss;

/// Longer than any vector of CVSS 4.0 with all of its metrics.
const MAX_VECTOR_BYTES: usize = 256;

/// The metrics that no vector of CVSS 3 may lack. The parser takes such vectors, and gives them the score zero.
const BASE_METRICS: [&str; 8] = ["/AV:", "/AC:", "/PR:", "/UI:", "/S:", "/C:", "/I:", "/A:"];

/// npm's grades, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The record does not say, or not so that it can be read.
    #[default]
    Unknown,
    /// A score up to 3.9, zero included.
    Low,
    /// 4.0 to 6.9. CVSS calls it medium.
    Moderate,
    /// 7.0 to 8.9.
    High,
    /// From 9.0.
    Critical,
}

impl Severity {
    /// The word in npm's reports, `moderate`; `unknown` is ours.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Moderate => "moderate",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// From a database's word, in any case of letters. Words that are no grade are [`Severity::Unknown`].
    pub fn from_word(word: &str) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "low" => Self::Low,
            "moderate" | "medium" => Self::Moderate,
            "high" => Self::High,
            "critical" => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// By the scale that CVSS 3 (section 5) and 4 (section 6) share.
    pub fn from_score(score: f32) -> Self {
        match score {
            score if score < 4.0 => Self::Low,
            score if score < 7.0 => Self::Moderate,
            score if score < 9.0 => Self::High,
            score if score <= 10.0 => Self::Critical,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Computes the score of a vector of CVSS 3.0, 3.1 or 4.0; `None` for anything else.
pub fn read_vector(vector: &str) -> Option<Cvss> {
    let is_plain = vector.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || vector.len() > MAX_VECTOR_BYTES || !vector.starts_with("CVSS:") {
        return None;
    }
    if vector.starts_with("CVSS:3.") && !BASE_METRICS.iter().all(|metric| vector.contains(metric)) {
        return None;
    }
    let score = vector.parse::<cvss::Cvss>().ok()?.score();
    // Scores have one digit after the point, by the specification.
    let tenths = (0..=100_u8).find(|tenths| (f64::from(*tenths) - score * 10.0).abs() < 0.5)?;
    Some(Cvss::from_tenths(tenths, vector.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn words_and_their_order() {
        assert_eq!(Severity::from_word("MODERATE"), Severity::Moderate);
        assert_eq!(Severity::from_word("Medium"), Severity::Moderate);
        assert_eq!(Severity::from_word("dire"), Severity::Unknown);
        assert!(Severity::Unknown < Severity::Low && Severity::High < Severity::Critical);
        assert_eq!(serde_json::to_string(&Severity::High).unwrap(), "\"high\"");
    }

    #[test]
    fn vectors_have_the_scores_of_the_specifications() {
        for (vector, score, severity) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, Severity::Critical),
            ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, Severity::Moderate),
            ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:C/C:H/I:N/A:N", 6.8, Severity::Moderate),
            ("CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0, Severity::Low),
            ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, Severity::Critical),
            ("CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 4.8, Severity::Moderate),
        ] {
            let cvss = read_vector(vector).unwrap();
            assert!((cvss.score - score).abs() < 0.01, "{vector}: {}", cvss.score);
            assert_eq!(Severity::from_score(cvss.score), severity, "{vector}");
        }
    }

    #[test]
    fn other_texts_are_no_vectors() {
        for text in [
            "",
            "7.5",
            "CVSS:",
            "CVSS:3.1/",
            "CVSS:3.1/AV:N",
            "CVSS:9.9/AV:N",
            "CVSS:4.0/AV:N",
            "AV:N/AC:L/Au:N/C:N/I:N/A:C",
        ] {
            assert_eq!(read_vector(text), None, "{text}");
        }
        assert_eq!(read_vector(&format!("CVSS:3.1/{}", "AV:N/".repeat(1000))), None);
    }

    proptest! {
        #[test]
        fn any_vector_is_answered(text in "CVSS:(3.0|3.1|4.0)(/(AV|AC|AT|PR|UI|S|C|I|A|VC|VI|VA|SC|SI|SA|E|R|U|X):[NLHAPRCUX]{1,2}){0,14}|.{0,40}") {
            if let Some(cvss) = read_vector(&text) {
                prop_assert!((0.0..=10.0).contains(&cvss.score));
            }
        }
    }
}
