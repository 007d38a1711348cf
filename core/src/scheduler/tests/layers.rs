//! Layers that are fanned out or skipped; and the events that say so, and that splits are sized and cached.

use serde_json::{Value, json};

use super::*;
use crate::cache::{CacheKey, Origin};
use crate::datastore::Digest;
use crate::each::{Dimension, Key};
use crate::flow::{Cache, Condition, Foreach, Item, Layer, Open, Values, Written};

/// The values of so many splits.
pub(super) fn each_of(splits: u32) -> Each {
    let values = (0..splits).map(Value::from).collect();
    Each { dimensions: vec![Dimension { keys: vec![Key { name: "x".into(), values }] }] }
}

/// A layer is fanned out. How far is what the event says, not what this says.
pub(super) fn fan_out(layer: &mut Layer) {
    layer.foreach = Some(Box::new(Foreach(vec![("x".into(), Values::List(vec![Item::Value(json!(0))]))])));
}

/// What an attempt of a layer reserves is asked for.
pub(super) fn size(layer: &mut Layer) {
    let container = vec![("cpu".to_owned(), Written::Plain(json!(1)))];
    layer.open = Some(Arc::new(Open { container, timeout: None }));
}

pub(super) fn cache(layer: &mut Layer) {
    layer.cache = Some(Arc::new(Cache::default()));
}

pub(super) fn ask(layer: &mut Layer) {
    layer.when = Some(Box::new(Condition::Literal(true)));
}

pub(super) fn opened(layer: u32, splits: u32) -> Event {
    Event::LayerOpened { layer: LayerId(layer), splits, each: Some(Arc::new(each_of(splits))) }
}

pub(super) fn opened_plain(layer: u32) -> Event {
    Event::LayerOpened { layer: LayerId(layer), splits: 1, each: None }
}

pub(super) fn skipped(layer: u32) -> Event {
    Event::LayerSkipped { layer: LayerId(layer) }
}

pub(super) fn not_opened(layer: u32) -> Event {
    Event::LayerFailed { layer: LayerId(layer), reason: "`x` is not defined".to_owned() }
}

fn key() -> CacheKey {
    CacheKey { digest: Digest { hash: [7; 32], executable: false }, parts: Vec::new() }
}

pub(super) fn keyed(split: Split) -> Event {
    Event::SplitKeyed { split, key: key() }
}

pub(super) fn cached(split: Split) -> Event {
    let from = Origin { execution: ExecutionId::now(), split };
    Event::SplitCached { split, key: key(), from, artifacts: Vec::new() }
}

pub(super) fn sized(attempt: Attempt, cpu_millis: u64, memory: u64) -> Event {
    Event::AttemptSized { attempt, cpu_millis, memory }
}

pub(super) fn at(layer: u32, index: u32) -> Split {
    Split { layer: LayerId(layer), index }
}

pub(super) fn of(layer: u32, index: u32, number: u32) -> Attempt {
    Attempt { split: at(layer, index), number }
}

pub(super) fn apply(scheduler: &mut Scheduler, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| scheduler.apply(&event).unwrap());
}

/// The first layer is asked, and has so many splits.
pub(super) fn open(scheduler: &mut Scheduler, splits: u32) {
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    apply(scheduler, [opened(0, splits)]);
}

pub(super) fn resumed(again: &[u32]) -> Event {
    Event::ExecutionResumed {
        again: again.iter().map(|id| LayerId(*id)).collect(),
        splits: Vec::new(),
        changed: Vec::new(),
        update: None,
    }
}

/// Launches everything that may be launched now; nothing else is wished for.
pub(super) fn launch_splits(scheduler: &mut Scheduler) -> Vec<Attempt> {
    let mut all = Vec::new();
    while let Some(action) = scheduler.next_action() {
        let Action::Launch(attempt) = action else { panic!("{action:?}") };
        scheduler.apply(&launched(attempt)).unwrap();
        all.push(attempt);
    }
    all
}

