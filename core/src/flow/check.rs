//! From a flow file as it is written to a [`Flow`]: names resolved, defaults merged, units parsed, expressions compiled.
//!
//! It is unaware of the file's text. What is wrong is addressed by a path of keys and places in lists, which costs nothing
//! as long as nothing is wrong; [`locate`](super::locate) finds the bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::container::{Container, Gpus, Mount, Pull};
use crate::executor::Cause;
use crate::flow::expression::{Flaw, Known};
use crate::flow::raw::{self, Text};
use crate::flow::retry;
use crate::flow::{Command, Failure, Flow, Layer, On, OnFailure, Retry, Script, Template};
use crate::id::LayerId;
use crate::units::{self, Wrong, clip, closest};

/// Names that expressions need for themselves.
const RESERVED: [&str; 9] =
    ["Parameters", "parameters", "each", "env", "execution", "attempt", "index", "splits", "LAMINAR"];
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

/// Checks a whole file.
pub(super) fn check(file: &raw::File, overrides: &[(String, String)]) -> Result<Flow, Vec<Finding>> {
    let layers = &file.layers.0;
    let mut check = Check { findings: Vec::new(), known: Known::default(), names: HashMap::new(), searched: 0 };
    check.names.reserve(layers.len());
    check.identifier("a flow's name", file.flow.as_str(), &[Key("flow")], Part::Value);
    check.parameters(file.parameters.as_ref(), overrides);
    for (at, (name, _)) in layers.iter().enumerate() {
        check.names.insert(name, layer_id(at));
    }
    if layers.is_empty() {
        check.absent(
            "a flow needs at least one layer",
            "for example `Hello: { run: echo hello }`",
            vec![Key("layers")],
        );
    }
    let max_parallel = file.max_parallel.and_then(|number| {
        let count = units::count("max_parallel", number, 1);
        check.take(count, || vec![Key("max_parallel")])
    });
    let backends = check.backends(file.backends.as_ref());
    let backend = file.defaults.as_ref().and_then(|defaults| defaults.backend.as_ref());
    let backend = check.backend(backend, &[Key("defaults")]);
    let defaults = check.defaults(file.defaults.as_ref());
    let layers: Vec<Layer> = layers
        .iter()
        .enumerate()
        .map(|(at, (name, layer))| check.layer(layer_id(at), name, layer, &defaults))
        .collect();
    if !check.findings.is_empty() {
        return Err(check.findings);
    }
    let on_failure = match file.on_failure {
        Some(raw::OnFailure::Continue) => OnFailure::Continue,
        Some(raw::OnFailure::Stop) | None => OnFailure::Stop,
    };
    let name = file.flow.as_str().into();
    let parameters = Arc::new(check.known.parameters);
    Ok(Flow { name, parameters, layers, on_failure, max_parallel, backend, backends })
}

fn layer_id(at: usize) -> LayerId {
    LayerId(u32::try_from(at).unwrap_or(u32::MAX))
}

/// `defaults`, checked.
struct Defaults {
    container: Arc<Container>,
    container_env: Vec<(String, Template)>,
    env: Vec<(String, Template)>,
    retry: Retry,
    timeout: Option<Duration>,
    catch: Vec<i32>,
    shell: Arc<[String]>,
}

