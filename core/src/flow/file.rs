//! From a flow file on disk to a checked [`Flow`], or to everything that is wrong with it.
//!
//! The good path is short: JSON goes through serde, YAML through one pass that composes a tree with places, into the types of
//! `raw`, which `check` turns into a flow, one layer after the other. Only when something is wrong the tree is compared
//! with the schema, what is wrong is taken out, and the rest is checked, so that all problems are reported at once.
//!
//! It is unaware of executions and of how problems are drawn. YAML is read by the core schema of YAML 1.2: `yes` and `on` are
//! texts, and where a text is expected a scalar is taken as written, so `1.10` stays `1.10`.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::flow::check::{Address, Finding, Part, Step, check, in_layer};
use crate::flow::expression::{self, Expression};
use crate::flow::marked::{self, Kind, Tree, Unreadable};
use crate::flow::problem::{Format, Place, Problem, Problems, Source};
use crate::flow::template::{Environment, ExpressionError, Scope};
use crate::flow::{
    Command, Condition, Flow, Foreach, Known, Layer, Script, Template, backend, locate, name, raw, shape,
};
use crate::id::{ExecutionId, LayerId};
use crate::units::{closest, plain_words};

/// The largest flow file.
pub const LARGEST: u64 = 256 << 20;

/// The most entries of a folder that are looked at for the file that was meant.
const LOOKED_AT: usize = 10_000;

/// Reads a flow file. Only regular files: a pipe or device could block or never end. For standard input see [`decode`].
///
/// # Errors
/// When there is no such file, or it is no text; the problems have a source if there is something to show.
pub fn read(path: &Path) -> Result<Source, Problems> {
    let name = path.display().to_string();
    let refuse = |why: &str, hint: Option<String>| Err(unread(format!("cannot read `{name}`: {why}"), hint));
    // Without O_NONBLOCK, opening a pipe waits for somebody to write.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let (file, size) = match file.and_then(|file| file.metadata().map(|metadata| (file, metadata))) {
        Ok((_, metadata)) if metadata.is_dir() => {
            let inside = ["flow.yaml", "flow.yml", "flow.json"].map(|name| path.join(name));
            let hint =
                inside.iter().find(|path| path.is_file()).map(|path| format!("did you mean `{}`?", path.display()));
            return refuse("it is a folder", hint);
        }
        Ok((_, metadata)) if !metadata.is_file() => {
            return refuse("it is no regular file", Some("give it through standard input: `-`".to_owned()));
        }
        Ok((file, metadata)) => (file, metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse("there is no such file", similar(path));
        }
        Err(error) => return refuse(&plain_words(&error), None),
    };
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(LARGEST)).unwrap_or(0));
    if let Err(error) = file.take(LARGEST + 1).read_to_end(&mut bytes) {
        return refuse(&plain_words(&error), None);
    }
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    decode(name, bytes, if is_json { Format::Json } else { Format::Yaml })
}

