//! Tests of the store as a whole.
#![allow(clippy::unwrap_used)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::datastore::{Content, Digest};
use crate::event::{Event, Record};
use crate::executor::{Cause, Handle, Usage};
use crate::folder::{ExecutionFolder, Root};
use crate::id::{Attempt, LayerId, TaskId};

mod events;
mod layers;

fn world() -> (TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new(&folder.path().join(".laminar")).unwrap();
    (folder, root)
}

fn creation(layers: usize) -> Creation {
    Creation {
        id: ExecutionId::now(),
        flow: "Digits".into(),
        source_name: "flows/digits \"ä\".yaml".into(),
        source_text: "flow: Digits\nlayers: {}\n".into(),
        source_format: Format::Yaml,
        parameters: vec![("seed".into(), "9".into()), ("a'b".into(), "\n\0\"".into()), ("seed".into(), "".into())],
        backend: "local".into(),
        elsewhere: (1..layers.min(3)).map(|at| (LayerId(at as u32), "docker".to_owned())).collect(),
        options: vec![("docker".into(), "network".into(), "a'b \n".into())],
        workdir: std::ffi::OsStr::from_bytes(b"/somewhere/\xff else").into(),
        jobs: 7,
        cpu_millis: 2500,
        memory: u64::MAX,
        layers: (0..layers).map(|at| format!("Layer{at}").into()).collect(),
        earlier: Vec::new(),
        created_ms: now_ms(),
    }
}

fn split(layer: u32, index: u32) -> Split {
    Split { layer: LayerId(layer), index }
}

fn attempt(layer: u32, index: u32, number: u32) -> Attempt {
    Attempt { split: split(layer, index), number }
}

fn handle(execution: ExecutionId, attempt: Attempt, token: &str) -> Handle {
    let layer = format!("Layer{}", attempt.split.layer.0).into();
    let task = TaskId { execution, layer, index: attempt.split.index, attempt: attempt.number };
    Handle { task, token: token.into() }
}

fn exit(code: i32) -> Exit {
    Exit { usage: Usage { wall_us: 270, cpu_us: 180, peak_memory: 1 << 20 }, ..Exit::code(code) }
}

fn launched(attempt: Attempt, outputs: u32) -> Event {
    Event::AttemptLaunched { attempt, outputs, memory: outputs.is_multiple_of(2).then_some(40 << 20) }
}

fn change(split: Split, state: State) -> Change {
    Change { split, state }
}

fn artifact(name: &str) -> Artifact {
    let digest = Digest { hash: *blake3::hash(name.as_bytes()).as_bytes(), executable: name.len().is_multiple_of(2) };
    Artifact { name: name.into(), content: Content::File { digest, size: name.len() as u64 } }
}

#[test]
fn what_is_appended_is_read_while_the_execution_runs_and_after() {
    let (_folder, root) = world();
    let creation = creation(3);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.creation(), &creation);
    assert_eq!(reader.status().unwrap(), Status::Running { pid: Some(std::process::id()) });
    assert_eq!(reader.records(0, 100).unwrap(), []);

    let first = attempt(0, 0, 1);
    let started = Event::AttemptStarted { attempt: first, handle: handle(creation.id, first, "pid 7") };
    let mut written = store.append(vec![launched(first, 4), started], &[change(first.split, State::Running)]).unwrap();
    assert_eq!(reader.records(0, 100).unwrap(), written);
    assert_eq!(reader.counts().unwrap(), Counts { running: 1, ..Counts::default() });

    let published = Event::AttemptPublished { attempt: first, artifacts: vec![artifact("a"), artifact("b\"\n")] };
    let events = vec![Event::AttemptExited { attempt: first, exit: exit(0) }, published];
    let changes = [change(first.split, State::Finished), change(split(1, 0), State::Ready)];
    written.extend(store.append(events, &changes).unwrap());
    written.extend(
        store
            .append(
                vec![Event::ExecutionEnded { outcome: Outcome::Finished }],
                &[change(split(2, 0), State::Skipped), change(split(1, 0), State::Cached)],
            )
            .unwrap(),
    );
    assert_eq!(reader.status().unwrap(), Status::Ended(Outcome::Finished));
    store.close().unwrap();

    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.records(0, 100).unwrap(), written);
    assert_eq!(reader.records(2, 2).unwrap(), written[2..4]);
    assert_eq!(written.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let row = reader.split(first.split).unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.outputs), (State::Finished, 1, Some(4)));
    assert_eq!((row.exit, row.reason), (Some(exit(0)), None));
    assert_eq!((row.launched_ms, row.ended_ms), (Some(written[0].at_ms), Some(written[2].at_ms)));
    let splits = reader.splits().unwrap();
    let states: Vec<State> = splits.iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Finished, State::Cached, State::Skipped]);
    assert_eq!((splits[2].attempt, splits[2].launched_ms, &splits[2].exit), (0, None, &None));
    let artifacts = reader.artifacts(Some(LayerId(0))).unwrap();
    assert_eq!(
        artifacts.iter().map(|row| row.artifact.clone()).collect::<Vec<_>>(),
        [artifact("a"), artifact("b\"\n")]
    );
    assert_eq!(reader.artifacts(None).unwrap(), artifacts);
    assert_eq!(reader.artifacts(Some(LayerId(1))).unwrap(), []);

    let listed = list(&root).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].layers), (creation.id, 3));
    assert_eq!(listed[0].status, Status::Ended(Outcome::Finished));
    assert_eq!(listed[0].ended_ms, Some(written[4].at_ms));
    assert_eq!(listed[0].counts, Some(Counts { finished: 1, cached: 1, skipped: 1, ..Counts::default() }));
}

