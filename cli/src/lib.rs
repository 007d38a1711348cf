//! The command line of laminar, as a library: what the binary is made of, and what a binary with a backend of its own
//! links.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # fn mine() -> Arc<dyn laminar_core::executor::Executor> { unimplemented!() }
//! fn main() -> std::process::ExitCode {
//!     let mine = laminar::Backend::new("mine", "my own machines", |_| mine());
//!     laminar::CommandLine::new().backend(mine).main()
//! }
//! ```
//!
//! A backend with options declares them, and its executor is given their checked values:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use laminar_core::option::{Kind, Spec};
//! # fn mine(queue: &str) -> Arc<dyn laminar_core::executor::Executor> { unimplemented!() }
//! let queue = Spec::new("queue", Kind::Text, "where layers wait for a machine").or("short");
//! let mine = laminar::Backend::new("mine", "my own machines", |options| mine(options.text("queue").unwrap_or_default()));
//! let mine = mine.options([queue]);
//! ```
//!
//! A command line becomes an action in two steps: `args` says what was written, word by word; each command in
//! `command` resolves it against the disk and the backends, and acts. Data goes to standard output, everything else to
//! standard error (`output`). What a running execution tells is the business of `report`. Only `backends` knows
//! which backends are built in.

mod args;
mod backends;
mod choice;
mod command;
mod command_line;
mod context;
mod detach;
mod drive;
mod error;
mod execution;
pub mod exit;
mod holder;
mod init;
mod invocation;
mod load;
mod mask;
mod names;
mod output;
mod place;
mod problems;
mod program;
mod report;
mod secrets;
mod signals;
mod tail;
mod text;
mod transfer;
mod values;

pub use backends::Backend;
pub use command_line::CommandLine;
pub use program::{
    __private, Artifact, ArtifactResult, Artifacts, Bytes, Container, Context, Execution, Failure, Fan, Field, File,
    Flow, Folder, Foreign, InProcess, Input, Joined, Layer, LayerResult, Limits, List, Listed, Maybe, Over, Parameters,
    Ran, Result, Results, Retry, Sequence, Shards, Split, SplitResult, Task, ThisTask, Zip, main, task, zip,
};
pub use serde_json::json;

/// The chapter of the manual, whose code is compiled and run here.
#[cfg(doctest)]
#[doc = include_str!("../../docs/programs.md")]
mod manual {}

/// What a flow program mostly needs: `use laminar::prelude::*;`
pub mod prelude {
    pub use std::process::ExitCode;

    pub use crate::{
        Bytes, Container, Context, Failure, Fan, File, Flow, Folder, Layer, Limits, Retry, Shards, json, task, zip,
    };
}