/// Makes a source of bytes that were read elsewhere, from standard input for example.
///
/// # Errors
/// When they are no text, or too many.
pub fn decode(name: String, bytes: Vec<u8>, format: Format) -> Result<Source, Problems> {
    if bytes.len() as u64 > LARGEST {
        let message = format!("`{name}` has more than {} MiB", LARGEST >> 20);
        return Err(unread(
            message,
            Some("a flow file is a text that people read; is this the right file?".to_owned()),
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let (text, bad): (Arc<str>, _) = match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(error) => {
            let (at, hint) = (error.valid_up_to(), "save it as UTF-8".to_owned());
            let message = format!("this is not UTF-8: the byte 0x{:02x}", bytes[at]);
            let bad = located(message, at..at + char::REPLACEMENT_CHARACTER.len_utf8(), Some(hint));
            (String::from_utf8_lossy(bytes).into(), Some(bad))
        }
    };
    let bad = bad.or_else(|| {
        let at = text.find('\0')?;
        let hint = "a flow file is a text; save it as UTF-8 without NUL bytes".to_owned();
        Some(located("a NUL byte".to_owned(), at..at + 1, Some(hint)))
    });
    let source = Source { name, text, format };
    match bad {
        None => Ok(source),
        Some(problem) => Err(Problems { source: Some(source), list: vec![problem] }),
    }
}

/// Reads and checks a flow. `overrides` are the parameters that the command line sets, by name.
///
/// # Errors
/// Everything that is wrong, in the order of the text; what has no place there comes last.
pub fn parse(source: &Source, overrides: &[(String, String)]) -> Result<Flow, Problems> {
    match understand(source, overrides) {
        Ok(flow) => Ok(flow),
        Err(list) => Err(Problems { source: Some(source.clone()), list }),
    }
}

/// The layers of a flow file as JSON, by name: as they are written, but with every text a text. Nothing else needs to be in it.
///
/// # Errors
/// When it has no layers, or is no flow file in them.
pub fn layers(source: &Source) -> Result<Vec<(String, Value)>, Problems> {
    let wrong = |list| Problems { source: Some(source.clone()), list };
    let tree = tree(source).map_err(wrong)?;
    let file = marked::deserialize::<raw::Part>(&tree.root).map_err(|error| {
        let span = error.span.map_or(0..0, |span| tree.bytes(&source.text, &span));
        wrong(vec![located(error.message, span, None)])
    })?;
    let layer = |(name, layer): (String, raw::Layer)| Some((name, serde_json::to_value(layer).ok()?));
    Ok(file.layers.0.into_iter().filter_map(layer).collect())
}

/// The problem of layers that need each other in a cycle: each of `path` needs the next, the last needs the first.
///
/// # Panics
/// When the path is empty or not of this flow.
#[must_use]
pub fn cycle(source: &Source, flow: &Flow, path: &[LayerId]) -> Problems {
    let name = |id: LayerId| &*flow.layer(id).name;
    let step = |(at, id): (usize, &LayerId)| {
        let needed = path[(at + 1) % path.len()];
        (*id, needed, format!("`{}` needs `{}`", name(*id), name(needed)))
    };
    let steps: Vec<_> = path.iter().enumerate().map(step).collect();
    let cycle: Vec<&str> = path.iter().chain(path.first()).map(|id| name(*id)).collect();
    let message = format!("layers need each other in a cycle: {}", cycle.join(" → "));
    let mut hint = Some("remove one of these needs".to_owned());
    let mut list = Vec::new();
    if let Ok(tree) = tree(source) {
        let is_said = |(id, needed, _): &(LayerId, LayerId, String)| nth_need(&tree, *id, name(*needed)).is_some();
        if !steps.iter().all(is_said) {
            hint = Some("remove one of these needs, or an expression that makes one".to_owned());
        }
        let at = steps.into_iter().map(|(id, needed, label)| match nth_need(&tree, id, name(needed)) {
            Some(nth) => {
                Address { steps: in_layer(id, &[Step::Key("needs"), Step::Nth(nth)]), part: Part::Value, label }
            }
            // An expression of the layer makes it need the other.
            None => Address { steps: in_layer(id, &[]), part: Part::Key, label },
        });
        let finding = Finding { message: message.clone(), hint: hint.clone(), at: at.collect(), absence: false };
        list.extend(locate::problem(&tree, &tree.root, &source.text, finding));
    }
    if list.is_empty() {
        list.push(Problem { message, places: Vec::new(), hint });
    }
    Problems { source: Some(source.clone()), list }
}

/// Evaluates every expression of a flow once, as the first attempt would, and tells where that fails.
#[must_use]
pub fn rehearse(source: &Source, flow: &Flow, environment: &Environment) -> Option<Problems> {
    let scope = Scope { env: environment, execution: ExecutionId::now(), ..Scope::of_parameters(&flow.parameters) };
    let mut seen = HashSet::new();
    let mut errors = HashMap::new();
    // What other layers leave, and what a split is, is not known yet.
    let is_known = |expression: &Expression| {
        let is_there = |root: &str| match root {
            "each" | "index" | "splits" => false,
            // Whoever answers may want to look at what layers left.
            name::PROGRAM => false,
            root => name::ROOTS.contains(&root),
        };
        expression.names().iter().all(|name| is_there(&name.root))
    };
    for expression in flow.layers.iter().flat_map(expressions) {
        if is_known(expression)
            && seen.insert(expression.source())
            && let Err(error) = expression.evaluate(&scope)
        {
            errors.insert(error.expression.clone(), error);
        }
    }
    // What is fanned out over is no argument, and may be long.
    let mut seen = HashSet::new();
    for expression in flow.layers.iter().filter_map(|layer| layer.foreach.as_deref()).flat_map(Foreach::expressions) {
        if is_known(expression)
            && seen.insert(expression.source())
            && let Err(error) = expression.evaluate_json(&scope)
        {
            errors.insert(error.expression.clone(), error);
        }
    }
    if errors.is_empty() {
        return None;
    }
    let mut list = tree(source).map_or_else(|_| Vec::new(), |tree| failing(&tree, &source.text, &errors));
    list.sort_by_key(start);
    list.dedup();
    if list.is_empty() {
        let told = |error: ExpressionError| Problem { message: error.reason, places: Vec::new(), hint: error.hint };
        list.extend(errors.into_values().map(told));
    }
    Some(Problems { source: Some(source.clone()), list })
}

/// Whether a flow asks a program for anything: only that can run it.
#[must_use]
pub fn asks(flow: &Flow) -> bool {
    let asks = |expression: &Expression| expression.names().iter().any(|name| name.root == name::PROGRAM);
    let foreach = |layer: &'_ Layer| layer.foreach.as_deref().into_iter().flat_map(Foreach::expressions).any(asks);
    flow.layers.iter().any(|layer| expressions(layer).any(asks) || foreach(layer))
}

/// What a flow says of backends, compared with those that there are: every name and option that is none, and every value
/// that does not fit.
#[must_use]
pub fn unknown_backends(source: &Source, flow: &Flow, known: &[Known<'_>]) -> Option<Problems> {
    let findings = backend::compare(flow, known);
    if findings.is_empty() {
        return None;
    }
    let tree = tree(source).ok();
    let place = |finding: Finding| {
        let (message, hint) = (finding.message.clone(), finding.hint.clone());
        let located = tree.as_ref().and_then(|tree| locate::problem(tree, &tree.root, &source.text, finding));
        located.unwrap_or(Problem { message, places: Vec::new(), hint })
    };
    let mut list: Vec<_> = findings.into_iter().map(place).collect();
    list.sort_by_key(start);
    Some(Problems { source: Some(source.clone()), list })
}

fn expressions(layer: &Layer) -> impl Iterator<Item = &Expression> {
    let shaping = layer.when.as_deref().and_then(Condition::expression);
    attempt_expressions(layer).chain(shaping)
}

/// Those that each attempt evaluates.
pub(super) fn attempt_expressions(layer: &Layer) -> impl Iterator<Item = &Expression> {
    let (argv, script) = match &layer.command {
        Command::Argv(words) => (&words[..], None),
        Command::Script { script, .. } => (&[][..], Some(script)),
    };
    let open = layer.open.iter().flat_map(|open| open.templates());
    let templates = argv.iter().chain(layer.env.iter().map(|(_, value)| value)).chain(open);
    templates.flat_map(Template::expressions).chain(script.into_iter().flat_map(Script::expressions))
}

fn entry<'n, 'a>(node: &'n marked::Node<'a>, key: &str) -> Option<&'n marked::Node<'a>> {
    node.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
}

/// Where expressions that cannot be evaluated are written.
fn failing(tree: &Tree<'_>, text: &str, errors: &HashMap<String, ExpressionError>) -> Vec<Problem> {
    let mut holders = Vec::new();
    holders.extend(entry(&tree.root, "defaults").map(|defaults| (defaults, vec![Step::Key("defaults")])));
    for (at, (_, layer)) in entry(&tree.root, "layers").into_iter().flat_map(marked::Node::entries).enumerate() {
        holders.push((layer, vec![Step::Key("layers"), Step::Nth(at)]));
    }
    let mut problems = Vec::new();
    for (holder, here) in holders {
        let env = entry(holder, "container").and_then(|container| entry(container, "env"));
        let values = [
            (entry(holder, "run"), vec![Step::Key("run")]),
            (entry(holder, "command"), vec![Step::Key("command")]),
            (entry(holder, "env"), vec![Step::Key("env")]),
            (env, vec![Step::Key("container"), Step::Key("env")]),
            (entry(holder, "when"), vec![Step::Key("when")]),
            (entry(holder, "timeout"), vec![Step::Key("timeout")]),
            (entry(holder, "foreach"), vec![Step::Key("foreach")]),
            (entry(holder, "container"), vec![Step::Key("container")]),
        ];
        for (value, keys) in values {
            let Some(value) = value else { continue };
            let steps = [&here[..], &keys[..]].concat();
            for (written, steps) in texts(value, &steps) {
                for (span, error) in written_errors(&written, errors) {
                    let at = vec![Address { steps: steps.clone(), part: Part::Inside(span), label: String::new() }];
                    let (message, hint) = (error.reason.clone(), error.hint.clone());
                    let finding = Finding { message, hint, at, absence: false };
                    problems.extend(locate::problem(tree, &tree.root, text, finding));
                }
            }
        }
    }
    problems
}

/// The texts of a value: its own, its items', or its entries'.
fn texts(value: &marked::Node<'_>, steps: &[Step]) -> Vec<(String, Vec<Step>)> {
    let nth = |at: usize| [steps, &[Step::Nth(at)]].concat();
    let inner: Vec<_> = match value.kind() {
        Kind::List(items) => items.iter().enumerate().map(|(at, item)| (item.text(), nth(at))).collect(),
        Kind::Map(entries) => entries.iter().enumerate().map(|(at, (_, item))| (item.text(), nth(at))).collect(),
        _ => vec![(value.text(), steps.to_vec())],
    };
    inner
        .into_iter()
        .filter_map(|(text, steps)| Some((text.filter(|text| text.contains("${{"))?.to_owned(), steps)))
        .collect()
}

fn written_errors<'e>(
    text: &str,
    errors: &'e HashMap<String, ExpressionError>,
) -> Vec<(Range<usize>, &'e ExpressionError)> {
    let (places, _) = expression::find(text);
    places
        .into_iter()
        .filter_map(|span| Some((span.clone(), errors.get(text[span.start + 3..span.end - 2].trim())?)))
        .collect()
}

/// The JSON Schema of the flow file, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(raw::File).to_value()
}

fn understand(source: &Source, overrides: &[(String, String)]) -> Result<Flow, Vec<Problem>> {
    let text = &*source.text;
    if source.format == Format::Json {
        if !has_long_number(text)
            && let Some(flow) = check_json(text, overrides)
        {
            return Ok(flow);
        }
        let tree = tree(source)?;
        return diagnose(text, &tree, overrides, None);
    }
    let tree = tree(source)?;
    if matches!(tree.root.kind(), Kind::Null) {
        return Err(vec![empty(text)]);
    }
    match check_tree(&tree.root, overrides) {
        Ok(Ok(flow)) => Ok(flow),
        Ok(Err(_)) => diagnose(text, &tree, overrides, None),
        Err(error) => diagnose(text, &tree, overrides, Some(error)),
    }
}

/// The flow, if nothing is wrong with it.
fn check_json(text: &str, overrides: &[(String, String)]) -> Option<Flow> {
    let file = serde_json::from_str(text).ok()?;
    check(&file, overrides, |take| raw::each_layer(&mut serde_json::Deserializer::from_str(text), take)).ok()?.ok()
}

/// What a tree stands for, whatever is wrong with that, or why it stands for nothing.
fn check_tree(
    root: &marked::Node<'_>,
    overrides: &[(String, String)],
) -> Result<Result<Flow, Vec<Finding>>, marked::Error> {
    check(&marked::deserialize(root)?, overrides, |take| raw::each_layer(root, take))
}

/// Whether so many digits stand in a row that they could be a whole number which 64 bits cannot hold: serde would round it.
fn has_long_number(text: &str) -> bool {
    text.as_bytes().chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit()).any(|run| run.len() >= 19)
}

