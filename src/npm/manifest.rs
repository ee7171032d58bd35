//! Whether what a client publishes of a version is what its tarball says.
//!
//! Clients resolve dependencies from the published document and run scripts from the tarball's `package.json`. A
//! publisher who lets the two differ hides one from whoever reads the other ("manifest confusion"). Clients do change
//! the manifest on its way into the document, so both sides are brought to one form first. What each rule answers to
//! stands with it; the sources are `read-package-json` and `normalize-package-data` (npm 6 to 9), `@npmcli/package-json`
//! (npm 10 and later), `normalize-manifest` of yarn classic, `beforeWorkspacePacking` of yarn berry and
//! `exportable-manifest` of pnpm.
//!
//! `devDependencies` are not compared: nobody who installs the package gets them, and several tools strip them.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::version::Version;

/// Scripts that run for whoever installs the package from a registry.
const INSTALL_SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// Scripts that run only where the package is made. pnpm leaves them out of what it publishes, and so do tools that
/// clean `package.json` up while packing.
const PUBLISHING_SCRIPTS: [&str; 7] =
    ["prepublish", "prepublishOnly", "prepack", "prepare", "postpack", "publish", "postpublish"];

/// A field in which document and tarball differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `name`.
    Name,
    /// `version`.
    Version,
    /// `dependencies`.
    Dependencies,
    /// `optionalDependencies`.
    OptionalDependencies,
    /// `peerDependencies`.
    PeerDependencies,
    /// `scripts`.
    Scripts,
    /// `bin`.
    Bin,
}

impl Field {
    /// As in `package.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Version => "version",
            Self::Dependencies => "dependencies",
            Self::OptionalDependencies => "optionalDependencies",
            Self::PeerDependencies => "peerDependencies",
            Self::Scripts => "scripts",
            Self::Bin => "bin",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first field in which a published version and the `package.json` in its tarball disagree; `None` when they say
/// the same.
///
/// `published` is the version's object in the publish document, `packed` the tarball's manifest.
pub fn disagreement(published: &Map<String, Value>, packed: &Map<String, Value>) -> Option<Field> {
    let published_maps = dependency_maps(published);
    let packed_maps = dependency_maps(packed);
    let checks = [
        (Field::Name, names_agree(published, packed)),
        (Field::Version, versions_agree(published, packed)),
        (Field::OptionalDependencies, published_maps.optional == packed_maps.optional),
        (Field::Dependencies, dependencies_agree(&published_maps, &packed_maps, packed)),
        (Field::PeerDependencies, published_maps.peer == packed_maps.peer),
        (Field::Scripts, scripts_agree(published, packed)),
        (Field::Bin, bins_agree(published, packed)),
    ];
    checks.into_iter().find(|(_, agree)| !agree).map(|(field, _)| field)
}

/// Whether installing the version runs a script: what `hasInstallScript` of the abbreviated document says.
///
/// To be asked of the tarball's manifest, which is the one whose scripts run. npm runs `node-gyp` for a root
/// `binding.gyp` unless the manifest has its own `install` or `preinstall`, or `gypfile` is false.
pub fn has_install_script(manifest: &Map<String, Value>, has_binding_gyp: bool) -> bool {
    let scripts = manifest.get("scripts").and_then(Value::as_object);
    let has = |name: &str| {
        scripts.and_then(|scripts| scripts.get(name)).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    };
    // With an `install` or `preinstall` the answer is yes already, so only `gypfile` is left to ask.
    INSTALL_SCRIPTS.into_iter().any(has) || has_binding_gyp && manifest.get("gypfile") != Some(&Value::Bool(false))
}

/// What a manifest depends on, name to range, each in one form whichever client wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DependencyMaps {
    /// `dependencies` as written, which may repeat optional ones: see [`Self::required`].
    pub dependencies: BTreeMap<String, String>,
    /// `optionalDependencies`.
    pub optional: BTreeMap<String, String>,
    /// `peerDependencies`.
    pub peer: BTreeMap<String, String>,
}

impl DependencyMaps {
    /// Dependencies without which an install fails. An entry in both maps is optional to every client; npm up to 9
    /// copies the optional ones into `dependencies`.
    pub fn required(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dependencies
            .iter()
            .filter(|(name, _)| !self.optional.contains_key(*name))
            .map(|(name, range)| (name.as_str(), range.as_str()))
    }
}