/// Figures, not a check: `cargo test --release -p laminar-core store::tests::cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
#[expect(clippy::print_stdout, reason = "the figures are its purpose")]
fn cost() {
    const APPENDS: u32 = 20_000;
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    for durability in [Durability::Group, Durability::Strict] {
        let appends = if durability == Durability::Group { APPENDS } else { APPENDS / 20 };
        let (_folder, root) = world();
        past(&root, 1);
        let small = creation(10);
        let begun = Instant::now();
        let store = RunStore::create(&root, &small, durability).unwrap();
        let created = begun.elapsed();
        let begun = Instant::now();
        store.close().unwrap();
        println!("a flow of 10 layers: created in {created:?}, closed in {:?}", begun.elapsed());
        let creation = creation(2 * appends as usize + 2);
        let mut store = RunStore::create(&root, &creation, durability).unwrap();
        let mut walls = Vec::new();
        let (begun, cpu_begun) = (Instant::now(), cpu());
        for at in 0..appends {
            let mut events = Vec::with_capacity(8);
            let mut changes = Vec::with_capacity(4);
            for lane in 0..2 {
                let (before, next) = (attempt(2 * at + lane, 0, 1), attempt(2 * at + lane + 2, 0, 1));
                events.push(Event::AttemptExited { attempt: before, exit: exit(0) });
                events.push(Event::AttemptPublished { attempt: before, artifacts: Vec::new() });
                events.push(launched(next, lane));
                let handle = handle(creation.id, next, "1234567.89012345");
                events.push(Event::AttemptStarted { attempt: next, handle });
                changes.push(change(before.split, State::Finished));
                changes.push(change(next.split, State::Running));
            }
            let one = Instant::now();
            store.append(events, &changes).unwrap();
            walls.push(one.elapsed());
        }
        let (wall, cpu) = (begun.elapsed(), cpu() - cpu_begun);
        walls.sort();
        let late = walls.split_off(walls.partition_point(|wall| *wall < Duration::from_millis(1)));
        println!("{} appends took 1 ms or more: {:?} in all", late.len(), late.iter().sum::<Duration>());
        let (median, slowest) = (walls.get(walls.len() / 2), late.last());
        let wal = std::fs::metadata(schema::beside(&store.folder().store(), "-wal")).unwrap().len();
        let path = store.folder().store();
        let skipped: Vec<Change> = (0..100_000).map(|index| change(split(1 << 20, index), State::Skipped)).collect();
        let begun = Instant::now();
        if durability == Durability::Strict {
            store.append(vec![], &skipped).unwrap();
            println!("100,000 changes at once: {:?}", begun.elapsed());
        }
        store.append(vec![Event::ExecutionEnded { outcome: Outcome::Finished }], &[]).unwrap();
        let begun = Instant::now();
        store.close().unwrap();
        let size = std::fs::metadata(&path).unwrap().len();
        println!(
            "{durability:?}: an append: cpu {:?}, wall {:?}, median {median:?}, slowest {slowest:?}; {} bytes a layer; \
             log at the end {wal} bytes; closed in {:?}",
            cpu / appends,
            wall / appends,
            size / u64::from(2 * appends),
            begun.elapsed(),
        );
    }
}

fn run_split(store: &mut RunStore, execution: ExecutionId, layer: u32) {
    let attempt = attempt(layer, 0, 1);
    let started = Event::AttemptStarted { attempt, handle: handle(execution, attempt, "7.8") };
    let running = change(attempt.split, State::Running);
    store.append(vec![launched(attempt, layer), started], &[running]).unwrap();
    let published = Event::AttemptPublished { attempt, artifacts: vec![artifact(&format!("model{layer}"))] };
    let events = vec![Event::AttemptExited { attempt, exit: exit(0) }, published];
    store.append(events, &[change(attempt.split, State::Finished)]).unwrap();
}

fn end(store: &mut RunStore, outcome: Outcome) {
    store.append(vec![Event::ExecutionEnded { outcome }], &[]).unwrap();
}

/// A closed, ended execution in which `layers` layers ran.
fn past(root: &Root, layers: u32) -> ExecutionId {
    let creation = creation(layers as usize);
    let mut store = RunStore::create(root, &creation, Durability::Group).unwrap();
    (0..layers).for_each(|layer| run_split(&mut store, creation.id, layer));
    end(&mut store, Outcome::Finished);
    store.close().unwrap();
    creation.id
}

/// Copies in another process: closing a database's file in this one would drop SQLite's locks on it.
fn copy_store(from: &ExecutionFolder, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let script = r#"for suffix in "" -wal; do [ -e "$1$suffix" ] && cp "$1$suffix" "$2/store.db$suffix"; done; true"#;
    let done = Command::new("sh").args(["-c", script, "sh"]).arg(from.store()).arg(to).status().unwrap();
    assert!(done.success());
}

