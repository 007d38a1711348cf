//! Images and mounts: whether everything that layers name is there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use laminar_core::container::Container;
use laminar_core::executor::ExecutorError;
use tokio::task::{JoinHandle, JoinSet};

use super::Engine;
use crate::execution::Execution;
use crate::image::{Image, Wanted};
use crate::outside::Outside;

/// A layer's name and its container.
type Layer = (Arc<str>, Arc<Container>);

/// The most layers that one message names.
const MOST_NAMES: usize = 5;

impl Engine {
    /// Resolves every image that a session names, all at the same time.
    pub(super) async fn images(self: &Arc<Engine>, execution: &Arc<Execution>) -> Result<(), ExecutorError> {
        let containers = execution.session.containers.iter();
        let mut wanted: Vec<_> = containers.filter_map(|(_, container)| self.wanted(container)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut resolving = JoinSet::new();
        for wanted in wanted {
            let (engine, execution) = (Arc::clone(self), Arc::clone(execution));
            resolving.spawn(async move { engine.image(&execution, &wanted).await.map(drop) });
        }
        while let Some(resolved) = resolving.join_next().await {
            match resolved {
                Ok(resolved) => resolved?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        self.looked_ahead().clear();
        Ok(())
    }

    /// Looks for images that an execution is about to want, while others ask for something else.
    fn look_ahead(self: &Arc<Engine>, wanted: impl Iterator<Item = Wanted>) {
        let mut ahead = self.looked_ahead();
        for wanted in wanted.filter(|wanted| !wanted.always() && !wanted.never()) {
            let (engine, name) = (Arc::clone(self), wanted.name.clone());
            let look = async move { engine.find_image(Path::new("/"), &name).await.ok().flatten() };
            ahead.entry(wanted.name).or_insert_with(|| tokio::spawn(look));
        }
    }

    /// An image that was looked for a moment ago, if it was there.
    pub(crate) async fn seen_ahead(&self, name: &str) -> Option<Image> {
        let look = self.looked_ahead().remove(name)?;
        look.await.ok()?
    }

    fn looked_ahead(&self) -> MutexGuard<'_, HashMap<String, JoinHandle<Option<Image>>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be known to be wrong with these layers: images that are not said, or are not there and shall not be pulled;
    /// mounts of what is not there.
    pub(crate) async fn check(self: &Arc<Engine>, layers: &[Layer], workdir: &Path) -> Vec<ExecutorError> {
        self.look_ahead(layers.iter().filter_map(|(_, container)| self.wanted(container)));
        // Without an engine nobody knows what it sees.
        let same = Outside::default();
        let outside = self.outside().await.unwrap_or(&same);
        let mut wrong = self.look_for_images_and_mounts(layers, workdir, outside);
        let mut never: Vec<Wanted> =
            layers.iter().filter_map(|(_, container)| self.wanted(container)).filter(Wanted::never).collect();
        never.sort_unstable();
        never.dedup();
        for wanted in never {
            // Nothing is pulled, so this only looks.
            if let Err(error) = self.resolve(Path::new("/"), &wanted).await {
                wrong.push(error);
            }
        }
        wrong
    }

    pub(super) fn look_for_images_and_mounts(
        &self,
        layers: &[Layer],
        workdir: &Path,
        outside: &Outside,
    ) -> Vec<ExecutorError> {
        let mut wrong = Vec::new();
        let without: Vec<&str> =
            layers.iter().filter(|(_, container)| container.image.is_none()).map(|(layer, _)| &**layer).collect();
        if !without.is_empty() {
            let named = without.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let more = match without.len().saturating_sub(MOST_NAMES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let reason = format!("say `container.image`, in the layer or in `defaults`, for {named}{more}");
            wrong.push(self.refuse("run layers without an image", reason));
        }
        wrong.extend(self.look_for_mounts(layers, workdir, outside));
        wrong
    }

    /// The image that a container of this execution gets.
    pub(crate) async fn image_of(&self, execution: &Execution, container: &Container) -> Result<Image, ExecutorError> {
        match self.wanted(container) {
            Some(wanted) => self.image(execution, &wanted).await,
            None => Err(self.refuse("run a layer without an image", "say `container.image`".to_owned())),
        }
    }

    /// Which image a container asks for.
    pub(super) fn wanted(&self, container: &Container) -> Option<Wanted> {
        Wanted::of(container, self.settings.pull)
    }
}
