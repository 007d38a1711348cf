//! The core of laminar: everything between a flow file and an [`executor::Executor`].
//!
//! Read the rooms in this order:
//!
//! - [`flow`]: what a user writes; parsed, checked, and turned into the model [`flow::Flow`].
//! - [`plan`]: the model as a graph of dense ids, with each layer's rank on the critical path.
//! - [`scheduler`]: a pure state machine over [`event::Event`]s; no clock, no I/O, no async.
//! - [`engine`]: the only loop: select, commit, perform.
//! - [`container`]: where a layer runs and with what limits.
//! - [`cache`]: what a split is looked for by before it runs.
//! - [`each`]: the values of the splits of a foreach layer.
//! - [`secret`]: the values of secrets, and where tasks find them.
//! - [`option`]: what a backend can be told.
//! - [`executor`]: the trait that backends implement, and its contract.
//! - [`mixed`]: one executor over several, for flows whose layers run in different places.
//! - [`fake`]: an executor with a script, for tests of everything above it.
//! - [`store`]: the run store, an event log with projections in SQLite.
//! - [`datastore`]: content-addressed artifacts.
//! - [`gc`]: takes away what is of no use any more.
//! - [`shares`]: what the executions of one user take of the machine together.
//! - [`folder`]: where all of it lives on disk.
//!
//! The core knows no backend, no command line and no terminal.

pub mod cache;
pub mod container;
pub mod datastore;
pub mod each;
pub mod engine;
pub mod event;
pub mod executor;
pub mod fake;
pub mod flow;
pub mod folder;
pub mod gc;
pub mod id;
pub mod json;
pub mod mixed;
pub mod option;
pub mod plan;
mod private;
pub mod scheduler;
pub mod secret;
pub mod shares;
pub mod store;
mod units;
