//! The values of a split, as people and programs see them: `depth=4, seed=7`.

use laminar_core::each::Each;
use serde_json::{Map, Value};

use crate::text::visible;

/// What stands for the folder of inputs, which is another one for each split.
const INPUTS: &str = "$LAMINAR_INPUTS";
/// The most characters of one value.
const WIDEST: usize = 40;

/// By name; none of a split that there is not.
pub(crate) fn object(each: &Each, index: u32) -> Map<String, Value> {
    if each.splits().is_some_and(|splits| index < splits) { each.values(index, INPUTS) } else { Map::new() }
}

/// On one line.
pub(crate) fn line(values: &Map<String, Value>) -> String {
    let words = values.iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let text = text.replace(&format!("{INPUTS}/"), "");
        format!("{name}={}", visible::cut(&visible::line(&text), WIDEST))
    });
    words.collect::<Vec<_>>().join(", ")
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
        assert_eq!(line(&object(&each, 1)), "fold=Split/folds/b\\x1b, depth=4");
        assert_eq!(object(&each, 1)["fold"], "$LAMINAR_INPUTS/Split/folds/b\x1b");
        assert_eq!(line(&object(&each, 2)), "");
    }
}
