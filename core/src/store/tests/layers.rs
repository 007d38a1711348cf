//! Layers that have many splits or none, are skipped, or were never opened; and splits that are cached.

use std::sync::Arc;

use super::*;
use crate::cache::{CacheKey, KeyPart, Origin};
use crate::each::{Dimension, Each, Key};

fn opened(layer: u32, splits: u32) -> Event {
    let values = (0..splits).map(serde_json::Value::from).collect();
    let each = Each { dimensions: vec![Dimension { keys: vec![Key { name: "x".into(), values }] }] };
    Event::LayerOpened { layer: LayerId(layer), splits, each: Some(Arc::new(each)) }
}

fn cached(split: Split, artifacts: &[&str]) -> Event {
    let from = Origin { execution: ExecutionId::now(), split };
    let key = CacheKey { digest: Digest { hash: [7; 32], executable: false }, parts: Vec::new() };
    Event::SplitCached { split, key, from, artifacts: artifacts.iter().map(|name| artifact(name)).collect() }
}

#[test]
fn what_layers_are_as_a_whole_is_there_and_goes_when_they_are_decided_anew() {
    let (_folder, root) = world();
    let creation = creation(4);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    let layers = || reader.layers().unwrap().into_iter().map(|row| (row.splits, row.state, row.reason));
    let splits = |layer: u32| {
        let rows = reader.splits().unwrap().into_iter().filter(|row| row.split.layer.0 == layer);
        rows.map(|row| (row.split.index, row.state)).collect::<Vec<_>>()
    };
    let names = |layer| {
        let rows = reader.artifacts(Some(LayerId(layer))).unwrap().into_iter();
        rows.map(|row| (row.split.index, row.artifact.name)).collect::<Vec<_>>()
    };
    let nothing = (None, None, None);
    let all =
        |state, range: std::ops::Range<u32>| range.map(|index| change(split(0, index), state)).collect::<Vec<_>>();

    // The first has three splits, of which one is cached; the second none; the third is skipped; the fourth has failed.
    let failed = |reason: &str| Event::LayerFailed { layer: LayerId(3), reason: reason.to_owned() };
    let decided = vec![opened(0, 3), opened(1, 0), Event::LayerSkipped { layer: LayerId(2) }, failed("`x` is no list")];
    store.append(decided, &[change(split(2, 0), State::Skipped), change(split(3, 0), State::Failed)]).unwrap();
    let why = (None, Some(State::Failed), Some("`x` is no list".to_owned()));
    let skipped = (None, Some(State::Skipped), None);
    let expected = [(Some(3), None, None), (Some(0), None, None), skipped.clone(), why];
    assert_eq!(layers().collect::<Vec<_>>(), expected);
    assert_eq!(reader.each(LayerId(0)).unwrap().unwrap().splits(), Some(3));
    assert_eq!(reader.each(LayerId(1)).unwrap().unwrap().splits(), Some(0));
    assert_eq!(reader.each(LayerId(2)).unwrap(), None);
    store.append(vec![cached(split(0, 1), &["a", "b"])], &[change(split(0, 1), State::Cached)]).unwrap();
    for index in [0, 2] {
        let attempt = attempt(0, index, 1);
        let published = Event::AttemptPublished { attempt, artifacts: vec![artifact("c")] };
        store.append(vec![launched(attempt, 0), published], &[change(attempt.split, State::Finished)]).unwrap();
    }
    let named = |index, name: &str| (index, name.to_owned());
    assert_eq!(names(0), [named(0, "c"), named(1, "a"), named(1, "b"), named(2, "c")]);
    assert_eq!(splits(0), [(0, State::Finished), (1, State::Cached), (2, State::Finished)]);
    let mut referred = Vec::new();
    references(&root, creation.id, |content| referred.push(content)).unwrap();
    assert_eq!(referred.len(), 4);
    assert!(referred.contains(&artifact("b").content), "what is cached is referred to");

    // All of it again.
    let resumed =
        Event::ExecutionResumed { again: vec![LayerId(0)], splits: Vec::new(), changed: Vec::new(), update: None };
    let waiting = [split(0, 0), split(0, 1), split(0, 2), split(2, 0), split(3, 0)];
    store.append(vec![resumed], &waiting.map(|split| change(split, State::Waiting))).unwrap();
    assert_eq!(layers().collect::<Vec<_>>(), [(Some(3), None, None), (Some(0), None, None), nothing.clone(), nothing]);
    assert!(splits(0).is_empty() && names(0).is_empty() && splits(2).is_empty() && splits(3).is_empty());
    // Fewer this time. What is left of more, whoever has left it, goes.
    store.append(vec![], &all(State::Finished, 0..3)).unwrap();
    store.append(vec![opened(0, 1), opened(3, 2)], &[]).unwrap();
    assert_eq!(splits(0), [(0, State::Finished)]);
    assert_eq!(reader.each(LayerId(3)).unwrap().unwrap().splits(), Some(2));
    // It follows another that is skipped: no event says so.
    store.append(vec![], &[change(split(3, 0), State::Skipped)]).unwrap();
    assert_eq!(layers().next_back().unwrap(), skipped);
    assert_eq!(reader.each(LayerId(3)).unwrap(), None);
}

