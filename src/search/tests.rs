//! The index as its callers see it, over real files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::npm::Timestamp;
use crate::npm::search_result::{Links, Person};

fn name(text: &str) -> PackageName {
    text.parse().unwrap()
}

/// A package with an age in days and nothing else.
fn package(text: &str, age_days: i64) -> SearchEntry {
    SearchEntry {
        name: name(text),
        version: "1.0.0".to_owned(),
        description: String::new(),
        keywords: vec![],
        author: None,
        maintainers: vec![],
        publisher: None,
        license: None,
        links: Links::default(),
        modified: Timestamp::from_millis(1_767_225_600_000 - age_days * 86_400_000),
        deprecated: false,
        unstable: false,
    }
}

fn described(text: &str, age_days: i64, description: &str, keywords: &[&str]) -> SearchEntry {
    SearchEntry {
        description: description.to_owned(),
        keywords: keywords.iter().map(|&keyword| keyword.to_owned()).collect(),
        ..package(text, age_days)
    }
}

fn person(username: &str) -> Person {
    Person { username: username.to_owned(), email: format!("{username}@acme.test") }
}

fn index_of(entries: &[SearchEntry]) -> SearchIndex {
    let index = SearchIndex::in_memory().unwrap();
    for entry in entries {
        index.put(entry);
    }
    index.commit().unwrap();
    index
}

fn page(index: &SearchIndex, text: &str, from: usize, size: usize) -> (usize, Vec<String>) {
    let page = index.search(&SearchQuery::parse(text), from, size, &|_| true, true).unwrap();
    (page.total, page.entries.iter().map(|entry| entry.name.to_string()).collect())
}

fn found(index: &SearchIndex, text: &str) -> Vec<String> {
    let (total, names) = page(index, text, 0, 1000);
    assert_eq!(total, names.len());
    names
}

#[test]
fn the_best_match_comes_first() {
    let index = index_of(&[
        package("react", 900),
        package("react-table", 30),
        package("react-dom", 20),
        package("@acme/react", 10),
        package("preact", 0),
        package("JSONStream", 0),
        described("ui-kit", 5, "Widgets for React", &["react", "widgets"]),
        described("forms", 4, "Forms without tears, reactive", &[]),
        described("grid", 3, "A table", &["react-table"]),
        SearchEntry { deprecated: true, ..package("react-old", 0) },
        package("lodash", 1),
        package("lodash.merge", 0),
        package("@acme/lodash-es", 0),
    ]);
    for (text, expected) in [
        // The name itself, the name in a scope, a word of the name (latest first), keyword, description; deprecated late.
        ("react", &["react", "@acme/react", "react-dom", "react-table", "react-old", "ui-kit", "grid", "forms"][..]),
        ("REACT", &["react", "@acme/react", "react-dom", "react-table", "react-old", "ui-kit", "grid", "forms"]),
        (
            "react boost-exact:false",
            &["@acme/react", "react-dom", "react-table", "react", "react-old", "ui-kit", "grid", "forms"],
        ),
        ("lod", &["@acme/lodash-es", "lodash.merge", "lodash"]),
        ("lodash", &["lodash", "@acme/lodash-es", "lodash.merge"]),
        ("@acme/", &["@acme/lodash-es", "@acme/react"]),
        ("@acme/react", &["@acme/react"]),
        ("@acme/rea", &["@acme/react"]),
        ("acme react", &["@acme/react"]),
        ("react table", &["react-table", "grid"]),
        ("table react", &["react-table", "grid"]),
        ("reacttable", &[]),
        ("react-table", &["react-table", "grid"]),
        ("jsonstr", &["JSONStream"]),
        ("JSONStream", &["JSONStream"]),
        ("tears", &["forms"]),
        ("tear", &["forms"]),
        ("te", &[]),
        ("zzyzx", &[]),
        ("react zzyzx", &[]),
        ("!!!", &[]),
        ("-- react", &[]),
    ] {
        assert_eq!(found(&index, text), expected, "{text:?}");
    }
}

