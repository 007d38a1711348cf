//! One flow in the place of another: where its layers stand, and which of them are not what they were.
//!
//! Layers are the same by name. What a layer is, is what its task would be given: values stand in place of expressions, so
//! that a script which says `${{ parameters.x }}` has changed when that parameter has. How it is tried (`retry`, `timeout`)
//! and what it reserves (`cpu`, `memory`) is no part of it, nor when its image is pulled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use super::expression::Settled;
use super::shaping::{Condition, ConditionExpression, Item, Values, ValuesExpression, Written};
use super::{Command, Flow, Layer, Parameters};
use crate::container::Container;
use crate::id::LayerId;

impl Flow {
    /// This flow, with its layers in the places that they have in the one before: those of a name have the same place, new
    /// ones come at the end, and those that are gone keep theirs as retired ones.
    ///
    /// # Panics
    /// When there are more layers than ids.
    #[must_use]
    pub fn aligned(self, before: &Flow) -> Flow {
        let places = (0_u32..).map(LayerId).zip(&before.layers).map(|(id, layer)| (&*layer.name, id));
        let places: HashMap<&str, LayerId> = places.collect();
        let mut end = before.layers.len();
        let mut place = |layer: &Layer| {
            places.get(&*layer.name).copied().unwrap_or_else(|| {
                end += 1;
                LayerId(u32::try_from(end - 1).expect("fewer than 2^32 layers"))
            })
        };
        let ids: Vec<LayerId> = self.layers.iter().map(&mut place).collect();
        let mut layers: Vec<Option<Layer>> = Vec::new();
        layers.resize_with(end, || None);
        for (mut layer, id) in self.layers.into_iter().zip(&ids) {
            layer.needs.iter_mut().for_each(|need| *need = ids[need.at()]);
            layers[id.at()] = Some(layer);
        }
        let retired = |at: usize| retired(&before.layers[at]);
        let layers = layers.into_iter().enumerate().map(|(at, layer)| layer.unwrap_or_else(|| retired(at)));
        Flow { layers: layers.collect(), ..self }
    }

    /// The layers that belong to it, the retired ones left out.
    pub fn active(&self) -> impl Iterator<Item = (LayerId, &Layer)> {
        (0_u32..).map(LayerId).zip(&self.layers).filter(|(_, layer)| !layer.retired)
    }
}

/// What is left of a layer that is not part of the flow any more.
fn retired(layer: &Layer) -> Layer {
    Layer {
        name: Arc::clone(&layer.name),
        needs: Vec::new(),
        command: Command::Argv(Vec::new()),
        env: Arc::default(),
        outputs: None,
        container: Arc::new(Container::default()),
        retry: Default::default(),
        timeout: None,
        catch: Arc::default(),
        limits: Default::default(),
        secrets: Arc::default(),
        backend: layer.backend.clone(),
        when: None,
        foreach: None,
        max_parallel: None,
        open: None,
        cache: None,
        retired: true,
    }
}

/// A flow, and what runs those of its layers that say no backend.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The flow.
    pub flow: &'a Flow,
    /// The backend's name.
    pub backend: &'a str,
}

/// What is different between two flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Layers that are in both, and not what they were.
    pub changed: Vec<Changed>,
    /// Layers that are in the second only.
    pub new: Vec<LayerId>,
    /// Layers that are in the first only.
    pub removed: Vec<LayerId>,
    /// The names of parameters that are not what they were, or are in one of both only.
    pub parameters: Vec<String>,
}

/// A layer that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub layer: LayerId,
    /// What of it; at least one.
    pub parts: Vec<Part>,
}

/// A part of a layer that counts for what it is, by its key in the flow file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys")]
pub enum Part {
    Needs,
    Run,
    Shell,
    Command,
    Env,
    Outputs,
    Catch,
    Container,
    When,
    Foreach,
    Secrets,
    Backend,
}

