//! The backends: which are built in, and what it takes to add one. The only file that names any.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use laminar_backend_docker::docker;
use laminar_backend_local::{Launcher, LocalExecutor};
use laminar_backend_podman::podman;
use laminar_core::executor::Executor;
use laminar_core::flow::Known;
use laminar_core::folder::ExecutionFolder;
use laminar_core::id::ExecutionId;
use laminar_core::option::{Options, Spec};

/// Makes an executor of the values of a backend's options.
type MakeExecutor = dyn Fn(&Options) -> Arc<dyn Executor>;
/// Finds what outlives the scheduler of an execution, by the execution's folder and id.
type FindKeeper = dyn Fn(&Path, ExecutionId) -> Keeper;

/// Something that runs layers, as the command line knows it.
pub struct Backend {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) options: Vec<Spec>,
    executor: Box<MakeExecutor>,
    /// Whether layers run in images, so that a flow program has to be in them.
    pub(crate) runs_images: bool,
    pub(crate) entry: Option<fn() -> Option<ExitCode>>,
    /// Where there is such a thing.
    keeper: Option<Box<FindKeeper>>,
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
    /// A backend: what `--backend` takes, one line of description, and how its executor is made, from the values of its
    /// options. The executor is made at most once per process, and only when the backend is used; its
    /// [`name`](Executor::name) must be the same.
    ///
    /// # Panics
    /// When the name is not made of lower-case letters, digits, `-` and `_`, beginning with a letter, or is that of something
    /// else in the folder of an execution, such as `logs`.
    pub fn new(
        name: &'static str,
        description: &'static str,
        executor: impl Fn(&Options) -> Arc<dyn Executor> + 'static,
    ) -> Backend {
        assert!(ExecutionFolder::may_hold(name), "`{name}` cannot be the name of a backend");
        Backend {
            name,
            description,
            options: Vec::new(),
            executor: Box::new(executor),
            runs_images: false,
            entry: None,
            keeper: None,
        }
    }

    /// A backend whose layers are processes of this machine, launched by something: what it takes to launch one is all that it
    /// has to say, see [`Launcher`]. If it declares the option `nice` of [`laminar_backend_local::OPTIONS`], that is obeyed.
    ///
    /// # Panics
    /// As [`Backend::new`] does.
    pub fn launching<L: Launcher>(
        name: &'static str,
        description: &'static str,
        launcher: impl Fn(&Options) -> L + 'static,
    ) -> Backend {
        let executor = move |options: &Options| -> Arc<dyn Executor> {
            Arc::new(LocalExecutor::launching(name, launcher(options)).with_options(options))
        };
        Backend::new(name, description, executor).supervised()
    }

    /// The same with options: what may stand in the flow's `backends` and after `-o`. They are checked before the executor
    /// is made.
    ///
    /// # Panics
    /// When a default is no value of its own option.
    #[must_use]
    pub fn options(self, options: impl IntoIterator<Item = Spec>) -> Backend {
        let options: Vec<Spec> = options.into_iter().collect();
        let _ = Options::new(&options, []);
        Backend { options, ..self }
    }

    /// The same, whose layers run in images, and see nothing of this machine's programs: the image of a flow program's layers
    /// has the program in it.
    #[must_use]
    pub fn runs_images(self) -> Backend {
        Backend { runs_images: true, ..self }
    }

    /// The same, with something to run before anything else, in every process of this program: a backend that starts
    /// the program itself in another role plays that role here, and returns how the process is to exit.
    #[must_use]
    pub fn entry(self, entry: fn() -> Option<ExitCode>) -> Backend {
        Backend { entry: Some(entry), ..self }
    }
}

impl Backend {
    fn keeper(self, keeper: impl Fn(&Path, ExecutionId) -> Keeper + 'static) -> Backend {
        Backend { keeper: Some(Box::new(keeper)), ..self }
    }

    /// With the supervisors of local processes, which are this program in another role.
    fn supervised(self) -> Backend {
        let name = self.name;
        let keeper = move |folder: &Path, execution| {
            let supervisor = LocalExecutor::supervisor(name, folder, execution);
            supervisor.map_or(Keeper::Gone, |supervisor| Keeper::Works(supervisor.pid))
        };
        self.keeper(keeper).entry(|| laminar_backend_local::supervise(std::env::args_os().skip(1)))
    }

    /// What outlives the scheduler of this execution.
    pub(crate) fn find_keeper(&self, folder: &Path, execution: ExecutionId) -> Keeper {
        self.keeper.as_ref().map_or(Keeper::Unknown, |keeper| keeper(folder, execution))
    }

    /// Its executor, with these options.
    pub(crate) fn executor<'s>(&self, said: impl IntoIterator<Item = (&'s str, &'s str)>) -> Arc<dyn Executor> {
        (self.executor)(&Options::new(&self.options, said))
    }

    /// What flow files may say of it.
    pub(crate) fn known(&self) -> Known<'_> {
        Known { name: self.name, options: &self.options }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The backends that every command line has; the first is the default.
pub(crate) fn built_in() -> Vec<Backend> {
    let local = Backend::new("local", "plain processes on this machine", |options| {
        Arc::new(LocalExecutor::new().with_options(options))
    })
    .options(laminar_backend_local::OPTIONS.iter().cloned());
    vec![
        local.supervised(),
        Backend::new("docker", "containers of docker", |options| Arc::new(docker(options)))
            .options(laminar_backend_docker::OPTIONS.iter().cloned())
            .runs_images()
            .keeper(|folder, _| {
                let private = folder.join("docker");
                let bare = laminar_backend_docker::may_be_under_way(&private);
                inside(laminar_backend_docker::is_under_way(&private), bare)
            })
            .entry(|| laminar_backend_docker::enter(std::env::args_os().skip(1))),
        // What runs inside a container is the same for both.
        Backend::new("podman", "containers of podman", |options| Arc::new(podman(options)))
            .options(laminar_backend_podman::OPTIONS.iter().cloned())
            .runs_images()
            .keeper(|folder, _| {
                let private = folder.join("podman");
                let bare = laminar_backend_podman::may_be_under_way(&private);
                inside(laminar_backend_podman::is_under_way(&private), bare)
            }),
    ]
}

/// The supervisors inside containers are processes that cannot be seen from here; of those that are bare only the engine knows.
fn inside(is_under_way: bool, may_be: bool) -> Keeper {
    match (is_under_way, may_be) {
        (true, _) => Keeper::Works(None),
        (false, true) => Keeper::Unknown,
        (false, false) => Keeper::Gone,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use laminar_core::fake::{FakeExecutor, Part};
    use laminar_core::option::Kind;

    use super::*;

    #[test]
    fn a_backend_of_ones_own_is_given_the_values_of_its_options() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let mine = Backend::new("mine", "my own machines", move |options| {
            let values = (options.text("queue").map(str::to_owned), options.integer("nodes"));
            told.lock().expect("nobody panics").push(values);
            Arc::new(FakeExecutor::new(|_| Part::exits(0)))
        });
        let queue = Spec::new("queue", Kind::Text, "where layers wait");
        let mine = mine.options([queue, Spec::new("nodes", Kind::Integer(1, 9), "how many").or("2")]);
        let _ = (mine.executor([]), mine.executor([("queue", "long"), ("nodes", "3"), ("nodes", "4")]));
        let seen = seen.lock().expect("nobody panics");
        assert_eq!(seen[..], [(None, Some(2)), (Some("long".to_owned()), Some(4))]);
    }
}
