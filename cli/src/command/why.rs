//! `laminar why`: what the cache made of a layer, and if it ran, what was not as it was the time before.
//!
//! The keys of this execution and of earlier ones are in their logs; two of them are compared part by part. One split is
//! told in full; of all splits of a foreach layer what they have in common is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use laminar_core::cache::KeyChange;
use laminar_core::id::{ExecutionId, LayerId, Split};
use laminar_core::scheduler::State;
use laminar_core::store::{self, KeyRow, RunReader};
use serde_json::{Value, json};

use crate::args::WhyArgs;
use crate::context::Context;
use crate::error::Error;
use crate::execution::{Execution, abbreviate};
use crate::exit::Code;
use crate::load;
use crate::output::Shape;
use crate::place::{LATEST, LayerName, is_execution};
use crate::text::style::Style;
use crate::text::{count, few, visible, when};

/// How many executions are named.
const MOST_IDS: usize = 3;
/// How many changes are named of a foreach layer, unless everything is asked for.
const MOST_CHANGES: usize = 20;

/// Says why a layer was cached, or why not.
pub(crate) fn run(context: &mut Context<'_>, args: &WhyArgs) -> Result<Code, Error> {
    let (layer, id) = words(args)?;
    let execution = Execution::open(context, id)?;
    let (layer, index) = execution.place(&LayerName::parse(layer)?)?;
    let asked = Asked { layer, index: if execution.names.is_foreach(layer) { index } else { Some(0) } };
    let answer = Answer::find(context, &execution, asked)?;
    if context.output.shape() == Shape::Json {
        context.output.document(&answer.object(&execution, asked))?;
    } else {
        let most =
            if context.output.verbosity() > crate::output::Verbosity::Normal { usize::MAX } else { MOST_CHANGES };
        let text = answer.text(&execution, asked, most, context.output.data_style());
        context.output.print(&text)?;
    }
    Ok(Code::Finished)
}

/// The layer and the execution, in whichever order they are: layers never look like executions.
fn words(args: &WhyArgs) -> Result<(&str, &str), Error> {
    match (args.first.as_str(), args.second.as_deref()) {
        (layer, None) if !is_execution(layer) => Ok((layer, LATEST)),
        (id, None) => Err(Error::usage(format!("`{id}` is an execution; name a layer too: `LAYER {id}`"))),
        (id, Some(layer)) if is_execution(id) => Ok((layer, id)),
        (layer, Some(id)) => Ok((layer, id)),
    }
}

/// A layer, and one of its splits if it is about one.
#[derive(Clone, Copy, Debug)]
struct Asked {
    layer: LayerId,
    index: Option<u32>,
}

/// What became of one split.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It was taken from the cache; this execution had run it.
    Cached(ExecutionId),
    /// It ran, and never had a key before.
    Never,
    /// It ran, and its key is not what it was in that execution.
    Changed(ExecutionId, Vec<KeyChange>),
    /// It ran though its key is what it was in that execution, and why.
    Same(ExecutionId, &'static str),
    /// It ran, since there is no key.
    NoKey(String),
}

/// What became of all the splits that are asked about.
#[derive(Default)]
struct Answer {
    /// Whether the flow says that the layer is cached; nothing if the flow cannot be read any more.
    opted_in: Option<bool>,
    cached: u32,
    ran: u32,
    without_key: u32,
    never: u32,
    /// How many were not looked for, and the state of the first.
    undecided: (u32, Option<&'static str>),
    from: BTreeSet<ExecutionId>,
    compared_with: BTreeSet<ExecutionId>,
    changes: BTreeMap<Changed, Group>,
    same: BTreeMap<&'static str, Group>,
    reasons: BTreeMap<String, Group>,
}

/// A part that changed; of several splits how it did is told of the first only.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Changed {
    name: String,
    how: &'static str,
}

/// How many splits have something in common, and the first of them.
struct Group {
    splits: u32,
    example: u32,
    change: Option<KeyChange>,
}

