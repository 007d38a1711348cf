//! When an attempt may be launched, by the model, and with how much memory.

use laminar_core::id::{Attempt, LayerId, Split};

use crate::model::{Key, Line, Model, Phase, Stage, attempt, key};

impl Model {
    pub(crate) fn launched(&mut self, of: Attempt, outputs: u32, less: Option<u64>) -> Result<(), String> {
        self.may_launch(key(of), outputs)?;
        let (wanted, memory) = (self.wanted_memory(of.split), self.memory(of.split));
        if less != (memory < wanted).then_some(memory) {
            return Err(format!("it gets {memory} of {wanted} bytes of memory"));
        }
        let cpu_millis = self.base(of.split).0;
        let line = self.line(of);
        (line.memory, line.cpu_millis, line.is_cut) = (memory, cpu_millis, less.is_some());
        (line.stage, line.launched, line.outputs) = (Stage::Launched, of.number, outputs);
        line.offered = None;
        Ok(())
    }

    /// An attempt may be offered that waits for one task alone, which runs; and nothing else may be ready then.
    pub(crate) fn offered(&mut self, of: Attempt, outputs: u32) -> Result<(), String> {
        let (layer, index, number) = key(of);
        let shape = &self.case.shapes[layer as usize];
        let Some(line) = self.rows[layer as usize].active().get(index as usize).filter(|_| !shape.asks()) else {
            return Err("it has no such split, or is not open".into());
        };
        if line.stage != Stage::Idle || shape.cached || shape.is_sized() || shape.max_parallel.is_some() {
            return Err(format!("the split is {line:?}"));
        }
        if self.stopping || !self.case.keeps_line || number != line.launched + 1 {
            return Err(format!("{} launches came before", line.launched));
        }
        let needs: Vec<_> = self.case.plan.needs(LayerId(layer)).to_vec();
        let waits_for: Vec<_> = needs.into_iter().filter(|need| !self.is_well(need.0)).collect();
        match waits_for[..] {
            [one] if self.rows[one.at()].active().iter().any(Line::is_alive) => {}
            _ => return Err(format!("it waits for {waits_for:?}")),
        }
        // Offered again, it has another folder, or the same.
        self.line(of).offered = None;
        self.are_free(outputs)?;
        let line = self.line(of);
        (line.offered, line.offered_now) = (Some(outputs), true);
        Ok(())
    }

    /// Whether nobody writes to a folder for outputs, nor will.
    fn are_free(&self, outputs: u32) -> Result<(), String> {
        for (id, row) in (0_u32..).zip(&self.rows) {
            let uses = |line: &Line| match line.offered {
                Some(offered) if line.offered_now => offered == outputs,
                _ => line.is_busy() && line.outputs == outputs,
            };
            if row.active().iter().any(uses) {
                return Err(format!("outputs {outputs} are in use by L{id}"));
            }
        }
        Ok(())
    }

    pub(crate) fn may_launch(&self, (layer, index, number): Key, outputs: u32) -> Result<(), String> {
        let (row, shape) = (&self.rows[layer as usize], &self.case.shapes[layer as usize]);
        let is_offered = self.is_offered((layer, index, number));
        let Some(line) = row.active().get(index as usize).filter(|_| row.phase == Phase::Open) else {
            return Err(format!("the layer is {:?} with {} splits", row.phase, row.count));
        };
        if line.stage != Stage::Idle || line.keyed != shape.cached || line.sized.is_some() != shape.is_sized() {
            return Err(format!("the split is {line:?}"));
        }
        if number != line.launched + 1 {
            return Err(format!("{} launches came before", line.launched));
        }
        if self.stopping {
            return Err("nothing new may start".into());
        }
        self.needs_are_well(layer)?;
        let needs = self.case.plan.needs(LayerId(layer)).iter();
        if shape.when.is_none() && needs.copied().any(|need| self.rows[need.at()].phase == Phase::Skipped) {
            return Err("something that it needs was skipped".into());
        }
        if !is_offered || line.offered != Some(outputs) {
            self.are_free(outputs)?;
        }
        let split = attempt((layer, index, number)).split;
        let (asked_cpu, asked_memory) = self.base(split);
        let (mut jobs, mut cpu_millis, mut memory, mut beside) = (1, asked_cpu, self.memory(split), 1);
        for (id, other) in (0_u32..).zip(&self.rows) {
            for line in other.active() {
                if line.is_alive() {
                    jobs += 1;
                    beside += u32::from(id == layer);
                    cpu_millis += line.cpu_millis;
                    memory += line.memory;
                }
            }
        }
        if let Some(most) = shape.max_parallel.filter(|most| beside > *most) {
            return Err(format!("{beside} splits of it are alive then, of {most}"));
        }
        let most = self.case.flow.max_parallel.unwrap_or(u32::MAX).min(self.limits.jobs).max(1);
        // A layer that asks for nothing takes nothing from limits that changed under those that run.
        let cpu_exceeded = asked_cpu > 0 && cpu_millis > self.limits.cpu_millis;
        let memory_exceeded = asked_memory > 0 && memory > self.limits.memory;
        if jobs > most && !is_offered && !self.may_go_ahead(layer, (asked_cpu, asked_memory)) {
            return Err(format!("{jobs} jobs exceed {most}, and it may not go ahead"));
        }
        if cpu_exceeded || memory_exceeded {
            return Err(format!("{cpu_millis} of cpu, {memory} of memory exceed {:?}", self.limits));
        }
        Ok(())
    }

    /// Whether a split may be launched before there is a place for it: nothing that comes free can be before it.
    fn may_go_ahead(&self, layer: u32, asked: (u64, u64)) -> bool {
        let is_alive = |id: &u32| self.rows[*id as usize].active().iter().any(Line::is_alive);
        let alive = (0..self.rows.len() as u32).filter(is_alive);
        let rank = |id| self.case.plan.rank(LayerId(id));
        self.case.keeps_line && asked == (0, 0) && alive.map(rank).all(|other| rank(layer) + 1 >= other)
    }

    /// The cores and the memory that the next attempt of a split is said to ask for, whatever those before it had.
    pub(crate) fn base(&self, split: Split) -> (u64, u64) {
        let line = &self.rows[split.layer.at()].lines[split.index as usize];
        let container = &self.case.flow.layer(split.layer).container;
        let fixed = (container.cpu_millis.unwrap_or(0), container.memory.unwrap_or(0));
        if self.case.shapes[split.layer.at()].is_sized() { line.sized.unwrap_or((0, 0)) } else { fixed }
    }

    /// The memory that an attempt has which is launched now: what it is to have, up to what there is.
    pub(crate) fn memory(&self, split: Split) -> u64 {
        self.wanted_memory(split).min(self.limits.memory).max(self.base(split).1)
    }

    /// The memory that it is to have: more after each attempt that was out of what it was to have.
    pub(crate) fn wanted_memory(&self, split: Split) -> u64 {
        let retry = &self.case.flow.layer(split.layer).retry;
        let asked = self.base(split).1;
        let mut memory = asked;
        for _ in 0..self.rows[split.layer.at()].lines[split.index as usize].out_of_memory {
            memory = (memory as f64 * retry.memory.unwrap_or(1.0)) as u64;
        }
        memory.min(retry.max_memory.unwrap_or(u64::MAX)).max(asked)
    }
}
