//! How tasks end: asked to, forced, found out about.

use std::ffi::OsString;
use std::time::Duration;

use laminar_core::executor::{Cause, ExecutorError, Exit};

use super::{Engine, TRIES, open_up};
use crate::argv;
use crate::client::{LONG, SHORT};
use crate::dialect::Refusal;
use crate::execution::{Execution, Settling, Slot};
use crate::inspect::{Ended, Phase};
use crate::owner;
use crate::place::{Terms, Why, file};
use crate::verdict::{Known, bare, join, verdict};

/// The pauses between looks at a container that was killed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// How long the supervisor of a warm container may take to kill its task.
const REACTION: Duration = Duration::from_secs(5);

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signalled {
    /// It was sent.
    Sent,
    /// There was nothing alive to send it to.
    Nobody,
}

impl Engine {
    /// A task is over, as the engine says. Whoever knows it first finds out how.
    pub(super) async fn settle(&self, execution: &Execution, slot: &Slot, engine: Option<Ended>) {
        if slot.settle() {
            self.find_out(execution, slot, None, engine).await;
        }
    }

    /// Finds out how a task ended that is over: `inside` is what its supervisor has said, if that was read already; `engine`
    /// what the engine says. Only for who was the first to [`Slot::settle`]. What the engine does not
    /// answer is asked again by the next who looks.
    pub(crate) async fn find_out(
        &self,
        execution: &Execution,
        slot: &Slot,
        inside: Option<Exit>,
        engine: Option<Ended>,
    ) {
        let _settling = Settling(slot);
        let terms = slot.terms();
        let mut inside = inside.or_else(|| slot.place.exit());
        if let (true, None, Some(ended)) = (terms.bare, &inside, &engine) {
            let mut exit = bare(ended, slot.place.oom(), self.dialect.name, slot.age());
            match self.collect(execution, slot, &terms).await {
                Ok(None) => {}
                Ok(Some(cut)) => exit.evidence = join(&exit.evidence, &cut),
                Err(ExecutorError::Unavailable { .. }) => return,
                Err(error) => exit.evidence = join(&exit.evidence, &format!("the log is incomplete: {error}")),
            }
            // As a supervisor inside would have done: whoever comes later is told the same.
            let _ = slot.place.record(&exit);
            inside = Some(exit);
        }
        let oom = match &terms.warm {
            Some(warm) => Engine::saw_oom(execution, slot, warm),
            None => slot.place.oom(),
        };
        let known = Known {
            inside,
            began: slot.place.started().is_some(),
            engine,
            oom,
            warm: terms.warm.is_some(),
            asked: slot.asked(),
        };
        let mut exit = verdict(&known, self.dialect.name);
        if exit.cause == Cause::EngineFailed
            && let Ok(said) =
                self.client.ask(&execution.private, &["logs", "--tail", "3", &slot.container()], SHORT).await
        {
            // The supervisor inside may have said why it could not begin.
            let said = [String::from_utf8_lossy(&said.out).trim(), &said.err].join(" ");
            exit.evidence = format!("{}; it said: {}", exit.evidence, said.trim());
        }
        if terms.foreign
            && let Err(error) = self.give_back(execution, slot, &terms).await
        {
            exit.evidence = join(&exit.evidence, &error.to_string());
        }
        if let Some(warm) = &terms.warm
            && let Err(error) = self.take_back(execution, slot, warm, &terms).await
        {
            exit.evidence = join(&exit.evidence, &format!("what it left cannot be taken over: {error}"));
        }
        slot.ended(exit);
    }

    /// What the task wrote becomes ours, whoever wrote it.
    async fn give_back(&self, execution: &Execution, slot: &Slot, terms: &Terms) -> Result<(), ExecutorError> {
        let host = self.host().await?;
        let outputs = terms.outputs();
        let _ = open_up(outputs, 0o700); // as it was; whoever owns it may have closed it
        let inside = slot.place.inside();
        if !owner::foreign(outputs, host.uid) && !owner::closed(&inside, host.uid) {
            return Ok(());
        }
        let outside = self.outside().await?;
        // In a container of a rootless engine root has the users of layers below it, and there is no namespace to enter.
        if host.uid == 0 && (!host.rootless || outside.is_elsewhere()) {
            let folders = [outputs.to_owned(), inside];
            let give = move || folders.iter().try_for_each(|folder| owner::give(folder, host.uid, host.gid));
            let given = tokio::task::spawn_blocking(give).await;
            let failed = |source| file("take over", outputs, source);
            return given.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed);
        }
        let args = if let (true, Some(unshare)) = (host.rootless && !outside.is_elsewhere(), self.dialect.unshare) {
            let mut args: Vec<OsString> = unshare.iter().map(OsString::from).collect();
            args.extend(["chown", "-R", "-h", "0:0", "--"].map(OsString::from));
            args.extend([outputs.into(), inside.into()]);
            args
        } else {
            let words = (self.dialect, host, &self.settings);
            let args = argv::give_back(slot.place.path(), execution.entry.as_deref(), terms, words, outside);
            args.map_err(|reason| self.refuse("give the outputs to their owner", reason))?
        };
        let mut answer = self.client.ask(&execution.private, &args, LONG).await?;
        for _ in 0..TRIES {
            if answer.killed {
                answer = self.client.ask(&execution.private, &args, LONG).await?;
            }
        }
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
        let warm = slot.terms().warm;
        let is_heard = match &warm {
            // A signal to the container could reach the task after this one.
            Some(warm) => self.wake(execution, warm),
            None => self.signal(execution, slot, "TERM").await? == Signalled::Sent,
        };
        if !is_heard {
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
        if let Some(warm) = &warm {
            slot.place.force();
            self.wake(execution, warm);
            if tokio::time::timeout(REACTION, slot.exit()).await.is_ok() {
                return Ok(());
            }
            // Its supervisor does nothing any more: nobody comes after this task in that container.
            execution.pool.spend(&warm.desk);
        }
        if self.signal(execution, slot, "KILL").await? == Signalled::Nobody {
            self.free(execution, slot).await?;
            self.signal(execution, slot, "KILL").await?;
        }
        let mut pause = PAUSES.0;
        loop {
            self.look(execution, &[slot]).await?;
            if tokio::time::timeout(pause, slot.exit()).await.is_ok() {
                return Ok(());
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// A container that somebody has frozen goes on: not every engine kills it as it is. One that the engine does not know to
    /// run is removed, as it will not signal it.
    async fn free(&self, execution: &Execution, slot: &Slot) -> Result<(), ExecutorError> {
        let name = slot.container();
        match self.inspect(execution, &[name.as_str()]).await?.pop().map(|shown| shown.phase) {
            // Whether that was of use is seen by what comes next.
            Some(Phase::Paused) => self.client.ask(&execution.private, &["unpause", &name], SHORT).await.map(drop),
            Some(Phase::Unsure { .. }) => self.remove_containers(execution, &[name.as_str()]).await,
            _ => Ok(()),
        }
    }

    async fn signal(&self, execution: &Execution, slot: &Slot, signal: &str) -> Result<Signalled, ExecutorError> {
        let answer =
            self.client.ask(&execution.private, &["kill", "--signal", signal, &slot.container()], SHORT).await?;
        match self.dialect.refusal(&answer.err) {
            _ if answer.ok => Ok(Signalled::Sent),
            Refusal::Gone | Refusal::NotRunning => Ok(Signalled::Nobody),
            _ => Err(self.client.refused(format!("send {signal} to the container"), &answer)),
        }
    }
}