impl Group {
    fn new(example: u32) -> Group {
        Group { splits: 0, example, change: None }
    }
}

impl Answer {
    fn find(context: &Context<'_>, execution: &Execution, asked: Asked) -> Result<Answer, Error> {
        let Asked { layer, index } = asked;
        let reader = &execution.reader;
        let unreadable = |error| execution.unreadable(&error);
        let splits = execution.layers.get(layer.at()).and_then(|row| row.splits).unwrap_or(1);
        let keys: Vec<KeyRow> = match index {
            Some(index) => reader.key(Split { layer, index }, u64::MAX).map_err(unreadable)?.into_iter().collect(),
            None => {
                let mut keys = reader.keys(layer).map_err(unreadable)?;
                keys.retain(|key| key.split.index < splits);
                keys
            }
        };
        let mut answer = Answer { opted_in: opted_in(execution, layer), ..Answer::default() };
        let asked = index.map_or(splits, |_| 1);
        answer.undecided.0 = asked.saturating_sub(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        if answer.undecided.0 > 0 {
            let row = reader.split(Split { layer, index: index.unwrap_or(0) }).map_err(unreadable)?;
            answer.undecided.1 = row.map(|row| row.state.word());
        }
        for (index, verdict) in verdicts(context, execution, keys)? {
            answer.note(index, verdict);
        }
        Ok(answer)
    }

    fn note(&mut self, index: u32, verdict: Verdict) {
        self.ran += u32::from(!matches!(verdict, Verdict::Cached(_)));
        match verdict {
            Verdict::Cached(from) => {
                self.cached += 1;
                self.from.insert(from);
            }
            Verdict::Never => self.never += 1,
            Verdict::NoKey(reason) => {
                self.without_key += 1;
                self.reasons.entry(reason).or_insert_with(|| Group::new(index)).splits += 1;
            }
            Verdict::Same(with, reason) => {
                self.compared_with.insert(with);
                self.same.entry(reason).or_insert_with(|| Group::new(index)).splits += 1;
            }
            Verdict::Changed(with, changes) => {
                self.compared_with.insert(with);
                for change in changes {
                    let how = how(&change);
                    let key = Changed { name: change.name.clone(), how };
                    let group = self.changes.entry(key).or_insert_with(|| Group::new(index));
                    group.splits += 1;
                    group.change.get_or_insert(change);
                }
            }
        }
    }

    fn text(&self, execution: &Execution, asked: Asked, most: usize, style: Style) -> String {
        let id = abbreviate(execution.id);
        let layer = execution.names.layer(asked.layer);
        let name = match asked.index {
            Some(index) => execution.names.split(Split { layer: asked.layer, index }),
            None => layer.to_owned(),
        };
        let bold = style.bold(&name);
        let none = self.cached + self.ran == 0;
        if none && self.opted_in == Some(false) {
            return format!(
                "{bold} is not cached: its layer has no `cache`\n\
                 `cache: true` in the layer, or in `defaults`, opts in; `cache: {{ sources: [FILE] }}` if it reads files beside\n"
            );
        }
        if none {
            let state = self.undecided.1.unwrap_or("waiting");
            return format!("{bold} was not looked for in the cache in execution {id}: it is {state}\n");
        }
        let mut text = match asked.index {
            None => {
                let all = count((self.cached + self.ran + self.undecided.0) as usize, "split");
                let open = match self.undecided.0 {
                    0 => String::new(),
                    open => format!(", {open} not looked for yet"),
                };
                format!("{bold}, {all} in execution {id}: {} cached, {} ran{open}\n", self.cached, self.ran)
            }
            Some(_) if self.cached > 0 => format!("{bold}: cached in execution {id}\n"),
            Some(_) => format!("{bold}: ran in execution {id}\n"),
        };
        let ids = |ids: &BTreeSet<ExecutionId>| {
            let all: Vec<String> = ids.iter().rev().map(|id| abbreviate(*id)).collect();
            few(all.iter().map(String::as_str), MOST_IDS)
        };
        let plural = |ids: &BTreeSet<ExecutionId>| if ids.len() == 1 { "execution" } else { "executions" };
        if !self.from.is_empty() {
            text.push_str(&format!("taken from {} {}\n", plural(&self.from), ids(&self.from)));
        }
        // Of one split everything is about that one.
        let of = |group: &Group| match asked.index {
            Some(_) => String::new(),
            None => {
                style.dim(format!("  {}, {layer}[{}] for one", count(group.splits as usize, "split"), group.example))
            }
        };
        for (reason, group) in &self.reasons {
            text.push_str(&format!("it has no key: {}{}\n", visible::line(reason), of(group)));
        }
        if self.never > 0 {
            let many =
                asked.index.map_or_else(|| format!("{} ", count(self.never as usize, "split")), |_| String::new());
            let flow = visible::line(&execution.reader.creation().flow);
            let them = if self.never == 1 { "it" } else { "them" };
            text.push_str(&format!("{many}never ran before: no earlier execution of `{flow}` has a key of {them}\n"));
        }
        if !self.changes.is_empty() {
            let which = match self.compared_with.first() {
                Some(one) if self.compared_with.len() == 1 && *one == execution.id => {
                    "earlier in this execution".to_owned()
                }
                Some(one) if self.compared_with.len() == 1 => {
                    format!("in execution {} ({})", abbreviate(*one), when::ago(one.created_ms(), when::now_ms()))
                }
                _ => format!("in executions {}", ids(&self.compared_with)),
            };
            text.push_str(&format!("not what it was {which}:\n"));
        }
        let mut changes: Vec<_> = self.changes.iter().collect();
        // What most have in common tells most.
        changes.sort_by_key(|(_, group)| std::cmp::Reverse(group.splits));
        for (changed, group) in changes.iter().take(most) {
            text.push_str(&format!("  {}{}\n", said(changed, group, asked.index.is_some()), of(group)));
        }
        if changes.len() > most {
            text.push_str(&format!("  and {} more; `-v` shows all\n", changes.len() - most));
        }
        for (reason, group) in &self.same {
            let with = ids(&self.compared_with);
            text.push_str(&format!(
                "the same as in {} {with}, but {reason}{}\n",
                plural(&self.compared_with),
                of(group)
            ));
        }
        text
    }

    fn object(&self, execution: &Execution, asked: Asked) -> Value {
        let groups = |groups: Vec<(&str, &Group)>| -> Vec<Value> {
            let object = |(reason, group): (&str, &Group)| json!({"reason": reason, "splits": group.splits, "example": group.example});
            groups.into_iter().map(object).collect()
        };
        let changes = self.changes.iter().map(|(changed, group)| {
            let change = group.change.as_ref();
            json!({
                "part": changed.name,
                "change": changed.how,
                "splits": group.splits,
                "example": group.example,
                "was": change.and_then(|change| change.was.as_ref()),
                "is": change.and_then(|change| change.is.as_ref()),
            })
        });
        json!({
            "execution": execution.id,
            "layer": execution.names.layer(asked.layer),
            "index": asked.index,
            "opted_in": self.opted_in,
            "cached": self.cached,
            "ran": self.ran,
            "without_key": self.without_key,
            "undecided": self.undecided.0,
            "never": self.never,
            "from": self.from,
            "compared_with": self.compared_with,
            "changes": changes.collect::<Vec<_>>(),
            "same": groups(self.same.iter().map(|(reason, group)| (*reason, group)).collect()),
            "reasons": groups(self.reasons.iter().map(|(reason, group)| (reason.as_str(), group)).collect()),
        })
    }
}

fn how(change: &KeyChange) -> &'static str {
    match (&change.was, &change.is) {
        (None, _) => "new",
        (_, None) => "gone",
        _ => "changed",
    }
}

