//! What a layer's expressions must give, told from what the model knows: whether it runs, its splits and their values, what
//! each attempt reserves and is told, what it reads and leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use laminar_core::datastore::{Artifact, Content, Digest};
use laminar_core::each::{Dimension, Each, INPUTS, Key as EachKey};
use laminar_core::id::LayerId;
use serde_json::Value;

use crate::flows::content;
use crate::model::{Files, Model, Phase, Stage};
use crate::shapes::{Keys, Size, When, Word, literal};

/// What becomes of a layer that is asked.
#[derive(Debug, PartialEq)]
pub(crate) enum Decided {
    Open(Option<Each>),
    Skip,
    Fail,
}

/// The values of a foreach key, and what it goes together over.
type KeyValues = (Vec<Value>, Option<u32>);

impl Model {
    pub(crate) fn decides(&self, layer: u32) -> Decided {
        let shape = &self.case.shapes[layer as usize];
        match shape.when.as_ref().map_or(Some(true), |when| self.holds(when)) {
            None => return Decided::Fail,
            Some(false) => return Decided::Skip,
            Some(true) => {}
        }
        if !shape.is_foreach() {
            return Decided::Open(None);
        }
        let mut dimensions: Vec<(Option<u32>, Dimension)> = Vec::new();
        for (name, keys) in &shape.foreach {
            let Some((values, over)) = self.key_values(keys) else { return Decided::Fail };
            let key = EachKey { name: name.as_str().into(), values };
            match dimensions.iter_mut().find(|(other, _)| over.is_some() && *other == over) {
                Some((_, dimension)) => dimension.keys.push(key),
                None => dimensions.push((over, Dimension { keys: vec![key] })),
            }
        }
        Decided::Open(Some(Each { dimensions: dimensions.into_iter().map(|(_, dimension)| dimension).collect() }))
    }

    fn holds(&self, when: &When) -> Option<bool> {
        let is_skipped = |need: &u32| self.rows[*need as usize].phase == Phase::Skipped;
        match when {
            When::Literal(holds) => Some(*holds),
            When::Flag(need) => self.value(*need, "flag.json")?.as_bool(),
            When::FlagOrTrue(need) => self.value(*need, "flag.json").unwrap_or(Value::Bool(true)).as_bool(),
            When::IsSkipped(need) => Some(is_skipped(need)),
            When::IsNotSkipped(need) => Some(!is_skipped(need)),
            When::Longer(need) => self.value(*need, "list.json")?.as_array().map(|list| list.len() > 1),
            When::Wrong => None,
        }
    }

    /// What a layer left under this name, as a value: a list of a foreach layer.
    fn value(&self, layer: u32, name: &str) -> Option<Value> {
        let row = &self.rows[layer as usize];
        if row.phase == Phase::Skipped {
            return None;
        }
        let parse = |text: &String| serde_json::from_str(text).ok();
        let values = row.active().iter().filter_map(|line| line.left.get(name)).map(parse);
        let mut values = values.collect::<Option<Vec<Value>>>()?;
        if self.case.shapes[layer as usize].is_foreach() { Some(values.into()) } else { values.pop() }
    }

    fn key_values(&self, keys: &Keys) -> Option<KeyValues> {
        Some(match keys {
            Keys::Literal(many) => ((0..*many).map(|at| literal(at).into()).collect(), None),
            Keys::Items(need) => (self.value(*need, "list.json")?.as_array()?.clone(), None),
            Keys::Whole(need) => (vec![self.value(*need, "size.json")?], None),
            Keys::Entries(need) => {
                let row = &self.rows[*need as usize];
                if row.phase == Phase::Skipped {
                    return None;
                }
                let left = row.active()[0].left.keys();
                let entries = left.filter(|path| path.starts_with("folder/") && !path.ends_with('/'));
                (entries.map(|path| format!("{INPUTS}/L{need}/{path}").into()).collect(), None)
            }
            Keys::Over(need, name) if name == "flag" => {
                (self.value(*need, "flag.json")?.as_array()?.clone(), Some(*need))
            }
            Keys::Over(need, name) => {
                let row = &self.rows[*need as usize];
                if row.phase == Phase::Skipped {
                    return None;
                }
                let path = |index: usize| format!("{INPUTS}/L{need}/{name}/{}", number(index, row.count)).into();
                ((0..row.count).map(path).collect(), Some(*need))
            }
        })
    }

    /// The values of a split, as one sees them who has its inputs there.
    pub(crate) fn each(&self, layer: u32, index: u32, inputs: &str) -> Option<BTreeMap<String, Value>> {
        let each = self.rows[layer as usize].each.as_ref()?;
        let mut values = BTreeMap::new();
        let mut rest = index as usize;
        for dimension in each.dimensions.iter().rev() {
            let many = dimension.keys[0].values.len();
            for key in &dimension.keys {
                let value = match &key.values[rest % many] {
                    Value::String(text) => text.replace(INPUTS, inputs).into(),
                    other => other.clone(),
                };
                values.insert(key.name.to_string(), value);
            }
            rest /= many;
        }
        Some(values)
    }

