//! Whether the backend keeps laminar's contract: `cargo test`, or `cargo test --test conformance -- stop`.

use std::process::ExitCode;
use std::sync::Arc;

use laminar_backend_local::LocalExecutor;
use laminar_core::executor::Executor;
use laminar_core::option::Options;
use laminar_mine::{Mine, NAME, OPTIONS};
use laminar_tests::kit::{self, Ability, Factory, Lack};

/// The program itself: the supervisors of its layers are the same program in another role.
const PROGRAM: &str = env!("CARGO_BIN_EXE_laminar-mine");

fn main() -> ExitCode {
    kit::main(vec![Box::new(Kit)])
}

struct Kit;

fn supervised_by(program: &str) -> Arc<dyn Executor> {
    let mine = Mine::new(&Options::new(&OPTIONS, []));
    Arc::new(LocalExecutor::launching(NAME, mine).supervised_by(program))
}

impl Factory for Kit {
    fn name(&self) -> &str {
        NAME
    }

    fn executor(&self) -> Arc<dyn Executor> {
        supervised_by(PROGRAM)
    }

    /// A supervisor that does not listen.
    fn mute(&self) -> Option<Arc<dyn Executor>> {
        Some(supervised_by("/bin/true"))
    }

    /// A supervisor that fails.
    fn broken(&self) -> Option<Arc<dyn Executor>> {
        Some(supervised_by("/bin/false"))
    }

    /// What it cannot do, and why: a case that needs it is listed with the reason, and not run.
    fn lacks(&self) -> Vec<Lack> {
        vec![Lack { ability: Ability::Shared, reason: "an execution has one scheduler: the next takes it over" }]
    }
}
