//! Why layers were cancelled that never came to fail by themselves: the store has only that they were.
//!
//! It follows from the states of the others and from what each needs, which the flow says that the execution keeps. A
//! flow that cannot be read any more costs the names of what was needed, nothing else.

use std::collections::HashMap;

use laminar_core::event::Outcome;
use laminar_core::executor::Cause;
use laminar_core::id::LayerId;
use laminar_core::plan::Plan;
use laminar_core::scheduler::State;
use laminar_core::store::Status;

use super::lines::Line;
use super::newest::Newest;
use crate::names::Names;

/// Writes down why, for each cancelled layer that was not stopped while it ran.
pub(super) fn explain(names: &Names, newest: &Newest<'_>, status: &Status, lines: &mut [Line]) {
    if lines.iter().any(is_open) {
        reasons(names, newest.get().map(|newest| &*newest.plan), status, lines);
    }
}

/// Whether there is nothing yet that says why it was cancelled.
fn is_open(line: &Line) -> bool {
    match &line.row {
        None => line.whole.is_some() && line.word == "cancelled",
        Some(row) => {
            row.state == State::Cancelled && row.exit.as_ref().is_none_or(|exit| exit.cause != Cause::Cancelled)
        }
    }
}

fn reasons(names: &Names, plan: Option<&Plan>, status: &Status, lines: &mut [Line]) {
    let failed = |line: &&Line| line.row.as_ref().is_some_and(|row| row.state == State::Failed);
    let first = lines.iter().filter(failed).min_by_key(|line| line.row.as_ref().and_then(|row| row.ended_ms));
    let first = first.map(|line| line.name(names)).filter(|_| *status != Status::Ended(Outcome::Cancelled));
    // By layer: the layer that failed, which may be itself.
    let mut roots: HashMap<LayerId, LayerId> =
        lines.iter().filter(failed).map(|line| (line.split.layer, line.split.layer)).collect();
    if let Some(plan) = plan {
        spread(plan, lines, &mut roots);
    }
    for line in lines.iter_mut().filter(|line| is_open(line)) {
        let needed = roots.get(&line.split.layer).filter(|root| **root != line.split.layer);
        line.why = Some(match (needed, &first) {
            (Some(root), _) => format!("needs {}, which failed", names.layer(*root)),
            (None, Some(first)) => format!("stopped after {first} failed"),
            (None, None) => "the execution was cancelled".to_owned(),
        });
    }
}

/// Notes for each cancelled layer the failed one that it needs, be it through others.
fn spread(plan: &Plan, lines: &[Line], roots: &mut HashMap<LayerId, LayerId>) {
    let own = lines.iter().filter(|line| line.is_layer);
    let cancelled: HashMap<LayerId, bool> = own.map(|line| (line.split.layer, is_open(line))).collect();
    for layer in plan.levels().into_iter().flatten() {
        if cancelled.get(&layer) == Some(&true)
            && let Some(root) = plan.needs(layer).iter().find_map(|needed| roots.get(needed)).copied()
        {
            roots.entry(layer).or_insert(root);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use laminar_core::executor::Exit;
    use laminar_core::fake::flow_of;
    use laminar_core::id::Split;
    use laminar_core::store::SplitRow;

    use super::*;

    fn line(layer: u32, state: State, exit: Option<Exit>) -> Line {
        let split = Split { layer: LayerId(layer), index: 0 };
        let row = SplitRow {
            split,
            state,
            attempt: 0,
            launched_ms: None,
            ended_ms: Some(i64::from(layer)),
            exit,
            reason: None,
            outputs: None,
        };
        Line::new(split, state.word(), Some(row), &Status::Interrupted)
    }

    fn whys(plan: Option<&Plan>, outcome: Outcome, mut lines: Vec<Line>) -> Vec<String> {
        let names = Names::stored(&["A", "B", "C", "D", "E"].map(Into::into), []);
        reasons(&names, plan, &Status::Ended(outcome), &mut lines);
        lines.iter().map(Line::cause).collect()
    }

    #[test]
    fn the_root_of_a_failure_is_named_through_all_that_need_it() {
        let plan = Plan::new(&flow_of(&[&[], &[0], &[1], &[], &[]])).unwrap();
        let lines = || {
            let mut lines: Vec<Line> = (1..4).map(|layer| line(layer, State::Cancelled, None)).collect();
            lines.push(line(4, State::Cancelled, Some(Exit::code(7))));
            lines.push(line(0, State::Failed, Some(Exit::code(3))));
            lines
        };
        assert_eq!(
            whys(Some(&plan), Outcome::Failed, lines()),
            [
                "needs A, which failed",
                "needs A, which failed",
                "stopped after A failed",
                "stopped after A failed; its last attempt: exit code 7",
                "exit code 3",
            ]
        );
        assert_eq!(
            whys(Some(&plan), Outcome::Cancelled, lines())[1..3],
            ["needs A, which failed", "the execution was cancelled"]
        );
        assert_eq!(whys(None, Outcome::Failed, lines())[0], "stopped after A failed");
    }

    #[test]
    fn what_was_stopped_while_it_ran_says_so_itself() {
        let stopped = Exit { cause: Cause::Cancelled, evidence: "SIGTERM".to_owned(), usage: Default::default() };
        let lines = vec![line(0, State::Cancelled, Some(stopped)), line(1, State::Cancelled, None)];
        assert_eq!(whys(None, Outcome::Cancelled, lines), ["cancelled (SIGTERM)", "the execution was cancelled"]);
    }
}
