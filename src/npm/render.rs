//! From a stored or received packument to the bytes that clients get.
//!
//! Tarball URLs are computed here, from the public URL of the moment; what a document says of them is never passed on.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::packument::revision_of;
use super::{Form, PackageName, RawObject, Timestamp};

/// The members of a version that an installer reads, with `libc`, which the public registry
/// leaves out and thereby makes npm ask for full documents.
const INSTALL_MEMBERS: [&str; 21] = [
    "name",
    "version",
    "deprecated",
    "dependencies",
    "acceptDependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "bin",
    "directories",
    "dist",
    "engines",
    "funding",
    "cpu",
    "os",
    "libc",
    "_hasShrinkwrap",
    "hasInstallScript",
];

/// Members of a stored document that nobody outside needs.
const INTERNAL_MEMBERS: [&str; 2] = ["_holdfast", "_attachments"];

/// Where links in a document point.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// The registry's public URL without a trailing slash.
    pub base: &'a str,
    /// The package.
    pub name: &'a PackageName,
}

impl Links<'_> {
    /// The canonical URL of a version's tarball: below the registry's own origin and prefix, as npm 12 demands, and in
    /// the layout that yarn berry and pnpm derive by themselves.
    pub fn tarball(&self, version: &str) -> String {
        format!("{}/{}/-/{}-{version}.tgz", self.base, self.name, self.name.basename())
    }

    fn attestations(&self, version: &str) -> String {
        format!("{}/-/npm/v1/attestations/{}@{version}", self.base, self.name)
    }
}

/// What of a document is offered, where that is not all of it.
pub struct Selection<'a> {
    /// The versions that are left out, by their number.
    pub leaves_out: &'a dyn Fn(&str) -> bool,
    /// The tags as they are offered.
    pub tags: &'a BTreeMap<String, String>,
    /// The date of the newest version that is offered: as far as clients are told, nothing has changed since.
    pub newest: Option<Timestamp>,
    /// Goes into the document as `policyRestrictions`.
    pub restrictions: &'a serde_json::Value,
}

impl Selection<'_> {
    /// Takes what is not offered out of a document: versions, their times, the tags that point to them.
    fn apply(&self, document: &mut RawObject<'_>, versions: &mut RawObject<'_>) -> Result<(), serde_json::Error> {
        versions.retain(|number, _| !(self.leaves_out)(number));
        document.set("dist-tags", self.tags)?;
        let mut time = document.object("time").map(|time| {
            let kept = time.iter().filter(|(number, _)| !(self.leaves_out)(number));
            let mut offered = RawObject::default();
            kept.for_each(|(number, raw)| offered.push_raw(number, raw.to_owned()));
            offered
        });
        if let Some(newest) = self.newest.map(|newest| newest.to_string()) {
            // Texts of one form sort as their instants do.
            if let Some(time) = &mut time
                && time.text("modified").is_some_and(|modified| modified > newest)
            {
                time.put_text("modified", &newest);
            }
            if document.text("modified").is_some_and(|modified| modified > newest) {
                document.put_text("modified", &newest);
            }
        }
        if let Some(time) = time {
            let raw = serde_json::value::to_raw_value(&time)?;
            document.put_raw("time", raw);
        }
        document.set("policyRestrictions", self.restrictions)
    }
}

/// The version number in a tarball's file name, which is `{basename}-{version}.tgz`, or `{scope}/{basename}-{version}.tgz`
/// in old lock files.
pub fn version_in_file_name<'a>(name: &PackageName, file: &'a str) -> Option<&'a str> {
    let file = match file.strip_prefix(name.as_str()) {
        Some(rest) if name.scope().is_some() => rest,
        _ => file.strip_prefix(name.basename())?,
    };
    file.strip_prefix('-')?.strip_suffix(".tgz")
}

/// Renders a whole packument in one form, without what is not offered. Reads its input once.
///
/// # Errors
/// When the input is not a JSON object with `versions` that are objects.
pub fn packument(
    source: &[u8],
    form: Form,
    links: Links<'_>,
    selection: Option<&Selection<'_>>,
) -> Result<Vec<u8>, serde_json::Error> {
    let (document, versions) = RawObject::parse_with(source, "versions")?;
    render(document, versions.unwrap_or_default(), source.len(), form, links, selection)
}

