//! What shapes layers beyond what they need: conditions, foreach, sizes, the cache, what their words name. Each is drawn as a
//! value, so that [`crate::expect`] can tell what it must give, and written as the text of a flow file, which is read like
//! any other.

use serde_json::{Value, json};

use crate::dice::Dice;

/// The variable that expressions name.
pub(crate) const MOOD: &str = "MOOD";
/// The file beside the flow that cached layers may read.
pub(crate) const SOURCE: &str = "source";

/// What shapes one layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) when: Option<When>,
    /// Names of `each`, with where their values come from.
    pub(crate) foreach: Vec<(String, Keys)>,
    pub(crate) max_parallel: Option<u32>,
    pub(crate) cached: bool,
    /// Whether it reads [`SOURCE`].
    pub(crate) sourced: bool,
    /// The timeout of the first split, and by how much it is longer for each one after it, in milliseconds.
    pub(crate) timeout: Option<(u64, u64)>,
    pub(crate) memory: Option<Size>,
    pub(crate) cpu: Option<Size>,
    /// What its command has after the program.
    pub(crate) words: Vec<Word>,
}

impl Shape {
    pub(crate) fn is_foreach(&self) -> bool {
        !self.foreach.is_empty()
    }

    /// Whether its splits are decided only once what it needs has settled.
    pub(crate) fn asks(&self) -> bool {
        self.is_foreach() || self.when.is_some()
    }

    pub(crate) fn is_sized(&self) -> bool {
        self.memory.is_some() || self.cpu.is_some()
    }
}

/// Layers are told by their numbers here.
#[derive(Clone, Debug)]
pub(crate) enum When {
    Literal(bool),
    /// What a layer left as `flag`, which may be no truth, and may not be there.
    Flag(u32),
    FlagOrTrue(u32),
    IsSkipped(u32),
    IsNotSkipped(u32),
    /// There is more than one item in what a layer left as `list`, or more than one split that left it.
    Longer(u32),
    /// No truth.
    Wrong,
}

#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// So many numbers.
    Literal(u32),
    /// The items of `list`, which a layer with one split left.
    Items(u32),
    /// The entries of `folder`, which a layer with one split left.
    Entries(u32),
    /// What each split of a foreach layer left under this name.
    Over(u32, String),
    /// What a layer with one split left as `size`: it is given to all.
    Whole(u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Size {
    /// It grows with the attempts.
    Attempt,
    /// It is that of a literal value of the split.
    Each(String),
    /// A layer with one split left it as `size`.
    Left(u32),
    /// More than there is anywhere.
    Huge,
}

#[derive(Clone, Debug)]
pub(crate) enum Word {
    Index,
    Splits,
    Attempt,
    Each(String),
    State(u32),
    /// What a layer left as `flag`, `none` without.
    Flag(u32),
    /// What a layer left as `size`, a list if it is a foreach layer; `none` without.
    Sizes(u32),
    Mood,
}

/// The number of a literal value.
pub(crate) fn literal(at: u32) -> u32 {
    10 + at
}

/// A layer that others may name.
pub(crate) struct Known<'k> {
    pub(crate) shape: &'k Shape,
    pub(crate) names: &'k [String],
}

impl Known<'_> {
    fn leaves(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// Which of a layer's needs leave this, and are foreach layers or not.
fn with<'k>(needs: &[u32], known: &impl Fn(u32) -> Known<'k>, name: &str, foreach: bool) -> Vec<u32> {
    let fits = |need: &u32| known(*need).leaves(name) && known(*need).shape.is_foreach() == foreach;
    needs.iter().copied().filter(fits).collect()
}

