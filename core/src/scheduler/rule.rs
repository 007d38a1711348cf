//! What the scheduler must know of a flow.

use std::sync::Arc;

use super::ready::Request;
use crate::flow::{Flow, Layer, Open, Retry};

/// What it must know of a layer.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// What an attempt reserves, if it is not sized.
    pub(super) request: Request,
    pub(super) retry: Arc<Retry>,
    pub(super) catch: Arc<[i32]>,
    /// The most of its splits that are alive at once.
    pub(super) max_parallel: Option<u32>,
    pub(super) retired: bool,
    /// Whether it has a `when`: it is asked also if something that it needs was skipped.
    pub(super) when: bool,
    /// Whether it has a `foreach`.
    pub(super) foreach: bool,
    /// Whether what an attempt reserves is asked for each of them.
    pub(super) sized: bool,
    pub(super) cached: bool,
    /// Whether it can be told from what it leaves nothing else that it has done what it should, when that is nothing.
    pub(super) leads: bool,
    /// Whether an attempt is known in full before what it needs has settled, if that leaves nothing.
    pub(super) follows: bool,
}

impl Rule {
    /// Whether its splits are decided only once all that it needs has settled.
    pub(super) fn asks(&self) -> bool {
        self.when || self.foreach
    }
}

/// What must be known of each layer of a flow.
pub(super) fn rules(flow: &Flow) -> Vec<Rule> {
    let request = |layer: &Layer| Request {
        cpu_millis: layer.container.cpu_millis.unwrap_or(0),
        memory: layer.container.memory.unwrap_or(0),
    };
    let rule = |layer: &Layer| Rule {
        request: request(layer),
        retry: Arc::clone(&layer.retry),
        catch: Arc::clone(&layer.catch),
        max_parallel: layer.max_parallel.map(|most| most.max(1)),
        retired: layer.retired,
        when: layer.when.is_some(),
        foreach: layer.foreach.is_some(),
        sized: layer.open.as_deref().is_some_and(Open::sizes),
        cached: layer.cache.is_some(),
        leads: layer.outputs.as_ref().is_none_or(|promised| promised.is_empty()),
        follows: follows(layer) && request(layer) == Request::default(),
    };
    flow.layers.iter().map(rule).collect()
}

fn follows(layer: &Layer) -> bool {
    let asks = layer.when.is_some() || layer.foreach.is_some() || layer.open.is_some() || layer.reads();
    !asks && layer.cache.is_none() && layer.max_parallel.is_none() && layer.secrets.is_empty()
}

/// How many splits may run at once.
pub(super) fn jobs(flow: &Flow, most: u32) -> u32 {
    flow.max_parallel.unwrap_or(u32::MAX).min(most).max(1)
}
