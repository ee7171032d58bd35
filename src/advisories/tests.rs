//! Archives of every kind, good and bad, and servers that have them.

use std::fs;
use std::io::{Cursor, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use url::Url;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::archive::compile_zip;
use super::fetch::fetch_within;
use super::*;
use crate::npm::{PackageName, Timestamp};
use crate::upstream::Validators;

const NOW: &str = "2026-11-24T12:00:00.000Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A record about one package, all of whose versions below 2.0.0 are affected.
fn record(id: &str, ecosystem: &str, name: &str) -> Value {
    json!({
        "id": id, "modified": "2026-01-01T00:00:00Z", "summary": "bad",
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": name },
            "ranges": [{ "type": "SEMVER", "events": [{ "introduced": "0" }, { "fixed": "2.0.0" }] }]
        }]
    })
}

fn changed(mut record: Value, member: &str, value: impl Into<Value>) -> Value {
    record[member] = value.into();
    record
}

type Entries = Vec<(String, Vec<u8>)>;

/// Entries with the names that records have in an archive.
fn entries(records: &[Value]) -> Entries {
    let entry = |record: &Value| (format!("{}.json", record["id"].as_str().unwrap()), record.to_string().into_bytes());
    records.iter().map(entry).collect()
}

fn zipped(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        // The writer wants each name once, an archive may have it twice.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(name.clone(), options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn compile_bytes(bytes: &[u8], limits: &Limits) -> Result<Compiled, CompileError> {
    compile_zip(Cursor::new(bytes), &mut Cursor::new(bytes), limits, now())
}

fn compile_entries(entries: &[(String, Vec<u8>)]) -> Result<Compiled, CompileError> {
    compile_bytes(&zipped(entries), &Limits::default())
}

fn compile_records(records: &[Value]) -> Compiled {
    compile_entries(&entries(records)).unwrap()
}

fn index(compiled: &Compiled) -> Index {
    let index = Index::from_bytes(&compiled.bytes).unwrap();
    assert_eq!(index.statistics(), &compiled.statistics);
    index
}

fn ids(index: &Index, name: &str) -> Vec<String> {
    index.about(&name.parse::<PackageName>().unwrap()).into_iter().map(|advisory| advisory.id).collect()
}

/// How many of these entries beside one good record are read, unreadable and ignored.
fn beside_a_good_one(mut more: Entries) -> (u64, u64, u64) {
    more.extend(entries(&[record("GHSA-good", "npm", "tool")]));
    let compiled = compile_entries(&more).unwrap();
    assert_eq!(ids(&index(&compiled), "tool"), ["GHSA-good"]);
    let Statistics { advisories, unreadable, ignored, .. } = compiled.statistics;
    (advisories, unreadable, ignored)
}

#[test]
fn what_goes_in_is_found() {
    let compiled = compile_records(&[
        record("GHSA-2", "npm", "tool"),
        record("GHSA-1", "npm", "tool"),
        record("MAL-2026-7", "npm", "@Acme/Evil"),
        record("PYSEC-1", "PyPI", "tool"),
        record("MAL-2026-8", "npm", "--no-audit"),
        changed(record("GHSA-3", "npm", "other"), "withdrawn", "2026-02-01T00:00:00Z"),
        changed(record("GHSA-4", "npm", "aaa"), "modified", "2026-03-01T00:00:00Z"),
    ]);
    let index = index(&compiled);
    assert_eq!(ids(&index, "tool"), ["GHSA-1", "GHSA-2"]);
    assert_eq!(ids(&index, "@acme/evil"), ["MAL-2026-7"]);
    assert_eq!(ids(&index, "@ACME/evil"), ["MAL-2026-7"]);
    assert_eq!(ids(&index, "aaa"), ["GHSA-4"]);
    for absent in ["other", "too", "toolx", "zzz", "a", "@acme/x"] {
        assert!(ids(&index, absent).is_empty(), "{absent}");
    }
    let expected = Statistics {
        packages: 3,
        advisories: 4,
        malware: 1,
        withdrawn: 1,
        foreign: 2,
        unreadable: 0,
        ignored: 0,
        newest_modified: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        compiled_at: now(),
    };
    assert_eq!(compiled.statistics, expected);
    let advisory = &index.about(&"tool".parse().unwrap())[0];
    assert_eq!(advisory.affected.range_text(), "<2.0.0");
    assert!(advisory.affected.has_fix_for(&"1.0.0".parse().unwrap()));
}

