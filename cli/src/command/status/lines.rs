//! The lines of a status: one a layer, and below a foreach layer those of its splits that are worth a line of their own.
//!
//! A layer may have a million splits, so they are counted by the store, and only those that are shown are read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use laminar_core::executor::Cause;
use laminar_core::id::{ExecutionId, LayerId, Split};
use laminar_core::scheduler::State;
use laminar_core::store::{LayerRow, RunReader, SplitCount, SplitRow, Status, StoreError};
use serde_json::{Map, Value};

use crate::execution::{Execution, abbreviate};
use crate::mask::Mask;
use crate::names::Names;
use crate::report::failure::{caught_words, exit_words};
use crate::text::visible;
use crate::values::{self, Common};

/// Why a layer that was under way has not gone on.
const SCHEDULER_GONE: &str = "its scheduler is gone";
/// Of how many splits of a layer it is looked up whose artifacts they have.
const MOST_ORIGINS: usize = 200;
/// A layer with more splits that were launched is not looked through for how often and why.
const MOST_LOOKED_THROUGH: u32 = 50_000;
/// Of how many failed splits of a layer it is counted why.
const MOST_CAUSES: usize = 1000;

/// Which splits of foreach layers get a line of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Those that failed, run or rest; so many of each state at most.
    Troubled(usize),
    /// All of this layer, or this one of them; of the others those that failed, which may be the reason.
    Of(LayerId, Option<u32>),
    /// All.
    All,
}

/// A layer, or one of its splits; also one that the store has no row of: it has not started.
pub(super) struct Line {
    pub(super) split: Split,
    /// Whether it is a layer's own: that of one that is not fanned out, or of one as a whole.
    pub(super) is_layer: bool,
    /// Of a foreach layer as a whole: its splits.
    pub(super) whole: Option<Box<Whole>>,
    pub(super) word: &'static str,
    pub(super) row: Option<SplitRow>,
    /// The values of a split.
    pub(super) each: Option<Map<String, Value>>,
    /// What they have in common with those of the others.
    pub(super) common: Option<Rc<Common>>,
    /// Whether it was under way when its scheduler died.
    pub(super) interrupted: bool,
    /// Why it was cancelled or skipped, where that is not its own doing.
    pub(super) why: Option<String>,
    /// Why it could not be opened.
    pub(super) reason: Option<String>,
    /// Why it was not tried again after it failed, where it had attempts left.
    pub(super) declined: Option<String>,
    /// The folder with what its failed attempt left, if it left anything.
    pub(super) left: Option<PathBuf>,
    /// The executions whose artifacts it has, where it is cached.
    pub(super) from: Vec<ExecutionId>,
}

/// The splits of a foreach layer.
pub(super) struct Whole {
    /// How many there are.
    pub(super) splits: u32,
    /// How many are in which state, none of them zero.
    pub(super) counts: Vec<(&'static str, u32)>,
    /// The largest number of attempts of any, where that is more than one.
    pub(super) attempts: Option<u32>,
    /// Why most of them failed.
    pub(super) cause: Option<String>,
    pub(super) launched_ms: Option<i64>,
    /// When all that have ended had; of one that runs, nothing.
    pub(super) ended_ms: Option<i64>,
}

impl Whole {
    /// How many have settled.
    pub(super) fn settled(&self) -> u32 {
        let settled = ["finished", "cached", "skipped", "caught", "failed", "cancelled"];
        self.counts.iter().filter(|(word, _)| settled.contains(word)).map(|(_, number)| number).sum()
    }

    fn of(&self, word: &str) -> u32 {
        self.counts.iter().find(|(of, _)| *of == word).map_or(0, |(_, number)| *number)
    }

