//! The names of layers and splits, by their dense ids.

use std::sync::Arc;

use laminar_core::flow::Flow;
use laminar_core::id::{LayerId, Split};

/// The names of an execution's layers.
#[derive(Clone, Debug)]
pub(crate) struct Names(Vec<Arc<str>>);

impl Names {
    /// The names of a flow's layers.
    pub(crate) fn of_flow(flow: &Flow) -> Names {
        Names(flow.layers.iter().map(|layer| Arc::clone(&layer.name)).collect())
    }

    /// The names as the run store has them.
    pub(crate) fn stored(names: &[String]) -> Names {
        Names(names.iter().map(|name| name.as_str().into()).collect())
    }

    /// How many layers there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every layer, in the order of the flow file.
    pub(crate) fn ids(&self) -> impl Iterator<Item = LayerId> + use<> {
        (0_u32..).map(LayerId).take(self.len())
    }

    /// A layer's name; `?` for a layer that a damaged log made up.
    pub(crate) fn layer(&self, id: LayerId) -> &str {
        self.0.get(id.at()).map_or("?", |name| name)
    }

    /// A layer by its name.
    pub(crate) fn find(&self, name: &str) -> Option<LayerId> {
        self.ids().find(|id| self.layer(*id) == name)
    }

    /// What a split is called: `Train`, or `Train[3]`. The first split is called like its layer.
    pub(crate) fn split(&self, split: Split) -> String {
        match split.index {
            0 => self.layer(split.layer).to_owned(),
            index => format!("{}[{index}]", self.layer(split.layer)),
        }
    }
}