impl Part {
    /// The key.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Part::Needs => "needs",
            Part::Run => "run",
            Part::Shell => "shell",
            Part::Command => "command",
            Part::Env => "env",
            Part::Outputs => "outputs",
            Part::Catch => "catch",
            Part::Container => "container",
            Part::When => "when",
            Part::Foreach => "foreach",
            Part::Secrets => "secrets",
            Part::Backend => "backend",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is different in the second flow, which is aligned with the first.
#[must_use]
pub fn changes(before: Side<'_>, after: Side<'_>) -> Changes {
    let mut changes = Changes::default();
    for (id, layer) in (0_u32..).map(LayerId).zip(&after.flow.layers) {
        let old = before.flow.layers.get(id.at()).filter(|old| !old.retired);
        match (old, layer.retired) {
            (Some(old), false) => {
                let parts = parts(before, old, after, layer);
                if !parts.is_empty() {
                    changes.changed.push(Changed { layer: id, parts });
                }
            }
            (Some(_), true) => changes.removed.push(id),
            (None, false) => changes.new.push(id),
            (None, true) => {}
        }
    }
    let (old, new): (&Parameters, &Parameters) = (&before.flow.parameters, &after.flow.parameters);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    changes.parameters = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    changes
}

fn parts(before: Side<'_>, old: &Layer, after: Side<'_>, new: &Layer) -> Vec<Part> {
    let (was, is) = (&*before.flow.parameters, &*after.flow.parameters);
    let command = match (&old.command, &new.command) {
        (Command::Script { shell, script }, Command::Script { shell: shell_now, script: script_now }) => {
            if script.settle(was) != script_now.settle(is) {
                Some(Part::Run)
            } else {
                (shell != shell_now).then_some(Part::Shell)
            }
        }
        (Command::Argv(words), Command::Argv(words_now)) => {
            let settled = |words: &[super::Template], parameters| -> Vec<_> {
                words.iter().map(|word| word.settle(parameters)).collect()
            };
            (settled(words, was) != settled(words_now, is)).then_some(Part::Command)
        }
        (_, Command::Script { .. }) => Some(Part::Run),
        (_, Command::Argv(_)) => Some(Part::Command),
    };
    let needs = |layer: &Layer| layer.needs.iter().copied().collect::<BTreeSet<_>>();
    let outputs = |layer: &Layer| layer.outputs.as_ref().map(|names| names.iter().cloned().collect::<BTreeSet<_>>());
    let catch = |layer: &Layer| layer.catch.iter().copied().collect::<BTreeSet<_>>();
    // What they are called is what a layer can tell them by; where they come from is the caller's business.
    let secrets = |layer: &Layer| layer.secrets.iter().map(|secret| secret.name.clone()).collect::<BTreeSet<_>>();
    let backend = |layer: &Layer, side: Side<'_>| layer.backend.as_deref().unwrap_or(side.backend).to_owned();
    let said = [
        (needs(old) != needs(new)).then_some(Part::Needs),
        command,
        (env(old, was) != env(new, is)).then_some(Part::Env),
        (outputs(old) != outputs(new)).then_some(Part::Outputs),
        (catch(old) != catch(new)).then_some(Part::Catch),
        (old.container.place() != new.container.place()).then_some(Part::Container),
        (open(old, was) != open(new, is)).then_some(Part::Container),
        (when(old, was) != when(new, is)).then_some(Part::When),
        (foreach(old, was) != foreach(new, is)).then_some(Part::Foreach),
        (secrets(old) != secrets(new)).then_some(Part::Secrets),
        (backend(old, before) != backend(new, after)).then_some(Part::Backend),
    ];
    let mut parts: Vec<Part> = said.into_iter().flatten().collect();
    parts.dedup();
    parts
}

/// What of a container each attempt has its own of, as for [`Container::place`].
fn open(layer: &Layer, parameters: &Parameters) -> Vec<(String, Kept)> {
    let keys = layer.open.iter().flat_map(|open| &open.container);
    let keys = keys.filter(|(key, _)| !matches!(key.as_str(), "cpu" | "memory"));
    let mut keys: Vec<_> = keys.map(|(key, written)| (key.clone(), kept(written, parameters))).collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys
}

/// A value with expressions, as far as it is known.
#[derive(PartialEq)]
enum Kept {
    Plain(serde_json::Value),
    Settled(Vec<Settled>),
    Several(Vec<(String, Kept)>),
}

fn kept(written: &Written, parameters: &Parameters) -> Kept {
    match written {
        Written::Plain(value) => Kept::Plain(value.clone()),
        Written::Text(template) => Kept::Settled(template.settle(parameters)),
        Written::List(items) => {
            Kept::Several(items.iter().map(|item| (String::new(), kept(item, parameters))).collect())
        }
        Written::Map(entries) => {
            Kept::Several(entries.iter().map(|(name, item)| (name.clone(), kept(item, parameters))).collect())
        }
    }
}

fn when(layer: &Layer, parameters: &Parameters) -> Option<Kept> {
    Some(match layer.when.as_deref()? {
        Condition::Literal(holds) => Kept::Plain((*holds).into()),
        Condition::Expression(ConditionExpression(expression)) => Kept::Settled(vec![expression.settle(parameters)]),
    })
}

fn foreach(layer: &Layer, parameters: &Parameters) -> Option<Kept> {
    let settled = |values: &ValuesExpression| Kept::Settled(vec![values.0.settle(parameters)]);
    let item = |item: &Item| match item {
        Item::Value(value) => Kept::Plain(value.clone()),
        Item::Expression(expression) => settled(expression),
        Item::Template(template) => Kept::Settled(template.settle(parameters)),
    };
    let names = layer.foreach.as_ref()?.0.iter().map(|(name, values)| {
        let values = match values {
            Values::List(items) => Kept::Several(items.iter().map(|one| (String::new(), item(one))).collect()),
            Values::Given(given) => item(given),
            Values::Expression(expression) => settled(expression),
        };
        (name.to_string(), values)
    });
    Some(Kept::Several(names.collect()))
}

/// Of two equal names the last counts.
fn env<'a>(layer: &'a Layer, parameters: &Parameters) -> BTreeMap<&'a str, Vec<Settled>> {
    layer.env.iter().map(|(name, value)| (name.as_str(), value.settle(parameters))).collect()
}

#[cfg(test)]
mod tests;