    /// The state of the layer.
    fn word(&self, absent: &'static str) -> &'static str {
        let is_open = self.settled() < self.splits;
        let some = |word: &&'static str| self.of(word) > 0;
        let first = ["running", "resting", "failed", "cancelled"].into_iter().find(some);
        match first {
            Some("resting") => "running",
            Some(word) => word,
            None if is_open && self.settled() > 0 && absent == "waiting" => "running",
            None if is_open => absent,
            None => ["caught", "finished", "cached", "skipped"].into_iter().find(some).unwrap_or("finished"),
        }
    }
}

impl Line {
    pub(super) fn new(split: Split, word: &'static str, row: Option<SplitRow>, status: &Status) -> Line {
        let is_open = row.as_ref().is_some_and(|row| matches!(row.state, State::Running | State::Resting));
        Line {
            split,
            is_layer: true,
            whole: None,
            word,
            row,
            each: None,
            common: None,
            interrupted: is_open && *status == Status::Interrupted,
            why: None,
            reason: None,
            declined: None,
            left: None,
            from: Vec::new(),
        }
    }

    /// What it is called.
    pub(super) fn name(&self, names: &Names) -> String {
        if self.is_layer { names.layer(self.split.layer).to_owned() } else { names.split(self.split) }
    }

    /// The word for people: the store does not know that nobody waits for the layer any more.
    pub(super) fn shown(&self) -> &'static str {
        if self.interrupted { "interrupted" } else { self.word }
    }

    /// Whether there is nothing to say of it: it settled well.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.word, "finished" | "cached" | "skipped" | "caught")
    }

    /// The failed ones first, then what runs, then the rest.
    fn class(&self) -> u8 {
        match self.word {
            "failed" => 0,
            "running" => 1,
            "resting" => 2,
            _ => 3,
        }
    }

    pub(super) fn cause(&self) -> String {
        let own = [Some(self.own_cause()), self.declined.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let other = if self.interrupted { Some(SCHEDULER_GONE) } else { self.why.as_deref() };
        match other {
            None => own,
            Some(other) if own.is_empty() => other.to_owned(),
            Some(other) if self.whole.is_some() => format!("{own}; {other}"),
            Some(other) => format!("{other}; its last attempt: {own}"),
        }
    }

    fn own_cause(&self) -> String {
        let from = match &self.from[..] {
            [] => String::new(),
            [one] => format!("from {}", abbreviate(*one)),
            [first, rest @ ..] => format!("from {} and {} more", abbreviate(*first), rest.len()),
        };
        if let Some(whole) = &self.whole {
            let counts: Vec<String> = whole.counts.iter().map(|(word, number)| format!("{number} {word}")).collect();
            return match counts.len() {
                0 => "0 splits".to_owned(),
                // Its state says the same.
                1 if whole.counts[0].0 == "failed" => whole.cause.clone().unwrap_or_default(),
                1 if whole.counts[0].0 == self.word => from,
                _ => counts.join(", "),
            };
        }
        if let Some(reason) = &self.reason {
            return visible::line(reason);
        }
        let Some(row) = &self.row else { return String::new() };
        match (&row.reason, &row.exit) {
            (Some(reason), _) => visible::line(reason),
            // Of what still runs or finished, an exit says nothing new.
            (None, Some(exit))
                if !matches!(row.state, State::Finished | State::Running | State::Skipped | State::Cached) =>
            {
                let more = match exit.cause {
                    Cause::Code(code) if row.state == State::Caught => caught_words(code),
                    _ => "",
                };
                format!("{}{more}", exit_words(exit))
            }
            _ => from,
        }
    }
}

/// What is not started is called, by the status of the execution.
pub(super) fn absent(status: &Status) -> &'static str {
    if matches!(status, Status::Running { .. }) { "waiting" } else { "not started" }
}

