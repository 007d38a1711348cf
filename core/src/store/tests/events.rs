//! Whatever events there are: they come back as they were.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cache::{CacheKey, KeyPart, Origin};
use crate::each::{Dimension, Each, INPUTS, Key};

fn any_attempt() -> impl Strategy<Value = Attempt> {
    (0..3_u32, any::<u32>(), any::<u32>()).prop_map(|(layer, index, number)| attempt(layer, index, number))
}

fn any_artifact() -> impl Strategy<Value = Artifact> {
    let digest = (any::<[u8; 32]>(), any::<bool>()).prop_map(|(hash, executable)| Digest { hash, executable });
    (any::<String>(), digest, any::<u64>(), any::<Option<u64>>()).prop_map(|(name, digest, size, entries)| {
        let content = match entries {
            None => Content::File { digest, size },
            Some(entries) => Content::Folder { manifest: digest, entries, size },
        };
        Artifact { name, content }
    })
}

fn any_exit() -> impl Strategy<Value = Exit> {
    let cause = prop_oneof![
        any::<i32>().prop_map(Cause::Code),
        any::<i32>().prop_map(Cause::Signal),
        prop::sample::select(vec![
            Cause::OutOfMemory,
            Cause::TimedOut,
            Cause::Cancelled,
            Cause::NotFound,
            Cause::NotExecutable,
            Cause::EngineFailed,
            Cause::Lost,
        ]),
    ];
    (cause, any::<String>(), any::<(u64, u64, u64)>()).prop_map(|(cause, evidence, (wall_us, cpu_us, peak_memory))| {
        Exit { cause, evidence, usage: Usage { wall_us, cpu_us, peak_memory } }
    })
}

fn any_key() -> impl Strategy<Value = CacheKey> {
    let part = any::<(String, String)>().prop_map(|(name, value)| KeyPart { name, value });
    (any::<[u8; 32]>(), prop::collection::vec(part, 0..3))
        .prop_map(|(hash, parts)| CacheKey { digest: Digest { hash, executable: false }, parts })
}

fn any_each() -> impl Strategy<Value = Each> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(|text| serde_json::Value::from(format!("{INPUTS}{text}"))),
    ];
    let value = prop_oneof![leaf.clone(), prop::collection::vec(leaf, 0..3).prop_map(serde_json::Value::from)];
    let dimension = (0_usize..4, prop::collection::vec((any::<String>(), prop::collection::vec(value, 4)), 1..3));
    let dimension = dimension.prop_map(|(len, keys)| Dimension {
        keys: keys
            .into_iter()
            .map(|(name, values)| Key { name: name.into(), values: values[..len].to_vec() })
            .collect(),
    });
    prop::collection::vec(dimension, 0..3).prop_map(|dimensions| Each { dimensions })
}

/// Any event of a layer as a whole, or of one that is cached or sized.
fn any_event_of_a_layer() -> impl Strategy<Value = Event> {
    let layer = || (0..3_u32).prop_map(LayerId);
    prop_oneof![
        (layer(), prop::option::of(any_each())).prop_map(|(layer, each)| {
            let splits = each.as_ref().map_or(1, |each| each.splits().unwrap());
            Event::LayerOpened { layer, splits, each: each.map(Arc::new) }
        }),
        layer().prop_map(|layer| Event::LayerSkipped { layer }),
        (layer(), any::<String>()).prop_map(|(layer, reason)| Event::LayerFailed { layer, reason }),
        (any_attempt(), any::<u64>(), any::<u64>()).prop_map(|(attempt, cpu_millis, memory)| Event::AttemptSized {
            attempt,
            cpu_millis,
            memory
        }),
        (any_attempt(), any_key()).prop_map(|(attempt, key)| Event::SplitKeyed { split: attempt.split, key }),
        (any_attempt(), any_key(), any_attempt(), prop::collection::vec(any_artifact(), 0..3)).prop_map(
            |(attempt, key, other, artifacts)| {
                let from = Origin { execution: ExecutionId::now(), split: other.split };
                Event::SplitCached { split: attempt.split, key, from, artifacts }
            }
        ),
    ]
}

