//! The [`Executor`] trait: what runs tasks, and the contract between it and the engine.
//!
//! An executor knows tasks. It is unaware of flows, plans, the run store and reporters; it never prints, never retries
//! and never limits how many tasks run at once.
//!
//! # Contract
//!
//! *Order of calls.* [`withhold`](Executor::withhold) first, if at all. [`probe`](Executor::probe) at any time. [`prepare`](Executor::prepare) once per execution and
//! scheduler process, before any other verb on that execution, also when an execution is resumed. Then, for each task,
//! [`start`](Executor::start) or [`recover`](Executor::recover), then [`wait`](Executor::wait); then
//! [`remove`](Executor::remove). [`identity`](Executor::identity) before or between them. [`stop`](Executor::stop) at any time after the call of `start`, also while it has not
//! returned. [`release`](Executor::release) last. Verbs on different tasks are called concurrently.
//! [`leftovers`](Executor::leftovers), [`sweep`](Executor::sweep) and [`litter`](Executor::litter) at any time, also by
//! who has prepared nothing.
//!
//! *Rules.*
//!
//! 1. Names derive from the [`TaskId`] alone. A handle can be had again from the name.
//! 2. `start` of a task that was started before, by this process or another, finds the first; it never runs twice.
//! 3. A task's complete output, standard output and standard error in the order written, is in [`Task::log`] when `wait`
//!    returns, byte for byte, whatever its size up to [`Task::log_limit`] and whoever died meanwhile; what is beyond it is told.
//!    A task that wrote nothing may have no log file.
//! 4. `wait` returns when the task's first process is over and nothing of the task is alive; a grandchild that keeps
//!    the output open does not hang it. It may be called again and by several callers; each gets the same exit.
//! 5. When `stop` returns, nothing of the task is alive. Stopping a task that is over is a success. A `start` that a `stop`
//!    overtakes may be refused; then the task was never started.
//! 6. `remove` is idempotent; "already gone" is success.
//! 7. An engine that does not answer is an `Err`, never "not there" and never an exit.
//! 8. No value of a flow becomes part of a script's text; secrets appear in no argv, in no record of the engine's, and, but
//!    for [`Task::secrets`], in nothing that a task is given.
//! 9. Outputs belong to the user who runs the scheduler.
//! 10. A process that ends badly is an [`Exit`], that is, data; `Err` is for what the executor itself could not do.
//! 11. Dropping the executor, or the death of its process, does not end tasks: they go on, and can be recovered.
//! 12. `leftovers` tells of everything that the engine has of any execution, each with its execution's folder, and of
//!     nothing else. `sweep` ends and removes what it is given, by the engine's own id; "already gone" is success.
//! 13. Where it [keeps a line](Executor::keeps_line), a task that is known to have ended otherwise than by code 0 closes it
//!     until that task is removed, so that whoever started them can still [`withdraw`](Executor::withdraw) what stands
//!     there. A line is its scheduler's: when that is gone, what stood in it was never started.
//! 14. There a task that is [offered](Executor::offer) is started when the one that it comes after is over, if that one has ended
//!     by code 0, has left its outputs as they were made, and the line is empty and not closed; else never. The exit of the one before
//!     is told first. Then `start` finds it like any other that was started before. `stop` and `withdraw` take an offer
//!     back. It is its scheduler's, as the line is, but for what has begun.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::container::{Container, Feature};
use crate::id::{ExecutionId, TaskId};

/// Whether a folder for outputs is as it was made: empty, with the mode that it had. For executors that keep a line.
pub use crate::datastore::is_as_made;
/// Removes a folder and everything in it, however a task has left it; for executors that use a folder again. Follows no link.
pub use crate::datastore::remove as remove_tree;

mod room;

pub use room::LogRoom;

/// Launches tasks and tells how they end. The module's text is the contract; the conformance kit in `laminar-tests`
/// has a case for each rule.
#[async_trait]
pub trait Executor: Send + Sync {
    /// What `--backend` takes.
    fn name(&self) -> &str;

    /// Whether the engine is there, which version, what it can enforce, and how much of the machine there is.
    async fn probe(&self) -> Result<Probe, ExecutorError>;

