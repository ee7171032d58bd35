//! `[[retention]]`: which prereleases of hosted packages `holdfast gc` gives up, from TOML. All that is wrong is told at
//! once.

use toml::Value;

use super::keys::{bytes, list, text};
use crate::maintenance::Retention;
use crate::npm::Pattern;
use crate::policy::duration;

const SHAPE: &str = "must be written as `[[retention]]`";

/// Reads the array of tables: one rule for each of a table's patterns.
pub(super) fn retention(value: &Value) -> Result<Vec<Retention>, String> {
    let Value::Array(tables) = value else { return Err(SHAPE.to_owned()) };
    let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
    for (index, table) in tables.iter().enumerate() {
        match table {
            Value::Table(table) => match rule(table) {
                Ok(found) => rules.extend(found),
                Err(why) => mistakes.push(format!("rule {}: {why}", index + 1)),
            },
            _ => mistakes.push(SHAPE.to_owned()),
        }
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes.join("; ")) }
}

fn rule(table: &toml::Table) -> Result<Vec<Retention>, String> {
    const KEYS: [&str; 4] = ["packages", "keep_prereleases", "older_than", "protect"];
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{unknown}` is nothing that it has; it has `{}`", KEYS.join("`, `")));
    }
    // Nothing is given up by what somebody forgot to write.
    let member = |key: &str| table.get(key).ok_or_else(|| format!("`{key}` is missing"));
    let of = |key: &'static str| move |why: String| format!("`{key}` {why}");
    let packages: Vec<Pattern> =
        list(member("packages")?, "a name, `@scope/*`, `@*/*` or `**`", str::parse).map_err(of("packages"))?;
    let keep_prereleases = bytes(member("keep_prereleases")?).map_err(of("keep_prereleases"))?;
    let older_than = text(member("older_than")?).and_then(|text| duration(&text)).map_err(of("older_than"))?;
    let any_text = |text: &str| Ok::<_, std::convert::Infallible>(text.to_owned());
    let protect =
        table.get("protect").map_or(Ok(Vec::new()), |value| list(value, "a version such as `*-lts*`", any_text));
    let rule = Retention {
        packages: Pattern::Any,
        keep_prereleases: usize::try_from(keep_prereleases).unwrap_or(usize::MAX),
        older_than,
        protect: protect.map_err(of("protect"))?,
    };
    Ok(packages.into_iter().map(|packages| Retention { packages, ..rule.clone() }).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(toml: &str) -> Result<Vec<Retention>, String> {
        retention(&toml.parse::<toml::Table>().unwrap()["retention"])
    }

    #[test]
    fn a_rule_is_a_table() {
        let rules = read(
            "[[retention]]\npackages = [\"@acme/*\", \"tool\"]\nkeep_prereleases = 10\nolder_than = \"30d\"\nprotect = [\"*-lts*\"]",
        )
        .unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!((rules[0].packages.to_string().as_str(), rules[0].keep_prereleases), ("@acme/*", 10));
        assert_eq!(
            (rules[1].older_than, rules[1].protect.as_slice()),
            (Duration::from_hours(720), &["*-lts*".to_owned()][..])
        );
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let why = read(
            "[[retention]]\npackages = [\"lod*\"]\nkeep_prereleases = 1\nolder_than = \"30d\"\n[[retention]]\npackages = [\"a\"]\nolder_than = \"30d\"\n[[retention]]\nkeep = 1\n[[retention]]\npackages = [\"a\"]\nkeep_prereleases = 1\nolder_than = \"soon\"",
        )
        .unwrap_err();
        for part in [
            "rule 1: `packages`",
            "rule 2: `keep_prereleases` is missing",
            "rule 3: `keep`",
            "rule 4: `older_than` `soon`",
        ] {
            assert!(why.contains(part), "{part} is missing in {why}");
        }
    }
}
