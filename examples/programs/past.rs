//! Results: what every execution of the past has left, of whatever flow, read by an ordinary program. It takes the folder of
//! the executions: `past .laminar`.

use std::io::{self, Write};

use laminar::{Result, Results, Shards};

fn main() -> Result<()> {
    let root = std::env::args().nth(1).unwrap_or_else(|| ".laminar".to_owned());
    let mut out = io::stdout().lock();
    let results = Results::open(root)?;
    for listed in results.executions()? {
        let execution = results.execution(&listed.id)?;
        writeln!(out, "{} {}", listed.flow, listed.state)?;
        for layer in execution.layers()? {
            let states: Vec<&str> = layer.splits.iter().map(|split| split.state).collect();
            writeln!(out, "  {} {}{}", layer.name, layer.state.unwrap_or_default(), states.join(" "))?;
        }
        let size: u64 = execution.artifacts()?.iter().map(|artifact| artifact.size).sum();
        writeln!(out, "  {size} bytes")?;
        // What is known of a flow can be read with its types.
        if listed.flow == "Again" {
            let work: Shards<u32> = execution.values("Work", "value")?;
            let done: Result<Vec<u32>> = work.iter().collect();
            writeln!(out, "  done {:?}, sum {:?}", done?, execution.value::<u32>("Sum", "value").ok())?;
        }
    }
    Ok(())
}
