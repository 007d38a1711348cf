//! What is offered, and when its number is used up.

use super::*;

const ONE: Limits = Limits { jobs: 1, ..WIDE };

fn looking(flow: &Flow, limits: Limits) -> Scheduler {
    let mut scheduler = scheduler(flow, limits);
    scheduler.look_ahead(2);
    scheduler
}

fn offered(attempt: Attempt) -> Event {
    Event::AttemptOffered { attempt, outputs: 1 }
}

fn resumed(again: &[u32]) -> Event {
    let again = again.iter().copied().map(LayerId).collect();
    Event::ExecutionResumed { again, splits: Vec::new(), changed: Vec::new(), update: None }
}

/// Layer 0 is launched, and layer 1 is offered after it.
fn offering(flow: &Flow) -> Scheduler {
    let mut scheduler = looking(flow, ONE);
    assert_eq!(launch_all(&mut scheduler)[0], 0);
    assert_eq!(scheduler.next_offer(), Some((attempt(1, 1), attempt(0, 1))));
    scheduler.apply(&offered(attempt(1, 1))).unwrap();
    scheduler
}

#[test]
fn what_waits_for_one_task_alone_is_offered_the_longest_path_first() {
    // 0 → 1, 0 → 2 → 3; 4 waits for two.
    let flow = flow_of(&[&[], &[0], &[0], &[2], &[0, 1]]);
    let mut scheduler = looking(&flow, ONE);
    launch_all(&mut scheduler);
    assert_eq!(scheduler.next_offer(), Some((attempt(1, 1), attempt(0, 1))), "4 makes its path as long as that of 2");
    assert_eq!(scheduler.next_offer(), None, "one for each");
}

#[test]
fn nothing_is_offered_while_anything_is_ready_or_nobody_looks_ahead() {
    let flow = flow_of(&[&[], &[0], &[], &[2]]);
    let mut all = looking(&flow, ONE);
    all.look_ahead(0);
    launch_all(&mut all);
    assert_eq!(all.next_offer(), None);
    let mut beside = looking(&flow, Limits { jobs: 2, ..WIDE });
    assert_eq!(launch_all(&mut beside), [0, 2]);
    let offers = [beside.next_offer(), beside.next_offer()];
    assert_eq!(offers, [Some((attempt(3, 1), attempt(2, 1))), Some((attempt(1, 1), attempt(0, 1)))]);
}

#[test]
fn nothing_is_offered_past_what_has_gone_ahead_or_cannot_be_offered_itself() {
    // Three chains beside each other, in two places.
    let flow = flow_of(&[&[], &[], &[], &[0], &[1], &[2]]);
    let mut chains = looking(&flow, Limits { jobs: 2, ..WIDE });
    assert_eq!(launch_all(&mut chains), [0, 1, 2], "one stands in line");
    assert_eq!(chains.next_offer(), None);
    // 1 is the longer path, and reserves something; 2 is a leaf.
    let mut flow = flow_of(&[&[], &[0], &[0], &[1]]);
    Arc::make_mut(&mut flow.layers[1].container).memory = Some(1);
    let mut critical = looking(&flow, ONE);
    launch_all(&mut critical);
    assert_eq!(critical.next_offer(), None);
}

#[test]
fn what_must_be_told_or_reserve_something_first_is_not_offered() {
    let mut flow = flow_of(&[&[], &[0], &[1]]);
    flow.layers[0].outputs = Some(vec!["promised".to_owned()]);
    Arc::make_mut(&mut flow.layers[2].container).cpu_millis = Some(1);
    let mut scheduler = looking(&flow, ONE);
    for layer in 0..2 {
        assert_eq!(launch_all(&mut scheduler), [layer]);
        assert_eq!(scheduler.next_offer(), None);
        finish(&mut scheduler, attempt(layer, 1), 0);
    }
}

