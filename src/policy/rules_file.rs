//! The rules file: TOML in, rules out, or every mistake in it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use toml::{Table, Value};

use super::rule::{
    Condition, Effect, HOSTED, InstallScripts, LicenceCondition, Mode, NamePattern, Rule, SignatureCondition,
};
use crate::npm::{Pattern, Range, Timestamp};

/// No installation has more, and every version is held against each of them.
const MAX_RULES: usize = 10_000;

/// Something wrong in the rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMistake {
    /// The rule's id, or its number where it has none; empty for what concerns the whole file.
    pub rule: String,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for RuleMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rule.is_empty() { f.write_str(&self.text) } else { write!(f, "rule `{}`: {}", self.rule, self.text) }
    }
}

/// Reads a rules file. `upstreams` are the names of the upstreams that there are, `claims` the names that are ours.
///
/// # Errors
/// All that is wrong: unknown keys, values that cannot be, rules that can never match.
pub fn parse(text: &str, upstreams: &[String], claims: &[Pattern]) -> Result<Vec<Rule>, Vec<RuleMistake>> {
    let whole = |text: String| vec![RuleMistake { rule: String::new(), text }];
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        whole(format!("the rules file is not TOML: {}", error.to_string().trim_end().replace('\n', " ")))
    })?;
    let mut mistakes = Vec::new();
    for key in table.keys().filter(|key| *key != "rule") {
        mistakes.extend(whole(format!("`{key}` is nothing that a rules file has: it has `[[rule]]` tables alone")));
    }
    let empty = Vec::new();
    let tables = match table.get("rule") {
        None => &empty,
        Some(Value::Array(tables)) if tables.len() <= MAX_RULES => tables,
        Some(Value::Array(_)) => return Err(whole(format!("there are more than {MAX_RULES} rules"))),
        Some(_) => return Err(whole("rules must be written as `[[rule]]`".to_owned())),
    };
    let mut rules = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let Value::Table(table) = table else {
            mistakes.extend(whole("rules must be written as `[[rule]]`".to_owned()));
            continue;
        };
        let mut reader = Reader::new(table, index + 1);
        let rule = reader.rule();
        mistakes.extend(reader.mistakes);
        rules.extend(rule);
    }
    mistakes.extend(contradictions(&rules, upstreams, claims));
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
}

/// A time span such as `90m`, `72h` or `7d`.
///
/// # Errors
/// A sentence for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST_HOURS: u64 = 24 * 3650;
    let expected = || format!("`{text}` is no time such as `90m`, `72h` or `7d`");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let minutes = match &text[digits.len()..] {
        "m" => Some(number),
        "h" => number.checked_mul(60),
        "d" => number.checked_mul(24 * 60),
        _ => return Err(expected()),
    };
    let minutes = minutes.filter(|minutes| *minutes <= LONGEST_HOURS * 60);
    minutes.map(Duration::from_mins).ok_or_else(|| format!("`{text}` is longer than ten years"))
}

/// Reads one `[[rule]]`, and notes what is wrong in it.
struct Reader<'a> {
    table: &'a Table,
    called: String,
    known: BTreeSet<&'static str>,
    mistakes: Vec<RuleMistake>,
}

impl<'a> Reader<'a> {
    fn new(table: &'a Table, number: usize) -> Self {
        let called = table.get("id").and_then(Value::as_str).map_or_else(|| number.to_string(), ToOwned::to_owned);
        Self { table, called, known: BTreeSet::new(), mistakes: Vec::new() }
    }

    fn rule(&mut self) -> Option<Rule> {
        let id = self.required("id").filter(|id| self.is_good_id(id));
        let author = self.required("author");
        let reason = self.required("reason");
        let effect = self.effect();
        let mode = self.one_of("mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)]);
        let packages = self.packages();
        let upstreams = self.texts("upstreams").unwrap_or_default();
        let conditions = self.conditions();
        let expires = self.expires(effect);
        let unknown: Vec<&String> = self.table.keys().filter(|key| !self.known.contains(key.as_str())).collect();
        for key in unknown {
            self.mistakes
                .push(RuleMistake { rule: self.called.clone(), text: format!("`{key}` is nothing that a rule has") });
        }
        if !self.mistakes.is_empty() {
            return None;
        }
        Some(Rule {
            id: id?,
            effect: effect?,
            mode: mode.unwrap_or(Mode::Enforce),
            packages: packages?,
            upstreams,
            conditions,
            author: author?,
            reason: reason?,
            expires,
        })
    }

    fn mistake(&mut self, text: String) {
        self.mistakes.push(RuleMistake { rule: self.called.clone(), text });
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.table.get(key)
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => {
                self.mistake(format!("`{key}` must be a text that is not empty"));
                None
            }
        }
    }

