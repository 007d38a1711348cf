//! How tasks start: run in one go, or, where that has not gone well, created, then started; never twice.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::sync::Arc;

use laminar_core::executor::{Cause, ExecutorError, Exit, Task};

use super::{Engine, Found, open_to_readers, open_up};
use crate::argv::{self, Order, Words};
use crate::client::{LONG, gist};
use crate::dialect::Refusal;
use crate::execution::{Execution, Slot};
use crate::inspect::{Phase, Shown};
use crate::owner;
use crate::place::{Terms, file};

/// How often a container of our name is cleared out of the way before that is an error.
const TRIES: usize = 3;

impl Engine {
    /// Starts a task, unless it was started before: then it is watched.
    pub(crate) async fn start(
        self: &Arc<Engine>,
        execution: &Execution,
        slot: &Slot,
        task: &Task,
    ) -> Result<(), ExecutorError> {
        let is_warm = || slot.place.terms().is_some_and(|terms| terms.warm.is_some());
        let was_tried = slot.place.path().symlink_metadata().is_ok();
        if was_tried && (slot.place.started().is_some() || is_warm()) && self.was_started(execution, slot, task).await?
        {
            return Ok(());
        }
        let outside = self.outside().await?;
        // What was not known when the execution was prepared is looked at now.
        let layer = [(Arc::clone(&task.id.layer), Arc::clone(&task.container))];
        if let Some(wrong) =
            self.look_for_images_and_mounts(&layer, &execution.session.workdir, outside).into_iter().next()
        {
            return Err(wrong);
        }
        // An image may take hours to arrive.
        let image = tokio::select! {
            // Who is not wanted any more does not begin to pull in place of another who was not, either.
            biased;
            () = slot.is_called_off() => return Err(ExecutorError::Withdrawn),
            () = slot.is_unwanted() => {
                return Err(self.refuse("start the container", "it was stopped while its image was looked for".to_owned()));
            }
            image = self.image_of(execution, &task.container) => image?,
        };
        let host = self.host().await?;
        let user = owner::user(task.container.user.as_deref(), &image.user, host);
        // In a user namespace of another shape, nobody inside is surely this user.
        let foreign = user.foreign || self.settings.userns.is_some();
        let mut terms = Terms::new(task, &image.id, foreign);
        terms.bare = execution.entry.is_none();
        let order = Order {
            dialect: self.dialect,
            host,
            task,
            image: &image,
            folder: &execution.root,
            place: slot.place.path(),
            entry: execution.entry.as_deref(),
            workdir: &execution.session.workdir,
            settings: &self.settings,
            outside,
        };
        if Engine::may_share(execution, slot, task) && self.start_warm(execution, slot, &terms, &order).await? {
            return Ok(());
        }
        let is_first = slot.place.make(&terms)?;
        if !self.facts().await?.limits_memory() {
            slot.place.share()?;
        }
        if terms.foreign {
            open_up(&slot.place.inside(), 0o777)?;
            // They write it, and only its owner reads it.
            open_up(&task.log, 0o622)?;
            open_up(&task.outputs, 0o777)?;
            if let Some(each) = &task.each {
                open_up(&each.folder, 0o755)?;
                open_up(&each.folder.join(&each.name), 0o444)?;
            }
            if let Some(secrets) = &task.secrets {
                open_to_readers(secrets)?;
            }
        }
        let words = argv::create(&order).map_err(|reason| self.refuse("create the container", reason))?;
        if is_first && !terms.bare && self.run(slot, &words).await? {
            slot.runs(terms, None);
            return Ok(());
        }
        let Created::Now(id) = self.create(execution, slot, task, &words).await? else { return Ok(()) };
        // It is the only one of its name, and nobody else knows its id: what the log holds is of none that counts.
        let emptied = OpenOptions::new().write(true).truncate(true).open(&task.log);
        emptied.map_err(|source| file("empty", &task.log, source))?;
        if terms.bare {
            slot.place.begin()?;
        }
        let answer = self.client.ask(slot.place.path(), &["start", &id], LONG).await?;
        if answer.ok {
            slot.runs(terms, None);
            return Ok(());
        }
        // What the client says is no proof; and what was created would be left for good.
        if self.was_started(execution, slot, task).await? {
            return Ok(());
        }
        if terms.bare
            && let Some(cause) = cannot_run(&answer.err)
        {
            slot.place.record(&Exit { cause, evidence: gist(&answer.err).to_owned(), ..Exit::code(0) })?;
            slot.runs(terms, None);
            return Ok(());
        }
        if self.clear(execution, slot).await? == Cleared::Ran && self.was_started(execution, slot, task).await? {
            return Ok(());
        }
        Err(self.client.refused("start the container", &answer))
    }