fn indexes(attempts: &[Attempt]) -> Vec<u32> {
    attempts.iter().map(|attempt| attempt.split.index).collect()
}

/// A flow of these needs, changed by this.
pub(super) fn flow(needs: &[&[u32]], change: impl FnOnce(&mut Vec<Layer>)) -> Flow {
    let mut flow = flow_of(needs);
    change(&mut flow.layers);
    flow
}

#[test]
fn a_layer_is_asked_once_all_it_needs_has_settled_and_its_splits_run_in_order() {
    let flow = flow(&[&[], &[0], &[1]], |layers| fan_out(&mut layers[1]));
    let mut scheduler = scheduler(&flow, Limits { jobs: 2, ..WIDE });
    assert_eq!(launch_all(&mut scheduler), [0]);
    assert_eq!((scheduler.splits(LayerId(0)), scheduler.splits(LayerId(1))), (Some(1), None));
    scheduler.apply(&opened(1, 3)).expect_err("nobody has asked yet");
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(1))));
    assert_eq!(scheduler.next_action(), None, "told once");
    assert_eq!(scheduler.progress().total, 3);
    assert_eq!((scheduler.state(at(1, 0)), scheduler.state(at(1, 1))), (Some(State::Waiting), None));
    for wrong in [
        Event::LayerOpened { layer: LayerId(1), splits: 3, each: None },
        Event::LayerOpened { layer: LayerId(1), splits: 2, each: Some(Arc::new(each_of(3))) },
        opened(2, 1),
        opened(9, 1),
        launched(of(1, 0, 1)),
    ] {
        let before = format!("{scheduler:?}");
        scheduler.apply(&wrong).unwrap_err();
        assert_eq!(format!("{scheduler:?}"), before);
    }
    apply(&mut scheduler, [opened(1, 3)]);
    assert_eq!((scheduler.progress().total, scheduler.progress().ready), (5, 3));
    assert_eq!(scheduler.splits(LayerId(1)), Some(3));
    assert_eq!(**scheduler.each(LayerId(1)).unwrap(), each_of(3));
    assert_eq!(indexes(&launch_splits(&mut scheduler)), [0, 1]);
    finish(&mut scheduler, of(1, 1, 1), 0);
    assert_eq!(indexes(&launch_splits(&mut scheduler)), [2]);
    assert_eq!(scheduler.layer_state(LayerId(1)), State::Running);
    finish(&mut scheduler, of(1, 2, 1), 0);
    assert_eq!(scheduler.next_action(), None, "one is still running");
    finish(&mut scheduler, of(1, 0, 1), 0);
    assert_eq!(scheduler.layer_state(LayerId(1)), State::Finished);
    assert_eq!(launch_all(&mut scheduler), [2]);
    scheduler.apply(&opened(1, 3)).expect_err("it is open");
}

#[test]
fn no_split_at_all_is_a_layer_that_has_finished() {
    let flow = flow(&[&[], &[0], &[1]], |layers| layers[..2].iter_mut().for_each(fan_out));
    let mut scheduler = scheduler(&flow, WIDE);
    for layer in 0..2 {
        assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(layer))));
        apply(&mut scheduler, [opened(layer, 0)]);
        assert_eq!(scheduler.state(at(layer, 0)), None);
        assert_eq!(
            (scheduler.layer_state(LayerId(layer)), scheduler.splits(LayerId(layer))),
            (State::Finished, Some(0))
        );
    }
    assert_eq!(scheduler.progress().total, 1);
    assert_eq!(launch_all(&mut scheduler), [2]);
    finish(&mut scheduler, attempt(2, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    // All of it again: the layer has splits this time.
    apply(&mut scheduler, [Event::ExecutionEnded { outcome: Outcome::Finished }, resumed(&[1])]);
    assert_eq!((scheduler.progress().total, scheduler.progress().waiting), (2, 2));
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(1))));
    apply(&mut scheduler, [opened(1, 2)]);
    assert_eq!(indexes(&launch_splits(&mut scheduler)), [0, 1]);
}

