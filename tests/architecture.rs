//! The import rules of `ARCHITECTURE.md`, "Who may use whom", against what the code uses. The tables there are the
//! data: this test has no list of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test fails the test, and says why")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Table = BTreeMap<String, BTreeSet<String>>;

/// The rows of the table below a heading: the names in backquotes of the first cell, and of the second.
fn table(heading: &str) -> Table {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no `{heading}`")).1;
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let names = |text: &str| text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
    let rows = lines.map(|line| line.split('|').skip(1).take(2).flat_map(names).collect::<Vec<_>>());
    rows.filter(|row| !row.is_empty()).map(|row| (row[0].clone(), row[1..].iter().cloned().collect())).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Each source file, by its path below `src`, without comments and without its tests.
fn sources() -> BTreeMap<String, String> {
    let (src, mut found, mut folders) = (root().join("src"), BTreeMap::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.insert(path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), code.join("\n"));
            }
        }
    }
    found
}

/// `storage` for `storage/local.rs`, `keys` for `keys.rs`.
fn module_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Where a path that begins with these segments stands in the code, each time with what follows it.
fn paths<'a>(code: &'a str, start: &str) -> Vec<&'a str> {
    let is_start = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$'));
    let is_end = |at: usize| !code[at..].starts_with(|c: char| c.is_alphanumeric() || c == '_') || start.ends_with(':');
    let found = code.match_indices(start).filter(|(at, _)| is_start(*at) && is_end(at + start.len()));
    found.map(|(at, _)| &code[at + start.len()..]).collect()
}

fn word(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap()
}

/// Our modules that a file names: `crate::a::…` and `crate::{a, b::…}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for after in paths(code, "crate::") {
        let Some(group) = after.strip_prefix('{') else {
            names.insert(word(after).to_owned());
            continue;
        };
        let (mut depth, mut wanted) = (1, true);
        for (at, letter) in group.char_indices() {
            depth = depth + usize::from(letter == '{') - usize::from(letter == '}');
            if depth == 0 {
                break;
            }
            if depth == 1 && wanted && letter.is_alphabetic() {
                names.insert(word(&group[at..]).to_owned());
                wanted = false;
            }
            wanted |= depth == 1 && letter == ',';
        }
    }
    names
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let allowed = table("### Of our own modules");
    let (mut broken, mut seen) = (Vec::new(), Table::new());
    for (file, code) in sources() {
        let module = module_of(&file);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(for_module) = allowed.get(module) else {
            broken.push(format!("src/{file}: the module `{module}` has no row"));
            continue;
        };
        for name in used(&code).into_iter().filter(|name| name != module) {
            // A file may have a row of its own, for what it alone may use.
            if allowed.get(&file).is_some_and(|for_file| for_file.contains(&name)) {
                seen.entry(file.clone()).or_default().insert(name);
            } else if for_module.contains(&name) {
                seen.entry(module.to_owned()).or_default().insert(name);
            } else {
                broken.push(format!("src/{file} uses `{name}`, which the row of `{module}` does not allow"));
            }
        }
    }
    for (row, names) in &allowed {
        for name in names.iter().filter(|name| !seen.get(row).is_some_and(|used| used.contains(*name))) {
            broken.push(format!("the row of `{row}` allows `{name}`, which it does not use: take it out"));
        }
    }
    assert!(broken.is_empty(), "ARCHITECTURE.md, \"Of our own modules\":\n  {}", broken.join("\n  "));
}

#[test]
fn modules_name_no_crate_that_is_not_theirs() {
    let forbidden = table("### Of crates and the standard library");
    let mut broken = Vec::new();
    for (file, code) in sources() {
        for name in forbidden.get(module_of(&file)).into_iter().flatten() {
            if !paths(&code, &format!("{name}::")).is_empty() || !paths(&code, &format!("use {name};")).is_empty() {
                broken.push(format!("src/{file} names `{name}`, which the row of `{}` forbids", module_of(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "ARCHITECTURE.md, \"Of crates and the standard library\":\n  {}", broken.join("\n  "));
}

#[test]
fn paths_are_found_in_every_spelling() {
    let code = "use crate::{storage, upstream::{Error, Kind}, npm};\nlet a = crate::keys::of(x); use $crate::no;";
    let names: Vec<String> = used(code).into_iter().collect();
    assert_eq!(names, ["keys", "npm", "storage", "upstream"]);
    assert_eq!(paths("use http::header; super::http::x; xhttp::y", "http::").len(), 1);
}
