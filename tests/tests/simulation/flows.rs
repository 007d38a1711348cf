//! Random flows, and what their layers do: how each attempt lasts, ends and what it leaves is known before it runs, so the
//! end of an undisturbed execution is known too.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::Container;
use laminar_core::executor::Cause;
use laminar_core::fake::flow_with;
use laminar_core::flow::{Failure, Flow, On, OnFailure, Retry};
use laminar_core::id::LayerId;
use laminar_core::plan::Plan;

use crate::dice::{Dice, mix};

/// The exit code that layers catch, where they do.
const CAUGHT: i32 = 3;

/// A flow with a part for each layer.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) flow: Arc<Flow>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) parts: Vec<Part>,
    /// The most that a layer asks for.
    pub(crate) cpu_millis: u64,
    pub(crate) memory: u64,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it does when so many attempts were charged before.
    pub(crate) steps: Vec<Step>,
    /// What it leaves when it ends well.
    pub(crate) names: Vec<String>,
}

/// What one attempt does.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) lasts_ms: u64,
    /// How it ends, unless it is stopped or its time is up.
    pub(crate) cause: Cause,
    pub(crate) leaves: Leaves,
    /// How long after TERM it ends; nothing for one that waits for KILL.
    pub(crate) obeys_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// All it is to leave.
    All,
    /// Not what it promised.
    Less,
    /// Something that cannot be an artifact.
    Rubbish,
    Nothing,
}

impl Step {
    /// Whether the attempt ends well when nothing disturbs it.
    fn is_good(&self, catch: &[i32], timeout: Option<Duration>) -> bool {
        let code = match self.cause {
            Cause::Code(code) => code,
            _ => return false,
        };
        let in_time = timeout.is_none_or(|timeout| Duration::from_millis(self.lasts_ms) <= timeout);
        (code == 0 || catch.contains(&code)) && self.leaves == Leaves::All && in_time
    }
}

impl Step {
    /// How it fails when nothing disturbs it.
    fn failure(&self, timeout: Option<Duration>) -> Failure<'_> {
        match self.cause {
            _ if timeout.is_some_and(|timeout| Duration::from_millis(self.lasts_ms) > timeout) => {
                Failure::Exit(&Cause::TimedOut)
            }
            Cause::Code(0) => Failure::Rejected,
            _ => Failure::Exit(&self.cause),
        }
    }
}

/// Some of the ends after which a layer is tried again.
fn ends(dice: &mut Dice) -> Arc<[On]> {
    let all = [On::OutOfMemory, On::TimedOut, On::Signal, On::Lost, On::Engine, On::Outputs, On::Codes(1, 2)];
    all.into_iter().filter(|_| dice.below(3) > 0).collect()
}

impl Case {
    /// The case of a seed, with at most this many layers.
    pub(crate) fn new(seed: u64, most_layers: Option<u64>) -> Case {
        let mut dice = Dice::new(seed, 1);
        let most = dice.pick(&[2, 4, 4, 6, 8, 8, 12, 24]);
        let count = dice.between(1, most).min(most_layers.unwrap_or(u64::MAX)).max(1);
        let mut flow = flow_with(shape(&mut dice, count));
        flow.on_failure = dice.pick(&[OnFailure::Stop, OnFailure::Continue]);
        flow.max_parallel = dice.one_in(4).then(|| dice.below(4) as u32 + 1);
        let hopeless = dice.pick(&[0, 0, 4, 10]);
        let mut parts = Vec::new();
        let (mut cpu_millis, mut memory) = (0, 0);
        for layer in &mut flow.layers {
            layer.retry = Retry {
                attempts: dice.pick(&[1, 1, 2, 3, 4]),
                delay: Duration::from_millis(dice.moment()),
                backoff: dice.pick(&[1.0, 1.5, 2.0]),
                jitter: dice.pick(&[0.0, 0.1, 1.0]),
                max_delay: dice.one_in(4).then(|| Duration::from_millis(dice.moment())),
                only: dice.one_in(6).then(|| ends(&mut dice)),
                memory: dice.one_in(4).then_some(2.0),
                max_memory: dice.one_in(2).then(|| dice.between(1, 16) << 28),
            };
            layer.timeout = dice.one_in(4).then(|| Duration::from_millis(1 + dice.moment()));
            if dice.one_in(4) {
                layer.catch = vec![CAUGHT];
            }
            if dice.one_in(3) {
                let container = Container {
                    cpu_millis: dice.one_in(2).then(|| dice.pick(&[500, 1000, 2000, 4000])),
                    memory: dice.one_in(2).then(|| dice.between(1, 8) << 28),
                    ..Container::default()
                };
                cpu_millis = cpu_millis.max(container.cpu_millis.unwrap_or(0));
                memory = memory.max(container.memory.unwrap_or(0));
                layer.container = Arc::new(container);
            }
            let part = part(&mut dice, layer, hopeless);
            if !part.names.is_empty() && dice.one_in(2) {
                layer.outputs = Some(part.names.clone());
            }
            parts.push(part);
        }
        // A chain of ids that the generator cannot have made in a circle.
        #[expect(clippy::expect_used, reason = "layers need only what was put before them")]
        let plan = Plan::new(&flow).expect("no cycle");
        Case { seed, flow: Arc::new(flow), plan: Arc::new(plan), parts, cpu_millis, memory }
    }

