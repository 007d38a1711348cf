//! Why layers were cancelled that never came to fail by themselves: the store has only that they were.
//!
//! It follows from the states of the others and from what each needs, which the flow says that the execution keeps. A
//! flow that cannot be read any more costs the names of what was needed, nothing else.

use std::collections::HashMap;

use laminar_core::event::Outcome;
use laminar_core::executor::Cause;
use laminar_core::id::{LayerId, Split};
use laminar_core::plan::Plan;
use laminar_core::scheduler::State;
use laminar_core::store::Status;

use super::Line;
use crate::execution::Execution;
use crate::load;
use crate::names::Names;

/// Writes down why, for each cancelled layer that was not stopped while it ran.
pub(super) fn explain(execution: &Execution, status: &Status, lines: &mut [Line]) {
    // A large flow takes its time to read: only where there is something to explain.
    if lines.iter().any(is_open) {
        let flow = load::flows(execution.reader.creation()).ok().and_then(|mut flows| flows.pop());
        reasons(&execution.names, flow.as_ref().map(|flow| &*flow.plan), status, lines);
    }
}

/// Whether there is nothing yet that says why it was cancelled.
fn is_open(line: &Line) -> bool {
    let row = line.row.as_ref().filter(|row| row.state == State::Cancelled);
    row.is_some_and(|row| row.exit.as_ref().is_none_or(|exit| exit.cause != Cause::Cancelled))
}

fn reasons(names: &Names, plan: Option<&Plan>, status: &Status, lines: &mut [Line]) {
    let failed = |line: &&Line| line.row.as_ref().is_some_and(|row| row.state == State::Failed);
    let first = lines.iter().filter(failed).min_by_key(|line| line.row.as_ref().and_then(|row| row.ended_ms));
    let first = first.map(|line| line.split).filter(|_| *status != Status::Ended(Outcome::Cancelled));
    let mut roots: HashMap<LayerId, Split> = HashMap::new();
    for line in lines.iter().filter(failed) {
        roots.entry(line.split.layer).or_insert(line.split);
    }
    if let Some(plan) = plan {
        spread(plan, lines, &mut roots);
    }
    for line in lines.iter_mut().filter(|line| is_open(line)) {
        let needed = roots.get(&line.split.layer).filter(|root| root.layer != line.split.layer);
        line.why = Some(match (needed, first) {
            (Some(root), _) => format!("needs {}, which failed", names.split(*root)),
            (None, Some(first)) => format!("stopped after {} failed", names.split(first)),
            (None, None) => "the execution was cancelled".to_owned(),
        });
    }
}

/// Notes for each cancelled layer the failed one that it needs, be it through others.
fn spread(plan: &Plan, lines: &[Line], roots: &mut HashMap<LayerId, Split>) {
    let cancelled: HashMap<LayerId, bool> = lines.iter().map(|line| (line.split.layer, is_open(line))).collect();
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
        let names = Names::stored(&["A", "B", "C", "D", "E"].map(str::to_owned), []);
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
