//! The cache: looks for what a split does among what was run before, and remembers what runs.
//!
//! A key is made of all that a split can see: its words, where it runs, what it reads. What cannot be looked for runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Waker};

use tokio::sync::mpsc::UnboundedSender;

use super::left::{hashed, short};
use super::words::{Late, Question, Words};
use super::{Blocking, Engine, EngineError, News};
use crate::cache::{CacheKey, KeyPart, Origin};
use crate::container::Container;
use crate::datastore::{Artifact, Content, Datastore, Digest, Hold};
use crate::event::Event;
use crate::executor::Executor;
use crate::flow::{Ignored, Layer, Parameters};
use crate::id::{Attempt, ExecutionId, LayerId, Split};
use crate::scheduler::State;
use crate::store::{Run, Runs};

/// What stands in a key for the folder of inputs, wherever it is seen.
const SEEN: &str = "$LAMINAR_INPUTS";
/// How many batches are looked for at once, and how many splits a batch has at most.
const AT_ONCE: usize = 8;
const BATCH: usize = 256;
/// How many splits of a batch are told of together: enough that a transaction, a hold and a turn of the loop cost little beside
/// what each of them takes, and few enough that what needs them is looked for while the rest of the batch is.
const PIECE: usize = 64;
/// From how many objects on what was found is told, before more are looked at.
const OBJECTS: u64 = 1000;

/// What the cache needs for as long as the execution runs.
pub(super) struct Recalling {
    pub(super) runs: Arc<dyn Runs>,
    sources: Arc<Sources>,
    /// What is to be looked for, by what it is looked for with; the first is next.
    wanted: HashMap<Company, VecDeque<Split>>,
    next: VecDeque<Company>,
    /// Whose batches are looked for just now.
    under_way: Vec<Company>,
    /// What somebody has asked to run again: an equal run before is not what they want.
    insisted: (HashSet<LayerId>, HashSet<Split>),
    /// What running splits do, until they have published.
    keys: HashMap<Split, Digest>,
    /// What is to be remembered once it is on record.
    news: Vec<Run>,
}

/// The splits that are looked for together. What keeps one of them waiting keeps all of them, so it is the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Company {
    /// Those of one layer, of which much may have to be read.
    Layer(LayerId),
    /// All others of one backend, if they say which, with one image: an engine may have to be asked about it.
    Image(Option<Arc<str>>, Option<String>),
}

impl Company {
    fn of(id: LayerId, layer: &Layer) -> Company {
        let has_sources = layer.cache.as_ref().is_some_and(|cache| !cache.sources.is_empty());
        if has_sources || layer.reads() || container(layer).is_none() {
            return Company::Layer(id);
        }
        Company::Image(layer.backend.clone(), layer.container.image.clone())
    }
}

/// Where a layer's splits run, if that is no question of what they run.
fn container(layer: &Layer) -> Option<&Arc<Container>> {
    layer.open.as_ref().is_none_or(|open| open.container.is_empty()).then_some(&layer.container)
}

/// What became of a look.
pub(super) enum Recalled {
    /// It was found, and its artifacts are there.
    Found { key: CacheKey, from: Origin, artifacts: Vec<Artifact> },
    /// It was not. Perhaps with something worth knowing.
    Missed { key: CacheKey, notice: Option<String> },
}

/// Looks that are over.
pub(super) struct Looked {
    recalled: Vec<(Split, Recalled)>,
    /// Keeps what was found.
    hold: Option<Hold>,
    /// Whose batch is over with them, if it is.
    over: Option<Company>,
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
            sources: Arc::default(),
            wanted: HashMap::new(),
            next: VecDeque::new(),
            under_way: Vec::new(),
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

/// What looking for a batch takes.
struct Look {
    executor: Arc<dyn Executor>,
    datastore: Arc<dyn Datastore>,
    runs: Arc<dyn Runs>,
    sources: Arc<Sources>,
    workdir: PathBuf,
    execution: ExecutionId,
    inbox: UnboundedSender<News>,
    company: Company,
}

/// One split that is looked for.
struct Sought {
    late: Late,
    insists: bool,
    /// What it would run, once that is known.
    said: Option<Result<Said, String>>,
    /// Where.
    identity: Result<String, String>,
}

/// What a split would run, and its values.
type Said = (Parameters, Words);

impl Sought {
    fn say(&mut self) {
        let each = self.late.values();
        self.said = Some(self.late.said(&each).map(|words| (each, words)));
    }

