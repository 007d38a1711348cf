//! The cache: looks for what a split does among what was run before, and remembers what runs.
//!
//! A key is made of all that a split can see: its words, where it runs, what it reads. What cannot be looked for runs.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::left::{hashed, short};
use super::words::{Late, Question, Words};
use super::{Blocking, Engine, EngineError, News};
use crate::cache::{CacheKey, KeyPart, Origin};
use crate::container::Container;
use crate::datastore::{Artifact, Datastore, Digest, Hold};
use crate::event::Event;
use crate::executor::Executor;
use crate::flow::{Ignored, Parameters};
use crate::id::{Attempt, ExecutionId, LayerId, Split};
use crate::scheduler::State;
use crate::store::{Run, Runs};

/// What stands in a key for the folder of inputs, wherever it is seen.
const SEEN: &str = "$LAMINAR_INPUTS";
/// How many splits are looked for at once.
const AT_ONCE: usize = 8;

/// What the cache needs for as long as the execution runs.
pub(super) struct Recalling {
    pub(super) runs: Arc<dyn Runs>,
    turns: Arc<Semaphore>,
    sources: Arc<Sources>,
    /// What somebody has asked to run again: an equal run before is not what they want.
    insisted: (HashSet<LayerId>, HashSet<Split>),
    /// What running splits do, until they have published.
    keys: HashMap<Split, Digest>,
    /// What is to be remembered once it is on record.
    news: Vec<Run>,
}

/// What became of a look.
pub(super) enum Recalled {
    /// It was found, and its artifacts are there; the hold keeps them.
    Found { key: CacheKey, from: Origin, artifacts: Vec<Artifact>, hold: Hold },
    /// It was not. Perhaps with something worth knowing.
    Missed { key: CacheKey, notice: Option<String> },
}

/// The digests of declared sources, each found once in an execution.
#[derive(Default)]
struct Sources(Mutex<HashMap<PathBuf, Result<String, String>>>);

impl Sources {
    fn digest(&self, path: &Path) -> Result<String, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || match Digest::of_path(path) {
            Ok(digest) => Ok(short(digest)),
            Err(error) => Err(format!("cannot read the source `{}`: {error}", path.display())),
        };
        known.entry(path.to_owned()).or_insert_with(look).clone()
    }
}

impl Recalling {
    pub(super) fn new(runs: Arc<dyn Runs>) -> Recalling {
        Recalling {
            runs,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            sources: Arc::default(),
            insisted: Default::default(),
            keys: HashMap::new(),
            news: Vec::new(),
        }
    }

    /// These run, whatever was run before.
    pub(super) fn insist(&mut self, layers: &[LayerId], splits: &[Split]) {
        self.insisted.0.extend(layers);
        self.insisted.1.extend(splits);
    }

    fn insists(&self, split: Split) -> bool {
        self.insisted.0.contains(&split.layer) || self.insisted.1.contains(&split)
    }

    /// A split of which the log says what it does.
    pub(super) fn note(&mut self, split: Split, key: &CacheKey) {
        match key.reason() {
            None => drop(self.keys.insert(split, key.digest)),
            Some(_) => drop(self.keys.remove(&split)),
        }
    }
}

/// What looking for a split takes.
struct Look {
    executor: Arc<dyn Executor>,
    datastore: Arc<dyn Datastore>,
    runs: Arc<dyn Runs>,
    sources: Arc<Sources>,
    workdir: PathBuf,
    execution: ExecutionId,
    insists: bool,
}

/// What a split would run, and where.
struct Sight {
    late: Late,
    each: Parameters,
    words: Words,
    identity: String,
}

impl Engine<'_> {
    /// Looks for a split; what comes of it arrives as news.
    pub(super) fn recall(&mut self, split: Split) {
        let late = self.late(Attempt { split, number: 1 }, None, SEEN.to_owned());
        let look = Look {
            executor: Arc::clone(&self.executor),
            datastore: Arc::clone(&self.datastore),
            runs: Arc::clone(&self.recalling.runs),
            sources: Arc::clone(&self.recalling.sources),
            workdir: self.session.workdir.clone(),
            execution: self.session.execution,
            insists: self.recalling.insists(split),
        };
        let (inbox, turns, blocking) = (self.inbox.clone(), Arc::clone(&self.recalling.turns), self.blocking.clone());
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let layer = Arc::clone(&late.question.layer().name);
            let found = look.find(late, &blocking).await;
            let recalled = found.unwrap_or_else(|reason| {
                let notice = Some(format!("`{layer}` cannot be looked for in the cache: {reason}"));
                Recalled::Missed { key: CacheKey::unknown(reason), notice }
            });
            let _ = inbox.send(News::Recalled(split, recalled));
        });
    }

    pub(super) fn recalled(&mut self, split: Split, recalled: Recalled) -> Result<(), EngineError> {
        match recalled {
            Recalled::Missed { key, notice } => {
                self.group.notices.extend(notice);
                self.recalling.note(split, &key);
                self.happen(Event::SplitKeyed { split, key })
            }
            Recalled::Found { key, from, artifacts, hold } => {
                self.group.holds.push(hold);
                let digest = key.digest;
                self.happen(Event::SplitCached { split, key, from, artifacts: artifacts.clone() })?;
                if self.scheduler.state(split) == Some(State::Cached) {
                    self.artifacts.set(split, artifacts.clone().into());
                    let holder = self.session.execution;
                    self.recalling.news.push(Run { key: digest, origin: from, holder, artifacts });
                }
                Ok(())
            }
        }
    }

    /// A split has published what it left: once that is on record, it is remembered. What was caught is not.
    pub(super) fn ran(&mut self, split: Split, artifacts: &[Artifact]) {
        let Some(key) = self.recalling.keys.remove(&split) else { return };
        if self.scheduler.state(split) == Some(State::Finished) {
            let holder = self.session.execution;
            let origin = Origin { execution: holder, split };
            self.recalling.news.push(Run { key, origin, holder, artifacts: artifacts.to_vec() });
        }
    }

    /// What is on record now can be found from now on.
    pub(super) fn remember(&mut self) {
        if self.recalling.news.is_empty() {
            return;
        }
        let (news, runs) = (std::mem::take(&mut self.recalling.news), Arc::clone(&self.recalling.runs));
        let inbox = self.inbox.clone();
        let work = self.blocking.run(move || {
            if let Err(error) = runs.remember(&news) {
                let _ = inbox.send(News::Notice(format!("cannot remember what ran: {error}")));
            }
        });
        self.chores.spawn(work);
    }
}