#[test]
fn a_name_is_exact_without_what_is_between_its_words() {
    let index = index_of(&[package("data-grid", 900), package("data-grid-pro", 0), package("@x/data-grid", 1)]);
    assert_eq!(found(&index, "data grid"), ["@x/data-grid", "data-grid", "data-grid-pro"]);
    assert_eq!(found(&index, "data-grid"), ["data-grid", "@x/data-grid", "data-grid-pro"]);
}

#[test]
fn without_words_the_latest_come_first() {
    let index = index_of(&[package("b", 1), package("c", 0), package("a", 1), package("@a/z", 1)]);
    for text in ["", "  ", "not:deprecated"] {
        assert_eq!(found(&index, text), ["c", "@a/z", "a", "b"], "{text:?}");
    }
}

#[test]
fn qualifiers_narrow() {
    let index = index_of(&[
        SearchEntry {
            author: Some("Jane Q. Doe".to_owned()),
            maintainers: vec![person("jane"), person("joe")],
            keywords: vec!["http".to_owned(), "Client Side".to_owned()],
            ..package("@acme/one", 1)
        },
        SearchEntry {
            author: Some("John".to_owned()),
            maintainers: vec![person("Joe")],
            publisher: Some(person("robot")),
            keywords: vec!["http".to_owned(), "server".to_owned()],
            unstable: true,
            ..package("@Other/two", 2)
        },
        SearchEntry { deprecated: true, keywords: vec!["server".to_owned()], ..package("three", 3) },
    ]);
    for (text, expected) in [
        ("author:jane", &["@acme/one"][..]),
        ("author:\"doe jane\"", &["@acme/one"]),
        ("author:jan", &[]),
        ("author:john author:jane", &["@acme/one", "@Other/two"]),
        ("author:!", &[]),
        ("maintainer:joe", &["@acme/one", "@Other/two"]),
        ("maintainer:JANE@acme.test", &["@acme/one"]),
        ("maintainer:robot", &[]),
        ("robot", &["@Other/two"]),
        ("scope:acme", &["@acme/one"]),
        ("scope:@other", &["@Other/two"]),
        ("scope:@other scope:acme", &["@acme/one", "@Other/two"]),
        ("scope:nobody", &[]),
        ("keywords:http", &["@acme/one", "@Other/two"]),
        ("keywords:HTTP+server", &["@Other/two"]),
        ("keywords:http,server", &["@acme/one", "@Other/two", "three"]),
        ("keywords:http,-server", &["@acme/one"]),
        ("keywords:-http", &["three"]),
        ("keywords:\"client side\"", &["@acme/one"]),
        ("keywords:client", &[]),
        ("keywords:http keywords:server", &["@Other/two"]),
        ("is:unstable", &["@Other/two"]),
        ("not:unstable", &["@acme/one", "three"]),
        ("is:deprecated", &["three"]),
        ("not:deprecated", &["@acme/one", "@Other/two"]),
        ("is:insecure", &[]),
        ("not:insecure", &["@acme/one", "@Other/two", "three"]),
        ("is:public", &["@acme/one", "@Other/two", "three"]),
        ("http scope:acme", &["@acme/one"]),
        ("server not:deprecated", &["@Other/two"]),
        ("is:other", &[]),
    ] {
        assert_eq!(found(&index, text), expected, "{text:?}");
    }
}

#[test]
fn what_is_put_comes_back_whole() {
    let entry = SearchEntry {
        description: "Tëxt with \"quotes\"".to_owned(),
        keywords: vec!["a".to_owned(), String::new(), "B c".to_owned()],
        author: Some("Jane".to_owned()),
        maintainers: vec![person("jane"), Person::default()],
        publisher: Some(person("jane")),
        license: Some("MIT".to_owned()),
        links: Links { repository: Some("https://code.acme.test/x".to_owned()), ..Links::default() },
        deprecated: true,
        unstable: true,
        ..package("@acme/x", 3)
    };
    let index = index_of(std::slice::from_ref(&entry));
    let page = index.search(&SearchQuery::parse("x"), 0, 20, &|_| true, true).unwrap();
    assert_eq!(page, Page { total: 1, entries: vec![entry] });
}

