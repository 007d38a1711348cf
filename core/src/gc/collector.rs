//! The steps of a collection, in their order.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::judge::{Reason, SHORTEST, Verdict, Whose, judge};
use super::places::Places;
use super::rules::{Candidate, Why, select};
use super::{Executors, Gone, Note, Order, Problem, Tally, Witness, weight};
use crate::datastore::local::LocalDatastore;
use crate::datastore::{self, Collection, DatastoreError, Found};
use crate::executor::{Executor, ExecutorError, Leftover};
use crate::folder::Root;
use crate::id::ExecutionId;
use crate::store::{self, RunCache, Seized, Status, StoreError, Summary};

/// How long what a crash has left must not have been touched, at least.
const ABANDONED: Duration = Duration::from_secs(60);

/// Collects everything that is of no use in a root, and of what engines have.
pub async fn collect(root: &Root, executors: &Executors, order: &Order, witness: &mut dyn Witness) -> Tally {
    let mut collector = Collector::new(root, executors, order, witness);
    // The moment comes before anything that is on record is read.
    let begun = LocalDatastore::new(root.objects()).collect();
    collector.ask_engines().await;
    let all = match store::list(root) {
        Ok(all) => all,
        Err(error) => {
            collector.problem(error.into());
            return collector.tally;
        }
    };
    collector.tell_silence(all.iter());
    let old = collector.old(&all);
    let summaries: HashMap<ExecutionId, &Summary> = all.iter().map(|summary| (summary.id, summary)).collect();
    for (id, why) in old {
        if let Some(summary) = summaries.get(&id) {
            collector.remove(summary, why).await;
        }
    }
    collector.tell_silence(all.iter());
    collector.sweep_engines().await;
    collector.clear_litter(&all);
    collector.settle_removals();
    collector.forget_runs();
    let collection = begun.unwrap_or_else(|error| {
        collector.problem(error.into());
        None
    });
    collector.sweep_objects(&all, collection);
    collector.tally
}

/// Removes these executions, and nothing else. What only they referred to is left to the next collection.
pub async fn remove(
    root: &Root,
    executors: &Executors,
    order: &Order,
    ids: &[ExecutionId],
    witness: &mut dyn Witness,
) -> Tally {
    let mut collector = Collector::new(root, executors, order, witness);
    collector.ask_engines().await;
    match store::list(root) {
        Ok(all) => {
            let wanted: HashSet<ExecutionId> = ids.iter().copied().collect();
            let wanted = all.iter().filter(|summary| wanted.contains(&summary.id));
            collector.tell_silence(wanted.clone());
            for summary in wanted.clone() {
                collector.remove(summary, Why::Named).await;
            }
            collector.tell_silence(wanted);
        }
        Err(error) => collector.problem(error.into()),
    }
    collector.settle_removals();
    if !collector.removed.is_empty() {
        collector.forget_runs();
    }
    collector.tally
}

/// What an engine has.
struct Asked {
    executor: Arc<dyn Executor>,
    /// Whether it has answered.
    answered: bool,
    /// Why it has not, as long as nobody was told.
    silence: Option<String>,
    /// Whether it failed in another way, and that was told.
    told: bool,
    /// What is not ours, or has no place in our root.
    others: Vec<(Leftover, Whose)>,
}

struct Collector<'a> {
    root: &'a Root,
    order: &'a Order,
    witness: &'a mut dyn Witness,
    tally: Tally,
    engines: Vec<Asked>,
    /// What engines have of executions in our root, with the engine's place in the list.
    ours: HashMap<ExecutionId, Vec<(usize, Leftover)>>,
    removed: HashSet<ExecutionId>,
    /// Those that were told to be damaged.
    damaged: HashSet<ExecutionId>,
}

