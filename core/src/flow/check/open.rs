//! Settings that hold expressions: what parameters decide is settled here, the rest is each attempt's own.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Step::{self, Key, Nth};
use super::{Check, Part};
use crate::container::Container;
use crate::flow::raw;
use crate::flow::shaping::Open;
use crate::flow::shaping::Written;
use crate::units;

/// The keys of a `container` block, and of what is in it, that can hold expressions.
const KEYS: [&str; 16] = [
    "image",
    "cpu",
    "memory",
    "gpus",
    "workdir",
    "user",
    "network",
    "mounts",
    "entrypoint",
    "pids_limit",
    "cap_add",
    "cap_drop",
    "platform",
    "shm_size",
    "options",
    "source",
];

impl Check<'_> {
    /// `base`, with what `raw` says instead, but for what holds expressions that parameters do not decide: that is added to
    /// `open`, in the place of what is there.
    pub(super) fn open_container(
        &mut self,
        raw: &raw::Container,
        base: &Container,
        open: &mut Open,
        here: &[Step],
    ) -> Container {
        let Ok(Value::Object(said)) = serde_json::to_value(raw) else { return self.container(raw, base, here) };
        open.container.retain(|(key, _)| !said.contains_key(key));
        if !KEYS.iter().any(|key| said.get(*key).is_some_and(has_expression)) {
            return self.container(raw, base, here);
        }
        let (mut settled, mut base) = (Map::new(), base.clone());
        for (key, value) in said {
            let Some(known) = KEYS.iter().find(|known| **known == key).filter(|_| has_expression(&value)) else {
                settled.insert(key, value);
                continue;
            };
            let before = self.findings.len();
            let written = self.written(value, &[here, &[Key(known)]].concat());
            match written {
                _ if self.findings.len() > before => {}
                Written::Plain(value) => drop(settled.insert(key, value)),
                written => {
                    clear(&mut base, known);
                    open.container.push((key, written));
                }
            }
        }
        match serde_json::from_value::<raw::Container>(Value::Object(settled)) {
            Ok(settled) => self.container(&settled, &base, here),
            Err(error) => {
                self.find(error.to_string(), None, here.to_vec(), Part::Value);
                base
            }
        }
    }

    /// A value whose expressions are compiled; those that parameters decide have their values.
    fn written(&mut self, value: Value, steps: &[Step]) -> Written {
        match value {
            Value::String(text) if text.contains("${{") => {
                let template = self.template(&text, steps);
                match template.settled(&self.known.names.parameters) {
                    None => Written::Text(template),
                    Some(Ok(text)) => Written::Plain(Value::String(text)),
                    Some(Err(error)) => {
                        self.find(error.to_string(), None, steps.to_vec(), Part::Value);
                        Written::Plain(Value::Null)
                    }
                }
            }
            Value::Array(items) => {
                let written = |(at, item)| self.written(item, &[steps, &[Nth(at)]].concat());
                let items: Vec<Written> = items.into_iter().enumerate().map(written).collect();
                match items.iter().map(plain).collect::<Option<Vec<_>>>() {
                    Some(values) => Written::Plain(Value::Array(values)),
                    None => Written::List(items),
                }
            }
            Value::Object(entries) => {
                let written = |(at, (name, item))| (name, self.written(item, &[steps, &[Nth(at)]].concat()));
                let entries: Vec<(String, Written)> = entries.into_iter().enumerate().map(written).collect();
                let values = entries.iter().map(|(name, item)| Some((name.clone(), plain(item)?)));
                match values.collect::<Option<Map<_, _>>>() {
                    Some(values) => Written::Plain(Value::Object(values)),
                    None => Written::Map(entries),
                }
            }
            value => Written::Plain(value),
        }
    }

    /// The timeout, unless it holds an expression that parameters do not decide: then it is in `open`.
    pub(super) fn open_timeout(
        &mut self,
        raw: Option<&raw::Duration>,
        open: &mut Open,
        here: &[Step],
    ) -> Option<Duration> {
        let text = raw?.0.as_str();
        open.timeout = None;
        let steps = [here, &[Key("timeout")]].concat();
        if !text.contains("${{") {
            return self.timeout(text, &steps);
        }
        let before = self.findings.len();
        let template = self.template(text, &steps);
        match template.settled(&self.known.names.parameters) {
            _ if self.findings.len() > before => {}
            None => open.timeout = Some(template),
            Some(Ok(text)) => return self.timeout(&text, &steps),
            Some(Err(error)) => self.find(error.to_string(), None, steps, Part::Value),
        }
        None
    }

    fn timeout(&mut self, text: &str, steps: &[Step]) -> Option<Duration> {
        let timeout = self.take(units::duration(text), || steps.to_vec())?;
        if timeout.is_zero() {
            let hint = Some("leave it out for no timeout".to_owned());
            self.find("a timeout of zero", hint, steps.to_vec(), Part::Value);
        }
        Some(timeout)
    }
}

/// A container with what an attempt says of it; the first thing that is wrong.
pub(in crate::flow) fn settle(base: &Container, said: Map<String, Value>) -> Result<Container, String> {
    let raw: raw::Container = serde_json::from_value(Value::Object(said)).map_err(|error| error.to_string())?;
    let mut check = Check { findings: Vec::new(), known: Default::default(), searched: 0 };
    let container = check.container(&raw, base, &[]);
    match check.findings.into_iter().next() {
        None => Ok(container),
        Some(finding) => Err(match finding.hint {
            Some(hint) => format!("{} ({hint})", finding.message),
            None => finding.message,
        }),
    }
}

fn has_expression(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${{"),
        Value::Array(items) => items.iter().any(has_expression),
        Value::Object(entries) => entries.values().any(has_expression),
        _ => false,
    }
}

fn plain(written: &Written) -> Option<Value> {
    match written {
        Written::Plain(value) => Some(value.clone()),
        _ => None,
    }
}

/// What each attempt says itself is not said for all.
fn clear(container: &mut Container, key: &str) {
    match key {
        "image" => container.image = None,
        "cpu" => container.cpu_millis = None,
        "memory" => container.memory = None,
        "gpus" => container.gpus = None,
        "workdir" => container.workdir = None,
        "user" => container.user = None,
        "network" => container.network = None,
        "mounts" => container.mounts.clear(),
        "entrypoint" => container.entrypoint = None,
        "pids_limit" => container.pids_limit = None,
        "cap_add" => container.cap_add.clear(),
        "cap_drop" => container.cap_drop.clear(),
        "platform" => container.platform = None,
        "shm_size" => container.shm_size = None,
        "options" => container.options.clear(),
        _ => {}
    }
}