#[test]
fn an_entry_of_any_size_is_indexed() {
    let huge = described("huge", 0, &"word ".repeat(200_000), &vec!["k"; 5_000]);
    let long = described("long", 0, &"x".repeat(1_000_000), &["last", &"y".repeat(1_000_000)]);
    let index = index_of(&[huge, long]);
    assert_eq!(found(&index, "word"), ["huge"]);
    assert_eq!(found(&index, "last"), ["long"]);
    assert_eq!(found(&index, &"y".repeat(500)), ["long"]);
}

#[test]
fn a_change_is_found_after_its_commit_and_only_then() {
    let index = index_of(&[described("a", 0, "first", &[]), package("b", 0)]);
    index.put(&described("a", 0, "dropped", &[]));
    index.put(&described("a", 0, "second", &[]));
    index.remove(&name("b"));
    index.remove(&name("never-there"));
    assert_eq!(index.queued(), 3);
    assert_eq!(found(&index, ""), ["a", "b"]);
    index.commit().unwrap();
    assert_eq!((index.queued(), index.len()), (0, 1));
    assert_eq!(found(&index, "second"), ["a"]);
    assert!(found(&index, "first").is_empty() && found(&index, "dropped").is_empty() && found(&index, "b").is_empty());
    index.remove(&name("a"));
    index.put(&package("a", 0));
    index.commit().unwrap();
    index.commit().unwrap();
    assert_eq!(found(&index, ""), ["a"]);
}

#[test]
fn names_that_differ_in_case_are_two_packages() {
    let index = index_of(&[package("Base", 0), package("base", 0)]);
    assert_eq!(found(&index, "base"), ["Base", "base"]);
    index.remove(&name("Base"));
    index.commit().unwrap();
    assert_eq!(found(&index, "BASE"), ["base"]);
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let (index, opened) = SearchIndex::open(directory.path()).unwrap();
    assert_eq!((opened, index.len(), index.mark().unwrap()), (Opened::Fresh, 0, None));
    index.put(&package("kept", 0));
    index.commit_with_mark("7").unwrap();
    index.put(&package("also-kept", 0));
    index.commit().unwrap();
    index.put(&package("queued", 0));
    drop(index);
    let (index, opened) = SearchIndex::open(directory.path()).unwrap();
    assert_eq!((opened, index.mark().unwrap().as_deref()), (Opened::Reopened, Some("7")));
    assert_eq!(found(&index, ""), ["also-kept", "kept"]);
    index.commit_with_mark("8").unwrap();
    assert_eq!(index.mark().unwrap().as_deref(), Some("8"));
    assert_eq!(SearchIndex::create(directory.path()).unwrap().len(), 0);
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        // A file that ends while the directory is being copied is not part of a commit any more, or not yet.
        let _ = fs::copy(file.path(), to.join(file.file_name()));
    }
}

