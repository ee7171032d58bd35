//! The settings of a Verdaccio, and what they are in ours. Pure.
//!
//! There the first pattern that matches a name decides, in the order of the file; here the most specific one. So a rule that
//! an earlier one hides is left out, and a pattern that we cannot write becomes the names of the packages that it is for.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::lockfile::{LockfileError, Node, parse_yaml};
use crate::npm::{PackageName, Pattern};

/// What is used of `config.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The storage folder, seen from the file.
    pub storage: Option<String>,
    /// The accounts' file, likewise.
    pub htpasswd: Option<String>,
    /// Nobody may make an account.
    is_closed: bool,
    uplinks: Vec<Uplink>,
    packages: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Uplink {
    name: String,
    url: String,
    has_credentials: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rule {
    pattern: String,
    access: Vec<String>,
    publish: Vec<String>,
    unpublish: Option<Vec<String>>,
    proxy: Vec<String>,
    storage: Option<String>,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not YAML, or YAML with anchors and tags.
    #[error("line {line} is not YAML that can be read here ({problem})")]
    Syntax {
        /// From 1.
        line: usize,
        /// In the words of the parser.
        problem: String,
    },
    /// The document is no object.
    #[error("it has no settings in it")]
    Empty,
}

/// Our settings in place of those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translation {
    /// The text of a settings file.
    pub toml: String,
    /// What is different or was left out, in sentences.
    pub remarks: Vec<String>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let documents = parse_yaml(text).map_err(|error| match error {
            LockfileError::Syntax { line, problem, .. } => ConfigError::Syntax { line, problem },
            other => ConfigError::Syntax { line: 1, problem: other.to_string() },
        })?;
        let root = documents.first().filter(|root| matches!(root, Node::Map(_))).ok_or(ConfigError::Empty)?;
        let accounts = root.get("auth").and_then(|auth| auth.get("htpasswd"));
        let text_of = |node: Option<&Node<'_>>, key: &str| {
            let text = node.and_then(|node| node.text_of(key)).filter(|text| !text.is_empty());
            text.map(ToOwned::to_owned)
        };
        Ok(Self {
            storage: text_of(Some(root), "storage"),
            htpasswd: text_of(accounts, "file"),
            is_closed: text_of(accounts, "max_users").is_some_and(|most| most.starts_with('-')),
            uplinks: members(root.get("uplinks")).filter_map(|(name, node)| uplink(name, node)).collect(),
            packages: members(root.get("packages")).map(|(pattern, node)| rule(pattern, node)).collect(),
        })
    }

    /// The folders in the storage that only some packages are in.
    pub fn storages(&self) -> Vec<String> {
        let storages: BTreeSet<&str> = self.packages.iter().filter_map(|rule| rule.storage.as_deref()).collect();
        storages.into_iter().map(ToOwned::to_owned).collect()
    }

    /// Our settings in place of these, for a registry with these accounts and packages.
    pub fn translate(&self, accounts: &[String], packages: &[PackageName]) -> Translation {
        let accounts = accounts.iter().map(|name| name.to_lowercase()).collect();
        let mut translator = Translator { accounts, ..Translator::default() };
        let rules = self.rules(packages, &mut translator.remarks);
        translator.upstreams(&self.uplinks, &rules);
        translator.access(self.is_closed);
        for (patterns, rule) in &rules {
            translator.rule(patterns, rule);
        }
        Translation { toml: translator.toml, remarks: translator.remarks.into_iter().collect() }
    }

    /// The rules that can decide anything, each with the names that it is for.
    fn rules(&self, packages: &[PackageName], remarks: &mut BTreeSet<String>) -> Vec<(Vec<Pattern>, &Rule)> {
        let mut rules: Vec<(Vec<Pattern>, &Rule)> = Vec::new();
        let mut globs: Vec<&str> = Vec::new();
        for rule in &self.packages {
            let hides =
                |pattern: &Pattern, (earlier, _): &(Vec<Pattern>, &Rule)| earlier.iter().any(|one| one.covers(pattern));
            let patterns: Vec<Pattern> = if let Some(pattern) = expressible(&rule.pattern) {
                vec![pattern]
            } else {
                remarks.insert(format!(
                        "The pattern `{}` cannot be written here: it became the names of the packages that are there; new ones need a rule of their own.",
                        rule.pattern
                    ));
                let earlier = |name: &str| globs.iter().any(|glob| is_match(glob, name));
                let named = packages.iter().filter(|name| is_match(&rule.pattern, name.as_str()));
                named.filter(|name| !earlier(name.as_str())).cloned().map(Pattern::Exact).collect()
            };
            globs.push(&rule.pattern);
            let left: Vec<Pattern> = patterns
                .iter()
                .filter(|pattern| !rules.iter().any(|earlier| hides(pattern, earlier)))
                .cloned()
                .collect();
            if left.is_empty() && !patterns.is_empty() {
                remarks.insert(format!(
                    "The rule for `{}` never decided anything: an earlier one matches first.",
                    rule.pattern
                ));
            }
            if !left.is_empty() {
                rules.push((left, rule));
            }
        }
        rules
    }
}

