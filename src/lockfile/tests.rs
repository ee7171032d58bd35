//! The fixtures were written by the real clients for one project, and hence have one set of packages.

use proptest::prelude::*;

use super::*;

/// Each with the name of the file that it was; the project's registry was called `registry.example` afterwards.
const FIXTURES: [(&str, Kind, &str); 12] = [
    ("package-lock.json", Kind::Npm, include_str!("fixtures/npm-v1.json")),
    ("npm-shrinkwrap.json", Kind::Npm, include_str!("fixtures/npm-v2.json")),
    ("a/b/package-lock.json", Kind::Npm, include_str!("fixtures/npm-v3.json")),
    ("pnpm-lock.yaml", Kind::Pnpm, include_str!("fixtures/pnpm-v5.yaml")),
    ("pnpm-lock.yaml", Kind::Pnpm, include_str!("fixtures/pnpm-v6.yaml")),
    (r"a\pnpm-lock.yaml", Kind::Pnpm, include_str!("fixtures/pnpm-v9.yaml")),
    ("pnpm-lock.yaml", Kind::Pnpm, include_str!("fixtures/pnpm-v9-addresses.yaml")),
    ("yarn.lock", Kind::YarnClassic, include_str!("fixtures/yarn-classic.lock")),
    ("yarn.lock", Kind::YarnBerry, include_str!("fixtures/yarn-3.lock")),
    ("./yarn.lock", Kind::YarnBerry, include_str!("fixtures/yarn-4.lock")),
    ("bun.lock", Kind::Bun, include_str!("fixtures/bun.lock")),
    ("bun.lock", Kind::Bun, include_str!("fixtures/bun-addresses.lock")),
];

const PACKAGES: [&str; 11] = [
    "@sindresorhus/is@4.6.0",
    "@types/estree@1.0.5",
    "debug@2.6.9",
    "js-tokens@4.0.0",
    "left-pad@1.3.0",
    "loose-envify@1.4.0",
    "ms@2.0.0",
    "ms@2.1.3",
    "react@18.2.0",
    "react-is@19.0.0-rc.1",
    "use-sync-external-store@1.2.0",
];

fn names(lockfile: &Lockfile) -> Vec<String> {
    lockfile.entries.iter().map(|entry| format!("{}@{}", entry.name, entry.version)).collect()
}

fn read(file: &str, text: &str) -> Vec<String> {
    names(&parse(file, text).unwrap())
}

/// What was skipped, with the reason.
fn skipped(file: &str, text: &str) -> Vec<(String, &'static str)> {
    let lockfile = parse(file, text).unwrap();
    assert_eq!(names(&lockfile), [""; 0]);
    lockfile.skipped.into_iter().map(|skipped| (skipped.what, skipped.why)).collect()
}

fn message(file: &str, text: &str) -> String {
    parse(file, text).unwrap_err().to_string()
}

#[test]
fn every_client_says_the_same_of_one_project() {
    let with_hashes = parse(FIXTURES[0].0, FIXTURES[0].2).unwrap().entries;
    assert!(with_hashes.iter().all(|entry| entry.integrity.as_deref().unwrap().starts_with("sha512-")));
    for (file, kind, text) in FIXTURES {
        let lockfile = parse(file, text).unwrap();
        assert_eq!(lockfile.kind, kind);
        assert_eq!(names(&lockfile), PACKAGES, "{file}");
        if kind != Kind::YarnBerry {
            assert_eq!(lockfile.entries, with_hashes, "{file}");
        }
        assert!(lockfile.skipped.iter().any(|skipped| skipped.what.contains("local")), "{file}");
        assert!(!lockfile.skipped.iter().any(|skipped| skipped.why == address::NOT_READ), "{:?}", lockfile.skipped);
    }
}

#[test]
fn the_content_tells_the_kind_where_the_name_does_not() {
    for (_, kind, text) in FIXTURES {
        let lockfile = parse("lock.txt", &format!("\u{feff}{text}")).unwrap();
        assert_eq!((lockfile.kind, names(&lockfile).len()), (kind, PACKAGES.len()));
        assert_eq!(names(&parse("lock.txt", &text.replace('\n', "\r\n")).unwrap()), PACKAGES);
    }
    for text in ["", "hello", "{}", "{\"a\": 1}", "[1]", "a: 1", "{\"version\": \"5\", \"specifiers\": {}}"] {
        assert_eq!(parse("deno.lock", text), Err(LockfileError::UnknownKind), "{text}");
    }
}

