//! Flow programs: a flow written in Rust, whose program is both the scheduler and what each layer runs.
//!
//! [`Flow`] builds it; handles ([`Layer`], [`Fan`]) say what reads what, and carry the type of what is read. [`main`] is the
//! whole command line when a person starts the program, and evaluates one layer when the scheduler did. The flow that is built
//! is written as a flow file and kept with each execution, so nothing behind it knows of programs; what only the program can
//! compute, conditions and settings, it answers while it schedules.

mod artifact;
mod artifacts;
mod evaluate;
mod failure;
mod flow;
mod frozen;
mod handle;
mod in_process;
mod input;
mod over;
mod results;
mod settings;
mod shards;
mod source;

use std::process::ExitCode;

pub use artifact::{Artifact, Bytes, File, Folder};
pub use artifacts::{Artifacts, Field};
pub use failure::{Context, Failure, Result};
pub(crate) use flow::CAUGHT;
pub use flow::Flow;
pub use handle::{Fan, Foreign, Joined, Layer, Maybe, Split};
pub use in_process::{InProcess, Ran};
pub use input::{Input, Parameters, ThisTask, task};
pub use over::{List, Over, Sequence, Zip, zip};
pub use results::{ArtifactResult, Execution, LayerResult, Listed, Results, SplitResult};
pub use settings::{Container, Limits, Retry};
pub use shards::Shards;
pub use source::Task;

pub(crate) use evaluate::evaluate;
pub(crate) use frozen::{Inside, Placement, Program, own_path};

/// For the macro.
#[doc(hidden)]
pub mod __private {
    pub use super::artifacts::{Find, Found, file, load, save};
}

/// The whole command line for this flow when a person starts the program: `run`, `status`, `resume`, `--backend` and all the
/// rest. When the scheduler started it, evaluates the one layer that it was started for. To be called as soon as the flow is
/// built, from the process's only thread; what it returns is how the process is to exit.
#[must_use]
pub fn main(flow: Flow) -> ExitCode {
    crate::CommandLine::new().flow(flow).main()
}

#[cfg(test)]
mod tests;
