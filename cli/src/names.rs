//! The names of layers and splits, by their dense ids.

use std::sync::Arc;

use laminar_core::flow::Flow;
use laminar_core::id::{LayerId, Split};

/// The names of an execution's layers.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    layers: Vec<Arc<str>>,
    /// Which of them are fanned out.
    foreach: Vec<bool>,
}

impl Names {
    /// The names of a flow's layers.
    pub(crate) fn of_flow(flow: &Flow) -> Names {
        let layers = flow.layers.iter();
        Names {
            layers: layers.clone().map(|layer| Arc::clone(&layer.name)).collect(),
            foreach: layers.map(|layer| layer.foreach.is_some()).collect(),
        }
    }

    /// The names as the run store has them, and which of the layers are known to be fanned out.
    pub(crate) fn stored(names: &[Arc<str>], foreach: impl IntoIterator<Item = LayerId>) -> Names {
        let mut names = Names { foreach: vec![false; names.len()], layers: names.to_vec() };
        foreach.into_iter().for_each(|layer| names.fan_out(layer));
        names
    }

    /// How many layers there are.
    pub(crate) fn len(&self) -> usize {
        self.layers.len()
    }

    /// Every layer, in the order of the flow file.
    pub(crate) fn ids(&self) -> impl Iterator<Item = LayerId> + use<> {
        (0_u32..).map(LayerId).take(self.len())
    }

    /// A layer's name; `?` for a layer that a damaged log made up.
    pub(crate) fn layer(&self, id: LayerId) -> &str {
        self.layers.get(id.at()).map_or("?", |name| name)
    }

    /// A layer by its name.
    pub(crate) fn find(&self, name: &str) -> Option<LayerId> {
        self.ids().find(|id| self.layer(*id) == name)
    }

    /// Whether a layer is fanned out.
    pub(crate) fn is_foreach(&self, id: LayerId) -> bool {
        self.foreach.get(id.at()) == Some(&true)
    }

    /// A layer turns out to be fanned out.
    pub(crate) fn fan_out(&mut self, id: LayerId) {
        if let Some(flag) = self.foreach.get_mut(id.at()) {
            *flag = true;
        }
    }

    /// Whether any is.
    pub(crate) fn has_foreach(&self) -> bool {
        self.foreach.contains(&true)
    }

    /// What a split is called: `Train[3]`, or `Train` where there is only that.
    pub(crate) fn split(&self, split: Split) -> String {
        if split.index > 0 || self.is_foreach(split.layer) {
            format!("{}[{}]", self.layer(split.layer), split.index)
        } else {
            self.layer(split.layer).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_a_foreach_layer_has_its_index_and_no_other_has_one() {
        let names = Names::stored(&["A", "B"].map(Into::into), [LayerId(1)]);
        let called = |layer, index| names.split(Split { layer: LayerId(layer), index });
        assert_eq!([called(0, 0), called(1, 0), called(1, 7)], ["A", "B[0]", "B[7]"]);
        assert!(names.has_foreach() && !names.is_foreach(LayerId(0)));
    }
}
