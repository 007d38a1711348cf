//! Layers that ask for more than there is: told before anything runs, since they could never start.

use crate::container::Container;
use crate::flow::Flow;
use crate::id::LayerId;
use crate::scheduler::Limits;

/// A layer that asks for more cores or memory than may be shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The layer.
    pub layer: LayerId,
    /// Of what: the key of its `container` block, `cpu` or `memory`.
    pub what: &'static str,
    /// How much it asks for, with the unit.
    pub asked: String,
    /// How much there is, with the unit.
    pub there: String,
}

/// All such layers of a flow, in its order.
#[must_use]
pub fn excess(flow: &Flow, limits: &Limits) -> Vec<Excess> {
    let layers = flow.layers.iter().zip((0..).map(LayerId));
    layers.flat_map(|(layer, id)| of(&layer.container, id, limits)).collect()
}

/// What one container asks for in excess.
pub(super) fn of(container: &Container, layer: LayerId, limits: &Limits) -> impl Iterator<Item = Excess> + use<> {
    let excess = |what, asked: Option<u64>, there, words: fn(u64) -> String| {
        let asked = asked.filter(|asked| *asked > there)?;
        Some(Excess { layer, what, asked: words(asked), there: words(there) })
    };
    let cpu = excess("cpu", container.cpu_millis, limits.cpu_millis, cores);
    cpu.into_iter().chain(excess("memory", container.memory, limits.memory, bytes))
}

fn cores(millis: u64) -> String {
    match (millis / 1000, millis % 1000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
    }
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fake::flow_of;

    #[test]
    fn a_layer_that_could_never_start_is_named_with_what_it_asks_for() {
        let mut flow = flow_of(&[&[], &[]]);
        flow.layers[1].container =
            Arc::new(Container { cpu_millis: Some(2500), memory: Some(3 << 30), ..Container::default() });
        let limits = Limits { jobs: 1, cpu_millis: 2000, memory: 1 << 30 };
        let all = excess(&flow, &limits);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].what, all[0].asked.as_str(), all[0].there.as_str()), ("cpu", "2.5", "2"));
        assert_eq!((all[1].what, all[1].asked.as_str(), all[1].there.as_str()), ("memory", "3.0 GiB", "1.0 GiB"));
        let limits = Limits { jobs: 1, cpu_millis: 2500, memory: 3 << 30 };
        assert_eq!(excess(&flow, &limits), []);
    }
}
