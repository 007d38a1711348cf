//! Where a layer's function gets from what it reads: the folders of its process, or the scheduler.

use std::collections::BTreeMap;
use std::path::PathBuf;

use laminar_core::flow::Parameters;
use laminar_core::flow::template::Scope;
use laminar_core::scheduler::State;
use serde_json::Value;

use super::artifact::{Artifact, entries};
use super::failure::{Context, Failure, Result};
use super::shards::Shards;
use crate::text::few;

/// Which layer is evaluated, and which attempt of which split of it: what [`task`](super::task) gives to a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The execution's id: 32 hexadecimal digits.
    pub execution: String,
    /// The flow's name.
    pub flow: String,
    /// The layer's name.
    pub layer: String,
    /// Which split, from 0; 0 for a layer without splits.
    pub index: u32,
    /// How many splits there are; 1 for a layer without splits.
    pub splits: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// An artifact where it was found.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    /// A file or folder.
    At(PathBuf),
    /// Only a value.
    Value(Value),
}

impl Stored {
    pub(super) fn read<T: Artifact>(self) -> Result<T> {
        match self {
            Stored::At(path) => T::load(&path),
            Stored::Value(value) => T::from_value(value),
        }
    }

    /// What each split has left.
    pub(super) fn read_all<T: Artifact>(found: Option<Stored>) -> Result<Shards<T>> {
        match found {
            None => Shards::of_folder(None),
            Some(Stored::At(folder)) => Shards::of_folder(Some(&folder)),
            Some(Stored::Value(value)) => Shards::from_value(value),
        }
    }
}

/// What there is to be read.
pub(super) trait Source {
    /// Who reads.
    fn task(&self) -> &Task;

    /// What a layer has left under this name, with its ending; of a foreach layer, what all its splits have left.
    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Stored>>;

    /// What there is in the place of an artifact, in words: what else the layer has left. Nothing if it may be that it was
    /// skipped or caught.
    fn left(&self, layer: &str, name: &str) -> Option<String>;

    /// The split's value of this name.
    fn each(&self, name: &str) -> Result<Value>;

    /// The parameters of these names.
    fn parameters(&self, names: &[String]) -> Result<Parameters>;
}

/// A process of its own, by the layer protocol.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) task: Task,
    pub(super) inputs: PathBuf,
    /// The split's values.
    pub(super) each: BTreeMap<String, Value>,
}

impl Source for Folders {
    fn task(&self) -> &Task {
        &self.task
    }

    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Stored>> {
        let path = self.inputs.join(layer).join(name);
        match path.try_exists().context(format!("cannot look at `{}`", path.display()))? {
            true => Ok(Some(Stored::At(path))),
            false => Ok(None),
        }
    }

    fn left(&self, layer: &str, _: &str) -> Option<String> {
        let paths = entries(&self.inputs.join(layer)).ok()?;
        left(paths.iter().filter_map(|path| path.file_name()?.to_str()))
    }

    fn each(&self, name: &str) -> Result<Value> {
        value_of(&self.each, name)
    }

    fn parameters(&self, names: &[String]) -> Result<Parameters> {
        let folder = self.inputs.join("Parameters");
        names.iter().map(|name| Ok((name.clone(), Value::load(&folder.join(format!("{name}.json")))?))).collect()
    }
}

/// The scheduler, which is asked before there is a process.
#[derive(Debug)]
pub(super) struct Scheduling<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) task: Task,
}

impl<'a> Scheduling<'a> {
    pub(super) fn new(scope: &'a Scope<'a>, flow: &str, layer: &str) -> Scheduling<'a> {
        let task = Task {
            execution: scope.execution.to_string(),
            flow: flow.to_owned(),
            layer: layer.to_owned(),
            index: scope.index,
            splits: scope.splits,
            attempt: scope.attempt,
        };
        Scheduling { scope, task }
    }
}

impl Source for Scheduling<'_> {
    fn task(&self) -> &Task {
        &self.task
    }

    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Stored>> {
        let (Some(layers), Some(name)) = (self.scope.layers, name.strip_suffix(".json")) else {
            return Err(Failure::new(format!("the scheduler cannot read `{layer}/{name}`, which is no value")));
        };
        let Some(datum) = layers.artifact(layer, name)? else { return Ok(None) };
        Ok(Some(Stored::Value(datum.to_json()?)))
    }

    fn left(&self, layer: &str, name: &str) -> Option<String> {
        let layers = self.scope.layers?;
        let may_lack = [State::Skipped.word(), State::Caught.word()].map(Some).contains(&layers.state(layer));
        (!may_lack).then(|| layers.missing(layer, name.strip_suffix(".json").unwrap_or(name)).1)
    }

    fn each(&self, name: &str) -> Result<Value> {
        value_of(self.scope.each, name)
    }

    fn parameters(&self, names: &[String]) -> Result<Parameters> {
        let all = self.scope.parameters;
        Ok(names.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone()))).collect())
    }
}

/// What a layer has left under other names.
pub(super) fn left<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| format!("it left {}", few(names.iter().map(String::as_str), 10)))
}

fn value_of<'m>(each: impl IntoIterator<Item = (&'m String, &'m Value)>, name: &str) -> Result<Value> {
    let found = each.into_iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value.clone()).ok_or_else(|| Failure::new(format!("the split has no value `{name}`")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use laminar_core::flow::template::{Datum, Layers};

    use super::*;

    /// One layer in this state, which left a `score`.
    #[derive(Debug)]
    struct One(State);

    impl Layers for One {
        fn state(&self, _: &str) -> Option<&'static str> {
            Some(self.0.word())
        }

        fn artifact(&self, _: &str, _: &str) -> Result<Option<Datum>, String> {
            Ok(None)
        }

        fn missing(&self, _: &str, name: &str) -> (String, String) {
            (format!("no {name}"), format!("it left `score`, and no `{name}`"))
        }
    }

    #[test]
    fn the_scheduler_tells_of_what_was_left_only_where_something_was_to_be() {
        for (state, left) in [
            (State::Finished, Some("it left `score`, and no `scor`")),
            (State::Cached, Some("it left `score`, and no `scor`")),
            (State::Skipped, None),
            (State::Caught, None),
        ] {
            let (layers, parameters): (Arc<dyn Layers>, _) = (Arc::new(One(state)), Parameters::new());
            let scope = Scope { layers: Some(&layers), ..Scope::of_parameters(&parameters) };
            let source = Scheduling::new(&scope, "Flow", "Reader");
            assert_eq!(source.left("One", "scor.json").as_deref(), left, "{state:?}");
        }
    }
}
