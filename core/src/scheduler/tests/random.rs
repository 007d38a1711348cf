//! Random flows, exits and interleavings.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::layers::{ask, cache, cached, fan_out, keyed, not_opened, opened, opened_plain, size, sized, skipped};
use super::*;

/// A random flow: each layer needs some of those before it.
fn flows() -> impl Strategy<Value = Flow> {
    let layer = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        1_u32..4,
        prop::option::of(0_u64..3000),
        prop::option::of(0_u64..100),
        prop::bool::ANY,
        prop::option::of(1.1_f64..4.0),
        (prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::bool::weighted(0.2), prop::bool::weighted(0.2)),
        prop::option::weighted(0.2, 1_u32..4),
    );
    (prop::collection::vec(layer, 1..40), prop::bool::ANY).prop_map(|(layers, stop)| {
        let mut flow = flow_with(layers.iter().enumerate().map(|(id, (needs, ..))| {
            let needs = needs.iter().filter(|_| id > 0).map(|need| need.index(id.max(1)) as u32);
            needs.collect::<BTreeSet<_>>().into_iter().collect()
        }));
        for (layer, (_, attempts, cpu_millis, memory, catches, factor, shape, max_parallel)) in
            flow.layers.iter_mut().zip(layers)
        {
            let shapes = [(shape.0, ask as fn(&mut _)), (shape.1, fan_out), (shape.2, size), (shape.3, cache)];
            shapes.iter().filter(|(has, _)| *has).for_each(|(_, shape)| shape(layer));
            layer.max_parallel = max_parallel;
            Arc::make_mut(&mut layer.retry).attempts = attempts;
            Arc::make_mut(&mut layer.retry).memory = factor;
            Arc::make_mut(&mut layer.retry).only =
                catches.then(|| [crate::flow::On::OutOfMemory, crate::flow::On::Outputs].into());
            layer.catch = if catches { [3].into() } else { Arc::default() };
            layer.container = Arc::new(crate::container::Container { cpu_millis, memory, ..Default::default() });
        }
        flow.on_failure = if stop { OnFailure::Stop } else { OnFailure::Continue };
        flow
    })
}

/// Drives a scheduler through random choices, checks every invariant at every step, and returns the log.
struct World<'a> {
    /// The flow that it has now, and those that are still to take its place.
    flow: Flow,
    others: Vec<Flow>,
    /// The flow that it had first, and those that took its place.
    first: &'a Flow,
    updates: Vec<Planned>,
    limits: Limits,
    scheduler: Scheduler,
    log: Vec<Event>,
    alive: Vec<Attempt>,
    adopting: Vec<Attempt>,
    resting: Vec<Split>,
    /// What was asked and is not answered yet.
    asked: Vec<Action>,
    deaths: u32,
}

/// The states of all splits, by layer.
fn states(scheduler: &Scheduler) -> Vec<Vec<State>> {
    let of =
        |layer: &LayerProgress| scheduler.splits[layer.numbers()].iter().map(|split| split.stage.state()).collect();
    scheduler.layers.iter().map(of).collect()
}

fn is_well(state: State) -> bool {
    matches!(state, State::Finished | State::Caught | State::Cached)
}