fn members<'a, 'text>(node: Option<&'a Node<'text>>) -> impl Iterator<Item = (&'a str, &'a Node<'text>)> {
    let pairs = match node {
        Some(Node::Map(pairs)) => pairs.as_slice(),
        _ => &[],
    };
    pairs.iter().map(|(key, node)| (&**key, node))
}

fn uplink(name: &str, node: &Node<'_>) -> Option<Uplink> {
    let has_header = |node: &Node<'_>| members(Some(node)).any(|(key, _)| key.eq_ignore_ascii_case("authorization"));
    let has_credentials = node.get("auth").is_some() || node.get("headers").is_some_and(has_header);
    Some(Uplink { name: name.to_owned(), url: node.text_of("url")?.to_owned(), has_credentials })
}

fn rule(pattern: &str, node: &Node<'_>) -> Rule {
    let list = |key: &str| node.get(key).map(words);
    Rule {
        pattern: pattern.to_owned(),
        access: list("access").or_else(|| list("allow_access")).unwrap_or_default(),
        publish: list("publish").or_else(|| list("allow_publish")).unwrap_or_default(),
        unpublish: list("unpublish"),
        proxy: list("proxy").or_else(|| list("proxy_access")).unwrap_or_default(),
        storage: node.text_of("storage").filter(|storage| !storage.is_empty()).map(ToOwned::to_owned),
    }
}

/// A list, or a text with blanks between its words.
fn words(node: &Node<'_>) -> Vec<String> {
    let split = |text: &str| text.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
    match node {
        Node::Text(text) => split(text),
        Node::List(items) => items.iter().filter_map(Node::text).flat_map(split).collect(),
        Node::Map(_) => Vec::new(),
    }
}

/// A pattern that means the same here.
fn expressible(pattern: &str) -> Option<Pattern> {
    match pattern {
        "**" | "@*/**" | "@**/*" | "@*/*" => Some(if pattern == "**" { Pattern::Any } else { Pattern::AnyScope }),
        // In the middle of a path one star and two are the same; alone, one is for names without a scope.
        "*" => None,
        _ => {
            let scope = pattern.strip_suffix("/**").map(|scope| format!("{scope}/*"));
            scope.as_deref().unwrap_or(pattern).parse().ok()
        }
    }
}

/// Whether a pattern of minimatch matches a name, as far as such patterns are written for packages: `*` within a part of the
/// name, `**` across parts, `?`, and alternatives in braces.
fn is_match(pattern: &str, name: &str) -> bool {
    if let Some((before, rest)) = pattern.split_once('{')
        && let Some((inner, after)) = rest.split_once('}')
        && inner.contains(',')
    {
        return inner.split(',').any(|one| is_match(&format!("{before}{one}{after}"), name));
    }
    matches_from(pattern.as_bytes(), name.as_bytes())
}

fn matches_from(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=name.len()).any(|at| matches_from(rest, &name[at..])),
        [b'*', rest @ ..] => {
            let end = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
            (0..=end).any(|at| matches_from(rest, &name[at..]))
        }
        [b'?', rest @ ..] => name.first().is_some_and(|&byte| byte != b'/') && matches_from(rest, &name[1..]),
        [byte, rest @ ..] => name.first() == Some(byte) && matches_from(rest, &name[1..]),
    }
}

#[derive(Default)]
struct Translator {
    accounts: BTreeSet<String>,
    toml: String,
    /// Each once, in order.
    remarks: BTreeSet<String>,
}

