//! The rules one by one: those of plain layers here, the others in `layers` and `splits`; all together in `random`.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::executor::{Cause, Exit, Handle};
use crate::fake::{flow_of, flow_with};
use crate::flow::Retry;
use crate::id::{ExecutionId, TaskId};

mod layers;
mod offers;
mod random;
mod splits;

const WIDE: Limits = Limits { jobs: 1000, cpu_millis: 1_000_000, memory: 1 << 40 };

fn scheduler(flow: &Flow, limits: Limits) -> Scheduler {
    Scheduler::new(flow, Arc::new(Plan::new(flow).unwrap()), limits)
}

fn split(layer: u32) -> Split {
    Split { layer: LayerId(layer), index: 0 }
}

fn attempt(layer: u32, number: u32) -> Attempt {
    Attempt { split: split(layer), number }
}

fn launched(attempt: Attempt) -> Event {
    Event::AttemptLaunched { attempt, outputs: 0, memory: None }
}

fn exited(attempt: Attempt, cause: Cause) -> Event {
    Event::AttemptExited { attempt, exit: Exit { cause, ..Exit::code(0) } }
}

fn published(attempt: Attempt) -> Event {
    Event::AttemptPublished { attempt, artifacts: Vec::new() }
}

fn started(attempt: Attempt) -> Event {
    let task = TaskId { execution: ExecutionId::now(), layer: "L".into(), index: 0, attempt: attempt.number };
    Event::AttemptStarted { attempt, handle: Handle { task, token: String::new() } }
}

/// Launches everything that may be launched now.
fn launch_all(scheduler: &mut Scheduler) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(Action::Launch(attempt)) = scheduler.next_action() {
        scheduler.apply(&launched(attempt)).unwrap();
        all.push(attempt.split.layer.0);
    }
    all
}

/// Ends an attempt with this code, and publishes it when that is a success.
fn finish(scheduler: &mut Scheduler, attempt: Attempt, code: i32) {
    scheduler.apply(&exited(attempt, Cause::Code(code))).unwrap();
    if scheduler.next_action() == Some(Action::Adopt(attempt)) {
        scheduler.apply(&published(attempt)).unwrap();
    }
}

#[test]
fn a_diamond_runs_in_order() {
    let flow = flow_of(&[&[], &[0], &[0], &[1, 2]]);
    let mut scheduler = scheduler(&flow, WIDE);
    assert_eq!(launch_all(&mut scheduler), [0]);
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [1, 2]);
    finish(&mut scheduler, attempt(2, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [0; 0]);
    finish(&mut scheduler, attempt(1, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [3]);
    finish(&mut scheduler, attempt(3, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    scheduler.apply(&Event::ExecutionEnded { outcome: Outcome::Finished }).unwrap();
    assert_eq!(scheduler.next_action(), None);
}

#[test]
fn the_critical_path_goes_first() {
    let flow = flow_of(&[&[], &[], &[1], &[2]]);
    let mut scheduler = scheduler(&flow, Limits { jobs: 1, ..WIDE });
    assert_eq!(launch_all(&mut scheduler), [1]);
}

#[test]
fn the_pause_follows_the_formula_and_counts_charged_attempts_only() {
    let mut flow = flow_of(&[&[]]);
    flow.layers[0].retry = Retry { attempts: 4, ..Retry::default() }.into();
    let mut scheduler = scheduler(&flow, WIDE);
    let mut pauses = Vec::new();
    let causes = [Cause::Code(1), Cause::Lost, Cause::TimedOut, Cause::Signal(9), Cause::Code(1)];
    for (number, cause) in (1..).zip(causes) {
        assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(0, number))));
        scheduler.apply(&launched(attempt(0, number))).unwrap();
        scheduler.apply(&exited(attempt(0, number), cause)).unwrap();
        if let Some(Action::Rest { attempt, delay, jitter }) = scheduler.next_action() {
            assert!((jitter - 0.1).abs() < f64::EPSILON);
            pauses.push(delay.as_millis());
            scheduler.apply(&Event::RetryScheduled { attempt, delay_ms: 1, memory: None }).unwrap();
            assert_eq!(scheduler.next_action(), None, "it rests");
            scheduler.apply(&Event::RetryDue { split: split(0) }).unwrap();
        }
    }
    assert_eq!(pauses, [100, 200, 400]);
    assert_eq!(scheduler.state(split(0)), Some(State::Failed));
}