/// A change for people. Values are shown where they are no digests of ours.
fn said(changed: &Changed, group: &Group, is_single: bool) -> String {
    let name = match changed.name.strip_prefix("env.LAMINAR_VALUE_") {
        // By this name a script refers to its expressions, each once.
        Some(number) => format!("the value of expression {} in `run`", visible::line(number)),
        None => visible::line(&changed.name),
    };
    let shows = is_single && matches!(changed.name.as_str(), "image" | "index" | "splits" | "outputs");
    match (changed.how, &group.change) {
        ("changed", Some(KeyChange { was: Some(was), is: Some(is), .. })) if shows => {
            format!("{name} changed: {} is now {}", visible::line(was), visible::line(is))
        }
        ("changed", _) => format!("{name} changed"),
        (how, _) => format!("{name} is {how}"),
    }
}

fn opted_in(execution: &Execution, layer: LayerId) -> Option<bool> {
    let newest = load::flows(execution.reader.creation()).ok()?.pop()?;
    Some(newest.flow.layers.get(layer.at())?.cache.is_some())
}

/// What became of each of these splits, by index.
fn verdicts(context: &Context<'_>, execution: &Execution, keys: Vec<KeyRow>) -> Result<Vec<(u32, Verdict)>, Error> {
    let mut verdicts = Vec::with_capacity(keys.len());
    let mut open: HashMap<u32, KeyRow> = HashMap::new();
    for row in keys {
        let index = row.split.index;
        match (row.from, row.key.reason()) {
            (Some(from), _) => verdicts.push((index, Verdict::Cached(from.execution))),
            (None, Some(reason)) => verdicts.push((index, Verdict::NoKey(reason.to_owned()))),
            (None, None) => {
                match earlier_here(&execution.reader, &row).map_err(|error| execution.unreadable(&error))? {
                    Some(before) => {
                        let changes = row.key.changes_since(&before.key);
                        verdicts.push((index, Verdict::Changed(execution.id, changes)));
                    }
                    None => drop(open.insert(index, row)),
                }
            }
        }
    }
    look_back(context, execution, &mut open, &mut verdicts)?;
    verdicts.extend(open.into_keys().map(|index| (index, Verdict::Never)));
    verdicts.sort_unstable_by_key(|(index, _)| *index);
    Ok(verdicts)
}

