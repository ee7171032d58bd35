//! `npm audit`: forwarded to the upstreams, without the names that are ours.
//!
//! A report that could not be had is a failure, never an empty report: nobody may read "no vulnerabilities" from an
//! outage.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::source::Route;
use super::{Error, Registry};
use crate::auth::Caller;
use crate::npm::PackageName;
use crate::upstream::{AuditPath, Upstream};

/// Deeper nesting than any real dependency tree.
const MAX_TREE_DEPTH: usize = 100;

impl Registry {
    /// The bulk form: `{name: [versions]}` in, advisories by name out. Each upstream is asked for its own names only.
    pub async fn audit_bulk(&self, caller: &Caller, body: &Bytes) -> Result<Bytes, Error> {
        self.authorize_reading(caller)?;
        let asked: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Error::Invalid("the body is not a map of names to versions"))?;
        let mut by_upstream: BTreeMap<&str, (&Upstream, Map<String, Value>)> = BTreeMap::new();
        for (text, versions) in &asked {
            let Some(upstream) = self.upstream_of(text).await? else { continue };
            let (_, names) = by_upstream.entry(upstream.name()).or_insert_with(|| (upstream, Map::new()));
            names.insert(text.clone(), versions.clone());
        }
        let mut report = Map::new();
        for (upstream, names) in by_upstream.into_values() {
            let body = Value::Object(names).to_string().into();
            let answer = upstream.audit(AuditPath::Bulk, body).await?;
            let advisories: Map<String, Value> = serde_json::from_slice(&answer)
                .map_err(|_| crate::upstream::Error::BadAnswer("the audit report is not an object"))?;
            report.extend(advisories);
        }
        Ok(Value::Object(report).to_string().into())
    }

    /// The older forms: a whole dependency tree, which only the default upstream is asked about.
    pub async fn audit_tree(&self, caller: &Caller, path: AuditPath, body: &Bytes) -> Result<Bytes, Error> {
        self.authorize_reading(caller)?;
        let mut tree: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Error::Invalid("the body is not a dependency tree"))?;
        let Some(upstream) = self.inner.sources.default_upstream() else { return Ok(no_findings()) };
        let mut names = Vec::new();
        collect_names(&tree, &mut names, 0)?;
        let mut ours = std::collections::BTreeSet::new();
        for name in names {
            if self.upstream_of(&name).await?.is_none_or(|own| own.name() != upstream.name()) {
                ours.insert(name);
            }
        }
        // The project's own name says as much as a dependency's.
        tree.insert("name".to_owned(), "audited".into());
        remove_names(&mut tree, &|name| ours.contains(name));
        Ok(upstream.audit(path, Value::Object(tree).to_string().into()).await?)
    }

    /// The upstream that may hear of a name; `None` for names that are ours or that are no names.
    pub(super) async fn upstream_of(&self, text: &str) -> Result<Option<&Upstream>, Error> {
        let Ok(name) = text.parse::<PackageName>() else { return Ok(None) };
        if self.hosted_head(&name).await?.is_some() {
            return Ok(None);
        }
        match self.inner.sources.route(&name) {
            Route::Upstream(upstream) => Ok(Some(upstream)),
            Route::Claimed | Route::Unrouted => Ok(None),
        }
    }
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

/// Takes names out of a tree, at every level; bounded, since the tree was walked before.
fn remove_names(node: &mut Map<String, Value>, is_ours: &dyn Fn(&str) -> bool) {
    node.shift_remove("install");
    node.shift_remove("remove");
    for member in ["requires", "dependencies"] {
        let Some(entries) = node.get_mut(member).and_then(Value::as_object_mut) else { continue };
        entries.retain(|name, _| !is_ours(name));
        for child in entries.values_mut().filter_map(Value::as_object_mut) {
            remove_names(child, is_ours);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_leave_the_tree_at_every_level() {
        let mut tree: Map<String, Value> = serde_json::from_str(
            r#"{"requires":{"a":"1","@acme/x":"1"},"install":["@acme/x@1"],"dependencies":{
                "a":{"version":"1","requires":{"@acme/x":"1"},"dependencies":{"@acme/x":{"version":"1"},"b":{"version":"1"}}},
                "@acme/x":{"version":"1"}}}"#,
        )
        .unwrap();
        let mut names = Vec::new();
        collect_names(&tree, &mut names, 0).unwrap();
        assert!(names.contains(&"b".to_owned()));
        remove_names(&mut tree, &|name| name.starts_with("@acme/"));
        let text = Value::Object(tree).to_string();
        assert!(!text.contains("acme") && text.contains("\"b\""), "{text}");
    }
}