/// The dependencies of a manifest, published or packed. Entries whose range is not a text are left out, as npm does.
pub fn dependency_maps(manifest: &Map<String, Value>) -> DependencyMaps {
    let map = |field: Field| manifest.get(field.as_str()).map(dependency_map).unwrap_or_default();
    DependencyMaps {
        dependencies: map(Field::Dependencies),
        optional: map(Field::OptionalDependencies),
        peer: map(Field::PeerDependencies),
    }
}

fn dependency_map(value: &Value) -> BTreeMap<String, String> {
    match value {
        Value::Object(map) => map
            .iter()
            // Yarn classic drops `//`, which people use as a comment; it is no package name.
            .filter(|(name, _)| *name != "//")
            .filter_map(|(name, range)| Some((name.clone(), canonical_range(range.as_str()?))))
            .collect(),
        // npm makes an object of a list of `name@range`, or of such a list in one text.
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(split_dependency).collect(),
        Value::String(text) => {
            text.split([' ', '\t', '\n', '\r', ',']).filter(|item| !item.is_empty()).map(split_dependency).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// `name@range`, `name range` or `name>=1`, as `normalize-package-data` splits it.
fn split_dependency(text: &str) -> (String, String) {
    let text = text.trim();
    let at = text.find(|c: char| matches!(c, '@' | '>' | '<' | '=') || c.is_whitespace()).unwrap_or(text.len());
    let (name, range) = text.split_at(at);
    (name.trim_end_matches(':').to_owned(), canonical_range(range.strip_prefix('@').unwrap_or(range).trim()))
}

/// A range, or a place on a git host in the spelling of `hosted-git-info`, into which npm rewrites `dependencies`.
fn canonical_range(text: &str) -> String {
    let text = text.trim();
    hosted_git(text).unwrap_or_else(|| text.to_owned())
}

/// `user/repository`, `github:user/repository`, `git@host:…` and the URLs of the three large hosts, each brought to
/// the form that npm writes. The way of access stays part of it, since `git:` is not `https:`.
fn hosted_git(text: &str) -> Option<String> {
    const HOSTS: [(&str, &str); 3] =
        [("github", "github.com"), ("gitlab", "gitlab.com"), ("bitbucket", "bitbucket.org")];
    let (place, committish) = match text.split_once('#') {
        Some((place, committish)) => (place, format!("#{committish}")),
        None => (text, String::new()),
    };
    let without_git = |path: &str| path.strip_suffix(".git").unwrap_or(path).to_owned();
    if let Some((shortcut, path)) = HOSTS.iter().find_map(|(shortcut, _)| {
        Some((shortcut, place.strip_prefix(shortcut)?.strip_prefix(':')?)).filter(|(_, path)| path.contains('/'))
    }) {
        return Some(format!("{shortcut}:{}{committish}", without_git(path)));
    }
    let is_path = |path: &str| {
        path.split_once('/').is_some_and(|(user, project)| {
            !user.is_empty() && !project.is_empty() && !user.starts_with('.') && !project.contains('/')
        })
    };
    if is_path(place) && !place.contains([':', '@', ' ', '\t']) {
        return Some(format!("github:{}{committish}", without_git(place)));
    }
    let (protocol, rest) = match place.split_once("://") {
        Some((protocol, rest)) => (protocol, rest.to_owned()),
        // The form of scp: `git@host:user/repository.git`.
        None => ("ssh", place.strip_prefix("git+ssh:").unwrap_or(place).replacen(':', "/", 1)),
    };
    let protocol = match protocol {
        "ssh" | "git+ssh" => "git+ssh",
        "https" | "git+https" => "git+https",
        "git" => "git",
        _ => return None,
    };
    let (host, path) = rest.split_once('/')?;
    let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    let host = host.strip_prefix("www.").unwrap_or(host);
    if !HOSTS.iter().any(|(_, domain)| *domain == host) {
        return None;
    }
    let user = match (protocol, user) {
        ("git+ssh", _) => "git@".to_owned(),
        (_, Some(user)) => format!("{user}@"),
        (_, None) => String::new(),
    };
    let path = path.trim_end_matches('/');
    // `/tree/branch` is the web page of a branch; other longer paths are archives and no repositories.
    let (path, committish) = match path.split_once("/tree/") {
        Some((path, branch)) if committish.is_empty() => (path, format!("#{branch}")),
        _ => (path, committish),
    };
    is_path(path).then(|| format!("{protocol}://{user}{host}/{}.git{committish}", without_git(path)))
}

fn names_agree(published: &Map<String, Value>, packed: &Map<String, Value>) -> bool {
    // npm trims the name of a manifest that it does not check strictly.
    let name =
        |manifest: &Map<String, Value>| manifest.get("name").and_then(Value::as_str).map(|name| name.trim().to_owned());
    name(published).is_some() && name(published) == name(packed)
}

fn versions_agree(published: &Map<String, Value>, packed: &Map<String, Value>) -> bool {
    // `semver.clean`: white space and a leading `v` or `=` go, and so does build metadata.
    let version = |manifest: &Map<String, Value>| {
        let text = manifest.get("version")?.as_str()?;
        let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, 'v' | '='));
        text.parse::<Version>().ok()
    };
    version(published).is_some() && version(published) == version(packed)
}

fn dependencies_agree(published: &DependencyMaps, packed: &DependencyMaps, manifest: &Map<String, Value>) -> bool {
    // The optional maps are equal when this is asked, or the answer is a disagreement anyway.
    let published_only_as_packed = published.dependencies.iter().all(|(name, range)| {
        packed.dependencies.get(name) == Some(range)
            || packed.optional.get(name) == Some(range)
            || !packed.dependencies.contains_key(name) && is_filled_in(manifest, name, range)
    });
    let packed_is_published = packed
        .dependencies
        .iter()
        .all(|(name, range)| published.dependencies.get(name) == Some(range) || packed.optional.contains_key(name));
    published_only_as_packed && packed_is_published
}

/// Entries of `dependencies` that a client makes up: `*` for a bundled package that is no dependency (npm up to 9), and
/// an empty range where the manifest has `null` (yarn classic).
fn is_filled_in(packed: &Map<String, Value>, name: &str, range: &str) -> bool {
    let is_bundled = ["bundleDependencies", "bundledDependencies"].into_iter().any(|field| {
        packed.get(field).and_then(Value::as_array).is_some_and(|names| names.iter().any(|bundled| bundled == name))
    });
    let is_null = || packed.get("dependencies").and_then(|map| map.get(name)).is_some_and(Value::is_null);
    range == "*" && is_bundled || range.is_empty() && is_null()
}

fn scripts_agree(published: &Map<String, Value>, packed: &Map<String, Value>) -> bool {
    let published = scripts(published);
    let packed = scripts(packed);
    let is_added = |name: &str, text: &str| match name {
        // For a root `*.gyp` and a `server.js`, by npm and yarn classic. Neither text can do harm that the same files
        // in the tarball would not do without it.
        "install" => text == "node-gyp rebuild",
        "start" => text == "node server.js",
        name => PUBLISHING_SCRIPTS.contains(&name),
    };
    let published_is_packed = published.iter().all(|(name, text)| match packed.get(name) {
        Some(other) => text == other,
        None => is_added(name, text),
    });
    published_is_packed
        && packed.keys().all(|name| published.contains_key(name) || PUBLISHING_SCRIPTS.contains(&name.as_str()))
}

/// The scripts that are texts, without the `node_modules/.bin/` before a command that npm takes away.
fn scripts(manifest: &Map<String, Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(scripts)) = manifest.get("scripts") else { return BTreeMap::new() };
    scripts
        .iter()
        .filter_map(|(name, text)| {
            let text = text.as_str()?;
            Some((name.clone(), without_bin_path(text).unwrap_or(text).to_owned()))
        })
        .collect()
}

