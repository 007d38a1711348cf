//! Parameters and hooks: a struct with defaults, of which `--parameter` sets fields; and functions that wrap the call of a
//! layer's function, those of one layer within those of the flow.

use laminar::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Parameters {
    seed: u64,
    depths: Vec<u32>,
    mode: Mode,
    /// Not said unless it is set.
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Thorough,
}

fn main() -> ExitCode {
    let flow = Flow::new("Parameters");
    let defaults = Parameters { seed: 7, depths: vec![2, 4], mode: Mode::Fast, note: None };
    let parameters = flow.parameters(defaults);

    flow.around(|task, call| {
        println!("{}[{}] begins", task.layer, task.index);
        let done = call();
        println!("{}[{}] {}", task.layer, task.index, if done.is_ok() { "ends" } else { "fails" });
        done
    });

    // Fanned out over what is in them, and each split is given all of them.
    let train = flow.foreach_with("Train", parameters.list(|p| p.depths), parameters, |depth, p| {
        Ok(format!("{depth} {} {:?}", p.seed, p.mode))
    });
    train.around(|_, call| {
        println!("within");
        call()
    });
    // A hook can call again, or say more of what went wrong.
    let tries = std::sync::atomic::AtomicU32::new(0);
    flow.layer_with("Flaky", parameters, move |p| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Err("the first call fails".into()),
        _ => Ok(p.note.unwrap_or_else(|| "no note".to_owned())),
    })
    .around(|_, call| call().or_else(|_| call()).context("twice in vain"));
    laminar::main(flow)
}
