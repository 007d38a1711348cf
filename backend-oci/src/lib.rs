//! What docker-like command lines share: tasks as containers.
//!
//! An engine is a [`Dialect`]: a value that says what its command line words differently. [`OciExecutor`] is the executor
//! over any of them. It shells out to the engine's own program; it speaks no engine's API.
//!
//! This program itself is mounted into every container and is its first process ([`enter`]): it starts the layer, writes
//! its output to the log and its exit to a file in the task's folder. So neither is lost when the client, the scheduler or
//! the engine's daemon dies, and knowing that a layer is over takes no client that waits. Where this program cannot run inside
//! (it needs a loader, or is for another machine) containers are *bare*: the engine's own logs and exits are used.
//!
//! Unaware of flows, plans, stores and reporters, and of which engines there are.

#[cfg(not(target_os = "linux"))]
compile_error!("containers need Linux");

mod argv;
mod bare;
mod client;
mod dialect;
mod ending;
mod engine;
mod enter;
mod execution;
mod executor;
mod image;
mod inspect;
mod leftovers;
mod name;
mod outside;
mod owner;
mod place;
mod probe;
mod program;
mod pull;
mod resolve;
mod settings;
mod verdict;
mod watch;

pub use argv::{Order, Words, create};
pub use dialect::{Dialect, Facts, Gpu, Relabel, Texts};
pub use enter::enter;
pub use executor::OciExecutor;
pub use image::Image;
pub use outside::Outside;
pub use owner::Host;
pub use place::{is_under_way, may_be_under_way};
pub use settings::{NETWORK, PROGRAM, PULL, Settings};
