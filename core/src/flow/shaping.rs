//! What shapes a flow: conditions, foreach, and settings that each attempt has its own of.
//!
//! It is unaware of when it is asked, and of where artifacts are kept.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::check::settle;
use super::expression::Expression;
use super::template::{ExpressionError, Scope, Template};
use crate::container::Container;
use crate::each::{Dimension, Each, Key, MOST_SPLITS};
pub use crate::flow::raw::Ignored;
use crate::units::{self, clip};

/// Whether a layer runs: asked once, when all that it needs has settled.
#[derive(Clone, Debug)]
pub enum Condition {
    /// It is known.
    Literal(bool),
    /// Its value, `true` or `false`, says so.
    Expression(ConditionExpression),
}

/// The expression of a [`Condition`].
#[derive(Clone, Debug)]
pub struct ConditionExpression(pub(super) Expression);

/// How a layer is fanned out: names of `each`, in order, with where their values come from.
#[derive(Clone, Debug)]
pub struct Foreach(pub Vec<(Arc<str>, Values)>);

/// The values of one name.
#[derive(Clone, Debug)]
pub enum Values {
    /// These.
    List(Vec<Item>),
    /// This one, for every split.
    Given(Item),
    /// What the expression gives: a list or a sharded artifact is fanned out, everything else is given to every split.
    Expression(ValuesExpression),
}

/// The expression of [`Values`].
#[derive(Clone, Debug)]
pub struct ValuesExpression(pub(super) Expression);

/// One value of a list.
#[derive(Clone, Debug)]
pub enum Item {
    /// It is known.
    Value(Value),
    /// An expression, and nothing else: its value as it is.
    Expression(ValuesExpression),
    /// A text with expressions in it.
    Template(Template),
}

/// What only whoever keeps artifacts knows of them.
pub trait Shards {
    /// The values that an artifact is fanned out over, if it is sharded: a folder's entries, a list's items, what each split
    /// of a foreach layer left.
    ///
    /// # Errors
    /// Why they cannot be had, as a sentence fragment.
    fn shards(&self, layer: &str, artifact: &str) -> Result<Option<Shard>, String>;
}

/// What a sharded artifact is fanned out over.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The values.
    pub values: Vec<Value>,
    /// The splits that left them, if they were left by a foreach layer: keys over the same ones go together.
    pub splits: Option<Vec<u32>>,
}

/// Why a layer cannot be fanned out.
#[derive(Debug, thiserror::Error)]
pub enum ForeachError {
    /// A value cannot be had.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// The values cannot be combined.
    #[error("{0}")]
    Values(String),
}

/// Whether what a layer did once is not done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// Files and folders that it reads besides its inputs, relative to the flow file's folder.
    pub sources: Vec<String>,
    /// What it does not look at, although it could.
    pub ignore: Vec<Ignored>,
}

/// Settings of a layer that hold expressions, so that each attempt has its own.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// The keys of the `container` block that hold expressions, each with its value as it is written.
    pub container: Vec<(String, Written)>,
    /// `timeout`
    pub timeout: Option<Template>,
}

/// A value with expressions in its texts.
#[derive(Clone, Debug)]
pub enum Written {
    /// Without any.
    Plain(Value),
    /// A text.
    Text(Template),
    /// A list.
    List(Vec<Written>),
    /// A map.
    Map(Vec<(String, Written)>),
}

impl Condition {
    /// Whether the layer runs.
    ///
    /// # Errors
    /// When the expression has no value, or one that is neither `true` nor `false`.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        match self {
            Condition::Literal(holds) => Ok(*holds),
            Condition::Expression(ConditionExpression(expression)) => expression.evaluate_bool(scope),
        }
    }

    /// Whether it names what layers left.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.expression().is_some_and(Expression::reads)
    }

    /// Its expression, unless it is known.
    pub(super) fn expression(&self) -> Option<&Expression> {
        match self {
            Condition::Literal(_) => None,
            Condition::Expression(ConditionExpression(expression)) => Some(expression),
        }
    }
}