#[test]
fn order_and_time_are_no_part_of_the_fingerprint() {
    let records: Vec<Value> =
        (0..50).map(|at| record(&format!("GHSA-{at}"), "npm", &format!("tool{}", at % 7))).collect();
    let mut backwards = records.clone();
    backwards.reverse();
    let (one, other) = (compile_records(&records), compile_records(&backwards));
    assert_eq!(one.bytes, other.bytes);
    let bytes = zipped(&entries(&records));
    let later = Timestamp::from_millis(now().as_millis() + 1);
    let later = compile_zip(Cursor::new(&bytes), &mut Cursor::new(&bytes), &Limits::default(), later).unwrap();
    assert_ne!(later.bytes, one.bytes);
    assert_eq!(index(&later).fingerprint(), index(&one).fingerprint());
    let fewer = compile_records(&records[1..]);
    assert_ne!(index(&fewer).fingerprint(), index(&one).fingerprint());
}

#[test]
fn of_two_records_with_one_id_the_newer_holds() {
    let old = record("GHSA-1", "npm", "old");
    let new = changed(record("GHSA-1", "npm", "new"), "modified", "2026-02-01T00:00:00Z");
    let undated = changed(record("GHSA-1", "npm", "undated"), "modified", Value::Null);
    let taken_back = changed(new.clone(), "withdrawn", "2026-02-01T00:00:00Z");
    let in_folders = |records: &[Value]| {
        let named = entries(records).into_iter().enumerate();
        compile_entries(&named.map(|(at, (name, content))| (format!("{at}/{name}"), content)).collect::<Vec<_>>())
    };
    for records in [[&old, &new, &undated], [&new, &undated, &old], [&undated, &old, &new]] {
        let compiled = in_folders(&records.map(Clone::clone)).unwrap();
        let index = index(&compiled);
        assert_eq!((ids(&index, "new").len(), compiled.statistics.advisories), (1, 1));
        assert!(ids(&index, "old").is_empty() && ids(&index, "undated").is_empty());
    }
    // Of the same date: in force, in either order.
    for records in [[&new, &taken_back], [&taken_back, &new]] {
        assert_eq!(ids(&index(&in_folders(&records.map(Clone::clone)).unwrap()), "new"), ["GHSA-1"]);
    }
    let later = changed(taken_back, "modified", "2026-03-01T00:00:00Z");
    let compiled = in_folders(&[later, new]).unwrap();
    assert!(ids(&index(&compiled), "new").is_empty());
    assert_eq!(compiled.statistics.withdrawn, 1);
}

#[test]
fn entries_that_are_no_records() {
    let nested = zipped(&entries(&[record("GHSA-nested", "npm", "nested")]));
    let others = vec![
        ("all.zip".to_owned(), nested.clone()),
        ("README".to_owned(), b"hello".to_vec()),
        (".json".to_owned(), b"{}".to_vec()),
        ("folder/".to_owned(), Vec::new()),
    ];
    assert_eq!(beside_a_good_one(others), (1, 0, 4));
    let text = |value: &Value| value.to_string().into_bytes();
    let good = record("GHSA-1", "npm", "x");
    let unreadable = vec![
        ("GHSA-0.json".to_owned(), text(&good)),
        ("ghsa-1.json".to_owned(), text(&good)),
        ("GHSA-a.json".to_owned(), nested),
        ("GHSA-b.json".to_owned(), Vec::new()),
        ("GHSA-c.json".to_owned(), b"{\"id\":\"GHSA-c\"".to_vec()),
        ("GHSA-d.json".to_owned(), b"{\"id\":\"GHSA-d\",\"affected\":\"\xff\"}".to_vec()),
        ("GHSA-e.json".to_owned(), format!("{{\"id\":\"GHSA-e\",\"affected\":{}", "[".repeat(500_000)).into_bytes()),
        ("GHSA-f.json".to_owned(), vec![b' '; (4 << 20) + 1]),
        ("a b.json".to_owned(), text(&record("a b", "npm", "x"))),
    ];
    assert_eq!(beside_a_good_one(unreadable), (1, 9, 0));
}

