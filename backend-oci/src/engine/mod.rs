//! An engine, and what is asked of it: images, containers, how they start, how they end, what they print.
//!
//! Its answers are never guessed: what it does not answer is an error, and asked again by whoever wants to know.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use laminar_core::executor::{ExecutorError, Session, Task};
use laminar_core::id::TaskId;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::client::{Client, LONG, SHORT};
use crate::dialect::{Dialect, Facts, Refusal};
use crate::execution::{Execution, Slot};
use crate::image::Image;
use crate::inspect::{self, Phase, Shown};
use crate::outside::Outside;
use crate::owner::Host;
use crate::place::{Terms, file};
use crate::settings::Settings;
use crate::{name, probe, program};

mod beside;
mod ends;
mod images;
mod logs;
mod starts;
mod warm;

pub(crate) use logs::follow;

/// How many containers one question is about at most.
const AT_ONCE: usize = 200;
/// How often an engine is asked again, when its client was killed, what nobody else will ask again.
const TRIES: usize = 3;
/// How long an engine may take to finish a removal that it is at already, and how often it is asked.
const REMOVAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(50));

/// What was found of a task that this process did not start.
pub(crate) enum Found {
    /// It is watched from now on.
    Something,
    /// Neither a container nor a record of its end. `ran`: it did run once.
    Nothing { ran: bool },
}

/// An engine.
pub(crate) struct Engine {
    pub(crate) dialect: &'static Dialect,
    settings: Settings,
    pub(crate) client: Client,
    program: PathBuf,
    /// Whether it does without the supervisor inside, whether that could be or not.
    pub(crate) bare: bool,
    /// How long a warm container waits without a scheduler until it ends by itself.
    pub(crate) warmth: Duration,
    /// Images that are looked for already, by their names.
    ahead: Mutex<HashMap<String, JoinHandle<Option<Image>>>>,
    facts: OnceCell<Facts>,
    outside: OnceCell<Outside>,
}

impl Engine {
    pub(crate) fn new(dialect: &'static Dialect, program: PathBuf) -> Engine {
        let settings = Settings::default();
        let client = Client::new(dialect, &settings);
        Engine {
            dialect,
            settings,
            client,
            program,
            bare: false,
            warmth: warm::PATIENCE,
            ahead: Mutex::default(),
            facts: OnceCell::new(),
            outside: OnceCell::new(),
        }
    }

    /// Takes down what was said of it.
    pub(crate) fn set(&mut self, settings: Settings) {
        self.client = self.client.told(&settings);
        self.settings = settings;
    }

