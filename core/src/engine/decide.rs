//! Decides what becomes of a layer when all that it needs has settled: whether it runs, and over what it is fanned out.

use std::sync::Arc;

use super::left::Reading;
use super::words::Question;
use super::{Engine, EngineError, News};
use crate::each::{Each, INPUTS};
use crate::event::Event;
use crate::flow::template::Layers;
use crate::flow::{Condition, Foreach};
use crate::id::{Attempt, LayerId};

/// What becomes of a layer.
#[derive(Debug)]
pub(super) enum Decision {
    Open(Option<Each>),
    Skip,
    Fail(String),
}

impl Question {
    fn decide(&self) -> Decision {
        let layers: Arc<dyn Layers> = Arc::new(self.reading.clone());
        let (layer, scope) = (self.layer(), self.scope(&layers));
        match layer.when.as_ref().map_or(Ok(true), |when| when.holds(&scope)) {
            Ok(true) => {}
            Ok(false) => return Decision::Skip,
            Err(error) => return Decision::Fail(format!("`when`: {error}")),
        }
        match layer.foreach.as_ref().map(|foreach| foreach.each(&scope, &self.reading)) {
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
            layer.foreach.as_deref().is_some_and(Foreach::reads) || layer.when.as_deref().is_some_and(Condition::reads);
        let question = self.question(id, INPUTS.to_owned());
        if !reads {
            return self.decided(id, question.decide());
        }
        self.tell_of(move || question.decide(), move |decision| News::Decided(id, decision));
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
        self.tell_of(move || late.sizes(), move |sizes| News::Sized(attempt, sizes));
        Ok(())
    }

    pub(super) fn sized(&mut self, attempt: Attempt, sizes: Option<(u64, u64)>) -> Result<(), EngineError> {
        let fits = |(cpu, memory): &(u64, u64)| *cpu <= self.limits.cpu_millis && *memory <= self.limits.memory;
        let (cpu_millis, memory) = sizes.filter(fits).unwrap_or((0, 0));
        self.happen(Event::AttemptSized { attempt, cpu_millis, memory })
    }
}
