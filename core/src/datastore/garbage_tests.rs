//! What is garbage and what is not, tried with real files and several at once.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::{self as std_fs, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::datastore::local::LocalDatastore;
use crate::datastore::{Artifact, Datastore, adopt_files};

struct World {
    folder: tempfile::TempDir,
    store: LocalDatastore,
    outputs: AtomicU32,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalDatastore::new(folder.path().join("objects"));
        World { folder, store, outputs: AtomicU32::new(0) }
    }

    fn objects(&self) -> PathBuf {
        self.folder.path().join("objects")
    }

    /// Adopts files with these names and contents, as one layer's outputs.
    fn adopt(&self, files: &[(&str, &str)]) -> Vec<Artifact> {
        let outputs = self.folder.path().join(self.outputs.fetch_add(1, Ordering::Relaxed).to_string());
        adopt_files(&self.store, &outputs, files)
    }

    /// A collection that begins when everything so far is in the past, by the file system's coarse clock.
    fn begin(&self) -> Collection {
        let stamp = || {
            let path = self.folder.path().join("stamp");
            File::create(&path).unwrap();
            let stat = path.metadata().unwrap();
            (stat.mtime(), stat.mtime_nsec())
        };
        let (before, deadline) = (stamp(), Instant::now() + Duration::from_secs(10));
        while stamp() <= before {
            assert!(Instant::now() < deadline, "the clock stands still");
        }
        self.store.collect().unwrap().unwrap()
    }

    fn sweep(&self, referred: &[&[Artifact]]) -> Freed {
        let mut collection = self.begin();
        for artifact in referred.iter().copied().flatten() {
            collection.refer(&artifact.content).unwrap();
        }
        collection.sweep(Duration::ZERO, false, |_| {}).0
    }

    fn is_there(&self, artifacts: &[Artifact]) -> bool {
        let view = self.folder.path().join(format!("view-{}", self.outputs.fetch_add(1, Ordering::Relaxed)));
        let built = self.store.view(artifacts, &view);
        crate::datastore::remove(&view).unwrap();
        built.is_ok()
    }
}

#[test]
fn what_nothing_refers_to_goes_and_the_rest_stays() {
    let world = World::new();
    let kept = world.adopt(&[("file", "a"), ("folder/x", "b"), ("folder/deep/y", "c"), ("folder/z", "shared")]);
    let gone = world.adopt(&[("file", "d"), ("folder/x", "e"), ("folder/z", "shared")]);
    let freed = world.sweep(&[&kept, &gone]);
    assert_eq!(freed, Freed::default());
    let freed = world.sweep(&[&kept]);
    assert_eq!(freed.objects.0, 3, "two files and a manifest");
    assert!(world.is_there(&kept) && !world.is_there(&gone));
    assert_eq!(world.sweep(&[]).objects.0, 5);
    assert!(!world.is_there(&kept));
}

