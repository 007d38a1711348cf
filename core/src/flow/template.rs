//! Texts with `${{ expressions }}` in them.
//!
//! A [`Template`] puts values into the text: for arguments and environment variables, which are never parsed again. A
//! [`Script`] never does: a shell reads it, so each value becomes a variable and the text holds a quoted reference to it.
//! That text is made once, when the flow is checked, and is the same for every task.
//!
//! It is unaware of layers and of who evaluates.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::flow::Parameters;
use crate::flow::answers::Answers;
use crate::flow::expression::{self, Expression, Flaw, Known, Settled};
pub use crate::flow::left::{Datum, Layers};
use crate::flow::shell::{self, Context, Refusal};
use crate::id::ExecutionId;

/// A text in which `${{ … }}` stands for values. A text without any costs nothing to evaluate.
#[derive(Clone, Debug)]
pub struct Template(Parts);

#[derive(Clone, Debug)]
enum Parts {
    /// A text without any.
    Text(Box<str>),
    Mixed(Arc<[Part]>),
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Value(Expression),
}

/// A shell script in which `${{ … }}` stands for values. Evaluating it never puts a value into the script's text: each
/// becomes a variable, and a quoted reference to it stands in the text.
#[derive(Clone, Debug)]
pub struct Script {
    /// With references in place of expressions.
    text: Arc<str>,
    /// The n-th is the value of the variable `LAMINAR_VALUE_<n>`, counted from 1.
    values: Box<[Expression]>,
}

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// What expressions can name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `parameters.x`
    pub parameters: &'a Parameters,
    /// `env.X`: the variables of whoever runs the flow.
    pub env: &'a Environment,
    /// `execution.id`
    pub execution: ExecutionId,
    /// `attempt`, from 1
    pub attempt: u32,
    /// `index`, from 0
    pub index: u32,
    /// `splits`
    pub splits: u32,
    /// `each.x`
    pub each: &'a Parameters,
    /// `Layer.x`
    pub layers: Option<&'a Arc<dyn Layers>>,
    /// `program.x`
    pub answers: Option<&'a dyn Answers>,
}

impl<'a> Scope<'a> {
    /// Before there is an execution: the first attempt of a layer with one split, and parameters alone.
    #[must_use]
    pub fn of_parameters(parameters: &'a Parameters) -> Scope<'a> {
        static NONE: LazyLock<(Environment, Parameters, ExecutionId)> =
            LazyLock::new(|| (Environment::new(), Parameters::new(), ExecutionId::now()));
        let (env, each, execution) = &*NONE;
        Scope {
            parameters,
            env,
            execution: *execution,
            attempt: 1,
            index: 0,
            splits: 1,
            each,
            layers: None,
            answers: None,
        }
    }
}

/// An expression that could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[error("cannot evaluate `${{{{ {expression} }}}}`: {reason}{}", .hint.iter().map(|hint| format!(" ({hint})")).collect::<String>())]
pub struct ExpressionError {
    /// The expression.
    pub expression: String,
    /// Why not.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Template {
    /// A text without expressions.
    #[must_use]
    pub fn literal(text: &str) -> Template {
        Template(Parts::Text(text.into()))
    }

    /// A text with expressions, which are compiled and whose names are looked up.
    pub(super) fn parse(text: &str, known: &mut Known<'_>) -> Result<Template, Vec<Flaw>> {
        if !text.contains("${{") {
            return Ok(Template::literal(text));
        }
        let (places, unclosed) = expression::find(text);
        let (mut parts, mut flaws, mut from) = (Vec::new(), Vec::new(), 0);
        for place in places {
            if from < place.start {
                parts.push(Part::Text(text[from..place.start].into()));
            }
            from = place.end;
            match Expression::parse(text, &place, known) {
                Ok(expression) => parts.push(Part::Value(expression)),
                Err(flaw) => flaws.push(flaw),
            }
        }
        if from < text.len() {
            parts.push(Part::Text(text[from..].into()));
        }
        flaws.extend(unclosed);
        if flaws.is_empty() { Ok(Template(Parts::Mixed(parts.into()))) } else { Err(flaws) }
    }

