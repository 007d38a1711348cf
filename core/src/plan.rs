//! The plan: a flow as a graph of dense ids, with each layer's rank on the critical path.
//!
//! It is unaware of commands, containers and executions. It is made once and never changes. The only room that knows
//! petgraph, which orders the graph and finds its cycles; what the scheduler reads afterwards are plain arrays.

use std::collections::VecDeque;
use std::sync::Arc;

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::flow::Flow;
use crate::id::LayerId;

/// A flow's graph, free of cycles.
#[derive(Debug)]
pub struct Plan {
    needs: Rows,
    dependants: Rows,
    order: Vec<LayerId>,
    ranks: Vec<u32>,
}

/// A flow with its plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The flow.
    pub flow: Arc<Flow>,
    /// Its plan.
    pub plan: Arc<Plan>,
}

impl Planned {
    /// Plans a flow.
    ///
    /// # Errors
    /// When layers need each other in a cycle.
    pub fn new(flow: Flow) -> Result<Planned, Cycle> {
        let plan = Arc::new(Plan::new(&flow)?);
        Ok(Planned { flow: Arc::new(flow), plan })
    }
}

/// Layers that need each other in a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Each layer needs the next, and the last needs the first. A shortest cycle, never empty.
    pub path: Vec<LayerId>,
}

impl Plan {
    /// Plans a flow.
    ///
    /// # Errors
    /// When layers need each other in a cycle.
    pub fn new(flow: &Flow) -> Result<Plan, Cycle> {
        let count = flow.layers.len();
        let edges = || {
            let layers = flow.layers.iter().zip(0_u32..);
            layers.flat_map(|(layer, id)| layer.needs.iter().map(move |need| (need.0, id)))
        };
        let order = {
            let mut graph = DiGraph::<(), ()>::with_capacity(count, edges().count());
            for _ in 0..count {
                graph.add_node(());
            }
            for (need, layer) in edges() {
                graph.add_edge(node(need), node(layer), ());
            }
            match toposort(&graph, None) {
                Ok(order) => order.into_iter().map(layer).collect::<Vec<_>>(),
                Err(_) => return Err(shortest_cycle(&graph)),
            }
        };
        let needs = Rows::new(count, edges().map(|(need, layer)| (layer, need)));
        let dependants = Rows::new(count, edges());
        let mut ranks = vec![1; count];
        for id in order.iter().rev() {
            let below = dependants.row(*id).iter().map(|dependant| ranks[dependant.at()]).max();
            ranks[id.at()] = 1 + below.unwrap_or(0);
        }
        Ok(Plan { needs, dependants, order, ranks })
    }

    /// How many layers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether there is no layer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// The layers that this one needs.
    #[must_use]
    pub fn needs(&self, id: LayerId) -> &[LayerId] {
        self.needs.row(id)
    }

    /// The layers that need this one.
    #[must_use]
    pub fn dependants(&self, id: LayerId) -> &[LayerId] {
        self.dependants.row(id)
    }

    /// How many layers the longest path from this one to the end has, itself included.
    #[must_use]
    pub fn rank(&self, id: LayerId) -> u32 {
        self.ranks[id.at()]
    }

    /// The layers by levels: those of the first need nothing, those of the next need one of the level before, and so on.
    #[must_use]
    pub fn levels(&self) -> Vec<Vec<LayerId>> {
        let mut depth = vec![0_usize; self.len()];
        let mut levels: Vec<Vec<LayerId>> = Vec::new();
        for id in &self.order {
            let level = self.needs(*id).iter().map(|need| depth[need.at()] + 1).max().unwrap_or(0);
            depth[id.at()] = level;
            if levels.len() <= level {
                levels.resize_with(level + 1, Vec::new);
            }
            levels[level].push(*id);
        }
        for level in &mut levels {
            level.sort_unstable();
        }
        levels
    }

    /// A longest path through the flow, from a layer that needs nothing to the end.
    #[must_use]
    pub fn critical_path(&self) -> Vec<LayerId> {
        // The first of the best, so that the answer does not depend on the sort.
        let best =
            |ids: &mut dyn Iterator<Item = LayerId>| ids.max_by_key(|id| (self.rank(*id), std::cmp::Reverse(*id)));
        let mut path = Vec::new();
        let mut next = best(&mut self.order.iter().copied());
        while let Some(id) = next {
            path.push(id);
            next = best(&mut self.dependants(id).iter().copied());
        }
        path
    }
}