#[test]
fn names_are_labels_and_no_paths() {
    let content = |id: &str| record(id, "npm", "x").to_string().into_bytes();
    let names = ["../../etc/GHSA-1.json", "/GHSA-2.json", "c:\\GHSA-3.json", "npm/GHSA-4.json"];
    let odd = names.iter().zip(1..).map(|(name, at)| ((*name).to_owned(), content(&format!("GHSA-{at}"))));
    assert_eq!(beside_a_good_one(odd.collect()), (5, 0, 0));
}

/// Where each header of this kind begins.
fn headers(bytes: &[u8], signature: [u8; 4]) -> Vec<usize> {
    memchr::memmem::find_iter(bytes, &signature).collect()
}

#[test]
fn encrypted_entries_are_unreadable() {
    let mut bytes = zipped(&entries(&[record("GHSA-1", "npm", "a"), record("GHSA-2", "npm", "b")]));
    let (local, central) = (headers(&bytes, *b"PK\x03\x04")[0], headers(&bytes, *b"PK\x01\x02")[0]);
    bytes[local + 6] |= 1;
    bytes[central + 8] |= 1;
    let compiled = compile_bytes(&bytes, &Limits::default()).unwrap();
    assert_eq!((compiled.statistics.advisories, compiled.statistics.unreadable), (1, 1));
}

#[test]
fn what_an_entry_says_of_its_size_is_not_believed() {
    let mut all = entries(&[record("GHSA-1", "npm", "a")]);
    all.push(("GHSA-bomb.json".to_owned(), vec![b' '; 32 << 20]));
    let bytes = zipped(&all);
    assert!(bytes.len() < 100_000);
    for said in [u32::MAX - 1, 32 << 20, 100, 0] {
        let mut bytes = bytes.clone();
        for (signature, at) in [(*b"PK\x03\x04", 22), (*b"PK\x01\x02", 24)] {
            let header = headers(&bytes, signature)[1];
            bytes[header + at..header + at + 4].copy_from_slice(&u32::to_le_bytes(said));
        }
        let limits = Limits { max_total_bytes: 8 << 20, ..Limits::default() };
        let compiled = compile_bytes(&bytes, &limits).unwrap();
        assert_eq!((compiled.statistics.advisories, compiled.statistics.unreadable), (1, 1), "{said}");
    }
}

#[test]
fn each_limit_holds() {
    let records: Vec<Value> = (0..10).map(|at| record(&format!("GHSA-{at}"), "npm", "tool")).collect();
    let bytes = zipped(&entries(&records));
    let with = |limits: Limits| compile_bytes(&bytes, &limits).unwrap_err();
    let all = Limits::default();
    assert!(matches!(with(Limits { max_total_bytes: 500, ..all }), CompileError::TooLarge(500)));
    assert!(matches!(with(Limits { max_records: 9, ..all }), CompileError::TooManyRecords(9)));
    assert!(matches!(with(Limits { max_entries: 9, ..all }), CompileError::TooManyEntries(9)));
    assert!(compile_bytes(&bytes, &Limits { max_records: 10, max_entries: 10, ..all }).is_ok());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("all.zip");
    fs::write(&file, &bytes).unwrap();
    let small = Limits { max_archive_bytes: bytes.len() as u64 - 1, ..all };
    assert!(matches!(compile(&file, &small, now()), Err(CompileError::ArchiveTooLarge(_))));
    assert!(compile(&file, &Limits { max_archive_bytes: bytes.len() as u64, ..all }, now()).is_ok());
    // Ten records that are all too large.
    let tiny = Limits { max_record_bytes: 10, ..all };
    assert!(matches!(with(tiny), CompileError::NothingAboutNpm));
}

