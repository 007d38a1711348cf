//! Flows of flows: functions add layers to a flow, and take what they read as an argument, be it another's layer or a
//! parameter. So flows follow each other, and one is another with more in it. The test runs them in its own process.

use laminar::prelude::*;
use laminar::{Input, Joined};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parameters {
    seed: u64,
}

/// The layers of a flow that others can build on.
#[derive(Clone, Copy)]
struct Numbers<'f> {
    drawn: Layer<'f, Vec<u64>>,
    squares: Fan<'f, u64>,
}

/// The first flow: numbers from a seed, and their squares.
fn numbers<'f>(flow: &'f Flow, seed: impl Input<'f, Value = u64>) -> Numbers<'f> {
    let drawn = flow.layer_with("Draw", seed, |seed| Ok((1..=3).map(|n| seed * n).collect::<Vec<u64>>()));
    let squares = flow.foreach("Square", drawn, |n| Ok(n * n));
    Numbers { drawn, squares }
}

/// The second, whose parameters are what the first has left.
fn sum<'f>(flow: &'f Flow, of: impl Input<'f, Value = Vec<u64>>) -> Layer<'f, u64> {
    flow.layer_with("Sum", of, |numbers| Ok(numbers.iter().sum()))
}

/// The first with more in it.
fn more_numbers<'f>(flow: &'f Flow, seed: impl Input<'f, Value = u64>) -> (Numbers<'f>, Joined<'f, u64>) {
    let base = numbers(flow, seed);
    let both = flow.foreach("Both", laminar::zip(base.squares, base.squares), |(a, b)| Ok(a + b));
    (base, both.join())
}

/// Both, one after the other.
fn build(flow: &Flow) -> Layer<'_, String> {
    let parameters = flow.parameters(Parameters { seed: 2 });
    // The linker: from what there is to what the next one wants.
    let seed = flow.layer_with("Seed", parameters, |p| Ok(p.seed));
    let (base, both) = more_numbers(flow, seed);
    let sum = sum(flow, both);
    flow.layer_with("Report", (base.drawn, sum), |(drawn, sum)| Ok(format!("{drawn:?} {sum}")))
}

fn main() -> ExitCode {
    let flow = Flow::new("Combine");
    build(&flow);
    laminar::main(flow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_flow_in_this_process() -> laminar::Result<()> {
        let flow = Flow::new("Combine");
        let report = build(&flow);
        let ran = flow.in_process().parameter("seed", 3).run()?;
        assert_eq!(ran.state()?, "finished");
        assert_eq!(ran.read(report)?, "[3, 6, 9] 252");
        assert_eq!(ran.layer("Both")?.count, Some(3));
        Ok(())
    }

    #[test]
    fn one_part_with_an_input_of_the_tests_own() -> laminar::Result<()> {
        let flow = Flow::new("Sum");
        let total = sum(&flow, flow.layer("Given", || Ok(vec![1, 2, 3])));
        assert_eq!(flow.in_process().run()?.read(total)?, 6);
        Ok(())
    }
}