impl Foreach {
    /// The values of all splits.
    ///
    /// # Errors
    /// When a value cannot be had, keys that go together do not fit, or there are more splits than [`MOST_SPLITS`].
    pub fn each(&self, scope: &Scope<'_>, shards: &dyn Shards) -> Result<Each, ForeachError> {
        // What keys go together over: a foreach layer, with the place of its dimension.
        let mut layers: Vec<(&str, &str, Vec<u32>, usize)> = Vec::new();
        let mut dimensions: Vec<Dimension> = Vec::new();
        let mut is_fanned = false;
        for (name, values) in &self.0 {
            let mut over = None;
            let values = match values {
                Values::Given(item) => vec![item.value(scope)?],
                Values::List(items) => {
                    is_fanned = true;
                    items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>()?
                }
                Values::Expression(ValuesExpression(expression)) => match expression.artifact() {
                    Some((layer, artifact)) => {
                        let shard = shards.shards(layer, artifact).map_err(|reason| ExpressionError {
                            expression: expression.source().to_owned(),
                            reason,
                            hint: None,
                        })?;
                        match shard {
                            Some(Shard { values, splits }) => {
                                is_fanned = true;
                                over = splits.map(|splits| (layer, splits));
                                values
                            }
                            None => vec![expression.evaluate_json(scope)?],
                        }
                    }
                    None => match expression.evaluate_json(scope)? {
                        Value::Array(values) => {
                            is_fanned = true;
                            values
                        }
                        value => vec![value],
                    },
                },
            };
            let key = Key { name: Arc::clone(name), values };
            let Some((layer, splits)) = over else {
                dimensions.push(Dimension { keys: vec![key] });
                continue;
            };
            match layers.iter().find(|(known, ..)| *known == layer) {
                None => {
                    layers.push((layer, name, splits, dimensions.len()));
                    dimensions.push(Dimension { keys: vec![key] });
                }
                Some((_, _, others, at)) if *others == splits => dimensions[*at].keys.push(key),
                Some((_, first, ..)) => {
                    return Err(ForeachError::Values(format!(
                        "`{first}` and `{name}` go together, since both are over `{layer}`, but not the same splits of it \
                         left them"
                    )));
                }
            }
        }
        if !is_fanned && !self.0.is_empty() {
            let names: Vec<String> = self.0.iter().map(|(name, _)| format!("`{name}`")).collect();
            let reason =
                format!("there is nothing to fan out over: the value of {} is no list", names.join(" and of "));
            return Err(ForeachError::Values(reason));
        }
        let each = Each { dimensions };
        if each.splits().is_none() {
            let counts: Vec<String> = each.dimensions.iter().map(|dimension| dimension.len().to_string()).collect();
            let reason = format!("it makes {} splits, more than {MOST_SPLITS}", counts.join(" × "));
            return Err(ForeachError::Values(reason));
        }
        Ok(each)
    }

    /// Whether it names what layers left.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.expressions().any(Expression::reads)
    }

    /// The values of all splits, if parameters alone decide them.
    ///
    /// # Errors
    /// As [`Foreach::each`].
    #[must_use]
    pub fn rehearse(&self, parameters: &super::Parameters) -> Option<Result<Each, ForeachError>> {
        struct Nothing;
        impl Shards for Nothing {
            fn shards(&self, _: &str, _: &str) -> Result<Option<Shard>, String> {
                Ok(None)
            }
        }
        let is_settled = self.expressions().all(Expression::is_settled);
        is_settled.then(|| self.each(&Scope::of_parameters(parameters), &Nothing))
    }

    /// Its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter().flat_map(|(_, values)| match values {
            Values::List(items) => items.iter().flat_map(Item::expressions).collect::<Vec<_>>(),
            Values::Given(item) => item.expressions(),
            Values::Expression(ValuesExpression(expression)) => vec![expression],
        })
    }
}

