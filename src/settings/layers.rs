//! Layers of settings, put over one another with the origin of each value kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::keys::{Draft, KEYS, KeyInfo};
use super::{Loaded, Shown};
use crate::secret::Secret;

const PREFIX: &str = "HOLDFAST__";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Found and written down at the first start.
    Remembered(PathBuf),
    /// A settings file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
    /// Several settings that do not go together.
    Together,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Remembered(path) => write!(f, "remembered in {}", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
            Self::Together => f.write_str("`access` and `[[package]]`"),
        }
    }
}

/// Something wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (from: {origin})")]
pub struct Mistake {
    text: String,
    origin: Origin,
}

impl Mistake {
    /// A mistake that shows only when all rules are seen together.
    pub(super) fn in_rules(text: &str) -> Self {
        Self { text: text.to_owned(), origin: Origin::Together }
    }

    /// A mistake in a file that the settings name.
    pub(super) fn in_file(text: &str, path: &Path) -> Self {
        Self { text: text.to_owned(), origin: Origin::File(path.to_owned()) }
    }
}

/// The values of one origin, by dotted key.
#[derive(Debug, Clone)]
pub struct Layer {
    values: Vec<(String, Value, Origin)>,
}

impl Layer {
    /// Reads a settings file.
    pub(super) fn file(path: &Path) -> Result<Self, Mistake> {
        Self::read(path, &Origin::File(path.to_owned()))
    }

    /// Reads what was remembered.
    pub(super) fn remembered(path: &Path) -> Result<Self, Mistake> {
        Self::read(path, &Origin::Remembered(path.to_owned()))
    }

    fn read(path: &Path, origin: &Origin) -> Result<Self, Mistake> {
        let mistake = |text: String| Mistake { text, origin: origin.clone() };
        let text =
            std::fs::read_to_string(path).map_err(|error| mistake(format!("the file cannot be read: {error}")))?;
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| mistake(format!("the file is not TOML: {error}")))?;
        let mut values = Vec::new();
        flatten("", table, origin, &mut values);
        Ok(Self { values })
    }

    /// Takes the variables that are ours: `HOLDFAST__SERVER__LISTEN` is `server.listen`. An upstream's name may have a
    /// `-`, which no shell takes in a variable's name, and never has a `_`: so the one stands for the other.
    pub(super) fn environment(variables: Vec<(String, String)>) -> Self {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let mut key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
            for section in ["upstreams", "issuers", "sinks"] {
                let rest = key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'));
                if let Some((name, member)) = rest.and_then(|rest| rest.split_once('.')) {
                    key = format!("{section}.{}.{member}", name.replace('_', "-"));
                }
            }
            Some((key, Value::String(value), Origin::Environment(name)))
        });
        Self { values: ours.collect() }
    }

    /// Takes values that were found elsewhere.
    pub(super) fn of(values: Vec<(&'static str, String, Origin)>) -> Self {
        let values = values.into_iter().map(|(key, text, origin)| (key.to_owned(), Value::String(text), origin));
        Self { values: values.collect() }
    }

    /// Takes flags.
    pub(super) fn flags(flags: &[(&'static str, String)]) -> Self {
        let values = flags.iter().map(|(key, value)| ((*key).to_owned(), Value::String(value.clone()), Origin::Flag));
        Self { values: values.collect() }
    }
}

/// The data directory as the layers have it.
pub(super) fn data_directory(layers: &[Layer]) -> Option<PathBuf> {
    let mut values = layers.iter().flat_map(|layer| &layer.values);
    let last = values.rfind(|(key, _, _)| key == "storage.directory")?;
    last.1.as_str().map(PathBuf::from)
}

/// Tables become dotted keys; a table under a known key would be a mistake and is kept to be told as one.
fn flatten(prefix: &str, table: toml::Table, origin: &Origin, values: &mut Vec<(String, Value, Origin)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) if known(&key).is_none() => flatten(&key, table, origin, values),
            value => values.push((key, value, origin.clone())),
        }
    }
}

/// The key's entry and, for an upstream's key, the upstream's name.
fn known(key: &str) -> Option<(&'static KeyInfo, &str)> {
    KEYS.iter().find_map(|info| match info.key.split_once('*') {
        None => (info.key == key).then_some((info, "")),
        Some((before, after)) => {
            let name = key.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty() && !name.contains('.')).then_some((info, name))
        }
    })
}

/// What is set, by key, with where it came from.
pub(super) type Values = BTreeMap<String, (Value, Origin)>;

/// Puts the layers over one another.
pub(super) fn over_one_another(layers: Vec<Layer>) -> Values {
    let values = layers.into_iter().flat_map(|layer| layer.values);
    values.map(|(key, value, origin)| (key, (value, origin))).collect()
}

/// The keys whose values differ.
pub(super) fn differing(one: &Values, other: &Values) -> Vec<String> {
    let value = |values: &Values, key: &String| values.get(key).map(|(value, _)| value.clone());
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| value(one, key) != value(other, key)).cloned().collect()
}

/// Whether a server that runs goes by another value of this key from its next start on only.
pub(super) fn needs_restart(key: &str) -> bool {
    known(key).is_some_and(|(info, _)| info.needs_restart)
}

/// Makes settings of what is set.
pub(super) fn settings_of(merged: Values, mut mistakes: Vec<Mistake>) -> Result<Loaded, Vec<Mistake>> {
    let mut draft = Draft::default();
    for (key, (value, origin)) in &merged {
        let outcome = match known(key) {
            Some((info, name)) => (info.set)(&mut draft, name, value).map_err(|why| format!("`{key}`: {why}")),
            None => Err(format!("`{key}` is not a setting")),
        };
        if let Err(text) = outcome {
            mistakes.push(Mistake { text, origin: origin.clone() });
        }
    }
    let (mut settings, missing) = draft.finish();
    settings.effective = merged.iter().map(|(key, (value, _))| (key.clone(), Secret::new(value.to_string()))).collect();
    mistakes.extend(missing.into_iter().map(|text| Mistake { text, origin: Origin::Default }));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Loaded { settings, shown: shown(&merged), unused: Vec::new(), file: None, values: merged })
}

/// A value in one line.
fn shown_value(value: &Value) -> String {
    match value {
        Value::Array(items) if items.iter().all(Value::is_table) => {
            let items: Vec<String> = items.iter().map(shown_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let members: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

fn shown(merged: &Values) -> Vec<Shown> {
    let mut lines = Vec::new();
    for info in KEYS {
        let set = merged.iter().filter(|(key, _)| known(key).is_some_and(|(found, _)| found.key == info.key));
        let before = lines.len();
        lines.extend(set.map(|(key, (value, origin))| Shown {
            key: key.clone(),
            value: if info.is_secret { "***".to_owned() } else { shown_value(value) },
            origin: origin.to_string(),
        }));
        if lines.len() == before && !info.key.contains('*') {
            lines.push(Shown {
                key: info.key.to_owned(),
                value: info.default.to_owned(),
                origin: Origin::Default.to_string(),
            });
        }
    }
    lines
}