/// Reads all there is; errors must name a file.
fn read_all(root: &Root, id: ExecutionId) -> Result<Vec<Record>, StoreError> {
    let read = || {
        let reader = RunReader::open(root, id)?;
        reader.status()?;
        reader.counts()?;
        reader.splits()?;
        reader.split(split(0, 0))?;
        reader.artifacts(None)?;
        reader.layers()?;
        reader.each(LayerId(0))?;
        reader.records(0, usize::MAX)
    };
    read().inspect_err(|error| {
        let text = error.to_string();
        assert!(text.contains(&root.execution(id).store().display().to_string()), "{text}");
        assert!(!list(root).unwrap().is_empty(), "it is still listed");
    })
}

#[test]
fn a_successor_goes_on_where_the_first_stopped_and_shuts_it_out() {
    let (_folder, root) = world();
    let creation = creation(2);
    let mut first = RunStore::create(&root, &creation, Durability::Group).unwrap();
    run_split(&mut first, creation.id, 0);
    let error = RunStore::open(&root, creation.id, Durability::Group).unwrap_err();
    let StoreError::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder.pid, Some(std::process::id()));
    assert!(error.to_string().contains(&format!("is held by process {} since 20", std::process::id())), "{error}");

    // The lock file is replaced, so that the first seems to be gone.
    std::fs::remove_file(root.execution(creation.id).lock()).unwrap();
    let mut second = RunStore::open(&root, creation.id, Durability::Strict).unwrap();
    let records = second.append(vec![Event::CancelRequested { force: true }], &[]).unwrap();
    assert_eq!(records[0].seq, 5);
    let refused = first.append(vec![Event::CancelRequested { force: false }], &[change(split(1, 0), State::Skipped)]);
    assert!(matches!(refused, Err(StoreError::ShutOut { id }) if id == creation.id));
    drop(first);
    let events = vec![launched(attempt(0, 0, 2), 9)];
    assert_eq!(second.append(events, &[change(split(0, 0), State::Running)]).unwrap()[0].seq, 6);
    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.records(0, 100).unwrap().len(), 6);
    let row = reader.split(split(0, 0)).unwrap().unwrap();
    assert_eq!((row.attempt, row.state, row.exit, row.ended_ms), (2, State::Running, None, None));
    assert_eq!(reader.split(split(1, 0)).unwrap(), None);
}

#[test]
fn an_execution_that_goes_on_after_its_end_has_not_ended() {
    let (_folder, root) = world();
    let id = past(&root, 2);
    let mut store = RunStore::open(&root, id, Durability::Group).unwrap();
    let reader = RunReader::open(&root, id).unwrap();
    assert_eq!(reader.status().unwrap(), Status::Ended(Outcome::Finished));
    store.append(vec![Event::RetryDue { split: split(0, 0) }], &[]).unwrap();
    assert!(matches!(reader.status().unwrap(), Status::Running { .. }));
    drop(store);
    assert_eq!(reader.status().unwrap(), Status::Interrupted);
}

#[test]
fn a_store_of_an_earlier_version_is_read_as_it_is_and_brought_up_to_date_by_its_scheduler() {
    let third = "DROP INDEX keys; ALTER TABLE layers DROP COLUMN splits; ALTER TABLE layers DROP COLUMN state;
                 ALTER TABLE layers DROP COLUMN reason; ALTER TABLE layers DROP COLUMN opened;
                 DELETE FROM kinds WHERE kind > 10; PRAGMA user_version = 3";
    let first = "DROP TABLE updates; ALTER TABLE creation DROP COLUMN options; ALTER TABLE layers DROP COLUMN backend;
                 PRAGMA user_version = 1";
    for earlier in [vec![third], vec![third, first]] {
        let (_folder, root) = world();
        let creation = creation(3);
        let id = creation.id;
        RunStore::create(&root, &creation, Durability::Group).unwrap().close().unwrap();
        let path = root.execution(id).store();
        Connection::open(&path).unwrap().execute_batch(&earlier.join(";")).unwrap();
        let is_first = earlier.len() == 2;
        let without = Creation { elsewhere: Vec::new(), options: Vec::new(), ..creation.clone() };
        let kept = if is_first { without } else { creation };
        let check = || {
            let reader = RunReader::open(&root, id).unwrap();
            assert_eq!(*reader.creation(), kept);
            let rows = reader.layers().unwrap();
            assert_eq!(rows.iter().map(|row| row.layer.0).collect::<Vec<_>>(), [0, 1, 2]);
            assert!(rows.iter().all(|row| (row.splits, row.state, &row.reason) == (None, None, &None)));
            assert_eq!(reader.each(LayerId(0)).unwrap(), None);
        };
        check();
        assert_eq!(list(&root).unwrap()[0].backends.len(), if is_first { 1 } else { 2 });
        RunStore::open(&root, id, Durability::Group).unwrap().close().unwrap();
        let version =
            |connection: Connection| connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
        assert_eq!(version(Connection::open(&path).unwrap()).unwrap(), 5);
        check();
    }
}

/// The creation with another flow, one layer more, and everything elsewhere.
fn updated(creation: &Creation) -> Creation {
    let mut next = creation.clone();
    next.earlier.push(creation.to_earlier());
    next.flow = format!("{}'", creation.flow);
    next.source_name = "/else/where.json".into();
    next.source_text = format!("{{{}}}", next.earlier.len()).into();
    next.source_format = Format::Json;
    next.parameters = vec![("seed".into(), next.earlier.len().to_string())];
    next.backend = "podman".into();
    next.elsewhere = vec![(LayerId(0), "local".into())];
    next.options = Vec::new();
    next.layers.push(format!("Layer{}", next.layers.len()).into());
    next
}

