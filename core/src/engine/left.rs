//! What layers have left, and how expressions see it.
//!
//! Artifacts are known by layer, index and name; what is in them is read from the datastore when an expression wants it, and
//! remembered.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::datastore::{Artifact, Content, Datastore, Digest};
use crate::flow::template::{Datum, Layers};
use crate::flow::{Shard, Shards};
use crate::id::{LayerId, Split, number};

/// The largest JSON file that is a value.
const LARGEST_VALUE: u64 = 64 << 20;
/// The most bytes that the values of a layer's splits may have together, in bytes.
const LARGEST_TOGETHER: u64 = 1 << 30;
/// How many values are remembered.
const REMEMBERED: usize = 1000;

/// What one layer has left.
#[derive(Clone, Debug, Default)]
pub(super) struct Left {
    /// By index; splits that left nothing are not in it.
    splits: BTreeMap<u32, Arc<[Artifact]>>,
}

/// What all layers have left. Cheap to change as long as nobody reads it.
#[derive(Debug, Default)]
pub(super) struct AllLeft(HashMap<LayerId, Arc<Left>>);

impl AllLeft {
    pub(super) fn of(&self, layer: LayerId) -> Option<&Arc<Left>> {
        self.0.get(&layer)
    }

    /// What a split has left, in the place of what it left before.
    pub(super) fn set(&mut self, split: Split, artifacts: Arc<[Artifact]>) {
        if artifacts.is_empty() {
            if let Some(left) = self.0.get_mut(&split.layer) {
                Arc::make_mut(left).splits.remove(&split.index);
                if left.splits.is_empty() {
                    self.0.remove(&split.layer);
                }
            }
            return;
        }
        Arc::make_mut(self.0.entry(split.layer).or_default()).splits.insert(split.index, artifacts);
    }

    /// The layer begins anew.
    pub(super) fn forget(&mut self, layer: LayerId) {
        self.0.remove(&layer);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Split) -> bool) {
        self.0.retain(|layer, left| {
            Arc::make_mut(left).splits.retain(|index, _| keep(Split { layer: *layer, index: *index }));
            !left.splits.is_empty()
        });
    }
}

/// A layer whose artifacts others read.
#[derive(Clone, Debug)]
pub(super) struct Producer {
    pub(super) layer: LayerId,
    pub(super) name: Arc<str>,
    /// The word for its state.
    pub(super) state: &'static str,
    /// How many splits it has, if it is a foreach layer.
    pub(super) splits: Option<u32>,
    /// What it promised to leave: of a foreach layer, there also when it has no splits.
    pub(super) promised: Arc<[String]>,
    pub(super) left: Option<Arc<Left>>,
}

impl Producer {
    /// Whether there is something to be seen of it among the inputs.
    pub(super) fn is_seen(&self) -> bool {
        self.left.is_some() || (self.splits == Some(0) && !self.promised.is_empty())
    }

    /// What it left, as it is laid out among the inputs.
    pub(super) fn artifacts(&self) -> Vec<Artifact> {
        let Some(left) = &self.left else { return Vec::new() };
        let Some(splits) = self.splits else {
            return left.splits.values().flat_map(|all| all.iter().cloned()).collect();
        };
        let mut artifacts = Vec::new();
        for (index, all) in &left.splits {
            let number = number(*index, splits);
            artifacts.extend(all.iter().map(|artifact| Artifact {
                name: format!("{}/{number}", artifact.name),
                content: artifact.content.clone(),
            }));
        }
        artifacts
    }

