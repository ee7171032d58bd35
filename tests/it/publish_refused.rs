//! `PUT /{package}` with what no client should send: refused in words, and nothing kept.

use axum::body::Body;
use bytes::Bytes;
use holdfast::settings::Settings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Caller, TestApp, refused};
use crate::support::http::publish_document;
use crate::support::tarballs::{self, Tarball};

/// An application with a package, and what it holds.
struct Fixture {
    app: TestApp,
    alice: Caller,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let app = TestApp::with(change);
        let alice = app.user("alice").await;
        alice.publish_versions("tool", &["1.0.0"]).await;
        Self { app, alice }
    }

    /// Sends a body to the package's path, and to that of one that is not there yet, and checks that it is refused and
    /// leaves nothing behind.
    async fn refuses(&self, what: &str, status: u16, path: &str, body: impl Into<Bytes>) -> String {
        let before = self.app.stored();
        let answer = self.alice.send(Method::PUT, path, &[], Body::from(body.into())).await;
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
        let sentence = refused(&answer, status);
        let after = self.app.stored();
        assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{what} left something");
        assert_eq!(after, before, "{what} changed something");
        sentence
    }

    /// A good document for a next version, made bad.
    async fn refuses_changed(&self, what: &str, status: u16, change: impl Fn(&mut Value)) -> String {
        let mut sentences = Vec::new();
        for (name, version) in [("tool", "2.0.0"), ("fresh", "2.0.0")] {
            let mut document = publish_document(&Tarball::new(name, version), "latest");
            change(&mut document);
            sentences.push(self.refuses(what, status, &format!("/{name}"), document.to_string()).await);
        }
        sentences.remove(0)
    }
}

/// What a test does to a good document.
type Change = fn(&mut Value);

/// The only version of a document, and the only attachment.
fn version(document: &mut Value) -> &mut Value {
    document["versions"].as_object_mut().unwrap().values_mut().next().unwrap()
}

fn attachment(document: &mut Value) -> &mut Value {
    document["_attachments"].as_object_mut().unwrap().values_mut().next().unwrap()
}

/// Puts other bytes in the place of the tarball, with everything else right for them.
fn replace_tarball(document: &mut Value, bytes: &[u8]) {
    version(document)["dist"] =
        json!({ "integrity": tarballs::integrity(bytes), "shasum": tarballs::shasum(bytes), "tarball": "x" });
    let attachment = attachment(document);
    attachment["data"] = json!(tarballs::base64(bytes));
    attachment["length"] = json!(bytes.len());
}

#[tokio::test]
async fn documents_that_contradict_themselves_are_refused() {
    let fixture = Fixture::new().await;
    let table: &[(&str, u16, Change)] = &[
        ("another name", 400, |document| document["name"] = json!("other")),
        ("no name", 400, |document| drop(document.as_object_mut().unwrap().remove("name"))),
        ("a name that is no text", 400, |document| document["name"] = json!({ "a": 1 })),
        ("another _id", 400, |document| document["_id"] = json!("other")),
        ("another name in the version", 400, |document| version(document)["name"] = json!("other")),
        ("another version in the version", 400, |document| version(document)["version"] = json!("2.0.1")),
        ("no version in the version", 400, |document| version(document)["version"] = json!(2)),
        ("a version that is no object", 400, |document| *version(document) = json!("2.0.0")),
        ("versions that are no object", 400, |document| document["versions"] = json!([1])),
        ("no dist-tags", 400, |document| drop(document.as_object_mut().unwrap().remove("dist-tags"))),
        ("empty dist-tags", 400, |document| document["dist-tags"] = json!({})),
        ("dist-tags that are no object", 400, |document| document["dist-tags"] = json!("latest")),
        ("a tag that names no text", 400, |document| document["dist-tags"] = json!({ "latest": 2 })),
        ("a tag to another version", 400, |document| document["dist-tags"] = json!({ "latest": "3.0.0" })),
        ("a tag that is a version", 400, |document| document["dist-tags"] = json!({ "1.0.0": "2.0.0" })),
        ("a tag that is a range", 400, |document| document["dist-tags"] = json!({ "^1": "2.0.0" })),
        ("a tag that is a v and a number", 400, |document| document["dist-tags"] = json!({ "v1": "2.0.0" })),
        ("a tag with a slash", 400, |document| document["dist-tags"] = json!({ "a/b": "2.0.0" })),
        ("an empty tag", 400, |document| document["dist-tags"] = json!({ "": "2.0.0" })),
        ("a tag with a NUL", 400, |document| document["dist-tags"] = json!({ "a\u{0}": "2.0.0" })),
        ("a private package", 400, |document| version(document)["private"] = json!(true)),
        ("a second version", 400, |document| {
            document["versions"]["2.0.1"] = json!({ "name": "x", "version": "2.0.1" });
        }),
        ("a second version with a tag", 400, |document| {
            document["versions"]["6.6.6"] = version(document).clone();
            document["versions"]["6.6.6"]["version"] = json!("6.6.6");
            document["dist-tags"]["evil"] = json!("6.6.6");
        }),
        ("two attachments", 400, |document| {
            document["_attachments"]["tool-3.0.0.tgz"] = attachment(document).clone();
        }),
        ("an attachment of another name", 400, |document| {
            document["_attachments"] = json!({ "other-2.0.0.tgz": attachment(document) });
        }),
        ("an attachment of another version", 400, |document| {
            document["_attachments"] = json!({ "tool-2.0.1.tgz": attachment(document) });
        }),
        ("an attachment outside", 400, |document| {
            document["_attachments"] = json!({ "../tool-2.0.0.tgz": attachment(document) });
        }),
        ("an attachment with a NUL", 400, |document| {
            document["_attachments"] = json!({ "tool-2.0.0\u{0}.tgz": attachment(document) });
        }),
    ];
    for (what, status, change) in table {
        fixture.refuses_changed(what, *status, change).await;
    }
}

