//! What the kit must be told of an executor.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::container::Container;
use laminar_core::executor::Executor;

/// Gives executors of one kind to the kit, and says what is particular about them.
pub trait Factory: Send + Sync {
    /// What the cases are listed under.
    fn name(&self) -> &str;

    /// A new executor over the same engine, which knows nothing of those that were given before: what a scheduler has
    /// that comes after another.
    fn executor(&self) -> Arc<dyn Executor>;

    /// An executor whose engine does not answer.
    fn mute(&self) -> Option<Arc<dyn Executor>> {
        None
    }

    /// An executor whose engine answers with errors alone.
    fn broken(&self) -> Option<Arc<dyn Executor>> {
        None
    }

    /// Where tasks run: the image, for executors that need one. It must hold a POSIX shell and the tools of busybox.
    fn container(&self) -> Container {
        Container::default()
    }

    /// The program and arguments that run a script; more arguments may be added, the first of which is `$0`.
    fn shell(&self, script: &str) -> Vec<String> {
        vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]
    }

    /// What this executor is not able to do, with the reason; cases that need it are listed as declared.
    fn lacks(&self) -> Vec<Lack> {
        Vec::new()
    }

    /// Why nothing can be run on this machine, if so.
    fn unavailable(&self) -> Option<String> {
        None
    }

    /// This test program once more, in surroundings that this process cannot have, such as another user's: each case is then
    /// judged there, by its name. `None`: right here.
    fn elsewhere(&self) -> Option<Command> {
        None
    }

    /// Where the kit makes its folders.
    fn folder(&self) -> PathBuf {
        std::env::temp_dir()
    }

    /// User and group that outputs must belong to: those of the scheduler.
    fn owner(&self) -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// Whether a start costs so much that cases which start hundreds of tasks shall do with samples.
    fn is_dear(&self) -> bool {
        false
    }

    /// How long one case may take.
    fn deadline(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Something that cases need, and an executor may be declared not to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Tasks are processes that run what their command says.
    Processes,
    /// What a task wrote is in its log.
    Output,
    /// Tasks see their inputs and leave outputs, in folders of this machine.
    Files,
    /// A signal that ended a task is told from an exit code.
    Signals,
    /// An exit says what the task used.
    Usage,
    /// Tasks outlive the process that started them.
    Survival,
    /// What a task leaves behind is known as its own, whatever it has shed, while other tasks run.
    Containment,
    /// A program that does not exist or cannot be executed is told from one that exits badly.
    Programs,
    /// What a task wrote to its two streams is kept in the order written.
    Order,
    /// A task begins with no signal blocked or ignored, whatever those who started it had.
    CleanSignals,
    /// Time that is up ends a task though no scheduler is there.
    Unattended,
    /// Two executors may attend to one execution at the same time.
    Shared,
    /// It keeps a line of tasks that wait for a place. Known of the executor itself.
    Line,
    /// The factory has an executor whose engine does not answer.
    Mute,
    /// The factory has an executor whose engine answers with errors alone.
    Broken,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ability::Processes => "processes",
            Ability::Output => "output",
            Ability::Files => "files",
            Ability::Signals => "signals",
            Ability::Usage => "usage",
            Ability::Survival => "survival",
            Ability::Containment => "containment",
            Ability::Programs => "programs",
            Ability::Order => "order",
            Ability::CleanSignals => "clean signals",
            Ability::Unattended => "unattended timeouts",
            Ability::Shared => "two schedulers at once",
            Ability::Line => "a line",
            Ability::Broken => "an engine that answers with errors",
            Ability::Mute => "an engine that does not answer",
        })
    }
}

/// Something an executor is declared not to have.
#[derive(Clone, Debug)]
pub struct Lack {
    /// What.
    pub ability: Ability,
    /// Why.
    pub reason: &'static str,
}