fn tree(source: &Source) -> Result<Tree<'_>, Vec<Problem>> {
    let text = &*source.text;
    let place = |unreadable: Unreadable| vec![located(unreadable.message, unreadable.span, unreadable.hint)];
    if source.format == Format::Yaml {
        return Tree::yaml(text).map_err(place);
    }
    if text.trim().is_empty() {
        return Err(vec![empty(text)]);
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| vec![json_syntax(text, &error)])?;
    Tree::json(text).map_err(place)
}

/// The slow path: everything that is wrong. A flow after all, if nothing is.
fn diagnose(
    text: &str,
    tree: &Tree<'_>,
    overrides: &[(String, String)],
    refusal: Option<marked::Error>,
) -> Result<Flow, Vec<Problem>> {
    let (mut problems, root) = shape::examine(tree, text, &schema());
    let refusal = match check_tree(&root, overrides) {
        Ok(Ok(flow)) if problems.is_empty() => return Ok(flow),
        Ok(Ok(_)) => refusal,
        Ok(Err(findings)) => {
            let found = findings.into_iter().filter_map(|finding| locate::problem(tree, &root, text, finding));
            problems.extend(found);
            refusal
        }
        Err(error) => Some(error),
    };
    // The schema and the types say the same, so this does not happen; if it does, it is not kept secret.
    if problems.is_empty() {
        let span = refusal.as_ref().and_then(|error| error.span.clone()).map_or(0..0, |span| tree.bytes(text, &span));
        let message = refusal.map_or_else(|| "this is no flow".to_owned(), |error| error.message);
        problems.push(located(message, span, None));
    }
    problems.sort_by_key(start);
    problems.dedup();
    Err(problems)
}

