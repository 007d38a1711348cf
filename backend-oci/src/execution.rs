//! One execution as this process knows it: its images, and a slot for every task that was started or asked about.
//!
//! State only; it asks no engine.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use laminar_core::executor::{Exit, Session};
use laminar_core::id::TaskId;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ending::Ending;
use crate::image::Wanted;
use crate::name;
use crate::place::{Place, Terms, Why};
use crate::resolve::Resolution;
use crate::warm::pool::Pool;

/// How much longer than its time and its grace a task gets until its supervisor counts as one that cannot act any more.
const SLACK: Duration = Duration::from_secs(10);

/// One execution.
pub(crate) struct Execution {
    pub(crate) session: Session,
    /// Its folder, as it is called where the engine is: whose a container is, wherever its scheduler runs.
    pub(crate) root: PathBuf,
    /// The executor's own folder in it.
    pub(crate) private: PathBuf,
    /// The program that is mounted into containers; without it they are bare.
    pub(crate) entry: Option<PathBuf>,
    /// Is told when there is one more task to watch.
    pub(crate) kick: Notify,
    /// Its warm containers.
    pub(crate) pool: Pool,
    images: Mutex<BTreeMap<Wanted, Arc<Resolution>>>,
    slots: Mutex<HashMap<TaskId, Arc<Slot>>>,
    followers: Mutex<JoinSet<()>>,
}

impl Execution {
    pub(crate) fn new(session: Session, root: PathBuf, private: PathBuf, entry: Option<PathBuf>) -> Execution {
        Execution {
            session,
            root,
            private,
            entry,
            kick: Notify::new(),
            pool: Pool::default(),
            images: Mutex::default(),
            slots: Mutex::default(),
            followers: Mutex::default(),
        }
    }

    /// Where the image is kept once it was resolved.
    pub(crate) fn image(&self, wanted: &Wanted) -> Arc<Resolution> {
        Arc::clone(lock(&self.images).entry(wanted.clone()).or_default())
    }

    /// The task's slot.
    pub(crate) fn slot(&self, task: &TaskId) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(task) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(task, Place::new(&self.private, &task.name())));
        slots.insert(task.clone(), Arc::clone(&slot));
        slot
    }

    /// The task's slot, if it has one.
    pub(crate) fn known(&self, task: &TaskId) -> Option<Arc<Slot>> {
        lock(&self.slots).get(task).cloned()
    }

    /// The tasks that run.
    pub(crate) fn running(&self) -> Vec<Arc<Slot>> {
        lock(&self.slots).values().filter(|slot| slot.is_watched()).cloned().collect()
    }

    /// Lets something follow the output of a task, until it is over or the execution is let go.
    pub(crate) fn follow(&self, follower: impl Future<Output = ()> + Send + 'static) {
        let mut followers = lock(&self.followers);
        while followers.try_join_next().is_some() {}
        followers.spawn(follower);
    }

    /// Nothing more is followed.
    pub(crate) fn let_go(&self) {
        lock(&self.followers).abort_all();
    }

    /// Forgets tasks.
    pub(crate) fn forget(&self, tasks: &[TaskId]) {
        let mut slots = lock(&self.slots);
        tasks.iter().for_each(|task| drop(slots.remove(task)));
    }
}

/// One task as this process knows it.
pub(crate) struct Slot {
    /// The name of a container of its own.
    pub(crate) name: String,
    pub(crate) place: Place,
    /// The name of its folder.
    pub(crate) folder: String,
    /// Held while it is started.
    pub(crate) starting: tokio::sync::Mutex<()>,
    /// Is told when it is to be forced earlier.
    pub(crate) hurried: Notify,
    /// How many wait for its start, to stop it; and is told when there is one more.
    unwanted: AtomicU32,
    withdrawn: Notify,
    /// Is told that it is not to be started, while it waits for its image.
    called_off: Notify,
    state: Mutex<State>,
    /// Held while its log is replaced by another file.
    renaming: Mutex<()>,
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Default)]
struct State {
    stage: Stage,
    heard: bool,
    born: Option<Instant>,
    deadline: Option<Instant>,
    terms: Terms,
    followed: bool,
    /// Whether this process has started it, and nobody has followed its output yet.
    fresh: bool,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody knows yet whether it runs.
    #[default]
    Unknown,
    /// It runs, or did a moment ago.
    Watched,
    /// It is over; how is being found out.
    Settling,
}

impl Slot {
    fn new(task: &TaskId, place: Place) -> Slot {
        let name = name::container(task);
        Slot {
            name,
            place,
            folder: task.name(),
            starting: tokio::sync::Mutex::default(),
            hurried: Notify::new(),
            unwanted: AtomicU32::new(0),
            withdrawn: Notify::new(),
            called_off: Notify::new(),
            state: Mutex::default(),
            renaming: Mutex::default(),
            exit: watch::Sender::new(None),
        }
    }

    /// It runs, or has run: from now on it is watched. `began` is when, for one that was
    /// found again.
    pub(crate) fn runs(&self, terms: Terms, began: Option<SystemTime>) {
        let mut state = lock(&self.state);
        if state.stage != Stage::Unknown {
            return;
        }
        let age = began.and_then(|began| began.elapsed().ok()).unwrap_or_default();
        let now = Instant::now();
        let born = now.checked_sub(age).unwrap_or(now);
        // Who has a supervisor is ended by it; only when that does nothing it is ended from here.
        let last = |timeout: Duration| match terms.bare {
            true => Some(timeout),
            false => timeout.checked_add(terms.grace)?.checked_add(SLACK),
        };
        state.stage = Stage::Watched;
        state.born = Some(born);
        state.deadline = terms.timeout.and_then(last).and_then(|last| born.checked_add(last));
        state.terms = terms;
        state.fresh = began.is_none();
    }