impl Look {
    /// What the split would run comes first, since where depends on it.
    async fn find(self, late: Late, blocking: &Blocking) -> Result<Recalled, String> {
        let said = move || {
            let each = late.values();
            late.said(&each).map(|words| (late, each, words))
        };
        let (late, each, words) = blocking.run(said).await?;
        let layer = &late.question.layer().name;
        let identity = self.executor.identity(self.execution, layer, &words.container).await;
        let identity = identity.map_err(|error| error.to_string())?;
        blocking.run(move || self.look(Sight { late, each, words, identity })).await
    }

    fn look(&self, sight: Sight) -> Result<Recalled, String> {
        let key = CacheKey::new(self.parts(sight)?);
        let missed = |key, notice| Ok(Recalled::Missed { key, notice });
        if self.insists {
            return missed(key, None);
        }
        // Before anything is looked at, so that it is not collected meanwhile.
        let hold = self.datastore.hold().map_err(|error| error.to_string())?;
        let run = match self.runs.find(key.digest) {
            Ok(Some(run)) => run,
            Ok(None) => return missed(key, None),
            Err(error) => return missed(key, Some(error.to_string())),
        };
        match self.datastore.recall(&run.artifacts) {
            Ok(true) => Ok(Recalled::Found { key, from: run.origin, artifacts: run.artifacts, hold }),
            Ok(false) => {
                let notice = self.runs.forget(key.digest).err().map(|error| error.to_string());
                missed(key, notice)
            }
            Err(error) => missed(key, Some(error.to_string())),
        }
    }

    /// Everything that counts, in an order that does not change.
    fn parts(&self, sight: Sight) -> Result<Vec<KeyPart>, String> {
        let Sight { late, each, words, identity } = sight;
        let Question { flow, reading, .. } = &late.question;
        let layer = late.question.layer();
        let cache = layer.cache.as_deref();
        let ignores = |what: Ignored| cache.is_some_and(|cache| cache.ignore.contains(&what));
        let mut parts = Vec::new();
        let mut part = |name: String, value: String| parts.push(KeyPart { name, value });
        part("layer".to_owned(), layer.name.to_string());
        part("command".to_owned(), hashed(&words.argv.join("\0")));
        let mut env = words.env;
        // Of two equal names the last counts.
        env.reverse();
        env.sort_by(|a, b| a.0.cmp(&b.0));
        env.dedup_by(|later, first| later.0 == first.0);
        for (name, value) in env {
            part(format!("env.{name}"), hashed(&value));
        }
        if !identity.is_empty() {
            part("image".to_owned(), identity);
        }
        // The image counts by what it is, not by its name.
        let settings = Container { image: None, ..words.container.place() };
        if settings != Container::default() {
            part("container".to_owned(), hashed(&format!("{settings:?}")));
        }
        for (name, value) in flow.parameters.iter().filter(|_| !ignores(Ignored::Parameters)) {
            part(format!("parameter {name}"), hashed(&value.to_string()));
        }
        if late.each.is_some() {
            if !ignores(Ignored::Index) {
                part("index".to_owned(), late.attempt.split.index.to_string());
            }
            if !ignores(Ignored::Splits) {
                part("splits".to_owned(), late.splits.to_string());
            }
            for (name, value) in each {
                part(format!("each.{name}"), hashed(&value.to_string()));
            }
        }
        if !layer.secrets.is_empty() {
            let names: Vec<&str> = layer.secrets.iter().map(|secret| &*secret.name).collect();
            part("secrets".to_owned(), names.join(" "));
        }
        if let Some(outputs) = &layer.outputs {
            part("outputs".to_owned(), outputs.join(" "));
        }
        for (name, value) in reading.producers.iter().flat_map(|producer| reading.values.inputs(producer)) {
            part(format!("input {name}"), value);
        }
        for source in cache.iter().flat_map(|cache| &cache.sources) {
            part(format!("source {source}"), self.sources.digest(&self.workdir.join(source))?);
        }
        Ok(parts)
    }
}