    /// From now on nothing that it starts gets these variables of this process's environment: they carry secrets. Called before
    /// any other verb, if at all; [`Session::withheld`] says it again.
    fn withhold(&self, names: &[Arc<str>]) {
        let _ = names;
    }

    /// What can be known to be wrong with layers (name and `container` block) before there is an execution; `workdir` is the
    /// folder of the flow file. All of it at once; nothing where nothing is wrong, or it cannot be known. Changes nothing.
    async fn check(&self, layers: &[(Arc<str>, Arc<Container>)], workdir: &Path) -> Vec<ExecutorError> {
        let _ = (layers, workdir);
        Vec::new()
    }

    /// Gets ready for the tasks of one execution: resolves and pulls images, starts what must outlive the scheduler, or
    /// finds it again. A second call for the same execution succeeds and changes nothing.
    async fn prepare(&self, session: &Session) -> Result<(), ExecutorError>;

    /// Whether tasks of these layers can be handed a folder of secrets that is in this one. Called once the executor is prepared,
    /// before the first of them starts.
    async fn can_hand_over(&self, _layers: &[Arc<str>], _secrets: &Path) -> Result<(), ExecutorError> {
        Ok(())
    }

    /// The path under which a task of this layer will find its inputs: what `LAMINAR_INPUTS` will be.
    fn inputs_seen(&self, layer: &str, inputs: &Inputs) -> String {
        let _ = layer;
        inputs.folder.to_string_lossy().into_owned()
    }

    /// What tells the place where a task of this layer with this container would run now from one where it may end otherwise:
    /// the id of its image, as it is resolved for this execution. Empty where nothing is known that could tell.
    async fn identity(
        &self,
        execution: ExecutionId,
        layer: &str,
        container: &Container,
    ) -> Result<String, ExecutorError> {
        let _ = (execution, layer, container);
        Ok(String::new())
    }

    /// Whether tasks may be handed to it before there is a place for them, to stand in line for it: see [`Task::places`]. Who
    /// says so has the next task begun the moment that one is over, without anybody being asked.
    fn keeps_line(&self) -> bool {
        false
    }

    /// Starts a task. Returns when it runs or is known to be about to; a program that cannot be executed is an [`Exit`]
    /// that `wait` returns. Of a task that has to wait, when that is over, or when it has been taken out:
    /// [`ExecutorError::Withdrawn`].
    async fn start(&self, task: Arc<Task>) -> Result<Handle, ExecutorError>;

    /// What became of a task that may have been started by a scheduler that is gone.
    async fn recover(&self, task: Arc<Task>) -> Result<Recovered, ExecutorError>;

    /// Waits until the task is over.
    async fn wait(&self, handle: &Handle) -> Result<Exit, ExecutorError>;

    /// Asks the task to end (TERM), waits for `grace`, then forces it (KILL); of one that is only offered, takes that back. A second
    /// call with a shorter grace shortens the first one's.
    async fn stop(&self, task: &TaskId, grace: Duration) -> Result<(), ExecutorError>;

    /// Takes those of these tasks out that were asked for and still wait, in line or for an image that is on its way: they never
    /// start. Leaves others alone.
    async fn withdraw(&self, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        let _ = tasks;
        Ok(())
    }

    /// Takes note of a task that may start the moment that another is over, without anybody being asked: see rule 14. `after` is one
    /// that is not over, or not started yet; `outputs` is its folder for outputs. Tells nothing: who cannot do so does nothing, and waits for
    /// [`start`](Executor::start). Only where it keeps a line.
    fn offer(&self, task: &Task, after: &TaskId, outputs: &Path) {
        let _ = (task, after, outputs);
    }

    /// How many tasks must be over to be worth a call of [`remove`](Executor::remove) while others go on.
    fn worth_removing(&self) -> usize {
        64
    }

    /// Forgets tasks that are over: containers, records, claims. Not their logs or outputs.
    async fn remove(&self, handles: &[Handle]) -> Result<(), ExecutorError>;

