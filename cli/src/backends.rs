//! The backends: which are built in, and what it takes to add one. The only file that names any.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use laminar_backend_docker::docker;
use laminar_backend_local::LocalExecutor;
use laminar_backend_podman::podman;
use laminar_core::executor::Executor;
use laminar_core::id::ExecutionId;

/// Something that runs layers, as the command line knows it.
pub struct Backend {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) executor: Box<dyn Fn() -> Arc<dyn Executor>>,
    pub(crate) entry: Option<fn() -> Option<ExitCode>>,
    /// What outlives the scheduler of an execution, looked up by the execution's folder and id, where there is such a thing.
    pub(crate) keeper: Option<fn(&Path, ExecutionId) -> Keeper>,
}

/// What layers go on under when their scheduler is gone. When it ends, so do they.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// A process, with its id if it can be seen from here.
    Works(Option<u32>),
    /// There is none any more.
    Gone,
    /// The backend does not say.
    Unknown,
}

impl Backend {
    /// A backend: what `--backend` takes, one line of description, and how its executor is made. The executor is made at
    /// most once per process, and only when the backend is used.
    pub fn new(
        name: &'static str,
        description: &'static str,
        executor: impl Fn() -> Arc<dyn Executor> + 'static,
    ) -> Backend {
        Backend { name, description, executor: Box::new(executor), entry: None, keeper: None }
    }

    /// The same, with something to run before anything else, in every process of this program: a backend that starts
    /// the program itself in another role plays that role here, and returns how the process is to exit.
    #[must_use]
    pub fn entry(self, entry: fn() -> Option<ExitCode>) -> Backend {
        Backend { entry: Some(entry), ..self }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The backends that every command line has; the first is the default.
pub(crate) fn built_in() -> Vec<Backend> {
    let local = Backend::new("local", "plain processes on this machine", || Arc::new(LocalExecutor::new()));
    let keeper = |folder: &Path, execution| {
        LocalExecutor::supervisor(folder, execution).map_or(Keeper::Gone, |supervisor| Keeper::Works(supervisor.pid))
    };
    let local = Backend { keeper: Some(keeper), ..local };
    vec![
        local.entry(|| laminar_backend_local::supervise(std::env::args_os().skip(1))),
        Backend::new("docker", "containers of docker", || Arc::new(docker()))
            .entry(|| laminar_backend_docker::enter(std::env::args_os().skip(1))),
        // What runs inside a container is the same for both.
        Backend::new("podman", "containers of podman", || Arc::new(podman())),
    ]
}
