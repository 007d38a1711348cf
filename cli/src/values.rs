//! The values of a split, as people and programs see them: `depth=4, seed=7`.

use std::collections::HashMap;
use std::sync::Arc;

use laminar_core::each::{self, Each};
use serde_json::{Map, Value};

use crate::text::visible;

/// What stands for the folder of inputs, which is another one for each split.
const INPUTS: &str = "$LAMINAR_INPUTS";
/// The fewest characters that a value is cut to.
const NARROWEST: usize = 12;
/// How many characters are kept before what differs, where something is cut off there.
const CONTEXT: usize = 6;

/// By name; none of a split that there is not.
pub(crate) fn object(each: &Each, index: u32) -> Map<String, Value> {
    if each.splits().is_some_and(|splits| index < splits) { each.values(index, INPUTS) } else { Map::new() }
}

/// What the values of all splits of a layer have in common, so that it is that which is cut off: by key, at the beginning and
/// at the end, in characters. Keys that are no texts, or all the same, have no entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common(HashMap<Arc<str>, (usize, usize)>);

impl Common {
    /// Looks at every value of a layer.
    pub(crate) fn of(each: &Each) -> Common {
        let keys = each.dimensions.iter().flat_map(|dimension| &dimension.keys);
        Common(keys.filter_map(|key| Some((Arc::clone(&key.name), common(&key.values)?))).collect())
    }
}

fn common(values: &[Value]) -> Option<(usize, usize)> {
    let plain = |value: &'_ Value| value.as_str().map(|text| text.trim_start_matches(each::INPUTS).to_owned());
    let (first, rest) = values.split_first()?;
    let first = plain(first)?;
    let mut common = (usize::MAX, usize::MAX);
    for other in rest {
        let other = plain(other)?;
        if other == first {
            continue;
        }
        let same = |(one, other): &(char, char)| one == other;
        let before = first.chars().zip(other.chars()).take_while(same).count();
        let after = first.chars().rev().zip(other.chars().rev()).take_while(same).count();
        common = (common.0.min(before), common.1.min(after));
    }
    (common.0 < usize::MAX).then(|| {
        // The slash behind the folder of inputs is not shown.
        let is_input = values[0].as_str().is_some_and(|text| text.starts_with(each::INPUTS));
        (common.0.saturating_sub(usize::from(is_input)), common.1)
    })
}

/// On one line, of so many characters if that is possible: what is too long is cut where it does not differ.
pub(crate) fn line(values: &Map<String, Value>, common: &Common, most: usize) -> String {
    let texts: Vec<(&String, String)> = values.iter().map(|(name, value)| (name, text(value))).collect();
    let around: usize = texts.iter().map(|(name, _)| name.chars().count() + "=, ".len()).sum();
    let widest = widest(texts.iter().map(|(_, text)| text.chars().count()).collect(), most.saturating_sub(around));
    let words = texts.iter().map(|(name, text)| {
        let common = common.0.get(name.as_str()).copied();
        format!("{name}={}", cut(text, common, widest))
    });
    words.collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    visible::line(&text.replace(&format!("{INPUTS}/"), ""))
}

/// How wide the widest of these may be so that all of them fit into the room.
fn widest(mut widths: Vec<usize>, mut room: usize) -> usize {
    widths.sort_unstable();
    for (at, width) in widths.iter().enumerate() {
        let fair = room / (widths.len() - at);
        if *width > fair {
            return fair.max(NARROWEST);
        }
        room -= width;
    }
    usize::MAX
}

/// What differs is kept; where that is not known, or too long, the end of a path, or both ends of anything else.
fn cut(text: &str, common: Option<(usize, usize)>, most: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= most {
        return text.to_owned();
    }
    let part = |range: std::ops::Range<usize>| all[range].iter().collect::<String>();
    let tail = all.len() - (most - 1);
    if let Some((before, after)) = common {
        let start = before.saturating_sub(CONTEXT);
        let end = all.len().saturating_sub(after).max(before);
        if end < most {
            return format!("{}…", part(0..most - 1));
        }
        if start < tail && end - start <= most - 2 {
            return format!("…{}…", part(start..start + most - 2));
        }
    }
    if text.contains('/') || common.is_some_and(|(before, _)| before >= tail) {
        return format!("…{}", part(tail..all.len()));
    }
    let head = most / 3;
    format!("{}…{}", part(0..head), part(tail + head..all.len()))
}

#[cfg(test)]
mod tests {
    use laminar_core::each::{Dimension, INPUTS, Key};

    use super::*;

    #[test]
    fn values_are_short_and_paths_begin_with_their_layer() {
        let key = |name: &str, values: Vec<Value>| Key { name: name.into(), values };
        let path = format!("{INPUTS}/Split/folds/b\x1b");
        let keys = vec![key("fold", vec!["x".into(), path.into()]), key("depth", vec![1.into(), 4.into()])];
        let each = Each { dimensions: vec![Dimension { keys }] };
        let line = |values: &Map<String, Value>| super::line(values, &Common::of(&each), 100);
        assert_eq!(line(&object(&each, 1)), "fold=Split/folds/b\\x1b, depth=4");
        assert_eq!(object(&each, 1)["fold"], "$LAMINAR_INPUTS/Split/folds/b\x1b");
        assert_eq!(line(&object(&each, 2)), "");
    }

    #[test]
    fn what_differs_is_not_cut_off() {
        let said = |values: &[&str], most| {
            let values: Vec<Value> = values.iter().map(|value| (*value).into()).collect();
            let keys = vec![Key { name: "k".into(), values }];
            let each = Each { dimensions: vec![Dimension { keys }] };
            let line = super::line(&object(&each, 0), &Common::of(&each), most);
            assert!(line.chars().count() <= most, "{line}");
            line
        };
        let long = "x".repeat(80);
        let paths = [format!("/{long}/a.csv"), format!("/{long}/b.csv")];
        assert_eq!(said(&[&paths[0], &paths[1]], 20), "k=…xxxxxxxxx/a.csv");
        assert!(said(&[&paths[0], &paths[1]], 200).ends_with(&paths[0]));
        let middle = [format!("/{long}/one/{long}.csv"), format!("/{long}/two/{long}.csv")];
        assert!(said(&[&middle[0], &middle[1]], 30).contains("/one/xxx"), "{}", said(&[&middle[0], &middle[1]], 30));
        let first = [format!("one {long}"), format!("two {long}")];
        assert!(said(&[&first[0], &first[1]], 30).starts_with("k=one xxx"));
        assert_eq!(said(&["abcdefghijklmnopqrstuvwxyz"], 20), "k=abcde…qrstuvwxyz");
    }
}