#[test]
fn an_executable_twin_is_an_object_of_its_own() {
    let world = World::new();
    let plain = world.adopt(&[("file", "#!/bin/sh")]);
    let outputs = world.folder.path().join("program");
    std_fs::create_dir(&outputs).unwrap();
    std_fs::write(outputs.join("file"), "#!/bin/sh").unwrap();
    std_fs::set_permissions(outputs.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = world.store.adopt(&outputs).unwrap();
    assert_eq!(world.sweep(&[&program]).objects, (1, 9));
    assert!(world.is_there(&program) && !world.is_there(&plain));
}

#[test]
fn to_pretend_says_the_same_and_removes_nothing() {
    let world = World::new();
    let artifacts = world.adopt(&[("file", "a"), ("folder/x", "bcd")]);
    let run = |pretend| {
        let (mut told, collection) = (Vec::new(), world.begin());
        let freed = collection.sweep(Duration::ZERO, pretend, |found| told.push(format!("{found:?}"))).0;
        told.sort();
        (freed, told)
    };
    let pretended = run(true);
    assert!(world.is_there(&artifacts));
    assert_eq!(pretended, run(false));
    assert_eq!((pretended.0.objects.0, pretended.1.len()), (3, 3));
}

#[test]
fn what_was_used_within_the_grace_stays() {
    let world = World::new();
    world.adopt(&[("file", "young")]);
    let freed = world.begin().sweep(Duration::from_secs(3600), false, |_| {}).0;
    assert_eq!((freed.objects, freed.young), ((0, 0), (1, 5)));
}

#[test]
fn what_is_adopted_and_not_on_record_yet_stays_for_as_long_as_it_is_held() {
    let world = World::new();
    let hold = world.store.hold().unwrap();
    let adopted = world.adopt(&[("file", "a"), ("folder/x", "b")]);
    assert_eq!(world.sweep(&[]).objects.0, 0);
    drop(hold);
    assert!(world.is_there(&adopted));
    assert_eq!(world.sweep(&[]).objects.0, 3);
}

#[test]
fn an_old_object_that_is_adopted_again_after_the_marking_stays() {
    let world = World::new();
    let files = [("file", "a"), ("folder/x", "b")];
    world.adopt(&files);
    let collection = world.begin();
    let again = world.adopt(&files);
    assert_eq!(collection.sweep(Duration::ZERO, false, |_| {}).0.objects.0, 0);
    assert!(world.is_there(&again));
}

#[test]
fn what_was_never_finished_goes_and_what_is_being_written_stays() {
    let world = World::new();
    world.adopt(&[("file", "a")]);
    let objects = Objects::open(&world.objects()).unwrap();
    let left = objects.temporary().unwrap();
    std::io::Write::write_all(&mut &left.file, b"half").unwrap();
    std::mem::forget(left);
    assert_eq!(world.sweep(&[]).leavings, (1, 4));
    let _hold = world.store.hold().unwrap();
    let _written = objects.temporary().unwrap();
    assert_eq!(world.sweep(&[]).leavings, (0, 0));
}

#[test]
fn a_manifest_that_cannot_be_read_is_an_error_and_one_that_is_gone_is_told() {
    let world = World::new();
    let artifacts = world.adopt(&[("folder/x", "a")]);
    let Content::Folder { manifest, .. } = artifacts[0].content else { panic!("it is a folder") };
    let hex = manifest.to_string();
    let path = world.objects().join(&hex[..2]).join(&hex[2..]);
    std_fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let text = std_fs::read_to_string(&path).unwrap();
    std_fs::write(&path, text.replace("\tx\t", "\ty\t")).unwrap();
    assert!(matches!(world.begin().refer(&artifacts[0].content), Err(DatastoreError::Damaged { .. })));
    std_fs::remove_file(&path).unwrap();
    let mut collection = world.begin();
    collection.refer(&artifacts[0].content).unwrap();
    assert_eq!(collection.missing(), [manifest]);
}

#[test]
fn objects_that_others_may_share_are_left_alone() {
    let world = World::new();
    world.adopt(&[("file", "a")]);
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(world.objects(), &link).unwrap();
    assert!(LocalDatastore::new(link).collect().is_err());
    assert!(LocalDatastore::new(world.folder.path().join("nowhere")).collect().unwrap().is_none());
    assert!(!world.folder.path().join("nowhere").exists());
}

#[test]
fn sizes_are_counted_once() {
    let world = World::new();
    let artifacts = world.adopt(&[("one", "abc"), ("two", "abc"), ("folder/x", "abc"), ("folder/y", "defg")]);
    let mut collection = world.begin();
    let added: Vec<Added> = artifacts.iter().map(|it| collection.refer(&it.content).unwrap()).collect();
    assert_eq!(added.iter().map(|it| it.bytes).sum::<u64>(), 7);
    assert_eq!(added.iter().map(|it| it.objects).sum::<u64>(), 3, "two files and a manifest");
}

/// Waits until somebody waits for the lock between those who adopt and those who collect, or `over` says so.
fn until_blocked_or(world: &World, over: impl Fn() -> bool) {
    let inode = format!(":{}", world.objects().join("lock").metadata().unwrap().ino());
    let waits = |line: &str| line.contains("->") && line.split(' ').any(|word| word.ends_with(&inode));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !over() && !std_fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(Instant::now() < deadline, "neither blocked nor over");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_object_cannot_go_between_being_found_and_being_used() {
    let world = World::new();
    let first = world.adopt(&[("file", "a")]);
    let objects = Objects::open(&world.objects()).unwrap();
    std::thread::scope(|scope| {
        let locked = objects.lock(FlockOperation::LockExclusive).unwrap();
        let adopter = scope.spawn(|| world.adopt(&[("file", "a")]));
        until_blocked_or(&world, || adopter.is_finished());
        let Content::File { digest, .. } = first[0].content else { panic!("it is a file") };
        let hex = digest.to_string();
        std_fs::remove_file(world.objects().join(&hex[..2]).join(&hex[2..])).unwrap();
        drop(locked);
        assert!(world.is_there(&adopter.join().unwrap()));
    });
}

#[test]
fn an_object_cannot_be_used_between_being_looked_at_and_going() {
    let world = World::new();
    let first = world.adopt(&[("file", "a")]);
    let (collection, objects) = (world.begin(), Objects::open(&world.objects()).unwrap());
    let collector = {
        let shared = objects.lock(FlockOperation::LockShared).unwrap();
        let collector = std::thread::spawn(move || collection.sweep(Duration::ZERO, false, |_| {}).0);
        // It asks again and again.
        let asked = Instant::now() + Duration::from_millis(50);
        until_blocked_or(&world, || collector.is_finished() || Instant::now() > asked);
        let Content::File { digest, size } = first[0].content else { panic!("it is a file") };
        objects.reuse(digest, size).unwrap();
        drop(shared);
        collector
    };
    assert_eq!(collector.join().unwrap().objects.0, 0);
    assert!(world.is_there(&first));
}

/// Several put artifacts on record and take them off, out of few contents, so that all is garbage now and then, while
/// another collects without a grace all the time.
#[test]
fn nothing_that_is_on_record_is_ever_lost() {
    let world = World::new();
    let record: Mutex<HashMap<(usize, u32), Vec<Artifact>>> = Mutex::default();
    let (over, swept) = (AtomicBool::new(false), AtomicU32::new(0));
    let limit = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Also when an adopter has panicked.
            while !over.load(Ordering::Relaxed) && Instant::now() < limit {
                let Some(mut collection) = world.store.collect().unwrap() else { continue };
                let on_record: Vec<Artifact> = record.lock().unwrap().values().flatten().cloned().collect();
                for artifact in &on_record {
                    collection.refer(&artifact.content).unwrap();
                }
                let freed = collection.sweep(Duration::ZERO, false, |_| {}).0;
                swept.fetch_add(u32::try_from(freed.objects.0).unwrap(), Ordering::Relaxed);
            }
        });
        let adopters: Vec<_> = (0..3)
            .map(|who| {
                let (world, record) = (&world, &record);
                scope.spawn(move || {
                    // Each is a process of its own, as far as the datastore knows.
                    let store = LocalDatastore::new(world.objects());
                    let deadline = Instant::now() + Duration::from_secs(4);
                    for round in 0.. {
                        let content = format!("content {}", (round * 7 + who as u32) % 5);
                        let hold = store.hold().unwrap();
                        let adopted = world.adopt(&[("file", &content), ("folder/x", &content), ("folder/y", "y")]);
                        record.lock().unwrap().insert((who, round), adopted.clone());
                        drop(hold);
                        assert!(world.is_there(&adopted), "round {round} of {who}");
                        record.lock().unwrap().remove(&(who, round));
                        if Instant::now() > deadline {
                            return round;
                        }
                    }
                    0
                })
            })
            .collect();
        let rounds: Vec<u32> = adopters.into_iter().map(|adopter| adopter.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(rounds.iter().all(|rounds| *rounds > 10), "{rounds:?}");
    });
    assert!(swept.load(Ordering::Relaxed) > 10, "it was put to the test: {swept:?}");
}