/// As [`packument`], of a hosted document. Clients send its revision back with a change, and an older system wrote none,
/// or another registry's.
///
/// # Errors
/// As [`packument`].
pub fn hosted_packument(
    source: &[u8],
    form: Form,
    links: Links<'_>,
    selection: Option<&Selection<'_>>,
) -> Result<Vec<u8>, serde_json::Error> {
    let (mut document, versions) = RawObject::parse_with(source, "versions")?;
    if form == Form::Full && document.get("_holdfast").is_none() {
        document.put_text("_rev", &revision_of(source));
    }
    render(document, versions.unwrap_or_default(), source.len(), form, links, selection)
}

fn render(
    mut document: RawObject<'_>,
    mut versions: RawObject<'_>,
    source_bytes: usize,
    form: Form,
    links: Links<'_>,
    selection: Option<&Selection<'_>>,
) -> Result<Vec<u8>, serde_json::Error> {
    document.retain(|key, _| key != "versions" && !INTERNAL_MEMBERS.contains(&key));
    if let Some(selection) = selection {
        selection.apply(&mut document, &mut versions)?;
    }
    if form == Form::Abbreviated {
        let modified =
            document.object("time").and_then(|time| time.text("modified")).or_else(|| document.text("modified"));
        document.retain(|key, _| matches!(key, "name" | "dist-tags" | "time" | "policyRestrictions"));
        if let Some(modified) = modified {
            document.put_text("modified", &modified);
        }
    }
    // Half of the input is a fair guess for the short form; growing a little is cheap.
    let mut output = Vec::with_capacity(if form == Form::Full { source_bytes + 1024 } else { source_bytes / 2 });
    serde_json::to_writer(&mut output, &Rendered { document: &document, versions: &versions, form, links })?;
    Ok(output)
}

/// Renders one version, as `GET /{name}/{version}` answers it.
///
/// # Errors
/// When the version is not a JSON object.
pub fn version(number: &str, raw: &RawValue, links: Links<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let mut version: RawObject<'_> = serde_json::from_str(raw.get())?;
    correct(&mut version, number, links)?;
    serde_json::to_vec(&version)
}

struct Rendered<'a> {
    document: &'a RawObject<'a>,
    versions: &'a RawObject<'a>,
    form: Form,
    links: Links<'a>,
}

impl Serialize for Rendered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.document.iter() {
            map.serialize_entry(key, value)?;
        }
        // A wholly unpublished package has no `versions`; clients tell it by that.
        if !self.versions.is_empty() {
            map.serialize_entry("versions", &Versions(self))?;
        }
        map.end()
    }
}

struct Versions<'a>(&'a Rendered<'a>);

impl Serialize for Versions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let Rendered { versions, form, links, .. } = *self.0;
        let mut map = serializer.serialize_map(Some(versions.len()))?;
        for (number, raw) in versions.iter() {
            let mut version: RawObject<'_> = serde_json::from_str(raw.get()).map_err(S::Error::custom)?;
            if form == Form::Abbreviated {
                shorten(&mut version);
            }
            correct(&mut version, number, links).map_err(S::Error::custom)?;
            map.serialize_entry(number, &version)?;
        }
        map.end()
    }
}

/// Leaves what an installer reads, and says whether it must run scripts, which full documents do not say.
fn shorten(version: &mut RawObject<'_>) {
    let has_install_script = version.get("hasInstallScript").is_some_and(|raw| raw.get() == "true")
        || version.get("gypfile").is_some_and(|raw| raw.get() == "true")
        || version.object("scripts").is_some_and(|scripts| {
            ["preinstall", "install", "postinstall"].iter().any(|script| scripts.get(script).is_some())
        });
    // pnpm and deno judge by these how a version came to be.
    let is_trusted = version
        .object("_npmUser")
        .is_some_and(|user| user.get("trustedPublisher").is_some() || user.get("approver").is_some());
    version.retain(|key, _| INSTALL_MEMBERS.contains(&key) || (is_trusted && key == "_npmUser"));
    if has_install_script {
        version.put_raw("hasInstallScript", RawValue::TRUE.to_owned());
    } else {
        version.remove("hasInstallScript");
    }
}