impl World<'_> {
    fn happen(&mut self, event: Event) {
        self.scheduler.apply(&event).unwrap();
        self.log.push(event);
        let mut counted = Progress::default();
        for state in states(&self.scheduler).concat() {
            counted.total += 1;
            *counted.of(state) += 1;
        }
        assert_eq!(*self.scheduler.progress(), counted);
    }

    fn fulfil_wishes(&mut self) {
        while let Some(action) = self.scheduler.next_action() {
            match action {
                Action::Launch(attempt) => self.launch(attempt),
                Action::Adopt(attempt) => self.adopting.push(attempt),
                Action::Rest { attempt, .. } => {
                    self.happen(Event::RetryScheduled { attempt, delay_ms: 1, memory: None });
                    self.resting.push(attempt.split);
                }
                Action::Stop { attempt, .. } => assert!(self.alive.contains(&attempt), "only what runs is stopped"),
                Action::Open(_) | Action::Recall(_) | Action::Size(_) => {
                    assert!(!self.asked.contains(&action), "it is asked twice");
                    self.asked.push(action);
                }
                Action::End(outcome) => self.happen(Event::ExecutionEnded { outcome }),
            }
        }
    }

    fn launch(&mut self, attempt: Attempt) {
        assert!(!self.flow.layer(attempt.split.layer).retired, "it is no part of the flow");
        let layer = self.flow.layer(attempt.split.layer);
        for need in &layer.needs {
            let state = self.scheduler.layer_state(*need);
            let is_overridden = state == State::Skipped && layer.when.is_some();
            assert!(is_well(state) || is_overridden, "it starts while what it needs is {state:?}");
        }
        let is_launch =
            |event: &Event| matches!(event, Event::AttemptLaunched { attempt: other, .. } if *other == attempt);
        assert!(!self.log.iter().any(is_launch), "its number is used twice");
        assert!(!self.alive.iter().any(|other| other.split == attempt.split), "it runs beside itself");
        self.happen(launched(attempt));
        self.alive.push(attempt);
        assert!(self.alive.len() <= self.limits.jobs as usize);
        let layer = self.flow.layer(attempt.split.layer);
        let beside = self.alive.iter().filter(|other| other.split.layer == attempt.split.layer).count();
        // What runs while the flow is updated may ask for more than it did when it was launched.
        let is_updated = !self.updates.is_empty();
        assert!(is_updated || layer.max_parallel.is_none_or(|most| beside <= most as usize));
        let cores = self.alive.iter().map(|attempt| self.said(*attempt).cpu_millis.min(self.limits.cpu_millis));
        assert!(is_updated || cores.sum::<u64>() <= self.limits.cpu_millis);
        let given = |attempt: &Attempt| self.scheduler.memory(attempt.split).map(|memory| memory.granted);
        assert!(is_updated || self.alive.iter().filter_map(given).sum::<u64>() <= self.limits.memory);
        let ends = self.log.iter().filter_map(|event| match event {
            Event::AttemptExited { attempt: other, exit } if other.split == attempt.split => Some(&exit.cause),
            _ => None,
        });
        let failures = ends.filter(|cause| **cause == Cause::OutOfMemory).count() as u32;
        let base = self.said(attempt).memory;
        let wanted = (base > 0).then(|| layer.retry.memory_after(base, failures));
        assert_eq!(given(&attempt), wanted.map(|wanted| wanted.min(self.limits.memory)), "as the log says");
    }

    /// What an attempt is said to reserve, by the flow or by the last that was found out.
    fn said(&self, attempt: Attempt) -> Request {
        let layer = self.flow.layer(attempt.split.layer);
        if layer.open.is_none() {
            let container = &layer.container;
            return Request { cpu_millis: container.cpu_millis.unwrap_or(0), memory: container.memory.unwrap_or(0) };
        }
        let sizes = self.log.iter().rev().filter_map(|event| match event {
            Event::AttemptSized { attempt: other, cpu_millis, memory } if *other == attempt => {
                Some(Request { cpu_millis: *cpu_millis, memory: *memory })
            }
            _ => None,
        });
        sizes.take(1).next().unwrap_or_default()
    }

    /// What was asked is answered, perhaps too late.
    fn answer(&mut self, action: Action, which: usize, how: u8) {
        let event = match action {
            Action::Open(layer) => match self.flow.layer(layer) {
                _ if how.is_multiple_of(11) => not_opened(layer.0),
                of if of.when.is_some() && how.is_multiple_of(3) => skipped(layer.0),
                of if of.foreach.is_some() => opened(layer.0, u32::from(how) % 5),
                _ => opened_plain(layer.0),
            },
            Action::Recall(split) if how.is_multiple_of(3) => cached(split),
            Action::Recall(split) => keyed(split),
            Action::Size(attempt) => sized(attempt, which as u64 % 4000, u64::from(how)),
            other => unreachable!("{other:?} is no question"),
        };
        let late = self.scheduler.is_late(&event);
        let before = states(&self.scheduler);
        self.happen(event);
        assert!(!late || states(&self.scheduler) == before);
    }

    /// Another scheduler takes over: it knows what the log says, and finds what runs. It may have another flow.
    fn die(&mut self, which: usize) {
        self.deaths += 1;
        let before = states(&self.scheduler);
        self.scheduler = self.replayed();
        assert_eq!(states(&self.scheduler), before);
        let mut again: Vec<LayerId> = self.flow.active().map(|(id, _)| id).collect();
        again = if which.is_multiple_of(2) { vec![again[which % again.len()]] } else { vec![] };
        let all = self.flow.active().map(|(id, _)| id);
        let index = (which % 4) as u32;
        let mut splits: Vec<Split> = all.map(|layer| Split { layer, index }).collect();
        splits = if which % 3 == 1 { vec![splits[which % splits.len()]] } else { vec![] };
        let update = self.others.pop().map(|next| next.aligned(&self.flow));
        if let Some(next) = &update {
            let side = |flow| crate::flow::Side { flow, backend: "local" };
            again.retain(|id| !next.layer(*id).retired);
            splits.retain(|split| !next.layer(split.layer).retired);
            again
                .extend(crate::flow::changes(side(&self.flow), side(next)).changed.iter().map(|changed| changed.layer));
            let shape = |layer: &crate::flow::Layer| (layer.when.is_some(), layer.foreach.is_some());
            let reshaped = self.flow.active().filter(|(id, layer)| shape(layer) != shape(next.layer(*id)));
            again.extend(reshaped.map(|(id, _)| id).filter(|id| !next.layer(*id).retired));
            self.scheduler.learn(Planned::new(next.clone()).unwrap());
        }
        let number = update.as_ref().map(|_| self.updates.len() as u32 + 1);
        if self.scheduler.under_way(&again, &splits, number).is_some() {
            let event = Event::ExecutionResumed { again, splits, changed: Vec::new(), update: number };
            self.scheduler.apply(&event).unwrap_err();
            assert_eq!(states(&self.scheduler), before, "what is refused changes nothing");
            self.scheduler = self.replayed();
            self.happen(Event::ExecutionResumed {
                again: Vec::new(),
                splits: Vec::new(),
                changed: Vec::new(),
                update: None,
            });
            for (was, is) in before.iter().zip(states(&self.scheduler)) {
                assert!(was.iter().zip(&is).all(|(was, is)| !is_well(*was) || was == is), "{was:?}, {is:?}");
                assert!(was.len() == is.len());
            }
        } else {
            if let Some(next) = update {
                self.updates.push(Planned::new(next.clone()).unwrap());
                self.flow = next;
            }
            self.happen(Event::ExecutionResumed {
                again: again.clone(),
                splits: splits.clone(),
                changed: Vec::new(),
                update: number,
            });
            let mut touched = again;
            let plan = Plan::new(&self.flow).unwrap();
            for split in &splits {
                let state = self.scheduler.state(*split);
                assert!(state.is_none_or(|state| !is_well(state)), "{state:?}");
                touched.extend(plan.dependants(split.layer));
            }
            while let Some(id) = touched.pop() {
                let of = &states(&self.scheduler)[id.at()];
                assert!(matches!(of[..], [State::Waiting | State::Ready | State::Skipped]), "{of:?}");
                touched.extend(plan.dependants(id));
            }
            let after = states(&self.scheduler);
            for (((id, layer), was), is) in (0..).map(LayerId).zip(&self.flow.layers).zip(before).zip(after) {
                assert!(!layer.retired || is.iter().all(|state| *state == State::Skipped));
                let is_new = matches!(is[..], [State::Waiting | State::Ready | State::Skipped]);
                let is_named = |index| splits.contains(&Split { layer: id, index });
                let mut both = (0..).zip(was.iter().zip(&is));
                let stays = was.len() == is.len()
                    && both.all(|(index, (was, is))| !is_well(*was) || was == is || is_named(index));
                assert!(layer.retired || is_new || stays, "what has settled well stays so: {was:?}, {is:?}");
            }
        }
        assert!(self.alive.iter().all(|attempt| self.scheduler.is_alive(*attempt)), "what runs is not forgotten");
        self.adopting.clear(); // it is wished for once more
        self.asked.clear(); // it is asked once more
        self.resting.retain(|split| self.scheduler.is_resting(*split));
    }

    /// What a scheduler knows that has the flows and the log.
    fn replayed(&self) -> Scheduler {
        let mut replayed = scheduler(self.first, self.limits);
        self.updates.iter().for_each(|next| replayed.learn(next.clone()));
        for event in &self.log {
            replayed.apply(event).unwrap();
        }
        replayed
    }

    /// One thing happens: what, is decided by two random numbers.
    fn step(&mut self, which: usize, how: u8) {
        let others = self.alive.len() + self.adopting.len() + self.resting.len();
        let choices = others + self.asked.len();
        if how == 255 {
            return self.happen(Event::CancelRequested { force: which.is_multiple_of(2) });
        }
        if (245..255).contains(&how) && self.deaths < 4 {
            return self.die(which);
        }
        let dice = which;
        let which = which % choices.max(1);
        if which < self.alive.len() {
            let attempt = self.alive[which];
            if how.is_multiple_of(2)
                && matches!(self.log.last(), Some(Event::AttemptLaunched { .. }))
                && which + 1 == self.alive.len()
            {
                return self.happen(started(attempt));
            }
            self.alive.swap_remove(which);
            let causes =
                [Cause::Code(0), Cause::OutOfMemory, Cause::Code(3), Cause::Code(1), Cause::Lost, Cause::Cancelled];
            let cause = causes[how as usize % causes.len()].clone();
            self.happen(exited(attempt, cause.clone()));
            let resting = self.scheduler.state(attempt.split) == Some(State::Resting);
            let layer = self.flow.layer(attempt.split.layer);
            assert!(!resting || layer.retry.covers(Failure::Exit(&cause)), "it is tried again after {cause}");
        } else if which < self.alive.len() + self.adopting.len() {
            let attempt = self.adopting.swap_remove(which - self.alive.len());
            let rejected = Event::AttemptRejected { attempt, reason: String::new() };
            self.happen(if how.is_multiple_of(5) { rejected } else { published(attempt) });
        } else if which >= others && choices > 0 {
            let action = self.asked.swap_remove(which - others);
            self.answer(action, dice, how);
        } else if choices > 0 {
            let split = self.resting.swap_remove(which - self.alive.len() - self.adopting.len());
            self.happen(Event::RetryDue { split });
        }
    }
}