#[test]
fn an_answer_that_comes_too_late_is_recorded_and_nothing_more() {
    let (_folder, root) = world();
    let creation = creation(3);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let cancelled = [0, 1, 2].map(|layer| change(split(layer, 0), State::Cancelled));
    store.append(vec![Event::CancelRequested { force: false }], &cancelled).unwrap();
    let failed = Event::LayerFailed { layer: LayerId(1), reason: "late".to_owned() };
    let records = store.append(vec![opened(0, 3), failed, cached(split(2, 0), &["a"])], &[]).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.records(1, 10).unwrap(), records);
    // Also if all of it is told together; but not what came in time.
    let (first, second) = (split(0, 0), split(1, 0));
    store.append(vec![], &[first, second].map(|split| change(split, State::Waiting))).unwrap();
    let events = vec![opened(1, 2), Event::CancelRequested { force: false }, opened(0, 3)];
    let ready = [0, 1].map(|index| change(split(1, index), State::Ready));
    let cancelled = [first, second, split(1, 1)].map(|split| change(split, State::Cancelled));
    store.append(events, &[&ready[..], &cancelled[..]].concat()).unwrap();
    assert_eq!(reader.layers().unwrap().iter().map(|row| row.splits).collect::<Vec<_>>(), [None, Some(2), None]);
    assert_eq!(reader.counts().unwrap(), Counts { cancelled: 4, ..Counts::default() });
    assert!(reader.layers().unwrap().iter().all(|row| row.state.is_none()));
    assert_eq!(reader.artifacts(None).unwrap(), []);
}

#[test]
fn a_split_that_is_found_in_the_cache_after_it_failed_tells_of_no_attempt() {
    let (_folder, root) = world();
    let creation = creation(1);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let first = attempt(0, 0, 1);
    let events = vec![launched(first, 4), Event::AttemptExited { attempt: first, exit: exit(1) }];
    store.append(events, &[change(first.split, State::Resting)]).unwrap();
    store.append(vec![cached(first.split, &["a"])], &[change(first.split, State::Cached)]).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    let row = reader.split(first.split).unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.outputs, row.exit, row.launched_ms), (State::Cached, 1, None, None, None));
    assert!(row.ended_ms.is_some());
    let from = reader.key(first.split, u64::MAX).unwrap().and_then(|key| key.from).map(|from| from.execution);
    assert_eq!(reader.first_origins().unwrap().get(&LayerId(0)).copied(), from);
    let key = CacheKey::unknown("it was changed".to_owned());
    store.append(vec![Event::SplitKeyed { split: first.split, key }], &[]).unwrap();
    assert!(reader.first_origins().unwrap().is_empty());
}

