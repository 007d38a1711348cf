//! Random flows, exits and interleavings.

use std::collections::BTreeSet;

use proptest::prelude::*;

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
    );
    (prop::collection::vec(layer, 1..40), prop::bool::ANY).prop_map(|(layers, stop)| {
        let mut flow = flow_with(layers.iter().enumerate().map(|(id, (needs, ..))| {
            let needs = needs.iter().filter(|_| id > 0).map(|need| need.index(id.max(1)) as u32);
            needs.collect::<BTreeSet<_>>().into_iter().collect()
        }));
        for (layer, (_, attempts, cpu_millis, memory, catches, factor)) in flow.layers.iter_mut().zip(layers) {
            layer.retry.attempts = attempts;
            layer.retry.memory = factor;
            layer.retry.only = catches.then(|| [crate::flow::On::OutOfMemory, crate::flow::On::Outputs].into());
            layer.catch = if catches { vec![3] } else { Vec::new() };
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
    deaths: u32,
}

impl World<'_> {
    fn happen(&mut self, event: Event) {
        self.scheduler.apply(&event).unwrap();
        self.log.push(event);
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
                Action::Open(_) | Action::Recall(_) | Action::Size(_) => unreachable!(),
                Action::End(outcome) => self.happen(Event::ExecutionEnded { outcome }),
            }
        }
    }

    fn launch(&mut self, attempt: Attempt) {
        assert!(!self.flow.layer(attempt.split.layer).retired, "it is no part of the flow");
        for need in &self.flow.layer(attempt.split.layer).needs {
            let state = self.scheduler.state(Split { layer: *need, index: 0 });
            assert!(matches!(state, Some(State::Finished | State::Caught)), "it starts before what it needs");
        }
        assert!(!self.alive.iter().any(|other| other.split == attempt.split), "it runs beside itself");
        self.happen(launched(attempt));
        self.alive.push(attempt);
        assert!(self.alive.len() <= self.limits.jobs as usize);
        let cores = self.alive.iter().filter_map(|attempt| self.flow.layer(attempt.split.layer).container.cpu_millis);
        // What runs while the flow is updated may ask for more than it did when it was launched.
        let is_updated = !self.updates.is_empty();
        assert!(is_updated || cores.sum::<u64>() <= self.limits.cpu_millis);
        let given = |attempt: &Attempt| self.scheduler.memory(attempt.split).map(|memory| memory.granted);
        assert!(is_updated || self.alive.iter().filter_map(given).sum::<u64>() <= self.limits.memory);
        let layer = self.flow.layer(attempt.split.layer);
        let ends = self.log.iter().filter_map(|event| match event {
            Event::AttemptExited { attempt: other, exit } if other.split == attempt.split => Some(&exit.cause),
            _ => None,
        });
        let failures = ends.filter(|cause| **cause == Cause::OutOfMemory).count() as u32;
        let wanted =
            layer.container.memory.filter(|base| *base > 0).map(|base| layer.retry.memory_after(base, failures));
        assert_eq!(given(&attempt), wanted.map(|wanted| wanted.min(self.limits.memory)), "as the log says");
    }

    /// Another scheduler takes over: it knows what the log says, and finds what runs. It may have another flow.
    fn die(&mut self, which: usize) {
        self.deaths += 1;
        let state_of = |scheduler: &Scheduler| -> Vec<_> {
            (0..scheduler.layers.len() as u32).map(|layer| scheduler.state(split(layer)).unwrap()).collect()
        };
        let before = state_of(&self.scheduler);
        self.scheduler = self.replayed();
        assert_eq!(state_of(&self.scheduler), before);
        let mut again: Vec<LayerId> = self.flow.active().map(|(id, _)| id).collect();
        again = if which.is_multiple_of(2) { vec![again[which % again.len()]] } else { vec![] };
        let update = self.others.pop().map(|next| next.aligned(&self.flow));
        if let Some(next) = &update {
            let side = |flow| crate::flow::Side { flow, backend: "local" };
            again.retain(|id| !next.layer(*id).retired);
            again
                .extend(crate::flow::changes(side(&self.flow), side(next)).changed.iter().map(|changed| changed.layer));
            self.scheduler.learn(Planned::new(next.clone()).unwrap());
        }
        let number = update.as_ref().map(|_| self.updates.len() as u32 + 1);
        if self.scheduler.under_way(&again, number).is_some() {
            let event = Event::ExecutionResumed { again, update: number };
            self.scheduler.apply(&event).unwrap_err();
            assert_eq!(state_of(&self.scheduler), before, "what is refused changes nothing");
            self.scheduler = self.replayed();
            self.happen(Event::ExecutionResumed { again: Vec::new(), update: None });
            assert!(
                state_of(&self.scheduler)
                    .iter()
                    .zip(&before)
                    .all(|(now, then)| now == then || *then != State::Finished)
            );
        } else {
            if let Some(next) = update {
                self.updates.push(Planned::new(next.clone()).unwrap());
                self.flow = next;
            }
            self.happen(Event::ExecutionResumed { again: again.clone(), update: number });
            let mut touched = again;
            let plan = Plan::new(&self.flow).unwrap();
            while let Some(id) = touched.pop() {
                assert!(matches!(
                    self.scheduler.state(Split { layer: id, index: 0 }),
                    Some(State::Waiting | State::Ready)
                ));
                touched.extend(plan.dependants(id));
            }
            for ((id, layer), was) in self.flow.layers.iter().enumerate().zip(before) {
                let is = self.scheduler.state(split(id as u32)).unwrap();
                assert_eq!(layer.retired, is == State::Skipped);
                let is_new = matches!(is, State::Waiting | State::Ready);
                assert!(was != State::Finished || layer.retired || is_new || is == was, "what has finished stays so");
            }
        }
        assert!(self.alive.iter().all(|attempt| self.scheduler.is_alive(*attempt)), "what runs is not forgotten");
        self.adopting.clear(); // it is wished for once more
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
        let choices = self.alive.len() + self.adopting.len() + self.resting.len();
        if how == 255 {
            return self.happen(Event::CancelRequested { force: which.is_multiple_of(2) });
        }
        if (245..255).contains(&how) && self.deaths < 4 {
            return self.die(which);
        }
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
            flow: flow.clone(), first: &flow, others: others.collect(), updates: Vec::new(), limits, scheduler, log: Vec::new(), alive: Vec::new(), adopting: Vec::new(), resting: Vec::new(), deaths: 0,
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
        for layer in 0..world.flow.layers.len() as u32 {
            prop_assert_eq!(replayed.state(split(layer)), world.scheduler.state(split(layer)));
        }
        prop_assert_eq!(replayed.progress(), world.scheduler.progress());
        prop_assert_eq!(&replayed.splits, &world.scheduler.splits, "charges and memory too");
        prop_assert_eq!(replayed.ended(), world.scheduler.ended());
    }
}