    /// Where it runs, unless that cannot be known.
    fn container(&self) -> Option<&Arc<Container>> {
        match &self.said {
            Some(said) => said.as_ref().ok().map(|(_, words)| &words.container),
            None => container(self.late.question.layer()),
        }
    }
}

impl Engine<'_> {
    /// A split is to be looked for.
    pub(super) fn recall(&mut self, split: Split) {
        let company = Company::of(split.layer, self.flow.layer(split.layer));
        let Recalling { wanted, next, .. } = &mut self.recalling;
        let queue = wanted.entry(company.clone()).or_default();
        if queue.is_empty() {
            next.push_back(company);
        }
        queue.push_back(split);
    }

    /// Looks for what is wanted, as much as may be looked for at once; what comes of it arrives as news.
    pub(super) fn look(&mut self) {
        let mut skipped = Vec::new();
        while self.recalling.under_way.len() < AT_ONCE
            && let Some(company) = self.recalling.next.pop_front()
        {
            let Recalling { wanted, next, under_way, .. } = &mut self.recalling;
            let mut queue = wanted.remove(&company).unwrap_or_default();
            // With two of them one is looked for while the other is committed, and what is wanted meanwhile makes the next.
            if queue.len() < BATCH && under_way.iter().filter(|other| **other == company).count() >= 2 {
                wanted.insert(company.clone(), queue);
                skipped.push(company);
                continue;
            }
            let rest = queue.split_off(queue.len().min(BATCH));
            if !rest.is_empty() {
                wanted.insert(company.clone(), rest);
                next.push_back(company.clone());
            }
            under_way.push(company.clone());
            let sought = queue.into_iter().map(|split| Sought {
                late: self.late(Attempt { split, number: 1 }, None, SEEN.to_owned()),
                insists: self.recalling.insists(split),
                said: None,
                identity: Ok(String::new()),
            });
            let sought: Vec<Sought> = sought.collect();
            let look = Look {
                executor: Arc::clone(&self.executor),
                datastore: Arc::clone(&self.datastore),
                runs: Arc::clone(&self.recalling.runs),
                sources: Arc::clone(&self.recalling.sources),
                workdir: self.session.workdir.clone(),
                execution: self.session.execution,
                inbox: self.inbox.clone(),
                company,
            };
            let mut looking: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(look.find(sought, self.blocking.clone()));
            // Where nobody must be asked it begins at once, beside what is committed meanwhile.
            if looking.as_mut().poll(&mut task::Context::from_waker(Waker::noop())).is_pending() {
                tokio::spawn(looking);
            }
        }
        skipped.into_iter().rev().for_each(|company| self.recalling.next.push_front(company));
    }

    pub(super) fn looked(&mut self, looked: Looked) -> Result<(), EngineError> {
        let Looked { recalled, hold, over } = looked;
        self.group.holds.extend(hold);
        let under_way = &mut self.recalling.under_way;
        if let Some(at) = under_way.iter().position(|company| Some(company) == over.as_ref()) {
            under_way.swap_remove(at);
        }
        recalled.into_iter().try_for_each(|(split, recalled)| self.recalled(split, recalled))
    }

    fn recalled(&mut self, split: Split, recalled: Recalled) -> Result<(), EngineError> {
        match recalled {
            Recalled::Missed { key, notice } => {
                self.group.notices.extend(notice);
                self.recalling.note(split, &key);
                self.happen(Event::SplitKeyed { split, key })
            }
            Recalled::Found { key, from, artifacts } => {
                let left = artifacts.clone();
                self.happen(Event::SplitCached { split, key, from, artifacts })?;
                if self.scheduler.state(split) == Some(State::Cached) {
                    self.artifacts.set(split, left.into());
                }
                Ok(())
            }
        }
    }

