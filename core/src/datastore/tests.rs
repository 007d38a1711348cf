//! What whoever leaves or reads artifacts would miss, tried with real files.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::Barrier;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::*;
use crate::datastore::{is_as_made, remove};

/// A datastore and a folder of outputs, beside each other in a folder of their own.
struct World {
    folder: tempfile::TempDir,
    store: LocalDatastore,
}

impl World {
    fn new() -> World {
        World::at(&std::env::temp_dir())
    }

    fn at(parent: &Path) -> World {
        let folder = tempfile::tempdir_in(parent).unwrap();
        fs::create_dir(folder.path().join("outputs")).unwrap();
        let store = LocalDatastore::new(folder.path().join("deep/er/objects"));
        fs::create_dir_all(folder.path().join("deep/er")).unwrap();
        World { store, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn output(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path("outputs").join(name.as_ref())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.output(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn adopt(&self) -> Vec<Artifact> {
        self.store.adopt(&self.path("outputs")).unwrap()
    }

    fn rejected(&self) -> Vec<String> {
        match self.store.adopt(&self.path("outputs")) {
            Err(AdoptError::Rejected(list)) => list.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn view(&self, artifacts: &[Artifact], name: &str) -> PathBuf {
        let folder = self.path(name);
        self.store.view(artifacts, &folder).unwrap();
        folder
    }

    fn object(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        let name = format!("{}/{}", &hex[..2], hex[2..].replace("+x", "x"));
        self.path("deep/er/objects").join(name)
    }

    /// How many files are under an object's name.
    fn objects(&self) -> usize {
        let Ok(shards) = fs::read_dir(self.path("deep/er/objects")) else { return 0 };
        let shards = shards.map(|shard| shard.unwrap().path()).filter(|path| path.file_name().unwrap().len() == 2);
        shards.map(|shard| fs::read_dir(shard).unwrap().count()).sum()
    }

    fn read(&self, digest: Digest, size: u64) -> Result<Vec<u8>, DatastoreError> {
        let mut bytes = Vec::new();
        self.store.open(digest, size)?.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        remove(self.folder.path()).unwrap();
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest { hash: *blake3::hash(bytes).as_bytes(), executable: false }
}

fn file(artifact: &Artifact) -> (Digest, u64) {
    match artifact.content {
        Content::File { digest, size } => (digest, size),
        Content::Folder { .. } => panic!("{artifact:?}"),
    }
}

fn manifest(artifact: &Artifact) -> Digest {
    match artifact.content {
        Content::Folder { manifest, .. } => manifest,
        Content::File { .. } => panic!("{artifact:?}"),
    }
}

#[test]
fn outputs_come_back_as_they_were() {
    let world = World::new();
    world.write("b.txt", b"text");
    world.write("a/x/deep", b"deep");
    world.write("a/run", b"#!/bin/sh\n");
    fs::set_permissions(world.output("a/run"), Permissions::from_mode(0o4750)).unwrap();
    fs::create_dir(world.output("a/nothing")).unwrap();
    fs::create_dir(world.output("empty")).unwrap();
    symlink("x/../run", world.output("a/link")).unwrap();
    let artifacts = world.adopt();
    let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["a", "b.txt", "empty"]);
    assert_eq!(artifacts[1].content, Content::File { digest: digest_of(b"text"), size: 4 });
    assert!(matches!(artifacts[0].content, Content::Folder { entries: 5, size: 14, .. }), "{artifacts:?}");
    assert!(matches!(artifacts[2].content, Content::Folder { entries: 0, size: 0, .. }), "{artifacts:?}");

    let view = world.view(&artifacts, "views/Layer");
    assert_eq!(fs::read(view.join("b.txt")).unwrap(), b"text");
    assert_eq!(fs::read(view.join("a/link")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(fs::read_link(view.join("a/link")).unwrap(), Path::new("x/../run"));
    assert_eq!(fs::read(view.join("a/x/deep")).unwrap(), b"deep");
    assert_eq!(listing(&view.join("a/nothing")).len(), 0);
    assert_eq!(listing(&view.join("empty")).len(), 0);
    let mode = |name: &str| view.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("b.txt"), mode("a/run"), mode("a"), mode("")], [0o444, 0o555, 0o555, 0o555]);
    assert_eq!(view.join("b.txt").metadata().unwrap().ino(), world.output("b.txt").metadata().unwrap().ino());
    assert_eq!(fs::read_dir(world.path("views")).unwrap().count(), 1, "nothing is left beside the view");
    assert_eq!(fs::read(world.output("a/x/deep")).unwrap(), b"deep", "the outputs stay");
}

#[test]
fn entries_are_in_byte_order_of_their_paths() {
    let world = World::new();
    for name in ["d/b", "d/a/x", "d/a-b"] {
        world.write(name, b"");
    }
    let entries = world.store.entries(manifest(&world.adopt()[0])).unwrap();
    let paths: Vec<&[u8]> = entries.iter().map(|entry| entry.path.as_slice()).collect();
    assert_eq!(paths, [b"a".as_slice(), b"a-b", b"a/x", b"b"]);
}

#[test]
fn adopting_again_gives_the_same() {
    let world = World::new();
    world.write("a", b"one");
    world.write("d/b", b"two");
    fs::set_permissions(world.output("a"), Permissions::from_mode(0o777)).unwrap();
    let first = world.adopt();
    assert_eq!(world.adopt(), first);
    // A crash that left the store half filled, with an unfinished file.
    fs::remove_file(world.object(digest_of(b"two"))).unwrap();
    fs::write(world.path("deep/er/objects/temporary/unfinished"), b"tw").unwrap();
    assert_eq!(world.adopt(), first);
    assert_eq!(world.read(digest_of(b"two"), 3).unwrap(), b"two");
}

#[test]
fn the_same_bytes_are_one_object_unless_only_one_can_be_run() {
    let world = World::new();
    world.write("a", b"same");
    world.write("d/b", b"same");
    world.write("e", b"same");
    fs::set_permissions(world.output("e"), Permissions::from_mode(0o755)).unwrap();
    let artifacts = world.adopt();
    assert_eq!(world.objects(), 3, "plain, executable, and the manifest");
    assert_eq!(file(&artifacts[0]).0.hash, file(&artifacts[2]).0.hash);
    assert_eq!(world.object(file(&artifacts[2]).0).metadata().unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn outputs_are_linked_and_not_copied() {
    let world = World::new();
    let path = world.write("a", b"large");
    world.adopt();
    assert_eq!(world.object(digest_of(b"large")).metadata().unwrap().ino(), path.metadata().unwrap().ino());
}

#[test]
fn a_file_with_other_names_is_copied() {
    let world = World::new();
    fs::write(world.path("outside"), b"before").unwrap();
    fs::hard_link(world.path("outside"), world.output("a")).unwrap();
    world.write("b", b"twice");
    fs::hard_link(world.output("b"), world.output("c")).unwrap();
    let artifacts = world.adopt();
    assert_eq!(world.path("outside").metadata().unwrap().mode() & 0o777, 0o644, "what is not ours is not touched");
    fs::write(world.path("outside"), b"after!").unwrap();
    assert_eq!(world.read(digest_of(b"before"), 6).unwrap(), b"before");
    assert_eq!(file(&artifacts[1]), file(&artifacts[2]));
    fs::write(world.output("c"), b"other").unwrap();
    assert_eq!(world.read(digest_of(b"twice"), 5).unwrap(), b"twice");
}

#[test]
fn what_belongs_to_someone_else_is_copied() {
    let world = World::new();
    let path = world.write("a", b"theirs");
    if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
        return;
    }
    world.adopt();
    let (object, theirs) = (world.object(digest_of(b"theirs")).metadata().unwrap(), path.metadata().unwrap());
    assert_ne!(object.ino(), theirs.ino());
    assert_eq!((object.uid(), theirs.mode() & 0o777), (rustix::process::geteuid().as_raw(), 0o644));
}

#[test]
fn what_becomes_a_link_after_the_walk_is_not_followed() {
    let world = World::new();
    world.write("d/sub/f", b"");
    symlink("d", world.output("l")).unwrap();
    symlink("sub/f", world.output("d/l")).unwrap();
    let Ok(outputs) = Outputs::open(&world.path("outputs")) else { panic!("it is there") };
    assert!(outputs.folder(b"d/sub").is_ok());
    for path in [b"l".as_slice(), b"l/sub", b"d/../d", b"gone"] {
        let rejected = matches!(outputs.folder(path), Err(Unopened::Rejected(_)));
        assert_eq!(rejected, path != b"d/../d", "{path:?}");
    }
    let Ok(folder) = outputs.folder(b"d") else { panic!("it is there") };
    assert_eq!(open_file(&folder, b"l").unwrap_err(), Errno::LOOP);
}

/// A folder on another file system than the temporary folder, where there is one.
fn elsewhere() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |path: &Path| path.metadata().unwrap().dev();
    (device(folder.path()) != device(&std::env::temp_dir())).then_some(folder)
}

#[test]
fn what_cannot_be_linked_is_copied() {
    let Some(elsewhere) = elsewhere() else { return };
    let world = World::new();
    let outputs = elsewhere.path().join("outputs");
    fs::create_dir_all(outputs.join("d")).unwrap();
    fs::write(outputs.join("d/run"), b"bytes").unwrap();
    fs::set_permissions(outputs.join("d/run"), Permissions::from_mode(0o700)).unwrap();
    let artifacts = world.store.adopt(&outputs).unwrap();
    assert_eq!(world.store.adopt(&outputs).unwrap(), artifacts);
    let view = elsewhere.path().join("view");
    world.store.view(&artifacts, &view).unwrap();
    assert_eq!(fs::read(view.join("d/run")).unwrap(), b"bytes");
    assert_eq!(view.join("d/run").metadata().unwrap().mode() & 0o7777, 0o555);
    remove(&view).unwrap();
}

#[test]
fn more_links_than_the_file_system_allows_are_copies() {
    let world = World::new();
    world.write("a", b"bytes");
    world.adopt();
    let object = world.object(digest_of(b"bytes"));
    fs::create_dir(world.path("links")).unwrap();
    // 65,000 on ext4; where there is no such limit, there is nothing to see.
    let full = (0..70_000).any(|number| fs::hard_link(&object, world.path(&format!("links/{number}"))).is_err());
    let view = world.view(&world.adopt(), "view");
    assert_eq!(fs::read(view.join("a")).unwrap(), b"bytes");
    assert_eq!(view.join("a").metadata().unwrap().nlink() == 1, full);
}

/// A tiny file system, where we may mount one.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn new() -> Option<Tiny> {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"];
        let mut mount = std::process::Command::new("mount");
        mount.args(arguments).arg(folder.path()).stderr(std::process::Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Tiny(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half_made() {
    let Some(tiny) = Tiny::new() else { return };
    let world = World::new();
    let objects = tiny.0.path().join("objects");
    let store = LocalDatastore::new(objects.clone());
    world.write("large", &vec![7; 1 << 20]);
    let error = store.adopt(&world.path("outputs")).unwrap_err();
    assert!(matches!(error, AdoptError::Store(DatastoreError::File { verb: "write", .. })), "{error}");
    assert_eq!(listing(&objects.join("temporary")).len(), 0);
    let size = 1 << 20;
    let large = Digest { hash: *blake3::hash(&vec![7; 1 << 20]).as_bytes(), executable: false };
    assert!(matches!(store.open(large, size).err(), Some(DatastoreError::Missing { .. })));

    // A view that does not fit is not there at all.
    let artifacts = world.adopt();
    assert!(world.store.view(&artifacts, &tiny.0.path().join("view")).is_err());
    assert_eq!(fs::read_dir(tiny.0.path()).unwrap().count(), 1, "the objects only");

    fs::remove_file(world.output("large")).unwrap();
    world.write("small", b"fits");
    assert_eq!(store.adopt(&world.path("outputs")).unwrap().len(), 1);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let world = World::new();
    let mut sparse = File::create(world.output("a")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.seek(SeekFrom::Start(3 << 20)).unwrap();
    sparse.write_all(b"island").unwrap();
    drop(sparse);
    fs::hard_link(world.output("a"), world.path("second name, so that it is copied")).unwrap();
    let bytes = fs::read(world.output("a")).unwrap();
    let (digest, size) = file(&world.adopt()[0]);
    assert_eq!((digest, size), (digest_of(&bytes), 8 << 20));
    assert_eq!(world.read(digest, size).unwrap(), bytes);
    assert!(world.object(digest).metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn special_files_are_rejected_together_and_never_opened() {
    let world = World::new();
    world.write("fine", b"");
    fs::create_dir(world.output("d")).unwrap();
    let make = |name: &str, kind| rustix::fs::mknodat(CWD, world.output(name), kind, Mode::RWXU, 0);
    make("d/fifo", FileType::Fifo).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.output("socket")).unwrap();
    let mut expected = vec![
        "`d/fifo` is a fifo; only files, folders and links can be artifacts",
        "`socket` is a socket; only files, folders and links can be artifacts",
    ];
    if make("device", FileType::CharacterDevice).is_ok() {
        expected.insert(1, "`device` is a character device; only files, folders and links can be artifacts");
    }
    assert_eq!(world.rejected(), expected);
    assert_eq!(world.objects(), 0, "nothing is stored");
}

#[test]
fn of_many_rejections_the_first_are_told() {
    let world = World::new();
    for number in 0..27 {
        let name = world.output(format!("{number:02}"));
        rustix::fs::mknodat(CWD, name, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    let rejected = world.rejected();
    assert_eq!(rejected.len(), 20);
    assert!(rejected[19].starts_with("`19` is a fifo") && rejected[19].ends_with("; and 7 more"), "{rejected:?}");
}

#[test]
fn names_at_the_top_are_text_and_any_bytes_below() {
    let world = World::new();
    fs::write(world.output(OsStr::from_bytes(b"bad\xff")), b"").unwrap();
    fs::write(world.output("new\nline"), b"").unwrap();
    let rejected = world.rejected();
    assert!(rejected[0].starts_with("`bad\\xff` has a name that is not UTF-8"), "{rejected:?}");
    assert!(rejected[1].starts_with("`new\\nline` has a control character in its name"), "{rejected:?}");

    let world = World::new();
    let long = "n".repeat(255);
    world.write(&long, b"long");
    world.write("näme with `ticks` -rf $(x) \u{202e}", b"odd");
    fs::create_dir(world.output("d")).unwrap();
    let odd: [&[u8]; 5] = [b"\n", b"\t\\x41", b"\xc3\x28\xff", b"...", &[b'\x01'; 255]];
    for name in odd {
        fs::write(world.output("d").join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xc3\x28\xff"), world.output("d").join(OsStr::from_bytes(b"\xfe"))).unwrap();
    let artifacts = world.adopt();
    assert_eq!(world.store.entries(manifest(&artifacts[0])).unwrap().len(), 6);
    let view = world.view(&artifacts, "view");
    assert_eq!(fs::read(view.join(long)).unwrap(), b"long");
    for name in odd {
        assert_eq!(fs::read(view.join("d").join(OsStr::from_bytes(name))).unwrap(), name);
    }
    assert_eq!(fs::read(view.join("d").join(OsStr::from_bytes(b"\xfe"))).unwrap(), b"\xc3\x28\xff");
}

#[test]
fn links_that_lead_away_are_rejected() {
    let world = World::new();
    world.write("d/f", b"");
    world.write("e/f", b"");
    for (target, name) in [
        ("/etc/passwd", "absolute"),
        ("../secret", "out"),
        ("gone", "dangling"),
        ("self", "self"),
        (".", "whole"),
        ("../e/f", "d/other"),
        ("../d/f", "d/around"),
        ("f/../../../x", "d/through"),
        ("../../../../../../etc/passwd", "d/up"),
    ] {
        symlink(target, world.output(name)).unwrap();
    }
    symlink("second", world.output("d/first")).unwrap();
    symlink("first", world.output("d/second")).unwrap();
    let rejected = world.rejected();
    for (at, what) in [
        ("`absolute` is a link to `/etc/passwd`", "absolute path"),
        ("`d/around` is a link to `../d/f`", "leads out of the artifact `d`; copy the file"),
        ("`d/first` is a link to `second`", "never ends"),
        ("`d/other` is a link to `../e/f`", "leads out of the artifact `d`"),
        ("`d/second` is a link to `first`", "never ends"),
        ("`d/through` is a link to `f/../../../x`", "does not exist"),
        ("`d/up` is a link to", "leads out of"),
        ("`dangling` is a link to `gone`", "does not exist"),
        ("`out` is a link to `../secret`", "leads out of the outputs folder"),
        ("`self` is a link to `self`", "never ends"),
        ("`whole` is a link to `.`", "the outputs folder itself"),
    ] {
        let told = rejected.iter().filter(|text| text.starts_with(at) && text.contains(what)).count();
        assert_eq!(told, 1, "{at} {what}: {rejected:#?}");
    }
    assert_eq!(rejected.len(), 11);
}

#[test]
fn a_link_at_the_top_stands_for_what_it_leads_to() {
    let world = World::new();
    world.write("d/sub/f", b"bytes");
    symlink("f", world.output("d/sub/l")).unwrap();
    symlink("d/sub", world.output("latest")).unwrap();
    symlink("latest/l", world.output("file")).unwrap();
    let artifacts = world.adopt();
    assert_eq!(file(&artifacts[1]), (digest_of(b"bytes"), 5));
    let view = world.view(&artifacts, "view");
    assert!(view.join("latest").symlink_metadata().unwrap().is_dir());
    assert_eq!(fs::read(view.join("latest/l")).unwrap(), b"bytes");
    assert!(world.output("latest").is_symlink(), "the outputs stay");

    symlink("../sub/f", world.output("d/sub/wide")).unwrap();
    let rejected = world.rejected();
    assert_eq!(rejected.len(), 1, "within `d` it is fine");
    assert!(rejected[0].starts_with("`latest/wide` is a link to `../sub/f`, which leads out"), "{rejected:?}");
}

#[test]
fn what_is_beyond_the_depth_of_paths_is_rejected() {
    let world = World::new();
    let mut folder = rustix::fs::open(world.path("outputs"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = "n".repeat(200);
    for _ in 0..600 {
        rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let rejected = world.rejected();
    assert!(rejected.len() == 1 && rejected[0].contains("is nested too deeply"), "{rejected:?}");
    remove(&world.path("outputs")).unwrap();
    assert!(!world.path("outputs").exists());

    fs::create_dir(world.path("outputs")).unwrap();
    let deep = vec!["d"; 256].join("/");
    fs::create_dir_all(world.output(&deep)).unwrap();
    let artifacts = world.adopt();
    assert!(world.view(&artifacts, "view").join(&deep).is_dir());
    fs::create_dir(world.output(&deep).join("e")).unwrap();
    assert_eq!(world.rejected().len(), 1);
}

#[test]
fn unreadable_outputs_are_made_readable() {
    let world = World::new();
    world.write("d/e/f", b"bytes");
    fs::set_permissions(world.output("d/e/f"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(world.output("d/e"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(world.output("d"), Permissions::from_mode(0o400)).unwrap();
    let artifacts = world.adopt();
    assert_eq!(fs::read(world.view(&artifacts, "view").join("d/e/f")).unwrap(), b"bytes");
}

#[test]
fn an_outputs_folder_that_was_replaced_is_rejected() {
    let world = World::new();
    fs::remove_dir(world.path("outputs")).unwrap();
    assert_eq!(world.rejected(), ["`.` is the outputs folder, and the layer has removed or replaced it"]);
    symlink("/etc", world.path("outputs")).unwrap();
    assert_eq!(world.rejected().len(), 1);
}

#[test]
fn a_write_through_a_link_is_noticed_and_the_object_can_be_stored_again() {
    let world = World::new();
    let path = world.write("a", b"right");
    let artifacts = world.adopt();
    let view = world.view(&artifacts, "view");
    fs::remove_file(&path).unwrap();
    // The owner can make it writable again; root does not even need to. The size stays.
    fs::set_permissions(view.join("a"), Permissions::from_mode(0o644)).unwrap();
    File::options().write(true).open(view.join("a")).unwrap().write_all_at(b"wrong", 0).unwrap();

    let error = world.store.view(&artifacts, &world.path("again")).unwrap_err();
    assert!(matches!(error, DatastoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(&digest_of(b"wrong").to_string()), "{error}");
    assert!(!world.path("again").exists());
    assert!(
        fs::read_dir(world.folder.path()).unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .as_bytes()
            .starts_with(b".view"))
    );
    let error = world.read(digest_of(b"right"), 5).unwrap_err();
    assert!(matches!(error, DatastoreError::Missing { .. }), "it was moved aside: {error}");
    assert_eq!(fs::read_dir(world.path("deep/er/objects/damaged")).unwrap().count(), 1);

    world.write("a", b"right");
    assert_eq!(world.adopt(), artifacts);
    assert_eq!(world.read(digest_of(b"right"), 5).unwrap(), b"right");
}

#[test]
fn adopting_over_a_damaged_object_stores_it_anew() {
    let world = World::new();
    world.write("a", b"right");
    let artifacts = world.adopt();
    fs::remove_file(world.output("a")).unwrap();
    for second_name in [false, true] {
        let object = world.object(digest_of(b"right"));
        fs::set_permissions(&object, Permissions::from_mode(0o644)).unwrap();
        File::options().write(true).open(&object).unwrap().write_all_at(b"W", 0).unwrap();
        world.write("a", b"right");
        if second_name {
            fs::hard_link(world.output("a"), world.path("second")).unwrap();
        }
        assert_eq!(world.adopt(), artifacts);
        assert_eq!(world.read(digest_of(b"right"), 5).unwrap(), b"right");
        fs::remove_file(world.output("a")).unwrap();
    }
}

#[test]
fn every_other_damage_is_noticed() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("2 bytes instead of 5", |object| File::options().write(true).open(object).unwrap().set_len(2).unwrap()),
        ("no file", |object| {
            fs::remove_file(object).unwrap();
            fs::create_dir(object).unwrap();
        }),
        ("no file", |object| {
            fs::remove_file(object).unwrap();
            symlink("/etc/passwd", object).unwrap();
        }),
        ("its bytes are those of", |object| {
            fs::remove_file(object).unwrap();
            fs::write(object, b"other").unwrap();
        }),
    ];
    for (found, damage) in damages {
        let world = World::new();
        world.write("a", b"right");
        world.adopt();
        let object = world.object(digest_of(b"right"));
        fs::set_permissions(&object, Permissions::from_mode(0o644)).unwrap();
        damage(&object);
        let error = world.read(digest_of(b"right"), 5).unwrap_err();
        assert!(matches!(&error, DatastoreError::Damaged { found: text, .. } if text.contains(found)), "{error}");
    }
    let world = World::new();
    world.write("a", b"right");
    let artifacts = world.adopt();
    fs::remove_file(world.object(digest_of(b"right"))).unwrap();
    let error = world.store.view(&artifacts, &world.path("view")).unwrap_err();
    assert!(matches!(error, DatastoreError::Missing { .. }), "{error}");
}

#[test]
fn an_object_that_lost_its_time_or_mode_is_mended() {
    let world = World::new();
    world.write("a", b"right");
    world.adopt();
    let object = world.object(digest_of(b"right"));
    fs::set_permissions(&object, Permissions::from_mode(0o755)).unwrap();
    File::open(&object).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(world.read(digest_of(b"right"), 5).unwrap(), b"right");
    let metadata = object.metadata().unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec(), metadata.mode() & 0o777), (946_684_800, 0, 0o444));
    fs::set_permissions(&object, Permissions::from_mode(0o755)).unwrap();
    world.read(digest_of(b"right"), 5).unwrap();
    assert_eq!(object.metadata().unwrap().mode() & 0o777, 0o444);
}

#[test]
fn many_may_mend_the_same_object_at_once() {
    let world = World::new();
    let bytes = vec![7; 1 << 20];
    world.write("a", &bytes);
    world.adopt();
    let object = File::open(world.object(digest_of(&bytes))).unwrap();
    for _ in 0..10 {
        object.set_modified(std::time::SystemTime::now()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| world.read(digest_of(&bytes), 1 << 20).unwrap());
            }
        });
    }
    assert!(!world.path("deep/er/objects/damaged").exists());
}

#[test]
fn a_damaged_manifest_is_noticed() {
    let world = World::new();
    world.write("d/f", b"bytes");
    let artifacts = world.adopt();
    let object = world.object(manifest(&artifacts[0]));
    let text = fs::read_to_string(&object).unwrap();
    fs::remove_file(&object).unwrap();
    fs::write(&object, text.replace("\tf\t", "\tg\t")).unwrap();
    // Even with the time set back: a manifest is hashed whenever it is read.
    objects::seal(&File::open(&object).unwrap(), false).unwrap();
    let error = world.store.entries(manifest(&artifacts[0])).unwrap_err();
    assert!(matches!(error, DatastoreError::Damaged { .. }), "{error}");
    let error = world.store.view(&artifacts, &world.path("view")).unwrap_err();
    assert!(matches!(error, DatastoreError::Missing { .. }), "{error}");
    // An object with the right bytes that is no manifest.
    world.write("e", b"laminar-folder 1\nfolder\t..\n");
    let digest = digest_of(b"laminar-folder 1\nfolder\t..\n");
    world.adopt();
    let content = Content::Folder { manifest: digest, entries: 1, size: 0 };
    let hostile = Artifact { name: "x".to_owned(), content };
    let error = world.store.view(&[hostile], &world.path("view")).unwrap_err();
    assert!(error.to_string().contains("it is no manifest"), "{error}");
}

#[test]
fn a_view_that_is_there_is_left() {
    let world = World::new();
    world.write("a", b"bytes");
    let artifacts = world.adopt();
    fs::create_dir(world.path("view")).unwrap();
    world.view(&artifacts, "view");
    assert_eq!(listing(&world.path("view")).len(), 0);
    assert_eq!(listing(&world.view(&[], "nothing")).len(), 0);
    let bad = Artifact { name: "../escape".to_owned(), content: artifacts[0].content.clone() };
    assert!(world.store.view(&[bad], &world.path("bad")).is_err());
}

#[test]
fn many_may_adopt_and_view_the_same_at_once() {
    let world = World::new();
    let outputs: Vec<PathBuf> = (0..4).map(|number| world.path(&format!("outputs-{number}"))).collect();
    for folder in &outputs {
        fs::create_dir_all(folder.join("d")).unwrap();
        for number in 0..50 {
            fs::write(folder.join(format!("d/{number}")), format!("{number}")).unwrap();
        }
    }
    let barrier = Barrier::new(outputs.len());
    let adopted: Vec<Vec<Artifact>> = std::thread::scope(|scope| {
        let work = |folder: &PathBuf| {
            barrier.wait();
            // A value of its own, as another process would have.
            let store = LocalDatastore::new(world.path("deep/er/objects"));
            let artifacts = store.adopt(folder).unwrap();
            store.view(&artifacts, &world.path("view")).unwrap();
            assert_eq!(fs::read_dir(world.path("view/d")).unwrap().count(), 50);
            artifacts
        };
        let threads: Vec<_> = outputs.iter().map(|folder| scope.spawn(move || work(folder))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(adopted.iter().all(|artifacts| *artifacts == adopted[0]));
    assert_eq!(world.objects(), 51);
    assert_eq!(listing(&world.path("deep/er/objects/temporary")).len(), 0);
    let beside = fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(beside.filter(|name| name.as_bytes().starts_with(b".view")).count(), 0);
}

#[test]
fn a_file_that_keeps_changing_is_rejected_or_stored_as_it_was_read() {
    let world = World::new();
    let path = world.write("a", &vec![0; 4 << 20]);
    let done = std::sync::atomic::AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            let mut byte = 0_u8;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                byte = byte.wrapping_add(1);
                file.write_all_at(&[byte], u64::from(byte) << 12).unwrap();
            }
        });
        let result = world.store.adopt(&world.path("outputs"));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        result
    });
    match result {
        Err(AdoptError::Rejected(list)) => assert!(list[0].to_string().contains("changed while it was being read")),
        // It was hashed between two writes; if more followed, they are noticed.
        Ok(artifacts) => {
            let (digest, size) = file(&artifacts[0]);
            assert!(world.read(digest, size).map_or(true, |bytes| digest_of(&bytes) == digest));
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn removing_takes_everything_and_follows_nothing() {
    let world = World::new();
    world.write("kept/f", b"");
    let folder = world.output("gone");
    fs::create_dir_all(folder.join("a/b/c")).unwrap();
    fs::write(folder.join("a/b/f"), b"").unwrap();
    symlink(world.output("kept"), folder.join("a/link")).unwrap();
    for path in ["a/b/c", "a/b", "a", ""] {
        fs::set_permissions(folder.join(path), Permissions::from_mode(0o000)).unwrap();
    }
    remove(&folder).unwrap();
    assert!(!folder.exists());
    assert!(world.output("kept/f").exists());
    remove(&folder).unwrap();
    assert!(remove(&world.output("kept/f")).is_err(), "a file is no folder");
}

#[test]
fn outputs_that_are_as_they_were_made_are_told() {
    let world = World::new();
    let outputs = world.path("outputs");
    let set_mode = |mode| fs::set_permissions(&outputs, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o755);
    assert!(!is_as_made(&outputs).unwrap(), "others may look in");
    set_mode(0o700);
    assert!(is_as_made(&outputs).unwrap());
    world.write(".hidden", b"");
    assert!(!is_as_made(&outputs).unwrap());
    assert!(is_as_made(&world.output(".hidden")).is_err());
    assert!(is_as_made(&world.path("gone")).is_err());
}

/// Everything in a folder: paths, and what is there, links not followed.
fn listing(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_dir() {
                ahead.push(path.clone());
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {}", path.read_link().unwrap().display())
            } else {
                format!("{:o} {}", metadata.mode() & 0o100, fs::read_to_string(&path).unwrap())
            };
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), what);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is left, either it is rejected for a link in it, or it comes back as it was and every link in it ends
    /// within its artifact.
    #[test]
    fn any_outputs_come_back_or_are_rejected(
        things in prop::collection::vec(("[ab](/[abc]){0,3}", 0..4, "([.]{2}/){0,2}[abc](/[abc])?"), 1..12),
    ) {
        let world = World::new();
        for (path, kind, target) in &things {
            // Whatever does not fit what is there already is left out; and nothing is made through a link.
            let path = world.output(path);
            let parent = path.parent().unwrap();
            let _ = fs::create_dir_all(parent);
            if parent.canonicalize().ok() != world.path("outputs").canonicalize().ok().map(|root| {
                root.join(parent.strip_prefix(world.path("outputs")).unwrap())
            }) || path.symlink_metadata().is_ok() {
                continue;
            }
            let _ = match kind {
                0 => fs::create_dir(&path),
                1 if path.parent() != Some(&world.path("outputs")) => symlink(target, &path),
                _ => fs::write(&path, target),
            };
            if *kind == 3 && path.is_file() {
                fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
            }
        }
        let before = listing(&world.path("outputs"));
        match world.store.adopt(&world.path("outputs")) {
            Ok(artifacts) => {
                let view = world.view(&artifacts, "view");
                prop_assert_eq!(&listing(&view), &before);
                for path in listing(&view).into_keys() {
                    let artifact = view.canonicalize().unwrap().join(path.iter().next().unwrap());
                    prop_assert!(view.join(path).canonicalize().unwrap().starts_with(artifact));
                }
            }
            Err(AdoptError::Rejected(list)) => for rejection in list {
                prop_assert!(world.output(&rejection.path).is_symlink(), "{}", rejection);
            },
            Err(error) => panic!("{error}"),
        }
        prop_assert_eq!(listing(&world.path("outputs")), before, "the outputs stay");
    }
}
