//! What the process runs in, as its environment tells, and what other defaults that brings.

use super::layers::{Layer, Origin};

/// What AWS Lambda sets for the program that it starts.
const LAMBDA: &str = "AWS_LAMBDA_RUNTIME_API";

/// What the process runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Home {
    /// A machine or a container, where the server listens.
    #[default]
    Machine,
    /// AWS Lambda, where a front end hands requests over and nothing runs between them.
    Lambda,
}

impl Home {
    pub(super) fn of(environment: &[(String, String)]) -> Self {
        let is_set = |(name, value): &(String, String)| name == LAMBDA && !value.is_empty();
        if environment.iter().any(is_set) { Self::Lambda } else { Self::Machine }
    }

    /// The settings that are others there unless they are set.
    pub(super) fn defaults(self) -> Option<Layer> {
        match self {
            Self::Machine => None,
            Self::Lambda => {
                let defaults = [
                    // What is read there is CloudWatch's, which knows JSON.
                    ("log.json", "true"),
                    // A function has seconds, and its bucket is near.
                    ("storage.timeout_seconds", "3"),
                    ("storage.idle_seconds", "3"),
                ];
                let origin = || Origin::Environment(LAMBDA.to_owned());
                Some(Layer::of(defaults.map(|(key, value)| (key, value.to_owned(), origin())).to_vec()))
            }
        }
    }
}
