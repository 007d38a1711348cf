//! The conformance kit on sandboxes of bubblewrap.

use std::process::{Command, ExitCode};
use std::sync::Arc;

use laminar_backend_local::LocalExecutor;
use laminar_bubblewrap::{Bubblewrap, NAME, OPTIONS};
use laminar_core::executor::Executor;
use laminar_core::option::Options;
use laminar_tests::gaps;
use laminar_tests::kit::{self, Ability, Factory, Lack};

const PROGRAM: &str = env!("CARGO_BIN_EXE_laminar-bubblewrap");

fn main() -> ExitCode {
    kit::documented(vec![Box::new(Sandboxes)], concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md"))
}

struct Sandboxes;

/// Its supervisors are this program.
fn supervised_by(program: &str) -> LocalExecutor {
    LocalExecutor::launching(NAME, Bubblewrap::new(&Options::new(&OPTIONS, []))).supervised_by(program)
}

impl Factory for Sandboxes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(supervised_by(PROGRAM))
    }

    fn mute(&self) -> Option<Arc<dyn Executor>> {
        Some(Arc::new(supervised_by("/bin/true")))
    }

    fn broken(&self) -> Option<Arc<dyn Executor>> {
        Some(Arc::new(supervised_by("/bin/false")))
    }

    fn lacks(&self) -> Vec<Lack> {
        vec![Lack { ability: Ability::Shared, reason: "an execution has one scheduler: the next takes it over" }]
    }

    fn unavailable(&self) -> Option<String> {
        Command::new("bwrap").arg("--version").output().err()?;
        assert!(!gaps::is_required(NAME), "{NAME} is required, and not installed");
        Some("bubblewrap is not installed".to_owned())
    }
}
