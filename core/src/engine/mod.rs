//! The engine: the only loop. Select → commit → perform.
//!
//! *Select* one thing that happened (an exit, an alarm, a signal), and with it everything else that waits. *Commit*: tell
//! the scheduler, add what it wishes for, append all of it to the run store as one group, tell the reporter. Then, and only
//! then, *perform*: launch, stop, adopt, set alarms; what comes of it arrives as something that happened.
//!
//! The engine knows the executor, the stores and the reporter as traits and values; it is unaware of backends, terminals
//! and flow files. It is a library value without globals: a process may run many.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::datastore::{AdoptError, Artifact, Datastore, Hold};
use crate::event::{Event, Outcome};
use crate::executor::{Executor, Exit, Handle, Session};
use crate::flow::template::Environment;
use crate::flow::{Failure, Flow};
use crate::folder::ExecutionFolder;
use crate::id::{Attempt, ExecutionId, LayerId, Split};
use crate::plan::{Plan, Planned};
use crate::scheduler::{Action, LONGEST_REST, Scheduler};
use crate::secret::{Secrets, Shelves};
use crate::shares::{Share, Shares};
use crate::store::{EventLog, StoreError};

mod adopt;
mod attend;
mod decide;
mod excess;
mod forget;
mod inputs;
mod launch;
mod left;
mod line;
mod offer;
mod order;
mod outputs;
mod recall;
mod resume;
mod retry;
mod run;
mod words;

#[cfg(test)]
mod tests;

pub use crate::scheduler::{Limits, Progress};
use attend::{Begun, Stoppable};
use decide::Decision;
pub use excess::{Excess, excess};
use inputs::InputFolders;
use left::{AllLeft, Values};
use line::Line;
use outputs::OutputFolders;
use recall::{Looked, Recalling};
pub use run::{Again, Blocking, Control, EngineError, Reporter, Run};

/// The time from one look at what other executions have reserved to the next, while something waits for it.
const LOOK: Duration = Duration::from_millis(200);

/// Runs an execution until every layer has settled, and returns how it ended. When it returns, with or without an error,
/// no task of it is alive, unless another scheduler has taken over: then they are that one's; or unless it could not go
/// on with an execution at all. Dropping `control`'s sender is no request.
///
/// An execution whose log has events is gone on with: they are replayed, tasks in flight are found again, and nothing
/// that has finished runs again.
///
/// # Errors
/// When the execution cannot go on; see [`EngineError`].
pub async fn run(
    run: Run,
    reporter: &mut dyn Reporter,
    control: UnboundedReceiver<Control>,
) -> Result<Outcome, EngineError> {
    let (inbox, news) = unbounded_channel();
    let scheduler = scheduler(&run);
    let has_secrets = has_secrets(&run.flow, &run.earlier);
    let folder = run.folder;
    // Before the executor prepares anything, since that must be released.
    let inputs = InputFolders::new(&folder, Arc::clone(&run.datastore), run.blocking.clone())?;
    let engine = Engine {
        scheduler,
        updates: u32::try_from(run.earlier.len()).unwrap_or(u32::MAX),
        inputs: Arc::new(inputs),
        outputs: OutputFolders::new(&folder),
        flow: run.flow,
        plan: run.plan,
        executor: run.executor,
        datastore: run.datastore,
        store: run.store,
        session: run.session,
        grace: run.grace,
        environment: Arc::new(run.environment),
        secrets: run.secrets,
        has_secrets,
        limits: run.limits,
        shares: run.shares,
        values: Arc::default(),
        needed: HashMap::new(),
        recalling: Recalling::new(run.runs),
        again: run.again,
        line: Line::default(),
        blocking: run.blocking,
        folder,
        reporter,
        inbox,
        artifacts: AllLeft::default(),
        in_flight: BTreeMap::new(),
        over: Vec::new(),
        offers: BTreeMap::new(),
        looks_again: false,
        is_tidy: false,
        attendants: JoinSet::new(),
        chores: JoinSet::new(),
        group: Group::default(),
    };
    engine.run(news, control).await
}