    /// Its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.mixed().iter().filter_map(|part| match part {
            Part::Value(expression) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The text, if parameters alone decide it.
    pub(super) fn settled(&self, parameters: &Parameters) -> Option<Result<String, ExpressionError>> {
        self.expressions().all(Expression::is_settled).then(|| self.evaluate(&Scope::of_parameters(parameters)))
    }

    /// The text, with what is known of its values: parts without text between them are one.
    pub(super) fn settle(&self, parameters: &Parameters) -> Vec<Settled> {
        let mut parts = vec![Settled::Value(self.plain().to_owned())];
        for part in self.mixed() {
            let part = match part {
                Part::Text(text) => Settled::Value(text.to_string()),
                Part::Value(expression) => expression.settle(parameters),
            };
            match (parts.last_mut(), part) {
                (Some(Settled::Value(last)), Settled::Value(text)) => last.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        parts
    }

    /// The text, with a value in place of each expression.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or its value has a NUL byte or is longer than an argument can be.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<String, ExpressionError> {
        self.fill(|expression| expression.evaluate(scope))
    }

    /// The same, where a value may hold what stands for the folder of inputs.
    pub(super) fn evaluate_any(&self, scope: &Scope<'_>) -> Result<String, ExpressionError> {
        self.fill(|expression| expression.evaluate_any(scope))
    }

    fn fill(
        &self,
        mut value: impl FnMut(&Expression) -> Result<String, ExpressionError>,
    ) -> Result<String, ExpressionError> {
        let mut text = self.plain().to_owned();
        for part in self.mixed() {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(expression) => text.push_str(&value(expression)?),
            }
        }
        Ok(text)
    }

    /// The expression that it is, if there is nothing else in it.
    pub(super) fn only(&self) -> Option<&Expression> {
        match self.mixed() {
            [Part::Value(expression)] => Some(expression),
            _ => None,
        }
    }

    /// The text, if there is nothing else in it.
    fn plain(&self) -> &str {
        match &self.0 {
            Parts::Text(text) => text,
            Parts::Mixed(_) => "",
        }
    }

    /// Texts and expressions, if it is no plain text.
    fn mixed(&self) -> &[Part] {
        match &self.0 {
            Parts::Text(_) => &[],
            Parts::Mixed(parts) => parts,
        }
    }
}

impl Script {
    /// A script without expressions.
    #[must_use]
    pub fn literal(text: &str) -> Script {
        Script { text: text.into(), values: Box::default() }
    }

    /// A script with expressions, for the program that is to read it.
    pub(super) fn parse(text: &str, shell: &str, known: &mut Known<'_>) -> Result<Script, Vec<Flaw>> {
        if !text.contains("${{") {
            return Ok(Script::literal(text));
        }
        let (places, unclosed) = expression::find(text);
        let contexts = shell::contexts(text, &places);
        let (mut script, mut from) = (String::with_capacity(text.len()), 0);
        let (mut values, mut flaws): (Vec<Expression>, _) = (Vec::new(), Vec::new());
        for (place, context) in places.iter().zip(contexts) {
            script.push_str(&text[from..place.start]);
            from = place.end;
            if let Some((message, hint)) = refuse(shell, context, &text[place.clone()]) {
                flaws.push(Flaw { span: place.clone(), message, hint: Some(hint) });
                continue;
            }
            let expression = match Expression::parse(text, place, known) {
                Ok(expression) => expression,
                Err(flaw) => {
                    flaws.push(flaw);
                    continue;
                }
            };
            let same = values.iter().position(|value| value.is_same(&expression));
            let number = same.unwrap_or(values.len()) + 1;
            if same.is_none() {
                values.push(expression);
            }
            let quote = if context == Context::Unquoted { "\"" } else { "" };
            script.push_str(&format!("{quote}${{LAMINAR_VALUE_{number}}}{quote}"));
        }
        script.push_str(&text[from..]);
        flaws.extend(unclosed);
        if flaws.is_empty() { Ok(Script { text: script.into(), values: values.into() }) } else { Err(flaws) }
    }

    /// Its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.values.iter()
    }

