//! Which versions are offered: the switches, the rules file, and where advisories come from.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::Settings;
use crate::policy::{self, Rule, RuleMistake, Switches};

/// The rules file that is read when none is named and it is there.
const DEFAULT_RULES_FILE: &str = "policy.toml";
/// Ten thousand rules take less.
const MAX_RULES_BYTES: u64 = 8 << 20;

/// Which versions are offered.
#[derive(Debug, Clone)]
pub struct PolicySettings {
    /// The controls that are built in.
    pub switches: Switches,
    /// The rules of the operator's own.
    pub rules_file: PathBuf,
    /// It was named, and so has to be there.
    pub has_named_rules: bool,
}

/// Where advisories come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvisorySource {
    /// A zip archive, fetched.
    Url(Url),
    /// A zip archive or a directory of this machine.
    Path(PathBuf),
}

/// What is known to be malicious or vulnerable.
#[derive(Debug, Clone)]
pub struct AdvisorySettings {
    /// Where it is known from; without one nothing is known.
    pub source: Option<AdvisorySource>,
    /// How often the source is looked at.
    pub refresh: Duration,
    /// `npm audit` is answered from here, and no upstream is asked.
    pub answer_audit: bool,
}

/// Why the rules file cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("the rules file cannot be read")]
    File(#[source] io::Error),
    /// It says what cannot be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<RuleMistake>),
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { switches: Switches::default(), rules_file: PathBuf::from(DEFAULT_RULES_FILE), has_named_rules: false }
    }
}

impl Default for AdvisorySettings {
    fn default() -> Self {
        Self { source: None, refresh: Duration::from_hours(1), answer_audit: false }
    }
}

impl RulesError {
    /// One line for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::File(error) => vec![format!("the rules file cannot be read: {error}")],
            Self::Mistakes(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Settings {
    /// Reads the rules file. No rules, where none was named and none is there. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn policy_rules(&self) -> Result<Vec<Rule>, RulesError> {
        match read(&self.policy.rules_file) {
            Ok(text) => self.parse_rules(&text).map_err(RulesError::Mistakes),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.policy.has_named_rules => Ok(Vec::new()),
            Err(error) => Err(RulesError::File(error)),
        }
    }

    /// Reads rules for the upstreams and claims that these settings have.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse_rules(&self, text: &str) -> Result<Vec<Rule>, Vec<RuleMistake>> {
        let upstreams: Vec<String> = self.upstreams.iter().map(|upstream| upstream.client.name.clone()).collect();
        policy::parse_rules(text, &upstreams, &self.packages.claims)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_RULES_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {size} bytes, and 8 MiB is the most")));
    }
    std::fs::read_to_string(path)
}
