//! Where layers run and how often they are tried: settings of the flow, of a layer, of each split and of each attempt.

use std::time::Duration;

use laminar::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parameters {
    /// The images that splits of `Where` run in, in turn.
    images: Vec<String>,
}

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let flow = Flow::new("Sizes");
    let parameters = flow.parameters(Parameters { images: vec!["sizes:one".to_owned(), "sizes:two".to_owned()] });
    // What layers have that say nothing else.
    flow.container(Container::new().cpu(0.5).memory("64MiB").network("none"));
    flow.retry(Retry::attempts(2).delay(Duration::from_millis(1)));

    // By the split's value, and twice as much with each attempt. The first fails here.
    let fit = flow.foreach_with("Fit", vec![64_u64, 96], task(), |_, task| match task.attempt {
        1 => Err("not enough".into()),
        attempt => Ok((attempt, memory())),
    });
    fit.memory_by(|split| Ok((split.value::<u64>()? * MIB) << (split.attempt - 1)));

    // The same where only the engine knows that it was not enough: 96 MiB do not fit into 64.
    flow.layer_with("Hungry", task(), |task| {
        let eaten = std::hint::black_box(vec![task.attempt as u8; 96 << 20]);
        Ok((task.attempt, eaten.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>()))
    })
    .container(Container::new().memory("64MiB"))
    .retry(Retry::attempts(3).only(["oom"]).delay(Duration::from_millis(1)).memory(2.0).max_memory("256MiB"));

    // By the split and the parameters, before there is a process.
    flow.foreach_with("Where", vec![0_usize, 1], parameters, |at, p| Ok(p.images.get(at).cloned())).image_by(|split| {
        let Parameters { images } = split.parameters()?;
        Ok(images[split.index as usize % images.len()].clone())
    });

    // A layer's own block is merged over the flow's, key by key.
    flow.layer("Small", || Ok(memory())).container(Container::new().memory("32MiB")).timeout(Duration::from_secs(60));
    laminar::main(flow)
}

/// The limit of the container that this runs in, if it is one.
fn memory() -> Option<u64> {
    let of_both_versions = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = of_both_versions.iter().find_map(|path| std::fs::read_to_string(path).ok())?.trim().parse().ok()?;
    (limit < 1 << 50).then_some(limit)
}