#[test]
fn a_flow_of_layers_without_splits_ends() {
    let mut scheduler = scheduler(&flow(&[&[]], |layers| fan_out(&mut layers[0])), WIDE);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    assert_eq!(scheduler.next_action(), None, "it may have some");
    apply(&mut scheduler, [opened(0, 0)]);
    assert_eq!(scheduler.progress().total, 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
}

#[test]
fn what_needs_a_skipped_layer_is_skipped_unless_it_asks_whether() {
    //  0 (when: no) ─▶ 1 ─▶ 2 (foreach) ─▶ 3 (when) ─▶ 5
    //                            4 ─────────────────────┘
    let flow = flow(&[&[], &[0], &[1], &[2], &[], &[3, 4]], |layers| {
        ask(&mut layers[0]);
        fan_out(&mut layers[2]);
        ask(&mut layers[3]);
    });
    let mut scheduler = scheduler(&flow, WIDE);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    apply(&mut scheduler, [skipped(0)]);
    for layer in 0..3 {
        assert_eq!(scheduler.state(split(layer)), Some(State::Skipped));
        assert_eq!((scheduler.layer_state(LayerId(layer)), scheduler.splits(LayerId(layer))), (State::Skipped, None));
    }
    assert_eq!(scheduler.progress().skipped, 3);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(3))), "it overrides the skip");
    apply(&mut scheduler, [opened_plain(3)]);
    assert_eq!(launch_all(&mut scheduler), [3, 4], "in the order of their ranks");
    finish(&mut scheduler, attempt(3, 1), 0);
    finish(&mut scheduler, attempt(4, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [5], "a skip goes no further than to who overrides it");
    finish(&mut scheduler, attempt(5, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    // It stays skipped, unless it is asked for.
    apply(&mut scheduler, [Event::ExecutionEnded { outcome: Outcome::Finished }, resumed(&[])]);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    apply(&mut scheduler, [resumed(&[1])]);
    assert_eq!(scheduler.state(split(0)), Some(State::Skipped));
    assert_eq!(scheduler.progress().skipped, 3, "it follows once more");
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(3))));
    apply(&mut scheduler, [resumed(&[0])]);
    assert_eq!(scheduler.progress().skipped, 0);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    apply(&mut scheduler, [opened_plain(0)]);
    assert_eq!(launch_all(&mut scheduler), [0]);
}

#[test]
fn a_failed_need_is_never_overridden() {
    let mut flow = flow(&[&[], &[], &[0, 1]], |layers| {
        ask(&mut layers[0]);
        ask(&mut layers[2]);
    });
    flow.on_failure = OnFailure::Continue;
    let mut scheduler = scheduler(&flow, WIDE);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    assert_eq!(launch_all(&mut scheduler), [1]);
    finish(&mut scheduler, attempt(1, 1), 1);
    apply(&mut scheduler, [skipped(0)]);
    assert_eq!(scheduler.state(split(2)), Some(State::Cancelled));
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Failed)));
}

#[test]
fn a_million_layers_are_skipped_without_recursion() {
    let chain = (0..1_000_000).map(|id: u32| id.checked_sub(1).into_iter().collect());
    let mut flow = flow_with(chain);
    ask(&mut flow.layers[0]);
    let mut scheduler = scheduler(&flow, WIDE);
    apply(&mut scheduler, [skipped(0)]);
    assert_eq!(scheduler.progress().skipped, 1_000_000);
    apply(&mut scheduler, [resumed(&[1])]);
    assert_eq!(scheduler.progress().skipped, 1_000_000);
    apply(&mut scheduler, [resumed(&[0])]);
    assert_eq!(scheduler.progress().waiting, 1_000_000);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    apply(&mut scheduler, [opened_plain(0)]);
    assert_eq!(launch_all(&mut scheduler), [0]);
    finish(&mut scheduler, attempt(0, 1), 1);
    assert_eq!(scheduler.progress().cancelled, 999_999);
}

