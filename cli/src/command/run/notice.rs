//! What the backend cannot enforce of what the flow asks for: said once, before anything runs.

use std::collections::BTreeMap;

use laminar_core::container::Feature;
use laminar_core::executor::Probe;
use laminar_core::flow::Flow;

use crate::backends::Backend;
use crate::context::Context;
use crate::error::Error;
use crate::load::Loaded;
use crate::text::few;

/// How many layers are named for each key.
const MOST_NAMES: usize = 3;

/// Says what the backend cannot enforce, one line a key.
///
/// # Errors
/// When `--strict` forbids it.
pub(crate) fn unenforced(
    context: &mut Context<'_>,
    strict: bool,
    loaded: &Loaded,
    backend: &Backend,
    probe: &Probe,
) -> Result<(), Error> {
    let lines = lines(&loaded.flow, probe);
    if lines.is_empty() {
        return Ok(());
    }
    if strict {
        let error = Error::usage(format!("the backend `{}` does not enforce all that the flow asks for", backend.name));
        let error = lines.into_iter().fold(error, Error::at);
        return Err(error.hint("take another backend, or leave out `--strict`"));
    }
    for line in lines {
        context.output.note(&format!("the backend `{}` does not enforce {line}", backend.name));
    }
    Ok(())
}

fn lines(flow: &Flow, probe: &Probe) -> Vec<String> {
    let mut layers: BTreeMap<Feature, Vec<&str>> = BTreeMap::new();
    for layer in &flow.layers {
        for feature in layer.container.features() {
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
                _ => "",
            };
            format!("`{}`, asked for by {names}{still}", feature.key().replace(", ", "`, `"))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use laminar_core::container::Container;
    use laminar_core::fake::flow_of;

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
        let probe = Probe {
            version: String::new(),
            facts: Vec::new(),
            enforces: [Feature::User].into(),
            cpu_millis: 0,
            memory: 0,
        };
        assert_eq!(
            lines(&flow, &probe),
            [
                "`memory`, asked for by L0, L1, L2 and 2 more; it is still reserved among the layers that run at once",
                "`read_only`, asked for by L0, L1, L2 and 2 more",
            ]
        );
    }
}