    /// The words of an attempt.
    pub(crate) fn words(&self, (layer, index, attempt): (u32, u32, u32), inputs: &str) -> Vec<String> {
        let each = self.each(layer, index, inputs).unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let left = |need: u32, name: &str| self.value(need, name).map_or("none".to_owned(), text);
        let words = self.case.shapes[layer as usize].words.iter().map(|word| match word {
            Word::Index => index.to_string(),
            Word::Splits => self.rows[layer as usize].count.to_string(),
            Word::Attempt => attempt.to_string(),
            Word::Each(name) => each.get(name).cloned().map(text).unwrap_or_default(),
            Word::State(need) => self.word(*need).to_owned(),
            Word::Flag(need) => left(*need, "flag.json"),
            Word::Sizes(need) => left(*need, "size.json"),
            Word::Mood => self.mood.clone(),
        });
        std::iter::once("true".to_owned()).chain(words).collect()
    }

    /// The state of a layer that has settled well.
    fn word(&self, layer: u32) -> &'static str {
        let row = &self.rows[layer as usize];
        let lines = row.active();
        match row.phase {
            Phase::Skipped => "skipped",
            _ if lines.iter().any(|line| line.caught) => "caught",
            _ if !lines.is_empty() && lines.iter().all(|line| line.cached) => "cached",
            _ => "finished",
        }
    }

    /// The cores and the memory that an attempt asks for, if that can be known.
    pub(crate) fn asks_for(&self, (layer, index, attempt): (u32, u32, u32)) -> Option<(u64, u64)> {
        let shape = &self.case.shapes[layer as usize];
        let container = &self.case.flow.layer(LayerId(layer)).container;
        let number = |size: &Size, of_each: u64, of_attempt: u64, huge: u64| match size {
            Size::Attempt => Some(of_attempt * u64::from(attempt)),
            Size::Each(name) => self.each(layer, index, "")?.get(name)?.as_u64().map(|value| of_each * value),
            Size::Left(need) => self.value(*need, "size.json")?.as_u64(),
            Size::Huge => Some(huge * u64::from(attempt)),
        };
        let memory = match &shape.memory {
            Some(size) => number(size, 10, 100, 8_000_000 << 10)? << 20,
            None => container.memory.unwrap_or(0),
        };
        let cpu = match &shape.cpu {
            Some(size) => number(size, 1, 1, 8_000_000)? * 1000,
            None => container.cpu_millis.unwrap_or(0),
        };
        Some((cpu, memory))
    }

    /// Whether what attempts ask for has a value.
    fn can_be_sized(&self, layer: u32) -> bool {
        let shape = &self.case.shapes[layer as usize];
        let has_value = |size: &Size| match size {
            Size::Left(need) => self.value(*need, "size.json").is_some(),
            _ => true,
        };
        shape.memory.iter().chain(&shape.cpu).all(has_value)
    }

    /// What a layer's needs have left, by the names of views; folders end with `/`.
    pub(crate) fn inputs(&self, layer: u32) -> BTreeMap<String, Files> {
        let needs = self.case.plan.needs(LayerId(layer)).iter();
        let left = needs.map(|need| (format!("L{}", need.0), self.view(need.0)));
        left.filter(|(_, left)| !left.is_empty()).collect()
    }

    fn view(&self, layer: u32) -> Files {
        let row = &self.rows[layer as usize];
        if row.phase != Phase::Open {
            return Files::new();
        }
        if !self.case.shapes[layer as usize].is_foreach() {
            return row.active()[0].left.clone();
        }
        let mut files = Files::new();
        if row.count == 0 {
            let promised = self.case.flow.layer(LayerId(layer)).outputs.iter().flatten();
            files.extend(promised.map(|name| (format!("{name}/"), String::new())));
        }
        for (index, line) in row.active().iter().enumerate() {
            for (path, text) in &line.left {
                let (name, rest) =
                    path.split_once('/').map_or((path.as_str(), None), |(name, rest)| (name, Some(rest)));
                let rest = rest.map_or(String::new(), |rest| format!("/{rest}"));
                files.insert(format!("{name}/"), String::new());
                files.insert(format!("{name}/{}{rest}", number(index, row.count)), text.clone());
            }
        }
        files
    }

    /// What an attempt leaves that leaves all.
    pub(crate) fn leaves(&self, key: (u32, u32, u32)) -> Files {
        let (layer, index, _) = key;
        let row = &self.rows[layer as usize];
        // What is cached is the same whenever it runs; the rest is not.
        let published = if self.case.shapes[layer as usize].cached { 0 } else { row.lines[index as usize].published };
        let mut read = self.words(key, "$");
        read.extend(self.case.shapes[layer as usize].sourced.then(|| self.source.clone()));
        read.extend(self.each(layer, index, "$").map(|each| format!("{each:?}")));
        for files in self.inputs(layer).into_values() {
            files.into_iter().for_each(|(path, text)| read.extend([path, text]));
        }
        let mut left = Files::new();
        for name in &self.case.parts[layer as usize].names {
            content(self.case.seed, (layer, index, published), name, &read, &mut left);
        }
        left
    }

    /// Whether a layer has settled well.
    pub(crate) fn is_well(&self, layer: u32) -> bool {
        let row = &self.rows[layer as usize];
        match row.phase {
            Phase::Skipped => true,
            Phase::Open => row.active().iter().all(|line| line.stage == Stage::Good),
            Phase::Shut | Phase::Failed => false,
        }
    }

    /// What each layer's end is when nothing disturbs it, as far as can be told from what its needs have left: whether it is
    /// good.
    pub(crate) fn finishers(&self) -> Vec<bool> {
        let mut finishes = vec![false; self.rows.len()];
        for id in self.case.order.iter().copied() {
            let needs = self.case.plan.needs(id);
            let shape = &self.case.shapes[id.at()];
            let bereft = needs.iter().any(|need| self.rows[need.at()].phase == Phase::Skipped);
            finishes[id.at()] = needs.iter().all(|need| finishes[need.at()])
                // Its splits are not known as long as what it needs has not settled.
                && needs.iter().all(|need| self.is_well(need.0))
                && match self.decides(id.0) {
                    _ if bereft && shape.when.is_none() => true,
                    Decided::Fail => false,
                    Decided::Skip => true,
                    Decided::Open(each) => {
                        let splits = each.map_or(1, |each| each.splits().unwrap_or(0));
                        splits == 0
                            || self.can_be_sized(id.0) && (0..splits).all(|index| self.case.can_finish(id, index))
                    }
                };
        }
        finishes
    }

    /// What a resume has decided of a layer stays, so whether it is skipped must follow from what its needs left only if they
    /// did not run again; they do that together.
    pub(crate) fn check_fates(&self) -> Result<(), String> {
        for id in self.case.order.iter().copied() {
            let (row, needs) = (&self.rows[id.at()], self.case.plan.needs(id));
            if !self.is_well(id.0) || !needs.iter().all(|need| self.is_well(need.0)) {
                continue;
            }
            let bereft = needs.iter().any(|need| self.rows[need.at()].phase == Phase::Skipped);
            let asked = self.case.shapes[id.at()].when.is_some();
            let expected = if bereft && !asked { Decided::Skip } else { self.decides(id.0) };
            let found = match row.phase {
                Phase::Skipped => Decided::Skip,
                _ => Decided::Open(row.each.as_deref().cloned()),
            };
            if found != expected {
                return Err(format!("L{} is {found:?}, and should be {expected:?}", id.0));
            }
        }
        Ok(())
    }
}

