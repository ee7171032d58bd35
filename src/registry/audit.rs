//! `npm audit`: forwarded to the upstreams, without the names that are ours.
//!
//! A report that could not be had is a failure, never an empty report: nobody may read "no vulnerabilities" from an
//! outage.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::source::Route;
use super::{Error, Registry};
use crate::advisories::{Advisory, Severity};
use crate::auth::Caller;
use crate::npm::integrity::sha256_hex;
use crate::npm::{Integrity, PackageName, Range, RawObject, Version, raw};
use crate::upstream::{self, AuditPath, Upstream};

/// Deeper nesting than any real dependency tree.
const MAX_TREE_DEPTH: usize = 100;
/// Values in a tree: some ten for each of fifty thousand packages.
const MAX_TREE_VALUES: usize = 500_000;
/// Names asked about at once.
const MAX_NAMES: usize = 50_000;

impl Registry {
    /// The bulk form: `{name: [versions]}` in, advisories by name out. Each upstream is asked for its own names only.
    pub async fn audit_bulk(&self, caller: &Caller, body: &Bytes) -> Result<Bytes, Error> {
        self.authorize_reading(caller)?;
        let asked = RawObject::parse(body).map_err(|_| Error::Invalid("the body is not a map of names to versions"))?;
        if asked.len() > MAX_NAMES {
            return Err(Error::Invalid("the body asks about too many packages at once"));
        }
        if self.terms.answers_audit {
            return self.audit_here(&asked).await;
        }
        let mut by_upstream: BTreeMap<&str, (&Upstream, RawObject<'_>)> = BTreeMap::new();
        for (text, versions) in asked.iter() {
            let Some(upstream) = self.upstream_of(text).await? else { continue };
            let (_, names) = by_upstream.entry(upstream.name()).or_insert_with(|| (upstream, RawObject::default()));
            names.push_raw(text, versions.to_owned());
        }
        let mut report = RawObject::default();
        for (upstream, names) in by_upstream.into_values() {
            let body = serde_json::to_vec(&names).map_err(|_| Error::Damaged)?;
            let answer = upstream.audit(AuditPath::Bulk, body.into()).await?;
            let advisories = RawObject::parse(&answer)
                .map_err(|_| upstream::Error::BadAnswer("the audit report is not an object"))?;
            for (name, advisories) in advisories.iter() {
                report.push_raw(name, advisories.to_owned());
            }
        }
        Ok(serde_json::to_vec(&report).map_err(|_| Error::Damaged)?.into())
    }

    /// The bulk form from the advisories here: nobody is asked. Names that are ours are not the public registry's.
    async fn audit_here(&self, asked: &RawObject<'_>) -> Result<Bytes, Error> {
        self.policy_loaded().await;
        let policy = self.policy();
        let mut report = Map::new();
        for (text, versions) in asked.iter() {
            if self.upstream_of(text).await?.is_none() {
                continue;
            }
            let Ok(name) = text.parse::<PackageName>() else { continue };
            let versions: Vec<String> = serde_json::from_str(versions.get()).unwrap_or_default();
            let versions: Vec<Version> = versions.iter().filter_map(|number| number.parse().ok()).collect();
            let about = policy.advisories().about(&name);
            let hits = |advisory: &&Advisory| versions.iter().any(|version| advisory.affected.contains(version));
            let found: Vec<Value> = about.iter().filter(hits).map(reported).collect();
            if !found.is_empty() {
                report.insert(text.to_owned(), found.into());
            }
        }
        Ok(Value::Object(report).to_string().into())
    }

    /// The older forms from the advisories here: what is known of each version in the tree, and by which path it is there.
    async fn audit_tree_here(&self, tree: &Map<String, Value>) -> Result<Bytes, Error> {
        self.policy_loaded().await;
        let policy = self.policy();
        let mut installed = Vec::new();
        collect_versions(tree, "", &mut installed, 0)?;
        let (mut advisories, mut counts) = (Map::new(), BTreeMap::new());
        for (text, version, path) in &installed {
            if self.upstream_of(text).await?.is_none() {
                continue;
            }
            let (Ok(name), Ok(number)) = (text.parse::<PackageName>(), version.parse::<Version>()) else { continue };
            for advisory in policy.advisories().about(&name) {
                if !advisory.affected.contains(&number) {
                    continue;
                }
                let mut entry = reported(&advisory);
                let severity = entry["severity"].as_str().unwrap_or_default().to_owned();
                *counts.entry(severity).or_insert(0_usize) += 1;
                entry["module_name"] = text.as_str().into();
                entry["patched_versions"] = patched(&advisory).into();
                entry["findings"] = serde_json::json!([]);
                let key = entry["id"].to_string();
                let known = advisories.entry(key).or_insert(entry);
                if let Some(findings) = known["findings"].as_array_mut() {
                    findings.push(serde_json::json!({ "version": version, "paths": [path] }));
                }
            }
        }
        let count = |severity: &str| counts.get(severity).copied().unwrap_or_default();
        let report = serde_json::json!({
            "actions": [], "advisories": advisories, "muted": [],
            "metadata": {
                "vulnerabilities": {
                    "info": 0, "low": count("low"), "moderate": count("moderate"), "high": count("high"),
                    "critical": count("critical"),
                },
                "dependencies": installed.len(), "devDependencies": 0, "optionalDependencies": 0,
                "totalDependencies": installed.len(),
            }
        });
        Ok(report.to_string().into())
    }

    /// The older forms: a whole dependency tree, which only the default upstream is asked about.
    pub async fn audit_tree(&self, caller: &Caller, path: AuditPath, body: &Bytes) -> Result<Bytes, Error> {
        self.authorize_reading(caller)?;
        if raw::weight(body) > MAX_TREE_VALUES {
            return Err(Error::Invalid("the dependency tree is too large"));
        }
        let tree: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Error::Invalid("the body is not a dependency tree"))?;
        if self.terms.answers_audit {
            return self.audit_tree_here(&tree).await;
        }
        if self.terms.sources.upstreams().next().is_none() {
            return Ok(no_findings());
        }
        // Upstreams, but none for public packages: nobody can tell.
        let upstream = self
            .terms
            .sources
            .default_upstream()
            .ok_or(upstream::Error::BadAnswer("none of them knows all packages"))?;
        let mut names = Vec::new();
        collect_names(&tree, &mut names, 0)?;
        let mut ours = std::collections::BTreeSet::new();
        for name in names {
            if self.upstream_of(&name).await?.is_none_or(|own| own.name() != upstream.name()) {
                ours.insert(name);
            }
        }
        let mut sent = public_part(&tree, &|name| ours.contains(name));
        // The project's own name says as much as a dependency's.
        sent.insert("name".to_owned(), "audited".into());
        sent.insert("version".to_owned(), "0.0.0".into());
        Ok(upstream.audit(path, Value::Object(sent).to_string().into()).await?)
    }

