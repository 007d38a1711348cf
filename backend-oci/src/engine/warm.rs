//! Warm containers: how tasks are handed to them, and what becomes of both.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use laminar_core::executor::{ExecutorError, Task};
use laminar_core::id::TaskId;
use tokio::time::Instant;

use super::{Engine, Found};
use crate::argv::{self, Order};
use crate::client::LONG;
use crate::dialect::Refusal;
use crate::execution::{Execution, Slot};
use crate::name;
use crate::outside::Outside;
use crate::place::{Place, Terms, Warm, file};
use crate::warm::desk::{self, Desk, Handed, Mounted};

/// How often a task is handed to another container, when one has ended meanwhile.
const TRIES: usize = 8;
/// How much a task may leave that is moved at once.
const LITTLE: usize = 64;
/// How long a container waits without a scheduler until it ends by itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a container that was started has until it hears, and how often it is tried.
const HEARING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_millis(5));

impl Engine {
    /// Whether a task can share a container with others.
    pub(super) fn may_share(execution: &Execution, slot: &Slot, task: &Task) -> bool {
        // One that was begun in a container of its own, or was about to be, goes on with that.
        let may_be_warm = match slot.place.terms() {
            Some(terms) => terms.warm.is_some(),
            None => !slot.place.path().exists(),
        };
        task.container.reuse && execution.entry.is_some() && execution.pool.is_possible() && may_be_warm
    }

    /// Hands a task to a warm container, an old or a new one. `false`: there can be none, here and now.
    pub(super) async fn start_warm(
        self: &Arc<Engine>,
        execution: &Execution,
        slot: &Slot,
        terms: &Terms,
        order: &Order<'_>,
    ) -> Result<bool, ExecutorError> {
        let (Some(entry), task) = (&execution.entry, order.task) else { return Ok(false) };
        if let Err(why) = execution.pool.look_once(|| desk::can_lend(&execution.private, task)) {
            execution.pool.give_up(why);
            return Ok(false);
        }
        let errand = argv::errand(order, self.facts().await?.limits_memory());
        let key = key(order, entry).map_err(|reason| self.refuse("create the container", reason))?;
        for _ in 0..TRIES {
            let desk = match execution.pool.take(&key) {
                Some(desk) => desk,
                None => {
                    let named = |own: &str| name::warm(&task.id, own);
                    let made =
                        Desk::create(&execution.private, task.id.execution, task, terms.foreign, key.clone(), named);
                    match made {
                        Ok(desk) => execution.pool.add(desk),
                        Err(error) => {
                            execution.pool.give_up(error.to_string());
                            return Ok(false);
                        }
                    }
                }
            };
            let own = desk.name();
            if !desk.is_born() {
                let made = self.create_warm(execution, order, entry, &desk).await;
                match made {
                    Ok(true) => {}
                    Ok(false) => {
                        execution.pool.spend(&own);
                        execution.pool.give_up("the supervisor inside is not heard of".to_owned());
                        return Ok(false);
                    }
                    Err(error) => {
                        execution.pool.spend(&own);
                        return Err(error);
                    }
                }
            }
            let mut terms = terms.clone();
            terms.warm = Some(Warm { desk: own.clone(), container: desk.container().to_owned() });
            let handed = desk::lock(&execution.private)
                .and_then(|_locked| desk.hand_over(&slot.place, &slot.folder, (task, &terms), &errand));
            match handed {
                Ok(Handed::Over) if desk.ring() => {}
                Ok(Handed::Over) => {
                    if self.withdraw(execution, slot, &desk, &terms)? {
                        execution.pool.spend(&own);
                        continue;
                    }
                }
                Ok(Handed::Before) => {
                    execution.pool.put(&own);
                    if let Found::Something = self.find(execution, slot, Some(task)).await? {
                        return Ok(true);
                    }
                    continue;
                }
                Err(source) => {
                    let _ = self.withdraw(execution, slot, &desk, &terms);
                    execution.pool.spend(&own);
                    return Err(file("lend", desk.folder(), source));
                }
            }
            slot.runs(terms, None);
            return Ok(true);
        }
        Err(self.refuse("hand the task over", "every container that it was handed to had ended".to_owned()))
    }