/// A layer's shape, given what it needs.
pub(crate) fn draw<'k>(dice: &mut Dice, needs: &[u32], known: impl Fn(u32) -> Known<'k>) -> Shape {
    let mut shape = Shape::default();
    let pick = |dice: &mut Dice, from: &[u32]| (!from.is_empty()).then(|| dice.pick(from));
    if dice.one_in(3) {
        shape.when = draw_when(dice, needs, &known);
    }
    let keys = dice.pick(&[0, 0, 1, 1, 1, 2, 2]);
    for number in 0..keys {
        let (over, lists) = (with(needs, &known, "name0", true), with(needs, &known, "list.json", false));
        let entries = with(needs, &known, "folder", false);
        let values = match dice.below(5) {
            0 => pick(dice, &over).map(|need| Keys::Over(need, "name0".to_owned())),
            1 => pick(dice, &with(needs, &known, "flag.json", true)).map(|need| Keys::Over(need, "flag".to_owned())),
            2 => pick(dice, &lists).map(Keys::Items),
            3 => pick(dice, &entries).map(Keys::Entries),
            _ => pick(dice, &with(needs, &known, "size.json", false)).map(Keys::Whole).filter(|_| number > 0),
        };
        let values = values.or_else(|| pick(dice, &lists).map(Keys::Items));
        let values = values.unwrap_or_else(|| Keys::Literal(dice.pick(&[0, 1, 2, 2, 3, 3])));
        shape.foreach.push((format!("k{number}"), values));
    }
    shape.max_parallel = (shape.is_foreach() && dice.one_in(3)).then(|| dice.pick(&[1, 1, 2, 3]));
    shape.cached = dice.one_in(2);
    shape.sourced = shape.cached && dice.one_in(3);
    shape.timeout = dice.one_in(6).then(|| (1 + dice.moment(), dice.moment()));
    if dice.one_in(3) {
        shape.memory = draw_size(dice, needs, &known, &shape.foreach);
        shape.cpu = draw_size(dice, needs, &known, &shape.foreach).filter(|_| dice.one_in(2));
    }
    draw_words(dice, needs, &known, &mut shape);
    shape
}

fn draw_when<'k>(dice: &mut Dice, needs: &[u32], known: &impl Fn(u32) -> Known<'k>) -> Option<When> {
    let flags = with(needs, known, "flag.json", false);
    let lists = [with(needs, known, "list.json", false), with(needs, known, "list.json", true)].concat();
    let literal = Some(When::Literal(!dice.one_in(3)));
    let wrong = dice.one_in(12);
    let pick = |dice: &mut Dice, from: &[u32]| (!from.is_empty()).then(|| dice.pick(from));
    let drawn = match dice.below(6) {
        _ if wrong => Some(When::Wrong),
        0 => pick(dice, &flags).map(When::Flag),
        1 => pick(dice, &flags).map(When::FlagOrTrue),
        2 => pick(dice, needs).map(When::IsSkipped),
        3 => pick(dice, needs).map(When::IsNotSkipped),
        4 => pick(dice, &lists).map(When::Longer),
        _ => None,
    };
    drawn.or(literal)
}

fn draw_size<'k>(
    dice: &mut Dice,
    needs: &[u32],
    known: &impl Fn(u32) -> Known<'k>,
    foreach: &[(String, Keys)],
) -> Option<Size> {
    let literals = foreach.iter().filter(|(_, keys)| matches!(keys, Keys::Literal(_)));
    let sizes = with(needs, known, "size.json", false);
    match dice.below(4) {
        0 => literals.map(|(name, _)| Size::Each(name.clone())).next(),
        1 | 2 if !sizes.is_empty() => Some(Size::Left(dice.pick(&sizes))),
        _ if dice.one_in(16) => Some(Size::Huge),
        _ => Some(Size::Attempt),
    }
}

fn draw_words<'k>(dice: &mut Dice, needs: &[u32], known: &impl Fn(u32) -> Known<'k>, shape: &mut Shape) {
    let flags = [with(needs, known, "flag.json", false), with(needs, known, "flag.json", true)].concat();
    let sizes = [with(needs, known, "size.json", false), with(needs, known, "size.json", true)].concat();
    for _ in 0..dice.below(4) {
        let word = match dice.below(7) {
            0 if shape.is_foreach() => Word::Index,
            1 => Word::Splits,
            2 if !shape.cached => Word::Attempt,
            3 if !needs.is_empty() => Word::State(dice.pick(needs)),
            4 if !flags.is_empty() => Word::Flag(dice.pick(&flags)),
            5 if !sizes.is_empty() => Word::Sizes(dice.pick(&sizes)),
            _ => Word::Mood,
        };
        shape.words.push(word);
    }
    for (name, _) in &shape.foreach {
        if dice.one_in(2) {
            shape.words.push(Word::Each(name.clone()));
        }
    }
}