struct Check<'r> {
    findings: Vec<Finding>,
    known: Known,
    names: HashMap<&'r str, LayerId>,
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

    fn parameters(&mut self, declared: Option<&raw::Pairs<raw::Json>>, overrides: &[(String, String)]) {
        for (at, (name, value)) in declared.iter().flat_map(|pairs| &pairs.0).enumerate() {
            self.identifier("a parameter's name", name, &[Key("parameters"), Nth(at)], Part::Key);
            self.known.parameters.insert(name.clone(), value.0.clone());
        }
        for (name, text) in overrides {
            let message = match self.known.parameters.get_mut(name) {
                None => format!("there is no parameter `{}`", clip(name)),
                Some(value) => match typed(value, text) {
                    Ok(new) => {
                        *value = new;
                        continue;
                    }
                    Err(expected) => format!("parameter `{name}` must be {expected}, but is `{}`", clip(text)),
                },
            };
            let hint =
                if self.known.parameters.contains_key(name) { None } else { Some(self.parameters_there_are(name)) };
            self.findings.push(Finding { message, hint, at: Vec::new(), absence: false });
        }
    }

    fn parameters_there_are(&self, name: &str) -> String {
        let names = || self.known.parameters.keys().map(String::as_str);
        let all = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match closest(name, names()) {
            Some(near) => format!("did you mean `{near}`? there are {all}"),
            None if all.is_empty() => "the flow declares no parameters".to_owned(),
            None => format!("there are {all}"),
        }
    }

    fn defaults(&mut self, raw: Option<&raw::Defaults>) -> Defaults {
        let here = [Key("defaults")];
        let shell = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Arc<[String]>>();
        let mut defaults = Defaults {
            container: Arc::default(),
            container_env: Vec::new(),
            env: Vec::new(),
            retry: Retry::default(),
            timeout: None,
            catch: Vec::new(),
            shell: shell(&["sh", "-e", "-c"]),
        };
        let Some(raw) = raw else { return defaults };
        if let Some(container) = &raw.container {
            let steps = [Key("defaults"), Key("container")];
            defaults.container = Arc::new(self.container(container, &Container::default(), &steps));
            self.env(container.env.as_ref(), &mut defaults.container_env, &[&steps[..], &[Key("env")]].concat());
        }
        self.env(raw.env.as_ref(), &mut defaults.env, &[Key("defaults"), Key("env")]);
        defaults.retry = self.retry(raw.retry.as_ref(), &Retry::default(), &here);
        defaults.timeout = self.timeout(raw.timeout.as_ref(), &here);
        defaults.catch = self.catch(raw.catch.as_deref(), &here).unwrap_or_default();
        defaults.shell = self.shell(raw.shell.as_deref(), &here).unwrap_or(defaults.shell);
        defaults
    }

    fn layer(&mut self, id: LayerId, name: &'r str, raw: &raw::Layer, defaults: &Defaults) -> Layer {
        let here = [Key("layers"), Nth(id.at())];
        self.identifier("a layer's name", name, &here, Part::Key);
        if RESERVED.contains(&name) {
            let hint = "choose another; expressions need this one for themselves".to_owned();
            self.find(format!("a layer cannot be named `{name}`"), Some(hint), here.to_vec(), Part::Key);
        }
        let container = match &raw.container {
            Some(own) => Arc::new(self.container(own, &defaults.container, &[here[0], here[1], Key("container")])),
            None => Arc::clone(&defaults.container),
        };
        let mut env = defaults.container_env.clone();
        if let Some(own) = raw.container.as_ref().and_then(|container| container.env.as_ref()) {
            self.env(Some(own), &mut env, &[here[0], here[1], Key("container"), Key("env")]);
        }
        for (name, value) in &defaults.env {
            set(&mut env, name, value.clone());
        }
        self.env(raw.env.as_ref(), &mut env, &[here[0], here[1], Key("env")]);
        let retry = self.retry(raw.retry.as_ref(), &defaults.retry, &here);
        self.retry_fits(raw, &retry, &container, &here);
        Layer {
            name: name.into(),
            needs: self.needs(id, name, raw.needs.as_deref().unwrap_or_default()),
            command: self.command(raw, defaults, &here),
            env,
            outputs: raw.outputs.as_ref().map(|outputs| self.outputs(outputs, &here)),
            container,
            retry,
            timeout: self.timeout(raw.timeout.as_ref(), &here).or(defaults.timeout),
            catch: self.catch(raw.catch.as_deref(), &here).unwrap_or_else(|| defaults.catch.clone()),
            backend: self.backend(raw.backend.as_ref(), &here),
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
            match self.names.get(needed.as_str()) {
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
        self.searched += self.names.len();
        if self.searched > SEARCHED.max(self.names.len() + 1) {
            return None;
        }
        // The order of a hash map changes from run to run; the answer must not.
        let mut names: Vec<&str> = self.names.keys().copied().collect();
        names.sort_unstable();
        closest(name, names.into_iter()).map(|near| format!("did you mean `{near}`?"))
    }

    fn command(&mut self, raw: &raw::Layer, defaults: &Defaults, here: &[Step; 2]) -> Command {
        let shell = self.shell(raw.shell.as_deref(), here).unwrap_or_else(|| Arc::clone(&defaults.shell));
        match (&raw.run, &raw.command) {
            (Some(_), Some(_)) => {
                let hint = Some("keep one: `run` is a shell script, `command` a program and its arguments".to_owned());
                self.find("both `run` and `command`", hint, [&here[..], &[Key("command")]].concat(), Part::Key);
                let steps = [&here[..], &[Key("run")]].concat();
                self.also(Address { steps, part: Part::Key, label: "and here".to_owned() });
            }
            (None, None) => {
                self.absent("neither `run` nor `command`", "say what the layer runs: `run: echo hello`", here.to_vec());
            }
            (Some(run), None) => {
                let steps = [here[0], here[1], Key("run")];
                return Command::Script { script: self.script(run.as_str(), &shell, &steps), shell };
            }
            (None, Some(command)) => {
                let steps = [here[0], here[1], Key("command")];
                return Command::Argv(self.argv(command, &steps));
            }
        }
        Command::Argv(Vec::new())
    }

    fn script(&mut self, text: &str, shell: &Arc<[String]>, steps: &[Step]) -> Script {
        if text.trim().is_empty() {
            let hint = Some("write a script, or `run: 'true'` for nothing at all".to_owned());
            self.find("an empty script", hint, steps.to_vec(), Part::Value);
        }
        self.plain(text, "a script", steps);
        let script = Script::parse(text, shell.first().map_or("", String::as_str), &mut self.known);
        script.unwrap_or_else(|flaws| {
            self.flaws(flaws, steps);
            Script::literal("")
        })
    }

    fn argv(&mut self, command: &[Text], steps: &[Step]) -> Vec<Template> {
        if command.first().is_none_or(|program| program.as_str().is_empty()) {
            let hint = Some("write a program and its arguments: `[python, train.py]`".to_owned());
            self.find("an empty command", hint, steps.to_vec(), Part::Value);
        }
        let argument = |(at, text): (usize, &Text)| {
            let steps = [steps, &[Nth(at)]].concat();
            self.plain(text.as_str(), "an argument", &steps);
            self.template(text.as_str(), &steps)
        };
        command.iter().enumerate().map(argument).collect()
    }

    fn template(&mut self, text: &str, steps: &[Step]) -> Template {
        Template::parse(text, &mut self.known).unwrap_or_else(|flaws| {
            self.flaws(flaws, steps);
            Template::literal("")
        })
    }

    /// What the kernel takes as an argument.
    fn plain(&mut self, text: &str, what: &str, steps: &[Step]) {
        if text.contains('\0') {
            self.find(format!("{what} cannot hold a NUL byte"), None, steps.to_vec(), Part::Value);
        }
        if text.len() > super::expression::LONGEST {
            let message = format!("{what} has {} bytes, more than the kernel takes (128 KiB)", text.len());
            self.find(
                message,
                Some("put it into a file, and run or read that".to_owned()),
                steps.to_vec(),
                Part::Value,
            );
        }
    }

    fn env(&mut self, raw: Option<&raw::Pairs<Text>>, env: &mut Vec<(String, Template)>, steps: &[Step]) {
        for (at, (name, value)) in raw.iter().flat_map(|pairs| &pairs.0).enumerate() {
            let here = [steps, &[Nth(at)]].concat();
            if name == "<<" {
                let hint = Some("there are no merge keys; write what layers share into `defaults`".to_owned());
                self.find("unknown key `<<`", hint, here.clone(), Part::Key);
            } else if name.is_empty() || name.contains(['=', '\0']) {
                let hint = Some("choose a name without `=`".to_owned());
                self.find(format!("a variable cannot be named `{}`", clip(name)), hint, here.clone(), Part::Key);
            } else if name.starts_with("LAMINAR_") {
                let hint = Some("choose a name that does not begin with `LAMINAR_`".to_owned());
                self.find(format!("`{}` is set by laminar itself", clip(name)), hint, here.clone(), Part::Key);
            }
            self.plain(value.as_str(), "a variable", &here);
            let value = self.template(value.as_str(), &here);
            set(env, name, value);
        }
    }

    fn shell(&mut self, raw: Option<&[Text]>, here: &[Step]) -> Option<Arc<[String]>> {
        let raw = raw?;
        let steps = [here, &[Key("shell")]].concat();
        if raw.first().is_none_or(|program| program.as_str().is_empty()) {
            let hint = Some("write a shell and its options: `[bash, -euo, pipefail, -c]`".to_owned());
            self.find("an empty shell", hint, steps.clone(), Part::Value);
        }
        Some(self.texts("shell", raw, &steps).into())
    }

    fn timeout(&mut self, raw: Option<&raw::Duration>, here: &[Step]) -> Option<Duration> {
        let steps = || [here, &[Key("timeout")]].concat();
        let timeout = self.take(units::duration(raw?.0.as_str()), steps)?;
        if timeout.is_zero() {
            self.find("a timeout of zero", Some("leave it out for no timeout".to_owned()), steps(), Part::Value);
        }
        Some(timeout)
    }

    fn catch(&mut self, raw: Option<&[i64]>, here: &[Step]) -> Option<Vec<i32>> {
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
        Some(codes)
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

    fn retry(&mut self, raw: Option<&raw::Retry>, base: &Retry, here: &[Step]) -> Retry {
        let mut retry = base.clone();
        let Some(raw) = raw else { return retry };
        let steps = |key| [here, &[Key("retry"), Key(key)]].concat();
        if let Some(attempts) = raw.attempts {
            let attempts = units::count("attempts", attempts, 1);
            retry.attempts = self.take(attempts, || steps("attempts")).unwrap_or(1);
        }
        if let Some(delay) = &raw.delay {
            retry.delay = self.take(units::duration(delay.0.as_str()), || steps("delay")).unwrap_or_default();
        }
        if let Some(backoff) = raw.backoff {
            retry.backoff = self.take(units::factor("backoff", backoff, 1.0), || steps("backoff")).unwrap_or(1.0);
        }
        if let Some(jitter) = raw.jitter {
            retry.jitter = self.take(units::factor("jitter", jitter, 0.0), || steps("jitter")).unwrap_or(0.0);
        }
        if let Some(delay) = &raw.max_delay {
            retry.max_delay = self.take(units::duration(delay.0.as_str()), || steps("max_delay"));
        }
        if let Some(only) = &raw.only {
            retry.only = Some(self.only(only, &steps("only")));
        }
        if let Some(factor) = &raw.memory {
            retry.memory = self.take(retry::factor(factor.0.as_str()), || steps("memory"));
        }
        if let Some(memory) = &raw.max_memory {
            retry.max_memory = self.take(units::memory("max_memory", memory.0.as_str()), || steps("max_memory"));
        }
        let grows = retry.memory.is_some() && (raw.memory.is_some() || raw.only.is_some());
        if grows && !retry.covers(Failure::Exit(&Cause::OutOfMemory)) {
            let key = if raw.only.is_some() { "only" } else { "memory" };
            let hint = Some("add `oom` to `only`, or remove `memory`".to_owned());
            let message = "`memory` grows after `oom`, which `only` does not name";
            self.find(message, hint, steps(key), Part::Key);
        }
        retry
    }

    fn only(&mut self, raw: &[Text], steps: &[Step]) -> Arc<[On]> {
        if raw.is_empty() {
            let hint = Some("name the ends after which to try again, or remove the key".to_owned());
            self.find("an empty `only`", hint, steps.to_vec(), Part::Value);
        }
        let entry = |(at, text): (usize, &Text)| self.take(retry::on(text.as_str()), || [steps, &[Nth(at)]].concat());
        raw.iter().enumerate().filter_map(entry).collect()
    }

    /// Whether what a layer's own `retry` says has an effect, beside what else holds for the layer.
    fn retry_fits(&mut self, raw: &raw::Layer, retry: &Retry, container: &Container, here: &[Step; 2]) {
        let Some(own) = &raw.retry else { return };
        let steps = || [here[0], here[1], Key("retry")].to_vec();
        let once = retry.attempts == 1 && own.attempts.is_none_or(|attempts| attempts == 1);
        if once && (own.only.is_some() || own.memory.is_some()) {
            let message = "with one attempt there is no other after it";
            self.absent(message, "say how many there are in all: `attempts: 3`", steps());
        }
        let said = raw.container.as_ref().is_some_and(|container| container.memory.is_some());
        if own.memory.is_some() && container.memory.is_none() && !said {
            let message = "memory grows from `container.memory`, which is not said";
            self.absent(message, "say what the first attempt gets: `container: { memory: 4GiB }`", steps());
        }
        let Some(most) = retry.max_memory.filter(|_| own.max_memory.is_some()) else { return };
        if retry.memory.is_none() && own.memory.is_none() {
            let message = "`max_memory` without `memory` has no effect";
            self.absent(message, "say by which factor memory grows: `memory: x2`", steps());
        } else if container.memory.is_some_and(|memory| memory > most) {
            let hint = Some("choose one that is larger".to_owned());
            let steps = [steps(), vec![Key("max_memory")]].concat();
            self.find("`max_memory` is less than `container.memory`", hint, steps, Part::Value);
        }
    }

    /// `base`, with what `raw` says instead.
    fn container(&mut self, raw: &raw::Container, base: &Container, here: &[Step]) -> Container {
        let mut container = base.clone();
        let steps = |key| [here, &[Key(key)]].concat();
        self.container_texts(raw, &mut container, here);
        self.container_lists(raw, &mut container, here);
        if let Some(cpu) = raw.cpu {
            container.cpu_millis = self.take(units::cpu(cpu), || steps("cpu"));
        }
        if let Some(memory) = &raw.memory {
            container.memory = self.take(units::memory("memory", memory.0.as_str()), || steps("memory"));
        }
        if let Some(size) = &raw.shm_size {
            container.shm_size = self.take(units::size(size.0.as_str()), || steps("shm_size"));
        }
        if let Some(limit) = raw.pids_limit {
            container.pids_limit = self.take(units::count("pids_limit", limit, 1), || steps("pids_limit"));
        }
        if let Some(gpus) = &raw.gpus {
            container.gpus = self.take(self::gpus(gpus.0.as_str()), || steps("gpus"));
        }
        if let Some(read_only) = raw.read_only {
            container.read_only = read_only;
        }
        container.pull = raw.pull.map_or(container.pull, |pull| {
            Some(match pull {
                raw::Pull::Always => Pull::Always,
                raw::Pull::Missing => Pull::Missing,
                raw::Pull::Never => Pull::Never,
            })
        });
        container.env |= raw.env.as_ref().is_some_and(|env| !env.0.is_empty());
        container
    }

    fn container_texts(&mut self, raw: &raw::Container, container: &mut Container, here: &[Step]) {
        let texts = [
            ("image", &raw.image, &mut container.image),
            ("workdir", &raw.workdir, &mut container.workdir),
            ("user", &raw.user, &mut container.user),
            ("network", &raw.network, &mut container.network),
            ("platform", &raw.platform, &mut container.platform),
        ];
        for (key, raw, value) in texts {
            let Some(text) = raw.as_ref().map(Text::as_str) else { continue };
            let steps = || [here, &[Key(key)]].concat();
            if text.trim().is_empty() {
                self.find(
                    format!("an empty `{key}`"),
                    Some("write something, or remove the key".into()),
                    steps(),
                    Part::Value,
                );
            } else if key == "image" && (text.starts_with('-') || text.contains(char::is_whitespace)) {
                let hint = Some("write it like `python:3.12` or `registry.example/team/image@sha256:…`".to_owned());
                if !text.contains("${{") {
                    self.find(format!("`{}` is not the name of an image", clip(text)), hint, steps(), Part::Value);
                }
            }
            self.plain(text, "a text", &steps());
            self.no_expression(key, text, steps);
            *value = Some(text.to_owned());
        }
    }

    fn container_lists(&mut self, raw: &raw::Container, container: &mut Container, here: &[Step]) {
        let mut lists = [
            ("cap_add", &raw.cap_add, &mut container.cap_add),
            ("cap_drop", &raw.cap_drop, &mut container.cap_drop),
            ("options", &raw.options, &mut container.options),
        ];
        for (key, raw, value) in &mut lists {
            if let Some(raw) = raw {
                **value = self.texts(key, raw, &[here, &[Key(key)]].concat());
            }
        }
        if let Some(entrypoint) = &raw.entrypoint {
            container.entrypoint = Some(self.texts("entrypoint", entrypoint, &[here, &[Key("entrypoint")]].concat()));
        }
        if let Some(mounts) = &raw.mounts {
            let steps = |at| [here, &[Key("mounts"), Nth(at)]].concat();
            let mounts = mounts.iter().enumerate();
            container.mounts = mounts.filter_map(|(at, mount)| self.mount(mount, &steps(at))).collect();
        }
    }

    fn mount(&mut self, raw: &raw::Mount, steps: &[Step]) -> Option<Mount> {
        let mount = match raw {
            raw::Mount::Parts(parts) => Mount {
                source: parts.source.as_str().to_owned(),
                target: parts.target.as_str().to_owned(),
                read_only: parts.read_only.unwrap_or(false),
            },
            raw::Mount::Text(text) => {
                let mut parts = text.as_str().split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(source), Some(target), mode @ (None | Some("ro" | "rw")), None) => {
                        let read_only = mode == Some("ro");
                        Mount { source: source.to_owned(), target: target.to_owned(), read_only }
                    }
                    _ => {
                        let hint = Some("write `source:target` or `source:target:ro`".to_owned());
                        let message = format!("`{}` is not a mount", clip(text.as_str()));
                        self.find(message, hint, steps.to_vec(), Part::Value);
                        return None;
                    }
                }
            }
        };
        for text in [&mount.source, &mount.target] {
            self.plain(text, "a path", steps);
            self.no_expression("mounts", text, || steps.to_vec());
        }
        if mount.source.is_empty() || mount.target.is_empty() {
            self.absent("a mount without a source or a target", "write `source:target`", steps.to_vec());
        } else if !mount.target.starts_with('/') {
            let hint = Some("begin the target with `/`".to_owned());
            let message = format!("the target of a mount must be absolute, but is `{}`", clip(&mount.target));
            self.find(message, hint, steps.to_vec(), Part::Value);
        }
        Some(mount)
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
            let hint = Some("expressions can stand in `run`, `command` and `env`".to_owned());
            let part = Part::Inside(start..start + 3);
            self.find(format!("an expression cannot stand in `{key}`"), hint, steps(), part);
        }
    }
}