#[test]
fn what_is_lost_is_launched_again_three_times_in_a_row_without_charge() {
    let mut scheduler = scheduler(&flow_of(&[&[]]), WIDE);
    for number in 1..=4 {
        assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(0, number))));
        scheduler.apply(&launched(attempt(0, number))).unwrap();
        scheduler.apply(&exited(attempt(0, number), Cause::Lost)).unwrap();
    }
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Failed)));
}

#[test]
fn a_caught_code_counts_as_finished_and_another_does_not() {
    let mut flow = flow_of(&[&[], &[0], &[], &[2]]);
    flow.layers[0].catch = [3].into();
    flow.layers[2].catch = [3].into();
    flow.on_failure = OnFailure::Continue;
    let mut scheduler = scheduler(&flow, WIDE);
    launch_all(&mut scheduler);
    finish(&mut scheduler, attempt(0, 1), 3);
    assert_eq!(scheduler.state(split(0)), Some(State::Caught));
    finish(&mut scheduler, attempt(2, 1), 4);
    assert_eq!(scheduler.state(split(2)), Some(State::Failed));
    assert_eq!(scheduler.state(split(3)), Some(State::Cancelled));
    assert_eq!(launch_all(&mut scheduler), [1]);
}

#[test]
fn a_failure_starts_nothing_new_and_lets_what_runs_finish() {
    let mut scheduler = scheduler(&flow_of(&[&[], &[], &[1]]), WIDE);
    launch_all(&mut scheduler);
    finish(&mut scheduler, attempt(0, 1), 1);
    assert_eq!(scheduler.next_action(), None, "one is still running");
    finish(&mut scheduler, attempt(1, 1), 0);
    assert_eq!(scheduler.state(split(1)), Some(State::Finished));
    assert_eq!(scheduler.state(split(2)), Some(State::Cancelled));
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Failed)));
}

#[test]
fn a_cancel_stops_what_runs_and_a_second_one_stops_it_at_once() {
    let mut scheduler = scheduler(&flow_of(&[&[], &[0]]), WIDE);
    launch_all(&mut scheduler);
    for force in [false, true] {
        scheduler.apply(&Event::CancelRequested { force }).unwrap();
        assert_eq!(scheduler.next_action(), Some(Action::Stop { attempt: attempt(0, 1), force }));
        assert_eq!(scheduler.next_action(), None);
    }
    scheduler.apply(&exited(attempt(0, 1), Cause::Cancelled)).unwrap();
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Cancelled)));
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut scheduler = scheduler(&flow_of(&[&[]]), WIDE);
    launch_all(&mut scheduler);
    scheduler.apply(&Event::CancelRequested { force: false }).unwrap();
    assert!(matches!(scheduler.next_action(), Some(Action::Stop { .. })));
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
}

#[test]
fn a_rejected_output_is_a_failure_that_may_be_retried() {
    let mut flow = flow_of(&[&[]]);
    Arc::make_mut(&mut flow.layers[0].retry).attempts = 2;
    let mut scheduler = scheduler(&flow, WIDE);
    launch_all(&mut scheduler);
    scheduler.apply(&exited(attempt(0, 1), Cause::Code(0))).unwrap();
    assert_eq!(scheduler.next_action(), Some(Action::Adopt(attempt(0, 1))));
    scheduler.apply(&Event::AttemptRejected { attempt: attempt(0, 1), reason: "a fifo".into() }).unwrap();
    assert!(matches!(scheduler.next_action(), Some(Action::Rest { .. })));
}