    fn required(&mut self, key: &'static str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.known.insert(key);
            self.mistake(format!("`{key}` is missing"));
            return None;
        }
        self.text(key)
    }

    fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let found: Option<Vec<String>> = match self.value(key)? {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect(),
            _ => None,
        };
        let found = found.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty()));
        if found.is_none() {
            self.mistake(format!("`{key}` must be a list of texts that is not empty"));
        }
        found
    }

    fn one_of<T: Copy>(&mut self, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.mistake(format!("`{key}` is `{text}`: it must be {}", names.join(" or ")));
        }
        found
    }

    fn is_good_id(&mut self, id: &str) -> bool {
        let is_good = id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !is_good {
            self.mistake("`id` may only have letters, digits and the characters - _ .".to_owned());
        }
        is_good
    }

    fn effect(&mut self) -> Option<Effect> {
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            Allow,
            Deny,
            Hold,
        }
        if !self.table.contains_key("action") {
            self.known.insert("action");
            self.mistake("`action` is missing: `allow`, `deny` or `hold`".to_owned());
        }
        let kind = self.one_of("action", &[("allow", Kind::Allow), ("deny", Kind::Deny), ("hold", Kind::Hold)]);
        let hold = self.text("hold");
        match (kind?, hold) {
            (Kind::Allow, None) => Some(Effect::Allow),
            (Kind::Deny, None) => Some(Effect::Deny),
            (Kind::Hold, Some(text)) => match duration(&text) {
                Ok(hold) => Some(Effect::Hold(hold)),
                Err(why) => {
                    self.mistake(format!("`hold`: {why}"));
                    None
                }
            },
            (Kind::Hold, None) => {
                self.mistake("`hold` is missing: say how long, such as `hold = \"7d\"`".to_owned());
                None
            }
            (_, Some(_)) => {
                self.mistake("`hold` goes with `action = \"hold\"` alone".to_owned());
                None
            }
        }
    }

    fn packages(&mut self) -> Option<Vec<NamePattern>> {
        if !self.table.contains_key("packages") {
            self.known.insert("packages");
            self.mistake("`packages` is missing: say which, `[\"**\"]` for all".to_owned());
            return None;
        }
        let mut patterns = Vec::new();
        for text in self.texts("packages")? {
            match text.parse() {
                Ok(pattern) => patterns.push(pattern),
                Err(_) => self.mistake(format!("`{text}` is no package name, `@scope/*`, `left-*` or `**`")),
            }
        }
        (!patterns.is_empty()).then_some(patterns)
    }

    fn conditions(&mut self) -> Vec<Condition> {
        let mut found = Vec::new();
        if let Some(text) = self.text("versions") {
            match text.parse::<Range>() {
                Ok(range) => found.push(Condition::Versions(range)),
                Err(_) => self.mistake(format!("`versions` is `{text}`, in which no version can be")),
            }
        }
        found.extend(self.texts("licence_in").map(|list| Condition::Licence(LicenceCondition::In(list))));
        found.extend(self.texts("licence_not_in").map(|list| Condition::Licence(LicenceCondition::NotIn(list))));
        found
            .extend(self.one_of("licence", &[("unknown", ())]).map(|()| Condition::Licence(LicenceCondition::Unknown)));
        let scripts = [("present", InstallScripts::Present), ("introduced", InstallScripts::Introduced)];
        found.extend(self.one_of("install_scripts", &scripts).map(Condition::InstallScripts));
        found.extend(self.one_of("provenance", &[("missing", ())]).map(|()| Condition::NoProvenance));
        let signatures = [("missing", SignatureCondition::Missing), ("invalid", SignatureCondition::Invalid)];
        found.extend(self.one_of("signature", &signatures).map(Condition::Signature));
        found.extend(self.one_of("trust", &[("weaker", ())]).map(|()| Condition::WeakerTrust));
        found.extend(self.texts("advisories").map(Condition::Advisories));
        found
    }

    fn expires(&mut self, effect: Option<Effect>) -> Option<Timestamp> {
        let text = match self.value("expires") {
            Some(Value::Datetime(date)) => date.to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(_) => {
                self.mistake("`expires` must be a date such as 2027-01-31, or \"never\"".to_owned());
                return None;
            }
            None => {
                if effect == Some(Effect::Allow) {
                    self.mistake("`expires` is missing: what is let through needs an end, or \"never\"".to_owned());
                }
                return None;
            }
        };
        if text == "never" {
            return None;
        }
        let instant = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
        if instant.is_err() {
            self.mistake(format!("`expires` is `{text}`: it must be a date such as 2027-01-31, or \"never\""));
        }
        instant.ok()
    }
}

