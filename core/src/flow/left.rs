//! What layers left, as expressions see it: `Layer.artifact` and `Layer.state`.
//!
//! Nothing is read before it is used. It is unaware of where artifacts are kept.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// `Layer.state`
pub(super) const STATE: &str = "state";

/// Tells what layers left. Its answers do not change while an expression is evaluated.
pub trait Layers: fmt::Debug + Send + Sync {
    /// The word for the layer's state.
    fn state(&self, layer: &str) -> Option<&'static str>;

    /// What it left under this name; nothing if it did not.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence fragment.
    fn artifact(&self, layer: &str, name: &str) -> Result<Option<Datum>, String>;

    /// Why there is no such artifact, and what to do about it.
    fn missing(&self, layer: &str, name: &str) -> (String, String);
}

/// A value that an expression can work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Datum(Value);

impl Datum {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Datum {
        Datum(Value::from(text))
    }

    /// Any JSON value.
    #[must_use]
    pub fn json(value: serde_json::Value) -> Datum {
        Datum(Value::from(Serde(value)))
    }

    /// The JSON value that it is.
    ///
    /// # Errors
    /// When it is none, or could not be read.
    pub fn to_json(&self) -> Result<serde_json::Value, String> {
        serde_json::to_value(&self.0).map_err(|error| error.to_string())
    }

    /// Whether it is a list of nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.kind() == ValueKind::Seq && self.0.len() == Some(0)
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Datum>) -> Datum {
        Datum(items.into_iter().map(|item| item.0).collect())
    }
}

/// A layer.
#[derive(Debug)]
pub(super) struct LayerObject {
    name: String,
    layers: Arc<dyn Layers>,
}

impl LayerObject {
    pub(super) fn of(name: &str, layers: Arc<dyn Layers>) -> LayerObject {
        LayerObject { name: name.to_owned(), layers }
    }
}

impl Object for LayerObject {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if name == STATE {
            return self.layers.state(&self.name).map(Value::from);
        }
        match self.layers.artifact(&self.name, name) {
            Ok(found) => found.map(|datum| datum.0),
            // It becomes the expression's error where it is used.
            Err(reason) => Some(Value::from(Error::new(ErrorKind::InvalidOperation, reason))),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}
