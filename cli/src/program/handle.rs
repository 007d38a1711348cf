//! Handles of layers: what others read, and where a layer's settings are said.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use laminar_core::flow::template::Scope;
use laminar_core::json;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::artifact::{Artifact, Folder};
use super::artifacts::{self, Field};
use super::failure::{Context, Result};
use super::flow::{CAUGHT, Flow, NodeId, told};
use super::input::{Input, Plug};
use super::settings::{Container, Limits, Retry, milliseconds};
use super::shards::Shards;
use super::source::{Scheduling, Task};

/// A layer, as others read it: its value is a `T`.
pub struct Layer<'f, T> {
    pub(super) flow: &'f Flow,
    pub(super) node: NodeId,
    /// Which of its artifacts, if it has several.
    pub(super) artifact: Option<&'static str>,
    kind: PhantomData<fn() -> T>,
}

/// A foreach layer, as others read it: each of its splits leaves a `T`. As an input it is a lazy sequence of what they have
/// left, [`Shards`].
pub struct Fan<'f, T> {
    pub(super) flow: &'f Flow,
    pub(super) node: NodeId,
    pub(super) artifact: Option<&'static str>,
    kind: PhantomData<fn() -> T>,
}

/// What a layer of a flow file leaves: nothing is known of it. See [`Layer::artifact`].
#[derive(Clone, Copy, Debug)]
pub enum Foreign {}

/// A layer's value, if it has left one: as an input it is an `Option`.
pub struct Maybe<'f, T>(pub(super) Layer<'f, T>);

/// All that the splits of a foreach layer have left: as an input it is a `Vec`.
pub struct Joined<'f, T>(pub(super) Fan<'f, T>);

/// Which split and attempt a setting is for.
#[derive(Debug)]
pub struct Split<'a> {
    /// Which split, from 0.
    pub index: u32,
    /// How many there are.
    pub splits: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    scope: &'a Scope<'a>,
}

impl Split<'_> {
    /// The flow's parameters.
    ///
    /// # Errors
    /// When they are not of this type.
    pub fn parameters<P: DeserializeOwned>(&self) -> Result<P> {
        let values = Value::Object(self.scope.parameters.clone());
        serde_json::from_value(values).context("the parameters do not fit")
    }

    /// The split's value, if it stands in the list that the layer is fanned out over; of several, the first.
    ///
    /// # Errors
    /// When the layer has no splits, or its values are artifacts or not of this type.
    pub fn value<T: Artifact>(&self) -> Result<T> {
        let Some(value) = self.scope.each.values().next() else { return Err("the layer has no splits".into()) };
        T::from_value(value.clone())
    }
}

macro_rules! handles {
    ($($handle:ident $(($inner:ident))?),+) => {$(
        impl<T> Clone for $handle<'_, T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $handle<'_, T> {}

        impl<T> fmt::Debug for $handle<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($handle)).field(&self$(.$inner())?.name()).finish()
            }
        }
    )+};
}

handles!(Layer, Fan, Maybe(inner), Joined(inner));

impl<'f, T> Maybe<'f, T> {
    fn inner(self) -> Layer<'f, T> {
        self.0
    }
}

impl<'f, T> Joined<'f, T> {
    fn inner(self) -> Fan<'f, T> {
        self.0
    }
}