#[tokio::test]
async fn versions_that_are_none_are_refused() {
    let fixture = Fixture::new().await;
    for number in ["2", "2.0", "latest", "02.0.0", "2.0.0-01", " 2.0.0", "2.0.0/../x", "", "99999999999999999999.0.0"] {
        let document = publish_document(&Tarball::new("tool", number), "latest");
        fixture.refuses(number, 400, "/tool", document.to_string()).await;
    }
    let long = format!("2.0.0-{}", "a".repeat(300));
    let document = publish_document(&Tarball::new("tool", &long), "latest");
    fixture.refuses("a long version", 400, "/tool", document.to_string()).await;
}

#[tokio::test]
async fn names_that_nobody_may_create_are_refused() {
    let fixture = Fixture::new().await;
    for name in [
        "Tool",
        "TOOL2",
        "a b",
        "a~b",
        "a!",
        "b'",
        "(c)",
        "d*",
        "node_modules",
        "favicon.ico",
        ".hidden",
        "_private",
        "-",
        "-dash",
        "..",
        "a\\b",
        "ü",
        "@Acme/tool",
        "@acme/node_modules",
        "@acme/.x",
        "@acme/",
        "@/x",
        "a/b",
        "a\u{0}b",
        "%2e%2e",
    ] {
        let document = publish_document(&Tarball::new(name, "1.0.0"), "latest");
        let path: String = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).collect();
        let before = fixture.app.stored();
        let answer = fixture.alice.put(&format!("/{path}"), &document).await;
        assert!([400, 404].contains(&answer.status.as_u16()), "{name}: {} {}", answer.status, answer.text());
        refused(&answer, answer.status.as_u16());
        assert_eq!(fixture.app.stored(), before, "{name}");
    }
    let long = "a".repeat(215);
    let document = publish_document(&Tarball::new(&long, "1.0.0"), "latest").to_string();
    fixture.refuses("a long name", 400, &format!("/{long}"), document).await;
}