/// Another key that the split had earlier in the same execution: its flow was updated, or what it needs ran again.
fn earlier_here(reader: &RunReader, row: &KeyRow) -> Result<Option<KeyRow>, store::StoreError> {
    let mut before = row.seq;
    while let Some(earlier) = reader.key(row.split, before)? {
        if earlier.key.digest != row.key.digest && earlier.key.reason().is_none() {
            return Ok(Some(earlier));
        }
        before = earlier.seq;
    }
    Ok(None)
}

/// Compares with earlier executions of a flow of the same name, the last first, until all have been found.
fn look_back(
    context: &Context<'_>,
    execution: &Execution,
    open: &mut HashMap<u32, KeyRow>,
    verdicts: &mut Vec<(u32, Verdict)>,
) -> Result<(), Error> {
    let creation = execution.reader.creation();
    if open.is_empty() {
        return Ok(());
    }
    let all = store::list(&context.root).map_err(|error| Error::because("cannot list the executions", &error))?;
    let earlier = all.iter().filter(|summary| summary.flow == creation.flow && summary.id < execution.id);
    for summary in earlier {
        let Some(layer) = open.values().next().map(|row| row.split.layer) else { return Ok(()) };
        // One that cannot be read is as if it were not there.
        let Ok(reader) = RunReader::open(&context.root, summary.id) else { continue };
        let name = execution.names.layer(layer);
        let place = reader.creation().layers.iter().position(|layer| **layer == *name);
        let Some(layer) = place.and_then(|at| u32::try_from(at).ok()).map(LayerId) else { continue };
        let keys = match open.len() {
            1 => open.keys().filter_map(|index| reader.key(Split { layer, index: *index }, u64::MAX).ok()?).collect(),
            _ => reader.keys(layer).unwrap_or_default(),
        };
        for before in keys.into_iter().filter(|before: &KeyRow| before.key.reason().is_none()) {
            let index = before.split.index;
            if let Some(row) = open.remove(&index) {
                verdicts.push((index, compared(&reader, summary.id, &row, &before)));
            }
        }
    }
    Ok(())
}

