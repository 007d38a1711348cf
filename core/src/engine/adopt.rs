//! From what a task left to what its split published, or to why not.

use std::sync::Arc;

use super::outputs::Left;
use super::{Deed, Engine, EngineError, News};
use crate::datastore::{AdoptError, Allowed, Artifact, Hold};
use crate::event::Event;
use crate::flow::{Failure, Layer};
use crate::id::Attempt;

impl Engine<'_> {
    /// A task that left nothing is published at once; its folder is used again.
    pub(super) fn adopt(&mut self, attempt: Attempt) -> Result<(), EngineError> {
        let Some(outputs) = self.in_flight.get(&attempt).map(|flight| flight.outputs) else { return Ok(()) };
        let needs_nothing = missing(self.flow.layer(attempt.split.layer), &[]).is_none();
        if needs_nothing && self.outputs.give_back(outputs) == Left::Nothing {
            self.in_flight.remove(&attempt);
            return self.publish(attempt, Vec::new());
        }
        self.group.deeds.push(Deed::Adopt { attempt, outputs });
        Ok(())
    }

    pub(super) fn start_adoption(&self, attempt: Attempt, outputs: u32) {
        let (datastore, folder) = (Arc::clone(&self.datastore), self.folder.outputs(outputs));
        let (limits, usual) = (&self.flow.layer(attempt.split.layer).limits, Allowed::default());
        let files = limits.files.unwrap_or(usual.files);
        let allowed = Allowed { files, bytes: limits.outputs.unwrap_or(usual.bytes) };
        let adopt = move || {
            let hold = datastore.hold().map_err(AdoptError::Store)?;
            Ok((datastore.adopt_within(&folder, allowed)?, hold))
        };
        self.tell_of(adopt, move |adopted| News::Adopted(attempt, adopted));
    }

    pub(super) fn adopted(
        &mut self,
        attempt: Attempt,
        adopted: Result<(Vec<Artifact>, Hold), AdoptError>,
    ) -> Result<(), EngineError> {
        let layer = Arc::clone(&self.flow);
        let layer = layer.layer(attempt.split.layer);
        let adopted = match adopted {
            Ok((artifacts, hold)) => match missing(layer, &artifacts) {
                None => {
                    self.group.holds.push(hold);
                    Ok(artifacts)
                }
                Some(reason) => Err(reason),
            },
            Err(AdoptError::Rejected(rejections)) => Err(AdoptError::Rejected(rejections).to_string()),
            Err(AdoptError::Store(error)) => return Err(error.into()),
        };
        let flight = self.in_flight.remove(&attempt);
        match adopted {
            Ok(artifacts) => {
                let discard = flight.map(|flight| Deed::Discard { outputs: flight.outputs });
                self.group.deeds.extend(discard);
                self.publish(attempt, artifacts)
            }
            Err(reason) => {
                self.happen(Event::AttemptRejected { attempt, reason })?;
                self.take_void_offers_back();
                self.explain(attempt, Failure::Rejected);
                Ok(())
            }
        }
    }

    fn publish(&mut self, attempt: Attempt, artifacts: Vec<Artifact>) -> Result<(), EngineError> {
        self.artifacts.set(attempt.split, artifacts.clone().into());
        self.happen(Event::AttemptPublished { attempt, artifacts: artifacts.clone() })?;
        self.ran(attempt.split, &artifacts);
        Ok(())
    }
}

/// Why a layer's artifacts are not what it promised, if they are not.
fn missing(layer: &Layer, artifacts: &[Artifact]) -> Option<String> {
    let promised = layer.outputs.as_ref()?;
    let has = |name: &&String| artifacts.iter().any(|artifact| artifact.name == **name);
    let missing: Vec<_> = promised.iter().filter(|name| !has(name)).map(|name| format!("`{name}`")).collect();
    let them = if missing.len() == 1 { "it" } else { "them" };
    (!missing.is_empty())
        .then(|| format!("`outputs` promises {}, and the layer did not leave {them}", missing.join(", ")))
}
