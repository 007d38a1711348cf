//! An engine, and what is asked of it: images, containers, and how they ended.
//!
//! Its answers are never guessed: what it does not answer is an error, and asked again by whoever wants to know.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use laminar_core::executor::{Cause, ExecutorError, Session, Task};
use laminar_core::id::TaskId;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::argv::{self, Order};
use crate::client::{Client, LONG, PULL, SHORT};
use crate::dialect::{Dialect, Facts, Refusal};
use crate::execution::{Execution, Foreign, Settling, Slot};
use crate::image::{Image, Wanted};
use crate::inspect::{self, Ended, Phase, Shown};
use crate::owner::{self, Host};
use crate::place::{Why, file};
use crate::verdict::{Known, verdict};
use crate::{name, probe, program};

/// The pauses between looks at a container that was killed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// The longest name of a file; what an image with a longer one was resolved to is not kept.
const LONGEST: usize = 255;
/// The most layers that one message names.
const MOST_NAMES: usize = 5;

/// What was found of a task that this process did not start.
pub(crate) enum Found {
    /// It is watched from now on.
    Something,
    /// Neither a container nor a record of its end. `ran`: it did run once.
    Nothing { ran: bool },
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    /// It was sent.
    Sent,
    /// There was nothing alive to send it to.
    Nobody,
}

/// An engine.
pub(crate) struct Engine {
    dialect: &'static Dialect,
    client: Client,
    program: PathBuf,
    facts: OnceCell<Facts>,
}

