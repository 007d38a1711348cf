//! Checks `retry`: its words and units, and whether what a layer says has an effect.

use std::sync::Arc;

use crate::container::Container;
use crate::executor::Cause;
use crate::flow::raw::{self, Text};
use crate::flow::{Failure, On, Open, Retry, retry};
use crate::units;

use super::Step::{self, Key, Nth};
use super::{Check, Part};

impl Check<'_> {
    pub(super) fn retry(&mut self, raw: Option<&raw::Retry>, base: &Arc<Retry>, here: &[Step]) -> Arc<Retry> {
        let Some(raw) = raw else { return Arc::clone(base) };
        let mut retry = Retry::clone(base);
        let steps = |key| [here, &[Key("retry"), Key(key)]].concat();
        if let Some(attempts) = raw.attempts {
            let attempts = units::count("attempts", attempts, 1);
            retry.attempts = self.take(attempts, || steps("attempts")).unwrap_or(1);
        }
        if let Some(delay) = &raw.delay {
            retry.delay = self.take(units::duration(delay.0.as_str()), || steps("delay")).unwrap_or_default();
        }
        if let Some(backoff) = raw.backoff {
            retry.backoff = self.take(units::factor("backoff", backoff, 1.0), || steps("backoff")).unwrap_or(1.0);
        }
        if let Some(jitter) = raw.jitter {
            retry.jitter = self.take(units::factor("jitter", jitter, 0.0), || steps("jitter")).unwrap_or(0.0);
        }
        if let Some(delay) = &raw.max_delay {
            retry.max_delay = self.take(units::duration(delay.0.as_str()), || steps("max_delay"));
        }
        if let Some(only) = &raw.only {
            retry.only = Some(self.only(only, &steps("only")));
        }
        if let Some(factor) = &raw.memory {
            retry.memory = self.take(retry::factor(factor.0.as_str()), || steps("memory"));
        }
        if let Some(memory) = &raw.max_memory {
            retry.max_memory = self.take(units::memory("max_memory", memory.0.as_str()), || steps("max_memory"));
        }
        let grows = retry.memory.is_some() && (raw.memory.is_some() || raw.only.is_some());
        if grows && !retry.covers(Failure::Exit(&Cause::OutOfMemory)) {
            let key = if raw.only.is_some() { "only" } else { "memory" };
            let hint = Some("add `oom` to `only`, or remove `memory`".to_owned());
            let message = "`memory` grows after `oom`, which `only` does not name";
            self.find(message, hint, steps(key), Part::Key);
        }
        Arc::new(retry)
    }

    fn only(&mut self, raw: &[Text], steps: &[Step]) -> Arc<[On]> {
        if raw.is_empty() {
            let hint = Some("name the ends after which to try again, or remove the key".to_owned());
            self.find("an empty `only`", hint, steps.to_vec(), Part::Value);
        }
        let entry = |(at, text): (usize, &Text)| self.take(retry::on(text.as_str()), || [steps, &[Nth(at)]].concat());
        raw.iter().enumerate().filter_map(entry).collect()
    }

    /// Whether what a layer's own `retry` says has an effect, beside what else holds for the layer.
    pub(super) fn retry_fits(
        &mut self,
        raw: &raw::Layer,
        retry: &Retry,
        container: &Container,
        open: &Open,
        here: &[Step; 2],
    ) {
        let Some(own) = &raw.retry else { return };
        let steps = || [here[0], here[1], Key("retry")].to_vec();
        let once = retry.attempts == 1 && own.attempts.is_none_or(|attempts| attempts == 1);
        if once && (own.only.is_some() || own.memory.is_some()) {
            let message = "with one attempt there is no other after it";
            self.absent(message, "say how many there are in all: `attempts: 3`", steps());
        }
        let own_memory = raw.container.as_ref().is_some_and(|container| container.memory.is_some());
        let said = own_memory || open.container.iter().any(|(key, _)| key == "memory");
        if own.memory.is_some() && container.memory.is_none() && !said {
            let message = "memory grows from `container.memory`, which is not said";
            self.absent(message, "say what the first attempt gets: `container: { memory: 4GiB }`", steps());
        }
        let Some(most) = retry.max_memory.filter(|_| own.max_memory.is_some()) else { return };
        if retry.memory.is_none() && own.memory.is_none() {
            let message = "`max_memory` without `memory` has no effect";
            self.absent(message, "say by which factor memory grows: `memory: x2`", steps());
        } else if container.memory.is_some_and(|memory| memory > most) {
            let hint = Some("choose one that is larger".to_owned());
            let steps = [steps(), vec![Key("max_memory")]].concat();
            self.find("`max_memory` is less than `container.memory`", hint, steps, Part::Value);
        }
    }
}
