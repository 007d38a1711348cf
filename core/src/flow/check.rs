//! From a flow file as it is written to a [`Flow`]: names resolved, defaults merged, units parsed, expressions compiled.
//!
//! It is unaware of the file's text. What is wrong is addressed by a path of keys and places in lists, which costs nothing
//! as long as nothing is wrong; [`locate`](super::locate) finds the bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::container::Container;
use crate::flow::expression::{Flaw, Known};
use crate::flow::name::Site;
use crate::flow::raw::{self, Outline, Text};
use crate::flow::{Cache, Flow, Layer, LayerLimits, OnFailure, Open, Retry, Secret, Template};
use crate::id::LayerId;
use crate::units::{Wrong, clip, closest};

mod command;
mod container;
mod limits;
mod open;
mod parameters;
mod retry;
mod secrets;
mod shaping;

pub(super) use open::settle;

/// Names that expressions need for themselves.
const RESERVED: [&str; 23] = [
    "Parameters",
    "parameters",
    "each",
    "env",
    "execution",
    "attempt",
    "index",
    "splits",
    "program",
    "LAMINAR",
    "true",
    "True",
    "false",
    "False",
    "none",
    "None",
    "not",
    "and",
    "or",
    "in",
    "is",
    "if",
    "else",
];
/// What stands for the newest execution where a layer could be named too.
const LATEST: &str = "latest";
/// The longest identifier.
const LONGEST_NAME: usize = 128;
/// The most names that are searched for the one that was meant: all names for one mistake, few for thousands.
const SEARCHED: usize = 2_000_000;

/// A step from a value to one within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the value of a key.
    Key(&'static str),
    /// To an item of a list or the value of an entry of a map, by its place.
    Nth(usize),
}

/// Which part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
    /// These bytes of its text.
    Inside(Range<usize>),
}

/// A place in a flow file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The way there.
    pub(super) steps: Vec<Step>,
    /// What there.
    pub(super) part: Part,
    /// What to write beside it.
    pub(super) label: String,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: Option<String>,
    /// Where; the first is the main one.
    pub(super) at: Vec<Address>,
    /// Something is not there. No news where something was taken out.
    pub(super) absence: bool,
}

use Step::{Key, Nth};

/// The way to something in a layer.
pub(super) fn in_layer(layer: LayerId, rest: &[Step]) -> Vec<Step> {
    [&[Key("layers"), Nth(layer.at())], rest].concat()
}

/// Checks a whole file. `read` gives its layers away, in their order; what keeps it from that is told before any finding.
pub(super) fn check<E>(
    file: &raw::File<Outline>,
    overrides: &[(String, String)],
    read: impl FnOnce(&mut dyn FnMut(raw::Layer)) -> Result<(), E>,
) -> Result<Result<Flow, Vec<Finding>>, E> {
    let outlines = &file.layers.0;
    let mut check = Check { findings: Vec::new(), known: Known::default(), searched: 0 };
    check.known.names.layers.reserve(outlines.len());
    check.identifier("a flow's name", file.flow.as_str(), &[Key("flow")], Part::Value);
    check.parameters(file.parameters.as_ref(), overrides);
    for (at, (name, _)) in outlines.iter().enumerate() {
        check.known.names.layers.insert(name, layer_id(at));
    }
    if outlines.is_empty() {
        check.absent(
            "a flow needs at least one layer",
            "for example `Hello: { run: echo hello }`",
            vec![Key("layers")],
        );
    }
    check.known.names.secrets = secrets::variables(file);
    let max_parallel = check.max_parallel(file.max_parallel, &[]);
    let backends = check.backends(file.backends.as_ref());
    let backend = file.defaults.as_ref().and_then(|defaults| defaults.backend.as_ref());
    let backend = check.backend(backend, &[Key("defaults")]);
    let defaults = check.defaults(file.defaults.as_ref());
    let mut layers = Vec::with_capacity(outlines.len());
    read(&mut |layer| {
        let name = outlines.get(layers.len()).map_or("", |(name, _)| name);
        layers.push(check.layer(layer_id(layers.len()), name, &layer, &defaults));
    })?;
    if !check.findings.is_empty() {
        return Ok(Err(check.findings));
    }
    let on_failure = match file.on_failure {
        Some(raw::OnFailure::Continue) => OnFailure::Continue,
        Some(raw::OnFailure::Stop) | None => OnFailure::Stop,
    };
    let name = file.flow.as_str().into();
    let parameters = Arc::new(check.known.names.parameters);
    Ok(Ok(Flow { name, parameters, layers, on_failure, max_parallel, backend, backends, answers: None }))
}