#[test]
fn a_layer_that_cannot_be_opened_has_failed_and_is_asked_anew_when_resumed() {
    for (on_failure, rest) in [(OnFailure::Stop, State::Cancelled), (OnFailure::Continue, State::Ready)] {
        let mut flow = flow(&[&[], &[0], &[]], |layers| fan_out(&mut layers[0]));
        flow.on_failure = on_failure;
        let mut scheduler = scheduler(&flow, WIDE);
        assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
        apply(&mut scheduler, [not_opened(0)]);
        assert_eq!((scheduler.progress().failed, scheduler.layer_state(LayerId(0))), (1, State::Failed));
        assert_eq!(scheduler.state(split(1)), Some(State::Cancelled));
        assert_eq!(scheduler.layer_state(LayerId(1)), State::Cancelled);
        assert_eq!(scheduler.state(split(2)), Some(rest));
        apply(&mut scheduler, [resumed(&[])]);
        assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
        apply(&mut scheduler, [opened(0, 2)]);
        assert_eq!(launch_splits(&mut scheduler).len(), 3);
    }
}

#[test]
fn one_failed_split_breaks_its_layer_and_on_failure_says_what_becomes_of_the_others() {
    for (on_failure, launches) in [(OnFailure::Stop, 2), (OnFailure::Continue, 4)] {
        let mut flow = flow(&[&[], &[0]], |layers| fan_out(&mut layers[0]));
        flow.on_failure = on_failure;
        let mut scheduler = scheduler(&flow, Limits { jobs: 2, ..WIDE });
        open(&mut scheduler, 4);
        let mut seen = 0;
        loop {
            let now = launch_splits_or_end(&mut scheduler);
            seen += now.len();
            if now.is_empty() {
                break;
            }
            for attempt in now {
                finish(&mut scheduler, attempt, i32::from(attempt.split.index == 1));
            }
        }
        assert_eq!(seen, launches);
        assert_eq!(scheduler.layer_state(LayerId(0)), State::Failed);
        assert_eq!(scheduler.progress().finished as usize, launches - 1);
        assert_eq!(scheduler.state(split(1)), Some(State::Cancelled));
        // Resumed, those that finished stay so, and the layer has as many splits as before.
        apply(&mut scheduler, [resumed(&[])]);
        let again = launch_splits_or_end(&mut scheduler);
        assert_eq!(again[0], of(0, 1, 2));
        assert_eq!(again.len(), (5 - launches).min(2), "those that are left, two at once");
        assert_eq!(scheduler.splits(LayerId(0)), Some(4));
        assert_eq!(**scheduler.each(LayerId(0)).unwrap(), each_of(4));
    }
}

pub(super) fn launch_splits_or_end(scheduler: &mut Scheduler) -> Vec<Attempt> {
    let mut all = Vec::new();
    while let Some(Action::Launch(attempt)) = scheduler.next_action() {
        scheduler.apply(&launched(attempt)).unwrap();
        all.push(attempt);
    }
    all
}

