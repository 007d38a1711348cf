//! Images: which one a layer gets, and whether everything it names is there.

use std::path::Path;
use std::sync::Arc;

use laminar_core::container::Container;
use laminar_core::executor::{ExecutorError, Session};
use tokio::task::JoinSet;

use super::Engine;
use crate::argv;
use crate::client::{PULL, SHORT};
use crate::execution::Execution;
use crate::image::{Image, Wanted};
use crate::place::file;

/// The longest name of a file; what an image with a longer one was resolved to is not kept.
const LONGEST: usize = 255;
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

    /// The image, resolved once per execution.
    pub(super) async fn image(&self, execution: &Execution, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let cell = execution.image(wanted);
        cell.get_or_try_init(|| self.resolve_once(&execution.private, wanted)).await.cloned()
    }

    /// What an earlier scheduler of this execution has resolved stays, as long as it is there: tags move.
    async fn resolve_once(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        let record = folder.join("images").join(wanted.file_name());
        if let Ok(id) = std::fs::read_to_string(&record)
            && let Some(image) = self.find_image(folder, &id).await?
        {
            return Ok(image);
        }
        let image = self.resolve(folder, wanted).await?;
        if wanted.file_name().len() > LONGEST {
            return Ok(image);
        }
        let folder = folder.join("images");
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&record, &image.id));
        kept.map_err(|source| file("write", &record, source))?;
        Ok(image)
    }

    async fn resolve(&self, folder: &Path, wanted: &Wanted) -> Result<Image, ExecutorError> {
        if !wanted.always()
            && let Some(image) = self.find_image(folder, &wanted.name).await?
        {
            return Ok(image);
        }
        let name = &wanted.name;
        if wanted.never() {
            let reason = "it is not there, and `container.pull` is `never`".to_owned();
            return Err(self.refuse(&format!("use the image `{name}`"), reason));
        }
        let mut args = vec!["pull", "--quiet"];
        if let Some(platform) = &wanted.platform {
            args.extend(["--platform", platform]);
        }
        args.push(name);
        let answer = self.client.ask(folder, &args, PULL).await?;
        if !answer.ok {
            return Err(self.client.refused(format!("pull the image `{name}`"), &answer));
        }
        let missing = || self.refuse(&format!("use the image `{name}`"), "it was pulled and is not there".to_owned());
        self.find_image(folder, name).await?.ok_or_else(missing)
    }

    async fn find_image(&self, folder: &Path, name: &str) -> Result<Option<Image>, ExecutorError> {
        let answer = self.client.ask(folder, &["image", "inspect", name], SHORT).await?;
        if !answer.ok {
            // Whatever it is, pulling it will tell.
            return Ok(None);
        }
        let unreadable = |reason| self.refuse(&format!("show the image `{name}`"), reason);
        Image::parse(&answer.out).map(Some).map_err(unreadable)
    }
}
