//! A disk without room: a small file system in memory, which only root may mount.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdfast::clock::Clock;
use holdfast::events::Event;
use holdfast::maintenance::{MoveError, Wish, backup, copy};
use holdfast::sinks::{SinkKind, SinkSettings, Wants};
use holdfast::storage::{Error, Store};
use tempfile::TempDir;

use crate::support::in_process::{Plan, reopened};
use crate::support::tarballs::Tarball;
use crate::support::upstream::{Upstream, noise};

/// A mounted file system. Unmounted when dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not permitted, which is a failure in CI.
    fn mount(megabytes: usize) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("holdfast-small-disk-").tempdir().unwrap();
        let options = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        assert!(std::env::var_os("CI").is_none(), "a small disk cannot be mounted: {mounted:?}");
        eprintln!("skipped: a small disk can only be mounted by root");
        None
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Leaves so many bytes of room.
    fn fill_up_to(&self, room_bytes: usize) {
        self.fill();
        let file = std::fs::OpenOptions::new().write(true).open(self.filler()).unwrap();
        file.set_len(file.metadata().unwrap().len() - room_bytes as u64).unwrap();
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        let mut piece = noise(1 << 20);
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                let half = piece.len() / 2;
                piece.truncate(half);
            }
        }
        assert!(std::fs::write(self.folder.path().join("one-more"), [0; 8192]).is_err(), "the disk is not full");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the search index may still be mapped.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

fn plan_on(disk: &SmallDisk, upstream: Option<&str>) -> Plan {
    let mut plan = upstream.map_or_else(Plan::alone, Plan::upstream);
    plan.settings.storage.directory = disk.data();
    plan
}

