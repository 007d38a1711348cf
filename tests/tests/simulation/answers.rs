//! What the model makes of answers: of `when` and `foreach`, of the cache, of expressions about sizes; and what follows from
//! them.

use std::sync::Arc;

use laminar_core::each::Each;
use laminar_core::flow::OnFailure;
use laminar_core::id::{Attempt, LayerId, Split};

use crate::expect::Decided;
use crate::model::{Line, Model, Phase, Stage, key};

impl Model {
    /// Whether an answer about a layer may come, and is not too late.
    pub(crate) fn expects(&self, layer: u32) -> Result<bool, String> {
        let row = &self.rows[layer as usize];
        match (row.phase, row.lines[0].stage) {
            (Phase::Shut, Stage::Cancelled) => Ok(false),
            (Phase::Shut, Stage::Idle) => match self.needs_are_well(layer) {
                Ok(()) => Ok(true),
                Err(why) => Err(why),
            },
            (phase, stage) => Err(format!("the layer is {phase:?}, {stage:?}")),
        }
    }

    pub(crate) fn opened(&mut self, layer: u32, splits: u32, each: Option<&Arc<Each>>) -> Result<(), String> {
        if !self.expects(layer)? {
            return Ok(());
        }
        let expected = self.decides(layer);
        if expected != Decided::Open(each.map(|each| Each::clone(each))) {
            return Err(format!("it should be {expected:?}"));
        }
        if each.map_or(Some(1), |each| each.splits()) != Some(splits) {
            return Err("these are not so many splits".to_owned());
        }
        let row = &mut self.rows[layer as usize];
        (row.phase, row.each, row.count) = (Phase::Open, each.cloned(), splits as usize);
        while row.lines.len() < row.count {
            row.lines.push(Line::new());
        }
        row.lines[..row.count].iter_mut().for_each(Line::begin_anew);
        self.follow();
        Ok(())
    }

    /// A layer is skipped, or nobody can say.
    pub(crate) fn answered(&mut self, layer: u32, answer: &Decided) -> Result<(), String> {
        if !self.expects(layer)? {
            return Ok(());
        }
        let expected = self.decides(layer);
        let is_excused = *answer == Decided::Fail && self.reads_failed;
        if expected != *answer && !is_excused {
            return Err(format!("it should be {expected:?}"));
        }
        let row = &mut self.rows[layer as usize];
        if *answer == Decided::Skip {
            (row.phase, row.lines[0].stage) = (Phase::Skipped, Stage::Skipped);
            self.follow();
        } else {
            (row.phase, row.lines[0].stage) = (Phase::Failed, Stage::Failed);
            if self.case.flow.on_failure == OnFailure::Stop {
                self.stop();
            }
        }
        Ok(())
    }

    pub(crate) fn sized(&mut self, attempt: Attempt, size: (u64, u64)) -> Result<(), String> {
        let asks_for = self.asks_for(key(attempt));
        let limits = self.limits;
        let fits = |(cpu, memory): &(u64, u64)| *cpu <= limits.cpu_millis && *memory <= limits.memory;
        let expected = asks_for.filter(fits).unwrap_or((0, 0));
        let is_excused = self.reads_failed && size == (0, 0);
        let cached = self.case.shapes[attempt.split.layer.at()].cached;
        let ready = self.needs_are_well(attempt.split.layer.0);
        if attempt.split.index as usize >= self.rows[attempt.split.layer.at()].count {
            return Err("there is no such split".to_owned());
        }
        let line = self.line(attempt);
        match line.stage {
            Stage::Cancelled => return Ok(()),
            Stage::Idle if line.sized.is_none() && line.keyed == cached && line.launched + 1 == attempt.number => {}
            _ => return Err(format!("the split is {line:?}")),
        }
        line.sized = Some(size);
        ready?;
        if size == expected || is_excused { Ok(()) } else { Err(format!("it asks for {asks_for:?} of {limits:?}")) }
    }

    /// The split, if an answer of the cache about it may come and is not too late.
    pub(crate) fn recalled(&mut self, split: Split) -> Result<Option<&mut Line>, String> {
        let row = &self.rows[split.layer.at()];
        if row.phase != Phase::Open || !self.case.shapes[split.layer.at()].cached {
            return Err("it is not to be looked for".to_owned());
        }
        match row.active().get(split.index as usize) {
            Some(line) if line.stage == Stage::Cancelled => return Ok(None),
            Some(line) if line.stage == Stage::Idle && !line.keyed => {}
            line => return Err(format!("the split is {line:?}")),
        }
        self.needs_are_well(split.layer.0)?;
        Ok(Some(&mut self.rows[split.layer.at()].lines[split.index as usize]))
    }

    /// Whether a split was cancelled meanwhile.
    pub(crate) fn is_late(&self, split: Split) -> bool {
        let line = self.rows[split.layer.at()].active().get(split.index as usize);
        line.is_none_or(|line| line.stage == Stage::Cancelled)
    }

    pub(crate) fn needs_are_well(&self, layer: u32) -> Result<(), String> {
        let mut needs = self.case.plan.needs(LayerId(layer)).iter();
        match needs.find(|need| !self.is_well(need.0)) {
            Some(need) => Err(format!("it needs L{}, which is {:?}", need.0, self.rows[need.at()])),
            None => Ok(()),
        }
    }

    /// Layers are skipped since something that they need was, unless they are asked.
    pub(crate) fn follow(&mut self) {
        let case = Arc::clone(&self.case);
        for id in case.order.iter().copied() {
            let (shape, row, needs) = (&case.shapes[id.at()], &self.rows[id.at()], case.plan.needs(id));
            let waits = row.lines[0].stage == Stage::Idle && (row.phase == Phase::Shut || !shape.asks());
            let bereft = needs.iter().any(|need| self.rows[need.at()].phase == Phase::Skipped);
            if waits && bereft && shape.when.is_none() && needs.iter().all(|need| self.is_well(need.0)) {
                let row = &mut self.rows[id.at()];
                (row.phase, row.lines[0].stage) = (Phase::Skipped, Stage::Skipped);
            }
        }
    }
}