    /// A split has published what it left: once that is on record, it is remembered. What was caught is not.
    pub(super) fn ran(&mut self, split: Split, artifacts: &[Artifact]) {
        let Some(key) = self.recalling.keys.remove(&split) else { return };
        if self.scheduler.state(split) == Some(State::Finished) {
            let origin = Origin { execution: self.session.execution, split };
            self.recalling.news.push(Run { key, origin, artifacts: artifacts.to_vec() });
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
    /// What a split would run comes first only if that decides where.
    async fn find(self, mut all: Vec<Sought>, blocking: Blocking) {
        if all.iter().any(|sought| sought.container().is_none()) {
            let say = move || {
                all.iter_mut().for_each(Sought::say);
                all
            };
            all = blocking.run(say).await;
        }
        self.identify(&mut all).await;
        blocking.run(move || self.look(all)).await;
    }

    /// Asks for each layer once, unless its splits run in different places. Where there is no answer nobody waits for it again.
    async fn identify(&self, all: &mut [Sought]) {
        let mut known: Option<(LayerId, Arc<Container>, Result<String, String>)> = None;
        for sought in all {
            let Some(container) = sought.container() else { continue };
            let layer = sought.late.attempt.split.layer;
            let identity = match &known {
                Some((asked, of, identity)) if (*asked == layer || identity.is_err()) && of == container => {
                    identity.clone()
                }
                _ => {
                    let name = &sought.late.question.layer().name;
                    let identity = self.executor.identity(self.execution, name, container).await;
                    let identity = identity.map_err(|error| error.to_string());
                    known = Some((layer, Arc::clone(container), identity.clone()));
                    identity
                }
            };
            sought.identity = identity;
        }
    }

    fn look(&self, all: Vec<Sought>) {
        let mut left = all.len();
        let mut all = all.into_iter();
        while left > 0 {
            let piece = left.min(PIECE);
            left -= piece;
            self.look_at(all.by_ref().take(piece), left == 0);
        }
    }

    /// Looks for a piece, the last of the batch or not, and tells what comes of it.
    fn look_at(&self, piece: impl Iterator<Item = Sought>, is_last: bool) {
        let mut recalled = Vec::with_capacity(PIECE);
        let mut keyed = Vec::with_capacity(PIECE);
        for mut sought in piece {
            let split = sought.late.attempt.split;
            match self.parts(&mut sought).map(CacheKey::new) {
                Ok(key) if sought.insists => recalled.push((split, Recalled::Missed { key, notice: None })),
                Ok(key) => keyed.push((split, key)),
                Err(reason) => {
                    let layer = &sought.late.question.layer().name;
                    let notice = Some(format!("`{layer}` cannot be looked for in the cache: {reason}"));
                    recalled.push((split, Recalled::Missed { key: CacheKey::unknown(reason), notice }));
                }
            }
        }
        let digests: Vec<Digest> = keyed.iter().map(|(_, key)| key.digest).collect();
        let mut found = Vec::new();
        let mut objects = 0;
        for ((split, key), run) in keyed.into_iter().zip(self.runs.find_all(&digests)) {
            match run {
                Ok(Some(run)) => {
                    objects += run.artifacts.iter().map(weight).sum::<u64>();
                    found.push((split, key, run));
                    if objects >= OBJECTS {
                        objects = 0;
                        let hold = self.take(std::mem::take(&mut found), &mut recalled);
                        self.tell(Looked { recalled: std::mem::take(&mut recalled), hold, over: None });
                    }
                }
                Ok(None) => recalled.push((split, Recalled::Missed { key, notice: None })),
                Err(error) => recalled.push((split, Recalled::Missed { key, notice: Some(error.to_string()) })),
            }
        }
        let hold = self.take(found, &mut recalled);
        self.tell(Looked { recalled, hold, over: is_last.then(|| self.company.clone()) });
    }

    fn tell(&self, looked: Looked) {
        let _ = self.inbox.send(News::Looked(looked));
    }

    /// Takes what was found into use, if its artifacts are there. What is returned keeps them.
    fn take(&self, found: Vec<(Split, CacheKey, Run)>, recalled: &mut Vec<(Split, Recalled)>) -> Option<Hold> {
        if found.is_empty() {
            return None;
        }
        // Before anything is looked at, so that it is not collected meanwhile.
        let hold = self.datastore.hold().map_err(|error| error.to_string());
        let there = |artifacts: &[Artifact]| match &hold {
            Ok(_) => self.datastore.recall(artifacts).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        // One by one only where something is wrong with one of them.
        let all: Vec<Artifact> = found.iter().flat_map(|(.., run)| run.artifacts.iter().cloned()).collect();
        let all_there = found.len() > 1 && there(&all) == Ok(true);
        for (split, key, run) in found {
            let missed = |key, notice| Recalled::Missed { key, notice };
            let one = match if all_there { Ok(true) } else { there(&run.artifacts) } {
                Ok(true) => Recalled::Found { key, from: run.origin, artifacts: run.artifacts },
                Ok(false) => {
                    let notice = self.runs.forget(key.digest).err().map(|error| error.to_string());
                    missed(key, notice)
                }
                Err(error) => missed(key, Some(error)),
            };
            recalled.push((split, one));
        }
        hold.ok()
    }

    /// Everything that counts, in an order that does not change.
    fn parts(&self, sought: &mut Sought) -> Result<Vec<KeyPart>, String> {
        if sought.said.is_none() {
            sought.say();
        }
        let Some((each, words)) = sought.said.take().transpose()? else { return Err("it says nothing".to_owned()) };
        let identity = std::mem::replace(&mut sought.identity, Ok(String::new()))?;
        let late = &sought.late;
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

/// About how many objects an artifact has.
fn weight(artifact: &Artifact) -> u64 {
    match &artifact.content {
        Content::File { .. } => 1,
        Content::Folder { entries, .. } => entries.saturating_add(1),
    }
}
