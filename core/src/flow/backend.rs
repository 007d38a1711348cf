//! Compares what a flow says of backends with those that there are.
//!
//! Which ones there are, and which options each has, is told by whoever asks; a flow that names none is right anywhere.

use crate::flow::Flow;
use crate::flow::check::{Address, Finding, Part, Step, in_layer};
use crate::id::LayerId;
use crate::option::{self, Spec, Unfit};
use crate::units::{clip, closest};

use Step::{Key, Nth};

/// A backend that there is.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its options.
    pub options: &'a [Spec],
}

/// Everything that is wrong.
pub(super) fn compare(flow: &Flow, known: &[Known<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, (name, options)) in flow.backends.iter().enumerate() {
        let here = vec![Key("backends"), Nth(at)];
        let Some(backend) = known.iter().find(|backend| backend.name == name) else {
            findings.push(unknown(name, known, here, Part::Key));
            continue;
        };
        for (nth, (option, value)) in options.iter().enumerate() {
            let steps = || vec![Key("backends"), Nth(at), Nth(nth)];
            match option::find(backend.options, name, option).map(|spec| spec.check(value)) {
                Ok(Ok(())) => {}
                Ok(Err(unfit)) => findings.push(finding(unfit, steps(), Part::Value)),
                Err(unfit) => findings.push(finding(unfit, steps(), Part::Key)),
            }
        }
    }
    let defaults = flow.backend.iter().map(|name| (name, vec![Key("defaults"), Key("backend")]));
    let layers = flow.layers.iter().zip((0..).map(LayerId));
    let layers = layers.filter_map(|(layer, id)| Some((layer.backend.as_ref()?, in_layer(id, &[Key("backend")]))));
    for (name, steps) in defaults.chain(layers) {
        if !known.iter().any(|backend| backend.name == &**name) {
            findings.push(unknown(name, known, steps, Part::Value));
        }
    }
    findings
}

fn unknown(name: &str, known: &[Known<'_>], steps: Vec<Step>, part: Part) -> Finding {
    let names = || known.iter().map(|backend| backend.name);
    let all = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = match closest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is {all}; `laminar backends` says more"),
    };
    finding(Unfit { message: format!("there is no backend `{}`", clip(name)), hint: Some(hint) }, steps, part)
}

fn finding(unfit: Unfit, steps: Vec<Step>, part: Part) -> Finding {
    let at = vec![Address { steps, part, label: String::new() }];
    Finding { message: unfit.message, hint: unfit.hint, at, absence: false }
}
