//! Which backends an execution uses, with which options, and one executor over all of them.
//!
//! A layer's own `backend` counts most, then `--backend`, then the flow's `defaults`, then the first backend there is. Of an
//! option's values the command line's counts more than the flow file's.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use laminar_core::executor::{Executor, ExecutorError, Probe};
use laminar_core::flow::Flow;
use laminar_core::id::LayerId;
use laminar_core::mixed::Mixed;
use laminar_core::option;

use crate::args::Setting;
use crate::backends::Backend;
use crate::context::Context;
use crate::error::Error;

/// An option of a backend that was set: backend, option, value.
pub(crate) type Set = (String, String, String);

/// The backends of an execution.
pub(crate) struct Choice<'a> {
    /// The one of the layers that say no other. Perhaps of none.
    pub(crate) main: &'a Backend,
    used: Vec<Used<'a>>,
    /// Which of those used runs a layer, by the layer's id; of a retired one, where it ran, if that is used.
    of: Vec<usize>,
    retired: HashSet<LayerId>,
}

/// A backend that runs at least one layer.
pub(crate) struct Used<'a> {
    /// Which.
    pub(crate) backend: &'a Backend,
    /// Its executor.
    executor: Arc<dyn Executor>,
}

/// What a backend that is used found.
pub(crate) struct Probed<'a> {
    /// Which.
    pub(crate) backend: &'a Backend,
    /// What it found.
    pub(crate) probe: Probe,
}

impl<'a> Choice<'a> {
    /// Chooses for a flow. `name` is what the command line says, `set` the options it sets.
    ///
    /// # Errors
    /// When there is no backend of a name.
    pub(crate) fn new(
        context: &Context<'a>,
        flow: &Flow,
        name: Option<&str>,
        set: &[Set],
    ) -> Result<Choice<'a>, Error> {
        let main = context.backend(name.or(flow.backend.as_deref()))?;
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut used: Vec<Used<'a>> = Vec::new();
        let mut of = vec![0; flow.layers.len()];
        let withheld: Vec<_> = flow.withheld().into_iter().collect();
        for (id, layer) in flow.active() {
            let backend = layer.backend.as_deref().map_or(Ok(main), |name| context.backend(Some(name)))?;
            of[id.at()] = *places.entry(backend.name).or_insert_with(|| {
                let executor = executor(backend, flow, set);
                executor.withhold(&withheld);
                used.push(Used { backend, executor });
                used.len() - 1
            });
        }
        let mut retired = HashSet::new();
        for (id, layer) in (0..).map(LayerId).zip(&flow.layers).filter(|(_, layer)| layer.retired) {
            of[id.at()] = places.get(layer.backend.as_deref().unwrap_or(main.name)).copied().unwrap_or(0);
            retired.insert(id);
        }
        Ok(Choice { main, used, of, retired })
    }

    /// Those that run a layer, in the order of the flow.
    pub(crate) fn used(&self) -> impl Iterator<Item = &'a Backend> {
        self.used.iter().map(|used| used.backend)
    }

    /// The layers that this one runs.
    pub(crate) fn layers(&self, backend: &Backend) -> impl Iterator<Item = LayerId> {
        let place = self.used.iter().position(|used| used.backend.name == backend.name);
        self.active().filter_map(move |(layer, of)| (Some(of) == place).then_some(layer))
    }

    /// The layers that another one runs than [`Choice::main`].
    pub(crate) fn elsewhere(&self) -> Vec<(LayerId, String)> {
        let layers = self.active().map(|(layer, of)| (layer, self.used[of].backend.name));
        layers.filter(|(_, name)| *name != self.main.name).map(|(layer, name)| (layer, name.to_owned())).collect()
    }

    /// The layers that are part of the flow, each with which of those used runs it.
    fn active(&self) -> impl Iterator<Item = (LayerId, usize)> {
        let all = (0..).map(LayerId).zip(self.of.iter().copied());
        all.filter(|(layer, _)| !self.retired.contains(layer))
    }

    /// Asks each of them once what it finds.
    ///
    /// # Errors
    /// When one is not available.
    pub(crate) async fn probe(&self, context: &Context<'_>) -> Result<Vec<Probed<'a>>, Error> {
        // All at once: an engine takes its time to answer.
        let ask = |used: &Used<'_>| {
            let executor = Arc::clone(&used.executor);
            tokio::spawn(async move { executor.probe().await })
        };
        let asked: Vec<_> = self.used.iter().map(ask).collect();
        let mut all = Vec::with_capacity(asked.len());
        for (Used { backend, .. }, asked) in self.used.iter().zip(asked) {
            let answer = asked.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
            let probe = answer.map_err(|error| unavailable(context, backend, error))?;
            all.push(Probed { backend, probe });
        }
        Ok(all)
    }

    /// Everything that can be known to be wrong before anything runs.
    ///
    /// # Errors
    /// When something is, with all of it.
    pub(crate) async fn check(&self, flow: &Flow, workdir: &Path) -> Result<(), Error> {
        let mut wrong = Vec::new();
        for Used { backend, executor } in &self.used {
            let layers: Vec<_> = self
                .layers(backend)
                .map(|id| flow.layer(id))
                .filter(|layer| layer.is_placed())
                .map(|layer| (Arc::clone(&layer.name), Arc::clone(&layer.container)))
                .collect();
            wrong.extend(executor.check(&layers, workdir).await);
        }
        match &wrong[..] {
            [] => Ok(()),
            [only] => Err(Error::usage(only.to_string())),
            all => Err(all
                .iter()
                .fold(Error::usage("the flow cannot run like this"), |error, one| error.at(one.to_string()))),
        }
    }

    /// One executor over all.
    pub(crate) fn executor(&self, flow: &Flow) -> Arc<dyn Executor> {
        if let [only] = &self.used[..] {
            return Arc::clone(&only.executor);
        }
        let members = self.used.iter().map(|used| Arc::clone(&used.executor)).collect();
        let layers = flow.layers.iter().map(|layer| Arc::clone(&layer.name));
        let of: HashMap<Arc<str>, usize> = layers.zip(self.of.iter().copied()).collect();
        Arc::new(Mixed::new(members, move |layer| of.get(layer).copied()))
    }
}

