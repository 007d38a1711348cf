//! From an attempt to a task: values in place of expressions, folders in place of needs.

use std::sync::Arc;

use super::Engine;
use super::attend::{Attendant, Begun, Gate, Stoppable};
use super::inputs::{InputFolders, Producer};
use crate::container::Container;
use crate::executor::Task;
use crate::flow::Command;
use crate::flow::template::{ExpressionError, Scope};
use crate::id::{Attempt, TaskId};

/// A task that may have to be started. What only that needs is not there yet, or cannot be: a task that runs already is
/// found again without it.
pub(super) struct Order {
    /// It reads nothing yet.
    pub(super) task: Task,
    /// Why it cannot be started: an expression has no value, so it has no words either.
    why_not: Option<String>,
    producers: Vec<Producer>,
    folders: Arc<InputFolders>,
}

impl Order {
    /// The task as it can be started; or why it cannot.
    pub(super) async fn ready(self) -> Result<Arc<Task>, String> {
        match self.why_not {
            Some(why_not) => Err(why_not),
            None if self.producers.is_empty() => Ok(Arc::new(self.task)),
            None => match self.folders.of(self.producers).await {
                Ok(inputs) => Ok(Arc::new(Task { inputs, ..self.task })),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// What the flow says a task runs, with values in place of expressions.
#[derive(Default)]
struct Words {
    argv: Vec<String>,
    env: Vec<(String, String)>,
}

impl Engine<'_> {
    /// Launches an attempt, or finds it again where somebody else may have launched it.
    pub(super) fn launch(&mut self, attempt: Attempt, outputs: u32, begun: Begun) {
        let layer = self.flow.layer(attempt.split.layer);
        let id = TaskId {
            execution: self.session.execution,
            layer: Arc::clone(&layer.name),
            index: attempt.split.index,
            attempt: attempt.number,
        };
        let (words, why_not) = match self.words(attempt) {
            Ok(words) => (words, None),
            Err(error) => (Words::default(), Some(error.to_string())),
        };
        let task = Task {
            flow: Arc::clone(&self.flow.name),
            splits: 1,
            argv: words.argv,
            env: words.env,
            container: self.container(attempt),
            timeout: layer.timeout,
            grace: self.grace,
            inputs: self.inputs.bare(),
            each: None,
            outputs: self.folder.outputs(outputs),
            log: self.folder.log(&id),
            id,
        };
        let gate = Gate::new(begun);
        if let Some(flight) = self.in_flight.get_mut(&attempt) {
            flight.task = Some(Stoppable { task: task.id.clone(), gate: gate.clone() });
        }
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
        let order = Order { task, why_not, producers: self.producers(attempt), folders: Arc::clone(&self.inputs) };
        self.attendants.spawn(Attendant { attempt, begun, gate, executor, inbox }.attend(order));
    }

    /// The layer's container, with the memory of this attempt.
    fn container(&self, attempt: Attempt) -> Arc<Container> {
        let own = &self.flow.layer(attempt.split.layer).container;
        let memory = self.scheduler.memory(attempt.split).map(|memory| memory.granted);
        if memory == own.memory {
            return Arc::clone(own);
        }
        Arc::new(Container { memory, ..(**own).clone() })
    }

    fn words(&self, attempt: Attempt) -> Result<Words, ExpressionError> {
        let layer = self.flow.layer(attempt.split.layer);
        let scope = Scope {
            parameters: &self.flow.parameters,
            execution: self.session.execution,
            attempt: attempt.number,
            index: attempt.split.index,
            splits: 1,
            env: &self.environment,
            each: &Default::default(),
            layers: None,
        };
        let declared = layer.env.iter().map(|(name, value)| Ok((name.clone(), value.evaluate(&scope)?)));
        let mut env = declared.collect::<Result<Vec<_>, _>>()?;
        let argv = match &layer.command {
            Command::Argv(words) => words.iter().map(|word| word.evaluate(&scope)).collect::<Result<_, _>>()?,
            Command::Script { shell, script } => {
                let (text, values) = script.evaluate(&scope)?;
                env.extend(values);
                shell.iter().cloned().chain([text]).collect()
            }
        };
        Ok(Words { argv, env })
    }

    /// The needed layers that left something, in the order of the flow.
    fn producers(&self, attempt: Attempt) -> Vec<Producer> {
        if self.artifacts.is_empty() {
            return Vec::new();
        }
        let needs = self.plan.needs(attempt.split.layer).iter();
        let left = needs.filter_map(|layer| {
            let artifacts = Arc::clone(self.artifacts.get(layer)?);
            Some(Producer { layer: *layer, name: Arc::clone(&self.flow.layer(*layer).name), artifacts })
        });
        let mut left: Vec<_> = left.collect();
        left.sort_by_key(|producer| producer.layer);
        left
    }
}