impl<'a> Collector<'a> {
    fn new(root: &'a Root, executors: &Executors, order: &'a Order, witness: &'a mut dyn Witness) -> Collector<'a> {
        let asked = |executor: &Arc<dyn Executor>| Asked {
            executor: Arc::clone(executor),
            answered: false,
            silence: None,
            told: false,
            others: Vec::new(),
        };
        Collector {
            root,
            order,
            witness,
            tally: Tally::default(),
            engines: executors.iter().map(asked).collect(),
            ours: HashMap::new(),
            removed: HashSet::new(),
            damaged: HashSet::new(),
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.tally.problems += 1;
        self.witness.problem(&problem);
    }

    /// The cache forgets what executions have run that are gone, also those that were removed by hand.
    fn forget_runs(&mut self) {
        if !self.order.pretend
            && let Err(error) = RunCache::tidy(self.root)
        {
            self.problem(error.into());
        }
    }

    fn damaged(&mut self, id: ExecutionId, reason: String, denied: bool) {
        if self.damaged.insert(id) {
            self.problem(Problem::Damaged { id, reason, denied });
        }
    }

    // What engines have.

    async fn ask_engines(&mut self) {
        let places = Places::new(self.root);
        for at in 0..self.engines.len() {
            let executor = Arc::clone(&self.engines[at].executor);
            let left = match executor.leftovers().await {
                Ok(left) => left,
                Err(error) => {
                    self.engines[at].answered = false;
                    self.silent(at, error);
                    continue;
                }
            };
            self.engines[at].answered = true;
            for leftover in left {
                match places.whose(&leftover) {
                    Whose::Ours(_) => self.ours.entry(leftover.execution).or_default().push((at, leftover)),
                    whose => self.engines[at].others.push((leftover, whose)),
                }
            }
        }
    }

    fn silent(&mut self, at: usize, error: ExecutorError) {
        if std::mem::replace(&mut self.engines[at].told, true) {
            return;
        }
        match error {
            // Whether that is worth telling is known once it is known who uses it.
            ExecutorError::Unavailable { reason, .. } => self.engines[at].silence = Some(reason),
            error => {
                let backend = self.engines[at].executor.name().to_owned();
                self.problem(Problem::Engine { backend, error });
            }
        }
    }

    /// Tells which engines have not answered, and whether any of these executions may have left something there.
    fn tell_silence<'s>(&mut self, executions: impl Iterator<Item = &'s Summary> + Clone) {
        for engine in &mut self.engines {
            if let Some(reason) = engine.silence.take() {
                let backend = engine.executor.name().to_owned();
                let used = executions.clone().any(|summary| summary.backends.contains(&backend));
                self.witness.note(&Note::Unavailable { backend, reason, used });
            }
        }
    }

    /// Judges what is left of it, and sweeps what may go.
    async fn sweep_engines(&mut self) {
        let now = SystemTime::now();
        let mut doomed: Vec<Vec<(Leftover, Reason)>> = self.engines.iter().map(|_| Vec::new()).collect();
        // Of ours, and of roots that are gone.
        let mut young = vec![(0u64, 0u64); self.engines.len()];
        for (id, left) in std::mem::take(&mut self.ours) {
            if self.removed.contains(&id) {
                continue;
            }
            let whose = Whose::Ours(store::status(self.root, id));
            let mut stay = Vec::new();
            for (at, leftover) in left {
                match judge(&whose, leftover.created, now, self.order.grace) {
                    Verdict::Goes(why) => doomed[at].push((leftover, why)),
                    verdict => {
                        young[at].0 += u64::from(verdict == Verdict::Young);
                        stay.push((at, leftover));
                    }
                }
            }
            if !stay.is_empty() {
                self.ours.insert(id, stay);
            }
        }
        for at in 0..self.engines.len() {
            let mut elsewhere: HashMap<PathBuf, u64> = HashMap::new();
            for (leftover, whose) in std::mem::take(&mut self.engines[at].others) {
                match judge(&whose, leftover.created, now, self.order.grace) {
                    Verdict::Goes(why) => doomed[at].push((leftover, why)),
                    Verdict::Young => young[at].1 += 1,
                    // What runs is most likely in use there.
                    Verdict::Elsewhere(root) if !leftover.running => *elsewhere.entry(root).or_default() += 1,
                    Verdict::Elsewhere(_) | Verdict::Needed | Verdict::Doubtful => {}
                }
            }
            let backend = self.engines[at].executor.name().to_owned();
            let mut elsewhere: Vec<_> = elsewhere.into_iter().collect();
            elsewhere.sort();
            for (root, count) in elsewhere {
                self.witness.note(&Note::Elsewhere { backend: backend.clone(), root, count });
            }
            let grace = self.order.grace;
            let young = [(young[at].0, grace, false), (young[at].1, grace.max(SHORTEST), true)];
            for (count, grace, rootless) in young.into_iter().filter(|(count, ..)| *count > 0) {
                self.witness.note(&Note::Young { backend: backend.clone(), count, grace, rootless });
            }
            let doomed = std::mem::take(&mut doomed[at]);
            for left in self.sweep(at, doomed).await {
                self.ours.entry(left.execution).or_default().push((at, left));
            }
        }
    }

    /// Sweeps, and returns what could not be swept.
    async fn sweep(&mut self, at: usize, doomed: Vec<(Leftover, Reason)>) -> Vec<Leftover> {
        if doomed.is_empty() {
            return Vec::new();
        }
        let executor = Arc::clone(&self.engines[at].executor);
        let backend = executor.name().to_owned();
        let mut there: HashSet<String> = HashSet::new();
        if !self.order.pretend {
            let ids: Vec<String> = doomed.iter().map(|(leftover, _)| leftover.id.clone()).collect();
            if let Err(error) = executor.sweep(&ids).await {
                self.problem(Problem::Engine { backend: backend.clone(), error });
                // Some may have gone all the same; where the engine is silent now, none has, as far as is known.
                there = match executor.leftovers().await {
                    Ok(left) => left.into_iter().map(|left| left.id).collect(),
                    Err(_) => ids.into_iter().collect(),
                };
            }
        }
        let mut stay = Vec::new();
        for (leftover, why) in doomed {
            if there.contains(&leftover.id) {
                stay.push(leftover);
            } else {
                self.tally.leftovers += 1;
                self.witness.gone(&Gone::Leftover { backend: &backend, leftover: &leftover, why });
            }
        }
        stay
    }

    // Executions.

    /// Those that are to go by the rules.
    fn old(&mut self, all: &[Summary]) -> Vec<(ExecutionId, Why)> {
        let candidates = all.iter().map(|summary| {
            let over_ms = match summary.status {
                Status::Ended(_) => Some(summary.ended_ms.unwrap_or(summary.created_ms)),
                Status::Interrupted if self.order.interrupted => Some(summary.created_ms),
                _ => None,
            };
            Candidate { id: summary.id, flow: summary.flow.clone(), over_ms }
        });
        let candidates = candidates.collect();
        let mut sizes = match self.order.rules.max_size.map(|_| LocalDatastore::new(self.root.objects()).collect()) {
            Some(Ok(collection)) => collection,
            Some(Err(error)) => {
                self.problem(error.into());
                None
            }
            None => None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        select(self.order.rules, candidates, now_ms, |id| {
            let mut bytes = weight::of(self.root.execution(id).path());
            if let Some(sizes) = &mut sizes {
                // What cannot be read is told when objects are marked.
                let _ = store::references(self.root, id, |content| {
                    bytes = bytes.saturating_add(sizes.refer(&content).unwrap_or_default().bytes);
                });
            }
            bytes
        })
    }

    /// Removes one execution, if that is still as it was said to be.
    async fn remove(&mut self, summary: &Summary, why: Why) {
        let (id, folder) = (summary.id, self.root.execution(summary.id));
        // Before the lock is taken, which writes a few bytes.
        let bytes = weight::of(folder.path());
        let seized = match self.seize(id) {
            Ok(Some(seized)) => seized,
            Ok(None) => return,
            Err(StoreError::Locked { .. }) if why == Why::Named => {
                return self.problem(Problem::Refused { id, state: "running" });
            }
            Err(StoreError::Locked { .. }) => return self.witness.note(&Note::InUse(id)),
            Err(error) => return self.problem(error.into()),
        };
        let state = match &seized.status {
            Status::Ended(outcome) => outcome.word(),
            Status::Interrupted if self.order.interrupted => "interrupted",
            Status::Damaged { .. } if self.order.damaged && why == Why::Named => "damaged",
            Status::Interrupted if why == Why::Named => {
                return self.problem(Problem::Refused { id, state: "interrupted" });
            }
            Status::Damaged { .. } if why == Why::Named => {
                return self.problem(Problem::Refused { id, state: "damaged" });
            }
            // The list may remember how it ended.
            Status::Damaged { reason } => return self.damaged(id, reason.clone(), false),
            Status::Unreadable { reason } => return self.damaged(id, reason.clone(), true),
            _ => return self.witness.note(&Note::InUse(id)),
        };
        if !matches!(seized.status, Status::Ended(_)) {
            let answers =
                |name: &&String| self.engines.iter().any(|engine| engine.executor.name() == **name && engine.answered);
            if let Some(backend) = summary.backends.iter().find(|name| !answers(name)).cloned() {
                return self.problem(Problem::Unreachable { id, backend });
            }
            // Its scheduler may have started more since the engines were asked, and has died then.
            self.ours.clear();
            self.engines.iter_mut().for_each(|engine| engine.others.clear());
            self.ask_engines().await;
        }
        for at in 0..self.engines.len() {
            let of = self.ours.get(&id).into_iter().flatten().filter(|(of, _)| *of == at);
            let doomed = of.map(|(_, leftover)| (leftover.clone(), Reason::Removed)).collect();
            if !self.sweep(at, doomed).await.is_empty() {
                return;
            }
        }
        if !self.order.pretend
            && let Err(error) = datastore::remove(folder.path())
        {
            return self.problem(error.into());
        }
        drop(seized);
        self.removed.insert(id);
        self.tally.executions.0 += 1;
        self.tally.executions.1 = self.tally.executions.1.saturating_add(bytes);
        self.witness.gone(&Gone::Execution { id, flow: &summary.flow, state, why, bytes });
    }

    /// Who only looks takes no lock.
    fn seize(&self, id: ExecutionId) -> Result<Option<Looked>, StoreError> {
        if !self.order.pretend {
            let seized = store::seize(self.root, id)?;
            return Ok(seized.map(|seized| Looked { status: seized.status.clone(), _seized: Some(seized) }));
        }
        match store::status(self.root, id) {
            None => Ok(None),
            Some((Status::Running { pid }, _)) => {
                Err(StoreError::Locked { id, holder: store::Holder { pid, since_ms: None } })
            }
            Some((status, _)) => Ok(Some(Looked { status, _seized: None })),
        }
    }

    /// Nothing that a removed execution referred to may go before the removal is on disk; the list forgets them.
    fn settle_removals(&mut self) {
        if self.removed.is_empty() || self.order.pretend {
            return;
        }
        if let Err(error) = store::removed(self.root).and_then(|()| store::list(self.root).map(drop)) {
            self.problem(error.into());
        }
    }

    // Files.

    fn clear_litter(&mut self, all: &[Summary]) {
        match store::abandoned(self.root, self.order.grace.max(ABANDONED)) {
            Ok(paths) => paths.iter().for_each(|path| self.clear(path)),
            Err(error) => self.problem(error.into()),
        }
        let now = SystemTime::now();
        for summary in all {
            let ended = matches!(summary.status, Status::Ended(_)) && !self.removed.contains(&summary.id);
            let whose = Whose::Ours(Some((summary.status.clone(), summary.ended_ms)));
            let old = judge(&whose, None, now, self.order.grace) == Verdict::Goes(Reason::Ended);
            if !ended || !old || self.ours.contains_key(&summary.id) || self.litter(summary.id).is_empty() {
                continue;
            }
            // Looked at again with schedulers kept away: one may have begun to use it.
            match self.seize(summary.id) {
                Ok(Some(looked)) if matches!(looked.status, Status::Ended(_)) => {
                    self.litter(summary.id).iter().for_each(|path| self.clear(path));
                }
                Ok(_) | Err(StoreError::Locked { .. }) => {}
                Err(error) => self.problem(error.into()),
            }
        }
    }

    /// What is of no use in an execution's folder, once it has ended.
    fn litter(&self, id: ExecutionId) -> Vec<PathBuf> {
        let folder = self.root.execution(id);
        let asked = self.engines.iter().filter(|engine| engine.answered);
        let mut litter: Vec<PathBuf> = asked.flat_map(|engine| engine.executor.litter(folder.path())).collect();
        for within in ["views", "outputs"] {
            let entries = std::fs::read_dir(folder.path().join(within)).into_iter().flatten().flatten();
            litter.extend(entries.filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                (name.starts_with(".view-") || name.starts_with(".removing-")).then(|| entry.path())
            }));
        }
        litter
    }