#[test]
fn an_update_is_there_with_the_event_that_says_so_and_not_before() {
    let (_folder, root) = world();
    let first = creation(2);
    let kept = || RunReader::open(&root, first.id).unwrap().creation().clone();
    let resumed = |number| {
        vec![Event::ExecutionResumed {
            again: vec![LayerId(2)],
            splits: Vec::new(),
            changed: Vec::new(),
            update: Some(number),
        }]
    };
    let mut store = RunStore::create(&root, &first, Durability::Group).unwrap();
    let second = updated(&first);
    assert!(matches!(store.propose(updated(&second)), Err(StoreError::Updated { .. })));
    store.propose(first.clone()).unwrap();
    store.propose(second.clone()).unwrap();
    drop(store);
    assert_eq!(kept(), first, "it was only proposed");

    let mut store = RunStore::open(&root, first.id, Durability::Group).unwrap();
    store.propose(second.clone()).unwrap();
    store
        .append(
            vec![Event::ExecutionResumed { again: vec![], splits: Vec::new(), changed: Vec::new(), update: None }],
            &[],
        )
        .unwrap();
    assert_eq!(kept(), first);
    store.append(resumed(1), &[]).unwrap();
    assert_eq!(kept(), second);
    // The new layer is known to those who write and to those who read from now on.
    run_split(&mut store, first.id, 2);
    assert_eq!(RunReader::open(&root, first.id).unwrap().records(1, 10).unwrap().len(), 5);
    let third = updated(&second);
    let other = Creation { source_text: "other".into(), ..second.clone() };
    for stale in [first.clone(), other.clone(), updated(&other)] {
        assert!(matches!(store.propose(stale), Err(StoreError::Updated { .. })));
    }
    store.propose(third.clone()).unwrap();
    store.append(resumed(2), &[]).unwrap();
    end(&mut store, Outcome::Finished);
    store.close().unwrap();
    assert_eq!(kept(), third);
    let summary = list(&root).unwrap().pop().unwrap();
    assert_eq!((summary.flow.as_str(), summary.layers), ("Digits''", 4));
    assert_eq!(summary.backends, ["podman", "local"]);
}

#[test]
fn the_backends_that_are_used_are_named_once() {
    let some = creation(4);
    assert_eq!(some.backends(), ["local", "docker"]);
    assert_eq!([0, 1, 3].map(|layer| some.backend_of(LayerId(layer))), ["local", "docker", "local"]);
    let elsewhere = (0..2).map(|at| (LayerId(at), format!("b{at}"))).collect();
    let all = Creation { elsewhere, ..creation(2) };
    assert_eq!(all.backends(), ["b0", "b1"], "nothing is left for the other");
    let (_folder, root) = world();
    RunStore::create(&root, &some, Durability::Group).unwrap().close().unwrap();
    assert_eq!(list(&root).unwrap()[0].backends, ["local", "docker"]);
    std::fs::remove_file(root.index()).unwrap();
    assert_eq!(list(&root).unwrap()[0].backends, ["local", "docker"]);
}

#[test]
fn a_split_that_failed_twice_tells_of_its_last_attempt() {
    let (_folder, root) = world();
    let creation = creation(1);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let (one, two) = (attempt(0, 3, 1), attempt(0, 3, 2));
    store.append(vec![launched(one, 1)], &[change(one.split, State::Running)]).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    let resting = change(one.split, State::Resting);
    let retry = Event::RetryScheduled { attempt: one, delay_ms: 100, memory: Some(u64::MAX) };
    store.append(vec![Event::AttemptExited { attempt: one, exit: exit(3) }, retry], &[resting]).unwrap();
    assert_eq!(reader.split(one.split).unwrap().unwrap().exit, Some(exit(3)));
    store.append(vec![Event::RetryDue { split: one.split }], &[change(one.split, State::Ready)]).unwrap();
    assert_eq!(reader.counts().unwrap(), Counts { resting: 1, ..Counts::default() });
    let rejected = Event::AttemptRejected { attempt: two, reason: "left `a` as a socket".into() };
    let events = vec![launched(two, 2), Event::AttemptExited { attempt: two, exit: exit(0) }, rejected];
    store.append(events, &[change(two.split, State::Failed)]).unwrap();
    let row = reader.split(one.split).unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.outputs), (State::Failed, 2, Some(2)));
    assert_eq!((row.exit, row.reason.as_deref()), (Some(exit(0)), Some("left `a` as a socket")));
}

#[test]
fn a_reader_in_the_middle_of_reading_blocks_nobody_and_the_log_stays_short() {
    let (_folder, root) = world();
    let creation = creation(1);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    run_split(&mut store, creation.id, 0);
    let path = store.folder().store();
    let reading = schema::open(&path, schema::Access::Read, Duration::ZERO).unwrap();
    let transaction = reading.unchecked_transaction().unwrap();
    let count = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&transaction), 4);
    let mut appends = |times: u32| {
        for _ in 0..times {
            store.append(vec![Event::CancelRequested { force: false }], &[]).unwrap();
        }
    };
    appends(3000);
    assert_eq!(count(&transaction), 4, "a reader sees one moment");
    drop(transaction);
    assert_eq!(count(&reading), 3004);
    let log = || std::fs::metadata(schema::beside(&path, "-wal")).unwrap().len();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let before = log();
        appends(500);
        if log() == before {
            break; // It was moved into the database, and started over.
        }
        assert!(Instant::now() < deadline, "the log grows and grows: {before}");
    }
    drop(reading);
    store.close().unwrap();
    assert!(!schema::beside(&path, "-wal").exists());
}

