//! The conformance kit: whether an executor keeps the contract of [`laminar_core::executor`].
//!
//! One [`Case`] for each thing that the contract promises, named and with the numbers of the rules it stands for. The kit
//! is unaware of any engine: what is particular about an executor comes from its [`Factory`]. What an executor is
//! *declared* not to have is listed with the reason, never passed over in silence.
//!
//! A crate with an executor of its own adds a test without the usual harness,
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! ```no_run
//! # fn mine() -> Box<dyn laminar_tests::kit::Factory> { unimplemented!() }
//! fn main() -> std::process::ExitCode {
//!     laminar_tests::kit::main(vec![mine()])
//! }
//! ```
//!
//! and gets a test for each case, with a filter and a deadline, all in parallel: `cargo test --test conformance -- stop`.
//! [`documented`] also holds a table of the results against a document. Whoever has a harness already calls [`Case::judge`] on each case of [`suite`].
//!
//! # What the fixtures use
//!
//! Tasks are scripts for a POSIX shell with the tools of busybox. They meet the kit in files only: they write below
//! `LAMINAR_OUTPUTS`, and read below `LAMINAR_INPUTS`. *A task is alive* as long as it has a named pipe open among its
//! outputs, which everything that descends from it inherits; so that the kit sees at once, and without a look at any
//! process, whether something is left. A task that shall not go on yet holds at a *gate*, a named pipe that nobody has
//! opened for writing. Both need an engine that runs tasks under this machine's own kernel.

mod case;
mod cases;
mod document;
mod elsewhere;
mod factory;
mod harness;
mod scene;
mod table;
#[cfg(test)]
mod tests;

pub use case::{Case, NotHere, Verdict};
pub use cases::suite;
pub use factory::{Ability, Factory, Lack};
pub use harness::{documented, main};
pub use scene::Scene;
pub use table::{Row, table};