#[test]
fn no_number_of_an_attempt_is_used_twice_however_often_a_layer_is_opened() {
    let flow = flow(&[&[], &[], &[0]], |layers| {
        fan_out(&mut layers[0]);
        fan_out(&mut layers[1]);
    });
    let mut scheduler = scheduler(&flow, WIDE);
    let mut names = std::collections::HashSet::new();
    for splits in [3, 1, 0, 5, 2, 7, 7] {
        while let Some(action) = scheduler.next_action() {
            match action {
                Action::Open(layer) => apply(&mut scheduler, [opened(layer.0, splits)]),
                Action::Launch(attempt) => {
                    apply(&mut scheduler, [launched(attempt)]);
                    assert!(names.insert(attempt), "{attempt:?}");
                    finish(&mut scheduler, attempt, 0);
                }
                Action::End(outcome) => apply(&mut scheduler, [Event::ExecutionEnded { outcome }]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(scheduler.progress().total, 2 * splits + 1);
        assert_eq!(scheduler.progress().finished, 2 * splits + 1);
        scheduler.take_changes();
        apply(&mut scheduler, [resumed(&[0, 1])]);
        let waiting: Vec<Split> = scheduler.take_changes().iter().map(|change| change.split).collect();
        let all: Vec<Split> = (0..2).flat_map(|layer| (0..splits).map(move |index| at(layer, index))).collect();
        assert_eq!(waiting[..waiting.len() - 1], all, "what was there is told to wait");
        assert_eq!((scheduler.progress().total, scheduler.progress().waiting), (3, 3));
    }
    assert_eq!(names.len(), 2 * (3 + 1 + 5 + 2 + 7 + 7) + 7);
}

#[test]
fn an_update_may_fan_out_a_layer_and_may_take_that_back() {
    let plain = flow_of(&[&[], &[0]]);
    let fanned = flow(&[&[], &[0]], |layers| fan_out(&mut layers[0]));
    for changed in [vec![0], Vec::new()] {
        let mut scheduler = scheduler(&plain, WIDE);
        let again: Vec<LayerId> = changed.iter().map(|id| LayerId(*id)).collect();
        let updated = |number| Event::ExecutionResumed {
            again: again.clone(),
            splits: Vec::new(),
            changed: Vec::new(),
            update: Some(number),
        };
        let dependant = !changed.is_empty();
        for (number, next) in [(1, &fanned), (2, &plain), (3, &fanned)] {
            while let Some(action) = scheduler.next_action() {
                match action {
                    Action::Open(layer) => apply(&mut scheduler, [opened(layer.0, 3)]),
                    Action::Launch(attempt) => {
                        apply(&mut scheduler, [launched(attempt)]);
                        finish(&mut scheduler, attempt, 0);
                    }
                    Action::End(outcome) => apply(&mut scheduler, [Event::ExecutionEnded { outcome }]),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(scheduler.progress().finished, if number == 2 { 4 } else { 2 });
            scheduler.learn(Planned::new(next.clone()).unwrap());
            apply(&mut scheduler, [updated(number)]);
            assert_eq!(scheduler.state(split(1)) == Some(State::Waiting), dependant);
            assert_eq!(scheduler.each(LayerId(0)), None);
            assert_eq!(scheduler.splits(LayerId(0)), if number == 2 { Some(1) } else { None });
        }
        assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    }
}

#[test]
fn a_fanned_out_layer_may_be_taken_out_and_come_back() {
    let first = flow(&[&[], &[]], |layers| fan_out(&mut layers[0]));
    let mut scheduler = scheduler(&first, WIDE);
    open(&mut scheduler, 3);
    for attempt in launch_splits(&mut scheduler) {
        finish(&mut scheduler, attempt, 0);
    }
    let mut without = flow_of(&[&[]]);
    without.layers[0].name = "L1".into();
    let without = without.aligned(&first);
    let updated = |number| Event::ExecutionResumed {
        again: Vec::new(),
        splits: Vec::new(),
        changed: Vec::new(),
        update: Some(number),
    };
    scheduler.learn(Planned::new(without.clone()).unwrap());
    scheduler.learn(Planned::new(first.clone().aligned(&without)).unwrap());
    apply(&mut scheduler, [updated(1)]);
    assert_eq!((scheduler.progress().skipped, scheduler.progress().total), (3, 4));
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    apply(&mut scheduler, [updated(2)]);
    assert_eq!(scheduler.next_action(), Some(Action::Open(LayerId(0))));
    apply(&mut scheduler, [opened(0, 4)]);
    let expected = [of(0, 0, 2), of(0, 1, 2), of(0, 2, 2), of(0, 3, 1)];
    assert_eq!(launch_splits(&mut scheduler), expected);
}
