//! From an attempt to a task: values in place of expressions, folders in place of needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};

use super::attend::{Attendant, Begun, Gate, Stoppable};
use super::decide::Question;
use super::inputs::InputFolders;
use super::left::Producer;
use super::{Blocking, Engine};
use crate::container::Container;
use crate::each::Each;
use crate::executor::{EachFile, Executor, Task};
use crate::flow::template::{Layers, Scope};
use crate::flow::{Command, Layer, Parameters};
use crate::id::{Attempt, LayerId, TaskId};
use crate::scheduler::Limits;

/// The file of a split's values in its folder.
const EACH: &str = "each.json";

/// A task that may have to be started. What only that needs is not there yet, or cannot be: a task that runs already is
/// found again without it.
pub(super) struct Order {
    /// It reads nothing yet.
    pub(super) task: Task,
    words: Said,
    producers: Vec<Producer>,
    folders: Arc<InputFolders>,
    blocking: Blocking,
}

/// What a task runs, or how that is found out.
enum Said {
    /// It is in the task.
    Here,
    /// It cannot be known: why.
    Never(String),
    /// It depends on what layers left, or on the split.
    Later(Box<Late>),
}

/// What evaluating an attempt's expressions takes.
pub(super) struct Late {
    question: Question,
    attempt: Attempt,
    splits: u32,
    each: Option<Arc<Each>>,
    /// The memory that the attempt has been granted, if any is said.
    memory: Option<u64>,
    limits: Limits,
    /// The folder for the split's values.
    folder: PathBuf,
}

/// What a task of a split can see.
pub(super) struct SaidOf {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) parameters: Vec<(String, serde_json::Value)>,
    pub(super) each: Option<Parameters>,
    pub(super) index: u32,
    pub(super) splits: u32,
    pub(super) outputs: Option<Vec<String>>,
    /// Digests of what it reads.
    pub(super) inputs: Vec<(String, String)>,
    pub(super) sources: Vec<String>,
}

/// What the flow says a task runs, with values in place of expressions.
struct Words {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    container: Arc<Container>,
    timeout: Option<Duration>,
}

impl Order {
    /// The task as it can be started; or why it cannot.
    pub(super) async fn ready(mut self, executor: &dyn Executor) -> Result<Arc<Task>, String> {
        if !self.producers.is_empty() {
            self.task.inputs = self.folders.of(self.producers).await.map_err(|error| error.to_string())?;
        }
        match self.words {
            Said::Here => {}
            Said::Never(why) => return Err(why),
            Said::Later(mut late) => {
                late.question.reading.inputs = executor.inputs_seen(&self.task.id.layer, &self.task.inputs);
                let each = late.values();
                self.task.each = late.write(&each)?;
                let words = match late.question.flow.layer(late.attempt.split.layer).reads() {
                    true => self.blocking.run(move || late.words(&each)).await?,
                    false => late.words(&each)?,
                };
                let Words { argv, env, container, timeout } = words;
                self.task = Task { argv, env, container, timeout, ..self.task };
            }
        }
        Ok(Arc::new(self.task))
    }
}

impl Late {
    /// The split's values, as its task will see them.
    fn values(&self) -> Parameters {
        let index = self.attempt.split.index;
        self.each.as_ref().map_or_else(Parameters::new, |each| each.values(index, &self.question.reading.inputs))
    }

    fn evaluate<T>(&self, each: &Parameters, evaluate: impl FnOnce(&Layer, &Scope<'_>) -> T) -> T {
        let Question { flow, environment, execution, reading, .. } = &self.question;
        let layers: Arc<dyn Layers> = Arc::new(reading.clone());
        let scope = Scope {
            parameters: &flow.parameters,
            env: environment,
            execution: *execution,
            attempt: self.attempt.number,
            index: self.attempt.split.index,
            splits: self.splits,
            each,
            layers: Some(&layers),
        };
        evaluate(flow.layer(self.attempt.split.layer), &scope)
    }

    /// The layer's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.question.flow.layer(self.attempt.split.layer).name
    }

