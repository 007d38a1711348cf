//! Compares a marked tree with the JSON Schema of the flow file: every unknown key, wrong type, missing key and duplicate,
//! with its place. Slow and thorough; asked only when something is wrong.
//!
//! It knows no key by itself, but for those that a later version brings. What is wrong is taken out of the tree it hands
//! back, so that what is right can be checked further.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use crate::flow::marked::{Kind, Node, Plain, Tree};
use crate::flow::problem::{Place, Problem};
use crate::units::{clip, closest};

/// Keys that a later version brings, by the type they stand in, and what to do until then.
const LATER: [(&[&str], &str, &str); 1] =
    [(&["Container"], "reuse", "remove it; each attempt has a container of its own until then")];

/// Everything in which a tree differs from a schema, and the tree without it.
pub(super) fn examine<'a>(tree: &Tree<'a>, text: &str, schema: &Value) -> (Vec<Problem>, Node<'a>) {
    let mut walk = Walk { tree, text, schema, problems: Vec::new(), key: 0..0 };
    let root = walk.value(&tree.root, Spot { schema, name: "File" });
    let root = root.unwrap_or_else(|| Node { span: tree.root.span.clone(), kind: Kind::Map(Vec::new()), pruned: true });
    (walk.problems, root)
}

/// A part of the schema, and the name of the type it describes.
#[derive(Clone, Copy)]
struct Spot<'s> {
    schema: &'s Value,
    name: &'s str,
}

struct Walk<'s, 'a> {
    tree: &'s Tree<'a>,
    text: &'s str,
    schema: &'s Value,
    problems: Vec<Problem>,
    /// Where the key of the value at hand is, to point at when there is no value.
    key: Range<u32>,
}