/// The layer as a flow file has it.
pub(crate) fn written(shape: &Shape, needs: &[u32]) -> Value {
    let mut layer = serde_json::Map::new();
    let words = std::iter::once("true".to_owned()).chain(shape.words.iter().map(Word::written));
    layer.insert("command".to_owned(), words.collect());
    let needs: Vec<String> = needs.iter().map(|need| format!("L{need}")).collect();
    if !needs.is_empty() {
        layer.insert("needs".to_owned(), json!(needs));
    }
    if let Some(when) = &shape.when {
        layer.insert("when".to_owned(), when.written());
    }
    if shape.is_foreach() {
        let keys = shape.foreach.iter().map(|(name, keys)| (name.clone(), keys.written()));
        layer.insert("foreach".to_owned(), keys.collect());
    }
    if let Some(most) = shape.max_parallel {
        layer.insert("max_parallel".to_owned(), json!(most));
    }
    if shape.cached {
        let cache = if shape.sourced { json!({ "sources": [SOURCE] }) } else { json!(true) };
        layer.insert("cache".to_owned(), cache);
    }
    if let Some((first, more)) = shape.timeout {
        layer.insert("timeout".to_owned(), json!(format!("${{{{ {first} + {more} * index }}}}ms")));
    }
    let memory = shape.memory.as_ref().map(|size| match size {
        Size::Attempt => "${{ 100 * attempt }}MiB".to_owned(),
        Size::Each(name) => format!("${{{{ 10 * each.{name} }}}}MiB"),
        Size::Left(need) => format!("${{{{ L{need}.size }}}}MiB"),
        Size::Huge => "${{ 8000000 * attempt }}GiB".to_owned(),
    });
    let cpu = shape.cpu.as_ref().map(|size| match size {
        Size::Attempt => "${{ attempt }}".to_owned(),
        Size::Each(name) => format!("${{{{ each.{name} }}}}"),
        Size::Left(need) => format!("${{{{ L{need}.size }}}}"),
        Size::Huge => "${{ 8000000 * attempt }}".to_owned(),
    });
    let sizes = [("memory", memory), ("cpu", cpu)];
    let sizes: serde_json::Map<_, _> =
        sizes.into_iter().filter_map(|(name, size)| Some((name.to_owned(), size?.into()))).collect();
    if !sizes.is_empty() {
        layer.insert("container".to_owned(), sizes.into());
    }
    layer.into()
}

impl When {
    fn written(&self) -> Value {
        match self {
            When::Literal(holds) => json!(holds),
            When::Flag(need) => json!(format!("${{{{ L{need}.flag }}}}")),
            When::FlagOrTrue(need) => json!(format!("${{{{ L{need}.flag | default(true) }}}}")),
            When::IsSkipped(need) => json!(format!("${{{{ L{need}.state == 'skipped' }}}}")),
            When::IsNotSkipped(need) => json!(format!("${{{{ L{need}.state != 'skipped' }}}}")),
            When::Longer(need) => json!(format!("${{{{ L{need}.list | length > 1 }}}}")),
            When::Wrong => json!("${{ execution.id }}"),
        }
    }
}

impl Keys {
    fn written(&self) -> Value {
        match self {
            Keys::Literal(many) => (0..*many).map(literal).collect(),
            Keys::Items(need) => json!(format!("${{{{ L{need}.list }}}}")),
            Keys::Entries(need) => json!(format!("${{{{ L{need}.folder }}}}")),
            Keys::Over(need, name) => json!(format!("${{{{ L{need}.{name} }}}}")),
            Keys::Whole(need) => json!(format!("${{{{ L{need}.size }}}}")),
        }
    }
}

impl Word {
    fn written(&self) -> String {
        match self {
            Word::Index => "${{ index }}".to_owned(),
            Word::Splits => "${{ splits }}".to_owned(),
            Word::Attempt => "${{ attempt }}".to_owned(),
            Word::Each(name) => format!("${{{{ each.{name} }}}}"),
            Word::State(need) => format!("${{{{ L{need}.state }}}}"),
            Word::Flag(need) => format!("${{{{ L{need}.flag | default('none') }}}}"),
            Word::Sizes(need) => format!("${{{{ L{need}.size | default('none') }}}}"),
            Word::Mood => format!("${{{{ env.{MOOD} }}}}"),
        }
    }
}