/// A process killed during a commit leaves the old list of files beside any new ones: such a directory is put together
/// from copies made before and after.
#[test]
fn a_commit_cut_short_leaves_the_old_state_or_the_new_one() {
    let (directory, cut) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (index, _) = SearchIndex::open(directory.path()).unwrap();
    let mut reopened = 0;
    for round in 0..30_i64 {
        let before: BTreeSet<String> = found(&index, "").into_iter().collect();
        for file in fs::read_dir(cut.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        copy(directory.path(), cut.path());
        index.put(&package(&format!("p{round}"), 0));
        index.remove(&name(&format!("p{}", round / 2)));
        index.commit().unwrap();
        if before.is_empty() {
            continue;
        }
        // All new files but the list.
        let list = fs::read(cut.path().join("meta.json")).unwrap();
        copy(directory.path(), cut.path());
        fs::write(cut.path().join("meta.json"), list).unwrap();
        let (old, opened) = SearchIndex::open(cut.path()).unwrap();
        // A merge may have deleted a file that the old list names before it was copied: that cannot happen to a kill.
        if opened == Opened::Reopened {
            reopened += 1;
            assert_eq!(found(&old, "").into_iter().collect::<BTreeSet<_>>(), before);
            old.put(&package("after", 0));
            old.commit().unwrap();
            assert_eq!(found(&old, "after"), ["after"]);
        }
    }
    assert!(reopened > 10, "{reopened}");
}

#[test]
fn a_directory_copied_during_commits_is_usable() {
    let directory = TempDir::new().unwrap();
    let (index, _) = SearchIndex::open(directory.path()).unwrap();
    index.put(&package("first", 0));
    index.commit().unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for round in 0..40 {
                index.put(&package(&format!("p{round}"), 0));
                index.commit().unwrap();
            }
        });
        while !writing.is_finished() {
            let copied = TempDir::new().unwrap();
            copy(directory.path(), copied.path());
            let (copy, opened) = SearchIndex::open(copied.path()).unwrap();
            // A copy is no snapshot: it may lack what its list names, and is made anew then.
            assert_eq!(found(&copy, "first").len(), usize::from(opened == Opened::Reopened));
            copy.put(&package("later", 0));
            copy.commit().unwrap();
            assert_eq!(found(&copy, "later"), ["later"]);
        }
    });
    assert_eq!(index.len(), 41);
}

type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

#[test]
fn damage_gives_an_empty_index_or_an_error() {
    let directory = TempDir::new().unwrap();
    let (index, _) = SearchIndex::open(directory.path()).unwrap();
    for round in 0..5 {
        index.put(&described(&format!("p{round}"), 0, "some text", &["key"]));
        index.commit().unwrap();
    }
    drop(index);
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(files.len() > 20);
    let damages: [Damage; 5] = [
        |_| None,
        |_| Some(vec![]),
        |bytes| Some(bytes[..bytes.len() / 2].to_vec()),
        |bytes| Some(vec![0; bytes.len()]),
        |_| Some(b"not what was written here, but long enough to be mistaken for it".repeat(4)),
    ];
    for file in &files {
        for (number, damage) in damages.iter().enumerate() {
            let target = TempDir::new().unwrap();
            copy(directory.path(), target.path());
            let path = target.path().join(file);
            match damage(fs::read(&path).unwrap()) {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let (index, opened) = SearchIndex::open(target.path()).unwrap();
            let result = index.search(&SearchQuery::parse("text"), 0, 20, &|_| true, true);
            if let Ok(page) = result {
                let expected = if opened == Opened::Fresh { 0 } else { 5 };
                assert_eq!(page.total, expected, "{file:?} {number}");
            }
            drop(index);
            // Once for each file: a commit waits for the disk.
            if number > 0 {
                continue;
            }
            let index = SearchIndex::create(target.path()).unwrap();
            index.put(&package("new", 0));
            index.commit().unwrap();
            assert_eq!(found(&index, ""), ["new"], "{file:?} {number}");
        }
    }
}

#[test]
fn an_index_of_another_schema_is_wiped_and_nothing_else_is() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("precious.txt"), "mine").unwrap();
    fs::create_dir(directory.path().join("0123456789abcdef0123456789abcdef")).unwrap();
    let mut schema = tantivy::schema::Schema::builder();
    schema.add_text_field("other", tantivy::schema::TEXT);
    Index::create_in_dir(directory.path(), schema.build()).unwrap();
    let (index, opened) = SearchIndex::open(directory.path()).unwrap();
    assert_eq!((opened, index.len()), (Opened::Fresh, 0));
    assert!(directory.path().join("precious.txt").exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().filter(|f| f.as_ref().unwrap().path().is_dir()).count(), 1);
}

