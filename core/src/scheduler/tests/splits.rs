//! Splits that are sized, cached, or may not run all at once; and answers that come too late.

use super::layers::{
    apply, ask, at, cache, cached, fan_out, flow, keyed, launch_splits, launch_splits_or_end, not_opened, of, open,
    opened, resumed, size, sized, skipped,
};
use super::*;

#[test]
fn no_more_splits_of_a_layer_run_than_it_says_and_they_stand_in_nobodys_way() {
    let flow = flow(&[&[], &[], &[], &[], &[0]], |layers| {
        fan_out(&mut layers[0]);
        layers[0].max_parallel = Some(2);
    });
    let mut scheduler = scheduler(&flow, Limits { jobs: 4, ..WIDE });
    open(&mut scheduler, 5);
    let layers = |attempts: &[Attempt]| attempts.iter().map(|attempt| attempt.split.layer.0).collect::<Vec<_>>();
    let first = launch_splits(&mut scheduler);
    assert_eq!(layers(&first), [0, 0, 1, 2], "two of it, since they are on the longest path, and others");
    assert_eq!(scheduler.progress().ready, 4);
    finish(&mut scheduler, attempt(1, 1), 0);
    assert_eq!(layers(&launch_splits(&mut scheduler)), [3]);
    finish(&mut scheduler, attempt(2, 1), 0);
    assert_eq!(launch_splits(&mut scheduler), [], "there is room, but not for that layer");
    scheduler.apply(&launched(of(0, 2, 1))).expect_err("nor is it a fact");
    // One that is lost goes before those that are held back.
    apply(&mut scheduler, [exited(of(0, 0, 1), Cause::Lost)]);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 0, 2)]);
    // One that is being adopted has no process any more.
    apply(&mut scheduler, [exited(of(0, 1, 1), Cause::Code(0))]);
    assert_eq!(scheduler.next_action(), Some(Action::Adopt(of(0, 1, 1))));
    assert_eq!(launch_splits(&mut scheduler), [of(0, 2, 1)]);
    apply(&mut scheduler, [resumed(&[])]);
    assert_eq!(scheduler.next_action(), Some(Action::Adopt(of(0, 1, 1))));
    assert_eq!(launch_splits(&mut scheduler), [], "those that are alive hold their places");
    finish(&mut scheduler, of(0, 0, 2), 0);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 3, 1)]);
    // A cancel, and everything that is left follows when it is resumed.
    apply(&mut scheduler, [Event::CancelRequested { force: false }]);
    assert_eq!(scheduler.state(at(0, 4)), Some(State::Cancelled));
    while scheduler.next_action().is_some() {}
    apply(&mut scheduler, [exited(of(0, 2, 1), Cause::Cancelled), resumed(&[])]);
    assert_eq!(scheduler.next_action(), Some(Action::Adopt(of(0, 1, 1))));
    assert_eq!(launch_splits(&mut scheduler), [of(0, 2, 2)]);
}

#[test]
fn many_splits_that_may_not_run_at_once_are_cheap() {
    const SPLITS: u32 = 100_000;
    let flow = flow(&[&[]], |layers| {
        fan_out(&mut layers[0]);
        layers[0].max_parallel = Some(3);
    });
    let mut scheduler = scheduler(&flow, WIDE);
    open(&mut scheduler, SPLITS);
    let begun = std::time::Instant::now();
    let mut running = std::collections::VecDeque::new();
    let mut next = 0;
    loop {
        for attempt in launch_splits_or_end(&mut scheduler) {
            assert_eq!(attempt.split.index, next);
            next += 1;
            running.push_back(attempt);
        }
        assert!(running.len() <= 3);
        let Some(attempt) = running.pop_front() else { break };
        finish(&mut scheduler, attempt, 0);
    }
    assert_eq!(scheduler.progress().finished, SPLITS);
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
}