    /// The names of what it left, each once.
    fn names(&self) -> Vec<&str> {
        let all = self.left.iter().flat_map(|left| left.splits.values()).flat_map(|all| all.iter());
        let mut names: Vec<&str> = all.map(|artifact| artifact.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What was left under this name, by index: the value `name.json`, or else the file or folder `name`.
    fn find(&self, name: &str) -> Option<Found<'_>> {
        let left = self.left.as_ref()?;
        let with = |name: &str| -> Vec<(u32, &Artifact)> {
            let of = |all: &'_ Arc<[Artifact]>| all.binary_search_by(|artifact| artifact.name.as_str().cmp(name)).ok();
            left.splits.iter().filter_map(|(index, all)| Some((*index, &all[of(all)?]))).collect()
        };
        let json = with(&format!("{name}.json"));
        if !json.is_empty() {
            return Some(Found { is_json: true, artifacts: json });
        }
        let plain = with(name);
        (!plain.is_empty()).then_some(Found { is_json: false, artifacts: plain })
    }
}

struct Found<'p> {
    is_json: bool,
    artifacts: Vec<(u32, &'p Artifact)>,
}

/// What was read, or found out, of artifacts. It never changes, since artifacts do not.
#[derive(Debug, Default)]
pub(super) struct Values {
    read: Mutex<HashMap<(LayerId, String), Datum>>,
    digests: Mutex<HashMap<LayerId, Vec<(String, String)>>>,
}

impl Values {
    /// Layers that run again leave something else.
    pub(super) fn forget(&self, layer: LayerId) {
        lock(&self.read).retain(|(known, _), _| *known != layer);
        lock(&self.digests).remove(&layer);
    }

    /// Digests of what a layer left, for the cache.
    pub(super) fn inputs(&self, producer: &Producer) -> Vec<(String, String)> {
        if producer.left.is_none() && producer.splits.is_none() {
            return Vec::new();
        }
        let mut known = lock(&self.digests);
        let digests = known
            .entry(producer.layer)
            .or_insert_with(|| inputs(&producer.name, &producer.artifacts(), producer.splits.is_some()));
        digests.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a layer's expressions read.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) producers: Arc<[Producer]>,
    pub(super) datastore: Arc<dyn Datastore>,
    pub(super) values: Arc<Values>,
    /// The folder of inputs as whoever uses the expression sees it.
    pub(super) inputs: String,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("producers", &self.producers).finish_non_exhaustive()
    }
}

impl Reading {
    fn producer(&self, layer: &str) -> Option<&Producer> {
        self.producers.iter().find(|producer| &*producer.name == layer)
    }

    /// Where an artifact is seen.
    fn path(&self, producer: &Producer, name: &str, index: u32) -> String {
        match producer.splits {
            None => format!("{}/{}/{name}", self.inputs, producer.name),
            Some(splits) => format!("{}/{}/{name}/{}", self.inputs, producer.name, number(index, splits)),
        }
    }

