//! One `${{ expression }}`: found in a text, compiled, asked what it names, evaluated.
//!
//! It is unaware of where its value goes. Invariants: an expression names only roots that exist ([`ROOTS`], and layers), and
//! evaluating it is bounded in time and memory by what it and what it names hold (there are no functions, and the filters
//! that could multiply texts are limited). As a text its value has no NUL byte and fits into an argument or a variable.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::value::{Serde, Value, ValueKind};

use crate::flow::Parameters;
use crate::flow::filters::{ENVIRONMENT, FILTERS, unknown_filter};
use crate::flow::left::{LayerObject, STATE};
use crate::flow::name::{Name, Names, PROGRAM, ROOTS};
use crate::flow::template::{ExpressionError, Scope};
use crate::id::LayerId;
use crate::json;
use crate::units::closest;

/// The longest value: what the kernel takes as one argument or variable (`MAX_ARG_STRLEN`), less room for its name.
pub(super) const LONGEST: usize = 128 * 1024 - 512;

/// The longest expression: the compiler recurses over it.
const LONGEST_SOURCE: usize = 2000;

/// What is wrong in a text with expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The bytes of the text it is about.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    source: Arc<str>,
    compiled: Arc<minijinja::Expression<'static, 'static>>,
    names: Arc<[Name]>,
}

/// What expressions of one flow can name, and those that were compiled already: layers repeat each other.
#[derive(Debug, Default)]
pub(super) struct Known<'r> {
    /// What there is to be named.
    pub(super) names: Names<'r>,
    /// The layers that they have named since this was last taken; perhaps more than once.
    pub(super) named: Vec<LayerId>,
    compiled: HashMap<String, Expression>,
}

impl Known<'_> {
    /// Nothing compiled yet.
    #[cfg(test)]
    pub(super) fn new(parameters: Parameters) -> Known<'static> {
        Known { names: Names { parameters, ..Names::default() }, ..Known::default() }
    }
}

/// What is known of an expression's value before anything is launched. Two that are equal have the same value in the same
/// task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Settled {
    /// It is this.
    Value(String),
    /// It depends on the attempt, the environment or the like.
    Open {
        /// As it is written.
        source: Arc<str>,
        /// The parameters that it names.
        named: Parameters,
    },
}

/// Where the expressions of a text are, `${{` and `}}` included, and what is wrong if the last is not closed.
pub(super) fn find(text: &str) -> (Vec<Range<usize>>, Option<Flaw>) {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("${{").map(|start| from + start) {
        let Some(end) = end(text, start + 3) else {
            let hint = "close it with `}}`; for a plain `${{` write `${{ '${{' }}`".to_owned();
            let message = "this expression is not closed".to_owned();
            return (found, Some(Flaw { span: start..start + 3, message, hint: Some(hint) }));
        };
        found.push(start..end);
        from = end;
    }
    (found, None)
}

/// Behind the `}}` that closes the expression which starts at `at`.
fn end(text: &str, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut quote, mut braces) = (None, 0_u32);
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'{') => braces += 1,
            (None, b'}') if braces > 0 => braces -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at + 2),
            _ => {}
        }
        at += 1;
    }
    None
}

