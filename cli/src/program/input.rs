//! What a layer can read: handles of other layers, parameters, and who it is.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::artifact::Artifact;
use super::artifacts::{Artifacts, Found};
use super::failure::{Context, Failure, Result};
use super::flow::{Flow, NodeId};
use super::handle::{Fan, Joined, Layer, Maybe};
use super::shards::Shards;
use super::source::{Source, Stored, Task};

/// Something that a layer reads: [`Layer`], [`Fan`], [`Parameters`], [`task`], a tuple of such, or `()` for nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a layer can read",
    label = "not a layer's handle, parameters, `task()` or a tuple of them",
    note = "layers are read by the handle that `flow.layer(…)` and `flow.foreach(…)` return; several of them as a tuple: `(a, b)`",
    note = "what is known when the program is written can simply be moved into the function"
)]
pub trait Input<'f> {
    /// What the layer's function is given.
    type Value;

    /// How it is had.
    #[doc(hidden)]
    fn plug(self) -> Plug<'f, Self::Value>;
}

type Read<V> = dyn Fn(&dyn Source) -> Result<V> + Send + Sync;

/// How a layer gets what it reads, or a split its value.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "it is a function")]
pub struct Plug<'f, V> {
    /// The layers that it is read from.
    pub(super) needs: BTreeSet<NodeId>,
    /// Those of them without which there is nothing to read: all that are not read as [`Layer::maybe`].
    pub(super) strict: BTreeSet<NodeId>,
    /// Their flows: there should be one.
    pub(super) flows: Vec<&'f Flow>,
    pub(super) read: Box<Read<V>>,
}

impl<'f, V> Plug<'f, V> {
    pub(super) fn new(
        layer: Option<(&'f Flow, NodeId)>,
        read: impl Fn(&dyn Source) -> Result<V> + Send + Sync + 'static,
    ) -> Plug<'f, V> {
        let needs: BTreeSet<NodeId> = layer.iter().map(|(_, id)| *id).collect();
        Plug {
            strict: needs.clone(),
            needs,
            flows: layer.into_iter().map(|(flow, _)| flow).collect(),
            read: Box::new(read),
        }
    }
}

impl<'f, T: Artifacts> Input<'f> for Layer<'f, T> {
    type Value = T;

    fn plug(self) -> Plug<'f, T> {
        let (layer, name) = (self.name(), self.artifact_name());
        Plug::new(Some((self.flow, self.node)), move |source| {
            T::find(name, &|file| source.artifact(&layer, file)?.map(Found).ok_or_else(|| absent(source, &layer, file)))
                .context(format!("cannot read what `{layer}` has left"))
        })
    }
}

impl<'f, T: Artifact> Input<'f> for Maybe<'f, T> {
    type Value = Option<T>;

    fn plug(self) -> Plug<'f, Option<T>> {
        let (layer, file) = (self.0.name(), self.0.file());
        let plug = Plug::new(Some((self.0.flow, self.0.node)), move |source| {
            source.artifact(&layer, &file)?.map(Stored::read).transpose()
        });
        Plug { strict: BTreeSet::new(), ..plug }
    }
}

impl<'f, T: Artifact> Input<'f> for Fan<'f, T> {
    type Value = Shards<T>;

    fn plug(self) -> Plug<'f, Shards<T>> {
        let (layer, file) = (self.name(), self.file());
        Plug::new(Some((self.flow, self.node)), move |source| Stored::read_all(source.artifact(&layer, &file)?))
    }
}

impl<'f, T: Artifact> Input<'f> for Joined<'f, T> {
    type Value = Vec<T>;

    fn plug(self) -> Plug<'f, Vec<T>> {
        let Plug { needs, strict, flows, read } = self.0.plug();
        Plug { needs, strict, flows, read: Box::new(move |source| read(source)?.to_vec()) }
    }
}

/// The flow's parameters, as an input: the whole struct.
#[derive(Debug)]
pub struct Parameters<'f, P> {
    pub(super) flow: &'f Flow,
    pub(super) kind: PhantomData<fn() -> P>,
}

impl<P> Clone for Parameters<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Parameters<'_, P> {}

impl<'f, P: DeserializeOwned + 'static> Input<'f> for Parameters<'f, P> {
    type Value = P;

    fn plug(self) -> Plug<'f, P> {
        let names = self.flow.parameter_names();
        let mut plug = Plug::new(None, move |source| {
            let all = source.parameters(&names)?;
            serde_json::from_value(all.into()).context("the parameters do not fit")
        });
        plug.flows.push(self.flow);
        plug
    }
}

/// Who reads: which layer, split and attempt, as an input.
#[derive(Clone, Copy, Debug)]
pub struct ThisTask(());

/// Which layer is evaluated, and which attempt of which split of it, as an input of it.
#[must_use]
pub fn task() -> ThisTask {
    ThisTask(())
}

impl<'f> Input<'f> for ThisTask {
    type Value = Task;

    fn plug(self) -> Plug<'f, Task> {
        Plug::new(None, |source| Ok(source.task().clone()))
    }
}

impl<'f> Input<'f> for () {
    type Value = ();

    fn plug(self) -> Plug<'f, ()> {
        Plug::new(None, |_| Ok(()))
    }
}

/// One of several: what it reads is a tuple.
macro_rules! together {
    ($($plug:ident),+) => {{
        let (mut needs, mut strict, mut flows) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new(), Vec::new());
        $(
            needs.extend(&$plug.needs);
            strict.extend(&$plug.strict);
            flows.extend(&$plug.flows);
        )+
        $(let $plug = $plug.read;)+
        Plug { needs, strict, flows, read: Box::new(move |source| Ok(($($plug(source)?,)+))) }
    }};
}

pub(super) use together;

macro_rules! tuples {
    ($(($($name:ident $at:tt),+))+) => {$(
        impl<'f, $($name: Input<'f>),+> Input<'f> for ($($name,)+)
        where
            $($name::Value: 'static),+
        {
            type Value = ($($name::Value,)+);

            #[expect(non_snake_case, reason = "they are named like their types")]
            fn plug(self) -> Plug<'f, Self::Value> {
                $(let $name = self.$at.plug();)+
                together!($($name),+)
            }
        }
    )+};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

/// Why an artifact is not there: one of a layer that has left others was never to be.
fn absent(source: &dyn Source, layer: &str, file: &str) -> Failure {
    let left = source.left(layer, file);
    let left =
        left.as_deref().unwrap_or("of a layer that may be skipped or caught, read `.maybe()`, which gives an `Option`");
    Failure::new(format!("there is no `{file}`; {left}"))
}