/// An index as folders have it.
fn number(index: usize, splits: usize) -> String {
    let width = splits.saturating_sub(1).to_string().len();
    format!("{index:0width$}")
}

/// How the simulated datastore names what is left: files, and folders of files.
pub(crate) fn artifacts(left: &Files) -> Vec<Artifact> {
    let tops = left.keys().filter(|path| path.find('/').is_none_or(|at| at + 1 == path.len()));
    let artifact = |path: &String| {
        let text = object(left, path);
        let digest = Digest::of(text.as_bytes());
        match path.strip_suffix('/') {
            Some(name) => {
                let entries = folder(&text).len() as u64;
                let content = Content::Folder { manifest: digest, entries, size: text.len() as u64 };
                Artifact { name: name.to_owned(), content }
            }
            None => Artifact { name: path.clone(), content: Content::File { digest, size: text.len() as u64 } },
        }
    };
    let mut artifacts: Vec<Artifact> = tops.map(artifact).collect();
    artifacts.sort_by(|one, other| one.name.cmp(&other.name));
    artifacts
}

/// The bytes of an artifact: of a folder, what is in it.
pub(crate) fn object(left: &Files, top: &str) -> Arc<str> {
    if !top.ends_with('/') {
        return left[top].as_str().into();
    }
    let within = left.iter().filter_map(|(path, text)| Some((path.strip_prefix(top)?, text)));
    let within: BTreeMap<&str, &String> = within.filter(|(path, _)| !path.is_empty()).collect();
    format!("folder {}", serde_json::to_string(&within).unwrap()).into()
}

/// What is in a folder, by what the datastore keeps of it.
pub(crate) fn folder(text: &str) -> Files {
    text.strip_prefix("folder ").map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
}