/// The file of an artifact's first object: itself, or its manifest.
fn object(world: &World, artifact: &Artifact) -> PathBuf {
    let (Content::File { digest, .. } | Content::Folder { manifest: digest, .. }) = artifact.content;
    let hex = digest.to_string();
    world.objects().join(&hex[..2]).join(&hex[2..])
}

fn overwrite(path: &Path, text: &str) {
    std_fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    std_fs::write(path, text).unwrap();
}

#[test]
fn what_is_recalled_after_the_marking_stays() {
    let world = World::new();
    let recalled = world.adopt(&[("file", "a"), ("folder/x", "b"), ("folder/deep/y", "c")]);
    let other = world.adopt(&[("file", "d")]);
    let collection = world.begin();
    assert!(world.store.recall(&recalled).unwrap());
    assert_eq!(collection.sweep(Duration::ZERO, false, |_| {}).0.objects.0, 1);
    assert!(world.is_there(&recalled) && !world.is_there(&other));
}

#[test]
fn what_is_recalled_and_not_on_record_yet_stays_for_as_long_as_it_is_held() {
    let world = World::new();
    let artifacts = world.adopt(&[("file", "a"), ("folder/x", "b")]);
    world.begin();
    let hold = world.store.hold().unwrap();
    assert!(world.store.recall(&artifacts).unwrap());
    assert_eq!(world.sweep(&[]).objects.0, 0);
    drop(hold);
    assert_eq!(world.sweep(&[]).objects.0, 3);
    assert!(!world.store.recall(&artifacts).unwrap());
}

