//! What the address of a tarball, or a dependency's specifier, says of where a package comes from.

use percent_encoding::percent_decode_str;

use crate::npm::{PackageName, Version};

/// Whether this is an address of the web, rather than of git or of a file.
pub(super) fn is_web(address: &str) -> bool {
    let bytes = address.as_bytes();
    [&b"http://"[..], b"https://"]
        .iter()
        .any(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// The package whose tarball a registry has at this address. `name` and `version` are what the lockfile calls it.
///
/// Registries have tarballs where [`told_by`] looks. Some have them at `…/{name}/{version}/…` or
/// `…/{name}/{version}.tgz`, which counts only for the lockfile's own pair. None for any other address: an archive of
/// a repository, or a file that somebody offers.
pub(super) fn package_at(address: &str, name: &PackageName, version: &Version) -> Option<(PackageName, Version)> {
    if let Some((name, told)) = told_by(address) {
        return Some((name, told.unwrap_or_else(|| version.clone())));
    }
    let (start, path) = (format!("/{name}/{version}"), path(address)?);
    let follows = |at: usize| matches!(&path[at + start.len()..], rest if rest == ".tgz" || rest.starts_with('/'));
    path.match_indices(&start).any(|(at, _)| follows(at)).then(|| (name.clone(), version.clone()))
}

/// The package of an address `…/{name}/-/{file}.tgz`, and its version where the file is
/// `{name without scope}-{version}`, as npm writes it. Some registries put the scope before the file too.
pub(super) fn told_by(address: &str) -> Option<(PackageName, Option<Version>)> {
    let path = path(address)?;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let dash = segments.iter().rposition(|segment| *segment == "-")?;
    let file = match segments.get(dash + 1..)? {
        [file] => file,
        [scope, file] if scope.starts_with('@') => file,
        _ => return None,
    };
    let file = file.strip_suffix(".tgz")?;
    let name = match segments.get(..dash)? {
        [.., scope, name] if scope.starts_with('@') => format!("{scope}/{name}"),
        [.., name] => (*name).to_owned(),
        [] => return None,
    };
    let name: PackageName = name.parse().ok()?;
    let version = file.strip_prefix(name.basename()).and_then(|rest| rest.strip_prefix('-'));
    let version = version.and_then(|version| version.parse().ok());
    Some((name, version))
}

/// The path of a web address, decoded, with the slash at its start.
fn path(address: &str) -> Option<String> {
    let (_, path) = address.split(['#', '?']).next()?.split_once("://")?.1.split_once('/')?;
    Some(format!("/{}", percent_decode_str(path).decode_utf8().ok()?))
}

/// Why something is no package of a registry, told from its address or from what stands for a version.
pub(super) fn why_no_registry(source: &str) -> &'static str {
    let is = |starts: &[&str]| starts.iter().any(|start| source.starts_with(start));
    if is(&["git+", "git:", "git@", "ssh:", "github:", "gitlab:", "bitbucket:", "gist:"]) || is_repository(source) {
        GIT
    } else if is(&["link:", "portal:"]) {
        LINK
    } else if is(&["file:", "./", "../", "/", "~/"]) || source == "." {
        FOLDER
    } else if is(&["workspace:", "root:"]) {
        WORKSPACE
    } else if is_web(source) {
        ELSEWHERE
    } else if is(&["exec:"]) {
        "a program of the project makes it"
    } else if is(&["runtime:"]) {
        "it is a runtime and comes from its maker"
    } else {
        NOT_READ
    }
}

/// A web address of a repository: of its commit, or of an archive at a well-known host.
fn is_repository(source: &str) -> bool {
    is_web(source)
        && (source.contains(".git#")
            || source.strip_suffix(".git").is_some()
            || source.contains("#commit=")
            || source.contains("//codeload.github.com/"))
}

pub(super) const ELSEWHERE: &str = "its tarball is at an address that is no registry's";
pub(super) const LINK: &str = "it is a link to a folder";
pub(super) const WORKSPACE: &str = "it is a package of the project itself";
pub(super) const GIT: &str = "it comes from a git repository";
pub(super) const FOLDER: &str = "it is a file or folder of the project";
pub(super) const BUNDLED: &str = "it is bundled in the tarball of another package";
/// The package may be of a registry, but which one it is was not told.
pub const NOT_READ: &str = "its name or version could not be read, so it was not looked at";
