//! What only a program knows of its flow: conditions, lists and settings that are computed by its own code.
//!
//! It is unaware of what kind of program that is. Expressions ask by name, `program.x`.

use std::fmt;

use super::template::Scope;

/// Answers what expressions ask as `program.x`. The same question in the same scope has the same answer.
pub trait Answers: fmt::Debug + Send + Sync {
    /// The answer to a question. `scope` holds what there is to be known where it is asked. May block to read what layers left.
    ///
    /// # Errors
    /// Why there is none, as a sentence fragment.
    fn answer(&self, question: &str, scope: &Scope<'_>) -> Result<serde_json::Value, String>;
}