/// The scheduler of an execution of which nothing has happened, and which knows all flows that are to come.
fn scheduler(run: &Run) -> Scheduler {
    let newest = Planned { flow: Arc::clone(&run.flow), plan: Arc::clone(&run.plan) };
    let mut all = run.earlier.iter().cloned().chain([newest]);
    let first = all.next().expect("there is one at least");
    let mut scheduler = Scheduler::new(&first.flow, first.plan, run.limits);
    all.for_each(|next| scheduler.learn(next));
    scheduler
}

fn has_secrets(flow: &Flow, earlier: &[Planned]) -> bool {
    let all = earlier.iter().map(|planned| &*planned.flow).chain([flow]);
    all.flat_map(|flow| &flow.layers).any(|layer| !layer.secrets.is_empty())
}

/// Something that happened, on its way to the loop.
enum News {
    Started(Attempt, Handle),
    Exited(Attempt, Exit, Remains),
    Adopted(Attempt, Result<(Vec<Artifact>, Hold), AdoptError>),
    Due(Split),
    Decided(LayerId, Decision),
    /// The cores and the memory that an attempt reserves, if they can be known.
    Sized(Attempt, Option<(u64, u64)>),
    Looked(Looked),
    /// What the executor was to forget, and why it could not.
    NotForgotten(Vec<Handle>, String),
    Notice(String),
}

/// What the executor has of a task that is over, until it is told to forget it.
enum Remains {
    /// It was not asked to start it.
    Nothing,
    Of(Handle),
    /// It was asked, and it was not it that said how the task ended.
    Perhaps,
}

/// What is to be done once the group is committed.
enum Deed {
    Launch { attempt: Attempt, outputs: u32, begun: Begun },
    Offer { attempt: Attempt, after: Attempt },
    Adopt { attempt: Attempt, outputs: u32 },
    Stop { attempt: Attempt, grace: Duration },
    Wake { split: Split, after: Duration },
    Discard { outputs: u32 },
}

/// Events that are committed together, and what is done then.
#[derive(Default)]
struct Group {
    events: Vec<Event>,
    /// The counts after each of the events.
    progress: Vec<Progress>,
    deeds: Vec<Deed>,
    /// Keep what the events name from being taken for garbage until they are committed.
    holds: Vec<Hold>,
    /// What is said once all of that is.
    notices: Vec<String>,
}

/// An attempt that is not settled yet.
struct InFlight {
    outputs: u32,
    task: Option<Stoppable>,
}

struct Engine<'a> {
    flow: Arc<Flow>,
    plan: Arc<Plan>,
    executor: Arc<dyn Executor>,
    datastore: Arc<dyn Datastore>,
    store: Box<dyn EventLog>,
    session: Session,
    grace: Duration,
    environment: Arc<Environment>,
    secrets: Secrets,
    /// Whether any layer has secrets, or had before an update.
    has_secrets: bool,
    limits: Limits,
    shares: Option<Shares>,
    again: Again,
    /// How often the flow is another one in the end.
    updates: u32,
    blocking: Blocking,
    folder: ExecutionFolder,
    scheduler: Scheduler,
    reporter: &'a mut dyn Reporter,
    inbox: UnboundedSender<News>,
    inputs: Arc<InputFolders>,
    outputs: OutputFolders,
    /// What finished splits left.
    artifacts: AllLeft,
    /// What expressions have read of it.
    values: Arc<Values>,
    /// What layers need that are fanned out, or whose expressions name layers.
    needed: HashMap<LayerId, Arc<[left::Producer]>>,
    recalling: Recalling,
    in_flight: BTreeMap<Attempt, InFlight>,
    over: Vec<Handle>,
    /// The folders for outputs of attempts that are offered.
    offers: BTreeMap<Attempt, u32>,
    line: Line,
    /// Whether the executor may have something of tasks that are over and not in `over`.
    looks_again: bool,
    /// Whether nothing is left of the tasks of an execution in which all has settled, as far as that could be seen to.
    is_tidy: bool,
    /// What attends tasks, and what stops them.
    attendants: JoinSet<()>,
    /// Work that nothing waits for but the end of the execution: removing published outputs, forgetting tasks.
    chores: JoinSet<()>,
    group: Group,
}