impl Expression {
    /// Compiles the expression that is at `place` in `text`, with its `${{` and `}}`.
    pub(super) fn parse(text: &str, place: &Range<usize>, known: &mut Known<'_>) -> Result<Expression, Flaw> {
        let source = text[place.start + 3..place.end - 2].trim();
        let flaw = |message: String, hint: Option<String>| Flaw { span: place.clone(), message, hint };
        if let Some(expression) = known.compiled.get(source) {
            let expression = expression.clone();
            expression.check_names(known).map_err(|(message, hint)| flaw(message, hint))?;
            return Ok(expression);
        }
        if source.is_empty() {
            return Err(flaw(
                "an empty expression".into(),
                Some("write what it stands for: `${{ parameters.x }}`".into()),
            ));
        }
        if source.len() > LONGEST_SOURCE {
            let hint = "compute the value in a layer".to_owned();
            return Err(flaw(format!("an expression of more than {LONGEST_SOURCE} bytes"), Some(hint)));
        }
        let compiled = ENVIRONMENT.compile_expression_owned(source.to_owned()).map_err(|error| {
            let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            flaw(format!("cannot read the expression `{}`: {why}", crate::units::clip(source)), None)
        })?;
        let mut names: Vec<Name> = compiled.undeclared_variables(true).iter().map(|name| Name::new(name)).collect();
        names.sort_by(|a, b| (&a.root, &a.attribute).cmp(&(&b.root, &b.attribute)));
        let expression = Expression { source: source.into(), compiled: Arc::new(compiled), names: names.into() };
        expression.check_names(known).map_err(|(message, hint)| flaw(message, hint))?;
        if let Some(filter) = unknown_filter(source) {
            let hint = closest(filter, FILTERS.into_iter()).map(|near| format!("did you mean `{near}`?"));
            let hint = hint.unwrap_or_else(|| format!("there are {}", FILTERS.join(", ")));
            return Err(flaw(format!("unknown filter `{filter}`"), Some(hint)));
        }
        known.compiled.insert(source.to_owned(), expression.clone());
        Ok(expression)
    }

    /// Whether there are the names where it stands; the layers among them are noted.
    fn check_names(&self, known: &mut Known<'_>) -> Result<(), (String, Option<String>)> {
        for name in self.names.iter() {
            if let Some(layer) = name.check(&known.names)? {
                known.named.push(layer);
            }
        }
        Ok(())
    }

    /// As it is written, without blanks around it.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// What it names, sorted.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// Whether it is written like this one; then it has the same value.
    pub(super) fn is_same(&self, other: &Expression) -> bool {
        self.source == other.source
    }

    /// Whether parameters alone decide its value.
    pub(super) fn is_settled(&self) -> bool {
        self.names().iter().all(|name| name.root == "parameters")
    }

    /// Whether it names a layer, or asks somebody who may read what layers left.
    pub(super) fn reads(&self) -> bool {
        self.names().iter().any(|name| name.root == PROGRAM || !ROOTS.contains(&name.root.as_str()))
    }

    /// The layer and the artifact, if it names one and is nothing else: `Layer.artifact`, `Layer['artifact']`.
    pub(super) fn artifact(&self) -> Option<(&str, &str)> {
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let at = self.source.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
        let (layer, rest) = self.source.split_at(at);
        let artifact = match rest.strip_prefix('.') {
            Some(artifact) => Some(artifact).filter(|artifact| plain(artifact))?,
            None => {
                let inside = rest.strip_prefix('[')?.strip_suffix(']')?.trim();
                let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
                let name = inside.strip_prefix(quote)?.strip_suffix(quote)?;
                Some(name).filter(|name| !name.contains(['\\', '\'', '"']))?
            }
        };
        (!ROOTS.contains(&layer) && artifact != STATE).then_some((layer, artifact))
    }

    /// Its value, where parameters alone decide it; else it is open until a task is launched.
    pub(super) fn settle(&self, parameters: &Parameters) -> Settled {
        if self.is_settled()
            && let Ok(value) = self.evaluate(&Scope::of_parameters(parameters))
        {
            return Settled::Value(value);
        }
        let mut named = Parameters::new();
        // Whoever answers may look at all parameters.
        let names_all = |name: &Name| name.root == PROGRAM || (name.root == "parameters" && name.attribute.is_none());
        if self.names().iter().any(names_all) {
            named = parameters.clone();
        }
        for name in self.names().iter().filter(|name| name.root == "parameters") {
            let named_one = name.attribute.as_deref();
            named.extend(named_one.and_then(|name| Some((name.to_owned(), parameters.get(name)?.clone()))));
        }
        Settled::Open { source: Arc::clone(&self.source), named }
    }