proptest! {
    #[test]
    fn every_layer_settles_none_starts_early_and_a_replay_gives_the_same_state(
        flow in flows(),
        jobs in 1_u32..5,
        choices in prop::collection::vec((any::<usize>(), any::<u8>()), 40),
        others in prop::collection::vec((flows(), 0_usize..5), 0..3),
    ) {
        let limits = Limits { jobs, cpu_millis: 3000, memory: 100 };
        let scheduler = scheduler(&flow, limits);
        let others = others.into_iter().map(|(mut flow, from)| {
            // Some of the layers are those that were there already.
            let names = (from..).map(|number| format!("L{number}"));
            flow.layers.iter_mut().zip(names).for_each(|(layer, name)| layer.name = name.into());
            flow
        });
        let mut world = World {
            flow: flow.clone(), first: &flow, others: others.collect(), updates: Vec::new(), limits, scheduler, log: Vec::new(), alive: Vec::new(), adopting: Vec::new(), resting: Vec::new(), asked: Vec::new(), deaths: 0,
        };
        let mut choices = choices.into_iter().cycle();
        for _ in 0..10_000 {
            world.fulfil_wishes();
            if world.scheduler.ended().is_some() {
                break;
            }
            let (which, how) = choices.next().unwrap();
            world.step(which, how);
        }
        let progress = *world.scheduler.progress();
        prop_assert!(world.scheduler.ended().is_some(), "it never ended: {progress:?}");
        prop_assert_eq!(progress.settled(), progress.total);
        prop_assert!(world.alive.is_empty() && world.adopting.is_empty());

        let replayed = world.replayed();
        prop_assert_eq!(states(&replayed), states(&world.scheduler));
        prop_assert_eq!(replayed.progress(), world.scheduler.progress());
        prop_assert_eq!(&replayed.splits, &world.scheduler.splits, "charges and memory too");
        prop_assert_eq!(&replayed.layers, &world.scheduler.layers);
        prop_assert_eq!((&replayed.sizes, &replayed.each), (&world.scheduler.sizes, &world.scheduler.each));
        prop_assert_eq!(replayed.ended(), world.scheduler.ended());
    }
}