fn large(name: &str, version: &str) -> Tarball {
    Tarball::new(name, version).file("data.bin", noise(600_000))
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let plan = plan_on(&disk, None);
    let server = plan.start().await.signed_in("alice").await;
    let kept = large("kept", "1.0.0");
    server.publish(&kept, "latest").await.ok();
    server.app.registry.index_settled().await;
    let before = server.get("/kept").await.ok().json();

    disk.fill();
    for tarball in [large("kept", "2.0.0"), large("new", "1.0.0"), Tarball::new("tiny", "1.0.0")] {
        server.publish(&tarball, "latest").await.refused(&[507]);
    }
    server.put("/-/package/kept/dist-tags/next", &"1.0.0".into()).await.refused(&[507]);
    server.sign_in("bob").await.refused(&[507]);
    server.get("/-/user/org.couchdb.user:bob").await.refused(&[404]);
    assert_eq!(server.get("/kept").await.ok().json(), before);
    assert_eq!(server.get("/kept/-/kept-1.0.0.tgz").await.ok().body, kept.bytes());
    server.get("/new").await.refused(&[404]);
    assert_eq!(server.get("/-/v1/search?text=kept").await.ok().json()["total"], 1);
    assert_eq!(server.get("/-/whoami").await.ok().json()["username"], "alice");
    assert!(is_empty(&disk.data().join("-/staging")));

    // A start finds the disk full, too.
    let token = server.token().to_owned();
    server.stop().await;
    let server = plan.start().await.with_token(&token);
    assert_eq!(server.get("/kept").await.ok().json(), before);
    assert_eq!(server.get("/kept/-/kept-1.0.0.tgz").await.ok().body, kept.bytes());
    server.publish(&large("kept", "2.0.0"), "latest").await.refused(&[507]);

    disk.make_room();
    server.publish(&large("kept", "2.0.0"), "latest").await.ok();
    server.publish(&Tarball::new("tiny", "1.0.0"), "latest").await.ok();
    assert_eq!(server.get("/kept").await.ok().json()["dist-tags"]["latest"], "2.0.0");
    server.app.registry.index_settled().await;
    assert_eq!(server.get("/-/v1/search?text=tiny").await.ok().json()["total"], 1);
    server.stop().await;
    let server = plan.start().await;
    assert_eq!(server.get("/kept/-/kept-2.0.0.tgz").await.ok().body, large("kept", "2.0.0").bytes());
    server.app.registry.index_settled().await;
    assert_eq!(server.get("/-/v1/search?text=kept").await.ok().json()["objects"][0]["package"]["version"], "2.0.0");
    server.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_of_a_publish_keeps_nothing_of_it() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let plan = plan_on(&disk, None);
    let server = plan.start().await.signed_in("alice").await;
    let tarball = Tarball::new("huge", "1.0.0").file("data.bin", noise(40 << 20));
    server.publish(&tarball, "latest").await.refused(&[507]);
    assert!(is_empty(&disk.data().join("-/staging")));
    server.get("/huge").await.refused(&[404]);
    server.publish(&large("modest", "1.0.0"), "latest").await.ok();
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_keeps_no_part_of_what_comes_from_upstream() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let upstream = Upstream::with_fixtures();
    let plan = plan_on(&disk, Some(upstream.url()));
    let server = plan.start().await;
    let cached = server.get_abbreviated("/left").await.ok().json();
    let tarball = server.get("/left/-/left-1.2.0.tgz").await.ok().body;
    disk.fill();
    assert_eq!(server.get_abbreviated("/left").await.ok().json(), cached);
    assert_eq!(server.get("/left/-/left-1.2.0.tgz").await.ok().body, tarball);
    server.get_abbreviated("/large").await.refused(&[502, 503, 507]);
    let large = server.get("/large/-/large-1.0.0.tgz").await;
    assert!(!large.status.is_success() || !large.is_whole);
    disk.make_room();
    server.get("/large/-/large-1.0.0.tgz").await.ok();
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_line_of_what_is_told_to_a_file() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let path = disk.folder.path().join("events.jsonl");
    let mut plan = Plan::alone();
    let (kind, timeout) = (SinkKind::File { path: path.clone() }, Duration::from_secs(5));
    plan.settings.sinks =
        vec![SinkSettings { name: "file".to_owned(), kind, wants: Wants::default(), timeout, tries: 100 }];
    let server = plan.start().await.signed_in("alice").await;
    let tell = async || server.app.sinks.deliver_within(crate::support::PATIENCE).await;
    let lines = || -> Vec<Event> {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    server.publish(&Tarball::new("first", "1.0.0"), "latest").await.ok();
    tell().await;
    assert_eq!(lines().len(), 1);
    disk.fill();
    let names: Vec<String> = (0..40).map(|number| format!("tool-{number}")).collect();
    for name in &names {
        server.publish(&Tarball::new(name, "1.0.0"), "latest").await.ok();
    }
    tell().await;
    let status = server.app.sinks.status().await.unwrap().remove(0);
    assert!(status.last_error.is_some_and(|error| error.contains("cannot be written")));
    assert!(lines().len() < names.len());
    disk.make_room();
    plan.clock.advance(Duration::from_hours(2));
    tell().await;
    let told: Vec<String> = lines().into_iter().filter_map(|event| event.package).collect();
    assert_eq!(told[1..], names);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_while_a_store_is_copied_or_backed_up_stops_it_and_no_more() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let plan = Plan::alone();
    let server = plan.start().await.signed_in("alice").await;
    for number in 0..12 {
        server.publish(&large(&format!("package-{number}"), "1.0.0"), "latest").await.ok();
    }
    server.stop().await;
    let source = Store::open_reading(plan.data()).unwrap();
    disk.fill_up_to(4 << 20);
    {
        let target = Store::open(&disk.data()).unwrap();
        let stopped = copy(&source, &target, &Clock::default(), Wish::default(), |_, _| {}).await;
        assert!(matches!(stopped, Err(MoveError::Target { source: Error::Full(_), .. })), "{stopped:?}");
    }
    let archive = disk.folder.path().join("npm.tar.zst");
    let stopped = backup::into_archive(&source, &archive, &Clock::default(), Wish::default(), |_, _| {}).await;
    assert!(stopped.is_err() && !archive.exists());
    disk.make_room();
    let target = reopened(&disk.data()).await;
    let report = copy(&source, &target, &Clock::default(), Wish::default(), |_, _| {}).await.unwrap();
    assert!(!report.has_problems() && report.copied > 0, "{report:?}");
}
