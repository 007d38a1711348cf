//! One layer, in a process that the scheduler has started: reads, calls its function, writes.
//!
//! It is told by a marker among the arguments, by the variables of the layer protocol, and by the flow's name. All three have
//! to agree, since variables are inherited by whatever a layer starts.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::failure::{Context, Failure, Result};
use super::flow::{CAUGHT, Node};
use super::frozen::Program;
use super::source::{Folders, Task};
use crate::exit::Code;

/// What stands first among the arguments of a program that is to evaluate one layer; the flow's and the layer's names follow.
pub(super) const MARKER: &str = "@layer";

/// Evaluates a layer if that is what this process was started for.
pub(crate) fn evaluate(program: &Program) -> Option<ExitCode> {
    let mut words = env::args_os().skip(1);
    if words.next()? != MARKER {
        return None;
    }
    let words: Vec<OsString> = words.collect();
    let ended = match start(program, &words) {
        Ok((node, source, outputs)) => run(program, node, &source, &outputs),
        Err(failure) => {
            let hint = "a person starts the program with `run`; see `--help`";
            say(&format!("error: this process cannot evaluate a layer: {failure}\n  hint: {hint}"));
            Code::Usage.number()
        }
    };
    Some(ExitCode::from(ended))
}

fn run(program: &Program, node: &Node, source: &Folders, outputs: &Path) -> u8 {
    panics_are_told_last();
    let ended = program.call(node, source, outputs);
    // What the function has written comes before what is said of it.
    let _ = io::stdout().flush();
    let Err(failure) = ended else { return Code::Finished.number() };
    let (code, word) = evaluated(node, &failure);
    say(&format!("{word}: {failure}"));
    code
}

/// A backtrace is longer than what is shown of a log's end: the panic is said once more behind it.
fn panics_are_told_last() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        if Backtrace::capture().status() == BacktraceStatus::Captured {
            let said = words(info.payload());
            let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
            say(&format!("error: panicked{place}: {said}"));
        }
    }));
}

/// What a panic says.
pub(super) fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

/// What a failure of a layer is: the exit code, and the word for it.
pub(super) fn evaluated(node: &Node, failure: &Failure) -> (u8, &'static str) {
    match node.caught.iter().any(|is_caught| is_caught(failure)) {
        true => (CAUGHT, "caught"),
        false => (failure.code(), "error"),
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What there is to evaluate, and from what.
fn start<'p>(program: &'p Program, words: &[OsString]) -> Result<(&'p Node, Folders, PathBuf)> {
    let [flow, layer] = words else {
        return Err(Failure::new(format!("`{MARKER}` is followed by a flow and a layer, and by nothing else")));
    };
    let task = Task {
        execution: variable("LAMINAR_EXECUTION_ID")?,
        flow: variable("LAMINAR_FLOW_NAME")?,
        layer: variable("LAMINAR_LAYER_NAME")?,
        index: number("LAMINAR_LAYER_INDEX")?,
        splits: number("LAMINAR_LAYER_SPLITS")?,
        attempt: number("LAMINAR_LAYER_ATTEMPT")?,
    };
    if *flow != *task.flow || *layer != *task.layer {
        let (flow, layer) = (flow.to_string_lossy(), layer.to_string_lossy());
        let Task { flow: other, layer: another, .. } = &task;
        return Err(Failure::new(format!(
            "the arguments say `{flow}` and `{layer}`, the variables `{other}` and `{another}`: it was not started by a scheduler"
        )));
    }
    if task.flow != program.name {
        return Err(Failure::new(format!("its flow is `{}`, and not `{}`", program.name, task.flow)));
    }
    let Some(found) = program.own(&task.layer) else {
        let names: Vec<String> = program.nodes.iter().take(20).map(|node| format!("`{}`", node.name)).collect();
        return Err(Failure::new(format!(
            "its flow has no layer `{}`, but {}: the scheduler is another version of the program than the one that is started \
             here, perhaps in an old image",
            task.layer,
            names.join(", ")
        )));
    };
    let each = match env::var_os("LAMINAR_EACH") {
        Some(path) => values(Path::new(&path))?,
        None => BTreeMap::new(),
    };
    let (inputs, outputs) = (folder("LAMINAR_INPUTS")?, folder("LAMINAR_OUTPUTS")?);
    Ok((found, Folders { task, inputs, each }, outputs))
}

/// A split's values, as the file has them.
pub(super) fn values(path: &Path) -> Result<BTreeMap<String, Value>> {
    let told = || format!("cannot read the split's values in `{}`", path.display());
    let text = std::fs::read(path).context(told())?;
    serde_json::from_slice(&text).context(told())
}

fn variable(name: &str) -> Result<String> {
    match env::var(name) {
        Ok(value) => Ok(value),
        Err(env::VarError::NotPresent) => Err(Failure::new(format!("the variable `{name}` is not set"))),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::new(format!("the variable `{name}` is no text"))),
    }
}

fn number(name: &str) -> Result<u32> {
    let value = variable(name)?;
    value.parse().ok().ok_or_else(|| Failure::new(format!("the variable `{name}` is `{value}`, which is no number")))
}

fn folder(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    match path.is_dir() {
        true => Ok(path),
        false => Err(Failure::new(format!("the variable `{name}` is `{}`, which is no folder", path.display()))),
    }
}