#[test]
fn what_was_offered_is_launched_before_all_others() {
    // 2 has the longer path, and is ready only after a pause.
    let mut flow = flow_of(&[&[], &[0], &[], &[2], &[3]]);
    flow.layers[2].retry = Arc::new(Retry { attempts: 2, ..Retry::default() });
    let mut scheduler = looking(&flow, Limits { jobs: 2, ..WIDE });
    assert_eq!(launch_all(&mut scheduler), [2, 0]);
    assert_eq!(scheduler.next_offer(), Some((attempt(1, 1), attempt(0, 1))));
    scheduler.apply(&offered(attempt(1, 1))).unwrap();
    scheduler.apply(&exited(attempt(2, 1), Cause::Code(1))).unwrap();
    let Some(Action::Rest { .. }) = scheduler.next_action() else { panic!("it is tried again") };
    scheduler.apply(&Event::RetryScheduled { attempt: attempt(2, 1), delay_ms: 0, memory: None }).unwrap();
    scheduler.apply(&exited(attempt(0, 1), Cause::Code(0))).unwrap();
    assert_eq!(scheduler.next_action(), Some(Action::Adopt(attempt(0, 1))));
    scheduler.apply(&published(attempt(0, 1))).unwrap();
    scheduler.apply(&Event::RetryDue { split: split(2) }).unwrap();
    assert!(scheduler.is_offered(attempt(1, 1)));
    assert_eq!(launch_all(&mut scheduler), [1, 2]);
    assert!(!scheduler.is_offered(attempt(1, 1)));
}

#[test]
fn what_left_something_after_all_is_followed_by_nothing() {
    let mut scheduler = offering(&flow_of(&[&[], &[0]]));
    scheduler.apply(&exited(attempt(0, 1), Cause::Code(0))).unwrap();
    scheduler.apply(&Event::AttemptRejected { attempt: attempt(0, 1), reason: "a socket".to_owned() }).unwrap();
    assert!(!scheduler.is_offered(attempt(1, 1)));
}

#[test]
fn an_offer_stays_good_when_another_scheduler_goes_on() {
    let flow = flow_of(&[&[], &[0]]);
    let mut scheduler = offering(&flow);
    scheduler.apply(&resumed(&[])).unwrap();
    assert!(scheduler.is_offered(attempt(1, 1)));
    finish(&mut scheduler, attempt(0, 1), 0);
    assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(1, 1))));
}

#[test]
fn an_offer_that_is_not_wanted_any_more_has_used_its_number() {
    let flow = flow_of(&[&[], &[0]]);
    let mut cancelled = offering(&flow);
    cancelled.apply(&Event::CancelRequested { force: false }).unwrap();
    cancelled.apply(&exited(attempt(0, 1), Cause::Cancelled)).unwrap();
    let mut again = offering(&flow);
    finish(&mut again, attempt(0, 1), 0);
    let resumptions = [(cancelled, resumed(&[]), attempt(0, 2)), (again, resumed(&[0]), attempt(0, 2))];
    for (mut scheduler, resumed, first) in resumptions {
        scheduler.apply(&resumed).unwrap();
        assert!(!scheduler.is_offered(attempt(1, 1)));
        assert!(scheduler.apply(&offered(attempt(1, 1))).is_err());
        launch_all(&mut scheduler);
        finish(&mut scheduler, first, 0);
        assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(1, 2))));
    }
}

#[test]
fn what_comes_after_a_failure_keeps_its_number() {
    let mut scheduler = offering(&flow_of(&[&[], &[0]]));
    finish(&mut scheduler, attempt(0, 1), 7);
    scheduler.apply(&resumed(&[])).unwrap();
    launch_all(&mut scheduler);
    finish(&mut scheduler, attempt(0, 2), 0);
    assert_eq!(scheduler.next_action(), Some(Action::Launch(attempt(1, 1))));
}

#[test]
fn only_what_waits_can_be_offered_and_only_by_its_next_number() {
    let mut scheduler = offering(&flow_of(&[&[], &[0]]));
    scheduler.apply(&offered(attempt(1, 1))).unwrap();
    for wrong in [attempt(1, 2), attempt(0, 1), attempt(0, 2), attempt(7, 1)] {
        assert!(scheduler.apply(&offered(wrong)).is_err(), "{wrong:?}");
    }
}