#[test]
fn splits_are_counted_selected_and_found_with_the_keys_that_they_had_last() {
    let (_folder, root) = world();
    let creation = creation(2);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let reader = RunReader::open(&root, creation.id).unwrap();
    let keyed = |index, reason: &str| {
        let key = CacheKey::unknown(reason.to_owned());
        Event::SplitKeyed { split: split(0, index), key }
    };
    store.append(vec![opened(0, 4), keyed(0, "first"), keyed(1, "other"), keyed(0, "second")], &[]).unwrap();
    for index in 0..3 {
        let attempt = attempt(0, index, 1);
        let state = if index == 1 { State::Failed } else { State::Finished };
        let published = Event::AttemptPublished { attempt, artifacts: vec![artifact("c")] };
        store.append(vec![launched(attempt, index), published], &[change(attempt.split, state)]).unwrap();
    }
    store.append(vec![cached(split(0, 3), &["a"])], &[change(split(0, 3), State::Cached)]).unwrap();
    store.append(vec![launched(attempt(1, 0, 1), 7)], &[change(split(1, 0), State::Running)]).unwrap();

    let foreach: Vec<bool> = reader.layers().unwrap().iter().map(|row| row.foreach).collect();
    assert_eq!(foreach, [true, false]);
    let mut counts: Vec<_> =
        reader.split_counts().unwrap().iter().map(|count| (count.layer.0, count.state.word(), count.splits)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [(0, "cached", 1), (0, "failed", 1), (0, "finished", 2), (1, "running", 1)]);
    let places = |rows: Vec<SplitRow>| rows.iter().map(|row| (row.split.layer.0, row.split.index)).collect::<Vec<_>>();
    assert_eq!(places(reader.first_splits().unwrap()), [(0, 0), (1, 0)]);
    assert_eq!(places(reader.splits_of(LayerId(0), Some(State::Finished), 9).unwrap()), [(0, 0), (0, 2)]);
    assert_eq!(places(reader.splits_of(LayerId(0), None, 3).unwrap()), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(reader.artifacts_of(split(0, 3)).unwrap()[0].artifact.name, "a");
    assert_eq!(reader.outputs().unwrap().keys().max(), Some(&7));

    let said = |key: Option<KeyRow>| key.map(|key| (key.seq, key.key.reason().map(str::to_owned)));
    let last = said(reader.key(split(0, 0), u64::MAX).unwrap());
    assert_eq!(last, Some((4, Some("second".to_owned()))));
    assert_eq!(said(reader.key(split(0, 0), 4).unwrap()), Some((2, Some("first".to_owned()))));
    assert_eq!(said(reader.key(split(0, 0), 2).unwrap()), None);
    assert_eq!(said(reader.key(split(1, 0), u64::MAX).unwrap()), None);
    let keys = reader.keys(LayerId(0)).unwrap();
    assert_eq!(
        keys.iter().map(|key| (key.split.index, key.from.is_some())).collect::<Vec<_>>(),
        [(0, false), (1, false), (3, true)]
    );
    let path = root.execution(creation.id).store();
    let plan: String = Connection::open(path)
        .unwrap()
        .query_row(
            "EXPLAIN QUERY PLAN SELECT seq FROM events WHERE kind IN (15, 16) AND layer = 1 AND split = 2",
            [],
            |row| row.get(3),
        )
        .unwrap();
    assert!(plan.contains("keys"), "found by its index: {plan}");
}

/// A key of a split that has its index and one value of its own.
fn key_of(index: u32, seed: &str) -> CacheKey {
    let part = |name: &str, value: String| KeyPart { name: name.to_owned(), value };
    CacheKey::new(vec![
        part("command", "c".repeat(32)),
        part("parameter seed", seed.repeat(32)),
        part("index", index.to_string()),
        part("input Split/data.csv", "d".repeat(32)),
    ])
}

#[test]
fn what_the_keys_of_a_layer_have_in_common_is_written_once() {
    let (_folder, root) = world();
    let creation = creation(2);
    let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
    let details = || -> Vec<String> {
        let connection = Connection::open(root.execution(creation.id).store()).unwrap();
        let mut select = connection.prepare("SELECT detail FROM events WHERE kind IN (15, 16) ORDER BY seq").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let keyed = |index, seed: &str| Event::SplitKeyed { split: split(0, index), key: key_of(index, seed) };
    let taken = |index| match cached(split(0, index), &["a"]) {
        Event::SplitCached { split, from, artifacts, .. } => {
            Event::SplitCached { split, key: key_of(index, "s"), from, artifacts }
        }
        event => event,
    };
    let mut all = store.append(vec![opened(0, 9), keyed(0, "s"), keyed(1, "s")], &[]).unwrap();
    all.extend(store.append(vec![keyed(2, "s"), taken(3), keyed(4, "t")], &[]).unwrap());
    let of = |text: &str| details().iter().map(|detail| detail.contains(text)).collect::<Vec<_>>();
    assert_eq!(of("dddd"), [true, true, false, false, false], "{:?}", details());
    assert_eq!(of("tttt"), [false, false, false, false, true]);
    assert_eq!(details()[2], format!(r#"{{"key":"{}","base":3,"parts":[2,["index","2"],1]}}"#, key_of(2, "s").digest));
    // Who takes over cannot know what there is.
    store.close().unwrap();
    let mut store = RunStore::open(&root, creation.id, Durability::Group).unwrap();
    all.extend(store.append(vec![keyed(5, "s"), keyed(6, "s")], &[]).unwrap());
    assert_eq!(of("dddd")[5..], [true, false]);
    // Nor is a base what could not be written.
    let mut other = RunStore::create(&root, &self::creation(2), Durability::Group).unwrap();
    let connection = Connection::open(other.folder().store()).unwrap();
    connection.execute_batch("UPDATE meta SET epoch = epoch + 1").unwrap();
    assert!(other.append(vec![keyed(1, "s")], &[]).is_err());
    connection.execute_batch("UPDATE meta SET epoch = epoch - 1").unwrap();
    let alone = other.append(vec![keyed(2, "s")], &[]).unwrap();
    assert_eq!(other.records(0, 9).unwrap(), alone);

    let reader = RunReader::open(&root, creation.id).unwrap();
    assert_eq!(reader.records(0, 99).unwrap(), all);
    let keys: Vec<CacheKey> = reader.keys(LayerId(0)).unwrap().into_iter().map(|row| row.key).collect();
    assert_eq!(keys, [0, 1, 2, 3, 4, 5, 6].map(|index| key_of(index, if index == 4 { "t" } else { "s" })));
    assert_eq!(reader.key(split(0, 3), u64::MAX).unwrap().unwrap().key, key_of(3, "s"));
    // As all keys were written before.
    let connection = Connection::open(root.execution(creation.id).store()).unwrap();
    let whole = format!(r#"{{"key":"{}","parts":[["index","2"]]}}"#, key_of(2, "s").digest);
    connection.execute("UPDATE events SET detail = ? WHERE seq = 4", [whole]).unwrap();
    assert_eq!(reader.key(split(0, 2), u64::MAX).unwrap().unwrap().key.parts.len(), 1);
    // Another event than a whole key, and more parts than it has.
    for (base, parts) in [(1, "1"), (99, "1"), (5, "1"), (3, "5"), (3, "18446744073709551615")] {
        let bad = format!(r#"{{"key":"{}","base":{base},"parts":[{parts}]}}"#, key_of(2, "s").digest);
        connection.execute("UPDATE events SET detail = ? WHERE seq = 4", [bad]).unwrap();
        assert!(reader.key(split(0, 2), u64::MAX).is_err(), "{base} {parts}");
    }
}