#[test]
fn facts_that_cannot_be_are_refused_and_change_nothing() {
    let mut scheduler = scheduler(&flow_of(&[&[], &[0]]), WIDE);
    let before = format!("{scheduler:?}");
    let bad = [
        launched(attempt(1, 1)),
        launched(attempt(0, 2)),
        launched(attempt(7, 1)),
        started(attempt(0, 1)),
        exited(attempt(0, 1), Cause::Code(0)),
        published(attempt(0, 1)),
        Event::RetryDue { split: split(0) },
        Event::RetryDue { split: Split { layer: LayerId(0), index: 1 } },
        Event::ExecutionEnded { outcome: Outcome::Finished },
    ];
    for event in bad {
        scheduler.apply(&event).expect_err("it cannot have happened");
        assert_eq!(format!("{scheduler:?}"), before);
    }
}

#[test]
fn a_long_chain_settles_without_recursion() {
    let flow = flow_with((0..200_000).map(|id: u32| id.checked_sub(1).into_iter().collect()));
    let mut failed = scheduler(&flow, WIDE);
    launch_all(&mut failed);
    finish(&mut failed, attempt(0, 1), 1);
    assert_eq!(failed.progress().cancelled, 199_999);
}

/// The layer's first attempts end like this, one after the other; returns the memory that each of them had.
fn memory_of_attempts(scheduler: &mut Scheduler, causes: &[Cause]) -> Vec<u64> {
    memory_of_attempts_from(scheduler, 1, causes)
}

fn memory_of_attempts_from(scheduler: &mut Scheduler, first: u32, causes: &[Cause]) -> Vec<u64> {
    let mut all = Vec::new();
    for (number, cause) in (first..).zip(causes) {
        assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(0, number))));
        let Memory { granted, wanted } = scheduler.memory(split(0)).unwrap();
        let memory = (granted < wanted).then_some(granted);
        scheduler.apply(&Event::AttemptLaunched { attempt: attempt(0, number), outputs: 0, memory }).unwrap();
        all.push(granted);
        scheduler.apply(&exited(attempt(0, number), cause.clone())).unwrap();
        if let Some(Action::Rest { attempt, .. }) = scheduler.next_action() {
            scheduler.apply(&Event::RetryScheduled { attempt, delay_ms: 1, memory: None }).unwrap();
            scheduler.apply(&Event::RetryDue { split: split(0) }).unwrap();
        }
    }
    all
}

/// One layer that asks for 32 and may be tried nine times.
fn growing(retry: Retry) -> Flow {
    let mut flow = flow_of(&[&[]]);
    flow.layers[0].container = Arc::new(crate::container::Container { memory: Some(32), ..Default::default() });
    flow.layers[0].retry = Retry { attempts: 9, ..retry }.into();
    flow
}

#[test]
fn memory_grows_with_each_attempt_that_was_out_of_memory_and_with_no_other() {
    let double = Retry { memory: Some(2.0), ..Retry::default() };
    let causes =
        [Cause::OutOfMemory, Cause::Code(1), Cause::Lost, Cause::OutOfMemory, Cause::OutOfMemory, Cause::TimedOut];
    let memory = |retry: Retry, memory: u64| {
        memory_of_attempts(&mut scheduler(&growing(retry), Limits { memory, ..WIDE }), &causes)
    };
    assert_eq!(memory(double.clone(), 1 << 40), [32, 64, 64, 64, 128, 256]);
    assert_eq!(memory(Retry { max_memory: Some(100), ..double.clone() }, 1 << 40), [32, 64, 64, 64, 100, 100]);
    assert_eq!(memory(double, 90), [32, 64, 64, 64, 90, 90], "all there is, and no wait for more");
    assert_eq!(memory(Retry::default(), 90), [32; 6]);
}