#[test]
fn what_a_killed_process_had_appended_is_there() {
    let (_folder, root) = world();
    let mut child = spawn_child("append", &root);
    let deadline = Instant::now() + Duration::from_secs(20);
    let id = loop {
        assert!(Instant::now() < deadline);
        if let Ok(id) = resolve(&root, "latest")
            && RunReader::open(&root, id).unwrap().records(0, 100).unwrap().len() > 50
        {
            break id;
        }
    };
    let reader = RunReader::open(&root, id).unwrap();
    assert_eq!(reader.status().unwrap(), Status::Running { pid: Some(child.id()) });
    let error = RunStore::open(&root, id, Durability::Group).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", child.id())), "{error}");
    let seen = reader.records(0, usize::MAX).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reader.status().unwrap(), Status::Interrupted);
    assert_eq!(list(&root).unwrap()[0].status, Status::Interrupted);
    let left = reader.records(0, usize::MAX).unwrap();
    assert_eq!(left[..seen.len()], seen);
    let mut store = RunStore::open(&root, id, Durability::Group).unwrap();
    let next = store.append(vec![Event::CancelRequested { force: false }], &[]).unwrap();
    assert_eq!(next[0].seq, left.len() as u64 + 1);
}

#[test]
fn a_log_cut_anywhere_is_shorter_never_torn() {
    let (folder, root) = world();
    let creation = creation(8);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    (0..8).for_each(|layer| run_split(&mut store, creation.id, layer));
    let whole = RunReader::open(&root, creation.id).unwrap().records(0, 1000).unwrap();
    let copied = folder.path().join("copied");
    copy_store(store.folder(), &copied);
    let (database, log) =
        (std::fs::read(copied.join("store.db")).unwrap(), std::fs::read(copied.join("store.db-wal")).unwrap());
    assert!(log.len() > 10_000);
    let mut lengths = std::collections::BTreeSet::new();
    for cut in (0..log.len()).step_by(997).chain([log.len()]) {
        let (_other, other) = place(creation.id, &database, &log[..cut]);
        let left = read_all(&other, creation.id).unwrap();
        assert_eq!(left, whole[..left.len()]);
        assert_eq!(left.len() % 2, 0, "appends are all or nothing");
        lengths.insert(left.len());
        if cut % 7 != 0 {
            continue; // Each successor waits for several syncs.
        }
        let mut successor = RunStore::open(&other, creation.id, Durability::Group).unwrap();
        run_split(&mut successor, creation.id, 7);
        successor.close().unwrap();
        assert_eq!(read_all(&other, creation.id).unwrap().len(), left.len() + 4);
    }
    assert_eq!(lengths.len(), 17, "every length there can be: {lengths:?}");
    for at in (0..log.len()).step_by(1009) {
        let mut spoilt = log.clone();
        spoilt[at] ^= 0x55;
        let (_other, other) = place(creation.id, &database, &spoilt);
        let left = read_all(&other, creation.id).unwrap();
        assert_eq!(left, whole[..left.len()]);
        let (_other, other) = place(creation.id, &database[..at % database.len()], &log);
        if let Ok(left) = read_all(&other, creation.id) {
            assert_eq!(left, whole, "what the database lacks is in the log");
        }
    }
}

/// A root with one execution, made of these files.
fn place(id: ExecutionId, database: &[u8], log: &[u8]) -> (TempDir, Root) {
    let (folder, root) = world();
    let execution = root.execution(id);
    std::fs::create_dir_all(execution.path()).unwrap();
    std::fs::write(execution.store(), database).unwrap();
    if !log.is_empty() {
        std::fs::write(schema::beside(&execution.store(), "-wal"), log).unwrap();
    }
    (folder, root)
}

#[test]
fn a_database_cut_or_overwritten_anywhere_is_an_error_that_names_it() {
    let (_folder, root) = world();
    let id = past(&root, 40);
    let whole = read_all(&root, id).unwrap();
    let database = std::fs::read(root.execution(id).store()).unwrap();
    for cut in (0..database.len()).step_by(1531) {
        let (_other, other) = place(id, &database[..cut], &[]);
        assert!(read_all(&other, id).is_err(), "cut at {cut}");
        assert!(RunStore::open(&other, id, Durability::Group).is_err());
    }
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize
    };
    for round in 0..300 {
        let mut damaged = database.clone();
        match round % 3 {
            0 => {
                let page = next() % (damaged.len() / 4096) * 4096;
                damaged[page..page + 4096].iter_mut().for_each(|byte| *byte = next() as u8);
            }
            1 => {
                let page = next() % (damaged.len() / 4096) * 4096;
                damaged[page..page + 4096].fill(0);
            }
            _ => {
                for _ in 0..1 + next() % 20 {
                    let at = next() % damaged.len();
                    damaged[at] = next() as u8;
                }
            }
        }
        let (_other, other) = place(id, &damaged, &[]);
        if let Ok(left) = read_all(&other, id)
            && round % 3 == 0
        {
            assert_eq!(left.len(), whole.len());
        }
        if round % 5 == 0
            && let Ok(mut store) = RunStore::open(&other, id, Durability::Group)
        {
            let _ = store.append(vec![launched(attempt(1, 0, 2), 3)], &[change(split(2, 0), State::Failed)]);
            let _ = store.close();
        }
    }
}