fn start(problem: &Problem) -> usize {
    problem.places.first().map_or(usize::MAX, |place| place.span.start)
}

fn nth_need(tree: &Tree<'_>, layer: LayerId, needed: &str) -> Option<usize> {
    let value = |entries: &[_], key: &str| -> Option<usize> {
        entries.iter().position(|(name, _): &(marked::Node<'_>, marked::Node<'_>)| name.text() == Some(key))
    };
    let root = tree.root.entries();
    let layers = value(root, "layers").map(|at| root[at].1.entries()).unwrap_or_default();
    let layer = layers.get(layer.at()).map(|(_, layer)| layer.entries()).unwrap_or_default();
    let needs = value(layer, "needs").map(|at| layer[at].1.kind());
    match needs {
        Some(Kind::List(items)) => items.iter().position(|item| item.text() == Some(needed)),
        _ => None,
    }
}

fn located(message: String, span: Range<usize>, hint: Option<String>) -> Problem {
    Problem { message, places: vec![Place { span, label: String::new() }], hint }
}

fn unread(message: String, hint: Option<String>) -> Problems {
    Problems { source: None, list: vec![Problem { message, places: Vec::new(), hint }] }
}

fn empty(text: &str) -> Problem {
    let what = if text.trim().is_empty() { "the file is empty" } else { "the file holds nothing but comments" };
    let hint = "a flow is at least `flow: Hello` and `layers: { Hello: { run: echo hello } }`".to_owned();
    located(what.to_owned(), 0..0, Some(hint))
}