#[tokio::test]
async fn an_attachment_must_be_what_is_said_of_it() {
    fn other() -> Vec<u8> {
        Tarball::new("tool", "2.0.0").file("other.js", "other").bytes()
    }
    let fixture = Fixture::new().await;
    let table: &[(&str, u16, Change)] = &[
        ("no attachments", 404, |document| document["_attachments"] = json!({})),
        ("no _attachments", 404, |document| drop(document.as_object_mut().unwrap().remove("_attachments"))),
        ("no data", 404, |document| drop(attachment(document).as_object_mut().unwrap().remove("data"))),
        ("data that is no text", 404, |document| attachment(document)["data"] = json!(7)),
        ("base64 of another alphabet", 400, |document| attachment(document)["data"] = json!("_-_-")),
        ("base64 with a break", 400, |document| attachment(document)["data"] = json!("H4sI\nAAAA")),
        ("base64 without padding", 400, |document| attachment(document)["data"] = json!("H4sIA")),
        ("base64 that goes on after its padding", 400, |document| attachment(document)["data"] = json!("H4==H4sI")),
        ("no bytes", 422, |document| attachment(document)["data"] = json!("")),
        ("a wrong length", 400, |document| attachment(document)["length"] = json!(7)),
        ("a negative length", 400, |document| attachment(document)["length"] = json!(-7)),
        ("a length that is a text", 400, |document| attachment(document)["length"] = json!("many")),
        ("another integrity", 400, |document| {
            version(document)["dist"]["integrity"] = json!(tarballs::integrity(&other()));
        }),
        ("an integrity that is none", 400, |document| version(document)["dist"]["integrity"] = json!("sha512-x")),
        ("a weak integrity", 400, |document| version(document)["dist"]["integrity"] = json!("md5-AAAA")),
        ("another shasum", 400, |document| version(document)["dist"]["shasum"] = json!(tarballs::shasum(&other()))),
        ("a short shasum", 400, |document| version(document)["dist"]["shasum"] = json!("00")),
        ("no hashes", 400, |document| version(document)["dist"] = json!({ "tarball": "x" })),
        ("no dist", 400, |document| drop(version(document).as_object_mut().unwrap().remove("dist"))),
    ];
    for (what, status, change) in table {
        fixture.refuses_changed(what, *status, change).await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_package_is_refused() {
    let fixture = Fixture::new().await;
    let whole = Tarball::new("tool", "2.0.0").bytes();
    let plain = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        archive.append_data(&mut header, "package/package.json", &b"{}"[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let table: [(&str, Vec<u8>); 8] = [
        ("a text", b"this is no gzip at all".to_vec()),
        ("a tar without gzip", plain.clone()),
        ("a gzip without a tar", tarballs::gzip(b"no tar")),
        ("an empty gzip", tarballs::gzip(b"")),
        ("half a tarball", whole[..whole.len() / 2].to_vec()),
        ("a damaged tarball", damaged),
        ("a tarball with more after it", [whole.clone(), b"more".to_vec()].concat()),
        ("a manifest that says nothing", tarballs::gzip(&plain)),
    ];
    for (what, bytes) in &table {
        fixture.refuses_changed(what, 422, |document| replace_tarball(document, bytes)).await;
    }
    for (what, path) in [
        ("two manifests", "package.json"),
        ("a manifest in other letters", "Package.JSON"),
        ("a path with a back-slash", "a\\b.js"),
    ] {
        let bytes = Tarball::new("tool", "2.0.0").file(path, "{}").bytes();
        fixture.refuses_changed(what, 422, |document| replace_tarball(document, &bytes)).await;
    }
}

#[tokio::test]
async fn what_unpacks_to_too_much_is_refused() {
    let fixture = Fixture::with(|settings| {
        settings.limits.tarball.max_unpacked_bytes = 1 << 20;
        settings.limits.tarball.max_entries = 50;
        settings.limits.tarball.max_manifest_bytes = 10_000;
        settings.limits.body.max_tarball_bytes = 200_000;
        settings.limits.body.max_document_bytes = 100_000;
    })
    .await;
    let many = (0..60).fold(Tarball::new("tool", "2.0.0"), |tarball, number| tarball.file(&format!("{number}.js"), ""));
    let bomb = Tarball::new("tool", "2.0.0").file("zeros", vec![0; 2 << 20]);
    assert!(bomb.bytes().len() < 50_000, "a bomb is small");
    let noise = Tarball::new("tool", "2.0.0").file("noise", crate::support::upstream::noise(300_000));
    let wordy = Tarball::new("tool", "2.0.0").set("description", json!("word ".repeat(3_000)));
    for (what, tarball) in [("many files", &many), ("a bomb", &bomb), ("a large file", &noise), ("words", &wordy)] {
        fixture.refuses(what, 413, "/tool", publish_document(tarball, "latest").to_string()).await;
    }
    let mut huge = publish_document(&Tarball::new("tool", "2.0.0"), "latest");
    huge["readme"] = json!("x".repeat(200_000));
    fixture.refuses("a large document", 413, "/tool", huge.to_string()).await;
    huge.as_object_mut().unwrap().remove("_attachments");
    fixture.refuses("a large document without a tarball", 413, "/tool", huge.to_string()).await;
}

#[tokio::test]
async fn a_document_that_differs_from_the_manifest_names_the_field() {
    let fixture = Fixture::new().await;
    let packed = || {
        Tarball::new("tool", "2.0.0")
            .set("dependencies", json!({ "left": "^1.0.0" }))
            .set("optionalDependencies", json!({ "right": "^1.0.0" }))
            .set("peerDependencies", json!({ "middle": "^1.0.0" }))
            .set("scripts", json!({ "postinstall": "node index.js" }))
            .set("bin", json!({ "tool": "index.js" }))
    };
    for (field, value) in [
        ("dependencies", json!({ "left": "^1.0.0", "evil": "*" })),
        ("dependencies", json!({})),
        ("optionalDependencies", json!({ "right": "^2.0.0" })),
        ("peerDependencies", json!({ "other": "^1.0.0" })),
        ("scripts", json!({})),
        ("scripts", json!({ "postinstall": "node other.js" })),
        ("bin", json!({ "tool": "other.js" })),
    ] {
        let mut document = publish_document(&packed(), "latest");
        version(&mut document)[field] = value.clone();
        let sentence = fixture.refuses(field, 422, "/tool", document.to_string()).await;
        assert!(sentence.contains(&format!("`{field}`")), "{field} {value}: {sentence}");
    }
    for (field, tarball) in [("name", Tarball::new("other", "2.0.0")), ("version", Tarball::new("tool", "2.0.1"))] {
        let mut document = publish_document(&Tarball::new("tool", "2.0.0"), "latest");
        replace_tarball(&mut document, &tarball.bytes());
        let sentence = fixture.refuses(field, 422, "/tool", document.to_string()).await;
        assert!(sentence.contains(&format!("`{field}`")), "{sentence}");
    }
    fixture.alice.publish(&packed()).await.ok();
}

#[tokio::test]
async fn what_is_no_document_is_refused() {
    let fixture = Fixture::new().await;
    let whole = publish_document(&Tarball::new("tool", "2.0.0"), "latest").to_string();
    let deep = |open: &str, close: &str| format!("{{\"a\":{}{}}}", open.repeat(100_000), close.repeat(100_000));
    for (what, status, body) in [
        ("nothing", 400, String::new()),
        ("a text", 400, "publish this".to_owned()),
        ("a list", 400, "[]".to_owned()),
        ("null", 400, "null".to_owned()),
        ("two documents", 400, format!("{whole}{whole}")),
        ("deep lists", 413, deep("[", "]")),
        ("deep objects", 413, deep("{\"a\":", "}").replace("}}", "1}}")),
        ("the opening of deep lists", 413, format!("{{\"a\":{}", "[".repeat(1_000_000))),
        ("attachments twice", 400, whole.replacen("\"access\"", "\"_attachments\":{},\"access\"", 1)),
    ] {
        fixture.refuses(what, status, "/tool", body).await;
    }
    for at in [1, whole.len() / 4, whole.len() / 2, whole.len() - 1] {
        fixture.refuses("a body that ends early", 400, "/tool", whole[..at].to_owned()).await;
    }
}

#[tokio::test]
async fn a_body_that_is_cut_leaves_nothing() {
    let fixture = Fixture::new().await;
    let tarball = Tarball::new("tool", "2.0.0").file("data.bin", crate::support::upstream::noise(1 << 20));
    let whole = Bytes::from(publish_document(&tarball, "latest").to_string());
    let before = fixture.app.stored();
    for at in [10, whole.len() / 2, whole.len() - 10] {
        let pieces = [Ok(whole.slice(..at)), Err(std::io::Error::other("cut by the test"))];
        let body = Body::from_stream(futures::stream::iter(pieces));
        let answer = fixture.alice.send(Method::PUT, "/tool", &[], body).await;
        let sentence = refused(&answer, 400);
        assert!(sentence.contains("cut"), "{sentence}");
        assert_eq!(fixture.app.stored(), before);
    }
    fixture.alice.publish(&tarball).await.ok();
}