impl Translator {
    fn line(&mut self, line: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.toml, "{line}");
    }

    fn upstreams(&mut self, uplinks: &[Uplink], rules: &[(Vec<Pattern>, &Rule)]) {
        let of_rules = |is_proxied: bool| {
            let rules = rules.iter().filter(move |(_, rule)| rule.proxy.is_empty() != is_proxied);
            rules.flat_map(|(patterns, _)| patterns.iter())
        };
        let mut claims = Vec::new();
        for claim in of_rules(false).filter(|pattern| **pattern != Pattern::Any) {
            match of_rules(true).find(|proxied| claim.covers(proxied)) {
                None => claims.push(claim.to_string()),
                Some(proxied) => {
                    self.remarks.insert(format!(
                        "`{claim}` could not be claimed as ours, since `{proxied}` in it is an uplink's: claim scopes one by one in `packages.claims`."
                    ));
                }
            }
        }
        self.line("[packages]");
        if !claims.is_empty() {
            self.line(&format!("claims = {}", list(&claims)));
        }
        if uplinks.is_empty() {
            self.line("proxy = false");
        }
        for uplink in uplinks {
            let of_it = |(patterns, rule): &(Vec<Pattern>, &Rule)| -> Vec<String> {
                let is_first = rule.proxy.first() == Some(&uplink.name);
                if is_first { patterns.iter().map(ToString::to_string).collect() } else { Vec::new() }
            };
            let patterns: Vec<String> = rules.iter().flat_map(of_it).collect();
            if patterns.is_empty() {
                self.remarks.insert(format!("The uplink `{}` is the first of no rule and was left out.", uplink.name));
                continue;
            }
            let name = if patterns.iter().any(|pattern| pattern == "**") {
                "default".to_owned()
            } else {
                upstream_name(&uplink.name)
            };
            self.line(&format!("\n[upstreams.{name}]"));
            self.line(&format!("url = {}", quoted(&uplink.url)));
            if name != "default" || patterns.len() > 1 {
                self.line(&format!("packages = {}", list(&patterns)));
            }
            if uplink.has_credentials {
                let variable = name.to_uppercase().replace('-', "_");
                self.remarks.insert(format!(
                    "The uplink `{}` has credentials: give its token as HOLDFAST__UPSTREAMS__{variable}__TOKEN.",
                    uplink.name
                ));
            }
        }
        if let Some((_, rule)) = rules.iter().find(|(_, rule)| rule.proxy.len() > 1) {
            self.remarks.insert(format!(
                "The rule for `{}` asks several uplinks: here a name belongs to one, the first.",
                rule.pattern
            ));
        }
    }

    fn access(&mut self, is_closed: bool) {
        self.line("\n[access]");
        self.line(&format!("registration = {}", quoted(if is_closed { "closed" } else { "open" })));
        if !is_closed {
            self.remarks.insert(
                "Whoever reached the registry could make an account (`max_users`), and still can: `access.registration = \"closed\"` ends that."
                    .to_owned(),
            );
        }
    }

    fn rule(&mut self, patterns: &[Pattern], rule: &Rule) {
        self.line("\n[[package]]");
        let names: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        self.line(&match names.as_slice() {
            [name] => format!("name = {}", quoted(name)),
            names => format!("name = {}", list(names)),
        });
        let read = self.principals(&rule.access, "anyone");
        self.line(&format!("read = {}", list(&read)));
        let publish = self.changers(&rule.publish, &read);
        self.line(&format!("publish = {}", list(&publish)));
        if let Some(unpublish) = &rule.unpublish {
            let unpublish = self.changers(unpublish, &read);
            self.line(&format!("unpublish = {}", list(&unpublish)));
        }
    }

    /// Who may change a package: those who may not read it may do nothing with it here.
    fn changers(&mut self, groups: &[String], readers: &[String]) -> Vec<String> {
        let mut changers = self.principals(groups, "account");
        let may_read = |one: &String| {
            let is_open = readers.iter().any(|reader| reader == "anyone" || reader == "account" || reader == one);
            is_open || one == "account" && !readers.is_empty()
        };
        for lost in changers.extract_if(.., |one| !may_read(one)) {
            self.remarks.insert(format!(
                "`{lost}` may change packages that it may not read, which is not possible here: let it read them."
            ));
        }
        changers
    }

    /// Who may: `everybody` is what stands for those without an account.
    fn principals(&mut self, groups: &[String], everybody: &str) -> Vec<String> {
        let mut principals = Vec::new();
        for group in groups {
            let principal = match group.as_str() {
                "$all" | "@all" | "all" | "$anonymous" | "@anonymous" | "anonymous" => {
                    if everybody == "account" {
                        self.remarks.insert(
                            "Changes without an account are not possible here: `$all` became `account`.".to_owned(),
                        );
                    }
                    everybody.to_owned()
                }
                "$authenticated" | "@authenticated" => "account".to_owned(),
                name if self.accounts.contains(&name.to_lowercase()) => format!("user:{name}"),
                name => {
                    self.remarks.insert(format!(
                        "`{name}` is none of the accounts: if it is a group, name its members as `user:…`, or a team of GitHub's as `github:team/…`."
                    ));
                    continue;
                }
            };
            if !principals.contains(&principal) {
                principals.push(principal);
            }
        }
        // Beside everybody nobody else has to be named.
        if principals.iter().any(|principal| principal == "anyone") { vec!["anyone".to_owned()] } else { principals }
    }
}

