//! What becomes of one split: it is looked for in the cache, sized, launched, and its attempts end.

use super::ready::Request;
use super::{Action, IllegalEvent, LOST_IN_A_ROW, Scheduler, Stage, State};
use crate::event::Event;
use crate::executor::{Cause, Exit};
use crate::flow::Failure;
use crate::id::{Attempt, LayerId, Split};

impl Scheduler {
    /// All that a split needs is there.
    pub(super) fn begin(&mut self, number: usize) {
        self.set(number, self.first_stage(number));
    }

    /// The stage of a split of which nothing but a launch is missing, looking into the cache included.
    pub(super) fn first_stage(&self, number: usize) -> Stage {
        let layer = self.splits[number].split.layer;
        if self.rules[layer.at()].cached { Stage::Recalling } else { self.next_stage(layer) }
    }

    /// The stage of a split that is to be launched.
    pub(super) fn next_stage(&self, layer: LayerId) -> Stage {
        if self.rules[layer.at()].sized { Stage::Sizing } else { Stage::Ready }
    }

    pub(super) fn keyed(&mut self, split: Split, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(split, event, Stage::Recalling)?;
        self.set(number, self.next_stage(split.layer));
        Ok(())
    }

    pub(super) fn cached(&mut self, split: Split, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(split, event, Stage::Recalling)?;
        self.set(number, Stage::Settled(State::Cached));
        Ok(())
    }

    pub(super) fn sized(&mut self, attempt: Attempt, size: Request, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(attempt.split, event, Stage::Sizing)?;
        if self.splits[number].launched + 1 != attempt.number {
            return Err(self.illegal(attempt.split, event));
        }
        self.sizes.insert(number as u32, size);
        self.set(number, Stage::Ready);
        Ok(())
    }

    pub(super) fn launched(&mut self, attempt: Attempt, cut: bool, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(attempt.split, event, Stage::Ready)?;
        let is_next = self.splits[number].launched + 1 == attempt.number;
        let (place, request) = (number as u32, self.request(number));
        // What was offered need not be the best of those that are ready.
        let is_taken = is_next
            && (self.ready.take(place, request) || self.offers.has(place) && self.ready.take_out(place, request));
        if !is_taken {
            return Err(self.illegal(attempt.split, event));
        }
        self.offers.take(place);
        self.splits[number].launched = attempt.number;
        self.splits[number].cut = cut;
        self.set(number, Stage::Launched);
        Ok(())
    }

    pub(super) fn exited(&mut self, number: usize, attempt: Attempt, exit: &Exit) {
        let layer = attempt.split.layer;
        if !matches!(exit.cause, Cause::Code(0) | Cause::Lost) {
            self.drop_offers(layer);
        }
        let catch = &self.rules[layer.at()].catch;
        match exit.cause {
            Cause::Code(0) => self.adopt(number, attempt, false),
            Cause::Code(code) if catch.contains(&code) => self.adopt(number, attempt, true),
            Cause::Cancelled if self.stopping => self.set(number, Stage::Settled(State::Cancelled)),
            // Stopped by a scheduler that is gone is no fault of the layer's either.
            Cause::Lost | Cause::Cancelled if self.splits[number].lost < LOST_IN_A_ROW => {
                self.splits[number].lost += 1;
                let next = if self.stopping { Stage::Settled(State::Cancelled) } else { self.next_stage(layer) };
                self.set(number, next);
            }
            _ => self.charge(number, attempt, Failure::Exit(&exit.cause)),
        }
    }

    fn adopt(&mut self, number: usize, attempt: Attempt, caught: bool) {
        self.set(number, Stage::Adopting { caught });
        self.wishes.push_back(Action::Adopt(attempt));
    }

    pub(super) fn due(&mut self, split: Split, event: &Event) -> Result<(), IllegalEvent> {
        let number = self.expect_split(split, event, Stage::Resting)?;
        self.set(number, self.next_stage(split.layer));
        Ok(())
    }

    /// Whether an event is an answer, or an alarm, that comes too late: whoever was to have it was cancelled meanwhile.
    /// Applied, it changes nothing; it need not be recorded.
    #[must_use]
    pub fn is_late(&self, event: &Event) -> bool {
        let rule = |split: &Split| self.rules.get(split.layer.at());
        let split = match event {
            Event::LayerOpened { layer, .. } | Event::LayerSkipped { layer } | Event::LayerFailed { layer, .. } => {
                return self.is_given_up(*layer);
            }
            Event::SplitKeyed { split, .. } | Event::SplitCached { split, .. }
                if rule(split).is_some_and(|rule| rule.cached) =>
            {
                split
            }
            Event::AttemptSized { attempt, .. } if rule(&attempt.split).is_some_and(|rule| rule.sized) => {
                &attempt.split
            }
            Event::RetryDue { split } => split,
            _ => return false,
        };
        self.number(*split).is_some_and(|number| self.splits[number].stage == Stage::Settled(State::Cancelled))
    }

    /// The place of a split that stands where the event needs it.
    pub(super) fn expect_split(&self, split: Split, event: &Event, stage: Stage) -> Result<usize, IllegalEvent> {
        let number = self.number(split).filter(|number| self.splits[*number].stage == stage);
        number.ok_or_else(|| self.illegal(split, event))
    }

    /// The split of an attempt, if it is its latest and stands where the event needs it.
    pub(super) fn expect(
        &self,
        attempt: Attempt,
        event: &Event,
        fits: impl Fn(Stage) -> bool,
    ) -> Result<usize, IllegalEvent> {
        let number = self.number(attempt.split).filter(|number| {
            let split = &self.splits[*number];
            split.launched == attempt.number && fits(split.stage)
        });
        number.ok_or_else(|| self.illegal(attempt.split, event))
    }
}