#[test]
fn memory_that_was_never_granted_does_not_grow() {
    let flow = growing(Retry { memory: Some(4.0), ..Retry::default() });
    let mut tight = scheduler(&flow, Limits { memory: 90, ..WIDE });
    assert_eq!(memory_of_attempts(&mut tight, &[const { Cause::OutOfMemory }; 5]), [32, 90, 90, 90, 90]);
    assert_eq!(tight.memory(split(0)), Some(Memory { granted: 90, wanted: 128 }));
    // Under other limits the same log says the same.
    let mut log: Vec<Event> = Vec::new();
    for (number, memory) in [(1, None), (2, Some(90)), (3, Some(90))] {
        log.push(Event::AttemptLaunched { attempt: attempt(0, number), outputs: 0, memory });
        log.push(exited(attempt(0, number), Cause::OutOfMemory));
        log.push(Event::RetryScheduled { attempt: attempt(0, number), delay_ms: 1, memory });
        log.push(Event::RetryDue { split: split(0) });
    }
    log.push(Event::ExecutionResumed { again: Vec::new(), splits: Vec::new(), changed: Vec::new(), update: None });
    let mut wide = scheduler(&flow, WIDE);
    log.iter().for_each(|event| wide.apply(event).unwrap());
    assert_eq!(memory_of_attempts_from(&mut wide, 4, &[const { Cause::OutOfMemory }; 2]), [128, 512]);
}

