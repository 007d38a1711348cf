//! What was run before, in the world: it outlives schedulers and executions. What is remembered is held against what the
//! log says of it.

use std::sync::Arc;

use laminar_core::datastore::Digest;
use laminar_core::store::{Run, Runs, StoreError};

use crate::expect::artifacts;
use crate::faults::Fault;
use crate::model::Stage;
use crate::sabotage::Sabotage;
use crate::store::failed;
use crate::world::{State, World};

pub(crate) struct SimulatedRuns {
    pub(crate) world: Arc<World>,
}

impl SimulatedRuns {
    fn enter(&self, verb: &str, fails: Fault) -> Result<(), StoreError> {
        self.world.must_be_alive();
        let mut state = self.world.state();
        state.step();
        state.note(|| format!("cache     {verb}"));
        let (dies, fails) = (state.happens(Fault::DiesInCache), state.happens(fails));
        drop(state);
        if dies {
            self.world.die();
        }
        if fails { Err(failed("read")) } else { Ok(()) }
    }
}

impl Runs for SimulatedRuns {
    fn find(&self, key: Digest) -> Result<Option<Run>, StoreError> {
        self.enter("find", Fault::FindFails)?;
        let found = self.world.memory.find(key)?;
        let forgets = found.is_some() && self.world.state().happens(Fault::CacheForgets);
        if forgets {
            self.world.memory.forget(key)?;
        }
        Ok(found.filter(|_| !forgets))
    }

    fn remember(&self, runs: &[Run]) -> Result<(), StoreError> {
        self.enter("remember", Fault::RememberFails)?;
        let mut state = self.world.state();
        runs.iter().for_each(|run| state.check_remembered(run));
        if !state.is_sabotaged(Sabotage::CacheMixesUp) {
            drop(state);
            return self.world.memory.remember(runs);
        }
        for run in runs {
            let artifacts = state.mixed_up.replace(run.artifacts.clone()).unwrap_or_default();
            self.world.memory.remember(&[Run { artifacts, ..run.clone() }])?;
        }
        Ok(())
    }

    fn forget(&self, key: Digest) -> Result<(), StoreError> {
        self.enter("forget", Fault::ForgetFails)?;
        self.world.memory.forget(key)
    }
}

impl State {
    /// Only what has finished is remembered, by what it did.
    fn check_remembered(&mut self, run: &Run) {
        let split = run.origin.split;
        let promised = self.promised.get(&run.key).map(artifacts);
        if promised.as_ref() != Some(&run.artifacts) {
            self.breaks(|| {
                format!("{split:?} is remembered with {:?}, and its key promises {promised:?}", run.artifacts)
            });
        }
        if run.origin.execution != self.execution {
            self.breaks(|| format!("{split:?} is remembered for another execution"));
        }
        let line = self.model.rows[split.layer.at()].active().get(split.index as usize);
        let is_good = line.is_some_and(|line| line.stage == Stage::Good && !line.caught);
        if !is_good {
            let line = format!("{line:?}");
            self.breaks(|| format!("{split:?} is remembered, and it is {line}"));
        }
    }
}
