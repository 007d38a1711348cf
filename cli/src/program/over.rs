//! What a layer is fanned out over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::flow::template::Scope;
use laminar_core::json;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::artifact::{Artifact, File, Folder};
use super::failure::{Context, Failure, Result};
use super::flow::{Answer, Flow, NodeId, told};
use super::handle::{Fan, Layer, question};
use super::input::{Input, Parameters, Plug, together};
use super::shards::{Shards, number};
use super::source::{Scheduling, Source, Stored};

/// Something to fan out over: a list (`vec![2, 4, 8]`), the handle of a layer that leaves one ([`Layer::sharded`],
/// [`Shards`], [`Folder`]), the handle of a foreach layer (one to one), what is computed from parameters or from what a layer
/// left ([`Parameters::list`], [`Layer::list`]), two that go together ([`zip`]), or a tuple: each combination, the last varies
/// fastest.
#[diagnostic::on_unimplemented(
    message = "there is nothing in `{Self}` to fan out over",
    label = "not a list, a layer that leaves one, a foreach layer, or a tuple of them",
    note = "a layer that leaves a `Vec` can be fanned out over; a single value is given to every split by `foreach_with`",
    note = "parameters have lists in them: `parameters.list(|p| p.depths)`"
)]
pub trait Over<'f> {
    /// What each split is given.
    type Item;

    /// How it is had.
    #[doc(hidden)]
    fn spread(self, keys: &mut Keys) -> Plug<'f, Self::Item>;
}

/// The names of `foreach`, and their values as the flow file has them.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "there are functions in it")]
pub struct Keys {
    layer: Arc<str>,
    pub(super) values: Map<String, Value>,
    pub(super) answers: BTreeMap<&'static str, Arc<Answer>>,
    pub(super) wrong: Vec<String>,
}

/// What the values of a layer are called, in order.
const NAMES: [&str; 8] = ["item", "item2", "item3", "item4", "item5", "item6", "item7", "item8"];

impl Keys {
    pub(super) fn new(layer: &str) -> Keys {
        Keys { layer: layer.into(), values: Map::new(), answers: BTreeMap::new(), wrong: Vec::new() }
    }

    /// The next name.
    fn next(&mut self) -> &'static str {
        NAMES.get(self.values.len()).copied().unwrap_or_else(|| {
            self.wrong.push(format!("layer `{}` is fanned out over more than {} at once", self.layer, NAMES.len()));
            NAMES[0]
        })
    }

    /// A value that the scheduler asks for.
    fn ask(&mut self, answer: impl Fn(&Scope<'_>) -> Result<Value> + Send + Sync + 'static) -> &'static str {
        let name = self.next();
        self.answers.insert(name, told(answer));
        self.values.insert(name.to_owned(), question(&self.layer, name).into());
        name
    }
}

/// A value that stands in the list itself. `layer` is what the list is from, if it is from one.
fn listed<'f, T: DeserializeOwned>(layer: Option<(&'f Flow, NodeId)>, name: &'static str) -> Plug<'f, T> {
    Plug::new(layer, move |source| serde_json::from_value(source.each(name)?).context("the split's value does not fit"))
}

/// A value that is the path of an artifact.
fn path(source: &dyn Source, name: &str) -> Result<PathBuf> {
    match source.each(name)? {
        Value::String(path) => Ok(path.into()),
        _ => Err(Failure::new("the split's value is no path")),
    }
}

impl<'f, T: Serialize + DeserializeOwned> Over<'f> for Vec<T> {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        let name = keys.next();
        match json::to_value(&self) {
            Ok(Value::Array(items)) => {
                let items: Vec<Value> = items.into_iter().map(literal).collect();
                keys.values.insert(name.to_owned(), items.into());
            }
            Ok(_) => keys.wrong.push("a list is no list as JSON".to_owned()),
            Err(error) => keys.wrong.push(format!("the list cannot be written as JSON: {error}")),
        }
        listed(None, name)
    }
}

/// A text that holds what would be an expression, so that it is none.
fn literal(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace("${{", "${{ '${{' }}").into(),
        value => value,
    }
}

impl<'f, T: Serialize + DeserializeOwned, const N: usize> Over<'f> for [T; N] {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        Vec::from(self).spread(keys)
    }
}

/// The artifacts that a folder of another layer holds, or those of the splits of a foreach layer.
fn artifacts<'f, T: 'f>(
    keys: &mut Keys,
    layer: (&'f Flow, NodeId),
    (name_of_layer, file): (&str, &str),
    load: impl Fn(&Path) -> Result<T> + Send + Sync + 'static,
) -> Plug<'f, T> {
    let name = keys.next();
    keys.values.insert(name.to_owned(), format!("${{{{ {name_of_layer}['{file}'] }}}}").into());
    Plug::new(Some(layer), move |source| load(&path(source, name)?))
}

impl<'f, T: Artifact> Over<'f> for Layer<'f, Shards<T>> {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        artifacts(keys, (self.flow, self.node), (&self.name(), &self.file()), T::load)
    }
}

impl<'f> Over<'f> for Layer<'f, Folder> {
    type Item = File;

    fn spread(self, keys: &mut Keys) -> Plug<'f, File> {
        artifacts(keys, (self.flow, self.node), (&self.name(), &self.file()), File::load)
    }
}

impl<'f, T: Serialize + DeserializeOwned + Send + 'static> Over<'f> for Layer<'f, Vec<T>> {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        let name = keys.next();
        let expression = format!("${{{{ {}['{}'] }}}}", self.name(), self.artifact_name());
        keys.values.insert(name.to_owned(), expression.into());
        listed(Some((self.flow, self.node)), name)
    }
}