fn compared(reader: &RunReader, id: ExecutionId, row: &KeyRow, before: &KeyRow) -> Verdict {
    let changes = row.key.changes_since(&before.key);
    if !changes.is_empty() {
        return Verdict::Changed(id, changes);
    }
    let then = reader.split(before.split).ok().flatten();
    let reason = match then {
        Some(then) if matches!(then.state, State::Finished | State::Cached) => match then.ended_ms {
            Some(ended_ms) if ended_ms > row.at_ms => "it had not finished there when it was looked for",
            _ => "what it left then was gone or not what it was, or the cache had forgotten it",
        },
        Some(then) if then.state == State::Caught => "it was caught there, and only what finished counts",
        Some(then) if then.state == State::Failed => "it failed there, and only what finished counts",
        Some(then) if then.state.is_settled() => "it was stopped there, and only what finished counts",
        _ => "it did not finish there, and only what finished counts",
    };
    Verdict::Same(id, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, was: Option<&str>, is: Option<&str>) -> KeyChange {
        KeyChange { name: name.to_owned(), was: was.map(str::to_owned), is: is.map(str::to_owned) }
    }

    #[test]
    fn what_changed_is_counted_over_splits_and_told_of_one() {
        let id = ExecutionId::now();
        let mut answer = Answer::default();
        for index in 0..3 {
            let mut changes = vec![change("parameter seed", Some("a"), Some("b"))];
            changes.extend((index == 2).then(|| change("env.X", None, Some("c"))));
            answer.note(index, Verdict::Changed(id, changes));
        }
        answer.note(3, Verdict::Cached(id));
        answer.note(4, Verdict::NoKey("no source".to_owned()));
        let groups: Vec<_> =
            answer.changes.iter().map(|(key, of)| (&*key.name, key.how, of.splits, of.example)).collect();
        assert_eq!(groups, [("env.X", "new", 1, 2), ("parameter seed", "changed", 3, 0)]);
        assert_eq!((answer.cached, answer.ran, answer.without_key), (1, 4, 1));
    }

    #[test]
    fn values_are_shown_where_they_say_something() {
        let said = |name: &str, was, is, single| {
            let change = change(name, was, is);
            let changed = Changed { name: name.to_owned(), how: how(&change) };
            said(&changed, &Group { splits: 1, example: 0, change: Some(change) }, single)
        };
        assert_eq!(said("image", Some("sha256:a"), Some("sha256:b"), true), "image changed: sha256:a is now sha256:b");
        assert_eq!(said("image", Some("sha256:a"), Some("sha256:b"), false), "image changed");
        assert_eq!(said("splits", Some("3"), Some("4"), true), "splits changed: 3 is now 4");
        assert_eq!(said("input Split/x", Some("a"), Some("b"), true), "input Split/x changed");
        assert_eq!(said("env.X", None, Some("b"), true), "env.X is new");
        let value = said("env.LAMINAR_VALUE_2", Some("a"), Some("b"), true);
        assert_eq!(value, "the value of expression 2 in `run` changed");
        assert_eq!(said("source lib", Some("b"), None, true), "source lib is gone");
    }

    #[test]
    fn layer_and_execution_may_come_in_either_order() {
        let args =
            |first: &str, second: Option<&str>| WhyArgs { first: first.into(), second: second.map(str::to_owned) };
        let both = args("Train", Some("019a"));
        assert_eq!(words(&both).ok(), Some(("Train", "019a")));
        let both = args("019a", Some("Train"));
        assert_eq!(words(&both).ok(), Some(("Train", "019a")));
        let alone = args("Train[3]", None);
        assert_eq!(words(&alone).ok(), Some(("Train[3]", "latest")));
        assert!(words(&args("latest", None)).is_err());
    }
}