/// Every layer with what is stored of it, each followed by those of its splits that get a line of their own.
pub(super) fn lines(execution: &Execution, status: &Status, detail: Detail) -> Result<Vec<Line>, StoreError> {
    let reader = &execution.reader;
    let firsts = reader.first_splits()?;
    let has_cached = firsts.iter().any(|row| row.state == State::Cached);
    let origins = if has_cached { reader.first_origins()? } else { HashMap::new() };
    // Both are told in the order of the layers.
    let (mut counts, mut firsts) = (reader.split_counts()?.into_iter().peekable(), firsts.into_iter().peekable());
    let mut lines = Vec::with_capacity(execution.layers.len());
    let mut classes = Vec::with_capacity(execution.layers.len());
    for layer in &execution.layers {
        let counts: Vec<_> = std::iter::from_fn(|| counts.next_if(|count| count.layer == layer.layer)).collect();
        let first = firsts.next_if(|row| row.split.layer == layer.layer);
        let mut group = vec![own(layer, &counts, first, status)];
        if let Some(whole) = &mut group[0].whole {
            look_through(reader, layer.layer, whole)?;
            let below = below(execution, layer.layer, whole, (status, detail))?;
            group.extend(below);
        }
        find_origins(reader, &origins, &mut group)?;
        classes.push(group[0].class());
        lines.append(&mut group);
    }
    lines.sort_by_cached_key(|line: &Line| (classes.get(line.split.layer.at()).copied(), line.split.layer));
    Ok(lines)
}

/// Hides secrets in what is told of exits.
pub(super) fn conceal(lines: &mut [Line], mask: &Mask) {
    if mask.is_empty() {
        return;
    }
    let hide = |text: &mut Option<String>| {
        if let Some(text) = text {
            *text = mask.text(text).into_owned();
        }
    };
    for line in lines {
        hide(&mut line.reason);
        if let Some(whole) = &mut line.whole {
            hide(&mut whole.cause);
        }
        if let Some(row) = &mut line.row {
            hide(&mut row.reason);
            row.exit = row.exit.as_ref().map(|exit| mask.exit(exit));
        }
    }
}

/// A layer's own line.
fn own(layer: &LayerRow, counts: &[SplitCount], first: Option<SplitRow>, status: &Status) -> Line {
    let split = Split { layer: layer.layer, index: 0 };
    let (Some(splits), true) = (layer.splits, layer.foreach) else {
        let word = first.as_ref().map_or(absent(status), |row| row.state.word());
        return Line { reason: layer.reason.clone(), ..Line::new(split, word, first, status) };
    };
    let whole = whole(splits, counts, status);
    let word = whole.word(absent(status));
    let interrupted = *status == Status::Interrupted && whole.of("running") + whole.of("resting") > 0;
    Line { whole: Some(Box::new(whole)), interrupted, ..Line::new(split, word, None, status) }
}