    /// The upstream that may hear of a name; `None` for names that are ours or that are no names.
    pub(super) async fn upstream_of(&self, text: &str) -> Result<Option<&Upstream>, Error> {
        let Ok(name) = text.parse::<PackageName>() else { return Ok(None) };
        if self.hosted_head(&name).await?.is_some() {
            return Ok(None);
        }
        match self.terms.sources.route(&name) {
            Route::Upstream(upstream) => Ok(Some(upstream)),
            Route::Claimed | Route::Unrouted => Ok(None),
        }
    }
}

/// An advisory in the shape that npm, pnpm, yarn and deno read.
fn reported(advisory: &Advisory) -> Value {
    // npm counts five severities and no others.
    let severity = if advisory.severity == Severity::Unknown { Severity::Moderate } else { advisory.severity };
    let cvss = advisory.cvss.as_ref();
    let cves: Vec<&String> = advisory.aliases.iter().filter(|alias| alias.starts_with("CVE-")).collect();
    serde_json::json!({
        "id": numeric_id(&advisory.id),
        "url": advisory.url,
        "title": advisory.summary,
        "severity": severity.as_str(),
        "vulnerable_versions": advisory.affected.range_text(),
        "cwe": advisory.cwes,
        "cves": cves,
        "cvss": { "score": cvss.map_or(0.0, |cvss| f64::from(cvss.tenths()) / 10.0), "vectorString": cvss.map(|cvss| cvss.vector.as_str()) },
    })
}

/// The range of the versions that are fixed, as the older forms have it.
fn patched(advisory: &Advisory) -> String {
    match advisory.affected.fixes().iter().max() {
        Some(fix) => format!(">={fix}"),
        None => "<0.0.0".to_owned(),
    }
}