/// What both kinds of handles have.
macro_rules! settings {
    ($handle:ident) => {
        impl<'f, T> $handle<'f, T> {
            pub(super) fn new(flow: &'f Flow, node: NodeId) -> $handle<'f, T> {
                $handle { flow, node, artifact: None, kind: PhantomData }
            }

            fn with<U>(self, artifact: Option<&'static str>) -> $handle<'f, U> {
                $handle { flow: self.flow, node: self.node, artifact, kind: PhantomData }
            }

            pub(super) fn name(&self) -> Arc<str> {
                Arc::clone(&self.flow.nodes.borrow()[self.node].name)
            }

            /// The name of the artifact, without an ending.
            pub(super) fn artifact_name(&self) -> &'static str {
                self.artifact.unwrap_or_else(|| self.flow.nodes.borrow()[self.node].form.name)
            }

            /// The artifact's file.
            pub(super) fn file(&self) -> String
            where
                T: Artifact,
            {
                artifacts::file::<T>(self.artifact_name())
            }

            /// Calls its artifact something else than `value`: for a file, with an ending.
            #[must_use]
            pub fn named(self, name: &'static str) -> Self
            where
                T: Artifact,
            {
                self.flow.change(self.node, |node| node.form.name = name);
                self
            }

            /// One of several artifacts.
            #[must_use]
            pub fn get<U: Artifact>(self, field: Field<T, U>) -> $handle<'f, U> {
                self.with(Some(field.name))
            }

            fn set(self, key: &str, value: Value) -> Self {
                self.flow.change(self.node, |node| drop(node.keys.insert(key.to_owned(), value)));
                self
            }

            /// Where it runs and with what limits; merged over what holds for the whole flow.
            pub fn container(self, container: Container) -> Self {
                container.into_value().as_object().into_iter().flatten().for_each(|(key, value)| {
                    self.set_in_container(key, value.clone());
                });
                self
            }

            fn set_in_container(self, key: &str, value: Value) {
                self.flow.change(self.node, |node| {
                    let container = node.keys.entry("container").or_insert_with(|| json!({}));
                    container[key] = value;
                });
            }

            /// How often it is tried.
            pub fn retry(self, retry: Retry) -> Self {
                self.set("retry", retry.into_value())
            }

            /// How much an attempt may leave and print.
            pub fn limits(self, limits: Limits) -> Self {
                self.set("limits", limits.into_value())
            }

            /// How long one attempt may run.
            pub fn timeout(self, timeout: Duration) -> Self {
                self.set("timeout", milliseconds(timeout))
            }

            /// Environment variables.
            pub fn env<K: Into<String>, V: Into<String>>(self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
                let variables = variables.into_iter().map(|(name, value)| (name.into(), Value::String(value.into())));
                self.set("env", Value::Object(variables.collect()))
            }

            /// What it did once, with the same program, settings, parameters and inputs, is not done again.
            pub fn cached(self) -> Self {
                self.set("cache", true.into())
            }

            /// What runs it, whatever runs the others.
            pub fn backend(self, name: &str) -> Self {
                self.set("backend", name.into())
            }

            /// These exit codes count as finished; see [`with_code`](super::Failure::with_code) and [`Layer::maybe`].
            pub fn catch_codes(self, codes: impl IntoIterator<Item = u8>) -> Self {
                self.flow.change(self.node, |node| {
                    let list = node.keys.entry("catch").or_insert_with(|| json!([]));
                    if let Value::Array(list) = list {
                        list.extend(codes.into_iter().map(Value::from));
                    }
                });
                self
            }

            /// An error of this type, or one that was caused by it, counts as finished: the layer is *caught*, and leaves
            /// nothing. Others read it as [`Layer::maybe`].
            pub fn catch<E: Error + 'static>(self) -> Self {
                self.flow.change(self.node, |node| node.caught.push(Arc::new(|failure| failure.find::<E>().is_some())));
                let is_new = self.flow.nodes.borrow()[self.node].caught.len() == 1;
                if is_new { self.catch_codes([CAUGHT]) } else { self }
            }

            /// Whether it runs: asked once, by the scheduler, when all that it needs has settled, also when something of it
            /// was skipped; read that by [`Layer::maybe`]. Only values can be read.
            #[track_caller]
            pub fn when<I: Input<'f>>(
                self,
                inputs: I,
                holds: impl Fn(I::Value) -> Result<bool> + Send + Sync + 'static,
            ) -> Self
            where
                I::Value: 'static,
            {
                let Plug { needs, flows, read, .. } = inputs.plug();
                let name = self.name();
                self.flow.check_flows(&flows, &name);
                self.flow.change(self.node, |node| node.needs.extend(needs));
                let flow = self.flow.name.clone();
                self.ask("when", move |scope| {
                    let source = Scheduling::new(scope, &flow, &name);
                    read(&source).and_then(&holds).map(Value::from)
                });
                self.set("when", question(&self.name(), "when").into())
            }

            /// Wraps the call of its function, within what wraps all of the flow's; see [`Flow::around`].
            pub fn around(
                self,
                wrap: impl Fn(&Task, &mut dyn FnMut() -> Result<()>) -> Result<()> + Send + Sync + 'static,
            ) -> Self {
                self.flow.change(self.node, |node| node.around.push(Arc::new(wrap)));
                self
            }

            /// The memory of each attempt, in bytes, reserved and limited: asked by the scheduler.
            pub fn memory_by(self, bytes: impl Fn(&Split<'_>) -> Result<u64> + Send + Sync + 'static) -> Self {
                self.by("memory", move |split| Ok(bytes(split)?.into()))
            }

            /// The cores of each attempt: asked by the scheduler.
            pub fn cpu_by(self, cores: impl Fn(&Split<'_>) -> Result<f64> + Send + Sync + 'static) -> Self {
                self.by("cpu", move |split| Ok(json::to_value(&cores(split)?)?))
            }

            /// The image of each attempt: asked by the scheduler.
            pub fn image_by(self, image: impl Fn(&Split<'_>) -> Result<String> + Send + Sync + 'static) -> Self {
                self.by("image", move |split| Ok(image(split)?.into()))
            }

            /// How long each attempt may run: asked by the scheduler.
            pub fn timeout_by(self, timeout: impl Fn(&Split<'_>) -> Result<Duration> + Send + Sync + 'static) -> Self {
                self.ask("timeout", move |scope| Ok(milliseconds(timeout(&Split::of(scope))?)));
                self.set("timeout", question(&self.name(), "timeout").into())
            }

            fn by(
                self,
                key: &'static str,
                value: impl Fn(&Split<'_>) -> Result<Value> + Send + Sync + 'static,
            ) -> Self {
                self.ask(key, move |scope| value(&Split::of(scope)));
                self.set_in_container(key, question(&self.name(), key).into());
                self
            }

            fn ask(self, key: &'static str, answer: impl Fn(&Scope<'_>) -> Result<Value> + Send + Sync + 'static) {
                self.flow.change(self.node, |node| drop(node.answers.insert(key, told(answer))));
            }
        }
    };
}

settings!(Layer);
settings!(Fan);

impl<'a> Split<'a> {
    fn of(scope: &'a Scope<'a>) -> Split<'a> {
        Split { index: scope.index, splits: scope.splits, attempt: scope.attempt, scope }
    }
}

/// How a flow file asks the program.
pub(super) fn question(layer: &str, key: &str) -> String {
    format!("${{{{ program.{layer}_{key} }}}}")
}

impl<'f, T: Artifact> Layer<'f, T> {
    /// The value, if the layer has left one: it may be skipped, or an error of it be caught. Who reads it so runs nevertheless.
    #[must_use]
    pub fn maybe(self) -> Maybe<'f, T> {
        Maybe(self)
    }
}

impl<'f, T: Artifact> Layer<'f, Vec<T>> {
    /// Keeps the list in pieces, one for each item: others fan out over it without reading all of it, and can read parts.
    #[must_use]
    pub fn sharded(self) -> Layer<'f, Shards<T>>
    where
        Vec<T>: Artifact,
    {
        self.flow.change(self.node, |node| node.form.is_sharded = true);
        self.with(self.artifact)
    }
}

impl<'f> Layer<'f, Foreign> {
    /// An artifact of it: `score` reads the value in `score.json`; files and folders have their whole names.
    #[must_use]
    pub fn artifact<T: Artifact>(self, name: &'static str) -> Layer<'f, T> {
        self.with(Some(name))
    }

    /// The same of a layer with `foreach`.
    #[must_use]
    pub fn artifacts<T: Artifact>(self, name: &'static str) -> Fan<'f, T> {
        Fan { flow: self.flow, node: self.node, artifact: Some(name), kind: PhantomData }
    }

    /// The folder of this name that it leaves.
    #[must_use]
    pub fn folder(self, name: &'static str) -> Layer<'f, Folder> {
        self.with(Some(name))
    }
}

impl<'f, T: Artifact> Fan<'f, T> {
    /// All that the splits have left, at once.
    #[must_use]
    pub fn join(self) -> Joined<'f, T> {
        Joined(self)
    }

    /// The most splits of it that run at once.
    pub fn max_parallel(self, most: u32) -> Self {
        self.set("max_parallel", most.into())
    }
}
