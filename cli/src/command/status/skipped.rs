//! Why layers were skipped: the store has only that they were.
//!
//! It follows from what the flow, which the execution keeps, says of them, and from the states of the others.

use std::collections::HashSet;

use laminar_core::flow::Flow;
use laminar_core::id::LayerId;

use super::lines::Line;
use super::newest::Newest;
use crate::names::Names;

/// Writes down why, for each skipped layer.
pub(super) fn explain(names: &Names, newest: &Newest<'_>, lines: &mut [Line]) {
    if !lines.iter().any(is_skipped) {
        return;
    }
    if let Some(newest) = newest.get() {
        reasons(names, &newest.flow, lines);
    }
}

fn is_skipped(line: &Line) -> bool {
    line.word == "skipped"
}

fn reasons(names: &Names, flow: &Flow, lines: &mut [Line]) {
    let skipped: HashSet<LayerId> = lines.iter().filter(|line| is_skipped(line)).map(|line| line.split.layer).collect();
    for line in lines.iter_mut().filter(|line| is_skipped(line)) {
        let Some(layer) = flow.layers.get(line.split.layer.at()) else { continue };
        let need = layer.needs.iter().find(|need| skipped.contains(need));
        line.why = match need {
            _ if layer.retired => Some("no longer part of the flow".to_owned()),
            _ if layer.when.is_some() => Some("its `when` said no".to_owned()),
            Some(need) => Some(format!("needs {}, which was skipped", names.layer(*need))),
            None => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::fake::flow_of;
    use laminar_core::flow::Condition;
    use laminar_core::id::Split;
    use laminar_core::store::Status;

    use super::*;

    #[test]
    fn each_skipped_layer_says_who_decided_it() {
        let mut flow = flow_of(&[&[], &[0], &[0], &[]]);
        flow.layers[0].when = Some(Box::new(Condition::Literal(false)));
        flow.layers[3].retired = true;
        let names = Names::stored(&["A", "B", "C", "D"].map(Into::into), []);
        let line =
            |(layer, word)| Line::new(Split { layer: LayerId(layer), index: 0 }, word, None, &Status::Interrupted);
        let mut lines: Vec<Line> =
            [(0, "skipped"), (1, "skipped"), (2, "finished"), (3, "skipped")].map(line).into_iter().collect();
        reasons(&names, &flow, &mut lines);
        let causes: Vec<String> = lines.iter().map(Line::cause).collect();
        assert_eq!(causes, ["its `when` said no", "needs A, which was skipped", "", "no longer part of the flow"]);
    }
}
