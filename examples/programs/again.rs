//! Going on after a failure: `run` fails until there is a file `ready`, and `resume` does only what is not done yet.

use laminar::prelude::*;

fn main() -> ExitCode {
    let flow = Flow::new("Again");
    // In a container, the folder where the program was started is `/flow`.
    flow.container(Container::new().mounts([".:/flow:ro"]).workdir("/flow"));
    flow.go_on_after_failures();

    let prepare = flow.layer("Prepare", || {
        println!("prepared");
        Ok((0..4).collect::<Vec<u32>>())
    });
    let work = flow.foreach("Work", prepare, |n| {
        println!("work on {n}");
        if n == 2 {
            std::fs::metadata("ready").context("it is not ready")?;
        }
        Ok(n * 10)
    });
    flow.layer_with("Sum", work.join(), |all| Ok(all.iter().sum::<u32>()));
    laminar::main(flow)
}