#[test]
fn a_second_writer_is_refused_and_its_changes_stay_queued() {
    let directory = TempDir::new().unwrap();
    let (index, _) = SearchIndex::open(directory.path()).unwrap();
    let writer: IndexWriter = index.index.writer(15_000_000).unwrap();
    index.put(&package("a", 0));
    assert!(matches!(index.commit(), Err(Error::InUse)));
    assert_eq!((index.queued(), index.len()), (1, 0));
    drop(writer);
    index.commit().unwrap();
    assert_eq!((index.queued(), index.len()), (0, 1));
}

#[test]
fn what_is_queued_fills_up_by_number_and_by_size() {
    let index = SearchIndex::in_memory().unwrap();
    let long = "x".repeat(FULL_BYTES / 4);
    for number in 0..4 {
        assert!(!index.is_full(), "{number}");
        index.put(&described("long", 0, &long, &[]));
    }
    assert!(index.is_full());
    index.commit().unwrap();
    assert!(!index.is_full());
    for number in 0..FULL_CHANGES {
        assert!(!index.is_full(), "{number}");
        index.remove(&name(&format!("p{number}")));
    }
    assert!(index.is_full());
}

#[test]
fn many_small_commits_do_not_leave_many_segments() {
    let index = SearchIndex::in_memory().unwrap();
    for round in 0..150 {
        index.put(&package(&format!("p{}", round % 100), round));
        index.commit().unwrap();
        let segments = index.reader.searcher().segment_readers().len();
        assert!(segments <= 12, "{segments} after {round}");
    }
    assert_eq!(found(&index, "p").len(), 100);
}

/// 1,000 packages over several segments, with few different dates and with dead entries.
fn thousand() -> SearchIndex {
    let index = SearchIndex::in_memory().unwrap();
    for number in 0..1_000_i64 {
        let text = if number % 3 == 0 { format!("@s{}/p{number}", number % 7) } else { format!("p{number}") };
        index.put(&described(&text, number % 4, "old", &[]));
        if number % 230 == 0 {
            index.commit().unwrap();
        }
        index.put(&described(&text, number % 4, if number % 2 == 0 { "even" } else { "odd" }, &[]));
    }
    index.commit().unwrap();
    assert!(index.reader.searcher().segment_readers().len() > 1);
    index
}

#[test]
fn pages_have_neither_gaps_nor_repeats() {
    let index = thousand();
    let odd_only = |name: &PackageName| name.as_str().ends_with(['1', '3', '5', '7', '9']);
    for (text, all_readable, total) in [
        ("", true, 1_000),
        ("", false, 500),
        ("p", true, 1_000),
        ("even", true, 500),
        ("even", false, 0),
        ("p1", true, 111),
    ] {
        let query = SearchQuery::parse(text);
        let whole = index.search(&query, 0, 2_000, &odd_only, all_readable).unwrap();
        let different: BTreeSet<_> = whole.entries.iter().map(|entry| &entry.name).collect();
        assert_eq!((whole.total, whole.entries.len(), different.len()), (total, total, total), "{text:?}");
        assert!(all_readable || whole.entries.iter().all(|entry| odd_only(&entry.name)));
        for size in [1, 7, 20, 250, 999] {
            let mut paged = Vec::new();
            while paged.len() < total {
                let page = index.search(&query, paged.len(), size, &odd_only, all_readable).unwrap();
                assert_eq!(page.total, total);
                assert_eq!(page.entries.len(), size.min(total - paged.len()));
                paged.extend(page.entries);
            }
            assert_eq!(paged, whole.entries, "{text:?} by {size}");
        }
        for from in [total, total + 1, usize::MAX] {
            let page = index.search(&query, from, 20, &odd_only, all_readable).unwrap();
            assert_eq!(page, Page { total, entries: vec![] });
        }
    }
}

