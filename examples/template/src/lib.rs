//! A backend of laminar: its layers are processes of this machine, which a program launches.
//!
//! It works as it is, with `env` as that program. What to change is in [`Mine`]: the words before a layer's own command, what
//! can be known to be wrong before anything runs, and whether the program is there. See `docs/backends.md` of laminar.

use std::path::Path;
use std::process::Command;

use laminar_backend_local::Launcher;
use laminar_core::container::Container;
use laminar_core::executor::{ExecutorError, Probe, Session, Task};
use laminar_core::option::{Kind, Options, Spec};

/// What `--backend` takes.
pub const NAME: &str = "mine";

/// The options: in a flow's `backends`, and after `-o`.
pub const OPTIONS: [Spec; 1] =
    [Spec::new("program", Kind::Text, "what launches layers: a program that runs the words after it").or("env")];

/// The backend, for a command line.
#[must_use]
pub fn backend() -> laminar::Backend {
    laminar::Backend::launching(NAME, "processes that a program launches", Mine::new).options(OPTIONS)
}

/// What launches layers.
pub struct Mine {
    program: String,
}

impl Mine {
    /// With the values of [`OPTIONS`].
    #[must_use]
    pub fn new(options: &Options) -> Mine {
        Mine { program: options.text("program").unwrap_or_default().to_owned() }
    }
}

impl Launcher for Mine {
    fn launch(&self, _task: &Task, _session: &Session) -> Result<Vec<String>, ExecutorError> {
        Ok(vec![self.program.clone()])
    }

    fn probe(&self, mut machine: Probe) -> Result<Probe, ExecutorError> {
        let unavailable = |reason: String| ExecutorError::Unavailable {
            engine: NAME.to_owned(),
            reason,
            hint: format!("install `{}`, or name another with `-o {NAME}.program=…`", self.program),
        };
        let said = Command::new(&self.program).arg("--version").output();
        let said = said.map_err(|error| unavailable(format!("cannot execute `{}`: {error}", self.program)))?;
        let first = String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned();
        machine.version = if first.is_empty() { "unknown".to_owned() } else { first };
        machine.facts.push(("program", self.program.clone()));
        // machine.enforces.insert(laminar_core::container::Feature::Network);
        Ok(machine)
    }

    fn check(&self, _layer: &str, _container: &Container, _workdir: &Path) -> Result<(), ExecutorError> {
        Ok(())
    }
}