    /// Every task of the execution that is still there, running or over, also those that another process started.
    async fn list(&self, execution: ExecutionId) -> Result<Vec<Handle>, ExecutorError>;

    /// The execution has ended, or its scheduler leaves: lets go of what was held for it in this process.
    async fn release(&self, execution: ExecutionId) -> Result<(), ExecutorError>;

    /// What the engine has of any execution, whoever started it: running, over, or never started. Whether it may go is for
    /// others to judge.
    async fn leftovers(&self) -> Result<Vec<Leftover>, ExecutorError> {
        Ok(Vec::new())
    }

    /// Ends and removes leftovers, by their [`Leftover::id`]. An error does not keep it from removing the others.
    async fn sweep(&self, ids: &[String]) -> Result<(), ExecutorError> {
        let _ = ids;
        Ok(())
    }

    /// What is in the private folder of an execution that has ended and of which the engine has nothing any more, and is of
    /// no use to anybody. `folder` is the execution's.
    fn litter(&self, folder: &Path) -> Vec<PathBuf> {
        let _ = folder;
        Vec::new()
    }
}

/// Something that an engine has of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The engine's own name for it, which never comes to mean anything else.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The execution that it belongs to.
    pub execution: ExecutionId,
    /// That execution's folder; it may be gone. A copy of the execution elsewhere has the same id.
    pub folder: PathBuf,
    /// When it was made, as far as that is known.
    pub created: Option<SystemTime>,
    /// Whether anything of it is alive.
    pub running: bool,
}

/// What an executor needs to know of an execution before its first task.
#[derive(Clone, Debug)]
pub struct Session {
    /// The execution.
    pub execution: ExecutionId,
    /// The flow's name.
    pub flow: Arc<str>,
    /// The execution's folder, absolute. The executor may keep files of its own in [`Session::private`].
    pub folder: PathBuf,
    /// The folder of the flow file, absolute: the working folder of tasks that run without a container.
    pub workdir: PathBuf,
    /// What the layers ask for, by their names: which images to resolve, which folders must be there. What is known only when
    /// a task starts (an image named after its split) is not among it: `start` then looks at it.
    pub containers: Vec<(Arc<str>, Arc<Container>)>,
    /// Variables of this process's environment that carry secrets: nothing that is started for the execution may see them.
    pub withheld: Vec<Arc<str>>,
}

impl Session {
    /// A folder below the execution's that belongs to the executor of this name alone. It may not exist yet.
    #[must_use]
    pub fn private(&self, executor: &str) -> PathBuf {
        self.folder.join(executor)
    }
}

/// One attempt of one split: everything an executor needs to launch it.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it is called.
    pub id: TaskId,
    /// The flow's name.
    pub flow: Arc<str>,
    /// How many splits the layer has; 1 without `foreach`.
    pub splits: u32,
    /// The program and its arguments. Never empty. A program without a slash is looked up in the task's `PATH`.
    pub argv: Vec<String>,
    /// Variables the flow declares, in order; the last of two equal names counts. The protocol's own come on top, see
    /// [`Task::protocol`].
    pub env: Vec<(String, String)>,
    /// Where and with what limits it runs.
    pub container: Arc<Container>,
    /// How long it may run; the executor enforces it, TERM first, KILL after [`Task::grace`].
    pub timeout: Option<Duration>,
    /// How long a task that was asked to end has until it is forced, when its time is up.
    pub grace: Duration,
    /// It stands in line until fewer than so many tasks of its execution are alive, behind those that stood there before. Only
    /// where the executor [keeps a line](Executor::keeps_line). `None`: it starts at once.
    pub places: Option<u32>,
    /// What it reads.
    pub inputs: Inputs,
    /// This split's values by name, as a JSON file; `None` without `foreach`.
    pub each: Option<EachFile>,
    /// A folder with a file for each of its secrets, absolute, that it can read and not change: `LAMINAR_SECRETS`. It is on
    /// memory, and whoever called [`Executor::start`] removes it once the task is over; an executor that keeps tasks without
    /// a scheduler may do so, too. A container mounts it read-only, and lets its user read it. Nothing of it is copied
    /// elsewhere, or logged.
    pub secrets: Option<PathBuf>,
    /// The folder it writes its outputs to, absolute; exists, is empty, and only its owner may look in.
    pub outputs: PathBuf,
    /// The file its output goes to, absolute; its folder exists.
    pub log: PathBuf,
    /// How many bytes of its output are kept there. What comes after them is read, so that the task is not held up, and counted;
    /// a line at the end of the log says so, and the exit's evidence how much it was: see [`LogRoom`].
    pub log_limit: u64,
}

