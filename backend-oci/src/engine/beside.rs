//! A scheduler in a container, beside the containers of its layers: finds out which container that is, and says what must be
//! mounted into it before anything runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use laminar_core::container::Container;
use laminar_core::executor::ExecutorError;

use super::Engine;
use crate::argv;
use crate::client::SHORT;
use crate::dialect::Refusal;
use crate::outside::{Outside, Unseen, candidates};

/// Names our own container, where it cannot be found out.
const CONTAINER: &str = "LAMINAR_CONTAINER";

impl Engine {
    /// Where the engine finds what this process sees; asked once, and only in a container.
    pub(crate) async fn outside(&self) -> Result<&Outside, ExecutorError> {
        self.outside.get_or_try_init(|| self.look_outside()).await
    }

    async fn look_outside(&self) -> Result<Outside, ExecutorError> {
        let said = std::env::var(CONTAINER).ok().filter(|said| !said.is_empty());
        if let Some(said) = said {
            return self.own_container(&said).await?.ok_or_else(|| {
                let reason = format!("there is none that is called so, and `{CONTAINER}` says that laminar is in it");
                self.refuse(&format!("show the container `{said}`"), reason)
            });
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let host_name = read("/proc/sys/kernel/hostname");
        for id in candidates(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), &host_name) {
            if let Some(outside) = self.own_container(&id).await? {
                return Ok(outside);
            }
        }
        // Nowhere, or in a container with an engine of its own: that one sees what we see.
        Ok(Outside::default())
    }

    async fn own_container(&self, id: &str) -> Result<Option<Outside>, ExecutorError> {
        let answer = self.client.ask(Path::new("/"), &["container", "inspect", id], SHORT).await?;
        if !answer.ok {
            return match self.dialect.refusal(&answer.err) {
                Refusal::Gone => Ok(None),
                _ => Err(self.client.refused("show the container that laminar is in", &answer)),
            };
        }
        Outside::parse(&answer.out).map_err(|reason| self.refuse("show the container that laminar is in", reason))
    }

    /// Where the engine sees the folder of an execution.
    pub(super) async fn sees_execution(&self, folder: &Path) -> Result<PathBuf, ExecutorError> {
        let unseen = match self.outside().await?.path(folder) {
            Ok(seen) => return Ok(seen.into_owned()),
            Err(unseen) => unseen,
        };
        // What is to be mounted is the root, or what it is in.
        let root = folder.ancestors().nth(2).unwrap_or(folder);
        let reason = format!(
            "the engine does not see what is only in the container `{}`; start that with `--volume \"$PWD:$PWD\" --workdir \
             \"$PWD\"`, or have a folder or volume mounted at `{}`",
            unseen.container,
            root.display()
        );
        Err(self.refuse(&format!("share `{}` with layers", root.display()), reason))
    }

    /// Whether the engine sees a folder with secrets.
    pub(crate) async fn sees_secrets(&self, folder: &Path) -> Result<(), ExecutorError> {
        let Err(unseen) = self.outside().await?.path(folder) else { return Ok(()) };
        let host = self.host().await?;
        let memory = match host.rootless {
            true => format!("\"$XDG_RUNTIME_DIR:/run/user/{}\"", host.uid),
            false => "/dev/shm:/dev/shm".to_owned(),
        };
        let reason = format!(
            "`{}` is memory of the container `{}` alone; start that with `--volume {memory}`",
            unseen.path.display(),
            unseen.container
        );
        Err(self.refuse("hand secrets to layers", reason))
    }

    /// What is wrong with the mounts of these layers: what is not there, and what the engine does not see.
    pub(super) fn look_for_mounts(
        &self,
        layers: &[(Arc<str>, Arc<Container>)],
        workdir: &Path,
        outside: &Outside,
    ) -> Vec<ExecutorError> {
        let mut wrong = Vec::new();
        for (layer, container) in layers {
            for mount in &container.mounts {
                let source = argv::source(workdir, &mount.source);
                let reason = match outside.path(&source) {
                    Err(unseen) => what_to_mount(&unseen, mount.read_only),
                    Ok(_) if !source.exists() => format!("there is no `{}`", source.display()),
                    Ok(_) => continue,
                };
                wrong.push(self.refuse(&format!("mount `{}` for layer `{layer}`", mount.source), reason));
            }
        }
        wrong
    }
}

/// What makes the engine and us see the same.
fn what_to_mount(unseen: &Unseen, read_only: bool) -> String {
    let path = unseen.path.display();
    format!(
        "the container `{}`, in which laminar is, does not have it from the engine's machine; start that with `--volume \
         {path}:{path}{}`, or mount the folder that is meant at `{path}`",
        unseen.container,
        if read_only { ":ro" } else { "" }
    )
}