impl Item {
    fn value(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        match self {
            Item::Value(value) => Ok(value.clone()),
            Item::Expression(ValuesExpression(expression)) => expression.evaluate_json(scope),
            // The folder of inputs is not known yet, and what stands for it holds a NUL byte.
            Item::Template(template) => template.evaluate_any(scope).map(Value::String),
        }
    }

    fn expressions(&self) -> Vec<&Expression> {
        match self {
            Item::Value(_) => Vec::new(),
            Item::Expression(ValuesExpression(expression)) => vec![expression],
            Item::Template(template) => template.expressions().collect(),
        }
    }
}

impl Open {
    /// Whether the cores or the memory that an attempt reserves are among them.
    #[must_use]
    pub fn sizes(&self) -> bool {
        self.container.iter().any(|(key, _)| matches!(key.as_str(), "cpu" | "memory"))
    }

    /// The cores, in thousandths, and the memory in bytes that an attempt reserves; 0 where nothing is said.
    ///
    /// # Errors
    /// As [`Open::container`].
    pub fn sized(&self, base: &Container, scope: &Scope<'_>) -> Result<(u64, u64), String> {
        let container = self.settled(base, scope, |key| matches!(key, "cpu" | "memory"))?;
        Ok((container.cpu_millis.unwrap_or(0), container.memory.unwrap_or(0)))
    }

    /// The layer's container as an attempt has it.
    ///
    /// # Errors
    /// Why it cannot be had: an expression has no value, or one that does not fit.
    pub fn container(&self, base: &Container, scope: &Scope<'_>) -> Result<Container, String> {
        self.settled(base, scope, |_| true)
    }

    fn settled(&self, base: &Container, scope: &Scope<'_>, is_wanted: fn(&str) -> bool) -> Result<Container, String> {
        let mut said = Map::new();
        for (key, written) in self.container.iter().filter(|(key, _)| is_wanted(key)) {
            said.insert(key.clone(), written.value(scope).map_err(|error| error.to_string())?);
        }
        settle(base, said)
    }

    /// The timeout as an attempt has it; nothing if it is not among them.
    ///
    /// # Errors
    /// Why it cannot be had: an expression has no value, or one that does not fit.
    pub fn timeout(&self, scope: &Scope<'_>) -> Result<Option<Duration>, String> {
        let Some(template) = &self.timeout else { return Ok(None) };
        let text = template.evaluate(scope).map_err(|error| error.to_string())?;
        match units::duration(&text) {
            Ok(timeout) if timeout.is_zero() => Err("`timeout` is zero".to_owned()),
            Ok(timeout) => Ok(Some(timeout)),
            Err(wrong) => Err(format!("`timeout` cannot be `{}`: {}", clip(&text), wrong.message)),
        }
    }

    /// Its templates.
    pub(super) fn templates(&self) -> Vec<&Template> {
        let mut templates: Vec<&Template> = self.timeout.iter().collect();
        self.container.iter().for_each(|(_, written)| written.templates(&mut templates));
        templates
    }
}

impl Written {
    fn value(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        Ok(match self {
            Written::Plain(value) => value.clone(),
            Written::Text(template) => Value::String(template.evaluate(scope)?),
            Written::List(items) => items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>()?,
            Written::Map(entries) => {
                let entries = entries.iter().map(|(name, item)| Ok((name.clone(), item.value(scope)?)));
                Value::Object(entries.collect::<Result<_, ExpressionError>>()?)
            }
        })
    }

    fn templates<'w>(&'w self, all: &mut Vec<&'w Template>) {
        match self {
            Written::Plain(_) => {}
            Written::Text(template) => all.push(template),
            Written::List(items) => items.iter().for_each(|item| item.templates(all)),
            Written::Map(entries) => entries.iter().for_each(|(_, item)| item.templates(all)),
        }
    }
}