/// How many bytes of a task's output are kept where nobody says otherwise.
pub const LOG_LIMIT: u64 = 1 << 30;

impl Task {
    /// The variables of the layer protocol, with the folders as the task will see them.
    #[must_use]
    pub fn protocol(&self, seen: &Seen<'_>) -> Vec<(&'static str, String)> {
        let Seen { inputs, outputs, each, secrets } = *seen;
        let file = self.each.as_ref().map(|file| (EACH, format!("{each}/{}", file.name)));
        let mut variables = vec![
            ("LAMINAR_EXECUTION_ID", self.id.execution.to_string()),
            ("LAMINAR_FLOW_NAME", self.flow.to_string()),
            ("LAMINAR_LAYER_NAME", self.id.layer.to_string()),
            ("LAMINAR_LAYER_INDEX", self.id.index.to_string()),
            ("LAMINAR_LAYER_SPLITS", self.splits.to_string()),
            ("LAMINAR_LAYER_ATTEMPT", self.id.attempt.to_string()),
            ("LAMINAR_INPUTS", inputs.to_owned()),
            ("LAMINAR_OUTPUTS", outputs.to_owned()),
        ];
        variables.extend(file);
        variables.extend(self.secrets.is_some().then(|| (SECRETS, secrets.to_owned())));
        variables
    }

    /// The variables of [`Task::env`] that a task may be given: what the protocol does not say cannot be said by others.
    pub fn declared(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| ![EACH, SECRETS].contains(name))
    }
}

/// The variable of the protocol that only splits of a `foreach` layer have.
const EACH: &str = "LAMINAR_EACH";
/// The one that only layers with secrets have.
const SECRETS: &str = "LAMINAR_SECRETS";

/// The folders of a task, as it will see them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// That of [`Task::inputs`].
    pub inputs: &'a str,
    /// That of [`Task::outputs`].
    pub outputs: &'a str,
    /// That of [`Task::each`]; of no meaning without.
    pub each: &'a str,
    /// That of [`Task::secrets`]; of no meaning without.
    pub secrets: &'a str,
}

/// A file with one split's values, which the task can read and not change: `LAMINAR_EACH` is its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EachFile {
    /// The folder it is in, absolute; holds such files of several splits of the layer. A container mounts it read-only, and
    /// lets its user read it.
    pub folder: PathBuf,
    /// Its name there.
    pub name: String,
}

/// What a task reads: one folder per needed layer that left artifacts, and `Parameters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// A folder, absolute, in which each view is linked by its name: what `LAMINAR_INPUTS` is without a container.
    pub folder: PathBuf,
    /// The views themselves: name (a layer's, or `Parameters`) and absolute folder. A container mounts them read-only.
    pub views: Arc<[(String, PathBuf)]>,
}

/// An executor's handle on a task it has started. Serialisable: it is stored, and works in another process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Handle {
    /// The task.
    pub task: TaskId,
    /// What the executor wants to remember, such as a process id with its start time, or a container's id. Opaque to
    /// everyone else; may be empty, since a handle can be had again from the name.
    pub token: String,
}

/// What [`Executor::recover`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// No process of it ever ran: it may be started.
    NeverStarted,
    /// It runs; `wait` will tell how it ends.
    Running(Handle),
    /// It is over; `wait` returns its exit at once.
    Exited(Handle),
    /// It ran, is over or unreachable for good, and nobody knows how it ended.
    Gone,
}

/// How a task ended, as a fact, with what that rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// What ended it.
    pub cause: Cause,
    /// What the verdict rests on, for people: "wait4 said exit code 3", "SIGKILL, 5 s after SIGTERM". May be empty where
    /// the cause says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

