//! What every store must do, whatever it is made of: whole objects or none, one winner, no lost update.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use holdfast::keys::{self, Key};
use holdfast::storage::{
    ByteRange, Change, Durability, Error, Existing, Fault, FaultPlan, FollowError, Location, Store, UpdateError,
};
use tempfile::TempDir;

use crate::support::bucket::location;
use crate::support::in_process::files_below;
use crate::support::object_server::ObjectServer;

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

/// A store of one kind, and what it stands on.
struct Place {
    store: Store,
    folder: Option<TempDir>,
    server: Option<ObjectServer>,
}

impl Place {
    /// What is on its way into the store and was left there.
    fn leftovers(&self) -> usize {
        let files = self.folder.as_ref().map_or(0, |folder| staged(folder.path()));
        files + self.server.as_ref().map_or(0, |server| server.open_uploads().len())
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.folder.is_some() {
            "directory"
        } else if self.server.is_some() {
            "S3"
        } else {
            "memory"
        })
    }
}

/// One empty store of each kind.
fn places() -> [Place; 3] {
    let (folder, store) = store();
    let memory = Store::at(&Location::Bucket(Box::default())).unwrap();
    let server = ObjectServer::start("bucket");
    let bucket = Store::at(&location(&server, "s3://bucket/below/here")).unwrap();
    [
        Place { store, folder: Some(folder), server: None },
        Place { store: memory, folder: None, server: None },
        Place { store: bucket, folder: None, server: Some(server) },
    ]
}

/// The keys of packages and accounts, without what the store itself has written.
async fn listed(store: &Store) -> Vec<Key> {
    let (mut found, mut keys) = (Vec::new(), store.list());
    while let Some(key) = keys.recv().await {
        found.push(key.unwrap());
    }
    found.retain(|key| *key != keys::store_conditions());
    found.sort();
    found
}

fn key(name: &str) -> Key {
    keys::packument(&name.parse().unwrap())
}

fn staged(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("-/staging")).unwrap().count()
}

/// Adds one to a decimal number.
#[expect(clippy::unnecessary_wraps, reason = "the shape that an update wants")]
fn increment(stored: Option<Bytes>) -> Result<Change<u32>, Infallible> {
    let number = stored.map_or(0, |bytes| std::str::from_utf8(&bytes).unwrap().parse::<u32>().unwrap()) + 1;
    Ok(Change::Write(number.to_string().into(), number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_creators_one_wins() {
    for place in places() {
        let store = place.store.clone();
        for round in 0..10 {
            let key = key(&format!("raced-{round}"));
            let creators = (0..16).map(|number: u32| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move { (number, store.create(&key, number.to_string().into()).await) })
            });
            let outcomes: Vec<_> = futures::future::join_all(creators).await.into_iter().map(Result::unwrap).collect();
            let winners: Vec<u32> =
                outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(number, _)| *number).collect();
            assert_eq!(winners.len(), 1, "{outcomes:?}");
            assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Ok(()) | Err(Error::Exists))), "{outcomes:?}");
            assert_eq!(store.read(&key).await.unwrap(), winners[0].to_string());
        }
        assert_eq!(place.leftovers(), 0);
    }
}

#[tokio::test]
async fn an_object_is_made_replaced_and_removed() {
    for place in places() {
        let store = place.store.clone();
        let key = key("plain");
        assert!(matches!(store.read(&key).await, Err(Error::NotFound)));
        assert!(matches!(store.open_object(&key).await, Err(Error::NotFound)));
        assert!(matches!(store.delete(&key).await, Err(Error::NotFound)));
        for durability in [Durability::Synced, Durability::Cache] {
            store.put(&key, "first".into(), durability).await.unwrap();
            let old = store.open_object(&key).await.unwrap();
            store.put(&key, "the second".into(), durability).await.unwrap();
            assert_eq!(store.read(&key).await.unwrap(), "the second");
            let new = store.open_object(&key).await.unwrap();
            assert_ne!(old.etag(), new.etag());
            assert_eq!((old.size_bytes(), new.size_bytes()), (5, 10));
            if store.is_shared() {
                store.delete(&key).await.unwrap();
                continue;
            }
            // Whoever had it open goes on reading what it was.
            store.delete(&key).await.unwrap();
            assert_eq!(old.stream_all().try_collect::<Vec<_>>().await.unwrap().concat(), b"first");
            let part: Vec<Bytes> = new.stream(ByteRange { start: 4, end: 7 }).try_collect().await.unwrap();
            assert_eq!(part.concat(), b"sec");
        }
        store.create(&key, Bytes::new()).await.unwrap();
        assert_eq!(store.read(&key).await.unwrap(), "");
        assert!(matches!(store.create(&key, "again".into()).await, Err(Error::Exists)));
    }
}