/// What shows only when all rules are seen together.
fn contradictions(rules: &[Rule], upstreams: &[String], claims: &[Pattern]) -> Vec<RuleMistake> {
    let mut mistakes = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut mistake = |text: String| mistakes.push(RuleMistake { rule: rule.id.clone(), text });
        if rules[..index].iter().any(|other| other.id == rule.id) {
            mistake("another rule has the same `id`".to_owned());
        }
        for name in rule.upstreams.iter().filter(|name| *name != HOSTED && !upstreams.contains(name)) {
            mistake(format!("there is no upstream `{name}`"));
        }
        let is_for_hosted = rule.upstreams.iter().any(|name| name == HOSTED);
        let is_ours =
            |pattern: &NamePattern| claims.iter().any(|claim| NamePattern::Known(claim.clone()).covers(pattern));
        if !is_for_hosted && rule.packages.iter().all(is_ours) {
            mistake(
                "it can never match: its packages are claimed as ours and never asked upstream; say `upstreams = [\"hosted\"]` for those"
                    .to_owned(),
            );
        }
        if let Some(earlier) = rules[..index].iter().find(|earlier| shadows(earlier, rule)) {
            mistake(format!(
                "it can never match: the rule `{}` before it decides for all that it speaks of",
                earlier.id
            ));
        }
    }
    mistakes
}