fn whole(splits: u32, counts: &[SplitCount], status: &Status) -> Whole {
    let mut known: Vec<(&'static str, u32)> = counts.iter().map(|count| (count.state.word(), count.splits)).collect();
    let order = ["failed", "running", "resting", "finished", "cached", "caught", "skipped", "cancelled"];
    known.sort_by_key(|(word, _)| order.iter().position(|of| of == word));
    let open = splits.saturating_sub(known.iter().map(|(_, number)| number).sum());
    known.extend((open > 0).then_some((absent(status), open)));
    let is_running = counts.iter().any(|count| matches!(count.state, State::Running | State::Resting));
    let ended_ms = counts.iter().filter_map(|count| count.ended_ms).max();
    Whole {
        splits,
        counts: known,
        attempts: None,
        cause: None,
        launched_ms: counts.iter().filter_map(|count| count.launched_ms).min(),
        ended_ms: ended_ms.filter(|_| !is_running && open == 0),
    }
}

/// Finds out how often its splits were tried, and why they failed.
fn look_through(reader: &RunReader, layer: LayerId, whole: &mut Whole) -> Result<(), StoreError> {
    let launched = [State::Running, State::Resting, State::Finished, State::Caught, State::Failed];
    let number = |state: &State| whole.of(state.word());
    let most = if launched.iter().map(number).sum::<u32>() > MOST_LOOKED_THROUGH { 0 } else { usize::MAX };
    let mut attempts = 0;
    let mut causes: HashMap<String, usize> = HashMap::new();
    for state in launched.into_iter().filter(|state| number(state) > 0) {
        let is_failed = state == State::Failed;
        let most = if is_failed { most.max(MOST_CAUSES) } else { most };
        let rows = if most > 0 { reader.splits_of(layer, Some(state), most)? } else { Vec::new() };
        attempts = rows.iter().map(|row| row.attempt).max().unwrap_or(0).max(attempts);
        for row in rows.iter().filter(|_| is_failed).take(MOST_CAUSES) {
            let cause = match (&row.reason, &row.exit) {
                (Some(reason), _) => visible::line(reason),
                (None, Some(exit)) => exit.cause.to_string(),
                (None, None) => continue,
            };
            *causes.entry(cause).or_default() += 1;
        }
    }
    whole.attempts = Some(attempts).filter(|attempts| *attempts > 1);
    let is_only = causes.len() == 1;
    let most = causes.into_iter().max_by(|one, other| one.1.cmp(&other.1).then_with(|| other.0.cmp(&one.0)));
    whole.cause = most.map(|(cause, _)| if is_only { cause } else { format!("mostly {cause}") });
    Ok(())
}

/// The lines of a foreach layer's splits, the failed ones first.
fn below(
    execution: &Execution,
    layer: LayerId,
    whole: &Whole,
    (status, detail): (&Status, Detail),
) -> Result<Vec<Line>, StoreError> {
    let reader = &execution.reader;
    let troubled = [State::Failed, State::Running, State::Resting];
    let some = |states: &[State], most: usize| {
        let states = states.iter().filter(|state| whole.of(state.word()) > 0);
        states.map(|state| reader.splits_of(layer, Some(*state), most)).collect::<Result<Vec<_>, _>>()
    };
    let line = |row: SplitRow| Line { is_layer: false, ..Line::new(row.split, row.state.word(), Some(row), status) };
    let mut lines: Vec<Line> = match detail {
        Detail::Of(of, Some(index)) if of == layer => {
            let split = Split { layer, index };
            let row = reader.split(split)?;
            let word = row.as_ref().map_or(absent(status), |row| row.state.word());
            // Another that failed may be why this one was stopped.
            let others = some(&troubled[..1], 1)?.into_iter().flatten().filter(|row| row.split != split).map(line);
            others.chain([Line { is_layer: false, ..Line::new(split, word, row, status) }]).collect()
        }
        Detail::Of(of, None) if of == layer => all(reader.splits_of(layer, None, usize::MAX)?, whole, layer, status),
        Detail::All => all(reader.splits_of(layer, None, usize::MAX)?, whole, layer, status),
        Detail::Of(..) => some(&troubled[..1], 1)?.into_iter().flatten().map(line).collect(),
        Detail::Troubled(most) => some(&troubled, most)?.into_iter().flatten().map(line).collect(),
    };
    lines.sort_by_key(|line| (line.class(), line.split));
    if !lines.is_empty()
        && let Some(each) = reader.each(layer)?
    {
        let common = Rc::new(Common::of(&each));
        for line in &mut lines {
            line.common = Some(Rc::clone(&common));
            line.each = Some(values::object(&each, line.split.index));
        }
    }
    Ok(lines)
}

/// Every split, with its row or without.
fn all(rows: Vec<SplitRow>, whole: &Whole, layer: LayerId, status: &Status) -> Vec<Line> {
    let mut rows = rows.into_iter().peekable();
    let line = |index| {
        let row = rows.next_if(|row| row.split.index == index);
        let word = row.as_ref().map_or(absent(status), |row| row.state.word());
        Line { is_layer: false, ..Line::new(Split { layer, index }, word, row, status) }
    };
    (0..whole.splits).map(line).collect()
}

/// Finds out whose artifacts the cached ones have.
fn find_origins(
    reader: &RunReader,
    firsts: &HashMap<LayerId, ExecutionId>,
    group: &mut [Line],
) -> Result<(), StoreError> {
    let origin = |split: Split| match split.index {
        0 => Ok(firsts.get(&split.layer).copied()),
        _ => reader.key(split, u64::MAX).map(|key| key.and_then(|key| key.from).map(|from| from.execution)),
    };
    let cached = group.iter_mut().filter(|line| line.whole.is_none() && line.word == "cached");
    for line in cached.take(MOST_ORIGINS) {
        line.from.extend(origin(line.split)?);
    }
    let [Line { whole: Some(whole), word: "cached", split, from, .. }, ..] = group else { return Ok(()) };
    let few = whole.splits.min(MOST_ORIGINS as u32);
    for index in 0..few {
        from.extend(origin(Split { index, ..*split })?);
    }
    from.sort_unstable();
    from.dedup();
    Ok(())
}

/// Finds what failed splits left. A folder that was left empty is used again, and then belongs to whoever came last.
pub(super) fn find_left(execution: &Execution, lines: &mut [Line]) -> Result<(), StoreError> {
    if !lines.iter().any(|line| failed(line).is_some()) {
        return Ok(());
    }
    let last = execution.reader.outputs()?;
    for line in lines {
        line.left = failed(line).and_then(|row| {
            let number = row.outputs.filter(|number| last.get(number) == Some(&row.launched_ms))?;
            let path = execution.folder.outputs(number);
            path.read_dir().ok()?.next().map(|_| path)
        });
    }
    Ok(())
}

/// What the store has of a split that failed.
pub(super) fn failed(line: &Line) -> Option<&SplitRow> {
    line.row.as_ref().filter(|row| row.state == State::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(layer: u32, state: State) -> SplitRow {
        SplitRow {
            split: Split { layer: LayerId(layer), index: 0 },
            state,
            attempt: 1,
            launched_ms: Some(1),
            ended_ms: None,
            exit: None,
            reason: None,
            outputs: None,
        }
    }

    fn count(state: State, splits: u32) -> SplitCount {
        SplitCount { layer: LayerId(0), state, splits, launched_ms: Some(i64::from(splits)), ended_ms: Some(9) }
    }

    fn layer(splits: Option<u32>, foreach: bool) -> LayerRow {
        LayerRow { layer: LayerId(0), splits, state: None, reason: None, foreach }
    }

    const RUNNING: Status = Status::Running { pid: None };

    #[test]
    fn what_has_no_row_has_not_started() {
        assert_eq!(own(&layer(None, false), &[], None, &Status::Interrupted).word, "not started");
        assert_eq!(own(&layer(None, false), &[], None, &RUNNING).word, "waiting");
        assert_eq!(own(&layer(Some(3), true), &[], None, &RUNNING).word, "waiting");
    }

    #[test]
    fn what_ran_when_its_scheduler_died_does_not_run() {
        let own = |status: &Status, state| own(&layer(None, false), &[], Some(row(0, state)), status);
        let line = own(&Status::Interrupted, State::Running);
        assert_eq!(
            (line.shown(), line.word, line.cause().as_str()),
            ("interrupted", "running", "its scheduler is gone")
        );
        let line = own(&Status::Interrupted, State::Finished);
        assert_eq!((line.shown(), line.cause().as_str()), ("finished", ""));
        assert_eq!(own(&RUNNING, State::Running).shown(), "running");
    }

    #[test]
    fn a_foreach_layer_is_in_the_state_of_those_of_its_splits_that_matter_most() {
        let word = |splits, counts: &[(State, u32)]| {
            let counts: Vec<SplitCount> = counts.iter().map(|(state, splits)| count(*state, *splits)).collect();
            let line = own(&layer(Some(splits), true), &counts, None, &RUNNING);
            (line.word, line.cause())
        };
        let said = |word, cause: &str| (word, cause.to_owned());
        assert_eq!(word(0, &[]), said("finished", "0 splits"));
        assert_eq!(word(3, &[(State::Finished, 3)]), said("finished", ""));
        assert_eq!(word(3, &[(State::Finished, 2), (State::Cached, 1)]), said("finished", "2 finished, 1 cached"));
        assert_eq!(word(3, &[(State::Cached, 3)]).0, "cached");
        assert_eq!(word(3, &[(State::Finished, 1)]), said("running", "1 finished, 2 waiting"));
        assert_eq!(
            word(9, &[(State::Resting, 1), (State::Failed, 1), (State::Finished, 7)]),
            said("running", "1 failed, 1 resting, 7 finished")
        );
        assert_eq!(word(2, &[(State::Failed, 1), (State::Cancelled, 1)]), said("failed", "1 failed, 1 cancelled"));
        assert_eq!(word(2, &[(State::Caught, 1), (State::Finished, 1)]).0, "caught");
    }
}
