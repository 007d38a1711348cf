//! The conformance kit on the executors of this workspace.
#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use laminar_backend_docker::DOCKER;
use laminar_backend_local::LocalExecutor;
use laminar_backend_oci::{Dialect, OciExecutor};
use laminar_backend_podman::PODMAN;
use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor, Exit, Task};
use laminar_core::fake::{FakeExecutor, Part};
use laminar_core::mixed::Mixed;
use laminar_tests::engines::{self, Place};
use laminar_tests::kit::{self, Ability, Factory, Lack};

const PROGRAM: &str = env!("CARGO_BIN_EXE_laminar-under-test");

fn main() -> ExitCode {
    engines::look_for_required();
    kit::main(vec![
        Box::new(Fake::new()),
        Box::new(Local),
        Box::new(Engine("docker", &DOCKER)),
        Box::new(Engine("podman", &PODMAN)),
        Box::new(Engine("podman-rootless", &PODMAN)),
        Box::new(Both),
    ])
}

/// Containers of a real engine, with the image that `tests/engines up` makes.
struct Engine(&'static str, &'static Dialect);

impl Factory for Engine {
    fn name(&self) -> &str {
        self.0
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(OciExecutor::with_program(self.1, engines::program(PROGRAM)))
    }

    fn container(&self) -> Container {
        Container { image: Some(engines::image()), network: Some("none".to_owned()), ..Container::default() }
    }

    fn lacks(&self) -> Vec<Lack> {
        vec![Lack { ability: Ability::Mute, reason: "the engine is the machine's: it is not to be silenced" }]
    }

    fn unavailable(&self) -> Option<String> {
        match engines::place(self.0) {
            Place::Nowhere(why) => Some(why),
            Place::Here | Place::As(_) => None,
        }
    }

    fn elsewhere(&self) -> Option<Command> {
        match engines::place(self.0) {
            Place::As(user) => Some(user.this_test(PROGRAM)),
            Place::Here | Place::Nowhere(_) => None,
        }
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(180)
    }
}

/// An execution of which some layers are plain processes, and some are containers.
struct Both;

const ITS_DOCKER: Engine = Engine("docker", &DOCKER);

impl Factory for Both {
    fn name(&self) -> &'static str {
        "local+docker"
    }

    fn executor(&self) -> Arc<dyn Executor> {
        // Which layers there will be is not known here: their names decide.
        let of = |layer: &str| Some(layer.bytes().map(usize::from).sum::<usize>() % 2);
        Arc::new(Mixed::new(vec![Local.executor(), ITS_DOCKER.executor()], of))
    }

    fn container(&self) -> Container {
        ITS_DOCKER.container()
    }

    fn lacks(&self) -> Vec<Lack> {
        Local.lacks().into_iter().chain(ITS_DOCKER.lacks()).collect()
    }

    fn unavailable(&self) -> Option<String> {
        ITS_DOCKER.unavailable()
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn deadline(&self) -> Duration {
        ITS_DOCKER.deadline()
    }
}

/// Plain processes under a supervisor.
struct Local;

impl Factory for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(LocalExecutor::with_program(PROGRAM))
    }

    fn mute(&self) -> Option<Arc<dyn Executor>> {
        // Its supervisor is a program that does not listen.
        Some(Arc::new(LocalExecutor::with_program("/bin/true")))
    }

    fn lacks(&self) -> Vec<Lack> {
        let reason = "a process that shed its group, its parents and its variables may be any running task's, and ends \
                      with the last of them";
        vec![Lack { ability: Ability::Containment, reason }]
    }
}

/// Parts on a stage: all executors share it, as the schedulers of one engine do.
struct Fake(FakeExecutor);

impl Fake {
    fn new() -> Fake {
        Fake(FakeExecutor::new(part))
    }
}

/// Plays the few scripts that say nothing but how long they last and how they end.
fn part(task: &Task) -> Part {
    let words: Vec<&str> = task.argv.last().unwrap().split(' ').collect();
    match *words.as_slice() {
        ["exit", code] => Part::exits(code.parse().unwrap()),
        ["exec", "sleep", seconds] => Part::exits(0).after(Duration::from_secs(seconds.parse().unwrap())),
        _ => Part { exit: Exit { cause: Cause::NotStarted, ..Exit::code(0) }, ..Part::exits(0) },
    }
}

impl Factory for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(self.0.clone())
    }

    fn lacks(&self) -> Vec<Lack> {
        let lack = |ability, reason| Lack { ability, reason };
        vec![
            lack(Ability::Processes, "it plays parts"),
            lack(Ability::Signals, "a part ends as its script says"),
            lack(Ability::Programs, "a part has no program"),
            lack(Ability::Mute, "there is no engine that could be silent"),
        ]
    }
}
