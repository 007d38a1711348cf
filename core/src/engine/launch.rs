//! From an attempt to a task that is attended to.

use std::path::PathBuf;
use std::sync::Arc;

use super::Engine;
use super::attend::{Attendant, Begun, Gate, Stoppable};
use super::left::Producer;
use super::order::{Handed, Order, Said};
use super::words::{Late, Words, granted, words};
use crate::executor::{LOG_LIMIT, Task};
use crate::flow::template::Scope;
use crate::id::{Attempt, LayerId, TaskId};

impl Engine<'_> {
    /// Launches an attempt, or finds it again where somebody else may have launched it.
    pub(super) fn launch(&mut self, attempt: Attempt, outputs: u32, mut begun: Begun) {
        let producers = self.producers(attempt.split.layer);
        if self.offers.remove(&attempt).is_some() && producers.is_empty() {
            // Nothing was left that would have kept it from being started by the offer.
            begun = Begun::Perhaps;
        }
        // Of what an earlier scheduler has launched, some may have stood in line.
        let stands_in_line = self.executor.keeps_line() && (begun != Begun::No || self.scheduler.is_crowded());
        let flow = Arc::clone(&self.flow);
        let layer = flow.layer(attempt.split.layer);
        let (task, words) = self.task(attempt, outputs);
        let task = Task { places: stands_in_line.then(|| self.scheduler.places()), ..task };
        let gate = Gate::new(begun);
        if let Some(flight) = self.in_flight.get_mut(&attempt) {
            let may_wait = stands_in_line || !self.executor.keeps_line();
            flight.task = Some(Stoppable { task: task.id.clone(), gate: gate.clone(), may_wait });
        }
        let (executor, inbox) = (Arc::clone(&self.executor), self.inbox.clone());
        let handed = (!layer.secrets.is_empty()).then(|| Handed {
            secrets: self.secrets.clone(),
            wanted: Arc::clone(&layer.secrets),
            folder: self.session.folder.clone(),
        });
        let (folders, blocking) = (Arc::clone(&self.inputs), self.blocking.clone());
        let order = Order { task, words, producers, folders, blocking, handed };
        self.attendants.spawn(Attendant { attempt, begun, gate, executor, inbox }.attend(order));
    }

    /// The task of an attempt that writes to this folder for outputs, as far as it can be known without reading anything.
    pub(super) fn task(&mut self, attempt: Attempt, outputs: u32) -> (Task, Said) {
        let flow = Arc::clone(&self.flow);
        let layer = flow.layer(attempt.split.layer);
        let id = self.task_id(attempt);
        let memory = self.scheduler.memory(attempt.split).map(|memory| memory.granted);
        let mut task = Task {
            flow: Arc::clone(&self.flow.name),
            splits: self.scheduler.splits(attempt.split.layer).unwrap_or(1),
            argv: Vec::new(),
            env: Vec::new(),
            container: granted(&layer.container, memory),
            timeout: layer.timeout,
            grace: self.grace,
            places: None,
            inputs: self.inputs.bare(),
            each: None,
            secrets: None,
            outputs: self.folder.outputs(outputs),
            log: self.folder.log(&id),
            log_limit: layer.limits.log.unwrap_or(LOG_LIMIT),
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
        (task, words)
    }

    /// What an attempt is called outside.
    pub(super) fn task_id(&self, attempt: Attempt) -> TaskId {
        TaskId {
            execution: self.session.execution,
            layer: Arc::clone(&self.flow.layer(attempt.split.layer).name),
            index: attempt.split.index,
            attempt: attempt.number,
        }
    }

    /// What a layer's expressions can name that reads nothing.
    fn scope(&self, attempt: Attempt) -> Scope<'_> {
        Scope {
            execution: self.session.execution,
            attempt: attempt.number,
            env: &self.environment,
            ..Scope::of_parameters(&self.flow.parameters)
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
            cpu_millis: self.scheduler.cpu_millis(attempt.split),
            limits: self.limits,
            folder: outputs.map_or_else(PathBuf::new, |outputs| self.folder.each(outputs)),
        }
    }

    /// The layers that one needs, in the order of the flow. All of them have settled, so what is known of them stays; it is
    /// kept where it will be asked for often.
    pub(super) fn needed(&mut self, layer: LayerId) -> Arc<[Producer]> {
        if let Some(known) = self.needed.get(&layer) {
            return Arc::clone(known);
        }
        let mut needs = self.plan.needs(layer).to_vec();
        needs.sort_unstable();
        let needed: Arc<[Producer]> = needs.into_iter().map(|id| self.producer(id)).collect();
        let flow = self.flow.layer(layer);
        if flow.foreach.is_some() || flow.reads() {
            self.needed.insert(layer, Arc::clone(&needed));
        }
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
    pub(super) fn producers(&self, layer: LayerId) -> Vec<Producer> {
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