fn executor(backend: &Backend, flow: &Flow, set: &[Set]) -> Arc<dyn Executor> {
    let in_flow = flow.backends.iter().filter(|(name, _)| name == backend.name).flat_map(|(_, options)| options);
    let in_flow = in_flow.map(|(name, value)| (name.as_str(), value.as_str()));
    let set = set.iter().filter(|(name, ..)| name == backend.name);
    backend.executor(in_flow.chain(set.map(|(_, name, value)| (name.as_str(), value.as_str()))))
}

/// What `-o` says, with the backend of each, checked. One that names none is of those backends that `unnamed` gives for its
/// name.
///
/// # Errors
/// When there is no such backend or option, or the value does not fit.
pub(crate) fn settle<'a>(
    context: &Context<'a>,
    settings: &[Setting],
    unnamed: impl Fn(&str) -> Vec<&'a Backend>,
) -> Result<Vec<Set>, Error> {
    let mut all = Vec::new();
    for setting in settings {
        let place = |error: Error| error.at(format!("-o {setting}"));
        let backends = match &setting.backend {
            Some(name) => vec![context.backend(Some(name)).map_err(place)?],
            None => unnamed(&setting.name),
        };
        if backends.is_empty() {
            let error = Error::usage(format!("no backend has an option `{}`", setting.name));
            return Err(place(error).hint(format!("`{}` lists them", context.invocation.line(&["backends"]))));
        }
        for backend in backends {
            let checked =
                option::find(&backend.options, backend.name, &setting.name).and_then(|spec| spec.check(&setting.value));
            if let Err(unfit) = checked {
                let error = place(Error::usage(unfit.message));
                let hint = elsewhere(context, setting, backend).or(unfit.hint);
                return Err(hint.into_iter().fold(error, Error::hint));
            }
            all.push((backend.name.to_owned(), setting.name.clone(), setting.value.clone()));
        }
    }
    Ok(all)
}

/// That other backends have the option which this one has not, where none was named.
fn elsewhere(context: &Context<'_>, setting: &Setting, without: &Backend) -> Option<String> {
    let has = |backend: &&Backend| backend.options.iter().any(|spec| spec.name() == setting.name);
    if setting.backend.is_some() || has(&without) {
        return None;
    }
    let written = |backend: &Backend| format!("`-o {}.{}={}`", backend.name, setting.name, setting.value);
    let all: Vec<String> = context.backends.iter().filter(has).map(written).collect();
    (!all.is_empty()).then(|| format!("write {}", all.join(" or ")))
}

fn unavailable(context: &Context<'_>, backend: &Backend, error: ExecutorError) -> Error {
    let what = format!("cannot use the backend `{}`", backend.name);
    match error {
        ExecutorError::Unavailable { reason, hint, .. } => Error::broken(what).why(reason).hint(hint),
        error => Error::because(what, &error)
            .hint(format!("`{}` shows what is available", context.invocation.line(&["backends"]))),
    }
}
