//! Checks what shapes a flow: `when`, `foreach`, `max_parallel` and `cache`.

use std::sync::Arc;

use serde_json::Value;

use super::Step::{self, Key, Nth};
use super::{Check, Part};
use crate::flow::raw::{self, Text};
use crate::flow::shaping::{Cache, Condition, ConditionExpression, Foreach, Item, Values, ValuesExpression};
use crate::flow::template::Scope;
use crate::units::{self, clip};

impl Check<'_> {
    pub(super) fn when(&mut self, raw: &Text, here: &[Step]) -> Option<Condition> {
        let steps = [here, &[Key("when")]].concat();
        match raw.as_str().trim() {
            "true" => return Some(Condition::Literal(true)),
            "false" => return Some(Condition::Literal(false)),
            _ => {}
        }
        let before = self.findings.len();
        let template = self.template(raw.as_str().trim(), &steps);
        if self.findings.len() > before {
            return None;
        }
        if let Some(expression) = template.only() {
            let scope = Scope::of_parameters(&self.known.names.parameters);
            if expression.is_settled()
                && let Err(error) = expression.evaluate_bool(&scope)
            {
                self.find(error.reason, error.hint, steps.clone(), Part::Value);
            }
            return Some(Condition::Expression(ConditionExpression(expression.clone())));
        }
        let text = clip(raw.as_str().trim());
        let hint = if text.contains("${{") {
            "write one expression and nothing around it: `${{ A.x > 1 and B.x > 1 }}`".to_owned()
        } else if matches!(&*text, "yes" | "no" | "on" | "off" | "True" | "False") {
            "write `true` or `false`".to_owned()
        } else {
            format!("write `${{{{ {text} }}}}`")
        };
        self.find("`when` is not one expression", Some(hint), steps, Part::Value);
        None
    }

    pub(super) fn foreach(&mut self, raw: &raw::Pairs<raw::Json>, here: &[Step]) -> Option<Foreach> {
        let steps = [here, &[Key("foreach")]].concat();
        if raw.0.is_empty() {
            let hint = Some("name the values: `foreach: { x: [1, 2, 3] }`".to_owned());
            self.find("an empty `foreach`", hint, steps.clone(), Part::Value);
        }
        let before = self.findings.len();
        let mut names = Vec::with_capacity(raw.0.len());
        for (at, (name, value)) in raw.0.iter().enumerate() {
            let here = [&steps[..], &[Nth(at)]].concat();
            self.identifier("a name of `foreach`", name, &here, Part::Key);
            let values = match &value.0 {
                Value::Array(items) => {
                    let item = |(at, item)| self.item(item, &[&here[..], &[Nth(at)]].concat());
                    Values::List(items.iter().enumerate().map(item).collect())
                }
                Value::String(text) if text.contains("${{") => {
                    let template = self.template(text.trim(), &here);
                    match template.only() {
                        Some(expression) => Values::Expression(ValuesExpression(expression.clone())),
                        None => Values::Given(Item::Template(template)),
                    }
                }
                Value::Null => {
                    let hint = Some("write a list, or an expression that gives one".to_owned());
                    self.find(format!("`{}` has no values", clip(name)), hint, here, Part::Key);
                    continue;
                }
                value => Values::Given(Item::Value(value.clone())),
            };
            names.push((Arc::from(name.as_str()), values));
        }
        if self.findings.len() > before {
            return None;
        }
        let foreach = Foreach(names);
        self.foreach_fits(&foreach, &steps);
        Some(foreach)
    }

    /// What parameters alone decide can be tried out.
    fn foreach_fits(&mut self, foreach: &Foreach, steps: &[Step]) {
        if let Some(Err(error)) = foreach.rehearse(&self.known.names.parameters) {
            self.find(format!("`foreach`: {error}"), None, steps.to_vec(), Part::Key);
        }
    }

    fn item(&mut self, item: &Value, steps: &[Step]) -> Item {
        match item {
            Value::String(text) if text.contains("${{") => {
                let template = self.template(text, steps);
                match template.only() {
                    Some(expression) => Item::Expression(ValuesExpression(expression.clone())),
                    None => Item::Template(template),
                }
            }
            value => Item::Value(value.clone()),
        }
    }

    pub(super) fn max_parallel(&mut self, raw: Option<i64>, here: &[Step]) -> Option<u32> {
        let count = units::count("max_parallel", raw?, 1);
        self.take(count, || [here, &[Key("max_parallel")]].concat())
    }

    /// Whether something is said, and what.
    pub(super) fn cache(&mut self, raw: Option<&raw::Cache>, here: &[Step]) -> Option<Option<Arc<Cache>>> {
        let steps = [here, &[Key("cache"), Key("sources")]].concat();
        Some(match raw? {
            raw::Cache::Plain(false) => None,
            raw::Cache::Plain(true) => Some(Arc::default()),
            raw::Cache::Parts(parts) => Some(Arc::new(Cache {
                sources: self.texts("cache", &parts.sources, &steps),
                ignore: parts.ignore.clone(),
            })),
        })
    }
}