#[test]
fn what_is_not_whole_any_more_is_not_recalled() {
    type Harm = fn(&World, &[Artifact]);
    let files = [("file", "first"), ("folder/x", "second"), ("folder/deep/y", "third")];
    let harms: [(&str, Harm, bool); 7] = [
        ("nothing", |_, _| {}, true),
        ("a file is gone", |world, all| std_fs::remove_file(object(world, &all[0])).unwrap(), false),
        ("a file is other bytes of the same size", |world, all| overwrite(&object(world, &all[0]), "fir5t"), false),
        ("a file has lost its time", |world, all| overwrite(&object(world, &all[0]), "first"), true),
        ("a manifest is gone", |world, all| std_fs::remove_file(object(world, &all[1])).unwrap(), false),
        (
            "a manifest is damaged",
            |world, all| {
                let path = object(world, &all[1]);
                let text = std_fs::read_to_string(&path).unwrap();
                overwrite(&path, &text.replace("\tx\t", "\tz\t"));
            },
            false,
        ),
        (
            "a file deep in a folder is gone",
            |world, _| {
                let third = world.adopt(&[("file", "third")]);
                std_fs::remove_file(object(world, &third[0])).unwrap();
            },
            false,
        ),
    ];
    for (what, harm, there) in harms {
        let world = World::new();
        let artifacts = world.adopt(&files);
        harm(&world, &artifacts);
        assert_eq!(world.store.recall(&artifacts).unwrap(), there, "{what}");
        assert_eq!(world.is_there(&artifacts), there, "{what}: as whoever uses it finds");
        // Whoever makes them again has them again.
        assert_eq!(world.adopt(&files), artifacts, "{what}");
        assert!(world.store.recall(&artifacts).unwrap(), "{what}");
    }
}

#[test]
fn an_object_cannot_go_between_being_found_and_being_recalled() {
    let world = World::new();
    let artifacts = world.adopt(&[("file", "a")]);
    let objects = Objects::open(&world.objects()).unwrap();
    std::thread::scope(|scope| {
        let locked = objects.lock(FlockOperation::LockExclusive).unwrap();
        let recaller = scope.spawn(|| world.store.recall(&artifacts).unwrap());
        until_blocked_or(&world, || recaller.is_finished());
        std_fs::remove_file(object(&world, &artifacts[0])).unwrap();
        drop(locked);
        assert!(!recaller.join().unwrap());
    });
}

/// Several recall what they once made, and make it again where it is gone, while another collects without a grace all the
/// time: what was recalled is there as long as it is on record.
#[test]
fn nothing_that_was_recalled_is_ever_lost() {
    let world = World::new();
    let record: Mutex<HashMap<usize, Vec<Artifact>>> = Mutex::default();
    let over = AtomicBool::new(false);
    let limit = Instant::now() + Duration::from_secs(60);
    let outcomes = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && Instant::now() < limit {
                let Some(mut collection) = world.store.collect().unwrap() else { continue };
                let on_record: Vec<Artifact> = record.lock().unwrap().values().flatten().cloned().collect();
                for artifact in &on_record {
                    collection.refer(&artifact.content).unwrap();
                }
                collection.sweep(Duration::ZERO, false, |_| {});
            }
        });
        let recallers: Vec<_> = (0..3)
            .map(|who| {
                let (world, record) = (&world, &record);
                scope.spawn(move || {
                    let store = LocalDatastore::new(world.objects());
                    let content = format!("content {}", who % 2);
                    let files = [("file", &*content), ("folder/x", &*content), ("folder/y", "y")];
                    let first = store.hold().unwrap();
                    let known = world.adopt(&files);
                    drop(first);
                    let (mut hits, mut misses) = (0, 0);
                    let deadline = Instant::now() + Duration::from_secs(4);
                    while Instant::now() < deadline {
                        let hold = store.hold().unwrap();
                        match store.recall(&known).unwrap() {
                            true => hits += 1,
                            false => {
                                misses += 1;
                                assert_eq!(world.adopt(&files), known);
                            }
                        }
                        record.lock().unwrap().insert(who, known.clone());
                        drop(hold);
                        assert!(world.is_there(&known), "after {hits} hits and {misses} misses of {who}");
                        record.lock().unwrap().remove(&who);
                        // Now and then nobody wants it for a while.
                        if (hits + misses) % 8 == 0 {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                    (hits, misses)
                })
            })
            .collect();
        let outcomes: Vec<(u32, u32)> = recallers.into_iter().map(|recaller| recaller.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        outcomes
    });
    assert!(outcomes.iter().all(|(hits, _)| *hits > 10), "{outcomes:?}");
    assert!(outcomes.iter().map(|(_, misses)| misses).sum::<u32>() > 10, "it was put to the test: {outcomes:?}");
}
