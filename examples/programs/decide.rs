//! What runs, and what counts as a good end: conditions, layers that are skipped with what they need, values that may be
//! missing, errors that are caught by their type or their exit code.

use std::num::ParseIntError;

use laminar::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parameters {
    size: u32,
}

/// The exit code of a device that is busy.
const BUSY: u8 = 75;

fn main() -> ExitCode {
    let flow = Flow::new("Decide");
    let parameters = flow.parameters(Parameters { size: 3 });
    let measure = flow.layer_with("Measure", parameters, |p| Ok(p.size));
    let small = flow.layer("Small", || Ok("small".to_owned())).when(measure, |size| Ok(size < 5));
    let large = flow.layer("Large", || Ok("large".to_owned())).when(measure, |size| Ok(size >= 5));
    // Skipped with what it needs.
    flow.layer_with("Polish", large, |large| Ok(large.to_uppercase()));

    // A number that is none is no reason to stop: what the split leaves is missing, and nothing else.
    let texts = ["1", "two", "3"].map(str::to_owned).to_vec();
    let parse = flow.foreach("Parse", texts, |text: String| text.parse::<u32>().context("no number"));
    let parse = parse.catch::<ParseIntError>();
    let probe = flow.layer("Probe", probe).catch_codes([BUSY]);

    // Whoever reads `maybe()` runs in any case.
    let sizes = (small.maybe(), large.maybe());
    flow.layer_with("Report", (sizes, probe.maybe(), parse.join()), |((small, large), probe, numbers)| {
        let size = small.or(large).unwrap_or_default();
        Ok(format!("{size}, probe {probe:?}, numbers {numbers:?}"))
    });
    laminar::main(flow)
}

fn probe() -> laminar::Result<f64> {
    Err(Failure::new("the device is busy").with_code(BUSY))
}