/// A file beside a missing one that was probably meant.
fn similar(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = folder.read_dir().ok()?.flatten().take(LOOKED_AT);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let wanted = path.file_name()?.to_str()?;
    let flow = || names.iter().map(String::as_str).find(|name| matches!(*name, "flow.yaml" | "flow.yml" | "flow.json"));
    let near = closest(wanted, names.iter().map(String::as_str)).or_else(flow)?;
    Some(format!("did you mean `{}`?", path.with_file_name(near).display()))
}

fn json_syntax(text: &str, error: &serde_json::Error) -> Problem {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(newline, _)| newline + 1),
    };
    let at = marked::floor(text, line_start + error.column().saturating_sub(1));
    let one = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let said = error.to_string();
    let message = said.split(" at line ").next().unwrap_or(&said).to_owned();
    let rest = &text[at..];
    if error.is_eof() {
        let end = text.trim_end().len();
        return located(
            "the file ends too early".to_owned(),
            end..end,
            Some("close the brackets and quotes".to_owned()),
        );
    }
    let is_yaml = text.trim_start().starts_with(|c: char| c.is_ascii_alphabetic() || c == '#' || c == '-');
    let hint = if is_yaml && text.contains(':') {
        Some("this is no JSON; a YAML file ends in `.yaml`")
    } else if message.contains("trailing comma") || rest.starts_with(['}', ']']) {
        Some("remove the comma before the bracket")
    } else if rest.starts_with('\'') {
        Some("write double quotes")
    } else if rest.starts_with('/') || rest.starts_with('#') {
        Some("JSON has no comments; write the flow in YAML to have them")
    } else if message.contains("key must be a string") {
        Some("write double quotes around keys")
    } else {
        None
    };
    located(message, at..at + one, hint.map(str::to_owned))
}

#[cfg(test)]
mod tests;