impl Engine<'_> {
    async fn run(
        mut self,
        news: UnboundedReceiver<News>,
        mut control: UnboundedReceiver<Control>,
    ) -> Result<Outcome, EngineError> {
        let result = match self.begin(&mut control).await {
            Ok(()) => self.drive(news, control).await,
            Err(error) => Err(error),
        };
        match result {
            // The tasks are another's: from now on none is started or stopped here.
            Err(EngineError::Store(StoreError::ShutOut { .. })) => self.attendants.shutdown().await,
            // Exits that could not be recorded are known to the executor alone, so it forgets nothing.
            Err(_) => self.stop_everything().await,
            Ok(_) if self.has_secrets => Shelves::here().clear(self.session.execution),
            Ok(_) => {}
        }
        while self.chores.join_next().await.is_some() {}
        if let Err(error) = self.executor.release(self.session.execution).await {
            self.reporter.notice(&error.to_string());
        }
        let outcome = result?;
        self.store.close()?;
        Ok(outcome)
    }

    async fn begin(&mut self, control: &mut UnboundedReceiver<Control>) -> Result<(), EngineError> {
        let past = self.replay()?;
        let is_updated = past.as_ref().is_some_and(|past| past.is_updated);
        if !is_updated {
            self.inputs.write_parameters(&self.flow.parameters)?;
        }
        let Some(past) = past else { return self.prepare(control, false).await.map(drop) };
        let is_ready = self.prepare(control, past.is_alive()).await?;
        if is_updated {
            // What runs reads the parameters too: they change once it is on record that they have.
            self.commit()?;
            self.inputs.write_parameters(&self.flow.parameters)?;
        }
        self.go_on(past, is_ready).await
    }

    /// Getting ready may take long, when images are pulled; who cancels meanwhile does not wait for it, unless there are
    /// tasks to be stopped. Says whether the executor is ready.
    async fn prepare(
        &mut self,
        control: &mut UnboundedReceiver<Control>,
        is_needed: bool,
    ) -> Result<bool, EngineError> {
        let executor = Arc::clone(&self.executor);
        let session = self.session.clone();
        let mut is_cancelled = false;
        let mut prepared = std::pin::pin!(executor.prepare(&session));
        loop {
            tokio::select! {
                biased;
                Some(request) = control.recv() => {
                    self.happen(Event::CancelRequested { force: request == Control::Kill })?;
                    if !is_needed {
                        return Ok(false);
                    }
                    is_cancelled = true;
                }
                prepared = &mut prepared => break prepared?,
            }
        }
        // What is only stopped is handed nothing.
        if !is_cancelled {
            self.can_hand_over_secrets().await?;
        }
        Ok(true)
    }

    /// Whether all layers that want secrets can have them. Where there is no place for any, their attempts will say so.
    async fn can_hand_over_secrets(&self) -> Result<(), EngineError> {
        let layers = self.layers_with_secrets();
        if layers.is_empty() {
            return Ok(());
        }
        let shelves = Shelves::here();
        let Ok(place) = shelves.place() else { return Ok(()) };
        Ok(self.executor.can_hand_over(&layers, place).await?)
    }

    /// The layers that are handed secrets.
    fn layers_with_secrets(&self) -> Vec<Arc<str>> {
        let layers = self.flow.active().filter(|(_, layer)| !layer.secrets.is_empty());
        layers.map(|(_, layer)| Arc::clone(&layer.name)).collect()
    }

    async fn drive(
        &mut self,
        mut news: UnboundedReceiver<News>,
        mut control: UnboundedReceiver<Control>,
    ) -> Result<Outcome, EngineError> {
        loop {
            self.fulfil_wishes_beside_others()?;
            self.make_offers()?;
            self.look();
            self.commit()?;
            self.perform();
            if let Some(outcome) = self.scheduler.ended() {
                return Ok(outcome);
            }
            if self.scheduler.is_settled() && !self.is_tidy {
                self.tidy_up(&mut control).await;
                self.is_tidy = true;
                continue;
            }
            tokio::select! {
                biased;
                Some(request) = control.recv() => {
                    self.happen(Event::CancelRequested { force: request == Control::Kill })?;
                }
                Some(first) = news.recv() => {
                    self.note(first)?;
                    while let Ok(next) = news.try_recv() {
                        self.note(next)?;
                    }
                }
                () = tokio::time::sleep(LOOK), if self.scheduler.waits_for_others() => {}
            }
        }
    }

    /// The same as [`Engine::fulfil_wishes`], where no other execution starts anything meanwhile.
    fn fulfil_wishes_beside_others(&mut self) -> Result<(), EngineError> {
        let Some(mut shares) = self.shares.take() else { return self.fulfil_wishes() };
        let failed = match shares.turn() {
            Ok(turn) => {
                self.scheduler.leave_to_others(turn.others);
                self.fulfil_wishes()?;
                turn.end(self.scheduler.reserved()).err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            // It is better to take too much than not to go on.
            self.group.notices.push(format!("the machine is not shared with other executions any more: {error}"));
            self.scheduler.leave_to_others(Share::default());
            return self.fulfil_wishes();
        }
        self.shares = Some(shares);
        Ok(())
    }

    /// A fact: the scheduler is told, and it joins the group.
    fn happen(&mut self, event: Event) -> Result<(), EngineError> {
        self.scheduler.apply(&event)?;
        self.group.events.push(event);
        self.group.progress.push(*self.scheduler.progress());
        Ok(())
    }

    /// Turns what happened outside into facts.
    fn note(&mut self, news: News) -> Result<(), EngineError> {
        match news {
            News::Started(attempt, handle) => self.happen(Event::AttemptStarted { attempt, handle }),
            News::Exited(attempt, exit, remains) => {
                match remains {
                    Remains::Of(handle) => self.over.push(handle),
                    Remains::Perhaps => self.looks_again = true,
                    Remains::Nothing => {}
                }
                self.take_secrets(attempt);
                let cause = exit.cause.clone();
                self.line.note(&exit);
                self.happen(Event::AttemptExited { attempt, exit })?;
                self.explain(attempt, Failure::Exit(&cause));
                let adopting = self.scheduler.state(attempt.split) == Some(crate::scheduler::State::Running);
                if !adopting && let Some(flight) = self.in_flight.remove(&attempt) {
                    self.outputs.give_back(flight.outputs);
                }
                Ok(())
            }
            News::Adopted(attempt, adopted) => self.adopted(attempt, adopted),
            News::Due(split) => self.happen(Event::RetryDue { split }),
            News::Decided(layer, decision) => self.decided(layer, decision),
            News::Sized(attempt, sizes) => self.sized(attempt, sizes),
            News::Looked(looked) => self.looked(looked),
            News::NotForgotten(handles, why) => {
                self.not_forgotten(handles);
                self.reporter.notice(&why);
                Ok(())
            }
            News::Notice(text) => {
                self.reporter.notice(&text);
                Ok(())
            }
        }
    }

    /// Everything the scheduler wishes for now becomes facts and deeds.
    fn fulfil_wishes(&mut self) -> Result<(), EngineError> {
        while let Some(action) = self.scheduler.next_action() {
            match action {
                Action::Launch(attempt) => {
                    let outputs = self.outputs_for(attempt)?;
                    self.in_flight.insert(attempt, InFlight { outputs, task: None });
                    self.group.deeds.push(Deed::Launch { attempt, outputs, begun: Begun::No });
                    let memory = self.scheduler.memory(attempt.split).filter(|memory| memory.granted < memory.wanted);
                    let memory = memory.map(|memory| memory.granted);
                    self.happen(Event::AttemptLaunched { attempt, outputs, memory })?;
                }
                Action::Adopt(attempt) => self.adopt(attempt)?,
                Action::Open(layer) => self.decide(layer)?,
                Action::Size(attempt) => self.size(attempt)?,
                Action::Recall(split) => self.recall(split),
                Action::Rest { attempt, delay, jitter } => {
                    let after = with_jitter(delay, jitter * share(self.session.execution, attempt));
                    self.group.deeds.push(Deed::Wake { split: attempt.split, after });
                    let delay_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    let memory = self.grown_memory(attempt);
                    self.happen(Event::RetryScheduled { attempt, delay_ms, memory })?;
                }
                Action::Stop { attempt, force } => {
                    let grace = if force { Duration::ZERO } else { self.grace };
                    self.group.deeds.push(Deed::Stop { attempt, grace });
                }
                Action::End(outcome) if self.is_tidy => self.happen(Event::ExecutionEnded { outcome })?,
                // When it is on record, nobody looks for anything of it any more.
                Action::End(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), EngineError> {
        if self.group.events.is_empty() {
            return Ok(());
        }
        let changes = self.scheduler.take_changes();
        let records = self.store.append(std::mem::take(&mut self.group.events), &changes)?;
        self.group.holds.clear();
        self.remember();
        for (record, progress) in records.iter().zip(self.group.progress.drain(..)) {
            self.reporter.report(record, &progress);
        }
        for notice in std::mem::take(&mut self.group.notices) {
            self.reporter.notice(&notice);
        }
        Ok(())
    }

    fn perform(&mut self) {
        for deed in std::mem::take(&mut self.group.deeds) {
            match deed {
                Deed::Launch { attempt, outputs, begun } => self.launch(attempt, outputs, begun),
                Deed::Offer { attempt, after } => self.offer(attempt, after),
                Deed::Adopt { attempt, outputs } => self.start_adoption(attempt, outputs),
                Deed::Stop { attempt, grace } => self.stop(attempt, grace),
                Deed::Wake { split, after } => {
                    let inbox = self.inbox.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(after).await;
                        let _ = inbox.send(News::Due(split));
                    });
                }
                Deed::Discard { outputs } => {
                    let folders = [self.folder.outputs(outputs), self.folder.each(outputs)];
                    // A failure leaves a folder that nobody refers to.
                    let remove = move || folders.iter().for_each(|folder| drop(crate::datastore::remove(folder)));
                    let work = self.blocking.run(remove);
                    self.chores.spawn(work);
                }
            }
        }
        self.tend_line();
        while self.attendants.try_join_next().is_some() {}
        while self.chores.try_join_next().is_some() {}
    }

    /// A task that is over needs its secrets no more.
    fn take_secrets(&mut self, attempt: Attempt) {
        if self.has_secrets {
            let task = self.task_id(attempt);
            let work = self.blocking.run(move || Shelves::here().remove(&task));
            self.chores.spawn(work);
        }
    }

    /// Does work that blocks; what comes of it arrives as news.
    fn tell_of<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        news: impl FnOnce(T) -> News + Send + 'static,
    ) {
        let (inbox, work) = (self.inbox.clone(), self.blocking.run(work));
        tokio::spawn(async move {
            let _ = inbox.send(news(work.await));
        });
    }

    fn stop(&mut self, attempt: Attempt, grace: Duration) {
        let Some(task) = self.in_flight.get(&attempt).and_then(|flight| flight.task.clone()) else { return };
        self.attendants.spawn(task.stop(Arc::clone(&self.executor), grace, self.inbox.clone()));
    }
}

/// The delay and a share of it, cut at the longest pause there is.
fn with_jitter(delay: Duration, share: f64) -> Duration {
    let seconds = delay.as_secs_f64() * (1.0 + share);
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_REST).min(LONGEST_REST)
}

/// A number from 0 to 1 that differs between attempts and between executions: what jitter is for. It needs no randomness
/// but that of the execution's id.
fn share(execution: ExecutionId, attempt: Attempt) -> f64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (execution, attempt).hash(&mut hasher);
    f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
