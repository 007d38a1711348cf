//! Random flows, and what their layers do: how each attempt lasts, ends and what it leaves is known before it runs, so the
//! end of an undisturbed execution is known too.

use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::Container;
use laminar_core::executor::Cause;
use laminar_core::fake::flow_with;
use laminar_core::flow::problem::{Format, Source};
use laminar_core::flow::{Failure, Flow, Layer, On, OnFailure, Retry, file};
use laminar_core::id::LayerId;
use laminar_core::plan::Plan;

use crate::dice::{Dice, mix};
use crate::model::Files;
use crate::shapes::{self, Known, Shape};

/// The exit code that layers catch, where they do.
const CAUGHT: i32 = 3;

/// A flow with a part for each layer.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    /// Whether tasks stand in line at its executor.
    pub(crate) keeps_line: bool,
    pub(crate) flow: Arc<Flow>,
    pub(crate) plan: Arc<Plan>,
    /// Its layers, each behind all that it needs.
    pub(crate) order: Vec<LayerId>,
    pub(crate) parts: Vec<Part>,
    pub(crate) shapes: Vec<Shape>,
    /// One split in so many never ends well.
    hopeless: u64,
    /// The most that a layer asks for.
    pub(crate) cpu_millis: u64,
    pub(crate) memory: u64,
}

/// What a layer does.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it leaves when it ends well.
    pub(crate) names: Vec<String>,
    /// How much longer than a moment it may last, in milliseconds.
    long: u64,
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
        // What leaves nothing and asks for nothing is followed at once, where many have been quick.
        let is_bare = dice.one_in(6);
        let more = if is_bare { 12 } else { 0 };
        let count = (dice.between(1, most) + more).min(most_layers.unwrap_or(u64::MAX)).max(1);
        let (mut flow, plan, mut parts, shapes) = shaped(&mut dice, count, is_bare);
        flow.on_failure = dice.pick(&[OnFailure::Stop, OnFailure::Continue]);
        flow.max_parallel = dice.one_in(4).then(|| dice.below(4) as u32 + 1);
        let hopeless = dice.pick(&[0, 0, 4, 10]);
        let (mut cpu_millis, mut memory) = (0, 0);
        for (layer, part) in flow.layers.iter_mut().zip(&mut parts) {
            layer.retry = Retry {
                attempts: dice.pick(&[1, 1, 2, 3, 4]),
                delay: Duration::from_millis(dice.moment()),
                backoff: dice.pick(&[1.0, 1.5, 2.0]),
                jitter: dice.pick(&[0.0, 0.1, 1.0]),
                max_delay: dice.one_in(4).then(|| Duration::from_millis(dice.moment())),
                only: dice.one_in(6).then(|| ends(&mut dice)),
                memory: dice.one_in(4).then_some(2.0),
                max_memory: dice.one_in(2).then(|| dice.between(1, 16) << 28),
            }
            .into();
            layer.timeout = dice.one_in(4).then(|| Duration::from_millis(1 + dice.moment()));
            if dice.one_in(4) {
                layer.catch = [CAUGHT].into();
            }
            if !is_bare && dice.one_in(3) {
                let container = Container {
                    cpu_millis: dice.one_in(2).then(|| dice.pick(&[500, 1000, 2000, 4000])),
                    memory: dice.one_in(2).then(|| dice.between(1, 8) << 28),
                    ..Container::default()
                };
                cpu_millis = cpu_millis.max(container.cpu_millis.unwrap_or(0));
                memory = memory.max(container.memory.unwrap_or(0));
                layer.container = Arc::new(container);
            }
            part.long = dice.pick(&[0, 0, 0, 20_000]);
            if !part.names.is_empty() && dice.one_in(2) {
                let top = |name: &String| name.split('/').next().unwrap_or_default().to_owned();
                layer.outputs = Some(part.names.iter().map(top).collect());
            }
        }
        let order = plan.levels().into_iter().flatten().collect();
        let keeps_line = Dice::new(seed, 7).one_in(2);
        Case {
            seed,
            keeps_line,
            flow: Arc::new(flow),
            order,
            plan: Arc::new(plan),
            parts,
            shapes,
            hopeless,
            cpu_millis,
            memory,
        }
    }

    /// What a split does when so many attempts were charged before.
    pub(crate) fn steps(&self, layer: u32, index: u32) -> Vec<Step> {
        let mut dice = Dice::new(self.seed ^ mix(u64::from(layer) << 32 | u64::from(index)), 4);
        steps(&mut dice, self.flow.layer(LayerId(layer)), self.parts[layer as usize].long, self.hopeless)
    }

    /// Whether a split ends well in the end when nothing disturbs it.
    pub(crate) fn can_finish(&self, layer: LayerId, index: u32) -> bool {
        let (spec, shape) = (self.flow.layer(layer), &self.shapes[layer.at()]);
        let is_huge = |size: &Option<shapes::Size>| matches!(size, Some(shapes::Size::Huge));
        if is_huge(&shape.memory) || is_huge(&shape.cpu) {
            return false;
        }
        for step in &self.steps(layer.0, index) {
            if step.is_good(&spec.catch, spec.timeout) {
                return true;
            }
            if !spec.retry.covers(step.failure(spec.timeout)) {
                return false;
            }
        }
        false
    }

    /// Whether what attempts ask for is found out only before they start.
    pub(crate) fn is_sized(&self) -> bool {
        self.shapes.iter().any(Shape::is_sized)
    }

    /// Whether executions of the flow may have something of earlier ones.
    pub(crate) fn is_cached(&self) -> bool {
        self.shapes.iter().any(|shape| shape.cached)
    }
}

