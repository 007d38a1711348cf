//! [`Launcher`]: what a backend says whose tasks are processes of this machine, in surroundings of its own.

use std::path::Path;

use laminar_core::container::Container;
use laminar_core::executor::{ExecutorError, Probe, Session, Task};

/// Launches tasks as processes of this machine, by a command that comes before the task's own: a sandbox, another root, a
/// limit. All else about processes, that they outlive the scheduler, are stopped, measured, logged and found again, is the
/// business of [`LocalExecutor::launching`](crate::LocalExecutor::launching).
///
/// The command is executed in the folder of the flow file, with the task's variables, empty standard input, and the log as
/// both outputs. In the end it must execute the words that follow it, or have them executed below it, and end when those do.
/// They are not the task but a small process of laminar's, which starts the task and tells of it exactly. So the
/// command must
///
/// - hand on the descriptors 3 and 4, as whatever does not close them on purpose does;
/// - have `/proc` be seen where it leads, since that process is executed as `/proc/self/fd/4`;
/// - let its descendants be killed with it: by its process group, or as their parent.
pub trait Launcher: Send + Sync + 'static {
    /// The words of the command, without those of the task. A program without a slash is looked up in the task's `PATH`. The
    /// task finds its folders ([`Task::inputs`], [`Task::outputs`], [`Task::each`], [`Task::secrets`]) under their own paths.
    /// May be asked twice for the same task, and before what it needs is over: it only says what would be done.
    ///
    /// # Errors
    /// When what the task asks for cannot be had. What [`check`](Launcher::check) can know is better said there.
    fn launch(&self, task: &Task, session: &Session) -> Result<Vec<String>, ExecutorError>;

    /// Whether it can launch anything, which version it is, and what it enforces; `machine` is what there is of this machine,
    /// with nothing enforced but variables. May block for a moment.
    ///
    /// # Errors
    /// When it cannot, with what to do about it: [`ExecutorError::Unavailable`].
    fn probe(&self, machine: Probe) -> Result<Probe, ExecutorError> {
        Ok(machine)
    }

    /// What can be known to be wrong with a layer before there is an execution; `workdir` is the folder of the flow file.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, layer: &str, container: &Container, workdir: &Path) -> Result<(), ExecutorError> {
        let _ = (layer, container, workdir);
        Ok(())
    }
}