/// A name of an upstream has small letters, digits and `-` only.
fn upstream_name(uplink: &str) -> String {
    let name: String = uplink
        .to_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_lowercase() || letter.is_ascii_digit() { letter } else { '-' })
        .collect();
    match name.trim_matches('-') {
        "" | "default" => "uplink".to_owned(),
        name => name.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
# a comment
storage: ./data
auth:
  htpasswd:
    file: ./users
    max_users: -1
uplinks:
  npmjs:
    url: https://registry.example/
  Partner_Registry:
    url: https://partner.example/npm/
    auth:
      type: bearer
      token_env: TOKEN
  unused:
    url: https://unused.example/
packages:
  '@acme/*':
    access: $authenticated
    publish: ann developers
    unpublish: [ann]
  'acme-*':
    access: $all
    publish: $all
  '@partner/*': { access: $all, publish: $authenticated, proxy: Partner_Registry npmjs, storage: partner }
  '**':
    access: $all
    publish: $authenticated
    proxy: npmjs
  late:
    access: ann
";

    fn translated(text: &str) -> Translation {
        let names = ["acme-a", "acme-b", "other"].map(|name| name.parse().unwrap());
        Config::parse(text).unwrap().translate(&["Ann".to_owned()], &names)
    }

    #[test]
    fn settings_become_ours() {
        let config = Config::parse(CONFIG).unwrap();
        assert_eq!((config.storage.as_deref(), config.htpasswd.as_deref()), (Some("./data"), Some("./users")));
        assert_eq!(config.storages(), ["partner"]);
        let Translation { toml, remarks } = translated(CONFIG);
        let expected = r#"[packages]
claims = ["@acme/*", "acme-a", "acme-b"]

[upstreams.default]
url = "https://registry.example/"

[upstreams.partner-registry]
url = "https://partner.example/npm/"
packages = ["@partner/*"]

[access]
registration = "closed"

[[package]]
name = "@acme/*"
read = ["account"]
publish = ["user:ann"]
unpublish = ["user:ann"]

[[package]]
name = ["acme-a", "acme-b"]
read = ["anyone"]
publish = ["account"]

[[package]]
name = "@partner/*"
read = ["anyone"]
publish = ["account"]

[[package]]
name = "**"
read = ["anyone"]
publish = ["account"]
"#;
        assert_eq!(toml, expected);
        let told = remarks.join("\n");
        for part in [
            "`acme-*` cannot be written",
            "`late` never decided",
            "HOLDFAST__UPSTREAMS__PARTNER_REGISTRY__TOKEN",
            "uplink `unused`",
            "asks several uplinks",
            "`developers` is none of the accounts",
            "`$all` became `account`",
        ] {
            assert!(told.contains(part), "{part} is missing in:\n{told}");
        }
        assert_eq!(remarks.len(), 7, "{told}");
    }

    #[test]
    fn a_registry_that_proxies_nothing_stays_so() {
        let Translation { toml, .. } = translated("packages:\n  '**':\n    access: $all\n");
        assert!(toml.starts_with("[packages]\nproxy = false\n"), "{toml}");
        assert!(toml.contains("publish = []"), "whoever is not named may not: {toml}");
    }

    #[test]
    fn patterns_match_as_there() {
        for (pattern, name, matches) in [
            ("acme-*", "acme-a", true),
            ("acme-*", "@acme-x/a", false),
            ("*", "tool", true),
            ("*", "@acme/tool", false),
            ("@acme/{a,b}-*", "@acme/b-c", true),
            ("@acme/{a,b}-*", "@acme/c-c", false),
            ("@*-internal/**", "@acme-internal/x", true),
            ("to?l", "tool", true),
        ] {
            assert_eq!(is_match(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_file_that_is_no_settings_is_refused() {
        for text in ["", "- a", "a: [", "a: &x 1\nb: *x"] {
            assert!(Config::parse(text).is_err(), "{text:?}");
        }
    }
}