/// Sets a variable, in the place of one with the same name.
fn set(env: &mut Vec<(String, Template)>, name: &str, value: Template) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn gpus(text: &str) -> Result<Gpus, Wrong> {
    match (text, text.parse()) {
        ("all", _) => Ok(Gpus::All),
        (_, Ok(count)) => Ok(Gpus::Count(count)),
        _ => Err(Wrong {
            message: format!("`{}` is not a number of GPUs", clip(text)),
            hint: Some("write a number, or `all`".to_owned()),
        }),
    }
}

/// A name with what is no letter or digit replaced, if that gives a good one.
fn mended(name: &str) -> Option<String> {
    let mended: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mended = mended.trim_matches('_').to_owned();
    (mended.starts_with(|c: char| c.is_ascii_alphabetic()) && name.is_ascii()).then_some(mended)
}

/// What `--parameter name=text` stands for, by the type of the default; else the type that is expected.
fn typed(default: &serde_json::Value, text: &str) -> Result<serde_json::Value, &'static str> {
    use serde_json::Value;
    let parsed = serde_yaml::from_str::<raw::Json>(text).map(|json| json.0);
    match (default, parsed) {
        (Value::String(_), _) => Ok(Value::String(text.to_owned())),
        (Value::Null, parsed) => Ok(parsed.unwrap_or_else(|_| Value::String(text.to_owned()))),
        (Value::Bool(_), Ok(new @ Value::Bool(_)))
        | (Value::Array(_), Ok(new @ Value::Array(_)))
        | (Value::Object(_), Ok(new @ Value::Object(_))) => Ok(new),
        (Value::Number(old), Ok(Value::Number(new))) if old.is_f64() || !new.is_f64() => Ok(Value::Number(new)),
        (Value::Bool(_), _) => Err("`true` or `false`"),
        (Value::Number(old), _) if old.is_f64() => Err("a number"),
        (Value::Number(_), _) => Err("a whole number"),
        (Value::Array(_), _) => Err("a list, such as `[1, 2]`"),
        (Value::Object(_), _) => Err("a map, such as `{a: 1}`"),
    }
}
