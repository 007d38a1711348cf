//! Composes a marked tree from YAML 1.2, by the core schema: `yes` is a text, `0o17` and `0x1f` are numbers.
//!
//! Aliases are shared, never copied, and weighed as they come, so that a bomb is found before it goes off.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{ALIASED, Counted, Kind, NESTING, NODES, Node, Plain, Tree, Unreadable, floor};

pub(super) fn compose(text: &str) -> Result<Tree<'_>, Unreadable> {
    let counted = Counted::characters(text);
    let mut composer = Composer { bytes: matches!(counted, Counted::Bytes).then_some(text), ..Composer::default() };
    match composer.run(Parser::new_from_str(text)) {
        Ok(root) => Ok(Tree { root, counted }),
        Err(Stop::Syntax(error)) => Err(super::yaml::syntax(text, &counted, &error)),
        Err(Stop::Limit { message, span, hint }) => {
            let bytes = counted.byte(text, span.start as usize)..counted.byte(text, span.end as usize);
            Err(Unreadable { message, span: bytes.start..bytes.end.max(bytes.start), hint: hint.map(str::to_owned) })
        }
    }
}

enum Stop {
    Syntax(ScanError),
    Limit { message: String, span: Range<u32>, hint: Option<&'static str> },
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Stop {
        Stop::Syntax(error)
    }
}

fn stop(message: impl Into<String>, span: Range<u32>, hint: Option<&'static str>) -> Stop {
    Stop::Limit { message: message.into(), span, hint }
}

/// A node, how heavy it is with all aliases followed, and how deep.
struct Weighed<'a> {
    node: Node<'a>,
    bytes: u64,
    aliased: u64,
    levels: usize,
}

/// A map or list that is not closed yet.
struct Open {
    start: u32,
    anchor: usize,
    is_map: bool,
    /// Where in [`Composer::items`] its own begin.
    items: usize,
    bytes: u64,
    aliased: u64,
    levels: usize,
}

struct Anchor<'a> {
    node: Rc<Node<'a>>,
    bytes: u64,
    levels: usize,
}

#[derive(Default)]
struct Composer<'a> {
    /// The text, if spans count its bytes.
    bytes: Option<&'a str>,
    open: Vec<Open>,
    /// What the open maps and lists have so far; of maps, keys and values in turn.
    items: Vec<Node<'a>>,
    anchors: HashMap<usize, Anchor<'a>>,
    root: Option<Node<'a>>,
    nodes: usize,
    documents: usize,
}