/// Name, version and path of everything in a tree.
fn collect_versions(
    node: &Map<String, Value>,
    path: &str,
    found: &mut Vec<(String, String, String)>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_TREE_DEPTH {
        return Err(Error::Invalid("the dependency tree is too deep"));
    }
    let Some(entries) = node.get("dependencies").and_then(Value::as_object) else { return Ok(()) };
    for (name, child) in entries {
        let Some(child) = child.as_object() else { continue };
        let path = if path.is_empty() { name.clone() } else { format!("{path}>{name}") };
        if let Some(version) = child.get("version").and_then(Value::as_str) {
            found.push((name.clone(), version.to_owned(), path.clone()));
        }
        collect_versions(child, &path, found, depth + 1)?;
    }
    Ok(())
}

/// Clients want a number; the same advisory has the same one everywhere.
fn numeric_id(id: &str) -> u32 {
    u32::from_str_radix(&sha256_hex(id.as_bytes())[..7], 16).unwrap_or_default()
}

/// The report of a registry without upstreams: nothing here is public, so nothing public is known of it.
fn no_findings() -> Bytes {
    serde_json::json!({
        "actions": [], "advisories": {}, "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 0, "devDependencies": 0, "optionalDependencies": 0, "totalDependencies": 0
        }
    })
    .to_string()
    .into()
}

fn collect_names(node: &Map<String, Value>, names: &mut Vec<String>, depth: usize) -> Result<(), Error> {
    if depth > MAX_TREE_DEPTH {
        return Err(Error::Invalid("the dependency tree is too deep"));
    }
    for member in ["requires", "dependencies"] {
        let Some(entries) = node.get(member).and_then(Value::as_object) else { continue };
        for (name, child) in entries {
            names.push(name.clone());
            if let Some(child) = child.as_object() {
                collect_names(child, names, depth + 1)?;
            }
        }
    }
    // `install` and `remove` list `name@version`, which may be private too; the report does not need them.
    Ok(())
}

/// The part of a tree that may leave the house: names that are public, with plain versions and ranges. A version may be
/// the address of a private repository, and a member that nobody knows may be anything. Bounded, since the tree was
/// walked before.
fn public_part(node: &Map<String, Value>, is_ours: &dyn Fn(&str) -> bool) -> Map<String, Value> {
    let mut public = Map::new();
    for (member, is_harmless) in HARMLESS {
        if let Some(value) = node.get(*member).filter(|value| is_harmless(value)) {
            public.insert((*member).to_owned(), value.clone());
        }
    }
    if let Some(requires) = node.get("requires").and_then(Value::as_object) {
        let kept = requires.iter().filter(|(name, range)| !is_ours(name) && is_range(range));
        public.insert("requires".to_owned(), kept.map(|(name, range)| (name.clone(), range.clone())).collect());
    }
    if let Some(dependencies) = node.get("dependencies").and_then(Value::as_object) {
        let kept = dependencies.iter().filter(|(name, _)| !is_ours(name));
        let kept: Map<String, Value> = kept
            .filter_map(|(name, child)| Some((name.clone(), Value::Object(public_part(child.as_object()?, is_ours)))))
            .collect();
        public.insert("dependencies".to_owned(), Value::Object(kept));
    }
    public
}

/// Whether a value tells nothing private.
type IsHarmless = fn(&Value) -> bool;

/// Members of a node that tell nothing private, when their values are of the right kind.
const HARMLESS: &[(&str, IsHarmless)] = &[
    ("version", |value| value.as_str().is_some_and(|text| text.parse::<Version>().is_ok())),
    ("integrity", |value| value.as_str().is_some_and(|text| Integrity::parse(text).is_some())),
    ("dev", Value::is_boolean),
    ("optional", Value::is_boolean),
    ("bundled", Value::is_boolean),
];

fn is_range(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<Range>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_leave_the_tree_at_every_level() {
        let tree: Map<String, Value> = serde_json::from_str(
            r#"{"requires":{"a":"1","@acme/x":"1"},"install":["@acme/x@1"],"dependencies":{
                "c":{"version":"git+ssh://git@acme.example/secret.git","requires":{"d":"npm:@acme/y@1"},"from":"acme"},
                "a":{"version":"1","requires":{"@acme/x":"1"},"dependencies":{"@acme/x":{"version":"1"},"b":{"version":"1"}}},
                "@acme/x":{"version":"1"}}}"#,
        )
        .unwrap();
        let mut names = Vec::new();
        collect_names(&tree, &mut names, 0).unwrap();
        assert!(names.contains(&"b".to_owned()));
        let text = Value::Object(public_part(&tree, &|name| name.starts_with("@acme/"))).to_string();
        assert!(!text.contains("acme") && text.contains("\"b\""), "{text}");
    }
}