#[test]
fn errors_say_what_to_do() {
    assert!(message("bun.lockb", "").contains("--save-text-lockfile"));
    assert!(message("x", "#!/usr/bin/env bun\nbun-lockfile-format-v0\n").contains("--save-text-lockfile"));
    assert!(message("lock", "?").contains("npm-shrinkwrap.json"));
    assert!(message("package-lock.json", "{\n\"a\": }").starts_with("line 2 is not JSON"));
    assert!(message("pnpm-lock.yaml", "a: 1\nb: [\n").contains("is not YAML"));
    assert!(message("pnpm-lock.yaml", "lockfileVersion: '9.0'\n\tb: 1\n").starts_with("line 2 is not YAML"));
    assert!(message("yarn.lock", "# yarn lockfile v1\na@1:\n    version \"1\"\n").starts_with("line 3"));
    assert!(message("package-lock.json", "{\n<<<<<<< ours\n").starts_with("line 2 is a mark of a merge conflict"));
    assert!(message("package-lock.json", "{}").contains("lockfileVersion none"));
    assert!(message("pnpm-lock.yaml", "lockfileVersion: '10.0'").contains("only 5, 6 and 9"));
    assert!(message("bun.lock", r#"{"lockfileVersion": 7}"#).contains("only 0, 1 and 2"));
    assert!(message("package-lock.json", r#"{"lockfileVersion": 3, "packages": []}"#).contains("`packages`"));
    assert_eq!(message("package-lock.json", &" ".repeat(MAX_TEXT_BYTES + 1)), LockfileError::TooLarge.to_string());
}

#[test]
fn npm_tells_apart_what_is_no_package_of_a_registry() {
    let text = r#"{"lockfileVersion": 3, "packages": {
        "": {"name": "project", "version": "1.0.0"},
        "packages/a": {"version": "1.0.0"},
        "node_modules/a": {"resolved": "packages/a", "link": true},
        "node_modules/b": {"version": "1.0.0", "inBundle": true},
        "node_modules/c": {"version": "1.0.0", "resolved": "git+ssh://git@host.example/c.git#0123"},
        "node_modules/d": {"version": "1.0.0", "resolved": "file:d.tgz"},
        "node_modules/e": {"version": "1.0.0", "resolved": "https://files.example/e-1.0.0.tgz"},
        "node_modules/f": {}
    }}"#;
    let found = skipped("package-lock.json", text);
    let reasons: Vec<&str> = found.iter().map(|(_, why)| *why).collect();
    assert_eq!(
        reasons,
        [
            address::LINK,
            address::BUNDLED,
            address::GIT,
            address::FOLDER,
            address::ELSEWHERE,
            address::NOT_READ,
            address::FOLDER,
        ]
    );
    let text = r#"{"lockfileVersion": 1, "dependencies": {
        "a": {"version": "git+ssh://git@host.example/c.git#0123", "dependencies": {
            "b": {"version": "1.0.0", "bundled": true}, "@s/c": {"version": "2.0.0-a.1"}
        }},
        "d": {"version": "npm:@s/e@3.0.0"}, "f": {"version": "https://files.example/f.tgz"}
    }}"#;
    assert_eq!(read("package-lock.json", text), ["@s/c@2.0.0-a.1", "@s/e@3.0.0"]);
    assert_eq!(parse("package-lock.json", text).unwrap().skipped.len(), 3);
}

#[test]
fn npm_names_a_package_in_the_folder_of_another() {
    let text = r#"{"lockfileVersion": 2, "packages": {
        "node_modules/a/node_modules/@s/b": {"version": "1.0.0"},
        "packages/x/node_modules/c": {"version": "1.0.0+build"},
        "node_modules/alias": {"name": "@s/d", "version": "1.0.0"}
    }}"#;
    assert_eq!(read("package-lock.json", text), ["@s/b@1.0.0", "@s/d@1.0.0", "c@1.0.0"]);
}