    /// The container that the attempt gets, before it is known what it has been granted.
    pub(super) fn container(&self) -> Result<Container, String> {
        self.evaluate(&self.values(), |layer, scope| match &layer.open {
            Some(open) => open.container(&layer.container, scope),
            None => Ok((*layer.container).clone()),
        })
    }

    /// Everything that a task of the split can see.
    pub(super) fn said(&self) -> Result<SaidOf, String> {
        let values = self.values();
        let Words { argv, env, .. } = self.evaluate(&values, words)?;
        let Question { flow, reading, .. } = &self.question;
        let layer = flow.layer(self.attempt.split.layer);
        let index = self.attempt.split.index;
        let inputs = reading.producers.iter().flat_map(|producer| reading.values.inputs(producer));
        Ok(SaidOf {
            argv,
            env,
            parameters: flow.parameters.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            each: self.each.is_some().then_some(values),
            index,
            splits: self.splits,
            outputs: layer.outputs.clone(),
            inputs: inputs.collect(),
            sources: layer.cache.as_ref().map_or_else(Vec::new, |cache| cache.sources.clone()),
        })
    }

    /// The cores and the memory that the attempt reserves, if they can be known.
    pub(super) fn sizes(&self) -> Option<(u64, u64)> {
        self.evaluate(&self.values(), |layer, scope| layer.open.as_ref()?.sized(&layer.container, scope).ok())
    }

    fn words(&self, each: &Parameters) -> Result<Words, String> {
        let words = self.evaluate(each, words)?;
        let (container, limits) = (&words.container, &self.limits);
        let asked = [("cpu", container.cpu_millis, limits.cpu_millis), ("memory", container.memory, limits.memory)];
        if let Some((what, asked, there)) =
            asked.into_iter().find(|(_, asked, there)| asked.is_some_and(|asked| asked > *there))
        {
            let (asked, there) = (super::excess::amount(what, asked.unwrap_or(0)), super::excess::amount(what, there));
            return Err(format!("`container.{what}` is {asked}, and there is {there} to share out"));
        }
        Ok(Words { container: granted(container, self.memory), ..words })
    }

    /// Writes the split's values to their file, if it has any. Blocks for a moment. The file is there already where the
    /// folders of an earlier task are used again: making one would cost more than all the rest.
    fn write(&self, values: &Parameters) -> Result<Option<EachFile>, String> {
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
            std::io::ErrorKind::NotFound => std::fs::create_dir_all(&self.folder).and_then(|()| write()),
            _ => Err(error),
        });
        written.map_err(failed)?;
        Ok(Some(EachFile { folder: self.folder.clone(), name: EACH.to_owned() }))
    }
}