#[tokio::test]
async fn what_is_asked_for_again_is_what_is_there_now() {
    for place in places() {
        let store = place.store.clone();
        let key = key("fixed");
        let read =
            async || store.open_fixed(&key).await?.stream_all().try_collect::<Vec<_>>().await.map(|all| all.concat());
        assert!(matches!(read().await, Err(Error::NotFound)));
        for bytes in ["first", "the second"] {
            store.put(&key, bytes.into(), Durability::Synced).await.unwrap();
            for _ in 0..3 {
                assert_eq!(read().await.unwrap(), bytes.as_bytes(), "{place:?}");
            }
        }
        store.delete(&key).await.unwrap();
        assert!(matches!(read().await, Err(Error::NotFound)), "{place:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_removed_file_takes_no_room_on_the_disk() {
    let (folder, store) = store();
    let key = key("large");
    store.put(&key, "bytes".into(), Durability::Synced).await.unwrap();
    let name = folder.path().canonicalize().unwrap().join(key.as_str()).to_str().unwrap().to_owned();
    // Of a file that was removed the system shows the name that it had, with a word behind it.
    let is_open = || {
        let mut open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.any(|entry| {
            std::fs::read_link(entry.unwrap().path()).is_ok_and(|target| target.to_string_lossy().starts_with(&name))
        })
    };
    drop(store.open_fixed(&key).await.unwrap());
    assert!(is_open());
    store.delete(&key).await.unwrap();
    assert!(!is_open());
}

#[tokio::test]
async fn every_part_of_a_large_object_is_read() {
    // Several pieces, and more than a client gets in one turn.
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let size = bytes.len() as u64;
    for place in places() {
        let store = place.store.clone();
        let key = key("large");
        store.put(&key, bytes.clone().into(), Durability::Synced).await.unwrap();
        for _ in 0..2 {
            let download = store.open_fixed(&key).await.unwrap();
            for (start, end) in [(0, size), (1, size), (0, 0), (131_071, 262_145), (131_072, 131_073), (size - 1, size)]
            {
                let (range, expected) =
                    (ByteRange { start, end }, &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]);
                let read = download.stream(range).try_collect::<Vec<_>>().await.unwrap().concat();
                assert!(read == expected, "{place:?}: {range:?}");
                if let Some(read) = download.at_once(range).await.unwrap() {
                    assert!(read == expected, "{place:?}: {range:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_short_while_it_is_read_ends_in_an_error() {
    let (folder, store) = store();
    let key = key("cut");
    store.put(&key, vec![7; 1_000_000].into(), Durability::Synced).await.unwrap();
    let download = store.open_fixed(&key).await.unwrap();
    let mut pieces = Box::pin(download.stream_all());
    let mut read = pieces.next().await.unwrap().unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(folder.path().join(key.as_str())).unwrap();
    file.set_len(500_000).unwrap();
    let ended = loop {
        match pieces.next().await {
            Some(Ok(bytes)) => read += bytes.len(),
            other => break other,
        }
    };
    assert!(matches!(ended, Some(Err(Error::Unavailable(_)))), "{ended:?}");
    assert!(read <= 500_000);
    assert!(matches!(download.at_once(ByteRange { start: 499_999, end: 500_001 }).await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_of_many_are_all_counted() {
    for place in places() {
        let store = place.store.clone();
        let key = key("counter");
        let tasks = (0..8).map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                for _ in 0..25 {
                    store.update(&key, increment).await.unwrap();
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        assert_eq!(store.read(&key).await.unwrap(), "200");
        assert_eq!(place.leftovers(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_leaves_in_the_middle_loses_no_update_of_the_next() {
    for place in places() {
        let store = place.store.clone();
        let key = key("counter");
        for round in 0..20 {
            let (inside, is_inside) = std::sync::mpsc::channel();
            let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
            let may_go_on = Arc::new(std::sync::Mutex::new(may_go_on));
            let leaver = tokio::spawn({
                let (store, key) = (store.clone(), key.clone());
                async move {
                    let change = move |stored| {
                        inside.send(()).unwrap();
                        // Either told to, or the test is over.
                        let _ = may_go_on.lock().unwrap().recv();
                        increment(stored)
                    };
                    store.update(&key, change).await
                }
            });
            tokio::task::spawn_blocking(move || is_inside.recv().unwrap()).await.unwrap();
            leaver.abort();
            assert!(leaver.await.unwrap_err().is_cancelled());
            let next = store.update(&key, increment);
            tokio::pin!(next);
            assert!(futures::poll!(&mut next).is_pending(), "the next one came in before the write had ended");
            go_on.send(()).unwrap();
            assert_eq!(next.await.unwrap(), round * 2 + 2);
        }
    }
}

#[tokio::test]
async fn a_refused_change_writes_nothing_and_a_kept_one_neither() {
    for place in places() {
        let store = place.store.clone();
        let key = key("steady");
        let refused = store.update(&key, |_| Err::<Change<()>, _>("no")).await;
        assert!(matches!(refused, Err(UpdateError::Refused("no"))));
        assert!(matches!(store.read(&key).await, Err(Error::NotFound)));
        store.create(&key, "as it was".into()).await.unwrap();
        let before = store.open_object(&key).await.unwrap();
        let kept = store.update(&key, |stored| Ok::<_, Infallible>(Change::Keep(stored.unwrap().len()))).await;
        assert_eq!(kept.unwrap(), 9);
        assert_eq!(store.open_object(&key).await.unwrap().etag(), before.etag());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_objects_while_they_are_replaced() {
    for place in places() {
        let store = place.store.clone();
        let key = key("moving");
        let object =
            |number: usize| Bytes::from(vec![b'a' + u8::try_from(number % 26).unwrap(); 100_000 + number * 1000]);
        store.put(&key, object(0), Durability::Cache).await.unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let readers = (0..4).map(|_| {
            let (store, key, is_over) = (store.clone(), key.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut reads = 0;
                while !is_over.load(Ordering::SeqCst) || reads == 0 {
                    let whole = store.read(&key).await.unwrap();
                    let streamed = store.open_object(&key).await.unwrap();
                    let streamed = streamed.stream_all().try_collect::<Vec<_>>().await.unwrap().concat();
                    for bytes in [&whole[..], &streamed[..]] {
                        let number = (bytes.len() - 100_000) / 1000;
                        assert_eq!(bytes.len(), 100_000 + number * 1000);
                        assert!(bytes.iter().all(|&byte| usize::from(byte - b'a') == number % 26));
                    }
                    reads += 1;
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        for number in 1..60 {
            let durability = if number % 10 == 0 { Durability::Synced } else { Durability::Cache };
            store.put(&key, object(number), durability).await.unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_upload_is_there_when_it_is_kept_and_gone_when_it_is_dropped() {
    for place in places() {
        let store = place.store.clone();
        let (key, other) = (key("uploaded"), key("kept-elsewhere"));
        let mut upload = store.upload().await.unwrap();
        upload.write("one ".into()).await.unwrap();
        upload.write("two".into()).await.unwrap();
        assert!(matches!(store.read(&key).await, Err(Error::NotFound)));
        let seen = upload.inspect(|reader| std::io::read_to_string(reader).unwrap()).await.unwrap();
        assert_eq!(seen, "one two");
        upload.write(" three".into()).await.unwrap();
        upload.keep(&key, Existing::Refuse, Durability::Synced).await.unwrap();
        assert_eq!(store.read(&key).await.unwrap(), "one two three");
        assert_eq!(place.leftovers(), 0);

        let mut second = store.upload().await.unwrap();
        second.write("other bytes".into()).await.unwrap();
        assert_eq!(place.leftovers(), usize::from(!store.is_shared()));
        assert!(matches!(second.keep(&key, Existing::Refuse, Durability::Synced).await, Err(Error::Exists)));
        second.keep(&other, Existing::Refuse, Durability::Synced).await.unwrap();
        assert_eq!(store.read(&other).await.unwrap(), "other bytes");
        let mut third = store.upload().await.unwrap();
        third.write("given up".into()).await.unwrap();
        drop(third);
        assert_eq!(store.read(&key).await.unwrap(), "one two three");
        assert_eq!(place.leftovers(), 0);
    }
}

#[tokio::test]
async fn a_write_of_an_upload_that_is_cut_short_leaves_nothing() {
    for place in places() {
        let store = place.store.clone();
        let mut upload = store.upload().await.unwrap();
        {
            let write = upload.write(vec![1; 1 << 20].into());
            tokio::pin!(write);
            let _ = futures::poll!(&mut write);
        }
        // Cut or not, what follows is refused or whole; never a file with a hole.
        let key = key("cut");
        let outcome = upload.write("more".into()).await;
        if outcome.is_err() {
            assert!(upload.keep(&key, Existing::Refuse, Durability::Cache).await.is_err());
            assert!(matches!(store.read(&key).await, Err(Error::NotFound)));
        } else {
            drop(upload);
        }
        // The blocking pool may still have the file for a moment.
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while place.leftovers() > 0 {
            assert!(std::time::Instant::now() < deadline, "a staged file remained");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_follower_gets_everything_of_a_whole_upload() {
    for place in places() {
        let store = place.store.clone();
        let mut upload = store.upload().await.unwrap();
        let early = tokio::spawn(upload.follow().stream().try_collect::<Vec<_>>());
        let mut expected = Vec::new();
        for number in 0..5_u8 {
            let piece = vec![number; 300_000];
            expected.extend_from_slice(&piece);
            upload.write(piece.into()).await.unwrap();
        }
        let late = tokio::spawn(upload.follow().stream().try_collect::<Vec<_>>());
        upload.complete();
        upload.keep(&key("followed"), Existing::Refuse, Durability::Synced).await.unwrap();
        assert_eq!(early.await.unwrap().unwrap().concat(), expected);
        assert_eq!(late.await.unwrap().unwrap().concat(), expected);
    }
}

#[tokio::test]
async fn a_follower_of_an_aborted_upload_never_gets_the_last_byte() {
    for sizes in [vec![], vec![1_usize], vec![2], vec![256 * 1024, 1], vec![300_000, 300_000]] {
        let (_folder, store) = store();
        let mut upload = store.upload().await.unwrap();
        let follower = upload.follow();
        let collecting = tokio::spawn(async move {
            let mut stream = Box::pin(follower.stream());
            let mut received = 0;
            loop {
                match stream.next().await {
                    Some(Ok(bytes)) => received += bytes.len(),
                    end => return (received, end),
                }
            }
        });
        let total: usize = sizes.iter().sum();
        for size in &sizes {
            upload.write(vec![7; *size].into()).await.unwrap();
        }
        drop(upload);
        let (received, end) = collecting.await.unwrap();
        assert!(matches!(end, Some(Err(FollowError::Aborted))), "{sizes:?}: {end:?}");
        assert!(received < total.max(1), "{sizes:?}: {received} of {total}");
    }
}

#[tokio::test]
async fn keys_with_odd_letters_are_kept_apart() {
    for place in places() {
        let store = place.store.clone();
        let names = ["~tilde", "it's", "(round)", "bang!", "star*", "@odd~'s/(x)!*", "@a/b", "a-b", "A-b", "-.x~"];
        let mut made = Vec::new();
        for name in names {
            // Only names that can be asked for become keys.
            let Ok(name) = name.parse() else { continue };
            let key = keys::packument(&name);
            store.create(&key, name.as_str().to_owned().into()).await.unwrap();
            made.push((key, name));
        }
        assert!(made.len() >= 8, "{made:?}");
        for (key, name) in &made {
            assert_eq!(store.read(key).await.unwrap(), name.as_str());
        }
        let listed = listed(&store).await;
        let mut expected: Vec<Key> = made.into_iter().map(|(key, _)| key).collect();
        expected.sort();
        assert_eq!(listed, expected);
        for key in &expected {
            let name = key.packument_name().unwrap();
            assert_eq!(&keys::packument(&name), key);
        }
    }
}

#[tokio::test]
async fn the_longest_names_are_keys_too() {
    for place in places() {
        let store = place.store.clone();
        let longest = "n".repeat(214);
        store.create(&key(&longest), "x".into()).await.unwrap();
        store.create(&keys::user(&"u".repeat(214)), "x".into()).await.unwrap();
        store.create(&keys::stars(&"u".repeat(214)), "x".into()).await.unwrap();
        assert_ne!(keys::user(&"u".repeat(213)), keys::user(&"u".repeat(214)));
        let version: holdfast::npm::Version = format!("1.0.0-{}", "v".repeat(249)).parse().unwrap();
        let name = longest.parse().unwrap();
        store.create(&keys::tarball(&name, &version, "0123456789abcdef"), "x".into()).await.unwrap();
        store.create(&keys::attestations(&name, &version, "0123456789abcdef"), "x".into()).await.unwrap();
        store.create(&keys::cached_tarball("default", &name, &version), "x".into()).await.unwrap();
    }
}

#[tokio::test]
async fn what_lies_beside_an_object_is_not_an_object() {
    let (folder, store) = store();
    store.create(&key("@scope/inner"), "x".into()).await.unwrap();
    // A folder where an object could be: somebody copied files by hand.
    std::fs::create_dir_all(folder.path().join("folder/index.json/below")).unwrap();
    let key = key("folder");
    assert!(matches!(store.read(&key).await, Err(Error::NotFound)), "{:?}", store.read(&key).await);
    assert!(matches!(store.open_object(&key).await, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_directory_has_one_owner_and_is_free_when_it_is_gone() {
    let (folder, store) = store();
    assert!(matches!(Store::open(folder.path()), Err(Error::Locked)));
    let clone = store.clone();
    drop(store);
    assert!(matches!(Store::open(folder.path()), Err(Error::Locked)));
    drop(clone);
    Store::open(folder.path()).unwrap();
}

#[tokio::test]
async fn leftovers_of_a_crash_are_cleared_and_nothing_else() {
    let (folder, store) = store();
    store.create(&key("kept"), "kept".into()).await.unwrap();
    drop(store);
    for leftover in ["0", "17", "x"] {
        std::fs::write(folder.path().join("-/staging").join(leftover), "half").unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(staged(folder.path()), 0);
    assert_eq!(store.read(&key("kept")).await.unwrap(), "kept");
}

#[tokio::test]
async fn a_listing_has_every_object_and_no_tools_of_the_store() {
    for place in places() {
        let store = place.store.clone();
        let mut expected: Vec<Key> = (0..600).map(|number| key(&format!("@s{}/p{number}", number % 7))).collect();
        expected.push(keys::user("alice"));
        for key in &expected {
            store.put(key, "x".into(), Durability::Cache).await.unwrap();
        }
        let _upload = store.upload().await.unwrap();
        let listed = listed(&store).await;
        expected.sort();
        assert_eq!(listed, expected);
        // A listener who leaves early ends the listing.
        let mut keys = store.list();
        assert!(keys.recv().await.is_some());
        drop(keys);
    }
}

#[tokio::test]
async fn a_list_in_order_goes_on_after_a_key() {
    for place in places() {
        let store = &place.store;
        // A slash sorts after a dash and before a letter.
        let names = ["a", "a-b", "ab", "@s/a", "@s/a-b", "@s/b"];
        for name in names {
            store.put(&keys::record("u", &name.parse().unwrap()), "x".into(), Durability::Cache).await.unwrap();
        }
        let mut expected: Vec<Key> = names.map(|name| keys::record("u", &name.parse().unwrap())).to_vec();
        expected.sort();
        let listed = async |after: Option<&Key>| {
            let (mut found, mut keys) = (Vec::new(), store.list_in_order(&keys::records("u"), after));
            while let Some(key) = keys.recv().await {
                found.push(key.unwrap());
            }
            found
        };
        assert_eq!(listed(None).await, expected);
        for (index, key) in expected.iter().enumerate() {
            assert_eq!(listed(Some(key)).await, expected[index + 1..], "{key}");
        }
        let mut objects = store.list_objects(Some(&keys::records("u")));
        assert_eq!(objects.recv().await.unwrap().unwrap().size_bytes, 1);
    }
}

#[tokio::test]
async fn a_list_outside_a_folder_has_all_other_keys() {
    for place in places() {
        let store = &place.store;
        // The first one sorts before the folder.
        let mut expected = ["!old", "a", "@s/a"].map(key).to_vec();
        for key in expected.iter().chain([&keys::record("u", &"a".parse().unwrap())]) {
            store.put(key, "x".into(), Durability::Cache).await.unwrap();
        }
        expected.sort();
        let (mut found, mut keys) = (Vec::new(), store.list_outside(&keys::reserved()));
        while let Some(key) = keys.recv().await {
            found.push(key.unwrap());
        }
        // A bucket tells the others too.
        found.retain(|key| place.folder.is_some() || key.packument_name().is_some());
        found.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn planned_faults_happen_where_they_were_planned() {
    for (fault, is_written, is_last) in [
        (Fault::Before, false, false),
        (Fault::After, true, false),
        (Fault::Dead, false, true),
        (Fault::Full, false, true),
    ] {
        let (folder, store) = store();
        let plan = FaultPlan::new(fault, 1);
        let store = store.with_faults(plan.clone());
        store.create(&key("zero"), "0".into()).await.unwrap();
        let error = store.create(&key("one"), "1".into()).await.unwrap_err();
        assert_eq!(matches!(error, Error::Full(_)), fault == Fault::Full, "{error:?}");
        assert_eq!(store.read(&key("one")).await.is_ok(), is_written, "{fault:?}");
        assert_eq!(store.update(&key("two"), increment).await.is_err(), is_last, "{fault:?}");
        assert_eq!(plan.writes(), 3);
        let mut files = 0;
        files_below(&folder.path().join("-/staging"), &mut |_| files += 1);
        assert_eq!(files, 0, "{fault:?}");
    }
}

/// Every way to write.
async fn refused_writes(store: &Store, key: &Key) -> Vec<Result<(), Error>> {
    let updated = match store.update(key, increment).await {
        Err(UpdateError::Store(error)) => Err(error),
        other => other.map(|_| ()).map_err(|_| Error::NotFound),
    };
    vec![
        store.create(key, "new".into()).await,
        store.put(key, "new".into(), Durability::Cache).await,
        store.delete(key).await,
        store.upload().await.map(|_| ()),
        store.require_conditions().await,
        store.writing_link(key, std::time::Duration::from_secs(1)).await.map(|_| ()),
        updated,
    ]
}

#[tokio::test]
async fn a_store_that_is_only_looked_at_needs_no_owner_and_takes_no_write() {
    let (folder, owner) = store();
    owner.create(&key("there"), "1".into()).await.unwrap();
    let mut on_its_way = owner.upload().await.unwrap();
    on_its_way.write("half".into()).await.unwrap();

    let looking = Store::open_reading(folder.path()).unwrap();
    assert_eq!(looking.read(&key("there")).await.unwrap(), "1");
    assert_eq!(listed(&looking).await, [key("there")]);
    for (number, outcome) in refused_writes(&looking, &key("there")).await.into_iter().enumerate() {
        assert!(matches!(outcome, Err(Error::ReadingOnly)), "write {number}: {outcome:?}");
    }
    assert_eq!(staged(folder.path()), 1, "what the owner has under way was cleared");
    // What the owner does is seen, and it goes on owning.
    assert_eq!(owner.update(&key("there"), increment).await.unwrap(), 2);
    assert_eq!(looking.read(&key("there")).await.unwrap(), "2");
    assert!(matches!(Store::open(folder.path()), Err(Error::Locked)));
    on_its_way.keep(&key("late"), Existing::Refuse, Durability::Synced).await.unwrap();
    assert_eq!(looking.read(&key("late")).await.unwrap(), "half");
}

#[tokio::test]
async fn looking_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    assert!(matches!(Store::open_reading(&absent), Err(Error::NotFound)));
    assert!(!absent.exists());
    assert!(Store::open_reading(folder.path()).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bucket_that_is_only_looked_at_is_asked_for_no_write() {
    let server = ObjectServer::start("bucket");
    let place = location(&server, "s3://bucket");
    Store::at(&place).unwrap().create(&key("there"), "1".into()).await.unwrap();
    server.take_calls();
    let looking = Store::reading_at(&place).unwrap();
    assert_eq!(looking.read(&key("there")).await.unwrap(), "1");
    for (number, outcome) in refused_writes(&looking, &key("there")).await.into_iter().enumerate() {
        assert!(matches!(outcome, Err(Error::ReadingOnly)), "write {number}: {outcome:?}");
    }
    assert!(server.calls().iter().all(|call| !call.operation.is_write()));
}