#[test]
fn the_address_of_a_tarball_decides() {
    let at = |address: &str| {
        let text = format!(
            r#"{{"lockfileVersion": 3, "packages": {{"node_modules/@a/b": {{"version": "1.0.0", "resolved": "{address}"}}}}}}"#
        );
        read("package-lock.json", &text).join(" ")
    };
    for (address, expected) in [
        ("https://registry.example/@a/b/-/b-1.0.0.tgz", "@a/b@1.0.0"),
        ("https://registry.example/npm/team/@a/b/-/@a/b-1.0.0.tgz", "@a/b@1.0.0"),
        ("https://registry.example/@a%2fb/-/b-1.0.0.tgz?x=1#y", "@a/b@1.0.0"),
        ("https://registry.example/download/@a/b/1.0.0/0123abcd", "@a/b@1.0.0"),
        ("https://registry.example/~/11/@a/b/1.0.0.tgz", "@a/b@1.0.0"),
        ("https://registry.example/download/@a/b/1.0.01/0123abcd", ""),
        ("https://registry.example/@a/b/-/some-file.tgz", "@a/b@1.0.0"),
        // Called one thing, and fetched another.
        ("https://registry.example/evil/-/evil-6.6.6.tgz", "evil@6.6.6"),
        ("HTTPS://registry.example/evil/-/evil-6.6.6.tgz", "evil@6.6.6"),
        ("https://registry.example/@a/b/-/b-0.9.0.tgz", "@a/b@0.9.0"),
        ("https://forge.example/a/b/-/archive/v1.0.0/b-v1.0.0.tar.gz", ""),
        ("https://registry.example", ""),
        ("https://", ""),
        ("https://registry.example/-/b-1.0.0.tgz", ""),
        ("https://registry.example/%ff/-/b-1.0.0.tgz", ""),
    ] {
        assert_eq!(at(address), expected, "{address}");
    }
}

#[test]
fn pnpm_reads_both_documents() {
    let text = include_str!("fixtures/pnpm-v9-two-documents.yaml");
    let mut expected = PACKAGES.to_vec();
    expected.insert(8, "picocolors@1.1.1");
    assert_eq!(read("pnpm-lock.yaml", text), expected);
}

#[test]
fn pnpm_keys_of_every_version() {
    let text = "lockfileVersion: 5.4\npackages:\n  /a/1.0.0: {}\n  /@s/b/1.0.0-rc.1_react@17.0.2: {}\n  \
                registry.example/c/2.0.0: {}\n  registry.example/@s/d/2.0.0_x: {}\n  localhost+4873/e/1.0.0: {}\n";
    assert_eq!(read("pnpm-lock.yaml", text), ["@s/b@1.0.0-rc.1", "@s/d@2.0.0", "a@1.0.0", "c@2.0.0", "e@1.0.0"]);
    let text = "lockfileVersion: '6.0'\npackages:\n  /a@1.0.0(@s/b@1.0.0(c@1.0.0)): {}\n  /@s/b@1.0.0: {}\n  \
                registry.example/c@1.0.0: {}\n";
    assert_eq!(read("pnpm-lock.yaml", text), ["@s/b@1.0.0", "a@1.0.0", "c@1.0.0"]);
    let text = "lockfileVersion: '9.0'\npackages:\n  a@1.0.0(patch_hash=0123): {}\n  ? '@s/b@1.0.0'\n  : {}\n";
    assert_eq!(read("pnpm-lock.yaml", text), ["@s/b@1.0.0", "a@1.0.0"]);
    assert_eq!(read("pnpm-lock.yaml", "lockfileVersion: '9.0'\npackages:\n"), [""; 0]);
}

#[test]
fn pnpm_tells_apart_what_is_no_package_of_a_registry() {
    let text = "lockfileVersion: '9.0'\npackages:\n  a@https://codeload.github.com/u/a/tar.gz/0123:\n    \
                resolution: {tarball: https://codeload.github.com/u/a/tar.gz/0123}\n    version: 1.0.0\n  \
                b@git+https://host.example/b.git#0123:\n    resolution: {type: git, repo: x, commit: '0'}\n  \
                c@file:c: {}\n  d@file:d.tgz: {}\n  e@link:../e: {}\n  node@runtime:22.0.0: {}\n  z: {}\n";
    let reasons: Vec<&str> = skipped("pnpm-lock.yaml", text).iter().map(|(_, why)| *why).collect();
    assert_eq!(
        reasons,
        [
            address::GIT,
            address::GIT,
            address::FOLDER,
            address::FOLDER,
            address::LINK,
            "it is a runtime and comes from its maker",
            address::NOT_READ,
        ]
    );
    let text = "lockfileVersion: 5.4\npackages:\n  github.com/u/a/0123:\n    \
                resolution: {tarball: https://codeload.github.com/u/a/tar.gz/0123}\n  file:../x.y/c/1.0.0:\n    \
                resolution: {directory: x, type: directory}\n  '@codeload.github.com/u/a': \n    \
                resolution: {tarball: https://codeload.github.com/u/a/tar.gz/0123}\n";
    assert_eq!(skipped("pnpm-lock.yaml", text).len(), 3);
}