fn layer_id(at: usize) -> LayerId {
    LayerId(u32::try_from(at).unwrap_or(u32::MAX))
}

/// `defaults`, checked.
struct Defaults {
    container: Arc<Container>,
    open: Open,
    cache: Option<Arc<Cache>>,
    container_env: Vec<(String, Template)>,
    env: Vec<(String, Template)>,
    /// Those of a layer that has none of its own.
    all_env: Arc<[(String, Template)]>,
    retry: Arc<Retry>,
    timeout: Option<Duration>,
    catch: Arc<[i32]>,
    limits: Arc<LayerLimits>,
    secrets: Arc<[Secret]>,
    shell: Arc<[String]>,
}

struct Check<'r> {
    findings: Vec<Finding>,
    known: Known<'r>,
    searched: usize,
}

impl<'r> Check<'r> {
    fn find(&mut self, message: impl Into<String>, hint: Option<String>, steps: Vec<Step>, part: Part) {
        let at = vec![Address { steps, part, label: String::new() }];
        self.findings.push(Finding { message: message.into(), hint, at, absence: false });
    }

    fn absent(&mut self, message: impl Into<String>, hint: &str, steps: Vec<Step>) {
        self.find(message, Some(hint.to_owned()), steps, Part::Key);
        if let Some(finding) = self.findings.last_mut() {
            finding.absence = true;
        }
    }

    /// A value, or a finding.
    fn take<T>(&mut self, value: Result<T, Wrong>, steps: impl FnOnce() -> Vec<Step>) -> Option<T> {
        value.map_err(|wrong| self.find(wrong.message, wrong.hint, steps(), Part::Value)).ok()
    }

    fn flaws(&mut self, flaws: Vec<Flaw>, steps: &[Step]) {
        for flaw in flaws {
            self.find(flaw.message, flaw.hint, steps.to_vec(), Part::Inside(flaw.span));
        }
    }