impl<'s, 'a> Walk<'s, 'a> {
    /// What is right of a value; nothing if it is wrong altogether.
    fn value(&mut self, node: &Node<'a>, spot: Spot<'s>) -> Option<Node<'a>> {
        let spot = self.resolve(spot, node);
        if let Some(words) = words(spot.schema) {
            return self.word(node, &words);
        }
        if !fits(node, spot.schema) {
            self.wrong_type(node, spot);
            return None;
        }
        if node.is_too_large() && !types(spot.schema).contains(&"string") {
            self.report(node, "too large for a number".to_owned(), Some("put it in quotes".to_owned()));
            return None;
        }
        let mut pruned = node.was_pruned();
        let kind = match node.kind() {
            Kind::Map(entries) => Kind::Map(self.map(node, entries, spot, &mut pruned)),
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.value(item, spot.child("items"))).collect();
                pruned |= items.iter().any(Option::is_none);
                Kind::List(items.into_iter().flatten().collect())
            }
            Kind::Plain(text, Plain::Float(number)) if !number.is_finite() && spot.schema.get("type").is_none() => {
                self.report(node, format!("`{text}` has no JSON form"), Some("write a finite number".to_owned()));
                return None;
            }
            other => other.clone(),
        };
        Some(Node { span: node.span.clone(), kind, pruned })
    }

    fn map(
        &mut self,
        node: &Node<'a>,
        entries: &[(Node<'a>, Node<'a>)],
        spot: Spot<'s>,
        pruned: &mut bool,
    ) -> Vec<(Node<'a>, Node<'a>)> {
        let mut seen: std::collections::HashMap<&str, &Node<'a>> = std::collections::HashMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let Some(name) = key.text() else {
                self.report(key, "a key that is no text".to_owned(), Some("write a name before the colon".to_owned()));
                *pruned = true;
                continue;
            };
            if let Some(first) = seen.insert(name, key) {
                seen.insert(name, first);
                self.duplicate(name, first, key, spot);
                continue;
            }
            let Some(child) = spot.key(name) else {
                self.unknown_key(name, key, value, spot);
                *pruned = true;
                continue;
            };
            self.key = key.span.clone();
            let right = self.value(value, child);
            *pruned |= right.is_none();
            kept.push((key.clone(), right.unwrap_or_else(|| hole(value))));
        }
        for missing in required(spot.schema).filter(|name| !seen.contains_key(name)) {
            if !node.was_pruned() {
                let hint = self.hint_for_missing(missing, spot);
                self.report(node, format!("missing key `{missing}`"), hint);
            }
            *pruned = true;
            let key = Kind::Text(Cow::Owned(missing.to_owned()));
            kept.push((Node { span: node.span.clone(), kind: key, pruned: true }, hole(node)));
        }
        kept
    }

    /// Follows references, and chooses among alternatives the one that fits.
    fn resolve(&self, spot: Spot<'s>, node: &Node<'a>) -> Spot<'s> {
        if let Some(name) = spot.schema.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/$defs/")) {
            let Some(schema) = self.schema.get("$defs").and_then(|defs| defs.get(name)) else { return spot };
            return self.resolve(Spot { schema, name }, node);
        }
        if words(spot.schema).is_some() {
            return spot;
        }
        let Some(branches) = alternatives(spot.schema) else { return spot };
        let mut branches = branches.iter().map(|schema| self.resolve(Spot { schema, ..spot }, node));
        let found = branches.clone().find(|branch| words(branch.schema).is_none() && fits(node, branch.schema));
        let real = branches.find(|branch| !is_null(branch.schema));
        match node.kind() {
            Kind::Null => found.or(real).unwrap_or(spot),
            _ => found.or(real).unwrap_or(spot),
        }
    }

    fn word(&mut self, node: &Node<'a>, words: &[&str]) -> Option<Node<'a>> {
        match node.text() {
            Some(text) if words.contains(&text) => return Some(node.clone()),
            Some(text) => {
                let hint = closest(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
                let message = format!("unknown value `{}`, expected {}", clip(text), list(words));
                self.report(node, message, hint);
            }
            None => self.report(node, format!("expected {}, found {}", list(words), describe(node)), None),
        }
        None
    }

    fn wrong_type(&mut self, node: &Node<'a>, spot: Spot<'s>) {
        let types = types(spot.schema);
        let hint = match node.kind() {
            Kind::Text(text) if types == ["object"] && !text.contains(": ") && text.contains(':') => {
                let (key, value) = text.split_once(':').unwrap_or_default();
                Some(format!("write a space after the colon: `{}: {}`", clip(key), clip(value)))
            }
            _ if self.form(node, spot).is_some() => self.form(node, spot),
            Kind::Text(text) if types.contains(&"array") => Some(self.as_list(text)),
            Kind::Plain(text, _) if types.contains(&"array") => Some(format!("write a list: `[{text}]`")),
            Kind::Text(text)
                if Plain::number(text).is_some() && types.iter().any(|t| matches!(*t, "integer" | "number")) =>
            {
                Some("remove the quotes".to_owned())
            }
            Kind::Text(text) if types.contains(&"boolean") && matches!(&**text, "yes" | "no" | "on" | "off") => {
                Some("write `true` or `false`".to_owned())
            }
            Kind::Null => Some("write something, or remove the key".to_owned()),
            Kind::Map(_) if node.text().is_none() && types.contains(&"string") && self.looks_like_expression(node) => {
                Some("put a text with `${{ … }}` into quotes: \"${{ … }}\"".to_owned())
            }
            _ => None,
        };
        self.report(node, format!("expected {}, found {}", expected(&types), describe(node)), hint);
    }

    /// The name of the key whose value is at hand.
    fn key_name(&self) -> &str {
        self.text[self.tree.bytes(self.text, &self.key)].trim_matches(['"', '\''])
    }

    /// A text as the list it was meant to be; a command line is split.
    fn as_list(&self, text: &str) -> String {
        let words = clip(text).split_whitespace().collect::<Vec<_>>().join(", ");
        match self.key_name() {
            "command" if text.contains(['"', '\'', '$', '|', '>', '&', ';', ',']) => {
                "write it as a script, with `run` instead of `command`".to_owned()
            }
            "command" => format!("write a list: `[{words}]`, or `run: {}`", clip(text)),
            "shell" => format!("write a list: `[{words}]`"),
            _ => format!("write a list: `[{}]`", clip(text)),
        }
    }

    /// The form of a map for which something else was written.
    fn form(&self, node: &Node<'a>, spot: Spot<'s>) -> Option<String> {
        let form = match (spot.name, node.kind()) {
            ("Layer", Kind::Text(text)) => format!("write `{}: {{ run: {} }}`", self.key_name(), clip(text)),
            ("Retry", Kind::Plain(number, Plain::Signed(_))) => format!("write `{{ attempts: {number} }}`"),
            ("File", Kind::List(_)) if self.key_name() == "layers" => {
                "write the layers by name: `A: { run: … }`".to_owned()
            }
            (_, Kind::List(items)) if self.key_name() == "env" => {
                let first = items.first().and_then(Node::text).and_then(|text| text.split_once('='));
                let (name, value) = first.unwrap_or(("A", "1"));
                format!("write a map: `{{ {}: \"{}\" }}`", clip(name), clip(value))
            }
            _ => return None,
        };
        types(spot.schema).contains(&"object").then_some(form)
    }

    fn looks_like_expression(&self, node: &Node<'a>) -> bool {
        let place = self.tree.bytes(self.text, &node.span);
        self.text[place].starts_with("{{") || node.entries().iter().any(|(key, _)| key.text().is_none())
    }

    fn unknown_key(&mut self, name: &str, key: &Node<'a>, value: &Node<'a>, spot: Spot<'s>) {
        let later = LATER.iter().find(|(types, later, _)| types.contains(&spot.name) && *later == name);
        if let Some((_, _, hint)) = later {
            return self.report(key, format!("`{name}` is not supported yet"), Some((*hint).to_owned()));
        }
        let known: Vec<&str> = properties(spot.schema).collect();
        let container = self.schema.pointer("/$defs/Container").into_iter().flat_map(properties);
        let hint = if name == "<<" {
            "there are no merge keys; write what layers share into `defaults`".to_owned()
        } else if let ("File", Some(meant)) = (spot.name, meant(name)) {
            format!("did you mean `{meant}`?")
        } else if let Some(near) = closest(name, known.iter().copied()) {
            format!("did you mean `{near}`?")
        } else if matches!(spot.name, "Layer" | "Defaults") && container.clone().any(|property| property == name) {
            format!("write it into `container`: `container: {{ {name}: … }}`")
        } else if spot.name == "File"
            && (value.entries().iter().any(|(key, _)| matches!(key.text(), Some("run" | "command"))))
        {
            "write layers into `layers`".to_owned()
        } else {
            format!("known keys here: {}", known.join(", "))
        };
        self.report(key, format!("unknown key `{}`", clip(name)), Some(hint));
    }

    fn duplicate(&mut self, name: &str, first: &Node<'a>, again: &Node<'a>, spot: Spot<'s>) {
        let is_layers =
            spot.schema.pointer("/additionalProperties/$ref").and_then(Value::as_str) == Some("#/$defs/Layer");
        let what = if is_layers { "layer" } else { "key" };
        self.report(again, format!("duplicate {what} `{}`", clip(name)), Some(format!("rename or remove one {what}")));
        let span = self.tree.bytes(self.text, &first.span);
        if let Some(problem) = self.problems.last_mut() {
            problem.places.push(Place { span, label: "first here".to_owned() });
        }
    }

    fn hint_for_missing(&self, name: &str, spot: Spot<'s>) -> Option<String> {
        match (spot.name, name) {
            ("File", "flow") => Some("name the flow: `flow: MyFlow`".to_owned()),
            ("File", "layers") => Some("write at least one layer: `layers: { Hello: { run: echo hello } }`".to_owned()),
            _ => None,
        }
    }

    fn report(&mut self, node: &Node<'a>, message: String, hint: Option<String>) {
        let written = if node.span.is_empty() { &self.key } else { &node.span };
        let mut span = self.tree.bytes(self.text, written);
        // A whole map says nothing about a place: its first line does.
        if matches!(node.kind(), Kind::Map(_) | Kind::List(_)) {
            let line = self.text[span.clone()].find('\n').unwrap_or(span.len());
            span.end = span.start + line;
        }
        self.problems.push(Problem { message, places: vec![Place { span, label: String::new() }], hint });
    }
}

impl<'s> Spot<'s> {
    fn child(self, key: &str) -> Spot<'s> {
        Spot { schema: self.schema.get(key).unwrap_or(&Value::Bool(true)), ..self }
    }

    /// What the schema says of the value of a key; nothing if there must be no such key.
    fn key(self, key: &str) -> Option<Spot<'s>> {
        let property = self.schema.get("properties").and_then(|properties| properties.get(key));
        let other = || self.schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let schema = property.unwrap_or_else(other);
        (*schema != Value::Bool(false)).then_some(Spot { schema, ..self })
    }
}

