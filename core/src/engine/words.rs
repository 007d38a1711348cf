//! The words of a task: values in place of expressions, and what evaluating them takes.
//!
//! It is unaware of when a task is launched, and of the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};

use super::excess::{self, Excess};
use super::left::Reading;
use crate::container::Container;
use crate::each::Each;
use crate::executor::EachFile;
use crate::flow::template::{Environment, ExpressionError, Layers, Scope};
use crate::flow::{Command, Flow, Layer, Parameters};
use crate::id::{Attempt, ExecutionId, LayerId};
use crate::private;
use crate::scheduler::Limits;

/// The file of a split's values in its folder.
const EACH: &str = "each.json";

/// What evaluating a layer's expressions takes besides a split.
pub(super) struct Question {
    pub(super) flow: Arc<Flow>,
    pub(super) layer: LayerId,
    pub(super) execution: ExecutionId,
    pub(super) environment: Arc<Environment>,
    pub(super) reading: Reading,
}

/// What evaluating an attempt's expressions takes.
pub(super) struct Late {
    pub(super) question: Question,
    pub(super) attempt: Attempt,
    pub(super) splits: u32,
    pub(super) each: Option<Arc<Each>>,
    /// The memory that the attempt has been granted, if any is said, and its cores.
    pub(super) memory: Option<u64>,
    pub(super) cpu_millis: u64,
    pub(super) limits: Limits,
    /// The folder for the split's values.
    pub(super) folder: PathBuf,
}

/// What the flow says a task runs, with values in place of expressions.
pub(super) struct Words {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) container: Arc<Container>,
    pub(super) timeout: Option<Duration>,
}

impl Question {
    pub(super) fn layer(&self) -> &Layer {
        self.flow.layer(self.layer)
    }

    /// What the expressions can name that are about the whole layer.
    pub(super) fn scope<'a>(&'a self, layers: &'a Arc<dyn Layers>) -> Scope<'a> {
        Scope {
            env: &self.environment,
            execution: self.execution,
            layers: Some(layers),
            answers: self.flow.answers.as_deref(),
            ..Scope::of_parameters(&self.flow.parameters)
        }
    }
}

impl Late {
    /// The split's values, as its task will see them.
    pub(super) fn values(&self) -> Parameters {
        let index = self.attempt.split.index;
        self.each.as_ref().map_or_else(Parameters::new, |each| each.values(index, &self.question.reading.inputs))
    }

    fn evaluate<T>(&self, each: &Parameters, evaluate: impl FnOnce(&Layer, &Scope<'_>) -> T) -> T {
        let layers: Arc<dyn Layers> = Arc::new(self.question.reading.clone());
        let (attempt, index, splits) = (self.attempt.number, self.attempt.split.index, self.splits);
        let scope = Scope { attempt, index, splits, each, ..self.question.scope(&layers) };
        evaluate(self.question.layer(), &scope)
    }

    /// The words, before it is known what the attempt has been granted.
    pub(super) fn said(&self, each: &Parameters) -> Result<Words, String> {
        self.evaluate(each, words)
    }

    /// The cores and the memory that the attempt reserves, if they can be known.
    pub(super) fn sizes(&self) -> Option<(u64, u64)> {
        self.evaluate(&self.values(), |layer, scope| layer.open.as_ref()?.sized(&layer.container, scope).ok())
    }

    pub(super) fn words(&self, each: &Parameters) -> Result<Words, String> {
        let words = self.said(each)?;
        let container = &words.container;
        if let Some(Excess { what, asked, there, .. }) = excess::of(container, self.question.layer, &self.limits).next()
        {
            return Err(format!("`container.{what}` is {asked}, and there is {there} to share out"));
        }
        // Whoever asked before could not read it: nothing is reserved for what it would use.
        let is_unknown = |asked: Option<u64>, reserved: u64| asked.is_some_and(|asked| asked > 0) && reserved == 0;
        for (what, asked, reserved) in
            [("cpu", container.cpu_millis, self.cpu_millis), ("memory", container.memory, self.memory.unwrap_or(0))]
        {
            if is_unknown(asked, reserved) {
                return Err(format!("what `container.{what}` is could not be known before it was launched"));
            }
        }
        Ok(Words { container: granted(container, self.memory), ..words })
    }

    /// Writes the split's values to their file, if it has any. Blocks for a moment. The file is there already where the
    /// folders of an earlier task are used again: making one would cost more than all the rest.
    pub(super) fn write(&self, values: &Parameters) -> Result<Option<EachFile>, String> {
        if self.each.is_none() {
            return Ok(None);
        }
        let path = self.folder.join(EACH);
        let failed = |error: std::io::Error| format!("cannot write `{}`: {error}", path.display());
        let text = serde_json::to_string(values).map_err(|error| failed(error.into()))?;
        let write = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o644))?;
            let mut file = std::fs::File::from(file);
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        let written = write().or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => private::make_readable(&self.folder).and_then(|()| write()),
            // An executor has made it read-only.
            std::io::ErrorKind::PermissionDenied => std::fs::remove_file(&path).and_then(|()| write()),
            _ => Err(error),
        });
        written.map_err(failed)?;
        Ok(Some(EachFile { folder: self.folder.clone(), name: EACH.to_owned() }))
    }
}

/// The container with the memory of an attempt.
pub(super) fn granted(container: &Arc<Container>, memory: Option<u64>) -> Arc<Container> {
    if memory == container.memory {
        return Arc::clone(container);
    }
    Arc::new(Container { memory, ..(**container).clone() })
}

pub(super) fn words(layer: &Layer, scope: &Scope<'_>) -> Result<Words, String> {
    let env = layer.env.iter().map(|(name, value)| Ok((name.clone(), value.evaluate(scope)?)));
    let mut env = env.collect::<Result<Vec<_>, _>>().map_err(told)?;
    let argv = match &layer.command {
        Command::Argv(words) => {
            words.iter().map(|word| word.evaluate(scope)).collect::<Result<_, _>>().map_err(told)?
        }
        Command::Script { shell, script } => {
            let (text, values) = script.evaluate(scope).map_err(told)?;
            env.extend(values);
            shell.iter().cloned().chain([text]).collect()
        }
    };
    let (container, timeout) = match &layer.open {
        None => (Arc::clone(&layer.container), layer.timeout),
        Some(open) => {
            let container = match open.container.is_empty() {
                true => Arc::clone(&layer.container),
                false => Arc::new(open.container(&layer.container, scope)?),
            };
            (container, open.timeout(scope)?.or(layer.timeout))
        }
    };
    Ok(Words { argv, env, container, timeout })
}

fn told(error: ExpressionError) -> String {
    error.to_string()
}