impl Exit {
    /// An exit with this code, and nothing more to say.
    #[must_use]
    pub fn code(code: i32) -> Exit {
        Exit { cause: Cause::Code(code), evidence: String::new(), usage: Usage::default() }
    }
}

/// What ended a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It exited by itself, with this code; 0 is success.
    Code(i32),
    /// A signal that laminar did not send ended it.
    Signal(i32),
    /// It, or a process of it, was killed for want of memory; only said with evidence.
    OutOfMemory,
    /// Its time was up.
    TimedOut,
    /// It was stopped by [`Executor::stop`].
    Cancelled,
    /// The program does not exist.
    NotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// The engine could not run it.
    EngineFailed,
    /// laminar could not start it: an expression without a value, an input that is gone, an executor that refused.
    NotStarted,
    /// It is over, and how it ended cannot be known.
    Lost,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Code(code) => write!(f, "exit code {code}"),
            Cause::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "{name}"),
                None => write!(f, "signal {number}"),
            },
            Cause::OutOfMemory => f.write_str("out of memory"),
            Cause::TimedOut => f.write_str("timed out"),
            Cause::Cancelled => f.write_str("cancelled"),
            Cause::NotFound => f.write_str("program not found"),
            Cause::NotExecutable => f.write_str("program not executable"),
            Cause::EngineFailed => f.write_str("the engine failed"),
            Cause::NotStarted => f.write_str("could not be started"),
            Cause::Lost => f.write_str("lost"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// A duration as evidence tells it: `350 ms`, `2 s`, `1.5 s`; from a second on, cut to tenths.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    let tenths = duration.as_millis() / 100;
    match (tenths / 10, tenths % 10) {
        (0, _) => format!("{} ms", duration.as_millis()),
        (whole, 0) => format!("{whole} s"),
        (whole, tenth) => format!("{whole}.{tenth} s"),
    }
}

/// What a task used, as far as the executor can measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end, in microseconds, by a monotonic clock.
    pub wall_us: u64,
    /// User and system time of all its processes that were waited for, in microseconds.
    pub cpu_us: u64,
    /// The peak resident memory in bytes of the largest single process (local), or of the container.
    pub peak_memory: u64,
}

/// What a backend found of its engine and its machine.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The engine's version, or the kernel's where there is no engine.
    pub version: String,
    /// Facts worth showing, as (name, value): "rootless: no", "cgroups: v2".
    pub facts: Vec<(&'static str, String)>,
    /// What the executor can enforce of a `container` block.
    pub enforces: BTreeSet<Feature>,
    /// How many cores tasks may use, in thousandths.
    pub cpu_millis: u64,
    /// How much memory tasks may use, in bytes.
    pub memory: u64,
}

/// What an executor itself could not do. A task that ends badly is no error.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The engine is not installed, not running, or does not answer.
    #[error("{engine} is not available: {reason}")]
    Unavailable {
        /// The engine.
        engine: String,
        /// Why it is not.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// A name of ours is taken by something that is not ours.
    #[error("the name `{name}` is taken by {owner}")]
    Conflict {
        /// The name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// The engine answered that it will not do what it was asked, or cannot be asked for it.
    #[error("{engine} cannot {verb}: {reason}")]
    Refused {
        /// The engine.
        engine: String,
        /// What was tried, an imperative: "create the container".
        verb: String,
        /// What it said, and what to do about it where that is known.
        reason: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {verb} `{}`: {source}", path.display())]
    File {
        /// What was tried, an imperative: "open".
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The other side of a connection broke off or said something unexpected.
    #[error("lost touch with the {peer}: {reason}")]
    Disconnected {
        /// The other side.
        peer: &'static str,
        /// What happened.
        reason: String,
    },
    /// The task had to wait, and was withdrawn or stopped before that was over: it was never started.
    #[error("stopped before it was started")]
    Withdrawn,
    /// A verb was called on an execution that was not prepared, or a task that is not known.
    #[error("{0} is not known to this executor")]
    Unknown(String),
}