#[test]
fn what_is_no_store_is_named_and_listed() {
    let (_folder, root) = world();
    let id = past(&root, 1);
    let path = root.execution(id).store();
    let expect = |words: &str| {
        let error = read_all(&root, id).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let error = RunStore::open(&root, id, Durability::Group).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        std::fs::remove_file(root.index()).unwrap();
        let listed = list(&root).unwrap();
        assert!(matches!(&listed[0].status, Status::Damaged { reason } if reason.contains(words)), "{listed:?}");
        assert!((listed[0].created_ms - now_ms()).abs() < 60_000);
    };
    std::fs::write(&path, "").unwrap();
    expect("it is empty");
    std::fs::write(&path, "all that glitters is not a database, and this here is long enough ".repeat(99)).unwrap();
    expect("it is no SQLite database");
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    expect("a database of something else");
    std::fs::remove_file(&path).unwrap();
    expect("cannot open");
    std::fs::create_dir(&path).unwrap();
    expect("cannot open");
}

#[test]
fn rows_of_nonsense_are_damage() {
    let nonsense = [
        ("splits", "UPDATE splits SET state = 'dreaming'"),
        ("splits", "UPDATE splits SET state = 'ready'"),
        ("splits", "UPDATE splits SET attempt = -1"),
        ("splits", "UPDATE splits SET split = 5000000000"),
        ("splits", "UPDATE splits SET exited = 1"),
        ("splits", "UPDATE splits SET exited = 99"),
        ("splits", "UPDATE splits SET state = x'ff'"),
        ("events", "UPDATE events SET kind = 99 WHERE seq = 2"),
        ("events", "UPDATE events SET kind = 'launched' WHERE seq = 2"),
        ("events", "UPDATE events SET layer = -1 WHERE seq = 1"),
        ("events", "UPDATE events SET layer = 77 WHERE seq = 2"),
        ("events", "UPDATE events SET layer = NULL WHERE seq = 1"),
        ("events", "UPDATE events SET detail = '{\"outputs\":-4}' WHERE seq = 1"),
        ("events", "UPDATE events SET detail = '{' WHERE seq = 2"),
        ("events", "UPDATE events SET detail = NULL WHERE seq = 3"),
        ("events", "UPDATE events SET seq = -1 WHERE seq = 1"),
        ("events", "DELETE FROM events WHERE seq = 3"),
        ("events", "UPDATE meta SET ended = 2"),
        ("events", "DELETE FROM meta"),
        ("artifacts", "UPDATE artifacts SET kind = 'socket'"),
        ("artifacts", "UPDATE artifacts SET digest = 'abc'"),
        ("artifacts", "UPDATE artifacts SET size = -1"),
        ("artifacts", "UPDATE artifacts SET size = 'many'"),
        ("artifacts", "UPDATE artifacts SET kind = 'folder'"),
        ("creation", "UPDATE creation SET id = 'me'"),
        ("creation", "UPDATE creation SET source_format = 'toml'"),
        ("creation", "UPDATE creation SET parameters = '[['"),
        ("creation", "UPDATE creation SET jobs = -1"),
        ("creation", "UPDATE creation SET memory = -1"),
        ("creation", "DELETE FROM creation"),
        ("updates", "INSERT INTO updates VALUES (2, '', '', '[]', '', 'yaml', '', '[]')"),
        ("updates", "INSERT INTO updates VALUES (1, '', '', '[]', '', 'toml', '', '[]')"),
        ("updates", "INSERT INTO updates VALUES (1, '', '', '[[', '', 'yaml', '', '[]')"),
        ("updates", "INSERT INTO updates VALUES (1, '', '', '[]', '', 'yaml', x'ff', '[]')"),
        ("updates", "DROP TABLE updates"),
        ("layers", "UPDATE layers SET id = 5 WHERE id = 1"),
        ("layers", "DROP TABLE layers"),
        ("layers", "UPDATE layers SET splits = -1"),
        ("layers", "UPDATE layers SET state = 'tired'"),
        ("layers", "UPDATE layers SET opened = 2 WHERE id = 0"),
        ("layers", "UPDATE events SET kind = 11, detail = '{\"each\": [[[\"x\", [1]], [\"y\", []]]]}' WHERE seq = 1"),
        ("layers", "UPDATE events SET kind = 16, detail = NULL WHERE seq = 1"),
        ("version", "PRAGMA user_version = -3"),
    ];
    let (_folder, root) = world();
    let id = past(&root, 2);
    let database = std::fs::read(root.execution(id).store()).unwrap();
    for (_, sql) in nonsense {
        let (_other, other) = place(id, &database, &[]);
        Connection::open(other.execution(id).store()).unwrap().execute_batch(sql).unwrap();
        let error = read_all(&other, id).expect_err(sql);
        assert!(matches!(error, StoreError::Damaged { .. }), "{sql}: {error}");
        if let Ok(mut store) = RunStore::open(&other, id, Durability::Group) {
            let _ = store.append(vec![], &[change(split(0, 0), State::Failed)]);
        }
    }
    let (_other, other) = place(id, &database, &[]);
    Connection::open(other.execution(id).store()).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
    assert!(matches!(read_all(&other, id), Err(StoreError::Newer { version: 1000, .. })));
    assert!(matches!(RunStore::open(&other, id, Durability::Group), Err(StoreError::Newer { .. })));
}