impl<'a> Composer<'a> {
    fn run(&mut self, mut parser: Parser<'a, StrInput<'a>>) -> Result<Node<'a>, Stop> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event?;
            self.event(event, &span)?;
        }
        Ok(self.root.take().unwrap_or_else(|| Node::new(0..0, Kind::Null)))
    }

    fn event(&mut self, event: Event<'a>, at: &Span) -> Result<(), Stop> {
        let span = narrow(at);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 1 {
                    return Ok(());
                }
                Err(stop("a second document in one file", span, Some("write each flow into a file of its own")))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let bytes = 64 + text.len() as u64;
                let kind = scalar(self.borrowed(text, &span), style, tag.as_deref(), &span)?;
                self.close(Weighed { node: Node::new(span, kind), bytes, aliased: 0, levels: 0 }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.start(span, anchor, tag.as_deref(), false),
            Event::MappingStart(anchor, tag) => self.start(span, anchor, tag.as_deref(), true),
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end),
            Event::Alias(anchor) => self.alias(anchor, span),
        }
    }

    fn start(&mut self, span: Range<u32>, anchor: usize, tag: Option<&Tag>, is_map: bool) -> Result<(), Stop> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == if is_map { "map" } else { "seq" })
        {
            return Err(unknown_tag(tag, span));
        }
        if self.open.len() >= NESTING {
            return Err(too_deep(span));
        }
        let start = span.start;
        self.open.push(Open { start, anchor, is_map, items: self.items.len(), bytes: 64, aliased: 0, levels: 0 });
        Ok(())
    }

    fn end(&mut self, end: u32) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let mut items = self.items.drain(open.items..);
        let kind = if open.is_map {
            let mut entries = Vec::with_capacity(items.len() / 2);
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                entries.push((key, value));
            }
            Kind::Map(entries)
        } else {
            Kind::List(items.by_ref().collect())
        };
        drop(items);
        let node = Node::new(open.start..end.max(open.start), kind);
        let weighed = Weighed { node, bytes: open.bytes, aliased: open.aliased, levels: open.levels + 1 };
        self.close(weighed, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Range<u32>) -> Result<(), Stop> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(stop("this alias stands within the value it names", span, None));
        };
        if self.open.len() + target.levels > NESTING {
            return Err(too_deep(span));
        }
        let node = Node::new(span, Kind::Shared(Rc::clone(&target.node)));
        let weighed = Weighed { node, bytes: target.bytes, aliased: target.bytes, levels: target.levels };
        self.close(weighed, 0)
    }

    /// A value is complete: it goes into the map or list that is open.
    fn close(&mut self, weighed: Weighed<'a>, anchor: usize) -> Result<(), Stop> {
        let Weighed { mut node, bytes, aliased, levels } = weighed;
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(stop(format!("more than {NODES} keys and values in one file"), node.span, None));
        }
        if anchor != 0 {
            let span = node.span.clone();
            let shared = Rc::new(node);
            self.anchors.insert(anchor, Anchor { node: Rc::clone(&shared), bytes, levels });
            node = Node::new(span, Kind::Shared(shared));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.bytes = parent.bytes.saturating_add(bytes);
        parent.aliased = parent.aliased.saturating_add(aliased);
        parent.levels = parent.levels.max(levels);
        if parent.aliased > ALIASED {
            let message = format!("the aliases of this file stand for more than {} MiB", ALIASED >> 20);
            return Err(stop(message, node.span, Some("write the values out, or put them into `defaults`")));
        }
        self.items.push(node);
        Ok(())
    }

    /// A scalar as it stands in the text, where it stands there unchanged: the parser copies each.
    fn borrowed(&self, scalar: Cow<'a, str>, span: &Range<u32>) -> Cow<'a, str> {
        let written = self.bytes.and_then(|text| text.get(span.start as usize..span.end as usize)).unwrap_or_default();
        // Perhaps it stands in quotes.
        let inside = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        [written, inside].into_iter().find(|written| *written == scalar).map_or(scalar, Cow::Borrowed)
    }
}

fn scalar<'a>(text: Cow<'a, str>, style: ScalarStyle, tag: Option<&Tag>, span: &Range<u32>) -> Result<Kind<'a>, Stop> {
    let plain = matches!(style, ScalarStyle::Plain);
    match tag {
        None if plain => Ok(resolve(text)),
        None => Ok(Kind::Text(text)),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(Kind::Text(text)),
        Some(tag) if tag.is_yaml_core_schema() && matches!(&*tag.suffix, "int" | "float" | "bool" | "null") => {
            Ok(resolve(text))
        }
        Some(tag) => Err(unknown_tag(tag, span.clone())),
    }
}

/// What an unquoted scalar is, by the core schema of YAML 1.2.
fn resolve(text: Cow<'_, str>) -> Kind<'_> {
    let Some(first) = text.bytes().next() else { return Kind::Null };
    match &*text {
        "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Plain(text, Plain::Bool(true)),
        "false" | "False" | "FALSE" => return Kind::Plain(text, Plain::Bool(false)),
        _ => {}
    }
    let plain = if first.is_ascii_digit() || b"+-.".contains(&first) { Plain::number(&text) } else { None };
    match plain {
        Some(plain) => Kind::Plain(text, plain),
        None => Kind::Text(text),
    }
}

impl Plain {
    /// A number of JSON or of YAML's core schema.
    pub(in crate::flow) fn number(text: &str) -> Option<Plain> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let based = |digits: &str, base| u64::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with('+'));
        if let Some(digits) = text.strip_prefix("0o") {
            return based(digits, 8).map(Plain::Unsigned).map(Plain::smallest);
        }
        if let Some(digits) = text.strip_prefix("0x") {
            return based(digits, 16).map(Plain::Unsigned).map(Plain::smallest);
        }
        match unsigned {
            ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Some(Plain::Float(f64::NEG_INFINITY)),
            ".inf" | ".Inf" | ".INF" => return Some(Plain::Float(f64::INFINITY)),
            ".nan" | ".NaN" | ".NAN" if text == unsigned => return Some(Plain::Float(f64::NAN)),
            _ => {}
        }
        let digits = |byte: u8| byte.is_ascii_digit();
        if unsigned.bytes().all(digits) && !unsigned.is_empty() {
            let signed = text.parse().ok().map(Plain::Signed);
            let unsigned = || text.parse().ok().map(Plain::Unsigned);
            return signed.or_else(unsigned).or_else(|| text.parse().ok().map(Plain::Float));
        }
        let float = unsigned.bytes().all(|byte| digits(byte) || b".eE+-".contains(&byte));
        let float = float && unsigned.bytes().any(digits);
        if float { text.parse().ok().map(Plain::Float) } else { None }
    }

    fn smallest(self) -> Plain {
        match self {
            Plain::Unsigned(number) => i64::try_from(number).map_or(self, Plain::Signed),
            other => other,
        }
    }
}