fn without_bin_path(text: &str) -> Option<&str> {
    let slash = ['/', '\\'];
    let text = text.strip_prefix('.').and_then(|rest| rest.strip_prefix(slash)).unwrap_or(text);
    // npm's own pattern has an unescaped dot here; nobody writes anything else.
    text.strip_prefix("node_modules")?.strip_prefix(slash)?.strip_prefix(".bin")?.strip_prefix(slash)
}

/// The commands that a manifest installs, command to file, whichever client wrote it. For the document that is stored:
/// bun 1.4 leaves the scope in the command's name, others leave `bin` a text.
pub fn bins(manifest: &Map<String, Value>) -> BTreeMap<String, String> {
    manifest.get("bin").map(|value| bin(manifest, value)).unwrap_or_default()
}

fn bins_agree(published: &Map<String, Value>, packed: &Map<String, Value>) -> bool {
    let found = bins(published);
    let expected = bins(packed);
    if found == expected {
        return true;
    }
    // pnpm and yarn berry put `publishConfig.bin` in the place of `bin` while packing.
    if let Some(overridden) = packed.get("publishConfig").and_then(|config| config.get("bin"))
        && found == bin(packed, overridden)
    {
        return true;
    }
    // npm and yarn classic list the files of `directories.bin`, which the manifest cannot tell.
    if let Some(Value::String(folder)) = packed.get("directories").and_then(|directories| directories.get("bin"))
        && expected.is_empty()
    {
        let folder = clean_path(folder);
        return found.iter().all(|(command, file)| {
            let inside = if folder.is_empty() { Some(file.as_str()) } else { file.strip_prefix(folder.as_str()) };
            inside.is_some_and(|rest| folder.is_empty() || rest.starts_with('/')) && base_name(file) == command
        });
    }
    // Yarn classic leaves out what it finds unfit: names with unusual characters, and files outside of the package.
    let is_fit = |command: &str| {
        command.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && !matches!(command, "" | "." | "..")
    };
    let is_outside = |file: &str| file.starts_with(['/', '\\']) || file.starts_with("..");
    let dropped_by_yarn = |command: &str| match packed.get("bin") {
        Some(Value::Object(map)) => map.iter().any(|(key, file)| {
            base_name(&clean_path(key)) == command && (!is_fit(key) || file.as_str().is_some_and(is_outside))
        }),
        _ => false,
    };
    found.iter().all(|(command, file)| expected.get(command) == Some(file))
        && expected.keys().all(|command| found.contains_key(command) || dropped_by_yarn(command))
}