#[test]
fn the_index_can_be_lost_or_spoilt() {
    let (_folder, root) = world();
    let ids = [past(&root, 1), past(&root, 2), past(&root, 3)];
    let healthy = list(&root).unwrap();
    assert_eq!(healthy.iter().map(|summary| summary.id).collect::<Vec<_>>(), [ids[2], ids[1], ids[0]]);
    let spoil: [&dyn Fn(&Path); 7] = [
        &|path| std::fs::remove_file(path).unwrap(),
        &|path| std::fs::write(path, "").unwrap(),
        &|path| std::fs::write(path, "rubbish ".repeat(4096)).unwrap(),
        &|path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[100..].fill(0xa5);
            std::fs::write(path, bytes).unwrap();
        },
        &|path| Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap(),
        &|path| Connection::open(path).unwrap().execute_batch("UPDATE executions SET outcome = 'odd'").unwrap(),
        &|path| Connection::open(path).unwrap().execute_batch("DELETE FROM executions").unwrap(),
    ];
    for (number, spoil) in spoil.iter().enumerate() {
        spoil(&root.index());
        assert_eq!(list(&root).unwrap(), healthy, "{number}");
        assert_eq!(list(&root).unwrap(), healthy, "{number}, from what was built anew");
    }
    std::fs::remove_file(root.index()).unwrap();
    std::fs::create_dir(root.index()).unwrap();
    assert_eq!(list(&root).unwrap(), healthy, "without an index");
    std::fs::remove_dir_all(root.execution(ids[1]).path()).unwrap();
    assert_eq!(list(&root).unwrap().len(), 2);
}

#[test]
fn ids_are_found_by_their_beginnings() {
    let (_folder, root) = world();
    assert_eq!(list(&root).unwrap(), []);
    assert!(matches!(resolve(&root, "latest"), Err(StoreError::NoExecutions { .. })));
    let (one, two) = (past(&root, 1), past(&root, 1));
    assert_eq!(resolve(&root, "latest").unwrap(), two);
    let text = one.to_string();
    assert_eq!(resolve(&root, &text).unwrap(), one);
    assert_eq!(resolve(&root, &text[..31]).unwrap(), one);
    assert_eq!(resolve(&root, &text.to_uppercase()).unwrap(), one);
    let Err(StoreError::Ambiguous { candidates, .. }) = resolve(&root, &text[..6]) else { panic!() };
    assert_eq!(candidates, [two, one]);
    let mut typo = text.clone();
    let last = if typo.ends_with('0') { "1" } else { "0" };
    typo.replace_range(31.., last);
    let error = resolve(&root, &typo).unwrap_err();
    assert!(error.to_string().contains(&format!("similar: {one}")), "{error}");
    for text in ["", "zz", "ä", "latest?", "%", "../x"] {
        assert!(matches!(resolve(&root, text), Err(StoreError::Unknown { .. })), "{text}");
    }
    assert!(matches!(RunReader::open(&root, ExecutionId::now()), Err(StoreError::Unknown { .. })));
    assert!(matches!(RunStore::open(&root, ExecutionId::now(), Durability::Group), Err(StoreError::Unknown { .. })));
}

#[test]
fn an_execution_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, root) = world();
    let creation = creation(1);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    run_split(&mut store, creation.id, 0);
    assert!(matches!(RunStore::create(&root, &creation, Durability::Group), Err(StoreError::Exists { .. })));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = store.folder();
    assert_eq!(mode(folder.path()), 0o700);
    for name in ["logs", "outputs", "views", "inputs"] {
        assert_eq!(mode(&folder.path().join(name)), 0o700);
    }
    let log = schema::beside(&folder.store(), "-wal");
    for file in [folder.store(), log, folder.lock(), root.index()] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert_eq!(std::fs::read_to_string(root.path().join(".gitignore")).unwrap(), "*\n");
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect::<Vec<_>>()
    };
    assert_eq!(entries(&root.executions()), [creation.id.to_string()], "nothing is left of its making");
    store.close().unwrap();
    assert!(entries(root.path()).iter().all(|name| !name.starts_with(".index")));
}

#[test]
fn many_start_at_once() {
    let (_folder, root) = world();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..3).map(|_| past(&root, 2)).for_each(|id| assert!(read_all(&root, id).is_ok())));
        }
    });
    let children: Vec<_> = (0..4).map(|_| spawn_child("past", &root)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let remembered = Connection::open(root.index()).unwrap();
    let ended = "SELECT count(*) FROM executions WHERE outcome = 'finished'";
    assert_eq!(remembered.query_row(ended, [], |row| row.get::<_, i64>(0)).unwrap(), 32, "in the index itself");
    assert_eq!(list(&root).unwrap().len(), 32);
}

