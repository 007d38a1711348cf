//! Plain processes as laminar layers.
//!
//! A plain child dies unnoticed with its parent, and nobody can wait for somebody else's child. So the parent of all local
//! tasks of an execution is a *supervisor*: a small process of its own, the same program in another mode ([`supervise`]),
//! which outlives the scheduler and answers its successor. [`LocalExecutor`] is the scheduler's side of it.
//!
//! What a task gets: the caller's environment less every `LAMINAR_*`, its own variables, the layer protocol; the flow
//! file's folder as working folder; empty standard input; a process group of its own, in a session without a
//! terminal; default signal
//! dispositions. Umask and limits are the caller's. It dies with its supervisor.
//!
//! Other backends whose tasks are processes of this machine use the same executor and supervisor, under a name of their own: they
//! say with a [`Launcher`] by which command a task is started, and nothing else.
//!
//! The peak memory of a task is never told as less than the supervisor's own few MB, which a process holds for the moment
//! between its birth and its exec.

#[cfg(not(target_os = "linux"))]
compile_error!("the local backend needs Linux: it rests on subreapers, pidfds and /proc");

mod executor;
mod launcher;
mod leftovers;
mod link;
mod probe;
mod supervisor;
mod wire;

use laminar_core::option::{Kind, Spec};

pub use executor::{LocalExecutor, Supervisor};
pub use launcher::Launcher;
pub use supervisor::supervise;

/// The backend's options.
pub static OPTIONS: [Spec; 1] = [Spec::new(
    "nice",
    Kind::Integer(0, 19),
    "how far layers step back for everything else on this machine: their niceness above laminar's own",
)];

/// What `--backend` takes for plain processes.
const NAME: &str = "local";
