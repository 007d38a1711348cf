//! Images and mounts: whether everything that layers name is there.

use std::sync::Arc;

use laminar_core::container::Container;
use laminar_core::executor::{ExecutorError, Session};
use tokio::task::JoinSet;

use super::Engine;
use crate::argv;
use crate::execution::Execution;
use crate::image::Wanted;

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
        Ok(())
    }

    pub(super) fn look_for_images_and_mounts(&self, session: &Session) -> Result<(), ExecutorError> {
        let without: Vec<&str> = session
            .containers
            .iter()
            .filter(|(_, container)| container.image.is_none())
            .map(|(layer, _)| &**layer)
            .collect();
        if !without.is_empty() {
            let named = without.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let more = match without.len().saturating_sub(MOST_NAMES) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let reason = format!("say `container.image`, in the layer or in `defaults`, for {named}{more}");
            return Err(self.refuse("run layers without an image", reason));
        }
        for (layer, container) in &session.containers {
            for mount in &container.mounts {
                let source = argv::source(&session.workdir, &mount.source);
                if !source.exists() {
                    let verb = format!("mount `{}` for layer `{layer}`", mount.source);
                    return Err(self.refuse(&verb, format!("there is no `{}`", source.display())));
                }
            }
        }
        Ok(())
    }

    /// Which image a container asks for.
    pub(super) fn wanted(&self, container: &Container) -> Option<Wanted> {
        Wanted::of(container, self.settings.pull)
    }
}