    fn identifier(&mut self, what: &str, name: &str, steps: &[Step], part: Part) {
        let letters = "use letters, digits and `_`, and no digit first".to_owned();
        if name.len() > LONGEST_NAME {
            let message = format!("{what} has {} bytes, more than {LONGEST_NAME}", name.len());
            self.find(message, Some("choose a shorter one".to_owned()), steps.to_vec(), part);
        } else if name.is_empty() {
            self.find(format!("{what} must not be empty"), Some(letters), steps.to_vec(), part);
        } else if name.starts_with(|c: char| c.is_ascii_digit())
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let hint = mended(name).map(|name| format!("for example `{name}`: {letters}")).unwrap_or(letters);
            self.find(format!("{what} cannot be `{}`", clip(name)), Some(hint), steps.to_vec(), part);
        }
    }

    fn defaults(&mut self, raw: Option<&raw::Defaults>) -> Defaults {
        let here = [Key("defaults")];
        let shell = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Arc<[String]>>();
        let mut defaults = Defaults {
            container: Arc::default(),
            open: Open::default(),
            cache: None,
            container_env: Vec::new(),
            env: Vec::new(),
            all_env: Arc::default(),
            retry: Arc::default(),
            timeout: None,
            catch: Arc::default(),
            limits: Arc::default(),
            secrets: Arc::default(),
            shell: shell(&["sh", "-e", "-c"]),
        };
        let Some(raw) = raw else { return defaults };
        if let Some(container) = &raw.container {
            let steps = [Key("defaults"), Key("container")];
            let empty = Container::default();
            defaults.container = Arc::new(self.open_container(container, &empty, &mut defaults.open, &steps));
            self.env(container.env.as_ref(), &mut defaults.container_env, &[&steps[..], &[Key("env")]].concat());
        }
        self.env(raw.env.as_ref(), &mut defaults.env, &[Key("defaults"), Key("env")]);
        let mut all_env = defaults.container_env.clone();
        command::set_all(&mut all_env, &defaults.env);
        defaults.all_env = all_env.into();
        defaults.retry = self.retry(raw.retry.as_ref(), &defaults.retry, &here);
        defaults.timeout = self.open_timeout(raw.timeout.as_ref(), &mut defaults.open, &here);
        defaults.cache = self.cache(raw.cache.as_ref(), &here).flatten();
        defaults.catch = self.catch(raw.catch.as_deref(), &here).unwrap_or_default();
        defaults.limits = self.limits(raw.limits.as_ref(), &defaults.limits, &here);
        defaults.secrets = self.secrets(raw.secrets.as_deref(), &here).unwrap_or_default();
        defaults.shell = self.shell(raw.shell.as_deref(), &here).unwrap_or(defaults.shell);
        defaults
    }

    fn layer(&mut self, id: LayerId, name: &str, raw: &raw::Layer, defaults: &Defaults) -> Layer {
        let here = [Key("layers"), Nth(id.at())];
        self.identifier("a layer's name", name, &here, Part::Key);
        if name == LATEST {
            let hint = "choose another; on the command line it is the newest execution".to_owned();
            self.find(format!("a layer cannot be named `{name}`"), Some(hint), here.to_vec(), Part::Key);
        }
        if RESERVED.contains(&name) {
            let hint = "choose another; expressions need this one for themselves".to_owned();
            self.find(format!("a layer cannot be named `{name}`"), Some(hint), here.to_vec(), Part::Key);
        }
        self.known.names.site = Site::Whole { key: "foreach", layer: id };
        let foreach = raw.foreach.as_ref().and_then(|foreach| self.foreach(foreach, &here));
        self.known.names.site = Site::Whole { key: "when", layer: id };
        let when = raw.when.as_ref().and_then(|when| self.when(when, &here));
        self.known.names.site = Site::Attempt { layer: id, each: each_names(raw) };
        let mut open = defaults.open.clone();
        let container = match &raw.container {
            Some(own) => {
                let steps = [here[0], here[1], Key("container")];
                Arc::new(self.open_container(own, &defaults.container, &mut open, &steps))
            }
            None => Arc::clone(&defaults.container),
        };
        let env = self.layer_env(raw, defaults, &here);
        let retry = self.retry(raw.retry.as_deref(), &defaults.retry, &here);
        self.retry_fits(raw, &retry, &container, &open, &here);
        let timeout = match &raw.timeout {
            Some(own) => self.open_timeout(Some(own), &mut open, &here),
            None => defaults.timeout,
        };
        let command = self.command(raw, defaults, &here);
        let mut needs = self.needs(id, name, raw.needs.as_deref().unwrap_or_default());
        self.known.names.site = Site::Defaults;
        // A reference makes the dependency.
        for named in std::mem::take(&mut self.known.named) {
            if !needs.contains(&named) {
                needs.push(named);
            }
        }
        let is_open = !open.container.is_empty() || open.timeout.is_some();
        Layer {
            name: name.into(),
            needs,
            command,
            env,
            outputs: raw.outputs.as_ref().map(|outputs| self.outputs(outputs, &here)),
            container,
            retry,
            timeout,
            catch: self.catch(raw.catch.as_deref(), &here).unwrap_or_else(|| Arc::clone(&defaults.catch)),
            limits: self.limits(raw.limits.as_deref(), &defaults.limits, &here),
            secrets: self.secrets(raw.secrets.as_deref(), &here).unwrap_or_else(|| Arc::clone(&defaults.secrets)),
            backend: self.backend(raw.backend.as_ref(), &here),
            when: when.map(Box::new),
            foreach: foreach.map(Box::new),
            max_parallel: self.max_parallel(raw.max_parallel, &here),
            open: is_open.then(|| Arc::new(open)),
            cache: self.cache(raw.cache.as_ref(), &here).unwrap_or_else(|| defaults.cache.clone()),
            retired: false,
        }
    }

    /// Which backends there are is known to nobody here; see [`super::backend`].
    fn backend(&mut self, raw: Option<&Text>, here: &[Step]) -> Option<Arc<str>> {
        let name = raw?.as_str();
        self.no_expression("backend", name, || [here, &[Key("backend")]].concat());
        Some(name.into())
    }

    fn backends(&mut self, raw: Option<&raw::Pairs<raw::Pairs<Text>>>) -> Vec<(String, Vec<(String, String)>)> {
        let mut all = Vec::new();
        for (at, (name, options)) in raw.iter().flat_map(|pairs| &pairs.0).enumerate() {
            for (nth, (_, value)) in options.0.iter().enumerate() {
                self.no_expression("backends", value.as_str(), || vec![Key("backends"), Nth(at), Nth(nth)]);
            }
            let options = options.0.iter().map(|(name, value)| (name.clone(), value.as_str().to_owned()));
            all.push((name.clone(), options.collect()));
        }
        all
    }

    fn needs(&mut self, id: LayerId, name: &str, raw: &[Text]) -> Vec<LayerId> {
        let mut needs: Vec<LayerId> = Vec::with_capacity(raw.len());
        let mut seen: HashMap<LayerId, usize> = HashMap::new();
        for (at, needed) in raw.iter().enumerate() {
            let steps = || in_layer(id, &[Key("needs"), Nth(at)]);
            match self.known.names.layers.get(needed.as_str()) {
                None => {
                    let hint = self.layer_meant(needed.as_str());
                    self.find(format!("unknown layer `{}`", clip(needed.as_str())), hint, steps(), Part::Value);
                }
                Some(found) if *found == id => {
                    self.find(format!("`{name}` needs itself"), Some("remove it".to_owned()), steps(), Part::Value);
                }
                Some(found) => match seen.insert(*found, at) {
                    None => needs.push(*found),
                    Some(first) => {
                        let hint = Some("remove one".to_owned());
                        self.find(format!("`{name}` needs `{}` twice", needed.as_str()), hint, steps(), Part::Value);
                        let steps = in_layer(id, &[Key("needs"), Nth(first)]);
                        self.also(Address { steps, part: Part::Value, label: "first here".to_owned() });
                    }
                },
            }
        }
        needs
    }

    fn also(&mut self, address: Address) {
        if let Some(finding) = self.findings.last_mut() {
            finding.at.push(address);
        }
    }

    fn layer_meant(&mut self, name: &str) -> Option<String> {
        self.searched += self.known.names.layers.len();
        if self.searched > SEARCHED.max(self.known.names.layers.len() + 1) {
            return None;
        }
        // The order of a hash map changes from run to run; the answer must not.
        let mut names: Vec<&str> = self.known.names.layers.keys().copied().collect();
        names.sort_unstable();
        closest(name, names.into_iter()).map(|near| format!("did you mean `{near}`?"))
    }

    fn catch(&mut self, raw: Option<&[i64]>, here: &[Step]) -> Option<Arc<[i32]>> {
        let mut codes = Vec::new();
        for (at, code) in raw?.iter().enumerate() {
            match i32::try_from(*code) {
                Ok(code) if (1..=255).contains(&code) => codes.push(code),
                _ => {
                    let hint = Some("exit codes of failures are 1 to 255".to_owned());
                    let steps = [here, &[Key("catch"), Nth(at)]].concat();
                    self.find(format!("exit code {code} cannot be caught"), hint, steps, Part::Value);
                }
            }
        }
        Some(codes.into())
    }

    fn outputs(&mut self, raw: &[Text], here: &[Step]) -> Vec<String> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (at, name) in raw.iter().enumerate() {
            let name = name.as_str();
            let steps = |at| [here, &[Key("outputs"), Nth(at)]].concat();
            if name.is_empty()
                || name.len() > 255
                || matches!(name, "." | "..")
                || name.contains(['/', '\0'])
                || name.chars().any(char::is_control)
            {
                let hint = Some("write the name of an entry of `$LAMINAR_OUTPUTS`: no path".to_owned());
                self.find(format!("`{}` is not a plain file name", clip(name)), hint, steps(at), Part::Value);
            } else if name.contains(['*', '?']) {
                let hint = Some("no patterns; name a file or a folder".to_owned());
                self.find(format!("output `{}` is a pattern", clip(name)), hint, steps(at), Part::Value);
            } else if let Some(first) = seen.insert(name, at) {
                let hint = Some("remove one".to_owned());
                self.find(format!("output `{}` twice", clip(name)), hint, steps(at), Part::Value);
                self.also(Address { steps: steps(first), part: Part::Value, label: "first here".to_owned() });
            }
            self.no_expression("outputs", name, || steps(at));
        }
        raw.iter().map(|name| name.as_str().to_owned()).collect()
    }

    fn texts(&mut self, key: &str, raw: &[Text], steps: &[Step]) -> Vec<String> {
        for (at, text) in raw.iter().enumerate() {
            let steps = || [steps, &[Nth(at)]].concat();
            self.plain(text.as_str(), "a text", &steps());
            self.no_expression(key, text.as_str(), steps);
        }
        raw.iter().map(|text| text.as_str().to_owned()).collect()
    }

    fn no_expression(&mut self, key: &str, text: &str, steps: impl FnOnce() -> Vec<Step>) {
        if let Some(start) = text.find("${{") {
            let hint = "expressions can stand in `run`, `command`, `env`, `container`, `timeout`, `when` and `foreach`";
            let hint = Some(hint.to_owned());
            let part = Part::Inside(start..start + 3);
            self.find(format!("an expression cannot stand in `{key}`"), hint, steps(), part);
        }
    }
}

/// The names of a layer's `foreach`.
fn each_names(raw: &raw::Layer) -> Vec<String> {
    raw.foreach.iter().flat_map(|pairs| &pairs.0).map(|(name, _)| name.clone()).collect()
}

/// A name with what is no letter or digit replaced, if that gives a good one.
fn mended(name: &str) -> Option<String> {
    let mended: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mended = mended.trim_matches('_').to_owned();
    (mended.starts_with(|c: char| c.is_ascii_alphabetic()) && name.is_ascii()).then_some(mended)
}