#[test]
fn each_attempt_is_sized_and_reserves_what_is_said_of_it() {
    let flow = flow(&[&[]], |layers| {
        fan_out(&mut layers[0]);
        size(&mut layers[0]);
        layers[0].retry = Retry { attempts: 9, memory: Some(2.0), ..Retry::default() }.into();
    });
    let mut scheduler = scheduler(&flow, Limits { jobs: 10, cpu_millis: 3000, memory: 100 });
    open(&mut scheduler, 3);
    let memory = |scheduler: &Scheduler, index| scheduler.memory(at(0, index));
    for index in 0..3 {
        assert_eq!(scheduler.next_action(), Some(Action::Size(of(0, index, 1))));
        assert_eq!((scheduler.state(at(0, index)), memory(&scheduler, index)), (Some(State::Ready), None));
    }
    assert_eq!(scheduler.next_action(), None);
    scheduler.apply(&launched(of(0, 0, 1))).expect_err("it is not sized");
    scheduler.apply(&sized(of(0, 0, 2), 1, 1)).expect_err("that is not the one to come");
    apply(&mut scheduler, [sized(of(0, 2, 1), 1000, 40), sized(of(0, 0, 1), 2000, 40), sized(of(0, 1, 1), 1000, 0)]);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 0, 1), of(0, 1, 1)], "all cores are taken");
    let granted = |memory: u64, wanted| Some(Memory { granted: memory, wanted });
    assert_eq!((memory(&scheduler, 0), memory(&scheduler, 1)), (granted(40, 40), None));
    finish(&mut scheduler, of(0, 1, 1), 0);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 2, 1)]);
    // Lost: sized once more.
    apply(&mut scheduler, [exited(of(0, 2, 1), Cause::Lost)]);
    assert_eq!(scheduler.next_action(), Some(Action::Size(of(0, 2, 2))));
    assert_eq!(scheduler.next_action(), None);
    apply(&mut scheduler, [sized(of(0, 2, 2), 0, 0)]);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 2, 2)]);
    finish(&mut scheduler, of(0, 2, 2), 0);
    // Out of memory: what the next is said to have grows.
    for (number, said, [has, wanted]) in [(2, 30, [60, 60]), (3, 40, [100, 160]), (4, 200, [100, 800])] {
        apply(&mut scheduler, [exited(of(0, 0, number - 1), Cause::OutOfMemory)]);
        assert_eq!(memory(&scheduler, 0), None);
        assert!(matches!(scheduler.next_action(), Some(Action::Rest { .. })));
        let attempt = of(0, 0, number - 1);
        let due = Event::RetryDue { split: at(0, 0) };
        apply(&mut scheduler, [Event::RetryScheduled { attempt, delay_ms: 1, memory: None }, due]);
        assert_eq!(scheduler.next_action(), Some(Action::Size(of(0, 0, number))));
        apply(&mut scheduler, [sized(of(0, 0, number), 9000, said)]);
        assert_eq!(memory(&scheduler, 0), granted(has, wanted), "all that there is, and no wait for more");
        let cut = (has < wanted).then_some(has);
        assert_eq!(scheduler.next_action(), Some(Action::Launch(of(0, 0, number))));
        apply(&mut scheduler, [Event::AttemptLaunched { attempt: of(0, 0, number), outputs: 0, memory: cut }]);
    }
    assert_eq!(scheduler.used, Request { cpu_millis: 3000, memory: 100 });
    finish(&mut scheduler, of(0, 0, 4), 0);
    assert_eq!((scheduler.used, scheduler.sizes.len()), (Request::default(), 0));
}

#[test]
fn a_cached_split_is_looked_for_once_for_each_run_before_it_is_sized() {
    let flow = flow(&[&[], &[0]], |layers| {
        fan_out(&mut layers[0]);
        cache(&mut layers[0]);
        size(&mut layers[0]);
        Arc::make_mut(&mut layers[0].retry).attempts = 2;
        layers[0].catch = [3].into();
    });
    let mut scheduler = scheduler(&flow, WIDE);
    open(&mut scheduler, 2);
    for index in 0..2 {
        assert_eq!(scheduler.next_action(), Some(Action::Recall(at(0, index))));
    }
    assert_eq!(scheduler.next_action(), None);
    scheduler.apply(&sized(of(0, 0, 1), 0, 0)).expect_err("it is looked for");
    apply(&mut scheduler, [cached(at(0, 1)), keyed(at(0, 0))]);
    assert_eq!((scheduler.state(at(0, 1)), scheduler.progress().cached), (Some(State::Cached), 1));
    scheduler.apply(&keyed(at(0, 0))).expect_err("it was told once");
    assert_eq!(scheduler.next_action(), Some(Action::Size(of(0, 0, 1))));
    apply(&mut scheduler, [sized(of(0, 0, 1), 0, 0)]);
    assert_eq!(launch_splits(&mut scheduler), [of(0, 0, 1)]);
    apply(&mut scheduler, [exited(of(0, 0, 1), Cause::Code(1))]);
    assert!(matches!(scheduler.next_action(), Some(Action::Rest { .. })));
    let due = Event::RetryDue { split: at(0, 0) };
    apply(&mut scheduler, [Event::RetryScheduled { attempt: of(0, 0, 1), delay_ms: 1, memory: None }, due]);
    assert_eq!(scheduler.next_action(), Some(Action::Size(of(0, 0, 2))), "a retry is not looked for");
    // Another scheduler does not know what the cache has by now.
    apply(&mut scheduler, [resumed(&[])]);
    assert_eq!(scheduler.next_action(), Some(Action::Recall(at(0, 0))));
    assert_eq!(scheduler.next_action(), None);
    apply(&mut scheduler, [cached(at(0, 0))]);
    assert_eq!(scheduler.layer_state(LayerId(0)), State::Cached);
    assert_eq!(launch_all(&mut scheduler), [1], "as after one that ran");
    finish(&mut scheduler, attempt(1, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Finished)));
    // One that runs, and is caught, counts for the layer.
    apply(&mut scheduler, [Event::ExecutionEnded { outcome: Outcome::Finished }, resumed(&[0]), opened(0, 2)]);
    apply(&mut scheduler, [cached(at(0, 0)), keyed(at(0, 1)), sized(of(0, 1, 1), 0, 0), launched(of(0, 1, 1))]);
    apply(&mut scheduler, [exited(of(0, 1, 1), Cause::Code(3)), published(of(0, 1, 1))]);
    assert_eq!(scheduler.layer_state(LayerId(0)), State::Caught);
    apply(&mut scheduler, [resumed(&[])]);
    assert_eq!(scheduler.layer_state(LayerId(0)), State::Caught, "also for who takes over");
}