#[test]
fn all_packages_are_listed_by_name() {
    let index = thousand();
    let odd_only = |name: &PackageName| name.as_str().ends_with(['1', '3', '5', '7', '9']);
    for (all, total) in [(true, 1_000), (false, 500)] {
        let readable = |name: &PackageName| all || odd_only(name);
        for limit in [1, 33, 1_000, 5_000] {
            let mut listed: Vec<PackageName> = Vec::new();
            loop {
                let entries = index.names(listed.last(), limit, &readable).unwrap();
                let at_end = entries.len() < limit;
                listed.extend(entries.into_iter().map(|entry| entry.name));
                if at_end {
                    break;
                }
            }
            assert_eq!(listed.len(), total);
            assert!(listed.is_sorted_by(|one, next| one < next));
        }
    }
    assert!(index.names(Some(&name("zzz")), 10, &|_| true).unwrap().is_empty());
}

#[test]
fn ten_thousand_packages_are_found_and_replaced() {
    let directory = TempDir::new().unwrap();
    let (index, _) = SearchIndex::open(directory.path()).unwrap();
    for number in 0..10_000_i64 {
        index.put(&described(&format!("package-{number}"), number, "one of many", &["bulk"]));
        if number % 2_500 == 2_499 {
            index.commit().unwrap();
        }
    }
    assert_eq!(index.len(), 10_000);
    assert_eq!(page(&index, "package", 9_999, 20), (10_000, vec!["package-9999".to_owned()]));
    assert_eq!(page(&index, "package-77", 0, 1), (111, vec!["package-77".to_owned()]));
    for number in 0..10_000_i64 {
        index.put(&described(&format!("package-{number}"), number, "replaced", &[]));
    }
    index.commit().unwrap();
    assert_eq!(page(&index, "many", 0, 1).0, 0);
    assert_eq!(page(&index, "replaced", 0, 1), (10_000, vec!["package-0".to_owned()]));
    for (text, total) in [("pack", 10_000), ("package-99", 111), ("99", 111), ("package-9", 1_111), ("9999", 1)] {
        assert_eq!(page(&index, text, 0, 1).0, total, "{text:?}");
    }
}

#[derive(Debug, Clone)]
enum Change {
    Put(usize, i64, usize),
    Remove(usize),
    Commit,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..NAMES.len(), 0..3_i64, 0..TEXTS.len()).prop_map(|(name, age, text)| Change::Put(name, age, text)),
        1 => (0..NAMES.len()).prop_map(Change::Remove),
        1 => Just(Change::Commit),
    ]
}

const NAMES: [&str; 8] = ["a", "b-a", "@a/b", "@b/a", "ab", "abc", "c.a", "A"];
const TEXTS: [&str; 4] = ["", "a b", "abc things", "b"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the packages came into the index, what is found is the same as in an index made at once.
    #[test]
    fn the_way_there_does_not_matter(changes in prop::collection::vec(change(), 0..60), text in "[abc @/.-]{0,8}") {
        let index = SearchIndex::in_memory().unwrap();
        let mut expected = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put(at, age, text) => {
                    let entry = described(NAMES[at], age, TEXTS[text], &[]);
                    index.put(&entry);
                    expected.insert(entry.name.clone(), entry);
                }
                Change::Remove(at) => {
                    index.remove(&name(NAMES[at]));
                    expected.remove(&name(NAMES[at]));
                }
                Change::Commit => index.commit().unwrap(),
            }
        }
        index.commit().unwrap();
        let entries: Vec<SearchEntry> = expected.into_values().collect();
        prop_assert_eq!(index.len(), entries.len());
        prop_assert_eq!(found(&index, &text), found(&index_of(&entries), &text));
        let listed = index.names(None, 100, &|_| true).unwrap();
        prop_assert_eq!(listed, entries);
    }
}