impl<'f, T: Artifact> Over<'f> for Fan<'f, T> {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        artifacts(keys, (self.flow, self.node), (&self.name(), &self.file()), T::load)
    }
}

/// A list that the scheduler computes; see [`Parameters::list`] and [`Layer::list`].
pub struct List<'f, V, T> {
    input: Plug<'f, V>,
    list: Box<dyn Fn(V) -> Vec<T> + Send + Sync>,
}

impl<V, T> std::fmt::Debug for List<'_, V, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("List").finish_non_exhaustive()
    }
}

impl<'f, P: DeserializeOwned + 'static> Parameters<'f, P> {
    /// A list that is one of the parameters, or follows from them, to fan out over.
    pub fn list<T>(self, list: impl Fn(P) -> Vec<T> + Send + Sync + 'static) -> List<'f, P, T> {
        List { input: self.plug(), list: Box::new(list) }
    }
}

impl<'f, V: Artifact> Layer<'f, V> {
    /// A list that is in what the layer left, or follows from it, to fan out over: computed by the scheduler, so it must be a
    /// value.
    pub fn list<T>(self, list: impl Fn(V) -> Vec<T> + Send + Sync + 'static) -> List<'f, V, T> {
        List { input: self.plug(), list: Box::new(list) }
    }
}

impl<'f, V: 'static, T: Serialize + DeserializeOwned + 'static> Over<'f> for List<'f, V, T> {
    type Item = T;

    fn spread(self, keys: &mut Keys) -> Plug<'f, T> {
        let List { input: Plug { needs, flows, read, .. }, list } = self;
        let layer = Arc::clone(&keys.layer);
        let name = keys.ask(move |scope| {
            let value = read(&Scheduling::new(scope, "", &layer))?;
            json::to_value(&list(value)).context("the list cannot be written as JSON")
        });
        Plug { strict: needs.clone(), needs, flows, ..listed(None, name) }
    }
}

/// Two foreach layers, or layers that leave sequences, that go together: the first of one with the first of the other, and so on.
#[derive(Clone, Copy, Debug)]
pub struct Zip<A, B>(A, B);

/// Two that have as many values, to be fanned out over together. `first` and `second` are foreach layers, or layers that
/// leave [`Shards`]. Lists that are written in the program are zipped as iterators are.
pub fn zip<'f, A: Sequence<'f>, B: Sequence<'f>>(first: A, second: B) -> Zip<A, B> {
    Zip(first, second)
}

/// What can be [zipped](zip): artifacts of which each has a number.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be zipped",
    label = "neither a foreach layer nor a layer that leaves a sequence in pieces",
    note = "a layer that leaves a `Vec` leaves it in pieces with `.sharded()`"
)]
pub trait Sequence<'f>: Over<'f> {
    /// Where the artifacts are.
    #[doc(hidden)]
    fn folder(&self) -> (&'f Flow, NodeId, String);

    /// Reads one.
    #[doc(hidden)]
    fn one(path: &Path) -> Result<Self::Item>;
}

macro_rules! sequences {
    ($($handle:ty),+) => {$(
        impl<'f, T: Artifact> Sequence<'f> for $handle {
            fn folder(&self) -> (&'f Flow, NodeId, String) {
                (self.flow, self.node, self.file())
            }

            fn one(path: &Path) -> Result<T> {
                T::load(path)
            }
        }
    )+};
}

sequences!(Fan<'f, T>, Layer<'f, Shards<T>>);

impl<'f, A: Sequence<'f>, B: Sequence<'f>> Over<'f> for Zip<A, B>
where
    A::Item: 'static,
    B::Item: 'static,
{
    type Item = (A::Item, B::Item);

    fn spread(self, keys: &mut Keys) -> Plug<'f, Self::Item> {
        let Zip(first, second) = self;
        let (flow, node, file) = second.folder();
        let layer = Arc::clone(&flow.nodes.borrow()[node].name);
        let name = keys.next();
        let partner = Plug::new(Some((flow, node)), move |source| {
            let path = path(source, name)?;
            B::one(&partner(source, &path, (&layer, &file))?)
        });
        let first = first.spread(keys);
        together!(first, partner)
    }
}

/// What goes together with an artifact in another layer's sequence: the one of the same number.
fn partner(source: &dyn Source, path: &Path, (layer, file): (&str, &str)) -> Result<PathBuf> {
    let Some(Stored::At(folder)) = source.artifact(layer, file)? else {
        return Err(Failure::new(format!("`{layer}` has left nothing to go together with `{}`", path.display())));
    };
    let count = |folder: Option<&Path>| folder.and_then(|folder| Some(folder.read_dir().ok()?.count())).unwrap_or(0);
    let (here, there) = (count(path.parent()), count(Some(&folder)));
    if here != there {
        return Err(Failure::new(format!("{here} values cannot be zipped with the {there} of `{layer}`")));
    }
    let wanted = number(path);
    let mut all = super::artifact::entries(&folder).context("cannot look for what goes together")?.into_iter();
    all.find(|other| wanted.is_some() && number(other) == wanted)
        .ok_or_else(|| Failure::new(format!("nothing of `{layer}` goes together with `{}`", path.display())))
}

macro_rules! products {
    ($(($($name:ident $at:tt),+))+) => {$(
        impl<'f, $($name: Over<'f>),+> Over<'f> for ($($name,)+)
        where
            $($name::Item: 'static),+
        {
            type Item = ($($name::Item,)+);

            #[expect(non_snake_case, reason = "they are named like their types")]
            fn spread(self, keys: &mut Keys) -> Plug<'f, Self::Item> {
                $(let $name = self.$at.spread(keys);)+
                together!($($name),+)
            }
        }
    )+};
}

products! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}