/// Mounts; `false` where that is not allowed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn mount(arguments: &[&str], target: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(target).stderr(Stdio::null()).status();
    let mounted = mounted.is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: only root may mount");
    }
    mounted
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], folder.path()) {
        return;
    }
    let _mounted = Mounted(folder.path());
    let root = Root::new(&folder.path().join(".laminar")).unwrap();
    let creation = creation(1);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let mut kept = 0;
    let cancel = || vec![Event::CancelRequested { force: false }];
    let error = loop {
        match store.append(cancel(), &[change(split(0, kept), State::Skipped)]) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("store.db"), "{error}");
    assert!(kept > 10);
    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.records(0, usize::MAX).unwrap().len(), kept as usize);
    assert_eq!(reader.counts().unwrap().skipped, kept);
    assert!(RunStore::create(&root, &self::creation(1), Durability::Group).is_err());
    assert_eq!(std::fs::read_dir(root.executions()).unwrap().count(), 1, "nothing is left of it");
    assert!(mount(&["-o", "remount,size=8m"], folder.path()));
    assert_eq!(store.append(cancel(), &[]).unwrap()[0].seq, u64::from(kept) + 1, "room again");
    store.close().unwrap();
    assert_eq!(read_all(&root, creation.id).unwrap().len(), kept as usize + 1);
}

#[test]
fn a_read_only_file_system_can_be_read() {
    let (folder, root) = world();
    let ended = past(&root, 2);
    let creation = creation(2);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    run_split(&mut store, creation.id, 0);
    let busy = past(&root, 2);
    // As a process leaves it that was killed while it wrote without a write-ahead log.
    let hot = Connection::open(root.execution(busy).store()).unwrap();
    hot.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; UPDATE splits SET state = 'failed'")
        .unwrap();
    hot.cache_flush().unwrap();
    let kept = folder.path().join("busy");
    let script = r#"mkdir "$2" && cp "$1"/store.db* "$2" && rm -r "$1" && mv "$2" "$1""#;
    let folders = [root.execution(busy).path().to_owned(), kept];
    assert!(Command::new("sh").args(["-c", script, "sh"]).args(folders).status().unwrap().success());
    assert!(schema::beside(&root.execution(busy).store(), "-journal").exists());
    // As a machine that crashed leaves it: a log, but no shared memory.
    let crashed = ExecutionId::now();
    copy_store(store.folder(), root.execution(crashed).path());
    std::fs::write(root.execution(crashed).lock(), "").unwrap();
    let alone = Connection::open(root.execution(crashed).store()).unwrap();
    alone.execute("UPDATE creation SET id = ?", [crashed.to_string()]).unwrap();
    std::mem::forget(alone);
    copy_store(&root.execution(crashed), &folder.path().join("kept"));
    std::fs::remove_dir_all(root.execution(crashed).path()).unwrap();
    std::fs::rename(folder.path().join("kept"), root.execution(crashed).path()).unwrap();

    let seen = tempfile::tempdir().unwrap();
    let source = folder.path().to_str().unwrap();
    if !mount(&["--bind", "-o", "ro", source], seen.path()) {
        return;
    }
    let _mounted = Mounted(seen.path());
    let frozen = Root::new(&seen.path().join(".laminar")).unwrap();
    assert!(std::fs::write(frozen.path().join("x"), "").is_err());
    assert_eq!(read_all(&frozen, ended).unwrap().len(), 9);
    for root in [&frozen, &root] {
        let states = RunReader::open(root, busy).unwrap().splits().unwrap();
        assert!(states.iter().all(|row| row.state == State::Finished), "{states:?}");
    }
    assert_eq!(read_all(&frozen, crashed).unwrap().len(), 4);
    assert_eq!(read_all(&frozen, creation.id).unwrap().len(), 4);
    run_split(&mut store, creation.id, 1);
    assert_eq!(read_all(&frozen, creation.id).unwrap().len(), 8, "while it runs");
    std::fs::remove_file(root.index()).unwrap();
    let statuses: Vec<Status> = list(&frozen).unwrap().into_iter().map(|summary| summary.status).collect();
    assert!(statuses.contains(&Status::Ended(Outcome::Finished)) && statuses.contains(&Status::Interrupted));
    store.close().unwrap();
}

#[test]
fn any_tool_can_read_the_log() {
    let (_folder, root) = world();
    let id = past(&root, 1);
    let connection = Connection::open(root.execution(id).store()).unwrap();
    let mut select = connection.prepare("SELECT event, layer, split, attempt FROM log").unwrap();
    let lines = select.query_map([], |row| {
        let (event, layer): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        Ok(format!("{event} {}", layer.unwrap_or_default()))
    });
    let lines: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
    assert_eq!(lines, ["launched Layer0", "started Layer0", "exited Layer0", "published Layer0", "ended "]);
}

/// What the tests above run in processes of their own.
fn spawn_child(what: &str, root: &Root) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::child", "--ignored", "--quiet"])
        .env("LAMINAR_TEST_STORE_CHILD", what)
        .env("LAMINAR_TEST_STORE_ROOT", root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "a process that other tests start"]
fn child() {
    let Ok(what) = std::env::var("LAMINAR_TEST_STORE_CHILD") else { return };
    let root = Root::new(Path::new(&std::env::var_os("LAMINAR_TEST_STORE_ROOT").unwrap())).unwrap();
    if what == "past" {
        (0..2).map(|_| past(&root, 3)).for_each(|id| assert!(read_all(&root, id).is_ok()));
        return;
    }
    let creation = creation(4);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        (0..4).for_each(|layer| run_split(&mut store, creation.id, layer));
    }
}
