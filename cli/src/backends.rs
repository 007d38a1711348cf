//! The backends: which are built in, and what it takes to add one. The only file that names any.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use laminar_backend_docker::docker;
use laminar_backend_local::LocalExecutor;
use laminar_backend_podman::podman;
use laminar_core::executor::Executor;

/// Something that runs layers, as the command line knows it.
pub struct Backend {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) executor: Box<dyn Fn() -> Arc<dyn Executor>>,
    pub(crate) entry: Option<fn() -> Option<ExitCode>>,
}

impl Backend {
    /// A backend: what `--backend` takes, one line of description, and how its executor is made. The executor is made at
    /// most once per process, and only when the backend is used.
    pub fn new(
        name: &'static str,
        description: &'static str,
        executor: impl Fn() -> Arc<dyn Executor> + 'static,
    ) -> Backend {
        Backend { name, description, executor: Box::new(executor), entry: None }
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
    vec![
        local.entry(|| laminar_backend_local::supervise(std::env::args_os().skip(1))),
        Backend::new("docker", "containers of docker", || Arc::new(docker()))
            .entry(|| laminar_backend_docker::enter(std::env::args_os().skip(1))),
        // What runs inside a container is the same for both.
        Backend::new("podman", "containers of podman", || Arc::new(podman())),
    ]
}