/// A flow of so many layers, read from the text of a flow file, with what its layers leave and what shapes them.
fn shaped(dice: &mut Dice, count: u64, is_bare: bool) -> (Flow, Plan, Vec<Part>, Vec<Shape>) {
    let needs = needs(dice, count);
    // A chain of ids that the generator cannot have made in a circle.
    #[expect(clippy::expect_used, reason = "layers need only what was put before them")]
    let plan = Plan::new(&flow_with(needs.iter().cloned())).expect("no cycle");
    let is_plain = is_bare || dice.one_in(4);
    let mut parts = vec![Part { names: Vec::new(), long: 0 }; needs.len()];
    let mut shapes = vec![Shape::default(); needs.len()];
    for id in plan.levels().into_iter().flatten() {
        if !is_plain {
            let known = |need: u32| Known { shape: &shapes[need as usize], names: &parts[need as usize].names };
            shapes[id.at()] = shapes::draw(dice, &needs[id.at()], known);
        }
        if !is_bare || dice.one_in(6) {
            parts[id.at()].names = names(dice, is_plain);
        }
    }
    let layers = shapes.iter().zip(&needs).enumerate();
    let layers = layers.map(|(at, (shape, needs))| (format!("L{at}"), shapes::written(shape, needs)));
    let text = serde_json::json!({ "flow": "Simulated", "layers": layers.collect::<serde_json::Map<_, _>>() });
    let source = Source { name: "flow.json".to_owned(), text: text.to_string().into(), format: Format::Json };
    let flow = match file::parse(&source, &[]) {
        Ok(flow) => flow,
        Err(problems) => {
            let problems: Vec<_> = problems.list.iter().map(|problem| &problem.message).collect();
            panic!("the generator has made a flow that is none: {problems:?}\n{text:#}")
        }
    };
    (flow, plan, parts, shapes)
}

/// What a layer leaves, in byte order.
fn names(dice: &mut Dice, is_plain: bool) -> Vec<String> {
    let texts = dice.pick(&[0, 0, 1, 1, 2]);
    let values = ["flag.json", "folder", "list.json"].into_iter().filter(|_| !is_plain && dice.one_in(2));
    let mut names: Vec<String> = values.map(str::to_owned).collect();
    names.extend((0..texts).map(|number| format!("name{number}")));
    if !is_plain && dice.one_in(2) {
        names.push("size.json".to_owned());
    }
    names
}

/// The bytes of an artifact: they tell the split, how often it had published before, and all that it has read.
pub(crate) fn content(
    seed: u64,
    (layer, index, published): (u32, u32, u32),
    name: &str,
    read: &[String],
    left: &mut Files,
) {
    let mut hash = mix(seed ^ mix(u64::from(layer) << 40 ^ u64::from(index) << 16 ^ u64::from(published)));
    for word in std::iter::once(name).chain(read.iter().map(String::as_str)) {
        for byte in word.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(23);
        }
    }
    let hash = mix(hash);
    let text = match name {
        "flag.json" if hash.is_multiple_of(16) => "7".to_owned(),
        "flag.json" => (!hash.is_multiple_of(3)).to_string(),
        "size.json" => (100 + hash % 900).to_string(),
        "list.json" => {
            let items = (0..hash % 4).map(|at| match hash >> (8 * at + 8) & 0xFF {
                byte if byte % 2 == 0 => serde_json::json!(byte),
                byte => serde_json::json!(format!("item {byte}")),
            });
            serde_json::Value::from_iter(items).to_string()
        }
        "folder" => {
            left.insert("folder/".to_owned(), String::new());
            left.extend((0..hash % 4).map(|at| (format!("folder/entry{at}"), format!("{:016x}", mix(hash ^ at)))));
            return;
        }
        _ => format!("{hash:016x}"),
    };
    left.insert(name.to_owned(), text);
}

/// What each layer needs. Needs mostly come first, but the order of the flow file is the user's.
fn needs(dice: &mut Dice, count: u64) -> Vec<Vec<u32>> {
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

fn steps(dice: &mut Dice, layer: &Layer, long: u64, hopeless: u64) -> Vec<Step> {
    let good = if dice.one_in(hopeless) { u32::MAX } else { dice.below(u64::from(layer.retry.attempts)) as u32 };
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
    steps
}