    pub(crate) fn name(&self) -> &'static str {
        self.dialect.name
    }

    /// What the engine tells about itself; asked once.
    pub(crate) async fn facts(&self) -> Result<&Facts, ExecutorError> {
        self.facts.get_or_try_init(|| self.ask_for_facts()).await
    }

    async fn ask_for_facts(&self) -> Result<Facts, ExecutorError> {
        let env: Vec<_> =
            self.dialect.about_env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let ask = || self.client.ask_with(Path::new("/"), self.dialect.about, &env, SHORT);
        let mut answer = ask().await?;
        for _ in 0..TRIES {
            if !answer.killed {
                break;
            }
            // Nobody else will ask again: without this nothing begins.
            answer = ask().await?;
        }
        let said = serde_json::from_slice(&answer.out).ok();
        said.as_ref().and_then(self.dialect.facts).ok_or_else(|| {
            let said = if answer.err.is_empty() { "it does not tell about itself".to_owned() } else { answer.err };
            self.client.unavailable(said)
        })
    }

    async fn host(&self) -> Result<Host, ExecutorError> {
        Ok(Host::here(self.facts().await?))
    }

    /// Why there can be no supervisor inside, if so.
    pub(crate) fn bareness(&self, facts: &Facts) -> Result<Option<String>, ExecutorError> {
        if self.bare {
            return Ok(Some("it was asked to do without".to_owned()));
        }
        if !probe::fits(&facts.arch) {
            let ours = std::env::consts::ARCH;
            return Ok(Some(format!("this build of laminar is for {ours}, the engine's machine is {}", facts.arch)));
        }
        let needs_loader = program::needs_loader(&self.program)?;
        Ok(needs_loader.then(|| "this build of laminar is linked dynamically".to_owned()))
    }

    /// Makes ready for an execution: everything that can be known to be wrong is told before anything runs.
    pub(crate) async fn prepare(self: &Arc<Engine>, session: &Session) -> Result<Arc<Execution>, ExecutorError> {
        let bareness = self.bareness(self.facts().await?)?;
        let private = session.private(self.dialect.name);
        let root = self.sees_execution(&session.folder).await?;
        let wrong = self.look_for_images_and_mounts(&session.containers, &session.workdir, self.outside().await?);
        if let Some(first) = wrong.into_iter().next() {
            return Err(first);
        }
        let tasks = private.join("tasks");
        std::fs::create_dir_all(&tasks).map_err(|source| file("make", &tasks, source))?;
        // Folders in it may be open to the user inside; nobody else outside shall reach them.
        let closed = std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700));
        closed.map_err(|source| file("close", &private, source))?;
        let entry = match bareness {
            None => Some(program::provide(&self.program, &private)?),
            Some(_) => None,
        };
        let execution = Arc::new(Execution::new(session.clone(), root, private, entry));
        self.images(&execution).await?;
        Engine::adopt_warm(&execution);
        Ok(execution)
    }

    /// Looks for a task that another process may have started, and watches it from now on.
    pub(crate) async fn find(
        &self,
        execution: &Execution,
        slot: &Slot,
        task: Option<&Task>,
    ) -> Result<Found, ExecutorError> {
        if let Some(terms) = slot.place.terms()
            && let Some(warm) = terms.warm.clone()
        {
            return self.find_warm(execution, slot, task.map_or(terms.clone(), |task| terms.of(task)), &warm).await;
        }
        let terms = slot.place.terms();
        let began = slot.place.started();
        let over = slot.place.exit().is_some();
        if !over {
            let Some(shown) = self.inspect(execution, &[slot.name.as_str()]).await?.pop() else {
                return Ok(Found::Nothing { ran: began.is_some() });
            };
            self.is_ours(execution, &shown)?;
            let is_bare = terms.as_ref().is_some_and(|terms| terms.bare);
            if is_bare && began.is_some() && matches!(shown.phase, Phase::Unsure { .. }) {
                // Nobody inside will say how it ends, nor will the engine: all that can be done is to see that it does.
                self.remove_containers(execution, &[slot.name.as_str()]).await?;
                return Ok(Found::Nothing { ran: true });
            }
            if shown.phase.given(began.is_some()) == Phase::Created {
                return Ok(Found::Nothing { ran: false });
            }
        }
        let terms = match task {
            Some(task) => Some(terms.map_or_else(|| Terms::new(task, "", false), |terms| terms.of(task))),
            None => terms,
        };
        slot.runs(terms.unwrap_or_default(), began);
        // What is on record needs no engine: the watcher settles it.
        if !over {
            self.look(execution, &[slot]).await?;
        }
        Ok(Found::Something)
    }

    fn is_ours(&self, execution: &Execution, shown: &Shown) -> Result<(), ExecutorError> {
        let root = name::root(&execution.root);
        match shown.labels.get(name::ROOT) {
            Some(theirs) if *theirs == root => Ok(()),
            Some(theirs) => Err(ExecutorError::Conflict {
                name: shown.name.clone(),
                owner: format!("a container of the execution in `{theirs}`"),
            }),
            None => Err(ExecutorError::Conflict {
                name: shown.name.clone(),
                owner: "a container that laminar did not make".to_owned(),
            }),
        }
    }

    /// Asks the engine about these containers in few questions; those that are not there are not in the answer.
    async fn inspect(&self, execution: &Execution, names: &[&str]) -> Result<Vec<Shown>, ExecutorError> {
        let mut all = Vec::new();
        for names in names.chunks(AT_ONCE) {
            for shown in self.client.show(&execution.private, names, "show its containers").await? {
                all.extend(inspect::parse(&shown).map_err(|reason| self.refuse("show its containers", reason))?);
            }
        }
        Ok(all)
    }

    /// Looks at tasks that are silent: those that are over are settled.
    pub(crate) async fn look(&self, execution: &Execution, slots: &[&Slot]) -> Result<(), ExecutorError> {
        let names: Vec<String> = slots.iter().map(|slot| slot.container()).collect();
        let began: Vec<bool> = slots.iter().map(|slot| slot.place.started().is_some()).collect();
        let shown = self.inspect(execution, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        for ((slot, name), began) in slots.iter().zip(&names).zip(began) {
            let shown = shown.iter().find(|shown| shown.name == *name);
            match shown.map(|shown| shown.phase.clone().given(began)) {
                Some(Phase::Running | Phase::Paused | Phase::Created | Phase::Unsure { .. }) => {}
                Some(Phase::Over(ended)) => self.settle(execution, slot, Some(ended)).await,
                None => self.settle(execution, slot, None).await,
            }
        }
        Ok(())
    }

    /// Removes the containers and records of tasks that are over.
    pub(crate) async fn remove(&self, execution: &Execution, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        let slots: Vec<_> = tasks.iter().map(|task| execution.slot(task)).collect();
        let (mut warm, mut own) = (Vec::new(), Vec::new());
        for slot in slots {
            let terms = if slot.is_known() { Some(slot.terms()) } else { slot.place.terms() };
            match terms.and_then(|terms| Some((terms.warm.clone()?, terms))) {
                Some((desk, terms)) => {
                    self.forget_warm(execution, &slot, &desk, &terms).await?;
                    if !Engine::keep_warm(execution, &slot, &desk) {
                        warm.push(slot);
                    }
                }
                None => own.push(slot),
            }
        }
        let slots = own;
        // Those that this process knows are ours; others may only have the name.
        let (known, unknown): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| slot.is_known());
        let mut names: Vec<&str> = known.iter().map(|slot| slot.name.as_str()).collect();
        let unknown: Vec<&str> = unknown.iter().map(|slot| slot.name.as_str()).collect();
        names.extend(self.but_others(execution, unknown).await?);
        for slot in &slots {
            if let Some(terms) = slot.place.terms().filter(|terms| terms.bare) {
                logs::sweep(terms.log());
            }
        }
        if !names.is_empty() {
            self.remove_containers(execution, &names).await?;
        }
        let places: Vec<_> = slots.iter().chain(&warm).map(|slot| slot.place.clone()).collect();
        if places.is_empty() {
            return Ok(());
        }
        let removed = tokio::task::spawn_blocking(move || {
            places.iter().try_for_each(|place| place.remove().map_err(|source| file("remove", place.path(), source)))
        });
        removed.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    async fn remove_containers(&self, execution: &Execution, names: &[&str]) -> Result<(), ExecutorError> {
        // By force, since the engine may still be at its own part of an end that the supervisor has told already; with the
        // volumes that an image asked for and nobody named.
        let args: Vec<&str> = self.dialect.remove.iter().chain(names).copied().collect();
        let answer = self.client.ask(&execution.private, &args, LONG).await?;
        if answer.ok {
            return Ok(());
        }
        if !self.dialect.says_only(&answer.err, &[Refusal::Gone, Refusal::Removing]) {
            return Err(self.client.refused("remove containers", &answer));
        }
        let until = tokio::time::Instant::now() + REMOVAL.0;
        while !self.inspect(execution, names).await?.is_empty() {
            if tokio::time::Instant::now() > until {
                return Err(self.client.refused("remove containers", &answer));
            }
            tokio::time::sleep(REMOVAL.1).await;
        }
        Ok(())
    }

    /// The names of the execution's containers.
    pub(crate) async fn list(&self, execution: &Execution) -> Result<Vec<String>, ExecutorError> {
        let ours = format!("label={}={}", name::EXECUTION, execution.session.execution);
        let args = ["ps", "--all", "--filter", &ours, "--format", "{{.Names}}"];
        let answer = self.client.ask(&execution.private, &args, SHORT).await?;
        if !answer.ok {
            return Err(self.client.refused("list its containers", &answer));
        }
        let names = String::from_utf8_lossy(&answer.out).into_owned();
        let names: Vec<&str> = names.lines().collect();
        // A copy of the execution elsewhere has the same id. The folder is no filter: podman takes it for a pattern.
        Ok(self.but_others(execution, names).await?.map(str::to_owned).collect())
    }

    /// These names, but for those of containers that are not ours. What cannot be shown is gone, or half removed and to be
    /// removed for good.
    async fn but_others<'n>(
        &self,
        execution: &Execution,
        names: Vec<&'n str>,
    ) -> Result<impl Iterator<Item = &'n str>, ExecutorError> {
        let mut others = self.inspect(execution, &names).await?;
        others.retain(|shown| self.is_ours(execution, shown).is_err());
        Ok(names.into_iter().filter(move |name| !others.iter().any(|shown| shown.name == *name)))
    }

    pub(crate) fn refuse(&self, verb: &str, reason: String) -> ExecutorError {
        ExecutorError::Refused { engine: self.dialect.name.to_owned(), verb: verb.to_owned(), reason }
    }
}

/// Opens a file or folder to whoever the processes inside are.
fn open_up(path: &Path, mode: u32) -> Result<(), ExecutorError> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(|source| file("open up", path, source))
}

/// Opens a folder of files to readers, whoever they are inside. It lies in one that is closed to everybody else outside.
fn open_to_readers(folder: &Path) -> Result<(), ExecutorError> {
    open_up(folder, 0o755)?;
    for entry in std::fs::read_dir(folder).map_err(|source| file("read", folder, source))? {
        open_up(&entry.map_err(|source| file("read", folder, source))?.path(), 0o444)?;
    }
    Ok(())
}
