//! A flow: layers and what they need, as a user declared it, checked and ready to be planned.
//!
//! It is unaware of executions, executors and files on disk (but for [`mod@file`], which reads the flow file). All names are
//! resolved, all defaults merged, all units parsed; what is wrong was reported as [`problem::Problem`]s and never gets here.

use std::sync::Arc;
use std::time::Duration;

use crate::container::Container;
use crate::id::LayerId;

mod answers;
mod backend;
mod check;
mod expression;
pub mod file;
mod filters;
mod left;
mod locate;
mod marked;
mod name;
pub mod problem;
mod raw;
mod retry;
mod secret;
mod shape;
mod shaping;
mod shell;
pub mod template;
mod update;

pub use answers::Answers;
pub use backend::Known;
pub use retry::{Failure, On, Retry};
pub use secret::{Secret, SecretSource};
pub use shaping::{
    Cache, Condition, ConditionExpression, Foreach, ForeachError, Ignored, Item, Open, Shard, Shards, Values,
    ValuesExpression, Written,
};
pub use template::{Script, Template};
pub use update::{Changed, Changes, Part, Side, changes};

/// A checked flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its name.
    pub name: Arc<str>,
    /// Its parameters, with the values of this execution.
    pub parameters: Arc<Parameters>,
    /// Its layers, in the order of the flow file; [`LayerId`] is the place in this list.
    /// Of an updated flow: in the order in which they came, see [`Flow::aligned`].
    pub layers: Vec<Layer>,
    /// What a failed layer means for the others.
    pub on_failure: OnFailure,
    /// The most tasks that may run at once, whatever the command line allows.
    pub max_parallel: Option<u32>,
    /// What runs the layers, if it says; what the command line says counts more. See [`file::unknown_backends`].
    pub backend: Option<Arc<str>>,
    /// Options of backends, by the backends' names: names and values as they are written.
    pub backends: Vec<(String, Vec<(String, String)>)>,
    /// Who answers `program.x`: the program that the flow belongs to, in which it runs. No file has it.
    pub answers: Option<Arc<dyn Answers>>,
}

impl Flow {
    /// The layer with this id.
    ///
    /// # Panics
    /// When the id is not of this flow.
    #[must_use]
    pub fn layer(&self, id: LayerId) -> &Layer {
        &self.layers[id.at()]
    }
}

/// Parameters by name, in the order declared: JSON values.
pub type Parameters = serde_json::Map<String, serde_json::Value>;

/// What a failed layer means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing new starts; what runs may finish.
    #[default]
    Stop,
    /// Everything that does not need the failed layer runs.
    Continue,
}

/// One layer. There may be a million, so what most say nothing of is small: shared with the defaults, or behind a pointer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name, an identifier.
    pub name: Arc<str>,
    /// The layers it needs, each once.
    pub needs: Vec<LayerId>,
    /// What it runs.
    pub command: Command,
    /// Its variables: `container.env`, then `env`, the defaults' before its own; the last of two equal names counts.
    pub env: Arc<[(String, Template)]>,
    /// The artifacts it must leave, if it says.
    pub outputs: Option<Vec<String>>,
    /// Where and with what limits it runs.
    pub container: Arc<Container>,
    /// How often it is tried.
    pub retry: Arc<Retry>,
    /// How long one attempt may run.
    pub timeout: Option<Duration>,
    /// Exit codes that count as finished ("caught").
    pub catch: Arc<[i32]>,
    /// How much an attempt may leave and print, where it says so.
    pub limits: Arc<LayerLimits>,
    /// Whether it runs, if that is asked. Then it is asked also when something that it needs was skipped.
    pub when: Option<Box<Condition>>,
    /// How it is fanned out; a layer without has one split.
    pub foreach: Option<Box<Foreach>>,
    /// The most splits of it that may run at once.
    pub max_parallel: Option<u32>,
    /// What of `container` and `timeout` each attempt has its own of.
    pub open: Option<Arc<Open>>,
    /// Whether it is cached.
    pub cache: Option<Arc<Cache>>,
    /// The secrets that it finds as files in the folder `LAMINAR_SECRETS`; each name once.
    pub secrets: Arc<[Secret]>,
    /// What runs it, if it says so itself: then nothing else counts.
    pub backend: Option<Arc<str>>,
    /// Whether an update has taken it out of the flow: only its place is left. Nothing needs it, and it never runs.
    pub retired: bool,
}

/// How much an attempt may leave and print; what is not said is for those to decide who keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerLimits {
    /// How many files, folders and links its outputs may have.
    pub files: Option<u64>,
    /// How many bytes those files may have together.
    pub outputs: Option<u64>,
    /// How many bytes of its log are kept.
    pub log: Option<u64>,
}

impl Layer {
    /// Whether it is known from the start in which image it runs and what is mounted there; else each attempt tells.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        let is_place = |(key, _): &(String, Written)| matches!(key.as_str(), "image" | "mounts" | "platform");
        !self.open.iter().flat_map(|open| &open.container).any(is_place)
    }

    /// Whether an attempt's settings name what layers left, so that evaluating them may take reading it.
    #[must_use]
    pub fn reads(&self) -> bool {
        file::attempt_expressions(self).any(expression::Expression::reads)
    }

    /// Whether what an attempt does depends on what no execution keeps: variables of the environment that expressions name,
    /// and sources beside the inputs.
    #[must_use]
    pub fn looks_outside(&self) -> bool {
        let has_sources = self.cache.as_ref().is_some_and(|cache| !cache.sources.is_empty());
        let names_env = |expression: &expression::Expression| expression.names().iter().any(|name| name.root == "env");
        has_sources || file::attempt_expressions(self).any(names_env)
    }
}

/// What a layer runs.
#[derive(Clone, Debug)]
pub enum Command {
    /// A script, given as the last argument to a shell.
    Script {
        /// The shell and its options: `["sh", "-e", "-c"]`.
        shell: Arc<[String]>,
        /// The script.
        script: Script,
    },
    /// A program and its arguments, without a shell.
    Argv(Vec<Template>),
}
