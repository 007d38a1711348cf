//! Tests of the store as a whole.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::datastore::{Content, Digest};
use crate::event::{Event, Record};
use crate::executor::{Cause, Handle, Usage};
use crate::folder::Root;
use crate::id::{Attempt, LayerId, TaskId};

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
        workdir: "/somewhere/else".into(),
        jobs: 7,
        cpu_millis: 2500,
        memory: u64::MAX,
        layers: (0..layers).map(|at| format!("Layer{at}")).collect(),
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
    Event::AttemptLaunched { attempt, outputs }
}

fn change(split: Split, state: State) -> Change {
    Change { split, state }
}

fn artifact(name: &str) -> Artifact {
    let digest = Digest { hash: *blake3::hash(name.as_bytes()).as_bytes(), executable: name.len() % 2 == 0 };
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
