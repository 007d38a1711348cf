//! The conformance kit on the executors of this workspace.
#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use laminar_backend_docker::DOCKER;
use laminar_backend_local::LocalExecutor;
use laminar_backend_oci::{Dialect, OciExecutor, PROGRAM as OPTION, Settings};
use laminar_backend_podman::PODMAN;
use laminar_core::container::Container;
use laminar_core::executor::{Cause, Executor, Exit, Task};
use laminar_core::fake::{FakeExecutor, Part};
use laminar_core::mixed::Mixed;
use laminar_core::option::Options;
use laminar_tests::engines::{self, Place};
use laminar_tests::kit::{self, Ability, Factory, Lack};

const PROGRAM: &str = env!("CARGO_BIN_EXE_laminar-under-test");

/// Set where suites run that take long and tell little more than others.
const THOROUGH: &str = "LAMINAR_TEST_THOROUGH";

fn main() -> ExitCode {
    engines::look_for_required();
    let mut all: Vec<Box<dyn Factory>> = vec![
        Box::new(Fake::new()),
        Box::new(Local),
        Box::new(Engine::new("docker", &DOCKER)),
        Box::new(Engine::new("podman", &PODMAN)),
        Box::new(Engine::new("podman-rootless", &PODMAN)),
        Box::new(Engine::new("docker", &DOCKER).bare("bare-docker")),
        Box::new(Engine::new("podman", &PODMAN).bare("bare-podman")),
        Box::new(Both(Engine::new("docker", &DOCKER))),
    ];
    if std::env::var_os(THOROUGH).is_some() {
        all.push(Box::new(Engine::new("docker", &DOCKER).reused("warm-docker")));
        all.push(Box::new(Engine::new("podman", &PODMAN).reused("warm-podman")));
        all.push(Box::new(Engine::new("podman-rootless", &PODMAN).reused("warm-podman-rootless")));
    }
    kit::documented(all, concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md"))
}

/// Containers of a real engine, with the image that `tests/engines up` makes.
struct Engine {
    /// What its column is called.
    name: &'static str,
    /// What the engine is called.
    engine: &'static str,
    dialect: &'static Dialect,
    /// Without laminar inside.
    bare: bool,
    /// Tasks follow each other in a container.
    reuse: bool,
    /// Clients of engines that are no engines, once they are needed.
    clients: OnceLock<tempfile::TempDir>,
}

impl Engine {
    fn new(engine: &'static str, dialect: &'static Dialect) -> Engine {
        Engine { name: engine, engine, dialect, bare: false, reuse: false, clients: OnceLock::new() }
    }

    fn bare(self, name: &'static str) -> Engine {
        Engine { name, bare: true, ..self }
    }

    fn reused(self, name: &'static str) -> Engine {
        Engine { name, reuse: true, ..self }
    }

    fn oci(&self) -> OciExecutor {
        let executor = OciExecutor::with_program(self.dialect, engines::program(PROGRAM));
        if self.bare { executor.bare() } else { executor }
    }

    fn with_client(&self, name: &str) -> Option<Arc<dyn Executor>> {
        let clients = self.clients.get_or_init(clients);
        let settings = program(&clients.path().join(name));
        Some(Arc::new(self.oci().with_settings(settings).with_patience(Duration::from_millis(300))))
    }
}

fn clients() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("mute", "#!/bin/sh\nexec sleep 1000\n"), ("broken", "#!/bin/sh\necho it broke >&2\nexit 1\n")]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

impl Factory for Engine {
    fn name(&self) -> &str {
        self.name
    }

    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(self.oci())
    }

    fn mute(&self) -> Option<Arc<dyn Executor>> {
        self.with_client("mute")
    }

    fn broken(&self) -> Option<Arc<dyn Executor>> {
        self.with_client("broken")
    }

    fn container(&self) -> Container {
        let network = Some("none".to_owned());
        Container { image: Some(engines::image()), network, reuse: self.reuse, ..Container::default() }
    }

    fn lacks(&self) -> Vec<Lack> {
        let lack = |ability, reason| Lack { ability, reason };
        let bare = [
            lack(Ability::Order, "the engine has a pipe for each stream"),
            lack(Ability::Signals, "the engine says 128 + n for signal n and for that exit code alike"),
            lack(Ability::CleanSignals, "what the engine's processes ignore is ignored"),
            lack(Ability::Unattended, "nobody but the scheduler watches the time"),
            lack(Ability::Usage, "the engine does not keep what a container has used"),
        ];
        if self.bare { bare.to_vec() } else { Vec::new() }
    }

    fn unavailable(&self) -> Option<String> {
        match engines::place(self.engine) {
            Place::Nowhere(why) => Some(why),
            Place::Here | Place::As(_) => None,
        }
    }

    fn elsewhere(&self) -> Option<Command> {
        match engines::place(self.engine) {
            Place::As(user) => Some(user.this_test(PROGRAM)),
            Place::Here | Place::Nowhere(_) => None,
        }
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn deadline(&self) -> Duration {
        // Engines take long to show long logs.
        Duration::from_secs(if self.bare { 600 } else { 180 })
    }
}

/// An execution of which some layers are plain processes, and some are containers.
struct Both(Engine);

impl Factory for Both {
    fn name(&self) -> &'static str {
        "local+docker"
    }

    fn executor(&self) -> Arc<dyn Executor> {
        // Which layers there will be is not known here: their names decide.
        let of = |layer: &str| Some(layer.bytes().map(usize::from).sum::<usize>() % 2);
        Arc::new(Mixed::new(vec![Local.executor(), self.0.executor()], of))
    }

    fn container(&self) -> Container {
        self.0.container()
    }

    fn lacks(&self) -> Vec<Lack> {
        let reason = "each of the two has such a case of its own";
        let own = [Ability::Mute, Ability::Broken].map(|ability| Lack { ability, reason });
        Local.lacks().into_iter().chain(self.0.lacks()).chain(own).collect()
    }

    fn unavailable(&self) -> Option<String> {
        self.0.unavailable()
    }

    fn is_dear(&self) -> bool {
        true
    }

    fn deadline(&self) -> Duration {
        self.0.deadline()
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

    fn broken(&self) -> Option<Arc<dyn Executor>> {
        Some(Arc::new(LocalExecutor::with_program("/bin/false")))
    }

    fn lacks(&self) -> Vec<Lack> {
        let lack = |ability, reason| Lack { ability, reason };
        vec![
            lack(
                Ability::Containment,
                "a process that shed its group, its parents and its variables may be any running task's, and ends with the \
                 last of them",
            ),
            lack(Ability::Shared, "an execution has one scheduler: the next takes it over"),
        ]
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
            lack(Ability::Broken, "there is no engine that could fail"),
        ]
    }
}

/// Another client than the engine's own.
fn program(client: &std::path::Path) -> Settings {
    let options = Options::new(&[OPTION], [("program", client.to_str().unwrap())]);
    Settings::new(&options, &[], &[])
}
