//! `[[package]]`: the rules of who may do what, from TOML. All that is wrong is told at once.

use std::collections::BTreeMap;

use toml::Value;

use super::keys::{boolean, list, text};
use crate::auth::{Action, Principal, Rule};
use crate::npm::Pattern;

/// Reads the array of tables.
pub(super) fn rules(value: &Value) -> Result<Vec<Rule>, String> {
    let Value::Array(tables) = value else { return Err("must be written as `[[package]]`".to_owned()) };
    let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
    for (index, table) in tables.iter().enumerate() {
        match table {
            Value::Table(table) => rules.extend(rule(table, index + 1, &mut mistakes)),
            _ => mistakes.push("must be written as `[[package]]`".to_owned()),
        }
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes.join("; ")) }
}

/// The rules of one table: one for each of its names.
fn rule(table: &toml::Table, number: usize, mistakes: &mut Vec<String>) -> Vec<Rule> {
    let names = table.get("name").map_or_else(
        || Err("`name` is missing: say which packages".to_owned()),
        |value| list::<Pattern, _>(value, "a name, `@scope/*`, `@*/*` or `**`", str::parse),
    );
    let patterns = match names {
        Ok(patterns) if !patterns.is_empty() => patterns,
        Ok(_) => {
            mistakes.push(format!("rule {number}: `name` is empty"));
            Vec::new()
        }
        Err(why) => {
            mistakes.push(format!("rule {number}: {why}"));
            Vec::new()
        }
    };
    let called = patterns.first().map_or_else(|| format!("rule {number}"), |pattern| format!("`{pattern}`"));
    let mut principals = BTreeMap::new();
    let (mut owners_only, mut confirm) = (false, false);
    for (key, value) in table.iter().filter(|(key, _)| *key != "name") {
        let outcome = match key.as_str() {
            "owners_only" => boolean(value).map(|set| owners_only = set),
            "confirm" => boolean(value).map(|set| confirm = set),
            other => match Action::IN_RULES.into_iter().find(|action| action.as_str() == other) {
                Some(action) => listed(value).map(|listed| {
                    principals.insert(action, listed);
                }),
                None => Err("is nothing that a rule has".to_owned()),
            },
        };
        if let Err(why) = outcome {
            mistakes.push(format!("{called}: `{key}` {why}"));
        }
    }
    patterns.into_iter().map(|pattern| Rule { pattern, principals: principals.clone(), owners_only, confirm }).collect()
}

fn listed(value: &Value) -> Result<Vec<Principal>, String> {
    let Value::Array(items) = value else { return Err("must be a list".to_owned()) };
    items
        .iter()
        .map(|item| text(item)?.parse().map_err(|error: crate::auth::PrincipalError| error.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Vec<Rule>, String> {
        rules(&toml.parse::<toml::Table>().unwrap()["package"])
    }

    #[test]
    fn a_rule_is_a_table() {
        let found = read(
            "[[package]]\nname = [\"@acme/*\", \"tool\"]\nread = [\"github:org/acme\"]\npublish = []\nconfirm = true",
        )
        .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].pattern.to_string(), "tool");
        assert_eq!(found[0].principals[&Action::Publish], Vec::new());
        assert!(found[0].confirm && !found[0].owners_only);
    }

    #[test]
    fn all_mistakes_of_the_rules_are_told_at_once() {
        let why = read(
            "[[package]]\nread = [\"anyone\"]\n[[package]]\nname = \"lod*\"\n[[package]]\nname = \"a\"\nreed = []\nread = \"anyone\"\npublish = [\"everybody\"]",
        )
        .unwrap_err();
        for part in
            ["rule 1: `name` is missing", "rule 2: `lod*`", "`a`: `reed`", "must be a list", "`everybody` names nobody"]
        {
            assert!(why.contains(part), "{part} is missing in {why}");
        }
    }
}
