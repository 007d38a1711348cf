//! Decides what becomes of a layer when all that it needs has settled: whether it runs, and over what it is fanned out.

use std::sync::Arc;

use super::left::Reading;
use super::words::Question;
use super::{Engine, EngineError, News};
use crate::each::{Each, INPUTS};
use crate::event::Event;
use crate::flow::template::{Layers, Scope};
use crate::flow::{Condition, Foreach, Parameters};
use crate::id::{Attempt, LayerId};

/// What becomes of a layer.
#[derive(Debug)]
pub(super) enum Decision {
    Open(Option<Each>),
    Skip,
    Fail(String),
}

impl Question {
    fn decide(self) -> Decision {
        let Question { flow, layer, execution, environment, reading } = self;
        let reading = Arc::new(reading);
        let layers: Arc<dyn Layers> = Arc::clone(&reading) as Arc<dyn Layers>;
        let each = Parameters::new();
        let scope = Scope {
            parameters: &flow.parameters,
            env: &environment,
            execution,
            attempt: 1,
            index: 0,
            splits: 1,
            each: &each,
            layers: Some(&layers),
        };
        let layer = flow.layer(layer);
        match layer.when.as_ref().map_or(Ok(true), |when| when.holds(&scope)) {
            Ok(true) => {}
            Ok(false) => return Decision::Skip,
            Err(error) => return Decision::Fail(format!("`when`: {error}")),
        }
        match layer.foreach.as_ref().map(|foreach| foreach.each(&scope, &*reading)) {
            None => Decision::Open(None),
            Some(Ok(each)) => Decision::Open(Some(each)),
            Some(Err(error)) => Decision::Fail(format!("`foreach`: {error}")),
        }
    }
}

impl Engine<'_> {
    /// Decides at once where nothing must be read for it.
    pub(super) fn decide(&mut self, id: LayerId) -> Result<(), EngineError> {
        let flow = Arc::clone(&self.flow);
        let layer = flow.layer(id);
        let reads =
            layer.foreach.as_ref().is_some_and(Foreach::reads) || layer.when.as_ref().is_some_and(Condition::reads);
        let question = self.question(id, INPUTS.to_owned());
        if !reads {
            return self.decided(id, question.decide());
        }
        let (inbox, work) = (self.inbox.clone(), self.blocking.run(move || question.decide()));
        tokio::spawn(async move {
            let _ = inbox.send(News::Decided(id, work.await));
        });
        Ok(())
    }

    pub(super) fn decided(&mut self, layer: LayerId, decision: Decision) -> Result<(), EngineError> {
        self.artifacts.forget(layer);
        self.values.forget(layer);
        match decision {
            Decision::Skip => self.happen(Event::LayerSkipped { layer }),
            Decision::Fail(reason) => self.happen(Event::LayerFailed { layer, reason }),
            Decision::Open(each) => {
                let splits = each.as_ref().map_or(Some(1), Each::splits).unwrap_or(u32::MAX);
                self.happen(Event::LayerOpened { layer, splits, each: each.map(Arc::new) })
            }
        }
    }

    /// What the layer's expressions may read, seen from a folder of inputs.
    pub(super) fn question(&mut self, layer: LayerId, inputs: String) -> Question {
        let producers = self.needed(layer);
        Question {
            flow: Arc::clone(&self.flow),
            layer,
            execution: self.session.execution,
            environment: Arc::clone(&self.environment),
            reading: Reading {
                producers,
                datastore: Arc::clone(&self.datastore),
                values: Arc::clone(&self.values),
                inputs,
            },
        }
    }

    /// What an attempt reserves. Where that cannot be known the attempt reserves nothing, and launching it tells why it
    /// cannot be started.
    pub(super) fn size(&mut self, attempt: Attempt) -> Result<(), EngineError> {
        let id = attempt.split.layer;
        let late = self.late(attempt, None, INPUTS.to_owned());
        if !self.flow.layer(id).reads() {
            return self.sized(attempt, late.sizes());
        }
        let (inbox, work) = (self.inbox.clone(), self.blocking.run(move || late.sizes()));
        tokio::spawn(async move {
            let _ = inbox.send(News::Sized(attempt, work.await));
        });
        Ok(())
    }

    pub(super) fn sized(&mut self, attempt: Attempt, sizes: Option<(u64, u64)>) -> Result<(), EngineError> {
        let fits = |(cpu, memory): &(u64, u64)| *cpu <= self.limits.cpu_millis && *memory <= self.limits.memory;
        let (cpu_millis, memory) = sizes.filter(fits).unwrap_or((0, 0));
        self.happen(Event::AttemptSized { attempt, cpu_millis, memory })
    }
}