    /// Whether a layer ends well in the end when nothing disturbs it.
    pub(crate) fn can_finish(&self, layer: LayerId) -> bool {
        let (spec, part) = (self.flow.layer(layer), &self.parts[layer.at()]);
        for step in &part.steps {
            if step.is_good(&spec.catch, spec.timeout) {
                return true;
            }
            if !spec.retry.covers(step.failure(spec.timeout)) {
                return false;
            }
        }
        false
    }

    /// Which layers finish when nothing disturbs them, and nothing that fails stops the others.
    pub(crate) fn finishers(&self) -> Vec<bool> {
        let mut finishes = vec![false; self.parts.len()];
        for level in self.plan.levels() {
            for layer in level {
                let fed = self.plan.needs(layer).iter().all(|need| finishes[need.at()]);
                finishes[layer.at()] = fed && self.can_finish(layer);
            }
        }
        finishes
    }
}

/// The bytes of an artifact: they tell the layer, how often it had published before, and all that it has read.
pub(crate) fn content<'a>(
    seed: u64,
    layer: u32,
    published: u32,
    name: &'a str,
    read: impl Iterator<Item = &'a str>,
) -> String {
    let mut hash = mix(seed ^ mix(u64::from(layer) << 32 | u64::from(published)));
    for word in std::iter::once(name).chain(read) {
        for byte in word.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(23);
        }
    }
    format!("{:016x}", mix(hash))
}

/// What each layer needs. Needs mostly come first, but the order of the flow file is the user's.
fn shape(dice: &mut Dice, count: u64) -> Vec<Vec<u32>> {
    let kind = dice.below(5);
    let width = dice.between(1, 4);
    let mut needs: Vec<Vec<u64>> = Vec::new();
    for layer in 0..count {
        needs.push(match kind {
            0 => Vec::new(),
            1 => layer.checked_sub(1).into_iter().collect(),
            2 if layer == 0 => Vec::new(),
            2 if layer + 1 == count => (1..layer).collect(),
            2 => vec![0],
            3 => {
                let before = (layer / width).checked_sub(1).map(|row| row * width);
                let all = before.into_iter().flat_map(|start| start..start + width);
                all.filter(|_| dice.below(3) > 0).collect()
            }
            _ => (0..layer).filter(|_| dice.one_in(3)).collect(),
        });
    }
    let mut places: Vec<u64> = (0..count).collect();
    if dice.one_in(3) {
        for at in (1..places.len()).rev() {
            places.swap(at, dice.below(at as u64 + 1) as usize);
        }
    }
    let mut placed = vec![Vec::new(); needs.len()];
    for (layer, needs) in needs.into_iter().enumerate() {
        placed[places[layer] as usize] = needs.into_iter().map(|need| places[need as usize] as u32).collect();
    }
    placed
}

fn part(dice: &mut Dice, layer: &laminar_core::flow::Layer, hopeless: u64) -> Part {
    let names: Vec<String> = (0..dice.pick(&[0, 0, 1, 1, 2])).map(|number| format!("name{number}")).collect();
    let good = if dice.one_in(hopeless) { u32::MAX } else { dice.below(u64::from(layer.retry.attempts)) as u32 };
    let long = dice.pick(&[0, 0, 0, 20_000]);
    let steps = (0..layer.retry.attempts).map(|charged| {
        let lasts_ms = dice.moment() + dice.below(long + 1);
        let lasts_ms = match layer.timeout {
            // So that the layer can end well.
            Some(timeout) if charged >= good => dice.below(timeout.as_millis() as u64 + 1),
            _ => lasts_ms,
        };
        let (cause, leaves) = if charged >= good {
            let code = if layer.catch.is_empty() || dice.one_in(2) { 0 } else { CAUGHT };
            (Cause::Code(code), Leaves::All)
        } else {
            match dice.below(8) {
                0 => (Cause::Signal(9), Leaves::All),
                1 => (Cause::OutOfMemory, Leaves::Rubbish),
                2 => (Cause::NotFound, Leaves::Nothing),
                3 => (Cause::EngineFailed, Leaves::Nothing),
                4 => (Cause::Code(0), Leaves::Rubbish),
                5 => (Cause::Code(2), Leaves::Less),
                _ => (Cause::Code(1), dice.pick(&[Leaves::All, Leaves::Rubbish, Leaves::Nothing])),
            }
        };
        let obeys_ms = (!dice.one_in(4)).then(|| dice.latency());
        Step { lasts_ms, cause, leaves, obeys_ms }
    });
    let mut steps: Vec<Step> = steps.collect();
    // Where it would not be tried again it never ends well after: an attempt that a fault has cost must not help it.
    let last = steps.iter().position(|step| {
        !step.is_good(&layer.catch, layer.timeout) && !layer.retry.covers(step.failure(layer.timeout))
    });
    if let Some(last) = last {
        let same = steps[last].clone();
        steps[last..].fill(same);
    }
    Part { steps, names }
}