    /// Removes a container of ours that has never run. Not by force: a client that nobody waits for any more may be starting
    /// it at this moment.
    async fn clear(&self, execution: &Execution, slot: &Slot) -> Result<Cleared, ExecutorError> {
        let args = self.dialect.remove_idle(&[slot.name.as_str()]);
        let answer = self.client.ask(&execution.private, &args, LONG).await?;
        let bare = slot.place.terms().is_some_and(|terms| terms.bare);
        // A supervisor knows best whether it has begun.
        let began = || !bare && slot.place.started().is_some();
        let gone = || {
            if bare {
                slot.place.unbegin();
            }
            Ok(if began() { Cleared::Ran } else { Cleared::Gone })
        };
        if answer.ok || self.dialect.refusal(&answer.err) == Refusal::Gone {
            return gone();
        }
        let shown = self.inspect(execution, &[slot.name.as_str()]).await?;
        let has_run = |shown: Shown| shown.phase.given(bare) != Phase::Created;
        if began() || shown.into_iter().any(has_run) {
            return Ok(Cleared::Ran);
        }
        // A client that died half-way leaves what can only be removed by force.
        self.remove_containers(execution, &[slot.name.as_str()]).await?;
        gone()
    }

    /// Whether it is known from now on, though maybe only that it is lost.
    async fn was_started(&self, execution: &Execution, slot: &Slot, task: &Task) -> Result<bool, ExecutorError> {
        match self.find(execution, slot, Some(task)).await? {
            Found::Something => Ok(true),
            Found::Nothing { ran: false } => Ok(false),
            Found::Nothing { ran: true } => {
                slot.runs(slot.place.terms().unwrap_or_default(), slot.place.started());
                self.look(execution, &[slot]).await?;
                Ok(true)
            }
        }
    }

    /// Creates and starts it in one go, which saves a client, if nobody has tried before. Whether that has gone well: if not,
    /// whatever there is now is looked at step by step.
    async fn run(&self, slot: &Slot, words: &Words) -> Result<bool, ExecutorError> {
        let _variables = slot.place.variables(&words.file)?;
        let args: Vec<OsString> =
            ["run", "--detach"].map(OsString::from).into_iter().chain(words.skip_verb()).collect();
        let answer = self.client.ask_with(slot.place.path(), &args, &words.env, LONG).await?;
        Ok(answer.ok)
    }

    async fn create(
        &self,
        execution: &Execution,
        slot: &Slot,
        task: &Task,
        words: &Words,
    ) -> Result<Created, ExecutorError> {
        let _variables = slot.place.variables(&words.file)?;
        for left in (0..TRIES).rev() {
            let answer = self.client.ask_with(slot.place.path(), &words.args, &words.env, LONG).await?;
            if answer.ok {
                let id = String::from_utf8_lossy(&answer.out).lines().last().unwrap_or_default().trim().to_owned();
                return Ok(Created::Now(if id.is_empty() { slot.name.clone() } else { id }));
            }
            if left == 0 || self.dialect.refusal(&answer.err) != Refusal::Taken {
                return Err(self.client.refused("create the container", &answer));
            }
            if self.was_started(execution, slot, task).await? {
                return Ok(Created::Before);
            }
            // One that never ran is in the way; what it was created with may be out of date.
            if self.clear(execution, slot).await? == Cleared::Ran && self.was_started(execution, slot, task).await? {
                return Ok(Created::Before);
            }
        }
        Err(self.refuse("create the container", format!("the name `{}` is never free", slot.name)))
    }
}

/// What became of a container that was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleared {
    /// It is gone.
    Gone,
    /// It runs, or has.
    Ran,
}

/// What became of a creation.
enum Created {
    /// It is there under this id, and has never run.
    Now(String),
    /// One was there, and has run.
    Before,
}

/// Why the runtime could not execute the program, if that is what it says. All engines have the same few runtimes.
fn cannot_run(said: &str) -> Option<Cause> {
    let line = said.lines().find(|line| line.contains("exec: \"") || line.contains("executable file"))?;
    let says = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    if says(&["executable file not found", "no such file or directory", "executable file `"]) {
        return Some(Cause::NotFound);
    }
    says(&["permission denied", "is a directory", "exec format error"]).then_some(Cause::NotExecutable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_run_is_told_from_a_container_that_cannot() {
        // Of docker 20.10 and podman 4.3 with runc, and of crun.
        let docker = "Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed: \
                      unable to start container process: exec: \"no-such\": executable file not found in $PATH: unknown\n\
                      Error: failed to start containers: x";
        assert_eq!(cannot_run(docker), Some(Cause::NotFound));
        let podman = "Error: unable to start container \"c\": runc: runc create failed: unable to start container process: \
                      exec: \"/etc/passwd\": permission denied: OCI permission denied";
        assert_eq!(cannot_run(podman), Some(Cause::NotExecutable));
        let crun = "Error: crun: executable file `x` not found in $PATH: No such file or directory: OCI runtime attempted \
                    to invoke a command that was not found";
        assert_eq!(cannot_run(crun), Some(Cause::NotFound));
        let mount = "Error response from daemon: error mounting \"/x\": no such file or directory: unknown";
        assert_eq!(cannot_run(mount), None);
    }
}
