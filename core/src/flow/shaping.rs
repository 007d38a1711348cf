//! What shapes a flow: conditions, foreach, and settings that depend on the split or the attempt.
//!
//! Expressions and their places only; evaluating them takes a scope, which is another's to make.

use std::sync::Arc;

use serde_json::Value;

use super::expression::Expression;
use super::template::Template;

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
    /// A text with expressions.
    Template(Template),
}

/// Whether what a layer did once is not done again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// Files and folders that it reads besides its inputs, relative to the flow file's folder.
    pub sources: Vec<String>,
}

/// Settings of a layer that hold expressions, so that each attempt has its own.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// The keys of the `container` block that hold expressions, each with its value as it is written: a text, or a list
    /// or map with texts in it.
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

impl Open {
    /// Whether the cores or the memory that an attempt reserves are among them.
    #[must_use]
    pub fn sizes(&self) -> bool {
        self.container.iter().any(|(key, _)| matches!(key.as_str(), "cpu" | "memory"))
    }
}