    /// Waits until it is started, or sure not to be; whoever starts it need not wait for its image.
    pub(crate) async fn start_is_over(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let _waiting = Waiting::new(&self.unwanted);
        self.withdrawn.notify_waiters();
        self.starting.lock().await
    }

    /// Waits until somebody wants to stop it.
    pub(crate) async fn is_unwanted(&self) {
        loop {
            // Before the look, so that none is missed.
            let withdrawn = self.withdrawn.notified();
            if self.unwanted.load(Ordering::SeqCst) > 0 {
                return;
            }
            withdrawn.await;
        }
    }

    /// It is not to be started, if it still waits for its image.
    pub(crate) fn call_off(&self) {
        self.called_off.notify_waiters();
    }

    /// Waits until it is called off.
    pub(crate) async fn is_called_off(&self) {
        self.called_off.notified().await;
    }

    /// What must be known of it.
    pub(crate) fn terms(&self) -> Terms {
        lock(&self.state).terms.clone()
    }

    /// The name of the container that it runs in.
    pub(crate) fn container(&self) -> String {
        let warm = lock(&self.state).terms.warm.as_ref().map(|warm| warm.container.clone());
        warm.unwrap_or_else(|| self.name.clone())
    }

    /// How long ago it began.
    pub(crate) fn age(&self) -> Duration {
        lock(&self.state).born.map(|born| born.elapsed()).unwrap_or_default()
    }

    /// True once, for whoever then follows its output, if that is to be done.
    pub(crate) fn is_to_be_followed(&self) -> bool {
        let mut state = lock(&self.state);
        state.terms.bare && !std::mem::replace(&mut state.followed, true)
    }

    /// Whether nobody can have followed it before: true once at most.
    pub(crate) fn is_first_follower(&self) -> bool {
        std::mem::take(&mut lock(&self.state).fresh)
    }

    /// Held while its log is replaced by another file.
    pub(crate) fn renaming(&self) -> MutexGuard<'_, ()> {
        lock(&self.renaming)
    }

    /// Whether it runs, as far as is known.
    pub(crate) fn is_watched(&self) -> bool {
        lock(&self.state).stage == Stage::Watched
    }

    /// True once, for whoever then listens to its folder.
    pub(crate) fn hear(&self) -> bool {
        !std::mem::replace(&mut lock(&self.state).heard, true)
    }

    /// Whether anything is known of it.
    pub(crate) fn is_known(&self) -> bool {
        lock(&self.state).stage != Stage::Unknown
    }

    /// When it is to be ended from here, if it was not asked to end already.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.deadline.filter(|_| state.ending.is_none() && state.stage == Stage::Watched)
    }

    /// Whether that time has come: true once, for whoever then has to end it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            lock(&self.state).deadline = None;
        }
        due
    }

    /// It is asked to end.
    pub(crate) fn ask(&self, why: Why, grace: Duration) {
        let mut state = lock(&self.state);
        match &mut state.ending {
            Some(ending) => ending.hurry(grace),
            none => drop(none.insert(Ending::new(why, grace))),
        }
        drop(state);
        self.hurried.notify_waiters();
    }

    /// When it is forced, if it was asked to end.
    pub(crate) fn force_at(&self) -> Option<Instant> {
        lock(&self.state).ending.map(|ending| ending.force_at)
    }

    /// It is forced now.
    pub(crate) fn force(&self) {
        if let Some(ending) = &mut lock(&self.state).ending {
            ending.force();
        }
    }

    /// Why it was asked to end, and what was done, by this process or an earlier one.
    pub(crate) fn asked(&self) -> Option<(Why, String)> {
        let state = lock(&self.state);
        let ours = state.ending.map(|ending| ending.story(state.born));
        ours.or_else(|| Some((self.place.asked()?, "SIGTERM by an earlier scheduler".to_owned())))
    }

    /// It is over: true for the first who says so, and who then has to find out how.
    pub(crate) fn settle(&self) -> bool {
        let mut state = lock(&self.state);
        let first = state.stage != Stage::Settling;
        state.stage = Stage::Settling;
        first
    }

    /// Undoes [`Slot::settle`], if how it ended was not found out.
    fn unsettle(&self) {
        if !self.is_over() {
            lock(&self.state).stage = Stage::Watched;
        }
    }

    /// How it ended is known.
    pub(crate) fn ended(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Whether it is known how it ended.
    pub(crate) fn is_over(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Waits until it is known how it ended.
    pub(crate) async fn exit(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        loop {
            if let Some(exit) = &*exit.borrow_and_update() {
                return exit.clone();
            }
            // The sender lives as long as this slot.
            let _ = exit.changed().await;
        }
    }
}

/// One who waits, and is counted.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Waiting<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Held while it is found out how a task ended. Whoever leaves off half-way leaves it to the next.
pub(crate) struct Settling<'a>(pub(crate) &'a Slot);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.unsettle();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