#[test]
fn what_is_no_archive() {
    let good = zipped(&entries(&[record("GHSA-1", "npm", "a"), record("GHSA-2", "npm", "b")]));
    for cut in 0..good.len() {
        assert!(compile_bytes(&good[..cut], &Limits::default()).is_err(), "cut at {cut}");
    }
    for bytes in [&b""[..], b"PK", b"{}", b"<html>", &[0; 1000]] {
        assert!(matches!(compile_bytes(bytes, &Limits::default()), Err(CompileError::NotAnArchive(_))), "{bytes:?}");
    }
    assert!(matches!(compile_entries(&[]), Err(CompileError::Empty)));
    let nowhere = TempDir::new().unwrap().path().join("gone");
    assert!(matches!(compile(&nowhere, &Limits::default(), now()), Err(CompileError::Read(_))));
}

#[test]
fn nothing_about_npm_is_an_error() {
    let foreign = entries(&[record("PYSEC-1", "PyPI", "a"), record("MAL-1", "npm", "-x")]);
    assert!(matches!(compile_entries(&foreign), Err(CompileError::NothingAboutNpm)));
    let junk = vec![("GHSA-1.json".to_owned(), b"{}".to_vec())];
    assert!(matches!(compile_entries(&junk), Err(CompileError::NothingAboutNpm)));
    // All of them taken back: that is something about npm.
    let withdrawn = changed(record("GHSA-1", "npm", "a"), "withdrawn", "2026-01-01T00:00:00Z");
    assert_eq!(compile_records(&[withdrawn]).statistics.withdrawn, 1);
}

#[test]
fn too_much_that_is_unreadable_is_an_error() {
    let with = |good: usize, bad: usize| {
        let records: Vec<Value> = (0..good).map(|at| record(&format!("GHSA-{at}"), "npm", "tool")).collect();
        let mut all = entries(&records);
        all.extend((0..bad).map(|at| (format!("bad-{at}.json"), b"{}".to_vec())));
        compile_entries(&all)
    };
    assert!(with(1, 20).is_ok());
    assert!(matches!(with(188, 21), Err(CompileError::TooManyUnreadable { unreadable: 21, entries: 209 })));
    assert!(with(189, 21).is_ok());
}

fn put(path: impl AsRef<Path>, content: &[u8]) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_folder_is_read_as_an_archive_is() {
    let records = [record("GHSA-1", "npm", "a"), record("MAL-2", "npm", "b"), record("GHSA-3", "npm", "c")];
    let folder = TempDir::new().unwrap();
    for (at, (name, content)) in entries(&records).into_iter().enumerate() {
        put(folder.path().join(if at == 0 { name } else { format!("deeper/{name}") }), &content);
    }
    let compiled = compile(folder.path(), &Limits::default(), now()).unwrap();
    assert_eq!(compiled.bytes, compile_records(&records).bytes);
}

#[test]
fn stray_files_in_a_folder() {
    let folder = TempDir::new().unwrap();
    let content = |id: &str, name: &str| record(id, "npm", name).to_string().into_bytes();
    put(folder.path().join("GHSA-1.json"), &content("GHSA-1", "a"));
    put(folder.path().join("GHSA-2.json"), &content("GHSA-other", "b"));
    put(folder.path().join(".git/config"), b"");
    put(folder.path().join("notes.txt"), b"");
    put(folder.path().join("one/two/GHSA-3.json"), &content("GHSA-3", "c"));
    put(folder.path().join("one/GHSA-4.json/x"), b"");
    let compiled = compile(folder.path(), &Limits::default(), now()).unwrap();
    let index = index(&compiled);
    assert_eq!((ids(&index, "a").len(), ids(&index, "b").len(), ids(&index, "c").len()), (1, 0, 0));
    // `config`, `notes.txt`, `two`, and a folder that is named like a record.
    assert_eq!((compiled.statistics.unreadable, compiled.statistics.ignored), (1, 4));
    let small = Limits { max_entries: 3, ..Limits::default() };
    assert!(matches!(compile(folder.path(), &small, now()), Err(CompileError::TooManyEntries(3))));
    let empty = TempDir::new().unwrap();
    assert!(matches!(compile(empty.path(), &Limits::default(), now()), Err(CompileError::Empty)));
}