#[test]
fn yaml_that_no_lockfile_has_is_refused() {
    for tail in ["a: &x {}\nb: *x\n", "<<: {a@1.0.0: {}}\n", "a: !!str b\n", "? [a]\n: b\n", "a: *x\n"] {
        let text = format!("lockfileVersion: '9.0'\npackages:\n  {}", tail.replace('\n', "\n  "));
        assert!(message("pnpm-lock.yaml", &text).contains("is not YAML"), "{text}");
    }
    assert!(message("pnpm-lock.yaml", "%YAML 1.1\n---\nlockfileVersion: 9.0").contains("is not YAML"));
}

#[test]
fn yarn_1_specifiers() {
    let text = "# yarn lockfile v1\n\n\n\"a@^1.0.0\", \"b@npm:a@1 || 2\", \"a@\\u003e1\":\n  version \"1.0.0\"\n  \
                resolved \"https://registry.example/a/-/a-1.0.0.tgz#0000000000000000000000000000000000000000\"\n\n\
                c@*, c@latest:\n  version \"2.0.0\"\n  resolved c-2.0.0.tgz#01\n  dependencies:\n    version \"9.0.0\"\n\n\
                \"d@npm:@s/e@1.x\":\n  version \"1.5.0\"\n\n\
                \"renamed@^1.0.0\":\n  version \"1.0.0\"\n  resolved \"https://registry.example/@s/f/-/f-1.0.0.tgz\"\n";
    let lockfile = parse("yarn.lock", text).unwrap();
    assert_eq!(names(&lockfile), ["@s/e@1.5.0", "@s/f@1.0.0", "a@1.0.0", "c@2.0.0"]);
    assert_eq!(lockfile.entries[2].integrity.as_deref(), Some("sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert_eq!((lockfile.entries[3].integrity.as_deref(), lockfile.skipped), (None, vec![]));
}

#[test]
fn yarn_1_tells_apart_what_is_no_package_of_a_registry() {
    let block =
        |pattern: &str, resolved: &str| format!("\"{pattern}\":\n  version \"1.0.0\"\n  resolved \"{resolved}\"\n");
    for (pattern, resolved, why) in [
        ("a@u/a", "https://codeload.github.com/u/a/tar.gz/0123", address::GIT),
        ("a@git+ssh://git@host.example/a.git", "git+ssh://git@host.example/a.git#01", address::GIT),
        ("a@^1.0.0", "git+ssh://git@host.example/a.git#01", address::GIT),
        ("a@github:u/a#semver:^1", "https://codeload.github.com/u/a/tar.gz/0123", address::GIT),
        ("a@file:./a", "", address::FOLDER),
        ("a@../a", "", address::FOLDER),
        ("a@link:./a", "", address::LINK),
        ("a@https://files.example/a.tgz", "", address::ELSEWHERE),
        ("^1.0.0", "", address::NOT_READ),
    ] {
        assert_eq!(skipped("yarn.lock", &block(pattern, resolved)), [(pattern.to_owned(), why)], "{pattern}");
    }
    for text in
        ["a@1\n", "a@1 \"b\"\n", "\"a@1:\n", ":\n", "a:\n  b \"c\" d\n", " a:\n", "a b:\n", "a,:\n", "\"\\x\":\n"]
    {
        assert!(message("yarn.lock", text).contains("yarn 1"), "{text}");
    }
}

#[test]
fn yarn_berry_protocols() {
    let text = include_str!("fixtures/yarn-4-patch.lock");
    let lockfile = parse("yarn.lock", text).unwrap();
    let names = names(&lockfile);
    assert!(
        ["resolve@1.22.8", "is-core-module@2.13.0", "left-pad@1.2.0"]
            .iter()
            .all(|name| names.contains(&(*name).to_owned()))
    );
    let reasons: Vec<&str> = lockfile.skipped.iter().map(|skipped| skipped.why).collect();
    assert_eq!(reasons, [address::WORKSPACE, address::LINK, address::FOLDER]);

    let of = |resolution: &str| format!("__metadata:\n  version: 8\n\n\"x\":\n  resolution: \"{resolution}\"\n");
    for (resolution, expected) in [
        ("a@npm:1.0.0", "a@1.0.0"),
        ("@s/a@npm:1.0.0-rc.1", "@s/a@1.0.0-rc.1"),
        ("a@patch:a@npm%3A1.0.0#~/.yarn/patches/a.patch::version=1.0.0&hash=0", "a@1.0.0"),
        ("a@patch:a@patch%3Aa@npm%253A1.0.0%23x#y", "a@1.0.0"),
        ("b@patch:a@1.0.0#x", "a@1.0.0"),
        ("a@npm:1.0.0::__archiveUrl=https%3A%2F%2Fregistry.example%2Fb%2F-%2Fb-2.0.0.tgz", "b@2.0.0"),
        ("a@npm:1.0.0::x=y", "a@1.0.0"),
    ] {
        assert_eq!(read("yarn.lock", &of(resolution)), [expected], "{resolution}");
    }
    for (resolution, why) in [
        ("a@workspace:packages/a", address::WORKSPACE),
        ("a@portal:../a", address::LINK),
        ("a@https://host.example/a.git#commit=0123", address::GIT),
        ("a@patch:a@workspace%3Aa#x", address::WORKSPACE),
        ("a", address::NOT_READ),
        ("a@patch:a@patch:a@patch:", address::NOT_READ),
    ] {
        assert_eq!(skipped("yarn.lock", &of(resolution)), [(resolution.to_owned(), why)]);
    }
    assert!(message("yarn.lock", "__metadata:\n").contains("__metadata.version"));
}

#[test]
fn bun_writes_commas_and_comments() {
    let text = r#"{
        // "a": 1, /* no */
        "lockfileVersion": 1, /* , ] */
        "workspaces": {"": {"name": "x // y, }", },},
        "packages": {
            "a": ["a@1.0.0", "", {}, "sha512-aa=="],
            "b": ["@s/b@2.0.0", "https://registry.example/@s/b/-/b-2.0.0.tgz", {"bin": {"a": "\\",},}, "sha512-bb==",],
            "c": ["c@workspace:packages/c"],
            "d": ["d@github:u/d#0123", {}, "u-d-0123"],
        },
    }"#;
    let lockfile = parse("bun.lock", text).unwrap();
    assert_eq!(names(&lockfile), ["@s/b@2.0.0", "a@1.0.0"]);
    assert_eq!(lockfile.entries[0].integrity.as_deref(), Some("sha512-bb=="));
    let reasons: Vec<&str> = lockfile.skipped.iter().map(|skipped| skipped.why).collect();
    assert_eq!(reasons, [address::WORKSPACE, address::GIT]);
    assert_eq!(parse("lock.json", text).unwrap(), lockfile);
    for broken in ["{,}", "{\"a\": [1,,]}", "{\"a\": /}", "{\"a\": 1 /* }", "{\"a\": \"\\"] {
        assert!(message("bun.lock", broken).contains("is not JSON"), "{broken}");
    }
}

#[test]
fn a_second_hash_is_told_and_a_better_one_is_taken() {
    let with = |first: &str, second: &str| {
        let text = format!(
            r#"{{"lockfileVersion": 3, "packages": {{
                "node_modules/a": {{"version": "1.0.0", "integrity": "{first}"}},
                "node_modules/b/node_modules/a": {{"version": "1.0.0", "integrity": "{second}"}}}}}}"#
        );
        let lockfile = parse("package-lock.json", &text).unwrap();
        assert_eq!(lockfile.entries.len(), 1);
        (lockfile.entries[0].integrity.clone().unwrap(), lockfile.skipped.len())
    };
    assert_eq!(with("sha512-a", "sha512-a"), ("sha512-a".to_owned(), 0));
    assert_eq!(with("sha512-a", "sha512-b"), ("sha512-a".to_owned(), 1));
    assert_eq!(with("sha1-a", "sha512-b"), ("sha512-b".to_owned(), 0));
    assert_eq!(with("sha512-a", ""), ("sha512-a".to_owned(), 0));
    assert_eq!(with("", "sha1-b"), ("sha1-b".to_owned(), 0));
}