/// `bin` as `npm-normalize-package-bin` makes it: a text gets the package's name without its scope, a list the names of
/// its files; names lose their folders; paths become relative to the package.
fn bin(manifest: &Map<String, Value>, value: &Value) -> BTreeMap<String, String> {
    let clean = |command: &str, file: &str| {
        let command = clean_path(command);
        let (command, file) = (base_name(&command).to_owned(), clean_path(file));
        (!command.is_empty() && !file.is_empty()).then_some((command, file))
    };
    match value {
        Value::String(file) => {
            let name = manifest.get("name").and_then(Value::as_str).unwrap_or_default().trim();
            clean(name, file).into_iter().collect()
        }
        Value::Array(files) => {
            files.iter().filter_map(Value::as_str).filter_map(|file| clean(base_name(file), file)).collect()
        }
        Value::Object(map) => map.iter().filter_map(|(command, file)| clean(command, file.as_str()?)).collect(),
        _ => BTreeMap::new(),
    }
}

/// A path as npm's `secureAndUnixifyPath` leaves it: forward slashes, no `.`, no `..`, nothing that leads out.
fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split(['/', '\\', ':']) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    /// Both with a name and a version, unless they have their own.
    fn compare(published: Value, packed: Value) -> Option<Field> {
        let complete = |value| {
            let mut map = object(json!({ "name": "@acme/tool", "version": "1.0.0" }));
            map.extend(object(value));
            map
        };
        disagreement(&complete(published), &complete(packed))
    }

    #[test]
    fn what_clients_do_to_a_manifest_is_tolerated() {
        for (who, published, packed) in [
            ("nothing", json!({}), json!({})),
            ("npm: name trimmed", json!({}), json!({ "name": " @acme/tool " })),
            ("npm: leading v", json!({}), json!({ "version": "v1.0.0" })),
            ("npm: leading = and space", json!({}), json!({ "version": " =v1.0.0 " })),
            ("npm: build metadata", json!({}), json!({ "version": "1.0.0+build.5" })),
            ("bun: build metadata kept", json!({ "version": "1.0.0+b" }), json!({ "version": "1.0.0+b" })),
            (
                "any: empty maps",
                json!({}),
                json!({ "dependencies": {}, "scripts": {}, "bin": {}, "peerDependencies": {} }),
            ),
            ("any: empty maps", json!({ "dependencies": {}, "optionalDependencies": {} }), json!({})),
            ("npm: nonsense removed", json!({}), json!({ "dependencies": 1, "scripts": "x", "bin": 1 })),
            (
                "npm: entries that are no texts",
                json!({}),
                json!({ "dependencies": { "a": 1 }, "scripts": { "a": [] } }),
            ),
            (
                "npm 6 to 9: optional copied into dependencies",
                json!({ "dependencies": { "a": "1", "b": "2" }, "optionalDependencies": { "b": "2" } }),
                json!({ "dependencies": { "a": "1" }, "optionalDependencies": { "b": "2" } }),
            ),
            (
                "npm 6 to 9: the copy overrides",
                json!({ "dependencies": { "b": "2" }, "optionalDependencies": { "b": "2" } }),
                json!({ "dependencies": { "b": "1" }, "optionalDependencies": { "b": "2" } }),
            ),
            (
                "npm 10: optional removed from dependencies",
                json!({ "optionalDependencies": { "b": "2" } }),
                json!({ "dependencies": { "b": "2" }, "optionalDependencies": { "b": "2" } }),
            ),
            (
                "npm 6 to 9: bundled packages become dependencies",
                json!({ "dependencies": { "a": "*" }, "bundleDependencies": ["a"] }),
                json!({ "bundledDependencies": ["a"] }),
            ),
            (
                "npm: a list of dependencies",
                json!({ "dependencies": { "a": "^1", "b": ">=2", "c": "", "d": "3" } }),
                json!({ "dependencies": ["a@^1", "b>=2", "c", "d 3"] }),
            ),
            (
                "npm: a text of dependencies",
                json!({ "dependencies": { "a": "^1", "b": "2" } }),
                json!({ "dependencies": "a@^1, b@2" }),
            ),
            ("yarn classic: comment", json!({ "dependencies": {} }), json!({ "dependencies": { "//": "why" } })),
            ("yarn classic: null", json!({ "dependencies": { "a": "" } }), json!({ "dependencies": { "a": null } })),
            (
                "npm: git hosts",
                json!({ "dependencies": {
                    "a": "github:u/r", "b": "git+ssh://git@github.com/u/r.git#v1", "c": "git+https://github.com/u/r.git",
                    "d": "git+https://gitlab.com/u/r.git#main", "e": "git://github.com/u/r.git", "f": "bitbucket:u/r#x"
                } }),
                json!({ "dependencies": {
                    "a": "u/r", "b": "git@github.com:u/r.git#v1", "c": "https://github.com/u/r",
                    "d": "https://www.gitlab.com/u/r/tree/main", "e": "git://github.com/u/r", "f": "bitbucket:u/r.git#x"
                } }),
            ),
            (
                "npm: implicit install",
                json!({ "scripts": { "install": "node-gyp rebuild" }, "gypfile": true }),
                json!({}),
            ),
            (
                "yarn classic: implicit install beside preinstall",
                json!({ "scripts": { "preinstall": "x", "install": "node-gyp rebuild" } }),
                json!({ "scripts": { "preinstall": "x" } }),
            ),
            ("npm: implicit start", json!({ "scripts": { "start": "node server.js" } }), json!({})),
            (
                "npm: path of a command",
                json!({ "scripts": { "a": "mocha x", "b": "tsc" } }),
                json!({ "scripts": { "a": "./node_modules/.bin/mocha x", "b": "node_modules\\.bin\\tsc" } }),
            ),
            (
                "pnpm: publishing scripts left out",
                json!({ "scripts": { "test": "x" } }),
                json!({ "scripts": { "test": "x", "prepare": "y", "prepublishOnly": "z", "prepack": "p" } }),
            ),
            ("clean-up while packing", json!({ "scripts": { "prepare": "y", "postpack": "z" } }), json!({})),
            ("npm: bin of a text", json!({ "bin": { "tool": "cli.js" } }), json!({ "bin": "./cli.js" })),
            ("npm: bin of a list", json!({ "bin": { "a.js": "bin/a.js" } }), json!({ "bin": ["./bin/a.js"] })),
            (
                "npm: paths and names cleaned",
                json!({ "bin": { "a": "bin/a.js", "b": "b.js" } }),
                json!({ "bin": { "@x/a": "/bin//a.js", "b": "../b.js", "c": 1, "d": "" } }),
            ),
            (
                "bun: scope kept in the command",
                json!({ "bin": { "@acme/tool": "cli.js" } }),
                json!({ "bin": "./cli.js" }),
            ),
            ("berry: bin as it is", json!({ "bin": "./cli.js" }), json!({ "bin": "./cli.js" })),
            (
                "npm: directories.bin",
                json!({ "bin": { "a": "bin/a", "b.js": "bin/sub/b.js" } }),
                json!({ "directories": { "bin": "./bin" } }),
            ),
            ("berry: directories.bin left alone", json!({}), json!({ "directories": { "bin": "bin" } })),
            (
                "pnpm and berry: publishConfig.bin",
                json!({ "bin": { "tool": "dist/cli.js" } }),
                json!({ "bin": "src/cli.ts", "publishConfig": { "bin": { "tool": "./dist/cli.js" } } }),
            ),
            (
                "pnpm and berry: publishConfig of fields that are not compared",
                json!({ "main": "dist/index.js", "exports": "./dist/index.js" }),
                json!({ "main": "src/index.ts", "publishConfig": { "main": "dist/index.js" } }),
            ),
            (
                "yarn classic: unfit commands left out",
                json!({ "bin": { "ok": "ok.js" } }),
                json!({ "bin": { "ok": "ok.js", "a b": "a.js", "c": "/c.js", "d": "../d.js" } }),
            ),
            (
                "any: devDependencies",
                json!({ "devDependencies": { "a": "1" } }),
                json!({ "devDependencies": { "b": "1" } }),
            ),
            ("any: what registries add", json!({ "_id": "x", "dist": {}, "readme": "", "gitHead": "x" }), json!({})),
        ] {
            assert_eq!(compare(published, packed), None, "{who}");
        }
    }

    #[test]
    fn manifest_confusion_is_refused() {
        use Field::{Bin, Dependencies, Name, OptionalDependencies, PeerDependencies, Scripts, Version};
        for (field, published, packed) in [
            (Name, json!({}), json!({ "name": "tool" })),
            (Name, json!({}), json!({ "name": "@acme/Tool" })),
            (Name, json!({}), json!({ "name": null })),
            (Name, json!({ "name": 1 }), json!({ "name": 1 })),
            (Version, json!({}), json!({ "version": "1.0.1" })),
            (Version, json!({}), json!({ "version": "1.0.0-beta" })),
            (Version, json!({ "version": "latest" }), json!({ "version": "latest" })),
            (Dependencies, json!({}), json!({ "dependencies": { "a": "1" } })),
            (Dependencies, json!({ "dependencies": { "a": "1" } }), json!({})),
            (Dependencies, json!({ "dependencies": { "a": "1" } }), json!({ "dependencies": { "a": "2" } })),
            (Dependencies, json!({ "dependencies": { "a": "*" } }), json!({ "dependencies": { "b": "1" } })),
            (Dependencies, json!({ "dependencies": { "a": "" } }), json!({})),
            (
                Dependencies,
                json!({ "dependencies": { "a": "*" } }),
                json!({ "dependencies": { "a": "1" }, "bundleDependencies": ["a"] }),
            ),
            (Dependencies, json!({ "dependencies": { "a": "evil/r" } }), json!({ "dependencies": { "a": "u/r" } })),
            (Dependencies, json!({ "dependencies": { "a": "u/r#2" } }), json!({ "dependencies": { "a": "u/r#1" } })),
            (
                Dependencies,
                json!({ "dependencies": { "a": "git://github.com/u/r" } }),
                json!({ "dependencies": { "a": "https://github.com/u/r" } }),
            ),
            (Dependencies, json!({ "dependencies": { "a": "gitlab:u/r" } }), json!({ "dependencies": { "a": "u/r" } })),
            (
                Dependencies,
                json!({ "dependencies": { "b": "666" }, "optionalDependencies": { "b": "2" } }),
                json!({ "optionalDependencies": { "b": "2" } }),
            ),
            // Required in the tarball, optional in the document, and the other way round.
            (
                OptionalDependencies,
                json!({ "optionalDependencies": { "a": "1" } }),
                json!({ "dependencies": { "a": "1" } }),
            ),
            (
                OptionalDependencies,
                json!({ "dependencies": { "a": "1" } }),
                json!({ "optionalDependencies": { "a": "1" } }),
            ),
            (OptionalDependencies, json!({}), json!({ "optionalDependencies": { "a": "1" } })),
            (PeerDependencies, json!({}), json!({ "peerDependencies": { "a": "1" } })),
            (
                PeerDependencies,
                json!({ "peerDependencies": { "a": "2" } }),
                json!({ "peerDependencies": { "a": "1" } }),
            ),
            (Scripts, json!({}), json!({ "scripts": { "postinstall": "node evil.js" } })),
            (Scripts, json!({}), json!({ "scripts": { "install": "node-gyp rebuild" } })),
            (Scripts, json!({ "scripts": { "install": "node evil.js" } }), json!({})),
            (
                Scripts,
                json!({ "scripts": { "install": "node-gyp rebuild" } }),
                json!({ "scripts": { "install": "evil" } }),
            ),
            (Scripts, json!({ "scripts": { "postinstall": "node-gyp rebuild" } }), json!({})),
            (Scripts, json!({ "scripts": { "prepare": "x" } }), json!({ "scripts": { "prepare": "y" } })),
            (Scripts, json!({ "scripts": { "test": "x" } }), json!({ "scripts": { "test": "y" } })),
            (Scripts, json!({ "scripts": { "test": "x" } }), json!({})),
            (Bin, json!({}), json!({ "bin": "cli.js" })),
            (Bin, json!({ "bin": { "npm": "cli.js" } }), json!({ "bin": "cli.js" })),
            (Bin, json!({ "bin": { "tool": "evil.js" } }), json!({ "bin": "cli.js" })),
            (Bin, json!({ "bin": { "tool": "cli.js", "ls": "cli.js" } }), json!({ "bin": "cli.js" })),
            (Bin, json!({ "bin": { "a": "x.js" } }), json!({ "directories": { "bin": "bin" } })),
            (Bin, json!({ "bin": { "a": "binary/a" } }), json!({ "directories": { "bin": "bin" } })),
            (Bin, json!({ "bin": { "ls": "bin/a" } }), json!({ "directories": { "bin": "bin" } })),
            (Bin, json!({ "bin": { "a": "a" } }), json!({ "bin": "b", "publishConfig": { "bin": "c" } })),
        ] {
            assert_eq!(compare(published.clone(), packed.clone()), Some(field), "{published} and {packed}");
        }
    }

    #[test]
    fn install_scripts_are_told_from_the_manifest() {
        for (expected, manifest, has_binding_gyp) in [
            (false, json!({}), false),
            (false, json!({ "scripts": { "test": "x", "prepare": "x", "install": "", "postinstall": 1 } }), false),
            (true, json!({ "scripts": { "preinstall": "x" } }), false),
            (true, json!({ "scripts": { "install": "x" } }), false),
            (true, json!({ "scripts": { "postinstall": "x" } }), false),
            (true, json!({}), true),
            (true, json!({ "gypfile": true }), true),
            (false, json!({ "gypfile": false }), true),
            (true, json!({ "gypfile": false, "scripts": { "install": "x" } }), true),
        ] {
            assert_eq!(has_install_script(&object(manifest.clone()), has_binding_gyp), expected, "{manifest}");
        }
    }

    #[test]
    fn a_dependency_in_both_maps_is_optional() {
        let maps = dependency_maps(&object(json!({
            "dependencies": { "a": "1", "b": "2" }, "optionalDependencies": { "b": "2" }, "peerDependencies": ["c@3"]
        })));
        assert_eq!(maps.required().collect::<Vec<_>>(), [("a", "1")]);
        assert_eq!(maps.peer, BTreeMap::from([("c".to_owned(), "3".to_owned())]));
    }

    fn any_map() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-c]", "[a-c./:@#\\\\]{0,12}", ".{0,8}", Just("git@github.com:u/r.git".to_owned())];
        let leaf = prop_oneof![text.clone().prop_map(Value::from), Just(Value::Null), Just(json!(1))];
        prop_oneof![
            leaf.clone(),
            prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((text, leaf), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn a_manifest_agrees_with_itself(values in prop::collection::vec(any_map(), 5)) {
            let fields = ["dependencies", "optionalDependencies", "peerDependencies", "scripts", "bin"];
            let manifest: Map<String, Value> = fields.into_iter().map(str::to_owned).zip(values).collect();
            prop_assert_eq!(compare(Value::Object(manifest.clone()), Value::Object(manifest)), None);
        }

        #[test]
        fn canonical_ranges_stay_as_they_are(text in "(git\\+|)(ssh|https|git|)(://|:|)(git@|)(github.com|github|)[:/]?[a-c]?/?[a-c]?(.git)?(#x)?") {
            let once = canonical_range(&text);
            prop_assert_eq!(canonical_range(&once), once);
        }
    }
}