    /// Makes the container of a desk. Whether its supervisor is heard of, which mostly is before the engine's client has done.
    async fn create_warm(
        self: &Arc<Engine>,
        execution: &Execution,
        order: &Order<'_>,
        entry: &Path,
        desk: &Desk,
    ) -> Result<bool, ExecutorError> {
        let words = argv::create_warm(order, entry, desk.container(), &desk.mounted(), self.warmth);
        let words = words.map_err(|reason| self.refuse("create the container", reason))?;
        let args: Vec<OsString> =
            ["run", "--detach"].map(OsString::from).into_iter().chain(words.skip_verb()).collect();
        let (engine, folder) = (Arc::clone(self), desk.folder().to_owned());
        let mut client = tokio::spawn(async move { engine.client.ask(&folder, &args, LONG).await });
        let answer = loop {
            tokio::select! {
                answer = &mut client => {
                    break answer.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
                }
                () = tokio::time::sleep(HEARING.1) => {}
            }
            if desk.ring() {
                execution.pool.let_finish(client);
                return Ok(true);
            }
        };
        if self.dialect.refusal(&answer.err) == Refusal::Taken {
            // The client of a scheduler that died may have come this far, or be about to. What it says is no proof.
            self.client.ask(desk.folder(), &["start", desk.container()], LONG).await?;
        } else if !answer.ok {
            return Err(self.client.refused("create the container", &answer));
        }
        let until = Instant::now() + HEARING.0;
        while !desk.ring() {
            if desk.is_leaving() || Instant::now() > until {
                return Ok(false);
            }
            tokio::time::sleep(HEARING.1).await;
        }
        Ok(true)
    }

    /// Takes an errand back. Whether nobody has begun it, and nobody ever will.
    fn withdraw(&self, execution: &Execution, slot: &Slot, desk: &Desk, terms: &Terms) -> Result<bool, ExecutorError> {
        let withdrawn = desk::lock(&execution.private)
            .and_then(|_locked| desk.withdraw(&slot.place, &slot.folder, terms.log(), terms.outputs()));
        withdrawn.map_err(|source| file("take back", desk.folder(), source))
    }

    /// Looks for a task that another process may have handed over.
    pub(super) async fn find_warm(
        &self,
        execution: &Execution,
        slot: &Slot,
        terms: Terms,
        warm: &Warm,
    ) -> Result<Found, ExecutorError> {
        if slot.place.exit().is_none() {
            if slot.place.started().is_none() {
                // Whoever hands out its errands at this moment may be about to wake it.
                let own = execution.pool.taken(&warm.desk);
                let desk = Desk::read(&execution.private, &warm.desk);
                let is_anothers = own.is_none() && desk.as_ref().is_some_and(Desk::is_held);
                if is_anothers {
                    slot.runs(terms, None);
                    return Ok(Found::Something);
                }
                // What was handed over, and told so, is begun by whoever is there.
                let is_heard = |desk: &Desk| desk.has_errand_of(&slot.folder) && !desk.is_leaving() && desk.ring();
                if own.as_deref().or(desk.as_ref()).is_some_and(is_heard) {
                    slot.runs(terms, None);
                    return Ok(Found::Something);
                }
                let withdrawn = match own.as_deref().or(desk.as_ref()) {
                    Some(desk) => self.withdraw(execution, slot, desk, &terms)?,
                    None => slot
                        .place
                        .remove()
                        .map(|()| true)
                        .map_err(|source| file("remove", slot.place.path(), source))?,
                };
                if withdrawn {
                    execution.pool.put(&warm.desk);
                    return Ok(Found::Nothing { ran: false });
                }
            }
            match self.inspect(execution, &[warm.container.as_str()]).await?.pop() {
                None if slot.place.exit().is_none() => return Ok(Found::Nothing { ran: true }),
                None => {}
                Some(shown) => self.is_ours(execution, &shown)?,
            }
        }
        let is_over = slot.place.exit().is_some();
        slot.runs(terms, slot.place.started());
        if !is_over {
            self.look(execution, &[slot]).await?;
        }
        Ok(Found::Something)
    }

    /// Whether podman's monitor has seen the kernel kill in the container of a task: its last one then, and so that is its own.
    pub(super) fn saw_oom(execution: &Execution, slot: &Slot, warm: &Warm) -> bool {
        // What it sees after it was taken back is another's.
        slot.place.is_lent()
            && match execution.pool.taken(&warm.desk) {
                Some(desk) => desk.oom(),
                None => Desk::read(&execution.private, &warm.desk).is_some_and(|desk| desk.oom()),
            }
    }

    /// Wakes the container of a task. Whether anybody is there.
    pub(super) fn wake(&self, execution: &Execution, warm: &Warm) -> bool {
        match execution.pool.taken(&warm.desk) {
            Some(desk) => desk.ring(),
            None => Desk::read(&execution.private, &warm.desk).is_some_and(|desk| desk.ring()),
        }
    }

    /// What was lent to a task that is over is taken back, and its container is free.
    pub(super) async fn take_back(
        &self,
        execution: &Execution,
        slot: &Slot,
        warm: &Warm,
        terms: &Terms,
    ) -> io::Result<()> {
        let desk = execution.pool.taken(&warm.desk);
        let read = || Desk::read(&execution.private, &warm.desk).map(Arc::new);
        let Some(desk) = desk.or_else(read) else { return Ok(()) };
        let (private, place, name) = (execution.private.clone(), slot.place.clone(), slot.folder.clone());
        let (log, outputs) = (terms.log().to_owned(), terms.outputs().to_owned());
        let left_little = outputs.read_dir().is_ok_and(|left| left.take(LITTLE).count() < LITTLE);
        let take = move || {
            let _locked = desk::lock(&private)?;
            // One that was never begun, in a container that has ended, leaves nothing.
            if place.started().is_none() && place.exit().is_none() && desk.withdraw(&place, &name, &log, &outputs)? {
                return Ok(true);
            }
            desk.take_back(&place, &name, &log, &outputs)
        };
        // Another thread costs more than what little there is.
        let taken = match left_little {
            true => take(),
            false => {
                let taken = tokio::task::spawn_blocking(take).await;
                taken.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
            }
        };
        match taken {
            Ok(true) => execution.pool.put(&warm.desk),
            Ok(false) => {}
            Err(_) => execution.pool.spend(&warm.desk),
        }
        taken.map(drop)
    }