#[test]
fn bounds_hold() {
    let many = |count: usize| {
        let packages: Vec<String> =
            (0..count).map(|i| format!("\"node_modules/a{i}\":{{\"version\":\"1.0.0\"}}")).collect();
        format!("{{\"lockfileVersion\":3,\"packages\":{{{}}}}}", packages.join(","))
    };
    assert_eq!(parse("package-lock.json", &many(MAX_ENTRIES)).unwrap().entries.len(), MAX_ENTRIES);
    assert_eq!(parse("package-lock.json", &many(MAX_ENTRIES + 1)), Err(LockfileError::TooManyEntries));
    let brackets = format!("[{}1]", "1,".repeat(node::MAX_NODES));
    assert_eq!(parse("package-lock.json", &brackets), Err(LockfileError::TooManyEntries));
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        assert!(message("bun.lock", &text).contains("is not JSON"));
        assert!(message("pnpm-lock.yaml", &text).contains("is not YAML"));
    }
    let deep = |step: &str| {
        let lines: Vec<String> = (0..500).map(|spaces| format!("{}{step}", " ".repeat(spaces))).collect();
        format!("lockfileVersion: '9.0'\na:\n{}\n", lines.join("\n"))
    };
    assert!(message("pnpm-lock.yaml", &deep("a:")).contains("is not YAML"));
    assert!(message("pnpm-lock.yaml", &deep("-")).contains("is not YAML"));
}

