//! What the splits of a foreach layer are: values by name for each of them.
//!
//! It is unaware of where the values come from. The splits are the product of the dimensions, the last varies fastest; the
//! keys of one dimension go together.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Stands, in a text, for the folder of inputs as the task will see it, which depends on what runs it. No other value holds
/// a NUL byte.
pub const INPUTS: &str = "\0inputs";

/// The most splits of one layer.
pub const MOST_SPLITS: u32 = 1_000_000;

/// The values of all splits of one layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Each {
    /// The first varies slowest. None: one split without values.
    pub dimensions: Vec<Dimension>,
}

/// Keys that go together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// Each has as many values as the others; one at least.
    pub keys: Vec<Key>,
}

/// A key, and its values in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// `each.<name>`
    pub name: Arc<str>,
    /// Paths of inputs begin with [`INPUTS`].
    pub values: Vec<Value>,
}

impl Dimension {
    /// How many values each of its keys has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.first().map_or(0, |key| key.values.len())
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Each {
    /// How many splits there are; `None` when there are more than [`MOST_SPLITS`].
    #[must_use]
    pub fn splits(&self) -> Option<u32> {
        let product = self.dimensions.iter().try_fold(1_u64, |product, dimension| {
            // Zero of one dimension counts, whatever the others are.
            product.checked_mul(dimension.len() as u64)
        });
        let some = if self.dimensions.iter().any(Dimension::is_empty) { Some(0) } else { product };
        some.and_then(|splits| u32::try_from(splits).ok()).filter(|splits| *splits <= MOST_SPLITS)
    }

    /// The values of one split, in the order of the keys; `inputs` is the folder of inputs as its task sees it.
    ///
    /// # Panics
    /// When there is no such split.
    #[must_use]
    pub fn values(&self, index: u32, inputs: &str) -> Map<String, Value> {
        let mut rest = index as usize;
        let mut places = vec![0; self.dimensions.len()];
        for (place, dimension) in places.iter_mut().zip(&self.dimensions).rev() {
            *place = rest % dimension.len();
            rest /= dimension.len();
        }
        assert_eq!(rest, 0, "there is no split {index}");
        let mut values = Map::new();
        for (dimension, place) in self.dimensions.iter().zip(places) {
            for key in &dimension.keys {
                values.insert(key.name.to_string(), seen(&key.values[place], inputs));
            }
        }
        values
    }
}

/// A value, with the folder of inputs in place of what stands for it.
fn seen(value: &Value, inputs: &str) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => text.replace(INPUTS, inputs).into(),
        Value::Array(items) => items.iter().map(|item| seen(item, inputs)).collect(),
        Value::Object(entries) => entries.iter().map(|(name, value)| (name.clone(), seen(value, inputs))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str, values: Value) -> Key {
        Key { name: name.into(), values: values.as_array().expect("a list").clone() }
    }

    #[test]
    fn the_last_dimension_varies_fastest_and_keys_of_one_go_together() {
        let each = Each {
            dimensions: vec![
                Dimension { keys: vec![key("a", json!([1, 2])), key("b", json!(["x", "y"]))] },
                Dimension { keys: vec![key("c", json!([true]))] },
                Dimension { keys: vec![key("d", json!([7, 8, 9]))] },
            ],
        };
        assert_eq!(each.splits(), Some(6));
        assert_eq!(Value::from(each.values(0, "")), json!({"a": 1, "b": "x", "c": true, "d": 7}));
        assert_eq!(Value::from(each.values(4, "")), json!({"a": 2, "b": "y", "c": true, "d": 8}));
    }

    #[test]
    fn nothing_in_one_dimension_is_no_split_and_no_dimension_is_one() {
        let huge = Dimension { keys: vec![key("a", json!([0, 0, 0]))] };
        let none = Dimension { keys: vec![key("b", json!([]))] };
        assert_eq!(Each { dimensions: vec![huge.clone(); 60] }.splits(), None);
        assert_eq!(Each { dimensions: [vec![huge; 60], vec![none]].concat() }.splits(), Some(0));
        assert_eq!(Each::default().splits(), Some(1));
        assert!(Each::default().values(0, "").is_empty());
    }

    #[test]
    fn paths_of_inputs_are_as_the_task_sees_them() {
        let each = Each {
            dimensions: vec![Dimension { keys: vec![key("a", json!([["\0inputs/A/b", 1], {"c": "\0inputs/A/d"}]))] }],
        };
        assert_eq!(each.values(0, "/in")["a"], json!(["/in/A/b", 1]));
        assert_eq!(each.values(1, "/in")["a"], json!({"c": "/in/A/d"}));
    }
}