#[test]
fn what_has_grown_is_what_is_reserved() {
    let mut flow = growing(Retry { memory: Some(2.0), ..Retry::default() });
    let other = flow_of(&[&[]]).layers.remove(0);
    flow.layers.push(crate::flow::Layer { container: Arc::clone(&flow.layers[0].container), ..other });
    let mut scheduler = scheduler(&flow, Limits { memory: 64, ..WIDE });
    assert_eq!(launch_all(&mut scheduler), [0, 1], "both fit");
    scheduler.apply(&exited(attempt(0, 1), Cause::OutOfMemory)).unwrap();
    assert!(matches!(scheduler.next_action(), Some(Action::Rest { .. })));
    scheduler.apply(&Event::RetryScheduled { attempt: attempt(0, 1), delay_ms: 1, memory: Some(64) }).unwrap();
    scheduler.apply(&Event::RetryDue { split: split(0) }).unwrap();
    assert_eq!(scheduler.next_action(), None, "it needs all of it now");
    finish(&mut scheduler, attempt(1, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [0]);
    finish(&mut scheduler, attempt(0, 2), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
}

#[test]
fn only_the_ends_that_are_named_are_tried_again() {
    use crate::flow::On;
    let only = |only: &[On]| Retry { only: Some(only.into()), ..Retry::default() };
    let ends = |retry: Retry, cause: Cause| {
        let mut scheduler = scheduler(&growing(retry), WIDE);
        memory_of_attempts(&mut scheduler, &[cause]);
        (scheduler.state(split(0)).unwrap(), scheduler.has_attempts_left(split(0)))
    };
    assert_eq!(ends(only(&[On::OutOfMemory]), Cause::OutOfMemory), (State::Ready, true));
    assert_eq!(ends(only(&[On::OutOfMemory]), Cause::Code(137)), (State::Failed, true));
    assert_eq!(ends(only(&[On::Codes(75, 80)]), Cause::Code(77)), (State::Ready, true));
    assert_eq!(ends(only(&[On::Codes(75, 80)]), Cause::Lost), (State::Ready, true), "that is not charged");
    assert_eq!(ends(only(&[On::TimedOut, On::Lost]), Cause::NotFound), (State::Failed, true));
}

#[test]
fn an_update_runs_what_changed_keeps_the_rest_and_settles_what_is_gone() {
    let first = flow_of(&[&[], &[0], &[1], &[0]]);
    let mut scheduler = scheduler(&first, WIDE);
    for layer in 0..3 {
        assert!(launch_all(&mut scheduler).contains(&layer));
        finish(&mut scheduler, attempt(layer, 1), 0);
    }
    finish(&mut scheduler, attempt(3, 1), 1);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Failed)));
    scheduler.apply(&Event::ExecutionEnded { outcome: Outcome::Failed }).unwrap();
    // L3, which failed, goes; L4 is new, and L2 needs it.
    let mut second = flow_of(&[&[], &[0], &[1, 3], &[]]);
    second.layers[3].name = "L4".into();
    let second = Planned::new(second.aligned(&first)).unwrap();
    scheduler.learn(second);
    let resumed = |again: &[u32], update| {
        let again = again.iter().map(|id| LayerId(*id)).collect();
        Event::ExecutionResumed { again, splits: Vec::new(), changed: Vec::new(), update }
    };
    for wrong in [resumed(&[], Some(0)), resumed(&[], Some(2)), resumed(&[3], Some(1)), resumed(&[4], None)] {
        scheduler.apply(&wrong).unwrap_err();
        assert_eq!(scheduler.ended(), Some(Outcome::Failed), "nothing has changed");
    }
    scheduler.apply(&resumed(&[2], Some(1))).unwrap();
    let states = |scheduler: &Scheduler| [0, 1, 2, 3, 4].map(|layer| scheduler.state(split(layer)).unwrap());
    use State::{Finished, Ready, Skipped, Waiting};
    assert_eq!(states(&scheduler), [Finished, Finished, Waiting, Skipped, Ready]);
    assert_eq!(launch_all(&mut scheduler), [4]);
    assert_eq!(scheduler.under_way(&[LayerId(2)], &[], None), None);
    finish(&mut scheduler, attempt(4, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [2], "with the number of its second attempt");
    finish(&mut scheduler, attempt(2, 2), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    assert_eq!(scheduler.progress().skipped, 1);
}

#[test]
fn what_is_under_way_cannot_be_taken_out_and_what_rests_can() {
    let mut first = flow_of(&[&[], &[]]);
    first.layers[1].retry = Retry { attempts: 2, ..Retry::default() }.into();
    let mut scheduler = scheduler(&first, WIDE);
    launch_all(&mut scheduler);
    scheduler.apply(&exited(attempt(1, 1), Cause::Code(1))).unwrap();
    let mut without = |names: &[&str]| {
        let mut flow = flow_with(names.iter().map(|_| Vec::new()));
        flow.layers.iter_mut().zip(names).for_each(|(layer, name)| layer.name = (*name).into());
        scheduler.updates.clear();
        scheduler.learn(Planned::new(flow.aligned(&first)).unwrap());
        scheduler.under_way(&[], &[], Some(1))
    };
    assert_eq!(without(&["L1"]), Some(LayerId(0)));
    assert_eq!(without(&["L0"]), None);
    scheduler
        .apply(&Event::ExecutionResumed { again: Vec::new(), splits: Vec::new(), changed: Vec::new(), update: Some(1) })
        .unwrap();
    assert_eq!(scheduler.next_action(), None, "nothing but L0, which runs");
    assert_eq!((scheduler.state(split(0)), scheduler.state(split(1))), (Some(State::Running), Some(State::Skipped)));
}

/// Figures, not a check: `cargo test --release -p laminar-core scheduler::tests::cost -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
#[expect(clippy::print_stdout, reason = "the figures are its purpose")]
fn cost() {
    const MANY: u32 = 1_000_000;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let wide = flow_with((0..MANY).map(|_| Vec::new()));
    let chain = flow_with((0..MANY).map(|id: u32| id.checked_sub(1).into_iter().collect()));
    let layered = |many: u32| {
        // Each needs three of the thousand before its own thousand.
        let needs = |id: u32| {
            (id / 1000).checked_sub(1).map(|level| [7, 101, 503].map(|step| level * 1000 + (id + step) % 1000))
        };
        flow_with((0..many).map(|id| needs(id).into_iter().flatten().collect()))
    };
    let mut fanned = flow_of(&[&[]]);
    layers::fan_out(&mut fanned.layers[0]);
    let mut held = fanned.clone();
    held.layers[0].max_parallel = Some(3);
    for (name, flow) in [
        ("a million layers that need nothing", wide),
        ("a chain of a million layers", chain),
        ("a hundred thousand layers that need three each", layered(MANY / 10)),
        ("a million layers that need three each", layered(MANY)),
        ("a million splits", fanned),
        ("a million splits, three at once", held),
    ] {
        let (before, begun) = (resident(), std::time::Instant::now());
        let plan = Arc::new(Plan::new(&flow).unwrap());
        let planned = begun.elapsed();
        let mut scheduler = Scheduler::new(&flow, plan, Limits { jobs: 4, ..WIDE });
        run_all(&mut scheduler);
        let took = begun.elapsed();
        let each = (resident() - before) as f64 * 1024.0 * 1024.0 / f64::from(scheduler.progress().total);
        println!("{name}: {took:?}, {planned:?} of it to plan; {each:.0} bytes each");
        let begun = std::time::Instant::now();
        scheduler
            .apply(&Event::ExecutionResumed {
                again: Vec::new(),
                splits: Vec::new(),
                changed: Vec::new(),
                update: None,
            })
            .unwrap();
        println!("resumed in {:?}", begun.elapsed());
    }
}

/// Everything that is wished for happens.
fn run_all(scheduler: &mut Scheduler) {
    while let Some(action) = scheduler.next_action() {
        match action {
            Action::Launch(attempt) => {
                scheduler.apply(&launched(attempt)).unwrap();
                scheduler.apply(&exited(attempt, Cause::Code(0))).unwrap();
            }
            Action::Adopt(attempt) => scheduler.apply(&published(attempt)).unwrap(),
            Action::End(outcome) => scheduler.apply(&Event::ExecutionEnded { outcome }).unwrap(),
            Action::Open(layer) => scheduler.apply(&layers::opened(layer.0, 1_000_000)).unwrap(),
            other => panic!("{other:?}"),
        }
        if scheduler.changes.len() > 1000 {
            scheduler.take_changes();
        }
    }
}

#[test]
fn what_would_be_next_in_any_case_goes_ahead() {
    let flow = flow_of(&[&[], &[], &[], &[]]);
    let mut scheduler = scheduler(&flow, Limits { jobs: 1, ..WIDE });
    scheduler.look_ahead(2);
    assert_eq!(launch_all(&mut scheduler), [0, 1, 2]);
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [3]);
    scheduler.look_ahead(0);
    assert!(scheduler.is_crowded());
    for layer in 1..4 {
        finish(&mut scheduler, attempt(layer, 1), 0);
    }
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
}

#[test]
fn nothing_goes_ahead_of_what_a_longer_path_will_release() {
    // 0 → 1 → 2 beside 3 and 4.
    let flow = flow_of(&[&[], &[0], &[1], &[], &[]]);
    let mut scheduler = scheduler(&flow, Limits { jobs: 1, ..WIDE });
    scheduler.look_ahead(2);
    assert_eq!(launch_all(&mut scheduler), [0], "1 comes before 3, and is not ready yet");
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(launch_all(&mut scheduler), [1, 3, 4], "2 is no longer a path than these");
}

#[test]
fn what_reserves_something_does_not_go_ahead() {
    let mut flow = flow_of(&[&[], &[], &[]]);
    Arc::make_mut(&mut flow.layers[1].container).memory = Some(1);
    let mut scheduler = scheduler(&flow, Limits { jobs: 1, ..WIDE });
    scheduler.look_ahead(2);
    assert_eq!(launch_all(&mut scheduler), [0], "nor does anything pass it");
}