/// Any event at all; some handles are of another task than the attempt.
fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_event_of_a_layer(),
        10 => any_event_of_an_attempt(),
    ]
}

fn any_event_of_an_attempt() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any_attempt(), any::<u32>()).prop_map(|(attempt, outputs)| launched(attempt, outputs)),
        (any_attempt(), any::<u32>()).prop_map(|(attempt, outputs)| Event::AttemptOffered { attempt, outputs }),
        (any_attempt(), any_attempt(), any::<bool>(), any::<String>()).prop_map(|(attempt, other, own, token)| {
            let execution = "0190163d8694739baea5966c26f8ad91".parse().unwrap();
            let handle = handle(execution, if own { attempt } else { other }, &token);
            Event::AttemptStarted { attempt, handle }
        }),
        (any_attempt(), any_exit()).prop_map(|(attempt, exit)| Event::AttemptExited { attempt, exit }),
        (any_attempt(), prop::collection::vec(any_artifact(), 0..4))
            .prop_map(|(attempt, artifacts)| Event::AttemptPublished { attempt, artifacts }),
        (any_attempt(), any::<String>()).prop_map(|(attempt, reason)| Event::AttemptRejected { attempt, reason }),
        (any_attempt(), any::<u64>(), any::<Option<u64>>())
            .prop_map(|(attempt, delay_ms, memory)| Event::RetryScheduled { attempt, delay_ms, memory }),
        any_attempt().prop_map(|attempt| Event::RetryDue { split: attempt.split }),
        any::<bool>().prop_map(|force| Event::CancelRequested { force }),
        prop::sample::select(vec![Outcome::Finished, Outcome::Failed, Outcome::Cancelled])
            .prop_map(|outcome| Event::ExecutionEnded { outcome }),
        (
            prop::collection::vec(any::<u32>().prop_map(LayerId), 0..3),
            prop::collection::vec((any::<u32>(), any::<u32>()), 0..3),
            prop::collection::vec(any::<u32>().prop_map(LayerId), 0..3),
            any::<Option<u32>>()
        )
            .prop_map(|(again, splits, changed, update)| {
                let split = |(layer, index)| Split { layer: LayerId(layer), index };
                Event::ExecutionResumed { again, splits: splits.into_iter().map(split).collect(), changed, update }
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_event_comes_back_as_it_was(groups in prop::collection::vec(prop::collection::vec(any_event(), 0..12), 1..8)) {
        let (_folder, root) = world();
        let id = "0190163d8694739baea5966c26f8ad91".parse().unwrap();
        let creation = Creation { id, ..creation(3) };
        let mut store = RunStore::create(&root, &creation, Durability::Group).unwrap();
        let mut written = Vec::new();
        let mut artifacts = std::collections::BTreeMap::new();
        for events in groups {
            for event in &events {
                if let Event::AttemptPublished { attempt, artifacts: left } = event {
                    artifacts.extend(left.iter().map(|left| ((attempt.split, left.name.clone()), left.clone())));
                }
                if let Event::LayerOpened { layer, splits, .. } = event {
                    artifacts.retain(|(split, _), _| split.layer != *layer || split.index < *splits);
                }
            }
            written.extend(store.append(events, &[]).unwrap());
        }
        let reader = RunReader::open(&root, id).unwrap();
        prop_assert_eq!(&reader.records(0, usize::MAX).unwrap(), &written);
        let stored: Vec<_> = reader.artifacts(None).unwrap().into_iter().map(|row| row.artifact).collect();
        prop_assert_eq!(stored, artifacts.into_values().collect::<Vec<_>>());
        reader.splits().unwrap();
        for row in reader.layers().unwrap() {
            let opened = written.iter().rev().find_map(|record| match &record.event {
                Event::LayerOpened { layer, splits, each } if *layer == row.layer => Some((*splits, each.as_deref())),
                _ => None,
            });
            prop_assert_eq!(row.splits, opened.map(|opened| opened.0));
            let each = reader.each(row.layer).unwrap();
            prop_assert_eq!(each.as_ref(), opened.and_then(|opened| opened.1));
        }
    }
}