    /// Its value as a text, which may hold what stands for the folder of inputs.
    pub(super) fn evaluate_any(&self, scope: &Scope<'_>) -> Result<String, ExpressionError> {
        let value = self.value(scope)?;
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => self.json(&value),
        }
    }

    /// Its value as a text.
    pub(super) fn evaluate(&self, scope: &Scope<'_>) -> Result<String, ExpressionError> {
        let text = self.evaluate_any(scope)?;
        if text.contains('\0') {
            return Err(self.error("its value has a NUL byte, which no argument can hold".into(), Some(FILE)));
        }
        if text.len() > LONGEST {
            let reason = format!("its value has {} bytes, more than an argument can hold (128 KiB)", text.len());
            return Err(self.error(reason, Some(FILE)));
        }
        Ok(text)
    }

    /// Its value as JSON.
    pub(super) fn evaluate_json(&self, scope: &Scope<'_>) -> Result<serde_json::Value, ExpressionError> {
        let value = self.value(scope)?;
        self.finite(&value)?;
        serde_json::to_value(&value).map_err(|error| self.error(error.to_string(), None))
    }

    /// Its value, which must be `true` or `false`.
    pub(super) fn evaluate_bool(&self, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        let value = self.value(scope)?;
        match value.kind() {
            ValueKind::Bool => Ok(value.is_true()),
            _ => {
                let shown = match value.as_str() {
                    Some(text) => format!("the text `{}`", crate::units::clip(text)),
                    None => {
                        let json = self.json(&value).unwrap_or_else(|_| value.kind().to_string());
                        format!("`{}`", crate::units::clip(&json))
                    }
                };
                let reason = format!("its value is {shown}, neither `true` nor `false`");
                let hint = "write a comparison, such as `A.score > 0.9`, `A.state == 'skipped'` or `env.X == 'true'`";
                Err(self.error(reason, Some(hint)))
            }
        }
    }

    fn value(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        let evaluated = self.compiled.eval(self.context(scope)?).and_then(|value| match value.kind() {
            // What could not be read shows only when it is used.
            ValueKind::Invalid => value.try_iter().map(|_| value.clone()),
            _ => Ok(value),
        });
        let value = evaluated.map_err(|error| {
            let kind = error.kind().to_string();
            let reason = error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}: {detail}"));
            if error.kind() == ErrorKind::UndefinedError {
                return self.undefined(scope, reason);
            }
            // A filter says only that it cannot work with what is not there.
            let missing = self.missing(scope).map(|(why, hint)| format!("{why}; {hint}"));
            self.error(reason, missing.as_deref())
        })?;
        if value.is_undefined() { Err(self.undefined(scope, "its value is undefined".into())) } else { Ok(value) }
    }

    /// Something was undefined; mostly it is a variable that is not set, or an artifact that was not left.
    fn undefined(&self, scope: &Scope<'_>, reason: String) -> ExpressionError {
        let mut variables =
            self.names().iter().filter(|name| name.root == "env").filter_map(|name| name.attribute.as_deref());
        if let Some(unset) = variables.find(|variable| !scope.env.contains_key(*variable)) {
            let hint = format!("set it, or write `${{{{ env.{unset} | default('') }}}}`");
            return self.error(format!("the environment variable `{unset}` is not set"), Some(&hint));
        }
        match self.missing(scope) {
            Some((reason, hint)) => self.error(reason, Some(&hint)),
            None => self.error(reason, None),
        }
    }

    /// An artifact that it names and that was not left, or an empty list: why, and what to do about it.
    fn missing(&self, scope: &Scope<'_>) -> Option<(String, String)> {
        let layers = scope.layers?;
        self.names().iter().filter(|name| !ROOTS.contains(&name.root.as_str())).find_map(|Name { root, attribute }| {
            let name = attribute.as_deref().filter(|name| *name != STATE)?;
            match layers.artifact(root, name) {
                Ok(None) => Some(layers.missing(root, name)),
                Ok(Some(datum)) if datum.is_empty() => {
                    let hint = format!("write `… if {root}.{name} else …` for that case");
                    Some((format!("`{root}.{name}` is an empty list"), hint))
                }
                _ => None,
            }
        })
    }

    fn finite(&self, value: &Value) -> Result<(), ExpressionError> {
        json::check(value).map_err(|found| match found.place() {
            place if place.is_empty() => self.error("its value is not a finite number".into(), None),
            place => self.error(format!("`{place}` of its value is not a finite number"), None),
        })
    }

    fn json(&self, value: &Value) -> Result<String, ExpressionError> {
        self.finite(value)?;
        let mut limited = Limited(Vec::new());
        match serde_json::to_writer(&mut limited, value) {
            Ok(()) => String::from_utf8(limited.0).map_err(|error| self.error(error.to_string(), None)),
            Err(error) if error.is_io() => {
                Err(self.error("its value is more than an argument can hold (128 KiB)".into(), Some(FILE)))
            }
            Err(error) => Err(self.error(error.to_string(), None)),
        }
    }

    fn error(&self, reason: String, hint: Option<&str>) -> ExpressionError {
        ExpressionError { expression: self.source.to_string(), reason, hint: hint.map(str::to_owned) }
    }

    /// Only what it names, so that a large parameter costs those who use it.
    fn context(&self, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        let mut roots: BTreeMap<&str, Value> = BTreeMap::new();
        let mut parameters = serde_json::Map::new();
        let (mut env, mut answers) = (BTreeMap::new(), BTreeMap::new());
        for name in self.names() {
            match (name.root.as_str(), name.attribute.as_deref()) {
                ("parameters", Some(attribute)) => {
                    parameters
                        .extend(scope.parameters.get(attribute).map(|value| (attribute.to_owned(), value.clone())));
                }
                ("parameters", None) => parameters = scope.parameters.clone(),
                ("env", Some(variable)) => {
                    env.extend(scope.env.get(variable).map(|value| (variable.to_owned(), value.clone())));
                }
                ("env", None) => env.extend(scope.env.iter().map(|(name, value)| (name.clone(), value.clone()))),
                ("attempt", _) => drop(roots.insert("attempt", scope.attempt.into())),
                ("index", _) => drop(roots.insert("index", scope.index.into())),
                ("splits", _) => drop(roots.insert("splits", scope.splits.into())),
                ("execution", _) => {
                    roots.insert("execution", Value::from_pairs([("id", scope.execution.to_string())]));
                }
                ("each", _) => drop(roots.insert("each", Value::from(Serde(scope.each.clone())))),
                (PROGRAM, question) => {
                    drop(
                        answers.insert(question.unwrap_or_default(), self.answer(question.unwrap_or_default(), scope)?),
                    );
                }
                (layer, _) => {
                    let object = scope.layers.map(|layers| LayerObject::of(layer, Arc::clone(layers)));
                    drop(object.map(|object| roots.insert(layer, Value::from_object(object))));
                }
            }
        }
        if self.names().iter().any(|name| name.root == "parameters") {
            roots.insert("parameters", Value::from(Serde(parameters)));
        }
        if !answers.is_empty() {
            roots.insert(PROGRAM, Value::from(Serde(answers)));
        }
        roots.insert("env", Value::from(Serde(env)));
        Ok(Value::from_pairs(roots))
    }

    fn answer(&self, question: &str, scope: &Scope<'_>) -> Result<serde_json::Value, ExpressionError> {
        let Some(answers) = scope.answers else {
            let hint = "run or resume the flow by its program";
            return Err(self.error("only the program that the flow belongs to can answer it".into(), Some(hint)));
        };
        answers.answer(question, scope).map_err(|reason| self.error(reason, None))
    }
}

const FILE: &str = "let the layer read it from its file in `$LAMINAR_INPUTS` instead";

/// A writer that stops at what an argument can hold.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