/// Rows of ids in one piece of memory (compressed sparse rows).
#[derive(Debug)]
struct Rows {
    starts: Vec<u32>,
    ids: Vec<LayerId>,
}

impl Rows {
    /// One row per layer, from pairs of a row and an id in it; ids keep the order of the pairs.
    fn new(count: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Rows {
        let mut starts = vec![0_u32; count + 1];
        for (row, _) in pairs.clone() {
            starts[row as usize + 1] += 1;
        }
        for row in 0..count {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut ids = vec![LayerId(0); starts[count] as usize];
        for (row, id) in pairs {
            let at = &mut next[row as usize];
            ids[*at as usize] = LayerId(id);
            *at += 1;
        }
        Rows { starts, ids }
    }

    fn row(&self, id: LayerId) -> &[LayerId] {
        &self.ids[self.starts[id.at()] as usize..self.starts[id.at() + 1] as usize]
    }
}

fn node(id: u32) -> NodeIndex {
    NodeIndex::new(id as usize)
}

fn layer(node: NodeIndex) -> LayerId {
    #[expect(clippy::cast_possible_truncation, reason = "node indices of this graph are u32")]
    LayerId(node.index() as u32)
}

/// A shortest cycle through the smallest layer that is in one. Edges run from a need to what needs it, so the path is
/// walked against them.
fn shortest_cycle(graph: &DiGraph<(), ()>) -> Cycle {
    let on_cycle = tarjan_scc(graph).into_iter().filter(|part| part.len() > 1 || graph.contains_edge(part[0], part[0]));
    let start = on_cycle.flatten().min().unwrap_or_default();
    let mut towards = vec![None; graph.node_count()];
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for need in graph.neighbors_directed(at, petgraph::Incoming) {
            if need == start {
                return Cycle { path: walk_back(&towards, start, at) };
            }
            if towards[need.index()].is_none() {
                towards[need.index()] = Some(at);
                queue.push_back(need);
            }
        }
    }
    Cycle { path: vec![layer(start)] }
}

fn walk_back(towards: &[Option<NodeIndex>], start: NodeIndex, end: NodeIndex) -> Vec<LayerId> {
    let mut path = vec![layer(end)];
    let mut at = end;
    while at != start {
        let Some(before) = towards[at.index()] else { break };
        path.push(layer(before));
        at = before;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::flow_of;

    fn ids(ids: &[u32]) -> Vec<LayerId> {
        ids.iter().copied().map(LayerId).collect()
    }

    #[test]
    fn a_diamond_has_three_levels_and_its_ranks_count_to_the_end() {
        let plan = Plan::new(&flow_of(&[&[], &[0], &[0], &[1, 2]])).expect("no cycle");
        assert_eq!(plan.levels(), [ids(&[0]), ids(&[1, 2]), ids(&[3])]);
        assert_eq!((0..4).map(|id| plan.rank(LayerId(id))).collect::<Vec<_>>(), [3, 2, 2, 1]);
        assert_eq!(plan.critical_path(), ids(&[0, 1, 3]));
        assert_eq!(plan.dependants(LayerId(0)), ids(&[1, 2]));
        assert_eq!(plan.needs(LayerId(3)), ids(&[1, 2]));
    }

    #[test]
    fn a_cycle_is_told_whole_and_from_its_smallest_layer() {
        // 4 needs 3 needs 2 needs 4; 1 needs 2 and is no part of it.
        let cycle = Plan::new(&flow_of(&[&[], &[2], &[4], &[2], &[3]])).expect_err("a cycle");
        assert_eq!(cycle.path, ids(&[2, 4, 3]));
    }

    #[test]
    fn a_layer_that_needs_itself_is_a_cycle_of_one() {
        assert_eq!(Plan::new(&flow_of(&[&[], &[1]])).expect_err("a cycle").path, ids(&[1]));
    }

    #[test]
    fn the_shortest_of_several_cycles_is_told() {
        let cycle = Plan::new(&flow_of(&[&[3, 1], &[0], &[1], &[2]])).expect_err("a cycle");
        assert_eq!(cycle.path, ids(&[0, 1]));
    }
}