/// Sets what is ours to say in a version, in either form.
fn correct(version: &mut RawObject<'_>, number: &str, links: Links<'_>) -> Result<(), serde_json::Error> {
    // Only the top of a document shows a readme; repeating it in each version has made documents of 40 MB.
    version.remove("readme");
    // Yarn classic warns of an empty text, and some registries write `false`.
    if version.get("deprecated").is_some_and(|raw| !raw.get().starts_with('"') || raw.get() == "\"\"") {
        version.remove("deprecated");
    }
    let mut dist = version.object("dist").unwrap_or_default();
    dist.put_text("tarball", &links.tarball(number));
    if let Some(mut attestations) = dist.object("attestations") {
        attestations.put_text("url", &links.attestations(number));
        let raw = serde_json::value::to_raw_value(&attestations)?;
        dist.put_raw("attestations", raw);
    }
    let raw = serde_json::value::to_raw_value(&dist)?;
    version.put_raw("dist", raw);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const STORED: &str = r#"{"_id":"@a/tool","_rev":"3-x","name":"@a/tool","dist-tags":{"latest":"1.0.0"},
        "time":{"created":"2026-01-01T00:00:00.000Z","modified":"2026-01-02T00:00:00.000Z","1.0.0":"2026-01-01T00:00:00.000Z"},
        "readme":"top","_holdfast":{"tarballs":{}},"_attachments":{"x":{}},
        "versions":{"1.0.0":{"name":"@a/tool","version":"1.0.0","readme":"again","scripts":{"postinstall":"x"},"deprecated":"",
        "custom":1,"libc":["glibc"],"dist":{"integrity":"sha512-x","tarball":"http://evil/x.tgz","attestations":{"url":"http://other/x","provenance":{}}}}}}"#;

    fn rendered(form: Form) -> Value {
        let name: PackageName = "@a/tool".parse().unwrap();
        let links = Links { base: "https://npm.example/base", name: &name };
        serde_json::from_slice(&packument(STORED.as_bytes(), form, links, None).unwrap()).unwrap()
    }

    #[test]
    fn the_full_form_keeps_all_but_our_notes() {
        let document = rendered(Form::Full);
        assert_eq!(document["readme"], "top");
        assert_eq!(document["_rev"], "3-x");
        assert!(document.get("_holdfast").is_none() && document.get("_attachments").is_none());
        let version = &document["versions"]["1.0.0"];
        assert_eq!(version["dist"]["tarball"], "https://npm.example/base/@a/tool/-/tool-1.0.0.tgz");
        assert_eq!(
            version["dist"]["attestations"]["url"],
            "https://npm.example/base/-/npm/v1/attestations/@a/tool@1.0.0"
        );
        assert_eq!(version["custom"], 1);
        assert!(version.get("readme").is_none() && version.get("deprecated").is_none());
    }

    #[test]
    fn the_short_form_has_what_installers_read_and_the_times() {
        let document = rendered(Form::Abbreviated);
        assert_eq!(document["modified"], "2026-01-02T00:00:00.000Z");
        assert_eq!(document["time"]["1.0.0"], "2026-01-01T00:00:00.000Z");
        assert!(document.get("readme").is_none() && document.get("_rev").is_none());
        let version = &document["versions"]["1.0.0"];
        assert_eq!(version["hasInstallScript"], true);
        assert_eq!(version["libc"][0], "glibc");
        assert!(version.get("custom").is_none() && version.get("scripts").is_none());
    }

    #[test]
    fn file_names_in_both_spellings_name_their_version() {
        let scoped: PackageName = "@a/tool".parse().unwrap();
        assert_eq!(version_in_file_name(&scoped, "tool-1.0.0.tgz"), Some("1.0.0"));
        assert_eq!(version_in_file_name(&scoped, "@a/tool-1.0.0.tgz"), Some("1.0.0"));
        assert_eq!(version_in_file_name(&scoped, "other-1.0.0.tgz"), None);
        assert_eq!(version_in_file_name(&scoped, "tool-1.0.0.zip"), None);
        let plain: PackageName = "is-odd".parse().unwrap();
        assert_eq!(version_in_file_name(&plain, "is-odd-1.0.0-rc.1.tgz"), Some("1.0.0-rc.1"));
    }
}
