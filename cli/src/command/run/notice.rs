//! What backends cannot enforce of what their layers ask for, and options that nobody uses: said once, before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use laminar_core::container::Feature;
use laminar_core::executor::Probe;
use laminar_core::flow::Layer;

use crate::choice::{Choice, Probed, Set};
use crate::context::Context;
use crate::error::Error;
use crate::load::Loaded;
use crate::text::few;

/// How many layers are named for each key.
const MOST_NAMES: usize = 3;

/// Says what each backend cannot enforce, one line a key.
///
/// # Errors
/// When `--strict` forbids it.
pub(crate) fn unenforced(
    context: &mut Context<'_>,
    strict: bool,
    loaded: &Loaded,
    choice: &Choice<'_>,
    probed: &[Probed<'_>],
) -> Result<(), Error> {
    let mut all = Vec::new();
    for Probed { backend, probe } in probed {
        let layers = choice.layers(backend).map(|layer| loaded.flow.layer(layer));
        all.extend(lines(layers, probe).into_iter().map(|line| (backend.name, line)));
    }
    let mut names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    names.dedup();
    if strict && let [first, others @ ..] = &names[..] {
        let who = match others {
            [] => format!("the backend `{first}` does"),
            _ => format!("the backends `{}` do", names.join("`, `")),
        };
        let error = Error::usage(format!("{who} not enforce all that the flow asks for"));
        let named = |(name, line)| if others.is_empty() { line } else { format!("`{name}`: {line}") };
        let error = all.into_iter().map(named).fold(error, Error::at);
        return Err(error.hint("take another backend, or leave out `--strict`"));
    }
    for (name, line) in all {
        context.output.note(&format!("the backend `{name}` does not enforce {line}"));
    }
    Ok(())
}

/// Says which options of the command line are of no use, since no layer runs there.
pub(crate) fn unused(context: &mut Context<'_>, choice: &Choice<'_>, set: &[Set]) {
    for (backend, name, _) in set {
        if !choice.used().any(|used| used.name == backend) {
            context.output.note(&format!("`-o {backend}.{name}` has no effect: no layer runs on `{backend}`"));
        }
    }
}

fn lines<'f>(flow: impl IntoIterator<Item = &'f Layer>, probe: &Probe) -> Vec<String> {
    let mut layers: BTreeMap<Feature, Vec<&str>> = BTreeMap::new();
    for layer in flow {
        // What an expression gives is not known yet, but that something is asked for.
        let open = layer.open.iter().flat_map(|open| &open.container);
        let open = open.filter_map(|(key, _)| Feature::of_key(key));
        let asked: BTreeSet<Feature> = layer.container.features().into_iter().chain(open).collect();
        for feature in asked {
            if !probe.enforces.contains(&feature) {
                layers.entry(feature).or_default().push(&layer.name);
            }
        }
    }
    layers
        .into_iter()
        .map(|(feature, names)| {
            let names = few(names, MOST_NAMES);
            let still = match feature {
                Feature::Cpu | Feature::Memory => "; it is still reserved among the layers that run at once",
                Feature::Reuse => "; each split gets a container of its own",
                _ => "",
            };
            format!("`{}`, asked for by {names}{still}", feature.keys().join("`, `"))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use laminar_core::container::Container;
    use laminar_core::fake::flow_of;
    use laminar_core::flow::{Open, Written};

    use super::*;

    #[test]
    fn there_is_one_line_a_key_with_few_layers() {
        let mut flow = flow_of(&[&[], &[], &[], &[], &[]]);
        let said =
            Arc::new(Container { memory: Some(1), read_only: true, user: Some("x".into()), ..Container::default() });
        for (at, layer) in flow.layers.iter_mut().enumerate() {
            layer.name = format!("L{at}").into();
            layer.container = Arc::clone(&said);
        }
        let open = vec![("memory".to_owned(), Written::Plain(1.into())), ("user".to_owned(), Written::Plain(1.into()))];
        flow.layers[4].container = Arc::default();
        flow.layers[4].open = Some(Arc::new(Open { container: open, timeout: None }));
        let probe = Probe {
            version: String::new(),
            facts: Vec::new(),
            enforces: [Feature::User].into(),
            cpu_millis: 0,
            memory: 0,
        };
        assert_eq!(
            lines(&flow.layers, &probe),
            [
                "`memory`, asked for by L0, L1, L2 and 2 more; it is still reserved among the layers that run at once",
                "`read_only`, asked for by L0, L1, L2 and 1 more",
            ]
        );
    }
}