impl Engine<'_> {
    /// Launches an attempt, or finds it again where somebody else may have launched it.
    pub(super) fn launch(&mut self, attempt: Attempt, outputs: u32, begun: Begun) {
        let flow = Arc::clone(&self.flow);
        let layer = flow.layer(attempt.split.layer);
        let id = TaskId {
            execution: self.session.execution,
            layer: Arc::clone(&layer.name),
            index: attempt.split.index,
            attempt: attempt.number,
        };
        let memory = self.scheduler.memory(attempt.split).map(|memory| memory.granted);
        let mut task = Task {
            flow: Arc::clone(&self.flow.name),
            splits: self.scheduler.splits(attempt.split.layer).unwrap_or(1),
            argv: Vec::new(),
            env: Vec::new(),
            container: granted(&layer.container, memory),
            timeout: layer.timeout,
            grace: self.grace,
            inputs: self.inputs.bare(),
            each: None,
            outputs: self.folder.outputs(outputs),
            log: self.folder.log(&id),
            id,
        };
        let words = if layer.foreach.is_some() || layer.open.is_some() || layer.reads() {
            Said::Later(Box::new(self.late(attempt, Some(outputs), String::new())))
        } else {
            match words(layer, &self.scope(attempt)) {
                Ok(Words { argv, env, .. }) => {
                    (task.argv, task.env) = (argv, env);
                    Said::Here
                }
                Err(why) => Said::Never(why),
            }
        };
        let gate = Gate::new(begun);
        if let Some(flight) = self.in_flight.get_mut(&attempt) {
            flight.task = Some(Stoppable { task: task.id.clone(), gate: gate.clone() });
        }
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
        let producers = self.producers(attempt.split.layer);
        let order =
            Order { task, words, producers, folders: Arc::clone(&self.inputs), blocking: self.blocking.clone() };
        self.attendants.spawn(Attendant { attempt, begun, gate, executor, inbox }.attend(order));
    }

    /// What a layer's expressions can name that reads nothing.
    fn scope(&self, attempt: Attempt) -> Scope<'_> {
        static NONE: std::sync::LazyLock<Parameters> = std::sync::LazyLock::new(Parameters::new);
        Scope {
            parameters: &self.flow.parameters,
            execution: self.session.execution,
            attempt: attempt.number,
            index: attempt.split.index,
            splits: 1,
            env: &self.environment,
            each: &NONE,
            layers: None,
        }
    }

    /// What evaluating an attempt's expressions takes. `outputs` is the number of its outputs folder, if it is to be
    /// launched; `inputs` the folder of inputs as its task sees it, if that is known.
    pub(super) fn late(&mut self, attempt: Attempt, outputs: Option<u32>, inputs: String) -> Late {
        let layer = attempt.split.layer;
        Late {
            question: self.question(layer, inputs),
            attempt,
            splits: self.scheduler.splits(layer).unwrap_or(1),
            each: self.scheduler.each(layer).cloned(),
            memory: self.scheduler.memory(attempt.split).map(|memory| memory.granted),
            limits: self.limits,
            folder: outputs.map_or_else(PathBuf::new, |outputs| self.folder.each(outputs)),
        }
    }

    /// The layers that one needs, in the order of the flow. All of them have settled, so what is known of them stays.
    pub(super) fn needed(&mut self, layer: LayerId) -> Arc<[Producer]> {
        if let Some(known) = self.needed.get(&layer) {
            return Arc::clone(known);
        }
        let mut needs = self.plan.needs(layer).to_vec();
        needs.sort_unstable();
        let needed: Arc<[Producer]> = needs.into_iter().map(|id| self.producer(id)).collect();
        self.needed.insert(layer, Arc::clone(&needed));
        needed
    }

    pub(super) fn producer(&self, id: LayerId) -> Producer {
        let layer = self.flow.layer(id);
        let is_foreach = layer.foreach.is_some();
        Producer {
            layer: id,
            name: Arc::clone(&layer.name),
            state: self.scheduler.layer_state(id).word(),
            splits: self.scheduler.splits(id).filter(|_| is_foreach),
            promised: layer.outputs.clone().unwrap_or_default().into(),
            left: self.artifacts.of(id).cloned(),
        }
    }

    /// The needed layers that left something, in the order of the flow.
    fn producers(&self, layer: LayerId) -> Vec<Producer> {
        if let Some(known) = self.needed.get(&layer) {
            return known.iter().filter(|producer| producer.is_seen()).cloned().collect();
        }
        let is_foreach = |id: LayerId| self.flow.layer(id).foreach.is_some();
        let is_seen = |id: &LayerId| self.artifacts.of(*id).is_some() || is_foreach(*id);
        let mut needs: Vec<LayerId> = self.plan.needs(layer).iter().copied().filter(is_seen).collect();
        needs.sort_unstable();
        needs.into_iter().map(|id| self.producer(id)).filter(Producer::is_seen).collect()
    }
}

/// The container with the memory of an attempt.
fn granted(container: &Arc<Container>, memory: Option<u64>) -> Arc<Container> {
    if memory == container.memory {
        return Arc::clone(container);
    }
    Arc::new(Container { memory, ..(**container).clone() })
}

fn words(layer: &Layer, scope: &Scope<'_>) -> Result<Words, String> {
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

fn told(error: crate::flow::template::ExpressionError) -> String {
    error.to_string()
}