/// Whether nothing is left for a later rule.
fn shadows(earlier: &Rule, later: &Rule) -> bool {
    let decides_for_all = matches!(earlier.effect, Effect::Allow | Effect::Deny)
        && earlier.mode == Mode::Enforce
        && earlier.conditions.is_empty()
        && earlier.expires.is_none();
    let from_all = match (earlier.upstreams.as_slice(), later.upstreams.as_slice()) {
        ([], others) => !others.iter().any(|name| name == HOSTED),
        (own, others) => !others.is_empty() && others.iter().all(|name| own.contains(name)),
    };
    let covered = |pattern: &NamePattern| earlier.packages.iter().any(|own| own.covers(pattern));
    decides_for_all && from_all && later.packages.iter().all(covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str = "author = \"ann\"\nreason = \"because\"\n";

    fn read(text: &str) -> Result<Vec<Rule>, Vec<String>> {
        let claims = ["@acme/*".parse().unwrap()];
        let upstreams = ["default".to_owned()];
        parse(&text.replace("COMMON", COMMON), &upstreams, &claims)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_condition_is_read() {
        let rules = read(
            r#"
            [[rule]]
            id = "all"
            action = "hold"
            hold = "7d"
            mode = "observe"
            packages = ["left-*", "@acme/*", "**"]
            upstreams = ["default", "hosted"]
            versions = "<2"
            licence_in = ["GPL-3.0-only"]
            licence_not_in = "MIT"
            licence = "unknown"
            install_scripts = "introduced"
            provenance = "missing"
            signature = "invalid"
            trust = "weaker"
            advisories = ["GHSA-x"]
            expires = 2027-01-31
            COMMON
            [[rule]]
            id = "let-through"
            action = "allow"
            packages = "lodash"
            expires = "never"
            COMMON"#,
        )
        .unwrap();
        assert_eq!(rules[0].conditions.len(), 9);
        assert_eq!(rules[0].effect, Effect::Hold(Duration::from_hours(168)));
        assert_eq!(rules[0].expires.unwrap().to_string(), "2027-01-31T00:00:00.000Z");
        assert_eq!((rules[1].effect, rules[1].expires), (Effect::Allow, None));
    }

    #[test]
    fn every_mistake_is_told() {
        let mistakes = read(
            r#"
            typo = 1
            [[rule]]
            id = "a b"
            action = "deny"
            packages = ["lod ash"]
            hold = "7d"
            COMMON
            [[rule]]
            id = "b"
            action = "forbid"
            pakages = ["x"]
            [[rule]]
            id = "c"
            action = "hold"
            packages = []
            hold = "soon"
            versions = "nonsense"
            expires = "tomorrow"
            COMMON
            [[rule]]
            id = "d"
            action = "allow"
            packages = ["x"]
            COMMON
            [[rule]]
            id = "e"
            action = "deny"
            packages = ["x"]
            upstreams = ["elsewhere"]
            COMMON"#,
        )
        .unwrap_err()
        .join("\n");
        for part in [
            "`typo` is nothing",
            "`id` may only",
            "`lod ash` is no package",
            "`hold` goes with",
            "rule `b`: `author` is missing",
            "`action` is `forbid`",
            "`pakages` is nothing",
            "`packages` is missing",
            "`packages` must be a list",
            "`soon` is no time",
            "`nonsense`",
            "`tomorrow`",
            "rule `d`: `expires` is missing",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in:\n{mistakes}");
        }
        assert!(read("rule = 7").unwrap_err()[0].contains("[[rule]]"));
        assert!(read("[[rule").unwrap_err()[0].contains("not TOML"));
    }

    #[test]
    fn a_rule_that_can_never_match_is_a_mistake() {
        let rule = |id: &str, rest: &str| format!("[[rule]]\nid = \"{id}\"\n{rest}\nCOMMON\n");
        for (first, second, expected) in [
            ("action = \"deny\"\npackages = [\"@x/*\"]", "action = \"deny\"\npackages = [\"@x/y\"]", "before it"),
            ("action = \"deny\"\npackages = [\"a\"]", "action = \"deny\"\npackages = [\"@acme/y\"]", "claimed as ours"),
            (
                "action = \"deny\"\npackages = [\"a\"]",
                "action = \"deny\"\npackages = [\"b\"]\nupstreams = [\"none\"]",
                "no upstream",
            ),
            (
                "action = \"deny\"\npackages = [\"a\"]",
                "action = \"deny\"\npackages = [\"b\"]\nversions = \"one\"",
                "no version",
            ),
        ] {
            let mistakes = read(&(rule("one", first) + &rule("two", second))).unwrap_err().join("\n");
            assert!(mistakes.contains("rule `two`") && mistakes.contains(expected), "{mistakes}");
        }
        let same = rule("one", "action = \"deny\"\npackages = [\"a\"]");
        assert!(read(&(same.clone() + &same)).unwrap_err().join("\n").contains("same `id`"));
        // What leaves something over is no mistake.
        for first in [
            "action = \"deny\"\npackages = [\"@x/*\"]\nversions = \"1\"",
            "action = \"deny\"\npackages = [\"@x/*\"]\nmode = \"observe\"",
            "action = \"allow\"\npackages = [\"@x/*\"]\nexpires = 2027-01-01",
            "action = \"hold\"\nhold = \"1d\"\npackages = [\"@x/*\"]",
            "action = \"deny\"\npackages = [\"@x/*\"]\nupstreams = [\"default\"]",
        ] {
            let text = rule("one", first) + &rule("two", "action = \"deny\"\npackages = [\"@x/y\"]");
            assert_eq!(read(&text).unwrap().len(), 2, "{first}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, minutes) in [("90m", Some(90)), ("72h", Some(4320)), ("7d", Some(10_080)), ("0d", Some(0))] {
            assert_eq!(duration(text).ok(), minutes.map(Duration::from_mins), "{text}");
        }
        for text in ["", "7", "d", "-1d", "1w", "99999999999999999d", "3651d", "1 d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