/// Texts that make a parser look back or ahead. Each takes milliseconds where the time grows with the length; where it
/// grows with its square, all of them together take so long that the runner ends the test.
#[test]
fn texts_that_make_a_parser_look_back_are_answered() {
    let pieces = [
        "{", "[", "[a, ", "- ", "? ", "a: ", "\"", "'", "a: |\n", "a: >\n\n", "\n", " ", "\t", "#", "# a\n", "&a ",
        "*a ", "!a ", "a\n", "a: b\n", "- a\n", "---\n", "%a\n", ",", ", ", "]", "/", "//", "/*", "\\", "\",",
        "\"a\":", "a@1:\n", "a,", "\"\\\"", "x@patch:", "/-/", "a@b/", "<<<<<<<", "- - ", "a: {}\n", "[]: ", "{}\n",
        "\"a\" ", "'a' ", "a:\n", "\u{e4}", "-\n", "a b ",
    ];
    for file in ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock"] {
        for piece in pieces {
            for start in ["", "__metadata:\n  version: 8\n", "a: ", "a: \"", "[", "a: |\n "] {
                let text = start.to_owned() + &piece.repeat(20_000 / piece.len());
                if let Ok(lockfile) = parse(file, &text) {
                    check(&lockfile);
                }
            }
        }
    }
}

const FILES: [&str; 5] = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "x"];

/// What is always true of an answer.
fn check(lockfile: &Lockfile) {
    let pairs: Vec<_> = lockfile.entries.iter().map(|entry| (&entry.name, &entry.version)).collect();
    assert!(pairs.is_sorted() && pairs.windows(2).all(|two| two[0] != two[1]));
    assert!(lockfile.skipped.is_sorted());
}

proptest! {
    #[test]
    fn any_text_is_answered(text in r#"[a@:/{}\[\],"'\\ \n#&*!|>?<0-9.-]{0,80}|.{0,60}"#) {
        for file in FILES {
            for start in ["", "__metadata:\n  version: 8\n", "lockfileVersion: '9.0'\npackages:\n  ", "{\"lockfileVersion\": 1, "] {
                if let Ok(lockfile) = parse(file, &format!("{start}{text}")) {
                    check(&lockfile);
                }
            }
        }
    }

    #[test]
    fn a_changed_lockfile_is_answered(which in 0..FIXTURES.len(), at in any::<prop::sample::Index>(), cut in 0..40usize, text in r#"[a@:/{}\[\],"'\\ \n#&*0-9.-]{0,12}|.{0,4}"#) {
        let (file, _, fixture) = FIXTURES[which];
        let letters: Vec<char> = fixture.chars().collect();
        let at = at.index(letters.len());
        let changed: String = letters[..at].iter().copied().chain(text.chars()).chain(letters[at..].iter().copied().skip(cut)).collect();
        for file in [file, "x"] {
            if let Ok(lockfile) = parse(file, &changed) {
                check(&lockfile);
            }
        }
    }
}