    fn json(&self, producer: &Producer, artifact: &Artifact) -> Result<Value, String> {
        let name = format!("`{}/{}`", producer.name, artifact.name);
        let Content::File { digest, size } = artifact.content else { return Err(format!("{name} is a folder")) };
        if size > LARGEST_VALUE {
            return Err(format!("{name} has {size} bytes, more than a value may have (64 MiB)"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut reader = self.datastore.open(digest, size).map_err(|error| error.to_string())?;
        reader.read_to_end(&mut bytes).map_err(|error| format!("cannot read {name}: {error}"))?;
        let value = serde_json::from_slice(&bytes).map_err(|error| format!("{name} is no JSON: {error}"))?;
        if has_nul(&value) { Err(format!("{name} holds a NUL character")) } else { Ok(value) }
    }

    /// The values of what was found, one for each split that left it.
    fn all(&self, producer: &Producer, found: &Found<'_>) -> Result<Vec<Value>, String> {
        let bytes =
            found.artifacts.iter().fold(0_u64, |sum, (_, artifact)| sum.saturating_add(artifact.content.size()));
        if found.is_json && bytes > LARGEST_TOGETHER {
            let name = found.artifacts.first().map_or("", |(_, artifact)| &artifact.name);
            let layer = &producer.name;
            return Err(format!(
                "`{name}` of all splits of `{layer}` has {bytes} bytes, more than values may have together (1 GiB)"
            ));
        }
        let value = |(index, artifact): &(u32, &Artifact)| match found.is_json {
            true => self.json(producer, artifact),
            false => Ok(Value::String(self.path(producer, &artifact.name, *index))),
        };
        found.artifacts.iter().map(value).collect()
    }
}

/// One that stood for the folder of inputs would not come from us.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(entries) => entries.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

impl Layers for Reading {
    fn state(&self, layer: &str) -> Option<&'static str> {
        Some(self.producer(layer)?.state)
    }

    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Datum>, String> {
        let Some(producer) = self.producer(layer) else { return Ok(None) };
        let Some(found) = producer.find(name) else {
            let is_empty = producer.splits == Some(0);
            return Ok(is_empty.then(|| Datum::list(Vec::new())));
        };
        let key = (producer.layer, name.to_owned());
        let remember = found.is_json || producer.splits.is_some();
        if remember && let Some(datum) = lock(&self.values.read).get(&key) {
            return Ok(Some(datum.clone()));
        }
        let mut values = self.all(producer, &found)?.into_iter().map(Datum::json);
        let datum = match producer.splits {
            Some(_) => Datum::list(values.collect()),
            None => match values.next() {
                Some(value) => value,
                None => return Ok(None),
            },
        };
        // Paths depend on who sees them; what was read does not.
        if found.is_json {
            let mut known = lock(&self.values.read);
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, datum.clone());
        }
        Ok(Some(datum))
    }

    fn missing(&self, layer: &str, name: &str) -> (String, String) {
        let Some(producer) = self.producer(layer) else {
            return (format!("`{layer}` is not there"), "name a layer of the flow".to_owned());
        };
        if producer.state == crate::scheduler::State::Skipped.word() {
            let hint = format!("write `… if {layer}.state == 'finished' else …`, or `{layer}.{name} | default(…)`");
            return (format!("`{layer}` was skipped, so it left no `{name}`"), hint);
        }
        let names = producer.names();
        let hint = match names.len() {
            0 => "it left nothing".to_owned(),
            _ => {
                let said = |name: &&str| format!("`{}`", name.strip_suffix(".json").unwrap_or(name));
                format!("it left {}", names.iter().take(10).map(said).collect::<Vec<_>>().join(", "))
            }
        };
        (format!("`{layer}` left no `{name}`"), hint)
    }
}

impl Shards for Reading {
    fn shards(&self, layer: &str, artifact: &str) -> Result<Option<Shard>, String> {
        let Some(producer) = self.producer(layer) else { return Ok(None) };
        let Some(found) = producer.find(artifact) else {
            let none = Shard { values: Vec::new(), splits: Some(Vec::new()) };
            return Ok((producer.splits == Some(0)).then_some(none));
        };
        if producer.splits.is_some() {
            let splits = found.artifacts.iter().map(|(index, _)| *index).collect();
            return Ok(Some(Shard { values: self.all(producer, &found)?, splits: Some(splits) }));
        }
        let Some((_, artifact)) = found.artifacts.first() else { return Ok(None) };
        if found.is_json {
            return Ok(match self.json(producer, artifact)? {
                Value::Array(values) => Some(Shard { values, splits: None }),
                _ => None,
            });
        }
        let Content::Folder { manifest, .. } = &artifact.content else { return Ok(None) };
        let top = self.datastore.top_level(*manifest).map_err(|error| error.to_string())?;
        let folder = self.path(producer, &artifact.name, 0);
        let path = |path: Vec<u8>| match String::from_utf8(path) {
            Ok(name) => Ok(Value::String(format!("{folder}/{name}"))),
            Err(error) => Err(format!(
                "`{layer}/{}` has an entry whose name is no text: `{}`",
                artifact.name,
                error.as_bytes().escape_ascii()
            )),
        };
        let values = top.into_iter().map(|entry| path(entry.path)).collect::<Result<_, _>>()?;
        Ok(Some(Shard { values, splits: None }))
    }
}

/// Enough of a digest that two are never equal by chance.
pub(super) fn short(digest: Digest) -> String {
    let mut text = digest.to_string();
    text.truncate(32);
    text.extend(digest.executable.then_some('x'));
    text
}

pub(super) fn hashed(text: &str) -> String {
    short(Digest::of(text.as_bytes()))
}

/// One digest for the artifacts of a foreach layer; one each for those of another.
fn inputs(name: &str, artifacts: &[Artifact], is_foreach: bool) -> Vec<(String, String)> {
    let content = |artifact: &Artifact| serde_json::to_string(&artifact.content).unwrap_or_default();
    if !is_foreach {
        return artifacts.iter().map(|one| (format!("{name}/{}", one.name), hashed(&content(one)))).collect();
    }
    let all: Vec<String> = artifacts.iter().map(|one| format!("{}\0{}", one.name, content(one))).collect();
    vec![(name.to_owned(), hashed(&all.join("\0")))]
}