/// What other engines call the keys of a flow.
fn meant(name: &str) -> Option<&'static str> {
    match name {
        "name" => Some("flow"),
        "steps" | "tasks" | "jobs" => Some("layers"),
        _ => None,
    }
}

/// What stands in the place of a value that was taken out.
fn hole<'a>(value: &Node<'a>) -> Node<'a> {
    Node { span: value.span.clone(), kind: Kind::Null, pruned: true }
}

fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
}

/// The words an enumeration allows.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    alternatives(schema)?.iter().map(|branch| branch.get("const").and_then(Value::as_str)).collect()
}

fn properties(schema: &Value) -> impl Iterator<Item = &str> + Clone {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|map| map.keys().map(String::as_str))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => alternatives(schema).into_iter().flatten().flat_map(types).collect(),
    }
}

fn is_null(schema: &Value) -> bool {
    types(schema) == ["null"]
}

/// Whether a value is of a type that the schema allows. A text is whatever is no map, list or nothing.
fn fits(node: &Node<'_>, schema: &Value) -> bool {
    let types = types(schema);
    let allows = |one: &str| types.contains(&one);
    if types.is_empty() {
        return true;
    }
    match node.kind() {
        Kind::Null => allows("null"),
        Kind::Plain(_, Plain::Bool(_)) => allows("boolean") || allows("string"),
        Kind::Plain(_, Plain::Signed(_)) => allows("integer") || allows("number") || allows("string"),
        Kind::Plain(..) => allows("number") || allows("string"),
        Kind::Text(_) => allows("string"),
        Kind::List(_) => allows("array"),
        Kind::Map(_) => allows("object"),
        Kind::Shared(_) => false,
    }
}

fn expected(types: &[&str]) -> String {
    if types.contains(&"string") && types.contains(&"boolean") {
        return "a text".to_owned();
    }
    let names = types.iter().filter_map(|name| match *name {
        "object" => Some("a map"),
        "array" => Some("a list"),
        "string" => Some("a text"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "boolean" => Some("`true` or `false`"),
        _ => None,
    });
    names.collect::<Vec<_>>().join(" or ")
}

fn describe(node: &Node<'_>) -> String {
    match node.kind() {
        Kind::Null => "nothing".to_owned(),
        Kind::Plain(text, Plain::Bool(_)) => format!("`{text}`"),
        Kind::Plain(text, _) => format!("the number `{}`", clip(text)),
        Kind::Text(text) if text.is_empty() => "an empty text".to_owned(),
        Kind::Text(text) => format!("the text `{}`", clip(text)),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) | Kind::Shared(_) => "a map".to_owned(),
    }
}

fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