#[test]
fn an_answer_that_comes_after_a_cancel_changes_nothing() {
    let flow = flow(&[&[], &[], &[], &[0]], |layers| {
        fan_out(&mut layers[0]);
        cache(&mut layers[1]);
        size(&mut layers[2]);
        ask(&mut layers[3]);
    });
    let mut scheduler = scheduler(&flow, WIDE);
    let asked = [Action::Open(LayerId(0)), Action::Recall(split(1)), Action::Size(attempt(2, 1))];
    assert_eq!([(); 3].map(|()| scheduler.next_action().unwrap()), asked);
    apply(&mut scheduler, [Event::CancelRequested { force: false }]);
    assert_eq!(scheduler.progress().cancelled, 4);
    let before = format!("{scheduler:?}");
    let late = [opened(0, 3), skipped(0), not_opened(0), keyed(split(1)), cached(split(1)), sized(attempt(2, 1), 1, 1)];
    for event in late {
        assert!(scheduler.is_late(&event));
        apply(&mut scheduler, [event]);
        assert_eq!(format!("{scheduler:?}"), before);
    }
    for event in [opened(3, 1), skipped(3), keyed(split(2)), sized(attempt(1, 1), 1, 1)] {
        assert!(!scheduler.is_late(&event));
        scheduler.apply(&event).expect_err("nobody has asked");
    }
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Cancelled)));
    // Whoever goes on asks all of it anew; what nobody has told yet is told once.
    apply(&mut scheduler, [resumed(&[])]);
    assert_eq!([(); 3].map(|()| scheduler.next_action().unwrap()), asked);
    assert_eq!(scheduler.next_action(), None);
    // What is wished for and not taken yet when everything stops is not wished for any more.
    apply(&mut scheduler, [resumed(&[]), Event::CancelRequested { force: true }]);
    assert_eq!(scheduler.next_action(), Some(Action::End(Outcome::Cancelled)));
}

#[test]
fn a_split_runs_again_with_all_that_needs_its_layer_and_the_others_stay() {
    let flow = flow(&[&[], &[0], &[1], &[]], |layers| fan_out(&mut layers[0]));
    let mut scheduler = scheduler(&flow, WIDE);
    open(&mut scheduler, 3);
    let again = |splits: &[Split]| Event::ExecutionResumed {
        again: vec![],
        splits: splits.to_vec(),
        changed: Vec::new(),
        update: None,
    };
    let all = launch_splits(&mut scheduler);
    assert_eq!(all.len(), 4);
    assert_eq!(scheduler.under_way(&[], &[at(0, 1)], None), Some(LayerId(0)));
    finish(&mut scheduler, of(0, 1, 1), 0);
    assert_eq!(scheduler.under_way(&[], &[at(0, 1)], None), None, "its siblings are not in the way");
    for attempt in all.into_iter().filter(|attempt| *attempt != of(0, 1, 1)) {
        finish(&mut scheduler, attempt, 0);
    }
    let [next] = launch_splits(&mut scheduler)[..] else { panic!("what needs it") };
    assert_eq!(scheduler.under_way(&[], &[at(0, 1)], None), Some(LayerId(1)));
    scheduler.apply(&again(&[at(0, 1)])).expect_err("what needs it is under way");
    finish(&mut scheduler, next, 0);
    let [last] = launch_splits(&mut scheduler)[..] else { panic!("the last") };
    finish(&mut scheduler, last, 0);
    scheduler.apply(&again(&[at(7, 0)])).expect_err("there is no such layer");
    scheduler.take_changes();
    apply(&mut scheduler, [again(&[at(0, 1), at(0, 9)])]);
    let waits: Vec<Split> = scheduler.take_changes().iter().map(|change| change.split).collect();
    assert_eq!(
        waits.iter().filter(|split| split.layer == LayerId(0)).count(),
        2,
        "to wait, and to be ready: {waits:?}"
    );
    assert_eq!(scheduler.state(at(0, 0)), Some(State::Finished));
    assert_eq!(launch_splits(&mut scheduler), [of(0, 1, 2)]);
    finish(&mut scheduler, of(0, 1, 2), 0);
    assert_eq!(launch_splits(&mut scheduler), [of(1, 0, 2)]);
    assert_eq!(scheduler.state(at(3, 0)), Some(State::Finished));
}