#[cfg(unix)]
#[test]
fn links_in_a_folder_lead_nowhere() {
    use std::os::unix::fs::symlink;

    let (folder, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let content = |id: &str, name: &str| record(id, "npm", name).to_string().into_bytes();
    put(folder.path().join("GHSA-1.json"), &content("GHSA-1", "a"));
    put(outside.path().join("GHSA-2.json"), &content("GHSA-2", "b"));
    symlink(outside.path().join("GHSA-2.json"), folder.path().join("GHSA-2.json")).unwrap();
    symlink(outside.path(), folder.path().join("more")).unwrap();
    symlink(folder.path(), folder.path().join("round")).unwrap();
    let compiled = compile(folder.path(), &Limits::default(), now()).unwrap();
    assert!(ids(&index(&compiled), "b").is_empty());
    assert_eq!((compiled.statistics.advisories, compiled.statistics.ignored), (1, 3));
    // The folder itself may be one: the operator named it.
    let link = outside.path().join("link");
    symlink(folder.path(), &link).unwrap();
    assert_eq!(compile(&link, &Limits::default(), now()).unwrap().statistics.advisories, 1);
}

proptest! {
    #[test]
    fn any_bytes_as_an_archive_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = compile_bytes(&bytes, &Limits::default());
    }

    #[test]
    fn a_damaged_archive_is_answered(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = zipped(&entries(&[record("GHSA-1", "npm", "a"), record("GHSA-2", "npm", "b")]));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(compiled) = compile_bytes(&bytes, &Limits::default()) {
            prop_assert!(compiled.statistics.advisories <= 2);
            prop_assert!(Index::from_bytes(&compiled.bytes).is_ok());
        }
    }
}

/// What a server was asked with, and what it answers.
type Seen = Arc<Mutex<Vec<HeaderMap>>>;
type Answers = Arc<dyn Fn(&str) -> Response + Send + Sync>;