    fn clear(&mut self, path: &Path) {
        let bytes = weight::of(path);
        let clear = || match path.symlink_metadata() {
            Ok(found) if found.is_dir() => datastore::remove(path),
            _ => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(DatastoreError::File { verb: "remove", path: path.to_owned(), source: error })
                }
                _ => Ok(()),
            },
        };
        if !self.order.pretend
            && let Err(error) = clear()
        {
            return self.problem(error.into());
        }
        self.tally.litter.0 += 1;
        self.tally.litter.1 = self.tally.litter.1.saturating_add(bytes);
        self.witness.gone(&Gone::Litter { path, bytes });
    }

    // Objects.

    /// Sweeps objects, where there are any; what is damaged is told in any case.
    fn sweep_objects(&mut self, all: &[Summary], mut collection: Option<Collection>) {
        let ids = match store::ids(self.root) {
            Ok(ids) => ids,
            Err(error) => return self.problem(error.into()),
        };
        let mut listed: HashMap<ExecutionId, (&str, bool)> = HashMap::new();
        for summary in all {
            match &summary.status {
                Status::Damaged { reason } => listed.insert(summary.id, (reason, false)),
                Status::Unreadable { reason } => listed.insert(summary.id, (reason, true)),
                Status::Running { .. } | Status::Interrupted | Status::Ended(_) => None,
            };
        }
        for id in ids {
            if self.order.pretend && self.removed.contains(&id) {
                continue;
            }
            let mut unread = None;
            let read = store::references(self.root, id, |content| {
                if let Some(collection) = &mut collection
                    && let Err(error) = collection.refer(&content)
                {
                    unread.get_or_insert(error);
                }
            });
            let (reason, denied) = match (read, unread, listed.get(&id)) {
                (Ok(()), None, None) => continue,
                // It went at this very moment.
                (Err(_), ..) if !self.root.execution(id).path().exists() => continue,
                (Err(error), ..) => (error.to_string(), error.is_denied()),
                (Ok(()), Some(error), _) => (error.to_string(), false),
                (Ok(()), None, Some((reason, denied))) => ((*reason).to_owned(), *denied),
            };
            self.damaged(id, reason, denied);
        }
        let Some(collection) = collection else { return };
        if !collection.missing().is_empty() {
            self.witness.note(&Note::Missing(collection.missing().len() as u64));
        }
        if !self.damaged.is_empty() {
            return;
        }
        let Collector { tally, witness, order, root, .. } = self;
        let swept = collection.sweep(order.grace, order.pretend, |found| match found {
            Found::Object(digest, bytes) => witness.gone(&Gone::Object { digest, bytes }),
            Found::Leaving(name, bytes) => witness.gone(&Gone::Litter { path: &root.objects().join(name), bytes }),
        });
        let (freed, failed) = swept;
        tally.objects = freed.objects;
        tally.young = freed.young;
        tally.litter.0 += freed.leavings.0;
        tally.litter.1 = tally.litter.1.saturating_add(freed.leavings.1);
        if let Some(error) = failed {
            self.problem(error.into());
        }
    }
}

/// How an execution stands, and, unless one only looks, the lock that keeps schedulers away.
struct Looked {
    status: Status,
    _seized: Option<Seized>,
}