fn unknown_tag(tag: &Tag, span: Range<u32>) -> Stop {
    let written = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
    stop(format!("the tag `{written}` means nothing in a flow file"), span, Some("remove it"))
}

fn too_deep(span: Range<u32>) -> Stop {
    stop(format!("more than {NESTING} maps and lists within each other"), span, None)
}

impl Unreadable {
    pub(super) fn nesting(span: Range<usize>) -> Unreadable {
        let message = format!("more than {NESTING} maps and lists within each other");
        Unreadable { message, span, hint: None }
    }
}

fn narrow(span: &Span) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(span.start.index())..narrow(span.end.index())
}

/// A syntax error, in our words where its cause is a common one.
fn syntax(text: &str, counted: &Counted, error: &ScanError) -> Unreadable {
    let at = counted.byte(text, error.marker().index());
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let one = text[at..line_end].chars().next().map_or(0, char::len_utf8);
    let mut unreadable = Unreadable { message: error.info().to_owned(), span: at..at + one, hint: None };
    let line = &text[line_start..line_end];
    if error.info().contains("recursion limit") {
        return Unreadable::nesting(at..at + one);
    }
    let indentation = &line[..line.len() - line.trim_start().len()];
    if let Some(tab) = indentation.find('\t') {
        let message = "a tab in the indentation".to_owned();
        let hint = Some("indent with spaces".to_owned());
        return Unreadable { message, span: line_start + tab..line_start + tab + 1, hint };
    }
    if let Some(start) = line.rfind("${{") {
        let close = line[start..].find("}}").map_or(3, |close| close + 2);
        unreadable.span = line_start + start..line_start + start + close;
        unreadable.message = "a `${{` that YAML takes for braces of its own".to_owned();
        unreadable.hint = Some("put the text into quotes: \"${{ … }}\"".to_owned());
        return unreadable;
    }
    unreadable.hint = hint(text, line, line_start, error.info());
    if let Some(open) = unclosed(text, at, error.info()) {
        unreadable.span = open;
    }
    unreadable
}

fn hint(text: &str, line: &str, line_start: usize, said: &str) -> Option<String> {
    let before = text[..line_start].trim_end().rsplit('\n').next().unwrap_or("");
    for line in [line, before] {
        let line = line.trim_start().trim_start_matches("- ");
        let key = line.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let rest = &line[key..];
        if key > 0 && rest.starts_with(':') && !rest[1..].starts_with([' ', '\t', '\r']) && rest.len() > 1 {
            return Some(format!("write a space after the colon: `{}: {}`", &line[..key], clip(&rest[1..])));
        }
    }
    if said.contains("mapping values") {
        return Some(
            "put a text that contains `: ` into quotes, and give the keys of one map the same indentation".into(),
        );
    }
    if said.contains("quoted scalar") {
        return Some("close the quote, or double a quote that belongs to the text: `''`".to_owned());
    }
    if said.contains("',' or") {
        return Some("close the bracket, or write a comma".to_owned());
    }
    if said.contains("expected key") || said.contains("block") {
        return Some("give the keys of one map the same indentation".to_owned());
    }
    said.contains("simple key").then(|| "write a colon and a space after the key".to_owned())
}

fn clip(text: &str) -> &str {
    let text = text.trim_end();
    &text[..floor(text, 40)]
}

/// The quote or bracket that was never closed, when that is what the parser stumbled over at the end.
fn unclosed(text: &str, at: usize, said: &str) -> Option<Range<usize>> {
    if !text[at..].trim().is_empty() {
        return None;
    }
    let wanted: &[char] = if said.contains("quoted") {
        &['"', '\'']
    } else if said.contains("flow") || said.contains("',' or") {
        &['[', '{']
    } else {
        return None;
    };
    let open = text[..at].rfind(wanted)?;
    Some(open..open + 1)
}