async fn server(answers: impl Fn(&str) -> Response + Send + Sync + 'static) -> (Url, Seen) {
    async fn answer(State((answers, seen)): State<(Answers, Seen)>, request: Request) -> Response {
        seen.lock().unwrap().push(request.headers().clone());
        answers(request.uri().path())
    }
    let seen = Seen::default();
    let answers: Answers = Arc::new(answers);
    let app = Router::new().fallback(answer).with_state((answers, Arc::clone(&seen)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/all.zip", listener.local_addr().unwrap()).parse().unwrap();
    TaskTracker::new().spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

/// A place for a file, which is not there yet.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("all.zip");
    (folder, file)
}

async fn fetch_new(url: &Url, file: &Path) -> Result<Fetched, FetchError> {
    fetch(url, file, &Validators::default(), &Limits { max_archive_bytes: 1000, ..Limits::default() }).await
}

#[tokio::test]
async fn an_archive_is_fetched_and_then_asked_for_with_its_validators() {
    let (url, seen) = server(|_| {
        let headers = [(header::ETAG, "\"1\""), (header::LAST_MODIFIED, "Tue, 24 Nov 2026 12:00:00 GMT")];
        (headers, "bytes of it").into_response()
    })
    .await;
    let (_folder, file) = place();
    fs::write(&file, "an older and longer one").unwrap();
    let Fetched::Archive { validators, bytes } = fetch_new(&url, &file).await.unwrap() else { panic!("not modified") };
    assert_eq!((fs::read(&file).unwrap(), bytes), (b"bytes of it".to_vec(), 11));
    fetch(&url, &file, &validators, &Limits::default()).await.unwrap();
    let dated = Validators { etag: None, ..validators };
    fetch(&url, &file, &dated, &Limits::default()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].get(header::IF_NONE_MATCH).is_none() && seen[0].get(header::IF_MODIFIED_SINCE).is_none());
    assert_eq!(seen[1].get(header::IF_NONE_MATCH).unwrap(), "\"1\"");
    assert!(seen[1].get(header::IF_MODIFIED_SINCE).is_none());
    assert_eq!(seen[2].get(header::IF_MODIFIED_SINCE).unwrap(), "Tue, 24 Nov 2026 12:00:00 GMT");
}

#[tokio::test]
async fn not_modified_leaves_the_file_alone() {
    let (url, _) = server(|_| StatusCode::NOT_MODIFIED.into_response()).await;
    let (_folder, file) = place();
    fs::write(&file, "kept").unwrap();
    let known = Validators { etag: Some("\"1\"".to_owned()), last_modified: None };
    assert_eq!(fetch(&url, &file, &known, &Limits::default()).await.unwrap(), Fetched::NotModified);
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    assert!(matches!(fetch_new(&url, &file).await, Err(FetchError::BadAnswer(_))));
}

#[tokio::test]
async fn answers_that_are_no_archive() {
    let (url, _) = server(|path| match path {
        "/all.zip" => StatusCode::NOT_FOUND.into_response(),
        "/page" => ([(header::CONTENT_TYPE, "Text/HTML; charset=utf-8")], "<html>").into_response(),
        "/round" => (StatusCode::FOUND, [(header::LOCATION, "/round")]).into_response(),
        "/there" => (StatusCode::FOUND, [(header::LOCATION, "/good")]).into_response(),
        "/large" => vec![0; 1001].into_response(),
        "/larger" => {
            let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![0; 100])));
            Body::from_stream(futures::stream::iter(chunks)).into_response()
        }
        "/broken" => {
            let chunks = [Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))];
            Body::from_stream(futures::stream::iter(chunks)).into_response()
        }
        _ => "good".into_response(),
    })
    .await;
    let (_folder, file) = place();
    let at = |path: &str| url.join(path).unwrap();
    assert!(matches!(fetch_new(&url, &file).await, Err(FetchError::Status(404))));
    assert!(matches!(fetch_new(&at("/page"), &file).await, Err(FetchError::BadAnswer(_))));
    assert!(matches!(fetch_new(&at("/round"), &file).await, Err(FetchError::Status(302))));
    assert!(matches!(fetch_new(&at("/large"), &file).await, Err(FetchError::TooLarge(1000))));
    assert!(matches!(fetch_new(&at("/larger"), &file).await, Err(FetchError::TooLarge(1000))));
    assert!(matches!(fetch_new(&at("/broken"), &file).await, Err(FetchError::Unavailable(_))));
    assert!(!file.exists());
    assert!(matches!(fetch_new(&at("/there"), &file).await, Ok(Fetched::Archive { bytes: 4, .. })));
    assert!(matches!(fetch_new(&"ftp://acme.example/".parse().unwrap(), &file).await, Err(FetchError::Address)));
    assert!(matches!(fetch_new(&at("/good"), &file.join("x")).await, Err(FetchError::Write(_))));
}

#[tokio::test]
async fn a_source_that_falls_silent_is_left() {
    let (url, _) = server(|_| {
        let silence = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"half")) });
        let chunks = futures::StreamExt::chain(silence, futures::stream::pending());
        Body::from_stream(chunks).into_response()
    })
    .await;
    let (_folder, file) = place();
    let known = Validators::default();
    let fetched = fetch_within(&url, &file, &known, &Limits::default(), Duration::from_millis(50)).await;
    assert!(matches!(fetched, Err(FetchError::Timeout)));
    assert!(!file.exists());
}

#[tokio::test]
async fn an_error_names_no_password() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://reader:hunter2@{address}/all.zip?token=hunter2").parse().unwrap();
    let (_folder, file) = place();
    let error = fetch_new(&url, &file).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