    /// The script's text, and what is known of the values that it refers to.
    pub(super) fn settle(&self, parameters: &Parameters) -> (&str, Vec<Settled>) {
        (&self.text, self.values.iter().map(|value| value.settle(parameters)).collect())
    }

    /// The script's text, and the variables `LAMINAR_VALUE_1`, … that it refers to, with their values.
    ///
    /// # Errors
    /// When an expression cannot be evaluated, or its value has a NUL byte or is longer than a variable can be.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<(String, Vec<(String, String)>), ExpressionError> {
        let name = |at: usize| format!("LAMINAR_VALUE_{}", at + 1);
        let values = self.values.iter().enumerate();
        let values: Result<_, _> = values.map(|(at, value)| Ok((name(at), value.evaluate(scope)?))).collect();
        Ok((self.text.to_string(), values?))
    }
}

/// Whether a program's name is that of a shell whose quoting we know.
fn is_posix(shell: &str) -> bool {
    let name = Path::new(shell).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "sh" | "bash" | "dash" | "ash" | "ksh" | "ksh93" | "mksh" | "zsh" | "busybox")
}

/// The expression, made to give a number or fail.
fn as_number(written: &str) -> String {
    let inside = written.trim_start_matches("${{").trim_end_matches("}}").trim();
    let is_name = inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
    if is_name { format!("${{{{ {inside} | int }}}}") } else { format!("${{{{ ({inside}) | int }}}}") }
}

fn refuse(shell: &str, context: Context, written: &str) -> Option<(String, String)> {
    let through_env = format!("declare it in `env`, `VALUE: {written}`, and read the variable here");
    if !is_posix(shell) {
        let message = format!("an expression cannot stand in a script for `{shell}`, whose quoting is not known");
        return Some((message, through_env));
    }
    let Context::Refused(refusal) = context else { return None };
    let number = format!("set a variable to what is surely a number first: `value={}`", as_number(written));
    let double = "write double quotes instead".to_owned();
    let (place, mend) = match refusal {
        Refusal::SingleQuotes => ("within single quotes, where the shell expands nothing", double),
        Refusal::DollarQuotes => ("within `$'…'`, where the shell expands nothing", double),
        Refusal::QuotedHereDocument => (
            "in a here-document with a quoted end, where the shell expands nothing",
            "remove the quotes from the word after `<<`".to_owned(),
        ),
        Refusal::Arithmetic => (
            "in the shell's arithmetic, which would evaluate the value",
            format!("compute inside the expression: `${{{{ attempt * 100 }}}}`, or {number}"),
        ),
        Refusal::Expansion => ("in this part of a `${…}`, which the shell would evaluate", number),
        Refusal::DoubleBrackets => (
            "within `[[ … ]]`, which would evaluate the value",
            "use `[ … ]`, which compares without evaluating".to_owned(),
        ),
        Refusal::Subscript => ("in the subscript of an array, which the shell would evaluate", number),
        Refusal::Evaluated => (
            "where the shell would evaluate the value, or take it for a variable's name",
            format!("assign to a plain variable, or {number}"),
        ),
        Refusal::Code => (
            "in what the shell reads as commands",
            format!("assign to a plain variable, `value={written}`, and write `\"$value\"` within single quotes here"),
        ),
        Refusal::Format => {
            ("first behind `printf`, which would read options and `%` in it", "write `printf '%s' …`".into())
        }
        Refusal::Backslash => ("behind a backslash", "remove the backslash".to_owned()),
        Refusal::Dollar => ("right behind a `$`", "set a variable first, or put the `$` into single quotes".to_owned()),
        Refusal::Backticks => {
            ("in backticks within quotes or backticks", "write `$(…)` instead of backticks".to_owned())
        }
        Refusal::Unended => (
            "in or behind a here-document that does not end",
            "write the word after `<<` on a line of its own behind it".to_owned(),
        ),
        Refusal::Delimiter => ("in the word after `<<`", "write a plain word".to_owned()),
        Refusal::Nesting => ("this deep within other constructs", through_env),
    };
    Some((format!("an expression cannot stand {place}"), mend))
}

#[cfg(test)]
mod tests;