impl Engine {
    pub(crate) fn new(dialect: &'static Dialect, program: PathBuf) -> Engine {
        Engine { dialect, client: Client::new(dialect), program, facts: OnceCell::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.dialect.name
    }

    /// What the engine tells about itself; asked once.
    pub(crate) async fn facts(&self) -> Result<&Facts, ExecutorError> {
        self.facts.get_or_try_init(|| self.ask_for_facts()).await
    }

    async fn ask_for_facts(&self) -> Result<Facts, ExecutorError> {
        let answer = self.client.ask(Path::new("/"), self.dialect.about, SHORT).await?;
        let said = serde_json::from_slice(&answer.out).ok();
        said.as_ref().and_then(self.dialect.facts).ok_or_else(|| {
            let said = if answer.err.is_empty() { "it does not tell about itself".to_owned() } else { answer.err };
            self.client.unavailable(said)
        })
    }

    async fn host(&self) -> Result<Host, ExecutorError> {
        Ok(Host::here(self.facts().await?))
    }

    /// Makes ready for an execution: everything that can be known to be wrong is told before anything runs.
    pub(crate) async fn prepare(self: &Arc<Engine>, session: &Session) -> Result<Arc<Execution>, ExecutorError> {
        let facts = self.facts().await?;
        if !probe::fits(&facts.arch) {
            let reason = format!("it is for {}, the engine's machine is {}", std::env::consts::ARCH, facts.arch);
            return Err(self.refuse("run this program in its containers", reason));
        }
        let private = session.private(self.dialect.name);
        self.look_for_images_and_mounts(session)?;
        let tasks = private.join("tasks");
        std::fs::create_dir_all(&tasks).map_err(|source| file("make", &tasks, source))?;
        // Folders in it may be open to the user inside; nobody else outside shall reach them.
        let closed = std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700));
        closed.map_err(|source| file("close", &private, source))?;
        let entry = program::provide(&self.program, &private, self.dialect.name)?;
        let execution = Arc::new(Execution::new(session.clone(), private, entry));
        let mut wanted: Vec<_> = session.containers.iter().filter_map(|(_, container)| Wanted::of(container)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut resolving = JoinSet::new();
        for wanted in wanted {
            let (engine, execution) = (Arc::clone(self), Arc::clone(&execution));
            resolving.spawn(async move { engine.image(&execution, &wanted).await.map(drop) });
        }
        while let Some(resolved) = resolving.join_next().await {
            match resolved {
                Ok(resolved) => resolved?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        Ok(execution)
    }

    fn look_for_images_and_mounts(&self, session: &Session) -> Result<(), ExecutorError> {
        let without: Vec<&str> = session
            .containers
            .iter()
            .filter(|(_, container)| container.image.is_none())
            .map(|(layer, _)| &**layer)
            .collect();
        if !without.is_empty() {
            let named = without.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let more = match without.len().saturating_sub(MOST_NAMES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let reason = format!("say `container.image`, in the layer or in `defaults`, for {named}{more}");
            return Err(self.refuse("run layers without an image", reason));
        }
        for (layer, container) in &session.containers {
            for mount in &container.mounts {
                let source = argv::source(&session.workdir, &mount.source);
                if !source.exists() {
                    let verb = format!("mount `{}` for layer `{layer}`", mount.source);
                    return Err(self.refuse(&verb, format!("there is no `{}`", source.display())));
                }
            }
        }
        Ok(())
    }

    /// The image, resolved once per execution.
    async fn image(&self, execution: &Execution, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let cell = execution.image(wanted);
        cell.get_or_try_init(|| self.resolve_once(&execution.private, wanted)).await.cloned()
    }

    /// What an earlier scheduler of this execution has resolved stays, as long as it is there: tags move.
    async fn resolve_once(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let record = folder.join("images").join(wanted.file_name());
        if let Ok(id) = std::fs::read_to_string(&record)
            && let Some(image) = self.find_image(folder, &id).await?
        {
            return Ok(image);
        }
        let image = self.resolve(folder, wanted).await?;
        if wanted.file_name().len() > LONGEST {
            return Ok(image);
        }
        let folder = folder.join("images");
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&record, &image.id));
        kept.map_err(|source| file("write", &record, source))?;
        Ok(image)
    }

    async fn resolve(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        if !wanted.always()
            && let Some(image) = self.find_image(folder, &wanted.name).await?
        {
            return Ok(image);
        }
        let name = &wanted.name;
        if wanted.never() {
            let reason = "it is not there, and `container.pull` is `never`".to_owned();
            return Err(self.refuse(&format!("use the image `{name}`"), reason));
        }
        let mut args = vec!["pull", "--quiet"];
        if let Some(platform) = &wanted.platform {
            args.extend(["--platform", platform]);
        }
        args.push(name);
        let answer = self.client.ask(folder, &args, PULL).await?;
        if !answer.ok {
            return Err(self.client.refused(format!("pull the image `{name}`"), &answer));
        }
        let missing = || self.refuse(&format!("use the image `{name}`"), "it was pulled and is not there".to_owned());
        self.find_image(folder, name).await?.ok_or_else(missing)
    }

    async fn find_image(&self, folder: &Path, name: &str) -> Result<Option<Image>, ExecutorError> {
        let answer = self.client.ask(folder, &["image", "inspect", name], SHORT).await?;
        if !answer.ok {
            // Whatever it is, pulling it will tell.
            return Ok(None);
        }
        let unreadable = |reason| self.refuse(&format!("show the image `{name}`"), reason);
        Image::parse(&answer.out).map(Some).map_err(unreadable)
    }

    /// Starts a task, unless it was started before: then it is watched.
    pub(crate) async fn start(&self, execution: &Execution, slot: &Slot, task: &Task) -> Result<(), ExecutorError> {
        if slot.place.started().is_some() {
            return self.find(execution, slot, Some(task)).await.map(drop);
        }
        let Some(wanted) = Wanted::of(&task.container) else {
            return Err(self.refuse("run a layer without an image", "say `container.image`".to_owned()));
        };
        let image = self.image(execution, &wanted).await?;
        let foreign = self.foreign(task, &image).await?;
        slot.place.make(&task.log)?;
        if let Some(foreign) = &foreign {
            open_up(slot.place.path(), 0o777)?;
            open_up(&task.log, 0o666)?;
            open_up(&foreign.outputs, 0o777)?;
        }
        let words = argv::create(&Order {
            dialect: self.dialect,
            host: self.host().await?,
            task,
            image: &image,
            folder: &execution.session.folder,
            place: slot.place.path(),
            entry: &execution.entry,
            workdir: &execution.session.workdir,
        });
        for again in [true, false] {
            let answer = self.client.ask_with(slot.place.path(), &words.args, &words.env, LONG).await?;
            if answer.ok {
                break;
            }
            if !again || self.dialect.refusal(&answer.err) != Refusal::Taken {
                return Err(self.client.refused("create the container", &answer));
            }
            match self.find(execution, slot, Some(task)).await? {
                Found::Something => return Ok(()),
                // One that never ran is in the way; what it was created with may be out of date.
                Found::Nothing { .. } => self.remove_containers(execution, &[slot.name.as_str()]).await?,
            }
        }
        let answer = self.client.ask(slot.place.path(), &["start", &slot.name], LONG).await?;
        if answer.ok {
            slot.runs(Some(task), None, foreign);
            return Ok(());
        }
        // What the client says is no proof; and what was created would be left for good.
        match self.find(execution, slot, Some(task)).await? {
            Found::Something => Ok(()),
            Found::Nothing { .. } => {
                self.remove_containers(execution, &[slot.name.as_str()]).await?;
                Err(self.client.refused("start the container", &answer))
            }
        }
    }

    /// The task's outputs, if they may be somebody else's in the end.
    async fn foreign(&self, task: &Task, image: &Image) -> Result<Option<Foreign>, ExecutorError> {
        let user = owner::user(task.container.user.as_deref(), &image.user, self.host().await?);
        Ok(user.foreign.then(|| Foreign { outputs: task.outputs.clone(), image: image.id.clone() }))
    }

    /// Looks for a task that another process may have started, and watches it from now on.
    pub(crate) async fn find(
        &self,
        execution: &Execution,
        slot: &Slot,
        task: Option<&Task>,
    ) -> Result<Found, ExecutorError> {
        let began = slot.place.started();
        let over = slot.place.exit().is_some();
        if !over {
            let shown = self.inspect(execution, &[slot.name.as_str()]).await?.pop();
            match shown {
                None => return Ok(Found::Nothing { ran: began.is_some() }),
                Some(shown) => {
                    self.is_ours(execution, &shown)?;
                    if shown.phase == Phase::Created {
                        return Ok(Found::Nothing { ran: false });
                    }
                }
            }
        }
        let foreign = match task.map(|task| (task, Wanted::of(&task.container))) {
            Some((task, Some(wanted))) => self.foreign(task, &self.image(execution, &wanted).await?).await?,
            _ => None,
        };
        slot.runs(task, began, foreign);
        self.look(execution, &[slot]).await?;
        Ok(Found::Something)
    }

    fn is_ours(&self, execution: &Execution, shown: &Shown) -> Result<(), ExecutorError> {
        let root = name::root(&execution.session.folder);
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

    /// Asks the engine about these containers in one question; those that are not there are not in the answer.
    async fn inspect(&self, execution: &Execution, names: &[&str]) -> Result<Vec<Shown>, ExecutorError> {
        let args: Vec<&str> = ["container", "inspect"].into_iter().chain(names.iter().copied()).collect();
        let answer = self.client.ask(&execution.private, &args, SHORT).await?;
        let missing_only = answer.err.lines().all(|line| self.dialect.refusal(line) == Refusal::Gone);
        if !answer.ok && (answer.err.is_empty() || !missing_only) {
            return Err(self.client.refused("show its containers", &answer));
        }
        inspect::parse(&answer.out).map_err(|reason| self.refuse("show its containers", reason))
    }

    /// Looks at tasks that are silent: those that are over are settled.
    pub(crate) async fn look(&self, execution: &Execution, slots: &[&Slot]) -> Result<(), ExecutorError> {
        let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        let shown = self.inspect(execution, &names).await?;
        for slot in slots {
            match shown.iter().find(|shown| shown.name == slot.name).map(|shown| &shown.phase) {
                Some(Phase::Running | Phase::Created) => {}
                Some(Phase::Over(ended)) => self.settle(execution, slot, Some(ended.clone())).await,
                None => self.settle(execution, slot, None).await,
            }
        }
        Ok(())
    }

    /// A task is over, as the engine says. Whoever knows it first finds out how.
    async fn settle(&self, execution: &Execution, slot: &Slot, engine: Option<Ended>) {
        if slot.settle() {
            self.find_out(execution, slot, engine).await;
        }
    }

    /// Finds out how a task ended that is over. Only for who was the first to [`Slot::settle`].
    pub(crate) async fn find_out(&self, execution: &Execution, slot: &Slot, engine: Option<Ended>) {
        let _settling = Settling(slot);
        let known = Known {
            inside: slot.place.exit(),
            began: slot.place.started().is_some(),
            engine,
            oom: slot.place.oom(),
            asked: slot.asked(),
        };
        let mut exit = verdict(&known, self.dialect.name);
        if exit.cause == Cause::EngineFailed
            && let Ok(said) = self.client.ask(&execution.private, &["logs", "--tail", "3", &slot.name], SHORT).await
        {
            // The supervisor inside may have said why it could not begin.
            let said = [String::from_utf8_lossy(&said.out).trim(), &said.err].join(" ");
            exit.evidence = format!("{}; it said: {}", exit.evidence, said.trim());
        }
        if let Some(foreign) = slot.foreign()
            && let Err(error) = self.give_back(execution, slot, &foreign).await
        {
            exit.evidence = [exit.evidence, error.to_string()].join("; ").trim_start_matches("; ").to_owned();
        }
        slot.ended(exit);
    }

    /// What the task wrote becomes ours, whoever wrote it.
    async fn give_back(&self, execution: &Execution, slot: &Slot, foreign: &Foreign) -> Result<(), ExecutorError> {
        let host = self.host().await?;
        let _ = open_up(&foreign.outputs, 0o700); // as it was; whoever owns it may have closed it
        if !owner::foreign(&foreign.outputs, host.uid) {
            return Ok(());
        }
        if host.uid == 0 && !host.rootless {
            let outputs = foreign.outputs.clone();
            let given = tokio::task::spawn_blocking(move || owner::give(&outputs, host.uid, host.gid)).await;
            let failed = |source| file("take over", &foreign.outputs, source);
            return given.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed);
        }
        let answer = if let (true, Some(unshare)) = (host.rootless, self.dialect.unshare) {
            let mut args: Vec<OsString> = unshare.iter().map(OsString::from).collect();
            args.extend(["chown", "-R", "-h", "0:0", "--"].map(OsString::from));
            args.push(foreign.outputs.clone().into());
            self.client.ask(&execution.private, &args, LONG).await?
        } else {
            let args = argv::give_back(slot.place.path(), &execution.entry, foreign, (self.dialect, host));
            self.client.ask(&execution.private, &args, LONG).await?
        };
        if answer.ok { Ok(()) } else { Err(self.client.refused("give the outputs to their owner", &answer)) }
    }

    /// Asks a task to end, waits, forces it. Returns when it is over.
    pub(crate) async fn end(
        &self,
        execution: &Execution,
        slot: &Slot,
        why: Why,
        grace: Duration,
    ) -> Result<(), ExecutorError> {
        if slot.is_over() || !slot.is_watched() || slot.place.exit().is_some() {
            slot.exit().await;
            return Ok(());
        }
        slot.place.ask(why)?;
        slot.ask(why, grace);
        if self.signal(execution, slot, "TERM").await? == Signalled::Nobody {
            self.look(execution, &[slot]).await?;
        }
        loop {
            let hurried = slot.hurried.notified(); // before the time is read, so that no change of it is missed
            let force_at = slot.force_at().unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                _ = slot.exit() => return Ok(()),
                () = hurried => {}
                () = tokio::time::sleep_until(force_at) => break,
            }
        }
        slot.force();
        self.signal(execution, slot, "KILL").await?;
        let mut pause = PAUSES.0;
        loop {
            self.look(execution, &[slot]).await?;
            if tokio::time::timeout(pause, slot.exit()).await.is_ok() {
                return Ok(());
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn signal(&self, execution: &Execution, slot: &Slot, signal: &str) -> Result<Signalled, ExecutorError> {
        let answer = self.client.ask(&execution.private, &["kill", "--signal", signal, &slot.name], SHORT).await?;
        match self.dialect.refusal(&answer.err) {
            _ if answer.ok => Ok(Signalled::Sent),
            Refusal::Gone | Refusal::NotRunning => Ok(Signalled::Nobody),
            _ => Err(self.client.refused(format!("send {signal} to the container"), &answer)),
        }
    }

    /// Removes the containers and records of tasks that are over.
    pub(crate) async fn remove(&self, execution: &Execution, tasks: &[TaskId]) -> Result<(), ExecutorError> {
        let slots: Vec<_> = tasks.iter().map(|task| execution.slot(task)).collect();
        let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        self.remove_containers(execution, &names).await?;
        let places: Vec<_> = slots.iter().map(|slot| slot.place.clone()).collect();
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
        let gone = answer.err.lines().all(|line| self.dialect.refusal(line) == Refusal::Gone);
        if answer.ok || gone { Ok(()) } else { Err(self.client.refused("remove containers", &answer)) }
    }

    /// The names of the execution's containers.
    pub(crate) async fn list(&self, execution: &Execution) -> Result<Vec<String>, ExecutorError> {
        let ours = format!("label={}={}", name::EXECUTION, execution.session.execution);
        let args = ["ps", "--all", "--filter", &ours, "--format", "{{.Names}}"];
        let answer = self.client.ask(&execution.private, &args, SHORT).await?;
        if !answer.ok {
            return Err(self.client.refused("list its containers", &answer));
        }
        Ok(String::from_utf8_lossy(&answer.out).lines().map(str::to_owned).collect())
    }

    fn refuse(&self, verb: &str, reason: String) -> ExecutorError {
        ExecutorError::Refused { engine: self.dialect.name.to_owned(), verb: verb.to_owned(), reason }
    }
}

/// Opens a file or folder to whoever the processes inside are.
fn open_up(path: &Path, mode: u32) -> Result<(), ExecutorError> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(|source| file("open up", path, source))
}
