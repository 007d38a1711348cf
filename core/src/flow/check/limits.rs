//! `limits`: how much an attempt may leave and print.

use std::sync::Arc;

use super::Step::{self, Key};
use super::{Check, Part};
use crate::flow::{LayerLimits, raw};
use crate::units;

impl Check<'_> {
    /// What it says, and else what the defaults say.
    pub(super) fn limits(
        &mut self,
        raw: Option<&raw::Limits>,
        defaults: &Arc<LayerLimits>,
        here: &[Step],
    ) -> Arc<LayerLimits> {
        let Some(raw) = raw else { return Arc::clone(defaults) };
        let mut limits = **defaults;
        let steps = |key: &'static str| [here, &[Key("limits"), Key(key)]].concat();
        match raw.files.map(|files| (files, u64::try_from(files))) {
            None => {}
            Some((_, Ok(files))) => limits.files = Some(files),
            Some((files, Err(_))) => {
                self.find(format!("`files` is {files}, but must be at least 0"), None, steps("files"), Part::Value);
            }
        }
        for (key, size, limit) in [("outputs", &raw.outputs, &mut limits.outputs), ("log", &raw.log, &mut limits.log)] {
            if let Some(size) = size {
                self.no_expression(key, size.0.as_str(), || steps(key));
                *limit = self.take(units::size(size.0.as_str()), || steps(key));
            }
        }
        Arc::new(limits)
    }
}