    /// A task is to be forgotten: one that is not over ends, with its container.
    pub(super) async fn forget_warm(
        &self,
        execution: &Execution,
        slot: &Slot,
        warm: &Warm,
        terms: &Terms,
    ) -> Result<(), ExecutorError> {
        if !slot.place.is_lent() {
            return Ok(());
        }
        if slot.place.exit().is_none() {
            execution.pool.finish().await;
            self.remove_containers(execution, &[warm.container.as_str()]).await?;
        }
        let taken = self.take_back(execution, slot, warm, terms).await;
        taken.map_err(|source| file("take back", slot.place.path(), source))
    }

    /// Keeps the folder of a task that was forgotten for another. Whether that could be.
    pub(super) fn keep_warm(execution: &Execution, slot: &Slot, warm: &Warm) -> bool {
        let desk = execution.pool.any(&warm.desk);
        desk.is_some_and(|desk| desk.keep(&slot.place))
    }

    /// Takes over the containers that a scheduler has left which is gone.
    pub(super) fn adopt_warm(execution: &Execution) {
        for name in desk::all(&execution.private) {
            let Some(desk) = Desk::adopt(&execution.private, &name) else { continue };
            // One that nobody has heard of yet may still be about to come.
            let is_there = desk.ring() || !desk.is_born();
            let desk = execution.pool.add(desk);
            let cleared = desk.clear_strays(|task| Place::new(&execution.private, task).leads(&desk.way()));
            if cleared.is_err() {
                execution.pool.spend(&name);
                continue;
            }
            if desk.is_taken() {
                continue;
            }
            match is_there {
                true => execution.pool.put(&name),
                false => execution.pool.spend(&name),
            }
        }
    }

    /// Removes containers that nobody needs any more.
    pub(crate) async fn tidy(&self, execution: &Execution) -> Result<(), ExecutorError> {
        let _tidying = execution.pool.tidying.lock().await;
        let old = execution.pool.to_be_removed(Instant::now());
        self.remove_warm(execution, old).await
    }

    /// Lets go of all of them. Those that are at work go on.
    pub(crate) async fn release_warm(&self, execution: &Execution) -> Result<(), ExecutorError> {
        let _tidying = execution.pool.tidying.lock().await;
        let free = execution.pool.close();
        self.remove_warm(execution, free).await
    }

    async fn remove_warm(&self, execution: &Execution, desks: Vec<Arc<Desk>>) -> Result<(), ExecutorError> {
        if desks.is_empty() {
            return Ok(());
        }
        // The engine waits longer for those that it has to end itself.
        desks.iter().for_each(|desk| desk.dismiss());
        execution.pool.finish().await;
        let names: Vec<&str> = desks.iter().map(|desk| desk.container()).collect();
        if let Err(error) = self.remove_containers(execution, &names).await {
            execution.pool.put_back(desks);
            return Err(error);
        }
        // What they have of others is not theirs to keep.
        desks.iter().filter(|desk| !desk.is_taken()).for_each(|desk| desk.remove());
        Ok(())
    }

    /// The tasks that were handed to warm containers, from their folders.
    pub(crate) fn list_warm(execution: &Execution) -> Vec<TaskId> {
        let tasks = execution.private.join("tasks");
        let entries = tasks.read_dir().into_iter().flatten().flatten();
        let is_warm = |path: &PathBuf| Place::at(path.clone()).terms().is_some_and(|terms| terms.warm.is_some());
        let names = entries.filter(|entry| is_warm(&entry.path())).map(|entry| entry.file_name());
        names.filter_map(|name| name::of_folder(execution.session.execution, name.to_str()?)).collect()
    }
}

/// Which tasks can share a container: those for which the engine would be told the same, but for names that are the container's.
fn key(order: &Order<'_>, entry: &Path) -> Result<String, String> {
    // What the engine would be told, but for where it finds that: the names of a container's own folders are none yet.
    let order = &Order { outside: &Outside::default(), ..*order };
    let named = |name: &str| PathBuf::from(name);
    // They lie beside the others' secrets, on one memory.
    let secrets = order.task.secrets.as_ref().map(|folder| folder.with_file_name("secrets"));
    let mounted = Mounted { inside: named("inside"), outputs: named("outputs"), each: named("each"), secrets };
    let words = argv::create_warm(order, entry, "", &mounted, PATIENCE)?;
    Ok(words.args.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join("\0"))
}
