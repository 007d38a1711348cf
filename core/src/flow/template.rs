//! Texts with `${{ expressions }}` in them. (interface; the body is being written)

use std::sync::Arc;

use crate::flow::Parameters;
use crate::id::ExecutionId;

/// A text in which `${{ … }}` stands for values. A text without any costs nothing to evaluate.
#[derive(Clone, Debug)]
pub struct Template(Arc<str>);

/// A shell script in which `${{ … }}` stands for values. Evaluating it never puts a value into the script's text: each
/// becomes a variable, and a quoted reference to it stands in the text.
#[derive(Clone, Debug)]
pub struct Script(Arc<str>);

/// What expressions can name.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// `parameters.x`
    pub parameters: &'a Parameters,
    /// `execution.id`
    pub execution: ExecutionId,
    /// `attempt`, from 1
    pub attempt: u32,
    /// `index`, from 0
    pub index: u32,
    /// `splits`
    pub splits: u32,
}

/// An expression that could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[error("cannot evaluate `${{{{ {expression} }}}}`: {reason}")]
pub struct ExpressionError {
    /// The expression.
    pub expression: String,
    /// Why not.
    pub reason: String,
}

impl Template {
    /// A text without expressions.
    #[must_use]
    pub fn literal(text: &str) -> Template {
        Template(text.into())
    }

    /// The text, with a value in place of each expression.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or its value has a NUL byte.
    pub fn evaluate(&self, _scope: &Scope<'_>) -> Result<String, ExpressionError> {
        Ok(self.0.to_string())
    }
}

impl Script {
    /// A script without expressions.
    #[must_use]
    pub fn literal(text: &str) -> Script {
        Script(text.into())
    }

    /// The script's text, and the variables `LAMINAR_VALUE_1`, … that it refers to, with their values.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or its value has a NUL byte.
    pub fn evaluate(&self, _scope: &Scope<'_>) -> Result<(String, Vec<(String, String)>), ExpressionError> {
        Ok((self.0.to_string(), Vec::new()))
    }
}
