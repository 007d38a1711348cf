//! Finds the bytes that a finding is about, in a marked tree. Slow; asked only when something is wrong.

use std::ops::Range;

use crate::flow::check::{Address, Finding, Part, Step};
use crate::flow::marked::{Kind, Node, Tree};
use crate::flow::problem::{Place, Problem};

/// A finding with its places; nothing if it is no news, because something was taken out there.
pub(super) fn problem(tree: &Tree<'_>, root: &Node<'_>, text: &str, finding: Finding) -> Option<Problem> {
    let mut places = Vec::with_capacity(finding.at.len());
    for Address { steps, part, label } in finding.at {
        let found = follow(root, &steps);
        if found.value.was_pruned() && (finding.absence || matches!(found.value.kind(), Kind::Null)) {
            return None;
        }
        let span = match part {
            Part::Key => tree.bytes(text, &found.key.unwrap_or(found.value).span),
            Part::Value => value(tree.bytes(text, &found.value.span), text, found.value),
            Part::Inside(within) => inside(tree.bytes(text, &found.value.span), text, found.value, within),
        };
        places.push(Place { span, label });
    }
    Some(Problem { message: finding.message, places, hint: finding.hint })
}

struct Found<'t, 'a> {
    key: Option<&'t Node<'a>>,
    value: &'t Node<'a>,
}

fn follow<'t, 'a>(root: &'t Node<'a>, steps: &[Step]) -> Found<'t, 'a> {
    let mut found = Found { key: None, value: root };
    for step in steps {
        let next = match (step, found.value.kind()) {
            (Step::Nth(at), Kind::List(items)) => items.get(*at).map(|value| Found { key: None, value }),
            (Step::Nth(at), Kind::Map(entries)) => entries.get(*at).map(|(key, value)| Found { key: Some(key), value }),
            (Step::Key(name), Kind::Map(entries)) => {
                let entry = entries.iter().find(|(key, _)| key.text() == Some(name));
                entry.map(|(key, value)| Found { key: Some(key), value })
            }
            _ => None,
        };
        match next {
            Some(next) => found = next,
            None => break,
        }
    }
    found
}

/// The value's bytes; the first line of what has many.
fn value(span: Range<usize>, text: &str, node: &Node<'_>) -> Range<usize> {
    match node.kind() {
        Kind::Map(_) | Kind::List(_) | Kind::Text(_) => {
            let line = text[span.clone()].find('\n').unwrap_or(span.len());
            span.start..span.start + text[span.start..span.start + line].trim_end().len()
        }
        _ => span,
    }
}

/// The bytes of the source that a part of a text was written with. Escapes, folding and indentation stand between the two,
/// so it is found by counting the expressions before it.
fn inside(span: Range<usize>, text: &str, node: &Node<'_>, within: Range<usize>) -> Range<usize> {
    let whole = value(span.clone(), text, node);
    let Some(value) = node.text() else { return whole };
    let (Some(before), Some(part)) = (value.get(..within.start), value.get(within)) else { return whole };
    let nth = before.matches("${{").count();
    let source = &text[span.clone()];
    let Some((start, _)) = source.match_indices("${{").nth(nth) else { return whole };
    let start = span.start + start;
    if text[start..].starts_with(part) {
        return start..start + part.len();
    }
    let end = text[start..span.end].find("}}").map_or(start + 3, |end| start + end + 2);
    start..end
}
